r"""LEAP: a prescription is written one medication after another, with an eye on the diagnoses.

Zhang et al., "LEAP: learning to prescribe effective and safe treatment combinations for multimorbidity", KDD 2017.
Book: :eq:`eq-leap-attention`, :eq:`eq-leap-scores`.

.. math::
    a_{ki} = \operatorname{softmax}_i\, s(h_{k-1}, e_i), \qquad
    c_k = \sum_i a_{ki}\, e_i, \qquad
    h_k = \operatorname{GRU}([c_k \,\|\, u_{m_{k-1}}],\, h_{k-1}), \qquad
    P(m_k) = \operatorname{softmax}(W \operatorname{ReLU}(h_k) + b)

with :math:`e_i` the embedded diagnoses of the visit, :math:`u` those of medications, a start sign (:math:`m_0`, and
:math:`h_0 = u_{m_0}`) and an end sign.  Procedures and history are not seen.

Training: cross-entropy of every step, the true medications before it being given; their order is a choice (``order``).
A list is written greedily: at each step the most probable medication that is not on it yet, until the end sign or
``max_len``.  The score of a medication is its probability averaged over the steps, the one that ended the list among
them; sets do not come from thresholding it.

Switches (``paper`` → ``official``, the re-implementation in the medication recommendation literature):

* ``attention``: additive, :math:`s = v^\top \tanh(U [h \,\|\, e])` → linear, :math:`s = w^\top [h \,\|\, e]`, where the
  part of :math:`h` is the same for all diagnoses and cancels: attention cannot follow the decoder.
* ``keep_attention``: diagnoses are attended to at every step → their embeddings are overwritten by the first context,
  which is all that later steps attend to.  With linear attention this changes nothing: the context never changed.
* ``order``: descending frequency among training visits → as recorded.
* ``max_len``: the 95th percentile of training visits → 20.

Deviations.  The paper's second stage, reinforcement with a reward for completeness and safety, is not in the
published comparisons (off in released code, where the sign of its safety factor is turned: only sets *with* an
interaction are rewarded) and not here.  In writing, released code feeds the decoder with the most probable medication
even if it is on the list already, and repairs the list afterwards; here what is fed is what is written.  Released
scores average over all 20 steps, ended or not.  The linear score has no bias, which would cancel as the state does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrec.arguments import Limit
from medrec.context import Context
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Cohort
from medrec.models.base import Recommender, Row, System, TrainingConfig
from medrec.nn.dropout import Dropout
from medrec.nn.set_attention import masked_softmax


@dataclass(frozen=True)
class LEAPConfig(TrainingConfig):
    """Settings of LEAP."""

    size: int = 64  # width of embeddings and state; released code (128 in GAMENet's repository)
    dropout: float = 0.3  # on each embedding; released code
    attention: Literal["additive", "linear"] = "additive"  # see the module; paper
    keep_attention: bool = True  # see the module; paper
    order: Literal["frequency", "rare_first", "record"] = "frequency"  # of the medications to be written; ours
    max_len: Limit = 0  # medications on a list at most; 0: the 95th percentile of training visits; ours
    learning_rate: float = 1e-3  # chosen on validation, grid `rates`; released code 5e-4, one visit a step
    batch_size: int = 64  # patients a step; ours, with `epochs` as many steps as BiMoRec's at the papers' size
    epochs: int = 10  # at most; ours, see `batch_size`


VARIANTS = {
    "paper": {},
    "official": {"attention": "linear", "keep_attention": False, "order": "record", "max_len": 20},
}
"""Switches of each variant."""


def linear_scores(state: Tensor, codes: Tensor, weight: Tensor) -> Tensor:
    r"""Scores of diagnoses, :math:`s_i = w^\top [h \,\|\, e_i]`; up to a constant they do not depend on the state.

    Source: released code.

    Args:
        state: ``(N, d)``.
        codes: ``(N, C, d)``.
        weight: ``(2 d,)``.

    Returns:
        ``(N, C)``.
    """
    d = state.shape[-1]
    return codes @ weight[d:] + (state @ weight[:d])[:, None]


def additive_scores(state: Tensor, codes: Tensor, inner: Tensor, outer: Tensor) -> Tensor:
    r"""Scores of diagnoses, :math:`s_i = v^\top \tanh(U [h \,\|\, e_i])`.

    Source: attention of Bahdanau et al. 2015, as LEAP describes it.

    Args:
        state: ``(N, d)``.
        codes: ``(N, C, d)``.
        inner: ``(k, 2 d)``, :math:`U`.
        outer: ``(k,)``, :math:`v`.

    Returns:
        ``(N, C)``.
    """
    d = state.shape[-1]
    return (codes @ inner[:, d:].T + (state @ inner[:, :d].T)[:, None]).tanh() @ outer


def attend(scores: Tensor, codes: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    r"""Weights and context, :math:`a = \operatorname{softmax}(s)`, :math:`c = \sum_i a_i e_i`.

    Source: LEAP.

    Args:
        scores: ``(N, C)``.
        codes: ``(N, C, d)``.
        mask: ``(N, C)`` bool, True for real codes.

    Returns:
        ``(N, C)``, 0 at padding, and ``(N, d)``; both 0 for a row without codes.
    """
    weights = masked_softmax(scores, mask)
    return weights, torch.einsum("nc,ncd->nd", weights, codes)


@dataclass(frozen=True)
class _Memory:
    """What the decoder of ``N`` visits may attend to."""

    codes: Tensor  # (N, C, d)
    mask: Tensor  # (N, C)


@dataclass(frozen=True)
class _Written:
    """Lists of ``N`` visits."""

    scores: Tensor  # (N, M) mean probability over the steps of each list
    sets: Tensor  # (N, M) bool
    steps: Tensor  # (N, K) what was written, M + 1 = end, M + 2 = nothing any more
    weights: Tensor  # (N, K, C) attention to the diagnoses at each step


class LEAP(Recommender):
    r"""A GRU that writes a list of medications, attending to the diagnoses of the visit at each step.

    .. math::
        c_k = \sum_i \operatorname{softmax}_i\big(s(h_{k-1}, e_i)\big)\, e_i, \qquad
        h_k = \operatorname{GRU}([c_k \,\|\, u_{m_{k-1}}],\, h_{k-1}), \qquad
        P(m_k) = \operatorname{softmax}(W \operatorname{ReLU}(h_k) + b)

    Each of ``N`` visits is a list of its own: diagnoses ``(N, C, d)``, states ``(N, d)``, and at each of ``K`` steps
    logits ``(N, K, M + 2)`` of all medications, the start sign and the end sign.  Out come scores as logits
    ``(B, T, M)``, and from :meth:`decide` the written sets.

    Learnt: embeddings of diagnoses ``(D, d)`` and of what can be written ``(M + 2, d)``; the attention's score; the
    GRU's cell; the output layer ``(M + 2, d)``.  Counted in :meth:`prepare`: the rank of each medication by frequency
    ``(M,)``, and how long a list may be.

    Args:
        config: its settings.
        context: sizes of the vocabularies; nothing else of it is read.
    """

    config: LEAPConfig
    rank: Tensor
    longest: Tensor
    tunable = False

    def __init__(self, config: LEAPConfig, context: Context) -> None:
        super().__init__(config, context)
        d, self.n_medications = config.size, context.sizes["medication"]
        self.start, self.end = self.n_medications, self.n_medications + 1
        self.codes = nn.Embedding(context.sizes["diagnosis"], d)
        self.tokens = nn.Embedding(self.n_medications + 2, d)
        if config.attention == "additive":
            self.inner = nn.Linear(2 * d, d, bias=False)
        self.score = nn.Linear(d if config.attention == "additive" else 2 * d, 1, bias=False)
        self.cell = nn.GRUCell(2 * d, d)
        self.output = nn.Linear(d, self.n_medications + 2)
        self.dropout = Dropout(config.dropout)
        # Until they are counted: medications in the order of their ids, and as many as there are.
        self.register_buffer("rank", torch.arange(self.n_medications))
        self.register_buffer("longest", torch.tensor(config.max_len or self.n_medications))

    def prepare(self, cohort: Cohort, train: NDArray[np.integer], context: Context) -> None:
        """Count medications of training visits: how frequent each is, and how many a visit has."""
        given = cohort.select(train).codes["medication"]
        counts = np.bincount(given.values, minlength=self.n_medications)
        order = np.argsort(-counts if self.config.order == "frequency" else counts, kind="stable")
        rank = np.empty(self.n_medications, dtype=np.int64)
        rank[order] = np.arange(self.n_medications)
        self.rank.copy_(torch.from_numpy(rank))
        if not self.config.max_len:
            self.longest.fill_(int(np.ceil(np.quantile(given.lengths, 0.95))))

    # -- decoder

    def _remember(self, batch: VisitBatch, at: Tensor) -> _Memory:
        ids = batch.codes["diagnosis"][at]
        mask = ids < batch.sizes["diagnosis"]
        codes = self.dropout(self.codes(ids.clamp(max=batch.sizes["diagnosis"] - 1)))
        return _Memory(codes, mask)

    def _attend(self, state: Tensor, memory: _Memory) -> tuple[Tensor, Tensor]:
        if self.config.attention == "additive":
            scores = additive_scores(state, memory.codes, self.inner.weight, self.score.weight[0])
        else:
            scores = linear_scores(state, memory.codes, self.score.weight[0])
        return attend(scores, memory.codes, memory.mask)

    def _step(self, token: Tensor, state: Tensor, memory: _Memory) -> tuple[Tensor, Tensor, _Memory]:
        """State after one more token ``(N, d)``, attention weights, and what is left to attend to."""
        weights, context = self._attend(state, memory)
        state = self.cell(torch.cat([context, token], dim=-1), state)
        if not self.config.keep_attention:
            memory = _Memory(context[:, None], torch.ones_like(memory.mask[:, :1]))
        return state, weights, memory

    def _teacher_forced(self, batch: VisitBatch, at: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each step with the true list given, ``(N, K, M + 2)``, and what was to be written, ``(N, K)``.

        Behind the end sign there is nothing to be written: -1.
        """
        target = self.lists(batch)[at]
        written = torch.cat([torch.full_like(target[:, :1], self.start), target[:, :-1]], dim=1)
        tokens = self.dropout(self.tokens(written.clamp(min=0)))
        memory, state, states = self._remember(batch, at), tokens[:, 0], []
        for token in tokens.unbind(1):
            state, _, memory = self._step(token, state, memory)
            states.append(state)
        return self.output(torch.stack(states, dim=1).relu()), target

    def lists(self, batch: VisitBatch) -> Tensor:
        """What is to be written for each visit, ``(B, T, K)``: medications in order, the end sign, then -1."""
        ids = batch.codes["medication"]
        if self.config.order != "record":
            rank = torch.cat([self.rank, self.rank.new_tensor([self.n_medications])])
            ids = ids.gather(-1, rank[ids].argsort(-1))
        ids = torch.cat([ids, torch.full_like(batch.visits[..., None], self.n_medications)], dim=-1)
        number = (ids < self.n_medications).sum(-1, keepdim=True)
        ids = ids.scatter(-1, number, self.end)
        place = torch.arange(ids.shape[-1], device=ids.device)
        ids = torch.where(place <= number, ids, -1)
        return ids[..., : int(number.max()) + 1] if number.numel() else ids

    def write(self, batch: VisitBatch, at: Tensor) -> _Written:
        """Greedy lists of the visits ``at`` ``(B, T)`` bool."""
        memory = self._remember(batch, at)
        N = len(memory.mask)
        M, device = self.n_medications, memory.mask.device
        token = torch.full((N,), self.start, device=device)
        state = self.dropout(self.tokens(token))
        total, count = state.new_zeros(N, M), state.new_zeros(N, 1)
        used = torch.zeros(N, M + 2, dtype=torch.bool, device=device)
        used[:, self.start] = True
        going = torch.ones(N, dtype=torch.bool, device=device)
        steps: list[Tensor] = []
        weights: list[Tensor] = []
        rows = torch.arange(N, device=device)
        for _ in range(int(self.longest)):
            state, weight, memory = self._step(self.dropout(self.tokens(token)), state, memory)
            logits = self.output(state.relu())
            total = total + logits.softmax(-1)[:, :M] * going[:, None]
            count = count + going[:, None]
            token = logits.masked_fill(used, -torch.inf).argmax(-1)
            steps.append(torch.where(going, token, M + 2))
            # What was overwritten is seen through its first context for ever.
            weights.append(weight if self.config.keep_attention or not weights else weights[0])
            going = going & (token != self.end)
            used[rows, token] |= going
            if not going.any():
                break
        return _Written(total / count.clamp(min=1), used[:, :M], torch.stack(steps, 1), torch.stack(weights, 1))

    # -- output

    def forward(self, batch: VisitBatch, context: Context) -> Tensor:
        """Logits of the scores of the written lists, ``(B, T, M)``."""
        at = batch.visit_mask
        return _on_grid(self.write(batch, at).scores.logit(1e-6), at)

    def decide(self, batch: VisitBatch, context: Context) -> tuple[Tensor, Tensor]:
        """Scores and written sets, both ``(B, T, M)``."""
        at = self.scored(batch)
        written = self.write(batch, at)
        return _on_grid(written.scores, at), _on_grid(written.sets, at)

    def explain(self, batch: VisitBatch, context: Context) -> pl.DataFrame:
        """Which diagnoses of one patient's last visit were attended to when each medication was written.

        Returns:
            ``medication`` (code), ``kind`` (``attention``), ``what`` (title of the diagnosis), ``weight``; they add up
            to 1 for each medication on the list.
        """
        last = torch.zeros_like(batch.visit_mask)
        last[0, int(batch.visit_mask[0].sum()) - 1] = True
        written = self.write(batch, last)
        padded = batch.codes["diagnosis"][last][0]
        ids = padded[padded < batch.sizes["diagnosis"]].tolist()
        steps = written.steps[0]
        listed = (steps < self.n_medications).nonzero()[:, 0]
        medications, diagnoses = context.vocab["medication"].codes, context.vocab["diagnosis"].titles
        return pl.DataFrame(
            {
                "medication": [medications[m] for m in steps[listed].tolist() for _ in ids],
                "kind": ["attention"] * (len(listed) * len(ids)),
                "what": [diagnoses[i] for i in ids] * len(listed),
                "weight": written.weights[0, listed, : len(ids)].reshape(-1).double().cpu().numpy(),
            },
            schema={"medication": pl.String, "kind": pl.String, "what": pl.String, "weight": pl.Float64},
        )

    # -- loss

    def loss(self, batch: VisitBatch, context: Context) -> Tensor:
        """Cross-entropy, mean over the steps of a list and then over visits."""
        return _list_losses(*self._teacher_forced(batch, self.scored(batch))).mean()


def _list_losses(steps: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of the steps of each list, ``(N,)``."""
    losses = nn.functional.cross_entropy(steps.transpose(1, 2), target, ignore_index=-1, reduction="none")
    return losses.sum(1) / (target >= 0).sum(1)


def _on_grid(rows: Tensor, at: Tensor) -> Tensor:
    """Rows ``(N, ...)`` of the visits ``at`` ``(B, T)``, 0 or False elsewhere."""
    grid = rows.new_zeros(*at.shape, *rows.shape[1:])
    return grid.index_put(at.nonzero(as_tuple=True), rows)


SYSTEM = System(
    name="leap",
    label="LEAP",
    family="sequence",
    cls=LEAP,
    config=LEAPConfig,
    sees="diagnoses of the visit itself",
    small={"learning_rate": 0.004, "batch_size": 32, "epochs": 50},
    variants=VARIANTS,
    citation="zhang2017leap",
    seconds_per_epoch=4,
    rows=(
        Row("leap", "LEAP", "leap"),
        Row("linear", "linear attention", "leap", settings={"attention": "linear"}),
        Row("overwritten", "memory overwritten", "leap", settings={"keep_attention": False}),
        Row("rare-first", "rare first", "leap", settings={"order": "rare_first"}),
        Row("record", "order of the record", "leap", settings={"order": "record"}),
        Row("official", "official", "leap", "official"),
    ),
)
