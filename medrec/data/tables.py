"""Raw tables as they lie on disk, and the canonical frames that every reader turns them into.

A reader (``mimic3``, ``mimic4``, ``eicu``, all with ``read(folder) -> RawTables``) only renames, parses and joins what
belongs to one visit; every decision that drops or merges something is taken in :mod:`medrec.data.build`, where the
ledger is kept. All frames are lazy: the order table is streamed, compressed or not, and never held as a whole.

No message of this module holds a cell of a table, for tables may be closed: it names the file, the column and the line.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Literal, cast

import polars as pl

from medrec.data.spelling import PARSERS, MisspeltError, filled, plain_ndc, plain_number, whole, wrong
from medrec.paths import announce_opened
from medrec.types import MedrecError

Layout = Literal["mimic3", "mimic4", "eicu"]

SUFFIXES = (".csv", ".csv.gz")
MARKER = "synthetic.json"
"""File beside tables of invented patients: the layout, and the options that they were drawn with."""

VISITS = ("patient_id", "visit_id", "admit_time", "rank", "sex", "age")
"""``patient_id``; ``visit_id`` int64; ``admit_time`` datetime or null; ``rank`` int, what is known of the order of
visits where there is no calendar (eICU: year of discharge), else 0; ``sex`` ``F``, ``M`` or empty; ``age`` in years, 90
where the tables only say that it is above 89, null where unknown. A row a row of the tables: repeats, contradictions
and ages that nobody has are left for the pipeline."""

CODES = ("visit_id", "code", "seq")
"""``code`` with its version, ``"9:4019"``, null where the row has none; ``seq`` orders the codes of a visit."""

PRODUCT = ("name", "ndc", "route", "drug_type", "hicl")
"""What distinguishes two products in the order table."""

ORDERS = ("visit_id", "time", *PRODUCT, "cancelled")
"""One row an order. ``time`` is a datetime; ``ndc`` and ``hicl`` null where missing; ``cancelled`` boolean."""


@dataclass(frozen=True)
class RawTables:
    """Canonical lazy frames of one database.

    Args:
        layout: which database layout they were read from.
        visits, diagnoses, procedures: columns :data:`VISITS`, :data:`CODES`, :data:`CODES`; ``procedures`` is None
            where the database has no procedure codes.
        written: columns :data:`ORDERS`, those of :data:`PRODUCT` as the file spells them: a pipeline that lists the
            distinct products first spells a few thousand of them, not millions of rows. All others ask :attr:`orders`.
        titles: columns ``kind``, ``code``, ``title``; what the database's own dictionaries call a code; may be empty.
        first_day: what ``window="first_day"`` can mean here: ``"calendar_day"`` where orders carry a date only,
            ``"24h"`` where they carry a time.
        files: frame → the files behind it, for messages and for the key of the cache.
        named_hicl: columns ``name``, ``route``, ``hicl``; what other tables call the HICL numbers; None: nothing.
        symptoms: columns :data:`CODES`, plain phrases as codes; None where there is no table of symptoms.
        counts: what only the reader can count, name → one number; they become facts of the report.
    """

    layout: Layout
    visits: pl.LazyFrame
    diagnoses: pl.LazyFrame
    procedures: pl.LazyFrame | None
    written: pl.LazyFrame
    titles: pl.LazyFrame
    first_day: Literal["calendar_day", "24h"]
    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    named_hicl: pl.LazyFrame | None = None
    symptoms: pl.LazyFrame | None = None
    counts: dict[str, pl.LazyFrame] = field(default_factory=dict)

    @property
    def orders(self) -> pl.LazyFrame:
        """Columns :data:`ORDERS`, every product in the one spelling that the pipeline knows."""
        return self.written.with_columns(spelled_products())


def spelled_products() -> list[pl.Expr]:
    """The columns of :data:`PRODUCT` without blanks around them, empty words as null, NDC and HICL as digits."""
    spell = {"name": filled, "ndc": plain_ndc, "route": filled, "drug_type": filled, "hicl": plain_number}
    return [spell[column](pl.col(column)).alias(column) for column in PRODUCT]


def find_table(folder: Path, name: str) -> Path | None:
    """``NAME.csv`` or ``NAME.csv.gz`` in the folder, whatever the case of the name; None where there is none.

    Raises:
        MedrecError: two files differ in nothing but the case of their names.
    """
    if not folder.is_dir():
        return None
    wanted = {name.lower() + suffix for suffix in SUFFIXES}
    files = (path for path in folder.iterdir() if path.name.lower() in wanted and path.is_file())
    # Where both stand side by side the plain file wins: it is the faster one to read.
    found = sorted(files, key=lambda path: (len(path.name), path.name))
    if len(found) > 1 and len(found[0].name) == len(found[1].name):
        raise MedrecError(f"{found[0]} and {found[1]} are one table under two names. Move one of them away.")
    return found[0] if found else None


def guess_layout(folder: Path) -> Layout | None:
    """The layout that file names and columns in a folder point to; None where they point to none."""
    if find_table(folder / "hosp", "prescriptions") or find_table(folder / "hosp", "admissions"):
        return "mimic4"
    if find_table(folder, "patient") and find_table(folder, "medication"):
        return "eicu"
    path = find_table(folder, "prescriptions")
    if path is None:
        return None
    header = read_header(path)
    return "mimic4" if "starttime" in header else "mimic3" if "startdate" in header else None


def read_header(path: Path) -> dict[str, str]:
    """Lower-case column name → name as it stands in the file, in its order.

    Raises:
        MedrecError: the file is empty, no text, a web page, or two columns have one name.
    """
    with explained((path,)):
        names = _first_row(path)
    header = {name.strip().lower(): name for name in names}
    if len(header) < len(names):
        raise MedrecError(f"{path}: two columns have the same name. Rename or remove one of them.")
    return header


def _first_row(path: Path) -> list[str]:
    with _open(path) as stream:
        line = b""
        while not line.strip():
            line = stream.readline(1 << 20)
            if not line:
                raise MedrecError(f"{path} is empty. Copy or download the file again.")
    if line.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        raise MedrecError(
            f"{path} holds a web page, not a table: what was downloaded is an error or a login page. Log in with the "
            "account that has access, and download the file again."
        )
    try:
        if b"\0" in line:
            raise UnicodeError
        text = line.decode("utf-8-sig")
    except UnicodeError:
        raise MedrecError(f"{path} is no text in UTF-8. Give the table as a CSV file in UTF-8.") from None
    return next(csv.reader([text.rstrip("\r\n")]))


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
        # Only names that we ask for: without a header line the first row is somebody's record.
        known = ", ".join(column for column in columns if column in header)
        seen = f"of those needed it has: {known}" if known else "nor any other that is needed"
        hint = "" if known else " Does it begin with a header line, and do commas stand between the cells?"
        raise MedrecError(
            f"{path} has no column {missing[0]!r} ({seen}).{hint} "
            + _remedy(folder, name, layout, f"Give the original {name} table of the {layout} layout.")
        )
    return scan_file(path).select(pl.col(header[c]).alias(c) for c in columns)


def scan_file(path: Path) -> pl.LazyFrame:
    """A CSV file, lazily, every column as text; its path is a path, whatever brackets and stars stand in it."""
    return pl.scan_csv(path, infer_schema=False, glob=False)


def read_columns(path: Path, *columns: str) -> pl.DataFrame:
    """Some columns of a small table, all as text, under lower-case names.

    Raises:
        MedrecError: a column is missing, or the table is not whole.
    """
    header = read_header(path)
    for column in columns:
        if column not in header:
            raise MedrecError(f"{path} has no column {column!r}: it needs {', '.join(columns)}. Rename its columns.")
    check_form(path)
    with explained((path,)):
        return scan_file(path).select(pl.col(header[column]).alias(column) for column in columns).collect()


def scan_symptoms(
    places: Sequence[Path], visit: str, *, layout: Layout
) -> tuple[pl.LazyFrame | None, tuple[Path, ...]]:
    """Symptoms from ``symptoms.csv`` (the visit's id and ``symptom``, a plain phrase), where it is there.

    No database has this table: symptoms stand in notes. Synthetic records come with it, and a user may put it beside
    the tables, extracted by whatever means.

    Returns:
        Columns :data:`CODES`, or None; and the file.

    Raises:
        MedrecError: it stands in two of the places.
    """
    found = {path: place for place in dict.fromkeys(places) if (path := find_table(place, "symptoms"))}
    if len(found) > 1:
        raise MedrecError(f"{' and '.join(map(str, found))}: symptoms stand in two places. Move one of them away.")
    for path, place in found.items():
        frame = scan_table(place, "symptoms", (visit, "symptom"), layout=layout).select(
            visit_id=whole(pl.col(visit)),
            code=filled(pl.col("symptom")),
            seq=pl.lit(0, dtype=pl.Int32),
        )
        return frame, (path,)
    return None, ()


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
                folder, name, layout, f"A folder of the {layout} layout must hold it; copy it there, compressed or not."
            )
        )
    return path


def _remedy(folder: Path, name: str, layout: Layout, otherwise: str) -> str:
    """What to do about a table or a column that is missing, from what lies around it."""
    if layout == "mimic4" and (old := find_table(folder.parent / "core", name)):
        return (
            f"MIMIC-IV 1.0 keeps it in {old.parent}: take release 2.0 or later, or copy the tables of core/ into hosp/."
        )
    for place in (folder, folder.parent):
        guess = _guess(place)
        if guess is not None and guess != layout:
            return f"These look like tables in {guess} layout: read them as {guess}, not as {layout}."
    for place in _below(folder):
        if _guess(place) == layout:
            return f"{place} looks like tables of the {layout} layout: give that folder."
    return otherwise


def _guess(folder: Path) -> Layout | None:
    try:
        return guess_layout(folder)
    except MedrecError:
        return None


def _below(folder: Path, depth: int = 4, most: int = 200) -> list[Path]:
    """Folders inside a folder, the nearest first: ``mimiciv/2.2/``, ``physionet.org/files/mimiciv/2.2/``."""
    found: list[Path] = []
    level = [folder]
    with suppress(OSError):
        for _ in range(depth):
            level = sorted(path for place in level for path in place.iterdir() if path.is_dir())[:most]
            found += level
    return found


# -- form -------------------------------------------------------------------------------------------------------------


def check_form(path: Path) -> bool:
    """See to it that every row of a table has as many cells as its header, and quotation marks where they belong.

    What reads the table later fills what a short row lacks, and may take a long one for granted.

    Returns:
        Whether the file ends with a line break; one that does not may have been cut where a row ends.

    Raises:
        MedrecError: it is not so, in a line that the message names; or the file cannot be read.
    """
    with explained((path,)):
        cells = len(_first_row(path))
        # All lines at once, at the speed of the reader; only where one is odd each is looked at in turn.
        line = pl.col("line")
        lines = pl.scan_csv(
            path,
            separator="\x01",
            quote_char=None,
            has_header=False,
            new_columns=["line"],
            infer_schema=False,
            glob=False,
        )
        try:
            good = lines.select(line.str.contains(_good_row(cells)).fill_null(False).all())
            sound = good.collect(engine="streaming").item()
        except pl.exceptions.PolarsError:
            sound = False
        if not sound:
            _check_rows(path, cells)
        return _ends_with_line_break(path)


def _good_row(cells: int) -> str:
    cell = r'(?:[^,"\x00]*|"(?:[^"\x00]|"")*")'
    return rf"^(?:{cell},){{{cells - 1}}}{cell}\r?$"


def _check_rows(path: Path, cells: int) -> None:
    """Raise for the first row that is not as it should be; its line is where it begins."""
    good = re.compile(_good_row(cells).replace("$", r"\Z").encode(), re.DOTALL)
    blank = 0
    for number, row in _rows(path):
        if not row.strip():
            blank = blank or number  # at the end of a file blank lines do no harm
            continue
        problem = None
        if blank:
            number, problem = blank, "is blank"
        elif b"\0" in row:
            problem = "holds zero bytes"
        elif not _is_text(row):
            problem = "is no text in UTF-8"
        elif not good.match(row.rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf")):
            outside = re.sub(rb'(^|,)"(?:[^"]|"")*"(?=,|\s*\Z)', rb"\1", row)
            if b'"' in outside:
                problem = "has a quotation mark inside a cell, or one that is never closed"
            else:
                problem = f"has {outside.count(b',') + 1} cells, the header {cells}"
                if not row.endswith(b"\n"):
                    problem += ", and the file ends there: it was cut"
        if problem:
            raise MedrecError(
                f"{path}: line {number} {problem}. Copy or export the table again; a cell that holds a comma or a "
                'quotation mark stands in quotation marks, those inside doubled: "5"" tube".'
            )


def _rows(path: Path) -> Iterator[tuple[int, bytes]]:
    """Rows with the number of the line where each begins; one of quoted cells may go over several lines."""
    row, begin = b"", 1
    with _open(path) as stream:
        for number, line in enumerate(stream, 1):
            begin = begin if row else number
            row += line
            # An even number of marks: every quoted cell is closed. One that never is ends here, not with the file.
            if row.count(b'"') % 2 == 0 or len(row) > 1 << 20:
                yield begin, row
                row = b""
    if row:
        yield begin, row


def _is_text(row: bytes) -> bool:
    try:
        row.decode()
    except UnicodeDecodeError:
        return False
    return True


def _ends_with_line_break(path: Path) -> bool:
    # Of a compressed file the checksum says that nothing was cut.
    if _is_gzip(path):
        return True
    with path.open("rb") as stream:
        stream.seek(-1, 2)
        return stream.read() == b"\n"


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def _open(path: Path) -> IO[bytes]:
    # By what it is, as polars does, not by its name.
    return cast(IO[bytes], gzip.open(path)) if _is_gzip(path) else path.open("rb")


# -- messages ---------------------------------------------------------------------------------------------------------


@contextmanager
def explained(files: Sequence[Path]) -> Iterator[None]:
    """Turn what polars or the decompressor says about a file into one sentence that names the file.

    What they say quotes the table, so none of it is passed on, not even as the cause of the error.
    """
    try:
        yield
    except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error, MisspeltError) as error:
        problem = error
    else:
        return
    raise MedrecError(_explanation(files, problem)) from None


def _explanation(files: Sequence[Path], error: Exception) -> str:
    for path in files:
        if broken := _gzip_problem(path):
            return f"{path} is broken: {broken}. Copy or download the file again and compare its checksum."
    names = " or ".join(str(path) for path in files) or "a table"
    if isinstance(error, MisspeltError):
        column, _, wanted = str(error).splitlines()[0].partition("|")
        place = next((f"{path}: line {line}" for path in files if (line := _wrong_line(path, column, wanted))), names)
        return f"{place}: column {column!r} does not hold {wanted}. Give the table as the database ships it."
    if isinstance(error, pl.exceptions.NoDataError):
        return f"{names} is empty. Copy or download the file again."
    if isinstance(error, OSError):
        return f"{names} cannot be read: {error.strerror or 'the disk failed'}."
    return f"{names} cannot be read. Is it a whole CSV file in UTF-8?"


def _wrong_line(path: Path, column: str, wanted: str) -> int | None:
    """Line of the first cell in a column that cannot be read; None where there is none."""
    parse = PARSERS[wanted]
    try:
        header = read_header(path)
        if column not in header:
            return None
        cell = pl.col(header[column])
        odd = cell.map_batches(lambda cells: wrong(cells, parse(cells)), return_dtype=pl.Boolean, is_elementwise=True)
        rows = scan_file(path).select(odd=odd).with_row_index().filter("odd").head(1).collect(engine="streaming")
    except (pl.exceptions.PolarsError, MedrecError):
        return None
    if not len(rows):
        return None
    numbers = (number for number, _ in _rows(path))
    return next(islice(numbers, int(rows["index"].item()) + 1, None), None)


def _gzip_problem(path: Path) -> str | None:
    """What is wrong with a compressed file, read to its end; None for a sound or an uncompressed one."""
    if not path.is_file() or not _is_gzip(path):
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
