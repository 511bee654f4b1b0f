"""What stands in the place of molecules that a medication does not have."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FreeRows(nn.Module):
    """A learnt vector for each medication without a structure, such as insulins and other proteins.

    The published pipelines leave such classes out of the vocabulary; our cohorts keep them unless told otherwise
    (``classes="with_structure"``).  Without a vector of their own a network cannot tell them apart.

    Learnt: ``vectors`` ``(K, width)`` for the ``K`` medications whose row of the average is 0; none where there are no
    such.

    Args:
        average: ``(M, n)``, rows that average the molecules of each medication.
        width: of the vectors.
        learnt: False: nobody gets a vector, and everything is left as it is.
    """

    rows: Tensor

    def __init__(self, average: Tensor, width: int, learnt: bool = True) -> None:
        super().__init__()
        bare = (average.sum(1) == 0).nonzero()[:, 0].cpu()
        self.register_buffer("rows", bare if learnt else bare[:0])
        self.vectors = nn.Parameter(torch.empty(len(self.rows), width)) if len(self.rows) else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """On the scale of a batch-normalised read-out."""
        if self.vectors is not None:
            nn.init.normal_(self.vectors)

    def forward(self, medications: Tensor) -> Tensor:
        """Vectors of all medications ``(M, width)``, those without a structure replaced."""
        return medications if self.vectors is None else medications.index_copy(0, self.rows, self.vectors)

    def opened(self, mask: Tensor) -> Tensor:
        """Which fragments each medication may look at, ``(M, S)`` bool: without a structure at all of them."""
        return mask.index_fill(0, self.rows, True)
