"""Printed tables: complete, and consistent with the percentages printed in the same papers."""

import polars as pl
import pytest

from medrec.experiments import published
from medrec.plotting import look
from medrec.types import MedrecError


@pytest.mark.parametrize(("paper", "databases", "columns"), [("bimorec", 2, 5), ("nlammr", 3, 6)])
def test_main_tables_are_complete(paper, databases, columns):
    table = published.table(paper, 2)
    assert table.shape == (11 * databases, 3 + columns)
    assert table.null_count().row(0) == (0,) * table.width
    assert table.select(pl.struct("database", "system").n_unique()).item() == 11 * databases
    for system in table["system"].unique():
        assert look(system).label == system


def test_printed_gains_follow_from_the_tables():
    def gain(paper, database, own):
        rows = published.table(paper, 2).filter(pl.col("database") == database)
        best = rows.filter(pl.col("system") == own)["Jaccard"].item()
        runner_up = rows.filter(pl.col("system") != own)["Jaccard"].max()
        return round(100 * (best - runner_up) / runner_up, 2)

    assert gain("bimorec", "MIMIC-III", "BiMoRec") == published.fact("bimorec_gain_percent")
    for database, name in (("MIMIC-III", "mimic3"), ("MIMIC-IV", "mimic4"), ("eICU", "eicu")):
        assert gain("nlammr", database, "NLA-MMR") == published.fact(f"nlammr_gain_percent_{name}")


@pytest.mark.parametrize("paper", ["bimorec", "nlammr"])
def test_visits_per_patient_follow_from_the_counts(paper):
    table = published.table(paper, 1)
    assert ((table["visits"] / table["patients"] - table["visits per patient"]).abs() < 0.006).all()


def test_total_training_time_is_epochs_times_seconds():
    table = published.table("bimorec", 3)
    assert (
        (table["convergence epoch"] * table["seconds per epoch"] - table["seconds of training"]).abs()
        < 0.006 * table["seconds of training"]
    ).all()


def test_what_is_not_kept_is_named():
    with pytest.raises(MedrecError, match="bimorec_table2"):
        published.table("bimorec", 9)
    with pytest.raises(MedrecError, match="safedrug_ddi_pairs"):
        published.fact("nothing")
