"""Asking a run about a new patient."""

import json

import numpy as np
import pytest

import medrec.inference
from medrec.data.cohort import Vocabulary
from medrec.inference import code_id, medication_id, read_history, recommend
from medrec.tasks.visits import predict
from medrec.training import load_system, train
from medrec.types import MedrecError
from tests.toys import random_cohort, real_classes

VOCABULARY = Vocabulary(
    "diagnosis", ("9:4280", "10:I509", "9:V103", "10:V103", "ccs:98", "path:heart|valve repair"), tuple("abcdef")
)
CLASSES = Vocabulary("medication", ("B01A", "C03C", "N02B"), ("antithrombotics", "loop diuretics", "paracetamol"))
SYSTEMS = {
    "lr": None,
    "retain": {"epochs": 2, "size": 8},
    "last-visit": None,
    "popularity": None,
    "tests.models.toy_system:SYSTEM": None,
}


@pytest.fixture(scope="module")
def cohort():
    return random_cohort(60, seed=1)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))


def visit_of(cohort, visit, *kinds):
    """What a visit of the cohort looks like to somebody who asks."""
    return {kind: [cohort.vocab[kind].codes[i] for i in cohort.codes[kind][visit]] for kind in kinds}


def asked(run, cohort, patient):
    """The recommendation for the last visit of one of the cohort's patients, and the place of that visit."""
    *before, now = range(*cohort.visit_offsets[[patient, patient + 1]])
    history = [visit_of(cohort, visit, "diagnosis", "procedure", "medication") for visit in before]
    current = visit_of(cohort, now, "diagnosis", "procedure")
    answer = recommend(run, diagnoses=current["diagnosis"], procedures=current["procedure"], history=history)
    return answer, now


def listed(cohort, chosen):
    return {cohort.vocab["medication"].codes[i] for i in np.flatnonzero(chosen)}


# -- codes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("428.0", 0),
        ("4280", 0),
        ("i50.9", 1),
        ("10:V10.3", 3),
        ("9:v103", 2),
        ("CCS:98", 4),
        ("path:heart|valve repair", 5),
    ],
)
def test_codes_as_people_write_them(written, place):
    assert code_id(VOCABULARY, written) == place


def test_codes_that_cannot_be_placed():
    with pytest.raises(MedrecError, match="exists as 9:V103 and 10:V103"):
        code_id(VOCABULARY, "V10.3")
    with pytest.raises(MedrecError, match=r"'428\.9'.*Near it: 9:4280 \(a\)"):
        code_id(VOCABULARY, "428.9")


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("C03C", "C03C"),
        ("c03c", "C03C"),
        ("C03CA", "C03C"),
        ("C03CA01", "C03C"),
        ("furosemide", "C03C"),
        ("Furosemide", "C03C"),
        ("Lasix", "C03C"),
        ("warfarin", "B01A"),
        ("paracetamol", "N02B"),
        ("acetaminophen", "N02B"),
    ],
)
def test_medications_as_people_write_them(written, code):
    assert CLASSES.codes[medication_id(CLASSES, written)] == code


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("spironolactone", "'spironolactone' is of class C03D, which is not among the run's 3 medications"),
        ("C03DA01", "'C03DA01' is of class C03D"),
        ("warfrin", "There is no drug 'warfrin'. Did you mean 'warfarin'?"),
        ("normal saline", "'normal saline' is a fluid"),
        ("qqq", "no medication code 'qqq'"),
    ],
)
def test_medications_that_cannot_be_placed(written, said):
    with pytest.raises(medrec.inference.UnknownCodeError) as raised:
        medication_id(CLASSES, written)
    assert said in str(raised.value)


# -- what is recommended -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SYSTEMS))
def test_a_patient_of_the_cohort_gets_what_the_test_gave(cohort, store, name):
    run = train(name, cohort, settings=SYSTEMS[name])
    system, context = load_system(run)
    prediction = predict(system, cohort, context)
    patient = int(np.flatnonzero(np.diff(cohort.visit_offsets) >= 3)[0])
    answer, now = asked(run, cohort, patient)
    expected = prediction.at(run.threshold)[now] if run.threshold is not None else prediction.recommended[now]
    assert set(answer.medications["code"]) == listed(cohort, expected)
    if prediction.scores is not None:
        p = dict(zip(cohort.vocab["medication"].codes, prediction.scores[now], strict=True))
        for code, probability in answer.medications.select("code", "probability").iter_rows():
            assert probability == pytest.approx(float(p[code]), abs=1e-6)
    assert answer.left_out.is_empty()


@pytest.mark.parametrize("name", ["lr", "retain", "tests.models.toy_system:SYSTEM"])
def test_the_set_is_that_of_the_tuned_threshold_and_not_of_the_systems_own(cohort, store, name):
    """An own threshold of .9 recommends next to nothing, so that the two sets can be told apart."""
    run = train(name, cohort, settings={**(SYSTEMS[name] or {}), "threshold": 0.9})
    assert run.own_threshold == 0.9
    assert run.threshold < 0.8
    system, context = load_system(run)
    prediction = predict(system, cohort, context)
    tuned, own = prediction.at(run.threshold), prediction.recommended
    last = cohort.visit_offsets[1:] - 1
    differ = np.flatnonzero(((tuned != own) & prediction.scored[:, None])[last].any(1))
    assert len(differ) > 10
    for patient in differ[:5]:
        answer, now = asked(run, cohort, patient)
        assert answer.threshold == run.threshold
        assert set(answer.medications["code"]) == listed(cohort, tuned[now]) != listed(cohort, own[now])


def test_interacting_pairs_are_named_by_the_list_that_is_asked_for(store, tmp_path):
    cohort = real_classes(60, seed=1)
    run = train("popularity", cohort)
    answer = recommend(run, diagnoses=["100"])
    codes = answer.medications["code"].to_list()
    matrix, index = run.ddi(), cohort.vocab["medication"].index
    expected = {frozenset((a, b)) for a in codes for b in codes if matrix[index[a], index[b]]}
    assert expected
    assert {frozenset(pair) for pair in answer.interactions.iter_rows()} == expected
    assert "medrec's own" in answer.ddi
    mine = tmp_path / "mine.csv"
    mine.write_text(f"atc3_1,atc3_2\n{codes[0]},{codes[1]}\n")
    other = recommend(run, diagnoses=["100"], ddi=mine)
    assert other.interactions.rows() == [(codes[0], codes[1])]
    assert other.ddi == "the list mine.csv"


def test_a_history_is_asked_for(cohort, store):
    with pytest.raises(MedrecError, match="--history"):
        recommend(train("last-visit", cohort), diagnoses=["9:100"])


def test_the_fields_of_a_file_and_the_names_of_kinds_say_the_same(cohort, store):
    run = train("last-visit", cohort)
    answers = [recommend(run, history=[{name: ["A01B", "A03B"]}]) for name in ("medications", "medication")]
    assert [set(answer.medications["code"]) for answer in answers] == [{"A01B", "A03B"}] * 2
    with pytest.raises(MedrecError, match="named diagnoses, procedures, symptoms, medications"):
        recommend(run, history=[{"drugs": ["A01B"]}])
    with pytest.raises(MedrecError, match="lists of codes"):
        recommend(run, history=[{"medications": "A01B"}])


def test_unknown_codes_are_left_out_and_said_or_refused(cohort, store):
    run = train("lr", cohort)
    plain = recommend(run, diagnoses=["10.0"])
    answer = recommend(run, diagnoses=["10.0", "99.9"], history=[{"medications": ["warfrin"]}])
    assert answer.medications.equals(plain.medications)
    assert answer.left_out.select("kind", "code").rows() == [("diagnosis", "99.9"), ("medication", "warfrin")]
    assert "Did you mean 'warfarin'?" in answer.left_out["why"][1]
    for code in ({"diagnoses": ["99.9"]}, {"history": [{"medications": ["warfrin"]}]}):
        with pytest.raises(MedrecError, match=r"99\.9|warfrin"):
            recommend(run, procedures=["1.1"], strict=True, **code)


def test_nothing_is_recommended_for_nobody(cohort, store):
    run = train("lr", cohort)
    with pytest.raises(MedrecError, match="Nothing is said of the patient"):
        recommend(run)
    with pytest.raises(MedrecError, match=r"none of the 2 codes given\. .*'99\.9'"):
        recommend(run, diagnoses=["99.9", "98.9"])


def test_a_ranker_says_why_it_cannot(cohort, store):
    for name in ("most-popular", "tests.tasks.toy_ranker:SYSTEM"):
        run = train(name, cohort)
        with pytest.raises(MedrecError, match="ranks medications for the patients that it was trained on"):
            recommend(run, diagnoses=["10.0"])


# -- without a run -------------------------------------------------------------------------------------------------


@pytest.fixture
def small_default(monkeypatch, cohort, store):
    """The toy behind the name of the default cohort."""
    monkeypatch.setattr(medrec.inference, "load_cohort", lambda name: {"synthetic": cohort}[name])


def test_without_a_run_a_regression_is_trained_once_and_said(small_default, cohort, capsys):
    first = recommend(diagnoses=["10.0"])
    assert "logistic regression is trained on the cohort 'synthetic'" in capsys.readouterr().err
    second = recommend(diagnoses=["10.0"])
    assert capsys.readouterr().err == ""
    named = recommend(train("lr", cohort), diagnoses=["10.0"])
    assert first.run.content_key == second.run.content_key == named.run.content_key
    assert first.plain() == second.plain() == named.plain()


def test_an_answer_fits_into_json(small_default):
    answer = recommend(diagnoses=["10.0", "99.9"])
    found = json.loads(json.dumps(answer.plain()))
    assert found["system"] == "lr"
    assert found["cohort"]["source"] == "synthetic"
    assert found["threshold"] == answer.run.threshold
    assert [m["code"] for m in found["medications"]] == answer.medications["code"].to_list()
    assert set(found["medications"][0]) == {"code", "title", "probability"}
    assert [entry["code"] for entry in found["left_out"]] == ["99.9"]
    assert found["older_code"] == []


# -- history files -------------------------------------------------------------------------------------------------


def test_history_files(tmp_path):
    path = tmp_path / "visits.json"
    path.write_text(json.dumps([{"diagnoses": ["428.0"], "medications": ["C03C"]}, {}]))
    assert read_history(path) == [{"diagnoses": ["428.0"], "medications": ["C03C"]}, {}]
    for content, said in (
        ('{"diagnoses": []}', "must hold a list of visits"),
        ('[{"diagnosis": []}]', "visit 1: there is no field 'diagnosis'. Did you mean 'diagnoses'"),
        ('[{"diagnoses": [428]}]', "list of codes in quotes"),
        ("[", "is not JSON"),
    ):
        path.write_text(content)
        with pytest.raises(MedrecError, match=said):
            read_history(path)
    with pytest.raises(MedrecError, match="There is no file"):
        read_history(tmp_path / "none.json")
    with pytest.raises(MedrecError, match="cannot be read"):
        read_history(tmp_path)
