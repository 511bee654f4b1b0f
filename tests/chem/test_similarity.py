"""Seven rulers on one pair, and the pair that all of them take for one molecule."""

import numpy as np
import pytest

from medrec.chem.similarity import FINGERPRINTS, tanimoto
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
