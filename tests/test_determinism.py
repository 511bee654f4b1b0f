"""Same machine, same number of threads, same seed: the same bytes, with as many threads as there are by default."""

import hashlib

import pytest
import torch

from medrec.data import load_cohort
from medrec.models import registry
from medrec.training import train

TIMES = {"environment.json", "history.csv", "checksums.json"}
"""Files that hold times and dates, or hashes of those that do."""
HEAVY = {"bimorec": {"pretraining_epochs": 1}, "ecc": {"n_chains": 1}}


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.NAMES)
def test_three_fresh_runs_are_the_same_bytes(name, tmp_path, monkeypatch):
    """On 600 patients: on smaller tensors no two threads meet."""
    cohort = load_cohort("synthetic")
    settings = HEAVY.get(name, {}) | ({"epochs": 1} if registry.get(name).is_network else {})
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = []
        for number in range(3):
            monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / str(number)))
            run = train(name, cohort, settings=settings)
            files = [path for path in sorted(run.folder.iterdir()) if path.name not in TIMES]
            history = run.history.drop("seconds", strict=False).to_dicts()
            found.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files] + history)
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2]
    assert run.environment["threads"] == 2
