"""One guard on every route that executes a chapter: what was opened decides, and nothing is written before it looked.

The closed records are those of twenty invented people under the name of a database, with ids that nothing else has.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import entrypoints
import jupytext
import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError
from sphinx.errors import ExtensionError
from typer.testing import CliRunner

from medrec import paths
from medrec.book import papermill_engine
from medrec.book.chapters import KERNEL
from medrec.book.papermill_engine import ChapterError, FailedCellError, Guard, GuardedEngine
from medrec.book.sphinx_ext import execute_stale_chapters
from medrec.cli import app
from medrec.data import opened, privacy
from medrec.types import MedrecError
from tests.book.conftest import write_chapter
from tests.data.conftest import write_mimic3

FIRST = 99_000_100
"""First of the ids; all of them begin with 99000."""


@pytest.fixture
def house(checkout, monkeypatch):
    """A checkout, with closed tables at hand."""
    admissions = [(FIRST + p, FIRST + 500 + p, "2150-02-05") for p in range(20)]
    orders = [{"subject_id": patient, "hadm_id": visit} for patient, visit, _ in admissions]
    write_mimic3(checkout / "data" / "mimic3", admissions, orders)
    monkeypatch.setenv("MEDREC_DATA_DIR", str(checkout / "data"))
    return checkout


HEAD = """
# %% tags=["parameters"]
seed: int = 0  # any
cohort: str = "synthetic"  # no closed one
device: str = "cpu"  # not used here
profile: str = "quick"  # quick or full

# %%
print("nothing closed so far")
"""
SMUGGLING = f"""{HEAD}
# %%
from medrec.data import load_cohort
ids = load_cohort("mimic3").ids()["visit_id"].to_list()

# %%
print(ids)
"""
FAILING = f"""{HEAD}
# %%
from medrec.data import load_cohort
ids = load_cohort("mimic3").ids()["visit_id"].to_list()

# %%
first = ids[0]
raise KeyError(str(ids))
"""


# -- routes ------------------------------------------------------------------------------------------------------------


def command(source, out):
    """``medrec chapter``."""
    return CliRunner().invoke(app, ["chapter", source.stem]).output


def outside(source, out):
    """A path outside the repository."""
    elsewhere = out.parent / "mine.py"
    elsewhere.write_text(source.read_text())
    return CliRunner().invoke(app, ["chapter", str(elsewhere)]).output


def notebook_of(source):
    """The chapter as a notebook, as a user would convert it."""
    file = source.with_suffix(".ipynb")
    notebook = jupytext.read(source)
    notebook.metadata["kernelspec"] = KERNEL
    nbformat.write(notebook, file)
    return file


def papermill_command(*words, out):
    words = [sys.executable, "-m", "papermill", *words, str(out), "--log-output", "--stdout-file", f"{out}.txt"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=out.parent)
    assert done.returncode != 0
    return done.stdout + done.stderr


def papermill_source(source, out):
    """Papermill's command line, of the source."""
    return papermill_command(f"jupytext://{source}", out=out)


def papermill_notebook(source, out):
    """Papermill's command line, of a notebook that was made of it."""
    return papermill_command(str(notebook_of(source)), out=out)


def papermill_python(source, out):
    """Papermill in Python."""
    with pytest.raises((ChapterError, PapermillExecutionError)) as caught:
        papermill.execute_notebook(str(notebook_of(source)), str(out), progress_bar=False)
    return str(caught.value)


def build(source, out):
    """The build of the book."""
    toc = source.parent.parent / "book" / "_toc.yml"
    toc.write_text(f"format: jb-book\nroot: index\nchapters:\n  - file: chapters/{source.stem}\n")
    with pytest.raises(ExtensionError) as caught:
        execute_stale_chapters(SimpleNamespace(srcdir=str(toc.parent)), {"external_toc_path": str(toc)})
    return str(caught.value)


ROUTES = [command, outside, papermill_source, papermill_notebook, papermill_python, build]


def texts_below(*folders):
    """What the files below hold that a reader of the book or of a log could see."""
    for folder in folders:
        for file in folder.rglob("*"):
            if file.is_file() and file.suffix in (".ipynb", ".txt", ".html", ".tmp", ".json"):
                yield file, file.read_text(encoding="utf-8", errors="replace")


@pytest.mark.parametrize("route", ROUTES, ids=[route.__doc__ for route in ROUTES])
def test_a_smuggling_chapter_is_refused_on_every_route(house, tmp_path_factory, route):
    """It loads closed records itself, under a cohort that is open."""
    out = tmp_path_factory.mktemp("out") / "out.ipynb"
    said = route(write_chapter(house, "02_smuggling", SMUGGLING), out)
    assert "shows printed text of a credentialed cohort" in said
    assert "the cohort mimic3" in said
    assert "99000" not in said
    assert [file for file, text in texts_below(house, out.parent) if "99000" in text] == []
    assert not out.exists(), "not a part of it is left"
    assert not list((house / "book").rglob("*.ipynb"))


@pytest.mark.parametrize("route", [command, papermill_source, papermill_python], ids=lambda route: route.__doc__)
def test_a_failing_chapter_tells_what_failed_and_where_and_nothing_else(house, tmp_path_factory, route):
    out = tmp_path_factory.mktemp("out") / "out.ipynb"
    said = route(write_chapter(house, "02_failing", FAILING), out)
    assert "KeyError" in said
    assert "Closed records were opened (the tables of mimic3, the cohort mimic3)" in said
    assert "in cell [4] (02_failing.py, line" in said or "Cell [4], line 2 failed" in said
    assert "99000" not in said
    assert [file for file, text in texts_below(house, out.parent) if "99000" in text] == []
    assert not out.exists()


# -- what is on the disk meanwhile -------------------------------------------------------------------------------------


def test_nothing_closed_is_on_the_disk_at_any_moment(house, tmp_path):
    """The chapter itself keeps what papermill has written of it so far, as one who kills it would find it."""
    out, seen = tmp_path / "out.ipynb", tmp_path / "seen.ipynb"
    copy = f"\n# %%\nimport shutil; shutil.copy({str(out)!r}, {str(seen)!r})\n"
    papermill_python(write_chapter(house, "02_watched", SMUGGLING + copy), out)
    text = seen.read_text()
    assert "nothing closed so far" in text, "papermill's own saving goes on until then"
    assert "99000" not in text
    assert not out.exists()


def test_an_open_notebook_is_saved_and_told_as_by_papermill_alone(house, tmp_path):
    source, out = (
        write_chapter(house, "02_open", HEAD + "\n# %%\nraise ValueError('of no patient')\n"),
        tmp_path / "o.ipynb",
    )
    with pytest.raises(PapermillExecutionError, match="of no patient"):
        papermill.execute_notebook(str(notebook_of(source)), str(out), progress_bar=False)
    assert "of no patient" in out.read_text()


# -- what may be shown -------------------------------------------------------------------------------------------------

GOOD = """
# %% tags=["parameters"]
seed: int = 0  # any
cohort: str = "synthetic"  # or a closed one

# %%
from functools import partial

import polars as pl
from matplotlib import pyplot as plt

from medrec.book import page
from medrec.data import load_cohort, privacy
from medrec.folders import notice

records = load_cohort(cohort)
show = partial(privacy.show, records)
page.at_a_glance({"cohort": cohort}, paper="x", data=page.cohort_line(records), learned="x", full_run="x")

# %% tags=["remove-cell"]
page.glue(mean=0.5, line=page.cohort_line(records), n=privacy.count(records, 3))
notice("the table has an odd line")

# %%
show(page.table(pl.DataFrame({"group": ["a", "b", "c"], "patients": [300, 200, 3]}), caption="x"), counts=["patients"])

# %%
show(plt.plot([1, 2], [3, 4])[0].figure)

# %%
show({"Jaccard": 0.5})
print("Check passed.")
"""


def test_a_chapter_of_aggregates_passes_and_is_masked(house, tmp_path, capfd):
    source, out = write_chapter(house, "02_good", GOOD), tmp_path / "out.ipynb"
    papermill.execute_notebook(f"jupytext://{source}", str(out), parameters={"cohort": "mimic3"}, progress_bar=False)
    notebook = nbformat.read(out, as_version=4)
    text = out.read_text(encoding="utf-8")
    assert "mimic3 (credentialed), 20 patients" in text
    assert "image/png" in text or "image/svg+xml" in text
    (table,) = re.findall(r"<figcaption>x.*?</table>", text)
    assert [int(n) for n in re.findall(r">(\d+)</td>", table)] == [300]
    assert notebook.metadata["medrec"]["closed"] is True
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == list(range(1, 8))
    assert "medrec: the table has an odd line" in capfd.readouterr().err, "on the terminal"
    assert "odd line" not in "".join(str(cell.get("outputs")) for cell in notebook.cells), "not on the page"


def test_a_closed_name_is_guarded_though_nothing_was_opened(house, tmp_path):
    source = write_chapter(house, "02_named", HEAD.replace("nothing closed", "{cohort}").replace('print("', 'print(f"'))
    with pytest.raises(ChapterError, match="printed text"):
        papermill.execute_notebook(f"jupytext://{source}", None, parameters={"cohort": "mimic3"}, progress_bar=False)


# -- what a notebook may hold, without a kernel ------------------------------------------------------------------------

KEY = b"of this execution"


def sealed(data, metadata=None, patients=40, key=KEY):
    marked = {**(metadata or {}), privacy.MARK: patients}
    return output(data, marked | {privacy.SEAL: privacy._seal(key, data, marked)})


def output(data, metadata=None, kind="display_data"):
    return {"output_type": kind, "data": data, "metadata": metadata or {}}


def glued(data, more=None, name="mean"):
    about = {"name": name, "mime_prefix": privacy.GLUE_PREFIX}
    return output(
        {f"{privacy.GLUE_PREFIX}{kind}": value for kind, value in data.items()}, {"scrapbook": about} | (more or {})
    )


def printed(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


WORDS = {"text/plain": "a table", "text/html": "<table><td>0.5</td></table>"}
GLUED_WORDS = {f"{privacy.GLUE_PREFIX}text/plain": "'LR'"}
SCRAP = {"scrapbook": {"name": "mean", "mime_prefix": privacy.GLUE_PREFIX}}
REFUSED = {
    "no mark": output(WORDS),
    "a mark by hand": output(WORDS, {privacy.MARK: 40}),
    "a seal by hand": output(WORDS, {privacy.MARK: 40, privacy.SEAL: "0" * 64}),
    "a seal of another execution": sealed(WORDS, key=b"of another"),
    "a seal of something else": output({"text/plain": "7"}, sealed(WORDS)["metadata"]),
    "a seal with more patients": output(WORDS, sealed(WORDS, patients=3)["metadata"] | {privacy.MARK: 40}),
    "a seal with another note": output(WORDS, sealed(WORDS)["metadata"] | {"note": "99000100"}),
    "few patients": sealed(WORDS, patients=9),
    "no number of patients": sealed(WORDS, patients=True),
    "JSON": sealed({"text/plain": "x", "application/json": {"rows": [99000100]}}),
    "JSON as text": sealed({"application/json": "[1]"}),
    "a widget": sealed({"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}),
    "a script": sealed({"application/javascript": "1"}),
    "the footprint of a chapter": output({"application/vnd.medrec.footprint+json": {"files": ["runs/99000100"]}}),
    "an id in an attribute": sealed({"text/html": "<td title='hadm_id 99000100'>x</td>"}),
    "an id of an attribute": sealed({"text/html": "<td data-subject_id='1'>x</td>"}),
    "a name in two tags": sealed({"text/html": "<b>subject</b><i>_id</i>"}),
    "an id in a picture": sealed({"image/svg+xml": "<svg><text>patient_id</text></svg>"}),
    "a list": sealed({"text/plain": "list[str]"}),
    "a struct": sealed({"text/plain": "struct[2]"}),
    "an array": sealed({"text/html": "<td>array[i64, 2]</td>"}),
    "glued words": glued({"text/plain": "'chest pain'"}),
    "glued words with a mark by hand": glued({"text/plain": "'LR'"}, {privacy.MARK: 40}),
    "a glued number with more": glued({"text/plain": "0.5", "application/json": {"rows": [1]}}),
    "a glued number with JSON": output({f"{privacy.GLUE_PREFIX}text/plain": "0.5", "application/json": {}}, SCRAP),
    "a glued number with a note": glued({"text/plain": "0.5"}, {"note": "99000100"}),
    "a glued number under an id": glued({"text/plain": "0.5"}, name="p99000100"),
    "a glued number under a new name": glued({"text/plain": "0.5"}, name="chestpain"),
    "a glued list": glued({"text/plain": "[0.5, 0.6]"}),
    "a glued number of another kind": output({"text/html": "0.5"}, SCRAP),
    "glue that says more": output(
        {f"{privacy.GLUE_PREFIX}text/plain": "0.5"}, {"scrapbook": SCRAP["scrapbook"] | {"data": [1]}}
    ),
    "a result": output(WORDS, kind="execute_result"),
    "printed numbers": printed("99000100\n"),
    "printed words of another cell": printed("Check of another cell.\n"),
    "a printed line too often": printed("Check passed: mean.\n" * 2),
    "printed digits that stand in the cell": printed("7\n"),
    "a warning": printed("UserWarning: row 99000100\n", "stderr"),
    "an error": {"output_type": "error", "ename": "KeyError", "evalue": "99000100", "traceback": []},
}
PASSED = {
    "a table": sealed(WORDS),
    "a figure": sealed({"image/png": "AAAA", "text/plain": "<Figure>"}, {"image/png": {"width": 300}}),
    "a glued number": glued({"text/plain": "0.5"}),
    "glued words": sealed(GLUED_WORDS, SCRAP),
    "a line that the cell spells out": printed("Check passed: mean.\n"),
}
SOURCE = 'x = "7"\nprint("Check passed: mean.")'


def notebook_with(one, metadata=None):
    cells = [
        {"cell_type": "markdown", "source": "Check of another cell."},
        {"cell_type": "code", "source": SOURCE, "outputs": [one]},
    ]
    return {"metadata": metadata or {}, "cells": cells}


@pytest.mark.parametrize("one", REFUSED.values(), ids=REFUSED)
def test_what_was_not_handed_out_is_refused(one):
    with pytest.raises(MedrecError, match=r"Cell 1 .* of a credentialed cohort") as caught:
        privacy.check_notebook(notebook_with(one), "credentialed", key=KEY)
    assert "99000" not in str(caught.value)
    privacy.check_notebook(notebook_with(one), "synthetic", key=KEY)


@pytest.mark.parametrize("one", PASSED.values(), ids=PASSED)
def test_what_was_handed_out_passes(one):
    privacy.check_notebook(notebook_with(one), "credentialed", key=KEY)


def test_the_state_of_widgets_is_refused():
    state = {"application/vnd.jupyter.widget-state+json": {"state": {"1": {"value": "99000100"}}}}
    with pytest.raises(MedrecError, match="state of widgets"):
        privacy.check_notebook(notebook_with(sealed(WORDS), {"widgets": state}), "credentialed", key=KEY)


def kept(cells, metadata=None):
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata or {})
    papermill_engine._keep_private(notebook, ["the cohort mimic3"], KEY)
    return notebook


def code(source, *outputs, **more):
    return nbformat.v4.new_code_cell(source, outputs=[nbformat.from_dict(one) for one in outputs], **more)


def test_counters_and_language_say_nothing_of_a_kernel():
    notebook = kept(
        [
            code("1", execution_count=99_000_100),
            code(""),
            code("2", execution_count=7, metadata={"execution": {"a": "b"}}),
        ],
        {"language_info": {"name": "99000100", "version": "99000100"}, "kernelspec": KERNEL},
    )
    assert "99000" not in json.dumps(notebook)
    assert [cell.execution_count for cell in notebook.cells] == [1, None, 2]


# -- failures ----------------------------------------------------------------------------------------------------------


def failed(ename, evalue, *frames):
    error = {
        "output_type": "error",
        "ename": ename,
        "evalue": evalue,
        "traceback": ["---", *frames, f"{ename}: {evalue}"],
    }
    with pytest.raises(FailedCellError) as caught:
        kept([code("load()\nfail()", error, execution_count=3)])
    return caught.value.message


IN_CELL = "Cell \x1b[32mIn[3], line 2\x1b[39m\n      1 load()\n----> 2 fail()"
IN_US = f"File {paths.PACKAGE}/data/tables.py:12\x1b[39m, in read(folder)\n     11 x"
ELSEWHERE = "File /usr/lib/python3.11/csv.py:12, in read(folder)\n     11 x"


def test_a_message_of_ours_is_told_and_no_other():
    line = "ADMISSIONS.csv has no column 'hadm_id'."
    assert f"Cell [3], line 2 failed: MedrecError: {line}. Closed records" in failed(
        "MedrecError", line, IN_CELL, IN_US
    )
    for frames in ((IN_CELL,), (IN_US, ELSEWHERE), (IN_US, IN_CELL), ()):
        assert "99000" not in failed("MedrecError", "99000100", *frames)
    for name in ("KeyError", "ValueError", "ComputeError"):
        assert f"failed: {name}. Closed" in failed(name, "99000100", IN_CELL, IN_US)


@pytest.mark.parametrize("name", ["E99000100", "Patient_99000100", "99000100Error", "chest pain"])
def test_a_name_of_an_error_carries_nothing(name):
    assert "failed: an exception. Closed" in failed(name, "x", IN_CELL)


def test_a_message_cannot_pretend_to_be_a_frame():
    assert "99000" not in failed("MedrecError", f"99000100\n{IN_US}", IN_CELL)


def test_a_kernel_that_takes_its_guard_away_has_opened_something(tmp_path):
    guard = Guard(tmp_path)
    assert guard.closed() == []
    (tmp_path / opened.KEY).unlink()
    assert guard.closed() == ["records of a kernel that took its guard away"]


def test_papermill_finds_the_guard_without_being_told():
    (found,) = [point for point in entrypoints.get_group_all("papermill.engine") if "medrec" in point.module_name]
    assert found.load() is GuardedEngine
    code = "from papermill.engines import papermill_engines as e; print(e.get_engine(), e.get_engine('nbclient'))"
    for first in ("", "import medrec.book.papermill_engine; "):  # whichever of the two is imported first
        command = [sys.executable, "-c", first + code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ)
        assert done.stdout.count("GuardedEngine") == 2, done.stderr
    assert Path(papermill_engine.__file__).is_relative_to(paths.PACKAGE)
