"""Sweeps: files to tasks, tasks to runs."""

import pytest

import medrec.data
from medrec.experiments.sweep import Task, read_tasks, sweep
from medrec.models.registry import get
from medrec.paths import base_dir
from medrec.types import MedrecError
from tests.toys import random_cohort


def test_every_config_of_the_project_can_be_read():
    files = sorted((base_dir() / "configs").glob("*.yaml"))
    assert files
    for task in read_tasks(files):
        get(task.model).configure(task.variant, task.settings)


def test_lists_multiply_and_doubles_count_once(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(
        "cohort: synthetic\nmodel: [retain]\nvariant: [paper, official]\nseeds: [0, 1]\nsettings: {dropout: 0.3}"
    )
    tasks = read_tasks([file, file])
    assert [(t.variant, t.seed) for t in tasks] == [("paper", 0), ("paper", 1), ("official", 0), ("official", 1)]
    assert tasks[0].settings == {"dropout": 0.3}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("cohort: synthetic", "'model' is missing"),
        ("cohort: synthetic\nmodel: lr\nseed: 3", "unknown key 'seed'. Did you mean 'seeds'"),
        ("cohort: synthetic\nmodel: retain\nsettings: {dropot: 1}", "Did you mean 'dropout'"),
        ("- a\n- b", "must hold keys and values"),
        ("a: [", "is not YAML"),
    ],
)
def test_mistakes_are_found_before_anything_runs(tmp_path, content, said):
    file = tmp_path / "a.yaml"
    file.write_text(content)
    with pytest.raises(MedrecError, match=said):
        read_tasks([file])


def test_a_failing_task_does_not_stop_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path))

    def load(name, **options):
        if name == "broken":
            raise MedrecError("no tables")
        return random_cohort(30, seed=1)

    monkeypatch.setattr(medrec.data, "load_cohort", load)
    outcomes = sweep([Task("broken", "lr"), Task("synthetic", "popularity")])
    assert [outcome.error for outcome in outcomes] == ["no tables", ""]
    assert outcomes[1].folder.endswith("random-toy+seed=1/popularity/paper/seed0")
