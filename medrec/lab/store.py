"""What is in the run store: which trainings, how good, how large, and whether today's code would make them."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from medrec import paths
from medrec.progress import bar
from medrec.runs import Run, all_runs
from medrec.tasks.ranking import COLUMNS as RANKING_COLUMNS
from medrec.tasks.ranking import SELECTION

CURRENT = "current"
SCHEMA = {
    "key": pl.String,
    "cohort": pl.String,
    "system": pl.String,
    "variant": pl.String,
    "seed": pl.Int64,
    "metric": pl.String,
    "score": pl.Float64,
    "made": pl.String,
    "code": pl.String,
    "mib": pl.Float64,
}


def overview(*, stale: bool = False) -> pl.DataFrame:
    """One row for each whole run, in the order of names.

    Args:
        stale: only those that today's code would train anew.

    Returns:
        ``key`` of the content, ``cohort``, ``system``, ``variant`` and ``seed`` as the folders are called, ``metric``
        and ``score`` of the test patients (tuned threshold), ``made`` (local time), ``code`` (``"current"``, or
        ``"stale: "`` and the modules that changed), ``mib`` on disk.
    """
    rows = [_row(run) for run in bar(all_runs(), desc="runs", unit="run")]
    found = pl.DataFrame(rows, schema=SCHEMA)
    return found.filter(pl.col("code") != CURRENT) if stale else found


def text(rows: pl.DataFrame) -> str:
    """The rows of :func:`overview` for the terminal, and what they sum to."""
    if rows.is_empty():
        return f"No such run is in the store, {paths.runs_dir()}. `medrec train` and `medrec sweep` make runs."
    cells = [["key", "cohort", "system", "variant", "seed", "score", "made", "MiB", "code"]]
    cells += [
        [
            row["key"],
            row["cohort"],
            row["system"],
            row["variant"],
            str(row["seed"]),
            "-" if row["score"] is None else f"{row['score']:.3f} {row['metric']}",
            row["made"],
            f"{row['mib']:.1f}",
            row["code"],
        ]
        for row in rows.iter_rows(named=True)
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    n_stale = rows.filter(pl.col("code") != CURRENT).height
    lines.append(f"{rows.height} runs, {n_stale} of them stale, {rows['mib'].sum():.0f} MiB in {paths.runs_dir()}")
    return "\n".join(lines)


def _row(run: Run) -> dict[str, object]:
    cohort, system, variant, _ = run.key.split("/")
    files = [path.stat() for path in run.folder.iterdir() if path.is_file()]
    made = max(file.st_mtime for file in files)
    changed, tuned = run.changed_code, run.metrics["tuned"]
    ranks = run.config["task"] == "ranking"
    return {
        "key": run.content_key,
        "cohort": cohort,
        "system": system,
        "variant": variant,
        "seed": run.config["seed"],
        "metric": RANKING_COLUMNS[SELECTION] if ranks else "Jaccard",
        "score": tuned[SELECTION if ranks else "jaccard"],
        "made": datetime.fromtimestamp(made).isoformat(" ", "minutes"),
        "code": f"stale: {', '.join(name.removeprefix('medrec.') for name in changed)}" if changed else CURRENT,
        "mib": sum(file.st_size for file in files) / 2**20,
    }
