"""Loss terms on numbers worked out by hand."""

import pytest
import torch

from medrec.losses import ddi_loss, ddi_tolerance, margin_loss, safe_recommendation_loss, visit_ddi_rate

PROB = torch.tensor([0.4, 0.9, 0.4, 0.7, 0.6], dtype=torch.float64)
DDI = torch.zeros(5, 5, dtype=torch.bool)
for i, j in [(1, 3), (1, 4), (2, 3)]:
    DDI[i, j] = DDI[j, i] = True


def test_ordered_pairs_count_twice():
    # 2 (.9·.7 + .9·.6 + .4·.7) = 2 · 1.45
    torch.testing.assert_close(ddi_loss(PROB, DDI), torch.tensor(2.90, dtype=torch.float64))


@pytest.mark.parametrize(("scale", "expected"), [(5e-4, 0.00145), (1 / 5**2, 0.116), (1 / 5, 0.58)])
def test_scale_conventions_of_the_field(scale, expected):
    torch.testing.assert_close(ddi_loss(PROB, DDI, scale=scale), torch.tensor(expected, dtype=torch.float64))


def test_one_value_per_visit_and_halving_quarters():
    batch = torch.stack([PROB, PROB / 2, torch.zeros(5, dtype=torch.float64)])
    torch.testing.assert_close(ddi_loss(batch, DDI), torch.tensor([2.90, 0.725, 0.0], dtype=torch.float64))


def test_joint_relabelling_changes_nothing_but_one_sided_does():
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(ddi_loss(PROB[order], DDI[order][:, order]), ddi_loss(PROB, DDI))
    assert not torch.isclose(ddi_loss(PROB, DDI[order][:, order]), ddi_loss(PROB, DDI))


def test_a_diagonal_of_ones_would_add_the_sum_of_squares():
    added = ddi_loss(PROB, DDI | torch.eye(5, dtype=torch.bool)) - ddi_loss(PROB, DDI)
    torch.testing.assert_close(added, torch.tensor(1.98, dtype=torch.float64))


def test_gradient_points_at_interacting_partners():
    prob = PROB.clone().requires_grad_()
    ddi_loss(prob, DDI, scale=0.5).backward()
    # d/dp_i of ½ pᵀAp = Σ_j A_ij p_j
    torch.testing.assert_close(prob.grad, torch.tensor([0.0, 1.3, 0.7, 1.3, 0.9], dtype=torch.float64))


def test_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="medications"):
        ddi_loss(PROB, DDI[:4, :4])


def random_visits(n=200, M=17, seed=0):
    generator = torch.Generator().manual_seed(seed)
    prob = torch.rand(n, M, generator=generator, dtype=torch.float64)
    return prob, torch.rand(n, M, generator=generator) < 0.3


def test_margin_loss_by_hand():
    # Pairs (1, 2), (1, 4), (3, 2), (3, 4): .7 + .3 + 1.3 + .9 = 3.2, over four medications.
    prob = torch.tensor([0.9, 0.6, 0.3, 0.2])
    torch.testing.assert_close(margin_loss(prob, torch.tensor([True, False, True, False])), torch.tensor(0.8))


def test_closed_form_of_the_margin_loss_is_the_double_sum():
    prob, target = random_visits()
    pairs = target[:, :, None] & ~target[:, None, :]
    hinge = (1 - (prob[:, :, None] - prob[:, None, :])).clamp(min=0)
    torch.testing.assert_close(margin_loss(prob, target), (hinge * pairs).sum((1, 2)) / prob.shape[1])


def test_closed_form_of_the_margin_loss_is_pytorch_s():
    prob, target = random_visits()
    indices = torch.full(target.shape, -1)
    for row, visit in enumerate(target):
        chosen = visit.nonzero()[:, 0]
        indices[row, : len(chosen)] = chosen
    expected = torch.nn.functional.multilabel_margin_loss(prob, indices, reduction="none")
    torch.testing.assert_close(margin_loss(prob, target), expected)


def test_margin_loss_without_pairs_is_nothing():
    prob = torch.tensor([0.9, 0.1])
    assert margin_loss(prob, torch.tensor([False, False])) == 0
    assert margin_loss(prob, torch.tensor([True, True])) == 0


def test_ddi_rate_of_single_visits():
    sets = torch.tensor([[0, 1, 0, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    torch.testing.assert_close(visit_ddi_rate(sets, DDI), torch.tensor([2 / 3, 0, 0, 0]))


def test_tolerance_is_one_up_to_the_target_continuous_and_falling():
    rates = torch.tensor([0.0, 0.03, 0.06, 0.09, 0.12], dtype=torch.float64)
    expected = torch.tensor([1, 1, 1, 0.2865, 0.0821], dtype=torch.float64)
    torch.testing.assert_close(ddi_tolerance(rates, 0.06, 2.5), expected, atol=5e-5, rtol=0)
    fine = ddi_tolerance(torch.linspace(0, 1, 10_001, dtype=torch.float64), 0.06, 2.5)
    assert ((fine > 0) & (fine <= 1)).all()
    assert (fine.diff() <= 0).all()
    assert fine.diff().abs().max() < 0.01


@pytest.mark.parametrize(
    ("rate_target", "reduction", "scale", "expected"),
    # Toy of the book: three rates over the target, on the released scale and as printed.
    [(0.5, "mean", 5e-4, 0.6216), (0.5, "sum", 1.0, 2.3663)],
)
def test_loss_below_the_target_is_accuracy_alone(rate_target, reduction, scale, expected):
    prob = torch.tensor([0.9, 0.6, 0.3, 0.2], dtype=torch.float64)
    target = torch.tensor([True, False, True, False])
    ddi = torch.zeros(4, 4, dtype=torch.bool)
    ddi[0, 1] = ddi[1, 0] = ddi[1, 3] = ddi[3, 1] = True
    value = safe_recommendation_loss(
        prob.logit(), target, ddi, target_ddi=2 * rate_target, bce_reduction=reduction, ddi_scale=scale
    )
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64), atol=5e-5, rtol=0)


@pytest.mark.parametrize(
    ("ratio", "reduction", "scale", "expected"),
    [
        (1.5, "mean", 5e-4, 0.1786),
        (2.0, "mean", 5e-4, 0.0516),
        (1.5, "sum", 1.0, 1.6198),
        (2.0, "sum", 1.0, 1.4059),
    ],
)
def test_loss_above_the_target_mixes_in_the_interactions(ratio, reduction, scale, expected):
    prob = torch.tensor([0.9, 0.6, 0.3, 0.2], dtype=torch.float64)
    target = torch.tensor([True, False, True, False])
    ddi = torch.zeros(4, 4, dtype=torch.bool)
    ddi[0, 1] = ddi[1, 0] = ddi[1, 3] = ddi[3, 1] = True
    # The set {1, 2} interacts: its rate is 1.
    value = safe_recommendation_loss(
        prob.logit(), target, ddi, target_ddi=1 / ratio, bce_reduction=reduction, ddi_scale=scale
    )
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64), atol=5e-5, rtol=0)


def test_a_misspelt_reduction_is_refused():
    with pytest.raises(ValueError, match="'total'; choose 'sum' or 'mean'"):
        safe_recommendation_loss(PROB.logit(), PROB > 0.5, DDI, bce_reduction="total")


def test_no_gradient_flows_through_the_tolerance():
    logits = torch.tensor([2.0, 1.0, -1.0, -2.0], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([True, False, True, False])
    ddi = torch.zeros(4, 4, dtype=torch.bool)
    ddi[0, 1] = ddi[1, 0] = True
    (mixed,) = torch.autograd.grad(safe_recommendation_loss(logits, target, ddi, target_ddi=0.5), logits)
    alpha = ddi_tolerance(torch.tensor(1.0, dtype=torch.float64), 0.5, 2.5)
    (accuracy,) = torch.autograd.grad(safe_recommendation_loss(logits, target, ddi, target_ddi=1.0), logits)
    (safety,) = torch.autograd.grad(ddi_loss(logits.sigmoid(), ddi, 5e-4), logits)
    torch.testing.assert_close(mixed, alpha * accuracy + (1 - alpha) * safety)
