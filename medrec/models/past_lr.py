r"""Past LR: one logistic regression for each medication, on what earlier visits hold and on nothing of today.

No paper; the plainest system that knows the past and may use diagnoses and procedures.  With
:math:`c_{vi}` = 1 where visit ``v`` holds code ``i`` (diagnosis, procedure or medication), visit ``t`` of a patient has

.. math::
    x_t = \Big[\, c_{t-1} \,\Big\|\, \frac{1}{t - 1} \sum_{v < t} c_v \,\Big], \qquad
    p_{tm} = \sigma(b_m + w_m^\top x_t)

with the loss and the penalty of LR (:mod:`medrec.models.lr`).  It is a system for visits, trained on all second and
later visits of training patients; in a table of rankers it stands with them, since like them it knows the past only.
First visits are out of reach, and in the hold-out, which has no visits, it has no place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from medrec.arguments import Penalty
from medrec.data.cohort import Cohort, Kind
from medrec.models.base import Estimator, State, System
from medrec.models.lr import LR
from medrec.types import MedrecError

KINDS: tuple[Kind, ...] = ("diagnosis", "procedure", "medication")


@dataclass(frozen=True)
class PastLRConfig:
    """Settings of past LR."""

    # Inverse strength of the penalty: ours, of five by NDCG@20 of validation patients, of synthetic-6350 and synthetic
    C: Penalty = 0.03
    threshold: float = 0.5  # as LR


def earlier_visits(cohort: Cohort) -> sparse.csr_matrix:
    """Which visits come before which, ``(V, V)``: row v holds 1 at every earlier visit of the same patient."""
    number = cohort.visit_number
    ends = np.cumsum(number)
    # Of visit v the earlier ones are v - number, ..., v - 1.
    place = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - number, number)
    first = np.repeat(np.arange(cohort.n_visits) - number, number)
    shape = (cohort.n_visits, cohort.n_visits)
    return sparse.csr_matrix((np.ones(len(place)), first + place, np.append(0, ends)), shape=shape)


def past_codes(cohort: Cohort) -> sparse.csr_matrix:
    """Codes of the visit before, and the share of all earlier visits with each code, ``(V, 2 (D + P + M))`` sparse.

    Rows of first visits are empty.
    """
    blocks = []
    for kind in KINDS:
        rows = cohort.codes[kind]
        shape = (cohort.n_visits, len(cohort.vocab[kind]))
        blocks.append(sparse.csr_matrix((np.ones(len(rows.values)), rows.values, rows.offsets), shape=shape))
    codes = sparse.hstack(blocks, format="csr")
    earlier = earlier_visits(cohort)
    share = sparse.diags(1 / np.maximum(cohort.visit_number, 1)) @ earlier
    later = np.flatnonzero(cohort.visit_number > 0)
    before = sparse.csr_matrix((np.ones(len(later)), (later, later - 1)), shape=earlier.shape)
    return sparse.hstack([before @ codes, share @ codes], format="csr")


class PastLR(Estimator):
    """Binary relevance on the past.

    Args:
        C: inverse strength of the L2 penalty.
        threshold: probability from which a medication is recommended.

    Attributes:
        coef_: ``(M, 2 (D + P + M))``.
        intercept_: ``(M,)``; minus infinity for medications never seen, plus infinity for those always seen.
    """

    needs_history = True

    def __init__(self, C: float = 0.03, threshold: float = 0.5) -> None:
        self.C = C
        self.threshold = threshold

    def fit(self, cohort: Cohort) -> PastLR:
        later = np.flatnonzero(cohort.visit_number > 0)
        if len(later) == 0:
            raise MedrecError(
                "past LR learns from second and later visits, and the training patients have none. "
                "Take a cohort with more visits."
            )
        target = cohort.codes["medication"].multi_hot(cohort.n_medications)
        found = LR(C=self.C).fit_matrix(past_codes(cohort)[later], target[later])
        self.coef_, self.intercept_ = found.coef_, found.intercept_
        return self

    def predict_proba(self, cohort: Cohort) -> NDArray[np.float64]:
        return expit(np.asarray(past_codes(cohort) @ self.coef_.T) + self.intercept_)

    def predict(self, cohort: Cohort) -> NDArray[np.bool_]:
        return (self.predict_proba(cohort) >= self.threshold) & self.scored(cohort)[:, None]

    def state(self) -> State:
        return {"coef": self.coef_, "intercept": self.intercept_}

    def load_state(self, state: State) -> PastLR:
        self.coef_, self.intercept_ = state["coef"], state["intercept"]
        return self


SYSTEM = System(
    name="past-lr",
    label="past LR",
    family="reference",
    cls=PastLR,
    config=PastLRConfig,
    sees="diagnoses, procedures and medications of earlier visits; skips first visits",
    searched={"C": (0.001, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)},
    sees_today=lambda config: False,
)
