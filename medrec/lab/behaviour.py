"""What every system does on a toy cohort: the other half of saying whether kept rows are current.

A key of code changes with every refactoring.  ``results/behaviour.json`` holds for each system and variant what it
does after two epochs on 24 invented patients: mean losses, scores, the chosen threshold.  A kept row whose code has
changed is still current where the behaviour has not.  ``medrec kept lock`` writes the file anew, on purpose.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medrec import keys, paths
from medrec.data.cohort import KINDS, Cohort, Vocabulary
from medrec.fit import Checkpoint
from medrec.models import registry
from medrec.training import Plan, fitted
from medrec.types import MedrecError, Ragged

PATIENTS = 24
TOLERANCE = 1e-5
"""Relative, and absolute for what is near 0."""
TOY = {
    "epochs": 2,
    "batch_size": 8,
    "size": 8,
    "width": 8,
    "feedforward": 16,
    "gin_layers": 1,
    "n_layers": 1,
    "molecules_per_class": 1,
    "pretraining_epochs": 1,
    "pretraining_batch": 0,
    "gvp_layers": 1,
    "gvp_scalars": 8,
    "gvp_vectors": 4,
    "n_chains": 2,
    # Vectors of texts are rounded to half precision: another processor would round a language model's otherwise.
    "encoder": "random-code",
}
"""Settings that make a training take a second, for the systems that have them."""
CLASSES = ("A02B", "A06A", "B01A", "C03C", "C07A", "C10A", "J01D", "N02A", "N05B")

Entry = dict[str, Any]


def toy_cohort() -> Cohort:
    """24 invented patients with one to four visits; some medications go with diagnoses, some are repeated."""
    rng = np.random.default_rng(24)
    n_visits = rng.integers(1, 5, PATIENTS)
    offsets = np.concatenate([[0], np.cumsum(n_visits)])
    V, D, P, M = int(offsets[-1]), 10, 5, len(CLASSES)
    diagnoses, procedures = rng.random((V, D)) < 0.3, rng.random((V, P)) < 0.3
    diagnoses[np.arange(V), rng.integers(0, D, V)] = True
    procedures[np.arange(V), rng.integers(0, P, V)] = True
    medications = (diagnoses.astype(int) @ (np.add.outer(np.arange(D), np.arange(M)) % 4 == 0) > 0) & (
        rng.random((V, M)) < 0.8
    )
    first = np.isin(np.arange(V), offsets[:-1])
    for v in np.flatnonzero(~first):
        medications[v] |= medications[v - 1] & (rng.random(M) < 0.5)
    medications[np.arange(V), rng.integers(0, M, V)] = True
    dense = {
        "diagnosis": diagnoses,
        "procedure": procedures,
        "symptom": rng.random((V, 4)) < 0.3,
        "medication": medications,
    }
    codes = {
        "diagnosis": [f"9:{100 + i}" for i in range(D)],
        "procedure": [f"9:{10 + i}" for i in range(P)],
        "symptom": [f"symptom:{i}" for i in range(4)],
        "medication": list(CLASSES),
    }
    return Cohort(
        name="toy",
        source="synthetic",
        vocab={k: Vocabulary(k, tuple(codes[k]), tuple(f"title of {code}" for code in codes[k])) for k in KINDS},
        visit_offsets=offsets,
        codes={
            k: Ragged(np.concatenate([[0], dense[k].sum(1).cumsum()]), np.nonzero(dense[k])[1].astype(np.int32))
            for k in KINDS
        },
        admit_time=np.datetime64("2100-01-01", "s") + np.arange(V).astype("timedelta64[D]"),
        days_since_previous=np.where(first, np.nan, 1).astype(np.float32),
        sex=np.array(["F", "M"] * (PATIENTS // 2)),
        age_band=np.array(["60-69"] * PATIENTS),
    )


def entry(name: str, variant: str, cohort: Cohort | None = None) -> Entry:
    """What one variant of a system does.

    Returns:
        ``loss`` of each epoch (none for estimators), ``scores`` (mean, mean square and the first of the test
        patients; of sets, where a system has no scores), ``threshold``.
    """
    cohort = toy_cohort() if cohort is None else cohort
    known = {f.name for f in fields(registry.get(name).config)}
    settings = {key: value for key, value in TOY.items() if key in known}
    plan = Plan.of(name, cohort, variant=variant, settings=settings)
    cpu, threads = torch.device("cpu"), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            done = fitted(plan, cpu, Checkpoint(Path(folder) / "checkpoint", "", fresh=True))
        answers = plan.exam.answers(done.system, done.context, cpu)
        found = plan.exam.results(done.system, answers, done.context.ddi.numpy())
    finally:
        torch.set_num_threads(threads)
    arrays = answers["test"].arrays()
    scores = np.asarray(arrays.get("scores", arrays.get("recommended")), dtype=np.float64)
    if "scored" in arrays:
        scores = scores[arrays["scored"]]
    return {
        "loss": [_short(row["loss"]) for row in (done.progress.history if done.progress else [])],
        "scores": [_short(x) for x in (scores.mean(), np.square(scores).mean(), *scores.ravel()[:6])],
        "threshold": found["tuned"]["threshold"],
    }


def entries(names: Iterable[str] | None = None) -> dict[str, Entry]:
    """:func:`entry` of each ``system/variant``; all of the book's systems by default."""
    cohort = toy_cohort()
    chosen = registry.NAMES if names is None else names
    return {
        f"{name}/{variant}": entry(name, variant, cohort) for name in chosen for variant in registry.get(name).variants
    }


def _short(value: float) -> float:
    return float(f"{value:.7g}")


# -- the lock file -----------------------------------------------------------------------------------------------------


def lock_file() -> Path:
    """Where the behaviour is written down."""
    return paths.results_dir() / "behaviour.json"


def locked() -> dict[str, Entry]:
    """What is written down; empty where nothing is.

    Raises:
        MedrecError: the file is damaged.
    """
    try:
        found: dict[str, Entry] = json.loads(lock_file().read_text(encoding="utf-8"))
        return found
    except FileNotFoundError:
        return {}
    except ValueError:
        raise MedrecError(
            f"{lock_file()} is damaged. Take it from the repository, or run `medrec kept lock`."
        ) from None


def lock() -> Path:
    """Write the behaviour down anew."""
    content = entries()
    lock_file().parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{json.dumps(name)}: {json.dumps(found)}" for name, found in content.items()]
    lock_file().write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return lock_file()


def changed(before: Mapping[str, Entry], now: Mapping[str, Entry]) -> list[str]:
    """Systems and variants that do something else, or that only one of the two knows."""
    return sorted(name for name in before.keys() | now.keys() if not _same(before.get(name), now.get(name)))


def _same(a: Entry | None, b: Entry | None) -> bool:
    if a is None or b is None:
        return False
    if len(a["loss"]) != len(b["loss"]) or len(a["scores"]) != len(b["scores"]):
        return False
    pairs = [*zip(a["loss"], b["loss"], strict=True), *zip(a["scores"], b["scores"], strict=True)]
    near = all(math.isclose(x, y, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for x, y in pairs)
    return near and a["threshold"] == b["threshold"]


def digests(names: Iterable[str]) -> dict[str, str]:
    """Hash of what is written down of each ``system/variant``, for the provenance of kept rows."""
    known = locked()
    return {name: keys.digest(known[name]) for name in names if name in known}
