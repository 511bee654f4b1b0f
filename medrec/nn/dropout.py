r"""Dropout from 16 random bits a number.

.. math:: y = \frac{k}{1 - p}\, x, \qquad k \sim \operatorname{Bernoulli}(1 - p)

PyTorch draws a number in double precision for each entry, which takes up to a third of a training step of small
networks on a CPU.  Here one draw of 64 bits serves four entries; each is kept where its 16 bits, read as a whole
number, reach :math:`p\, 2^{16}`.  So :math:`p` has a resolution of :math:`2^{-16}`: it is rounded to the nearest
multiple, and the scale is that of the rounded one, so that the expectation is exact.  The bits come from PyTorch's own
generator: the same seed gives the same masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

LEVELS = 2**16
"""Numbers that 16 bits can be."""


def scale_of(p: float) -> float:
    """By how much dropout of probability ``p`` scales up what it keeps; 0 where nothing is kept."""
    cut = round(p * LEVELS)
    return 0.0 if cut >= LEVELS else LEVELS / (LEVELS - cut)


def scaled_mask(shape: Sequence[int], p: float, like: Tensor) -> Tensor:
    """Factors of dropout: 0 with probability ``p``, else ``1 / (1 - p)``.

    Args:
        shape: of the mask.
        p: probability in [0, 1], rounded to a multiple of 2^-16; with 1 all factors are 0.
        like: a tensor of the wanted type on the wanted device.
    """
    mask = like.new_empty(shape)
    cut = round(p * LEVELS)
    if cut >= LEVELS:
        return mask.zero_()
    words = torch.empty((mask.numel() + 3) // 4, dtype=torch.int64, device=mask.device).random_(-(2**63), None)
    bits = words.view(torch.int16)[: mask.numel()].view(mask.shape)
    torch.ge(bits, cut - LEVELS // 2, out=mask)  # straight into the mask's type: no mask of truth values in between
    return mask.mul_(scale_of(p))


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Entries of ``x``, each left out with probability ``p`` and scaled up otherwise; ``x`` itself if not training.

    Args:
        x: any shape, floating point.
        p: probability in [0, 1], see :func:`scaled_mask`.
        training: whether to do anything.
    """
    if not training or p == 0:
        return x
    return x * scaled_mask(x.shape, p, x)


class Dropout(nn.Module):
    """:func:`dropout` as a module; it has no parameters.

    Args:
        p: probability with which an entry is left out.

    Raises:
        ValueError: it is no probability.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p is {p}; it is a probability, between 0 and 1.")
        self.p = p

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return dropout(x, self.p, self.training)
