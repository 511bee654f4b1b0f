"""How long chapters take and how hard exercises are, for instructors: counted in the sources, never typed.

Minutes of a section are its words at :data:`WORDS_A_MINUTE`, the lines of code that stand open on the page at
:data:`LINES_A_MINUTE`, and :data:`FIGURE_MINUTES` for each figure. Exercises are counted apart, by their marks, which
people gave and ``book/exercises.csv`` keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from medrec import paths
from medrec.book.chapters import all_chapters, read_chapter, tags

WORDS_A_MINUTE = 130
"""Of prose with formulas, read to be understood: slower than a novel (some 240), faster than a proof."""
LINES_A_MINUTE = 12
"""Of code that stands open on the page."""
FIGURE_MINUTES = 1.0
MARK_MINUTES = {1: 3, 2: 8, 3: 20}
"""Marks of an exercise → minutes without the solution."""
MARKS = {1: "one mark", 2: "two marks", 3: "three marks"}
OPENING = "Opening"
"""What stands before the first heading of a section."""

FENCE = re.compile(r"^(`{3,}|:{3,})(?:\{([\w:-]+)\})?(.*)$")
HEADING = re.compile(r"^(#{1,3}) (.+)$")
LABEL = re.compile(r"^:(?:label|name): *(\S+)$")
ROLE = re.compile(r"\{[\w:-]+\}`([^`]*)`")
WORD = re.compile(r"\w[\w'’.,-]*")
PICTURE = re.compile(r"\b(plt\.(subplots|figure|show)|sns\.\w+|plot_\w+)\(|molecule3d\(")


def exercises_file() -> Path:
    """Table of marks: chapter, label, marks."""
    return paths.base_dir() / "book" / "exercises.csv"


@dataclass
class Section:
    """One section of a chapter, up to the next heading of its level.

    Args:
        title: its heading.
        words: of prose, without solutions.
        lines: of code that stands open.
        figures: how many.
        exercises: labels of its exercises.
    """

    title: str
    words: int
    lines: int
    figures: int
    exercises: list[str]

    @property
    def minutes(self) -> float:
        """Reading time, without exercises."""
        return self.words / WORDS_A_MINUTE + self.lines / LINES_A_MINUTE + self.figures * FIGURE_MINUTES


@dataclass(frozen=True)
class Outline:
    """What a chapter holds.

    Args:
        name: of its source, without ``.py``.
        title: its only first-level heading.
        sections: in their order.
        quiz: whether it ends with questions to answer in the head.
    """

    name: str
    title: str
    sections: tuple[Section, ...]
    quiz: bool

    @property
    def minutes(self) -> float:
        return sum(section.minutes for section in self.sections)

    @property
    def exercises(self) -> tuple[str, ...]:
        return tuple(label for section in self.sections for label in section.exercises)


def outline(source: Path) -> Outline:
    """Sections of a chapter with what there is to read in each."""
    title, quiz, inside = "", False, False
    sections = [Section(OPENING, 0, 0, 0, [])]
    for cell in read_chapter(source).cells:
        if cell.cell_type == "code":
            if not inside:
                _count_code(cell, sections[-1])
            continue
        for kind, text in _pieces(cell.source):
            if kind == "heading":
                level, _, words = text.partition(" ")
                title = words if level == "1" else title
                if level == "2":
                    sections.append(Section(words, 0, 0, 0, []))
                quiz = quiz or words.startswith("Quiz")
            elif kind == "solution-start":
                inside = True
            elif kind == "solution-end":
                inside = False
            elif inside or kind == "solution":
                continue
            elif kind == "exercise":
                sections[-1].exercises.append(text)
            elif kind == "quiz":
                quiz = True
            else:
                sections[-1].words += len(WORD.findall(text))
    return Outline(source.stem, title, tuple(sections), quiz)


def _count_code(cell: Any, section: Section) -> None:
    """Add what a reader sees of a code cell."""
    hidden = {"remove-cell", "remove-input", "hide-input"} & set(tags(cell))
    if "remove-cell" in hidden:
        return
    section.figures += bool(PICTURE.search(cell.source))
    if not hidden:
        section.lines += sum(bool(line.strip()) for line in cell.source.splitlines())


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """A Markdown cell as headings, exercises, solutions and lines of prose.

    Yields:
        ``("heading", "2 The title")``, ``("exercise", label)``, ``("solution", "")`` for lines inside of one,
        ``("solution-start", "")``, ``("solution-end", "")``, ``("quiz", title)``, ``("words", line)``; the words of an
        exercise count as words.
    """
    open_fences: list[tuple[str, str]] = []
    for line in text.split("\n"):
        fence = FENCE.match(line.strip())
        if fence and open_fences and fence[1].startswith(open_fences[-1][0]) and not fence[2] and not fence[3]:
            open_fences.pop()
            continue
        kinds = [kind for _, kind in open_fences]
        if fence:
            kind = fence[2] or "code"
            open_fences.append((fence[1], kind))
            if kind in ("solution-start", "solution-end"):
                yield kind, ""
            elif kind == "dropdown" and fence[3].strip().startswith("Quiz"):
                yield "quiz", fence[3].strip()
            elif kind in ("admonition", "dropdown") and "solution" not in kinds:
                yield "words", fence[3]
        elif "solution" in kinds or "solution-start" in kinds or "solution-end" in kinds:
            yield "solution", ""
        elif kinds and kinds[-1] in ("exercise", "exercise-start") and (label := LABEL.match(line.strip())):
            yield "exercise", label[1]
        elif not kinds and (heading := HEADING.match(line)):
            yield "heading", f"{len(heading[1])} {heading[2].strip()}"
        elif "code" not in kinds and not line.strip().startswith(":"):
            yield "words", ROLE.sub(lambda role: role[1].partition("<")[0], line)


@cache
def outlines() -> tuple[Outline, ...]:
    """All chapters, in the order of their numbers."""
    return tuple(outline(source) for source in all_chapters())


def marks() -> dict[str, int]:
    """Label of an exercise → its marks, from one to three."""
    table = pl.read_csv(
        exercises_file(), schema={"chapter": pl.String, "label": pl.String, "marks": pl.Int64}, glob=False
    )
    return dict(table.select("label", "marks").iter_rows())


def exercise_minutes(labels: Iterable[str]) -> int:
    """Minutes for these exercises, without their solutions."""
    known = marks()
    return sum(MARK_MINUTES[known[label]] for label in labels if label in known)


# -- parts of pages --------------------------------------------------------------------------------------------------


def chapters_table() -> str:
    """One row a chapter: minutes to read it, its exercises, minutes for these."""
    lines = ["| chapter | to read | exercises | to solve |", "|:--|--:|--:|--:|"]
    total = [0, 0, 0]
    for one in outlines():
        row = (round(one.minutes), len(one.exercises), exercise_minutes(one.exercises))
        total = [a + b for a, b in zip(total, row, strict=True)]
        lines.append(f"| {one.name[:2]} {{doc}}`chapters/{one.name}` | {row[0]} | {row[1]} | {row[2]} |")
    lines.append(f"| all {len(outlines())} chapters | {total[0]} | {total[1]} | {total[2]} |")
    return "\n".join(lines)


def sections_lists() -> str:
    """One folded box a chapter with the minutes of its sections."""
    boxes = []
    for one in outlines():
        items = "\n".join(
            f"- {section.title}: {max(round(section.minutes), 1)} min"
            + (f", {len(section.exercises)} exercise{'s' * (len(section.exercises) > 1)}" if section.exercises else "")
            for section in one.sections
        )
        boxes.append(f"````{{dropdown}} Chapter {one.name[:2]}: {round(one.minutes)} min\n{items}\n````")
    return "\n\n".join(boxes)


def exercises_table() -> str:
    """The exercises of each chapter by their marks, as links."""
    known = marks()
    lines = []
    for one in outlines():
        if not one.exercises:
            continue
        lines.append(f"Chapter {one.name[:2]}")
        for number, words in MARKS.items():
            labels = [label for label in one.exercises if known.get(label) == number]
            if labels:
                links = ", ".join(f"{{ref}}`{label.removeprefix('ex-')} <{label}>`" for label in labels)
                lines.append(f": {'●' * number}{'○' * (3 - number)} {words}: {links}")
        lines.append("")
    return "\n".join(lines)


LINK = re.compile(r"\]\(chapters/(\w+)\.ipynb(?:#([\w-]*))?\)|\{doc\}`chapters/(\w+)`")


def linked(text: str) -> list[tuple[str, str | None]]:
    """What a text of the page on paths links to: name of a chapter, and the anchor of a section or ``None``."""
    return [(a or c, anchor or None) for a, anchor, c in LINK.findall(text)]


def path_minutes() -> str:
    """Minutes that each path of ``book/paths.md`` takes to read, from what it links to.

    A chapter that is named with some of its sections (*of chapter 03 two sections*) counts by these.
    """
    from myst_parser.mdit_to_docutils.base import default_slugify

    text = (paths.base_dir() / "book" / "paths.md").read_text(encoding="utf-8")
    chapters = {one.name: one for one in outlines()}
    lines = ["| path | reading | chapters that it touches |", "|:--|--:|--:|"]
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        # Eight weeks begin as four do.
        if "as in four weeks" in body:
            weeks = re.split(r"^4\. ", text.partition("## Four weeks")[2], maxsplit=1, flags=re.MULTILINE)[0]
            body = weeks + body
        found = linked(body)
        whole = {name for name, anchor in found if anchor is None}
        some = set(re.findall(r"of \{doc\}`chapters/(\w+)`", body))
        some -= set(re.findall(r"all of \{doc\}`chapters/(\w+)`", body))
        minutes = sum(chapters[name].minutes for name in whole - some)
        slugs = {(name, anchor) for name, anchor in found if anchor is not None and name not in whole - some}
        for one in chapters.values():
            minutes += sum(s.minutes for s in one.sections if (one.name, default_slugify(s.title)) in slugs)
        lines.append(f"| {title} | {_hours(minutes)} | {len({name for name, _ in found})} |")
    return "\n".join(lines)


def _hours(minutes: float) -> str:
    return f"{round(minutes)} min" if minutes < 120 else f"{minutes / 60:.0f} h"
