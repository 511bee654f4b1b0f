"""Popularity: one list for everybody.

It knows nothing of the patient; a system that does not beat it has learnt nothing from its inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrec.data.cohort import Cohort
from medrec.models.base import Estimator, State, System


@dataclass(frozen=True)
class PopularityConfig:
    """Nothing to set."""


class Popularity(Estimator):
    """One list for everybody: the k most frequent medications of the training visits.

    Source: the reference row of every recommender table; no paper of the book has it.
    k is the length with the highest Jaccard on the training visits, averaged over visits and then over patients;
    medications of equal frequency are taken in the order of their ids.

    Attributes:
        frequencies_: ``(M,)`` share of training visits that hold each medication.
        k_: length of the list.
    """

    tunable = False

    def fit(self, cohort: Cohort) -> Popularity:
        target = cohort.codes["medication"].multi_hot(cohort.n_medications)
        self.frequencies_ = target.mean(0)
        hits = target[:, self._order()].cumsum(1)
        union = np.arange(1, target.shape[1] + 1) + target.sum(1)[:, None] - hits
        visits = np.diff(cohort.visit_offsets)[cohort.patient_of_visit]
        self.k_ = int(np.argmax((hits / union / visits[:, None]).sum(0))) + 1
        return self

    def _order(self) -> NDArray[np.int64]:
        return np.argsort(-self.frequencies_, kind="stable")

    def predict_proba(self, cohort: Cohort) -> NDArray[np.float64]:
        return np.tile(self.frequencies_, (cohort.n_visits, 1))

    def predict(self, cohort: Cohort) -> NDArray[np.bool_]:
        chosen = np.zeros(len(self.frequencies_), dtype=bool)
        chosen[self._order()[: self.k_]] = True
        return np.tile(chosen, (cohort.n_visits, 1))

    def state(self) -> State:
        return {"frequencies": self.frequencies_, "k": np.array([self.k_])}

    def load_state(self, state: State) -> Popularity:
        self.frequencies_, self.k_ = state["frequencies"], int(state["k"][0])
        return self


SYSTEM = System(
    name="popularity",
    label="popularity",
    family="reference",
    cls=Popularity,
    config=PopularityConfig,
    sees="nothing of the patient",
    sees_today=lambda config: False,
)
