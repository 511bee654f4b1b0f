r"""DrugRec: records read as text, symptoms as a confounder to be averaged out, and lists mended after prediction.

Sun et al., "Debiased, longitudinal and coordinated drug recommendation through multi-visit clinic records",
NeurIPS 2022.  Formulas are those of the released code.

For visit t, with d, p, s the first token of a small Transformer over the titles of the visit's diagnoses, procedures
and symptoms,

.. math::
    \tilde d = \operatorname{FF}[d \,\|\, s], \qquad
    \bar d_t = \sum_{j = t-3}^{t} \operatorname{softmax}_j\Big(\frac{Q(\tilde d_t) \cdot K(\tilde d_j)}{\sqrt n}\Big)
    K(\tilde d_j), \qquad
    q_t = \operatorname{FF}[\bar d \,\|\, \bar p \,\|\, \bar s]_t, \qquad
    z_{tm} = q_t \cdot g(e_m)

with :math:`e_m` what is known of the medication's molecules.  Four losses, means over visits:

.. math::
    \mathcal L = \mathcal L_{bce} + 0.1\,\mathcal L_{multi} + \mathcal L_{pair}
    + 0.5\,[\rho > \varphi]\,\mathcal L_{ddi} + 5 \cdot 10^{-4}\,\mathcal L_{ci}

:math:`\mathcal L_{pair}`, :func:`pair_loss`, wants pairs that are prescribed together to be likely together;
:math:`\mathcal L_{ci}`, :func:`causal_loss`, wants the visit's symptoms to speak for what was prescribed, by comparing
predictions with and without them while a sample of other symptoms stands in for all there could have been.

After prediction, lists are mended: of two interacting medications that training visits do not often join, one goes,
:func:`coordinate`.  Scores are not touched, so PRAUC is that of the list before.

Switches (``paper`` → ``official``):

* ``pair_targets``: pairs of prescribed medications → pairs of the first n places, n being the length of the list.
* ``ddi_test``: whether the visit's list exceeds :math:`\varphi` → the same of the *visit numbers* in place of the
  medications, once a patient.
* ``repair`` (ours, the same in both): ``official`` drops the least likely of all in conflict until none is; ``greedy``
  keeps the likeliest and drops its partners; ``exact`` finds the likeliest set; ``none``.
* ``symptoms`` (ours): ``structured`` symptoms of the cohort, or ``none``, as where a cohort has none; then the stream
  and the causal loss are left out.  The released symptoms are words of discharge summaries, written after treatment.

Deviations.  Attention in the text encoder has no dropout of its own.  The tokenizer is built from the titles at hand
(released: ClinicalBERT's, of which only the tokenizer is used).  Codes of a visit are read in the order of the
vocabulary, so that the order of the record does not matter.  The released vectors of medications come from a frozen
molecular language model that is not published with the code; here a graph network (:mod:`medrec.nn.gin`) is trained
with the rest.  Released code leaves medications without a structure out of the vocabulary.
Symptom counts come from training visits (released: all).  Pairs count as often joined from a share of training visits,
not a number.  The rate is constant (released: warm-up and cosine), an optimiser step takes a batch of patients
(released: one), the epoch of the best validation Jaccard is kept (released: of the mean of the last five).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import coo_array
from torch import Tensor, nn

from medrec.arguments import Count, Few, Limit, Share, Weight, check_heads
from medrec.context import Context, molecules_of
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Cohort, Kind, Vocabulary
from medrec.losses import ddi_loss, margin_loss, visit_ddi_rate
from medrec.models.base import Recommender, Row, System, TrainingConfig
from medrec.nn.ddi_target import DDITarget, DDITargetRule
from medrec.nn.dropout import Dropout
from medrec.nn.free_rows import FreeRows
from medrec.nn.gin import GIN

Repair = Literal["none", "official", "greedy", "exact"]


@dataclass(frozen=True)
class DrugRecConfig(TrainingConfig):
    """Settings of DrugRec."""

    size: int = 64  # width; released code
    n_layers: int = 2  # of the text encoder; released code
    n_heads: int = 4  # released code
    dropout: float = 0.1  # in the text encoder; released code
    segments: Count = 40  # codes of a visit that are told apart; released code
    previous_visits: Few = 3  # that a visit attends to beside itself; released code
    symptoms: Literal["structured", "none"] = "structured"  # ours; released code mines discharge summaries
    molecules_per_class: Limit = 3  # structures a medication; released code
    gin_layers: int = 4  # ours, as in MoleRec; released code has frozen vectors
    without_structure: Literal["learnt", "zero"] = "learnt"  # ours; released code has no such medications
    margin_weight: Weight = 0.1  # released code
    ddi_weight: Weight = 0.5  # released code
    target_ddi: float = 0.05  # released code
    ddi_target: DDITargetRule = "ratio"  # ours; released code "absolute", see medrec.nn.ddi_target
    causal_weight: Weight = 5e-4  # released code
    causal_samples: Few = 5  # symptoms drawn a visit; released code
    pair_targets: Literal["medications", "positions"] = "medications"  # paper; released code: positions
    ddi_test: Literal["medications", "visit_numbers"] = "medications"  # paper; released code: visit_numbers
    repair: Repair = "official"  # paper and released code
    frequent_pair: Share = 0.074  # of training visits; such pairs may stay. Released code: 1000 of its 13490 visits
    batch_size: int = 64  # patients a step; ours, with `epochs` as many steps as BiMoRec's at the papers' size
    learning_rate: float = 4e-3  # ours, of four tried on validation; released code 5e-4, one patient a step
    epochs: int = 10  # at most; ours, see `batch_size`

    def __post_init__(self) -> None:
        check_heads("size", self.size, self.n_heads)


VARIANTS = {
    "paper": {},
    "official": {"pair_targets": "positions", "ddi_test": "visit_numbers", "ddi_target": "absolute"},
}
"""Switches of each variant."""


# -- losses --------------------------------------------------------------------------------------------------------


def pair_loss(prob: Tensor, target: Tensor, targets: Literal["medications", "positions"] = "medications") -> Tensor:
    r"""Cross-entropy between joint probabilities and what is prescribed together.

    Source: released code.

    .. math:: \frac{2}{M(M-1)} \sum_{i<j} \operatorname{BCE}(\hat m_i \hat m_j,\ m_i m_j)

    Args:
        prob: ``(n, M)`` in [0, 1].
        target: ``(n, M)`` bool.
        targets: ``"positions"`` as released: with k medications prescribed, the pairs of the first k places.

    Returns:
        One value a visit, ``(n,)``.
    """
    M = prob.shape[-1]
    if targets == "positions":
        target = torch.arange(M, device=prob.device) < target.sum(-1, keepdim=True)
    i, j = torch.triu_indices(M, M, 1, device=prob.device)
    joint = prob[:, i] * prob[:, j]
    together = (target[:, i] & target[:, j]).to(prob.dtype)
    return nn.functional.binary_cross_entropy(joint, together, reduction="none").mean(-1)


def causal_loss(prob: Tensor, without: Tensor, target: Tensor) -> Tensor:
    r"""Reward for symptoms that speak for what was prescribed and against what was not.

    Source: released code.

    .. math:: -\frac1M \sum_i \log \sigma\big(\operatorname{sign}(m_i - \tfrac12)\,(\hat m_i - \hat m^0_i)\big)

    Args:
        prob: ``(n, M)``, with the visit's symptoms.
        without: ``(n, M)``, with their part set to 0.
        target: ``(n, M)`` bool.

    Returns:
        One value a visit, ``(n,)``, each term between 0.3133 and 1.3133.
    """
    sign = torch.where(target, 1.0, -1.0)
    return -nn.functional.logsigmoid(sign * (prob - without)).mean(-1)


def visit_number_ddi_rate(recommended: Tensor, ddi: Tensor, visit_mask: Tensor) -> Tensor:
    """What released code takes for a patient's DDI rate: visit numbers are looked up in place of medications.

    Each recommended medication counts as its visit's number; pairs of equal numbers never interact.

    Args:
        recommended: ``(B, T, M)`` bool.
        ddi: ``(M, M)`` bool.
        visit_mask: ``(B, T)`` bool.

    Returns:
        ``(B, T)``, the same at all visits of a patient.
    """
    T = min(recommended.shape[1], len(ddi))
    sizes = (recommended.sum(-1) * visit_mask)[:, :T].to(torch.get_default_dtype())
    pairs = torch.einsum("bt,tu,bu->b", sizes, ddi[:T, :T].to(sizes.dtype), sizes)
    total = sizes.sum(1)
    rate = pairs / (total * (total - 1)).clamp(min=1)
    return rate[:, None].expand(visit_mask.shape)


# -- coordination --------------------------------------------------------------------------------------------------


def coordinate(chosen: Tensor, prob: Tensor, conflicts: Tensor, rule: Repair) -> Tensor:
    """Lists without conflicts.

    Released code hands clauses "not a or not b" to a solver for 2-SAT.  Such clauses are always satisfied by dropping
    everything; what its solver does is the rule ``official``.

    Args:
        chosen: ``(n, M)`` bool.
        prob: ``(n, M)``.
        conflicts: ``(M, M)`` bool, symmetric, zero diagonal.
        rule: ``official``: the least likely of all in conflict goes, until none is.  ``greedy``: the likeliest in
            conflict stays, its partners go, and so on.  ``exact``: the set of largest summed probability.  ``none``.

    Returns:
        ``(n, M)`` bool, a part of ``chosen``.
    """
    kept = chosen.clone()
    if rule == "none":
        return kept
    if rule == "exact":
        for v in torch.nonzero(_in_conflict(kept, conflicts).any(-1))[:, 0].tolist():
            ids = kept[v].nonzero()[:, 0]
            keep = independent_set(prob[v, ids].cpu().numpy(), conflicts[ids][:, ids].cpu().numpy())
            kept[v, ids] = torch.from_numpy(keep).to(kept.device)
        return kept
    rows = torch.arange(len(kept), device=kept.device)
    while (troubled := _in_conflict(kept, conflicts)).any():
        some = troubled.any(-1)
        if rule == "official":
            least = torch.where(troubled, prob, torch.inf).argmin(-1)
            kept[rows[some], least[some]] = False
        else:
            likeliest = torch.where(troubled, prob, -torch.inf).argmax(-1)
            kept[some] &= ~conflicts[likeliest[some]]
    return kept


def _in_conflict(kept: Tensor, conflicts: Tensor) -> Tensor:
    """``(n, M)`` bool: kept, and so is a partner."""
    return kept & (kept.to(torch.float32) @ conflicts.to(torch.float32) > 0)


def independent_set(weights: NDArray, conflicts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of all sets without a conflict one of largest weight.

    Args:
        weights: ``(k,)``.
        conflicts: ``(k, k)`` bool, symmetric, zero diagonal.

    Returns:
        ``(k,)`` bool.

    Example:
        >>> independent_set(np.array([0.9, 0.8, 0.7]), np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool))
        array([ True, False,  True])
    """
    a, b = np.nonzero(np.triu(conflicts))
    if not len(a):
        return weights > 0
    row = np.arange(len(a))
    clauses = coo_array((np.ones(2 * len(a)), (np.tile(row, 2), np.concatenate([a, b]))), shape=(len(a), len(weights)))
    found = milp(
        -weights,
        integrality=np.ones(len(weights)),
        bounds=(0, 1),
        constraints=LinearConstraint(clauses.tocsr(), ub=1),
    )
    return found.x > 0.5


# -- text ----------------------------------------------------------------------------------------------------------

PADDING, START, END = 0, 1, 2


class Tokenizer:
    """Words of titles as numbers, from the titles themselves; punctuation is passed over.

    Args:
        vocabularies: whose titles are read; words stand in alphabetical order, so equal titles give equal numbers.
    """

    def __init__(self, *vocabularies: Vocabulary) -> None:
        words = sorted({word for vocabulary in vocabularies for title in vocabulary.titles for word in _words(title)})
        self.index = {word: number for number, word in enumerate(words, start=3)}

    def __len__(self) -> int:
        return len(self.index) + 3

    def table(self, vocabulary: Vocabulary) -> Tensor:
        """Each title's words and an end, padded, ``(V, L)`` int64."""
        rows = [[*(self.index[word] for word in _words(title)), END] for title in vocabulary.titles]
        table = torch.full((len(rows), max(map(len, rows), default=1)), PADDING)
        for row, numbers in zip(table, rows, strict=True):
            row[: len(numbers)] = torch.tensor(numbers)
        return table


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


class TextEncoder(nn.Module):
    """Transformer over the titles of a visit's codes; the first token stands for the visit.

    Args:
        n_words: of the tokenizer.
        positions: within a title.
        config: settings of the system.
    """

    def __init__(self, n_words: int, positions: int, config: DrugRecConfig) -> None:
        super().__init__()
        d = config.size
        self.segments = config.segments
        self.words = nn.Embedding(n_words, d, padding_idx=PADDING)
        self.positions = nn.Embedding(positions, d)
        self.segment = nn.Embedding(config.segments, d)
        self.norm = nn.LayerNorm(d)
        self.dropout = Dropout(config.dropout)
        layers = [
            nn.TransformerEncoderLayer(d, config.n_heads, 4 * d, config.dropout, batch_first=True)
            for _ in range(config.n_layers)
        ]
        for layer in layers:
            # Weights of attention are not dropped: without it they need not be kept, and an epoch takes a fifth less.
            layer.self_attn.dropout = 0.0
            for name in ("dropout", "dropout1", "dropout2"):
                setattr(layer, name, Dropout(config.dropout))
        self.layers = nn.ModuleList(layers)
        self.last_norm = nn.LayerNorm(d)

    def forward(self, tokens: Tensor, position: Tensor, segment: Tensor) -> Tensor:
        """Tokens of ``n`` texts, each ``(n, L)`` int64, padded behind → ``(n, d)``."""
        x = self.words(tokens) + self.positions(position) + self.segment(segment.clamp(max=self.segments - 1))
        x = self.dropout(self.norm(x))
        padding = tokens == PADDING
        *earlier, last = self.layers
        assert isinstance(last, nn.TransformerEncoderLayer)
        for layer in earlier:
            x = layer(x, src_key_padding_mask=padding)
        return self.last_norm(_first_token(last, x, padding))


def _first_token(layer: nn.TransformerEncoderLayer, x: Tensor, padding: Tensor) -> Tensor:
    """What the layer makes of the first token, ``(n, d)``; in the last layer no other is asked for."""
    first = x[:, :1]
    attended, _ = layer.self_attn(first, x, x, key_padding_mask=padding, need_weights=False)
    first = layer.norm1(first + layer.dropout1(attended))
    return layer.norm2(first + layer.dropout2(layer.linear2(layer.dropout(layer.linear1(first).relu()))))[:, 0]


def visit_texts(ids: Tensor, table: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Texts of visits: a start, then word by word the titles of its codes, each closed by an end.

    Args:
        ids: ``(n, C)`` codes of each visit in increasing order; padding is ``V`` and stands last.
        table: ``(V, L)`` tokens of each title.
        lengths: ``(V,)`` how many of them are real.

    Returns:
        tokens, position within the title and number of the title, each ``(n, W)`` int64; padded with 0.
    """
    n, device = len(ids), ids.device
    visit, slot = (ids < len(table)).nonzero(as_tuple=True)
    code = ids[visit, slot]
    size = lengths[code]
    owner = torch.repeat_interleave(torch.arange(len(code), device=device), size)
    within = torch.arange(len(owner), device=device) - (size.cumsum(0) - size)[owner]
    total = torch.zeros(n, dtype=torch.int64, device=device).index_add(0, visit, size)
    at = torch.arange(len(owner), device=device) - (total.cumsum(0) - total)[visit[owner]] + 1
    shape = (n, int(total.max()) + 1 if n else 1)
    tokens, position, segment = (torch.zeros(shape, dtype=torch.int64, device=device) for _ in range(3))
    tokens[:, 0] = START
    where = (visit[owner], at)
    tokens[where] = table[code[owner], within]
    # The start is the first token of the first title.
    position[where] = within + (slot[owner] == 0)
    segment[where] = slot[owner]
    return tokens, position, segment


# -- the system ----------------------------------------------------------------------------------------------------


class VisitAttention(nn.Module):
    """What a visit takes from itself and some visits before it; keys serve as values."""

    def __init__(self, size: int, previous: int) -> None:
        super().__init__()
        self.previous = previous
        self.query = nn.Sequential(nn.ReLU(), nn.Linear(size, size))
        self.key = nn.Sequential(nn.ReLU(), nn.Linear(size, size))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, d)`` → ``(B, T, d)``."""
        keys = self.key(x)
        scores = self.query(x) @ keys.transpose(1, 2) / x.shape[-1] ** 0.5
        t = torch.arange(x.shape[1], device=x.device)
        back = t[:, None] - t
        seen = (back >= 0) & (back <= self.previous)
        return scores.masked_fill(~seen, -torch.inf).softmax(-1) @ keys


def _feed_forward(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.Linear(inputs, outputs))


@dataclass(frozen=True)
class _Reading:
    """What one pass over a batch found, kept from logits to loss."""

    streams: tuple[Tensor, ...]  # each (B, T, d), after attention
    query: Tensor  # (B, T, d)
    medications: Tensor  # (M, d)
    logits: Tensor


class DrugRec(Recommender):
    r"""Titles of a visit's codes, read as text, ask for medications, known by their molecules.

    .. math::
        q_t = \operatorname{FF}[\bar d \,\|\, \bar p \,\|\, \bar s]_t, \qquad z_{tm} = q_t \cdot g(e_m)

    with :math:`\bar d, \bar p, \bar s` the text of the visit and of three before it, by an attention of each stream.
    Texts are ``(n, W)`` tokens, streams and queries ``(B, T, d)``, medications ``(M, d)``, logits ``(B, T, M)``;
    :meth:`decide` mends the sets (:func:`coordinate`).

    Learnt: a :class:`TextEncoder` for diagnoses and procedures together and one for symptoms; a
    :class:`VisitAttention` for each stream; the layers between them; the graph network of molecules;
    :class:`medrec.nn.free_rows.FreeRows`; the perceptron :math:`g`.  Counted in :meth:`prepare`: which pairs are often
    joined ``(M, M)``, how often each symptom occurs and which follow it.

    Args:
        config: its settings.
        context: vocabularies with titles, molecules, and interactions for loss and mending.
    """

    config: DrugRecConfig
    frequent: Tensor
    symptom_share: Tensor
    symptom_next: Tensor

    def __init__(self, config: DrugRecConfig, context: Context) -> None:
        super().__init__(config, context)
        self.tunable = config.repair == "none"
        d, vocab = config.size, context.vocab
        self.has_symptoms = config.symptoms == "structured" and len(vocab["symptom"]) > 0
        self.kinds: tuple[Kind, ...] = ("diagnosis", "procedure") + ("symptom",) * self.has_symptoms
        tokenizer = Tokenizer(*(vocab[kind] for kind in self.kinds))
        tables = {kind: tokenizer.table(vocab[kind]) for kind in self.kinds}
        for kind, table in tables.items():
            # From the titles alone: not stored with the weights.
            self.register_buffer(f"titles_{kind}", table, persistent=False)
            self.register_buffer(f"lengths_{kind}", (table != PADDING).sum(1), persistent=False)
        longest = {kind: table.shape[1] + 1 for kind, table in tables.items()}
        # Diagnoses and procedures share an encoder.
        self.record_encoder = TextEncoder(len(tokenizer), max(longest["diagnosis"], longest["procedure"]), config)
        if self.has_symptoms:
            self.symptom_encoder = TextEncoder(len(tokenizer), longest["symptom"], config)
            self.with_symptoms = nn.ModuleDict({kind: _feed_forward(2 * d, d) for kind in self.kinds[:2]})
            self.query_symptoms = _feed_forward(2 * d, d)
            S = len(vocab["symptom"])
            self.register_buffer("symptom_share", torch.full((S,), 1 / S))
            self.register_buffer("symptom_next", torch.full((S, S), 1 / S))
        self.project = _feed_forward(d, d)
        self.attention = nn.ModuleDict({kind: VisitAttention(d, config.previous_visits) for kind in self.kinds})
        self.query = _feed_forward(len(self.kinds) * d, d)
        M = context.sizes["medication"]
        self.molecule_encoder = GIN(d, config.gin_layers, config.dropout)
        self.free = FreeRows(molecules_of(context).average, d, config.without_structure == "learnt")
        self.ddi_target = DDITarget(config.target_ddi, config.ddi_target)
        self.medication = nn.Sequential(nn.ReLU(), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d))
        self.register_buffer("frequent", torch.zeros(M, M, dtype=torch.bool))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Everything as the libraries have it."""
        for module in self.modules():
            reset = getattr(module, "reset_parameters", None)
            if module is not self and reset is not None:
                reset()
            elif isinstance(module, nn.MultiheadAttention):
                module._reset_parameters()

    def prepare(self, cohort: Cohort, train: NDArray[np.integer], context: Context) -> None:
        """From training visits: pairs often joined, their rate of interactions, how symptoms occur and co-occur."""
        own = cohort.select(train)
        rows = own.codes["medication"].multi_hot(cohort.n_medications)
        self.ddi_target.count(rows, context.ddi)
        rows = rows.astype(np.float64)
        often = rows.T @ rows >= self.config.frequent_pair * max(len(rows), 1)
        np.fill_diagonal(often, False)
        self.frequent.copy_(torch.from_numpy(often))
        if self.has_symptoms:
            seen = own.codes["symptom"].multi_hot(len(context.vocab["symptom"])).astype(np.float64)
            if seen.any():
                self.symptom_share.copy_(torch.from_numpy(seen.sum(0) / seen.sum()))
            together = seen.T @ seen
            np.fill_diagonal(together, 0)
            partners = together.sum(1, keepdims=True)
            # A symptom that is always alone is followed by any.
            chance = np.where(partners > 0, together / partners.clip(1), 1 / max(len(together), 1))
            self.symptom_next.copy_(torch.from_numpy(chance))

    # -- forward

    def forward(self, batch: VisitBatch, context: Context) -> Tensor:
        """Logits ``(B, T, M)``."""
        return self._read_records(batch, context).logits

    def _read_records(self, batch: VisitBatch, context: Context) -> _Reading:
        """One pass over a batch, for output and loss."""
        texts = {kind: self._encode(batch, kind) for kind in self.kinds}
        if self.has_symptoms:
            s = texts["symptom"]
            for kind in self.kinds[:2]:
                texts[kind] = self.with_symptoms[kind](torch.cat([texts[kind], s], dim=-1))
        streams = tuple(self.attention[kind](self.project(texts[kind])) for kind in self.kinds)
        query = self.query(torch.cat(streams, dim=-1))
        medications = self._medications(context)
        return _Reading(streams, query, medications, query @ medications.T)

    def _encode(self, batch: VisitBatch, kind: Kind) -> Tensor:
        """First token of each visit's text, ``(B, T, d)``; 0 at padding."""
        real = batch.visit_mask
        # Padding is the largest id, so it stays behind; equal sets of codes are equal texts, and read once.
        ids = nn.functional.pad(batch.codes[kind][real], (0, 1), value=batch.sizes[kind])
        ids, back = ids.sort(dim=1)[0].unique(dim=0, return_inverse=True)
        found = self._read(ids, kind)[back]
        return found.new_zeros(*real.shape, found.shape[-1]).index_put(real.nonzero(as_tuple=True), found)

    def _read(self, ids: Tensor, kind: Kind) -> Tensor:
        """Texts of sets of codes ``(n, C)`` → ``(n, d)``, in bundles of similar length."""
        table, lengths = getattr(self, f"titles_{kind}"), getattr(self, f"lengths_{kind}")
        encoder = self.symptom_encoder if kind == "symptom" else self.record_encoder
        tokens, position, segment = visit_texts(ids, table, lengths)
        size = (tokens != PADDING).sum(1)
        order = size.argsort(stable=True)
        found = []
        for part in order.split(BUNDLE):
            width = int(size[part].max())
            found.append(encoder(*(x[part, :width] for x in (tokens, position, segment))))
        return torch.cat(found)[order.argsort()]

    def _medications(self, context: Context) -> Tensor:
        """``(M, d)``."""
        molecules = molecules_of(context)
        return self.medication(self.free(molecules.average @ self.molecule_encoder(molecules.graphs)))

    def decide(self, batch: VisitBatch, context: Context) -> tuple[Tensor, Tensor]:
        """Probabilities, and thresholded sets after :func:`coordinate`."""
        prob, sets = super().decide(batch, context)
        at = self.scored(batch)
        sets[at] = coordinate(sets[at], prob[at], context.ddi & ~self.frequent, self.config.repair)
        return prob, sets

    # -- loss

    def loss(self, batch: VisitBatch, context: Context) -> Tensor:
        """Mean over visits of the sum in the module's text; the causal part only while training."""
        at, config = self.scored(batch), self.config
        reading = self._read_records(batch, context)
        logits = reading.logits
        prob, target = logits[at].sigmoid(), batch.target[at]
        bce = nn.functional.binary_cross_entropy_with_logits(logits[at], target.to(logits.dtype), reduction="none")
        with torch.no_grad():
            recommended = logits.sigmoid() >= config.threshold
            if config.ddi_test == "medications":
                rate = visit_ddi_rate(recommended, context.ddi)
            else:
                rate = visit_number_ddi_rate(recommended, context.ddi, batch.visit_mask)
        total = bce.mean(-1) + config.margin_weight * margin_loss(prob, target)
        total = total + pair_loss(prob, target, config.pair_targets)
        unsafe = ddi_loss(prob, context.ddi, 1 / prob.shape[-1])
        total = total + config.ddi_weight * (rate[at] > self.ddi_target.rate) * unsafe
        if self.training and self.has_symptoms:
            total = total + config.causal_weight * self._causal_loss(batch, reading)[at]
        return total.mean()

    def _causal_loss(self, batch: VisitBatch, reading: _Reading) -> Tensor:
        """``(B, T)``."""
        drawn = self._sampled_symptoms(batch.visit_mask)
        single, back = drawn.unique(return_inverse=True)
        expected = self._read(single[:, None], "symptom")[back].mean(-2)
        *others, symptoms = reading.streams
        blind = self.query(torch.cat([*others, torch.zeros_like(symptoms)], dim=-1))
        prob, without = (
            (self.query_symptoms(torch.cat([q, expected], dim=-1)) @ reading.medications.T).sigmoid()
            for q in (reading.query, blind)
        )
        return causal_loss(prob, without, batch.target)

    def _sampled_symptoms(self, visit_mask: Tensor) -> Tensor:
        """Symptoms as they could have been, ``(B, T, k)``: drawn by frequency, then passed on by co-occurrence."""
        B, T = visit_mask.shape
        k = self.config.causal_samples
        drawn = [torch.multinomial(self.symptom_share, B * k, replacement=True)]
        for _ in range(T - 1):
            drawn.append(torch.multinomial(self.symptom_next[drawn[-1]], 1)[:, 0])
        return torch.stack(drawn, dim=1).reshape(B, k, T).transpose(1, 2)


BUNDLE = 16
"""Texts of similar length that are read together."""


NARROW = {
    "n_layers": 1,
    "gin_layers": 2,
    "molecules_per_class": 1,
    "batch_size": 16,
    "learning_rate": 3e-3,
}
"""Of all its rows: a training of half a minute instead of ten, in more and larger steps."""

SYSTEM = System(
    name="drugrec",
    label="DrugRec",
    family="causal",
    cls=DrugRec,
    config=DrugRecConfig,
    sees="titles of diagnoses, procedures and symptoms of the visit and three before, molecules",
    small={"epochs": 50},
    variants=VARIANTS,
    needs=("molecules",),
    citation="sun2022drugrec",
    seconds_per_epoch=46,
    rows=tuple(
        Row(key, label, "drugrec", variant, NARROW | changed)
        for key, label, variant, changed in (
            ("drugrec", "DrugRec", "paper", {}),
            ("pairs", "pairs by position", "paper", {"pair_targets": "positions"}),
            ("interactions", "interactions by position", "paper", {"ddi_test": "visit_numbers"}),
            ("no-symptoms", "no symptoms", "paper", {"symptoms": "none"}),
            ("no-repair", "no repair", "paper", {"repair": "none"}),
            ("greedy", "greedy repair", "paper", {"repair": "greedy"}),
            ("exact", "exact repair", "paper", {"repair": "exact"}),
            ("official", "official", "official", {}),
        )
    ),
)
