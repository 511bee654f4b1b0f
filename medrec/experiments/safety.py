r"""Safety after the fact: every visit system under a hard budget of interactions, and its lists with a promise.

*Budget.*  The list of a visit, at the tuned threshold, is cut to at most so many interacting pairs
(:mod:`medrec.tasks.budget`), exactly.  What does a system lose in accuracy, against its own lists without a budget?
Beside it, visit by visit, what the simple rule loses against the exact one.

*Promise.*  A threshold is chosen so that nine of ten patients have the promised share of their prescription on the
list (:mod:`medrec.tasks.conformal`).  Validation and test patients, whom no weight has seen, are halved twenty times:
one half chooses, the other is looked at, each patient at one visit.  The promise is for patients who are alike; the
same threshold is tried where they are not: chosen on younger patients and tried on older ones, chosen at first visits
and tried at last ones.

``python -m medrec.experiments.safety [--cohort NAME] [--seeds N]`` trains what the run store lacks and keeps the rows
(:mod:`medrec.lab.kept`).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec.data import load_cohort
from medrec.data.cohort import Cohort
from medrec.lab import kept
from medrec.models import registry
from medrec.models.base import Prediction
from medrec.progress import bar
from medrec.runs import Run
from medrec.tasks.budget import Rule, within_budget, worth
from medrec.tasks.conformal import covered, needed, promised_threshold
from medrec.tasks.evaluation import Evaluation, bootstrap, paired_difference
from medrec.tasks.visits import Answers
from medrec.training import train

STUDY = "safety"
COMMAND = f"python -m medrec.experiments.{STUDY}"
UNSCORED = "last-visit"
"""Its medications are given or not."""
BUDGETS = (0, 1, 2, 4, 8, 16)
"""Interacting pairs that a list may hold."""
PROMISE = 0.9
"""Of patients whose lists hold what was promised."""
PROMISED = (0.8, 1.0)
"""Share of the prescription that a list is promised to hold."""
SPLITS = 20
"""Halvings of the patients."""
SHOWN = ("jaccard", "ddi_rate", "n_medications")
"""Measures of lists under a budget."""


def trained(name: str, cohort: Cohort, seeds: int) -> list[Run]:
    """Runs of a system as it is declared; one where no seed matters."""
    return [train(name, cohort, seed=seed) for seed in range(seeds if registry.get(name).is_network else 1)]


def limited(run: Run, budget: int | None, rule: Rule = "exact") -> Answers:
    """A run's lists of the test patients at the tuned threshold, with at most so many interacting pairs each.

    Args:
        run: of a system that gives scores.
        budget: ``None``: the lists as they are.
        rule: see :mod:`medrec.tasks.budget`.
    """
    answers: Answers = run.answers["test"]
    scores, sets = answers.prediction.scores, answers.sets(run.threshold)
    assert scores is not None, "only systems that give scores are asked"
    kept_sets = sets if budget is None else within_budget(scores, sets, run.ddi(), budget, rule)
    return replace(answers, prediction=Prediction(scores, kept_sets, answers.prediction.scored, tunable=False))


def under_budgets(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """Rows of one system for each budget, and one without: levels, and changes against the lists without."""
    free = [_evaluated(run, None) for run in runs]
    for budget in (None, *BUDGETS):
        found = free if budget is None else [_evaluated(run, budget) for run in runs]
        levels = bootstrap(found)
        changes = None if budget is None else paired_difference(free, found)
        for metric in SHOWN:
            row = {"budget": budget, "metric": metric, "value": levels[metric].value}
            row |= {"low": levels[metric].low, "high": levels[metric].high}
            if changes is not None:
                change = changes[metric]
                row |= {"delta": change.value, "delta_low": change.low, "delta_high": change.high}
            yield row


def rules(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """What the simple rule loses against the exact one, over the visits whose lists a budget cuts."""
    for budget in BUDGETS:
        cut = alike = 0
        lost: list[NDArray[np.float64]] = []
        for run in runs:
            free, exact, greedy = limited(run, None), limited(run, budget), limited(run, budget, "greedy")
            scores, sets = free.prediction.scores, free.prediction.recommended
            assert scores is not None, "only systems that give scores are asked"
            changed = (exact.prediction.recommended != sets).any(1) & free.counted()
            best, simple = (worth(scores, a.prediction.recommended)[changed] for a in (exact, greedy))
            lost.append(1 - simple / best)
            cut, alike = cut + int(changed.sum()), alike + int((lost[-1] < 1e-9).sum())
        gaps = np.concatenate(lost)
        yield {
            "budget": budget,
            "visits": cut,
            "as_good": alike / cut if cut else None,
            "mean_loss": float(gaps.mean()) if cut else None,
            "largest_loss": float(gaps.max()) if cut else None,
        }


def promises(runs: Sequence[Run], cohort: Cohort) -> Iterator[dict[str, Any]]:
    """Coverage and length of a system's lists, for patients who are alike, and for those who are not.

    Yields:
        ``promised`` share of the prescription; ``group`` (``alike``, ``older``, ``later``); ``coverage``, mean over the
        trials, ``least`` and ``most``; ``band``, how far a trial may lie from the promise by chance, 95 %, of the
        patients who choose and of those who are looked at together; ``within``, trials that lie in it or above; mean
        ``length`` of the lists; ``trials`` and ``patients`` looked at in one.
    """
    for share in PROMISED:
        found: dict[str, list[Trial]] = {"alike": [], "older": [], "later": []}
        for run in runs:
            first, last = Asked.of(run, "first"), Asked.of(run, "last")
            young = younger(cohort, last.patient)
            found["older"].append(last.trial(share, last, young, ~young))
            for split in range(SPLITS):
                half = np.random.default_rng(split).permutation(len(young)) < len(young) // 2
                found["alike"].append(last.trial(share, last, half, ~half))
                found["later"].append(last.trial(share, first, half, ~half & (last.number > 0)))
        for group, trials in found.items():
            coverage = np.array([trial.coverage for trial in trials])
            band = np.array([trial.band for trial in trials])
            yield {
                "promised": share,
                "group": group,
                "coverage": float(coverage.mean()),
                "least": float(coverage.min()),
                "most": float(coverage.max()),
                "band": float(band.mean()),
                "within": int((coverage >= PROMISE - band).sum()),
                "length": float(np.mean([trial.length for trial in trials])),
                "trials": len(trials),
                "patients": round(np.mean([trial.patients for trial in trials])),
            }


@dataclass(frozen=True)
class Trial:
    """A threshold on patients who had no part in its choice.

    Args:
        coverage: share of them whose lists hold what was promised.
        length: mean, of their lists.
        patients: how many they are.
        chose: how many chose the threshold.
    """

    coverage: float
    length: float
    patients: int
    chose: int

    @property
    def band(self) -> float:
        """How far coverage may lie from the promise by chance: both halves are samples."""
        return 1.96 * math.sqrt(PROMISE * (1 - PROMISE) * (1 / self.patients + 1 / self.chose))


@dataclass(frozen=True)
class Asked:
    """Validation and test patients of a run, each at one visit that the system can score.

    Args:
        scores: ``(P, M)``.
        target: ``(P, M)`` bool.
        patient: ``(P,)``, ascending within validation and within test.
        number: ``(P,)`` of the visit.
    """

    scores: NDArray[np.floating]
    target: NDArray[np.bool_]
    patient: NDArray[np.int64]
    number: NDArray[np.int64]

    @classmethod
    def of(cls, run: Run, at: Literal["first", "last"]) -> Asked:
        """The first or the last such visit of each."""
        parts = []
        for part in ("validation", "test"):
            answers: Answers = run.answers[part]
            assert answers.prediction.scores is not None, "only systems that give scores are asked"
            rows = np.flatnonzero(answers.counted() & answers.target.any(1))
            rows = rows[np.argsort(answers.number[rows] * (1 if at == "first" else -1), kind="stable")]
            rows = rows[np.unique(answers.patient[rows], return_index=True)[1]]
            arrays = (answers.prediction.scores, answers.target, answers.patient, answers.number)
            parts.append([array[rows] for array in arrays])
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def trial(self, share: float, by: Asked, chose: NDArray[np.bool_], looked: NDArray[np.bool_]) -> Trial:
        """The threshold that some patients of ``by`` choose, on others of these.

        Args:
            share: of the prescription that is promised.
            by: at the visits that choose.
            chose: ``(P,)`` bool, who chooses.
            looked: ``(P,)`` bool, who is looked at.
        """
        threshold = promised_threshold(needed(by.scores[chose], by.target[chose], share), PROMISE)
        scores, target = self.scores[looked], self.target[looked]
        held = covered(needed(scores, target, share), threshold)
        length = float((scores >= threshold).sum(1).mean())
        return Trial(float(held.mean()), length, len(held), int(chose.sum()))


def younger(cohort: Cohort, patients: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these patients are younger than their median, by the start of the age band; unknown is young."""
    age = np.array([int(band.rstrip("+").partition("-")[0] or 0) for band in cohort.age_band[patients].tolist()])
    return np.asarray(age < np.median(age))


def _evaluated(run: Run, budget: int | None) -> Evaluation:
    return limited(run, budget).evaluate(run.ddi())


def asked() -> tuple[str, ...]:
    """Names of the visit systems that give scores, by which a list can be cut or lengthened."""
    return tuple(system.name for system in registry.systems() if system.task == "visits" and system.name != UNSCORED)


def tables(cohort: Cohort, seeds: int, systems: Sequence[str]) -> dict[str, pl.DataFrame]:
    """All rows.

    Args:
        cohort: all patients; the house's split.
        seeds: trainings of each network.
        systems: which.
    """
    budgets, promised, compared = [], [], []
    for name in bar(systems, desc="safety", unit="system"):
        runs = trained(name, cohort, seeds)
        label, warnings = registry.get(name).label, dict.fromkeys(run.warning for run in runs if run.warning)
        about = {"system": name, "label": label, "warning": "; ".join(warnings)}
        budgets += [{**about, **row} for row in under_budgets(runs)]
        promised += [{**about, **row} for row in promises(runs, cohort)]
        compared += [{"system": name, "label": label, **row} for row in rules(runs[:1])]
    return {
        "budgets": pl.DataFrame(budgets, infer_schema_length=None),
        "promises": pl.DataFrame(promised, infer_schema_length=None),
        "rules": pl.DataFrame(compared, infer_schema_length=None),
    }


def read(cohort: Cohort | str | None = None) -> kept.Kept:
    """The kept rows, those of ``synthetic`` where there are none of the cohort."""
    return kept.read(STUDY, cohort, default="synthetic", command=COMMAND)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, write the rows."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Visit systems under a budget, and with a promise.")
    parser.add_argument("--cohort", default="synthetic", help="default synthetic")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network; default 3")
    options = parser.parse_args(arguments)
    start, cohort = time.perf_counter(), load_cohort(options.cohort)
    systems = [f"{name}/paper" for name in asked()]
    folder = kept.save(
        STUDY,
        tables(cohort, options.seeds, asked()),
        cohort=cohort,
        command=f"{COMMAND} --cohort {cohort.name} --seeds {options.seeds}",
        code=kept.code_of("medrec.experiments.safety", "metrics", "tasks", systems=systems),
        systems=systems,
        seconds=time.perf_counter() - start,
        more={"seeds": options.seeds},
    )
    print(folder)


if __name__ == "__main__":
    main()
