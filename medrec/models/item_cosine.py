r"""Item cosine: a medication is as near to a patient as it is to what he was given.

Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001, on rows of zeros and ones.
With :math:`X` the rows that training sees and :math:`x_i` the column of a medication, its patients:

.. math::
    c_{ij} = \frac{x_i \cdot x_j}{\lVert x_i \rVert\, \lVert x_j \rVert}, \qquad
    \hat y_{ui} = \sum_{j:\, X_{uj} = 1} c_{ij}

It is what neighbours say where nothing is learnt and no graph is read but that of patients and medications.  A
medication is its own neighbour, :math:`c_{ii} = 1`, so that, other than in EASE, what was given before speaks for
itself; one that was given to nobody is near to nothing.

Deviation.  The paper keeps the nearest items of each one and divides by the sum of their cosines, for ratings; with
zeros and ones that quotient is 1 for everything, so that all neighbours count here, and are added up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrec.context import Context, graph_of
from medrec.graphs.interactions import Interactions
from medrec.models.base import RankingEstimator, State, System


@dataclass(frozen=True)
class ItemCosineConfig:
    """Nothing to set."""


def item_cosines(matrix: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Cosines of the medications' columns, ``(M, M)``; 0 where a medication was given to nobody.

    Args:
        matrix: X, ``(U, M)``.
    """
    rows = matrix.astype(np.float64)
    together = rows.T @ rows
    length = np.sqrt(np.diag(together))
    return np.divide(together, np.outer(length, length), out=np.zeros_like(together), where=together > 0)


class ItemCosine(RankingEstimator):
    """Scores of a patient are his row times the cosines.

    Attributes:
        cosines_: ``(M, M)``, symmetric.
    """

    def fit(self, interactions: Interactions) -> ItemCosine:
        self.cosines_ = item_cosines(interactions.matrix)
        return self

    def scores(self, patients: NDArray[np.integer], context: Context) -> NDArray[np.float64]:
        """``(U, M)``.

        Args:
            patients: ``(U,)`` who is asked about.
            context: its ``graph`` holds their earlier visits.
        """
        found: NDArray[np.float64] = graph_of(context).matrix[patients].astype(np.float64) @ self.cosines_
        return found

    def state(self) -> State:
        return {"cosines": self.cosines_}

    def load_state(self, state: State) -> ItemCosine:
        self.cosines_ = state["cosines"]
        return self


SYSTEM = System(
    name="item-cosine",
    label="item cosine",
    family="reference",
    cls=ItemCosine,
    config=ItemCosineConfig,
    task="ranking",
    needs=("graph",),
    sees="medications of earlier visits",
    citation="sarwar2001item",
)
