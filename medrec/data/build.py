"""One pipeline from canonical tables to a cohort, with a ledger of everything that is lost on the way.

The order table is the only large one: a hundred times the size of the result. It is streamed twice, once to list the
distinct products (whose mapping to ATC classes then costs one look-up a product, not a row), once to count the rows
of each (visit, class) pair. What is held in memory is those two results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from medrec.data import coding
from medrec.data.cohort import KINDS, LIMIT, Cohort, Kind, Report, Source, Step, Vocabulary
from medrec.data.mapping import map_medications, names_by_hicl
from medrec.data.tables import RawTables, explained
from medrec.knowledge.classes import atc3
from medrec.types import MedrecError, Ragged

PRODUCT = ("name", "ndc", "route", "drug_type", "hicl")
"""What distinguishes two products in the order table."""

Mapper = Callable[..., pl.LazyFrame]

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
    """

    window: Literal["whole_stay", "first_day"] = "whole_stay"
    coding: Literal["icd", "ccs"] = "icd"
    class_rule: Literal["route", "first_code"] = "route"
    mapping: Literal["name", "ndc", "name+ndc"] = "name"
    visit_order: Literal["time", "id"] = "time"
    require: tuple[Kind, ...] | None = None
    min_visits: int | None = None
    top_diagnoses: int | None = None


class Ledger:
    """Steps in the making: remembers what each unit had left, so that a step starts where the last one ended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.steps: list[Step] = []
        self.left: dict[str, int] = {}

    def start(self, **units: int) -> None:
        self.left |= units

    def note(self, step: str, why: str = "", **kept: int) -> None:
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
                    + ". Check the tables and the options of this step."
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
        order, medications in the order of the vocabulary. The order of rows in the tables has no influence.

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
    progress = tqdm(total=5, desc=f"{name}: tables to cohort", unit="pass", leave=False, disable=None)

    visits = _visits(tables, options)
    n_visits = len(visits)
    ledger.start(visits=n_visits, patients=visits["patient"].n_unique())
    if n_visits == 0:
        raise MedrecError(f"{name}: {_names(tables, 'visits')} holds no visit. Check the tables.")
    index = visits.select("visit_id", "visit", "patient").lazy()
    progress.update()

    # -- medications ----------------------------------------------------------------------------------------------
    with explained(tables.files.get("orders", ())):
        products = (
            tables.orders.group_by(*PRODUCT, "cancelled").agg(rows=pl.len()).collect(engine="streaming").sort(*PRODUCT)
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
    taken, people = _stream_orders(tables, options, live, index)
    progress.update()
    pairs = _count_orders(taken, products, visits, options, tables.first_day, ledger)

    # -- diagnoses, procedures, symptoms ------------------------------------------------------------------------------
    facts: dict[str, float] = {}
    rows: dict[Kind, pl.DataFrame] = {
        "diagnosis": _codes(tables, "diagnosis", options, index, ledger, facts),
        "procedure": _codes(tables, "procedure", options, index, ledger, facts),
        "symptom": _codes(tables, "symptom", options, index, ledger, facts),
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
    with explained(tables.files.get("titles", ())):
        dictionary = tables.titles.collect(engine="streaming")
    vocab: dict[Kind, Vocabulary] = {}
    codes: dict[Kind, Ragged] = {}
    for kind in KINDS:
        vocab[kind], codes[kind] = _assemble(kind, rows[kind], keep, new_row, dictionary)
    offsets, first = _patients(kept)
    facts |= _facts(tables, products, live, visits, kept, options)
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


def _visits(tables: RawTables, options: Options) -> pl.DataFrame:
    """Visits in their final order with running numbers ``visit`` and ``patient``."""
    order = (
        ["patient_id", "admit_time", "rank", "visit_id"]
        if options.visit_order == "time"
        else ["patient_id", "visit_id"]
    )
    with explained(tables.files.get("visits", ())):
        visits = tables.visits.collect(engine="streaming")
    return (
        visits.sort("visit_id", "patient_id", "admit_time")
        .unique("visit_id", keep="first", maintain_order=True)
        .sort(order, nulls_last=True)
        .with_columns(
            visit=pl.int_range(pl.len(), dtype=pl.UInt32),
            patient=pl.col("patient_id").rle_id(),
        )
    )


def _stream_orders(
    tables: RawTables, options: Options, live: pl.DataFrame, index: pl.LazyFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The second pass over the orders.

    Returns:
        Row counts by ``visit`` (null: unknown), ``atc3`` (null: no class), ``inside`` the window; and the distinct
        ``patient``, ``route``, ``status``, ``name`` (of products without a class).
    """
    orders = tables.orders.filter(~pl.col("cancelled")).join(index, on="visit_id", how="left")
    files = tables.files.get("orders", ())
    inside = pl.lit(1)
    if options.window == "first_day":
        with explained(files):
            first = orders.group_by("visit").agg(first=pl.col("time").min()).collect(engine="streaming")
        orders = orders.join(first.lazy(), on="visit", how="left", nulls_equal=True)
        if tables.first_day == "calendar_day":
            inside = pl.col("time").dt.date() == pl.col("first").dt.date()
        else:
            inside = pl.col("time") < pl.col("first") + pl.duration(hours=24)
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
    tables: RawTables, kind: Kind, options: Options, index: pl.LazyFrame, ledger: Ledger, facts: dict[str, float]
) -> pl.DataFrame:
    """Distinct codes of each visit with their place in it, and their part of the ledger."""
    table = {"diagnosis": "diagnoses", "procedure": "procedures", "symptom": "symptoms"}[kind]
    frame: pl.LazyFrame | None = getattr(tables, table)
    if frame is None:
        return pl.DataFrame(schema={"visit": pl.UInt32, "code": pl.String, "seq": pl.Int64})
    with explained(tables.files.get(table, ())):
        found = (
            frame.join(index, on="visit_id", how="left")
            .group_by("visit", "code")
            .agg(seq=pl.col("seq").min().cast(pl.Int64), rows=pl.len())
            .collect(engine="streaming")
        )
    unit = f"{kind}_rows"
    ledger.start(**{unit.replace("_", " "): int(found["rows"].sum())})
    for step, keep in (
        ("has a code", pl.col("code").is_not_null()),
        ("of a known visit", pl.col("visit").is_not_null()),
    ):
        found = found.filter(keep)
        ledger.note(step, "", **{unit: int(found["rows"].sum())})
    if options.coding == "ccs" and kind != "symptom":
        ccs = coding.ccs_map(kind)
        found = found.join(ccs, on="code", how="left")
        facts[f"{kind}_rows_without_ccs"] = float(found.filter(pl.col("ccs").is_null())["rows"].sum())
        found = found.with_columns(code=pl.coalesce("ccs", "code"))
    found = found.group_by("visit", "code").agg(pl.col("seq").min(), pl.col("rows").sum())
    ledger.note("one row a code", "repeats within a visit are one", **{unit: len(found)})
    if options.top_diagnoses is not None and kind == "diagnosis":
        top = found.group_by("code").len().sort(["len", "code"], descending=[True, False]).head(options.top_diagnoses)
        found = found.join(top, on="code", how="semi")
        ledger.note("frequent codes", f"the {options.top_diagnoses} most frequent", **{unit: len(found)})
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
    tables: RawTables,
    products: pl.DataFrame,
    live: pl.DataFrame,
    visits: pl.DataFrame,
    kept: pl.DataFrame,
    options: Options,
) -> dict[str, float]:
    """Counts that are no losses."""

    def rows(frame: pl.DataFrame, where: pl.Expr) -> float:
        return float(frame.filter(where)["rows"].sum())

    facts = {
        "visits_read": float(len(visits)),
        "patients_read": float(visits["patient"].n_unique()),
        "orders_read": float(products["rows"].sum()),
        "orders_cancelled": rows(products, pl.col("cancelled")),
        "orders_without_ndc": rows(products, pl.col("ndc").is_null()),
        "orders_without_name": rows(products, pl.col("name").is_null()),
        "orders_named_by_hicl": rows(live, pl.col("name").is_null() & (pl.col("status") == "mapped")),
        "distinct_products": float(len(products)),
        "single_visit_patients": float((kept.group_by("patient").len()["len"] == 1).sum()),
    }
    for which, frame in (("read", visits), ("kept", kept)):
        several = frame.group_by("patient").agg(
            visits=pl.len(),
            # Two visits with the same time (or, without a calendar, the same year) have no known order.
            distinct=pl.struct("admit_time", "rank").n_unique(),
        )
        several = several.filter(pl.col("visits") > 1)
        facts[f"patients_with_several_visits_{which}"] = float(len(several))
        facts[f"patients_with_undecidable_order_{which}"] = float((several["distinct"] < several["visits"]).sum())
    return facts


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
        .sort(["drug_type", "rows"], descending=[False, True])
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
