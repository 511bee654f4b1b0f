"""Near and far in space: radial functions, radius graphs, and what a shift of the file's origin may change."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from medrec.chem.conformers import Conformers, conformers, flat
from medrec.chem.geometry import (
    N_SCALARS,
    SYMBOLS,
    atom_scalars,
    batch_geometric,
    bond_lengths,
    flatness,
    geometric_graph,
    radial_basis,
    radius_graph,
)
from medrec.types import MedrecError

BUTANE = "CCCC"


def chain(dihedral):
    """Four carbon atoms in Å: bonds of 1.53, angles of 112 degrees, the given dihedral angle in degrees."""
    angle, turn = np.deg2rad(112), np.deg2rad(dihedral)
    step = 1.53 * np.sin(angle)
    first = [1.53 * np.cos(angle), step, 0]
    last = [1.53 - 1.53 * np.cos(angle), step * np.cos(turn), step * np.sin(turn)]
    return np.array([first, [0, 0, 0], [1.53, 0, 0], last])


def pairs(places, cutoff):
    return {tuple(edge) for edge in radius_graph(torch.tensor(places), cutoff).T.tolist()}


# -- distances ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dihedral", "far"), [(0, 2.676), (60, 3.029), (-60, 3.029), (180, 3.900)])
def test_one_chain_has_several_shapes(dihedral, far):
    places = chain(dihedral)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.testing.assert_allclose([distance[0, 1], distance[1, 2], distance[2, 3]], 1.53)
    np.testing.assert_allclose([distance[0, 2], distance[1, 3]], 2.537, atol=5e-4)
    assert distance[0, 3] == pytest.approx(far, abs=5e-4)


def test_a_shorter_cutoff_sees_the_shape():
    bonded_twice = {(a, b) for a in range(4) for b in range(4) if 0 < abs(a - b) < 3}
    ends = {(0, 3), (3, 0)}
    assert pairs(chain(180), 3.5) == bonded_twice
    assert pairs(chain(60), 3.5) == pairs(chain(-60), 3.5) == bonded_twice | ends
    for dihedral in (0, 60, -60, 180):
        assert pairs(chain(dihedral), 4.5) == bonded_twice | ends, "all shapes are one graph above 3.90 Å"
        assert pairs(chain(dihedral), 2.6) == bonded_twice, "and below 2.68 Å"


def test_radial_functions_of_a_bond():
    (row,) = radial_basis(torch.tensor([1.5]))
    assert row.shape == (16,)
    assert row[5] == 1, "the sixth centre lies at 1.5 Å"
    torch.testing.assert_close(row[[4, 6]], torch.full((2,), 0.321), atol=5e-4, rtol=0)
    torch.testing.assert_close(row[[3, 7]], torch.full((2,), 0.011), atol=5e-4, rtol=0)
    assert row.argsort(descending=True)[0] == 5
    ends = radial_basis(torch.tensor([0.0, 4.5]))
    assert ends[0, 0] == ends[1, -1] == 1


# -- radius graph ------------------------------------------------------------------------------------------------------


@pytest.fixture
def cloud():
    return 3 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


def test_radius_graph_equals_a_double_loop(cloud):
    expected = {(b, a) for a in range(40) for b in range(40) if a != b and (cloud[a] - cloud[b]).norm() < 4.5}
    edges = radius_graph(cloud, max_neighbors=40).T.tolist()
    assert {tuple(edge) for edge in edges} == expected
    assert len(edges) == len(expected), "no edge twice"
    assert {(a, b) for b, a in expected} == expected, "symmetric without the cap"


def test_the_cap_keeps_the_nearest(cloud):
    edges = radius_graph(cloud, max_neighbors=3)
    distance = torch.cdist(cloud, cloud)
    for a in range(40):
        kept = edges[0, edges[1] == a].tolist()
        near = [b for b in distance[a].argsort().tolist() if b != a and distance[a, b] < 4.5]
        assert kept == near[:3], "nearest first"
    joined = {tuple(edge) for edge in edges.T.tolist()}
    assert any((a, b) not in joined for b, a in joined), "with the cap it need not be symmetric"


def test_two_atoms_on_one_place_are_neighbours_with_a_finite_direction():
    places = np.zeros((2, 3))
    graph = geometric_graph("CC", places)
    assert graph.edge_index.shape == (2, 2)
    assert not graph.edge_v.any()


# -- graphs of molecules -----------------------------------------------------------------------------------------------


def test_a_graph_of_a_chain():
    graph = geometric_graph(BUTANE, chain(60), cutoff=3.5)
    assert graph.s.shape == (4, N_SCALARS)
    assert graph.v.shape == (4, 1, 3)
    assert graph.edge_s.shape == (12, 16)
    assert graph.edge_v.shape == (12, 1, 3)
    places = torch.tensor(chain(60), dtype=torch.get_default_dtype())
    torch.testing.assert_close(graph.v[:, 0], places - places.mean(0))
    neighbour, atom = graph.edge_index
    torch.testing.assert_close(graph.edge_v.norm(dim=-1), torch.ones(12, 1))
    distance = (places[neighbour] - places[atom]).norm(dim=1)
    torch.testing.assert_close(graph.edge_v[:, 0] * distance[:, None], places[neighbour] - places[atom])
    torch.testing.assert_close(graph.edge_s, radial_basis(distance, 3.5))


def test_centring_makes_the_origin_of_the_file_irrelevant():
    moved = chain(60) + np.array([5.0, -3.0, 100.0])
    here, there = (geometric_graph(BUTANE, x) for x in (chain(60), moved))
    torch.testing.assert_close(there.v, here.v, atol=1e-4, rtol=0)
    raw = [geometric_graph(BUTANE, x, centered=False).v for x in (chain(60), moved)]
    assert (raw[1] - raw[0]).abs().max() > 99
    torch.testing.assert_close(raw[1][:, 0], torch.tensor(moved, dtype=raw[1].dtype))


def test_what_names_an_atom():
    rows = atom_scalars("C[N+]([O-])=O")  # carbon, nitrogen, oxygen twice
    assert rows.shape == (4, 66)
    assert rows.sum(1).tolist() == [4, 4, 4, 4], "element, degree, hydrogens, implicit valence; none is aromatic"
    assert rows[:, :44].argmax(1).tolist() == [SYMBOLS.index(symbol) for symbol in "CNOO"]
    assert rows[:, 44:51].argmax(1).tolist() == [1, 3, 1, 1]
    assert rows[:, 51:58].argmax(1).tolist() == [3, 0, 0, 0]
    assert rows[:, 58:65].argmax(1).tolist() == [3, 0, 0, 0]
    assert atom_scalars("c1cc[nH]c1")[:, 65].all()
    pyrrole_nitrogen = atom_scalars("c1cc[nH]c1")[3]
    assert pyrrole_nitrogen[51:58].argmax() == 1
    assert pyrrole_nitrogen[58:65].argmax() == 0, "a hydrogen that the string spells out is not implicit"
    for other in ("[16*]C", "[Rn]", "[U]"):
        assert atom_scalars(other)[0, 43] == 1, "cut ends and rare elements share a place"
    assert len(set(SYMBOLS)) == len(SYMBOLS) == 43


def test_more_than_six_counts_as_six():
    row = atom_scalars("FS(F)(F)(F)(F)F")[1]
    assert row[44:51].argmax() == 6
    assert atom_scalars("F[Re](F)(F)(F)(F)(F)F")[1, 44:51].argmax() == 6, "seven neighbours"


@pytest.mark.parametrize("smiles", ["[Li+]", "O", "C", "[Mg+2]"])
def test_single_atoms_have_an_empty_edge_set(smiles):
    one = conformers([smiles])[0]
    graph = geometric_graph(smiles, one.coordinates[0])
    assert graph.edge_index.shape == (2, 0)
    assert graph.edge_s.shape == (0, 16)
    assert graph.edge_v.shape == (0, 1, 3)
    assert not graph.v.any()
    batch = batch_geometric([one, *conformers(["CCO"]), one])
    assert batch.num_graphs == 3
    assert batch.batch.tolist() == [0, 1, 1, 1, 2]


def test_places_must_fit_the_atoms():
    with pytest.raises(MedrecError, match=r"CCCC needs 4 places in space and got an array of shape \(3, 3\)"):
        geometric_graph(BUTANE, chain(0)[:3])
    with pytest.raises(MedrecError, match=r"got an array of shape \(4, 2\)"):
        geometric_graph(BUTANE, chain(0)[:, :2])
    missing = Conformers("CC", np.empty(0, np.int64), np.empty((0, 0, 3), np.float32), np.empty(0), note="no luck")
    with pytest.raises(MedrecError, match=r"CC has no conformer \(no luck\)\. Leave it out"):
        batch_geometric([missing])


def test_a_batch_takes_the_first_conformer_and_only_the_atoms_with_a_place():
    salt, water = conformers(["[Na+].CC(=O)[O-]", "O"], n=3)
    batch = batch_geometric([salt, water])
    first = batch.get_example(0)
    torch.testing.assert_close(
        first.s, torch.from_numpy(atom_scalars("[Na+].CC(=O)[O-]")[1:]).to(first.s.dtype), msg="sodium has no place"
    )
    places = torch.tensor(salt.coordinates[0]).to(first.v.dtype)
    torch.testing.assert_close(first.v[:, 0], places - places.mean(0))
    raw = batch_geometric([salt], centered=False)
    torch.testing.assert_close(raw.v[:, 0], places)


# -- symmetries --------------------------------------------------------------------------------------------------------


def test_what_turns_and_what_stays():
    places = conformers(["CC(=O)Oc1ccccc1C(=O)O"])[0].coordinates[0].astype(np.float64)
    rng = np.random.default_rng(0)
    here = geometric_graph("CC(=O)Oc1ccccc1C(=O)O", places)
    for _ in range(20):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turn[:, 0] *= np.linalg.det(turn)
        there = geometric_graph("CC(=O)Oc1ccccc1C(=O)O", places @ turn.T + rng.normal(size=3) * 20)
        R = torch.tensor(turn, dtype=here.v.dtype)
        order = np.lexsort(here.edge_index.numpy()), np.lexsort(there.edge_index.numpy())
        assert torch.equal(here.edge_index[:, order[0]], there.edge_index[:, order[1]])
        torch.testing.assert_close(there.edge_s[order[1]], here.edge_s[order[0]], atol=1e-4, rtol=0)
        torch.testing.assert_close(there.edge_v[order[1]], here.edge_v[order[0]] @ R.T, atol=1e-4, rtol=0)
        torch.testing.assert_close(there.v, here.v @ R.T, atol=1e-4, rtol=0)


def test_mirror_images_differ_in_arrows_alone():
    corners = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    here, there = (geometric_graph(BUTANE, x) for x in (corners, corners * [-1, 1, 1]))
    torch.testing.assert_close(here.edge_s, there.edge_s)
    torch.testing.assert_close(here.v, there.v * torch.tensor([-1.0, 1, 1]))

    def volume(graph):
        a, b, c, d = graph.v[:, 0].double()
        return torch.linalg.det(torch.stack([b - a, c - a, d - a])).item()

    assert [volume(here), volume(there)] == pytest.approx([-16, 16])


# -- bonds -------------------------------------------------------------------------------------------------------------


def test_lengths_of_bonds_and_what_tables_say():
    places = np.array([[[0.0, 0, 0], [1.5, 0, 0], [1.5, 1.2, 0]]], dtype=np.float32)
    one = Conformers("CC=O", np.arange(3), places, np.full(1, np.nan))
    table = bond_lengths(one)
    assert table["bond"].to_list() == ["C-C", "C-O"]
    assert table["order"].to_list() == [1, 2]
    np.testing.assert_allclose(table["length"], [1.5, 1.2], atol=1e-6)
    # RDKit's radii: carbon 0.76, oxygen 0.66 Å; the double bond is 0.71 log10(2) = 0.2137 Å shorter.
    np.testing.assert_allclose(table["expected"], [1.52, 1.42 - 0.2137], atol=1e-4)
    salt = Conformers("[Na+].CC=O", np.array([1, 2, 3]), places, np.full(1, np.nan))
    assert bond_lengths(salt).equals(table), "parts without a place are left out"
    assert bond_lengths(Conformers("O", np.array([0]), places[:, :1], np.full(1, np.nan))).height == 0


# -- flatness ----------------------------------------------------------------------------------------------------------


def test_flatness():
    rng = np.random.default_rng(1)
    square = np.array([[0.0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]])
    assert flatness(square) == 0
    assert flatness(square + np.array([0, 0, 7])) == pytest.approx(0, abs=1e-12)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert flatness(square @ turn) == pytest.approx(0, abs=1e-12)
    lifted = square + np.array([[0, 0, 0.5], [0, 0, -0.5], [0, 0, 0.5], [0, 0, -0.5]])
    assert flatness(lifted) == pytest.approx(1.0), "four atoms, each half an Å off the plane"
    assert flatness(rng.normal(size=(3, 3))) == pytest.approx(0, abs=1e-12)
    assert flatness(rng.normal(size=(2, 3))) == flatness(np.zeros((1, 3))) == 0


def test_a_drawing_is_flat_and_a_conformer_is_not():
    smiles = ["CC(C)Cc1ccc(C(C)C(=O)O)cc1", "CC(=O)Oc1ccccc1C(=O)O"]
    assert all(flatness(one.coordinates[0]) == 0 for one in flat(smiles))
    assert all(flatness(one.coordinates[0]) > 0.5 for one in conformers(smiles))


def test_importing_the_module_does_not_load_the_chemistry():
    code = "import sys, medrec.chem.geometry, medrec.chem.conformers; print('rdkit' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
