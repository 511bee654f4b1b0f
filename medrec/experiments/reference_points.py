"""Programs that know nothing about the patient's illness: what any system must beat before it deserves attention.

Two of them are here as recommended sets, one constant list of frequent classes and the medications of the visit
before; a random set needs no program, its expected values have closed forms (book: :eq:`eq-random`).
Nothing is trained, classes are counted, so every patient can be scored: what is counted for a patient leaves that
patient's own visits out.

``python -m medrec.experiments.reference_points`` keeps the values of the two open MIMIC demos, which the chapters read
when the demos are not at hand.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import hypergeom

from medrec import keys
from medrec.data import load_cohort
from medrec.data.cohort import Cohort
from medrec.knowledge.interactions import ddi_matrix
from medrec.lab import kept
from medrec.tasks.evaluation import Evaluation, bootstrap
from medrec.tasks.visits import COLUMNS, FROM_SECOND, GROUPS, MEASURES, evaluate
from medrec.types import MedrecError

STUDY = "reference_points"
COMMAND = f"python -m medrec.experiments.{STUDY}"

STORED = ("mimic3-demo", "mimic4-demo")
"""Cohorts whose values are kept in ``results/``: open records, so that anybody can make them again."""


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


# -- the table -----------------------------------------------------------------------------------------------------


def evaluations(cohort: Cohort, ddi: NDArray[np.bool_]) -> dict[str, Evaluation]:
    """Results of each reference point on every visit.

    Args:
        cohort: records to score.
        ddi: ``(M, M)`` interaction matrix of its classes.

    Returns:
        ``prescribed`` (the target sets marked against themselves: only DDI rate and number mean anything),
        ``random`` (expected values), ``popularity`` and ``last visit`` (which has no answer at first visits).
    """
    popular, frequency = popularity(cohort)
    return {
        "prescribed": evaluate(cohort, targets(cohort), ddi),
        "random": _random(cohort, ddi),
        "popularity": evaluate(cohort, popular, ddi, scores=frequency.astype(np.float64)),
        "last visit": evaluate(cohort, last_visit(cohort), ddi, scored=cohort.visit_number > 0),
    }


def _random(cohort: Cohort, ddi: NDArray[np.bool_]) -> Evaluation:
    """Expected sums of blind draws of as many classes as an average prescription holds."""
    n, M = cohort.codes["medication"].lengths, cohort.n_medications
    k = round(n.mean())
    pairs = k * (k - 1) / 2
    chance = expected_random(n, k, M)
    visits = pl.DataFrame(
        {
            "patient": cohort.patient_of_visit,
            "group": np.array(GROUPS)[np.minimum(cohort.visit_number, len(GROUPS) - 1)],
            "n_visits": np.ones(len(n)),
            "jaccard": chance["jaccard"],
            "f1": chance["f1"],
            "prauc": chance["average_precision"],
            "precision": n / M,
            "recall": np.full(len(n), k / M),
            "interacting": np.full(len(n), pairs * ddi.sum() / max(M * (M - 1), 1)),
            "pairs": np.full(len(n), pairs),
            "medications": np.full(len(n), float(k)),
        }
    )
    return Evaluation(visits.group_by("patient", "group", maintain_order=True).agg(pl.all().sum()), MEASURES)


def summary(cohort: Cohort, ddi: NDArray[np.bool_], *, seed: int) -> pl.DataFrame:
    """The five columns of each reference point, with 95 % bootstrap intervals over patients.

    Args:
        cohort: records to score.
        ddi: ``(M, M)`` interaction matrix of its classes.
        seed: of the bootstrap; all rows of a block share their resamples.

    Returns:
        One row for each block and system. ``scored`` is ``all visits`` or ``later visits`` (all but the first of each
        patient); ``system`` as in :func:`evaluations`; then ``patients``, ``visits``, and for each column of the field
        the value, ``… low`` and ``… high``, null where a system has no such value. ``Jaccard over visits`` is the other
        average.
    """
    systems = evaluations(cohort, ddi)
    blocks: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
        "all visits": (GROUPS, ("prescribed", "random", "popularity"))
    }
    if (cohort.visit_number > 0).any():
        blocks["later visits"] = (FROM_SECOND, tuple(systems))
    return pl.DataFrame(
        [
            {"scored": scored, "system": name, **_row(systems[name], groups, seed, itself=name == "prescribed")}
            for scored, (groups, names) in blocks.items()
            for name in names
        ],
        infer_schema_length=None,
    )


def _row(result: Evaluation, groups: tuple[str, ...], seed: int, *, itself: bool) -> dict[str, Any]:
    whole, intervals = result.summary(groups), bootstrap(result, groups=groups, seed=seed)
    row: dict[str, Any] = {"patients": whole["patients"], "visits": whole["visits"]}
    for name, head in COLUMNS.items():
        interval = intervals[name]
        # Target sets marked against themselves are right by construction: that is no result.
        missing = np.isnan(interval.value) or (itself and name in ("jaccard", "f1"))
        row[head] = None if missing else interval.value
        row[f"{head} low"] = None if missing else interval.low
        row[f"{head} high"] = None if missing else interval.high
    over_visits = replace(result, aggregation="visits").summary(groups)["jaccard"]
    row["Jaccard over visits"] = None if itself else over_visits
    return row


# -- the kept values -------------------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """Kept values of the open demos, by cohort.

    Args:
        curves: from :func:`popularity_curve`.
        points: from :func:`summary`.
        note: for captions, see :attr:`medrec.lab.kept.Kept.note`.
    """

    curves: dict[str, pl.DataFrame]
    points: dict[str, pl.DataFrame]
    note: str


def stored() -> Stored:
    """What :func:`main` has written; empty in an installed package without its checkout."""
    try:
        found = kept.read(STUDY, command=COMMAND)
    except MedrecError:
        return Stored({}, {}, "")
    return Stored(_by_cohort(found.table("curves")), _by_cohort(found.table("summary")), found.note)


def _by_cohort(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    names = table["cohort"].unique(maintain_order=True)
    return {name: table.filter(pl.col("cohort") == name).drop("cohort") for name in names}


def compute(name: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Curve and summary of one cohort, rounded as they are kept."""
    cohort = load_cohort(name)
    ddi = ddi_matrix(cohort.vocab["medication"].codes)
    label = pl.lit(cohort.name).alias("cohort")
    curve = popularity_curve(cohort, ddi).select(label, pl.all())
    table = summary(cohort, ddi, seed=0).select(label, pl.all())
    rounded = pl.selectors.float().round(6)
    return curve.with_columns(rounded), table.with_columns(rounded)


def main() -> None:
    """Make the kept values anew; the demos must lie in ``MEDREC_DATA_DIR``."""
    start = time.perf_counter()
    curves, tables = zip(*(compute(name) for name in STORED), strict=True)
    cohorts = [load_cohort(name) for name in STORED]
    folder = kept.save(
        STUDY,
        {"curves": pl.concat(curves), "summary": pl.concat(tables)},
        cohort=None,
        command=COMMAND,
        code=kept.code_of("medrec.experiments.reference_points", "tasks", "metrics"),
        seconds=time.perf_counter() - start,
        more={
            "records": {cohort.name: cohort.content for cohort in cohorts},
            "interactions": {c.name: keys.digest(ddi_matrix(c.vocab["medication"].codes)) for c in cohorts},
        },
    )
    print(folder)


if __name__ == "__main__":
    main()
