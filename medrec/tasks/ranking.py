r"""The ranking task: an order of medications for each patient, compared with what the patient was given afterwards.

**What is seen and what is asked.**  *Temporal* (house): training sees all visits of training patients and the earlier
visits of validation and test patients, those of the visit task with the same split seed; asked is the last visit of
these.  A patient with one visit has no past: he is left out, and counted.  *Hold-out* (the ranking papers): of each
patient's medications a fifth is held out for testing and a tenth of the rest for validation, drawn by the split seed;
training sees the others.  Both shares are rounded, halves up, so that somebody with fewer than three medications
offers no target.

**Measures.**  Patient ``u`` has targets :math:`Y_u` and a list of all ``M`` medications by descending score; equal
scores stand in the order of ids, lowest first.

.. math::
    \mathrm{Recall@}K = \frac{\sum_{r \le K} \mathrm{hit}_r}{|Y_u|} \qquad
    \mathrm{NDCG@}K = \frac{\sum_{r \le K} \mathrm{hit}_r / \log_2(r + 1)}
                           {\sum_{r \le \min(|Y_u|, K)} 1 / \log_2(r + 1)}

with K = 10 and 20; a list that is shorter than K is taken whole.  The mean goes over patients with targets; the others
are left out, and counted.  Epochs are chosen by NDCG@20.

**Both halves of the field in one table.**  :func:`rank_visits` lets a visit system into the ranking table by its
scores at the same last visits, :func:`sets_of_ranker` lets a ranker into the visit table by a tuned number of
medications.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
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
from medrec.graphs.interactions import Interactions
from medrec.graphs.knowledge import SeenCodes
from medrec.models.base import Judgement, Prediction, Ranker, RankingEstimator
from medrec.tasks import visits
from medrec.tasks.evaluation import Evaluation, Measures
from medrec.types import MedrecError

Kind = Literal["temporal", "hold-out"]
LENGTHS = (10, 20)
"""K: how much of a list is looked at."""
COLUMNS: dict[str, str] = {
    "recall_10": "Recall@10",
    "recall_20": "Recall@20",
    "ndcg_10": "NDCG@10",
    "ndcg_20": "NDCG@20",
}
"""The four columns and how tables head them."""
SELECTION = "ndcg_20"
"""By which epochs are chosen."""
GROUPS = ("all",)
"""Patients are not told apart."""
MEASURES = Measures(columns=COLUMNS, averaged=tuple(COLUMNS), pooled={}, groups=GROUPS, metrics=tuple(COLUMNS))


@dataclass(frozen=True)
class Protocol:
    """Rules of an examination.

    ``kind`` and ``selection`` decide what training sees and are part of a run's key; ``masked`` and ``targets`` are
    options of evaluation, which is a function of stored scores and costs no training.

    Args:
        name: for captions and the command line.
        kind: what is seen and what is asked, see the module.
        selection: on whose targets the best epoch is chosen.
        masked: whether what the patient is known to have been given is neither listed nor counted as a target.
        targets: ``"all"``, or only the ``"new"`` ones, which the patient is not known to have been given; the same
            where ``masked``.
        source: where the rules stand.
    """

    name: str
    kind: Kind = "temporal"
    selection: Literal["validation", "test"] = "validation"
    masked: bool = False
    targets: Literal["all", "new"] = "all"
    source: str = ""


HOUSE = Protocol("house", source="this book: a chronic disease goes on, so that a known medication can be right")
HOLD_OUT = Protocol("hold-out", kind="hold-out", masked=True, source="released code of KGAT, KGIN, DiffRec, DiffKG")
PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        HOUSE,
        Protocol("new medications", masked=True, targets="new", source="as house, for what is prescribed anew"),
        HOLD_OUT,
    )
}
"""Named protocols."""


def house(sees: Mapping[str, Any]) -> Protocol:
    """The protocol by which the house judges a run: unmasked where it is temporal, masked where it is a hold-out.

    Args:
        sees: what training saw, as :attr:`Exam.sees` says and a run stores.
    """
    return HOLD_OUT if sees["kind"] == "hold-out" else HOUSE


# -- questions and answers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Questions:
    """Who is asked about, and what is right; ``U`` patients, ``M`` medications.

    Args:
        patient: ``(U,)`` places in the cohort.
        visit: ``(U,)`` the visit that is asked about, its place in the cohort; -1 in the hold-out.
        target: ``(U, M)`` bool, what the patient was given there, or what was held out.
        seen: ``(U, M)`` bool, what is known of the patient: medications of earlier visits; in the hold-out what was
            not held out, and for testing what was held out for validation as well.
    """

    patient: NDArray[np.int64]
    visit: NDArray[np.int64]
    target: NDArray[np.bool_]
    seen: NDArray[np.bool_]

    def answered(self, scores: NDArray[np.floating]) -> Answers:
        """With what a system says.

        Args:
            scores: ``(U, M)``.

        Raises:
            MedrecError: there is not one number for each patient and medication.
        """
        if scores.shape != self.target.shape or np.isnan(scores).any():
            what = "some are not numbers" if scores.shape == self.target.shape else f"there are {scores.shape}"
            raise MedrecError(f"A ranking needs {self.target.shape} scores, patients by medications; {what}.")
        return Answers(self.patient, self.visit, self.target, self.seen, scores)


@dataclass(frozen=True)
class Answers(Questions):
    """What a system said about patients, and what was right: all that evaluation needs.

    Args:
        scores: ``(U, M)``, higher is better.
    """

    scores: NDArray[np.floating]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For the run store; :meth:`from_arrays` takes them back."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Answers:
        """What :meth:`arrays` gave."""
        return cls(**arrays)

    @property
    def kind(self) -> Kind:
        """What was asked, see :class:`Protocol`."""
        return "hold-out" if (self.visit < 0).any() else "temporal"

    def asked(self, protocol: Protocol = HOUSE) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Targets that count, and medications that may be listed, both ``(U, M)`` bool.

        Raises:
            MedrecError: the protocol asks another kind of question.
        """
        if protocol.kind != self.kind:
            raise MedrecError(
                f"These answers are {self.kind}, and the protocol {protocol.name!r} is {protocol.kind}: training would "
                "have seen something else. Train with this protocol."
            )
        listed = ~self.seen if protocol.masked else np.ones_like(self.seen)
        return self.target & (~self.seen if protocol.targets == "new" else listed), listed

    def evaluate(self, protocol: Protocol = HOUSE) -> Evaluation:
        """What the order of the scores is worth, for each patient with targets.

        Args:
            protocol: what may be listed, and what counts.

        Raises:
            MedrecError: nobody has a target, or the protocol asks another kind of question.
        """
        target, listed = self.asked(protocol)
        counted = target.any(1)
        if not counted.any():
            raise MedrecError(
                f"None of the {len(target)} patients who are asked about has a target under the protocol "
                f"{protocol.name!r}. Take another split, or a cohort with more visits."
            )
        target, scores, hidden = target[counted], self.scores[counted], ~listed[counted]
        found = {}
        for name, measure in (("recall", metrics.recall_at_k), ("ndcg", metrics.ndcg_at_k)):
            for k in LENGTHS:
                # A list cannot be longer than the medications that there are.
                found[f"{name}_{k}"] = measure(target, scores, min(k, target.shape[1]), seen=hidden)
        n = int(counted.sum())
        return Evaluation(
            pl.DataFrame(
                {
                    "patient": self.patient[counted],
                    "group": [GROUPS[0]] * n,
                    "n_visits": np.ones(n, dtype=np.int64),
                    **{name: found[name] for name in COLUMNS},
                }
            ),
            MEASURES,
        )

    def degenerate(self) -> str | None:
        """``"one list for all"`` where everybody's medications stand in one order, otherwise ``None``."""
        places = self.places(np.ones_like(self.seen))
        return "one list for all" if len(places) > 1 and (places == places[0]).all() else None

    def places(self, listed: NDArray[np.bool_]) -> NDArray[np.int64]:
        """``(U, M)``: place of each medication in the patient's list, from 0; what is not listed comes last."""
        order = np.argsort(np.where(listed, -self.scores.astype(np.float64), np.inf), axis=1, kind="stable")
        return order.argsort(1)

    def best_size(self, protocol: Protocol = HOUSE) -> int:
        """The length at which lists have the highest mean Jaccard with the targets; of equals the smallest.

        Raises:
            MedrecError: nobody is asked about.
        """
        target, listed = self.asked(protocol)
        if len(target) == 0:
            raise MedrecError("The size of sets is tuned on validation patients, and none has an earlier visit.")
        order = self.places(listed).argsort(1)
        hits = np.take_along_axis(target, order, 1).cumsum(1)
        union = np.take_along_axis(listed, order, 1).cumsum(1) + target.sum(1)[:, None] - hits
        jaccard = np.divide(hits, union, out=np.zeros(hits.shape), where=union > 0).mean(0)
        return int(np.flatnonzero(jaccard >= jaccard.max() - 1e-12)[0]) + 1

    def sets(self, size: int, protocol: Protocol = HOUSE) -> NDArray[np.bool_]:
        """``(U, M)`` bool: the first ``size`` medications of each list."""
        _, listed = self.asked(protocol)
        return (self.places(listed) < size) & listed


def evaluation(
    answers: Mapping[str, Answers], ddi: NDArray[np.bool_], own: float | None, protocol: Protocol = HOUSE
) -> Evaluation:
    """Test results of a run under a protocol, a function of its stored scores.

    Args:
        answers: for ``"validation"`` and ``"test"``.
        ddi: of no matter here.
        own: likewise; an order has no threshold.
        protocol: what may be listed, and what counts.
    """
    return answers["test"].evaluate(protocol)


def with_threshold(protocol: Protocol, threshold: Any) -> Protocol:
    """The protocol; an order is cut nowhere, so that ``"own"`` and ``"tuned"`` are the same for a ranker.

    Raises:
        MedrecError: a number.
    """
    if threshold is None or checked_threshold(threshold) in ("own", "tuned"):
        return protocol
    raise MedrecError(f"A ranker has no threshold, so that none can be set to {threshold}. Leave it out.")


def predictions(
    answers: Mapping[str, Answers], cohort: Cohort, own: float | None, protocol: Protocol = HOUSE
) -> pl.DataFrame:
    """One row for each test patient and medication that may be listed, see :meth:`medrec.runs.Run.predictions`.

    ``recommended`` are the first medications of the list, as many as :meth:`Answers.best_size` says of validation
    patients; ``prescribed`` are the targets.  In the hold-out there is no ``visit`` (null).

    Args:
        answers: for ``"validation"`` and ``"test"``.
        cohort: whose patients they are.
        own: of no matter here.
        protocol: what may be listed, and what counts.
    """
    found = answers["test"]
    target, listed = found.asked(protocol)
    sets = found.sets(answers["validation"].best_size(protocol), protocol)
    n, M = target.shape
    return pl.DataFrame(
        {
            "patient": np.repeat(found.patient, M),
            "visit": np.repeat(found.visit, M),
            "class": np.tile(np.array(cohort.vocab["medication"].codes), n),
            "score": found.scores.ravel().astype(float),
            "recommended": sets.ravel(),
            "prescribed": target.ravel(),
        }
    ).with_columns(pl.when(pl.col("visit") >= 0).then(pl.col("visit")))[np.flatnonzero(listed.ravel())]


# -- what training needs of a task -------------------------------------------------------------------------------------

TESTED, CHOSEN = 0.2, 0.1
"""Share of a patient's medications that is held out for testing, and of the rest for validation."""


class Exam:
    """The ranking task on one cohort and split.

    Args:
        cohort: all patients.
        split_seed: of the split, or of the draw of medications; ``None`` for file order.
        protocol: its ``kind`` and ``selection`` are followed.

    Raises:
        MedrecError: too few patients; or a hold-out without a seed.
    """

    def __init__(self, cohort: Cohort, split_seed: int | None, protocol: Protocol = HOUSE) -> None:
        self.cohort = cohort
        self.split_seed = split_seed
        self.kind, self.selection = protocol.kind, protocol.selection
        if self.kind == "hold-out" and split_seed is None:
            raise MedrecError("The hold-out draws medications by chance and knows no file order; give a split seed.")

    @cached_property
    def _made(self) -> Made:
        """Made when asked for: a run is looked up without it."""
        make = _temporal if self.kind == "temporal" else _hold_out
        return make(self.cohort, self.split_seed)

    @property
    def split(self) -> Split:
        """Who trains, who selects, who is tested; in the hold-out everybody does all three."""
        return self._made[0]

    @property
    def graph(self) -> Interactions:
        """Who was given what at the visits that training sees."""
        return self._made[1]

    @property
    def seen(self) -> SeenCodes:
        """All codes of the visits that training sees, without what is held out."""
        return self._made[3]()

    @property
    def n_train(self) -> int:
        """Number of training patients, by which settings are chosen."""
        return len(split_patients(self.cohort.n_patients, self.split_seed).train)

    @property
    def sees(self) -> dict[str, Any]:
        """All that training sees of the protocol: part of a run's key."""
        return {"kind": self.kind, "split_seed": self.split_seed, "selection": self.selection}

    @property
    def changes(self) -> dict[str, Any]:
        """What of :attr:`sees` is not as in the house, for the run's name."""
        usual = {"kind": "temporal", "split_seed": 0, "selection": "validation"}
        found = {name: value for name, value in self.sees.items() if value != usual[name]}
        return found | ({"split_seed": "file-order"} if self.split_seed is None else {})

    @property
    def data(self) -> Interactions:
        """What a network is prepared and trained on."""
        return self.graph

    @property
    def train(self) -> NDArray[np.int64]:
        """Patients of whom training sees something; validation and test patients are among them."""
        return np.flatnonzero(self.graph.matrix.any(1))

    def questions(self, part: str) -> Questions:
        """What is asked of ``"validation"`` or ``"test"`` patients."""
        return self._made[2][part]

    def rows(self, network: Ranker, label: str) -> NDArray[np.int64]:
        """Patients who offer something to learn from: :attr:`train`.

        Raises:
            MedrecError: there is nobody.
        """
        rows = self.train
        if len(rows) == 0:
            raise MedrecError(f"{label} learns from medications, and cohort {self.cohort.name!r} offers none.")
        return rows

    def fit(self, estimator: RankingEstimator) -> RankingEstimator:
        """Fit on what training sees."""
        return estimator.fit(self.graph)

    def judge(self, network: Ranker, context: Context, device: torch.device) -> Judgement:
        """NDCG@20 by which epochs are chosen, and the four columns for the history."""
        found = self._answers(network, self.selection, context, device).evaluate(house(self.sees)).summary()
        value = found[SELECTION]
        return Judgement((value,), value, {name: found[name] for name in COLUMNS})

    def answers(
        self, system: Ranker | RankingEstimator, context: Context, device: torch.device | str
    ) -> dict[str, Answers]:
        """What the fitted system says about validation and test patients."""
        return {part: self._answers(system, part, context, device) for part in ("validation", "test")}

    def _answers(
        self, system: Ranker | RankingEstimator, part: str, context: Context, device: torch.device | str
    ) -> Answers:
        asked = self.questions(part)
        return asked.answered(system.rank(asked.patient, context, device))

    def results(
        self, system: Ranker | RankingEstimator, answers: Mapping[str, Answers], ddi: NDArray[np.bool_]
    ) -> dict[str, Any]:
        """Test results under the house's protocol, for ``metrics.json``; a ranker's one order is own and tuned alike.

        Returns:
            ``own`` and ``tuned`` as of other tasks; ``patients``, how many test patients were evaluated, and
            ``left_out``, how many were not, and why; whether everybody gets one order (``degenerate``), and NDCG@20 of
            the order by number of patients (``popularity``).
        """
        rules = house(self.sees)
        found: dict[str, Any] = {"threshold": None, **answers["test"].evaluate(rules).summary()}
        tuned = dict(found)
        if answers["validation"].asked(rules)[0].any():
            # By this the settings of an estimator are chosen; networks have their history.
            tuned["validation"] = answers["validation"].evaluate(rules).summary()[SELECTION]
        test = answers["test"]
        asked = len(test.patient)
        popular = np.broadcast_to(self.graph.popularity.astype(float), test.scores.shape)
        popularity = test.answered(popular).evaluate(rules).summary()[SELECTION]
        return {
            "own": found,
            "tuned": tuned,
            "degenerate": test.degenerate(),
            "popularity": popularity,
            "below_popularity": bool(tuned[SELECTION] < popularity),
            "patients": found["patients"],
            "left_out": {
                "without_past": len(self.split.test) - asked,
                "without_target": asked - found["patients"],
            },
        }


Made = tuple[Split, Interactions, dict[str, Questions], Callable[[], SeenCodes]]
"""The split, who was given what, what is asked of whom, and what gives all codes that training sees."""


def _temporal(cohort: Cohort, split_seed: int | None) -> Made:
    """Earlier visits are seen, last ones of validation and test patients are asked about."""
    split = split_patients(cohort.n_patients, split_seed)
    n_visits, last = np.diff(cohort.visit_offsets), cohort.visit_offsets[1:] - 1
    held = np.zeros(cohort.n_visits, dtype=bool)
    held[last[np.concatenate([split.validation, split.test])]] = True
    graph = Interactions.of(cohort, ~held, held)
    seen, given = graph.matrix, cohort.codes["medication"]
    found = {}
    for part, patients in (("validation", split.validation), ("test", split.test)):
        patient = patients[n_visits[patients] > 1]
        target = given.take(last[patient]).multi_hot(cohort.n_medications)
        found[part] = Questions(patient, last[patient], target, seen[patient])
    return split, graph, found, lambda: SeenCodes.of(cohort, ~held, held)


def _hold_out(cohort: Cohort, split_seed: int | None) -> Made:
    """Of each patient's medications some are held out; every patient trains, selects and is tested."""
    everybody = np.arange(cohort.n_patients)
    every, none = np.ones(cohort.n_visits, dtype=bool), np.zeros(cohort.n_visits, dtype=bool)
    given = Interactions.of(cohort, every, none)
    # Each patient's medications in random order: those that he was not given come last.
    draw = np.random.default_rng(split_seed).random(given.visits.shape)
    order = np.where(given.matrix, draw, 2).argsort(1)
    n = given.matrix.sum(1, keepdims=True)
    n_test = np.floor(TESTED * n + 0.5)
    n_both = n_test + np.floor(CHOSEN * (n - n_test) + 0.5)
    place = np.arange(cohort.n_medications)
    test, validation = np.zeros((2, *given.visits.shape), dtype=bool)
    np.put_along_axis(test, order, place < n_test, axis=1)
    np.put_along_axis(validation, order, (n_test <= place) & (place < n_both), axis=1)
    graph = given.hold_out(test | validation)
    nowhere = np.full(cohort.n_patients, -1)
    found = {
        "validation": Questions(everybody, nowhere, validation, graph.matrix),
        "test": Questions(everybody, nowhere, test, graph.matrix | validation),
    }
    split = Split(everybody, everybody, everybody, split_seed)
    return split, graph, found, lambda: SeenCodes.of(cohort, every, none, test | validation)


# -- both halves of the field in one table -----------------------------------------------------------------------------


def last_visits(answers: visits.Answers, cohort: Cohort) -> visits.Answers:
    """Answers about visits, of which only the last visits of patients with an earlier one are kept.

    Args:
        answers: about all visits of some patients of the cohort.
        cohort: all patients.
    """
    kept = (answers.number > 0) & (answers.number == np.diff(cohort.visit_offsets)[answers.patient] - 1)
    said = answers.prediction
    prediction = Prediction(
        None if said.scores is None else said.scores[kept], said.recommended[kept], said.scored[kept], said.tunable
    )
    return visits.Answers(prediction, answers.target[kept], answers.patient[kept], answers.number[kept])


def rank_visits(run: Any, cohort: Cohort) -> dict[str, Answers]:
    """A visit system in the ranking table, by its stored scores at the last visits that rankers are asked about.

    The same patients in the same order with the same targets as a temporal ranking of the same split; mind that a visit
    system also sees the codes of that visit.  ``evaluation(rank_visits(run, cohort), run.ddi(), None, protocol)`` is
    its row.

    Args:
        run: a :class:`medrec.runs.Run` of the visit task.
        cohort: the one that it was trained on.

    Returns:
        Answers about ``"validation"`` and ``"test"`` patients.

    Raises:
        MedrecError: the system gives no scores, or is silent at some of these visits; or other records.
    """
    _same_records(run, cohort)
    exam = Exam(cohort, run.config["sees"]["split_seed"])
    found = {}
    for part, answers in run.answers.items():
        asked, said = exam.questions(part), last_visits(answers, cohort)
        if said.prediction.scores is None or not said.prediction.scored.all():
            raise MedrecError(
                f"{run.key} gives no scores for the last visits of its patients, so that it orders no medications and "
                "has no place in a ranking. Leave it out."
            )
        assert np.array_equal(said.patient, asked.patient)
        found[part] = asked.answered(said.prediction.scores)
    return found


def sets_of_ranker(run: Any, cohort: Cohort) -> dict[str, visits.Answers]:
    """A ranker in the visit table: as many medications for everybody as were best on validation patients.

    The number is the one with the highest mean Jaccard at the last visits of validation patients (of equals the
    smallest), see :meth:`Answers.best_size`; it is the size of every set, ``recommended[0].sum()``.
    ``visits.evaluation(sets_of_ranker(run, cohort), run.ddi(), None, protocol)`` is its row.  It speaks of last visits
    only; other systems meet it there when their answers go through :func:`last_visits`.

    Args:
        run: a :class:`medrec.runs.Run` of the ranking task, temporal.
        cohort: the one that it was trained on.

    Returns:
        Answers of the visit task about ``"validation"`` and ``"test"`` patients, one visit each.

    Raises:
        MedrecError: a hold-out, which asks about no visit; or other records.
    """
    _same_records(run, cohort)
    size = run.answers["validation"].best_size(HOUSE)
    return {
        part: visits.Answers(
            Prediction(answers.scores, answers.sets(size), np.ones(len(answers.patient), dtype=bool), tunable=False),
            answers.target,
            answers.patient,
            cohort.visit_number[answers.visit],
        )
        for part, answers in run.answers.items()
    }


def _same_records(run: Any, cohort: Cohort) -> None:
    if cohort.content != run.config["cohort"]["content"]:
        raise MedrecError(f"{run.key} was trained on other records than this cohort {cohort.name!r}.")
