"""What is in the run store."""

import json

import polars as pl
import pytest

from medrec import keys
from medrec.lab.store import overview, text
from medrec.training import train
from tests.toys import random_cohort


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_every_run_is_listed_with_what_it_is_worth():
    cohort = random_cohort(60, seed=1)
    made = [
        train("lr", cohort, settings={"C": 0.5}),
        train("repeat", cohort),
        train("retain", cohort, settings={"epochs": 1, "size": 8}, seed=3),
    ]
    rows = overview()
    assert rows["key"].to_list() == [run.content_key for run in made]
    assert rows["system"].to_list() == ["lr", "repeat", "retain"]
    assert rows["variant"].to_list() == ["paper+C=0.5", "paper", "paper+epochs=1,size=8"]
    assert rows["seed"].to_list() == [0, 0, 3]
    assert rows["metric"].to_list() == ["Jaccard", "NDCG@20", "Jaccard"]
    measures = ("jaccard", "ndcg_20", "jaccard")
    assert rows["score"].to_list() == [
        run.evaluation("tuned").summary()[name] for run, name in zip(made, measures, strict=True)
    ]
    assert rows["code"].to_list() == ["current"] * 3
    sizes = [sum(file.stat().st_size for file in run.folder.iterdir()) / 2**20 for run in made]
    assert rows["mib"].to_list() == pytest.approx(sizes)
    assert text(rows).splitlines()[-1].startswith("3 runs, 0 of them stale")


def test_runs_of_other_code_are_stale_and_name_the_modules(monkeypatch):
    cohort = random_cohort(60, seed=1)
    train("lr", cohort)
    train("popularity", cohort)
    known = keys.code_digest
    monkeypatch.setattr(
        keys, "code_digest", lambda module: "changed" if module == "medrec.models.lr" else known(module)
    )
    rows = overview()
    assert dict(rows.select("system", "code").iter_rows()) == {"lr": "stale: models.lr", "popularity": "current"}
    stale = overview(stale=True)
    assert stale["system"].to_list() == ["lr"]
    assert "stale: models.lr" in text(stale)
    assert text(rows).splitlines()[-1].startswith("2 runs, 1 of them stale")


def test_a_damaged_run_is_reported_and_left_out(store, capsys):
    run = train("lr", random_cohort(60, seed=1))
    (run.folder / "metrics.json").write_text(json.dumps({}))
    rows = overview()
    assert rows.is_empty()
    assert "metrics.json does not fit its checksum" in capsys.readouterr().err
    assert str(store) in text(rows)
    assert rows.schema["score"] == pl.Float64
