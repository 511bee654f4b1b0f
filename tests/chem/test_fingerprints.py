"""Neighbourhoods by hand, and the salts that the released rule loses."""

import itertools

import numpy as np
import pytest

from medrec.chem.fingerprints import wl_fingerprints
from medrec.chem.graphs import molecular_graph
from medrec.knowledge.drugs import drug_atc, drugs
from medrec.knowledge.structures import structures

ETHANOL, ETHER = "CCO", "COC"


def heavy(prints, n):
    return [ids[:n].tolist() for ids in prints.ids]


def test_neighbourhoods_of_the_two_toys_by_hand():
    # Of depth one, hydrogens counted: CH3-C, CH2(C,O), OH-C against CH3-O twice and O(C,C).
    ethanol, ether = heavy(wl_fingerprints([ETHANOL, ETHER], radius=1), 3)
    assert len(set(ethanol)) == 3
    assert ether[0] == ether[2] != ether[1]
    assert not set(ethanol) & set(ether)


def test_hydrogens_are_atoms():
    prints = wl_fingerprints([ETHANOL], radius=1)
    ids = prints.ids[0]
    assert len(ids) == 9
    # Five on carbon, one on oxygen.
    assert sorted(np.unique(ids[3:], return_counts=True)[1].tolist()) == [1, 5]
    assert prints.edge_index[0].shape == (2, 16)


def test_radius_zero_numbers_elements_and_aromaticity():
    prints = wl_fingerprints(["c1ccccc1C"], radius=0)
    assert prints.ids[0].tolist() == [0] * 6 + [1] + [2] * 8
    assert prints.size == 3


def test_deeper_rounds_refine():
    smiles = drugs().filter(drugs()["smiles"] != "")["smiles"].to_list()[:80]
    depths = [np.concatenate(wl_fingerprints(smiles, radius=r).ids) for r in range(4)]
    for coarse, fine in itertools.pairwise(depths):
        pairs = np.unique(np.stack([coarse, fine]), axis=1)
        assert len(np.unique(fine)) == pairs.shape[1] > len(np.unique(coarse))


def test_atoms_that_see_the_same_have_one_number_and_others_have_not():
    """Against a slow route: neighbourhoods spelled out in full."""
    from rdkit import Chem

    smiles = ["CC(=O)Oc1ccccc1C(=O)O", "[Na+].CC(=O)[O-]", "CN.Cl"]

    def spelled(molecule, atom, depth):
        me = (atom.GetSymbol(), atom.GetIsAromatic())
        if depth == 0 or not atom.GetNeighbors():
            return me
        around = sorted(
            (spelled(molecule, b, depth - 1), bond(molecule, atom, b, depth - 1)) for b in atom.GetNeighbors()
        )
        return (spelled(molecule, atom, depth - 1), tuple(around)) if around else me

    def bond(molecule, a, b, depth):
        kind = str(molecule.GetBondBetweenAtoms(a.GetIdx(), b.GetIdx()).GetBondType())
        if depth == 0:
            return kind
        ends = tuple(sorted(repr(spelled(molecule, x, depth - 1)) for x in (a, b)))
        return repr((ends, bond(molecule, a, b, depth - 1)))

    slow = []
    for s in smiles:
        molecule = Chem.AddHs(Chem.MolFromSmiles(s))
        slow += [repr(spelled(molecule, atom, 2)) for atom in molecule.GetAtoms()]
    fast = np.concatenate(wl_fingerprints(smiles, radius=2).ids).tolist()
    pairs = set(zip(slow, fast, strict=True))
    assert len(pairs) == len(set(slow)) == len(set(fast))


def test_every_molecule_is_encoded_and_every_atom_of_it():
    smiles = drugs().filter(drugs()["smiles"] != "")["smiles"].to_list()
    prints = wl_fingerprints(smiles)
    # Heavy atoms stand first; hydrogens that the SMILES writes as atoms of their own count among these.
    for s, ids in zip(smiles, prints.ids, strict=True):
        assert ids is not None
        assert len(ids) >= molecular_graph(s).num_nodes
    together = np.concatenate(prints.ids)
    assert together.min() == 0
    assert len(np.unique(together)) == prints.size


def test_the_released_rule_loses_salts_or_fills_them_up():
    smiles = ["CC(=O)O", "[Na+].CC(=O)[O-]", "[Na+].[Cl-]"]
    assert [ids is None for ids in wl_fingerprints(smiles, official=True).ids] == [False, True, False]
    assert wl_fingerprints(smiles, official=True).ids[2].tolist() == [1, 1]
    prints = wl_fingerprints(smiles)
    assert [len(ids) for ids in prints.ids] == [8, 8, 2]
    # The lone ion is the same in both salts.
    assert prints.ids[1][0] == prints.ids[2][0]


@pytest.mark.parametrize(
    ("salt", "behind"),
    [
        ("[Na+].CC(=O)[O-]", None),  # in front: the second round asks for an atom that has no place
        ("CC(=O)[O-].[Na+]", None),  # so too: RDKit puts the hydrogens last
        ("O=C([O-])[O-].[Ca+2]", 1),
        ("O=S(=O)([O-])[O-].[Ba+2]", 1),
        ("[Cl-].[Cl-].[Mg+2]", 3),  # nobody has a bond
    ],
)
def test_what_the_released_rule_does_with_a_lone_ion_is_a_matter_of_its_place(salt, behind):
    (ids,), size = (found := wl_fingerprints([salt], official=True)).ids, found.size
    if behind is None:
        assert ids is None
    else:
        assert ids[-behind:].tolist() == [1] * behind
        assert len(ids) == len(wl_fingerprints([salt]).ids[0])
        assert ids.max() < size


def test_structures_of_the_book_that_the_released_rule_drops_and_fills():
    """Counted once with the released rule itself, among the drugs that stand for classes: 8 and 9."""
    classes = drug_atc()["atc3"].unique().sort().to_list()
    smiles = sorted({s for found in structures(classes) for s in found.values()})
    found = wl_fingerprints(smiles, official=True)
    lone = [len(np.unique(e)) for e in found.edge_index]
    filled = [ids is not None and len(ids) > 1 and n < len(ids) for ids, n in zip(found.ids, lone, strict=True)]
    assert sum(ids is None for ids in found.ids) == 8
    assert sum(filled) == 9


def test_the_released_rule_gives_a_hydrochloride_wrong_atoms():
    right = wl_fingerprints(["CN", "CN.Cl"]).ids
    wrong = wl_fingerprints(["CN", "CN.Cl"], official=True).ids
    assert right[1][:2].tolist() == right[0][:2].tolist()
    assert right[1][2] not in right[0]
    # Of the released rule the third number, chlorine's place, is that of a hydrogen of the methyl group.
    assert wrong[1][2] == wrong[1][3]
    assert right[1][2] != right[1][3]


def test_for_molecules_of_one_part_both_rules_part_atoms_alike():
    smiles = [s for s in drugs()["smiles"].unique().sort().to_list() if s and "." not in s][:200]
    right, released = wl_fingerprints(smiles), wl_fingerprints(smiles, official=True)
    pairs = {
        pair for a, b in zip(right.ids, released.ids, strict=True) for pair in zip(a.tolist(), b.tolist(), strict=True)
    }
    assert len(pairs) == right.size
    # The released table has rows for the first round, which nobody looks up.
    assert released.size > right.size


def test_a_single_atom_has_a_number_under_both_rules():
    for official in (False, True):
        assert wl_fingerprints(["[Li+]"], official=official).ids[0].tolist() == [0]
        assert wl_fingerprints(["[Li+]"], official=official).edge_index[0].shape == (2, 0)


@pytest.mark.parametrize("official", [False, True])
def test_same_molecules_same_numbers(official):
    first, second = (wl_fingerprints(["CCO", "COC", "c1ccccc1"], official=official) for _ in range(2))
    for a, b in zip(first.ids, second.ids, strict=True):
        np.testing.assert_array_equal(a, b)
