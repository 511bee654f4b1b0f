r"""LightGCN: patients and medications are what their neighbours are, and all that is learnt is where they begin.

He et al., "LightGCN: simplifying and powering graph convolution network for recommendation", SIGIR 2020.  With
:math:`\mathcal N_u` the medications of a patient and :math:`\mathcal N_i` the patients of a medication:

.. math::
    e_u^{(l+1)} &= \sum_{i \in \mathcal N_u} \frac{e_i^{(l)}}{\sqrt{|\mathcal N_u|\, |\mathcal N_i|}}, \qquad
    e_i^{(l+1)} = \sum_{u \in \mathcal N_i} \frac{e_u^{(l)}}{\sqrt{|\mathcal N_i|\, |\mathcal N_u|}}
    && \text{(3)} \\
    e &= \frac{1}{L + 1} \sum_{l=0}^{L} e^{(l)}, \qquad \hat y_{ui} = e_u \cdot e_i && \text{(4, 5)}

It reads who was given what and no knowledge graph: what a system with such a graph gains beside it is what the graph is
good for.  Loss: BPR, and half the squares of the batch's first vectors :math:`e^{(0)}`, divided by its size, times
``penalty``.

``n_layers=0`` leaves the first vectors alone: :math:`\hat y_{ui} = e_u^{(0)} \cdot e_i^{(0)}` under BPR is the matrix
factorisation of Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009, without biases;
the row ``bpr-mf`` of the grid.

Deviations.  The paper trains 1 000 epochs and tells the best test result; here validation patients choose the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medrec.arguments import Range, Weight
from medrec.context import Context, graph_of
from medrec.graphs.interactions import Interactions
from medrec.graphs.sampling import Pairs, bpr_loss, pair_batches
from medrec.models.base import Ranker, Row, System, TrainingConfig

SPREAD = 0.1
"""Standard deviation of first vectors; released code."""


@dataclass(frozen=True)
class LightGCNConfig(TrainingConfig):
    """Settings of LightGCN."""

    size: int = 64  # paper, Sec. 4.1
    n_layers: Annotated[int, Range(0, 64)] = 3  # paper, Sec. 4.1; 0 is matrix factorisation
    penalty: Weight = 1e-4  # lambda, of squares of first vectors; paper, Sec. 4.1
    learning_rate: float = 2e-3  # ours; paper 1e-3
    batch_size: int = 8192  # pairs a step; ours; released code 2048
    epochs: int = 100  # at most; ours; released code 1000
    patience: int = 10  # ours


# -- equations ---------------------------------------------------------------------------------------------------------


def scaled(given: Tensor) -> Tensor:
    r"""The matrix of eq. 3, :math:`A_{ui} / \sqrt{|\mathcal N_u|\, |\mathcal N_i|}`; 0 for who has no neighbours.

    Source: LightGCN, eq. 3.

    Args:
        given: ``(U, M)`` zeros and ones.

    Returns:
        ``(U, M)``.
    """
    of_patient, of_item = given.sum(1, keepdim=True).clamp(min=1), given.sum(0, keepdim=True).clamp(min=1)
    return given / (of_patient * of_item).sqrt()


def propagated(patients: Tensor, items: Tensor, matrix: Tensor, n_layers: int) -> tuple[Tensor, Tensor]:
    """Mean of what patients and items are after each of ``n_layers`` layers, the first vectors among them.

    Source: LightGCN, eq. 3 and 4 with equal weights.

    Args:
        patients: ``(U, d)``.
        items: ``(M, d)``.
        matrix: ``(U, M)``, see :func:`scaled`.
        n_layers: L.

    Returns:
        ``(U, d)`` and ``(M, d)``.
    """
    all_patients, all_items = patients, items
    for _ in range(n_layers):
        patients, items = matrix @ items, matrix.T @ patients
        all_patients, all_items = all_patients + patients, all_items + items
    return all_patients / (n_layers + 1), all_items / (n_layers + 1)


# -- batches -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """Pairs, with the matrix, which is the same at each step.

    Args:
        pairs: of the batch.
        matrix: ``(U, M)``, see :func:`scaled`; on the network's device.
    """

    pairs: Pairs
    matrix: Tensor

    def to(self, device: torch.device | str) -> Step:
        """The same on another device; the matrix is there already."""
        return Step(self.pairs.to(device), self.matrix)


# -- the network -------------------------------------------------------------------------------------------------------


class LightGCN(Ranker):
    r"""First vectors of patients and medications, averaged over layers of the graph between them.

    .. math:: \hat y_{ui} = \Big(\sum_l e_u^{(l)}\Big) \cdot \Big(\sum_l e_i^{(l)}\Big) \Big/ (L + 1)^2

    Patients ``(U, d)``, medications ``(M, d)``; no other parameters.

    Args:
        config: its settings.
        context: interactions.
    """

    config: LightGCNConfig

    def __init__(self, config: LightGCNConfig, context: Context) -> None:
        super().__init__(config, context)
        graph = graph_of(context)
        self.patients = nn.Parameter(torch.empty(graph.n_patients, config.size))
        self.items = nn.Parameter(torch.empty(graph.n_medications, config.size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal, as in the released code."""
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=SPREAD)

    def matrix(self, interactions: Interactions) -> Tensor:
        """``(U, M)``, see :func:`scaled`."""
        return scaled(torch.from_numpy(interactions.matrix).to(self.patients))

    def batches(self, data: Interactions, rows: NDArray[np.integer], order: Sequence[int]) -> Iterator[Step]:
        """Batches of ``config.batch_size`` pairs."""
        matrix = self.matrix(data)
        for pairs in pair_batches(data, rows, self.config.batch_size, order):
            yield Step(pairs, matrix)

    def forward(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Patients ``(U, d)`` and medications ``(M, d)`` after all layers.

        Args:
            matrix: ``(U, M)``, see :func:`scaled`.
        """
        return propagated(self.patients, self.items, matrix, self.config.n_layers)

    def scores(self, patients: NDArray[np.integer], context: Context) -> Tensor:
        """Inner products with all medications, ``(U, M)``."""
        everybody, items = self(self.matrix(graph_of(context)))
        return everybody[torch.from_numpy(patients.astype(np.int64)).to(items.device)] @ items.T

    def loss(self, batch: Step, context: Context) -> Tensor:
        """BPR of pairs, mean, with the squares of the batch's first vectors."""
        pairs = batch.pairs
        patients, items = self(batch.matrix)
        rows = (pairs.patient, pairs.given, pairs.other)
        patient, given, other = (
            nn.functional.embedding(row, table) for row, table in zip(rows, (patients, items, items), strict=True)
        )
        error = bpr_loss((patient * given).sum(1), (patient * other).sum(1)).mean()
        first = [
            nn.functional.embedding(row, table)
            for row, table in zip(rows, (self.patients, self.items, self.items), strict=True)
        ]
        squares = torch.stack([x.square().sum() for x in first]).sum()
        return error + self.config.penalty * squares / 2 / len(pairs)


SYSTEM = System(
    name="lightgcn",
    label="LightGCN",
    family="reference",
    cls=LightGCN,
    config=LightGCNConfig,
    task="ranking",
    small={"batch_size": 1024},
    sees="medications of earlier visits",
    needs=("graph",),
    citation="he2020lightgcn",
    seconds_per_epoch=3,
    rows=(
        Row("lightgcn", "LightGCN", "lightgcn"),
        Row("bpr-mf", "BPR-MF", "lightgcn", settings={"n_layers": 0}),
    ),
)
