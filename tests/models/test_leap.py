"""LEAP: toy numbers by hand, every switch, and the route of one visit and one step at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec.data.batch import VisitBatch
from medrec.models.leap import additive_scores, attend, linear_scores
from medrec.models.registry import get
from medrec.types import Ragged
from tests.models.battery import Battery, Case, output, recode, same_step
from tests.toys import random_cohort

E = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
W = torch.tensor([0.7, -0.3, 1.0, 0.5])
U = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
V = torch.tensor([2.0, 1.0])
ALL = torch.ones(1, 3, dtype=torch.bool)
STATES = (torch.tensor([[1.0, 0.0]]), torch.tensor([[-2.0, 3.0]]))


def close(actual, expected, atol=5e-5):
    torch.testing.assert_close(actual, torch.tensor(expected), atol=atol, rtol=0)


@pytest.mark.parametrize("state", STATES)
def test_linear_attention_does_not_see_the_state(state):
    weights, context = attend(linear_scores(state, E, W), E, ALL)
    close(weights, [[0.3072, 0.1863, 0.5065]])
    close(context, [[0.8137, 0.6928]])


def test_additive_attention_follows_the_state():
    found = [attend(additive_scores(state, E, U, V), E, ALL)[0] for state in STATES]
    close(found[0], [[0.2188, 0.3126, 0.4686]])
    close(found[1], [[0.3739, 0.2505, 0.3755]])


def test_the_state_part_of_a_linear_score_has_no_gradient():
    w = W.clone().requires_grad_()
    _, context = attend(linear_scores(STATES[1], E, w), E, ALL)
    (gradient,) = torch.autograd.grad(context.sum(), w)
    assert gradient[:2].abs().max() < 1e-6
    assert gradient[2:].abs().max() > 1e-2
    u = U.clone().requires_grad_()
    _, context = attend(additive_scores(STATES[0], E, u, V), E, ALL)
    assert torch.autograd.grad(context.sum(), u)[0][:, :2].abs().max() > 1e-2


def test_padding_takes_no_attention():
    padded = torch.cat([E, torch.full((1, 1, 2), 7.0)], dim=1)
    mask = torch.tensor([[True, True, True, False]])
    weights, context = attend(linear_scores(STATES[0], padded, W), padded, mask)
    close(weights, [[0.3072, 0.1863, 0.5065, 0.0]])
    close(context, [[0.8137, 0.6928]])
    codes = padded.clone().requires_grad_()
    weights, context = attend(linear_scores(STATES[0], codes, W), codes, torch.zeros_like(mask))
    assert not weights.any()
    assert not context.any()
    assert not torch.autograd.grad(context.sum(), codes)[0].any()


NOW = {"sees_past": (), "sees_now": ("diagnosis",)}


GREEDY = {"writing": "greedy"}
"""As published."""


class TestPaper(Battery):
    case = Case("leap", GREEDY, **NOW)


class TestOfficial(Battery):
    case = Case(
        "leap", {"attention": "linear", "keep_attention": False, "order": "record", "max_len": 20}, **NOW, gain=2.0
    )


class TestRareFirst(Battery):
    case = Case("leap", GREEDY | {"order": "rare_first"}, **NOW)


class TestChain(Battery):
    case = Case("leap", {"order": "class_code", "writing": "chain"}, **NOW)


class TestSamples(Battery):
    case = Case("leap", {"order": "class_code", "writing": "samples"}, **NOW)


def spread(network):
    """Weights so large that lists differ between visits and end on their own."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    return network


@pytest.mark.parametrize(
    "settings", [{}, {"attention": "linear"}, {"keep_attention": False}, {"order": "record", "max_len": 7}]
)
def test_batched_equals_one_step_of_one_visit_at_a_time(settings):
    cohort = random_cohort(8, seed=2)
    case = Case("leap", GREEDY | settings)
    network, context = spread(case.build(cohort)).eval(), case.context(cohort)
    network.prepare(cohort, np.arange(8), context)
    batch = VisitBatch.build(cohort, np.arange(8))
    M, config = 9, network.config
    rank = network.rank.tolist()

    def score(h, e):
        both = torch.cat([h, e])
        if config.attention == "linear":
            return network.score.weight[0] @ both
        return network.score.weight[0] @ (network.inner.weight @ both).tanh()

    def steps(visit):
        """Yields logits; is sent the next token."""
        memory = [network.codes.weight[i] for i in cohort.codes["diagnosis"][visit].tolist()]
        token = network.tokens.weight[M]
        h = token
        while True:
            a = torch.stack([score(h, e) for e in memory]).softmax(0) if memory else []
            c = sum((w * e for w, e in zip(a, memory, strict=True)), torch.zeros(config.size))
            h = network.cell(torch.cat([c, token])[None], h[None])[0]
            if not config.keep_attention:
                memory = [c]
            token = network.tokens.weight[(yield network.output(h.relu()))]

    lengths, losses = set(), []
    with torch.no_grad():
        scores, sets = network.decide(batch, context)
        logits = network(batch, context)
        for b, t in batch.visit_mask.nonzero().tolist():
            visit = int(batch.visits[b, t])
            # Writing.
            decoder, listed, seen = steps(visit), [], []
            z = next(decoder)
            for _ in range(int(network.longest)):
                seen.append(z.softmax(0)[:M])
                allowed = [m for m in (*range(M), M + 1) if m not in listed]
                chosen = max(allowed, key=lambda m: z[m].item())
                if chosen == M + 1:
                    break
                listed.append(chosen)
                z = decoder.send(chosen)
            assert set(sets[b, t].nonzero()[:, 0].tolist()) == set(listed)
            expected = torch.stack(seen).mean(0)
            torch.testing.assert_close(scores[b, t], expected, atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(logits[b, t].sigmoid(), expected.clamp(1e-6, 1 - 1e-6), atol=1e-5, rtol=1e-5)
            lengths.add(len(listed))
            # Being taught.
            true = [int(m) for m in cohort.codes["medication"][visit]]
            if config.order != "record":
                true.sort(key=lambda m: rank[m])
            decoder, total = steps(visit), 0.0
            z = next(decoder)
            for m in [*true, M + 1]:
                total -= z.log_softmax(0)[m]
                z = decoder.send(m)
            losses.append(total / (len(true) + 1))
        torch.testing.assert_close(network.loss(batch, context), torch.stack(losses).mean())
    # Some lists end on their own; where there is a limit, it cuts others.
    assert len(lengths) > 1
    assert max(lengths) == config.max_len or not config.max_len


def test_the_loss_is_teacher_forced_in_both_modes():
    cohort = random_cohort(8, seed=2)
    case = Case("leap", GREEDY | {"dropout": 0.0})
    network, context = case.build(cohort), case.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(8))
    with torch.no_grad():
        training, evaluation = network.train().loss(batch, context), network.eval().loss(batch, context)
    torch.testing.assert_close(training, evaluation)


def test_lists_have_no_repeats_and_end():
    cohort = random_cohort(20, seed=4)
    case = Case("leap", GREEDY)
    network = spread(case.build(cohort)).eval()
    batch = VisitBatch.build(cohort, np.arange(20))
    with torch.no_grad():
        written = network.write(batch, batch.visit_mask)
        sets = network.recommend(batch, Case("leap", GREEDY).context(cohort))[batch.visit_mask]
    for steps, chosen in zip(written.lists.tolist(), sets, strict=True):
        listed = [m for m in steps if m < 9]
        assert len(listed) == len(set(listed))
        assert sorted(listed) == chosen.nonzero()[:, 0].tolist()
        assert steps == listed + [9] * (len(steps) - len(listed))
    assert len(set((written.lists == 9).sum(1).tolist())) > 2, "they end on their own, some sooner than others"
    assert (written.scores.sum(1) <= 1 + 1e-6).all()


AS_IDS = (("record", np.zeros(9)), ("class_code", np.arange(9)))


def test_true_lists_in_each_order():
    cohort = random_cohort(30, seed=5)
    counts = cohort.codes["medication"].multi_hot(9).sum(0)
    batch = VisitBatch.build(cohort, np.arange(30))
    for order, key in (
        ("frequency", -counts),
        ("rare_first", counts),
        ("record", np.zeros(9)),
        ("class_code", np.arange(9)),
    ):
        case = Case("leap", GREEDY | {"order": order})
        network = case.build(cohort)
        network.prepare(cohort, np.arange(30), case.context(cohort))
        lists = network.lists(batch)
        for b, t in batch.visit_mask.nonzero().tolist():
            true = cohort.codes["medication"][int(batch.visits[b, t])].tolist()
            expected = (
                sorted(true, key=lambda m: key[m]) if order == "record" else sorted(true, key=lambda m: (key[m], m))
            )
            row = lists[b, t].tolist()
            assert row[: len(true) + 1] == [*expected, 10]
            assert set(row[len(true) + 1 :]) <= {-1}


def test_counts_come_from_training_patients():
    cohort = random_cohort(30, seed=6)
    case = Case("leap", GREEDY)
    few, all_of_them = case.build(cohort), case.build(cohort)
    few.prepare(cohort, np.arange(5), case.context(cohort))
    all_of_them.prepare(cohort, np.arange(30), case.context(cohort))
    lengths = cohort.select(np.arange(5)).codes["medication"].lengths
    assert int(few.longest) == int(np.ceil(np.quantile(lengths, 0.95)))
    assert not torch.equal(few.rank, all_of_them.rank)
    limited = Case("leap", GREEDY | {"max_len": 2}).build(cohort)
    limited.prepare(cohort, np.arange(30), case.context(cohort))
    assert int(limited.longest) == 2
    with torch.no_grad():
        sets = limited.eval().recommend(VisitBatch.build(cohort, np.arange(30)), case.context(cohort))
    assert sets.sum(-1).max() == 2


def test_overwriting_changes_nothing_under_linear_attention_only():
    """The same weights with and without the overwritten memory, taught and writing."""
    cohort = random_cohort(12, seed=7)
    for attention, same in (("linear", True), ("additive", False)):
        outputs, losses = [], []
        for keep in (True, False):
            case = Case("leap", GREEDY | {"attention": attention, "keep_attention": keep})
            network, context = spread(case.build(cohort, seed=1)), case.context(cohort)
            logits, scored = output(network, cohort, context)
            outputs.append(logits[scored])
            batch = VisitBatch.build(cohort, np.arange(12))
            with torch.no_grad():
                losses.append(network.loss(batch, context))
        assert torch.allclose(*outputs, atol=1e-5) == same
        assert torch.allclose(*losses, atol=1e-6) == same


def test_attention_looks_at_every_diagnosis_at_every_step():
    """Also at the second step, and, when additive, in another way."""
    cohort = random_cohort(6, seed=8)
    for keep in (True, False):
        case = Case("leap", GREEDY | {"keep_attention": keep})
        network = spread(case.build(cohort)).eval()
        batch = VisitBatch.build(cohort, np.arange(6))
        with torch.no_grad():
            words = network.write(batch, batch.visit_mask).lists
            weights = network.attention(batch, batch.visit_mask, words)
        mask = (batch.codes["diagnosis"] < batch.sizes["diagnosis"])[batch.visit_mask]
        assert weights.shape == (*words.shape, mask.shape[1])
        torch.testing.assert_close(weights.sum(-1), mask.any(1).float()[:, None].expand_as(words))
        assert not weights[~mask[:, None].expand_as(weights)].any()
        moved = (weights[:, 1] - weights[:, 0])[mask.sum(1) > 1].abs().max()
        assert moved > 1e-4 if keep else moved == 0


def test_a_ceiling_on_length_is_a_ceiling_on_jaccard():
    # A true list of M, of which max_len = k are written: at best k / M.
    cohort = random_cohort(10, seed=9)
    full = np.ones((cohort.n_visits, 9), dtype=bool)
    all_given = Ragged(np.arange(cohort.n_visits + 1) * 9, np.nonzero(full)[1])
    cohort = replace(cohort, codes={**cohort.codes, "medication": all_given})
    case = Case("leap", GREEDY | {"max_len": 6})
    network = case.build(cohort).eval()
    with torch.no_grad():
        network.output.bias[10] = -100  # never ends on its own
        batch = VisitBatch.build(cohort, np.arange(10))
        sets = network.recommend(batch, case.context(cohort))[batch.visit_mask]
    assert (sets.sum(1) / 9).tolist() == pytest.approx([6 / 9] * len(sets))


def test_reasons_are_weights_of_the_diagnoses():
    cohort = random_cohort(12, seed=3)
    case = Case("leap", GREEDY)
    network, context = spread(case.build(cohort)).eval(), case.context(cohort)
    batch = VisitBatch.build(cohort, np.array([2]))
    with torch.no_grad():
        reasons, sets = network.explain(batch, context), network.recommend(batch, context)
    last = int(batch.visit_mask[0].sum()) - 1
    listed = [cohort.vocab["medication"].codes[m] for m in sets[0, last].nonzero()[:, 0].tolist()]
    assert set(reasons["medication"]) == set(listed)
    visit = cohort.visit_offsets[3] - 1
    titles = {cohort.vocab["diagnosis"].titles[i] for i in cohort.codes["diagnosis"][visit]}
    assert set(reasons["what"]) == titles
    totals = reasons.group_by("medication").agg(total="weight").get_column("total").list.sum()
    np.testing.assert_allclose(totals.to_numpy(), 1, atol=1e-6)


def test_official_is_the_four_switches_and_the_greedy_list():
    paper, official = get("leap").configure("paper"), get("leap").configure("official")
    assert official == replace(
        paper, attention="linear", keep_attention=False, order="record", writing="greedy", max_len=20
    )


def padded_loss(network, batch):
    """Teacher forcing on padded tensors, every visit going on to the end of the longest list."""
    at, d = batch.visit_mask, network.config.size
    target = network.lists(batch)[at]
    ids = batch.codes["diagnosis"][at]
    mask = ids < batch.sizes["diagnosis"]
    codes = network.codes(ids.clamp(max=batch.sizes["diagnosis"] - 1))
    written = torch.cat([torch.full_like(target[:, :1], network.start), target[:, :-1]], dim=1).clamp(min=0)
    tokens = network.tokens(written)
    state, logits, context = tokens[:, 0], [], None
    for token in tokens.unbind(1):
        if context is None or network.config.keep_attention:
            if network.config.attention == "linear":
                scores = linear_scores(state, codes, network.score.weight[0])
            else:
                scores = additive_scores(state, codes, network.inner.weight, network.score.weight[0])
            context = attend(scores, codes, mask)[1]
        state = network.cell(torch.cat([context, token], dim=-1), state)
        logits.append(network.output(state.relu()))
    assert d == state.shape[1]
    logits = torch.stack(logits, 2)
    losses = torch.nn.functional.cross_entropy(logits, target, ignore_index=-1, reduction="none")
    return (losses.sum(1) / (target >= 0).sum(1)).mean()


@pytest.mark.parametrize("settings", [{}, {"attention": "linear"}, {"keep_attention": False}, {"order": "class_code"}])
def test_a_step_is_that_of_padded_tensors(settings):
    cohort = random_cohort(12, seed=11, n_diagnoses=30)
    case = Case("leap", GREEDY | {"dropout": 0.0, **settings})
    network, context = spread(case.build(cohort)).train(), case.context(cohort)
    network.prepare(cohort, np.arange(12), context)
    batch = VisitBatch.build(cohort, np.arange(12))
    same_step(network, padded_loss(network, batch), context, batch)


def test_visits_without_diagnoses_attend_to_nothing():
    cohort = recode(random_cohort(8, seed=2), "diagnosis", lambda rows: np.zeros_like(rows), np.arange(5))
    case = Case("leap", GREEDY | {"dropout": 0.0})
    network, context = case.build(cohort).train(), case.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(8))
    same_step(network, padded_loss(network, batch), context, batch)
    nothing = recode(cohort, "diagnosis", lambda rows: np.zeros_like(rows), np.arange(cohort.n_visits))
    batch = VisitBatch.build(nothing, np.arange(8))
    network.loss(batch, context).backward()
    assert torch.isfinite(network.eval()(batch, context)).all()


def next_word(network, codes, words):
    """Probabilities of what follows the words, up to a factor."""
    state, everything = network.tokens.weight[9][None], torch.ones(codes.shape[:2], dtype=torch.bool)
    for word in (9, *words):
        scores = additive_scores(state, codes, network.inner.weight, network.score.weight[0])
        seen = attend(scores, codes, everything)[1]
        state = network.cell(torch.cat([seen, network.tokens.weight[word][None]], 1), state)
    return network.output(state.relu())[0].double().exp()


def test_the_chain_is_one_question_after_another():
    """One visit and one word at a time, the chance of each medication from what is left of the softmax."""
    cohort = random_cohort(10, seed=2)
    lengths = set()
    for order in ("class_code", "frequency"):
        case = Case("leap", {"writing": "chain", "order": order, "threshold": 0.3})
        network, context = spread(case.build(cohort)).eval(), case.context(cohort)
        network.prepare(cohort, np.arange(10), context)
        batch = VisitBatch.build(cohort, np.arange(10))
        asked = network.rank.argsort().tolist()
        with torch.no_grad():
            scores, sets = network.decide(batch, context)
            for b, t in batch.visit_mask.nonzero().tolist():
                ids = batch.codes["diagnosis"][b, t]
                codes = network.codes(ids[ids < batch.sizes["diagnosis"]])[None]
                words, found = [], {}

                for place, m in enumerate(asked):
                    p = next_word(network, codes, words)
                    found[m] = float(p[m] / (p[asked[place:]].sum() + p[10]))
                    if found[m] >= 0.3:
                        words.append(m)
                assert scores[b, t].tolist() == pytest.approx([found[m] for m in range(9)], abs=1e-5)
                assert set(sets[b, t].nonzero()[:, 0].tolist()) == set(words)
                lengths.add(len(words))
    assert len(lengths) > 2


def test_marginals_of_drawn_lists_come_near_the_exact_ones():
    """Scores are sixteenths, the same in every company, and on the mean those of all lists together."""
    cohort = random_cohort(20, seed=3, n_medications=6)
    case = Case("leap", {"writing": "samples"})
    network, context = case.build(cohort).eval(), case.context(cohort)
    with torch.no_grad():
        network.output.weight.mul_(3)
        network.output.bias[3:6] = -50
        network.output.bias[network.end] = 0.5
        batch = VisitBatch.build(cohort, np.arange(20))
        scores = network.decide(batch, context)[0][batch.visit_mask]
        assert torch.equal(scores * 16, (scores * 16).round())
        exact = torch.zeros_like(scores)
        memory = network._remember(batch, batch.visit_mask)

        def spell(word, at, mass, used):
            logits, at = network._next(torch.full_like(at.rows, word), at)
            logits[:, [network.start, *used]] = -torch.inf
            prob = logits.softmax(-1) * mass[:, None]
            for m in sorted({0, 1, 2} - set(used)):
                exact[:, m] += prob[:, m]
                spell(m, at, prob[:, m], [*used, m])

        spell(network.start, network._begin(memory), torch.ones(len(scores)), [])
    # Draws of one visit are those of the next, so that their mean has the spread of one visit's: of 16 draws, 1/8.
    assert (scores.mean(0) - exact.mean(0)).abs().max() < 3 / 8
    assert np.corrcoef(scores.flatten(), exact.flatten())[0, 1] > 0.6


def test_greedy_has_no_threshold_and_the_others_have():
    for writing, tunable in (("greedy", False), ("chain", True), ("samples", True)):
        network = Case("leap", {"writing": writing}).build(random_cohort(3))
        assert network.tunable == tunable
        assert network.own_threshold == (network.config.threshold if tunable else None)
