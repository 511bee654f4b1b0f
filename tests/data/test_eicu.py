"""The eICU reader: the demo's own counts, and what these tables do differently."""

import numpy as np
import polars as pl
import pytest

from medrec.data import eicu
from medrec.types import MedrecError
from tests.data.conftest import build, sets, write_table


def test_demo_has_the_counts_of_its_description(demo_tables, demo_cohort):
    tables = demo_tables("eicu")
    visits = tables.visits.collect()
    assert (len(visits), visits["patient_id"].n_unique()) == (2174, 1841)
    several = visits.group_by("patient_id").len().filter(pl.col("len") >= 2)
    assert (len(several), several["len"].max()) == (221, 16)
    orders = tables.orders.collect()
    assert (len(orders), orders["cancelled"].sum()) == (75604, 2636)
    assert (len(orders) - orders["name"].null_count(), orders["name"].n_unique() - 1) == (44943, 1401)
    assert (len(orders) - orders["hicl"].null_count(), orders["hicl"].n_unique() - 1) == (71163, 1027)
    facts = demo_cohort("eicu").report.facts
    assert (facts["visits_read"], facts["orders_read"], facts["orders_cancelled"]) == (2174, 75604, 2636)


def test_codes_of_the_demo_by_version(demo_tables):
    codes = demo_tables("eicu").diagnoses.collect()["code"]
    versions = codes.unique().str.extract("^([a-z0-9]+):")
    # 425 ICD-9 codes in all; ICD-10 only where a cell has no ICD-9.
    assert (versions == "9").sum() == 425
    rows = codes.str.extract("^([a-z0-9]+):").value_counts()
    # 3 772 rows without a code, and 34 whose only code, "31.1", is a diagnosis in neither version.
    assert dict(rows.iter_rows())["path"] == 3772 + 34


@pytest.mark.parametrize(
    ("cell", "codes"),
    [
        ("401.9, I10", ["9:4019"]),
        ("I68.0", ["10:I680"]),
        ("573.1, 070.51, B17.1", ["9:5731", "9:07051"]),
        ("486, 486, 486, J18.9", ["9:486"]),
        ("E980.2, 965.00, T40.60", ["9:E9802", "9:96500"]),
        ("E87.8", ["10:E878"]),
        ("V08", ["9:V08"]),
        ("i10", ["10:I10"]),
        ("4019", ["9:4019"]),
        ("I509, 4280", ["9:4280"]),
        ("E8881", ["9:E8881"]),
        ("v1582", ["9:V1582"]),
        ("I2510", ["10:I2510"]),
        ("NULL", ["path:renal|stones"]),
        (" nan", ["path:renal|stones"]),
        ("4O1.9", ["path:renal|stones"]),
        ("31.1", ["path:renal|stones"]),
        ("", ["path:renal|stones"]),
        (None, ["path:renal|stones"]),
    ],
)
def test_codes_of_one_cell(cell, codes):
    row = pl.DataFrame(
        {"icd9code": [cell], "diagnosisstring": [" Renal|Stones "]},
        schema={"icd9code": pl.String, "diagnosisstring": pl.String},
    )
    assert row.select(eicu.codes_of_cell()).item().to_list() == codes


UNIT = {
    "patientunitstayid": 1,
    "patienthealthsystemstayid": 100,
    "uniquepid": "002-1",
    "gender": "Female",
    "age": "70",
    "hospitaladmitoffset": -60,
    "hospitaldischargeyear": 2014,
    "unitvisitnumber": 1,
}
FINDING = {
    "patientunitstayid": 1,
    "diagnosisoffset": 10,
    "diagnosisstring": "cardiovascular|hypertension",
    "icd9code": "401.9, I10",
    "diagnosispriority": "Major",
}
ORDER = {
    "patientunitstayid": 1,
    "drugorderoffset": 0,
    "drugordercancelled": "No",
    "drugname": "ASPIRIN 81 MG PO CHEW",
    "drughiclseqno": 1820,
    "routeadmin": "PO",
}


def hospital(folder, units, findings=None, orders=None):
    """Tables of the given unit stays; each has one finding and one order unless said otherwise."""
    write_table(folder, "patient", [UNIT | unit for unit in units])
    stays = [{"patientunitstayid": (UNIT | unit)["patientunitstayid"]} for unit in units]
    write_table(folder, "diagnosis", [FINDING | finding for finding in (findings or stays)])
    write_table(folder, "medication", [ORDER | order for order in (orders or stays)])
    return folder


def test_a_visit_is_a_hospital_stay_with_all_its_unit_stays(tmp_path):
    units = [{}, {"patientunitstayid": 2, "unitvisitnumber": 2, "hospitaladmitoffset": -3000}]
    findings = [{"patientunitstayid": 2, "icd9code": "584.9, N17.9"}, {}]
    cohort = build(hospital(tmp_path, units, findings), "eicu")
    assert cohort.n_visits == 1
    assert sets(cohort, "diagnosis") == [["9:4019", "9:5849"]]  # equal priority and minute: by code
    assert len(cohort.vocab["procedure"]) == 0
    assert cohort.options["require"] == ["diagnosis", "medication"]


def test_findings_stand_by_priority_then_by_time(tmp_path):
    findings = [
        {"icd9code": "1.1", "diagnosisstring": "late", "diagnosisoffset": 5, "diagnosispriority": "Other"},
        {"icd9code": "584.9", "diagnosisoffset": 90},
        {"icd9code": "486", "diagnosisoffset": 900, "diagnosispriority": "Primary"},
        {"icd9code": "428.0", "diagnosisoffset": 30},
    ]
    cohort = build(hospital(tmp_path, [{}], findings), "eicu")
    assert sets(cohort, "diagnosis") == [["9:486", "9:4280", "9:5849", "path:late"]]
    assert (
        dict(zip(cohort.vocab["diagnosis"].codes, cohort.vocab["diagnosis"].titles, strict=True))["path:late"] == "late"
    )


def test_findings_without_a_priority_or_a_minute_are_counted(tmp_path):
    findings = [
        {"icd9code": "584.9", "diagnosispriority": " MAJOR"},
        {"icd9code": "486", "diagnosispriority": "first"},
        {"icd9code": "428.0", "diagnosisoffset": "NULL"},
    ]
    cohort = build(hospital(tmp_path, [{}], findings), "eicu")
    assert sets(cohort, "diagnosis") == [["9:5849", "9:486", "9:4280"]]
    facts = cohort.report.facts
    assert (facts["diagnosis_rows_without_a_priority"], facts["diagnosis_rows_without_a_place"]) == (1, 1)


def test_stays_follow_the_year_and_the_unknown_part_is_counted(tmp_path):
    units = [
        {"patientunitstayid": 1, "patienthealthsystemstayid": 300, "hospitaldischargeyear": 2014},
        {"patientunitstayid": 2, "patienthealthsystemstayid": 100, "hospitaldischargeyear": 2015, "age": "71"},
        # Two stays in one year: nobody can know which came first.
        {"patientunitstayid": 3, "patienthealthsystemstayid": 200, "uniquepid": "002-2"},
        {"patientunitstayid": 4, "patienthealthsystemstayid": 201, "uniquepid": "002-2"},
    ]
    findings = [{"patientunitstayid": i + 1, "icd9code": code} for i, code in enumerate(["486", "428.0", "585", "584"])]
    cohort = build(hospital(tmp_path, units, findings), "eicu")
    assert sets(cohort, "diagnosis") == [["9:486"], ["9:4280"], ["9:585"], ["9:584"]]
    assert np.isnat(cohort.admit_time).all()
    assert np.isnan(cohort.days_since_previous).all()
    facts = cohort.report.facts
    assert (facts["patients_with_several_visits_read"], facts["patients_with_undecidable_order_read"]) == (2, 1)


def test_undecidable_orders_of_the_demo(demo_cohort):
    facts = demo_cohort("eicu").report.facts
    assert facts["patients_with_several_visits_read"] == 221
    assert facts["patients_with_undecidable_order_read"] == 192


def test_cancelled_orders_are_dropped_and_counted(tmp_path):
    orders = [{}, {"drugordercancelled": "Yes", "drugname": "HEPARIN SODIUM 5000 UNIT/ML IJ SOLN", "routeadmin": "SC"}]
    cohort = build(hospital(tmp_path, [{}], orders=orders), "eicu")
    assert [len(row) for row in sets(cohort)] == [1]
    first = cohort.report.frame().row(0, named=True)
    assert (first["step"], first["before"], first["dropped"]) == ("not cancelled", 2, 1)


@pytest.mark.parametrize(("word", "stands"), [("YES", False), ("true", False), ("1", False), (" no", True), ("", True)])
def test_cancelled_in_other_words(tmp_path, word, stands):
    orders = [{}, {"drugordercancelled": word, "drugname": "LISINOPRIL 10 MG PO TABS"}]
    cohort = build(hospital(tmp_path, [{}], orders=orders), "eicu")
    assert [len(row) for row in sets(cohort)] == [1 + stands]


@pytest.mark.parametrize(
    ("table", "column", "value", "form"),
    [
        ("medication", "drugordercancelled", "perhaps", "Yes or No"),
        ("patient", "age", "> 40", "a whole number of years, or > 89"),
        ("patient", "age", "seventy", "a whole number of years, or > 89"),
        ("patient", "hospitaladmitoffset", "-60.5", "a whole number"),
    ],
)
def test_a_cell_that_cannot_be_read_is_refused(tmp_path, table, column, value, form):
    folder = hospital(tmp_path, [{}])
    path = folder / f"{table}.csv"
    pl.read_csv(path, infer_schema=False).with_columns(pl.lit(value).alias(column)).write_csv(path)
    with pytest.raises(MedrecError, match=rf"{table}\.csv: line 2: column '{column}' does not hold {form}") as caught:
        build(folder, "eicu", window="first_day")
    assert value not in str(caught.value).replace("> 89", "")


def test_a_unit_stay_listed_twice_is_one(tmp_path):
    clean = build(hospital(tmp_path / "clean", [{}]), "eicu")
    folder = hospital(tmp_path / "twice", [{}])
    write_table(folder, "patient", [UNIT, UNIT])
    twice = build(folder, "eicu")
    assert (twice.content, twice.report) == (clean.content, clean.report)


@pytest.mark.parametrize("turn", [1, -1])
def test_a_unit_stay_of_two_hospital_stays_belongs_to_neither(tmp_path, turn):
    second = {"patientunitstayid": 2, "patienthealthsystemstayid": 200, "uniquepid": "002-2"}
    folder = hospital(tmp_path, [{}, second])
    write_table(folder, "patient", [UNIT, UNIT | second, UNIT | second | {"patienthealthsystemstayid": 300}][::turn])
    cohort = build(folder, "eicu")
    assert cohort.n_visits == 1
    assert cohort.report.facts["unit_stays_without_a_hospital_stay"] == 1
    assert {step.dropped for step in cohort.report.steps if step.step == "order of a known visit"} >= {1}


@pytest.mark.parametrize("turn", [1, -1])
def test_unit_stays_that_contradict_each_other_leave_age_and_sex_unknown(tmp_path, turn):
    units = [{}, {"patientunitstayid": 2, "unitvisitnumber": 2, "age": "50", "gender": "Male"}]
    cohort = build(hospital(tmp_path, units[::turn]), "eicu")
    assert (list(cohort.age_band), list(cohort.sex)) == ([""], [""])
    assert cohort.report.facts["visits_with_contradicting_rows"] == 1


def test_codes_of_no_version_are_counted_and_much_of_it_is_told(tmp_path, demo_cohort, capsys):
    cohort = build(hospital(tmp_path, [{}], [{"icd9code": "401.9; I10"}, {"icd9code": "486"}]), "eicu")
    assert sets(cohort, "diagnosis") == [["9:486", "path:cardiovascular|hypertension"]]
    assert cohort.report.facts["diagnosis_cells_of_another_form"] == 1
    assert "50% of the diagnosis rows hold a code of no ICD version" in capsys.readouterr().err
    assert demo_cohort("eicu").report.facts["diagnosis_cells_of_another_form"] == 34


def test_numbers_that_went_through_floats(tmp_path):
    clean = build(hospital(tmp_path / "clean", [{}]), "eicu", window="first_day")
    folder = hospital(tmp_path / "floats", [{}])
    for path in folder.glob("*.csv"):
        table = pl.read_csv(path, infer_schema=False)
        numbers = [c for c in table.columns if table[c].str.contains(r"^-?\d+$").all()]
        table.with_columns(pl.col(numbers) + ".0").write_csv(path)
    floats = build(folder, "eicu", window="first_day")
    assert (floats.content, floats.report) == (clean.content, clean.report)


def test_padded_names_are_the_same_name(tmp_path):
    orders = [{"drugname": "ASPIRIN" + " " * 240}, {"drugname": "ASPIRIN"}, {"drugname": " " * 20}]
    read = eicu.read(hospital(tmp_path, [{}], orders=orders)).orders.collect()
    assert read["name"].to_list() == ["ASPIRIN", "ASPIRIN", None]


def test_a_missing_name_is_restored_from_the_number(tmp_path):
    orders = [
        *[{"drugname": "LISINOPRIL 10 MG PO TABS", "drughiclseqno": 7}] * 2,
        {"drugname": "FUROSEMIDE 10 MG/ML IJ SOLN", "drughiclseqno": 7, "routeadmin": "IV"},  # outvoted
        {"drugname": None, "drughiclseqno": 7},
        {"drugname": None, "drughiclseqno": 99},  # nobody says what this is
        {"drugname": None, "drughiclseqno": None},
    ]
    units = [{"patientunitstayid": i, "patienthealthsystemstayid": 100 + i, "uniquepid": f"p{i}"} for i in range(1, 7)]
    orders = [order | {"patientunitstayid": i} for i, order in enumerate(orders, start=1)]
    cohort = build(hospital(tmp_path, units, orders=orders), "eicu")
    assert sets(cohort) == [["C09A"], ["C09A"], ["C03C"], ["C09A"]]
    assert cohort.report.facts["orders_named_by_hicl"] == 1
    mapped = {row["status"]: row["rows"] for row in cohort.report.table("mapping").iter_rows(named=True)}
    assert mapped == {"mapped": 4, "unmapped": 2}


def test_drugs_before_admission_name_numbers_that_no_order_names(tmp_path):
    orders = [
        {"drugname": "LISINOPRIL 10 MG PO TABS", "drughiclseqno": 7},
        {"drugname": None, "drughiclseqno": 7, "patientunitstayid": 2},
        {"drugname": None, "drughiclseqno": 8, "patientunitstayid": 3},
    ]
    units = [{"patientunitstayid": i, "patienthealthsystemstayid": 100 + i, "uniquepid": f"p{i}"} for i in (1, 2, 3)]
    folder = hospital(tmp_path, units, orders=orders)
    assert sets(build(folder, "eicu")) == [["C09A"], ["C09A"]]
    taken = [{"drugname": "FUROSEMIDE", "drughiclseqno": 7}, {"drugname": "LASIX ", "drughiclseqno": 8}]
    write_table(folder, "admissiondrug", taken)
    assert sets(build(folder, "eicu")) == [["C09A"], ["C09A"], ["C03C"]]


def test_most_orders_of_the_demo_get_a_class(demo_cohort):
    mapping = demo_cohort("eicu").report.table("mapping")
    mapped = mapping.filter(pl.col("status") == "mapped")["rows"].sum()
    assert mapped / mapping["rows"].sum() >= 0.78  # of all rows, cancelled ones and carriers included


@pytest.mark.parametrize(
    ("age", "band"),
    [("> 89", "90+"), (">89", "90+"), ("89", "80-89"), ("", ""), ("0", "0-9"), ("-3", ""), ("130", ""), ("NULL", "")],
)
def test_age_may_be_text(tmp_path, age, band):
    assert list(build(hospital(tmp_path, [{"age": age}]), "eicu").age_band) == [band]


def test_ages_above_89_in_the_demo(demo_tables):
    visits = demo_tables("eicu").visits.collect()
    assert (visits["age"] == 90).sum() > 50
    assert visits["age"].max() == 90


def test_first_day_runs_on_the_clock_of_the_hospital_stay(tmp_path):
    # The first order stands at hour 1 of the hospital stay (0 min + 60); hour 26 is outside, hour 24.9 inside.
    units = [{}, {"patientunitstayid": 2, "unitvisitnumber": 2, "hospitaladmitoffset": -1560}]
    orders = [
        {},
        {"patientunitstayid": 2, "drugname": "LISINOPRIL 10 MG PO TABS", "drugorderoffset": 0},
        {"patientunitstayid": 2, "drugname": "FUROSEMIDE 20 MG PO TABS", "drugorderoffset": -66},
    ]
    folder = hospital(tmp_path, units, orders=orders)
    assert sets(build(folder, "eicu", window="first_day")) == [["B01A", "C03C"]]
    assert sets(build(folder, "eicu")) == [["B01A", "C03C", "C09A"]]
