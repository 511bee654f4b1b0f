"""What a denoiser makes of popular items, and which kept edges are indications."""

import numpy as np
import polars as pl
import pytest
import torch

from medrec.experiments import rebuilt_edges
from medrec.graphs.knowledge import KnowledgeGraph
from tests.toys import random_cohort

SMALL = {**rebuilt_edges.SHARED, "size": 8, "denoiser_size": 16}


@pytest.fixture(scope="module")
def toy():
    return rebuilt_edges.trained(random_cohort(60, seed=1), SMALL, 0, 2)


def test_indications_are_those_of_the_tables_in_both_versions_and_of_nothing_else():
    names = ("C09A", "J01X", "9:4019", "10:I10", "9:99999")
    kinds = ("medication", "medication", "diagnosis", "diagnosis", "diagnosis")
    graph = KnowledgeGraph(
        np.zeros((0, 3), dtype=np.int64), tuple(f"{k}:{n}" for k, n in zip(kinds, names, strict=True)), ("treats",), 2
    )
    assert rebuilt_edges.indications(graph).tolist() == [[0, 2], [0, 3]]  # essential hypertension


def test_change_is_the_mean_of_denoised_rows_less_that_of_rows(toy):
    network, context = toy
    found = rebuilt_edges.popular_items(network, context)
    rows = network.known().rows(torch.arange(network.n_rows))
    with torch.no_grad():
        expected = (network.denoiser.reversed(rows) - rows).mean(0)[: network.n_items]
    np.testing.assert_allclose(found["change"], expected, atol=1e-6)
    assert found["patients"].to_list() == context.graph.popularity.tolist()
    assert found["links"].to_list() == rows[: network.n_items].sum(1).int().tolist()


def test_all_choices_keep_as_many_edges_and_all_is_the_graph(toy):
    network, context = toy
    found = rebuilt_edges.kept_edges(network, context, np.random.default_rng(0))
    sizes = {name: part["kept"].to_list() for (name,), part in found.group_by("choice")}
    assert len(sizes["random"]) == rebuilt_edges.DRAWS
    # A pair that is wanted from both ends is one edge, so that sizes differ by these alone.
    assert sizes["diffusion"][0] <= network.n_rows
    assert np.abs(np.array(sizes["random"]) - sizes["diffusion"][0]).max() <= 0.25 * network.n_rows
    by_relation = context.knowledge.by_relation
    everything = found.filter(choice="all").row(0, named=True)
    assert everything["treats"] == by_relation["treats"]
    assert everything["kept"] <= context.knowledge.n_triplets - by_relation["interacts"] // 2
    assert (found["indicated"] <= found["treats"]).all()


def test_shares_by_hand():
    rows = pl.DataFrame(
        {"choice": ["diffusion", "random", "random"], "kept": [9, 9, 9], "treats": [4, 5, 4], "indicated": [1, 1, 2]}
    )
    diffusion, random = rebuilt_edges.shares(rows)
    assert (diffusion["share"], diffusion["low"]) == (0.25, None)
    assert random["share"] == pytest.approx(0.35)
    assert random["low"] == pytest.approx(0.2 + 0.025 * 0.3)


def test_tables_of_a_toy(monkeypatch):
    monkeypatch.setattr(rebuilt_edges, "SHARED", SMALL)
    monkeypatch.setattr(rebuilt_edges, "DRAWS", 3)
    monkeypatch.setattr(rebuilt_edges, "SCHEDULES", {"one step": {"n_steps": 1}})
    cohort = random_cohort(40, seed=3)
    found = rebuilt_edges.tables(cohort, 2, 1)
    assert found["items"].height == 3 * cohort.n_medications
    assert found["correlations"].height == 3 * 2
    assert found["correlations"]["correlation"].is_between(-1, 1).all()
    assert set(found["edges"]["choice"]) == {"all", "diffusion", "random", "frequent"}
    assert {"none", "degree", "without"} == set(found["edges"]["constraint"])
