"""Rows of the reader's own records: with ``profile full`` they are made before a chapter that shows them is executed.

A chapter says in the header of its source which kept rows it shows of the cohort that it is given:

.. code-block:: yaml

    jupyter:
      medrec:
        rows: [bimorec-table2, rates]     # grids, and studies of medrec.experiments that take a cohort

In profile ``quick``, and for the synthetic cohorts of the book, whose rows come with it, nothing is trained.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from medrec.types import MedrecError

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from medrec.data.cohort import Cohort


def rows_of(notebook: NotebookNode) -> tuple[str, ...]:
    """Names of the kept rows that a chapter says it shows."""
    return tuple(notebook.metadata.get("medrec", {}).get("rows", ()))


def make(notebook: NotebookNode, values: Mapping[str, Any]) -> None:
    """Train what the run store lacks for the rows that a chapter shows of these records, and keep them.

    Says first how long it will take.  Broken off at any moment and started again, it goes on where it was.

    Args:
        notebook: the chapter.
        values: its parameters, those that have their default among them.

    Raises:
        MedrecError: no such cohort, or a training failed; those that were finished are in the run store.
    """
    from medrec.data import load_cohort
    from medrec.data.load import CONTROLS, LAYOUTS
    from medrec.lab.grids import SEEDS
    from medrec.lab.rows import grid_names

    name = str(values.get("cohort", ""))
    size, _, control = name.partition("+")
    if values.get("profile") != "full" or not name or (size in LAYOUTS and control in ("", *CONTROLS)):
        return
    wanted = rows_of(notebook)
    if not wanted:
        return
    cohort, device = load_cohort(name), str(values.get("device", "cpu"))
    if grids := [row for row in wanted if row in grid_names()]:
        _sweep(grids, cohort, device)
    for study in [row for row in wanted if row not in grid_names()]:
        import_module(f"medrec.experiments.{study}").main(["--cohort", name, "--seeds", str(SEEDS)])


def _sweep(grids: list[str], cohort: Cohort, device: str) -> None:
    from medrec.lab import sweep
    from medrec.lab.grids import SEEDS

    searched = sweep.searched(grids, cohort)  # settings of the book's records need not suit these
    wanted = sweep.trainings(grids, cohort, seeds=SEEDS, searched=searched)
    entries = sweep.look(wanted)
    print(sweep.summary(entries), file=sys.stderr, flush=True)
    outcomes = sweep.carry_out(entries, device=device)
    if failed := sweep.failures(outcomes):
        raise MedrecError(f"{len(failed)} of {len(outcomes)} trainings failed. " + " ".join(failed))
    for folder in sweep.keep_rows(wanted, SEEDS, device=device, searched=searched):
        print(folder, file=sys.stderr, flush=True)
