r"""LR: one logistic regression for each medication, on the codes of the visit itself.

No paper; the simplest row of every table.  Book: :eq:`eq-lr`.

.. math::
    p_m = \sigma(b_m + w_m^\top x), \qquad
    \min_{w, b}\; C \sum_v \ell(y_{vm}, p_{vm}) + \tfrac12 \lVert w_m \rVert^2

with ``x`` the multi-hot diagnoses and procedures of the visit; the intercept is not penalised.  History is not seen,
and first visits are scored like any other.

Variants: ``paper`` has the penalty that validation patients chose.  ``official`` is what the released scripts do, and
what the published tables print: the library's penalty, ``C`` = 1, and a cut at one half; tables call it "LR, as
published" and show it at this threshold of its own.

Deviations from the released scripts: the split is the house's (they shuffle with their own seed), means are taken
over patients (they average over visits), the matrix is sparse, and the optimiser runs to convergence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from medrec.arguments import Penalty
from medrec.data.cohort import Cohort, Kind
from medrec.models.base import Estimator, State, System
from medrec.progress import bar

KINDS: tuple[Kind, ...] = ("diagnosis", "procedure")


@dataclass(frozen=True)
class LRConfig:
    """Settings of LR."""

    # Inverse strength of the penalty: ours, by validation at 6 350 patients and at 577 (`medrec tune lr
    # --cohort synthetic`); demos of under 100 prefer .3 and .5, by less than .01 Jaccard.  scikit-learn's default: 1
    C: Penalty = 0.1
    threshold: float = 0.5  # released scripts


def current_codes(cohort: Cohort) -> sparse.csr_matrix:
    """Multi-hot diagnoses and procedures of each visit, ``(V, D + P)`` sparse."""
    blocks = []
    for kind in KINDS:
        rows = cohort.codes[kind]
        shape = (cohort.n_visits, len(cohort.vocab[kind]))
        blocks.append(sparse.csr_matrix((np.ones(len(rows.values)), rows.values, rows.offsets), shape=shape))
    return sparse.hstack(blocks, format="csr")


class LR(Estimator):
    """Binary relevance: ``M`` independent logistic regressions.

    A medication that no training visit holds has probability 0, one that all hold has probability 1: there is
    nothing to regress.

    Args:
        C: inverse strength of the L2 penalty.
        threshold: probability from which a medication is recommended.

    Attributes:
        coef_: ``(M, D + P)``.
        intercept_: ``(M,)``; minus infinity for medications never seen, plus infinity for those always seen.
    """

    def __init__(self, C: float = 0.1, threshold: float = 0.5) -> None:
        self.C = C
        self.threshold = threshold

    def fit(self, cohort: Cohort) -> LR:
        return self.fit_matrix(current_codes(cohort), cohort.codes["medication"].multi_hot(cohort.n_medications))

    def fit_matrix(self, X: sparse.csr_matrix, Y: NDArray[np.bool_]) -> LR:
        """Fit on any design matrix.

        Args:
            X: ``(V, F)``.
            Y: ``(V, M)`` bool.
        """
        share = Y.mean(0)
        self.coef_ = np.zeros((Y.shape[1], X.shape[1]))
        self.intercept_ = np.where(share > 0.5, np.inf, -np.inf)
        # Vectors this small are slower on several threads than on one: ten times, on a busy machine.
        with threadpool_limits(limits=1):
            for m in bar(np.flatnonzero((share > 0) & (share < 1)), desc="LR", unit="medication"):
                label = LogisticRegression(C=self.C, max_iter=1000).fit(X, Y[:, m])
                self.coef_[m], self.intercept_[m] = label.coef_[0], label.intercept_[0]
        return self

    def predict_proba(self, cohort: Cohort) -> NDArray[np.float64]:
        return expit(np.asarray(current_codes(cohort) @ self.coef_.T) + self.intercept_)

    def predict(self, cohort: Cohort) -> NDArray[np.bool_]:
        return self.predict_proba(cohort) >= self.threshold

    def state(self) -> State:
        return {"coef": self.coef_, "intercept": self.intercept_}

    def load_state(self, state: State) -> LR:
        self.coef_, self.intercept_ = state["coef"], state["intercept"]
        return self


SYSTEM = System(
    name="lr",
    label="LR",
    family="classical",
    cls=LR,
    config=LRConfig,
    variants={"paper": {}, "official": {"C": 1.0}},
    sees="diagnoses and procedures of the visit itself",
    searched={"C": (0.003, 0.01, 0.02, 0.03, 0.05, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)},
)
