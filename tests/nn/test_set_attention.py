"""Self-attention over a set: numbers by hand, masks, symmetry, both forms."""

import pytest
import torch

from medrec.nn.set_attention import SetAttention, masked_softmax, self_attention

MOLECULES = torch.tensor([[2.0, 0, 1, 1], [1, 1, 0, 2]])


def close(actual, expected, atol=5e-5):
    torch.testing.assert_close(actual, torch.as_tensor(expected), atol=atol, rtol=0)


def test_softmax_over_what_is_there():
    scores = torch.tensor([[1.0, 1.0, 9.0], [2.0, 3.0, 4.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    close(masked_softmax(scores, mask), [[0.5, 0.5, 0], [0, 0, 0]])
    close(masked_softmax(scores, mask, "uniform"), [[0.5, 0.5, 0], [1 / 3] * 3])
    masked_softmax(scores, mask)[:, 0].sum().backward()
    close(scores.grad, [[0.25, -0.25, 0], [0, 0, 0]])


def test_two_molecules_by_hand():
    attended, weights = self_attention(MOLECULES, MOLECULES, MOLECULES)
    close(weights[0], [[0.7311, 0.2689], [0.2689, 0.7311]])
    close(MOLECULES + attended, [[3.7311, 0.2689, 1.7311, 2.2689], [2.2689, 1.7311, 0.2689, 3.7311]])
    normed = torch.nn.functional.layer_norm(MOLECULES + attended, (4,))
    close(normed, [[1.3974, -1.3974, -0.2171, 0.2171], [0.2171, -0.2171, -1.3974, 1.3974]])


def test_a_third_molecule_would_change_the_first():
    three = torch.stack([MOLECULES[0], torch.tensor([0.0, 2, 0, 0]), MOLECULES[1]])
    attended, _ = self_attention(three, three, three)
    close(torch.nn.functional.layer_norm(three + attended, (4,))[0], [1.4120, -1.3826, -0.2318, 0.2024])


def test_one_molecule_alone_is_still_transformed():
    one = MOLECULES[:1]
    attended, _ = self_attention(one, one, one)
    close(torch.nn.functional.layer_norm(one + attended, (4,)), [[1.4142, -1.4142, 0.0, 0.0]])


def test_heads_attend_to_their_own_part():
    torch.manual_seed(0)
    x = torch.randn(5, 6)
    both, _ = self_attention(x, x, x, n_heads=2)
    for part in (slice(0, 3), slice(3, 6)):
        alone, _ = self_attention(x[:, part], x[:, part], x[:, part])
        torch.testing.assert_close(both[:, part], alone)


@pytest.mark.parametrize("feedforward", [True, False])
class TestBothForms:
    def layer(self, feedforward):
        torch.manual_seed(0)
        return SetAttention(8, feedforward=feedforward)

    def test_absent_members_do_not_matter(self, feedforward):
        layer, x = self.layer(feedforward), torch.randn(3, 5, 8)
        mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
        out = layer(x, mask)
        for row, chosen in enumerate(mask):
            torch.testing.assert_close(out[row][chosen], layer(x[row][chosen]), atol=1e-6, rtol=1e-5)
        assert torch.isfinite(layer(x, torch.zeros_like(mask))).all()

    def test_order_does_not_matter(self, feedforward):
        layer, x = self.layer(feedforward), torch.randn(5, 8)
        order = torch.tensor([3, 1, 4, 0, 2])
        torch.testing.assert_close(layer(x[order]), layer(x)[order], atol=1e-6, rtol=1e-5)

    def test_gradients_reach_every_parameter(self, feedforward):
        layer = self.layer(feedforward)
        layer(torch.randn(4, 8)).square().mul(torch.randn(4, 8)).sum().backward()
        for name, parameter in layer.named_parameters():
            # A shift of all keys leaves the softmax as it is.
            assert bool(parameter.grad.abs().sum() > 1e-6) == (name != "key.bias"), name


def test_released_form_forgets_its_input_and_the_printed_one_does_not():
    x = torch.randn(4, 8)
    for feedforward in (True, False):
        layer = SetAttention(8, feedforward=feedforward)
        with torch.no_grad():
            layer.value.weight.zero_()
            layer.value.bias.zero_()
            layer.query.weight.zero_()
        # Nothing but the residual is left: on the input as printed, on the (now constant) query as released.
        assert bool(layer(x).std(0).abs().max() > 1e-3) == feedforward


def test_released_form_has_the_parameters_of_the_released_code():
    assert sum(p.numel() for p in SetAttention(128, feedforward=False).parameters()) == 66_560
