"""The family tree of systems by year, as one drawing that takes its colours of lines and letters from the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from medrec import paths
from medrec.book.generated import box
from medrec.models import registry
from medrec.models.base import System
from medrec.plotting import color

TASKS = {"visits": "sets for visits", "ranking": "lists for patients"}
"""What is recommended, by task."""
TRUNK, BRANCH, GUTTER, COLUMN = 10, 90, 190, 57
"""Where the names of tasks, of families, and the years begin, and the width of a year; pixels."""
TOP, LINE, GAP = 34, 28, 12
"""Height of the line of years, of a system, and between families."""


Lanes = dict[tuple[str, str], list[tuple[System, int | None]]]
"""Systems with the years of their papers, by task and family."""


def years() -> dict[str, int]:
    """Year of each entry of the bibliography, by its key."""
    text = (paths.base_dir() / "book" / "references.bib").read_text(encoding="utf-8")
    found = re.findall(r"^@\w+\{([\w-]+),(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    return {key: int(year[1]) for key, entry in found if (year := re.search(r"\byear *= *\{(\d{4})\}", entry))}


def lanes() -> Lanes:
    """In the order of the book; within a family by year."""
    dated = years()
    found: Lanes = {}
    for task in TASKS:
        for system in registry.systems(task):
            found.setdefault((task, system.family), []).append((system, dated.get(system.citation)))
    return {lane: sorted(members, key=lambda member: member[1] or 0) for lane, members in found.items()}


def figure() -> str:
    """The tree in a box that scrolls, and the same in words for whoever does not see it."""
    found = lanes()
    known = sorted({year for members in found.values() for _, year in members if year})
    return box(_svg(found, known), "Family tree of the systems")


def description() -> str:
    """Every family with its systems and their years."""
    parts = []
    for (task, family), members in lanes().items():
        names = ", ".join(
            f"{system.label} {year}" if year else f"{system.label} (no paper)" for system, year in members
        )
        parts.append(f"{TASKS[task]}, {family}: {names}.")
    return " ".join(parts)


def _svg(found: Lanes, known: Sequence[int]) -> str:
    columns: list[int | None] = [None, *known]
    x = {year: GUTTER + COLUMN * (place + 0.5) for place, year in enumerate(columns)}
    y: float = TOP
    lines, words, dots = [], [_text(x[year], 16, str(year or "no paper"), "middle") for year in columns], []
    branches: dict[str, list[float]] = {}
    for (task, family), members in found.items():
        branches.setdefault(task, []).append(y)
        words.append(_text(BRANCH + 14, y + 4, family, "start"))
        lines.append(f"M {BRANCH} {y} h 10")
        rows: dict[int | None, int] = {}
        for system, year in members:
            row = rows[year] = rows.get(year, -1) + 1  # a second system of a year stands below the first
            at = y + LINE * row
            lines.append(f"M {GUTTER - 12} {y} V {at} H {x[year]:g}")
            dots.append(f'<circle cx="{x[year]:g}" cy="{at:g}" r="5" fill="{color(system.name)}"/>')
            words.append(_text(x[year], at + 17, system.label, "middle", "system"))
        y += LINE * (1 + max(rows.values())) + GAP
    ends = [height for heights in branches.values() for height in heights]
    root = (min(ends) + max(ends)) / 2
    for task, heights in branches.items():
        middle = (heights[0] + heights[-1]) / 2
        lines.append(f"M {BRANCH} {heights[0]} V {heights[-1]} M {TRUNK} {root} V {middle} H {BRANCH}")
        kind, _, whose = TASKS[task].partition(" ")
        words += [_text(TRUNK + 6, middle - 6, kind, "start"), _text(TRUNK + 6, middle + 16, whose, "start")]
    width, title = GUTTER + COLUMN * len(columns) + 6, f"{sum(map(len, found.values()))} systems by family and year"
    return (
        f'<svg class="medrec-tree" role="img" aria-labelledby="tree-title tree-words" viewBox="0 0 {width} {y:g}" '
        f'width="{width}" height="{y:g}" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="tree-title">{escape(title)}</title><desc id="tree-words">{escape(description())}</desc>'
        f'<path class="medrec-tree-lines" d="{" ".join(lines)}"/>{"".join(dots)}{"".join(words)}</svg>'
    )


def _text(x: float, y: float, words: str, anchor: str, kind: str = "axis") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'
