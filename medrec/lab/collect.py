"""From runs to the rows of a grid: scores with intervals and paired differences, and costs.

What is here decides the numbers of every kept grid, together with :mod:`medrec.tasks` and :mod:`medrec.metrics`; how
they are shown stands in :mod:`medrec.lab.grids`.  A row is a summary over patients and seeds; nothing of a single
patient is in it.  Intervals are 95 % of 1000 resamples of seeds and test patients together; differences are paired by
patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from medrec.data.cohort import Cohort
from medrec.lab.grids import Grid, about_rows
from medrec.lab.rows import Contrast, Declared, declared
from medrec.models import registry
from medrec.models.base import Row
from medrec.runs import Run
from medrec.tasks.evaluation import Evaluation, bootstrap, contrast, paired_difference
from medrec.tasks.visits import COLUMNS, GROUPS
from medrec.training import train
from medrec.types import MedrecError

VISITS = {"all visits": GROUPS, "first visits": GROUPS[:1], "later visits": GROUPS[1:]}
"""Groups of visits that rows are made for; systems that skip first visits have rows for the later ones only."""
THRESHOLDS = ("own", "tuned")


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
        MedrecError: a row's system is of the ranking task, or a training fails.
    """
    found = grid if isinstance(grid, Declared) else declared(grid)
    for row in found.rows:
        if registry.get(row.system).task != "visits":
            raise MedrecError(
                f"Grid {found.name!r} has the ranker {row.system!r}, and kept rows are of the visit task. "
                "Use `medrec compare` for rankers."
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
    scores = [scores_of(row, runs[row.key], reference) for row in found.rows]
    scores += [_contrast(row, runs, scores[0]) for row in found.contrasts]
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


def scores_of(row: Row, runs: Sequence[Run], reference: Sequence[Run]) -> pl.DataFrame:
    """Level of a row, and its change against the reference, for each threshold, group of visits and metric.

    Args:
        row: whose.
        runs: one for each training seed.
        reference: runs of the first row of the grid.
    """
    found = []
    for threshold in THRESHOLDS:
        own = [run.evaluation(threshold) for run in runs]
        base = [run.evaluation(threshold) for run in reference]
        for visits, groups in VISITS.items():
            if not _scored(own[0], groups) or not _scored(base[0], groups):
                continue
            if visits == "all visits" and not all(_scored(own[0], (g,)) or not _scored(base[0], (g,)) for g in GROUPS):
                continue
            values = bootstrap(own, groups=groups)
            # A system may score first visits that the reference leaves out.
            shared = [g for g in groups if _scored(own[0], (g,)) and _scored(base[0], (g,))]
            deltas = paired_difference(base, own, groups=shared)
            counts = own[0].summary(groups)
            for metric in COLUMNS:
                found.append(
                    {
                        "key": row.key,
                        "label": row.label,
                        "knob": row.knob,
                        "setting": row.value,
                        "threshold": threshold,
                        "visits": visits,
                        "metric": metric,
                        "value": values[metric].value,
                        "low": values[metric].low,
                        "high": values[metric].high,
                        "delta": deltas[metric].value,
                        "delta_low": deltas[metric].low,
                        "delta_high": deltas[metric].high,
                        "patients": counts["patients"],
                        "n_visits": counts["visits"],
                    }
                )
    floats = dict.fromkeys(("setting", "value", "low", "high", "delta", "delta_low", "delta_high"), pl.Float64)
    return pl.DataFrame(found, schema_overrides=floats, infer_schema_length=None).with_columns(
        pl.selectors.float().fill_nan(None).round(6)
    )


def _contrast(row: Contrast, runs: Mapping[str, Sequence[Run]], first: pl.DataFrame) -> pl.DataFrame:
    """A row that is made of others, for the thresholds, visits and metrics of the first row."""
    found: list[dict[str, Any]] = []
    for cell in first.to_dicts():
        if cell["metric"] == next(iter(COLUMNS)):
            parts = [([r.evaluation(cell["threshold"]) for r in runs[key]], sign) for key, sign in row.signs.items()]
            beyond = contrast(parts, groups=VISITS[cell["visits"]])
        interval = beyond[cell["metric"]]
        change = {"delta": interval.value, "delta_low": interval.low, "delta_high": interval.high}
        found.append(cell | {"key": row.key, "label": row.label} | dict.fromkeys(("value", "low", "high")) | change)
    return pl.DataFrame(found, schema=first.schema).with_columns(pl.selectors.float().fill_nan(None).round(6))


def _scored(evaluation: Evaluation, groups: Sequence[str]) -> bool:
    return bool(evaluation.per_patient["group"].is_in(list(groups)).any())


def costs_of(row: Row, runs: Sequence[Run]) -> pl.DataFrame:
    """What the trainings of a row took, medians over seeds, and the score by which a setting is chosen."""
    histories = [run.history for run in runs if len(run.history)]
    frame = pl.DataFrame(
        {
            "key": [row.key],
            "label": [row.label],
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
    """Validation Jaccard, mean over seeds: of the epochs that were kept, or at an estimator's tuned threshold."""
    found = [
        run.history.filter(epoch=run.metrics["best_epoch"])["jaccard"].item()
        if len(run.history)
        else run.metrics["tuned"].get("validation")
        for run in runs
    ]
    return None if None in found else sum(found) / len(found)


def _median(values: Sequence[Any]) -> float | None:
    known = pl.Series(values, dtype=pl.Float64).drop_nulls()
    return None if known.is_empty() else float(known.median())  # type: ignore[arg-type]
