"""What is trained for the tables: chosen on validation patients, written down, and what is then used."""

import polars as pl
import pytest
import yaml

from medrec.experiments import grids
from medrec.experiments.rows import COMPARISON, LONG, RATES, TUNED, settings_for
from medrec.models import registry
from medrec.paths import base_dir


def chosen(label: str) -> float:
    """Of the kept rows of a system the value with the best validation score."""
    rates = grids.read("rates", "synthetic-6350")
    settings = rates.scores.select("label", "setting").unique()
    mine = rates.costs.filter(pl.col("label").str.starts_with(label + " ")).join(settings, on="label")
    return mine.sort("validation")["setting"][-1]


@pytest.mark.parametrize("model", TUNED)
def test_a_network_learns_at_the_rate_that_validation_chose(model):
    config = yaml.safe_load((base_dir() / "configs" / f"{model}.yaml").read_text())
    rate = registry.get(model).configure().learning_rate
    assert rate == chosen(TUNED[model])
    assert config["cohort"] == "synthetic-6350"
    assert config["settings"] == {"learning_rate": rate} | settings_for("synthetic-6350", model)


def test_the_penalty_of_lr_in_the_table_is_the_one_that_validation_chose():
    config = yaml.safe_load((base_dir() / "configs" / "lr.yaml").read_text())
    (row,) = (row for row in COMPARISON if row.label.startswith("LR ("))
    assert row.settings == config["settings"] == {"C": chosen("LR with")}


def test_every_network_is_offered_the_same_rates():
    rates = grids.read("rates", "synthetic-6350")
    for label in TUNED.values():
        mine = rates.scores.filter(pl.col("label").str.starts_with(label + " at"))
        assert sorted(mine["setting"].unique()) == sorted(RATES)


def test_long_trainings_take_as_many_steps_as_the_one_they_are_compared_with():
    ours = registry.get("bimorec").configure("paper", settings_for("synthetic-6350", "bimorec"))
    assert LONG["epochs"] / LONG["batch_size"] == ours.epochs / ours.batch_size
