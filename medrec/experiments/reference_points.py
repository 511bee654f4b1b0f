"""Programs that know nothing about the patient's illness: what any system must beat before it deserves attention.

Two of them are here as recommended sets, one constant list of frequent classes and the medications of the visit
before; a random set needs no program, its expected values have closed forms (book: :eq:`eq-random`).
Nothing is trained, classes are counted, so every patient can be scored: what is counted for a patient leaves that
patient's own visits out.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import hypergeom

from medrec.data.cohort import Cohort


def targets(cohort: Cohort) -> NDArray[np.bool_]:
    """Medications of every visit, ``(V, M)``."""
    return cohort.codes["medication"].multi_hot(cohort.n_medications)


def frequency_among_others(cohort: Cohort) -> NDArray[np.int64]:
    """Number of visits *of all other patients* that hold each class, ``(P, M)``."""
    M = cohort.n_medications
    rows = cohort.codes["medication"]
    cell = cohort.patient_of_visit[rows.row_of_value] * M + rows.values
    own = np.bincount(cell, minlength=cohort.n_patients * M).reshape(cohort.n_patients, M)
    return own.sum(0) - own


def _lists(cohort: Cohort) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Order of the classes for each patient, ``(P, M)``, and the patient's mean Jaccard at each length, ``(P, M)``.

    Equal frequencies are ordered by class id.
    """
    order = np.argsort(-frequency_among_others(cohort), axis=1, kind="stable")
    patient = cohort.patient_of_visit
    hits = np.take_along_axis(targets(cohort), order[patient], axis=1).cumsum(axis=1)
    length = np.arange(1, cohort.n_medications + 1)
    jaccard = hits / (cohort.codes["medication"].lengths[:, None] + length - hits)
    sums = np.add.reduceat(jaccard, cohort.visit_offsets[:-1], axis=0)  # every patient has a visit
    return order, sums / np.diff(cohort.visit_offsets)[:, None]


def popularity_curve(cohort: Cohort, ddi: NDArray[np.bool_]) -> pl.DataFrame:
    """One constant list at every length k.

    Args:
        cohort: records to score.
        ddi: ``(M, M)`` interaction matrix of its classes.

    Returns:
        One row for each k from 1 to M: ``jaccard``, averaged over visits and then over patients, each patient
        scored with the list of the others; ``ddi_rate`` of the k classes most frequent in the whole cohort, a
        fraction of pairs (0 for k = 1, which has no pair).
    """
    M = cohort.n_medications
    order = np.argsort(-np.bincount(cohort.codes["medication"].values, minlength=M), kind="stable")
    ranked = np.asarray(ddi, dtype=np.int64)[np.ix_(order, order)]
    interacting = np.tril(ranked).sum(axis=1).cumsum()  # the k-th class adds its pairs with the k - 1 before it
    k = np.arange(1, M + 1)
    return pl.DataFrame(
        {
            "k": k,
            "jaccard": _lists(cohort)[1].mean(axis=0),
            "ddi_rate": interacting / np.maximum(k * (k - 1) // 2, 1),
        }
    )


def popularity(cohort: Cohort) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The list of the k most frequent classes; both list and k are chosen on the other patients.

    Returns:
        Recommended sets ``(V, M)`` and the frequencies that rank them, ``(V, M)``.
    """
    order, jaccard = _lists(cohort)
    best_k = 1 + np.argmax(jaccard.sum(axis=0) - jaccard, axis=1)  # (P,): the patient's own values do not count
    rank = np.argsort(order, axis=1)
    patient = cohort.patient_of_visit
    return (rank < best_k[:, None])[patient], frequency_among_others(cohort)[patient]


def last_visit(cohort: Cohort) -> NDArray[np.bool_]:
    """The medications of the patient's visit before, ``(V, M)``; an empty set at first visits."""
    repeated = np.roll(targets(cohort), 1, axis=0)
    repeated[cohort.visit_offsets[:-1]] = False
    return repeated


def expected_random(n: NDArray[np.integer], k: int, M: int) -> dict[str, NDArray[np.float64]]:
    r"""Expected metrics of ``k`` classes drawn blindly from ``M``, and of scores in random order.

    Hits are hypergeometric; book: :eq:`eq-random`.

    Args:
        n: ``(V,)`` sizes of the target sets, each from 1 to M.
        k: size of the random set.
        M: number of classes.

    Returns:
        ``jaccard``, ``f1`` and ``average_precision``, each ``(V,)``.
    """
    sizes, place = np.unique(n, return_inverse=True)
    h = np.arange(min(k, int(sizes.max())) + 1)[None, :]  # hits
    chance = hypergeom.pmf(h, M, sizes[:, None], k)
    harmonic = (1 / np.arange(1, M + 1)).sum()
    later = (sizes - 1) / max(M - 1, 1)
    values = {
        "jaccard": (chance * h / (k + sizes[:, None] - h).clip(1)).sum(1),
        "f1": (chance * 2 * h / (k + sizes[:, None])).sum(1),
        "average_precision": (harmonic + later * (M - harmonic)) / M,
    }
    return {name: value[place] for name, value in values.items()}


def conflict_free(frequency: NDArray[np.integer], ddi: NDArray[np.bool_], k: int) -> NDArray[np.bool_]:
    """Go down the classes by frequency and skip each that interacts with one already taken.

    Args:
        frequency: ``(M,)``.
        ddi: ``(M, M)`` bool.
        k: wanted length.

    Returns:
        ``(M,)`` bool with k classes, fewer where no more exist without a conflict.
    """
    taken: list[int] = []
    for i in np.argsort(-np.asarray(frequency), kind="stable"):
        if len(taken) == k:
            break
        if not ddi[i, taken].any():
            taken.append(int(i))
    return np.isin(np.arange(len(ddi)), taken)
