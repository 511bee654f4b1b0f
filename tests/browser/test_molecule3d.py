"""A molecule that readers can turn: from the book's own files, by keys too, and text where it cannot be drawn."""

from html import escape

import pytest

from medrec.book import page
from medrec.book.sphinx_ext import MOLECULE_SCRIPTS
from medrec.chem.conformers import conformers
from medrec.paths import PACKAGE

pytestmark = pytest.mark.browser

VENDORED = PACKAGE.parent / "book" / "_vendor"
# One number for what is on the canvas: 0 for nothing, another for another picture.
INK = """
() => {
  const source = document.querySelector(".medrec-molecule canvas");
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [source.width, source.height];
  const context = copy.getContext("2d");
  context.drawImage(source, 0, 0);
  return context.getImageData(0, 0, copy.width, copy.height).data.reduce((sum, c, i) => (sum + c * (i % 997)) % 1e9, 0);
}
"""


@pytest.fixture(scope="module")
def found():
    return conformers(["CC(C)Cc1ccc(C(C)C(=O)O)cc1"], n=2)[0]


@pytest.fixture(scope="module")
def file(found, tmp_path_factory):
    """A page with ibuprofen in two conformers; scripts and style as the book serves them."""
    scripts = "".join(f'<script defer src="{(VENDORED / name).as_uri()}"></script>' for name in MOLECULE_SCRIPTS)
    style = f'<link rel="stylesheet" href="{(VENDORED / "medrec.css").as_uri()}">'
    path = tmp_path_factory.mktemp("molecule") / "page.html"
    body = page.molecule3d(found, name="Ibuprofen")._repr_html_()
    path.write_text(
        f"<!doctype html><html><head><meta charset='utf-8'>{style}{scripts}</head><body>{body}</body></html>",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def opened(browser, file):
    """The page in a tab, and what went wrong on it."""
    problems: list[str] = []
    context = browser.new_context()
    tab = context.new_page()
    tab.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else problems.append(r.url))
    tab.on("requestfailed", lambda r: problems.append(r.url))
    tab.on("pageerror", lambda e: problems.append(str(e)))
    tab.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    tab.goto(file.as_uri(), wait_until="load")
    yield tab, problems
    context.close()


def test_it_is_drawn_without_a_network(opened):
    tab, problems = opened
    tab.locator(".medrec-molecule-drawn canvas").wait_for(state="visible", timeout=10_000)
    assert tab.evaluate(INK) > 0
    assert problems == []


def test_keys_turn_it_and_step_through_conformers(opened):
    tab, _ = opened
    stage = tab.locator(".medrec-molecule-stage")
    before = tab.evaluate(INK)
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate(INK) == before, "keys belong to the page until the molecule is chosen"
    tab.keyboard.press("Tab")
    assert stage.evaluate("e => e === document.activeElement")
    for key in ("ArrowRight", "ArrowUp", "+", "n"):
        tab.keyboard.press(key)
        after = tab.evaluate(INK)
        assert after != before, key
        before = after
    button = tab.get_by_role("button")
    assert button.text_content() == "Conformer 2 of 2: next"
    button.click()
    assert button.text_content() == "Conformer 1 of 2: next"
    assert tab.evaluate(INK) != before


def test_what_is_read_aloud(opened):
    tab, _ = opened
    label = tab.locator(".medrec-molecule-stage").get_attribute("aria-label")
    assert label == "Ibuprofen, 15 heavy atoms, 2 conformers. Arrow keys turn it, plus and minus zoom."


def test_without_webgl_the_text_stays(browser, file):
    context = browser.new_context()
    context.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    tab = context.new_page()
    tab.goto(file.as_uri(), wait_until="load")
    assert not tab.locator(".medrec-molecule-stage").is_visible()
    assert not tab.get_by_role("button").is_visible()
    text = tab.locator(".medrec-molecule p").inner_text().strip()
    assert text == "Ibuprofen, 15 heavy atoms, 2 conformers."
    context.close()


def test_pages_of_the_book_load_the_viewer_where_they_need_it(site):
    for path in (site / "chapters").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        used = 'class="medrec-molecule"' in text
        for name in MOLECULE_SCRIPTS:
            assert (f"_static/{escape(name)}" in text) == used, f"{path.name}: {name}"
