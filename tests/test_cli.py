"""The command line as users meet it: what it prints, and how it fails.

Nothing stands in for what the commands call: the cohort is one of 80 invented patients, made by ``medrec data
synthesize --name tiny``.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import create_autospec

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

import medrec
from medrec import paths
from medrec.cli import app
from medrec.models.registry import get
from medrec.paths import base_dir
from medrec.runs import Run
from tests.conftest import demo_dir

INTERVAL = r"[+-]?\d+\.\d+ \[[+-]?\d+\.\d+, [+-]?\d+\.\d+\]"
FIVE = ["Jaccard", "DDI", "rate", "F1", "PRAUC", "medications"]
TOY = Path(__file__).parent / "models" / "toy_system.py"


def medrec_(*words):
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="medrec")


def output(*words):
    """What a command prints."""
    result = medrec_(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def mistake(*words):
    """The one line that a user's mistake gives."""
    result = medrec_(*words)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("medrec: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr


def run_of(printed):
    """The run that `medrec train` made, from what it printed."""
    return Run.load(Path(re.search(r"^Run: (.+)$", printed, flags=re.M).group(1)))


@pytest.fixture(scope="module", autouse=True)
def folders(tmp_path_factory):
    """Tables of the cohort *tiny*, and a store that the tests of this file share."""
    patch = pytest.MonkeyPatch()
    patch.setenv("MEDREC_DATA_DIR", str(tmp_path_factory.mktemp("tables")))
    patch.setenv("MEDREC_RUNS_DIR", str(tmp_path_factory.mktemp("store")))
    output("data", "synthesize", "--patients", "80", "--seed", "3", "--name", "tiny")
    yield
    patch.undo()


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store of its own."""
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_help_is_quick_and_loads_nothing_heavy():
    code = "import sys, medrec.cli; print([m for m in ('torch', 'polars', 'sklearn', 'rdkit') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    for words in ((), ("--help",)):
        assert all(name in output(*words) for name in ("train", "compare", "recommend", "systems", "kept"))
    assert "synthesize" in output("data")


def test_version():
    assert output("--version") == f"medrec {medrec.__version__}\n"


# -- train -------------------------------------------------------------------------------------------------------------


def test_train_prints_five_columns_with_intervals(store):
    printed = output("train", "retain", "--cohort", "tiny", "--set", "epochs=3", "--set", "size=8")
    header, *rows = printed.splitlines()[1:]
    assert header.split() == FIVE
    tuned, own = (next(row for row in rows if row.startswith(f"{name} threshold")) for name in ("tuned", "own"))
    assert len(re.findall(INTERVAL, tuned)) == len(re.findall(INTERVAL, own)) == 5
    assert f"tuned threshold {run_of(printed).threshold:.2f}" in tuned
    assert "cohort tiny (synthetic: invented patients)" in printed
    assert "bootstrap" in printed
    assert "skips first visits" in printed
    assert "\nDDI rates by medrec's own interaction table.\n" in printed
    assert "not converged" in printed
    assert len(list(store.rglob("metrics.json"))) == 1


def test_train_does_what_its_options_say(store):
    options = ("--variant", "official", "--seed", "4", "--split-seed", "2", "--set", "epochs=1", "--set", "size=8")
    run = run_of(output("train", "retain", "--cohort", "tiny", "--option", "window=first_day", *options))
    assert run.config["cohort"]["name"] == "tiny"
    assert run.config["cohort"]["options"]["window"] == "first_day"
    assert run.config["variant"] == "official"
    assert run.config["seed"] == 4
    assert run.config["sees"]["split_seed"] == 2
    assert (run.config["settings"]["epochs"], run.config["settings"]["size"]) == (1, 8)
    by_file = run_of(output("train", "popularity", "--cohort", "tiny", "--split-seed", "-1"))
    assert by_file.config["sees"]["split_seed"] is None


def test_a_run_in_the_store_is_not_trained_again(store):
    made = run_of(output("train", "lr", "--cohort", "tiny"))
    date = (made.folder / "weights.safetensors").stat().st_mtime_ns
    assert run_of(output("train", "lr", "--cohort", "tiny")).folder == made.folder
    assert (made.folder / "weights.safetensors").stat().st_mtime_ns == date
    output("train", "lr", "--cohort", "tiny", "--again")
    assert (made.folder / "weights.safetensors").stat().st_mtime_ns > date


def test_a_ranker_has_columns_of_its_own():
    printed = output("train", "repeat", "--cohort", "tiny")
    header, row = printed.splitlines()[1:3]
    assert header.split() == ["Recall@10", "Recall@20", "NDCG@10", "NDCG@20"]
    assert len(re.findall(INTERVAL, row)) == 4
    left = run_of(printed).metrics["left_out"]["without_past"]
    assert left > 0
    assert f"{left} test patients are left out: without past." in printed
    assert "DDI" not in printed


def test_a_protocol_of_the_task_by_name():
    held_out = output("train", "repeat", "--cohort", "tiny", "--protocol", "hold-out")
    assert held_out.splitlines()[2].startswith("protocol hold-out")
    assert run_of(held_out).config["sees"]["kind"] == "hold-out"
    house = output("train", "lr", "--cohort", "tiny")
    field = output("train", "lr", "--cohort", "tiny", "--protocol", "lr")
    assert run_of(field).folder == run_of(house).folder  # it changes what is made of the scores, and no training
    assert field.splitlines()[2].startswith("protocol LR")
    assert "ten rounds" in field
    by_file = output("train", "lr", "--cohort", "tiny", "--protocol", "SafeDrug line")
    assert run_of(by_file).config["sees"]["split_seed"] is None
    assert "Did you mean 'hold-out'?" in mistake("train", "repeat", "--protocol", "holdout")
    assert "It has house" in mistake("train", "lr", "--protocol", "hold-out")


def test_another_list_of_interactions_is_named_and_counts(store, tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text("atc3_1,atc3_2\nB01A,N02B\n")
    plain = run_of(output("train", "popularity", "--cohort", "tiny"))
    printed = output("train", "popularity", "--cohort", "tiny", "--ddi", mine)
    first = run_of(printed)
    assert "\nDDI rates by the list mine.csv.\n" in printed
    assert first.content_key != plain.content_key
    assert first.ddi().sum() == 2
    assert first.metrics["tuned"]["ddi_rate"] != plain.metrics["tuned"]["ddi_rate"]
    mine.write_text("atc3_1,atc3_2\nN02B,B01A\nB01A,N02B\n")  # the same matrix
    assert run_of(output("train", "popularity", "--cohort", "tiny", "--ddi", mine)).folder == first.folder
    mine.write_text("atc3_1,atc3_2\nB01A,N02B\nC03C,A12B\n")
    second = run_of(output("train", "popularity", "--cohort", "tiny", "--ddi", mine))
    assert second.ddi().sum() == 4
    assert second.folder != first.folder  # both stay


# -- compare, sweep, runs ----------------------------------------------------------------------------------------------


def test_compare_tells_what_is_compared(tmp_path):
    csv, plot = tmp_path / "out.csv", tmp_path / "out.svg"
    printed = output("compare", "last-visit", "lr", "--cohort", "tiny", "--csv", csv, "--plot", plot)
    assert "Cohort tiny (synthetic: invented patients)" in printed
    assert "tuned on validation Jaccard" in printed
    assert "last visit skips others" in printed
    assert "paired" in printed
    lr = [line for line in printed.splitlines() if line.startswith("LR") and re.search(INTERVAL, line)]
    assert [len(re.findall(INTERVAL, line)) for line in lr] == [5, 5, 4]  # last visit has no PRAUC to differ from
    assert printed.count("DDI rates: medrec's own interaction table") == 3
    assert set(pl.read_csv(csv)["label"]) == {"last visit", "LR"}
    assert plot.read_text().count("<svg") == 1
    own = output("compare", "last-visit", "lr", "--cohort", "tiny", "--threshold", "own")
    assert "own threshold" in own
    assert own != printed


def test_both_halves_of_the_field_meet():
    printed = output("compare", "repeat", "lr", "--cohort", "tiny", "--task", "ranking")
    assert "NDCG@20" in printed
    assert "--task ranking or --task visits" in mistake("compare", "repeat", "lr", "--cohort", "tiny")


def test_sweep_trains_what_is_missing(store, tmp_path):
    grid = tmp_path / "mine.yaml"
    grid.write_text("cohort: tiny\nrows:\n  - {key: a, system: popularity}\n  - {key: b, system: last-visit}\n")
    assert "2 of 2 trainings are missing" in output("sweep", grid, "--dry-run")
    assert list(store.rglob("metrics.json")) == []
    listed = [json.loads(line) for line in output("sweep", grid, "--list").splitlines()]
    assert [(entry["system"], entry["cohort"]) for entry in listed] == [("popularity", "tiny"), ("last-visit", "tiny")]
    output("sweep", grid)
    assert {str(path.parent) for path in store.rglob("metrics.json")} == {entry["folder"] for entry in listed}
    assert "0 of 2 trainings are missing" in output("sweep", grid)
    grid.write_text("cohort: tiny\nrows:\n  - {key: a, sytem: lr}\n")
    assert "Did you mean 'system'?" in mistake("sweep", grid)


def test_tune_prints_rungs_and_a_winner(store, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "results_dir", lambda: tmp_path)
    printed = output("tune", "lr", "--cohort", "tiny", "--trials", "3")
    assert re.match(r"rung 1\n(  0\.\d{4}  .+\n){3}Winner: (as declared|--set C=)", printed), printed
    assert (tmp_path / "tune" / "lr" / "tiny" / "trials.csv").is_file()


def test_runs_lists_the_store(store):
    output("train", "popularity", "--cohort", "tiny")
    printed = output("runs")
    assert "popularity" in printed
    assert "current" in printed


# -- recommend ---------------------------------------------------------------------------------------------------------


def test_recommend_takes_lists_of_codes():
    folder = run_of(output("train", "lr", "--cohort", "tiny")).folder
    words = ("--diagnoses", "428.0", "9:4019", "--procedures", "96.04", "--run", folder)
    printed = output("recommend", *words)
    line = r"^([A-Z]\d\d[A-Z]) +(\d\.\d{3})  \S"
    listed = re.findall(line, printed, flags=re.M)
    assert len(listed) > 3
    assert [float(p) for _, p in listed] == sorted((float(p) for _, p in listed), reverse=True)
    assert f"{len(listed)} medications at threshold" in printed
    assert "Interacting pairs by medrec's own interaction table, " in printed
    assert "Trained on cohort tiny (synthetic: invented patients)." in printed
    assert re.findall(line, output("recommend", "--diagnoses", "428.0", "--run", folder), flags=re.M) != listed
    more = output("recommend", *words, "--symptoms", "nonsense")
    assert more.count("Left out: symptom nonsense. The run knows no symptom code 'nonsense'") == 1
    assert re.findall(line, more, flags=re.M) == listed
    assert "no symptom code 'nonsense'" in mistake("recommend", *words, "--symptoms", "nonsense", "--strict")


def test_recommend_reads_a_history_and_writes_json(tmp_path):
    folder = run_of(output("train", "last-visit", "--cohort", "tiny")).folder
    history = tmp_path / "visits.json"
    history.write_text(json.dumps([{"medications": ["furosemide", "N02BE01", "A06A", "moonshine"]}]))
    found = json.loads(output("recommend", "--run", folder, "--history", history, "--json"))
    assert {medication["code"] for medication in found["medications"]} == {"C03C", "N02B", "A06A"}
    assert [(entry["kind"], entry["code"]) for entry in found["left_out"]] == [("medication", "moonshine")]
    assert found["cohort"] == {"name": "tiny", "source": "synthetic"}
    mine = tmp_path / "mine.csv"
    mine.write_text("atc3_1,atc3_2\nN02B,A06A\n")
    words = ("recommend", "--run", folder, "--history", history, "--ddi", mine)
    pairs = re.search(r"Interacting pairs by the list mine\.csv, 1: (\S+) with (\S+)", output(*words)).groups()
    assert set(pairs) == {"A06A", "N02B"}


def test_recommend_without_a_run():
    first = medrec_("recommend", "--diagnoses", "428.0", "--json")
    assert first.exit_code == 0, first.output
    assert "no run is named: logistic regression is trained on the cohort 'synthetic'" in first.stderr
    found = json.loads(first.stdout)
    assert (found["system"], found["cohort"]["name"]) == ("lr", "synthetic")
    second = medrec_("recommend", "--diagnoses", "428.0")
    assert second.stderr == ""
    assert re.findall(r"^([A-Z]\d\d[A-Z]) ", second.stdout, flags=re.M) == [m["code"] for m in found["medications"]]
    assert "Trained on cohort synthetic (synthetic: invented patients). For study" in second.stdout


def test_recommend_says_what_is_missing(tmp_path):
    folder = run_of(output("train", "repeat", "--cohort", "tiny")).folder
    assert "repeat ranks medications for the patients" in mistake("recommend", "--run", folder, "--diagnoses", "428.0")
    assert "Nothing is said of the patient. Give codes" in mistake("recommend")
    assert "Nothing is said of the patient. Give codes" in mistake("recommend", "--diagnoses", "--run", folder)
    assert "There is no file" in mistake("recommend", "--history", tmp_path / "none.json")
    assert "cannot be read" in mistake("recommend", "--history", tmp_path)
    (tmp_path / "one.json").write_text('{"diagnoses": ["428.0"]}')
    assert "one.json is one visit" in mistake("recommend", "--history", tmp_path / "one.json")
    for wrong in (tmp_path, tmp_path / "one.json", tmp_path / "none"):
        assert "holds no run" in mistake("recommend", "--run", wrong, "--diagnoses", "428.0")
    assert "is no text" in mistake("recommend", "--diagnoses", "428.0\udcff")


@pytest.fixture(scope="module")
def lr():
    """Folder of a run."""
    return run_of(output("train", "lr", "--cohort", "tiny")).folder


def test_recommend_says_what_it_rests_on_and_what_it_left_out(lr, tmp_path):
    history = tmp_path / "visits.json"
    history.write_text(
        '\ufeff[{"diagnoses": ["428.0"], "medications": ["furosemide", "warfrin"]}, {}]', encoding="utf-8"
    )
    words = ("recommend", "--run", lr, "--diagnoses", "428.0", "4019", "--history", history)
    printed = output(*words)
    assert "It rests on 2 diagnoses of this visit, and on 1 earlier visit with 1 diagnosis, 1 medication." in printed
    assert "Left out: medication warfrin. There is no drug 'warfrin'. Did you mean 'warfarin'?" in printed
    assert "Left out: visit 2. It holds no codes." in printed
    assert "and on no earlier visit." in output(*words[:-2])
    assert "'warfrin'" in mistake(*words, "--strict")


def test_recommend_prints_or_writes_json_and_csv(lr, tmp_path):
    asked = ("recommend", "--run", lr, "--diagnoses", "428.0", "Q00.0")
    answer = json.loads(output(*asked, "--json"))
    rows = [(found["code"], found["title"]) for found in answer["medications"]]
    assert len(rows) > 3
    assert [row["given"] for row in answer["understood"]] == ["428.0"]
    assert [row["code"] for row in answer["left_out"]] == ["Q00.0"]
    for words in (("--csv",), ("--csv", "-")):
        printed = medrec_(*asked, *words)
        assert pl.read_csv(printed.stdout.encode()).select("code", "title").rows() == rows
        assert "Left out: diagnosis Q00.0" in printed.stderr
    file = tmp_path / "out.csv"
    printed = output("recommend", "--csv", file, *asked[1:])
    assert printed.splitlines()[-1] == str(file)
    assert printed.startswith(rows[0][0])
    assert pl.read_csv(file).select("code", "title").rows() == rows
    file.unlink()
    assert json.loads(output(*asked, "--json", "--csv", file)) == answer
    assert pl.read_csv(file).select("code", "title").rows() == rows
    assert "--csv FILE" in mistake(*asked, "--json", "--csv")
    assert "Cannot write" in mistake(*asked, "--csv", tmp_path / "nowhere" / "out.csv")


def test_the_example_of_the_readme_is_what_it_says(monkeypatch, tmp_path):
    """Its history is a file, its commands run, and the run knows all that they say of the patient."""
    monkeypatch.setattr("medrec.inference.DEFAULT", ("lr", "tiny"))
    text = (base_dir() / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## Ask about a patient\n")[2].partition("\n## ")[0]
    history, commands = (
        re.search(rf"^```{kind}\n(.*?)^```", section, flags=re.M | re.S).group(1) for kind in ("json", "bash")
    )
    monkeypatch.chdir(tmp_path)
    Path("visits.json").write_text(history, encoding="utf-8")
    fields = {name for visit in json.loads(history) for name in visit}
    assert fields == {"diagnoses", "procedures", "medications"}
    found = [shlex.split(line, comments=True) for line in commands.splitlines() if line.startswith("medrec ")]
    assert len(found) > 2
    for _, *words in found:
        printed = output(*words)
        assert "Left out" not in printed
        if "--json" in words:
            answer = json.loads(printed)
            assert answer["left_out"] == []
            assert {row["visit"] for row in answer["understood"]} == {0, 1, 2}
            assert all(f"`{name}`" in section for name in answer)
    assert Path("answer.csv").is_file()


# -- what there is -----------------------------------------------------------------------------------------------------


def test_systems_are_listed_from_their_declarations():
    lines = output("systems").splitlines()
    assert [line.split()[0] for line in lines[1:]] == [system.name for system in medrec.systems()]
    for line, system in zip(lines[1:], medrec.systems(), strict=True):
        assert all(word in line for word in (system.label, system.task, system.family, system.sees))


def test_settings_of_a_system_with_their_sources():
    printed = output("systems", "bimorec")
    assert "mu2024bimorec" in printed
    assert re.search(r"^width +128 +64 +2 to 8192 +paper, sec\. 5\.4\.2$", printed, flags=re.M)
    assert re.search(r"^patience +8 +20 +1 to 100000 +epochs without", printed, flags=re.M)
    assert re.search(r"^Variant wo_E: history=plain$", printed, flags=re.M)
    assert "It has no settings." in output("systems", "popularity")


def test_cohorts_are_listed_with_what_is_at_hand():
    found = {line.split()[0]: line for line in output("cohorts").splitlines()[1:]}
    assert {"synthetic", "synthetic-6350", "mimic3-demo", "mimic4", "tiny"} <= set(found)
    assert re.search(r"synthetic +yes", found["tiny"])
    assert re.search(r"credentialed +no .*medrec data import mimic4 PATH", found["mimic4"])


def test_kept_results_say_whether_they_are_current():
    head, *lines = output("kept").splitlines()
    assert head.split() == ["kept", "status"]
    assert any(line.startswith("grids/") for line in lines)
    assert all(re.search(r"  (current|made by older code|made from other records)", line) for line in lines)
    assert output("kept", "list").splitlines()[0] == head


# -- a system from elsewhere -------------------------------------------------------------------------------------------


def test_a_system_from_outside_the_package(store, tmp_path, monkeypatch):
    package = tmp_path / "elsewhere"
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copy(TOY, package / "systems.py")
    monkeypatch.syspath_prepend(tmp_path)
    name = "elsewhere.systems:SYSTEM"
    try:
        printed = output("train", name, "--cohort", "tiny", "--set", "epochs=2")
        run = run_of(printed)
        assert printed.startswith("Toy on cohort tiny")
        assert (run.config["system"], run.folder.parts[-3]) == (name, "toy")
        asked = ("recommend", "--diagnoses", "428.0", "--run", run.folder)
        assert "Toy sees diagnoses" in output(*asked)
        assert medrec_(*asked).stderr == ""
        listed = output("systems", name)
        assert listed.startswith(f"Toy ({name}): sequence, task visits")
        assert re.search(r"^growth +0\.01 +-?\d+ to \d+ +of the weight of long lists, an epoch$", listed, flags=re.M)
        assert re.search(r"^Toy .*LR|^LR ", output("compare", name, "lr", "--cohort", "tiny"), flags=re.M)
        with (package / "systems.py").open("a") as source:
            source.write("\nMORE = 1\n")
        older = medrec_(*asked)
        assert older.exit_code == 0, older.output
        assert older.stderr.startswith("medrec: the run tiny+seed=3/toy/paper+epochs=2/seed0 ")
        assert older.stderr.rstrip().endswith("was made by older code; changed since: elsewhere.systems.")
        assert run_of(output("train", name, "--cohort", "tiny", "--set", "epochs=2")).folder != run.folder
    finally:
        for module in ("elsewhere.systems", "elsewhere"):
            sys.modules.pop(module, None)
    assert "cannot be imported" in mistake("train", "nowhere.systems:SYSTEM")


# -- chapters and data -------------------------------------------------------------------------------------------------


def test_chapter_takes_pairs(monkeypatch):
    import medrec.book.one_page
    import medrec.book.runner

    executed = create_autospec(medrec.book.runner.run_chapter, return_value=Path("out.ipynb"))
    rendered = create_autospec(medrec.book.one_page.write_page, return_value=Path("out.html"))
    monkeypatch.setattr(medrec.book.runner, "run_chapter", executed)
    monkeypatch.setattr(medrec.book.one_page, "write_page", rendered)
    printed = output("chapter", "02", "-p", "cohort", "mimic4-demo", "-p", "seed", "3")
    assert executed.call_args.args[:2] == ("02", {"cohort": "mimic4-demo", "seed": "3"})
    assert rendered.call_args.args == (Path("out.ipynb"),)
    assert printed == "out.ipynb\nout.html\n"
    rendered.return_value = None
    assert output("chapter", "02") == "out.ipynb\n"
    executed.side_effect = medrec.MedrecError("The guard refuses it.")
    before = rendered.call_count
    assert "The guard refuses it." in mistake("chapter", "02")
    assert rendered.call_count == before  # what may not be written is not rendered
    assert "give a name and a value" in mistake("chapter", "02", "-p", "cohort")


@pytest.mark.parametrize("by", ["number", "path"])
def test_chapter_lists_its_parameters(by, tmp_path, monkeypatch):
    monkeypatch.setattr("medrec.book.runner.run_chapter", None)  # nothing is executed
    if by == "path":
        (tmp_path / "mine.py").write_text('# %% tags=["parameters"]\nshare: float = 0.5  # of the patients\n')
    printed = output("chapter", "02" if by == "number" else tmp_path / "mine.py", "--parameters")
    head, *lines = printed.splitlines()
    assert head.split() == ["parameter", "type", "default", "meaning"]
    names = [line.split()[0] for line in lines]
    if by == "path":
        assert lines == ["share      float  0.5      of the patients"]
    else:
        assert {"seed", "cohort", "device", "profile"} <= set(names)
        assert re.search(r"^cohort +str +'synthetic' +\S", printed, flags=re.M)


def loaded_as(printed, monkeypatch):
    """Cohort that a printed next step loads."""
    words = shlex.split(re.search(r"^Load it with `(.+?)`", printed, flags=re.M).group(1))
    while words[0] != "medrec":
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    return output(*words[1:]).splitlines()[0]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("--name", "mine"), "mine"),
        ((), "synthetic-mimic3-30-seed0"),
        (("--layout", "eicu", "--seed", "3", "--history", "0.5", "--text", "0"), None),
        (("-o", "a folder of mine/Out.1"), "Out.1"),
    ],
    ids=["named", "no name", "knobs", "another folder"],
)
def test_what_is_synthesized_is_loaded_as_it_is_printed_and_stays_synthetic(words, name, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    printed = output("data", "synthesize", "--patients", "30", *words)
    name = name or "synthetic-eicu-30-seed3-history0_5-text0"
    folder = Path(printed.splitlines()[0])
    assert folder.name == name
    assert folder.is_dir()
    assert loaded_as(printed, monkeypatch) == f"cohort {name} (synthetic: invented patients)"


def test_data_synthesize_and_describe(tmp_path):
    folder = tmp_path / "made"
    output("data", "synthesize", "--patients", "20", "--layout", "mimic4", "-o", folder)
    assert list(folder.rglob("prescriptions.csv*"))
    described = output("data", "describe", "tiny")
    assert "invented patients" in described
    assert "dropped" in described
    assert "give one of them" in mistake("data", "synthesize", "--name", "mine", "-o", folder)
    assert "is taken" in mistake("data", "synthesize", "--name", "mimic3")
    taken = output("data", "synthesize", "--patients", "20", "-o", tmp_path / "mimic3")
    assert "Rename the folder: the name 'mimic3' means other records" in taken


def test_retain_on_open_records(store, monkeypatch):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(demo_dir("mimic4-demo").parent))
    printed = output("train", "retain", "--cohort", "mimic4-demo", "--set", "epochs=5")
    assert "an open demo" in printed
    assert run_of(printed).config["cohort"]["source"] == "demo"


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


def interrupts(*_args, **_more):
    raise KeyboardInterrupt


def interrupted(*words):
    """The one line that is left of a command after Ctrl-C."""
    result = medrec_(*words)
    assert result.exit_code == 130, result.output
    assert re.fullmatch(r"medrec: [^\n]+\n", result.stderr), result.stderr
    return result.stderr


def test_an_interrupt_is_one_line_that_says_how_to_go_on(store, tmp_path, monkeypatch):
    words = ("--cohort", "tiny", "--set", "epochs=4", "--set", "size=8")
    with monkeypatch.context() as patch:
        patch.setattr("medrec.fit.one_epoch", interrupts)
        line = interrupted("train", "retain", *words)
        assert line == "medrec: RETAIN, tiny, seed 0: interrupted before anything could be kept.\n"
    real = medrec.fit.one_epoch
    with monkeypatch.context() as patch:
        # Its last argument is the number of the epoch.
        patch.setattr("medrec.fit.one_epoch", lambda *a: real(*a) if a[-1] < 2 else interrupts())
        line = interrupted("train", "retain", *words)
        assert line == (
            "medrec: RETAIN, tiny, seed 0: interrupted after epoch 2 of 4: run it again, and it goes on from there.\n"
        )
    again = medrec_("train", "retain", *words)
    assert again.exit_code == 0, again.output
    assert again.stderr == "medrec: RETAIN, tiny, seed 0: broken off earlier, goes on after epoch 2 of 4 at most.\n"
    grid = tmp_path / "mine.yaml"
    grid.write_text("cohort: tiny\nrows:\n  - {key: a, system: popularity}\n  - {key: b, system: lr}\n")
    with monkeypatch.context() as patch:
        patch.setattr("medrec.models.lr.LR.fit", interrupts)
        line = interrupted("sweep", grid)
        assert line == (
            "medrec: sweep: interrupted; 1 of 2 missing trainings are in the store now. "
            "LR, tiny: interrupted before anything could be kept.\n"
        )
        assert "LR, tiny: interrupted" in interrupted("compare", "popularity", "lr", "--cohort", "tiny")
    assert "1 of 2 trainings are missing" in output("sweep", grid)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (("runs",), "medrec.lab.store.overview"),
        (("cohorts",), "medrec.data.load.known_cohorts"),
        (("data", "describe", "tiny"), "medrec.data.load.load_cohort"),
        (("data", "fetch", "mimic4-demo"), "medrec.data.fetch.fetch"),
        (("kept", "verify", "grids/retain/synthetic"), "medrec.lab.verify.verify"),
        (("recommend", "--diagnoses", "428.0"), "medrec.inference.recommend"),
    ],
)
def test_an_interrupt_of_any_command_is_one_line(words, place, monkeypatch):
    monkeypatch.setattr(place, interrupts)
    if place.endswith("load_cohort"):
        monkeypatch.setattr("medrec.data.load_cohort", interrupts)
    assert "run it again, and it goes on from there" in interrupted(*words)


def test_an_interrupted_chapter_is_not_written(monkeypatch):
    monkeypatch.setattr("medrec.book.runner.run_chapter", interrupts)
    assert interrupted("chapter", "00") == (
        "medrec: chapter 00: interrupted. No page is written; what it has trained is kept for the next time.\n"
    )


# -- a full disk; wrong words are in tests/test_mistakes.py -----------------------------------------------------------


def test_file_that_outgrows_the_disk(store):
    """A real write error: files may grow to 40 kB, the weights of LR need more."""
    medrec.load_cohort("tiny")  # cached, so that only the run has to be written
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000));"
        "sys.argv = ['medrec', 'train', 'lr', '--cohort', 'tiny'];"
        "from medrec.cli import app; app()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 1, done.stderr
    assert "Cannot write the run" in done.stderr
    assert "Traceback" not in done.stderr
    assert [p for p in store.rglob("*") if p.is_file()] == []


# -- what the pages say ------------------------------------------------------------------------------------------------

PAGES = ("README.md", "CONTRIBUTING.md", "workflow/README.md", "notebooks/25_your_own_data.py")


def commands_of(page):
    """Every ``medrec ...`` in code of a page, as words; ``...`` stands for what the reader knows."""
    text = (base_dir() / page).read_text(encoding="utf-8")
    inline = re.findall(r"`(medrec [a-z][^`]*)`", text)
    blocks = re.findall(r"^(?:# )?(medrec [a-z][^#\n]*)", text, flags=re.M)
    return [shlex.split(command) for command in inline + blocks if "..." not in command and "COMMAND" not in command]


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_pages_print_exist(page):
    """Every word is one that the command takes; nothing is executed."""
    found = commands_of(page)
    assert found
    for _, *words in found:
        command = typer.main.get_command(app)
        path = ["medrec"]
        while hasattr(command, "commands") and words and words[0] in command.commands:
            path.append(words[0])
            command, words = command.commands[words[0]], words[1:]
        assert len(path) > 1, words
        if words:  # otherwise it is only mentioned
            command.make_context(" ".join(path), list(words))
        for word in words[:1] if path[-1] in ("train", "systems") else ():
            assert ":" in word or get(word)


def test_the_readme_shows_every_command_but_those_over_kept_results():
    def paths(command, path=()):
        for name, part in command.commands.items():
            yield from paths(part, (*path, name)) if hasattr(part, "commands") else [(*path, name)]

    shown = {tuple(words[1 : 1 + n]) for words in commands_of("README.md") for n in (1, 2)}
    assert {path for path in paths(typer.main.get_command(app)) if path[0] != "kept"} <= shown
