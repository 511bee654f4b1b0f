r"""Metrics of recommended sets and of rankings: pure functions on arrays, one value per visit (or per patient).

House definitions, applied to every system of the book.  Visit ``v`` has target set ``Y``, recommended set ``Ŷ``
and scores ``p``, one for each of ``M`` medications.

* A quotient without denominator counts as 0: an empty ``Ŷ`` has precision 0, an empty ``Y`` recall 0, and when
  **both sets are empty Jaccard is 0** too.  An empty target offers nothing to get right, so such a visit can
  never raise a mean; cohorts of this package hold no visits without medication.
* F1 is the harmonic mean *of a visit*, averaged afterwards; it is not the F1 of averaged precision and recall.
* Average precision is the step-wise sum over distinct thresholds; equal scores share one threshold.
* The DDI rate is pooled over visits; it is not the mean of the visits' rates.

How visits are averaged (over patients, or over visits) is the business of :mod:`medrec.protocol`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def _sets(target: ArrayLike, recommended: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    target, recommended = np.asarray(target, dtype=bool), np.asarray(recommended, dtype=bool)
    if target.ndim != 2 or target.shape != recommended.shape:
        raise ValueError(
            f"Metrics want two (visits, medications) arrays of one shape, got {target.shape} and {recommended.shape}."
        )
    return target, recommended


def _quotient(numerator: NDArray, denominator: NDArray) -> FloatArray:
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)


def jaccard(target: ArrayLike, recommended: ArrayLike) -> FloatArray:
    r"""Shared medications among all medications named.

    .. math:: J_v = \frac{|Y_v \cap \hat Y_v|}{|Y_v \cup \hat Y_v|}

    Args:
        target: ``(V, M)`` bool, the sets prescribed.
        recommended: ``(V, M)`` bool, the sets recommended.

    Returns:
        ``(V,)`` in [0, 1]; 0 where both sets are empty.
    """
    target, recommended = _sets(target, recommended)
    return _quotient((target & recommended).sum(1), (target | recommended).sum(1))


def precision(target: ArrayLike, recommended: ArrayLike) -> FloatArray:
    """Share of the recommended medications that were prescribed, ``(V,)``; 0 where nothing was recommended.

    Args:
        target: ``(V, M)`` bool.
        recommended: ``(V, M)`` bool.
    """
    target, recommended = _sets(target, recommended)
    return _quotient((target & recommended).sum(1), recommended.sum(1))


def recall(target: ArrayLike, recommended: ArrayLike) -> FloatArray:
    """Share of the prescribed medications that were recommended, ``(V,)``; 0 where nothing was prescribed.

    Args:
        target: ``(V, M)`` bool.
        recommended: ``(V, M)`` bool.
    """
    target, recommended = _sets(target, recommended)
    return _quotient((target & recommended).sum(1), target.sum(1))


def f1(target: ArrayLike, recommended: ArrayLike) -> FloatArray:
    r"""Harmonic mean of a visit's precision and recall, ``(V,)``.

    .. math:: F_v = \frac{2 |Y_v \cap \hat Y_v|}{|Y_v| + |\hat Y_v|} = \frac{2 J_v}{1 + J_v}

    Args:
        target: ``(V, M)`` bool.
        recommended: ``(V, M)`` bool.
    """
    target, recommended = _sets(target, recommended)
    return _quotient(2 * (target & recommended).sum(1), target.sum(1) + recommended.sum(1))


def average_precision(target: ArrayLike, scores: ArrayLike) -> FloatArray:
    r"""Area under the precision-recall steps of a visit (PRAUC of the papers), ``(V,)``.

    .. math:: AP_v = \sum_n (R_n - R_{n-1}) P_n

    over the distinct values of the scores, from high to low.  Equal scores enter together: no order among them
    is invented, so the value does not depend on the numbering of medications.

    Args:
        target: ``(V, M)`` bool.
        scores: ``(V, M)``, higher is more strongly recommended; probabilities or logits.

    Returns:
        ``(V,)`` in [0, 1]; 0 where the target is empty.

    Example:
        >>> average_precision([[1, 1, 0, 1, 0]], [[0.4, 0.9, 0.4, 0.7, 0.6]]).round(4)
        array([0.8667])
    """
    scores = np.asarray(scores, dtype=np.float64)
    target = np.asarray(target, dtype=bool)
    if target.ndim != 2 or target.shape != scores.shape:
        raise ValueError(
            f"Metrics want two (visits, medications) arrays of one shape, got {target.shape} and {scores.shape}."
        )
    if np.isnan(scores).any():
        raise ValueError("average_precision: scores hold NaN.")
    V, M = scores.shape
    if M == 0:
        return np.zeros(V)
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, 1)
    hits = np.take_along_axis(target, order, 1)
    precision_at = hits.cumsum(1) / np.arange(1, M + 1)
    # A place inside a run of equal scores takes the precision at the end of its run.
    closes = np.ones((V, M), dtype=bool)
    closes[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    end = np.where(closes, np.arange(M), M)
    end = np.minimum.accumulate(end[:, ::-1], axis=1)[:, ::-1]
    return _quotient((hits * np.take_along_axis(precision_at, end, 1)).sum(1), hits.sum(1))


def ddi_counts(recommended: ArrayLike, ddi: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    r"""Interacting pairs and all pairs of each recommended set; a pair counts once.

    .. math:: \tfrac12 \hat y^\top A \hat y \quad\text{and}\quad \tfrac12 |\hat y| (|\hat y| - 1)

    Args:
        recommended: ``(V, M)`` bool.
        ddi: ``(M, M)`` bool, symmetric, zero diagonal.

    Returns:
        Two arrays ``(V,)``: interacting pairs, pairs.
    """
    recommended, ddi = np.asarray(recommended, dtype=bool), np.asarray(ddi, dtype=bool)
    if ddi.shape != (recommended.shape[1],) * 2:
        raise ValueError(f"ddi_counts: {recommended.shape[1]} medications but an interaction matrix {ddi.shape}.")
    # float32 for the fast matrix product; counts stay far below 2**24, so they are exact.
    y = recommended.astype(np.float32)
    interacting = ((y @ ddi.astype(np.float32)) * y).sum(1) / 2
    n = recommended.sum(1).astype(np.int64)
    return np.rint(interacting).astype(np.int64), n * (n - 1) // 2


def ddi_rate(recommended: ArrayLike, ddi: ArrayLike) -> float:
    """Interacting pairs among all pairs, pooled over visits; 0 when no set holds a pair.

    Args:
        recommended: ``(V, M)`` bool.
        ddi: ``(M, M)`` bool, symmetric, zero diagonal.
    """
    interacting, pairs = ddi_counts(recommended, ddi)
    return float(interacting.sum() / max(pairs.sum(), 1))


# -- rankings ------------------------------------------------------------------------------------------------------


def _top_hits(
    target: ArrayLike, scores: ArrayLike, k: int, seen: ArrayLike | None
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    wanted, values = np.asarray(target, dtype=bool), np.asarray(scores, dtype=np.float64)
    if wanted.ndim != 2 or wanted.shape != values.shape:
        raise ValueError(f"Rankings want two (patients, items) arrays of one shape: {wanted.shape}, {values.shape}.")
    if not 1 <= k <= wanted.shape[1]:
        raise ValueError(f"K must lie between 1 and the number of items, {wanted.shape[1]}; got {k}.")
    if seen is not None:
        values = np.where(seen, -np.inf, values)
        wanted = wanted & ~np.asarray(seen, dtype=bool)
    top = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(wanted, top, 1), wanted.sum(1)


def recall_at_k(
    target: ArrayLike,
    scores: ArrayLike,
    k: int,
    *,
    seen: ArrayLike | None = None,
    denominator: Literal["targets", "reachable"] = "targets",
) -> FloatArray:
    """Share of the target items among the K items with the highest scores.

    Source: DiffKG on MIMIC, eq. 1; book: :eq:`eq-graph-recall`.  Equal scores are ranked by item id, lowest first.

    Args:
        target: ``(U, I)`` bool, held-out items.
        scores: ``(U, I)``.
        k: length of the list.
        seen: ``(U, I)`` bool, training items: they are neither listed nor counted as targets.
        denominator: ``"targets"`` (house) divides by the number of targets; ``"reachable"`` by
            ``min(K, targets)``, as MultiVAE's released code does.

    Returns:
        ``(U,)``; NaN for users (patients) without targets, who are left out of a mean (``np.nanmean``).
    """
    hits, n = _top_hits(target, scores, k, seen)
    divisor = np.minimum(n, k) if denominator == "reachable" else n
    return np.where(n > 0, hits.sum(1) / np.maximum(divisor, 1), np.nan)


def ndcg_at_k(
    target: ArrayLike,
    scores: ArrayLike,
    k: int,
    *,
    seen: ArrayLike | None = None,
    ideal: Literal["targets", "own_hits"] = "targets",
) -> FloatArray:
    r"""Discounted gain of the first K ranks, as a share of the best possible list.

    Source: DiffKG on MIMIC, eqs. 2-4, gain, gain of the best list, and their ratio.

    .. math:: \frac{\sum_{r=1}^{K} \mathrm{hit}_r / \log_2(r + 1)}{\sum_{r=1}^{\min(K, |Y|)} 1 / \log_2(r + 1)}

    Args:
        target: ``(U, I)`` bool.
        scores: ``(U, I)``; equal scores are ranked by item id.
        k: length of the list.
        seen: ``(U, I)`` bool, training items: neither listed nor counted as targets.
        ideal: ``"targets"`` (house): the ideal list holds ``min(K, targets)`` hits; ``"own_hits"``: only the
            system's own hits, reordered, as KGAT's released code does (one hit at rank 1 and nothing else gives 1).

    Returns:
        ``(U,)`` in [0, 1]; NaN for users without targets.
    """
    hits, n = _top_hits(target, scores, k, seen)
    discount = 1 / np.log2(np.arange(2, k + 2))
    best = np.concatenate([[0.0], discount.cumsum()])
    reference = best[hits.sum(1) if ideal == "own_hits" else np.minimum(n, k)]
    return np.where(n > 0, _quotient((hits * discount).sum(1), reference), np.nan)
