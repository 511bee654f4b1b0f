"""ATC level-3 classes: the four-character codes that every system of the visit-based papers recommends."""

from __future__ import annotations

from functools import cache

import polars as pl

from medrec.knowledge.drugs import TABLES


@cache
def atc3() -> pl.DataFrame:
    """All classes, by code.

    Returns:
        ``code`` (four characters), ``name``, ``description`` (one to three sentences of pharmacology, our own words),
        ``source``.
    """
    return pl.read_csv(TABLES / "atc3.csv", infer_schema=False).sort("code")
