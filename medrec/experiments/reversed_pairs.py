"""How many admissions that follow each other in time stand the other way round when a patient's are sorted by id.

Released scripts sort by admission id, which the makers of MIMIC gave out at random.  A pair of neighbours in time is
then reversed as often as a coin shows heads.

``python -m medrec.experiments.reversed_pairs`` counts on the open demos, which must lie in ``MEDREC_DATA_DIR``, and
keeps the rows (:mod:`medrec.lab.kept`).
"""

from __future__ import annotations

import time

import polars as pl

from medrec.experiments.table_traps import visits_of
from medrec.lab import kept

STUDY = "reversed_pairs"
COMMAND = f"python -m medrec.experiments.{STUDY}"
DEMOS = {"mimic3-demo": "MIMIC-III demo", "mimic4-demo": "MIMIC-IV demo"}
"""What is counted, and how pages call it."""


def reversed_pairs(visits: pl.DataFrame) -> tuple[int, int]:
    """Pairs of neighbours in time whose ids are in the other order, and all pairs.

    Args:
        visits: ``patient``, ``visit`` (a number), ``time``; one row a visit of the raw tables.
    """
    in_time = visits.sort("patient", "time", "visit")
    before = in_time.with_columns(pl.col("visit").shift().over("patient").alias("before")).drop_nulls("before")
    return int((before["visit"] < before["before"]).sum()), len(before)


def read() -> kept.Kept:
    """The kept table ``pairs``: ``cohort``, ``reversed``, ``pairs``.

    Raises:
        MedrecError: there is none.
    """
    return kept.read(STUDY, command=COMMAND)


def main() -> None:
    """Count, and write the rows."""
    start = time.perf_counter()
    rows = [(name, *reversed_pairs(visits_of(name))) for name in DEMOS]
    folder = kept.save(
        STUDY,
        {"pairs": pl.DataFrame(rows, schema=["cohort", "reversed", "pairs"], orient="row")},
        cohort=None,
        command=COMMAND,
        code=kept.code_of("medrec.experiments.reversed_pairs", "data", "experiments"),
        seconds=time.perf_counter() - start,
    )
    print(folder)


if __name__ == "__main__":
    main()
