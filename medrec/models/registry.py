"""Which systems there are: names, and the modules that declare them, imported when asked for."""

from __future__ import annotations

from importlib import import_module

from medrec.arguments import checked_word, near, one_line, shown
from medrec.models.base import System
from medrec.types import MedrecError

NAMES = (
    "popularity",
    "last-visit",
    "lr",
    "ecc",
    "retain",
    "leap",
    "micron",
    "gamenet",
    "cognet",
    "safedrug",
    "molerec",
    "causalmed",
    "drugrec",
    "nla-mmr",
    "bimorec",
    "most-popular",
    "repeat",
    "ease",
    "item-cosine",
    "lightgcn",
    "past-lr",
    "kgcn",
    "kgat",
    "kgin",
    "multivae",
    "cdae",
    "diffrec",
    "diffkg",
)
"""Systems in the order of the book; each is declared by ``medrec/models/<name>.py``."""


def get(name: str) -> System:
    """A system by name; case, spaces and underscores do not matter.

    Args:
        name: one of :data:`NAMES`, or ``package.module:SYSTEM`` for a system from elsewhere.

    Raises:
        MedrecError: there is no such system.
    """
    if ":" in checked_word("A system", name, "retain"):
        return _from_elsewhere(name)
    key = name.lower().replace("_", "-").replace(" ", "-")
    if key not in NAMES:
        raise MedrecError(
            f"There is no system {name!r}.{near(key, NAMES)} Systems: {', '.join(NAMES)}; "
            "one of your own is named package.module:SYSTEM."
        )
    declared: System = import_module(f"medrec.models.{key.replace('-', '_')}").SYSTEM
    return declared


def systems(task: str | None = None) -> list[System]:
    """All systems of the book, or those of a task, in the order of the book.

    Raises:
        MedrecError: there is no such task.
    """
    tasks = ("visits", "ranking")
    if task is not None and not (isinstance(task, str) and task in tasks):
        raise MedrecError(f"There is no task {shown(task)}. There are {', '.join(tasks)}.")
    return [system for system in map(get, NAMES) if task in (None, system.task)]


_outside: dict[str, System] = {}


def from_elsewhere() -> tuple[System, ...]:
    """Systems from outside the package that this process has asked for, in that order."""
    return tuple(_outside.values())


def name_of(system: System) -> str:
    """How :func:`get` finds a system again: its name, or where it is declared."""
    if system.name in NAMES and get(system.name) is system:
        return system.name
    return f"{system.module}:SYSTEM"


def _from_elsewhere(name: str) -> System:
    module, _, attribute = name.partition(":")
    attribute = attribute or "SYSTEM"
    try:
        home = import_module(module)
    except (ImportError, ValueError, TypeError) as error:  # the latter two for no name, and for one with a dot in front
        raise MedrecError(
            f"The system {name!r} cannot be imported: {one_line(error)}. "
            "Install its package, or put its folder on PYTHONPATH."
        ) from None
    except Exception as error:  # of the module's own code
        kind = type(error).__name__
        raise MedrecError(f"The system {name!r} cannot be imported: {kind}: {one_line(error)}") from error
    found = getattr(home, attribute, None)
    if found is None:
        raise MedrecError(f"{module} declares no {attribute!r}. It needs `{attribute} = System(...)`.")
    if not isinstance(found, System):
        raise MedrecError(f"{name} is a {type(found).__name__}, not a medrec.models.base.System.")
    _outside[name] = found
    return found
