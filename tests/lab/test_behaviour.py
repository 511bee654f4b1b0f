"""The lock on behaviour: every system does on a toy cohort what it did when the lock was written."""

import pytest

from medrec.lab import behaviour
from medrec.lab.behaviour import changed, entry, locked, toy_cohort
from medrec.models import registry
from medrec.types import MedrecError

ALL = [f"{name}/{variant}" for name in registry.NAMES for variant in registry.get(name).variants]


@pytest.fixture(scope="module")
def cohort():
    return toy_cohort()


def test_every_system_and_variant_is_locked():
    assert sorted(locked()) == sorted(ALL), "run `medrec kept lock` when a system or variant comes or goes"


@pytest.mark.parametrize("name", ALL)
def test_behaviour_is_what_it_was(cohort, name):
    """Where this fails on purpose, `medrec kept lock` writes the file anew, and the changelog says why."""
    now = {name: entry(*name.split("/"), cohort)}
    assert changed({name: locked()[name]}, now) == [], f"{name}: was {locked()[name]}, is {now[name]}"


def test_a_difference_is_noticed_and_one_of_rounding_is_not():
    one = {"a/paper": {"loss": [1.0], "scores": [0.5, 0.25], "threshold": 0.4}}
    for other, differs in (
        ({"loss": [1.0 + 1e-7], "scores": [0.5, 0.25], "threshold": 0.4}, False),
        ({"loss": [1.001], "scores": [0.5, 0.25], "threshold": 0.4}, True),
        ({"loss": [1.0], "scores": [0.5, 0.251], "threshold": 0.4}, True),
        ({"loss": [1.0], "scores": [0.5, 0.25], "threshold": 0.41}, True),
        ({"loss": [], "scores": [0.5, 0.25], "threshold": 0.4}, True),
    ):
        assert changed(one, {"a/paper": other}) == ["a/paper"] * differs
    assert changed(one, {}) == changed({}, one) == ["a/paper"]


def test_a_lock_that_nobody_can_read(tmp_path, monkeypatch):
    monkeypatch.setattr(behaviour, "lock_file", lambda: tmp_path / "behaviour.json")
    assert locked() == {}
    (tmp_path / "behaviour.json").write_text("{")
    with pytest.raises(MedrecError, match="medrec kept lock"):
        locked()


def test_the_toy_cohort_is_small_and_every_kind_of_code_is_there(cohort):
    assert cohort.n_patients == behaviour.PATIENTS
    assert all(len(cohort.vocab[kind]) for kind in cohort.vocab)
