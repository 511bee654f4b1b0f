"""A system from outside the package whose code fails, as its setting says."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medrec.data.cohort import Cohort
from medrec.models.base import Estimator, State, System
from medrec.types import MedrecError


@dataclass(frozen=True)
class BrokenConfig:
    how: Literal["raises", "dies", "refuses"] = "raises"


class Broken(Estimator):
    """It is fitted to nothing."""

    def __init__(self, how: str = "raises") -> None:
        self.how = how

    def fit(self, cohort: Cohort) -> Broken:
        if self.how == "dies":  # as a process ends that the system wants out of memory
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "refuses":
            raise MedrecError("These records are not for me. Take others.")
        raise ZeroDivisionError("nothing to share")

    def predict_proba(self, cohort: Cohort) -> NDArray[np.float64]:
        return np.zeros((cohort.n_visits, cohort.n_medications))

    def predict(self, cohort: Cohort) -> NDArray[np.bool_]:
        return np.zeros((cohort.n_visits, cohort.n_medications), dtype=bool)

    def state(self) -> State:
        return {}

    def load_state(self, state: State) -> Broken:
        return self


SYSTEM = System(name="broken", label="Broken", family="reference", cls=Broken, config=BrokenConfig, sees="nothing")
