r"""BRICS fragments: what molecules fall apart into where chemists would cut them, and which medication holds which.

Source: Degen et al., "On the art of compiling and using 'drug-like' chemical fragment spaces", ChemMedChem 2008;
MoleRec and BiMoRec call them substructures.  Cut ends are numbered dummy atoms, ``[16*]c1ccccc1``: the same ring cut at
another kind of bond is another fragment.  A molecule that cannot be cut is its own only fragment.

The released codes keep fragments in a Python set, whose order changes from run to run; here it is alphabetical.

RDKit tries the cuts in every order, because a cut can change the neighbourhood that another cut looks for.  The number
of orders explodes with the number of cuts (minutes for somatostatin, and no end for corticotropin), so that molecules
with more than :data:`MANY_CUTS` are cut at all places at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medrec.chem.graphs import parse

if TYPE_CHECKING:
    from rdkit.Chem import Mol, RWMol

MANY_CUTS = 16
"""Places of cuts in one molecule above which all are cut at once.

Four drugs of our table have more (benzonatate, fondaparinux, iodixanol, sugammadex); where the slow way comes to an end
both give the same fragments.
"""


@lru_cache(maxsize=4096)
def brics_fragments(smiles: str) -> tuple[str, ...]:
    """Fragments of a molecule, in alphabetical order; parts divided by a dot are cut one by one.

    Raises:
        MedrecError: RDKit cannot read the SMILES.

    Example:
        >>> brics_fragments("CCO")
        ('CCO',)
    """
    from rdkit import Chem

    parts = Chem.GetMolFrags(parse(smiles), asMols=True)
    return tuple(sorted(set().union(*map(_cut, parts))))


def _cut(molecule: Mol) -> set[str]:
    from rdkit import Chem
    from rdkit.Chem import BRICS

    if sum(1 for _ in BRICS.FindBRICSBonds(molecule)) <= MANY_CUTS:
        return set(BRICS.BRICSDecompose(molecule))
    pieces = Chem.GetMolFrags(BRICS.BreakBRICSBonds(molecule), asMols=True)
    return {Chem.MolToSmiles(piece) for piece in pieces}


def fragment_mask(molecules: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    r"""Which medication holds which fragment, :math:`H`.

    Source: MoleRec and BiMoRec, the mask of eq. 19.

    .. math:: H_{ms} = 1 \text{ if some molecule of } m \text{ yields fragment } s

    Args:
        molecules: for each of the ``M`` medications the SMILES of its molecules; may be empty.

    Returns:
        The ``S`` fragments in alphabetical order, and the mask ``(M, S)``. A row without any fragment belongs to a
        medication without a molecule.
    """
    held = [{f for smiles in group for f in brics_fragments(smiles)} for group in molecules]
    fragments = tuple(sorted(set().union(*held)))
    place = {fragment: s for s, fragment in enumerate(fragments)}
    mask = np.zeros((len(molecules), len(fragments)), dtype=bool)
    for m, group in enumerate(held):
        mask[m, [place[f] for f in group]] = True
    return fragments, mask


def completed(fragment: str) -> str:
    """A fragment as a whole molecule: every cut end is a hydrogen. For conformers, as force fields know no dummy atom.

    Returns:
        SMILES whose heavy atoms stand in the order of those of ``fragment``, dummy atoms left out.
    """
    from rdkit import Chem

    return Chem.MolToSmiles(closed(parse(fragment)), canonical=False)


def closed(molecule: Mol) -> RWMol:
    """A molecule without its dummy atoms, hydrogens in their places; other atoms keep their order."""
    from rdkit import Chem

    whole = Chem.RWMol(molecule)
    dummies = [atom.GetIdx() for atom in whole.GetAtoms() if atom.GetAtomicNum() == 0]
    for i in dummies:
        for bond in whole.GetAtomWithIdx(i).GetBonds():
            neighbour = bond.GetOtherAtom(whole.GetAtomWithIdx(i))
            # Other atoms fill themselves up with hydrogens.
            if neighbour.GetNoImplicit() or (neighbour.GetIsAromatic() and neighbour.GetAtomicNum() == 7):
                missing = max(round(bond.GetBondTypeAsDouble()), 1)
                neighbour.SetNumExplicitHs(neighbour.GetNumExplicitHs() + missing)
    for i in sorted(dummies, reverse=True):
        whole.RemoveAtom(i)
    return whole
