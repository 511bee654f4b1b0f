"""What the tests of every room share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Workers of one machine, and the chapters that they execute, share its cores; before torch counts them.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))

from medrec.data import opened
from medrec.paths import base_dir, data_dir


def demo_dir(name: str) -> Path:
    """Folder of an open demo database, or of ``knowledge``; skips the test where it is not at hand.

    Looked for under ``MEDREC_DATA_DIR`` (or its default), then in ``shared/data`` beside the checkout.
    """
    for root in (data_dir(), base_dir().parent / "shared" / "data"):
        if (root / name).is_dir():
            return root / name
    pytest.skip(f"{name} is not at hand; set MEDREC_DATA_DIR to the folder that holds it")


@pytest.fixture(autouse=True, scope="session")
def _own_stores(tmp_path_factory: pytest.TempPathFactory):
    """Cohorts and runs of the tests go to folders of their own, shared by the whole session."""
    patch = pytest.MonkeyPatch()
    for variable in ("MEDREC_CACHE_DIR", "MEDREC_RUNS_DIR"):
        patch.setenv(variable, str(tmp_path_factory.mktemp(variable.split("_")[1].lower())))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _nothing_opened():
    """No test begins in a process that has opened closed records."""
    opened.forget()
