"""Features by hand, spellings that must not matter, and molecules that nobody planned for."""

import csv
from collections import Counter
from pathlib import Path

import pytest
import torch

from medrec.chem.conformers import conformers, flat
from medrec.chem.fingerprints import wl_fingerprints
from medrec.chem.fragments import brics_fragments, completed
from medrec.chem.geometry import atom_scalars
from medrec.chem.graphs import ATOM_FEATURES, BOND_FEATURES, batch_graphs, molecular_graph
from medrec.chem.similarity import tanimoto
from medrec.knowledge.drugs import drugs
from medrec.types import MedrecError

CHIRALITY = list(ATOM_FEATURES).index("chirality")


def smiles_of(*names):
    table = dict(drugs().select("name", "smiles").iter_rows())
    return [table[name] for name in names]


def forty():
    with open(Path(__file__).parent / "drugcentral_forty.csv", newline="") as file:
        return list(csv.DictReader(file))


def spellings(smiles, count, seed=0):
    """The same molecule written in other orders of its atoms."""
    from rdkit import Chem

    molecule = Chem.MolFromSmiles(smiles)
    return list(Chem.MolToRandomSmilesVect(molecule, count, randomSeed=seed + 1))


def content(graph):
    """What does not depend on the numbers of the atoms: atoms, and bonds with what they join."""
    x, (a, b) = graph.x.tolist(), graph.edge_index.tolist()
    bonds = Counter(
        (tuple(x[i]), tuple(x[j]), tuple(e)) for i, j, e in zip(a, b, graph.edge_attr.tolist(), strict=True)
    )
    return Counter(map(tuple, x)), bonds


def test_the_class_lists_have_the_published_sizes():
    assert [len(classes) for classes in ATOM_FEATURES.values()] == [119, 5, 12, 12, 10, 6, 6, 2, 2]
    assert [len(classes) for classes in BOND_FEATURES.values()] == [5, 6, 2]


def test_atoms_by_hand():
    atropine, ipratropium = map(molecular_graph, smiles_of("atropine", "ipratropium"))
    nitrogen = [g.x[g.x[:, 0] == 6].tolist() for g in (atropine, ipratropium)]
    assert nitrogen == [[[6, 0, 3, 5, 0, 0, 2, 0, 1]], [[6, 0, 4, 6, 0, 0, 2, 0, 1]]]
    ethanol = molecular_graph("CCO")
    assert ethanol.x.tolist() == [
        [5, 0, 4, 5, 3, 0, 2, 0, 0],
        [5, 0, 4, 5, 2, 0, 2, 0, 0],
        [7, 0, 2, 5, 1, 0, 2, 0, 0],
    ]


def test_bonds_by_hand():
    # Acetic acid: single, double, single; an acid's bonds are conjugated, the one to the methyl group is not.
    graph = molecular_graph("CC(=O)O")
    assert graph.edge_index.tolist() == [[0, 1, 1, 2, 1, 3], [1, 0, 2, 1, 3, 1]]
    assert graph.edge_attr.tolist() == [[0, 0, 0]] * 2 + [[1, 0, 1]] * 2 + [[0, 0, 1]] * 2
    assert molecular_graph("c1ccccc1").edge_attr.tolist() == [[3, 0, 1]] * 12
    stereo = {s: set(molecular_graph(s).edge_attr[:, 1].tolist()) for s in ("C/C=C/C", r"C/C=C\C", "CC=CC")}
    assert stereo == {"C/C=C/C": {0, 2}, r"C/C=C\C": {0, 1}, "CC=CC": {0}}


@pytest.mark.parametrize(
    ("smiles", "feature", "expected"),
    [
        ("[CH3]", "radical electrons", 1),
        ("[O-]", "formal charge", 4),
        ("[Fe+3]", "formal charge", 8),
        ("[CeH9+7]", "hydrogens", 9),
        ("*", "atomic number", 118),
        ("C#N", "hybridisation", 0),
        ("F[P](F)(F)(F)F", "hybridisation", 3),
        ("FS(F)(F)(F)(F)F", "hybridisation", 4),
        ("c1ccccc1", "aromatic", 1),
    ],
)
def test_rare_values_have_a_class(smiles, feature, expected):
    column = molecular_graph(smiles).x[:, list(ATOM_FEATURES).index(feature)]
    assert expected in column.tolist()


def test_a_single_atom_has_no_bonds():
    graph = molecular_graph("[Li+]")
    assert graph.x.shape == (1, 9)
    assert graph.edge_index.shape == (2, 0)
    assert graph.edge_index.dtype == torch.long
    assert graph.edge_attr.shape == (0, 3)
    assert graph.edge_attr.dtype == torch.long


def test_parts_of_a_salt_are_one_graph_without_bonds_between_them():
    graph = molecular_graph("[Na+].CC(=O)[O-]")
    assert graph.num_nodes == 5
    assert 0 not in graph.edge_index


def test_one_alanine_has_two_tags_and_one_label():
    spelled = {"L": ["C[C@H](N)C(=O)O", "N[C@@H](C)C(=O)O"], "D": ["C[C@@H](N)C(=O)O", "N[C@H](C)C(=O)O"]}
    seen = {
        rule: {
            form: [int(molecular_graph(s, chirality=rule).x[1, CHIRALITY]) for s in both]
            for form, both in spelled.items()
        }
        for rule in ("tag", "cip")
    }
    assert seen["tag"] == {"L": [2, 1], "D": [1, 2]}
    # L-alanine is S, D-alanine R.
    assert seen["cip"] == {"L": [2, 2], "D": [1, 1]}


def test_two_hundred_spellings_of_hyoscyamine():
    from rdkit import Chem

    patterns = {"tag": set(), "cip": set()}
    (smiles,) = smiles_of("hyoscyamine")
    for spelling in spellings(smiles, 200):
        ranks = Chem.CanonicalRankAtoms(Chem.MolFromSmiles(spelling))
        for rule, found in patterns.items():
            slot = molecular_graph(spelling, chirality=rule).x[:, CHIRALITY].tolist()
            found.add(tuple(slot[i] for i in sorted(range(len(ranks)), key=ranks.__getitem__)))
    assert len(patterns["cip"]) == 1
    assert len(patterns["tag"]) == 16


def test_another_spelling_is_the_same_graph_but_with_other_tags():
    flipped = 0
    for smiles in drugs()["smiles"].unique().sort().to_list()[:400:2]:
        if not smiles:
            continue
        (other,) = spellings(smiles, 1, seed=7)
        here, there = content(molecular_graph(smiles)), content(molecular_graph(other))
        assert here == there, smiles
        tagged = [content(molecular_graph(s, chirality="tag")) for s in (smiles, other)]
        flipped += tagged[0] != tagged[1]
    assert flipped > 20


def test_enantiomers_differ_by_the_label_alone():
    quinine, quinidine = map(molecular_graph, smiles_of("quinine", "quinidine"))
    assert content(quinine) != content(quinidine)
    for graph in (quinine, quinidine):
        graph.x[:, CHIRALITY] = 0
    assert content(quinine) == content(quinidine)


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("", "Nothing stands there"),
        (" \n", "Nothing stands there"),
        ("C1CC", "spell no molecule"),
        ("C..C", "spell no molecule"),
        ("C>>O", "spell no molecule"),
        ("C(C)(C)(C)(C)C", "spell no molecule"),
        # RDKit reads these up to the blank, or the character that ends a string in C, and says nothing.
        ("CCO ethanol", "one word"),
        ("C C", "one word"),
        ("CCO\tethanol", "one word"),
        ("CCO\nCCN", "one word"),
        ("CCO |$;;R$|", "one word"),
        ("CCO\x00CC", "one word"),
        ("C\u00a0C", "one word"),
        ("С", "one word"),  # a Cyrillic letter
        ("C" * 50_001, "at most 5000 are read"),
        (None, "of type NoneType"),
        (float("nan"), "of type float"),
        (6, "of type int"),
        (b"CCO", "of type bytes"),
        (["CCO"], "of type list"),
    ],
)
def test_what_is_no_molecule_is_named_with_its_reason(smiles, reason):
    with pytest.raises(MedrecError, match=f"not a SMILES.*{reason}") as caught:
        molecular_graph(smiles)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "door",
    [
        molecular_graph,
        brics_fragments,
        completed,
        atom_scalars,
        lambda s: wl_fingerprints([s]),
        lambda s: tanimoto([s]),
        lambda s: conformers([s]),
        lambda s: flat([s]),
    ],
)
@pytest.mark.parametrize("smiles", ["CCO ethanol", "C C", "", 6.0])
def test_every_room_has_the_same_door(door, smiles):
    with pytest.raises(MedrecError, match="not a SMILES"):
        door(smiles)


def test_a_blank_at_an_end_says_nothing():
    assert content(molecular_graph(" CCO\r\n")) == content(molecular_graph("CCO"))


def test_a_batch_keeps_the_order():
    batch = batch_graphs(["CCO", "[Li+]", "c1ccccc1"])
    assert batch.num_graphs == 3
    assert batch.batch.bincount().tolist() == [3, 1, 6]
    torch.testing.assert_close(batch.x[:3], molecular_graph("CCO").x)


def test_every_structure_of_the_table_has_a_graph():
    smiles = drugs().filter(drugs()["smiles"] != "")["smiles"].to_list()
    batch = batch_graphs(smiles)
    assert batch.num_graphs == len(smiles) > 850
    sizes = torch.tensor([len(classes) for classes in ATOM_FEATURES.values()])
    assert (batch.x >= 0).all()
    assert (batch.x < sizes).all()
    assert (batch.edge_attr < torch.tensor([len(classes) for classes in BOND_FEATURES.values()])).all()


def test_forty_more_drugs_have_a_graph():
    rows = forty()
    kinds = Counter(row["kind"] for row in rows)
    assert len(rows) == 40
    assert min(kinds[k] for k in ("salt", "metal or metalloid", "peptide", "macrocycle")) >= 5
    for row in rows:
        graph = molecular_graph(row["smiles"])
        assert graph.num_nodes >= 1
        parts = row["smiles"].count(".") + 1
        assert graph.num_edges // 2 >= graph.num_nodes - parts, row["name"]


def test_spellings_of_the_forty():
    for row in forty():
        if row["kind"] != "very small":
            (other,) = spellings(row["smiles"], 1)
            assert content(molecular_graph(row["smiles"])) == content(molecular_graph(other)), row["name"]
