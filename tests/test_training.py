"""Training: nothing is learnt, chosen or tuned on patients who are not there for it; runs are whole, and found."""

import re
import sys
from dataclasses import fields, replace
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch
from tqdm import tqdm

from medrec import context as contexts
from medrec.data.cohort import Cohort
from medrec.data.split import split_patients
from medrec.fit import one_epoch
from medrec.lab.behaviour import TOY
from medrec.metrics import jaccard
from medrec.models import registry
from medrec.runs import Run
from medrec.tasks.evaluation import bootstrap
from medrec.tasks.visits import COLUMNS, HOUSE, PROTOCOLS, Protocol, predict
from medrec.training import load_system, look_up, train
from medrec.types import Interrupted, MedrecError, Ragged
from tests.toys import random_cohort, real_classes, watched

QUICK = {"epochs": 4, "size": 8, "batch_size": 8}
VISIT_SYSTEMS = [name for name in registry.NAMES if registry.get(name).task == "visits"]
NETWORKS = [name for name in registry.NAMES if registry.get(name).is_network]


def light(name, **more):
    """Settings with which any system trains in a second."""
    known = {f.name for f in fields(registry.get(name).config)}
    return {k: v for k, v in {**TOY, **more}.items() if k in known}


def altered(cohort, patients):
    """The cohort with all medications of these patients moved on by one class."""
    values = cohort.codes["medication"].values.copy()
    for patient in patients:
        a, b = cohort.codes["medication"].offsets[cohort.visit_offsets[[patient, patient + 1]]]
        values[a:b] = (values[a:b] + 1) % cohort.n_medications
    return replace(cohort, codes={**cohort.codes, "medication": Ragged(cohort.codes["medication"].offsets, values)})


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def cohort():
    return random_cohort(60, seed=1)


@pytest.fixture(scope="module")
def records():
    """With classes that have molecules, and symptoms."""
    return real_classes(48, seed=3, n_symptoms=4)


# -- hygiene, as properties over all systems -------------------------------------------------------------------------


def learnt(run):
    return run.state(), [] if run.history.is_empty() else run.history["loss"].to_list()


def same_state(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", registry.NAMES)
def test_targets_of_test_patients_change_nothing_that_is_learnt_chosen_or_tuned(records, name):
    split = split_patients(records.n_patients, 0)
    settings = light(name, epochs=3)
    if registry.get(name).task == "ranking":
        # Their earlier visits are what a ranker learns from; asked is the last one.
        others = last_visits_altered(records, split.test)
    else:
        others = altered(records, split.test)
    one, two = train(name, records, settings=settings), train(name, others, settings=settings)
    assert one.content_key != two.content_key
    assert same_state(one.state(), two.state())
    assert one.metrics["best_epoch"] == two.metrics["best_epoch"]
    assert one.threshold == two.threshold
    before, after = one.answers["validation"].arrays(), two.answers["validation"].arrays()
    assert same_state(before, after)
    assert not np.array_equal(one.answers["test"].target, two.answers["test"].target)


def last_visits_altered(cohort, patients):
    values = cohort.codes["medication"].values.copy()
    offsets = cohort.codes["medication"].offsets
    for last in cohort.visit_offsets[1:][patients] - 1:
        values[offsets[last] : offsets[last + 1]] = (values[offsets[last] : offsets[last + 1]] + 1) % 9
    return replace(cohort, codes={**cohort.codes, "medication": Ragged(offsets, values)})


@pytest.mark.parametrize("name", VISIT_SYSTEMS)
def test_validation_patients_are_not_trained_on_nor_counted(records, name):
    settings = light(name, epochs=2)
    others = altered(records, split_patients(records.n_patients, 0).validation)
    one, two = (train(name, c, settings=settings) for c in (records, others))
    assert learnt(one)[1] == learnt(two)[1], "the losses of every epoch are the same"
    if not registry.get(name).is_network:
        assert same_state(one.state(), two.state())


@pytest.mark.parametrize("name", VISIT_SYSTEMS)
def test_what_is_learnt_changes_with_the_training_patients(records, name):
    """Otherwise the two tests above could not fail."""
    if name == "last-visit":
        pytest.skip("it learns nothing")
    settings = light(name, epochs=2)
    others = altered(records, split_patients(records.n_patients, 0).train)
    one, two = (train(name, c, settings=settings) for c in (records, others))
    assert not same_state(one.state(), two.state())


def test_the_epoch_is_chosen_on_validation_patients_or_where_asked_on_test_patients(records):
    """Two epochs are eligible; whose patients decide is seen by altering the others."""
    settings = {**QUICK, "epochs": 6}
    on_test = Protocol("selection on test", selection="test")
    split = split_patients(records.n_patients, 0)
    run = train("retain", records, settings=settings, protocol=on_test)
    assert "selection=test" in run.key
    # The history is that of the patients who choose.
    chosen = run.history.row(int(run.metrics["best_epoch"]), named=True)["jaccard"]
    assert run.evaluation("own").summary()["jaccard"] == pytest.approx(chosen)
    others = train("retain", altered(records, split.validation), settings=settings, protocol=on_test)
    assert same_state(run.state(), others.state())
    house = train("retain", records, settings=settings)
    assert house.history["jaccard"].to_list() != run.history["jaccard"].to_list()


@pytest.mark.parametrize("name", NETWORKS)
def test_weight_decay_and_learning_rate_are_followed(records, name):
    plain, decayed, faster = (
        train(name, records, settings=light(name, epochs=1, **more)).state()
        for more in ({"weight_decay": 0.0}, {"weight_decay": 0.5}, {"learning_rate": 0.05})
    )
    assert not same_state(plain, decayed)
    assert not same_state(plain, faster)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name in VISIT_SYSTEMS])
def test_every_epoch_shuffles_otherwise(records, name):
    """Rankers are asked in their own battery."""
    system = registry.get(name)
    config = system.configure("paper", light(name))
    torch.manual_seed(0)
    network = system.create(config, contexts.context_for(system, config, records))
    rows = np.arange(records.n_patients)
    first, again, second = (
        [tuple(batch.patients.tolist()) for batch in network.batches(records, rows, order)]
        for order in ([0, 0], [0, 0], [0, 1])
    )
    assert first == again != second
    assert sorted(p for batch in first for p in batch) == rows.tolist()


# -- what a run holds ------------------------------------------------------------------------------------------------


def test_a_run_holds_everything(cohort, store):
    run = train("retain", cohort, settings=QUICK, seed=2)
    assert run.folder == store / "random-toy+seed=1" / "retain" / "paper+batch_size=8,epochs=4,size=8" / "seed2"
    assert run.key == "random-toy+seed=1/retain/paper+batch_size=8,epochs=4,size=8/seed2"
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "answers.safetensors",
        "checksums.json",
        "config.json",
        "environment.json",
        "history.csv",
        "metrics.json",
        "vocabulary.json",
        "weights.safetensors",
    ]
    assert [p.name for p in run.folder.parent.iterdir()] == ["seed2"]  # the checkpoint is gone
    assert run.config["settings"]["size"] == 8
    assert run.environment["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert run.environment["threads"] == torch.get_num_threads()
    assert run.environment["wall_seconds"] > 0
    assert run.history["epoch"].to_list() == [0, 1, 2, 3]
    assert run.vocabulary() == cohort.vocab


@pytest.mark.parametrize("name", VISIT_SYSTEMS)
def test_stored_answers_and_results_are_those_of_the_stored_system(records, name):
    run = train(name, records, settings=light(name))
    system, context = load_system(run)
    test = records.select(split_patients(records.n_patients, 0).test)
    found = predict(system, test, context)
    stored = run.answers["test"].prediction
    np.testing.assert_array_equal(stored.recommended, found.recommended)
    np.testing.assert_array_equal(stored.scored, found.scored)
    if found.scores is not None:
        np.testing.assert_array_equal(stored.scores, found.scores)
    # By hand: sets at the tuned threshold, means over a patient's visits, then over patients.
    sets = found.recommended if run.threshold is None else found.at(run.threshold)
    j = jaccard(test.codes["medication"].multi_hot(9), sets)
    by_patient = [
        np.mean([j[v] for v in range(a, b) if found.scored[v]])
        for a, b in zip(test.visit_offsets[:-1], test.visit_offsets[1:], strict=True)
        if found.scored[a:b].any()
    ]
    for value in (
        run.metrics["tuned"]["jaccard"],
        run.evaluation().summary()["jaccard"],
        bootstrap(run.evaluation())["jaccard"].value,
    ):
        assert value == pytest.approx(np.mean(by_patient))
    assert set(run.evaluation().per_patient["patient"]) <= set(split_patients(records.n_patients, 0).test)


@pytest.mark.parametrize("name", ["lr", "retain", "last-visit"])
def test_predictions_are_one_frame_that_gives_the_results_again(records, name):
    run = train(name, records, settings=light(name))
    frame = run.predictions(records)
    assert frame.columns == ["patient", "visit", "class", "score", "recommended", "prescribed"]
    assert len(frame) == run.evaluation().summary()["visits"] * 9
    both, either = pl.col("recommended") & pl.col("prescribed"), pl.col("recommended") | pl.col("prescribed")
    by_visit = frame.group_by("patient", "visit").agg(hits=both.sum(), either=either.sum())
    by_patient = by_visit.with_columns(j=by_visit["hits"] / by_visit["either"]).group_by("patient").mean()
    assert by_patient["j"].mean() == pytest.approx(run.metrics["tuned"]["jaccard"])
    assert (frame["score"].null_count() == len(frame)) == (name == "last-visit")
    first = frame.row(0, named=True)
    given = records.codes["medication"][first["visit"]]
    assert first["prescribed"] == (records.vocab["medication"].index[first["class"]] in given)
    with pytest.raises(MedrecError, match="other records"):
        run.predictions(random_cohort(48, seed=5))


# -- evaluation is a function of stored scores -----------------------------------------------------------------------


def test_every_option_of_a_protocol_is_read(records):
    """One option is turned at a time, and each makes another number or another run."""
    settings = light("retain", epochs=3)
    run = train("retain", records, settings=settings)
    seen = {"split": "file order", "selection": "test"}
    counted = {"scored": "from second", "aggregation": "visits", "threshold": 0.3, "bootstrap": "field"}
    assert {f.name for f in fields(Protocol)} - {"name", "source"} == seen.keys() | counted.keys()
    for option, value in seen.items():
        other = train("retain", records, settings=settings, protocol=replace(HOUSE, **{option: value}))
        assert other.folder != run.folder
        assert other.content_key != run.content_key
    lr = train("lr", records)
    for option, value in counted.items():
        protocol = replace(HOUSE, **{option: value})
        assert train("lr", records, protocol=protocol).folder == lr.folder
        if option == "bootstrap":
            from medrec.tasks.visits import intervals

            one, other = (intervals(lr.evaluation(), p)["jaccard"] for p in (HOUSE, protocol))
            assert one.se != other.se
        else:
            found = [lr.evaluation(protocol=p).summary()["jaccard"] for p in (HOUSE, protocol)]
            assert found[0] != found[1], option


def test_two_protocols_do_not_take_each_others_runs(records):
    line = PROTOCOLS["SafeDrug line"]
    house, file_order = train("lr", records), train("lr", records, protocol=line)
    assert house.folder != file_order.folder
    assert file_order.config["sees"]["split_seed"] is None, "it declares file order, and that is what it gets"
    assert train("lr", records).folder == house.folder


# -- the store -------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_not_repeated_unless_asked(cohort, monkeypatch):
    first = train("lr", cohort)
    fits = []
    real = registry.get("lr").cls.fit
    monkeypatch.setattr(registry.get("lr").cls, "fit", lambda *a: (fits.append(1), real(*a))[1])
    monkeypatch.setattr(contexts, "build", lambda *a, **k: pytest.fail("a context was built for a hit"))
    assert train("lr", cohort).folder == first.folder
    assert look_up("lr", cohort).folder == first.folder
    assert look_up("lr", cohort, seed=1) is None
    monkeypatch.undo()
    assert fits == []


def test_where_a_name_is_taken_both_stay(store, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(store))
    one, two = random_cohort(60, seed=1), random_cohort(60, seed=1, n_medications=8)  # one name, other records
    first, second = train("lr", one), train("lr", two)
    assert second.folder.name == f"seed0-{second.content_key[:8]}"
    assert first.folder.name == "seed0"
    assert train("lr", one).folder == first.folder
    assert train("lr", two).folder == second.folder
    assert train("lr", two, again=True).folder == second.folder
    assert look_up("lr", one).metrics["tuned"] != look_up("lr", two).metrics["tuned"]


DAMAGE = {
    "truncated": lambda b: b[: len(b) // 2],
    "flipped": lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 1]) + b[len(b) // 2 + 1 :],
    "empty": lambda b: b"",
}


@pytest.mark.parametrize("how", [*DAMAGE, "missing"])
def test_a_damaged_run_is_made_again_with_one_line_saying_so(cohort, capsys, how):
    run = train("lr", cohort)
    expected, names = (run.state(), run.metrics), [p.name for p in run.folder.iterdir()]
    for name in names:
        path = run.folder / name
        if how == "missing":
            path.unlink()
        else:
            path.write_bytes(DAMAGE[how](path.read_bytes()))
        again = train("lr", cohort)
        assert again.folder == run.folder
        assert same_state(again.state(), expected[0])
        assert again.metrics == expected[1]
        if name != "config.json":  # without a key there is nothing to recognise
            assert capsys.readouterr().err.count("is damaged") == 1, name
        path.unlink()
        with pytest.raises(MedrecError, match=r"damaged|holds no run"):
            Run.load(run.folder)
        train("lr", cohort)
        capsys.readouterr()


def test_what_does_not_fit_any_more_says_so(records, monkeypatch):
    from medrec.knowledge import structures

    run = train("safedrug", records, settings=light("safedrug"))
    known = structures._smiles()
    moved = dict(zip(known, [*list(known.values())[1:], next(iter(known.values()))], strict=True))
    monkeypatch.setattr(structures, "_smiles", lambda: moved)
    with pytest.raises(MedrecError, match=r"molecules that .* changed since"):
        load_system(run)
    monkeypatch.undo()
    assert run.changed_code == []
    run.config["code"]["medrec.models.safedrug"] = "other"
    assert run.changed_code == ["medrec.models.safedrug"]


# -- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", registry.NAMES)
def test_same_seed_same_numbers_another_seed_others(records, name):
    settings = light(name)
    one = train(name, records, settings=settings, seed=1)
    kept = one.state(), one.metrics, one.answers["test"].arrays()
    two = train(name, records, settings=settings, seed=1, again=True)
    assert same_state(kept[0], two.state())
    assert kept[1] == two.metrics
    assert same_state(kept[2], two.answers["test"].arrays())
    if registry.get(name).is_network:
        assert not same_state(kept[0], train(name, records, settings=settings, seed=2).state())


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
    from medrec import fit

    settings = {**QUICK, "epochs": 6}
    whole = train("retain", cohort, settings=settings)
    expected = whole.state(), whole.history.drop("seconds"), whole.metrics
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(store.parent / "second"))
    done = []

    def mortal(*args):
        if len(done) == 3:
            raise Killed
        done.append(args[5])
        return one_epoch(*args)

    monkeypatch.setattr(fit, "one_epoch", mortal)
    with pytest.raises(Killed):
        train("retain", cohort, settings=settings)
    assert not list((store.parent / "second").rglob("config.json"))  # no run, only the checkpoint
    assert len(list((store.parent / "second").rglob("state.safetensors"))) == 1
    after = []
    monkeypatch.setattr(fit, "one_epoch", lambda *a: (after.append(a[5]), one_epoch(*a))[1])
    resumed = train("retain", cohort, settings=settings)
    assert after == [3, 4, 5]
    assert same_state(expected[0], resumed.state())
    assert expected[1].equals(resumed.history.drop("seconds"))
    assert expected[2] == resumed.metrics


# -- while one waits -------------------------------------------------------------------------------------------------

ESTIMATORS = [name for name in registry.NAMES if name not in NETWORKS]


@pytest.mark.parametrize("name", [*ESTIMATORS, "retain", "safedrug"])
def test_every_training_says_on_a_terminal_what_it_does(records, monkeypatch, name):
    terminal = watched(monkeypatch)
    train(name, records, settings=light(name, epochs=2))
    label, said = registry.get(name).label, terminal.getvalue()
    seed = ", seed 0" if name in NETWORKS else ""
    for stage in (f"{label}: getting ready", f"{label}, random-toy{seed}", f"{label}, random-toy{seed}: results"):
        assert stage in said
    if name in NETWORKS:
        assert "2/2" in said


@pytest.mark.parametrize(("name", "unit"), [("lr", "medication"), ("ecc", "regression")])
def test_regressions_are_counted_to_the_end(records, monkeypatch, name, unit):
    terminal = watched(monkeypatch)
    monkeypatch.setattr("medrec.progress.tqdm", partial(tqdm, mininterval=0))
    train(name, records, settings=light(name))
    counts = re.findall(rf"{name.upper()}: .* (\d+)/(\d+) .*{unit}", terminal.getvalue())
    assert len(counts) > 1
    assert counts[-1][0] == counts[-1][1]


def test_nothing_is_said_where_nobody_watches(records, capsys):
    for name in ("lr", "ecc", "retain"):
        train(name, records, settings=light(name))
    assert capsys.readouterr().err == ""


def interrupts(*_args, **_more):
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_interrupted_fit_says_that_nothing_is_kept(records, store, monkeypatch, name):
    monkeypatch.setattr(registry.get(name).cls, "fit", interrupts)
    with pytest.raises(Interrupted) as raised:
        train(name, records)
    label = registry.get(name).label
    assert str(raised.value) == f"{label}, random-toy: interrupted before anything could be kept."
    assert list(store.rglob("*.json")) == []


def test_an_interrupt_after_the_last_epoch_costs_no_epoch(records, monkeypatch):
    from medrec.tasks.visits import Exam

    settings = light("retain")
    with monkeypatch.context() as patch:
        patch.setattr(Exam, "answers", interrupts)
        with pytest.raises(Interrupted, match="after the last epoch: run it again, and only the results are missing"):
            train("retain", records, settings=settings)
    monkeypatch.setattr("medrec.fit.one_epoch", lambda *a: pytest.fail("an epoch was trained again"))
    assert train("retain", records, settings=settings).metrics["epochs"] == settings["epochs"]


def test_a_checkpoint_of_a_whole_run_is_taken_away(cohort, monkeypatch):
    """As after a kill between writing the run and taking its checkpoint away."""
    from medrec.fit import Checkpoint

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "remove", lambda self: None)
        run = train("retain", cohort, settings=QUICK)
    assert [p.name for p in run.folder.parent.iterdir() if p.name.startswith(".")]
    assert train("retain", cohort, settings=QUICK).folder == run.folder
    assert [p.name for p in run.folder.parent.iterdir()] == [run.folder.name]


# -- what has not learnt ---------------------------------------------------------------------------------------------


def test_a_run_says_whether_it_has_converged_and_what_it_recommends(cohort):
    short = train("retain", cohort, settings={**QUICK, "epochs": 2})
    assert not short.metrics["converged"]
    assert "at the limit of 2 epochs, not converged" in short.ending
    assert "had not converged after 2 epochs" in short.warning
    long = train("retain", cohort, settings={**QUICK, "epochs": 500, "patience": 3, "patience_steps": 10})
    assert long.metrics["converged"]
    assert "no better validation value for 3 epochs and 10 steps" in long.ending
    assert "converged" not in long.warning
    settings = {**QUICK, "epochs": 6, "schedule": "cosine", "patience": 6, "patience_steps": 24}
    falling = train("retain", cohort, settings=settings)
    assert falling.metrics["converged"]
    assert falling.metrics["epochs"] == 6
    assert "its learning rate at nothing" in falling.ending
    lr = train("lr", cohort)
    assert lr.metrics["converged"]
    assert lr.ending.startswith("Recommends ")
    assert f"{lr.metrics['tuned']['n_medications']:.1f} medications" in lr.ending


def test_degenerate_answers_and_those_below_popularity_are_named(cohort):
    popular = train("popularity", cohort)
    assert popular.metrics["degenerate"] in ("everything", "one list for all")
    assert not popular.metrics["below_popularity"], "it is popularity"
    assert popular.metrics["popularity"] == pytest.approx(popular.metrics["tuned"]["jaccard"])
    last = train("last-visit", cohort)
    assert last.metrics["degenerate"] is None
    assert last.metrics["below_popularity"] == (last.metrics["tuned"]["jaccard"] < last.metrics["popularity"])


# -- mistakes and misfortunes ----------------------------------------------------------------------------------------


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
    assert same_state(kept, two.state())
    assert "NVIDIA" in two.environment["device"] or "cuda" in two.environment["device"]


def test_a_loss_that_is_no_number(cohort, monkeypatch):
    network = registry.get("retain").cls
    real = network.loss
    monkeypatch.setattr(network, "loss", lambda self, batch, context: real(self, batch, context) * float("nan"))
    with pytest.raises(MedrecError, match="Lower the learning rate"):
        train("retain", cohort, settings=QUICK)


def test_metrics_are_standard_json(cohort):
    import json

    run = train("last-visit", cohort)
    text = (run.folder / "metrics.json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert run.metrics["own"]["prauc"] is None  # JSON has no NaN
    assert set(COLUMNS) <= run.metrics["tuned"].keys()


class _ArrivedError(Exception):
    """A network's first epoch begins."""


def walk(monkeypatch, do):
    """Files of the package whose functions are given a cohort, as it comes to them; but for the cohort's own file."""
    met = []

    def watch(frame, event, _):
        code = frame.f_code
        room = code.co_filename.partition("/medrec/")[2]
        if event != "call" or not room or room == "data/cohort.py":
            return
        given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if met[-1:] != [room] and any(isinstance(frame.f_locals.get(name), Cohort) for name in given):
            met.append(room)

    def arrived(*_, **__):
        raise _ArrivedError

    before = sys.getprofile()
    with monkeypatch.context() as patch:
        patch.setattr("medrec.fit.one_epoch", arrived)
        sys.setprofile(watch)
        try:
            do()
        except _ArrivedError:
            pass
        finally:
            sys.setprofile(before)
    return met


@pytest.mark.parametrize("name", registry.NAMES)
def test_a_cohort_meets_each_room_once_on_its_way(name, records, monkeypatch):
    """To training; and a run that is stored needs the first four rooms alone. What comes after is the loop."""
    system = registry.get(name)
    go = partial(train, name, records, settings=light(name))
    first = ["training.py", "data/load.py", f"tasks/{system.task}.py", "runs.py"]
    met = walk(monkeypatch, go)
    if system.task == "ranking":
        # The pairs of patients and classes are made where no run is found: the task, its pairs, and the graph.
        assert met[:4] == first
        assert met[4:] in (
            [first[2], "graphs/interactions.py"],
            [first[2], "graphs/interactions.py", "graphs/knowledge.py", "graphs/interactions.py"],
        )
    else:
        own = f"{system.module.removeprefix('medrec.').replace('.', '/')}.py"
        met = met if system.is_network else met[: met.index(own) + 1]
        assert met[:4] == first
        assert len(met) == len(set(met))
        assert own in met or "models/base.py" in met
    go()
    assert walk(monkeypatch, go) == first
