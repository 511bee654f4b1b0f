"""The two faces of a system: estimators that are fitted, and networks that are trained.

Both read a :class:`~medrec.data.cohort.Cohort`, say for which visits they speak, and give probabilities ``(V, M)``
or sets ``(V, M)``; the protocol cannot tell them apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from medrec.data.batch import VisitBatch
from medrec.data.cohort import Cohort, Kind, Vocabulary

if TYPE_CHECKING:
    from medrec.chem.molecules import Molecules

State = dict[str, NDArray]
"""What a fitted system has learnt, by name."""


@dataclass(frozen=True)
class Context:
    """All that a network may know besides the batch.

    Args:
        vocab: one vocabulary for each kind of code.
        ddi: ``(M, M)`` bool, symmetric, zero diagonal: which medications interact.
        molecules: for systems that look at them (:attr:`Recommender.sees_molecules`), otherwise ``None``.
    """

    vocab: dict[Kind, Vocabulary]
    ddi: Tensor
    molecules: Molecules | None = None

    @property
    def sizes(self) -> dict[Kind, int]:
        """Size of each vocabulary."""
        return {kind: len(vocabulary) for kind, vocabulary in self.vocab.items()}

    def to(self, device: torch.device | str) -> Context:
        """The same on another device."""
        molecules = None if self.molecules is None else self.molecules.to(device)
        return replace(self, ddi=self.ddi.to(device), molecules=molecules)


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the training loop that every network has; systems override the defaults."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    epochs: int = 50  # at most
    patience: int = 8  # epochs without a better validation Jaccard before stopping; ours
    batch_size: int = 32  # patients per optimiser step; ours (released code: one visit or one patient)
    threshold: float = 0.5  # probability from which a medication is recommended


class Recommender(nn.Module, ABC):
    """A network that recommends medications for visits.

    Args:
        config: settings; a dataclass of the system's own module.
        context: knowledge that fixes the shapes; handed to :meth:`forward` again, where it may live on a device.
    """

    needs_history = False
    """Whether a patient's first visit is out of reach."""
    tunable = True
    """Whether its sets come from thresholding its probabilities."""
    sees_molecules = False
    """Whether it wants :attr:`Context.molecules`."""

    def __init__(self, config: TrainingConfig, context: Context) -> None:
        super().__init__()
        self.config = config

    def prepare(self, cohort: Cohort, train: NDArray[np.integer], context: Context) -> None:
        """Learn what is not learnt by gradient steps: co-prescription graphs, counts, pre-trained encoders.

        Called once on a fresh network, before the first step and on its device; not called on a stored one.  Results
        go into parameters or buffers, so that the weights of a run hold all of them.

        Args:
            cohort: all patients.
            train: indices of the training patients, from whom alone a fair system learns.
            context: as :meth:`forward` gets it.
        """

    @abstractmethod
    def forward(self, batch: VisitBatch, context: Context) -> Tensor:
        """Logits ``(B, T, M)``; whatever stands outside :meth:`scored` is meaningless but finite."""

    def scored(self, batch: VisitBatch) -> Tensor:
        """``(B, T)`` bool: real visits for which the system speaks."""
        if not self.needs_history:
            return batch.visit_mask
        later = batch.visit_mask.clone()
        later[:, 0] = False
        return later

    def loss(self, batch: VisitBatch, logits: Tensor, context: Context) -> Tensor:
        """Binary cross-entropy, mean over the scored visits and their medications; a scalar."""
        scored = self.scored(batch)
        if not scored.any():
            return logits.sum() * 0
        return nn.functional.binary_cross_entropy_with_logits(logits[scored], batch.target[scored].float())

    def decide(self, batch: VisitBatch, context: Context) -> tuple[Tensor, Tensor]:
        """Scores in [0, 1] and recommended sets, both ``(B, T, M)``; sets are empty outside :meth:`scored`.

        Here: probabilities and those of at least ``config.threshold``.  Systems that write a set medication by
        medication (and say ``tunable = False``) or mend it afterwards override this.
        """
        prob = self(batch, context).sigmoid()
        return prob, (prob >= self.config.threshold) & self.scored(batch)[..., None]

    def after_epoch(self, validation_jaccard: float) -> None:
        """Change what a schedule of the system changes between epochs; it must live in buffers."""

    def explain(self, batch: VisitBatch, context: Context) -> pl.DataFrame | None:
        """What spoke for the medications of the last visit of one patient; ``None`` where the system cannot say.

        Returns:
            ``medication`` (code), ``kind`` of thing, ``what`` it is, ``weight``.
        """
        return None

    def recommend(self, batch: VisitBatch, context: Context) -> Tensor:
        """Recommended sets ``(B, T, M)`` bool; empty outside :meth:`scored`."""
        return self.decide(batch, context)[1]


class Estimator(BaseEstimator, ABC):
    """A system that is fitted in one go, with the habits of scikit-learn.

    The constructor only stores; :meth:`fit` returns ``self``; what is learnt ends in an underscore.
    """

    needs_history = False
    """Whether a patient's first visit is out of reach."""
    tunable = True
    """Whether its sets come from thresholding its probabilities."""

    @abstractmethod
    def fit(self, cohort: Cohort) -> Estimator:
        """Learn from every visit of the cohort, which holds training patients only."""

    @abstractmethod
    def predict_proba(self, cohort: Cohort) -> NDArray[np.float64] | None:
        """Probabilities ``(V, M)``; ``None`` for a system that has no scores."""

    @abstractmethod
    def predict(self, cohort: Cohort) -> NDArray[np.bool_]:
        """Recommended sets ``(V, M)``."""

    def scored(self, cohort: Cohort) -> NDArray[np.bool_]:
        """``(V,)`` bool: visits for which the system speaks."""
        return cohort.visit_number > 0 if self.needs_history else np.ones(cohort.n_visits, dtype=bool)

    @abstractmethod
    def state(self) -> State:
        """What was learnt, as arrays."""

    @abstractmethod
    def load_state(self, state: State) -> Estimator:
        """Take back what :meth:`state` gave; returns ``self``."""
