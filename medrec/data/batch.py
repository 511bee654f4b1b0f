"""Visits of several patients as padded tensors.

Built from ragged codes with vectorised NumPy; no Python loop over visits or patients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrec.data.cohort import Cohort, Kind

INPUT_KINDS: tuple[Kind, ...] = ("diagnosis", "procedure", "medication")


@dataclass(frozen=True)
class VisitBatch:
    """``B`` patients with up to ``T`` visits each.

    Args:
        codes: for each kind ``(B, T, C)`` int64 code ids; places without a code hold ``-1``.
        targets: ``(B, T, M)`` bool, medications prescribed at each visit; False at padded visits.
        visit_mask: ``(B, T)`` bool, True = real visit.
        patients: ``(B,)`` patient indices in the cohort.
    """

    codes: dict[Kind, Tensor]
    targets: Tensor
    visit_mask: Tensor
    patients: Tensor

    def to(self, device: str | torch.device) -> VisitBatch:
        return replace(
            self,
            codes={kind: codes.to(device) for kind, codes in self.codes.items()},
            targets=self.targets.to(device),
            visit_mask=self.visit_mask.to(device),
        )


def make_batch(cohort: Cohort, patients: NDArray[np.integer]) -> VisitBatch:
    """All visits of the given patients, in the given order."""
    part = cohort.select(patients)
    lengths = np.diff(part.visit_offsets)
    B, T = len(patients), int(lengths.max(initial=1))
    row, place = part.patient_of_visit, part.visit_number
    mask = np.zeros((B, T), dtype=bool)
    mask[row, place] = True
    codes: dict[Kind, Tensor] = {}
    for kind in INPUT_KINDS:
        rows = part.codes[kind]
        padded = np.full((B, T, int(rows.lengths.max(initial=1))), -1, dtype=np.int64)
        visit = rows.row_of_value
        within = np.arange(len(rows.values)) - rows.offsets[:-1][visit]
        padded[row[visit], place[visit], within] = rows.values
        codes[kind] = torch.from_numpy(padded)
    targets = np.zeros((B, T, cohort.n_medications), dtype=bool)
    targets[row, place] = part.codes["medication"].multi_hot(cohort.n_medications)
    return VisitBatch(codes, torch.from_numpy(targets), torch.from_numpy(mask), torch.as_tensor(np.asarray(patients)))


def batches(cohort: Cohort, patients: NDArray[np.integer], size: int, seed: int | None) -> Iterator[VisitBatch]:
    """Batches of ``size`` patients.

    Patients of similar record length stand together, so that little is padded; the seed shuffles patients of equal
    length and the order of batches. Without a seed the order is that of ``patients``.
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
        yield make_batch(cohort, group)
