"""MICRON: toy numbers by hand, every switch, both starts, and the route of one patient at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, multilabel_margin_loss

from medrec.data.batch import VisitBatch
from medrec.losses import ddi_loss, margin_loss, visit_ddi_rate
from medrec.models.micron import carried_sets, prescription, relative_weights, roc_thresholds
from medrec.models.registry import get
from tests.models.battery import Battery, Case, output, recode, same_step
from tests.toys import random_cohort

# A prescription network of one input, two hidden units and two medications.
W1, B1 = torch.tensor([[1.0], [-1.0]]), torch.tensor([0.5, 0.5])
W2, B2 = torch.tensor([[1.0, 0.5], [-1.0, 1.0]]), torch.tensor([0.05, -0.2])


def close(actual, expected):
    torch.testing.assert_close(actual, torch.tensor(expected), atol=5e-5, rtol=0)


def network_of(x, bias=True):
    return prescription(torch.tensor([float(x)]), W1, B1 if bias else None, W2, B2 if bias else None)


def test_with_biases_an_unchanged_patient_drifts():
    still = network_of(0)
    close(still, [0.8, -0.2])
    steps = torch.arange(5)[:, None] * still
    close(
        steps.sigmoid(),
        [[0.5, 0.5], [0.6900, 0.4502], [0.8320, 0.4013], [0.9168, 0.3543], [0.9608, 0.3100]],
    )
    logits = torch.arange(1, 10)[:, None] * still
    assert int((logits[:, 0].sigmoid() >= 0.8).nonzero()[0]) + 1 == 2  # after two unchanged steps: the third visit
    assert int((logits[:, 1].sigmoid() < 0.2).nonzero()[0]) + 1 == 7
    assert not network_of(0, bias=False).any()


def test_the_residual_is_not_the_difference():
    close(network_of(2) - network_of(1), [1.0, -1.0])
    close(network_of(2 - 1), [1.55, -1.70])


LOGITS = torch.tensor([[[2.0, 0.0, -2.0], [1.0, 1.6, -1.0], [-1.0, 1.0, 2.0], [-1.6, 0.2, 1.2]]])


def numbered(sets):
    return [(row.nonzero()[:, 0] + 1).tolist() for row in sets[0]]


def test_carried_set_with_two_thresholds():
    prob = LOGITS.sigmoid()
    true = torch.tensor([[True, False, True]])
    assert numbered(carried_sets(prob[:, 1:], true, 0.8, 0.2)) == [[1, 2, 3], [1, 2, 3], [2, 3]]
    base = prob[:, 0] >= 0.5
    assert base.tolist() == [[True, True, False]]
    assert numbered(carried_sets(prob[:, 1:], base, 0.8, 0.2)) == [[1, 2], [1, 2, 3], [2, 3]]
    # With one threshold the start is forgotten at once.
    for start in (true, base):
        assert numbered(carried_sets(prob[:, 1:], start, 0.5, 0.5)) == [[1, 2], [2, 3], [2, 3]]
    assert carried_sets(prob[:, 1:1], true, 0.8, 0.2).shape == (1, 0, 3)


def test_relative_weights():
    losses, means = torch.tensor([0.3, 0.2, 0.0, 0.1]), torch.tensor([0.2, 0.2, 0.0, 0.2])
    before = torch.full((4,), 0.25)
    instant = torch.tensor([0.5, 0.0, 0.0, -0.5]).exp()
    weights = relative_weights(losses, means, before)
    torch.testing.assert_close(weights, 0.75 * instant / instant.sum() + 0.25 * before)
    assert weights.sum().item() == pytest.approx(1)
    torch.testing.assert_close(relative_weights(means, means, before), before)


def test_thresholds_from_roc_curves():
    target = np.array([[1, 1], [1, 1], [0, 1], [0, 1], [1, 1], [0, 1]], dtype=bool)
    prob = np.array([0.95, 0.7, 0.6, 0.3, 0.2, 0.05])
    # From high to low: infinity, then every place where the curve turns.  A twentieth down is the first: infinity,
    # held at 0.9; a twentieth from the end is the last, held at 0.1.  The second medication is given to everybody.
    assert roc_thresholds(target, np.column_stack([prob, prob])) == (0.9, 0.1)
    assert roc_thresholds(target[:, :1], prob[:, None] * 0 + 0.4) == (0.9, pytest.approx(0.4))
    assert roc_thresholds(target[:, 1:], prob[:, None]) == (0.8, 0.2)


SEEN = {"sees_past": ("diagnosis", "procedure"), "uses_ddi_in_loss": True}
# Weights of the losses are kept from epoch to epoch; the running means that they follow start anew.
MOVING = {**SEEN, "steps": 300, "schedule": ("loss_means", "n_losses")}


class TestPaper(Battery):
    case = Case("micron", **MOVING)


class TestOfficial(Battery):
    # Sharing one array, all visits of a patient get the last set: two different ones cannot both be learnt by heart.
    case = Case(
        "micron",
        {"residual_bias": True, "adaptive_weights": False, "copy_states": False},
        overfits=0.6,
        **SEEN,
    )


class TestStartFromBase(Battery):
    case = Case("micron", {"start": "base"}, **MOVING)


@pytest.mark.parametrize("settings", [{}, {"residual_bias": True}, {"start": "base"}])
def test_batched_equals_one_visit_after_another(settings):
    """The route of the released code: two visits at a time, state and set of one patient carried in a loop."""
    cohort = random_cohort(8, seed=2)
    case = Case("micron", settings)
    network, context = case.build(cohort).eval(), case.context(cohort)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(4)  # so that something is added and dropped
    config = network.config
    batch = VisitBatch.build(cohort, np.arange(8))

    def embed(visit):
        D = len(cohort.vocab["diagnosis"])
        d = network.embedding.weight[torch.as_tensor(cohort.codes["diagnosis"][visit], dtype=torch.long)].sum(0)
        p = network.embedding.weight[D + torch.as_tensor(cohort.codes["procedure"][visit], dtype=torch.long)].sum(0)
        return network.health(torch.cat([d, p]))

    def net(x, bias):
        hidden = network.inner.weight @ x + (network.inner.bias if bias else 0)
        return network.output.weight @ hidden.relu() + (network.output.bias if bias else 0)

    changed = 0
    with torch.no_grad():
        logits = network(batch, context)
        prob, sets = network.decide(batch, context)
        for b in range(8):
            first, end = cohort.visit_offsets[b], cohort.visit_offsets[b + 1]
            state = net(embed(first), True)
            if config.start == "true":
                held = {int(m) for m in cohort.codes["medication"][first]}
            else:
                held = {m for m, p in enumerate(state.sigmoid().tolist()) if p >= 0.5}
            assert not sets[b, 0].any()
            for t in range(1, end - first):
                state = state + net(embed(first + t) - embed(first + t - 1), config.residual_bias)
                torch.testing.assert_close(logits[b, t], state, atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(prob[b, t], state.sigmoid(), atol=1e-5, rtol=1e-5)
                before = set(held)
                for m, p in enumerate(state.sigmoid().tolist()):
                    if p >= 0.8:
                        held.add(m)
                    elif p < 0.2:
                        held.discard(m)
                changed += held != before
                assert set(sets[b, t].nonzero()[:, 0].tolist()) == held
    assert changed > 3


def test_loss_is_the_four_terms_of_every_visit():
    cohort = random_cohort(8, seed=5)
    case = Case("micron", {"adaptive_weights": False})
    network, context = case.build(cohort, threshold=0.0).eval(), case.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(8))
    A = context.ddi.float()
    assert 2 * 3 / (9 * 8) > 0.08  # everything is recommended: three of 36 pairs
    values = []
    with torch.no_grad():
        reading = network._read(batch)
        for b, t in network.scored(batch).nonzero().tolist():
            place = int(((reading.b == b) & (reading.t == t)).nonzero())
            z, last = reading.direct[place], reading.direct[place - 1]
            change = reading.change[int((reading.later == place).nonzero())]
            y, y_last = batch.target[b, t], batch.target[b, t - 1]
            bce = 0.75 * binary_cross_entropy_with_logits(z, y.float())
            bce += 0.25 * binary_cross_entropy_with_logits(last, y_last.float())

            def margin(logits, truth):
                index = torch.full((9,), -1)
                ids = truth.nonzero()[:, 0]
                index[: len(ids)] = ids
                return multilabel_margin_loss(logits.sigmoid(), index)

            multi = 0.05 * (0.75 * margin(z, y) + 0.25 * margin(last, y_last))
            p = z.sigmoid()
            ddi = p @ A @ p / 9
            rebuilt = ((p - (last + change).sigmoid()) ** 2).sum() / 9
            values.append(0.25 * (bce + multi + ddi + rebuilt))
        torch.testing.assert_close(network.loss(batch, context), torch.stack(values).mean())


def train_steps(network, cohort, context, steps):
    network.train()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    batch = VisitBatch.build(cohort, np.arange(cohort.n_patients))
    for _ in range(steps):
        optimiser.zero_grad()
        network.loss(batch, context).backward()
        optimiser.step()


def test_weights_of_the_losses_move_unless_they_are_dead():
    cohort = random_cohort(12, seed=6)
    case = Case("micron")
    context = case.context(cohort)
    alive, dead = case.build(cohort), case.build(cohort, adaptive_weights=False)
    for network in (alive, dead):
        train_steps(network, cohort, context, 10)
    assert dead.loss_weights.tolist() == [0.25] * 4
    assert (alive.loss_weights - 0.25).abs().max() > 1e-3
    assert alive.loss_weights.sum().item() == pytest.approx(1, abs=1e-5)
    # They follow the losses of training steps only.
    before = alive.loss_weights.clone()
    alive.eval()
    batch = VisitBatch.build(cohort, np.arange(12))
    alive.loss(batch, context)
    assert torch.equal(alive.loss_weights, before)
    alive.after_epoch(0.5)
    assert torch.equal(alive.loss_weights, before)
    assert alive.n_losses == 0
    assert not alive.loss_means.any()


def test_copies_keep_visits_apart():
    """Two visits whose states differ much: with copies each has its own set, with one array both have the last."""
    cohort = random_cohort(12, seed=3)
    patient = int(np.flatnonzero(np.diff(cohort.visit_offsets) >= 3)[0])
    batch = VisitBatch.build(cohort, np.array([patient]))
    sets = {}
    for copies in (True, False):
        case = Case("micron", {"copy_states": copies})
        network = case.build(cohort).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(4)
            sets[copies] = network.recommend(batch, case.context(cohort))[0]
    assert not torch.equal(sets[True][1], sets[True][2])
    last = len(sets[True]) - 1
    assert torch.equal(sets[True][last], sets[False][last])
    for t in range(1, last):
        assert torch.equal(sets[False][t], sets[False][last])
    assert not sets[False][0].any()


def test_one_shared_array_costs_a_quarter():
    """Truths {a}, {a, b} predicted exactly: a Jaccard of 1 with copies, of (1/2 + 1)/2 with one array."""
    prob = torch.tensor([[[0.9, 0.5], [0.9, 0.9]]])
    sets = carried_sets(prob, torch.zeros(1, 2, dtype=torch.bool), 0.8, 0.2)[0]
    truth = torch.tensor([[True, False], [True, True]])

    def jaccard(x):
        return ((x & truth).sum(1) / (x | truth).sum(1)).mean().item()

    assert jaccard(sets) == 1
    assert jaccard(sets[-1:].expand(2, 2)) == 0.75


def test_the_true_start_is_seen_and_the_base_is_not():
    cohort = random_cohort(12, seed=3)
    firsts = cohort.visit_offsets[:-1]
    changed = recode(cohort, "medication", lambda rows: ~rows, firsts)
    for start, seen in (("true", True), ("base", False)):
        case = Case("micron", {"start": start})
        network, context = case.build(cohort).eval(), case.context(cohort)
        with torch.no_grad():
            before, after = (network.recommend(VisitBatch.build(c, np.arange(12)), context) for c in (cohort, changed))
        assert (not torch.equal(before, after)) == seen


def test_official_is_the_three_switches_and_the_printed_target():
    paper, official = get("micron").configure("paper"), get("micron").configure("official")
    switches = {"residual_bias": True, "copy_states": False, "adaptive_weights": False}
    assert official == replace(paper, **switches, ddi_target="absolute")


def test_without_a_bias_no_change_is_no_change():
    cohort = random_cohort(6, seed=1, max_visits=3)
    twice = recode(cohort, "diagnosis", lambda rows: rows * 0 + np.arange(12) % 2 == 1, np.arange(cohort.n_visits))
    twice = recode(twice, "procedure", lambda rows: rows * 0 + np.arange(6) % 2 == 1, np.arange(cohort.n_visits))
    assert np.diff(cohort.visit_offsets).max() == 3
    for settings, still in (({}, True), ({"residual_bias": True}, False)):
        case = Case("micron", settings)
        logits, scored = output(case.build(twice), twice, case.context(twice))
        moved = (logits - logits[:, :1])[scored].abs().max()
        assert (moved < 1e-6) == still


def test_shares_add_up_to_the_logit():
    cohort = random_cohort(12, seed=3)
    patient = int(np.flatnonzero(np.diff(cohort.visit_offsets) >= 3)[0])
    case = Case("micron")
    network, context = case.build(cohort).eval(), case.context(cohort)
    batch = VisitBatch.build(cohort, np.array([patient]))
    with torch.no_grad():
        shares, logits = network.explain(batch, context), network(batch, context)
    T = logits.shape[1]
    assert shares.height == T * 9
    total = shares.group_by("medication", maintain_order=True).agg(total="weight").get_column("total").list.sum()
    np.testing.assert_allclose(total.to_numpy(), logits[0, T - 1].numpy(), atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_a_step_is_that_of_padded_tensors(bias):
    """All places of the grid, padding among them, and a mean over those that are scored."""
    cohort = random_cohort(15, seed=11)
    case = Case("micron", {"dropout": 0.0, "residual_bias": bias, "adaptive_weights": False, "target_ddi": 0.0})
    network, context = case.build(cohort).train(), case.context(cohort)
    batch, config = VisitBatch.build(cohort, np.arange(15)), network.config
    with torch.no_grad():
        network.embedding.weight.mul_(10)
    sums, start = [], 0
    for kind in ("diagnosis", "procedure"):
        present = batch.multi_hot(kind).float()
        sums.append(present @ network.embedding.weight[start : start + batch.sizes[kind]])
        start += batch.sizes[kind]
    health = network.health(torch.cat(sums, -1))
    weights = network.inner.weight, network.inner.bias, network.output.weight, network.output.bias
    direct = prescription(health, *weights)
    change = prescription(health.diff(dim=1), *(weights if bias else (weights[0], None, weights[2], None)))
    target, prob = batch.target, direct.sigmoid()
    bce = binary_cross_entropy_with_logits(direct, target.float(), reduction="none").mean(-1)
    margin = margin_loss(prob, target)
    difference = (prob[:, 1:] - (direct[:, :-1] + change).sigmoid()).square().mean(-1)
    unsafe = visit_ddi_rate(prob[:, 1:] >= config.threshold, context.ddi) > 0
    interacting = ddi_loss(prob[:, 1:], context.ddi, 1 / prob.shape[-1]) * unsafe

    def both(term):
        return 0.75 * term[:, 1:] + 0.25 * term[:, :-1]

    now = batch.visit_mask[:, 1:]
    terms = (both(bce), 0.05 * both(margin), interacting, difference)
    assert 0 < unsafe[now].sum() < now.sum()
    same_step(network, sum(term[now].mean() for term in terms) / 4, context, batch)
