"""EASE: the closed form against values by hand and against its own optimality."""

import numpy as np
import pytest
import torch

from medrec.context import Context
from medrec.graphs.interactions import Interactions
from medrec.models.ease import EASE, SYSTEM, item_weights
from tests.ward import ward

MATRIX = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 1], [1, 0, 0, 1, 0]], dtype=bool)


def knowing(graph):
    return Context(ward().vocab, torch.zeros(5, 5, dtype=torch.bool), graph=graph)


def test_scores_of_four_patients():
    graph = Interactions(MATRIX.astype(np.int32), MATRIX)
    system = EASE(penalty=1.0).fit(graph)
    scores = system.rank(np.array([0]), knowing(graph))[0]
    assert scores.tolist() == pytest.approx([0.6667, 0.5714, 0.3226, 0.1250, 0.3226], abs=5e-5)
    again = SYSTEM.restore(SYSTEM.configure(), knowing(graph), system.state())
    np.testing.assert_array_equal(again.rank(np.arange(4), knowing(graph)), system.rank(np.arange(4), knowing(graph)))


def test_how_often_something_was_given_does_not_matter():
    once, thrice = (Interactions(n * MATRIX.astype(np.int32), MATRIX) for n in (1, 3))
    np.testing.assert_array_equal(EASE().fit(once).weights_, EASE().fit(thrice).weights_)


def test_no_other_weights_with_an_empty_diagonal_are_better():
    rng = np.random.default_rng(0)
    matrix, penalty = rng.random((60, 7)) < 0.3, 3.0
    weights = item_weights(matrix, penalty)
    assert (np.diag(weights) == 0).all()
    # The slope of the loss: nothing outside the diagonal.
    slope = matrix.T @ (matrix @ weights - matrix) + penalty * weights
    np.testing.assert_allclose(slope[~np.eye(7, dtype=bool)], 0, atol=1e-9)
    # Column by column a ridge regression on the other medications.
    for j in range(7):
        others = np.delete(np.arange(7), j)
        x = matrix[:, others].astype(float)
        alone = np.linalg.solve(x.T @ x + penalty * np.eye(6), x.T @ matrix[:, j])
        np.testing.assert_allclose(weights[others, j], alone)


def test_a_stronger_penalty_says_less():
    sizes = [np.abs(item_weights(MATRIX, penalty)).sum() for penalty in (0.1, 1, 10, 1000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.02
