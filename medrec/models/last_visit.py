"""Last visit: what was given before is given again.

It knows nothing of the visit's diagnoses; a system that does not beat it has learnt nothing from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrec.data.cohort import Cohort
from medrec.models.base import Estimator, State, System


@dataclass(frozen=True)
class LastVisitConfig:
    """Nothing to set."""


class LastVisit(Estimator):
    """Repeat the medications of the previous visit ("Nearest" in GAMENet's code).

    First visits are out of reach.  There are no probabilities, so no PRAUC and no threshold.
    """

    needs_history = True
    tunable = False

    def fit(self, cohort: Cohort) -> LastVisit:
        self.n_medications_ = cohort.n_medications
        return self

    def predict_proba(self, cohort: Cohort) -> None:
        return None

    def predict(self, cohort: Cohort) -> NDArray[np.bool_]:
        target = cohort.codes["medication"].multi_hot(cohort.n_medications)
        previous = np.zeros_like(target)
        later = np.flatnonzero(cohort.visit_number > 0)
        previous[later] = target[later - 1]
        return previous

    def state(self) -> State:
        return {"n_medications": np.array([self.n_medications_])}

    def load_state(self, state: State) -> LastVisit:
        self.n_medications_ = int(state["n_medications"][0])
        return self


SYSTEM = System(
    name="last-visit",
    label="last visit",
    family="reference",
    cls=LastVisit,
    config=LastVisitConfig,
    sees="medications of the previous visit; skips first visits",
    sees_today=lambda config: False,
)
