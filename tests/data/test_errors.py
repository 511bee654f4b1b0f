"""Bad input: one message that names file, column or value and the remedy, and nothing half-written."""

import errno
import gzip
import shutil

import polars as pl
import pytest

from medrec.data import load_cohort, tables
from medrec.data.load import import_tables
from medrec.paths import cache_dir
from medrec.types import MedrecError
from tests.conftest import demo_dir
from tests.data.conftest import READERS, build, write_mimic3


@pytest.fixture
def toy(tmp_path):
    return write_mimic3(tmp_path / "mimic3", [(1, 203, "2150-01-05")], [{}])


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A writable copy of the MIMIC-IV demo, and a cache of its own."""
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path / "cache"))
    for source in (demo_dir("mimic4-demo") / "hosp").glob("*.gz"):
        target = tmp_path / "data" / "mimic4-demo" / "hosp" / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return tmp_path / "data"


def nothing_cached() -> bool:
    return not any(path.is_file() for path in (cache_dir() / "cohorts").rglob("*"))


def test_missing_file(toy):
    (toy / "PRESCRIPTIONS.csv").unlink()
    with pytest.raises(MedrecError, match=r"No PRESCRIPTIONS\.csv or PRESCRIPTIONS\.csv\.gz in .*mimic3\. .*copy it"):
        build(toy)


@pytest.mark.parametrize(
    ("table", "column"), [("PRESCRIPTIONS", "ndc"), ("ADMISSIONS", "admittime"), ("DIAGNOSES_ICD", "seq_num")]
)
def test_missing_column(toy, table, column):
    path = toy / f"{table}.csv"
    pl.read_csv(path, infer_schema=False).drop(column).write_csv(path)
    with pytest.raises(MedrecError, match=rf"{table}\.csv has no column '{column}' \(.* it has: .*hadm_id.*original"):
        build(toy)


@pytest.mark.parametrize("table", ["prescriptions", "admissions", "diagnoses_icd", "d_icd_diagnoses"])
@pytest.mark.parametrize("keep", [0.5, -4])
def test_truncated_gz(data, table, keep):
    path = data / "mimic4-demo" / "hosp" / f"{table}.csv.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)] if keep > 0 else whole[:keep])
    with pytest.raises(MedrecError, match=rf"{table}\.csv\.gz is broken: .*too early.*again"):
        load_cohort("mimic4-demo")
    assert nothing_cached()


def test_damaged_gz(data):
    path = data / "mimic4-demo" / "hosp" / "prescriptions.csv.gz"
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 64] = bytes(64)
    path.write_bytes(whole)
    with pytest.raises(MedrecError, match=r"prescriptions\.csv\.gz is broken: .*again"):
        load_cohort("mimic4-demo")
    assert nothing_cached()


def test_not_gzip_at_all(data):
    path = data / "mimic4-demo" / "hosp" / "prescriptions.csv.gz"
    path.write_bytes(b"<html>404 not found</html>" * 100)
    with pytest.raises(MedrecError, match=r"prescriptions\.csv\.gz"):
        load_cohort("mimic4-demo")


@pytest.mark.parametrize(
    ("given", "read_as"), [(g, r) for g in READERS for r in READERS if g != r], ids=lambda value: value
)
def test_wrong_layout(given, read_as):
    with pytest.raises(
        MedrecError, match=rf"look like tables in {given} layout: read them as {given}, not as {read_as}"
    ):
        build(demo_dir(f"{given}-demo"), read_as)


def test_wrong_layout_inside_hosp():
    with pytest.raises(MedrecError, match="tables in mimic4 layout"):
        build(demo_dir("mimic4-demo") / "hosp", "mimic3")


def test_empty_file(toy):
    (toy / "PRESCRIPTIONS.csv").write_text("")
    with pytest.raises(MedrecError, match=r"PRESCRIPTIONS\.csv is empty"):
        build(toy)


@pytest.mark.parametrize(
    ("table", "column", "value", "what"),
    [
        ("PRESCRIPTIONS", "hadm_id", "20x", "a whole number"),
        ("DIAGNOSES_ICD", "seq_num", "first", "a whole number"),
        ("ADMISSIONS", "admittime", "5 January", "a date and time"),
        ("PATIENTS", "dob", "01/02/2090", "a date and time"),
    ],
)
def test_a_value_that_cannot_be_read(toy, table, column, value, what):
    path = toy / f"{table}.csv"
    pl.read_csv(path, infer_schema=False).with_columns(pl.lit(value).alias(column)).write_csv(path)
    with pytest.raises(MedrecError, match=rf"{table}\.csv: line 2: column '{column}' does not hold {what}") as caught:
        build(toy)
    assert value not in str(caught.value)


def test_a_time_that_cannot_be_read_matters_where_it_is_used(toy):
    path = toy / "PRESCRIPTIONS.csv"
    pl.read_csv(path, infer_schema=False).with_columns(startdate=pl.lit("soon")).write_csv(path)
    with pytest.raises(MedrecError, match=r"PRESCRIPTIONS\.csv: line 2: column 'startdate'"):
        build(toy, window="first_day")


def test_a_file_that_is_no_csv(toy):
    (toy / "PRESCRIPTIONS.csv").write_bytes(gzip.compress(b"\x00" * 1000))
    with pytest.raises(MedrecError, match=r"PRESCRIPTIONS\.csv"):
        build(toy)


def test_full_disk_while_the_cohort_is_stored(data, monkeypatch):
    def full(frame, path, *_args, **_kwargs):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pl.DataFrame, "write_parquet", full)
        with pytest.raises(MedrecError, match=r"Cannot write cohort 'mimic4-demo'.*No space left.*Free space"):
            load_cohort("mimic4-demo")
    assert nothing_cached()
    assert load_cohort("mimic4-demo").n_patients == 92  # the next try is not hindered by the last


def test_import_of_another_layout_or_of_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(MedrecError, match="is not a folder"):
        import_tables("mimic3", tmp_path / "nowhere")
    with pytest.raises(MedrecError, match="read them as eicu"):
        import_tables("mimic3", demo_dir("eicu-demo"))
    with pytest.raises(MedrecError, match=r"not as 'mimic5'\. Did you mean 'mimic"):
        import_tables("mimic5", demo_dir("eicu-demo"))
    assert not (tmp_path / "data").exists()


def test_a_cell_cut_in_quotes_is_not_read_as_one_long_row(toy):
    whole = (toy / "PRESCRIPTIONS.csv").read_text()
    (toy / "PRESCRIPTIONS.csv").write_text(whole + '1,203,,"2150-01-05 00:00:00')
    with pytest.raises(MedrecError, match=r"PRESCRIPTIONS\.csv"):
        build(toy, window="first_day")


def test_the_plain_file_is_read_where_both_stand_side_by_side(toy):
    (toy / "PRESCRIPTIONS.csv.gz").write_bytes(b"not even gzip")
    assert tables.find_table(toy, "prescriptions").name == "PRESCRIPTIONS.csv"
    assert build(toy).n_visits == 1
