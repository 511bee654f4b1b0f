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

from medrec.data.tables import RawTables, find_table, scan_symptoms, scan_table, table_path

ICD9 = r"^(\d{3}(\.\d{1,2})?|V\d{2}(\.\d{1,2})?|E\d{3}(\.\d)?)$"
"""A diagnosis of ICD-9-CM with its dot. ``E87.8`` is none (two digits after E): it is ICD-10."""

ICD10 = r"^[A-Z]\d[0-9A-Z](\.[0-9A-Z]{1,4})?$"

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
        "unitvisitnumber",
    ).select(
        unit_id=pl.col("patientunitstayid").cast(pl.Int64),
        visit_id=pl.col("patienthealthsystemstayid").cast(pl.Int64),
        patient_id=pl.col("uniquepid").str.strip_chars(),
        sex=pl.col("gender").replace_strict({"Female": "F", "Male": "M"}, default=""),
        # "> 89" is text: 90 and above.
        age=pl.when(pl.col("age").str.contains(">", literal=True))
        .then(90)
        .otherwise(pl.col("age").str.strip_chars().replace("", None).cast(pl.Int32)),
        hospital_offset=pl.col("hospitaladmitoffset").cast(pl.Int64),
        year=pl.col("hospitaldischargeyear").cast(pl.Int32),
        unit_number=pl.col("unitvisitnumber").cast(pl.Int32),
    )
    visits = (
        units.sort("visit_id", "unit_number")
        .group_by("patient_id", "visit_id", maintain_order=True)
        .agg(pl.col("year", "sex", "age").first())
        .select(
            "patient_id",
            "visit_id",
            admit_time=pl.lit(None, dtype=pl.Datetime("us")),
            rank="year",
            sex="sex",
            age="age",
        )
    )
    stays = units.select("unit_id", "visit_id", "unit_number", "hospital_offset")

    cells = scan(
        "diagnosis", "patientunitstayid", "diagnosisoffset", "diagnosisstring", "icd9code", "diagnosispriority"
    )
    rows = cells.select(
        unit_id=pl.col("patientunitstayid").cast(pl.Int64),
        # Billing order as far as it is known: primary before major before other, then by time of entry.
        seq=pl.col("diagnosispriority").str.to_lowercase().replace_strict(PRIORITY, default=3).cast(pl.Int64) * 10**7
        + pl.col("diagnosisoffset").cast(pl.Int64).clip(-1_000_000, 8_000_000),
        code=codes_of_cell(),
        path="diagnosisstring",
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
        .with_columns(unit_id=pl.col("patientunitstayid").cast(pl.Int64))
        .join(stays, on="unit_id", how="left")
        .select(
            visit_id="visit_id",
            # The order's own minute, not drugstartoffset: that one also dates drugs taken for months at home.
            time=pl.lit(0).cast(pl.Datetime("us"))
            + pl.duration(minutes=pl.col("drugorderoffset").cast(pl.Int64) - pl.col("hospital_offset")),
            name=pl.col("drugname").str.strip_chars().replace("", None),
            ndc=pl.lit(None, dtype=pl.String),
            route=pl.col("routeadmin").str.strip_chars(),
            drug_type=pl.lit("MAIN"),
            hicl=known_hicl(),
            cancelled=pl.col("drugordercancelled") == "Yes",
        )
    )
    named_hicl = None
    if find_table(folder, "admissiondrug"):
        named_hicl = scan("admissiondrug", "drugname", "drughiclseqno").select(
            name=pl.col("drugname").str.strip_chars().replace("", None),
            route=pl.lit(None, dtype=pl.String),
            hicl=known_hicl(),
        )
    symptoms = scan_symptoms(folder, "patienthealthsystemstayid", layout="eicu")
    return RawTables(
        layout="eicu",
        visits=visits,
        diagnoses=diagnoses,
        procedures=None,
        orders=orders,
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
                "symptoms": ("symptoms",) if symptoms is not None else (),
            }.items()
        },
        named_hicl=named_hicl,
        symptoms=symptoms,
    )


def known_hicl() -> pl.Expr:
    """The HICL number, with ``0`` and the empty string as what they are: missing."""
    return pl.col("drughiclseqno").str.strip_chars().replace(["", "0"], None)


def codes_of_cell() -> pl.Expr:
    """Codes of one ``icd9code`` cell, ``list[str]``: those of the first version that it has, without dots.

    ``"401.9, I10"`` gives ``["9:4019"]``, ``"I68.0"`` gives ``["10:I680"]``; a cell without any gives the row's path,
    ``["path:neurologic|pain"]``.
    """
    parts = pl.col("icd9code").fill_null("").str.to_uppercase().str.split(",").list.eval(pl.element().str.strip_chars())
    nine, ten = (
        parts.list.eval(
            pl.lit(version) + pl.element().filter(pl.element().str.contains(pattern)).str.replace(".", "", literal=True)
        )
        for version, pattern in (("9:", ICD9), ("10:", ICD10))
    )
    path = pl.concat_list("path:" + pl.col("diagnosisstring").str.strip_chars().str.to_lowercase())
    chosen = pl.when(nine.list.len() > 0).then(nine).when(ten.list.len() > 0).then(ten).otherwise(path)
    return chosen.list.unique(maintain_order=True)
