r"""BiMoRec: molecules pre-trained in two and three dimensions, calibrated by every past visit and by the latest one.

Mu, Li, Li, Liang, "Medication recommendation via dual molecular modalities and multi-step enhancement".  This file is
stages 2 and 3 of the paper, its equations 12-31; stage 1 is :mod:`medrec.models.bimorec_pretraining`.  First come
functions for what is more than a line: eq. 18 (:func:`prescribed_rows`, :func:`write_back`), eqs. 19-20
(:func:`~medrec.nn.set_attention.fragment_slots`, :func:`aggregate`), the gate in eq. 24 (:func:`gated_linear`).  The
network then has eqs. 12-14 and 21-26.  Eqs. 15-17 are :mod:`medrec.nn.set_attention`, eqs. 27-31 :mod:`medrec.losses`.

For a visit t with past visits 1..t-1, widths d, S fragments, M medications:

.. math::
    e_{v_j} &= [d_j E_d \,\|\, p_j E_p \,\|\, m_j E_m], \qquad
    W_s^{(j)} = \sigma(\operatorname{MLP}(e_{v_j})) && (12\text{-}14)\\
    E_s^* &= \operatorname{SSA}(E_s'), \qquad E_n^{(j)} = \operatorname{GSE}(\operatorname{SSA}(E_n'))
        && (15\text{-}18)\\
    Y^{(j)} &= \operatorname{softmax}\Big(\operatorname{mask}\frac{(E_n^{(j)} W_q)(E_s^* W_k)^\top}{\sqrt d}\Big)
        \operatorname{diag}(W_s^{(j)})\, E_s^* && (19, 20)\\
    W_n &= \sigma(r'_t), \qquad \hat m_{v_j} = \operatorname{MLP}(\operatorname{diag}(W_n)\, Y^{(j)})
        && (21\text{-}24)\\
    z_t &= \operatorname{MLP}(\operatorname{GRU}(\hat m_{v_1}, \dots, \hat m_{v_{t-1}})) + r_t && (25, 26)

:math:`r_t` and :math:`r'_t` are perceptrons of the codes of visit t, one and the same where ``share_current_mlp``.
**A first visit has no past: its logits are** :math:`r_1`, and no molecule takes part.

Where paper, released code and sense part ways.  Settings, ``paper`` → ``official``:

* eqs. 15 and 16, ``sab_feedforward``, one switch for both: the residual is on the input → on the projected queries; a
  perceptron with residual → one linear map without.
* eq. 19, ``without_structure``: medications without a structure, which the published cohorts do not have, attend by a
  learnt vector to all fragments → to all of them alike.  ``zero`` (ours): a zero row.
* eqs. 23 and 26, ``share_current_mlp``: two perceptrons are printed → one vector serves as gate and as logit.
* eq. 27, ``bce_reduction``: a sum over medications → a mean.  With the printed sum the margin and DDI terms are small
  beside the cross-entropy.
* eq. 31, ``tau_schedule``: a fixed temperature → moved after each epoch by the Jaccard of the validation patients.
* stage 1: ``coords``, ``gvp_layers``, ``center_coords``.

Settings that both variants have alike: ``ddi_scale`` (eq. 29 prints no factor; the released one), ``nce_denominator``
(eq. 7 and the released code agree), ``dropout`` and ``molecules_per_class`` (not in the paper; released code).

Without a setting:

* eq. 19 prints a maximum around the softmax; it is the mask, here and in the code.
* the text says that history and current visit are concatenated; eq. 26 and the code add them.
* the released regulariser counts non-zero weights and has no gradient: left out.
* the molecule list holds every structure once, and the running statistics of the pre-trained encoders travel with
  their weights.
* optimiser and number of heads are not in the paper: released code.  An optimiser step takes a batch of patients
  (released: one visit), so the value of ``learning_rate`` is ours, and it stays constant (released: it decays).

Everything is batched: molecules are encoded once a step, :math:`Y^{(j)}` is computed once for each past visit and
serves all later targets, because the gate of a medication is a scalar (:func:`gated_linear`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrec.arguments import Few, Limit, Range, Rate, Seed, Share, Weight, Width, check_heads
from medrec.context import Context, molecules_of
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Cohort, Kind
from medrec.losses import safe_recommendation_loss
from medrec.models.base import Recommender, Row, System, TrainingConfig
from medrec.nn.ddi_target import DDITarget, DDITargetRule
from medrec.nn.derangement import derangement
from medrec.nn.dropout import Dropout
from medrec.nn.free_rows import FreeRows
from medrec.nn.gin import GIN
from medrec.nn.set_attention import SetAttention, fragment_slots, masked_softmax
from medrec.types import MedrecError

if TYPE_CHECKING:
    from medrec.chem.molecules import Molecules


@dataclass(frozen=True)
class BiMoRecConfig(TrainingConfig):
    """Settings of BiMoRec."""

    # Stage 1
    pretrain: bool = True  # paper; False is its ablation "w/o T"
    coords: Literal["conformers", "flat", "shuffled", "random", "none"] = "conformers"  # paper; released files are flat
    pretraining_epochs: Limit = 20  # ours, of many steps; paper 300, of one step: the variant "paper_scale"
    pretraining_batch: Limit = 64  # ours; released code 0, all at once
    pretraining_rate: Rate = 2e-3  # released code
    gvp_layers: Few = 3  # paper, sec. 5.4.2; released code 4
    gvp_scalars: Width = 64  # ours; paper 128: the 3D encoder is a teacher that is thrown away after pre-training
    gvp_vectors: Width = 16  # ours; paper 64
    center_coords: bool = True  # ours; released code takes raw positions
    nce_denominator: Literal["negatives", "with_positive"] = "negatives"  # eq. 7, and released code
    pretraining_seed: Seed = 0  # one pre-training serves all runs, as the released file of weights does
    # Stages 2 and 3
    molecules_per_class: Limit = 3  # released code lists at most three structures a medication; 0: all
    width: Annotated[int, Range(2, 8192)] = 128  # paper, sec. 5.4.2
    gin_layers: int = 4  # paper, sec. 5.4.2
    dropout: float = 0.5  # released code, on each code's embedding and in GIN
    sab_feedforward: bool = True  # eq. 16
    without_structure: Literal["learnt", "uniform", "zero"] = "learnt"  # ours; released code "uniform"
    share_current_mlp: bool = False  # eqs. 23 and 26 print two
    bce_weight: Share = 0.95  # paper, beta
    bce_reduction: Literal["sum", "mean"] = "sum"  # eq. 27
    ddi_scale: Weight = 5e-4  # released code; not printed
    target_ddi: Rate = 0.06  # paper, phi
    ddi_target: DDITargetRule = "ratio"  # ours; released code "absolute", see medrec.nn.ddi_target
    temperature: float = 2.5  # paper, tau
    tau_schedule: Literal["fixed", "validation"] = "fixed"  # paper
    threshold: float = 0.5  # paper, delta
    learning_rate: float = 4e-3  # ours, of four tried on validation; released code 5e-4, a visit a step, decaying
    batch_size: int = 128  # ours
    epochs: int = 20  # paper
    # Ablations and controls
    history: Literal["enhanced", "plain", "none"] = "enhanced"  # plain: the paper's "w/o E"; none: first visits' rule
    gse: bool = True  # attention among the molecules of a visit, eq. 18
    gate: bool = True  # calibration by the latest visit, eq. 23
    past_visits: Literal["gru", "mean"] = "gru"  # eq. 25, of weights for each medication; mean: of their scores, none
    # Of the medications, dealt out again at random, free vectors for the encoders, or none.
    molecules: Literal["own", "shuffled", "free", "none"] = "own"
    train_encoders: bool = True  # False: their weights stay as they are when training starts; running statistics move

    def __post_init__(self) -> None:
        check_heads("width", self.width, 2)  # of set attention


VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "official": {
        "coords": "flat",
        "gvp_layers": 4,
        "center_coords": False,
        "sab_feedforward": False,
        "without_structure": "uniform",
        "ddi_target": "absolute",
        "share_current_mlp": True,
        "bce_reduction": "mean",
        "tau_schedule": "validation",
    },
    "paper_scale": {"gvp_scalars": 128, "gvp_vectors": 64, "pretraining_epochs": 300, "pretraining_batch": 0},
    "wo_T": {"pretrain": False},
    "wo_E": {"history": "plain"},
    "wo_TE": {"pretrain": False, "history": "plain", "molecules": "none"},
    "flat": {"coords": "flat"},
    "shuffled_partners": {"coords": "shuffled"},
    "shuffled_molecules": {"molecules": "shuffled"},
    "free_table": {"pretrain": False, "molecules": "free"},
    "frozen": {"train_encoders": False},
    "no_gse": {"gse": False},
    "no_gate": {"gate": False},
    "mean_past": {"past_visits": "mean"},
    "current_only": {"pretrain": False, "history": "none", "molecules": "none"},
}
"""Switches of each variant: paper and released code, the pre-training at the size of the paper (an hour on two cores),
the paper's three ablations (``wo_*``), and our controls."""

TARGET_JACCARD = 0.54
"""Validation Jaccard above which released code sharpens the safety temperature."""
KINDS: tuple[Kind, ...] = ("diagnosis", "procedure", "medication")


# -- equations -----------------------------------------------------------------------------------------------------


def prescribed_rows(prescribed: Tensor, average: Tensor) -> tuple[Tensor, Tensor]:
    """Molecules of the medications of each visit, as padded row numbers.

    Args:
        prescribed: ``(V, M)`` bool.
        average: ``(M, n)``; non-zero where a molecule belongs to a medication.

    Returns:
        Rows of the molecule table ``(V, L)``, and which of them are real ``(V, L)``; L is the largest number.
    """
    taken = (prescribed.to(average.dtype) @ (average > 0).to(average.dtype)) > 0
    L = max(int(taken.sum(1).max()) if len(taken) else 0, 1)
    rows = taken.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :L]
    return rows, taken.gather(1, rows)


def write_back(table: Tensor, rows: Tensor, real: Tensor, enhanced: Tensor, average: Tensor) -> Tensor:
    r"""Medications of each visit after its own molecules were enhanced, :math:`E_n^{(j)}`.

    Source: BiMoRec, eq. 18, and the average of a medication's molecules.  The table itself stays as it is: what
    changes is added, because averaging is linear.

    Args:
        table: ``(n, d)`` molecules.
        rows: ``(V, L)`` rows that a visit enhances.
        real: ``(V, L)`` which of them are real.
        enhanced: ``(V, L, d)`` their new values.
        average: ``(M, n)``.

    Returns:
        ``(V, M, d)``.
    """
    change = (enhanced - table[rows]) * real[..., None]
    return average @ table + average.T[rows].transpose(1, 2) @ change


def aggregate(
    queries: Tensor, keys: Tensor, values: Tensor, weights: Tensor, slots: Tensor, real: Tensor
) -> tuple[Tensor, Tensor]:
    r"""What each medication is made of, in the light of a visit, :math:`Y^{(j)}`.

    Source: BiMoRec, eqs. 19-20.  Only a medication's own fragments take part in its softmax.

    .. math::
        A_{ms} = \operatorname{softmax}_{s:\,H_{ms}=1}\frac{q_m \cdot k_s}{\sqrt d}, \qquad
        Y_m = \sum_s A_{ms}\, w_s\, v_s

    Args:
        queries: ``(V, M, d)``.
        keys: ``(S, d)``.
        values: ``(S, d)``; they, and not the keys, are weighted.
        weights: ``(V, S)``, :math:`W_s^{(j)}`.
        slots: ``(M, K)`` from :func:`medrec.nn.set_attention.fragment_slots`.
        real: ``(M, K)``.

    Returns:
        ``(M, V, d)`` with zero rows for medications without fragments, and the attention ``(M, V, K)``.
    """
    scores = queries.transpose(0, 1) @ keys[slots].transpose(1, 2) / queries.shape[-1] ** 0.5
    attention = masked_softmax(scores, real[:, None])
    return (attention * weights.T[slots].transpose(1, 2)) @ values[slots], attention


def gated_linear(gates: Tensor, rows: Tensor, visit: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    r"""First layer of the score perceptron on gated rows, for every pair of a target and a past visit.

    Source: BiMoRec, eqs. 23-24; book: :eq:`eq-bimorec-gate-identity`.  A gate is a scalar for each medication, so the
    product with the weights is made once for each past visit, and scaled for each pair; the bias is not scaled.

    .. math:: W (w_m\, y_m) + b = w_m\, (W y_m) + b

    Args:
        gates: ``(P, M)``, :math:`W_n` of the target of each of the ``P`` pairs, in (0, 1); 1 without a gate.
        rows: ``(M, V, d)``, :math:`Y^{(j)}` of the ``V`` past visits.
        visit: ``(P,)``, past visit of each pair.
        weight: ``(h, d)``.
        bias: ``(h,)``.

    Returns:
        ``(M, P, h)``.
    """
    return gates.T[..., None] * (rows @ weight.T)[:, visit] + bias


# -- the network ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pairs:
    """Targets with a past, and the past visits that each of them reads.

    ``K`` targets, ``V`` past visits, ``P`` pairs of the two.
    """

    past: Tensor  # (V,) place of a past visit among the B * T places of the batch
    target: Tensor  # (K,) place of a target
    k: Tensor  # (P,) target of a pair
    j: Tensor  # (P,) number of its past visit in the patient's record
    v: Tensor  # (P,) its past visit
    length: Tensor  # (K,) how many past visits a target has


class BiMoRec(Recommender):
    r"""Every past visit rates all medications by their molecules; the latest one gates them, a GRU reads them in order.

    .. math::
        Y^{(j)} = A^{(j)} \operatorname{diag}\big(\sigma(\operatorname{MLP}(e_{v_j}))\big)\, E_s^*, \qquad
        \hat m_{v_j} = \operatorname{MLP}\big(\operatorname{diag}(\sigma(r'_t))\, Y^{(j)}\big), \qquad
        z_t = \operatorname{MLP}(\operatorname{GRU}(\hat m_{v_1}, \dots, \hat m_{v_{t-1}})) + r_t

    with :math:`A^{(j)}` of :func:`aggregate`.  A batch has ``K`` targets with a past, ``V`` visits that are the past of
    one, and ``P`` pairs of the two.  Codes of a visit are ``(B T, 2 d)`` or with medications ``(B T, 3 d)``; molecules
    ``(n, d)``, fragments ``(S, d)``, medications of each past visit :math:`Y` ``(M, V, d)``, their scores ``(P, M)``.
    Out come logits ``(B, T, M)``; those of a first visit are :math:`r_1` alone.

    Learnt: embeddings of diagnoses, procedures and medications; two graph networks, taken over from stage 1 in
    :meth:`prepare`; the selector of fragments ``(S, 3 d)`` by two layers; self-attention among fragments and among the
    molecules of a visit; queries and keys ``(d, d)``; the score, ``d`` to ``d / 2`` to ``d / 4`` to 1; the perceptrons
    of gate and current visit, ``2 d`` to ``d`` to ``M``; a GRU of width ``M`` and the output layer ``(M, 2 M)``;
    :class:`medrec.nn.free_rows.FreeRows`.
    Fixed: ``order``, whose molecules each medication has.  Moved where asked for: the temperature of the loss.

    Args:
        config: its settings.
        context: sizes of the vocabularies, molecules, and interactions for the loss.

    Raises:
        MedrecError: past visits are to be enhanced by molecules that are left out.
    """

    config: BiMoRecConfig
    molecule_encoder: GIN
    fragment_encoder: GIN
    order: Tensor
    temperature: Tensor

    def __init__(self, config: BiMoRecConfig, context: Context) -> None:
        super().__init__(config, context)
        enhanced, molecular = config.history == "enhanced", config.history != "none" and config.molecules != "none"
        if enhanced and not molecular:
            raise MedrecError(
                "BiMoRec: molecules='none' leaves nothing to enhance; set history='plain' or history='none' as well."
            )
        self.enhanced, self.molecular = enhanced, molecular
        d, sizes, M = config.width, context.sizes, context.sizes["medication"]
        kinds = KINDS if config.history != "none" else KINDS[:2]
        self.embedding = nn.ModuleDict({kind: nn.Embedding(sizes[kind], d) for kind in kinds})
        self.dropout = Dropout(config.dropout)
        self.ddi_target = DDITarget(config.target_ddi, config.ddi_target)
        self.current = _perceptron(2 * d, d, M)
        if molecular:
            molecules = molecules_of(context)
            n, S = molecules.average.shape[1], molecules.fragment_mask.shape[1]
            self._build_encoders(n, S)
            self.selector = nn.Sequential(nn.Linear(3 * d if enhanced else d, d), nn.Linear(d, S))
            self.fragment_attention = SetAttention(d, feedforward=config.sab_feedforward)
            self.query, self.key = nn.Linear(d, d), nn.Linear(d, d)
            self.score = nn.Sequential(nn.Linear(d, d // 2), nn.ReLU(), nn.Linear(d // 2, d // 4), nn.ReLU())
            self.score.append(nn.Linear(d // 4, 1))
            self.register_buffer("order", derangement(M) if config.molecules == "shuffled" else torch.arange(M))
            average = molecules.average[self.order.to(molecules.average.device)]
            self.free = FreeRows(average, d, config.without_structure == "learnt")
        if enhanced:
            if config.gate and not config.share_current_mlp:
                self.gate = _perceptron(2 * d, d, M)
            if config.gse:
                self.molecule_attention = SetAttention(d, feedforward=config.sab_feedforward)
            if config.past_visits == "gru":
                self.past = nn.GRU(M, M, batch_first=True)
                self.output = nn.Linear(2 * M, M)
        elif config.history == "plain":
            self.patient = nn.GRU(3 * d, d, batch_first=True)
            if not molecular:
                self.output = nn.Linear(d, M)
        self.register_buffer("temperature", torch.tensor(float(config.temperature)))
        self.reset_parameters()

    def _build_encoders(self, n: int, S: int) -> None:
        config = self.config
        if config.molecules == "free":
            self.molecule_table = nn.Parameter(torch.empty(n, config.width))
            self.fragment_table = nn.Parameter(torch.empty(S, config.width))
            return
        for name in ("molecule_encoder", "fragment_encoder"):
            encoder = GIN(config.width, config.gin_layers, config.dropout)
            encoder.requires_grad_(config.train_encoders)
            setattr(self, name, encoder)

    def reset_parameters(self) -> None:
        """Embeddings uniform in (-0.1, 0.1), as in the paper; everything else as PyTorch has it."""
        for module in self.modules():
            reset = getattr(module, "reset_parameters", None)
            if module is not self and reset is not None:
                reset()
        with torch.no_grad():
            for table in self.embedding.values():
                assert isinstance(table, nn.Embedding)
                table.weight.uniform_(-0.1, 0.1)
            if self.molecular and self.config.molecules == "free":
                # On the scale of a batch-normalised read-out.
                self.molecule_table.normal_()
                self.fragment_table.normal_()

    def prepare(self, cohort: Cohort, train: NDArray[np.integer], context: Context) -> None:
        """Stage 1: take over the encoders that were pre-trained on the two views, statistics included.

        Before that, the rate of interactions that training prescriptions have.
        """
        config = self.config
        self.ddi_target.count(cohort.select(train).codes["medication"].multi_hot(cohort.n_medications), context.ddi)
        if not (self.molecular and config.pretrain) or config.molecules == "free":
            return
        from medrec.models.bimorec_pretraining import PretrainingConfig, pretrain

        done = pretrain(
            molecules_of(context),
            config=PretrainingConfig(
                coords=config.coords,
                width=config.width,
                gin_layers=config.gin_layers,
                gvp_layers=config.gvp_layers,
                gvp_scalars=config.gvp_scalars,
                gvp_vectors=config.gvp_vectors,
                center_coords=config.center_coords,
                nce_denominator=config.nce_denominator,
                epochs=config.pretraining_epochs,
                # Paper: 300 epochs and a step down every 100.
                decay_every=max(math.ceil(config.pretraining_epochs / 3), 1),
                batch_size=config.pretraining_batch,
                learning_rate=config.pretraining_rate,
            ),
            seed=config.pretraining_seed,
            device=self.temperature.device,
        )
        self.molecule_encoder.load_state_dict(done.molecule_encoder)
        self.fragment_encoder.load_state_dict(done.fragment_encoder)

    # -- forward

    def forward(self, batch: VisitBatch, context: Context) -> Tensor:
        """Logits ``(B, T, M)``."""
        kinds = cast(tuple[Kind, ...], tuple(self.embedding))
        sums = [self._sum(batch, kind) for kind in kinds]  # eq. 12, each (B T, d)
        codes = torch.cat(sums[:2], dim=1)  # eqs. 21-22
        logits = self.current(codes)  # r_t
        pairs = _pairs(batch)
        if len(pairs.target) and self.config.history != "none":
            visits = torch.cat(sums, dim=1)  # eq. 13
            if self.enhanced:
                # One vector serves as gate and as logit where the perceptron is shared.
                gate = self.gate(codes) if hasattr(self, "gate") else logits
                history = self._enhanced_history(batch, context, visits, gate, pairs)
            else:
                history = self._plain_history(batch, context, visits, codes, pairs)
            logits = logits.index_add(0, pairs.target, history)  # eq. 26
        return logits.reshape(batch.target.shape)

    def _sum(self, batch: VisitBatch, kind: Kind) -> Tensor:
        """Sum of the embeddings of each visit's codes, dropped out one by one, ``(B T, d)``."""
        ids = batch.codes[kind].flatten(0, 1)
        real = ids < batch.sizes[kind]
        # Only real codes are looked up: rows are padded to the longest visit, most are far shorter.
        rows = self.dropout(self.embedding[kind](ids[real]))
        return rows.new_zeros(len(ids), self.config.width).index_add(0, real.nonzero()[:, 0], rows)

    def _encode(self, molecules: Molecules) -> tuple[Tensor, Tensor]:
        """Molecules ``(n, d)``, and fragments after they have looked at each other ``(S, d)``; eqs. 1-2, 15-17."""
        if self.config.molecules == "free":
            return self.molecule_table, self.fragment_attention(self.fragment_table)
        table = self.molecule_encoder(molecules.graphs)
        return table, self.fragment_attention(self.fragment_encoder(molecules.fragment_graphs))

    def _medications(self, prescribed: Tensor, table: Tensor, average: Tensor) -> Tensor:
        """Medications after the molecules of each visit looked at each other, ``(V, M, d)``; eq. 18."""
        if not self.config.gse:
            return (average @ table).expand(len(prescribed), -1, -1)
        rows, real = prescribed_rows(prescribed, average)
        return write_back(table, rows, real, self.molecule_attention(table[rows], real), average)

    def _aggregated(
        self, medications: Tensor, fragments: Tensor, visits: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Medications by their fragments, ``(M, V, d)``, and each fragment's part ``(M, V, K)``; eqs. 14, 19, 20.

        Args:
            medications: ``(V, M, d)``.
            fragments: ``(S, d)``.
            visits: what selects the fragments, ``(V, 3 d)`` or ``(V, d)``.
            mask: ``(M, S)`` bool.
        """
        weights = self.selector(visits.relu()).sigmoid()
        slots, real = fragment_slots(mask)
        Y, attention = aggregate(self.query(medications), self.key(fragments), fragments, weights, slots, real)
        if self.config.without_structure == "uniform":
            # As released: all masked scores are equal, and the softmax spreads over all S fragments.
            everything = weights @ fragments / len(fragments)
            Y = torch.where(real.any(1)[:, None, None], Y, everything)
        if self.free.vectors is not None:
            # They attend to all fragments, and no visit changes how: their vectors are nobody's molecules.
            scores = self.query(self.free.vectors) @ self.key(fragments).T / fragments.shape[1] ** 0.5
            own = scores.softmax(1)[:, None] * weights  # (K, V, S)
            Y = Y.index_copy(0, self.free.rows, own @ fragments)
        return Y, attention * weights.T[slots].transpose(1, 2)

    def _knowledge(self, context: Context) -> tuple[Tensor, Tensor]:
        """Average ``(M, n)`` and mask ``(M, S)``; where they are shuffled, of a random medication for each."""
        molecules = molecules_of(context)
        return molecules.average[self.order], molecules.fragment_mask[self.order]

    def _enhanced_history(
        self, batch: VisitBatch, context: Context, visits: Tensor, gate: Tensor, pairs: _Pairs
    ) -> Tensor:
        """Logits that the past contributes to each target, ``(K, M)``; eqs. 14-25."""
        M = gate.shape[1]
        average, mask = self._knowledge(context)
        table, fragments = self._encode(molecules_of(context))
        medications = self._medications(batch.target.flatten(0, 1)[pairs.past], table, average)
        Y, _ = self._aggregated(medications, fragments, visits[pairs.past], mask)
        first, *rest = self.score  # eqs. 23-24
        assert isinstance(first, nn.Linear)
        gates = gate[pairs.target].sigmoid() if self.config.gate else gate.new_ones(len(pairs.target), M)
        hidden = gated_linear(gates[pairs.k], Y, pairs.v, first.weight, first.bias)
        for layer in rest:
            hidden = layer(hidden)
        scores = hidden[..., 0].T  # (P, M)
        sequence = scores.new_zeros(len(pairs.target), int(pairs.length.max()), M)
        sequence = sequence.index_put((pairs.k, pairs.j), scores)
        if self.config.past_visits == "mean":
            return sequence.sum(1) / pairs.length[:, None]
        states, _ = self.past(sequence)  # eq. 25; padded behind, and a GRU only looks back
        last = states[torch.arange(len(pairs.target), device=states.device), pairs.length - 1]
        # Hidden state and last output of a GRU of one layer are the same vector; the released head takes both.
        return self.output(torch.cat([last, last], dim=1).relu())

    def _plain_history(
        self, batch: VisitBatch, context: Context, visits: Tensor, codes: Tensor, pairs: _Pairs
    ) -> Tensor:
        """Ablations without enhancement: one vector of the whole history selects the fragments, ``(K, M)``."""
        B, T = batch.visit_mask.shape
        states, _ = self.patient(visits.reshape(B, T, -1))
        before = states.flatten(0, 1)[pairs.target - 1]
        now = torch.cat([codes, codes.new_zeros(len(codes), self.config.width)], dim=1)[pairs.target]
        _, patient = self.patient(now[:, None], before[None].contiguous())
        patient = patient[0]
        if not self.molecular:
            return self.output(patient.relu())
        average, mask = self._knowledge(context)
        table, fragments = self._encode(molecules_of(context))
        medications = (average @ table).expand(len(patient), -1, -1)
        Y, _ = self._aggregated(medications, fragments, patient, mask)
        return self.score(Y)[..., 0].T

    def explain(self, batch: VisitBatch, context: Context) -> pl.DataFrame | None:
        """Fragments that the last past visit selects for each medication, and which of its molecules were looked at.

        Both are read before the gate and the GRU (eqs. 23-25): they depend on that past visit alone, neither on the
        codes of the visit that is asked about nor on visits further back, and do not say how much reached the logits.

        Args:
            batch: one patient; the last visit is the one that is asked about, the one before it the one that is read.
            context: as :meth:`forward` gets it.

        Returns:
            ``medication`` (code), ``kind``, ``what``, ``weight``, largest first within a medication and kind.
            ``fragment``, for every medication that has any: its share of the medication's attention times its
            selection by the past visit, :math:`A_{ms} w_s`, eqs. 14, 19 and 20.
            ``molecule``, for what was prescribed at the past visit: the attention that it got from that visit's
            molecules, 1 being an equal share, eq. 18; no rows without ``gse``.
            ``None`` for a first visit, and where ``history`` is not ``"enhanced"``: the plain form reads fragments
            too, but by one vector of the whole history.
        """
        from medrec.chem.fragments import brics_fragments

        pairs = _pairs(batch)
        if not (self.enhanced and len(pairs.target)):
            return None
        codes, molecules = context.vocab["medication"].codes, molecules_of(context)
        average, mask = self._knowledge(context)
        visits = torch.cat([self._sum(batch, kind) for kind in KINDS], dim=1)[pairs.past[-1:]]
        prescribed = batch.target.flatten(0, 1)[pairs.past[-1:]]
        table, fragments = self._encode(molecules)
        _, parts = self._aggregated(self._medications(prescribed, table, average), fragments, visits, mask)
        yields = [set(brics_fragments(smiles)) for smiles in molecules.smiles]
        slots, real = fragment_slots(mask)
        found = []
        for m, k in real.nonzero().tolist():
            fragment = molecules.fragments[slots[m, k]]
            owners = [molecules.names[n] for n in average[m].nonzero()[:, 0].tolist() if fragment in yields[n]]
            found.append((codes[m], "fragment", f"{fragment} of {', '.join(owners)}", float(parts[m, 0, k])))
        rows, there = prescribed_rows(prescribed, average)
        if self.config.gse and there.any():
            received = self.molecule_attention.weights(table[rows], there)[0][there[0]].mean(0) * there.sum()
            for n, weight in zip(rows[0][there[0]].tolist(), received[there[0]].tolist(), strict=True):
                owning = (prescribed[0] & (average[:, n] > 0)).nonzero()[:, 0].tolist()
                found += [(codes[m], "molecule", molecules.names[n], weight) for m in owning]
        frame = pl.DataFrame(
            found,
            schema={"medication": pl.String, "kind": pl.String, "what": pl.String, "weight": pl.Float64},
            orient="row",
        )
        return frame.sort("medication", "kind", "weight", descending=[False, False, True])

    # -- loss

    def loss(self, batch: VisitBatch, context: Context) -> Tensor:
        """Accuracy and safety, mean over visits; eqs. 27-31."""
        scored, config = self.scored(batch), self.config
        logits = self(batch, context)[scored]
        return safe_recommendation_loss(
            logits,
            batch.target[scored],
            context.ddi,
            bce_weight=config.bce_weight,
            target_ddi=self.ddi_target.rate,
            temperature=self.temperature,
            ddi_scale=config.ddi_scale,
            bce_reduction=config.bce_reduction,
            threshold=config.threshold,
        ).mean()

    def after_epoch(self, selected: float) -> None:
        """Move the safety temperature as released code does, where asked for."""
        if self.config.tau_schedule == "validation":
            good = selected > TARGET_JACCARD
            moved = self.temperature * 1.1 if good else (self.temperature * 0.9).clamp(min=self.config.temperature)
            self.temperature.copy_(moved)


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _pairs(batch: VisitBatch) -> _Pairs:
    B, T = batch.visit_mask.shape
    real = batch.visit_mask
    place = torch.arange(B * T, device=real.device).reshape(B, T)
    has_later = torch.cat([real[:, 1:], torch.zeros_like(real[:, :1])], dim=1)
    later = real.clone()
    later[:, 0] = False
    past, target = place[has_later], place[later]
    number = torch.full((B * T,), -1, device=real.device)
    number[past] = torch.arange(len(past), device=real.device)
    length = target % T
    k = torch.repeat_interleave(torch.arange(len(target), device=real.device), length)
    j = torch.arange(len(k), device=real.device) - (length.cumsum(0) - length)[k]
    return _Pairs(past, target, k, j, number[target[k] - length[k] + j], length)


SYSTEM = System(
    name="bimorec",
    label="BiMoRec",
    family="molecule",
    cls=BiMoRec,
    config=BiMoRecConfig,
    sees="diagnoses and procedures of the visit, all codes of earlier visits, molecules in 2D and 3D",
    small={"width": 64, "batch_size": 32, "patience": 20},
    variants=VARIANTS,
    needs=("molecules",),
    citation="mu2024bimorec",
    seconds_per_epoch=40,
    # Some switches one at a time, then everything that released code does otherwise. ``gvp_layers``,
    # ``without_structure`` and ``tau_schedule`` are turned only in "official", ``coords`` there and among the controls.
    # The DDI factor and the denominator are the same in the first row and in "official": their rows take eq. 29 as
    # printed, also with the mean cross-entropy, and eq. 7 with its positive.
    rows=(
        Row("bimorec", "BiMoRec", "bimorec"),
        Row("one-mlp", "one perceptron for gate and logit", "bimorec", settings={"share_current_mlp": True}),
        Row("mean", "mean cross-entropy", "bimorec", settings={"bce_reduction": "mean"}),
        Row("ddi", "DDI factor 1", "bimorec", settings={"ddi_scale": 1.0}),
        Row("mean-ddi", "mean, DDI factor 1", "bimorec", settings={"bce_reduction": "mean", "ddi_scale": 1.0}),
        Row("linear", "linear set attention", "bimorec", settings={"sab_feedforward": False}),
        Row("positive", "positive in the denominator", "bimorec", settings={"nce_denominator": "with_positive"}),
        Row("raw", "raw positions", "bimorec", settings={"center_coords": False}),
        Row("official", "official", "bimorec", "official"),
    ),
)
