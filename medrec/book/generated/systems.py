"""The table of systems: what each declares, where the book explains it, and what kept rows say of its training."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrec.book.chapters import all_chapters, read_source
from medrec.book.generated import box
from medrec.book.generated import table as written
from medrec.book.generated.tree import years
from medrec.book.page import thousands
from medrec.lab import grids, kept, published
from medrec.lab.rows import declared
from medrec.models import registry
from medrec.models.base import System

COMPARISONS = (("bimorec", 2), ("nlammr", 2), ("diffkg", 3))
"""Paper and number of each printed comparison, see :func:`medrec.lab.published.table`."""
SKIPPED = "skips first visits"
"""How a system for visits says that it cannot do without a past."""
HEAD = (
    "System",
    "Paper",
    "Year",
    "Task",
    "Family",
    "Sees",
    "First visit",
    "Chapter",
    "Formulas",
    "Variants",
    "Parameters",
    "Seconds per epoch",
    "Budget",
    "Trained",
    "Rows of",
    "Compared by",
)


def table() -> str:
    """One row a system of the registry, in the order of the book; readers can sort it."""
    sources = {source.stem: read_source(source) for source in all_chapters()}
    found, dated = kept_rows(), years()
    rows = [_row(system, dated, chapter_of(system, sources), found.get(system.name)) for system in registry.systems()]
    return box(written(HEAD, rows), "Systems", sortable=True)


def _row(system: System, dated: Mapping[str, int], chapter: str | None, row: KeptRow | None) -> list[str]:
    seconds = row and row.cost["seconds_per_epoch"]
    return [
        f"{{py:mod}}`{system.label} <{system.module}>`",
        f"{{cite:t}}`{system.citation}`" if system.citation else "",
        str(dated.get(system.citation, "")),
        system.task,
        system.family,
        system.sees.partition(";")[0],
        first_visit(system),
        f"{{doc}}`{int(chapter[:2])} <chapters/{chapter}>`" if chapter else "",
        str(formulas(system) or ""),
        _some(list(system.variants)),
        thousands(row.cost["parameters"]) if row and row.cost["parameters"] is not None else "",
        f"{seconds:.2g}" if seconds else "",
        "" if system.seconds_per_epoch is None else f"{system.seconds_per_epoch:g}",
        row.trained if row else "no row kept",
        f"{row.cohort}, {row.status}" if row else "",
        ", ".join(comparing(system)),
    ]


def _some(names: list[str], most: int = 3) -> str:
    """The first of a list of names, and how many more there are."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def first_visit(system: System) -> str:
    """What a system says of a first visit, as its paper's variant."""
    if system.task == "ranking" or SKIPPED in system.sees:
        return "left out: no past"
    return "scored, by today's codes" if system.sees_today(system.config()) else "scored, the same for everybody"


def comparing(system: System) -> list[str]:
    """Papers of the book that print numbers of a system."""
    tables = (published.table(paper, number) for paper, number in COMPARISONS)
    return [str(table["paper"][0]) for table in tables if system.label in table["system"].to_list()]


def chapter_of(system: System, sources: Mapping[str, str]) -> str | None:
    """Name of the chapter that explains a system: the first whose text or code names its module.

    Args:
        system: of the registry.
        sources: texts of the chapters by name, in their order.
    """
    named = re.compile(rf"\b{re.escape(system.module)}\b")
    return next((name for name, text in sources.items() if named.search(text)), None)


def formulas(system: System) -> int:
    """Lines of displayed formulas in the docstrings of a system's module."""
    tree = ast.parse(Path(inspect.getfile(system.cls)).read_text(encoding="utf-8"))
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
    return sum(map(_lines_of_formulas, texts))


def _lines_of_formulas(text: str) -> int:
    """In the ``.. math::`` blocks of a docstring; a line ends where TeX's does, at the end of a line of text."""
    count, indent = 0, -1
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        if line.strip().startswith(".. math::"):
            count, indent = count + 1, depth
        elif line.strip() and depth <= indent:
            indent = -1
        elif indent >= 0 and line.rstrip().endswith("\\\\"):
            count += 1
    return count


# -- kept rows ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KeptRow:
    """What is kept of a system as its paper has it, with the settings of the book.

    Args:
        cohort: whose rows.
        patients: test patients.
        cost: row of :attr:`medrec.lab.grids.Grid.costs`.
        trained: ``"yes"``, or why the row bears no verdict.
        status: whether today's code would make the same row.
    """

    cohort: str
    patients: int
    cost: Mapping[str, Any]
    trained: str
    status: str


def kept_rows() -> dict[str, KeptRow]:
    """By name of the system, the row with the most test patients; of equals one of today's code."""
    found: dict[str, KeptRow] = {}
    for rows in kept.all_kept():
        study, name = rows.study.partition("/")[::2]
        if study != "grids" or rows.cohort is None or rows.source == "credentialed":
            continue
        plain = [row for row in declared(name).rows if row.variant == "paper" and not row.settings]
        if not plain:
            continue
        grid = grids.read(name, rows.cohort, str(rows.source))
        for row in plain:
            one = _kept_row(grid, row.key)
            if one and (row.system not in found or _rank(one) > _rank(found[row.system])):
                found[row.system] = one
    return found


def _rank(row: KeptRow) -> tuple[int, bool]:
    return row.patients, row.status == kept.CURRENT


def _kept_row(grid: grids.Grid, key: str) -> KeptRow | None:
    cost = grid.costs.filter(key=key)
    if cost.is_empty():
        return None
    recorded = "converged" in cost.columns and cost["converged"][0] is not None
    reason = grid.not_learnt(key)
    trained = f"no: {reason}" if reason else "yes"
    return KeptRow(
        grid.cohort,
        grid.n_patients,
        cost.row(0, named=True),
        trained if recorded else "not recorded",
        grid.note or kept.CURRENT,
    )
