"""Solutions of the twenty problems of the instructor's page, computed with the package."""

import itertools
import re

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.special import logit

from medrec import losses, metrics, paths
from medrec.book.generated.calculator import CLASSES
from medrec.data import privacy
from medrec.experiments import ladder
from medrec.graphs.knowledge import lift
from medrec.knowledge.interactions import ddi_matrix
from medrec.models.causalmed import risk_difference
from medrec.models.drugrec import independent_set
from medrec.models.ease import item_weights
from medrec.models.gamenet import co_prescription
from medrec.models.micron import carried_sets


def sets(M, *lists):
    """``(V, M)`` bool of lists of numbers that begin with 1."""
    return np.array([[m in chosen for m in range(1, M + 1)] for chosen in lists])


def test_problem_1():
    y, listed = sets(12, range(1, 9)), sets(12, range(3, 13))
    assert (y & listed).sum() == 6
    assert metrics.jaccard(y, listed) == 1 / 2
    assert metrics.precision(y, listed) == 6 / 10
    assert metrics.recall(y, listed) == 6 / 8
    assert metrics.f1(y, listed) == 2 / 3


def test_problem_2():
    def means(visits):
        values, patient = np.array([0.2, *[0.6] * visits]), np.array([0, *[1] * visits])
        over_patients = (np.bincount(patient, weights=values) / np.bincount(patient)).mean()
        return values.mean(), over_patients

    np.testing.assert_allclose(means(4), (0.52, 0.4))
    assert means(5)[0] > means(4)[0]
    assert means(5)[1] == pytest.approx(means(4)[1])


def test_problem_3():
    highest = 2 * 0.55 / 1.55
    assert round(highest, 4) == 0.7097
    assert highest < 0.72
    # The bound holds for averages of any visits, since F1 is a concave function of Jaccard.
    rng = np.random.default_rng(0)
    y, listed = rng.random((2, 200, 9)) < 0.5
    J, F = metrics.jaccard(y, listed).mean(), metrics.f1(y, listed).mean()
    assert F < 2 * J / (1 + J)


def test_problem_4():
    assert metrics.average_precision([[0, 1, 1, 0]], [[0.8, 0.6, 0.6, 0.3]]) == pytest.approx(2 / 3)


def test_problem_5():
    ddi = np.zeros((7, 7), dtype=bool)
    for i, j in ((0, 1), (2, 3)):
        ddi[i, j] = ddi[j, i] = True
    listed = sets(7, [1, 2], [3, 4, 5, 6, 7])
    assert metrics.ddi_rate(listed, ddi) == 2 / 11
    interacting, pairs = metrics.ddi_counts(listed, ddi)
    assert (interacting / pairs).mean() == 0.55


def test_problem_6():
    ddi = ddi_matrix(CLASSES)
    free = [
        n
        for n in range(1, 13)
        for chosen in itertools.combinations(range(12), n)
        if not ddi[np.ix_(chosen, chosen)].any()
    ]
    assert max(free) == independent_set(np.ones(12), ddi).sum() == 7
    assert free.count(7) == 2


def test_problem_7():
    ddi = ddi_matrix(CLASSES)
    density = 19 / 66
    for k in (5, 10):
        every = np.array([np.isin(range(12), chosen) for chosen in itertools.combinations(range(12), k)])
        assert metrics.ddi_rate(every, ddi) == pytest.approx(density)


def test_problem_8():
    prob = np.array([0.9, 0.5, 0.3])
    outcomes = np.array(list(itertools.product([False, True], repeat=3)))
    chance = np.where(outcomes, prob, 1 - prob).prod(1)
    worth = {tuple(s): chance @ metrics.jaccard(outcomes, np.tile(s, (8, 1))) for s in outcomes}
    best = max(worth, key=worth.get)
    assert best == (True, True, False)
    assert worth[best] == pytest.approx(0.63)


def test_problem_9():
    ddi = torch.zeros(3, 3)
    ddi[0, 1] = ddi[1, 0] = 1
    prob = torch.tensor([[0.5, 0.5, 0.2]])
    assert losses.ddi_loss(prob, ddi).item() == 0.5
    assert losses.ddi_loss(prob / 2, ddi).item() == 0.125


def test_problem_10():
    y = torch.tensor([[True] * 4 + [False] * 6])
    for p in (0.1, 0.5, 0.9):
        assert losses.margin_loss(torch.full((1, 10), p), y).item() == pytest.approx(2.4)


def test_problem_11():
    weight = losses.ddi_tolerance(torch.tensor(0.12), 0.06, 0.5)
    assert round(weight.item(), 4) == 0.6065
    half = 0.06 * (1 + np.log(2) / 0.5)
    assert round(half, 4) == 0.1432
    assert losses.ddi_tolerance(torch.tensor(half), 0.06, 0.5).item() == pytest.approx(0.5)


def test_problem_12():
    prob = torch.tensor([[[0.85], [0.6], [0.35], [0.15], [0.6]]])
    held = carried_sets(prob, torch.zeros(1, 1, dtype=torch.bool), add=0.8, drop=0.2)
    assert held[0, :, 0].tolist() == [True, True, True, False, False]


def test_problem_13():
    rows = [(0, 1, 1, 22), (0, 1, 0, 3), (0, 0, 1, 12), (0, 0, 0, 3), (1, 1, 1, 2), (1, 1, 0, 3), (1, 0, 1, 16)]
    rows += [(1, 0, 0, 39)]
    stratum, code, given = np.array([row[:3] for row in rows for _ in range(row[3])]).T
    assert len(stratum) == 100
    pooled, _ = risk_difference(code[:, None], given[:, None])
    within, _ = risk_difference(code[:, None], given[:, None], stratum)
    assert pooled.item() == pytest.approx(0.4)
    assert within.item() == pytest.approx(0.4 * 0.08 + 0.6 * (2 / 5 - 16 / 55))
    assert round(within.item(), 4) == 0.0975


def test_problem_14():
    conflicts = np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]], dtype=bool)
    prob = np.array([0.95, 0.6, 0.6])
    assert independent_set(prob, conflicts).tolist() == [False, True, True]
    assert independent_set(logit(prob), conflicts).tolist() == [True, False, False]


def test_problem_15():
    given = sets(4, [1, 2], [2, 3], [1, 2, 4])
    assert np.triu(co_prescription(given)).sum() == 4
    _, found = lift(sparse.csr_array(given.astype(float)), sparse.csr_array(given.astype(float)))
    at_least = {
        (i + 1, j + 1) for i, j in zip(*np.nonzero(np.triu(co_prescription(given) & (found >= 1))), strict=True)
    }
    assert at_least == {(1, 2), (2, 3), (1, 4), (2, 4)}
    assert found[0, 1] == found[1, 2] == found[1, 3] == 1  # medication 2 is everywhere and tells nothing
    assert found[0, 3] == 1.5


def test_problem_16():
    y, scores = [[False, True, False, True]], [[0.9, 0.8, 0.7, 0.6]]
    assert metrics.recall_at_k(y, scores, 2) == 0.5
    assert metrics.ndcg_at_k(y, scores, 2).item() == pytest.approx(0.3869, abs=5e-5)
    assert metrics.ndcg_at_k(y, scores, 4).item() == pytest.approx(0.6509, abs=5e-5)


def test_problem_17():
    np.testing.assert_allclose(item_weights(sets(2, [1, 2], [1], []), 1.0), [[0, 1 / 3], [1 / 2, 0]])


def test_problem_18():
    d = np.array([0, 0.02, 0.04, 0.02])
    error = d.std() / np.sqrt(4)
    assert round(error, 5) == 0.00707
    draws = np.random.default_rng(0).integers(0, 4, size=(200_000, 4))
    assert d[draws].mean(1).std() == pytest.approx(error, rel=0.01)
    assert (d.std() / 0.0025) ** 2 == pytest.approx(32)


def test_problem_19():
    hidden = privacy.mask_small_counts([[12, 30, 4], [25, 9, 40]])
    assert hidden.sum() == 4
    assert hidden[:, 1:].all()


def test_problem_20():
    later = ladder.read("synthetic-6350").table("ladder").filter(scored="later")
    value = dict(later.select("step", "Jaccard").iter_rows())
    way = value["LR, trees on the past"] - value["LR as published"]
    share = (value["LR"] - value["LR as published"]) / way
    assert share == pytest.approx(0.465, abs=0.02)


def test_the_page_has_these_problems_and_no_others():
    text = (paths.base_dir() / "book" / "instructors.md").read_text(encoding="utf-8")
    part = text.partition("## Twenty problems")[2].partition("## A project")[0]
    numbers = [int(n) for n in re.findall(r"^(\d+)\. ", part, flags=re.MULTILINE)]
    assert numbers == list(range(1, 21))
    solved = {int(name.removeprefix("test_problem_")) for name in globals() if name.startswith("test_problem_")}
    assert solved == set(numbers)
