"""Sums over the edges of a graph: what a node gathers from its neighbours, with a weight for each edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from medrec.nn.segments import segment_sums


@dataclass(frozen=True)
class Edges:
    """Edges from heads to tails, sorted by head, and the order by tail for the way back.

    Equal edges may stand in it several times.  Made by :meth:`of` alone.
    """

    head: Tensor  # (E,) int64, never falling
    tail: Tensor  # (E,) int64
    relation: Tensor  # (E,) int64
    first: Tensor  # (n_heads,) where a head's edges begin
    back: Tensor  # (E,) numbers of edges, sorted by tail
    back_head: Tensor  # (E,) their heads
    back_first: Tensor  # (n_tails,) where a tail's edges begin in that order

    @classmethod
    def of(cls, triplets: Tensor, n_heads: int, n_tails: int | None = None) -> Edges:
        """From triplets.

        Args:
            triplets: ``(E, 3)`` int64: head, relation, tail, in any order.
            n_heads: number of heads.
            n_tails: number of tails; ``None``: as many as heads.
        """
        head, relation, tail = triplets[triplets[:, 0].argsort(stable=True)].unbind(1)
        n_tails = n_heads if n_tails is None else n_tails
        back = tail.argsort(stable=True)
        count, back_count = head.bincount(minlength=n_heads), tail.bincount(minlength=n_tails)
        return cls(
            head.contiguous(),
            tail.contiguous(),
            relation.contiguous(),
            count.cumsum(0) - count,
            back,
            head[back],
            back_count.cumsum(0) - back_count,
        )

    @property
    def n_heads(self) -> int:
        return len(self.first)

    @property
    def degree(self) -> Tensor:
        """``(n_heads,)`` int64: edges of each head."""
        return self.head.bincount(minlength=self.n_heads)


class _WeightedSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, weights: Tensor, edges: Edges) -> Tensor:
        ctx.save_for_backward(table if weights.requires_grad else None, weights)
        ctx.edges = edges
        return nn.functional.embedding_bag(edges.tail, table, edges.first, mode="sum", per_sample_weights=weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (table, weights), edges = ctx.saved_tensors, ctx.edges
        grad = grad.contiguous()
        of_table = of_weights = None
        if ctx.needs_input_grad[0]:
            of_table = nn.functional.embedding_bag(
                edges.back_head, grad, edges.back_first, mode="sum", per_sample_weights=weights[edges.back]
            )
        if ctx.needs_input_grad[1]:
            of_weights = (grad.index_select(0, edges.head) * table.index_select(0, edges.tail)).sum(1)
        return of_table, of_weights, None


def weighted_sums(table: Tensor, weights: Tensor, edges: Edges) -> Tensor:
    r"""What each head gathers from its tails, :math:`y_h = \sum_{e:\,h_e = h} w_e\, x_{t_e}`.

    No row is copied for an edge, and both ways add up in one order, so that the same numbers come out every time.

    Args:
        table: ``(n_tails, d)``.
        weights: ``(E,)``.
        edges: of the graph.

    Returns:
        ``(n_heads, d)``; 0 for a head without edges.
    """
    sums: Tensor = _WeightedSums.apply(table, weights, edges)
    return sums


def segment_softmax(scores: Tensor, edges: Edges) -> Tensor:
    r"""Softmax over the edges of each head, :math:`\alpha_e = e^{s_e} / \sum_{e':\,h_{e'} = h_e} e^{s_{e'}}`.

    Args:
        scores: ``(E,)``.
        edges: of the graph.

    Returns:
        ``(E,)``; adds up to 1 for each head that has edges.
    """
    highest = scores.new_full((edges.n_heads,), -torch.inf)
    highest = highest.scatter_reduce(0, edges.head, scores.detach(), "amax")
    power = (scores - highest[edges.head]).exp()
    total = segment_sums(power[:, None], edges.head, edges.n_heads)[:, 0]
    return power / total.index_select(0, edges.head)
