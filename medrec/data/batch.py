"""Visits of several patients as padded tensors.

Built from ragged codes with vectorised NumPy; no Python loop over visits or patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrec.data.cohort import KINDS, Cohort, Kind


@dataclass(frozen=True)
class VisitBatch:
    """``B`` patients with up to ``T`` visits each.

    Args:
        codes: for each kind ``(B, T, C)`` int64 code ids in the order of the cohort; places without a code hold the
            size of the vocabulary, one id past the last, so that an embedding table needs one padding row.
        sizes: vocabulary size of each kind.
        target: ``(B, T, M)`` bool, medications prescribed at each visit; False at padded visits.
        visit_mask: ``(B, T)`` bool, True = real visit.
        visits: ``(B, T)`` int64 index of the visit in the cohort, -1 = padding.
        days_since_previous: ``(B, T)`` days, NaN at first and padded visits.
        patients: ``(B,)`` patient indices in the cohort.
    """

    codes: dict[Kind, Tensor]
    sizes: dict[Kind, int]
    target: Tensor
    visit_mask: Tensor
    visits: Tensor
    days_since_previous: Tensor
    patients: Tensor

    @classmethod
    def build(cls, cohort: Cohort, patients: NDArray[np.integer]) -> VisitBatch:
        """All visits of the given patients, in the given order."""
        patients = np.asarray(patients, dtype=np.int64)
        part = cohort.select(patients)
        B, T = len(patients), int(np.diff(part.visit_offsets).max(initial=1))
        row, place = part.patient_of_visit, part.visit_number
        visits = np.full((B, T), -1, dtype=np.int64)
        visits[row, place] = cohort.visit_offsets[patients][row] + place
        days = np.full((B, T), np.nan, dtype=np.float32)
        days[row, place] = part.days_since_previous
        codes: dict[Kind, Tensor] = {}
        for kind in KINDS:
            rows = part.codes[kind]
            padded = np.full((B, T, int(rows.lengths.max(initial=0))), len(part.vocab[kind]), dtype=np.int64)
            visit = rows.row_of_value
            within = np.arange(len(rows.values)) - rows.offsets[:-1][visit]
            padded[row[visit], place[visit], within] = rows.values
            codes[kind] = torch.from_numpy(padded)
        target = np.zeros((B, T, cohort.n_medications), dtype=bool)
        target[row, place] = part.codes["medication"].multi_hot(cohort.n_medications)
        return cls(
            codes=codes,
            sizes={kind: len(part.vocab[kind]) for kind in KINDS},
            target=torch.from_numpy(target),
            visit_mask=torch.from_numpy(visits >= 0),
            visits=torch.from_numpy(visits),
            days_since_previous=torch.from_numpy(days),
            patients=torch.from_numpy(patients),
        )

    def multi_hot(self, kind: Kind) -> Tensor:
        """Codes of one kind as indicators, ``(B, T, V)`` bool; padded visits are all False."""
        ids = self.codes[kind]
        B, T, _ = ids.shape
        dense = torch.zeros(B, T, self.sizes[kind] + 1, dtype=torch.bool, device=ids.device)
        return dense.scatter_(2, ids, True)[..., :-1]

    def to(self, device: str | torch.device) -> VisitBatch:
        """The same batch on another device."""
        return replace(
            self,
            codes={kind: ids.to(device) for kind, ids in self.codes.items()},
            target=self.target.to(device),
            visit_mask=self.visit_mask.to(device),
            visits=self.visits.to(device),
            days_since_previous=self.days_since_previous.to(device),
            patients=self.patients.to(device),
        )


def batches(
    cohort: Cohort, patients: NDArray[np.integer], size: int, seed: int | Sequence[int] | None
) -> Iterator[VisitBatch]:
    """Batches of ``size`` patients.

    With a seed (a number, or several such as run seed and epoch) patients are shuffled and those with records of
    similar length stand together, so that little is padded; the order of the batches is shuffled too. Without a seed
    the order is that of ``patients``.
    """
    patients = np.asarray(patients)
    if seed is None:
        groups = [patients[i : i + size] for i in range(0, len(patients), size)]
    else:
        rng = np.random.default_rng(seed)
        shuffled = rng.permutation(patients)
        shuffled = shuffled[np.argsort(np.diff(cohort.visit_offsets)[shuffled], kind="stable")]
        groups = [shuffled[i : i + size] for i in range(0, len(shuffled), size)]
        groups = [groups[i] for i in rng.permutation(len(groups))]
    for group in groups:
        yield VisitBatch.build(cohort, group)
