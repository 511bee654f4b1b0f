"""`workflow/`: Snakemake makes what `medrec sweep` names, here and on SLURM, whenever it is killed.

Most tests put a `medrec` of a few lines on the PATH, which lists trainings and "trains" for a moment. It notices a
training that runs twice at once or is made twice.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from . import slurm

pytest.importorskip("snakemake", reason="Snakemake is missing; install the extra `workflow`")

WORKFLOW = Path(__file__).resolve().parents[2] / "workflow"
SYSTEMS = ("a", "b", "c", "d", "e", "f")
STARTED: list[subprocess.Popen] = []
FAKE = """
import json, os, sys, time
from pathlib import Path

store, (command, *said) = Path(os.environ["MEDREC_RUNS_DIR"]), sys.argv[1:]
rows = json.loads(Path(os.environ["FAKE_ROWS"]).read_text())


def note(name, word):
    with open(store / name, "a") as file:
        file.write(word + "\\n")


if command == "sweep":
    note("asked", " ".join(said))
    if said[0] == "broken":
        sys.exit("medrec: There is no grid 'broken'.")
    for row in rows:
        folder = store / row["cohort"] / row["system"] / f"seed{row['seed']}"
        print(json.dumps({**row, "folder": str(folder), "done": folder.exists()}))
elif command == "chapter":
    note("chapters", " ".join(said))
else:
    folder = store / said[said.index("--cohort") + 1] / said[0] / f"seed{said[said.index('--seed') + 1]}"
    if folder.exists():
        sys.exit()
    if said[0] == "failing":
        sys.exit("medrec: the loss is not finite")
    busy = folder.with_name(f".busy-{folder.name}")
    busy.parent.mkdir(parents=True, exist_ok=True)
    if busy.exists() and Path(f"/proc/{busy.read_text() or 0}").exists():
        note("twice", f"{said[0]}: at once")
    busy.write_text(str(os.getpid()))
    time.sleep(float(os.environ.get("FAKE_SECONDS", "0.1")))
    (half := folder.with_name(f".half-{os.getpid()}")).mkdir()
    (half / "said.json").write_text(json.dumps(said))
    busy.unlink()
    half.rename(folder)
    note("made", said[0])
"""


def rows(*systems: str, **more) -> list[dict]:
    """What `medrec sweep --list` says of trainings, but for the two things that depend on the store."""
    common = {"cohort": "synthetic", "variant": "paper", "settings": {}, "seed": 0, "split_seed": 0, "ddi": None}
    return [{"key": f"key-of-{name}", "system": name, "seconds": 12.5, **common, **more} for name in systems]


class Place:
    """A folder to work in, with its own run store, the `medrec` above on the PATH, and Snakemake."""

    def __init__(self, folder: Path, listed: list[dict], medrec: str | None = FAKE) -> None:
        self.folder, self.store, self.listed = folder, folder / "runs", listed
        self.store.mkdir(parents=True)
        (folder / "rows.json").write_text(json.dumps(listed))
        self.environment = {**os.environ, "MEDREC_RUNS_DIR": str(self.store), "FAKE_ROWS": str(folder / "rows.json")}
        self.environment.pop("SNAKEMAKE_PROFILE", None)
        if medrec is not None:
            program = folder / "bin" / "medrec"
            program.parent.mkdir()
            program.write_text(f"#!{sys.executable} -S\n{medrec}")
            program.chmod(0o755)
            self.environment["PATH"] = f"{program.parent}{os.pathsep}{os.environ['PATH']}"

    def start(self, *words: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(WORKFLOW / "Snakefile"), *words]
        with open(self.folder / "out", "w") as out:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=out, stderr=out, start_new_session=True
            )
        STARTED.append(process)
        return process

    def run(self, *words: str, status: int = 0) -> str:
        """To the end; what Snakemake printed."""
        ended = self.start(*words).wait(120)
        printed = (self.folder / "out").read_text()
        assert ended == status, printed
        return printed

    def lines(self, name: str) -> list[str]:
        file = self.store / name
        return sorted(file.read_text().splitlines()) if file.exists() else []

    def runs(self) -> dict[str, list[str]]:
        """Folder of each run, with what the training was told."""
        files = self.store.glob("*/*/seed*/said.json")
        return {str(file.parent.relative_to(self.store)): json.loads(file.read_text()) for file in files}

    def busy(self) -> bool:
        return any(self.store.glob("*/*/.busy-*"))

    def wait_for(self, what) -> None:
        # Looks are counted and no clock is read: on a busy machine each look takes longer.
        for _ in range(4000):
            if what():
                return
            time.sleep(0.02)
        pytest.fail((self.folder / "out").read_text())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, rows(*SYSTEMS))


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    """A test that failed leaves no Snakemake behind."""
    yield
    while STARTED:
        if (process := STARTED.pop()).poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# --- what is made -----------------------------------------------------------------------------------------------------


def test_a_dry_run_names_what_is_missing_and_makes_nothing(place: Place):
    (place.store / "synthetic/a/seed0").mkdir(parents=True)
    printed = place.run("--dry-run", "--cores=2", "--config", "chapters=7,13")
    assert "5 of 6 trainings are missing" in printed
    assert "medrec train b " in printed
    assert "medrec train a " not in printed
    assert "medrec chapter 07" in printed
    assert "medrec chapter 13" in printed
    assert place.lines("made") == place.lines("chapters") == []


@pytest.mark.slow
def test_from_an_empty_store_to_the_end_and_then_there_is_nothing_to_do(place: Place):
    place.run("--cores=2", "--config", "chapters=[7,13]", "cohort=synthetic")
    assert place.lines("made") == list(SYSTEMS)
    chapters = [f"{name} -p cohort synthetic -p device cpu" for name in ("07", "13")]
    assert place.lines("chapters") == chapters
    printed = place.run("--cores=2", "--config", "chapters=[7,13]", "cohort=synthetic")
    assert "Nothing to be done" in printed
    assert "0 of 6 trainings are missing" in printed
    assert place.lines("chapters") == chapters


def test_the_question_has_the_configured_grids_cohort_and_seeds(place: Place):
    place.run("--dry-run", "--cores=1")
    place.run("--dry-run", "--cores=1", "--config", "grids=my/grid.yaml,other", "cohort=mimic3", "seeds=3")
    defaults = yaml.safe_load((WORKFLOW / "config.yaml").read_text())
    assert (defaults["grids"], defaults["chapters"]) == (["bimorec-table2"], [])
    assert place.lines("asked") == [
        "bimorec-table2 --cohort synthetic --seeds 1 --list",
        "my/grid.yaml other --cohort mimic3 --seeds 3 --list",
    ]


@pytest.mark.slow
def test_a_training_is_told_everything_that_the_list_says(tmp_path: Path):
    settings = {"learning_rate": 1e-3, "graph": True, "loss": "bce"}
    one = rows("pkg.mod:SYSTEM", variant="official", settings=settings, seed=2, split_seed=None, ddi="/lists/own.csv")
    place = Place(tmp_path, one)
    place.run("--cores=1", "--config", "device=cuda")
    (said,) = place.runs().values()
    assert " ".join(said) == (
        "pkg.mod:SYSTEM --cohort synthetic --variant official --seed 2 --split-seed=-1 "
        "--set learning_rate=0.001 --set graph=true --set loss=bce --ddi /lists/own.csv --device cuda"
    )


@pytest.mark.slow
def test_the_store_decides_whoever_made_or_removed_a_run(place: Place):
    place.run("--cores=2", "--config", "chapters=7")
    shutil.rmtree(place.store / "synthetic" / "c")
    place.run("--cores=2", "--config", "chapters=7")
    assert place.lines("made") == sorted([*SYSTEMS, "c"])
    assert len(place.lines("chapters")) == 2  # once more: one of its runs is newer than it
    shutil.rmtree(place.store / ".snakemake-done")
    place.run("--cores=2")
    assert len(place.lines("made")) == 7


@pytest.mark.slow
def test_a_failing_training_stops_neither_the_others_nor_hides_its_reason(tmp_path: Path):
    place = Place(tmp_path, rows("a", "failing", "b"))
    printed = place.run("--cores=1", "--config", "chapters=7", status=1)
    assert "medrec: the loss is not finite" in printed
    assert place.lines("made") == ["a", "b"]
    assert place.lines("chapters") == []


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_without_medrec_the_remedy_is_named(place: Place):
    printed = place.run("--dry-run", "--cores=1", "--config", "medrec=medrec-elsewhere", status=1)
    assert "Cannot run 'medrec-elsewhere'" in printed
    assert "PATH" in printed
    assert "Traceback" not in printed


def test_medrec_can_be_a_command_of_several_words(place: Place):
    assert "6 of 6" in place.run("--dry-run", "--cores=1", "--config", f"medrec=env X=1 {place.folder}/bin/medrec")


def test_a_misspelt_word_of_the_configuration_is_an_error(place: Place):
    printed = place.run("--dry-run", "--cores=1", "--config", "cohrt=mimic3", status=1)
    assert "Unknown configuration: cohrt" in printed
    assert "cohort" in printed


def test_medrec_s_own_reason_is_shown(place: Place):
    printed = place.run("--dry-run", "--cores=1", "--config", "grids=broken", status=1)
    assert "There is no grid 'broken'" in printed
    assert "`medrec sweep broken" in printed


# --- killed and started again -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("profile", [[], ["--profile", str(WORKFLOW / "profiles" / "local")]], ids=["plain", "local"])
def test_killed_at_random_moments_it_ends_as_if_undisturbed(place: Place, profile: list[str]):
    words = ["--cores=2", *profile, "--config", "chapters=7"]
    place.environment["FAKE_SECONDS"] = "0.8"
    chance = random.Random()
    for number in range(3):
        process = place.start(*words)
        if number:  # after the first, while there is something to break off
            place.wait_for(lambda process=process: place.busy() or process.poll() is not None)
        time.sleep(chance.uniform(0, 1.5))
        (os.killpg if number % 2 else os.kill)(process.pid, signal.SIGKILL)  # everything, as in a power cut, or itself
        process.wait()
    place.run(*words)
    said = ["--cohort", "synthetic", "--variant", "paper", "--seed", "0", "--split-seed=0", "--device", "cpu"]
    assert place.runs() == {f"synthetic/{name}/seed0": [name, *said] for name in SYSTEMS}
    assert place.lines("twice") == []
    assert place.lines("made") == list(SYSTEMS)  # nothing was trained a second time
    assert set(place.lines("chapters")) == {"07 -p cohort synthetic -p device cpu"}
    assert "Nothing to be done" in place.run(*words)


@pytest.mark.slow
def test_a_training_that_outlived_snakemake_is_waited_for(tmp_path: Path):
    place = Place(tmp_path, rows("a"))
    place.environment["FAKE_SECONDS"] = "5"
    process = place.start("--cores=1")
    place.wait_for(place.busy)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    place.run("--cores=1")
    assert place.lines("made") == ["a"]
    assert place.lines("twice") == []


# --- SLURM ------------------------------------------------------------------------------------------------------------

ON_SLURM = [
    *("--profile", str(WORKFLOW / "profiles" / "slurm")),
    # This cluster has no accounts and no accounting.
    *("--default-resources", "slurm_account=none", "--slurm-status-command=squeue"),
    *("--seconds-between-status-checks=1", "--slurm-init-seconds-before-status-checks=1"),
]


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="the extra `workflow` is not installed whole")
    try:
        with slurm.node(tmp_path_factory.mktemp("slurm")):
            yield
    except slurm.NoSlurmError as reason:
        pytest.skip(f"no SLURM here: {reason}")


def jobs() -> list[list[str]]:
    """Number, state, time limit, memory and GPUs of each job that the cluster remembers."""
    columns = "JobID:20,State:20,TimeLimit:20,MinMemory:20,tres-per-job:20"
    command = ["squeue", "--states=all", "--noheader", f"--Format={columns}"]
    return [line.split() for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines()]


@pytest.mark.slow
def test_slurm_killed_and_started_again(tmp_path: Path, cluster):
    place = Place(tmp_path, rows("a", "b"))
    place.environment["FAKE_SECONDS"] = "4"
    process = place.start(*ON_SLURM)
    place.wait_for(place.busy)
    os.killpg(process.pid, signal.SIGKILL)  # the jobs go on
    process.wait()
    place.run(*ON_SLURM)
    said = ["--cohort", "synthetic", "--variant", "paper", "--seed", "0", "--split-seed=0", "--device", "cpu"]
    assert place.runs() == {f"synthetic/{name}/seed0": [name, *said] for name in ("a", "b")}
    assert place.lines("made") == ["a", "b"]
    assert place.lines("twice") == []


@pytest.mark.slow
def test_slurm_gets_time_memory_and_gpu_and_tries_a_cancelled_job_again_with_more(tmp_path: Path, cluster):
    place = Place(tmp_path, rows("a", seconds=600))
    place.environment["FAKE_SECONDS"] = "5"
    place.start(*ON_SLURM, "--config", "device=cuda", "mem_mb=300")
    place.wait_for(place.busy)
    (job,) = [job for job in jobs() if job[1] == "RUNNING"]
    assert job[2:] == ["40:00", "300M", "gres:gpu:1"]
    subprocess.run(["scancel", job[0]], check=True)
    place.wait_for(lambda: ["COMPLETED", "1:20:00", "600M", "gres:gpu:1"] in [job[1:] for job in jobs()])
    assert place.lines("made") == ["a"]


# --- the image --------------------------------------------------------------------------------------------------------


def test_the_image_is_made_of_what_the_repository_has():
    """All that can be said of the Dockerfile where nothing can build it."""
    lines = (WORKFLOW / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert "medrec" in copied
    assert [name for name in copied if not (WORKFLOW.parent / name).exists()] == []
    assert {"data", "runs", "."}.isdisjoint(copied)


# --- the real medrec --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_real_medrec_trains_a_small_grid_and_finds_it_again(tmp_path: Path):
    beside = Path(sys.executable).parent
    medrec = shutil.which("medrec", path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    if medrec is None:
        pytest.skip("the command medrec is not installed")
    known = subprocess.run(
        [medrec, "sweep", "--help"], capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}
    )
    if "--list" not in known.stdout:
        pytest.skip("this `medrec sweep` has no --list")
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "cohort: synthetic\nrows:\n"
        "  - {key: pop, label: popularity, system: popularity}\n  - {key: lr, label: LR, system: lr}\n"
    )
    place = Place(tmp_path / "place", [], medrec=None)
    words = ["--cores=1", "--config", f"grids={grid}", f"medrec={medrec}"]
    assert "2 of 2 trainings are missing" in place.run(*words)
    assert {folder.parts[-3] for folder in place.store.glob("synthetic/*/*/seed0")} == {"lr", "popularity"}
    printed = place.run(*words)
    assert "0 of 2 trainings are missing" in printed
    assert "Nothing to be done" in printed
