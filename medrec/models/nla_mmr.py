r"""NLA-MMR: a sentence about a patient looks for sentences about medications.

Tan et al., "Natural language-assisted multi-modal medication recommendation", CIKM 2024.  Eqs. 1 and 11 are
:mod:`medrec.text`, eqs. 5-7 :mod:`medrec.nn.gin`.  For a visit with the texts of its streams :math:`c`, widths
:math:`d_{enc}` of a text, :math:`d_K`, :math:`d_s` of a molecule:

.. math::
    w &= \operatorname{softmax}_c \frac{(h_c W_1)(h_{dps} W_2)^\top}{\sqrt{d_K}}, \qquad
    p = \Big[\textstyle\sum_c w_c h_c \,\|\, h_{dps}\Big] W_r + b_r && (2\text{-}4)\\
    E_m &= [E_s \,\|\, E_f], \qquad \tilde p = \operatorname{MLP}(p), \quad \tilde E = \operatorname{MLP}(E_m)
        && (8, 9)\\
    w^m &= \operatorname{softmax}_{i<t} \frac{(h_m^{(i)} W_3)(p W_4)^\top}{\sqrt{d_K}}, \qquad
    p_m = \Big(\textstyle\sum_i w^m_i h_m^{(i)}\Big) W_m + b_m && (12\text{-}14)\\
    \hat m &= \sigma\big((\tilde p + p_m)\, \tilde E^\top\big) && (10)

No parameter has a side of the number of medications: a class that training never saw is scored by its description and
its structure.  A first visit has no past, and its history term is :math:`b_m`; with one past visit there is nothing to
weigh, and :math:`W_3`, :math:`W_4` get no gradient.

Switches (``paper`` → ``official``):

* eq. 4, ``fusion_activation``: none → GELU and dropout;
* eqs. 15 and 16, ``loss_reduction``: the printed sums → means over medications and visits.  The printed margin loss
  stands beside a sum of cross-entropies, so that it hardly counts;
* ``gin_layers``: 4 → 5; ``learning_rate``, ``schedule``: decaying from 5e-4 → 5e-5 throughout;
* ``without_structure``: a learnt vector (ours) → ``zero``; the published cohort has a structure for every class.

Table 3: ``use_graph``, ``use_description``, ``use_fusion`` (without it :math:`p = h_{dps} W_r + b_r`), ``use_history``,
``streams``.  Ours: ``history_visits``, how many past visits are read; ``history_as``, their texts or learnt vectors of
their medications; ``visits_as``, texts of a visit or the mean of learnt vectors of its codes, the control that has no
language at all; ``intercept``, a number for each medication in the place of :math:`b_m`, which is what eq. 10 lacks and
:math:`b_m` stands in for.

Deviations.  The released maps have biases, which the equations do not print; those of the keys, :math:`W_1` and
:math:`W_3`, add the same to all scores of a softmax, never matter, and are left out.  A step takes a batch of patients
with all their visits (released: eight visits).  Eq. 9 says "MLP": two layers with GELU and dropout .2, the second with
a residual, are the released code's.  The set is cut at a probability, not sorted "in ascending order".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrec.arguments import Dropout as DropoutRate
from medrec.arguments import Few, Share, Width
from medrec.context import Context, molecules_of, text_of
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Cohort, Kind
from medrec.losses import margin_loss
from medrec.models.base import Recommender, Row, System, TrainingConfig
from medrec.nn.dropout import Dropout
from medrec.nn.free_rows import FreeRows
from medrec.nn.gin import GIN
from medrec.nn.set_attention import masked_softmax
from medrec.text.encoders import check_encoder
from medrec.types import MedrecError

LETTERS: dict[str, Kind] = {"d": "diagnosis", "p": "procedure", "s": "symptom"}
"""Streams that are fused, as the paper abbreviates them."""


@dataclass(frozen=True)
class NLAMMRConfig(TrainingConfig):
    """Settings of NLA-MMR."""

    encoder: str = "small-bert"  # ours, frozen; paper BioBERT and four others, see medrec.text.encoders
    size: Width = 256  # of queries, keys and the joint space; paper, d_K
    molecule_size: Width = 64  # paper, d_s
    gin_layers: Few = 4  # paper; released code 5
    gin_dropout: DropoutRate = 0.7  # released code
    dropout: float = 0.2  # of both perceptrons; released code
    fusion_activation: Literal["none", "gelu"] = "none"  # eq. 4; released code GELU and dropout .1
    loss_reduction: Literal["sum", "mean"] = "sum"  # eqs. 15 and 16, over medications; released code mean
    bce_weight: Share = 0.95  # paper, alpha
    history_visits: Few = 3  # at most, the latest ones; released code 2 on MIMIC-III, 3 on MIMIC-IV
    history_as: Literal["text", "codes"] = "text"  # ours
    visits_as: Literal["text", "codes"] = "text"  # ours
    streams: Literal["dps", "ps", "ds", "dp"] = "dps"  # table 3; the joint text has all three in any case
    use_graph: bool = True  # table 3
    use_description: bool = True  # table 3
    use_fusion: bool = True  # table 3
    use_history: bool = True  # table 3
    intercept: bool = False  # ours, in the place of the bias of eq. 14
    without_structure: Literal["learnt", "zero"] = "learnt"  # ours
    threshold: float = 0.5  # paper, delta
    learning_rate: float = 5e-4  # paper; released code 5e-5
    schedule: Literal["constant", "cosine"] = "cosine"  # paper, "decaying"; released code constant
    weight_decay: float = 1e-5  # released code, MIMIC-III
    batch_size: int = 16  # patients a step; ours

    def __post_init__(self) -> None:
        check_encoder("NLA-MMR", self.encoder)
        if not (self.use_graph or self.use_description):
            raise MedrecError("NLA-MMR: a medication needs its graph or its description, use_graph or use_description.")


VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "official": {
        "fusion_activation": "gelu",
        "loss_reduction": "mean",
        "gin_layers": 5,
        "learning_rate": 5e-5,
        "schedule": "constant",
        "without_structure": "zero",
    },
}
"""Switches of each variant."""


# -- equations ---------------------------------------------------------------------------------------------------------


def fusion_weights(keys: Tensor, query: Tensor) -> Tensor:
    r"""How much each stream counts, :math:`w = \operatorname{softmax}(H_1 H_2^\top / \sqrt{d_K})`.

    Source: NLA-MMR, eqs. 2-3.

    Args:
        keys: ``(..., C, d_K)``, streams.
        query: ``(..., d_K)``, joint text.

    Returns:
        ``(..., C)``; adds up to 1.
    """
    return ((keys @ query[..., None])[..., 0] / keys.shape[-1] ** 0.5).softmax(-1)


def history_weights(keys: Tensor, queries: Tensor, readable: Tensor) -> Tensor:
    r"""How much each past visit counts, :math:`w^m`.

    Source: NLA-MMR, eqs. 12-13.

    Args:
        keys: ``(B, T, d_K)``, past visits.
        queries: ``(B, T, d_K)``, visits that are asked about.
        readable: ``(B, T, T)`` bool, which past visits (last axis) a visit reads.

    Returns:
        ``(B, T, T)``; rows add up to 1, those without a past are 0.
    """
    return masked_softmax(queries @ keys.transpose(1, 2) / keys.shape[-1] ** 0.5, readable, "zero")


def readable_past(visit_mask: Tensor, most: int) -> Tensor:
    """Which past visits each visit reads: real ones, at most so many, the latest.

    Args:
        visit_mask: ``(B, T)`` bool.
        most: how many.

    Returns:
        ``(B, T, T)`` bool.
    """
    place = torch.arange(visit_mask.shape[1], device=visit_mask.device)
    back = place[:, None] - place
    return (back > 0) & (back <= most) & visit_mask[:, None]


def matching_loss(
    logits: Tensor, target: Tensor, bce_weight: float, reduction: Literal["sum", "mean"] = "sum"
) -> Tensor:
    r"""Cross-entropy and margin, :math:`\alpha \mathcal L_{bce} + (1 - \alpha) \mathcal L_{mar}`, of each visit.

    Source: NLA-MMR, eqs. 15-17; the margin is :func:`medrec.losses.margin_loss`.

    Args:
        logits: ``(..., M)``.
        target: ``(..., M)`` bool.
        bce_weight: :math:`\alpha`.
        reduction: of the cross-entropy over medications: ``"sum"`` as printed, ``"mean"`` as released.

    Returns:
        ``(...)``.
    """
    bce = nn.functional.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
    total = bce.sum(-1) if reduction == "sum" else bce.mean(-1)
    return bce_weight * total + (1 - bce_weight) * margin_loss(logits.sigmoid(), target)


class Projection(nn.Module):
    """Two layers with GELU, the second with a residual around it; eq. 9.

    Args:
        inputs: width of what comes in.
        size: of the joint space.
        dropout: after the first activation.
    """

    def __init__(self, inputs: int, size: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, size), nn.Linear(size, size)
        self.dropout = Dropout(dropout)

    def reset_parameters(self) -> None:
        self.first.reset_parameters()
        self.second.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """``(..., inputs)`` → ``(..., size)``."""
        hidden = self.first(x)
        return hidden + self.dropout(self.second(nn.functional.gelu(hidden)))


# -- the network -------------------------------------------------------------------------------------------------------


class NLAMMR(Recommender):
    r"""Texts of a visit and of past prescriptions make one vector, text and molecules of a medication another.

    .. math::
        p = \Big[\textstyle\sum_c w_c h_c \,\|\, h_{dps}\Big] W_r + b_r, \qquad
        p_m = \Big(\textstyle\sum_i w^m_i h_m^{(i)}\Big) W_m + b_m, \qquad
        z = (\operatorname{MLP}(p) + p_m)\, \operatorname{MLP}([E_s \,\|\, E_f])^\top

    Texts of streams are ``(B, T, C, d_enc)``, patients :math:`p` ``(B, T, d_enc)``, medications ``(M, d_K)``, logits
    ``(B, T, M)``.

    Learnt: :math:`W_1` to :math:`W_4` ``(d_enc, d_K)``; :math:`W_r` ``(2 d_enc, d_enc)``; :math:`W_m`
    ``(d_enc, d_K)``; two perceptrons; the graph network; :class:`medrec.nn.free_rows.FreeRows`.  The encoder of texts
    is frozen and no part of this.

    Args:
        config: its settings.
        context: texts, and molecules.

    Raises:
        MedrecError: no stream is left, because the cohort records none of those that are asked for.
    """

    config: NLAMMRConfig

    @staticmethod
    def scores_new(config: NLAMMRConfig) -> bool:
        """Whether no parameter is for one medication, so that classes can be scored that training never saw."""
        return not config.intercept and (config.history_as == "text" or not config.use_history)

    def __init__(self, config: NLAMMRConfig, context: Context) -> None:
        super().__init__(config, context)
        d, size, text = text_of(context).width, config.size, text_of(context)
        self.streams = [kind for letter, kind in LETTERS.items() if letter in config.streams and kind in text.streams]
        if not self.streams:
            raise MedrecError(f"NLA-MMR: the cohort records none of the streams {config.streams!r}.")
        if config.use_fusion:
            self.stream_key, self.stream_query = nn.Linear(d, size, bias=False), nn.Linear(d, size)
        if config.visits_as == "codes":
            self.codes = nn.ParameterDict(
                {kind: nn.Parameter(torch.empty(len(context.vocab[kind]), d)) for kind in text.streams}
            )
        self.patient = nn.Linear(2 * d if config.use_fusion else d, d)
        self.fusion_dropout = Dropout(0.1)
        self.project_patient = Projection(d, size, config.dropout)
        if config.use_graph:
            self.molecule_encoder = GIN(config.molecule_size, config.gin_layers, config.gin_dropout)
            learnt = config.without_structure == "learnt"
            self.free = FreeRows(molecules_of(context).average, config.molecule_size, learnt)
        inputs = config.molecule_size * config.use_graph + d * config.use_description
        self.project_medication = Projection(inputs, size, config.dropout)
        if config.use_history:
            if config.history_as == "codes":
                self.given = nn.Parameter(torch.empty(context.sizes["medication"], d))
            self.past_key, self.past_query = nn.Linear(d, size, bias=False), nn.Linear(d, size)
            self.past = nn.Linear(d, size, bias=not config.intercept)
        if config.intercept:
            self.base = nn.Parameter(torch.empty(context.sizes["medication"]))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As PyTorch has it; vectors of codes like those of a text, intercepts 0."""
        for module in self.modules():
            reset = getattr(module, "reset_parameters", None)
            if module is not self and reset is not None:
                reset()
        with torch.no_grad():
            for name, table in self.named_parameters():
                if name == "given" or name.startswith("codes."):
                    table.normal_(std=table.shape[1] ** -0.5)
            if hasattr(self, "base"):
                self.base.zero_()

    def prepare(self, cohort: Cohort, train: NDArray[np.integer], context: Context) -> None:
        """Read all texts at once, with a progress bar; a text depends on its own codes alone."""
        if self.config.visits_as == "text" or (self.config.use_history and self.config.history_as == "text"):
            text_of(context).read(cohort)

    # -- forward

    def medications(self, context: Context) -> Tensor:
        """Where medications lie in the joint space, ``(M, d_K)``; eqs. 5-9."""
        parts = []
        if self.config.use_graph:
            molecules = molecules_of(context)
            parts.append(self.free(molecules.average @ self.molecule_encoder(molecules.graphs)))
        if self.config.use_description:
            parts.append(text_of(context).medications)
        return self.project_medication(torch.cat(parts, dim=1))

    def clinical(self, batch: VisitBatch, kinds: Sequence[Kind], context: Context) -> Tensor:
        """Vector of what is coded of some kinds, ``(B, T, d_enc)``: of their text, or the mean of their codes."""
        if self.config.visits_as == "text":
            return text_of(context).visits(batch, "joint" if len(kinds) > 1 else kinds[0])
        named = [batch.multi_hot(kind).float() for kind in kinds]
        total = torch.stack([codes @ self.codes[kind] for kind, codes in zip(kinds, named, strict=True)]).sum(0)
        return total / torch.cat(named, dim=-1).sum(-1, keepdim=True).clamp(min=1)

    def patients(self, batch: VisitBatch, context: Context) -> tuple[Tensor, Tensor | None]:
        """Patient vectors ``(B, T, d_enc)`` and how much each stream counts ``(B, T, C)``; eqs. 2-4."""
        joint = self.clinical(batch, text_of(context).streams, context)
        if not self.config.use_fusion:
            return self._activated(self.patient(joint)), None
        streams = torch.stack([self.clinical(batch, (kind,), context) for kind in self.streams], dim=2)
        weights = fusion_weights(self.stream_key(streams), self.stream_query(joint))
        fused = (weights[..., None] * streams).sum(2)
        return self._activated(self.patient(torch.cat([fused, joint], dim=-1))), weights

    def _activated(self, p: Tensor) -> Tensor:
        return p if self.config.fusion_activation == "none" else self.fusion_dropout(nn.functional.gelu(p))

    def history(self, batch: VisitBatch, patients: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """What the past adds ``(B, T, d_K)``, and how much each past visit counts ``(B, T, T)``; eqs. 12-14."""
        if self.config.history_as == "codes":
            given = batch.target.to(self.given.dtype) @ self.given
        else:
            given = text_of(context).visits(batch, "medication")
        readable = readable_past(batch.visit_mask, self.config.history_visits)
        weights = history_weights(self.past_key(given), self.past_query(patients), readable)
        return self.past(weights @ given), weights

    def forward(self, batch: VisitBatch, context: Context) -> Tensor:
        """Logits ``(B, T, M)``; eq. 10."""
        patients, _ = self.patients(batch, context)
        wanted = self.project_patient(patients)
        if self.config.use_history:
            wanted = wanted + self.history(batch, patients, context)[0]
        logits = wanted @ self.medications(context).T
        return logits + self.base if self.config.intercept else logits

    def explain(self, batch: VisitBatch, context: Context) -> pl.DataFrame | None:
        """How much of each logit of the last visit of one patient comes from today and how much from the past.

        Returns:
            ``medication`` (code), ``kind`` (``text``), ``what`` (today, or earlier prescriptions), ``weight``: the
            parts of eq. 10, in log-odds.
        """
        last = int(batch.visit_mask[0].sum()) - 1
        patients, _ = self.patients(batch, context)
        medications = self.medications(context)
        parts = {"codes of the visit": self.project_patient(patients)[0, last] @ medications.T}
        if self.config.use_history:
            parts["earlier prescriptions"] = self.history(batch, patients, context)[0][0, last] @ medications.T
        codes = context.vocab["medication"].codes
        frame = pl.DataFrame(
            [(code, "text", what, w) for what, ws in parts.items() for code, w in zip(codes, ws.tolist(), strict=True)],
            schema={"medication": pl.String, "kind": pl.String, "what": pl.String, "weight": pl.Float64},
            orient="row",
        )
        return frame.sort("medication", "weight", descending=[False, True])

    # -- loss

    def loss(self, batch: VisitBatch, context: Context) -> Tensor:
        """Mean over visits; eqs. 15-17."""
        scored, config = self.scored(batch), self.config
        logits = self(batch, context)[scored]
        return matching_loss(logits, batch.target[scored], config.bce_weight, config.loss_reduction).mean()


SYSTEM = System(
    name="nla-mmr",
    label="NLA-MMR",
    family="language",
    cls=NLAMMR,
    config=NLAMMRConfig,
    sees="texts of diagnoses, procedures and symptoms of the visit, texts of earlier medications, molecules in 2D",
    variants=VARIANTS,
    needs=("text", "molecules"),
    citation="tan2024nlammr",
    seconds_per_epoch=5,
    rows=(
        Row("nla-mmr", "NLA-MMR", "nla-mmr"),
        Row("no-graph", "w/o E_s", "nla-mmr", settings={"use_graph": False}),
        Row("no-description", "w/o E_f", "nla-mmr", settings={"use_description": False}),
        Row("no-fusion", "w/o cross attention", "nla-mmr", settings={"use_fusion": False}),
        Row("no-history", "w/o history", "nla-mmr", settings={"use_history": False}),
        Row("no-diagnoses", "fusion w/o diagnoses", "nla-mmr", settings={"streams": "ps"}),
        Row("no-procedures", "fusion w/o procedures", "nla-mmr", settings={"streams": "ds"}),
        Row("no-symptoms", "fusion w/o symptoms", "nla-mmr", settings={"streams": "dp"}),
        Row("last-visit", "text of the last visit alone", "nla-mmr", settings={"history_visits": 1}),
        Row("codes", "history as codes", "nla-mmr", settings={"history_as": "codes"}),
        Row(
            "no-language",
            "learnt vectors of codes in the place of texts",
            "nla-mmr",
            settings={"visits_as": "codes", "history_as": "codes"},
        ),
        Row(
            "intercept",
            "an intercept for each medication, no b_m",
            "nla-mmr",
            settings={"intercept": True},
        ),
        Row("no-margin", "no margin loss", "nla-mmr", settings={"bce_weight": 1.0}),
        Row("official", "official", "nla-mmr", "official"),
    ),
)
