"""Same machine, same number of threads, same seed: the same bytes, with as many threads as there are by default."""

import hashlib

import pytest
import torch

from medrec.data import load_cohort
from medrec.models import registry
from medrec.training import train

TIMES = {"environment.json", "history.csv", "checksums.json"}
"""Files that hold times and dates, or hashes of those that do."""
HEAVY = {
    "bimorec": {"pretraining_epochs": 1, "coords": "none", "width": 32, "gvp_scalars": 16, "gvp_vectors": 4},
    "ecc": {"n_chains": 1},
    "drugrec": {"n_layers": 1, "gin_layers": 2},
    "nla-mmr": {"encoder": "random-code"},  # what a language model reads is held to its bits in tests/text
}
RESTLESS = ("causalmed", "cognet")
"""Their threads once added up in another order at every run."""


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.NAMES)
def test_fresh_runs_are_the_same_bytes(name, tmp_path, monkeypatch):
    """On 600 patients: on smaller tensors no two threads meet."""
    cohort = load_cohort("synthetic")
    settings = HEAVY.get(name, {}) | ({"epochs": 1} if registry.get(name).is_network else {})
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = []
        for number in range(3 if name in RESTLESS else 2):
            monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path / f"cache-{number}"))
            monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / str(number)))
            run = train(name, cohort, settings=settings)
            files = [path for path in sorted(run.folder.iterdir()) if path.name not in TIMES]
            history = run.history.drop("seconds", strict=False).to_dicts()
            found.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files] + history)
    finally:
        torch.set_num_threads(threads)
    assert all(one == found[0] for one in found[1:])
    assert run.environment["threads"] == 2
