"""What the papers print: tables and single numbers as they stand there, for side-by-side comparisons.

Values are copied digit by digit and never corrected; where a printed value cannot be right, the chapters say so.
``BiMoMed`` in table 2 of BiMoRec is BiMoRec. The files lie in ``published_tables/``: ``<paper>_table<number>.csv`` with
the paper's rows, ``<paper>_figure<number>.csv`` with numbers printed in a figure, and ``facts.csv`` with single
numbers and the place where each is printed, or, for one of them, counted in files that a paper released.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import polars as pl

from medrec.types import MedrecError

TABLES = Path(__file__).with_name("published_tables")
PAPERS = {"bimorec": "BiMoRec", "nlammr": "NLA-MMR", "diffkg": "DiffKG on MIMIC"}
"""Names of the papers in file names, and in print."""


def table(paper: str, number: int) -> pl.DataFrame:
    """One printed table.

    Args:
        paper: ``"bimorec"``, ``"nlammr"`` or ``"diffkg"``.
        number: as in the paper. 1: the data; 2: the main comparison (DiffKG: 3). BiMoRec: 3 cost, 4 ablations.
            NLA-MMR: 3 ablations (MIMIC-III alone), 4 language models, 5 cost. DiffKG: 2 settings, 4 lists for two
            sets of diagnoses.

    Returns:
        The table's own columns after ``paper``, the paper's name. Table 2 has one row for each ``database`` and
        ``system``; NLA-MMR prints a deviation beside each value of its tables 2, 4 and 5, kept as ``Jaccard ±`` and
        so on. A cell that is empty in print is null, and so is one of table 4 of BiMoRec that cannot be read, or not
        be given to a row, in the copy at hand; such values are among the facts, ``bimorec_table4_...``.

    Raises:
        MedrecError: no such table is kept.

    Example:
        >>> table("bimorec", 2).filter(pl.col("system") == "BiMoRec")["Jaccard"].to_list()
        [0.5422, 0.4917]
    """
    if not (TABLES / f"{paper}_table{number}.csv").exists():
        kept = ", ".join(sorted(file.stem for file in TABLES.glob("*_table*.csv")))
        raise MedrecError(f"Table {number} of {paper!r} is not kept here. Kept are {kept}.")
    return _read(f"{paper}_table{number}").select(pl.lit(PAPERS[paper]).alias("paper"), pl.all())


def figure(paper: str, number: int) -> pl.DataFrame:
    """The numbers printed in a figure.

    Args:
        paper: ``"bimorec"`` or ``"diffkg"``.
        number: BiMoRec's 7: ticks and probabilities of two patients; probabilities as shares. DiffKG's 2: codes of the
            one patient whose lines are complete, a line for each visit (numbered here in printed order) and kind,
            codes divided by blanks; its 4: rows of the flat list of triplets, column after column, as our copy has
            them.

    Raises:
        MedrecError: no such figure is kept.

    Example:
        >>> figure("bimorec", 7).filter(pl.col("class") == "A03B")["BiMoRec"].to_list()
        [0.0404, 0.6419]
    """
    if not (TABLES / f"{paper}_figure{number}.csv").exists():
        kept = ", ".join(sorted(file.stem for file in TABLES.glob("*_figure*.csv")))
        raise MedrecError(f"Figure {number} of {paper!r} is not kept here. Kept are {kept}.")
    return _read(f"{paper}_figure{number}")


def fact(name: str) -> float:
    """A single printed number by its name in ``facts.csv``.

    Raises:
        MedrecError: no number of that name is kept.
    """
    facts = _read("facts")
    found = facts.filter(pl.col("name") == name)
    if found.is_empty():
        raise MedrecError(f"No printed number is called {name!r}. Kept are {', '.join(facts['name'])}.")
    return float(found["value"][0])


@cache
def _read(stem: str) -> pl.DataFrame:
    return pl.read_csv(TABLES / f"{stem}.csv", glob=False)
