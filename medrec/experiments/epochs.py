"""Seconds and memory of one training epoch of each system, with nothing else on the machine.

``python benchmarks/epochs.py --keep`` measures all systems at 6 350 patients and keeps the rows; chapters show them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from medrec.data.cohort import Cohort
from medrec.lab import kept
from medrec.types import MedrecError

STUDY = "epochs"
COHORT = "synthetic-6350"
COMMAND = "python benchmarks/epochs.py --keep"


def keep(rows: Sequence[Mapping[str, Any]], cohort: Cohort, systems: Sequence[str], seconds: float) -> Path:
    """Write what was measured.

    Args:
        rows: one for each system.
        cohort: :data:`COHORT`.
        systems: ``system/variant`` of all of them.
        seconds: that the measuring took.
    """
    return kept.save(
        STUDY,
        {"epochs": pl.DataFrame(rows, infer_schema_length=None).sort("system")},
        cohort=cohort,
        command=COMMAND,
        # No system is named as trained: a change that leaves its numbers alone may still cost time.
        code=kept.code_of("medrec.experiments.epochs", systems=systems),
        seconds=seconds,
    )


def read() -> kept.Kept:
    """The kept table ``epochs``.

    Returns:
        It has ``system`` (label), ``of`` (an epoch or a fit), ``seconds``, ``budget_seconds``, ``peak_mib``,
        ``budget_mib``, ``batch_size``, ``threads``, ``cores``, ``torch``.
    """
    return kept.read(STUDY, COHORT, command=COMMAND)


def alone(system: str) -> dict[str, Any]:
    """The row of one system.

    Args:
        system: label of the system.

    Raises:
        MedrecError: it was not measured.
    """
    found = read().table("epochs").filter(system=system)
    if found.is_empty():
        raise MedrecError(f"No epoch of {system} was measured. Run `{COMMAND}`.")
    return found.row(0, named=True)
