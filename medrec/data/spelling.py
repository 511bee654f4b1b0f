"""One cell, many spellings: what exports, spreadsheets and people make of an empty cell, a code or a number.

Every function takes a polars expression, for readers and tables, or one string, for what somebody types; both go
through the same rules, so that no two doors understand different things.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

import polars as pl

NOTHING = ("", "null", "(null)", "nan", "none", "nil", "na", "n/a", "#n/a", "<na>", "nat", r"\n")
"""What stands for an empty cell, in small letters: quoted blanks, and the words of databases and of pandas."""


TIME_FORM = "YYYY-MM-DD HH:MM:SS"
"""How tables write a time; also understood: ``T`` between, fractions, no seconds, a day alone, ``UTC`` or ``Z``."""


class MisspeltError(ValueError):
    """A cell that cannot be read; the message is the column, a bar, and what it should hold, and never the cell."""


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
def plain_code(cell: pl.Expr, kind: str = ...) -> pl.Expr: ...
@overload
def plain_code(cell: str, kind: str = ...) -> str | None: ...
def plain_code(cell: pl.Expr | str, kind: str = "diagnosis") -> pl.Expr | str | None:
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


def ndc_candidates(ten: str) -> tuple[str, ...]:
    """The NDCs of 11 digits that ten digits without dashes can stand for: 4-4-2, 5-3-2 and 5-4-1."""
    return tuple(dict.fromkeys((f"0{ten}", f"{ten[:5]}0{ten[5:]}", f"{ten[:9]}0{ten[9:]}")))


def plain_number(cell: pl.Expr) -> pl.Expr:
    """A number that is only a name, such as HICL, as digits; null where the cell says nothing or ``0``."""
    bare = filled(cell).str.replace(r"^(\d+)\.0*$", "$1")
    return pl.when(bare != "0").then(bare)


def sex(cell: pl.Expr) -> pl.Expr:
    """``F``, ``M``, or empty where the cell says neither."""
    known = {"f": "F", "female": "F", "m": "M", "male": "M"}
    return cell.str.strip_chars().str.to_lowercase().replace_strict(known, default="", return_dtype=pl.String)


# -- what must be readable --------------------------------------------------------------------------------------------


def whole(cell: pl.Expr) -> pl.Expr:
    """Whole numbers, ``int64``; also with blanks around or ``.0`` behind, as a column of floats writes them.

    Raises:
        MisspeltError: when the frame is collected, and a cell is anything else. So do :func:`age`, :func:`moment` and
            :func:`truth`.
    """
    return _parsed(cell, "a whole number", pl.Int64())


def age(cell: pl.Expr) -> pl.Expr:
    """Years, ``int64``; 90 for ``> 89``."""
    return _parsed(cell, "a whole number of years, or > 89", pl.Int64())


def moment(cell: pl.Expr) -> pl.Expr:
    """Times of :data:`TIME_FORM`, without a zone; null where the cell says nothing."""
    return _parsed(cell, f"a date and time of the form {TIME_FORM}", pl.Datetime("us"))


def truth(cell: pl.Expr) -> pl.Expr:
    """Boolean; False where the cell says nothing."""
    return _parsed(cell, "Yes or No", pl.Boolean()).fill_null(False)


def _whole(cells: pl.Series) -> pl.Series:
    quick = cells.cast(pl.Int64, strict=False)
    if quick.null_count() == cells.null_count():
        return quick
    return _bare(cells).str.replace(r"^([+-]?\d+)\.0*$", "$1").cast(pl.Int64, strict=False)


def _ages(cells: pl.Series) -> pl.Series:
    return _whole(cells.str.replace(r"^\s*>\s*89\s*$", "90"))


def _moments(cells: pl.Series) -> pl.Series:
    quick = cells.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us")
    if quick.null_count() == cells.null_count() and (cells.str.len_bytes() == 19).all():
        return quick
    parts = _bare(cells).str.extract_groups(
        r"^(?<day>\d{4}-\d{2}-\d{2})"
        r"(?:(?:T|\s+)(?<minute>\d{2}:\d{2})(?<second>:\d{2})?(?<fraction>\.\d+)?\s*(?:Z|UTC|[+-]00:?00)?)?$"
    )
    text = pl.concat_str(
        pl.col("day"),
        pl.lit(" "),
        pl.col("minute").fill_null("00:00"),
        pl.col("second").fill_null(":00"),
        pl.col("fraction").str.slice(0, 7).fill_null(""),
    )
    return (
        parts.struct.unnest()
        .select(text)
        .to_series()
        .str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us")
    )


def _truths(cells: pl.Series) -> pl.Series:
    words = dict.fromkeys(("yes", "y", "true", "t", "1"), True) | dict.fromkeys(("no", "n", "false", "f", "0"), False)
    return _bare(cells).str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)


PARSERS: dict[str, Callable[[pl.Series], pl.Series]] = {
    "a whole number": _whole,
    "a whole number of years, or > 89": _ages,
    f"a date and time of the form {TIME_FORM}": _moments,
    "Yes or No": _truths,
}
"""What a cell should hold, in words → what reads a column of it and gives null where it cannot."""


def _parsed(cell: pl.Expr, wanted: str, kind: pl.DataType) -> pl.Expr:
    # A function of whole batches, not an expression: the usual spelling is tried alone, so that millions of cells in
    # it do not pay for the rare ones.
    def parsed(cells: pl.Series) -> pl.Series:
        found = PARSERS[wanted](cells).alias(cells.name)
        if wrong(cells, found).any():
            raise MisspeltError(f"{cells.name}|{wanted}")
        return found

    return cell.map_batches(parsed, return_dtype=kind, is_elementwise=True)


def wrong(cells: pl.Series, found: pl.Series) -> pl.Series:
    """True where a cell says something and nothing was found in it."""
    if found.null_count() == cells.null_count():
        return pl.Series([False]).new_from_index(0, len(cells))
    return _bare(cells).is_not_null() & found.is_null()


def _bare(cells: pl.Series) -> pl.Series:
    return pl.select(filled(pl.lit(cells))).to_series()


def _one(cell: pl.Expr) -> str | None:
    found: str | None = pl.select(cell).item()
    return found
