"""Like for like: the synthetic side has what the demo has, and each line of the table measures what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from medrec.data import load_cohort
from medrec.data.synthetic import SyntheticRecords, synthesize
from medrec.experiments import calibration
from medrec.experiments.ladder import given
from medrec.types import Ragged
from tests.conftest import demo_dir
from tests.toys import random_cohort


@pytest.fixture(scope="module")
def records() -> SyntheticRecords:
    return synthesize(400, 5)


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(demo_dir("mimic4-demo").parent))
    return load_cohort("mimic4-demo")


def with_medications(cohort, given):
    rows = Ragged(np.concatenate([[0], np.cumsum(given.sum(1))]), np.nonzero(given)[1])
    return replace(cohort, codes={**cohort.codes, "medication": rows})


def test_the_synthetic_side_is_cut_to_the_demo(demo, records):
    like = calibration.like(demo, records, np.random.default_rng(0))
    assert np.array_equal(like.visit_offsets, demo.visit_offsets)
    for kind in ("diagnosis", "procedure"):
        assert (like.codes[kind].lengths <= demo.codes[kind].lengths).all()
        assert like.codes[kind].lengths.mean() > 0.6 * demo.codes[kind].lengths.mean()
        version, wanted = (
            [{c.vocab[kind].codes[k].split(":")[0] for k in c.codes[kind][v]} for v in range(c.n_visits)]
            for c in (like, demo)
        )
        assert all(a <= b for a, b in zip(version, wanted, strict=True))
    assert {code.split(":")[0] for code in like.vocab["diagnosis"].codes} == {"9", "10"}
    # Visits of one patient are consecutive stays of one synthetic patient.
    drawn = [frozenset(records.medications[v]) for v in range(records.n_visits)]
    several = np.flatnonzero(np.diff(like.visit_offsets) > 1)[:5]
    for p in several:
        first = like.visit_offsets[p]
        pair = [frozenset(like.codes["medication"][v]) for v in (first, first + 1)]
        owner = [np.flatnonzero([d == s for d in drawn]) for s in pair]
        of_visit = np.repeat(np.arange(records.n_patients), np.diff(records.stays.visit_offsets))
        assert set(of_visit[owner[0]]) & set(of_visit[owner[1]])
    with pytest.raises(ValueError, match="are wanted"):
        calibration.like(demo, synthesize(100), np.random.default_rng(0))


def test_carry_over_finds_a_planted_log_odds_ratio():
    rng = np.random.default_rng(0)
    offset, before = rng.normal(-1, 1, (600, 40)), rng.random((600, 40)) < 0.3
    y = rng.random((600, 40)) < expit(offset + 0.3 + 1.7 * before)
    assert calibration.carry_over(offset, before, y) == pytest.approx(1.7, abs=0.1)


def test_what_goes_together_shows_in_two_lines_and_independent_classes_in_none():
    base, rng = random_cohort(300, seed=4, n_medications=20), np.random.default_rng(1)
    lines = ("correlation of classes after LR", "overdispersion of set sizes after LR")
    found = {}
    for strength in (0.0, 1.0):
        severity = strength * rng.standard_normal((base.n_visits, 1))
        drawn = rng.random((base.n_visits, 20)) < expit(severity - 0.5)
        found[strength] = calibration.measured(with_medications(base, drawn))
    assert [found[0.0][line] for line in lines] == [pytest.approx(0, abs=0.03), pytest.approx(1, abs=0.15)]
    assert found[1.0][lines[0]] > 0.1
    assert found[1.0][lines[1]] > 3


def test_the_past_gains_where_there_is_one_only():
    cohort = random_cohort(200, seed=5)
    rng = np.random.default_rng(2)
    taste = rng.normal(0, 3, (200, 9))[cohort.patient_of_visit]
    faithful = with_medications(cohort, rng.random(taste.shape) < expit(taste))
    assert calibration.measured(faithful)["gain by the past"] > 0.05
    forgetful = with_medications(cohort, given(faithful)[rng.permutation(cohort.n_visits)])
    assert abs(calibration.measured(forgetful)["gain by the past"]) < 0.02


def test_the_kept_table_has_every_line_with_its_spread():
    table = calibration.read().table("comparison")
    assert set(table["demo"]) == set(calibration.DEMOS)
    assert table.filter(demo="mimic4-demo")["line"].to_list() == list(calibration.LINES)
    assert (table["spread"] > 0).all()
    assert (table["draws"] == calibration.DRAWS).all()
    shown = calibration.text(table)
    assert all(line in shown for line in calibration.LINES)
    assert shown.count("±") == len(table)
