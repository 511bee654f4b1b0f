"""Asking a run about a new patient."""

import json

import numpy as np
import pytest

from medrec.data.cohort import Vocabulary
from medrec.inference import code_id, read_history, recommend
from medrec.tasks.visits import predict
from medrec.training import load_system, train
from medrec.types import MedrecError
from tests.toys import random_cohort

VOCABULARY = Vocabulary(
    "diagnosis", ("9:4280", "10:I509", "9:V103", "10:V103", "ccs:98", "path:heart|valve repair"), tuple("abcdef")
)


@pytest.fixture(scope="module")
def cohort():
    return random_cohort(60, seed=1)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))


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


@pytest.mark.parametrize("model", ["lr", "retain", "last-visit", "popularity"])
def test_a_patient_of_the_cohort_gets_what_the_test_gave(cohort, store, model):
    run = train(model, cohort, settings={"epochs": 2, "size": 8} if model == "retain" else None)
    system, context = load_system(run)
    said = predict(system, cohort, context)
    patient = int(np.flatnonzero(np.diff(cohort.visit_offsets) >= 3)[0])
    visits = np.arange(*cohort.visit_offsets[[patient, patient + 1]])

    def codes(kind, visit):
        return [cohort.vocab[kind].codes[i] for i in cohort.codes[kind][visit]]

    history = [{k: codes(k, v) for k in ("diagnosis", "procedure", "medication")} for v in visits[:-1]]
    now = visits[-1]
    answer = recommend(run, diagnoses=codes("diagnosis", now), procedures=codes("procedure", now), history=history)
    expected = said.at(run.threshold)[now] if run.threshold is not None else said.recommended[now]
    assert set(answer.medications["code"]) == {cohort.vocab["medication"].codes[i] for i in np.flatnonzero(expected)}
    if said.scores is not None:
        p = dict(zip(cohort.vocab["medication"].codes, said.scores[now], strict=True))
        for code, probability in answer.medications.select("code", "probability").iter_rows():
            assert probability == pytest.approx(float(p[code]), abs=1e-6)
    for a, b in answer.interactions.iter_rows():
        i, j = (cohort.vocab["medication"].index[x] for x in (a, b))
        assert context.ddi[i, j]


def test_a_history_is_asked_for(cohort, store):
    with pytest.raises(MedrecError, match="--history"):
        recommend(train("last-visit", cohort), diagnoses=["9:100"])


def test_history_files(tmp_path):
    path = tmp_path / "visits.json"
    path.write_text(json.dumps([{"diagnoses": ["428.0"], "medications": ["C03C"]}, {}]))
    assert read_history(path) == [{"diagnosis": ["428.0"], "medication": ["C03C"]}, {}]
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
