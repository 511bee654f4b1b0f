"""Seconds of one epoch: kept by the benchmark, read by chapters."""

from dataclasses import replace

import pytest

from medrec import paths
from medrec.experiments import epochs
from medrec.types import MedrecError
from tests.toys import random_cohort


def test_an_epoch_that_was_measured_and_one_that_was_not(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "base_dir", lambda: tmp_path)
    with pytest.raises(MedrecError, match=r"python benchmarks/epochs.py --keep"):
        epochs.alone("BiMoRec")
    rows = [{"system": "RETAIN", "seconds": 1.0, "batch_size": 4}, {"system": "LR", "seconds": 2, "batch_size": None}]
    cohort = replace(random_cohort(20), name=epochs.COHORT)
    epochs.keep(rows, cohort, ["retain/paper", "lr/paper"], 3.0)
    assert epochs.alone("RETAIN") == {"system": "RETAIN", "seconds": 1.0, "batch_size": 4}
    assert epochs.read().table("epochs")["system"].to_list() == ["LR", "RETAIN"]
    with pytest.raises(MedrecError, match="No epoch of COGNet was measured"):
        epochs.alone("COGNet")


def test_a_change_of_code_makes_times_old_whatever_systems_do(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "base_dir", lambda: tmp_path)
    cohort = replace(random_cohort(20), name=epochs.COHORT)
    epochs.keep([{"system": "LR", "seconds": 2.0}], cohort, ["lr/paper"], 3.0)
    assert epochs.read().status == "current"
    assert "medrec.models.lr" in epochs.read().provenance["own"]
