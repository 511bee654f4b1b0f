"""The MIMIC-III reader: the demo's own counts, and one five-row case for each trait of these tables."""

import gzip
from datetime import datetime

import polars as pl
import pytest

from medrec.data import mimic3
from medrec.types import MedrecError
from tests.conftest import demo_dir
from tests.data.conftest import build, sets, write_mimic3, write_table


def test_demo_has_the_counts_of_its_description(demo_tables):
    tables = demo_tables("mimic3")
    visits = tables.visits.collect()
    assert (len(visits), visits["patient_id"].n_unique()) == (129, 100)
    several = visits.group_by("patient_id").len().filter(pl.col("len") >= 2)
    assert (len(several), several["len"].sum(), several["len"].max()) == (14, 43, 15)
    assert (visits["patient_id"].min(), visits["patient_id"].max()) == (10006, 44228)
    diagnoses, procedures, orders = (f.collect() for f in (tables.diagnoses, tables.procedures, tables.orders))
    assert (len(diagnoses), diagnoses["code"].n_unique(), diagnoses["visit_id"].n_unique()) == (1761, 581, 129)
    assert (len(procedures), procedures["code"].n_unique(), procedures["visit_id"].n_unique()) == (506, 164, 113)
    assert (len(orders), orders["visit_id"].n_unique()) == (10398, 122)
    assert orders["ndc"].null_count() == 1478
    assert (orders["ndc"].drop_nulls().n_unique(), orders["name"].n_unique()) == (995, 590)  # 592 with blanks
    assert dict(orders["drug_type"].value_counts().iter_rows()) == {"MAIN": 7709, "BASE": 2617, "ADDITIVE": 72}
    assert len(diagnoses) / 129 == pytest.approx(13.65, abs=0.005)
    per_visit = orders.group_by("visit_id").agg(pl.col("ndc").drop_nulls().n_unique(), pl.col("name").n_unique())
    assert per_visit["ndc"].mean() == pytest.approx(39.5, abs=0.05)
    assert per_visit["name"].mean() == pytest.approx(36.4, abs=0.05)


def test_known_ndc_have_eleven_digits(demo_tables):
    assert set(demo_tables("mimic3").orders.collect()["ndc"].drop_nulls().str.len_chars()) == {11}


def test_case_of_headers_and_file_names_and_compression_do_not_matter(tmp_path, demo_cohort):
    upper = tmp_path / "mimic3"
    upper.mkdir()
    for path in demo_dir("mimic3-demo").glob("*.csv.gz"):
        header, _, body = gzip.decompress(path.read_bytes()).partition(b"\n")
        # The full database quotes its upper-case headers.
        header = b",".join(b'"' + name.upper() + b'"' for name in header.split(b","))
        (upper / path.name.removesuffix(".csv.gz").lower()).with_suffix(".csv").write_bytes(header + b"\n" + body)
    cohort, demo = build(upper), demo_cohort("mimic3")
    assert cohort.describe() == demo.describe()
    assert sets(cohort) == sets(demo)


def test_codes_keep_leading_zeros_and_carry_their_version(tmp_path):
    folder = write_mimic3(tmp_path, [(1, 203, "2150-01-05")], [{}], [(203, 1, "0389"), (203, 2, "V1582")])
    assert sets(build(folder), "diagnosis") == [["9:0389", "9:V1582"]]


@pytest.mark.parametrize("nothing", ["", " ", "NULL", "nan", "NaN", r"\N", "None", "."])
def test_an_empty_code_is_no_code(tmp_path, nothing):
    folder = write_mimic3(tmp_path, [(1, 203, "2150-01-05")], [{}], [(203, 1, nothing), (203, 2, "4019")])
    cohort = build(folder)
    assert sets(cohort, "diagnosis") == [["9:4019"]]
    assert [s.dropped for s in cohort.report.steps if (s.unit, s.step) == ("diagnosis rows", "has a code")] == [1]


def test_codes_of_the_tables_and_of_the_dictionaries_may_be_spelt_differently(tmp_path):
    diagnoses = [(203, 1, "038.9"), (203, 2, " v15.82"), (203, 3, "4019.0"), (203, 4, "401.9"), (203, 5, "e888.1")]
    folder = write_mimic3(tmp_path, [(1, 203, "2150-01-05")], [{}], diagnoses)
    write_table(folder, "PROCEDURES_ICD", [{"hadm_id": "203.0", "seq_num": "1.0", "icd9_code": "966.0"}])
    titles = [("0389", "A"), ("V15.82", "B"), (" 401.9", "C"), ("E8881 ", "D")]
    write_table(folder, "D_ICD_DIAGNOSES", [{"icd9_code": c, "long_title": t} for c, t in titles])
    write_table(folder, "D_ICD_PROCEDURES", [{"icd9_code": "96.6", "long_title": " Feeding "}])
    cohort = build(folder)
    assert sets(cohort, "diagnosis") == [["9:0389", "9:V1582", "9:4019", "9:E8881"]]
    assert dict(zip(cohort.vocab["diagnosis"].codes, cohort.vocab["diagnosis"].titles, strict=True)) == {
        "9:0389": "A",
        "9:V1582": "B",
        "9:4019": "C",
        "9:E8881": "D",
    }
    assert (cohort.vocab["procedure"].codes, cohort.vocab["procedure"].titles) == (("9:966",), ("Feeding",))


def test_of_two_titles_the_order_of_rows_does_not_choose(tmp_path):
    folder = write_mimic3(tmp_path, [(1, 203, "2150-01-05")], [{}])
    rows = [{"icd9_code": "4019", "long_title": title} for title in ("NULL", "Hypertension", "High pressure")]
    for some in (rows, rows[::-1]):
        write_table(folder, "D_ICD_DIAGNOSES", some)
        assert build(folder).vocab["diagnosis"].titles == ("High pressure",)


SAME_TIME = [
    "2150-01-05T10:00:00",
    "2150-01-05T10:00:00Z",
    "2150-01-05 10:00:00 UTC",
    "2150-01-05 10:00:00.000",
    "2150-01-05 10:00:00+00:00",
    "2150-01-05 10:00",
    " 2150-01-05 10:00:00 ",
]


@pytest.mark.parametrize("time", SAME_TIME)
def test_times_as_others_export_them(tmp_path, time):
    folder = write_mimic3(tmp_path, [(1, 203, "2150-01-05")], [{"startdate": time}])
    write_table(folder, "ADMISSIONS", [{"subject_id": "1.0", "hadm_id": "203.0", "admittime": time}])
    write_table(folder, "PATIENTS", [{"subject_id": " 1", "gender": "f", "dob": time.replace("2150", "2089")}])
    cohort = build(folder, window="first_day")
    assert list(cohort.admit_time.astype(str)) == ["2150-01-05T10:00:00"]
    assert (list(cohort.sex), list(cohort.age_band)) == (["F"], ["60-69"])
    assert mimic3.read(folder).orders.collect()["time"].to_list() == [datetime(2150, 1, 5, 10)]


def test_a_day_alone_is_its_midnight_and_much_of_it_is_told(tmp_path, capsys):
    folder = write_mimic3(tmp_path, [(1, 203, "2150-01-05")], [{"startdate": "2150-01-05"}])
    write_table(folder, "ADMISSIONS", [{"subject_id": 1, "hadm_id": 203, "admittime": "2150-01-05"}])
    cohort = build(folder)
    assert list(cohort.admit_time.astype(str)) == ["2150-01-05T00:00:00"]
    assert cohort.report.facts["visits_at_midnight"] == 1
    assert "at midnight, as if times were exported as days" in capsys.readouterr().err


@pytest.mark.parametrize(
    "time",
    ["94-03-05 10:00:00", "05/01/2150 10:00", "2150-01-05 10:00:00 EST", "2150-01-05 10:00:00+02:00", "2150-02-30"],
)
@pytest.mark.parametrize(("table", "column"), [("PATIENTS", "dob"), ("ADMISSIONS", "admittime")])
def test_other_times_are_refused_and_the_form_is_named(tmp_path, time, table, column):
    folder = write_mimic3(tmp_path, [(1, 203, "2150-01-05")], [{}])
    path = folder / f"{table}.csv"
    pl.read_csv(path, infer_schema=False).with_columns(pl.lit(time).alias(column)).write_csv(path)
    with pytest.raises(MedrecError, match=rf"line 2: column '{column}' .* of the form YYYY-MM-DD HH:MM:SS") as caught:
        build(folder)
    assert time not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "sex"), [("f", "F"), ("Female", "F"), (" M", "M"), ("male", "M"), ("U", ""), ("", "")]
)
def test_sex_in_words(tmp_path, word, sex):
    folder = write_mimic3(tmp_path, [(1, 203, "2150-01-05")], [{}])
    write_table(folder, "PATIENTS", [{"subject_id": 1, "gender": word, "dob": "2090-06-01 00:00:00"}])
    cohort = build(folder)
    assert list(cohort.sex) == [sex]
    assert cohort.report.facts.get("patients_without_a_sex", 0) == (not sex)


def test_an_unlisted_patient_is_counted(tmp_path):
    folder = write_mimic3(tmp_path, [(1, 203, "2150-01-05"), (2, 204, "2150-07-01")], [{}, {"hadm_id": 204}])
    write_table(folder, "PATIENTS", [{"subject_id": 1, "gender": "M", "dob": "2090-01-01 00:00:00"}])
    assert build(folder).report.facts["visits_without_a_patient_row"] == 1


def test_ndc_zero_is_missing(tmp_path):
    orders = [{"ndc": "0"}, {"ndc": None}, {"ndc": "00409672924"}, {"ndc": " 00006494300 "}]
    folder = write_mimic3(tmp_path, [(1, 203, "2150-01-05")], orders)
    assert mimic3.read(folder).orders.collect()["ndc"].to_list() == [None, None, "00409672924", "00006494300"]


def test_nothing_is_filled_from_the_row_above(tmp_path):
    orders = [
        {"ndc": "00000000011", "drug": "heparin", "route": "IV"},
        {"ndc": None, "drug": "erlotinib", "route": None},
    ]
    read = mimic3.read(write_mimic3(tmp_path, [(1, 203, "2150-01-05")], orders)).orders.collect()
    assert read.row(1, named=True) | {"time": None} == {
        "visit_id": 203,
        "time": None,
        "name": "erlotinib",
        "ndc": None,
        "route": None,
        "drug_type": "MAIN",
        "hicl": None,
        "cancelled": False,
    }


def test_start_dates_are_days(demo_tables):
    tables = demo_tables("mimic3")
    assert tables.first_day == "calendar_day"
    assert set(tables.orders.collect()["time"].dt.hour()) == {0}


def test_age_is_hidden_above_89_and_sex_is_kept(tmp_path):
    folder = write_mimic3(tmp_path, [(1, 203, "2150-01-05"), (2, 204, "2150-07-01")], [{}, {"hadm_id": 204}])
    write_table(
        folder,
        "PATIENTS",
        [
            {"subject_id": 1, "gender": "M", "dob": "1850-01-05 00:00:00"},  # moved back 300 years
            {"subject_id": 2, "gender": "F", "dob": "2090-07-02 00:00:00"},  # 60 tomorrow
        ],
    )
    cohort = build(folder)
    assert list(cohort.age_band) == ["90+", "50-59"]
    assert list(cohort.sex) == ["M", "F"]


def test_an_admission_without_a_patient_row_is_kept(tmp_path):
    folder = write_mimic3(tmp_path, [(1, 203, "2150-01-05"), (2, 204, "2150-07-01")], [{}, {"hadm_id": 204}])
    write_table(folder, "PATIENTS", [{"subject_id": 1, "gender": "M", "dob": "2090-01-01 00:00:00"}])
    cohort = build(folder)
    assert cohort.n_visits == 2
    assert (cohort.sex[1], cohort.age_band[1]) == ("", "")


def test_titles_come_from_the_dictionary_and_retired_codes_keep_theirs(demo_cohort):
    vocabulary = demo_cohort("mimic3").vocab["diagnosis"]
    titles = dict(zip(vocabulary.codes, vocabulary.titles, strict=True))
    assert titles["9:4019"] == "Unspecified essential hypertension"
    dictionary = pl.read_csv(demo_dir("mimic3-demo") / "D_ICD_DIAGNOSES.csv.gz", infer_schema=False)
    retired = [code for code in vocabulary.codes if code[2:] not in set(dictionary["icd9_code"])]
    assert "9:0414" in retired  # dropped by an inner join with the dictionary, kept here
    assert all(titles[code] for code in retired)


def test_times_are_read_to_the_second(demo_tables):
    visit = demo_tables("mimic3").visits.filter(pl.col("visit_id") == 142345).collect()
    assert visit["admit_time"].item() == datetime(2164, 10, 23, 21, 9)
