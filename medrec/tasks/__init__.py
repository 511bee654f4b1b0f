"""What is examined: ``visits``, a set of medications for each visit; ``ranking``, an order of them for each patient.

Each task is a module with ``HOUSE``, the protocol of the house; ``PROTOCOLS`` by name; ``house(sees)``, that by which a
run is judged; ``MEASURES``; ``Answers``, what a system said, as stored in a run; ``Exam(cohort, split_seed,
protocol)``, what training needs; ``evaluation(answers, ddi, own, protocol)``, what answers are worth.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

NAMES = ("visits", "ranking")


def get(name: str) -> ModuleType:
    """A task by name."""
    return import_module(f"medrec.tasks.{name}")
