"""Systems that are fitted in one go: habits of scikit-learn, and values by hand."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from medrec.context import Context
from medrec.data import example
from medrec.graphs.interactions import Interactions
from medrec.metrics import jaccard
from medrec.models.last_visit import LastVisit
from medrec.models.lr import LR, current_codes
from medrec.models.popularity import Popularity
from medrec.models.registry import get, systems
from tests.toys import random_cohort

ESTIMATORS = [system for system in systems() if not system.is_network]


def made(system):
    """A fresh one, and what it is fitted to."""
    cohort = random_cohort(30, seed=1)
    estimator = system.create(system.configure(), None)
    if system.task == "visits":
        return estimator, cohort, None
    last = np.isin(np.arange(cohort.n_visits), cohort.visit_offsets[1:] - 1)
    graph = Interactions.of(cohort, ~last, last)
    return estimator, graph, Context(cohort.vocab, torch.zeros(9, 9, dtype=torch.bool), graph=graph)


@pytest.mark.parametrize("system", ESTIMATORS, ids=lambda system: system.name)
def test_habits_of_estimators(system):
    estimator, data, _ = made(system)
    assert set(vars(estimator)) == set(estimator.get_params())  # the constructor only stores
    assert estimator.fit(data) is estimator
    learnt = set(vars(estimator)) - set(estimator.get_params())
    assert learnt
    assert all(name.endswith("_") for name in learnt)
    assert all(isinstance(value, np.ndarray) for value in estimator.state().values())


@pytest.mark.parametrize("system", [s for s in ESTIMATORS if s.task == "ranking"], ids=lambda system: system.name)
def test_rankers_say_the_same_again(system):
    estimator, graph, context = made(system)
    scores = estimator.fit(graph).rank(np.arange(30), context)
    assert scores.shape == (30, 9)
    assert scores.dtype == np.float32
    assert np.ptp(scores) > 0
    np.testing.assert_array_equal(clone(estimator).fit(graph).rank(np.arange(30), context), scores)
    again = system.create(system.configure(), None).load_state(estimator.state())
    np.testing.assert_array_equal(again.rank(np.array([3]), context), scores[[3]])


@pytest.mark.parametrize("system", [s for s in ESTIMATORS if s.task == "visits"], ids=lambda system: system.name)
def test_estimators_say_the_same_again(system):
    estimator, cohort, _ = made(system)
    sets = estimator.fit(cohort).predict(cohort)
    assert sets.dtype == bool
    assert sets.shape == (cohort.n_visits, cohort.n_medications)
    scores = estimator.predict_proba(cohort)
    if scores is not None:
        assert ((scores >= 0) & (scores <= 1)).all()
    np.testing.assert_array_equal(clone(estimator).fit(cohort).predict(cohort), sets)
    again = system.create(system.configure(), None).load_state(estimator.state())
    np.testing.assert_array_equal(again.predict(cohort), sets)


def test_last_visit_of_the_running_example():
    cohort = example.cohort()
    system = LastVisit().fit(cohort)
    assert system.scored(cohort).tolist() == [False, True, False]
    sets = system.predict(cohort)
    assert sets.tolist() == [[0] * 5, [1, 1, 0, 1, 0], [0] * 5]
    target = cohort.codes["medication"].multi_hot(5)
    assert jaccard(target, sets)[1] == 0.25


def test_popularity_of_the_running_example():
    cohort = example.cohort()
    system = Popularity().fit(cohort)
    np.testing.assert_allclose(system.predict_proba(cohort)[0], [1, 2 / 3, 2 / 3, 1 / 3, 1 / 3])
    # Lists by length: {0}: .333 .5 .25; {0,1}: .667 .333 .5; {0,1,2}: .5 .667 .75; + 3: .75 .5 .6; all: .6 .4 .8.
    by_patient = [(1 / 3 + 1 / 2) / 2 + 1 / 4, (2 / 3 + 1 / 3) / 2 + 1 / 2, (1 / 2 + 2 / 3) / 2 + 3 / 4]
    by_patient += [(3 / 4 + 1 / 2) / 2 + 3 / 5, (3 / 5 + 2 / 5) / 2 + 4 / 5]
    assert system.k_ == int(np.argmax(by_patient)) + 1 == 3
    assert system.predict(cohort)[0].tolist() == [1, 1, 1, 0, 0]


# Code c, medication m, 100 visits: 18 of 30 with c, 14 of 70 without.
X = np.repeat([[1.0], [1.0], [0.0], [0.0]], [18, 12, 14, 56], axis=0)
Y = np.repeat([[True], [False], [True], [False]], [18, 12, 14, 56], axis=0)


@pytest.mark.parametrize(
    ("C", "intercept", "weight"), [(1.0, -1.2602, 1.4655), (1 / 1.1, None, 1.4398), (0.1, None, 0.5711)]
)
def test_penalised_regression_of_one_code(C, intercept, weight):
    system = LR(C=C).fit_matrix(sparse.csr_matrix(X), Y)
    w, b = system.coef_[0, 0], system.intercept_[0]
    assert w == pytest.approx(weight, abs=1e-3)
    if intercept is not None:
        assert b == pytest.approx(intercept, abs=1e-3)
    # Optimum: the intercept is not penalised, and w = C Σ x (y − p).
    p = expit(b + w * X[:, 0])
    assert (Y[:, 0] - p).sum() == pytest.approx(0, abs=2e-2)
    assert C * (X[:, 0] * (Y[:, 0] - p)).sum() == pytest.approx(w, abs=2e-2)


def test_without_a_penalty_frequencies_come_back():
    system = LR(C=1e8).fit_matrix(sparse.csr_matrix(X), Y)
    assert system.intercept_[0] == pytest.approx(logit(0.2), abs=2e-3)
    assert system.coef_[0, 0] == pytest.approx(np.log(6), abs=5e-3)


def test_unseen_and_constant_medications():
    target = np.column_stack([Y[:, 0], np.zeros(100, dtype=bool), np.ones(100, dtype=bool)])
    system = LR().fit_matrix(sparse.csr_matrix(X), target)
    probabilities = expit(X @ system.coef_.T + system.intercept_)
    assert (probabilities[:, 1] == 0).all()
    assert (probabilities[:, 2] == 1).all()


def test_lr_as_published_has_the_penalty_of_the_library_and_is_cut_at_one_half():
    lr = get("lr")
    for n_train in (100, None):
        tuned, published = (lr.configure(variant, n_train=n_train) for variant in ("paper", "official"))
        assert (published.C, published.threshold) == (LogisticRegression().C, 0.5)
        assert tuned.C < published.C
        assert LR(**asdict(tuned)).C == LR().C == tuned.C
    systems = {variant: LR(**asdict(lr.configure(variant))) for variant in lr.variants}
    weights = {v: system.fit_matrix(sparse.csr_matrix(X), Y).coef_[0, 0] for v, system in systems.items()}
    assert weights["official"] == pytest.approx(1.4655, abs=1e-3)
    assert weights["paper"] == pytest.approx(0.5711, abs=1e-3)


def test_lr_is_one_regression_for_each_medication():
    cohort = random_cohort(60, seed=2)
    system = LR(C=0.5).fit(cohort)
    features = current_codes(cohort)
    np.testing.assert_array_equal(
        features.toarray(), np.hstack([cohort.codes[k].multi_hot(n) for k, n in (("diagnosis", 12), ("procedure", 6))])
    )
    target = cohort.codes["medication"].multi_hot(9)
    for m in (0, 4):
        alone = LogisticRegression(C=0.5, max_iter=1000).fit(features, target[:, m])
        np.testing.assert_allclose(system.predict_proba(cohort)[:, m], alone.predict_proba(features)[:, 1])
    assert jaccard(target, system.predict(cohort)).mean() > 0.6
