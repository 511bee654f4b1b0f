"""Milliseconds of a training step for each training patient, on one thread, of every network, against targets.

Usage: ``python benchmarks/steps.py [--profile] [SYSTEM ...]``; default all networks for visits. Batches of 64 patients
of ``synthetic-6350``; the time is that of the processor, not of the clock, each batch counts with the least of its
repetitions, and preparations are not counted, so that other work on the machine does little harm. With ``--profile``
the operations that take most stand below.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

TARGETS = {"leap": 1.0, "retain": 0.1, "micron": 0.08, "cognet": 5.0, "molerec": 2.0}
"""Milliseconds a patient; the others are measured without one."""
BATCH, BATCHES, REPETITIONS = 64, 8, 6
UNPREPARED = {"bimorec": {"pretrain": False}}
"""Settings that skip what is done once before the first epoch."""


def main(names: list[str], profiled: bool) -> int:
    # medrec before torch: it keeps idle threads from spinning.
    from medrec.context import context_for
    from medrec.data import load_cohort
    from medrec.data.split import split_patients
    from medrec.experiments.epochs import COHORT
    from medrec.fit import seeded
    from medrec.models import registry

    import torch  # isort: skip

    torch.set_num_threads(1)
    cohort = load_cohort(COHORT)
    train = split_patients(cohort.n_patients, 0).train
    missed = False
    for system in map(registry.get, names or registry.NAMES):
        if not system.is_network or system.task != "visits":
            continue
        config = system.configure("paper", {**UNPREPARED.get(system.name, {}), "batch_size": BATCH})
        context = context_for(system, config, cohort)
        with seeded(0):
            network = system.create(config, context).train()
            network.prepare(cohort, train, context)
            optimisers = network.optimisers()
            patients = train[np.diff(cohort.visit_offsets)[train] > 1] if network.needs_history else train
            every = list(network.batches(cohort, patients, [0, 0]))
            batches = every[:: max(1, len(every) // BATCHES)][:BATCHES]
            best = [np.inf] * len(batches)
            for _ in range(REPETITIONS):
                for i, batch in enumerate(batches):
                    begin = time.process_time()
                    step(network, optimisers, batch, context)
                    best[i] = min(best[i], time.process_time() - begin)
            ms = 1e3 * sum(best) / sum(len(batch.patients) for batch in batches)
            target = TARGETS.get(system.name)
            said = "no target" if target is None else f"target {target:g}"
            print(
                f"{system.label:10s} {ms:7.3f} ms a training patient ({said}), {len(patients)} of {len(train)} patients"
            )
            missed |= target is not None and ms > target
            if profiled:
                with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
                    for batch in batches:
                        step(network, optimisers, batch, context)
                print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=15))
    return int(missed)


def step(network: Any, optimisers: list[Any], batch: Any, context: Any) -> None:
    """One optimiser step."""
    for optimiser in optimisers:
        optimiser.zero_grad()
    network.loss(batch, context).backward()
    for optimiser in optimisers:
        optimiser.step()


if __name__ == "__main__":
    sys.exit(main([a for a in sys.argv[1:] if a != "--profile"], "--profile" in sys.argv))
