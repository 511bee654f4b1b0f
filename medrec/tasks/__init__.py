"""What is examined: ``visits``, a set of medications for each visit; ``ranking``, an order of them for each patient.

Each task is a module with ``HOUSE``, the protocol of the house; ``PROTOCOLS`` by name; ``house(sees)``, that by which a
run is judged; ``MEASURES``; ``Answers``, what a system said, as stored in a run; ``Exam(cohort, split_seed,
protocol)``, what training needs; ``evaluation(answers, ddi, own, protocol)``, what answers are worth.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from medrec.arguments import near
from medrec.types import MedrecError

NAMES = ("visits", "ranking")


def get(name: str) -> ModuleType:
    """A task by name."""
    return import_module(f"medrec.tasks.{name}")


def protocol(task: str, name: Any = None) -> Any:
    """A protocol of a task.

    Args:
        task: its name.
        name: of the protocol; case does not matter. A protocol is given back, ``None`` means the house's.

    Raises:
        MedrecError: the task has no such protocol.
    """
    room = get(task)
    if not isinstance(name, str):
        return room.HOUSE if name is None else name
    found = {known.lower(): rules for known, rules in room.PROTOCOLS.items()}
    if name.lower() not in found:
        raise MedrecError(
            f"The task {task!r} has no protocol {name!r}.{near(name, room.PROTOCOLS)} "
            f"It has {', '.join(room.PROTOCOLS)}."
        )
    return found[name.lower()]
