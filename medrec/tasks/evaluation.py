r"""Results patient by patient, and how sure a number is; the same for every task.

An :class:`Evaluation` keeps, for each patient and each group of visits, sums of the visits' metrics and the counts
behind the pooled quantities.  Everything else follows from that small table without running a model again: means over
patients or over visits, results by visit number, bootstrap intervals, paired differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec.types import MedrecError

Aggregation = Literal["patients", "visits"]


@dataclass(frozen=True)
class Measures:
    """What a task measures.

    Args:
        columns: metrics of its tables, in order, and how tables head them.
        averaged: metrics that are averaged over visits or patients.
        pooled: metrics that are ratios of two counts, summed first.
        groups: groups of visits that results are kept for.
        metrics: all of them, in the order in which they are given.
    """

    columns: dict[str, str]
    averaged: tuple[str, ...]
    pooled: dict[str, tuple[str, str]]
    groups: tuple[str, ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """What a system's answers are worth, patient by patient.

    Args:
        per_patient: one row for each patient and group of visits with at least one scored visit: ``patient``,
            ``group``, ``n_visits``; sums over these visits of the averaged metrics, and the counts behind the pooled
            ones.  NaN for a metric that a system does not have.
        measures: of the task.
        aggregation: how the averaged metrics are averaged: over a patient's visits, then over patients
            (``"patients"``, house), or over all visits at once (``"visits"``).
    """

    per_patient: pl.DataFrame
    measures: Measures
    aggregation: Aggregation = "patients"

    def summary(self, groups: Sequence[str] | None = None) -> dict[str, float]:
        """All metrics over the given groups of visits (all by default), with ``patients`` and ``visits`` counted."""
        table = _Table.of(self, groups)
        values = {name: float(v[0]) for name, v in table.estimate(np.ones((1, table.n_patients))).items()}
        return {**values, "patients": table.n_patients, "visits": int(table.sums["n_visits"].sum())}

    def by_visit_number(self) -> pl.DataFrame:
        """One row for each group of visits that was scored, and one for all."""
        present = [g for g in self.measures.groups if (self.per_patient["group"] == g).any()]
        rows = [{"visits_scored": "all", **self.summary()}]
        rows += [{"visits_scored": group, **self.summary((group,))} for group in present]
        return pl.DataFrame(rows)


@dataclass(frozen=True)
class _Table:
    """Per-patient sums over chosen groups of visits, as arrays ``(P,)``."""

    patients: NDArray[Any]
    sums: dict[str, NDArray[np.float64]]
    measures: Measures
    aggregation: Aggregation

    @classmethod
    def of(cls, evaluation: Evaluation, groups: Sequence[str] | None) -> _Table:
        known = evaluation.measures.groups
        groups = known if groups is None else groups
        unknown = set(groups) - set(known)
        if unknown:
            raise MedrecError(f"There is no group of visits {unknown.pop()!r}; there are {', '.join(known)}.")
        rows = evaluation.per_patient.filter(pl.col("group").is_in(list(groups)))
        rows = rows.drop("group").group_by("patient").agg(pl.all().sum()).sort("patient")
        if rows.is_empty():
            raise MedrecError(f"No visit of the groups {', '.join(groups)} was scored. Choose others.")
        sums = {name: rows[name].to_numpy().astype(np.float64) for name in rows.columns if name != "patient"}
        return cls(rows["patient"].to_numpy(), sums, evaluation.measures, evaluation.aggregation)

    @property
    def n_patients(self) -> int:
        return len(self.patients)

    def estimate(self, weights: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        """Every metric under each row of patient weights ``(R, P)``; ``(R,)`` each."""
        visits = self.sums["n_visits"]
        by_patient = self.aggregation == "patients"
        columns = {name: self.sums[name] / visits if by_patient else self.sums[name] for name in self.measures.averaged}
        columns |= {name: self.sums[name] for pair in self.measures.pooled.values() for name in pair}
        columns["patients"] = np.ones(self.n_patients)
        # One product for all columns.
        product = weights.astype(np.float64, copy=False) @ np.column_stack(list(columns.values()))
        total = dict(zip(columns, product.T, strict=True))
        values = {
            name: total[name] / total["patients" if by_patient else "n_visits"] for name in self.measures.averaged
        }
        for name, (above, below) in self.measures.pooled.items():
            values[name] = np.divide(total[above], total[below], out=np.zeros(len(product)), where=total[below] > 0)
        return {name: values[name] for name in self.measures.metrics}


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


def bootstrap(
    evaluations: Evaluation | Sequence[Evaluation],
    *,
    groups: Sequence[str] | None = None,
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
        groups: visits to count; all by default.
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
    return {name: _interval(float(whole[name][0]), drawn[name]) for name in whole}


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
            np.asarray(sum(f * v[name] for f, v in zip(factors, drawn, strict=True))),
        )
        for name in whole[0]
    }


def shared_groups(evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    """Groups of visits that every one of the systems scores.

    Raises:
        MedrecError: there is none.
    """
    groups = evaluations[0].measures.groups
    shared = tuple(g for g in groups if all((e.per_patient["group"] == g).any() for e in evaluations))
    if not shared:
        raise MedrecError("These systems score no visits in common, so they cannot be compared.")
    return shared


def _draw(rng: np.random.Generator, n: int, rounds: int, size: int) -> NDArray[np.int64]:
    """How often each of ``n`` patients is drawn in each round, ``(rounds, n)``."""
    return rng.multinomial(size, np.full(n, 1 / n), size=rounds)


def _aligned(evaluations: Evaluation | Sequence[Evaluation], groups: Sequence[str] | None) -> list[_Table]:
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


def _over_seeds(
    tables: list[_Table], weights: NDArray[Any], rng: np.random.Generator | None
) -> dict[str, NDArray[np.float64]]:
    """Mean over seeds of each metric, ``(R,)``; with ``rng`` over seeds drawn with replacement in each resample."""
    values = [table.estimate(weights) for table in tables]
    S, R = len(tables), len(weights)
    picks = np.tile(np.arange(S), (R, 1)) if rng is None or S == 1 else rng.integers(0, S, (R, S))
    return {name: np.stack([v[name] for v in values])[picks, np.arange(R)[:, None]].mean(1) for name in values[0]}


def _interval(value: float, drawn: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(value, float(low), float(high), float(drawn.std(ddof=1)))
