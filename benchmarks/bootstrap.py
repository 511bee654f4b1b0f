"""Bootstrap over patients: 1000 resamples on stored per-patient results, at most 2 s for the runs of one system.

Usage: ``python benchmarks/bootstrap.py``
"""

from __future__ import annotations

import sys
import time

import numpy as np
import polars as pl

from medrec.tasks.evaluation import Evaluation, bootstrap, paired_difference
from medrec.tasks.visits import GROUPS, MEASURES

BUDGET = 2.0
"""Seconds, at 6 350 patients."""


def evaluation(n_patients: int, seed: int) -> Evaluation:
    """Random results; how long resampling takes does not depend on the values."""
    rng = np.random.default_rng(seed)
    n = n_patients * len(GROUPS)
    return Evaluation(
        pl.DataFrame(
            {
                "patient": np.repeat(np.arange(n_patients), len(GROUPS)),
                "group": list(GROUPS) * n_patients,
                "n_visits": np.ones(n, dtype=np.int64),
                **{name: rng.random(n) for name in ("jaccard", "f1", "prauc", "precision", "recall")},
                **{name: rng.integers(1, 400, n) for name in ("interacting", "pairs", "medications")},
            }
        ),
        MEASURES,
    )


def main() -> int:
    missed = False
    for n_patients, cohort, held in (
        (1_058, "test part of 6 350 patients", True),
        (10_021, "test part of 60 125 patients", False),
    ):
        systems = [[evaluation(n_patients, 10 * system + seed) for seed in range(5)] for system in range(2)]
        for what, work in (
            ("one run", lambda s=systems: bootstrap(s[0][0])),
            ("five seeds", lambda s=systems: bootstrap(s[0])),
            ("two systems, five seeds, paired", lambda s=systems: paired_difference(*s)),
        ):
            start = time.perf_counter()
            work()
            seconds = time.perf_counter() - start
            missed |= held and seconds > BUDGET
            print(f"{cohort}, {what}: {seconds:.2f} s" + (f" (budget {BUDGET:.0f} s)" if held else ""))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
