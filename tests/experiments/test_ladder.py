"""The ladder: what each step is told, by hand; nobody is scored by a fit that has seen him; the lines that it draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from medrec.data import load_cohort
from medrec.data.calibration import jaccard
from medrec.data.split import split_patients
from medrec.experiments import ladder
from medrec.models.lr import current_codes
from medrec.types import MedrecError, Ragged
from tests.toys import random_cohort


def small():
    """Two patients with three visits and one, two classes."""
    cohort = random_cohort(2, n_medications=2)
    medications = Ragged.from_lists([[0], [0, 1], [1], [0]])
    return replace(
        cohort,
        visit_offsets=np.array([0, 3, 4]),
        codes={kind: Ragged.from_lists([[0], [1], [0], [1]]) for kind in ("diagnosis", "procedure")}
        | {"symptom": Ragged.from_lists([[]] * 4), "medication": medications},
        admit_time=cohort.admit_time[:1].repeat(4),
        days_since_previous=np.zeros(4, dtype=np.float32),
    )


# -- what is told ----------------------------------------------------------------------------------------------------


def test_the_past_by_hand():
    cohort = small()
    assert ladder.last_given(cohort).tolist() == [[False, False], [True, False], [True, True], [False, False]]
    mean = ladder.mean_before(cohort, ladder.given(cohort).astype(float))
    np.testing.assert_allclose(mean, [[np.nan] * 2, [1, 0], [1, 0.5], [np.nan] * 2])
    told = ladder.with_past(cohort).toarray()
    assert told[2].tolist() == [*current_codes(cohort).toarray()[2], 1, 1, 1, 1, 0.5]
    assert not told[3, -5:].any()


def test_own_past_by_hand():
    cohort = small()
    p = np.full((4, 2), 0.25)
    found = ladder.own_past(cohort, p)
    log_odds = np.log(1 / 3)
    np.testing.assert_allclose(found[2, 1], [log_odds, 1, 1, 0.75, 0.5, 0.25, (0.5 + 1.5) / 2, 2], rtol=1e-5)
    np.testing.assert_allclose(found[3, 0], [log_odds, 0, *[np.nan] * 5, 0], rtol=1e-5)


# -- what learns -----------------------------------------------------------------------------------------------------


def test_nobodys_probability_comes_from_a_fit_that_has_seen_him():
    cohort = random_cohort(60, seed=1)
    x, patients = current_codes(cohort), np.arange(50)
    found = ladder.out_of_fold(cohort, x, patients, C=1.0)
    # Other medications for one patient: the patient's own probabilities stay, others' do not.
    rows = cohort.codes["medication"]
    lists = [list(rows[v]) for v in range(cohort.n_visits)]
    mine = cohort.patient_of_visit == 7
    for v in np.flatnonzero(mine):
        lists[v] = [m for m in range(cohort.n_medications) if m not in lists[v]]
    other = replace(cohort, codes={**cohort.codes, "medication": Ragged.from_lists(lists)})
    moved = np.abs(ladder.out_of_fold(other, x, patients, C=1.0) - found).max(1) > 1e-9
    assert not moved[mine].any()
    assert moved[np.isin(cohort.patient_of_visit, np.arange(50, 60))].all()


def test_trees_see_that_a_class_is_given_again(monkeypatch):
    monkeypatch.setitem(ladder.TREES, "max_iter", 40)  # for 400 visits
    cohort = random_cohort(300, seed=2)
    y = ladder.given(cohort)
    unseen = ladder.out_of_fold(cohort, current_codes(cohort), np.arange(300), C=1.0)
    half = cohort.patient_of_visit < 150
    found = ladder.trees(cohort, unseen, half)
    later = ~half & (cohort.visit_number > 0)

    def loss(p):
        p = p.clip(1e-6, 1 - 1e-6)
        return -np.where(y, np.log(p), np.log1p(-p))[later].mean()

    assert loss(found) < loss(unseen) - 0.02


def test_the_hidden_layer_learns_what_no_regression_can_and_is_the_same_again():
    rng = np.random.default_rng(0)
    bits = rng.random((1200, 2)) < 0.5
    x = sparse.csr_matrix(np.hstack([bits, ~bits]).astype(float))
    y = np.column_stack([bits[:, 0] ^ bits[:, 1], bits[:, 0]])
    train, validation = np.arange(1200) < 800, (np.arange(1200) >= 800) & (np.arange(1200) < 1000)
    found = ladder.hidden_layer(x, y, train, validation)
    assert (((found > 0.5) == y)[1000:]).mean() > 0.95
    linear = ladder.regression(x, y, train, 1.0)
    assert (((linear > 0.5) == y)[1000:, 0]).mean() < 0.7
    assert np.array_equal(found, ladder.hidden_layer(x, y, train, validation))


# -- the generator ---------------------------------------------------------------------------------------------------


def test_who_is_told_more_is_nearer_to_what_was_given():
    cohort = load_cohort("synthetic")
    rows = cohort.patient_of_visit % 2 == 0
    found = ladder.generator(cohort, rows)
    assert tuple(found) == ladder.GENERATOR
    y, later = ladder.given(cohort)[rows], (cohort.visit_number > 0)[rows]
    conditions, severity, last, everything = (
        np.array([jaccard(p[rows] >= cut, y) for cut in np.arange(0.3, 0.5, 0.02)]) for p in found.values()
    )

    def best(values, where=slice(None)):
        return values[:, where].mean(1).max()

    assert best(conditions) + 0.01 < best(severity)
    assert best(severity, later) + 0.01 < best(last, later)
    assert best(last) + 0.04 < best(everything)
    for p in found.values():
        assert p[rows].sum(1).mean() == pytest.approx(y.sum(1).mean(), rel=0.05)
        assert not p[~rows].any()
    # What served last time is nothing that a first visit could be told; for some a stay without a procedure, which the
    # cohort drops, came first.
    told = np.abs(found[ladder.GENERATOR[2]] - found[ladder.GENERATOR[1]])[rows].max(1) > 0.01
    assert told[~later].mean() < 0.1 < 0.9 < told[later].mean()


def test_a_cohort_that_the_generator_did_not_draw_is_refused():
    with pytest.raises(MedrecError, match="come from no generator"):
        ladder.generator(random_cohort(6), np.ones(1, dtype=bool))
    cohort = load_cohort("synthetic")
    patients = np.arange(cohort.n_patients)[::-1]
    with pytest.raises(MedrecError, match="not those that the generator drew"):
        ladder.generator(cohort.select(patients), np.ones(cohort.n_visits, dtype=bool))


# -- the table -------------------------------------------------------------------------------------------------------


def test_rows_of_a_small_cohort_from_end_to_end(monkeypatch, tmp_path):
    monkeypatch.setattr(ladder, "EPOCHS", 2)
    monkeypatch.setattr("medrec.paths.base_dir", lambda: tmp_path)
    cohort = random_cohort(60, seed=3)
    monkeypatch.setattr(ladder, "load_cohort", lambda name: cohort)
    ladder.main(["--cohort", "random-toy"])
    table = ladder.read(cohort).table("ladder")
    steps = [step for step in ladder.STEPS if step not in ladder.GENERATOR]
    assert table["step"].unique(maintain_order=True).to_list() == steps
    assert len(table) == 3 * len(steps)
    by_visits = {visits: table.filter(step="LR", scored=visits)["visits"][0] for visits in ladder.SCORED}
    assert by_visits["all"] == by_visits["first"] + by_visits["later"]
    assert table.filter(step="LR")["over LR"].null_count() == 3
    assert table.filter(step="LR as published", scored="all")["cut"][0] == 0.5
    lines = ladder.lines(cohort, "later")
    assert lines["step"].to_list() == steps
    assert lines["Jaccard"].to_list() == table.filter(scored="later")["Jaccard"].to_list()
    assert ladder.lines("mimic4-demo").is_empty()


@pytest.mark.parametrize("name", ladder.STORED)
def test_the_kept_ladder_leaves_room_for_history_and_none_on_first_visits(name):
    rows = {(row["step"], row["scored"]): row for row in ladder.read(name).table("ladder").iter_rows(named=True)}
    assert 0.62 < rows["all but the draw", "all"]["Jaccard"] < 0.70
    assert max(rows[step, "later"]["over LR"] for step in ladder.STEPS if step in ("LR, trees on the past",)) >= 0.04
    for step in set(ladder.STEPS) - set(ladder.GENERATOR) - {ladder.BASE}:
        # Of a few hundred patients chance alone moves a step by a hundredth.
        assert rows[step, "first"]["over LR low" if name == "synthetic" else "over LR"] < 0.01


COMMON = 25


@pytest.mark.slow
def test_without_history_the_visit_before_tells_nothing_that_the_visit_number_does_not():
    """With ``history`` at 0 a regression that is told the medications of the visit before gains nothing.

    With today's constants a test of this kind once gave +.0037 Jaccard on later visits against a limit of .003, and it
    was asked whether age leaks through the visit before, now that more conditions go uncoded.  It does not.  Over
    generator seeds 0 and 1 and splits 0 to 2 the gain was .0003, -.0002, .0030, -.0004, .0037 and .0026 with a standard
    error of .0016 each (paired, over patients): the limit was less than two of them.  Age and sex given openly are
    worth -.0003, -.0030, .0013, -.0012, -.0010 and .0004.  What is real in the mean (.0015) is that a visit is a later
    one (.0017), which the knob leaves by design, since conditions add up: the regression without the past is told that
    too now, and what is left is -.0001.  The limit stays; it is asked of the mean over three splits, of the
    classes that are given most and with a penalty that suits them.  In today's records what tells nothing costs .005.
    """
    gains = []
    cohort = load_cohort("synthetic-6350", history=0)
    y, later = ladder.given(cohort), cohort.visit_number > 0
    with_last = ladder.with_last(cohort)
    without = with_last[:, : -cohort.n_medications]
    # The classes that are given most, for time.
    often = np.sort(np.argsort(-y.sum(0))[:COMMON])
    for seed in range(3):
        split = split_patients(cohort.n_patients, seed)
        held_out = ladder.visits_of(cohort, split.test)
        score = [
            jaccard(ladder.regression(x, y[:, often], ~held_out, 0.1) >= 0.5, y[:, often])[held_out & later].mean()
            for x in (without, with_last)
        ]
        gains.append(score[1] - score[0])
    assert np.mean(gains) < 0.003, gains
