r"""At most so many known interactions: the best list under a hard budget, whatever system gave the probabilities.

.. math::
    \max_{x \in \{0, 1\}^n} \sum_i p_i\, x_i \qquad \text{with} \qquad \sum_{(i, j) \in E} x_i\, x_j \le b

over the medications that the system would recommend, with ``E`` the interacting pairs among them.  With a budget that
no list exhausts, the list is the system's own.  No paper does it; DrugRec mends lists after prediction, with b = 0
(:mod:`medrec.models.drugrec`).

``exact`` is the set of largest summed probability, found by HiGHS as an integer program in which a product
:math:`x_i x_j` is a variable of its own.  ``greedy`` takes away the least likely medication of all in an interacting
pair, until the budget holds; what it loses against the exact one is told by :func:`worth`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import coo_array, csr_array, hstack, identity, vstack

Rule = Literal["exact", "greedy"]


def within_budget(
    prob: NDArray[np.floating],
    chosen: NDArray[np.bool_],
    ddi: NDArray[np.bool_],
    budget: int,
    rule: Rule = "exact",
) -> NDArray[np.bool_]:
    """Lists that hold at most ``budget`` interacting pairs each.

    Args:
        prob: ``(V, M)`` probabilities.
        chosen: ``(V, M)`` bool, what would be recommended.
        ddi: ``(M, M)`` bool, symmetric, zero diagonal.
        budget: pairs that a list may hold; 0 or more.
        rule: see the module.

    Returns:
        ``(V, M)`` bool, a part of ``chosen``.

    Raises:
        ValueError: a budget below 0.
    """
    if budget < 0:
        raise ValueError(f"A budget of {budget} pairs is below none at all; give 0 or more.")
    kept = chosen.copy()
    flagged = np.einsum("vi,ij,vj->v", chosen.astype(np.int64), ddi.astype(np.int64), chosen.astype(np.int64)) // 2
    solve = best_set if rule == "exact" else greedy_set
    for v in np.flatnonzero(flagged > budget):
        ids = np.flatnonzero(chosen[v])
        kept[v, ids] = solve(prob[v, ids].astype(np.float64), ddi[np.ix_(ids, ids)], budget)
    return kept


def worth(prob: NDArray[np.floating], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Summed probability of each list, ``(V,)``: what the exact rule makes as large as it can be."""
    found: NDArray[np.float64] = np.where(kept, prob, 0).sum(1, dtype=np.float64)
    return found


def best_set(weights: NDArray[np.float64], conflicts: NDArray[np.bool_], budget: int = 0) -> NDArray[np.bool_]:
    """Of all sets with at most ``budget`` conflicts one of largest weight.

    Args:
        weights: ``(n,)``, above 0.
        conflicts: ``(n, n)`` bool, symmetric, zero diagonal.
        budget: pairs in conflict that the set may hold.

    Returns:
        ``(n,)`` bool.

    Example:
        >>> conflicts = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)
        >>> best_set(np.array([0.9, 0.8, 0.7]), conflicts)
        array([ True, False,  True])
    """
    a, b = np.nonzero(np.triu(conflicts))
    n, m = len(weights), len(a)
    if m <= budget:
        return weights > 0
    row = np.arange(m)
    both = coo_array((np.ones(2 * m), (np.tile(row, 2), np.concatenate([a, b]))), shape=(m, n))
    joined = hstack([both, -identity(m)])  # x_a + x_b - y <= 1
    counted = hstack([csr_array((1, n)), csr_array(np.ones((1, m)))])  # the sum of y is at most the budget
    limits = np.concatenate([np.ones(m), [budget]])
    found = milp(
        -np.concatenate([weights, np.zeros(m)]),
        integrality=1,
        bounds=(0, 1),
        constraints=LinearConstraint(vstack([joined, counted]).tocsr(), ub=limits),
    )
    return np.asarray(found.x[:n] > 0.5)


def greedy_set(weights: NDArray[np.float64], conflicts: NDArray[np.bool_], budget: int = 0) -> NDArray[np.bool_]:
    """What is left when the least likely medication in conflict goes, one after another, until the budget holds.

    Args:
        weights: ``(n,)``.
        conflicts: ``(n, n)`` bool, symmetric, zero diagonal.
        budget: pairs in conflict that the set may hold.

    Returns:
        ``(n,)`` bool.
    """
    kept = np.ones(len(weights), dtype=bool)
    while True:
        degree = np.where(kept, conflicts[:, kept].sum(1), 0)
        if degree.sum() // 2 <= budget:
            return kept
        kept[np.where(degree > 0, weights, np.inf).argmin()] = False
