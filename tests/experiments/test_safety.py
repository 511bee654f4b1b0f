"""Lists under a budget and lists with a promise: what every row of the study must obey."""

from dataclasses import replace

import numpy as np
import pytest

from medrec import metrics
from medrec.experiments import safety
from medrec.models import registry
from medrec.tasks.budget import worth
from medrec.training import train
from tests.toys import random_cohort


@pytest.fixture(scope="module")
def cohort():
    made = random_cohort(120, seed=2)
    ages = np.array([f"{decade}-{decade + 9}" for decade in range(20, 80, 10)])
    return replace(made, age_band=ages[np.arange(120) % len(ages)])


@pytest.fixture(scope="module")
def run(cohort, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDREC_RUNS_DIR", str(tmp_path_factory.mktemp("runs")))
        yield train("lr", cohort)


def test_all_visit_systems_that_give_scores_are_asked():
    visits = {name for name in registry.NAMES if registry.get(name).task == "visits"}
    assert set(safety.asked()) == visits - {"last-visit"}


@pytest.mark.parametrize("rule", ["exact", "greedy"])
def test_no_list_holds_more_interacting_pairs_than_its_budget(run, rule):
    free = safety.limited(run, None).prediction.recommended
    assert (free == run.answers["test"].sets(run.threshold)).all()
    before = np.zeros(len(free))
    for budget in safety.BUDGETS:
        kept = safety.limited(run, budget, rule)
        interacting, _ = metrics.ddi_counts(kept.prediction.recommended, run.ddi())
        assert interacting.max() <= budget
        assert not (kept.prediction.recommended & ~free).any()
        if rule == "exact":
            value = worth(kept.prediction.scores, kept.prediction.recommended)
            assert (value >= before - 1e-6).all(), "a larger budget is worth no less"
            before = value


def test_rows_of_budgets_are_changes_against_the_lists_without(run):
    rows = list(safety.under_budgets([run]))
    assert {row["metric"] for row in rows} == set(safety.SHOWN)
    free = {row["metric"]: row["value"] for row in rows if row["budget"] is None}
    for row in rows:
        if row["budget"] is not None:
            assert row["value"] - free[row["metric"]] == pytest.approx(row["delta"])
            assert row["delta_low"] <= row["delta"] <= row["delta_high"]
    rate = [row["value"] for row in rows if row["metric"] == "ddi_rate" and row["budget"] is not None]
    assert rate[0] == 0
    assert rate == sorted(rate)


def test_the_simple_rule_is_never_worth_more(run):
    for row in safety.rules([run]):
        if row["visits"]:
            assert -1e-9 <= row["mean_loss"] <= row["largest_loss"] < 1
            assert 0 <= row["as_good"] <= 1


def test_everybody_is_asked_once_at_the_first_or_the_last_visit(run, cohort):
    first, last = (safety.Asked.of(run, at) for at in ("first", "last"))
    n = [len(np.unique(run.answers[part].patient)) for part in ("validation", "test")]
    assert len(first.patient) == len(last.patient) == sum(n) == len(set(last.patient.tolist()))
    assert (first.patient == last.patient).all()
    assert (first.number == 0).all()
    assert (last.number == np.diff(cohort.visit_offsets)[last.patient] - 1).all()


def test_the_promise_is_kept_among_patients_who_are_alike_and_broken_where_they_are_not():
    """Scores are noise, so that whoever is alike is covered; in others what is prescribed has lower scores."""
    rng = np.random.default_rng(0)
    target = rng.random((1000, 20)) < 0.3
    target[:, 0] = True
    scores = rng.random((1000, 20))
    alike = safety.Asked(scores, target, np.arange(1000), np.zeros(1000, dtype=int))
    others = replace(alike, scores=np.where(target, scores / 2, scores))
    half = np.arange(1000) < 500
    kept = alike.trial(0.8, alike, half, ~half)
    assert kept.coverage > safety.PROMISE - kept.band
    assert (kept.patients, kept.chose) == (500, 500)
    broken = others.trial(0.8, alike, half, ~half)
    assert broken.coverage < safety.PROMISE - broken.band


def test_promises_have_a_row_for_each_share_and_group(run, cohort):
    rows = list(safety.promises([run], cohort))
    assert [(row["promised"], row["group"]) for row in rows] == [
        (share, group) for share in safety.PROMISED for group in ("alike", "older", "later")
    ]
    lengths = {(row["promised"], row["group"]): row["length"] for row in rows}
    assert lengths[1.0, "alike"] > lengths[0.8, "alike"]
    assert all(0 <= row["least"] <= row["coverage"] <= row["most"] <= 1 for row in rows)
    assert all(row["within"] <= row["trials"] for row in rows)


def test_the_younger_half(cohort):
    young = safety.younger(cohort, np.arange(12))
    assert young.tolist() == [True, True, True, False, False, False] * 2
