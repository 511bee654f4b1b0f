"""Seconds of one training epoch of every ranker at 6 350 patients, against budgets.

Usage: ``python benchmarks/rankers.py [SYSTEM ...]``; default all networks that rank. The graph is that of training in
the temporal protocol; the evaluation on validation patients is measured apart. Two epochs, the faster one counts. The
machine should have nothing else to do.
"""

from __future__ import annotations

import resource
import sys
import time

MEMORY = 4096
"""MiB, whole process."""


def main(names: list[str]) -> int:
    # medrec before torch: it keeps idle threads from spinning.
    from medrec import context as contexts
    from medrec.experiments.epochs import COHORT
    from medrec.fit import one_epoch, seeded
    from medrec.models import registry
    from medrec.training import Plan

    import torch  # isort: skip

    cpu, missed = torch.device("cpu"), False
    for system in map(registry.get, names or registry.NAMES):
        if not system.is_network or system.task != "ranking":
            continue
        plan = Plan.of(system.name, COHORT)
        context = contexts.build(system.needs, plan.asked)
        interactions, knowledge = plan.exam.graph, context.knowledge
        size = "" if knowledge is None else f", {knowledge.n_entities} entities, {knowledge.n_triplets} triplets"
        with seeded(0):
            network = system.create(plan.config, context)
            network.prepare(plan.exam.data, plan.exam.train, context)
            rows, optimisers, taken = plan.exam.rows(network, system.label), network.optimisers(), []
            for epoch in range(2):
                start = time.perf_counter()
                network.before_epoch(epoch, context)
                _, steps = one_epoch(
                    network, optimisers, network.batches(interactions, rows, [0, epoch]), context, cpu, epoch
                )
                taken.append(time.perf_counter() - start)
            start = time.perf_counter()
            plan.exam.judge(network, context, cpu)
            judged = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"{system.label}: {min(taken):.1f} s an epoch of {steps} steps (budget {system.seconds_per_epoch:g} s), "
            f"{judged:.1f} s for validation, peak so far {peak} MiB (budget {MEMORY} MiB); {interactions.n_patients} "
            f"patients, {int(interactions.matrix.sum())} interactions{size}, {torch.get_num_threads()} threads"
        )
        missed |= min(taken) > (system.seconds_per_epoch or 0) or peak > MEMORY
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
