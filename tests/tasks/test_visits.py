"""Averages, intervals, thresholds and verdicts, against numbers worked out by hand."""

import numpy as np
import polars as pl
import pytest

from medrec import metrics
from medrec.data import example
from medrec.tasks.evaluation import Evaluation, Interval, _Table, bootstrap, contrast, paired_difference
from medrec.tasks.verdicts import verdict, verdict_of_equality
from medrec.tasks.visits import GROUPS, HOUSE, MEASURES, THRESHOLDS, Protocol, evaluate, in_columns, tune_threshold
from medrec.types import MedrecError
from tests.toys import random_cohort

VISITS = Protocol("by visit", aggregation="visits")


def evaluation_of(values, visits=None, group="first"):
    """An evaluation in which patient ``i`` has mean Jaccard ``values[i]``."""
    n = len(values)
    visits = np.ones(n, dtype=int) if visits is None else np.asarray(visits)
    sums = np.asarray(values) * visits
    return Evaluation(
        pl.DataFrame(
            {
                "patient": np.arange(n),
                "group": [group] * n,
                "n_visits": visits,
                **dict.fromkeys(("jaccard", "f1", "prauc", "precision", "recall"), sums),
                "interacting": np.ones(n, dtype=int),
                "pairs": np.full(n, 10),
                "medications": np.full(n, 5) * visits,
            }
        ),
        MEASURES,
    )


def example_evaluation(rules=HOUSE, **more):
    return evaluate(example.cohort(), example.RECOMMENDED, example.DDI, protocol=rules, **more)


def test_running_example_over_patients():
    summary = example_evaluation().summary()
    assert summary["jaccard"] == pytest.approx(0.5)
    assert summary["precision"] == pytest.approx(0.9167, abs=5e-5)
    assert summary["recall"] == pytest.approx(0.5417, abs=5e-5)
    assert summary["f1"] == pytest.approx(0.6167, abs=5e-5)
    assert summary["ddi_rate"] == 0.5
    assert summary["n_medications"] == 2
    assert np.isnan(summary["prauc"])
    assert (summary["patients"], summary["visits"]) == (2, 3)


def test_running_example_over_visits():
    summary = example_evaluation(VISITS).summary()
    assert summary["jaccard"] == pytest.approx(0.5833, abs=5e-5)
    assert summary["f1"] == pytest.approx(0.6889, abs=5e-5)
    assert summary["ddi_rate"] == 0.5


def test_one_patient_with_many_visits():
    # One patient with 14 visits at .68, twelve with one at .41.
    toy = evaluation_of([0.68] + [0.41] * 12, [14] + [1] * 12)
    assert toy.summary()["jaccard"] == pytest.approx(0.431, abs=5e-4)
    by_visit = Evaluation(toy.per_patient, MEASURES, "visits")
    assert by_visit.summary()["jaccard"] == pytest.approx(0.555, abs=5e-4)


def test_results_by_visit_number():
    table = example_evaluation().by_visit_number()
    assert table["visits_scored"].to_list() == ["all", "first", "second"]
    np.testing.assert_allclose(table["jaccard"], [0.5, (0.5 + 0.25) / 2, 1])
    assert table["visits"].to_list() == [3, 2, 1]
    dropped = example_evaluation().summary(("first",))
    assert dropped["visits"] == 2


def test_scored_visits_and_prauc():
    cohort = example.cohort()
    scores = np.tile(example.SCORES, (3, 1))
    only_first = np.array([True, False, False])
    summary = example_evaluation(scores=scores, scored=only_first).summary()
    assert summary["prauc"] == pytest.approx(0.8667, abs=5e-5)
    assert (summary["patients"], summary["visits"]) == (1, 1)
    later = example_evaluation(Protocol("later", scored="from second")).summary()
    assert (later["jaccard"], later["visits"]) == (1, 1)
    with pytest.raises(MedrecError, match="None of the 3 visits"):
        evaluate(cohort, example.RECOMMENDED, example.DDI, scored=np.zeros(3, dtype=bool))


def test_grouped_sums_equal_visit_means():
    cohort = random_cohort(50, seed=2)
    target = cohort.codes["medication"].multi_hot(9)
    sets = np.random.default_rng(0).random(target.shape) < 0.4
    ddi = np.eye(9, k=1, dtype=bool) | np.eye(9, k=-1, dtype=bool)
    j = metrics.jaccard(target, sets)
    by_patient = [j[a:b].mean() for a, b in zip(cohort.visit_offsets[:-1], cohort.visit_offsets[1:], strict=True)]
    summary = evaluate(cohort, sets, ddi).summary()
    assert summary["jaccard"] == pytest.approx(np.mean(by_patient))
    assert summary["ddi_rate"] == pytest.approx(metrics.ddi_rate(sets, ddi))
    later = cohort.visit_number >= 2
    assert evaluate(cohort, sets, ddi, protocol=VISITS).summary(("later",))["jaccard"] == pytest.approx(j[later].mean())


def test_bootstrap_standard_error_of_six_patients():
    a = evaluation_of([0.30, 0.45, 0.50, 0.60, 0.65, 0.80])
    interval = bootstrap(a, resamples=50_000)["jaccard"]
    assert interval.value == pytest.approx(0.55)
    assert interval.se == pytest.approx(0.06455, abs=1e-3)
    assert interval.low < 0.55 < interval.high
    assert bootstrap(evaluation_of([0.5] * 6))["jaccard"].se == pytest.approx(0, abs=1e-12)


def test_field_bootstrap_is_ten_rounds_of_four_fifths():
    values = np.random.default_rng(999).random(1000)  # another stream than the draws below
    interval = bootstrap(evaluation_of(values), kind="field")["jaccard"]
    # 800 draws: the standard error is sqrt(1/0.8) times that of the full size; ten rounds know it to about 24 %.
    assert interval.se == pytest.approx(values.std() / np.sqrt(800), rel=0.75)
    assert interval.high - interval.value == pytest.approx(interval.se)
    many = [bootstrap(evaluation_of(values), kind="field", seed=s)["jaccard"].se for s in range(200)]
    # The mean square of a standard deviation with divisor 10 is 9/10 of the variance.
    assert np.sqrt(np.mean(np.square(many))) == pytest.approx(values.std() / np.sqrt(800) * np.sqrt(0.9), rel=0.05)


def test_bootstrap_equals_scoring_the_drawn_patients_anew():
    cohort = random_cohort(30, seed=4)
    rng = np.random.default_rng(5)
    shape = (cohort.n_visits, 9)
    sets, scores = rng.random(shape) < 0.4, rng.random(shape)
    ddi = np.eye(9, k=1, dtype=bool) | np.eye(9, k=-1, dtype=bool)
    whole = evaluate(cohort, sets, ddi, scores=scores)
    drawn = np.sort(rng.integers(0, 30, 30))
    stored = _Table.of(whole, GROUPS).estimate(np.bincount(drawn, minlength=30)[None])
    visits = np.concatenate([np.arange(*cohort.visit_offsets[[p, p + 1]]) for p in drawn])
    anew = evaluate(cohort.select(drawn), sets[visits], ddi, scores=scores[visits]).summary()
    for name in MEASURES.metrics:
        assert stored[name][0] == pytest.approx(anew[name])


def test_paired_difference():
    a = np.array([0.30, 0.45, 0.50, 0.60, 0.65, 0.80])
    b = a + np.array([0.01, 0.02, 0, 0.01, 0.02, 0])
    paired = paired_difference(evaluation_of(a), evaluation_of(b), resamples=50_000)["jaccard"]
    assert paired.value == pytest.approx(0.01)
    assert paired.se == pytest.approx(0.00333, abs=2e-4)
    shuffled = paired_difference(evaluation_of(a), evaluation_of(b[::-1]), resamples=5_000)["jaccard"]
    assert shuffled.se > 10 * paired.se
    backwards = paired_difference(evaluation_of(b), evaluation_of(a), resamples=50_000)["jaccard"]
    assert backwards.value == pytest.approx(-0.01)


def test_interaction_of_two_switches_is_twice_as_unsure_as_a_difference_of_independent_cells():
    rng = np.random.default_rng(8)
    patients = 0.05 * rng.standard_normal(300) + 0.5
    means = {(1, 1): 0.5422, (0, 1): 0.5356, (1, 0): 0.5347, (0, 0): 0.5335}
    signs = {(1, 1): 1, (0, 1): -1, (1, 0): -1, (0, 0): 1}
    cells = {
        key: [evaluation_of(patients + mean - patients.mean() + shift) for shift in rng.permutation(5) * 0.002]
        for key, mean in means.items()
    }
    found = contrast([(cells[key], sign) for key, sign in signs.items()], resamples=5_000)["jaccard"]
    assert found.value == pytest.approx(0.0054, abs=1e-9)
    # Patients cancel; what is left are four draws of five seeds with standard deviation .002 * sqrt(2).
    assert found.se == pytest.approx(2 * 0.002 * np.sqrt(2) / np.sqrt(5), rel=0.05)
    main = paired_difference(cells[0, 1], cells[1, 1], resamples=5_000)["jaccard"]
    assert found.se / main.se == pytest.approx(np.sqrt(2), rel=0.05)
    swapped = contrast([(cells[0, 1], -1), (cells[1, 1], 1)], resamples=5_000)["jaccard"]
    assert swapped == main


def test_difference_needs_the_same_visits():
    with pytest.raises(MedrecError, match="different test visits"):
        paired_difference(evaluation_of([0.1, 0.2]), evaluation_of([0.1, 0.2, 0.3]))
    with pytest.raises(MedrecError, match="no visits in common"):
        paired_difference(evaluation_of([0.1, 0.2]), evaluation_of([0.1, 0.2], group="second"))


def test_seeds_and_patients_are_resampled_together():
    values = np.random.default_rng(3).random(400)
    same = [evaluation_of(values)] * 5
    apart = [evaluation_of(values + shift) for shift in (-0.10, -0.05, 0.0, 0.05, 0.10)]
    one = bootstrap(evaluation_of(values))["jaccard"].se
    assert bootstrap(same)["jaccard"].se == pytest.approx(one, rel=0.05)
    interval = bootstrap(apart, resamples=20_000)["jaccard"]
    expected = np.hypot(values.std() / 20, np.std([-0.10, -0.05, 0, 0.05, 0.10]) / np.sqrt(5))
    assert interval.se == pytest.approx(expected, rel=0.03)
    assert interval.value == pytest.approx(values.mean())


def test_threshold_by_exhaustive_search():
    cohort = random_cohort(40, seed=6)
    scores = np.random.default_rng(7).random((cohort.n_visits, 9)) * 0.5
    scores += 0.4 * cohort.codes["medication"].multi_hot(9)
    ddi = np.zeros((9, 9), dtype=bool)
    for rules in (HOUSE, VISITS, Protocol("later", scored="from second")):
        found = tune_threshold(cohort, scores, protocol=rules)
        searched = [evaluate(cohort, scores >= t, ddi, protocol=rules).summary()["jaccard"] for t in THRESHOLDS]
        assert searched[int(np.argmin(np.abs(THRESHOLDS - found)))] == pytest.approx(max(searched))


def test_threshold_includes_equality():
    cohort = example.cohort()
    scores = np.where(cohort.codes["medication"].multi_hot(5), 0.4, 0.39).astype(np.float32)
    assert tune_threshold(cohort, scores) == 0.4
    assert (scores >= np.float32(0.4)).sum() == 9


def test_the_columns_of_the_field_come_in_their_order_and_digits():
    found = {name: Interval(i, i - 0.25, i + 0.25, 0.1) for i, name in enumerate(reversed(MEASURES.metrics))}
    row = in_columns(found)
    assert list(row) == ["Jaccard", "DDI rate", "F1", "PRAUC", "medications"]
    assert row["medications"] == "2.0 [1.8, 2.2]"
    assert row["Jaccard"] == "6.000 [5.750, 6.250]"


@pytest.mark.parametrize(
    ("interval", "more", "word"),
    [
        (Interval(0.02, 0.01, 0.03, 0.005), {}, "holds"),
        (Interval(0.02, 0.01, 0.03, 0.005), {"control": 0.015}, "holds"),
        (Interval(0.02, 0.01, 0.03, 0.005), {"control": 0.016}, "other cause"),
        (Interval(0.02, 0.01, 0.03, 0.005), {"only_for": "later visits", "not_for": "first visits"}, "holds in part"),
        (Interval(-0.001, -0.004, 0.002, 0.0015), {}, "does not hold"),
        (Interval(0.003, -0.004, 0.010, 0.0035), {}, "not decided"),
        (Interval(0.02, 0.01, 0.03, 0.005), {"mechanism": "a role for molecular structure"}, "cannot be tested here"),
        (None, {"missing": "no interval is printed"}, "cannot be tested here"),
    ],
)
def test_verdict_words(interval, more, word):
    result = verdict(interval, cohort="synthetic", source="synthetic", n_seeds=5, n_patients=100, **more)
    assert result.word == word


def test_verdict_changes_by_itself_on_real_records():
    delta = Interval(0.02, 0.01, 0.03, 0.005)
    result = verdict(delta, cohort="mimic3", source="credentialed", mechanism="a role for structure")
    assert result.word == "holds"


@pytest.mark.parametrize(
    ("source", "where"), [("synthetic", "synthetic records"), ("demo", "demo records"), ("credentialed", "mimic3")]
)
def test_a_verdict_names_its_records_and_what_it_rests_on(source, where):
    delta = Interval(0.0301, 0.0251, 0.0349, 0.0025)
    said = verdict(delta, cohort="mimic3", source=source, n_seeds=3, n_patients=1009)
    assert str(said) == f"Holds: +0.030 on {where} (95 % +0.025 to +0.035; 3 seeds, 1009 patients)."
    open_question = verdict(Interval(0.001, -0.019, 0.022, 0.01), cohort="mimic3", source=source, n_patients=100)
    assert str(open_question) == f"Not decided: +0.001 on {where} (95 % -0.019 to +0.022; 1 seed, 100 patients)."


def test_a_gain_that_is_too_small_to_matter_says_so():
    small = verdict(Interval(0.002, 0.001, 0.003, 0.0005), cohort="x", source="demo")
    assert small.word == "holds"
    assert "less than the 0.005 that would matter" in small.sentence


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.004, 0.004, "holds"),
        (0.001, 0.004, "holds"),  # they differ, by less than anybody minds
        (-0.004, 0.006, "not decided"),
        (0.004, 0.009, "not decided"),
        (0.006, 0.009, "does not hold"),
        (-0.009, -0.005, "does not hold"),
    ],
)
def test_equality_is_shown_by_a_narrow_interval_and_not_by_one_over_zero(low, high, word):
    delta = Interval((low + high) / 2, low, high, 0.001)
    result = verdict_of_equality(delta, cohort="synthetic", source="synthetic", n_seeds=5, n_patients=100)
    assert result.word == word
    assert "5 seeds, 100 patients" in result.sentence
