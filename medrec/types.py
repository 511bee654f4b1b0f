"""Small types shared by every room: the error that users see, and ragged lists of codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class MedrecError(Exception):
    """A mistake in the input that the user can mend.

    The message is one or two sentences: what is wrong (file, column or value) and the remedy.
    The command line prints it without a traceback and exits with status 1.
    """


class Interrupted(KeyboardInterrupt):
    """Somebody pressed Ctrl-C, and whoever was at work says what is kept and how it goes on: one or two sentences."""


@dataclass(frozen=True)
class Ragged:
    """Lists of integer codes of different lengths, stored end to end.

    Row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Args:
        offsets: ``(n + 1,)`` int64, starts at 0, never decreases.
        values: ``(nnz,)`` int32.

    Raises:
        ValueError: offsets and values do not fit together.
    """

    offsets: NDArray[np.int64]
    values: NDArray[np.int32]

    def __post_init__(self) -> None:
        offsets = np.ascontiguousarray(self.offsets, dtype=np.int64)
        values = np.ascontiguousarray(self.values, dtype=np.int32)
        if offsets.ndim != 1 or len(offsets) == 0 or offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise ValueError("Ragged: offsets must be one-dimensional, start at 0 and never decrease.")
        if offsets[-1] != len(values):
            raise ValueError(f"Ragged: the last offset is {offsets[-1]}, but there are {len(values)} values.")
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "values", values)

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        """Build from a list of lists; for tests and toy examples."""
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        values = np.concatenate([np.empty(0, dtype=np.int32), *(np.asarray(row, dtype=np.int32) for row in rows)])
        return cls(np.concatenate([[0], np.cumsum(lengths)]), values)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> NDArray[np.int32]:
        if not -len(self) <= i < len(self):
            raise IndexError(f"Ragged: row {i} asked of {len(self)} rows.")
        i %= len(self)
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of codes in each row, ``(n,)``."""
        return np.diff(self.offsets)

    @property
    def row_of_value(self) -> NDArray[np.int64]:
        """Row to which each value belongs, ``(nnz,)``."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, rows: NDArray[np.integer]) -> Ragged:
        """The given rows, in the given order, without a Python loop."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Ragged(offsets, self.values[np.repeat(self.offsets[rows], lengths) + within])

    def multi_hot(self, size: int) -> NDArray[np.bool_]:
        """Dense indicator matrix ``(n, size)``."""
        dense = np.zeros((len(self), size), dtype=bool)
        dense[self.row_of_value, self.values] = True
        return dense
