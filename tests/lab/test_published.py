"""Printed tables: complete, and consistent with the percentages printed in the same papers."""

import polars as pl
import pytest

from medrec.lab import published
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


def test_the_ablation_is_the_main_table_with_parts_taken_out_and_keeps_illegible_cells_empty():
    main, ablation = published.table("bimorec", 2), published.table("bimorec", 4)
    assert ablation.columns == main.columns
    assert ablation["system"].to_list() == ["BiMoRec", "w/o T", "w/o E", "w/o T+E"] * 2
    keys = ["database", "system"]
    full = ablation.filter(system="BiMoRec").join(main, on=keys, suffix=" in table 2")
    differ = [
        c
        for c in ("Jaccard", "DDI rate", "F1", "PRAUC", "medications")
        if full[c].to_list() != full[f"{c} in table 2"].to_list()
    ]
    assert differ == ["PRAUC"]  # MIMIC-IV: 0.7212 here, 0.7366 there
    lost = ablation.group_by("database", maintain_order=True).agg(pl.all().null_count())
    assert lost["Jaccard"].to_list() == [0, 3]
    assert lost["F1"].to_list() == [1, 3]
    assert lost["DDI rate"].to_list() == [3, 0]
    assert lost["PRAUC"].to_list() == [0, 3]
    assert ablation.filter(system="BiMoRec").null_count().sum_horizontal().item() == 0


def test_legible_f1_lie_in_the_rows_where_their_jaccard_puts_them():
    # Mean Jaccard exceeds F/(2-F) of mean F1 by .0102 to .0103 in the rows of this family in table 2.
    rows = published.table("bimorec", 4).filter(database="MIMIC-III").drop_nulls("F1")
    gaps = rows["Jaccard"] - rows["F1"] / (2 - rows["F1"])
    assert gaps.is_between(0.0100, 0.0107).all()
    swapped = rows["Jaccard"] - (rows["F1"] / (2 - rows["F1"])).gather([0, 2, 1])
    assert not swapped.is_between(0.0100, 0.0107).all()


def test_what_is_not_kept_is_named():
    with pytest.raises(MedrecError, match="bimorec_table2"):
        published.table("bimorec", 9)
    with pytest.raises(MedrecError, match="safedrug_ddi_pairs"):
        published.fact("nothing")


def test_the_case_of_the_figure_is_complete():
    case = published.figure("bimorec", 7)
    assert case.shape == (6, 7)
    assert case.null_count().sum_horizontal().item() == 0
    assert case.select(pl.struct("patient", "class").n_unique()).item() == 6
    assert (case["atropine"] ^ case["ipratropium"]).all()
    with pytest.raises(MedrecError, match="bimorec_figure7"):
        published.figure("bimorec", 8)


def test_the_lines_of_one_patient_are_complete_and_name_no_code_twice():
    lines = published.figure("diffkg", 2).with_columns(pl.col("codes").str.split(" "))
    assert lines["codes"].list.len().to_list() == [12, 8, 34, 12, 7, 25, 9, 8, 30]
    assert (lines["codes"].list.n_unique() == lines["codes"].list.len()).all()


def test_rows_of_the_flat_list_lie_in_the_ranges_that_the_paper_names():
    rows = published.figure("diffkg", 4)
    assert set(rows["value"]) == {1}
    assert rows["tail"].is_between(0, 8999).all()
    assert len(rows) - len(rows.unique()) == 1  # (0, 8, 1) stands there twice


def test_tables_3_to_5_of_nla_mmr_agree_with_its_table_2():
    main = published.table("nlammr", 2)
    own, values = main.filter(system="NLA-MMR"), ["Jaccard", "F1", "PRAUC"]
    ablation, models, cost = (published.table("nlammr", number) for number in (3, 4, 5))
    assert ablation.shape == (8, 6)
    assert ablation.filter(system="NLA-MMR").select(values).equals(own.filter(database="MIMIC-III").select(values))
    assert (ablation["Jaccard"] <= 0.5429).all()
    assert models.select(pl.struct("database", "encoder").n_unique()).item() == len(models) == 15
    assert models.filter(encoder="BioBERT").drop("encoder").equals(own.drop("system"))
    best = models.group_by("database", maintain_order=True).agg(pl.all().sort_by("PRAUC").last())
    assert best["encoder"].to_list() == ["BioBERT", "BioBERT", "PubMedBERT"]  # in bold there
    assert set(cost["system"]) == set(main["system"]) - {"LR", "ECC"}
    assert (
        cost.filter(database="MIMIC-IV")["seconds per epoch"].to_numpy() > cost["seconds per epoch"][:9].to_numpy()
    ).all()


def test_one_sentence_calls_stable_what_another_calls_significant():
    table = published.table("nlammr", 3)
    loss = dict(table.select("system", 0.5429 - pl.col("Jaccard")).iter_rows())["(d) w/o historical information"]
    assert round(loss, 4) == 0.0126
    assert published.fact("nlammr_batch_spread_mimic3") == 0.0123


def test_settings_and_lists_of_the_third_paper_are_complete():
    settings, lists = published.table("diffkg", 2), published.table("diffkg", 4)
    assert settings["printed"].null_count() == 0
    assert settings["symbol"].drop_nulls().to_list() == ["T", "alpha_min", "alpha_max", "s", "lambda", "sigma"]
    assert lists.group_by("scenario", maintain_order=True).len()["len"].to_list() == [4, 4]
    sizes = lists["medications"].str.split(", ").list.len().to_list()
    assert sizes == [3, 4, 3, 5, 5, 7, 6, 5]
