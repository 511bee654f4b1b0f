"""Padded batches hold exactly the cohort's visits."""

import numpy as np
import pytest
import torch

from medrec.data import example
from medrec.data.batch import VisitBatch, batches
from medrec.data.cohort import KINDS
from tests.toys import random_cohort


def test_running_example():
    batch = VisitBatch.build(example.cohort(), np.array([1, 0]))
    assert batch.visit_mask.tolist() == [[True, False], [True, True]]
    assert batch.codes["diagnosis"].tolist() == [
        [[3, 2, 1, 4], [5, 5, 5, 5]],
        [[0, 1, 5, 5], [2, 1, 5, 5]],
    ]
    assert batch.codes["symptom"].shape == (2, 2, 0)
    assert batch.target.tolist() == [[[1, 1, 1, 0, 1], [0] * 5], [[1, 1, 0, 1, 0], [1, 0, 1, 0, 0]]]
    assert batch.visits.tolist() == [[2, -1], [0, 1]]
    assert batch.days_since_previous[1, 1] == 100
    assert batch.days_since_previous[0].isnan().all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_code_of_every_visit(kind):
    cohort = random_cohort(30, seed=1)
    size = len(cohort.vocab[kind])
    dense = cohort.codes[kind].multi_hot(size)
    seen = np.zeros(cohort.n_visits, dtype=int)
    for batch in batches(cohort, np.arange(30), 7, seed=3):
        mask = batch.visit_mask.numpy()
        ids = batch.visits.numpy()[mask]
        np.testing.assert_array_equal(batch.multi_hot(kind).numpy()[mask], dense[ids])
        assert not batch.multi_hot(kind)[~batch.visit_mask].any()
        seen[ids] += 1
    np.testing.assert_array_equal(seen, 1)


def test_order_of_patients_follows_the_seed():
    cohort = random_cohort(40, seed=1)

    def order(seed):
        return torch.cat([b.patients for b in batches(cohort, np.arange(40), 16, seed=seed)]).tolist()

    assert order(None) == list(range(40))
    assert order([1, 0]) == order([1, 0]) != order([1, 1])
    assert sorted(order([1, 0])) == list(range(40))


def test_moving_keeps_everything():
    batch = VisitBatch.build(example.cohort(), np.array([0, 1]))
    moved = batch.to("cpu")
    assert moved.sizes == batch.sizes
    assert torch.equal(moved.target, batch.target)
    assert torch.equal(moved.codes["diagnosis"], batch.codes["diagnosis"])
