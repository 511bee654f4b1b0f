"""Codes: ICD to CCS, and what a code is called.

ICD codes arrive keyed by version (``"9:4019"``, ``"10:I10"``). The Clinical Classifications Software (CCS) of AHRQ HCUP
groups both versions into the same 283 diagnosis and 231 procedure categories, so that a finding whose code changed its
version between two visits is still the same finding. The tables are the user's: files in ``<data_dir>/knowledge/``.
"""

from __future__ import annotations

from functools import cache

import polars as pl

from medrec.data.cohort import Kind
from medrec.data.spelling import filled, plain_code, plain_number, version
from medrec.data.tables import find_table, read_columns
from medrec.knowledge.conditions import icd_titles
from medrec.paths import data_dir
from medrec.types import MedrecError

CCS_FILES: dict[str, tuple[str, str]] = {
    "diagnosis": ("ccs_dx", "ccs_dx_labels"),
    "procedure": ("ccs_pr", "ccs_pr_labels"),
}


def ccs_map(kind: Kind) -> pl.DataFrame:
    """The user's table from ICD codes to CCS categories.

    Args:
        kind: ``"diagnosis"`` or ``"procedure"``.

    Returns:
        Columns ``code`` (``"9:4019"``) and ``ccs`` (``"ccs:98"``), one row a code.

    Raises:
        MedrecError: the table is not in ``<data_dir>/knowledge``, or lacks a column.
    """
    folder = data_dir() / "knowledge"
    path = find_table(folder, CCS_FILES[kind][0])
    if path is None:
        raise MedrecError(
            f"coding='ccs' needs {CCS_FILES[kind][0]}.csv or .csv.gz in {folder} (columns vocabulary, code, "
            "category_code), which is not there. Put the HCUP CCS table there, point MEDREC_DATA_DIR at the folder "
            "that has it, or use coding='icd'."
        )
    table = read_columns(path, "vocabulary", "code", "category_code")
    found = (
        table.select(
            code=version(pl.col("vocabulary")) + ":" + plain_code(pl.col("code"), kind),
            ccs="ccs:" + plain_number(pl.col("category_code")),
        )
        .drop_nulls()
        .unique()
        .sort("code")
    )
    twice = int(found["code"].is_duplicated().sum())
    if twice:
        raise MedrecError(f"{path} puts {twice} rows of one code into different categories. Give the table of HCUP.")
    return found


def titles(kind: Kind, codes: pl.Series, dictionary: pl.DataFrame) -> tuple[str, ...]:
    """A title for each code: the database's own, else that of our tables, else the code itself.

    Args:
        kind: what the codes are; a code means different things as diagnosis and as procedure.
        codes: unique codes as cohorts write them.
        dictionary: columns ``kind``, ``code``, ``title``, from the database.

    Returns:
        As many titles as codes, in their order. Retired codes, which no dictionary lists, keep their code as title.
    """
    known = titled(kind, dictionary)
    if codes.cast(pl.String).str.starts_with("ccs:").any():
        known = pl.concat([known, _ccs_titles(kind)])
    named = pl.DataFrame({"code": codes.cast(pl.String)}).join(known, on="code", how="left", maintain_order="left")
    return tuple(named.select(pl.coalesce("title", pl.col("code").str.strip_prefix("path:"))).to_series())


def titled(kind: Kind, dictionary: pl.DataFrame) -> pl.DataFrame:
    """Every code of a kind that the database's dictionary or ours names: ``code``, ``title``, one row a code.

    Of two titles for one code the first in the alphabet counts, so that the order of rows has no influence.
    """
    theirs = (
        dictionary.filter(pl.col("kind") == kind)
        .select("code", "title")
        .drop_nulls()
        .sort("code", "title")
        .unique("code", keep="first", maintain_order=True)
    )
    return pl.concat([theirs, _our_titles(kind).join(theirs, on="code", how="anti")])


@cache
def _our_titles(kind: Kind) -> pl.DataFrame:
    code = pl.col("version").cast(pl.String) + ":" + pl.col("code")
    return icd_titles().filter(pl.col("kind") == kind).select(code.alias("code"), "title")


def _ccs_titles(kind: Kind) -> pl.DataFrame:
    path = find_table(data_dir() / "knowledge", CCS_FILES[kind][1]) if kind in CCS_FILES else None
    if path is None:
        return pl.DataFrame(schema={"code": pl.String, "title": pl.String})
    table = read_columns(path, "category_code", "category_desc")
    labels = table.select(code="ccs:" + plain_number(pl.col("category_code")), title=filled(pl.col("category_desc")))
    return labels.drop_nulls().sort("code", "title").unique("code", keep="first", maintain_order=True)
