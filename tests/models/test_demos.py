"""Every system on real records: the three open demos, from training to a recommendation with its reasons."""

import numpy as np
import polars as pl
import pytest

from medrec.data import load_cohort
from medrec.data.split import split_patients
from medrec.inference import FIELDS, recommend
from medrec.models.registry import get, systems
from medrec.runs import Run
from medrec.training import train
from medrec.types import MedrecError
from tests.conftest import demo_dir

SMALL = {"ecc": {"n_chains": 2}, "bimorec": {"epochs": 1, "pretrain": False, "width": 32}}
PATIENTS = 120
"""At most, with the most visits: a first epoch shows as much on these as on all."""


@pytest.fixture(scope="module", params=["mimic3-demo", "mimic4-demo", "eicu-demo"])
def cohort(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDREC_DATA_DIR", str(demo_dir(request.param).parent))
        records = load_cohort(request.param)
    visits = np.diff(records.visit_offsets)
    return records.select(np.sort(np.argsort(-visits, kind="stable")[:PATIENTS]))


def trained(name, cohort, **more):
    settings = SMALL.get(name, {"epochs": 1} if get(name).is_network else {})
    return Run.load(train(name, cohort, settings=settings, **more).folder)


def jaccard_by_hand(rows):
    """Mean over the visits of one patient of what was recommended and what was prescribed there."""
    shares = []
    for visit in rows.partition_by("visit"):
        here, there = (set(visit.filter(column)["class"]) for column in ("recommended", "prescribed"))
        shares.append(len(here & there) / len(here | there))
    return np.mean(shares)


def codes(cohort, visit):
    return {
        field: [cohort.vocab[kind].codes[i] for i in cohort.codes[kind][visit]]
        for field, kind in FIELDS.items()
        if kind in cohort.codes
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", [system.name for system in systems("visits")])
def test_a_system_trains_is_stored_and_recommends_on_a_demo(name, cohort):
    run = trained(name, cohort)
    assert run.config["cohort"]["source"] == "demo"
    frame = run.predictions(cohort)
    totals = run.evaluation().per_patient.group_by("patient").agg(pl.col("n_visits", "jaccard").sum())
    assert set(totals["patient"]) == set(frame["patient"]) <= set(split_patients(cohort.n_patients, 0).test)
    for patient, visits, jaccard in totals.iter_rows():
        assert jaccard / visits == pytest.approx(jaccard_by_hand(frame.filter(patient=patient)))

    # A test patient's last visit, written down as codes: what is recommended is what the stored answers hold.
    visit = frame["visit"].max()
    stored = frame.filter(visit=visit)
    patient = cohort.patient_of_visit[visit]
    now = codes(cohort, visit)
    del now["medications"]
    answer = recommend(run, **now, history=[codes(cohort, v) for v in range(cohort.visit_offsets[patient], visit)])
    assert set(answer.medications["code"]) == set(stored.filter("recommended")["class"])
    if answer.medications["probability"].dtype.is_numeric() and stored["score"].null_count() == 0:
        scores = dict(stored.select("class", "score").iter_rows())
        found = dict(answer.medications.select("code", "probability").iter_rows())
        assert found == pytest.approx({code: scores[code] for code in found}, abs=1e-5)
    if answer.reasons is not None:
        assert answer.reasons["weight"].is_finite().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", [system.name for system in systems("ranking")])
def test_a_ranker_is_stored_and_says_why_it_cannot_recommend(name, cohort):
    run = trained(name, cohort)
    assert run.config["cohort"]["source"] == "demo"
    assert run.predictions(cohort)["score"].is_finite().all()
    with pytest.raises(MedrecError, match="knows nothing of a new one"):
        recommend(run, diagnoses=codes(cohort, 0)["diagnoses"])


@pytest.mark.slow
@pytest.mark.parametrize("name", [system.name for system in systems("ranking")])
def test_a_ranker_finds_held_out_medications_of_every_patient(name, cohort):
    run = trained(name, cohort, protocol="hold-out")
    frame, answers = run.predictions(cohort), run.answers["test"]
    given = [
        np.unique(np.concatenate([cohort.codes["medication"][v] for v in range(*cohort.visit_offsets[p : p + 2])]))
        for p in range(cohort.n_patients)
    ]
    held = frame.filter("prescribed").group_by("patient").len().sort("patient")
    expected = {p: int(0.2 * len(own) + 0.5) for p, own in enumerate(given)}
    assert dict(held.iter_rows()) == {p: n for p, n in expected.items() if n}
    # Nothing is listed that it was shown, and what was held out is among what the patient was given.
    listed = dict(frame.group_by("patient").len().iter_rows())
    assert listed == dict(enumerate((~answers.seen).sum(1).tolist()))
    assert all(set(np.flatnonzero(answers.target[p])) <= set(own.tolist()) for p, own in enumerate(given))
    assert 0 < run.evaluation().summary()["recall_10"] <= run.evaluation().summary()["recall_20"] <= 1
