"""Grids of trainings: what the run store lacks is trained, what it holds becomes rows of scores and costs.

``python -m medrec.experiments.grids GRID [--cohort NAME] [--seeds N] [--jobs N]`` trains what the run store lacks and
writes the rows of the grid; ``--help`` lists the grids.  Rows of synthetic and open demo records go to
``results/grids/``, rows of credentialed records to the run store, never into the checkout.

What a grid trains is written in :mod:`medrec.experiments.rows`.  A row is a summary over patients and seeds; nothing of
a single patient is in it.  Intervals are 95 % of 1000 resamples of seeds and test patients together; differences are
paired by patient.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from medrec import paths
from medrec.data import load_cohort
from medrec.data.cohort import Cohort, titled
from medrec.experiments.rows import ABLATION, GRIDS, SYNERGY, Row, rows_of, settings_for
from medrec.experiments.sweep import Task, sweep
from medrec.folders import atomic_folder
from medrec.models import registry
from medrec.runs import Run
from medrec.tasks.evaluation import Evaluation, Interval, bootstrap, contrast, paired_difference
from medrec.tasks.verdicts import Verdict, verdict, verdict_of_equality
from medrec.tasks.visits import COLUMNS, GROUPS
from medrec.training import train
from medrec.types import MedrecError

VISITS = {"all visits": GROUPS, "first visits": GROUPS[:1], "later visits": GROUPS[1:]}
"""Groups of visits that rows are made for; systems that skip first visits have rows for the later ones only."""
THRESHOLDS = ("own", "tuned")


@dataclass(frozen=True)
class Grid:
    """The rows of a grid on one cohort.

    Args:
        name: of the grid.
        cohort: whose patients were tested.
        scores: one row for each system, threshold, group of visits and metric: ``label``, ``knob``, ``setting``,
            ``threshold``, ``visits``, ``metric``, ``value``, ``low``, ``high``; ``delta``, ``delta_low``,
            ``delta_high`` against the first row on the visits that both score; ``patients``, ``n_visits``.
        costs: one row for each system: ``label``, ``seeds``, ``parameters``, ``epochs``, ``best_epoch`` (medians),
            ``validation`` (Jaccard of the validation patients, mean: by this a setting is chosen; networks at the epoch
            that was kept, estimators at their tuned threshold),
            ``seconds_per_epoch``, ``seconds``, ``peak_mib``.
        provenance: cohort, seeds, versions, device, commit.
    """

    name: str
    cohort: str
    scores: pl.DataFrame
    costs: pl.DataFrame
    provenance: dict[str, Any]

    @property
    def source(self) -> str:
        """``"synthetic"``, ``"demo"`` or ``"credentialed"``."""
        return self.provenance["cohort"]["source"]

    @property
    def line(self) -> str:
        """Whose patients, how many, how many training seeds: for captions."""
        seeds = self.provenance["seeds"]
        return (
            f"{titled(self.cohort, self.source)}, {self.scores['patients'].max()} test patients, "
            f"{seeds} training seed{'s' * (seeds != 1)}"
        )

    def select(self, *, threshold: str = "tuned", visits: str = "all visits", metric: str = "jaccard") -> pl.DataFrame:
        """Rows of one metric, in the order of the grid."""
        return self.scores.filter(threshold=threshold, visits=visits, metric=metric)

    def by_label(self, **chosen: str) -> dict[str, dict[str, Any]]:
        """Rows of :meth:`select` by label, for :func:`interval`, :func:`words` and :meth:`judge`."""
        return {row["label"]: row for row in self.select(**chosen).iter_rows(named=True)}

    def changes(self, **chosen: str) -> dict[str, Interval]:
        """Change of each row of :meth:`select` but the first one, against that one, by label."""
        return {label: interval(row, "delta") for label, row in list(self.by_label(**chosen).items())[1:]}

    def judge(self, row: Mapping[str, Any], sign: int = 1, *, equal: bool = False, **more: Any) -> Verdict:
        """Verdict on the change of a row against the first one.

        Args:
            row: from :meth:`by_label`.
            sign: 1: the claim is that this row is better; -1: that the first one is.
            equal: the claim is that the two are alike.
            more: of :func:`~medrec.protocol.verdict` or :func:`~medrec.protocol.verdict_of_equality`.
        """
        delta = interval(row, "delta", sign)
        about = {"cohort": f"the {self.cohort} cohort", "n_seeds": self.provenance["seeds"]}
        about |= {"n_patients": row["patients"], **more}
        return verdict_of_equality(delta, **about) if equal else verdict(delta, source=self.source, **about)

    def wide(self, *, threshold: str = "tuned", visits: str = "all visits") -> pl.DataFrame:
        """One row a system, the five columns of the field side by side; intervals in ``… low`` and ``… high``."""
        rows = self.scores.filter(threshold=threshold, visits=visits)
        frames = []
        for metric, head in COLUMNS.items():
            part = rows.filter(metric=metric).select(
                "label",
                pl.col("value").alias(head),
                pl.col("low").alias(f"{head} low"),
                pl.col("high").alias(f"{head} high"),
            )
            frames.append(part if not frames else part.drop("label"))
        return pl.concat(frames, how="horizontal")


def interval(row: Mapping[str, Any], of: Literal["value", "delta"] = "value", sign: int = 1) -> Interval:
    """Level of a row, or its change against the first one; with ``sign`` -1 what the first one has over it."""
    start = "" if of == "value" else "delta_"
    value, *ends = (0.0 + sign * row[name] for name in (of, f"{start}low", f"{start}high"))  # 0.0 +: no minus zero
    low, high = sorted(ends)
    return Interval(value, low, high, (high - low) / (2 * 1.96))


def words(row: Mapping[str, Any] | None, of: Literal["value", "delta"] = "value", digits: int = 3) -> str | None:
    """:func:`interval` for a cell of a table; None where there is no row or no value."""
    return None if row is None or row[of] is None else interval(row, of).format(digits)


def tasks(grid: str, cohort: str, seeds: int, settings: dict[str, Any] | None = None) -> list[Task]:
    """Every training that a grid needs; estimators once, networks once for each seed."""
    return [
        Task(cohort, row.model, row.variant, seed, settings=_settings(row, cohort, settings))
        for row in rows_of(grid)
        for seed in range(seeds if registry.get(row.model).is_network else 1)
    ]


def collect(grid: str, cohort: Cohort, seeds: int, settings: dict[str, Any] | None = None) -> Grid:
    """Rows of a grid from the run store; what it lacks is trained.

    Args:
        grid: name of the grid.
        cohort: all patients.
        seeds: training seeds of the networks.
        settings: of BiMoRec in every row that does not set them itself; default :func:`settings_for` the cohort.
    """
    runs: dict[str, list[Run]] = {}
    rows = rows_of(grid)
    for row in rows:
        needed = range(seeds if registry.get(row.model).is_network else 1)
        runs[row.label] = [
            train(row.model, cohort, variant=row.variant, settings=_settings(row, cohort.name, settings), seed=s)
            for s in needed
        ]
    reference = runs[rows[0].label]
    first = reference[0]
    scores = [_scores(row, runs[row.label], reference) for row in rows]
    if grid == "ablation":
        scores.append(_synergy(runs, scores[0]))
    return Grid(
        grid,
        cohort.name,
        pl.concat(scores),
        pl.concat([_costs(row, runs[row.label]) for row in rows]),
        {
            "cohort": first.config["cohort"],
            "seeds": seeds,
            "settings": settings_for(cohort.name) if settings is None else settings,
            "split": first.metrics["split"],
            "environment": {k: v for k, v in first.environment.items() if k != "wall_seconds"},
        },
    )


def _settings(row: Row, cohort: str, settings: dict[str, Any] | None) -> dict[str, Any]:
    shared = settings if settings is not None and row.model == "bimorec" else settings_for(cohort, row.model)
    return {**shared, **row.settings}


def _scores(row: Row, runs: list[Run], reference: list[Run]) -> pl.DataFrame:
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


def _synergy(runs: dict[str, list[Run]], full: pl.DataFrame) -> pl.DataFrame:
    """Rows of :data:`SYNERGY`, for the thresholds, visits and metrics of the full model's rows."""
    signs = dict(zip((row.label for row in ABLATION), (1, -1, -1, 1), strict=True))
    found = []
    for row in full.with_columns(pl.lit(SYNERGY).alias("label"), pl.lit(None, pl.Float64).alias("value")).to_dicts():
        if row["metric"] == next(iter(COLUMNS)):
            parts = [([run.evaluation(row["threshold"]) for run in runs[label]], sign) for label, sign in signs.items()]
            beyond = contrast(parts, groups=VISITS[row["visits"]])
        interval = beyond[row["metric"]]
        change = {"delta": interval.value, "delta_low": interval.low, "delta_high": interval.high}
        found.append(row | dict.fromkeys(("low", "high")) | change)
    return pl.DataFrame(found, schema=full.schema).with_columns(pl.selectors.float().fill_nan(None).round(6))


def _scored(evaluation: Evaluation, groups: Sequence[str]) -> bool:
    return evaluation.per_patient["group"].is_in(list(groups)).any()


def _costs(row: Row, runs: list[Run]) -> pl.DataFrame:
    histories = [run.history for run in runs if len(run.history)]
    frame = pl.DataFrame(
        {
            "label": [row.label],
            "seeds": [len(runs)],
            "parameters": [sum(v.size for v in runs[0].state().values())],
            "epochs": [_median([len(h) for h in histories])],
            "best_epoch": [_median([run.metrics["best_epoch"] for run in runs if len(run.history)])],
            "validation": [_chosen(runs)],
            "seconds_per_epoch": [_median([h["seconds"].median() for h in histories])],
            "seconds": [_median([run.environment["wall_seconds"] for run in runs])],
            "peak_mib": [_median([run.environment["peak_memory_mib"] for run in runs])],
        },
        schema_overrides=dict.fromkeys(
            ("epochs", "best_epoch", "validation", "seconds_per_epoch", "seconds", "peak_mib"), pl.Float64
        ),
    )
    rounded = pl.selectors.float() - pl.selectors.by_name("validation")
    return frame.with_columns(rounded.round(2), pl.col("validation").round(6))


def _chosen(runs: list[Run]) -> float | None:
    """Validation Jaccard, mean over seeds: of the epochs that were kept, or at an estimator's tuned threshold."""
    found = [
        run.history.filter(epoch=run.metrics["best_epoch"])["jaccard"].item()
        if len(run.history)
        else run.metrics["tuned"].get("validation")
        for run in runs
    ]
    return float(pl.Series(found).mean()) if None not in found else None


def _median(values: list[float]) -> float | None:
    return float(pl.Series(values).median()) if values else None


# -- kept rows -----------------------------------------------------------------------------------------------------


def folder(source: str) -> Path:
    """Where rows are kept: in the checkout, or beside the runs for credentialed records."""
    if source == "credentialed":
        return paths.runs_dir() / "grids"
    return paths.base_dir() / "results" / "grids"


def _place(grid: str, cohort: str, source: str) -> Path:
    return folder(source) / f"{grid}-{cohort}"


def keep(grid: Grid, source: str) -> Path:
    """Write the rows of a grid; a folder is whole or not there."""
    place = _place(grid.name, grid.cohort, source)
    with atomic_folder(place, what="the rows of a grid") as tmp:
        grid.scores.write_csv(tmp / "scores.csv")
        grid.costs.write_csv(tmp / "costs.csv")
        (tmp / "provenance.json").write_text(json.dumps(grid.provenance, indent=2, sort_keys=True) + "\n")
    return place


def read(grid: str, cohort: str, source: str = "synthetic") -> Grid:
    """Rows that were kept.

    Raises:
        MedrecError: there are none for this cohort; the message says what makes them.
    """
    place = _place(grid, cohort, source)
    if not (place / "scores.csv").exists():
        raise MedrecError(
            f"No rows of grid {grid!r} are kept for cohort {cohort!r}. Make them with "
            f"`python -m medrec.experiments.grids {grid} --cohort {cohort}`."
        )
    return Grid(
        grid,
        cohort,
        pl.read_csv(place / "scores.csv", schema_overrides={"knob": pl.String, "setting": pl.Float64}),
        pl.read_csv(place / "costs.csv"),
        json.loads((place / "provenance.json").read_text()),
    )


def read_or_default(grid: str, cohort: str, source: str, *, default: str = "synthetic") -> Grid:
    """Rows that were kept for this cohort, and where there are none those of a synthetic one.

    Args:
        grid: its name.
        cohort: name of the cohort that is asked for.
        source: its source.
        default: the synthetic cohort whose rows come with the book; ``Grid.cohort`` tells whose rows came.

    Raises:
        MedrecError: there are none for the default either.
    """
    kept = (_place(grid, cohort, source) / "scores.csv").exists()
    return read(grid, cohort, source) if kept else read(grid, default)


def epochs_file() -> Path:
    """Where ``benchmarks/epochs.py --keep`` writes the seconds and the memory of one epoch of each system."""
    return paths.base_dir() / "results" / "epochs" / "epochs.csv"


def epoch_alone(system: str) -> dict[str, Any]:
    """Seconds, peak memory and budgets of one epoch at 6 350 patients, with nothing else on the machine.

    Args:
        system: label of the system.

    Raises:
        MedrecError: it was not measured.
    """
    found = pl.read_csv(epochs_file()).filter(system=system) if epochs_file().exists() else pl.DataFrame()
    if found.is_empty():
        raise MedrecError(f"No epoch of {system} was measured. Run `python benchmarks/epochs.py --keep`.")
    return found.row(0, named=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, write the rows."""
    parser = argparse.ArgumentParser(prog="python -m medrec.experiments.grids", description="Grids of trainings.")
    parser.add_argument("grid", choices=list(GRIDS), help="which grid")
    parser.add_argument("--cohort", default="synthetic", help="as load_cohort knows it; default synthetic")
    parser.add_argument("--seeds", type=int, default=5, help="training seeds of the networks; default 5")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once; default 1")
    options = parser.parse_args(arguments)
    cohort = load_cohort(options.cohort)
    failed = [o for o in sweep(tasks(options.grid, cohort.name, options.seeds), jobs=options.jobs) if o.error]
    if failed:
        raise SystemExit("\n".join(f"{o.task}: {o.error}" for o in failed))
    print(keep(collect(options.grid, cohort, options.seeds), cohort.source))


if __name__ == "__main__":
    main()
