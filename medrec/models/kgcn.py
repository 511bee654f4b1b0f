r"""KGCN: a medication is what its neighbours in the knowledge graph are, weighted by what a patient cares about.

Wang et al., "Knowledge graph convolutional networks for recommender systems", WWW 2019.  Formulas are those of the
released code.  For patient :math:`u`, entity :math:`v` and :math:`K` neighbours :math:`e_k` over relations :math:`r_k`:

.. math::
    \pi_k &= \operatorname{softmax}_k\, u \cdot r_k, \qquad v_{\mathcal N} = \sum_k \pi_k\, e_k, \\
    v' &= a\big(W (v + v_{\mathcal N}) + b\big), \qquad \hat y_{uv} = \sigma(u \cdot v^{(H)})

H times, from the outermost neighbours inwards, with :math:`a` = ReLU and at last tanh.  The graph is read in both
directions.  Neighbours are drawn once, with replacement where there are fewer than K; with 20 of them and K = 8 most of
the graph is never seen.  An entity without any has :math:`v_{\mathcal N} = 0`.

Loss: cross-entropy of given medications and of as many others, drawn once, and :math:`\lambda/2` times the squares of
all tables and weights.

Switches (``paper`` → ``official``):

* ``score``: inner product :math:`u \cdot r` → its mean over the width, ``mean``: logits of the attention are divided by
  the width, so that it is nearly uniform;
* ``aggregate``: ``sum`` of the weighted neighbours → their ``mean``: a factor 1/K, so that neighbours count less the
  more of them are looked at.

Ours: ``aggregator``, how an entity and its neighbourhood become one (``sum``, ``concat``, ``neighbour``, as in the
paper); ``resample``, neighbours are drawn anew before every epoch; ``graph`` and ``construction``, which graph it is,
see :mod:`medrec.graphs.knowledge`.

Deviations.  Released: a split of all rated pairs 6:2:2, of which AUC and F1 are told, and lists of 100 patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrec.arguments import Few, Limit, Weight
from medrec.context import Context, graph_of, knowledge_of
from medrec.graphs.interactions import Interactions
from medrec.graphs.knowledge import Construction, Control, controlled
from medrec.graphs.sampling import Pairs, pair_batches
from medrec.models.base import Ranker, Row, System, TrainingConfig

CELLS = 2**24
"""Numbers that may be in memory at once where all medications are scored."""


@dataclass(frozen=True)
class KGCNConfig(TrainingConfig):
    """Settings of KGCN."""

    size: int = 32  # released code, movies; 64 books, 16 music
    n_neighbours: Few = 8  # released code, books and music; 4 movies
    n_hops: Few = 1  # released code, music; 2 movies, 3 books
    score: Literal["inner", "mean"] = "inner"  # paper; released code "mean"
    aggregate: Literal["sum", "mean"] = "sum"  # paper; released code "mean"
    aggregator: Literal["sum", "concat", "neighbour"] = "sum"  # paper, the best of three
    penalty: Weight = 1e-5  # lambda; released code 1e-7 movies, 2e-5 books, 1e-4 music
    resample: bool = False  # ours; released code draws neighbours once
    graph: Control = "full"  # ours
    construction: Construction = "house"  # ours; the third paper has "study"
    per_medication: Limit = 100  # diagnoses, and procedures, of each medication; ours
    learning_rate: float = 1e-2  # ours; released code 2e-2 movies, 2e-4 books, 5e-4 music
    batch_size: int = 4096  # pairs a step; ours; released code 65536 movies, 256 books, 128 music
    epochs: int = 50  # at most; ours; released code 10 or 20
    patience: int = 5  # ours


VARIANTS: dict[str, dict[str, Any]] = {"paper": {}, "official": {"score": "mean", "aggregate": "mean"}}
"""Switches of each variant."""


# -- equations ---------------------------------------------------------------------------------------------------------


def neighbour_weights(patient: Tensor, relations: Tensor, score: Literal["inner", "mean"] = "inner") -> Tensor:
    r"""How much each relation matters to a patient, before the softmax: :math:`g(u, r)`.

    Source: KGCN, user-relation score.

    Args:
        patient: ``(B, d)``.
        relations: ``(R, d)``.
        score: inner product, or mean over the width.

    Returns:
        ``(B, R)``.
    """
    found = patient @ relations.T
    return found / patient.shape[1] if score == "mean" else found


def neighbourhood(logits: Tensor, neighbours: Tensor, aggregate: Literal["sum", "mean"] = "sum") -> Tensor:
    r"""What an entity's neighbours are to a patient, :math:`v_{\mathcal N} = \sum_k \pi_k e_k`.

    Source: KGCN, linear combination of the neighbourhood.

    Args:
        logits: ``(..., K)`` scores of the neighbours' relations.
        neighbours: ``(..., K, d)``.
        aggregate: ``"sum"``, or ``"mean"`` of the weighted neighbours, as released.

    Returns:
        ``(..., d)``.
    """
    found = (logits.softmax(-1)[..., None, :] @ neighbours)[..., 0, :]
    return found / logits.shape[-1] if aggregate == "mean" else found


def drawn_neighbours(triplets: Tensor, n_entities: int, k: int) -> tuple[Tensor, Tensor]:
    """``k`` neighbours of each entity, with their relations, drawn from PyTorch's generator.

    Args:
        triplets: ``(E, 3)``, read in both directions.
        n_entities: number of entities.
        k: how many neighbours; with replacement where an entity has fewer.

    Returns:
        Entities and relations, both ``(N, k)`` int64; -1 for an entity without neighbours.
    """
    head, relation, tail = torch.cat([triplets, triplets.flip(1)]).unbind(1)
    # Edges of one head stand together, in random order: the first k of them are a draw without replacement.
    order = (head + 0.5 * torch.rand(len(head), dtype=torch.float64, device=head.device)).argsort()
    degree = head.bincount(minlength=n_entities)
    chance = torch.rand(n_entities, k, dtype=torch.float64, device=head.device)
    place = torch.where(
        degree[:, None] >= k, torch.arange(k, device=head.device), (chance * degree[:, None]).long()
    ) + (degree.cumsum(0) - degree)[:, None]  # fmt: skip
    if len(order) == 0:
        return torch.full_like(place, -1), torch.full_like(place, -1)
    edge = order[place.clamp(max=len(order) - 1)]
    bare = degree[:, None] == 0
    return tail[edge].masked_fill(bare, -1), relation[edge].masked_fill(bare, -1)


# -- the network -------------------------------------------------------------------------------------------------------


class KGCN(Ranker):
    r"""Neighbours of a medication, and theirs, gathered H times with weights that are the patient's own.

    .. math::
        v_{\mathcal N} = \sum_k \operatorname{softmax}_k(u \cdot r_k)\, e_k, \qquad
        v' = a\big(W (v + v_{\mathcal N}) + b\big), \qquad \hat y_{uv} = u \cdot v^{(H)}

    Patients ``(U, d)``, entities ``(N, d)``, relations ``(R, d)``; one map ``(d, d)`` for each hop.  Buffers:
    ``neighbours`` and ``relations_of``, ``(N, K)``, -1 for entities without any.

    Args:
        config: its settings.
        context: interactions and a knowledge graph.
    """

    config: KGCNConfig
    triplets: Tensor
    neighbours: Tensor
    relations_of: Tensor

    def __init__(self, config: KGCNConfig, context: Context) -> None:
        super().__init__(config, context)
        graph, knowledge, d = graph_of(context), knowledge_of(context), config.size
        self.patients = nn.Parameter(torch.empty(graph.n_patients, d))
        self.entities = nn.Parameter(torch.empty(knowledge.n_entities, d))
        self.relations = nn.Parameter(torch.empty(max(1, knowledge.n_relations), d))
        inputs = 2 * d if config.aggregator == "concat" else d
        self.layers = nn.ModuleList(nn.Linear(inputs, d) for _ in range(config.n_hops))
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        self.register_buffer("triplets", torch.from_numpy(controlled(knowledge, config.graph, rng).copy()))
        drawn = drawn_neighbours(self.triplets, knowledge.n_entities, config.n_neighbours)
        self.register_buffer("neighbours", drawn[0])
        self.register_buffer("relations_of", drawn[1])
        self.n_items = graph.n_medications
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier, biases 0."""
        for parameter in self.parameters():
            nn.init.xavier_uniform_(parameter) if parameter.dim() == 2 else nn.init.zeros_(parameter)

    def before_epoch(self, epoch: int, context: Context) -> None:
        """With ``resample`` other neighbours are drawn."""
        if self.config.resample:
            drawn = drawn_neighbours(self.triplets, len(self.entities), self.config.n_neighbours)
            self.neighbours.copy_(drawn[0])
            self.relations_of.copy_(drawn[1])

    def batches(self, data: Interactions, rows: NDArray[np.integer], order: Sequence[int]) -> Iterator[Pairs]:
        """Batches of ``config.batch_size`` pairs; the medications that were not given are the same in every epoch."""
        return pair_batches(data, rows, self.config.batch_size, order, drawn=order[:1])

    # -- forward

    def forward(self, patient: Tensor, items: Tensor) -> Tensor:
        """Logits of some medications for each patient.

        Args:
            patient: ``(B,)`` int64.
            items: ``(B, n)`` int64.

        Returns:
            ``(B, n)``.
        """
        config, B = self.config, len(patient)
        wanted = self.patients[patient]
        matters = neighbour_weights(wanted, self.relations, config.score)
        # Entities of each hop, (B, n K^h), and the logits of the relations that lead to the next one.
        reached, logits, bare = [items], [], []
        for _ in range(config.n_hops):
            last = reached[-1]
            bare.append((self.neighbours[last] < 0)[..., :1])
            reached.append(self.neighbours[last].clamp(min=0).flatten(1))
            relation = self.relations_of[last].clamp(min=0).flatten(1)
            logits.append(matters.gather(1, relation).view(*last.shape, config.n_neighbours))
        vectors = [nn.functional.embedding(entity, self.entities) for entity in reached]
        for i, layer in enumerate(self.layers):
            last_layer = i == config.n_hops - 1
            for hop in range(config.n_hops - i):
                n = reached[hop].shape[1]
                around = vectors[hop + 1].view(B, n, config.n_neighbours, -1)
                gathered = neighbourhood(logits[hop], around, config.aggregate).masked_fill(bare[hop], 0)
                found = layer(self._together(vectors[hop], gathered))
                vectors[hop] = found.tanh() if last_layer else found.relu()
        return (vectors[0] @ wanted[:, :, None])[..., 0]

    def _together(self, own: Tensor, gathered: Tensor) -> Tensor:
        if self.config.aggregator == "concat":
            return torch.cat([own, gathered], dim=-1)
        return gathered if self.config.aggregator == "neighbour" else own + gathered

    def scores(self, patients: NDArray[np.integer], context: Context) -> Tensor:
        """Logits of all medications, ``(U, M)``, some patients at a time."""
        patient = torch.from_numpy(patients.astype(np.int64)).to(self.patients.device)
        items = torch.arange(self.n_items, device=patient.device)
        cells = self.n_items * self.config.size * (self.config.n_neighbours**self.config.n_hops + 1)
        parts = patient.split(max(1, CELLS // cells))
        return torch.cat([self(part, items.expand(len(part), -1)) for part in parts])

    # -- loss

    def loss(self, batch: Pairs, context: Context) -> Tensor:
        r"""Cross-entropy, mean over given and other medications, and :math:`\lambda/2` times the squares of weights."""
        logits = self(batch.patient, torch.stack([batch.given, batch.other], 1))
        target = torch.tensor([1.0, 0.0], device=logits.device).expand_as(logits)
        error = nn.functional.binary_cross_entropy_with_logits(logits, target)
        squares = sum(p.square().sum() for p in self.parameters() if p.dim() == 2)
        return error + self.config.penalty / 2 * squares


SYSTEM = System(
    name="kgcn",
    label="KGCN",
    family="graph",
    cls=KGCN,
    config=KGCNConfig,
    task="ranking",
    small={"batch_size": 1024},
    sees="medications of earlier visits, a knowledge graph of medications",
    variants=VARIANTS,
    needs=("graph", "knowledge"),
    citation="wang2019kgcn",
    seconds_per_epoch=3,
    rows=(
        Row("kgcn", "KGCN", "kgcn"),
        Row("score", "mean in the attention", "kgcn", settings={"score": "mean"}),
        Row("aggregate", "mean of the neighbours", "kgcn", settings={"aggregate": "mean"}),
        Row("resample", "neighbours drawn anew", "kgcn", settings={"resample": True}),
        Row("empty", "empty graph", "kgcn", settings={"graph": "empty"}),
        Row("shuffled", "shuffled tails", "kgcn", settings={"graph": "shuffled"}),
        Row("interacts", "interactions alone", "kgcn", settings={"graph": "interacts"}),
        Row("study", "graph of the study", "kgcn", settings={"construction": "study"}),
        Row("official", "official", "kgcn", "official"),
    ),
)
