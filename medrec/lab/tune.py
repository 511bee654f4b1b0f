"""One search for the settings of every system: ``medrec tune SYSTEM``, or ``medrec tune everything``.

Each system gets the same number of starts and the same budget in optimiser steps.  Start 0 is the declared setting;
the others are drawn, seeded, from :data:`COMMON` and from what the system declares as ``searched``.  Successive halving
on validation patients (Jamieson and Talwalkar 2016): all starts train for a ninth of the budget, the best third goes on
to a third of it, the best of those, but two at least, to the end; a start that has converged earlier stays where it is.
Starts are compared as epochs are, by :class:`~medrec.models.base.Judgement`, at their best epoch.  No test patient is
looked at.  What is fitted in one go is fitted once for each start and compared by its tuned validation score.

A search that is broken off goes on from the checkpoints of its starts.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from medrec import context as contexts
from medrec import keys, paths, tasks
from medrec.arguments import checked_count, checked_device, checked_seed
from medrec.data.cohort import Cohort
from medrec.data.load import given_cohort
from medrec.fit import Checkpoint
from medrec.lab import kept
from medrec.lab.collect import chosen_by
from medrec.lab.rows import EVERYTHING
from medrec.models import registry
from medrec.models.base import System
from medrec.progress import bar
from medrec.training import Plan, fitted, train
from medrec.training import check as check_training
from medrec.types import MedrecError

TRIALS = 12
STEPS = 4000
BUDGETS = {"visits": STEPS, "ranking": 1000}
"""Optimiser steps of those that get to the end, by task; a step of a ranker sees many times as much."""
MOST_STEPS = 10**7
SHARES = (1 / 9, 1 / 3, 1.0)
"""Of the budget, at which starts are compared."""
LEAST = 2
"""Starts that train to the end."""
COMMON: dict[str, tuple[Any, ...]] = {
    "learning_rate": (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3),
    "batch_size": (8, 16, 32, 64),
    "dropout": (0.0, 0.1, 0.3, 0.5),
    "schedule": ("constant", "cosine"),
    "weight_decay": (0.0, 1e-5, 1e-4),
}
"""What is searched of every system that has such a setting; of rankers the batch size by :data:`BATCHES`."""
BATCHES = (0.25, 0.5, 1.0, 2.0)
"""Of the declared batch size: rankers take pairs, or whole rows of patients, by the thousand."""


@dataclass(frozen=True)
class Start:
    """One setting of a search.

    Args:
        number: 0 is the declared setting.
        settings: that differ from the variant's.
    """

    number: int
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Search:
    """What a search found.

    Args:
        trials: one row for each start and rung: ``trial``, ``rung``, ``steps``, ``epochs``, ``best_epoch``,
            ``validation`` (Jaccard of visits, NDCG@20 of rankings), ``order`` by which starts are compared (JSON),
            ``seconds``, ``failed`` (why), ``settings`` (JSON: all that are searched, and the epochs of the budget).
        winner: settings of the start that is best at the last rung.
        folder: where the rows are kept.
    """

    trials: pl.DataFrame
    winner: Mapping[str, Any]
    folder: Path

    def row(self, trial: int | None = None) -> dict[str, Any]:
        """A start as far as it came, as a row of ``trials``; without a number the winner."""
        rows = self.trials.to_dicts()
        return _best(rows) if trial is None else [row for row in rows if row["trial"] == trial][-1]


def space(system: System) -> dict[str, tuple[Any, ...]]:
    """What is searched of a system: those of :data:`COMMON` that it has, and its own."""
    known = {field.name for field in fields(system.config)}
    found = {name: values for name, values in COMMON.items() if name in known}
    if system.task == "ranking" and "batch_size" in found:
        found["batch_size"] = tuple(round(share * system.configure().batch_size) for share in BATCHES)
    return found | dict(system.searched)


def starts(system: System, trials: int, seed: int) -> list[Start]:
    """The declared setting, and others that are drawn without repetition.

    Args:
        system: whose.
        trials: how many; fewer where the space holds fewer.
        seed: of the draw; every system gets the same draws of what all have.

    Raises:
        MedrecError: there is nothing to search.
    """
    of = space(system)
    if not of:
        raise MedrecError(f"{system.label} has no setting that could be searched.")
    found, seen = [Start(0, {})], {json.dumps({})}
    possible = min(trials, 1 + math.prod(map(len, of.values())))
    draws = {name: np.random.default_rng([seed, *name.encode()]) for name in of}
    while len(found) < possible:
        drawn = {name: values[draws[name].integers(len(values))] for name, values in of.items()}
        if (text := json.dumps(drawn)) not in seen:
            seen.add(text)
            found.append(Start(len(found), drawn))
    return found


def named(systems: Sequence[str]) -> tuple[str, ...]:
    """Systems with the word ``everything`` spelled out: all that have a setting to search."""
    everything = [name for name in registry.NAMES if space(registry.get(name))]
    return tuple(dict.fromkeys(one for system in systems for one in (everything if system == EVERYTHING else [system])))


def check(
    model: str,
    *,
    variant: str = "paper",
    trials: int = TRIALS,
    steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> list[Start]:
    """Refuse what :func:`tune` would refuse without having seen a patient; the starts.

    Raises:
        MedrecError: an unknown system, variant or device; a number out of its range; nothing to search.
    """
    check_training(model, variant=variant, seed=seed, device=device)
    _budget(registry.get(model), steps)
    return starts(registry.get(model), checked_count("trials", trials), checked_seed(seed))


def _budget(system: System, steps: int | None) -> int:
    return BUDGETS[system.task] if steps is None else checked_count("steps", steps, MOST_STEPS)


def tune(
    model: str,
    cohort: Cohort | str,
    *,
    variant: str = "paper",
    trials: int = TRIALS,
    steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Search:
    """Search the settings of a system on the validation patients of a cohort, and keep the table of all trials.

    Args:
        model: name of the system, see :mod:`medrec.models.registry`.
        cohort: all patients, or the name of a cohort; split as in the house protocol.
        variant: whose switches stay as they are.
        trials: starts.
        steps: optimiser steps of the starts that get to the end; ``None``: those of :data:`BUDGETS`.
        seed: of the draw and of every training.
        device: of the trainings.

    Raises:
        MedrecError: an unknown system or variant, nothing to search, or a training whose loss is no number at every
            start.
    """
    chosen = check(model, variant=variant, trials=trials, steps=steps, seed=seed, device=device)
    system, cohort = registry.get(model), given_cohort(cohort)
    device, seed = checked_device(device), checked_seed(seed)
    trials, budget = checked_count("trials", trials), _budget(system, steps)
    plans = [_plan(model, cohort, variant, start, budget, seed) for start in chosen]
    rungs = _halving(plans, budget, torch.device(device)) if system.is_network else _once(plans, device)
    rows = [row for rung in rungs for row in rung]
    if all(row["order"] == WORST for row in rows):
        raise MedrecError(f"No start of {system.label} could be trained: {rows[0].get('failed')}")
    frame = pl.DataFrame([row | {"order": json.dumps(row["order"])} for row in rows], schema=SCHEMA)
    words = ["medrec", "tune", model, "--cohort", cohort.name, "--trials", trials, "--steps", budget, "--seed", seed]
    words += ["--variant", variant] if variant != "paper" else []
    trained = [f"{model}/{variant}"]
    folder = kept.save(
        _study(system.name),
        {"trials": frame},
        cohort=cohort,
        command=shlex.join(map(str, words)),
        code=kept.code_of("medrec.lab.tune", "tasks", "metrics", systems=trained),
        systems=trained,
        seconds=sum(row["seconds"] for row in rows),
        device=device,
        more={"variant": variant, "trials": trials, "budget": budget, "seed": seed, "space": space(system)},
    )
    for plan in plans:
        _checkpoint(plan).remove()
    return Search(frame, _winner(frame), folder)


def read(model: str, cohort: Cohort | str | None = None, default: str | None = None) -> Search:
    """A search that is kept, of the variant that it was made of last.

    Args:
        model: name of the system.
        cohort: whose validation patients.
        default: cohort whose search is taken where there is none of ``cohort``; see :func:`medrec.lab.kept.read`.

    Raises:
        MedrecError: none is kept.
    """
    found = kept.read(_study(model), cohort, default=default, command=f"medrec tune {model}")
    trials = found.table("trials")
    return Search(trials, _winner(trials), found.folder)


def _study(model: str) -> str:
    return f"tune/{model}"


def _best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The best start of the last rung."""
    last = max(row["rung"] for row in rows)
    return max((row for row in rows if row["rung"] == last), key=lambda row: json.loads(row["order"]))


def _winner(trials: pl.DataFrame) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(_best(trials.to_dicts())["settings"])
    return settings


SCHEMA: dict[str, Any] = {
    "trial": pl.Int64,
    "rung": pl.Int64,
    "steps": pl.Int64,
    "epochs": pl.Int64,
    "best_epoch": pl.Int64,
    "validation": pl.Float64,
    "order": pl.String,
    "seconds": pl.Float64,
    "failed": pl.String,
    "settings": pl.String,
}
WORST = (-1.0,)
"""Order of a start whose loss was no number: below every other."""


def _plan(model: str, cohort: Cohort, variant: str, start: Start, steps: int, seed: int) -> Plan:
    """The training of a start, with as many epochs as the budget has steps."""
    plan = Plan.of(model, cohort, variant=variant, settings=start.settings, seed=seed)
    if not plan.system.is_network:
        return plan
    network = plan.system.create(plan.config, contexts.build(plan.system.needs, plan.asked))
    rows = plan.exam.rows(network, plan.system.label)
    epochs = math.ceil(steps / math.ceil(len(rows) / plan.config.batch_size))
    return Plan.of(model, cohort, variant=variant, settings={**start.settings, "epochs": epochs}, seed=seed)


def _checkpoint(plan: Plan) -> Checkpoint:
    key = keys.digest("tune", plan.resolved()["key"])
    return Checkpoint(paths.runs_dir() / ".tune" / f"{plan.system.name}-{key}", key, fresh=False)


def _halving(plans: list[Plan], steps: int, device: torch.device) -> list[list[dict[str, Any]]]:
    """Rows of each rung."""
    going, rungs = list(enumerate(plans)), []
    for rung, share in enumerate(SHARES):
        shown = bar(going, desc=f"tune {plans[0].system.label}, rung {rung + 1} of {len(SHARES)}", unit="start")
        rows = [_trained(number, plan, rung, math.ceil(share * steps), device) for number, plan in shown]
        rungs.append(rows)
        if rung + 1 < len(SHARES):
            left = max(LEAST, round(len(plans) * SHARES[0] / SHARES[rung]) // 3)
            ranked = sorted(rows, key=lambda row: row["order"], reverse=True)[:left]
            going = [(row["trial"], plans[row["trial"]]) for row in ranked]
    return rungs


def _trained(number: int, plan: Plan, rung: int, until: int, device: torch.device) -> dict[str, Any]:
    about = {"trial": number, "rung": rung, "settings": json.dumps(_searched(plan))}
    try:
        progress = fitted(plan, device, _checkpoint(plan), until=until).progress
    except MedrecError as error:
        return {**about, "order": WORST, "seconds": 0.0, "failed": str(error)}
    assert progress is not None
    assert progress.best_epoch is not None
    best = progress.history[progress.best_epoch]
    return {
        **about,
        "steps": progress.steps,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "validation": best[tasks.get(plan.system.task).SELECTION],
        "seconds": round(sum(row["seconds"] for row in progress.history), 1),
        "order": progress.best_order,
    }


def _once(plans: list[Plan], device: str) -> list[list[dict[str, Any]]]:
    rows = []
    for number, plan in enumerate(bar(plans, desc=f"tune {plans[0].system.label}", unit="start")):
        run = train(
            plan.reference, plan.cohort, variant=plan.variant, settings=_searched(plan), seed=plan.seed, device=device
        )
        value = chosen_by([run])
        rows.append(
            {
                "trial": number,
                "rung": 0,
                "validation": value,
                "seconds": round(float(run.environment["wall_seconds"]), 1),
                "order": WORST if value is None else (value,),
                "settings": json.dumps(_searched(plan)),
            }
        )
    return [rows]


def _searched(plan: Plan) -> dict[str, Any]:
    """What a start has of the settings that are searched, and its epochs; whole, since declared settings change."""
    names = [*space(plan.system), *(["epochs"] if plan.system.is_network else [])]
    return {name: getattr(plan.config, name) for name in names}


def text(search: Search) -> str:
    """The rungs of a search, best first, and how the winner is trained."""
    lines = []
    for rung, rows in search.trials.group_by("rung", maintain_order=True):
        ranked = sorted(rows.iter_rows(named=True), key=lambda row: json.loads(row["order"]), reverse=True)
        lines.append(f"rung {rung[0] + 1}")
        for row in ranked:
            score = "failed" if row["validation"] is None else f"{row['validation']:.4f}"
            after = "" if row["steps"] is None else f" after {row['steps']} steps"
            lines.append(f"  {score}{after}  {_words(json.loads(row['settings']))}")
    lines.append(f"Winner: {_words(search.winner)}")
    return "\n".join([*lines, str(search.folder)])


def _words(settings: Mapping[str, Any]) -> str:
    return " ".join(f"--set {name}={value}" for name, value in settings.items())
