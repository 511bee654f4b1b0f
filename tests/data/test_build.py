"""The pipeline: the ten-row toy by hand, the ledger's arithmetic, order, window, and known facts of the demos."""

import itertools
from datetime import datetime

import numpy as np
import polars as pl
import pytest

from medrec.data import mimic3
from medrec.data.build import Options, build_cohort
from medrec.data.tables import RawTables
from medrec.knowledge.structures import structures
from medrec.types import MedrecError
from tests.data.conftest import ORDER, READERS, build, by_letter, sets, write_mimic3, write_table


def order(patient, admission, stay, day, ndc, drug):
    row = {"subject_id": patient, "hadm_id": admission, "icustay_id": stay, "startdate": f"{day} 00:00:00"}
    return row | {"ndc": ndc, "drug": drug}


ADMISSIONS = [(1, 203, "2150-01-05"), (1, 117, "2151-03-02"), (2, 150, "2149-07-07"), (2, 164, "2149-12-01")]
TEN_ROWS = [
    order(1, 203, 9001, "2150-01-05", "a", "aspirin"),
    order(1, 203, None, "2150-01-06", "b", "heparin"),
    order(1, 203, None, "2150-01-05", "0", "D5W"),
    order(1, 203, 9001, "2150-01-05", "a", "aspirin"),
    order(1, 117, 9002, "2151-03-02", "a", "aspirin"),
    order(1, 117, 9002, "2151-03-04", "c", "vancomycin"),
    order(2, 150, None, "2149-07-07", None, "erlotinib"),
    order(2, 150, None, "2149-07-07", "d", "metoprolol"),
    order(2, 150, 9003, "2149-07-08", "e", "morphine"),
    order(2, 164, None, "2149-12-01", "f", "vial"),
]


@pytest.fixture
def toy(tmp_path):
    return write_mimic3(tmp_path, ADMISSIONS, TEN_ROWS)


def steps(cohort, unit):
    """(step, kept) for one unit."""
    frame = cohort.report.frame().filter(pl.col("unit") == unit)
    return list(frame.select("step", "kept").iter_rows())


# -- the ten-row toy ---------------------------------------------------------------------------------------------------


def test_ten_rows_become_three_visits(toy):
    cohort = build(toy, mapper=by_letter)
    assert sets(cohort) == [["A01A", "B01A"], ["A01A", "A07A"], ["C07A", "N02A"]]
    assert list(cohort.visit_offsets) == [0, 2, 3]
    # 117 is the later stay: ids are labels.
    assert list(cohort.admit_time.astype("datetime64[D]").astype(str)) == ["2150-01-05", "2151-03-02", "2149-07-07"]
    assert cohort.days_since_previous[1] == 421
    assert np.isnan(cohort.days_since_previous[[0, 2]]).all()


def test_ledger_of_the_ten_rows(toy):
    cohort = build(toy, mapper=by_letter)
    assert steps(cohort, "rows") == [
        ("order of a known visit", 10),
        ("mapped to a class", 7),
        ("one row a class", 6),
        ("joined", 6),
    ]
    assert [kept for _, kept in steps(cohort, "visits")] == [4, 3, 3, 3]
    assert [kept for _, kept in steps(cohort, "patients")] == [2, 2, 2, 2]
    # The patient whose second visit vanished is a single-visit patient, as in the published cohorts.
    assert cohort.report.facts["single_visit_patients"] == 1
    unmapped = cohort.report.table("unmapped")
    assert dict(unmapped.select("name", "rows").iter_rows()) == {"D5W": 1, "erlotinib": 1, "vial": 1}


def test_averages_of_the_ten_rows(toy):
    row = build(toy, mapper=by_letter).describe()
    assert row["medication_per_visit"] == 2.0
    assert row["medication_per_visit_distinct"] == pytest.approx(5 / 3)


def test_first_day_of_the_ten_rows(toy):
    cohort = build(toy, mapper=by_letter, window="first_day")
    assert sets(cohort) == [["A01A"], ["A01A"], ["C07A"]]
    assert ("first day", 4) in steps(cohort, "rows")


def test_two_visits_counted_last_drop_the_patient_who_has_one_left(toy):
    cohort = build(toy, mapper=by_letter, min_visits=2)
    assert (cohort.n_patients, cohort.n_visits) == (1, 2)
    assert cohort.report.frame().filter(pl.col("step") == "enough visits")["dropped"].to_list() == [2, 1, 1]


def test_order_by_id_reverses_the_toy_patient(toy):
    cohort = build(toy, mapper=by_letter, visit_order="id")
    assert sets(cohort)[:2] == [["A01A", "A07A"], ["A01A", "B01A"]]
    assert cohort.days_since_previous[1] == -421


# -- invariances -------------------------------------------------------------------------------------------------------


def test_the_order_of_rows_has_no_influence(tmp_path, toy):
    rng = np.random.default_rng(0)
    shuffled = tmp_path / "shuffled"
    for path in toy.glob("*.csv"):
        table = pl.read_csv(path, infer_schema=False)
        write_table(shuffled, path.stem, table[rng.permutation(len(table))].to_dicts())
    for window in ("whole_stay", "first_day"):
        a, b = (build(folder, mapper=by_letter, window=window) for folder in (toy, shuffled))
        assert (sets(a), sets(a, "diagnosis"), a.report) == (sets(b), sets(b, "diagnosis"), b.report)


def test_new_admission_ids_leave_time_order_alone_and_break_id_order(tmp_path, toy):
    new = {203: 999, 117: 500, 150: 1, 164: 2}
    renamed = write_mimic3(
        tmp_path / "renamed",
        [(p, new[a], day) for p, a, day in ADMISSIONS],
        [row | {"hadm_id": new[row["hadm_id"]]} for row in TEN_ROWS],
    )
    assert sets(build(renamed, mapper=by_letter)) == sets(build(toy, mapper=by_letter))
    flipped = write_mimic3(
        tmp_path / "flipped",
        [(p, 320 - a, day) for p, a, day in ADMISSIONS],
        [row | {"hadm_id": 320 - row["hadm_id"]} for row in TEN_ROWS],
    )
    by_id = [sets(build(folder, mapper=by_letter, visit_order="id")) for folder in (toy, flipped)]
    assert by_id[0] != by_id[1]


def test_repeating_every_order_changes_no_set(tmp_path, toy):
    doubled = write_mimic3(tmp_path / "doubled", ADMISSIONS, TEN_ROWS * 2)
    a, b = build(toy, mapper=by_letter), build(doubled, mapper=by_letter)
    assert sets(a) == sets(b)
    assert b.report.facts["orders_read"] == 2 * a.report.facts["orders_read"]


# -- single rules ------------------------------------------------------------------------------------------------------


def test_24_hours_run_from_the_first_order(demo_tables):
    tables = demo_tables("mimic4")
    times = ["2150-01-01 23:00", "2150-01-02 01:00", "2150-01-02 22:59", "2150-01-02 23:00", None]
    orders = pl.LazyFrame(
        {
            "visit_id": [1] * 5,
            "time": pl.Series(times).str.to_datetime("%Y-%m-%d %H:%M"),
            "name": list("abcde"),
            "ndc": list("abcde"),
            "route": ["PO"] * 5,
            "drug_type": ["MAIN"] * 5,
            "hicl": pl.Series([None] * 5, dtype=pl.String),
            "cancelled": [False] * 5,
        }
    )
    visits = pl.LazyFrame(
        {
            "patient_id": [1],
            "visit_id": [1],
            "admit_time": [datetime(2150, 1, 1, 10)],
            "rank": [0],
            "sex": ["F"],
            "age": [50],
        }
    )
    codes = pl.LazyFrame({"visit_id": [1], "code": ["9:4019"], "seq": [1]})

    def made(first_day, window):
        small = RawTables("mimic4", visits, codes, None, orders, tables.titles, first_day)
        return sets(build_cohort(small, Options(window=window), name="toy", source="synthetic", mapper=by_letter))

    assert made("24h", "first_day") == [["A01A", "A07A", "B01A"]]
    assert made("calendar_day", "first_day") == [["A01A"]]
    # An order without a time belongs to the stay, but nobody can place it in the first day.
    assert made("24h", "whole_stay") == [["A01A", "A07A", "B01A", "C07A", "N02A"]]


def test_codes_stand_in_billing_order_once_a_visit(tmp_path):
    diagnoses = [(203, 3, "4019"), (203, 1, "4280"), (203, 2, "5849"), (203, 9, "4280"), (203, None, "0389")]
    cohort = build(write_mimic3(tmp_path, ADMISSIONS[:1], [TEN_ROWS[0]], diagnoses), mapper=by_letter)
    assert sets(cohort, "diagnosis") == [["9:4280", "9:5849", "9:4019", "9:0389"]]
    assert cohort.vocab["diagnosis"].codes == ("9:0389", "9:4019", "9:4280", "9:5849")
    assert ("one row a code", 4) in steps(cohort, "diagnosis rows")
    assert cohort.report.facts["diagnosis_rows_without_a_place"] == 1


def test_rows_without_a_code_or_a_visit_are_counted(tmp_path):
    diagnoses = [(203, 1, "4019"), (203, 2, None), (999, 1, "4280")]
    orders = [TEN_ROWS[0], TEN_ROWS[0] | {"hadm_id": 999}]
    cohort = build(write_mimic3(tmp_path, ADMISSIONS[:1], orders, diagnoses), mapper=by_letter)
    assert steps(cohort, "diagnosis rows") == [("has a code", 2), ("of a known visit", 1), ("one row a code", 1)]
    assert steps(cohort, "rows")[0] == ("order of a known visit", 1)


def test_a_visit_needs_the_required_kinds(tmp_path):
    folder = write_mimic3(tmp_path, ADMISSIONS[:2], [TEN_ROWS[0], TEN_ROWS[4]], [(203, 1, "4019"), (117, 1, "4019")])
    write_table(folder, "PROCEDURES_ICD", [{"hadm_id": 117, "seq_num": 1, "icd9_code": "3893"}])
    assert build(folder, mapper=by_letter).n_visits == 1
    wider = build(folder, mapper=by_letter, require=("diagnosis", "medication"))
    assert sets(wider, "procedure") == [[], ["9:3893"]]


def test_top_diagnoses_keeps_the_most_frequent(tmp_path):
    diagnoses = [(203, 1, "4280"), (203, 2, "4019"), (117, 1, "4019"), (117, 2, "0389")]
    folder = write_mimic3(tmp_path, ADMISSIONS[:2], [TEN_ROWS[0], TEN_ROWS[4]], diagnoses)
    assert build(folder, mapper=by_letter, top_diagnoses=2).vocab["diagnosis"].codes == ("9:0389", "9:4019")
    assert build(folder, mapper=by_letter, top_diagnoses=1).vocab["diagnosis"].codes == ("9:4019",)


def test_classes_without_a_structure_can_be_left_out(tmp_path):
    rows = [order(1, 203, None, "2150-01-05", "1", drug) for drug in ("insulin glargine", "furosemide")]
    folder = write_mimic3(tmp_path, ADMISSIONS[:2], [*rows, order(1, 117, None, "2151-03-02", "1", "insulin glargine")])
    everything = build(folder)
    assert sets(everything) == [["A10A", "C03C"], ["A10A"]]
    drawn = build(folder, classes="with_structure")
    assert sets(drawn) == [["C03C"]]
    step = drawn.report.frame().filter(pl.col("step") == "class with a structure")
    assert dict(step.select("unit", "dropped").iter_rows()) == {"rows": 2, "visits": 1, "patients": 0}
    assert set(step["note"]) == {"1 of 2 classes end here"}
    assert "class with a structure" not in dict(steps(everything, "rows"))


@pytest.mark.parametrize("layout", READERS)
def test_classes_with_a_structure_are_those_that_have_a_molecule(demo_cohort, layout):
    need = ("diagnosis", "medication")
    everything, drawn = demo_cohort(layout, require=need), demo_cohort(layout, require=need, classes="with_structure")
    codes = everything.vocab["medication"].codes
    wanted = {code for code, found in zip(codes, structures(codes), strict=True) if found}
    assert len(set(codes) - wanted) > 0
    assert set(drawn.vocab["medication"].codes) == wanted


# -- ids that are empty, repeated or contradict each other -------------------------------------------------------------


def test_an_admission_listed_twice_is_one_visit_and_the_ledger_says_so(tmp_path):
    folder = write_mimic3(tmp_path, [ADMISSIONS[0], ADMISSIONS[0]], [TEN_ROWS[0]])
    cohort = build(folder, mapper=by_letter)
    assert cohort.n_visits == 1
    assert steps(cohort, "visits")[0] == ("listed once", 1)
    assert "visits_with_contradicting_rows" not in cohort.report.facts


@pytest.mark.parametrize("nothing", ["", "NULL", "nan", r"\N", " ", None])
@pytest.mark.parametrize("column", ["subject_id", "hadm_id"])
def test_rows_without_an_id_are_nobody(tmp_path, toy, nothing, column):
    path = toy / "ADMISSIONS.csv"
    table = pl.read_csv(path, infer_schema=False)
    missing = pl.int_range(pl.len()) < 2  # both admissions of the first patient
    table.with_columns(pl.when(missing).then(pl.lit(nothing)).otherwise(column).alias(column)).write_csv(path)
    cohort = build(toy, mapper=by_letter)
    assert cohort.n_patients == 1
    assert steps(cohort, "visits")[0] == ("has its ids", 2)
    write_table(toy, "ADMISSIONS", table.with_columns(pl.lit(nothing).alias(column)).to_dicts())
    with pytest.raises(MedrecError, match=r"'has its ids' left no visits of 4"):
        build(toy, mapper=by_letter)


def test_an_admission_of_two_patients_is_dropped_and_all_others_stay(tmp_path):
    folder = write_mimic3(tmp_path, [*ADMISSIONS, (2, 203, "2150-01-05")], TEN_ROWS)
    cohort = build(folder, mapper=by_letter)
    assert sets(cohort) == [["A01A", "A07A"], ["C07A", "N02A"]]
    assert steps(cohort, "visits")[0] == ("of one patient", 3)
    assert steps(cohort, "rows")[0] == ("order of a known visit", 6)


def test_of_two_admission_times_the_earlier_counts(tmp_path):
    folder = write_mimic3(tmp_path, [*ADMISSIONS, (1, 203, "2150-02-09"), (1, 117, "2149-01-01")], TEN_ROWS)
    cohort = build(folder, mapper=by_letter)
    assert list(cohort.admit_time.astype("datetime64[D]").astype(str))[:2] == ["2149-01-01", "2150-01-05"]
    assert cohort.report.facts["visits_with_contradicting_rows"] == 2


@pytest.mark.parametrize("turn", [1, -1])
def test_a_patient_of_two_sexes_or_births_has_neither(tmp_path, toy, turn):
    rows = [
        {"subject_id": 1, "gender": "F", "dob": "2090-06-01 00:00:00"},
        {"subject_id": 1, "gender": "M", "dob": "2090-06-01 00:00:00"},
        {"subject_id": 2, "gender": "M", "dob": "2090-06-01 00:00:00"},
        {"subject_id": 2, "gender": "", "dob": "2050-06-01 00:00:00"},
    ]
    write_table(toy, "PATIENTS", rows[::turn])
    cohort = build(toy, mapper=by_letter)
    assert (list(cohort.sex), list(cohort.age_band)) == (["", "M"], ["50-59", ""])
    facts = cohort.report.facts
    assert facts["visits_with_contradicting_rows"] == 4
    assert (facts["patients_without_a_sex"], facts["patients_without_an_age"]) == (1, 1)


def test_a_patient_row_listed_twice_is_one(tmp_path, toy):
    clean = build(toy, mapper=by_letter)
    path = toy / "PATIENTS.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    twice = build(toy, mapper=by_letter)
    assert (twice.content, twice.report) == (clean.content, clean.report)


# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("birth", "band"),
    [
        ("2150-01-05 00:00:00", "0-9"),
        ("2150-01-06 00:00:00", "0-9"),  # born on the day after: the hour of birth is not known
        ("2150-01-07 00:00:00", ""),
        ("2160-01-05 00:00:00", ""),
        ("2030-01-06 00:00:00", "90+"),
        ("2028-01-05 00:00:00", ""),
        ("1850-01-05 00:00:00", "90+"),  # moved back 300 years
        ("0094-03-05 00:00:00", ""),
        ("", ""),
    ],
)
def test_an_age_that_nobody_has_is_unknown_and_counted(tmp_path, birth, band):
    folder = write_mimic3(tmp_path, ADMISSIONS[:1], [TEN_ROWS[0]])
    write_table(folder, "PATIENTS", [{"subject_id": 1, "gender": "F", "dob": birth}])
    cohort = build(folder, mapper=by_letter)
    assert list(cohort.age_band) == [band]
    assert cohort.report.facts.get("patients_without_an_age", 0) == (not band)
    assert cohort.report.facts.get("visits_of_impossible_ages", 0) == (not band and bool(birth))


def test_a_visit_without_a_time_stands_last_and_is_counted(tmp_path, toy):
    path = toy / "ADMISSIONS.csv"
    path.write_text(path.read_text().replace("2150-01-05 10:00:00", "NULL").replace("2149-07-07", "0149-07-07"))
    cohort = build(toy, mapper=by_letter)
    assert sets(cohort)[:2] == [["A01A", "A07A"], ["A01A", "B01A"]]
    assert np.isnat(cohort.admit_time[1])
    assert np.isnan(cohort.days_since_previous[1])
    facts = cohort.report.facts
    assert (facts["visits_without_a_time"], facts["visits_of_impossible_times"]) == (2, 1)
    assert (facts["patients_with_undecidable_order_read"], facts["patients_with_undecidable_order_kept"]) == (2, 1)


def test_an_order_years_away_does_not_take_the_first_day(tmp_path, toy):
    clean = build(toy, mapper=by_letter, window="first_day")
    strange = [TEN_ROWS[1] | {"startdate": "1900-01-01 00:00:00"}, TEN_ROWS[1] | {"startdate": ""}]
    cohort = build(
        write_mimic3(tmp_path / "far", ADMISSIONS, [*TEN_ROWS, *strange]), mapper=by_letter, window="first_day"
    )
    assert cohort.content == clean.content
    facts = cohort.report.facts
    assert (facts["orders_a_year_from_their_visit"], facts["orders_without_a_time"]) == (1, 1)


def test_what_is_read_but_not_understood_is_told_when_it_is_much(tmp_path, capsys):
    diagnoses = [(203, i, f"{4000 + i}") for i in range(9)] + [(203, 9, "O38.9")]
    codes = [{"icd9_code": code, "long_title": "A title"} for _, _, code in diagnoses[:9]]
    orders = [TEN_ROWS[0] | {"ndc": f"0000000000{i}"} for i in range(9)] + [TEN_ROWS[0] | {"ndc": "A-1"}]
    folder = write_mimic3(tmp_path, ADMISSIONS[:1], orders, diagnoses)
    write_table(folder, "D_ICD_DIAGNOSES", codes)
    facts = build(folder).report.facts
    assert (facts["diagnosis_rows_without_title"], facts["orders_with_ndc_of_another_form"]) == (1, 1)
    assert capsys.readouterr().err == ""
    write_table(folder, "D_ICD_DIAGNOSES", codes[1:])
    write_table(folder, "PRESCRIPTIONS", [ORDER | order | {"ndc": "1234567890"} for order in orders[:4]])
    facts = build(folder).report.facts
    assert (facts["diagnosis_rows_without_title"], facts["orders_with_ndc_of_another_form"]) == (2, 4)
    told = capsys.readouterr().err.splitlines()
    assert [line.partition("the ")[0] for line in told] == ["medrec: toy: 20% of ", "medrec: toy: 100% of "]
    assert not any(code in line for line in told for code in ("038", "1234567890"))


def test_without_a_dictionary_codes_without_a_title_are_counted_but_not_told(tmp_path, capsys):
    folder = write_mimic3(tmp_path, ADMISSIONS[:1], [TEN_ROWS[0]], [(203, 1, "99999")])
    assert build(folder, mapper=by_letter).report.facts["diagnosis_rows_without_title"] == 1
    assert "no dictionary" not in capsys.readouterr().err


# -- one spelling ------------------------------------------------------------------------------------------------------


def test_spellings_of_a_product_are_one_product(tmp_path):
    spelt = [
        {"ndc": "0409-6729-24", "drug": "Aspirin ", "route": " PO"},
        {"ndc": "409672924.0", "drug": " Aspirin", "route": "PO"},
        {"ndc": "00409672924", "drug": "Aspirin", "route": "PO\t"},
        {"ndc": "nan", "drug": "NULL", "route": "None"},
        {"ndc": None, "drug": "", "route": None},
    ]
    facts = build(write_mimic3(tmp_path, ADMISSIONS[:1], [TEN_ROWS[0] | row for row in spelt])).report.facts
    assert (facts["distinct_products"], facts["orders_without_name"], facts["orders_without_ndc"]) == (2, 2, 2)


# -- nothing left ------------------------------------------------------------------------------------------------------


def test_the_step_that_left_nothing_is_named(tmp_path):
    vials = write_mimic3(tmp_path / "vials", ADMISSIONS[:1], [TEN_ROWS[9] | {"hadm_id": 203}])
    with pytest.raises(MedrecError, match=r"toy: the step 'mapped to a class' left no rows of 1"):
        build(vials, mapper=by_letter)
    strangers = write_mimic3(tmp_path / "strangers", ADMISSIONS[:1], [TEN_ROWS[0] | {"hadm_id": 5}])
    with pytest.raises(MedrecError, match="'order of a known visit' left no rows"):
        build(strangers, mapper=by_letter)
    with pytest.raises(MedrecError, match=r"'enough visits' left no rows.*at least 3 visits"):
        build(write_mimic3(tmp_path / "few", ADMISSIONS, TEN_ROWS), mapper=by_letter, min_visits=3)
    uncoded = write_mimic3(tmp_path / "uncoded", ADMISSIONS[:1], [TEN_ROWS[0]], [(203, 1, None)])
    with pytest.raises(MedrecError, match="'has a code' left no diagnosis rows"):
        build(uncoded, mapper=by_letter)


def test_tables_without_rows_are_named(tmp_path):
    folder = write_mimic3(tmp_path, ADMISSIONS, TEN_ROWS)
    (folder / "PRESCRIPTIONS.csv").write_text(",".join(ORDER) + "\n")
    with pytest.raises(MedrecError, match=r"PRESCRIPTIONS\.csv holds no order"):
        build(folder, mapper=by_letter)
    (folder / "ADMISSIONS.csv").write_text("subject_id,hadm_id,admittime\n")
    with pytest.raises(MedrecError, match=r"ADMISSIONS\.csv.*holds no visit"):
        build(folder, mapper=by_letter)


def test_a_kind_that_the_database_lacks_cannot_be_required(demo_tables):
    with pytest.raises(MedrecError, match=r"required to have a 'procedure'.*diagnosis, medication"):
        build_cohort(demo_tables("eicu"), Options(require=("procedure", "medication")), name="eicu-demo", source="demo")


# -- the demos ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", READERS)
@pytest.mark.parametrize("window", ["whole_stay", "first_day"])
def test_every_step_accounts_for_what_it_was_given(demo_cohort, layout, window):
    cohort = demo_cohort(layout, window=window, min_visits=2)
    frame = cohort.report.frame()
    assert (frame["kept"] + frame["dropped"] == frame["before"]).all()
    assert (frame["dropped"] >= 0).all()
    for unit in frame["unit"].unique():
        rows = frame.filter(pl.col("unit") == unit)
        assert rows["before"][1:].to_list() == rows["kept"][:-1].to_list()
    left = {unit: steps(cohort, unit)[-1][1] for unit in ("rows", "visits", "patients")}
    assert left == {
        "rows": len(cohort.codes["medication"].values),
        "visits": cohort.n_visits,
        "patients": cohort.n_patients,
    }
    facts = cohort.report.facts
    mapping = cohort.report.table("mapping")
    assert mapping["rows"].sum() == facts["orders_read"] == frame.filter(pl.col("unit") == "rows")["before"][0]
    mapped = mapping.filter(pl.col("status") == "mapped")["rows"].sum()
    assert mapped == dict(steps(cohort, "rows"))["mapped to a class"]


@pytest.mark.parametrize(
    ("layout", "joined", "last"), [("mimic3", (107, 82), (36, 11)), ("mimic4", (186, 92), (132, 38))]
)
def test_visits_with_all_three_kinds_and_the_two_visit_rule_applied_last(demo_cohort, layout, joined, last):
    cohort = demo_cohort(layout)
    assert (cohort.n_visits, cohort.n_patients) == joined
    cohort = demo_cohort(layout, min_visits=2)
    assert (cohort.n_visits, cohort.n_patients) == last


@pytest.mark.parametrize(("layout", "visits", "several"), [("mimic3", 122, (41, 13)), ("mimic4", 250, (196, 46))])
def test_visits_with_diagnosis_and_drug(demo_cohort, layout, visits, several):
    need = ("diagnosis", "medication")
    assert demo_cohort(layout, require=need).n_visits == visits
    both = demo_cohort(layout, require=need, min_visits=2)
    assert (both.n_visits, both.n_patients) == several


@pytest.mark.parametrize(("layout", "wrong", "several"), [("mimic3", 10, 14), ("mimic4", 36, 48)])
def test_ids_do_not_grow_with_time(demo_tables, layout, wrong, several):
    visits = demo_tables(layout).visits.collect().sort("patient_id", "admit_time")
    disagree = visits.group_by("patient_id").agg(
        n=pl.len(), wrong=(pl.col("visit_id") != pl.col("visit_id").sort()).any()
    )
    disagree = disagree.filter(pl.col("n") > 1)
    assert (disagree["wrong"].sum(), len(disagree)) == (wrong, several)


@pytest.mark.parametrize("layout", ["mimic3", "mimic4"])
def test_cohorts_run_forward_in_time(demo_cohort, layout):
    cohort = demo_cohort(layout)
    later = cohort.days_since_previous[cohort.visit_number > 0]
    assert (later > 0).all()
    assert np.isnan(cohort.days_since_previous[cohort.visit_number == 0]).all()
    by_id = demo_cohort(layout, visit_order="id")
    assert (by_id.days_since_previous[by_id.visit_number > 0] < 0).any()
    # The same visits in another order.
    assert sorted(by_id.admit_time) == sorted(cohort.admit_time)


@pytest.mark.parametrize("layout", ["mimic3", "mimic4"])
def test_the_first_day_is_a_part_of_the_stay(demo_cohort, layout):
    need = ("diagnosis", "medication")
    whole, first = (demo_cohort(layout, require=need, window=window) for window in ("whole_stay", "first_day"))
    # Admission times are unique in the demos, so they name the visit.
    stay = dict(zip(whole.admit_time, map(set, sets(whole)), strict=True))
    assert all(set(day) <= stay[time] for time, day in zip(first.admit_time, sets(first), strict=True))
    share = first.describe()["medication_per_visit"] / whole.describe()["medication_per_visit"]
    assert 0.4 < share < 0.8


def test_codes_are_unique_within_a_visit_and_used(demo_cohort):
    for layout in READERS:
        cohort = demo_cohort(layout)
        for kind in ("diagnosis", "procedure", "medication"):
            rows = cohort.codes[kind]
            keys = rows.row_of_value * max(len(cohort.vocab[kind]), 1) + rows.values
            assert len(np.unique(keys)) == len(keys)
            assert set(rows.values) == set(range(len(cohort.vocab[kind])))
            assert list(cohort.vocab[kind].codes) == sorted(cohort.vocab[kind].codes)


def test_small_groups_are_not_named_of_credentialed_records(demo_tables):
    open_, closed = (
        build_cohort(demo_tables("mimic4"), name="x", source=source).report for source in ("demo", "credentialed")
    )
    for table in ("carriers", "routes"):
        assert open_.table(table)["patients"].min() < 10
        assert closed.table(table)["patients"].min() >= 10
    assert all(patients >= 10 for patients in closed.table("unmapped")["patients"])


def test_patients_behind_a_route_are_counted_once(tmp_path):
    rows = [*TEN_ROWS[:2], *TEN_ROWS[4:6], TEN_ROWS[7] | {"route": "IV"}]
    routes = build(write_mimic3(tmp_path, ADMISSIONS, rows), mapper=by_letter).report.table("routes")
    assert {row["route"]: (row["rows"], row["patients"]) for row in routes.iter_rows(named=True)} == {
        "PO": (4, 1),
        "IV": (1, 1),
    }


def test_filling_from_the_row_above_would_invent_a_drug(toy):
    """What our reader does not do, shown on its input: patient 2 would take patient 1's vancomycin."""
    orders = mimic3.read(toy).orders.collect()
    filled = orders.with_columns(pl.col("ndc").forward_fill())
    erlotinib = orders["name"].to_list().index("erlotinib")
    assert (orders["ndc"][erlotinib], filled["ndc"][erlotinib]) == (None, "c")
    assert "A07A" not in itertools.chain.from_iterable(sets(build(toy, mapper=by_letter))[2:])
