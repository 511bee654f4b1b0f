"""No page keeps anybody out: axe finds nothing serious, in both modes, on a phone and on a desk."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.browser.test_site import pages

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FOUND = """async () => {
  const found = await axe.run(document, {resultTypes: ["violations"]});
  return found.violations
    .filter(v => ["serious", "critical"].includes(v.impact))
    .flatMap(v => v.nodes.slice(0, 3).map(n => `${v.id}: ${n.target.join(" ")} ${n.html.slice(0, 120)}`));
}"""
WIDER = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def axe() -> str:
    found = find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("axe is not installed; it comes with `pip install -e .[dev]`")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


EVERY = [("light", 1400), ("dark", 400), ("light", 400), ("dark", 1400)]
LOOKS = EVERY if os.environ.get("MEDREC_AXE") == "all" else EVERY[:2]
"""Both modes and both widths; all four together on demand, ``MEDREC_AXE=all``."""
REFERENCE = ("api/", "genindex", "py-modindex")
"""Written by Sphinx, and so long that axe takes a minute for one: looked at on demand, as the other combinations."""


@pytest.mark.parametrize(("mode", "width"), LOOKS)
def test_axe_finds_nothing_serious(browser, server, site, axe, mode, width):
    context = browser.new_context(color_scheme=mode, viewport={"width": width, "height": 900})
    tab, problems = context.new_page(), []
    for name in pages(site):
        if name.startswith("_modules") or (name.startswith(REFERENCE) and LOOKS != EVERY):
            continue
        tab.goto(f"{server}/{name}", wait_until="load")
        tab.evaluate("() => window.MathJax && MathJax.startup.promise")
        tab.evaluate(axe)
        problems += [f"{name}: {found}" for found in tab.evaluate(FOUND)]
    context.close()
    assert problems == []


@pytest.mark.parametrize("width", [400, 1400])
def test_no_page_is_wider_than_its_window(browser, server, site, width):
    context = browser.new_context(viewport={"width": width, "height": 900})
    tab, problems = context.new_page(), []
    for name in pages(site):
        if not name.startswith("_modules"):
            tab.goto(f"{server}/{name}", wait_until="load")
            if wider := tab.evaluate(WIDER):
                problems.append(f"{name}: {wider} px")
    context.close()
    assert problems == []
