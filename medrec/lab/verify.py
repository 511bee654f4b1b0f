"""Train one kept row again and hold it against what is kept."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl

from medrec.arguments import checked_device, near
from medrec.data import load_cohort
from medrec.lab import grids
from medrec.lab.collect import scores_of
from medrec.lab.grids import USUAL
from medrec.lab.rows import rows_of
from medrec.models import registry
from medrec.training import train
from medrec.types import MedrecError

TOLERANCE = 1e-5
"""Kept numbers have six decimals."""


def verify(name: str, key: str | None = None, *, device: str = "cpu") -> pl.DataFrame:
    """Train one row of a kept grid in an empty run store, and compare the columns of its task.

    Args:
        name: as ``medrec kept`` lists it, e.g. ``"grids/retain/synthetic"``.
        key: of the row; by default the one that took least time.
        device: of the trainings.

    Returns:
        ``key``, ``threshold`` (of rankers ``protocol``), ``metric``, ``kept``, ``now``, ``same``; all visits that the
        system scores.

    Raises:
        MedrecError: no such grid or row is kept, or the training fails.
    """
    checked_device(device)
    study, _, rest = name.partition("/")
    grid, _, cohort_name = rest.partition("/")
    if study != "grids" or not cohort_name:
        raise MedrecError(
            f"{name!r} names no kept grid. Grids are listed by `medrec kept` as grids/GRID/COHORT; "
            "for other studies run the command that its provenance.json names."
        )
    found = grids.read(grid, cohort_name)
    rows = {row.key: row for row in rows_of(grid)}
    if key is None:
        known = found.costs.filter(pl.col("key").is_in(list(rows))).sort("seconds", nulls_last=True)
        if known.is_empty():
            raise MedrecError(f"None of the rows that are kept of {name} stands in today's grid {grid!r}.")
        key = known["key"][0]
    if key not in rows:
        raise MedrecError(f"Grid {grid!r} has no row {key!r}.{near(key, rows)} It has {', '.join(rows)}.")
    row, cohort = rows[key], load_cohort(cohort_name)
    with _empty_store():
        runs = [
            train(row.system, cohort, variant=row.variant, settings=row.settings, seed=seed, device=device)
            for seed in registry.get(row.system).seeds(found.provenance["seeds"])
        ]
        now = scores_of(row, runs, runs, cohort, found.task)
    place = [name for name in USUAL[found.task] if name != "visits"]
    chosen = list(USUAL[found.task])
    kept = found.scores.filter(key=key).select(*chosen, kept="value")
    both = kept.join(now.select(*chosen, now="value"), on=chosen, how="full", coalesce=True, maintain_order="left")
    if "visits" in both.columns:  # all visits, or the later ones of a system that skips first visits
        both = both.filter(visits=both["visits"][0])
    return both.with_columns(
        key=pl.lit(key), same=(pl.col("kept") - pl.col("now")).abs().fill_null(0) < TOLERANCE
    ).select("key", *place, "kept", "now", "same")


@contextmanager
def _empty_store() -> Iterator[None]:
    before = os.environ.get("MEDREC_RUNS_DIR")
    with tempfile.TemporaryDirectory(prefix="medrec-") as folder:
        os.environ["MEDREC_RUNS_DIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["MEDREC_RUNS_DIR"]
            else:
                os.environ["MEDREC_RUNS_DIR"] = before
