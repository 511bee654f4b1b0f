"""Ranking tasks as files: read again they are the task, no id is in them, and closed records stay out of checkouts."""

import itertools
import json
import re
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from typer.testing import CliRunner

from medrec import paths
from medrec.cli import app
from medrec.data import load_cohort
from medrec.data.load import name_synthetic
from medrec.graphs import formats
from medrec.graphs.formats import Format
from medrec.graphs.knowledge import Construction
from medrec.lab.exchange import ABOUT, contents, export, task_of
from medrec.paths import GUARD
from medrec.tasks.ranking import PROTOCOLS, Exam
from medrec.types import MedrecError
from tests.ward import ward

FORMATS = get_args(Format)
SEED = 3
"""Of the split: test patients have earlier visits."""
WORD = r"[0-9A-Za-z-]+"


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory):
    """80 invented patients whose tables have ids."""
    patch = pytest.MonkeyPatch()
    patch.setenv("MEDREC_DATA_DIR", str(tmp_path_factory.mktemp("tables")))
    name_synthetic("tiny", 80, seed=3)
    yield load_cohort("tiny")
    patch.undo()


@pytest.fixture
def closed(tiny):
    return replace(tiny, name="mimic3", source="credentialed")


def medrec_(*words):
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="medrec")


def triplets(graph):
    return {(graph.entities[h], graph.relations[r], graph.entities[t]) for h, r, t in graph.triplets.tolist()}


@pytest.mark.parametrize(("form", "protocol"), list(itertools.product(FORMATS, PROTOCOLS)))
def test_what_is_exported_is_read_again(tiny, tmp_path, form, protocol):
    for construction in get_args(Construction):
        folder = tmp_path / construction
        words = ("--cohort", "tiny", "--format", form, "--protocol", protocol, "--split-seed", SEED)
        result = medrec_("graph", "export", folder, *words, "--construction", construction)
        assert result.exit_code == 0, result.output
        task = task_of(tiny, construction=construction, protocol=protocol, split_seed=SEED)
        again = formats.read(folder, form)
        for part, matrix in task.parts.items():
            np.testing.assert_array_equal(again.matrix(part), matrix)
        assert triplets(again.knowledge) == triplets(task.knowledge)
        assert again.users == tuple(map(str, range(tiny.n_patients)))
        about = json.loads((folder / ABOUT).read_text())
        assert (about["protocol"], about["construction"], about["split_seed"]) == (protocol, construction, SEED)
        # What the other command prints of it is the same.
        checked = medrec_("graph", "check", folder, "--format", form)
        assert checked.stdout == result.stdout.removesuffix(f"{folder}\n")
        assert re.search(rf"^triplets +{task.knowledge.n_triplets:,}$", checked.stdout, flags=re.M)


def test_the_parts_are_those_of_the_task(tiny):
    rules = PROTOCOLS["house"]
    exam = Exam(tiny, SEED, rules)
    everything, anew = (task_of(tiny, protocol=name, split_seed=SEED).parts for name in ("house", "new medications"))
    np.testing.assert_array_equal(everything["train"], exam.graph.matrix)
    asked = exam.questions("test")
    np.testing.assert_array_equal(everything["test"][asked.patient], asked.target)
    assert everything["test"].sum() == asked.target.sum()
    # Known medications are among the targets of one protocol, and none of the other's.
    assert (everything["test"] & everything["train"]).any()
    np.testing.assert_array_equal(anew["test"], everything["test"] & ~everything["train"])
    held = task_of(tiny, protocol="hold-out", split_seed=SEED).parts
    assert (sum(part.astype(int) for part in held.values()) <= 1).all()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("construction", get_args(Construction))
def test_no_file_holds_an_id_of_the_tables(tiny, tmp_path, form, construction):
    folder = export(tmp_path / "out", tiny, form, construction=construction, split_seed=SEED)
    ids = tiny.ids()
    known = {str(word) for name in ("patient_id", "visit_id") for word in ids[name]}
    assert len(known) > tiny.n_patients
    assert min(map(len, known)) > 3  # longer than any number of a row
    assert all(re.fullmatch(WORD, word) for word in known)
    for file in folder.iterdir():
        found = set(re.findall(WORD, file.read_text())) & known
        codes = {code.partition(":")[2] for words in tiny.vocab.values() for code in words.codes}
        assert not found - codes, file.name


def test_nothing_is_overwritten_and_nothing_half_written(tiny, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    with pytest.raises(MedrecError, match="out exists already"):
        export(tmp_path / "out", tiny, split_seed=SEED)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(MedrecError, match="link exists already"):
        export(tmp_path / "link", tiny, split_seed=SEED)
    (tmp_path / "file").write_text("")
    with pytest.raises(MedrecError, match="cannot be written"):
        export(tmp_path / "file" / "out", tiny, split_seed=SEED)

    def full(path, names):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats, "write_names", full)
    with pytest.raises(MedrecError, match=r"No space left on device\. .* nothing was left behind"):
        export(tmp_path / "new", tiny, split_seed=SEED)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "out"]


def test_closed_records_are_written_only_outside_of_checkouts(closed, tmp_path, monkeypatch):
    for name in ("graph-of-closed-records", "notebooks/graph-of-closed-records"):
        folder = paths.base_dir() / name
        with pytest.raises(MedrecError, match=r"under version control.* closed records 'mimic3'"):
            export(folder, closed, split_seed=SEED)
        assert not folder.exists()
    (tmp_path / "way-in").symlink_to(paths.base_dir())
    with pytest.raises(MedrecError, match="under version control"):
        export(tmp_path / "way-in" / "graph-of-closed-records", closed, split_seed=SEED)
    (tmp_path / "other" / ".git").mkdir(parents=True)
    with pytest.raises(MedrecError, match="under version control"):
        export(tmp_path / "other" / "deep" / "out", closed, split_seed=SEED)
    assert not (tmp_path / "other" / "deep").exists()
    assert export(tmp_path / "out", closed, split_seed=SEED).is_dir()
    # A chapter shows aggregates and writes no patients, wherever it is.
    monkeypatch.setenv(GUARD, str(tmp_path))
    with pytest.raises(MedrecError, match="A chapter writes no file about single patients"):
        export(tmp_path / "again", closed, split_seed=SEED)


def test_open_records_may_lie_in_a_checkout(tiny, tmp_path):
    (tmp_path / ".git").mkdir()
    assert export(tmp_path / "out", tiny, split_seed=SEED).is_dir()


def test_contents_of_files_of_others(tmp_path):
    (tmp_path / "train.txt").write_text("0 0 1\n1 1\n")
    (tmp_path / "test.txt").write_text("0 1 2\n2 3\n")
    (tmp_path / "kg_final.txt").write_text("0 0 4\n1 1 6\n1 1 6\n")
    found = dict(contents(tmp_path, "kgat"))
    assert (found["patients"], found["items"], found["train interactions"], found["test interactions"]) == (3, 4, 3, 3)
    assert found["items without training interactions"] == 2
    assert found["test patients without training interactions"] == 1
    assert found["test interactions that stand in training too"] == 1
    assert (found["triplets"], found["items without triplets"], found["other entities without triplets"]) == (2, 2, 1)
    assert (found["  0"], found["  1"]) == (1, 1)
    (tmp_path / "kg_final.txt").write_text("0 0 4\n1 treats 6\n")
    result = medrec_("graph", "check", tmp_path)
    assert result.exit_code == 1
    assert "kg_final.txt, line 2: 'treats' is no id" in result.stderr


def test_nobody_who_is_asked_about(tiny):
    once = tiny.select(np.flatnonzero(np.diff(tiny.visit_offsets) == 1))
    with pytest.raises(MedrecError, match="None of the test patients of cohort 'tiny' has a target"):
        task_of(once)
    with pytest.raises(MedrecError, match="patients"):
        task_of(ward())
