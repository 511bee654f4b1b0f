r"""KGIN: a patient takes a medication for a reason, and a reason is a mixture of relations.

Wang et al., "Learning intents behind interactions with knowledge graph for recommendation", WWW 2021.  Formulas are
those of the released code.  With relations :math:`r` (each also from the tail, without the interactions), intents
:math:`p`, triplets :math:`(h, r, t)` and a patient's medications :math:`\mathcal N_u`:

.. math::
    e_h' &= \frac{1}{|\mathcal N_h|} \sum_{(r, t) \in \mathcal N_h} e_t \odot r, \qquad
    c_p = \sum_r \operatorname{softmax}_r(w_p)\, r, \\
    b_{up} &= \operatorname{softmax}_p\, u \cdot c_p, \qquad
    u' = \Big(\frac{1}{|\mathcal N_u|} \sum_{i \in \mathcal N_u} e_i\Big) \odot \sum_p b_{up}\, c_p

three times, each time with dropout and length 1; the results are added to what they began with, and the score is the
inner product.  An entity without triplets has :math:`e' = 0`.  Loss: BPR, half the squares of the batch's vectors
divided by its size, and a measure of how much the intents' rows of attention depend on each other, times its weight.
While it learns, half of the triplets and of the interactions are left out at each step (``node_dropout``).

Switches (``paper`` → ``official``):

* ``user_residual``: no → yes, :math:`u'` has :math:`+\,\tfrac{1}{|\mathcal N_u|} \sum e_i` behind it, which dilutes
  the intents;
* ``user_intent``: the intent itself, :math:`u \cdot c_p` → ``latent``, a vector of its own, :math:`u \cdot l_p`;
* ``sparse_scale``: what is kept is scaled so that its expectation stays (``expectation``) → ``released``: interactions
  and triplets are kept with the probability that is called the dropout, and interactions divided by one minus it; both
  agree at one half, and the scale is .11 at .1 and 9 at .9;
* ``independence_of``: ``attention``, the rows after their softmax → ``weights``, before it.

``independence`` is ``distance`` (correlation of distances, both codes' default), ``cosine`` (squared),
``mutual_information`` (each intent against all, temperature .2; the released code compares relations there), ``none``.

Ours: ``graph`` and ``construction``, see :mod:`medrec.graphs.knowledge`.  The best epoch is chosen on validation
patients; the released code's choice on test patients is the protocol's ``selection``, no setting.
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

from medrec.arguments import Dropout as DropoutRate
from medrec.arguments import Few, Limit, Weight
from medrec.context import Context, graph_of, knowledge_of
from medrec.graphs.interactions import Interactions
from medrec.graphs.knowledge import Construction, Control, controlled, with_inverses
from medrec.graphs.sampling import Pairs, bpr_loss, pair_batches
from medrec.models.base import Ranker, Row, System, TrainingConfig
from medrec.nn.dropout import Dropout, scaled_mask
from medrec.nn.edges import Edges, weighted_sums

TINY = 1e-12
"""Below which a square root is not taken: its gradient is infinite at 0."""
TEMPERATURE = 0.2
"""Of the mutual information; released code."""


@dataclass(frozen=True)
class KGINConfig(TrainingConfig):
    """Settings of KGIN."""

    size: int = 64  # released code
    n_layers: int = 3  # hops; released code
    n_intents: Few = 4  # released code
    dropout: float = 0.1  # of messages; released code
    node_dropout: DropoutRate = 0.5  # of triplets and interactions; released code
    sparse_scale: Literal["expectation", "released"] = "expectation"  # ours; see the module
    user_residual: bool = False  # paper; released code True
    user_intent: Literal["intent", "latent"] = "intent"  # paper; released code "latent"
    independence: Literal["distance", "cosine", "mutual_information", "none"] = "distance"  # released code
    independence_of: Literal["attention", "weights"] = "attention"  # ours; released code "weights"
    independence_weight: Weight = 1e-4  # released code
    penalty: Weight = 1e-5  # of squares of vectors in a batch; released code
    graph: Control = "full"  # ours
    construction: Construction = "house"  # ours; the third paper has "study"
    per_medication: Limit = 100  # diagnoses, and procedures, of each medication; ours
    learning_rate: float = 2e-3  # ours; released code 1e-4
    batch_size: int = 8192  # pairs a step; ours; released code 1024
    epochs: int = 100  # at most; ours; released code 1000
    patience: int = 10  # released code


VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "official": {
        "user_residual": True,
        "user_intent": "latent",
        "sparse_scale": "released",
        "independence_of": "weights",
    },
}
"""Switches of each variant."""


# -- equations ---------------------------------------------------------------------------------------------------------


def intents(weights: Tensor, relations: Tensor) -> Tensor:
    r"""Intents as mixtures of relations, :math:`c_p = \sum_r \operatorname{softmax}_r(w_p)\, r`.

    Source: KGIN, representation learning of intents.

    Args:
        weights: ``(P, R)``.
        relations: ``(R, d)``.

    Returns:
        ``(P, d)``.
    """
    return weights.softmax(1) @ relations


def patient_update(patients: Tensor, gathered: Tensor, reasons: Tensor, keys: Tensor, residual: bool = False) -> Tensor:
    r"""What a patient's medications are to him, :math:`u' = a_u \odot \sum_p b_{up} c_p \;(+\, a_u)`.

    Source: KGIN, intents' aggregation; the last term is the released code's.

    Args:
        patients: ``(U, d)``.
        gathered: ``(U, d)``, mean of the medications, :math:`a_u`.
        reasons: ``(P, d)``, intents :math:`c_p`.
        keys: ``(P, d)``, what a patient is compared with: the intents, or vectors of their own.
        residual: whether the mean is added.

    Returns:
        ``(U, d)``.
    """
    mixed = gathered * ((patients @ keys.T).softmax(1) @ reasons)
    return mixed + gathered if residual else mixed


def distance_correlation(a: Tensor, b: Tensor) -> Tensor:
    """How much the distances between entries of one row say about those of another; 0 to 1, free of scale.

    Source: KGIN, independence of intents.

    Args:
        a: ``(R,)``.
        b: ``(R,)``.

    Returns:
        A scalar.
    """

    def centred(x: Tensor) -> Tensor:
        apart = (x[:, None] - x).abs()
        return apart - apart.mean(0, keepdim=True) - apart.mean(1, keepdim=True) + apart.mean()

    def covariance(x: Tensor, y: Tensor) -> Tensor:
        return (x * y).mean().clamp(min=TINY).sqrt()

    a, b = centred(a), centred(b)
    return covariance(a, b) / (covariance(a, a) * covariance(b, b)).sqrt()


def dependence(rows: Tensor, kind: Literal["distance", "cosine", "mutual_information"]) -> Tensor:
    """How much intents depend on each other; a scalar, summed over their pairs.

    Args:
        rows: ``(P, R)``, one for each intent.
        kind: correlation of distances, squared cosine, or each intent against all (InfoNCE).
    """
    if kind == "mutual_information":
        unit = nn.functional.normalize(rows)
        own = torch.arange(len(rows), device=rows.device)
        return nn.functional.cross_entropy(unit @ unit.T / TEMPERATURE, own, reduction="sum")
    pairs = itertools.combinations(rows.unbind(0), 2)
    if kind == "distance":
        found = [distance_correlation(a, b) for a, b in pairs]
    else:
        found = [nn.functional.cosine_similarity(a, b, dim=0).square() for a, b in pairs]
    return torch.stack(found).sum() if found else rows.sum() * 0


def sparse_mask(
    shape: Sequence[int], rate: float, like: Tensor, scale: Literal["expectation", "released"] = "expectation"
) -> Tensor:
    """Factors of dropout of edges: 0, or what scales up the ones that are kept.

    Args:
        shape: of the mask.
        rate: the setting, above 0.
        like: a tensor of the wanted type on the wanted device.
        scale: ``"expectation"``: kept with probability 1 - rate; ``"released"``: with probability rate. Both are
            divided by 1 - rate.
    """
    if scale == "expectation":
        return scaled_mask(shape, rate, like)
    return scaled_mask(shape, 1 - rate, like) * (rate / (1 - rate))


# -- batches -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """Pairs, with the graphs of this epoch, which are the same at each of its steps.

    Args:
        pairs: of the batch.
        edges: of the knowledge graph; tails are numbered ``relation * N + entity``.
        given: ``(U, M)``, a patient's medications, each with one over their number.
    """

    pairs: Pairs
    edges: Edges
    given: Tensor

    def to(self, device: torch.device | str) -> Step:
        """The same on another device; the graphs are there already."""
        return Step(self.pairs.to(device), self.edges, self.given)


# -- the network -------------------------------------------------------------------------------------------------------


class KGIN(Ranker):
    r"""Entities gather along relations, patients along intents, which are mixtures of relations.

    .. math::
        e_h' = \operatorname{mean}_{(r, t)}\; e_t \odot r, \qquad
        u' = \Big(\operatorname{mean}_{i}\; e_i\Big) \odot \sum_p b_{up}\, c_p

    Patients ``(U, d)``, entities ``(N, d)``, relations ``(2 R, d)``, weights of intents ``(P, 2 R)``; with
    ``user_intent = latent`` a vector ``(P, d)`` for each.  Buffer: ``triplets`` ``(E, 3)`` of the knowledge graph.

    Args:
        config: its settings.
        context: interactions and a knowledge graph.
    """

    config: KGINConfig
    triplets: Tensor

    def __init__(self, config: KGINConfig, context: Context) -> None:
        super().__init__(config, context)
        graph, knowledge, d = graph_of(context), knowledge_of(context), config.size
        self.n_items, self.n_relations = graph.n_medications, max(1, knowledge.n_relations)
        self.patients = nn.Parameter(torch.empty(graph.n_patients, d))
        self.entities = nn.Parameter(torch.empty(knowledge.n_entities, d))
        self.relations = nn.Parameter(torch.empty(2 * self.n_relations, d))
        self.weights = nn.Parameter(torch.empty(config.n_intents, 2 * self.n_relations))
        if config.user_intent == "latent":
            self.latent = nn.Parameter(torch.empty(config.n_intents, d))
        self.dropout = Dropout(config.dropout)
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        self.register_buffer("triplets", torch.from_numpy(controlled(knowledge, config.graph, rng).copy()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier."""
        for parameter in self.parameters():
            nn.init.xavier_uniform_(parameter)

    # -- the graphs

    def edges(self) -> Edges:
        """Of the knowledge graph, in both directions; each tail stands once for every relation."""
        triplets = torch.from_numpy(with_inverses(self.triplets.cpu().numpy(), self.n_relations))
        n = len(self.entities)
        triplets[:, 2] += triplets[:, 1] * n
        return Edges.of(triplets.to(self.entities.device), n, 2 * self.n_relations * n)

    def given(self, interactions: Interactions) -> Tensor:
        """``(U, M)``: one over the number of a patient's medications at each of them."""
        matrix = torch.from_numpy(interactions.matrix).to(self.entities)
        return matrix / matrix.sum(1, keepdim=True).clamp(min=1)

    def batches(self, data: Interactions, rows: NDArray[np.integer], order: Sequence[int]) -> Iterator[Step]:
        """Batches of ``config.batch_size`` pairs."""
        edges, given = self.edges(), self.given(data)
        for pairs in pair_batches(data, rows, self.config.batch_size, order):
            yield Step(pairs, edges, given)

    # -- forward

    def forward(self, edges: Edges, given: Tensor) -> tuple[Tensor, Tensor]:
        """Patients ``(U, d)`` and entities ``(N, d)`` after all hops.

        Args:
            edges: of the knowledge graph.
            given: ``(U, M)``, see :class:`Step`.
        """
        config = self.config
        kept = torch.ones_like(edges.head, dtype=given.dtype)
        if self.training and config.node_dropout > 0:
            given = given * sparse_mask(given.shape, config.node_dropout, given, config.sparse_scale)
            # Whatever it is scaled by, a mean is one over what is kept.
            kept = (sparse_mask(kept.shape, config.node_dropout, kept, config.sparse_scale) > 0).to(given.dtype)
        number = torch.zeros(edges.n_heads, dtype=kept.dtype, device=kept.device).index_add_(0, edges.head, kept)
        share = kept / number.clamp(min=1)[edges.head]
        reasons = intents(self.weights, self.relations)
        keys = self.latent if config.user_intent == "latent" else reasons
        patients: Tensor = self.patients
        entities: Tensor = self.entities
        all_patients, all_entities = patients, entities
        for _ in range(config.n_layers):
            gathered = given @ entities[: self.n_items]
            through = (self.relations[:, None] * entities).flatten(0, 1)
            patients = patient_update(patients, gathered, reasons, keys, config.user_residual)
            entities = weighted_sums(through, share, edges)
            patients = nn.functional.normalize(self.dropout(patients))
            entities = nn.functional.normalize(self.dropout(entities))
            all_patients, all_entities = all_patients + patients, all_entities + entities
        return all_patients, all_entities

    def scores(self, patients: NDArray[np.integer], context: Context) -> Tensor:
        """Inner products with all medications, ``(U, M)``."""
        everybody, entities = self(self.edges(), self.given(graph_of(context)))
        return everybody[torch.from_numpy(patients.astype(np.int64)).to(entities.device)] @ entities[: self.n_items].T

    # -- loss

    def loss(self, batch: Step, context: Context) -> Tensor:
        """BPR of pairs, mean, with the squares of the batch's vectors and the dependence of intents."""
        config, pairs = self.config, batch.pairs
        patients, entities = self(batch.edges, batch.given)
        patient = nn.functional.embedding(pairs.patient, patients)
        given, other = (nn.functional.embedding(item, entities) for item in (pairs.given, pairs.other))
        error = bpr_loss((patient * given).sum(1), (patient * other).sum(1)).mean()
        squares = patient.square().sum() + given.square().sum() + other.square().sum()
        error = error + config.penalty * squares / 2 / len(pairs)
        if config.independence == "none":
            return error
        rows = self.weights.softmax(1) if config.independence_of == "attention" else self.weights
        return error + config.independence_weight * dependence(rows, config.independence)


SYSTEM = System(
    name="kgin",
    label="KGIN",
    family="graph",
    cls=KGIN,
    config=KGINConfig,
    task="ranking",
    small={"batch_size": 1024},
    sees="medications of earlier visits, a knowledge graph of medications",
    variants=VARIANTS,
    needs=("graph", "knowledge"),
    citation="wang2021kgin",
    seconds_per_epoch=10,
    rows=(
        Row("kgin", "KGIN", "kgin"),
        Row("residual", "residual behind the intents", "kgin", settings={"user_residual": True}),
        Row("latent", "latent vectors of intents", "kgin", settings={"user_intent": "latent"}),
        Row("dependent", "no independence of intents", "kgin", settings={"independence": "none"}),
        Row("empty", "empty graph", "kgin", settings={"graph": "empty"}),
        Row("shuffled", "shuffled tails", "kgin", settings={"graph": "shuffled"}),
        Row("interacts", "interactions alone", "kgin", settings={"graph": "interacts"}),
        Row("study", "graph of the study", "kgin", settings={"construction": "study"}),
        Row("official", "official", "kgin", "official"),
    ),
)
