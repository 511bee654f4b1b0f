"""A ranker from outside the package: matrix factorisation with pairs of a given and another medication (BPR)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrec.context import Context
from medrec.graphs.interactions import Interactions
from medrec.models.base import Ranker, System, TrainingConfig
from medrec.nn.dropout import Dropout


@dataclass(frozen=True)
class ToyRankerConfig(TrainingConfig):
    learning_rate: float = 0.05
    epochs: int = 4
    batch_size: int = 64  # pairs of a patient and a medication
    size: int = 8
    dropout: float = 0.2


@dataclass(frozen=True)
class Pairs:
    """Patients, a medication that each was given, and one drawn at random."""

    patient: Tensor
    given: Tensor
    other: Tensor

    def to(self, device) -> Pairs:
        return Pairs(self.patient.to(device), self.given.to(device), self.other.to(device))


class ToyRanker(Ranker):
    """Score = share of patients with the medication + product of two embeddings."""

    def __init__(self, config: ToyRankerConfig, context: Context) -> None:
        super().__init__(config, context)
        graph = context.graph
        self.patients = nn.Embedding(graph.n_patients, config.size)
        self.medications = nn.Embedding(graph.n_medications, config.size)
        self.dropout = Dropout(config.dropout)
        self.register_buffer("share", torch.zeros(graph.n_medications))

    def prepare(self, data: Interactions, train: NDArray[np.integer], context: Context) -> None:
        self.share += torch.from_numpy(data.matrix[train].mean(0)).float()

    def batches(self, data: Interactions, rows: NDArray[np.integer], order: Sequence[int]) -> Iterator[Pairs]:
        rng = np.random.default_rng(order)
        patient, given = np.nonzero(data.matrix[rows])
        shuffled = rng.permutation(len(patient))
        other = rng.integers(0, data.n_medications, len(patient))
        for part in np.array_split(shuffled, max(1, len(shuffled) // self.config.batch_size)):
            yield Pairs(*(torch.from_numpy(x) for x in (rows[patient[part]], given[part], other[part])))

    def _scores(self, patient: Tensor) -> Tensor:
        return self.share + self.dropout(self.patients(patient)) @ self.medications.weight.T

    def loss(self, batch: Pairs, context: Context) -> Tensor:
        scores = self._scores(batch.patient)
        pick = scores.gather(1, torch.stack([batch.given, batch.other], 1))
        return nn.functional.softplus(pick[:, 1] - pick[:, 0]).mean()

    def scores(self, patients: NDArray[np.integer], context: Context) -> Tensor:
        return self._scores(torch.as_tensor(patients, device=self.share.device))


SYSTEM = System(
    name="toy-ranker",
    label="ToyRanker",
    family="graph",
    cls=ToyRanker,
    config=ToyRankerConfig,
    task="ranking",
    needs=("graph",),
    sees="medications of earlier visits",
)
