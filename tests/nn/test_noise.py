"""The noise schedule against values worked out in double precision, and steps there and back."""

import pytest
import torch

from medrec.nn.noise import NoiseSchedule
from medrec.types import MedrecError

DEFAULT = NoiseSchedule.linear(5, 0.1, 1e-4, 0.02, 1e-4)
"""DiffKG's."""


def study(scale, first=1e-4):
    """Fifty steps, as the study of the third paper sets them."""
    return NoiseSchedule.linear(50, scale, 1e-4, 1e-3, first)


def close(actual, expected, **tolerance):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), **tolerance)


@pytest.mark.parametrize(
    ("schedule", "noise", "spread"),
    [
        (study(1e-3), [1.0000e-4, 1.0044e-4, 1.0090e-4], 0.01004),
        (study(1e-4), [1.0000e-4, 1.0004e-4, 1.0009e-4], 0.01000),
        (study(1e-3, first=1e-5), [1.000e-5, 1.044e-5, 1.090e-5], 0.0033),
    ],
)
def test_noise_that_hardly_grows(schedule, noise, spread):
    close(1 - schedule.kept[[0, 24, 49]], noise, atol=1e-8, rtol=0)
    assert float(schedule.spread[-1]) == pytest.approx(spread, abs=1e-5)


def test_noise_of_five_steps():
    close(1 - DEFAULT.kept, [1.000e-4, 5.975e-4, 1.095e-3, 1.592e-3, 2.090e-3], atol=5e-7, rtol=0)
    assert float(DEFAULT.spread[-1]) == pytest.approx(0.0457, abs=5e-5)


def test_the_product_is_what_the_nominal_variances_say():
    nominal = 0.1 * torch.linspace(1e-4, 0.02, 5, dtype=torch.float64)
    torch.testing.assert_close(1 - DEFAULT.kept, 1 - (1 - 1e-4) * (1 - nominal) / (1 - nominal[0]))


def test_single_precision_would_lose_most_differences():
    ratio = study(1e-3).signal_to_noise
    differences = ratio[:-1] - ratio[1:]
    assert len(differences) == 49
    assert (float(differences[0]), float(differences[-1])) == pytest.approx((1.84, 1.80), abs=5e-3)
    assert float(ratio[-1]) == pytest.approx(9910, abs=5)
    single = (1 - study(1e-3).beta.float()).cumprod(0)
    rounded = single / (1 - single)
    lost = (rounded[:-1] - rounded[1:]) == 0
    assert lost.sum() >= 30


ROW = torch.tensor([1.0, 0, 1, 0], dtype=torch.float64)
GUESS = torch.tensor([0.9, 0.1, 0.8, 0.3], dtype=torch.float64)


def test_one_step_back_by_hand():
    noise = torch.tensor([0.5, -1, 1.5, 0.2], dtype=torch.float64)
    row = DEFAULT.signal[-1] * ROW + DEFAULT.spread[-1] * noise
    close(row, [1.0218, -0.0457, 1.0675, 0.0091], atol=5e-5, rtol=0)
    clean, noisy = DEFAULT.back
    assert (float(clean[-1]), float(noisy[-1])) == pytest.approx((0.2382, 0.7618), abs=5e-5)
    found = []
    for t in range(4, -1, -1):
        row = clean[t] * GUESS + noisy[t] * row
        found.append(row)
    close(found[0], [0.9928, -0.0110, 1.0038, 0.0784], atol=5e-5, rtol=0)
    close(found[-2], [0.9058, 0.0930, 0.8128, 0.2861], atol=5e-5, rtol=0)
    # At the first step nothing of the row is left: the last output is the last guess.
    assert (float(clean[0]), float(noisy[0])) == pytest.approx((1, 0), abs=1e-12)
    torch.testing.assert_close(found[-1], GUESS)


@pytest.mark.parametrize(
    ("schedule", "left"), [(study(1e-3), 0.9911), (study(1e-4), 0.9991), (DEFAULT, 0.0478)], ids=["1e-3", "1e-4", "5"]
)
def test_how_much_of_the_row_is_left_before_the_last_step(schedule, left):
    clean, noisy = schedule.back
    assert float(noisy[1:].prod()) == pytest.approx(left, abs=5e-5)
    row = ROW
    for t in range(len(clean) - 1, 0, -1):
        row = clean[t] * GUESS + noisy[t] * row
    # Two coefficients that add up to 1 but for a share of the variance; of one guess the row is a blend.
    torch.testing.assert_close(row, left * ROW + (1 - left) * GUESS, atol=1e-4, rtol=0)


def test_one_step_alone():
    one = NoiseSchedule.linear(1, 0.1, 1e-4, 0.02, 1e-5)
    assert one.beta.tolist() == [1e-5]
    assert float(one.back[0]) == pytest.approx(1)
    assert float(one.back[1]) == 0


def test_noise_must_not_fall():
    with pytest.raises(MedrecError, match="Set noise_min to at most noise_max"):
        NoiseSchedule.linear(5, 0.1, 0.02, 1e-4, 1e-5)
