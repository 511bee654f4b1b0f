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
How a list is read off the writer is another (``writing``), and costs no training:

* ``greedy``, as published: at each step the most probable medication that is not on the list yet, until the end sign
  or ``max_len``.  The score of a medication is its probability averaged over the steps, the one that ended the list
  among them; sets do not come from thresholding it.
* ``chain``: a question for each medication in the order of the lists, is it there, given the answers so far?  Its
  probability is :func:`medrec.nn.lists.chances`; those that reach ``threshold`` are written.
* ``samples``: the share of sixteen drawn lists that hold it.

A list of fixed order that is written greedily becomes too long (:mod:`medrec.nn.lists`).  With ``chain`` and
``samples`` every medication has one probability, so that all goes as for other systems: epochs are chosen by the sets
at ``threshold``, the house tunes the cut on validation patients.  The answers of a chain that lead to a medication
stay those given at ``threshold`` whatever the tuned cut.  At the papers' size ``paper`` is read as a chain, because
that is what ``medrec tune`` chose; ``official``, and small cohorts, keep the greedy list.

Switches (``paper`` → ``official``, the re-implementation in the medication recommendation literature):

* ``attention``: additive, :math:`s = v^\top \tanh(U [h \,\|\, e])` → linear, :math:`s = w^\top [h \,\|\, e]`, where the
  part of :math:`h` is the same for all diagnoses and cancels: attention cannot follow the decoder.
* ``keep_attention``: diagnoses are attended to at every step → their embeddings are overwritten by the first context,
  which is all that later steps attend to.  With linear attention this changes nothing: the context never changed.
* ``order``: descending frequency among training visits → as it stands in the ``record``, which in our cohorts is
  ``class_code``, as codes of a visit are sorted; also ``rare_first``.
* ``max_len``: the 95th percentile of training visits → 20.

Deviations.  The paper's second stage, reinforcement with a reward for completeness and safety, is not in the
published comparisons (off in released code, where the sign of its safety factor is turned: only sets *with* an
interaction are rewarded) and not here.  In writing, released code feeds the decoder with the most probable medication
even if it is on the list already, and repairs the list afterwards; here what is fed is what is written.  Released
scores average over all 20 steps, ended or not.  The linear score has no bias, which would cancel as the state does.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from medrec.arguments import Limit
from medrec.context import Context
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Cohort
from medrec.models.base import Recommender, Row, System, TrainingConfig
from medrec.nn.dropout import Dropout
from medrec.nn.lists import SAMPLES, ask, chances, gumbel, in_order, in_sets, ranks
from medrec.nn.set_attention import masked_softmax


@dataclass(frozen=True)
class LEAPConfig(TrainingConfig):
    """Settings of LEAP."""

    size: int = 64  # width of embeddings and state; released code (128 in GAMENet's repository)
    dropout: float = 0.0  # on each embedding; `medrec tune`; released code 0.3
    attention: Literal["additive", "linear"] = "additive"  # see the module; paper
    keep_attention: bool = True  # see the module; paper
    order: Literal["frequency", "rare_first", "class_code", "record"] = "frequency"  # of the lists; `medrec tune`
    writing: Literal["greedy", "chain", "samples"] = "chain"  # see the module; `medrec tune`; paper "greedy"
    max_len: Limit = 0  # medications on a greedy list at most; 0: the 95th percentile of training visits; ours
    threshold: float = 0.4  # of chain and samples: from which a medication is recommended; ours
    learning_rate: float = 8e-3  # `medrec tune`; released code 5e-4, one visit a step
    batch_size: int = 16  # patients a step; `medrec tune`
    schedule: Literal["constant", "cosine"] = "cosine"  # `medrec tune`
    weight_decay: float = 1e-4  # `medrec tune`
    epochs: int = 16  # `medrec tune`: its budget of steps, after which the learning rate is 0


VARIANTS = {
    "paper": {},
    "official": {"attention": "linear", "keep_attention": False, "order": "record", "writing": "greedy", "max_len": 20},
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
    """What the decoder of ``N`` visits may attend to: ``n`` diagnoses, visit behind visit."""

    codes: Tensor  # (n, d)
    keys: Tensor  # (n, d) U e of additive attention; else (n,) scores, which the state does not change
    visit: Tensor  # (n,) whose it is
    place: Tensor  # (n,) where it stands in a grid of visits and their codes, row by row
    start: Tensor  # (N,) where each visit begins
    every: Tensor  # (n,) 0, 1, ...
    width: int  # of the grid

    @classmethod
    def of_codes(cls, real: Tensor, codes: Tensor, keys: Tensor) -> _Memory:
        """Codes ``(n, d)`` where ``real`` ``(N, C)`` holds."""
        visit, place = real.nonzero(as_tuple=True)
        count, C = real.sum(1), real.shape[1]
        start, every = count.cumsum(0) - count, torch.arange(len(visit), device=real.device)
        return cls(codes, keys, visit, visit * C + place, start, every, C)

    def first(self, n: int, m: int) -> _Memory:
        """The memory of the first ``n`` visits, which have ``m`` codes."""
        codes, keys, visit, place = self.codes[:m], self.keys[:m], self.visit[:m], self.place[:m]
        return _Memory(codes, keys, visit, place, self.start[:n], self.every[:m], self.width)

    def of(self, keep: Tensor) -> _Memory:
        """The memory of the visits where ``keep`` ``(N,)`` holds."""
        there = keep[self.visit]
        real = torch.zeros(len(keep), self.width, dtype=torch.bool, device=keep.device).flatten()
        real = real.index_fill(0, self.place, True).view(len(keep), self.width)[keep]
        return _Memory.of_codes(real, self.codes[there], self.keys[there])

    def softmax(self, scores: Tensor) -> Tensor:
        """Softmax of scores ``(n,)`` within each visit."""
        grid = scores.new_full((len(self.start) * self.width,), torch.finfo(scores.dtype).min)
        grid = grid.index_copy(0, self.place, scores).view(len(self.start), self.width)
        return grid.softmax(-1).flatten().index_select(0, self.place)

    def sums(self, rows: Tensor, weights: Tensor | None = None) -> Tensor:
        """Weighted sums of rows ``(n, d)`` over each visit, ``(N, d)``; 0 where there is none."""
        return nn.functional.embedding_bag(self.every, rows, self.start, mode="sum", per_sample_weights=weights)


class _Taught(torch.autograd.Function):
    r"""States along given lists, with additive attention at each step; the gradient is written out.

    The same as a loop over :func:`additive_scores`, :func:`attend` and the GRU's cell.  What autograd would keep and
    add up at every one of some forty steps takes more time than the arithmetic, and here gradients of the weights are
    one product over all steps.  Of :math:`\tanh x = 2 \sigma(2 x) - 1` the constant cancels in the softmax, so the
    quicker
    :math:`\sigma` stands for it.

    ``S`` steps of ``N`` lists lie one behind the other, first steps of all lists in front; ``going[k]`` lists have a
    step ``k``, and these are the first ones.
    """

    @staticmethod
    def forward(
        ctx: Any,
        tokens: Tensor,
        codes: Tensor,
        inner: Tensor,
        outer: Tensor,
        w_input: Tensor,
        w_state: Tensor,
        b_input: Tensor,
        b_state: Tensor,
        memory: _Memory,
        going: list[int],
    ) -> Tensor:
        """Tokens ``(S, d)``, codes ``(n, d)``, weights of the attention and of the cell → states ``(S, d)``."""
        d = tokens.shape[1]
        keys = codes @ (2 * inner[:, d:].T)
        inputs = torch.addmm(b_input, tokens, w_input[:, d:].T)
        # State to gates and to query at once.
        w_both, b_both = torch.cat([w_state, 2 * inner[:, :d]]), nn.functional.pad(b_state, (0, d))
        w_context, twice = w_input[:, :d].T.contiguous(), 2 * outer
        state, kept = tokens[: going[0]], []
        starts = [*memory.start.tolist(), len(codes)]
        for n, given in zip(going, inputs.split(going), strict=True):
            before, part = state[:n], memory.first(n, starts[n])
            both = torch.addmm(b_both, before, w_both.T)
            hidden = both[:, 3 * d :].index_select(0, part.visit).add_(keys[: starts[n]]).sigmoid_()
            weights = part.softmax(hidden @ twice)
            context = part.sums(part.codes, weights)
            given = torch.addmm(given, context, w_context)
            gates = (given[:, : 2 * d] + both[:, : 2 * d]).sigmoid_()
            new = torch.addcmul(given[:, 2 * d :], gates[:, :d], both[:, 2 * d : 3 * d]).tanh_()
            state = torch.lerp(new, before, gates[:, d:])
            kept.append((part, before, both[:, 2 * d : 3 * d], hidden, weights, context, gates, new, state))
        ctx.save_for_backward(tokens, codes, inner, outer, w_input, w_both)
        ctx.kept, ctx.going = kept, going
        return torch.cat([step[-1] for step in kept])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tokens, codes, inner, outer, w_input, w_both = ctx.saved_tensors
        d, going = tokens.shape[1], ctx.going
        grad_keys, grad_codes = torch.zeros_like(codes), torch.zeros_like(codes)
        grad_inputs, grad_both = grad.new_empty(len(grad), 3 * d), grad.new_empty(len(grad), 4 * d)
        grad_outer, carried = torch.zeros_like(outer), grad[:0]
        w_context, twice = w_input[:, :d].contiguous(), 2 * outer
        ends = list(accumulate(going))
        for n, end, step in zip(reversed(going), reversed(ends), reversed(ctx.kept), strict=True):
            part, before, recurrent, hidden, weights, _, gates, new, _ = step
            own = grad[end - n : end].clone()
            own[: len(carried)] += carried
            # The cell.
            to_inputs, to_both = grad_inputs[end - n : end], grad_both[end - n : end]
            inside = torch.ops.aten.tanh_backward(own * (1 - gates[:, d:]), new)
            of_gates = torch.cat([inside * recurrent, own * (before - new)], dim=1)
            of_gates = torch.ops.aten.sigmoid_backward(of_gates, gates)
            to_inputs[:, : 2 * d], to_inputs[:, 2 * d :] = of_gates, inside
            to_both[:, : 2 * d], to_both[:, 2 * d : 3 * d] = of_gates, inside * gates[:, :d]
            # Attention.
            of_context = (to_inputs @ w_context).index_select(0, part.visit)
            of_weights = (part.codes * of_context).sum(1)
            mean = part.sums((weights * of_weights)[:, None])[:, 0]
            of_scores = weights * (of_weights - mean.index_select(0, part.visit))
            grad_codes[: len(hidden)].addcmul_(of_context, weights[:, None])
            of_hidden = torch.ops.aten.sigmoid_backward(of_scores[:, None] * twice, hidden)
            grad_keys[: len(hidden)] += of_hidden
            grad_outer.addmv_(hidden.T, of_scores)
            to_both[:, 3 * d :] = part.sums(of_hidden)
            carried = torch.addmm(own * gates[:, d:], to_both, w_both)
        befores = torch.cat([step[1] for step in ctx.kept])
        contexts = torch.cat([step[5] for step in ctx.kept])
        grad_tokens = grad_inputs @ w_input[:, d:]
        grad_tokens[: len(carried)] += carried
        grad_codes.addmm_(grad_keys, 2 * inner[:, d:])
        grad_w_both = grad_both.T @ befores
        grad_inner = torch.cat([grad_w_both[3 * d :], grad_keys.T @ codes], dim=1) * 2
        grad_w_input = torch.cat([grad_inputs.T @ contexts, grad_inputs.T @ tokens], dim=1)
        grad_b_state = grad_both[:, : 3 * d].sum(0)
        return (
            *(grad_tokens, grad_codes, grad_inner, 2 * grad_outer),
            *(grad_w_input, grad_w_both[: 3 * d], grad_inputs.sum(0), grad_b_state),
            *(None, None),
        )


@dataclass(frozen=True)
class _Going:
    """Lists that are being written, ``n`` of ``N``."""

    rows: Tensor  # (n,) which ones
    hidden: Tensor  # (n, d)
    context: Tensor  # (n, d) the last one
    memory: _Memory

    def of(self, keep: Tensor) -> _Going:
        """Those where ``keep`` ``(n,)`` holds."""
        if keep.all():
            return self
        return _Going(self.rows[keep], self.hidden[keep], self.context[keep], self.memory.of(keep))


@dataclass(frozen=True)
class _Written:
    """Lists of ``N`` visits."""

    scores: Tensor  # (N, M) what is said of each medication; see the module
    lists: Tensor  # (N, K) medications in the order in which they were written, then M


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
    GRU's cell; the output layer ``(M + 2, d)``.  Counted in :meth:`prepare`: the rank of each medication in the
    order of lists ``(M,)``, and how long a greedy list may be.

    Args:
        config: its settings.
        context: sizes of the vocabularies; nothing else of it is read.
    """

    config: LEAPConfig
    rank: Tensor
    longest: Tensor

    def __init__(self, config: LEAPConfig, context: Context) -> None:
        super().__init__(config, context)
        self.tunable = config.writing != "greedy"
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
        self.rank.copy_(torch.from_numpy(ranks(counts, self.config.order)))
        if not self.config.max_len:
            self.longest.fill_(int(np.ceil(np.quantile(given.lengths, 0.95))))

    # -- decoder

    def _remember(self, batch: VisitBatch, at: Tensor | tuple[Tensor, Tensor]) -> _Memory:
        """Memory of the visits ``at``: bool ``(B, T)``, or their places in the batch."""
        ids = batch.codes["diagnosis"][at]
        real = ids < batch.sizes["diagnosis"]
        codes = self.dropout(self.codes(ids[real]))
        if self.config.attention == "additive":
            keys = codes @ self.inner.weight[:, self.config.size :].T
        else:
            keys = codes @ self.score.weight[0, self.config.size :]
        return _Memory.of_codes(real, codes, keys)

    @property
    def _follows(self) -> bool:
        """Whether attention changes from step to step; else its first context serves all of them."""
        return self.config.attention == "additive" and self.config.keep_attention

    def _context(self, state: Tensor, memory: _Memory) -> Tensor:
        """What is attended to from states ``(N, d)``, ``(N, d)``."""
        scores = memory.keys
        if self.config.attention == "additive":
            query = state @ self.inner.weight[:, : self.config.size].T
            scores = (query.index_select(0, memory.visit) + memory.keys).tanh() @ self.score.weight[0]
        return memory.sums(memory.codes, memory.softmax(scores))

    def _teacher_forced(self, batch: VisitBatch, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of all steps with the true lists given, ``(S, M + 2)``, what was to be written, and of which visit.

        Steps stand one behind the other: the first of every list, the second of every list that has one, ...; visits
        are counted from that with the longest list on.
        """
        target = self.lists(batch)[at]
        length = (target >= 0).sum(1)
        longest_first = length.argsort(descending=True, stable=True)
        target = target[longest_first].T
        step, visit = (target >= 0).nonzero(as_tuple=True)
        written = torch.cat([torch.full_like(target[:1], self.start), target[:-1]])[step, visit]
        # Lists end, and the longest stand in front: at each step the first ones go on.
        going = (target >= 0).sum(1).tolist()
        tokens = self.dropout(self.tokens(written))
        b, t = at.nonzero(as_tuple=True)
        memory = self._remember(batch, (b[longest_first], t[longest_first]))
        if self._follows:
            attention, cell = (self.inner.weight, self.score.weight[0]), self.cell
            weights = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
            states = _Taught.apply(tokens, memory.codes, *attention, *weights, memory, going)
        else:
            state, every = tokens[: going[0]], []
            context = self._context(state, memory)
            for token in tokens.split(going):
                n = len(token)
                state = self.cell(torch.cat([context[:n], token], dim=-1), state[:n])
                every.append(state)
            states = torch.cat(every)
        return self.output(states.relu()), target[step, visit], visit

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

    # -- writing

    def write(self, batch: VisitBatch, at: Tensor) -> _Written:
        """Lists of the visits ``at`` ``(B, T)`` bool."""
        memory = self._remember(batch, at)
        if self.config.writing == "chain":
            return self._chain(memory)
        if self.config.writing == "samples":
            return self._samples(memory)
        return self._greedy(memory, int(self.longest))

    def _begin(self, memory: _Memory) -> _Going:
        rows = torch.arange(len(memory.start), device=memory.start.device)
        hidden = self.dropout(self.tokens(torch.full_like(rows, self.start)))
        return _Going(rows, hidden, self._context(hidden, memory), memory)

    def _next(self, word: Tensor, at: _Going) -> tuple[Tensor, _Going]:
        """Logits ``(n, M + 2)`` of what follows ``word`` ``(n,)``."""
        token = self.dropout(self.tokens(word))
        context = self._context(at.hidden, at.memory) if self._follows else at.context
        hidden = self.cell(torch.cat([context, token], dim=-1), at.hidden)
        return self.output(hidden.relu()), _Going(at.rows, hidden, context, at.memory)

    def _greedy(self, memory: _Memory, longest: int, noise: Tensor | None = None) -> _Written:
        """Word after word the most probable one that is not on the list yet, until it is the end.

        Args:
            memory: of ``N`` visits.
            longest: medications on a list at most.
            noise: ``(longest, M + 2)`` Gumbel noise that makes each word a draw.
        """
        N, M, at = len(memory.start), self.n_medications, self._begin(memory)
        total, count = at.hidden.new_zeros(N, M), at.hidden.new_zeros(N, 1)
        used = torch.zeros(N, M + 2, dtype=torch.bool, device=at.rows.device)
        used[:, self.start] = True
        word, lists = torch.full_like(at.rows, self.start), []
        for number in range(longest):
            logits, at = self._next(word, at)
            total[at.rows] += logits.softmax(-1)[:, :M]
            count[at.rows] += 1
            logits = logits.masked_fill(used[at.rows], -torch.inf)
            word = (logits if noise is None else logits + noise[number]).argmax(-1)
            lists.append(torch.full((N,), M, device=word.device).index_copy(0, at.rows, word.clamp(max=M)))
            going = word != self.end
            at, word = at.of(going), word[going]
            used[at.rows, word] = True
            if not len(at.rows):
                break
        return _Written(total / count.clamp(min=1), torch.stack(lists, 1))

    def _chain(self, memory: _Memory) -> _Written:
        """One question for each medication, in the fixed order; what is answered with yes is written."""
        N, M, at = len(memory.start), self.n_medications, self._begin(memory)
        scores = at.hidden.new_zeros(N, M)
        order = self.rank.argsort()
        word, asked = torch.full_like(at.rows, self.start), torch.zeros_like(at.rows)
        while len(at.rows):
            logits, at = self._next(word, at)
            logits[:, self.start] = -torch.inf
            prob = logits.softmax(-1)
            chance = chances(prob[:, order], prob[:, self.end])
            answered, yes = ask(chance, asked, self.config.threshold)
            scores[at.rows] = torch.where(answered, chance, scores[at.rows])
            going = yes < M
            at, asked, word = at.of(going), yes[going] + 1, order[yes[going]]
        scores = scores[:, self.rank]  # so far in the order of the questions
        return _Written(scores, in_order(scores >= self.config.threshold, self.rank))

    def _samples(self, memory: _Memory) -> _Written:
        """How many of :data:`medrec.nn.lists.SAMPLES` drawn lists hold each medication."""
        M = self.n_medications
        noise = gumbel((SAMPLES, M + 1, M + 2)).to(memory.codes)
        drawn = [in_sets(self._greedy(memory, M + 1, table).lists, M) for table in noise]
        scores = torch.stack(drawn).to(noise.dtype).mean(0)
        return _Written(scores, in_order(scores >= self.config.threshold, self.rank))

    # -- output

    def forward(self, batch: VisitBatch, context: Context) -> Tensor:
        """Logits of the scores of the written lists, ``(B, T, M)``."""
        at = batch.visit_mask
        return _on_grid(self.write(batch, at).scores.logit(1e-6), at)

    def decide(self, batch: VisitBatch, context: Context) -> tuple[Tensor, Tensor]:
        """Scores and written sets, both ``(B, T, M)``."""
        at = self.scored(batch)
        written = self.write(batch, at)
        return _on_grid(written.scores, at), _on_grid(in_sets(written.lists, self.n_medications), at)

    def explain(self, batch: VisitBatch, context: Context) -> pl.DataFrame:
        """Which diagnoses of one patient's last visit were attended to when each medication was written.

        Returns:
            ``medication`` (code), ``kind`` (``attention``), ``what`` (title of the diagnosis), ``weight``; they add up
            to 1 for each medication on the list.
        """
        last = torch.zeros_like(batch.visit_mask)
        last[0, int(batch.visit_mask[0].sum()) - 1] = True
        lists = self.write(batch, last).lists
        listed = lists[0][lists[0] < self.n_medications].tolist()
        diagnoses = batch.codes["diagnosis"][last][0]
        titles = context.vocab["diagnosis"].titles
        ids = diagnoses[diagnoses < batch.sizes["diagnosis"]].tolist()
        weights = self.attention(batch, last, lists)[0, : len(listed), : len(ids)]
        codes = context.vocab["medication"].codes
        return pl.DataFrame(
            {
                "medication": [codes[m] for m in listed for _ in ids],
                "kind": ["attention"] * (len(listed) * len(ids)),
                "what": [titles[i] for i in ids] * len(listed),
                "weight": weights.reshape(-1).double().cpu().numpy(),
            },
            schema={"medication": pl.String, "kind": pl.String, "what": pl.String, "weight": pl.Float64},
        )

    def attention(self, batch: VisitBatch, at: Tensor, lists: Tensor) -> Tensor:
        """Weights of the diagnoses at each word of lists ``(N, K)`` of the visits ``at``, ``(N, K, C)``."""
        ids = batch.codes["diagnosis"][at]
        mask = ids < batch.sizes["diagnosis"]
        codes = self.codes(ids.clamp(max=batch.sizes["diagnosis"] - 1))
        token = self.tokens(torch.full_like(batch.visits[at], self.start))
        state, found = token, list[Tensor]()
        context = torch.zeros_like(state)
        for words in lists.unbind(1):
            if self._follows or not found:
                if self.config.attention == "linear":
                    scores = linear_scores(state, codes, self.score.weight[0])
                else:
                    scores = additive_scores(state, codes, self.inner.weight, self.score.weight[0])
                weights, context = attend(scores, codes, mask)
            # What was overwritten is seen through its first context for ever.
            found.append(weights)
            state = self.cell(torch.cat([context, token], dim=-1), state)
            token = self.tokens(words)
        return torch.stack(found, 1) if found else codes.new_empty(len(ids), 0, ids.shape[1])

    # -- loss

    def loss(self, batch: VisitBatch, context: Context) -> Tensor:
        """Cross-entropy, mean over the steps of a list and then over visits."""
        logits, target, visit = self._teacher_forced(batch, self.scored(batch))
        losses = nn.functional.cross_entropy(logits, target, reduction="none")
        length = visit.bincount()
        return (losses / length[visit]).sum() / len(length)


def _on_grid(rows: Tensor, at: Tensor) -> Tensor:
    """Rows ``(N, ...)`` of the visits ``at`` ``(B, T)``, 0 or False elsewhere."""
    grid = rows.new_zeros(*at.shape, *rows.shape[1:])
    return grid.index_put(at.nonzero(as_tuple=True), rows)


GREEDY = {"writing": "greedy"}
"""Of its rows but for the chains: as published."""

SYSTEM = System(
    name="leap",
    label="LEAP",
    family="sequence",
    cls=LEAP,
    config=LEAPConfig,
    sees="diagnoses of the visit itself",
    small={
        "learning_rate": 0.004,
        "batch_size": 32,
        "dropout": 0.3,
        "writing": "greedy",
        "schedule": "constant",
        "weight_decay": 0.0,
        "epochs": 50,
    },
    variants=VARIANTS,
    citation="zhang2017leap",
    seconds_per_epoch=4,
    searched={"order": ("frequency", "rare_first", "class_code"), "writing": ("greedy", "chain")},
    rows=(
        Row("leap", "LEAP", "leap", settings=GREEDY),
        Row("linear", "linear attention", "leap", settings=GREEDY | {"attention": "linear"}),
        Row("overwritten", "memory overwritten", "leap", settings=GREEDY | {"keep_attention": False}),
        Row("rare-first", "rare first", "leap", settings=GREEDY | {"order": "rare_first"}),
        Row("record", "order of the record", "leap", settings=GREEDY | {"order": "record"}),
        Row("official", "official", "leap", "official"),
        Row("chain", "chain of questions", "leap", settings={"writing": "chain"}),
        Row("class-code", "chain, class-code order", "leap", settings={"order": "class_code", "writing": "chain"}),
    ),
)
