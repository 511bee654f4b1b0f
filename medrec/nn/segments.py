"""Sums of rows that belong together and lie one behind the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


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
