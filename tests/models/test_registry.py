"""Names, settings and their mistakes."""

import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from medrec.models import registry
from medrec.models.registry import NAMES, get, name_of, systems
from medrec.plotting import look
from medrec.types import MedrecError
from tests.models import toy_system

TOY = "tests.models.toy_system:SYSTEM"


def test_every_system_has_a_label_a_look_and_a_paper_variant():
    found = list(systems())
    assert [system.name for system in found] == list(NAMES)
    assert len({system.label for system in found}) == len(found)
    for system in found:
        assert get(system.name) is system
        assert name_of(system) == system.name
        assert look(system.label).label == system.label
        config = system.configure("paper")
        with pytest.raises(FrozenInstanceError):
            config.epochs = 3


def test_systems_of_a_task():
    visits, ranking = ({system.name for system in systems(task)} for task in ("visits", "ranking"))
    assert {"lr", "bimorec"} <= visits
    assert {"most-popular", "repeat"} <= ranking
    assert visits.isdisjoint(ranking)
    assert visits | ranking == set(NAMES)


def test_a_system_is_imported_when_it_is_asked_for():
    code = (
        "import sys; from medrec.models.registry import get; get('lr'); "
        "print(*sorted(m for m in sys.modules if m.startswith('medrec.models.')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == ["medrec.models.base", "medrec.models.lr", "medrec.models.registry"]


def test_no_model_waits_for_pytorch_geometric():
    """It takes three seconds to import, and is needed where molecules are batched alone."""
    code = (
        "import sys, pkgutil; from importlib import import_module; "
        "rooms = [import_module(f'medrec.{room}') for room in ('models', 'nn', 'graphs')]; "
        "[import_module(f'{room.__name__}.{m.name}') for room in rooms for m in pkgutil.iter_modules(room.__path__)]; "
        "print('medrec.models.diffkg' in sys.modules, 'torch_geometric' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == ["True", "False"]


def test_names_are_forgiving():
    assert get("Last_Visit") is get("last visit") is get("last-visit")
    with pytest.raises(MedrecError, match="Did you mean 'retain'"):
        get("retian")


def test_a_system_from_outside_is_named_by_its_place():
    assert get(TOY) is get("tests.models.toy_system:") is toy_system.SYSTEM
    assert name_of(toy_system.SYSTEM) == TOY
    assert toy_system.SYSTEM not in list(systems())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.such.package:SYSTEM", "cannot be imported: No module named 'no'"),
        ("tests.models.toy_system:SYSTM", "declares no 'SYSTM'"),
        ("tests.models.toy_system:Toy", "is a ABCMeta, not a medrec.models.base.System"),
    ],
)
def test_mistakes_about_systems_from_outside(name, message):
    with pytest.raises(MedrecError, match=message):
        get(name)


def test_settings_are_read_from_text():
    config = get("retain").configure("paper", {"dropout": ".3", "epochs": "7", "reverse_time": "no"})
    assert (config.dropout, config.epochs, config.reverse_time) == (0.3, 7, False)
    official = get("retain").configure("official")
    assert (official.alpha_axis, official.reverse_time) == ("features", False)


def test_small_cohorts_have_settings_of_their_own_that_variant_and_caller_overrule(monkeypatch):
    molerec = get("molerec")
    assert molerec.small["schedule"] == "constant" != molerec.config().schedule
    papers, few, many = (molerec.configure("paper", n_train=n) for n in (None, 1999, 2000))
    assert papers == many == molerec.config()
    assert {name: getattr(few, name) for name in molerec.small} == molerec.small
    own = molerec.configure("official", {"epochs": 3}, n_train=100)
    assert (own.epochs, own.schedule, own.sab_feedforward) == (3, "constant", False)
    monkeypatch.setitem(molerec.variants["official"], "schedule", "cosine")
    assert molerec.configure("official", n_train=100).schedule == "cosine"


@pytest.mark.parametrize(
    ("variant", "settings", "message"),
    [
        ("papr", {}, "Did you mean 'paper'"),
        ("paper", {"dropuot": 0.1}, "Did you mean 'dropout'"),
        ("paper", {"dropout": "much"}, "must be a number"),
        ("paper", {"epochs": "2.5"}, "whole number"),
        ("paper", {"reverse_time": "perhaps"}, "true or false"),
        ("paper", {"inputs": "future"}, "'past_only' or 'with_current'"),
    ],
)
def test_mistakes_are_named(variant, settings, message):
    with pytest.raises(MedrecError, match=message):
        get("retain").configure(variant, settings)


def test_a_system_without_settings():
    with pytest.raises(MedrecError, match="It has none"):
        get("popularity").configure("paper", {"k": 3})


def test_names_are_those_of_the_modules():
    """One line of the registry is all that a new system needs there."""
    for name in registry.NAMES:
        assert get(name).module == f"medrec.models.{name.replace('-', '_')}"
