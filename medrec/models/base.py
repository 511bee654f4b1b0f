"""What a system is: how it declares itself, and the contracts of those that are trained and those that are fitted.

:class:`Network` is everything that is trained by steps; a :class:`Recommender` gives sets of medications for visits, a
:class:`Ranker` orders medications for patients.  :class:`Estimator` and :class:`RankingEstimator` are fitted in one go,
with the habits of scikit-learn.  The task of a system (:mod:`medrec.tasks`) cannot tell the two kinds apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_type_hints

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from medrec.arguments import checked_mapping, checked_word, near, setting
from medrec.context import Context
from medrec.data.batch import VisitBatch, batches
from medrec.data.cohort import Cohort
from medrec.graphs.interactions import Interactions
from medrec.types import MedrecError

State = dict[str, NDArray[Any]]
"""What a fitted system has learnt, by name."""
SMALL = 2000
"""Training patients below which a system takes its settings for small cohorts."""
EVALUATION_BATCH = 256
"""Patients at once where no gradient is kept."""


@dataclass(frozen=True)
class Row:
    """One row of a grid: how a page calls it, and what is trained.

    Args:
        key: of the row, unique in its grid; never changes, so that pages pick rows by it.
        label: as tables and figures print it.
        system: name of the system.
        variant: of the system.
        settings: that differ from the variant's.
        knob: for sweeps, the setting that is turned.
        value: and what it is set to.
    """

    key: str
    label: str
    system: str
    variant: str = "paper"
    settings: Mapping[str, Any] = field(default_factory=dict)
    knob: str = ""
    value: float | None = None


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the training loop that every network has; systems override the defaults."""

    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"  # of the learning rate over the epochs; ours
    weight_decay: float = 0.0  # of Adam; ours, none
    epochs: int = 50  # at most
    patience: int = 8  # epochs without a better validation score before stopping, and
    patience_steps: int = 250  # optimiser steps without one; both must have passed; ours
    batch_size: int = 32  # patients per optimiser step; ours (released code: one visit or one patient)
    threshold: float = 0.5  # probability from which a medication is recommended


@dataclass(frozen=True)
class Judgement:
    """What a task says of a network after an epoch.

    Args:
        order: by this epochs are chosen, compared from the left; higher is better.
        selected: the value for schedules and the progress bar.
        row: more values, for the history.
    """

    order: tuple[float, ...]
    selected: float
    row: dict[str, float]


@dataclass(frozen=True)
class Prediction:
    """What a system says about every visit of a cohort.

    Args:
        scores: ``(V, M)`` probabilities, or ``None``.
        recommended: ``(V, M)`` bool, at the system's own threshold.
        scored: ``(V,)`` bool, visits for which it speaks.
        tunable: whether the sets are thresholded scores.
    """

    scores: NDArray[Any] | None
    recommended: NDArray[np.bool_]
    scored: NDArray[np.bool_]
    tunable: bool

    def at(self, threshold: float) -> NDArray[np.bool_]:
        """Sets at another threshold.

        Raises:
            MedrecError: the system gives no scores.
        """
        if self.scores is None:
            raise MedrecError("This system gives no scores, so that its sets cannot be cut at another threshold.")
        # In the precision of the scores: a 32-bit 0.4 is not smaller than 0.4.
        sets: NDArray[np.bool_] = self.scores >= self.scores.dtype.type(threshold)
        return sets


# -- systems that are trained by steps ---------------------------------------------------------------------------------


class Network(nn.Module, ABC):
    """Everything that is trained by optimiser steps.

    All state that matters lives in parameters and buffers, so that the weights of a run hold all of it; nothing is
    handed from one method to another on ``self``.

    Args:
        config: settings; a dataclass of the system's own module.
        context: knowledge that fixes the shapes; handed to every method again, where it may live on a device.
    """

    config: TrainingConfig

    def __init__(self, config: TrainingConfig, context: Context) -> None:
        super().__init__()
        self.config = config

    def prepare(self, data: Any, train: NDArray[np.integer], context: Context) -> None:
        """Learn what is not learnt by gradient steps: co-prescription graphs, counts, pre-trained encoders.

        Called once on a fresh network, before the first step and on its device; not called on a stored one.  Results
        go into parameters or buffers.

        Args:
            data: what the task gives: for visits the cohort of all patients.
            train: indices of the training patients, from whom alone a fair system learns.
            context: everything else.
        """

    @abstractmethod
    def batches(self, data: Any, rows: NDArray[np.integer], order: Sequence[int]) -> Iterator[Any]:
        """What one pass over the training data consists of; each batch has ``to(device)``.

        Args:
            data: as :meth:`prepare` gets it.
            rows: training patients.
            order: seeds of the shuffle: of the run and number of the epoch.
        """

    @abstractmethod
    def loss(self, batch: Any, context: Context) -> Tensor:
        """What a step makes smaller; a scalar."""

    def optimisers(self) -> list[torch.optim.Optimizer]:
        """All of them take a step after each batch; here one Adam over all parameters."""
        config = self.config
        return [
            torch.optim.Adam(self.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        ]

    def before_epoch(self, epoch: int, context: Context) -> None:
        """Change what a schedule changes before an epoch; it must live in buffers."""

    def after_epoch(self, selected: float) -> None:
        """Change what a schedule changes after an epoch; it must live in buffers.

        Args:
            selected: value of the metric by which epochs are chosen, on validation patients.
        """


class Recommender(Network):
    """A network that recommends medications for visits.

    Args:
        config: settings; a dataclass of the system's own module.
        context: knowledge that fixes the shapes.
    """

    needs_history = False
    """Whether a patient's first visit is out of reach."""
    tunable = True
    """Whether its sets come from thresholding its probabilities."""

    @property
    def own_threshold(self) -> float | None:
        """Probability from which it recommends; ``None`` where sets do not come from a threshold."""
        return self.config.threshold if self.tunable else None

    def batches(self, data: Cohort, rows: NDArray[np.integer], order: Sequence[int]) -> Iterator[VisitBatch]:
        """Batches of ``config.batch_size`` patients with all their visits."""
        return batches(data, rows, self.config.batch_size, order)

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

    def loss(self, batch: VisitBatch, context: Context) -> Tensor:
        """Binary cross-entropy, mean over the scored visits and their medications; a scalar."""
        logits: Tensor = self(batch, context)
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

    def explain(self, batch: VisitBatch, context: Context) -> pl.DataFrame | None:
        """What spoke for the medications of the last visit of one patient; ``None`` where the system cannot say.

        Returns:
            ``medication`` (code), ``kind`` of thing, ``what`` it is, ``weight``.
        """
        return None

    def recommend(self, batch: VisitBatch, context: Context) -> Tensor:
        """Recommended sets ``(B, T, M)`` bool; empty outside :meth:`scored`."""
        return self.decide(batch, context)[1]

    def predict_visits(self, cohort: Cohort, context: Context, device: torch.device | str = "cpu") -> Prediction:
        """What the network says about every visit of a cohort."""
        self.eval()
        shape = (cohort.n_visits, cohort.n_medications)
        scores = np.zeros(shape, dtype=np.float32)
        recommended, scored = np.zeros(shape, dtype=bool), np.zeros(cohort.n_visits, dtype=bool)
        context = context.to(device)
        with torch.inference_mode():
            for cpu_batch in batches(cohort, np.arange(cohort.n_patients), EVALUATION_BATCH, None):
                batch = cpu_batch.to(device)
                speaks = self.scored(batch)
                prob, sets = self.decide(batch, context)
                real = batch.visit_mask
                visits = batch.visits[real].cpu().numpy()
                scores[visits] = prob[real].cpu().numpy()
                recommended[visits] = sets[real].cpu().numpy()
                scored[visits] = speaks[real].cpu().numpy()
        return Prediction(scores, recommended, scored, self.tunable)


class Ranker(Network):
    """A network that orders medications for patients it knows from training; it has no notion of a visit.

    What training sees of them is :attr:`medrec.context.Context.graph`.
    """

    @abstractmethod
    def scores(self, patients: NDArray[np.integer], context: Context) -> Tensor:
        """Scores of all medications for each patient, ``(U, M)``; higher is better."""

    def rank(
        self, patients: NDArray[np.integer], context: Context, device: torch.device | str = "cpu"
    ) -> NDArray[np.float32]:
        """Scores ``(U, M)`` without gradients."""
        self.eval()
        with torch.inference_mode():
            return self.scores(patients, context.to(device)).cpu().numpy().astype(np.float32)


# -- systems that are fitted in one go ---------------------------------------------------------------------------------


class _Fitted(BaseEstimator, ABC):
    """The constructor only stores; ``fit`` returns ``self``; what is learnt ends in an underscore."""

    @abstractmethod
    def state(self) -> State:
        """What was learnt, as arrays."""

    @abstractmethod
    def load_state(self, state: State) -> Any:
        """Take back what :meth:`state` gave; returns ``self``."""


class Estimator(_Fitted):
    """A system for visits that is fitted in one go, with the habits of scikit-learn."""

    needs_history = False
    """Whether a patient's first visit is out of reach."""
    tunable = True
    """Whether its sets come from thresholding its probabilities."""

    @property
    def own_threshold(self) -> float | None:
        """Probability from which it recommends; ``None`` where sets do not come from a threshold."""
        return self.threshold if self.tunable else None

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

    def explain(self, batch: VisitBatch, context: Context) -> pl.DataFrame | None:
        """As :meth:`Recommender.explain`."""
        return None

    def predict_visits(self, cohort: Cohort, context: Context, device: torch.device | str = "cpu") -> Prediction:
        """What the system says about every visit of a cohort."""
        return Prediction(self.predict_proba(cohort), self.predict(cohort), self.scored(cohort), self.tunable)


class RankingEstimator(_Fitted):
    """A ranker that is fitted in one go."""

    @abstractmethod
    def fit(self, interactions: Interactions) -> RankingEstimator:
        """Learn from who was given what at the visits that training sees."""

    @abstractmethod
    def scores(self, patients: NDArray[np.integer], context: Context) -> NDArray[np.floating]:
        """Scores of all medications for each patient, ``(U, M)``; higher is better."""

    def rank(
        self, patients: NDArray[np.integer], context: Context, device: torch.device | str = "cpu"
    ) -> NDArray[np.float32]:
        """Scores ``(U, M)``."""
        return self.scores(patients, context).astype(np.float32)


# -- the declaration ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class System:
    """A system of the book, as its module declares it under the name ``SYSTEM``.

    Args:
        name: on the command line and in the run store.
        label: as its paper spells it.
        family: for ordering and colours: ``reference``, ``classical``, ``sequence``, ``graph``, ``molecule``,
            ``causal``, ``language``, ``generative``.
        cls: the network, or the estimator.
        config: its settings, a frozen dataclass: the book's choice for cohorts of the size of the papers'.
        sees: what it is given, and which visits it leaves out.
        task: ``"visits"`` or ``"ranking"``.
        small: settings that differ for cohorts of fewer than :data:`SMALL` training patients.
        variants: switches of each variant; ``"paper"`` is the equations.
        needs: parts of the context besides interactions, see :mod:`medrec.context`.
        citation: key in the bibliography; empty for reference points and systems of our own.
        seconds_per_epoch: budget at 6 350 patients on two cores; ``None`` for estimators.
        rows: the grid of its own switches; the first row is what the others are compared with.
        searched: settings of its own that :mod:`medrec.lab.tune` searches beside the common ones, with their values.
        sees_today: of a visit system, whether with these settings it is given codes of the visit that it is asked
            about; see :meth:`past_only`.
    """

    name: str
    label: str
    family: str
    cls: type[Any]
    config: type
    sees: str
    task: Literal["visits", "ranking"] = "visits"
    small: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"paper": {}})
    needs: tuple[str, ...] = ()
    citation: str = ""
    seconds_per_epoch: float | None = None
    rows: tuple[Row, ...] = ()
    searched: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    sees_today: Callable[[Any], bool] = lambda config: True

    def past_only(self, config: Any) -> bool:
        """Whether it knows nothing of the day that is asked about, as every ranker: they stand together in tables.

        Args:
            config: its settings.
        """
        return self.task == "ranking" or not self.sees_today(config)

    @property
    def is_network(self) -> bool:
        """Whether it is trained by steps."""
        return issubclass(self.cls, Network)

    @property
    def module(self) -> str:
        """Where it is declared."""
        return self.cls.__module__

    def seeds(self, n: int) -> range:
        """Training seeds 0, 1, ...; what is fitted in one go has no use for more than one."""
        return range(n if self.is_network else 1)

    def configure(
        self, variant: str = "paper", settings: Mapping[str, Any] | None = None, *, n_train: int | None = None
    ) -> Any:
        """Resolved settings: the dataclass, what differs for small cohorts, the variant's, the caller's; last wins.

        Args:
            variant: one of ``variants``.
            settings: fields that differ, values or their text.
            n_train: number of training patients; ``None``: a cohort of the size of the papers'.

        Raises:
            MedrecError: an unknown variant, an unknown field, or a value of the wrong kind or out of its range.
        """
        if checked_word("A variant", variant, "paper") not in self.variants:
            raise MedrecError(
                f"{self.label} has no variant {variant!r}.{near(variant, self.variants)} "
                f"It has {', '.join(self.variants)}."
            )
        hints = get_type_hints(self.config, include_extras=True)
        known = [f.name for f in fields(self.config)]
        chosen = dict(self.small) if n_train is not None and n_train < SMALL else {}
        chosen |= self.variants[variant]
        for key, value in checked_mapping("settings", settings).items():
            if key not in known:
                raise MedrecError(
                    f"{self.label} has no setting {key!r}.{near(key, known)} "
                    f"It has {', '.join(known) if known else 'none'}."
                )
            chosen[key] = setting(self.label, key, value, hints[key])
        return replace(self.config(), **chosen)

    def create(self, config: Any, context: Context, *, seed: int = 0) -> Any:
        """A fresh network, or an estimator that is not fitted yet.

        Args:
            config: from :meth:`configure`.
            context: for networks.
            seed: of an estimator with chance in it; networks draw from PyTorch's generator.
        """
        if self.is_network:
            return self.cls(config, context)
        settings = {f.name: getattr(config, f.name) for f in fields(config)}
        # Chance of an estimator, where there is any, has scikit-learn's name; it is no setting, but the run's seed.
        chance = {"random_state": seed} if "random_state" in self.cls._get_param_names() else {}
        return self.cls(**settings, **chance)

    def restore(self, config: Any, context: Context, state: Mapping[str, NDArray[Any]]) -> Any:
        """A system with what it has learnt."""
        system = self.create(config, context)
        if not self.is_network:
            return system.load_state(dict(state))
        system.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})
        return system.eval()
