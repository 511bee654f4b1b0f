"""Spellings of one thing: each understood, for a column and for a single word alike."""

import polars as pl
import pytest

from medrec.data.spelling import filled, ndc_candidates, plain_code, plain_ndc, version


def column(function, cells, *args):
    table = pl.DataFrame({"c": cells}, schema={"c": pl.String})
    return table.select(function(pl.col("c"), *args)).to_series().to_list()


NOTHING = ["", " ", "\t", "NULL", "null", " nan ", "NaN", "None", r"\N", "NA", "N/A", "<NA>", "NaT", "(null)"]


@pytest.mark.parametrize("function", [filled, plain_code, version, plain_ndc])
def test_an_empty_cell_is_no_value_however_it_is_written(function):
    assert column(function, [*NOTHING, None]) == [None] * (len(NOTHING) + 1)
    assert [function(cell) for cell in NOTHING] == [None] * len(NOTHING)


CODES = {
    "4019": ["4019", "401.9", " 401.9 ", "401.9\u00a0", "4019.0", "4019.00", "'4019", '="4019"', "401. 9"],
    "0389": ["0389", "038.9", "'038.9"],
    "I10": ["I10", "i10", " I10", "i10."],
    "I509": ["I509", "i50.9", "I50.9 "],
    "V1582": ["V1582", "v15.82"],
    "E8881": ["E8881", "e888.1"],
    "4010": ["401.0", "4010.0"],
}


@pytest.mark.parametrize(("code", "spellings"), CODES.items(), ids=list(CODES))
def test_spellings_of_a_diagnosis(code, spellings):
    assert column(plain_code, spellings) == [code] * len(spellings)
    assert [plain_code(spelling) for spelling in spellings] == [code] * len(spellings)


@pytest.mark.parametrize(
    ("code", "spellings"),
    {"3893": ["3893", "38.93", "3893.0"], "966": ["966", "96.6", "966.0"], "02703DZ": ["02703DZ", "02703dz "]}.items(),
)
def test_spellings_of_a_procedure(code, spellings):
    assert column(plain_code, spellings, "procedure") == [code] * len(spellings)


def test_a_dot_or_a_quote_alone_is_no_code():
    assert column(plain_code, [".", "'", '""', "..."]) == [None] * 4


@pytest.mark.parametrize(
    ("number", "spellings"),
    {
        "9": ["9", "9.0", " 9 ", "09", "ICD9", "ICD-9", "ICD9CM", "ICD-9-CM", "icd9pcs"],
        "10": ["10", "10.0", "10.00", "ICD10", "icd-10", "ICD10CM", "ICD10PCS"],
        None: ["11", "8", "90", "10.5", "ten", "9:"],
    }.items(),
)
def test_spellings_of_a_version(number, spellings):
    assert column(version, spellings) == [number] * len(spellings)


NDC = {
    "00409672924": ["00409672924", "0409-6729-24", "00409-6729-24", "409672924", "409672924.0", " 00409672924.0"],
    "54868000102": ["54868000102", "54868-001-02", "54868-0001-02", "54868000102.0"],
    "50111043303": ["50111-0433-3", "50111-433-3", "'50111043303"],
    "00006494300": ["6494300", "0006-4943-00", '="00006494300"'],
}


@pytest.mark.parametrize(("ndc", "spellings"), NDC.items(), ids=list(NDC))
def test_spellings_of_an_ndc(ndc, spellings):
    assert column(plain_ndc, spellings) == [ndc] * len(spellings)


def test_zero_is_no_ndc_and_what_is_none_stays_to_be_counted():
    assert column(plain_ndc, ["0", "0.0", "00000000000", "0000-0000-00"]) == [None] * 4
    strange = ["0409672924", "123456789012", "12A45", "1234-5678", "-5"]
    assert column(plain_ndc, strange) == strange


def test_ten_digits_can_be_three_products():
    assert ndc_candidates("0409672924") == ("00409672924", "04096072924", "04096729204")
    for dashed in ("0409-6729-24", "04096-729-24", "04096-7292-4"):
        assert plain_ndc(dashed) in ndc_candidates(dashed.replace("-", ""))
