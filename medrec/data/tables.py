"""Raw tables as they lie on disk, and the canonical frames that every reader turns them into.

A reader (``mimic3``, ``mimic4``, ``eicu``, all with ``read(folder) -> RawTables``) only renames, parses and joins what
belongs to one visit; every decision that drops or merges something is taken in :mod:`medrec.data.build`, where the
ledger is kept. All frames are lazy: the order table is streamed, compressed or not, and never held as a whole.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from medrec.paths import announce_opened
from medrec.types import MedrecError

Layout = Literal["mimic3", "mimic4", "eicu"]

SUFFIXES = (".csv", ".csv.gz")
MARKER = "synthetic.json"
"""File beside tables of invented patients: the layout, and the options that they were drawn with."""

VISITS = ("patient_id", "visit_id", "admit_time", "rank", "sex", "age")
"""``patient_id``; ``visit_id`` int64; ``admit_time`` datetime or null; ``rank`` int, what is known of the order of
visits where there is no calendar (eICU: year of discharge), else 0; ``sex`` ``F``, ``M`` or empty; ``age`` in years, 90
for anything above 89, null where unknown."""

CODES = ("visit_id", "code", "seq")
"""``code`` with its version, ``"9:4019"``, null where the row has none; ``seq`` orders the codes of a visit."""

ORDERS = ("visit_id", "time", "name", "ndc", "route", "drug_type", "hicl", "cancelled")
"""One row an order. ``time`` is a datetime; ``ndc`` and ``hicl`` null where missing; ``cancelled`` boolean."""


@dataclass(frozen=True)
class RawTables:
    """Canonical lazy frames of one database.

    Args:
        layout: which database layout they were read from.
        visits, diagnoses, procedures, orders: columns :data:`VISITS`, :data:`CODES`, :data:`CODES`, :data:`ORDERS`;
            ``procedures`` is None where the database has no procedure codes.
        titles: columns ``kind``, ``code``, ``title``; what the database's own dictionaries call a code; may be empty.
        first_day: what ``window="first_day"`` can mean here: ``"calendar_day"`` where orders carry a date only,
            ``"24h"`` where they carry a time.
        files: frame → the files behind it, for messages and for the key of the cache.
        named_hicl: columns ``name``, ``route``, ``hicl``; what other tables call the HICL numbers; None: nothing.
        symptoms: columns :data:`CODES`, plain phrases as codes; None where there is no table of symptoms.
    """

    layout: Layout
    visits: pl.LazyFrame
    diagnoses: pl.LazyFrame
    procedures: pl.LazyFrame | None
    orders: pl.LazyFrame
    titles: pl.LazyFrame
    first_day: Literal["calendar_day", "24h"]
    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    named_hicl: pl.LazyFrame | None = None
    symptoms: pl.LazyFrame | None = None


def find_table(folder: Path, name: str) -> Path | None:
    """``NAME.csv`` or ``NAME.csv.gz`` in the folder, whatever the case of the name; None where there is none."""
    if not folder.is_dir():
        return None
    wanted = {name.lower() + suffix for suffix in SUFFIXES}
    # Where both stand side by side the plain file wins: it is the faster one to read.
    found = sorted(path for path in folder.iterdir() if path.name.lower() in wanted)
    return min(found, key=lambda path: len(path.name), default=None)


def guess_layout(folder: Path) -> Layout | None:
    """The layout that the file names in a folder point to; None where they point to none."""
    if find_table(folder / "hosp", "prescriptions") or find_table(folder / "hosp", "admissions"):
        return "mimic4"
    if find_table(folder, "patient") and find_table(folder, "medication"):
        return "eicu"
    path = find_table(folder, "prescriptions")
    if path is None:
        return None
    return "mimic4" if "starttime" in read_header(path) else "mimic3"


def read_header(path: Path) -> dict[str, str]:
    """Lower-case column name → name as it stands in the file.

    Raises:
        MedrecError: the file is empty or its first bytes cannot be read.
    """
    with explained((path,)):
        names = pl.scan_csv(path, infer_schema=False).collect_schema().names()
    return {name.strip().lower(): name for name in names}


def scan_table(folder: Path, name: str, columns: Sequence[str], *, layout: Layout) -> pl.LazyFrame:
    """Lazily read some columns of a table, all as text, under lower-case names.

    Args:
        folder: where ``NAME.csv`` or ``NAME.csv.gz`` lies, in any case.
        name: the table's name without suffix.
        columns: lower-case names of the columns to read; the file may write them in any case, and hold more.
        layout: the layout that is being read, for the message when this is another database.

    Returns:
        A lazy frame with exactly ``columns``, all text: ``"0389"`` keeps its zero.

    Raises:
        MedrecError: no such file, or a column is missing.
    """
    path = table_path(folder, name, layout=layout)
    announce_opened(f"the tables in {folder}", path)
    header = read_header(path)
    missing = [column for column in columns if column not in header]
    if missing:
        raise MedrecError(
            f"{path} has no column {missing[0]!r} (it has: {', '.join(header)}). "
            + _remedy(folder, layout, f"Give the original {name} table of the {layout} layout.")
        )
    return pl.scan_csv(path, infer_schema=False).select(pl.col(header[c]).alias(c) for c in columns)


def scan_symptoms(folder: Path, visit: str, *, layout: Layout) -> pl.LazyFrame | None:
    """Symptoms from ``symptoms.csv`` (the visit's id and ``symptom``, a plain phrase); None where it is not there.

    No database has this table: symptoms stand in notes. Synthetic records come with it, and a user may put it beside
    the tables, extracted by whatever means.
    """
    if find_table(folder, "symptoms") is None:
        return None
    return scan_table(folder, "symptoms", (visit, "symptom"), layout=layout).select(
        visit_id=pl.col(visit).cast(pl.Int64),
        code=pl.col("symptom").str.strip_chars(),
        seq=pl.lit(0, dtype=pl.Int32),
    )


def table_path(folder: Path, name: str, *, layout: Layout) -> Path:
    """Path of a table that must be there.

    Raises:
        MedrecError: it is not.
    """
    path = find_table(folder, name)
    if path is None:
        raise MedrecError(
            f"No {name}.csv or {name}.csv.gz in {folder}. "
            + _remedy(
                folder, layout, f"A folder of the {layout} layout must hold it; copy it there, compressed or not."
            )
        )
    return path


def _remedy(folder: Path, layout: Layout, otherwise: str) -> str:
    for place in (folder, folder.parent):
        guess = guess_layout(place)
        if guess is not None and guess != layout:
            return f"These look like tables in {guess} layout: read them as {guess}, not as {layout}."
    return otherwise


@contextmanager
def explained(files: Sequence[Path]) -> Iterator[None]:
    """Turn what polars or the decompressor says about a file into one sentence that names the file."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        for path in files:
            problem = _gzip_problem(path)
            if problem:
                raise MedrecError(
                    f"{path} is broken: {problem}. Copy or download the file again and compare its checksum."
                ) from error
        names = " or ".join(str(path) for path in files) or "a table"
        if isinstance(error, pl.exceptions.NoDataError):
            raise MedrecError(f"{names} is empty. Copy or download the file again.") from error
        bad = re.search(
            r"conversion from `\w+` to `([\w\[\]μ, ']+)` failed in column '(\w+)'.*?\[(.*?)\]", str(error), re.S
        )
        if bad:
            kind = "a whole number" if bad[1].startswith("i") else "a date and time"
            raise MedrecError(
                f"{names}: column {bad[2]!r} holds {bad[3].split(',')[0].strip()}, which is not {kind}. "
                "Give the table as the database ships it."
            ) from error
        raise MedrecError(f"{names} cannot be read: {str(error).splitlines()[0]}. Is it a whole CSV file?") from error


def _gzip_problem(path: Path) -> str | None:
    """What is wrong with a compressed file, read to its end; None for a sound or an uncompressed one."""
    if path.suffix != ".gz":
        return None
    try:
        with gzip.open(path) as stream:
            while stream.read(1 << 20):
                pass
    except EOFError:
        return "the compressed data end too early (a truncated copy)"
    except (OSError, zlib.error) as error:
        return str(error)
    return None
