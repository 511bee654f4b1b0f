"""The calibration table: computed right, and the synthetic cohort inside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medrec.data import load_cohort
from medrec.data.calibration import QUANTITIES, REASONS, calibrate, compare
from medrec.data.cohort import Cohort, Vocabulary
from medrec.knowledge.interactions import ddi_matrix
from medrec.types import Ragged
from tests.conftest import demo_dir


def toy() -> Cohort:
    """Two patients, three visits; the second visit of the first keeps two of three classes and one of two codes."""
    empty = Ragged.from_lists([[], [], []])
    classes = ("A10B", "B01A", "C07A", "C09A")
    return Cohort(
        name="toy",
        source="synthetic",
        vocab={
            "diagnosis": Vocabulary("diagnosis", ("9:1", "9:2", "9:3"), ("a", "b", "c")),
            "procedure": Vocabulary("procedure", ("9:1",), ("a",)),
            "symptom": Vocabulary("symptom", (), ()),
            "medication": Vocabulary("medication", classes, classes),
        },
        visit_offsets=np.array([0, 2, 3]),
        codes={
            "diagnosis": Ragged.from_lists([[0, 1], [1, 2], [0]]),
            "procedure": Ragged.from_lists([[0], [0], [0]]),
            "symptom": empty,
            "medication": Ragged.from_lists([[0, 1, 2], [1, 2, 3], [1]]),
        },
        admit_time=np.array(["2150-01-01", "2150-02-01", "2150-01-01"], dtype="datetime64[s]"),
        days_since_previous=np.array([np.nan, 31, np.nan], dtype=np.float32),
        sex=np.array(["F", "M"]),
        age_band=np.array(["60-69", "70-79"]),
    )


def test_quantities_by_hand() -> None:
    table = calibrate(toy())
    value = dict(zip(table["quantity"], table["toy"], strict=True))
    ddi = ddi_matrix(("A10B", "B01A", "C07A", "C09A")).astype(int)
    pairs = ddi[0, 1] + ddi[0, 2] + 2 * ddi[1, 2] + ddi[1, 3] + ddi[2, 3]
    assert value["visits per patient"] == 1.5
    assert value["diagnoses per visit"] == pytest.approx(5 / 3)
    assert value["medication classes per visit"] == pytest.approx(7 / 3)
    assert value["classes carried over"] == pytest.approx(2 / 3)
    assert value["diagnoses carried over"] == pytest.approx(1 / 2)
    assert value["Jaccard of the last visit"] == pytest.approx(2 / 4)
    # k = 1: B01A alone: 1/3, 1/3, 1; k = 2: 2/3, 2/3, 1/2.
    assert value["Jaccard of the most popular"] == pytest.approx(11 / 18)
    assert value["DDI rate"] == pytest.approx(pairs / 6)


def test_a_change_of_coding_carries_nothing() -> None:
    cohort = toy()
    vocab = cohort.vocab | {"diagnosis": Vocabulary("diagnosis", ("9:1", "10:2", "10:3"), ("a", "b", "c"))}
    codes = cohort.codes | {"diagnosis": Ragged.from_lists([[0], [1, 2], [0]])}
    table = calibrate(replace(cohort, vocab=vocab, codes=codes))
    assert table.filter(quantity="diagnoses carried over")["toy"][0] is None


def test_compare_asks_for_the_demos_range() -> None:
    table = compare(replace(toy(), name="mine"), [toy()])
    assert table.columns == ["quantity", "what", "mine", "toy", "within", "reason"]
    assert table["within"].all()
    assert set(REASONS) <= set(QUANTITIES)


@pytest.mark.slow
def test_paper_cohort_stands_beside_the_demos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDREC_DATA_DIR", str(demo_dir("mimic3-demo").parent))
    demo_dir("mimic4-demo")
    table = compare(load_cohort("synthetic-6350"), [load_cohort("mimic3-demo"), load_cohort("mimic4-demo")])
    outside = table.filter(~table["within"].fill_null(True))
    unexplained = [q for q in outside["quantity"] if q not in REASONS]
    assert not unexplained, table
