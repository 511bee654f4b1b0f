"""Notebooks that readers download: plain Markdown with its numbers filled in, as the page says it.

The book offers the executed copy of a chapter, whose text is MyST: roles, boxes and captions that no other program
knows.  When the book is built, what is offered is written again: numbers that were glued stand in their sentences,
references say the number that the page shows, boxes become headings in bold, and every figure has its caption below.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from docutils import nodes

from medrec import paths

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from sphinx.application import Sphinx

ROLE = re.compile(r"\{([\w:-]+)\}`([^`]+)`")
TARGET = re.compile(r"^(.*?)\s*<([^>]+)>$", re.DOTALL)
OPENING = re.compile(r"^(`{3,}|:{3,})\{([\w:-]+)\}\s*(.*)$")
OPTION = re.compile(r"^:[\w-]+:.*$")
LABEL = re.compile(r"^:label:\s*(\S+)")
CODE = re.compile(r"^(`{3,}|~{3,})")
NAME = re.compile(r"^\([\w-]+\)=$")
EQUATION = re.compile(r"^\$\$\s*\(([\w-]+)\)\s*$")
GLUED = "application/papermill.record/"
NUMBERED = {
    "exercise": "Exercise",
    "prf:theorem": "Theorem",
    "prf:definition": "Definition",
    "prf:algorithm": "Algorithm",
}
"""Boxes that have a number, and how the book calls them."""

Say = Callable[[str, str], str]
"""What a role says of its target, as the page shows it."""


def setup(app: Sphinx) -> None:
    """Write what is offered when the book has been built."""
    app.connect("build-finished", write_downloads)


def write_downloads(app: Sphinx, error: Exception | None) -> None:
    """Write every offered chapter again."""
    import nbformat

    if error is not None or app.builder.format != "html":
        return
    for file in sorted((Path(app.outdir) / "_sources" / "chapters").glob("*.ipynb")):
        notebook = nbformat.reads(file.read_text(encoding="utf-8"), as_version=4)
        plain(notebook, said_by(app, f"chapters/{file.stem}"))
        file.write_text(nbformat.writes(notebook), encoding="utf-8")


def plain(notebook: NotebookNode, say: Say) -> None:
    """Make the text of an executed chapter plain Markdown, in place.

    Args:
        notebook: executed, so that glued numbers stand in its outputs.
        say: what a role says of its target.
    """
    from nbformat.v4 import new_markdown_cell

    glued = dict(_glued(notebook))

    def role(found: re.Match[str]) -> str:
        kind, inside = found[1], found[2].strip()
        if kind.startswith("glue"):
            name, _, form = inside.partition(":")
            value = glued.get(name, "")
            return format(value, form) if form and not isinstance(value, str) else str(value)
        return say(kind, inside)

    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            cell.source = ROLE.sub(role, "\n".join(_boxes_opened(cell.source, say)))
        elif (figure := cell.metadata.get("mystnb", {}).get("figure")) and has_picture(cell):
            number = say("numref", figure["name"]) if "name" in figure else "Figure"
            cells.append(new_markdown_cell(f"**{number}.** {ROLE.sub(role, figure.get('caption', ''))}"))
            cells[-1].id = f"{cell.id}-caption"[-64:]
    notebook.cells = cells


def has_picture(cell: NotebookNode) -> bool:
    """Whether a cell shows a picture; where rows are missing it may say so in words instead."""
    outputs = cell.get("outputs", [])
    return any(kind.startswith("image/") for output in outputs for kind in output.get("data", {}))


def _glued(notebook: NotebookNode) -> Iterator[tuple[str, Any]]:
    """Names and values that cells made known to the text."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            for kind, text in output.get("data", {}).items():
                if name and kind == f"{GLUED}text/plain":
                    text = "".join(text)
                    try:
                        yield name, ast.literal_eval(text)
                    except (ValueError, SyntaxError):  # nan, inf
                        yield name, float(text) if text in ("nan", "inf", "-inf") else text


def _boxes_opened(text: str, say: Say) -> Iterator[str]:
    """Lines without MyST's fences: a box begins with its kind in bold; code keeps its fence."""
    lines, fences = text.split("\n"), []  # type: ignore[var-annotated]
    for place, line in enumerate(lines):
        closing = line.strip()
        fence, code = fences[-1] if fences else ("", False)
        if fence and closing.startswith(fence) and set(closing) == {fence[0]}:
            fences.pop()
            if code:
                yield line
        elif code:
            yield line
        elif opening := OPENING.match(line):
            fences.append((opening[1], False))
            kind, title = opening[2], opening[3].strip()
            labels = (LABEL.match(option) for option in lines[place + 1 : place + 4])
            if not kind.endswith("-end"):
                yield f"**{_heading(kind, title, next((found[1] for found in labels if found), ''), say)}**"
                yield ""
        elif opening := CODE.match(line):
            fences.append((opening[1], True))
            yield line
        elif NAME.match(line) or (fence and OPTION.match(line)):
            continue
        elif equation := EQUATION.match(line):
            yield f"\\tag{{{say('eq', equation[1]).strip('()')}}}"
            yield "$$"
        else:
            yield line


def _heading(kind: str, title: str, label: str, say: Say) -> str:
    if kind in NUMBERED:
        number = say("ref", label) if label else NUMBERED[kind]
        return f"{number}. {title}".strip() if title else f"{number}."
    if kind.startswith("solution"):
        return "Solution."
    return title or kind.capitalize()


# -- what the page says ------------------------------------------------------------------------------------------------


def said_by(app: Sphinx, page: str) -> Say:
    """What roles say on a page of a built book."""
    from sphinx.domains.math import MathDomain
    from sphinx.domains.std import StandardDomain

    env = app.env
    standard = cast(StandardDomain, env.get_domain("std"))
    formulas = cast(MathDomain, env.get_domain("math"))

    def number(label: str) -> tuple[str, str]:
        """Kind and number of what a label names; both empty where it has none."""
        doc, name = standard.anonlabels.get(label, ("", ""))[:2]
        for kind, numbers in env.toc_fignumbers.get(doc, {}).items():
            if name in numbers:
                return kind, ".".join(map(str, numbers[name]))
        return "", ""

    def title(doc: str) -> str:
        from posixpath import dirname, join, normpath

        doc = normpath(join(dirname(page), doc)) if not doc.startswith("/") else doc[1:]
        return env.titles[doc].astext() if doc in env.titles else doc

    def say(kind: str, inside: str) -> str:
        explicit = TARGET.match(inside)
        words, target = (explicit[1], explicit[2]) if explicit else ("", inside)
        if words:
            return words
        if kind == "eq":
            doc, number_ = formulas.equations.get(target, ("", 0))
            found = env.toc_fignumbers.get(doc, {}).get("displaymath", {}).get(nodes.make_id(f"equation-{target}"))
            return f"({'.'.join(map(str, found))})" if found else f"({number_})"
        if kind in ("numref", "ref", "prf:ref"):
            sort, counted = number(target)
            form = app.config.numfig_format.get(sort) or f"{sort.capitalize()} %s"
            return form % counted if counted else standard.labels.get(target, ("", "", target))[2]
        if kind == "doc":
            return title(target)
        if kind.startswith("cite"):
            return _cited(kind, target)
        if kind.startswith("py:"):
            return f"`{target.rpartition('.')[2] if target.startswith('~') else target}`"
        return target

    return say


@cache
def _authors() -> Mapping[str, tuple[str, str]]:
    """Authors and year of each entry of the bibliography, as they are cited."""
    from pybtex.database import parse_file

    found = {}
    for key, entry in parse_file(str(paths.base_dir() / "book" / "references.bib")).entries.items():
        names = [" ".join([*person.prelast_names, *person.last_names]) for person in entry.persons.get("author", [])]
        names = [name.replace("{", "").replace("}", "") for name in names]
        who = names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."
        found[key] = who, entry.fields.get("year", "")
    return found


def _cited(kind: str, target: str) -> str:
    found = [_authors().get(key.strip(), (key.strip(), "")) for key in target.split(",")]
    if kind == "cite:t":
        return ", ".join(f"{who} ({year})" for who, year in found)
    return f"({'; '.join(f'{who}, {year}' for who, year in found)})"
