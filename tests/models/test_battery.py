"""Every registered network is tried; systems from outside pass the same battery; and the battery can fail."""

from importlib import import_module

import pytest
import torch
from torch import nn

from medrec.models.base import Network, Ranker
from medrec.models.registry import get, systems
from tests.models.battery import Battery, Case, RankerBattery, RankerCase
from tests.models.toy_system import Toy

NETWORKS = [system for system in systems() if system.is_network]


def cases(system):
    """Those of the batteries in the system's own test module."""
    module = import_module(f"tests.models.test_{system.module.rpartition('.')[2]}")
    kind = RankerBattery if issubclass(system.cls, Ranker) else Battery
    inherit = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, kind)]
    return [battery.case for battery in inherit if battery is not kind and get(battery.case.name) is system]


@pytest.mark.parametrize("system", NETWORKS, ids=lambda system: system.name)
def test_every_network_is_tried(system):
    assert cases(system), f"{system.label} has no Case: inherit a battery in tests/models, in the module of its name."


@pytest.mark.parametrize("system", NETWORKS, ids=lambda system: system.name)
def test_every_schedule_is_tried(system):
    own = [getattr(system.cls, hook) is not getattr(Network, hook) for hook in ("before_epoch", "after_epoch")]
    assert any(case.schedule for case in cases(system)) == any(own)


def test_one_memo_is_allowed():
    """Graphs of visits that CausalMed has met: they depend on a visit's codes and on buffers, and take 0.1 s each."""
    memos = {(system.name, name) for system in NETWORKS for case in cases(system) for name in case.memo}
    assert memos == {("causalmed", "_visit_graphs")}


TOY = Case("tests.models.toy_system:SYSTEM", sees_past=("medication",), schedule=("weight",))


class TestToySystem(Battery):
    case = TOY


class TestToyRanker(RankerBattery):
    case = RankerCase("tests.tasks.toy_ranker:SYSTEM", learning_rate=0.05)


# -- the battery can fail ------------------------------------------------------------------------------------------


def fails(test, battery, **methods):
    """Whether a test of a battery fails for the toy system with other methods."""
    kept = {name: getattr(Toy, name) for name in methods}
    try:
        for name, method in methods.items():
            setattr(Toy, name, method)
        getattr(battery, test)()
    except AssertionError:
        return True
    finally:
        for name, method in kept.items():
            setattr(Toy, name, method)
    return False


def over_all_places(self, batch, context):
    """Padding takes part in the mean."""
    return nn.functional.binary_cross_entropy_with_logits(self(batch, context), batch.target.float())


def over_real_visits(self, batch, context):
    """So do first visits that are out of reach."""
    at = batch.visit_mask
    return nn.functional.binary_cross_entropy_with_logits(self(batch, context)[at], batch.target[at].float())


def mean_of_patients(self, batch, context):
    """A patient with one visit weighs as much as one with five."""
    bce = nn.functional.binary_cross_entropy_with_logits(
        self(batch, context), batch.target.float(), reduction="none"
    ).mean(-1)
    return ((bce * batch.visit_mask).sum(1) / batch.visit_mask.sum(1)).mean()


@pytest.mark.parametrize("loss", [over_all_places, mean_of_patients])
def test_a_loss_that_is_no_mean_over_scored_visits_is_found(loss):
    test = "test_the_loss_of_a_batch_is_that_of_its_patients"
    assert fails(test, TestToySystem(), loss=loss)
    assert not fails(test, TestToySystem(), loss=over_real_visits)


def test_a_loss_of_visits_that_cannot_be_scored_is_found(monkeypatch):
    test = "test_the_loss_of_a_batch_is_that_of_its_patients"
    monkeypatch.setattr(Toy, "needs_history", True)
    assert fails(test, TestToySystem(), loss=over_real_visits)


def hiding(self, batch, context):
    """What the loss needs is left on the network by the forward pass before it."""
    self.last = Toy.plain(self, batch, context)
    return self.last


def of_the_hidden(self, batch, context):
    logits = getattr(self, "last", None)
    if logits is None or logits.shape != batch.target.shape:
        logits = Toy.plain(self, batch, context)
    at = batch.visit_mask
    return nn.functional.binary_cross_entropy_with_logits(logits[at], batch.target[at].float())


def counting(self, batch, context):
    """A count that the weights do not hold."""
    self.steps = getattr(self, "steps", 0) + 1
    return over_real_visits(self, batch, context) / self.steps


def test_what_is_hidden_on_the_network_is_found(monkeypatch):
    test = "test_nothing_is_hidden_between_steps"
    monkeypatch.setattr(Toy, "plain", Toy.forward, raising=False)
    assert fails(test, TestToySystem(), forward=hiding, loss=of_the_hidden)
    assert fails(test, TestToySystem(), forward=hiding)
    assert fails(test, TestToySystem(), loss=counting)
    assert not fails(test, TestToySystem())


def on_self(self, epoch, context):
    self.moved = epoch


def test_a_schedule_that_nobody_hears_is_found():
    test = "test_a_schedule_reaches_its_user"
    assert fails(test, TestToySystem(), loss=over_real_visits)
    assert fails(test, TestToySystem(), before_epoch=on_self)
    assert not fails(test, TestToySystem())


def test_a_schedule_that_is_not_stored_is_found(monkeypatch):
    made = Toy.__init__

    def unstored(self, config, context):
        made(self, config, context)
        del self.weight
        self.register_buffer("weight", torch.zeros(()), persistent=False)

    monkeypatch.setattr(Toy, "__init__", unstored)
    assert fails("test_a_schedule_reaches_its_user", TestToySystem())
