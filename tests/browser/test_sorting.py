"""Tables that readers can sort: by pointer and by keys, numbers as numbers, and said to those who listen."""

import pytest

from medrec.book import generated
from medrec.paths import PACKAGE

pytestmark = pytest.mark.browser

VENDORED = PACKAGE.parent / "book" / "_vendor"
ROWS = [("LR", "–", "6"), ("BiMoRec", "1\u202f434\u202f780", "12"), ("ECC", "238", "6"), ("leap", "0.68", "–")]
CELLS = """
<!doctype html><html><head><meta charset='utf-8'><script defer src="{script}"></script></head><body>
<div class="{box}" role="region" tabindex="0" aria-label="Systems" style="width: 200px; overflow-x: auto">
<table style="width: 900px"><thead><tr><th><p>System</p></th><th>Size</th><th>Chapter</th></tr></thead>
<tbody>{rows}</tbody></table></div></body></html>
"""


@pytest.fixture
def tab(browser, tmp_path):
    """A page from disk with one table, and what its first column says."""
    rows = "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in ROWS)
    script = (VENDORED / generated.SCRIPTS[generated.SORTABLE]).as_uri()
    (tmp_path / "page.html").write_text(CELLS.format(script=script, box=generated.SORTABLE, rows=rows), "utf-8")
    context = browser.new_context()
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri(), wait_until="load")
    yield page
    context.close()


def first_column(tab):
    return tab.locator("tbody td:first-child").all_text_contents()


def state(tab):
    return [head.get_attribute("aria-sort") for head in tab.locator("th").all()]


def test_before_anybody_asks_the_order_is_the_book_s(tab):
    assert first_column(tab) == [row[0] for row in ROWS]
    assert state(tab) == [None, None, None]


def test_numbers_are_numbers_and_empty_cells_stay_last(tab):
    size = tab.get_by_role("button", name="Size")
    size.click()
    assert first_column(tab) == ["leap", "ECC", "BiMoRec", "LR"]
    assert state(tab) == [None, "ascending", None]
    size.click()
    assert first_column(tab) == ["BiMoRec", "ECC", "leap", "LR"]
    assert state(tab) == [None, "descending", None]


def test_equal_rows_keep_their_order_and_another_column_takes_over(tab):
    tab.get_by_role("button", name="System").click()
    assert first_column(tab) == ["BiMoRec", "ECC", "leap", "LR"]
    tab.get_by_role("button", name="Chapter").click()
    assert first_column(tab) == ["ECC", "LR", "BiMoRec", "leap"]
    assert state(tab) == [None, None, "ascending"]


def test_keys_reach_the_box_and_every_header(tab):
    tab.keyboard.press("Tab")
    assert tab.evaluate("() => document.activeElement.getAttribute('aria-label')") == "Systems"
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("() => document.activeElement.scrollLeft > 0")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    assert state(tab) == [None, "ascending", None]
    tab.keyboard.press("Space")
    assert state(tab) == [None, "descending", None]


def test_the_systems_of_the_book_can_be_sorted(browser, site):
    if not (site / "systems.html").exists():
        pytest.skip(f"{site} was built before it had a page of systems; run `make book`")
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(f"{site.as_uri()}/systems.html", wait_until="load")
    tab.get_by_role("button", name="Year").click()
    years = tab.locator(f".{generated.SORTABLE} tbody td:nth-child(3)").all_text_contents()
    known = [int(year) for year in years if year.strip() != "–"]
    assert known == sorted(known)
    assert len(known) > 10
    assert all(year.strip() == "–" for year in years[len(known) :])
    context.close()


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_nothing_of_a_generated_page_is_wider_than_a_phone(browser, site, mode):
    context = browser.new_context(color_scheme=mode, viewport={"width": 400, "height": 800})
    tab = context.new_page()
    for name in ("systems", "equations", "status"):
        if not (site / f"{name}.html").exists():
            pytest.skip(f"{site} was built before it had the page {name}; run `make book`")
        tab.goto(f"{site.as_uri()}/{name}.html", wait_until="load")
        assert tab.evaluate("() => document.documentElement.scrollWidth") <= 400, name
        boxes = tab.locator(".medrec-wide")
        assert boxes.count() > 0
        assert all(box.get_attribute("tabindex") == "0" for box in boxes.all())
    context.close()
