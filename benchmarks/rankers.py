"""Seconds of one training epoch of every ranker at 6 350 patients, against budgets; and how they grow with the graph.

Usage: ``python benchmarks/rankers.py [SYSTEM ...]``; default all networks that rank. The knowledge graph is that of
training in the temporal protocol; the evaluation on validation patients is measured apart. Two epochs, the faster one
counts, by the clock and by the processor. ``--growth`` measures those that read a knowledge graph on random ones of the
third paper's 3 612 entities, with its 41 000 triplets and up to a million; of DiffKG all rows are diffused there, and
the rebuilding is measured apart. The machine should have nothing else to do.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np

MEMORY = 4096
"""MiB, whole process."""
REBUILD = 2
"""Seconds that a rebuilding of DiffKG's graph may take."""
ENTITIES, RELATIONS = 3612, 4
TRIPLETS = (41_000, 100_000, 300_000, 1_000_000)


def main(names: list[str], growth: bool) -> int:
    # medrec before torch: it keeps idle threads from spinning.
    from medrec import context as contexts
    from medrec.experiments.epochs import COHORT
    from medrec.models import registry
    from medrec.training import Plan

    import torch  # isort: skip

    missed = False
    for system in map(registry.get, names or registry.NAMES):
        if not system.is_network or system.task != "ranking" or (growth and "knowledge" not in system.needs):
            continue
        settings = {"diffused": "entities"} if growth and system.name == "diffkg" else {}
        plan = Plan.of(system.name, COHORT, settings=settings)
        context = contexts.build(system.needs, plan.asked)
        given = plan.exam.graph
        print(
            f"{system.label}: {given.n_patients} patients, {int(given.matrix.sum())} interactions of "
            f"{given.n_medications} medications, {torch.get_num_threads()} threads, budget {system.seconds_per_epoch} s"
        )
        for n in TRIPLETS if growth else (0,):
            if n:
                context = replace(context, knowledge=random_graph(n, given.n_medications))
            missed |= measured(plan, context) and n <= TRIPLETS[0]
    return int(missed)


def random_graph(n: int, n_items: int) -> Any:
    """Triplets drawn at random, no two alike."""
    from medrec.graphs.knowledge import KnowledgeGraph

    drawn = np.random.default_rng(0).choice(ENTITIES * RELATIONS * ENTITIES, n, replace=False)
    rest, tail = np.divmod(drawn, ENTITIES)
    triplets = np.stack([*np.divmod(rest, RELATIONS), tail], axis=1)
    names = tuple(f"entity:{i}" for i in range(ENTITIES))
    return KnowledgeGraph(triplets, names, tuple(map(str, range(RELATIONS))), n_items)


def measured(plan: Any, context: Any) -> bool:
    """Print what two epochs take; whether a budget is missed."""
    from medrec.fit import one_epoch, seeded

    import torch  # isort: skip

    system, exam, cpu = plan.system, plan.exam, torch.device("cpu")
    with seeded(0):
        network = system.create(plan.config, context)
        network.prepare(exam.data, exam.train, context)
        rows, optimisers, taken = exam.rows(network, system.label), network.optimisers(), []
        for epoch in range(2):
            start = time.perf_counter(), time.process_time()
            network.before_epoch(epoch, context)
            batches = network.batches(exam.data, rows, [0, epoch])
            _, steps = one_epoch(network, optimisers, batches, context, cpu, epoch)
            taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
        start_of_judging = time.perf_counter()
        exam.judge(network, context, cpu)
        judged = time.perf_counter() - start_of_judging
        rebuilt = None
        if hasattr(network, "rebuild"):
            start = time.perf_counter(), time.process_time()
            network.rebuild(np.random.default_rng(0))
            rebuilt = time.perf_counter() - start[0], time.process_time() - start[1]
    wall, processor = min(taken)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    graph = context.knowledge
    size = "" if graph is None else f"{graph.n_entities} entities, {graph.n_triplets} triplets: "
    more = (
        ""
        if rebuilt is None
        else (f", {rebuilt[0]:.1f} s to rebuild ({rebuilt[1]:.1f} s of the processor, budget {REBUILD} s)")
    )
    print(
        f"  {size}{wall:.1f} s an epoch of {steps} steps ({processor:.1f} s of the processor), {judged:.1f} s for "
        f"validation{more}, peak so far {peak} MiB (budget {MEMORY} MiB)"
    )
    return wall > (system.seconds_per_epoch or 0) or peak > MEMORY or (rebuilt or (0,))[0] > REBUILD


if __name__ == "__main__":
    chosen = [a for a in sys.argv[1:] if a != "--growth"]
    sys.exit(main(chosen, "--growth" in sys.argv[1:]))
