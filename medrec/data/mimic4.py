"""MIMIC-IV tables (v2 and its open demo) as canonical frames.

The ``hosp`` tables are read from ``folder/hosp`` or, where there is no such folder, from ``folder`` itself. A visit is
coded wholly in ICD-9 or wholly in ICD-10, and one string can mean two things (``E8881``: a fall, or metabolic
syndrome): codes are keyed by version.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from medrec.data.mimic3 import TIME, known_ndc, no_titles
from medrec.data.tables import RawTables, find_table, scan_symptoms, scan_table, table_path


def read(folder: Path) -> RawTables:
    """Canonical lazy frames of a folder in MIMIC-IV layout.

    Raises:
        MedrecError: a table or a column is missing, or the folder holds another layout.
    """
    hosp = folder / "hosp" if (folder / "hosp").is_dir() else folder

    def scan(name: str, *columns: str) -> pl.LazyFrame:
        return scan_table(hosp, name, columns, layout="mimic4")

    orders = scan("prescriptions", "hadm_id", "starttime", "drug_type", "drug", "ndc", "route").select(
        visit_id=pl.col("hadm_id").cast(pl.Int64),
        time=pl.col("starttime").str.to_datetime(TIME),
        name="drug",
        ndc=known_ndc(),
        route="route",
        drug_type="drug_type",
        hicl=pl.lit(None, dtype=pl.String),
        cancelled=pl.lit(False),
    )
    admissions = scan("admissions", "subject_id", "hadm_id", "admittime").select(
        patient_id=pl.col("subject_id").cast(pl.Int64),
        visit_id=pl.col("hadm_id").cast(pl.Int64),
        admit_time=pl.col("admittime").str.to_datetime(TIME),
    )
    patients = scan("patients", "subject_id", "gender", "anchor_age", "anchor_year").select(
        patient_id=pl.col("subject_id").cast(pl.Int64),
        sex="gender",
        anchor_age=pl.col("anchor_age").cast(pl.Int32),
        anchor_year=pl.col("anchor_year").cast(pl.Int32),
    )
    visits = admissions.join(patients, on="patient_id", how="left").select(
        "patient_id",
        "visit_id",
        "admit_time",
        rank=pl.lit(0),
        sex=pl.col("sex").fill_null(""),
        # anchor_age is the age in the (shifted) anchor_year; 91 stands for anything above 89, hidden on purpose.
        age=pl.when(pl.col("anchor_age") > 89)
        .then(90)
        .otherwise((pl.col("anchor_age") + pl.col("admit_time").dt.year() - pl.col("anchor_year")).clip(0, 90)),
    )

    def code() -> pl.Expr:
        return pl.col("icd_version").str.strip_chars() + ":" + pl.col("icd_code").str.strip_chars()

    def codes(name: str) -> pl.LazyFrame:
        return scan(name, "hadm_id", "seq_num", "icd_code", "icd_version").select(
            visit_id=pl.col("hadm_id").cast(pl.Int64), code=code(), seq=pl.col("seq_num").cast(pl.Int32)
        )

    known = {"d_icd_diagnoses": "diagnosis", "d_icd_procedures": "procedure"}
    known = {name: kind for name, kind in known.items() if find_table(hosp, name)}
    dictionaries = [
        scan(name, "icd_code", "icd_version", "long_title").select(kind=pl.lit(kind), code=code(), title="long_title")
        for name, kind in known.items()
    ]
    symptoms = scan_symptoms(folder, "hadm_id", layout="mimic4")
    return RawTables(
        layout="mimic4",
        visits=visits,
        diagnoses=codes("diagnoses_icd"),
        procedures=codes("procedures_icd"),
        orders=orders,
        titles=pl.concat(dictionaries) if dictionaries else no_titles(),
        first_day="24h",
        files={
            frame: tuple(table_path(hosp, name, layout="mimic4") for name in names)
            for frame, names in {
                "visits": ("admissions", "patients"),
                "diagnoses": ("diagnoses_icd",),
                "procedures": ("procedures_icd",),
                "orders": ("prescriptions",),
                "titles": tuple(known),
            }.items()
        }
        | ({"symptoms": (table_path(folder, "symptoms", layout="mimic4"),)} if symptoms is not None else {}),
        symptoms=symptoms,
    )
