"""Stage 6: hospital tables in the layouts of MIMIC-III, MIMIC-IV and eICU, quirks included.

The columns are those of the real files; columns that no reader of this package uses hold plausible constants or are
empty. Quirks on purpose: admission ids in random order, and rows in the order of ids; NDC missing or ``0``; MIMIC-III
start dates without a time, and ages above 89 as births three centuries ago; carrier rows (``BASE``, ``ADDITIVE``)
beside the drugs; in MIMIC-IV one ICD version a stay, changing over a patient's years; in eICU path strings, both
versions in one cell, missing and padded names, HICL numbers, cancelled orders, ``> 89`` as an age, several unit stays
in one hospital stay and only a year to order hospital stays by. ``admissionDx``, ``treatment`` and ``infusiondrug`` of
eICU are not written: nothing reads them.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec.data.synthetic.model import Stays
from medrec.data.synthetic.products import products
from medrec.data.synthetic.world import World
from medrec.progress import bar

Draw = np.random.Generator

CHUNK = 8192
"""Patients whose orders are held in memory at once."""

ORDERS_PER_CLASS = 1.6
"""Orders of one class in a stay beyond the first (new dose, new route), Poisson mean."""
LOYALTY = 0.75
"""Share of a patient's orders that are for the product that the patient always has, within the class."""
FIRST_DAY = 0.58
NDC_MISSING = 0.075
CARRIER_PER_INFUSION = 0.55
ADDITIVE = 0.015
CARRIERS = (
    # name, code, strength, size, share
    ("0.9% Sodium Chloride", "NS100", "100mL Bag", "100", 30),
    ("5% Dextrose", "D5W250", "250mL Bag", "250", 18),
    ("Iso-Osmotic Dextrose", "VANCOBASE", "200mL Bag", "200", 14),
    ("Bag", "BAG50", "50 mL Bag", "1", 16),
    ("0.9% Sodium Chloride (Mini Bag Plus)", "NS/MBP100I", "100mL Bag", "100", 8),
    ("Sterile Water", "SW100", "100 mL Bag", "100", 6),
    ("Lactated Ringers", "LR1000", "1000mL Bag", "1000", 8),
)
BAG = 3
FLUSH = {"name": "Sodium Chloride 0.9%  Flush", "code": "NACLFLUSH", "strength": "10 mL Syringe", "dose": "3"}
NO_ICU = 0.32

CANCELLED = 0.035
NAME_MISSING = 0.40
HICL_MISSING = 0.06
CODE_MISSING = 0.15
NAME_WIDTH = 255

RACE = {"WHITE": 70, "BLACK/AFRICAN AMERICAN": 12, "HISPANIC/LATINO": 6, "ASIAN": 4, "UNKNOWN": 5, "OTHER": 3}
MARITAL = {"MARRIED": 45, "SINGLE": 32, "WIDOWED": 15, "DIVORCED": 8}
INSURANCE = {"Medicare": 55, "Private": 30, "Medicaid": 12, "Government": 3}
RELIGION = {"CATHOLIC": 45, "NOT SPECIFIED": 30, "PROTESTANT QUAKER": 12, "JEWISH": 8, "UNOBTAINABLE": 5}
ETHNICITY = {"Caucasian": 78, "African American": 11, "Hispanic": 5, "Asian": 2, "Other/Unknown": 4}
SYSTEM_OF_CHAPTER = {
    "A": "infectious diseases", "B": "infectious diseases", "C": "oncology", "D": "hematology", "E": "endocrine",
    "F": "neurologic", "G": "neurologic", "I": "cardiovascular", "J": "pulmonary", "K": "gastrointestinal",
    "N": "renal", "S": "trauma", "T": "toxicology",
}  # fmt: skip
"""First step of an eICU path by ICD-10 chapter; anything else is ``general``."""


def write(folder: Path, layout: str, world: World, stays: Stays, titles: pl.DataFrame, rng: Draw) -> None:
    """Write all tables of one layout into an existing folder."""
    writer = {"mimic3": _mimic3, "mimic4": _mimic4, "eicu": _eicu}[layout]
    writer(folder, _Hospital(world, stays, rng), titles, rng)


class _Hospital:
    """What the layouts share: times, long tables of codes, orders.

    Attributes:
        patient: ``(V,)`` row of the patient; number: ``(V,)`` 0 for the first stay.
        admit, discharge: ``(V,)`` datetime64[m]; length: ``(V,)`` minutes; age: ``(V,)`` years at admission.
    """

    def __init__(self, world: World, stays: Stays, rng: Draw) -> None:
        self.world, self.stays = world, stays
        counts = np.diff(stays.visit_offsets)
        self.first = stays.visit_offsets[:-1]
        self.patient = np.repeat(np.arange(len(counts)), counts)
        self.number = np.arange(len(self.patient)) - self.first[self.patient]

        # Each patient starts at a moment of a shifted century; stays follow by length and gap.
        self.length = np.maximum(np.round(stays.length * 1440), 300).astype(np.int64)
        after = np.where(self.number == 0, 0, np.round(stays.gap * 1440).astype(np.int64) + np.roll(self.length, 1))
        elapsed = np.cumsum(after)
        elapsed -= elapsed[self.first][self.patient]
        start = rng.integers(0, 60 * 365 * 1440, len(counts))
        self.admit = np.datetime64("2110-01-01T00:00", "m") + start[self.patient] + elapsed
        self.discharge = self.admit + self.length
        self.age = stays.age[self.patient] + elapsed / (1440 * 365.2425)

    @property
    def last_discharge(self) -> NDArray[np.datetime64]:
        """``(P,)``."""
        last: NDArray[np.datetime64] = self.discharge[self.stays.visit_offsets[1:] - 1]
        return last

    @property
    def died(self) -> NDArray[np.bool_]:
        """``(P,)`` whether the patient died in the last stay."""
        return self.stays.died[self.stays.visit_offsets[1:] - 1]

    def codes(self, kind: str) -> pl.DataFrame:
        """Long table in billing order: visit, pair (row of ``world.diagnoses``), code9, code10."""
        rows, pairs = getattr(self.stays, kind), getattr(self.world, kind)
        return pl.DataFrame(
            {
                "visit": rows.row_of_value,
                "pair": rows.values,
                "code9": pairs[rows.values, 0],
                "code10": pairs[rows.values, 1],
            }
        )

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Ranges of visits, whole patients each."""
        for p in range(0, len(self.first), CHUNK):
            yield int(self.first[p]), int(self.stays.visit_offsets[min(p + CHUNK, len(self.first))])

    def orders(self, rng: Draw, low: int, high: int) -> pl.DataFrame:
        """One row an order of the visits low..high: visit, class, start, stop (minutes after admission), product.

        Sorted by visit and start.
        """
        rows = self.stays.medications
        values = rows.values[rows.offsets[low] : rows.offsets[high]]
        n = 1 + rng.poisson(ORDERS_PER_CLASS, len(values))
        visit = np.repeat(rows.row_of_value[rows.offsets[low] : rows.offsets[high]], n)
        medication = np.repeat(values, n).astype(np.int64)

        M = len(self.world.classes)
        key = self.patient[visit].astype(np.uint64) * np.uint64(M) + medication.astype(np.uint64)
        uniform = np.where(rng.random(len(visit)) < LOYALTY, _hashed_uniform(key), rng.random(len(visit)))
        product = self._product(medication, uniform)

        length = self.length[visit]
        is_first = np.repeat(np.cumsum(n) - n, n) == np.arange(len(visit))
        early = rng.random(len(visit)) < np.where(is_first, FIRST_DAY, 0.3)
        start = np.where(
            early, np.minimum(rng.exponential(240, len(visit)), 1200), rng.random(len(visit)) * length * 0.9
        )
        start = np.minimum(start, length - 60).astype(np.int64)
        stop = np.minimum(start + 60 * (1 + rng.exponential(40, len(visit)).astype(np.int64)), length)
        frame = pl.DataFrame(
            {"visit": visit, "medication": medication, "start": start, "stop": stop, "product": product}
        )
        return frame.join(_pharmacy(), on="product", how="left", maintain_order="left").sort(
            "visit", "start", maintain_order=True
        )

    def _product(self, medication: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """A product of each class, by weight, from a uniform number."""
        index = {code: i for i, code in enumerate(self.world.classes)}
        klass = _pharmacy()["atc3"].replace_strict(index, default=-1, return_dtype=pl.Int64).to_numpy()
        order = np.argsort(klass, kind="stable")
        edges = np.concatenate([[0.0], np.cumsum(_pharmacy()["weight"].to_numpy()[order])])
        begin, end = (edges[np.searchsorted(klass[order], np.arange(len(index)), side)] for side in ("left", "right"))
        point = begin[medication] + uniform * (end - begin)[medication]
        chosen: NDArray[np.int64] = order[np.searchsorted(edges, point, side="right") - 1]
        return chosen


def _pharmacy() -> pl.DataFrame:
    return products().with_row_index("product").with_columns(pl.col("product").cast(pl.Int64))


def _hashed_uniform(key: NDArray[np.uint64]) -> NDArray[np.float64]:
    """A fixed uniform number for each key (splitmix64, Steele et al. 2014): a habit that needs no table."""
    with np.errstate(over="ignore"):
        z = key + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) / 2**53


def _save(path: Path, frames: pl.DataFrame | Iterable[pl.DataFrame], *, upper: bool = False) -> None:
    """CSV, gzip-compressed without a time stamp: same frames, same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as zipped,
        bar(desc=f"writing {path.name}", unit="row") as shown,
    ):
        for i, frame in enumerate([frames] if isinstance(frames, pl.DataFrame) else frames):
            frame = frame.rename(str.upper) if upper else frame
            frame.write_csv(cast(IO[bytes], zipped), include_header=i == 0)
            shown.update(len(frame))


def _time(values: NDArray[np.datetime64]) -> pl.Series:
    return pl.Series(values.astype("datetime64[ms]")).dt.to_string("%Y-%m-%d %H:%M:%S")


def _day(values: NDArray[np.datetime64]) -> pl.Series:
    return pl.Series(values.astype("datetime64[ms]")).dt.to_string("%Y-%m-%d")


def _only(condition: NDArray[np.bool_], values: pl.Series) -> pl.Series:
    """``values`` where the condition holds, else empty."""
    return pl.select(pl.when(pl.Series(condition)).then(values)).to_series()


def _pick(rng: Draw, shares: Mapping[str, float], size: int) -> NDArray[np.str_]:
    edges = np.cumsum(list(shares.values()))
    picked: NDArray[np.str_] = np.array(list(shares))[
        np.searchsorted(edges, rng.random(size) * edges[-1], side="right")
    ]
    return picked


def _ids(rng: Draw, size: int, low: int, high: int) -> NDArray[np.int64]:
    """Distinct random identifiers, in random order; the range grows when it is too small."""
    return rng.choice(max(high - low, 2 * size), size, replace=False) + low


def _hospital_orders(hospital: _Hospital, rng: Draw, low: int, high: int, hadm: NDArray[Any]) -> pl.DataFrame:
    """Orders as MIMIC's pharmacy lists them: drugs, each infusion's carrier, flushes; by patient and admission id."""
    main = hospital.orders(rng, low, high)
    n = len(main)
    main = main.with_columns(
        drug_type=pl.lit("MAIN"),
        group=pl.int_range(1, n + 1),
        ndc=pl.when(pl.Series(rng.random(n) >= NDC_MISSING)).then(pl.col("ndc")),
    )
    infused = main.filter(pl.col("route").is_in(["IV", "IV DRIP"]) & pl.Series(rng.random(n) < CARRIER_PER_INFUSION))
    edges = np.cumsum([c[4] for c in CARRIERS])
    which = np.searchsorted(edges, rng.random(len(infused)) * edges[-1], side="right")
    bag = which == BAG
    base = infused.with_columns(
        **{
            key: pl.Series(np.array([c[i] for c in CARRIERS])[which])
            for i, key in enumerate(("name", "code", "strength", "dose"))
        },
        drug_type=pl.Series(np.where(rng.random(len(infused)) < ADDITIVE, "ADDITIVE", "BASE")),
        gsn=pl.lit(None, dtype=pl.String),
        ndc=_only(
            ~bag & (rng.random(len(infused)) > 0.2),
            pl.Series(np.char.add("990011", (np.arange(7) + 10000).astype(str))[which]),
        ),
        unit=pl.Series(np.where(bag, "BAG", "mL")),
        form=pl.lit("BAG"),
    )
    flushed = low + np.flatnonzero(rng.random(high - low) < 0.8)
    flush = pl.DataFrame({"visit": flushed, "start": 5, "stop": hospital.length[flushed]}).with_columns(
        **{key: pl.lit(value) for key, value in FLUSH.items()},
        drug_type=pl.lit("MAIN"),
        group=pl.lit(0),
        unit=pl.lit("mL"),
        form=pl.lit("SYR"),
        route=pl.lit("IV"),
    )
    rows = pl.concat([main, base, flush], how="diagonal_relaxed")
    visit = rows["visit"].to_numpy()
    return rows.with_columns(
        patient=pl.Series(hospital.patient[visit]),
        hadm=pl.Series(hadm[visit]),
        begin=pl.Series((hospital.admit[visit] + rows["start"].to_numpy()).astype("datetime64[ms]")),
        end=pl.Series((hospital.admit[visit] + rows["stop"].to_numpy()).astype("datetime64[ms]")),
    ).sort("patient", "hadm", "group", maintain_order=True)


def _in_version(frame: pl.DataFrame, ten: NDArray[np.bool_]) -> pl.DataFrame:
    """Codes in the version of their stay, each once a stay, numbered in billing order."""
    return (
        frame.with_columns(
            code=pl.when(pl.Series(ten[frame["visit"].to_numpy()])).then(pl.col("code10")).otherwise(pl.col("code9"))
        )
        .unique(["visit", "code"], keep="first", maintain_order=True)
        .with_columns(seq=pl.int_range(1, pl.len() + 1).over("visit"))
    )


def _save_symptoms(
    folder: Path, hospital: _Hospital, names: tuple[str, str], subject: NDArray[Any], hadm: NDArray[Any]
) -> None:
    """``symptoms.csv.gz``: what a discharge note would tell. The real databases have notes instead of this table."""
    rows = hospital.stays.symptoms
    visit = rows.row_of_value
    symptom = np.array(hospital.world.symptoms)[rows.values]
    _save(
        folder / "symptoms.csv.gz", pl.DataFrame({names[0]: subject[visit], names[1]: hadm[visit], "symptom": symptom})
    )


# -- MIMIC-III --------------------------------------------------------------------------------------------------------


def _mimic3(folder: Path, hospital: _Hospital, titles: pl.DataFrame, rng: Draw) -> None:
    stays = hospital.stays
    P, V = len(stays.age), len(hospital.patient)
    subject = np.sort(_ids(rng, P, 3, 100_000))
    hadm = _ids(rng, V, 100_000, 200_000)
    icu = np.where(rng.random(V) < NO_ICU, -1, _ids(rng, V, 200_000, 300_000))
    s = subject[hospital.patient]

    # Births of patients above 89 at any stay are moved back three centuries.
    old = np.maximum.reduceat(hospital.age, hospital.first) > 89
    birth = hospital.admit[hospital.first] - np.round((stays.age + 200 * old) * 365.2425 * 1440).astype(np.int64)
    gone = _only(hospital.died, _time(hospital.last_discharge.astype("datetime64[D]")))
    patients = {
        "row_id": np.arange(1, P + 1),
        "subject_id": subject,
        "gender": np.where(stays.female, "F", "M"),
        "dob": _time(birth.astype("datetime64[D]")),
        "dod": gone,
        "dod_hosp": gone,
        "dod_ssn": pl.Series([None] * P, dtype=pl.String),
        "expire_flag": hospital.died.astype(int),
    }
    _save(folder / "PATIENTS.csv.gz", pl.DataFrame(patients), upper=True)

    emergency = rng.random(V) < 0.85
    title = titles.filter(version=9, kind="diagnosis")
    first_code = hospital.codes("diagnoses").unique("visit", keep="first", maintain_order=True)
    reason = first_code.join(title, left_on="code9", right_on="code", how="left", maintain_order="left")
    admissions = pl.DataFrame(
        {
            "row_id": np.arange(1, V + 1),
            "subject_id": s,
            "hadm_id": hadm,
            "admittime": _time(hospital.admit),
            "dischtime": _time(hospital.discharge),
            "deathtime": _only(stays.died, _time(hospital.discharge)),
            "admission_type": np.where(emergency, "EMERGENCY", "ELECTIVE"),
            "admission_location": np.where(emergency, "EMERGENCY ROOM ADMIT", "PHYS REFERRAL/NORMAL DELI"),
            "discharge_location": np.where(
                stays.died, "DEAD/EXPIRED", _pick(rng, {"HOME": 4, "SNF": 3, "HOME HEALTH CARE": 3}, V)
            ),
            "insurance": _pick(rng, INSURANCE, V),
            "language": _only(rng.random(V) < 0.63, pl.Series(["ENGL"] * V)),
            "religion": _pick(rng, RELIGION, P)[hospital.patient],
            "marital_status": _pick(rng, MARITAL, P)[hospital.patient],
            "ethnicity": _pick(rng, RACE, P)[hospital.patient],
            "edregtime": _only(emergency, _time(hospital.admit - 300)),
            "edouttime": _only(emergency, _time(hospital.admit - 20)),
            "visit": np.arange(V),
        }
    ).join(
        reason.select("visit", diagnosis=pl.col("title").str.to_uppercase()),
        on="visit",
        how="left",
        maintain_order="left",
    )
    admissions = admissions.drop("visit").with_columns(
        hospital_expire_flag=pl.Series(stays.died.astype(int)), has_chartevents_data=pl.lit(1)
    )
    _save(folder / "ADMISSIONS.csv.gz", admissions.sort("subject_id", "hadm_id"), upper=True)

    for kind, name in (("diagnoses", "DIAGNOSES_ICD"), ("procedures", "PROCEDURES_ICD")):
        rows = _in_version(hospital.codes(kind), np.zeros(V, dtype=bool))
        visit = rows["visit"].to_numpy()
        rows = rows.select(
            subject_id=pl.Series(s[visit]), hadm_id=pl.Series(hadm[visit]), seq_num="seq", icd9_code="code"
        )
        rows = rows.sort("subject_id", "hadm_id", "seq_num").with_row_index("row_id", 1)
        _save(folder / f"{name}.csv.gz", rows, upper=True)
    for kind, name in (("diagnosis", "D_ICD_DIAGNOSES"), ("procedure", "D_ICD_PROCEDURES")):
        rows = titles.filter(version=9, kind=kind).select(
            icd9_code="code", short_title=pl.col("title").str.head(24), long_title="title"
        )
        _save(folder / f"{name}.csv.gz", rows.with_row_index("row_id", 1), upper=True)

    def prescriptions() -> Iterator[pl.DataFrame]:
        done = 0
        for low, high in hospital.chunks():
            rows = _hospital_orders(hospital, rng, low, high, hadm)
            visit = rows["visit"].to_numpy()
            n = len(rows)
            poe = pl.when(pl.Series(rng.random(n) < 0.55)).then(pl.col("name"))
            yield rows.select(
                row_id=pl.int_range(done + 1, done + n + 1),
                subject_id=pl.Series(s[visit]),
                hadm_id="hadm",
                icustay_id=_only(icu[visit] >= 0, pl.Series(icu[visit])),
                # A day, no time of day.
                startdate=_time(rows["begin"].to_numpy().astype("datetime64[D]")),
                enddate=_time(rows["end"].to_numpy().astype("datetime64[D]")),
                drug_type="drug_type",
                drug="name",
                drug_name_poe=poe,
                drug_name_generic=poe,
                formulary_drug_cd="code",
                gsn="gsn",
                ndc=pl.col("ndc").fill_null("0"),
                prod_strength="strength",
                dose_val_rx="dose",
                dose_unit_rx="unit",
                form_val_disp=pl.lit("1"),
                form_unit_disp="form",
                route="route",
            )
            done += n

    _save(folder / "PRESCRIPTIONS.csv.gz", prescriptions(), upper=True)
    _save_symptoms(folder, hospital, ("SUBJECT_ID", "HADM_ID"), s, hadm)


# -- MIMIC-IV ---------------------------------------------------------------------------------------------------------


def _mimic4(folder: Path, hospital: _Hospital, titles: pl.DataFrame, rng: Draw) -> None:
    stays, hosp = hospital.stays, folder / "hosp"
    P, V = len(stays.age), len(hospital.patient)
    subject = np.sort(_ids(rng, P, 10_000_000, 20_000_000))
    hadm = _ids(rng, V, 20_000_000, 30_000_000)
    s = subject[hospital.patient]

    age = np.floor(stays.age).astype(int)
    patients = {
        "subject_id": subject,
        "gender": np.where(stays.female, "F", "M"),
        "anchor_age": np.where(age > 89, 91, age),
        "anchor_year": hospital.admit[hospital.first].astype("datetime64[Y]").astype(int) + 1970,
        "anchor_year_group": _pick(rng, {"2008 - 2010": 4, "2011 - 2013": 3, "2014 - 2016": 3}, P),
        "dod": _only(hospital.died, _day(hospital.last_discharge)),
    }
    _save(hosp / "patients.csv.gz", pl.DataFrame(patients))

    emergency = rng.random(V) < 0.7
    home = _pick(rng, {"HOME": 5, "HOME HEALTH CARE": 4, "SKILLED NURSING FACILITY": 3}, V)
    admissions = {
        "subject_id": s,
        "hadm_id": hadm,
        "admittime": _time(hospital.admit),
        "dischtime": _time(hospital.discharge),
        "deathtime": _only(stays.died, _time(hospital.discharge)),
        "admission_type": np.where(emergency, "EW EMER.", "URGENT"),
        "admit_provider_id": _providers(rng, V),
        "admission_location": np.where(emergency, "EMERGENCY ROOM", "PHYSICIAN REFERRAL"),
        "discharge_location": np.where(stays.died, "DIED", home),
        "insurance": _pick(rng, {"Medicare": 4, "Other": 5, "Medicaid": 1}, V),
        "language": _pick(rng, {"ENGLISH": 9, "?": 1}, P)[hospital.patient],
        "marital_status": _pick(rng, MARITAL, P)[hospital.patient],
        "race": _pick(rng, RACE, P)[hospital.patient],
        "edregtime": _only(emergency, _time(hospital.admit - 300)),
        "edouttime": _only(emergency, _time(hospital.admit - 20)),
        "hospital_expire_flag": stays.died.astype(int),
    }
    _save(hosp / "admissions.csv.gz", pl.DataFrame(admissions).sort("subject_id", "hadm_id"))

    # The hospital changed to ICD-10 at one date of its true calendar, which the shifted years hide: for a patient it
    # lies before, between or after the stays.
    years = (hospital.admit - hospital.admit[hospital.first][hospital.patient]).astype(float) / (1440 * 365.2425)
    ten = years > (10 * rng.random(P) - 5)[hospital.patient]
    for kind, name in (("diagnoses", "diagnoses_icd"), ("procedures", "procedures_icd")):
        rows = _in_version(hospital.codes(kind), ten)
        visit = rows["visit"].to_numpy()
        columns: dict[str, pl.Series | pl.Expr] = {
            "subject_id": pl.Series(s[visit]),
            "hadm_id": pl.Series(hadm[visit]),
            "seq_num": pl.col("seq"),
        }
        if kind == "procedures":
            day = hospital.admit[visit] + (rng.random(len(visit)) * hospital.length[visit]).astype(np.int64)
            columns["chartdate"] = _day(day)
        rows = rows.select(**columns, icd_code="code", icd_version=pl.Series(np.where(ten[visit], 10, 9)))
        _save(hosp / f"{name}.csv.gz", rows.sort("subject_id", "hadm_id", "seq_num"))
    for kind, name in (("diagnosis", "d_icd_diagnoses"), ("procedure", "d_icd_procedures")):
        rows = titles.filter(kind=kind).select(icd_code="code", icd_version="version", long_title="title")
        _save(hosp / f"{name}.csv.gz", rows)

    def prescriptions() -> Iterator[pl.DataFrame]:
        for low, high in hospital.chunks():
            rows = _hospital_orders(hospital, rng, low, high, hadm)
            visit = rows["visit"].to_numpy()
            n = len(rows)
            missing = pl.when(pl.Series(rng.random(n) < 0.99)).then(pl.lit("0"))
            yield rows.select(
                subject_id=pl.Series(s[visit]),
                hadm_id="hadm",
                pharmacy_id=10_000_000 + 40 * pl.Series(visit) + pl.col("group"),
                poe_id=pl.Series(s[visit]).cast(pl.String) + "-" + pl.col("group").cast(pl.String),
                poe_seq="group",
                order_provider_id=pl.Series(_providers(rng, n)),
                starttime=_time(rows["begin"].to_numpy().astype("datetime64[h]")),
                stoptime=_time(rows["end"].to_numpy().astype("datetime64[h]")),
                drug_type="drug_type",
                drug="name",
                formulary_drug_cd="code",
                gsn="gsn",
                ndc=pl.coalesce("ndc", missing),
                prod_strength="strength",
                form_rx=pl.lit(None, dtype=pl.String),
                dose_val_rx="dose",
                dose_unit_rx="unit",
                form_val_disp=pl.lit("1"),
                form_unit_disp="form",
                doses_per_24_hrs=pl.lit(None, dtype=pl.String),
                route="route",
            )

    _save(hosp / "prescriptions.csv.gz", prescriptions())
    _save_symptoms(folder, hospital, ("subject_id", "hadm_id"), s, hadm)


def _providers(rng: Draw, size: int) -> NDArray[np.str_]:
    names = np.array([f"P{i:02d}{chr(65 + i % 26)}{chr(65 + (i * 7) % 26)}{i % 10}" for i in range(100)])
    return names[rng.integers(0, 100, size)]


# -- eICU -------------------------------------------------------------------------------------------------------------


def _eicu(folder: Path, hospital: _Hospital, titles: pl.DataFrame, rng: Draw) -> None:
    stays, world = hospital.stays, hospital.world
    P, V = len(stays.age), len(hospital.patient)
    site = rng.integers(0, 60, P)
    uid = np.char.add(
        np.char.add(np.char.zfill((site + 2).astype(str), 3), "-"), (1000 + rng.permutation(P)).astype(str)
    )
    stay_id = _ids(rng, V, 120_000, 3_400_000)

    # Unit stays: one or more in a hospital stay; orders and diagnoses belong to one of them.
    units = 1 + (rng.random(V) < 0.16) + (rng.random(V) < 0.03)
    of = np.repeat(np.arange(V), units)
    U = len(of)
    number = np.arange(U) - np.repeat(np.cumsum(units) - units, units)
    unit_id = _ids(rng, U, 140_000, 3_500_000)
    begin = (hospital.length[of] * number / units[of]).astype(np.int64) + rng.integers(0, 120, U)
    end = (hospital.length[of] * (number + 1) / units[of]).astype(np.int64)
    first_unit = np.cumsum(units) - units

    # No calendar, only a year: two-year windows cut through a patient's stays.
    year = np.where((hospital.admit - hospital.admit[hospital.first][hospital.patient]).astype(float) / 525_600
                    > 1.2 * rng.random(P)[hospital.patient], 2015, 2014)  # fmt: skip
    age = np.floor(hospital.age[of]).astype(int)
    clock = _time(hospital.admit[of]).str.tail(8)
    gender = np.where(stays.female, "Female", "Male")[hospital.patient]
    alive = np.where(stays.died[of], "Expired", "Alive")
    finding, cell = _findings(world, titles)
    core = np.zeros(V, dtype=np.int64)
    has = stays.diagnoses.lengths > 0
    core[has] = stays.diagnoses.values[stays.diagnoses.offsets[:-1][has]]
    patient = {
        "patientunitstayid": unit_id,
        "patienthealthsystemstayid": stay_id[of],
        "gender": np.where(rng.random(V) < 0.002, "", gender)[of],
        "age": np.where(age > 89, "> 89", age.astype(str)),
        "ethnicity": _pick(rng, ETHNICITY, P)[hospital.patient][of],
        "hospitalid": 56 + site[hospital.patient][of],
        "wardid": 80 + site[hospital.patient][of] * 3 + number % 3,
        "apacheadmissiondx": finding[core][of],
        "admissionheight": np.round(rng.normal(170, 10, P), 1)[hospital.patient][of],
        "hospitaladmittime24": clock,
        "hospitaladmitoffset": -begin,
        "hospitaladmitsource": _pick(rng, {"Emergency Department": 6, "Floor": 2, "Operating Room": 2}, V)[of],
        "hospitaldischargeyear": year[of],
        "hospitaldischargetime24": _time(hospital.discharge[of]).str.tail(8),
        "hospitaldischargeoffset": hospital.length[of] - begin,
        "hospitaldischargelocation": np.where(stays.died[of], "Death", "Home"),
        "hospitaldischargestatus": alive,
        "unittype": _pick(rng, {"Med-Surg ICU": 75, "MICU": 8, "Cardiac ICU": 9, "SICU": 8}, U),
        "unitadmittime24": _time(hospital.admit[of] + begin).str.tail(8),
        "unitadmitsource": np.where(number == 0, "Emergency Department", "ICU to SDU"),
        "unitvisitnumber": number + 1,
        "unitstaytype": np.where(number == 0, "admit", "stepdown/other"),
        "admissionweight": np.round(rng.normal(82, 20, P).clip(38, 220), 1)[hospital.patient][of],
        "dischargeweight": pl.Series([None] * U, dtype=pl.Float64),
        "unitdischargetime24": _time(hospital.admit[of] + end).str.tail(8),
        "unitdischargeoffset": end - begin,
        "unitdischargelocation": np.where(stays.died[of] & (number + 1 == units[of]), "Death", "Floor"),
        "unitdischargestatus": np.where(stays.died[of] & (number + 1 == units[of]), "Expired", "Alive"),
        "uniquepid": uid[hospital.patient][of],
    }
    _save(folder / "patient.csv.gz", pl.DataFrame(patient).sort("patientunitstayid"))
    hospitals = {
        "hospitalid": 56 + np.arange(60),
        "numbedscategory": _pick(rng, {"<100": 2, "100 - 249": 4, ">= 500": 1}, 60),
        "teachingstatus": _pick(rng, {"f": 9, "t": 1}, 60),
        "region": _pick(rng, {"Midwest": 4, "South": 4, "West": 2}, 60),
    }
    _save(folder / "hospital.csv.gz", pl.DataFrame(hospitals))

    def unit_of(visit: NDArray[np.int64]) -> NDArray[np.int64]:
        unit: NDArray[np.int64] = first_unit[visit] + rng.integers(0, units[visit])
        return unit

    # A finding is entered again and again during a stay; some findings have a path but no code.
    rows = hospital.codes("diagnoses").with_columns(place=pl.int_range(pl.len()).over("visit"))
    rows = rows[np.repeat(np.arange(len(rows)), 1 + rng.poisson(0.8, len(rows)))]
    pair, visit = rows["pair"].to_numpy(), rows["visit"].to_numpy()
    uncoded = np.random.default_rng(0).random(len(world.diagnoses)) < CODE_MISSING
    system = np.array([SYSTEM_OF_CHAPTER.get(code[0], "general") for code in world.diagnoses[:, 1]])
    path = np.char.add(np.char.add(system, "|"), np.char.lower(finding))
    place = rows["place"].to_numpy()
    unit = unit_of(visit)
    diagnosis = {
        "diagnosisid": 7_000_000 + np.arange(len(rows)),
        "patientunitstayid": unit_id[unit],
        "activeupondischarge": np.where(rng.random(len(rows)) < 0.3, "True", "False"),
        "diagnosisoffset": (rng.random(len(rows)) ** 2 * (end - begin)[unit]).astype(np.int64),
        "diagnosisstring": path[pair],
        "icd9code": np.where(uncoded[pair], "", cell[pair]),
        "diagnosispriority": np.where(place == 0, "Primary", np.where(place < 5, "Major", "Other")),
    }
    _save(folder / "diagnosis.csv.gz", pl.DataFrame(diagnosis).sort("patientunitstayid", "diagnosisid"))

    def medication() -> Iterator[pl.DataFrame]:
        done = 0
        for low, high in hospital.chunks():
            rows = hospital.orders(rng, low, high)
            n, visit = len(rows), rows["visit"].to_numpy()
            # Cancelled orders are for drugs that the patient did not get: any product.
            cancelled = rng.random(n) < CANCELLED
            wrong = pl.DataFrame(
                {"product": np.where(cancelled, rng.integers(0, len(_pharmacy()), n), rows["product"])}
            )
            rows = (
                rows.select("visit", "start", "stop")
                .hstack(wrong)
                .join(_pharmacy(), on="product", how="left", maintain_order="left")
            )
            unit = unit_of(visit)
            style = site[hospital.patient[visit]] % 3
            typed = rows["drug"].str.to_uppercase() + " " + rows["strength"].str.to_uppercase()
            mixed = pl.when(pl.Series(rng.random(n) < 0.4)).then(rows["brand"]).otherwise(rows["name"])
            printed = pl.select(
                pl.when(pl.Series(style == 0))
                .then(rows["name"].str.to_uppercase())
                .when(pl.Series(style == 1))
                .then(typed)
                .otherwise(mixed)
            ).to_series()
            yield pl.DataFrame(
                {
                    "medicationid": 7_000_000 + done + np.arange(n),
                    "patientunitstayid": unit_id[unit],
                    "drugorderoffset": rows["start"].to_numpy() - begin[unit],
                    "drugstartoffset": rows["start"].to_numpy() - begin[unit] + rng.integers(-30, 200, n),
                    "drugivadmixture": np.where(rows["route"].is_in(["IV DRIP"]), "Yes", "No"),
                    "drugordercancelled": np.where(cancelled, "Yes", "No"),
                    "drugname": _only(rng.random(n) >= NAME_MISSING, printed),
                    "drughiclseqno": _only(rng.random(n) >= HICL_MISSING, rows["hicl"]),
                    "dosage": rows["dose"] + " " + rows["unit"],
                    "routeadmin": rows["route"],
                    "frequency": pl.Series([None] * n, dtype=pl.String),
                    "loadingdose": [""] * n,
                    "prn": np.where(rng.random(n) < 0.27, "Yes", "No"),
                    "drugstopoffset": rows["stop"].to_numpy() - begin[unit],
                    "gtc": np.zeros(n, dtype=np.int64),
                }
            )
            done += n

    _save(folder / "medication.csv.gz", medication())

    # What patients took at home, typed by brand into a field of fixed width.
    rows = hospital.orders(rng, 0, V).unique(["visit", "drug"], keep="first", maintain_order=True)
    rows = rows.filter((pl.col("route") == "PO") & pl.Series(rng.random(len(rows)) < 0.25))
    n = len(rows)
    drugs = {
        "admissiondrugid": 1_300_000 + np.arange(n),
        "patientunitstayid": unit_id[first_unit[rows["visit"].to_numpy()]],
        "drugoffset": rng.integers(1, 200, n),
        "drugenteredoffset": rng.integers(200, 400, n),
        "drugnotetype": ["Admission"] * n,
        "specialtytype": ["eCM Primary"] * n,
        "usertype": ["THC Nurse"] * n,
        "rxincluded": ["True"] * n,
        "writtenineicu": ["True"] * n,
        "drugname": rows["brand"].str.pad_end(NAME_WIDTH),
        "drugdosage": ["0.0000"] * n,
        "drugunit": [" "] * n,
        "drugadmitfrequency": [" "] * n,
        "drughiclseqno": rows["hicl"],
    }
    _save(folder / "admissiondrug.csv.gz", pl.DataFrame(drugs))
    _save_symptoms(folder, hospital, ("uniquepid", "patienthealthsystemstayid"), uid[hospital.patient], stay_id)


def _findings(world: World, titles: pl.DataFrame) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Name and code cell of each row of ``world.diagnoses``.

    A code of a condition stands in both versions (``"401.9, I10"``); one of the unrelated tail in one of them.
    """
    title = {(v, c): t for v, c, t in titles.filter(kind="diagnosis").select("version", "code", "title").iter_rows()}
    names, cells = [], []
    for i, (nine, ten) in enumerate(world.diagnoses):
        codes = {9: _dotted(nine, 4 if nine[0] == "E" else 3), 10: _dotted(ten, 3)}
        if i >= world.tail[0]:
            codes.pop(9 if i % 2 else 10)
        version = max(codes)
        names.append(title.get((version, ten if version == 10 else nine), "other finding").replace("|", "/"))
        cells.append(", ".join(codes.values()))
    return np.array(names), np.array(cells)


def _dotted(code: str, digits: int) -> str:
    """``4019`` → ``401.9``; ``I10`` stays."""
    return code if len(code) <= digits else f"{code[:digits]}.{code[digits:]}"
