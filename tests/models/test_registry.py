"""Names, settings and their mistakes."""

from dataclasses import FrozenInstanceError

import pytest

from medrec.models.registry import ENTRIES, get
from medrec.plotting import look
from medrec.types import MedrecError


def test_every_system_has_a_label_a_look_and_a_paper_variant():
    for name, entry in ENTRIES.items():
        assert get(name) is entry
        assert look(entry.label).label == entry.label
        config = entry.configure("paper")
        if entry.is_network:
            with pytest.raises(FrozenInstanceError):
                config.epochs = 3


def test_names_are_forgiving():
    assert get("Last_Visit") is get("last visit") is ENTRIES["last-visit"]
    with pytest.raises(MedrecError, match="Did you mean 'retain'"):
        get("retian")


def test_settings_are_read_from_text():
    config = get("retain").configure("paper", {"dropout": ".3", "epochs": "7", "reverse_time": "no"})
    assert (config.dropout, config.epochs, config.reverse_time) == (0.3, 7, False)
    official = get("retain").configure("official")
    assert (official.alpha_axis, official.reverse_time) == ("features", False)


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
