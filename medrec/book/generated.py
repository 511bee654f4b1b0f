"""Parts of pages that are computed when the book is built, and the small scripts and styles that go with them.

A page of the book asks for a part by its name::

    ```{generated} ladder
    ```

and the part stands in its place: the pages hold sentences, the functions of :data:`PARTS` hold what would be out of
date one day. This is a Sphinx extension of its own beside :mod:`medrec.book.sphinx_ext`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphinx.errors import ExtensionError

from medrec.types import MedrecError

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

BLOCK = re.compile(r"^```\{generated\} ([\w-]+)\n```$", re.MULTILINE)
PARTS = {
    "calculator": "medrec.book.calculator:widget",
    "calculator-edges": "medrec.book.calculator:edges_table",
    "decisive-classes": "medrec.book.clinicians:classes_table",
    "decisive-pairs": "medrec.book.clinicians:pairs_table",
    "thin-pairs": "medrec.book.clinicians:thin_table",
    "drug-statements": "medrec.book.statements:listed",
    "ladder": "medrec.book.landing:ladder",
    "ladder-words": "medrec.book.landing:words",
    "path-minutes": "medrec.book.teaching:path_minutes",
    "teaching-chapters": "medrec.book.teaching:chapters_table",
    "teaching-sections": "medrec.book.teaching:sections_lists",
    "teaching-exercises": "medrec.book.teaching:exercises_table",
}
"""Name of a part → the function that writes it, as Markdown."""
STYLE = "pages.css"
CALCULATOR_SCRIPT = "calculator.js"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("env-get-outdated", pages_with_parts)
    app.connect("source-read", fill_in)
    app.connect("html-page-context", load_calculator, priority=500)
    app.connect("html-page-context", point_buttons_at_sources, priority=400)
    app.add_css_file(STYLE)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def part(name: str) -> str:
    """One part, as Markdown.

    Raises:
        ValueError: there is no part of this name.
    """
    if name not in PARTS:
        raise ValueError(f"There is no generated part {name!r}; there are {', '.join(PARTS)}.")
    module, _, function = PARTS[name].partition(":")
    write: Callable[[], str] = getattr(import_module(module), function)
    return write()


def expand(text: str) -> str:
    """A page with its blocks replaced by what they name."""
    return BLOCK.sub(lambda block: part(block[1]).strip("\n"), text)


def html(text: str) -> str:
    """HTML as a block of a Markdown page."""
    return f"```{{raw}} html\n{text.strip()}\n```"


def boxed(table: Any) -> str:
    """A table of :func:`medrec.book.page.table` in a box that scrolls where a phone is narrower, by keys too."""
    from html import escape

    return html(
        f'<div class="medrec-scroll" role="region" tabindex="0" aria-label="{escape(table.caption)}">'
        f"{table._repr_html_()}</div>"
    )


def pages_with_parts(_app: Sphinx, env: Any, _added: set[str], _changed: set[str], _removed: set[str]) -> list[str]:
    """Pages with parts are read at every build: what they are computed from is no file that Sphinx looks at."""
    found = []
    for doc in env.found_docs:
        path = Path(env.doc2path(doc))
        if path.suffix == ".md" and BLOCK.search(path.read_text(encoding="utf-8")):
            found.append(doc)
    return found


def fill_in(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the parts that a page asks for on it."""
    try:
        source[0] = expand(source[0])
    except (ValueError, MedrecError) as error:
        raise ExtensionError(f"{docname}: {error}") from None


def load_calculator(
    app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None
) -> None:
    """Load the script of the calculator on the page that has one and on no other."""
    if 'class="medrec-calculator"' in context.get("body", ""):
        app.add_js_file(CALCULATOR_SCRIPT, loading_method="defer")


def source_file(docname: str, suffix: str) -> str:
    """File of the checkout that a page was made of: a chapter's is its source, not the executed copy."""
    room, _, name = docname.partition("/")
    return f"notebooks/{name}.py" if room == "chapters" else f"book/{docname}{suffix}"


def point_buttons_at_sources(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None
) -> None:
    """Where a repository address is configured its buttons lead to files that are there; without one there are none.

    The theme thinks that every page is a file below the book's folder, which executed chapters are not.
    """
    asked = context.get("get_edit_provider_and_url")
    if not app.config["html_theme_options"].get("repository_url") or asked is None:
        return

    def provider_and_url() -> tuple[str, str]:
        provider, url = asked()
        suffix = context.get("page_source_suffix", "")
        head, _, _ = url.rpartition(f"{page}{suffix}")
        return provider, f"{head.removesuffix('book/')}{source_file(page, suffix)}"

    context["get_edit_provider_and_url"] = provider_and_url
