"""What a CUDA device does with the same work, in 12 minutes: tests, an epoch of every network, a part of the table.

Usage: ``python benchmarks/gpu.py [--minutes 12] [--cohort NAME] [--device cuda]``.  Rows are kept as they come
(``medrec.experiments.gpu``), runs go to the run store.  An epoch is its optimiser steps and nothing else, after one
batch that warms the device up; what is done once before it (pre-training, reading of texts) is not counted.  No
training is begun that may not end in time.  ``--trial`` keeps no rows, and alone allows ``--device cpu``; its runs go
to a temporary store.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

MARKED = ("tests/test_training.py", "tests/tasks/test_ranking.py")
"""Files with tests marked ``gpu``; a test holds the list against the tree."""
TESTS = 120.0
"""Seconds that they may take."""
UNPREPARED = {"bimorec": {"pretrain": False}}
"""Settings that skip what is done once before the first epoch."""


def tested(seconds: float) -> list[dict[str, Any]]:
    """Outcome of every test marked ``gpu``, or of all together where they did not end."""
    # Every outcome (-rA) and every duration, however short: nothing else is read.
    words = ["-q", "-n", "0", "-m", "gpu", "-rA", "--durations=0", "--durations-min=0", *MARKED]
    root = Path(__file__).resolve().parents[1]
    try:
        said = subprocess.run(
            [sys.executable, "-m", "pytest", *words], cwd=root, capture_output=True, text=True, timeout=seconds
        ).stdout
    except subprocess.TimeoutExpired:
        return [{"test": "all", "outcome": "not ended in time", "seconds": seconds}]
    return outcomes(said) or [{"test": "all", "outcome": "no test was run", "seconds": None}]


def outcomes(said: str) -> list[dict[str, Any]]:
    """Rows of ``tests`` from what pytest says; tests that were skipped are told by file and line."""
    took: dict[str, float] = {}
    for seconds, test in re.findall(r"^([\d.]+)s (?:setup|call|teardown)\s+(\S+)", said, re.M):
        took[test] = took.get(test, 0.0) + float(seconds)
    ended = re.findall(r"^(PASSED|FAILED|ERROR) (\S+)", said, re.M)
    skipped = re.findall(r"^SKIPPED \[\d+\] (\S+?):? ", said, re.M)
    rows = [{"test": test, "outcome": word.lower(), "seconds": took.get(test)} for word, test in ended]
    return rows + [{"test": place, "outcome": "skipped", "seconds": None} for place in skipped]


def one(system: Any, cohort: Any, device: Any) -> dict[str, Any]:
    """Seconds and memory of an epoch of one network."""
    # medrec before torch: it keeps idle threads from spinning.
    from medrec import context as contexts
    from medrec.fit import one_epoch, seeded
    from medrec.training import Plan

    import torch  # isort: skip

    plan = Plan.of(system.name, cohort, settings=UNPREPARED.get(system.name))
    context = contexts.build(system.needs, plan.asked).to(device)
    on_card = device.type == "cuda"
    with seeded(0, device):
        network = system.create(plan.config, context).to(device)
        network.prepare(plan.exam.data, plan.exam.train, context)
        rows, optimisers = plan.exam.rows(network, system.label), network.optimisers()
        network.before_epoch(0, context)
        one_epoch(network, optimisers, islice(network.batches(plan.exam.data, rows, [0, 0]), 1), context, device, 0)
        if on_card:
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        start = time.perf_counter()
        _, steps = one_epoch(network, optimisers, network.batches(plan.exam.data, rows, [0, 1]), context, device, 1)
        if on_card:
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if on_card else None
    return {"seconds": seconds, "steps": steps, "batch_size": plan.config.batch_size, "device_peak_mib": peak}


def scored(entry: Any, cohort: Any, device: str) -> dict[str, Any]:
    """Train one row of the table; what it scored at the tuned threshold."""
    from medrec.training import train

    training = entry.training
    run = train(training.row.system, cohort, **training.options, device=device)
    validation = run.answers["validation"].evaluate(run.ddi(), run.threshold).summary()
    found = {
        "seconds": run.environment["wall_seconds"],
        "epochs": run.metrics["epochs"],
        "converged": run.metrics["converged"],
    }
    for measure in ("jaccard", "ddi_rate"):
        found[f"validation_{measure}"] = float(validation[measure])
        found[f"test_{measure}"] = float(run.metrics["tuned"][measure])
    return found


def described(device: str) -> dict[str, Any]:
    """The device, its driver, CUDA and PyTorch."""
    import torch

    found: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if device != "cpu":
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            said = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout.split()
        except (OSError, subprocess.SubprocessError):
            said = []
        found |= {"gpu": torch.cuda.get_device_name(device), "driver": said[0] if said else None}
    return found


def main(given: argparse.Namespace) -> int:
    # medrec before torch: it keeps idle threads from spinning.
    from medrec.arguments import checked_device
    from medrec.data import load_cohort
    from medrec.experiments import gpu
    from medrec.lab import sweep
    from medrec.models import registry
    from medrec.types import MedrecError

    import torch  # isort: skip

    clock = gpu.Clock(60 * given.minutes)
    try:
        device = checked_device(given.device)
        if device == "cpu" and not given.trial:
            raise MedrecError("--device cpu measures no graphics card.")
    except MedrecError as error:
        print(f"{error} Run it where PyTorch finds a card, or try it with --device cpu --trial.", file=sys.stderr)
        return 1
    try:
        cohort = load_cohort(given.cohort)
    except MedrecError as error:
        print(error, file=sys.stderr)
        return 1
    about = described(device)
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    networks = [system for system in map(registry.get, registry.NAMES) if system.is_network]
    entries = sweep.once(sweep.look(sweep.trainings(gpu.GRID, cohort)))
    systems = {f"{s.name}/paper" for s in networks}
    systems |= {f"{e.training.row.system}/{e.training.row.variant}" for e in entries}

    def save() -> None:
        if not given.trial:
            told = {"device": device, "seconds": clock.taken, "minutes": given.minutes, "about": about}
            gpu.keep(rows, cohort, systems=sorted(systems), **told)

    rows["tests"] = tested(min(TESTS, max(clock.left / 4, 1)))
    print(*(f"{r['test']}: {r['outcome']}" for r in rows["tests"]), sep="\n", flush=True)
    save()
    rows["epochs"], measured = [], {}
    # The cheapest by their own word first: a break then costs the fewest rows.
    for system in sorted(networks, key=lambda s: s.seconds_per_epoch or 0.0):
        found, why = {}, ""
        if clock.left < gpu.LEAST:
            why = "less than a minute was left"
        else:
            try:
                found = one(system, cohort, torch.device(device))
                measured[system.name] = found["seconds"]
            except (MedrecError, RuntimeError) as error:  # the card's memory is full, or it cannot do an operation
                why = gpu.first_line(error)
        rows["epochs"].append({"system": system.label, "task": system.task, **found, "left_out": why})
        print(f"{system.label}: {why or format(found['seconds'], '.2f') + ' s an epoch'}", flush=True)
        save()
    rows["trainings"] = []
    for row in gpu.trained(gpu.in_order(entries, measured, cohort), clock, lambda e: scored(e, cohort, device)):
        rows["trainings"].append(row)
        said = f"{row['seconds']:.0f} s, Jaccard {row['test_jaccard']:.4f}" if not row["left_out"] else row["left_out"]
        print(f"{row['label']}: {said}", flush=True)
        save()
    print(f"{clock.taken:.0f} s; " + ("a trial, nothing is kept" if given.trial else "kept"))
    return int(any(row["outcome"] in ("failed", "error") for row in rows["tests"]))


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--minutes", type=float, default=12.0)
    words.add_argument("--cohort", default="synthetic-6350")
    words.add_argument("--device", default="cuda")
    words.add_argument("--trial", action="store_true", help="keep nothing; allows --device cpu")
    given = words.parse_args()
    with ExitStack() as stack:
        if given.trial:
            os.environ["MEDREC_RUNS_DIR"] = stack.enter_context(tempfile.TemporaryDirectory())
        sys.exit(main(given))
