"""Conditions: their codes, symptoms, companions, and the needs that a hospital stay with them raises.

Three tables stand behind this module, each a CSV file in ``tables/``:

``conditions.csv``
    One row a condition. ``icd9`` and ``icd10`` list diagnosis codes without the dot: the first is the core code,
    the others are rarer variants; beyond the core code the two lists are no translation of each other item by item.
    No code belongs to two conditions. ``comorbidities`` lists the conditions whose odds *rise when this one is
    present* (an arrow from this condition to each of them). The arrows form no cycle, and none leads from
    an acute condition to a chronic one, so that conditions can be drawn parents first.
``condition_needs.csv``
    One row a need: something treated during a stay with the condition, with probability ``probability``, by one of
    the ATC level-3 classes in ``options``. Where ``severe`` is true the probability is that of the most severe stays;
    it falls in proportion to severity, to zero for the mildest. Rows of the pseudo-condition ``_supportive`` belong to
    every stay, whatever the diagnosis. Plain fluids, though first in many acute conditions, are no needs: the pipeline
    sets them aside as carriers, so no ATC class stands for them (``first_line`` may be empty for that reason).
``icd_titles.csv``
    Official titles of ICD-9-CM, ICD-10-CM and ICD-10-PCS codes (CMS and NCHS, US public domain): every code of
    ``conditions.csv`` and a tail of unrelated ones.

Probabilities and weights are clinical estimates for US hospital and intensive-care stays, not measurements. After a
comparison with the class frequencies of the open MIMIC demos the supportive needs, a few needs of common conditions
(statins, steroids, angiotensin blockers, calcium channel blockers) and some prevalence bands were moved toward them;
simulated stays then meet nearly all classes that one demo stay in ten receives within a factor of two. The ``source``
of a condition names the guideline behind its first-line and second-line classes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import polars as pl

TABLES = Path(__file__).parent / "tables"

SUPPORTIVE = "_supportive"
"""Pseudo-condition of ``condition_needs.csv``: needs of every stay (bowel regimen, electrolytes, sedation ...)."""

LIST_COLUMNS = (
    "icd9",
    "icd10",
    "first_line",
    "second_line",
    "contraindicated",
    "procedures_icd9",
    "procedures_icd10",
    "symptoms",
    "comorbidities",
)


def _split(column: str) -> pl.Expr:
    """Turn ``a|b`` into ``[a, b]`` and an empty cell into an empty list."""
    cell = pl.col(column).fill_null("")
    return pl.when(cell == "").then(pl.lit([], dtype=pl.List(pl.String))).otherwise(cell.str.split("|")).alias(column)


@cache
def conditions() -> pl.DataFrame:
    """All conditions, one row each.

    Returns:
        Columns ``id``, ``title``, ``kind`` (chronic or acute), the list columns of :data:`LIST_COLUMNS`,
        ``prevalence`` (very_common, common, uncommon, rare), ``age`` (band in which it is most frequent: child, young,
        adult, old, any), ``sex`` (F or M where more frequent or exclusive, else any), ``source``.
    """
    table = pl.read_csv(TABLES / "conditions.csv", infer_schema=False, glob=False)
    return table.with_columns(_split(column) for column in LIST_COLUMNS)


@cache
def needs() -> pl.DataFrame:
    """Needs in long format: one row for each option of each need.

    Returns:
        Columns ``condition`` (an id of :func:`conditions`, or :data:`SUPPORTIVE`), ``need`` (phrase, unique within the
        condition), ``probability`` in (0, 1], ``severe`` (the probability scales with the severity of the stay),
        ``option`` (ATC level-3 class), ``weight`` (sums to 1 within a need).
    """
    table = pl.read_csv(TABLES / "condition_needs.csv", infer_schema=False, glob=False)
    option = pl.col("options").str.split(":")
    return (
        table.with_columns(pl.col("options").str.split("|"))
        .explode("options")
        .select(
            "condition",
            "need",
            pl.col("probability").cast(pl.Float64),
            severe=pl.col("severe") == "true",
            option=option.list.get(0),
            weight=option.list.get(1).cast(pl.Float64),
        )
    )


@cache
def icd_titles() -> pl.DataFrame:
    """Official titles of ICD codes.

    Returns:
        Columns ``version`` (9 or 10, integer), ``kind`` (diagnosis or procedure), ``code`` (without dot), ``title``;
        unique in the first three.
    """
    return pl.read_csv(TABLES / "icd_titles.csv", infer_schema=False, glob=False).with_columns(
        pl.col("version").cast(pl.Int64)
    )
