"""Cuts counted by hand, an order that never changes, and molecules too large for the slow way."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medrec.chem.fragments import MANY_CUTS, brics_fragments, completed, fragment_mask
from medrec.knowledge.drugs import drugs
from medrec.types import MedrecError


@pytest.fixture(scope="module")
def smiles():
    return dict(drugs().filter(drugs()["smiles"] != "").select("name", "smiles").iter_rows())


def test_atropine_and_ipratropium_share_three_of_six(smiles):
    atropine, ipratropium = (set(brics_fragments(smiles[name])) for name in ("atropine", "ipratropium"))
    assert (len(atropine), len(ipratropium)) == (4, 5)
    assert (len(atropine & ipratropium), len(atropine | ipratropium)) == (3, 6)


def test_the_running_example(smiles):
    names = ["ranitidine", "warfarin", "furosemide", "simvastatin", "morphine"]
    fragments, mask = fragment_mask([[smiles[name]] for name in names])
    assert mask.sum(1).tolist() == [6, 3, 5, 5, 1]
    assert mask.shape == (5, 19)
    assert [f for f, column in zip(fragments, mask.T, strict=True) if column.sum() > 1] == ["[4*]C[8*]"]


def test_an_uncut_molecule_is_its_own_fragment(smiles):
    assert brics_fragments(smiles["morphine"]) == (smiles["morphine"],)
    assert not set(brics_fragments(smiles["morphine"])) & set(brics_fragments(smiles["codeine"]))
    assert len(brics_fragments(smiles["codeine"])) == 2


def test_parts_are_cut_one_by_one():
    assert brics_fragments("[Na+].CC(=O)[O-]") == ("CC(=O)[O-]", "[Na+]")
    assert brics_fragments("[Li+]") == ("[Li+]",)


def test_only_a_medication_without_a_molecule_has_no_fragment():
    fragments, mask = fragment_mask([["CCO"], [], ["[Li+]", "CCO"]])
    assert fragments == ("CCO", "[Li+]")
    np.testing.assert_array_equal(mask, [[True, False], [False, False], [True, True]])
    fragments, mask = fragment_mask([[], []])
    assert fragments == ()
    assert mask.shape == (2, 0)


def test_the_order_of_molecules_does_not_matter(smiles):
    groups = [[smiles["aspirin"], smiles["ibuprofen"]], [smiles["ranitidine"]], [smiles["codeine"]]]
    fragments, mask = fragment_mask(groups)
    assert fragments == tuple(sorted(fragments))
    turned, turned_mask = fragment_mask([list(reversed(group)) for group in reversed(groups)])
    assert turned == fragments
    np.testing.assert_array_equal(turned_mask[::-1], mask)


def test_the_order_does_not_change_from_run_to_run(smiles):
    code = (
        "from medrec.chem.fragments import fragment_mask\n"
        f"print(fragment_mask([[{smiles['ranitidine']!r}], [{smiles['simvastatin']!r}]]))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": str(n)}, capture_output=True, text=True, check=True
        ).stdout
        for n in (1, 2)
    }
    assert len(said) == 1
    assert "*" in said.pop()


@pytest.mark.parametrize("name", ["benzonatate", "iodixanol"])
def test_many_cuts_at_once_give_what_the_slow_way_gives(smiles, name, monkeypatch):
    from rdkit import Chem
    from rdkit.Chem import BRICS

    molecule = Chem.MolFromSmiles(smiles[name])
    assert len(list(BRICS.FindBRICSBonds(molecule))) > MANY_CUTS
    fast = brics_fragments(smiles[name])
    assert set(fast) == BRICS.BRICSDecompose(molecule)


def test_every_drug_and_forty_more_fall_apart_and_can_be_completed(smiles):
    from rdkit import Chem

    with open(Path(__file__).parent / "drugcentral_forty.csv", newline="") as file:
        others = [row["smiles"] for row in csv.DictReader(file)]
    fragments = sorted({f for s in [*list(smiles.values())[::4], *others] for f in brics_fragments(s)})
    for fragment in fragments:
        whole, cut = Chem.MolFromSmiles(completed(fragment)), Chem.MolFromSmiles(fragment)
        atoms = [a.GetAtomicNum() for a in cut.GetAtoms() if a.GetAtomicNum()]
        assert [a.GetAtomicNum() for a in whole.GetAtoms()] == atoms, fragment


@pytest.mark.parametrize(
    ("fragment", "whole"),
    [
        ("[16*]c1ccccc1", "c1ccccc1"),
        ("[4*]C[8*]", "C"),
        ("[9*]n1cncc1", "[nH]1cncc1"),
        ("[5*]N([5*])C", "NC"),
        ("[7*]=[CH]C", "CC"),
        ("[7*]=CC", "CC"),
        ("*[N+](C)(C)C", "C[NH+](C)C"),
        ("*CC.CC(*)O", "CC.CCO"),
    ],
)
def test_cut_ends_become_hydrogens(fragment, whole):
    from rdkit import Chem

    assert Chem.CanonSmiles(completed(fragment)) == Chem.CanonSmiles(whole)


def test_what_is_no_molecule_is_named():
    with pytest.raises(MedrecError, match="not a SMILES"):
        brics_fragments("C1CC")
