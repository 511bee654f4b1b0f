"""MIMIC-III tables (v1.4 and its open demo) as canonical frames.

Source: the database's own documentation; Johnson et al. 2016. Five tables are read, ``ADMISSIONS``, ``PATIENTS``,
``DIAGNOSES_ICD``, ``PROCEDURES_ICD``, ``PRESCRIPTIONS``, and two dictionaries where they are there.
What is *not* done here, though published scripts do it: missing values are never filled from the row above.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from medrec.data.cohort import Kind
from medrec.data.spelling import filled, moment, plain_code, sex, whole
from medrec.data.tables import RawTables, find_table, scan_symptoms, scan_table, table_path


def read(folder: Path) -> RawTables:
    """Canonical lazy frames of a folder in MIMIC-III layout.

    Raises:
        MedrecError: a table or a column is missing, or the folder holds another layout.
    """

    def scan(name: str, *columns: str) -> pl.LazyFrame:
        return scan_table(folder, name, columns, layout="mimic3")

    # The order table first: its columns tell this layout from MIMIC-IV, so the message can say so.
    orders = scan("PRESCRIPTIONS", "hadm_id", "startdate", "drug_type", "drug", "ndc", "route").select(
        visit_id=whole(pl.col("hadm_id")),
        # Start dates are days; the demo writes 00:00:00 behind them.
        time=moment(pl.col("startdate")),
        name="drug",
        ndc="ndc",
        route="route",
        drug_type="drug_type",
        hicl=pl.lit(None, dtype=pl.String),
        cancelled=pl.lit(False),
    )
    admissions = scan("ADMISSIONS", "subject_id", "hadm_id", "admittime").select(
        patient_id=whole(pl.col("subject_id")),
        visit_id=whole(pl.col("hadm_id")),
        admit_time=moment(pl.col("admittime")),
    )
    patients = scan("PATIENTS", "subject_id", "gender", "dob").select(
        patient_id=whole(pl.col("subject_id")),
        sex=sex(pl.col("gender")),
        birth=moment(pl.col("dob")),
    )
    years = ((pl.col("admit_time") - pl.col("birth")).dt.total_days() / 365.2425).floor().cast(pl.Int32)
    visits = admissions.join(patients.unique(), on="patient_id", how="left").select(
        "patient_id",
        "visit_id",
        "admit_time",
        rank=pl.lit(0),
        sex=pl.col("sex").fill_null(""),
        # Births of patients above 89 are moved back 300 years: their true age is hidden on purpose.
        age=pl.when(years.is_between(250, 420)).then(90).otherwise(years),
    )

    def codes(name: str, kind: Kind) -> pl.LazyFrame:
        return scan(name, "hadm_id", "seq_num", "icd9_code").select(
            visit_id=whole(pl.col("hadm_id")),
            code="9:" + plain_code(pl.col("icd9_code"), kind),
            seq=whole(pl.col("seq_num")),
        )

    kinds: dict[str, Kind] = {"D_ICD_DIAGNOSES": "diagnosis", "D_ICD_PROCEDURES": "procedure"}
    known = {name: kind for name, kind in kinds.items() if find_table(folder, name)}
    dictionaries = [
        scan(name, "icd9_code", "long_title").select(
            kind=pl.lit(kind), code="9:" + plain_code(pl.col("icd9_code"), kind), title=filled(pl.col("long_title"))
        )
        for name, kind in known.items()
    ]
    symptoms, symptom_files = scan_symptoms((folder,), "hadm_id", layout="mimic3")
    return RawTables(
        layout="mimic3",
        visits=visits,
        diagnoses=codes("DIAGNOSES_ICD", "diagnosis"),
        procedures=codes("PROCEDURES_ICD", "procedure"),
        written=orders,
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
            }.items()
        }
        | {"symptoms": symptom_files},
        symptoms=symptoms,
        counts={"visits_without_a_patient_row": without_a_row(admissions, patients)},
    )


def without_a_row(admissions: pl.LazyFrame, patients: pl.LazyFrame) -> pl.LazyFrame:
    """How many admissions have a patient whom the table of patients does not list: one number."""
    return admissions.drop_nulls("patient_id").join(patients, on="patient_id", how="anti").select(pl.len())


def no_titles() -> pl.LazyFrame:
    """An empty dictionary of titles."""
    return pl.LazyFrame(schema={"kind": pl.String, "code": pl.String, "title": pl.String})
