"""A kept row is trained again in an empty store and compared."""

import os

import pytest

from medrec.lab import collect, grids, verify
from medrec.lab.rows import rows_of
from medrec.types import MedrecError
from tests.toys import real_classes


@pytest.fixture
def grid(tmp_path, monkeypatch):
    """The rows of LR on a toy cohort, kept in a checkout of its own."""
    cohort = real_classes(60, seed=1)
    monkeypatch.setattr("medrec.paths.base_dir", lambda: tmp_path)
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(verify, "load_cohort", lambda _: cohort)
    found = collect.collect("lr", cohort, 1)
    grids.keep(found, cohort)
    return f"grids/{found.name}/{cohort.name}"


def test_an_unchanged_row_is_the_same_and_the_run_store_is_not_touched(grid, tmp_path):
    before = sorted((tmp_path / "runs").rglob("*"))
    for key in (rows_of("lr")[0].key, None):
        found = verify.verify(grid, key)
        assert len(found) == 10, "five columns at two thresholds"
        assert found["same"].all()
    assert sorted((tmp_path / "runs").rglob("*")) == before
    assert os.environ["MEDREC_RUNS_DIR"] == str(tmp_path / "runs")


def test_another_number_is_noticed(grid, monkeypatch):
    real = verify.train
    monkeypatch.setattr(verify, "train", lambda *a, **k: real(*a, **{**k, "settings": {"C": 0.001}}))
    assert not verify.verify(grid)["same"].all()


def test_names_that_are_no_kept_rows(grid):
    with pytest.raises(MedrecError, match=r"no row 'none'\."):
        verify.verify(grid, "none")
    with pytest.raises(MedrecError, match="grids/GRID/COHORT"):
        verify.verify("reference_points")


def test_a_row_of_a_ranker_is_verified_by_the_columns_of_its_task(tmp_path, monkeypatch):
    cohort = real_classes(60, seed=1)
    monkeypatch.setattr("medrec.paths.base_dir", lambda: tmp_path)
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(verify, "load_cohort", lambda _: cohort)
    found = collect.collect("repeat", cohort, 1)
    grids.keep(found, cohort)
    again = verify.verify(f"grids/repeat/{cohort.name}")
    assert again.columns == ["key", "protocol", "metric", "kept", "now", "same"]
    assert len(again) == 8, "four columns under two protocols"
    assert again["same"].all()
