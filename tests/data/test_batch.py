"""Padded batches hold exactly the cohort's visits."""

from dataclasses import fields

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


# -- shuffling ---------------------------------------------------------------------------------------------------------


def groups(cohort, seed, size=16):
    """Patients of each batch, in the order in which they come."""
    return [batch.patients.tolist() for batch in batches(cohort, np.arange(cohort.n_patients), size, seed=seed)]


def test_without_a_seed_nothing_is_shuffled():
    found = groups(random_cohort(40, seed=1), None)
    assert found == [list(range(16)), list(range(16, 32)), list(range(32, 40))]


def test_a_seed_takes_everybody_once_and_decides_the_order():
    cohort = random_cohort(40, seed=1)
    found = groups(cohort, [1, 0])
    assert sorted(len(group) for group in found) == [8, 16, 16]
    assert sorted(patient for group in found for patient in group) == list(range(40))
    assert found == groups(cohort, [1, 0])


def test_every_epoch_and_every_run_shuffles_differently():
    cohort = random_cohort(80, seed=1)
    found = [groups(cohort, [run, epoch]) for run in range(3) for epoch in range(8)]
    assert len({str(one) for one in found}) == 24
    # Not the order alone: who stands beside whom changes too.
    assert len({str(sorted(sorted(group) for group in one)) for one in found}) == 24


def test_patients_of_equal_length_are_shuffled():
    cohort = random_cohort(48, seed=1, max_visits=1)
    found = [groups(cohort, epoch, size=48)[0] for epoch in range(5)]
    assert len({tuple(one) for one in found} | {tuple(range(48))}) == 6


def test_batches_hold_records_of_like_length_and_come_in_any_order():
    cohort = random_cohort(80, seed=1)
    lengths = np.diff(cohort.visit_offsets)
    assert len(set(lengths)) == 5
    orders = set()
    for epoch in range(8):
        spans = [(lengths[group].min(), lengths[group].max()) for group in groups(cohort, epoch, size=10)]
        # Sorted by length, a batch begins where the one before it ended: none overlaps another one.
        for (_, end), (start, _) in zip(sorted(spans), sorted(spans)[1:], strict=False):
            assert end <= start
        orders.add(tuple(spans))
    assert len(orders) > 4, "short records first, every time, is no shuffling"


# -- devices -----------------------------------------------------------------------------------------------------------


def test_moving_moves_every_tensor():
    batch = VisitBatch.build(example.cohort(), np.array([0, 1]))
    moved = batch.to("meta")
    assert moved.sizes == batch.sizes
    for field in fields(VisitBatch):
        before, after = getattr(batch, field.name), getattr(moved, field.name)
        pairs = zip(before.values(), after.values(), strict=True) if isinstance(before, dict) else [(before, after)]
        for one, other in pairs:
            if isinstance(one, torch.Tensor):
                assert other.device.type == "meta", field.name
                assert (one.shape, one.dtype) == (other.shape, other.dtype)
