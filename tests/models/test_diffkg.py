"""DiffKG: every equation by hand, both routes, what each loss reaches, the seven arms, and the battery of rankers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec.models import diffkg
from medrec.models.diffkg import (
    ARMS,
    Bipartite,
    Denoiser,
    Known,
    PairStep,
    RowStep,
    both_ways,
    chosen_pairs,
    collaborative_constraint,
    contrast,
    finished,
    light_gcn,
    relation_attention,
    step_weights,
)
from medrec.nn.edges import Edges, weighted_sums
from medrec.nn.noise import NoiseSchedule
from tests.models.battery import RankerBattery
from tests.models.graph_toys import GraphCase


def close(actual, expected, atol=5e-5):
    torch.testing.assert_close(actual, torch.as_tensor(expected).to(actual), atol=atol, rtol=0)


# -- the toy of six entities -------------------------------------------------------------------------------------------

LINKS = torch.tensor([[0, 0, 1], [0, 0, 2], [1, 0, 3], [2, 0, 4], [3, 0, 5]])
KNOWN = Known.of(torch.cat([LINKS, LINKS.flip(1) + torch.tensor([0, 1, 0])]), 6)
PICKED = torch.tensor([[1], [3], [5], [0], [5], [3]])
"""What the denoiser wants for each of six rows."""


def pairs(key):
    return [(k // 6, k % 6) for k in key.tolist()]


def test_rows_of_the_graph_are_links_in_both_directions():
    rows = KNOWN.rows(torch.arange(6))
    assert torch.equal(rows, rows.T)
    assert [row.nonzero()[:, 0].tolist() for row in rows] == [[1, 2], [0, 3], [0, 4], [1, 5], [2], [3]]
    assert torch.equal(KNOWN.rows(torch.tensor([5, 0])), rows[[5, 0]])
    assert KNOWN.find(torch.tensor([0 * 6 + 1, 0 * 6 + 5, 35])).tolist() == [0, -1, -1]


def test_of_several_relations_of_a_pair_the_first_counts():
    known = Known.of(torch.tensor([[0, 3, 1], [0, 1, 1], [1, 2, 0]]), 2)
    assert known.key.tolist() == [1, 2]
    assert known.relation.tolist() == [1, 2]
    empty = Known.of(torch.zeros(0, 3, dtype=torch.int64), 3)
    assert not empty.rows(torch.arange(3)).any()
    assert empty.find(torch.tensor([4])).tolist() == [-1]


def test_the_filter_keeps_known_pairs_and_adding_keeps_all():
    kept = chosen_pairs(PICKED, KNOWN, "filter")
    assert pairs(kept) == [(0, 1), (1, 3), (5, 3)]
    added = chosen_pairs(PICKED, KNOWN, "add")
    assert pairs(added) == [(0, 1), (1, 3), (2, 5), (3, 0), (4, 5), (5, 3)]
    triplets = both_ways(kept, KNOWN, 9)
    assert triplets.tolist() == [[0, 0, 1], [1, 1, 0], [1, 0, 3], [3, 1, 1], [3, 0, 5], [5, 1, 3]]
    unknown = both_ways(added, KNOWN, 9)
    assert unknown[unknown[:, 1] == 9][:, [0, 2]].tolist() == [[0, 3], [2, 5], [3, 0], [4, 5], [5, 2], [5, 4]]


def random_known(seed=0, n=30, e=200):
    torch.manual_seed(seed)
    triplets = torch.stack([torch.randint(0, n, (e,)), torch.randint(0, 3, (e,)), torch.randint(0, n, (e,))], 1)
    triplets = triplets[triplets[:, 0] != triplets[:, 2]]
    return Known.of(torch.cat([triplets, triplets.flip(1) + torch.tensor([0, 3, 0])]), n)


def test_the_filter_never_leaves_the_graph_and_never_has_more_than_k_edges_of_a_row():
    known = random_known()
    for k in (1, 3):
        picked = torch.stack([torch.randperm(30)[:k] for _ in range(30)])
        kept = chosen_pairs(picked, known, "filter")
        assert (known.find(kept) >= 0).all()
        assert len(kept) <= 30 * k
        expected = {(h, int(t)) for h in range(30) for t in picked[h] if known.rows(torch.tensor([h]))[0, t]}
        assert {(int(x) // 30, int(x) % 30) for x in kept} == expected


def test_with_all_entities_picked_adding_makes_the_graph_complete():
    picked = torch.stack([torch.tensor([t for t in range(6) if t != h]) for h in range(6)])
    assert len(chosen_pairs(picked, KNOWN, "add")) == 30
    assert len(both_ways(chosen_pairs(picked, KNOWN, "add"), KNOWN, 2)) == 30
    assert torch.equal(chosen_pairs(picked, KNOWN, "filter"), KNOWN.key)


def test_the_two_controls_keep_as_many_edges_of_each_row_as_the_filter():
    known = random_known(1)
    picked = torch.stack([torch.randperm(30)[:4] for _ in range(30)])
    kept = chosen_pairs(picked, known, "filter")
    degree = (known.key % 30).bincount(minlength=30)
    drawn = [chosen_pairs(picked, known, "filter", "random", torch.rand(len(known.key))) for _ in range(2)]
    frequent = chosen_pairs(picked, known, "filter", "frequent")
    for found in (*drawn, frequent):
        assert torch.equal((found // 30).bincount(minlength=30), (kept // 30).bincount(minlength=30))
        assert (known.find(found) >= 0).all()
    assert not torch.equal(*drawn)
    for head in (frequent // 30).unique():
        tails = frequent[frequent // 30 == head] % 30
        others = known.rows(head[None])[0].nonzero()[:, 0]
        left = others[~torch.isin(others, tails)]
        assert not len(left) or degree[tails].min() >= degree[left].max()


# -- eq. 1 -------------------------------------------------------------------------------------------------------------

X = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
EDGES = Edges.of(torch.tensor([[0, 0, 1], [0, 0, 2]]), 3)


@pytest.mark.parametrize(
    ("relation", "alpha", "found"),
    [([1.0, -1.0], [0.6225, 0.3775], [1.6225, 1.0]), ([-1.0, 1.0], [0.4750, 0.5250], [1.4750, 1.0])],
)
def test_one_aggregation_by_hand(relation, alpha, found):
    half = X @ torch.tensor([relation]).T / 2  # the map takes half of the sum of both
    weights = relation_attention(half, half, EDGES)
    close(weights, alpha)
    close((X + weighted_sums(X, weights, EDGES))[0], found)


def test_length_and_dropout_in_both_orders(monkeypatch):
    monkeypatch.setattr(diffkg, "dropout", lambda x, rate, training: x * torch.tensor([2.0, 0.0]))
    x = torch.tensor([[1.6225, 1.0]])
    close(torch.nn.functional.normalize(x), [[0.8513, 0.5247]])
    close(finished(x, 0.5, True), [[1.7026, 0.0]], atol=2e-4)
    close(finished(x, 0.5, True, "drop_norm"), [[1.0, 0.0]])


# -- eq. 2 -------------------------------------------------------------------------------------------------------------


def test_one_patient_and_one_item():
    one, patient, item = torch.ones(1, 1), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    for loops, layers, expected in (
        (True, 1, [1.5, 0.5]),
        (False, 1, [1.0, 1.0]),
        (True, 2, [2.0, 1.0]),
        (False, 2, [2.0, 1.0]),
    ):
        close(light_gcn(patient, item, Bipartite.of(one, loops), layers)[0], [expected])


@pytest.mark.parametrize("loops", [True, False])
def test_layers_are_powers_of_the_normalised_matrix(loops):
    torch.manual_seed(0)
    given = (torch.rand(7, 4) < 0.4).float()
    given[2] = 0  # somebody without medications
    matrix = torch.zeros(11, 11)
    matrix[:7, 7:], matrix[7:, :7] = given, given.T
    matrix = matrix + loops * torch.eye(11)
    root = matrix.sum(1).clamp(min=1).rsqrt()
    matrix = root[:, None] * matrix * root
    x = torch.randn(11, 3)
    slow = x + matrix @ x + matrix @ matrix @ x
    found = light_gcn(x[:7], x[7:], Bipartite.of(given, loops), 2)
    torch.testing.assert_close(torch.cat(found), slow, atol=1e-5, rtol=0)


# -- eqs. 3 and 4 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "mean"),
    [((5, 0.1, 1e-4, 0.02), 1904), ((50, 1e-3, 1e-4, 1e-3), 1.80), ((50, 1e-4, 1e-4, 1e-3), 0.20)],
)
def test_the_hidden_weight_of_the_diffusion_term(schedule, mean):
    weights = step_weights(NoiseSchedule.linear(*schedule, diffkg.FIRST))
    assert float(weights.mean()) == pytest.approx(mean, rel=5e-3)
    assert float(weights[0]) == 1
    if schedule[0] == 5:
        assert weights[1:].tolist() == pytest.approx([8326, 760, 285, 149], abs=0.5)


A = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
ROWS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5], [1, 1, 0], [0, 0, 0]])


def test_the_collaborative_constraint_by_hand():
    guess, patients, entity = ROWS.clone().requires_grad_(), torch.eye(2), torch.ones(6, 2)
    found = collaborative_constraint(guess, A, patients, entity).square().sum(1)
    close(found, [1.0, 0.0, 1.0, 0.0, 1.0, 2.0])
    found.sum().backward()
    close(guess.grad[0], [0.0, -2.0, -2.0])
    # With means an item of two patients weighs no more than one of one.
    means = collaborative_constraint(ROWS[:3], A, patients, torch.zeros(3, 2), "degree")
    close(means, [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])


def denoiser(n_steps=5, scale=0.1):
    torch.manual_seed(0)
    return Denoiser(6, 8, 3, 0.5, NoiseSchedule.linear(n_steps, scale, 1e-4, 0.02, diffkg.FIRST)).double()


@pytest.mark.parametrize("n_steps", [1, 5, 50])
def test_the_reverse_goes_through_all_steps_and_ends_with_the_last_guess(n_steps):
    """Rows written out step by step, and followed by what the hidden layers see of them."""
    network, x = denoiser(n_steps), KNOWN.rows(torch.arange(6)).double()
    with torch.no_grad():
        network.outer.bias.normal_()  # it must count
    schedule = NoiseSchedule.linear(n_steps, 0.1, 1e-4, 0.02, diffkg.FIRST)
    clean, noisy = (c.float().double() for c in schedule.back)
    row = x
    for t in range(n_steps, 0, -1):
        guess = network(row, torch.full((6,), t - 1), False)
        row = clean[t - 1] * guess + noisy[t - 1] * row
    torch.testing.assert_close(network.reversed(x), row)
    torch.testing.assert_close(network.reversed(x[2:], network.folded()), row[2:])
    torch.testing.assert_close(row, guess)


def test_with_one_step_it_is_an_auto_encoder():
    network, x = denoiser(1), KNOWN.rows(torch.arange(6)).double()
    torch.testing.assert_close(network.reversed(x), network(x, torch.zeros(6, dtype=torch.int64), False))
    # Without noise the network reads rows of length 1.
    torch.testing.assert_close(network(3 * x, torch.zeros(6, dtype=torch.int64), False), network.reversed(x))


# -- eq. 5 -------------------------------------------------------------------------------------------------------------


def test_contrast_by_hand():
    one = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    other = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    first = torch.tensor([0])
    close(contrast(one, other, first, 0.1), 4.5e-5, atol=1e-6)
    close(contrast(one, other, first, 1.0), 0.4076)
    close(contrast(one, torch.ones(3, 2), first, 0.1), 1.0986)
    close(contrast(one[:2], torch.ones(2, 2), first, 0.1), 0.6931)


def test_anchors_in_parts_are_anchors_at_once_with_the_same_gradients(monkeypatch):
    monkeypatch.setattr(diffkg, "ANCHORS", 3)
    torch.manual_seed(0)
    views = [torch.randn(12, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    anchors = torch.tensor([0, 1, 4, 5, 7, 10, 11])
    found = []
    for fast in (True, False):
        if fast:
            loss = contrast(*views, anchors, 0.3)
        else:
            one, other = map(torch.nn.functional.normalize, views)
            loss = torch.nn.functional.cross_entropy(one[anchors] @ other.T / 0.3, anchors)
        found.append((loss, *torch.autograd.grad(2 * loss, views)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


# -- the network -------------------------------------------------------------------------------------------------------

SMALL = {"size": 8, "denoiser_size": 16, "time_size": 4}


class DiffKGCase(GraphCase):
    """The first batch of pairs and the first of rows."""

    def batches(self, network, cohort):
        found = list(network.batches(self.context(cohort).graph, np.arange(cohort.n_patients), [0, 0]))
        return next(b for b in found if isinstance(b, PairStep)), next(b for b in found if isinstance(b, RowStep))


class TestPaper(RankerBattery):
    case = DiffKGCase("diffkg", SMALL, ordered=0.9)


class TestOfficial(RankerBattery):
    case = DiffKGCase("diffkg", {**SMALL, **diffkg.OFFICIAL}, ordered=0.9)


class TestOneView(RankerBattery):
    case = GraphCase("diffkg", {**SMALL, "second_view": False, "batch_size": 16}, ordered=0.9)


CASE = DiffKGCase("diffkg", {**SMALL, "dropout": 0.0, "denoiser_dropout": 0.0, "penalty": 0.0})


def built(**settings):
    case = replace(CASE, settings={**CASE.settings, **settings})
    cohort = case.cohort(12, seed=1)
    return case.build(cohort), case.context(cohort), cohort


def by_hand(network, edges):
    """Medications after eq. 1, head by head."""
    config, d = network.config, network.config.size
    x, total = network.entities, network.entities
    for _ in range(config.kg_layers):
        rows = []
        for head in range(len(x)):
            here = [
                (int(r), int(t)) for h, r, t in zip(edges.head, edges.relation, edges.tail, strict=True) if h == head
            ]
            found = x[head]
            if here:
                logits = [torch.cat([x[head], x[t]]) @ network.heads_and_tails @ network.relations[r] for r, t in here]
                alpha = torch.nn.functional.leaky_relu(torch.stack(logits), 0.2).softmax(0)
                found = found + sum(a * x[t] for a, (_, t) in zip(alpha, here, strict=True))
            rows.append(found / found.norm())
        x = torch.stack(rows)
        total = config.kg_residual * total + x
    assert total.shape[1] == d
    return total[: network.n_items]


def test_all_at_once_is_head_by_head_with_the_same_loss():
    network, context, _ = built(kg_layers=2, penalty=0.01, rebuild_k=3, diffused="entities")
    steps = list(network.batches(context.graph, np.arange(12), [0, 0]))
    step = next(s for s in steps if isinstance(s, PairStep))
    assert len(step.main.head)
    assert len(step.second.head)
    views = []
    for edges in (step.main, step.second):
        items = by_hand(network, edges)
        torch.testing.assert_close(network.items(edges), items, atol=1e-5, rtol=0)
        views.append(light_gcn(network.patients, items, step.graph, 2))
    (patients, items), again = views
    u, i, j = patients[step.pairs.patient], items[step.pairs.given], items[step.pairs.other]
    expected = -((u * i).sum(1) - (u * j).sum(1)).sigmoid().log().mean()
    own = (network.patients, network.entities, network.relations, network.heads_and_tails)
    expected = expected + 0.01 * sum(p.square().sum() for p in own)
    for one, other, anchors in zip(again, (patients, items), (step.pairs.patient, step.pairs.given), strict=True):
        cosine = torch.nn.functional.cosine_similarity(one[:, None], other, dim=-1) / 0.1
        nodes = sorted({*anchors.tolist()})
        expected = expected + 0.1 * torch.stack([-cosine[n].log_softmax(0)[n] for n in nodes]).mean()
    torch.testing.assert_close(network.loss(step, context), expected, atol=1e-5, rtol=1e-5)


def gradients(network, loss):
    network.zero_grad()
    loss.backward()
    return {
        name: p.grad.clone() if p.grad is not None else torch.zeros_like(p) for name, p in network.named_parameters()
    }


def reached(found):
    """Parts of the network with a gradient."""
    return {name.partition(".")[0] for name, grad in found.items() if grad.abs().max() > 1e-9}


def test_each_term_reaches_exactly_its_parts():
    rest = {"patients", "entities", "relations", "heads_and_tails"}
    table = {}
    network, context, cohort = built(contrast_weight=0.0, rebuild_k=3, diffused="entities")
    step, rows = CASE.batches(network, cohort)
    plain = gradients(network, network.loss(step, context))
    table["bpr"] = reached(plain)
    for term, changed in (("contrast", {"contrast_weight": 0.5}), ("squares", {"penalty": 0.1})):
        network.config = replace(network.config, **changed)
        whole = gradients(network, network.loss(step, context))
        table[term] = reached({name: whole[name] - plain[name] for name in whole})
        network.config = replace(network.config, contrast_weight=0.0, penalty=0.0)
    # Squares act on all weights, those of entities that no triplet names among them.
    network.config = replace(network.config, penalty=0.1)
    whole = gradients(network, network.loss(step, context))
    assert ((whole["entities"] - plain["entities"]).abs().sum(1) > 0).all()
    for term, share in (("elbo", 0.0), ("ckgc", 1.0)):
        network.config = replace(network.config, ckgc_weight=share)
        table[term] = reached(gradients(network, network.loss(rows, context)))
        assert network.patients.grad is None, "embeddings are detached"
    assert table == {"bpr": rest, "contrast": rest, "squares": rest, "elbo": {"denoiser"}, "ckgc": {"denoiser"}}


def test_each_optimiser_has_its_part_and_they_share_nothing():
    network, _, _ = built()
    rest, own = ({id(p) for group in o.param_groups for p in group["params"]} for o in network.optimisers())
    assert own == {id(p) for p in network.denoiser.parameters()}
    assert not rest & own
    assert rest | own == {id(p) for p in network.parameters()}


@pytest.mark.parametrize(("in_training", "moves"), [(False, False), (True, True)])
def test_what_moves_when_all_rebuilt_edges_are_gone(in_training, moves, monkeypatch):
    """In the released loop nothing in training does, not by one bit; the evaluation does in both."""
    found = []
    for emptied in (False, True):
        network, context, cohort = built(diffusion_in_training=in_training, diffused="entities", rebuild_k=3)
        if emptied:
            monkeypatch.setattr(network, "rebuild", lambda rng, network=network: network.rebuilt.fill_(-1))
        step, _ = CASE.batches(network, cohort)
        found.append((network.eval().loss(step, context).item(), network.rank(np.arange(12), context)))
    (loss, scores), (without, scores_without) = found
    assert (loss != without) == moves
    assert not np.array_equal(scores, scores_without)


@pytest.mark.parametrize("rebuild", ["add", "filter"])
def test_a_rebuilt_graph_is_a_part_of_the_original_or_has_new_pairs(rebuild):
    network, _, _ = built(rebuild=rebuild, keep=1.0, rebuild_k=4, diffused="entities")
    network.rebuild(np.random.default_rng(0))
    known, kept = network.known(), network.rebuilt[network.rebuilt[:, 0] >= 0]
    place = known.find(kept[:, 0] * known.n + kept[:, 2])
    assert len(kept) > 0
    assert torch.equal(kept[:, 1] == 2 * network.n_relations, place < 0)
    assert torch.equal(kept[place >= 0, 1], known.relation[place[place >= 0]])
    assert bool((place < 0).any()) == (rebuild == "add")
    # Every pair stands in both directions, and half of them pass the coin.
    keys = {(int(h), int(t)) for h, _, t in kept}
    assert keys == {(t, h) for h, t in keys}
    assert len(keys) == len(kept)
    network.config = replace(network.config, keep=0.5)
    sizes = []
    for seed in range(20):
        network.rebuild(np.random.default_rng(seed))
        sizes.append(int((network.rebuilt[:, 0] >= 0).sum()) / len(kept))
    assert np.mean(sizes) == pytest.approx(0.5, abs=0.1)


def test_rows_are_those_of_items_or_of_all_entities():
    network, context, _ = built(rebuild_k=2)
    assert network.picked(network.known()).shape == (9, 2)
    every, _, _ = built(rebuild_k=2, diffused="entities")
    assert every.picked(every.known()).shape == (context.knowledge.n_entities, 2)
    assert not (every.picked(every.known()) == torch.arange(context.knowledge.n_entities)[:, None]).any()
    blocks, _, _ = built(rebuild_k=2, diffused="entities", row_batch=7)
    assert torch.equal(blocks.picked(blocks.known()), every.picked(every.known()))


def test_triplets_of_a_head_are_drawn_once():
    network, context, _ = built(samples_per_head=2)
    linked, count = network.linked(), context.knowledge.n_entities
    degree = linked[:, 0].bincount(minlength=count)
    assert torch.equal(linked[network.sampled][:, 0].bincount(minlength=count), degree.clamp(max=2))
    assert torch.equal(network.known().key, built()[0].known().key), "rows know all triplets"
    before = network.sampled.clone()
    list(network.batches(context.graph, np.arange(12), [0, 1]))
    assert torch.equal(network.sampled, before)


def test_the_seven_arms_differ_in_what_they_say():
    assert set(ARMS) == set(diffkg.LABELS)
    described = {}
    for name, settings in ARMS.items():
        network, context, _ = built(**settings)
        batches = list(network.batches(context.graph, np.arange(12), [0, 0]))
        step = next(b for b in batches if isinstance(b, PairStep))
        same = step.second is not None and torch.equal(step.main.head, step.second.head)
        described[name] = (
            any(isinstance(b, RowStep) for b in batches),
            "one" if step.second is None else "same" if same else "two",
            torch.equal(network.triplets, torch.from_numpy(context.knowledge.triplets)),
        )
    two = (True, "two", True)
    assert described == {
        "released": (True, "same", True),
        "filter": two,
        "add": two,
        "random": two,
        "frequent": two,
        "one-view": (False, "one", True),
        "shuffled": (True, "two", False),
    }


def test_a_denoiser_that_has_learnt_picks_known_pairs():
    network, context, _ = built(diffused="entities", denoiser_size=64)
    known = network.known()
    optimisers = [torch.optim.Adam(network.denoiser.parameters(), lr=0.01)]

    def share():
        picked = network.picked(known)[:, 0]
        linked = known.first.diff() > 0
        return (known.find(torch.arange(known.n) * known.n + picked) >= 0)[linked].float().mean().item()

    before = share()
    for epoch in range(60):
        for batch in network.train().batches(context.graph, np.arange(12), [0, epoch]):
            if isinstance(batch, RowStep):
                network.zero_grad()
                network.loss(batch, context).backward()
                optimisers[0].step()
    assert before < 0.5
    assert share() > 0.95
