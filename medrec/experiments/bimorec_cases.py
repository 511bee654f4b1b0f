"""Figure 7 of BiMoRec as a rate, and as cases by rule: are classes with similar molecules taken for one another?

For an ordered pair of classes (m, m') with similar molecules, at a visit with m given and m' not, a system *errs* if it
scores m' at least as high as m.  Errors are pooled over pairs and visits, intervals come from resampled patients and
seeds.  **Control pairs** have dissimilar molecules and, pair by pair, the most similar frequencies among the training
patients: a system that is merely better errs less on both.

``python -m medrec.experiments.bimorec_cases [--cohort NAME] [--seeds N]`` takes the runs from the store, trains what
it lacks, and keeps the rows (:mod:`medrec.lab.kept`).  Single patients are kept of synthetic and demo records only,
chosen by rules that were fixed before any training: by the hash of their number, by the largest gain, and by the
largest loss.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import normalize

from medrec.chem.molecules import Molecules, build
from medrec.chem.similarity import Fingerprint, tanimoto
from medrec.data import load_cohort, privacy
from medrec.data.cohort import Cohort, titled
from medrec.data.split import split_patients
from medrec.experiments.bimorec_grids import ABLATION, FLAT, FULL, REFERENCE, SHUFFLED
from medrec.fit import seeded
from medrec.lab import kept
from medrec.metrics import jaccard
from medrec.models import registry
from medrec.models.base import Row
from medrec.runs import Run
from medrec.tasks.visits import predict
from medrec.training import load_system, train

STUDY = "bimorec_cases"
COMMAND = f"python -m medrec.experiments.{STUDY}"
_ABLATED = {row.key: row for row in ABLATION}
RIVAL = _ABLATED["wo_TE"].label
"""What the figure compares with, most likely; it calls it "A+B"."""
SYSTEMS = (FULL, _ABLATED["wo_T"], FLAT, SHUFFLED, _ABLATED["wo_TE"], Row("lr", "LR", "lr"))
"""Whose errors are counted: the full model, no pre-training, pre-training without a third dimension, molecules of
other medications, no molecule at all, and a regression on codes."""

SIMILAR, VERY_SIMILAR, SHARED, CONTROL, TWINS = "similar", "very similar", "one molecule", "control", "planted twins"
KINDS = (SIMILAR, VERY_SIMILAR, SHARED, CONTROL, TWINS)
"""Kinds of pairs.  ``very similar``: at least 0.7, or one path fingerprint.  ``one molecule``: classes that hold the
same structure.  ``planted twins``: the two classes of the planted shape, on cohorts that have it."""
BEYOND = "similar - control"
"""One more kind: the difference of two rates."""
ALIKE, VERY_ALIKE, UNLIKE = 0.5, 0.7, 0.2
"""Tanimoto similarities of Morgan fingerprints: similar from, very similar from, controls below."""
FEWEST = 10
"""Fewer pairs or patients than this are no rate.  Planted twins are one pair in two orders by design."""
VISITS = ("all visits", "later visits")
"""First visits use no molecule."""
RULES = ("by hash", "largest gain", "largest loss")
"""How patients are chosen, as many by each rule."""
N_CASES = 5
N_CLASSES = 4
"""Classes that are kept of a case: those on which the full model and its rival differ most."""
CASE = ("atropine", "ipratropium")
"""The two drugs of the paper's figure."""


_NUMBERS = {"probability": pl.Float64, "low": pl.Float64, "high": pl.Float64, "jaccard": pl.Float64}
_CHOSEN = {"rule": pl.String, "place": pl.Int64, "patient": pl.Int64, "visit": pl.Int64, "class": pl.String}
_CHOSEN |= {"given": pl.Boolean, "label": pl.String} | _NUMBERS
_NEIGHBOURS = {"label": pl.String, "stage": pl.String, "seed": pl.Int64, "of": pl.String, "other": pl.String}
_NEIGHBOURS |= {"rank": pl.Int64, "among": pl.Int64}


# -- pairs ---------------------------------------------------------------------------------------------------------


def class_similarity(molecules: Molecules, fingerprint: Fingerprint = "morgan") -> NDArray[np.float64]:
    """Largest Tanimoto similarity of two different structures of two classes.

    Args:
        molecules: of the ``M`` classes.
        fingerprint: see :data:`medrec.chem.similarity.FINGERPRINTS`.

    Returns:
        ``(M, M)``, symmetric; 0 where a class has no molecule.
    """
    alike = tanimoto(molecules.smiles, fingerprint)
    np.fill_diagonal(alike, 0)
    own = molecules.average.numpy() > 0
    to_class = np.stack([alike[row].max(0, initial=0) for row in own])  # (M, n)
    return np.stack([to_class[:, row].max(1, initial=0) for row in own], axis=1)


def ordered_pairs(
    codes: Sequence[str], molecules: Molecules, frequency: NDArray[np.integer]
) -> dict[str, NDArray[np.intp]]:
    """Pairs of classes of different ATC level-2 groups by how alike their molecules are, and matched controls.

    Args:
        codes: ATC level-3 classes.
        molecules: their structures.
        frequency: ``(M,)`` how many training visits have each class.

    Returns:
        For each of the first four of :data:`KINDS` the ordered pairs ``(K, 2)``; classes that no training visit has
        take no part.  There is one control for each similar pair, none of them used twice.
    """
    morgan, path = class_similarity(molecules), class_similarity(molecules, "path")
    own = (molecules.average > 0).int()
    shared = (own @ own.T).numpy() > 0
    group = np.array([code[:3] for code in codes])
    used = (np.asarray(frequency) > 0) & (own.sum(1).numpy() > 0)
    allowed = (group[:, None] != group) & used[:, None] & used
    similar = np.argwhere(allowed & ~shared & (morgan >= ALIKE))
    unlike = np.argwhere(allowed & ~shared & (morgan < UNLIKE))
    return {
        SIMILAR: similar,
        VERY_SIMILAR: np.argwhere(allowed & ~shared & ((morgan >= VERY_ALIKE) | (path == 1))),
        SHARED: np.argwhere(allowed & shared),
        CONTROL: matched(similar, unlike, frequency),
    }


def matched(pairs: NDArray[np.intp], among: NDArray[np.intp], frequency: NDArray[np.integer]) -> NDArray[np.intp]:
    """For each pair another one of the most similar frequencies, the sum of all differences of logarithms least.

    Args:
        pairs: ``(K, 2)``.
        among: ``(L, 2)`` candidates, at least K; each is taken once at most.
        frequency: ``(M,)``, all positive for the classes of the pairs.
    """
    if not len(pairs):
        return pairs
    size = np.log(np.maximum(frequency, 1))
    cost = np.abs(size[pairs][:, None] - size[among][None]).sum(2)
    _, taken = linear_sum_assignment(cost)
    return among[taken]


# -- errors --------------------------------------------------------------------------------------------------------


def confusions(
    scores: NDArray[np.floating], given: NDArray[np.bool_], pairs: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Wrong orders of each visit, and orders that could be wrong.

    Args:
        scores: ``(V, M)``.
        given: ``(V, M)``.
        pairs: ``(K, 2)``, (m, m'): a case is a visit with m given and m' not; a tie is an error.

    Returns:
        ``(V,)`` errors and ``(V,)`` cases.
    """
    m, other = pairs.T
    cases = given[:, m] & ~given[:, other]
    wrong = cases & (scores[:, other] >= scores[:, m])
    return wrong.sum(1), cases.sum(1)


@dataclass(frozen=True)
class Counts:
    """Errors of one system on one kind of pairs.

    Args:
        wrong: ``(S, P)`` for each training seed and test patient.
        cases: ``(P,)``.
    """

    wrong: NDArray[np.int64]
    cases: NDArray[np.int64]

    def rate(self) -> float:
        """Pooled over patients, mean over seeds."""
        return float(self.wrong.sum(1).mean() / self.cases.sum())

    def draws(self, weights: NDArray[np.int64], seeds: NDArray[np.intp]) -> NDArray[np.float64]:
        """The rate in each resample.

        Args:
            weights: ``(R, P)`` how often each patient is drawn.
            seeds: ``(R, S)`` which seeds are.
        """
        rates = (weights @ self.wrong.T) / np.maximum(weights @ self.cases, 1)[:, None]
        return np.take_along_axis(rates, seeds, axis=1).mean(1)


def rows(
    counts: dict[str, dict[str, Counts]], n_pairs: dict[str, int], *, resamples: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
    """Rates, their difference to the controls, and both against the full model, with 95 % intervals.

    Args:
        counts: by label, then by kind of pairs; :data:`~medrec.experiments.bimorec_grids.REFERENCE` among them.
        n_pairs: of each kind.
        resamples: of patients (the same for all systems) and of seeds (drawn for each).
        seed: of the draws.

    Returns:
        ``label``, ``kind``, ``pairs``, ``cases``, ``patients`` (with a case); ``value``, ``low``, ``high``; ``delta``,
        ``delta_low``, ``delta_high`` against the full model; empty where pairs or patients are under :data:`FEWEST`.
        Kind :data:`BEYOND` is the rate of similar pairs minus that of their controls.
    """
    rng = np.random.default_rng(seed)
    cases = {kind: of.cases for kind, of in counts[REFERENCE].items()}
    P = len(next(iter(cases.values())))
    weights = rng.multinomial(P, np.full(P, 1 / P), size=resamples)
    enough = {
        kind: (kind == TWINS or n_pairs[kind] >= FEWEST) and (of > 0).sum() >= FEWEST for kind, of in cases.items()
    }
    found: dict[tuple[str, str], tuple[float, NDArray]] = {}
    for label, kinds in counts.items():
        S = len(next(iter(kinds.values())).wrong)
        seeds = rng.integers(0, S, (resamples, S))
        for kind, of in kinds.items():
            if enough[kind]:
                found[label, kind] = of.rate(), of.draws(weights, seeds)
        if (label, SIMILAR) in found and (label, CONTROL) in found:
            (a, drawn_a), (b, drawn_b) = found[label, SIMILAR], found[label, CONTROL]
            found[label, BEYOND] = a - b, drawn_a - drawn_b
    table = []
    for label in counts:
        for kind in (*cases, BEYOND):
            row: dict[str, Any] = {"label": label, "kind": kind}
            if kind in cases:
                row |= {
                    "pairs": n_pairs[kind],
                    "cases": int(cases[kind].sum()),
                    "patients": int((cases[kind] > 0).sum()),
                }
            if (label, kind) in found:
                value, drawn = found[label, kind]
                base, base_drawn = found[REFERENCE, kind]
                row |= {"value": value, **_ends("", drawn)}
                row |= {"delta": value - base, **_ends("delta_", drawn - base_drawn)}
            table.append(row)
    return table


def _ends(prefix: str, drawn: NDArray[np.float64]) -> dict[str, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {f"{prefix}low": float(low), f"{prefix}high": float(high)}


# -- cases ---------------------------------------------------------------------------------------------------------


def choose(name: str, patients: NDArray[np.integer], gain: NDArray[np.floating]) -> dict[str, NDArray[np.intp]]:
    """Places of the patients that each of :data:`RULES` chooses; the gain decides for two of them only.

    Args:
        name: of the cohort, which goes into the hash.
        patients: ``(P,)`` their numbers in the cohort.
        gain: ``(P,)`` of the full model over its rival; ties go to the smaller hash.
    """
    hashes = [hashlib.sha256(f"{name} {number}".encode()).hexdigest() for number in patients]
    by_hash = np.argsort(hashes)
    up = by_hash[np.argsort(-gain[by_hash], kind="stable")]
    down = by_hash[np.argsort(gain[by_hash], kind="stable")]
    return dict(zip(RULES, (by_hash[:N_CASES], up[:N_CASES], down[:N_CASES]), strict=True))


def case_rows(
    cohort: Cohort, numbers: NDArray[np.integer], scores: dict[str, NDArray], thresholds: dict[str, list[float]]
) -> list[dict[str, Any]]:
    """The last visit of chosen patients, class by class, as every system scores it.

    Patients with one visit are left out, because no molecule takes part in a first one.

    Args:
        cohort: the test patients.
        numbers: ``(P,)`` what they are called.
        scores: by label ``(S, V, M)``.
        thresholds: by label, one for each seed.

    Returns:
        ``rule``, ``place``, ``patient``, ``visit`` (its number, from 1), ``class``, ``given``, ``label``,
        ``probability``, ``low``, ``high`` (least and largest over seeds), ``jaccard`` (of the whole visit, mean over
        seeds, tuned thresholds).
    """
    privacy.require_shareable(cohort, "Cases")
    last = cohort.visit_offsets[1:] - 1
    there = np.flatnonzero(cohort.visit_number[last] > 0)
    visits = last[there]
    given = cohort.codes["medication"].multi_hot(cohort.n_medications)[visits]
    at_last = {label: of[:, visits] for label, of in scores.items()}
    worth = {
        label: np.mean([jaccard(given, p >= p.dtype.type(t)) for p, t in zip(of, thresholds[label], strict=True)], 0)
        for label, of in at_last.items()
    }
    codes, table = cohort.vocab["medication"].codes, []
    for rule, chosen in choose(cohort.name, numbers[there], worth[REFERENCE] - worth[RIVAL]).items():
        for place, i in enumerate(chosen):
            apart = np.abs(at_last[REFERENCE][:, i].mean(0) - at_last[RIVAL][:, i].mean(0))
            for m in np.argsort(-apart, kind="stable")[:N_CLASSES]:
                for label, of in at_last.items():
                    p = of[:, i, m].astype(float)
                    table.append(
                        {"rule": rule, "place": place + 1, "patient": int(numbers[there][i])}
                        | {"visit": int(cohort.visit_number[visits[i]]) + 1, "class": codes[m]}
                        | {"given": bool(given[i, m]), "label": label, "probability": p.mean()}
                        | {"low": p.min(), "high": p.max(), "jaccard": float(worth[label][i])}
                    )
    return table


# -- runs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cases:
    """What is kept of a cohort.

    Args:
        errors: as :func:`rows` gives them, with ``visits``.
        neighbours: ``label``, ``stage`` (untrained, pre-trained, trained), ``seed``, ``of``, ``other``, ``rank``,
            ``among``: where the other drug stands among the neighbours of the one.
        chosen: as :func:`case_rows` gives them; no rows for credentialed records.
        provenance: cohort, seeds, split; of kept rows all that :mod:`medrec.lab.kept` writes.
        note: of kept rows that are not current, see :attr:`medrec.lab.kept.Kept.note`.
    """

    errors: pl.DataFrame
    neighbours: pl.DataFrame
    chosen: pl.DataFrame
    provenance: Mapping[str, Any]
    note: str = ""

    @property
    def line(self) -> str:
        """Whose patients, how many, how many training seeds, whether by today's code: for captions."""
        cohort, seeds = self.provenance["cohort"], self.provenance["seeds"]
        return (
            f"{titled(cohort['name'], cohort['source'])}, {self.provenance['split']['test']} test patients, "
            f"{seeds} training seed{'s' * (seeds != 1)}" + (f", {self.note.rstrip('.').lower()}" if self.note else "")
        )


def collect(cohort: Cohort, seeds: int) -> Cases:
    """Errors of :data:`SYSTEMS` on the test patients of a cohort; runs come from the store, or are trained.

    Args:
        cohort: all patients.
        seeds: training seeds of the networks.
    """
    split = split_patients(cohort.n_patients, 0)
    test = cohort.select(split.test)
    given = test.codes["medication"].multi_hot(test.n_medications)
    later = test.visit_number > 0
    training = cohort.select(split.train).codes["medication"]
    frequency = np.bincount(training.values, minlength=cohort.n_medications)
    pairs: dict[str, NDArray[np.intp]] = {}
    counts: dict[str, dict[str, dict[str, Counts]]] = {visits: {} for visits in VISITS}
    neighbours = []
    drugs = build(cohort.vocab["medication"].codes, per_class=0)
    scores_of: dict[str, NDArray] = {}
    thresholds: dict[str, list[float]] = {}
    for system in SYSTEMS:
        runs = [
            train(system.system, cohort, variant=system.variant, settings=system.settings, seed=seed)
            for seed in registry.get(system.system).seeds(seeds)
        ]
        wrong: dict[tuple[str, str], list[NDArray]] = {}
        by_seed: list[NDArray] = []
        for run in runs:
            fitted, context = load_system(run)
            if not pairs:
                assert context.molecules is not None  # the full model, which comes first, needs them
                pairs = ordered_pairs(cohort.vocab["medication"].codes, context.molecules, frequency)
                pairs |= _twins(cohort)
            scores = predict(fitted, test, context).scores
            assert scores is not None
            by_seed.append(scores)
            for kind, of_kind in pairs.items():
                wrong_orders, cases = confusions(scores, given, of_kind)
                for visits, there in zip(VISITS, (np.ones_like(later), later), strict=True):
                    wrong.setdefault((visits, kind), []).append(_by_patient(wrong_orders * there, test))
                    counts[visits].setdefault(system.label, {})[kind] = Counts(
                        np.stack(wrong[visits, kind]), _by_patient(cases * there, test)
                    )
            if hasattr(fitted, "molecule_encoder"):
                neighbours += [{"label": system.label, **row} for row in neighbour_ranks(run, cohort, drugs)]
        scores_of[system.label] = np.stack(by_seed)
        thresholds[system.label] = [run.threshold for run in runs if run.threshold is not None]
    chosen = [] if test.source == "credentialed" else case_rows(test, split.test, scores_of, thresholds)
    n_pairs = {kind: len(of_kind) for kind, of_kind in pairs.items()}
    errors = [{"visits": v, **row} for v in VISITS for row in rows(counts[v], n_pairs)]
    schema: dict[str, Any] = {"visits": pl.String, "label": pl.String, "kind": pl.String}
    schema |= dict.fromkeys(("pairs", "cases", "patients"), pl.Int64)
    schema |= dict.fromkeys(("value", "low", "high", "delta", "delta_low", "delta_high"), pl.Float64)
    return Cases(
        pl.DataFrame(errors, schema=schema).with_columns(pl.selectors.float().round(6)),
        pl.DataFrame(neighbours, schema=_NEIGHBOURS),
        pl.DataFrame(chosen, schema=_CHOSEN).with_columns(pl.selectors.float().round(4)),
        {
            "cohort": {"name": cohort.name, "source": cohort.source},
            "seeds": seeds,
            "split": {part: len(getattr(split, part)) for part in ("train", "validation", "test")},
        },
    )


def _by_patient(of_visits: NDArray, cohort: Cohort) -> NDArray[np.int64]:
    return np.bincount(cohort.patient_of_visit, of_visits, minlength=cohort.n_patients).astype(np.int64)


def _twins(cohort: Cohort) -> dict[str, NDArray[np.intp]]:
    """Both orders of the two classes of a planted shape."""
    index = cohort.vocab["medication"].index
    planted = [index[code] for code in cohort.planted.get("molecules") or ()]
    return {TWINS: np.array([planted, planted[::-1]])} if planted else {}


def neighbour_ranks(run: Run, cohort: Cohort, drugs: Molecules) -> list[dict[str, Any]]:
    """Where :data:`CASE`'s other drug stands among the neighbours of the one, as the molecule encoder sees them.

    Args:
        run: of BiMoRec, with a molecule encoder.
        cohort: that it was trained on.
        drugs: that are ranked; all of the cohort's classes, not only those that stand for them.

    Returns:
        ``stage``, ``seed``, ``of``, ``other``, ``rank`` (1: nearest by cosine), ``among``.
    """
    fitted, context = load_system(run)
    if not set(CASE) <= set(drugs.names):
        return []
    with seeded(run.config["seed"]):
        fresh = type(fitted)(fitted.config, context)
    stages = {"untrained": _embeddings(fresh, drugs)}
    if fitted.config.pretrain:
        fresh.prepare(cohort, np.arange(0), context)
        stages["pre-trained"] = _embeddings(fresh, drugs)
    stages["trained"] = _embeddings(fitted, drugs)
    found = []
    for stage, embedded in stages.items():
        alike = (embedded @ embedded.T).fill_diagonal_(-torch.inf)
        for of, other in (CASE, CASE[::-1]):
            i, j = drugs.names.index(of), drugs.names.index(other)
            rank = int((alike[i] > alike[i, j]).sum()) + 1
            found.append(
                {"stage": stage, "seed": run.config["seed"], "of": of, "other": other, "rank": rank}
                | {"among": len(drugs.names) - 1}
            )
    return found


def _embeddings(network: Any, molecules: Molecules) -> torch.Tensor:
    with torch.inference_mode():
        return normalize(network.eval().molecule_encoder(molecules.graphs)).clone()


# -- kept rows -----------------------------------------------------------------------------------------------------


def keep(found: Cases, cohort: Cohort, seconds: float) -> Path:
    """Write what :func:`collect` found.

    Args:
        found: of a cohort.
        cohort: the cohort.
        seconds: that it took.
    """
    systems = {f"{system.system}/{system.variant}" for system in SYSTEMS}
    seeds = found.provenance["seeds"]
    return kept.save(
        STUDY,
        {"errors": found.errors, "neighbours": found.neighbours, "chosen": found.chosen},
        cohort=cohort,
        command=f"{COMMAND} --cohort {cohort.name} --seeds {seeds}",
        code=kept.code_of("medrec.experiments.bimorec_cases", "chem", "metrics", systems=systems),
        systems=systems,
        seconds=seconds,
        more={"seeds": seeds, "split": found.provenance["split"]},
    )


def read(cohort: Cohort | str, source: str = "synthetic", *, default: str | None = None) -> Cases:
    """Kept rows: those of this cohort, and where there are none those of ``default``; see :func:`medrec.lab.kept.read`.

    Raises:
        MedrecError: there are none; the message says what makes them.
    """
    name = cohort if isinstance(cohort, str) else cohort.name
    found = kept.read(STUDY, cohort, source, default, command=f"{COMMAND} --cohort {name}")
    errors, neighbours, chosen = (found.table(table) for table in ("errors", "neighbours", "chosen"))
    return Cases(errors, neighbours, chosen, found.provenance, found.note)


def main(arguments: Sequence[str] | None = None) -> None:
    """Take the runs, write the rows."""
    parser = argparse.ArgumentParser(
        prog="python -m medrec.experiments.bimorec_cases", description="Confusions of classes with similar molecules."
    )
    parser.add_argument("--cohort", default="synthetic", help="as load_cohort knows it; default synthetic")
    parser.add_argument("--seeds", type=int, default=5, help="training seeds of the networks; default 5")
    options = parser.parse_args(arguments)
    cohort, start = load_cohort(options.cohort), time.perf_counter()
    found = collect(cohort, options.seeds)
    print(keep(found, cohort, time.perf_counter() - start))


if __name__ == "__main__":
    main()
