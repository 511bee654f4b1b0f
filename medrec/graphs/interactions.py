"""Interactions of patients and medications: who was given what at the visits that training sees.

The ranking papers call them user-item interactions; a patient is a user, a medication an item.  What a ranker learns
from stands here and nowhere else, so that here the door to what it is asked about is shut: :meth:`Interactions.of`
raises on a visit at or after a target, :meth:`Interactions.hold_out` takes held-out medications away.  Knowledge graphs
(:mod:`medrec.graphs.knowledge`) go through the same door, :func:`refuse_targets`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from medrec import keys
from medrec.data.cohort import Cohort
from medrec.types import MedrecError


def refuse_targets(cohort: Cohort, seen: NDArray[np.bool_], targets: NDArray[np.bool_]) -> None:
    """Nothing, where training sees only visits before those that are asked about.

    Args:
        cohort: all patients.
        seen: ``(V,)`` bool, visits that training sees.
        targets: ``(V,)`` bool, visits that are asked about.

    Raises:
        MedrecError: a visit is seen that is a target, or comes after one of the same patient.
    """
    patient, number = cohort.patient_of_visit, cohort.visit_number
    first_target = np.full(cohort.n_patients, np.iinfo(np.int64).max)
    np.minimum.at(first_target, patient[targets], number[targets])
    wrong = np.flatnonzero(seen & (number >= first_target[patient]))
    if len(wrong):
        raise MedrecError(
            f"Training would see visit {number[wrong[0]] + 1} of patient {patient[wrong[0]]}, which is a target or "
            "comes after one. Give earlier visits only."
        )


@dataclass(frozen=True)
class Interactions:
    """Medications of each patient, at the visits that training sees; ``U`` patients, ``M`` medications.

    Args:
        visits: ``(U, M)`` int32, at how many of these visits each patient was given each medication.
        last: ``(U, M)`` bool, medications of the last of these visits; all False for a patient without any.
    """

    visits: NDArray[np.int32]
    last: NDArray[np.bool_]

    @classmethod
    def of(cls, cohort: Cohort, seen: NDArray[np.bool_], targets: NDArray[np.bool_]) -> Interactions:
        """From the visits that training sees.

        Args:
            cohort: all patients.
            seen: ``(V,)`` bool, visits that training sees.
            targets: ``(V,)`` bool, visits that are asked about.

        Raises:
            MedrecError: a visit is seen that is a target, or comes after one of the same patient.
        """
        refuse_targets(cohort, seen, targets)
        patient = cohort.patient_of_visit
        M = cohort.n_medications
        where = np.flatnonzero(seen)
        given, whose = cohort.codes["medication"].take(where), patient[where]
        cell = whose[given.row_of_value] * M + given.values
        visits = np.bincount(cell, minlength=cohort.n_patients * M).reshape(-1, M).astype(np.int32)
        # Visits stand in order of time, so the last row of a patient is the last visit.
        ends = np.flatnonzero(np.append(whose[1:] != whose[:-1], True)[: len(whose)])
        last = np.zeros((cohort.n_patients, M), dtype=bool)
        last[whose[ends]] = given.take(ends).multi_hot(M)
        return cls(visits, last)

    def hold_out(self, held: NDArray[np.bool_]) -> Interactions:
        """The same without some medications of some patients.

        Args:
            held: ``(U, M)`` bool, what nobody may see.
        """
        return Interactions(np.where(held, 0, self.visits).astype(np.int32), self.last & ~held)

    @property
    def n_patients(self) -> int:
        return int(self.visits.shape[0])

    @property
    def n_medications(self) -> int:
        return int(self.visits.shape[1])

    @property
    def matrix(self) -> NDArray[np.bool_]:
        """``(U, M)``: whether a patient was ever given a medication."""
        return self.visits > 0

    @property
    def popularity(self) -> NDArray[np.int64]:
        """``(M,)``: how many patients were ever given each medication."""
        patients: NDArray[np.int64] = self.matrix.sum(0, dtype=np.int64)
        return patients

    @cached_property
    def content(self) -> str:
        """Hash of all of it."""
        return keys.digest(self.visits, self.last)

    def to(self, device: torch.device | str) -> Interactions:
        """The same: nothing here lives on a device."""
        return self
