"""KGCN: one update by hand in four readings, against a loop over entities, and the battery of every ranker."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec.models.kgcn import drawn_neighbours, neighbour_weights, neighbourhood
from tests.models.battery import RankerBattery
from tests.models.graph_toys import GraphCase

PATIENT, RELATIONS = torch.tensor([[1.0, 2.0]]), torch.eye(2)
AROUND, OWN = torch.tensor([[[2.0, 0.0], [0.0, 2.0]]]), torch.ones(1, 2)


@pytest.mark.parametrize(
    ("score", "aggregate", "gathered", "expected"),
    [
        ("inner", "sum", [0.5379, 1.4621], 2.8829),
        ("mean", "mean", [0.3775, 0.6225], 2.7304),
        ("inner", "mean", [0.2689, 0.7311], 2.7319),
        ("mean", "sum", [0.7551, 1.2449], 2.8976),
    ],
)
def test_one_update_as_printed_and_as_released(score, aggregate, gathered, expected):
    found = neighbourhood(neighbour_weights(PATIENT, RELATIONS, score), AROUND, aggregate)
    torch.testing.assert_close(found, torch.tensor([gathered]), atol=5e-5, rtol=0)
    assert float((PATIENT * (OWN + found).tanh()).sum()) == pytest.approx(expected, abs=5e-5)


def test_the_mean_shrinks_as_one_over_k_and_with_one_neighbour_nothing_differs():
    for k in (1, 4, 16):
        logits, around = torch.zeros(1, k), torch.ones(1, k, 3)
        torch.testing.assert_close(neighbourhood(logits, around), torch.ones(1, 3))
        torch.testing.assert_close(neighbourhood(logits, around, "mean"), torch.full((1, 3), 1 / k))


def test_neighbours_are_drawn_without_replacement_where_there_are_enough():
    torch.manual_seed(0)
    triplets = torch.tensor([[0, 2, t] for t in range(1, 7)] + [[7, 0, 8]])
    neighbours, relations = drawn_neighbours(triplets, 10, 4)
    assert len({*neighbours[0].tolist()}) == 4 <= 6
    assert {*neighbours[0].tolist()} <= {*range(1, 7)}
    assert {*relations[0].tolist()} == {2}
    # Read in both directions, with replacement where there are fewer; nothing for an entity without triplets.
    assert neighbours[8].tolist() == [7] * 4
    assert relations[8].tolist() == [0] * 4
    assert neighbours[9].tolist() == relations[9].tolist() == [-1] * 4
    several = torch.stack([drawn_neighbours(triplets, 10, 4)[0][0] for _ in range(30)])
    assert {*several.flatten().tolist()} == {*range(1, 7)}
    assert (drawn_neighbours(triplets[:0], 3, 2)[0] == -1).all()


def by_hand(network, patient, item):
    """The equations for one patient and one medication, entity by entity."""
    u, config = network.patients[patient], network.config

    def vector(entity, hop, layer):
        """Of an entity ``hop`` steps away after ``layer`` layers."""
        own = network.entities[entity]
        if layer == 0:
            return own
        own = vector(entity, hop, layer - 1)
        gathered = torch.zeros_like(own)
        if network.neighbours[entity, 0] >= 0:
            logits = [network.relations[r] @ u for r in network.relations_of[entity]]
            if config.score == "mean":
                logits = [x / len(u) for x in logits]
            for weight, other in zip(torch.stack(logits).softmax(0), network.neighbours[entity], strict=True):
                gathered = gathered + weight * vector(other, hop + 1, layer - 1)
            if config.aggregate == "mean":
                gathered = gathered / config.n_neighbours
        found = network.layers[layer - 1](network._together(own, gathered))
        return found.tanh() if layer == config.n_hops else found.relu()

    return vector(item, 0, config.n_hops) @ u


@pytest.mark.parametrize("settings", [{}, {"score": "mean", "aggregate": "mean", "aggregator": "concat"}])
def test_all_at_once_is_one_by_one(settings):
    case = GraphCase("kgcn", {"size": 4, "n_neighbours": 3, "n_hops": 2, **settings})
    cohort = case.cohort(6, seed=1)
    network = case.build(cohort)
    found = network.rank(np.arange(6), case.context(cohort))
    with torch.no_grad():
        slow = torch.stack([torch.stack([by_hand(network, u, m) for m in range(9)]) for u in range(6)])
    torch.testing.assert_close(torch.from_numpy(found), slow, atol=1e-5, rtol=0)


def test_an_item_without_triplets_is_itself():
    case = GraphCase("kgcn", {"size": 4})
    cohort = case.cohort(6, seed=1)
    context = case.context(cohort)
    bare = context.knowledge.triplets
    bare = bare[(bare[:, 0] != 8) & (bare[:, 2] != 8)]
    context = replace(context, knowledge=context.knowledge.with_triplets(bare))
    torch.manual_seed(0)
    network = type(case.build(cohort))(case.build(cohort).config, context)
    layer = network.layers[0]
    expected = network.patients @ layer(network.entities[8]).tanh()
    torch.testing.assert_close(network.scores(np.arange(6), context)[:, 8], expected)


class TestPaper(RankerBattery):
    case = GraphCase("kgcn", {"size": 8, "n_neighbours": 4, "batch_size": 16}, ordered=0.9)


class TestOfficialWithTwoHops(RankerBattery):
    case = GraphCase(
        "kgcn",
        {"size": 8, "n_neighbours": 3, "n_hops": 2, "batch_size": 16, "score": "mean", "aggregate": "mean",
         "resample": True},
        ordered=0.9,
        schedule=("neighbours", "relations_of"),
    )  # fmt: skip
