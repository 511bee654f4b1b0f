"""The interaction loss on numbers worked out by hand."""

import pytest
import torch

from medrec.losses import ddi_loss

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
