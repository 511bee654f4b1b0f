"""GAMENet: graph, memory and reads by hand, the annealed choice, and one prefix at a time."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from medrec.data.batch import VisitBatch
from medrec.losses import ddi_loss, margin_loss
from medrec.models.gamenet import (
    GraphNetwork,
    co_prescription,
    dynamic_read,
    row_normalised,
    safety_probability,
    static_read,
    visit_weights,
)
from tests.models.battery import Battery, Case, output, recode
from tests.toys import random_cohort


def close(actual, expected, atol=5e-5):
    torch.testing.assert_close(actual, torch.tensor(expected), atol=atol, rtol=0)


def edges(n, *pairs):
    graph = torch.zeros(n, n, dtype=torch.bool)
    for i, j in pairs:
        graph[i, j] = graph[j, i] = True
    return graph


# Three medications: the first two are given together, the last two interact.
EHR, DDI = edges(3, (0, 1)), edges(3, (1, 2))


def by_hand():
    """First layer to (2, 0), (0, 2), (2, 2), second the identity, no bias, no dropout."""
    network = GraphNetwork(3, 2, 0.0)
    with torch.no_grad():
        network.nodes.copy_(torch.tensor([[2.0, 0], [0, 2], [2, 2]]))
        network.first_bias.zero_()
        network.second.copy_(torch.eye(2))
        network.second_bias.zero_()
    return network


def test_rows_of_the_normalised_graph_add_up_to_one():
    close(row_normalised(EHR), [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    star = row_normalised(edges(3, (0, 1), (0, 2)))
    close(star, [[1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5]])
    assert not torch.equal(star, star.T)


def test_a_complete_graph_leaves_one_memory():
    complete = torch.from_numpy(co_prescription(np.ones((1, 3), dtype=bool), "complete"))
    close(row_normalised(complete), [[1 / 3] * 3] * 3)
    memory = by_hand()(row_normalised(complete)).detach()
    close(memory, [[4 / 3, 4 / 3]] * 3)
    for query in ([1.0, 0.0], [-3.0, 7.0]):
        close(static_read(torch.tensor(query), memory), [4 / 3, 4 / 3])


def test_memory_of_three_medications():
    network = by_hand()
    with torch.no_grad():
        ehr, ddi = network(row_normalised(EHR)), network(row_normalised(DDI))
    close(ehr, [[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]])
    close(ddi, [[2.0, 0.0], [1.0, 2.0], [1.0, 2.0]])
    close(ehr - 0.5 * ddi, [[0.0, 1.0], [0.5, 0.0], [1.5, 1.0]])


def test_network_equals_the_library_s():
    """Two dense graph convolutions with identity features, in PyTorch Geometric's terms."""
    from torch_geometric.nn import DenseGCNConv

    network, adjacency = GraphNetwork(3, 2, 0.0), row_normalised(EHR)
    first, second = DenseGCNConv(3, 2), DenseGCNConv(2, 2)
    with torch.no_grad():
        first.lin.weight.copy_(network.nodes.T)
        first.bias.copy_(network.first_bias)
        second.lin.weight.copy_(network.second.T)
        second.bias.copy_(network.second_bias)
        # The library normalises on both sides; rows and columns of this graph agree.
        joined = EHR.float() + torch.eye(3)
        expected = second(first(torch.eye(3), joined, add_loop=False).relu(), joined, add_loop=False)[0]
        torch.testing.assert_close(network(adjacency), expected)


MEMORY = torch.tensor([[0.0, 1.0], [0.5, 0.0], [1.5, 1.0]])
QUERIES = torch.tensor([[[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]])


def test_reads_by_hand():
    query = torch.tensor([1.0, 0.0])
    close((query @ MEMORY.T).softmax(-1), [0.1402, 0.2312, 0.6285])
    close(static_read(query, MEMORY), [1.0584, 0.7688])
    weights = visit_weights(QUERIES)
    close(weights[0, 2], [0.7311, 0.2689, 0.0])
    given = torch.tensor([[[True, True, False], [False, False, True], [True, True, True]]])
    close((weights @ given.float())[0, 2], [0.7311, 0.7311, 0.2689])
    close(dynamic_read(weights, given, MEMORY)[0, 2], [0.7689, 1.0])
    given[0, 0, 1] = False
    close(dynamic_read(weights, given, MEMORY)[0, 2], [0.4034, 1.0])


def test_the_first_visit_has_no_past():
    weights = visit_weights(QUERIES)
    assert not weights[0, 0].any()
    close(weights[0, 1:].sum(-1), [1.0, 1.0])
    assert not weights[0].triu().any()


def test_the_annealed_choice_cools():
    rate = torch.tensor(0.09)
    chances = [float(safety_probability(rate, 0.06, 0.5 * 0.85**k)) for k in (0, 10, 20, 30)]
    assert chances == pytest.approx([0.9418, 0.7373, 0.2127, 0.0004], abs=5e-5)
    assert float(safety_probability(torch.tensor(0.06), 0.06, 0.5)) == 0
    for temperature in (0.5, 1e-30, 0.0):
        close(safety_probability(torch.tensor([0.01, 0.06]), 0.06, temperature), [0.0, 0.0])
    close(safety_probability(torch.tensor([0.09]), 0.06, 0.0), [0.0])


def test_when_it_is_hot_visits_above_the_target_are_trained_for_safety_and_when_it_is_cold_for_accuracy():
    """The released codes take the interaction loss alone with the chance exp((target - rate) / temperature)."""
    cohort = random_cohort(20, seed=5)
    context = replace(case().context(cohort), ddi=torch.ones(cohort.n_medications, cohort.n_medications))
    batch = VisitBatch.build(cohort, np.arange(20))
    losses = {}
    for temperature in (1000.0, 1e-6):
        network = case(temperature=temperature, threshold=0.0, dropout=0.0, memory_dropout=0.0).build(cohort)
        with torch.no_grad():
            losses[temperature] = float(network.eval().loss(batch, context))
            prob = network(batch, context)[network.scored(batch)].sigmoid()
    safety = float(ddi_loss(prob, context.ddi, 1 / cohort.n_medications**2).mean())
    target = batch.target[network.scored(batch)]
    bce = torch.nn.functional.binary_cross_entropy(prob, target.float())
    accuracy = float(0.9 * bce + 0.1 * margin_loss(prob, target).mean())
    assert losses[1000.0] == pytest.approx(safety, rel=5e-3)
    assert losses[1e-6] == pytest.approx(accuracy, rel=1e-4)


def test_graphs_of_medications():
    given = np.array([[1, 1, 0, 0], [1, 1, 0, 1], [1, 0, 1, 0], [1, 0, 1, 0]], dtype=bool)
    observed = co_prescription(given)
    assert observed.astype(int).tolist() == [[0, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 0], [1, 1, 0, 0]]
    # The first is given at every visit: with it nothing meets more often than by chance.
    assert co_prescription(given, "lift").astype(int).tolist() == [[0] * 4, [0, 0, 0, 1], [0] * 4, [0, 1, 0, 0]]
    assert not co_prescription(given, "empty").any()
    assert (co_prescription(given, "complete") == ~np.eye(4, dtype=bool)).all()


# -- the network -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared(Case):
    """With the graph of the cohort it is built for."""

    def build(self, cohort, seed=0, **settings):
        network = super().build(cohort, seed, **settings)
        network.prepare(cohort, np.arange(cohort.n_patients), self.context(cohort))
        return network


def case(**settings):
    return Prepared(
        "gamenet", settings, uses_ddi_in_loss=True, uses_ddi_in_output=True, gain=2.0, schedule=("temperature",)
    )


COLD = 0.05
"""Temperature of a training's later epochs: at the first ones safety outweighs whatever could be learnt by heart."""


class TestPaper(Battery):
    case = case(temperature=COLD)


class TestOfficial(Battery):
    case = case(ehr_from="all", multi_weight=0.01, temperature=COLD)


class TestLift(Battery):
    case = case(graph="lift", temperature=COLD)


def test_batched_equals_one_prefix_at_a_time():
    """The route of the published code: the prefix alone, keys and values of all but its last visit."""
    cohort = random_cohort(10, seed=2)
    system = case()
    network, context = system.build(cohort).eval(), system.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(10))
    with torch.no_grad():
        logits, B = network(batch, context), network.memory(context)
        for b, t in batch.visit_mask.nonzero().tolist():
            states = []
            for kind in ("diagnosis", "procedure"):
                rows = []
                for j in range(t + 1):
                    ids = batch.codes[kind][b, j]
                    ids = ids[ids < batch.sizes[kind]]
                    d = network.config.size
                    rows.append(network.embedding[kind].weight[ids].mean(0) if len(ids) else torch.zeros(d))
                states.append(network.gru[kind](torch.stack(rows))[0])
            queries = network.query(torch.cat(states, dim=-1).relu())
            now = (queries[-1] @ B.T).softmax(-1) @ B
            past = now
            if t:
                visits = (queries[-1] @ queries[:-1].T).softmax(-1)
                past = visits @ batch.target[b, :t].float() @ B
            expected = network.output(network.hidden(torch.cat([queries[-1], now, past]).relu()).relu())
            torch.testing.assert_close(logits[b, t], expected, atol=1e-5, rtol=1e-5)


def test_memory_is_alive():
    """Past medications change the output, and so does an empty graph."""
    cohort = random_cohort(20, seed=3)
    system = case()
    network, context = system.build(cohort), system.context(cohort)
    before, scored = output(network, cohort, context)
    later = scored.clone()
    later[:, 0] = False
    earlier = np.setdiff1d(np.arange(cohort.n_visits), cohort.visit_offsets[1:] - 1)
    other, _ = output(network, recode(cohort, "medication", lambda rows: np.roll(rows, 1, 1), earlier), context)
    assert (other - before)[later].abs().max() > 1e-5
    torch.testing.assert_close(other[:, 0], before[:, 0])
    network.ehr.zero_()
    assert (output(network, cohort, context)[0] - before)[scored].abs().max() > 1e-4


def test_the_graph_is_that_of_training_visits_unless_it_leaks():
    cohort = random_cohort(60, seed=5, n_medications=30, max_visits=1)
    train = np.arange(1)
    found = {}
    for source in ("train", "all"):
        system = Case("gamenet", {"ehr_from": source})
        network = system.build(cohort)
        network.prepare(cohort, train, system.context(cohort))
        found[source] = network.ehr
    own = cohort.select(train).codes["medication"].multi_hot(30)
    assert torch.equal(found["train"], torch.from_numpy(co_prescription(own)))
    assert (found["all"] & ~found["train"]).any()
    assert not (found["train"] & ~found["all"]).any()


def test_a_shuffled_graph_keeps_its_edges():
    cohort = random_cohort(2, seed=6, n_medications=30, max_visits=1)
    plain, mixed = (case(graph=g).build(cohort).ehr for g in ("observed", "shuffled"))
    assert not torch.equal(plain, mixed)
    assert torch.equal(plain.sum(1).sort()[0], mixed.sum(1).sort()[0])
    assert torch.equal(mixed, mixed.T)


def test_interactions_brake_the_loss_beside_the_memory():
    """Where the memory knows none of them, they change the loss and nothing else."""
    cohort = random_cohort(12, seed=6)
    system = case(threshold=0.0)
    network, context = system.build(cohort).eval(), system.context(cohort)
    empty = replace(context, ddi=torch.zeros_like(context.ddi))
    batch = VisitBatch.build(cohort, np.arange(12))
    with torch.no_grad():
        network.ddi_share.zero_()
        assert torch.equal(network(batch, context), network(batch, empty))
        assert not torch.equal(network.loss(batch, context), network.loss(batch, empty))


def test_training_draws_between_accuracy_and_safety():
    cohort = random_cohort(30, seed=7)
    system = case(temperature=0.05, threshold=0.0, dropout=0.0, memory_dropout=0.0)
    network, context = system.build(cohort).eval(), system.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(30))
    with torch.no_grad():
        mean = network.loss(batch, context)
        assert torch.equal(mean, network.loss(batch, context))
        network.train()
        drawn = torch.stack([network.loss(batch, context) for _ in range(400)])
    assert drawn.std() > 1e-3
    assert float(drawn.mean()) == pytest.approx(float(mean), abs=4 * float(drawn.std()) / 20)


def test_cooling_is_remembered_by_the_weights():
    cohort = random_cohort(10, seed=8)
    network = case().build(cohort)
    for _ in range(3):
        network.after_epoch(0.5)
    assert float(network.state_dict()["temperature"]) == pytest.approx(0.5 * 0.85**3)


def test_reasons_are_visits_with_the_medication():
    cohort = random_cohort(30, seed=9)
    system = case()
    network, context = system.build(cohort).eval(), system.context(cohort)
    patient = int(np.flatnonzero(np.diff(cohort.visit_offsets) >= 3)[0])
    batch = VisitBatch.build(cohort, np.array([patient]))
    reasons = network.explain(batch, context)
    last = int(batch.visit_mask[0].sum()) - 1
    assert len(reasons) == int(batch.target[0, :last].sum())
    weight = dict(zip(reasons["what"], reasons["weight"], strict=True))
    assert sum(weight.values()) == pytest.approx(1, abs=1e-5)
    alone = VisitBatch.build(cohort, np.flatnonzero(np.diff(cohort.visit_offsets) == 1)[:1])
    assert network.explain(alone, context) is None
