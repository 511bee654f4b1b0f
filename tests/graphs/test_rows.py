"""Batches of rows: everybody once, in another order each time, and numbered through the epochs."""

import numpy as np
import torch

from medrec.graphs.interactions import Interactions
from medrec.graphs.rows import given_to, row_batches


def graph(n=11, m=5):
    visits = np.random.default_rng(0).integers(0, 3, (n, m)).astype(np.int32)
    return Interactions(visits, visits > 1)


def test_an_epoch_holds_everybody_once_with_the_own_row():
    found = list(row_batches(graph(), np.arange(3, 11), 3, [0, 0]))
    assert [len(batch.patients) for batch in found] == [3, 3, 2]
    patients = torch.cat([batch.patients for batch in found])
    assert sorted(patients.tolist()) == list(range(3, 11))
    rows = torch.cat([batch.given for batch in found])
    np.testing.assert_array_equal(rows.numpy(), graph().matrix[patients.numpy()])
    assert rows.dtype == torch.float32
    assert torch.equal(rows, given_to(graph(), patients.numpy()))


def test_steps_are_numbered_through_the_epochs():
    for epoch in (0, 4):
        found = list(row_batches(graph(), np.arange(11), 4, [7, epoch]))
        assert [batch.step for batch in found] == [3 * epoch, 3 * epoch + 1, 3 * epoch + 2]
        assert {batch.n_steps for batch in found} == {3}


def test_seed_and_epoch_decide_the_order():
    def order(*seeds):
        return torch.cat([batch.patients for batch in row_batches(graph(), np.arange(11), 4, seeds)]).tolist()

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(*seeds)) for seeds in ((0, 0), (0, 1), (1, 0))}) == 3
