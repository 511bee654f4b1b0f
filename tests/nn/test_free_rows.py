"""Medications without a structure have a vector of their own, and nobody else is touched."""

import torch

from medrec.nn.free_rows import FreeRows

AVERAGE = torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])


def test_only_rows_without_a_molecule_are_replaced():
    torch.manual_seed(0)
    free, table = FreeRows(AVERAGE, 3), torch.arange(12.0).reshape(4, 3)
    found = free(table)
    assert torch.equal(found[[0, 2]], table[[0, 2]])
    assert torch.equal(found[[1, 3]], free.vectors)
    assert not torch.equal(found[1], found[3]), "each its own"
    found.sum().backward()
    assert free.vectors.grad.eq(1).all()


def test_they_may_look_at_every_fragment():
    mask = torch.tensor([[True, False], [False, False], [False, True], [False, False]])
    assert FreeRows(AVERAGE, 3).opened(mask).tolist() == [[True, False], [True, True], [False, True], [True, True]]


def test_nobody_learns_where_it_is_off_or_all_have_a_structure():
    table, mask = torch.ones(4, 3), torch.zeros(4, 2, dtype=torch.bool)
    for free in (FreeRows(AVERAGE, 3, learnt=False), FreeRows(AVERAGE[[0, 2, 0, 2]], 3)):
        assert not list(free.parameters())
        assert torch.equal(free(table), table)
        assert torch.equal(free.opened(mask), mask)


def test_whose_they_are_is_saved_with_the_weights():
    """Where molecules are dealt out at random, a network that is loaded was dealt others when it was made."""
    free, other = FreeRows(AVERAGE, 3), FreeRows(AVERAGE[[1, 0, 3, 2]], 3)
    other.load_state_dict(free.state_dict())
    assert torch.equal(other(torch.zeros(4, 3)), free(torch.zeros(4, 3)))
