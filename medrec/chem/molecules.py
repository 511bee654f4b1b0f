"""The molecules behind a list of medications, as one batch of graphs, and the fragments that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medrec.chem.fragments import fragment_mask
from medrec.chem.graphs import batch_graphs
from medrec.knowledge.structures import structures

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
    """Molecules and fragments of the given ATC level-3 classes.

    Which drugs stand for a class is said by :func:`medrec.knowledge.structures.structures`.  Equal structures are one
    molecule, whatever the number of classes that hold them, so that no molecule is contrasted with itself.

    Args:
        codes: ATC level-3 classes, one a medication.
        per_class: at most so many molecules a class; 0: all of them.
        only: drugs that stand for a class, whatever the table says.

    Raises:
        MedrecError: a drug of ``only`` has no structure.
    """
    chosen = structures(codes, per_class=per_class, only=only)
    name_of: dict[str, str] = {}
    for found in chosen:
        for name, structure in found.items():
            name_of[structure] = min(name_of.setdefault(structure, name), name)
    smiles = tuple(sorted(name_of))
    place = {s: n for n, s in enumerate(smiles)}
    average = torch.zeros(len(codes), len(smiles))
    for m, found in enumerate(chosen):
        average[m, [place[structure] for structure in found.values()]] = 1 / max(len(found), 1)
    fragments, mask = fragment_mask([list(found.values()) for found in chosen])
    return Molecules(
        smiles=smiles,
        names=tuple(name_of[s] for s in smiles),
        graphs=batch_graphs(smiles),
        average=average,
        fragments=fragments,
        fragment_graphs=batch_graphs(fragments),
        fragment_mask=torch.from_numpy(mask),
    )
