"""ECC: toy numbers by hand, and the chains of scikit-learn."""

from itertools import permutations, product

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import ClassifierChain

from medrec.data.split import split_patients
from medrec.metrics import f1, jaccard
from medrec.models.ecc import ECC, ask_chains
from medrec.models.lr import LR, current_codes
from medrec.training import train
from tests.toys import random_cohort

# Exactly one of three interchangeable classes is given, with probabilities .40, .32, .28; no code says which.
SHARES = (0.40, 0.32, 0.28)
TARGET = np.repeat(np.eye(3, dtype=bool), [40, 32, 28], axis=0)
NOTHING = sparse.csr_matrix((100, 1))
ORDERS = np.array(list(permutations(range(3))))


@pytest.fixture(scope="module")
def toy():
    """All six orders, as good as without a penalty."""
    return ECC(n_chains=6, C=1e7).fit_matrix(NOTHING, TARGET, ORDERS)


def test_every_order_of_three_interchangeable_classes(toy):
    prob = toy.chain_proba_matrix(NOTHING[:1])[:, 0]
    for order, p in zip(ORDERS, prob, strict=True):
        # Asked first, class 1 is rejected at .40 and cannot be given any more.
        assert np.flatnonzero(p >= 0.5).tolist() == ([1] if order[0] == 0 else [0])
    # Conditional probabilities of the first two questions.
    for first, second in permutations(range(3), 2):
        p = prob[[list(o[:2]) == [first, second] for o in ORDERS.tolist()]][0]
        assert p[first] == pytest.approx(SHARES[first], abs=1e-3)
        assert p[second] == pytest.approx(SHARES[second] / (1 - SHARES[first]), abs=2e-3)


def test_votes_and_mean_probabilities(toy):
    prob = toy.chain_proba_matrix(NOTHING[:1])[:, 0]
    np.testing.assert_allclose((prob >= 0.5).mean(0), [4 / 6, 2 / 6, 0])
    np.testing.assert_allclose(prob.mean(0), [0.6573, 0.4363, 0.2397], atol=2e-3)
    # Marginals in place of conditionals recommend nothing.
    marginal = LR(C=1e7).fit_matrix(NOTHING, TARGET)
    np.testing.assert_allclose(expit(marginal.intercept_), SHARES, atol=1e-3)
    assert not (expit(marginal.intercept_) >= 0.5).any()


def test_expected_jaccard_and_f1_want_different_sets():
    best = {}
    for name, metric in (("jaccard", jaccard), ("f1", f1)):
        expected = {s: metric(TARGET, np.tile(np.array(s), (100, 1))).mean() for s in product([False, True], repeat=3)}
        best[name] = max(expected, key=expected.get)
        ladder = [expected[s] for s in ((True, False, False), (True, True, False), (True, True, True))]
        np.testing.assert_allclose(ladder, [0.40, 0.36, 1 / 3] if name == "jaccard" else [0.40, 0.48, 0.50])
    assert best == {"jaccard": (True, False, False), "f1": (True, True, True)}


def test_half_of_the_votes_is_enough():
    cohort = random_cohort(60, seed=2)
    system = ECC(n_chains=2).fit(cohort)
    votes = (system.chain_proba(cohort) >= 0.5).sum(0)
    assert (votes == 1).any()
    np.testing.assert_array_equal(system.predict(cohort), votes >= 1)
    mean = ECC(n_chains=2, decision="mean").load_state(system.state())
    np.testing.assert_array_equal(mean.predict(cohort), system.predict_proba(cohort) >= 0.5)
    assert (mean.predict(cohort) != system.predict(cohort)).any()


def test_chains_are_those_of_scikit_learn():
    cohort = random_cohort(80, seed=3)
    X, Y = current_codes(cohort), cohort.codes["medication"].multi_hot(9)
    system = ECC(n_chains=3, C=0.5).fit(cohort)
    prob = system.chain_proba(cohort)
    for order, p in zip(system.orders_, prob, strict=True):
        chain = ClassifierChain(LogisticRegression(C=0.5, max_iter=1000), order=order)
        chain.fit(X.toarray(), Y.astype(int))
        np.testing.assert_allclose(p, chain.predict_proba(X.toarray()), atol=2e-3)
        np.testing.assert_array_equal(p >= 0.5, chain.predict(X.toarray()) > 0.5)
    assert len({tuple(order) for order in system.orders_}) == 3


def test_a_chain_is_trained_on_the_truth_and_asked_with_its_own_answers():
    """Medication 2 copies medication 1, which the code tells badly: where the chain errs once, it errs twice."""
    rng = np.random.default_rng(0)
    code = rng.random(400) < 0.5
    given = np.where(rng.random(400) < 0.8, code, ~code)
    X, Y = sparse.csr_matrix(code[:, None].astype(float)), np.column_stack([given, given])
    system = ECC().fit_matrix(X, Y, np.array([[0, 1]]))
    answers = system.chain_proba_matrix(X)[0] >= 0.5
    np.testing.assert_array_equal(answers[:, 0], code)
    np.testing.assert_array_equal(answers[:, 1], answers[:, 0])
    assert (answers[:, 1] != given).mean() == pytest.approx(0.2, abs=0.05)
    assert system.links_[0, 1, 0] > 4  # it trusts the truth that it was shown
    assert system.links_[0, 0, 1] == 0  # and never looks ahead


def test_no_answer_is_fed_before_its_question():
    evidence = np.random.default_rng(1).normal(size=(2, 5, 4))
    links = np.random.default_rng(2).normal(size=(2, 4, 4))
    orders = np.array([[2, 0, 3, 1], [1, 3, 0, 2]])
    prob = ask_chains(evidence, links, orders)
    for chain, order in enumerate(orders):
        for v in range(5):
            answers = {}
            for m in order:
                z = evidence[chain, v, m] + sum(links[chain, m, n] * yes for n, yes in answers.items())
                assert prob[chain, v, m] == pytest.approx(1 / (1 + np.exp(-z)))
                answers[m] = z >= 0


def test_unseen_and_constant_medications():
    cohort = random_cohort(40, seed=4)
    Y = cohort.codes["medication"].multi_hot(9)
    Y[:, 2], Y[:, 5] = False, True
    system = ECC(n_chains=3).fit_matrix(current_codes(cohort), Y)
    prob = system.chain_proba(cohort)
    assert (prob[..., 2] == 0).all()
    assert (prob[..., 5] == 1).all()
    assert np.isfinite(prob).all()


def test_orders_come_from_the_seed_or_from_frequency():
    cohort = random_cohort(40, seed=5)
    orders = [ECC(n_chains=4, random_state=s).fit(cohort).orders_ for s in (0, 0, 1)]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert not {tuple(o) for o in orders[0]} & {tuple(o) for o in orders[2]}
    # Chain i of seed 0 is the one of seed i: fewer chains are the first of many.
    np.testing.assert_array_equal(ECC(n_chains=2).fit(cohort).orders_, orders[0][:2])
    by_frequency = ECC(n_chains=1, order="frequency").fit(cohort).orders_[0]
    counts = cohort.codes["medication"].multi_hot(9).sum(0)
    assert (np.diff(counts[by_frequency]) <= 0).all()


def test_the_seed_of_a_run_draws_the_orders(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    cohort = random_cohort(60, seed=6)
    one, other = (train("ecc", cohort, settings={"n_chains": 3}, seed=s) for s in (0, 1))
    assert not np.array_equal(one.state()["orders"], other.state()["orders"])
    fitted = ECC(n_chains=3).fit(cohort.select(split_patients(60, 0).train))
    np.testing.assert_array_equal(one.state()["orders"], fitted.orders_)
    assert one.metrics["tuned"]["threshold"] is not None
