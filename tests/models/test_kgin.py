"""KGIN: intents, one update and independence by hand, against loops, and the battery of every ranker."""

import numpy as np
import pytest
import torch

from medrec.models.kgin import dependence, distance_correlation, intents, patient_update, sparse_mask
from tests.models.battery import RankerBattery
from tests.models.graph_toys import GraphCase


def close(actual, expected, atol=5e-5):
    torch.testing.assert_close(actual, torch.as_tensor(expected).to(actual), atol=atol, rtol=0)


RELATIONS = torch.eye(2)
WEIGHTS = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])


def test_intents_and_a_patients_update_by_hand():
    reasons = intents(WEIGHTS, RELATIONS)
    close(reasons, [[0.8808, 0.1192], [0.1192, 0.8808]])
    patient, gathered = torch.tensor([[1.0, 0.0]]), torch.ones(1, 2)
    close((patient @ reasons.T).softmax(1), [[0.6817, 0.3183]])
    plain = patient_update(patient, gathered, reasons, reasons)
    close(plain, [[0.6384, 0.3616]])
    diluted = patient_update(patient, gathered, reasons, reasons, residual=True)
    close(diluted, [[1.6384, 1.3616]])
    assert float(plain[0, 0] / plain[0, 1]) == pytest.approx(1.77, abs=5e-3)
    assert float(diluted[0, 0] / diluted[0, 1]) == pytest.approx(1.20, abs=5e-3)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0.7, 0.1, 0.1, 0.1), (0.7, 0.1, 0.1, 0.1), 1.0),
        ((0.7, 0.1, 0.1, 0.1), (0.1, 0.7, 0.1, 0.1), 1 / 3),
        ((0.4, 0.4, 0.1, 0.1), (0.4, 0.1, 0.4, 0.1), 0.0),
    ],
)
def test_distance_correlation_by_hand(a, b, expected):
    a, b = torch.tensor(a).double(), torch.tensor(b).double()
    for one, other in ((a, b), (b, a), (5 * a, b + 2)):
        close(distance_correlation(one, other), expected)


def test_dependence_of_intents():
    rows = torch.eye(3, 4).double()
    close(dependence(rows, "cosine"), 0.0)
    close(dependence(torch.ones(3, 4).double(), "cosine"), 3.0)  # three pairs
    close(dependence(rows, "mutual_information"), 3 * np.log(1 + 2 * np.exp(-5)))
    close(dependence(torch.ones(3, 4).double(), "mutual_information"), 3 * np.log(3))
    assert float(dependence(rows[:1], "distance")) == 0  # one intent depends on nobody
    free = torch.randn(3, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    dependence(free, "distance").backward()
    assert torch.isfinite(free.grad).all()


@pytest.mark.parametrize(("rate", "released"), [(0.1, 1 / 9), (0.5, 1.0), (0.9, 9.0)])
def test_dropout_of_edges_keeps_its_expectation_and_the_released_one_does_not(rate, released):
    torch.manual_seed(0)
    like = torch.zeros(())
    for scale, expected in (("expectation", 1.0), ("released", released)):
        mask = sparse_mask((400_000,), rate, like, scale)
        assert float(mask.mean()) == pytest.approx(expected, rel=0.02)
        kept = 1 - rate if scale == "expectation" else rate
        assert float((mask > 0).float().mean()) == pytest.approx(kept, abs=0.01)


class TestPaper(RankerBattery):
    case = GraphCase("kgin", {"size": 8, "n_layers": 2, "node_dropout": 0.2, "batch_size": 16}, ordered=0.9)


class TestOfficial(RankerBattery):
    case = GraphCase(
        "kgin",
        {"size": 8, "n_layers": 2, "user_residual": True, "user_intent": "latent", "sparse_scale": "released",
         "independence_of": "weights", "batch_size": 16},
        ordered=0.9,
    )  # fmt: skip


def built(**settings):
    case = GraphCase("kgin", {"size": 6, "n_layers": 2, "dropout": 0.0, "node_dropout": 0.0, **settings})
    cohort = case.cohort(8, seed=1)
    return case.build(cohort), case.context(cohort), cohort


def by_hand(network, context):
    """Patients and entities after all hops, one by one."""
    config = network.config
    triplets = network.triplets.tolist()
    triplets = triplets + [[t, r + network.n_relations, h] for h, r, t in triplets]
    reasons = [sum(w * r for w, r in zip(row.softmax(0), network.relations, strict=True)) for row in network.weights]
    keys = network.latent if config.user_intent == "latent" else reasons
    patients, entities = list(network.patients), list(network.entities)
    total = torch.stack(patients), torch.stack(entities)
    for _ in range(config.n_layers):
        new_entities, new_patients = [], []
        for h in range(len(entities)):
            around = [entities[t] * network.relations[r] for head, r, t in triplets if head == h]
            new_entities.append(torch.stack(around).mean(0) if around else torch.zeros(config.size))
        for u, row in zip(patients, context.graph.matrix, strict=True):
            mean = torch.stack([entities[m] for m in np.flatnonzero(row)] or [torch.zeros(config.size)]).mean(0)
            share = torch.stack([u @ key for key in keys]).softmax(0)
            mixed = mean * sum(b * c for b, c in zip(share, reasons, strict=True))
            new_patients.append(mixed + mean if config.user_residual else mixed)
        patients, entities = ([x / x.norm().clamp(min=1e-12) for x in found] for found in (new_patients, new_entities))
        total = total[0] + torch.stack(patients), total[1] + torch.stack(entities)
    return total


@pytest.mark.parametrize("settings", [{}, {"user_residual": True, "user_intent": "latent"}])
def test_all_at_once_is_one_by_one_with_the_same_loss(settings):
    network, context, _ = built(penalty=0.1, independence_weight=0.5, **settings)
    patients, entities = by_hand(network, context)
    fast = network(network.edges(), network.given(context.graph))
    torch.testing.assert_close(fast[0], patients, atol=1e-5, rtol=0)
    torch.testing.assert_close(fast[1], entities, atol=1e-5, rtol=0)
    step = next(network.batches(context.graph, np.arange(8), [0, 0]))
    u, i, j = patients[step.pairs.patient], entities[step.pairs.given], entities[step.pairs.other]
    expected = -((u * i).sum(1) - (u * j).sum(1)).sigmoid().log().mean()
    expected = expected + 0.1 * (u.square().sum() + i.square().sum() + j.square().sum()) / 2 / len(u)
    rows = network.weights.softmax(1)
    expected = expected + 0.5 * sum(distance_correlation(rows[p], rows[q]) for p in range(4) for q in range(p))
    torch.testing.assert_close(network.loss(step, context), expected, atol=1e-5, rtol=1e-5)


def test_a_graph_without_triplets_gives_nothing_to_entities():
    network, context, _ = built(graph="empty")
    _, entities = network(network.edges(), network.given(context.graph))
    torch.testing.assert_close(entities, network.entities)


def test_each_term_reaches_its_parameters():
    network, context, _ = built(user_intent="latent")
    step = next(network.batches(context.graph, np.arange(8), [0, 0]))
    network.loss(step, context).backward()
    with_it = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.config = network.config.__class__(**{**vars(network.config), "independence": "none"})
    network.zero_grad()
    network.loss(step, context).backward()
    changed = {name for name, p in network.named_parameters() if not torch.equal(p.grad, with_it[name])}
    assert changed == {"weights"}
