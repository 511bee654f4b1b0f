"""The molecules behind a list of medications, as one batch of graphs, and the fragments that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import polars as pl
import torch
from torch import Tensor

from medrec.chem.fragments import fragment_mask
from medrec.chem.graphs import batch_graphs
from medrec.knowledge.drugs import combinations, drug_atc, drugs
from medrec.types import MedrecError

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

    The drugs of a class are those that ``drug_atc.csv`` puts there by some route.  A class whose products are all
    combinations takes their ingredients.  Equal structures are one molecule, whatever the number of classes that hold
    them, so that no molecule is contrasted with itself.

    Args:
        codes: ATC level-3 classes, one a medication.
        per_class: at most so many molecules a class, the drugs with most marketed products first, ties by name;
            released codes keep at most three.  0: all of them.
        only: drugs that stand for a class, whatever the table says.

    Raises:
        MedrecError: a drug of ``only`` has no structure.
    """
    structures = _structures()
    chosen = []
    for code in codes:
        names = (only or {}).get(code)
        if names is None:
            names = [name for name in _by_use(code) if name in structures]
            names = _different(names, structures)[: per_class or None]
        elif unknown := [name for name in names if name not in structures]:
            raise MedrecError(f"The drug {unknown[0]!r}, which stands for class {code}, has no structure.")
        chosen.append(names)
    name_of: dict[str, str] = {}
    for names in chosen:
        for name in names:
            known = name_of.setdefault(structures[name], name)
            name_of[structures[name]] = min(known, name)
    smiles = tuple(sorted(name_of))
    place = {s: n for n, s in enumerate(smiles)}
    average = torch.zeros(len(codes), len(smiles))
    for m, names in enumerate(chosen):
        average[m, [place[structures[name]] for name in names]] = 1 / max(len(names), 1)
    fragments, mask = fragment_mask([[structures[name] for name in names] for names in chosen])
    return Molecules(
        smiles=smiles,
        names=tuple(name_of[s] for s in smiles),
        graphs=batch_graphs(smiles),
        average=average,
        fragments=fragments,
        fragment_graphs=batch_graphs(fragments),
        fragment_mask=torch.from_numpy(mask),
    )


@cache
def _structures() -> dict[str, str]:
    """Canonical SMILES of every drug that has one."""
    return dict(drugs().filter(pl.col("smiles") != "").select("name", "smiles").iter_rows())


@cache
def _by_use(code: str) -> tuple[str, ...]:
    """Drugs of a class, the most marketed first."""
    names = drug_atc().filter(atc3=code).select("name").unique()
    if names.is_empty():
        names = combinations().filter(atc3=code).select(name=pl.col("ingredients").explode()).unique()
    common = names.join(drugs().select("name", "n_products"), on="name")
    return tuple(common.sort("n_products", "name", descending=[True, False])["name"])


def _different(names: Sequence[str], structures: Mapping[str, str]) -> list[str]:
    """The first name of each structure."""
    seen: dict[str, str] = {}
    for name in names:
        seen.setdefault(structures[name], name)
    return list(seen.values())
