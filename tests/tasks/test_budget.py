"""Lists under a budget of interactions: by hand, against all subsets, and against the greedy rule."""

import itertools

import numpy as np
import pytest

from medrec.tasks.budget import best_set, greedy_set, within_budget, worth


def graph(n, *pairs):
    found = np.zeros((n, n), dtype=bool)
    for a, b in pairs:
        found[a, b] = found[b, a] = True
    return found


@pytest.mark.parametrize(
    ("weights", "pairs", "exact", "greedy"),
    [
        ((0.9, 0.8, 0.7), ((0, 1), (1, 2)), 1.6, 0.9),
        ((0.9, 0.5, 0.5, 0.5), ((0, 1), (0, 2), (0, 3)), 1.5, 0.9),
        ((0.9, 0.8, 0.7, 0.6), ((0, 1), (1, 2), (2, 3)), 1.6, 1.7 - 0.8),
    ],
)
def test_by_hand(weights, pairs, exact, greedy):
    weights, conflicts = np.array(weights), graph(len(weights), *pairs)
    assert weights[best_set(weights, conflicts)].sum() == pytest.approx(exact)
    assert weights[greedy_set(weights, conflicts)].sum() == pytest.approx(greedy)


@pytest.mark.parametrize("budget", [0, 1, 2, 4, 28])
def test_no_subset_within_the_budget_is_worth_more(budget):
    rng = np.random.default_rng(budget)
    every = np.array(list(itertools.product([False, True], repeat=8)))
    for _ in range(10):
        upper = np.triu(rng.random((8, 8)) < 0.4, 1)
        conflicts, weights = upper | upper.T, rng.uniform(0.05, 1, 8)
        flagged = np.einsum("si,ij,sj->s", every.astype(int), conflicts.astype(int), every.astype(int)) // 2
        most = (every[flagged <= budget] @ weights).max()
        exact, greedy = best_set(weights, conflicts, budget), greedy_set(weights, conflicts, budget)
        for found in (exact, greedy):
            assert conflicts[np.ix_(found, found)].sum() // 2 <= budget
        assert weights[exact].sum() == pytest.approx(most)
        assert weights[greedy].sum() <= most + 1e-12


def some_visits(n=40, M=20, seed=0):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((M, M)) < 0.15, 1)
    prob = rng.random((n, M)).astype(np.float32)
    return prob, prob >= 0.4, upper | upper.T


@pytest.mark.parametrize("rule", ["exact", "greedy"])
def test_lists_of_visits_stay_parts_of_what_was_chosen_and_within_the_budget(rule):
    prob, chosen, ddi = some_visits()
    before = worth(prob, chosen)
    worths = []
    for budget in (0, 1, 3, 200):
        kept = within_budget(prob, chosen, ddi, budget, rule)
        assert not (kept & ~chosen).any()
        assert all(ddi[np.ix_(row, row)].sum() // 2 <= budget for row in kept)
        worths.append(worth(prob, kept))
    if rule == "exact":
        assert (np.diff(worths, axis=0) >= -1e-9).all(), "a larger budget is worth no less"
    np.testing.assert_array_equal(kept, chosen)
    np.testing.assert_array_equal(worths[-1], before)


def test_a_list_that_holds_the_budget_already_is_left_alone():
    prob, chosen, ddi = some_visits()
    kept = within_budget(prob, chosen, ddi, 2)
    quiet = [v for v, row in enumerate(chosen) if ddi[np.ix_(row, row)].sum() // 2 <= 2]
    np.testing.assert_array_equal(kept[quiet], chosen[quiet])


def test_a_budget_below_nothing():
    with pytest.raises(ValueError, match="-1 pairs is below none"):
        within_budget(*some_visits(), -1)
