"""Settings as listings show them."""

from dataclasses import dataclass, replace

import pytest

from medrec.models.base import TrainingConfig
from medrec.models.registry import get, systems
from medrec.models.settings import settings_of


@dataclass(frozen=True)
class Commented(TrainingConfig):
    # A heading
    size: int = 64  # paper, sec. 3
    plain: bool = True
    # Of what stands
    # on the line below.
    long: tuple[int, ...] = ()
    epochs: int = 7  # ours


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
