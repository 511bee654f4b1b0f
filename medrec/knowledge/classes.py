"""ATC classes: the third level of the ATC code, its names, and one sentence of pharmacology for each drug.

An ATC code has five levels of 1, 3, 4, 5 and 7 characters. The 131 or 112 medications of the papers are **level 3**,
four characters (``A10B``), whatever the papers call it ("ATC-3", "ATC third level", sometimes "ATC4").

Codes are those of the ATC index (WHO Collaborating Centre for Drug Statistics Methodology), as they are used by the
editions of 2018 to 2024: the cancer drugs that stood in ``L01X`` until 2020 stand in ``L01E`` and ``L01F`` since.
Names and descriptions are our own words.
"""

from __future__ import annotations

from functools import cache

import polars as pl

from medrec.knowledge.drugs import TABLES
from medrec.types import MedrecError

LEVEL_LENGTHS = {1: 1, 2: 3, 3: 4, 4: 5, 5: 7}
"""ATC level → number of characters."""


@cache
def atc3() -> pl.DataFrame:
    """The ATC level-3 classes.

    Returns:
        Columns ``code`` (four characters, unique, sorted), ``name``, ``description`` (one to three sentences:
        mechanism, main uses, main hazards), ``source``.
    """
    return pl.read_csv(TABLES / "atc3.csv", infer_schema=False, glob=False)


@cache
def drug_descriptions() -> pl.DataFrame:
    """One sentence of pharmacology for each drug.

    Returns:
        Columns ``name`` (as in ``drugs.csv``, unique, sorted), ``description``.
    """
    return pl.read_csv(TABLES / "drug_descriptions.csv", infer_schema=False, glob=False)


def level(code: str) -> int:
    """ATC level of a code, 1 to 5, by its length.

    Raises:
        MedrecError: no ATC code has this length.
    """
    for number, length in LEVEL_LENGTHS.items():
        if len(code) == length:
            return number
    raise MedrecError(f"{code!r} is no ATC code: codes have 1, 3, 4, 5 or 7 characters (levels 1 to 5).")


def cut(code: str, to: int = 3) -> str:
    """The ancestor of an ATC code at a level; ``cut("A10BA02") == "A10B"``. Cutting twice is cutting once.

    Args:
        code: ATC code of level ``to`` or finer.
        to: level from 1 to 5.

    Raises:
        MedrecError: the code is coarser than the level asked for, or no ATC code at all.
    """
    if to not in LEVEL_LENGTHS:
        raise MedrecError(f"ATC level {to!r} does not exist; choose one of 1 to 5.")
    if level(code) < to:
        raise MedrecError(f"{code!r} is an ATC code of level {level(code)} and cannot be cut to the finer level {to}.")
    return code[: LEVEL_LENGTHS[to]]
