"""One cell, many spellings: what exports, spreadsheets and people make of an empty cell, a code or a number.

Every function takes a polars expression, for readers and tables, or one string, for what somebody types; both go
through the same rules, so that no two doors understand different things.
"""

from __future__ import annotations

from typing import Literal, overload

import polars as pl

NOTHING = ("", "null", "(null)", "nan", "none", "nil", "na", "n/a", "#n/a", "<na>", "nat", r"\n")
"""What stands for an empty cell, in small letters: quoted blanks, and the words of databases and of pandas."""


@overload
def filled(cell: pl.Expr) -> pl.Expr: ...
@overload
def filled(cell: str) -> str | None: ...
def filled(cell: pl.Expr | str) -> pl.Expr | str | None:
    """Text without blanks around it; null where the cell says nothing."""
    if isinstance(cell, str):
        return _one(filled(pl.lit(cell)))
    bare = cell.str.strip_chars()
    return pl.when(~bare.str.to_lowercase().is_in(NOTHING)).then(bare)


@overload
def plain_code(cell: pl.Expr, kind: Literal["diagnosis", "procedure"] = ...) -> pl.Expr: ...
@overload
def plain_code(cell: str, kind: Literal["diagnosis", "procedure"] = ...) -> str | None: ...
def plain_code(
    cell: pl.Expr | str, kind: Literal["diagnosis", "procedure"] = "diagnosis"
) -> pl.Expr | str | None:
    """An ICD code as cohorts write it, without its version: no dot, no blanks or quotes, capital letters.

    Args:
        cell: ``"401.9"``, ``" i10 "``, ``"'0389"``, or ``"4019.0"``, a code that went through a column of floats.
        kind: a diagnosis has three characters before its dot, a procedure of ICD-9 two; so ``"966.0"`` is a diagnosis
            with its dot, and procedure ``966`` from a column of floats.

    Returns:
        ``"4019"``; null where the cell says nothing. A zero lost in front (``389`` for ``0389``) cannot be known here.

    Example:
        >>> plain_code(" i50.9")
        'I509'
    """
    if isinstance(cell, str):
        return _one(plain_code(pl.lit(cell), kind))
    digits = 4 if kind == "diagnosis" else 3
    bare = filled(cell).str.replace_all(r"""[\s'"=]""", "").str.to_uppercase()
    code = bare.str.replace(rf"^(\d{{{digits},}})\.0+$", "$1").str.replace_all(".", "", literal=True)
    return pl.when(code != "").then(code)


@overload
def version(cell: pl.Expr) -> pl.Expr: ...
@overload
def version(cell: str) -> str | None: ...
def version(cell: pl.Expr | str) -> pl.Expr | str | None:
    """Version of an ICD code, ``"9"`` or ``"10"``, from ``9``, ``10.0``, ``ICD9CM``, ``icd-10``; null for all else."""
    if isinstance(cell, str):
        return _one(version(pl.lit(cell)))
    return cell.str.strip_chars().str.extract(r"^(?i:icd)?[ -]?0?(9|10)(?:\.0+|[ -]?(?i:cm|pcs))?$")


@overload
def plain_ndc(cell: pl.Expr) -> pl.Expr: ...
@overload
def plain_ndc(cell: str) -> str | None: ...
def plain_ndc(cell: pl.Expr | str) -> pl.Expr | str | None:
    """A National Drug Code as 11 digits: labeller 5, product 4, package 2.

    Args:
        cell: 11 digits; parts with dashes (5-4-2, or with a zero left out: 4-4-2, 5-3-2, 5-4-1); fewer than ten digits,
            whose zeros in front a spreadsheet has dropped; each also with ``.0`` behind.

    Returns:
        11 digits; null where the cell says nothing or ``0``. Ten digits stay as they are: the missing zero can stand in
        three places (:func:`ndc_candidates`). So does whatever else is no NDC.
    """
    if isinstance(cell, str):
        return _one(plain_ndc(pl.lit(cell)))
    bare = filled(cell).str.replace_all(r"""[\s'"=]""", "").str.replace(r"^(\d+)\.0+$", "$1")
    parts = bare.str.extract_groups(r"^(\d{1,5})-(\d{1,4})-(\d{1,2})$")
    dashed = pl.concat_str(*(parts.struct[i].str.zfill(size) for i, size in enumerate((5, 4, 2))))
    short = pl.when(bare.str.contains(r"^\d{1,9}$")).then(bare.str.zfill(11))
    return pl.when(~bare.str.contains("^[0-]*$")).then(pl.coalesce(dashed, short, bare))


def ndc_candidates(ten: str) -> tuple[str, str, str]:
    """The NDCs of 11 digits that ten digits without dashes can stand for: 4-4-2, 5-3-2 and 5-4-1."""
    return "0" + ten, f"{ten[:5]}0{ten[5:]}", f"{ten[:9]}0{ten[9:]}"


def _one(cell: pl.Expr) -> str | None:
    found: str | None = pl.select(cell).item()
    return found
