"""Planted graphs: what is planted, what is asked, which arms there are, and rows from end to end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec import context as contexts
from medrec import paths
from medrec.experiments import graph_switches
from medrec.experiments.graph_switches import ARMS, CHANGES, USEFUL, interval, plan_of, planted
from medrec.metrics import ndcg_at_k
from medrec.models.registry import get

BY_KEY = {arm.key: arm for arm in ARMS}


@pytest.fixture(scope="module")
def world():
    return planted(3)


def test_one_edge_in_five_is_useful_and_the_others_say_nothing(world):
    graph = world.knowledge
    assert set(graph.by_relation.values()) == {120}  # 12 indications of 10 pairs
    assert graph.n_triplets == 5 * graph.by_relation[USEFUL]
    same = world.indication[graph.triplets[:, 0]] == world.indication[graph.triplets[:, 2]]
    np.testing.assert_array_equal(same, graph.triplets[:, 1] == 0)
    pairs = {frozenset(row) for row in graph.triplets[:, [0, 2]].tolist()}
    assert len(pairs) == graph.n_triplets, "no pair stands twice"


def test_everybody_has_a_target_and_the_graph_does_not_know_it(world):
    questions = plan_of(BY_KEY["kgat"], world, 3).exam.questions("test")
    assert len(questions.target) == 200
    assert questions.target.any(1).all()
    given = world.cohort.codes["medication"]
    assert np.diff(given.offsets).min() == graph_switches.LEAST
    # Other patients of another hold-out, the same relations: only indications and chance make them.
    other = planted(4)
    np.testing.assert_array_equal(
        other.knowledge.of([USEFUL]).triplets[:, [0, 2]], world.knowledge.of([USEFUL]).triplets[:, [0, 2]]
    )
    assert not np.array_equal(other.knowledge.triplets, world.knowledge.triplets)


def test_useful_edges_rank_targets_and_random_ones_do_not(world):
    exam = plan_of(BY_KEY["kgcn"], world, 3).exam
    questions, graph = exam.questions("test"), world.knowledge
    found = {}
    for relation in range(graph.n_relations):
        links = np.zeros((60, 60))
        head, _, tail = graph.triplets[graph.triplets[:, 1] == relation].T
        links[head, tail] = links[tail, head] = 1
        scores = exam.graph.matrix @ links
        found[relation] = ndcg_at_k(questions.target, scores, 10, seen=questions.seen).mean()
    popular = np.broadcast_to(exam.graph.popularity, questions.target.shape)
    popularity = ndcg_at_k(questions.target, popular, 10, seen=questions.seen).mean()
    assert found[0] > popularity + 0.1
    assert max(found[relation] for relation in (1, 2, 3, 4)) < popularity + 0.05


def test_same_seed_same_world(world):
    again = planted(3)
    assert again.cohort.content == world.cohort.content
    assert again.knowledge.content == world.knowledge.content
    assert planted(5).cohort.content != world.cohort.content


def test_every_switch_is_tried_alone_and_every_graph_under_three_controls():
    for name in ("kgcn", "kgat", "kgin"):
        own = [arm for arm in ARMS if arm.system == name]
        switched = {key: arm.settings[key] for arm in own for key in arm.settings if key != "graph"}
        official = dict(get(name).variants["official"])
        tried = official.keys() - {"sparse_scale", "independence_of"}  # at a rate of one half, and of a weight of 1e-4
        assert switched == {key: official[key] for key in tried}
        assert all(len(arm.settings) <= 1 for arm in own)
        assert {arm.settings["graph"] for arm in own if "graph" in arm.settings} == {"shuffled", "empty"}
        assert sum(arm.useful_only for arm in own) == 1
    assert len(BY_KEY) == len(ARMS)
    assert {key for _, base, system in CHANGES for key in (base, system)} <= set(BY_KEY)
    assert all(BY_KEY[base].system == BY_KEY[system].system for _, base, system in CHANGES)
    full_less_control = [(base, system) for key, base, system in CHANGES if key.endswith(("shuffled", "empty"))]
    assert all(system in ("kgcn", "kgat", "kgin") for _, system in full_less_control)


def test_the_epoch_is_chosen_on_test_where_the_arm_says_so(world):
    plans = [plan_of(BY_KEY[key], world, 0) for key in ("kgat", "kgat-select_on")]
    assert [plan.exam.selection for plan in plans] == ["validation", "test"]
    assert plans[0].config == plans[1].config


def test_attention_on_the_useful_relation_by_hand(world):
    plan = plan_of(BY_KEY["kgat"], world, 3)
    network = plan.system.create(plan.config, contexts.build(plan.system.needs, plan.asked))
    edges = network.edges(plan.exam.graph)
    attention, n = network.attention(edges), network.n_relations
    total = useful = 0.0
    for relation, weight in zip(edges.relation.tolist(), attention.tolist(), strict=True):
        if relation not in (0, n):  # what was given, and read from the medication
            total += weight
            useful += weight * (relation in (1, n + 1))
    assert graph_switches.useful_share(network, edges) == pytest.approx(useful / total, rel=1e-5)


def test_an_interval_of_worlds_and_patients():
    rng = np.random.default_rng(0)
    same = np.full((5, 40), 0.25)
    assert (interval(same).low, interval(same).value, interval(same).high) == (0.25, 0.25, 0.25)
    worlds = np.repeat(rng.normal(size=(5, 1)), 40, axis=1)
    patients = rng.normal(size=(5, 40))
    # Worlds that differ make an interval wide, however many patients each has.
    assert interval(worlds).se == pytest.approx(worlds[:, 0].std() / np.sqrt(5), rel=0.15)
    assert interval(patients).se == pytest.approx(1 / np.sqrt(200), rel=0.35)
    assert interval(patients) == interval(patients)


def test_rows(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "base_dir", lambda: tmp_path)
    monkeypatch.setattr(graph_switches, "TRAINED", {"batch_size": 512, "epochs": 2, "size": 8})
    monkeypatch.setattr(graph_switches, "EPOCHS", 2)
    keys = ("most-popular", "kgcn", "kgcn-score", "kgcn-empty", "kgat", "kgat-attention")
    monkeypatch.setattr(graph_switches, "ARMS", tuple(BY_KEY[key] for key in keys))
    monkeypatch.setattr(graph_switches, "CHANGES", tuple(c for c in CHANGES if {*c[1:]} <= {*keys}))
    state = torch.get_rng_state()
    graph_switches.main(["--seeds", "2"])
    assert torch.equal(torch.get_rng_state(), state)
    found = graph_switches.read()
    assert (found.status, found.provenance["seeds"]) == ("current", 2)
    arms, changes, attention = (found.table(name) for name in ("arms", "changes", "attention"))
    assert arms["key"].to_list() == list(keys)
    assert (arms["low"] <= arms["ndcg_10"]).all()
    assert arms["converged"].to_list() == [2, 0, 0, 0, 0, 0]
    value = dict(arms.select("key", "ndcg_10").iter_rows())
    for row in changes.iter_rows(named=True):
        assert row["delta"] == pytest.approx(value[row["system"]] - value[row["base"]], abs=2e-6)
    wide = {p: attention.filter(position=p)["share"].to_list() for p in ("refreshed", "initial_laplacian")}
    assert len(wide["refreshed"]) == 3
    assert len(set(wide["refreshed"])) == 3
    assert len(set(wide["initial_laplacian"])) == 1


def test_a_run_again_is_the_same():
    world, arm = planted(0), replace(BY_KEY["kgin"], settings={"epochs": 2, "size": 8})
    one, two = (graph_switches.ranked(arm, world, 0) for _ in range(2))
    assert one[0].tobytes() == two[0].tobytes()
