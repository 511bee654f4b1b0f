"""KGAT: TransR, attention and one update by hand, against loops, and the battery of every ranker."""

import numpy as np
import pytest
import torch

from medrec.models.kgat import BiInteraction, PairStep, TripletStep, attention_scores, laplacian, transr
from medrec.nn.edges import Edges, segment_softmax, weighted_sums
from tests.models.battery import RankerBattery
from tests.models.graph_toys import GraphCase

HEAD, RELATION = torch.tensor([[1.0, 0.0]]), torch.tensor([0.0, 1.0])
TAILS = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
EDGES = Edges.of(torch.tensor([[0, 0, 1], [0, 0, 2]]), 3)
"""Node 0 has the tails 1 and 2 by one relation, whose map is the identity."""


def close(actual, expected):
    torch.testing.assert_close(actual, torch.tensor(expected), atol=5e-5, rtol=0)


def test_transr_by_hand():
    fit = transr(HEAD, RELATION, TAILS)
    close(fit, [0.0, 2.0])
    close(torch.nn.functional.softplus(fit[0] - fit[1]), 0.1269)
    close(torch.nn.functional.softplus(fit[1] - fit[0]), 2.1269)


def update(weights):
    nodes = torch.cat([HEAD, TAILS])
    layer = BiInteraction(2, 2)
    with torch.no_grad():
        for one in (layer.of_sum, layer.of_product):
            one.weight.copy_(torch.eye(2))
    gathered = weighted_sums(nodes, weights, EDGES)
    return gathered[0], layer(nodes, gathered)[0].detach()


def test_attention_and_one_update_by_hand():
    scores = attention_scores(HEAD, RELATION, TAILS)
    close(scores, [1.5232, 0.0])
    weights = segment_softmax(scores, EDGES)
    close(weights, [0.8210, 0.1790])
    gathered, found = update(weights)
    close(gathered, [0.8210, 0.8210])
    close(found, [2.6420, 0.8210])
    close(torch.nn.functional.normalize(found, dim=0), [0.9550, 0.2968])


def test_one_update_with_the_initial_laplacian():
    gathered, found = update(laplacian(EDGES))
    close(gathered, [0.5, 0.5])
    close(found, [2.0, 0.5])
    close(torch.nn.functional.normalize(found, dim=0), [0.9701, 0.2425])


def test_the_initial_laplacian_averages_within_each_relation():
    edges = Edges.of(torch.tensor([[0, 0, 1], [0, 0, 2], [0, 3, 1], [2, 3, 0]]), 3)
    close(laplacian(edges), [0.5, 0.5, 1.0, 1.0])
    assert laplacian(Edges.of(torch.zeros(0, 3, dtype=torch.int64), 3)).shape == (0,)


class KGATCase(GraphCase):
    """Its first batch of pairs and its first of triplets."""

    def batches(self, network, cohort):
        batches = network.batches(self.context(cohort).graph, np.arange(cohort.n_patients), [0, 0])
        found = list(batches)
        return next(b for b in found if isinstance(b, PairStep)), next(b for b in found if isinstance(b, TripletStep))


class TestPaper(RankerBattery):
    case = KGATCase("kgat", {"size": 8, "n_layers": 2, "batch_size": 16}, ordered=0.9)


class TestOfficial(RankerBattery):
    case = KGATCase("kgat", {"size": 8, "attention": "initial_laplacian", "batch_size": 16}, ordered=0.9)


CASE = KGATCase("kgat", {"size": 6, "n_layers": 2, "dropout": 0.0, "penalty": 0.1})


def built(**settings):
    cohort = CASE.cohort(8, seed=1)
    return CASE.build(cohort, **settings), CASE.context(cohort), cohort


def by_hand(network, interactions):
    """Nodes after all layers, edge by edge."""
    joint, nodes = network.joint(interactions), network.nodes
    found = [nodes]
    for layer in network.layers:
        rows = []
        for head in range(len(network.nodes)):
            mine = [(r, t) for h, r, t in joint.tolist() if h == head]
            own = torch.zeros(nodes.shape[1])
            if mine:
                hears = [
                    (network.nodes[t] @ network.maps[r])
                    @ (network.nodes[head] @ network.maps[r] + network.relations[r]).tanh()
                    for r, t in mine
                ]
                for weight, (_, t) in zip(torch.stack(hears).softmax(0).detach(), mine, strict=True):
                    own = own + weight * nodes[t]
            rows.append(layer(nodes[head], own))
        nodes = torch.stack(rows)
        found.append(torch.nn.functional.normalize(nodes))
    return torch.cat(found, 1)


def test_all_at_once_is_edge_by_edge_with_the_same_loss():
    network, context, cohort = built()
    slow = by_hand(network, context.graph)
    edges = network.edges(context.graph)
    torch.testing.assert_close(network(edges, network.attention(edges)), slow, atol=1e-5, rtol=0)
    pairs, triplets = CASE.batches(network, cohort)
    p = pairs.pairs
    u, i, j = slow[p.patient + network.n_entities], slow[p.given], slow[p.other]
    squares = (u.square().sum() + i.square().sum() + j.square().sum()) / 2 / len(p)
    expected = -((u * i).sum(1) - (u * j).sum(1)).sigmoid().log().mean() + 0.1 * squares
    torch.testing.assert_close(network.loss(pairs, context), expected, atol=1e-5, rtol=1e-5)
    relation = torch.repeat_interleave(torch.arange(len(triplets.counts)), torch.tensor(triplets.counts))
    errors, squares = [], 0.0
    for h, r, t, o in zip(triplets.head, relation, triplets.tail, triplets.other, strict=True):
        h, t, o = (network.nodes[x] @ network.maps[r] for x in (h, t, o))
        v = network.relations[r]
        errors.append(torch.nn.functional.softplus((h + v - t).norm() ** 2 - (h + v - o).norm() ** 2))
        squares = squares + sum(x.square().sum() for x in (h, v, t, o)) / 2
    expected = torch.stack(errors).mean() + 0.1 * squares / len(errors)
    torch.testing.assert_close(network.loss(triplets, context), expected, atol=1e-5, rtol=1e-5)


def test_triplets_of_all_relations_come_once_and_their_others_are_false():
    network, context, _ = built(triplet_batch=50)
    steps = [b for b in network.batches(context.graph, np.arange(8), [0, 0]) if isinstance(b, TripletStep)]
    joint = {tuple(row) for row in network.joint(context.graph).tolist()}
    seen = []
    for step in steps:
        relation = np.repeat(np.arange(len(step.counts)), step.counts)
        seen += list(zip(step.head.tolist(), relation.tolist(), step.tail.tolist(), strict=True))
        assert not {*zip(step.head.tolist(), relation.tolist(), step.other.tolist(), strict=True)} & joint
    assert sorted(seen) == sorted(joint)
    given = context.graph.matrix.sum()
    assert len(joint) == 2 * (given + context.knowledge.n_triplets)


@pytest.mark.parametrize(("attention", "moves"), [("refreshed", True), ("initial_laplacian", False)])
def test_what_triplets_teach_the_attention_reaches_predictions_where_it_is_refreshed(attention, moves):
    """In the released code the graph keeps its first matrix."""
    network, context, _ = built(attention=attention)
    before = network.rank(np.arange(8), context)
    with torch.no_grad():
        network.maps.mul_(3)
        network.relations.add_(0.5)
    assert (np.abs(network.rank(np.arange(8), context) - before).max() > 1e-4) == moves


def test_pairs_do_not_train_the_attention_and_each_loss_moves_its_own_optimiser():
    network, context, cohort = built()
    pairs, triplets = CASE.batches(network, cohort)
    reached = {}
    for name, batch in (("pairs", pairs), ("triplets", triplets)):
        network.zero_grad()
        network.loss(batch, context).backward()
        reached[name] = {key.partition(".")[0] for key, p in network.named_parameters() if p.grad is not None}
    assert reached == {"pairs": {"nodes", "layers"}, "triplets": {"nodes", "relations", "maps"}}
    first, second = network.optimisers()
    for optimiser in (first, second):  # the gradients are those of triplets
        optimiser.step()
    assert not first.state
    assert second.state[network.nodes]["step"] == 1
