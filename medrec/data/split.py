"""Who trains, who selects, who is scored: a split by patient, never by visit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrec.types import MedrecError


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of patient indices, each in ascending order.

    Args:
        train: two thirds of the patients.
        validation: one sixth, for early stopping and thresholds.
        test: one sixth, scored once.
        seed: of the shuffle; ``None`` for the file-order split of the published code.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    seed: int | None


def split_patients(n: int, seed: int | None) -> Split:
    """Two thirds, one sixth, one sixth of ``n`` patients.

    With ``seed=None`` patients stand in file order and the *test* part comes before the validation part: first 2/3
    train, next 1/6 test, last 1/6 validation, as in the released code of the GAMENet line.  With a seed, patients
    are shuffled first; the seed of a model's initialisation is another one, so that the two spreads can be told apart.

    Args:
        n: number of patients.
        seed: of the shuffle, or ``None``.

    Raises:
        MedrecError: fewer than six patients, so that a part would be empty.
    """
    if n < 6:
        raise MedrecError(
            f"A cohort of {n} patients cannot be split into training, validation and test patients; at least 6 are "
            "needed. Loosen the filters of the cohort or take a larger one."
        )
    order = np.arange(n) if seed is None else np.random.default_rng(seed).permutation(n)
    n_train = int(n * 2 / 3)
    n_second = (n - n_train) // 2
    train, second, third = np.split(order, [n_train, n_train + n_second])
    validation, test = (third, second) if seed is None else (second, third)
    return Split(np.sort(train), np.sort(validation), np.sort(test), seed)
