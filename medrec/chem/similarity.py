"""How alike two molecules are, by the rulers of chemistry: every number needs the name of its ruler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medrec.chem.graphs import parse

if TYPE_CHECKING:
    from rdkit.Chem import Mol

    from medrec.chem.conformers import Conformers

Fingerprint = Literal["morgan", "path", "layered", "pattern", "maccs", "atom pairs", "torsions"]
FINGERPRINTS: tuple[Fingerprint, ...] = get_args(Fingerprint)
"""``morgan`` has radius 2 and 2048 bits, the usual choice; the others have RDKit's default sizes."""


def tanimoto(smiles: Sequence[str], fingerprint: Fingerprint = "morgan") -> NDArray[np.float64]:
    r"""Share of common bits, each molecule with each.

    .. math:: T_{ij} = \frac{|A_i \cap A_j|}{|A_i \cup A_j|}

    Args:
        smiles: of ``n`` molecules.
        fingerprint: which bits a molecule sets; none of them sees stereo labels.

    Returns:
        ``(n, n)`` in [0, 1], ones on the diagonal.

    Example:
        >>> tanimoto(["CCO", "COC"]).round(4)[0, 1]
        np.float64(0.1111)
    """
    from rdkit import DataStructs

    prints = [_bits(parse(s), fingerprint) for s in smiles]
    return np.array([DataStructs.BulkTanimotoSimilarity(one, prints) for one in prints])


def shape_overlap(a: Conformers, b: Conformers) -> NDArray[np.float64]:
    r"""Share of common volume after the best rotation and shift, each conformer with each.

    Source: Grant, Gallardo and Pickup, J. Comput. Chem. 1996: every atom is a Gaussian ball, so that volumes are sums
    of products of exponentials; RDKit's ``rdShapeAlign`` looks for the best place. Elements play no part beyond their
    size, and mirror images are not superposed.

    .. math:: \max_{R,\,t} \frac{V_{ab}}{V_{aa} + V_{bb} - V_{ab}}

    Args:
        a: conformers of one molecule, ``A`` of them.
        b: of the same or another one, ``B`` of them.

    Returns:
        ``(A, B)`` in [0, 1]. A search: what is found is a lower bound.
    """
    from rdkit.Chem import Mol, rdShapeAlign

    from medrec.chem.conformers import as_molecules

    def found(one: Mol, other: Mol) -> float:
        return rdShapeAlign.AlignMol(one, Mol(other), useColors=False, opt_param=1.0)[0]

    others = as_molecules(b)
    return np.array([[found(one, other) for other in others] for one in as_molecules(a)]).reshape(-1, len(others))


def _bits(molecule: Mol, fingerprint: Fingerprint) -> Any:
    from rdkit import Chem
    from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors

    generators = {
        "morgan": lambda: rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048),
        "atom pairs": rdFingerprintGenerator.GetAtomPairGenerator,
        "torsions": rdFingerprintGenerator.GetTopologicalTorsionGenerator,
    }
    if fingerprint in generators:
        return generators[fingerprint]().GetFingerprint(molecule)
    if fingerprint == "maccs":
        return rdMolDescriptors.GetMACCSKeysFingerprint(molecule)
    others: dict[str, Callable[[Mol], Any]] = {
        "path": Chem.RDKFingerprint,
        "layered": Chem.LayeredFingerprint,
        "pattern": Chem.PatternFingerprint,
    }
    return others[fingerprint](molecule)
