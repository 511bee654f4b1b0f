"""Seven rulers on one pair, and the pair that all of them take for one molecule."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medrec.chem.conformers import conformers
from medrec.chem.similarity import FINGERPRINTS, shape_overlap, tanimoto
from medrec.knowledge.drugs import drugs


@pytest.fixture(scope="module")
def smiles():
    return dict(drugs().select("name", "smiles").iter_rows())


def test_atropine_and_ipratropium_differ_by_the_ruler(smiles):
    # RDKit 2026.09; counted once, before this function was written.
    expected = {
        "path": 0.962,
        "layered": 0.899,
        "maccs": 0.882,
        "pattern": 0.822,
        "atom pairs": 0.662,
        "morgan": 0.633,
        "torsions": 0.536,
    }
    pair = [smiles["atropine"], smiles["ipratropium"]]
    found = {name: tanimoto(pair, name)[0, 1] for name in FINGERPRINTS}
    assert found == pytest.approx(expected, abs=2e-3)


def test_quinine_and_quinidine_are_one_molecule_to_all(smiles):
    for name in FINGERPRINTS:
        assert tanimoto([smiles["quinine"], smiles["quinidine"]], name)[0, 1] == 1


def test_similarities_are_symmetric_and_one_with_oneself(smiles):
    found = tanimoto([smiles[name] for name in ("aspirin", "warfarin", "morphine", "lithium") if smiles.get(name)])
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(found.diagonal(), 1)
    assert found.max(initial=0, where=~np.eye(len(found), dtype=bool)) < 0.6


# -- shapes ------------------------------------------------------------------------------------------------------------


def test_a_shape_overlaps_with_itself_wherever_it_lies():
    (one,) = conformers(["CC(C)Cc1ccc(C(C)C(=O)O)cc1"], n=3)
    turn = Rotation.random(rng=np.random.default_rng(0)).as_matrix()
    moved = replace(one, coordinates=(one.coordinates @ turn.T + 7).astype(np.float32))
    found = shape_overlap(one, moved)
    assert found.shape == (3, 3)
    assert found.diagonal() == pytest.approx(1, abs=0.02)
    assert found[~np.eye(3, dtype=bool)].max() < 0.98, "other conformers are other shapes"
    np.testing.assert_allclose(found, shape_overlap(moved, one).T, atol=0.06)


def test_shapes_of_unlike_molecules():
    ball, rod = conformers(["CC(C)(C)C", "CCCCCCCCCC"])
    assert shape_overlap(ball, rod)[0, 0] < 0.6
    assert shape_overlap(ball, ball)[0, 0] == pytest.approx(1, abs=0.02)
    none = replace(ball, coordinates=ball.coordinates[:0], energies=ball.energies[:0])
    assert shape_overlap(none, rod).shape == (0, 1)
