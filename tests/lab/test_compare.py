"""Comparisons: same patients, same visits, paired."""

import numpy as np
import pytest

from medrec.experiments.compare import compare, table
from medrec.tasks.evaluation import Interval
from tests.toys import random_cohort


@pytest.fixture
def comparison(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path))
    return compare(["lr", "last-visit", "popularity"], random_cohort(90, seed=1))


def test_common_visits_are_those_of_the_pickiest_system(comparison):
    assert comparison.groups == ("second", "later")
    own, shared = comparison.results(shared=False), comparison.results(shared=True)
    assert own["last-visit"]["jaccard"] == shared["last-visit"]["jaccard"]
    assert own["lr"]["jaccard"] != shared["lr"]["jaccard"]


def test_differences_are_differences(comparison):
    shared, differences = comparison.results(shared=True), comparison.differences()
    assert list(differences) == ["last-visit", "popularity"]
    for model, row in differences.items():
        for name in ("jaccard", "ddi_rate", "n_medications"):
            expected = shared[model][name].value - shared["lr"][name].value
            assert row[name].value == pytest.approx(expected)
    assert np.isnan(differences["last-visit"]["prauc"].value)


def test_table_is_aligned():
    interval = Interval(0.5, 0.4, 0.6, 0.05)
    row = dict.fromkeys(("jaccard", "ddi_rate", "f1", "n_medications"), interval)
    row["prauc"] = Interval(np.nan, np.nan, np.nan, np.nan)
    lines = table({"LR": row, "a longer name": row}).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "0.500 [0.400, 0.600]" in lines[1]
    assert "0.5 [0.4, 0.6]" in lines[1]
    assert lines[1].split()[-4] == "-"
