"""ICD to CCS, and titles."""

import numpy as np
import polars as pl
import pytest

from medrec.data import coding
from medrec.types import MedrecError
from tests.conftest import demo_dir
from tests.data.conftest import build, by_letter, sets, write_mimic3, write_table


@pytest.fixture
def knowledge(tmp_path, monkeypatch):
    """A folder of external maps that holds a small CCS."""
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path))
    folder = tmp_path / "knowledge"
    rows = [("ICD9CM", "4019", "98"), ("ICD10CM", "I10", "98"), ("ICD9CM", "4280", "108")]
    write_table(folder, "ccs_dx", [dict(zip(("vocabulary", "code", "category_code"), r, strict=True)) for r in rows])
    write_table(folder, "ccs_dx_labels", [{"category_code": "98", "category_desc": "Essential hypertension"}])
    write_table(folder, "ccs_pr", [{"vocabulary": "ICD9PCS", "code": "3893", "category_code": "54"}])
    return folder


@pytest.fixture
def hospital(tmp_path):
    diagnoses = [(203, 1, "4280"), (203, 2, "4019"), (203, 3, "99999")]
    return write_mimic3(tmp_path / "toy", [(1, 203, "2150-01-05")], [{"ndc": "a"}], diagnoses)


def test_both_versions_share_a_category(knowledge):
    table = dict(coding.ccs_map("diagnosis").iter_rows())
    assert table == {"9:4019": "ccs:98", "10:I10": "ccs:98", "9:4280": "ccs:108"}
    assert dict(coding.ccs_map("procedure").iter_rows()) == {"9:3893": "ccs:54"}


def test_the_table_may_spell_its_codes_as_it_likes(knowledge):
    rows = [("icd9cm", "401.9", "98"), ("ICD-10-CM", " i10", "98.0"), ("ICD9CM", "'4280", " 108"), ("ICD9CM", "", "1")]
    names = ("vocabulary", "code", "category_code")
    write_table(knowledge, "ccs_dx", [dict(zip(names, row, strict=True)) for row in rows])
    assert dict(coding.ccs_map("diagnosis").iter_rows()) == {
        "9:4019": "ccs:98",
        "10:I10": "ccs:98",
        "9:4280": "ccs:108",
    }
    write_table(knowledge, "ccs_pr", [{"vocabulary": "ICD9PCS", "code": "38.93", "category_code": "54"}])
    assert dict(coding.ccs_map("procedure").iter_rows()) == {"9:3893": "ccs:54"}


def test_a_code_in_two_categories_is_refused(knowledge):
    rows = [("ICD9CM", "401.9", "98"), ("ICD9CM", "4019", "99")]
    names = ("vocabulary", "code", "category_code")
    write_table(knowledge, "ccs_dx", [dict(zip(names, row, strict=True)) for row in rows])
    with pytest.raises(MedrecError, match=r"ccs_dx\.csv puts 2 rows of one code into different categories"):
        coding.ccs_map("diagnosis")


def test_codes_become_categories_and_one_without_stays_itself(knowledge, hospital):
    cohort = build(hospital, mapper=by_letter, coding="ccs")
    assert sets(cohort, "diagnosis") == [["ccs:108", "ccs:98", "9:99999"]]
    assert sets(cohort, "procedure") == [["ccs:54"]]
    assert cohort.report.facts["diagnosis_rows_without_ccs"] == 1
    titles = dict(zip(cohort.vocab["diagnosis"].codes, cohort.vocab["diagnosis"].titles, strict=True))
    assert titles == {"9:99999": "9:99999", "ccs:98": "Essential hypertension", "ccs:108": "ccs:108"}


def test_without_the_table_the_message_says_what_to_put_where(knowledge, hospital):
    (knowledge / "ccs_pr.csv").unlink()
    with pytest.raises(MedrecError, match=r"coding='ccs' needs ccs_pr\.csv.*MEDREC_DATA_DIR.*coding='icd'"):
        build(hospital, mapper=by_letter, coding="ccs")


def test_a_table_without_its_columns_is_named(knowledge, hospital):
    write_table(knowledge, "ccs_dx", [{"vocabulary": "ICD9CM", "code": "4019", "category": "98"}])
    with pytest.raises(MedrecError, match=r"ccs_dx\.csv has no column 'category_code'"):
        build(hospital, mapper=by_letter, coding="ccs")


def test_the_database_titles_first_then_ours_then_the_code():
    dictionary = pl.DataFrame({"kind": ["diagnosis"], "code": ["9:4019"], "title": ["High blood pressure"]})
    codes = pl.Series(["9:4280", "9:4019", "path:renal|stones", "9:00000"])
    titles = coding.titles("diagnosis", codes, dictionary)
    assert titles[1:] == ("High blood pressure", "renal|stones", "9:00000")
    assert "heart failure" in titles[0].lower()
    # A code has another meaning as a procedure.
    assert coding.titles("procedure", codes, dictionary)[1] != "High blood pressure"


@pytest.mark.parametrize("layout", ["mimic3", "mimic4"])
def test_every_row_of_the_demos_has_a_category(demo_cohort, monkeypatch, layout):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(demo_dir("knowledge").parent))
    cohort = demo_cohort(layout, coding="ccs")
    for kind in ("diagnosis", "procedure"):
        assert cohort.report.facts[f"{kind}_rows_without_ccs"] == 0
        assert all(code.startswith("ccs:") for code in cohort.vocab[kind].codes)
    titled = zip(cohort.vocab["diagnosis"].codes, cohort.vocab["diagnosis"].titles, strict=True)
    assert all(title != code for code, title in titled)


def test_a_change_of_version_keeps_no_code_and_many_categories(demo_cohort, monkeypatch):
    """Consecutive visits coded in different versions share no ICD code; as categories they do."""
    monkeypatch.setenv("MEDREC_DATA_DIR", str(demo_dir("knowledge").parent))
    shared = {}
    for codes in ("icd", "ccs"):
        cohort = demo_cohort("mimic4", require=("diagnosis", "medication"), coding=codes)
        dense = cohort.codes["diagnosis"].multi_hot(len(cohort.vocab["diagnosis"]))
        if codes == "icd":
            ten = np.array([code.startswith("10:") for code in cohort.vocab["diagnosis"].codes])
            version = dense[:, ten].any(axis=1)
            changed = np.flatnonzero((version[1:] != version[:-1]) & (cohort.visit_number[1:] > 0))
        shared[codes] = (dense[changed] & dense[changed + 1]).sum(axis=1)
    assert len(changed) >= 15
    assert shared["icd"].max() == 0
    assert (shared["ccs"] > 0).mean() > 0.8
