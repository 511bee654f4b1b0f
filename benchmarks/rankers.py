"""Seconds of one training epoch of every ranker at 6 350 patients, and of the fit of those without epochs.

Usage: ``python benchmarks/rankers.py [SYSTEM ...] [--cohort NAME] [--hold-out]``; default all rankers of the registry
on ``synthetic-6350``, temporal.  An epoch is its optimiser steps and nothing else; beside it stand what is done once
before the first epoch (context and preparation) and what validation patients cost after each.  A network is held to the
budget that it declares.  The machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

EPOCHS = 3
"""Of which the fastest counts."""
MEMORY = 4096
"""MiB, whole process."""


def timed(do: Callable[..., Any], *what: Any) -> tuple[float, Any]:
    """Seconds that it took, and what came of it."""
    start = time.perf_counter()
    found = do(*what)
    return time.perf_counter() - start, found


def main(names: list[str], cohort_name: str, protocol: str) -> int:
    # medrec before torch: it keeps idle threads from spinning.
    from medrec import context as contexts
    from medrec import tasks
    from medrec.data import load_cohort
    from medrec.fit import one_epoch, seeded
    from medrec.models import registry
    from medrec.training import Plan

    import torch  # isort: skip

    cpu = torch.device("cpu")
    cohort = load_cohort(cohort_name)
    rules = tasks.protocol("ranking", protocol)
    print(
        f"{cohort.n_patients} patients, {cohort.n_medications} medications, {rules.kind}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    missed = False
    for system in map(registry.get, names or [s.name for s in registry.systems("ranking")]):
        plan = Plan.of(system.name, cohort, protocol=rules)
        exam = plan.exam
        asked = exam.questions("validation")
        with seeded(0, cpu):
            before, context = timed(contexts.build, system.needs, plan.asked)
            made = system.create(plan.config, context)
            if system.is_network:
                before += timed(made.prepare, exam.data, exam.train, context)[0]
                optimisers, epochs = made.optimisers(), []
                for epoch in range(EPOCHS):
                    batches = made.batches(exam.data, exam.train, [0, epoch])
                    made.before_epoch(epoch, context)
                    found = timed(one_epoch, made, optimisers, batches, context, cpu, epoch)
                    epochs.append(found)
                seconds, steps = min(found[0] for found in epochs), epochs[-1][1][1]
                what = f"an epoch of {steps} steps"
            else:
                seconds, what = timed(exam.fit, made)[0], "a fit"
            judging, _ = timed(made.rank, asked.patient, context)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        budget = system.seconds_per_epoch
        told = f"budget {budget:g} s" if budget else "no budget"
        print(
            f"{system.label}: {seconds:.2f} s {what} ({told}); before the first {before:.2f} s; "
            f"scores of {len(asked.patient)} validation patients {judging:.2f} s; "
            f"peak so far {peak} MiB (budget {MEMORY} MiB)",
            flush=True,
        )
        missed |= (budget is not None and seconds > budget) or peak > MEMORY
    return int(missed)


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("systems", nargs="*")
    words.add_argument("--cohort", default="synthetic-6350")
    words.add_argument("--hold-out", action="store_true", help="the ranking papers' protocol")
    given = words.parse_args()
    sys.exit(main(given.systems, given.cohort, "hold-out" if given.hold_out else "house"))
