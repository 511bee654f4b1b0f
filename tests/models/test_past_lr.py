"""Past LR: what it is told, by hand, and that nothing of today is among it."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from medrec.models.lr import LR
from medrec.models.past_lr import SYSTEM, PastLR, earlier_visits, past_codes
from medrec.types import MedrecError
from tests.models.battery import KINDS, recode
from tests.toys import random_cohort
from tests.ward import ward


def test_earlier_visits_of_the_same_patient():
    cohort = random_cohort(12, seed=1)
    found = earlier_visits(cohort).toarray()
    expected = np.zeros_like(found)
    for first, end in zip(cohort.visit_offsets[:-1], cohort.visit_offsets[1:], strict=True):
        for visit in range(first, end):
            expected[visit, first:visit] = 1
    np.testing.assert_array_equal(found, expected)


def test_what_it_is_told_in_the_ward():
    # Three diagnoses and five medications of the visit before; then shares of all earlier visits, here the same.
    rows = past_codes(ward()).toarray()
    told = [1, 1, 0, 1, 1, 1, 0, 0]
    assert rows[1].tolist() == told * 2
    assert rows[3].tolist() == [0, 0, 1, 0, 0, 0, 1, 1] * 2
    assert not rows[[0, 2, 4]].any()


def test_shares_count_all_earlier_visits():
    cohort = random_cohort(20, seed=2)
    rows = past_codes(cohort).toarray()
    dense = np.hstack([cohort.codes[kind].multi_hot(len(cohort.vocab[kind])) for kind in KINDS if kind != "symptom"])
    order = np.hstack([np.arange(18), np.arange(18, 27)])
    width = dense.shape[1]
    assert rows.shape == (cohort.n_visits, 2 * width)
    for visit in np.flatnonzero(cohort.visit_number > 0):
        earlier = dense[visit - cohort.visit_number[visit] : visit][:, order]
        np.testing.assert_array_equal(rows[visit, :width], earlier[-1])
        np.testing.assert_allclose(rows[visit, width:], earlier.mean(0))


def test_nothing_of_today_and_of_later_matters():
    cohort = random_cohort(20, seed=3)
    system = PastLR().fit(cohort)
    before = system.predict_proba(cohort)
    last = cohort.visit_offsets[1:] - 1
    for kind in KINDS:
        if len(cohort.vocab[kind]):
            other = recode(cohort, kind, lambda rows: np.roll(rows, 1, axis=1), last)
            np.testing.assert_array_equal(system.predict_proba(other), before)
    past = np.setdiff1d(np.arange(cohort.n_visits), last)
    for kind in ("diagnosis", "procedure", "medication"):
        other = recode(cohort, kind, lambda rows: np.roll(rows, 1, axis=1), past)
        assert not np.array_equal(system.predict_proba(other)[last], before[last])
    assert SYSTEM.past_only(SYSTEM.configure())


def test_it_is_one_regression_for_each_medication_on_later_visits():
    cohort = random_cohort(80, seed=4)
    later = np.flatnonzero(cohort.visit_number > 0)
    features, target = past_codes(cohort)[later], cohort.codes["medication"].multi_hot(9)[later]
    system = PastLR(C=0.5).fit(cohort)
    for m in (0, 5):
        alone = LogisticRegression(C=0.5, max_iter=1000).fit(features, target[:, m])
        np.testing.assert_allclose(system.predict_proba(cohort)[later, m], alone.predict_proba(features)[:, 1])
    assert SYSTEM.configure().threshold == LR().threshold


def test_first_visits_are_out_of_reach():
    cohort = random_cohort(15, seed=5)
    system = PastLR().fit(cohort)
    np.testing.assert_array_equal(system.scored(cohort), cohort.visit_number > 0)
    assert not system.predict(cohort)[cohort.visit_number == 0].any()
    with pytest.raises(MedrecError, match="Take a cohort with more visits"):
        PastLR().fit(random_cohort(10, seed=6, max_visits=1))
