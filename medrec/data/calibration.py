"""The synthetic cohort beside real records: is it as large, as varied and as hard as they are?

:func:`calibrate` describes any cohort by the quantities to which the generator was tuned, :func:`compare` puts a
synthetic cohort beside the open demos.  A comparison of equal sizes is :mod:`medrec.experiments.calibration`, and what
can be predicted of a prescription :mod:`medrec.experiments.ladder`.
The demos are small and selected (all patients of the MIMIC-III demo have died), so agreement within a fifth of the
range that the two demos span is what can be asked for; :data:`REASONS` says why a quantity departs on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec.data.cohort import Cohort
from medrec.knowledge.interactions import ddi_matrix

TOLERANCE = 0.2
TOP = 60
"""Classes behind the slope of the frequency curve."""

QUANTITIES = {
    "visits per patient": "visits / patients",
    "share of first visits": "patients / visits",
    "diagnoses per visit": "mean number of codes",
    "procedures per visit": "mean number of codes",
    "medication classes per visit": "mean number of classes",
    "spread of medication classes": "standard deviation over visits",
    "classes carried over": "share of a later visit's classes that the visit before had",
    "diagnoses carried over": "share of a later visit's diagnoses that the visit before had, same coding only",
    "DDI rate": "interacting pairs / all pairs, pooled over visits, default interactions",
    "Jaccard of the last visit": "mean over later visits of repeating the visit before",
    "Jaccard of the most popular": "mean over visits of the k most frequent classes, best k",
    "slope of the frequency curve": f"log frequency on log rank, {TOP} most frequent classes",
}
"""Quantity → what is computed."""

REASONS = {
    "visits per patient": "aims at 2.37, the size of the published cohort; the MIMIC-III demo is of patients who died",
    "share of first visits": "aims at 42 %, the size of the published cohort",
    "diagnoses carried over": "unrelated codes are drawn afresh at each visit",
    "procedures per visit": "every stay of the default layout that reaches the cohort has one, as in the demos",
}
"""Why a quantity may stand outside the demos' range."""


def jaccard(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Row by row, ``(V,)``; 0 where both are empty."""
    share: NDArray[np.float64] = (a & b).sum(1) / np.maximum((a | b).sum(1), 1)
    return share


def calibrate(cohorts: Cohort | Sequence[Cohort]) -> pl.DataFrame:
    """Describe cohorts by :data:`QUANTITIES`.

    Args:
        cohorts: one or several.

    Returns:
        One row a quantity: ``quantity``, ``what``, and one column a cohort, named after it. A quantity that a cohort
        cannot have (no second visits) is null.
    """
    cohorts = [cohorts] if isinstance(cohorts, Cohort) else list(cohorts)
    columns = {cohort.name: [_describe(cohort)[q] for q in QUANTITIES] for cohort in cohorts}
    return pl.DataFrame({"quantity": list(QUANTITIES), "what": list(QUANTITIES.values()), **columns}, strict=False)


def compare(synthetic: Cohort, demos: Sequence[Cohort]) -> pl.DataFrame:
    """Put a synthetic cohort beside demos.

    Returns:
        The table of :func:`calibrate` with ``within`` (the synthetic value lies in the range of the demos, widened by
        :data:`TOLERANCE` on both sides) and ``reason`` (why not, where :data:`REASONS` has one).
    """
    table = calibrate([synthetic, *demos])
    real = [pl.col(demo.name).abs() for demo in demos]
    value = pl.col(synthetic.name).abs()
    low, high = pl.min_horizontal(real) * (1 - TOLERANCE), pl.max_horizontal(real) * (1 + TOLERANCE)
    return table.with_columns(
        within=value.is_between(low, high),
        reason=pl.col("quantity").replace_strict(REASONS, default=""),
    )


def _describe(cohort: Cohort) -> dict[str, float | None]:
    given = cohort.codes["medication"].multi_hot(cohort.n_medications)
    size = given.sum(1)
    later = np.flatnonzero(cohort.visit_number > 0)
    frequency = np.sort(given.mean(0))[::-1]
    ddi = ddi_matrix(cohort.vocab["medication"].codes).astype(np.float64)
    floats = given.astype(np.float64)
    pairs = (size * (size - 1)).sum()
    by_popularity = np.argsort(-given.mean(0), kind="stable")
    shared = np.cumsum(given[:, by_popularity], axis=1)
    k = np.arange(1, given.shape[1] + 1)
    popular = (shared / (size[:, None] + k - shared)).mean(0)
    top = frequency[: min(TOP, int((frequency > 0).sum()))]
    carried = (given[later - 1] & given[later]).sum() / max(size[later].sum(), 1)
    return {
        "visits per patient": cohort.n_visits / cohort.n_patients,
        "share of first visits": cohort.n_patients / cohort.n_visits,
        "diagnoses per visit": float(cohort.codes["diagnosis"].lengths.mean()),
        "procedures per visit": float(cohort.codes["procedure"].lengths.mean())
        if len(cohort.vocab["procedure"])
        else None,
        "medication classes per visit": float(size.mean()),
        "spread of medication classes": float(size.std()),
        "classes carried over": float(carried) if len(later) else None,
        "diagnoses carried over": _diagnoses_carried(cohort, later),
        "DDI rate": float(((floats @ ddi) * floats).sum() / pairs) if pairs else None,
        "Jaccard of the last visit": float(jaccard(given[later - 1], given[later]).mean()) if len(later) else None,
        "Jaccard of the most popular": float(popular.max()),
        "slope of the frequency curve": float(np.polyfit(np.log(np.arange(1, len(top) + 1)), np.log(top), 1)[0]),
    }


def _diagnoses_carried(cohort: Cohort, later: NDArray[np.int64]) -> float | None:
    """Over pairs of visits coded in one version; a change of version leaves nothing to carry."""
    rows = cohort.codes["diagnosis"]
    coding = np.array([code.partition(":")[0] for code in cohort.vocab["diagnosis"].codes])
    has = rows.lengths > 0
    version = np.full(len(rows), "", dtype=coding.dtype if len(coding) else "U1")
    version[has] = coding[rows.values[rows.offsets[:-1][has]]]
    later = later[(version[later] == version[later - 1]) & has[later] & has[later - 1]]
    if not len(later):
        return None
    codes = rows.multi_hot(len(coding))
    return float((codes[later - 1] & codes[later]).sum() / codes[later].sum())
