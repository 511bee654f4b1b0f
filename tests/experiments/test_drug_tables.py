"""Lots and sets by hand, and what is kept of the published matrix and the demos against their files."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl
import pytest

from medrec.experiments import drug_tables
from medrec.knowledge.classes import atc3
from medrec.knowledge.interactions import interactions, overlap_test, read_onc
from tests.conftest import demo_dir


@pytest.fixture
def files(monkeypatch):
    """The files of others in the data folder; skips where one is not at hand."""
    folder = demo_dir("knowledge").parent
    for name in drug_tables.SHORT:
        demo_dir(name)
    monkeypatch.setenv("MEDREC_DATA_DIR", str(folder))


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_sets_by_hand():
    rows = pl.DataFrame({"visit_id": [7, 7, 7, 9, 3, None], "atc3": ["B", "A", "B", "A", "Z", "A"]})
    assert drug_tables.sets(rows, ["A", "B"]).tolist() == [[True, True], [True, False]]
    assert drug_tables.sets(rows, ["Y"]).shape == (0, 1)


def test_a_drug_has_its_classes_once_and_in_the_order_of_its_codes():
    classes = dict(drug_tables.choices().iter_rows())
    assert classes["aspirin"] == ["A01A", "B01A", "N02B"]
    assert all(len(codes) == len(set(codes)) and codes == sorted(codes) for codes in classes.values())


def test_a_lot_gives_each_drug_one_class_for_all_its_orders():
    """Aspirin has three classes and metformin one; A01A alone interacts with metformin's."""
    rows = pl.DataFrame({"visit_id": [1, 1, 2, 2], "drug": ["aspirin", "metformin"] * 2})
    classes = ["A01A", "A10B", "B01A", "N02B"]
    ddi = np.zeros((4, 4), dtype=bool)
    ddi[0, 1] = ddi[1, 0] = True
    rates = drug_tables.by_lot(rows, classes, ddi, seed=0, draws=60)
    assert set(rates) == {0, 1}  # never one half: both visits have the same class of aspirin
    assert 0.2 < rates.mean() < 0.5
    np.testing.assert_array_equal(rates, drug_tables.by_lot(rows, classes, ddi, seed=0, draws=60))
    assert (rates != drug_tables.by_lot(rows, classes, ddi, seed=1, draws=60)).any()


def test_textbook_pairs_are_thirty_rows_of_our_list():
    listed = set(interactions().filter(pl.col("severity") != "minor").select("drug_a", "drug_b").iter_rows())
    assert len({frozenset(pair) for pair in drug_tables.TEXTBOOK}) == 30
    assert {tuple(sorted(pair)) for pair in drug_tables.TEXTBOOK} <= listed


# -- against the files ------------------------------------------------------------------------------------------------


def test_kept_values_are_those_of_the_files(files):
    """A change of the tables or of the mapping must be followed by ``python -m medrec.experiments.drug_tables``."""
    kept, now = drug_tables.read(), drug_tables.measure()
    for name, table in now.items():
        stored = kept.table(name)
        *names, value = table.columns
        assert stored.select(names).equals(table.select(names))
        for row, then in zip(table.iter_rows(), stored[value], strict=True):
            assert then == pytest.approx(row[-1], abs=1e-6), row[:-1]


def test_kept_overlaps_are_those_of_the_files(files):
    """Counts to the last edge; what random graphs share within the error of few of them."""
    few, kept = drug_tables.overlaps(rewired=40), drug_tables.read().table("overlaps")
    assert kept.select("list", "edges", "shared").equals(few.select("list", "edges", "shared"))
    np.testing.assert_allclose(kept["uniform"], few["uniform"], atol=1e-6)
    assert ((kept["mean"] - few["mean"]).abs() < 4 * kept["sd"] / np.sqrt(40)).all()


def test_overlaps_are_those_of_the_test_of_the_package(files):
    classes, ddi = drug_tables.published()
    row = drug_tables.overlaps(rewired=5, seed=3).row(0, named=True)
    other = drug_tables.ddi_matrix(classes, drug_tables.other_lists()[row["list"]])
    observed, null, p = overlap_test(ddi, other, n=5, seed=3)
    assert (observed, null.mean(), p) == (row["shared"], row["mean"], row["p"])


def test_what_the_chapter_says_of_the_published_matrix(files):
    classes, ddi = drug_tables.published()
    at, degree, listed = classes.index, ddi.sum(1), drug_tables.listed_drugs()
    assert (ddi == ddi.T).all()
    assert not ddi.diagonal().any()
    assert ddi[at("R01A"), at("R03A")]
    assert not any(ddi[at(a), at(b)] for a, b in product(("A01A", "N02B"), ("B01A",)))
    assert {classes[i] for i in np.argsort(-degree)[:4]} == {"M01A", "L01X", "L04A", "B01A"}
    for code in ("J01M", "J01G", "C01C"):
        assert degree[at(code)] == 0
        assert listed[code] > 0
    assert "R03B" not in classes
    assert "R03B" in set(atc3()["code"])


def test_what_the_chapter_says_of_the_expert_list(files):
    expert = read_onc(drug_tables.data_dir() / "knowledge" / drug_tables.ONC_FILE)
    rows_of = {d: expert.filter((pl.col("drug_a") == d) | (pl.col("drug_b") == d)) for d in ("digoxin", "warfarin")}
    assert rows_of["digoxin"].is_empty()
    assert set(rows_of["warfarin"]["source"]) == {"ONC-NonInteruptive"}  # spelt so in the file


def test_what_the_chapter_says_of_the_demos():
    facts = drug_tables.stored_facts()
    assert facts["aspirin_a01a"] == facts["aspirin"]
    assert facts["vancomycin_a07a"] == facts["vancomycin"]
    assert facts["n07a_neostigmine"] == facts["n07a"]
    assert facts["tw_a07a"] == 0
