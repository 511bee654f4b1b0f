r"""Molecules in space as graphs: who is near whom, how far, and in which direction.

Source: BiMoRec, sec. 5.4.2, and its released code.

Two atoms are joined when they are nearer than 4.5 Å, bonded or not.  An edge carries a number and an arrow: its length
as sixteen radial functions, and the unit vector from the receiving atom to its neighbour.  An atom carries 66 numbers
that name it and one arrow, its position.

**Position seen from where?**  Released code takes raw coordinates: moving a file's origin changes the embedding of the
molecule, although nothing about the drug has changed.  Here positions are relative to the centroid unless
``centered=False`` asks for the released behaviour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrec.chem.graphs import parse
from medrec.types import MedrecError

if TYPE_CHECKING:
    from torch_geometric.data import Batch, Data

    from medrec.chem.conformers import Conformers

CUTOFF = 4.5
"""Å; released code."""
MAX_NEIGHBORS = 32
"""The nearest ones stay; released code."""
N_RADIAL = 16
"""Radial functions of a distance; released code."""
# fmt: off
SYMBOLS = (
    "C", "N", "O", "S", "F", "Si", "P", "Cl", "Br", "Mg", "Na", "Ca", "Fe", "As", "Al",
    "I", "B", "V", "K", "Tl", "Yb", "Sb", "Sn", "Ag", "Pd", "Co", "Se", "Ti", "Zn", "H",
    "Li", "Ge", "Cu", "Au", "Ni", "Cd", "In", "Mn", "Zr", "Cr", "Pt", "Hg", "Pb",
)
# fmt: on
"""Elements with a place of their own; all others, and cut ends, share the 44th."""
N_SCALARS = len(SYMBOLS) + 1 + 7 + 7 + 7 + 1
"""Numbers that name an atom: element (44), degree, hydrogens, implicit valence (7 each, the last for 6 and more),
aromatic (1)."""


def radial_basis(distance: Tensor, cutoff: float = CUTOFF, n: int = N_RADIAL) -> Tensor:
    r"""A distance as smooth indicators of where it lies.

    Source: BiMoRec, sec. 5.4.2 ("RBF distances"), widths from released code.

    .. math:: \phi_k(d) = \exp\!\Big(-\Big(\frac{d - \mu_k}{\sigma}\Big)^2\Big), \qquad
        \mu_k = \frac{k\,c}{n - 1},\ \sigma = \frac{c}{n}

    Args:
        distance: ``(E,)`` Å.
        cutoff: :math:`c`, Å.
        n: number of functions.

    Returns:
        ``(E, n)`` in [0, 1].
    """
    centres = torch.linspace(0, cutoff, n, dtype=distance.dtype, device=distance.device)
    return torch.exp(-(((distance[:, None] - centres) / (cutoff / n)) ** 2))


def radius_graph(places: Tensor, cutoff: float = CUTOFF, max_neighbors: int = MAX_NEIGHBORS) -> Tensor:
    """Neighbours within the cut-off, nearest first where there are too many.

    Args:
        places: ``(N, 3)`` Å.
        cutoff: Å.
        max_neighbors: of each atom, at most; with the cap the graph need not be symmetric.

    Returns:
        ``(2, E)``; column (b, a) joins neighbour b to atom a. No atom is its own neighbour.
    """
    N = len(places)
    distance = torch.cdist(places, places)
    distance.fill_diagonal_(torch.inf)
    near, who = distance.topk(min(max_neighbors, N), largest=False)
    a, k = (near < cutoff).nonzero(as_tuple=True)
    return torch.stack([who[a, k], a])


def geometric_graph(
    smiles: str,
    coordinates: NDArray[np.floating],
    *,
    atoms: NDArray[np.integer] | None = None,
    cutoff: float = CUTOFF,
    max_neighbors: int = MAX_NEIGHBORS,
    centered: bool = True,
) -> Data:
    """One conformer as a graph for :class:`medrec.nn.gvp.GVPEncoder`.

    Args:
        smiles: what the coordinates belong to.
        coordinates: ``(N, 3)`` Å, one row for each of ``atoms``.
        atoms: ``(N,)`` which atoms of the SMILES have a place; all heavy atoms by default.
        cutoff: Å.
        max_neighbors: see :func:`radius_graph`.
        centered: whether positions are taken from the centroid.

    Returns:
        ``s (N, 66)`` and ``v (N, 1, 3)`` of atoms, ``edge_index (2, E)``, ``edge_s (E, 16)`` and ``edge_v (E, 1, 3)``
        of edges.

    Raises:
        MedrecError: as many places as atoms are needed.
    """
    from torch_geometric.data import Data

    places = torch.as_tensor(np.array(coordinates), dtype=torch.get_default_dtype())
    scalars = torch.from_numpy(atom_scalars(smiles)).to(places.dtype)
    if atoms is not None:
        scalars = scalars[torch.from_numpy(np.asarray(atoms, dtype=np.int64))]
    if places.shape != (len(scalars), 3):
        raise MedrecError(
            f"{smiles} needs {len(scalars)} places in space and got an array of shape {tuple(places.shape)}."
        )
    if centered:
        places = places - places.mean(0)
    edges = radius_graph(places, cutoff, max_neighbors)
    arrows = places[edges[0]] - places[edges[1]]
    distance = arrows.norm(dim=1)
    return Data(
        s=scalars,
        v=places[:, None],
        edge_index=edges,
        edge_s=radial_basis(distance, cutoff),
        edge_v=(arrows / distance.clamp(min=1e-8)[:, None])[:, None],
        num_nodes=len(places),
    )


def batch_geometric(found: Sequence[Conformers], *, centered: bool = True) -> Batch:
    """The first conformer of each molecule, as one batch.

    Raises:
        MedrecError: a molecule has no conformer; leave it out first.
    """
    from torch_geometric.data import Batch

    without = [one for one in found if not one.found]
    if without:
        raise MedrecError(f"{without[0].smiles} has no conformer ({without[0].note}). Leave it out.")
    return Batch.from_data_list(
        [geometric_graph(one.smiles, one.coordinates[0], atoms=one.atoms, centered=centered) for one in found]
    )


def atom_scalars(smiles: str) -> NDArray[np.float32]:
    """What names each atom of a SMILES, ``(N, 66)`` zeros and ones; see :data:`N_SCALARS`."""
    molecule = parse(smiles)
    element = {symbol: i for i, symbol in enumerate(SYMBOLS)}
    rows = np.zeros((molecule.GetNumAtoms(), N_SCALARS), dtype=np.float32)
    for i, atom in enumerate(molecule.GetAtoms()):
        start = len(SYMBOLS) + 1
        rows[i, element.get(atom.GetSymbol(), len(SYMBOLS))] = 1
        for value in (atom.GetDegree(), atom.GetTotalNumHs(), atom.GetNumImplicitHs()):
            rows[i, start + min(value, 6)] = 1
            start += 7
        rows[i, start] = atom.GetIsAromatic()
    return rows


def flatness(coordinates: NDArray[np.floating]) -> float:
    """Smallest singular value of the centred coordinates ``(N, 3)``, Å: 0 for a drawing, and for planar molecules.

    0 for fewer than four atoms, which always lie in a plane.
    """
    centred = np.asarray(coordinates, dtype=np.float64) - np.mean(coordinates, axis=0, dtype=np.float64)
    values = np.linalg.svd(centred, compute_uv=False)
    return float(values[2]) if len(values) > 2 else 0.0


def bond_lengths(one: Conformers) -> pl.DataFrame:
    r"""Bonds of the first conformer, and how long tables say that they are.

    Tables give a radius to each element, for single bonds (RDKit's periodic table); bonds of higher order are shorter
    by Pauling's rule (J. Am. Chem. Soc. 1947).

    .. math:: \ell_{ab} = r_a + r_b - 0.71\,\text{Å}\,\log_{10} n_{ab}

    Args:
        one: a molecule with a conformer.

    Returns:
        One row a bond: ``bond`` (elements in alphabetical order, ``"C-N"``), ``order`` (1, 1.5, 2 or 3; dative bonds
        count as 1), ``length`` and ``expected`` in Å.
    """
    from rdkit.Chem import GetPeriodicTable

    from medrec.chem.conformers import as_molecules

    radius = GetPeriodicTable().GetRcovalent
    rows = []
    for bond in as_molecules(one)[0].GetBonds():
        ends, order = (bond.GetBeginAtom(), bond.GetEndAtom()), max(bond.GetBondTypeAsDouble(), 1.0)
        a, b = (one.coordinates[0][end.GetIdx()].astype(np.float64) for end in ends)
        expected = sum(radius(end.GetAtomicNum()) for end in ends) - 0.71 * np.log10(order)
        name = "-".join(sorted(end.GetSymbol() for end in ends))
        rows.append({"bond": name, "order": order, "length": float(np.linalg.norm(a - b)), "expected": expected})
    return pl.DataFrame(
        rows, schema={"bond": pl.String, "order": pl.Float64, "length": pl.Float64, "expected": pl.Float64}
    )
