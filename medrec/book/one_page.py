"""An executed chapter as one HTML file that looks as in the book and needs nothing beside it.

``medrec chapter`` writes it beside the notebook, whose text is MyST: numbers that are glued into sentences, equations
and boxes show nowhere else.  Only what the guard over patients' records has passed is rendered, since only that is
written as a notebook.
"""

from __future__ import annotations

import base64
import io
import mimetypes
import re
import shutil
import tempfile
from html import escape
from pathlib import Path
from typing import Any

from medrec import paths
from medrec.book import footprint
from medrec.book.chapters import all_chapters, read_source
from medrec.types import MedrecError

MARK = '<meta name="generator" content="medrec chapter">'
"""By which a page that may be written over is known."""
PLAIN = "<style>a:not([href]) { color: inherit; text-decoration: none; }</style>"
"""What leads to another page of the book is text here."""
ALIKE = ("_vendor", "images", "references.bib", "glossary.md", "bibliography.md")
"""What a page has from the book."""
QUIET = {
    "html_copy_source": False,
    "html_sidebars": {"**": []},
    "html_use_index": False,
    "suppress_warnings": ["*"],
}


def write_page(notebook: Path) -> Path | None:
    """Render an executed chapter beside it.

    Args:
        notebook: as :func:`medrec.book.runner.run_chapter` has written it.

    Returns:
        The file, ``.html``; ``None`` where there is no book from which it could have its looks.

    Raises:
        MedrecError: a file of somebody's own is in its place, or it cannot be rendered or written.
    """
    book, page = paths.base_dir() / "book", notebook.with_suffix(".html")
    if not (book / "_config.yml").is_file():
        return None
    if page.exists() and MARK not in page.read_text(encoding="utf-8", errors="ignore"):
        raise MedrecError(
            f"{page} is there already, and not written by this command: move it away. {notebook} is written."
        )
    try:
        with tempfile.TemporaryDirectory(prefix="medrec-page-") as folder:
            page.write_text(_rendered(notebook, book, Path(folder)), encoding="utf-8")
    except OSError as error:
        raise MedrecError(f"Cannot write {page}: {error.strerror}. {notebook} is written.") from error
    return page


def _rendered(notebook: Path, book: Path, folder: Path) -> str:
    from jupyter_book.config import get_final_config
    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    for name in ALIKE:
        if (book / name).exists():
            (folder / name).symlink_to((book / name).resolve())
    shutil.copy(notebook, folder / "this_page.ipynb")
    # Links to other chapters get their titles.
    others = [source for source in all_chapters() if source.stem != "this_page"]
    for source in others:
        (folder / f"{source.stem}.md").write_text(f"# {_title(source)}\n", encoding="utf-8")
    files = [name.removesuffix(".md") for name in ALIKE if name.endswith(".md")] + [source.stem for source in others]
    toc = ["format: jb-book", "root: this_page", "chapters:", *(f"  - file: {name}" for name in files)]
    (folder / "_toc.yml").write_text("\n".join(toc) + "\n", encoding="utf-8")
    config, _ = get_final_config(
        user_yaml=book / "_config.yml", sourcedir=folder, cli_config={"latex_individualpages": False}
    )
    config |= {**QUIET, "external_toc_path": str(folder / "_toc.yml")}
    config["html_theme_options"] = {**config.get("html_theme_options", {}), "use_download_button": False}
    made = footprint.read(notebook) or {}
    config["medrec_chapter"] = Path(made.get("source", "")).stem
    try:
        with patch_docutils(), docutils_namespace():
            app = Sphinx(
                str(folder),
                None,
                str(folder / "html"),
                str(folder / "doctrees"),
                "html",
                confoverrides=config,
                status=None,
                warning=io.StringIO(),
            )
            app.connect("html-page-context", lambda *args: args[3].update(theme_announcement=_line(made)), priority=450)
            app.build(filenames=[str(folder / "this_page.ipynb")])
    except SphinxError as error:
        raise MedrecError(f"The page cannot be rendered: {error}. {notebook} is written.") from error
    return _alone((folder / "html" / "this_page.html").read_text(encoding="utf-8"), folder / "html")


def _title(source: Path) -> str:
    found = re.search(r"^# # (.+)$", read_source(source), flags=re.M)
    return found[1] if found else source.stem


def _line(made: dict[str, Any]) -> str:
    """What stands above the page instead of the book's line about its records."""
    chosen = ", ".join(f"{name} = {value}" for name, value in made.get("parameters", {}).items())
    return escape(f"{made.get('source', 'A chapter')}, executed with {chosen or 'its default parameters'}.")


# -- one file ----------------------------------------------------------------------------------------------------------


def _alone(html: str, site: Path) -> str:
    """A page with its styles, scripts and images inside, and without links to pages that are not there."""
    last: list[str] = []

    def at(address: str) -> Path:
        return site / address.partition("?")[0]

    def style(match: re.Match[str]) -> str:
        return f"<style>{_css(at(match[1]))}</style>"

    def script(match: re.Match[str]) -> str:
        text = at(match[2]).read_text(encoding="utf-8").replace("</script", r"<\/script")
        found = f"<script{match[1]}{match[3]}>{text}</script>"
        # The word is without meaning for a script that stands in the page.
        if not re.search(r"\bdefer\b", match[1] + match[3]):
            return found
        last.append(found)
        return ""

    def image(match: re.Match[str]) -> str:
        return f'{match[1]}"{_data(at(match[2]))}"'

    html = re.sub(r'<link rel="(?:preload|search|index|next|prev|author|copyright)"[^>]*>', "", html)
    html = re.sub(r'<link\b(?=[^>]*rel="stylesheet")[^>]*href="(?!https?:)([^"]+)"[^>]*>', style, html)
    html = re.sub(r'<script([^>]*?) src="(?!https?:)([^"]+)"([^>]*)></script>', script, html)
    html = re.sub(r'((?:<img\b[^>]*? src=|<link rel="icon" href=))"(?!data:|https?:)([^"]+)"', image, html)
    html = re.sub(r'(<a\b[^>]*?) href="(?!#|https?:|mailto:)[^"]*"', r"\1", html)
    html = html.replace("<head>", f"<head>\n{MARK}", 1).replace("</head>", f"{PLAIN}</head>", 1)
    before, _, after = html.rpartition("</body>")
    return "\n".join([before, *last, f"</body>{after}"])


def _css(file: Path) -> str:
    """A style sheet with those that it imports, and the fonts of its icons."""

    def inside(match: re.Match[str]) -> str:
        found = file.parent / match[1].partition("?")[0].partition("#")[0]
        return f"url({_data(found)})" if found.suffix == ".woff2" and found.is_file() else "url(data:,)"

    text = file.read_text(encoding="utf-8")
    text = re.sub(r"""@import\s*(?:url\()?["']([^"']+)["']\)?;""", lambda found: _css(file.parent / found[1]), text)
    return re.sub(r"""url\(["']?(?!["']?data:)([^"')]*)["']?\)""", inside, text)


def _data(file: Path) -> str:
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
