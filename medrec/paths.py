"""Where things lie on disk; the only module that knows.

Three places, each movable by an environment variable:

======================  ===================================================  =================
variable                holds                                                default
======================  ===================================================  =================
``MEDREC_DATA_DIR``     raw tables, one folder a database, and knowledge/    ``<base>/data``
``MEDREC_RUNS_DIR``     the run store                                        ``<base>/runs``
``MEDREC_CACHE_DIR``    cohorts, features: all of it can be made again       ``<base>/.cache``
======================  ===================================================  =================

``<base>`` is the checkout when the package is used from one, otherwise the working directory.  Kept results lie in
``<base>/results``; those of credentialed records never do, but below the run store.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

OPENED = "medrec.opened"
"""Audit event of records that are opened: in words, their path, and their source or None."""
GUARD = "MEDREC_GUARD"
"""Environment variable of a kernel that is executed under the guard: folder through which the two talk."""
NOTICES = "notices"
"""File in it: lines for the user's terminal, which are no part of a page."""
PACKAGE = Path(__file__).resolve().parent
_asked: set[str] = set()
_read: set[Path] = set()


def base_dir() -> Path:
    """The checkout that holds the package, or the working directory when it is installed elsewhere."""
    return PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").exists() else Path.cwd()


def _located(variable: str, default: str) -> Path:
    value = os.environ.get(variable)
    return Path(value).expanduser().resolve() if value else base_dir() / default


def data_dir(*, remember: bool = True) -> Path:
    """Folder of raw tables (``mimic3/``, ``mimic4-demo/``, ...) and external maps (``knowledge/``).

    Args:
        remember: that the process has asked, see :func:`data_asked`.
    """
    if remember:
        _asked.add("data")
    return _located("MEDREC_DATA_DIR", "data")


def runs_dir() -> Path:
    """Root of the run store."""
    return _located("MEDREC_RUNS_DIR", "runs")


def cache_dir() -> Path:
    """Root of everything that can be made again."""
    return _located("MEDREC_CACHE_DIR", ".cache")


def results_dir() -> Path:
    """Root of the kept results of the project, which are part of its history."""
    return base_dir() / "results"


# -- what a process has looked at: a chapter tells it after its last cell ---------------------------------------------


def data_asked() -> bool:
    """Whether this process has asked where tables lie, so that it matters to it which databases are at hand."""
    return "data" in _asked


def record_read(path: Path) -> Path:
    """Remember that a kept result was read, so that a chapter knows what its page rests on.

    Args:
        path: a file; it need not exist, since one that is missing and appears later is a change too.

    Returns:
        The same path: ``pl.read_csv(record_read(path))``.
    """
    _read.add(path.absolute())
    return path


def announce_opened(what: str, path: Path, source: str | None = None) -> None:
    """Say that records are about to be opened; :mod:`medrec.data.opened` hears it and knows what is closed.

    Args:
        what: in words that name no patient, e.g. ``"the cohort mimic3"``.
        path: of the file or folder.
        source: of the records; ``None`` where it is to be found out from the file.
    """
    sys.audit(OPENED, what, str(path), source)


def files_read() -> frozenset[Path]:
    """Kept results that this process has read so far."""
    return frozenset(_read)
