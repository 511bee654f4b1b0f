r"""RETAIN: two attentions over a patient's past, read from the latest visit backwards.

Choi et al., "RETAIN: an interpretable predictive model for healthcare using reverse time attention mechanism",
NeurIPS 2016.  Book: :eq:`eq-retain-context`.

.. math::
    v_j = W_{emb}\, x_j, \qquad
    \alpha = \operatorname{softmax}_j(w_\alpha^\top g_j + b_\alpha), \qquad
    \beta_j = \tanh(W_\beta h_j + b_\beta), \qquad
    c_t = \sum_j \alpha_j\, \beta_j \odot v_j

with :math:`g, h` the outputs of two GRUs that read the visits from the latest to the first.  A linear layer turns
:math:`c_t` into logits, so each visit's share of a logit is known exactly: :func:`logit_shares`.

Two variants.  ``paper``: as above.  ``official`` (the re-implementation in the medication recommendation
literature): time runs forward, and the softmax is taken over features, of which there is one, so every
:math:`\alpha_j = 1` and its GRU learns nothing.

Inputs.  ``past_only`` (as published comparisons): visit t is predicted from visits 1..t-1 with their medications;
its own codes are not seen.  ``with_current``: diagnoses and procedures of visit t stand in front as the latest step,
its medications hidden.  With ``past_only`` first visits are out of reach.

Deviations: the loss is the mean over scored visits and medications (released code: mean over medications, summed
over a patient's visits); an optimiser step takes a batch of patients (released: one patient).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from medrec.context import Context
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Kind
from medrec.models.base import Recommender, Row, System, TrainingConfig
from medrec.nn.dropout import Dropout
from medrec.nn.segments import segment_sums


@dataclass(frozen=True)
class RETAINConfig(TrainingConfig):
    """Settings of RETAIN."""

    size: int = 64  # width of embeddings and GRUs; released code
    dropout: float = 0.0  # on each code's embedding; `medrec tune`; released code 0.5, 0.3 in GAMENet's
    alpha_axis: Literal["visits", "features"] = "visits"  # softmax over visits (paper) or over the one feature (code)
    reverse_time: bool = True  # latest visit first (paper); released code reads forward
    inputs: Literal["past_only", "with_current"] = "past_only"  # see the module
    learning_rate: float = 8e-3  # `medrec tune`; released code 5e-4, one patient a step
    batch_size: int = 16  # patients a step; `medrec tune`
    schedule: Literal["constant", "cosine"] = "cosine"  # `medrec tune`
    weight_decay: float = 1e-4  # `medrec tune`
    epochs: int = 27  # `medrec tune`: its budget of steps, after which the learning rate is 0
    threshold: float = 0.4  # released code


VARIANTS = {"paper": {}, "official": {"alpha_axis": "features", "reverse_time": False}}
"""Switches of each variant."""


def visit_attention(scores: Tensor, mask: Tensor, axis: Literal["visits", "features"] = "visits") -> Tensor:
    r"""Weights of the visits, :math:`\alpha = \operatorname{softmax}_j(s_j)`.

    Source: RETAIN, attention over visits; book: :eq:`eq-retain-alpha`.

    Args:
        scores: ``(K, L)``, one for each visit.
        mask: ``(K, L)`` bool, True for real visits.
        axis: ``"visits"`` as in the paper; ``"features"`` as in released code: a softmax over an axis of length 1.

    Returns:
        ``(K, L)``; 0 at padding.  Rows without any visit are 0.
    """
    if axis == "features":
        return scores[..., None].softmax(-1)[..., 0] * mask
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return torch.where(mask, weights, 0.0)


def context_vector(alpha: Tensor, beta: Tensor, visits: Tensor) -> Tensor:
    r"""What is kept of the past, :math:`c = \sum_j \alpha_j\, \beta_j \odot v_j`.

    Source: RETAIN; book: :eq:`eq-retain-context`.

    Args:
        alpha: ``(K, L)`` weights of visits.
        beta: ``(K, L, d)`` weights of the coordinates of each visit, in (-1, 1).
        visits: ``(K, L, d)`` embedded visits.

    Returns:
        ``(K, d)``.
    """
    return torch.einsum("kl,kld,kld->kd", alpha, beta, visits)


def logit_shares(alpha: Tensor, beta: Tensor, visits: Tensor, weight: Tensor) -> Tensor:
    r"""Each visit's share of each logit, :math:`\omega_{jm} = \alpha_j\, W_m (\beta_j \odot v_j)`.

    Shares of the visits and the bias add up to the logit.

    Args:
        alpha: ``(K, L)``.
        beta: ``(K, L, d)``.
        visits: ``(K, L, d)``.
        weight: ``(M, d)`` of the output layer.

    Returns:
        ``(K, L, M)``.
    """
    return torch.einsum("kl,kld,kld,md->klm", alpha, beta, visits, weight)


@dataclass(frozen=True)
class _Sequences:
    """What is read for each of ``K`` targets (patient b, visit t): up to ``L`` visits, first read first.

    ``source`` points into the visits of the batch laid end to end, past ones first and then, for ``with_current``,
    current ones.
    """

    b: Tensor  # (K,)
    t: Tensor  # (K,)
    source: Tensor  # (K, L) visit (past: b * T + j; current: B * T + b * T + t)
    mask: Tensor  # (K, L)
    place: Tensor  # (K, L) index j of the visit


class RETAIN(Recommender):
    r"""Two GRUs read a patient's visits from the latest one backwards; one weighs visits, the other their coordinates.

    .. math:: z_t = W \sum_j \alpha_{tj}\, \beta_{tj} \odot v_j + b

    over the visits that target :math:`t` may see.  A batch of ``B`` patients with up to ``T`` visits has ``K`` targets;
    each reads up to ``L`` visits :math:`v` ``(K, L, d)`` with weights :math:`\alpha` ``(K, L)`` and :math:`\beta`
    ``(K, L, d)``.  Out come logits ``(B, T, M)``.

    Learnt: an embedding of all codes ``(D + P + M + 1, d)``, whose last row is padding and stays 0; a GRU and a linear
    layer each for :math:`\alpha` (to one number a visit) and :math:`\beta` (to ``d``); the output layer ``(M, d)``.

    Args:
        config: its settings.
        context: sizes of the vocabularies; nothing else of it is read.
    """

    config: RETAINConfig

    def __init__(self, config: RETAINConfig, context: Context) -> None:
        super().__init__(config, context)
        self.needs_history = config.inputs == "past_only"
        sizes, d = context.sizes, config.size
        self.kinds: tuple[Kind, ...] = ("diagnosis", "procedure", "medication")
        # One table for all codes, the last row for padding.
        self.starts: dict[Kind, int] = {}
        start = 0
        for kind in self.kinds:
            self.starts[kind] = start
            start += sizes[kind]
        self.embedding = nn.Embedding(start + 1, d, padding_idx=start)
        self.alpha_gru = nn.GRU(d, d, batch_first=True)
        self.beta_gru = nn.GRU(d, d, batch_first=True)
        self.alpha_score = nn.Linear(d, 1)
        self.beta_score = nn.Linear(d, d)
        self.output = nn.Linear(d, sizes["medication"])
        self.dropout = Dropout(config.dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embeddings uniform in (-0.1, 0.1), as in released code; everything else as PyTorch has it."""
        with torch.no_grad():
            self.embedding.weight.uniform_(-0.1, 0.1)
            self.embedding.weight[self.embedding.padding_idx] = 0
        for layer in (self.alpha_gru, self.beta_gru, self.alpha_score, self.beta_score, self.output):
            layer.reset_parameters()

    def forward(self, batch: VisitBatch, context: Context) -> Tensor:
        """Logits ``(B, T, M)``."""
        sequences, alpha, beta, visits = self._read(batch)
        logits = self.output(context_vector(alpha, beta, visits))
        return logits.new_zeros(batch.target.shape).index_put((sequences.b, sequences.t), logits)

    def contributions(self, batch: VisitBatch, context: Context) -> Tensor:
        """Share of visit ``j`` in each logit of visit ``t``, ``(B, T, T, M)``, indexed ``[b, t, j]``.

        Summed over ``j`` and with the output layer's bias added they are the logits of :meth:`forward`.
        """
        sequences, alpha, beta, visits = self._read(batch)
        shares = logit_shares(alpha, beta, visits, self.output.weight)
        k, l = sequences.mask.nonzero(as_tuple=True)
        B, T, M = batch.target.shape
        return shares.new_zeros(B, T, T, M).index_put(
            (sequences.b[k], sequences.t[k], sequences.place[k, l]), shares[k, l]
        )

    def attention(self, batch: VisitBatch, context: Context) -> Tensor:
        """Weight of visit ``j`` when visit ``t`` is predicted, ``(B, T, T)``, indexed ``[b, t, j]``."""
        sequences, alpha, _, _ = self._read(batch)
        k, l = sequences.mask.nonzero(as_tuple=True)
        B, T, _ = batch.target.shape
        return alpha.new_zeros(B, T, T).index_put((sequences.b[k], sequences.t[k], sequences.place[k, l]), alpha[k, l])

    def loss(self, batch: VisitBatch, context: Context) -> Tensor:
        """Binary cross-entropy, mean over the scored visits and their medications; a scalar."""
        sequences, alpha, beta, visits = self._read(batch)
        logits = self.output(context_vector(alpha, beta, visits))
        if not len(logits):
            return logits.sum()
        target = batch.target[sequences.b, sequences.t].to(logits.dtype)
        return nn.functional.binary_cross_entropy_with_logits(logits, target)

    def _read(self, batch: VisitBatch) -> tuple[_Sequences, Tensor, Tensor, Tensor]:
        """Attention weights ``(K, L)``, ``(K, L, d)`` and visits ``(K, L, d)`` of every target."""
        sequences = self._sequences(batch)
        visits = self._embed(batch)
        alpha_state, beta_state = self._states(visits, sequences)
        scores = self.alpha_score(alpha_state)[..., 0]
        alpha = visit_attention(scores, sequences.mask, self.config.alpha_axis)
        return sequences, alpha, self.beta_score(beta_state).tanh(), nn.functional.embedding(sequences.source, visits)

    def _states(self, visits: Tensor, sequences: _Sequences) -> tuple[Tensor, Tensor]:
        """What both GRUs say after each visit, ``(K, L, d)`` each, 0 at padding.

        They read the same visits, so they are one GRU of two parts: each visit is multiplied once, however many
        targets read it, and sequences that have ended are left out.
        """
        K, L, d = *sequences.mask.shape, self.config.size
        # Of each GRU: input weights (3 d, d), state weights (3 d, d), and their biases.
        both = zip(*(tuple(gru.parameters()) for gru in (self.alpha_gru, self.beta_gru)), strict=True)
        w_input, w_state, b_input, b_state = (torch.stack(pair) for pair in both)
        inputs = nn.functional.linear(visits, w_input.flatten(0, 1), b_input.flatten()).unflatten(1, (2, 3 * d))
        recurrent, bias = w_state.transpose(1, 2), b_state[:, None]
        longest_first = sequences.mask.sum(1).argsort(descending=True, stable=True)
        source = sequences.source[longest_first]
        going = sequences.mask.sum(0).tolist()
        state, states = visits.new_zeros(2, K, d), []
        for step, n in enumerate(going):
            given = inputs.index_select(0, source[:n, step]).transpose(0, 1)
            state = state[:, :n]
            of_state = torch.baddbmm(bias, state, recurrent)
            reset, update = (given[..., : 2 * d] + of_state[..., : 2 * d]).sigmoid().chunk(2, dim=-1)
            new = (given[..., 2 * d :] + reset * of_state[..., 2 * d :]).tanh()
            state = new + update * (state - new)
            states.append(nn.functional.pad(state, (0, 0, 0, K - n)))
        grid = torch.stack(states, dim=2)[:, longest_first.argsort()] if states else visits.new_zeros(2, K, L, d)
        return grid[0], grid[1]

    def _sequences(self, batch: VisitBatch) -> _Sequences:
        B, T = batch.visit_mask.shape
        b, t = self.scored(batch).nonzero(as_tuple=True)
        last = t if self.config.inputs == "with_current" else t - 1
        L = int(last.max()) + 1 if len(last) else 1
        step = torch.arange(L, device=b.device)
        mask = step <= last[:, None]
        place = (last[:, None] - step if self.config.reverse_time else step.expand(len(b), L)).clamp(min=0)
        source = b[:, None] * T + torch.where(mask, place, 0)
        if self.config.inputs == "with_current":
            source = source + torch.where(mask & (place == t[:, None]), B * T, 0)
        return _Sequences(b, t, source, mask, place)

    def _embed(self, batch: VisitBatch) -> Tensor:
        """Sum of the embeddings of each visit's codes, dropped out one by one: ``(B T, d)``, past visits.

        For ``with_current`` another ``B T`` rows follow: the same visits without their medications.
        """
        B, T = batch.visit_mask.shape
        current = self.config.inputs == "with_current"
        ids = torch.cat([batch.codes[kind] + self.starts[kind] for kind in self.kinds], dim=-1)
        real = torch.cat([batch.codes[kind] < batch.sizes[kind] for kind in self.kinds], dim=-1)
        if not current:
            # Nobody reads a patient's last visit.
            real[:, :-1] &= batch.visit_mask[:, 1:, None]
            real[:, -1] = False
        # Only real codes are looked up: rows are padded to the longest visit, most are far shorter.
        ids = ids[real]
        visit = real.reshape(B * T, -1).nonzero()[:, 0]
        rows = self.dropout(self.embedding(ids))
        past = segment_sums(rows, visit, B * T)
        if not current:
            return past
        seen = ids < self.starts["medication"]
        return torch.cat([past, segment_sums(rows[seen], visit[seen], B * T)])


SYSTEM = System(
    name="retain",
    label="RETAIN",
    family="sequence",
    cls=RETAIN,
    config=RETAINConfig,
    sees="all codes of earlier visits, none of the visit itself; skips first visits",
    small={
        "learning_rate": 0.004,
        "batch_size": 32,
        "dropout": 0.5,
        "schedule": "constant",
        "weight_decay": 0.0,
        "epochs": 400,
    },
    variants=VARIANTS,
    citation="choi2016retain",
    seconds_per_epoch=1,
    rows=(
        Row("retain", "RETAIN", "retain"),
        Row("features", "softmax over features", "retain", settings={"alpha_axis": "features"}),
        Row("forward", "visits read forward", "retain", settings={"reverse_time": False}),
        Row("official", "official", "retain", "official"),
        Row("current", "with the visit itself", "retain", settings={"inputs": "with_current"}),
    ),
    sees_today=lambda config: config.inputs == "with_current",
)
