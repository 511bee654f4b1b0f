"""Where things lie on disk; the only module that knows.

Three places, each movable by an environment variable:

======================  ===================================================  =================
variable                holds                                                default
======================  ===================================================  =================
``MEDREC_DATA_DIR``     raw tables, one folder a database, and knowledge/    ``<base>/data``
``MEDREC_RUNS_DIR``     the run store                                        ``<base>/runs``
``MEDREC_CACHE_DIR``    cohorts, features: all of it can be made again       ``<base>/.cache``
======================  ===================================================  =================

``<base>`` is the checkout when the package is used from one, otherwise the working directory.
"""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def base_dir() -> Path:
    """The checkout that holds the package, or the working directory when it is installed elsewhere."""
    return PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").exists() else Path.cwd()


def _located(variable: str, default: str) -> Path:
    value = os.environ.get(variable)
    return Path(value).expanduser().resolve() if value else base_dir() / default


def data_dir() -> Path:
    """Folder of raw tables (``mimic3/``, ``mimic4-demo/``, ...) and external maps (``knowledge/``)."""
    return _located("MEDREC_DATA_DIR", "data")


def runs_dir() -> Path:
    """Root of the run store."""
    return _located("MEDREC_RUNS_DIR", "runs")


def cache_dir() -> Path:
    """Root of everything that can be made again."""
    return _located("MEDREC_CACHE_DIR", ".cache")
