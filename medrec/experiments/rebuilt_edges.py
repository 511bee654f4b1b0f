r"""What DiffKG's denoiser makes of items that many patients have, and whether the edges that it keeps are indications.

Two questions to one network.

*Popular items.*  The collaborative constraint (CKGC) compares a sum of patients' vectors, over all patients of all
items that a row points to, with an entity's vector; nothing divides by their number.  If it is heard at all, it should
push items of many patients out of the rows.  For each item: the mean of the denoised rows in its column, less the mean
of the rows themselves, against the number of its patients; with ``ckgc_norm`` ``none`` and ``degree``, without the
constraint, and with two schedules of noise, since the weight of the other term decides how much of it is heard.

*Indications.*  Of the edges *medication treats diagnosis* that a rebuilt graph keeps, how many are indications of the
generative model of synthetic patients: the diagnosis is a code of a condition one of whose needs the medication's class
can meet (:mod:`medrec.knowledge.conditions`).  Beside it, from the same picks, as many known edges of each row at
random, many times, and as many to the most frequent tails.

``python -m medrec.experiments.rebuilt_edges [--cohort NAME] [--seeds N]`` trains all and keeps the rows
(:mod:`medrec.lab.kept`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy import stats

from medrec import context as contexts
from medrec.context import Context, graph_of, knowledge_of
from medrec.data import load_cohort
from medrec.data.cohort import Cohort
from medrec.fit import one_epoch, seeded
from medrec.graphs.knowledge import KnowledgeGraph
from medrec.knowledge.conditions import conditions, needs
from medrec.lab import kept
from medrec.models.diffkg import ARMS, DiffKG, both_ways, chosen_pairs
from medrec.training import Plan

STUDY = "rebuilt_edges"
COMMAND = f"python -m medrec.experiments.{STUDY}"
SYSTEMS = ("diffkg/paper",)
EPOCHS = 12
"""Of each training; none is chosen, the last one counts."""
SHARED: dict[str, Any] = {**ARMS["filter"], "row_batch": 256, "batch_size": 2048}
"""Arm B, with four times as many steps of the denoiser in an epoch, so that few epochs suffice."""
SCHEDULES: dict[str, dict[str, Any]] = {"default": {}, "one step": {"n_steps": 1}}
"""Of the noise.  One step stands for the third paper's fifty, which add nothing after the first."""
CONSTRAINTS: dict[str, dict[str, Any]] = {
    "none": {},
    "degree": {"ckgc_norm": "degree"},
    "without": {"ckgc_weight": 0.0},
}
"""Norm of the constraint, or no constraint."""
DRAWS = 100
"""Of random edges."""


def trained(cohort: Cohort, settings: dict[str, Any], seed: int, n_epochs: int = EPOCHS) -> tuple[DiffKG, Context]:
    """A network after some epochs, and what it knows.

    Args:
        cohort: all patients; the temporal protocol with the split seed 0.
        settings: that differ from the variant ``paper``.
        seed: of initialisation, shuffling and dropout.
        n_epochs: of the training.
    """
    plan, cpu = Plan.of("diffkg", cohort, settings=settings, seed=seed), torch.device("cpu")
    context, exam = contexts.build(plan.system.needs, plan.asked), plan.exam
    with seeded(seed, cpu):
        network: DiffKG = plan.system.create(plan.config, context)
        network.prepare(exam.data, exam.train, context)
        rows, optimisers = exam.rows(network, plan.system.label), network.optimisers()
        for epoch in range(n_epochs):
            one_epoch(network, optimisers, network.batches(exam.data, rows, [seed, epoch]), context, cpu, epoch)
    return network.eval(), context


# -- popular items -----------------------------------------------------------------------------------------------------


def popular_items(network: DiffKG, context: Context) -> pl.DataFrame:
    """What the denoised rows say of each item.

    Returns:
        One row an item: ``item`` (class), ``patients`` who were given it, ``links`` in the graph, and ``change``, the
        mean of its column in denoised rows less that in the rows themselves.
    """
    known, M = network.known(), network.n_items
    change = torch.zeros(M, dtype=torch.float64)
    with torch.no_grad():
        for block in torch.arange(network.n_rows).split(network.config.row_batch):
            rows = known.rows(block)
            change += (network.denoiser.reversed(rows) - rows)[:, :M].double().sum(0)
    return pl.DataFrame(
        {
            "item": [name.partition(":")[2] for name in knowledge_of(context).entities[:M]],
            "patients": graph_of(context).popularity,
            "links": known.first.diff()[:M].numpy(),
            "change": (change / network.n_rows).numpy(),
        }
    )


# -- indications -------------------------------------------------------------------------------------------------------


def indications(knowledge: KnowledgeGraph) -> NDArray[np.int64]:
    """Pairs of a medication and a diagnosis that the generative model of synthetic patients means, ``(P, 2)``.

    Args:
        knowledge: the house's graph; pairs are numbers of its entities, of those that it has.
    """
    number = {name: i for i, name in enumerate(knowledge.entities)}
    versions = [
        conditions().select("id", pl.col(f"icd{version}").alias("code")).explode("code").with_columns(v=pl.lit(version))
        for version in (9, 10)
    ]
    pairs = pl.concat(versions).join(needs().select(id="condition", option="option"), on="id").drop_nulls()
    found = {
        (number[f"medication:{option}"], number[f"diagnosis:{v}:{code}"])
        for code, v, option in pairs.select("code", "v", "option").iter_rows()
        if f"medication:{option}" in number and f"diagnosis:{v}:{code}" in number
    }
    return np.array(sorted(found), dtype=np.int64).reshape(-1, 2)


def kept_edges(network: DiffKG, context: Context, rng: np.random.Generator) -> pl.DataFrame:
    """Whether edges that a network keeps are indications, with both controls; the coin is left out.

    Args:
        network: trained.
        context: of the network.
        rng: of the random edges.

    Returns:
        ``choice`` (``diffusion``; ``random``, once for each of :data:`DRAWS`; ``frequent``; ``all`` edges of the
        graph), ``kept`` pairs, ``treats`` among them and ``indicated`` among these.
    """
    known, picked, knowledge = network.known(), network.picked(network.known()), knowledge_of(context)
    treats = knowledge.relations.index("treats")
    means = np.zeros((knowledge.n_entities,) * 2, dtype=bool)
    means[tuple(indications(knowledge).T)] = True

    def row(choice: str, key: torch.Tensor) -> dict[str, Any]:
        head, relation, tail = both_ways(key, known, -1).numpy().T
        forward = relation < knowledge.n_relations
        is_treats = relation == treats
        # Interacting pairs stand in the graph in both directions, and are one edge.
        both = forward & (relation == knowledge.relations.index("interacts"))
        return {
            "choice": choice,
            "kept": int(forward.sum() - both.sum() // 2),
            "treats": int(is_treats.sum()),
            "indicated": int(means[head[is_treats], tail[is_treats]].sum()),
        }

    rows = [row("all", known.key), row("diffusion", chosen_pairs(picked, known, "filter"))]
    rows.append(row("frequent", chosen_pairs(picked, known, "filter", "frequent")))
    for _ in range(DRAWS):
        chance = torch.from_numpy(rng.random(len(known.key)))
        rows.append(row("random", chosen_pairs(picked, known, "filter", "random", chance)))
    return pl.DataFrame(rows)


# -- rows --------------------------------------------------------------------------------------------------------------


def tables(cohort: Cohort, seeds: int, n_epochs: int = EPOCHS) -> dict[str, pl.DataFrame]:
    """All trainings.

    Args:
        cohort: all patients.
        seeds: training seeds.
        n_epochs: of each training.

    Returns:
        ``items``: :func:`popular_items` of seed 0 for each ``schedule`` and ``constraint``; ``correlations``: for each
        seed the rank correlation of ``patients`` with ``change``; ``edges``: for each seed ``kept``, ``treats``,
        ``indicated`` and ``share`` of each choice, of random edges the means with ``low`` and ``high``, between which
        95 % of the draws lie.
    """
    items, correlations, edges = [], [], []
    for schedule, noise in SCHEDULES.items():
        for constraint, changed in CONSTRAINTS.items():
            for seed in range(seeds):
                about = {"schedule": schedule, "constraint": constraint, "seed": seed}
                network, context = trained(cohort, {**SHARED, **noise, **changed}, seed, n_epochs)
                found = popular_items(network, context)
                if seed == 0:
                    named = [pl.lit(about[name]).alias(name) for name in ("schedule", "constraint")]
                    items.append(found.select(*named, pl.all()))
                rank = stats.spearmanr(found["patients"], found["change"]).statistic
                correlations.append({**about, "correlation": float(rank)})
                edges += [{**about, **row} for row in shares(kept_edges(network, context, np.random.default_rng(seed)))]
    found_tables = {
        "items": pl.concat(items),
        "correlations": pl.DataFrame(correlations),
        "edges": pl.DataFrame(edges, infer_schema_length=None),
    }
    return {name: table.with_columns(pl.selectors.float().round(6)) for name, table in found_tables.items()}


def shares(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """One row for each choice of :func:`kept_edges`, see ``edges`` of :func:`tables`."""
    found = []
    for (choice,), part in rows.group_by("choice", maintain_order=True):
        share = (part["indicated"] / part["treats"]).to_numpy()
        low, high = np.quantile(share, [0.025, 0.975]) if len(part) > 1 else (None, None)
        means = {name: part[name].mean() for name in ("kept", "treats", "indicated")}
        found.append({"choice": choice, **means, "share": float(share.mean()), "low": low, "high": high})
    return found


def read(cohort: str = "synthetic") -> kept.Kept:
    """The kept tables ``items``, ``correlations`` and ``edges`` of a synthetic cohort.

    Args:
        cohort: its name; of other records nobody knows what each medication was for.

    Raises:
        MedrecError: there are none.
    """
    return kept.read(STUDY, cohort, command=f"{COMMAND} --cohort {cohort}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train all, write the rows."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="What DiffKG's denoiser keeps.")
    parser.add_argument("--cohort", default="synthetic", help="as load_cohort knows it; default synthetic")
    parser.add_argument("--seeds", type=int, default=2, help="training seeds; default 2")
    options = parser.parse_args(arguments)
    cohort, start = load_cohort(options.cohort), time.perf_counter()
    folder = kept.save(
        STUDY,
        tables(cohort, options.seeds),
        cohort=cohort,
        command=f"{COMMAND} --cohort {cohort.name} --seeds {options.seeds}",
        code=kept.code_of(f"medrec.experiments.{STUDY}", systems=SYSTEMS),
        systems=SYSTEMS,
        seconds=time.perf_counter() - start,
        more={"seeds": options.seeds},
    )
    print(folder)


if __name__ == "__main__":
    main()
