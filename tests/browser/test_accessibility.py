"""No page keeps anybody out: axe finds nothing serious, in both modes, on a phone and on a desk."""

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


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_nothing_serious_and_nothing_wider_than_the_page(browser, server, site, axe, mode, width):
    context = browser.new_context(color_scheme=mode, viewport={"width": width, "height": 900})
    tab, problems = context.new_page(), []
    for name in pages(site):
        if name.startswith("_modules"):  # sources, written by Sphinx
            continue
        tab.goto(f"{server}/{name}", wait_until="load")
        tab.evaluate("() => window.MathJax && MathJax.startup.promise")
        if wider := tab.evaluate(WIDER):
            problems.append(f"{name}: {wider} px too wide")
        tab.evaluate(axe)
        problems += [f"{name}: {found}" for found in tab.evaluate(FOUND)]
    context.close()
    assert problems == []
