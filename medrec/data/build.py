"""One pipeline from canonical tables to a cohort, with a ledger of everything that is lost on the way.

The order table is the only large one: a hundred times the size of the result. It is streamed twice, once to list the
distinct products (whose mapping to ATC classes then costs one look-up a product, not a row), once to count the rows
of each (visit, class) pair. What is held in memory is those two results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import time, timedelta
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from medrec.data import coding
from medrec.data.cohort import KINDS, LIMIT, Cohort, Kind, Report, Source, Step, Vocabulary
from medrec.data.mapping import map_medications, names_by_hicl
from medrec.data.tables import PRODUCT, VISITS, RawTables, check_form, explained, spelled_products
from medrec.folders import notice
from medrec.knowledge.classes import atc3
from medrec.knowledge.structures import structures
from medrec.types import MedrecError, Ragged

Mapper = Callable[..., pl.LazyFrame]

LOUD = 0.1
"""Share from which cells that were read but say nothing are not only counted but told. Tables as the databases ship
them stay far below: of the diagnosis rows of the MIMIC-III demo 2 % have a code that no dictionary lists any more,
of those of the MIMIC-IV demo none; a spelling that was not understood is that of a whole column."""

YEARS = (1900, 2300)
"""Admissions lie between; MIMIC moves its patients to the years 2100 to 2200."""

OLDEST = 120

IDS = ("patient_id", "visit_id")

CODED: dict[Kind, str] = {"diagnosis": "diagnoses", "procedure": "procedures", "symptom": "symptoms"}
"""Kinds of codes → their frames."""

N_LISTED = 50
"""How many names or routes a table of the report lists, most frequent first."""


@dataclass(frozen=True)
class Options:
    """What a user may choose.

    Args:
        window: ``"whole_stay"``, or ``"first_day"``: orders of the first calendar day with an order (MIMIC-III, whose
            dates carry no time) or of the 24 hours from the first order (MIMIC-IV, eICU).
        coding: ``"icd"``, or ``"ccs"``: categories that both ICD versions share; a code without one is kept as it is.
        class_rule, mapping: see :func:`medrec.data.mapping.map_medications`.
        visit_order: ``"time"``, or ``"id"``: by admission id, which is random; what published scripts do.
        require: kinds that a visit must have; None: diagnosis, procedure and medication, or what the database has.
        min_visits: keep patients with at least so many visits, counted *last*, when every other filter has run.
            Published scripts ask for two before mapping and joining, so single-visit patients come back.
        top_diagnoses: keep only the most frequent diagnosis codes (published: 2000). Frequencies are those of all
            visits, test patients included: a leak, if a small one.
        classes: ``"all"``, or ``"with_structure"``: orders of classes none of whose drugs has a structure (insulins
            and other proteins, vitamins by the bottle) are left out, as in the published pipelines.
    """

    window: Literal["whole_stay", "first_day"] = "whole_stay"
    coding: Literal["icd", "ccs"] = "icd"
    class_rule: Literal["route", "first_code"] = "route"
    mapping: Literal["name", "ndc", "name+ndc"] = "name"
    visit_order: Literal["time", "id"] = "time"
    require: tuple[Kind, ...] | None = None
    min_visits: int | None = None
    top_diagnoses: int | None = None
    classes: Literal["all", "with_structure"] = "all"


CHECK = "Check the tables and the options of this step."


class Ledger:
    """Steps in the making: remembers what each unit had left, so that a step starts where the last one ended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.steps: list[Step] = []
        self.left: dict[str, int] = {}

    def start(self, **units: int) -> None:
        self.left |= units

    def note(self, step: str, why: str = "", remedy: str = CHECK, **kept: int) -> None:
        """Add one line for each unit.

        Raises:
            MedrecError: nothing is left.
        """
        for unit, n in kept.items():
            unit = unit.replace("_", " ")
            self.steps.append(Step(step, unit, self.left[unit], int(n), why))
            if n == 0 and self.left[unit] > 0:
                raise MedrecError(
                    f"{self.name}: the step {step!r} left no {unit} of {self.left[unit]}"
                    + (f" ({why})" if why else "")
                    + f". {remedy}"
                )
            self.left[unit] = int(n)


def build_cohort(
    tables: RawTables,
    options: Options | None = None,
    *,
    name: str,
    source: Source,
    extra: dict[str, Any] | None = None,
    mapper: Mapper = map_medications,
) -> Cohort:
    """Turn canonical tables into a cohort.

    Args:
        tables: what a reader returned.
        options: the user's choices; None: the defaults.
        name: name of the cohort, for messages and for ``cohort.name``.
        source: ``synthetic``, ``demo`` or ``credentialed``. For credentialed records the report names only drugs and
            routes that at least ten patients share.
        extra: further entries of ``cohort.options`` (seed and knobs of a synthetic cohort).
        mapper: assigns a class to each product, with the signature of :func:`medrec.data.mapping.map_medications`.

    Returns:
        The cohort: patients by id, visits by ``options.visit_order``, diagnoses and procedures of a visit in billing
        order, medications in the order of the vocabulary. The order of rows in the tables has no influence, nor has
        how they spell a code, a number or an empty cell (:mod:`medrec.data.spelling`). What contradicts itself or
        cannot be is left out or unknown, and counted in the report; a table whose rows differ in length is refused.

    Raises:
        MedrecError: a table is broken, or a step leaves nothing.
    """
    return cohort_and_ids(tables, options, name=name, source=source, extra=extra, mapper=mapper)[0]


def cohort_and_ids(
    tables: RawTables,
    options: Options | None = None,
    *,
    name: str,
    source: Source,
    extra: dict[str, Any] | None = None,
    mapper: Mapper = map_medications,
) -> tuple[Cohort, pl.DataFrame]:
    """What :func:`build_cohort` returns, and the ids that :meth:`medrec.data.cohort.Cohort.ids` describes."""
    options = options or Options()
    require = _required(tables, options, name)
    ledger = Ledger(name)
    files = sorted({path for paths in tables.files.values() for path in paths})
    progress = tqdm(total=5 + len(files), desc=f"{name}: tables to cohort", unit="pass", leave=False, disable=None)
    facts: dict[str, float] = {}
    odd: dict[str, float] = {}
    for path in files:
        if not check_form(path):
            odd["tables_without_last_line_break"] = odd.get("tables_without_last_line_break", 0) + 1
            notice(f"{path} does not end with a line break. If it was cut there, rows are missing: compare its size.")
        progress.update()

    visits = _visits(tables, options, name, ledger, odd)
    n_visits = len(visits)
    index = visits.select("visit_id", "visit", "patient", "admit_time").lazy()
    progress.update()

    # -- medications ----------------------------------------------------------------------------------------------
    with explained(tables.files.get("orders", ())):
        written = tables.written.group_by(*PRODUCT, "cancelled").agg(rows=pl.len()).collect(engine="streaming")
    products = (
        written.with_columns(spelled_products())
        .group_by(*PRODUCT, "cancelled")
        .agg(pl.col("rows").sum())
        .sort(*PRODUCT, "cancelled")
    )
    ledger.start(rows=int(products["rows"].sum()))
    if not len(products):
        raise MedrecError(f"{name}: {_names(tables, 'orders')} holds no order. Check the tables.")
    others = None
    if tables.named_hicl is not None:
        with explained(tables.files.get("named_hicl", ())):
            others = tables.named_hicl.group_by(pl.all()).agg(rows=pl.len()).collect(engine="streaming")
    live = map_products(products.filter(~pl.col("cancelled")).drop("cancelled"), options, mapper, others)
    progress.update()
    spellings = written.select(*spelled_products(), pl.col(PRODUCT).name.suffix("_written")).unique()
    taken, people = _stream_orders(tables, options, live, spellings, index, odd)
    progress.update()
    pairs = _count_orders(taken, products, visits, options, tables.first_day, ledger)

    # -- diagnoses, procedures, symptoms ------------------------------------------------------------------------------
    with explained(tables.files.get("titles", ())):
        dictionary = tables.titles.collect(engine="streaming")
    rows: dict[Kind, pl.DataFrame] = {
        **{k: _codes(tables, k, options, k in require, index, dictionary, ledger, facts) for k in CODED},
        "medication": pairs.select("visit", code="atc3", seq=pl.lit(0, dtype=pl.Int64)),
    }
    progress.update()

    # -- join -----------------------------------------------------------------------------------------------------
    keep = np.ones(n_visits, dtype=bool)
    for kind in ("medication", *(k for k in require if k != "medication")):
        if kind in require:
            keep &= np.bincount(rows[kind]["visit"].to_numpy(), minlength=n_visits) > 0
    patient = visits["patient"].to_numpy()
    med_rows = np.bincount(pairs["visit"].to_numpy(), minlength=n_visits)
    ledger.note(
        "joined",
        f"visits with {', '.join(require)}",
        "Check the tables, or require fewer kinds with the option 'require'.",
        rows=med_rows[keep].sum(),
        visits=keep.sum(),
        patients=len(np.unique(patient[keep])),
    )
    if options.min_visits is not None:
        keep &= np.bincount(patient[keep], minlength=patient.max() + 1)[patient] >= options.min_visits
        ledger.note(
            "enough visits",
            f"patients with at least {options.min_visits} visits left",
            rows=med_rows[keep].sum(),
            visits=keep.sum(),
            patients=len(np.unique(patient[keep])),
        )

    # -- assemble -------------------------------------------------------------------------------------------------
    kept = visits.filter(pl.Series(keep))
    new_row = np.cumsum(keep) - 1
    vocab: dict[Kind, Vocabulary] = {}
    codes: dict[Kind, Ragged] = {}
    for kind in KINDS:
        vocab[kind], codes[kind] = _assemble(kind, rows[kind], keep, new_row, dictionary)
    offsets, first = _patients(kept)
    facts |= _facts(ledger, tables, products, live, visits, kept, odd)
    progress.update()
    progress.close()
    ids = kept.select(
        pl.Series("patient", np.repeat(np.arange(len(first)), np.diff(offsets))),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("visit"),
        "patient_id",
        "visit_id",
    )
    cohort = Cohort(
        name=name,
        source=source,
        vocab=vocab,
        visit_offsets=offsets,
        codes=codes,
        admit_time=kept["admit_time"].to_numpy().astype("datetime64[s]"),
        days_since_previous=_gaps(kept, offsets),
        sex=kept["sex"].to_numpy()[first].astype(str),
        age_band=_age_band(kept["age"].gather(first)),
        options=asdict(options) | {"require": list(require), "layout": tables.layout} | (extra or {}),
        report=Report(tuple(ledger.steps), facts, _report_tables(products, live, people, source)),
    )
    return cohort, ids


def map_products(
    products: pl.DataFrame, options: Options, mapper: Mapper = map_medications, others: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Give each product a drug and a class, restoring missing names from the HICL number first.

    A HICL number (First Databank) stands for one combination of ingredients. An order that has only the number takes
    the drug that stands most often under it among named orders (:func:`medrec.data.mapping.names_by_hicl`).

    Args:
        products: columns :data:`PRODUCT` and ``rows``, one row a distinct product.
        options: ``class_rule`` and ``mapping`` are passed on.
        mapper: see :func:`build_cohort`.
        others: columns ``name``, ``route``, ``hicl``, ``rows`` of other tables, asked for numbers that no named order
            has.

    Returns:
        ``products`` with ``drug``, ``atc3``, ``status`` (``mapped``, ``carrier`` or ``unmapped``).
    """

    def mapped(frame: pl.DataFrame) -> pl.DataFrame:
        return mapper(frame.lazy(), class_rule=options.class_rule, mapping=options.mapping).collect()

    # Restored names go through the mapper like any other, with the order's own route.
    nameless = pl.col("name").is_null() & pl.col("hicl").is_not_null()
    named, unnamed = products.filter(~nameless), products.filter(nameless)
    done = mapped(named)
    if not len(unnamed):
        return done
    names = names_by_hicl(named).select("hicl", "name")
    if others is not None:
        names = pl.concat([names, names_by_hicl(others).select("hicl", "name").join(names, on="hicl", how="anti")])
    restored = unnamed.drop("name").join(names, on="hicl", how="left")
    restored = mapped(restored.select(products.columns)).with_columns(name=pl.lit(None, dtype=pl.String))
    return pl.concat([done, restored.select(done.columns)])


# -- parts of the pipeline, in order ----------------------------------------------------------------------------------


def _required(tables: RawTables, options: Options, name: str) -> tuple[Kind, ...]:
    available: tuple[Kind, ...] = tuple(
        kind
        for kind in ("diagnosis", "procedure", "medication")
        if kind != "procedure" or tables.procedures is not None
    )
    if options.require is None:
        return available
    for kind in options.require:
        if kind not in available:
            raise MedrecError(
                f"{name}: visits cannot be required to have a {kind!r}: this database has {', '.join(available)}. "
                "Change the option 'require'."
            )
    return tuple(options.require)


def _names(tables: RawTables, frame: str) -> str:
    return " or ".join(path.name for path in tables.files.get(frame, ())) or f"the {frame} table"


def _visits(tables: RawTables, options: Options, name: str, ledger: Ledger, odd: dict[str, float]) -> pl.DataFrame:
    """Visits in their final order with running numbers ``visit`` and ``patient``, one row each.

    A visit of two patients belongs to neither. Where rows of a visit contradict each other otherwise, its admission is
    the earliest, its sex and its age are unknown. So the order of rows decides nothing.
    """
    with explained(tables.files.get("visits", ())):
        rows = tables.visits.collect(engine="streaming")
    ledger.start(visits=len(rows), patients=rows["patient_id"].drop_nulls().n_unique())
    if not len(rows):
        raise MedrecError(f"{name}: {_names(tables, 'visits')} holds no visit. Check the tables.")

    for step, why, where in (
        ("has its ids", "rows without a visit or a patient", ~pl.any_horizontal(pl.col(*IDS).is_null())),
        ("of one patient", "visits listed under two", pl.col("patient_id").n_unique().over("visit_id") == 1),
    ):
        left = rows.filter(where)
        if len(left) < len(rows):
            ledger.note(step, why, visits=len(left), patients=left["patient_id"].drop_nulls().n_unique())
        rows = left
    # By what the order of visits is known.
    clock, year = (
        ("rank", pl.col("rank")) if tables.layout == "eicu" else ("admit_time", pl.col("admit_time").dt.year())
    )
    for what, column, possible in (
        ("times", clock, year.is_between(*YEARS)),
        ("ages", "age", pl.col("age").is_between(0, OLDEST)),
    ):
        odd[f"visits_of_impossible_{what}"] = rows.filter(~possible)["visit_id"].n_unique()
        rows = rows.with_columns(pl.when(possible).then(column))
    visits = (
        rows.unique()
        .group_by("visit_id")
        .agg(
            pl.col("patient_id").first(),
            pl.col("admit_time", "rank").min(),
            sex=_agreed(pl.col("sex").replace("", None)).fill_null(""),
            age=_agreed(pl.col("age")),
            rows=pl.len(),
        )
    )
    if len(visits) < len(rows):
        ledger.note(
            "listed once", "repeats are one visit", visits=len(visits), patients=visits["patient_id"].n_unique()
        )
    odd["visits_with_contradicting_rows"] = int((visits["rows"] > 1).sum())
    odd["visits_without_a_time"] = visits[clock].null_count()
    if clock == "admit_time":
        odd["visits_at_midnight"] = int((visits["admit_time"].dt.time() == time()).sum())
    order = (
        ["patient_id", "admit_time", "rank", "visit_id"]
        if options.visit_order == "time"
        else ["patient_id", "visit_id"]
    )
    return visits.sort(order, nulls_last=True).select(
        *VISITS, visit=pl.int_range(pl.len(), dtype=pl.UInt32), patient=pl.col("patient_id").rle_id()
    )


def _agreed(value: pl.Expr) -> pl.Expr:
    """The value that all rows of a group have that have any; else null."""
    known = value.drop_nulls()
    return pl.when(known.n_unique() == 1).then(known.first())


def _stream_orders(
    tables: RawTables,
    options: Options,
    live: pl.DataFrame,
    spellings: pl.DataFrame,
    index: pl.LazyFrame,
    odd: dict[str, float],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The second pass over the orders, as they are written.

    Args:
        tables, options: as they came.
        live: what :func:`map_products` returned.
        spellings: columns :data:`PRODUCT` as in ``live``, and as the file writes them: ``name_written`` and so on.
        index: visits: ``visit_id``, ``visit``, ``patient``, ``admit_time``.
        odd: takes what is counted on the way.

    Returns:
        Row counts by ``visit`` (null: unknown), ``atc3`` (null: no class), ``inside`` the window; and the distinct
        ``patient``, ``route``, ``status``, ``name`` (of products without a class).
    """
    orders = tables.written.filter(~pl.col("cancelled")).join(index, on="visit_id", how="left")
    files = tables.files.get("orders", ())
    inside = pl.lit(1)
    if options.window == "first_day":
        # Without a calendar times count from the admission.
        admitted = pl.col("admit_time") if tables.layout != "eicu" else pl.lit(0).cast(pl.Datetime("us"))
        far = ((pl.col("time") - admitted).abs() > timedelta(days=366)).fill_null(False)
        seen = pl.col("visit").is_not_null()
        with explained(files):
            first = (
                orders.group_by("visit")
                .agg(
                    # An order that lies years away is no first order: it would leave its stay without a first day.
                    first=pl.col("time").filter(~far).min(),
                    orders_without_a_time=(pl.col("time").is_null() & seen).sum(),
                    orders_a_year_from_their_visit=(far & seen).sum(),
                    orders_at_midnight=(pl.col("time").dt.time() == time()).sum(),
                )
                .collect(engine="streaming")
            )
        odd["orders_without_a_time"] = int(first["orders_without_a_time"].sum())
        odd["orders_a_year_from_their_visit"] = int(first["orders_a_year_from_their_visit"].sum())
        if tables.first_day == "24h" and tables.layout != "eicu":
            odd["orders_at_midnight"] = int(first["orders_at_midnight"].sum())
        first = first.select("visit", "first")
        orders = orders.join(first.lazy(), on="visit", how="left", nulls_equal=True)
        if tables.first_day == "calendar_day":
            inside = pl.col("time").dt.date() == pl.col("first").dt.date()
        else:
            inside = pl.col("time").is_between(pl.col("first"), pl.col("first") + pl.duration(hours=24), closed="left")
        inside = inside.fill_null(False).cast(pl.Int64)

    # A key is one integer: grouping by it takes a fraction of the memory that grouping by several columns takes, and
    # hardly grows with the number of rows. The first place of each numbering is taken by "none".
    classes = pl.concat([pl.Series([None], dtype=pl.String), live["atc3"].drop_nulls().unique().sort()])
    named = live.with_columns(name=pl.when(pl.col("status") != "mapped").then(pl.col("name")))
    groups = named.select("route", "status", "name").unique().with_row_index("group")
    numbers = pl.concat([live.select(*PRODUCT, "atc3"), named.select("status", unclassed="name")], how="horizontal")
    numbers = (
        numbers.join(pl.DataFrame({"atc3": classes}).with_row_index("class"), on="atc3", how="left", nulls_equal=True)
        .join(groups.rename({"name": "unclassed"}), on=["route", "status", "unclassed"], how="left", nulls_equal=True)
        .select(*PRODUCT, pl.col("class", "group").cast(pl.Int64))
    )
    numbers = spellings.join(numbers, on=list(PRODUCT), nulls_equal=True).select(
        *(pl.col(f"{column}_written").alias(column) for column in PRODUCT), "class", "group"
    )
    visit, patient = (pl.col(c).cast(pl.Int64).fill_null(-1) + 1 for c in ("visit", "patient"))
    keys = orders.join(numbers.lazy(), on=list(PRODUCT), how="left", nulls_equal=True).select(
        pair=(visit * len(classes) + pl.col("class")) * 2 + inside, person=patient * len(groups) + pl.col("group")
    )
    with explained(files):
        pairs, people = pl.collect_all(
            [keys.group_by("pair").agg(rows=pl.len()), keys.select("person").unique()], engine="streaming"
        )
    number = pairs["pair"] // 2
    taken = pl.DataFrame(
        {
            "visit": _numbered(number // len(classes)),
            "atc3": classes.gather(number % len(classes)),
            "inside": pairs["pair"] % 2 == 1,
            "rows": pairs["rows"],
        }
    )
    people = groups[people["person"] % len(groups)].with_columns(patient=_numbered(people["person"] // len(groups)))
    return taken, people.drop("group")


def _numbered(place: pl.Series) -> pl.Series:
    """Running number from its place in a key, where 0 is "none"."""
    return (place - 1).replace(-1, None).cast(pl.UInt32)


def _count_orders(
    taken: pl.DataFrame,
    products: pl.DataFrame,
    visits: pl.DataFrame,
    options: Options,
    first_day: str,
    ledger: Ledger,
) -> pl.DataFrame:
    """Write the medication part of the ledger; the (visit, class) pairs that are left."""

    def note(step: str, left: pl.DataFrame, why: str = "", rows: int | None = None) -> None:
        seen = left["visit"].drop_nulls().unique()
        ledger.note(
            step,
            why,
            rows=int(left["rows"].sum()) if rows is None else rows,
            visits=len(seen),
            patients=visits["patient"].gather(seen).n_unique(),
        )

    if products["cancelled"].any():
        ledger.note("not cancelled", "orders marked as cancelled", rows=int(taken["rows"].sum()))
    known = taken.filter(pl.col("visit").is_not_null())
    note("order of a known visit", known, "visits without any order end here")
    mapped = known.filter(pl.col("atc3").is_not_null())
    note("mapped to a class", mapped, "fluids, carriers and unknown names end here: see the table 'mapping'")
    if options.classes == "with_structure":
        names = mapped["atc3"].unique().to_list()
        drawn = [name for name, found in zip(names, structures(names), strict=True) if found]
        mapped = mapped.filter(pl.col("atc3").is_in(drawn))
        note("class with a structure", mapped, f"{len(names) - len(drawn)} of {len(names)} classes end here")
    if options.window == "first_day":
        mapped = mapped.filter(pl.col("inside"))
        note(
            "first day",
            mapped,
            "first calendar day with an order" if first_day == "calendar_day" else "24 hours from the first order",
        )
    pairs = mapped.group_by("visit", "atc3").agg(pl.col("rows").sum())
    note("one row a class", pairs, "repeated orders of one class in one visit are one", rows=len(pairs))
    return pairs


def _codes(
    tables: RawTables,
    kind: Kind,
    options: Options,
    required: bool,
    index: pl.LazyFrame,
    dictionary: pl.DataFrame,
    ledger: Ledger,
    facts: dict[str, float],
) -> pl.DataFrame:
    """Distinct codes of each visit with their place in it, and their part of the ledger."""
    table = CODED[kind]
    frame: pl.LazyFrame | None = getattr(tables, table)
    if frame is None:
        return pl.DataFrame(schema={"visit": pl.UInt32, "code": pl.String, "seq": pl.Int64})
    with explained(tables.files.get(table, ())):
        found = (
            frame.join(index, on="visit_id", how="left")
            .group_by("visit", "code")
            .agg(seq=pl.col("seq").min().cast(pl.Int64), rows=pl.len(), nowhere=pl.col("seq").is_null().sum())
            .collect(engine="streaming")
        )
    unit = f"{kind}_rows"
    remedy = f"Check the table, or require other kinds than {kind!r} with the option 'require'."
    if required and not len(found):
        raise MedrecError(f"{tables.files.get(table, (table,))[0]} holds no {kind}. {remedy}")
    ledger.start(**{unit.replace("_", " "): int(found["rows"].sum())})

    def note(step: str, why: str, n: int) -> None:
        left: dict[str, Any] = {unit: n}
        ledger.note(step, why, remedy, **left)

    for step, keep in (
        ("has a code", pl.col("code").is_not_null()),
        ("of a known visit", pl.col("visit").is_not_null()),
    ):
        found = found.filter(keep)
        note(step, "", int(found["rows"].sum()))
    # Without a place a code stands behind all others of its visit.
    if nowhere := int(found["nowhere"].sum()):
        facts[f"{kind}_rows_without_a_place"] = float(nowhere)
    if kind != "symptom":
        titled = coding.titled(kind, dictionary).select("code")
        untitled = found.filter(~pl.col("code").str.starts_with("path:")).join(titled, on="code", how="anti")
        without = facts[f"{kind}_rows_without_title"] = float(untitled["rows"].sum())
        if kind in dictionary["kind"]:  # of what no dictionary lists at all this says nothing
            n_rows = int(found["rows"].sum())
            _tell(ledger.name, without, n_rows, f"the {kind} rows have a code that no dictionary names")
    if options.coding == "ccs" and kind != "symptom":
        ccs = coding.ccs_map(kind)
        found = found.join(ccs, on="code", how="left")
        facts[f"{kind}_rows_without_ccs"] = float(found.filter(pl.col("ccs").is_null())["rows"].sum())
        found = found.with_columns(code=pl.coalesce("ccs", "code"))
    found = found.group_by("visit", "code").agg(pl.col("seq").min(), pl.col("rows").sum())
    note("one row a code", "repeats within a visit are one", len(found))
    if options.top_diagnoses is not None and kind == "diagnosis":
        top = found.group_by("code").len().sort(["len", "code"], descending=[True, False]).head(options.top_diagnoses)
        found = found.join(top, on="code", how="semi")
        note("frequent codes", f"the {options.top_diagnoses} most frequent", len(found))
    return found.select("visit", "code", "seq")


def _assemble(
    kind: Kind, rows: pl.DataFrame, keep: NDArray[np.bool_], new_row: NDArray[np.int64], dictionary: pl.DataFrame
) -> tuple[Vocabulary, Ragged]:
    """Vocabulary in sorted order and the codes of the visits that stay."""
    rows = rows.filter(pl.Series(keep[rows["visit"].to_numpy()], dtype=pl.Boolean))
    names = rows["code"].unique().sort()
    numbers = pl.DataFrame({"code": names, "id": np.arange(len(names), dtype=np.int32)})
    rows = rows.join(numbers, on="code").sort(["visit", "seq", "code"], nulls_last=True)
    lengths = np.bincount(new_row[rows["visit"].to_numpy()], minlength=int(keep.sum()))
    ragged = Ragged(np.concatenate([[0], np.cumsum(lengths)]), rows["id"].to_numpy())
    if kind == "medication":
        dictionary = atc3().select(kind=pl.lit("medication"), code="code", title="name")
    return Vocabulary(kind, tuple(names), coding.titles(kind, names, dictionary)), ragged


def _patients(kept: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Visit offsets by patient, and the row of each patient's first visit."""
    runs = kept["patient"].rle_id().to_numpy()
    offsets = np.concatenate([[0], np.cumsum(np.bincount(runs))]).astype(np.int64)
    return offsets, offsets[:-1]


def _gaps(kept: pl.DataFrame, offsets: NDArray[np.int64]) -> NDArray[np.float32]:
    """Days between admissions, NaN for first visits and where there is no calendar."""
    seconds = kept["admit_time"].diff().dt.total_seconds().cast(pl.Float64).fill_null(np.nan).to_numpy()
    days = (seconds / 86_400).astype(np.float32)
    days[offsets[:-1]] = np.nan
    return days


def _age_band(age: pl.Series) -> NDArray[np.str_]:
    """``"60-69"``; ``"90+"`` for anything above 89; empty where unknown."""
    decade = pl.Series("age", age).cast(pl.Int32) // 10 * 10
    band = pl.DataFrame({"d": decade}).select(
        pl.when(pl.col("d") >= 90)
        .then(pl.lit("90+"))
        .otherwise(pl.format("{}-{}", pl.col("d"), pl.col("d") + 9))
        .fill_null("")
    )
    return band.to_series().to_numpy().astype(str)


def _facts(
    ledger: Ledger,
    tables: RawTables,
    products: pl.DataFrame,
    live: pl.DataFrame,
    visits: pl.DataFrame,
    kept: pl.DataFrame,
    odd: dict[str, float],
) -> dict[str, float]:
    """Counts that are no losses; those of what should not be are named only where there is any."""

    def rows(frame: pl.DataFrame, where: pl.Expr) -> float:
        return float(frame.filter(where)["rows"].sum())

    facts = {
        "visits_read": float(len(visits)),
        "patients_read": float(visits["patient"].n_unique()),
        "orders_read": float(products["rows"].sum()),
        "orders_cancelled": rows(products, pl.col("cancelled")),
        "orders_without_ndc": rows(products, pl.col("ndc").is_null()),
        "orders_with_ndc_of_another_form": rows(products, ~pl.col("ndc").str.contains(r"^\d{11}$")),
        "orders_without_name": rows(products, pl.col("name").is_null()),
        "orders_named_by_hicl": rows(live, pl.col("name").is_null() & (pl.col("status") == "mapped")),
        "distinct_products": float(len(products)),
        "single_visit_patients": float((kept.group_by("patient").len()["len"] == 1).sum()),
    }
    for which, frame in (("read", visits), ("kept", kept)):
        known = pl.col("rank" if tables.layout == "eicu" else "admit_time")
        several = frame.group_by("patient").agg(
            visits=pl.len(),
            # Two visits with the same time (or, without a calendar, the same year) have no known order; nor has one
            # without a time.
            distinct=known.drop_nulls().n_unique(),
        )
        several = several.filter(pl.col("visits") > 1)
        facts[f"patients_with_several_visits_{which}"] = float(len(several))
        facts[f"patients_with_undecidable_order_{which}"] = float((several["distinct"] < several["visits"]).sum())
    first = kept.group_by("patient", maintain_order=True).first()
    odd["patients_without_a_sex"] = int((first["sex"] == "").sum())
    odd["patients_without_an_age"] = first["age"].null_count()
    with explained([path for paths in tables.files.values() for path in paths]):
        counted = pl.collect_all([frame.select(pl.first()) for frame in tables.counts.values()])
    odd |= {fact: frame.item() for fact, frame in zip(tables.counts, counted, strict=True)}
    diagnoses = next(step.before for step in ledger.steps if step.unit == "diagnosis rows")
    for fact, of, what in (
        ("orders_with_ndc_of_another_form", facts["orders_read"], "the orders have an NDC that has not 11 digits"),
        ("orders_at_midnight", facts["orders_read"], "the orders are of midnight, as if times were exported as days"),
        ("visits_at_midnight", len(visits), "the admissions are at midnight, as if times were exported as days"),
        ("visits_without_a_time", len(visits), "the visits have no time; they stand last"),
        ("visits_of_impossible_ages", len(visits), "the ages are below 0 or above 120; they are unknown"),
        ("visits_without_a_patient_row", len(visits), "the visits have a patient whom the other table does not list"),
        ("diagnosis_cells_of_another_form", diagnoses, "the diagnosis rows hold a code of no ICD version"),
    ):
        _tell(ledger.name, (facts | odd).get(fact, 0), of, what)
    return facts | {name: float(n) for name, n in odd.items() if n}


def _tell(name: str, n: float, of: float, what: str) -> None:
    """One line where a large share of a table says nothing that was understood; no cell of it is in the line."""
    if of and n / of > LOUD:
        notice(f"{name}: {n / of:.0%} of {what}. Compare the table with the one that the database ships.")


def _report_tables(
    products: pl.DataFrame, live: pl.DataFrame, people: pl.DataFrame, source: Source
) -> dict[str, dict[str, list[Any]]]:
    """Small tables for people: mapping by drug type; names without a class, by reason; routes."""
    cancelled = products.filter(pl.col("cancelled")).select("drug_type", "rows", status=pl.lit("cancelled"))
    by_type = (
        pl.concat([live.select("drug_type", "rows", "status"), cancelled])
        .group_by("drug_type", "status")
        .agg(pl.col("rows").sum())
        # Share of the orders that stand; cancelled ones have none.
        .with_columns(
            share=pl.when(pl.col("status") != "cancelled").then(
                pl.col("rows") / pl.col("rows").filter(pl.col("status") != "cancelled").sum().over("drug_type")
            )
        )
        .sort(["drug_type", "rows", "status"], descending=[False, True, False])
    )

    def listed(frame: pl.DataFrame, who: pl.DataFrame, key: str, *more: pl.Expr) -> dict[str, list[Any]]:
        """Rows and patients behind each value, most frequent first."""
        patients = who.drop_nulls("patient").group_by(key).agg(patients=pl.col("patient").n_unique())
        table = (
            frame.group_by(key)
            .agg(pl.col("rows").sum(), *more)
            .join(patients, on=key, how="left", nulls_equal=True)
            .with_columns(pl.col("patients").fill_null(0))
            .sort(["rows", key], descending=[True, False], nulls_last=True)
        )
        if source == "credentialed":
            # A name or a route that few patients share is a record of those patients.
            table = table.filter(pl.col("patients") >= LIMIT)
        return table.head(N_LISTED).to_dict(as_series=False)

    def named(status: str) -> dict[str, list[Any]]:
        is_it = (pl.col("status") == status) & pl.col("name").is_not_null()
        return listed(live.filter(is_it), people.filter(is_it), "name")

    return {
        "mapping": by_type.to_dict(as_series=False),
        "unmapped": named("unmapped"),
        "carriers": named("carrier"),
        "routes": listed(
            live, people, "route", pl.col("rows").filter(pl.col("status") == "mapped").sum().alias("mapped")
        ),
    }
