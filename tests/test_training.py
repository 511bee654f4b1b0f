"""Training: resumable, repeatable, selected by rule, and stored whole."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from medrec import runs, training
from medrec.data.cohort import Cohort
from medrec.data.split import split_patients
from medrec.metrics import jaccard
from medrec.models.registry import get
from medrec.runs import Run
from medrec.tasks.evaluation import bootstrap
from medrec.tasks.visits import COLUMNS, predict
from medrec.training import load_system, train
from medrec.types import MedrecError
from tests.toys import random_cohort

QUICK = {"epochs": 4, "size": 8, "batch_size": 8}


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return random_cohort(60, seed=1)


def test_a_run_holds_everything(cohort, store):
    run = train("retain", cohort, settings=QUICK, seed=2)
    assert run.folder == store / "random-toy+seed=1" / "retain" / "paper+batch_size=8,epochs=4,size=8" / "seed2"
    assert run.key == "random-toy+seed=1/retain/paper+batch_size=8,epochs=4,size=8/seed2"
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "config.json",
        "environment.json",
        "history.csv",
        "metrics.json",
        "per_patient.parquet",
        "vocabulary.json",
        "weights.safetensors",
    ]
    assert [p.name for p in run.folder.parent.iterdir()] == ["seed2"]  # the checkpoint is gone
    assert run.config["settings"]["size"] == 8
    assert run.environment["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert run.environment["wall_seconds"] > 0
    assert run.history["epoch"].to_list() == [0, 1, 2, 3]
    assert run.vocabulary() == cohort.vocab


def test_stored_results_are_those_of_the_stored_system(cohort):
    run = train("retain", cohort, settings=QUICK)
    system, context = load_system(run)
    test = cohort.select(split_patients(60, 0).test)
    said = predict(system, test, context)
    sets = said.at(run.threshold)
    j = jaccard(test.codes["medication"].multi_hot(9), sets)
    by_patient = [
        np.mean([j[v] for v in range(a, b) if said.scored[v]])
        for a, b in zip(test.visit_offsets[:-1], test.visit_offsets[1:], strict=True)
        if said.scored[a:b].any()
    ]
    assert run.metrics["tuned"]["jaccard"] == pytest.approx(np.mean(by_patient))
    assert run.evaluation("tuned").summary()["jaccard"] == pytest.approx(np.mean(by_patient))
    assert bootstrap(run.evaluation())["jaccard"].value == pytest.approx(np.mean(by_patient))
    assert set(run.evaluation().per_patient["patient"]) <= set(split_patients(60, 0).test)


def test_the_best_epoch_is_kept_and_the_first_is_not_eligible(cohort, monkeypatch):
    scores = iter([0.9, 0.2, 0.6, 0.1])  # validation Jaccard of epochs 0 to 3
    real, weights = training.evaluate, []

    class Fixed:
        def summary(self):
            return {"jaccard": next(scores), "ddi_rate": 0, "f1": 0, "prauc": 0, "n_medications": 0}

    def remember(network, *args):
        weights.append({k: v.clone() for k, v in network.state_dict().items()})
        return float(len(weights))

    def judge(judged, *args, patients=None, **more):
        return Fixed() if patients is None else real(judged, *args, patients=patients, **more)

    real_epoch = training._epoch
    monkeypatch.setattr(training, "_epoch", lambda *a: (real_epoch(*a), remember(a[0]))[1])
    monkeypatch.setattr(training, "evaluate", judge)
    run = train("retain", cohort, settings=QUICK)
    assert run.metrics["best_epoch"] == 2
    stored = run.state()
    assert all(np.array_equal(stored[k], weights[2][k].numpy()) for k in stored)
    assert not all(np.array_equal(stored[k], weights[3][k].numpy()) for k in stored)


def test_patience(cohort, monkeypatch):
    monkeypatch.setattr(training, "_epoch", lambda *a: 0.0)  # nothing is learnt: epoch 1 stays the best
    run = train("retain", cohort, settings={**QUICK, "epochs": 30, "patience": 3})
    assert run.metrics["best_epoch"] == 1
    assert run.history["epoch"].to_list() == [0, 1, 2, 3, 4]


def test_same_seed_same_numbers(cohort):
    one = train("retain", cohort, settings=QUICK, seed=1)
    kept = one.state(), one.history.drop("seconds"), one.metrics
    two = train("retain", cohort, settings=QUICK, seed=1, again=True)
    assert all(np.array_equal(kept[0][k], two.state()[k]) for k in kept[0])
    assert kept[1].equals(two.history.drop("seconds"))
    assert kept[2] == two.metrics
    other = train("retain", cohort, settings=QUICK, seed=2)
    assert not np.array_equal(kept[0]["output.weight"], other.state()["output.weight"])


def test_the_callers_random_numbers_go_on(cohort):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train("retain", cohort, settings=QUICK)
    assert torch.equal(torch.rand(3), expected)


def test_split_seed_and_model_seed_are_two(cohort):
    a = train("retain", cohort, settings=QUICK, seed=1)
    b = train("retain", cohort, settings=QUICK, seed=2)
    c = train("retain", cohort, settings=QUICK, seed=1, split_seed=4)
    patients = [set(run.evaluation().per_patient["patient"]) for run in (a, b, c)]
    assert patients[0] == patients[1] != patients[2]
    assert c.key.endswith("split_seed=4/seed1")
    assert "split_seed=file-order" in train("lr", cohort, split_seed=None).key


class Killed(BaseException):
    """As a process that dies: nothing in the package catches it."""


def test_a_killed_training_goes_on_with_the_same_numbers(cohort, store, monkeypatch):
    whole = train("retain", cohort, settings={**QUICK, "epochs": 6})
    expected = whole.state(), whole.history.drop("seconds"), whole.metrics
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(store.parent / "second"))
    real, done = training._epoch, []

    def mortal(*args):
        if len(done) == 3:
            raise Killed
        done.append(args[6])
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_epoch", mortal)
        with pytest.raises(Killed):
            train("retain", cohort, settings={**QUICK, "epochs": 6})
    assert not list((store.parent / "second").rglob("config.json"))  # no run, only the checkpoint
    assert len(list((store.parent / "second").rglob("state.safetensors"))) == 1
    after = []
    monkeypatch.setattr(training, "_epoch", lambda *a: (after.append(a[6]), real(*a))[1])
    resumed = train("retain", cohort, settings={**QUICK, "epochs": 6})
    assert after == [[0, 3], [0, 4], [0, 5]]
    assert all(np.array_equal(expected[0][k], resumed.state()[k]) for k in expected[0])
    assert expected[1].equals(resumed.history.drop("seconds"))
    assert expected[2] == resumed.metrics


def test_a_checkpoint_of_other_settings_is_not_used(cohort, monkeypatch):
    real, calls = training._epoch, []

    def dies_after_two(*args):
        if len(calls) == 2:
            raise Killed
        calls.append(args[6])
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_epoch", dies_after_two)
        with pytest.raises(Killed):
            train("retain", cohort, settings=QUICK)
    other = random_cohort(60, seed=1, n_medications=8)  # same name and options, other records
    calls.clear()
    monkeypatch.setattr(training, "_epoch", lambda *a: (calls.append(a[6]), real(*a))[1])
    train("retain", other, settings=QUICK)
    assert calls[0] == [0, 0]


def test_a_finished_run_is_not_repeated_unless_asked(cohort, monkeypatch):
    first = train("lr", cohort)
    with monkeypatch.context() as patch:
        patch.setattr(get("lr").cls, "fit", lambda *a: pytest.fail("fitted again"))
        assert train("lr", cohort).folder == first.folder
    fits = []
    real = get("lr").cls.fit
    monkeypatch.setattr(get("lr").cls, "fit", lambda *a: (fits.append(1), real(*a))[1])
    train("lr", cohort, again=True)
    train("lr", random_cohort(60, seed=1, n_medications=8))  # other records under the same name
    assert len(fits) == 2
    assert runs.find(cohort, "lr") is None
    assert runs.find(random_cohort(60, seed=1, n_medications=8), "lr") is not None


@pytest.mark.parametrize("model", ["popularity", "last-visit", "lr"])
def test_estimators_are_stored_and_speak_the_same_again(cohort, model):
    run = train(model, cohort)
    system, context = load_system(run)
    split = split_patients(60, 0)
    fresh = get(model).cls().fit(cohort.select(split.train))
    np.testing.assert_array_equal(
        predict(system, cohort, context).recommended, predict(fresh, cohort, context).recommended
    )
    assert (run.threshold is None) == (model != "lr")
    assert run.history.is_empty()
    if model == "last-visit":
        assert run.metrics["own"]["prauc"] is None  # JSON has no NaN
        assert run.evaluation().by_visit_number()["visits_scored"].to_list() == ["all", "second", "later"]
    for name in COLUMNS:
        assert name in run.metrics["tuned"]
    if model == "lr":
        judges = cohort.select(split.validation)
        heard = predict(system, judges, context)
        at_tuned = training.evaluate(judges, heard.at(run.threshold), context.ddi.numpy(), scored=heard.scored)
        assert run.metrics["tuned"]["validation"] == at_tuned.summary()["jaccard"] != run.metrics["tuned"]["jaccard"]


def test_estimators_never_see_test_patients(cohort):
    split = split_patients(60, 0)
    altered = random_cohort(60, seed=1)
    values = altered.codes["medication"].values
    for patient in split.test:
        a, b = altered.visit_offsets[[patient, patient + 1]]
        rows = altered.codes["medication"].offsets[[a, b]]
        values[rows[0] : rows[1]] = (values[rows[0] : rows[1]] + 1) % 9
    for model in ("popularity", "lr"):
        before, after = train(model, cohort).state(), train(model, altered).state()
        assert all(np.array_equal(before[k], after[k]) for k in before)


# -- mistakes and misfortunes --------------------------------------------------------------------------------------


def test_a_full_disk_leaves_nothing_half_written(cohort, store, monkeypatch):
    from pathlib import Path

    real = Path.write_bytes

    def full(self, content):
        real(self, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    for model in ("lr", "retain"):
        with pytest.raises(MedrecError, match="No space left on device"):
            train(model, cohort, settings=QUICK if model == "retain" else None)
    assert [p for p in store.rglob("*") if p.is_file()] == []


def test_a_store_that_cannot_be_written(cohort, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "file"))
    with pytest.raises(MedrecError, match="Cannot write"):
        train("lr", cohort)


def test_patients_with_one_visit_only():
    lonely = random_cohort(30, seed=2, max_visits=1)
    with pytest.raises(MedrecError, match="two visits or more"):
        train("retain", lonely, settings=QUICK)
    with pytest.raises(MedrecError, match="can be scored"):
        train("last-visit", lonely)
    assert train("lr", lonely).metrics["own"]["visits"] == 5


def test_devices(cohort):
    with pytest.raises(MedrecError, match="no device 'gpu9'"):
        train("lr", cohort, device="gpu9")
    if not torch.cuda.is_available():
        with pytest.raises(MedrecError, match="No CUDA device"):
            train("lr", cohort, device="cuda")


@pytest.mark.gpu
def test_on_an_accelerator(cohort):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    one = train("retain", cohort, settings=QUICK, device="cuda")
    kept = one.state()
    two = train("retain", cohort, settings=QUICK, device="cuda", again=True)
    assert all(np.array_equal(kept[k], two.state()[k]) for k in kept)
    assert "NVIDIA" in two.environment["device"] or "cuda" in two.environment["device"]


def test_a_loss_that_is_no_number(cohort):
    with pytest.raises(MedrecError, match="Lower the learning rate"):
        train("retain", cohort, settings={**QUICK, "learning_rate": 1e30})


def test_damaged_and_missing_runs(cohort, tmp_path):
    with pytest.raises(MedrecError, match="holds no run"):
        Run.load(tmp_path / "nowhere")
    run = train("lr", cohort)
    (run.folder / "metrics.json").write_text("{")
    with pytest.raises(MedrecError, match=r"metrics\.json is damaged"):
        Run.load(run.folder)


def test_metrics_are_standard_json(cohort):
    run = train("last-visit", cohort)
    text = (run.folder / "metrics.json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_fingerprint_follows_the_records(cohort):
    assert runs.fingerprint(cohort) == runs.fingerprint(random_cohort(60, seed=1))
    assert runs.fingerprint(cohort) != runs.fingerprint(random_cohort(60, seed=3))
    assert runs.cohort_key(cohort) == "random-toy+seed=1"
    assert isinstance(pl.read_parquet(train("lr", cohort).folder / "per_patient.parquet"), pl.DataFrame)
