"""MIMIC-III tables (v1.4 and its open demo) as canonical frames.

Source: the database's own documentation; Johnson et al. 2016. Five tables are read, ``ADMISSIONS``, ``PATIENTS``,
``DIAGNOSES_ICD``, ``PROCEDURES_ICD``, ``PRESCRIPTIONS``, and two dictionaries where they are there.
What is *not* done here, though published scripts do it: missing values are never filled from the row above.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from medrec.data.tables import RawTables, find_table, scan_symptoms, scan_table, table_path

TIME = "%Y-%m-%d %H:%M:%S"


def read(folder: Path) -> RawTables:
    """Canonical lazy frames of a folder in MIMIC-III layout.

    Raises:
        MedrecError: a table or a column is missing, or the folder holds another layout.
    """

    def scan(name: str, *columns: str) -> pl.LazyFrame:
        return scan_table(folder, name, columns, layout="mimic3")

    # The order table first: its columns tell this layout from MIMIC-IV, so the message can say so.
    orders = scan("PRESCRIPTIONS", "hadm_id", "startdate", "drug_type", "drug", "ndc", "route").select(
        visit_id=pl.col("hadm_id").cast(pl.Int64),
        # Start dates are days; the demo writes 00:00:00 behind them.
        time=pl.col("startdate").str.to_datetime(TIME),
        name="drug",
        ndc=known_ndc(),
        route="route",
        drug_type="drug_type",
        hicl=pl.lit(None, dtype=pl.String),
        cancelled=pl.lit(False),
    )
    admissions = scan("ADMISSIONS", "subject_id", "hadm_id", "admittime").select(
        patient_id=pl.col("subject_id").cast(pl.Int64),
        visit_id=pl.col("hadm_id").cast(pl.Int64),
        admit_time=pl.col("admittime").str.to_datetime(TIME),
    )
    patients = scan("PATIENTS", "subject_id", "gender", "dob").select(
        patient_id=pl.col("subject_id").cast(pl.Int64),
        sex="gender",
        birth=pl.col("dob").str.to_datetime(TIME),
    )
    age = (pl.col("admit_time") - pl.col("birth")).dt.total_days() / 365.2425
    visits = admissions.join(patients, on="patient_id", how="left").select(
        "patient_id",
        "visit_id",
        "admit_time",
        rank=pl.lit(0),
        sex=pl.col("sex").fill_null(""),
        # Births of patients above 89 are moved back 300 years: their true age is hidden on purpose.
        age=age.floor().cast(pl.Int32).clip(0, 90),
    )

    def codes(name: str) -> pl.LazyFrame:
        return scan(name, "hadm_id", "seq_num", "icd9_code").select(
            visit_id=pl.col("hadm_id").cast(pl.Int64),
            code="9:" + pl.col("icd9_code").str.strip_chars(),
            seq=pl.col("seq_num").cast(pl.Int32),
        )

    known = {"D_ICD_DIAGNOSES": "diagnosis", "D_ICD_PROCEDURES": "procedure"}
    known = {name: kind for name, kind in known.items() if find_table(folder, name)}
    dictionaries = [
        scan(name, "icd9_code", "long_title").select(
            kind=pl.lit(kind), code="9:" + pl.col("icd9_code"), title="long_title"
        )
        for name, kind in known.items()
    ]
    symptoms = scan_symptoms(folder, "hadm_id", layout="mimic3")
    return RawTables(
        layout="mimic3",
        visits=visits,
        diagnoses=codes("DIAGNOSES_ICD"),
        procedures=codes("PROCEDURES_ICD"),
        orders=orders,
        titles=pl.concat(dictionaries) if dictionaries else no_titles(),
        first_day="calendar_day",
        files={
            frame: tuple(table_path(folder, name, layout="mimic3") for name in names)
            for frame, names in {
                "visits": ("ADMISSIONS", "PATIENTS"),
                "diagnoses": ("DIAGNOSES_ICD",),
                "procedures": ("PROCEDURES_ICD",),
                "orders": ("PRESCRIPTIONS",),
                "titles": tuple(known),
                "symptoms": ("symptoms",) if symptoms is not None else (),
            }.items()
        },
        symptoms=symptoms,
    )


def known_ndc() -> pl.Expr:
    """The ``ndc`` column with ``0`` and the empty string as what they are: missing."""
    return pl.when(~pl.col("ndc").str.strip_chars().is_in(["0", ""])).then(pl.col("ndc").str.strip_chars())


def no_titles() -> pl.LazyFrame:
    """An empty dictionary of titles."""
    return pl.LazyFrame(schema={"kind": pl.String, "code": pl.String, "title": pl.String})
