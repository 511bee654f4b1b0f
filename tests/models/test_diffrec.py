"""DiffRec: weights and chances of steps by hand, the memory of losses against one written loss by loss, reading."""

import numpy as np
import pytest
import torch

from medrec.graphs.rows import given_to
from medrec.models.diffrec import FIRST, SYSTEM, chances_of_steps, remember, waves, weights_of_steps
from medrec.nn.noise import NoiseSchedule
from medrec.types import MedrecError
from tests.models.battery import RankerBattery, RankerCase

CASE = RankerCase("diffrec", {"size": 32})


class TestDiffRec(RankerBattery):
    case = CASE


class TestDiffRecWithNoiseBeforeReading(RankerBattery):
    case = RankerCase("diffrec", {"size": 32, "t_inference": 3})


# -- steps -------------------------------------------------------------------------------------------------------------


def test_weights_of_steps():
    schedule = NoiseSchedule.linear(5, 0.1, 1e-4, 0.02, FIRST)
    ratio = schedule.signal_to_noise
    half, whole, none = (weights_of_steps(schedule, how) for how in ("elbo", "without_half", "none"))
    assert half[0] == whole[0] == 1
    torch.testing.assert_close(whole[1:], ratio[:-1] - ratio[1:])
    torch.testing.assert_close(2 * half[1:], whole[1:])
    assert none.tolist() == [1] * 5
    assert half.dtype == torch.float64
    # After a first step of hardly any noise the second one weighs more than all others together.
    assert half.tolist() == pytest.approx([1, 49_015, 488, 165, 83], rel=0.005)


def losses_of(*last):
    return torch.tensor(last, dtype=torch.float64)[:, None].expand(-1, 10)


def test_steps_with_large_losses_are_drawn_more_often_and_the_mean_stays():
    losses, count = losses_of(4.0, 2, 1, 1, 0), torch.full((5,), 10)
    chance = chances_of_steps(losses, count)
    torch.testing.assert_close(
        chance, torch.tensor([0.4997, 0.25, 0.1251, 0.1251, 0.0002], dtype=torch.float64), atol=5e-5, rtol=0
    )
    assert float(chance.sum()) == pytest.approx(1)
    last = losses[:, 0]
    assert float((chance * last / (5 * chance)).sum()) == pytest.approx(float(last.mean())) == pytest.approx(1.6)


def test_until_every_step_has_ten_losses_all_are_equally_likely():
    losses = losses_of(4.0, 2, 1, 1, 0)
    for count in ([10, 10, 10, 10, 9], [0] * 5):
        assert chances_of_steps(losses, torch.tensor(count)).tolist() == pytest.approx([0.2] * 5)
    assert chances_of_steps(torch.zeros(3, 10), torch.full((3,), 50)).tolist() == pytest.approx([1 / 3] * 3)


def test_the_memory_holds_the_last_ten_losses_of_each_step():
    rng = np.random.default_rng(0)
    kept, losses, count = [[] for _ in range(3)], torch.zeros(3, 10), torch.zeros(3, dtype=torch.int64)
    for size in (1, 4, 40, 7, 100, 3):
        t = rng.choice(3, size, p=[0.7, 0.25, 0.05])
        new = rng.random(size).astype(np.float32)
        for step, loss in zip(t, new, strict=True):
            kept[step].append(loss)
        losses, count = remember(losses, count, torch.from_numpy(t), torch.from_numpy(new))
        assert count.tolist() == [len(own) for own in kept]
        for step, own in enumerate(kept):
            stored = losses[step, : min(len(own), 10)]
            assert sorted(stored.tolist()) == pytest.approx(sorted(own[-10:]))


def test_waves_tell_the_steps_apart():
    table = waves(100, 10)
    assert table.shape == (100, 10)
    assert table[0].tolist() == [1] * 5 + [0] * 5
    torch.testing.assert_close(
        table[3, [0, 5]],
        torch.tensor([3.0, 3.0]).cos() * torch.tensor([1.0, 0]) + torch.tensor([0, np.sin(3.0)]).float(),
    )
    assert len({tuple(row) for row in table.tolist()}) == 100
    assert waves(4, 1).tolist() == [[0]] * 4
    assert (waves(4, 7)[:, -1] == 0).all()


# -- the network -------------------------------------------------------------------------------------------------------


def test_the_memory_is_filled_in_training_alone():
    cohort = CASE.cohort(20, seed=1)
    network, context = CASE.build(cohort), CASE.context(cohort)
    batch = CASE.batches(network, cohort)[0]
    network.eval().loss(batch, context)
    assert network.count.sum() == 0
    network.train().loss(batch, context)
    assert network.count.sum() == 20
    assert (network.losses > 0).sum() == network.count.clamp(max=10).sum()


def test_the_loss_is_that_of_its_patients_step_by_step():
    cohort = CASE.cohort(20, seed=2)
    network, context = CASE.build(cohort, dropout=0.0).train(), CASE.context(cohort)
    batch = CASE.batches(network, cohort)[0]
    torch.manual_seed(3)
    loss = network.loss(batch, context)
    torch.manual_seed(3)
    t = torch.full((5,), 0.2).multinomial(20, replacement=True)
    noise = torch.randn(20, 9)
    schedule = NoiseSchedule.linear(5, 0.1, 1e-4, 0.02, 1e-5)
    expected = 0.0
    for row, step, drawn in zip(batch.given, t.tolist(), noise, strict=True):
        blurred = schedule.signal[step].float() * row + schedule.spread[step].float() * drawn
        guess = network.guess(blurred[None], torch.tensor([step]))[0]
        expected += float(weights_of_steps(schedule, "elbo")[step]) * (guess - row).square().mean().item() / 20
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_reading_is_the_mean_of_the_posterior_step_by_step():
    cohort = CASE.cohort(6, seed=3)
    network, context = CASE.build(cohort).eval(), CASE.context(cohort)
    schedule = NoiseSchedule.linear(5, 0.1, 1e-4, 0.02, 1e-5)
    clean, noisy = (c.float() for c in schedule.back)
    with torch.no_grad():
        row = given_to(context.graph, np.arange(6))
        for step in (4, 3, 2, 1, 0):
            before, t = row, torch.full((6,), step)
            row = clean[step] * network.guess(before, t) + noisy[step] * before
        torch.testing.assert_close(network.scores(np.arange(6), context), row)
        torch.testing.assert_close(row, network.guess(before, t)), "the last guess"


def test_one_step_is_an_auto_encoder():
    cohort = CASE.cohort(6, seed=4)
    network, context = CASE.build(cohort, n_steps=1).eval(), CASE.context(cohort)
    row = given_to(context.graph, np.arange(6))
    with torch.no_grad():
        torch.testing.assert_close(
            network.scores(np.arange(6), context), network.guess(row, torch.zeros(6, dtype=torch.int64))
        )


def test_noise_before_reading_is_drawn_once_for_each_patient():
    cohort = CASE.cohort(8, seed=5)
    context = CASE.context(cohort)
    plain, noisy = (CASE.build(cohort, t_inference=n) for n in (0, 5))
    one, two = (CASE.output(network, cohort, context) for network in (plain, noisy))
    assert not torch.equal(one, two)
    assert torch.equal(two, CASE.output(noisy, cohort, context))
    torch.testing.assert_close(torch.from_numpy(noisy.rank(np.array([5, 2]), context)), two[[5, 2]])


def test_there_is_no_more_noise_before_reading_than_there_are_steps():
    cohort = CASE.cohort(4, seed=6)
    with pytest.raises(MedrecError, match="t_inference is 6, but there are 5 steps"):
        CASE.build(cohort, t_inference=6)


def test_the_released_code_leaves_the_half_out():
    cohort = CASE.cohort(4, seed=7)
    paper, official = CASE.build(cohort), CASE.build(cohort, **SYSTEM.variants["official"])
    torch.testing.assert_close(official.weight[1:], 2 * paper.weight[1:])
    assert paper.weight[0] == official.weight[0] == 1
