"""The ranking task: values by hand, what is seen and what is asked, and rankers from training to the table."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec import fit, runs
from medrec.context import context_for
from medrec.data.split import split_patients
from medrec.graphs.interactions import Interactions
from medrec.metrics import jaccard
from medrec.models.most_popular import MostPopular
from medrec.models.registry import get
from medrec.runs import Run
from medrec.tasks import visits
from medrec.tasks.evaluation import bootstrap, paired_difference
from medrec.tasks.ranking import (
    COLUMNS,
    HOLD_OUT,
    HOUSE,
    PROTOCOLS,
    Answers,
    Exam,
    Protocol,
    Questions,
    evaluation,
    last_visits,
    rank_visits,
    sets_of_ranker,
    with_threshold,
)
from medrec.training import load_system, look_up, train
from medrec.types import MedrecError, Ragged
from tests.toys import random_cohort
from tests.ward import LAST, ward

TOY = "tests.tasks.toy_ranker:SYSTEM"
NEW = PROTOCOLS["new medications"]
RANKERS = ("most-popular", "repeat", TOY)


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


def grouped_cohort(n_patients=60, seed=1):
    """Patients of three kinds, each with ten medications of its own out of thirty; what was given tends to go on."""
    cohort = random_cohort(n_patients, seed, n_medications=30)
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n_patients)[cohort.patient_of_visit]
    given = rng.random((cohort.n_visits, 30)) < np.where(np.arange(30) // 10 == kind[:, None], 0.3, 0.02)
    for visit in np.flatnonzero(cohort.visit_number > 0):
        given[visit] |= given[visit - 1] & (rng.random(30) < 0.6)
    given[np.arange(cohort.n_visits), 10 * kind] = True
    rows = Ragged(np.concatenate([[0], given.sum(1).cumsum()]), np.nonzero(given)[1])
    return replace(cohort, codes={**cohort.codes, "medication": rows})


@pytest.fixture(scope="module")
def cohort():
    return grouped_cohort()


def answers_of(scores, target, seen=None):
    target = np.asarray(target, dtype=bool)
    n = len(target)
    seen = np.zeros_like(target) if seen is None else np.asarray(seen, dtype=bool)
    return Questions(np.arange(n), np.arange(n), target, seen).answered(np.asarray(scores, dtype=np.float32))


def falling(n, m):
    """Scores by which medication 0 comes first, then 1, 2, ..."""
    return np.tile(-np.arange(m, dtype=np.float32), (n, 1))


def columns(m, *chosen):
    row = np.zeros(m, dtype=bool)
    row[list(chosen)] = True
    return row


# -- values by hand ----------------------------------------------------------------------------------------------------


def test_recall_and_ndcg_of_one_list():
    # Targets at ranks 1, 3, 12 and 25 of 25.
    found = answers_of(falling(1, 25), [columns(25, 0, 2, 11, 24)]).evaluate().summary()
    ideal = 1 + 1 / np.log2(3) + 1 / 2 + 1 / np.log2(5)
    assert found["recall_10"] == 2 / 4
    assert found["recall_20"] == 3 / 4
    assert found["ndcg_10"] == pytest.approx((1 + 1 / 2) / ideal)
    assert found["ndcg_20"] == pytest.approx((1 + 1 / 2 + 1 / np.log2(13)) / ideal)
    assert (found["patients"], found["visits"]) == (1, 1)


def test_the_ideal_list_is_no_longer_than_k():
    # Twelve targets at the first twelve ranks: nobody can do better, and ten of twelve are within ten.
    found = answers_of(falling(1, 25), [columns(25, *range(12))]).evaluate().summary()
    assert (found["ndcg_10"], found["ndcg_20"]) == pytest.approx((1, 1))
    assert found["recall_10"] == pytest.approx(10 / 12)
    # One hit at rank 1 and nothing else is not perfect: 1 / 2.9485 with five targets.
    one = answers_of(falling(1, 25), [columns(25, 0, 21, 22, 23, 24)]).evaluate().summary()
    assert one["ndcg_20"] == pytest.approx(0.3392, abs=5e-5)


def test_equal_scores_stand_in_the_order_of_ids():
    scores = np.zeros((2, 25))
    scores[:, 20] = 1  # 20 first, then 0, 1, 2, ...
    found = answers_of(scores, [columns(25, 8), columns(25, 9)]).evaluate().per_patient
    assert found["recall_10"].to_list() == [1, 0]  # ranks 10 and 11
    assert found["ndcg_20"].to_list() == pytest.approx([1 / np.log2(11), 1 / np.log2(12)])


def test_patients_without_targets_are_left_out():
    target = [columns(25, 0), columns(25), columns(25, 24)]
    found = answers_of(falling(3, 25), target).evaluate()
    assert found.per_patient["patient"].to_list() == [0, 2]
    assert found.summary()["recall_10"] == 1 / 2
    with pytest.raises(MedrecError, match="None of the 3 patients"):
        answers_of(falling(3, 25), [columns(25)] * 3).evaluate()


def test_a_list_longer_than_all_medications_is_the_whole_list():
    found = answers_of(falling(1, 5), [columns(5, 1, 4)]).evaluate().summary()
    assert found["recall_10"] == found["recall_20"] == 1
    ideal = 1 + 1 / np.log2(3)
    assert found["ndcg_10"] == found["ndcg_20"] == pytest.approx((1 / np.log2(3) + 1 / np.log2(6)) / ideal)


def test_masking_and_new_targets():
    seen = [columns(25, *range(10)), columns(25, 0)]
    target = [columns(25, 0, 10, 24), columns(25, 0)]
    found = {
        p.name: answers_of(falling(2, 25), target, seen).evaluate(p).per_patient
        for p in (HOUSE, replace(HOUSE, name="new", targets="new"), NEW, replace(HOUSE, name="masked", masked=True))
    }
    # All targets: of 0, 10, 24 the first is within ten, and a known medication is a right answer.
    assert found["house"]["recall_10"].to_list() == pytest.approx([1 / 3, 1])
    assert found["house"]["recall_20"].to_list() == pytest.approx([2 / 3, 1])
    # New ones alone, the list as it is: 10 stands at rank 11. The second patient has no new medication.
    assert found["new"]["patient"].to_list() == [0]
    assert found["new"]["recall_10"].to_list() == [0]
    assert found["new"]["ndcg_20"].to_list() == pytest.approx([1 / np.log2(12) / (1 + 1 / np.log2(3))])
    # Masked: the ten known ones are not listed, so that 10 comes first and 24 at rank 15.
    assert found["new medications"]["recall_10"].to_list() == [1 / 2]
    assert found["new medications"]["ndcg_20"].to_list() == pytest.approx(
        [(1 + 1 / np.log2(16)) / (1 + 1 / np.log2(3))]
    )
    # What is not listed cannot be a target: masked, all targets are the new ones.
    assert found["masked"].equals(found["new medications"])


def test_a_masked_list_ends_with_what_may_be_listed():
    # All but two are known: both are found, and nothing known takes a place.
    found = answers_of(falling(1, 25), [columns(25, 23, 3)], [~columns(25, 23, 24)]).evaluate(NEW).summary()
    assert found["recall_10"] == 1
    assert found["ndcg_10"] == 1


def test_popularity_in_the_ward():
    cohort = ward()
    graph = Interactions.of(cohort, ~LAST, LAST)
    target = cohort.codes["medication"].take(np.flatnonzero(LAST)).multi_hot(5)
    scores = MostPopular().fit(graph).rank(np.array([0, 1]), None)
    asked = Questions(np.array([0, 1]), np.flatnonzero(LAST), target, graph.matrix[:2]).answered(scores)
    # C03C, N02B, C07A, C10A, J01X; masked, the one new medication comes first for patient 0, third for patient 1.
    assert asked.places(np.ones((2, 5), dtype=bool)).tolist() == [[0, 2, 3, 4, 1]] * 2
    assert asked.evaluate(NEW).per_patient["ndcg_10"].to_list() == pytest.approx([1, 0.5])
    # Jaccard by size, patient 0 with targets 0, 1, 4 and patient 1 with 2, 3.
    by_size = [(1 / 3 + 0) / 2, (2 / 3 + 0) / 2, (1 + 0) / 2, (3 / 4 + 1 / 5) / 2, (3 / 5 + 2 / 5) / 2]
    assert max(by_size) == by_size[2] == by_size[4]  # of equals the smaller
    assert asked.best_size() == 3
    assert asked.sets(3).astype(int).tolist() == [[1, 1, 0, 0, 1]] * 2


def test_the_tuned_size_by_exhaustive_search():
    rng = np.random.default_rng(0)
    target, seen = rng.random((50, 12)) < 0.3, rng.random((50, 12)) < 0.3
    asked = answers_of(rng.normal(size=(50, 12)) + target, target, seen)
    for protocol in (HOUSE, NEW):
        counted = asked.asked(protocol)[0]
        searched = [jaccard(counted, asked.sets(size, protocol)).mean() for size in range(1, 13)]
        assert asked.best_size(protocol) == 1 + int(np.argmax(searched))


def test_sets_are_no_longer_than_what_may_be_listed():
    # Patient 0 may be given one medication anew, and is; patient 1 five, of which the first and the third are right.
    seen = [~columns(6, 5), columns(6, 5)]
    asked = answers_of(falling(2, 6), [columns(6, 5), columns(6, 0, 2)], seen)
    # Mean Jaccard by size: (1 + 1/2)/2, (1 + 1/3)/2, (1 + 2/3)/2, (1 + 2/4)/2, ...
    assert asked.best_size(NEW) == 3
    assert asked.sets(3, NEW).astype(int).tolist() == [[0, 0, 0, 0, 0, 1], [1, 1, 1, 0, 0, 0]]


def test_there_must_be_a_number_for_each_patient_and_medication():
    with pytest.raises(MedrecError, match=r"there are \(1, 24\)"):
        answers_of(falling(1, 24), [columns(25, 0)])
    with pytest.raises(MedrecError, match="some are not numbers"):
        answers_of(falling(1, 25) * np.nan, [columns(25, 0)])


def test_thresholds_mean_nothing_to_a_ranker():
    for threshold in (None, "own", "tuned"):
        assert with_threshold(NEW, threshold) is NEW
    with pytest.raises(MedrecError, match="has no threshold"):
        with_threshold(NEW, 0.4)


# -- what is seen, and what is asked -----------------------------------------------------------------------------------


def test_temporal_asks_for_last_visits_and_shows_what_came_before():
    cohort = random_cohort(60, seed=4)
    exam, split = Exam(cohort, 3), split_patients(60, 3)
    n_visits = np.diff(cohort.visit_offsets)
    for part, patients in (("validation", split.validation), ("test", split.test)):
        asked = exam.questions(part)
        assert asked.patient.tolist() == [p for p in patients if n_visits[p] > 1]
        for row, patient in enumerate(asked.patient):
            first, end = cohort.visit_offsets[[patient, patient + 1]]
            given = [set(cohort.codes["medication"][v].tolist()) for v in range(first, end)]
            assert asked.visit[row] == end - 1
            assert set(np.flatnonzero(asked.target[row])) == given[-1]
            assert set(np.flatnonzero(asked.seen[row])) == set().union(*given[:-1])
            assert set(np.flatnonzero(exam.graph.matrix[patient])) == set().union(*given[:-1])
    for patient in split.train:
        rows = range(*cohort.visit_offsets[[patient, patient + 1]])
        given = set().union(*(cohort.codes["medication"][v].tolist() for v in rows))
        assert set(np.flatnonzero(exam.graph.matrix[patient])) == given
    alone = [p for p in (*split.validation, *split.test) if n_visits[p] == 1]
    assert alone
    assert not exam.graph.matrix[alone].any()
    assert exam.train.tolist() == sorted(set(range(60)) - set(alone))


def test_hold_out_parts_each_patients_medications():
    cohort = grouped_cohort(80, seed=2)
    exam = Exam(cohort, 5, HOLD_OUT)
    whole = Interactions.of(cohort, np.ones(cohort.n_visits, dtype=bool), np.zeros(cohort.n_visits, dtype=bool))
    seen, validation, test = exam.graph.matrix, exam.questions("validation").target, exam.questions("test").target
    np.testing.assert_array_equal(seen.astype(int) + validation + test, whole.matrix)
    n = whole.matrix.sum(1)
    n_test = np.floor(0.2 * n + 0.5)
    np.testing.assert_array_equal(test.sum(1), n_test)
    np.testing.assert_array_equal(validation.sum(1), np.floor(0.1 * (n - n_test) + 0.5))
    assert (n < 3).any()
    assert not test[n < 3].any()
    assert seen.any(1).all()
    # What is left is counted as often as it was given, and what was chosen by is not asked again.
    np.testing.assert_array_equal(exam.graph.visits, np.where(seen, whole.visits, 0))
    np.testing.assert_array_equal(exam.questions("validation").seen, seen)
    np.testing.assert_array_equal(exam.questions("test").seen, seen | validation)
    assert exam.train.tolist() == list(range(80))


def test_hold_out_follows_the_split_seed_and_is_no_matter_of_ids():
    cohort = grouped_cohort(300, seed=2)
    tests = [Exam(cohort, seed, HOLD_OUT).questions("test").target for seed in (0, 0, 1)]
    np.testing.assert_array_equal(tests[0], tests[1])
    assert not np.array_equal(tests[0], tests[2])
    whole = Exam(cohort, 0, HOLD_OUT).graph.matrix | tests[0] | Exam(cohort, 0, HOLD_OUT).questions("validation").target
    share = [
        target[:, half].sum() / whole[:, half].sum() for target in tests[1:] for half in (slice(15), slice(15, 30))
    ]
    assert share == pytest.approx([0.2] * 4, abs=0.03)
    with pytest.raises(MedrecError, match="give a split seed"):
        Exam(cohort, None, HOLD_OUT)


def test_what_training_sees_is_the_key_and_options_are_not(cohort):
    assert Exam(cohort, 0).changes == {}
    assert Exam(cohort, 0, NEW).sees == Exam(cohort, 0).sees
    assert Exam(cohort, None).changes == {"split_seed": "file-order"}
    assert Exam(cohort, 2, HOLD_OUT).changes == {"kind": "hold-out", "split_seed": 2}
    on_test = Protocol("on test", selection="test")
    assert Exam(cohort, 0, on_test).changes == {"selection": "test"}
    run = train("repeat", cohort)
    assert look_up("repeat", cohort, protocol=NEW).folder == run.folder
    assert look_up("repeat", cohort, protocol=HOLD_OUT) is None
    assert look_up("repeat", cohort, protocol=on_test) is None


# -- rankers from training to the table --------------------------------------------------------------------------------


@pytest.mark.parametrize("model", RANKERS)
@pytest.mark.parametrize("protocol", [HOUSE, HOLD_OUT], ids=["temporal", "hold-out"])
def test_a_ranker_is_trained_stored_found_and_evaluated(cohort, model, protocol):
    run = train(model, cohort, protocol=protocol)
    assert train(model, cohort, protocol=protocol).environment == run.environment  # of the first time
    assert look_up(model, cohort, protocol=protocol).folder == run.folder
    system, context = load_system(Run.load(run.folder))
    exam = Exam(cohort, 0, protocol)
    for part, answers in run.answers.items():
        asked = exam.questions(part)
        np.testing.assert_array_equal(answers.scores, system.rank(asked.patient, context))
        np.testing.assert_array_equal(answers.target, asked.target)
    found = run.evaluation().summary()
    assert {name: found[name] for name in COLUMNS} == {name: run.metrics["tuned"][name] for name in COLUMNS}
    assert run.metrics["own"]["patients"] == run.metrics["patients"] == found["patients"]
    assert sum(run.metrics["left_out"].values()) + found["patients"] == run.metrics["split"]["test"]
    assert run.threshold is None
    assert set(COLUMNS) == set(bootstrap(run.evaluation()))
    with pytest.raises(MedrecError, match="has no threshold"):
        run.evaluation(0.5)
    with pytest.raises(MedrecError, match="Train with this protocol"):
        run.evaluation(protocol=HOUSE if protocol is HOLD_OUT else HOLD_OUT)


def test_options_of_evaluation(cohort):
    run = train("repeat", cohort)
    split, n_visits = split_patients(60, 0), np.diff(cohort.visit_offsets)
    assert run.metrics["left_out"] == {"without_past": int((n_visits[split.test] == 1).sum()), "without_target": 0}
    asked = run.answers["test"]
    for protocol in (HOUSE, NEW, replace(HOUSE, targets="new")):
        found = run.evaluation(protocol=protocol)
        target = asked.target if protocol is HOUSE else asked.target & ~asked.seen
        assert found.per_patient["patient"].to_list() == asked.patient[target.any(1)].tolist()
    # What is known comes first in its list: masked it is no better than the list of everybody.
    popular = train("most-popular", cohort)
    assert run.metrics["popularity"] == popular.metrics["popularity"] == popular.metrics["tuned"]["ndcg_20"]
    assert not run.metrics["below_popularity"]
    assert not popular.metrics["below_popularity"]
    assert (run.metrics["degenerate"], popular.metrics["degenerate"]) == (None, "one list for all")
    gain = paired_difference(popular.evaluation(), run.evaluation())
    assert gain["ndcg_20"].value > 0
    same = paired_difference(popular.evaluation(protocol=NEW), run.evaluation(protocol=NEW))
    assert same["ndcg_20"].value == 0


def test_nobody_to_ask():
    lonely = random_cohort(30, seed=2, max_visits=1)
    with pytest.raises(MedrecError, match="None of the 0 patients"):
        train("repeat", lonely)


def test_predictions_in_one_frame(cohort):
    run = train("repeat", cohort)
    frame = run.predictions(cohort)
    assert frame.columns == ["patient", "visit", "class", "score", "recommended", "prescribed"]
    asked = run.answers["test"]
    assert len(frame) == asked.target.size
    size = run.answers["validation"].best_size()
    assert frame["recommended"].sum() == size * len(asked.patient)
    one = frame.filter(frame["visit"] == asked.visit[3])
    assert one["patient"].unique().to_list() == [asked.patient[3]]
    np.testing.assert_array_equal(one["prescribed"], asked.target[3])
    best = one.sort("score", descending=True)["recommended"]
    assert best.to_list() == [True] * size + [False] * (len(best) - size)
    held = train("repeat", cohort, protocol=HOLD_OUT)
    frame, asked = held.predictions(cohort), held.answers["test"]
    assert frame["visit"].null_count() == len(frame) == (~asked.seen).sum()
    assert frame["prescribed"].sum() == asked.target.sum()


def altered_last_visits(cohort, patients):
    """The cohort with other medications at the last visits of these patients, as many as before."""
    values = cohort.codes["medication"].values.copy()
    offsets = cohort.codes["medication"].offsets
    for visit in cohort.visit_offsets[1:][patients] - 1:
        rows = slice(offsets[visit], offsets[visit + 1])
        values[rows] = np.sort((values[rows] + 7) % cohort.n_medications)
    return replace(cohort, codes={**cohort.codes, "medication": Ragged(offsets, values)})


@pytest.mark.parametrize("model", RANKERS)
def test_last_visits_of_test_patients_change_nothing_that_is_learnt_or_chosen(cohort, model):
    split = split_patients(60, 0)
    one, two = train(model, cohort), train(model, altered_last_visits(cohort, split.test))
    assert one.content_key != two.content_key
    before, after = one.state(), two.state()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert one.metrics["best_epoch"] == two.metrics["best_epoch"]
    if not one.history.is_empty():
        assert one.history.drop("seconds").equals(two.history.drop("seconds"))
    np.testing.assert_array_equal(one.answers["test"].scores, two.answers["test"].scores)
    assert one.answers["validation"].best_size() == two.answers["validation"].best_size()
    # And yet they are what the examination is about.
    assert not np.array_equal(one.answers["test"].target, two.answers["test"].target)
    assert one.metrics["tuned"]["ndcg_20"] != two.metrics["tuned"]["ndcg_20"]


def test_last_visits_of_validation_patients_choose_and_do_not_teach(cohort):
    altered = altered_last_visits(cohort, split_patients(60, 0).validation)
    one, two = train(TOY, cohort), train(TOY, altered)
    assert one.history["loss"].equals(two.history["loss"])
    assert not one.history["ndcg_20"].equals(two.history["ndcg_20"])


def test_epochs_are_chosen_by_ndcg_of_the_patients_that_the_protocol_names(cohort):
    for protocol, part in ((HOUSE, "validation"), (Protocol("on test", selection="test"), "test")):
        run = train(TOY, cohort, protocol=protocol)
        chosen = run.history.row(run.metrics["best_epoch"], named=True)
        found = run.answers[part].evaluate().summary()
        assert {name: chosen[name] for name in COLUMNS} == pytest.approx({name: found[name] for name in COLUMNS})
        assert chosen["ndcg_20"] == run.history["ndcg_20"][1:].max()


def test_a_network_learns(cohort):
    untrained = train(TOY, cohort, settings={"epochs": 1, "learning_rate": 1e-9})
    trained = train(TOY, cohort, settings={"epochs": 20})
    assert trained.metrics["own"]["ndcg_20"] > untrained.metrics["own"]["ndcg_20"] + 0.05
    assert trained.history["loss"][-1] < trained.history["loss"][0]


class Killed(BaseException):
    """As a process that dies: nothing in the package catches it."""


def test_a_killed_training_goes_on_with_the_same_numbers(cohort, store, monkeypatch):
    whole = train(TOY, cohort)
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(store.parent / "second"))
    real, done = fit.one_epoch, []

    def mortal(*args):
        if len(done) == 2:
            raise Killed
        done.append(1)
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "one_epoch", mortal)
        with pytest.raises(Killed):
            train(TOY, cohort)
    assert next(runs.all_runs(), None) is None  # no run, only the checkpoint
    counted = []
    monkeypatch.setattr(fit, "one_epoch", lambda *args: (counted.append(1), real(*args))[1])
    resumed = train(TOY, cohort)
    assert len(counted) == 2
    before, after = whole.state(), resumed.state()
    assert set(before) == set(after) == {"patients.weight", "medications.weight", "share"}
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert whole.history.drop("seconds").equals(resumed.history.drop("seconds"))
    assert whole.metrics == resumed.metrics


def test_a_graph_belongs_to_this_task():
    assert [get(model).task for model in RANKERS] == ["ranking"] * 3
    with pytest.raises(MedrecError, match="belongs to the ranking task"):
        context_for(get(TOY), get(TOY).configure(), ward())


# -- both halves of the field in one table -----------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["popularity", "lr", "retain"])
@pytest.mark.parametrize("split_seed", [0, 3, None])
def test_a_visit_system_in_the_ranking_table(cohort, model, split_seed):
    settings = {"epochs": 2, "size": 8} if model == "retain" else None
    run = train(model, cohort, settings=settings, split_seed=split_seed)
    ranker = train("repeat", cohort, split_seed=split_seed)
    found = rank_visits(run, cohort)
    for part, answers in ranker.answers.items():
        np.testing.assert_array_equal(found[part].patient, answers.patient)
        np.testing.assert_array_equal(found[part].visit, answers.visit)
        np.testing.assert_array_equal(found[part].target, answers.target)
        np.testing.assert_array_equal(found[part].seen, answers.seen)
        said = run.answers[part]
        for row in (0, len(answers.patient) - 1):
            at = (said.patient == answers.patient[row]) & (
                said.number == said.number[said.patient == answers.patient[row]].max()
            )
            np.testing.assert_array_equal(found[part].scores[row], said.prediction.scores[at][0])
    for protocol in (HOUSE, NEW):
        ours = evaluation(found, run.ddi(), None, protocol)
        assert set(paired_difference(ranker.evaluation(protocol=protocol), ours)) == set(COLUMNS)


def test_a_system_without_scores_has_no_place_in_a_ranking(cohort):
    with pytest.raises(MedrecError, match="gives no scores"):
        rank_visits(train("last-visit", cohort), cohort)


def test_a_system_that_is_silent_at_a_last_visit_has_no_place_in_a_ranking(cohort):
    run = train("popularity", cohort)
    said = run.answers["test"].prediction
    silent = said.scored.copy()
    silent[-1] = False  # whatever the last patient has: the last visit of somebody
    run.answers["test"] = replace(run.answers["test"], prediction=replace(said, scored=silent))
    assert np.diff(cohort.visit_offsets)[run.answers["test"].patient[-1]] > 1
    with pytest.raises(MedrecError, match="gives no scores"):
        rank_visits(run, cohort)


@pytest.mark.parametrize("model", RANKERS)
def test_a_ranker_in_the_visit_table(cohort, model):
    run = train(model, cohort)
    found = sets_of_ranker(run, cohort)
    size = run.answers["validation"].best_size()
    for part, answers in found.items():
        assert (answers.prediction.recommended.sum(1) == size).all()
        best = np.argsort(-run.answers[part].scores, axis=1, kind="stable")[:, :size]
        assert np.take_along_axis(answers.prediction.recommended, best, 1).all()
    ours = visits.evaluation(found, run.ddi(), None)
    rows = found["test"]
    assert ours.summary()["jaccard"] == pytest.approx(jaccard(rows.target, rows.prediction.recommended).mean())
    assert ours.summary()["n_medications"] == size
    # Other systems meet it at these visits.
    other = train("last-visit", cohort)
    theirs = visits.evaluation(
        {part: last_visits(answers, cohort) for part, answers in other.answers.items()}, other.ddi(), None
    )
    assert set(paired_difference(ours, theirs)) == set(visits.MEASURES.metrics)


def test_the_size_of_sets_is_tuned_on_validation_patients_alone(cohort):
    run = train("most-popular", cohort)
    searched = {
        size: jaccard(run.answers["validation"].target, run.answers["validation"].sets(size)).mean()
        for size in range(1, cohort.n_medications + 1)
    }
    best = min(size for size, value in searched.items() if value >= max(searched.values()) - 1e-12)
    assert sets_of_ranker(run, cohort)["test"].prediction.recommended[0].sum() == best
    others = altered_last_visits(cohort, split_patients(60, 0).test)
    assert sets_of_ranker(train("most-popular", others), others)["test"].prediction.recommended[0].sum() == best


def test_both_tables_want_the_records_of_the_run(cohort):
    other = grouped_cohort(seed=2)
    with pytest.raises(MedrecError, match="other records"):
        sets_of_ranker(train("repeat", cohort), other)
    with pytest.raises(MedrecError, match="other records"):
        rank_visits(train("popularity", cohort), other)
    with pytest.raises(MedrecError, match="are hold-out"):
        sets_of_ranker(train("repeat", cohort, protocol=HOLD_OUT), cohort)


@pytest.mark.gpu
def test_on_an_accelerator(cohort):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    one, two = (train(TOY, cohort, device="cuda", again=True).answers["test"].scores for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert isinstance(train("repeat", cohort, device="cuda").answers["test"], Answers)
