"""Interactions: between drugs, as facts with a source, and between classes, as the matrix that systems optimise.

Our own list (``interactions.csv``) names for each pair of drugs an effect, a severity and a source. The published
systems use another one: reports of TWOSIDES, lifted to ATC level 3 (``read_twosides``). A third, expert-made list is
read by ``read_onc``. All three end in the same thing, a symmetric 0/1 matrix over classes with a zero diagonal, and
none of them says that a patient was harmed. Systems get the matrix of one list: our own, or that of a user's file
(``class_interactions``).

Lifting loses information: two classes are joined when *any* pair of their drugs interacts, and two drugs of one class
can never be joined, because the diagonal is zero.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec.folders import notice
from medrec.knowledge.drugs import TABLES, combinations, drug_atc, drugs
from medrec.paths import data_dir
from medrec.types import MedrecError

Severity = Literal["contraindicated", "major", "moderate", "minor"]
SEVERITIES: tuple[Severity, ...] = ("contraindicated", "major", "moderate", "minor")
TWOSIDES_FILE = "ddi_twosides_top40_atc3.csv.gz"
ATC_START = re.compile(r"[A-Z]\d\d[A-Z]")
"""How an ATC code of level 3 or finer begins."""
ATC_FINE = r"^[A-Z]\d\d[A-Z]([A-Z](\d\d)?)?$"
"""An ATC code of level 3, 4 or 5."""


@cache
def interactions() -> pl.DataFrame:
    """Our own list of interacting drug pairs.

    Returns:
        ``drug_a`` < ``drug_b`` (names of ``drugs.csv``; each unordered pair once), ``effect``, ``mechanism``,
        ``severity`` (one of :data:`SEVERITIES`), ``source``.

    How far to trust it: rows that name NDF-RT or an ONC list stand in that list (a test checks it). Rows that name
    prescribing information follow from a rule about mechanisms; the label is where such a row can be checked, and it
    has not been compared with the label's text. The table serves teaching and measuring, not a pharmacy.
    """
    return pl.read_csv(TABLES / "interactions.csv", infer_schema=False, glob=False)


SYSTEMIC_ROUTES = ("oral", "parenteral", "inhaled", "transdermal", "rectal")
LOCAL_CLASSES = r"^(D|S|A01A|C05A|G01A|M02A|R01A|R02A)"
"""Classes of skin, eye, ear, mouth, rectal, vaginal, rub-in, nose and throat preparations."""


@cache
def systemic_classes() -> pl.DataFrame:
    """Classes in which a drug reaches the circulation.

    Eye, ear, skin, nose and mouth preparations are left out (unless a drug has nothing else): an interaction that
    needs a blood level says nothing about them. A fixed combination stands for its ingredients only in the classes
    that no single drug has (``C09B``, ACE inhibitor with diuretic): bupivacaine with fentanyl does not make local
    anaesthetics interact like opioids.

    Returns:
        ``name``, ``atc3``; a drug may have several classes.
    """
    reaches = (
        pl.when(pl.col("routes").list.len() == 0)  # the default row, for every route without a row of its own
        .then(~pl.col("atc3").str.contains(LOCAL_CLASSES))
        .otherwise(pl.col("routes").list.set_intersection(SYSTEMIC_ROUTES).list.len() > 0)
    )
    own = drug_atc().select("name", "atc3", reaches=reaches)
    parts = (
        combinations()
        .filter(~pl.col("atc3").is_in(own["atc3"].unique().to_list()), reaches)
        .select(pl.col("ingredients").alias("name"), "atc3", reaches=pl.lit(True))
        .explode("name")
    )
    return (
        pl.concat([own, parts])
        .filter(pl.col("reaches") | ~pl.col("reaches").any().over("name"))
        .select("name", "atc3")
        .unique()
        .sort("name", "atc3")
    )


RETAINED = "delayed transit"
"""Mechanism of what harms because a tablet stays too long in one place."""


@cache
def _swallowed_classes() -> pl.DataFrame:
    """:func:`systemic_classes` without those in which a drug comes by other routes than the mouth."""
    routes = pl.col("routes")
    others = drug_atc().filter(routes.list.len() > 0, ~routes.list.contains("oral"))
    return systemic_classes().join(others, on=["name", "atc3"], how="anti")


def class_pairs(pairs: pl.DataFrame, classes: pl.DataFrame | None = None) -> pl.DataFrame:
    """Lift drug pairs to class pairs.

    Args:
        pairs: columns ``drug_a``, ``drug_b``, and perhaps ``mechanism``.
        classes: ``name``, ``atc3``; a name may have several. By default :func:`systemic_classes`; where the mechanism
            is :data:`RETAINED`, those of them that are swallowed: potassium in a vein does not lie in the stomach.

    Returns:
        ``atc3_1`` < ``atc3_2``, each unordered pair once; pairs within one class are gone (zero diagonal).
    """
    if classes is None:
        classes = systemic_classes()
        if "mechanism" in pairs.columns:
            retained = pl.col("mechanism").eq_missing(pl.lit(RETAINED))
            parts = ((pairs.filter(retained), _swallowed_classes()), (pairs.filter(~retained), classes))
            lifted = pl.concat([class_pairs(part.drop("mechanism"), known) for part, known in parts])
            return lifted.unique().sort("atc3_1", "atc3_2")
    lifted = pairs.join(classes.rename({"name": "drug_a", "atc3": "a"}), on="drug_a").join(
        classes.rename({"name": "drug_b", "atc3": "b"}), on="drug_b"
    )
    return (
        lifted.filter(pl.col("a") != pl.col("b"))
        .select(atc3_1=pl.min_horizontal("a", "b"), atc3_2=pl.max_horizontal("a", "b"))
        .unique()
        .sort("atc3_1", "atc3_2")
    )


def ddi_matrix(
    classes: Sequence[str], pairs: pl.DataFrame | None = None, *, at_least: Severity = "moderate"
) -> NDArray[np.bool_]:
    """Class-level interaction matrix.

    Args:
        classes: ATC level-3 codes that index rows and columns, ``(M,)``.
        pairs: class pairs (``atc3_1``, ``atc3_2``) of another list, as :func:`read_list` and :func:`class_pairs` give
            them; by default our own drug pairs, lifted.
        at_least: mildest severity that counts, for our own list.

    Returns:
        ``(M, M)`` bool, symmetric, zero diagonal.

    Raises:
        MedrecError: an unknown severity, or ``pairs`` without the two columns.
    """
    if at_least not in SEVERITIES:
        raise MedrecError(f"Severity {at_least!r} is unknown; choose one of {', '.join(SEVERITIES)}.")
    if pairs is None:
        pairs = _own_class_pairs(at_least)
    _require(pairs.columns, ("atc3_1", "atc3_2"), "the table of class pairs")
    index = {code: i for i, code in enumerate(classes)}
    matrix = np.zeros((len(index), len(index)), dtype=bool)
    for a, b in pairs.select("atc3_1", "atc3_2").iter_rows():
        if a in index and b in index and a != b:
            matrix[index[a], index[b]] = matrix[index[b], index[a]] = True
    return matrix


@cache
def _own_class_pairs(at_least: Severity) -> pl.DataFrame:
    """Our own drug pairs, lifted; kept, because every look into the run store asks for them."""
    kept = SEVERITIES[: SEVERITIES.index(at_least) + 1]
    return class_pairs(interactions().filter(pl.col("severity").is_in(kept)))


def _require(columns: Sequence[str], needed: Sequence[str], what: str) -> None:
    missing = [c for c in needed if c not in columns]
    if missing:
        raise MedrecError(
            f"{what}: column {missing[0]!r} is missing (found {', '.join(columns)}). "
            "Check that the file has the layout named in medrec.knowledge.interactions."
        )


def _head(path: Path) -> tuple[str, list[str]]:
    """Separator and columns of a list, by its first line; compressed or not, with or without a byte-order mark."""
    if not path.is_file():
        raise MedrecError(f"{path} does not exist. Put the list there, or leave it out to use our own.")
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            line = file.readline(1 << 16).decode("utf-8-sig")
        if "\0" in line:
            raise UnicodeError
    except UnicodeError:
        raise MedrecError(f"{path} cannot be read as CSV: it is not text in UTF-8. Save it as CSV in UTF-8.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise MedrecError(f"{path} cannot be read as CSV ({error}). Fetch it again.") from error
    if not line.strip():
        raise MedrecError(f"{path} cannot be read as CSV: its first line is empty. Put the names of the columns there.")
    separator = max(",;\t|", key=line.count)
    return separator, [_plain_name(column) for column in line.rstrip("\r\n").split(separator)]


def _plain_name(column: str) -> str:
    """A column's name in one spelling: no mark at the beginning, small letters, one underscore for blanks.

    The header begins with ``# `` in one edition of the reports.
    """
    name = re.sub(r"[\s_-]+", "_", column.strip("\ufeff\"'# \t").lower())
    return re.sub(r"^atc[45]?_([12])$", r"atc3_\1", name)


def _read_text(path: Path) -> pl.DataFrame:
    path = Path(path)
    separator, _ = _head(path)
    try:
        return pl.read_csv(path, separator=separator, infer_schema=False, glob=False).rename(_plain_name)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise MedrecError(f"{path} cannot be read as CSV ({error}). Fetch it again.") from error


TRUE, FALSE = ("1", "1.0", "true", "t", "yes", "y"), ("0", "0.0", "false", "f", "no", "n", "")
"""What ``in_131`` may say, in small letters: as it was published, and as it comes back from other programs."""


def read_twosides(path: Path) -> pl.DataFrame:
    """Class pairs of the published matrix: a CSV with columns ``atc3_1``, ``atc3_2`` and, optionally, ``in_131``.

    Where ``in_131`` stands, rows marked there are kept: the pairs over the 131 classes of the SafeDrug line. Finer
    codes are cut to level 3, in capitals or not; what is coarser or no code is left out, and said so.

    Returns:
        ``atc3_1`` < ``atc3_2``.

    Raises:
        MedrecError: no such file, other columns, a mark that says neither yes nor no, no row marked, or no code of
            level 3 or finer.
    """
    path = Path(path)
    table = _read_text(path)
    _require(table.columns, ("atc3_1", "atc3_2"), str(path))
    if "in_131" in table.columns and len(table):
        mark = pl.col("in_131").fill_null("").str.strip_chars().str.to_lowercase()
        unknown = table.filter(~mark.is_in([*TRUE, *FALSE]))["in_131"]
        if len(unknown):
            raise MedrecError(f"{path}: in_131 is {unknown[0]!r} in one row; write 1 or 0, or leave the column out.")
        table = table.filter(mark.is_in(TRUE))
        if table.is_empty():
            raise MedrecError(f"{path}: no row is marked in in_131. Write 1 where a pair counts, or leave it out.")
    return _level_three(table.select("atc3_1", "atc3_2"), path)


def _level_three(pairs: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Pairs of ATC codes as pairs of classes, each once."""
    pairs = pairs.rename(dict(zip(pairs.columns, ("atc3_1", "atc3_2"), strict=True)))
    pairs = pairs.with_columns(pl.all().str.replace_all(r"\s", "").str.to_uppercase())
    fine = pl.col("atc3_1", "atc3_2").str.contains(ATC_FINE)
    codes = pl.concat([pairs["atc3_1"], pairs["atc3_2"].alias("atc3_1")]).drop_nulls().unique().sort()
    coarse = codes.filter(~codes.str.contains(ATC_FINE))
    if len(coarse) == len(codes):
        raise MedrecError(
            f"{path} names no ATC class: seen were {_forms(codes)}. Wanted are ATC codes of level 3 or finer "
            f"(C10A, C10AA, C10AA01), or another form: {FORMS}."
        )
    if len(coarse):
        notice(f"{path.name}: {_forms(coarse)} of {len(codes)} are left out; ATC codes of level 3 or finer count.")
    return (
        pairs.filter(pl.all_horizontal(fine))
        .with_columns(pl.all().str.slice(0, 4))
        .select(atc3_1=pl.min_horizontal("atc3_1", "atc3_2"), atc3_2=pl.max_horizontal("atc3_1", "atc3_2"))
        .filter(pl.col("atc3_1") != pl.col("atc3_2"))
        .unique()
        .sort("atc3_1", "atc3_2")
    )


KINDS_OF_CODE = {
    r"^[A-Z]$": "ATC level 1",
    r"^[A-Z]\d\d$": "ATC level 2",
    r"^[A-Z]\d\d[A-Z]$": "ATC level 3",
    r"^[A-Z]\d\d[A-Z]{2}$": "ATC level 4",
    r"^[A-Z]\d\d[A-Z]{2}\d\d$": "ATC level 5",
    r"^DB\d{5}$": "DrugBank identifiers",
    r"^CID[MS]?\d+$": "STITCH identifiers",
    r"^\d+(\.0)?$": "numbers",
}


def _forms(codes: Iterable[str]) -> str:
    """What kinds of identifiers these are, how many of each, with one example."""
    found: dict[str, list[str]] = {}
    for code in codes:
        kind = next((kind for form, kind in KINDS_OF_CODE.items() if re.match(form, code.upper())), "other words")
        found.setdefault(kind, []).append(code)
    return ", ".join(f"{len(codes)} {kind} ({codes[0][:40]})" for kind, codes in found.items()) or "nothing"


REPORT_COLUMNS = ("STITCH 1", "STITCH 2", "Polypharmacy Side Effect")


def read_reports(
    path: Path, drug_to_class: pl.DataFrame, *, keep_types: int = 40, order: Literal["rarest", "commonest"] = "rarest"
) -> pl.DataFrame:
    """Class pairs from raw reports, as the published scripts make them.

    They count reports of each type, sort downward and keep the *last* ``keep_types``: the rarest types, though the
    papers call them the most severe. ``order="commonest"`` keeps the first ones instead. The file is streamed.

    Args:
        path: CSV or CSV.gz with the columns :data:`REPORT_COLUMNS`, one report a row.
        drug_to_class: ``name`` (the STITCH identifier) and ``atc3``.
        keep_types: number of report types that make an edge.
        order: which end of the sorted list is kept; equal counts are ordered by name.

    Raises:
        MedrecError: no such file, a damaged one, or one without these columns.
    """
    if order not in ("rarest", "commonest"):
        raise MedrecError(f"order {order!r} is unknown; choose 'rarest' or 'commonest'.")
    path = Path(path)
    separator, columns = _head(path)
    a, b, effect = needed = [_plain_name(column) for column in REPORT_COLUMNS]
    _require(columns, needed, str(path))
    try:
        reports = pl.scan_csv(path, separator=separator, infer_schema=False, glob=False).rename(_plain_name)
        counts = reports.group_by(effect).len().collect(engine="streaming")
        counts = counts.sort("len", effect, descending=[True, False])
        kept = counts.tail(keep_types) if order == "rarest" else counts.head(keep_types)
        pairs = (
            reports.filter(pl.col(effect).is_in(kept[effect].to_list()))
            .select(drug_a=_compound(a), drug_b=_compound(b))
            .unique()
            .collect(engine="streaming")
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise MedrecError(f"{path} cannot be read as CSV ({error}). Fetch it again.") from error
    return class_pairs(pairs, drug_to_class.with_columns(_compound("name")))


def _compound(column: str) -> pl.Expr:
    """STITCH identifiers in one spelling.

    STITCH writes PubChem's number of a compound with nine digits, the first of which says whether stereo labels count
    (``CID000003015``, ``CID100003015``), with a letter for it since its fifth edition (``CIDs00003015``), and other
    programs leave the zeros out. Other names stay as they are.
    """
    name = pl.col(column).str.strip_chars()
    nine = name.str.to_uppercase().str.replace(r"^CID[01](\d{8})$", "CID$1")
    number = nine.str.extract(r"^(?:CID[MS]?)?0*(\d+)(?:\.0)?$")
    return pl.when(number.is_not_null()).then(pl.lit("CID") + number).otherwise(name).alias(column)


def read_onc(path: Path, *, sources: Sequence[str] | None = None) -> pl.DataFrame:
    """Drug pairs of the expert list (columns ``name_1``, ``name_2``, ``source``, ``severity``), under our drug names.

    Args:
        path: the CSV.
        sources: keep only these values of ``source``; all by default.

    Returns:
        ``drug_a`` < ``drug_b``, ``source``, ``severity``; names that no drug or synonym of ours carries stay as they
        are, so that nothing is lost before :func:`class_pairs` joins them to classes.
    """
    table = _read_text(path)
    _require(table.columns, ("name_1", "name_2", "source", "severity"), str(path))
    if sources is not None:
        table = table.filter(pl.col("source").is_in(list(sources)))
    canonical = _canonical_names()
    return (
        table.with_columns(
            pl.col(c).str.to_lowercase().str.strip_chars().replace(canonical) for c in ("name_1", "name_2")
        )
        .select(
            drug_a=pl.min_horizontal("name_1", "name_2"),
            drug_b=pl.max_horizontal("name_1", "name_2"),
            source="source",
            severity=pl.col("severity").fill_null(""),
        )
        .unique()
        .sort("drug_a", "drug_b", "source")
    )


@cache
def _canonical_names() -> dict[str, str]:
    own = drugs().select("name", "synonyms").explode("synonyms", empty_as_null=True).drop_nulls()
    names = set(drugs()["name"])
    return {s: n for n, s in own.iter_rows() if s not in names}


def default_ddi(classes: Sequence[str]) -> tuple[NDArray[np.bool_], str]:
    """The matrix every chapter uses unless told otherwise: our own list, so that it needs no external file.

    Returns:
        ``(M, M)`` matrix and the name of its source for captions.
    """
    return ddi_matrix(classes), "medrec's own interaction table"


# -- a list of the user's --------------------------------------------------------------------------------------------

ATC_OF_STITCH = "drug-atc.csv"
"""The published pipelines' list of ATC codes of STITCH identifiers, without a header: ``CID000003015,G03HA01``."""
FORMS = (
    "class pairs (columns atc3_1, atc3_2), drug pairs (drug_a, drug_b), "
    f"or the reports of the published pipelines ({', '.join(REPORT_COLUMNS)})"
)


def class_interactions(classes: Sequence[str], path: Path | None = None) -> tuple[NDArray[np.bool_], str]:
    """The matrix of a list of interactions: the book's own, or that of a file.

    Args:
        classes: ATC level-3 codes that index rows and columns, ``(M,)``.
        path: a file as :func:`read_list` knows it; ``None``: our own list, so that no external file is needed.

    Returns:
        ``(M, M)`` bool matrix, symmetric, zero diagonal, and the name of its source for captions.

    Raises:
        MedrecError: the file cannot be read, or names no pair of these classes. Where it names pairs of few of them
            only, one line on standard error says so.
    """
    if path is None:
        return default_ddi(classes)
    path, pairs = Path(path), read_list(path)
    matrix = ddi_matrix(classes, pairs)
    listed = sorted({*pairs["atc3_1"], *pairs["atc3_2"]})
    if not matrix.any():
        raise MedrecError(
            f"{path} names no pair of this cohort's {len(classes)} classes: it has {len(pairs)} pairs of "
            f"{len(listed)} classes ({', '.join(listed[:3])}, ...), the cohort has {', '.join(classes[:3])}, ... "
            "Check what it lists, or leave it out to use our own."
        )
    met = int(matrix.any(0).sum())
    if met < FEW * len(classes):
        _once(
            f"{path.name} names interactions of {met} of the cohort's {len(classes)} classes only; "
            "all other pairs count as free of interactions"
        )
    return matrix, f"the list {path.name}"


FEW = 0.25
"""Share of the classes below which a list is said to meet few; the published one meets two thirds of its own."""


@cache
def _once(line: str) -> None:
    """A notice that each process gives once: the matrix is asked for again and again."""
    notice(line)


def read_list(path: Path) -> pl.DataFrame:
    """Class pairs of an interaction list, CSV or CSV.gz, in any form that we know, told apart by its columns.

    ``atc3_1``, ``atc3_2``
        Class pairs, as :func:`read_twosides` reads them; codes of level 4 or 5 are cut (``atc4_1`` and ``atc5_1`` will
        do as names, too).
    ``drug_a``, ``drug_b``
        Names or synonyms of drugs, lifted by :func:`class_pairs`; names that we do not know are left out, and said so.
        ATC codes in their place are class pairs.
    ``STITCH 1``, ``STITCH 2``, ``Polypharmacy Side Effect``
        ``drug-DDI.csv`` of the published pipelines, as :func:`read_reports` reads it. It needs their
        :data:`ATC_OF_STITCH` beside it, or in ``knowledge/`` of the data folder.

    Columns may stand in any order, their names in capitals or small letters; commas, semicolons, tabs and bars divide.
    Read once for each date and size that the file has.

    Returns:
        ``atc3_1`` < ``atc3_2``, each unordered pair once.

    Raises:
        MedrecError: no such file, not CSV, another form, or none of its drugs and codes means anything here; the
            message says which kinds of codes were seen.
    """
    path = Path(path).expanduser().resolve()
    _, columns = _head(path)
    reports = {_plain_name(column) for column in REPORT_COLUMNS}
    stitch = _atc_of_stitch_file(path) if reports <= set(columns) else None
    dates = tuple((file.stat().st_mtime_ns, file.stat().st_size) for file in (path, stitch) if file is not None)
    return _class_pairs_of(path, tuple(columns), stitch, dates)


@cache
def _class_pairs_of(path: Path, columns: tuple[str, ...], stitch: Path | None, _dates: tuple) -> pl.DataFrame:
    if stitch is not None:
        return _lifted_reports(path, stitch)
    if {"atc3_1", "atc3_2"} <= set(columns):
        return read_twosides(path)
    if {"drug_a", "drug_b"} <= set(columns):
        pairs = _read_text(path).select(pl.col("drug_a", "drug_b").str.strip_chars()).drop_nulls()
        codes = pl.concat([pairs["drug_a"], pairs["drug_b"].alias("drug_a")])
        if len(codes) and codes.str.to_uppercase().str.contains(ATC_FINE).mean() > 0.5:  # type: ignore[operator]
            return _level_three(pairs, path)
        return class_pairs(_by_our_names(pairs, path))
    raise MedrecError(f"{path} has the columns {', '.join(columns)} and is no list that we know. Give {FORMS}.")


def _lifted_reports(path: Path, stitch: Path) -> pl.DataFrame:
    classes = read_atc_of_stitch(stitch)
    pairs = read_reports(path, classes)
    if pairs.is_empty():
        separator, _ = _head(path)
        names = pl.read_csv(path, separator=separator, infer_schema=False, n_rows=1000, glob=False).rename(_plain_name)
        seen = names[_plain_name(REPORT_COLUMNS[0])].drop_nulls().unique(maintain_order=True)
        raise MedrecError(
            f"{path} names no pair of drugs that {stitch} gives classes: it has {_forms(seen)}, that file "
            f"{_forms(classes['name'].unique(maintain_order=True))}. Take both from the same source."
        )
    return pairs


def _by_our_names(pairs: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Drug pairs under our names; one line on standard error tells of names that have no class here."""
    canonical, known = _canonical_names(), set(systemic_classes()["name"])
    pairs = pairs.with_columns(pl.all().str.to_lowercase().str.strip_chars().replace(canonical))
    named = set(pairs["drug_a"]) | set(pairs["drug_b"])
    unknown = sorted(named - known)
    if len(unknown) == len(named):
        raise MedrecError(
            f"{path} names no drug that we know: seen were {_forms(unknown)}. Wanted are generic names (warfarin), or "
            f"another form: {FORMS}."
        )
    if unknown:
        shown = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        notice(f"{path.name}: {len(unknown)} of {len(named)} drugs are not known here and are left out ({shown}).")
    return pairs


def _atc_of_stitch_file(reports: Path) -> Path:
    for folder in (reports.parent, data_dir() / "knowledge"):
        if (folder / ATC_OF_STITCH).is_file():
            return folder / ATC_OF_STITCH
    raise MedrecError(
        f"{reports.name} names drugs by STITCH identifiers: put the published pipelines' {ATC_OF_STITCH} beside it, or "
        f"into {data_dir() / 'knowledge'}."
    )


def read_atc_of_stitch(path: Path) -> pl.DataFrame:
    """Classes of STITCH identifiers, from the file :data:`ATC_OF_STITCH`.

    Returns:
        ``name`` (the identifier) and ``atc3``; an identifier may have several classes.

    Raises:
        MedrecError: a line has another form.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        name, *codes = (word.strip(" \"'") for word in re.split(r"[,;\t]", line))
        codes = [code.upper() for code in codes]
        if not all(ATC_START.match(code) for code in codes if code):
            raise MedrecError(f"{path}, line {number}: {line[:40]!r} is not an identifier followed by ATC codes.")
        rows += [(name, code[:4]) for code in codes if code]
    return pl.DataFrame(rows, schema={"name": pl.String, "atc3": pl.String}, orient="row").unique(maintain_order=True)


# -- do two lists agree beyond chance? ---------------------------------------------------------------------------------


def rewire(adjacency: NDArray[np.bool_], seed: int, *, sweeps: int = 10) -> NDArray[np.bool_]:
    """A random graph with the same degrees, by double edge swaps.

    Args:
        adjacency: ``(M, M)`` symmetric, zero diagonal.
        seed: of the swaps.
        sweeps: attempted swaps per edge.

    Returns:
        ``(M, M)``: every row sum equals that of ``adjacency``.
    """
    rng = np.random.default_rng(seed)
    matrix = adjacency.copy()
    u, v = (ends.tolist() for ends in np.nonzero(np.triu(matrix)))
    linked = [set(np.nonzero(row)[0].tolist()) for row in matrix]
    n = len(u)
    if n < 2:
        return matrix
    tries = rng.integers(0, n, size=(sweeps * n, 2)).tolist()
    flips = (rng.random(sweeps * n) < 0.5).tolist()
    for (e, f), flip in zip(tries, flips, strict=True):
        a, b, c, d = u[e], v[e], u[f], v[f]
        if flip:
            c, d = d, c
        if len({a, b, c, d}) < 4 or d in linked[a] or b in linked[c]:
            continue
        linked[a].remove(b), linked[b].remove(a), linked[c].remove(d), linked[d].remove(c)
        linked[a].add(d), linked[d].add(a), linked[c].add(b), linked[b].add(c)
        v[e], u[f], v[f] = d, c, b
    matrix[:] = False
    matrix[u, v] = matrix[v, u] = True
    return matrix


def overlap_test(
    a: NDArray[np.bool_], b: NDArray[np.bool_], *, n: int = 500, seed: int = 0
) -> tuple[int, NDArray[np.int64], float]:
    """Shared edges of two graphs, against rewirings of the first that keep its degrees.

    Args:
        a: ``(M, M)`` graph that is rewired.
        b: ``(M, M)`` graph it is compared with.
        n: number of rewired graphs.
        seed: of the rewirings.

    Returns:
        Shared edges, shared edges of each rewired graph ``(n,)``, and the one-sided p-value
        ``(1 + #{rewired ≥ observed}) / (n + 1)``.
    """
    observed = int((a & b).sum() // 2)
    null = np.array([int((rewire(a, seed + i) & b).sum() // 2) for i in range(n)])
    return observed, null, float((1 + (null >= observed).sum()) / (n + 1))
