"""With ``profile full`` the rows that a chapter shows are made of the reader's own records, by any route."""

from importlib import import_module

import nbformat
import pytest

from medrec import paths
from medrec.book import own_rows
from medrec.book.chapters import all_chapters, read_chapter
from medrec.data.load import name_synthetic
from medrec.lab import grids, kept
from medrec.lab.rows import grid_names
from medrec.types import MedrecError


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(paths, "results_dir", lambda: tmp_path / "results")


def chapter(*rows):
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["medrec"] = {"rows": list(rows)}
    return notebook


def test_rows_of_a_cohort_of_the_readers_own_are_trained_kept_and_then_shown(capsys):
    name_synthetic("mine", 60)
    values = {"cohort": "mine", "profile": "full", "device": "cpu"}
    own_rows.make(chapter("popularity", "lr"), values)
    said = capsys.readouterr().err
    assert "popularity on mine: 1 of 1 trainings are missing" in said
    for grid in ("popularity", "lr"):
        assert grids.read(grid, "mine", default="synthetic").cohort == "mine"
    own_rows.make(chapter("popularity", "lr"), values)
    assert "lr on mine: 0 of " in capsys.readouterr().err


@pytest.mark.parametrize(
    "values",
    [
        {"cohort": "mine", "profile": "quick"},
        {"cohort": "synthetic", "profile": "full"},
        {"cohort": "synthetic+structure", "profile": "full"},
    ],
)
def test_nothing_is_trained_in_quick_profile_or_for_cohorts_whose_rows_come_with_the_book(values, tmp_path, capsys):
    own_rows.make(chapter("lr"), values)
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "results").exists()


def test_a_training_that_fails_stops_the_chapter_with_its_reason():
    name_synthetic("tiny", 4)
    with pytest.raises(MedrecError, match="tiny"):
        own_rows.make(chapter("lr"), {"cohort": "tiny", "profile": "full"})
    with pytest.raises(MedrecError, match="No rows"):
        kept.read("grids/lr", "tiny")


def test_chapters_name_grids_and_studies_that_take_a_cohort():
    named = {name for source in all_chapters() for name in own_rows.rows_of(read_chapter(source))}
    assert named
    for name in named - set(grid_names()):
        study = import_module(f"medrec.experiments.{name}")
        assert callable(study.main)
        assert name == study.STUDY


@pytest.mark.parametrize("route", ["medrec chapter", "papermill"])
def test_every_route_makes_the_rows_before_a_kernel_starts(checkout, monkeypatch, route):
    import papermill

    from medrec.book.runner import run_chapter

    source = checkout / "notebooks" / "00_first.py"
    header = "#     name: python3\n"
    source.write_text(source.read_text().replace(header, f"{header}#   medrec:\n#     rows: [lr]\n"))
    asked = []

    def make(notebook, values):
        asked.append((own_rows.rows_of(notebook), dict(values)))
        raise MedrecError("A training failed.")

    monkeypatch.setattr(own_rows, "make", make)
    monkeypatch.setattr(paths, "data_dir", lambda: checkout / "data")
    output = checkout / "out.ipynb"
    values = {"cohort": "mimic4-demo", "profile": "full"}
    routes = {
        "medrec chapter": lambda: run_chapter("00", values, output, progress=False),
        "papermill": lambda: papermill.execute_notebook(
            f"jupytext://{source}", str(output), values, progress_bar=False
        ),
    }
    with pytest.raises(Exception, match=r"A training failed\."):
        routes[route]()
    ((rows, told),) = asked
    assert rows == ("lr",)
    assert values | {"device": "cpu", "seed": 0} == {name: told[name] for name in (*values, "device", "seed")}
    assert not output.exists()
