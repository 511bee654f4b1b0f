"""A process knows which closed records it has opened, by whatever way, and nothing of the open ones."""

import gzip
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from textwrap import dedent

import numpy as np
import polars as pl
import pytest

from medrec import paths
from medrec.data import load, load_cohort, mimic3, opened, privacy, proof
from medrec.data.build import build_cohort
from medrec.data.cohort import Cohort
from medrec.data.example import cohort as running_example
from medrec.data.load import name_synthetic, tables_folder
from medrec.graphs import formats
from medrec.lab.exchange import export
from medrec.runs import Run
from tests.conftest import demo_dir
from tests.data.conftest import write_mimic3
from tests.toys import random_cohort


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A data folder with closed tables of twenty people as ``mimic3``, and what lies beside it."""
    house = tmp_path_factory.mktemp("house")
    admissions = [(p, 9_000_000 + p, f"2150-02-{p + 1:02d}") for p in range(20)]
    orders = [{"subject_id": patient, "hadm_id": visit} for patient, visit, _ in admissions]
    write_mimic3(house / "data" / "mimic3", admissions, orders)
    shutil.copytree(house / "data" / "mimic3", house / "elsewhere")
    (house / "data" / "mimic4").symlink_to(house / "elsewhere")
    shutil.copytree(house / "data" / "mimic3", house / "data" / "ours")
    (house / "data" / "knowledge").mkdir()
    (house / "data" / "knowledge" / "map.csv").write_text("a\n1\n")
    return house


@pytest.fixture(autouse=True)
def own(house, monkeypatch):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(house / "data"))
    # The tables were there before this process began, as those of a hospital are.
    monkeypatch.setattr(opened, "_start", lambda: float("inf"))


def read(path):
    with open(path) as file:
        return file.read()


def read_zipped(path):
    zipped = path.with_name("ADMISSIONS.csv.gz")
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    opened.forget()
    with gzip.open(zipped) as file:
        file.read()
    zipped.unlink()


def stored_again(path):
    """A closed cohort, saved elsewhere and loaded from there."""
    cohort = load_cohort("mimic3")
    cohort.save(path.parent.parent.parent / "saved")
    opened.forget()
    Cohort.load(path.parent.parent.parent / "saved")


def saved_as_open(path):
    """A closed cohort that calls itself a demo, loaded by a later execution."""
    replace(load_cohort("mimic3"), source="demo").save(path.parent.parent.parent / "relabelled")
    opened.forget()
    Cohort.load(path.parent.parent.parent / "relabelled")


def by_its_cache(path):
    folder = load_cohort("mimic3").folder
    opened.forget()
    (folder / "ids.parquet").open("rb").close()


WAYS = {
    "open": read,
    "os.open": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "bytes": lambda path: open(os.fsencode(path), "rb").close(),
    "pathlib": lambda path: path.read_text(),
    "gzip": read_zipped,
    "numpy": lambda path: np.loadtxt(path, dtype=str, delimiter=","),
    "a copy": lambda path: shutil.copy(path, path.parent.parent.parent / "copy.csv"),
    "a relative path": lambda path: read(os.path.relpath(path)),
    "a path with dots": lambda path: read(path.parent / ".." / "mimic3" / path.name),
    "polars": lambda path: opened._announcing(pl.read_csv)(path),
    "polars, lazily": lambda path: opened._announcing(pl.scan_csv)(source=str(path)),
    "polars, several": lambda path: opened._announcing(pl.read_csv)(str(path.parent / "ADMISS*.csv")),
    "polars, a list": lambda path: opened._announcing(pl.scan_csv)([path]),
    "where a link leads": lambda path: read(path.parent.parent.parent / "elsewhere" / path.name),
    "the link": lambda path: read(path.parent.parent / "mimic4" / path.name),
    "tables of one's own": lambda path: read(path.parent.parent / "ours" / path.name),
    "a command": lambda path: subprocess.run(["cat", str(path)], capture_output=True),
    "a command of the shell": lambda path: os.system(f"head -1 {path} > /dev/null"),
    "a command with quotes": lambda path: subprocess.run(f"cat '{path}'|tail -1", shell=True, capture_output=True),
    "a command, relative": lambda path: subprocess.run(["cat", "data/mimic3/ADMISSIONS.csv"], capture_output=True),
    "a cohort": lambda path: load_cohort("mimic3"),
    "a cohort, cached": lambda path: (load_cohort("mimic3"), opened.forget(), load_cohort("mimic3")),
    "a cohort, saved elsewhere": stored_again,
    "a cohort, saved as another": saved_as_open,
    "the file of a cohort": by_its_cache,
    "the folder": lambda path: tables_folder("mimic3"),
    "a reader": lambda path: mimic3.read(path.parent),
    "a reader elsewhere": lambda path: mimic3.read(path.parent.parent.parent / "elsewhere"),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_closed_records_are_noticed_by_whatever_way_they_are_opened(way, house, monkeypatch):
    monkeypatch.chdir(house)
    assert opened.closed() == ()
    way(house / "data" / "mimic3" / "ADMISSIONS.csv")
    assert opened.closed()
    assert not any("9000" in what for what in opened.closed())


def write_new(house):
    (house / "data" / "mimic3" / "new.csv").write_text("a")
    (house / "data" / "mimic3" / "new.csv").unlink()


QUIET = {
    "a command": lambda house: subprocess.run(["cat", str(house / "data" / "knowledge" / "map.csv")], check=True),
    "knowledge": lambda house: read(house / "data" / "knowledge" / "map.csv"),
    "a list of files": lambda house: sorted((house / "data").rglob("*")),
    "writing": write_new,
    "what there is": lambda house: load.known_cohorts(),
    "our own cohort": lambda house: load_cohort("synthetic"),
    "tables of our own cohort": lambda house: mimic3.read(tables_folder("synthetic")),
    "a named one": lambda house: (name_synthetic("mine", 40), load_cohort("mine"), tables_folder("mine")),
    "a table of a named one": lambda house: gzip.open(name_synthetic("mine", 40) / "PATIENTS.csv.gz").close(),
    "another file": lambda house: read(__file__),
}


@pytest.mark.parametrize("way", QUIET.values(), ids=QUIET)
def test_nothing_is_said_of_open_records(way, house):
    way(house)
    assert opened.closed() == ()


@pytest.mark.parametrize("name", ["mimic3-demo", "mimic4-demo", "eicu-demo"])
def test_a_demo_is_open_by_every_way(name, monkeypatch):
    folder = demo_dir(name)
    monkeypatch.setenv("MEDREC_DATA_DIR", str(folder.parent))
    load_cohort(name)
    load._reader(load.source_of(name) and name.removesuffix("-demo"))(tables_folder(name))
    for table in proof._contents(name):
        (file,) = [path for path in folder.rglob("*.gz") if proof._table(path) == table]
        gzip.open(file).close()
    assert opened.closed() == ()


def test_a_table_that_this_process_wrote_is_its_own(house, tmp_path, monkeypatch):
    monkeypatch.setattr(opened, "_start", lambda: 0.0)
    folder = write_mimic3(tmp_path / "toy", [(1, 203, "2150-01-01")], [{"hadm_id": 203}])
    mimic3.read(folder)
    assert opened.closed() == ()
    load_cohort("mimic3")
    opened._closed.pop(f"the tables in {folder}", None)
    mimic3.read(folder)  # it could be made of what was opened by now
    assert f"the tables in {folder}" in opened.closed()


def test_interactions_of_others_are_closed_whoever_they_are_of(house, tmp_path, monkeypatch):
    cohort = random_cohort(20, seed=1)
    folder = export(tmp_path / "graph", cohort)
    assert opened.closed() == ()
    formats.read(folder, "kgin")  # nobody says whose patients these are
    assert opened.closed() == (f"the graph in {folder}",)
    opened.forget()
    monkeypatch.setattr(opened, "_start", lambda: 0.0)
    formats.read(folder, "kgin")  # written by this process, which has opened nothing closed
    assert opened.closed() == ()


def test_the_answers_of_a_run_are_as_closed_as_its_records(tmp_path):
    for source, said in (("synthetic", 0), ("demo", 0), ("credentialed", 1)):
        run = Run(tmp_path, {"cohort": {"source": source}}, {}, {})
        with pytest.raises(FileNotFoundError):
            _ = run._arrays
        with pytest.raises(FileNotFoundError):
            run.vocabulary()
        assert len(opened.closed()) == said


def test_a_field_is_not_believed_against_what_was_loaded(house):
    synthetic, closed = load_cohort("synthetic"), load_cohort("mimic3")
    assert not opened.is_closed(synthetic)
    assert not opened.is_closed(synthetic.select(np.arange(3)))
    for claimed in ("synthetic", "demo"):
        assert opened.is_closed(replace(closed, source=claimed))
        assert opened.is_closed(replace(closed, source=claimed, name="synthetic").select(np.arange(3)))
    tables = mimic3.read(house / "data" / "mimic3")
    assert opened.is_closed(build_cohort(tables, name="mine", source="demo"))
    assert opened.is_closed(running_example()), "made by hand, in a process that has opened closed records"
    opened.forget()
    assert not opened.is_closed(running_example())


def test_what_a_kernel_opens_is_told_at_once_and_by_its_children_too(house, tmp_path, monkeypatch):
    """With polars as it is used, from a process that Python's own ``open`` would say nothing of."""
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / opened.KEY).write_bytes(b"x")
    code = """
        import os, subprocess, sys
        import polars as pl
        import medrec.data.opened
        environment = dict(os.environ)
        os.environ.pop("MEDREC_GUARD")  # too late
        read = "import polars as pl, medrec.data.opened; pl.read_csv(sys.argv[1] + '/data/ours/PATIENTS.csv')"
        subprocess.run([sys.executable, "-c", "import sys; " + read, sys.argv[1]], check=True, env=environment)
        pl.scan_csv(sys.argv[1] + "/data/mimic3/PATIENTS.csv").collect()
        os._exit(9)
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(code), str(house)], env=os.environ | {paths.GUARD: str(guard)}, timeout=60
    )
    assert done.returncode == 9
    assert opened.told(guard) == ["the tables of ours", "the tables of mimic3"]


def test_who_cannot_tell_cannot_open(house, tmp_path, monkeypatch):
    monkeypatch.setenv(paths.GUARD, str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError):
        read(house / "data" / "mimic3" / "PATIENTS.csv")


def test_privacy_asks_what_was_opened(house):
    closed = replace(load_cohort("mimic3"), source="demo")
    frame = pl.DataFrame({"group": ["a", "b", "c"], "patients": [40, 11, 4]})
    assert privacy.release(closed, frame, counts=["patients"])["patients"].to_list() == [40, None, None]
