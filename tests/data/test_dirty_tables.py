"""Thousands of dirty tables made of the open demos: read the same, or counted in the report, or refused in one line.

``MEDREC_DIRTY_TABLES`` says how many (2 000 unless it is set); more than that are drawn anew at every run.
"""

from __future__ import annotations

import csv
import functools
import gzip
import os
import random
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medrec.data.build import Options, build_cohort
from medrec.data.cohort import Cohort
from medrec.data.spelling import NOTHING
from medrec.types import MedrecError
from tests.conftest import demo_dir
from tests.data.conftest import READERS

USUAL = 2000
TABLES = int(os.environ.get("MEDREC_DIRTY_TABLES", USUAL))


def share_of_tables(share: float, tables_each: int = 1):
    """Settings for a part of all dirty tables, of which each example makes so many."""
    return settings(
        max_examples=max(1, round(TABLES * share / tables_each)),
        derandomize=TABLES <= USUAL,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


# -- clean tables -----------------------------------------------------------------------------------------------------

Table = list[list[str]]
"""Rows of cells, the header first."""

# What the columns that are read hold; the names decide how they can be misspelt.
COLUMNS = {
    "mimic3": {
        "PATIENTS": {"subject_id": "number", "gender": "sex", "dob": "time"},
        "ADMISSIONS": {"subject_id": "number", "hadm_id": "number", "admittime": "time"},
        "DIAGNOSES_ICD": {"hadm_id": "number", "seq_num": "number", "icd9_code": "diagnosis"},
        "PROCEDURES_ICD": {"hadm_id": "number", "seq_num": "number", "icd9_code": "procedure"},
        "PRESCRIPTIONS": {
            "hadm_id": "number",
            "startdate": "time",
            "drug_type": "text",
            "drug": "text",
            "ndc": "ndc",
            "route": "text",
        },
        "D_ICD_DIAGNOSES": {"icd9_code": "diagnosis", "long_title": "text"},
        "D_ICD_PROCEDURES": {"icd9_code": "procedure", "long_title": "text"},
    },
    "mimic4": {
        "patients": {"subject_id": "number", "gender": "sex", "anchor_age": "number", "anchor_year": "number"},
        "admissions": {"subject_id": "number", "hadm_id": "number", "admittime": "time"},
        "diagnoses_icd": {"hadm_id": "number", "seq_num": "number", "icd_code": "diagnosis", "icd_version": "version"},
        "procedures_icd": {"hadm_id": "number", "seq_num": "number", "icd_code": "procedure", "icd_version": "version"},
        "prescriptions": {
            "hadm_id": "number",
            "starttime": "time",
            "drug_type": "text",
            "drug": "text",
            "ndc": "ndc",
            "route": "text",
        },
        "d_icd_diagnoses": {"icd_code": "diagnosis", "icd_version": "version", "long_title": "text"},
        "d_icd_procedures": {"icd_code": "procedure", "icd_version": "version", "long_title": "text"},
    },
    "eicu": {
        "patient": {
            "patientunitstayid": "number",
            "patienthealthsystemstayid": "number",
            "uniquepid": "text",
            "gender": "sex",
            "age": "age",
            "hospitaladmitoffset": "number",
            "hospitaldischargeyear": "number",
        },
        "diagnosis": {
            "patientunitstayid": "number",
            "diagnosisoffset": "number",
            "diagnosisstring": "path",
            "icd9code": "cell",
            "diagnosispriority": "word",
        },
        "medication": {
            "patientunitstayid": "number",
            "drugorderoffset": "number",
            "drugordercancelled": "flag",
            "drugname": "text",
            "drughiclseqno": "hicl",
            "routeadmin": "text",
        },
        "admissiondrug": {"drugname": "text", "drughiclseqno": "hicl"},
    },
}
VISITS = {"mimic3": "ADMISSIONS", "mimic4": "admissions", "eicu": "patient"}
ORDERS = {"mimic3": "PRESCRIPTIONS", "mimic4": "prescriptions", "eicu": "medication"}
DIAGNOSES = {"mimic3": "DIAGNOSES_ICD", "mimic4": "diagnoses_icd", "eicu": "diagnosis"}
PATIENT_ID = {"mimic3": "subject_id", "mimic4": "subject_id", "eicu": "uniquepid"}
VISIT_ID = {"mimic3": "hadm_id", "mimic4": "hadm_id", "eicu": "patienthealthsystemstayid"}


@functools.cache
def clean_tables(layout: str) -> dict[str, Table]:
    """The demo's own rows of a few patients, and of the dictionaries what these have."""
    folder = demo_dir(f"{layout}-demo") / ("hosp" if layout == "mimic4" else "")
    tables = {
        name: pl.read_csv(folder / f"{name}.csv.gz", infer_schema=False).fill_null("") for name in COLUMNS[layout]
    }
    key = PATIENT_ID[layout]
    people = tables[VISITS[layout]].group_by(key).len().sort(["len", key], descending=[True, False])[key][10:16]
    if layout == "eicu":
        tables["patient"] = tables["patient"].filter(pl.col(key).is_in(people.implode()))
        units = tables["patient"]["patientunitstayid"].implode()
        for name in ("diagnosis", "medication", "admissiondrug"):
            tables[name] = tables[name].filter(pl.col("patientunitstayid").is_in(units))
    for name, table in tables.items():
        if layout != "eicu" and key in table.columns:
            tables[name] = table.filter(pl.col(key).is_in(people.implode()))
    visit = "patientunitstayid" if layout == "eicu" else "hadm_id"
    tables[ORDERS[layout]] = tables[ORDERS[layout]].filter(pl.int_range(pl.len()).over(visit) < 25)
    for name, kind in (("diagnoses", "diagnoses_icd"), ("procedures", "procedures_icd")):
        dictionary = next((n for n in tables if n.lower() == f"d_icd_{name}"), None)
        if dictionary:
            code = "icd9_code" if layout == "mimic3" else "icd_code"
            used = tables[next(n for n in tables if n.lower() == kind)][code]
            tables[dictionary] = tables[dictionary].filter(pl.col(code).is_in(used.implode()))
    return {name: [table.columns, *map(list, table.iter_rows())] for name, table in tables.items()}


QUOTED_EMPTY = "\0quoted"
"""Stands for ``""``, which a file can hold where it could hold nothing."""


def text_of(table: Table) -> str:
    def written(cell: str) -> str:
        if cell == QUOTED_EMPTY:
            return '""'
        return '"' + cell.replace('"', '""') + '"' if "," in cell or '"' in cell else cell

    return "".join(",".join(map(written, row)) + "\n" for row in table)


@functools.cache
def clean_folder(layout: str) -> tempfile.TemporaryDirectory:
    folder = tempfile.TemporaryDirectory()
    for name, table in clean_tables(layout).items():
        (Path(folder.name) / f"{name}.csv").write_text(text_of(table), encoding="utf-8")
    return folder


@functools.cache
def clean_cohort(layout: str, window: str = "whole_stay") -> Cohort:
    return built(Path(clean_folder(layout).name), layout, window=window)


def built(folder: Path, layout: str, **options: str) -> Cohort:
    return build_cohort(READERS[layout](folder), Options(**options), name="dirty", source="demo")


def build_with(layout: str, dirty: dict[str, bytes], **options: str) -> Cohort:
    """A cohort of the clean tables, of which some files are dirty: file name → content."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stems = {file.split(".")[0].lower() for file in dirty}
        for path in Path(clean_folder(layout).name).iterdir():
            if path.stem.lower() not in stems:
                (folder / path.name).symlink_to(path)
        for file, content in dirty.items():
            (folder / file).write_bytes(content)
        return built(folder, layout, **options)


def outcome(layout: str, dirty: dict[str, bytes], **options: str) -> Cohort | str:
    """The cohort, or the message of the error."""
    try:
        return build_with(layout, dirty, **options)
    except MedrecError as error:
        return str(error)


def column(table: Table, name: str) -> int:
    return table[0].index(name)


def changed(table: Table, name: str, rows: list[int], change: Callable[[str], str]) -> Table:
    """A copy of the table with other cells in some rows of a column."""
    at, copy = column(table, name), [list(row) for row in table]
    for row in rows:
        copy[row][at] = change(copy[row][at])
    return copy


def places(table: Table, data: random.Random, share: float) -> list[int]:
    """Some rows, one at least; all where the share is one."""
    rows = range(1, len(table))
    return [row for row in rows if data.random() < share] or [data.choice(rows)]


layouts = st.sampled_from(sorted(READERS))
shares = st.sampled_from([0.0, 0.3, 1.0])
randoms = st.integers(0, 2**32).map(random.Random)


def some_column(layout: str, data: random.Random, *kinds: str) -> tuple[str, str]:
    """A table and one of its columns of these kinds."""
    found = [(t, c) for t, columns in COLUMNS[layout].items() for c, kind in columns.items() if kind in kinds]
    return data.choice(found)


# -- the same cohort --------------------------------------------------------------------------------------------------


def dotted(code: str, digits: int) -> str:
    return f"{code[:digits]}.{code[digits:]}" if len(code) > digits else code


def diagnosis_dotted(code: str) -> str:
    return dotted(code, 4 if code.startswith("E") and code[1:].isdigit() and len(code) in (4, 5) else 3)


def without_seconds(time: str) -> str:
    return time.removesuffix(":00")


NDC_PARTS = [
    lambda ndc: f"{ndc[:5]}-{ndc[5:9]}-{ndc[9:]}",
    lambda ndc: f"{ndc[1:5]}-{ndc[5:9]}-{ndc[9:]}" if ndc[0] == "0" else ndc,
    lambda ndc: f"{ndc[:5]}-{ndc[6:9]}-{ndc[9:]}" if ndc[5] == "0" else ndc,
    lambda ndc: f"{ndc[:5]}-{ndc[5:9]}-{ndc[10:]}" if ndc[9] == "0" else ndc,
    lambda ndc: ndc.lstrip("0") if ndc.startswith("00") else ndc,
    lambda ndc: f"{ndc}.0",
]
PADDED = [lambda cell: f" {cell}", lambda cell: f"{cell}\t", lambda cell: f"{cell}\u00a0"]
SPELLINGS: dict[str, list[Callable[[str], str]]] = {
    "number": [*PADDED, lambda cell: f"{cell}.0"],
    "hicl": [*PADDED, lambda cell: f"{cell}.0"],
    "age": [*PADDED, lambda cell: cell if ">" in cell else f"{cell}.0", lambda cell: cell.replace(" ", "")],
    "time": [
        *PADDED,
        without_seconds,
        lambda cell: cell.replace(" ", "T"),
        lambda cell: f"{cell} UTC",
        lambda cell: cell.replace(" ", "T") + "Z",
        lambda cell: f"{cell}.000000",
        lambda cell: f"{cell}+00:00",
        lambda cell: cell.removesuffix(" 00:00:00"),
    ],
    "diagnosis": [*PADDED, str.lower, diagnosis_dotted, lambda cell: f"'{cell}", lambda cell: f'="{cell}"'],
    "procedure": [
        *PADDED,
        str.lower,
        lambda cell: f"'{cell}",
        lambda cell: dotted(cell, 2) if cell.isdigit() else cell,
    ],
    "version": [*PADDED, lambda cell: f"{cell}.0", lambda cell: f"ICD{cell}CM", lambda cell: f"icd-{cell}"],
    "ndc": [*PADDED, lambda cell: cell if cell == "0" else NDC_PARTS[int(cell) % len(NDC_PARTS)](cell)],
    "sex": [*PADDED, str.lower, str.upper, lambda cell: {"F": "Female", "M": "male"}.get(cell, cell)],
    "flag": [*PADDED, str.lower, str.upper, lambda cell: str(cell == "Yes")],
    "cell": [*PADDED, str.lower, lambda cell: cell.replace(", ", ",")],
    "path": PADDED,
    "word": [*PADDED, str.lower, str.upper],
    "text": PADDED,
}
EMPTY = [QUOTED_EMPTY, " ", *NOTHING[1:], "NULL", "NaN", "None"]
CONTAINERS: dict[str, Callable[[str, str], tuple[str, bytes]]] = {
    "as it is": lambda name, text: (f"{name}.csv", text.encode()),
    "compressed": lambda name, text: (f"{name}.csv.gz", gzip.compress(text.encode(), 1)),
    "byte-order mark": lambda name, text: (f"{name}.csv", b"\xef\xbb\xbf" + text.encode()),
    "line ends of Windows": lambda name, text: (f"{name}.csv", text.replace("\n", "\r\n").encode()),
    "other case": lambda name, text: (f"{name.swapcase()}.CSV", text.encode()),
    "capital header": lambda name, text: (f"{name}.csv", text.partition("\n")[0].upper().encode() + rest(text)),
    "quoted header": lambda name, text: (
        f"{name}.csv",
        ",".join(f'"{cell}"' for cell in text.partition("\n")[0].split(",")).encode() + rest(text),
    ),
}


def rest(text: str) -> bytes:
    return text[text.index("\n") :].encode()


@given(layout=layouts, data=randoms, share=shares, window=st.sampled_from(["whole_stay", "first_day"]))
@share_of_tables(0.36, tables_each=6)
def test_another_spelling_of_every_table_is_the_same_cohort(layout, data, share, window):
    dirty = {}
    for name, table in clean_tables(layout).items():
        for cells, kind in COLUMNS[layout][name].items():
            spell = data.choice(SPELLINGS[kind])
            nothing = data.choice(EMPTY)
            table = changed(
                table, cells, places(table, data, share), lambda cell, s=spell, n=nothing: s(cell) if cell else n
            )
        file, content = data.choice(list(CONTAINERS.values()))(name, text_of(table))
        dirty[file] = content
    cohort, clean = build_with(layout, dirty, window=window), clean_cohort(layout, window)
    assert cohort.content == clean.content
    assert cohort.report == clean.report


@given(layout=layouts, data=randoms)
@share_of_tables(0.05, tables_each=6)
def test_rows_in_another_order_are_the_same_cohort_even_where_they_contradict_each_other(layout, data):
    tables = {name: list(table) for name, table in clean_tables(layout).items()}
    for kind in data.sample(sorted(CONTRADICTIONS[layout]), 3):
        name = CONTRADICTIONS[layout][kind][0]
        tables[name] = CONTRADICTIONS[layout][kind][1](tables[name], data)

    def shuffled() -> Cohort:
        files = {}
        for name, (header, *rows) in tables.items():
            data.shuffle(rows)
            files[f"{name}.csv"] = text_of([header, *rows]).encode()
        return build_with(layout, files, window="first_day")

    first, second = shuffled(), shuffled()
    assert first.content == second.content
    assert first.report == second.report


# -- refused ----------------------------------------------------------------------------------------------------------


def more_cells(line: bytes, data: random.Random) -> bytes:
    return line + b",1" * data.randint(1, 3)


def fewer_cells(line: bytes, data: random.Random) -> bytes:
    row = next(csv.reader([line.decode()]))
    return text_of([row[: data.randrange(1, len(row))]]).encode().rstrip(b"\n")


def comma_inside(line: bytes, data: random.Random) -> bytes:
    at = between_cells(line, data)
    return line[:at] + b", 5" + line[at:]


def stray_mark(line: bytes, data: random.Random) -> bytes:
    at = between_cells(line, data)
    return line[:at] + b'5"' + line[at:]


def between_cells(line: bytes, data: random.Random) -> int:
    """Place of a comma that ends a cell."""
    return data.choice([i for i, mark in enumerate(line) if mark == ord(",") and line[:i].count(b'"') % 2 == 0])


def zeros(line: bytes, data: random.Random) -> bytes:
    at = data.randrange(len(line))
    return line[:at] + bytes(data.randint(1, 40)) + line[at:]


def no_text(line: bytes, data: random.Random) -> bytes:
    at = data.randrange(len(line))
    return line[:at] + b"\xe9\xff" + line[at:]


def blank_line(line: bytes, data: random.Random) -> bytes:
    return data.choice([b"", b"  "]) + b"\n" + line


BROKEN = (more_cells, fewer_cells, comma_inside, stray_mark, zeros, no_text, blank_line)


def assert_refused(layout: str, file: str, content: bytes, where: str) -> str:
    with pytest.raises(MedrecError) as caught:
        build_with(layout, {file: content}, window="first_day")
    assert f"{file}: {where}" in str(caught.value), caught.value
    # What a notebook would show: causes too.
    return "".join(traceback.format_exception(caught.value))


@given(layout=layouts, data=randoms, breaks=st.sampled_from(BROKEN))
@share_of_tables(0.24)
def test_a_broken_row_is_refused_with_its_line(layout, data, breaks):
    name = data.choice(list(COLUMNS[layout]))
    lines = text_of(clean_tables(layout)[name]).encode().splitlines()
    row = data.randrange(1, len(lines))
    lines[row] = breaks(lines[row], data)
    message = assert_refused(layout, f"{name}.csv", b"\n".join([*lines, b""]), f"line {row + 1} ")
    assert not cells_in(message, clean_tables(layout)[name][row]), message


def cells_in(message: str, row: list[str]) -> list[str]:
    """Cells of a row that a message quotes; words and short numbers stand in any sentence."""
    return [cell for cell in row if len(cell) > 4 and not cell.isalpha() and cell in message]


@given(layout=layouts, data=randoms, compressed=st.booleans())
@share_of_tables(0.1)
def test_a_file_that_was_cut_is_refused_or_reported(layout, data, compressed):
    name = data.choice(list(COLUMNS[layout]))
    whole = text_of(clean_tables(layout)[name]).encode()
    if compressed:
        packed = gzip.compress(whole, 1)
        with pytest.raises(MedrecError, match=rf"{name}\.csv\.gz (is broken|is empty)"):
            build_with(layout, {f"{name}.csv.gz": packed[: data.randrange(2, len(packed))]})
        return
    # Where the cut falls on the end of a row nothing is left to tell it by.
    at = data.choice([i for i in range(len(whole.splitlines()[0]) + 1, len(whole)) if whole[i - 1 : i] != b"\n"])
    cohort = outcome(layout, {f"{name}.csv": whole[:at]})
    if isinstance(cohort, str):
        assert f"{name}.csv" in cohort or "left no" in cohort
    else:
        assert cohort.report.facts["tables_without_last_line_break"] == 1


UNREADABLE = {
    "number": ["12x6789", "1.5e3", "1 thousand", "12,345", "12 3456", "0x1F2E", "--34567"],
    "age": ["elderly", "> 40 or so", "70.5", "70 years"],
    "time": ["94-10-23 21:09:00", "10/23/2164 21:09", "2164-10-23 21:09:00+02:00", "2164-10-23 21:09:00 EST",
             "2164-02-30 00:00:00", "2164-10-23 25:00:00", "6146312940", "23 Oct 2164", "2164-10-5"],
    "flag": ["maybe so", "cancel"],
}  # fmt: skip


@given(layout=layouts, data=randoms, share=shares)
@share_of_tables(0.1)
def test_a_cell_that_cannot_be_read_is_refused_with_its_column_and_line(layout, data, share):
    name, cells = some_column(layout, data, *UNREADABLE)
    table = clean_tables(layout)[name]
    junk = data.choice(UNREADABLE[COLUMNS[layout][name][cells]])
    rows = places(table, data, share)
    content = text_of(changed(table, cells, rows, lambda _: junk)).encode()
    message = assert_refused(layout, f"{name}.csv", content, f"line {rows[0] + 1}: column {cells!r} does not hold")
    assert not cells_in(message, [junk, *table[rows[0]]]), message


@given(layout=layouts, data=randoms)
@share_of_tables(0.03)
def test_a_table_without_its_header_line_is_refused_and_its_first_row_not_quoted(layout, data):
    name = data.choice(list(COLUMNS[layout]))
    _, *rows = clean_tables(layout)[name]
    with pytest.raises(MedrecError, match=rf"{name}\.csv.*") as caught:
        build_with(layout, {f"{name}.csv": text_of(rows).encode()})
    assert not cells_in(str(caught.value), rows[0])


# -- reported ---------------------------------------------------------------------------------------------------------


def repeat(change: Callable[[list[str], Table, random.Random], None]) -> Callable[[Table, random.Random], Table]:
    """A row once more, with something else in it."""

    def dirty(table: Table, data: random.Random) -> Table:
        copy = list(data.choice(table[1:]))
        change(copy, table, data)
        return [*table, copy]

    return dirty


def another(name: str) -> Callable[[list[str], Table, random.Random], None]:
    """Another value of the column than the row has."""

    def change(row: list[str], table: Table, data: random.Random) -> None:
        at = column(table, name)
        row[at] = data.choice([other[at] for other in table[1:] if other[at] != row[at]] or [f"{row[at]}9"])

    return change


def put(name: str, *values: str) -> Callable[[Table, random.Random], Table]:
    """Other cells in some rows of a column."""

    def dirty(table: Table, data: random.Random) -> Table:
        value = data.choice(values)
        return changed(table, name, places(table, data, data.choice([0.0, 0.5])), lambda _: value)

    return dirty


def lost_zero(name: str) -> Callable[[Table, random.Random], Table]:
    def dirty(table: Table, _: random.Random) -> Table:
        rows = [i for i, row in enumerate(table) if i and row[column(table, name)].startswith("0")]
        return changed(table, name, rows, lambda code: code.lstrip("0"))

    return dirty


def ten_digits(table: Table, data: random.Random) -> Table:
    return changed(
        table, "ndc", places(table, data, 0.3), lambda ndc: ndc[:5] + ndc[6:] if len(ndc) == 11 else "1234567890"
    )


def day_only(name: str) -> Callable[[Table, random.Random], Table]:
    return lambda table, data: changed(table, name, places(table, data, 0.5), lambda time: time[:10])


def without_a_row(table: Table, data: random.Random) -> Table:
    copy = list(table)
    copy.pop(data.randrange(1, len(copy)))
    return copy


def unchanged(*_: object) -> None:
    return None


NO_ID = [QUOTED_EMPTY, "", "NULL", "nan", r"\N", " "]
AGES = ["-1", "-20", "150", "999"]
Dirty = tuple[str, Callable[[Table, random.Random], Table], str]
"""A table, what is done to it, and the fact or the step of the ledger that must tell when the cohort is another one."""


def contradictions(layout: str) -> dict[str, Dirty]:
    visits, orders, diagnoses = VISITS[layout], ORDERS[layout], DIAGNOSES[layout]
    patient, visit = PATIENT_ID[layout], VISIT_ID[layout]
    found: dict[str, Dirty] = {
        "no patient": (visits, put(patient, *NO_ID), "has its ids"),
        "no visit": (visits, put(visit, *NO_ID), "has its ids"),
        "repeated visit": (visits, repeat(unchanged), "listed once"),
        "two patients": (visits, repeat(another(patient)), "of one patient"),
        "repeated order": (orders, repeat(unchanged), "orders_read"),
        "order of no visit": (
            orders,
            put("patientunitstayid" if layout == "eicu" else visit, *NO_ID, "1"),
            "order of a known visit",
        ),
        "diagnosis of no visit": (
            diagnoses,
            put("patientunitstayid" if layout == "eicu" else visit, *NO_ID, "1"),
            "of a known visit",
        ),
    }
    if layout == "eicu":
        return found | {
            "another age": (visits, repeat(another("age")), "visits_with_contradicting_rows"),
            "another sex": (visits, repeat(another("gender")), "visits_with_contradicting_rows"),
            "another year": (visits, repeat(another("hospitaldischargeyear")), "visits_with_contradicting_rows"),
            "two hospital stays": (visits, repeat(another(visit)), "unit_stays_without_a_hospital_stay"),
            "no priority": (
                diagnoses,
                put("diagnosispriority", *NO_ID, "first", "1"),
                "diagnosis_rows_without_a_priority",
            ),
            "no place": (diagnoses, put("diagnosisoffset", *NO_ID), "diagnosis_rows_without_a_place"),
            "no year": (visits, put("hospitaldischargeyear", *NO_ID), "visits_without_a_time"),
            "odd year": (visits, put("hospitaldischargeyear", "14", "20140"), "visits_of_impossible_times"),
            "ages": (visits, put("age", *AGES), "visits_of_impossible_ages"),
            "no age": (visits, put("age", *NO_ID), "patients_without_an_age"),
            "no sex": (visits, put("gender", *NO_ID, "U"), "patients_without_a_sex"),
            "odd codes": (
                diagnoses,
                put("icd9code", "4O1.9", "401.9; I10", "see notes"),
                "diagnosis_cells_of_another_form",
            ),
            "far orders": (orders, put("drugorderoffset", "-5000000", "9000000"), "orders_a_year_from_their_visit"),
            "no time": (orders, put("drugorderoffset", *NO_ID), "orders_without_a_time"),
        }
    people = "PATIENTS" if layout == "mimic3" else "patients"
    procedures = "PROCEDURES_ICD" if layout == "mimic3" else "procedures_icd"
    code = "icd9_code" if layout == "mimic3" else "icd_code"
    start = "startdate" if layout == "mimic3" else "starttime"
    found |= {
        "another time": (visits, repeat(another("admittime")), "visits_with_contradicting_rows"),
        "another sex": (people, repeat(another("gender")), "visits_with_contradicting_rows"),
        "repeated patient": (people, repeat(unchanged), "nothing to tell"),
        "no patient row": (people, without_a_row, "visits_without_a_patient_row"),
        "no sex": (people, put("gender", *NO_ID, "U", "2"), "patients_without_a_sex"),
        "no admission time": (visits, put("admittime", *NO_ID), "visits_without_a_time"),
        "odd admission time": (visits, put("admittime", "0094-10-23 21:09:00"), "visits_of_impossible_times"),
        "admission day": (visits, day_only("admittime"), "visits_at_midnight"),
        "no code": (diagnoses, put(code, *NO_ID, "."), "has a code"),
        "no place": (diagnoses, put("seq_num", *NO_ID), "diagnosis_rows_without_a_place"),
        "no procedure": (procedures, put(code, *NO_ID), "has a code"),
        "unknown code": (
            diagnoses,
            put(code, "99999", "I9999", "4O19", "250.00/401.9"),
            "diagnosis_rows_without_title",
        ),
        "lost zeros": (diagnoses, lost_zero(code), "diagnosis_rows_without_title"),
        "ten digits": (orders, ten_digits, "orders_with_ndc_of_another_form"),
        "odd numbers": (orders, put("ndc", "A1234567890", "123456789012"), "orders_with_ndc_of_another_form"),
        "no name": (orders, put("drug", *NO_ID), "orders_without_name"),
        "no time": (orders, put(start, *NO_ID), "orders_without_a_time"),
        "far orders": (orders, put(start, "1950-01-01 00:00:00"), "orders_a_year_from_their_visit"),
    }
    if layout == "mimic3":
        return found | {
            "another birth": (people, repeat(another("dob")), "visits_with_contradicting_rows"),
            "births": (people, put("dob", "0094-03-05 00:00:00", "2290-01-01 00:00:00"), "visits_of_impossible_ages"),
            "no birth": (people, put("dob", *NO_ID), "patients_without_an_age"),
        }
    return found | {
        "another age": (people, repeat(another("anchor_age")), "visits_with_contradicting_rows"),
        "ages": (people, put("anchor_age", "-90", "150", "999"), "visits_of_impossible_ages"),
        "no age": (people, put("anchor_age", *NO_ID), "patients_without_an_age"),
        "other versions": (diagnoses, put("icd_version", "11", "8", *NO_ID), "has a code"),
        "the wrong version": (diagnoses, put("icd_version", "9", "10"), "diagnosis_rows_without_title"),
        "order day": (orders, day_only("starttime"), "orders_at_midnight"),
    }


CONTRADICTIONS = {layout: contradictions(layout) for layout in READERS}


def told(cohort: Cohort, what: str) -> float:
    """A fact, or how much the steps of that name dropped."""
    dropped = sum(step.dropped for step in cohort.report.steps if step.step == what)
    return cohort.report.facts.get(what, 0) + dropped


@given(layout=layouts, data=randoms)
@share_of_tables(0.12)
def test_what_contradicts_itself_or_cannot_be_is_counted(layout, data):
    kind = data.choice(sorted(CONTRADICTIONS[layout]))
    name, dirty, what = CONTRADICTIONS[layout][kind]
    content = text_of(dirty(clean_tables(layout)[name], data)).encode()
    clean = clean_cohort(layout, "first_day")
    cohort = outcome(layout, {f"{name}.csv": content}, window="first_day")
    if isinstance(cohort, str):
        assert "left no" in cohort, kind
    elif cohort.content != clean.content:
        assert told(cohort, what) > told(clean, what), kind
