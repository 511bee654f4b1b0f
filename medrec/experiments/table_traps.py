"""What published preprocessing does to a table of orders, measured: losses, wrong orders, copied cells, merged codes.

Each function takes the traps of one chapter ("From tables to visits") apart on any records; nothing here is part of the
pipeline in :mod:`medrec.data.build`. ``python -m medrec.experiments.table_traps`` keeps the values of the three open
demos and the sizes of the synthetic cohorts, which the chapter reads when the demos are not at hand.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec import metrics, paths
from medrec.data import build, coding, eicu, load_cohort, mimic3, mimic4, privacy
from medrec.data.calibration import QUANTITIES, calibrate
from medrec.data.cohort import Cohort
from medrec.data.load import tables_folder
from medrec.data.mapping import NDC_TABLES, ndc_classes
from medrec.data.synthetic import synthesize
from medrec.data.tables import PRODUCT, RawTables, scan_table
from medrec.knowledge.conditions import conditions
from medrec.knowledge.interactions import TWOSIDES_FILE, ddi_matrix
from medrec.lab import kept
from medrec.types import MedrecError

STUDY = "table_traps"
COMMAND = f"python -m medrec.experiments.{STUDY}"
STORED = ("mimic3-demo", "mimic4-demo", "eicu-demo")
"""Open records, so that anybody can make the kept values again."""
SIZES = ("synthetic", "synthetic-6350", "synthetic-60125")
"""Synthetic cohorts whose table 1 is kept."""
HOURS = (6, 12, 24, 48, 72, 120, 168, 240, 336)
"""Windows of the kept curves; MIMIC-III has whole days only."""

READERS = {"mimic3": mimic3.read, "mimic4": mimic4.read, "eicu": eicu.read}
VOCABULARY = TWOSIDES_FILE.replace(".csv.gz", "_vocab.csv.gz")


def raw_tables(name: str) -> RawTables:
    """Canonical frames behind a cohort, before any decision."""
    return READERS[load_cohort(name).options["layout"]](tables_folder(name))


def canonical(orders: pl.DataFrame) -> RawTables:
    """A handful of orders as the frames that a reader returns, for toy examples; visits have no diagnoses.

    Args:
        orders: ``patient``, ``visit`` (numbers), ``day`` (``"2150-01-05"``), ``ndc``, ``drug``, ``route``. A visit
            begins with its first order.
    """
    day = pl.col("day").str.to_datetime("%Y-%m-%d")
    visits = orders.group_by(patient_id="patient", visit_id="visit").agg(admit_time=day.min())
    text = pl.lit(None, dtype=pl.String)
    rows = orders.select(
        visit_id="visit", time=day, name="drug", ndc="ndc", route="route", drug_type=pl.lit("MAIN"), hicl=text
    )
    return RawTables(
        layout="mimic3",
        visits=visits.with_columns(rank=pl.lit(0), sex=pl.lit(""), age=pl.lit(None, dtype=pl.Int32)).lazy(),
        diagnoses=pl.LazyFrame(schema={"visit_id": pl.Int64, "code": pl.String, "seq": pl.Int32}),
        procedures=None,
        written=rows.with_columns(cancelled=pl.lit(False)).lazy(),
        titles=mimic3.no_titles(),
        first_day="calendar_day",
    )


# -- the published script ---------------------------------------------------------------------------------------------


def raw_orders(name: str) -> pl.DataFrame:
    """Orders as the file has them, in its order, all as text: what a published script starts from.

    Returns:
        ``patient``, ``visit``, ``icu`` (unit stay; null for all of MIMIC-IV, whose script does not read it), ``day``,
        ``ndc``, ``drug``. Null where the cell is empty.
    """
    layout, folder = load_cohort(name).options["layout"], tables_folder(name)
    names: Sequence[str]
    columns: Sequence[str | None]
    if layout == "eicu":
        units = scan_table(
            folder, "patient", ["patientunitstayid", "patienthealthsystemstayid", "uniquepid"], layout="eicu"
        )
        orders = scan_table(
            folder, "medication", ["patientunitstayid", "drugorderoffset", "drugname"], layout="eicu"
        ).join(units, on="patientunitstayid", how="left", maintain_order="left")
        columns = ("uniquepid", "patienthealthsystemstayid", "patientunitstayid", "drugorderoffset", None, "drugname")
    elif layout == "mimic4":
        names = ("subject_id", "hadm_id", "starttime", "ndc", "drug")
        hosp = folder / "hosp" if (folder / "hosp").is_dir() else folder
        orders = scan_table(hosp, "prescriptions", names, layout="mimic4")
        columns = ("subject_id", "hadm_id", None, "starttime", "ndc", "drug")
    else:
        columns = names = ("subject_id", "hadm_id", "icustay_id", "startdate", "ndc", "drug")
        orders = scan_table(folder, "prescriptions", names, layout="mimic3")
    return orders.select(
        (pl.lit(None, dtype=pl.String) if c is None else pl.col(c)).alias(alias)
        for alias, c in zip(("patient", "visit", "icu", "day", "ndc", "drug"), columns, strict=True)
    ).collect()


def filled_from(orders: pl.DataFrame, column: str) -> dict[str, int]:
    """Where a forward fill over the whole table takes the missing cells of a column from.

    Args:
        orders: ``patient``, ``visit`` and the column, in the order of the file.
        column: whose nulls are filled from the nearest filled row above.

    Returns:
        ``missing``, and of these: ``same visit``, ``other visit`` of the patient, ``other patient``, ``nothing above``.
    """
    seen = pl.col(column).is_not_null()
    donors = [pl.when(seen).then(pl.col(c)).forward_fill().alias(f"donor_{c}") for c in ("patient", "visit")]
    gaps = orders.with_columns(donors).filter(~seen)
    patient, visit = pl.col("patient") == pl.col("donor_patient"), pl.col("visit") == pl.col("donor_visit")
    return {
        "missing": len(gaps),
        "same visit": len(gaps.filter(patient & visit)),
        "other visit": len(gaps.filter(patient & ~visit)),
        "other patient": len(gaps.filter(~patient)),
        "nothing above": gaps["donor_patient"].null_count(),
    }


def published_steps(
    orders: pl.DataFrame,
    classes: Mapping[str, str],
    *,
    fill: bool = True,
    vocabulary: set[str] | None = None,
    joined: set[str] | None = None,
) -> dict[str, pl.DataFrame]:
    """Steps of the released preprocessing of the GAMENet line, in its order.

    Args:
        orders: ``patient``, ``visit``, ``icu``, ``day``, ``ndc``, in the order of the file.
        classes: NDC → ATC level-3 class, the first code of the product.
        fill: True: missing cells take the value above, as released; False: only rows without NDC are dropped.
        vocabulary: classes that survive the filter by SMILES; None: all.
        joined: visits that have a diagnosis and a procedure; None: all.

    Returns:
        Step → rows that are left; from "mapped" on with a column ``atc3``.
    """
    steps = {"orders": orders}
    rows = orders.filter(pl.col("ndc").fill_null("") != "0")
    steps["NDC is not 0"] = rows
    cells = ["icu", "day", "ndc"]
    rows = rows.with_columns(pl.col(cells).forward_fill()) if fill else rows
    rows = rows.drop_nulls([c for c in cells if fill and rows[c].null_count() < len(rows)] or "ndc")
    steps["gaps filled, or dropped"] = rows
    rows = rows.unique(["patient", "visit", *cells], keep="first", maintain_order=True)
    steps["repeats dropped"] = rows
    rows = rows.filter(pl.col("visit").n_unique().over("patient") >= 2)
    steps["patients with two admissions"] = rows
    schema = {"ndc": pl.String, "atc3": pl.String}
    table = pl.DataFrame({"ndc": list(classes), "atc3": list(classes.values())}, schema=schema)
    rows = rows.join(table, on="ndc", maintain_order="left")
    steps["mapped to a class"] = rows
    if vocabulary is not None:
        rows = rows.filter(pl.col("atc3").is_in(sorted(vocabulary)))
        steps["class has a molecule"] = rows
    if joined is not None:
        rows = rows.filter(pl.col("visit").is_in(sorted(joined)))
        steps["has diagnosis and procedure"] = rows
    return steps


def counts(steps: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """``step``, ``rows``, ``visits``, ``patients``."""
    return pl.DataFrame(
        [
            {"step": step, "rows": len(f), "visits": f["visit"].n_unique(), "patients": f["patient"].n_unique()}
            for step, f in steps.items()
        ]
    )


def known_numbers(orders: pl.DataFrame) -> dict[str, int]:
    """How many distinct product numbers stand in the list of the published scripts: ``numbers``, ``known``."""
    numbers = orders.filter(pl.col("ndc") != "0")["ndc"].unique()
    listed = pl.read_csv(paths.data_dir() / "knowledge" / NDC_TABLES[0], infer_schema=False, glob=False)["ndc"]
    return {"numbers": len(numbers), "known": int(numbers.is_in(listed.implode()).sum())}


def published_ledger(name: str) -> pl.DataFrame | None:
    """The published steps on real orders; None where the database has no NDC or the external tables are missing."""
    folder = paths.data_dir() / "knowledge"
    tables = raw_tables(name)
    if tables.procedures is None or not all((folder / file).exists() for file in (*NDC_TABLES, VOCABULARY)):
        return None
    orders = raw_orders(name)
    found = ndc_classes(orders["ndc"])
    first = dict(zip(found["ndc"], found["classes"].list.first().str.head(4), strict=True))
    # The list of codes that index the published matrix of 131 classes.
    known = pl.read_csv(folder / VOCABULARY, glob=False).drop_nulls("index_131")["atc3"]
    has = [
        set(frame.select(pl.col("visit_id").cast(pl.String)).collect().to_series())
        for frame in (tables.diagnoses, tables.procedures)
    ]
    return counts(published_steps(orders, first, vocabulary=set(known), joined=has[0] & has[1]))


# -- order of visits --------------------------------------------------------------------------------------------------


def visit_order(visits: pl.DataFrame) -> dict[str, int]:
    """How often the order of ids and the order of admission times disagree.

    Args:
        visits: ``patient``, ``visit`` (a number), ``time``; one row a visit.

    Returns:
        ``patients`` with at least two visits, and of these ``reordered``; ``instances`` with a history (in the order of
        ids), and of these ``with future``, whose history holds a later visit; ``slots`` of all histories, ``future``.
    """
    several = visits.filter(pl.len().over("patient") > 1)
    pairs = several.join(several, on="patient", suffix="_before").filter(pl.col("visit_before") < pl.col("visit"))
    future = pl.col("time_before") > pl.col("time")
    by_visit = pairs.group_by("visit").agg(wrong=future.any())
    return {
        "patients": several["patient"].n_unique(),
        "reordered": pairs.filter(future)["patient"].n_unique(),
        "instances": len(by_visit),
        "with future": int(by_visit["wrong"].sum()),
        "slots": len(pairs),
        "future": len(pairs.filter(future)),
    }


def visits_of(name: str) -> pl.DataFrame:
    """``patient``, ``visit``, ``time`` of every visit of the raw tables; ``time`` is null without a calendar."""
    return raw_tables(name).visits.select(patient="patient_id", visit="visit_id", time="admit_time").collect()


def repeat_last(cohort: Cohort) -> NDArray[np.float64]:
    """Mean Jaccard of each patient's visits with the visit before, ``(P,)``; NaN for a single visit."""
    sets = cohort.codes["medication"].multi_hot(cohort.n_medications)
    later = np.flatnonzero(cohort.visit_number > 0)
    scores = metrics.jaccard(sets[later], sets[later - 1])
    patient = cohort.patient_of_visit[later]
    total, n = (np.bincount(patient, w, minlength=cohort.n_patients) for w in (scores, None))
    with np.errstate(invalid="ignore"):
        return total / n


# -- window -----------------------------------------------------------------------------------------------------------


def arrivals(name: str) -> pl.DataFrame:
    """When each class first appears in a visit.

    Returns:
        ``visit_id``, ``atc3``, ``hours`` from the first order of the visit to the first order of the class; where
        orders carry a date only, 24 times the number of days between.
    """
    tables = raw_tables(name)
    products, orders = list(PRODUCT), tables.orders.filter(~pl.col("cancelled"))
    classes = classes_of(tables).select(*products, "atc3")
    time = pl.col("time").dt.truncate("1d") if tables.first_day == "calendar_day" else pl.col("time")
    since = time - time.min().over("visit_id")
    return (
        orders.select(*products, "visit_id", hours=since.dt.total_seconds() / 3600)
        .join(classes.lazy(), on=products, nulls_equal=True)
        .filter(pl.col("atc3").is_not_null() & pl.col("visit_id").is_not_null())
        .group_by("visit_id", "atc3")
        .agg(pl.col("hours").min())
        .sort("visit_id", "atc3")
        .collect()
    )


def window_curve(found: pl.DataFrame, hours: tuple[float, ...] = HOURS) -> pl.DataFrame:
    """Classes per visit, and Jaccard with the whole stay, when orders are kept for ``w`` hours only.

    Args:
        found: from :func:`arrivals`.
        hours: windows; an order at exactly ``w`` hours lies outside.

    Returns:
        ``hours``, ``classes``, ``jaccard``; means over visits.
    """
    rows = []
    for w in hours:
        inside = found.group_by("visit_id").agg(kept=(pl.col("hours") < w).sum(), all=pl.len())
        rows.append((float(w), inside["kept"].mean(), (inside["kept"] / inside["all"]).mean()))
    return pl.DataFrame(rows, schema=["hours", "classes", "jaccard"], orient="row")


# -- two versions of one coding ---------------------------------------------------------------------------------------


def crosswalk() -> tuple[str, pl.DataFrame]:
    """What brings both ICD versions to the same groups: CCS where its table is at hand, else our own conditions.

    Returns:
        Name of the grouping; ``code``, ``group``. Codes without a group are their own.
    """
    try:
        return "CCS", coding.ccs_map("diagnosis").rename({"ccs": "group"})
    except MedrecError:
        own = [
            conditions()
            .select(code=f"icd{version}", group="id")
            .explode("code")
            .with_columns(code=pl.lit(f"{version}:") + pl.col("code"))
            for version in (9, 10)
        ]
        return "condition", pl.concat(own).drop_nulls("code").unique("code")


def version_overlap(tables: RawTables) -> pl.DataFrame:
    """Jaccard of the diagnoses of consecutive visits, three ways of reading a code.

    Args:
        tables: of a database with admission times and codes as ``"9:4019"``.

    Returns:
        One row a pair of consecutive visits: ``patient``, ``changed`` (the version did), ``text`` (version dropped),
        ``key`` (version and code), ``group`` (see :func:`crosswalk`).
    """
    _, groups = crosswalk()
    codes = (
        tables.diagnoses.drop_nulls("code")
        .select("visit_id", key="code", text=pl.col("code").str.replace("^[0-9]+:", ""))
        .unique()
        .join(groups.lazy().rename({"code": "key"}), on="key", how="left")
        .with_columns(group=pl.coalesce("group", "key"), version=pl.col("key").str.extract("^([0-9]+):"))
        .collect()
    )
    version = codes.group_by("visit_id").agg(pl.col("version").first())
    before = pl.col("visit_id", "version").shift().over("patient_id", order_by="admit_time").name.suffix("_before")
    pairs = (
        tables.visits.collect()
        .join(version, on="visit_id")
        .with_columns(before)
        .drop_nulls("visit_id_before")
        .select(
            "visit_id", "visit_id_before", patient="patient_id", changed=pl.col("version") != pl.col("version_before")
        )
    )
    for reading in ("text", "key", "group"):
        pairs = pairs.join(_jaccard(pairs, codes.select("visit_id", code=reading).unique()), on="visit_id").rename(
            {"jaccard": reading}
        )
    return pairs.drop("visit_id", "visit_id_before")


def synthetic_version_overlap(n_patients: int = 600, seed: int = 0) -> pl.DataFrame:
    """:func:`version_overlap` of synthetic patients written in the layout of MIMIC-IV, which has both versions."""
    with tempfile.TemporaryDirectory() as folder:
        synthesize(n_patients, seed).write(Path(folder) / "tables", "mimic4")
        return version_overlap(mimic4.read(Path(folder) / "tables"))


def _jaccard(pairs: pl.DataFrame, codes: pl.DataFrame) -> pl.DataFrame:
    size = codes.group_by("visit_id").len("n")
    both = (
        pairs.select("visit_id", "visit_id_before")
        .join(codes, on="visit_id")
        .join(codes, left_on=["visit_id_before", "code"], right_on=["visit_id", "code"])
        .group_by("visit_id")
        .len("both")
    )
    shared = pl.col("both").fill_null(0).cast(pl.Int64)
    return (
        pairs.select("visit_id", "visit_id_before")
        .join(both, on="visit_id", how="left")
        .join(size, on="visit_id")
        .join(size.rename({"n": "n_before"}), left_on="visit_id_before", right_on="visit_id")
        .select("visit_id", jaccard=shared / (pl.col("n").cast(pl.Int64) + pl.col("n_before") - shared))
    )


def shared_strings(titles: pl.DataFrame) -> pl.DataFrame:
    """Strings that both ICD versions use, with what they mean in each.

    Args:
        titles: ``kind``, ``code`` (``"9:E8881"``), ``title``.

    Returns:
        ``kind``, ``text``, ``nine``, ``ten``.
    """
    parts = titles.unique(["kind", "code"], keep="first", maintain_order=True).with_columns(
        text=pl.col("code").str.replace("^[0-9]+:", ""), version=pl.col("code").str.extract("^([0-9]+):")
    )
    nine, ten = (parts.filter(version=v).select("kind", "text", "title") for v in ("9", "10"))
    return nine.rename({"title": "nine"}).join(ten.rename({"title": "ten"}), on=["kind", "text"]).sort("kind", "text")


# -- one class a product ----------------------------------------------------------------------------------------------


def products_of(tables: RawTables) -> pl.DataFrame:
    """Distinct products of the orders that stand, with ``rows``, the number of orders of each."""
    names = list(PRODUCT)
    orders = tables.orders.filter(~pl.col("cancelled"))
    return orders.group_by(names).agg(rows=pl.len()).collect(engine="streaming").sort(names)


def classes_of(tables: RawTables, rule: Literal["route", "first_code"] = "route") -> pl.DataFrame:
    """The products of :func:`products_of` with ``drug``, ``atc3`` and ``status``, as the pipeline maps them."""
    others = None
    if tables.named_hicl is not None:
        others = tables.named_hicl.group_by(pl.all()).agg(rows=pl.len()).collect(engine="streaming")
    return build.map_products(products_of(tables), build.Options(class_rule=rule), others=others)


def rule_differences(tables: RawTables, least: int = 0) -> pl.DataFrame:
    """Class by ingredient and route against the first code of the ingredient in the index.

    Args:
        tables: canonical frames.
        least: products of fewer patients are left out, since their names would tell of these.

    Returns:
        ``drug``, ``by_route``, ``first_code``, ``rows`` (orders); one row each combination, equal classes included.
    """
    names = list(PRODUCT)
    ours = classes_of(tables).filter(pl.col("status") == "mapped")
    first = classes_of(tables, "first_code").filter(pl.col("status") == "mapped")
    both = ours.select(*names, "drug", "rows", by_route="atc3").join(
        first.select(*names, first_code="atc3"), on=names, nulls_equal=True
    )
    if least:
        people = tables.visits.select("visit_id", "patient_id").unique()
        patients = pl.col("patient_id").n_unique()
        had = tables.orders.filter(~pl.col("cancelled")).join(people, on="visit_id").group_by(names)
        common = had.agg(patients).filter(pl.col("patient_id") >= least).collect(engine="streaming")
        both = both.join(common, on=names, how="semi", nulls_equal=True)
    return (
        both.group_by("drug", "by_route", "first_code")
        .agg(pl.col("rows").sum())
        .sort(["rows", "drug"], descending=[True, False])
    )


# -- synthetic beside real --------------------------------------------------------------------------------------------


def frequencies(cohort: Cohort) -> pl.DataFrame:
    """Share of visits that hold each class, most frequent first: ``rank``, ``share``."""
    n = np.bincount(cohort.codes["medication"].values, minlength=cohort.n_medications)
    return pl.DataFrame({"rank": np.arange(1, len(n) + 1), "share": np.sort(n)[::-1] / cohort.n_visits})


def description(cohort: Cohort, draws: int = 0, seed: int = 0) -> pl.DataFrame:
    """The quantities of :func:`medrec.data.calibration.calibrate`, gaps and missing numbers.

    Args:
        cohort: any.
        draws: bootstrap samples of patients behind the 95 % interval; 0: no interval.
        seed: of the draws.

    Returns:
        ``quantity``, ``value``, ``low``, ``high``; null where the cohort cannot have the quantity.
    """

    def values(c: Cohort) -> list[float | None]:
        gaps = c.days_since_previous[np.isfinite(c.days_since_previous)]
        return [*calibrate(c)[c.name], float(np.median(gaps)) if len(gaps) else None]

    quantities = [*QUANTITIES, "days between admissions"]
    rng, n = np.random.default_rng(seed), cohort.n_patients
    drawn = np.array([values(cohort.select(rng.integers(0, n, n))) for _ in range(draws)], dtype=float)
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0) if draws else np.full((2, len(quantities)), np.nan)
    facts = cohort.report.facts
    missing = facts["orders_without_ndc"] / facts["orders_read"]
    rows = [*zip(quantities, values(cohort), low, high, strict=True)]
    rows.append(("orders without a product number", missing, np.nan, np.nan))
    schema = {"quantity": pl.String, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row", strict=False).fill_nan(None)


# -- kept values ------------------------------------------------------------------------------------------------------


def measure(name: str) -> dict[str, float]:
    """Every count of the chapter for one cohort, under ``trap/quantity``; a trap that it cannot show is left out."""
    tables, orders = raw_tables(name), raw_orders(name)
    layout = tables.layout
    out: dict[str, float] = {}

    def put(trap: str, numbers: Mapping[str, Any]) -> None:
        out.update({f"{trap}/{key}": float(value) for key, value in numbers.items()})

    if layout == "eicu":
        put("fill drug", filled_from(orders, "drug"))
    else:
        numbered = orders.filter(pl.col("ndc").fill_null("") != "0")
        put("fill ndc", filled_from(numbered, "ndc"))
        if (paths.data_dir() / "knowledge" / NDC_TABLES[0]).exists():
            put("published list", known_numbers(orders))
        if layout == "mimic3":
            put("fill icu", filled_from(numbered, "icu"))
            put("fill icu, all rows", filled_from(orders, "icu"))
        put("order", visit_order(visits_of(name)))
        time, ids = (repeat_last(load_cohort(name, visit_order=order)) for order in ("time", "id"))
        put("repeat last", {"time": np.nanmean(time), "id": np.nanmean(ids)} | loss_interval(time, ids))
    if layout == "mimic4":
        overlap = version_overlap(tables)
        for changed, rows in overlap.group_by("changed"):
            means = {reading: rows[reading].mean() for reading in ("text", "key", "group")}
            put("overlap changed" if changed[0] else "overlap same", {"pairs": len(rows), **means})
        for kind, rows in shared_strings(tables.titles.collect()).group_by("kind"):
            put("shared strings", {str(kind[0]): len(rows)})
    whole = load_cohort(name, require=("medication",))
    put("all visits", {"patients": whole.n_patients, "visits": whole.n_visits})
    given = whole.codes["medication"]
    for atc3 in ("A10A", "H04A"):
        if atc3 in whole.vocab["medication"].index:
            put("visits with", {atc3: np.sum(given.values == whole.vocab["medication"].index[atc3])})
    for window in ("whole_stay", "first_day"):
        cut = load_cohort(name, window=window)
        sets = cut.codes["medication"].multi_hot(cut.n_medications)
        ddi = ddi_matrix(cut.vocab["medication"].codes)
        put(window, {"classes": sets.sum(1).mean(), "DDI rate": metrics.ddi_rate(sets, ddi)})
    rules = rule_differences(tables)
    moved = rules.filter(pl.col("by_route") != pl.col("first_code"))["rows"].sum()
    put("class rule", {"orders": rules["rows"].sum(), "moved": moved})
    put("facts", load_cohort(name).report.facts)
    return out


WHOLES = {
    "order/reordered": "order/patients",
    "order/with future": "order/instances",
    "order/future": "order/slots",
    "visits with/A10A": "all visits/visits",
    "visits with/H04A": "all visits/visits",
}
"""Counts of :func:`measure` that stand beside the number of which they are a part."""
COUNTS = ("order/", "fill ", "visits with/", "all visits/", "facts/")


def told(cohort: Cohort, facts: Mapping[str, float]) -> dict[str, float]:
    """What may be told of :func:`measure`: counts that are too small are nan where the records are closed."""
    return {
        key: privacy.count(cohort, number, of=facts.get(WHOLES.get(key, ""))) if key.startswith(COUNTS) else number
        for key, number in facts.items()
    }


def loss_interval(time: NDArray, ids: NDArray, seed: int = 0, draws: int = 2000) -> dict[str, float]:
    """What the wrong order costs, with a 95 % bootstrap interval over patients: ``loss``, ``low``, ``high``."""
    loss = (time - ids)[np.isfinite(time)]
    means = loss[np.random.default_rng(seed).integers(0, len(loss), (draws, len(loss)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"loss": loss.mean(), "low": low, "high": high}


def fill_examples(name: str) -> pl.DataFrame:
    """Orders without an NDC, and the drug of the row above whose NDC they would inherit.

    Returns:
        ``drug``, ``becomes`` (null: no row above), ``other_patient``; each combination once.
    """
    kept = raw_orders(name).filter(pl.col("ndc").fill_null("") != "0")
    seen = pl.col("ndc").is_not_null()
    donor = [pl.when(seen).then(pl.col(c)).forward_fill().alias(f"donor_{c}") for c in ("patient", "drug")]
    return (
        kept.with_columns(donor)
        .filter(~seen)
        .select("drug", becomes="donor_drug", other_patient=pl.col("patient") != pl.col("donor_patient"))
        .unique()
        .sort("drug", "becomes")
    )


def read() -> kept.Kept:
    """The kept tables ``facts``, ``windows``, ``ledgers``, ``fills``, ``calibration``, ``frequencies``, ``table1``."""
    return kept.read(STUDY, command=COMMAND)


def stored_facts() -> dict[str, dict[str, float]]:
    """Demo → ``trap/quantity`` → value, from :func:`measure`."""
    rows = read().table("facts").iter_rows()
    table: dict[str, dict[str, float]] = {}
    for cohort, quantity, value in rows:
        table.setdefault(cohort, {})[quantity] = value
    return table


def main() -> None:
    """Make the kept values anew; the demos must lie in ``MEDREC_DATA_DIR``."""
    start = time.perf_counter()

    def label(name: str, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.select(pl.lit(name).alias("cohort"), pl.all()).with_columns(pl.selectors.float().round(6))

    facts = [pl.DataFrame({"quantity": list(m), "value": list(m.values())}) for m in map(measure, STORED)]
    frames = {
        "facts": [label(n, f) for n, f in zip(STORED, facts, strict=True)],
        "windows": [label(n, window_curve(arrivals(n))) for n in STORED],
        "ledgers": [label(n, f) for n in STORED if (f := published_ledger(n)) is not None],
        "fills": [label(n, fill_examples(n)) for n in STORED if n != "eicu-demo"],
        "calibration": [label(n, description(load_cohort(n), draws=200)) for n in STORED[:2]],
        "frequencies": [label(n, frequencies(load_cohort(n))) for n in STORED],
        "table1": [label(n, pl.DataFrame([load_cohort(n).describe()])) for n in (*STORED, *SIZES)],
    }
    folder = kept.save(
        STUDY,
        {name: pl.concat(parts) for name, parts in frames.items()},
        cohort=None,
        command=COMMAND,
        code=kept.code_of("medrec.experiments.table_traps", "data", "knowledge", "metrics"),
        seconds=time.perf_counter() - start,
        more={"records": {name: load_cohort(name).content for name in (*STORED, *SIZES)}},
    )
    print(folder)


if __name__ == "__main__":
    main()
