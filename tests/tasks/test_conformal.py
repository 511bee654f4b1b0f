"""The promise is kept for patients like those it was made with, and a share is counted as it is said."""

import numpy as np
import pytest
from scipy.stats import binom

from medrec.tasks.conformal import covered, needed, promised_threshold


def visits(n, rng):
    """Probabilities of a system that is wrong by as much as it likes, and what was prescribed."""
    truth = rng.beta(0.6, 2, (n, 12))
    target = rng.random((n, 12)) < truth
    target[~target.any(1), 0] = True
    return 0.8 * truth**2 + rng.uniform(0, 0.2, truth.shape), target


def test_what_is_needed_by_hand():
    prob = np.array([[0.9, 0.2, 0.6, 0.4], [0.5, 0.5, 0.1, 0.3]])
    target = np.array([[1, 0, 1, 1], [0, 1, 1, 0]], dtype=bool)
    assert needed(prob, target).tolist() == [0.4, 0.1]
    assert needed(prob, target, 0.6).tolist() == [0.6, 0.1], "two of three; two of two"
    assert needed(prob, target, 0.5).tolist() == [0.6, 0.5], "two of three, one of two"
    for threshold in (0.05, 0.3, 0.55):
        held = ((prob >= threshold) & target).sum(1) >= np.ceil(0.5 * target.sum(1))
        np.testing.assert_array_equal(covered(needed(prob, target, 0.5), threshold), held)


@pytest.mark.parametrize("share", [1.0, 0.8])
def test_a_promise_of_nine_in_ten_is_kept_on_twenty_splits(share):
    rng = np.random.default_rng(0)
    prob, target = visits(20_000, rng)
    found = needed(prob, target, share)
    counts = []
    for _ in range(20):
        order = rng.permutation(len(found))
        threshold = promised_threshold(found[order[:1000]], 0.9)
        counts.append(covered(found[order[1000:2000]], threshold).sum())
    low, high = binom.ppf([1e-4, 1 - 1e-4], 1000, 0.9)
    # Of a split both halves are drawn: the spread is twice that of one.
    assert low - (900 - low) * 0.5 <= min(counts)
    assert max(counts) <= high + (high - 900) * 0.5
    assert np.mean(counts) == pytest.approx(900.5, abs=3 * np.sqrt(2 * 1000 * 0.09 / 20))


def test_too_few_patients_for_a_promise_get_everything():
    assert promised_threshold(np.array([0.5] * 8), 0.9) == 0
    assert promised_threshold(np.array([0.5] * 9), 0.9) == 0.5


def test_a_larger_promise_asks_for_longer_lists():
    prob, target = visits(500, np.random.default_rng(1))
    found = needed(prob, target)
    thresholds = [promised_threshold(found, c) for c in (0.5, 0.8, 0.9, 0.99)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert len(set(thresholds)) == 4


@pytest.mark.parametrize(("share", "coverage"), [(0, 0.9), (1.5, 0.9), (1, 0), (1, 1)])
def test_numbers_out_of_their_range(share, coverage):
    prob, target = visits(20, np.random.default_rng(2))
    with pytest.raises(ValueError, match="give a number"):
        promised_threshold(needed(prob, target, share), coverage)


def test_somebody_without_a_prescription():
    with pytest.raises(ValueError, match="prescribed nothing"):
        needed(np.ones((1, 3)), np.zeros((1, 3), dtype=bool))
