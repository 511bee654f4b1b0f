"""The traps on ten rows worked out by hand, and on the open demos against the counts that are stored."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl
import pytest

from medrec.data import load_cohort
from medrec.data.build import Options, build_cohort
from medrec.experiments import table_traps
from tests.conftest import demo_dir

ORDERS = pl.DataFrame(
    [
        (1, 203, "9001", "2150-01-05", "a", "aspirin", "PO"),
        (1, 203, None, "2150-01-06", "b", "Heparin", "SC"),
        (1, 203, None, "2150-01-05", "0", "D5W", "IV"),
        (1, 203, "9001", "2150-01-05", "a", "aspirin", "PO"),
        (1, 117, "9002", "2151-03-02", "a", "aspirin", "PO"),
        (1, 117, None, "2151-03-04", "c", "vancomycin", "IV"),
        (2, 150, None, "2149-07-07", None, "erlotinib", "PO"),
        (2, 150, None, "2149-07-07", "d", "metoprolol", "PO"),
        (2, 150, "9003", "2149-07-08", "e", "morphine", "IV"),
        (2, 164, None, "2149-12-01", "f", "vial", "IV"),
    ],
    schema=["patient", "visit", "icu", "day", "ndc", "drug", "route"],
    orient="row",
)
FIRST_CODE = {"a": "A01A", "b": "B01A", "c": "A07A", "d": "C07A", "e": "N02A"}


def rows_left(**options):
    return table_traps.counts(table_traps.published_steps(ORDERS, FIRST_CODE, **options))["rows"].to_list()


def test_the_ledger_of_the_published_script_by_hand():
    assert rows_left(fill=True) == [10, 9, 9, 8, 8, 7]
    assert rows_left(fill=False) == [10, 9, 8, 7, 7, 6]
    assert rows_left(fill=False, vocabulary={"A01A", "N02A"})[-1] == 3
    assert rows_left(fill=False, joined={203})[-1] == 2


def test_a_fill_gives_one_patient_the_drug_of_another():
    for fill, expected in ((True, {"A07A", "C07A", "N02A"}), (False, {"C07A", "N02A"})):
        last = table_traps.published_steps(ORDERS, FIRST_CODE, fill=fill)["mapped to a class"]
        assert set(last.filter(visit=150)["atc3"]) == expected


def test_where_filled_cells_come_from():
    assert table_traps.filled_from(ORDERS, "icu") == {
        "missing": 6,
        "same visit": 3,
        "other visit": 1,  # admission 164 takes the unit stay of admission 150
        "other patient": 2,
        "nothing above": 0,
    }
    assert table_traps.filled_from(ORDERS[2:], "icu")["nothing above"] == 1


def test_the_pipeline_gives_another_answer_than_the_script():
    cohort = build_cohort(
        table_traps.canonical(ORDERS), Options(require=("medication",)), name="ten", source="synthetic"
    )
    codes = np.array(cohort.vocab["medication"].codes)
    assert [sorted(codes[cohort.codes["medication"][v]]) for v in range(3)] == [
        ["B01A"],
        ["B01A", "J01X"],
        ["C07A", "L01X", "N02A"],
    ]


def test_order_of_visits_by_hand():
    """Three visits whose ids run 2, 3, 1 in time: id order puts the last visit first."""
    visits = pl.DataFrame(
        {
            "patient": [1, 1, 1, 2],
            "visit": [12, 13, 11, 20],
            "time": [datetime(2150, 1, 1), datetime(2151, 1, 1), datetime(2152, 1, 1), datetime(2150, 1, 1)],
        }
    )
    assert table_traps.visit_order(visits) == {
        "patients": 1,
        "reordered": 1,
        "instances": 2,
        "with future": 2,
        "slots": 3,
        "future": 2,
    }


def test_window_counts_what_arrived_before_its_end():
    found = pl.DataFrame({"visit_id": [1, 1, 1, 2], "atc3": ["A", "B", "C", "A"], "hours": [0.0, 24.0, 30.0, 0.0]})
    assert table_traps.window_curve(found, (24, 48)).rows() == [(24.0, 1.0, (1 / 3 + 1) / 2), (48.0, 2.0, 1.0)]


def test_strings_shared_by_two_versions():
    titles = pl.DataFrame(
        {"kind": "diagnosis", "code": ["9:E8881", "10:E8881", "9:4019"], "title": ["fall", "syndrome", "x"]}
    )
    assert table_traps.shared_strings(titles).rows() == [("diagnosis", "E8881", "fall", "syndrome")]


def test_change_of_version_leaves_no_common_string_but_common_conditions():
    overlap = table_traps.synthetic_version_overlap(200)
    changed = overlap.filter("changed")
    assert len(changed) > 5
    assert changed["text"].sum() == 0
    assert changed["group"].mean() > 0.1
    assert overlap.filter(~pl.col("changed"))["key"].mean() > 0.05


def test_repeating_the_last_visit_scores_each_patient_once():
    cohort = load_cohort("synthetic")
    score = table_traps.repeat_last(cohort)
    assert np.isnan(score).sum() == (np.diff(cohort.visit_offsets) == 1).sum()
    assert np.nanmin(score) >= 0
    assert np.nanmax(score) <= 1


def test_the_loss_of_equal_orders_is_nothing():
    same = np.array([0.2, np.nan, 0.6])
    assert table_traps.loss_interval(same, same) == {"loss": 0, "low": 0, "high": 0}


@pytest.mark.parametrize("name", table_traps.STORED)
def test_stored_values_are_those_of_the_demo(name, monkeypatch):
    """A change of the pipeline must be followed by ``python -m medrec.experiments.table_traps``."""
    folder = demo_dir(name).parent
    demo_dir("knowledge")  # the groups of the stored overlaps are those of CCS
    monkeypatch.setenv("MEDREC_DATA_DIR", str(folder))
    stored, now = table_traps.stored_facts()[name], table_traps.measure(name)
    assert stored.keys() == now.keys()
    for quantity, value in now.items():
        assert value == pytest.approx(stored[quantity], abs=1e-6), quantity


@pytest.mark.parametrize(
    ("name", "orders", "reordered", "future"), [("mimic3-demo", 10398, 10, 69), ("mimic4-demo", 18087, 36, 402)]
)
def test_counts_known_from_elsewhere(name, orders, reordered, future, monkeypatch):
    """Worked out once without this package."""
    monkeypatch.setenv("MEDREC_DATA_DIR", str(demo_dir(name).parent))
    assert len(table_traps.raw_orders(name)) == orders
    found = table_traps.visit_order(table_traps.visits_of(name))
    assert (found["reordered"], found["future"]) == (reordered, future)
