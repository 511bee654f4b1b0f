"""Seconds of one training epoch of every network at 6 350 patients, and of the fit of every estimator, against budgets.

Systems for visits; ``rankers.py`` has the others.

Usage: ``python benchmarks/epochs.py [SYSTEM ...]``; default all. Pre-training and other preparations are not counted.
``python benchmarks/epochs.py --keep`` measures all and keeps the rows, which chapters show. The machine should have
nothing else to do.
"""

from __future__ import annotations

import os
import resource
import sys
import time

import numpy as np

FITS = {"lr": 60, "ecc": 600}
"""Seconds that a fit may take on two cores; a network declares what its epoch may take."""
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
    from medrec.experiments import epochs
    from medrec.models import registry

    import torch  # isort: skip

    began = time.perf_counter()
    cohort = load_cohort(epochs.COHORT)
    train = split_patients(cohort.n_patients, 0).train
    print(f"{len(train)} training patients, {cohort.n_medications} medications, {torch.get_num_threads()} threads")
    missed, rows = False, []
    measured = [s for s in map(registry.get, names or registry.NAMES) if s.seconds_per_epoch or s.name in FITS]
    measured = [s for s in measured if s.task == "visits"]
    for system, settings in [(m, s) for m in measured for s in ({}, EXPLAINED.get(m.name)) if s is not None]:
        budget = system.seconds_per_epoch or FITS[system.name]
        label = ", ".join([system.label, *(f"{k} {v}" for k, v in settings.items())])
        if not system.is_network:
            start = time.perf_counter()
            system.create(system.configure(), None).fit(cohort.select(train))
            seconds, what, batch_size = time.perf_counter() - start, "a fit", None
        else:
            config = system.configure("paper", UNPREPARED.get(system.name, {}) | settings)
            context = context_for(system, config, cohort)
            torch.manual_seed(0)
            network = system.create(config, context).train()
            network.prepare(cohort, train, context)
            optimisers = network.optimisers()
            patients = train[np.diff(cohort.visit_offsets)[train] > 1] if network.needs_history else train
            taken = []
            for epoch in range(2):
                start = time.perf_counter()
                for batch in network.batches(cohort, patients, [0, epoch]):
                    network.zero_grad()
                    network.loss(batch, context).backward()
                    for optimiser in optimisers:
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
                "budget_seconds": float(budget),
                "peak_mib": peak,
                "budget_mib": MEMORY,
                "batch_size": batch_size,
                "threads": torch.get_num_threads(),
                "cores": os.cpu_count(),
                "torch": torch.__version__,
            }
        )
    if keep:
        print(epochs.keep(rows, cohort, [f"{s.name}/paper" for s in measured], time.perf_counter() - began))
    return int(missed)


if __name__ == "__main__":
    options, chosen = {"--keep"} & set(sys.argv[1:]), [a for a in sys.argv[1:] if a != "--keep"]
    if options and chosen:
        sys.exit("--keep measures all systems: rows that stand together are made together.")
    sys.exit(main(chosen, bool(options)))
