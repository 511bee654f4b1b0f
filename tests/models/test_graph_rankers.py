"""Rankers that read a knowledge graph: it matters, and what is stored holds it.

That names of entities do not matter stands with what is asked of every ranker, in ``test_ranking_battery.py``.
"""

import numpy as np
import pytest
import torch

from medrec.context import Context
from medrec.models.registry import get, systems
from medrec.runs import Run
from medrec.tasks.ranking import HOLD_OUT, HOUSE
from medrec.training import load_system, train
from medrec.types import MedrecError
from tests.models.graph_toys import GraphCase
from tests.toys import real_classes

NAMES = [system.name for system in systems("ranking") if "knowledge" in system.needs]
LIGHT = {
    "kgcn": {"size": 8, "n_neighbours": 4},
    "kgat": {"size": 8},
    "kgin": {"size": 8},
    "diffkg": {"size": 8, "denoiser_size": 16, "keep": 1.0, "rebuild_k": 3},
}
"""Settings with which each is small; no edge is left to a coin."""


def made(name, graph="full", variant="paper"):
    case = GraphCase(name)
    cohort = case.cohort(14, seed=2)
    context = case.context(cohort)
    config = get(name).configure(variant, {**LIGHT[name], "graph": graph})
    torch.manual_seed(3)
    network = get(name).create(config, context)
    network.prepare(context.graph, np.arange(14), context)
    return network, context


def test_every_one_is_tried():
    assert set(LIGHT) == set(NAMES)


# -- the graph matters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("name", NAMES)
def test_an_empty_or_shuffled_graph_says_something_else(name, variant):
    said = {
        graph: made(name, graph, variant)[0].rank(np.arange(14), made(name)[1])
        for graph in ("full", "empty", "shuffled", "interacts")
    }
    assert len({scores.tobytes() for scores in said.values()}) == 4
    for scores in said.values():
        assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_graph_learns_all_the_same(name):
    network, context = made(name, "empty")
    optimisers = network.train().optimisers()
    losses = []
    for epoch in range(3):
        for batch in network.batches(context.graph, np.arange(14), [0, epoch]):
            network.zero_grad()
            loss = network.loss(batch, context)
            loss.backward()
            losses.append(loss.item())
            for optimiser in optimisers:
                optimiser.step()
    assert np.isfinite(losses).all()


# -- from a cohort to a run --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cohort():
    return real_classes(40, seed=3)


@pytest.mark.parametrize("construction", ["house", "study"])
@pytest.mark.parametrize("protocol", [HOUSE, HOLD_OUT], ids=lambda p: p.name)
@pytest.mark.parametrize("name", NAMES)
def test_it_trains_is_stored_and_says_the_same_again(cohort, tmp_path, monkeypatch, name, protocol, construction):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path))
    settings = {**LIGHT[name], "construction": construction, "epochs": 2, "graph": "shuffled"}
    run = Run.load(train(name, cohort, settings=settings, protocol=protocol).folder)
    assert run.knowledge().relations[0] == ("treats" if construction == "house" else "has diagnosis")
    system, context = load_system(run)
    answers = run.answers["test"]
    assert np.isfinite(answers.scores).all()
    # Shuffled tails are part of what is stored: another draw would say something else.
    np.testing.assert_array_equal(system.rank(answers.patient, context), answers.scores)
    np.testing.assert_array_equal(system.rank(answers.patient[::-1], context)[::-1], answers.scores)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_graph_it_says_what_is_missing(name, cohort):
    context = Context(cohort.vocab, torch.zeros(9, 9, dtype=torch.bool))
    with pytest.raises(MedrecError, match="train in the ranking task"):
        get(name).create(get(name).configure(), context)
