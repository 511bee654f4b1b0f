"""Rows of the interaction matrix in batches: what auto-encoders of patients are trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrec.graphs.interactions import Interactions


@dataclass(frozen=True)
class PatientRows:
    """Some patients, and all that each was ever given at the visits that training sees.

    Args:
        patients: ``(B,)`` int64, their places in the cohort.
        given: ``(B, M)`` float, 1 for what the patient was given, else 0.
        step: optimiser steps of the training before this one.
        n_steps: optimiser steps of one epoch.
    """

    patients: Tensor
    given: Tensor
    step: int
    n_steps: int

    def to(self, device: torch.device | str) -> PatientRows:
        """The same on another device."""
        return PatientRows(self.patients.to(device), self.given.to(device), self.step, self.n_steps)


def given_to(interactions: Interactions, patients: NDArray[np.integer]) -> Tensor:
    """Rows of the interaction matrix, ``(U, M)`` float."""
    return torch.from_numpy((interactions.visits[patients] > 0).astype(np.float32))


def row_batches(
    interactions: Interactions, patients: NDArray[np.integer], size: int, order: Sequence[int]
) -> Iterator[PatientRows]:
    """Batches of ``size`` patients in shuffled order; the last one may be smaller.

    Args:
        interactions: who was given what.
        patients: who is trained on.
        size: of a batch.
        order: seeds of the shuffle, the number of the epoch last, from which the number of a step follows.
    """
    shuffled = np.random.default_rng(order).permutation(patients).astype(np.int64)
    starts = range(0, len(shuffled), size)
    for number, start in enumerate(starts):
        part = shuffled[start : start + size]
        before = order[-1] * len(starts) + number
        yield PatientRows(torch.from_numpy(part), given_to(interactions, part), before, len(starts))
