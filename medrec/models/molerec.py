r"""MoleRec: fragments that a patient needs, gathered into medications by an attention that no patient changes.

Yang et al., "MoleRec: combinatorial drug recommendation with substructure-aware molecular representation learning",
WWW 2023.  Formulas are those of the released code.

.. math::
    q_t &= W_q \operatorname{ReLU}[\operatorname{GRU}(d)_t \,\|\, \operatorname{GRU}(p)_t], \qquad
    w_t = \sigma(W_w q_t), \\
    A_{ms} &= \operatorname{softmax}_{s:\,H_{ms}=1} \frac{(W_1 e_m)\cdot(W_2 f_s)}{\sqrt d}, \qquad
    Y_{tm} = \sum_s A_{ms}\, w_{ts}\, f_s, \qquad
    z_{tm} = \operatorname{MLP}(Y_{tm})

with :math:`d, p` the summed embeddings of a visit's diagnoses and procedures, :math:`e_m` the mean of a medication's
molecules, read by one graph isomorphism network (:mod:`medrec.nn.gin`), :math:`f_s` the fragments, read by another and
then by each other (:mod:`medrec.nn.set_attention`), and :math:`H` which fragments its molecules yield.  BiMoRec
(:mod:`medrec.models.bimorec`) is built upon it.  Loss: :func:`medrec.losses.safe_recommendation_loss`.

One perceptron scores all medications, and it sees a medication through :math:`Y` alone.  Medications whose gates are
all closed have one and the same logit, :math:`\operatorname{MLP}(0)`.

Switches (``paper`` → ``official``):

* ``sab_feedforward``: attention among fragments with both residuals → a linear map in the place of the second;
* ``without_structure``: ``learnt``, a medication without a structure has a vector of its own and attends to all
  fragments by it → ``uniform``, to all of them alike, since all masked scores are equal, so that these medications
  have one and the same logit.  ``zero`` (ours) is what a mask means, and leaves them one constant logit for all
  patients, which is also that of every closed gate.  The published pipelines have no such medications;
* ``fragments`` (ours): ``gin``, or ``free`` vectors;
* ``mask`` (ours): ``own``; ``shuffled`` among the medications that have fragments, so that the others stay without;
* ``brake`` (ours): ``full``; ``turn_down``, accuracy is weighted by :math:`\alpha` and the DDI loss left out;
  ``ddi_always``, the DDI loss is added at every visit and nothing is weighted; ``none``, accuracy alone.

Deviations.  Hidden state and last output of a GRU of one layer are the same vector, which the released query takes
twice; here once.  One dropout mask serves all prefixes of a patient; molecules are encoded once for each optimiser
step, which takes a batch of patients (released: one visit).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrec.arguments import Rate, Share, Weight, check_heads
from medrec.context import Context, molecules_of
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Cohort, Kind
from medrec.losses import ddi_loss, safe_recommendation_loss
from medrec.models.base import Recommender, Row, System, TrainingConfig
from medrec.nn.ddi_target import DDITarget, DDITargetRule
from medrec.nn.derangement import derangement
from medrec.nn.dropout import Dropout
from medrec.nn.free_rows import FreeRows
from medrec.nn.gin import GIN
from medrec.nn.set_attention import SetAttention, fragment_slots, masked_softmax


@dataclass(frozen=True)
class MoleRecConfig(TrainingConfig):
    """Settings of MoleRec."""

    size: int = 64  # width of embeddings, GRUs and molecules; released code
    dropout: float = 0.3  # on each code's embedding, and in the molecule networks; `medrec tune`, released code 0.7
    gin_layers: int = 4  # released code
    n_heads: int = 2  # of the attention among fragments; released code
    sab_feedforward: bool = True  # as the Set Transformer has it; released code False
    without_structure: Literal["learnt", "uniform", "zero"] = "learnt"  # ours; released code "uniform"
    fragments: Literal["gin", "free"] = "gin"  # released code, where "free" is an option
    mask: Literal["own", "shuffled"] = "own"  # ours
    brake: Literal["full", "turn_down", "ddi_always", "none"] = "full"  # ours; see the module
    bce_weight: Share = 0.95  # released code
    ddi_scale: Weight = 5e-4  # released code
    target_ddi: Rate = 0.06  # released code
    ddi_target: DDITargetRule = "ratio"  # ours; released code "absolute", see medrec.nn.ddi_target
    temperature: float = 2.5  # released code
    batch_size: int = 16  # patients a step; `medrec tune`
    learning_rate: float = 4e-3  # `medrec tune`; released code 5e-4, one visit a step
    schedule: Literal["constant", "cosine"] = "cosine"  # `medrec tune`
    epochs: int = 16  # at most; `medrec tune`

    def __post_init__(self) -> None:
        check_heads("size", self.size, self.n_heads)


VARIANTS = {
    "paper": {},
    "official": {"sab_feedforward": False, "without_structure": "uniform", "ddi_target": "absolute"},
}
"""Switches of each variant."""

KINDS: tuple[Kind, ...] = ("diagnosis", "procedure")


# -- equations ---------------------------------------------------------------------------------------------------------


def masked_attention(
    queries: Tensor, keys: Tensor, mask: Tensor, empty: Literal["uniform", "zero"] = "uniform"
) -> Tensor:
    r"""How much of each medication is which of its fragments, :math:`A`.

    Source: MoleRec, substructure attention.

    Args:
        queries: ``(M, d)``.
        keys: ``(S, d)``.
        mask: ``(M, S)`` bool.
        empty: what medications without fragments get.

    Returns:
        ``(M, S)``; rows add up to 1, or to 0.
    """
    return masked_softmax(queries @ keys.T / queries.shape[-1] ** 0.5, mask, empty)


def gather_fragments(attention: Tensor, wanted: Tensor, fragments: Tensor) -> Tensor:
    r"""What each medication is made of, in the light of a visit, :math:`Y_{tm} = \sum_s A_{ms} w_{ts} f_s`.

    Args:
        attention: ``(M, S)``.
        wanted: ``(V, S)`` in (0, 1).
        fragments: ``(S, d)``.

    Returns:
        ``(V, M, d)``.
    """
    # Visits meet fragments last, and no table of visits by medications by fragments is made.  Most medications look at
    # a handful of fragments, those without a structure at all: either have a product of their own.
    seen = attention.detach() > 0
    wide = 2 * seen.sum(1) > len(fragments)
    few, many = (~wide).nonzero()[:, 0], wide.nonzero()[:, 0]
    slots, _ = fragment_slots(seen[few])
    own = attention[few].gather(1, slots)[..., None] * fragments[slots]
    by_few = wanted.T.index_select(0, slots.flatten()).unflatten(0, slots.shape).transpose(1, 2) @ own
    by_many = wanted @ (attention[many][..., None] * fragments)
    return torch.cat([by_few, by_many]).index_select(0, torch.cat([few, many]).argsort()).transpose(0, 1)


# -- the network -------------------------------------------------------------------------------------------------------


class MoleRec(Recommender):
    r"""A visit wants fragments; each medication gathers its own by an attention that is the same for all patients.

    .. math::
        w_t = \sigma(W_w q_t), \qquad
        A_{ms} = \operatorname{softmax}_{s:\,H_{ms}=1} \frac{(W_1 e_m)\cdot(W_2 f_s)}{\sqrt d}, \qquad
        z_{tm} = \operatorname{MLP}\Big(\sum_s A_{ms}\, w_{ts}\, f_s\Big)

    Queries :math:`q` are ``(B, T, d)``, wanted fragments :math:`w` ``(B, T, S)``, medications :math:`e` ``(M, d)``,
    fragments :math:`f` ``(S, d)``, attention ``(M, S)``, logits ``(B, T, M)``.

    Learnt: embeddings of diagnoses and procedures, with a row for padding, and a GRU each; the query ``(d, 2 d)``;
    :math:`W_w` ``(S, d)``; two graph networks, for molecules and for fragments, or a free table ``(S, d)`` for the
    second; the self-attention among fragments; :math:`W_1` and :math:`W_2` ``(d, d)``; the perceptron, ``d`` to
    ``d / 2`` to one logit; :class:`medrec.nn.free_rows.FreeRows`.  Fixed: ``order``, whose fragments each medication
    has.

    Args:
        config: its settings.
        context: sizes of the vocabularies, molecules, and interactions for the loss.
    """

    config: MoleRecConfig
    order: Tensor

    def __init__(self, config: MoleRecConfig, context: Context) -> None:
        super().__init__(config, context)
        sizes, d = context.sizes, config.size
        own = molecules_of(context).fragment_mask
        S = own.shape[1]
        # The last row of every table stands for padding.
        self.embedding = nn.ModuleDict(
            {kind: nn.Embedding(sizes[kind] + 1, d, padding_idx=sizes[kind]) for kind in KINDS}
        )
        self.gru = nn.ModuleDict({kind: nn.GRU(d, d, batch_first=True) for kind in KINDS})
        self.query = nn.Linear(2 * d, d)
        self.wanted = nn.Linear(d, S)
        self.molecule_encoder = GIN(d, config.gin_layers, config.dropout)
        if config.fragments == "gin":
            self.fragment_encoder = GIN(d, config.gin_layers, config.dropout)
        else:
            self.fragment_table = nn.Parameter(torch.empty(S, d))
        self.fragment_attention = SetAttention(d, config.n_heads, feedforward=config.sab_feedforward)
        self.asking, self.asked = nn.Linear(d, d), nn.Linear(d, d)
        self.score = nn.Sequential(nn.Linear(d, d // 2), nn.ReLU(), nn.Linear(d // 2, 1))
        self.dropout = Dropout(config.dropout)
        self.ddi_target = DDITarget(config.target_ddi, config.ddi_target)
        self.free = FreeRows(molecules_of(context).average, d, config.without_structure == "learnt")
        order = torch.arange(len(own), device=own.device)
        if config.mask == "shuffled":
            has = own.any(1).nonzero()[:, 0]
            order[has] = has[derangement(len(has)).to(has.device)]
        self.register_buffer("order", order)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embeddings uniform in (-0.1, 0.1), as in released code; everything else as PyTorch has it."""
        for module in self.modules():
            reset = getattr(module, "reset_parameters", None)
            if module is not self and reset is not None:
                reset()
        with torch.no_grad():
            for table in self.embedding.values():
                assert isinstance(table, nn.Embedding)
                table.weight.uniform_(-0.1, 0.1)
                table.weight[table.padding_idx] = 0
            if self.config.fragments == "free":
                self.fragment_table.normal_()

    def prepare(self, cohort: Cohort, train: NDArray[np.integer], context: Context) -> None:
        """The rate of interactions that training prescriptions have."""
        self.ddi_target.count(cohort.select(train).codes["medication"].multi_hot(cohort.n_medications), context.ddi)

    def encoded(self, context: Context) -> tuple[Tensor, Tensor]:
        """Attention ``(M, S)`` and fragments ``(S, d)``; they depend on no patient."""
        molecules = molecules_of(context)
        medications = self.free(molecules.average @ self.molecule_encoder(molecules.graphs))
        free = self.config.fragments == "free"
        fragments = self.fragment_table if free else self.fragment_encoder(molecules.fragment_graphs)
        fragments = self.fragment_attention(fragments)
        mask = self.free.opened(molecules.fragment_mask[self.order])
        empty: Literal["uniform", "zero"] = "zero" if self.config.without_structure == "zero" else "uniform"
        return masked_attention(self.asking(medications), self.asked(fragments), mask, empty), fragments

    def wanted_fragments(self, batch: VisitBatch) -> Tensor:
        """``w`` of every visit, ``(B, T, S)`` in (0, 1)."""
        states = [self.gru[kind](self.dropout(self.embedding[kind](batch.codes[kind])).sum(2))[0] for kind in KINDS]
        return self.wanted(self.query(torch.cat(states, dim=-1).relu())).sigmoid()

    def forward(self, batch: VisitBatch, context: Context) -> Tensor:
        """Logits ``(B, T, M)``."""
        attention, fragments = self.encoded(context)
        wanted = self.wanted_fragments(batch)[batch.visit_mask]
        # The first layer of the score is linear: fragments pass it once, before they are gathered for every visit.
        first, *rest = self.score
        assert isinstance(first, nn.Linear)
        hidden = gather_fragments(attention, wanted, fragments @ first.weight.T) + first.bias
        for layer in rest:
            hidden = layer(hidden)
        b, t = batch.visit_mask.nonzero(as_tuple=True)
        return hidden.new_zeros(batch.target.shape).index_put((b, t), hidden[..., 0])

    def explain(self, batch: VisitBatch, context: Context) -> pl.DataFrame | None:
        """Fragments of each medication: its attention times how much the last visit of one patient wants them.

        Returns:
            ``medication`` (code), ``kind`` (``fragment``), ``what`` (SMILES), ``weight``.
        """
        attention, _ = self.encoded(context)
        last = int(batch.visit_mask[0].sum()) - 1
        parts = attention * self.wanted_fragments(batch)[0, last]
        codes, fragments = context.vocab["medication"].codes, molecules_of(context).fragments
        taken = (molecules_of(context).fragment_mask[self.order] & (attention > 0)).nonzero().tolist()
        found = [(codes[m], "fragment", fragments[s], parts[m, s].item()) for m, s in taken]
        frame = pl.DataFrame(
            found,
            schema={"medication": pl.String, "kind": pl.String, "what": pl.String, "weight": pl.Float64},
            orient="row",
        )
        return frame.sort("medication", "weight", descending=[False, True])

    # -- loss

    def loss(self, batch: VisitBatch, context: Context) -> Tensor:
        """Accuracy and safety, mean over visits."""
        scored, config = self.scored(batch), self.config
        logits = self(batch, context)[scored]
        weighted = config.brake in ("full", "turn_down")
        loss = safe_recommendation_loss(
            logits,
            batch.target[scored],
            context.ddi,
            bce_weight=config.bce_weight,
            target_ddi=self.ddi_target.rate if weighted else 1.0,  # no rate lies above: alpha is 1
            temperature=config.temperature,
            ddi_scale=0.0 if config.brake == "turn_down" else config.ddi_scale,
            threshold=config.threshold,
        )
        if config.brake == "ddi_always":
            loss = loss + ddi_loss(logits.sigmoid(), context.ddi, config.ddi_scale)
        return loss.mean()


THIN = {"size": 32, "gin_layers": 2}
"""Of all its rows: a training of a minute instead of several."""

SYSTEM = System(
    name="molerec",
    label="MoleRec",
    family="molecule",
    cls=MoleRec,
    config=MoleRecConfig,
    sees="diagnoses and procedures up to the visit itself, molecules in 2D",
    small={"schedule": "constant", "epochs": 100},
    variants=VARIANTS,
    needs=("molecules",),
    citation="yang2023molerec",
    seconds_per_epoch=25,
    rows=tuple(
        Row(key, label, "molerec", variant, THIN | changed)
        for key, label, variant, changed in (
            ("molerec", "MoleRec", "paper", {}),
            ("official", "linear set attention (official)", "official", {}),
            ("uniform", "uniform without a structure", "paper", {"without_structure": "uniform"}),
            ("zero", "zero without a fragment", "paper", {"without_structure": "zero"}),
            ("free", "free fragments", "paper", {"fragments": "free"}),
            ("shuffled", "shuffled fragments", "paper", {"mask": "shuffled"}),
            ("turn-down", "turn down only", "paper", {"brake": "turn_down"}),
            ("always", "interactions always", "paper", {"brake": "ddi_always"}),
            ("no-brake", "no brake", "paper", {"brake": "none"}),
        )
    ),
)
