"""Grids of trainings: what is trained, how runs become rows, where rows are kept."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from medrec.experiments import grids
from medrec.experiments.grids import collect, interval, keep, read, read_or_default, tasks, words
from medrec.experiments.rows import FULL, GRIDS, REFERENCE, SYNERGY, Row, rows_of, settings_for
from medrec.models import registry
from medrec.tasks.visits import COLUMNS
from medrec.types import MedrecError
from tests.toys import random_cohort


def settings_of(row):
    return settings_for("synthetic", row.model) | row.settings


@pytest.mark.parametrize("name", list(GRIDS))
def test_every_row_is_a_system_that_exists_with_settings_that_it_has(name):
    rows = rows_of(name)
    assert rows[0].variant in ("paper", "mean_past"), "the first row is what the others are compared with"
    assert len({row.label for row in rows}) == len(rows)
    configs = [registry.get(row.model).configure(row.variant, settings_of(row)) for row in rows]
    trained = [(row.model, config) for row, config in zip(rows, configs, strict=True)]
    assert len(set(trained)) == len(trained), "two rows are one and the same training"


def test_sensitivity_turns_one_knob_at_a_time():
    plain = registry.get("bimorec").configure("paper", settings_for("synthetic"))
    for row in rows_of("sensitivity")[1:]:
        config = registry.get("bimorec").configure(row.variant, settings_of(row))
        changed = [name for name in vars(plain) if getattr(plain, name) != getattr(config, name)]
        if row.value == 0:
            assert changed == ["pretrain"]
        else:
            assert changed == [row.knob]
            assert getattr(config, row.knob) == row.value


def test_controls_share_the_settings_of_their_plain_cohort():
    assert settings_for("synthetic+shape") == settings_for("synthetic") != {}
    assert settings_for("mimic3") == {}


def test_networks_are_trained_for_each_seed_and_estimators_once():
    count = {}
    for task in tasks("table2", "synthetic", 3, {"width": 8}):
        count[task.model] = count.get(task.model, 0) + 1
        if task.model == "bimorec":
            assert task.settings == {"width": 8}
    assert count["ecc"] == count["last-visit"] == 1
    assert count["bimorec"] == count["retain"] == 3


def test_an_unknown_grid_is_an_error():
    with pytest.raises(MedrecError, match="ablation"):
        rows_of("ablations")


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("MEDREC_RUNS_DIR", str(tmp_path_factory.mktemp("runs")))
    small = (
        FULL,
        Row("w/o T+E", "wo_TE"),
        Row("LR", model="lr"),
        Row("last visit", model="last-visit"),
    )
    patch.setitem(GRIDS, "small", small)
    settings = {"width": 8, "gin_layers": 1, "epochs": 2, "pretrain": False}
    cohort = random_cohort(60, seed=1)
    # Real classes, so that there are molecules.
    codes = ("A02B", "B01A", "C03C", "C10A", "N02A", "C07A", "J01D", "A06A", "N05B")
    vocab = {**cohort.vocab, "medication": type(cohort.vocab["medication"])("medication", codes, codes)}
    yield collect("small", replace(cohort, vocab=vocab), 2, settings)
    patch.undo()


def test_rows_hold_every_metric_of_the_visits_that_a_system_scores(grid):
    counts = grid.scores.group_by("label", "visits").len()
    for label in (REFERENCE, "w/o T+E", "LR"):
        assert counts.filter(label=label)["len"].to_list() == [2 * len(COLUMNS)] * 3
    assert counts.filter(label="last visit")["visits"].to_list() == ["later visits"]


def test_differences_are_to_the_reference_on_the_visits_that_both_score(grid):
    assert grid.select().filter(label=REFERENCE)["delta"].to_list() == [0]
    for visits in ("all visits", "first visits", "later visits"):
        rows = grid.select(visits=visits)
        base = rows.filter(label=REFERENCE)["value"][0]
        expected = rows["value"] - base
        np.testing.assert_allclose(rows["delta"].to_numpy(), expected.to_numpy(), atol=2e-6)
        assert (rows["low"] <= rows["value"]).all()
        assert (rows["value"] <= rows["high"]).all()


def test_a_reference_that_leaves_first_visits_out_is_compared_on_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path))
    monkeypatch.setitem(GRIDS, "small", (Row("last visit", model="last-visit"), Row("LR", model="lr")))
    found = collect("small", random_cohort(60, seed=3), 1)
    every, later = (found.select(visits=v).filter(label="LR") for v in ("all visits", "later visits"))
    assert every["n_visits"][0] > later["n_visits"][0]
    assert every["value"][0] != later["value"][0]
    assert every["delta"][0] == later["delta"][0]
    base = found.select(visits="later visits")["value"]
    assert later["delta"][0] == pytest.approx(base[1] - base[0], abs=2e-6)


def test_wide_has_one_row_a_system_and_the_five_columns(grid):
    wide = grid.wide(visits="later visits")
    assert wide["label"].to_list() == [REFERENCE, "w/o T+E", "LR", "last visit"]
    assert set(COLUMNS.values()) <= set(wide.columns)
    assert wide.filter(label="last visit")["PRAUC"].to_list() == [None]


ROWS = [
    {"label": "A", "value": 0.5, "low": 0.4, "high": 0.6, "delta": 0.0, "delta_low": 0.0, "delta_high": 0.0},
    {"label": "B", "value": 0.52, "low": 0.42, "high": 0.6, "delta": 0.02, "delta_low": 0.01, "delta_high": 0.04},
]


def test_a_row_says_its_level_its_change_and_what_the_first_row_has_over_it():
    first, other = ROWS
    assert words(other) == "0.520 [0.420, 0.600]"
    assert words(other, "delta", 2) == "0.02 [0.01, 0.04]"
    lead = interval(other, "delta", -1)
    assert (lead.value, lead.low, lead.high) == (-0.02, -0.04, -0.01)
    assert interval(first, "delta", -1).format(1) == "0.0 [0.0, 0.0]", "a zero has no sign"
    assert words(None) is words(first | {"value": None}) is None


def test_a_judged_row_knows_its_cohort_seeds_and_patients():
    same = {"threshold": "tuned", "visits": "all visits", "metric": "jaccard", "patients": 7}
    found = grids.Grid("g", "c", pl.DataFrame(ROWS).with_columns(**{k: pl.lit(v) for k, v in same.items()}), None, {})
    found.provenance.update(seeds=2, cohort={"source": "synthetic"})
    rows = found.by_label()
    assert list(rows) == ["A", "B"]
    assert found.changes() == {"B": interval(ROWS[1], "delta")}
    better = found.judge(rows["B"], sdi=0.03)
    assert better.word == "holds"
    assert better.sentence.startswith("On the c cohort")
    assert "2 seeds and 7 patients" in better.sentence
    assert found.judge(rows["B"], -1).word == "does not hold"
    assert found.judge(rows["A"], equal=True).word == "holds"
    assert found.judge(rows["B"], equal=True).word == "does not hold"
    assert found.judge(rows["B"], mechanism="a role for structure").word == "cannot be tested here"


def test_synergy_is_what_the_three_differences_leave_over(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path))
    cohort = random_cohort(40, seed=2)
    codes = ("A02B", "B01A", "C03C", "C10A", "N02A", "C07A", "J01D", "A06A", "N05B")
    vocab = {**cohort.vocab, "medication": type(cohort.vocab["medication"])("medication", codes, codes)}
    settings = {"width": 8, "gin_layers": 1, "epochs": 1, "pretraining_epochs": 0}
    ablation = collect("ablation", replace(cohort, vocab=vocab), 2, settings)
    for visits in grids.VISITS:
        for metric in COLUMNS:
            rows = ablation.select(visits=visits, metric=metric)
            _, t, e, both, synergy = rows["delta"]
            assert rows["label"][4] == SYNERGY
            assert synergy == pytest.approx(both - t - e, abs=5e-6)
            assert rows["delta_low"][4] <= synergy <= rows["delta_high"][4]
    assert ablation.select()["value"][4] is None
    assert ablation.costs.height == 4


def test_costs_count_parameters_and_seconds(grid):
    costs = grid.costs
    full, without = (costs.filter(label=label).row(0, named=True) for label in (REFERENCE, "w/o T+E"))
    assert full["seeds"] == 2
    assert full["parameters"] > without["parameters"]
    assert full["seconds_per_epoch"] > 0
    assert costs.filter(label="LR")["epochs"].to_list() == [None]


def test_the_score_that_chooses_is_that_of_the_validation_patients_at_the_kept_epoch(grid):
    assert grid.costs.filter(pl.col("label").is_in(["LR", REFERENCE]))["validation"].is_between(0, 1).all()
    run = SimpleNamespace(
        history=pl.DataFrame({"epoch": [0, 1, 2], "jaccard": [0.1, 0.5, 0.3]}), metrics={"best_epoch": 1}
    )
    other = SimpleNamespace(history=run.history, metrics={"best_epoch": 2})
    assert grids._chosen([run, other]) == pytest.approx(0.4)
    estimator = SimpleNamespace(history=run.history.head(0), metrics={"tuned": {"validation": 0.7}})
    assert grids._chosen([estimator]) == pytest.approx(0.7)
    estimator.metrics["tuned"] = {}
    assert grids._chosen([estimator]) is None, "a system that has no threshold"


def test_kept_rows_come_back_and_credentialed_ones_stay_out_of_the_checkout(grid, tmp_path, monkeypatch):
    monkeypatch.setattr("medrec.paths.base_dir", lambda: tmp_path / "checkout")
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    with pytest.raises(MedrecError, match="Make them with"):
        read("small", "random-toy")
    for source, root in (("synthetic", "checkout"), ("credentialed", "runs")):
        place = keep(grid, source)
        assert place.is_relative_to(tmp_path / root)
        again = read("small", "random-toy", source)
        assert again.scores.equals(grid.scores)
        assert again.costs.equals(grid.costs)
        stored = json.loads((place / "provenance.json").read_text())
        assert stored["seeds"] == 2
        assert stored["environment"]["commit"] == grid.provenance["environment"]["commit"]


def test_a_cohort_without_rows_shows_those_of_the_default_and_says_whose_they_are(grid, tmp_path, monkeypatch):
    monkeypatch.setattr("medrec.paths.base_dir", lambda: tmp_path)
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    with pytest.raises(MedrecError, match="'synthetic'"):
        read_or_default("small", "random-toy", "synthetic")
    default, own = replace(grid, cohort="synthetic"), replace(grid, cohort="mimic3")
    keep(default, "synthetic")
    assert read_or_default("small", "mimic3", "credentialed").cohort == "synthetic"
    keep(own, "credentialed")
    assert read_or_default("small", "mimic3", "credentialed").cohort == "mimic3"
    found = read_or_default("small", "synthetic", "synthetic")
    assert found.cohort == "synthetic"
    assert found.line == f"synthetic, {grid.scores['patients'].max()} test patients, 2 training seeds"


def test_nothing_of_a_single_patient_is_kept(grid):
    assert grid.scores["patients"].min() >= 5
    assert grid.scores["patients"].dtype == pl.Int64
    assert "patient" not in grid.scores.columns


def test_an_epoch_that_was_not_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(grids, "epochs_file", lambda: tmp_path / "epochs.csv")
    with pytest.raises(
        MedrecError, match=r"No epoch of BiMoRec was measured. Run `python benchmarks/epochs.py --keep`"
    ):
        grids.epoch_alone("BiMoRec")
    pl.DataFrame({"system": ["BiMoRec"], "seconds": [30.0]}).write_csv(tmp_path / "epochs.csv")
    assert grids.epoch_alone("BiMoRec")["seconds"] == 30
    with pytest.raises(MedrecError, match="No epoch of COGNet"):
        grids.epoch_alone("COGNet")
