"""The command line as users meet it: what it prints, and how it fails."""

import json
import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import medrec.data
from medrec.cli import app
from tests.conftest import demo_dir
from tests.toys import random_cohort

INTERVAL = r"[+-]?\d+\.\d+ \[[+-]?\d+\.\d+, [+-]?\d+\.\d+\]"


def medrec_(*words):
    return CliRunner().invoke(app, list(words))


def mistake(*words):
    """The one line that a user's mistake gives."""
    result = medrec_(*words)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("medrec: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A store of its own, and a toy behind every cohort name."""
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(medrec.data, "load_cohort", lambda name, **options: random_cohort(60, seed=1))
    return tmp_path


def test_help_is_quick_and_loads_nothing_heavy():
    code = "import sys, medrec.cli; print([m for m in ('torch', 'polars', 'sklearn', 'rdkit') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "compare" in medrec_("--help").stdout


def test_train_prints_five_columns_with_intervals(toy):
    result = medrec_("train", "retain", "--set", "epochs=3", "--set", "size=8")
    assert result.exit_code == 0, result.output
    header, *rows = result.stdout.splitlines()[1:]
    assert header.split() == ["Jaccard", "DDI", "rate", "F1", "PRAUC", "medications"]
    tuned = next(row for row in rows if row.startswith("tuned threshold"))
    assert len(re.findall(INTERVAL, tuned)) == 5
    assert "invented patients" in result.stdout
    assert "bootstrap" in result.stdout
    assert "skips first visits" in result.stdout
    assert list((toy / "runs").rglob("metrics.json"))


def test_compare_tells_what_is_compared(toy):
    result = medrec_("compare", "last-visit", "lr")
    assert result.exit_code == 0, result.output
    text = result.stdout
    assert "synthetic: invented patients" in text
    assert "tuned on validation Jaccard" in text
    assert "last visit skips first visits" in text
    assert "paired" in text
    lr = [line for line in text.splitlines() if line.startswith("LR")]
    assert len(lr) == 3  # own visits, common visits, difference
    assert [len(re.findall(INTERVAL, line)) for line in lr] == [5, 5, 4]  # last visit has no PRAUC to differ from
    own = medrec_("compare", "last-visit", "lr", "--threshold", "own").stdout
    assert "fixed, each system's own" in own


def test_recommend_takes_lists_of_codes(toy):
    # The toy has diagnoses 9:100 to 9:111, procedures 9:10 to 9:15, medications A00B to A08B.
    folder = re.search(r"Run: (.+)", medrec_("train", "lr").stdout).group(1)
    result = medrec_("recommend", "--diagnoses", "10.0", "9:104", "--procedures", "1.1", "12", "--run", folder)
    assert result.exit_code == 0, result.output
    listed = re.findall(r"^(A\d\dB) +(\d\.\d{3})  title of A\d\dB$", result.stdout, flags=re.M)
    assert listed
    assert [float(p) for _, p in listed] == sorted((float(p) for _, p in listed), reverse=True)
    assert f"{len(listed)} medications at threshold" in result.stdout
    assert "invented patients" in result.stdout
    assert "no diagnosis code '99.9'" in mistake("recommend", "--run", folder, "--diagnoses", "99.9")


def test_sweep_trains_what_is_missing(toy):
    config = toy / "one.yaml"
    config.write_text("cohort: synthetic\nmodel: [popularity, last-visit]\n")
    result = medrec_("sweep", str(config))
    assert result.exit_code == 0, result.output
    assert len(list((toy / "runs").rglob("metrics.json"))) == 2
    config.write_text("cohort: synthetic\nmodle: lr\n")
    assert "Did you mean 'model'?" in mistake("sweep", str(config))


def test_chapter_takes_pairs(monkeypatch):
    import medrec.book.runner

    seen = {}
    monkeypatch.setattr(
        medrec.book.runner, "run_chapter", lambda which, values, output: seen.update(which=which, values=values)
    )
    result = medrec_("chapter", "02", "-p", "cohort", "mimic4-demo", "-p", "seed", "3")
    assert result.exit_code == 0, result.output
    assert seen == {"which": "02", "values": {"cohort": "mimic4-demo", "seed": "3"}}
    assert "give a name and a value" in mistake("chapter", "02", "-p", "cohort")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trian", "lr"), "Did you mean 'train'?"),
        (("data", "fecth", "mimic4-demo"), "Did you mean 'fetch'?"),
        (("train", "retian"), "Did you mean 'retain'?"),
        (("compare", "lr", "last-vist"), "Did you mean 'last-visit'?"),
        (("train", "retain", "--set", "dropuot=.3"), "Did you mean 'dropout'?"),
        (("train", "retain", "--set", "dropout"), "KEY=VALUE"),
        (("train", "retain", "--variant", "offical"), "Did you mean 'official'?"),
        (("train", "lr", "--device", "gpu"), "no device 'gpu'"),
        (("train", "lr", "--cohort", "sinthetic"), "Did you mean 'synthetic'?"),
        (("train", "lr", "--option", "widow=whole_stay"), "Did you mean 'window'?"),
        (("recommend", "--run", "/nowhere"), "holds no run"),
        (("sweep", "/nowhere.yaml"), "no file"),
        (("chapter", "nonsense"), "no chapter"),
        (("data", "describe", "mimic5"), "Did you mean"),
        (("data", "fetch", "mimic3"), "cannot be fetched"),
        (("data", "import", "mimic3", "/nowhere"), "not a folder"),
        (("data", "synthesize", "--patients", "5", "--layout", "mimic5", "-o", "/tmp/never-made"), "mimic5"),
    ],
)
def test_mistakes_are_one_line(words, said, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    assert said in mistake(*words)
    assert not list(tmp_path.rglob("*.json"))


def test_file_that_outgrows_the_disk(tmp_path):
    """A real write error: files may grow to 40 kB, the weights of LR need more."""
    from medrec.data import load_cohort

    load_cohort("synthetic")  # cached, so that only the run has to be written
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000));"
        "sys.argv = ['medrec', 'train', 'lr', '--cohort', 'synthetic'];"
        "from medrec.cli import app; app()"
    )
    environment = {**os.environ, "MEDREC_RUNS_DIR": str(tmp_path / "runs")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stderr
    assert "Cannot write the run" in done.stderr
    assert "Traceback" not in done.stderr
    assert [p for p in (tmp_path / "runs").rglob("*") if p.is_file()] == []


def test_data_synthesize_and_describe(tmp_path):
    folder = tmp_path / "made"
    result = medrec_("data", "synthesize", "--patients", "20", "--layout", "mimic4", "-o", str(folder))
    assert result.exit_code == 0, result.output
    assert list(folder.rglob("prescriptions.csv*"))
    described = medrec_("data", "describe", "synthetic")
    assert described.exit_code == 0, described.output
    assert "invented patients" in described.stdout
    assert "dropped" in described.stdout


def test_retain_on_open_records(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(demo_dir("mimic4-demo").parent))
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    result = medrec_("train", "retain", "--cohort", "mimic4-demo", "--set", "epochs=5")
    assert result.exit_code == 0, result.output
    assert "an open demo" in result.stdout
    run = next((tmp_path / "runs").rglob("config.json"))
    assert json.loads(run.read_text())["cohort"]["source"] == "demo"
