"""DrugRec: coordination and losses by hand, text, batched against one visit at a time."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from medrec.data.batch import VisitBatch
from medrec.data.cohort import Vocabulary
from medrec.models.drugrec import (
    END,
    START,
    Tokenizer,
    _first_token,
    causal_loss,
    coordinate,
    independent_set,
    pair_loss,
    visit_number_ddi_rate,
    visit_texts,
)
from tests.models.battery import Battery, Case, output
from tests.toys import random_cohort


def close(actual, expected):
    torch.testing.assert_close(actual, torch.as_tensor(expected), atol=5e-5, rtol=0)


# -- coordination --------------------------------------------------------------------------------------------------


def graph(n, *pairs):
    conflicts = torch.zeros(n, n, dtype=torch.bool)
    for i, j in pairs:
        conflicts[i, j] = conflicts[j, i] = True
    return conflicts


CHAIN = ([0.9, 0.8, 0.7], graph(3, (0, 1), (1, 2)))
STAR = ([0.9, 0.8, 0.8, 0.8], graph(4, (0, 1), (0, 2), (0, 3)))
WEAK_STAR = ([0.9, 0.55, 0.55], graph(3, (0, 1), (0, 2)))
PATH = ([0.6, 0.9, 0.85, 0.7], graph(4, (0, 1), (1, 2), (2, 3)))


@pytest.mark.parametrize(
    ("toy", "official", "greedy", "exact", "by_odds"),
    [
        (CHAIN, [0], [0, 2], [0, 2], [0, 2]),
        (STAR, [0], [0], [1, 2, 3], [1, 2, 3]),
        (WEAK_STAR, [0], [0], [1, 2], [0]),
        (PATH, [1], [1, 3], [1, 3], [1, 3]),
    ],
)
def test_four_graphs(toy, official, greedy, exact, by_odds):
    prob, conflicts = torch.tensor([toy[0]]), toy[1]
    everything = torch.ones_like(prob, dtype=torch.bool)
    for rule, expected in (("official", official), ("greedy", greedy), ("exact", exact)):
        assert coordinate(everything, prob, conflicts, rule)[0].nonzero()[:, 0].tolist() == expected
    assert coordinate(everything, prob, conflicts, "none").all()
    odds = np.log(prob[0].numpy() / (1 - prob[0].numpy()))
    assert np.flatnonzero(independent_set(odds, conflicts.numpy())).tolist() == by_odds


def random_lists(n=200, M=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    conflicts = torch.rand(M, M, generator=generator) < 0.3
    conflicts = conflicts.triu(1) | conflicts.triu(1).T
    prob = torch.rand(n, M, generator=generator)
    return prob >= 0.2, prob, conflicts


def one_by_one(chosen, prob, conflicts, rule):
    """The rules in plain words, for one list."""
    kept = set(chosen)
    while True:
        troubled = [m for m in kept if any(conflicts[m, o] for o in kept)]
        if not troubled:
            return kept
        if rule == "official":
            kept.remove(min(troubled, key=lambda m: prob[m]))
        else:
            best = max(troubled, key=lambda m: prob[m])
            kept -= {o for o in kept if conflicts[best, o]}


def test_rules_on_random_lists():
    chosen, prob, conflicts = random_lists()
    kept = {rule: coordinate(chosen, prob, conflicts, rule) for rule in ("official", "greedy", "exact")}
    for sets in kept.values():
        assert not (sets & ~chosen).any()
        assert not (torch.einsum("ni,ij,nj->n", sets.float(), conflicts.float(), sets.float())).any()
    for v in range(len(chosen)):
        before = chosen[v].nonzero()[:, 0].tolist()
        for rule in ("official", "greedy"):
            assert set(kept[rule][v].nonzero()[:, 0].tolist()) == one_by_one(before, prob[v], conflicts, rule)
        candidates = [
            sum(float(prob[v, m]) for m in subset)
            for size in range(len(before) + 1)
            for subset in itertools.combinations(before, size)
            if not any(conflicts[a, b] for a, b in itertools.combinations(subset, 2))
        ]
        assert float(prob[v][kept["exact"][v]].sum()) == pytest.approx(max(candidates), abs=1e-5)
    # Greedy keeps a maximal set: whatever it left out conflicts with something it kept.
    left_out = chosen & ~kept["greedy"]
    assert ((kept["greedy"].float() @ conflicts.float() > 0) | ~left_out).all()
    assert kept["official"].sum() < kept["greedy"].sum() <= kept["exact"].sum() + len(chosen)


# -- losses --------------------------------------------------------------------------------------------------------

PROB = torch.tensor([[0.1, 0.8, 0.2, 0.9]])
TARGET = torch.tensor([[False, True, False, True]])


def test_pair_targets_by_hand():
    close(pair_loss(PROB, TARGET), [0.1499])
    close(pair_loss(PROB, TARGET, "positions"), [0.7143])


def test_renamed_medications_have_renamed_targets():
    order = torch.tensor([3, 0, 2, 1])
    close(pair_loss(PROB[:, order], TARGET[:, order]), pair_loss(PROB, TARGET))
    mutant = pair_loss(PROB[:, order], TARGET[:, order], "positions") - pair_loss(PROB, TARGET, "positions")
    assert mutant.abs() > 0.01
    # Any two lists of equal length have the same coded targets.
    other = torch.tensor([[True, True, False, False]])
    close(pair_loss(PROB, other, "positions"), pair_loss(PROB, TARGET, "positions"))
    assert (pair_loss(PROB, other) - pair_loss(PROB, TARGET)).abs() > 0.1


def test_causal_loss_by_hand():
    p, without = torch.tensor([[0.7]]), torch.tensor([[0.6]])
    close(causal_loss(p, without, torch.tensor([[True]])), [0.6444])
    close(causal_loss(p, without, torch.tensor([[False]])), [0.7444])
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    close(causal_loss(one, zero, torch.tensor([[True]])), [0.3133])
    close(causal_loss(one, zero, torch.tensor([[False]])), [1.3133])


def test_coded_ddi_test_looks_at_visit_numbers():
    recommended = torch.zeros(1, 3, 5, dtype=torch.bool)
    recommended[0, 0, [2, 3]] = True
    recommended[0, 1, [2, 3, 4]] = True
    mask = torch.tensor([[True, True, False]])
    # Five numbers 0, 0, 1, 1, 1: ten pairs, six of a 0 and a 1.
    close(visit_number_ddi_rate(recommended, graph(5, (0, 1)), mask), [[0.6] * 3])
    # What is recommended does interact, and goes unseen.
    close(visit_number_ddi_rate(recommended, graph(5, (2, 3)), mask), [[0.0] * 3])


# -- text ----------------------------------------------------------------------------------------------------------


def vocabulary(kind, *titles):
    return Vocabulary(kind, tuple(f"{kind}{i}" for i in range(len(titles))), titles)


def test_titles_become_numbers_of_words():
    diagnoses = vocabulary("diagnosis", "Heart failure, acute", "Fever")
    tokenizer = Tokenizer(diagnoses, vocabulary("procedure", "Heart surgery"))
    assert list(tokenizer.index) == ["acute", "failure", "fever", "heart", "surgery"]
    assert len(tokenizer) == 8
    assert tokenizer.table(diagnoses).tolist() == [[6, 4, 3, END], [5, END, 0, 0]]


def test_the_last_layer_answers_for_the_first_token_only():
    network = case().build(random_cohort(10, seed=0)).eval()
    encoder = network.record_encoder
    x, padding = torch.randn(3, 6, 64), torch.tensor([[False] * 6, [False] * 4 + [True] * 2, [False] + [True] * 5])
    with torch.no_grad():
        whole = encoder.layers[-1](x, src_key_padding_mask=padding)[:, 0]
        torch.testing.assert_close(_first_token(encoder.layers[-1], x, padding), whole, atol=1e-6, rtol=1e-5)


def test_text_of_a_visit():
    table = torch.tensor([[7, 5, END], [6, END, 0], [8, END, 0]])
    lengths = (table != 0).sum(1)
    tokens, position, segment = visit_texts(torch.tensor([[0, 2, 3], [1, 3, 3], [3, 3, 3]]), table, lengths)
    assert tokens.tolist() == [[START, 7, 5, END, 8, END], [START, 6, END, 0, 0, 0], [START, 0, 0, 0, 0, 0]]
    assert position.tolist() == [[0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 0, 0], [0] * 6]
    assert segment.tolist() == [[0, 0, 0, 0, 1, 1], [0] * 6, [0] * 6]


# -- the network ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared(Case):
    """With counts of the cohort it is built for; without them no pair is frequent, and true lists are repaired too."""

    def build(self, cohort, seed=0, **settings):
        network = super().build(cohort, seed, **settings)
        network.prepare(cohort, np.arange(cohort.n_patients), self.context(cohort))
        return network


def case(seen=("diagnosis", "procedure"), kind=Case, overfits=0.95, **settings):
    return kind(
        "drugrec",
        settings,
        sees_past=seen,
        sees_now=seen,
        uses_ddi_in_loss=True,
        n_symptoms=5 if "symptom" in seen else 0,
        overfits=overfits,
        learning_rate=3e-3,  # a Transformer does not bear the battery's own
    )


WITH_SYMPTOMS = ("diagnosis", "procedure", "symptom")


class TestPaper(Battery):
    case = case(WITH_SYMPTOMS, Prepared)


class TestWithoutSymptoms(Battery):
    case = case(kind=Prepared)


class TestOfficial(Battery):
    # Pairs of list positions contradict the other targets, and keep it from learning all by heart.
    case = case(WITH_SYMPTOMS, Prepared, overfits=0.6, pair_targets="positions", ddi_test="visit_numbers")


class TestUnrepaired(Battery):
    case = case(repair="none")


def test_symptoms_can_be_left_unread():
    cohort = random_cohort(10, seed=1, n_symptoms=5)
    system = case(WITH_SYMPTOMS)
    assert system.build(cohort).has_symptoms
    network = system.build(cohort, symptoms="none")
    assert not network.has_symptoms
    assert not any("symptom" in name for name, _ in network.named_parameters())


@pytest.mark.parametrize("seen", [("diagnosis", "procedure"), WITH_SYMPTOMS])
def test_batched_equals_one_prefix_at_a_time(seen):
    """The route of the published code: every visit read alone, padded; each prefix attends on its own."""
    system = case(seen)
    cohort = random_cohort(10, seed=2, max_visits=7, n_symptoms=system.n_symptoms)
    network, context = system.build(cohort).eval(), system.context(cohort)
    tokenizer = Tokenizer(*(cohort.vocab[kind] for kind in seen))
    batch = VisitBatch.build(cohort, np.arange(10))

    def read(kind, b, t):
        words, position, segment = [START], [0], [0]
        ids = batch.codes[kind][b, t]
        for number, code in enumerate(sorted(ids[ids < batch.sizes[kind]].tolist())):
            title = cohort.vocab[kind].titles[code].lower().replace(":", " ").split()
            rest = [tokenizer.index[word] for word in title] + [END]
            start = len(position) if number == 0 else 0
            words += rest
            position += range(start, start + len(rest))
            segment += [number] * len(rest)
        encoder = network.symptom_encoder if kind == "symptom" else network.record_encoder
        padding = [0] * 5
        return encoder(*(torch.tensor([row + padding]) for row in (words, position, segment)))[0]

    assert (batch.visit_mask.sum(1) > 5).any()
    with torch.no_grad():
        logits, medications = network(batch, context), network._medications(context)
        for b, t in batch.visit_mask.nonzero().tolist():
            first, parts = max(0, t - 3), []
            for kind in seen:
                rows = []
                for j in range(first, t + 1):
                    text = read(kind, b, j)
                    if kind != "symptom" and "symptom" in seen:
                        text = network.with_symptoms[kind](torch.cat([text, read("symptom", b, j)]))
                    rows.append(network.project(text))
                rows = torch.stack(rows)
                keys = network.attention[kind].key(rows)
                weights = (keys @ network.attention[kind].query(rows[-1]) / keys.shape[1] ** 0.5).softmax(0)
                parts.append(weights @ keys)
            expected = medications @ network.query(torch.cat(parts))
            torch.testing.assert_close(logits[b, t], expected, atol=1e-5, rtol=1e-5)


def test_visits_before_the_third_last_are_forgotten():
    cohort = random_cohort(30, seed=3, max_visits=7)
    system = case()
    network, context = system.build(cohort), system.context(cohort)
    before, _ = output(network, cohort, context)
    batch = VisitBatch.build(cohort, np.arange(30))
    b = int(batch.visit_mask.sum(1).argmax())
    assert batch.visit_mask[b].sum() > 4
    codes = batch.codes["diagnosis"].clone()
    codes[b, 0] = (codes[b, 0] + 1) % 12
    with torch.no_grad():
        after = network(replace(batch, codes={**batch.codes, "diagnosis": codes}), context)
    assert (after[b, 3] - before[b, 3]).abs().max() > 1e-5
    torch.testing.assert_close(after[b, 4], before[b, 4], atol=1e-6, rtol=0)


def test_lists_have_no_conflict_unless_the_pair_is_frequent():
    cohort = random_cohort(40, seed=4)
    system = case()
    context = system.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(40))
    pairs = torch.nonzero(context.ddi.triu())

    def joined(network):
        network.eval()
        with torch.no_grad():
            sets = network.recommend(batch, context)[batch.visit_mask]
        return [bool((sets[:, i] & sets[:, j]).any()) for i, j in pairs.tolist()]

    # At threshold 0 everything is recommended, hence every interacting pair.
    assert all(joined(system.build(cohort, threshold=0.0, repair="none")))
    for rule in ("official", "greedy", "exact"):
        assert not any(joined(system.build(cohort, threshold=0.0, repair=rule)))
    network = system.build(cohort, threshold=0.0)
    network.prepare(cohort, np.arange(40), context)
    rows = cohort.codes["medication"].multi_hot(9).astype(int)
    often = [bool((rows[:, i] & rows[:, j]).mean() >= 0.074) for i, j in pairs.tolist()]
    assert any(often)
    assert joined(network) == often


def test_scores_are_those_before_the_repair():
    cohort = random_cohort(10, seed=5)
    system = case()
    context, batch = system.context(cohort), VisitBatch.build(cohort, np.arange(10))
    with torch.no_grad():
        one, _ = system.build(cohort, threshold=0.0).eval().decide(batch, context)
        two, _ = system.build(cohort, threshold=0.0, repair="none").eval().decide(batch, context)
    assert torch.equal(one, two)


def test_symptoms_are_drawn_by_frequency_and_passed_on_by_company():
    cohort = random_cohort(60, seed=6, n_symptoms=5)
    system = case(WITH_SYMPTOMS)
    network, context = system.build(cohort), system.context(cohort)
    network.prepare(cohort, np.arange(60), context)
    seen = cohort.codes["symptom"].multi_hot(5).astype(float)
    close(network.symptom_share, torch.from_numpy(seen.sum(0) / seen.sum()).float())
    together = seen.T @ seen
    np.fill_diagonal(together, 0)
    close(network.symptom_next, torch.from_numpy(together / together.sum(1, keepdims=True)).float())
    torch.manual_seed(0)
    drawn = network._sampled_symptoms(torch.ones(2000, 2, dtype=torch.bool))
    assert drawn.shape == (2000, 2, 5)
    torch.testing.assert_close(
        torch.bincount(drawn[:, 0].flatten(), minlength=5) / 10_000, network.symptom_share, atol=0.02, rtol=0
    )
    assert (drawn[:, 0] != drawn[:, 1]).all()  # a symptom does not keep itself company


def test_the_causal_part_is_a_mean_over_scored_visits_too(monkeypatch):
    """It is there while training alone, where the battery does not look."""
    cohort = random_cohort(12, seed=8, n_symptoms=5)
    system = case(WITH_SYMPTOMS, Prepared)
    network, context = system.build(cohort, dropout=0.0, causal_weight=1.0).train(), system.context(cohort)
    monkeypatch.setattr(network, "_sampled_symptoms", lambda mask: torch.arange(5).expand(*mask.shape, 5))
    alone = [VisitBatch.build(cohort, np.array([patient])) for patient in range(12)]
    with torch.no_grad():
        losses = torch.stack([network.loss(batch, context) for batch in alone])
        loss = network.loss(VisitBatch.build(cohort, np.arange(12)), context)
        assert loss > network.eval().loss(VisitBatch.build(cohort, np.arange(12)), context) + 0.3
    weights = torch.as_tensor(np.diff(cohort.visit_offsets)).float()
    torch.testing.assert_close(loss, weights @ losses / weights.sum())


def test_frequent_pairs_come_from_training_patients_alone():
    cohort = random_cohort(60, seed=7)
    system = case()
    network, context = system.build(cohort), system.context(cohort)
    network.prepare(cohort, np.arange(20), context)
    own = cohort.select(np.arange(20)).codes["medication"].multi_hot(9).astype(float)
    expected = own.T @ own >= 0.074 * len(own)
    np.fill_diagonal(expected, False)
    assert torch.equal(network.frequent, torch.from_numpy(expected))
