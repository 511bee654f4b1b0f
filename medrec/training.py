"""From a cohort and the name of a system to a run: split, fit, select, score, store.

Estimators are fitted in one go.  Networks go through one plain loop: Adam, one optimiser step for each batch of
patients, after every epoch the Jaccard of the validation patients; the epoch with the highest one is kept.  As in
the released codes the first epoch (number 0) is never chosen, unless there is no other.  After every epoch a
checkpoint is written, from which a broken training goes on with the very numbers it would have had.

Two seeds: ``seed`` initialises and shuffles, ``split_seed`` decides who is a test patient.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor
from tqdm import tqdm

from medrec import runs
from medrec.data.batch import batches
from medrec.data.cohort import Cohort, Kind, Vocabulary, atomic_folder
from medrec.data.split import Split, split_patients
from medrec.knowledge.interactions import default_ddi
from medrec.models import registry
from medrec.models.base import Context, Estimator, Recommender, TrainingConfig
from medrec.protocol import HOUSE, Protocol, evaluate, tune_threshold
from medrec.runs import Run
from medrec.types import MedrecError

EVALUATION_BATCH = 256
"""Patients at once where no gradient is kept."""
CHECKPOINT_FORMAT = 1


@dataclass(frozen=True)
class Prediction:
    """What a system says about every visit of a cohort.

    Args:
        scores: ``(V, M)`` probabilities, or ``None``.
        recommended: ``(V, M)`` bool, at the system's own threshold.
        scored: ``(V,)`` bool, visits for which it speaks.
        tunable: whether the sets are thresholded scores.
    """

    scores: NDArray | None
    recommended: NDArray[np.bool_]
    scored: NDArray[np.bool_]
    tunable: bool

    def at(self, threshold: float) -> NDArray[np.bool_]:
        """Sets at another threshold."""
        # In the precision of the scores: a 32-bit 0.4 is not smaller than 0.4.
        return self.scores >= self.scores.dtype.type(threshold)


def train(
    model: str,
    cohort: Cohort,
    *,
    variant: str = "paper",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    split_seed: int | None = 0,
    device: str = "cpu",
    again: bool = False,
    protocol: Protocol = HOUSE,
) -> Run:
    """Train a system and store the run; a run with the same resolved configuration is taken from the store.

    Args:
        model: name of the system, see :mod:`medrec.models.registry`.
        cohort: all patients; they are split here.
        variant: ``"paper"`` or ``"official"``.
        settings: settings that differ from the variant's.
        seed: of initialisation, shuffling and dropout.
        split_seed: of the split; ``None`` for file order, test before validation, as in released code.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        again: train even if the run is there.
        protocol: who is scored, and how visits are averaged.

    Raises:
        MedrecError: an unknown system, variant, setting or device; too few patients; a full disk.
    """
    entry = registry.get(model)
    config = entry.configure(variant, dict(settings or {}))
    device = _checked_device(device)
    split = split_patients(cohort.n_patients, split_seed)
    context, ddi_source = build_context(entry, config, cohort.vocab, _planted(cohort))
    resolved = {
        "format": 1,
        "model": entry.name,
        "variant": variant,
        "settings": asdict(config),
        "seed": seed,
        "split_seed": split_seed,
        "cohort": {
            "name": cohort.name,
            "source": cohort.source,
            "options": cohort.options,
            "fingerprint": runs.fingerprint(cohort),
        },
        "planted_molecules": _planted(cohort),
        "protocol": asdict(protocol),
        "ddi": ddi_source,
    }
    # As it will be read back, so that both sides of the comparison are the same kind of thing.
    resolved = json.loads(json.dumps(resolved))
    folder = runs.run_folder(
        runs.cohort_key(cohort), entry.name, _variant_key(entry, variant, config, split_seed), seed
    )
    if not again and (folder / "config.json").exists():
        stored = Run.load(folder)
        if stored.config == resolved:
            return stored
    start = time.perf_counter()
    if entry.is_network:
        checkpoint = _Checkpoint(folder.parent / f".{folder.name}.checkpoint", resolved, fresh=again)
        network, history, best = _fit_network(
            entry, config, cohort, split, context, protocol, seed, torch.device(device), checkpoint
        )
        system: Estimator | Recommender = network
        state = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    else:
        checkpoint, history, best = None, None, None
        # Chance of an estimator, where there is any, has scikit-learn's name; it is no setting, but the run's seed.
        chance = {"random_state": seed} if "random_state" in entry.cls().get_params() else {}
        system = entry.cls(**asdict(config), **chance).fit(cohort.select(split.train))
        state = system.state()
    metrics, per_patient = _examine(system, cohort, split, context, protocol, torch.device(device))
    run = runs.save(
        folder,
        config=resolved,
        metrics={**metrics, "best_epoch": best},
        per_patient=per_patient,
        history=history,
        state=state,
        vocab=cohort.vocab,
        environment=runs.environment(device, time.perf_counter() - start),
    )
    if checkpoint is not None:
        checkpoint.remove()
    return run


def predict(
    system: Estimator | Recommender, cohort: Cohort, context: Context, device: torch.device | str = "cpu"
) -> Prediction:
    """What a fitted system says about every visit of a cohort."""
    if isinstance(system, Estimator):
        return Prediction(system.predict_proba(cohort), system.predict(cohort), system.scored(cohort), system.tunable)
    system.eval()
    shape = (cohort.n_visits, cohort.n_medications)
    scores = np.zeros(shape, dtype=np.float32)
    recommended, scored = np.zeros(shape, dtype=bool), np.zeros(cohort.n_visits, dtype=bool)
    context = context.to(device)
    with torch.inference_mode():
        for cpu_batch in batches(cohort, np.arange(cohort.n_patients), EVALUATION_BATCH, None):
            batch = cpu_batch.to(device)
            spoken = system.scored(batch)
            prob, sets = system.decide(batch, context)
            real = batch.visit_mask
            visits = batch.visits[real].cpu().numpy()
            scores[visits] = prob[real].cpu().numpy()
            recommended[visits] = sets[real].cpu().numpy()
            scored[visits] = spoken[real].cpu().numpy()
    return Prediction(scores, recommended, scored, system.tunable)


def load_system(run: Run) -> tuple[Estimator | Recommender, Context]:
    """The fitted system of a run, and the context it wants."""
    entry = registry.get(run.config["model"])
    vocab = run.vocabulary()
    config = entry.config(**run.config["settings"])
    context, _ = build_context(entry, config, vocab, run.config["planted_molecules"])
    if not entry.is_network:
        return entry.cls(**run.config["settings"]).load_state(run.state()), context
    network = entry.cls(config, context)
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in run.state().items()})
    return network.eval(), context


def build_context(
    entry: registry.Entry,
    config: Any,
    vocab: Mapping[Kind, Vocabulary],
    planted_molecules: Mapping[str, list[str]] | None = None,
) -> tuple[Context, str]:
    """What a system may know besides the records, and where its interactions come from.

    Args:
        entry: the system; molecules are built for those that look at them.
        config: its settings; ``molecules_per_class`` counts where it is there.
        vocab: one vocabulary for each kind of code.
        planted_molecules: drugs that stand for a class in a synthetic control.
    """
    codes = vocab["medication"].codes
    matrix, source = default_ddi(codes)
    molecules = None
    if entry.is_network and entry.cls.sees_molecules:
        # RDKit is loaded for those who need it.
        from medrec.chem.molecules import build

        per_class = getattr(config, "molecules_per_class", 3)
        molecules = build(codes, per_class=per_class, only=planted_molecules)
    return Context(dict(vocab), torch.from_numpy(matrix), molecules), source


def _planted(cohort: Cohort) -> dict[str, list[str]]:
    """Drugs that stand for a class in a cohort with a planted shape; nothing for all others."""
    if cohort.source != "synthetic" or not cohort.name.endswith("+shape"):
        return {}
    from medrec.data.synthetic.controls import COMPACT, EXTENDED

    return {code: [drug] for code, drug in (EXTENDED, COMPACT)}


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Random numbers of PyTorch from ``seed`` inside the block; the caller's own go on afterwards as if nothing was.

    On an accelerator, algorithms that give the same numbers every time are chosen where there are any.
    """
    device = torch.device(device)
    cuda = device.type == "cuda"
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.manual_seed(seed)
        if cuda:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


# -- inside --------------------------------------------------------------------------------------------------------


def _checked_device(device: str) -> str:
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise MedrecError(f"There is no device {device!r}; use cpu, cuda or cuda:0.") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise MedrecError("No CUDA device is to be found here; use --device cpu.")
    return device


def _variant_key(entry: registry.Entry, variant: str, config: Any, split_seed: int | None) -> str:
    """The variant, and whatever differs from it."""
    plain = asdict(entry.configure(variant))
    changed = {k: v for k, v in asdict(config).items() if v != plain[k]}
    if split_seed != 0:
        changed["split_seed"] = "file-order" if split_seed is None else split_seed
    return runs.with_changes(variant, changed)


def _examine(
    system: Estimator | Recommender,
    cohort: Cohort,
    split: Split,
    context: Context,
    protocol: Protocol,
    device: torch.device,
) -> tuple[dict[str, Any], pl.DataFrame]:
    """Test results at both thresholds, and the table behind them."""
    ddi = context.ddi.numpy()
    test, validation = cohort.select(split.test), cohort.select(split.validation)
    said = predict(system, test, context, device)
    sets = {"own": said.recommended, "tuned": said.recommended}
    thresholds: dict[str, float | None] = {"own": None, "tuned": None}
    if said.tunable:
        heard = predict(system, validation, context, device)
        thresholds["own"] = _own_threshold(system)
        if heard.scored.any():
            thresholds["tuned"] = tune_threshold(validation, heard.scores, scored=heard.scored, protocol=protocol)
            sets["tuned"] = said.at(thresholds["tuned"])
        else:
            thresholds["tuned"] = thresholds["own"]
    metrics: dict[str, Any] = {}
    frames = []
    for name, recommended in sets.items():
        result = evaluate(
            test,
            recommended,
            ddi,
            scores=said.scores,
            scored=said.scored,
            patients=split.test,
            protocol=protocol,
        )
        metrics[name] = {"threshold": thresholds[name], **result.summary()}
        frames.append(result.per_patient.with_columns(threshold=pl.lit(name)))
    if said.tunable and heard.scored.any():
        # By this the settings of an estimator are chosen; networks have their history.
        judged = evaluate(
            validation,
            heard.at(thresholds["tuned"]),
            ddi,
            scores=heard.scores,
            scored=heard.scored,
            patients=split.validation,
            protocol=protocol,
        )
        metrics["tuned"]["validation"] = judged.summary()["jaccard"]
    metrics["split"] = {part: len(getattr(split, part)) for part in ("train", "validation", "test")}
    return metrics, pl.concat(frames)


def _own_threshold(system: Estimator | Recommender) -> float:
    return system.config.threshold if isinstance(system, Recommender) else system.threshold


def _fit_network(
    entry: registry.Entry,
    config: TrainingConfig,
    cohort: Cohort,
    split: Split,
    context: Context,
    protocol: Protocol,
    seed: int,
    device: torch.device,
    checkpoint: _Checkpoint,
) -> tuple[Recommender, pl.DataFrame, int]:
    chosen = split.validation if protocol.selection == "validation" else split.test
    judges = cohort.select(chosen)
    ddi = context.ddi.numpy()
    context = context.to(device)
    with seeded(seed, device):
        network = entry.cls(config, context).to(device)
        optimiser = torch.optim.Adam(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, foreach=False
        )
        learners = split.train
        if network.needs_history:
            # Patients with a single visit offer no target.
            learners = learners[np.diff(cohort.visit_offsets)[learners] > 1]
        if len(learners) == 0:
            raise MedrecError(
                f"{entry.label} learns from patients with two visits or more, and none of the {len(split.train)} "
                f"training patients of cohort {cohort.name!r} has them. Take another cohort."
            )
        progress = checkpoint.resume(network, optimiser, device)
        if progress.epoch == 0:
            network.prepare(cohort, split.train, context)
        best = progress.best if progress.best is not None else _copied(network)
        epochs = tqdm(
            range(progress.epoch, config.epochs),
            initial=progress.epoch,
            total=config.epochs,
            desc=f"{entry.label}, {cohort.name}, seed {seed}",
            unit="epoch",
            disable=None if sys.stderr is not None else True,
        )
        for epoch in epochs:
            if progress.stopped(config):
                break
            begin = time.perf_counter()
            loss = _epoch(network, optimiser, cohort, learners, context, config, [seed, epoch], device)
            said = predict(network, judges, context, device)
            result = evaluate(
                judges, said.recommended, ddi, scores=said.scores, scored=said.scored, protocol=protocol
            ).summary()
            row = {
                "epoch": epoch,
                "loss": loss,
                **{name: result[name] for name in ("jaccard", "ddi_rate", "f1", "prauc", "n_medications")},
                "seconds": round(time.perf_counter() - begin, 3),
            }
            progress.history.append(row)
            progress.epoch = epoch + 1
            eligible = epoch >= min(1, config.epochs - 1)
            if eligible and (progress.best_epoch is None or result["jaccard"] > progress.best_jaccard):
                progress.best_epoch, progress.best_jaccard = epoch, result["jaccard"]
                best = _copied(network)
            network.after_epoch(result["jaccard"])
            epochs.set_postfix(loss=f"{loss:.4f}", jaccard=f"{result['jaccard']:.4f}")
            checkpoint.write(network, optimiser, best, progress, device)
        epochs.close()
        network.load_state_dict(best)
    return network, pl.DataFrame(progress.history), progress.best_epoch


def _epoch(
    network: Recommender,
    optimiser: torch.optim.Optimizer,
    cohort: Cohort,
    learners: NDArray[np.int64],
    context: Context,
    config: TrainingConfig,
    order: list[int],
    device: torch.device,
) -> float:
    """One pass over the training patients; mean loss of a step."""
    network.train()
    total, steps = torch.zeros((), device=device), 0
    for cpu_batch in batches(cohort, learners, config.batch_size, order):
        batch = cpu_batch.to(device)
        optimiser.zero_grad()
        loss = network.loss(batch, network(batch, context), context)
        loss.backward()
        optimiser.step()
        total += loss.detach()
        steps += 1
    mean = float(total) / steps
    if not np.isfinite(mean):
        raise MedrecError(
            f"{type(network).__name__}: the loss is no longer a number in epoch {order[1]}. "
            "Lower the learning rate, e.g. --set learning_rate=0.0005."
        )
    return mean


def _copied(network: Recommender) -> dict[str, Tensor]:
    return copy.deepcopy(network.state_dict())


class _Progress:
    """How far a training has come."""

    def __init__(self) -> None:
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] | None = None
        self.best_epoch: int | None = None
        self.best_jaccard = -1.0

    def stopped(self, config: TrainingConfig) -> bool:
        return self.best_epoch is not None and self.epoch - 1 - self.best_epoch >= config.patience


class _Checkpoint:
    """State of a training after its last whole epoch: weights, best weights, optimiser, random numbers.

    Args:
        folder: hidden, beside the run's.
        config: a checkpoint of another configuration is not used.
        fresh: forget what is there.
    """

    def __init__(self, folder: Path, config: dict[str, Any], *, fresh: bool) -> None:
        self.folder, self.config = folder, config
        if fresh:
            self.remove()

    def write(
        self,
        network: Recommender,
        optimiser: torch.optim.Optimizer,
        best: dict[str, Tensor],
        progress: _Progress,
        device: torch.device,
    ) -> None:
        tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in best.items()}
        for index, values in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": v for k, v in values.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(device)
        with atomic_folder(self.folder, what="the checkpoint") as tmp:
            contiguous = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
            (tmp / "state.safetensors").write_bytes(tensor_bytes(contiguous))
            runs.write_json(
                tmp / "state.json",
                {
                    "format": CHECKPOINT_FORMAT,
                    "config": self.config,
                    "epoch": progress.epoch,
                    "history": progress.history,
                    "best_epoch": progress.best_epoch,
                    "best_jaccard": progress.best_jaccard,
                },
            )

    def resume(self, network: Recommender, optimiser: torch.optim.Optimizer, device: torch.device) -> _Progress:
        """Set network, optimiser and random numbers to the last checkpoint, where there is a fitting one."""
        progress = _Progress()
        try:
            stored = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
            tensors = read_tensors((self.folder / "state.safetensors").read_bytes())
        except OSError:
            return progress
        has_cuda = "random.cuda" in tensors
        if (
            stored["format"] != CHECKPOINT_FORMAT
            or stored["config"] != self.config
            or has_cuda != (device.type == "cuda")
        ):
            return progress
        network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, index, key = name.split(".")
                moments.setdefault(int(index), {})[key] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
        torch.set_rng_state(tensors["random.cpu"])
        if has_cuda:
            torch.cuda.set_rng_state(tensors["random.cuda"], device)
        progress.best = {k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")}
        progress.epoch, progress.history = stored["epoch"], stored["history"]
        progress.best_epoch, progress.best_jaccard = stored["best_epoch"], stored["best_jaccard"]
        return progress

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
