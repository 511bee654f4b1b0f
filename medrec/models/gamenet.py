r"""GAMENet: a memory of medications, read by the patient of today and by the patient of earlier visits.

Shang et al., "GAMENet: graph augmented memory networks for recommending medication combination", AAAI 2019.  Formulas
are those of the released code.

.. math::
    q_t &= W_q \operatorname{ReLU}[\operatorname{GRU}(d)_t \,\|\, \operatorname{GRU}(p)_t], \qquad
    B = \operatorname{GCN}(A^{ehr}) - \lambda \operatorname{GCN}(A^{ddi}), \\
    f_1 &= \operatorname{softmax}(q_t B^\top)\, B, \qquad
    f_2 = \big(\operatorname{softmax}(q_t Q_{<t}^\top)\, X^M_{<t}\big)\, B, \\
    z_t &= W_2 \operatorname{ReLU}(W_1 \operatorname{ReLU}[q_t \,\|\, f_1 \,\|\, f_2])

with :math:`d, p` the mean embedding of a visit's diagnoses and procedures, and :math:`A^{ehr}` the graph of
medications given at one visit.  At a first visit :math:`f_2 = f_1`.  The second read is a sum over medications, not a
mean: with twenty medications a visit it is twenty times as long as the first.

The loss is annealed: a visit whose own set has an interaction rate :math:`\rho` above the target :math:`\varphi` is
trained for safety alone with probability :math:`\exp((\varphi - \rho) / \tau)`, otherwise for accuracy; :math:`\tau`
shrinks from epoch to epoch, so that the first epochs teach safety and hardly anything else.  As long as a visit is no
step of its own, an epoch has few steps: ``patience`` waits until the temperature has fallen.

Switches (``paper`` → ``official``, the repository of its authors):

* ``ehr_from``: graph of the training visits → of all visits, those of the test patients among them;
* ``multi_weight``: 0.1, as in the copy that later papers use → 0.01;
* ``graph`` (ours): ``observed``; ``lift``, edges only where two medications meet half again as often as by chance;
  ``empty``, ``complete``, ``shuffled`` medications.

Deviations.  ``bce_weight`` 0.9 and ``multi_weight`` do not add up to one in the released code, and do not here.  The
draw between accuracy and safety is made for each visit, as released; outside training its mean is reported.  One
dropout mask serves all prefixes of a patient, and an optimiser step takes a batch of patients (released: one visit).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrec.arguments import Dropout as DropoutRate
from medrec.arguments import Rate, Weight
from medrec.context import Context
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Cohort, Kind
from medrec.losses import ddi_loss, margin_loss, visit_ddi_rate
from medrec.models.base import Recommender, Row, System, TrainingConfig
from medrec.nn.ddi_target import DDITarget, DDITargetRule
from medrec.nn.derangement import derangement
from medrec.nn.dropout import Dropout
from medrec.nn.set_attention import masked_softmax

Graph = Literal["observed", "lift", "empty", "complete", "shuffled"]


@dataclass(frozen=True)
class GAMENetConfig(TrainingConfig):
    """Settings of GAMENet."""

    size: int = 64  # width of embeddings, queries and memory; released code
    dropout: float = 0.5  # on each code's embedding; the copy of the SafeDrug repository, 0.4 in its own
    memory_dropout: DropoutRate = 0.3  # between the layers of the graph networks; released code
    ehr_from: Literal["train", "all"] = "train"  # visits that make the graph; released code: all
    graph: Graph = "observed"  # ours; see the module
    bce_weight: Weight = 0.9  # released code
    multi_weight: Weight = 0.1  # the copy of the SafeDrug repository; 0.01 in its own
    target_ddi: float = 0.06  # the copy of the SafeDrug repository; 0.05 in its own
    ddi_target: DDITargetRule = "ratio"  # ours; released code "absolute", see medrec.nn.ddi_target
    temperature: float = 0.5  # at the first epoch; its own repository, 2.0 in the copy
    decay: Rate = 0.85  # of the temperature, an epoch; released code
    patience: int = 20  # ours: after so many epochs the temperature is a 26th of the first, see the module
    learning_rate: float = 4e-3  # `medrec tune`; released code 1e-4 and 2e-4, one visit a step
    epochs: int = 200  # at most; ours: after the 32 of `medrec tune` it was still rising


VARIANTS = {"paper": {}, "official": {"ehr_from": "all", "multi_weight": 0.01, "ddi_target": "absolute"}}
"""Switches of each variant."""

KINDS: tuple[Kind, ...] = ("diagnosis", "procedure")
LIFT = 1.5
"""From which two medications are neighbours in ``graph="lift"``."""


# -- graph and memory --------------------------------------------------------------------------------------------------


def co_prescription(medications: NDArray[np.bool_], graph: Graph = "observed") -> NDArray[np.bool_]:
    r"""Which medications are given at one visit, :math:`A^{ehr}`.

    Source: GAMENet, EHR graph; ``lift``, ``empty`` and ``complete`` are ours.

    Args:
        medications: ``(V, M)`` bool.
        graph: ``"observed"``; ``"lift"``: pairs seen at least :data:`LIFT` times as often as independent ones would
            be; ``"empty"``; ``"complete"``.

    Returns:
        ``(M, M)`` bool, symmetric, zero diagonal.
    """
    given = np.asarray(medications, dtype=np.float64)
    M = given.shape[1]
    if graph == "empty":
        return np.zeros((M, M), dtype=bool)
    if graph == "complete":
        return ~np.eye(M, dtype=bool)
    together = given.T @ given
    enough = together > 0
    if graph == "lift":
        expected = np.outer(given.sum(0), given.sum(0)) / max(len(given), 1)
        enough &= together >= LIFT * expected
    return enough & ~np.eye(M, dtype=bool)


def row_normalised(adjacency: Tensor) -> Tensor:
    r"""Mean over a node and its neighbours, :math:`\tilde A = D^{-1}(A + I)`.

    Source: released code; not the symmetric form of graph convolution.

    Args:
        adjacency: ``(M, M)`` bool.

    Returns:
        ``(M, M)``; rows add up to 1.
    """
    joined = adjacency.to(torch.get_default_dtype()) + torch.eye(len(adjacency), device=adjacency.device)
    return joined / joined.sum(1, keepdim=True)


def static_read(query: Tensor, memory: Tensor) -> Tensor:
    r"""What a query finds in the memory, :math:`\operatorname{softmax}(q B^\top) B`.

    Args:
        query: ``(..., d)``.
        memory: ``(M, d)``.

    Returns:
        ``(..., d)``.
    """
    return (query @ memory.T).softmax(-1) @ memory


def visit_weights(query: Tensor) -> Tensor:
    r"""How much each visit resembles each earlier one, :math:`\operatorname{softmax}(q_t Q_{<t}^\top)`.

    Args:
        query: ``(B, T, d)``, oldest visit first.

    Returns:
        ``(B, T, T)``, indexed ``[b, t, j]``; 0 for j >= t, so that the first row is 0.
    """
    T = query.shape[1]
    past = torch.ones(T, T, dtype=torch.bool, device=query.device).tril(-1)
    return masked_softmax(query @ query.transpose(1, 2), past)


def dynamic_read(weights: Tensor, given: Tensor, memory: Tensor) -> Tensor:
    r"""The memory of what was given at similar visits, :math:`(w\, X^M) B`.

    Args:
        weights: ``(B, T, T)`` of earlier visits.
        given: ``(B, T, M)`` medications of every visit.
        memory: ``(M, d)``.

    Returns:
        ``(B, T, d)``; medications of one visit add up, whatever their number.
    """
    return weights @ given.to(memory.dtype) @ memory


def safety_probability(rate: Tensor, target_ddi: float | Tensor, temperature: float | Tensor) -> Tensor:
    r"""Chance that a visit is trained for safety: :math:`\exp((\varphi - \rho) / \tau)` above the target, otherwise 0.

    The chance falls as the temperature does, and with it the further a visit lies above the target: safety is trained
    in the first epochs, and most on visits that are nearly safe.  Source: GAMENet, annealed choice of the loss; both
    released repositories agree.

    Args:
        rate: :math:`\rho`, ``(...)``.
        target_ddi: :math:`\varphi`.
        temperature: :math:`\tau`.
    """
    # Chosen, not multiplied: below the target a cold temperature makes the power infinite.
    return torch.where(rate > target_ddi, torch.exp((target_ddi - rate) / temperature), 0.0)


class GraphNetwork(nn.Module):
    r"""Two graph convolutions of a graph whose nodes have no features, :math:`\tilde A\,\sigma(\tilde A W_1) W_2`.

    Args:
        n_nodes: ``M``.
        width: ``d``.
        dropout: between the layers.
    """

    def __init__(self, n_nodes: int, width: int, dropout: float) -> None:
        super().__init__()
        # The features of released code are an identity matrix, so the first weights are a table of nodes.
        self.nodes = nn.Parameter(torch.empty(n_nodes, width))
        self.first_bias = nn.Parameter(torch.empty(width))
        self.second = nn.Parameter(torch.empty(width, width))
        self.second_bias = nn.Parameter(torch.empty(width))
        self.dropout = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in ±1/sqrt(d), as in released code."""
        bound = self.second.shape[1] ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, adjacency: Tensor) -> Tensor:
        """Normalised ``(M, M)`` → ``(M, d)``."""
        hidden = self.dropout((adjacency @ self.nodes + self.first_bias).relu())
        return adjacency @ hidden @ self.second + self.second_bias


# -- the network -------------------------------------------------------------------------------------------------------


class GAMENet(Recommender):
    r"""A patient's query reads a memory of medications, once for today and once through earlier visits.

    .. math::
        q_t &= W_q \operatorname{ReLU}[\operatorname{GRU}(d)_t \,\|\, \operatorname{GRU}(p)_t], \qquad
        B = \operatorname{GCN}(A^{ehr}) - \lambda \operatorname{GCN}(A^{ddi}), \\
        z_t &= W_2 \operatorname{ReLU}\big(W_1 \operatorname{ReLU}[q_t \,\|\, f_1 \,\|\, f_2]\big)

    with :math:`f_1` of :func:`static_read` and :math:`f_2` of :func:`dynamic_read`.  Queries and what they read are
    ``(B, T, d)``, the memory :math:`B` is ``(M, d)``, logits are ``(B, T, M)``.

    Learnt: embeddings of diagnoses ``(D + 1, d)`` and procedures ``(P + 1, d)``, the last row being padding; a GRU each
    (to ``2 d``); :math:`W_q` ``(d, 4 d)``; two :class:`GraphNetwork` and :math:`\lambda`, one number; :math:`W_1`
    ``(2 d, 3 d)`` and :math:`W_2` ``(M, 2 d)``.  Counted in :meth:`prepare`: the EHR graph ``(M, M)``.  Cooled from
    epoch to epoch: the temperature of the loss.

    Args:
        config: its settings.
        context: sizes of the vocabularies, and interactions for memory and loss.
    """

    config: GAMENetConfig
    ehr: Tensor
    temperature: Tensor

    def __init__(self, config: GAMENetConfig, context: Context) -> None:
        super().__init__(config, context)
        sizes, d = context.sizes, config.size
        M = sizes["medication"]
        # The last row of every table stands for padding.
        self.embedding = nn.ModuleDict(
            {kind: nn.Embedding(sizes[kind] + 1, d, padding_idx=sizes[kind]) for kind in KINDS}
        )
        self.gru = nn.ModuleDict({kind: nn.GRU(d, 2 * d, batch_first=True) for kind in KINDS})
        self.query = nn.Linear(4 * d, d)
        self.ehr_network = GraphNetwork(M, d, config.memory_dropout)
        self.ddi_network = GraphNetwork(M, d, config.memory_dropout)
        self.ddi_share = nn.Parameter(torch.empty(1))  # lambda
        self.hidden = nn.Linear(3 * d, 2 * d)
        self.output = nn.Linear(2 * d, M)
        self.dropout = Dropout(config.dropout)
        self.ddi_target = DDITarget(config.target_ddi, config.ddi_target)
        self.register_buffer("ehr", torch.zeros(M, M, dtype=torch.bool))
        self.register_buffer("temperature", torch.tensor(config.temperature))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embeddings and lambda uniform in (-0.1, 0.1), as in released code; everything else as PyTorch has it."""
        with torch.no_grad():
            self.ddi_share.uniform_(-0.1, 0.1)
            for table in self.embedding.values():
                assert isinstance(table, nn.Embedding)
                table.weight.uniform_(-0.1, 0.1)
                table.weight[table.padding_idx] = 0
        networks = self.ehr_network, self.ddi_network
        layers: tuple[Any, ...] = (*self.gru.values(), self.query, *networks, self.hidden, self.output)
        for layer in layers:
            layer.reset_parameters()

    def prepare(self, cohort: Cohort, train: NDArray[np.integer], context: Context) -> None:
        """Graph of the medications that were given together, and the rate of interactions of training prescriptions."""
        self.ddi_target.count(cohort.select(train).codes["medication"].multi_hot(len(self.ehr)), context.ddi)
        own = cohort if self.config.ehr_from == "all" else cohort.select(train)
        given = own.codes["medication"].multi_hot(len(self.ehr))
        kind: Graph = "observed" if self.config.graph == "shuffled" else self.config.graph
        graph = torch.from_numpy(co_prescription(given, kind)).to(self.ehr.device)
        if self.config.graph == "shuffled":
            order = derangement(len(graph), graph.device)
            graph = graph[order][:, order]
        self.ehr.copy_(graph)

    def memory(self, context: Context) -> Tensor:
        """``B``, one row for each medication, ``(M, d)``."""
        ehr = self.ehr_network(row_normalised(self.ehr))
        return ehr - self.ddi_share * self.ddi_network(row_normalised(context.ddi))

    def queries(self, batch: VisitBatch) -> Tensor:
        """What each visit asks for, ``(B, T, d)``; 0 codes give a zero mean."""
        states = []
        for kind in KINDS:
            ids = batch.codes[kind]
            count = (ids < batch.sizes[kind]).sum(-1, keepdim=True).clamp(min=1)
            means = self.dropout(self.embedding[kind](ids)).sum(2) / count
            states.append(self.gru[kind](means)[0])
        return self.query(torch.cat(states, dim=-1).relu())

    def forward(self, batch: VisitBatch, context: Context) -> Tensor:
        """Logits ``(B, T, M)``."""
        query, memory = self.queries(batch), self.memory(context)
        now = static_read(query, memory)
        past = dynamic_read(visit_weights(query), batch.target, memory)
        past = torch.cat([now[:, :1], past[:, 1:]], dim=1)
        return self.output(self.hidden(torch.cat([query, now, past], dim=-1).relu()).relu())

    def explain(self, batch: VisitBatch, context: Context) -> pl.DataFrame | None:
        """Earlier visits at which a medication was given, with the weight of their resemblance to the last one.

        Returns:
            ``medication`` (code), ``kind`` (``visit``), ``what`` (which one), ``weight``; ``None`` at a first visit.
        """
        last = int(batch.visit_mask[0].sum()) - 1
        if last == 0:
            return None
        weights = visit_weights(self.queries(batch))[0, last, :last].tolist()
        codes = context.vocab["medication"].codes
        found = [
            (codes[m], "visit", f"visit {j + 1} of {last}", weights[j])
            for j, m in batch.target[0, :last].nonzero().tolist()
        ]
        frame = pl.DataFrame(found, schema=["medication", "kind", "what", "weight"], orient="row")
        return frame.sort("medication", "weight", descending=[False, True])

    # -- loss

    def loss(self, batch: VisitBatch, context: Context) -> Tensor:
        """Accuracy or safety, by the annealed choice of each visit; mean over visits."""
        config, scored = self.config, self.scored(batch)
        logits, target = self(batch, context)[scored], batch.target[scored]
        prob = logits.sigmoid()
        bce = nn.functional.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none").mean(-1)
        accuracy = config.bce_weight * bce + config.multi_weight * margin_loss(prob, target)
        safety = ddi_loss(prob, context.ddi, 1 / len(self.ehr) ** 2)
        with torch.no_grad():
            rate = visit_ddi_rate(prob >= config.threshold, context.ddi)
            safe = safety_probability(rate, self.ddi_target.rate, self.temperature)
            if self.training:
                safe = safe.bernoulli()
        return (safe * safety + (1 - safe) * accuracy).mean()

    def after_epoch(self, selected: float) -> None:
        """Cool."""
        self.temperature *= self.config.decay


OFTEN = {"batch_size": 4, "learning_rate": 2e-3}
"""Of all its rows.  Released code takes a step a visit; with the few steps an epoch of larger batches the network ends
near popularity, a handful of lists for everybody, and there is nothing that a switch could change."""

SYSTEM = System(
    name="gamenet",
    label="GAMENet",
    family="graph",
    cls=GAMENet,
    config=GAMENetConfig,
    sees="diagnoses and procedures up to the visit itself, medications of earlier visits",
    small={"epochs": 400},
    variants=VARIANTS,
    citation="shang2019gamenet",
    seconds_per_epoch=4,
    searched={"temperature": (0.5, 0.1, 0.02)},
    rows=tuple(
        Row(key, label, "gamenet", variant, OFTEN | changed)
        for key, label, variant, changed in (
            ("gamenet", "GAMENet", "paper", {}),
            ("all-records", "graph of all records", "paper", {"ehr_from": "all"}),
            ("empty", "empty graph", "paper", {"graph": "empty"}),
            ("lift", "lift graph", "paper", {"graph": "lift"}),
            ("complete", "complete graph", "paper", {"graph": "complete"}),
            ("shuffled", "shuffled graph", "paper", {"graph": "shuffled"}),
            ("margin", "margin weight 0.01", "paper", {"multi_weight": 0.01}),
            ("no-margin", "no margin loss", "paper", {"bce_weight": 1.0, "multi_weight": 0.0}),
            ("official", "official", "official", {}),
        )
    ),
)
