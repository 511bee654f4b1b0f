r"""ECC: an ensemble of classifier chains, each asking about one medication after another.

Read et al., "Classifier chains for multi-label classification", Machine Learning 85, 2011.  Book:
:eq:`eq-ecc-chain`, :eq:`eq-ecc-vote`.

.. math::
    P(y \mid x) = \prod_k P(y_{o(k)} \mid x,\ y_{o(1)}, \dots, y_{o(k-1)}), \qquad
    p_{o(k)} = \sigma\Big(b_{o(k)} + w_{o(k)}^\top x + \sum_{l<k} u_{o(k)o(l)}\, \hat y_{o(l)}\Big)

with ``x`` the diagnoses and procedures of the visit itself and ``o`` a random order of the medications, another one
in each chain.  A chain is trained on the true answers to its earlier questions and, when asked, is fed its own:
:math:`\hat y = [p \ge 0.5]`.  Score: mean probability of the chains.  Set: medications that at least half of the
chains vote for, as in the scripts of the medication recommendation literature; the mean probability has no say in it.
At a threshold tuned on validation patients there are no votes: there the mean probability is compared.

A medication that no training visit holds has probability 0, one that all hold has probability 1.

Deviations from the released scripts: the split is the house's (they shuffle with their own seed), means are taken
over patients (they average over visits), the matrix is sparse, and the optimiser runs to convergence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from joblib import Parallel, cpu_count, delayed
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from medrec.arguments import Count, Penalty
from medrec.context import Context
from medrec.data.cohort import Cohort
from medrec.models.base import Estimator, Prediction, State, System
from medrec.models.lr import current_codes
from medrec.progress import bar

SMALL = 2_000_000
"""Regressions times visits up to which a second process costs more than it saves."""
PLACES = 20
"""Of a chain that are fitted at once: few enough that a bar moves, many enough that the design is not rebuilt often."""


@dataclass(frozen=True)
class ECCConfig:
    """Settings of ECC."""

    n_chains: Count = 10  # released scripts
    C: Penalty = 1.0  # inverse strength of the penalty; scikit-learn's default, used by the released scripts
    order: Literal["random", "frequency"] = "random"  # released scripts; frequency: commonest first in every chain
    decision: Literal["vote", "mean"] = "vote"  # released scripts; mean: the mean probability is thresholded
    threshold: float = 0.5  # share of votes, or mean probability, from which a medication is recommended


def ask_chains(evidence: NDArray, links: NDArray, orders: NDArray[np.integer]) -> NDArray[np.float64]:
    r"""Probabilities of several chains, each fed with its own answers.

    Source: Read et al. 2011, classifier chains.

    Args:
        evidence: ``(L, V, M)``, :math:`b + w^\top x` of each chain; infinite where nothing was left to learn.
        links: ``(L, M, M)``, ``[l, m, n]`` = what a yes to ``n`` adds to the log odds of ``m``; 0 for later ``n``.
        orders: ``(L, M)`` medications in the order in which they are asked about.

    Returns:
        ``(L, V, M)``.

    Example:
        >>> evidence = np.log([[[0.4 / 0.6, 0.5]]])
        >>> ask_chains(evidence, np.array([[[0, 0], [-9, 0]]]), np.array([[0, 1]])).round(2)
        array([[[0.4 , 0.33]]])
    """
    answers = np.zeros(evidence.shape)
    prob = np.zeros(evidence.shape)
    chains = np.arange(len(orders))
    for asked in bar(orders.T, desc="asking the chains", unit="place"):
        added = (answers @ links[chains, asked][:, :, None])[..., 0]
        p = expit(evidence[chains, :, asked] + added)
        prob[chains, :, asked] = p
        answers[chains, :, asked] = p >= 0.5
    return prob


class ECC(Estimator):
    """Ensemble of classifier chains.

    Args:
        n_chains: how many.
        C: inverse strength of the L2 penalty.
        order: of the medications in each chain.
        decision: what is compared with the threshold.
        threshold: from which a medication is recommended.
        random_state: chain i takes its order from the seed ``random_state * n_chains + i``.

    Attributes:
        orders_: ``(L, M)`` medications in the order of each chain.
        coef_: ``(L, M, D + P)`` float32.
        links_: ``(L, M, M)`` float32, ``[l, m, n]`` weight of the answer about ``n`` when chain ``l`` asks about ``m``.
        intercept_: ``(L, M)``; minus infinity for medications never seen, plus infinity for those always seen.
    """

    def __init__(
        self,
        n_chains: int = 10,
        C: float = 1.0,
        order: Literal["random", "frequency"] = "random",
        decision: Literal["vote", "mean"] = "vote",
        threshold: float = 0.5,
        random_state: int = 0,
    ) -> None:
        self.n_chains = n_chains
        self.C = C
        self.order = order
        self.decision = decision
        self.threshold = threshold
        self.random_state = random_state

    def fit(self, cohort: Cohort) -> ECC:
        return self.fit_matrix(current_codes(cohort), cohort.codes["medication"].multi_hot(cohort.n_medications))

    def fit_matrix(self, X: sparse.csr_matrix, Y: NDArray[np.bool_], orders: NDArray[np.integer] | None = None) -> ECC:
        """Fit on any design matrix.

        Args:
            X: ``(V, F)``.
            Y: ``(V, M)`` bool.
            orders: ``(L, M)``, of the chains; drawn or counted if not given.
        """
        self.orders_ = self._orders(Y) if orders is None else np.asarray(orders)
        L, (F, M) = len(self.orders_), (X.shape[1], Y.shape[1])
        self.coef_, self.links_ = np.zeros((L, M, F), dtype=np.float32), np.zeros((L, M, M), dtype=np.float32)
        self.intercept_ = np.zeros((L, M))
        # Processes are not worth their start for a few seconds of work.
        jobs = 1 if L * M * len(Y) < SMALL else cpu_count()
        parts = [(chain, places) for chain in range(L) for places in np.array_split(np.arange(M), -(-M // PLACES))]
        pool = Parallel(n_jobs=jobs, return_as="generator")
        fits = pool(delayed(_fit_part)(X, Y, self.orders_[chain], places, self.C) for chain, places in parts)
        with bar(desc="ECC", unit="regression", total=L * M) as shown:
            for (chain, places), (coef, links, intercept) in zip(parts, fits, strict=True):
                asked = self.orders_[chain, places]
                self.coef_[chain, asked], self.links_[chain, asked] = coef, links
                self.intercept_[chain, asked] = intercept
                shown.update(len(places))
        return self

    def _orders(self, Y: NDArray[np.bool_]) -> NDArray[np.int64]:
        M = Y.shape[1]
        if self.order == "frequency":
            return np.tile(np.argsort(-Y.sum(0), kind="stable"), (self.n_chains, 1))
        first = self.random_state * self.n_chains
        return np.stack([np.random.default_rng(first + i).permutation(M) for i in range(self.n_chains)])

    def chain_proba(self, cohort: Cohort) -> NDArray[np.float64]:
        """What each chain says, ``(L, V, M)``."""
        return self.chain_proba_matrix(current_codes(cohort))

    def chain_proba_matrix(self, X: sparse.csr_matrix) -> NDArray[np.float64]:
        """What each chain says of any design matrix ``(V, F)``: ``(L, V, M)``."""
        L, M, F = self.coef_.shape
        evidence = np.asarray(X @ self.coef_.reshape(L * M, F).T, dtype=np.float64).reshape(-1, L, M).swapaxes(0, 1)
        return ask_chains(evidence + self.intercept_[:, None], self.links_, self.orders_)

    def predict_proba(self, cohort: Cohort) -> NDArray[np.float64]:
        return self.chain_proba(cohort).mean(0)

    def predict(self, cohort: Cohort) -> NDArray[np.bool_]:
        return self._decided(self.chain_proba(cohort))

    def _decided(self, prob: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Sets from what each chain says, ``(L, V, M)``."""
        return (prob >= 0.5 if self.decision == "vote" else prob).mean(0) >= self.threshold

    def predict_visits(self, cohort: Cohort, context: Context, device: torch.device | str = "cpu") -> Prediction:
        """As of other estimators; the chains are asked once for both."""
        prob = self.chain_proba(cohort)
        return Prediction(prob.mean(0), self._decided(prob), self.scored(cohort), self.tunable)

    def state(self) -> State:
        return {"orders": self.orders_, "coef": self.coef_, "links": self.links_, "intercept": self.intercept_}

    def load_state(self, state: State) -> ECC:
        self.orders_, self.coef_ = state["orders"], state["coef"]
        self.links_, self.intercept_ = state["links"], state["intercept"]
        return self


def _fit_part(
    X: sparse.csr_matrix, Y: NDArray[np.bool_], order: NDArray[np.integer], places: NDArray[np.integer], C: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """Weights of codes ``(K, F)``, weights of answers ``(K, M)`` and intercepts ``(K,)`` of ``K`` places in one chain.

    True answers are the inputs, so no regression waits for another.
    """
    F, M = X.shape[1], Y.shape[1]
    coef, links = np.zeros((len(places), F), dtype=np.float32), np.zeros((len(places), M), dtype=np.float32)
    share = Y.mean(0)[order[places]]
    intercept = np.where(share > 0.5, np.inf, -np.inf)
    # By columns, so that the first F + k of them are a slice.
    design = sparse.hstack([X, sparse.csr_matrix(Y[:, order].astype(float))], format="csc")
    # Vectors this small are slower on several threads than on one.
    with threadpool_limits(limits=1):
        for row, k in enumerate(places):
            if 0 < share[row] < 1:
                fit = LogisticRegression(C=C, max_iter=1000).fit(design[:, : F + k].tocsr(), Y[:, order[k]])
                coef[row], links[row, order[:k]] = fit.coef_[0, :F], fit.coef_[0, F:]
                intercept[row] = fit.intercept_[0]
    return coef, links, intercept


SYSTEM = System(
    name="ecc",
    label="ECC",
    family="classical",
    cls=ECC,
    config=ECCConfig,
    sees="diagnoses and procedures of the visit itself",
    citation="read2011chains",
    searched={"C": (0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 2.0, 5.0)},
)
