"""LightGCN: one layer by hand, all at once against loops, matrix factorisation, and the battery of every ranker."""

import numpy as np
import pytest
import torch

from medrec.models.lightgcn import SYSTEM, propagated, scaled
from tests.models.battery import RankerBattery, RankerCase


def test_one_layer_by_hand():
    given = torch.tensor([[1.0, 1, 0], [0, 1, 0]])
    half = 0.5**0.5
    matrix = scaled(given)
    torch.testing.assert_close(matrix, torch.tensor([[half, 0.5, 0], [0, half, 0]]))
    patients, items = propagated(torch.tensor([[2.0], [4.0]]), torch.tensor([[6.0], [8.0], [5.0]]), matrix, 1)
    # Mean of what they are and what they hear; nobody was given the third.
    torch.testing.assert_close(patients, torch.tensor([[(2 + 6 * half + 4) / 2], [(4 + 8 * half) / 2]]))
    torch.testing.assert_close(items, torch.tensor([[(6 + 2 * half) / 2], [(8 + 1 + 4 * half) / 2], [2.5]]))


class TestPaper(RankerBattery):
    case = RankerCase("lightgcn", {"size": 8, "n_layers": 2, "batch_size": 16}, ordered=0.9)


class TestMatrixFactorisation(RankerBattery):
    case = RankerCase("lightgcn", {"size": 8, "n_layers": 0, "batch_size": 16})


def built(**settings):
    case = RankerCase("lightgcn", {"size": 4, **settings})
    cohort = case.cohort(8, seed=1)
    return case.build(cohort), case.context(cohort)


def by_hand(network, given):
    """Patients and medications after all layers, one by one."""
    patients, items = list(network.patients), list(network.items)
    total = torch.stack(patients), torch.stack(items)
    for _ in range(network.config.n_layers):
        new_patients = [
            sum((items[i] / (row.sum() * given[:, i].sum()) ** 0.5 for i in np.flatnonzero(row)), torch.zeros(4))
            for row in given
        ]
        new_items = [
            sum((patients[u] / (column.sum() * given[u].sum()) ** 0.5 for u in np.flatnonzero(column)), torch.zeros(4))
            for column in given.T
        ]
        patients, items = new_patients, new_items
        total = total[0] + torch.stack(patients), total[1] + torch.stack(items)
    return tuple(x / (network.config.n_layers + 1) for x in total)


@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_all_at_once_is_one_by_one_with_the_same_loss(n_layers):
    network, context = built(n_layers=n_layers, penalty=0.1)
    patients, items = by_hand(network, context.graph.matrix)
    fast = network(network.matrix(context.graph))
    torch.testing.assert_close(fast[0], patients, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(fast[1], items, atol=1e-6, rtol=1e-5)
    step = next(network.batches(context.graph, np.arange(8), [0, 0]))
    u, i, j = step.pairs.patient, step.pairs.given, step.pairs.other
    expected = -((patients[u] * items[i]).sum(1) - (patients[u] * items[j]).sum(1)).sigmoid().log().mean()
    first = (network.patients[u], network.items[i], network.items[j])
    expected = expected + 0.1 * sum(x.square().sum() for x in first) / 2 / len(u)
    torch.testing.assert_close(network.loss(step, context), expected, atol=1e-6, rtol=1e-5)


def test_without_layers_a_patient_is_nobody_but_himself():
    network, context = built(n_layers=0)
    found = network.rank(np.arange(8), context)
    torch.testing.assert_close(torch.from_numpy(found), (network.patients @ network.items.T).detach())
    row = next(row for row in SYSTEM.rows if row.key == "bpr-mf")
    assert SYSTEM.configure(row.variant, row.settings).n_layers == 0
