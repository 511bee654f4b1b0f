"""The molecules behind a list of medications, as one batch of graphs, and the fragments that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch_geometric.data import Batch


@dataclass(frozen=True)
class Molecules:
    """The molecules behind the medications, and the fragments that they are made of.

    Built by :func:`build`.

    Args:
        smiles: of each of the ``n`` molecules; every structure once, in alphabetical order.
        names: drug of each molecule.
        graphs: the molecules as one batch of 2D graphs.
        average: ``(M, n)`` float; row m averages the molecules of medication m and sums to 1, or is 0 where the
            medication has no molecule.
        fragments: SMILES of each of the ``S`` BRICS fragments, in alphabetical order.
        fragment_graphs: the fragments as one batch of 2D graphs.
        fragment_mask: ``(M, S)`` bool, the matrix H: whether some molecule of medication m yields fragment s.
    """

    smiles: tuple[str, ...]
    names: tuple[str, ...]
    graphs: Batch
    average: Tensor
    fragments: tuple[str, ...]
    fragment_graphs: Batch
    fragment_mask: Tensor

    def to(self, device: torch.device | str) -> Molecules:
        """The same on another device."""
        return replace(
            self,
            graphs=self.graphs.to(device),
            average=self.average.to(device),
            fragment_graphs=self.fragment_graphs.to(device),
            fragment_mask=self.fragment_mask.to(device),
        )


def build(codes: Sequence[str], *, per_class: int = 3, only: Mapping[str, Sequence[str]] | None = None) -> Molecules:
    """Molecules and fragments of the given ATC level-3 classes."""
    raise NotImplementedError
