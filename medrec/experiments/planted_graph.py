r"""Can DiffKG find the edges that matter, where we know which they are?

A world of its own, drawn anew for every seed: items with ten links each, 1 000 in all, to attributes of which a fifth
is *useful*.  A patient wants a few useful attributes and is given mostly items that have them; the other attributes
say nothing about anybody.  Useful and idle attributes have the same numbers of links, so that nothing but the
interactions tells them apart.  Each arm keeps one edge of every item; of 100 kept edges :math:`k` are useful, and

.. math:: \text{enrichment} = \frac{k / n}{K / N} = \frac{k}{20} \qquad (n = 100,\ K = 200,\ N = 1000)

is 1 by chance, 5 at best.  Edges that are drawn at random have a hypergeometric number of useful ones, 20 ± 3.8; an
arm's pick of one edge for every item, of which two in ten are useful, a binomial one, 20 ± 4.0.

The positive control is an *oracle*: the same system, whose picks are restricted to useful edges.  What it gains over
random edges is the most that a filter of this size can be worth in this world.

``python -m medrec.experiments.planted_graph [--seeds N]`` trains all arms and keeps the rows (:mod:`medrec.lab.kept`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from medrec.context import Context, graph_of
from medrec.fit import one_epoch, seeded
from medrec.graphs.interactions import Interactions
from medrec.graphs.knowledge import KnowledgeGraph
from medrec.lab import kept
from medrec.models.diffkg import ARMS, DiffKG, DiffKGConfig, Known
from medrec.tasks.ranking import HOLD_OUT, Questions

STUDY = "planted_graph"
COMMAND = f"python -m medrec.experiments.{STUDY}"
SYSTEMS = ("diffkg/paper",)
"""What is trained; the oracle is the same network with other picks."""

PATIENTS, ITEMS = 150, 100
LINKS_OF_ATTRIBUTE = (*range(1, 20), 10)
"""Of twenty attributes; 200 in all.  Useful ones have these numbers, and idle ones four times the same."""
IDLE = 4
"""How many times as many idle attributes there are."""
WANTED = 2
"""Useful attributes that a patient wants."""
GIVEN, ELSEWHERE = 0.5, 0.03
"""Chance of an item with an attribute that is wanted, and of any other."""
EPOCHS = 100
MEASURES = ("ndcg_20", "recall_20")
N_EDGES, N_USEFUL = (1 + IDLE) * sum(LINKS_OF_ATTRIBUTE), sum(LINKS_OF_ATTRIBUTE)

SHARED: dict[str, Any] = {"diffused": "items", "keep": 1.0, "row_batch": 10, "batch_size": 512, "size": 32}
"""Settings of all arms: rows of items alone, and no coin, so that 100 edges are kept; ten steps of the denoiser an
epoch."""
NOISE = {"n_steps": 50, "noise_scale": 1e-3, "noise_max": 1e-3}
"""The third paper's."""
TRIED: dict[str, tuple[str, dict[str, Any]]] = {
    "oracle": ("filter", {}),
    "filter": ("filter", {}),
    "filter, constraint alone": ("filter", {"ckgc_weight": 1.0}),
    "filter, noise of the study": ("filter", NOISE),
    "add": ("add", {}),
    "random": ("random", {}),
    "frequent": ("frequent", {}),
    "released": ("released", {}),
    "one view": ("one-view", {}),
    "empty": ("one-view", {"graph": "empty"}),
}
"""Arms: which of :data:`~medrec.models.diffkg.ARMS`, and what is changed in it."""


@dataclass(frozen=True)
class World:
    """Items, attributes and patients of one seed.

    Args:
        knowledge: 1 000 links of items to attributes; items first among entities.
        useful: ``(N,)`` bool, which entities are useful attributes.
        given: ``(U, M)`` bool, what training sees.
        target: ``(U, M)`` bool, what is asked.
    """

    knowledge: KnowledgeGraph
    useful: NDArray[np.bool_]
    given: NDArray[np.bool_]
    target: NDArray[np.bool_]

    @classmethod
    def draw(cls, seed: int) -> World:
        """A world; the numbers of links are the same in all of them, who has which is not."""
        rng = np.random.default_rng([seed, 22])
        n = len(LINKS_OF_ATTRIBUTE)
        parts = [linked(np.array(LINKS_OF_ATTRIBUTE), rng), linked(np.tile(LINKS_OF_ATTRIBUTE, IDLE), rng)]
        has = np.concatenate(parts, axis=1)
        # Ties between attributes are broken by their numbers: useful ones must not come first.
        order = rng.permutation(has.shape[1])
        item, attribute = np.nonzero(has[:, order])
        triplets = np.stack([item, np.zeros_like(item), ITEMS + attribute], axis=1)
        names = [f"item:{i}" for i in range(ITEMS)] + [f"attribute:{a}" for a in range(has.shape[1])]
        useful = np.concatenate([np.zeros(ITEMS, dtype=bool), order < n])
        wants = np.stack([rng.permutation(n)[:WANTED] for _ in range(PATIENTS)])
        fits = parts[0].T[wants].any(1)
        taken = rng.random(fits.shape) < np.where(fits, GIVEN, ELSEWHERE)
        asked = rng.random(taken.shape) < 0.5
        return cls(KnowledgeGraph(triplets, tuple(names), ("has",), ITEMS), useful, taken & ~asked, taken & asked)

    @property
    def context(self) -> Context:
        """What a ranker is given."""
        graph = Interactions(self.given.astype(np.int32), self.given)
        return Context(vocab={}, ddi=torch.zeros(ITEMS, ITEMS), graph=graph, knowledge=self.knowledge)


def linked(degrees: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Links of attributes with given degrees to items, all of which get equally many, ``(M, A)``.

    Each attribute in turn, in a random order, goes to those items that have the fewest links so far.
    """
    found = np.zeros((ITEMS, len(degrees)), dtype=bool)
    for a in rng.permutation(len(degrees)):
        fewest = np.lexsort((rng.random(ITEMS), found.sum(1)))[: degrees[a]]
        found[fewest, a] = True
    return found


class Oracle(DiffKG):
    """DiffKG whose picks are restricted to useful edges: the best filter that there is.

    Args:
        config: its settings.
        context: interactions and a knowledge graph.
        useful: ``(N,)`` bool, tails that it may pick.
    """

    useful: Tensor

    def __init__(self, config: DiffKGConfig, context: Context, useful: NDArray[np.bool_]) -> None:
        super().__init__(config, context)
        self.register_buffer("useful", torch.from_numpy(useful))

    @torch.no_grad()
    def picked(self, known: Known) -> Tensor:
        """A useful attribute of each item, the one that the denoiser likes best."""
        rows = known.rows(torch.arange(self.n_rows))
        guess = self.denoiser.reversed(rows).masked_fill(~(rows.bool() & self.useful), -torch.inf)
        return guess.topk(1).indices


def arm(name: str, world: World, seed: int, n_epochs: int = EPOCHS) -> list[dict[str, Any]]:
    """Train one arm; after each epoch, and before the first, what its rebuilt graph is made of.

    Args:
        name: of :data:`TRIED`.
        world: what it is trained on.
        seed: of initialisation, shuffling and dropout.
        n_epochs: how many; none is chosen, the last one counts.

    Returns:
        ``epoch``, what :func:`rebuilt` says, and ``ndcg_20`` and ``recall_20`` of lists without known items.
    """
    which, changed = TRIED[name]
    config = DiffKGConfig(**{**ARMS[which], **SHARED, **changed})
    context, cpu, everybody = world.context, torch.device("cpu"), np.arange(PATIENTS)
    graph, rows = graph_of(context), []
    asked = Questions(everybody, np.full(PATIENTS, -1), world.target, world.given)
    with seeded(seed, cpu):
        network = Oracle(config, context, world.useful) if name == "oracle" else DiffKG(config, context)
        network.prepare(graph, everybody, context)
        optimisers = network.optimisers()
        for epoch in range(n_epochs + 1):
            if epoch:
                batches = network.batches(graph, everybody, [seed, epoch])
                one_epoch(network, optimisers, batches, context, cpu, epoch)
            network.eval()
            found = asked.answered(network.rank(everybody, context)).evaluate(HOLD_OUT).summary()
            rows.append({"epoch": epoch, **rebuilt(network, world), **{m: found[m] for m in MEASURES}})
    return rows


def rebuilt(network: DiffKG, world: World) -> dict[str, float | None]:
    """What the rebuilt graph of a network is made of, each pair once, and what its denoiser knows.

    Args:
        network: of any arm.
        world: that it was trained on.

    Returns:
        ``kept``: edges that the original graph has; ``useful``: how many of them are; ``new``: edges that it has not;
        ``above``: how often a useful edge of an item gets more than an idle one of the same item, .5 by chance.
        All are ``None`` where there is one view.
    """
    if not network.config.second_view:
        return dict.fromkeys(("kept", "useful", "new", "above"))
    head, relation, tail = network.rebuilt[network.rebuilt[:, 0] >= 0].numpy().T
    new = relation == 2 * network.n_relations
    known = (head < ITEMS) & ~new
    with torch.no_grad():
        rows = network.known().rows(torch.arange(ITEMS))
        guess = network.denoiser.reversed(rows).numpy()
    is_link = rows.numpy() > 0
    good, idle = (guess[is_link & of].reshape(ITEMS, -1) for of in (world.useful, ~world.useful))
    return {
        "kept": int(known.sum()),
        "useful": int(world.useful[tail[known]].sum()),
        "new": int(new.sum()) // 2,
        "above": float((good[:, :, None] > idle[:, None]).mean()),
    }


def epochs(seeds: int, n_epochs: int = EPOCHS) -> pl.DataFrame:
    """All arms in as many worlds as there are seeds.

    Args:
        seeds: how many.
        n_epochs: of each training.

    Returns:
        One row for each ``arm``, ``seed`` and epoch, see :func:`arm`.
    """
    rows = []
    for seed in range(seeds):
        world = World.draw(seed)
        for name in TRIED:
            rows += [{"arm": name, "seed": seed, **found} for found in arm(name, world, seed, n_epochs)]
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.selectors.float().round(6))


def chance(kept_edges: int = ITEMS) -> Any:
    """Number of useful ones among edges that are drawn at random, a hypergeometric distribution of SciPy."""
    return stats.hypergeom(N_EDGES, N_USEFUL, kept_edges)


def over_worlds(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of as many worlds, and the ends of its 95 % interval by Student's t."""
    found = np.asarray(values, dtype=np.float64)
    half = stats.t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / len(found) ** 0.5
    return float(found.mean()), float(found.mean() - half), float(found.mean() + half)


def summary(rows: pl.DataFrame) -> pl.DataFrame:
    """The last epoch of every arm, over worlds.

    Args:
        rows: from :func:`epochs`.

    Returns:
        One row an arm: means ``kept``, ``useful``, ``new``, ``above``; ``enrichment`` and ``gain``, NDCG@20 over that
        of the arm ``random`` in the same world, each with ``_low`` and ``_high`` of :func:`over_worlds`; ``ndcg_20``.
        Nulls where an arm keeps nothing.
    """
    last = rows.filter(pl.col("epoch") == pl.col("epoch").max()).sort("seed")
    base = last.filter(arm="random")["ndcg_20"].to_numpy()
    found = []
    for (name,), part in last.group_by("arm", maintain_order=True):
        values = {
            "enrichment": (part["useful"] / part["kept"] * N_EDGES / N_USEFUL).fill_nan(None),
            "gain": pl.Series(part["ndcg_20"].to_numpy() - base),
        }
        row: dict[str, Any] = {"arm": name}
        row |= {column: part[column].mean() for column in ("kept", "useful", "new", "above", "ndcg_20")}
        for what, each in values.items():
            whole = each.null_count() == 0
            ends = over_worlds(each.to_list()) if whole else (None, None, None)
            row |= dict(zip((what, f"{what}_low", f"{what}_high"), ends, strict=True))
        found.append(row)
    order = {name: place for place, name in enumerate(TRIED)}
    return pl.DataFrame(found, infer_schema_length=None).sort(pl.col("arm").replace_strict(order))


def read() -> kept.Kept:
    """The kept table ``epochs``; there is one, of no cohort.

    Raises:
        MedrecError: there is none.
    """
    return kept.read(STUDY, command=COMMAND)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train all arms, write the rows."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Can DiffKG find planted edges?")
    parser.add_argument("--seeds", type=int, default=5, help="worlds, and trainings of each arm; default 5")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    folder = kept.save(
        STUDY,
        {"epochs": epochs(options.seeds)},
        cohort=None,
        command=f"{COMMAND} --seeds {options.seeds}",
        code=kept.code_of(f"medrec.experiments.{STUDY}", systems=SYSTEMS),
        systems=SYSTEMS,
        seconds=time.perf_counter() - start,
        more={"seeds": options.seeds},
    )
    print(folder)


if __name__ == "__main__":
    main()
