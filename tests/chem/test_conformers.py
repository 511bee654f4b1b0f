"""Conformers: one seed, one geometry; every kind of molecule meets its rule; and the cache tells the truth."""

import itertools
import math
import re
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem, rdDistGeom, rdMolAlign
from scipy.spatial.transform import Rotation

from medrec import context
from medrec.chem import conformers as room
from medrec.chem.conformers import Conformers, as_molecules, conformers, flat, read_sdf, report, rmsd, write_sdf
from medrec.chem.fragments import brics_fragments
from medrec.chem.geometry import bond_lengths, flatness, radius_graph
from medrec.chem.graphs import molecular_graph
from medrec.data.cohort import Vocabulary
from medrec.experiments import molecules_3d as study
from medrec.knowledge.drugs import drugs
from medrec.types import MedrecError

IBUPROFEN = "CC(C)Cc1ccc(C(C)C(=O)O)cc1"
SMILES = dict(drugs().filter(pl.col("smiles").str.len_chars() > 0).select("name", "smiles").iter_rows())


def bonds(one):
    """Lengths in Å of the bonds between atoms with a place, in the first conformer, and what tables make of them."""
    found = bond_lengths(one)
    return found["length"].to_numpy(), found["expected"].to_numpy()


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path))
    return tmp_path


# -- the same seed, the same places ------------------------------------------------------------------------------------


def test_the_seed_decides(tmp_path, monkeypatch):
    made = []
    for k, seed in enumerate([1, 1, 2]):
        monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path / str(k)))
        made.append(conformers([IBUPROFEN], n=4, seed=seed)[0])
    np.testing.assert_array_equal(made[0].coordinates, made[1].coordinates)
    np.testing.assert_array_equal(made[0].energies, made[1].energies)
    assert rmsd(made[0].coordinates[:1], made[2].coordinates).min() > 1e-3


@pytest.mark.parametrize("seed", [0, -1])
def test_seed_zero_is_refused(seed):
    with pytest.raises(MedrecError, match=f"a seed of 1 or more, not {seed}"):
        conformers([IBUPROFEN], seed=seed)


def test_why_seed_zero_is_refused():
    """RDKit's own behaviour: if it ever changes, the rule can go."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(SMILES["atropine"]))
    parameters = AllChem.ETKDGv3()
    for seed, alike in ((0, True), (1, False)):
        parameters.randomSeed = seed
        AllChem.EmbedMultipleConfs(molecule, 3, parameters)
        places = np.stack([c.GetPositions() for c in molecule.GetConformers()])
        assert np.allclose(places[0], places[1]) == np.allclose(places[0], places[2]) == alike


def test_several_conformers_lowest_first_and_different():
    one = conformers([IBUPROFEN], n=6)[0]
    assert one.coordinates.shape == (6, 15, 3)
    assert one.coordinates.dtype == np.float32
    assert (np.diff(one.energies) >= 0).all()
    assert one.energies[-1] > one.energies[0]
    assert one.converged
    assert one.force_field == "MMFF94"
    between = rmsd(one.coordinates, one.coordinates)
    assert between[np.triu_indices(6, 1)].max() > 0.5, "conformers, not copies"
    assert conformers([IBUPROFEN], n=1)[0].coordinates.shape == (1, 15, 3)


def test_atropine_has_many_shapes():
    """Numbers counted with RDKit before this room was written; another seed draws others, so the bounds are wide."""
    one = conformers([SMILES["atropine"]], n=20)[0]
    assert len(one.coordinates) == 20
    above = one.energies - one.energies[0]
    assert above.max() == pytest.approx(8.2, abs=4)
    assert 2 <= (above < 3).sum() <= 8  # 6
    pairs = np.triu_indices(20, 1)
    apart = rmsd(one.coordinates, one.coordinates)[pairs]
    molecules = as_molecules(one)
    # That count let the two sides of the phenyl ring change places.
    alike = [rdMolAlign.GetBestRMS(Chem.Mol(molecules[i]), molecules[j]) for i, j in zip(*pairs, strict=True)]
    assert np.mean(alike) == pytest.approx(1.36, abs=0.1)
    assert max(alike) == pytest.approx(2.21, abs=0.3)
    assert (apart >= np.array(alike) - 1e-4).all()
    graphs = [{tuple(e) for e in radius_graph(torch.tensor(x)).T.tolist()} for x in one.coordinates]
    overlap = [len(a & b) / len(a | b) for i, a in enumerate(graphs) for b in graphs[:i]]
    assert np.mean(overlap) == pytest.approx(0.89, abs=0.03)
    assert min(overlap) == pytest.approx(0.80, abs=0.05)


def test_order_and_repetitions_are_kept():
    asked = ["CCO", IBUPROFEN, "CCO", "C"]
    found = conformers(asked)
    assert [one.smiles for one in found] == asked
    assert found[0] is found[2]
    assert [len(one.atoms) for one in found] == [3, 15, 3, 1]
    assert conformers([]) == []


def test_atoms_stand_in_the_order_of_the_string():
    """Every bonded pair is nearer than 1.7 Å and no other heavy pair is, whatever the spelling."""
    molecule = Chem.MolFromSmiles(IBUPROFEN)
    for k in range(5):
        spelling = Chem.MolToSmiles(molecule, doRandom=True, rootedAtAtom=k * 3)
        parsed = Chem.MolFromSmiles(spelling)
        places = conformers([spelling])[0].coordinates[0]
        near = np.linalg.norm(places[:, None] - places[None], axis=-1) < 1.7
        expected = Chem.GetAdjacencyMatrix(parsed).astype(bool) | np.eye(parsed.GetNumAtoms(), dtype=bool)
        np.testing.assert_array_equal(near, expected)


@pytest.mark.parametrize("smiles", ["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", r"C/C=C\C(=O)O", "C/C=C/C(=O)O"])
def test_stereo_labels_are_obeyed(smiles):
    molecule = as_molecules(conformers([smiles])[0])[0]
    Chem.SanitizeMol(molecule)
    Chem.RemoveStereochemistry(molecule)
    Chem.AssignStereochemistryFrom3D(molecule)
    assert Chem.MolToSmiles(molecule) == Chem.CanonSmiles(smiles)


def test_a_string_that_is_no_molecule_stops_before_anything_is_made(empty_cache):
    with pytest.raises(MedrecError, match="'C1CC' is not a SMILES"):
        conformers(["CCO", "C1CC"])
    assert not (empty_cache / "conformers.sqlite").exists()


# -- distance between conformers ---------------------------------------------------------------------------------------


@pytest.fixture
def two_clouds():
    rng = np.random.default_rng(3)
    return rng.normal(size=(3, 12, 3)), rng.normal(size=(2, 12, 3))


def test_rmsd_equals_another_solution_of_the_same_problem(two_clouds):
    a, b = two_clouds
    found = rmsd(a, b)
    assert found.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            x, y = a[i] - a[i].mean(0), b[j] - b[j].mean(0)
            _, rest = Rotation.align_vectors(y, x)
            assert found[i, j] == pytest.approx(rest / math.sqrt(12), abs=1e-9)


def test_no_rotation_does_better(two_clouds):
    """Brute force: thousands of rotations, and small ones around the best of them."""
    x, y = two_clouds[0][0], two_clouds[1][0]
    x, y = x - x.mean(0), y - y.mean(0)
    best = rmsd(x[None], y[None])[0, 0]
    turns = Rotation.random(4000, rng=np.random.default_rng(0))
    for step in (0.3, 0.1, 0.03, 0.01):
        tried = np.sqrt(((turns.as_matrix() @ x.T - y.T) ** 2).sum((1, 2)) / 12)
        assert tried.min() >= best - 1e-12
        small = Rotation.from_rotvec(step * np.random.default_rng(1).normal(size=(4000, 3)))
        turns = small * turns[int(tried.argmin())]
    assert tried.min() == pytest.approx(best, abs=1e-3), "brute force gets there"


def test_rmsd_of_copies_mirrors_and_molecules():
    one = conformers([IBUPROFEN], n=3)[0]
    rng = np.random.default_rng(0)
    moved = one.coordinates @ Rotation.random(rng=rng).as_matrix().T + rng.normal(size=3) * 10
    np.testing.assert_allclose(rmsd(one.coordinates, moved).diagonal(), 0, atol=1e-3)
    mirrored = one.coordinates * np.array([1, 1, -1])
    assert rmsd(one.coordinates, mirrored).diagonal().min() > 0.1, "a mirror is no rotation"
    plane = np.random.default_rng(1).normal(size=(1, 5, 3)) * [1, 1, 0]
    assert rmsd(plane, plane * [1, -1, 1])[0, 0] == pytest.approx(0, abs=1e-6), "but in a plane it is"
    molecules = as_molecules(one)
    matching = [[(i, i) for i in range(15)]]
    oracle = rdMolAlign.GetBestRMS(molecules[0], molecules[1], map=matching)
    assert rmsd(one.coordinates[:1], one.coordinates[1:2])[0, 0] == pytest.approx(oracle, abs=1e-4)


# -- every kind of molecule has a rule ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("smiles", "atoms", "note"),
    [
        ("[Na+].CC(=O)[O-]", [1, 2, 3, 4], "1 other part left out"),
        ("CC(=O)[O-].[Na+]", [0, 1, 2, 3], "1 other part left out"),
        ("Cl.Cl.NCCN", [2, 3, 4, 5], "2 other parts left out"),
        ("OS(=O)(=O)O.CN", [5, 6], "1 other part left out"),  # the organic part, although it is the smaller one
        ("[Cl-].[Na+]", [1], "1 other part left out; one heavy atom, a point at the origin"),
        ("[Li+]", [0], "one heavy atom, a point at the origin"),
        ("N[Pt](N)(Cl)Cl", [0, 1, 2, 3, 4], "MMFF94 has no parameters"),
        ("CC(C)B(O)O", [0, 1, 2, 3, 4, 5], "MMFF94 has no parameters"),
        ("[16*]c1ccccc1", [1, 2, 3, 4, 5, 6], "1 cut end closed with hydrogen"),
        ("[5*]N[5*]", [1], "2 cut ends closed with hydrogen; one heavy atom, a point at the origin"),
        ("CC[4*].[Na+]", [0, 1], "1 other part left out; 1 cut end closed with hydrogen"),
        ("[Na+].[4*]CC(=O)[O-].Cl", [2, 3, 4, 5], "2 other parts left out; 1 cut end closed with hydrogen"),
        ("*.CCO", [1, 2, 3], "1 other part left out"),
        (IBUPROFEN, list(range(15)), ""),
    ],
)
def test_what_gets_a_place_and_what_is_said(smiles, atoms, note):
    one = conformers([smiles])[0]
    assert one.atoms.tolist() == atoms
    assert one.coordinates.shape == (1, len(atoms), 3)
    assert np.isfinite(one.coordinates).all()
    assert one.note == note
    relaxed = "no parameters" not in note and "one heavy" not in note
    assert one.force_field == ("MMFF94" if relaxed else "none")
    assert one.converged == relaxed
    assert np.isnan(one.energies[0]) == (not relaxed)
    if len(atoms) > 1:
        found, _ = bonds(one)
        assert ((found > 0.9) & (found < 2.7)).all()


# -- several parts: which one is the drug ------------------------------------------------------------------------------

PARENTS = {
    # A metal beside common acids of mineral salts is the drug, whatever their size.
    "lithium": "[Li+]",
    "calcium carbonate": "[Ca+2]",
    "calcium gluconate": "[Ca+2]",
    "calcium acetate": "[Ca+2]",
    "ferrous sulfate": "[Fe+2]",
    "ferrous gluconate": "[Fe+2]",
    "ferric citrate": "[Fe+3]",
    "lanthanum carbonate": "[La+3]",
    "magnesium citrate": "[Mg+2]",
    "magnesium sulfate": "[Mg+2]",
    "zinc sulfate": "[Zn+2]",
    "barium sulfate": "[Ba+2]",
    "silver nitrate": "[Ag+]",
    "potassium chloride": "[K+]",
    "potassium citrate": "[K+]",
    "sodium chloride": "[Na+]",
    # Sodium and potassium carry what is given for itself.
    "sodium bicarbonate": "O=C([O-])O",
    "sodium citrate": "O=C([O-])CC(O)(CC(=O)[O-])C(=O)[O-]",
    "sodium phosphate": "O=P([O-])([O-])O",
    "potassium phosphate": "O=P([O-])([O-])O",
    "sodium thiosulfate": "O=S([O-])([O-])=S",
    "sodium fluoride": "[F-]",
    "potassium iodide": "[I-]",
    # What is no mineral acid is the drug.
    "silver sulfadiazine": "Nc1ccc(S(=O)(=O)[N-]c2ncccn2)cc1",
    "edetate calcium disodium": "O=C([O-])CN(CCN(CC(=O)[O-])CC(=O)[O-])CC(=O)[O-]",
    "ammonium lactate": "CC(O)C(=O)[O-]",
}


def parent(smiles):
    molecule = Chem.MolFromSmiles(smiles)
    return Chem.MolFragmentToSmiles(molecule, room._kept_atoms(molecule)[0].tolist())


@pytest.mark.parametrize(("name", "kept"), PARENTS.items())
def test_the_drug_of_a_salt_is_kept_in_whatever_order_its_parts_stand(name, kept):
    for order in itertools.islice(itertools.permutations(SMILES[name].split(".")), 12):
        assert parent(".".join(order)) == kept


def test_no_metal_of_the_table_is_lost_behind_a_mineral_acid():
    """Of all salts of the table that hold another metal than sodium and potassium, but for two organic ones."""
    for name, smiles in SMILES.items():
        metals = set(re.findall(r"\[(Li|Na|K|Mg|Ca|Ba|Zn|Fe|Al|Ag|La)\+?\d?\]", smiles))
        if "." in smiles and metals - {"Na", "K"} and name not in ("silver sulfadiazine", "edetate calcium disodium"):
            assert re.fullmatch(r"\[[A-Z][a-z]?\+\d?\]", parent(smiles)), name


# -- coordinates belong to the atoms that they are given to ------------------------------------------------------------

PARTS = [
    "CCO", "[Na+]", "[Cl-]", "Cl", "[Li+]", "[Ca+2]", "O=C([O-])[O-]", "CC(=O)[O-]", "C[N+](C)(C)C", "OS(=O)(=O)O",
    "*", "*c1ccccc1", "[4*]CC[8*]", "[7*]=CC", "[7*]=[CH]C", "[16*]c1ncccc1O", "*[N+](C)(C)C", "[9*]n1ccnc1", "OCC(*)O",
    "N[C@@H](C)C*", "*C(=O)N1CCOCC1", "*S(=O)(=O)c1ccc(N)cc1", "c1ccc2c(c1)CC(*)C2", "C1CC(*)CCN1*",
]  # fmt: skip


@pytest.mark.parametrize("draw", range(40))
def test_bonded_atoms_are_a_bond_apart_and_others_are_not(draw):
    """Salts, cut ends and both together, in any order and spelling."""
    rng = np.random.default_rng(draw)
    chosen = [PARTS[k] for k in rng.choice(len(PARTS), rng.integers(1, 5), replace=False)]
    spelled = [Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(part), 1, randomSeed=draw + 1)[0] for part in chosen]
    smiles = ".".join(spelled)
    (one,) = conformers([smiles])
    if not one.found:
        assert "cut ends" in one.note, smiles
        return
    molecule = Chem.MolFromSmiles(smiles)
    assert all(molecule.GetAtomWithIdx(int(i)).GetAtomicNum() for i in one.atoms)
    length, expected = bonds(one)
    np.testing.assert_allclose(length, expected, atol=0.2, err_msg=smiles)
    apart = np.linalg.norm(one.coordinates[0][:, None] - one.coordinates[0][None], axis=-1)
    joined = Chem.GetAdjacencyMatrix(molecule)[np.ix_(one.atoms, one.atoms)].astype(bool)
    assert (apart[~joined & ~np.eye(len(joined), dtype=bool)] > 1.9).all(), smiles


@pytest.mark.parametrize("smiles", ["C*C", "CC(*)C.[Na+].C1C*C1CC", "CCC*(C)CC", "*1CCCC1"])
def test_a_dummy_atom_between_two_atoms_is_no_cut_end(smiles):
    (one,) = conformers([smiles])
    assert not one.found
    assert one.note.endswith("a dummy atom with two neighbours is no cut end")


# -- a bound on the work -----------------------------------------------------------------------------------------------

IMPOSSIBLE = "CC1(C)[C@H]2CC[C@@]1(C)C(=O)C2"
"""Camphor whose bridge would have to pass through the ring."""


@pytest.mark.parametrize(("starts", "attempts"), [(1, [1]), (50, [50]), (60, [50, 10]), (101, [50, 50, 1])])
def test_at_most_so_many_starts_and_then_a_reason(empty_cache, monkeypatch, starts, attempts):
    seen = []
    monkeypatch.setattr(rdDistGeom, "EmbedMultipleConfs", lambda m, n, p: seen.append(p.maxIterations) or [])
    (one,) = conformers([IMPOSSIBLE], starts=starts)
    assert seen == attempts
    assert not one.found
    assert one.note == f"not embedded in {starts} starts, as many as were allowed"


def test_nobody_asked_for_fewer_starts(empty_cache, monkeypatch):
    seen = []
    monkeypatch.setattr(rdDistGeom, "EmbedMultipleConfs", lambda m, n, p: seen.append(p.maxIterations) or [])
    quinuclidine = "C[C@H]1C[N@]2CC[C@@H]1CC2"
    (one,) = conformers([quinuclidine])
    assert sum(seen) == room.STARTS, "the bound is what the recipe needs"
    assert one.note == "not embedded, even without stereo labels"


def test_the_bound_is_set_by_argument_before_environment(monkeypatch):
    assert room.allowed_starts() == room.STARTS
    monkeypatch.setenv("MEDREC_CONFORMER_STARTS", "7")
    assert room.allowed_starts() == 7
    assert room.allowed_starts(3) == 3
    monkeypatch.setenv("MEDREC_CONFORMER_STARTS", "")
    assert room.allowed_starts() == room.STARTS


@pytest.mark.parametrize("said", ["0", "-5", "many", "1.5", "nan"])
def test_a_bound_that_is_none_is_refused(monkeypatch, said):
    monkeypatch.setenv("MEDREC_CONFORMER_STARTS", said)
    with pytest.raises(MedrecError, match=rf"not '{said}'. Mend MEDREC_CONFORMER_STARTS"):
        conformers(["CCO"])
    monkeypatch.delenv("MEDREC_CONFORMER_STARTS")
    with pytest.raises(MedrecError, match="whole number of starts, 1 or more"):
        conformers(["CCO"], starts=said)


def test_bounded_and_unbounded_results_are_kept_apart(empty_cache):
    (bounded,) = conformers([IMPOSSIBLE], starts=1)
    assert not bounded.found
    assert conformers(["CCO"], starts=1)[0].found
    assert room._cached([IMPOSSIBLE, "CCO"], 1, 1, room.STARTS) == {}


def test_keys_say_what_decided(monkeypatch):
    assert room.recipe(["CCO", "[4*]CC"]) == [room.FORMAT]
    assert room.recipe(["CCO", "[Na+].[Cl-]"]) == [room.FORMAT, room.PARTS_FORMAT]
    monkeypatch.setenv("MEDREC_CONFORMER_STARTS", "9")
    assert room.recipe(["CCO"]) == [room.FORMAT, 9]
    assert room.recipe(["CCO"], room.STARTS) == [room.FORMAT]


def test_a_run_under_another_bound_is_another_run(monkeypatch):
    asked = context.Asked({"medication": Vocabulary("medication", ("A02B", "B01A"), ("", ""))})
    usual = context.provider("molecules").describe(asked)
    monkeypatch.setenv("MEDREC_CONFORMER_STARTS", "5")
    assert context.provider("molecules").describe(asked) != usual
    monkeypatch.setenv("MEDREC_CONFORMER_STARTS", str(room.STARTS))
    assert context.provider("molecules").describe(asked) == usual


def test_who_lets_us_wait_is_named_meanwhile(monkeypatch, capsys):
    said, long = threading.Event(), f"conformers of {'C' * 57}...: "

    def notice(line):
        # On a busy machine the quick one may be named too.
        if long in line and "MEDREC_CONFORMER_STARTS" in line:
            said.set()

    def slow():
        yield "quick"
        assert said.wait(60), "nobody named the long molecule"
        yield "slow"

    monkeypatch.setattr(room, "PATIENCE", 0.001)
    monkeypatch.setattr(room, "notice", notice)
    assert list(room._told(["CCO", "C" * 100], slow())) == ["quick", "slow"]


def test_fragments_keep_the_order_of_their_own_atoms():
    for fragment in brics_fragments(SMILES["simvastatin"]):
        one = conformers([fragment])[0]
        molecule = Chem.MolFromSmiles(fragment)
        assert one.atoms.tolist() == [a.GetIdx() for a in molecule.GetAtoms() if a.GetAtomicNum()]
        for bond in molecule.GetBonds():
            ends = [np.flatnonzero(one.atoms == k) for k in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())]
            if all(len(end) for end in ends):
                a, b = (one.coordinates[0][end[0]] for end in ends)
                assert 1.1 < np.linalg.norm(a - b) < 1.65, fragment


def test_the_label_of_a_bridgehead_nitrogen_that_cannot_be_drawn():
    right, wrong = "C[C@H]1C[N@]2CC[C@H]1CC2", "C[C@H]1C[N@]2CC[C@@H]1CC2"
    made = conformers([right, wrong])
    assert [one.note for one in made] == [
        "",
        "label of a bridgehead nitrogen dropped: its mirror form cannot be drawn",
    ]
    assert made[0].energies == pytest.approx(made[1].energies, abs=0.01), "the rest of it is the same molecule"


def test_labels_that_contradict_each_other(empty_cache, monkeypatch):
    """Camphor whose bridge would have to pass through the ring. No start succeeds, so that a tenth of them will do."""
    monkeypatch.setattr(room, "TRIES", 5)
    camphor, impossible = "CC1(C)[C@@H]2CC[C@@]1(C)C(=O)C2", "CC1(C)[C@H]2CC[C@@]1(C)C(=O)C2"
    made = conformers([camphor, impossible])
    assert [one.note for one in made] == ["", "all stereo labels dropped"]
    assert made[1].found


def test_large_molecules_start_from_random_coordinates(empty_cache, monkeypatch):
    monkeypatch.setattr(room, "LARGE", 15)
    one = conformers([IBUPROFEN])[0]
    assert one.note == "15 heavy atoms: random starting coordinates"
    assert one.converged


def test_what_takes_too_long_is_not_kept_because_another_machine_may_find_it(empty_cache, monkeypatch):
    """RDKit returns -1 when it runs out of time; the second attempt has an answer."""
    real, answers = rdDistGeom.EmbedMultipleConfs, [[-1], None, [-1], None]

    def late(*asked):
        answer = answers.pop(0)
        return real(*asked) if answer is None else answer

    monkeypatch.setattr(rdDistGeom, "EmbedMultipleConfs", late)
    for _ in range(2):
        (one,) = conformers(["CCO"])
        assert one.found
        assert one.note == "random starting coordinates; an attempt was given up after 300 s"
    assert answers == [], "made again"


def test_what_cannot_be_embedded_has_a_reason(empty_cache, monkeypatch):
    monkeypatch.setattr(rdDistGeom, "EmbedMultipleConfs", lambda *_: [])
    one = conformers(["CC[16*]"])[0]
    assert not one.found
    assert one.coordinates.shape == (0, 0, 3)
    assert len(one.atoms) == len(one.energies) == 0
    assert one.note == "1 cut end closed with hydrogen; not embedded, even without stereo labels"
    assert report([one]).row(0, named=True) == {
        "smiles": "CC[16*]",
        "atoms": 0,
        "conformers": 0,
        "energy": None,
        "span": None,
        "rmsd": None,
        "force_field": "none",
        "converged": False,
        "note": one.note,
    }


def test_a_force_field_that_has_no_time_says_so(empty_cache, monkeypatch):
    monkeypatch.setattr(room, "STEPS", 1)
    one = conformers([IBUPROFEN], n=2)[0]
    assert one.note == "2 of 2 still moving after 1 steps"
    assert not one.converged
    assert np.isfinite(one.energies).all()


def test_report():
    frame = report(conformers([IBUPROFEN, "[Li+]"], n=5))
    first, second = frame.iter_rows(named=True)
    one = conformers([IBUPROFEN], n=5)[0]
    assert first["atoms"] == 15
    assert first["conformers"] == 5
    assert first["energy"] == one.energies.min()
    assert first["span"] == one.energies.max() - one.energies.min()
    assert first["rmsd"] == pytest.approx(rmsd(one.coordinates, one.coordinates)[0].max())
    assert second["energy"] is None
    assert second["rmsd"] == 0
    assert frame.schema["energy"] == pl.Float64
    assert report(conformers(["[Li+]"]))["span"].dtype == pl.Float64


# -- drawings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smiles", [IBUPROFEN, "[Na+].CC(=O)[O-]", "[16*]c1ccccc1", "CC", "[Li+]"])
def test_drawings_are_flat_and_their_bonds_have_length_one(smiles):
    (one,) = flat([smiles])
    (solid,) = conformers([smiles])
    np.testing.assert_array_equal(one.atoms, solid.atoms)
    assert not one.coordinates[..., 2].any()
    assert flatness(one.coordinates[0]) == 0
    assert one.note.endswith("a drawing, z = 0")
    assert one.force_field == "none"
    if len(one.atoms) > 1:
        assert np.median(bonds(one)[0]) == pytest.approx(1, abs=1e-6)


def test_mirror_images_are_one_drawing_up_to_a_reflection():
    left, right = flat(["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"])
    assert rmsd(left.coordinates, right.coordinates)[0, 0] == pytest.approx(0, abs=1e-6)
    left, right = conformers(["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"])
    assert rmsd(left.coordinates, right.coordinates)[0, 0] > 0.1


# -- files of other people ---------------------------------------------------------------------------------------------


def test_out_and_in_again(tmp_path):
    asked = [IBUPROFEN, "[Li+]", SMILES["morphine"]]
    made = conformers(asked, n=3)
    file = tmp_path / "drugs.sdf"
    write_sdf(file, made)
    assert [p.name for p in tmp_path.iterdir()] == ["drugs.sdf"]
    for one, back in zip(made, read_sdf(file, asked), strict=True):
        assert back.smiles == one.smiles
        np.testing.assert_array_equal(back.atoms, one.atoms)
        np.testing.assert_allclose(back.coordinates, one.coordinates, atol=1e-4)  # four decimals in the file
        assert back.note == ""
    records = list(Chem.SDMolSupplier(str(file)))
    assert len(records) == 7
    assert float(records[0].GetProp("energy")) == pytest.approx(made[0].energies[0], abs=1e-4)
    assert records[0].GetProp("force_field") == "MMFF94"


def test_another_spelling_gets_its_own_order(tmp_path):
    write_sdf(tmp_path / "x.sdf", conformers([IBUPROFEN]))
    molecule = Chem.MolFromSmiles(IBUPROFEN)
    for root in (3, 9, 12):
        spelling = Chem.MolToSmiles(molecule, rootedAtAtom=root)
        (one,) = read_sdf(tmp_path / "x.sdf", [spelling])
        found, expected = bonds(one)
        np.testing.assert_allclose(found, expected, atol=0.12)


def test_hydrogens_in_a_file_are_left_out(tmp_path):
    molecule = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    with Chem.SDWriter(str(tmp_path / "x.sdf")) as writer:
        writer.write(molecule)
    (one,) = read_sdf(tmp_path / "x.sdf", ["OCC"])
    np.testing.assert_allclose(one.coordinates[0], molecule.GetConformer().GetPositions()[[2, 1, 0]], atol=1e-4)


def test_what_a_file_lacks_and_what_it_draws(tmp_path):
    write_sdf(tmp_path / "x.sdf", flat(["CCO", IBUPROFEN]))
    ethanol, aspirin = read_sdf(tmp_path / "x.sdf", ["CCO", SMILES["aspirin"]])
    assert ethanol.note == "a drawing, z = 0"
    assert not aspirin.found
    assert aspirin.note == "not in x.sdf"


def test_stereo_labels_do_not_divide_records(tmp_path):
    """A user's file may hold either form, or say nothing; the note does not hide it, the coordinates tell."""
    write_sdf(tmp_path / "x.sdf", conformers(["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"]))
    (alanine,) = read_sdf(tmp_path / "x.sdf", ["CC(N)C(=O)O"])
    assert len(alanine.coordinates) == 2


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(MedrecError, match=r"There is no file .*nowhere\.sdf\. Give an SDF file"):
        read_sdf(tmp_path / "nowhere.sdf", ["CCO"])
    (tmp_path / "x.sdf").write_text("name,smiles\nethanol,CCO\n")
    with pytest.raises(MedrecError, match=r"x\.sdf holds no record that RDKit can read"):
        read_sdf(tmp_path / "x.sdf", ["CCO"])
    (tmp_path / "empty.sdf").write_text("")
    with pytest.raises(MedrecError, match=r"empty\.sdf holds no record"):
        read_sdf(tmp_path / "empty.sdf", ["CCO"])


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "x.sdf"
    file.write_text("what stood there")
    broken = Conformers("not a molecule", np.arange(1), np.zeros((1, 1, 3), np.float32), np.zeros(1))
    with pytest.raises(MedrecError):
        write_sdf(file, [*conformers(["CCO"]), broken])
    assert file.read_text() == "what stood there"


# -- cache -------------------------------------------------------------------------------------------------------------


def test_a_second_call_reads(empty_cache, monkeypatch):
    asked = [IBUPROFEN, "[Na+].CC(=O)[O-]", "[Li+]", "*"]
    first = conformers(asked, n=2)
    monkeypatch.setattr(room, "_embedded", lambda *_: pytest.fail("made again"))
    for one, again in zip(first, conformers(asked, n=2), strict=True):
        np.testing.assert_array_equal(again.atoms, one.atoms)
        np.testing.assert_array_equal(again.coordinates, one.coordinates)
        assert again.coordinates.dtype == np.float32
        np.testing.assert_array_equal(again.energies, one.energies)
        assert (again.force_field, again.converged, again.note) == (one.force_field, one.converged, one.note)
    for other in ({"n": 3}, {"n": 2, "seed": 2}):
        with pytest.raises(pytest.fail.Exception, match="made again"):
            conformers(asked[:1], **other)


def test_two_folders_are_two_caches(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(room, "_embedded", lambda *a, real=room._embedded: made.append(a[0]) or real(*a))
    for folder in ("a", "b", "a"):
        monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path / folder))
        conformers(["CCO"])
    assert made == ["CCO", "CCO"]


def test_what_was_made_is_kept_when_the_next_one_fails(empty_cache, monkeypatch):
    def stops(smiles, *asked, real=room._embedded):
        if smiles == "CCN":
            raise KeyboardInterrupt
        return real(smiles, *asked)

    monkeypatch.setattr(room, "_embedded", stops)
    with pytest.raises(KeyboardInterrupt):
        conformers(["CCO", "CCN"])
    monkeypatch.setattr(room, "_embedded", lambda *_: pytest.fail("made again"))
    assert conformers(["CCO"])[0].found


def same(found, others):
    for one, other in zip(found, others, strict=True):
        for part in ("atoms", "coordinates", "energies"):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
        assert (one.force_field, one.converged, one.note) == (other.force_field, other.converged, other.note)


ASKED = ["CCO", "CCN", "C[C@H](N)C(=O)O", "[Na+].CC(=O)[O-]", "*"]


@pytest.mark.parametrize(
    "harm",
    [
        lambda whole: b"no database at all" * 100,
        lambda whole: whole[:100] + bytes(len(whole) - 100),  # the head is right, the rest is gone
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole.replace(b"CREATE TABLE conformers", b"CREATE TABLE conf\xdfrmers"),
    ],
)
def test_a_damaged_cache_is_made_again_with_one_line(empty_cache, capsys, harm):
    whole = conformers(ASKED, n=2)
    file = empty_cache / "conformers.sqlite"
    file.write_bytes(harm(file.read_bytes()))
    capsys.readouterr()
    same(conformers(ASKED, n=2), whole)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"stored conformers in .*conformers\.sqlite are damaged \(.*\); they are made again", line)
    same(conformers(ASKED, n=2), whole)
    assert capsys.readouterr().err == "", "mended for good"


@pytest.mark.parametrize("column", ["facts", "places"])
def test_conformers_that_do_not_fit_their_checksum_are_made_again(empty_cache, capsys, monkeypatch, column):
    whole = conformers(ASKED, n=2)
    with closing(sqlite3.connect(empty_cache / "conformers.sqlite")) as connection, connection:
        key = room._key("CCN", 2, 1, room.STARTS)
        (content,) = connection.execute(f"SELECT {column} FROM conformers WHERE key = ?", [key]).fetchone()
        # One digit of an energy, or one bit of a coordinate: still a number, and another one.
        other = content.replace("1", "2", 1) if column == "facts" else bytes([content[0] ^ 1]) + content[1:]
        connection.execute(f"UPDATE conformers SET {column} = ? WHERE key = ?", [other, key])
    made = []
    monkeypatch.setattr(room, "_embedded", lambda *a, real=room._embedded: made.append(a[0]) or real(*a))
    capsys.readouterr()
    same(conformers(ASKED, n=2), whole)
    assert made == ["CCN"]
    assert "conformers of 1 molecules do not fit their checksum; they are made again" in capsys.readouterr().err


def test_a_cache_with_a_flipped_bit_anywhere_gives_what_a_whole_one_gives(empty_cache):
    whole = conformers(ASKED)
    file = empty_cache / "conformers.sqlite"
    content = file.read_bytes()
    places = np.flatnonzero(np.frombuffer(content, np.uint8))
    for place in np.random.default_rng(0).choice(places, 60, replace=False):
        flipped = bytearray(content)
        flipped[place] ^= 4
        file.write_bytes(flipped)
        same(conformers(ASKED), whole)


def test_a_cache_that_cannot_be_written_is_named_and_not_thrown_away(empty_cache, monkeypatch):
    conformers(["CCO"])
    file = empty_cache / "conformers.sqlite"
    whole = file.read_bytes()

    class Full(sqlite3.Connection):
        def execute(self, *_):
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    monkeypatch.setattr(room.sqlite3, "connect", lambda file, real=sqlite3.connect, **_: real(file, factory=Full))
    with pytest.raises(MedrecError, match=r"conformers\.sqlite cannot be used \(.*full\).*Free space, or"):
        conformers(["CCO"])
    assert file.read_bytes() == whole


def test_several_cores_give_what_one_gives(empty_cache, monkeypatch):
    monkeypatch.setattr(room, "ENOUGH", 9)
    asked = ["C" * k for k in range(1, 10)]
    together = conformers(asked, seed=5)
    for one in together:
        alone = room._embedded(one.smiles, 1, 5, room.STARTS)
        np.testing.assert_array_equal(alone.coordinates, one.coordinates)


# -- all drugs ---------------------------------------------------------------------------------------------------------

FLAT_DRUGS = {
    "acetaminophen", "allopurinol", "aminophylline", "caffeine", "chlorzoxazone", "dalfampridine", "dantrolene",
    "dimethyl fumarate", "edaravone", "flucytosine", "fluorouracil", "fomepizole", "glycine", "hydralazine",
    "hydroxyurea", "mercaptopurine", "mesalamine", "methimazole", "methoxsalen", "niacin", "phenol", "pyrazinamide",
    "temozolomide", "theophylline", "thioguanine",
}  # fmt: skip
"""Rings and conjugated chains without a tetrahedral carbon that carries more than hydrogens."""


HARD = ("amikacin", "atazanavir", "bortezomib", "carboplatin", "cisplatin", "oxaliplatin")
"""Hard to embed, or without a force field; labels that cannot be drawn and large molecules have tests of their own."""


@pytest.fixture(scope="module")
def sampled():
    """Conformers of every tenth drug of less than 60 atoms, of the flat ones, of all salts and of :data:`HARD`.

    The table that ``python -m medrec.experiments.molecules_3d`` keeps holds what these tests say of every drug, and is
    held to it by ``tests/experiments/test_molecules_3d.py``; a sample shows that it would come out the same today.
    """
    tenth = [n for n in sorted(SMILES)[3::10] if Chem.MolFromSmiles(SMILES[n]).GetNumAtoms() < 60]
    salts = [n for n, s in SMILES.items() if "." in s]
    names = sorted({*tenth, *salts, *HARD, *FLAT_DRUGS})
    return dict(zip(names, conformers([SMILES[name] for name in names]), strict=True))


@pytest.mark.slow
def test_drugs_have_a_conformer_and_few_lack_a_force_field(sampled):
    assert len(sampled) > 120
    for name, one in sampled.items():
        assert one.found, f"{name}: {one.note}"
        assert one.converged or one.note, f"{name} did not converge and nobody says why"
    plain = [one for one in sampled.values() if len(one.atoms) > 1]
    assert np.mean([one.converged for one in plain]) >= 0.93


@pytest.mark.slow
def test_a_sample_meets_the_rules_that_the_kept_table_says(sampled):
    rows = {row["name"]: row for row in study.read().table("drugs").iter_rows(named=True)}
    for name, one in sampled.items():
        if "." not in SMILES[name]:  # of salts PARENTS says what is kept
            now = (len(one.atoms), one.force_field, one.converged, one.note)
            kept = rows[name]
            assert now == (kept["atoms"], kept["force_field"], kept["converged"], kept["note"] or ""), name


@pytest.mark.slow
def test_only_what_chemistry_makes_flat_is_flat(sampled):
    sizes = {name: flatness(one.coordinates[0]) for name, one in sampled.items() if len(one.atoms) >= 5}
    assert {name for name, size in sizes.items() if size < 0.15} == FLAT_DRUGS & set(sizes)
    drawn = flat([SMILES[name] for name in sizes])
    assert max(flatness(one.coordinates[0]) for one in drawn) == 0


@pytest.mark.slow
def test_bonds_have_the_length_that_tables_give_them(sampled):
    found = pl.concat([bond_lengths(one) for one in sampled.values()])
    assert len(found) > 2_000
    error = (found["length"] - found["expected"]).abs()
    assert error.median() < 0.05
    single = found["expected"] + 0.71 * np.log10(found["order"].to_numpy())
    assert (found["length"] - single).abs().median() < 0.06, "even by the radii of single bonds alone"


@pytest.mark.slow
def test_drugs_that_nobody_planned_for():
    """Salts, metals, peptides, macrocycles: a geometry of possible bond lengths, or a reason.

    Without three peptides, two of which take a minute each: they meet the rule of somatostatin, which stays.
    """
    frame = pl.read_csv(Path(__file__).parent / "drugcentral_forty.csv")
    assert len(frame) == 40
    assert not set(frame["name"]) & set(SMILES)
    frame = frame.filter(~pl.col("name").is_in(["ganirelix", "tetracosactide", "ziconotide"]))
    for name, one in zip(frame["name"], conformers(frame["smiles"].to_list()), strict=True):
        assert one.converged or one.note, name
        graph = molecular_graph(one.smiles)
        assert graph.num_nodes == Chem.MolFromSmiles(one.smiles).GetNumAtoms()
        if one.found:
            assert np.isfinite(one.coordinates).all(), name
            if len(one.atoms) > 1:
                assert ((bonds(one)[0] > 0.9) & (bonds(one)[0] < 3.4)).all(), name
        if one.force_field == "MMFF94" and len(one.atoms) >= 5:
            assert flatness(one.coordinates[0]) > 0.15, name
