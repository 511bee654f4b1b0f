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

Training: cross-entropy of every step, the true medications before it being given.  Writing: beam search, no medication
twice; scores of lists are not divided by their length.  The score of a medication is its probability at the step that
wrote it, for those not on the list its highest one; sets do not come from thresholding it.

Switches (``paper`` → ``official``, the repository of its authors):

* ``ehr_from``, ``rare_first_from``: graph and frequencies of the training visits → of all, the test patients' included;
* ``lambda_init``: small → ``garbage``: released code never sets it, so that it holds what was in memory;
* ``order`` (ours): lists are written ``rare_first``, as released; most ``frequency`` first; as in the ``record``;
* ``beam``: 4 as released; 1 is greedy.

Deviations.  The validation of released code writes greedily and strikes out repeats afterwards; here it is done like
the test.  Its attention weights are raised to at least 1e-9, which gives padding and later visits a trace of mass;
here they get none.  Its generator can write the start sign; here it cannot.  It counts the end sign as a medication;
here nothing does.  Visits without diagnoses or procedures, which its data cannot have, are read as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrec.arguments import Count, Dropout, Few, Width, check_heads
from medrec.context import Context
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Cohort, Kind
from medrec.models.base import Recommender, Row, System, TrainingConfig
from medrec.models.gamenet import co_prescription, row_normalised
from medrec.nn.dropout import Dropout
from medrec.nn.set_attention import masked_softmax


@dataclass(frozen=True)
class COGNetConfig(TrainingConfig):
    """Settings of COGNet."""

    size: int = 64  # width of embeddings and states; released code
    n_heads: int = 2  # of every attention; released code
    feedforward: Width = 2048  # hidden width of the encoders; released code, where it is the library's default
    dropout: float = 0.3  # on embeddings; released code
    layer_dropout: Dropout = 0.2  # in encoders and decoder; released code
    memory_dropout: Dropout = 0.3  # between the layers of the graph network; released code
    ehr_from: Literal["train", "all"] = "train"  # visits that make the graph; released code: all
    rare_first_from: Literal["train", "all"] = "train"  # visits that say what is rare; released code: all
    order: Literal["rare_first", "frequency", "record"] = "rare_first"  # of the words of a list; released code
    lambda_init: Literal["uniform", "garbage"] = "uniform"  # see the module; ours
    beam: Few = 4  # lists followed at once; released code
    max_len: Count = 45  # medications on a list that is written, at most; released code
    batch_size: int = 64  # patients a step; ours, with `epochs` as many steps as BiMoRec's at the papers' size
    learning_rate: float = 1e-3  # chosen on validation, grid `rates`; released code the same, 16 patients a step
    epochs: int = 10  # at most; ours, see `batch_size`

    def __post_init__(self) -> None:
        check_heads("size", self.size, self.n_heads)


VARIANTS = {"paper": {}, "official": {"ehr_from": "all", "rare_first_from": "all", "lambda_init": "garbage"}}
"""Switches of each variant."""

KINDS: tuple[Kind, ...] = ("diagnosis", "procedure")
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
    written = generate.log_softmax(-1)
    gate = gate[..., None]
    # The smallest number instead of 0: its logarithm has a gradient.
    copied = nn.functional.pad(copy, (0, 1)).clamp(min=torch.finfo(copy.dtype).tiny).log()
    log_sigmoid = nn.functional.logsigmoid
    return torch.where(
        past[..., None], torch.logaddexp(log_sigmoid(gate) + written, log_sigmoid(-gate) + copied), written
    )


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
        return self.norms[1](x + self.dropout(self.second(self.dropout(self.first(x).relu()))))


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
    tunable = False

    def __init__(self, config: COGNetConfig, context: Context) -> None:
        super().__init__(config, context)
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
        order = np.argsort(-counts if config.order == "frequency" else counts, kind="stable")
        rank = np.empty(M, dtype=np.int64)
        rank[order] = np.arange(M)
        self.rank.copy_(torch.from_numpy(rank))

    # -- encoder

    def remember(self, batch: VisitBatch, context: Context) -> _Memory:
        """What stands before each real visit of the batch, ``N`` of them."""
        at, sizes = batch.visit_mask, batch.sizes
        vectors: dict[Kind, Tensor] = {}
        kept: dict[Kind, tuple[Tensor, ...]] = {}
        masks: dict[Kind, Tensor] = {}
        for kind in KINDS:
            ids = batch.codes[kind][at]
            mask = ids < sizes[kind]
            embedded = self.dropout(self.codes[kind](ids))
            members = self.encoders[kind](embedded, mask)
            codes = torch.zeros_like(embedded).masked_scatter(mask[..., None], members)
            vectors[kind] = _on_grid(self.pools[kind](codes, mask), at)
            kept[kind], masks[kind] = cast(Attention, self.decoder.codes[kind]).keep(codes), mask
        scores = visit_scores(vectors["diagnosis"], vectors["procedure"])
        bank = nn.functional.pad(self.memory(self.ehr, context.ddi), (0, 0, 0, 2))
        return _Memory(bank, kept, masks, *self._past(batch, scores))

    def _past(self, batch: VisitBatch, scores: Tensor) -> tuple[Tensor, ...]:
        """Medications of earlier visits, for each visit; see :class:`_Memory`."""
        at, ids = batch.visit_mask, batch.codes["medication"]
        # Of a patient's last visit nothing can be copied.
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
        patient, visit = at.nonzero(as_tuple=True)
        given_at = given.nonzero(as_tuple=True)[1][index]
        similarity = scores[patient[:, None], visit[:, None], given_at]
        return members[index], rows[mask][index], given_at, similarity, there

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
        words = self._words(
            torch.cat([torch.full_like(lists[:, :1], self.start), lists[:, :-1]], 1).clamp(min=0), memory
        )
        before = torch.ones(words.shape[1], words.shape[1], dtype=torch.bool, device=words.device).tril()
        attended = self.decoder.own(words, self.decoder.own.keep(words), before)
        return self._output_head(self.decoder(words, attended, memory.kept, memory.masks), memory)

    def write(self, memory: _Memory) -> Tensor:
        """The best list that beam search finds for each visit, ``(N, K)``: medications, the end sign, then -1.

        Only a list of ``max_len`` medications has no end sign.
        """
        N, W, M, own = len(memory.past_mask), self.config.beam, self.n_medications, self.decoder.own
        device = memory.past_mask.device
        lists = torch.empty(N, W, 0, dtype=torch.long, device=device)
        total = torch.full((N, W), -torch.inf, device=device)
        total[:, 0] = 0
        used = torch.zeros(N, W, M, dtype=torch.bool, device=device)
        ended = torch.zeros(N, W, dtype=torch.bool, device=device)
        word, cache = torch.full((N, W), self.start, device=device), None
        everything = torch.ones(1, 1, dtype=torch.bool, device=device)
        for _ in range(min(self.config.max_len, M)):
            x = self._words(word, memory)
            new = own.keep(x[:, :, None])  # (N, W, n_heads, 1, d / n_heads) each
            cache = new if cache is None else tuple(torch.cat(pair, dim=-2) for pair in zip(cache, new, strict=True))
            attended = own(x[:, :, None], cache, everything)[:, :, 0]
            steps = self._output_head(self.decoder(x, attended, memory.kept, memory.masks), memory)
            total, origin, word = beam_step(total, steps.log_prob, used, ended)

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
        memory = self.remember(batch, context)
        written = self.write(memory)
        scores = list_scores(self.read(_with_end(written), memory).log_prob, written)
        return _on_grid(scores.logit(1e-6), batch.visit_mask)

    def decide(self, batch: VisitBatch, context: Context) -> tuple[Tensor, Tensor]:
        """Scores and written sets, both ``(B, T, M)``."""
        memory, at = self.remember(batch, context), batch.visit_mask
        written = self.write(memory)
        scores = list_scores(self.read(_with_end(written), memory).log_prob, written)
        return _on_grid(scores, at), _on_grid(self.sets(written), at)

    def sets(self, lists: Tensor) -> Tensor:
        """Medications on lists ``(N, K)``, as ``(N, M)`` bool; the end sign is none."""
        there = (lists >= 0) & (lists < self.n_medications)
        sets = torch.zeros(len(lists), self.n_medications + 1, dtype=torch.bool, device=lists.device)
        return sets.scatter(1, torch.where(there, lists, self.n_medications), True)[:, :-1]

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
        memory, target = self.remember(batch, context), self.lists(batch)
        return _mean_loss(self.read(target, memory).log_prob, target)


def _with_end(lists: Tensor) -> Tensor:
    """One place more, so that there is a prediction after the last word too."""
    return nn.functional.pad(lists, (0, 1), value=-1)


def _mean_loss(log_prob: Tensor, target: Tensor) -> Tensor:
    return nn.functional.nll_loss(log_prob.transpose(1, 2), target, ignore_index=-1)


def _on_grid(rows: Tensor, at: Tensor) -> Tensor:
    """Rows ``(N, ...)`` of the visits ``at`` ``(B, T)``, 0 or False elsewhere."""
    grid = rows.new_zeros(*at.shape, *rows.shape[1:])
    return grid.index_put(at.nonzero(as_tuple=True), rows)


SHORT = {"feedforward": 128, "epochs": 20, "batch_size": 8}
"""Of all its rows: encoders as narrow as its decoder, which is where most of its time goes."""

SYSTEM = System(
    name="cognet",
    label="COGNet",
    family="graph",
    cls=COGNet,
    config=COGNetConfig,
    sees="diagnoses and procedures up to the visit itself, medications of earlier visits",
    small={"learning_rate": 0.001, "batch_size": 16, "epochs": 200},
    variants=VARIANTS,
    citation="wu2022cognet",
    seconds_per_epoch=12,
    rows=tuple(
        Row(key, label, "cognet", variant, SHORT | changed)
        for key, label, variant, changed in (
            ("cognet", "COGNet", "paper", {}),
            ("all-records", "graph of all records", "paper", {"ehr_from": "all"}),
            ("rare-all", "rare in all records", "paper", {"rare_first_from": "all"}),
            ("frequent-first", "frequent first", "paper", {"order": "frequency"}),
            ("record", "order of the record", "paper", {"order": "record"}),
            ("unset", "weight of interactions unset", "paper", {"lambda_init": "garbage"}),
            ("greedy", "greedy", "paper", {"beam": 1}),
            ("official", "official", "official", {}),
        )
    ),
)
