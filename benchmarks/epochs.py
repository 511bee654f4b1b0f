"""Seconds of one training epoch of every network at 6 350 patients, and of the fit of every estimator, against budgets.

Usage: ``python benchmarks/epochs.py [--keep] [SYSTEM ...]``; default all. Pre-training and other preparations are not
counted. ``--keep`` writes what was measured to ``results/epochs/epochs.csv``, from where chapters show it; systems that
were not measured keep their rows. The machine should have nothing else to do.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import Any

import numpy as np
import polars as pl

BUDGETS = {
    "bimorec": 40,
    "gamenet": 4,
    "safedrug": 4,
    "micron": 2,
    "cognet": 4,
    "molerec": 25,
    "causalmed": 16,
    "drugrec": 46,
    "leap": 30,
    "retain": 5,
    "lr": 60,
    "ecc": 600,
}
"""Seconds on two cores: a tenth of the papers' figures on a GPU; for estimators one fit."""
MEMORY = 4096
"""MiB, whole process."""
UNPREPARED = {"bimorec": {"pretrain": False}}
"""Settings that skip what is done once before the first epoch."""
EXPLAINED = {"cognet": {"feedforward": 128}}
"""Measured once more with these settings, to say where the time goes."""


def main(names: list[str], keep: bool) -> int:
    # medrec before torch: it keeps idle threads from spinning.
    from medrec.context import context_for
    from medrec.data import load_cohort
    from medrec.data.split import split_patients
    from medrec.models.registry import NAMES, get

    import torch  # isort: skip

    cohort = load_cohort("synthetic-6350")
    train = split_patients(cohort.n_patients, 0).train
    print(f"{len(train)} training patients, {cohort.n_medications} medications, {torch.get_num_threads()} threads")
    missed, rows = False, []
    asked = [get(name).name for name in names] or [name for name in BUDGETS if name in NAMES]
    for name, settings in [(n, s) for n in asked for s in ({}, EXPLAINED.get(n)) if s is not None]:
        entry, budget = get(name), BUDGETS[name]
        label = ", ".join([entry.label, *(f"{k} {v}" for k, v in settings.items())])
        if not entry.is_network:
            start = time.perf_counter()
            entry.cls().fit(cohort.select(train))
            seconds, what, batch_size = time.perf_counter() - start, "a fit", None
        else:
            config = entry.configure("paper", UNPREPARED.get(name, {}) | settings)
            context = context_for(entry, config, cohort)
            torch.manual_seed(0)
            network = entry.cls(config, context).train()
            network.prepare(cohort, train, context)
            optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, foreach=False)
            patients = train[np.diff(cohort.visit_offsets)[train] > 1] if network.needs_history else train
            taken = []
            for epoch in range(2):
                start = time.perf_counter()
                for batch in network.batches(cohort, patients, [0, epoch]):
                    optimiser.zero_grad()
                    network.loss(batch, context).backward()
                    optimiser.step()
                taken.append(time.perf_counter() - start)
            seconds, what, batch_size = min(taken), "an epoch", config.batch_size
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{label}: {seconds:.1f} s {what} (budget {budget} s), peak so far {peak} MiB (budget {MEMORY} MiB)")
        missed |= seconds > budget or peak > MEMORY
        rows.append(
            {
                "system": label,
                "of": what,
                "seconds": round(seconds, 2),
                "budget_seconds": budget,
                "peak_mib": peak,
                "budget_mib": MEMORY,
                "batch_size": batch_size,
                "threads": torch.get_num_threads(),
                "cores": os.cpu_count(),
                "torch": torch.__version__,
            }
        )
    if keep:
        store(rows)
    return int(missed)


def store(rows: list[dict[str, Any]]) -> None:
    """Replace the rows of the systems that were measured."""
    from medrec.experiments.grids import epochs_file

    file, new = epochs_file(), pl.DataFrame(rows)
    if file.exists():
        old = pl.read_csv(file)
        new = pl.concat([old.filter(~pl.col("system").is_in(new["system"].to_list())), new], how="vertical_relaxed")
    file.parent.mkdir(parents=True, exist_ok=True)
    new.sort("system").write_csv(file)


if __name__ == "__main__":
    sys.exit(main([a for a in sys.argv[1:] if a != "--keep"], "--keep" in sys.argv[1:]))
