"""eICU tables (v2.0 and its open demo v2.0.1) as canonical frames.

What differs from MIMIC, and what is done about it:

* **A visit is a hospital stay** (``patienthealthsystemstayid``), as in MIMIC; the unit stays inside it are joined.
  Times are minutes from the *unit* admission and are moved to the clock of the hospital stay.
* **Order of stays.** There is no calendar, only the year of discharge. Stays are ordered by that year, then by id;
  a patient with two stays in one year has an order that nobody can know. ``cohort.report`` counts them.
* **Diagnoses** are path strings beside a cell with codes of both versions (``"401.9, I10"``). A row keeps the codes of
  one version, ICD-9 where the cell has any, otherwise ICD-10, so that one finding does not become two codes. Several
  codes of that version stay (``"070.51, 573.1"``: the virus and its hepatitis). A row without a code keeps its path:
  ``"path:..."``.
* **Medications** have free-text names, often padded or missing, and a HICL number, from which missing names are
  restored (see :func:`medrec.data.build.map_products`): by the names that other orders have, then by those in
  ``admissiondrug`` (drugs taken before admission), where that table is there. It serves as a dictionary only.
  Cancelled orders are marked here, dropped in the pipeline.
* There are no procedure codes and no NDC.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from medrec.data.spelling import age, filled, plain_code, plain_number, sex, truth, whole
from medrec.data.tables import RawTables, find_table, scan_symptoms, scan_table, table_path

ICD9 = r"^(\d{3}\.?\d{0,2}|V\d{2}\.?\d{0,2}|E\d{3}\.?\d?)$"
"""A diagnosis of ICD-9-CM with or without its dot. ``E87.8`` is none (two digits after E): it is ICD-10."""

ICD10 = r"^[A-Z]\d[0-9A-Z]\.?[0-9A-Z]{0,4}$"

PRIORITY = {"primary": 0, "major": 1, "other": 2}


def read(folder: Path) -> RawTables:
    """Canonical lazy frames of a folder in eICU layout.

    Raises:
        MedrecError: a table or a column is missing, or the folder holds another layout.
    """

    def scan(name: str, *columns: str) -> pl.LazyFrame:
        return scan_table(folder, name, columns, layout="eicu")

    units = scan(
        "patient",
        "patientunitstayid",
        "patienthealthsystemstayid",
        "uniquepid",
        "gender",
        "age",
        "hospitaladmitoffset",
        "hospitaldischargeyear",
    ).select(
        unit_id=whole(pl.col("patientunitstayid")),
        visit_id=whole(pl.col("patienthealthsystemstayid")),
        patient_id=filled(pl.col("uniquepid")),
        sex=sex(pl.col("gender")),
        # "> 89" is text: 90 and above.
        age=age(pl.col("age")),
        hospital_offset=whole(pl.col("hospitaladmitoffset")),
        year=whole(pl.col("hospitaldischargeyear")),
    )
    # The unit stays of one hospital stay tell the same patient, year, sex and age.
    visits = units.select(
        "patient_id",
        "visit_id",
        admit_time=pl.lit(None, dtype=pl.Datetime("us")),
        rank="year",
        sex="sex",
        age="age",
    ).unique()
    # A unit stay that is listed under two hospital stays belongs to neither.
    stays = (
        units.drop_nulls("unit_id")
        .select("unit_id", "visit_id", "hospital_offset")
        .unique()
        .group_by("unit_id")
        .agg(
            pl.when(pl.col(column).n_unique() == 1).then(pl.col(column).first())
            for column in ("visit_id", "hospital_offset")
        )
    )

    cells = scan(
        "diagnosis", "patientunitstayid", "diagnosisoffset", "diagnosisstring", "icd9code", "diagnosispriority"
    )
    rows = cells.select(
        unit_id=whole(pl.col("patientunitstayid")),
        # Billing order as far as it is known: primary before major before other, then by time of entry.
        seq=priority().fill_null(len(PRIORITY)) * 10**7 + whole(pl.col("diagnosisoffset")).clip(-1_000_000, 8_000_000),
        code=codes_of_cell(),
        path=filled(pl.col("diagnosisstring")),
    ).explode("code")
    diagnoses = rows.join(stays, on="unit_id", how="left").select("visit_id", "code", "seq")
    # The last two steps of a path name the finding: "stroke, hemorrhagic stroke".
    titles = (
        rows.group_by("code", "path")
        .agg(pl.len())
        .sort(["len", "path"], descending=[True, False])
        .group_by("code", maintain_order=True)
        .agg(pl.col("path").first())
        .select(kind=pl.lit("diagnosis"), code="code", title=pl.col("path").str.split("|").list.tail(2).list.join(", "))
    )

    orders = (
        scan(
            "medication",
            "patientunitstayid",
            "drugorderoffset",
            "drugordercancelled",
            "drugname",
            "drughiclseqno",
            "routeadmin",
        )
        .with_columns(unit_id=whole(pl.col("patientunitstayid")))
        .join(stays, on="unit_id", how="left")
        .select(
            visit_id="visit_id",
            # The order's own minute, not drugstartoffset: that one also dates drugs taken for months at home.
            time=pl.lit(0).cast(pl.Datetime("us"))
            + pl.duration(minutes=whole(pl.col("drugorderoffset")) - pl.col("hospital_offset")),
            name="drugname",
            ndc=pl.lit(None, dtype=pl.String),
            route="routeadmin",
            drug_type=pl.lit("MAIN"),
            hicl="drughiclseqno",
            cancelled=truth(pl.col("drugordercancelled")),
        )
    )
    named_hicl = None
    if find_table(folder, "admissiondrug"):
        named_hicl = scan("admissiondrug", "drugname", "drughiclseqno").select(
            name=filled(pl.col("drugname")),
            route=pl.lit(None, dtype=pl.String),
            hicl=plain_number(pl.col("drughiclseqno")),
        )
    symptoms, symptom_files = scan_symptoms((folder,), "patienthealthsystemstayid", layout="eicu")
    return RawTables(
        layout="eicu",
        visits=visits,
        diagnoses=diagnoses,
        procedures=None,
        written=orders,
        titles=titles,
        first_day="24h",
        files={
            frame: tuple(table_path(folder, name, layout="eicu") for name in names)
            for frame, names in {
                "visits": ("patient",),
                "diagnoses": ("diagnosis", "patient"),
                "orders": ("medication", "patient"),
                "titles": ("diagnosis",),
                "named_hicl": ("admissiondrug",) if named_hicl is not None else (),
            }.items()
        }
        | {"symptoms": symptom_files},
        named_hicl=named_hicl,
        symptoms=symptoms,
        counts={
            "unit_stays_without_a_hospital_stay": stays.filter(pl.col("visit_id").is_null()).select(pl.len()),
            "diagnosis_rows_without_a_priority": cells.filter(priority().is_null()).select(pl.len()),
            "diagnosis_cells_of_another_form": cells.filter(_odd_cell()).select(pl.len()),
        },
    )


def priority() -> pl.Expr:
    """Rank of the row's priority; null where it has none."""
    word = pl.col("diagnosispriority").str.strip_chars().str.to_lowercase()
    return word.replace_strict(PRIORITY, default=None, return_dtype=pl.Int64)


def codes_of_cell() -> pl.Expr:
    """Codes of one ``icd9code`` cell, ``list[str]``: those of the first version that it has, without dots.

    ``"401.9, I10"`` gives ``["9:4019"]``, ``"I68.0"`` gives ``["10:I680"]``; a cell without any gives the row's path,
    ``["path:neurologic|pain"]``.
    """
    parts = _parts()
    nine, ten = (
        parts.list.eval(pl.lit(version) + plain_code(pl.element().filter(pl.element().str.contains(pattern))))
        for version, pattern in (("9:", ICD9), ("10:", ICD10))
    )
    path = pl.concat_list("path:" + filled(pl.col("diagnosisstring")).str.to_lowercase())
    chosen = pl.when(nine.list.len() > 0).then(nine).when(ten.list.len() > 0).then(ten).otherwise(path)
    return chosen.list.unique(maintain_order=True)


def _parts() -> pl.Expr:
    cell = filled(pl.col("icd9code")).fill_null("").str.to_uppercase()
    return cell.str.split(",").list.eval(pl.element().str.strip_chars())


def _odd_cell() -> pl.Expr:
    """True where a part of the cell is a code of neither version."""
    odd = pl.element().str.contains(ICD9).or_(pl.element().str.contains(ICD10), pl.element() == "").not_()
    return _parts().list.eval(odd).list.any()
