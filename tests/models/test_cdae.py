"""CDAE: corruption, drawn negatives and the three losses by hand, and what its switches change."""

import numpy as np
import pytest
import torch

from medrec.graphs.rows import given_to
from medrec.models.cdae import SYSTEM, drawn_negatives, entry_losses
from medrec.nn.dropout import dropout
from tests.models.battery import RankerBattery, RankerCase

CASE = RankerCase("cdae", {"size": 16})
# An absolute error wants what most patients have: a row for everybody, which orders few pairs of a single patient.
OFFICIAL = RankerCase("cdae", {"size": 16, **SYSTEM.variants["official"]}, ordered=0.6)


class TestCDAE(RankerBattery):
    case = CASE


class TestOfficialCDAE(RankerBattery):
    case = OFFICIAL


# -- corruption --------------------------------------------------------------------------------------------------------


def test_half_of_a_row_is_left_out_and_the_rest_counts_twice():
    torch.manual_seed(0)
    row = torch.tensor([1.0, 1, 0, 0, 1])
    found = dropout(row.expand(20_000, 5), 0.5, training=True)
    assert set(found.unique().tolist()) == {0, 2}
    torch.testing.assert_close(found.mean(0), row, atol=0.03, rtol=0)
    assert torch.equal(found[:, 2:4], torch.zeros(20_000, 2))


def test_negatives_are_drawn_from_what_was_not_given():
    given = np.zeros((2000, 6), dtype=bool)
    given[:, [0, 3]] = True
    given[0] = True
    given[1] = False
    drawn = drawn_negatives(given, 5, np.random.default_rng(0))
    assert not drawn[given].any()
    assert drawn.sum(1).tolist() == [0, 0] + [10] * 1998
    assert drawn[2:].mean(0)[[1, 2, 4, 5]] == pytest.approx([2.5] * 4, abs=0.15)
    assert drawn.max() > 5, "with repetition"


def test_what_counts_in_a_batch():
    cohort = CASE.cohort(12, seed=1)
    graph = CASE.context(cohort).graph
    for negatives in (0, 5):
        network = CASE.build(cohort, negatives=negatives)
        one, again, other = (next(network.batches(graph, np.arange(12), order)) for order in ([0, 3], [0, 3], [0, 4]))
        assert torch.equal(one.weight, again.weight)
        n = one.given.sum(1)
        if negatives:
            assert (one.weight[one.given > 0] == 1).all()
            full = n == 9
            torch.testing.assert_close(one.weight.sum(1)[~full], (6 * n)[~full])
            assert not torch.equal(one.weight.sort(0).values, other.weight.sort(0).values)
        else:
            assert (one.weight == 1).all()


# -- losses ------------------------------------------------------------------------------------------------------------

GRID = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)


def risk(loss, q):
    """Of a constant guess c, for each c of the grid, where a share q is 1."""
    # The square's guess is z itself.
    z = GRID if loss == "square" else GRID.logit()
    one, zero = torch.ones_like(z), torch.zeros_like(z)
    return q * entry_losses(z, one, loss) + (1 - q) * entry_losses(z, zero, loss)


@pytest.mark.parametrize("q", [0.05, 0.2, 0.6])
def test_the_best_guess_of_a_rare_medication(q):
    for loss in ("logistic", "square"):
        assert float(GRID[risk(loss, q).argmin()]) == pytest.approx(q, abs=1e-3)
    torch.testing.assert_close(risk("absolute", q), q + (1 - 2 * q) * GRID)
    assert float(GRID[risk("absolute", q).argmin()]) == pytest.approx(float(q > 0.5), abs=2e-3)


def test_absolute_errors_of_nothing_and_of_the_calibrated_answer():
    for q, nothing, calibrated in ((0.05, 0.05, 0.095), (0.2, 0.2, 0.32)):
        assert q + (1 - 2 * q) * 0 == nothing
        assert q + (1 - 2 * q) * q == pytest.approx(calibrated)
    matrix = torch.tensor([[1.0, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 1], [1, 0, 0, 1, 0]], dtype=torch.float64)
    shares = matrix.mean(0)

    def error(guess):
        clipped = torch.as_tensor(guess, dtype=torch.float64).clamp(1e-12, 1 - 1e-12).expand(4, 5)
        return float(entry_losses(clipped.logit(), matrix, "absolute").mean())

    assert error(0.0) == pytest.approx(0.5)
    assert error(shares.round()) == pytest.approx(0.2)
    assert error(shares) == pytest.approx(0.3), "the calibrated answer loses"


def test_where_the_slope_leads_from_near_nothing():
    z = torch.tensor(0.01, dtype=torch.float64).logit().requires_grad_()
    slopes = {}
    for loss in ("absolute", "logistic"):
        mean = 0.2 * entry_losses(z, torch.ones_like(z), loss) + 0.8 * entry_losses(z, torch.zeros_like(z), loss)
        (slopes[loss],) = torch.autograd.grad(mean, z)
    assert float(slopes["absolute"]) == pytest.approx(0.0059, abs=5e-5)
    assert float(slopes["logistic"]) == pytest.approx(-0.19)


def test_an_absolute_error_forgets_what_is_rare():
    """Medications of a tenth of the patients, which one that everybody has does not foretell."""
    found = {}
    for loss in ("absolute", "logistic"):
        z = torch.zeros(6, requires_grad=True)
        given = torch.zeros(40, 6)
        given[:, 0] = 1
        given[:4, 1:] = 1
        optimiser = torch.optim.Adam([z], lr=0.1)
        for _ in range(150):
            optimiser.zero_grad()
            entry_losses(z.expand(40, 6), given, loss).mean().backward()
            optimiser.step()
        found[loss] = z.sigmoid().detach()
    assert found["absolute"][0] > 0.9
    assert (found["absolute"][1:] < 0.01).all()
    assert found["logistic"][1:].tolist() == pytest.approx([0.1] * 5, abs=0.01)


# -- switches ----------------------------------------------------------------------------------------------------------


def test_tied_and_untied():
    cohort = CASE.cohort(10, seed=2)
    tied, untied = CASE.build(cohort), CASE.build(cohort, tied=False)
    more = set(dict(untied.named_parameters())) - set(dict(tied.named_parameters()))
    assert more == {"decoder.weight"}
    with torch.no_grad():
        untied.load_state_dict({**tied.state_dict(), "decoder.weight": tied.encoder.weight.T})
        row = torch.ones(1, 9)
        node = torch.zeros(16)
        torch.testing.assert_close(untied.eval().logits(row, node), tied.eval().logits(row, node))


def test_a_patients_vector_is_added_inside_and_touches_nobody_else():
    cohort = CASE.cohort(10, seed=3)
    network, context = CASE.build(cohort), CASE.context(cohort)
    before = CASE.output(network, cohort, context)
    with torch.no_grad():
        network.nodes.weight[4] += 1
    moved = (CASE.output(network, cohort, context) != before).any(1)
    assert moved.nonzero()[:, 0].tolist() == [4]


def test_strangers_need_a_rule():
    cohort = CASE.cohort(10, seed=4)
    network, context = CASE.build(cohort).eval(), CASE.context(cohort)
    rows = given_to(context.graph, np.arange(10))
    with torch.no_grad():
        zero, mean = (network.scores_of_strangers(rows, rule) for rule in ("zero", "mean"))
        assert not torch.equal(zero, mean)
        network.nodes.weight.copy_(network.nodes.weight.mean(0).expand(10, -1))
        torch.testing.assert_close(network.scores(np.arange(10), context), mean)
        network.nodes.weight.zero_()
        torch.testing.assert_close(network.scores(np.arange(10), context), zero)


def test_weights_are_as_wide_as_the_units_ask_for():
    cohort = CASE.cohort(10, seed=5)
    ends = [CASE.build(cohort, activation=a).encoder.weight.abs().max().item() for a in ("sigmoid", "relu")]
    bound = (6 / (9 + 16)) ** 0.5
    assert ends[0] == pytest.approx(4 * bound, rel=0.05)
    assert ends[1] == pytest.approx(bound, rel=0.05)
