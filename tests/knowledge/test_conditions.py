"""The condition tables: whole in themselves, true to the official code lists, and clinically plausible."""

from __future__ import annotations

import csv
import gzip
from graphlib import TopologicalSorter

import polars as pl
import pytest

from medrec.knowledge.conditions import LIST_COLUMNS, SUPPORTIVE, TABLES, conditions, icd_titles, needs
from tests.conftest import demo_dir

CLASS_COLUMNS = ("first_line", "second_line", "contraindicated")
CODE_COLUMNS = {
    "icd9": (9, "diagnosis"),
    "icd10": (10, "diagnosis"),
    "procedures_icd9": (9, "procedure"),
    "procedures_icd10": (10, "procedure"),
}


def exploded(column: str) -> pl.DataFrame:
    """One row for each item of a list column: ``id``, ``kind``, ``item``."""
    return conditions().select("id", "kind", item=pl.col(column)).explode("item").drop_nulls("item")


def options() -> pl.DataFrame:
    return needs().select(id="condition", item="option").unique()


def test_there_are_enough_conditions_and_ids_are_slugs() -> None:
    table = conditions()
    assert len(table) >= 150
    assert table["id"].is_unique().all()
    assert table["id"].str.contains(r"^[a-z][a-z0-9_]+$").all()
    assert table["title"].is_unique().all()


def test_bands_hold_only_their_words() -> None:
    table = conditions()
    words = {
        "kind": {"chronic", "acute"},
        "prevalence": {"very_common", "common", "uncommon", "rare"},
        "age": {"child", "young", "adult", "old", "any"},
        "sex": {"F", "M", "any"},
    }
    for column, allowed in words.items():
        assert set(table[column]) <= allowed, column
    assert table["source"].str.len_chars().min() > 5


def test_lists_have_no_empty_and_no_repeated_items() -> None:
    for column in LIST_COLUMNS:
        items = conditions()[column]
        assert (items.list.len() == items.list.n_unique()).all(), column
        assert (exploded(column)["item"].str.strip_chars() != "").all(), column
    for column in ("icd9", "icd10", "symptoms"):
        assert conditions()[column].list.len().min() >= 1, column


@pytest.mark.parametrize("column", ["icd9", "icd10"])
def test_no_diagnosis_code_belongs_to_two_conditions(column: str) -> None:
    codes = exploded(column)
    twice = codes.filter(codes["item"].is_duplicated())
    assert twice.is_empty(), twice


@pytest.mark.parametrize("column", CODE_COLUMNS)
def test_every_code_has_a_title(column: str) -> None:
    version, kind = CODE_COLUMNS[column]
    titles = icd_titles().filter(version=version, kind=kind)["code"]
    assert set(exploded(column)["item"]) <= set(titles)


def test_titles_are_unique_and_leave_a_tail() -> None:
    titles = icd_titles()
    assert not titles.select("version", "kind", "code").is_duplicated().any()
    assert (titles["title"].str.len_chars() > 0).all()
    assert not titles["code"].str.contains(r"[^0-9A-Z]").any()
    for column, (version, kind) in CODE_COLUMNS.items():
        tail = set(titles.filter(version=version, kind=kind)["code"]) - set(exploded(column)["item"])
        assert len(tail) >= (500 if kind == "diagnosis" else 150), column


def test_comorbidities_exist_and_form_no_cycle() -> None:
    arrows = exploded("comorbidities")
    assert set(arrows["item"]) <= set(conditions()["id"])
    assert (arrows["item"] != arrows["id"]).all()
    kind = conditions().select(item="id", child_kind="kind")
    backwards = arrows.join(kind, on="item").filter(kind="acute", child_kind="chronic")
    assert backwards.is_empty(), "an acute condition raises the odds of a chronic one"
    children = dict(conditions().select("id", "comorbidities").iter_rows())
    assert len(list(TopologicalSorter(children).static_order())) == len(children)  # raises CycleError on a cycle


def test_needs_belong_to_conditions_and_every_condition_has_one() -> None:
    assert set(needs()["condition"]) == {SUPPORTIVE, *conditions()["id"]}


def test_each_need_is_one_row_of_the_file_and_severity_is_stated() -> None:
    with (TABLES / "condition_needs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [(row["condition"], row["need"]) for row in rows]
    assert len(keys) == len(set(keys)) == needs().select("condition", "need").unique().height
    assert {row["severe"] for row in rows} == {"true", "false"}


def test_probabilities_and_weights() -> None:
    table = needs()
    assert table["probability"].is_between(0, 1, closed="right").all()
    assert table["weight"].is_between(0, 1, closed="right").all()
    per_need = table.group_by("condition", "need").agg(
        total=pl.col("weight").sum(), classes=pl.col("option").n_unique(), n=pl.len()
    )
    assert (per_need["total"] - 1).abs().max() < 1e-6
    assert (per_need["classes"] == per_need["n"]).all()


def test_classes_are_atc_level_3_codes_with_drugs() -> None:
    tables = [pl.read_csv(TABLES / name, infer_schema=False) for name in ("drug_atc.csv", "combinations.csv")]
    drugs = pl.concat([table.select("atc5") for table in tables])
    used = set(needs()["option"]).union(*(exploded(column)["item"] for column in CLASS_COLUMNS))
    assert all(len(code) == 4 and code[0].isalpha() and code[1:3].isdigit() and code[3].isalpha() for code in used)
    assert used <= set(pl.read_csv(TABLES / "atc3.csv", infer_schema=False)["code"])
    assert used <= set(drugs["atc5"].str.slice(0, 4)), "a class without a drug cannot be ordered"


def test_lines_of_treatment_agree_with_needs() -> None:
    first, second, never = (exploded(column).select("id", "item") for column in CLASS_COLUMNS)
    assert first.join(options(), on=["id", "item"], how="anti").is_empty(), "first-line class that no need offers"
    for used in (first, second, options()):
        both = never.join(used, on=["id", "item"])
        assert both.is_empty(), f"contraindicated and given: {both}"
    assert first.join(second, on=["id", "item"]).is_empty(), "first and second line at once"


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ("diabetes2", "A10A"),
        ("diabetes2", "A10B"),
        ("diabetes1", "A10A"),
        ("heart_failure_systolic", "C03C"),
        ("heart_failure_diastolic", "C03C"),
        ("sepsis", "J01D"),
        ("septic_shock", "C01C"),
        ("asthma", "R03A"),
        ("copd", "R03A"),
        ("hypothyroidism", "H03A"),
        ("seizure_disorder", "N03A"),
        ("parkinson", "N04B"),
        ("gout", "M04A"),
        ("hiv", "J05A"),
        ("transplant_kidney", "L04A"),
        ("pulmonary_embolism", "B01A"),
    ],
)
def test_the_leading_class_of_well_known_conditions(condition: str, wanted: str) -> None:
    first = conditions().filter(id=condition)["first_line"].item().to_list()
    assert wanted in first


def test_contraindications_that_every_textbook_names() -> None:
    never = dict(conditions().select("id", "contraindicated").iter_rows())
    assert "M01A" in never["acute_kidney_injury"]  # NSAID
    assert "B01A" in never["intracerebral_hemorrhage"]  # antithrombotic
    assert "A10B" in never["diabetes1"]
    assert "A03F" in never["parkinson"]  # metoclopramide
    assert "A12B" in never["hyperkalemia"]


def test_needs_alone_give_about_the_classes_of_a_hospital_stay() -> None:
    """Supportive needs of a stay of middling severity leave room for the conditions: 18 classes are wanted in all."""
    chance = pl.col("probability") * pl.when("severe").then(0.5).otherwise(1.0) * pl.col("weight")
    missed = needs().filter(condition=SUPPORTIVE).group_by("option").agg(missed=(1 - chance).product())["missed"]
    assert 8 < (1 - missed).sum() < 14


def official(name: str) -> set[tuple[int, str]]:
    """(version, code) of a dictionary of the MIMIC-IV demo."""
    path = demo_dir("mimic4-demo") / "hosp" / f"{name}.csv.gz"
    with gzip.open(path, "rt", newline="") as file:
        return {(int(row["icd_version"]), row["icd_code"].strip()) for row in csv.DictReader(file)}


@pytest.mark.parametrize(("kind", "dictionary"), [("diagnosis", "d_icd_diagnoses"), ("procedure", "d_icd_procedures")])
def test_every_code_is_official(kind: str, dictionary: str) -> None:
    known = official(dictionary)
    ours = set(icd_titles().filter(kind=kind).select("version", "code").iter_rows())
    assert not ours - known, sorted(ours - known)[:10]
