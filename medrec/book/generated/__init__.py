"""Pages and parts of pages that follow from the package, its tests and its results, made when the book is built.

A page of the book holds a block::

    ```{generated} systems
    ```

in whose place stands what :data:`MAKERS` has under this word, as Markdown.  Pages hold sentences, and what would be out
of date one day is made here; a page is made again when anything changes that it is made of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from medrec import keys, paths
from medrec.book.chapters import executed_dir, notebooks_dir
from medrec.types import MedrecError

BLOCK = re.compile(r"^```\{generated\} ([\w-]*)\n```$", re.MULTILINE)
MAKERS = {
    "systems": "systems.table",
    "family-tree": "tree.figure",
    "equations": "equations.tables",
    "chapters": "status.chapters",
    "kept-rows": "status.kept_rows",
    "calculator": "calculator.widget",
    "calculator-edges": "calculator.edges_table",
    "decisive-classes": "clinicians.classes_table",
    "decisive-pairs": "clinicians.pairs_table",
    "thin-pairs": "clinicians.thin_table",
    "drug-statements": "statements.listed",
    "ladder": "landing.ladder",
    "ladder-words": "landing.words",
    "path-minutes": "teaching.path_minutes",
    "teaching-chapters": "teaching.chapters_table",
    "teaching-sections": "teaching.sections_lists",
    "teaching-exercises": "teaching.exercises_table",
}
"""What stands in the place of a block, by its word: a function of a module of this package."""
SORTABLE = "medrec-sortable"
"""Class of the boxes whose tables readers can sort."""
SCRIPTS = {SORTABLE: "sortable.js", "medrec-calculator": "calculator.js"}
"""What a page loads that has an element of such a class."""


def setup(app: Sphinx) -> None:
    """Let Sphinx read generated pages."""
    app.connect("env-get-outdated", outdated)
    app.connect("source-read", replace_blocks)
    app.connect("html-page-context", load_scripts)


def replace_blocks(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Put what a page asks for in the place of its blocks."""
    try:
        source[0] = expand(source[0])
    except (ValueError, MedrecError) as error:
        raise ExtensionError(f"{docname}: {error}") from None


def expand(text: str) -> str:
    """A page with its blocks replaced.

    Raises:
        ValueError: a block asks for something that nobody makes.
    """

    def made(block: re.Match[str]) -> str:
        if block[1] not in MAKERS:
            raise ValueError(f"Nothing is generated under the word {block[1]!r}. There are {', '.join(MAKERS)}.")
        module, _, function = MAKERS[block[1]].partition(".")
        text: str = getattr(import_module(f"{__name__}.{module}"), function)()
        return text.rstrip("\n")

    return BLOCK.sub(made, text)


def outdated(_app: Sphinx, env: Any, _added: set[str], _changed: set[str], _removed: set[str]) -> list[str]:
    """Generated pages, where anything has changed that they could be made of; edited ones Sphinx notices itself."""
    before, env.medrec_generated = getattr(env, "medrec_generated", None), made_of()
    if before == env.medrec_generated:
        return []
    pages = ((doc, Path(env.doc2path(doc))) for doc in env.found_docs)
    return [doc for doc, file in pages if file.suffix == ".md" and BLOCK.search(file.read_text(encoding="utf-8"))]


def made_of() -> str:
    """Hash of whatever a generated page is made of: the package, results, chapters, and the bibliography."""
    base = paths.base_dir()
    files = [base / "book" / "references.bib"]
    for root, pattern in (
        (base / "book", "*.csv"),
        (paths.PACKAGE, "*.py"),
        (paths.PACKAGE, "*.csv"),
        (paths.results_dir(), "*"),
        (notebooks_dir(), "*.py"),
        (executed_dir(), "*.ipynb"),
    ):
        files += [file for file in root.rglob(pattern) if file.is_file()]
    return keys.digest({str(file): keys.file_digest(file) for file in files if file.is_file()})


def load_scripts(app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
    """Load the scripts of what a page holds, on this page and on no other."""
    for kind, script in SCRIPTS.items():
        if f'class="{kind}' in context.get("body", ""):
            app.add_js_file(script, loading_method="defer")


# -- Markdown ----------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; empty cells get an en dash."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") or "–" for cell in cells) + " |"

    return "\n".join([line(head), "|" + " --- |" * len(head), *map(line, rows)])


def box(content: str, label: str, *, sortable: bool = False) -> str:
    """Markdown in a box of its own that scrolls where the page is too narrow, also by keys.

    Args:
        content: a table, or a figure.
        label: what is in it, read aloud.
        sortable: whether readers can sort its table by a column.
    """
    kind = f"{SORTABLE} medrec-wide" if sortable else "medrec-wide"
    return f'<div class="{kind}" role="region" tabindex="0" aria-label="{label}">\n\n{content}\n\n</div>'


def html(shown: Any) -> str:
    """HTML as a block of a Markdown page: a text, or a table of :func:`medrec.book.page.table`."""
    text = shown if isinstance(shown, str) else shown._repr_html_()
    return f"```{{raw}} html\n{text.strip()}\n```"
