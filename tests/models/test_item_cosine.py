"""Item cosine: values by hand on the ward and on four patients, and what it does with nobody's medication."""

import numpy as np
import pytest
import torch

from medrec.context import Context
from medrec.graphs.interactions import Interactions
from medrec.models.item_cosine import SYSTEM, ItemCosine, item_cosines
from tests.ward import LAST, ward

MATRIX = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 1, 0]], dtype=bool)


def knowing(graph):
    return Context(ward().vocab, torch.zeros(5, 5, dtype=torch.bool), graph=graph)


def test_cosines_and_scores_by_hand():
    cosines = item_cosines(MATRIX)
    # Patients of the five: 4, 3, 1, 1, 0; of the first two together 3.
    assert cosines[0].tolist() == pytest.approx([1, 3 / np.sqrt(12), 1 / 2, 1 / 2, 0])
    assert cosines[1].tolist() == pytest.approx([3 / np.sqrt(12), 1, 1 / np.sqrt(3), 0, 0])
    graph = Interactions(MATRIX.astype(np.int32), MATRIX)
    system = ItemCosine().fit(graph)
    scores = system.rank(np.array([0]), knowing(graph))[0]
    assert scores.tolist() == pytest.approx([1.8660, 1.8660, 1.0774, 0.5, 0], abs=5e-5)
    again = SYSTEM.restore(SYSTEM.configure(), knowing(graph), system.state())
    np.testing.assert_array_equal(again.rank(np.arange(4), knowing(graph)), system.rank(np.arange(4), knowing(graph)))


def test_on_the_ward_paracetamol_is_next_to_the_diuretic():
    graph = Interactions.of(ward(), ~LAST, LAST)
    scores = ItemCosine().fit(graph).rank(np.array([0]), knowing(graph))[0]
    # Patient 0 was given the first three; one of the two who had the diuretic had paracetamol, of two in all.
    assert scores[4] == pytest.approx(1 / 2)
    assert scores[3] == 0
    assert scores[:3].min() > scores[4]


def test_cosines_are_symmetric_and_1_for_oneself():
    rng = np.random.default_rng(0)
    matrix = rng.random((60, 7)) < 0.3
    matrix[:, 6] = False
    cosines = item_cosines(matrix)
    np.testing.assert_array_equal(cosines, cosines.T)
    assert np.diag(cosines).tolist() == pytest.approx([1] * 6 + [0])
    assert not cosines[6].any()
    # Twice as many patients of the same kind change nothing.
    np.testing.assert_allclose(item_cosines(np.tile(matrix, (2, 1))), cosines)


def test_how_often_something_was_given_does_not_matter():
    once, thrice = (Interactions(n * MATRIX.astype(np.int32), MATRIX) for n in (1, 3))
    np.testing.assert_array_equal(ItemCosine().fit(once).cosines_, ItemCosine().fit(thrice).cosines_)
