"""Areas, terrains and maps by hand, and the stored values against the molecules that there are."""

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score

from medrec import keys
from medrec.chem.graphs import batch_graphs
from medrec.chem.molecules import Molecules
from medrec.chem.similarity import tanimoto
from medrec.experiments import bimorec_pretraining as chapter
from medrec.models.bimorec_pretraining import QUICK, PretrainingConfig


def symmetric(values, n):
    matrix = np.eye(n)
    matrix[np.triu_indices(n, 1)] = values
    return np.maximum(matrix, matrix.T)


def test_area_by_hand_and_against_the_library():
    same = symmetric([1, 0, 0], 3).astype(bool)
    assert chapter.class_area(symmetric([0.6, 0.2, 0.1], 3), same) == 1
    assert chapter.class_area(symmetric([0.15, 0.2, 0.1], 3), same) == 0.5
    assert chapter.class_area(symmetric([0.2, 0.2, 0.1], 3), same) == 0.75
    rng = np.random.default_rng(0)
    values, labels = rng.random(45).round(1), rng.random(45) < 0.3
    area = chapter.class_area(symmetric(values, 10), symmetric(labels, 10).astype(bool))
    assert area == pytest.approx(roc_auc_score(labels, values))


def test_resampled_areas_count_a_pair_as_often_as_both_of_it():
    rng = np.random.default_rng(1)
    values, labels = rng.random(66), rng.random(66) < 0.4
    similarity, same = symmetric(values, 12), symmetric(labels, 12).astype(bool)
    weights = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), 5)
    i, j = np.triu_indices(12, 1)
    expected = [roc_auc_score(labels, values, sample_weight=w[i] * w[j]) for w in weights]
    assert chapter.area_draws(similarity, same, draws=5) == pytest.approx(np.array(expected))


def test_terrain_of_a_copy_and_of_a_flattened_copy():
    fingerprints = symmetric([0.6, 0.2, 0.1], 3)
    copy = chapter.terrain(fingerprints, fingerprints)
    assert (copy["mean"], copy["sd"], copy["spearman"]) == pytest.approx((0, 0, 1))
    half = chapter.terrain(symmetric([0.3, 0.1, 0.05], 3), fingerprints)
    assert (half["mean"], half["sd"]) == pytest.approx((0.15, 0.108), abs=5e-4)


def test_similar_molecules_stand_together():
    fingerprints = symmetric([0.1, 0.9, 0.1, 0.1, 0.8, 0.1], 4)  # 0 with 2, 1 with 3
    order = chapter.clustered(fingerprints).tolist()
    assert abs(order.index(0) - order.index(2)) == 1
    assert abs(order.index(1) - order.index(3)) == 1


def test_classes_of_drugs():
    same = chapter.same_class(["furosemide", "bumetanide", "warfarin", "hydrochlorothiazide"])
    assert same[0, 1]  # both loop diuretics, C03CA
    assert not same[0, 2]
    assert not same[0, 3]  # diuretics of another class of level 4
    assert (same == same.T).all()


def test_spectrum_counts_directions():
    axes = torch.diag(torch.tensor([10.0, 1, 1, 1]).sqrt())
    found = chapter.spectrum(torch.cat([axes, -axes]))
    assert found["participation"] == pytest.approx(1.6408, abs=1e-4)
    assert found["explained"] == pytest.approx([10 / 13, 1 / 13, 1 / 13, 1 / 13])


def test_maps_are_two_dimensional_and_depend_on_the_seed():
    embedding = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    first, other = (chapter.flattened(embedding, "t-SNE", seed) for seed in (0, 1))
    assert first.shape == (60, 2)
    assert not np.allclose(first, other)
    pca = chapter.flattened(embedding, "PCA")
    assert pca.var(0)[0] > pca.var(0)[1]


def test_the_released_list_names_a_molecule_once_for_each_class():
    smiles = ("CC", "CCO", "CO")
    graphs = batch_graphs(smiles)
    average = torch.tensor([[0.5, 0.5, 0], [0, 0.5, 0.5]])
    toy = Molecules(smiles, smiles, graphs, average, smiles, graphs, torch.ones(2, 3, dtype=torch.bool))
    assert chapter.listed(toy) == [0, 1, 1, 2]


@pytest.fixture
def toy_library(monkeypatch):
    """A dozen molecules in the place of the library, the first one of two medications."""
    smiles = ("CC(=O)Oc1ccccc1C(=O)O", "CC(C)Cc1ccc(C(C)C(=O)O)cc1", "CC(N)=O", "CCN", "CCO", "CCOCC",
              "CN1CCC[C@H]1c1cccnc1", "Cn1c(=O)c2c(ncn2C)n(C)c1=O", "NCCc1ccc(O)c(O)c1", "NCc1ccccc1", "OCC(O)CO",
              "c1ccc2ccccc2c1")  # fmt: skip
    average = torch.cat([torch.eye(12), torch.eye(12)[:1]])
    graphs = batch_graphs(smiles)
    molecules = Molecules(smiles, smiles, graphs, average, smiles, graphs, torch.ones(13, 12, dtype=torch.bool))
    monkeypatch.setattr(chapter, "book_molecules", lambda: molecules)
    return molecules


TINY = PretrainingConfig(**QUICK | {"epochs": 2, "gvp_scalars": 8, "gvp_vectors": 4}, width=16, held_out=0.3)


def test_every_setting_can_be_trained_and_described(toy_library):
    rows = []
    for setting in chapter.settings():
        side = chapter.train(setting, 0, TINY)
        assert len(side.held_out) == (13 if setting.get("duplicates") else 12)
        rows.append(chapter.describe(side, setting, 0, TINY))
    table = pl.DataFrame(rows)
    assert table["n"].unique().to_list() == [4]  # the same molecules, each once
    assert table.select("coords", "gvp_layers", "nce_denominator", "symmetric", "duplicates").is_unique().all()
    assert table.filter(coords="none")["to_3d"].to_list() == [None]
    assert table.filter(pl.col("coords") != "none")["to_3d"].null_count() == 0


def test_noise_of_conformers_compares_each_pair_once(toy_library):
    side = chapter.train({}, 0, TINY)
    pairs = chapter.conformer_noise(side, 0, n=2, config=TINY)
    own, other = (pairs.filter(pair=p)["similarity"] for p in ("one molecule", "two molecules"))
    assert len(own) + len(other) == 8 * 7 / 2
    assert len(own) == 4
    assert pairs["similarity"].is_between(-1.001, 1.001).all()


# -- stored -----------------------------------------------------------------------------------------------------------


def test_stored_values_belong_to_the_molecules_that_there_are():
    facts, stored = chapter.facts(), chapter.read()
    molecules, others = chapter.book_molecules(), chapter.outsiders()
    made_of = keys.digest(molecules.smiles, molecules.fragments)
    if stored.provenance.get("molecules") != made_of:
        assert stored.note, "rows of other molecules say that they are not of today's"
        return
    assert facts["molecules"] == len(molecules.smiles)
    assert facts["fragments"] == len(molecules.fragments)
    assert facts["listed"] == len(chapter.listed(molecules)) > facts["molecules"]
    assert facts["outsiders"] == len(others.smiles)
    assert not set(others.smiles) & set(molecules.smiles)
    fingerprints = stored.table("areas").filter(encoder="Tanimoto")["area"].item()
    area = chapter.class_area(tanimoto(others.smiles), chapter.same_class(others.names))
    assert fingerprints == pytest.approx(area, abs=1e-3)


def test_stored_tables_are_whole():
    tables = {name: chapter.read().table(name) for name in chapter.TABLES}
    assert len(tables["contrasts"]) == sum(3 if chapter._is_view(s) else 1 for s in chapter.settings())
    assert tables["history"]["epoch"].to_list() == list(range(1, chapter.FULL.epochs + 1))
    assert set(tables["differences"]["against"]) == {"2D", "2D+flat", "2D+shuffled", "2D+random", "untrained"}
    assert len(tables["terrain_map"]) == chapter.IN_PICTURE * (chapter.IN_PICTURE - 1) / 2
    share = tables["conformers"].group_by("seed", "pair").agg(pl.col("share").sum())
    assert share["share"].to_list() == pytest.approx([1.0] * len(share), abs=5e-3)
