"""The picture of the first page is that of the kept rows, can be read in both modes, and says what it shows."""

import re
from html import unescape
from types import SimpleNamespace

import polars as pl
import pytest

from medrec import paths
from medrec.book.generated import landing
from medrec.experiments import ladder


def test_the_bars_are_the_kept_rows_one_after_another():
    kept = ladder.read(landing.COHORT).table("ladder").filter(scored=landing.SCORED)
    value = dict(kept.select("step", "Jaccard").iter_rows())
    published, tuned, last, past, layer, known = landing.rungs()
    assert (published.start, published.end) == (landing.LEFT, value["LR as published"])
    assert (tuned.start, tuned.end) == (value["LR as published"], value["LR"])
    assert (last.start, past.start, known.start) == (tuned.end, last.end, past.end)
    assert layer.end == value["one hidden layer"]
    assert known.end == value["all but the draw"]
    assert min(value.values()) > landing.LEFT
    assert max(value.values()) < landing.RIGHT


def test_every_number_stands_in_the_picture_and_in_its_words():
    text = landing.ladder()
    words = [unescape(found) for found in re.findall(r"<desc[^>]*>(.*?)</desc>", text)]
    assert len(words) == 2
    for rung in landing.rungs():
        assert text.count(f">{rung.gained}</tspan>") == 2, "once for wide and once for narrow windows"
        assert all(rung.gained in one and rung.words[1:] in one for one in words)
    assert text.count('role="img"') == 2
    assert "synthetic" in text


def test_words_take_the_colour_of_the_page_and_bars_stand_out_on_both():
    text = landing.ladder()
    assert not re.search(r"<text[^>]*fill=", text), "the style sheet gives words the colour of the page"
    assert ".medrec-ladder svg text { fill: currentColor;" in (
        paths.base_dir() / "book" / "_vendor" / "medrec.css"
    ).read_text(encoding="utf-8")

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for colour in landing.COLORS.values():
        for ground in ("#ffffff", "#121212"):
            a, b = sorted((luminance(colour), luminance(ground)), reverse=True)
            assert (a + 0.05) / (b + 0.05) >= 3, (colour, ground)


def test_the_answer_follows_from_the_rows(monkeypatch):
    rows = dict(
        zip(("LR as published", "LR", "LR, last visit", "LR, trees on the past"), (0.4, 0.43, 0.46, 0.5), strict=True)
    )
    monkeypatch.setattr(landing, "reached", lambda: {**rows, "one hidden layer": 0.48})
    assert "30% of the way" in landing.words()
    assert "The other 70%" in landing.words()
    assert "A neural layer adds 0.020" in landing.words()
    monkeypatch.setattr(landing, "reached", lambda: {**rows, "one hidden layer": 0.46})
    assert "A neural layer adds nothing" in landing.words()


SCORES = pl.DataFrame(
    {
        "label": ["BiMoRec", "LR (C = 0.1)", "GAMENet", "RETAIN"],
        "visits": ["later visits"] * 4,
        "metric": ["jaccard"] * 4,
        "threshold": ["tuned"] * 4,
        "value": [0.47, 0.49, 0.44, 0.46],
    }
)
COSTS = pl.DataFrame({"label": SCORES["label"], "trained": [True, True, False, True]})


@pytest.mark.parametrize("same", [True, False])
def test_systems_stand_in_the_picture_where_their_rows_are_of_the_same_records(monkeypatch, same):
    tables = {"scores": SCORES, "costs": COSTS}
    monkeypatch.setattr(landing, "kept_of_same_records", lambda: same)
    monkeypatch.setattr(landing.kept, "read", lambda *_: SimpleNamespace(table=tables.__getitem__))
    found = landing.systems()
    assert found["label"].to_list() == (["RETAIN", "BiMoRec"] if same else []), "without references and untrained rows"
    text = landing.ladder()
    assert text.count("<circle") == 2 * len(found)
    assert ("made from earlier records" in text) == (not same)
    assert ("2 systems of the literature" in landing.described()) == same
