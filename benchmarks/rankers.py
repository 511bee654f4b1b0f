"""Seconds of one training epoch of every ranker at 6 350 patients, of the fit of those without epochs, and growth.

Usage: ``python benchmarks/rankers.py [SYSTEM ...] [--cohort NAME] [--hold-out] [--growth]``; default all rankers of the
registry on ``synthetic-6350``, temporal.  An epoch is its optimiser steps and nothing else; beside it stand what is
done once before the first epoch (context and preparation) and what validation patients cost after each.  A network is
held to the budget that it declares.  ``--growth`` measures those that read a knowledge graph on random ones of the
third paper's 3 612 entities, with its 41 000 triplets and up to a million; of DiffKG all rows are diffused there, and
the rebuilding is measured apart.  The machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

EPOCHS = 3
"""Of which the fastest counts."""
MEMORY = 4096
"""MiB, whole process."""
REBUILD = 2
"""Seconds that a rebuilding of DiffKG's graph may take."""
ENTITIES, RELATIONS = 3612, 4
TRIPLETS = (41_000, 100_000, 300_000, 1_000_000)


def timed(do: Callable[..., Any], *what: Any) -> tuple[float, Any]:
    """Seconds that it took, and what came of it."""
    start = time.perf_counter()
    found = do(*what)
    return time.perf_counter() - start, found


def main(names: list[str], cohort_name: str, protocol: str, growth: bool) -> int:
    # medrec before torch: it keeps idle threads from spinning.
    from medrec import context as contexts
    from medrec import tasks
    from medrec.data import load_cohort
    from medrec.models import registry
    from medrec.training import Plan

    import torch  # isort: skip

    cohort = load_cohort(cohort_name)
    rules = tasks.protocol("ranking", protocol)
    print(
        f"{cohort.n_patients} patients, {cohort.n_medications} medications, {rules.kind}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    missed = False
    for system in map(registry.get, names or [s.name for s in registry.systems("ranking")]):
        if not growth:
            plan = Plan.of(system.name, cohort, protocol=rules)
            before, context = timed(contexts.build, system.needs, plan.asked)
            missed |= measured(plan, context, before)
        elif "knowledge" in system.needs:
            settings = {"diffused": "entities"} if system.name == "diffkg" else {}
            plan = Plan.of(system.name, cohort, protocol=rules, settings=settings)
            context = contexts.build(system.needs, plan.asked)
            for n in TRIPLETS:
                grown = replace(context, knowledge=random_graph(n, cohort.n_medications))
                missed |= measured(plan, grown, 0.0) and n <= TRIPLETS[0]
    return int(missed)


def random_graph(n: int, n_items: int) -> Any:
    """Triplets drawn at random, no two alike."""
    from medrec.graphs.knowledge import KnowledgeGraph

    drawn = np.random.default_rng(0).choice(ENTITIES * RELATIONS * ENTITIES, n, replace=False)
    rest, tail = np.divmod(drawn, ENTITIES)
    triplets = np.stack([*np.divmod(rest, RELATIONS), tail], axis=1)
    names = tuple(f"entity:{i}" for i in range(ENTITIES))
    return KnowledgeGraph(triplets, names, tuple(map(str, range(RELATIONS))), n_items)


def measured(plan: Any, context: Any, before: float) -> bool:
    """Print what a system takes; whether a budget is missed."""
    from medrec.fit import one_epoch, seeded

    import torch  # isort: skip

    system, exam, cpu = plan.system, plan.exam, torch.device("cpu")
    asked = exam.questions("validation")
    more = ""
    with seeded(0, cpu):
        made = system.create(plan.config, context)
        if system.is_network:
            before += timed(made.prepare, exam.data, exam.train, context)[0]
            rows, optimisers, epochs = exam.rows(made, system.label), made.optimisers(), []
            for epoch in range(EPOCHS):
                made.before_epoch(epoch, context)
                batches = made.batches(exam.data, rows, [0, epoch])
                epochs.append(timed(one_epoch, made, optimisers, batches, context, cpu, epoch))
            seconds, steps = min(found[0] for found in epochs), epochs[-1][1][1]
            what = f"an epoch of {steps} steps"
        else:
            seconds, what = timed(exam.fit, made)[0], "a fit"
        judging, _ = timed(made.rank, asked.patient, context)
        rebuilt = 0.0
        if hasattr(made, "rebuild"):
            rebuilt, _ = timed(made.rebuild, np.random.default_rng(0))
            more = f"rebuilding {rebuilt:.2f} s (budget {REBUILD} s); "
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    budget, graph = system.seconds_per_epoch, context.knowledge
    size = "" if graph is None else f", {graph.n_entities} entities, {graph.n_triplets} triplets"
    told = f"budget {budget:g} s" if budget else "no budget"
    print(
        f"{system.label}{size}: {seconds:.2f} s {what} ({told}); before the first {before:.2f} s; {more}"
        f"scores of {len(asked.patient)} validation patients {judging:.2f} s; "
        f"peak so far {peak} MiB (budget {MEMORY} MiB)",
        flush=True,
    )
    return (budget is not None and seconds > budget) or peak > MEMORY or rebuilt > REBUILD


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("systems", nargs="*")
    words.add_argument("--cohort", default="synthetic-6350")
    words.add_argument("--hold-out", action="store_true", help="the ranking papers' protocol")
    words.add_argument("--growth", action="store_true", help="random knowledge graphs of up to a million triplets")
    given = words.parse_args()
    sys.exit(main(given.systems, given.cohort, "hold-out" if given.hold_out else "house", given.growth))
