r"""Who is scored, how visits are averaged, and how sure a number is.

An :class:`Evaluation` keeps, for each patient and each group of visits (first, second, later), sums of the visits'
metrics and the counts behind the pooled quantities.  Everything else follows from that small table without running a
model again: means over patients or over visits, results by visit number, bootstrap intervals, paired differences.

Five columns, in this order: Jaccard, DDI rate, F1, PRAUC, average number of medications.  The DDI rate and the
number are pooled over visits; the others are averaged over a patient's visits, then over patients (``aggregation =
"patients"``, house), or over all visits at once (``"visits"``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec import metrics
from medrec.data.cohort import Cohort, Source
from medrec.types import MedrecError

COLUMNS: dict[str, str] = {
    "jaccard": "Jaccard",
    "ddi_rate": "DDI rate",
    "f1": "F1",
    "prauc": "PRAUC",
    "n_medications": "medications",
}
"""The five columns and how tables head them."""

GROUPS = ("first", "second", "later")
"""Groups of visits by their number: a patient's first, second, third and all later ones."""
FROM_SECOND = ("second", "later")
"""Visits that have a history."""

AVERAGED = ("jaccard", "f1", "prauc", "precision", "recall")
POOLED = {"ddi_rate": ("interacting", "pairs"), "n_medications": ("medications", "n_visits")}
METRICS = (*COLUMNS, "precision", "recall")


@dataclass(frozen=True)
class Protocol:
    """Rules of an examination.

    :func:`evaluate` and :func:`tune_threshold` follow ``scored`` and ``aggregation``, training follows ``selection``;
    split, threshold and kind of bootstrap are chosen where the split is made, sets are cut and intervals are drawn.

    Args:
        name: for captions.
        split: ``"seed"`` shuffles patients, ``"file order"`` takes them as they stand.
        scored: ``"all"`` visits that the system can score, or ``"from second"`` visits only.
        aggregation: ``"patients"`` or ``"visits"``, see the module.
        threshold: ``"own"``, the system's; ``"tuned"`` on validation Jaccard; or a number.
        selection: patients on whose Jaccard the best epoch is chosen.
        bootstrap: ``"house"`` or ``"field"``, see :func:`bootstrap`.
        source: where the rules stand.
    """

    name: str
    split: Literal["seed", "file order"] = "seed"
    scored: Literal["all", "from second"] = "all"
    aggregation: Literal["patients", "visits"] = "patients"
    threshold: Literal["own", "tuned"] | float = "own"
    selection: Literal["validation", "test"] = "validation"
    bootstrap: Literal["house", "field"] = "house"
    source: str = ""


HOUSE = Protocol("house", threshold="tuned", source="this book: equal effort for every system's threshold")
PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        HOUSE,
        Protocol("house, own threshold", source="as house, with each system's published threshold"),
        Protocol(
            "SafeDrug line",
            split="file order",
            threshold=0.5,
            bootstrap="field",
            source="released code of GAMENet, SafeDrug, MoleRec, CausalMed, BiMoRec",
        ),
        Protocol("LR", aggregation="visits", threshold=0.5, bootstrap="field", source="released code of SafeDrug"),
        Protocol(
            "RETAIN",
            split="file order",
            scored="from second",
            threshold=0.4,
            bootstrap="field",
            source="released code of SafeDrug",
        ),
        # The released code averages batches of eight visits, the same as visits up to the last batch.
        Protocol("NLA-MMR", aggregation="visits", threshold=0.5, bootstrap="field", source="released code of NLA-MMR"),
    )
}
"""Named protocols: the house's, and those of published comparisons."""


@dataclass(frozen=True)
class Evaluation:
    """What a system's recommendations are worth, patient by patient.

    Args:
        per_patient: one row for each patient and group of visits with at least one scored visit: ``patient``,
            ``group``, ``n_visits``; sums over these visits of ``jaccard``, ``f1``, ``prauc``, ``precision``,
            ``recall``; counts ``interacting``, ``pairs``, ``medications``.  ``prauc`` is NaN for systems that give
            no scores.
        aggregation: how the averaged metrics are averaged.
    """

    per_patient: pl.DataFrame
    aggregation: Literal["patients", "visits"] = "patients"

    def summary(self, groups: Sequence[str] = GROUPS) -> dict[str, float]:
        """All metrics over the given groups of visits, with ``patients`` and ``visits`` counted."""
        table = _Table.of(self, groups)
        values = {name: float(v[0]) for name, v in table.estimate(np.ones((1, table.n_patients))).items()}
        return {**values, "patients": table.n_patients, "visits": int(table.sums["n_visits"].sum())}

    def by_visit_number(self) -> pl.DataFrame:
        """One row for each group of visits that was scored, and one for all."""
        present = [g for g in GROUPS if (self.per_patient["group"] == g).any()]
        rows = [{"visits_scored": "all", **self.summary()}]
        rows += [{"visits_scored": group, **self.summary((group,))} for group in present]
        return pl.DataFrame(rows)


def evaluate(
    cohort: Cohort,
    recommended: NDArray[np.bool_],
    ddi: NDArray[np.bool_],
    *,
    scores: NDArray[np.floating] | None = None,
    scored: NDArray[np.bool_] | None = None,
    patients: NDArray[np.integer] | None = None,
    protocol: Protocol = HOUSE,
) -> Evaluation:
    """Score recommended sets against the prescribed ones.

    Args:
        cohort: the patients to score, and nobody else.
        recommended: ``(V, M)`` bool, for the cohort's visits.
        ddi: ``(M, M)`` bool interaction matrix.
        scores: ``(V, M)`` for PRAUC; ``None`` where the system has none.
        scored: ``(V,)`` bool, visits for which the system speaks at all; all by default.
        patients: ``(P,)`` how the patients are called in the result, e.g. their place in the whole cohort.
        protocol: who is scored and how visits are averaged.

    Raises:
        MedrecError: no visit is left to score.
    """
    scored = np.ones(cohort.n_visits, dtype=bool) if scored is None else np.asarray(scored, dtype=bool)
    number = cohort.visit_number
    if protocol.scored == "from second":
        scored = scored & (number > 0)
    if not scored.any():
        raise MedrecError(
            f"None of the {cohort.n_visits} visits of these {cohort.n_patients} patients of cohort {cohort.name!r} can "
            "be scored: the system needs an earlier visit. Take another split, or a cohort with more visits."
        )
    target = cohort.codes["medication"].multi_hot(cohort.n_medications)[scored]
    sets = np.asarray(recommended, dtype=bool)[scored]
    interacting, pairs = metrics.ddi_counts(sets, ddi)
    names = np.arange(cohort.n_patients) if patients is None else np.asarray(patients)
    prauc = np.nan if scores is None else metrics.average_precision(target, np.asarray(scores)[scored])
    visits = pl.DataFrame(
        {
            "patient": names[cohort.patient_of_visit[scored]],
            "group": np.minimum(number[scored], len(GROUPS) - 1),
            "n_visits": np.ones(len(target), dtype=np.int64),
            "jaccard": metrics.jaccard(target, sets),
            "f1": metrics.f1(target, sets),
            "prauc": np.broadcast_to(prauc, len(target)).astype(float),
            "precision": metrics.precision(target, sets),
            "recall": metrics.recall(target, sets),
            "interacting": interacting,
            "pairs": pairs,
            "medications": sets.sum(1).astype(np.int64),
        }
    )
    per_patient = (
        visits.group_by("patient", "group", maintain_order=True)
        .agg(pl.all().sum())
        .with_columns(pl.col("group").replace_strict(dict(enumerate(GROUPS)), return_dtype=pl.String))
    )
    return Evaluation(per_patient, protocol.aggregation)


@dataclass(frozen=True)
class _Table:
    """Per-patient sums over chosen groups of visits, as arrays ``(P,)``."""

    patients: NDArray
    sums: dict[str, NDArray[np.float64]]
    aggregation: str

    @classmethod
    def of(cls, evaluation: Evaluation, groups: Sequence[str]) -> _Table:
        unknown = set(groups) - set(GROUPS)
        if unknown:
            raise MedrecError(f"There is no group of visits {unknown.pop()!r}; there are {', '.join(GROUPS)}.")
        rows = evaluation.per_patient.filter(pl.col("group").is_in(list(groups)))
        rows = rows.drop("group").group_by("patient").agg(pl.all().sum()).sort("patient")
        if rows.is_empty():
            raise MedrecError(f"No visit of the groups {', '.join(groups)} was scored. Choose others.")
        sums = {name: rows[name].to_numpy().astype(np.float64) for name in rows.columns if name != "patient"}
        return cls(rows["patient"].to_numpy(), sums, evaluation.aggregation)

    @property
    def n_patients(self) -> int:
        return len(self.patients)

    def estimate(self, weights: NDArray) -> dict[str, NDArray[np.float64]]:
        """Every metric under each row of patient weights ``(R, P)``; ``(R,)`` each."""
        visits = self.sums["n_visits"]
        by_patient = self.aggregation == "patients"
        columns = {name: self.sums[name] / visits if by_patient else self.sums[name] for name in AVERAGED}
        columns |= {name: self.sums[name] for pair in POOLED.values() for name in pair}
        columns["patients"] = np.ones(self.n_patients)
        # One product for all columns.
        product = weights.astype(np.float64, copy=False) @ np.column_stack(list(columns.values()))
        total = dict(zip(columns, product.T, strict=True))
        values = {name: total[name] / total["patients" if by_patient else "n_visits"] for name in AVERAGED}
        for name, (above, below) in POOLED.items():
            values[name] = np.divide(total[above], total[below], out=np.zeros(len(product)), where=total[below] > 0)
        return {name: values[name] for name in METRICS}


# -- intervals -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """A number and how sure it is.

    Args:
        value: of the patients as they are.
        low: lower end.
        high: upper end.
        se: standard deviation over the resamples.
    """

    value: float
    low: float
    high: float
    se: float

    def format(self, digits: int = 4) -> str:
        """``0.4712 [0.4630, 0.4795]``, or a dash for a metric that does not exist."""
        if np.isnan(self.value):
            return "-"
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def in_columns(intervals: Mapping[str, Interval]) -> dict[str, str]:
    """A row of a table: the five columns of the field under their heads."""
    return {head: intervals[name].format(1 if name == "n_medications" else 3) for name, head in COLUMNS.items()}


def bootstrap(
    evaluations: Evaluation | Sequence[Evaluation],
    *,
    groups: Sequence[str] = GROUPS,
    kind: Literal["house", "field"] = "house",
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of every metric, from resampled patients; with several evaluations, from resampled seeds as well.

    ``"house"``: as many patients as there are, with replacement, ``resamples`` times; ends are the 2.5 % and 97.5 %
    quantiles.  Given evaluations of several training seeds, each resample also draws as many seeds with replacement
    and averages them (written ``S5×B1000`` for five seeds).
    ``"field"``: what the papers print as ±: ten rounds of round(0.8 n) patients with replacement; the value is the
    mean of the rounds, the ends lie one standard deviation (divisor 10) away.  It measures the sampling of patients
    for one trained model, and 0.8 n draws overstate it by about 1.12.

    Args:
        evaluations: of one system: one, or one for each training seed on the same patients.
        groups: visits to count.
        kind: see above.
        resamples: for ``"house"``.
        seed: of the draws.
    """
    tables = _aligned(evaluations, groups)
    rng = np.random.default_rng(seed)
    n = tables[0].n_patients
    if kind == "field":
        if len(tables) > 1:
            raise ValueError("The field's bootstrap describes one trained model; give one evaluation.")
        drawn = tables[0].estimate(_draw(rng, n, 10, round(0.8 * n)))
        means = {name: (float(v.mean()), float(v.std())) for name, v in drawn.items()}
        return {name: Interval(mean, mean - sd, mean + sd, sd) for name, (mean, sd) in means.items()}
    weights = _draw(rng, n, resamples, n)
    whole = _over_seeds(tables, np.ones((1, n)), None)
    drawn = _over_seeds(tables, weights, rng)
    return {name: _interval(float(whole[name][0]), drawn[name]) for name in METRICS}


def paired_difference(
    a: Evaluation | Sequence[Evaluation],
    b: Evaluation | Sequence[Evaluation],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """``b − a`` for every metric, on the same visits of the same patients.

    Both systems meet the same resampled patients; their training seeds, where there are several, are drawn
    independently, as seed 0 of one system has nothing in common with seed 0 of another.

    Args:
        a: one evaluation, or one for each training seed.
        b: the same for the other system.
        groups: visits to count; by default those that both score.
        resamples: number of resamples.
        seed: of the draws.

    Raises:
        MedrecError: the systems share no visits, or were evaluated on different patients.
    """
    return contrast([(a, -1), (b, 1)], groups=groups, resamples=resamples, seed=seed)


def contrast(
    parts: Sequence[tuple[Evaluation | Sequence[Evaluation], float]],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """A weighted sum of several systems for every metric, on the same visits of the same patients.

    A difference of two systems has weights -1 and 1; the interaction of two switches, on-on minus on-off minus off-on
    plus off-off, has 1, -1, -1, 1.

    Args:
        parts: for each system its evaluation, or one for each training seed, and its weight.
        groups: visits to count; by default those that all score.
        resamples: number of resamples; patients are the same for all systems, seeds are drawn for each.
        seed: of the draws.

    Raises:
        MedrecError: the systems share no visits, or were evaluated on different patients.
    """
    if groups is None:
        groups = shared_groups([x if isinstance(x, Evaluation) else x[0] for x, _ in parts])
    tables = [_aligned(evaluations, groups) for evaluations, _ in parts]
    for others in tables[1:]:
        _same_patients(tables[0][0], others[0])
    rng = np.random.default_rng(seed)
    n = tables[0][0].n_patients
    weights, ones = _draw(rng, n, resamples, n), np.ones((1, n))
    whole = [_over_seeds(of_seeds, ones, None) for of_seeds in tables]
    drawn = [_over_seeds(of_seeds, weights, rng) for of_seeds in tables]
    factors = [factor for _, factor in parts]
    return {
        name: _interval(
            float(sum(f * v[name][0] for f, v in zip(factors, whole, strict=True))),
            sum(f * v[name] for f, v in zip(factors, drawn, strict=True)),
        )
        for name in METRICS
    }


def shared_groups(evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    """Groups of visits that every one of the systems scores.

    Raises:
        MedrecError: there is none.
    """
    shared = tuple(g for g in GROUPS if all((e.per_patient["group"] == g).any() for e in evaluations))
    if not shared:
        raise MedrecError("These systems score no visits in common, so they cannot be compared.")
    return shared


def _draw(rng: np.random.Generator, n: int, rounds: int, size: int) -> NDArray[np.int64]:
    """How often each of ``n`` patients is drawn in each round, ``(rounds, n)``."""
    return rng.multinomial(size, np.full(n, 1 / n), size=rounds)


def _aligned(evaluations: Evaluation | Sequence[Evaluation], groups: Sequence[str]) -> list[_Table]:
    if isinstance(evaluations, Evaluation):
        evaluations = [evaluations]
    tables = [_Table.of(e, groups) for e in evaluations]
    for table in tables[1:]:
        _same_patients(tables[0], table)
    return tables


def _same_patients(a: _Table, b: _Table) -> None:
    if not np.array_equal(a.patients, b.patients) or not np.array_equal(a.sums["n_visits"], b.sums["n_visits"]):
        raise MedrecError(
            f"These results are of different test visits ({a.n_patients} and {b.n_patients} patients, "
            f"{a.sums['n_visits'].sum():.0f} and {b.sums['n_visits'].sum():.0f} visits). "
            "Compare runs of one cohort with one split seed."
        )


def _over_seeds(tables: list[_Table], weights: NDArray, rng: np.random.Generator | None) -> dict[str, NDArray]:
    """Mean over seeds of each metric, ``(R,)``; with ``rng`` over seeds drawn with replacement in each resample."""
    values = [table.estimate(weights) for table in tables]
    S, R = len(tables), len(weights)
    picks = np.tile(np.arange(S), (R, 1)) if rng is None or S == 1 else rng.integers(0, S, (R, S))
    return {name: np.stack([v[name] for v in values])[picks, np.arange(R)[:, None]].mean(1) for name in METRICS}


def _interval(value: float, drawn: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(value, float(low), float(high), float(drawn.std(ddof=1)))


# -- thresholds ----------------------------------------------------------------------------------------------------

THRESHOLDS = np.arange(5, 96) / 100
"""Candidates of :func:`tune_threshold`: .05, .06, ..., .95."""


def tune_threshold(
    cohort: Cohort,
    scores: NDArray[np.floating],
    *,
    scored: NDArray[np.bool_] | None = None,
    protocol: Protocol = HOUSE,
) -> float:
    """The threshold with the highest mean Jaccard on validation patients; of equals the one nearest to .5.

    Args:
        cohort: validation patients.
        scores: ``(V, M)`` probabilities.
        scored: ``(V,)`` bool, as in :func:`evaluate`.
        protocol: how visits are averaged.
    """
    scored = np.ones(cohort.n_visits, dtype=bool) if scored is None else np.asarray(scored, dtype=bool)
    if protocol.scored == "from second":
        scored = scored & (cohort.visit_number > 0)
    target = cohort.codes["medication"].multi_hot(cohort.n_medications)[scored]
    probabilities = np.asarray(scores)[scored]
    weight = np.ones(len(target))
    if protocol.aggregation == "patients":
        patient = cohort.patient_of_visit[scored]
        weight /= np.bincount(patient)[patient]
    # Hits and set sizes at every threshold at once: each score falls into one cell between two candidates.
    V, n = len(target), len(THRESHOLDS)
    # 32-bit scores are compared as they are, so that 0.4 does not fall below 0.4.
    cell = np.searchsorted(THRESHOLDS.astype(probabilities.dtype), probabilities, side="right")
    key = np.arange(V)[:, None] * (n + 1) + cell

    def above(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        counts = np.bincount(key[chosen], minlength=V * (n + 1)).reshape(V, n + 1)
        return counts[:, ::-1].cumsum(1)[:, ::-1][:, 1:]

    hits, size = above(target), above(np.ones_like(target))
    union = size + target.sum(1)[:, None] - hits
    jaccard = weight @ np.divide(hits, union, out=np.zeros(hits.shape), where=union > 0)
    best = np.flatnonzero(jaccard >= jaccard.max() - 1e-12)
    return float(THRESHOLDS[best[np.argmin(np.abs(THRESHOLDS[best] - 0.5))]])


# -- verdicts ------------------------------------------------------------------------------------------------------

SMALLEST_DIFFERENCE = {"jaccard": 0.005, "ddi_rate": 0.005, "n_medications": 1.0}
"""Smallest differences of interest, fixed before any run."""

Word = Literal["holds", "holds in part", "does not hold", "undecided", "cannot be tested here", "not testable at all"]


@dataclass(frozen=True)
class Verdict:
    """A judgement on a published claim: one of six words, and the sentence that says why."""

    word: Word
    sentence: str

    def __str__(self) -> str:
        return f"**{self.word}.** {self.sentence}"


def verdict(
    delta: Interval | None,
    *,
    cohort: str,
    source: Source,
    published: float | None = None,
    sdi: float = SMALLEST_DIFFERENCE["jaccard"],
    mechanism: str | None = None,
    control: float | None = None,
    control_name: str = "the control",
    only_for: str | None = None,
    not_for: str | None = None,
    n_seeds: int = 1,
    n_patients: int = 0,
    missing: str | None = None,
) -> Verdict:
    """Judge a claimed gain by rule, so that the word changes with the numbers.

    Args:
        delta: the gain measured, oriented so that the claim says "positive"; ``None`` when the claim has no
            measurable form.
        cohort: its name.
        source: its source.
        published: the gain that the paper prints.
        sdi: smallest difference of interest.
        mechanism: what the synthetic cohort lacks and the claim needs; ``None`` when it lacks nothing.  On real
            records it is ignored.
        control: gain of the matching control (e.g. the same system with its source of information shuffled).
        control_name: how the sentence calls it.
        only_for: where the lower end is positive, when that is not everywhere.
        not_for: where it is not.
        n_seeds: training seeds.
        n_patients: test patients.
        missing: what the paper does not say, for ``delta=None``.
    """
    if delta is None:
        return Verdict(
            "not testable at all", f"The paper does not say enough to test this: {missing or 'no measurable form'}."
        )
    if source == "synthetic" and mechanism is not None:
        return Verdict(
            "cannot be tested here",
            f"The default cohort was written without {mechanism}: a gain here would be regularisation, a missing gain "
            "would be no evidence. Run this chapter on credentialed tables.",
        )
    number = f"{delta.value:+.4f} [{delta.low:+.4f}, {delta.high:+.4f}]"
    basis = f"{number} over {n_seeds} seed{'s' * (n_seeds != 1)} and {n_patients} patients"
    if delta.low > 0:
        small = f" It is smaller than {sdi}." if delta.high < sdi else ""
        if only_for or not_for:
            return Verdict(
                "holds in part",
                f"On {cohort} the claim holds for {only_for or 'some'} and not for {not_for or 'others'}: {basis}."
                f"{small}",
            )
        if control is not None and control >= delta.value / 2:
            share = max(0.0, (delta.value - control) / delta.value)
            return Verdict(
                "holds in part",
                f"On {cohort} there is a gain, {basis}, but {control_name} gains {control:+.4f}: "
                f"{share:.0%} of it is the claim's own.{small}",
            )
        against = f"; {control_name} gains {control:+.4f}" if control is not None else ""
        return Verdict("holds", f"On {cohort} the claim holds: {basis}{against}.{small}")
    if delta.high < sdi:
        return Verdict(
            "does not hold", f"On {cohort} the difference is smaller than {sdi}, or of the other sign: {basis}."
        )
    wanted = published if published else sdi
    # The half-width shrinks with the square root of what is counted; it has to fall below the difference in question.
    factor = ((delta.high - delta.low) / 2 / wanted) ** 2
    return Verdict(
        "undecided",
        f"On {cohort} these runs cannot tell {wanted:+.4f} from none: {basis}; about "
        f"{ceil(n_patients * max(factor, 1))} patients would, if patients are what varies, or "
        f"{ceil(n_seeds * max(factor, 1))} seeds, if seeds are.",
    )


def verdict_of_equality(
    delta: Interval, *, cohort: str, sdi: float = SMALLEST_DIFFERENCE["jaccard"], n_seeds: int = 1, n_patients: int = 0
) -> Verdict:
    """Judge a claim that two systems are alike: their difference has to lie, with its interval, within ±``sdi``.

    An interval over zero does not show equality: it may be as wide as ignorance.

    Args:
        delta: difference of the two.
        cohort: its name.
        sdi: smallest difference of interest.
        n_seeds: training seeds.
        n_patients: test patients.
    """
    basis = (
        f"{delta.value:+.4f} [{delta.low:+.4f}, {delta.high:+.4f}] over {n_seeds} seed{'s' * (n_seeds != 1)} and "
        f"{n_patients} patients"
    )
    if -sdi < delta.low and delta.high < sdi:
        return Verdict("holds", f"On {cohort} the two are alike, within {sdi}: {basis}.")
    if delta.low >= sdi or delta.high <= -sdi:
        return Verdict("does not hold", f"On {cohort} the two differ by at least {sdi}: {basis}.")
    return Verdict("undecided", f"On {cohort} the interval reaches beyond {sdi} on one side at least: {basis}.")
