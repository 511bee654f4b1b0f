"""Interactions of patients and medications: who was given what at the visits that training sees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from medrec import keys
from medrec.data.cohort import Cohort
from medrec.types import MedrecError, Ragged


@dataclass(frozen=True)
class Interactions:
    """Medications of each patient, at the visits that training sees.

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
        patient, number = cohort.patient_of_visit, cohort.visit_number
        first_target = np.full(cohort.n_patients, np.iinfo(np.int64).max)
        np.minimum.at(first_target, patient[targets], number[targets])
        wrong = np.flatnonzero(seen & (number >= first_target[patient]))
        if len(wrong):
            raise MedrecError(
                f"Training would see visit {number[wrong[0]] + 1} of patient {patient[wrong[0]]}, which is a target or "
                "comes after one. Give earlier visits only."
            )
        return cls.from_rows(cohort.codes["medication"].take(np.flatnonzero(seen)), patient[seen], cohort)

    @classmethod
    def from_rows(cls, rows: Ragged, patient: NDArray[np.integer], cohort: Cohort) -> Interactions:
        """From lists of medications and whose they are, in order of time."""
        shape = (cohort.n_patients, cohort.n_medications)
        visits = np.zeros(shape, dtype=np.int32)
        np.add.at(visits, (patient[rows.row_of_value], rows.values), 1)
        last = np.zeros(shape, dtype=bool)
        row_of = np.full(cohort.n_patients, -1)
        row_of[patient] = np.arange(len(rows))
        known = np.flatnonzero(row_of >= 0)
        last[known] = rows.take(row_of[known]).multi_hot(cohort.n_medications)
        return cls(visits, last)

    @property
    def matrix(self) -> NDArray[np.bool_]:
        """``(U, M)``: whether a patient was ever given a medication."""
        return self.visits > 0

    @cached_property
    def content(self) -> str:
        """Hash of all of it."""
        return keys.digest(self.visits, self.last)

    def to(self, device: torch.device | str) -> Interactions:
        """The same: nothing here lives on a device."""
        return self
