"""ATC levels, and the class table against every vocabulary that refers to it."""

from __future__ import annotations

import polars as pl
import pytest

from medrec.knowledge import conditions, drugs
from medrec.knowledge.classes import atc3, cut, level
from medrec.types import MedrecError
from tests.conftest import demo_dir


def test_metformin_up_the_tree():
    assert [cut("A10BA02", to) for to in (1, 2, 3, 4, 5)] == ["A", "A10", "A10B", "A10BA", "A10BA02"]
    assert [level(code) for code in ("A", "A10", "A10B", "A10BA", "A10BA02")] == [1, 2, 3, 4, 5]
    assert cut(cut("A10BA02")) == cut("A10BA02") == "A10B"  # the papers' "ATC-3" or "ATC4": four characters, level 3


def test_what_is_no_code_or_too_coarse_is_refused():
    with pytest.raises(MedrecError, match="no ATC code"):
        level("A1")
    with pytest.raises(MedrecError, match="cannot be cut"):
        cut("A10", to=3)
    with pytest.raises(MedrecError, match="level 6"):
        cut("A10B", to=6)


def test_codes_are_unique_sorted_and_of_level_three():
    codes = atc3()["code"]
    assert codes.is_unique().all()
    assert codes.is_sorted()
    assert codes.str.contains(r"^[A-Z]\d\d[A-Z]$").all()
    assert len(codes) >= 220


def test_every_class_has_a_name_and_one_to_three_sentences():
    table = atc3()
    assert table["name"].is_unique().all()
    assert (table["name"].str.len_chars().is_between(5, 90)).all()
    sentences = table["description"].str.count_matches(r"\.(\s|$)")
    assert sentences.is_between(1, 3).all(), table.filter(~sentences.is_between(1, 3))["code"].to_list()
    assert table["description"].is_unique().all()
    assert (table["description"].str.split(" ").list.len() >= 12).all()
    assert (table["source"].str.len_chars() > 0).all()


def test_every_class_of_a_drug_a_combination_or_a_need_is_named():
    known = set(atc3()["code"])
    assert set(drugs.drug_atc()["atc3"]) <= known
    assert set(drugs.combinations()["atc3"]) <= known
    assert set(conditions.needs()["option"]) <= known


def test_every_class_of_the_published_vocabularies_is_named():
    published = pl.read_csv(demo_dir("knowledge") / "ddi_twosides_top40_atc3_vocab.csv.gz")
    assert published["index_131"].count() == 131
    assert published["index_112"].count() == 112
    assert set(published["atc3"]) <= set(atc3()["code"])
