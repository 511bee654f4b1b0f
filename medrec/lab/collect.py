"""From runs to the rows of a grid: scores with intervals and paired differences, and costs.

What is here decides the numbers of every kept grid, together with :mod:`medrec.tasks` and :mod:`medrec.metrics`; how
they are shown stands in :mod:`medrec.lab.grids`.  A row is a summary over patients and seeds; nothing of a single
patient is in it.  Intervals are 95 % of 1000 resamples of seeds and test patients together, and the deviation between
seeds stands beside them; differences are paired by patient.

A grid is of the task of its first row.  In a grid of the ranking task a visit system stands by the order of its scores
at the last visits that rankers are asked about (:func:`medrec.tasks.ranking.rank_visits`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from medrec import tasks
from medrec.data.cohort import Cohort
from medrec.lab.grids import Grid, about_rows
from medrec.lab.rows import Contrast, Declared, declared
from medrec.models import registry
from medrec.models.base import Row
from medrec.runs import Run
from medrec.tasks import ranking, visits
from medrec.tasks.evaluation import Evaluation, bootstrap, contrast, paired_difference
from medrec.training import train
from medrec.types import MedrecError

GROUPS = visits.GROUPS
VISITS = {"all visits": GROUPS, "first visits": GROUPS[:1], "later visits": GROUPS[1:]}
"""Groups of visits that rows are made for; systems that skip first visits have rows for the later ones only."""
THRESHOLDS = ("own", "tuned")
ORDERS = ("house", "new medications")
"""Protocols of the ranking task: everything counts and is listed, or only what the patient is not known to have had."""


@dataclass(frozen=True)
class View:
    """One of the ways in which the answers of the same runs are looked at.

    Args:
        name: its columns in the scores: threshold and visits, or the protocol of the ranking task.
        groups: of visits that count.
    """

    name: Mapping[str, str]
    groups: Sequence[str]

    def of(self, runs: Sequence[Run], cohort: Cohort) -> list[Evaluation]:
        """What the answers of each run are worth."""
        if "threshold" in self.name:
            return [run.evaluation(self.name["threshold"]) for run in runs]
        rules = ranking.PROTOCOLS[self.name["protocol"]]
        return [
            (run.answers if run.config["task"] == "ranking" else ranking.rank_visits(run, cohort))["test"].evaluate(
                rules
            )
            for run in runs
        ]


VIEWS = {
    "visits": tuple(
        View({"threshold": threshold, "visits": name}, groups)
        for threshold in THRESHOLDS
        for name, groups in VISITS.items()
    ),
    "ranking": tuple(View({"protocol": name}, ranking.GROUPS) for name in ORDERS),
}
"""By task, in the order of rows."""


def collect(
    grid: str | Path | Declared,
    cohort: Cohort,
    seeds: int,
    *,
    split_seed: int | None = 0,
    ddi: Path | None = None,
    device: str = "cpu",
) -> Grid:
    """Rows of a grid from the run store; what it lacks is trained.

    Args:
        grid: as :func:`medrec.lab.rows.declared` takes it, or what it gives.
        cohort: all patients.
        seeds: training seeds of the networks; what is fitted in one go is fitted once.
        split_seed: of the split; ``None`` for file order.
        ddi: file of another interaction list than the book's own.
        device: of the trainings.

    Raises:
        MedrecError: a grid of visits has a ranker; a training fails; or a visit system has no place in a ranking.
    """
    found = grid if isinstance(grid, Declared) else declared(grid)
    task = registry.get(found.rows[0].system).task
    for row in found.rows:
        if task == "visits" and registry.get(row.system).task != task:
            raise MedrecError(
                f"Grid {found.name!r} is of visits, as its first row is, and has the ranker {row.system!r}, which "
                "speaks of last visits alone. Put a ranker first, or use `medrec compare`."
            )
    runs = {
        row.key: [
            train(
                row.system,
                cohort,
                variant=row.variant,
                settings=row.settings,
                seed=seed,
                split_seed=split_seed,
                ddi=ddi,
                device=device,
            )
            for seed in registry.get(row.system).seeds(seeds)
        ]
        for row in found.rows
    }
    reference = runs[found.rows[0].key]
    scores = [scores_of(row, runs[row.key], reference, cohort, task) for row in found.rows]
    scores += [_contrast(row, runs, scores[0], cohort) for row in found.contrasts]
    first = reference[0]
    return Grid(
        found.name,
        cohort.name,
        pl.concat(scores),
        pl.concat([costs_of(row, runs[row.key]) for row in found.rows]),
        {
            "cohort": first.config["cohort"],
            "seeds": seeds,
            "split": first.metrics["split"],
            "interactions": first.config["context"]["ddi"]["source"],
            "rows": about_rows(found.rows),
            "device": first.environment["device"],
            "seconds": sum(run.environment["wall_seconds"] for of_row in runs.values() for run in of_row),
        },
    )


def scores_of(row: Row, runs: Sequence[Run], reference: Sequence[Run], cohort: Cohort, task: str) -> pl.DataFrame:
    """Level of a row, and its change against the reference, in each view of a task and for each metric.

    Args:
        row: whose.
        runs: one for each training seed.
        reference: runs of the first row of the grid.
        cohort: all patients.
        task: of the grid.
    """
    found = []
    for view in VIEWS[task]:
        own, base = view.of(runs, cohort), view.of(reference, cohort)
        if not _scored(own[0], view.groups) or not _scored(base[0], view.groups):
            continue
        # A system may score first visits that the reference leaves out, and not the other way round.
        shared = [g for g in view.groups if _scored(own[0], (g,)) and _scored(base[0], (g,))]
        if any(g not in shared and _scored(base[0], (g,)) for g in view.groups):
            continue
        values = bootstrap(own, groups=view.groups)
        deltas = paired_difference(base, own, groups=shared)
        of_seeds = [evaluation.summary(view.groups) for evaluation in own]
        found += [
            {
                "key": row.key,
                "label": row.label,
                "knob": row.knob,
                "setting": row.value,
                **view.name,
                "metric": metric,
                "value": values[metric].value,
                "low": values[metric].low,
                "high": values[metric].high,
                "seed_sd": float(np.std([x[metric] for x in of_seeds], ddof=1)) if len(own) > 1 else None,
                "delta": deltas[metric].value,
                "delta_low": deltas[metric].low,
                "delta_high": deltas[metric].high,
                "patients": of_seeds[0]["patients"],
                "n_visits": of_seeds[0]["visits"],
            }
            for metric in tasks.get(task).MEASURES.columns
        ]
    floats = ("setting", "value", "low", "high", "seed_sd", "delta", "delta_low", "delta_high")
    return pl.DataFrame(
        found, schema_overrides=dict.fromkeys(floats, pl.Float64), infer_schema_length=None
    ).with_columns(pl.selectors.float().fill_nan(None).round(6))


def _contrast(row: Contrast, runs: Mapping[str, Sequence[Run]], first: pl.DataFrame, cohort: Cohort) -> pl.DataFrame:
    """A row that is made of others, for the views and metrics of the first row."""
    found: list[dict[str, Any]] = []
    nothing = dict.fromkeys(("value", "low", "high", "seed_sd"))
    for view in VIEWS[next(iter(runs.values()))[0].config["task"]]:
        cells = first.filter(**view.name).to_dicts()
        if not cells:
            continue
        beyond = contrast([(view.of(runs[key], cohort), sign) for key, sign in row.signs.items()], groups=view.groups)
        for cell in cells:
            interval = beyond[cell["metric"]]
            change = {"delta": interval.value, "delta_low": interval.low, "delta_high": interval.high}
            found.append(cell | {"key": row.key, "label": row.label} | nothing | change)
    return pl.DataFrame(found, schema=first.schema).with_columns(pl.selectors.float().fill_nan(None).round(6))


def _scored(evaluation: Evaluation, groups: Sequence[str]) -> bool:
    return bool(evaluation.per_patient["group"].is_in(list(groups)).any())


def costs_of(row: Row, runs: Sequence[Run]) -> pl.DataFrame:
    """What the trainings of a row took, medians over seeds, and the score by which a setting is chosen."""
    histories = [run.history for run in runs if len(run.history)]
    system = registry.get(row.system)
    frame = pl.DataFrame(
        {
            "key": [row.key],
            "label": [row.label],
            "past_only": [system.past_only(system.config(**runs[0].config["settings"]))],
            "seeds": [len(runs)],
            "parameters": [sum(v.size for v in runs[0].state().values())],
            "epochs": [_median([len(h) for h in histories])],
            "best_epoch": [_median([run.metrics["best_epoch"] for run in runs if len(run.history)])],
            "validation": [chosen_by(runs)],
            "converged": [all(run.metrics["converged"] for run in runs)],
            "degenerate": [next((run.metrics["degenerate"] for run in runs if run.metrics["degenerate"]), None)],
            "below_popularity": [any(run.metrics["below_popularity"] for run in runs)],
            "seconds_per_epoch": [_median([h["seconds"].median() for h in histories])],
            "seconds": [_median([run.environment["wall_seconds"] for run in runs])],
            "peak_mib": [_median([run.environment["peak_memory_mib"] for run in runs])],
        },
        schema_overrides={
            **dict.fromkeys(
                ("epochs", "best_epoch", "validation", "seconds_per_epoch", "seconds", "peak_mib"), pl.Float64
            ),
            "degenerate": pl.String,
        },
    )
    rounded = pl.selectors.float() - pl.selectors.by_name("validation")
    return frame.with_columns(rounded.round(2), pl.col("validation").round(6))


def chosen_by(runs: Sequence[Run]) -> float | None:
    """What settings are chosen by, mean over seeds: of the epochs that were kept, or at an estimator's tuned threshold.

    Jaccard of validation patients, of rankers NDCG@20.
    """
    found = [
        run.history.filter(epoch=run.metrics["best_epoch"])[tasks.get(run.config["task"]).SELECTION].item()
        if len(run.history)
        else run.metrics["tuned"].get("validation")
        for run in runs
    ]
    return None if None in found else sum(found) / len(found)


def _median(values: Sequence[Any]) -> float | None:
    known = pl.Series(values, dtype=pl.Float64).drop_nulls()
    return None if known.is_empty() else float(known.median())  # type: ignore[arg-type]
