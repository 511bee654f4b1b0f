"""Sums of rows that belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Segments:
    """Which rows belong to each owner; made once where many tables have the same owners."""

    order: Tensor  # (R,) numbers of rows, those of each owner one behind the other
    starts: Tensor  # (n,) where in the order an owner's rows begin

    @classmethod
    def of(cls, owner: Tensor, n: int) -> Segments:
        """From whose each row is, ``(R,)`` int64 below ``n``, in any order."""
        count = owner.bincount(minlength=n)
        return cls(owner.argsort(stable=True), count.cumsum(0) - count)

    def sums(self, rows: Tensor) -> Tensor:
        """``(R, d)`` → ``(n, d)``, always added in the same order; no gradient flows back from here."""
        return nn.functional.embedding_bag(self.order, rows.detach(), self.starts, mode="sum")


@dataclass(frozen=True)
class Links:
    """Which rows of a table are added up for each of ``n`` owners, sorted there and back."""

    there: Segments  # rows of each owner
    back: Segments  # owners of each row

    @classmethod
    def of(cls, rows: Tensor, n_rows: int) -> Links:
        """From the rows of each owner, ``(n, k)`` int64."""
        n, k = rows.shape
        back = Segments.of(rows.flatten(), n_rows)
        there = Segments(rows.flatten(), torch.arange(n, device=rows.device) * k)
        return cls(there, Segments(back.order // k, back.starts))


class _LinkedSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, links: Links) -> Tensor:
        ctx.links = links
        return links.there.sums(table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.links.back.sums(grad), None


def linked_sums(table: Tensor, links: Links) -> Tensor:
    """Sum of the rows of a table that belong to each owner, ``(R, d)`` → ``(n, d)``.

    The same as ``embedding_bag``, which sorts anew for each gradient; always adds in the same order.
    """
    sums: Tensor = _LinkedSums.apply(table, links)
    return sums


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, owner: Tensor, n: int) -> Tensor:
        ctx.save_for_backward(owner)
        count = owner.bincount(minlength=n)
        every = torch.arange(len(rows), device=rows.device)
        return nn.functional.embedding_bag(every, rows, count.cumsum(0) - count, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


def segment_sums(rows: Tensor, owner: Tensor, n: int) -> Tensor:
    """Sum of the rows of each owner.

    The same as ``index_add`` into zeros, which on a CPU goes row by row, and always adds in the same order.

    Args:
        rows: ``(R, d)``.
        owner: ``(R,)`` int64, whose row it is; never falling.
        n: number of owners.

    Returns:
        ``(n, d)``; 0 for owners without rows.
    """
    sums: Tensor = _Sums.apply(rows, owner, n)
    return sums
