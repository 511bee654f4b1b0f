"""What a terminal shows of work that takes its time; nothing where nobody watches, as in files and pipes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


def bar(items: Iterable[Any] | None = None, *, desc: str, unit: str, leave: bool = False, **more: Any) -> Any:
    """A progress bar, to be iterated over or updated by hand.

    Args:
        items: to go through; ``None``: it is updated by hand, up to ``total``.
        desc: what is done.
        unit: what is counted.
        leave: whether it stays when it is done.
        more: as of tqdm.
    """
    # A process without a window has no standard error at all.
    hidden = None if sys.stderr is not None else True
    return tqdm(items, desc=desc, unit=unit, leave=leave, disable=hidden, **more)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say what is being done, as long as it lasts: for work that cannot be counted, and around bars of its parts."""
    with bar(desc=what, unit="", bar_format="{desc} ..."):
        yield
