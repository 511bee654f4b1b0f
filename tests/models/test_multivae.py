"""MultiVAE: likelihood, KL term and its weight by hand, and what its switches change."""

import math

import numpy as np
import pytest
import torch

from medrec.graphs.rows import given_to, row_batches
from medrec.models.multivae import (
    SYSTEM,
    kl_to_standard,
    multinomial_loss,
    scaled_anneal_steps,
    weight_of_kl,
)
from tests.models.battery import RankerBattery, RankerCase

ROW = torch.tensor([[1.0, 1, 0, 0, 1]])
LOGITS = torch.tensor([[2.0, 1, 0, -1, 1]])
SMALL = {"hidden": 16, "size": 8}
# Noise as large as everything that eight numbers can say blurs what nine medications look like.
CASE = RankerCase("multivae", SMALL, ordered=0.85)


class TestMultiVAE(RankerBattery):
    case = CASE


class TestMultiVAEWithLittleNoise(RankerBattery):
    case = RankerCase("multivae", {**SMALL, "noise": 0.01})


def test_the_likelihood_of_a_row():
    torch.testing.assert_close(
        LOGITS.softmax(-1), torch.tensor([[0.5206, 0.1915, 0.0705, 0.0259, 0.1915]]), atol=5e-5, rtol=0
    )
    loss = float(multinomial_loss(LOGITS, ROW))
    assert loss == pytest.approx(3.9584, abs=5e-5)
    assert float(multinomial_loss(LOGITS + 7, ROW)) == pytest.approx(loss, abs=1e-5)
    # Thirds for the three medications and nothing for the rest: it cannot be lower.
    best = float(multinomial_loss(100 * ROW, ROW))
    assert best == pytest.approx(3 * math.log(3)) == pytest.approx(3.2958, abs=5e-5)
    assert best < loss


def test_the_kl_term():
    mean, deviation = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 1.0]])
    assert float(kl_to_standard(mean, deviation.square().log())) == pytest.approx(0.8181, abs=5e-5)
    assert float(kl_to_standard(torch.zeros(1, 2), torch.zeros(1, 2))) == 0


@pytest.mark.parametrize(("weight", "variance", "mean"), [(0.2, 0.1667, 0.8333), (0.013, 0.0128, 0.9872)])
def test_how_much_noise_a_weight_leaves(weight, variance, mean):
    """Of a likelihood g μ − h (μ² + σ²) / 2 with g = h = 1: the smaller the weight, the plainer the auto-encoder."""
    at, log_variance = torch.zeros(1, 1, requires_grad=True), torch.zeros(1, 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([at, log_variance], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        found = 0.5 * (at.square() + log_variance.exp()).sum() - at.sum() + weight * kl_to_standard(at, log_variance)
        found.sum().backward()
        return found.sum()

    optimiser.step(loss)
    assert (log_variance.exp().item(), at.item()) == pytest.approx((variance, mean), abs=5e-4)


def test_the_weight_of_the_kl_term_follows_from_the_step():
    assert weight_of_kl(0, 200_000, 0.2) == 0
    assert weight_of_kl(2_600, 200_000, 0.2) == pytest.approx(0.013)
    assert weight_of_kl(1_800, 200_000, 0.2) == pytest.approx(0.009)
    assert weight_of_kl(40_000, 200_000, 0.2) == weight_of_kl(100_000, 200_000, 0.2) == 0.2
    # Scaled to 2 600 steps: 0.2 after 80 % of them.
    assert scaled_anneal_steps(2_600, 0.2) == pytest.approx(10_400)
    assert weight_of_kl(2_080, scaled_anneal_steps(2_600, 0.2), 0.2) == pytest.approx(0.2)


def at_epoch(network, cohort, epoch):
    """The first batch of an epoch."""
    return next(row_batches(CASE.context(cohort).graph, np.arange(cohort.n_patients), 500, [0, epoch]))


def test_released_schedule_has_hardly_a_kl_term_and_the_scaled_one_has():
    cohort = CASE.cohort(20, seed=1)
    context, late = CASE.context(cohort), 160
    losses = {}
    for name, settings in (
        ("scaled", {}),
        ("official", SYSTEM.variants["official"]),
        ("none", {"beta": 0.0}),
    ):
        network = CASE.build(cohort, **settings).eval()
        losses[name] = [network.loss(at_epoch(network, cohort, epoch), context).item() for epoch in (0, late)]
        mean, log_variance = network.encoded(at_epoch(network, cohort, late).given)
        kl = float(kl_to_standard(mean, log_variance).mean())
    assert kl > 0
    assert losses["scaled"][0] == losses["official"][0] == losses["none"][0]
    # One step an epoch: after 160 of 200 epochs the cap.
    assert losses["scaled"][1] - losses["none"][1] == pytest.approx(0.2 * kl, rel=1e-3)
    assert losses["official"][1] - losses["none"][1] == pytest.approx(160 / 200_000 * kl, abs=1e-5)


def test_noise_has_the_deviation_that_the_encoder_says():
    cohort = CASE.cohort(1, seed=2)
    context, row = CASE.context(cohort), torch.ones(1, 9)
    drawn = {}
    for scale in (1.0, 0.01):
        network = CASE.build(cohort, dropout=0.0, noise=scale).train()
        seen = []
        network.decoder.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0].detach()))
        batch = next(row_batches(context.graph, np.zeros(3000, dtype=int), 3000, [0, 0]))
        torch.manual_seed(0)
        network.loss(batch, context)
        mean, log_variance = network.encoded(batch.given[:1])
        deviation = (0.5 * log_variance[0]).exp()
        torch.testing.assert_close(seen[0].std(0), scale * deviation, rtol=0.06, atol=0)
        torch.testing.assert_close(
            seen[0].mean(0), mean[0], atol=4 * scale * float(deviation.max()) / 3000**0.5, rtol=0
        )
        drawn[scale] = seen[0]
    # Reading takes the mean.
    assert torch.equal(network.eval().logits(row), network.logits(row))


def test_whoever_has_a_row_has_scores():
    cohort = CASE.cohort(12, seed=3)
    network, context = CASE.build(cohort).eval(), CASE.context(cohort)
    rows = given_to(context.graph, np.array([5, 2]))
    with torch.no_grad():
        torch.testing.assert_close(network.logits(rows), network.scores(np.array([5, 2]), context))
        # The length of a row does not matter, only its direction.
        torch.testing.assert_close(network.logits(3 * rows), network.logits(rows))
