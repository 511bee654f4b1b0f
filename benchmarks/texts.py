"""Seconds of reading all texts of a cohort, of reading them again from the store, and of an epoch of NLA-MMR.

Usage: ``python benchmarks/texts.py [ENCODER] [--cohort NAME]``; default the small language model on ``synthetic-6350``.
Beside wall time stands the time of the processor, which says more where the machine has other things to do.  The first
reading starts with an empty store; a second one, with a new context, finds all texts there.  An epoch is
its optimiser steps with features that are known, and nothing else.  Budgets: five minutes, nothing (two seconds for
fetching), five seconds, 3 GiB.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

READING, AGAIN, EPOCH, MEMORY = 300, 2, 5, 3072
"""Seconds, and MiB of the whole process."""
EPOCHS = 2
"""Of which the faster counts."""


def timed(do: Callable[..., Any], *what: Any) -> tuple[float, float, Any]:
    """Seconds on the wall and of the processor that it took, and what came of it."""
    wall, processor = time.perf_counter(), time.process_time()
    found = do(*what)
    return time.perf_counter() - wall, time.process_time() - processor, found


def told(what: str, wall: float, processor: float, budget: float) -> bool:
    """Print a line; whether the budget is missed."""
    print(f"{what}: {wall:.1f} s, processor {processor:.1f} s (budget {budget} s)", flush=True)
    return wall > budget


def main(encoder: str, cohort_name: str) -> int:
    # medrec before torch: it keeps idle threads from spinning.
    from medrec import context as contexts
    from medrec.data import load_cohort
    from medrec.fit import one_epoch, seeded
    from medrec.training import Plan

    import torch  # isort: skip

    cohort, cpu = load_cohort(cohort_name), torch.device("cpu")
    plan = Plan.of("nla-mmr", cohort, settings={"encoder": encoder})
    print(
        f"{cohort.n_patients} patients, {cohort.n_visits} visits, encoder {encoder}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    missed = False
    with tempfile.TemporaryDirectory() as empty:
        os.environ["MEDREC_CACHE_DIR"] = empty
        for what, budget in (("reading all texts", READING), ("reading them again", AGAIN)):
            context = contexts.build(plan.system.needs, plan.asked)
            text = contexts.text_of(context)
            wall, processor, _ = timed(text.read, cohort)
            missed |= told(f"{what}, {text.cuts.texts} of visits", wall, processor, budget)
        with seeded(0, cpu):
            made, exam = plan.system.create(plan.config, context), plan.exam
            made.prepare(exam.data, exam.train, context)
            rows, optimisers, epochs = exam.rows(made, plan.system.label), made.optimisers(), []
            for epoch in range(EPOCHS):
                made.before_epoch(epoch, context)
                batches = made.batches(exam.data, rows, [0, epoch])
                epochs.append(timed(one_epoch, made, optimisers, batches, context, cpu, epoch))
        wall, processor, (_, steps, *_) = min(epochs, key=lambda found: found[0])
        missed |= told(f"an epoch of {steps} steps", wall, processor, EPOCH)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak {peak} MiB (budget {MEMORY} MiB)")
    return int(missed or peak > MEMORY)


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("encoder", nargs="?", default="small-bert")
    words.add_argument("--cohort", default="synthetic-6350")
    given = words.parse_args()
    sys.exit(main(given.encoder, given.cohort))
