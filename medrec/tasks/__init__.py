"""What is examined: ``visits``, a set of medications for each visit; ``ranking``, an order of them for each patient.

Each task is a module with ``HOUSE``, the protocol of the house; ``PROTOCOLS`` by name; ``house(sees)``, that by which a
run is judged; ``MEASURES``; ``SELECTION``, by which of them epochs and settings are chosen; ``Answers``, what a system
said, as stored in a run; ``Exam(cohort, split_seed, protocol)``, what training needs; ``evaluation(answers, ddi, own,
protocol)``, what answers are worth.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from medrec.arguments import checked_word, near, shown
from medrec.types import MedrecError

NAMES = ("visits", "ranking")


def get(name: str) -> ModuleType:
    """A task by name.

    Raises:
        MedrecError: there is none.
    """
    if not isinstance(name, str) or name not in NAMES:
        hint = near(name, NAMES) if isinstance(name, str) else ""
        raise MedrecError(f"There is no task {shown(name)}.{hint} There are {', '.join(NAMES)}.")
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
    if name is None:
        return room.HOUSE
    if isinstance(name, room.Protocol):
        return name
    checked_word(f"A protocol of the task {task!r}", name, "house")
    found = {known.lower(): rules for known, rules in room.PROTOCOLS.items()}
    if name.lower() not in found:
        raise MedrecError(
            f"The task {task!r} has no protocol {name!r}.{near(name, room.PROTOCOLS)} "
            f"It has {', '.join(room.PROTOCOLS)}."
        )
    return found[name.lower()]
