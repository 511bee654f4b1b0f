"""Files: found whatever they are called, read whole or not at all, and no cell of theirs in a message."""

import ast
import gzip

import pytest

from medrec import paths
from medrec.data import tables
from medrec.data.build import Options, build_cohort
from medrec.data.load import import_tables
from medrec.types import MedrecError
from tests.data.conftest import READERS, build, write_mimic3, write_table
from tests.data.test_eicu import hospital as eicu_hospital
from tests.data.test_mimic4 import hospital as mimic4_hospital

ADMISSION = (1, 203, "2150-01-05")


@pytest.fixture
def toy(tmp_path):
    return write_mimic3(tmp_path / "mimic3", [ADMISSION], [{}, {"drug": 'heparin, "low" dose'}])


# -- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hospital[AB]", "data [2.2]", "all*", "what?", "{a,b}", "a%20b", "[!a]", "**"])
def test_a_folder_may_have_any_name(tmp_path, name):
    for sibling in ("hospitalA", "allother", "whatx", "a", "b", "x"):
        write_mimic3(tmp_path / sibling, [(9, 900, "2150-01-05")], [{"hadm_id": 900}] * 9)
    folder = write_mimic3(tmp_path / name, [ADMISSION], [{}])
    assert build(folder).report.facts["orders_read"] == 1


def test_no_file_is_read_as_a_pattern():
    """A checkout or a cache below a folder with brackets in its name works as any other."""
    readers = {"read_csv", "scan_csv", "read_parquet", "scan_parquet"}
    for file in [*paths.PACKAGE.rglob("*.py"), *(paths.base_dir() / "notebooks").glob("*.py")]:
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") in readers:
                plain = any(keyword.arg == "glob" for keyword in call.keywords)
                assert plain or "StringIO" in ast.unparse(call), f"{file.name}:{call.lineno} lacks glob=False"


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_a_folder_is_no_table(toy, suffix):
    table = toy / "PRESCRIPTIONS.csv"
    if suffix == "csv":
        (toy / "PRESCRIPTIONS.csv.gz").write_bytes(gzip.compress(table.read_bytes()))
        table.unlink()
    (toy / f"PRESCRIPTIONS.{suffix}").mkdir()
    assert build(toy).report.facts["orders_read"] == 2


def test_one_table_under_two_names_is_refused(toy):
    (toy / "prescriptions.csv").write_bytes((toy / "PRESCRIPTIONS.csv").read_bytes())
    if len({path.name.lower() for path in toy.iterdir()}) == len(list(toy.iterdir())):
        pytest.skip("this disk does not tell the case of names")
    with pytest.raises(MedrecError, match=r"are one table under two names\. Move one"):
        build(toy)


@pytest.mark.parametrize(
    ("name", "content"), [("PRESCRIPTIONS.csv.gz", bytes), ("PRESCRIPTIONS.csv", gzip.compress)], ids=["plain", "gzip"]
)
def test_a_file_is_what_it_holds_not_what_it_is_called(toy, name, content):
    text = (toy / "PRESCRIPTIONS.csv").read_bytes()
    (toy / "PRESCRIPTIONS.csv").unlink()
    (toy / name).write_bytes(content(text))
    assert build(toy).report.facts["orders_read"] == 2


# -- rows -------------------------------------------------------------------------------------------------------------


def rows_of(toy):
    return (toy / "PRESCRIPTIONS.csv").read_text().splitlines()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{},more", "line 3 has 9 cells, the header 8"),
        ("1,203", "line 3 has 2 cells, the header 8"),
        ("1,203,,2150-01-05 00:00:00,MAIN,insulin, regular,1,PO", "line 3 has 9 cells"),
        ('1,203,,2150-01-05 00:00:00,MAIN,5" tube,1,PO', "line 3 has a quotation mark inside a cell"),
        ('1,203,,2150-01-05 00:00:00,MAIN,"tube" 5,1,PO', "line 3 has a quotation mark inside a cell"),
        (
            '1,203,,2150-01-05 00:00:00,MAIN,"tube,1,PO',
            "or one that is never closed",
        ),
        ("1,203,,2150-01-05\0\0\0,MAIN,tube,1,PO", "line 3 holds zero bytes"),
        ("", "line 3 is blank"),
        ("\ufeff{}\udcff", "line 3 is no text in UTF-8"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_row_of_another_form_is_refused_with_its_line(toy, line, problem, compressed):
    header, one, two = rows_of(toy)
    content = "\n".join([header, one, line.replace("{}", one), two, ""]).encode("utf-8", "surrogateescape")
    (toy / "PRESCRIPTIONS.csv").unlink()
    path = toy / ("PRESCRIPTIONS.csv.gz" if compressed else "PRESCRIPTIONS.csv")
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(MedrecError, match=problem) as caught:
        build(toy)
    assert "Copy or export the table again" in str(caught.value)
    assert "aspirin" not in str(caught.value)
    assert "tube," not in str(caught.value)


def test_a_cell_may_go_over_lines_and_the_next_mistake_still_has_its_line(toy):
    header, one, two = rows_of(toy)
    over = two.replace("low", "low\nand\nlower")
    path = toy / "PRESCRIPTIONS.csv"
    path.write_text("\n".join([header, one, over, ""]))
    assert build(toy).report.facts["orders_read"] == 2
    path.write_text("\n".join([header, over, one + ",x", ""]))
    with pytest.raises(MedrecError, match="line 5 has 9 cells"):
        build(toy)
    path.write_text("\n".join([header, over, one.replace("203", "2o3"), ""]))
    with pytest.raises(MedrecError, match="line 5: column 'hadm_id'"):
        build(toy)


def test_a_plain_file_cut_in_its_last_cell_is_reported(toy, capsys):
    path = toy / "PRESCRIPTIONS.csv"
    path.write_bytes(path.read_bytes()[:-2])
    assert build(toy).report.facts["tables_without_last_line_break"] == 1
    assert "PRESCRIPTIONS.csv does not end with a line break" in capsys.readouterr().err


def test_a_plain_file_cut_in_a_row_is_refused(toy):
    path = toy / "PRESCRIPTIONS.csv"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(MedrecError, match=r"PRESCRIPTIONS\.csv: line 3"):
        build(toy)


def test_blank_lines_at_the_end_do_no_harm(toy):
    path = toy / "PRESCRIPTIONS.csv"
    clean = build(toy)
    path.write_text(path.read_text() + "\n\n")
    assert build(toy).content == clean.content


def test_the_knowledge_tables_are_held_to_the_same_form(tmp_path):
    path = tmp_path / "map.csv"
    path.write_text("ndc,rxcui\n00000000001,1\n00000000002\n")
    with pytest.raises(MedrecError, match="line 3 has 1 cells, the header 2"):
        tables.read_columns(path, "ndc", "rxcui")
    with pytest.raises(MedrecError, match="has no column 'atc4': it needs ndc, atc4"):
        tables.read_columns(path, "ndc", "atc4")


# -- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["PATIENTS", "ADMISSIONS", "DIAGNOSES_ICD", "PRESCRIPTIONS"])
def test_a_table_without_a_header_line_is_refused_and_not_quoted(toy, table):
    path = toy / f"{table}.csv"
    path.write_text(path.read_text().partition("\n")[2])
    with pytest.raises(MedrecError, match=rf"{table}\.csv .*nor any other that is needed.*a header line") as caught:
        build(toy)
    assert "203" not in str(caught.value)
    assert "2090" not in str(caught.value)


def test_semicolons_for_commas_are_told(toy):
    path = toy / "PATIENTS.csv"
    path.write_text(path.read_text().replace(",", ";"))
    with pytest.raises(MedrecError, match="do commas stand between the cells"):
        build(toy)


def test_two_columns_of_one_name_are_refused(toy):
    path = toy / "PRESCRIPTIONS.csv"
    path.write_text(path.read_text().replace("icustay_id", "NDC"))
    with pytest.raises(MedrecError, match="two columns have the same name"):
        build(toy)


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><html>", b"\n  <html><body>Log in", b"\xef\xbb\xbf<?xml version='1.0'?>"]
)
@pytest.mark.parametrize("name", ["PRESCRIPTIONS.csv.gz", "PRESCRIPTIONS.csv"])
def test_a_web_page_is_no_table_and_points_to_no_layout(toy, page, name):
    (toy / "PRESCRIPTIONS.csv").unlink()
    (toy / name).write_bytes(page + b"\n<p>404</p>\n")
    for layout in READERS:
        with pytest.raises(MedrecError) as caught:
            build(toy, layout)
        assert "look like" not in str(caught.value)
        assert layout == "eicu" or "holds a web page, not a table" in str(caught.value)


def test_text_of_another_encoding_is_named(toy):
    path = toy / "PRESCRIPTIONS.csv"
    path.write_bytes(path.read_text().encode("utf-16"))
    with pytest.raises(MedrecError, match=r"PRESCRIPTIONS\.csv is no text in UTF-8"):
        build(toy)


def test_columns_that_point_to_no_layout_point_to_none(tmp_path):
    write_table(tmp_path, "prescriptions", [{"patient": 1, "drug": "aspirin"}])
    assert tables.guess_layout(tmp_path) is None


# -- where tables lie -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["2.2", "mimiciv/2.2", "physionet.org/files/mimiciv/2.2"])
def test_a_release_folder_is_found_inside_the_one_that_was_given(tmp_path, below):
    mimic4_hospital(tmp_path / below / "hosp", [(30, "4019", 9), (31, "4019", 9)])
    with pytest.raises(
        MedrecError, match=rf"{tmp_path / below} looks like tables of the mimic4 layout: give that folder"
    ):
        import_tables("mimic4", tmp_path)


def test_the_first_release_of_mimic4_is_told_from_later_ones(tmp_path):
    mimic4_hospital(tmp_path / "hosp", [(30, "4019", 9), (31, "4019", 9)])
    (tmp_path / "core").mkdir()
    for name in ("admissions", "patients"):
        (tmp_path / "hosp" / f"{name}.csv").rename(tmp_path / "core" / f"{name}.csv")
    with pytest.raises(MedrecError, match=r"No admissions\.csv.*MIMIC-IV 1\.0 keeps it in .*core.*2\.0 or later"):
        build(tmp_path, "mimic4")


SYMPTOMS = {
    "mimic3": ("hadm_id", 203),
    "mimic4": ("hadm_id", 30),
    "eicu": ("patienthealthsystemstayid", 100),
}


@pytest.mark.parametrize(
    ("layout", "place"), [("mimic3", ""), ("eicu", ""), ("mimic4", ""), ("mimic4", "hosp")], ids=str
)
def test_symptoms_beside_the_tables_are_found(tmp_path, layout, place):
    if layout == "mimic3":
        write_mimic3(tmp_path, [ADMISSION], [{}])
    elif layout == "mimic4":
        mimic4_hospital(tmp_path / "hosp", [(30, "4019", 9), (31, "4019", 9)])
    else:
        eicu_hospital(tmp_path, [{}])
    key, visit = SYMPTOMS[layout]
    rows = [{key: f"{visit}.0", "symptom": word} for word in (" chest pain", "chest pain", "", "NULL")]
    write_table(tmp_path / place, "symptoms", rows)
    cohort = build(tmp_path, layout)
    assert cohort.vocab["symptom"].codes == ("chest pain",)
    dropped = {step.step: step.dropped for step in cohort.report.steps if step.unit == "symptom rows"}
    assert dropped["has a code"] == 2


def test_symptoms_in_two_places_are_refused(tmp_path):
    mimic4_hospital(tmp_path / "hosp", [(30, "4019", 9), (31, "4019", 9)])
    for place in (tmp_path, tmp_path / "hosp"):
        write_table(place, "symptoms", [{"hadm_id": 30, "symptom": "cough"}])
    with pytest.raises(MedrecError, match="symptoms stand in two places"):
        build(tmp_path, "mimic4")


@pytest.mark.parametrize(("table", "kind"), [("DIAGNOSES_ICD", "diagnosis"), ("PROCEDURES_ICD", "procedure")])
def test_an_empty_table_of_codes_names_the_way_out(toy, table, kind):
    path = toy / f"{table}.csv"
    path.write_text(path.read_text().partition("\n")[0] + "\n")
    with pytest.raises(MedrecError, match=rf"{table}\.csv holds no {kind}\. .*option 'require'"):
        build(toy)
    others = tuple(k for k in ("diagnosis", "procedure", "medication") if k != kind)
    assert build_cohort(READERS["mimic3"](toy), Options(require=others), name="toy", source="synthetic").n_visits == 1
