r"""The visit task: a set of medications for each visit, compared with what was prescribed.

Five columns, in this order: Jaccard, DDI rate, F1, PRAUC, average number of medications.  The DDI rate and the
number are pooled over visits; the others are averaged over a patient's visits, then over patients (``aggregation =
"patients"``, house), or over all visits at once (``"visits"``).  Epochs are chosen by Jaccard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from medrec import metrics
from medrec.arguments import checked_threshold
from medrec.context import Context
from medrec.data.cohort import Cohort
from medrec.data.split import Split, split_patients
from medrec.models.base import Estimator, Judgement, Prediction, Recommender
from medrec.models.popularity import Popularity
from medrec.tasks.evaluation import Aggregation, Evaluation, Interval, Measures, bootstrap
from medrec.types import MedrecError

COLUMNS: dict[str, str] = {
    "jaccard": "Jaccard",
    "ddi_rate": "DDI rate",
    "f1": "F1",
    "prauc": "PRAUC",
    "n_medications": "medications",
}
"""The five columns and how tables head them."""

SELECTION = "jaccard"
"""By this epochs and settings are chosen."""

GROUPS = ("first", "second", "later")
"""Groups of visits by their number: a patient's first, second, third and all later ones."""
FROM_SECOND = ("second", "later")
"""Visits that have a history."""

MEASURES = Measures(
    columns=COLUMNS,
    averaged=("jaccard", "f1", "prauc", "precision", "recall"),
    pooled={"ddi_rate": ("interacting", "pairs"), "n_medications": ("medications", "n_visits")},
    groups=GROUPS,
    metrics=(*COLUMNS, "precision", "recall"),
)
Threshold = Literal["own", "tuned"] | float
"""From which probability a medication is recommended: the system's own, tuned on validation Jaccard, or a number."""


@dataclass(frozen=True)
class Protocol:
    """Rules of an examination.

    ``split`` and ``selection`` decide what training sees and are part of a run's key; everything else is an option of
    evaluation, which is a function of stored scores and costs no training.

    Args:
        name: for captions.
        split: ``"seed"`` shuffles patients, ``"file order"`` takes them as they stand.
        selection: patients on whose Jaccard the best epoch is chosen.
        scored: ``"all"`` visits that the system can score, or ``"from second"`` visits only.
        aggregation: ``"patients"`` or ``"visits"``, see the module.
        threshold: from which probability a medication is recommended.
        bootstrap: kind of :func:`intervals`.
        source: where the rules stand.
    """

    name: str
    split: Literal["seed", "file order"] = "seed"
    selection: Literal["validation", "test"] = "validation"
    scored: Literal["all", "from second"] = "all"
    aggregation: Aggregation = "patients"
    threshold: Threshold = "own"
    bootstrap: Literal["house", "field"] = "house"
    source: str = ""

    def split_seed(self, seed: int) -> int | None:
        """The seed of the split, ``None`` for file order."""
        return None if self.split == "file order" else seed


HOUSE = Protocol("house", threshold="tuned", source="this book: equal effort for every system's threshold")
PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        HOUSE,
        Protocol("house, own threshold", source="as house, with each system's published threshold"),
        Protocol(
            "SafeDrug line",
            split="file order",
            threshold=0.5,
            bootstrap="field",
            source="released code of GAMENet, SafeDrug, MoleRec, CausalMed, BiMoRec",
        ),
        Protocol("LR", aggregation="visits", threshold=0.5, bootstrap="field", source="released code of SafeDrug"),
        Protocol(
            "RETAIN",
            split="file order",
            scored="from second",
            threshold=0.4,
            bootstrap="field",
            source="released code of SafeDrug",
        ),
        # The released code averages batches of eight visits, the same as visits up to the last batch.
        Protocol("NLA-MMR", aggregation="visits", threshold=0.5, bootstrap="field", source="released code of NLA-MMR"),
    )
}
"""Named protocols: the house's, and those of published comparisons."""


def house(sees: Mapping[str, Any]) -> Protocol:
    """The protocol by which the house judges a run: one for all, whatever training saw."""
    return HOUSE


def predict(
    system: Estimator | Recommender, cohort: Cohort, context: Context, device: torch.device | str = "cpu"
) -> Prediction:
    """What a fitted system says about every visit of a cohort."""
    return system.predict_visits(cohort, context, device)


# -- answers, and what they are worth ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """What a system said about visits, and what was prescribed there: all that evaluation needs.

    Args:
        prediction: of the ``V`` visits.
        target: ``(V, M)`` bool, what was prescribed.
        patient: ``(V,)`` whose visit, as results call the patients.
        number: ``(V,)`` 0 for a patient's first visit.
    """

    prediction: Prediction
    target: NDArray[np.bool_]
    patient: NDArray[np.int64]
    number: NDArray[np.int64]

    @classmethod
    def of(cls, cohort: Cohort, prediction: Prediction, patients: NDArray[np.integer] | None = None) -> Answers:
        """Answers about the patients of a cohort.

        Args:
            cohort: these patients, and nobody else.
            prediction: of its visits.
            patients: ``(P,)`` how the patients are called, e.g. their place in the whole cohort.
        """
        names = np.arange(cohort.n_patients) if patients is None else np.asarray(patients)
        target = cohort.codes["medication"].multi_hot(cohort.n_medications)
        return cls(prediction, target, names[cohort.patient_of_visit], cohort.visit_number)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For the run store; :meth:`from_arrays` takes them back."""
        found = {
            "recommended": self.prediction.recommended,
            "scored": self.prediction.scored,
            "tunable": np.array([self.prediction.tunable]),
            "target": self.target,
            "patient": self.patient,
            "number": self.number,
        }
        return found if self.prediction.scores is None else {**found, "scores": self.prediction.scores}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Answers:
        """What :meth:`arrays` gave."""
        prediction = Prediction(
            arrays.get("scores"), arrays["recommended"], arrays["scored"], bool(arrays["tunable"][0])
        )
        return cls(prediction, arrays["target"], arrays["patient"], arrays["number"])

    def counted(self, protocol: Protocol = HOUSE) -> NDArray[np.bool_]:
        """``(V,)`` bool: visits that the system can score and the protocol counts."""
        return (
            self.prediction.scored & (self.number > 0) if protocol.scored == "from second" else self.prediction.scored
        )

    def tuned_threshold(self, protocol: Protocol = HOUSE) -> float | None:
        """:func:`best_threshold` of these visits; ``None`` for sets that no threshold makes, or where none counts."""
        counted, scores = self.counted(protocol), self.prediction.scores
        if scores is None or not self.prediction.tunable or not counted.any():
            return None
        return best_threshold(self.target[counted], scores[counted], self.patient[counted], protocol.aggregation)

    def degenerate(self, threshold: float | None) -> str | None:
        """What the sets at a threshold have in common that says that nothing was learnt, or ``None``.

        Returns:
            ``"everything"``, ``"nothing"`` or ``"one list for all"``; one visit alone is never degenerate so.
        """
        sets = self.sets(threshold)[self.prediction.scored]
        if sets.all():
            return "everything"
        if not sets.any():
            return "nothing"
        return "one list for all" if len(sets) > 1 and (sets == sets[0]).all() else None

    def sets(self, threshold: float | None) -> NDArray[np.bool_]:
        """``(V, M)`` recommended sets; ``None``: the system's own."""
        return self.prediction.recommended if threshold is None else self.prediction.at(threshold)

    def evaluate(
        self, ddi: NDArray[np.bool_], threshold: float | None = None, protocol: Protocol = HOUSE
    ) -> Evaluation:
        """What the sets at a threshold are worth.

        Args:
            ddi: ``(M, M)`` bool interaction matrix.
            threshold: of :meth:`sets`.
            protocol: who is scored and how visits are averaged.

        Raises:
            MedrecError: no visit is left to score.
        """
        counted = self.counted(protocol)
        if not counted.any():
            raise MedrecError(
                f"None of the {len(counted)} visits of these {len(np.unique(self.patient))} patients can be scored: "
                "the system needs an earlier visit. Take another split, or a cohort with more visits."
            )
        target, sets = self.target[counted], self.sets(threshold)[counted]
        interacting, pairs = metrics.ddi_counts(sets, ddi)
        scores = self.prediction.scores
        prauc = np.nan if scores is None else metrics.average_precision(target, scores[counted])
        visits = pl.DataFrame(
            {
                "patient": self.patient[counted],
                "group": np.minimum(self.number[counted], len(GROUPS) - 1),
                "n_visits": np.ones(len(target), dtype=np.int64),
                "jaccard": metrics.jaccard(target, sets),
                "f1": metrics.f1(target, sets),
                "prauc": np.broadcast_to(prauc, len(target)).astype(float),
                "precision": metrics.precision(target, sets),
                "recall": metrics.recall(target, sets),
                "interacting": interacting,
                "pairs": pairs,
                "medications": sets.sum(1).astype(np.int64),
            }
        )
        per_patient = (
            visits.group_by("patient", "group", maintain_order=True)
            .agg(pl.all().sum())
            .with_columns(pl.col("group").replace_strict(dict(enumerate(GROUPS)), return_dtype=pl.String))
        )
        return Evaluation(per_patient, MEASURES, protocol.aggregation)


def evaluate(
    cohort: Cohort,
    recommended: NDArray[np.bool_],
    ddi: NDArray[np.bool_],
    *,
    scores: NDArray[np.floating] | None = None,
    scored: NDArray[np.bool_] | None = None,
    patients: NDArray[np.integer] | None = None,
    protocol: Protocol = HOUSE,
) -> Evaluation:
    """Score recommended sets against the prescribed ones.

    Args:
        cohort: the patients to score, and nobody else.
        recommended: ``(V, M)`` bool, for the cohort's visits.
        ddi: ``(M, M)`` bool interaction matrix.
        scores: ``(V, M)`` for PRAUC; ``None`` where the system has none.
        scored: ``(V,)`` bool, visits for which the system speaks at all; all by default.
        patients: ``(P,)`` how the patients are called in the result, e.g. their place in the whole cohort.
        protocol: who is scored and how visits are averaged.

    Raises:
        MedrecError: no visit is left to score.
    """
    scored = np.ones(cohort.n_visits, dtype=bool) if scored is None else np.asarray(scored, dtype=bool)
    scores = None if scores is None else np.asarray(scores)
    prediction = Prediction(scores, np.asarray(recommended, dtype=bool), scored, tunable=False)
    return Answers.of(cohort, prediction, patients).evaluate(ddi, protocol=protocol)


def intervals(evaluation: Evaluation, protocol: Protocol = HOUSE, **more: Any) -> dict[str, Interval]:
    """Intervals of every metric, drawn as the protocol draws them; ``more`` as of ``bootstrap``."""
    return bootstrap(evaluation, kind=protocol.bootstrap, **more)


def in_columns(found: Mapping[str, Interval]) -> dict[str, str]:
    """A row of a table: the five columns of the field under their heads."""
    return {head: found[name].format(1 if name == "n_medications" else 3) for name, head in COLUMNS.items()}


# -- thresholds ----------------------------------------------------------------------------------------------------

THRESHOLDS = np.arange(5, 96) / 100
"""Candidates of :func:`tune_threshold`: .05, .06, ..., .95."""


def tune_threshold(
    cohort: Cohort,
    scores: NDArray[np.floating],
    *,
    scored: NDArray[np.bool_] | None = None,
    protocol: Protocol = HOUSE,
) -> float:
    """The threshold with the highest mean Jaccard on validation patients; of equals the one nearest to .5.

    Args:
        cohort: validation patients.
        scores: ``(V, M)`` probabilities.
        scored: ``(V,)`` bool, as in :func:`evaluate`.
        protocol: how visits are averaged.
    """
    scored = np.ones(cohort.n_visits, dtype=bool) if scored is None else np.asarray(scored, dtype=bool)
    if protocol.scored == "from second":
        scored = scored & (cohort.visit_number > 0)
    target = cohort.codes["medication"].multi_hot(cohort.n_medications)[scored]
    return best_threshold(target, np.asarray(scores)[scored], cohort.patient_of_visit[scored], protocol.aggregation)


def best_threshold(
    target: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    patient: NDArray[np.integer],
    aggregation: Aggregation = "patients",
) -> float:
    """:func:`tune_threshold` of visits: the one of :data:`THRESHOLDS` with the highest mean Jaccard.

    Args:
        target: ``(V, M)`` bool.
        probabilities: ``(V, M)``.
        patient: ``(V,)`` whose visit.
        aggregation: how visits are averaged.
    """
    weight = np.ones(len(target))
    if aggregation == "patients":
        weight /= np.bincount(patient)[patient]
    # Hits and set sizes at every threshold at once: each score falls into one cell between two candidates.
    V, n = len(target), len(THRESHOLDS)
    # 32-bit scores are compared as they are, so that 0.4 does not fall below 0.4.
    cell = np.searchsorted(THRESHOLDS.astype(probabilities.dtype), probabilities, side="right")
    key = np.arange(V)[:, None] * (n + 1) + cell

    def above(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        counts = np.bincount(key[chosen], minlength=V * (n + 1)).reshape(V, n + 1)
        return counts[:, ::-1].cumsum(1)[:, ::-1][:, 1:]

    hits, size = above(target), above(np.ones_like(target))
    union = size + target.sum(1)[:, None] - hits
    jaccard = weight @ np.divide(hits, union, out=np.zeros(hits.shape), where=union > 0)
    best = np.flatnonzero(jaccard >= jaccard.max() - 1e-12)
    return float(THRESHOLDS[best[np.argmin(np.abs(THRESHOLDS[best] - 0.5))]])


# -- what training needs of a task -------------------------------------------------------------------------------------


class Exam:
    """The visit task on one cohort and split.

    Args:
        cohort: all patients.
        split_seed: of the split; ``None`` for file order.
        protocol: its ``split`` and ``selection`` are followed.
    """

    def __init__(self, cohort: Cohort, split_seed: int | None, protocol: Protocol = HOUSE) -> None:
        self.cohort = cohort
        self.split_seed = None if split_seed is None else protocol.split_seed(split_seed)
        self.split: Split = split_patients(cohort.n_patients, self.split_seed)
        self.selection = protocol.selection
        self._chosen = cohort.select(self.split.validation if self.selection == "validation" else self.split.test)

    @property
    def sees(self) -> dict[str, Any]:
        """All that training sees of the protocol: part of a run's key."""
        return {"split_seed": self.split_seed, "selection": self.selection}

    @property
    def changes(self) -> dict[str, Any]:
        """What of :attr:`sees` is not as in the house, for the run's name."""
        found: dict[str, Any] = {} if self.selection == "validation" else {"selection": self.selection}
        if self.split_seed != 0:
            found["split_seed"] = "file-order" if self.split_seed is None else self.split_seed
        return found

    graph = None
    """The visit task has none."""

    @property
    def n_train(self) -> int:
        """Number of training patients, by which settings are chosen."""
        return len(self.split.train)

    @property
    def data(self) -> Cohort:
        """What a network is prepared and trained on."""
        return self.cohort

    @property
    def train(self) -> NDArray[np.int64]:
        """Training patients."""
        return self.split.train

    def rows(self, network: Recommender, label: str) -> NDArray[np.int64]:
        """Training patients who offer a target.

        Raises:
            MedrecError: nobody does.
        """
        rows = self.split.train
        if network.needs_history:
            rows = rows[np.diff(self.cohort.visit_offsets)[rows] > 1]
        if len(rows) == 0:
            raise MedrecError(
                f"{label} learns from patients with two visits or more, and none of the {len(self.split.train)} "
                f"training patients of cohort {self.cohort.name!r} has them. Take another cohort."
            )
        return rows

    def fit(self, estimator: Estimator) -> Estimator:
        """Fit on the training patients."""
        return estimator.fit(self.cohort.select(self.split.train))

    def judge(self, network: Recommender, context: Context, device: torch.device) -> Judgement:
        """How epochs are chosen, and the five columns for the history.

        By Jaccard; while the sets are degenerate (:meth:`Answers.degenerate`) by average precision, which needs no
        threshold, and below every epoch whose sets are not.
        """
        answers = Answers.of(self._chosen, predict(network, self._chosen, context, device))
        found = answers.evaluate(context.ddi.cpu().numpy()).summary()
        degenerate = answers.degenerate(None) is not None
        order = (0.0, found["prauc"]) if degenerate else (1.0, found["jaccard"])
        row = {name: found[name] for name in COLUMNS} | {"degenerate": float(degenerate)}
        return Judgement(order, found["jaccard"], row)

    def answers(self, system: Estimator | Recommender, context: Context, device: torch.device) -> dict[str, Answers]:
        """What the fitted system says about validation and test patients."""
        return {
            part: Answers.of(chosen, predict(system, chosen, context, device), patients)
            for part, patients in (("validation", self.split.validation), ("test", self.split.test))
            for chosen in (self.cohort.select(patients),)
        }

    def results(
        self, system: Estimator | Recommender, answers: Mapping[str, Answers], ddi: NDArray[np.bool_]
    ) -> dict[str, Any]:
        """Test results at the system's own and at the tuned threshold, for ``metrics.json``.

        Besides: whether the tuned sets are ``degenerate``, and how ``popularity`` does at the same visits.
        """
        found = results(answers, ddi, system.own_threshold)
        threshold = threshold_of(answers, system.own_threshold, HOUSE)
        popular = Popularity().fit(self.cohort.select(self.split.train))
        test = answers["test"]
        sets = np.tile(popular.predict(self.cohort.select(self.split.test[:1]))[0], (len(test.target), 1))
        same = replace(test, prediction=Prediction(None, sets, test.prediction.scored, tunable=False))
        popularity = same.evaluate(ddi).summary()["jaccard"]
        return found | {
            "degenerate": test.degenerate(threshold),
            "popularity": popularity,
            "below_popularity": bool(found["tuned"]["jaccard"] < popularity),
        }


def results(answers: Mapping[str, Answers], ddi: NDArray[np.bool_], own: float | None) -> dict[str, Any]:
    """Test results at the own and at the tuned threshold.

    Args:
        answers: for ``"validation"`` and ``"test"``.
        ddi: ``(M, M)`` bool.
        own: the system's own threshold, ``None`` where it has none.
    """
    tuned = answers["validation"].tuned_threshold()
    tuned = own if tuned is None else tuned
    found: dict[str, Any] = {}
    for name, value, cut in (("own", own, None), ("tuned", tuned, tuned)):
        found[name] = {"threshold": value, **answers["test"].evaluate(ddi, cut).summary()}
    if own is not None and answers["validation"].counted().any():
        # By this the settings of an estimator are chosen; networks have their history.
        found["tuned"]["validation"] = answers["validation"].evaluate(ddi, tuned).summary()["jaccard"]
    return found


def threshold_of(answers: Mapping[str, Answers], own: float | None, protocol: Protocol) -> float | None:
    """The number at which a protocol cuts scores; ``None``: the system's own sets.

    Args:
        answers: of a run.
        own: the system's own threshold.
        protocol: whose ``threshold`` is followed.
    """
    if not answers["test"].prediction.tunable or protocol.threshold == "own":
        return None
    if protocol.threshold == "tuned":
        tuned = answers["validation"].tuned_threshold(protocol)
        return own if tuned is None else tuned
    return float(protocol.threshold)


def evaluation(
    answers: Mapping[str, Answers], ddi: NDArray[np.bool_], own: float | None, protocol: Protocol = HOUSE
) -> Evaluation:
    """Test results of a run under a protocol, a function of its stored scores."""
    return answers["test"].evaluate(ddi, threshold_of(answers, own, protocol), protocol)


def with_threshold(protocol: Protocol, threshold: Threshold | None) -> Protocol:
    """The protocol, cut at another threshold where one is given.

    Raises:
        MedrecError: it is neither a word for one nor a number from 0 to 1.
    """
    return protocol if threshold is None else replace(protocol, threshold=checked_threshold(threshold))


def predictions(
    answers: Mapping[str, Answers], cohort: Cohort, own: float | None, protocol: Protocol = HOUSE
) -> pl.DataFrame:
    """One row for each test visit and medication, see :meth:`medrec.runs.Run.predictions`."""
    found = answers["test"]
    sets, scores = found.sets(threshold_of(answers, own, protocol)), found.prediction.scores
    n, M = found.target.shape
    visit = cohort.visit_offsets[found.patient] + found.number
    return pl.DataFrame(
        {
            "patient": np.repeat(found.patient, M),
            "visit": np.repeat(visit, M),
            "class": np.tile(np.array(cohort.vocab["medication"].codes), n),
            "score": pl.Series([None] * (n * M), dtype=pl.Float64) if scores is None else scores.ravel().astype(float),
            "recommended": (sets & found.prediction.scored[:, None]).ravel(),
            "prescribed": found.target.ravel(),
        }
    ).filter(np.repeat(found.prediction.scored, M))
