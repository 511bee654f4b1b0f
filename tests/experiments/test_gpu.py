"""A script of limited time: what is made first, what is not begun, and what is left when it breaks."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest

from medrec import paths
from medrec.experiments import gpu
from medrec.lab import kept
from medrec.lab.sweep import USUAL, Entry, trainings
from medrec.types import MedrecError
from tests.toys import random_cohort

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cohort():
    return replace(random_cohort(20), name="toy")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("bench_gpu", ROOT / "benchmarks" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def entries(cohort):
    return [Entry(training, str(n), seconds=1e9) for n, training in enumerate(trainings(gpu.GRID, cohort))]


class Watch:
    """A clock that a test turns."""

    time = 0.0

    def __call__(self):
        return self.time


def test_the_cheapest_by_what_was_measured_comes_first_and_the_unknown_last(cohort, entries):
    found = gpu.in_order(entries, {"retain": 0.01, "bimorec": 1000.0}, cohort)
    names = [entry.training.row.system for entry in found if entry.seconds is not None]
    assert names[0] == "retain"
    assert names[-1] == "bimorec"
    assert {entry.training.row.system for entry in found if entry.seconds is None} >= {"gamenet", "cognet"}
    assert [entry.seconds is None for entry in found] == sorted(entry.seconds is None for entry in found)
    fast = next(e for e in gpu.in_order(entries, {"retain": 2.0}, cohort) if e.training.row.system == "retain")
    assert fast.seconds / found[0].seconds == pytest.approx(200)
    assert (fast.seconds / (2.0 * USUAL)).is_integer()


def test_nothing_is_begun_that_may_not_end_in_time(cohort, entries):
    watch, begun = Watch(), []
    clock = gpu.Clock(100.0, watch)
    asked = [replace(e, seconds=s) for e, s in zip(entries, (10.0, 40.0, 50.0, 20.0, None), strict=False)]

    def make(entry):
        begun.append(entry.training.row.key)
        watch.time += gpu.MARGIN * entry.seconds
        return {"seconds": entry.seconds}

    rows = list(gpu.trained(asked, clock, make))
    keys = [entry.training.row.key for entry in asked]
    assert begun == keys[:2]
    assert watch.time <= clock.seconds
    assert [row["left_out"] == "" for row in rows] == [True, True, False, False, False]
    assert rows[-1]["left_out"] == "no epoch of it was measured"


def test_one_that_fails_does_not_stop_the_others_and_one_in_the_store_costs_no_time(entries):
    def make(entry):
        if entry is first:
            raise RuntimeError("out of memory\nand much more")
        return {"seconds": 1.0}

    first, second = replace(entries[0], seconds=1.0), replace(entries[1], done=True)
    one, two = gpu.trained([first, second], gpu.Clock(10.0, Watch()), make)
    assert one["left_out"] == "out of memory"
    assert two["left_out"] == ""
    assert two["seconds"] == 1.0


def test_tables_are_whole_after_a_break(monkeypatch, tmp_path, cohort, entries):
    monkeypatch.setattr(paths, "base_dir", lambda: tmp_path)
    told = {"systems": ["retain/paper"], "device": "cpu", "seconds": 1.0, "minutes": 1.0, "about": {"torch": "x"}}
    assert kept.look(gpu, cohort).rows is None
    with pytest.raises(MedrecError, match=r"python benchmarks/gpu.py"):
        gpu.read(cohort)

    def make(entry):
        if entry is asked[1]:
            raise KeyboardInterrupt
        return {"seconds": 1.0, "test_jaccard": 0.5}

    asked = [replace(entry, seconds=1.0) for entry in entries[:3]]
    rows = {"tests": [{"test": "one", "outcome": "passed", "seconds": 0.1}], "trainings": []}

    def go():
        for row in gpu.trained(asked, gpu.Clock(100.0, Watch()), make):
            rows["trainings"].append(row)
            gpu.keep(rows, cohort, **told)

    with pytest.raises(KeyboardInterrupt):
        go()
    found = kept.look(gpu, cohort).rows
    assert found.tables == tuple(gpu.TYPES)
    assert {name: len(found.table(name)) for name in found.tables} == {"tests": 1, "epochs": 0, "trainings": 1}
    assert all(found.table(name).columns == list(schema) for name, schema in gpu.TYPES.items())
    assert found.provenance["about"] == {"torch": "x"}
    assert found.status == "current"


def test_all_files_with_marked_tests_are_run(script):
    mark = re.compile(r"^@pytest\.mark\.gpu", re.M)
    marked = {f.relative_to(ROOT).as_posix() for f in (ROOT / "tests").rglob("*.py") if mark.search(f.read_text())}
    assert marked == set(script.MARKED)


def test_outcomes_are_read_from_what_pytest_says(script):
    said = (
        "0.50s call     tests/a.py::one\n0.25s setup    tests/a.py::one\n"
        "PASSED tests/a.py::one\nSKIPPED [1] tests/a.py:12: no CUDA device here\nFAILED tests/b.py::two - assert 0\n"
    )
    assert [(row["test"], row["outcome"], row["seconds"]) for row in script.outcomes(said)] == [
        ("tests/a.py::one", "passed", 0.75),
        ("tests/b.py::two", "failed", None),
        ("tests/a.py:12", "skipped", None),
    ]


def test_a_processor_is_refused_unless_it_is_a_trial(script, capsys):
    given = script.argparse.Namespace(device="cpu", trial=False, minutes=1.0, cohort="no-such")
    assert script.main(given) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--trial" in said
