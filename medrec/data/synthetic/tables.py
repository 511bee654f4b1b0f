"""Stage 6: hospital tables in the layouts of MIMIC-III, MIMIC-IV and eICU, quirks included.

The columns are those of the real files; columns that no reader of this package uses hold plausible constants or are
empty. Quirks on purpose: admission ids in random order; NDC missing or ``0``; MIMIC-III start dates without a time;
carrier rows (``BASE``, ``ADDITIVE``) beside the drugs; in MIMIC-IV one ICD version a stay, changing over a patient's
years; in eICU path strings with both versions in one cell, padded and missing names, HICL numbers, cancelled orders,
``> 89`` as an age, several unit stays in one hospital stay.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec.data.synthetic.model import Stays
from medrec.data.synthetic.products import products
from medrec.data.synthetic.world import World

Draw = np.random.Generator

ORDERS_PER_CLASS = 1.6
"""Orders of one class in a stay beyond the first (new dose, new route), Poisson mean."""
FIRST_DAY = 0.58
NDC_MISSING = 0.035
CARRIER_PER_INFUSION = 0.55
CARRIERS = (
    # name, code, strength, size, weight
    ("0.9% Sodium Chloride", "NS100", "100mL Bag", "100", 30),
    ("5% Dextrose", "D5W250", "250mL Bag", "250", 18),
    ("Iso-Osmotic Dextrose", "VANCOBASE", "200mL Bag", "200", 14),
    ("Bag", "BAG50", "50 mL Bag", "50", 16),
    ("0.9% Sodium Chloride (Mini Bag Plus)", "NS/MBP100I", "100mL Bag", "100", 8),
    ("Sterile Water", "SW100", "100 mL Bag", "100", 6),
    ("Lactated Ringers", "LR1000", "1000mL Bag", "1000", 8),
)
FLUSH = ("Sodium Chloride 0.9%  Flush", "NACLFLUSH", "10 mL Syringe", "3")
UNMAPPABLE = ("Syringe (Neonatal) *D5W*", "Vial", "Readi-Cat 2 (Barium Sulfate 2% Suspension)")
CANCELLED = 0.035
NAME_MISSING = 0.40
HICL_MISSING = 0.06


def write(folder: Path, layout: str, world: World, stays: Stays, titles: pl.DataFrame, rng: Draw) -> None:
    """Write all tables of one layout into an existing folder."""
    writer = {"mimic3": _mimic3, "mimic4": _mimic4, "eicu": _eicu}[layout]
    writer(folder, world, _Tables(world, stays, rng), titles, rng)


class _Tables:
    """What the layouts share: identifiers, times, long tables of codes and orders."""

    def __init__(self, world: World, stays: Stays, rng: Draw) -> None:
        self.world, self.stays = world, stays
        counts = np.diff(stays.visit_offsets)
        P, V = len(counts), int(stays.visit_offsets[-1])
        self.patient = np.repeat(np.arange(P), counts)
        self.number = np.arange(V) - stays.visit_offsets[:-1][self.patient]

        # Each patient starts at a moment in a shifted century; stays follow by length and gap.
        start = rng.integers(0, 60 * 365 * 1440, P)[self.patient]
        step = np.round(np.where(self.number == 0, 0, stays.gap) * 1440).astype(np.int64)
        length = np.maximum(np.round(stays.length * 1440), 300).astype(np.int64)
        span = step + np.concatenate([[0], np.where(self.number[1:] == 0, 0, length[:-1])])
        total = np.cumsum(span)
        minute = start + total - total[stays.visit_offsets[:-1]][self.patient]
        origin = np.datetime64("2110-01-01T00:00", "m")
        self.admit = origin + minute
        self.discharge = self.admit + length
        self.length = length
        self.age = stays.age[self.patient] + (minute - minute[stays.visit_offsets[:-1]][self.patient]) / (
            1440 * 365.2425
        )

    def times(self, values: NDArray) -> pl.Series:
        return pl.Series(values.astype("datetime64[ms]")).dt.to_string("%Y-%m-%d %H:%M:%S")

    def codes(self, kind: str, version: int | None) -> pl.DataFrame:
        """Long table visit, seq, code9, code10 (or code, in one version), without repeats in a visit."""
        rows, pairs = getattr(self.stays, kind), getattr(self.world, kind)
        frame = pl.DataFrame({"visit": rows.row_of_value, "pair": rows.values}).join(
            pl.DataFrame({"pair": np.arange(len(pairs), dtype=np.int32), "code9": pairs[:, 0], "code10": pairs[:, 1]}),
            on="pair", how="left", maintain_order="left",
        )  # fmt: skip
        if version is not None:
            frame = frame.with_columns(code=pl.col(f"code{version}")).unique(
                ["visit", "code"], keep="first", maintain_order=True
            )
        return frame

    def orders(self, rng: Draw) -> pl.DataFrame:
        """One row an order: visit, product row, minutes after admission (start, stop), in order of time."""
        stays, table = self.stays, products()
        rows = stays.medications
        V = len(rows)
        n = 1 + rng.poisson(ORDERS_PER_CLASS, len(rows.values))
        visit = np.repeat(rows.row_of_value, n)
        of_class = np.repeat(rows.values, n)

        # A product of the class, by weight; a patient mostly stays with one product.
        class_of_product = table["atc3"].replace_strict(
            {code: i for i, code in enumerate(self.world.classes)}, default=-1, return_dtype=pl.Int64
        ).to_numpy()  # fmt: skip
        order = np.argsort(class_of_product, kind="stable")
        weight = table["weight"].to_numpy()[order]
        klass = class_of_product[order]
        cumulative = np.cumsum(weight)
        begin = np.searchsorted(klass, np.arange(len(self.world.classes)))
        base = np.concatenate([[0.0], cumulative])[begin]
        end = np.searchsorted(klass, np.arange(len(self.world.classes)), side="right")
        mass = np.concatenate([[0.0], cumulative])[end] - base
        key = self.patient[visit].astype(np.uint64) * np.uint64(len(self.world.classes)) + of_class.astype(np.uint64)
        habit = _hash_uniform(key)
        uniform = np.where(rng.random(len(visit)) < 0.75, habit, rng.random(len(visit)))
        product = order[
            np.searchsorted(cumulative, base[of_class] + uniform * mass[of_class], side="right").clip(0, len(order) - 1)
        ]

        length = self.length[visit]
        first = np.repeat(np.cumsum(n) - n, n) == np.arange(len(visit))
        day_one = rng.random(len(visit)) < np.where(first, FIRST_DAY, 0.3)
        start = np.where(
            day_one, np.minimum(rng.exponential(240, len(visit)), 1200), rng.random(len(visit)) * length * 0.9
        )
        start = np.minimum(start, length - 60).astype(np.int64)
        stop = np.minimum(start + 60 * (1 + rng.exponential(40, len(visit))).astype(np.int64), length)
        frame = pl.DataFrame({"visit": visit, "product": product, "start": start, "stop": stop})
        return frame.sort("visit", "start", maintain_order=True)


def _hash_uniform(key: NDArray[np.uint64]) -> NDArray[np.float64]:
    """A fixed uniform number for each key (splitmix64), so that a patient's habit needs no table."""
    with np.errstate(over="ignore"):
        z = key + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) / 2**53


def save(frame: pl.DataFrame, path: Path) -> None:
    """CSV, gzip-compressed without a time stamp: same frame, same bytes."""
    with gzip.GzipFile(path, "wb", compresslevel=1, mtime=0) as zipped:
        frame.write_csv(zipped)


def _pick(rng: Draw, values: dict[str, float], size: int) -> NDArray[np.str_]:
    p = np.array(list(values.values()))
    return np.array(list(values))[np.searchsorted(np.cumsum(p / p.sum()), rng.random(size)).clip(0, len(p) - 1)]


def _ids(rng: Draw, size: int, low: int, high: int) -> NDArray[np.int64]:
    """Distinct random identifiers in random order."""
    return rng.choice(high - low, size, replace=False) + low


RACE = {"WHITE": 70, "BLACK/AFRICAN AMERICAN": 12, "HISPANIC/LATINO": 6, "ASIAN": 4, "UNKNOWN": 5, "OTHER": 3}
MARITAL = {"MARRIED": 45, "SINGLE": 32, "WIDOWED": 15, "DIVORCED": 8}


def _prescriptions(tables: _Tables, rng: Draw) -> pl.DataFrame:
    """Orders, carriers and flushes of MIMIC: visit, start, stop, drug_type and the columns of the product."""
    orders = tables.orders(rng)
    table = products().with_row_index("product").with_columns(pl.col("product").cast(pl.Int64))
    main = orders.join(table, on="product", how="left", maintain_order="left").select(
        "visit", "start", "stop", pl.lit("MAIN").alias("drug_type"), "name", "code", "gsn", "ndc", "strength", "dose",
        "unit", "form", "route",
    )  # fmt: skip
    n = len(main)
    main = main.with_columns(
        group=pl.int_range(n), ndc=pl.when(pl.Series(rng.random(n) >= NDC_MISSING)).then(pl.col("ndc")), last=pl.lit(0)
    )
    infused = main.filter(pl.col("route").is_in(["IV", "IV DRIP"])).filter(
        pl.Series(rng.random(main["route"].is_in(["IV", "IV DRIP"]).sum()) < CARRIER_PER_INFUSION)
    )
    weight = np.array([c[4] for c in CARRIERS], dtype=float)
    which = np.searchsorted(np.cumsum(weight / weight.sum()), rng.random(len(infused))).clip(0, len(CARRIERS) - 1)
    column = {
        name: pl.Series(np.array([c[i] for c in CARRIERS])[which])
        for i, name in enumerate(("name", "code", "strength", "dose"))
    }
    bag = pl.Series(which == 3)
    base = infused.with_columns(
        **column, drug_type=pl.when(pl.Series(rng.random(len(infused)) < 0.015)).then(pl.lit("ADDITIVE")).otherwise(pl.lit("BASE")),
        gsn=pl.lit(None, dtype=pl.String), unit=pl.when(bag).then(pl.lit("BAG")).otherwise(pl.lit("mL")), form=pl.lit("BAG"),
        ndc=pl.when(bag | pl.Series(rng.random(len(infused)) < 0.15)).then(None).otherwise(
            pl.lit("99001") + pl.Series(1000 + which).cast(pl.String) + pl.lit("10")),
        last=pl.lit(1),
    )  # fmt: skip
    V = len(tables.length)
    flushed = np.flatnonzero(rng.random(V) < 0.8)
    flush = pl.DataFrame({"visit": flushed, "start": np.full(len(flushed), 5), "stop": tables.length[flushed]}).select(
        "visit", "start", "stop", drug_type=pl.lit("MAIN"), name=pl.lit(FLUSH[0]), code=pl.lit(FLUSH[1]), gsn=pl.lit(None, dtype=pl.String),
        ndc=pl.lit(None, dtype=pl.String), strength=pl.lit(FLUSH[2]), dose=pl.lit(FLUSH[3]), unit=pl.lit("mL"),
        form=pl.lit("SYR"), route=pl.lit("IV"), group=pl.lit(-1, dtype=pl.Int64), last=pl.lit(0),
    )  # fmt: skip
    every = pl.concat([main, base, flush], how="vertical_relaxed")
    # Patients by id, the rows of a patient in no order of time: as the real table stands.
    return every.with_columns(patient=pl.Series(tables.patient[every["visit"].to_numpy()])).sort(
        "patient", "visit", "group", "last", maintain_order=True
    )


# -- MIMIC-IV ---------------------------------------------------------------------------------------------------------


def _mimic4(folder: Path, world: World, tables: _Tables, titles: pl.DataFrame, rng: Draw) -> None:
    stays = tables.stays
    hosp = folder / "hosp"
    hosp.mkdir(parents=True, exist_ok=True)
    P, V = len(stays.age), len(tables.patient)
    subject = np.sort(_ids(rng, P, 10_000_000, 20_000_000))
    hadm = _ids(rng, V, 20_000_000, 30_000_000)
    s, death = subject[tables.patient], tables.times(tables.discharge)
    died = pl.Series(stays.died)
    text = tables.times(tables.admit)

    first = stays.visit_offsets[:-1]
    year = tables.admit[first].astype("datetime64[Y]").astype(int) + 1970
    age = np.floor(stays.age).astype(int)
    lastday = pl.Series(tables.discharge[stays.visit_offsets[1:] - 1].astype("datetime64[ms]")).dt.to_string("%Y-%m-%d")
    save(pl.DataFrame({
        "subject_id": subject, "gender": np.where(stays.female, "F", "M"), "anchor_age": np.where(age > 89, 91, age),
        "anchor_year": year, "anchor_year_group": _pick(rng, {"2008 - 2010": 4, "2011 - 2013": 3, "2014 - 2016": 3}, P),
        "dod": pl.select(pl.when(pl.Series(stays.died[stays.visit_offsets[1:] - 1])).then(lastday)).to_series(),
    }), hosp / "patients.csv.gz")  # fmt: skip

    emergency = rng.random(V) < 0.7
    save(pl.DataFrame({
        "subject_id": s, "hadm_id": hadm, "admittime": text, "dischtime": death,
        "deathtime": pl.select(pl.when(died).then(death)).to_series(),
        "admission_type": np.where(emergency, "EW EMER.", "URGENT"), "admit_provider_id": _provider(rng, V),
        "admission_location": np.where(emergency, "EMERGENCY ROOM", "PHYSICIAN REFERRAL"),
        "discharge_location": np.where(stays.died, "DIED", _pick(rng, {"HOME": 5, "HOME HEALTH CARE": 4, "SKILLED NURSING FACILITY": 3}, V)),
        "insurance": _pick(rng, {"Medicare": 5, "Other": 4, "Medicaid": 1}, V), "language": _pick(rng, {"ENGLISH": 9, "?": 1}, V),
        "marital_status": _pick(rng, MARITAL, P)[tables.patient], "race": _pick(rng, RACE, P)[tables.patient],
        "edregtime": pl.select(pl.when(pl.Series(emergency)).then(tables.times(tables.admit - 300))).to_series(),
        "edouttime": pl.select(pl.when(pl.Series(emergency)).then(tables.times(tables.admit - 20))).to_series(),
        "hospital_expire_flag": stays.died.astype(int),
    }), hosp / "admissions.csv.gz")  # fmt: skip

    # The hospital changed to ICD-10 at one date of its true calendar, which shifted years hide: for a patient it falls
    # before, between or after the stays.
    change = rng.random(P) * 1.6
    share = (tables.admit - tables.admit[first][tables.patient]).astype(float) / (1440 * 365.2425 * 3)
    ten = share + rng.random(P)[tables.patient] > change[tables.patient]
    version = np.where(ten, 10, 9)
    for kind, name in (("diagnoses", "diagnoses_icd"), ("procedures", "procedures_icd")):
        frame = tables.codes(kind, None)
        visit = frame["visit"].to_numpy()
        frame = frame.with_columns(
            icd_version=pl.Series(version[visit]),
            icd_code=pl.when(pl.Series(ten[visit])).then(pl.col("code10")).otherwise(pl.col("code9")),
        ).unique(["visit", "icd_code"], keep="first", maintain_order=True)
        frame = frame.with_columns(seq_num=pl.int_range(pl.len()).over("visit") + 1)
        visit = frame["visit"].to_numpy()
        ids = frame.select(subject_id=pl.Series(s[visit]), hadm_id=pl.Series(hadm[visit]), seq_num="seq_num")
        if kind == "procedures":
            day = tables.admit[visit] + (rng.random(len(visit)) * tables.length[visit]).astype(int)
            ids = ids.with_columns(chartdate=pl.Series(day.astype("datetime64[ms]")).dt.to_string("%Y-%m-%d"))
        save(ids.with_columns(frame["icd_code"], frame["icd_version"]), hosp / f"{name}.csv.gz")
    for kind, name in (("diagnosis", "d_icd_diagnoses"), ("procedure", "d_icd_procedures")):
        save(
            titles.filter(kind=kind).select(icd_code="code", icd_version="version", long_title="title"),
            hosp / f"{name}.csv.gz",
        )

    rows = _prescriptions(tables, rng)
    visit = rows["visit"].to_numpy()
    n = len(rows)
    order = 1 + rows["group"].to_numpy()
    save(rows.select(
        subject_id=pl.Series(s[visit]), hadm_id=pl.Series(hadm[visit]), pharmacy_id=pl.Series(10_000_000 + order),
        poe_id=pl.Series(s[visit]).cast(pl.String) + "-" + pl.Series(order).cast(pl.String), poe_seq=pl.Series(order),
        order_provider_id=pl.Series(_provider(rng, n)), starttime=tables.times(_hour(tables.admit[visit] + rows["start"].to_numpy())),
        stoptime=tables.times(_hour(tables.admit[visit] + rows["stop"].to_numpy())), drug_type="drug_type", drug="name",
        formulary_drug_cd="code", gsn="gsn", ndc=pl.when(pl.col("ndc").is_null()).then(pl.lit("0")).otherwise(pl.col("ndc")),
        prod_strength="strength", form_rx=pl.lit(None), dose_val_rx="dose", dose_unit_rx="unit", form_val_disp=pl.lit("1"),
        form_unit_disp="form", doses_per_24_hrs=pl.lit(None), route="route",
    ), hosp / "prescriptions.csv.gz")  # fmt: skip
    _symptoms(folder, world, tables, s, hadm)


def _hour(minutes: NDArray) -> NDArray:
    return minutes.astype("datetime64[h]").astype("datetime64[m]")


def _provider(rng: Draw, size: int) -> NDArray[np.str_]:
    names = np.array([f"P{i:02d}{chr(65 + i % 26)}{chr(65 + (i * 7) % 26)}{i % 10}" for i in range(100)])
    return names[rng.integers(0, 100, size)]


def _symptoms(folder: Path, world: World, tables: _Tables, subject: NDArray, hadm: NDArray) -> None:
    """``symptoms.csv.gz``: what the discharge note would tell. No table of the real databases; they have the notes."""
    rows = tables.stays.symptoms
    visit = rows.row_of_value
    save(pl.DataFrame({
        "subject_id": subject[visit], "hadm_id": hadm[visit], "symptom": np.array(world.symptoms)[rows.values],
    }), folder / "symptoms.csv.gz")  # fmt: skip


def _mimic3(folder: Path, world: World, tables: _Tables, titles: pl.DataFrame, rng: Draw) -> None:
    raise NotImplementedError


def _eicu(folder: Path, world: World, tables: _Tables, titles: pl.DataFrame, rng: Draw) -> None:
    raise NotImplementedError
