"""The leak of graphs that hold their target: exchanged lists, visit by visit, and rows from end to end."""

import numpy as np
import pytest
import torch

from medrec import paths
from medrec.data.batch import VisitBatch
from medrec.experiments import causal_leak
from medrec.training import load_system, train
from tests.toys import random_cohort


@pytest.fixture
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))


def test_nobody_keeps_the_own_list_and_padding_stays():
    batch = VisitBatch.build(random_cohort(30, seed=1), np.arange(30))
    # Lists that name their owner, so that a kept one shows.
    visit = batch.visits.clone()
    batch.codes["medication"][..., 0] = visit.clamp(min=0)
    other = causal_leak.exchanged(batch, seed=0)
    real = batch.visit_mask
    assert (other.codes["medication"][..., 0][real] != batch.codes["medication"][..., 0][real]).all()
    assert other.codes["medication"][..., 0][real].sort()[0].tolist() == visit[real].sort()[0].tolist()
    assert not other.target[~real].any()
    assert torch.equal(other.codes["diagnosis"], batch.codes["diagnosis"])


@pytest.mark.parametrize("roles", ["train_global", "official"])
def test_own_lists_give_what_the_network_says_and_others_only_move_graphs_with_targets(roles, own_runs):
    cohort = random_cohort(40, seed=2)
    run = train("causalmed", cohort, settings={"roles": roles, "epochs": 2})
    network, context = load_system(run)
    with torch.no_grad():
        for vectors in network.role.values():
            vectors.uniform_(0.5, 1.5)
    batch = VisitBatch.build(cohort, np.arange(40))
    own = causal_leak.probabilities(network, batch, context, batch)
    with torch.inference_mode():
        expected = network(batch, context).sigmoid().numpy()
    real = batch.visit_mask.numpy()
    np.testing.assert_allclose(own[real], expected[real], atol=1e-6)
    others = causal_leak.probabilities(network, batch, context, causal_leak.exchanged(batch, 0))
    moved = np.abs(others - own)[real].max()
    assert (moved > 1e-4) == (roles == "official")


def test_rows(monkeypatch, tmp_path, own_runs):
    monkeypatch.setattr(paths, "base_dir", lambda: tmp_path)
    cohort = random_cohort(40, seed=3)

    def briefly(model, cohort, *, settings=None, seed=0):
        return train(model, cohort, settings={**(settings or {}), "epochs": 2, "batch_size": 16}, seed=seed)

    monkeypatch.setattr(causal_leak, "train", briefly)
    monkeypatch.setattr(causal_leak, "load_cohort", lambda name: cohort)
    causal_leak.main(["--cohort", "synthetic", "--seeds", "2"])
    found = causal_leak.read(cohort)
    assert (found.cohort, found.status) == (cohort.name, "current")
    assert found.folder == tmp_path / "results" / "causal_leak" / cohort.name
    rows = found.table("differences")
    wide = rows.filter(metric="jaccard").select("comparison", "delta").to_dicts()
    own, others, between = (row["delta"] for row in wide)
    assert own - others == pytest.approx(between, abs=2e-6)
    assert set(rows["seeds"]) == {2}
