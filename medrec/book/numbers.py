"""Numbers of the book: chapter 13, figure 13.2, table 13.2, equation 13.2, exercise 13.2.

A chapter has the number of its source, so that it stays when another chapter is added; chapter 00 is front matter and
has none.  What is numbered begins anew in every chapter, and on every other page without a chapter's number in front.
Sphinx counts along its table of contents instead; its numbers are put in place of here, before anything refers to them.

Tables of :func:`medrec.book.page.table` come as HTML, of which Sphinx knows nothing: here they get their numbers.
"""

from __future__ import annotations

import re
from typing import Any, cast

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.std import StandardDomain
from sphinx.environment import BuildEnvironment

CHAPTER = re.compile(r"(?:^|/)(\d\d)_\w+$")
"""Of a page that is a chapter, in the end of its name."""
CAPTIONED = re.compile(r'<figure class="medrec-table-box"(?: id="([\w-]+)")?><figcaption>(.*?)</figcaption>', re.DOTALL)


class CaptionedTable(nodes.General, nodes.Element):
    """A table of HTML with a caption."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect what is here."""
    app.add_config_value("medrec_chapter", "", "env", str)  # source of the only page, where a chapter stands alone
    app.add_enumerable_node(CaptionedTable, "table", lambda node: node["caption"], html=(write_table, leave))
    app.connect("doctree-read", tables_are_counted, priority=100)  # before labels and numbers are collected
    # Around Sphinx's own, which compares what it counts with what it counted last time.
    app.connect("env-get-updated", as_counted, priority=100)
    app.connect("env-get-updated", by_chapter, priority=900)
    return {"version": "1", "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}


def chapter_of(app: Sphinx, page: str) -> int:
    """Number of the chapter that a page is; 0 where it is none, and for front matter."""
    found = CHAPTER.search(page) or CHAPTER.search(app.config.medrec_chapter)
    return int(found[1]) if found else 0


def tables_are_counted(app: Sphinx, document: nodes.document) -> None:
    """Put a node that can be numbered in the place of every table with a caption, and a label where it has a name."""
    labels, page = cast(StandardDomain, app.env.get_domain("std")), app.env.docname
    for number, raw in enumerate(list(document.findall(nodes.raw)), 1):
        found = CAPTIONED.search(raw.astext()) if raw.get("format") == "html" else None
        if found:
            name, caption = found[1] or f"medrec-table-{number}", re.sub("<[^>]+>", "", found[2])
            table = CaptionedTable(html=raw.astext(), caption=caption, ids=[name])
            document.ids[name] = table
            raw.replace_self(table)
            if found[1]:
                labels.anonlabels[name] = page, name
                labels.labels[name] = page, name, caption


def write_table(self: Any, node: CaptionedTable) -> None:
    """The HTML, with a number at the beginning of its caption."""
    start = len(self.body)
    self.add_fignumber(node)
    number = "".join(self.body[start:])
    del self.body[start:]
    self.body.append(CAPTIONED.sub(lambda found: _opening(node["ids"][0], number + found[2]), node["html"], count=1))
    raise nodes.SkipNode


def _opening(name: str, caption: str) -> str:
    return f'<figure class="medrec-table-box" id="{name}"><figcaption>{caption}</figcaption>'


def leave(_self: Any, _node: CaptionedTable) -> None:
    """Nothing is left to write."""


def as_counted(_app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Give Sphinx back what it counted itself, so that only pages whose numbers have changed are written again."""
    env.toc_fignumbers, env.toc_secnumbers = getattr(env, "medrec_counted", ({}, {}))
    return []


def by_chapter(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Number figures, tables, equations, exercises and theorems by chapter, and chapters by their sources."""
    env.medrec_counted = env.toc_fignumbers, env.toc_secnumbers  # type: ignore[attr-defined]
    numbered = {}
    for page, kinds in env.toc_fignumbers.items():
        chapter = chapter_of(app, page)
        front = (chapter,) if chapter else ()
        numbered[page] = {
            kind: {name: (*front, i) for i, name in enumerate(sorted(counted, key=counted.__getitem__), 1)}
            for kind, counted in kinds.items()
        }
    env.toc_fignumbers = numbered
    env.toc_secnumbers = {}
    for page in env.found_docs:
        title = next(env.tocs[page].findall(nodes.reference), None) if page in env.tocs else None
        if title is not None and (chapter := chapter_of(app, page)):
            title["secnumber"] = (chapter,)
            # Sections have no numbers, which Sphinx would take from the title.
            sections = [link["anchorname"] for link in env.tocs[page].findall(nodes.reference)]
            own = "#" + next(iter(env.get_doctree(page).findall(nodes.section)))["ids"][0]
            env.toc_secnumbers[page] = dict.fromkeys(sections) | {own: (chapter,), "": (chapter,)}
    return []
