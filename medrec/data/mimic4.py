"""MIMIC-IV tables (v2 and its open demo) as canonical frames.

The ``hosp`` tables are read from ``folder/hosp`` or, where there is no such folder, from ``folder`` itself. A visit is
coded wholly in ICD-9 or wholly in ICD-10, and one string can mean two things (``E8881``: a fall, or metabolic
syndrome): codes are keyed by version.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from medrec.data.cohort import Kind
from medrec.data.mimic3 import no_titles, without_a_row
from medrec.data.spelling import filled, moment, plain_code, sex, version, whole
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
        visit_id=whole(pl.col("hadm_id")),
        time=moment(pl.col("starttime")),
        name="drug",
        ndc="ndc",
        route="route",
        drug_type="drug_type",
        hicl=pl.lit(None, dtype=pl.String),
        cancelled=pl.lit(False),
    )
    admissions = scan("admissions", "subject_id", "hadm_id", "admittime").select(
        patient_id=whole(pl.col("subject_id")),
        visit_id=whole(pl.col("hadm_id")),
        admit_time=moment(pl.col("admittime")),
    )
    patients = scan("patients", "subject_id", "gender", "anchor_age", "anchor_year").select(
        patient_id=whole(pl.col("subject_id")),
        sex=sex(pl.col("gender")),
        anchor_age=whole(pl.col("anchor_age")),
        anchor_year=whole(pl.col("anchor_year")),
    )
    visits = admissions.join(patients.unique(), on="patient_id", how="left").select(
        "patient_id",
        "visit_id",
        "admit_time",
        rank=pl.lit(0),
        sex=pl.col("sex").fill_null(""),
        # anchor_age is the age in the (shifted) anchor_year; 91 stands for anything above 89, hidden on purpose.
        age=pl.when(pl.col("anchor_age").is_between(90, 120))
        .then(90)
        .otherwise(pl.col("anchor_age") + pl.col("admit_time").dt.year() - pl.col("anchor_year")),
    )

    def code(kind: Kind) -> pl.Expr:
        return version(pl.col("icd_version")) + ":" + plain_code(pl.col("icd_code"), kind)

    def codes(name: str, kind: Kind) -> pl.LazyFrame:
        return scan(name, "hadm_id", "seq_num", "icd_code", "icd_version").select(
            visit_id=whole(pl.col("hadm_id")), code=code(kind), seq=whole(pl.col("seq_num"))
        )

    kinds: dict[str, Kind] = {"d_icd_diagnoses": "diagnosis", "d_icd_procedures": "procedure"}
    known = {name: kind for name, kind in kinds.items() if find_table(hosp, name)}
    dictionaries = [
        scan(name, "icd_code", "icd_version", "long_title").select(
            kind=pl.lit(kind), code=code(kind), title=filled(pl.col("long_title"))
        )
        for name, kind in known.items()
    ]
    symptoms, symptom_files = scan_symptoms((hosp, folder), "hadm_id", layout="mimic4")
    return RawTables(
        layout="mimic4",
        visits=visits,
        diagnoses=codes("diagnoses_icd", "diagnosis"),
        procedures=codes("procedures_icd", "procedure"),
        written=orders,
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
        | {"symptoms": symptom_files},
        symptoms=symptoms,
        counts={"visits_without_a_patient_row": without_a_row(admissions, patients)},
    )
