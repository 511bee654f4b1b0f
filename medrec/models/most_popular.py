"""Most popular: one order of medications for everybody, by how many patients were given each.

The reference row of every ranking table.  It knows nothing of the patient; with one cell in five of patients ×
medications filled it is hard to beat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrec.context import Context
from medrec.graphs.interactions import Interactions
from medrec.models.base import RankingEstimator, State, System


@dataclass(frozen=True)
class MostPopularConfig:
    """Nothing to set."""


class MostPopular(RankingEstimator):
    """Medications in the order of their number of patients.

    Counted are the patients who were given a medication at a visit that training sees; one who was given it at three
    visits counts once.  Medications of as many patients stand in the order of their ids.

    Attributes:
        patients_: ``(M,)`` number of patients of each medication.
    """

    def fit(self, interactions: Interactions) -> MostPopular:
        self.patients_ = interactions.popularity
        return self

    def scores(self, patients: NDArray[np.integer], context: Context) -> NDArray[np.float64]:
        """``(U, M)``, the same row for everybody."""
        return np.tile(self.patients_.astype(np.float64), (len(patients), 1))

    def state(self) -> State:
        return {"patients": self.patients_}

    def load_state(self, state: State) -> MostPopular:
        self.patients_ = state["patients"]
        return self


SYSTEM = System(
    name="most-popular",
    label="most popular",
    family="reference",
    cls=MostPopular,
    config=MostPopularConfig,
    task="ranking",
    sees="nothing of the patient",
)
