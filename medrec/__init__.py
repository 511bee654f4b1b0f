"""medrec: an executable, audited companion to the medication recommendation literature.

What a researcher needs is here, and is imported when first used:

>>> import medrec
>>> run = medrec.train("lr", medrec.load_cohort("synthetic"))  # doctest: +SKIP
>>> run.evaluation().summary()["jaccard"]  # doctest: +SKIP
"""

import os as _os
from importlib import import_module as _import
from typing import Any as _Any

# Two threads that spin while they wait make small tensor operations ten times slower; must precede torch.
_os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

# No module of the package may bear one of these names: importing it would silently replace what is meant here.
_HOMES = {
    "load_cohort": "medrec.data.load",
    "train": "medrec.training",
    "compare": "medrec.lab.compare",
    "recommend": "medrec.inference",
    "systems": "medrec.models.registry",
    "sweep": "medrec.lab.sweep",
    "Cohort": "medrec.data.cohort",
    "Run": "medrec.runs",
    "Comparison": "medrec.lab.compare",
    "MedrecError": "medrec.types",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> _Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medrec' has no attribute {name!r}; it offers {', '.join(_HOMES)}")
    return getattr(_import(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
