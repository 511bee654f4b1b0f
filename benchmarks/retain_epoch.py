"""Seconds of one RETAIN epoch (at most 5) and of one LR fit (at most 60) at paper size, on two cores.

Usage: ``python benchmarks/retain_epoch.py``
"""

from __future__ import annotations

import sys
import time

import numpy as np

EPOCH, FIT = 5.0, 60.0
"""Budgets, seconds."""


def main() -> int:
    # medrec before torch: it keeps idle threads from spinning.
    from medrec.data import load_cohort
    from medrec.data.batch import batches
    from medrec.data.split import split_patients
    from medrec.knowledge.interactions import default_ddi
    from medrec.models.base import Context
    from medrec.models.registry import get

    import torch  # isort: skip

    cohort = load_cohort("paper")
    train = split_patients(cohort.n_patients, 0).train
    context = Context(cohort.vocab, torch.from_numpy(default_ddi(cohort.vocab["medication"].codes)[0]))
    print(f"{len(train)} training patients, {cohort.n_medications} medications, {torch.get_num_threads()} threads")
    several = train[np.diff(cohort.visit_offsets)[train] > 1]
    missed = False
    for inputs in ("past_only", "with_current"):
        config = get("retain").configure("paper", {"inputs": inputs})
        torch.manual_seed(0)
        network = get("retain").cls(config, context).train()
        optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, foreach=False)
        patients = several if network.needs_history else train
        seconds = []
        for epoch in range(3):
            start = time.perf_counter()
            for batch in batches(cohort, patients, config.batch_size, [0, epoch]):
                optimiser.zero_grad()
                network.loss(batch, network(batch, context), context).backward()
                optimiser.step()
            seconds.append(time.perf_counter() - start)
        print(f"RETAIN, {inputs}, {len(patients)} patients: {min(seconds[1:]):.1f} s an epoch (budget {EPOCH:.0f} s)")
        missed |= min(seconds[1:]) > EPOCH
    start = time.perf_counter()
    get("lr").cls().fit(cohort.select(train))
    seconds = time.perf_counter() - start
    print(f"LR, {len(train)} patients: {seconds:.1f} s a fit (budget {FIT:.0f} s)")
    return int(missed or seconds > FIT)


if __name__ == "__main__":
    sys.exit(main())
