"""Repeat: what a patient was given before comes first.

Treatment of chronic disease goes on from visit to visit; a ranker that does not beat this row has learnt nothing that
the patient's own list does not say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrec.context import Context, graph_of
from medrec.graphs.interactions import Interactions
from medrec.models.base import RankingEstimator, State, System


@dataclass(frozen=True)
class RepeatConfig:
    """Nothing to set."""


class Repeat(RankingEstimator):
    """Medications in the order of four keys, each one deciding where those before it are equal.

    1. number of the patient's visits at which it was given, largest first;
    2. whether it was given at the last of them;
    3. number of patients who were ever given it, largest first (the score of *most popular*);
    4. its id.

    All visits are those that training sees, so the visit that is asked about is none of them.  A medication that the
    patient was never given therefore comes after all that he was given, and those are ordered by popularity.  The score
    is ``M`` minus the place in this order, so that no two medications of a patient are equal.

    Attributes:
        patients_: ``(M,)`` number of patients of each medication.
    """

    def fit(self, interactions: Interactions) -> Repeat:
        self.patients_ = interactions.popularity
        return self

    def scores(self, patients: NDArray[np.integer], context: Context) -> NDArray[np.float64]:
        """``(U, M)``, whole numbers from 1 to ``M``.

        Args:
            patients: ``(U,)`` who is asked about.
            context: its ``graph`` holds their earlier visits.
        """
        graph = graph_of(context)
        visits, last = graph.visits[patients], graph.last[patients]
        # The last key counts most; lexsort is stable, so that equals stay in the order of ids.
        order = np.lexsort((np.broadcast_to(-self.patients_, visits.shape), ~last, -visits), axis=1)
        return (graph.n_medications - order.argsort(1)).astype(np.float64)

    def state(self) -> State:
        return {"patients": self.patients_}

    def load_state(self, state: State) -> Repeat:
        self.patients_ = state["patients"]
        return self


SYSTEM = System(
    name="repeat",
    label="repeat",
    family="reference",
    cls=Repeat,
    config=RepeatConfig,
    task="ranking",
    needs=("graph",),
    sees="medications of earlier visits",
)
