"""From a cohort, a system and a task to a run: split, fit, select, score, store.

A run with the same content key is taken from the store; nothing is built for that.  Two seeds: ``seed`` initialises
and shuffles, ``split_seed`` decides who is a test patient.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from medrec import context as contexts
from medrec import keys, runs, tasks
from medrec.arguments import checked_device, checked_file, checked_seed
from medrec.context import Asked, Context
from medrec.data.cohort import Cohort
from medrec.data.load import given_cohort
from medrec.fit import BEFORE, Checkpoint, Progress, fit, seeded
from medrec.models import registry
from medrec.models.base import State, System
from medrec.progress import working
from medrec.runs import Run
from medrec.types import Interrupted, MedrecError

ROOMS = ("models", "nn", "chem", "text", "graphs", "losses")
"""Rooms whose code makes a system's numbers, as far as its module imports them."""
SHARED = ("medrec.fit", "medrec.training", "medrec.metrics", "medrec.context", "medrec.data.batch", "medrec.data.split")
"""Code that makes every run's numbers."""


@dataclass(frozen=True)
class Words:
    """What :func:`check` makes of a caller's words.

    Args:
        system: that is named.
        protocol: of its task.
        seed: of the training.
        split_seed: of the split; ``None`` for file order.
        ddi: file of another interaction list.
    """

    system: System
    protocol: Any
    seed: int
    split_seed: int | None
    ddi: Path | None


def check(
    model: str,
    *,
    variant: str = "paper",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    split_seed: int | None = 0,
    protocol: Any = None,
    ddi: str | Path | None = None,
    device: str = "cpu",
) -> Words:
    """Refuse what :func:`train` would refuse without having seen a patient: a wrong word need not wait for the tables.

    Raises:
        MedrecError: an unknown system, variant, setting, protocol or device; a number out of its range; no such file.
    """
    system = registry.get(model)
    system.configure(variant, settings)
    rules = tasks.protocol(system.task, protocol)
    checked_device(device)
    split_seed = None if split_seed is None else checked_seed(split_seed, "split_seed")
    return Words(system, rules, checked_seed(seed), split_seed, checked_file("ddi", ddi))


@dataclass(frozen=True)
class Plan:
    """A training that is looked up or made: everything that decides its numbers.

    Args:
        system: what is trained.
        reference: how the registry finds it again.
        variant: of the system.
        config: resolved settings.
        seed: of initialisation, shuffling and dropout.
        cohort: all patients.
        exam: the task on this cohort and split.
        asked: what the context is made of.
    """

    system: System
    reference: str
    variant: str
    config: Any
    seed: int
    cohort: Cohort
    exam: Any
    asked: Asked

    @classmethod
    def of(
        cls,
        model: str,
        cohort: Cohort | str,
        *,
        variant: str = "paper",
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        split_seed: int | None = 0,
        protocol: Any = None,
        ddi: str | Path | None = None,
    ) -> Plan:
        """As :func:`train` takes it; trains nothing."""
        words = check(
            model, variant=variant, settings=settings, seed=seed, split_seed=split_seed, protocol=protocol, ddi=ddi
        )
        system, cohort = words.system, given_cohort(cohort)
        exam = tasks.get(system.task).Exam(cohort, words.split_seed, words.protocol)
        config = system.configure(variant, settings, n_train=exam.n_train)

        def seen() -> Any:
            """All codes that training sees: of the ranking task alone."""
            return getattr(exam, "seen", None)

        asked = Asked(cohort.vocab, config, cohort.planted, words.ddi, lambda: exam.graph, seen)
        reference = model if ":" in model else system.name
        return cls(system, reference, variant, config, words.seed, cohort, exam, asked)

    def resolved(self) -> dict[str, Any]:
        """Everything that decides the numbers, for ``config.json``; ``key`` is the hash of it, names left out."""
        context = contexts.describe(self.system.needs, self.asked)
        content = {
            "format": runs.FORMAT,
            "task": self.system.task,
            "settings": asdict(self.config),
            "seed": self.seed,
            "sees": self.exam.sees,
            "cohort": self.cohort.content,
            "context": {part: found["content"] for part, found in context.items()},
            "code": keys.codes(code_of(self.system)),
        }
        names = {"system": self.reference, "variant": self.variant, "planted": dict(self.cohort.planted)}
        cohort: dict[str, Any] = {
            "name": self.cohort.name,
            "source": self.cohort.source,
            "options": self.cohort.options,
        }
        key = keys.digest(content)
        content["cohort"] = cohort | {"content": content["cohort"]}
        content["context"] = context
        return {"key": key, **content, **names}

    @property
    def label(self) -> str:
        """For progress bars, and for what is said of the training."""
        seed = f", seed {self.seed}" if self.system.is_network else ""
        return f"{self.system.label}, {self.cohort.name}{seed}"

    def folder_name(self) -> tuple[str, str, str]:
        """Cohort, system and variant, with whatever is not as usual, as folders are called."""
        plain = asdict(self.system.configure(self.variant, n_train=self.exam.n_train))
        changed = {k: v for k, v in asdict(self.config).items() if v != plain[k]} | self.exam.changes
        if self.asked.ddi is not None:
            changed["ddi"] = self.asked.ddi.name.partition(".")[0]
        return runs.cohort_key(self.cohort), self.system.name, runs.with_changes(self.variant, changed)


def code_of(system: System) -> tuple[str, ...]:
    """Modules whose code makes a system's numbers: its own with what it imports, the loop, the task, the context.

    Never readers, privacy, plots or the command line: what they make enters a key by its content.
    """
    outside = system.module.partition(".")[0]
    rooms = keys.in_rooms(*ROOMS)
    providers = [module for need in system.needs for module in contexts.provider(need).modules]
    own = keys.closure(
        [system.module, *providers],
        lambda module: rooms(module) or (outside != "medrec" and module.partition(".")[0] == outside),
    )
    task = (f"medrec.tasks.{system.task}", "medrec.tasks.evaluation", "medrec.models.popularity")
    return tuple(sorted({*own, *SHARED, *task} - {"medrec.models.registry"}))


def train(
    model: str,
    cohort: Cohort | str,
    *,
    variant: str = "paper",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    split_seed: int | None = 0,
    device: str = "cpu",
    again: bool = False,
    protocol: Any = None,
    ddi: str | Path | None = None,
) -> Run:
    """Train a system and store the run; a run with the same content key is taken from the store.

    Args:
        model: name of the system, see :mod:`medrec.models.registry`.
        cohort: all patients, or the name of a cohort; they are split here.
        variant: ``"paper"``, ``"official"``, or another of the system's.
        settings: settings that differ from the variant's.
        seed: of initialisation, shuffling and dropout.
        split_seed: of the split; ``None`` for file order, test before validation, as in released code.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        again: train even if the run is there.
        protocol: of the system's task, or its name; what training sees of it is part of the key, the rest is of no
            matter here.
        ddi: file of another interaction list than the book's own.

    Raises:
        MedrecError: an unknown system, cohort, variant, setting or device; a number out of its range; too few
            patients; a full disk.
        Interrupted: somebody pressed Ctrl-C; it says what is kept.
    """
    device = checked_device(device)
    plan = Plan.of(
        model, cohort, variant=variant, settings=settings, seed=seed, split_seed=split_seed, protocol=protocol, ddi=ddi
    )
    resolved = plan.resolved()
    place = runs.Place(*plan.folder_name(), plan.seed, resolved["key"])
    if not again and (stored := place.find()) is not None:
        return stored
    return _made(plan, resolved, place, torch.device(device), again=again)


def look_up(model: str, cohort: Cohort | str, **more: Any) -> Run | None:
    """The run that :func:`train` would return without training, or ``None``.

    Args:
        model: as :func:`train` takes it.
        cohort: as :func:`train` takes it.
        more: ``variant``, ``settings``, ``seed``, ``split_seed``, ``protocol``, ``ddi``.
    """
    plan = Plan.of(model, cohort, **more)
    return runs.Place(*plan.folder_name(), plan.seed, plan.resolved()["key"]).find()


@dataclass(frozen=True)
class Fitted:
    """A system that was just fitted.

    Args:
        system: the network or estimator.
        context: what it knows.
        progress: of a network's training; ``None`` for an estimator.
    """

    system: Any
    context: Context
    progress: Progress | None

    def state(self) -> State:
        """What was learnt, by name."""
        if self.progress is None:
            learnt: State = self.system.state()
            return learnt
        return {name: value.detach().cpu().numpy() for name, value in self.system.state_dict().items()}


def fitted(plan: Plan, device: torch.device, checkpoint: Checkpoint, until: int | None = None) -> Fitted:
    """Fit what was planned; nothing is stored but the checkpoint of a network.

    Args:
        plan: what.
        device: where.
        checkpoint: of a network.
        until: optimiser steps after which a network's training pauses; see :func:`medrec.fit.fit`.
    """
    system, exam = plan.system, plan.exam
    with working(f"{system.label}: getting ready"):
        context = contexts.build(system.needs, plan.asked)
    if not system.is_network:
        with working(plan.label):
            return Fitted(exam.fit(system.create(plan.config, context, seed=plan.seed)), context, None)
    there = context.to(device)
    with seeded(plan.seed, device):
        network = system.create(plan.config, there).to(device)
        progress = fit(
            network,
            data=exam.data,
            train=exam.train,
            rows=exam.rows(network, system.label),
            context=there,
            judge=lambda judged: exam.judge(judged, there, device),
            seed=plan.seed,
            device=device,
            checkpoint=checkpoint,
            label=plan.label,
            until=until,
        )
    return Fitted(network, context, progress)


def _made(plan: Plan, resolved: dict[str, Any], place: runs.Place, device: torch.device, *, again: bool) -> Run:
    start = time.perf_counter()
    exam = plan.exam
    checkpoint = Checkpoint(place.checkpoint, resolved["key"], fresh=again)
    done = None
    try:
        done = fitted(plan, device, checkpoint)
        ddi = done.context.ddi.numpy()
        with working(f"{plan.label}: results"):
            answers = exam.answers(done.system, done.context, device)
            metrics = exam.results(done.system, answers, ddi)
    except Interrupted:
        raise
    except KeyboardInterrupt:
        trained = done is not None and done.progress is not None
        said = "after the last epoch: run it again, and only the results are missing" if trained else BEFORE
        raise Interrupted(f"{plan.label}: interrupted {said}.") from None
    run = runs.save(
        place.free(),
        config=resolved,
        metrics={
            **metrics,
            "split": {part: len(getattr(exam.split, part)) for part in ("train", "validation", "test")},
            **_training(plan, done.progress),
        },
        answers={part: found.arrays() for part, found in answers.items()},
        ddi=ddi,
        graph=exam.graph,
        knowledge=done.context.knowledge,
        history=None if done.progress is None else done.progress.history,
        state=done.state(),
        vocab=plan.cohort.vocab,
        environment=runs.environment(str(device), time.perf_counter() - start),
    )
    checkpoint.remove()
    return run


def _training(plan: Plan, progress: Progress | None) -> dict[str, Any]:
    """How the training went, for ``metrics.json``; what is fitted in one go has converged."""
    if progress is None:
        return {"best_epoch": None, "converged": True, "epochs": None, "steps": None}
    return {
        "best_epoch": progress.best_epoch,
        "converged": progress.converged(plan.config),
        "epochs": progress.epoch,
        "steps": progress.steps,
    }


def load_system(run: Run) -> tuple[Any, Context]:
    """The fitted system of a run, and the context it wants.

    Raises:
        MedrecError: what the system was made from, beside the run, is not what it was (structures of drugs); or its
            code has changed so that the weights do not fit.
    """
    system = registry.get(run.config["system"])
    config = system.config(**run.config["settings"])
    asked = Asked(run.vocabulary(), config, run.config["planted"], graph=run.graph, knowledge=run.knowledge)
    now = {need: contexts.provider(need).describe(asked) for need in system.needs}
    changed = [need for need, content in now.items() if content != run.config["context"][need]["content"]]
    if changed:
        raise MedrecError(f"The {changed[0]} that {run.key} was trained with have changed since. Train it again.")
    context = contexts.build(system.needs, asked, torch.from_numpy(run.ddi()))
    try:
        return system.restore(config, context, run.state()), context
    except (RuntimeError, KeyError) as error:
        raise MedrecError(f"The weights of {run.key} do not fit the code of {system.label} any more: {error}") from None
