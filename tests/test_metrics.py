"""Metrics against values worked out by hand, and against scikit-learn on random input."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, precision_score, recall_score

from medrec import metrics
from medrec.data import example

TARGET = example.cohort().codes["medication"].multi_hot(5)
RECOMMENDED = example.RECOMMENDED


def test_sets_of_the_running_example():
    np.testing.assert_allclose(metrics.jaccard(TARGET, RECOMMENDED), [0.5, 1, 0.25])
    np.testing.assert_allclose(metrics.precision(TARGET, RECOMMENDED), [2 / 3, 1, 1])
    np.testing.assert_allclose(metrics.recall(TARGET, RECOMMENDED), [2 / 3, 1, 0.25])
    np.testing.assert_allclose(metrics.f1(TARGET, RECOMMENDED), [2 / 3, 1, 0.4])


def test_empty_sets_count_zero():
    target = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 0]], dtype=bool)
    recommended = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    for metric in (metrics.jaccard, metrics.precision, metrics.recall, metrics.f1):
        np.testing.assert_array_equal(metric(target, recommended), [0, 0, 0])
    np.testing.assert_array_equal(metrics.average_precision(target, recommended.astype(float))[1:], [0, 0])


def test_f1_follows_from_jaccard():
    rng = np.random.default_rng(1)
    target, recommended = rng.random((2, 200, 12)) < 0.3
    j = metrics.jaccard(target, recommended)
    np.testing.assert_allclose(metrics.f1(target, recommended), 2 * j / (1 + j))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (example.SCORES, 1 / 3 + 1 / 3 + (1 / 3) * (3 / 5)),  # the tie at .4 shares one threshold: .8667
        ([0.41, 0.9, 0.4, 0.7, 0.6], 1 / 3 + 1 / 3 + (1 / 3) * (3 / 4)),  # broken in favour of the hit: .9167
        ([0.5, 0.5, 0.5, 0.5, 0.5], 3 / 5),  # one threshold only: the prevalence
        ([0, 1, 0, 1, 1], (2 / 3) * (2 / 3) + (1 / 3) * (3 / 5)),  # 0/1 scores of the recommended set: .6444
    ],
)
def test_average_precision_by_hand(scores, expected):
    assert metrics.average_precision(TARGET[:1], np.array([scores]))[0] == pytest.approx(expected, abs=1e-12)


def test_average_precision_of_three_tied_hits():
    # Truth (1, 0, 1, 0, 0), scores (.9, .5, .5, 0, 0): half the recall at precision 1, half at 2/3.
    value = metrics.average_precision([[1, 0, 1, 0, 0]], [[0.9, 0.5, 0.5, 0, 0]])[0]
    assert value == pytest.approx(1 / 2 + (1 / 2) * (2 / 3))


def test_average_precision_ignores_increasing_maps_and_ids():
    rng = np.random.default_rng(2)
    target, scores = rng.random((40, 30)) < 0.3, rng.random((40, 30)).round(1)
    value = metrics.average_precision(target, scores)
    np.testing.assert_allclose(metrics.average_precision(target, np.exp(3 * scores)), value)
    shuffled = rng.permutation(30)
    np.testing.assert_allclose(metrics.average_precision(target[:, shuffled], scores[:, shuffled]), value)


def test_average_precision_refuses_nan():
    with pytest.raises(ValueError, match="NaN"):
        metrics.average_precision([[True, False]], [[np.nan, 0.5]])


def test_ddi_rate_is_pooled():
    interacting, pairs = metrics.ddi_counts(RECOMMENDED, example.DDI)
    np.testing.assert_array_equal(interacting, [2, 0, 0])
    np.testing.assert_array_equal(pairs, [3, 1, 0])
    assert metrics.ddi_rate(RECOMMENDED, example.DDI) == 0.5
    assert (interacting / np.maximum(pairs, 1)).mean() == pytest.approx(0.2222, abs=5e-5)
    assert metrics.ddi_rate(TARGET, example.DDI) == 0.2
    assert metrics.ddi_rate(np.zeros((3, 5)), example.DDI) == 0


def test_ddi_counts_against_a_plain_loop():
    rng = np.random.default_rng(3)
    ddi = np.triu(rng.random((40, 40)) < 0.1, 1)
    ddi = ddi | ddi.T
    sets = rng.random((25, 40)) < 0.4
    interacting, pairs = metrics.ddi_counts(sets, ddi)
    for v, row in enumerate(sets):
        members = np.flatnonzero(row)
        looped = [(a, b) for a in members for b in members if a < b]
        assert pairs[v] == len(looped)
        assert interacting[v] == sum(ddi[a, b] for a, b in looped)


def test_agreement_with_scikit_learn():
    rng = np.random.default_rng(4)
    target, recommended = rng.random((2, 300, 25)) < 0.25
    scores = rng.random((300, 25)).round(1)  # many ties
    target[:, 0] = True
    for mine, theirs in (
        (metrics.jaccard, jaccard_score),
        (metrics.precision, precision_score),
        (metrics.recall, recall_score),
        (metrics.f1, f1_score),
    ):
        expected = [theirs(t, r, zero_division=0) for t, r in zip(target, recommended, strict=True)]
        np.testing.assert_allclose(mine(target, recommended), expected)
    expected = [average_precision_score(t, s) for t, s in zip(target, scores, strict=True)]
    np.testing.assert_allclose(metrics.average_precision(target, scores), expected)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        metrics.jaccard(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="interaction matrix"):
        metrics.ddi_counts(np.zeros((2, 3)), np.zeros((4, 4)))


# -- rankings ------------------------------------------------------------------------------------------------------

RANKED_TARGET = np.array([[1, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0]], dtype=bool)
RANKED_SCORES = np.array([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [1, 2, 3, 4, 5, 6], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]])


def test_recall_at_k_by_hand():
    value = metrics.recall_at_k(RANKED_TARGET, RANKED_SCORES, 3)
    assert value[0] == pytest.approx(2 / 3)
    assert np.isnan(value[1])  # no targets: left out
    assert value[2] == 0  # ties by item id: item 3 is ranked fourth
    assert metrics.recall_at_k(RANKED_TARGET, RANKED_SCORES, 4)[2] == 1
    reachable = metrics.recall_at_k(RANKED_TARGET, RANKED_SCORES, 2, denominator="reachable")
    assert reachable[0] == pytest.approx(1 / 2)
    assert metrics.recall_at_k(RANKED_TARGET, RANKED_SCORES, 2)[0] == pytest.approx(1 / 3)


def test_ndcg_at_k_by_hand():
    gain = 1 / np.log2(2) + 1 / np.log2(4)
    best = 1 / np.log2(2) + 1 / np.log2(3) + 1 / np.log2(4)
    assert metrics.ndcg_at_k(RANKED_TARGET, RANKED_SCORES, 3)[0] == pytest.approx(gain / best)
    own = metrics.ndcg_at_k(RANKED_TARGET, RANKED_SCORES, 3, ideal="own_hits")[0]
    assert own == pytest.approx(gain / (1 / np.log2(2) + 1 / np.log2(3)))
    # One hit at rank 1 of three targets: 1 by KGAT's ideal, not by the house's.
    assert metrics.ndcg_at_k(RANKED_TARGET, RANKED_SCORES, 1, ideal="own_hits")[0] == 1
    one_of_three = [[1, 0, 0, 0, 1, 1]], [[6, 5, 4, 3, 2, 1]]
    assert metrics.ndcg_at_k(*one_of_three, 3, ideal="own_hits")[0] == 1
    assert metrics.ndcg_at_k(*one_of_three, 3)[0] < 1


@pytest.mark.parametrize(
    ("ranks", "n", "k", "own", "house"),
    [
        ({1}, 5, 20, 1.0, 0.3392),
        ({1}, 20, 10, 1.0, 0.2201),
        ({1}, 20, 20, 1.0, 0.1420),
        ({3}, 5, 20, 0.5, 0.1696),
        ({1, 3, 5}, 5, 20, 0.8855, 0.6399),
        ({2}, 1, 20, 0.6309, 0.6309),
        ({1, 2, 3}, 5, 20, 1.0, 0.7227),
        (set(), 5, 20, 0.0, 0.0),  # nothing found is 0 by both
    ],
)
def test_two_ideals_of_ndcg_by_hand(ranks, n, k, own, house):
    target = np.zeros((1, 60), dtype=bool)
    target[0, [rank - 1 for rank in ranks]] = True
    target[0, 60 - (n - len(ranks)) :] = True  # the other targets stand far below
    scores = np.arange(60, 0, -1)[None]
    assert target.sum() == n
    assert metrics.ndcg_at_k(target, scores, k, ideal="own_hits")[0] == pytest.approx(own, abs=5e-5)
    assert metrics.ndcg_at_k(target, scores, k)[0] == pytest.approx(house, abs=5e-5)


def test_the_ideal_of_own_hits_never_says_less_and_the_same_where_all_is_found():
    rng = np.random.default_rng(7)
    target, scores = rng.random((200, 40)) < 0.1, rng.random((200, 40))
    target[:, 0] = True
    own, house = (metrics.ndcg_at_k(target, scores, 10, ideal=ideal) for ideal in ("own_hits", "targets"))
    found_all = metrics.recall_at_k(target, scores, 10, denominator="reachable") == 1
    assert (own >= house - 1e-12).all()
    assert found_all.any()
    np.testing.assert_allclose(own[found_all], house[found_all])


def test_rankings_keep_their_laws():
    rng = np.random.default_rng(5)
    target, scores = rng.random((50, 40)) < 0.2, rng.random((50, 40))
    target[:, 0] = True
    recalls = np.array([metrics.recall_at_k(target, scores, k) for k in range(1, 41)])
    assert (np.diff(recalls, axis=0) >= 0).all()
    np.testing.assert_array_equal(recalls[-1], 1)
    for k in (1, 5, 20):
        value = metrics.ndcg_at_k(target, scores, k)
        assert ((value >= 0) & (value <= 1)).all()
        np.testing.assert_allclose(metrics.ndcg_at_k(target, target.astype(float), k), 1)


def test_seen_items_are_neither_listed_nor_targets():
    seen = np.zeros_like(RANKED_TARGET)
    seen[0, [0, 1]] = True
    value = metrics.recall_at_k(RANKED_TARGET, RANKED_SCORES, 1, seen=seen)[0]
    assert value == pytest.approx(1 / 2)  # targets 2 and 4 remain, item 2 is ranked first
    with pytest.raises(ValueError, match="between 1 and"):
        metrics.recall_at_k(RANKED_TARGET, RANKED_SCORES, 7)
