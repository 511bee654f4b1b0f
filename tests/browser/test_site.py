"""The finished book in a browser: quiet, complete, typeset, readable in both modes, and never on the network."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup

from medrec.book import downloads

pytestmark = pytest.mark.browser


def pages(site: Path) -> list[str]:
    """Pages of the book, relative to its root; sources that `[source]` links show are looked at too."""
    return sorted(str(page.relative_to(site)) for page in site.rglob("*.html") if "_static" not in page.parts)


class Page(HTMLParser):
    """What a page refers to and what can be referred to on it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        have = dict(attrs)
        self.ids |= {name for name in (have.get("id"), have.get("name")) if name}
        if tag == "a" and have.get("href"):
            self.links.append(have["href"])
        if tag == "img":
            self.images.append(have)
        if tag in {"script", "img", "iframe", "source", "video", "audio"} and have.get("src"):
            self.loads.append(have["src"])
        if tag == "link" and have.get("rel") in {"stylesheet", "preload", "icon", "shortcut icon"} and have.get("href"):
            self.loads.append(have["href"])


@pytest.fixture(scope="module")
def parsed(site) -> dict[str, Page]:
    return {name: Page((site / name).read_text(encoding="utf-8")) for name in pages(site)}


def test_the_book_has_its_pages(parsed):
    assert {"index.html", "notation.html", "glossary.html", "bibliography.html", "search.html"} <= set(parsed)
    assert any(name.startswith("chapters/") for name in parsed)


def test_nothing_is_loaded_from_elsewhere(parsed, site):
    foreign = {
        f"{name}: {load}" for name, page in parsed.items() for load in page.loads if re.match(r"(https?:)?//", load)
    }
    assert foreign == set()
    in_styles = {
        f"{style.name}: {found}"
        for style in (site / "_static").rglob("*.css")
        for found in re.findall(
            r"(?:@import|url\()\s*['\"]?((?:https?:)?//[^'\")]+)", style.read_text(encoding="utf-8")
        )
    }
    assert in_styles == set()


def test_links_lead_somewhere(parsed, site):
    broken = []
    for name, page in parsed.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                broken.append(f"{name}: {link} (no such file)")
                continue
            there = parsed.get(str(target.resolve().relative_to(site.resolve())))
            if parts.fragment and there is not None and unquote(parts.fragment) not in there.ids:
                broken.append(f"{name}: {link} (no such place)")
    assert broken == []


def test_every_image_has_text(parsed):
    silent = [
        f"{name}: {image.get('src')}" for name, page in parsed.items() for image in page.images if not image.get("alt")
    ]
    assert silent == []


def test_every_page_says_that_records_are_synthetic(parsed, site):
    for name in parsed:
        if not name.startswith(("_modules", "genindex", "py-modindex", "search")):
            assert 'class="bd-header-announcement"' in (site / name).read_text(encoding="utf-8"), name


CONTRAST = """
() => {
  const channel = c => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const c = numbers(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0.99) return c.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const faint = [];
  const wanted = "article p, article li, article td, article th, article caption, article code, article pre, article a,"
    + " article .admonition-title, article pre span, article figcaption, .bd-header-announcement__content, nav a";
  for (const e of document.querySelectorAll(wanted)) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.offsetParent || e.matches(".headerlink")) continue;  // paragraph marks show on hover only
    const style = getComputedStyle(e);
    const [a, b] = [luminance(numbers(style.color)), luminance(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const words = e.textContent.trim().slice(0, 40);
    if (ratio < 4.5) faint.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)}: ${words}`);
  }
  return [...new Set(faint)].slice(0, 8);
}
"""


FROM_DISK = 4
"""Every so manieth page is also opened without a server."""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_pages_are_quiet_typeset_and_can_be_read(browser, site, server, parsed, mode):
    """No request leaves the book, nothing fails to load, no console error, formulas are formulas, text stands out.

    By day from a server, by night from disk, where every so manieth page must do.
    """
    root = server if mode == "light" else site.as_uri()
    context = browser.new_context(color_scheme=mode)
    tab = context.new_page()
    problems: list[str] = []
    name = ""
    tab.on(
        "request",
        lambda r: None if r.url.startswith((root, "data:", "blob:")) else problems.append(f"{name}: asks {r.url}"),
    )
    # What is still on its way when the next page is opened is aborted, and is no fault of the book.
    tab.on(
        "requestfailed",
        lambda r: None if r.failure == "net::ERR_ABORTED" else problems.append(f"{name}: cannot load {r.url}"),
    )
    tab.on("response", lambda r: problems.append(f"{name}: {r.status} for {r.url}") if r.status >= 400 else None)
    tab.on("console", lambda m: problems.append(f"{name}: console says {m.text}") if m.type == "error" else None)
    tab.on("pageerror", lambda e: problems.append(f"{name}: script error {e}"))
    typeset = 0
    for name in list(parsed)[:: 1 if mode == "light" else FROM_DISK]:
        tab.goto(f"{root}/{name}", wait_until="load")
        assert tab.evaluate("() => document.documentElement.dataset.theme") == mode
        if not name.startswith("_modules"):
            problems.extend(f"{name}: faint {found}" for found in tab.evaluate(CONTRAST))
        formulas = tab.locator(".math").count()
        if formulas:
            tab.evaluate("() => MathJax.startup.promise")
            typeset += formulas
            # Each formula stands in an element of class math; a formula that stays text has no container inside.
            bare = tab.evaluate(
                "() => [...document.querySelectorAll('.math')].filter(e => !e.querySelector('mjx-container')).length"
            )
            wrong = tab.locator("mjx-merror, [data-mjx-error]").count()
            if bare or wrong:
                problems.append(f"{name}: {bare} formulas are not typeset, {wrong} have errors")
        broken = tab.evaluate("() => [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)")
        problems.extend(f"{name}: picture {src} is broken" for src in broken)
    context.close()
    assert problems == []
    assert typeset, "the book has formulas"


def test_search_works_from_disk(browser, site):
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(f"{site.as_uri()}/search.html?q=bootstrap")
    tab.wait_for_selector("#search-results li a", timeout=10_000)
    context.close()


def test_solutions_open(browser, site, parsed):
    """A folded solution opens when asked."""
    name = next((n for n in parsed if 'class="solution dropdown' in (site / n).read_text(encoding="utf-8")), None)
    if name is None:
        pytest.skip("no page has a folded solution")
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(f"{site.as_uri()}/{name}", wait_until="load")
    solution = tab.locator(".solution.dropdown").first
    body = solution.locator("section, p:not(.admonition-title)").first
    assert not body.is_visible()
    solution.locator("button.toggle-button").click()
    body.wait_for(state="visible", timeout=5_000)
    context.close()


def test_no_download_of_the_book_has_a_role_a_box_or_a_missing_caption(site):
    files = sorted((site / "_sources" / "chapters").glob("*.ipynb"))
    assert files
    for file in files:
        notebook = nbformat.read(file, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                prose = re.sub(r"`[^`{]*`", "", re.sub(r"^```\w*\n.*?^```$", "", cell.source, flags=re.M | re.S))
                assert not downloads.ROLE.search(prose), (file.name, cell.source)
                assert not re.search(r"^(`{3,}|:{3,})\{", prose, re.M), (file.name, cell.source)
        cells = [c for c in notebook.cells if c.cell_type == "code" and c.metadata.get("mystnb", {}).get("figure")]
        figures = [c for c in cells if downloads.has_picture(c)]
        captions = [c for c in notebook.cells if c.cell_type == "markdown" and re.match(r"\*\*Fig\. \d", c.source)]
        assert len(captions) == len(figures), file.name


NUMBER = re.compile(r"^(?:Fig\.|Table|Exercise|Theorem|Definition|Algorithm)? ?\(?(\d+(?:\.\d+)?)\)?$")


def test_every_number_that_a_reference_shows_stands_where_it_leads(site):
    soups = {name: BeautifulSoup((site / name).read_text(encoding="utf-8"), "html.parser") for name in pages(site)}
    looked_at = 0
    for name, soup in soups.items():
        for link in soup.select("a.reference.internal[href*='#']"):
            found = NUMBER.match(link.get_text().strip())
            if not found:
                continue
            page, _, anchor = link["href"].partition("#")
            target = str((Path(name).parent / page).as_posix()) if page else name
            there = soups[os.path.normpath(target)].find(id=unquote(anchor))
            assert there is not None, (name, link["href"])
            assert re.search(rf"(?<![\d.]){re.escape(found[1])}(?![\d.]*\d)", there.get_text()), (name, link.get_text())
            looked_at += 1
    assert looked_at > 100
