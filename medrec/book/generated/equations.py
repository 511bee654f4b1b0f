"""The index of equations: where each numbered equation of the papers is computed, checked and explained.

``equations.csv`` beside this file has a line for each equation; its tests hold it against the package, the tests and
the chapters.  DiffKG's own paper was not at hand, and the study that uses it prints its formulas without numbers: they
are counted as :mod:`medrec.models.diffkg` counts them.
"""

from __future__ import annotations

import csv
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from medrec.book.chapters import all_chapters, read_source
from medrec.book.generated import box, table

FILE = Path(__file__).with_name("equations.csv")
PAPERS: Mapping[str, tuple[str, str]] = {
    "BiMoRec": ("mu2024bimorec", "numbers as printed"),
    "NLA-MMR": ("tan2024nlammr", "numbers as printed"),
    "DiffKG on MIMIC": ("zhao2024diffkg", "numbers as printed; only the measures have any"),
    "DiffKG": (
        "jiang2024diffkg",
        "as {cite:t}`zhao2024diffkg` prints them, without numbers; counted as {py:mod}`medrec.models.diffkg` counts "
        "them",
    ),
}
"""Key in the bibliography and a word on the numbers, by the name of the paper."""
LABEL = re.compile(r"^# \$\$ \(([\w-]+)\)$", re.MULTILINE)
"""Of an equation in the source of a chapter."""


@dataclass(frozen=True)
class Equation:
    """A numbered equation of a paper; what is empty is missing.

    Args:
        paper: one of :data:`PAPERS`.
        number: in the paper.
        what: it says, in a few words.
        where: function, class or method of the package.
        test: file and function.
        label: of an equation of a chapter.
        note: why something is missing.
    """

    paper: str
    number: int
    what: str
    where: str
    test: str
    label: str
    note: str

    @property
    def missing(self) -> tuple[str, ...]:
        """What there is none of."""
        parts = {"code": self.where, "test": self.test, "chapter": self.label}
        return tuple(name for name, value in parts.items() if not value)


def index() -> list[Equation]:
    """All equations, in the order of the file."""
    with FILE.open(encoding="utf-8", newline="") as file:
        head, *lines = csv.reader(file)
    texts = (dict(zip(head, line, strict=True)) for line in lines)
    return [Equation(number=int(text.pop("number")), **text) for text in texts]


@cache
def chapter_of_label() -> Mapping[str, str]:
    """Name of the chapter that has an equation, by its label."""
    return {label: source.stem for source in all_chapters() for label in LABEL.findall(read_source(source))}


def tables() -> str:
    """A table for each paper, and what is missing."""
    parts = []
    equations = index()
    for paper, (citation, numbers) in PAPERS.items():
        own = [equation for equation in equations if equation.paper == paper]
        head = ("Number", "What it says", "Code", "Chapter", "Equation", "Test")
        body = table(head, [_row(equation) for equation in own])
        box_ = box(body, f"Equations of {paper}")
        parts.append(f"## {paper}\n\n{{cite:t}}`{citation}`: {numbers}.\n\n{box_}")
    parts.append(f"## What is missing\n\n{_missing(equations)}")
    return "\n\n".join(parts)


def _row(equation: Equation) -> tuple[str, ...]:
    chapter = chapter_of_label().get(equation.label, "")
    return (
        f"({equation.number})",
        equation.what,
        f"{{py:{_role(equation.where)}}}`{_short(equation.where)} <{equation.where}>`" if equation.where else "missing",
        f"{{doc}}`{int(chapter[:2])} <chapters/{chapter}>`" if chapter else "missing",
        f"{{eq}}`{equation.label}`" if chapter else "missing",
        f"`{equation.test.replace('tests/', '', 1)}`" if equation.test else "missing",
    )


def _missing(equations: list[Equation]) -> str:
    lines = []
    for equation in equations:
        if equation.missing:
            why = f": {equation.note}" if equation.note else ""
            lines.append(
                f"- {equation.paper} ({equation.number}), {equation.what}: no {', no '.join(equation.missing)}{why}."
            )
    return "\n".join(lines) or "Nothing."


# -- what the index names ----------------------------------------------------------------------------------------------


def find(where: str) -> tuple[ModuleType, Any]:
    """Module and object of a dotted name.

    Raises:
        AttributeError: the module has no such object.
        ModuleNotFoundError: there is no such module.
    """
    parts = where.split(".")
    # Names of classes begin with a capital letter; what stands before the first, or before a function, is a module.
    depth = next((i for i, part in enumerate(parts) if part[:1].isupper()), len(parts) - 1)
    module = import_module(".".join(parts[:depth]))
    found: Any = module
    for part in parts[depth:]:
        found = getattr(found, part)
    return module, found


def _role(where: str) -> str:
    _, found = find(where)
    if inspect.isclass(found):
        return "class"
    return "meth" if where.split(".")[-2][:1].isupper() else "func"


def _short(where: str) -> str:
    parts = where.split(".")
    return ".".join(parts[-2:]) if parts[-2][:1].isupper() else parts[-1]
