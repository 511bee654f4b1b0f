"""The split: parts, order, seeds."""

import numpy as np
import pytest

from medrec.data.split import split_patients
from medrec.types import MedrecError


@pytest.mark.parametrize("seed", [None, 0, 7])
@pytest.mark.parametrize(
    ("n", "n_train", "n_others"), [(6, 4, {1}), (8, 5, {1, 2}), (100, 66, {17}), (6350, 4233, {1058, 1059})]
)
def test_parts_are_disjoint_complete_and_in_order(n, n_train, n_others, seed):
    split = split_patients(n, seed)
    parts = [split.train, split.validation, split.test]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))
    assert len(split.train) == n_train
    assert {len(split.validation), len(split.test)} == n_others
    assert all((np.diff(part) > 0).all() for part in parts)
    assert split.seed == seed


def test_published_split_is_in_file_order_with_test_before_validation():
    split = split_patients(12, None)
    np.testing.assert_array_equal(split.train, np.arange(8))
    np.testing.assert_array_equal(split.test, [8, 9])
    np.testing.assert_array_equal(split.validation, [10, 11])


def test_the_split_of_a_seed_is_written_down():
    """Runs that were kept rest on it: another split under the same seed would make them something else in silence."""
    split = split_patients(12, 0)
    assert (split.train.tolist(), split.validation.tolist(), split.test.tolist()) == (
        [0, 2, 3, 4, 5, 7, 9, 11],
        [6, 10],
        [1, 8],
    )


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_each_part_follows_the_seed(part):
    found = {seed: getattr(split_patients(100, seed), part).tolist() for seed in (3, 4, None)}
    assert found[3] == getattr(split_patients(100, 3), part).tolist()
    assert found[3] != found[4]
    assert found[None] not in (found[3], found[4])


def test_no_patient_has_a_part_of_his_own():
    """Over many seeds each patient is tested, validated and trained on as often as anybody else."""
    times = {part: np.zeros(30) for part in ("train", "validation", "test")}
    for seed in range(600):
        split = split_patients(30, seed)
        for part, count in times.items():
            count[getattr(split, part)] += 1
    for part, share in (("train", 2 / 3), ("validation", 1 / 6), ("test", 1 / 6)):
        # Six standard errors: nobody of thirty lies outside by chance.
        assert abs(times[part] / 600 - share).max() < 6 * np.sqrt(share * (1 - share) / 600), part


def test_too_few_patients():
    with pytest.raises(MedrecError, match="5 patients"):
        split_patients(5, 0)
