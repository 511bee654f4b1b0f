"""Sums of rows by owner, beside ``index_add``."""

import torch

from medrec.nn.segments import segment_sums


def test_as_index_add_with_its_gradient():
    generator = torch.Generator().manual_seed(0)
    owner = torch.tensor([0, 0, 2, 2, 2, 5])
    rows = torch.randn(6, 3, generator=generator, dtype=torch.double, requires_grad=True)
    weight = torch.randn(7, 3, generator=generator, dtype=torch.double)
    found = segment_sums(rows, owner, 7)
    expected = torch.zeros(7, 3, dtype=torch.double).index_add(0, owner, rows)
    torch.testing.assert_close(found, expected)
    assert not found[[1, 3, 4, 6]].any()
    (gradient,) = torch.autograd.grad((found * weight).sum(), rows)
    torch.testing.assert_close(gradient, weight[owner])


def test_no_rows_at_all():
    rows = torch.zeros(0, 4, requires_grad=True)
    sums = segment_sums(rows, torch.zeros(0, dtype=torch.long), 3)
    assert torch.equal(sums, torch.zeros(3, 4))
    sums.sum().backward()
    assert rows.grad.shape == (0, 4)
