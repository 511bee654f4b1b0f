"""The search for settings: the same for every system, blind for test patients, and resumable."""

import json
import math

import numpy as np
import polars as pl
import pytest

from medrec import paths
from medrec.data.split import split_patients
from medrec.lab import kept, tune
from medrec.models import registry
from medrec.training import Plan
from medrec.types import MedrecError
from tests.test_training import altered
from tests.toys import random_cohort

NETWORKS = [name for name in registry.NAMES if registry.get(name).is_network]


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(paths, "results_dir", lambda: tmp_path / "results")
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def cohort():
    return random_cohort(60, seed=1)


def numbers(search):
    """All that is no time."""
    return search.trials.drop("seconds")


def ranked(search, rung):
    """Numbers of the starts of a rung, best first."""
    rows = search.trials.filter(rung=rung).select("trial", "order").rows()
    return [trial for trial, order in sorted(rows, key=lambda row: json.loads(row[1]), reverse=True)]


@pytest.mark.parametrize("name", [name for name in registry.NAMES if tune.space(registry.get(name))])
def test_every_system_has_as_many_starts_of_which_the_first_is_declared_and_none_is_there_twice(name):
    system = registry.get(name)
    found = tune.starts(system, 12, seed=0)
    assert len(found) == 12
    assert found[0].settings == {}
    assert len({json.dumps(dict(start.settings)) for start in found}) == 12
    for start in found:
        system.configure("paper", start.settings)
    assert found == tune.starts(system, 12, seed=0) != tune.starts(system, 12, seed=1)


def test_rankers_get_batches_by_the_thousand_and_a_budget_of_their_own():
    for name in registry.NAMES:
        system = registry.get(name)
        if system.is_network:
            sizes, declared = tune.space(system)["batch_size"], system.config.batch_size
            shares = (declared // 4, declared // 2, declared, 2 * declared)
            assert sizes == ((8, 16, 32, 64) if system.task == "visits" else shares)
    assert tune.BUDGETS == {"visits": 4000, "ranking": 1000}


def test_networks_get_the_same_draws_of_what_all_have():
    shared = [
        [
            (start.settings["learning_rate"], start.settings["schedule"])
            for start in tune.starts(registry.get(n), 12, 0)[1:]
        ]
        for n in ("retain", "leap", "bimorec")
    ]
    assert shared[0] == shared[1] == shared[2]


def test_a_third_goes_on_and_the_winner_is_the_best_of_those_that_came_to_the_end(cohort):
    found = tune.tune("retain", cohort, trials=12, steps=36)
    counts = found.trials.group_by("rung", maintain_order=True).len()["len"].to_list()
    assert counts == [12, 4, 2]
    for rung, share in enumerate(tune.SHARES):
        assert found.trials.filter(rung=rung)["steps"].min() >= share * 36
    for rung in (0, 1):
        went_on = found.trials.filter(rung=rung + 1)["trial"].to_list()
        assert sorted(ranked(found, rung)[: len(went_on)]) == sorted(went_on)
    best = found.trials.filter(rung=2, trial=ranked(found, 2)[0])
    assert json.loads(best["settings"].item()) == found.winner
    assert kept.read("tune/retain", cohort).table("trials").equals(found.trials)
    # Whole: a difference from what is declared would mean something else once the winner is declared.
    known = {*tune.space(registry.get("retain")), "epochs"}
    assert all(json.loads(settings).keys() == known for settings in found.trials["settings"])


@pytest.mark.parametrize("name", ["retain", "leap"])
def test_every_start_may_take_all_steps_of_the_budget(name, cohort):
    """Also where only patients with a past are trained on, so that an epoch has fewer steps."""
    found = tune.tune(name, cohort, trials=3, steps=60)
    for settings in found.trials.filter(rung=2)["settings"]:
        plan = Plan.of(name, cohort, settings=json.loads(settings))
        per_epoch = math.ceil(len(patients(plan)) / plan.config.batch_size)
        assert per_epoch * (plan.config.epochs - 1) < 60 <= per_epoch * plan.config.epochs


def patients(plan):
    """Who are trained on."""
    rows = plan.exam.train
    return rows[np.diff(plan.cohort.visit_offsets)[rows] > 1] if plan.system.name == "retain" else rows


def test_test_patients_change_nothing(cohort, tmp_path, monkeypatch):
    found = tune.tune("retain", cohort, trials=3, steps=18)
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "others"))
    other = altered(cohort, split_patients(cohort.n_patients, 0).test)
    assert numbers(tune.tune("retain", other, trials=3, steps=18)).equals(numbers(found))


@pytest.mark.parametrize("name", ["retain", "lr"])
def test_broken_off_at_any_start_it_ends_as_undisturbed(name, cohort, tmp_path, monkeypatch):
    undisturbed = numbers(tune.tune(name, cohort, trials=4, steps=18))
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "again"))
    made = tune.fitted if name == "retain" else tune.train
    for stop in (1, 2, 3):
        calls = iter(range(100))

        def broken(*args, stop=stop, calls=calls, **more):
            if next(calls) == stop:
                raise KeyboardInterrupt
            return made(*args, **more)

        monkeypatch.setattr(tune, made.__name__, broken)
        with pytest.raises(KeyboardInterrupt):
            tune.tune(name, cohort, trials=4, steps=18)
    monkeypatch.setattr(tune, made.__name__, made)
    assert numbers(tune.tune(name, cohort, trials=4, steps=18)).equals(undisturbed)


def test_what_is_fitted_in_one_go_is_chosen_by_its_tuned_validation_score(cohort):
    found = tune.tune("lr", cohort, trials=4)
    assert found.trials["rung"].to_list() == [0] * 4
    best = found.trials.sort("validation", descending=True)
    assert json.loads(best["settings"][0]) == found.winner


def test_a_start_whose_loss_is_no_number_is_last_and_stops_nobody(cohort, monkeypatch):
    made, others = tune.fitted, tune.starts(registry.get("retain"), 4, 0)[1:]
    failing = {start.settings["learning_rate"] for start in others}

    def sometimes(plan, *args, **more):
        if plan.config.learning_rate in failing:
            raise MedrecError("RETAIN: the loss is no longer a number in epoch 0.")
        return made(plan, *args, **more)

    declared = registry.get("retain").configure(n_train=0).learning_rate
    failing.discard(declared)
    monkeypatch.setattr(tune, "fitted", sometimes)
    found = tune.tune("retain", cohort, trials=4, steps=18)
    failed = found.trials.filter(pl.col("failed").is_not_null())
    assert 0 < len(failed.filter(rung=0)) < 4
    assert found.winner.get("learning_rate", declared) not in failing


def test_a_system_without_settings_says_so(cohort):
    with pytest.raises(MedrecError, match="no setting that could be searched"):
        tune.tune("popularity", cohort)
