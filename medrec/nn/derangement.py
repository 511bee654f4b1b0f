"""A random order in which nobody keeps their place, for shuffled controls."""

from __future__ import annotations

import torch
from torch import Tensor


def derangement(n: int, device: torch.device | str = "cpu") -> Tensor:
    """One random cycle through ``n`` places: each takes what another one has.

    A random permutation leaves one place as it was, on average; a control that is shuffled so keeps a true part.

    Args:
        n: at least 2; a single place has nothing to change with.
        device: of the result.

    Returns:
        ``(n,)`` int64, a permutation without fixed points, drawn from PyTorch's generator.

    Example:
        >>> bool((derangement(5) == torch.arange(5)).any())
        False
    """
    cycle = torch.randperm(n, device=device)
    return torch.empty_like(cycle).scatter_(0, cycle, cycle.roll(1))
