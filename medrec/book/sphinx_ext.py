"""The Sphinx extension of the book: it executes stale chapters first, and lets nothing come from a network.

Before the table of contents is read, each of its chapters is compared with what it was made of
(:mod:`medrec.book.footprint`): the stale ones are executed through papermill, one per processor core, and the others
are reused. A chapter that fails ends the
build with its name, the cell and the error, and its last good copy stays. ``MEDREC_PROFILE`` is ``quick`` or ``full``.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError, ExtensionError
from sphinx.util import logging
from sphinx_external_toc.parsing import parse_toc_yaml
from tqdm import tqdm

from medrec.book import downloads, generated, reference
from medrec.book.chapters import find_chapter
from medrec.book.runner import book_copy, is_stale, profile_parameters, refresh
from medrec.types import MedrecError

logger = logging.getLogger(__name__)
MATHJAX_SCRIPT = "tex-svg-full.js"
MOLECULE_SCRIPTS = ("3Dmol-min.js", "molecule3d.js")
ARRAY_TYPE = re.compile(
    r"~?(?:numpy\.)?ndarray\[tuple\[~?(?:typing\.)?Any, \.\.\.\], ~?(?:numpy\.)?dtype\[([\w.~]+(?:\[[\w.~]+\])?)\]\]"
)
# Where every page's line about the records leads: a label in the chapter on cohorts.
HONESTY_LABEL = "honesty-box"


def setup(app: Sphinx) -> dict[str, Any]:
    # Before sphinx_external_toc (priority 900), which wants every page of the table of contents to exist.
    app.connect("config-inited", execute_stale_chapters, priority=100)
    app.connect("env-get-outdated", reference_follows_the_tree)
    app.connect("source-read", list_modules)
    app.connect("html-page-context", say_which_records, priority=400)
    app.connect("html-page-context", point_buttons_at_sources, priority=400)
    app.connect("html-page-context", load_molecule_viewer, priority=500)
    app.connect("html-page-context", drop_network_scripts, priority=900)
    app.connect("autodoc-process-signature", shorten_array_types)
    app.connect("build-finished", copy_mathjax)
    app.setup_extension("medrec.book.numbers")
    generated.setup(app)
    downloads.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def execute_stale_chapters(app: Sphinx, config: Config) -> None:
    """Bring ``chapters/`` up to date with the sources that the table of contents names."""
    if "nb_execution_mode" in config and config["nb_execution_mode"] != "off":
        raise ConfigError(
            "Chapters are executed by medrec, which guards closed records: set execute_notebooks: 'off' in _config.yml."
        )
    toc = Path(app.srcdir) / config["external_toc_path"]  # an absolute path stays what it is
    names = [Path(doc).name for doc in parse_toc_yaml(toc) if Path(doc).parent.name == "chapters"]
    try:
        parameters = profile_parameters(os.environ.get("MEDREC_PROFILE", "quick"))
        sources = [find_chapter(name.removesuffix(".ipynb")) for name in names]
        stale = [source for source in sources if is_stale(source, parameters)]
    except MedrecError as error:
        raise ConfigError(str(error)) from None
    logger.info("chapters: %d up to date, %d to execute", len(sources) - len(stale), len(stale))
    if failures := execute_all(stale, parameters):
        raise ExtensionError("\n\n".join(failures))


def execute_all(stale: list[Path], parameters: dict[str, Any]) -> list[str]:
    """Execute chapters in parallel, one per processor core, with a progress bar on terminals.

    Returns:
        One message for each chapter that failed.
    """
    if not stale:
        return []
    failures = []
    workers = min(len(stale), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    # Fresh processes: the build's own one holds threads and loaded extensions that must not be copied.
    with (
        ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool,
        tqdm(total=len(stale), desc="executing chapters", unit="chapter", disable=None) as bar,
    ):
        running = {pool.submit(refresh, source, parameters, book_copy(source)): source for source in stale}
        for future in as_completed(running):
            error = future.exception()
            if isinstance(error, MedrecError):
                failures.append(str(error))
            elif error is not None:
                raise error
            bar.update()
            logger.info("chapter %s: %s", running[future].stem, "failed" if error else "executed")
    return failures


def reference_follows_the_tree(
    _app: Sphinx, env: Any, _added: set[str], _changed: set[str], _removed: set[str]
) -> list[str]:
    """Reference pages are read again when a module has come or gone; edited ones Sphinx notices itself."""
    before, env.medrec_modules = getattr(env, "medrec_modules", None), reference.public_modules()
    return [] if before == env.medrec_modules else [doc for doc in env.found_docs if doc.startswith("api/")]


def list_modules(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the modules that a reference page asks for on it."""
    try:
        source[0] = reference.expand(source[0])
    except ValueError as error:
        raise ExtensionError(f"{docname}: {error}") from None


def say_which_records(
    app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None
) -> None:
    """Put the line about synthetic records on every page, linked to the box that says what that means."""
    labels = app.env.get_domain("std").data["anonlabels"]
    doc, anchor = labels.get(HONESTY_LABEL, (app.config.root_doc, ""))
    target = context["pathto"](doc) + (f"#{anchor}" if anchor else "")
    # On the page itself Sphinx writes a link to its top as "#".
    target = target.replace("##", "#")
    context["theme_announcement"] = (
        f'Unless a caption names a demo, the records in this book are <a href="{target}">synthetic</a>.'
    )


def load_molecule_viewer(
    app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None
) -> None:
    """Load 3Dmol, half a megabyte from the book's own folder, on pages with a molecule to turn and on no other."""
    if 'class="medrec-molecule"' in context.get("body", ""):
        for script in MOLECULE_SCRIPTS:
            app.add_js_file(script, loading_method="defer")  # for this page alone, as the page is being written


def drop_network_scripts(
    _app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None
) -> None:
    """Take out scripts and styles from other hosts, and the live-code script with its settings, which needs one."""
    scripts = context.get("script_files")
    if scripts is not None:
        # In place: the theme holds the same list.
        scripts[:] = [script for script in scripts if not _is_foreign(script)]
    styles = context.get("css_files")
    if styles is not None:
        styles[:] = [style for style in styles if not _is_foreign(style)]


def _is_foreign(asset: Any) -> bool:
    filename = str(getattr(asset, "filename", asset) or "")
    body = str(getattr(asset, "attributes", {}).get("body") or "")
    return filename.startswith(("http:", "https:", "//")) or "thebe" in filename or "thebe" in body.lower()


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


def shorten_array_types(
    _app: Sphinx, _what: str, _name: str, _thing: Any, _options: Any, arguments: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write ``NDArray[float64]``, as the source does, for what Python spells out as an array of any shape.

    A default without a literal becomes ``...``: Sphinx cannot read ``<factory>`` and then prints every type in full.
    """

    def shortened(text: str | None) -> str | None:
        text = text and re.sub(r"<[^<>]*>", "...", text)
        return text and ARRAY_TYPE.sub(lambda found: f"NDArray[{re.sub(r'~?numpy[.]', '', found[1])}]", text)

    return shortened(arguments), shortened(returns)


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Serve MathJax from the book: one script that holds every TeX extension and draws SVG, so it needs no fonts."""
    if error is not None or app.builder.format != "html":
        return
    package = find_spec("sphinx-mathjax-offline")
    if package is None or package.origin is None:
        raise ExtensionError("MathJax is missing: run `pip install sphinx-mathjax-offline`.")
    target = Path(app.outdir) / "_static" / "mathjax" / MATHJAX_SCRIPT
    source = Path(package.origin).parent / "static" / "mathjax" / MATHJAX_SCRIPT
    if not target.exists() or target.stat().st_size != source.stat().st_size:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
