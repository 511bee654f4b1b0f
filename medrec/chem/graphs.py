r"""Molecules as graphs: atoms with nine features, bonds with three, all of them class indices.

The lists of classes are those of the molecular systems of the field (MoleRec, NLA-MMR, BiMoRec): the papers speak of
"9-dimensional" and "3-dimensional" features, but what a network gets are nine and three *indices*, each looked up in a
table of its own.  Hydrogens are counted, not drawn.

One slot differs by default.  The published codes read an atom's chirality *tag*, clockwise or not relative to the order
in which the SMILES string was written: another spelling of the same drug gives other tags.  Here the slot holds the CIP
label (R or S), which belongs to the molecule; ``chirality="tag"`` gives the published feature.

RDKit and torch are imported inside the functions, so that whoever needs no molecule or no graph does not wait for them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medrec.types import MedrecError

if TYPE_CHECKING:
    from rdkit.Chem import Atom, Bond, Mol
    from torch_geometric.data import Batch, Data

Chirality = Literal["cip", "tag"]

ATOM_FEATURES: dict[str, tuple[Any, ...]] = {
    "atomic number": (*range(1, 119), "other"),
    "chirality": ("unspecified", "clockwise or R", "counter-clockwise or S", "other", "unknown"),
    "degree": (*range(11), "other"),
    "formal charge": (*range(-5, 6), "other"),
    "hydrogens": (*range(9), "other"),
    "radical electrons": (*range(5), "other"),
    "hybridisation": ("SP", "SP2", "SP3", "SP3D", "SP3D2", "other"),
    "aromatic": (False, True),
    "in ring": (False, True),
}
"""Classes of each atom feature; the last one stands for everything else. The degree counts hydrogens."""

BOND_FEATURES: dict[str, tuple[Any, ...]] = {
    "type": ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC", "other"),
    "stereo": ("STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS", "STEREOANY"),
    "conjugated": (False, True),
}
"""Classes of each bond feature."""

_CIP = {"": "unspecified", "R": "clockwise or R", "S": "counter-clockwise or S"}
_TAG = {
    "CHI_UNSPECIFIED": "unspecified",
    "CHI_TETRAHEDRAL_CW": "clockwise or R",
    "CHI_TETRAHEDRAL_CCW": "counter-clockwise or S",
}
_INDEX = {
    name: {value: i for i, value in enumerate(classes)} for name, classes in {**ATOM_FEATURES, **BOND_FEATURES}.items()
}


LONGEST = 5000
"""Characters of a SMILES; RDKit falls over chains ten times as long, and the process with it."""


def parse(smiles: str) -> Mol:
    """The molecule that a SMILES spells: the one door through which structures come in.

    RDKit reads up to the first blank and takes what follows for a name, so that ``CCO ethanol`` would be a molecule and
    ``C C`` half of one.  Blanks at the ends say nothing and are left out.

    Raises:
        MedrecError: nothing is spelled, more than one word, no text at all, or RDKit cannot read it.
    """
    from rdkit import Chem, rdBase

    if not isinstance(smiles, str):
        reason = f"A structure is text, and this is of type {type(smiles).__name__}."
    elif not (word := smiles.strip()):
        reason = "Nothing stands there."
    elif len(word) > LONGEST:
        reason = f"It has {len(word)} characters, and at most {LONGEST} are read."
    elif not re.fullmatch(r"[!-~]+", word):
        reason = "A SMILES is one word of ASCII characters: put names and remarks elsewhere."
    else:
        with rdBase.BlockLogs():
            molecule = Chem.MolFromSmiles(word)
        if molecule is not None and molecule.GetNumAtoms():
            return molecule
        reason = "Its characters spell no molecule."
    shown = repr(smiles) if len(repr(smiles)) <= 200 else f"{repr(smiles)[:200]}..."
    raise MedrecError(f"{shown} is not a SMILES that RDKit can read. {reason} Correct the structure or leave it empty.")


def molecular_graph(smiles: str, *, chirality: Chirality = "cip") -> Data:
    """A molecule as a graph; its heavy atoms in the order in which the SMILES names them.

    Args:
        smiles: one molecule; parts divided by a dot stay one graph without bonds between them.
        chirality: ``"cip"`` for R and S labels, ``"tag"`` for the tags of published codes.

    Returns:
        ``x (N, 9)`` and ``edge_attr (2E, 3)``, int64 class indices in the order of :data:`ATOM_FEATURES` and
        :data:`BOND_FEATURES`; ``edge_index (2, 2E)``, each bond in both directions, one after the other.

    Raises:
        MedrecError: RDKit cannot read the SMILES.

    Example:
        >>> molecular_graph("CCO").x[2].tolist()
        [7, 0, 2, 5, 1, 0, 2, 0, 0]
    """
    import torch
    from torch_geometric.data import Data

    molecule = parse(smiles)
    labels = _cip_labels(molecule) if chirality == "cip" else _tags(molecule)
    atoms = [_atom(atom, label) for atom, label in zip(molecule.GetAtoms(), labels, strict=True)]
    bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx(), _bond(b)) for b in molecule.GetBonds()]
    index = np.array([pair for i, j, _ in bonds for pair in ((i, j), (j, i))], dtype=np.int64).reshape(-1, 2)
    kinds = np.array([kind for *_, kind in bonds for _ in range(2)], dtype=np.int64).reshape(-1, len(BOND_FEATURES))
    return Data(
        x=torch.tensor(atoms, dtype=torch.long),
        edge_index=torch.from_numpy(index.T.copy()),
        edge_attr=torch.from_numpy(kinds),
    )


def batch_graphs(smiles: Sequence[str], *, chirality: Chirality = "cip") -> Batch:
    """Several molecules as one batch, in the given order; see :func:`molecular_graph`."""
    from torch_geometric.data import Batch

    return Batch.from_data_list([molecular_graph(s, chirality=chirality) for s in smiles])


def _atom(atom: Atom, chirality: str) -> list[int]:
    values = {
        "atomic number": atom.GetAtomicNum(),
        "chirality": chirality,
        "degree": atom.GetTotalDegree(),
        "formal charge": atom.GetFormalCharge(),
        "hydrogens": atom.GetTotalNumHs(),
        "radical electrons": atom.GetNumRadicalElectrons(),
        "hybridisation": str(atom.GetHybridization()),
        "aromatic": atom.GetIsAromatic(),
        "in ring": atom.IsInRing(),
    }
    return [_class(name, value) for name, value in values.items()]


def _bond(bond: Bond) -> list[int]:
    values = {"type": str(bond.GetBondType()), "stereo": str(bond.GetStereo()), "conjugated": bond.GetIsConjugated()}
    return [_class(name, value) for name, value in values.items()]


def _class(feature: str, value: Any) -> int:
    index = _INDEX[feature]
    return index.get(value, len(index) - 1)


def _tags(molecule: Mol) -> list[str]:
    return [_TAG.get(str(atom.GetChiralTag()), "other") for atom in molecule.GetAtoms()]


def _cip_labels(molecule: Mol) -> list[str]:
    from rdkit.Chem import Mol, rdCIPLabeler

    # The full algorithm of 1982 and later: the quick one of RDKit depends on the order of atoms in rare cases.
    # It works on a copy, because it turns the Z and E of double bonds into cis and trans.
    labelled = Mol(molecule)
    rdCIPLabeler.AssignCIPLabels(labelled)
    labels = [atom.GetProp("_CIPCode") if atom.HasProp("_CIPCode") else "" for atom in labelled.GetAtoms()]
    return [_CIP.get(label, "other") for label in labels]
