"""The whole book as one PDF: Chromium prints the built pages, and they are bound with bookmarks.

``make pdf`` or ``python -m medrec.book.pdf [--html FOLDER] [--out FILE]``. Pages stand in the order of the table of
contents. What is folded on the screen is open on paper, since paper cannot be clicked. Links between pages lead to
pages of the file; links to what is not in it lose their target, so that no path of this machine is printed.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import yaml

from medrec import paths
from medrec.types import MedrecError

if TYPE_CHECKING:
    from pypdf import PdfReader, PdfWriter

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
PAPER: dict[str, Any] = {
    "format": "A4",
    "margin": {"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"},
    "print_background": True,
    "outline": True,
    "tagged": True,
    "display_header_footer": True,
    "header_template": "<span></span>",
}
SECONDS = 120
"""After which a page that is not ready is an error."""
# Fold out what is folded (boxes, code cells, solutions). The theme would print a list of contents with a title of its
# own in place of the page's title; bookmarks say the same.
UNFOLD = """
() => {
  document.getElementById("jb-print-docs-body")?.remove();
  const style = document.createElement("style");
  const title = ".bd-main .bd-content .bd-article h1:first-of-type";
  style.textContent = `@media print { ${title} { display: block !important; } }`;
  document.head.append(style);
  document.querySelectorAll("details").forEach((box) => (box.open = true));
  document.querySelectorAll(".toggle-hidden").forEach((box) => box.classList.remove("toggle-hidden"));
}
"""
# Wait for the formulas, and count those that are still text.
TYPESET = """
async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  return [...document.querySelectorAll(".math")].filter((e) => !e.querySelector("mjx-container")).length;
}
"""
# Chromium's own bookmarks lose the blank where a heading was wrapped, and say some of it twice.
HEADINGS = """
() => [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")]
  .filter((e) => e.offsetParent && e.innerText.trim())
  .map((e) => [...e.childNodes].filter((n) => !n.classList?.contains("headerlink")).map((n) => n.textContent).join(""))
"""


@dataclass(frozen=True)
class Leaf:
    """One page of the book.

    Args:
        name: as the table of contents has it, e.g. ``chapters/01_the_task``.
        part: caption of its part, ``""`` for the first page.
        title: of the page.
        pdf: the printed page.
        headings: of the page, as they are read, in the order of its bookmarks.
    """

    name: str
    part: str
    title: str
    pdf: bytes
    headings: tuple[str, ...] = ()


def ordered(toc: dict[str, Any]) -> list[tuple[str, str]]:
    """Pages in the order of a table of contents, each with the caption of its part."""

    def below(entries: Sequence[dict[str, Any]], caption: str) -> Iterator[tuple[str, str]]:
        for entry in entries:
            yield entry["file"], caption
            yield from below(entry.get("sections", []), caption)

    found = [(str(toc["root"]), "")]
    found += below(toc.get("chapters", []), "")
    for part in toc.get("parts", []):
        found += below(part.get("chapters", []), str(part.get("caption", "")))
    return found


# -- printing --------------------------------------------------------------------------------------------------------


def browser_program() -> str:
    """Path of a Chromium.

    Raises:
        MedrecError: there is none.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise MedrecError(
            f"Printing needs Chromium, and none of {', '.join(BROWSERS)} is installed. Install one, e.g. with "
            "`apt-get install chromium`; `playwright install chromium` alone is not looked at."
        )
    return found


def printed(
    site: Path, pages: Sequence[tuple[str, str]], progress: Callable[[str], None] = lambda _: None
) -> list[Leaf]:
    """Print pages of the built book.

    Args:
        site: folder of the built book.
        pages: as :func:`ordered` gives them.
        progress: is told the name of each page.

    Raises:
        MedrecError: a page is not there, a page is not ready in time, or there is no Chromium.
    """
    missing = [name for name, _ in pages if not (site / f"{name}.html").is_file()]
    if missing:
        raise MedrecError(
            f"{site} lacks {missing[0]}.html{f' and {len(missing) - 1} more' if missing[1:] else ''}, which _toc.yml "
            "names. Build the book first: `make book`."
        )
    program = browser_program()
    from playwright.sync_api import Error, sync_playwright

    leaves = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        context = browser.new_context(color_scheme="light")
        context.set_default_timeout(1000 * SECONDS)
        try:
            for name, part in pages:
                progress(name)
                tab = context.new_page()
                tab.goto((site / f"{name}.html").resolve().as_uri(), wait_until="load")
                if bare := tab.evaluate(TYPESET):
                    raise MedrecError(
                        f"{name}.html has {bare} formulas that are not typeset: its build was broken off or is still "
                        "going on. Build the book again: `make book`."
                    )
                tab.evaluate(UNFOLD)
                tab.emulate_media(media="print")
                headings = tuple(" ".join(words.split()) for words in tab.evaluate(HEADINGS))
                title = headings[0] if headings else name
                leaves.append(Leaf(name, part, title, tab.pdf(**PAPER, footer_template=_footer(title)), headings))
                tab.close()
        except Error as error:
            raise MedrecError(f"{name}.html could not be printed: {error.message.splitlines()[0]}") from None
        finally:
            browser.close()
    return leaves


def _footer(title: str) -> str:
    return (
        '<div style="font-size: 7px; width: 100%; text-align: center; color: #444">'
        f'{escape(title)} · <span class="pageNumber"></span></div>'
    )


# -- binding ---------------------------------------------------------------------------------------------------------


def bound(leaves: Sequence[Leaf], site: Path) -> bytes:
    """Printed pages as one file: a bookmark a part, a page and a heading, and links that lead inside the file.

    Args:
        leaves: in their order.
        site: folder that they were printed from; links to files below it are links of the book.
    """
    from pypdf import PdfReader, PdfWriter

    readers = [PdfReader(io.BytesIO(leaf.pdf)) for leaf in leaves]
    starts, total = {}, 0
    for leaf, reader in zip(leaves, readers, strict=True):
        starts[leaf.name] = total
        total += len(reader.pages)
    writer = PdfWriter()
    for reader in readers:
        writer.append(reader, import_outline=False)
    parts: dict[str, Any] = {}
    for leaf, reader in zip(leaves, readers, strict=True):
        start = starts[leaf.name]
        if leaf.part and leaf.part not in parts:
            parts[leaf.part] = writer.add_outline_item(title=leaf.part, page_number=start, bold=True, is_open=False)
        own = writer.add_outline_item(title=leaf.title, page_number=start, parent=parts.get(leaf.part), is_open=False)
        outline = _read(reader, reader.outline)
        if len(outline) == len(leaf.headings):
            outline = [(depth, words, at) for (depth, _, at), words in zip(outline, leaf.headings, strict=True)]
        _headings(writer, outline, own, start, leaf.title)
        _relink(writer, reader, leaf, starts, site)
    _forget_names(writer)
    writer.add_metadata({"/Title": "medrec", "/Author": "the medrec authors"})
    writer.page_mode = "/UseOutlines"
    writer.compress_identical_objects(remove_duplicates=True, remove_unreferenced=True)
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def _read(reader: PdfReader, outline: list[Any], depth: int = 0) -> list[tuple[int, str, int]]:
    """Bookmarks of a page: depth, words, sheet."""
    found: list[tuple[int, str, int]] = []
    for item in outline:
        if isinstance(item, list):
            found += _read(reader, item, depth + 1)
        else:
            at = reader.get_destination_page_number(item)
            found.append((depth, str(item.title).strip(), at if at is not None and at >= 0 else 0))
    return found


def _headings(writer: PdfWriter, outline: list[tuple[int, str, int]], own: Any, start: int, title: str) -> None:
    """Bookmarks of the headings of one page below its own; that of its title is the page's own already."""
    above: list[tuple[int, Any]] = [(-1, own)]
    for number, (depth, words, at) in enumerate(outline):
        if number == 0 and words == title:
            above = [(depth, own)]
            continue
        while len(above) > 1 and above[-1][0] >= depth:
            above.pop()
        item = writer.add_outline_item(title=words, page_number=start + at, parent=above[-1][1], is_open=False)
        above.append((depth, item))


def _relink(writer: PdfWriter, reader: PdfReader, leaf: Leaf, starts: dict[str, int], site: Path) -> None:
    """Links of one page: inside it by place, to other pages by their first page, to what is not printed not at all."""
    from pypdf.generic import ArrayObject, FloatObject, NameObject, NullObject

    def place(page: int, left: Any = None, top: Any = None) -> ArrayObject:
        numbers = [NullObject() if value is None else FloatObject(value) for value in (left, top)]
        return ArrayObject([writer.pages[page].indirect_reference, NameObject("/XYZ"), *numbers, NullObject()])

    names = reader.named_destinations
    start = starts[leaf.name]
    for number in range(start, start + len(reader.pages)):
        page = writer.pages[number]
        kept = ArrayObject()
        for reference in page.get("/Annots") or []:
            link = reference.get_object()
            uri = (link.get("/A") or {}).get("/URI")
            named = link.get("/Dest") or (link.get("/A") or {}).get("/D")
            target: ArrayObject | None = None
            if isinstance(named, str):
                found = names.get(str(named).lstrip("/")) or names.get(str(named))
                at = reader.get_destination_page_number(found) if found is not None else None
                if at is not None and at >= 0:
                    target = place(start + at, getattr(found, "left", None), getattr(found, "top", None))
            elif uri is not None and not str(uri).startswith("file:"):
                kept.append(reference)  # to the outside
                continue
            elif uri is not None:
                other = _page_of(str(uri), site)
                target = place(starts[other]) if other in starts else None
            else:
                kept.append(reference)
                continue
            if target is None:
                continue
            link.pop("/A", None)
            link[NameObject("/Dest")] = target
            kept.append(reference)
        if "/Annots" in page:
            page[NameObject("/Annots")] = kept


def _page_of(uri: str, site: Path) -> str | None:
    """Name of the page of the book that a link leads to."""
    file = Path(unquote(urlsplit(uri).path))
    root = site.resolve()
    return str(file.relative_to(root).with_suffix("")) if file.is_relative_to(root) else None


def _forget_names(writer: PdfWriter) -> None:
    """Take out named places: pages share names such as ``exercises``, and no link goes by name any more."""
    root = writer.root_object
    for key in ("/Dests", "/Names"):
        root.pop(key, None)


# -- the command -----------------------------------------------------------------------------------------------------


def make(site: Path, out: Path, *, toc: Path | None = None, progress: Callable[[str], None] = lambda _: None) -> Path:
    """Print the built book into one file.

    Args:
        site: folder of the built book.
        out: file to write; it is there whole or as it was.
        toc: table of contents; the checkout's by default.
        progress: is told the name of each page.

    Raises:
        MedrecError: the book is not built, or something that printing needs is missing, which is said at once.
    """
    if not (site / "index.html").is_file():
        raise MedrecError(f"There is no built book in {site}. Build it first: `make book`.")
    for package in ("playwright", "pypdf"):  # before minutes of printing
        if find_spec(package) is None:
            raise MedrecError(f"Printing needs the package {package}: run `pip install {package}`.")
    pages = ordered(yaml.safe_load((toc or paths.base_dir() / "_toc.yml").read_text(encoding="utf-8")))
    data = bound(printed(site, pages, progress), site)
    out.parent.mkdir(parents=True, exist_ok=True)
    waiting = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        waiting.write_bytes(data)
        waiting.replace(out)
    finally:
        waiting.unlink(missing_ok=True)
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the book; return the exit status."""
    built = paths.base_dir() / "book" / "_build"
    parser = argparse.ArgumentParser(prog="python -m medrec.book.pdf", description="The whole book as one PDF.")
    parser.add_argument("--html", type=Path, default=Path(os.environ.get("MEDREC_BOOK_HTML") or built / "html"))
    parser.add_argument("--out", type=Path, default=built / "medrec.pdf")
    parser.add_argument("--toc", type=Path, default=None, help="another table of contents than the checkout's")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    quiet = not sys.stderr.isatty()
    try:
        out = make(
            given.html,
            given.out,
            toc=given.toc,
            progress=lambda name: None if quiet else print(f"printing {name}", file=sys.stderr),
        )
    except MedrecError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
