"""The training loop, and the checkpoint from which it goes on.

One plain loop for every network: one step of its optimisers for each batch, after every epoch a value from the judge;
the epoch with the highest one is kept.  As in the released codes the first epoch (number 0) is never chosen, unless
there is no other.  A training ends when both patiences have run out, in epochs and in optimiser steps: then it has
*converged*; or at the limit of epochs.  With the schedule ``cosine`` it goes on to that limit, because most is gained
as the rate falls, and has converged there, where the rate has come down to nothing.  After every epoch a checkpoint is
written, from which a broken training goes on with the very numbers it would have had.
"""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from medrec.context import Context
from medrec.folders import atomic_folder, damage, notice
from medrec.models.base import Judgement, Network, TrainingConfig
from medrec.progress import bar
from medrec.types import Interrupted, MedrecError

Judge = Callable[[Network], Judgement]
CHECKPOINT_FORMAT = 3
BEFORE = "before anything could be kept"
"""Of a fit that was interrupted early, or that is done in one go."""


@dataclass
class Progress:
    """How far a training has come.

    Args:
        epoch: how many are done.
        history: one row for each.
        steps: optimiser steps that are done.
        best: weights of the best epoch so far.
        best_epoch: its number.
        best_order: what the judge said of it.
        best_steps: optimiser steps that were done then.
    """

    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    best: dict[str, Tensor] | None = None
    best_epoch: int | None = None
    best_order: tuple[float, ...] = ()
    best_steps: int = 0

    def converged(self, config: TrainingConfig) -> bool:
        """Whether no more is to be expected.

        Constant rate: patience has run out, in epochs and in optimiser steps, whichever takes longer.  ``cosine``: the
        schedule is at its end, and was no shorter than patience.
        """
        if self.best_epoch is None:
            return False
        since, steps = self.epoch - 1 - self.best_epoch, self.steps - self.best_steps
        if config.schedule == "cosine":
            since, steps = self.epoch if self.epoch >= config.epochs else 0, self.steps
        return since >= config.patience and steps >= config.patience_steps


def fit(
    network: Network,
    *,
    data: Any,
    train: NDArray[np.integer],
    rows: NDArray[np.integer],
    context: Context,
    judge: Judge,
    seed: int,
    device: torch.device,
    checkpoint: Checkpoint,
    label: str,
    until: int | None = None,
) -> Progress:
    """Train a fresh network, or one whose training broke off; in the end it has the weights of the best epoch.

    Args:
        network: on the device.
        data: what it is prepared and trained on.
        train: training patients, for what is counted and not trained.
        rows: those of them that offer a target.
        context: on the device.
        judge: gives the value by which epochs are chosen.
        seed: of the shuffle; initialisation and dropout draw from PyTorch's generator.
        device: of everything.
        checkpoint: where to go on from, and to write to.
        label: of the progress bar.
        until: optimiser steps after whose epoch it pauses, as soon as an epoch can be chosen; the checkpoint stays,
            and a later call goes on.

    Raises:
        MedrecError: the loss is no longer a number, or the disk is full.
        Interrupted: somebody pressed Ctrl-C; it says how many epochs are kept.
    """
    config = network.config
    optimisers = network.optimisers()
    progress = checkpoint.resume(network, optimisers, device)
    kept = progress.epoch
    if kept and until is None:
        notice(f"{label}: broken off earlier, goes on after epoch {kept} of {config.epochs} at most.")
    shown = bar(desc=label, unit="epoch", leave=until is None, initial=kept, total=config.epochs)
    try:
        if not kept:
            network.prepare(data, train, context)
        if progress.best is None:
            progress.best = _copied(network)
        for epoch in range(kept, config.epochs):
            if progress.converged(config):
                break
            if until is not None and progress.steps >= until and progress.best_epoch is not None:
                break
            set_rates(optimisers, config, epoch)
            begin = time.perf_counter()
            network.before_epoch(epoch, context)
            batches = network.batches(data, rows, [seed, epoch])
            loss, steps = one_epoch(network, optimisers, batches, context, device, epoch)
            found = judge(network)
            progress.epoch, progress.steps = epoch + 1, progress.steps + steps
            seconds = round(time.perf_counter() - begin, 3)
            progress.history.append(
                {"epoch": epoch, "steps": progress.steps, "loss": loss, **found.row, "seconds": seconds}
            )
            eligible = epoch >= min(1, config.epochs - 1)
            if eligible and (progress.best_epoch is None or found.order > progress.best_order):
                progress.best_epoch, progress.best_order, progress.best_steps = epoch, found.order, progress.steps
                progress.best = _copied(network)
            network.after_epoch(found.selected)
            shown.set_postfix(loss=f"{loss:.4f}", validation=f"{found.selected:.4f}", refresh=False)
            checkpoint.write(network, optimisers, progress, device)
            kept = progress.epoch
            shown.update()
        if progress.converged(config):
            # A bar that stood still at a third of what was allowed would look as if something hung.
            shown.total = progress.epoch
            shown.set_postfix_str(f"converged, epoch {progress.best_epoch} is kept")
    except Interrupted:
        raise
    except KeyboardInterrupt:
        said = f"after epoch {kept} of {config.epochs}: run it again, and it goes on from there" if kept else BEFORE
        raise Interrupted(f"{label}: interrupted {said}.") from None
    finally:
        shown.close()
    network.load_state_dict(progress.best)
    return progress


def set_rates(optimisers: list[torch.optim.Optimizer], config: TrainingConfig, epoch: int) -> None:
    """Learning rates of an epoch: as they were declared, or with the schedule ``cosine`` half a wave down to zero.

    With E epochs, epoch e (from 0) has the share (1 + cos(π e / E)) / 2 of the declared rate.
    """
    share = 1.0 if config.schedule == "constant" else (1 + math.cos(math.pi * epoch / config.epochs)) / 2
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = share * group.setdefault("initial_lr", group["lr"])


def one_epoch(
    network: Network,
    optimisers: list[torch.optim.Optimizer],
    batches: Iterator[Any],
    context: Context,
    device: torch.device,
    epoch: int,
) -> tuple[float, int]:
    """One pass over the training patients; mean loss of a step, and the number of steps.

    Raises:
        MedrecError: the loss is no longer a number.
    """
    network.train()
    total, steps = torch.zeros((), device=device), 0
    for cpu_batch in batches:
        batch = cpu_batch.to(device)
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss = network.loss(batch, context)
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        total += loss.detach()
        steps += 1
    mean = float(total) / steps
    if not np.isfinite(mean):
        raise MedrecError(
            f"{type(network).__name__}: the loss is no longer a number in epoch {epoch}. "
            "Lower the learning rate, e.g. --set learning_rate=0.0005."
        )
    return mean, steps


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Random numbers of PyTorch from ``seed`` inside the block; the caller's own go on afterwards as if nothing was.

    Algorithms that give the same numbers every time are chosen where there are any: the same seed on the same machine
    with the same number of threads gives the same bytes.
    """
    device = torch.device(device)
    cuda = device.type == "cuda"
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic  # its switch is a property of the module, which type checkers do not see
    filled = memory.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.manual_seed(seed)
        if cuda:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Nothing here reads memory that it has not written; filling it takes time.
        memory.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            memory.fill_uninitialized_memory = filled


def _copied(network: Network) -> dict[str, Tensor]:
    return copy.deepcopy(network.state_dict())


class Checkpoint:
    """State of a training after its last whole epoch: weights, best weights, optimisers, random numbers.

    Args:
        folder: hidden, beside the run's.
        key: of the run; a checkpoint of another one is not used.
        fresh: forget what is there.
    """

    def __init__(self, folder: Path, key: str, *, fresh: bool) -> None:
        self.folder, self.key = folder, key
        if fresh:
            self.remove()

    def write(
        self, network: Network, optimisers: list[torch.optim.Optimizer], progress: Progress, device: torch.device
    ) -> None:
        """Store the state after a whole epoch.

        Raises:
            MedrecError: the disk is full or the folder cannot be written.
        """
        tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in (progress.best or {}).items()}
        for number, optimiser in enumerate(optimisers):
            for index, values in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser.{number}.{index}.{k}": v for k, v in values.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(device)
        with atomic_folder(self.folder, what="the checkpoint") as tmp:
            contiguous = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
            (tmp / "state.safetensors").write_bytes(tensor_bytes(contiguous))
            stored = {
                "format": CHECKPOINT_FORMAT,
                "key": self.key,
                "epoch": progress.epoch,
                "history": progress.history,
                "steps": progress.steps,
                "best_epoch": progress.best_epoch,
                "best_order": progress.best_order,
                "best_steps": progress.best_steps,
            }
            (tmp / "state.json").write_text(json.dumps(stored) + "\n", encoding="utf-8")

    def resume(self, network: Network, optimisers: list[torch.optim.Optimizer], device: torch.device) -> Progress:
        """Set network, optimisers and random numbers to the last checkpoint, where there is a fitting one.

        One that is damaged is reported, and the training begins anew.
        """
        if not self.folder.is_dir():
            return Progress()
        if reason := damage(self.folder):
            notice(f"the checkpoint {self.folder} is damaged ({reason}); the training begins anew.")
            return Progress()
        # One file is the seal of the other: tensors of another epoch would not have fitted the checksums.
        stored = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        tensors = read_tensors((self.folder / "state.safetensors").read_bytes())
        has_cuda = "random.cuda" in tensors
        if (
            stored.get("format") != CHECKPOINT_FORMAT
            or stored["key"] != self.key
            or has_cuda != (device.type == "cuda")
        ):
            return Progress()
        network.load_state_dict(_part(tensors, "network"))
        for number, optimiser in enumerate(optimisers):
            moments: dict[int, dict[str, Tensor]] = {}
            for name, value in _part(tensors, f"optimiser.{number}").items():
                index, _, what = name.partition(".")
                moments.setdefault(int(index), {})[what] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
        torch.set_rng_state(tensors["random.cpu"])
        if has_cuda:
            torch.cuda.set_rng_state(tensors["random.cuda"], device)
        return Progress(
            epoch=stored["epoch"],
            history=stored["history"],
            steps=stored["steps"],
            best=_part(tensors, "best"),
            best_epoch=stored["best_epoch"],
            best_order=tuple(stored["best_order"]),
            best_steps=stored["best_steps"],
        )

    def remove(self) -> None:
        """Take it away."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
