"""Which molecules stand for a class, and how they average."""

from itertools import permutations

import polars as pl
import pytest
import torch

from medrec.chem.fragments import fragment_mask
from medrec.chem.graphs import batch_graphs
from medrec.chem.molecules import build
from medrec.knowledge.drugs import combinations, drug_atc, drugs
from medrec.types import MedrecError

CODES = ["A02B", "B01A", "C10A", "N02A"]


def names_of(molecules, m):
    return {molecules.names[n] for n in molecules.average[m].nonzero().flatten().tolist()}


@pytest.fixture(scope="module")
def everything():
    """All drugs of all classes, as the table lists them."""
    codes = drug_atc()["atc3"].unique().sort().to_list()
    return codes, build(codes, per_class=0)


def test_at_most_three_a_class_and_the_common_ones():
    molecules = build(CODES)
    with_structure = drugs().filter(pl.col("smiles") != "")
    for m, code in enumerate(CODES):
        members = with_structure.join(drug_atc().filter(atc3=code), on="name", how="semi")
        expected = members.sort("n_products", "name", descending=[True, False])["name"][:3].to_list()
        assert names_of(molecules, m) == set(expected)
    assert "omeprazole" in names_of(molecules, 0)
    assert "warfarin" not in names_of(molecules, 0)


def test_rows_average(everything):
    codes, molecules = everything
    sums = molecules.average.sum(1)
    filled = sums > 0
    torch.testing.assert_close(sums[filled], torch.ones(int(filled.sum())))
    for row in molecules.average[filled]:
        assert row[row > 0].unique().numel() == 1
    # A class without a molecule has an empty row and no fragment, and only such a class.
    assert (molecules.fragment_mask.any(1) == filled).all()
    structures = drugs().filter(pl.col("smiles") != "")["name"].implode()
    none = {codes[m] for m in (~filled).nonzero().flatten().tolist()}
    assert none
    assert none.isdisjoint(drug_atc().filter(pl.col("name").is_in(structures))["atc3"])


def test_every_structure_stands_once_in_order(everything):
    _, molecules = everything
    assert list(molecules.smiles) == sorted(set(molecules.smiles))
    held = drugs().filter(pl.col("smiles") != "").join(drug_atc(), on="name", how="semi")
    assert set(held["smiles"]) <= set(molecules.smiles)
    assert molecules.graphs.num_graphs == len(molecules.smiles) == len(molecules.names)
    assert (molecules.average > 0).any(0).all()


def test_graphs_and_fragments_belong_to_the_molecules():
    molecules = build(CODES)
    torch.testing.assert_close(molecules.graphs.x, batch_graphs(molecules.smiles).x)
    groups = [[molecules.smiles[n] for n in row.nonzero().flatten().tolist()] for row in molecules.average]
    fragments, mask = fragment_mask(groups)
    assert molecules.fragments == fragments
    torch.testing.assert_close(molecules.fragment_mask, torch.from_numpy(mask))
    torch.testing.assert_close(molecules.fragment_graphs.x, batch_graphs(fragments).x)


def test_permuting_the_classes_permutes_the_rows_and_nothing_else():
    base = build(CODES[:3])
    for order in permutations(range(3)):
        other = build([CODES[i] for i in order])
        assert other.smiles == base.smiles
        assert other.fragments == base.fragments
        torch.testing.assert_close(other.average, base.average[list(order)])
        torch.testing.assert_close(other.fragment_mask, base.fragment_mask[list(order)])


def test_drugs_can_be_fixed_for_a_class():
    molecules = build(["D10A", "A02B"], only={"D10A": ["tretinoin"]})
    assert names_of(molecules, 0) == {"tretinoin"}
    assert len(names_of(molecules, 1)) == 3
    with pytest.raises(MedrecError, match=r"'heparin', which stands for class B01A"):
        build(["B01A"], only={"B01A": ["heparin"]})


def test_a_class_of_combinations_alone_takes_their_ingredients():
    single = drug_atc()["atc3"].implode()
    codes = combinations().filter(~pl.col("atc3").is_in(single))["atc3"].unique().sort().to_list()
    assert codes
    molecules = build(codes, per_class=0)
    structures = drugs().filter(pl.col("smiles") != "")
    for m, code in enumerate(codes):
        ingredients = combinations().filter(atc3=code)["ingredients"].explode().to_list()
        known = structures.filter(pl.col("name").is_in(ingredients))["smiles"]
        held = {molecules.smiles[n] for n in molecules.average[m].nonzero().flatten().tolist()}
        assert held == set(known)


def test_one_structure_under_two_names_is_one_molecule():
    twins = drugs().filter((pl.col("smiles") != "") & pl.col("smiles").is_duplicated())
    assert twins.height > 1
    first, second = twins.sort("smiles", "name")["name"][:2].to_list()
    molecules = build(["X01A", "X02A"], only={"X01A": [second, first], "X02A": [second]})
    assert molecules.smiles == (twins.sort("smiles")["smiles"][0],)
    assert molecules.names == (first,)


def test_moving_keeps_everything():
    molecules = build(CODES[:1])
    moved = molecules.to("meta")
    assert moved.average.device.type == moved.graphs.x.device.type == moved.fragment_mask.device.type == "meta"
    assert moved.fragment_graphs.x.device.type == "meta"
    assert moved.smiles == molecules.smiles


def test_an_unknown_class_has_no_molecule():
    molecules = build(["Z99Z", "A02B"])
    assert molecules.average[0].sum() == 0
    assert not molecules.fragment_mask[0].any()
