"""Pairs for rankers: what was given is never a negative, every pair comes once, and seeds decide."""

import numpy as np
import pytest
import torch

from medrec.graphs.interactions import Interactions
from medrec.graphs.sampling import bpr_loss, negatives, pair_batches


def graph(seed=0, density=0.5):
    visits = (np.random.default_rng(seed).random((30, 12)) < density).astype(np.int32)
    return Interactions(visits, visits > 0)


def every(interactions, rows, size, order, drawn=None):
    batches = list(pair_batches(interactions, rows, size, order, drawn))
    found = np.stack([torch.cat([getattr(b, name) for b in batches]).numpy() for name in ("patient", "given", "other")])
    return batches, found


def test_bpr_by_hand():
    found = bpr_loss(torch.tensor([1.0, 0.0, 3.0]), torch.tensor([0.0, 0.0, 4.0]))
    assert found.tolist() == pytest.approx([0.3133, 0.6931, 1.3133], abs=5e-5)


def test_no_negative_was_given_and_every_pair_comes_once():
    matrix = graph().matrix
    rows = np.arange(3, 25)
    batches, (patient, given, other) = every(graph(), rows, 16, [0, 0])
    assert [len(b) for b in batches[:-1]] == [16] * (len(batches) - 1)
    assert matrix[patient, given].all()
    assert not matrix[patient, other].any()
    assert sorted(zip(patient, given, strict=True)) == [tuple(p) for p in np.argwhere(matrix) if p[0] in rows]


def test_patients_with_everything_offer_no_pair_and_one_gap_is_found():
    visits = np.ones((3, 5), dtype=np.int32)
    visits[1, 3] = visits[2] = 0
    _, (patient, given, other) = every(Interactions(visits, visits > 0), np.arange(3), 4, [0])
    assert sorted(given) == [0, 1, 2, 4]
    assert {*patient} == {1}
    assert {*other} == {3}


def test_seeds_decide_and_negatives_can_be_the_same_in_every_epoch():
    rows = np.arange(30)

    def drawn(*more):
        _, (p, g, o) = every(graph(), rows, 8, *more)
        return dict(zip(zip(p.tolist(), g.tolist(), strict=True), o.tolist(), strict=True))

    assert drawn([0, 0]) == drawn([0, 0])
    assert drawn([0, 0]) != drawn([0, 1])
    assert drawn([0, 0], [0]) == drawn([0, 1], [0])
    assert list(drawn([0, 0], [0])) != list(drawn([0, 1], [0]))  # another order all the same


def test_negatives_have_equal_chances():
    known = np.array([0, 1, 2])  # owner 0 has 0, 1, 2 of six
    found = np.bincount(negatives(np.zeros(6000, dtype=np.int64), known, 6, np.random.default_rng(0)), minlength=6)
    assert not found[:3].any()
    assert (abs(found[3:] - 2000) < 150).all()
