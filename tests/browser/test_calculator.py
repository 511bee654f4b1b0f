"""The calculator in a browser, from disk: by keys, read aloud, in both modes, on a phone, and never wrong."""

import pytest

from medrec.book.generated import SCRIPTS, calculator
from medrec.paths import PACKAGE
from tests.book.test_calculator import some_lists

pytestmark = pytest.mark.browser

VENDORED = PACKAGE.parent / "book" / "_vendor"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A page with the calculator alone; script and styles as the book serves them."""
    body = calculator.widget().removeprefix("```{raw} html\n").removesuffix("\n```")
    styles = f'<link rel="stylesheet" href="{(VENDORED / "medrec.css").as_uri()}">'
    script = f'<script defer src="{(VENDORED / SCRIPTS["medrec-calculator"]).as_uri()}"></script>'
    path = tmp_path_factory.mktemp("calculator") / "page.html"
    path.write_text(
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>t</title>{styles}{script}</head>"
        f"<body>{body}</body></html>",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def opened(browser, file):
    problems: list[str] = []
    context = browser.new_context(viewport={"width": 400, "height": 800})
    tab = context.new_page()
    tab.on("request", lambda r: None if r.url.startswith("file:") else problems.append(r.url))
    tab.on("pageerror", lambda e: problems.append(str(e)))
    tab.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    tab.goto(file.as_uri(), wait_until="load")
    yield tab
    assert problems == []
    context.close()


def shown(tab) -> dict[str, str]:
    return {key: tab.locator(f'[data-result="{key}"]').inner_text() for key in calculator.RESULTS}


def wanted(prescribed, recommended) -> dict[str, str]:
    numbers = calculator.measure(prescribed, recommended)
    return {key: f"{value:.{0 if key == 'medications' else 3}f}" for key, value in numbers.items()}


def test_its_numbers_are_the_packages(opened):
    assert shown(opened) == wanted(calculator.PRESCRIBED, calculator.RECOMMENDED)
    for prescribed, recommended in some_lists(8, seed=1):
        opened.get_by_role("button", name="Clear both lists").click()
        for which, codes in (("prescribed", prescribed), ("recommended", recommended)):
            for code in codes:
                opened.locator(f'input[data-list="{which}"][value="{code}"]').check()
        assert shown(opened) == wanted(prescribed, recommended)
        words = opened.locator('[data-result="words"]').inner_text()
        assert words == calculator.words(prescribed, recommended)


def test_keys_are_enough(opened):
    while not opened.evaluate("() => document.activeElement.matches('input[value=M01A][data-list=recommended]')"):
        opened.keyboard.press("Tab")
    opened.keyboard.press("Space")
    without = [code for code in calculator.RECOMMENDED if code != "M01A"]
    assert shown(opened) == wanted(calculator.PRESCRIBED, without)
    while opened.evaluate("() => document.activeElement.dataset.act") != "copy":
        opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")
    assert shown(opened) == wanted(calculator.PRESCRIBED, calculator.PRESCRIBED)


def test_what_is_read_aloud(opened):
    status = opened.get_by_role("status")
    assert status.get_attribute("aria-live") == "polite"
    assert "Jaccard" in status.inner_text()
    label = f"B01A {calculator.names()['B01A']}: prescribed"
    assert opened.get_by_role("checkbox", name=label, exact=True).is_checked()


def test_a_phone_is_wide_enough(opened):
    assert opened.evaluate("() => document.documentElement.scrollWidth") <= 400
