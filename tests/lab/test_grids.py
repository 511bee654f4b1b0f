"""Grids: how runs become rows, how rows are kept and read again, and what is said of them."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from medrec.experiments import bimorec_grids
from medrec.lab.collect import collect
from medrec.lab.grids import Grid, about_rows, interval, keep, look, read, words
from medrec.lab.rows import Contrast, Declared, declared
from medrec.models import registry
from medrec.models.base import Row
from medrec.tasks import ranking
from medrec.tasks.visits import COLUMNS
from medrec.training import look_up
from medrec.types import MedrecError
from tests.toys import random_cohort

TINY = {"size": 8, "epochs": 2}
ROWS = (
    Row("lr", "LR", "lr"),
    Row("stiff", "LR, stiff", "lr", settings={"C": 0.01}, knob="C", value=0.01),
    Row("retain", "RETAIN", "retain", settings=TINY),
    Row("last-visit", "last visit", "last-visit"),
)


@pytest.fixture(scope="module")
def cohort():
    return random_cohort(60, seed=1)


@pytest.fixture(scope="module")
def grid(cohort, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("MEDREC_RUNS_DIR", str(tmp_path_factory.mktemp("runs")))
    yield collect(Declared("small", ROWS, house=False), cohort, 2)
    patch.undo()


# -- from runs to rows -------------------------------------------------------------------------------------------------


def per_patient(run, cohort, first):
    """Jaccard of each test patient, mean over visits from number ``first`` on, counted in the frame of predictions."""
    said = run.predictions(cohort)
    return (
        said.filter(cohort.visit_number[said["visit"].to_numpy()] >= first)
        .group_by("patient", "visit")
        .agg(
            (pl.col("recommended") & pl.col("prescribed")).sum().alias("both"),
            (pl.col("recommended") | pl.col("prescribed")).sum().alias("either"),
        )
        .group_by("patient")
        .agg((pl.col("both") / pl.col("either")).mean().alias("jaccard"))
        .sort("patient")["jaccard"]
    )


def test_a_level_is_the_mean_over_seeds_of_the_mean_over_patients(grid, cohort):
    for row in ROWS:
        runs = [
            look_up(row.system, cohort, settings=row.settings, seed=seed) for seed in registry.get(row.system).seeds(2)
        ]
        for visits, first in (("all visits", 0), ("later visits", 1)):
            found = grid.by_key(visits=visits).get(row.key)
            if found is None:
                assert visits == "all visits"
                assert row.key in ("retain", "last-visit"), "they skip first visits"
                continue
            expected = np.mean([per_patient(run, cohort, first).mean() for run in runs])
            assert found["value"] == pytest.approx(expected, abs=1e-6)
            assert found["patients"] == len(per_patient(runs[0], cohort, first))
            assert found["low"] <= found["value"] <= found["high"]


def test_a_change_is_over_the_visits_that_both_score(grid):
    for visits in ("first visits", "later visits"):
        rows = grid.by_key(visits=visits)
        for row in rows.values():
            assert row["delta"] == pytest.approx(row["value"] - rows["lr"]["value"], abs=2e-6)
            assert row["delta_low"] <= row["delta"] <= row["delta_high"]
    assert grid.by_key()["lr"]["delta"] == 0
    assert set(grid.by_key(visits="first visits")) == {"lr", "stiff"}


def test_a_reference_that_leaves_first_visits_out_is_compared_on_the_others(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path))
    found = collect(Declared("small", (ROWS[3], ROWS[0]), house=False), cohort, 1)
    every, later = (found.by_key(visits=visits)["lr"] for visits in ("all visits", "later visits"))
    assert every["n_visits"] > later["n_visits"]
    assert every["value"] != later["value"]
    assert every["delta"] == later["delta"]
    base = found.by_key(visits="later visits")["last-visit"]["value"]
    assert later["delta"] == pytest.approx(later["value"] - base, abs=2e-6)


def test_every_metric_has_its_rows_at_both_thresholds(grid):
    counts = grid.scores.group_by("key", "visits", "threshold").len()
    assert set(counts["len"]) == {len(COLUMNS)}
    assert set(counts["threshold"]) == {"own", "tuned"}
    assert set(grid.scores["metric"]) == set(COLUMNS)
    assert grid.by_key(visits="later visits", metric="prauc")["last-visit"]["value"] is None


def test_a_contrast_is_the_sum_of_its_rows(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path))
    rows = tuple(Row(f"C{c}", f"C = {c}", "lr", settings={"C": c}) for c in (1.0, 0.1, 0.01, 0.001))
    signs = dict(zip((row.key for row in rows), (1, -1, -1, 1), strict=True))
    found = collect(Declared("small", rows, contrasts=(Contrast("beyond", "beyond", signs),)), cohort, 1)
    for visits in ("all visits", "first visits", "later visits"):
        for metric in COLUMNS:
            row = found.by_key(visits=visits, metric=metric)
            value = sum(sign * row[key]["value"] for key, sign in signs.items())
            assert row["beyond"]["delta"] == pytest.approx(value, abs=5e-6)
            assert row["beyond"]["delta_low"] <= row["beyond"]["delta"] <= row["beyond"]["delta_high"]
            assert row["beyond"]["value"] is None
    assert set(found.costs["key"]) == set(signs), "it is no training of its own"


def test_costs_count_parameters_seeds_and_what_was_learnt(grid, cohort):
    costs = {row["key"]: row for row in grid.costs.iter_rows(named=True)}
    sizes = {kind: len(vocabulary) for kind, vocabulary in cohort.vocab.items()}
    assert costs["lr"]["parameters"] == sizes["medication"] * (sizes["diagnosis"] + sizes["procedure"] + 1)
    assert (costs["retain"]["seeds"], costs["lr"]["seeds"]) == (2, 1)
    assert (costs["retain"]["epochs"], costs["retain"]["best_epoch"], costs["lr"]["epochs"]) == (2, 1, None)
    assert costs["lr"]["converged"]
    assert not costs["retain"]["converged"], "two epochs are the limit"
    runs = [look_up("retain", cohort, settings=TINY, seed=seed) for seed in (0, 1)]
    assert costs["retain"]["validation"] == pytest.approx(
        np.mean([run.history.filter(epoch=1)["jaccard"].item() for run in runs]), abs=1e-6
    )
    assert costs["lr"]["validation"] == pytest.approx(look_up("lr", cohort).metrics["tuned"]["validation"], abs=1e-6)
    assert costs["last-visit"]["validation"] is None, "a system that has no threshold"


RANKING = (
    Row("repeat", "repeat", "repeat"),
    Row("past-lr", "past LR", "past-lr"),
    Row("lr", "LR", "lr"),
    Row("multivae", "MultiVAE", "multivae", settings={"hidden": 8, "size": 4, "epochs": 2}),
)


def test_rankers_have_a_row_for_each_protocol_and_visit_systems_stand_among_them(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path))
    over = Contrast("over", "MultiVAE over past LR", {"multivae": 1, "past-lr": -1})
    found = collect(Declared("orders", RANKING, house=False, contrasts=(over,)), cohort, 2)
    assert found.task == "ranking"
    counts = found.scores.group_by("key", "protocol").len()
    assert set(counts["len"]) == {len(ranking.COLUMNS)}
    assert len(counts) == 2 * (len(RANKING) + 1)
    for protocol in ("house", "new medications"):
        rows = found.by_key(protocol=protocol)
        for row in RANKING:
            runs = [
                look_up(row.system, cohort, settings=row.settings, seed=seed)
                for seed in registry.get(row.system).seeds(2)
            ]
            values = [
                (run.answers if run.config["task"] == "ranking" else ranking.rank_visits(run, cohort))["test"]
                .evaluate(ranking.PROTOCOLS[protocol])
                .summary()
                for run in runs
            ]
            ndcg = [value["ndcg_20"] for value in values]
            assert rows[row.key]["value"] == pytest.approx(np.mean(ndcg), abs=1e-6)
            assert rows[row.key]["patients"] == values[0]["patients"]
            if len(runs) == 2:
                assert rows[row.key]["seed_sd"] == pytest.approx(abs(ndcg[0] - ndcg[1]) / np.sqrt(2), abs=1e-6)
            else:
                assert rows[row.key]["seed_sd"] is None
        change = rows["multivae"]["value"] - rows["past-lr"]["value"]
        assert rows["over"]["delta"] == pytest.approx(change, abs=2e-6)
    costs = {row["key"]: row for row in found.costs.iter_rows(named=True)}
    assert {key: row["past_only"] for key, row in costs.items()} == {
        "repeat": True, "past-lr": True, "lr": False, "multivae": True
    }  # fmt: skip
    history = look_up("multivae", cohort, settings=RANKING[3].settings).history
    assert costs["multivae"]["validation"] is not None
    assert "ndcg_20" in history.columns
    assert found.wide(protocol="house").columns[2:5] == ["Recall@10", "Recall@10 low", "Recall@10 high"]


def test_a_ranker_has_no_row_in_a_grid_of_visits(cohort):
    with pytest.raises(MedrecError, match=r"is of visits.* has the ranker 'repeat'.*Put a ranker first"):
        collect(Declared("mixed", (ROWS[0], RANKING[0]), house=False), cohort, 1)


def test_nothing_of_a_single_patient_is_in_a_row(grid):
    assert grid.scores["patients"].min() >= 5
    assert "patient" not in grid.scores.columns


# -- what is said of rows ----------------------------------------------------------------------------------------------


def test_wide_has_one_row_a_system_and_the_five_columns(grid):
    wide = grid.wide(visits="later visits")
    assert wide["key"].to_list() == [row.key for row in ROWS]
    assert set(COLUMNS.values()) <= set(wide.columns)
    assert wide.filter(key="last-visit")["PRAUC"].to_list() == [None]
    assert wide.filter(key="lr")["Jaccard"][0] == grid.by_key(visits="later visits")["lr"]["value"]


TWO = [
    {"key": "a", "label": "A", "value": 0.5, "low": 0.4, "high": 0.6, "delta": 0.0, "delta_low": 0.0, "delta_high": 0},
    {"key": "b", "label": "B", "value": 0.52, "low": 0.42, "high": 0.6, "delta": 0.02, "delta_low": 0.01}
    | {"delta_high": 0.04},
]


def made(costs=()):
    same = {"threshold": "tuned", "visits": "all visits", "metric": "jaccard", "patients": 7}
    scores = pl.DataFrame(TWO, strict=False).with_columns(**{k: pl.lit(v) for k, v in same.items()})
    columns = costs or {"key": ["a", "b"], "label": ["A", "B"]}
    return Grid("g", "c", scores, pl.DataFrame(columns), {"seeds": 2, "cohort": {"source": "synthetic"}})


def test_a_row_says_its_level_its_change_and_what_the_first_row_has_over_it():
    first, other = TWO
    assert words(other) == "0.520 [0.420, 0.600]"
    assert words(other, "delta", 2) == "0.02 [0.01, 0.04]"
    lead = interval(other, "delta", -1)
    assert (lead.value, lead.low, lead.high) == (-0.02, -0.04, -0.01)
    assert interval(first, "delta", -1).format(1) == "0.0 [0.0, 0.0]", "a zero has no sign"
    assert words(None) is words(first | {"value": None}) is None


def test_a_judged_row_knows_its_cohort_seeds_and_patients():
    found = made()
    rows = found.by_key()
    assert list(rows) == ["a", "b"]
    assert list(found.by_label()) == ["A", "B"]
    assert found.changes() == {"B": interval(TWO[1], "delta")}
    better = found.judge(rows["b"], sdi=0.03)
    assert better.word == "holds"
    assert "on synthetic records" in better.sentence
    assert "2 seeds, 7 patients" in better.sentence
    assert found.judge(rows["b"], -1).word == "does not hold"
    assert found.judge(rows["a"], equal=True).word == "holds"
    assert found.judge(rows["b"], equal=True).word == "does not hold"
    assert found.judge(rows["b"], mechanism="a role for structure").word == "cannot be tested here"
    assert found.line == "c (synthetic), 7 test patients, 2 training seeds"


@pytest.mark.parametrize(
    ("converged", "degenerate", "said"),
    [
        ([True, False], [None, None], "B's training had not converged"),
        ([False, True], [None, None], "A's training had not converged"),
        ([True, True], [None, "everything"], "B says everything"),
        ([True, True], [None, None], ""),
    ],
)
def test_no_claim_is_judged_on_a_row_that_has_not_learnt(converged, degenerate, said):
    found = made({"key": ["a", "b"], "label": ["A", "B"], "converged": converged, "degenerate": degenerate})
    verdict = found.judge(found.by_key()["b"])
    assert verdict.word == ("no verdict" if said else "holds")
    assert said in verdict.sentence


# -- kept rows ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept_grid(grid, tmp_path, monkeypatch):
    """A grid of the house, with folders of its own for rows."""
    monkeypatch.setitem(bimorec_grids.GRIDS, "small", ROWS)
    monkeypatch.setattr("medrec.paths.base_dir", lambda: tmp_path / "checkout")
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    return grid


def test_kept_rows_come_back_and_credentialed_ones_stay_out_of_the_checkout(kept_grid, cohort, tmp_path):
    with pytest.raises(MedrecError, match="Make them with `medrec sweep small --cohort random-toy --seeds 3 --keep`"):
        read("small", cohort)
    for source, root in (("synthetic", "checkout"), ("credentialed", "runs")):
        place = keep(kept_grid, replace(cohort, source=source))
        assert place.is_relative_to(tmp_path / root)
        again = read("small", "random-toy", source)
        assert again.scores.equals(kept_grid.scores)
        assert again.costs.equals(kept_grid.costs)
        assert again.source == source
        assert again.note == ""
        stored = json.loads((place / "provenance.json").read_text())
        assert stored["seeds"] == 2
        assert stored["command"] == "medrec sweep small --cohort random-toy --seeds 2 --keep"
        assert stored["systems"] == ["last-visit/paper", "lr/paper", "retain/paper"]
        assert stored["rows"]["stiff"] == {"system": "lr", "variant": "paper", "settings": {"C": 0.01}}


def test_a_cohort_without_rows_shows_those_of_the_default_and_says_whose_they_are(kept_grid, cohort):
    other = replace(cohort, name="mimic3", source="credentialed")
    with pytest.raises(MedrecError, match="'random-toy'"):
        read("small", other, default="random-toy")
    keep(kept_grid, cohort)
    found = read("small", other, default="random-toy")
    assert found.cohort == "random-toy"
    assert found.line == f"random-toy (synthetic), {found.n_patients} test patients, 2 training seeds"
    keep(replace(kept_grid, cohort="mimic3"), other)
    assert read("small", other, default="random-toy").cohort == "mimic3"


def test_a_page_says_what_it_lacks_and_what_makes_it_but_never_hides_damage(kept_grid, cohort):
    command = "medrec sweep small --cohort random-toy --seeds 3 --keep"
    assert look("small", cohort, default="random-toy") == (None, "No rows of small are kept.", command)
    place = keep(kept_grid, cohort)
    found = look("small", cohort, default="random-toy")
    assert found.rows.scores.equals(kept_grid.scores)
    assert (found.line, found.command) == (f"Rows of {found.rows.line}.", command)
    (place / "provenance.json").write_text("{")
    with pytest.raises(MedrecError, match="is damaged"):
        look("small", cohort, default="random-toy")


def test_rows_of_other_code_or_of_other_rows_say_so(kept_grid, cohort, monkeypatch):
    place = keep(kept_grid, cohort)
    monkeypatch.setitem(bimorec_grids.GRIDS, "small", (*ROWS, Row("popularity", "popularity", "popularity")))
    assert read("small", cohort).line.endswith("2 training seeds, made for other rows of this grid")
    file = place / "provenance.json"
    stored = json.loads(file.read_text())
    stored["code"]["medrec.metrics"] = "0" * 16
    file.write_text(json.dumps(stored))
    assert read("small", cohort).line.endswith("2 training seeds, made by older code")


def test_rows_that_a_grid_does_not_declare_are_not_kept(kept_grid, cohort, monkeypatch):
    monkeypatch.setitem(bimorec_grids.GRIDS, "small", ROWS[:2])
    with pytest.raises(MedrecError, match="declares other rows"):
        keep(kept_grid, cohort)
    with pytest.raises(MedrecError, match="no grid 'smal'"):
        keep(replace(kept_grid, name="smal"), cohort)


def test_rows_of_before_are_read_under_the_labels_of_today(kept_grid, cohort, monkeypatch):
    monkeypatch.setitem(bimorec_grids.FORMER, "small", {"LR": "LR, as published", "LR, stiff": "LR"})
    keep(kept_grid, cohort)
    today = (
        replace(ROWS[0], key="lr-published", label="LR, as published"),
        replace(ROWS[1], key="lr", label="LR"),
        *ROWS[2:],
    )
    monkeypatch.setitem(bimorec_grids.GRIDS, "small", today)
    found = read("small", cohort)
    assert list(found.by_key(visits="later visits")) == ["lr-published", "lr", "retain", "last-visit"]
    assert found.reference == "lr-published"
    for threshold in ("own", "tuned"):
        now, then = found.by_key(threshold=threshold), kept_grid.by_key(threshold=threshold)
        for key, label, before in (("lr-published", "LR, as published", "lr"), ("lr", "LR", "stiff")):
            assert now[key] == then[before] | {"key": key, "label": label}
    again = replace(kept_grid, scores=found.scores, costs=found.costs)
    again = replace(again, provenance=again.provenance | {"rows": about_rows(today)})
    keep(again, cohort)
    assert read("small", cohort).by_key() == found.by_key()


def test_lr_of_the_kept_table_stands_in_it_as_published_and_tuned():
    rows = read("bimorec-table2", "synthetic-6350")
    labels = dict(rows.costs.select("key", "label").iter_rows())
    assert labels == {row.key: row.label for row in declared("bimorec-table2").rows}
    assert rows.by_key(threshold="own")["lr-published"]["value"] < rows.by_key(threshold="tuned")["lr"]["value"]


def test_rows_of_before_have_keys_by_their_labels():
    rows = read("bimorec-ablation", "synthetic")
    assert set(rows.costs["key"]) == {"bimorec", "wo_T", "wo_E", "wo_TE"}
    assert rows.by_key()["beyond"]["label"] == bimorec_grids.SYNERGY
    assert rows.by_key()["wo_TE"] == rows.by_label()["w/o T+E"]
