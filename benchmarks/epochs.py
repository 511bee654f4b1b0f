"""Seconds of one training epoch of every network at paper size, and of the fit of every estimator, against budgets.

Usage: ``python benchmarks/epochs.py [SYSTEM ...]``; default all. Pre-training and other preparations are not counted.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

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


def main(names: list[str]) -> int:
    # medrec before torch: it keeps idle threads from spinning.
    from medrec.data import load_cohort
    from medrec.data.batch import batches
    from medrec.data.split import split_patients
    from medrec.models.registry import ENTRIES, get
    from medrec.training import build_context

    import torch  # isort: skip

    cohort = load_cohort("paper")
    train = split_patients(cohort.n_patients, 0).train
    print(f"{len(train)} training patients, {cohort.n_medications} medications, {torch.get_num_threads()} threads")
    missed = False
    for name in names or [name for name in BUDGETS if name in ENTRIES]:
        entry, budget = get(name), BUDGETS[get(name).name]
        if not entry.is_network:
            start = time.perf_counter()
            entry.cls().fit(cohort.select(train))
            seconds, what = time.perf_counter() - start, "a fit"
        else:
            config = entry.configure("paper", UNPREPARED.get(name))
            context, _ = build_context(entry, config, cohort.vocab)
            torch.manual_seed(0)
            network = entry.cls(config, context).train()
            network.prepare(cohort, train, context)
            optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, foreach=False)
            patients = train[np.diff(cohort.visit_offsets)[train] > 1] if network.needs_history else train
            taken = []
            for epoch in range(2):
                start = time.perf_counter()
                for batch in batches(cohort, patients, config.batch_size, [0, epoch]):
                    optimiser.zero_grad()
                    network.loss(batch, network(batch, context), context).backward()
                    optimiser.step()
                taken.append(time.perf_counter() - start)
            seconds, what = min(taken), "an epoch"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"{entry.label}: {seconds:.1f} s {what} (budget {budget} s), peak so far {peak} MiB (budget {MEMORY} MiB)"
        )
        missed |= seconds > budget or peak > MEMORY
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
