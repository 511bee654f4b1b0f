"""What a graphics card does with the same work: its tests, an epoch of every network, as much of the table as fits.

``python benchmarks/gpu.py`` does it in the minutes that it is given and keeps the rows as they come, so that a script
that is killed leaves whole tables.  Here stands what decides: in which order trainings are made, and which is
not begun.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from medrec.data.cohort import Cohort
from medrec.data.split import split_patients
from medrec.lab import kept
from medrec.lab.sweep import USUAL, Entry, duration
from medrec.models import registry
from medrec.types import MedrecError

STUDY = "gpu"
COHORT = "synthetic-6350"
COMMAND = "python benchmarks/gpu.py"
GRID = "bimorec-table2"
"""Whose trainings are made, with seed 0."""
LEAST = 60.0
"""Seconds that must be left for an epoch to be measured."""
MARGIN = 2.0
"""By how much a training may last longer than its estimate: then it takes all the epochs that it is allowed."""
FITS = {"ecc": 600.0}
"""Seconds of a fit that is known to take long; a fit needs no card."""
FIT = 60.0
"""Seconds of any other fit."""
TYPES: Mapping[str, Mapping[str, Any]] = {
    "tests": {"test": pl.String, "outcome": pl.String, "seconds": pl.Float64},
    "epochs": {
        "system": pl.String,
        "task": pl.String,
        "seconds": pl.Float64,
        "steps": pl.Int64,
        "batch_size": pl.Int64,
        "device_peak_mib": pl.Float64,
        "left_out": pl.String,
    },
    "trainings": {
        "key": pl.String,
        "label": pl.String,
        "estimate": pl.Float64,
        "seconds": pl.Float64,
        "epochs": pl.Int64,
        "converged": pl.Boolean,
        "validation_jaccard": pl.Float64,
        "validation_ddi_rate": pl.Float64,
        "test_jaccard": pl.Float64,
        "test_ddi_rate": pl.Float64,
        "left_out": pl.String,
    },
}
"""Columns of each table, in their order; ``left_out`` says why there is no number."""


@dataclass(frozen=True)
class Clock:
    """How much time is left.

    Args:
        seconds: in all.
        now: gives seconds from some moment on.
    """

    seconds: float
    now: Callable[[], float] = time.perf_counter
    began: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "began", self.now())

    @property
    def taken(self) -> float:
        """Seconds since it was made."""
        return self.now() - self.began

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.seconds - self.taken


def in_order(entries: Sequence[Entry], measured: Mapping[str, float], cohort: Cohort) -> list[Entry]:
    """Trainings with estimates for this device, the cheapest first; those without an estimate come last.

    The rule is that of :mod:`medrec.lab.sweep`, the usual share of the epochs that are allowed, with the seconds of
    an epoch as measured here in the place of those that the system declares.  Earlier runs in the store do not count:
    they may be of another device.

    Args:
        entries: of :func:`medrec.lab.sweep.look`.
        measured: seconds of an epoch by system.
        cohort: of the trainings.
    """
    found, n_train = [], len(split_patients(cohort.n_patients, 0).train)
    for entry in entries:
        row = entry.training.row
        system = registry.get(row.system)
        seconds: float | None = None
        if not system.is_network:
            seconds = FITS.get(system.name, FIT)
        elif system.name in measured:
            config = system.configure(row.variant, row.settings, n_train=n_train)
            seconds = measured[system.name] * float(config.epochs) * USUAL
        found.append(replace(entry, seconds=seconds))
    return sorted(found, key=lambda entry: float("inf") if entry.seconds is None else entry.seconds)


def refused(entry: Entry, clock: Clock) -> str:
    """Why a training is not begun; empty where it is.

    One that is in the store is not trained again, and has its row whatever the time.
    """
    if entry.done or entry.error:
        return entry.error
    if entry.seconds is None:
        return "no epoch of it was measured"
    if MARGIN * entry.seconds > clock.left:
        return f"up to {duration(MARGIN * entry.seconds)} were needed, {duration(max(clock.left, 0))} were left"
    return ""


def trained(
    entries: Sequence[Entry], clock: Clock, make: Callable[[Entry], Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """A row of ``trainings`` for each entry, as soon as it is there.

    Args:
        entries: of :func:`in_order`.
        clock: of the script.
        make: trains one, and says what came of it; one that fails does not stop the others.
    """
    for entry in entries:
        row = {"key": entry.training.row.key, "label": entry.training.row.label, "estimate": entry.seconds}
        why, found = refused(entry, clock), {}
        if not why:
            try:
                found = dict(make(entry))
            except (MedrecError, RuntimeError) as error:  # the card's memory is full, or it cannot do an operation
                why = first_line(error)
        yield {**row, **found, "left_out": why}


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def tables(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, pl.DataFrame]:
    """All tables with all their columns; one of which nothing is known yet is empty."""
    return {name: pl.DataFrame(list(rows.get(name, ())), schema=dict(schema)) for name, schema in TYPES.items()}


def keep(
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    cohort: Cohort,
    *,
    systems: Sequence[str],
    device: str,
    seconds: float,
    minutes: float,
    about: Mapping[str, Any],
) -> Path:
    """Write what there is so far, in the place of what was written before.

    Args:
        rows: by table.
        cohort: whose.
        systems: ``system/variant`` of all that was measured.
        device: as PyTorch calls it.
        seconds: since the beginning.
        minutes: that the script was given.
        about: the device, its driver, CUDA and PyTorch.
    """
    return kept.save(
        STUDY,
        tables(rows),
        cohort=cohort,
        command=f"{COMMAND} --cohort {cohort.name} --minutes {minutes:g}",
        # No system is named as trained: a change that leaves its numbers alone may still cost time.
        code=kept.code_of("medrec.experiments.gpu", "metrics", "tasks", systems=systems),
        seconds=seconds,
        device=device,
        more={"minutes": minutes, "about": dict(about)},
    )


def read(cohort: Cohort | str | None = None) -> kept.Kept:
    """The kept tables ``tests``, ``epochs`` and ``trainings`` (:data:`TYPES`).

    Args:
        cohort: whose; where there are none, those of :data:`COHORT`.

    Raises:
        NotKeptError: there are neither.
    """
    return kept.read(STUDY, cohort or COHORT, default=COHORT, command=COMMAND)
