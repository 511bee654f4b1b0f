"""The split: parts, order, seeds."""

import numpy as np
import pytest

from medrec.data.split import split_patients
from medrec.types import MedrecError


@pytest.mark.parametrize("seed", [None, 0, 7])
@pytest.mark.parametrize("n", [6, 100, 6350])
def test_parts_are_disjoint_and_complete(n, seed):
    split = split_patients(n, seed)
    parts = [split.train, split.validation, split.test]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))
    assert len(split.train) == int(n * 2 / 3)
    assert abs(len(split.validation) - len(split.test)) <= 1
    assert all(len(part) and (np.diff(part) > 0).all() for part in parts)


def test_published_split_is_in_file_order_with_test_before_validation():
    split = split_patients(12, None)
    np.testing.assert_array_equal(split.train, np.arange(8))
    np.testing.assert_array_equal(split.test, [8, 9])
    np.testing.assert_array_equal(split.validation, [10, 11])


def test_seed_decides():
    np.testing.assert_array_equal(split_patients(100, 3).test, split_patients(100, 3).test)
    assert not np.array_equal(split_patients(100, 3).test, split_patients(100, 4).test)


def test_too_few_patients():
    with pytest.raises(MedrecError, match="5 patients"):
        split_patients(5, 0)
