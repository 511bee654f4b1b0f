"""COGNet: copying, mixing and writing by hand, caches, and the route of one visit and one word at a time."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from medrec.data.batch import VisitBatch
from medrec.models import cognet
from medrec.models.cognet import (
    Attention,
    SetEncoder,
    beam_step,
    copy_weights,
    gather_copies,
    list_scores,
    log_mixture,
    visit_scores,
)
from medrec.models.registry import get
from medrec.nn.dropout import scaled_mask
from tests.models.battery import Battery, Case, output, recode, same_step
from tests.toys import random_cohort


def close(actual, expected, atol=5e-5):
    torch.testing.assert_close(actual, torch.as_tensor(expected), atol=atol, rtol=0)


# -- two modes ---------------------------------------------------------------------------------------------------------

# Earlier visits {a, b} and {a}.
TOKENS = torch.tensor([[0, 1, 0]])
TOKEN_SCORES = torch.tensor([[1.0, 0.0, 1.0]])
OF_VISIT = torch.tensor([[0.5, 0.5, 1.5]])
GENERATE = torch.tensor([0.0826, 0.0826, 0.6103, 0.2245]).log()


def copied():
    weights = copy_weights(TOKEN_SCORES, OF_VISIT, torch.ones(1, 3, dtype=torch.bool))
    return gather_copies(weights[:, None], TOKENS, 3)[0, 0]


def test_a_medication_given_twice_adds_up():
    close(copied(), [0.9100, 0.0900, 0.0])


@pytest.mark.parametrize("slots", [[0.0, 0.5, 1.5], [0.5, 1.5]])
def test_one_softmax_is_the_two_of_released_code(slots):
    """One over medications, one over visits with or without the slot of no visit, multiplied and normalised."""
    visits = torch.tensor(slots).softmax(0)
    if len(slots) == 3:
        close(visits, [0.1402, 0.2312, 0.6285])
    both = TOKEN_SCORES[0].softmax(0) * visits[[-2, -2, -1]]
    by_token = both / both.sum()
    close(torch.stack([by_token[0] + by_token[2], by_token[1], torch.tensor(0.0)]), copied(), 1e-6)


@pytest.mark.parametrize(
    ("gate", "expected"),
    [(0.25, [0.7031, 0.0882, 0.1526, 0.0561]), (0.75, [0.2894, 0.0845, 0.4577, 0.1684])],
)
def test_mixture_of_the_two_modes(gate, expected):
    logit, past = torch.tensor(gate).logit(), torch.tensor(True)
    prob = log_mixture(GENERATE, copied(), logit, past).exp()
    close(prob, expected, 1e-4)
    assert prob[3] <= gate
    close(log_mixture(GENERATE, copied(), logit, ~past).exp(), GENERATE.exp(), 1e-4)


def test_the_newcomer_beats_the_copy_from_a_gate_of_633():
    prob = [log_mixture(GENERATE, copied(), torch.tensor(g).logit(), torch.tensor(True)) for g in (0.632, 0.634)]
    assert prob[0][0] > prob[0][2]
    assert prob[1][0] < prob[1][2]


def test_nothing_can_be_copied_where_nothing_is():
    scores = torch.zeros(1, 3, requires_grad=True)
    weights = copy_weights(scores, OF_VISIT, torch.zeros(1, 3, dtype=torch.bool))
    assert not weights.any()
    generate = torch.zeros(1, 1, 4, requires_grad=True)
    mixed = log_mixture(generate, gather_copies(weights[:, None], TOKENS, 3), torch.zeros(1, 1), torch.tensor([[True]]))
    # Half of it is copied from nowhere; still every gradient is a number.
    for gradient in torch.autograd.grad(mixed.sum(), [scores, generate]):
        assert torch.isfinite(gradient).all()


def test_visits_by_hand():
    d, p = torch.tensor([[[1.0, 0], [0, 2], [1, 1]]]), torch.tensor([[[0.0, 0], [1, 0], [1, 0]]])
    root = 2**0.5
    close(visit_scores(d, p)[0, 2], [1 / root, 3 / root, 3 / root])


# -- lists and sets ----------------------------------------------------------------------------------------------------

FREE = {"ab": 0.18, "ba": 0.18, "a": 0.12, "b": 0.12, "c": 0.25, "ca": 0.07, "cb": 0.03, "": 0.05}
NAMES = "abc"


def pooled(lists):
    """The same sets, each written in alphabetical order."""
    sets = {}
    for written, p in lists.items():
        key = "".join(sorted(written))
        sets[key] = sets.get(key, 0) + p
    return sets


def next_word(lists, written):
    """Probability of a, b, c and the end after ``written``; none where nothing begins so."""
    mass = [sum(p for k, p in lists.items() if k.startswith(written + m)) for m in NAMES] + [lists.get(written, 0)]
    total = sum(mass)
    return [x / total if total else 0.25 for x in mass]


def search(lists, beam):
    total = torch.tensor([[0.0] + [-torch.inf] * (beam - 1)])
    beams, used, ended = [""] * beam, torch.zeros(1, beam, 3, dtype=torch.bool), torch.zeros(1, beam, dtype=torch.bool)
    for _ in range(4):
        log_prob = torch.tensor([[next_word(lists, b) for b in beams]]).log()
        total, origin, word = beam_step(total, log_prob, used, ended)
        before = [bool(ended[0, o]) for o in origin[0]]
        beams = [
            beams[o] + ("" if over or w == 3 else NAMES[w])
            for o, w, over in zip(origin[0].tolist(), word[0].tolist(), before, strict=True)
        ]
        ended = torch.tensor([[over or w == 3 for over, w in zip(before, word[0].tolist(), strict=True)]])
        used = torch.tensor([[[m in b for m in NAMES] for b in beams]])
    return beams[0], float(total[0, 0].exp())


def expected_jaccard(chosen):
    return sum(
        p * (len(set(chosen) & set(k)) / len(set(chosen) | set(k)) if set(chosen) | set(k) else 1)
        for k, p in FREE.items()
    )


@pytest.mark.parametrize("beam", [1, 2, 4, 8])
def test_the_best_list_is_not_the_best_set(beam):
    written, p = search(FREE, beam)
    # Two lists begin with c and one of them goes on: greedy finds the same one.
    assert (written, p) == ("c", pytest.approx(0.25))
    assert max(pooled(FREE), key=pooled(FREE).get) == "ab"
    assert pooled(FREE)["ab"] == pytest.approx(0.36)
    assert expected_jaccard("ab") == pytest.approx(0.5133, abs=5e-5)
    assert expected_jaccard("c") == pytest.approx(0.30)


@pytest.mark.parametrize("beam", [1, 2, 4])
def test_a_fixed_order_pools_the_mass_of_a_set(beam):
    fixed = pooled(FREE)
    assert next_word(fixed, "")[0] == pytest.approx(0.55)
    assert next_word(fixed, "a")[1] == pytest.approx(0.6545, abs=5e-5)
    assert search(fixed, beam) == ("ab", pytest.approx(0.36))


def test_a_wider_beam_finds_what_greed_misses():
    lists = {"a": 0.3, "ab": 0.25, "c": 0.44, "": 0.01}
    assert search(lists, 1) == ("a", pytest.approx(0.3))
    assert search(lists, 2) == ("c", pytest.approx(0.44))


def test_a_word_on_the_list_is_not_written_again_and_an_ended_list_stays():
    log_prob = torch.tensor([[[0.7, 0.1, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1]]]).log()
    used = torch.tensor([[[True, False, False], [False, False, True]]])
    total, origin, word = beam_step(torch.tensor([[-1.0, -0.5]]), log_prob, used, torch.tensor([[False, True]]))
    assert (origin.tolist(), word.tolist()) == ([[1, 0]], [[3, 1]])
    close(total, [[-0.5, -1 + float(np.log(0.1))]])


def test_scores_of_a_list():
    prob = torch.tensor([[[0.5, 0.3, 0.1, 0.1], [0.6, 0.2, 0.15, 0.05], [0.1, 0.1, 0.7, 0.1]]])
    lists = torch.tensor([[0, 3], [3, -1], [1, 0]])
    # Of the first list its one step counts, of the empty one the end sign's, of the last two steps, not the third.
    close(list_scores(prob.log().expand(3, -1, -1), lists), [[0.5, 0.3, 0.1], [0.5, 0.3, 0.1], [0.6, 0.3, 0.15]])


# -- layers ------------------------------------------------------------------------------------------------------------


def test_layers_equal_the_library_s():
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(8, 2, 32, dropout=0.0, batch_first=True)
    ours = SetEncoder(8, 2, 32, 0.0)
    with torch.no_grad():
        for own, other in (
            (ours.attention.project.weight, theirs.self_attn.in_proj_weight),
            (ours.attention.project.bias, theirs.self_attn.in_proj_bias.normal_()),
            (ours.attention.output.weight, theirs.self_attn.out_proj.weight),
            (ours.attention.output.bias, theirs.self_attn.out_proj.bias),
            (ours.first.weight, theirs.linear1.weight),
            (ours.first.bias, theirs.linear1.bias),
            (ours.second.weight, theirs.linear2.weight),
            (ours.second.bias, theirs.linear2.bias),
        ):
            own.copy_(other)
        x, mask = torch.randn(3, 5, 8), torch.arange(5) < torch.tensor([[5], [2], [1]])
        torch.testing.assert_close(ours(x, mask), theirs(x, src_key_padding_mask=~mask)[mask], atol=1e-5, rtol=1e-5)


def test_attention_starts_as_the_library_s():
    torch.manual_seed(1)
    theirs = nn.MultiheadAttention(64, 2)
    ours = Attention(64, 2, 0.0)
    with torch.no_grad():
        assert float(ours.project.weight.std()) == pytest.approx(float(theirs.in_proj_weight.std()), rel=0.05)
        assert float(ours.output.weight.std()) == pytest.approx(float(theirs.out_proj.weight.std()), rel=0.05)
        assert not ours.project.bias.any()


# -- the network -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared(Case):
    """With the graph and the counts of the cohort it is built for."""

    def build(self, cohort, seed=0, **settings):
        network = super().build(cohort, seed, **settings)
        network.prepare(cohort, np.arange(cohort.n_patients), self.context(cohort))
        return network


def words(network, batch):
    """All that is written, end signs among it: what the loss is a mean over."""
    return float(batch.target.sum() + batch.visit_mask.sum())


def case(**settings):
    # Interactions enter through the memory, which the teacher uses too.
    small = {"size": 16, "feedforward": 32, "layer_dropout": 0.0, "memory_dropout": 0.0}
    return Prepared("cognet", {**small, **settings}, uses_ddi_in_loss=True, uses_ddi_in_output=True, weight=words)


class TestPaper(Battery):
    case = case()


class TestOfficial(Battery):
    # Of the words on the list little reaches the decoder.
    case = replace(case(ehr_from="all", rare_first_from="all", lambda_init="garbage"), overfits=0.8)


class TestMostFrequentFirst(Battery):
    case = case(order="frequency")


class TestAsRecorded(Battery):
    case = case(order="record")


class TestGreedy(Battery):
    case = case(writing="greedy")


class TestChain(Battery):
    case = case(writing="chain", order="class_code")


class TestSamples(Battery):
    case = case(writing="samples", order="class_code")


def spread(network, seed=0):
    """Weights so large that lists differ between visits, and end on their own."""
    torch.manual_seed(seed)
    with torch.no_grad():
        network.generate.weight.mul_(6)
        network.gate.weight.mul_(3)
        network.copy.weight.mul_(3)
    return network.eval()


def one_at_a_time(network, cohort, context, b, t, batch):
    """Released code's route for one visit, with the library's attention: yields P of the next word, is sent it."""
    d, config = network.config.size, network.config

    def attention(module, x, memory):
        theirs = nn.MultiheadAttention(d, config.n_heads, batch_first=True)
        theirs.in_proj_weight, theirs.in_proj_bias = module.project.weight, module.project.bias
        theirs.out_proj = module.output
        if not len(memory):
            return module.output.bias.expand(len(x), -1)
        return theirs.eval()(x[None], memory[None], memory[None], need_weights=False)[0][0]

    def encode(kind, ids):
        table = network.tokens if kind == "medication" else network.codes[kind]
        x, layer = table.weight[ids], network.encoders[kind]
        if not len(ids):
            return x
        x = layer.norms[0](x + attention(layer.attention, x, x))
        return layer.norms[1](x + layer.second(layer.first(x).relu()))

    def codes(kind, j):
        return torch.from_numpy(cohort.codes[kind][int(batch.visits[b, j])]).long()

    def visit(j):
        vectors = []
        for kind in ("diagnosis", "procedure"):
            h = encode(kind, codes(kind, j))
            w = network.pools[kind].score(h)[:, 0].softmax(0)
            vectors.append(w @ h if len(h) else torch.zeros(d))
        return vectors

    def graph(adjacency):
        joined = adjacency.float() + torch.eye(len(adjacency))
        return joined / joined.sum(1, keepdim=True)

    memory, ehr, ddi = network.memory, graph(network.ehr), graph(context.ddi)
    bank = (ehr @ (ehr @ memory.nodes + memory.bias).relu()) @ memory.ehr.weight.T + memory.ehr.bias
    bank = bank - memory.ddi_share * (
        (ddi @ (ddi @ memory.nodes + memory.bias).relu()) @ memory.ddi.weight.T + memory.ddi.bias
    )
    bank = torch.cat([bank, torch.zeros(2, d)])
    now = visit(t)
    # Slot j holds visit j - 1; the first is empty.
    slots = [0.0, *(sum(x @ y for x, y in zip(now, visit(j), strict=True)) / d**0.5 for j in range(t))]
    visits = torch.tensor(slots).softmax(0)
    past_ids = [codes("medication", j) for j in range(t)]
    past = [encode("medication", ids) for ids in past_ids]
    read = {kind: encode(kind, codes(kind, t)) for kind in ("diagnosis", "procedure")}
    layer, written, M = network.decoder, [network.start], network.n_medications
    while True:
        x = network.tokens.weight[written] + bank[written]
        # Only the last word is needed, and it may look at all before it.
        x = layer.norms[0](x[-1:] + attention(layer.own, x[-1:], x))
        x = layer.norms[1](x + sum(attention(layer.codes[kind], x, read[kind]) for kind in read))
        h = layer.norms[2](x + layer.second(layer.first(x).relu()))[0]
        prob = network.generate(h).softmax(0)
        if t:
            scores = torch.cat(past) @ network.copy(h) / d**0.5
            of_visit = torch.cat([visits[j + 1].expand(len(past_ids[j])) for j in range(t)])
            shares = scores.softmax(0) * of_visit
            shares = shares / shares.sum()
            copied = torch.zeros(M + 1)
            for i, m in enumerate(torch.cat(past_ids).tolist()):
                copied[m] += shares[i]
            g = network.gate(h).sigmoid()
            prob = g * prob + (1 - g) * copied
        written.append((yield prob))


@pytest.mark.parametrize(
    "settings",
    [
        {"order": "rare_first", "writing": "beam"},
        {"writing": "beam", "beam": 1},
        {},
        {"order": "record", "writing": "beam", "max_len": 3},
    ],
)
def test_batched_equals_one_word_of_one_visit_at_a_time(settings):
    cohort = random_cohort(4, seed=2)
    system = case(**settings)
    network, context = spread(system.build(cohort)), system.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(4))
    M, beam, rank = 9, network.config.beam if network.config.writing == "beam" else 1, network.rank.tolist()

    def say(b, t, words):
        decoder = one_at_a_time(network, cohort, context, b, t, batch)
        steps = [next(decoder)]
        for m in words:
            steps.append(decoder.send(m))
        return torch.stack(steps)

    lengths, losses, copies = set(), [], 0
    with torch.no_grad():
        scores, sets = network.decide(batch, context)
        logits = network(batch, context)
        for b, t in batch.visit_mask.nonzero().tolist():
            # Writing: every list anew at every step.
            beams = [((), 0.0, False)]
            for _ in range(min(network.config.max_len, M)):
                found = []
                for words, total, over in beams:
                    if over:
                        found.append((words, total, True))
                        continue
                    log_prob = say(b, t, words)[-1].log().tolist()
                    found += [
                        ((*words, m) if m < M else words, total + log_prob[m], m == M)
                        for m in range(M + 1)
                        if m not in words
                    ]
                beams = sorted(found, key=lambda x: -x[1])[:beam]
                if all(over for *_, over in beams):
                    break
            words = beams[0][0]
            assert sets[b, t].nonzero()[:, 0].tolist() == sorted(words)
            lengths.add(len(words))
            said = say(b, t, words)
            expected = said[: max(len(words), 1), :M].amax(0)
            for k, m in enumerate(words):
                expected[m] = said[k, m]
            torch.testing.assert_close(scores[b, t], expected, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(logits[b, t].sigmoid(), expected.clamp(1e-6, 1 - 1e-6), atol=1e-5, rtol=1e-4)
            copies += t > 0
            # Being taught.
            true = [int(m) for m in cohort.codes["medication"][int(batch.visits[b, t])]]
            if network.config.order != "record":
                true.sort(key=lambda m: rank[m])
            taught = say(b, t, true)
            losses += [-taught[k, m].log() for k, m in enumerate([*true, M])]
        loss = network.loss(batch, context)
        torch.testing.assert_close(loss, torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)
    assert copies
    assert len(lengths) > 1


def test_kept_keys_and_values_equal_reading_the_list_again():
    cohort = random_cohort(12, seed=3)
    system = case(beam=1)
    network, context = spread(system.build(cohort)), system.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(12))
    with torch.no_grad():
        memory = network.remember(batch, context)
        written = network.write(memory)
        said = network.read(torch.nn.functional.pad(written, (0, 1), value=-1), memory).log_prob
    M = 9
    for row, words in enumerate(written.tolist()):
        used = []
        for step, word in enumerate(words):
            if word < 0:
                break
            allowed = said[row, step].clone()
            allowed[used] = -torch.inf
            assert int(allowed.argmax()) == word
            used.append(word)
        assert len(used) == len(set(used))
        assert used[-1] == M or len(used) == M
    # Weights that were learnt on the way would be seen here: the same list, one word more at a time.
    with torch.no_grad():
        for k in range(1, written.shape[1] + 1):
            torch.testing.assert_close(network.read(written[:, :k], memory).log_prob, said[:, :k])


def test_a_wider_beam_finds_lists_at_least_as_probable():
    cohort = random_cohort(30, seed=4)
    totals = {}
    for beam in (1, 8):
        system = case(writing="beam", beam=beam)
        network, context = spread(system.build(cohort)), system.context(cohort)
        batch = VisitBatch.build(cohort, np.arange(30))
        with torch.no_grad():
            memory = network.remember(batch, context)
            written = network.write(memory)
            said = network.read(written, memory).log_prob
        chosen = said.gather(2, written.clamp(min=0)[..., None])[..., 0]
        totals[beam] = (chosen * (written >= 0)).sum(1)
    assert totals[8].mean() > totals[1].mean() + 1e-3


def test_the_end_is_not_counted():
    cohort = random_cohort(20, seed=4)
    system = case()
    network, context = spread(system.build(cohort)), system.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(20))
    with torch.no_grad():
        written = network.write(network.remember(batch, context))
        sets = network.recommend(batch, context)[batch.visit_mask]
    ended = (written == network.end).any(1)
    assert ended.any()
    words = (written >= 0).sum(1)
    assert torch.equal(sets.sum(1), words - ended.long())


def test_lists_are_no_longer_than_allowed():
    cohort = random_cohort(20, seed=4)
    system = case(max_len=2)
    network = system.build(cohort).eval()
    with torch.no_grad():
        network.generate.bias[9] = -100
        network.gate.bias.fill_(100)
        sets = network.recommend(VisitBatch.build(cohort, np.arange(20)), system.context(cohort))
    assert sets.sum(-1).max() == 2


AS_IDS = (("record", np.zeros(9)), ("class_code", np.arange(9)))


def test_true_lists_in_each_order():
    cohort = random_cohort(30, seed=5)
    counts = cohort.codes["medication"].multi_hot(9).sum(0)
    batch = VisitBatch.build(cohort, np.arange(30))
    for order, key in (
        ("rare_first", counts),
        ("frequency", -counts),
        ("record", np.zeros(9)),
        ("class_code", np.arange(9)),
    ):
        lists = case(order=order).build(cohort).lists(batch)
        for row, visit in zip(lists.tolist(), batch.visits[batch.visit_mask].tolist(), strict=True):
            true = cohort.codes["medication"][visit].tolist()
            expected = (
                sorted(true, key=lambda m: key[m]) if order == "record" else sorted(true, key=lambda m: (key[m], m))
            )
            assert row[: len(true) + 1] == [*expected, 9]
            assert set(row[len(true) + 1 :]) <= {-1}


@pytest.mark.parametrize(("switch", "buffer"), [("ehr_from", "ehr"), ("rare_first_from", "rank")])
def test_what_is_counted_is_counted_in_training_patients_unless_it_leaks(switch, buffer):
    cohort, one = random_cohort(60, seed=5, n_medications=30, max_visits=1), np.arange(1)
    found = {}
    for source in ("train", "all"):
        system = Case("cognet", {"order": "rare_first", switch: source})
        network = system.build(cohort)
        network.prepare(cohort, one, system.context(cohort))
        found[source] = network
    sorted_by_count = Case("cognet", {"order": "rare_first"})
    few = sorted_by_count.build(cohort)
    few.prepare(cohort.select(one), one, sorted_by_count.context(cohort))
    assert torch.equal(getattr(found["train"], buffer), getattr(few, buffer))
    assert not torch.equal(getattr(found["all"], buffer), getattr(few, buffer))
    (other,) = {"ehr", "rank"} - {buffer}
    assert torch.equal(getattr(found["all"], other), getattr(few, other))


def test_an_unset_lambda_drowns_the_words():
    """What reaches the decoder is then the interaction graph alone; with a small one words differ."""
    cohort = random_cohort(4, seed=6)
    for init, drowned in (("uniform", False), ("garbage", True)):
        system = case(lambda_init=init)
        network, context = system.build(cohort).eval(), system.context(cohort)
        again = system.build(cohort)
        assert torch.equal(network.memory.ddi_share, again.memory.ddi_share)
        with torch.no_grad():
            bank = network.memory(network.ehr, context.ddi)
            assert torch.isfinite(bank).all()
            assert bool(bank.norm() > 1e4 * network.tokens.weight.norm()) == drowned


def test_a_first_visit_copies_nothing_and_later_ones_do():
    cohort = random_cohort(20, seed=7)
    system = case()
    network, context = spread(system.build(cohort)), system.context(cohort)
    before, scored = output(network, cohort, context)
    with torch.no_grad():
        network.gate.bias.fill_(-50)
    only_copies, _ = output(network, cohort, context)
    torch.testing.assert_close(before[:, 0][scored[:, 0]], only_copies[:, 0][scored[:, 0]])
    batch = VisitBatch.build(cohort, np.arange(20))
    earlier = batch.target.cumsum(1) - batch.target.long()
    with torch.no_grad():
        sets = network.recommend(batch, context)
    later = batch.visit_mask.clone()
    later[:, 0] = False
    # The end cannot be copied either: the whole past is written before anything else is.
    assert not (~sets & (earlier > 0))[later].any()
    assert not sets[:, 0][scored[:, 0]].all()


def test_memory_of_medications_is_alive():
    cohort = random_cohort(20, seed=3)
    system = case()
    network, context = spread(system.build(cohort)), system.context(cohort)
    before, scored = output(network, cohort, context)
    later = scored.clone()
    later[:, 0] = False
    earlier = np.setdiff1d(np.arange(cohort.n_visits), cohort.visit_offsets[1:] - 1)
    other, _ = output(network, recode(cohort, "medication", lambda rows: np.roll(rows, 1, 1), earlier), context)
    assert (other - before)[later].abs().max() > 1e-3
    torch.testing.assert_close(other[:, 0], before[:, 0])
    network.ehr.zero_()
    assert (output(network, cohort, context)[0] - before)[scored].abs().max() > 1e-5


def test_the_loss_is_teacher_forced_in_both_modes():
    cohort = random_cohort(8, seed=2)
    system = case(dropout=0.0)
    network, context = system.build(cohort), system.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(8))
    with torch.no_grad():
        training, evaluation = network.train().loss(batch, context), network.eval().loss(batch, context)
    torch.testing.assert_close(training, evaluation)


def test_no_procedures_at_all():
    """As in records that know none."""
    cohort = random_cohort(8, seed=2, n_procedures=6)
    cohort = recode(cohort, "procedure", lambda rows: np.zeros_like(rows), np.arange(cohort.n_visits))
    system = case()
    network, context = system.build(cohort).train(), system.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(8))
    network.loss(batch, context).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    assert torch.isfinite(output(network, cohort, context)[0]).all()


def test_reasons_add_up():
    cohort = random_cohort(30, seed=9)
    system = case()
    network, context = spread(system.build(cohort)), system.context(cohort)
    patient = int(np.flatnonzero(np.diff(cohort.visit_offsets) >= 3)[0])
    batch = VisitBatch.build(cohort, np.array([patient]))
    with torch.no_grad():
        reasons, sets = network.explain(batch, context), network.recommend(batch, context)
    last = int(batch.visit_mask[0].sum()) - 1
    codes = cohort.vocab["medication"].codes
    assert set(reasons["medication"]) == {codes[m] for m in sets[0, last].nonzero()[:, 0].tolist()}
    total = reasons.group_by("medication").agg(total="weight").get_column("total").list.sum()
    np.testing.assert_allclose(total.to_numpy(), 1, atol=1e-5)
    assert (reasons["weight"].to_numpy() > -1e-5).all()
    for code, kind, what, _ in reasons.iter_rows():
        if kind == "copied":
            visit = int(what.split()[1]) - 1
            assert batch.target[0, visit, codes.index(code)]
    assert "copied" in set(reasons["kind"])
    alone = VisitBatch.build(cohort, np.flatnonzero(np.diff(cohort.visit_offsets) == 1)[:1])
    assert set(network.explain(alone, context)["kind"]) <= {"generated"}


def test_official_is_three_switches_and_the_released_way_of_writing():
    paper, official = get("cognet").configure("paper"), get("cognet").configure("official")
    switches = {"ehr_from": "all", "rare_first_from": "all", "lambda_init": "garbage"}
    assert official == replace(paper, **switches, order="rare_first", writing="beam")


def test_a_step_is_that_of_the_whole_vocabulary(monkeypatch):
    """All words of all lists at once, padded, with the wide layers in one piece."""
    cohort = random_cohort(24, seed=11)
    system = case(dropout=0.0)
    network, context = spread(system.build(cohort)).train(), system.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(24))

    def plain(x, w1, b1, w2, b2, p):
        return nn.functional.linear(nn.functional.linear(x, w1, b1).relu(), w2, b2)

    with monkeypatch.context() as patched:
        patched.setattr(cognet._Wide, "apply", plain)
        target = network.lists(batch)
        log_prob = network.read(target, network.remember(batch, context)).log_prob
        slow = nn.functional.nll_loss(log_prob.transpose(1, 2), target, ignore_index=-1)
    monkeypatch.setattr(cognet, "GROUP", 5)
    monkeypatch.setattr(cognet, "BLOCK", 7)
    same_step(network, slow, context, batch)


def test_dropout_between_the_wide_layers():
    """What is kept is scaled up, and its gradient with it."""
    torch.manual_seed(0)
    weights = [torch.randn(*shape, dtype=torch.double) for shape in ((40, 3), (40,), (3, 40), (3,))]
    weights = [w.requires_grad_() for w in weights]
    x = torch.randn(300, 3, dtype=torch.double, requires_grad=True)
    inputs = (x, *weights)
    state = torch.get_rng_state()
    found = cognet._Wide.apply(*inputs, 0.4)
    torch.set_rng_state(state)
    masks = torch.cat([scaled_mask((len(block), 40), 0.4, x) for block in x.split(cognet.BLOCK)])
    w1, b1, w2, b2 = weights
    expected = (masks * (x @ w1.T + b1).relu()) @ w2.T + b2
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    for got, want in zip(
        torch.autograd.grad((found * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


def test_the_chain_is_one_question_after_another():
    """The lists so far are read anew for each question; chances from what is left of the probabilities."""
    cohort = random_cohort(10, seed=2)
    system = case(writing="chain", order="class_code", threshold=0.3)
    network, context = spread(system.build(cohort)), system.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(10))
    with torch.no_grad():
        scores, sets = (x[batch.visit_mask] for x in network.decide(batch, context))
        memory = network.remember(batch, context)
        words = [[] for _ in scores]
        for m in range(9):
            lists = torch.full((len(words), 10), -1)
            for row, listed in zip(lists, words, strict=True):
                row[: len(listed)] = torch.tensor(listed, dtype=torch.long)
            prob = network.read(lists, memory).log_prob.double().exp()
            for n, listed in enumerate(words):
                p = prob[n, len(listed)]
                chance = float(p[m] / p[m:].sum())
                assert float(scores[n, m]) == pytest.approx(chance, abs=1e-5)
                if chance >= 0.3:
                    listed.append(m)
    assert [row.nonzero()[:, 0].tolist() for row in sets] == words
    assert len({len(listed) for listed in words}) > 2
    with torch.no_grad():
        assert torch.equal(network.sets(network.write(memory)), sets)


def test_drawn_lists_are_drawn_from_the_probabilities_of_the_first_word():
    """With an end that nearly always follows, a score is the share of draws of one word."""
    cohort = random_cohort(60, seed=3)
    system = case(writing="samples")
    network, context = system.build(cohort).eval(), system.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(60))
    with torch.no_grad():
        memory = network.remember(batch, context)
        first = network.read(torch.full((len(memory.past), 1), -1), memory).log_prob[:, 0].exp()
        scores = network.decide(batch, context)[0][batch.visit_mask]
    assert torch.equal(scores * 16, (scores * 16).round())
    assert (scores.mean(0) >= first[:, :9].mean(0) - 0.15).all()
    assert scores.max() <= 1


def test_which_ways_of_writing_have_a_threshold():
    for writing, tunable in (("beam", False), ("greedy", False), ("chain", True), ("samples", True)):
        assert case(writing=writing).build(random_cohort(3)).tunable == tunable
