"""The picture of the first page in a browser: one of its two forms at each width, and nothing cut off."""

import re

import pytest

from medrec.book.generated import landing
from medrec.paths import PACKAGE

pytestmark = pytest.mark.browser

# Texts of the picture that lie outside it, or over each other.
SPILLED = """
(name) => {
  const svg = document.querySelector(`.medrec-ladder-${name}`);
  const frame = svg.getBoundingClientRect();
  const boxes = [...svg.querySelectorAll("text")].map((e) => [e.textContent, e.getBoundingClientRect()]);
  const beyond = (b) => b.left < frame.left - 1 || b.right > frame.right + 1;
  const out = boxes.filter(([, b]) => beyond(b)).map(([t]) => `outside: ${t}`);
  boxes.forEach(([t, a], i) => boxes.slice(i + 1).forEach(([u, b]) => {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 2 && high > 5) out.push(`${t} over ${u}`);
  }));
  return out;
}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A page with the picture alone, in the colours that the theme would give."""
    figure = re.search(r"<figure.*?</figure>", landing.ladder(), re.S)[0]
    style = f'<link rel="stylesheet" href="{(PACKAGE.parent / "book" / "_vendor" / "medrec.css").as_uri()}">'
    path = tmp_path_factory.mktemp("landing") / "page.html"
    path.write_text(
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>t</title>{style}"
        "<style>body { --pst-color-text-base: rgb(20, 24, 30); margin: 8px }</style></head>"
        f"<body>{figure}</body></html>",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize(("width", "shown", "hidden"), [(400, "narrow", "wide"), (1400, "wide", "narrow")])
def test_one_form_is_shown_at_each_width_and_nothing_is_cut_off(browser, file, width, shown, hidden):
    context = browser.new_context(viewport={"width": width, "height": 900})
    tab = context.new_page()
    tab.goto(file.as_uri(), wait_until="load")
    assert tab.locator(f".medrec-ladder-{shown}").is_visible()
    assert not tab.locator(f".medrec-ladder-{hidden}").is_visible()
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= width
    assert tab.evaluate(SPILLED, shown) == []
    colour = tab.locator(f".medrec-ladder-{shown} text").first.evaluate("e => getComputedStyle(e).fill")
    assert colour == "rgb(20, 24, 30)", "words take the colour of the page"
    context.close()
