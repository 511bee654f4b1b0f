r"""Weisfeiler-Lehman fingerprints: every atom, hydrogens included, gets the number of its neighbourhood.

Source: SafeDrug (Yang et al., IJCAI 2021), after Tsubaki et al., Bioinformatics 2019.  In each of ``radius`` rounds an
atom's number becomes the number of what it sees,

.. math:: c_a \leftarrow \mathrm{id}\bigl(c_a,\; \mathrm{sorted}\,\{(c_b, e_{ab}) : b \in \mathcal N(a)\}\bigr),
          \qquad e_{ab} \leftarrow \mathrm{id}\bigl(\mathrm{sorted}(c_a, c_b),\; e_{ab}\bigr),

starting from element and aromaticity, and from the kind of bond.  Numbers are handed out by first appearance: they
depend on the order of the molecules, so give them in a fixed one.

The released code has three defects, kept by ``official=True``:

* it goes over the atoms *that have bonds*, in the order of their first bond.  In a salt the lone ion is missing, and
  the list is shorter than the molecule.  Where the ion stands before atoms with bonds the second round fails, and the
  molecule is silently left out; where all lone ions stand behind, or no atom has a bond, the missing places are filled
  with the number 1, whatever it stands for;
* in a molecule of several parts whose atoms all have bonds (a hydrochloride) numbers go to the wrong atoms;
* one dictionary serves all rounds: numbers of the first rounds take rows of the table that no atom ever looks up, and
  two neighbourhoods of different depth could get one number.

By default every atom has its place, an atom without bonds keeps the number of its element, and each round has its own
dictionary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrec.chem.graphs import parse

Numbers = dict[Hashable, int]
Neighbours = dict[int, list[tuple[int, int]]]
FILLING = 1
"""What the released code writes for atoms that it has forgotten."""


@dataclass(frozen=True)
class Fingerprints:
    """Numbered neighbourhoods of the atoms of several molecules.

    Args:
        ids: for each molecule ``(N,)`` numbers in ``[0, size)``, heavy atoms first in the order of the SMILES, then
            hydrogens; None for a molecule that the official rule leaves out.
        edge_index: for each molecule ``(2, 2E)``, each bond in both directions.
        size: how many numbers there are, the rows of an embedding table.
    """

    ids: tuple[NDArray[np.int64] | None, ...]
    edge_index: tuple[NDArray[np.int64], ...]
    size: int


def wl_fingerprints(smiles: Sequence[str], radius: int = 2, official: bool = False) -> Fingerprints:
    """Fingerprints of the given molecules, over one common dictionary.

    Args:
        smiles: molecules in a fixed order.
        radius: rounds; 0 numbers the elements.
        official: the rule of the released code, with its defects.

    Raises:
        MedrecError: RDKit cannot read a SMILES.

    Example:
        >>> prints = wl_fingerprints(["CCO", "COC"], radius=1)
        >>> [len(set(ids.tolist())) for ids in prints.ids], prints.size
        ([5, 3], 7)
    """
    molecules = [_labels(s) for s in smiles]
    kinds_of_atom: Numbers = {}
    kinds_of_bond: Numbers = {}
    rounds: list[tuple[Numbers, Numbers]] = [({}, {})] * radius if official else [({}, {}) for _ in range(radius)]
    last = rounds[-1][0] if radius else kinds_of_atom
    ids = []
    for labels, bonds in molecules:
        kinds = [_number(label, kinds_of_atom) for label in labels]
        seen: Neighbours = defaultdict(list)
        if not official:
            seen = {a: [] for a in range(len(labels))}
        for a, b, kind in bonds:
            seen[a].append((b, _number(kind, kinds_of_bond)))
            seen[b].append((a, _number(kind, kinds_of_bond)))
        colors = [_number(labels[0], last)] if len(labels) == 1 else _refined(kinds, seen, labels, rounds)
        ids.append(None if colors is None else np.array(colors, dtype=np.int64))
    pairs = [np.array([(i, j) for a, b, _ in bonds for i, j in ((a, b), (b, a))]) for _, bonds in molecules]
    return Fingerprints(
        ids=tuple(ids),
        edge_index=tuple(p.reshape(-1, 2).T.astype(np.int64) for p in pairs),
        size=max(len(last), FILLING + 1) if official else len(last),
    )


def _refined(
    colors: list[int], seen: Neighbours, labels: Sequence[Hashable], rounds: Sequence[tuple[Numbers, Numbers]]
) -> list[int] | None:
    """Numbers after all rounds; None where an atom asks for a neighbour that has none.

    Only the official rule forgets atoms; in their places, behind all others, it writes :data:`FILLING`.
    """
    for nodes, edges in rounds:
        try:
            refined = [
                _number((colors[a], tuple(sorted((colors[b], e) for b, e in around))) if around else labels[a], nodes)
                for a, around in seen.items()
            ]
            seen = {
                a: [(b, _number((tuple(sorted((colors[a], colors[b]))), e), edges)) for b, e in around]
                for a, around in seen.items()
            }
        except IndexError:
            return None
        colors = refined
    return colors + [FILLING] * (len(labels) - len(colors))


def _number(key: Hashable, numbers: Numbers) -> int:
    return numbers.setdefault(key, len(numbers))


def _labels(smiles: str) -> tuple[list[Hashable], list[tuple[int, int, str]]]:
    """Element of each atom, with its aromaticity; ends and kind of each bond."""
    from rdkit import Chem

    molecule = Chem.AddHs(parse(smiles))
    atoms: list[Hashable] = [
        (a.GetSymbol(), "aromatic") if a.GetIsAromatic() else a.GetSymbol() for a in molecule.GetAtoms()
    ]
    bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx(), str(b.GetBondType())) for b in molecule.GetBonds()]
    return atoms, bonds
