r"""EASE: each medication from all others by one linear map, found in closed form.

Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019.

.. math::
    \min_B \lVert X - X B \rVert^2 + \lambda \lVert B \rVert^2 \ \text{ with } \operatorname{diag} B = 0
    \quad\Rightarrow\quad
    P = (X^\top X + \lambda I)^{-1}, \qquad B_{ij} = -\frac{P_{ij}}{P_{jj}} \ (i \ne j)

with ``X`` the rows of zeros and ones that training sees.  It has no hidden layer and no steps: what neural
auto-encoders of the same rows gain beside it is what depth is good for.  A medication's own past does not speak for it,
since the diagonal is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from medrec.arguments import Range
from medrec.context import Context, graph_of
from medrec.graphs.interactions import Interactions
from medrec.models.base import RankingEstimator, State, System


@dataclass(frozen=True)
class EASEConfig:
    """Settings of EASE."""

    # Strength of the penalty, lambda: ours, of nine from 1 to 5 000 on validation patients of synthetic-6350
    penalty: Annotated[float, Range(0, 1e6, above=True)] = 500.0


def item_weights(matrix: NDArray[np.bool_], penalty: float) -> NDArray[np.float64]:
    """B, ``(M, M)`` with zeros on the diagonal; entry i, j is what i says for j.

    Args:
        matrix: X, ``(U, M)``.
        penalty: lambda, above 0, so that the inverse exists.
    """
    rows = matrix.astype(np.float64)
    inverse = np.linalg.inv(rows.T @ rows + penalty * np.eye(rows.shape[1]))
    weights: NDArray[np.float64] = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


class EASE(RankingEstimator):
    """Scores of a patient are his row times B.

    Args:
        penalty: lambda.

    Attributes:
        weights_: B, ``(M, M)``.
    """

    def __init__(self, penalty: float = 500.0) -> None:
        self.penalty = penalty

    def fit(self, interactions: Interactions) -> EASE:
        self.weights_ = item_weights(interactions.matrix, self.penalty)
        return self

    def scores(self, patients: NDArray[np.integer], context: Context) -> NDArray[np.float64]:
        """``(U, M)``.

        Args:
            patients: ``(U,)`` who is asked about.
            context: its ``graph`` holds their earlier visits.
        """
        graph = graph_of(context)
        found: NDArray[np.float64] = (graph.visits[patients] > 0).astype(np.float64) @ self.weights_
        return found

    def state(self) -> State:
        return {"weights": self.weights_}

    def load_state(self, state: State) -> EASE:
        self.weights_ = state["weights"]
        return self


SYSTEM = System(
    name="ease",
    label="EASE",
    family="reference",
    cls=EASE,
    config=EASEConfig,
    task="ranking",
    needs=("graph",),
    sees="medications of earlier visits",
    citation="steck2019ease",
    small={"penalty": 100.0},
    searched={"penalty": (1.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 300.0, 1000.0, 2000.0, 5000.0)},
)
