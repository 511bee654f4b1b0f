r"""Does what a system knows of molecules reach a medication of which the records tell it nothing?

A class is *hidden*: struck from every list of medications that a system reads, and left out of its loss.  Codes of the
patients stay.  What the system then says of that class must come from classes whose molecules or fragments are like
its own.  Classes that are seen often can be learnt by heart, and nothing of this shows.

Hidden are, one half after the other, the classes that hold a building block for which conditions of
``synthetic+structure`` ask (:mod:`medrec.data.synthetic.controls`): there the other half of the block's holders tells
which patients will get a hidden one.  On the plain cohort nobody asks for blocks.

The measure is how well the logits of a hidden class sort the later visits of patients who took no part in training, as
the area under the ROC curve, mean over hidden classes; one half is chance.  Each visit's mean over the hidden classes
is taken off first, so that it does not count that some patients get more of everything.  The control are *shuffled*
molecules: each class has another one's, for the system as for the yardstick.

The yardstick are regressions on the diagnoses and procedures of a visit and of all earlier ones, with weights of each
class and weights that holders of a fragment share: *told* which blocks are asked for; given all fragments; shuffled;
and one that *sees* the classes, for which nothing is hidden.  What it finds is there to be found.

``python -m medrec.experiments.hidden_classes [--cohort NAME] [--seeds N] [--jobs N]`` trains what is missing, and keeps
the rows (:mod:`medrec.lab.kept`).  A broken run goes on with the training that broke.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from safetensors.numpy import load, save
from scipy import sparse
from scipy.special import expit
from torch import Tensor, nn
from tqdm import tqdm

from medrec import paths, runs
from medrec.chem.molecules import Molecules, build
from medrec.context import Context, context_for
from medrec.data import load_cohort
from medrec.data.batch import VisitBatch, batches
from medrec.data.cohort import Cohort
from medrec.data.split import split_patients
from medrec.data.synthetic.controls import building_blocks
from medrec.fit import seeded
from medrec.folders import atomic_folder, damage
from medrec.knowledge.interactions import ddi_matrix
from medrec.lab import kept
from medrec.metrics import jaccard
from medrec.models import registry
from medrec.models.base import EVALUATION_BATCH, Recommender, TrainingConfig
from medrec.models.lr import current_codes
from medrec.models.molerec import THIN
from medrec.tasks.evaluation import Evaluation, Interval, paired_difference
from medrec.tasks.visits import FROM_SECOND, GROUPS, evaluate, tune_threshold
from medrec.types import Ragged

STUDY = "hidden_classes"
COMMAND = f"python -m medrec.experiments.{STUDY}"
PLACES = ("synthetic+structure", "synthetic")
"""Cohorts with and without planted building blocks."""
HALVES = 2
"""Of the holders of building blocks, hidden one after the other."""
EVERY = 2
"""Epochs from one look at the hidden classes to the next."""
PENALTY = 10.0
"""Of the regressions' squared weights, own and shared alike."""
RESAMPLES = 1000
SILENT = -20.0
"""Logit of hidden classes in the loss: a constant, without a gradient."""


@dataclass(frozen=True)
class Candidate:
    """A network with a molecular path, which may know a hidden class by its molecules.

    Args:
        label: as pages print it.
        system: of the registry.
        variant: of the system.
        settings: that differ from the variant's.
        shared: whether fragments that a single class holds are taken away, so that none is a name tag.
    """

    label: str
    system: str
    variant: str = "paper"
    settings: dict[str, Any] = field(default_factory=dict)
    shared: bool = False


CANDIDATES = (
    Candidate("BiMoRec", "bimorec"),
    Candidate("mean of past visits", "bimorec", "mean_past"),
    Candidate("w/o E", "bimorec", "wo_E"),
    Candidate("mean of past visits, no name tags", "bimorec", "mean_past", shared=True),
    Candidate("w/o E, no name tags", "bimorec", "wo_E", shared=True),
    Candidate("MoleRec", "molerec", settings=THIN),
    Candidate("MoleRec, no name tags", "molerec", settings=THIN, shared=True),
)
"""BiMoRec as published; without the recurrent network of eq. 25, whose map to the logits has weights of its own for a
class, untrained for hidden ones, so that the published system *cannot* say anything of them; with one patient
vector in the place of both enhancements; and MoleRec, from which the aggregation descends."""
YARDSTICK = "regression"
ARMS = {YARDSTICK: ("own", "shuffled", "told", "seen")} | {c.label: ("own", "shuffled") for c in CANDIDATES}
"""The yardstick and the candidates, and the molecules that each of them is given."""


@dataclass(frozen=True)
class Cell:
    """One training: ``system`` and ``molecules`` as in :data:`ARMS`, a seed, and which half is hidden."""

    system: str
    molecules: str
    seed: int
    half: int


# -- records -------------------------------------------------------------------------------------------------------


@cache
def holders(codes: tuple[str, ...]) -> NDArray[np.int64]:
    """Medications that hold a planted building block, shuffled once so that each half has some of every block."""
    blocks = building_blocks(codes)
    return np.random.default_rng(0).permutation([m for m, code in enumerate(codes) if blocks[code]])


def struck(cohort: Cohort, hidden: NDArray[np.integer]) -> Cohort:
    """The cohort without these medications in any visit; the vocabulary stays."""
    rows = cohort.codes["medication"]
    kept = ~np.isin(rows.values, hidden)
    lengths = np.bincount(rows.row_of_value[kept], minlength=len(rows))
    left = Ragged(np.concatenate([[0], np.cumsum(lengths)]), rows.values[kept])
    return replace(cohort, codes={**cohort.codes, "medication": left})


def without_name_tags(context: Context) -> Context:
    """The context without fragments that a single medication holds."""
    molecules = molecules_of(context)
    mask = molecules.fragment_mask
    return replace(context, molecules=replace(molecules, fragment_mask=mask & (mask.sum(0) > 1)))


def molecules_of(context: Context) -> Molecules:
    """The molecules that every candidate needs."""
    assert context.molecules is not None
    return context.molecules


def another(n: int, seed: int) -> NDArray[np.int64]:
    """Whose molecules each of ``n`` classes has when they are shuffled; nobody keeps its own."""
    circle = np.random.default_rng(seed).permutation(n)
    source = np.empty_like(circle)
    source[circle] = np.roll(circle, 1)
    return source


def with_molecules_of_others(context: Context, seed: int) -> Context:
    """The context with molecules and fragments of each class exchanged for those of :func:`another`."""
    molecules = molecules_of(context)
    order = another(len(molecules.average), seed)
    changed = replace(molecules, average=molecules.average[order], fragment_mask=molecules.fragment_mask[order])
    return replace(context, molecules=changed)


# -- trainings -----------------------------------------------------------------------------------------------------


def blind_loss(network: Recommender, batch: VisitBatch, context: Context, hidden: NDArray[np.integer]) -> Tensor:
    """The system's own loss, in which hidden classes are constants."""

    def hide(_network: nn.Module, _inputs: object, logits: Tensor) -> Tensor:
        logits = logits.clone()
        logits[..., hidden] = SILENT
        return logits

    with network.register_forward_hook(hide):
        return network.loss(batch, context)


def silence(network: Recommender, hidden: NDArray[np.integer]) -> None:
    """Zero weights for hidden classes in BiMoRec's perceptrons of the visit at hand, eqs. 21-23.

    These have weights for every class and do not look at molecules.  At their random start they would drown what
    molecules say of a hidden class, whose logit no loss corrects.
    """
    with torch.no_grad():
        for name in ("current", "gate"):
            if hasattr(network, name):
                last = getattr(network, name)[-1]
                last.weight[hidden] = 0
                last.bias[hidden] = 0


def logits_of(network: Recommender, cohort: Cohort, context: Context) -> NDArray[np.float32]:
    """Logits of every visit, ``(V, M)``."""
    network.eval()
    found = np.zeros((cohort.n_visits, cohort.n_medications), dtype=np.float32)
    with torch.inference_mode():
        for batch in batches(cohort, np.arange(cohort.n_patients), EVALUATION_BATCH, None):
            found[batch.visits[batch.visit_mask].numpy()] = network(batch, context)[batch.visit_mask].numpy()
    return found


def configured(cohort: Cohort, candidate: Candidate) -> TrainingConfig:
    """Settings of a candidate: those of its system for a cohort of this size, and its own."""
    n_train = len(split_patients(cohort.n_patients, 0).train)
    return registry.get(candidate.system).configure(candidate.variant, candidate.settings, n_train=n_train)


def train_blind(
    cohort: Cohort, candidate: Candidate, cell: Cell, hidden: NDArray[np.integer]
) -> Iterator[dict[str, Any]]:
    """Train without the hidden classes; a look after every second epoch.

    Args:
        cohort: all patients, with all their medications.
        candidate: what to train.
        cell: with which molecules and seed.
        hidden: medications.

    Yields:
        ``epoch``; ``validation``, mean Jaccard of the validation patients' visits in the classes that are seen;
        ``logits`` ``(V', H)`` of the hidden classes at the visits of :func:`judged`.
    """
    system, config = registry.get(candidate.system), configured(cohort, candidate)
    split = split_patients(cohort.n_patients, 0)
    context = context_for(system, config, cohort)
    if candidate.shared:
        context = without_name_tags(context)
    if cell.molecules == "shuffled":
        context = with_molecules_of_others(context, cell.seed)
    patients, later = judged(cohort)
    records = struck(cohort, hidden)
    others, validation = records.select(patients), records.select(split.validation)
    prescribed = validation.codes["medication"].multi_hot(cohort.n_medications)
    with seeded(cell.seed):
        network = system.create(config, context)
        silence(network, hidden)
        network.prepare(records, split.train, context)
        optimisers = network.optimisers()
        for epoch in range(config.epochs):
            network.train()
            for batch in network.batches(records, split.train, [cell.seed, epoch]):
                network.zero_grad()
                blind_loss(network, batch, context, hidden).backward()
                for optimiser in optimisers:
                    optimiser.step()
            if epoch % EVERY == EVERY - 1:
                sets = logits_of(network, validation, context) >= np.log(config.threshold / (1 - config.threshold))
                sets[:, hidden] = False
                yield {
                    "epoch": epoch,
                    "validation": float(np.nanmean(jaccard(prescribed, sets))),
                    "logits": logits_of(network, others, context)[later][:, hidden],
                }


def judged(cohort: Cohort) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Patients who take no part in training, and which of their visits have a past.

    Validation patients are among them: they choose an epoch, by classes that are not hidden.
    """
    split = split_patients(cohort.n_patients, 0)
    patients = np.sort(np.concatenate([split.validation, split.test]))
    return patients, cohort.select(patients).visit_number > 0


def shared_regression(
    features: Tensor, target: Tensor, groups: Tensor, hidden: NDArray[np.integer], training: Tensor
) -> Tensor:
    r"""Logistic regressions, one for each class, with weights in common for classes of a group.

    .. math:: z_{vm} = b_m + x_v \cdot \Big(w_m + \tfrac{1}{\sqrt{|G_m|}} \sum_{g \in G_m} u_g\Big)

    Args:
        features: ``(V, F)``.
        target: ``(V, M)``, 0/1.
        groups: ``(M, G)``, 0/1: which groups a class is in, :math:`G_m`.
        hidden: classes that the loss leaves out; of their weights only those in common are learnt.
        training: ``(V,)`` bool, visits to learn from.

    Returns:
        Logits ``(V, M)`` after at most 100 steps of L-BFGS.  Squared weights are penalised by :data:`PENALTY`, biases
        are free.
    """
    scaled = groups / groups.sum(1, keepdim=True).clamp(min=1).sqrt()
    seen = torch.ones(len(groups), dtype=torch.bool)
    seen[hidden] = False
    own = torch.zeros(len(groups), features.shape[1], requires_grad=True)
    common = torch.zeros(groups.shape[1], features.shape[1], requires_grad=True)
    bias = torch.zeros(len(groups), requires_grad=True)
    x, y = features[training], target[training][:, seen]
    optimiser = torch.optim.LBFGS([own, common, bias], max_iter=100, history_size=8, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimiser.zero_grad()
        z = x @ own[seen].T + (x @ common.T) @ scaled[seen].T + bias[seen]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z, y, reduction="sum")
        loss = loss + PENALTY / 2 * (own.square().sum() + common.square().sum())
        loss.backward()
        return loss

    optimiser.step(objective)
    with torch.no_grad():
        return features @ own.T + (features @ common.T) @ scaled.T + bias


def regress(cohort: Cohort, groups: NDArray, hidden: NDArray[np.integer]) -> NDArray[np.float32]:
    """Logits of :func:`shared_regression` for every visit, ``(V, M)``; it learns from the training patients."""
    split = split_patients(cohort.n_patients, 0)
    return shared_regression(
        torch.from_numpy(present_and_past(cohort)),
        torch.from_numpy(cohort.codes["medication"].multi_hot(cohort.n_medications).astype(np.float32)),
        torch.from_numpy(groups.astype(np.float32)),
        hidden,
        torch.from_numpy(np.isin(cohort.patient_of_visit, split.train)),
    ).numpy()


def groups_of(cohort: Cohort, molecules: str, seed: int = 0) -> NDArray[np.bool_]:
    """Which classes share weights, ``(M, G)``.

    Args:
        cohort: whose medications.
        molecules: ``"told"``: holders of each planted block; ``"own"``: of each fragment with two holders or more;
            ``"shuffled"``: the same, of other classes; ``"seen"``: nobody shares.
        seed: of the shuffling.
    """
    codes = cohort.vocab["medication"].codes
    if molecules == "told":
        blocks = building_blocks(tuple(codes))
        names = sorted({name for of_class in blocks.values() for name in of_class})
        return np.array([[name in blocks[code] for name in names] for code in codes])
    mask = build(codes).fragment_mask.numpy()
    groups = mask[:, mask.sum(0) > 1]
    if molecules == "seen":
        return groups[:, :0]
    return groups[another(len(groups), seed)] if molecules == "shuffled" else groups


def regress_blind(cohort: Cohort, cell: Cell, hidden: NDArray[np.integer]) -> dict[str, Any]:
    """One look, as :func:`train_blind` gives it, by the yardstick."""
    unknown = hidden[:0] if cell.molecules == "seen" else hidden
    z = regress(cohort, groups_of(cohort, cell.molecules, cell.seed), unknown)
    patients, later = judged(cohort)
    of_judged = z[np.isin(cohort.patient_of_visit, patients)]
    return {"epoch": 0, "validation": 0.0, "logits": of_judged[later][:, hidden]}


def gains(cohort: Cohort) -> pl.DataFrame:
    """What sharing weights is worth in Jaccard where nothing is hidden: regressions with groups against one without.

    Returns:
        ``molecules``, ``visits``, ``delta``, ``delta_low``, ``delta_high``, ``patients``.  Thresholds are tuned; test
        patients, intervals from resampled patients.
    """
    split = split_patients(cohort.n_patients, 0)
    ddi = ddi_matrix(cohort.vocab["medication"].codes)
    owner = cohort.patient_of_visit
    test, validation = cohort.select(split.test), cohort.select(split.validation)
    in_order = [np.concatenate([np.flatnonzero(owner == p) for p in part]) for part in (split.test, split.validation)]

    def judge(molecules: str) -> Evaluation:
        z = regress(cohort, groups_of(cohort, molecules), np.zeros(0, dtype=np.int64))
        of_test, of_validation = (expit(z[visits]) for visits in in_order)
        threshold = tune_threshold(validation, of_validation)
        return evaluate(test, of_test >= threshold, ddi, scores=of_test, patients=split.test)

    alone = judge("seen")
    found = []
    for molecules in ("told", "own", "shuffled"):
        with_groups = judge(molecules)
        for visits, of in (("all visits", GROUPS), ("later visits", FROM_SECOND)):
            change = paired_difference(alone, with_groups, groups=of)["jaccard"]
            found.append((molecules, visits, change.value, change.low, change.high, len(split.test)))
    schema = ("molecules", "visits", "delta", "delta_low", "delta_high", "patients")
    return pl.DataFrame(found, schema=schema, orient="row").with_columns(pl.selectors.float().round(6))


def present_and_past(cohort: Cohort) -> NDArray[np.float32]:
    """Codes of each visit, and beside them those of all earlier visits of the patient, ``(V, 2 F)``, 0/1."""
    codes = current_codes(cohort)
    # Row v of this matrix adds up the visits of v's patient before v.
    patient, number = cohort.patient_of_visit, cohort.visit_number
    row = np.repeat(np.arange(cohort.n_visits), number)
    earlier = np.arange(len(row)) - np.repeat(np.cumsum(number) - number, number) + cohort.visit_offsets[patient[row]]
    sums = sparse.csr_matrix((np.ones(len(row)), (row, earlier)), shape=(cohort.n_visits,) * 2)
    past = (sums @ codes).minimum(1)
    return sparse.hstack([codes, past]).toarray().astype(np.float32)


# -- store ---------------------------------------------------------------------------------------------------------


def cells(seeds: int) -> list[Cell]:
    """All trainings: what does not depend on chance is done once."""
    return [
        Cell(system, molecules, seed, half)
        for system, given in ARMS.items()
        for molecules in given
        for seed in range(seeds if system != YARDSTICK or molecules == "shuffled" else 1)
        for half in range(HALVES)
    ]


def code(*candidates: Candidate | None) -> dict[str, str]:
    """Code behind the looks of some candidates; without any, behind those of all."""
    systems = {f"{c.system}/{c.variant}" for c in candidates or CANDIDATES if c is not None}
    return kept.code_of("medrec.experiments.hidden_classes", "models", "chem", "metrics", "tasks", systems=systems)


def looks(cohort: Cohort, cell: Cell) -> dict[str, NDArray]:
    """Looks of one training, from the run store or made now.

    Returns:
        ``epoch`` and ``validation`` ``(E,)``, ``logits`` ``(E, V', H)``.
    """
    hidden = np.array_split(holders(cohort.vocab["medication"].codes), HALVES)[cell.half]
    candidate = next((c for c in CANDIDATES if c.label == cell.system), None)
    resolved = {
        "cell": asdict(cell),
        "candidate": asdict(candidate) if candidate else {"penalty": PENALTY},
        "settings": asdict(configured(cohort, candidate)) if candidate else {},
        "every": EVERY,
        "cohort": cohort.content,
        "hidden": hidden.tolist(),
        "code": code(candidate),
    }
    name = re.sub(r"\W+", "-", f"{cell.system}-{cell.molecules}-{cell.seed}-{cell.half}")
    folder = paths.runs_dir() / "hidden_classes" / runs.cohort_key(cohort) / name
    if damage(folder) is None and json.loads((folder / "config.json").read_text()) == resolved:
        return load((folder / "looks.safetensors").read_bytes())
    made = list(train_blind(cohort, candidate, cell, hidden)) if candidate else [regress_blind(cohort, cell, hidden)]
    # safetensors writes memory as it lies, whatever the strides say.
    arrays = {
        key: np.ascontiguousarray(np.stack([np.asarray(look[key]) for look in made]))
        for key in ("epoch", "validation", "logits")
    }
    with atomic_folder(folder, what="logits of hidden classes") as tmp:
        (tmp / "looks.safetensors").write_bytes(save(arrays))
        (tmp / "config.json").write_text(json.dumps(resolved, indent=2, sort_keys=True) + "\n")
    return arrays


# -- measure -------------------------------------------------------------------------------------------------------


def centred(logits: NDArray) -> NDArray:
    """Logits ``(V, H)`` without the mean of each visit, after that of each class, so that no class weighs more."""
    by_class = logits - logits.mean(0)
    return by_class - by_class.mean(1, keepdims=True)


def sorting(scores: NDArray, given: NDArray[np.bool_], weights: NDArray) -> NDArray[np.float64]:
    r"""Area under the ROC curve of each class over visits, mean over classes.

    Args:
        scores: ``(V, H)``.
        given: ``(V, H)``.
        weights: ``(R, V)`` how often each visit counts; one result for each row.

    Returns:
        ``(R,)``.  Classes that all or none of the visits have take no part.
    """
    areas = np.full((len(weights), scores.shape[1]), np.nan)
    for h in range(scores.shape[1]):
        yes, no = given[:, h], ~given[:, h]
        above = scores[yes, h][:, None] - scores[no, h][None, :]
        won = (above > 0) + 0.5 * (above == 0)
        pairs = weights[:, yes].sum(1) * weights[:, no].sum(1)
        with np.errstate(invalid="ignore"):
            areas[:, h] = np.einsum("ry,yn,rn->r", weights[:, yes], won, weights[:, no], optimize=True) / pairs
    return np.nanmean(areas, axis=1)


def _areas(cohort: Cohort, cell: Cell, found: dict[str, NDArray], look: int, weights: NDArray) -> NDArray[np.float64]:
    patients, later = judged(cohort)
    hidden = np.array_split(holders(cohort.vocab["medication"].codes), HALVES)[cell.half]
    given = cohort.select(patients).codes["medication"].multi_hot(cohort.n_medications)[later][:, hidden]
    return sorting(centred(found["logits"][look]), given, weights)


def rows(cohort: Cohort, seeds: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Areas of every system, with intervals, and epoch by epoch.

    A network speaks at the epoch with the best validation Jaccard.  Intervals: 1000 resamples of patients, the same for
    both sides of a difference, and of training seeds, each side its own.

    Returns:
        ``system``, ``molecules`` (one of :data:`ARMS`, or ``own - shuffled``, ``told - shuffled``), ``area``, ``low``,
        ``high``, ``seeds``, ``classes``, ``patients``, ``visits``; and ``system``, ``molecules``, ``epoch``, ``area``.
    """
    patients, later = judged(cohort)
    owner = cohort.select(patients).patient_of_visit[later]
    rng = np.random.default_rng(0)
    n = len(patients)
    draws = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    weights = np.concatenate([np.ones((1, n)), draws])[:, owner]  # row 0: everybody once
    drawn: dict[tuple[str, str], NDArray] = {}
    made: dict[tuple[str, str], int] = {}
    curves = []
    for system, given in ARMS.items():
        for molecules in given:
            own_cells = [c for c in cells(seeds) if (c.system, c.molecules) == (system, molecules)]
            by_seed = np.zeros((len({c.seed for c in own_cells}), RESAMPLES + 1))
            for cell in own_cells:
                found = looks(cohort, cell)
                best = int(found["validation"].argmax())
                by_seed[cell.seed] += _areas(cohort, cell, found, best, weights) / HALVES
                for look, epoch in enumerate(found["epoch"]):
                    area = float(_areas(cohort, cell, found, look, weights[:1])[0])
                    curves.append({"system": system, "molecules": molecules, "epoch": int(epoch), "area": area})
            S = made[system, molecules] = len(by_seed)
            picks = np.concatenate([np.arange(S)[None], rng.integers(0, S, (RESAMPLES, S))])
            drawn[system, molecules] = by_seed[picks, np.arange(RESAMPLES + 1)[:, None]].mean(1)
        drawn[system, "own - shuffled"] = drawn[system, "own"] - drawn[system, "shuffled"]
    drawn[YARDSTICK, "told - shuffled"] = drawn[YARDSTICK, "told"] - drawn[YARDSTICK, "shuffled"]
    codes = cohort.vocab["medication"].codes
    table = [
        {
            "system": system,
            "molecules": molecules,
            "area": values[0],
            "low": np.quantile(values[1:], 0.025),
            "high": np.quantile(values[1:], 0.975),
            "seeds": min(made[system, part] for part in molecules.split(" - ")),
            "classes": len(holders(codes)),
            "patients": n,
            "visits": int(later.sum()),
        }
        for (system, molecules), values in drawn.items()
    ]
    by_epoch = pl.DataFrame(curves).group_by("system", "molecules", "epoch", maintain_order=True).mean()
    rounded = pl.selectors.float().round(6)
    return pl.DataFrame(table).with_columns(rounded), by_epoch.with_columns(rounded)


# -- kept rows -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hidden:
    """Kept rows of one cohort, as :func:`rows` and :func:`gains` give them, and what they were made with."""

    table: pl.DataFrame
    curves: pl.DataFrame
    gains: pl.DataFrame
    provenance: Mapping[str, Any]
    note: str

    def interval(self, system: str, molecules: str) -> Interval:
        """An area, or a difference of two."""
        row = self.table.row(by_predicate=(pl.col("system") == system) & (pl.col("molecules") == molecules), named=True)
        return Interval(row["area"], row["low"], row["high"], float("nan"))


def read(cohort: Cohort | str) -> Hidden:
    """Rows that were kept of one of :data:`PLACES`.

    Raises:
        MedrecError: there are none; the message says what makes them.
    """
    name = cohort if isinstance(cohort, str) else cohort.name
    found = kept.read(STUDY, cohort, command=f"{COMMAND} --cohort {name}")
    table, curves, worth = (found.table(name) for name in ("areas", "epochs", "gains"))
    return Hidden(table, curves, worth, found.provenance, found.note)


def _make(name: str, cell: Cell) -> None:
    looks(load_cohort(name), cell)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, write the rows."""
    parser = argparse.ArgumentParser(
        prog="python -m medrec.experiments.hidden_classes", description="Classes of which the records say nothing."
    )
    parser.add_argument("--cohort", choices=PLACES, default=PLACES[0], help="default synthetic+structure")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds; default 3")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once; default 1")
    options = parser.parse_args(arguments)
    cohort, start = load_cohort(options.cohort), time.perf_counter()
    todo = cells(options.seeds)
    made = Parallel(n_jobs=options.jobs, return_as="generator")(delayed(_make)(cohort.name, cell) for cell in todo)
    for _ in tqdm(made, total=len(todo), desc="hidden classes", unit="training", disable=None):
        pass
    table, curves = rows(cohort, options.seeds)
    folder = kept.save(
        STUDY,
        {"areas": table, "epochs": curves, "gains": gains(cohort)},
        cohort=cohort,
        command=f"{COMMAND} --cohort {cohort.name} --seeds {options.seeds}",
        code=code(),
        systems={f"{candidate.system}/{candidate.variant}" for candidate in CANDIDATES},
        seconds=time.perf_counter() - start,
        more={"seeds": options.seeds},
    )
    print(folder)


if __name__ == "__main__":
    main()
