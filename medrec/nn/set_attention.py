r"""Self-attention over a set: every member looks at every other.

Source: Lee et al., "Set Transformer", ICML 2019, as MoleRec and BiMoRec use it (BiMoRec, eqs. 15-17).

.. math::
    A_{self}(X) = \operatorname{softmax}\!\Big(\frac{Q K^\top}{\sqrt d}\Big) V, \qquad
    H = \operatorname{LayerNorm}(X + A_{self}(X)), \qquad
    \operatorname{SSA}(X) = \operatorname{LayerNorm}(H + \operatorname{MLP}(H))

Released code differs in two places: the residual is on the projected queries instead of :math:`X`, and
:math:`H + \operatorname{MLP}(H)` is one linear map of :math:`H`, without residual or activation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn


def masked_softmax(scores: Tensor, mask: Tensor, empty: Literal["zero", "uniform"] = "zero") -> Tensor:
    """Softmax over what is there.

    Args:
        scores: ``(..., C)``.
        mask: ``(..., C)`` bool, True for what is there.
        empty: what a row gets where nothing is there.

    Returns:
        ``(..., C)``; rows add up to 1, or to 0 where nothing is there and ``empty`` is ``zero``.
    """
    # Not -inf: a row of nothing would become NaN.  With equal scores everywhere it becomes uniform.
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
    return weights if empty == "uniform" else weights * mask


def fragment_slots(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Fragments of each medication as padded columns of the mask.

    Args:
        mask: ``(M, S)`` bool.

    Returns:
        Columns ``(M, K)``, and which of them are real ``(M, K)``; K is the largest number of fragments.
    """
    K = max(int(mask.sum(1).max()) if len(mask) else 0, 1)
    columns = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :K]
    return columns, mask.gather(1, columns)


def self_attention(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, n_heads: int = 1
) -> tuple[Tensor, Tensor]:
    r"""Scaled dot-product attention within each set, heads side by side.

    Source: BiMoRec, eq. 17.

    Args:
        queries: ``(..., L, d)``.
        keys: ``(..., L, d)``.
        values: ``(..., L, d)``.
        mask: ``(..., L)`` bool, True for members; ``None``: all are.
        n_heads: parts of ``d`` that attend on their own; scores are divided by :math:`\sqrt{d / n}`.

    Returns:
        Attended values ``(..., L, d)``, and weights ``(..., n_heads, L, L)``, which are 0 at absent members.
    """

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (n_heads, -1)).transpose(-2, -3)

    q, k, v = split(queries), split(keys), split(values)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    weights = scores.softmax(-1) if mask is None else masked_softmax(scores, mask[..., None, None, :])
    return (weights @ v).transpose(-2, -3).flatten(-2), weights


class SetAttention(nn.Module):
    r"""Members of a set after each has attended to all, with a residual and a perceptron.

    .. math::
        H = \operatorname{LayerNorm}(X + A_{self}(X)), \qquad
        \operatorname{SSA}(X) = \operatorname{LayerNorm}(H + \operatorname{MLP}(H))

    Sets are ``(..., L, d)`` and stay so.  Learnt: queries, keys and values ``(d, d)``, two norms, and the perceptron of
    two linear layers; in the released form one.

    Args:
        width: ``d``.
        n_heads: attention heads; 2 in released code, not stated in the papers.
        feedforward: True: ``LayerNorm(H + MLP(H))`` and the residual on the input, as printed; False: released code.
    """

    def __init__(self, width: int, n_heads: int = 2, feedforward: bool = True) -> None:
        super().__init__()
        self.n_heads, self.feedforward = n_heads, feedforward
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.first_norm = nn.LayerNorm(width)
        self.second_norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)
        if feedforward:
            self.out = nn.Linear(width, width)

    def reset_parameters(self) -> None:
        """As PyTorch has it."""
        layers: Iterator[Any] = self.children()
        for layer in layers:
            layer.reset_parameters()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Enhanced members.

        Args:
            x: ``(..., L, d)``.
            mask: ``(..., L)`` bool, True for members.

        Returns:
            ``(..., L, d)``; meaningless but finite at absent members.
        """
        queries = self.query(x)
        attended, _ = self_attention(queries, self.key(x), self.value(x), mask, self.n_heads)
        if not self.feedforward:
            return self.second_norm(self.linear(self.first_norm(queries + attended)))
        hidden = self.first_norm(x + attended)
        return self.second_norm(hidden + self.out(self.linear(hidden).relu()))

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention of each member to each, mean over heads, ``(..., L, L)``."""
        values = self.value(x)
        return self_attention(self.query(x), self.key(x), values, mask, self.n_heads)[1].mean(-3)
