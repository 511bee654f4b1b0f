"""Settings as listings show them, and what they can be."""

import math
from dataclasses import asdict, dataclass, replace
from typing import get_args, get_type_hints

import numpy as np
import pytest

from medrec import arguments
from medrec.models.base import TrainingConfig
from medrec.models.registry import get, systems
from medrec.models.settings import settings_of
from medrec.text.encoders import CONTROLS
from medrec.types import MedrecError


@dataclass(frozen=True)
class Commented(TrainingConfig):
    # A heading
    size: int = 64  # paper, sec. 3
    plain: bool = True
    # Of what stands
    # on the line below.
    long: tuple[int, ...] = ()
    epochs: int = 7  # ours


@dataclass(frozen=True)
class Open(TrainingConfig):
    """Of a system from elsewhere, which knows nothing of ranges."""

    mine: float = 0.1
    many: int = 2
    dropout: float = 0.5
    other: tuple[int, ...] = ()


def test_a_comment_belongs_to_the_field_before_it_or_to_the_one_below():
    system = replace(get("lr"), config=Commented, small={"size": 8})
    found = {setting.name: setting for setting in settings_of(system)}
    assert [(s.name, s.value, s.small, s.source) for s in settings_of(system)][:4] == [
        ("size", 64, 8, "paper, sec. 3"),
        ("plain", True, True, ""),
        ("long", (), (), "Of what stands on the line below."),
        ("epochs", 7, 7, "ours"),
    ]
    assert set(found) == {"size", "plain", "long"} | set(TrainingConfig.__dataclass_fields__)
    assert found["patience"].source.startswith("epochs without")


@pytest.mark.parametrize("system", systems(), ids=lambda system: system.name)
def test_every_setting_of_every_system_says_where_it_comes_from(system):
    assert [s.name for s in settings_of(system) if not s.source] == []


# -- what settings can be ----------------------------------------------------------------------------------------------


def kinds(system):
    """Kind and range of each setting of a system, by name."""
    return {
        name: arguments._of(name, hint) for name, hint in get_type_hints(system.config, include_extras=True).items()
    }


NUMBERS = [(s.name, name) for s in systems() for name, (_, within) in kinds(s).items() if within is not None]
OTHERS = [(s.name, name) for s in systems() for name, (_, within) in kinds(s).items() if within is None]
NEVER = (math.nan, math.inf, -math.inf, 1e300, -1e300, True, False, None, "", "abc", "nan", "inf", "1e400", "0x1", [1])


def wrong_numbers(kind, within):
    """Values that a number of this kind cannot have."""
    beyond = [within.low] * within.above + [within.high] * within.below
    beyond += [within.low - 1, within.high + 1, np.nextafter(within.low, -9), 10 * within.high]
    fractions = [within.low + 0.5, str(within.low + 0.5)] if kind is int else []
    return [*NEVER, *beyond, *map(str, beyond), *fractions, {"a": 1}, np.zeros((3, 3)), np.bool_(True), 1j]


@pytest.mark.parametrize(("system", "name"), NUMBERS)
def test_a_number_out_of_its_range_is_refused_in_one_line_that_says_what_fits(system, name):
    kind, within = kinds(get(system))[name]
    for value in wrong_numbers(kind, within):
        with pytest.raises(MedrecError) as raised:
            get(system).configure(settings={name: value})
        message = str(raised.value)
        assert message.startswith(f"{get(system).label}: {name} is {arguments.shown(value)}; ")
        assert message.endswith(f"must be {'a whole number' if kind is int else 'a number'} from {within}.")
        assert "\n" not in message
        assert len(message) < 200


@pytest.mark.parametrize(("system", "name"), NUMBERS)
def test_a_number_in_its_range_is_taken_and_so_is_its_text(system, name):
    kind, within = kinds(get(system))[name]
    inner = 2 * (within.low + 1) if kind is int else 0.37 * within.high
    for value in {kind(v) for v in (within.low, within.high, inner) if v in within}:
        # Heads share a width.
        together = {"n_heads": {"size": value}, "size": {"n_heads": 1}}.get(name, {})
        together = {other: number for other, number in together.items() if other in kinds(get(system))}
        for said in (value, str(value), np.float64(value), f" {value} "):
            found = getattr(get(system).configure(settings=together | {name: said}), name)
            assert (found, type(found)) == (value, kind)


@pytest.mark.parametrize(("system", "name"), OTHERS)
def test_a_word_that_a_setting_cannot_be_is_refused_and_all_that_it_can_be_are_taken(system, name):
    kind = kinds(get(system))[name][0]
    words = CONTROLS if kind is str else get_args(kind)  # the one free word names an encoder of texts
    taken = [True, False, "true", "no", 1, "0"] if kind is bool else words
    for value in taken:
        found = getattr(get(system).configure(settings={name: value}), name)
        assert found in ((True, False) if kind is bool else taken)
    for value in ("nonsense", "", "tru", 2, 1.0, math.nan, None, [], ["own"], {"a": 1}, np.zeros((3, 3))):
        with pytest.raises(MedrecError) as raised:
            get(system).configure(settings={name: value})
        message = str(raised.value)
        assert message.startswith(f"{get(system).label}: {name} is {arguments.shown(value)}")
        told = "must be true or false" if kind is bool else taken[0] if kind is str else repr(taken[0])
        assert told in message
        assert "\n" not in message


@pytest.mark.parametrize("system", systems(), ids=lambda system: system.name)
def test_every_number_has_a_range_and_all_that_the_house_sets_lies_in_it(system):
    found = kinds(system)
    assert [name for name, (kind, within) in found.items() if within is arguments.NUMBERS.get(kind, 0)] == []
    assert system.configure(settings=asdict(system.configure())) == system.configure()
    for variant, changes in system.variants.items():
        assert system.configure(variant, {**system.small, **changes}) is not None
    for setting in settings_of(system):
        assert setting.takes


def test_what_an_outside_system_leaves_open_must_still_be_a_number():
    outside = replace(get("lr"), config=Open, small={}, variants={"paper": {}})
    assert outside.configure(settings={"mine": "-3.5", "many": -7}).mine == -3.5
    for name, value in (("mine", "nan"), ("mine", 1e10), ("many", 0.5), ("dropout", 1), ("epochs", 0)):
        with pytest.raises(MedrecError, match=name):
            outside.configure(settings={name: value})
    assert outside.configure(settings={"other": (1, 2)}).other == (1, 2)


@pytest.mark.parametrize("settings", [5, "epochs=5", ["epochs"], {1: 2}, {"epochs"}])
def test_settings_are_names_and_values(settings):
    with pytest.raises(MedrecError, match="must hold names and values"):
        get("retain").configure(settings=settings)


@pytest.mark.parametrize(
    ("system", "settings"), [("cognet", {"n_heads": 3}), ("bimorec", {"width": 7}), ("molerec", {"size": 9})]
)
def test_heads_that_cannot_share_a_width_are_told_of_before_anything_is_built(system, settings):
    with pytest.raises(MedrecError, match="must be a multiple of"):
        get(system).configure(settings=settings)
