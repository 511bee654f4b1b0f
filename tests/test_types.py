"""Ragged lists of codes."""

import numpy as np
import pytest

from medrec.types import Ragged

ROWS = [[3, 1], [], [0], [2, 2, 5]]


def test_rows_come_back_as_they_went_in():
    ragged = Ragged.from_lists(ROWS)
    assert [list(ragged[i]) for i in range(len(ragged))] == ROWS
    assert list(ragged[-1]) == [2, 2, 5]
    assert ragged.offsets.dtype == np.int64
    assert ragged.values.dtype == np.int32
    with pytest.raises(IndexError):
        ragged[4]


def test_lengths_and_owners_of_values():
    ragged = Ragged.from_lists(ROWS)
    assert list(ragged.lengths) == [2, 0, 1, 3]
    assert list(ragged.row_of_value) == [0, 0, 2, 3, 3, 3]


def test_take_reorders_repeats_and_drops():
    taken = Ragged.from_lists(ROWS).take(np.array([3, 1, 0, 0]))
    assert [list(taken[i]) for i in range(4)] == [[2, 2, 5], [], [3, 1], [3, 1]]
    assert len(Ragged.from_lists(ROWS).take(np.array([], dtype=int))) == 0


def test_multi_hot_marks_each_code_once():
    dense = Ragged.from_lists(ROWS).multi_hot(6)
    assert dense.shape == (4, 6)
    assert [list(np.flatnonzero(row)) for row in dense] == [[1, 3], [], [0], [2, 5]]


@pytest.mark.parametrize("offsets", [[1, 2], [0, 2, 1], [0, 1], [], [[0], [3]]])
def test_offsets_that_do_not_fit_are_refused(offsets):
    with pytest.raises(ValueError, match="Ragged"):
        Ragged(np.array(offsets), np.array([7, 8, 9]))
