r"""COGNet: a list of medications, each of them written anew or copied from an earlier visit.

Wu et al., "Conditional generation net for medication recommendation", WWW 2022.  Formulas are those of the released
code.

.. math::
    P(m) = g\, P_{gen}(m) + (1 - g)\, P_{copy}(m), \qquad
    P_{gen} = \operatorname{softmax}(W_o h), \qquad
    g = \sigma(w_z^\top h), \qquad
    P_{copy}(m) = \sum_{i:\, m_i = m} \operatorname{softmax}_i\Big(\frac{(W_c h)^\top e_i}{\sqrt d} + s_{t j(i)}\Big)

with :math:`h` the state of a decoder that has read the list so far (each medication with its row of a drug memory), the
diagnoses and the procedures; :math:`e_i` the medications of all earlier visits, encoded as the set they were given in;
:math:`s_{tj}` how much visit :math:`t` resembles the earlier visit :math:`j`.  At a first visit :math:`g = 1`.  Drug
memory: :math:`B = \operatorname{GCN}(A^{ehr}) - \lambda \operatorname{GCN}(A^{ddi})`, where interactions enter; the
loss knows none.

Released code multiplies a softmax over medications by one over visits and normalises again; that is the single softmax
above, and the empty slot that stands for "no earlier visit" drops out.  The end of a list cannot be copied.

Training: cross-entropy of every step, the true medications before it being given.  How a list is read off the writer
is a choice (``writing``) that costs no training:

* ``beam``, as released: beam search, no medication twice; scores of lists are not divided by their length.
  ``greedy`` follows one list.  The score of a medication is its probability at the step that wrote it, for those not
  on the list its highest one; sets do not come from thresholding it.
* ``chain``: a question for each medication in the order of the lists, is it there, given the answers so far?  Its
  probability is :func:`medrec.nn.lists.chances`; those that reach ``threshold`` are written.
* ``samples``: the share of sixteen drawn lists that hold it.

A sorted list that is written greedily or by beam becomes too long (:mod:`medrec.nn.lists`).  With ``chain`` and
``samples`` every medication has one probability, and all goes as for other systems: epochs are chosen by the sets at
``threshold``, the house tunes the cut on validation patients.  The answers of a chain that lead to a medication stay
those given at ``threshold`` whatever the tuned cut.  ``official`` keeps what was released; the search found lists in
class-code order, written greedily, which is what is declared.  The chapter compares the ways from the released one on.

Switches (``paper`` → ``official``, the repository of its authors):

* ``ehr_from``, ``rare_first_from``: graph and frequencies of the training visits → of all, the test patients' included;
* ``lambda_init``: small → ``garbage``: released code never sets it, so that it holds what was in memory;
* ``order``: by ``class_code`` → ``rare_first``; others are most ``frequency`` first and as in the ``record``, which in
  our cohorts is by class code, as codes of a visit are sorted;
* ``writing``: ``greedy`` → ``beam`` of 4.

Deviations.  The validation of released code writes greedily and strikes out repeats afterwards; here it is done like
the test.  Its attention weights are raised to at least 1e-9, which gives padding and later visits a trace of mass;
here they get none.  Its generator can write the start sign; here it cannot.  It counts the end sign as a medication;
here nothing does.  Visits without diagnoses or procedures, which its data cannot have, are read as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from medrec.arguments import Count, Few, Width, check_heads
from medrec.arguments import Dropout as DropoutRate
from medrec.context import Context
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Cohort, Kind
from medrec.models.base import Recommender, Row, System, TrainingConfig
from medrec.models.gamenet import co_prescription, row_normalised
from medrec.nn.dropout import Dropout, scale_of, scaled_mask
from medrec.nn.lists import SAMPLES, ask, chances, gumbel, in_order, in_sets, ranks
from medrec.nn.set_attention import masked_softmax


@dataclass(frozen=True)
class COGNetConfig(TrainingConfig):
    """Settings of COGNet."""

    size: int = 64  # width of embeddings and states; released code
    n_heads: int = 2  # of every attention; released code
    feedforward: Width = 2048  # hidden width of the encoders; released code, where it is the library's default
    dropout: float = 0.1  # on embeddings; `medrec tune`, released code 0.3
    layer_dropout: DropoutRate = 0.2  # in encoders and decoder; released code
    memory_dropout: DropoutRate = 0.3  # between the layers of the graph network; released code
    ehr_from: Literal["train", "all"] = "train"  # visits that make the graph; released code: all
    rare_first_from: Literal["train", "all"] = "train"  # visits that say what is rare; released code: all
    order: Literal["rare_first", "frequency", "class_code", "record"] = "class_code"  # of the lists; `medrec tune`
    lambda_init: Literal["uniform", "garbage"] = "uniform"  # see the module; ours
    writing: Literal["beam", "greedy", "chain", "samples"] = "greedy"  # see the module; `medrec tune`
    beam: Few = 4  # lists followed at once; released code
    max_len: Count = 45  # medications at most on a list of beam or greedy; released code
    threshold: float = 0.4  # of chain and samples: from which a medication is recommended; ours
    batch_size: int = 32  # patients a step; `medrec tune`, released code 16
    learning_rate: float = 2e-3  # `medrec tune`; released code 1e-3
    schedule: Literal["constant", "cosine"] = "cosine"  # `medrec tune`
    epochs: int = 32  # at most; `medrec tune`

    def __post_init__(self) -> None:
        check_heads("size", self.size, self.n_heads)


VARIANTS = {
    "paper": {},
    "official": {
        "ehr_from": "all",
        "rare_first_from": "all",
        "lambda_init": "garbage",
        "order": "rare_first",
        "writing": "beam",
    },
}
"""Switches of each variant."""

KINDS: tuple[Kind, ...] = ("diagnosis", "procedure")
BLOCK = 256
"""Members that go through the wide layers of an encoder at once; their hidden layer fits the cache of a core."""
GROUP = 32
"""Lists that are taught together."""
GARBAGE = -2.6e6
"""What an unset :math:`\\lambda` happened to hold in one run of the released code."""


# -- equations ---------------------------------------------------------------------------------------------------------


def visit_scores(diagnoses: Tensor, procedures: Tensor) -> Tensor:
    r"""How much each visit resembles each other one, :math:`s_{tj} = (D_t^\top D_j + P_t^\top P_j) / \sqrt d`.

    Source: COGNet, visit-level selection.

    Args:
        diagnoses: ``(B, T, d)`` one vector for each visit.
        procedures: ``(B, T, d)``.

    Returns:
        ``(B, T, T)``.
    """
    scores = diagnoses @ diagnoses.transpose(1, 2) + procedures @ procedures.transpose(1, 2)
    return scores / diagnoses.shape[-1] ** 0.5


def copy_weights(token_scores: Tensor, of_visit: Tensor, mask: Tensor) -> Tensor:
    r"""Share of each past medication, :math:`\operatorname{softmax}_i(a_i + s_{t j(i)})`.

    Source: COGNet, copy mode; the product of its two softmaxes, normalised.

    Args:
        token_scores: :math:`a`, ``(..., P)``.
        of_visit: :math:`s_{t j(i)}`, score of the visit at which medication ``i`` was given, ``(..., P)``.
        mask: ``(..., P)`` bool.

    Returns:
        ``(..., P)``; rows add up to 1, or to 0 where there is no past.
    """
    return masked_softmax(token_scores + of_visit, mask)


def gather_copies(weights: Tensor, tokens: Tensor, n_medications: int) -> Tensor:
    r"""Probability of each medication to be copied; one that was given twice adds up.

    Args:
        weights: ``(N, K, P)``.
        tokens: ``(N, P)`` medication ids.
        n_medications: ``M``.

    Returns:
        ``(N, K, M)``.
    """
    found = weights.new_zeros(*weights.shape[:2], n_medications)
    return found.scatter_add(2, tokens[:, None].expand_as(weights), weights)


def log_mixture(generate: Tensor, copy: Tensor, gate: Tensor, past: Tensor) -> Tensor:
    r"""Log-probability of each word, :math:`\log (g\, P_{gen} + (1 - g)\, P_{copy})`.

    Source: COGNet, combination of the two modes.

    Args:
        generate: logits of medications and the end sign, ``(..., M + 1)``.
        copy: probabilities of medications, ``(..., M)``; the end sign has none.
        gate: logit of :math:`g`, ``(...)``.
        past: ``(...)`` bool, False where there is nothing to copy and :math:`g = 1`.

    Returns:
        ``(..., M + 1)``.
    """
    copied = nn.functional.pad(copy, (0, 1))
    return _mixed(generate.log_softmax(-1), copied, gate[..., None], past[..., None])


def _mixed(written: Tensor, copied: Tensor, gate: Tensor, past: Tensor) -> Tensor:
    """:func:`log_mixture` of words whose log-probability to be written and probability to be copied are known."""
    # The smallest number instead of 0: its logarithm has a gradient.
    copied = copied.clamp(min=torch.finfo(copied.dtype).tiny).log()
    log_sigmoid = nn.functional.logsigmoid
    return torch.where(past, torch.logaddexp(log_sigmoid(gate) + written, log_sigmoid(-gate) + copied), written)


def beam_step(total: Tensor, log_prob: Tensor, used: Tensor, ended: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best lists that are one word longer than those at hand.

    An ended list stays as it is and competes with the others.

    Args:
        total: ``(N, W)`` log-probability of each list.
        log_prob: ``(N, W, M + 1)`` of each next word, the last of them the end sign.
        used: ``(N, W, M)`` bool, medications on the list.
        ended: ``(N, W)`` bool.

    Returns:
        ``(N, W)`` each: log-probabilities, best first; which list each continues; its next word.
    """
    M = used.shape[-1]
    words = log_prob.masked_fill(nn.functional.pad(used, (0, 1)), -torch.inf)
    stay = torch.full_like(words[0, 0], -torch.inf)
    stay[M] = 0
    words = torch.where(ended[..., None], stay, words)
    best, index = (total[..., None] + words).flatten(1).topk(total.shape[1], dim=1)
    return best, index // (M + 1), index % (M + 1)


def list_scores(log_prob: Tensor, lists: Tensor) -> Tensor:
    """Score of every medication: at the step that wrote it, else its highest.

    Source: released code.  The step of the end sign counts only for an empty list.

    Args:
        log_prob: ``(N, K + 1, M + 1)`` along the lists.
        lists: ``(N, K)`` medication ids, behind the last one anything else than an id.

    Returns:
        ``(N, M)`` probabilities.
    """
    M = log_prob.shape[-1] - 1
    there = (lists >= 0) & (lists < M)
    counts = nn.functional.pad(there, (0, 1))
    counts[:, 0] = True
    highest = log_prob[..., :M].masked_fill(~counts[..., None], -torch.inf).amax(1)
    own = log_prob[:, :-1].gather(2, lists.clamp(0, M)[..., None])[..., 0]
    # Behind the list everything goes to the end sign's place, which is cut off.
    highest = nn.functional.pad(highest, (0, 1))
    return highest.scatter(1, torch.where(there, lists, M), torch.where(there, own, 0))[:, :M].exp()


# -- layers ------------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Attention with several heads, whose keys and values can be kept; PyTorch's, without its packing."""

    def __init__(self, size: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.project = nn.Linear(size, 3 * size)
        self.output = nn.Linear(size, size)
        self.dropout = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As PyTorch has it for its own."""
        nn.init.xavier_uniform_(self.project.weight)
        self.output.reset_parameters()
        nn.init.zeros_(self.project.bias)
        nn.init.zeros_(self.output.bias)

    def _heads(self, x: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        """Projections ``first`` to ``last`` of queries, keys, values: ``(..., n_heads, L, d / n_heads)`` each."""
        d = self.output.in_features
        part = slice(first * d, last * d)
        x = nn.functional.linear(x, self.project.weight[part], self.project.bias[part])
        x = x.unflatten(-1, (last - first, self.n_heads, -1))
        return tuple(y.transpose(-2, -3) for y in x.unbind(-3))

    def keep(self, memory: Tensor) -> tuple[Tensor, ...]:
        """Keys and values of ``(..., C, d)``."""
        return self._heads(memory, 1, 3)

    def forward(self, x: Tensor, kept: tuple[Tensor, ...], mask: Tensor) -> Tensor:
        """What ``x`` ``(..., L, d)`` finds in keys and values; ``mask`` broadcasts to ``(..., L, C)``."""
        (queries,) = self._heads(x, 0, 1)
        keys, values = kept
        scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
        weights = self.dropout(masked_softmax(scores, mask[..., None, :, :]))
        return self.output((weights @ values).transpose(-2, -3).flatten(-2))


class _Wide(torch.autograd.Function):
    r"""A wide perceptron :math:`W_2\, k \odot \operatorname{ReLU}(W_1 x + b_1) + b_2`, by blocks; :math:`k` is dropout.

    What is wide stays small enough for the cache of a core, forwards and backwards; and of the hidden layer only what
    came out is kept: it is 0 where ReLU or dropout made it so.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, p: float) -> Tensor:
        """``(n, d)`` → ``(n, d)``."""
        kept, found = [], torch.empty_like(x)
        for block, out in zip(x.split(BLOCK), found.split(BLOCK), strict=True):
            hidden = torch.addmm(b1, block, w1.T).relu_()
            if p > 0:
                hidden.mul_(scaled_mask(hidden.shape, p, hidden))
            torch.addmm(b2, hidden, w2.T, out=out)
            kept.append(hidden)
        ctx.save_for_backward(x, w1, b1, w2)
        ctx.kept, ctx.scale = kept, scale_of(p)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w1, b1, w2 = ctx.saved_tensors
        grad, grad_x = grad.contiguous(), torch.empty_like(x)
        grad_w1, grad_b1, grad_w2 = torch.zeros_like(w1), torch.zeros_like(b1), torch.zeros_like(w2)
        scaled = w2 * ctx.scale
        blocks = (x.split(BLOCK), grad.split(BLOCK), grad_x.split(BLOCK), ctx.kept)
        for block, above, below, hidden in zip(*blocks, strict=True):
            inside = torch.ops.aten.threshold_backward(above @ scaled, hidden, 0)
            grad_w1.addmm_(inside.T, block)
            grad_b1 += inside.sum(0)
            grad_w2.addmm_(above.T, hidden)
            torch.mm(inside, w1, out=below)
        return grad_x, grad_w1, grad_b1, grad_w2, grad.sum(0), None


class SetEncoder(nn.Module):
    """One layer of a Transformer over sets; no positions."""

    def __init__(self, size: int, n_heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(size, n_heads, dropout)
        self.first, self.second = nn.Linear(size, feedforward), nn.Linear(feedforward, size)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(2))
        self.dropout = Dropout(dropout)

    def forward(self, codes: Tensor, mask: Tensor) -> Tensor:
        """``(N, C, d)`` and who is there → members one after another, ``(n, d)``.

        Members alone go through the wide layers, which are nine tenths of the work.
        """
        attended = self.attention(codes, self.attention.keep(codes), mask[:, None])
        x = self.norms[0]((codes + self.dropout(attended))[mask])
        weights = self.first.weight, self.first.bias, self.second.weight, self.second.bias
        wide = _Wide.apply(x, *weights, self.dropout.p if self.training else 0.0)
        return self.norms[1](x + self.dropout(wide))


class Pool(nn.Module):
    r"""One vector for a set, :math:`\sum_i \operatorname{softmax}_i(w_2^\top \tanh(W_1 h_i))\, h_i`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(size, size // 2), nn.Tanh(), nn.Linear(size // 2, 1, bias=False))

    def forward(self, codes: Tensor, mask: Tensor) -> Tensor:
        """``(N, C, d)`` → ``(N, d)``; 0 for an empty set."""
        return torch.einsum("nc,ncd->nd", masked_softmax(self.score(codes)[..., 0], mask), codes)


class DrugMemory(nn.Module):
    r"""A row for each medication, :math:`\tilde A^{ehr} h^{ehr} W_2 - \lambda\, \tilde A^{ddi} h^{ddi} W_3`.

    The first layer, :math:`h = \operatorname{ReLU}(\tilde A W_1)`, is the same table for both graphs.
    """

    def __init__(self, n_medications: int, size: int, dropout: float, lambda_init: str) -> None:
        super().__init__()
        self.nodes, self.bias = nn.Parameter(torch.empty(n_medications, size)), nn.Parameter(torch.empty(size))
        self.ehr, self.ddi = nn.Linear(size, size), nn.Linear(size, size)
        self.ddi_share = nn.Parameter(torch.empty(1))  # lambda
        self.dropout, self.lambda_init = Dropout(dropout), lambda_init
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in ±1/sqrt(d), as in released code; lambda as the switch says."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-(self.bias.shape[0] ** -0.5), self.bias.shape[0] ** -0.5)
            if self.lambda_init == "garbage":
                self.ddi_share.fill_(GARBAGE)
            else:
                self.ddi_share.uniform_(-0.1, 0.1)

    def forward(self, ehr: Tensor, ddi: Tensor) -> Tensor:
        """Two graphs ``(M, M)`` → ``(M, d)``."""
        ehr, ddi = row_normalised(ehr), row_normalised(ddi)
        hidden_ehr = self.dropout((ehr @ self.nodes + self.bias).relu())
        hidden_ddi = self.dropout((ddi @ self.nodes + self.bias).relu())
        return self.ehr(ehr @ hidden_ehr) - self.ddi_share * self.ddi(ddi @ hidden_ddi)


class Decoder(nn.Module):
    """One layer that reads the list so far, then diagnoses and procedures at once."""

    def __init__(self, size: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.own = Attention(size, n_heads, dropout)
        self.codes = nn.ModuleDict({kind: Attention(size, n_heads, dropout) for kind in KINDS})
        self.first, self.second = nn.Linear(size, 2 * size), nn.Linear(2 * size, size)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        attended: Tensor,
        kept: dict[Kind, tuple[Tensor, ...]],
        masks: dict[Kind, Tensor],
    ) -> Tensor:
        """States ``(N, L, d)`` of words ``x``.

        Args:
            x: ``(N, L, d)``.
            attended: ``(N, L, d)``, self-attention of each word over the list up to it.
            kept: keys and values of diagnoses and procedures.
            masks: ``(N, C)`` bool, which of them are there.
        """
        x = self.norms[0](x + self.dropout(attended))
        read = [self.dropout(self.codes[kind](x, kept[kind], masks[kind][:, None])) for kind in KINDS]
        x = self.norms[1](x + read[0] + read[1])
        return self.norms[2](x + self.dropout(self.second(self.dropout(self.first(x).relu()))))


@dataclass(frozen=True)
class _Memory:
    """What is known before a list is written, for ``N`` visits."""

    bank: Tensor  # (M + 2, d) drug memory, 0 for the signs
    kept: dict[Kind, tuple[Tensor, ...]]  # keys and values of diagnoses and procedures
    masks: dict[Kind, Tensor]  # (N, C)
    past: Tensor  # (N, P, d) encoded medications of earlier visits
    past_ids: Tensor  # (N, P)
    past_visit: Tensor  # (N, P) at which visit each was given
    past_scores: Tensor  # (N, P) how much that visit resembles this one
    past_mask: Tensor  # (N, P)


@dataclass(frozen=True)
class _Known:
    """Of all ``N`` visits of a batch, what their memories are made of; ``m`` medications can be copied by somebody."""

    bank: Tensor  # (M + 2, d)
    codes: dict[Kind, Tensor]  # (N, C, d) encoded diagnoses and procedures
    masks: dict[Kind, Tensor]  # (N, C)
    members: Tensor  # (m, d) encoded medications
    ids: Tensor  # (m,)
    given_at: Tensor  # (m,) number of the visit
    index: Tensor  # (N, P) which of them each visit may copy
    index_mask: Tensor  # (N, P)
    patient: Tensor  # (N,)
    visit: Tensor  # (N,)
    scores: Tensor  # (B, T, T)


@dataclass(frozen=True)
class _Steps:
    """Predictions of the next word along ``N`` lists, at each of ``K`` steps."""

    log_prob: Tensor  # (N, K, M + 1)
    gate: Tensor  # (N, K) logit
    weights: Tensor  # (N, K, P) shares of past medications


# -- the network -------------------------------------------------------------------------------------------------------


class COGNet(Recommender):
    r"""A decoder that writes a list of medications, generating each word or copying it from an earlier visit.

    .. math::
        P(m) = g\, P_{gen}(m) + (1 - g)\, P_{copy}(m), \qquad
        P_{gen} = \operatorname{softmax}(W_o h), \qquad g = \sigma(w_z^\top h)

    with :math:`h` the decoder's state and :math:`P_{copy}` of :func:`copy_weights`.  Each of ``N`` real visits is a
    list of its own: its diagnoses and procedures ``(N, C, d)``, the medications of all visits before it
    ``(N, P, d)``, states ``(N, K, d)`` and log-probabilities ``(N, K, M + 1)``, the last one of the end sign.  Out come
    scores as logits ``(B, T, M)``, and from :meth:`decide` the written sets.

    Learnt: embeddings of diagnoses and procedures, with a row for padding, and of what can be written ``(M + 2, d)``;
    a set encoder for each kind of code and a pool for those two; the drug memory ``(M, d)``; the decoder; the output
    heads :math:`W_o` ``(M + 1, d)``, :math:`W_c` ``(d, d)`` and :math:`w_z`.  Counted in :meth:`prepare`: the EHR
    graph ``(M, M)`` and the rank of each medication by rarity ``(M,)``.

    Args:
        config: its settings.
        context: sizes of the vocabularies, and interactions for the memory.
    """

    config: COGNetConfig
    ehr: Tensor
    rank: Tensor

    def __init__(self, config: COGNetConfig, context: Context) -> None:
        super().__init__(config, context)
        self.tunable = config.writing in ("chain", "samples")
        sizes, d, heads = context.sizes, config.size, config.n_heads
        self.n_medications = M = sizes["medication"]
        self.end, self.start = M, M + 1
        # The last row of each of these stands for padding.
        self.codes = nn.ModuleDict({kind: nn.Embedding(sizes[kind] + 1, d, padding_idx=sizes[kind]) for kind in KINDS})
        self.tokens = nn.Embedding(M + 2, d)
        self.encoders = nn.ModuleDict(
            {kind: SetEncoder(d, heads, config.feedforward, config.layer_dropout) for kind in (*KINDS, "medication")}
        )
        self.pools = nn.ModuleDict({kind: Pool(d) for kind in KINDS})
        self.memory = DrugMemory(M, d, config.memory_dropout, config.lambda_init)
        self.decoder = Decoder(d, heads, config.layer_dropout)
        self.generate, self.copy, self.gate = nn.Linear(d, M + 1), nn.Linear(d, d), nn.Linear(d, 1)
        self.dropout = Dropout(config.dropout)
        self.register_buffer("ehr", torch.zeros(M, M, dtype=torch.bool))
        # Until they are counted: medications in the order of their ids.
        self.register_buffer("rank", torch.arange(M))

    def prepare(self, cohort: Cohort, train: NDArray[np.integer], context: Context) -> None:
        """Graph of medications that were given together, and which of them are rare."""
        config, M = self.config, self.n_medications
        own = cohort.select(train)
        linked = (cohort if config.ehr_from == "all" else own).codes["medication"].multi_hot(M)
        self.ehr.copy_(torch.from_numpy(co_prescription(linked)))
        counted = (cohort if config.rare_first_from == "all" else own).codes["medication"]
        counts = np.bincount(counted.values, minlength=M)
        self.rank.copy_(torch.from_numpy(ranks(counts, config.order)))

    # -- encoder

    def remember(self, batch: VisitBatch, context: Context) -> _Memory:
        """What stands before each real visit of the batch, ``N`` of them."""
        known = self._encode(batch, context)
        return self._memory(known, torch.arange(len(known.patient), device=known.patient.device))

    def _encode(self, batch: VisitBatch, context: Context) -> _Known:
        at, sizes = batch.visit_mask, batch.sizes
        vectors: dict[Kind, Tensor] = {}
        encoded: dict[Kind, Tensor] = {}
        masks: dict[Kind, Tensor] = {}
        for kind in KINDS:
            ids = batch.codes[kind][at]
            mask = ids < sizes[kind]
            embedded = self.dropout(self.codes[kind](ids))
            members = self.encoders[kind](embedded, mask)
            encoded[kind] = torch.zeros_like(embedded).masked_scatter(mask[..., None], members)
            vectors[kind], masks[kind] = _on_grid(self.pools[kind](encoded[kind], mask), at), mask
        scores = visit_scores(vectors["diagnosis"], vectors["procedure"])
        bank = nn.functional.pad(self.memory(self.ehr, context.ddi), (0, 0, 0, 2))
        # Medications of earlier visits. Of a patient's last visit nothing can be copied.
        ids = batch.codes["medication"]
        followed = torch.cat([at[:, 1:], torch.zeros_like(at[:, :1])], dim=1)
        given = (ids < self.n_medications) & followed[..., None]
        rows = ids[followed]
        mask = rows < self.n_medications
        members = self.encoders["medication"](self.dropout(self.tokens(rows)), mask)
        # One after another, medications stand in the order of patient and visit: what a visit may copy is one stretch.
        count = given.sum(-1)
        of_patient = count.sum(1)
        start = (of_patient.cumsum(0) - of_patient)[:, None].expand_as(count)[at]
        length = (count.cumsum(1) - count)[at]
        place = torch.arange(int(length.max()) if len(length) else 0, device=at.device)
        there = place < length[:, None]
        index = torch.where(there, start[:, None] + place, 0)
        given_at = given.nonzero(as_tuple=True)[1]
        patient, visit = at.nonzero(as_tuple=True)
        return _Known(bank, encoded, masks, members, rows[mask], given_at, index, there, patient, visit, scores)

    def _memory(self, known: _Known, rows: Tensor) -> _Memory:
        """Memories of some visits, padded no further than to the longest among them."""
        kept: dict[Kind, tuple[Tensor, ...]] = {}
        masks: dict[Kind, Tensor] = {}
        for kind in KINDS:
            masks[kind] = _trimmed(known.masks[kind][rows])
            codes = known.codes[kind].index_select(0, rows)[:, : masks[kind].shape[1]]
            kept[kind] = cast(Attention, self.decoder.codes[kind]).keep(codes)
        there = _trimmed(known.index_mask[rows])
        index = known.index[rows, : there.shape[1]]
        given_at = known.given_at[index]
        similarity = known.scores[known.patient[rows, None], known.visit[rows, None], given_at]
        past = nn.functional.embedding(index, known.members)
        return _Memory(known.bank, kept, masks, past, known.ids[index], given_at, similarity, there)

    # -- decoder

    def _output_head(self, states: Tensor, memory: _Memory) -> _Steps:
        """Next word after each state ``(N, K, d)``."""
        scores = self.copy(states) @ memory.past.transpose(1, 2) / states.shape[-1] ** 0.5
        weights = copy_weights(scores, memory.past_scores[:, None], memory.past_mask[:, None])
        copied = gather_copies(weights, memory.past_ids, self.n_medications)
        gate = self.gate(states)[..., 0]
        past = memory.past_mask.any(1, keepdim=True).expand_as(gate)
        return _Steps(log_mixture(self.generate(states), copied, gate, past), gate, weights)

    def _words(self, ids: Tensor, memory: _Memory) -> Tensor:
        return self.dropout(self.tokens(ids)) + memory.bank[ids]

    def read(self, lists: Tensor, memory: _Memory) -> _Steps:
        """Predictions at each step if ``lists`` ``(N, K)`` are what has been written; negative places do not count."""
        return self._output_head(self._states(lists, memory), memory)

    def _states(self, lists: Tensor, memory: _Memory) -> Tensor:
        """The decoder along lists ``(N, K)``, ``(N, K, d)``."""
        words = self._words(
            torch.cat([torch.full_like(lists[:, :1], self.start), lists[:, :-1]], 1).clamp(min=0), memory
        )
        before = torch.ones(words.shape[1], words.shape[1], dtype=torch.bool, device=words.device).tril()
        attended = self.decoder.own(words, self.decoder.own.keep(words), before)
        return self.decoder(words, attended, memory.kept, memory.masks)

    def write(self, memory: _Memory) -> Tensor:
        """A list for each visit as ``writing`` says, ``(N, K)``: medications, the end sign, then -1.

        Only a list of ``max_len`` medications has no end sign.
        """
        if self.config.writing in ("beam", "greedy"):
            return self._search(memory, self.config.beam if self.config.writing == "beam" else 1)
        sets = self._marginals(memory) >= self.config.threshold
        listed = nn.functional.pad(in_order(sets, self.rank), (0, 1), value=self.end)
        return torch.where((listed == self.end).cumsum(1) <= 1, listed, -1)

    def _next(
        self, word: Tensor, cache: tuple[Tensor, ...] | None, memory: _Memory
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Log-probabilities ``(N, W, M + 1)`` of what follows words ``(N, W)``, and keys and values up to them."""
        own = self.decoder.own
        x = self._words(word, memory)
        new = own.keep(x[:, :, None])  # (N, W, n_heads, 1, d / n_heads) each
        cache = new if cache is None else tuple(torch.cat(pair, dim=-2) for pair in zip(cache, new, strict=True))
        everything = torch.ones(1, 1, dtype=torch.bool, device=word.device)
        attended = own(x[:, :, None], cache, everything)[:, :, 0]
        steps = self._output_head(self.decoder(x, attended, memory.kept, memory.masks), memory)
        return steps.log_prob, cache

    def _search(self, memory: _Memory, W: int) -> Tensor:
        """The best list that beam search finds for each visit, ``(N, K)``."""
        N, M = len(memory.past_mask), self.n_medications
        device = memory.past_mask.device
        lists = torch.empty(N, W, 0, dtype=torch.long, device=device)
        total = torch.full((N, W), -torch.inf, device=device)
        total[:, 0] = 0
        used = torch.zeros(N, W, M, dtype=torch.bool, device=device)
        ended = torch.zeros(N, W, dtype=torch.bool, device=device)
        word, cache = torch.full((N, W), self.start, device=device), None
        for _ in range(min(self.config.max_len, M)):
            log_prob, cache = self._next(word, cache, memory)
            total, origin, word = beam_step(total, log_prob, used, ended)

            def follow(kept: Tensor, origin: Tensor = origin) -> Tensor:
                return kept[torch.arange(N, device=device)[:, None], origin]

            before = follow(ended)
            lists = torch.cat([follow(lists), torch.where(before, -1, word)[..., None]], dim=-1)
            ended = before | (word == self.end)
            # Totals only fall: once the best list of a visit has ended, no other can overtake it.
            if ended[:, 0].all():
                break
            used = nn.functional.pad(follow(used), (0, 1)).scatter(2, word[..., None], True)[..., :M]
            cache = tuple(follow(kept) for kept in cache)
        return lists[:, 0]

    def _marginals(self, memory: _Memory) -> Tensor:
        """Probabilities of medications as ``writing`` reads them, ``(N, M)``."""
        return self._chain(memory) if self.config.writing == "chain" else self._samples(memory)

    def _chain(self, memory: _Memory) -> Tensor:
        """One question for each medication, in the fixed order; what is answered with yes is written."""
        N, M, device = len(memory.past_mask), self.n_medications, memory.past_mask.device
        scores = memory.past.new_zeros(N, M)
        order, rows = self.rank.argsort(), torch.arange(N, device=device)
        word, cache = torch.full((N, 1), self.start, device=device), None
        asked = torch.zeros(N, dtype=torch.long, device=device)
        while len(rows):
            log_prob, cache = self._next(word, cache, memory)
            prob = log_prob[:, 0].exp()
            chance = chances(prob[:, order], prob[:, self.end])
            answered, yes = ask(chance, asked, self.config.threshold)
            scores[rows] = torch.where(answered, chance, scores[rows])
            going = yes < M
            if not going.all():
                memory, cache = _those(memory, going), tuple(kept[going] for kept in cache)
            rows, asked, word = rows[going], yes[going] + 1, order[yes[going]][:, None]
        return scores[:, self.rank]  # so far in the order of the questions

    def _samples(self, memory: _Memory) -> Tensor:
        """How many of :data:`medrec.nn.lists.SAMPLES` drawn lists hold each medication."""
        N, M, device = len(memory.past_mask), self.n_medications, memory.past_mask.device
        noise = gumbel((M + 1, SAMPLES, M + 1)).to(memory.past)
        used = torch.zeros(N, SAMPLES, M + 1, dtype=torch.bool, device=device)
        word, cache = torch.full((N, SAMPLES), self.start, device=device), None
        ended = torch.zeros_like(word, dtype=torch.bool)
        for table in noise:
            log_prob, cache = self._next(word, cache, memory)
            word = (log_prob + table).masked_fill(used, -torch.inf).argmax(-1)
            word = torch.where(ended, self.end, word)
            ended = word == self.end
            if ended.all():
                break
            used = used.scatter(2, word[..., None], ~ended[..., None])
        return used[..., :M].to(memory.past.dtype).mean(1)

    def lists(self, batch: VisitBatch) -> Tensor:
        """What is to be written for each real visit, ``(N, K)``: medications in order, the end sign, then -1."""
        ids = batch.codes["medication"][batch.visit_mask]
        if self.config.order != "record":
            rank = torch.cat([self.rank, self.rank.new_tensor([self.n_medications])])
            ids = ids.gather(-1, rank[ids].argsort(-1))
        ids = nn.functional.pad(ids, (0, 1), value=self.n_medications)
        number = (ids < self.n_medications).sum(-1, keepdim=True)
        place = torch.arange(ids.shape[-1], device=ids.device)
        # Padding has the number of the end sign, which is right for the first place behind the list.
        return torch.where(place <= number, ids, -1)[:, : int(number.max()) + 1]

    # -- output

    def forward(self, batch: VisitBatch, context: Context) -> Tensor:
        """Logits of the scores of the written lists, ``(B, T, M)``."""
        _, scores = self._written(self.remember(batch, context))
        return _on_grid(scores.logit(1e-6), batch.visit_mask)

    def decide(self, batch: VisitBatch, context: Context) -> tuple[Tensor, Tensor]:
        """Scores and written sets, both ``(B, T, M)``."""
        written, scores = self._written(self.remember(batch, context))
        return _on_grid(scores, batch.visit_mask), _on_grid(self.sets(written), batch.visit_mask)

    def _written(self, memory: _Memory) -> tuple[Tensor, Tensor]:
        """Lists ``(N, K)`` and scores ``(N, M)``."""
        if self.tunable:
            scores = self._marginals(memory)
            return in_order(scores >= self.config.threshold, self.rank), scores
        written = self.write(memory)
        return written, list_scores(self.read(_with_end(written), memory).log_prob, written)

    def sets(self, lists: Tensor) -> Tensor:
        """Medications on lists ``(N, K)``, as ``(N, M)`` bool; the end sign is none."""
        return in_sets(lists, self.n_medications)

    def explain(self, batch: VisitBatch, context: Context) -> pl.DataFrame:
        """For each medication on the list of one patient's last visit: was it written anew, or copied from where?

        Returns:
            ``medication`` (code), ``kind`` (``generated`` or ``copied``), ``what`` (from which visit), ``weight``; they
            add up to 1 for each medication.
        """
        memory = self.remember(batch, context)
        lists = self.write(memory)
        steps = self.read(_with_end(lists), memory)
        last = len(lists) - 1
        codes, found = context.vocab["medication"].codes, []
        visits = memory.past_visit[last][memory.past_mask[last]]
        for step, m in enumerate(lists[last].tolist()):
            if not 0 <= m < self.n_medications:
                break
            same = (memory.past_ids[last] == m) & memory.past_mask[last]
            mass = (steps.weights[last, step] * same)[memory.past_mask[last]]
            prob = steps.log_prob[last, step, m].exp()
            share = torch.sigmoid(-steps.gate[last, step]) * mass / prob
            from_visit = torch.zeros(last, device=share.device).index_add(0, visits, share).tolist()
            found.append((codes[m], "generated", "anew", 1 - sum(from_visit)))
            found += [(codes[m], "copied", f"visit {j + 1} of {last}", w) for j, w in enumerate(from_visit) if w > 0]
        return pl.DataFrame(
            found,
            schema={"medication": pl.String, "kind": pl.String, "what": pl.String, "weight": pl.Float64},
            orient="row",
        )

    # -- loss

    def loss(self, batch: VisitBatch, context: Context) -> Tensor:
        """Cross-entropy of the true lists, mean over all their words, end signs among them."""
        known, target = self._encode(batch, context), self.lists(batch)
        length, past = (target >= 0).sum(1), known.index_mask.sum(1)
        losses = []
        for rows in _alike(past, length):
            memory, lists = self._memory(known, rows), target[rows, : int(length[rows].max())]
            losses.append(self._losses(self._states(lists, memory), lists, memory))
        return torch.cat(losses).mean()

    def _losses(self, states: Tensor, lists: Tensor, memory: _Memory) -> Tensor:
        """Cross-entropy of each word of lists ``(N, K)``; of all words only the true ones are looked at."""
        real = lists >= 0
        true = lists[real]
        written = -nn.functional.cross_entropy(self.generate(states[real]), true, reduction="none")
        past = memory.past_mask.any(1, keepdim=True).expand_as(real)[real]
        scores = self.copy(states) @ memory.past.transpose(1, 2) / states.shape[-1] ** 0.5
        weights = copy_weights(scores, memory.past_scores[:, None], memory.past_mask[:, None])
        copied = (weights * (memory.past_ids[:, None] == lists[..., None])).sum(-1)[real]
        return -_mixed(written, copied, self.gate(states)[..., 0][real], past)


def _alike(past: Tensor, length: Tensor) -> list[Tensor]:
    """Groups of visits with pasts and lists of similar length, so that little is padded."""
    by_past = past.argsort(stable=True)
    first = int((past == 0).sum())
    groups = []
    for part in (by_past[:first], *by_past[first:].split(4 * GROUP)):
        groups += part[length[part].argsort(stable=True)].split(GROUP)
    return [rows for rows in groups if len(rows)]


def _trimmed(mask: Tensor) -> Tensor:
    """Without the columns behind the last one that holds anything; what is there stands in front."""
    return mask[:, : int(mask.sum(1).max())] if len(mask) else mask


def _those(memory: _Memory, keep: Tensor) -> _Memory:
    """The memories of the visits where ``keep`` ``(N,)`` holds."""
    kept = {kind: tuple(x[keep] for x in pair) for kind, pair in memory.kept.items()}
    masks = {kind: mask[keep] for kind, mask in memory.masks.items()}
    past = (memory.past, memory.past_ids, memory.past_visit, memory.past_scores, memory.past_mask)
    return _Memory(memory.bank, kept, masks, *(x[keep] for x in past))


def _with_end(lists: Tensor) -> Tensor:
    """One place more, so that there is a prediction after the last word too."""
    return nn.functional.pad(lists, (0, 1), value=-1)


def _on_grid(rows: Tensor, at: Tensor) -> Tensor:
    """Rows ``(N, ...)`` of the visits ``at`` ``(B, T)``, 0 or False elsewhere."""
    grid = rows.new_zeros(*at.shape, *rows.shape[1:])
    return grid.index_put(at.nonzero(as_tuple=True), rows)


RELEASED = {"order": "rare_first", "writing": "beam"}
"""How released code writes; the rows of its chapter start from it."""
SHORT = RELEASED | {"feedforward": 128, "batch_size": 8}
"""Of all its rows: encoders as narrow as its decoder, which is where most of its time goes."""

SYSTEM = System(
    name="cognet",
    label="COGNet",
    family="graph",
    cls=COGNet,
    config=COGNetConfig,
    sees="diagnoses and procedures up to the visit itself, medications of earlier visits",
    small={
        "learning_rate": 0.001,
        "batch_size": 16,
        "dropout": 0.3,
        "order": "rare_first",
        "writing": "beam",
        "schedule": "constant",
        "epochs": 200,
    },
    variants=VARIANTS,
    citation="wu2022cognet",
    seconds_per_epoch=12,
    searched={"order": ("rare_first", "frequency", "class_code"), "writing": ("greedy", "chain")},
    rows=tuple(
        Row(key, label, "cognet", variant, SHORT | changed)
        for key, label, variant, changed in (
            ("cognet", "COGNet", "paper", {}),
            ("all-records", "graph of all records", "paper", {"ehr_from": "all"}),
            ("rare-all", "rare in all records", "paper", {"rare_first_from": "all"}),
            ("frequent-first", "frequent first", "paper", {"order": "frequency"}),
            ("record", "order of the record", "paper", {"order": "record"}),
            ("unset", "weight of interactions unset", "paper", {"lambda_init": "garbage"}),
            ("greedy", "greedy", "paper", {"writing": "greedy"}),
            ("official", "official", "official", {}),
            ("chain", "chain of questions", "paper", {"writing": "chain"}),
            ("class-code", "chain, class-code order", "paper", {"order": "class_code", "writing": "chain"}),
        )
    ),
)
