"""The MIMIC-IV reader: the demo's own counts, and codes keyed by version."""

import shutil

import polars as pl
import pytest

from medrec.data import mimic4
from tests.conftest import demo_dir
from tests.data.conftest import build, sets, write_table


def test_demo_has_the_counts_of_its_description(demo_tables):
    tables = demo_tables("mimic4")
    visits = tables.visits.collect()
    assert (len(visits), visits["patient_id"].n_unique()) == (275, 100)
    several = visits.group_by("patient_id").len().filter(pl.col("len") >= 2)
    assert (len(several), several["len"].sum(), several["len"].max()) == (48, 223, 20)
    assert (visits["patient_id"].min(), visits["patient_id"].max()) == (10000032, 10040025)
    diagnoses, procedures, orders = (f.collect() for f in (tables.diagnoses, tables.procedures, tables.orders))
    assert (len(diagnoses), diagnoses["visit_id"].n_unique()) == (4506, 275)
    assert (len(procedures), procedures["visit_id"].n_unique()) == (722, 187)
    for frame, rows, codes in ((diagnoses, (2193, 2313), (740, 734)), (procedures, None, (183, 169))):
        split = [frame.filter(pl.col("code").str.starts_with(version)) for version in ("9:", "10:")]
        assert tuple(part["code"].n_unique() for part in split) == codes
        if rows:
            assert tuple(map(len, split)) == rows
    assert (len(orders), orders["visit_id"].n_unique()) == (18087, 250)
    assert orders["ndc"].null_count() == 2631
    assert (orders["ndc"].drop_nulls().n_unique(), orders["name"].n_unique()) == (1249, 626)  # 631 with blanks
    assert dict(orders["drug_type"].value_counts().iter_rows()) == {"MAIN": 14391, "BASE": 3677, "ADDITIVE": 19}


def test_a_visit_has_one_version_and_some_patients_have_two(demo_tables):
    tables = demo_tables("mimic4")
    coded = tables.diagnoses.join(tables.visits, on="visit_id").select(
        "patient_id", "visit_id", version=pl.col("code").str.extract(r"^(\d+):")
    )
    assert coded.group_by("visit_id").agg(pl.col("version").n_unique()).collect()["version"].max() == 1
    patients = coded.group_by("patient_id").agg(pl.col("version").n_unique()).collect()
    assert (patients["version"] == 2).sum() == 20


def hospital(folder, diagnoses, **patient):
    """One patient, two admissions, one order each."""
    admissions = [(31, "2150-01-05 08:30:00"), (30, "2151-03-01 23:59:59")]
    write_table(
        folder,
        "patients",
        [{"subject_id": 1, "gender": "F", "anchor_age": 60, "anchor_year": 2149} | patient],
    )
    write_table(folder, "admissions", [{"subject_id": 1, "hadm_id": a, "admittime": time} for a, time in admissions])
    for name, rows in (("diagnoses_icd", diagnoses), ("procedures_icd", [(31, "02703DZ", 10), (30, "3893", 9)])):
        write_table(
            folder,
            name,
            [{"hadm_id": a, "seq_num": i, "icd_code": code, "icd_version": v} for i, (a, code, v) in enumerate(rows)],
        )
    order = {"starttime": "2150-01-05 09:00:00", "drug_type": "MAIN", "drug": "Aspirin", "ndc": "0", "route": "PO"}
    write_table(folder, "prescriptions", [{"hadm_id": a} | order for a, _ in admissions])
    return folder


def test_one_string_in_two_versions_is_two_codes(tmp_path):
    folder = hospital(tmp_path, [(30, "E8881", 9), (31, "E8881", 10)])
    cohort = build(folder, "mimic4")
    assert sets(cohort, "diagnosis") == [["10:E8881"], ["9:E8881"]]
    assert len(cohort.vocab["diagnosis"]) == 2


@pytest.mark.parametrize(
    ("nine", "ten"), [("9.0", "10.0"), (" 9", "10 "), ("ICD9", "icd-10"), ("ICD9CM", "ICD10PCS"), ("09", "10.00")]
)
def test_versions_and_codes_in_other_spellings(tmp_path, nine, ten):
    folder = hospital(tmp_path, [(30, "401.9", nine), (30, "v15.82", nine), (31, "i50.9", ten), (31, " I509", ten)])
    titles = [("4019", nine, "A"), ("V15.82", nine, "B"), ("I50.9 ", ten, "C")]
    write_table(folder, "d_icd_diagnoses", [{"icd_code": c, "icd_version": v, "long_title": t} for c, v, t in titles])
    cohort = build(folder, "mimic4")
    assert sets(cohort, "diagnosis") == [["10:I509"], ["9:4019", "9:V1582"]]
    assert cohort.vocab["diagnosis"].titles == ("C", "A", "B")
    assert cohort.report.facts["diagnosis_rows_without_title"] == 0


@pytest.mark.parametrize("version", ["11", "8", "", "NULL", None, "ten"])
def test_a_code_of_no_version_is_no_code_and_counted(tmp_path, version):
    cohort = build(hospital(tmp_path, [(30, "4019", 9), (31, "I10", 10), (31, "4280", version)]), "mimic4")
    assert sets(cohort, "diagnosis") == [["10:I10"], ["9:4019"]]
    assert [s.dropped for s in cohort.report.steps if (s.unit, s.step) == ("diagnosis rows", "has a code")] == [1]


@pytest.mark.parametrize(
    ("anchor", "band"),
    [
        ({"anchor_age": "60.0", "anchor_year": " 2149"}, "60-69"),
        ({"anchor_age": -5}, ""),
        ({"anchor_age": 500}, ""),
        ({"anchor_year": 2249}, ""),
        ({"anchor_year": 49}, ""),
        ({"anchor_age": None}, ""),
    ],
)
def test_ages_that_nobody_has_are_unknown(tmp_path, anchor, band):
    cohort = build(hospital(tmp_path, [(30, "4019", 9), (31, "I10", 10)], **anchor), "mimic4")
    assert list(cohort.age_band) == [band]
    assert cohort.report.facts.get("patients_without_an_age", 0) == (not band)
    impossible = cohort.report.facts.get("visits_of_impossible_ages", 0)
    assert impossible == (0 if band or anchor.get("anchor_age", 0) is None else 2)


def test_orders_of_a_day_alone_are_counted_and_told(tmp_path, capsys):
    folder = hospital(tmp_path, [(30, "4019", 9), (31, "I10", 10)])
    path = folder / "prescriptions.csv"
    pl.read_csv(path, infer_schema=False).with_columns(starttime=pl.lit("2150-01-05")).write_csv(path)
    assert build(folder, "mimic4", window="first_day").report.facts["orders_at_midnight"] == 2
    assert "the orders are of midnight" in capsys.readouterr().err


def test_both_readings_occur_in_the_demo_and_many_more_in_the_dictionaries(demo_tables):
    tables = demo_tables("mimic4")
    assert {"9:E8881", "10:E8881"} <= set(tables.diagnoses.collect()["code"])
    titles = tables.titles.select("kind", "code", text=pl.col("code").str.replace(r"^\d+:", "")).collect()
    for kind, shared in (("diagnosis", 493), ("procedure", 6)):
        strings = titles.filter(pl.col("kind") == kind).group_by("text").agg(pl.col("code").n_unique())
        assert (strings["code"] == 2).sum() == shared


def test_every_code_of_the_demo_has_a_title(demo_cohort):
    for kind in ("diagnosis", "procedure"):
        vocabulary = demo_cohort("mimic4").vocab[kind]
        assert all(title != code for code, title in zip(vocabulary.codes, vocabulary.titles, strict=True))


def test_tables_may_lie_in_hosp_or_in_the_folder_itself(tmp_path, demo_cohort):
    shutil.copytree(demo_dir("mimic4-demo") / "hosp", tmp_path / "flat")
    assert build(tmp_path / "flat", "mimic4").describe() == demo_cohort("mimic4").describe()


def test_visits_stand_in_time_order_with_gaps_in_days(tmp_path):
    cohort = build(hospital(tmp_path, [(30, "4019", 9), (31, "I10", 10)]), "mimic4")
    assert list(cohort.admit_time.astype(str)) == ["2150-01-05T08:30:00", "2151-03-01T23:59:59"]
    assert cohort.days_since_previous[1] == pytest.approx(420 + (15 * 3600 + 29 * 60 + 59) / 86400)


@pytest.mark.parametrize(
    ("anchor", "band"), [({}, "60-69"), ({"anchor_age": 91}, "90+"), ({"anchor_age": 58, "anchor_year": 2150}, "50-59")]
)
def test_age_at_the_first_visit(tmp_path, anchor, band):
    assert list(build(hospital(tmp_path, [(30, "4019", 9), (31, "I10", 10)], **anchor), "mimic4").age_band) == [band]


def test_orders_carry_a_time(demo_tables):
    tables = demo_tables("mimic4")
    assert tables.first_day == "24h"
    assert tables.orders.collect()["time"].dt.hour().n_unique() == 24
    assert isinstance(mimic4.read(demo_dir("mimic4-demo")).orders, pl.LazyFrame)
