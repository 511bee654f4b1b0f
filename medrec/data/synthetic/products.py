"""Products that the synthetic pharmacy holds: ``knowledge/tables/products.csv``.

Columns: ``atc3`` class that the product carries, ``drug`` ingredient as ``drugs.csv`` or ``combinations.csv`` names it,
``name`` as a MIMIC order prints it, ``brand`` as eICU does, ``route``, ``form`` (dispensing unit), ``strength``,
``dose``, ``unit``, ``weight`` (how often it is the class's choice, relative to the others of the class).
Doses and strengths are usual ones of US labels; NDC and HICL numbers are invented by :func:`products`.

A patient is given a class before a product of it is drawn, so that within a class the product does not know the need:
of the additives to infusions (B05X) whoever needs phosphate may be written magnesium. What is predicted is the class.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import polars as pl

import medrec.knowledge

TABLE = Path(medrec.knowledge.__file__).parent / "tables" / "products.csv"


@cache
def products() -> pl.DataFrame:
    """The pharmacy's list, with an invented ``ndc`` (11 digits, labeler 99xxx), ``gsn``, ``code`` and ``hicl`` a row.

    No NDC here is a real one: the labeler codes of the FDA do not begin with 99.
    """
    table = (
        pl.read_csv(TABLE, infer_schema=False, glob=False)
        .with_columns(pl.col("weight").cast(pl.Float64))
        .with_row_index("i")
    )
    drug = pl.col("drug").rank("dense").cast(pl.Int64)
    return table.with_columns(
        ndc=pl.format("99{}{}{}", (100 + drug % 900).cast(pl.String), (1000 + pl.col("i") * 7 % 9000).cast(pl.String),
                      (10 + pl.col("i") % 90).cast(pl.String)),
        gsn=(60000 + pl.col("i")).cast(pl.String).str.zfill(6),
        code=pl.col("name").str.to_uppercase().str.replace_all(r"[^A-Z]", "").str.head(4)
        + pl.col("strength").str.extract(r"^([\d.]+)").fill_null("1").str.replace(".", "", literal=True),
        hicl=(90000 + drug).cast(pl.String),
    ).drop("i")  # fmt: skip
