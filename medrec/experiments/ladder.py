r"""What can be learnt from these records at all? A ladder from one regression to the generator's own probabilities.

Each step is told more than the one before, or may combine it more freely: today's codes (a regression as published
tables run it, and tuned), the medications of the visit before, each class's own past, one hidden layer over all of
it; and for synthetic records what no system is told: the true conditions of the patient, how ill he is, what served
last time, everything that was known before the draw.  What a system can win lies between these lines, and it lies
elsewhere on a first visit than on later ones.  Every table of systems can take them as reference lines
(:func:`lines`).

``python -m medrec.experiments.ladder --cohort NAME`` keeps the rows (:mod:`medrec.lab.kept`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit, logit
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import nn

from medrec import keys
from medrec.data import load_cohort
from medrec.data.cohort import Cohort
from medrec.data.load import Knobs
from medrec.data.split import Split, split_patients
from medrec.data.synthetic import SIZES, model, synthesize
from medrec.fit import seeded
from medrec.knowledge.interactions import ddi_matrix
from medrec.lab import kept
from medrec.models.lr import LR, current_codes
from medrec.tasks.evaluation import Evaluation, bootstrap, paired_difference
from medrec.tasks.visits import COLUMNS, FROM_SECOND, GROUPS, evaluate, tune_threshold
from medrec.types import MedrecError

STUDY = "ladder"
COMMAND = f"python -m medrec.experiments.{STUDY}"
STORED = ("synthetic", "synthetic-6350")
"""Cohorts whose rows are kept in ``results/``."""

STEPS = {
    "LR as published": "codes of the visit; C = 1, cut at .5",
    "LR": "codes of the visit",
    "LR, last visit": "codes, and the medications of the visit before",
    "LR, trees on the past": "codes, and each class's own past",
    "one hidden layer": "codes, and the medications of all visits before",
    "true conditions": "generator: the patient's conditions, coded or not",
    "... and severity": "generator: how ill the patient is, too",
    "... and last choices": "generator: what met each need last time, too",
    "all but the draw": "generator: everything before the draw",
}
"""Step → what it is told. All but the first have cut and penalty from validation patients."""
BASE = "LR"
"""What every step is compared with."""
GENERATOR = tuple(step for step, told in STEPS.items() if told.startswith("generator"))
SCORED: dict[str, tuple[str, ...]] = {"all": GROUPS, "first": ("first",), "later": FROM_SECOND}
"""Visits that a row is about, and their groups."""

PENALTIES = (0.03, 0.1, 0.3, 1.0)
"""Values of C from which the regressions choose."""
FOLDS = 3
"""Of the training patients, for probabilities from regressions that have not seen the patient."""
TREES = {"max_iter": 150, "learning_rate": 0.1, "max_leaf_nodes": 31, "min_samples_leaf": 50, "early_stopping": False}
WIDTH, DROPOUT, BATCH, EPOCHS, PATIENCE, RATE = 256, 0.5, 64, 60, 6, 1e-3
"""Of the network with one hidden layer; it stops when validation loss has not fallen for ``PATIENCE`` epochs."""
DRAWS = 16
"""Of what a step of the generator is not told."""

Steps = dict[str, tuple[NDArray[np.floating], float | None, float | None]]
"""Step → probabilities ``(V, M)``; its C; its cut, ``None`` where validation patients choose it."""


# -- what is told ----------------------------------------------------------------------------------------------------


def given(cohort: Cohort) -> NDArray[np.bool_]:
    """Medications of each visit, ``(V, M)``."""
    return cohort.codes["medication"].multi_hot(cohort.n_medications)


def visits_of(cohort: Cohort, patients: NDArray[np.integer]) -> NDArray[np.bool_]:
    """``(V,)`` visits of these patients."""
    return np.isin(cohort.patient_of_visit, patients)


def last_given(cohort: Cohort) -> NDArray[np.bool_]:
    """Medications of the patient's visit before, ``(V, M)``; nothing at first visits."""
    found = np.roll(given(cohort), 1, axis=0)
    found[cohort.visit_offsets[:-1]] = False
    return found


def mean_before(cohort: Cohort, values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Mean over the patient's earlier visits.

    Args:
        cohort: with V visits.
        values: ``(V, M)``.

    Returns:
        ``(V, M)``; NaN at first visits.
    """
    total = np.cumsum(values, axis=0, dtype=np.float64) - values  # before this visit, of all patients
    total -= np.repeat(total[cohort.visit_offsets[:-1]], np.diff(cohort.visit_offsets), axis=0)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float32] = (total / cohort.visit_number[:, None]).astype(np.float32)
    mean[cohort.visit_number == 0] = np.nan
    return mean


def with_last(cohort: Cohort) -> sparse.csr_matrix:
    """Codes of the visit, whether it is a later one, and the medications of the visit before; sparse."""
    later = (cohort.visit_number > 0)[:, None]
    return sparse.hstack(
        [current_codes(cohort), *(sparse.csr_matrix(x, dtype=np.float64) for x in (later, last_given(cohort)))],
        format="csr",
    )


def with_past(cohort: Cohort) -> sparse.csr_matrix:
    """As :func:`with_last`, and the share of all earlier visits that had each class."""
    shares = np.nan_to_num(mean_before(cohort, given(cohort).astype(float)))
    return sparse.hstack([with_last(cohort), sparse.csr_matrix(shares)], format="csr")


def own_past(cohort: Cohort, probability: NDArray[np.floating]) -> NDArray[np.float32]:
    """What the trees are told of each visit and class.

    Args:
        cohort: with V visits.
        probability: ``(V, M)`` from a regression on codes that has not seen the patient.

    Returns:
        ``(V, M, 8)``: log-odds of the regression; the class (its number); whether the visit before had the class, and
        by how much that departs from what was expected then; the same two, averaged over all earlier visits; by how
        much earlier visits had more medications than expected; number of earlier visits. NaN at first visits.
    """
    y = given(cohort).astype(np.float32)
    surprise = y - probability
    last, unexpected = (np.roll(x, 1, axis=0) for x in (y, surprise))
    for x in (last, unexpected):
        x[cohort.visit_offsets[:-1]] = np.nan
    features = [
        logit(probability.clip(1e-4, 1 - 1e-4)),
        np.broadcast_to(np.arange(y.shape[1]), y.shape),
        last,
        unexpected,
        mean_before(cohort, y),
        mean_before(cohort, surprise),
        np.broadcast_to(mean_before(cohort, surprise.sum(1, keepdims=True)), y.shape),
        np.broadcast_to(cohort.visit_number[:, None], y.shape),
    ]
    return np.stack(features, axis=-1).astype(np.float32)


# -- what learns -----------------------------------------------------------------------------------------------------


def regression(x: sparse.csr_matrix, y: NDArray[np.bool_], rows: NDArray[np.bool_], C: float) -> NDArray[np.float64]:
    """Probabilities of one regression a class, fitted on ``rows``, for every visit, ``(V, M)``."""
    lr = LR(C=C).fit_matrix(x[rows], y[rows])
    return expit(np.asarray(x @ lr.coef_.T) + lr.intercept_)


def out_of_fold(
    cohort: Cohort, x: sparse.csr_matrix, patients: NDArray[np.integer], C: float, folds: int = FOLDS, seed: int = 0
) -> NDArray[np.float64]:
    """As :func:`regression`, but nobody's probabilities come from a regression that has seen the patient, ``(V, M)``.

    Args:
        cohort: with V visits.
        x: ``(V, F)`` what the regressions are told.
        patients: on whom they are fitted, each time all but one fold; others' visits get the mean of all fits.
        C: inverse strength of the penalty.
        folds: how many.
        seed: of the folds.
    """
    y, fold = given(cohort), np.full(cohort.n_patients, -1)
    fold[patients] = np.random.default_rng(seed).permutation(len(patients)) % folds
    fold = fold[cohort.patient_of_visit]
    found = np.zeros(y.shape)
    for f in range(folds):
        probability = regression(x, y, (fold >= 0) & (fold != f), C)
        found[fold == f] = probability[fold == f]
        found[fold < 0] += probability[fold < 0] / folds
    return found


def trees(
    cohort: Cohort, probability: NDArray[np.floating], rows: NDArray[np.bool_], seed: int = 0
) -> NDArray[np.float64]:
    """One set of boosted trees for all classes, on :func:`own_past`.

    Args:
        cohort: with V visits.
        probability: ``(V, M)`` as of :func:`own_past`.
        rows: ``(V,)`` visits to fit on.
        seed: of the trees.

    Returns:
        ``(V, M)``.
    """
    x, y = own_past(cohort, probability), given(cohort)
    boosted = HistGradientBoostingClassifier(categorical_features=[1], random_state=seed, **TREES)
    boosted.fit(x[rows].reshape(-1, x.shape[2]), y[rows].ravel())
    found: NDArray[np.float64] = boosted.predict_proba(x.reshape(-1, x.shape[2]))[:, 1].reshape(y.shape)
    return found


def hidden_layer(
    x: sparse.csr_matrix,
    y: NDArray[np.bool_],
    train: NDArray[np.bool_],
    validation: NDArray[np.bool_],
    seed: int = 0,
) -> NDArray[np.float32]:
    """A network of one hidden layer, trained by steps and stopped by the loss on validation visits.

    Args:
        x: ``(V, F)`` what it is told.
        y: ``(V, M)`` bool.
        train: ``(V,)`` visits to train on.
        validation: ``(V,)`` visits that say when to stop.
        seed: of weights, order and dropout.

    Returns:
        Probabilities ``(V, M)``.
    """
    x = x.astype(np.float32)
    rows, target = np.flatnonzero(train), torch.from_numpy(y.astype(np.float32))
    entropy = nn.functional.binary_cross_entropy_with_logits

    def dense(which: NDArray[np.integer]) -> torch.Tensor:
        return torch.from_numpy(x[which].toarray())

    with seeded(seed):
        network = nn.Sequential(
            nn.Linear(x.shape[1], WIDTH), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(WIDTH, y.shape[1])
        )
        optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
        rng, best, waited = np.random.default_rng(seed), np.inf, 0
        state = network.state_dict()
        for _ in range(EPOCHS):
            network.train()
            for batch in np.array_split(rng.permutation(rows), max(len(rows) // BATCH, 1)):
                optimiser.zero_grad()
                entropy(network(dense(batch)), target[batch]).backward()
                optimiser.step()
            network.eval()
            with torch.no_grad():
                loss = float(entropy(network(dense(np.flatnonzero(validation))), target[validation]))
            waited = 0 if loss < best else waited + 1
            if loss < best:
                best, state = loss, {name: value.clone() for name, value in network.state_dict().items()}
            if waited == PATIENCE:
                break
        network.load_state_dict(state)
        with torch.no_grad():
            parts = np.array_split(np.arange(len(y)), max(len(y) // 1024, 1))
            found: NDArray[np.float32] = torch.cat([network(dense(part)).sigmoid() for part in parts]).numpy()
    return found


# -- what no system is told ------------------------------------------------------------------------------------------


def generator(cohort: Cohort, rows: NDArray[np.bool_]) -> dict[str, NDArray[np.float32]]:
    """What somebody would say who knows the generator, and of the patient more than the codes.

    Args:
        cohort: synthetic, with the usual demands on a visit.
        rows: ``(V,)`` visits that are asked for.

    Returns:
        Step of :data:`GENERATOR` → ``(V, M)``, 0 in other visits.

    Raises:
        MedrecError: the records of the generator are not those of the cohort.
    """
    size, _, control = cohort.name.partition("+")
    if cohort.source != "synthetic" or size not in SIZES:
        raise MedrecError(f"The records of {cohort.name!r} come from no generator that could be asked.")
    knobs = {name: cohort.options[name] for name in Knobs.__dataclass_fields__}
    records = synthesize(SIZES[size], control=control or None, **knobs)  # type: ignore[arg-type]
    stays, codes = records.stays, cohort.vocab["medication"].codes
    there = {"diagnosis": stays.diagnoses, "procedure": stays.procedures, "medication": stays.medications}
    stay = np.flatnonzero(np.all([there[kind].lengths > 0 for kind in cohort.options["require"]], axis=0))
    column = [records.classes.index(code) for code in codes]
    drawn = records.medications.multi_hot(len(records.classes))
    if len(stay) != cohort.n_visits or not np.array_equal(drawn[stay][:, column], given(cohort)):
        raise MedrecError(
            f"The visits of {cohort.name!r} are not those that the generator drew: load it with its usual options, and "
            "with history = 1."
        )

    def filled(probability: NDArray[np.float32]) -> NDArray[np.float32]:
        found = np.zeros((cohort.n_visits, len(codes)), dtype=np.float32)
        found[rows] = probability[:, column]
        return found

    told = ({"severity": False, "last": False}, {"severity": True, "last": False}, {"severity": True, "last": True})
    found = {
        step: filled(
            model.expected(records.world, stays, stay[rows], structure=knobs["structure"], draws=DRAWS, **known)
        )
        for step, known in zip(GENERATOR, told, strict=False)
    }
    return {**found, GENERATOR[-1]: filled(records.oracle[stay][rows])}


# -- the table -------------------------------------------------------------------------------------------------------


def probabilities(cohort: Cohort, split: Split) -> Steps:
    """Every step on one cohort; those of the generator only where there is one.

    Args:
        cohort: at least a few hundred patients.
        split: who is trained on, who chooses, who is scored.
    """
    y, codes = given(cohort), current_codes(cohort)
    train, validation, test = (visits_of(cohort, p) for p in (split.train, split.validation, split.test))
    chooses = cohort.select(split.validation)

    no_pairs = np.zeros((cohort.n_medications, cohort.n_medications), dtype=bool)

    def worth(probability: NDArray[np.floating]) -> float:
        """Jaccard of validation patients, at their best cut."""
        cut = tune_threshold(chooses, probability[validation])
        return evaluate(chooses, probability[validation] >= cut, no_pairs).summary()["jaccard"]

    plain = {C: regression(codes, y, train, C) for C in PENALTIES}
    past = {C: regression(with_last(cohort), y, train, C) for C in PENALTIES}
    C, C_past = (max(fits, key=lambda C: worth(fits[C])) for fits in (plain, past))
    unseen = np.where(train[:, None], out_of_fold(cohort, codes, split.train, C), plain[C])
    steps: Steps = {
        "LR as published": (plain[1.0], 1.0, 0.5),
        "LR": (plain[C], C, None),
        "LR, last visit": (past[C_past], C_past, None),
        "LR, trees on the past": (trees(cohort, unseen, train), C, None),
        "one hidden layer": (hidden_layer(with_past(cohort), y, train, validation), None, None),
    }
    if cohort.source == "synthetic" and cohort.name.partition("+")[0] in SIZES:
        steps |= {step: (p, None, None) for step, p in generator(cohort, validation | test).items()}
    return steps


def ladder(cohort: Cohort, *, split_seed: int = 0) -> pl.DataFrame:
    """What each step is worth on test patients, by the house rule.

    Args:
        cohort: at least a few hundred patients.
        split_seed: of the split.

    Returns:
        One row for each step of :data:`STEPS` and key of :data:`SCORED`: ``step``, ``told``, ``scored``, ``patients``,
        ``visits``, ``C``, ``cut``; for each column of the field its value, ``... low`` and ``... high`` (bootstrap over
        patients); ``over LR``, ``... low``, ``... high``: the difference of Jaccard to the tuned LR, same patients.
    """
    split = split_patients(cohort.n_patients, split_seed)
    validation, test = (visits_of(cohort, patients) for patients in (split.validation, split.test))
    ddi = ddi_matrix(cohort.vocab["medication"].codes)
    scored = cohort.select(split.test)
    results: dict[str, tuple[Evaluation, dict[str, Any]]] = {}
    for step, (found, C, cut) in probabilities(cohort, split).items():
        if cut is None:
            cut = tune_threshold(cohort.select(split.validation), found[validation])
        result = evaluate(scored, found[test] >= cut, ddi, scores=found[test])
        results[step] = (result, {"step": step, "told": STEPS[step], "C": C, "cut": cut})
    rows = []
    for step, (result, head) in results.items():
        for visits, groups in SCORED.items():
            if not result.per_patient["group"].is_in(groups).any():
                continue
            counts = result.summary(groups)
            row = {**head, "scored": visits, "patients": counts["patients"], "visits": counts["visits"]}
            for name, value in bootstrap(result, groups=groups).items():
                if head_of := COLUMNS.get(name):
                    row |= {head_of: value.value, f"{head_of} low": value.low, f"{head_of} high": value.high}
            gain = paired_difference(results[BASE][0], result, groups=groups)["jaccard"]
            row |= {"over LR": gain.value, "over LR low": gain.low, "over LR high": gain.high}
            rows.append(row if step != BASE else row | dict.fromkeys(("over LR", "over LR low", "over LR high")))
    order = ["step", "told", "scored", "patients", "visits"]
    table = pl.DataFrame(rows, infer_schema_length=None)
    return table.select(*order, pl.exclude(order)).with_columns(pl.selectors.float().round(6))


# -- the kept rows ---------------------------------------------------------------------------------------------------


def read(cohort: Cohort | str) -> kept.Kept:
    """The kept table ``ladder`` of this cohort, or else of ``synthetic-6350``."""
    name = cohort if isinstance(cohort, str) else cohort.name
    return kept.read(STUDY, cohort, default=STORED[-1], command=f"{COMMAND} --cohort {name}")


def lines(cohort: Cohort | str, scored: str = "all") -> pl.DataFrame:
    """Reference lines for a table or a figure of systems on this cohort.

    Args:
        cohort: whose; where none of it are kept there are no lines, since those of other records would mislead.
        scored: a key of :data:`SCORED`.

    Returns:
        ``step``, ``told``, ``Jaccard``, ``Jaccard low``, ``Jaccard high``, in the order of :data:`STEPS`; no row where
        nothing is kept.
    """
    columns = ["step", "told", "Jaccard", "Jaccard low", "Jaccard high"]
    name = cohort if isinstance(cohort, str) else cohort.name
    try:
        found = kept.read(STUDY, cohort, command=f"{COMMAND} --cohort {name}")
    except MedrecError:
        return pl.DataFrame(schema={c: pl.String if c in columns[:2] else pl.Float64 for c in columns})
    return found.table("ladder").filter(scored=scored).select(columns)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one cohort and keep the rows."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="What can be learnt from these records at all.")
    parser.add_argument("--cohort", default=STORED[0], help=f"as load_cohort knows it; default {STORED[0]}")
    cohort, start = load_cohort(parser.parse_args(arguments).cohort), time.perf_counter()
    folder = kept.save(
        STUDY,
        {"ladder": ladder(cohort)},
        cohort=cohort,
        command=f"{COMMAND} --cohort {cohort.name}",
        code=kept.code_of(f"medrec.experiments.{STUDY}", "tasks", "metrics")
        | keys.codes(["medrec.models.lr", "medrec.data.synthetic.model"]),
        seconds=time.perf_counter() - start,
    )
    print(folder)


if __name__ == "__main__":
    main()
