"""Dropout from 16 bits: what is kept, how much of it, and that chance hangs on the seed alone."""

import pytest
import torch

from medrec.fit import seeded
from medrec.nn.dropout import LEVELS, Dropout, dropout, scaled_mask


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.7])
def test_the_share_that_is_kept_and_the_expectation(p):
    with seeded(0):
        y = dropout(torch.ones(1000, 1001), p, training=True)
    n = y.numel()
    # Five standard deviations of a share of n draws.
    assert abs(float((y == 0).double().mean()) - p) < 5 * (p * (1 - p) / n) ** 0.5
    assert abs(float(y.double().mean()) - 1) < 5 * (p / (1 - p) / n) ** 0.5
    assert y.unique().tolist() == pytest.approx([0, LEVELS / (LEVELS - round(p * LEVELS))])


def test_entries_are_independent_within_a_draw_of_64_bits():
    with seeded(1):
        kept = (scaled_mask((400_000,), 0.5, torch.zeros(())) > 0).double().view(-1, 4)
    covariance = torch.cov(kept.T)
    torch.testing.assert_close(covariance, torch.eye(4).double() / 4, atol=5e-3, rtol=0)


def test_bits_fall_below_the_cut_as_often_as_said():
    """The cut of a small p is seen only if all 16 bits are fair: 64 of 65 536."""
    with seeded(2):
        dropped = (scaled_mask((4_000_000,), 64 / LEVELS, torch.zeros(())) == 0).sum()
    assert abs(int(dropped) - 3906) < 5 * 3906**0.5


def test_a_probability_is_rounded_to_the_resolution():
    with seeded(0):
        none = dropout(torch.ones(1000), 2.0**-18, training=True)
    torch.testing.assert_close(none, torch.ones(1000))
    torch.testing.assert_close(dropout(torch.ones(5), 1.0, training=True), torch.zeros(5))


def test_evaluation_and_p_zero_leave_all_as_it_is_and_draw_nothing():
    x = torch.randn(7, 3)
    with seeded(3):
        before = torch.get_rng_state()
        layer = Dropout(0.5).eval()
        assert layer(x) is x
        assert Dropout(0.0).train()(x) is x
        assert torch.equal(torch.get_rng_state(), before)


def test_the_gradient_goes_where_the_value_went():
    x = torch.randn(50, 3, dtype=torch.double, requires_grad=True)
    with seeded(4):
        y = dropout(x, 0.3, training=True)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x, y)
    assert ((x.grad == 0) == (y == 0)).all()
    assert 0 < int((y == 0).sum()) < y.numel()


def test_chance_hangs_on_the_seed_alone():
    x, draws = torch.ones(1001), []
    for seed in (5, 5, 6):
        with seeded(seed):
            draws.append(dropout(x, 0.5, training=True))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_wrong_probability_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        Dropout(1.5)
