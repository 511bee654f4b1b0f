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

import re
from collections.abc import Sequence
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


def class_pairs(pairs: pl.DataFrame, classes: pl.DataFrame | None = None) -> pl.DataFrame:
    """Lift drug pairs to class pairs.

    Args:
        pairs: columns ``drug_a``, ``drug_b``.
        classes: ``name``, ``atc3``; a name may have several. By default :func:`systemic_classes`.

    Returns:
        ``atc3_1`` < ``atc3_2``, each unordered pair once; pairs within one class are gone (zero diagonal).
    """
    classes = systemic_classes() if classes is None else classes
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
        pairs: class pairs (``atc3_1``, ``atc3_2``) of another list; by default our own drug pairs, lifted.
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


def _read_text(path: Path) -> pl.DataFrame:
    if not Path(path).is_file():
        raise MedrecError(f"{path} does not exist. Put the list there, or leave it out to use our own.")
    try:
        return pl.read_csv(path, infer_schema=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise MedrecError(f"{path} cannot be read as CSV ({error}). Fetch it again.") from error


def read_twosides(path: Path) -> pl.DataFrame:
    """Class pairs of the published matrix: a CSV with columns ``atc3_1``, ``atc3_2`` and, optionally, ``in_131``.

    Where ``in_131`` stands, rows marked ``1`` there are kept: the pairs over the 131 classes of the SafeDrug line.

    Returns:
        ``atc3_1`` < ``atc3_2``.
    """
    table = _read_text(path)
    _require(table.columns, ("atc3_1", "atc3_2"), str(path))
    if "in_131" in table.columns:
        table = table.filter(pl.col("in_131") == "1")
    return (
        table.select(atc3_1=pl.min_horizontal("atc3_1", "atc3_2"), atc3_2=pl.max_horizontal("atc3_1", "atc3_2"))
        .unique()
        .sort("atc3_1", "atc3_2")
    )


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
    _require(_header(Path(path)), REPORT_COLUMNS, str(path))
    a, b, effect = REPORT_COLUMNS
    reports = pl.scan_csv(path, infer_schema=False, glob=False).rename(_plain_name)
    try:
        counts = reports.group_by(effect).len().collect(engine="streaming")
        counts = counts.sort("len", effect, descending=[True, False])
        kept = counts.tail(keep_types) if order == "rarest" else counts.head(keep_types)
        pairs = (
            reports.filter(pl.col(effect).is_in(kept[effect].to_list()))
            .select(drug_a=a, drug_b=b)
            .unique()
            .collect(engine="streaming")
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise MedrecError(f"{path} cannot be read as CSV ({error}). Fetch it again.") from error
    return class_pairs(pairs, drug_to_class)


def _plain_name(column: str) -> str:
    """A column's name without the ``# `` that begins the header in one edition of the reports."""
    return column.removeprefix("# ")


def _header(path: Path) -> list[str]:
    if not path.is_file():
        raise MedrecError(f"{path} does not exist. Put the list there, or leave it out to use our own.")
    try:
        return [_plain_name(column) for column in pl.read_csv(path, n_rows=0, infer_schema=False, glob=False).columns]
    except (pl.exceptions.PolarsError, OSError) as error:
        raise MedrecError(f"{path} cannot be read as CSV ({error}). Fetch it again.") from error


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
        MedrecError: the file cannot be read, or names no pair of these classes.
    """
    if path is None:
        return default_ddi(classes)
    matrix = ddi_matrix(classes, read_list(path))
    if not matrix.any():
        raise MedrecError(f"{path} names no pair of this cohort's {len(classes)} classes. Check what it lists.")
    return matrix, f"the list {Path(path).name}"


def read_list(path: Path) -> pl.DataFrame:
    """Class pairs of an interaction list, CSV or CSV.gz, in any form that we know, told apart by its columns.

    ``atc3_1``, ``atc3_2``
        Class pairs, as :func:`read_twosides` reads them.
    ``drug_a``, ``drug_b``
        Names or synonyms of drugs, lifted by :func:`class_pairs`; names that we do not know are left out, and said so.
    ``STITCH 1``, ``STITCH 2``, ``Polypharmacy Side Effect``
        ``drug-DDI.csv`` of the published pipelines, as :func:`read_reports` reads it. It needs their
        :data:`ATC_OF_STITCH` beside it, or in ``knowledge/`` of the data folder.

    Read once for each date and size that the file has.

    Returns:
        ``atc3_1`` < ``atc3_2``, each unordered pair once.

    Raises:
        MedrecError: no such file, not CSV, or another form.
    """
    path = Path(path).expanduser().resolve()
    columns = _header(path)
    stitch = _atc_of_stitch_file(path) if set(REPORT_COLUMNS) <= set(columns) else None
    dates = tuple((file.stat().st_mtime_ns, file.stat().st_size) for file in (path, stitch) if file is not None)
    return _class_pairs_of(path, tuple(columns), stitch, dates)


@cache
def _class_pairs_of(path: Path, columns: tuple[str, ...], stitch: Path | None, _dates: tuple) -> pl.DataFrame:
    if stitch is not None:
        return read_reports(path, read_atc_of_stitch(stitch))
    if {"atc3_1", "atc3_2"} <= set(columns):
        return read_twosides(path)
    if {"drug_a", "drug_b"} <= set(columns):
        return class_pairs(_by_our_names(_read_text(path).select("drug_a", "drug_b").drop_nulls(), path.name))
    raise MedrecError(f"{path} has the columns {', '.join(columns)} and is no list that we know. Give {FORMS}.")


def _by_our_names(pairs: pl.DataFrame, file: str) -> pl.DataFrame:
    """Drug pairs under our names; one line on standard error tells of names that have no class here."""
    canonical, known = _canonical_names(), set(systemic_classes()["name"])
    pairs = pairs.with_columns(pl.all().str.to_lowercase().str.strip_chars().replace(canonical))
    named = set(pairs["drug_a"]) | set(pairs["drug_b"])
    if unknown := sorted(named - known):
        shown = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        notice(f"{file}: {len(unknown)} of {len(named)} drugs are not known here and are left out ({shown}).")
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
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        name, *codes = (word.strip() for word in line.split(","))
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
