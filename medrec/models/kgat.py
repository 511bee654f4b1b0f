r"""KGAT: patients and entities in one graph, and an attention that learns which neighbours to hear.

Wang et al., "KGAT: knowledge graph attention network for recommendation", KDD 2019.  Formulas are those of the released
code.  Patients are nodes like all others; what they were given is one more relation, and every relation is read from
its tail as well.  With head :math:`h`, relation :math:`r`, tail :math:`t`:

.. math::
    f(h, r, t) &= \lVert W_r h + r - W_r t \rVert^2, \qquad
    \mathcal L_{KG} = \operatorname{softplus}\big(f(h, r, t) - f(h, r, t')\big) \\
    \alpha(h, r, t) &= \operatorname{softmax}_{(r, t) \in \mathcal N_h}\, (W_r t)^\top \tanh(W_r h + r), \qquad
    N_h = \sum \alpha\, t \\
    h' &= \operatorname{LeakyReLU}\big(W_1 (h + N_h) + b_1\big)
        + \operatorname{LeakyReLU}\big(W_2 (h \odot N_h) + b_2\big)

A node is the concatenation of its own vector and of the layers' outputs, each of length 1; the score is the inner
product of a patient's and a medication's.  Loss: BPR, then TransR (above), each with half the squares of the vectors in
the batch, divided by its size.  In an epoch all pairs come first, then all triplets of the joint graph; the attention
is computed before, holds for the epoch, and carries no gradient: TransR alone trains :math:`W_r`.

Switches (``paper`` → ``official``):

* ``attention``: ``refreshed`` → ``initial_laplacian``, :math:`\sum_r D_r^{-1} A_r`.  The released code computes the
  refreshed one, and its graph was compiled with the first: what is learnt never reaches a prediction.

Ours: ``graph`` and ``construction``, see :mod:`medrec.graphs.knowledge`.  The best epoch is chosen on validation
patients; the released code's choice on test patients is the protocol's ``selection``, no setting.

Deviations.  Released vectors start from a trained matrix factorisation, which no other system is given; ours from
Xavier.  In an evaluation the attention is that of the weights as they are then, as after the released refresh.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrec.arguments import Count, Limit, Weight
from medrec.context import Context, graph_of, knowledge_of
from medrec.graphs.interactions import Interactions
from medrec.graphs.knowledge import Construction, Control, controlled, with_inverses
from medrec.graphs.sampling import Pairs, bpr_loss, negatives, pair_batches
from medrec.models.base import Ranker, Row, System, TrainingConfig
from medrec.nn.dropout import Dropout
from medrec.nn.edges import Edges, segment_softmax, weighted_sums

SLOPE = 0.2
"""Of LeakyReLU below 0; the default of the released code's library."""


@dataclass(frozen=True)
class KGATConfig(TrainingConfig):
    """Settings of KGAT."""

    size: int = 64  # of nodes, relations and the first layer; released code
    n_layers: int = 3  # each half as wide as the one before, 64, 32, 16; released code
    dropout: float = 0.1  # of messages; released code
    penalty: Weight = 1e-5  # of squares of vectors in a batch; released code
    attention: Literal["refreshed", "initial_laplacian"] = "refreshed"  # paper; released code the other
    triplet_batch: Count = 16384  # triplets a step; ours; released code 2048
    graph: Control = "full"  # ours
    construction: Construction = "house"  # ours; the third paper has "study"
    per_medication: Limit = 100  # diagnoses, and procedures, of each medication; ours
    learning_rate: float = 2e-3  # ours; released code 1e-4
    batch_size: int = 8192  # pairs a step; ours; released code 1024
    epochs: int = 100  # at most; ours; released code 1000
    patience: int = 10  # released code


VARIANTS: dict[str, dict[str, Any]] = {"paper": {}, "official": {"attention": "initial_laplacian"}}
"""Switches of each variant."""


# -- equations ---------------------------------------------------------------------------------------------------------


def transr(head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
    r"""How badly triplets fit, :math:`f = \lVert W_r h + r - W_r t \rVert^2`.

    Source: KGAT, TransR.

    Args:
        head: ``(B, k)``, projected: :math:`W_r h`.
        relation: ``(k,)`` or ``(B, k)``.
        tail: ``(B, k)``, projected.

    Returns:
        ``(B,)``; 0 is a perfect fit.
    """
    return (head + relation - tail).square().sum(-1)


def attention_scores(head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
    r"""How much a head hears of a tail, before the softmax: :math:`(W_r t)^\top \tanh(W_r h + r)`.

    Source: KGAT, attentive embedding propagation.

    Args:
        head: ``(B, k)``, projected: :math:`W_r h`.
        relation: ``(k,)`` or ``(B, k)``.
        tail: ``(B, k)``, projected.

    Returns:
        ``(B,)``.
    """
    return (tail * (head + relation).tanh()).sum(-1)


def laplacian(edges: Edges) -> Tensor:
    r"""Weights of the initial graph, :math:`\sum_r D_r^{-1} A_r`: of each relation a head's tails are averaged.

    Args:
        edges: of the joint graph.

    Returns:
        ``(E,)``; of each head they add up to the number of its relations.
    """
    if len(edges.head) == 0:
        return edges.head.float()
    kind = edges.head * (edges.relation.max() + 1) + edges.relation
    _, owner, count = kind.unique(return_inverse=True, return_counts=True)
    return 1.0 / count[owner].float()


class BiInteraction(nn.Module):
    """Two maps, of the sum and of the product of a node and what it gathers.

    Args:
        inputs: width of nodes.
        outputs: width of the result.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.of_sum, self.of_product = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier, biases 0."""
        for layer in (self.of_sum, self.of_product):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, own: Tensor, gathered: Tensor) -> Tensor:
        """``(N, inputs)`` twice → ``(N, outputs)``."""
        added = nn.functional.leaky_relu(self.of_sum(own + gathered), SLOPE)
        return added + nn.functional.leaky_relu(self.of_product(own * gathered), SLOPE)


# -- batches -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairStep:
    """Pairs, with the joint graph and the attention of this epoch.

    Args:
        pairs: of the batch.
        edges: of the joint graph, on the network's device.
        attention: ``(E,)``.
    """

    pairs: Pairs
    edges: Edges
    attention: Tensor

    def to(self, device: torch.device | str) -> PairStep:
        """The same on another device; the graph is there already."""
        return PairStep(self.pairs.to(device), self.edges, self.attention)


@dataclass(frozen=True)
class TripletStep:
    """Triplets of the joint graph sorted by relation, each with a tail that makes it false.

    Args:
        head: ``(B,)`` int64.
        tail: ``(B,)`` int64.
        other: ``(B,)`` int64.
        counts: how many there are of each relation.
    """

    head: Tensor
    tail: Tensor
    other: Tensor
    counts: tuple[int, ...]

    def to(self, device: torch.device | str) -> TripletStep:
        """The same on another device."""
        return TripletStep(self.head.to(device), self.tail.to(device), self.other.to(device), self.counts)


class AdamOf(torch.optim.Adam):
    """Adam that rests after a batch of the other loss, which is one that does not reach a parameter of its own.

    Two optimisers share the vectors of nodes; each keeps its own moments of them.

    Args:
        own: a parameter that only its loss reaches.
        parameters: all that it moves.
        settings: of Adam.
    """

    def __init__(self, own: nn.Parameter, parameters: Sequence[nn.Parameter], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        self.own = own

    def step(self, closure: Any = None) -> Any:
        """One step, or none."""
        return None if self.own.grad is None else super().step(closure)


# -- the network -------------------------------------------------------------------------------------------------------


class KGAT(Ranker):
    r"""Messages along a graph of patients and entities, weighted by an attention over relations.

    .. math::
        h' = \operatorname{LeakyReLU}(W_1 (h + N_h) + b_1) + \operatorname{LeakyReLU}(W_2 (h \odot N_h) + b_2), \qquad
        N_h = \sum_{(r, t)} \alpha(h, r, t)\, t

    Nodes are entities, then patients: ``(N + U, d)``.  Relations ``(2 (R + 1), d)`` and their maps
    ``(2 (R + 1), d, d)`` stand in the order: given to, those of the graph, and all of them from the tail.  Buffer:
    ``triplets`` ``(E, 3)`` of the knowledge graph.

    Args:
        config: its settings.
        context: interactions and a knowledge graph.
    """

    config: KGATConfig
    triplets: Tensor

    def __init__(self, config: KGATConfig, context: Context) -> None:
        super().__init__(config, context)
        graph, knowledge, d = graph_of(context), knowledge_of(context), config.size
        self.n_items, self.n_entities = graph.n_medications, knowledge.n_entities
        self.n_relations = knowledge.n_relations + 1
        self.nodes = nn.Parameter(torch.empty(knowledge.n_entities + graph.n_patients, d))
        self.relations = nn.Parameter(torch.empty(2 * self.n_relations, d))
        self.maps = nn.Parameter(torch.empty(2 * self.n_relations, d, d))
        sizes = [d, *(max(1, d >> i) for i in range(config.n_layers))]
        self.layers = nn.ModuleList(BiInteraction(a, b) for a, b in itertools.pairwise(sizes))
        self.dropout = Dropout(config.dropout)
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        self.register_buffer("triplets", torch.from_numpy(controlled(knowledge, config.graph, rng).copy()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier."""
        for layer in self.layers.children():
            assert isinstance(layer, BiInteraction)
            layer.reset_parameters()
        nn.init.xavier_uniform_(self.nodes)
        nn.init.xavier_uniform_(self.relations)
        for one in self.maps:
            nn.init.xavier_uniform_(one.data)

    def optimisers(self) -> list[torch.optim.Optimizer]:
        """One for pairs and one for triplets; both move the vectors of nodes."""
        settings = {"lr": self.config.learning_rate, "weight_decay": self.config.weight_decay, "fused": True}
        layers = list(self.layers.parameters())
        return [
            AdamOf(layers[0], [self.nodes, *layers], **settings),
            AdamOf(self.maps, [self.nodes, self.relations, self.maps], **settings),
        ]

    # -- the graph

    def joint(self, interactions: Interactions) -> NDArray[np.int64]:
        """Triplets of patients and entities, in both directions, ``(E, 3)``."""
        patient, item = np.nonzero(interactions.matrix)
        given = np.stack([patient + self.n_entities, np.zeros_like(item), item], axis=1)
        known = self.triplets.cpu().numpy() + np.array([0, 1, 0])
        return with_inverses(np.concatenate([given, known]), self.n_relations)

    def edges(self, interactions: Interactions) -> Edges:
        """The same as edges, on the network's device."""
        return Edges.of(torch.from_numpy(self.joint(interactions)).to(self.nodes.device), len(self.nodes))

    @torch.no_grad()
    def attention(self, edges: Edges) -> Tensor:
        """Weights of all edges, ``(E,)``, from what is learnt so far; without a gradient, as in the released code."""
        if self.config.attention == "initial_laplacian":
            return laplacian(edges)
        scores = self.nodes.new_zeros(len(edges.head))
        for relation, (vector, matrix) in enumerate(zip(self.relations, self.maps, strict=True)):
            here = (edges.relation == relation).nonzero()[:, 0]
            projected = self.nodes @ matrix
            scores[here] = attention_scores(projected[edges.head[here]], vector, projected[edges.tail[here]])
        return segment_softmax(scores, edges)

    def batches(
        self, data: Interactions, rows: NDArray[np.integer], order: Sequence[int]
    ) -> Iterator[PairStep | TripletStep]:
        """All pairs in batches of ``config.batch_size``, then all triplets in batches of ``config.triplet_batch``."""
        edges = self.edges(data)
        attention = self.attention(edges)
        for pairs in pair_batches(data, rows, self.config.batch_size, order):
            yield PairStep(pairs, edges, attention)
        yield from self._triplets(data, np.random.default_rng([*order, 1]))

    def _triplets(self, data: Interactions, rng: np.random.Generator) -> Iterator[TripletStep]:
        joint, n, R = self.joint(data), len(self.nodes), 2 * self.n_relations
        owner = joint[:, 0] * R + joint[:, 1]
        other = negatives(owner, np.sort(owner * n + joint[:, 2]), n, rng)
        shuffled = rng.permutation(len(joint))
        for start in range(0, len(joint), self.config.triplet_batch):
            part = shuffled[start : start + self.config.triplet_batch]
            part = part[joint[part, 1].argsort(kind="stable")]
            head, relation, tail = joint[part].T
            counts = tuple(np.bincount(relation, minlength=R).tolist())
            heads, tails, others = (torch.from_numpy(x.copy()) for x in (head, tail, other[part]))
            yield TripletStep(heads, tails, others, counts)

    # -- forward

    def forward(self, edges: Edges, attention: Tensor) -> Tensor:
        """All nodes after all layers, ``(N + U, d + d + d/2 + ...)``.

        Args:
            edges: of the joint graph.
            attention: ``(E,)``.
        """
        x: Tensor = self.nodes
        found = [x]
        for layer in self.layers:
            # What is stored has length 1; what goes on has not.
            x = self.dropout(layer(x, weighted_sums(x, attention, edges)))
            found.append(nn.functional.normalize(x))
        return torch.cat(found, dim=1)

    def scores(self, patients: NDArray[np.integer], context: Context) -> Tensor:
        """Inner products with all medications, ``(U, M)``."""
        edges = self.edges(graph_of(context))
        nodes = self(edges, self.attention(edges))
        patient = torch.from_numpy(patients.astype(np.int64)).to(nodes.device) + self.n_entities
        return nodes[patient] @ nodes[: self.n_items].T

    # -- loss

    def loss(self, batch: PairStep | TripletStep, context: Context) -> Tensor:
        """BPR of pairs, or TransR of triplets; a mean, with the squares of the batch's vectors."""
        return self._of_pairs(batch) if isinstance(batch, PairStep) else self._of_triplets(batch)

    def _of_pairs(self, batch: PairStep) -> Tensor:
        pairs = batch.pairs
        nodes = self(batch.edges, batch.attention)
        rows = (pairs.patient + self.n_entities, pairs.given, pairs.other)
        patient, given, other = (nn.functional.embedding(row, nodes) for row in rows)
        error = bpr_loss((patient * given).sum(1), (patient * other).sum(1)).mean()
        return error + self._penalty(patient, given, other)

    def _of_triplets(self, batch: TripletStep) -> Tensor:
        n = list(batch.counts)
        vectors = (nn.functional.embedding(x, self.nodes).split(n) for x in (batch.head, batch.tail, batch.other))
        head, tail, other = (
            torch.cat([part @ matrix for part, matrix in zip(parts, self.maps, strict=True)]) for parts in vectors
        )
        relation = self.relations.repeat_interleave(torch.tensor(n, device=head.device), dim=0)
        error = nn.functional.softplus(transr(head, relation, tail) - transr(head, relation, other)).mean()
        return error + self._penalty(head, relation, tail, other)

    def _penalty(self, *vectors: Tensor) -> Tensor:
        squares = torch.stack([x.square().sum() for x in vectors]).sum()
        return self.config.penalty * squares / 2 / len(vectors[0])


SYSTEM = System(
    name="kgat",
    label="KGAT",
    family="graph",
    cls=KGAT,
    config=KGATConfig,
    task="ranking",
    small={"batch_size": 1024},
    sees="medications of earlier visits, a knowledge graph of medications",
    variants=VARIANTS,
    needs=("graph", "knowledge"),
    citation="wang2019kgat",
    seconds_per_epoch=10,
    rows=(
        Row("kgat", "KGAT", "kgat"),
        Row("empty", "empty graph", "kgat", settings={"graph": "empty"}),
        Row("shuffled", "shuffled tails", "kgat", settings={"graph": "shuffled"}),
        Row("interacts", "interactions alone", "kgat", settings={"graph": "interacts"}),
        Row("study", "graph of the study", "kgat", settings={"construction": "study"}),
        Row("official", "first attention for good (official)", "kgat", "official"),
    ),
)
