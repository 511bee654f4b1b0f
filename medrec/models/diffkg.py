r"""DiffKG: draw the knowledge graph again by diffusion, and let two readings of a medication agree.

Jiang et al., "DiffKG: knowledge graph diffusion model for recommendation", WSDM 2024; used on MIMIC-III by Zhao,
"Medication recommendation based on diffusion knowledge graphs", 2024.  Formulas are those of the released code where
the text is silent.  With entities :math:`x_e`, relations :math:`r`, patients :math:`E_u`, given medications
:math:`A \in \{0, 1\}^{U \times M}`:

.. math::
    \alpha &= \operatorname{softmax}_{t \in \mathcal N_h}
        \operatorname{LeakyReLU}_{.2}\big([x_h \,\|\, x_t]\, W \cdot r\big), \\
    x_h' &= \operatorname{Drop}\Big(\operatorname{Norm}\big(x_h + \sum_t \alpha\, x_t\big)\Big), \qquad
    \bar x \leftarrow \lambda_{res}\, \bar x + x' && \text{(1)}\\
    z &= \sum_{l=0}^{L} \big(D^{-1/2} A\, D^{-1/2}\big)^l\, [E_u \,\|\, \bar x_{items}], \qquad
    \hat y_{ui} = z_u \cdot z_i && \text{(2)}\\
    \mathcal L_{elbo} &= w_t\, \lVert x_0 - \hat x_0(x_t, t) \rVert^2, \qquad
    w_1 = 1, \quad w_t = \mathrm{SNR}_{t-1} - \mathrm{SNR}_t && \text{(3)}\\
    \mathcal L_{ckgc} &= \big\lVert (A\, \hat x_0^{items})^\top E_u - x_e \big\rVert^2, \qquad
    \mathcal L_{kgdm} = (1 - \lambda_0)\, \mathcal L_{elbo} + \lambda_0\, \mathcal L_{ckgc} && \text{(4)}\\
    \mathcal L_{cl} &= -\ln \operatorname{softmax}_{n'}\, \frac{\cos(z_n, z'_{n'})}{\tau}\Big|_{n' = n}, \qquad
    \mathcal L = \mathcal L_{BPR} + \lambda_1 \mathcal L_{cl} + \lambda_2 \lVert \Theta \rVert^2 && \text{(5)}

where :math:`x_0` is an entity's row of the graph, 1 for each entity that it is linked to in either direction, and
schedule and noise are those of :mod:`medrec.nn.noise`.

**An epoch.**  The denoiser learns (4) on all rows, with embeddings that it does not move.  Then the graph is rebuilt:
each row without noise through all steps, its ``rebuild_k`` best entities, the same read backwards, and of all these
each with probability ``keep``.  Then patients, entities, relations and :math:`W` learn (5) on pairs: one view reads the
rebuilt graph, the other the original, of which at most ``samples_per_head`` triplets a head were drawn once.  Lists
come from the rebuilt graph.  The two parts have an optimiser each, and nothing of (5) reaches the denoiser: only (4)
can teach it which edges help.

Switches (``paper`` → ``official``):

* ``diffusion_in_training``: yes → no: the released loop hands the rebuilt graph to the wrong argument, both views read
  the original, and what is learnt by diffusion meets an evaluation only;
* ``rebuild``: ``add``, a pair that the graph does not know gets a relation of its own → ``filter``, it is dropped, so
  that the rebuilt graph is a part of the original, with one entity a row at most one edge of every row;
* ``diffused``: rows of ``items`` → of all ``entities``;
* ``samples_per_head``: all → 10;  ``last_step``: ``norm_drop`` → ``drop_norm``, after which every length is 1;
* ``self_loops`` in (2): no → yes;  ``error``: sums in (3) and (4) as printed → ``mean``, over entities and widths, by
  which the two terms stand in another proportion.

The best epoch is chosen on validation patients; the released choice on test patients is the protocol's ``selection``.

Ours: ``choose``, by what a row's edges are chosen: ``diffusion``, or as many of its known ones at ``random``, or those
to the most ``frequent`` tails; ``second_view``: without it there is one view, of the original graph, and no diffusion;
``main_view``, which of the two BPR and lists read (both stand in the released code); ``ckgc_norm``: with ``degree`` an
item stands for the mean of its patients' vectors, not for their sum, which grows with their number; ``graph`` and
``construction``, see :mod:`medrec.graphs.knowledge`.  :data:`ARMS` are the seven of the book's comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from medrec.arguments import Count, Few, Limit, Range, Rate, Scale, Share, Weight, Width
from medrec.arguments import Dropout as DropoutRate
from medrec.context import Context, graph_of, knowledge_of
from medrec.graphs.interactions import Interactions
from medrec.graphs.knowledge import Construction, Control, controlled, with_inverses
from medrec.graphs.sampling import Pairs, bpr_loss, pair_batches
from medrec.models.base import Ranker, Row, System, TrainingConfig
from medrec.nn.dropout import dropout
from medrec.nn.edges import Edges, segment_softmax, weighted_sums
from medrec.nn.noise import NoiseSchedule

SLOPE = 0.2
"""Of LeakyReLU below 0; released code."""
FIRST = 1e-4
"""Variance of the noise of step 1; released code."""

ANCHORS = 64
"""Of the contrast, at a time."""

Small = Annotated[float, Range(0, 1, above=True, below=True)]
"""A variance below that of the signal."""


@dataclass(frozen=True)
class DiffKGConfig(TrainingConfig):
    """Settings of DiffKG."""

    size: int = 64  # of patients, entities and relations; released code
    n_layers: int = 2  # of eq. 2; released code
    kg_layers: Few = 1  # of eq. 1; released code, 2 on Last-FM
    kg_residual: Share = 0.5  # lambda_res; released code, 0 on Last-FM
    dropout: float = 0.1  # of messages in eq. 1; released code
    samples_per_head: Limit = 0  # triplets of a head in the original view, 0 for all; paper; released code 10
    last_step: Literal["norm_drop", "drop_norm"] = "norm_drop"  # of eq. 1; paper; released code "drop_norm"
    self_loops: bool = False  # in eq. 2; paper; released code True
    denoiser_size: Width = 1000  # of its hidden layer; released code
    denoiser_dropout: DropoutRate = 0.5  # on its input; released code
    time_size: Width = 10  # of a step's embedding; released code
    n_steps: Annotated[int, Range(1, 1000)] = 5  # of noise; released code; the study on MIMIC-III 50
    noise_scale: Rate = 0.1  # released code; the study 1e-3 and 1e-4
    noise_min: Small = 1e-4  # released code
    noise_max: Small = 0.02  # released code; the study 1e-3
    ckgc_weight: Share = 0.5  # lambda_0; released code, .01 on Last-FM; the study .1 to .6
    ckgc_norm: Literal["none", "degree"] = "none"  # ours
    error: Literal["sum", "mean"] = "sum"  # of eqs. 3 and 4; paper; released code "mean"
    diffused: Literal["items", "entities"] = "items"  # paper; released code "entities"
    rebuild: Literal["add", "filter"] = "add"  # paper; released code "filter"
    rebuild_k: Few = 1  # entities of a row; released code
    keep: Rate = 0.5  # of the rebuilt edges; released code
    choose: Literal["diffusion", "random", "frequent"] = "diffusion"  # ours
    diffusion_in_training: bool = True  # paper; released code False
    main_view: Literal["rebuilt", "original"] = "rebuilt"  # released code, "original" on Last-FM
    second_view: bool = True  # ours
    contrast_weight: Weight = 0.1  # lambda_1; released code
    temperature: Scale = 0.1  # of eq. 5; released code
    penalty: Weight = 1e-7  # lambda_2; released code
    graph: Control = "full"  # ours
    construction: Construction = "house"  # ours; the third paper has "study"
    per_medication: Limit = 100  # diagnoses, and procedures, of each medication; ours
    row_batch: Count = 1024  # rows a step of the denoiser; released code
    batch_size: int = 8192  # pairs a step; ours; released code 1024
    learning_rate: float = 2e-3  # of both optimisers; ours; released code 1e-3
    epochs: int = 50  # at most; released code, iFashion; 25 on the others
    patience: int = 10  # ours


OFFICIAL: dict[str, Any] = {
    "diffusion_in_training": False,
    "rebuild": "filter",
    "diffused": "entities",
    "samples_per_head": 10,
    "last_step": "drop_norm",
    "self_loops": True,
    "error": "mean",
}
VARIANTS: dict[str, dict[str, Any]] = {"paper": {}, "official": OFFICIAL}
"""Switches of each variant."""


# -- the knowledge graph as pairs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """Pairs of entities that the graph links, in both directions, sorted; of several relations the first counts.

    Args:
        key: ``(L,)`` int64, ``head * N + tail``, each once.
        relation: ``(L,)`` int64.
        first: ``(N + 1,)`` where a head's pairs begin.
    """

    key: Tensor
    relation: Tensor
    first: Tensor

    @classmethod
    def of(cls, triplets: Tensor, n: int) -> Known:
        """From triplets in both directions, ``(2 E, 3)``, of ``n`` entities."""
        head, relation, tail = triplets.unbind(1)
        order = relation.argsort(stable=True)
        key = (head * n + tail)[order]
        second = key.argsort(stable=True)
        key, order = key[second], order[second]
        new = torch.ones_like(key, dtype=torch.bool)
        new[1:] = key[1:] != key[:-1]
        key = key[new]
        first = torch.searchsorted(key, torch.arange(n + 1, device=key.device) * n)
        return cls(key, relation[order][new], first)

    @property
    def n(self) -> int:
        """Number of entities."""
        return len(self.first) - 1

    def find(self, key: Tensor) -> Tensor:
        """``(...)`` int64: places of keys, -1 for those that are not known."""
        if len(self.key) == 0:
            return torch.full_like(key, -1)
        place = torch.searchsorted(self.key, key).clamp(max=len(self.key) - 1)
        return torch.where(self.key[place] == key, place, -1)

    def rows(self, entities: Tensor) -> Tensor:
        """Rows of zeros and ones, ``(B, N)`` float, for some entities, ``(B,)``."""
        begin, count = self.first[entities], self.first[entities + 1] - self.first[entities]
        row = torch.arange(len(entities), device=count.device).repeat_interleave(count)
        place = torch.arange(len(row), device=count.device) + (begin - (count.cumsum(0) - count))[row]
        found = torch.zeros(len(entities), self.n, device=count.device)
        found[row, self.key[place] % self.n] = 1
        return found


def chosen_pairs(
    picked: Tensor,
    known: Known,
    rebuild: Literal["add", "filter"],
    choose: Literal["diffusion", "random", "frequent"] = "diffusion",
    chance: Tensor | None = None,
) -> Tensor:
    """Keys of the pairs of a rebuilt graph, read forwards only.

    Args:
        picked: ``(H, k)`` int64, tails that the diffusion wants for the heads 0, 1, ...; -1 for none.
        known: pairs of the original graph.
        rebuild: ``"filter"``: known pairs alone; ``"add"``: the others too.
        choose: ``"diffusion"``; or, as controls, for each head as many of its known pairs as the filter would keep, at
            random or those whose tails are linked most often.
        chance: ``(L,)`` random numbers for the known pairs, where ``choose`` is ``"random"``.

    Returns:
        ``(P,)`` int64, sorted.
    """
    head = torch.arange(len(picked), device=picked.device)[:, None].expand_as(picked)
    key = (head * known.n + picked)[picked >= 0]
    kept = key[known.find(key) >= 0]
    if choose == "diffusion":
        return (kept if rebuild == "filter" else key).unique()
    wanted = (kept // known.n).bincount(minlength=known.n)
    owner, tail = known.key // known.n, known.key % known.n
    if choose == "random":
        assert chance is not None
        rank = chance.argsort(stable=True)
    else:
        rank = (-tail.bincount(minlength=known.n)[tail]).argsort(stable=True)
    rank = rank[owner[rank].argsort(stable=True)]
    place = torch.arange(len(rank), device=rank.device) - known.first[owner[rank]]
    return known.key[rank[place < wanted[owner[rank]]]].sort().values


def both_ways(key: Tensor, known: Known, unknown: int) -> Tensor:
    """Triplets of pairs and of the same pairs from their tails, each once, ``(P, 3)``.

    Args:
        key: ``(P,)`` from :func:`chosen_pairs`.
        known: pairs of the original graph, with their relations.
        unknown: relation of a pair that is not among them.
    """
    head, tail = key // known.n, key % known.n
    key = torch.cat([key, tail * known.n + head]).unique()
    place = known.find(key)
    relation = torch.full_like(key, unknown)
    relation[place >= 0] = known.relation[place[place >= 0]]
    return torch.stack([key // known.n, relation, key % known.n], dim=1)


# -- equations ---------------------------------------------------------------------------------------------------------


def relation_attention(own: Tensor, around: Tensor, edges: Edges) -> Tensor:
    r"""How much a head hears of each tail, :math:`\alpha` of eq. 1.

    Source: DiffKG, relation-aware aggregation.

    Args:
        own: ``(N, R)``, :math:`x W_1 \cdot r` of each entity as a head, with :math:`W = [W_1; W_2]`.
        around: ``(N, R)``, :math:`x W_2 \cdot r` of each as a tail.
        edges: of the graph.

    Returns:
        ``(E,)``; adds up to 1 for each head that has edges.
    """
    R = own.shape[1]
    scores = own.flatten().index_select(0, edges.head * R + edges.relation)
    scores = scores + around.flatten().index_select(0, edges.tail * R + edges.relation)
    return segment_softmax(nn.functional.leaky_relu(scores, SLOPE), edges)


def finished(
    x: Tensor, rate: float, training: bool, last_step: Literal["norm_drop", "drop_norm"] = "norm_drop"
) -> Tensor:
    """Length 1 and dropout of eq. 1, in one order or the other; ``(N, d)``."""
    if last_step == "norm_drop":
        return dropout(nn.functional.normalize(x), rate, training)
    return nn.functional.normalize(dropout(x, rate, training))


@dataclass(frozen=True)
class Bipartite:
    """Patients and what they were given, ready for eqs. 2 and 4.

    Args:
        given: ``(U, M)`` zeros and ones.
        scaled: ``(U, M)``, each divided by the roots of both degrees.
        own_patient: ``(U, 1)`` weight of a patient's self-loop; 0 without.
        own_item: ``(M, 1)`` likewise.
    """

    given: Tensor
    scaled: Tensor
    own_patient: Tensor
    own_item: Tensor

    @classmethod
    def of(cls, given: Tensor, self_loops: bool) -> Bipartite:
        """From zeros and ones."""
        loop = float(self_loops)
        of_patient = (given.sum(1, keepdim=True) + loop).clamp(min=1)
        of_item = (given.sum(0)[:, None] + loop).clamp(min=1)
        return cls(given, given / (of_patient.sqrt() * of_item.sqrt().T), loop / of_patient, loop / of_item)


def light_gcn(patients: Tensor, items: Tensor, graph: Bipartite, n_layers: int) -> tuple[Tensor, Tensor]:
    r"""Eq. 2: what patients and items are after each of some layers, added up.

    Source: LightGCN; DiffKG, collaborative part.

    Args:
        patients: ``(U, d)``.
        items: ``(M, d)``.
        graph: who was given what.
        n_layers: L.

    Returns:
        ``(U, d)`` and ``(M, d)``.
    """
    all_patients, all_items = patients, items
    for _ in range(n_layers):
        patients, items = (
            graph.scaled @ items + graph.own_patient * patients,
            graph.scaled.T @ patients + graph.own_item * items,
        )
        all_patients, all_items = all_patients + patients, all_items + items
    return all_patients, all_items


def collaborative_constraint(
    guess: Tensor, given: Tensor, patients: Tensor, entities: Tensor, norm: Literal["none", "degree"] = "none"
) -> Tensor:
    r"""Differences of eq. 4, :math:`(A \hat x_0^{items})^\top E_u - x_e`.

    Source: DiffKG, collaborative knowledge graph convolution (CKGC).

    Args:
        guess: ``(B, M)``, items' part of the denoised rows.
        given: ``(U, M)``, A.
        patients: ``(U, d)``.
        entities: ``(B, d)``, whose rows they are.
        norm: ``"degree"``: the mean of an item's patients in the place of their sum.

    Returns:
        ``(B, d)``.
    """
    of_item = given.T @ patients
    if norm == "degree":
        of_item = of_item / given.sum(0)[:, None].clamp(min=1)
    return guess @ of_item - entities


class _OwnAmongAll(torch.autograd.Function):
    """Cross-entropy of each anchor's own node among all, some anchors at a time, with the gradient at once.

    Thousands of anchors by thousands of nodes are a matrix that would be written and read ten times.
    """

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, nodes: Tensor, own: Tensor, temperature: float) -> Tensor:
        of_anchors, of_nodes, total = torch.empty_like(anchors), torch.zeros_like(nodes), anchors.new_zeros(())
        for start in range(0, len(anchors), ANCHORS):
            part, place = anchors[start : start + ANCHORS], own[start : start + ANCHORS, None]
            log_share = (part @ nodes.T).div_(temperature).log_softmax(1)
            total -= log_share.gather(1, place).sum()
            error = log_share.exp_().scatter_add_(1, place, -torch.ones_like(place, dtype=part.dtype))
            of_anchors[start : start + ANCHORS] = error @ nodes
            of_nodes.addmm_(error.T, part)
        scale = temperature * len(anchors)
        ctx.save_for_backward(of_anchors.div_(scale), of_nodes.div_(scale))
        return total / len(anchors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        of_anchors, of_nodes = ctx.saved_tensors
        return grad * of_anchors, grad * of_nodes, None, None


def contrast(one: Tensor, other: Tensor, anchors: Tensor, temperature: float) -> Tensor:
    """Eq. 5: how well a node of one view finds itself among all of the other, by the cosine; mean over anchors.

    Source: DiffKG, contrast of views (InfoNCE); the own node is among those of the denominator.

    Args:
        one: ``(n, d)``.
        other: ``(n, d)``.
        anchors: ``(A,)`` int64.
        temperature: of the softmax.
    """
    one, other = nn.functional.normalize(one), nn.functional.normalize(other)
    found: Tensor = _OwnAmongAll.apply(one.index_select(0, anchors), other, anchors, temperature)
    return found


def step_weights(schedule: NoiseSchedule) -> Tensor:
    r""":math:`w_t` of eq. 3, ``(T,)`` float64."""
    ratio = schedule.signal_to_noise
    return torch.cat([ratio.new_ones(1), ratio[:-1] - ratio[1:]])


class Denoiser(nn.Module):
    r"""Two layers that are told how much noise there is, :math:`\hat x_0 = W_2 \tanh(W_1 [\bar x_t \,\|\, s_t]) + b`.

    Rows come in with length 1 and dropout, steps as sines and cosines through a linear layer.

    Args:
        n: width of a row.
        size: of the hidden layer.
        time_size: of a step's embedding.
        rate: of dropout.
        schedule: of the noise.
    """

    waves: Tensor
    signal: Tensor
    spread: Tensor
    weight: Tensor
    clean: Tensor
    noisy: Tensor

    def __init__(self, n: int, size: int, time_size: int, rate: float, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.rate, self.n_steps = rate, len(schedule.beta)
        self.time = nn.Linear(time_size, time_size)
        self.inner, self.outer = nn.Linear(n + time_size, size), nn.Linear(size, n)
        half = time_size // 2
        angle = torch.arange(self.n_steps)[:, None] * torch.exp(-math.log(10_000) * torch.arange(half) / max(1, half))
        waves = nn.functional.pad(torch.cat([angle.cos(), angle.sin()], 1), (0, time_size - 2 * half))
        clean, noisy = schedule.back
        for name, value in (
            ("waves", waves),
            ("signal", schedule.signal),
            ("spread", schedule.spread),
            ("weight", step_weights(schedule)),
            ("clean", clean),
            ("noisy", noisy),
        ):
            # Computed in float64, and rounded afterwards.
            self.register_buffer(name, value.float())
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights normal after Xavier, biases normal with standard deviation .001; released code."""
        for layer in (self.time, self.inner, self.outer):
            nn.init.xavier_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.001)

    def forward(self, x: Tensor, t: Tensor, training: bool) -> Tensor:
        r""":math:`\hat x_0` ``(B, N)`` from rows ``(B, N)`` and places of their steps ``(B,)``, from 0."""
        x = dropout(nn.functional.normalize(x), self.rate, training)
        hidden = self.inner(torch.cat([x, self.time(self.waves[t])], dim=1)).tanh()
        found: Tensor = self.outer(hidden)
        return found

    def folded(self) -> Folded:
        """The maps between two hidden layers, once for all rows; see :meth:`reversed`."""
        read, write, bias = self.inner.weight[:, : len(self.outer.bias)], self.outer.weight, self.outer.bias
        told = self.time(self.waves) @ self.inner.weight[:, read.shape[1] :].T + self.inner.bias
        return Folded(write.T @ read.T, write.T @ write, bias @ read.T, bias @ write, bias @ bias, told)

    def reversed(self, x: Tensor, folded: Folded | None = None) -> Tensor:
        r"""From rows without noise through all steps to the last guess, ``(B, N)``.

        Between two hidden layers all is linear but the length of the row, so that rows in between are not written out:
        what is followed through the steps are :math:`x W_1^\top`, :math:`x W_2`, :math:`x \cdot b` and
        :math:`\lVert x \rVert^2`, whose sizes do not grow with the number of entities.

        Args:
            x: ``(B, N)``.
            folded: from :meth:`folded`, for callers with several batches.
        """
        maps = self.folded() if folded is None else folded
        read = x @ self.inner.weight[:, : x.shape[1]].T
        written, shift, square = x @ self.outer.weight, x @ self.outer.bias, x.square().sum(1)
        for place in range(self.n_steps - 1, -1, -1):
            length = square.clamp(min=0).sqrt().clamp(min=1e-12)
            hidden = (read / length[:, None] + maps.told[place]).tanh()
            if place == 0:
                break  # the coefficient of the row is 0 there, and that of the guess 1
            clean, noisy = self.clean[place], self.noisy[place]
            gram, offset = hidden @ maps.gram, hidden @ maps.of_bias
            with_row = (hidden * written).sum(1) + shift
            guess_square = (hidden * gram).sum(1) + 2 * offset + maps.bias_square
            square = clean**2 * guess_square + 2 * clean * noisy * with_row + noisy**2 * square
            read = clean * (hidden @ maps.on + maps.bias_on) + noisy * read
            written = clean * (gram + maps.of_bias) + noisy * written
            shift = clean * (offset + maps.bias_square) + noisy * shift
        found: Tensor = self.outer(hidden)
        return found


@dataclass(frozen=True)
class Folded:
    r"""What a denoiser with :math:`W_1` (without the step's columns), :math:`W_2` and :math:`b` does between two steps.

    Args:
        on: ``(h, h)``, :math:`W_2^\top W_1^\top`, from a hidden layer to the next one's input.
        gram: ``(h, h)``, :math:`W_2^\top W_2`.
        bias_on: ``(h,)``, :math:`b\, W_1^\top`.
        of_bias: ``(h,)``, :math:`b\, W_2`.
        bias_square: :math:`b \cdot b`.
        told: ``(T, h)``, what each step's embedding adds to the hidden layer's input.
    """

    on: Tensor
    gram: Tensor
    bias_on: Tensor
    of_bias: Tensor
    bias_square: Tensor
    told: Tensor


# -- batches -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowStep:
    """Entities whose rows the denoiser learns, with the graphs of this epoch.

    Args:
        entities: ``(B,)`` int64.
        known: pairs of the knowledge graph.
        graph: who was given what.
    """

    entities: Tensor
    known: Known
    graph: Bipartite

    def to(self, device: torch.device | str) -> RowStep:
        """The same on another device; the graphs are there already."""
        return RowStep(self.entities.to(device), self.known, self.graph)


@dataclass(frozen=True)
class PairStep:
    """Pairs, with the graphs of this epoch.

    Args:
        pairs: of the batch.
        main: edges that BPR reads.
        second: edges of the other view; ``None`` without one.
        graph: who was given what.
    """

    pairs: Pairs
    main: Edges
    second: Edges | None
    graph: Bipartite

    def to(self, device: torch.device | str) -> PairStep:
        """The same on another device; the graphs are there already."""
        return PairStep(self.pairs.to(device), self.main, self.second, self.graph)


# -- the network -------------------------------------------------------------------------------------------------------


class DiffKG(Ranker):
    r"""A denoiser of the graph's rows, and two views of patients and medications that read the graph before and after.

    .. math::
        \mathcal L_{kgdm} = (1 - \lambda_0)\, \mathcal L_{elbo} + \lambda_0\, \mathcal L_{ckgc}, \qquad
        \mathcal L = \mathcal L_{BPR} + \lambda_1 \mathcal L_{cl} + \lambda_2 \lVert \Theta \rVert^2

    Patients ``(U, d)``, entities ``(N, d)``, relations ``(2 R + 1, d)``, the last one for pairs that are added;
    :math:`W` ``(2 d, d)``.  Buffers: ``triplets`` ``(E, 3)``; ``sampled`` ``(2 E,)``, which of them, and of their
    inverses behind them, the original view reads; ``rebuilt`` ``(2 k H, 3)`` for H diffused rows, triplets of the
    rebuilt graph, filled up with -1.

    Args:
        config: its settings.
        context: interactions and a knowledge graph.
    """

    config: DiffKGConfig
    triplets: Tensor
    sampled: Tensor
    rebuilt: Tensor

    def __init__(self, config: DiffKGConfig, context: Context) -> None:
        super().__init__(config, context)
        graph, knowledge, d = graph_of(context), knowledge_of(context), config.size
        n, self.n_items = knowledge.n_entities, graph.n_medications
        self.n_relations = knowledge.n_relations
        self.patients = nn.Parameter(torch.empty(graph.n_patients, d))
        self.entities = nn.Parameter(torch.empty(n, d))
        self.relations = nn.Parameter(torch.empty(2 * knowledge.n_relations + 1, d))
        self.heads_and_tails = nn.Parameter(torch.empty(2 * d, d))
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        self.register_buffer("triplets", torch.from_numpy(controlled(knowledge, config.graph, rng).copy()))
        head = self.linked()[:, 0]
        order = (head + 0.5 * torch.rand(len(head), dtype=torch.float64)).argsort()
        count = head.bincount(minlength=n)
        place = torch.arange(len(head)) - (count.cumsum(0) - count)[head[order]]
        sampled = torch.ones(len(head), dtype=torch.bool)
        if config.samples_per_head:
            sampled[order] = place < config.samples_per_head
        self.register_buffer("sampled", sampled)
        self.n_rows = self.n_items if config.diffused == "items" else n
        if config.second_view:
            schedule = NoiseSchedule.linear(
                config.n_steps, config.noise_scale, config.noise_min, config.noise_max, FIRST
            )
            self.denoiser = Denoiser(n, config.denoiser_size, config.time_size, config.denoiser_dropout, schedule)
            k = min(config.rebuild_k, n - 1)
            self.register_buffer("rebuilt", torch.full((2 * k * self.n_rows, 3), -1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier; of the map in eq. 1 with the gain of ReLU, as released."""
        for parameter in (self.patients, self.entities, self.relations):
            nn.init.xavier_uniform_(parameter)
        nn.init.xavier_uniform_(self.heads_and_tails, nn.init.calculate_gain("relu"))
        if self.config.second_view:
            self.denoiser.reset_parameters()

    def prepare(self, data: Interactions, train: NDArray[np.integer], context: Context) -> None:
        """A first rebuilt graph, by a denoiser that has learnt nothing yet."""
        if self.config.second_view:
            self.rebuild(np.random.default_rng(int(torch.randint(2**31, ()))))

    def optimisers(self) -> list[torch.optim.Optimizer]:
        """One for the denoiser and one for all the rest."""
        denoiser = list(self.denoiser.parameters()) if self.config.second_view else []
        own = {id(p) for p in denoiser}
        parts = ([p for p in self.parameters() if id(p) not in own], denoiser)
        rate, decay = self.config.learning_rate, self.config.weight_decay
        return [torch.optim.Adam(part, lr=rate, weight_decay=decay, fused=True) for part in parts if part]

    # -- graphs

    def linked(self) -> Tensor:
        """Triplets in both directions, ``(2 E, 3)``."""
        both = with_inverses(self.triplets.cpu().numpy(), self.n_relations)
        return torch.from_numpy(both).to(self.triplets.device)

    def known(self) -> Known:
        """Pairs that the graph links."""
        return Known.of(self.linked(), len(self.entities))

    def bipartite(self, interactions: Interactions) -> Bipartite:
        """Who was given what."""
        return Bipartite.of(torch.from_numpy(interactions.matrix).to(self.entities), self.config.self_loops)

    def original(self) -> Edges:
        """Edges of the original view."""
        return Edges.of(self.linked()[self.sampled], len(self.entities))

    def main(self) -> Edges:
        """Edges from which lists are made."""
        if not self.config.second_view or self.config.main_view == "original":
            return self.original()
        return Edges.of(self.rebuilt[self.rebuilt[:, 0] >= 0], len(self.entities))

    @torch.no_grad()
    def picked(self, known: Known) -> Tensor:
        """Tails that the diffusion wants for each diffused row, ``(H, k)``; never the row's own entity."""
        k = min(self.config.rebuild_k, known.n - 1)
        found, folded = [], self.denoiser.folded()
        for block in torch.arange(self.n_rows, device=known.key.device).split(self.config.row_batch):
            guess = self.denoiser.reversed(known.rows(block), folded)
            guess[torch.arange(len(block), device=block.device), block] = -torch.inf
            found.append(guess.topk(k).indices)
        return torch.cat(found)

    def rebuild(self, rng: np.random.Generator) -> None:
        """Choose edges by what the denoiser knows now, and write them to ``rebuilt``.

        Args:
            rng: of the coin by which edges are kept, and of ``choose = random``.
        """
        config, known = self.config, self.known()
        chance = torch.from_numpy(rng.random(len(known.key))).to(known.key.device)
        key = chosen_pairs(self.picked(known), known, config.rebuild, config.choose, chance)
        triplets = both_ways(key, known, 2 * self.n_relations)
        coin = torch.from_numpy(rng.random(len(triplets)) < config.keep).to(known.key.device)
        triplets = triplets[coin]
        self.rebuilt.fill_(-1)
        self.rebuilt[: len(triplets)] = triplets

    def batches(
        self, data: Interactions, rows: NDArray[np.integer], order: Sequence[int]
    ) -> Iterator[RowStep | PairStep]:
        """Rows for the denoiser, in batches of ``config.row_batch``; a new graph; pairs, of ``config.batch_size``."""
        config, graph, original = self.config, self.bipartite(data), self.original()
        if config.second_view:
            rng, known = np.random.default_rng([*order, 1]), self.known()
            for block in torch.from_numpy(rng.permutation(self.n_rows)).split(config.row_batch):
                yield RowStep(block, known, graph)
            self.rebuild(rng)
        views: tuple[Edges, Edges | None] = (original, original if config.second_view else None)
        if config.second_view and config.diffusion_in_training:
            rebuilt = Edges.of(self.rebuilt[self.rebuilt[:, 0] >= 0], len(self.entities))
            views = (rebuilt, original) if config.main_view == "rebuilt" else (original, rebuilt)
        for pairs in pair_batches(data, rows, config.batch_size, order):
            yield PairStep(pairs, *views, graph)

    # -- forward

    def items(self, edges: Edges) -> Tensor:
        """Medications after eq. 1, ``(M, d)``."""
        config, d = self.config, self.config.size
        x: Tensor = self.entities
        found = x
        as_head, as_tail = self.heads_and_tails[:d] @ self.relations.T, self.heads_and_tails[d:] @ self.relations.T
        for _ in range(config.kg_layers):
            alpha = relation_attention(x @ as_head, x @ as_tail, edges)
            x = finished(x + weighted_sums(x, alpha, edges), config.dropout, self.training, config.last_step)
            found = config.kg_residual * found + x
        return found[: self.n_items]

    def forward(self, edges: Edges, graph: Bipartite) -> tuple[Tensor, Tensor]:
        """Patients ``(U, d)`` and medications ``(M, d)`` of one view; eqs. 1 and 2."""
        return light_gcn(self.patients, self.items(edges), graph, self.config.n_layers)

    def scores(self, patients: NDArray[np.integer], context: Context) -> Tensor:
        """Inner products with all medications, ``(U, M)``."""
        everybody, items = self(self.main(), self.bipartite(graph_of(context)))
        return everybody[torch.from_numpy(patients.astype(np.int64)).to(items.device)] @ items.T

    # -- loss

    def loss(self, batch: RowStep | PairStep, context: Context) -> Tensor:
        """Eq. 4 of rows, or eq. 5 of pairs."""
        return self._of_rows(batch) if isinstance(batch, RowStep) else self._of_pairs(batch)

    def _of_rows(self, batch: RowStep) -> Tensor:
        config, denoiser = self.config, self.denoiser
        clean = batch.known.rows(batch.entities)
        t = torch.randint(config.n_steps, (len(clean),), device=clean.device)
        noised = denoiser.signal[t, None] * clean + denoiser.spread[t, None] * torch.randn_like(clean)
        guess = denoiser(noised, t, self.training)
        wide = collaborative_constraint(
            guess[:, : self.n_items],
            batch.graph.given,
            self.patients.detach(),
            self.entities.detach()[batch.entities],
            config.ckgc_norm,
        ).square()
        apart = (guess - clean).square()
        elbo, ckgc = (x.sum(1) if config.error == "sum" else x.mean(1) for x in (apart, wide))
        share = config.ckgc_weight
        return (1 - share) * (denoiser.weight[t] * elbo).mean() + share * ckgc.mean()

    def _of_pairs(self, batch: PairStep) -> Tensor:
        config, pairs = self.config, batch.pairs
        patients, items = self(batch.main, batch.graph)
        patient = nn.functional.embedding(pairs.patient, patients)
        given, other = (nn.functional.embedding(item, items) for item in (pairs.given, pairs.other))
        error = bpr_loss((patient * given).sum(1), (patient * other).sum(1)).mean()
        weights = (self.patients, self.entities, self.relations, self.heads_and_tails)
        error = error + config.penalty * torch.stack([w.square().sum() for w in weights]).sum()
        if batch.second is None:
            return error
        again = self(batch.second, batch.graph)
        agree = contrast(again[0], patients, pairs.patient.unique(), config.temperature)
        agree = agree + contrast(again[1], items, pairs.given.unique(), config.temperature)
        return error + config.contrast_weight * agree


ARMS: dict[str, dict[str, Any]] = {
    "released": {"diffused": "entities", "rebuild": "filter", "diffusion_in_training": False},
    "filter": {"diffused": "entities", "rebuild": "filter"},
    "add": {"diffused": "entities", "rebuild": "add"},
    "random": {"diffused": "entities", "rebuild": "filter", "choose": "random"},
    "frequent": {"diffused": "entities", "rebuild": "filter", "choose": "frequent"},
    "one-view": {"diffused": "entities", "second_view": False},
    "shuffled": {"diffused": "entities", "rebuild": "filter", "graph": "shuffled"},
}
"""Seven networks that share everything but where the edges of the second graph come from."""
LABELS = {
    "released": "A diffusion idle",
    "filter": "B filter",
    "add": "C add",
    "random": "D random edges",
    "frequent": "E most frequent tails",
    "one-view": "F one view",
    "shuffled": "G shuffled tails",
}

SYSTEM = System(
    name="diffkg",
    label="DiffKG",
    family="graph",
    cls=DiffKG,
    config=DiffKGConfig,
    task="ranking",
    small={"batch_size": 1024},
    sees="medications of earlier visits, a knowledge graph of medications",
    variants=VARIANTS,
    needs=("graph", "knowledge"),
    citation="jiang2024diffkg",
    seconds_per_epoch=10,
    rows=(
        Row("diffkg", "DiffKG", "diffkg"),
        *(Row(key, LABELS[key], "diffkg", settings=settings) for key, settings in ARMS.items()),
        Row("empty", "empty graph", "diffkg", settings={"graph": "empty"}),
        Row("study", "graph of the study", "diffkg", settings={"construction": "study"}),
        Row("official", "official", "diffkg", "official"),
    ),
)
