"""Small hospitals on disk: the five-row cases of the reader and pipeline tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from medrec.data import eicu, mimic3, mimic4
from medrec.data.build import Options, build_cohort
from medrec.data.cohort import Cohort
from medrec.data.tables import RawTables
from tests.conftest import demo_dir

READERS = {"mimic3": mimic3.read, "mimic4": mimic4.read, "eicu": eicu.read}


def write_table(folder: Path, name: str, rows: list[dict]) -> None:
    """One CSV table, all text, columns in the order of the first row."""
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, infer_schema_length=None).cast(pl.String).write_csv(folder / f"{name}.csv")


ORDER = {
    "subject_id": 1,
    "hadm_id": 203,
    "icustay_id": None,
    "startdate": "2150-01-05 00:00:00",
    "drug_type": "MAIN",
    "drug": "aspirin",
    "ndc": "00000000001",
    "route": "PO",
}


def write_mimic3(
    folder: Path, admissions: list[tuple[int, int, str]], orders: list[dict], diagnoses: list[tuple] | None = None
) -> Path:
    """Tables in MIMIC-III layout.

    Args:
        folder: where.
        admissions: patient, admission, day of admission.
        orders: what differs from :data:`ORDER`.
        diagnoses: admission, place, code; None: hypertension and a procedure for every admission.
    """
    patients = sorted({patient for patient, _, _ in admissions})
    write_table(
        folder, "PATIENTS", [{"subject_id": p, "gender": "FM"[p % 2], "dob": "2090-06-01 00:00:00"} for p in patients]
    )
    write_table(
        folder,
        "ADMISSIONS",
        [{"subject_id": p, "hadm_id": a, "admittime": f"{day} 10:00:00"} for p, a, day in admissions],
    )
    if diagnoses is None:
        diagnoses = [(admission, 1, "4019") for _, admission, _ in admissions]
    write_table(
        folder, "DIAGNOSES_ICD", [{"hadm_id": a, "seq_num": seq, "icd9_code": code} for a, seq, code in diagnoses]
    )
    write_table(folder, "PROCEDURES_ICD", [{"hadm_id": a, "seq_num": 1, "icd9_code": "3893"} for _, a, _ in admissions])
    write_table(folder, "PRESCRIPTIONS", [ORDER | order for order in orders])
    return folder


CLASSES = {"a": "A01A", "b": "B01A", "c": "A07A", "d": "C07A", "e": "N02A"}


def by_letter(products: pl.LazyFrame, **_: str) -> pl.LazyFrame:
    """The toy's map: the NDC a-e have a class, everything else has none."""
    atc3 = pl.col("ndc").replace_strict(CLASSES, default=None)
    status = pl.when(atc3.is_null()).then(pl.lit("unmapped")).otherwise(pl.lit("mapped"))
    return products.with_columns(drug=pl.col("name"), atc3=atc3, status=status)


def build(folder: Path, layout: str = "mimic3", **options) -> Cohort:
    """A cohort of a small hospital, with the real mapping unless another ``mapper`` is given."""
    mapper = {"mapper": options.pop("mapper")} if "mapper" in options else {}
    return build_cohort(READERS[layout](folder), Options(**options), name="toy", source="synthetic", **mapper)


def sets(cohort: Cohort, kind: str = "medication") -> list[list[str]]:
    """Codes of each visit as text."""
    codes = cohort.vocab[kind].codes
    return [[codes[i] for i in cohort.codes[kind][v]] for v in range(cohort.n_visits)]


@pytest.fixture(scope="session")
def demo_tables() -> Callable[[str], RawTables]:
    """Canonical tables of a demo by layout."""
    return lambda layout: READERS[layout](demo_dir(f"{layout}-demo"))


@pytest.fixture(scope="session")
def demo_cohort() -> Callable[..., Cohort]:
    """Cohort of a demo by layout, built once for the same options."""
    built: dict[tuple, Cohort] = {}

    def get(layout: str, **options) -> Cohort:
        key = (layout, *sorted(options.items()))
        if key not in built:
            tables = READERS[layout](demo_dir(f"{layout}-demo"))
            built[key] = build_cohort(tables, Options(**options), name=f"{layout}-demo", source="demo")
        return built[key]

    return get


@pytest.fixture
def demo_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """MEDREC_DATA_DIR set to where the demos lie."""
    root = demo_dir("mimic4-demo").parent
    monkeypatch.setenv("MEDREC_DATA_DIR", str(root))
    return root
