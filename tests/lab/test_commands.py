"""``medrec sweep`` and ``medrec compare`` as users meet them: what their options say must arrive."""

import json

import polars as pl
import pytest
from typer.testing import CliRunner

import medrec.data
from medrec.cli import app
from medrec.lab import sweep as room
from medrec.runs import Run
from tests.toys import random_cohort

TOY = "tests.models.toy_system:SYSTEM"
BROKEN = "tests.lab.toy_broken:SYSTEM"


def medrec_(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def printed(*words):
    """What a command prints that ends well."""
    result = medrec_(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def mistake(*words):
    """The one line that a user's mistake gives."""
    result = medrec_(*words)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("medrec: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """A run store of its own, and two toys for cohorts; any other name is as unknown as ever."""
    toys = {"synthetic": random_cohort(60, seed=1), "mimic3": random_cohort(70, seed=2)}
    known = medrec.data.load_cohort

    def load(name, **options):
        return toys[name] if name in toys and not options else known(name, **options)

    monkeypatch.setattr(medrec.data, "load_cohort", load)
    monkeypatch.setattr(room, "load_cohort", load)
    room._loaded.cache_clear()
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    yield tmp_path / "runs"
    room._loaded.cache_clear()


def runs_in(store):
    return [Run.load(file.parent) for file in sorted(store.rglob("config.json"))]


# -- sweep -------------------------------------------------------------------------------------------------------------


def test_a_dry_run_trains_nothing_and_says_what_is_missing(store):
    words = ("sweep", "lr", TOY, "--seeds", 2, "--cohort", "mimic3", "--set", "epochs=2")
    text = printed(*words, "--dry-run")
    assert "lr on mimic3: 1 of 1 trainings are missing" in text
    assert f"{TOY} on mimic3: 2 of 2 trainings are missing; unknown for Toy" in text
    assert "in all: 3 of 3 trainings are missing" in text
    assert not store.exists()
    printed(*words)
    assert len(runs_in(store)) == 3
    assert "in all: 0 of 3 trainings are missing" in printed(*words, "--dry-run")


def test_the_list_is_json_alone_and_what_is_trained(store):
    words = ("sweep", "lr", TOY, "--seeds", 2, "--split-seed", "-1", "--set", "toy.epochs=2")
    told = [json.loads(line) for line in printed(*words, "--list").splitlines()]
    assert [(row["system"], row["seed"], row["split_seed"], row["done"]) for row in told] == [
        ("lr", 0, None, False),
        (TOY, 0, None, False),
        (TOY, 1, None, False),
    ]
    assert [row["settings"] for row in told] == [{}, {"epochs": "2"}, {"epochs": "2"}]
    assert not store.exists()
    printed(*words)
    assert {(run.content_key, str(run.folder)) for run in runs_in(store)} == {(r["key"], r["folder"]) for r in told}


def test_an_interaction_list_of_the_users_is_listed_with_its_place(store, tmp_path):
    pairs = tmp_path / "pairs.csv"
    pl.DataFrame({"atc3_1": ["A00B"], "atc3_2": ["A02B"]}).write_csv(pairs)
    (row,) = [json.loads(line) for line in printed("sweep", "lr", "--ddi", pairs, "--list").splitlines()]
    assert row["ddi"] == str(pairs)
    printed("sweep", "lr", "--ddi", pairs)
    (run,) = runs_in(store)
    assert run.content_key == row["key"]
    assert run.ddi().sum() == 2


def test_a_file_of_the_users(store, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"cohort: mimic3\nrows:\n  - {{key: toy, system: '{TOY}', settings: {{epochs: 2}}}}\n"
        "  - {key: popularity, system: popularity}\n"
    )
    printed("sweep", file)
    assert {(run.config["system"], run.config["settings"].get("epochs")) for run in runs_in(store)} == {
        (TOY, 2),
        ("popularity", None),
    }
    file.write_text("row: []")
    assert "Did you mean 'rows'" in mistake("sweep", file)
    assert "no file /nowhere.yaml" in mistake("sweep", "/nowhere.yaml")


def test_what_failed_is_told_at_the_end_and_the_rest_is_there(store, tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text(
        f"rows: [{{key: broken, system: '{BROKEN}'}}, {{key: lr, system: lr}}, {{key: toy, system: popularity}}]"
    )
    result = medrec_("sweep", file)
    assert result.exit_code == 1
    *_, last = result.stdout.strip().splitlines()
    assert last.startswith("broken (broken/broken) on synthetic, seed 0: ZeroDivisionError: nothing to share")
    assert result.stderr.strip().splitlines()[-1] == ("medrec: 1 of 3 trainings failed; the reasons stand above.")
    assert {run.config["system"] for run in runs_in(store)} == {"lr", "popularity"}


def test_keeping_is_for_the_books_rows(store, tmp_path, monkeypatch):
    monkeypatch.setattr("medrec.paths.base_dir", lambda: tmp_path / "checkout")
    kept = tmp_path / "checkout" / "results" / "grids" / "lr" / "random-toy"
    printed("sweep", "lr")
    assert not kept.exists(), "nothing is kept unless it is asked for"
    assert str(kept) in printed("sweep", "lr", "--keep")
    assert (kept / "provenance.json").exists()
    assert "Leave out --set" in mistake("sweep", "lr", "--keep", "--set", "C=1")
    assert "is yours" in mistake("sweep", TOY, "--keep")


# -- compare -----------------------------------------------------------------------------------------------------------


def test_compare_takes_variants_settings_thresholds_and_files(store, tmp_path):
    words = ("compare", "lr", "retain:official", TOY, "--set", "retain.size=8", "--set", "epochs=2", "--seeds", 2)
    files = ("--csv", tmp_path / "out.csv", "--plot", tmp_path / "out.svg")
    text = printed(*words, "--threshold", "0.4", "--cohort", "mimic3", *files)
    assert "RETAIN (official, epochs=2, size=8)" in text
    assert "threshold 0.4" in text
    assert "Cohort random-toy" in text
    frame = pl.read_csv(tmp_path / "out.csv")
    assert frame["label"].unique(maintain_order=True).to_list() == [
        "LR",
        "RETAIN (official, epochs=2, size=8)",
        "Toy (epochs=2)",
    ]
    assert (tmp_path / "out.svg").stat().st_size > 0
    assert len(runs_in(store)) == 5
