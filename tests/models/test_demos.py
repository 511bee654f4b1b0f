"""Every system on real records: the three open demos, from training to a recommendation with its reasons."""

import numpy as np
import pytest

from medrec.data import load_cohort
from medrec.inference import recommend
from medrec.models.registry import ENTRIES, get
from medrec.runs import Run
from medrec.training import train
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


@pytest.mark.slow
@pytest.mark.parametrize("model", list(ENTRIES))
def test_a_system_trains_is_stored_and_recommends_on_a_demo(model, cohort):
    settings = SMALL.get(model, {"epochs": 1} if get(model).is_network else {})
    run = Run.load(train(model, cohort, settings=settings).folder)
    assert run.config["cohort"]["source"] == "demo"
    test = run.evaluation().per_patient
    assert (test["jaccard"] / test["n_visits"]).is_between(0, 1).all()
    assert len(test) > 1

    patient = int(np.argmax(np.diff(cohort.visit_offsets) > 1))
    before, now = cohort.visit_offsets[patient], cohort.visit_offsets[patient] + 1

    def codes(kind, visit):
        return [cohort.vocab[kind].codes[i] for i in cohort.codes[kind][visit]]

    history = [{kind: codes(kind, before) for kind in ("diagnosis", "procedure", "medication")}]
    answer = recommend(run, diagnoses=codes("diagnosis", now), procedures=codes("procedure", now), history=history)
    assert set(answer.medications["code"]) <= set(cohort.vocab["medication"].codes)
    if answer.reasons is not None:
        assert set(answer.reasons["medication"]) <= set(answer.medications["code"])
        assert answer.reasons["weight"].is_finite().all()
