"""RETAIN: toy numbers by hand, both variants, both kinds of input."""

import numpy as np
import pytest
import torch

from medrec.data.batch import VisitBatch
from medrec.models.retain import context_vector, logit_shares, visit_attention
from tests.models.battery import Battery, Case, output, same_step
from tests.toys import random_cohort

# Three visits from oldest to latest.
VISITS = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]])
SCORES = torch.tensor([[0.0, 1.0, 2.0]])
BETA = torch.tensor([[[1.0, 0.0], [0.5, 0.5], [0.0, -1.0]]]).tanh()
WEIGHT = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
BIAS = torch.tensor([0.0, -0.5])
ALL = torch.ones(1, 3, dtype=torch.bool)


def close(actual, expected):
    torch.testing.assert_close(actual, torch.tensor(expected), atol=5e-5, rtol=0)


def probabilities(context):
    return (context @ WEIGHT.T + BIAS).sigmoid()


def test_attention_over_visits():
    alpha = visit_attention(SCORES, ALL)
    close(alpha, [[0.0900, 0.2447, 0.6652]])
    close(BETA * VISITS, [[[0.7616, 0.0], [0.0, 0.9242], [0.0, -0.7616]]])
    context = context_vector(alpha, BETA, VISITS)
    close(context, [[0.0686, -0.2805]])
    close(probabilities(context), [[0.5864, 0.2637]])
    assert (probabilities(context) >= 0.4).tolist() == [[True, False]]


def test_equal_scores():
    context = context_vector(visit_attention(torch.zeros(1, 3), ALL), BETA, VISITS)
    close(context, [[0.2539, 0.0542]])
    close(probabilities(context), [[0.5497, 0.4342]])


def test_softmax_over_features_is_one_and_has_no_gradient():
    scores = SCORES.clone().requires_grad_()
    alpha = visit_attention(scores, ALL, "features")
    close(alpha, [[1.0, 1.0, 1.0]])
    context = context_vector(alpha, BETA, VISITS)
    close(context, [[0.7616, 0.1626]])
    close(probabilities(context), [[0.6454, 0.5513]])
    (gradient,) = torch.autograd.grad((context @ WEIGHT.T)[0, 0], scores)
    assert not gradient.any()
    logit = (context_vector(visit_attention(scores, ALL), BETA, VISITS) @ WEIGHT.T)[0, 0]
    close(torch.autograd.grad(logit, scores)[0], [[0.0371, -0.3116, 0.2745]])


def test_misaligned_coefficients_give_another_context():
    alpha = visit_attention(SCORES, ALL)
    close(context_vector(alpha.flip(1), BETA, VISITS), [[0.5066, 0.1576]])
    assert not torch.allclose(context_vector(alpha.flip(1), BETA.flip(1), VISITS), context_vector(alpha, BETA, VISITS))


def test_padding_takes_no_attention():
    padded = torch.tensor([[0.0, 1.0, 2.0, 0.0]])
    mask = torch.tensor([[True, True, True, False]])
    close(visit_attention(padded, mask), [[0.0900, 0.2447, 0.6652, 0.0]])
    close(visit_attention(padded, torch.ones_like(mask))[:, :3].sum(), 0.9174)
    assert not visit_attention(padded, torch.zeros_like(mask)).any()


def test_shares_add_up_to_the_logit():
    shares = logit_shares(visit_attention(SCORES, ALL), BETA, VISITS, WEIGHT)
    close(shares[0, :, 0], [0.0686, -0.2262, 0.5066])
    close(shares[0, :, 0].sum(), 0.3490)


class TestPastOnly(Battery):
    case = Case("retain", sees_now=())


class TestWithCurrent(Battery):
    case = Case("retain", {"inputs": "with_current"})


class TestOfficial(Battery):
    case = Case(
        "retain",
        {"alpha_axis": "features", "reverse_time": False},
        sees_now=(),
        idle=("alpha_gru", "alpha_score"),
    )


@pytest.mark.parametrize("settings", [{}, {"inputs": "with_current"}, {"reverse_time": False}])
def test_batched_equals_one_prefix_at_a_time(settings):
    """The route of the published code: a patient's visits up to t, read by two GRUs of their own."""
    cohort = random_cohort(8, seed=2)
    case = Case("retain", settings)
    network, context = case.build(cohort).eval(), case.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(8))
    with torch.no_grad():
        logits, scored = network(batch, context), network.scored(batch)
        for b, t in scored.nonzero().tolist():
            rows = []
            for j in range(t + (settings.get("inputs") == "with_current")):
                row = torch.zeros(network.config.size)
                for kind in network.kinds if j < t else ("diagnosis", "procedure"):
                    ids = batch.codes[kind][b, j]
                    row += network.embedding.weight[ids[ids < batch.sizes[kind]] + network.starts[kind]].sum(0)
                rows.append(row)
            v = torch.stack(rows)
            if network.config.reverse_time:
                v = v.flip(0)
            alpha = network.alpha_score(network.alpha_gru(v)[0])[:, 0].softmax(0)
            beta = network.beta_score(network.beta_gru(v)[0]).tanh()
            expected = network.output((alpha[:, None] * beta * v).sum(0))
            torch.testing.assert_close(logits[b, t], expected, atol=1e-6, rtol=1e-5)


def test_contributions_and_attention_are_those_of_the_output():
    cohort = random_cohort(10, seed=3)
    case = Case("retain")
    network, context = case.build(cohort), case.context(cohort)
    logits, scored = output(network, cohort, context)
    batch = VisitBatch.build(cohort, np.arange(10))
    with torch.no_grad():
        shares, alpha = network.contributions(batch, context), network.attention(batch, context)
    T = logits.shape[1]
    torch.testing.assert_close((shares.sum(2) + network.output.bias)[scored], logits[scored], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(alpha.sum(2), scored.float(), atol=1e-6, rtol=0)
    # Visit t sees visits before it only.
    unseen = torch.ones(T, T).triu().bool()
    assert not alpha[:, unseen].any()
    assert not shares[:, unseen].any()
    # Attention is alive: two visits get different weights.
    two = scored[:, 2:].nonzero()
    assert len(two)
    b, t = two[0].tolist()
    assert alpha[b, t + 2, 0] != alpha[b, t + 2, 1]


def test_each_switch_changes_the_output_and_no_parameter():
    cohort = random_cohort(10, seed=4)
    case = Case("retain")
    context = case.context(cohort)
    plain, scored = output(case.build(cohort), cohort, context)
    names = list(case.build(cohort).state_dict())
    for switch in ({"alpha_axis": "features"}, {"reverse_time": False}):
        network = case.build(cohort, **switch)
        assert list(network.state_dict()) == names
        changed, _ = output(network, cohort, context)
        three = scored.clone()
        three[:, :2] = False  # with one past visit there is nothing to weigh or to turn round
        assert not torch.allclose(changed[three], plain[three])
        two = scored & ~three
        torch.testing.assert_close(changed[two], plain[two], atol=1e-6, rtol=1e-5)


def test_coded_context_grows_with_the_record():
    """Twenty equal visits: with all weights 1 the context is twenty times one visit's; a softmax keeps it."""
    beta, visits = BETA[:, :1].expand(1, 20, 2), VISITS[:, :1].expand(1, 20, 2)
    mask, scores = torch.ones(1, 20, dtype=torch.bool), torch.zeros(1, 20)
    one = BETA[:, 0] * VISITS[:, 0]
    torch.testing.assert_close(context_vector(visit_attention(scores, mask), beta, visits), one)
    torch.testing.assert_close(context_vector(visit_attention(scores, mask, "features"), beta, visits), 20 * one)


@pytest.mark.parametrize("inputs", ["past_only", "with_current"])
@pytest.mark.parametrize("reverse", [True, False])
def test_a_step_is_that_of_one_target_at_a_time(inputs, reverse):
    cohort = random_cohort(15, seed=11)
    case = Case("retain", {"dropout": 0.0, "inputs": inputs, "reverse_time": reverse})
    network, context = case.build(cohort).train(), case.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(15))
    losses = []
    for b, t in network.scored(batch).nonzero().tolist():
        seen = []
        for j in range(t + (inputs == "with_current")):
            kinds = ("diagnosis", "procedure") if j == t else network.kinds
            visit = int(batch.visits[b, j])
            ids = torch.cat([torch.from_numpy(cohort.codes[k][visit]) + network.starts[k] for k in kinds])
            seen.append(network.embedding(ids).sum(0))
        visits = torch.stack(seen[::-1] if reverse else seen)[None]
        alpha = network.alpha_score(network.alpha_gru(visits)[0])[0, :, 0].softmax(0)
        beta = network.beta_score(network.beta_gru(visits)[0])[0].tanh()
        logits = network.output((alpha[:, None] * beta * visits[0]).sum(0))
        losses.append(torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.target[b, t].float()))
    same_step(network, torch.stack(losses).mean(), context, batch)
