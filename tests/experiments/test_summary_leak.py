"""Planted summaries name what was given, and nothing else changes."""

import numpy as np
import pytest

from medrec.experiments.summary_leak import with_summary
from tests.toys import random_cohort


@pytest.mark.parametrize("n_symptoms", [0, 4])
def test_named_classes_were_given_and_old_symptoms_stay(n_symptoms):
    cohort = random_cohort(60, seed=1, n_symptoms=n_symptoms)
    found = with_summary(cohort, 0.3, seed=0)
    n_old, named = len(cohort.vocab["symptom"]), 0
    assert len(found.vocab["symptom"]) == n_old + cohort.n_medications
    for visit in range(cohort.n_visits):
        codes = found.codes["symptom"][visit]
        assert codes[codes < n_old].tolist() == cohort.codes["symptom"][visit].tolist()
        assert set(codes[codes >= n_old] - n_old) <= set(cohort.codes["medication"][visit])
        named += int((codes >= n_old).sum())
    assert named / len(cohort.codes["medication"].values) == pytest.approx(0.3, abs=0.06)
    assert np.array_equal(found.codes["medication"].values, cohort.codes["medication"].values)
    assert found.content == with_summary(cohort, 0.3, seed=0).content != cohort.content
    assert with_summary(cohort, 0.3, seed=1).content != found.content
