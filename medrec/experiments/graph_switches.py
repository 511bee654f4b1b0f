r"""What each switch of KGCN, KGAT and KGIN is worth where it is known which edges help: planted graphs.

A world has 200 patients, 60 medications and 12 latent indications of five medications each.  A patient has one to three
indications and is given each of their medications with probability .4, and one medication more on average for no
reason; at least five in all.  The graph links medications: one relation links all pairs that share an indication, four
others link random pairs that share none, so that one edge in five is useful.  The graph is made of indications and
never of what was given, so that it cannot hold what is asked about.

Asked is a random fifth of each patient's medications, known ones are not listed
(:data:`medrec.tasks.ranking.HOLD_OUT`).  Seeds 0, 1, ... draw the world, the hold-out and the training together.  An
interval resamples worlds, and patients within each; a difference is one between two systems on the same patients of
the same worlds.

``python -m medrec.experiments.graph_switches [--seeds N]`` trains everything anew and keeps the rows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from medrec import context as contexts
from medrec.data.cohort import KINDS, Cohort, Vocabulary
from medrec.fit import Checkpoint, one_epoch, seeded
from medrec.graphs.knowledge import KnowledgeGraph
from medrec.lab import kept
from medrec.models.kgat import KGAT
from medrec.nn.edges import Edges
from medrec.progress import bar
from medrec.tasks.evaluation import Interval
from medrec.tasks.ranking import HOLD_OUT
from medrec.training import Plan, fitted
from medrec.types import Ragged

STUDY = "graph_switches"
COMMAND = f"python -m medrec.experiments.{STUDY}"
PATIENTS, MEDICATIONS, INDICATIONS = 200, 60, 12
GIVEN = 0.4
"""Chance that a medication of a patient's indication is given."""
LEAST = 5
"""Medications of each patient, so that everybody has a target."""
USEFUL = "shares indication"
RANDOM = tuple(f"random {i}" for i in range(1, 5))
TRAINED: dict[str, Any] = {"batch_size": 128, "epochs": 200}
"""Settings of networks beside their own: few pairs a step, or an epoch would have one step."""
EPOCHS = 60
"""Of which the attention is looked at."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Arm:
    """What is trained in every world.

    Args:
        key: of its row.
        label: as tables print it.
        system: name of the system.
        settings: that differ from those of its variant ``paper``.
        useful_only: it is given the useful relation alone, which nobody could know: how good it can get.
        select_on: whose targets choose the epoch; released code of KGAT and KGIN takes ``"test"``.
    """

    key: str
    label: str
    system: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    useful_only: bool = False
    select_on: Literal["validation", "test"] = "validation"


def _of(system: str, label: str, **switches: tuple[str, Any]) -> tuple[Arm, ...]:
    """A system, each of its switches as released, and its graph under each control."""
    return (
        Arm(system, label, system),
        *(
            Arm(f"{system}-{key}", f"{label}, {words}", system, {key: value})
            for key, (words, value) in switches.items()
        ),
        Arm(f"{system}-shuffled", f"{label}, shuffled tails", system, {"graph": "shuffled"}),
        Arm(f"{system}-empty", f"{label}, empty graph", system, {"graph": "empty"}),
        Arm(f"{system}-useful", f"{label}, useful edges alone", system, useful_only=True),
    )


ARMS = (
    Arm("most-popular", "most popular", "most-popular"),
    Arm("item-cosine", "item cosine", "item-cosine"),
    Arm("bpr-mf", "BPR-MF", "lightgcn", {"n_layers": 0}),
    Arm("lightgcn", "LightGCN", "lightgcn"),
    *_of("kgcn", "KGCN", score=("mean in the attention", "mean"), aggregate=("mean of the neighbours", "mean")),
    *_of("kgat", "KGAT", attention=("first attention for good", "initial_laplacian")),
    Arm("kgat-select_on", "KGAT, epoch chosen on test", "kgat", select_on="test"),
    *_of(
        "kgin",
        "KGIN",
        user_residual=("residual behind the intents", True),
        user_intent=("latent vectors of intents", "latent"),
    ),
    Arm("kgin-select_on", "KGIN, epoch chosen on test", "kgin", select_on="test"),
)
SYSTEMS = tuple(sorted({f"{arm.system}/paper" for arm in ARMS}))
CHANGES = tuple(
    (arm.key, *pair)
    for arm in ARMS
    if arm.system in ("kgcn", "kgat", "kgin") and arm.key != arm.system
    for pair in [(arm.key, arm.system) if arm.settings.get("graph") else (arm.system, arm.key)]
)
"""Key of the row, then base and system: a switch against the paper's, the full graph against its controls."""


# -- a world -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Patients, and a graph of which it is known what helps.

    Args:
        cohort: patients with one visit each.
        knowledge: links between medications; relation 0 is :data:`USEFUL`.
        indication: ``(M,)`` of each medication.
    """

    cohort: Cohort
    knowledge: KnowledgeGraph
    indication: NDArray[np.int64]


def planted(seed: int) -> World:
    """A world, see the module.

    Args:
        seed: of all that is drawn.
    """
    rng = np.random.default_rng(seed)
    indication = np.arange(MEDICATIONS) % INDICATIONS
    # The first one to three of a random order of indications.
    place = rng.random((PATIENTS, INDICATIONS)).argsort(1).argsort(1)
    has = place < rng.integers(1, 4, (PATIENTS, 1))
    given = has[:, indication] & (rng.random((PATIENTS, MEDICATIONS)) < GIVEN)
    given |= rng.random((PATIENTS, MEDICATIONS)) < 1 / MEDICATIONS
    # Who has fewer than the least gets others, whatever they are.
    wanted = np.where(given, -1, rng.random((PATIENTS, MEDICATIONS))).argsort(1).argsort(1)
    given |= wanted < LEAST
    codes = tuple(f"medication {m:02}" for m in range(MEDICATIONS))
    nothing = Ragged.from_lists([[]] * PATIENTS)
    cohort = Cohort(
        name=f"planted-{seed}",
        source="synthetic",
        vocab={kind: Vocabulary(kind, *(2 * (codes if kind == "medication" else (),))) for kind in KINDS},
        visit_offsets=np.arange(PATIENTS + 1),
        codes=dict.fromkeys(KINDS, nothing)
        | {"medication": Ragged.from_lists([np.flatnonzero(row).tolist() for row in given])},
        admit_time=np.datetime64("2100-01-01", "s") + np.arange(PATIENTS).astype("timedelta64[D]"),
        days_since_previous=np.full(PATIENTS, np.nan, dtype=np.float32),
        sex=np.array(["F", "M"] * (PATIENTS // 2)),
        age_band=np.array(["60-69"] * PATIENTS),
    )
    return World(cohort, _graph(indication, codes, rng), indication)


def _graph(indication: NDArray[np.int64], codes: Sequence[str], rng: np.random.Generator) -> KnowledgeGraph:
    one, other = np.triu_indices(len(indication), 1)
    same = indication[one] == indication[other]
    useful = np.flatnonzero(same)
    # As many of each random relation, no pair twice.
    useless = rng.choice(np.flatnonzero(~same), len(RANDOM) * len(useful), replace=False)
    pairs = np.concatenate([useful, useless])
    relation = np.repeat(np.arange(1 + len(RANDOM)), len(useful))
    triplets = np.stack([one[pairs], relation, other[pairs]], axis=1)
    names = tuple(f"medication:{code}" for code in codes)
    return KnowledgeGraph(triplets, names, (USEFUL, *RANDOM), len(names))


# -- trainings ---------------------------------------------------------------------------------------------------------


def plan_of(arm: Arm, world: World, seed: int) -> Plan:
    """The training of an arm in a world, whose graph it is given."""
    trained = TRAINED if arm.system in ("lightgcn", "kgcn", "kgat", "kgin") else {}
    graph = world.knowledge.of([USEFUL]) if arm.useful_only else world.knowledge
    plan = Plan.of(
        arm.system,
        world.cohort,
        settings={**trained, **arm.settings},
        seed=seed,
        split_seed=seed,
        protocol=replace(HOLD_OUT, selection=arm.select_on),
    )
    return replace(plan, asked=replace(plan.asked, knowledge=lambda: graph))


def ranked(arm: Arm, world: World, seed: int) -> tuple[NDArray[np.float64], bool]:
    """NDCG@10 of each patient after a training, ``(U,)``, and whether the training converged."""
    plan = plan_of(arm, world, seed)
    with tempfile.TemporaryDirectory() as folder:
        done = fitted(plan, CPU, Checkpoint(Path(folder) / "checkpoint", "", fresh=True))
    found = plan.exam.answers(done.system, done.context, CPU)["test"].evaluate(HOLD_OUT)
    rows = found.per_patient.sort("patient")
    assert len(rows) == PATIENTS
    return rows["ndcg_10"].to_numpy(), done.progress is None or done.progress.converged(plan.config)


def useful_share(network: KGAT, edges: Edges) -> float:
    """Share of the attention of medications to medications that lies on the useful relation."""
    relation, R = edges.relation, network.n_relations
    # Relation 0 is what was given; each stands R places further a second time, read from its tail.
    known = relation % R != 0
    attention = network.attention(edges)
    return float(attention[known & (relation % R == 1)].sum() / attention[known].sum())


def attention_by_epoch(world: World, seed: int) -> list[float]:
    """:func:`useful_share` before the first epoch of KGAT and after each of :data:`EPOCHS`."""
    plan = plan_of(next(arm for arm in ARMS if arm.key == "kgat"), world, seed)
    context, data = contexts.build(plan.system.needs, plan.asked), plan.exam.data
    with seeded(seed):
        network = plan.system.create(plan.config, context)
        edges, optimisers = network.edges(data), network.optimisers()
        found = [useful_share(network, edges)]
        for epoch in range(EPOCHS):
            batches = network.batches(data, plan.exam.train, [seed, epoch])
            one_epoch(network, optimisers, batches, context, CPU, epoch)
            found.append(useful_share(network, edges))
    return found


def fixed_share(world: World, seed: int) -> float:
    """:func:`useful_share` of the initial Laplacian, which no training changes."""
    plan = plan_of(next(arm for arm in ARMS if arm.key == "kgat-attention"), world, seed)
    with seeded(seed):
        network = plan.system.create(plan.config, contexts.build(plan.system.needs, plan.asked))
    return useful_share(network, network.edges(plan.exam.data))


# -- rows --------------------------------------------------------------------------------------------------------------


def interval(values: NDArray[np.float64], resamples: int = 1000) -> Interval:
    """Mean and 95 % interval of a number for each patient of each world.

    Args:
        values: ``(S, U)``, of worlds and their patients.
        resamples: each draws as many worlds with replacement, and of each as many patients.
    """
    S, U = values.shape
    rng = np.random.default_rng(0)
    worlds = rng.integers(0, S, (resamples, S))
    weights = rng.multinomial(U, np.full(U, 1 / U), size=(resamples, S))
    drawn = (values[worlds] * weights).sum((1, 2)) / (S * U)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high), float(drawn.std()))


def tables(seeds: int) -> dict[str, pl.DataFrame]:
    """All rows.

    Args:
        seeds: number of worlds.

    Returns:
        ``arms``: ``key``, ``label``, ``system``, ``ndcg_10`` with ``low`` and ``high``, ``converged`` (of how many
        worlds), ``seeds``, ``patients`` (of each world).  ``changes``: ``key``, ``base``, ``system``, ``delta`` with
        ``low`` and ``high``, the arm ``system`` less the arm ``base``.  ``attention``: ``position`` of the switch,
        ``epoch``, ``share`` with ``least`` and ``most`` over worlds.
    """
    world = cache(planted)
    found: dict[str, NDArray[np.float64]] = {}
    rows: dict[str, list[dict[str, Any]]] = {"arms": [], "changes": [], "attention": []}
    shown = bar(desc=STUDY, unit="arm", total=len(ARMS) + 1)
    for arm in ARMS:
        each = [ranked(arm, world(seed), seed) for seed in range(seeds)]
        found[arm.key] = np.stack([values for values, _ in each])
        rows["arms"].append(
            {"key": arm.key, "label": arm.label, "system": arm.system}
            | _row("ndcg_10", interval(found[arm.key]))
            | {"converged": sum(done for _, done in each), "seeds": seeds, "patients": PATIENTS}
        )
        shown.update()
    for key, base, system in CHANGES:
        rows["changes"].append(
            {"key": key, "base": base, "system": system} | _row("delta", interval(found[system] - found[base]))
        )
    learnt = np.array([attention_by_epoch(world(seed), seed) for seed in range(seeds)])
    first = np.array([[fixed_share(world(seed), seed)] for seed in range(seeds)]).repeat(EPOCHS + 1, axis=1)
    for position, shares in (("refreshed", learnt), ("initial_laplacian", first)):
        rows["attention"] += [
            {"position": position, "epoch": epoch, "share": share.mean(), "least": share.min(), "most": share.max()}
            for epoch, share in enumerate(shares.T)
        ]
    shown.update()
    shown.close()
    return {name: pl.DataFrame(part).with_columns(pl.selectors.float().round(6)) for name, part in rows.items()}


def _row(name: str, found: Interval) -> dict[str, float]:
    return {name: found.value, "low": found.low, "high": found.high}


def read() -> kept.Kept:
    """The kept tables, see :func:`tables`.

    Raises:
        MedrecError: there are none.
    """
    return kept.read(STUDY, command=COMMAND)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train everything, write the rows."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Switches of graph rankers on planted graphs.")
    parser.add_argument("--seeds", type=int, default=5, help="worlds, each with a training of its own; default 5")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    folder = kept.save(
        STUDY,
        tables(options.seeds),
        cohort=None,
        command=f"{COMMAND} --seeds {options.seeds}",
        code=kept.code_of("medrec.experiments.graph_switches", systems=SYSTEMS),
        systems=SYSTEMS,
        seconds=time.perf_counter() - start,
        more={"seeds": options.seeds},
    )
    print(folder)


if __name__ == "__main__":
    main()
