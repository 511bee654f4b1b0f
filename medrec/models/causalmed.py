r"""CausalMed: what causes what, in roles and effects counted before the network is trained.

Li et al., "CausalMed: causality-based personalized medication recommendation centered on patient health state",
CIKM 2024.  Formulas are those of the released code.

Before training, from training visits: the effect of each diagnosis or procedure on each medication,
:func:`risk_difference`, and a causal graph among codes, :mod:`medrec.models.causal_graph`.  Then, for every visit with
its diagnoses and procedures and the medications of the visit before,

.. math::
    e'_c = e_c \odot u_{\text{role}(c)}, \qquad
    e''_c = \operatorname{RGCN}_2(\operatorname{ReLU}(\operatorname{RGCN}_1(e)))_c, \qquad
    s = \sum_c \rho_1 e'_c + \rho_2 e''_c, \qquad
    z_t = W \operatorname{ReLU}\big[\operatorname{GRU}(s^D) \,\|\, \operatorname{GRU}(s^P) \,\|\,
    \operatorname{GRU}(s^M)\big]_t + b

A code's role is its place in the graph among the visit's codes of its kind: root, middle, leaf or isolated
(:func:`roles`).  The graph's edges carry no messages.  In the relational network medications send messages to
diagnoses and procedures, one relation for each fifth of the effect (:func:`effect_relation`), and receive none.

Switches (``paper`` → ``official``):

* ``roles``: one graph learnt on training visits → a graph for every visit of the data, **made with the medications
  that are to be predicted**: the roles of diagnoses and procedures tell the model of its own answer.  Graphs made so
  take some 0.1 s a visit once (they are kept).  ``none``: no roles.
* ``effects_min``: effects above 0 make an edge → above 0.2, so that most make none.
* ``effects`` (ours): ``risk_difference``, ``adjusted`` for the three commonest diagnoses, or ``shuffled``.

Deviations.  The graph is learnt over the codes of at least 2 % (and 10) of the training visits, all kinds together, by
the search of :mod:`~medrec.models.causal_graph`; other codes are isolated.  Undirected edges give no role (released
code breaks them as cycles).  Hidden state and last output of a GRU of one layer are the same vector, which the released
head takes twice; here once.  First visits have a zero vector in place of medications, without the released edge of its
own.  One dropout mask serves both branches.  The epoch with the best validation Jaccard is kept (released code keeps a
reference to the live network, hence the last one), and an optimiser step takes a batch of patients (released: a visit).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrec.arguments import Range, Rate, Share, Weight
from medrec.context import Context
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Cohort, Kind
from medrec.losses import safe_recommendation_loss
from medrec.models.base import Recommender, Row, System, TrainingConfig
from medrec.models.causal_graph import causal_graph
from medrec.nn.ddi_target import DDITarget, DDITargetRule
from medrec.nn.derangement import derangement
from medrec.nn.dropout import Dropout


@dataclass(frozen=True)
class CausalMedConfig(TrainingConfig):
    """Settings of CausalMed."""

    size: int = 64  # width of embeddings and GRUs; released code
    dropout: float = 0.3  # on each code's embedding; `medrec tune`, released code 0.7
    roles: Literal["none", "train_global", "official"] = "train_global"  # ours; see the module
    effects_min: Annotated[float, Range(-1, 1)] = 0.0  # effects above it make an edge; ours, released code 0.2
    effects: Literal["risk_difference", "adjusted", "shuffled"] = "risk_difference"  # released code
    graph_share: Share = 0.02  # of training visits that a code must be in to be in the graph; ours
    bce_weight: Share = 0.95  # released code
    ddi_scale: Weight = 5e-4  # released code
    target_ddi: Rate = 0.06  # released code
    ddi_target: DDITargetRule = "ratio"  # ours; released code "absolute", see medrec.nn.ddi_target
    temperature: float = 2.5  # released code
    learning_rate: float = 2e-3  # `medrec tune`; released code 5e-4, one visit a step
    batch_size: int = 64  # patients a step; `medrec tune`
    epochs: int = 200  # at most; ours: after the 63 of `medrec tune` it was still rising


VARIANTS = {"paper": {}, "official": {"roles": "official", "effects_min": 0.2, "ddi_target": "absolute"}}
"""Switches of each variant."""

CAUSES: tuple[Kind, ...] = ("diagnosis", "procedure")
KINDS: tuple[Kind, ...] = ("diagnosis", "procedure", "medication")
N_RELATIONS = 5
LEAST_VISITS = 10
"""Visits that a code of the graph is in, however few there are."""
ROOT, MIDDLE, LEAF, ISOLATED = range(4)


# -- counted before training ---------------------------------------------------------------------------------------


def risk_difference(
    codes: NDArray, medications: NDArray, strata: NDArray[np.integer] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    r"""Effect of each code on each medication, :math:`P(m \mid c) - P(m \mid \lnot c)`.

    Released code fits a binomial GLM to every pair and asks for the back-door effect without confounders.  With one
    binary cause that is this difference, whatever the link.

    Args:
        codes: ``(V, C)`` bool, one row a visit.
        medications: ``(V, M)`` bool.
        strata: ``(V,)`` group of each visit; then the difference is taken within groups and averaged over them by
            their size, leaving out those in which the code, or its absence, does not occur.

    Returns:
        ``(C, M)`` in [-1, 1], and ``(C,)`` bool, whether it is defined: a code of all visits or of none has effect 0.

    Example:
        >>> x = np.array([[1], [1], [0], [0], [0]], dtype=bool)
        >>> risk_difference(x, np.array([[1], [1], [1], [0], [0]], dtype=bool))[0].round(2)
        array([[0.67]])
    """
    X, Y = np.asarray(codes, dtype=np.float64), np.asarray(medications, dtype=np.float64)
    groups = np.zeros(len(X), dtype=int) if strata is None else np.unique(strata, return_inverse=True)[1]
    total = np.zeros((X.shape[1], Y.shape[1]))
    weight = np.zeros((X.shape[1], 1))
    for g in range(groups.max(initial=-1) + 1):
        x, y = X[groups == g], Y[groups == g]
        with_code = x.sum(0)[:, None]
        without = len(x) - with_code
        together = x.T @ y
        usable = (with_code > 0) & (without > 0)
        difference = together / with_code.clip(1) - (y.sum(0) - together) / without.clip(1)
        total += np.where(usable, len(x) * difference, 0)
        weight += np.where(usable, len(x), 0)
    return total / weight.clip(1), weight[:, 0] > 0


def effect_relation(effects: Tensor, minimum: float = 0.0) -> Tensor:
    r"""Relation of each effect: i for :math:`(i/5, (i+1)/5]`, -1 where there is no edge.

    Source: released code, where i = 1..5 and effects up to 0.2 make no edge; its fifth bin starts at 1 and is empty.

    Args:
        effects: any shape, float64.
        minimum: effects up to it make no edge.

    Returns:
        int64, the same shape, -1..4.
    """
    edges = torch.arange(N_RELATIONS, dtype=effects.dtype, device=effects.device) / N_RELATIONS
    relation = torch.bucketize(effects, edges) - 1
    return torch.where(effects > minimum, relation, -1)


def roles(adjacency: Tensor) -> Tensor:
    """Place of each code in the graph of its visit.

    Args:
        adjacency: ``(..., C, C)`` bool, ``[i, j]`` for an edge from the i-th to the j-th code of the visit.

    Returns:
        ``(..., C)`` int64: 0 root (edges go out only), 1 middle, 2 leaf (edges come in only), 3 isolated.
    """
    out, into = adjacency.any(-1), adjacency.any(-2)
    alone = torch.where(into, LEAF, ISOLATED)
    return torch.where(out, torch.where(into, MIDDLE, ROOT), alone)


# -- relational network --------------------------------------------------------------------------------------------


def relation_weights(relation: Tensor, n_relations: int = N_RELATIONS) -> Tensor:
    """Weights with which each code takes the mean over its neighbours of each relation.

    Args:
        relation: ``(n, C, K)`` int64 between C codes and K medications of n visits; -1 = no edge.

    Returns:
        ``(n, C, R, K)``; over K it sums to 1, or to 0 where a code has no such neighbour.
    """
    kinds = torch.arange(n_relations, device=relation.device)[:, None]
    one_hot = (relation[:, :, None] == kinds).to(torch.get_default_dtype())
    return one_hot / one_hot.sum(-1, keepdim=True).clamp(min=1)


def relational_convolution(nodes: Tensor, neighbours: Tensor, root: Tensor, weights: Tensor) -> Tensor:
    r"""One layer for nodes whose neighbours are averaged by relation, without bias.

    Source: Schlichtkrull et al., "Modeling relational data with graph convolutional networks", as released CausalMed
    uses it.

    .. math:: W_0\, x_c + \sum_r W_r \frac{1}{|\mathcal N_r(c)|} \sum_{m \in \mathcal N_r(c)} x_m

    Args:
        nodes: ``(..., d)``.
        neighbours: ``(..., R, d)``, mean over the neighbours of each relation.
        root: ``(d, d')``, multiplied from the right.
        weights: ``(R, d, d')``.

    Returns:
        ``(..., d')``.
    """
    return nodes @ root + neighbours.flatten(-2) @ weights.flatten(0, 1)


class RelationalLayer(nn.Module):
    """Parameters of one relational layer: a root, a bias, and for each kind of cause its own relations."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.root = nn.Parameter(torch.empty(size, size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.relations = nn.ParameterDict({kind: nn.Parameter(torch.empty(N_RELATIONS, size, size)) for kind in CAUSES})

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.bias)
        nn.init.xavier_uniform_(self.root)
        for relations in self.relations.values():
            for weight in relations:
                nn.init.xavier_uniform_(weight)


class CausalMed(Recommender):
    r"""Codes of a visit weighted by their role in a causal graph, and by their effects on what was given before.

    .. math::
        s = \sum_c \rho_1\, e_c \odot u_{\text{role}(c)} + \rho_2\, \operatorname{RGCN}(e)_c, \qquad
        z_t = W \operatorname{ReLU}\big[\operatorname{GRU}(s^D) \,\|\, \operatorname{GRU}(s^P) \,\|\,
        \operatorname{GRU}(s^M)\big]_t + b

    with one sum for diagnoses, for procedures and for the medications of the visit before, each ``(B, T, d)``.  The
    ``n`` real visits of a batch are read as ``(n, C, d)``, relations between their codes and those medications as
    ``(n, C, K)``; logits are ``(B, T, M)``.

    Learnt: an embedding for each of the three kinds, with a row for padding; a vector for each of four roles of each
    kind; two :class:`RelationalLayer`; the mixture :math:`\rho` ``(3, 2)``; three GRUs; the output layer
    ``(M, 3 d)``.  Counted in :meth:`prepare`: effects ``(D + 1, M + 1)`` and ``(P + 1, M + 1)``, and the causal graph
    of each kind, or for ``roles="official"`` how often codes meet.

    Args:
        config: its settings.
        context: sizes of the vocabularies, and interactions for the loss.
    """

    config: CausalMedConfig
    together: Tensor
    n_visits: Tensor

    def __init__(self, config: CausalMedConfig, context: Context) -> None:
        super().__init__(config, context)
        self.sizes, d = context.sizes, config.size
        M = self.sizes["medication"]
        # The last row of every table stands for padding.
        self.embedding = nn.ModuleDict(
            {kind: nn.Embedding(self.sizes[kind] + 1, d, padding_idx=self.sizes[kind]) for kind in KINDS}
        )
        if config.roles != "none":
            self.role = nn.ParameterDict({kind: nn.Parameter(torch.ones(4, d)) for kind in KINDS})
        self.first, self.second = RelationalLayer(d), RelationalLayer(d)
        self.mix = nn.Parameter(torch.ones(len(KINDS), 2))  # rho
        self.gru = nn.ModuleDict({kind: nn.GRU(d, d, batch_first=True) for kind in KINDS})
        self.output = nn.Linear(3 * d, M)
        self.dropout = Dropout(config.dropout)
        self.ddi_target = DDITarget(config.target_ddi, config.ddi_target)
        for kind in CAUSES:
            self.register_buffer(f"effects_{kind}", torch.zeros(self.sizes[kind] + 1, M + 1, dtype=torch.float64))
        if config.roles == "train_global":
            for kind in KINDS:
                size = self.sizes[kind] + 1
                self.register_buffer(f"graph_{kind}", torch.zeros(size, size, dtype=torch.bool))
        elif config.roles == "official":
            total = sum(self.sizes[kind] for kind in KINDS)
            # How many training visits hold both codes: from it follows the covariance of any of them.
            self.register_buffer("together", torch.zeros(total, total, dtype=torch.int32))
            self.register_buffer("n_visits", torch.zeros((), dtype=torch.int64))
        # A memo: each graph follows from the visit's codes and the counts.
        self._visit_graphs: dict[bytes, NDArray[np.bool_]] = {}
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embeddings uniform in (-0.1, 0.1), as in released code; everything else as the libraries have it."""
        layers: tuple[Any, ...] = (self.first, self.second, self.output, *self.gru.values())
        for layer in layers:
            layer.reset_parameters()
        with torch.no_grad():
            for table in self.embedding.values():
                assert isinstance(table, nn.Embedding)
                table.weight.uniform_(-0.1, 0.1)
                table.weight[table.padding_idx] = 0

    def prepare(self, cohort: Cohort, train: NDArray[np.integer], context: Context) -> None:
        """Effects and causal graph of the training visits; for ``roles="official"`` their counts of pairs."""
        own = cohort.select(train)
        dense = {kind: own.codes[kind].multi_hot(self.sizes[kind]) for kind in KINDS}
        self.ddi_target.count(dense["medication"], context.ddi)
        strata = commonest_strata(dense["diagnosis"]) if self.config.effects == "adjusted" else None
        for kind in CAUSES:
            effects, _ = risk_difference(dense[kind], dense["medication"], strata)
            table = getattr(self, f"effects_{kind}")
            found = torch.from_numpy(effects).to(table.device)
            if self.config.effects == "shuffled":
                found = found.flatten()[derangement(found.numel(), found.device)].reshape(found.shape)
            table[:-1, :-1] = found
        if self.config.roles == "none":
            return
        everything = np.concatenate([dense[kind] for kind in KINDS], axis=1)
        if self.config.roles == "official":
            rows = torch.from_numpy(everything).to(torch.float32)
            self.together.copy_(rows.T @ rows)
            self.n_visits.fill_(len(rows))
            self._visit_graphs.clear()
            return
        common = np.flatnonzero(everything.sum(0) >= max(self.config.graph_share * len(everything), LEAST_VISITS))
        chosen = everything[:, common].astype(np.float64)
        graph = causal_graph(np.cov(chosen.T).reshape(len(common), -1), len(chosen)) if len(common) else None
        start = 0
        for kind in KINDS:
            size = self.sizes[kind]
            mine = (common >= start) & (common < start + size)
            if mine.any():
                ids = torch.from_numpy(common[mine] - start)
                table = getattr(self, f"graph_{kind}")
                assert graph is not None
                table[ids[:, None], ids] = torch.from_numpy(graph[np.ix_(mine, mine)]).to(table.device)
            start += size

    # -- forward

    def forward(self, batch: VisitBatch, context: Context) -> Tensor:
        """Logits ``(B, T, M)``."""
        states = [self.gru[kind](sums)[0] for kind, sums in self._visit_sums(batch).items()]
        return self.output(torch.cat(states, dim=-1).relu())

    def _visit_sums(self, batch: VisitBatch) -> dict[Kind, Tensor]:
        """What each GRU reads, ``(B, T, d)``; 0 at padding."""
        B, T = batch.visit_mask.shape
        b, t = batch.visit_mask.nonzero(as_tuple=True)
        ids = {kind: batch.codes[kind][b, t] for kind in CAUSES}
        # Medications of the visit before; none at a first visit.
        before = batch.codes["medication"][b, (t - 1).clamp(min=0)]
        ids["medication"] = torch.where((t > 0)[:, None], before, batch.sizes["medication"])
        x = {kind: self.dropout(self.embedding[kind](ids[kind])) for kind in KINDS}
        direct = self._with_roles(batch, b, t, ids, x)
        related = self._related(ids, x)
        sums = {}
        for k, kind in enumerate(KINDS):
            total = self.mix[k, 0] * direct[kind].sum(1) + self.mix[k, 1] * related[kind]
            sums[kind] = total.new_zeros(B, T, total.shape[-1]).index_put((b, t), total)
        return sums

    def _with_roles(
        self, batch: VisitBatch, b: Tensor, t: Tensor, ids: dict[Kind, Tensor], x: dict[Kind, Tensor]
    ) -> dict[Kind, Tensor]:
        """Embeddings ``(n, C, d)`` times the vectors of the codes' roles."""
        if self.config.roles == "none":
            return x
        if self.config.roles == "official":
            place = self._official_roles(batch, b, t)
        else:
            graphs = {kind: getattr(self, f"graph_{kind}") for kind in KINDS}
            place = {kind: roles(graphs[kind][ids[kind][:, :, None], ids[kind][:, None]]) for kind in KINDS}
        return {kind: x[kind] * self.role[kind][place[kind]] for kind in KINDS}

    def _official_roles(self, batch: VisitBatch, b: Tensor, t: Tensor) -> dict[Kind, Tensor]:
        """Roles in a graph of each visit that was made with its target; those of medications a visit later."""
        rows = [batch.codes[kind][b, t] for kind in KINDS]
        found = [torch.full(row.shape, ISOLATED) for row in rows]
        for v, visit in enumerate(zip(*(row.cpu().numpy() for row in rows), strict=True)):
            counts = [int((ids < self.sizes[kind]).sum()) for kind, ids in zip(KINDS, visit, strict=True)]
            graph = self._visit_graph([ids[:c] for ids, c in zip(visit, counts, strict=True)])
            start = 0
            for k, count in enumerate(counts):
                own = slice(start, start + count)
                found[k][v, :count] = roles(torch.from_numpy(graph[own, own]))
                start += count
        place = {kind: role.to(b.device) for kind, role in zip(KINDS, found, strict=True)}
        # Real visits stand in order, so the visit before is the row before; without medications any role will do.
        place["medication"] = place["medication"].roll(1, 0)
        return place

    def _visit_graph(self, ids: list[NDArray]) -> NDArray[np.bool_]:
        """Graph among the codes of one visit, in their order."""
        starts = np.cumsum([0] + [self.sizes[kind] for kind in KINDS[:-1]])
        columns = np.concatenate([part + start for part, start in zip(ids, starts, strict=True)])
        # Equal scores are settled by the order of columns, which must not be that of the record.
        order = np.argsort(columns)
        key = columns[order].tobytes()
        if key not in self._visit_graphs:
            chosen, n = torch.from_numpy(columns[order]), int(self.n_visits)
            together = self.together[chosen[:, None], chosen].cpu().numpy().astype(np.float64) / max(n, 1)
            share = np.diag(together)
            self._visit_graphs[key] = causal_graph(together - np.outer(share, share), n)
        graph = np.empty((len(columns), len(columns)), dtype=bool)
        graph[np.ix_(order, order)] = self._visit_graphs[key]
        return graph

    def _related(self, ids: dict[Kind, Tensor], x: dict[Kind, Tensor]) -> dict[Kind, Tensor]:
        """Sum over each visit's codes after two relational layers, ``(n, d)``."""
        first, second = self.first, self.second
        has_medication = ids["medication"] < self.sizes["medication"]
        medications = (x["medication"] @ first.root + first.bias).relu() * has_medication[..., None]
        # Where there is none, one zero vector stands in.
        stand_in = (~has_medication.any(1))[:, None] * first.bias.relu()
        total = medications.sum(1) + stand_in
        count = has_medication.sum(1, keepdim=True).clamp(min=1)
        sums: dict[Kind, Tensor] = {}
        for kind in CAUSES:
            relation = self._relation(kind, ids)
            weights = relation_weights(relation)
            real = ids[kind] < self.sizes[kind]
            n, C, R, K = weights.shape
            neighbours = (weights.reshape(n, C * R, K) @ x["medication"]).reshape(n, C, R, self.config.size)
            hidden = relational_convolution(x[kind][real], neighbours[real], first.root, first.relations[kind])
            hidden = (hidden + first.bias).relu()
            row = real.nonzero()[:, 0]
            # The second layer is linear: its sum over codes is taken before its weights are applied.
            nodes = hidden.new_zeros(n, hidden.shape[-1]).index_add(0, row, hidden)
            around = weights.sum(1) @ medications
            sums[kind] = relational_convolution(nodes, around, second.root, second.relations[kind])
            sums[kind] = sums[kind] + real.sum(1, keepdim=True) * second.bias
        sums["medication"] = total @ second.root + count * second.bias
        return sums

    def _relation(self, kind: Kind, ids: dict[Kind, Tensor]) -> Tensor:
        """Relation between each code and each medication of the visit before, ``(n, C, K)``."""
        effects = getattr(self, f"effects_{kind}")[ids[kind][:, :, None], ids["medication"][:, None]]
        return effect_relation(effects, self.config.effects_min)

    def explain(self, batch: VisitBatch, context: Context) -> pl.DataFrame | None:
        """Effects of the codes of one patient's last visit on every medication, where they make an edge.

        They are inputs of the network, not shares of its output.

        Returns:
            ``medication`` (code), ``kind`` (``effect``), ``what`` (title of the code), ``weight``; largest first.
        """
        last = int(batch.visit_mask[0].sum()) - 1
        codes, found = context.vocab["medication"].codes, []
        for kind in CAUSES:
            ids = batch.codes[kind][0, last]
            ids = ids[ids < self.sizes[kind]]
            effects = getattr(self, f"effects_{kind}")[ids, :-1]
            for c, m in (effects > self.config.effects_min).nonzero().tolist():
                found.append((codes[m], "effect", context.vocab[kind].titles[ids[c]], float(effects[c, m])))
        frame = pl.DataFrame(
            found,
            schema={"medication": pl.String, "kind": pl.String, "what": pl.String, "weight": pl.Float64},
            orient="row",
        )
        return frame.sort("medication", "weight", descending=[False, True])

    # -- loss

    def loss(self, batch: VisitBatch, context: Context) -> Tensor:
        """Accuracy and safety, mean over visits; the same as MoleRec's."""
        scored, config = self.scored(batch), self.config
        logits = self(batch, context)[scored]
        return safe_recommendation_loss(
            logits,
            batch.target[scored],
            context.ddi,
            bce_weight=config.bce_weight,
            target_ddi=self.ddi_target.rate,
            temperature=config.temperature,
            ddi_scale=config.ddi_scale,
            threshold=config.threshold,
        ).mean()


def commonest_strata(diagnoses: NDArray, count: int = 3) -> NDArray[np.integer]:
    """Group of each visit by which of the commonest diagnoses it has, ``(V,)`` below ``2 ** count``."""
    commonest = np.argsort(-diagnoses.sum(0), kind="stable")[:count]
    return diagnoses[:, commonest] @ (1 << np.arange(len(commonest)))


OFTEN = {"batch_size": 4, "learning_rate": 2e-3}
"""Of all its rows.  Released code takes a step a visit; with the few steps an epoch of larger batches the network ends
near popularity, a handful of lists for everybody, and there is nothing that a switch could change."""

SYSTEM = System(
    name="causalmed",
    label="CausalMed",
    family="causal",
    cls=CausalMed,
    config=CausalMedConfig,
    sees="diagnoses and procedures up to the visit itself, medications of earlier visits",
    small={"learning_rate": 4e-3, "batch_size": 32, "dropout": 0.7, "epochs": 50},
    variants=VARIANTS,
    citation="li2024causalmed",
    seconds_per_epoch=16,
    rows=tuple(
        Row(key, label, "causalmed", variant, OFTEN | changed)
        for key, label, variant, changed in (
            ("causalmed", "CausalMed", "paper", {}),
            ("no-roles", "no roles", "paper", {"roles": "none"}),
            ("targets", "roles with targets", "paper", {"roles": "official"}),
            ("effects", "effects above 0.2", "paper", {"effects_min": 0.2}),
            ("adjusted", "adjusted effects", "paper", {"effects": "adjusted"}),
            ("shuffled", "shuffled effects", "paper", {"effects": "shuffled"}),
            ("official", "official", "official", {}),
        )
    ),
)
