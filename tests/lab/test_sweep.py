"""Sweeps: what is missing and how long it takes, trainings one by one and at once, failures, and kills."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medrec.data.load import load_cohort
from medrec.lab import grids
from medrec.lab import sweep as room
from medrec.lab.rows import declared, grid_names
from medrec.lab.sweep import Entry, Outcome, Training, carry_out, listing, look, summary, sweep, trainings
from medrec.lab.tune import tune
from medrec.models import registry
from medrec.models.base import Row
from medrec.paths import base_dir
from medrec.runs import Run
from medrec.training import train
from medrec.types import MedrecError
from tests.toys import random_cohort

TOY = "tests.models.toy_system:SYSTEM"
BROKEN = "tests.lab.toy_broken:SYSTEM"
GRID = f"""
rows:
  - {{key: lr, system: lr}}
  - {{key: toy, label: Toy, system: '{TOY}', settings: {{epochs: 2}}}}
  - {{key: narrow, label: RETAIN, system: retain, settings: {{epochs: 2, size: 8}}}}
"""


@pytest.fixture(scope="module")
def cohort():
    return random_cohort(60, seed=1)


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """An empty run store for every test."""
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def grid(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(GRID)
    return file


# -- what there is to do -----------------------------------------------------------------------------------------------


def test_networks_are_trained_for_each_seed_and_estimators_once(cohort):
    found = [(training.row.key, training.seed) for training in trainings("bimorec-table2", cohort, seeds=3)]
    assert len(found) == len(set(found))
    seeds = {key: [seed for k, seed in found if k == key] for key, _ in found}
    assert seeds["ecc"] == seeds["last-visit"] == [0]
    assert seeds["bimorec"] == seeds["retain"] == [0, 1, 2]


def test_the_cohort_is_the_callers_then_the_files_then_the_default(grid):
    assert {t.cohort for t in trainings(grid)} == {"synthetic"}
    grid.write_text("cohort: mimic3\n" + GRID)
    assert {t.cohort for t in trainings([grid, "lr"])} == {"mimic3", "synthetic"}
    assert {t.cohort for t in trainings([grid, "lr"], "mimic4")} == {"mimic4"}


def test_a_rows_own_settings_win_over_those_of_the_sweep(grid, cohort):
    found = {t.row.key: dict(t.row.settings) for t in trainings(grid, cohort, settings={"epochs": 1, "size": 4})}
    assert found == {"lr": {}, "toy": {"epochs": 2, "size": 4}, "narrow": {"epochs": 2, "size": 8}}


def test_a_training_that_two_grids_ask_for_is_there_once(grid, cohort):
    wanted = trainings([grid, "lr"], cohort)
    assert [str(t) for t in wanted if t.row.system == "lr"] == [
        "lr (mine/lr) on random-toy, seed 0",
        "LR (lr/lr) on random-toy, seed 0",
    ]
    assert len(room.once(look(wanted))) == len(wanted) - 1
    assert len(sweep([grid, "lr"], cohort)) == len(wanted) - 1


def test_what_is_listed_is_what_train_makes(grid, cohort, store):
    told = [json.loads(line) for line in listing(look(trainings(grid, cohort, seeds=2))).splitlines()]
    assert [(row["system"], row["seed"]) for row in told] == [
        ("lr", 0),
        (TOY, 0),
        (TOY, 1),
        ("retain", 0),
        ("retain", 1),
    ]
    assert not store.exists(), "nothing is trained"
    for row in told:
        assert set(row) == {
            *("key", "cohort", "system", "variant", "settings", "seed", "split_seed", "ddi", "folder", "done"),
            "seconds",
        }
        assert (row["cohort"], row["done"], row["ddi"]) == ("random-toy", False, None)
        run = train(
            row["system"],
            cohort,
            variant=row["variant"],
            settings=row["settings"],
            seed=row["seed"],
            split_seed=row["split_seed"],
        )
        assert (run.content_key, str(run.folder)) == (row["key"], row["folder"])
    again = [json.loads(line) for line in listing(look(trainings(grid, cohort, seeds=2))).splitlines()]
    assert [row | {"done": False, "seconds": 0} for row in again] == [row | {"seconds": 0} for row in told]
    assert all(row["done"] for row in again)
    assert [row["seconds"] for row in again] == [
        round(Run.load(Path(row["folder"])).environment["wall_seconds"], 1) for row in again
    ]


def test_a_run_of_another_key_keeps_its_folder(cohort):
    earlier = train("lr", cohort)
    (entry,) = look(trainings("lr", random_cohort(60, seed=1, n_medications=8)))
    assert not entry.done
    assert entry.folder.parent == earlier.folder.parent
    assert entry.folder.name == f"seed0-{entry.key[:8]}"


# -- how long it takes -------------------------------------------------------------------------------------------------


def seconds_of(system, cohort, **settings):
    (entry,) = look([Training("g", Row("k", "l", system, settings=settings), cohort)])
    return entry.seconds


def test_without_earlier_runs_a_network_takes_its_budget_for_half_of_its_epochs(cohort):
    budget = registry.get("leap").seconds_per_epoch
    assert seconds_of("leap", cohort, epochs=30) == pytest.approx(budget * cohort.n_patients / 6350 * 30 / 2)
    assert seconds_of("lr", cohort) is None
    assert seconds_of(TOY, cohort) is None, "it declares no budget"


def test_with_earlier_runs_the_median_of_the_same_system_and_cohort(cohort):
    took = sorted(train("lr", cohort, settings={"C": c}).environment["wall_seconds"] for c in (0.1, 1.0, 10.0))
    train("popularity", cohort)
    assert seconds_of("lr", cohort, C=0.5) == took[1]
    assert seconds_of("ecc", cohort) is None
    assert seconds_of("lr", replace(cohort, name="other"), C=0.5) is None


def entry(grid, key, seconds, *, done=False, label="RETAIN"):
    return Entry(Training(grid, Row(key, label, "retain"), "c"), key, seconds=seconds, done=done)


def test_a_dry_run_counts_and_sums_for_each_grid_and_in_all():
    entries = [
        entry("a", "1", 100),
        entry("a", "2", 200, done=True),
        entry("a", "3", None, label="ECC"),
        entry("b", "1", 100),
        entry("b", "4", 7200),
    ]
    first, second, third, last = summary(entries, jobs=2).splitlines()
    assert first == (
        "a on c: 2 of 3 trainings are missing; about 2 min one after the other; unknown for ECC, of which nothing was "
        "trained on this cohort yet."
    )
    assert second == "b on c: 2 of 2 trainings are missing; about 2.0 h one after the other."
    assert third.startswith("in all: 3 of 4 trainings are missing; about 2.0 h one after the other; unknown for ECC")
    assert last == "2 at once: 2.0 h, each on its share of the cores", "the longest is not shared"
    assert summary(entries[1:2]) == "a on c: 0 of 1 trainings are missing."


@pytest.mark.parametrize("name", ["bimorec-table2", "bimorec-controls", "micron"])
def test_every_grid_of_the_book_can_be_planned(name):
    codes = ("A02B", "B01A", "C03C", "C10A", "N02A", "C07A", "J01D", "A06A", "N05B")  # so that there are molecules
    cohort = random_cohort(60, seed=1)
    vocab = {**cohort.vocab, "medication": type(cohort.vocab["medication"])("medication", codes, codes)}
    entries = look(trainings(name, replace(cohort, vocab=vocab)))
    assert [entry.error for entry in entries if entry.error] == []
    assert f"{len(entries)} of {len(entries)} trainings are missing" in summary(entries)


# -- doing it ----------------------------------------------------------------------------------------------------------


def content(folder):
    """Everything of a run that does not tell the time."""
    config = json.loads((folder / "config.json").read_text())
    history = folder / "history.csv"
    epochs = [line.rpartition(",")[0] for line in history.read_text().splitlines()] if history.exists() else []
    files = {name: (folder / name).read_bytes() for name in ("weights.safetensors", "answers.safetensors")}
    return config["key"], files, json.loads((folder / "metrics.json").read_text()), epochs


def store_content(root):
    return {
        file.parent.relative_to(root): content(file.parent)
        for file in sorted(root.glob("*/*/*/*/config.json"))
        if not file.parent.name.startswith(".")
    }


def test_trainings_at_once_in_processes_make_the_same_runs(grid, cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stores = {}
    for jobs in (1, 2):
        stores[jobs] = tmp_path / f"store{jobs}"
        monkeypatch.setenv("MEDREC_RUNS_DIR", str(stores[jobs]))
        outcomes = sweep(grid, cohort, seeds=2, jobs=jobs)
        assert [(o.training.row.key, o.training.seed) for o in outcomes] == [
            ("lr", 0),
            ("toy", 0),
            ("toy", 1),
            ("narrow", 0),
            ("narrow", 1),
        ]
        assert all(outcome.made and outcome.error == "" for outcome in outcomes)
    assert len(store_content(stores[1])) == 5
    assert store_content(stores[1]) == store_content(stores[2])


def test_what_is_in_the_store_is_not_trained_again(grid, cohort):
    first = sweep(grid, cohort)
    before = {outcome.folder: (outcome.folder / "environment.json").stat().st_mtime_ns for outcome in first}
    again = sweep(grid, cohort, jobs=2)
    assert [outcome.folder for outcome in again] == [outcome.folder for outcome in first]
    assert not any(outcome.made for outcome in again)
    assert {outcome.folder: (outcome.folder / "environment.json").stat().st_mtime_ns for outcome in again} == before


def test_a_cohort_is_loaded_once(grid, cohort, monkeypatch):
    asked = []
    monkeypatch.setattr(room, "load_cohort", lambda name: asked.append(name) or cohort)
    room._loaded.cache_clear()
    outcomes = sweep([grid, "popularity"], "synthetic-6350")
    room._loaded.cache_clear()
    assert len(outcomes) == 4
    assert asked == ["synthetic-6350"]


@pytest.fixture
def broken(tmp_path):
    def write(how):
        file = tmp_path / "broken.yaml"
        file.write_text(
            f"rows:\n  - {{key: broken, system: '{BROKEN}', settings: {{how: {how}}}}}\n"
            f"  - {{key: refuses, system: '{BROKEN}', settings: {{how: refuses}}}}\n"
            "  - {key: lr, system: lr}\n  - {key: popularity, system: popularity}\n"
        )
        return file

    return write


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_training_that_fails_does_not_stop_the_others(broken, cohort, jobs, store):
    failing, refusing, *others = sweep(broken("raises"), cohort, jobs=jobs)
    assert failing.error.startswith("ZeroDivisionError: nothing to share (")
    assert "toy_broken.py, line" in failing.error
    assert refusing.error == "These records are not for me. Take others."
    assert [(o.folder is not None, o.error) for o in others] == [(True, "")] * 2
    assert all(outcome.folder.is_relative_to(store) for outcome in others)
    assert len(room.failures([failing, refusing, *others])) == 2


def test_a_process_that_is_ended_from_outside_takes_nobody_with_it(broken, cohort):
    dying, refusing, *others = sweep(broken("dies"), cohort, jobs=2)
    assert "ended from outside" in dying.error
    assert refusing.error == "These records are not for me. Take others."
    assert [(o.folder is not None, o.error) for o in others] == [(True, "")] * 2


def test_a_cohort_that_cannot_be_loaded_is_told_with_its_trainings(grid, cohort, monkeypatch):
    def load(name):
        if name == "mimic3":
            raise MedrecError("There are no tables of 'mimic3'.")
        return cohort

    monkeypatch.setattr(room, "load_cohort", load)
    room._loaded.cache_clear()
    grid.write_text("cohort: mimic3\nrows: [{key: lr, system: lr}]")
    entries = look(trainings([grid, "popularity"]))
    room._loaded.cache_clear()
    assert "LR" not in summary(entries)
    assert summary(entries).endswith(
        "lr (mine/lr) on mimic3, seed 0 cannot be trained: There are no tables of 'mimic3'."
    )
    with pytest.raises(MedrecError, match="cannot be trained: There are no tables"):
        listing(entries)
    monkeypatch.setattr(room, "load_cohort", lambda name: cohort)
    failed, done = carry_out(entries)
    assert failed == Outcome(failed.training, error="There are no tables of 'mimic3'.")
    assert done.made


def test_mistakes_are_found_before_anything_is_trained(grid, cohort, store):
    for wrong in ({"grids": ["lr", "no-such"]}, {"settings": {"epoch": 3}}, {"device": "gpu"}):
        with pytest.raises(MedrecError):
            sweep(**({"grids": grid, "cohort": cohort} | wrong))
    assert not store.exists()


def test_only_the_books_own_rows_as_the_book_trains_them_are_kept(grid):
    room.check_keeping(["retain", "bimorec-table2"])
    with pytest.raises(MedrecError, match="is yours"):
        room.check_keeping(["retain", grid])
    for other in ({"settings": {"epochs": 2}}, {"split_seed": 1}, {"split_seed": None}, {"ddi": Path("own.csv")}):
        with pytest.raises(MedrecError, match="as the book trains them"):
            room.check_keeping("retain", **other)


def test_rows_that_were_swept_are_kept(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("medrec.paths.base_dir", lambda: tmp_path / "checkout")
    wanted = trainings(["lr", "popularity"], cohort)
    carry_out(look(wanted))
    found = [folder.relative_to(tmp_path / "checkout").as_posix() for folder in room.keep_rows(wanted, 1)]
    assert found == ["results/grids/lr/random-toy", "results/grids/popularity/random-toy"]


def test_everything_is_each_grid_that_means_something_on_any_records(cohort):
    found = trainings(["retain", "everything"], cohort)
    grids = list(dict.fromkeys(training.grid for training in found))
    assert grids[0] == "retain"
    assert set(grids) == {
        name for name in grid_names() if len(declared(name).rows) > 1 and not name.startswith("bimorec-planted")
    }
    assert {training.row.system for training in found} == set(registry.NAMES)


def test_what_was_searched_on_these_records_is_trained_and_said(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("medrec.paths.base_dir", lambda: tmp_path / "checkout")
    assert room.searched(["lr", "popularity"], cohort) == {}
    with pytest.raises(MedrecError, match="no setting that could be searched"):
        tune("popularity", cohort)
    winner = dict(tune("lr", cohort, trials=3, seed=1).winner)
    searched = room.searched(["lr", "popularity"], cohort)
    assert searched == {"lr": winner}
    assert room.searched("lr", replace(cohort, name="others")) == {}

    wanted = trainings(["lr", "popularity"], cohort, searched=searched)
    assert [dict(training.row.settings) for training in wanted] == [winner, {}]
    (own, _) = trainings(["lr", "popularity"], cohort, settings={"C": 7.0}, searched=searched)
    assert own.row.settings == winner | {"C": 7.0}

    carry_out(look(wanted))
    folder, _ = room.keep_rows(wanted, 1, searched=searched)
    stored = json.loads((folder / "provenance.json").read_text())
    assert stored["searched"] == searched
    assert stored["command"].endswith("--keep --tuned")
    assert grids.read("lr", cohort).note == ""


def test_a_row_keeps_what_it_sets_itself_whatever_was_searched(cohort):
    searched = {"cognet": {"writing": "samples", "order": "frequency", "dropout": 0.25}}
    rows = {training.row.key: training.row.settings for training in trainings("cognet", cohort, searched=searched)}
    assert rows["greedy"]["writing"] == "greedy"
    assert rows["official"]["order"] == "rare_first"
    assert {settings["dropout"] for settings in rows.values()} == {0.25}


# -- killed and started again ------------------------------------------------------------------------------------------


KILLED = f"""
rows:
  - {{key: popularity, system: popularity}}
  - {{key: retain, label: RETAIN, system: retain, settings: {{epochs: 6, size: 16, patience: 100}}}}
  - {{key: toy, label: Toy, system: '{TOY}', settings: {{epochs: 4}}}}
  - {{key: leap, label: LEAP, system: leap, settings: {{epochs: 3, size: 16}}}}
  - {{key: lr, label: LR, system: lr}}
"""


def command(grid, store):
    words = [
        sys.executable,
        "-m",
        "medrec.cli",
        "sweep",
        str(grid),
        "--cohort",
        "synthetic",
        "--seeds",
        "2",
        "--jobs",
        "2",
    ]
    environment = os.environ | {
        "MEDREC_RUNS_DIR": str(store),
        "PYTHONPATH": str(base_dir()),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        words,
        env=environment,
        cwd=base_dir(),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def steps(store):
    """Checkpoints and runs with the time of their last change: it grows with everything that is written."""
    return (
        {(file, file.stat().st_mtime_ns) for file in store.rglob("*.json") if file.exists()}
        if store.exists()
        else set()
    )


def killed_after(process, store, changes):
    """Kill the whole group once so many more things were written; False: it had ended before."""
    seen, before = set(), steps(store)
    while process.poll() is None:
        try:
            seen |= steps(store) - before
        except FileNotFoundError:  # a folder took its place between two looks
            continue
        if len(seen) >= changes:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="groups of processes are killed as POSIX does it")
def test_killed_at_random_moments_and_restarted_it_ends_as_undisturbed(tmp_path, monkeypatch):
    grid = tmp_path / "killed.yaml"
    grid.write_text(KILLED)
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(undisturbed))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in each process of two
    try:
        assert not room.failures(sweep(grid, load_cohort("synthetic"), seeds=2))
    finally:
        torch.set_num_threads(threads)
    chance = random.Random(20)
    kills = sum(killed_after(command(grid, disturbed), disturbed, chance.randint(1, 12)) for _ in range(2))
    assert kills == 2, "it ended before it could be killed: give it more to do"
    broken_off = [folder for folder in disturbed.rglob("*.checkpoint") if folder.is_dir()]
    assert broken_off, "no training was broken off"
    last = command(grid, disturbed)
    printed, _ = last.communicate()
    assert last.returncode == 0, printed
    expected = store_content(undisturbed)
    assert len(expected) == 8
    assert store_content(disturbed) == expected
    assert not [folder for folder in disturbed.rglob("*.checkpoint") if folder.is_dir()]
