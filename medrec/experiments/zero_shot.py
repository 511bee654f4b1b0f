"""Does text carry a medication that training never saw?

Some classes are *held out*: they leave the vocabulary, so that no target, no history text and no weight names them.  A
system that has no weight for a single medication, NLA-MMR, then scores them by their description and their structure
(NLA-MMR, section 3.7, promises it; no experiment of the paper does it).  The patients asked about are test patients,
whose histories do not name the classes either: otherwise a past prescription gives the answer away.

The measures are average precision and area under the ROC curve of each class over visits, beside five controls:

* ``prevalence``: share of the visits that have it, what a random order gets; its area is one half;
* ``siblings``: mean score of the seen classes of its ATC group of level 2; none where it has none;
* ``words``: score of the seen class whose description is nearest by TF-IDF;
* ``structure``: score of the seen class with the most similar molecule by Morgan fingerprints;
* ``random``: score by a description and a structure that are another class's.

Ten folds hold out every class once that has a structure; one without has a learnt vector in its place, which a new
class has not.  ``python -m medrec.experiments.zero_shot [--cohort NAME] [--seeds N]`` trains what the run store lacks,
ten systems a seed, and keeps the rows (:mod:`medrec.lab.kept`).  Broken off and started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from medrec.chem.similarity import tanimoto
from medrec.context import Context, context_for, molecules_of, text_of
from medrec.data import load_cohort
from medrec.data.cohort import Cohort, Vocabulary
from medrec.data.split import split_patients
from medrec.inference import with_classes
from medrec.lab import kept
from medrec.metrics import average_precision
from medrec.models import registry
from medrec.runs import Run
from medrec.tasks.visits import predict
from medrec.text.encoders import Sentence, TfIdf
from medrec.text.features import corpus
from medrec.text.templates import class_texts
from medrec.training import load_system, train
from medrec.types import Ragged

STUDY = "zero_shot"
COMMAND = f"python -m medrec.experiments.{STUDY}"
SYSTEMS = ("nla-mmr/paper",)
"""What is trained."""
SETTINGS: dict[str, Any] = {"epochs": 20, "gin_layers": 2, "molecule_size": 32}
"""Of the trainings, ten of which shall not take an afternoon: a shorter fall of the learning rate than the declared
one, and a graph network of half the depth and width."""
FOLDS = 10
LEAST = 10
"""Visits that must have a class before it is judged: an average over fewer is luck."""
CONTROLS = ("siblings", "words", "structure", "random")
"""Besides prevalence."""
MEASURES = {"average precision": "", "area": " area"}
"""Measures, and what stands behind the names of their columns."""
ROUNDS = 1000
"""Resamples of the classes behind an interval."""


def fold(n_medications: int, number: int, folds: int = FOLDS, seed: int = 0) -> NDArray[np.int64]:
    """Medications that are held out, sorted; over all folds each medication once.

    Args:
        n_medications: M.
        number: of the fold, from 0.
        folds: how many.
        seed: of the shuffle.
    """
    return np.sort(np.random.default_rng(seed).permutation(n_medications)[number::folds])


def without(cohort: Cohort, held: NDArray[np.integer]) -> Cohort:
    """The cohort as if these medications did not exist: they are in no visit and not in the vocabulary.

    Args:
        cohort: all patients.
        held: ids of medications.
    """
    vocabulary, rows = cohort.vocab["medication"], cohort.codes["medication"]
    kept = np.setdiff1d(np.arange(len(vocabulary)), held)
    place = np.full(len(vocabulary), -1, dtype=rows.values.dtype)
    place[kept] = np.arange(len(kept))
    stays = place[rows.values] >= 0
    lengths = np.bincount(rows.row_of_value[stays], minlength=len(rows))
    left = Ragged(np.concatenate([[0], np.cumsum(lengths)]), place[rows.values[stays]])
    named = Vocabulary(
        "medication", tuple(vocabulary.codes[i] for i in kept), tuple(vocabulary.titles[i] for i in kept)
    )
    return replace(
        cohort,
        name=f"{cohort.name} without {len(held)} classes",
        vocab={**cohort.vocab, "medication": named},
        codes={**cohort.codes, "medication": left},
        folder=None,
    )


def judged(
    run: Run,
    cohort: Cohort,
    held: NDArray[np.integer],
    patients: NDArray[np.integer],
    device: str = "cpu",
    seed: int = 0,
) -> pl.DataFrame:
    """Average precision and area of each held-out class over the visits of some patients, beside its controls.

    Args:
        run: trained on ``without(cohort, held)``.
        cohort: all patients, with the full vocabulary.
        held: ids of the medications that were held out.
        patients: who are asked about; nobody whose visits the run was trained on.
        device: where the system answers.
        seed: which other class's text and structure the control ``random`` takes.

    Returns:
        One row for each class that at least :data:`LEAST` visits have: ``class``, ``title``, ``visits``,
        ``prevalence``, the average precision of ``text`` (the system) and of the :data:`CONTROLS`, null where there is
        none, and their areas, ``text area`` and so on.
    """
    vocabulary, blind = cohort.vocab["medication"], without(cohort, held)
    _, context = load_system(run)
    system, context = with_classes(run, context, [vocabulary.codes[i] for i in held])
    asked = replace(blind, vocab=context.vocab)
    text_of(context).read(asked)  # what the training has stored
    kept = np.setdiff1d(np.arange(cohort.n_medications), held)
    back = np.argsort([*kept, *held])
    found, other = (
        scores_of(system, asked.select(patients), there, device)[:, back]
        for there in (context, exchanged(context, len(held), seed))
    )
    given = cohort.select(patients).codes["medication"].multi_hot(cohort.n_medications)
    words, structure = likeness(cohort), molecule_likeness(context)[np.ix_(back, back)]
    rows = []
    for i in held[given[:, held].sum(0) >= LEAST]:
        kin = [k for k in kept if vocabulary.codes[k][:3] == vocabulary.codes[i][:3]]
        alike = structure[i, kept]
        votes = {
            "text": found[:, i],
            "siblings": found[:, kin].mean(1) if kin else None,
            "words": found[:, kept[words[i, kept].argmax()]],
            "structure": found[:, kept[alike.argmax()]] if alike.max() > 0 else None,
            "random": other[:, i],
        }
        named = {"class": vocabulary.codes[i], "title": vocabulary.titles[i], "visits": int(given[:, i].sum())}
        rows.append(
            named
            | {"prevalence": float(given[:, i].mean())}
            | {name: None if vote is None else _precision(given[:, i], vote) for name, vote in votes.items()}
            | {f"{name} area": None if vote is None else _area(given[:, i], vote) for name, vote in votes.items()}
        )
    schema: dict[str, Any] = {"class": pl.String, "title": pl.String, "visits": pl.Int64, "prevalence": pl.Float64}
    schema |= {f"{name}{ending}": pl.Float64 for ending in MEASURES.values() for name in ("text", *CONTROLS)}
    return pl.DataFrame(rows, schema=schema)


def _precision(given: NDArray[np.bool_], vote: NDArray[np.floating]) -> float:
    """Average precision of one class over visits."""
    return float(average_precision(given[None], vote[None])[0])


def _area(given: NDArray[np.bool_], vote: NDArray[np.floating]) -> float | None:
    """Area under the ROC curve; none where every visit has the class."""
    return None if given.all() else float(roc_auc_score(given, vote))


def scores_of(system: Any, cohort: Cohort, context: Context, device: str = "cpu") -> NDArray[np.float32]:
    """Probabilities ``(V, M)``."""
    found: NDArray[np.float32] | None = predict(system, cohort, context, device).scores
    assert found is not None
    return found


def exchanged(context: Context, n: int, seed: int) -> Context:
    """The context in which each of the last ``n`` medications is described as another class, seen or not.

    Args:
        context: of a system with held-out classes behind the others.
        n: how many they are.
        seed: of the draw.
    """
    M = len(context.vocab["medication"])
    order = np.arange(M)
    order[M - n :] = np.random.default_rng(seed).integers(0, M - n, n)
    molecules, text = molecules_of(context), text_of(context)
    return replace(
        context,
        molecules=replace(molecules, average=molecules.average[order], fragment_mask=molecules.fragment_mask[order]),
        text=text.described_as(torch.from_numpy(order)),
    )


def likeness(cohort: Cohort) -> NDArray[np.float64]:
    """Cosine of descriptions by TF-IDF, each class with each, ``(M, M)``."""
    texts = class_texts(cohort.vocab["medication"].codes)
    found = TfIdf(corpus(cohort.vocab)).weights([Sentence(text) for text in texts])
    return np.asarray((found @ found.T).todense(), dtype=np.float64)


def molecule_likeness(context: Context) -> NDArray[np.float64]:
    """Tanimoto similarity of the two most similar molecules of two classes, ``(M, M)``; 0 where one has none."""
    molecules = molecules_of(context)
    has, alike = molecules.average.numpy() > 0, tanimoto(molecules.smiles)
    result = np.zeros((len(has), len(has)))
    for i, own in enumerate(has):
        if own.any():
            result[i] = np.where(has, alike[own].max(0), 0).max(1)
    return result


# -- ten folds ---------------------------------------------------------------------------------------------------------


def held_out(cohort: Cohort, number: int) -> NDArray[np.int64]:
    """Medications of a fold of those that have a structure, sorted.

    Args:
        cohort: all patients.
        number: of the fold, from 0.
    """
    entry = registry.get("nla-mmr")
    molecules = molecules_of(context_for(entry, entry.configure(), cohort))
    able = np.flatnonzero(molecules.average.sum(1).numpy() > 0)
    return able[fold(len(able), number)]


def study(cohort: Cohort, seeds: int, device: str = "cpu") -> dict[str, pl.DataFrame]:
    """Train and judge all folds.

    Those who are asked about are validation and test patients: of the former the *seen* classes chose the epoch, and a
    class that was held out decided nothing.

    Args:
        cohort: all patients.
        seeds: training seeds.
        device: of the trainings.

    Returns:
        ``classes``: as :func:`judged` gives them, means over seeds, with ``fold``; ``runs``: one row for each training,
        ``fold``, ``seed``, ``held`` (classes), ``converged``, ``degenerate`` (what is said to everybody, null where
        nothing is), ``best_epoch``, ``jaccard`` (of test patients and seen classes), ``seconds``; ``changes``: as
        :func:`changes` gives them.
    """
    split = split_patients(cohort.n_patients, 0)
    unseen = np.sort(np.concatenate([split.validation, split.test]))
    classes, runs = [], []
    for number in range(FOLDS):
        held = held_out(cohort, number)
        for seed in range(seeds):
            run = train("nla-mmr", without(cohort, held), settings=SETTINGS, seed=seed, device=device)
            found = judged(run, cohort, held, unseen, device, seed)
            classes.append(found.select(pl.lit(number, dtype=pl.Int64).alias("fold"), pl.all()))
            runs.append(
                {
                    "fold": number,
                    "seed": seed,
                    "held": len(held),
                    "converged": bool(run.metrics["converged"]),
                    "degenerate": run.metrics["degenerate"],
                    "best_epoch": run.metrics["best_epoch"],
                    "jaccard": run.evaluation().summary()["jaccard"],
                    "seconds": run.environment["wall_seconds"],
                }
            )
    named = ["fold", "class", "title", "visits"]
    over_seeds = pl.concat(classes).group_by(named, maintain_order=True).agg(pl.all().mean())
    tables = {
        "classes": over_seeds.sort("class"),
        "runs": pl.DataFrame(runs, schema_overrides={"degenerate": pl.String}),
        "changes": changes(over_seeds.sort("class")),
    }
    return {name: table.with_columns(pl.selectors.float().round(6)) for name, table in tables.items()}


def changes(classes: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """What the system has over each control, mean over classes, paired by class.

    Args:
        classes: as in :func:`study`.
        seed: of the resampling.

    Returns:
        One row for each ``measure``, group of classes (``of``: all, with a sibling in training, without one) and
        ``control``: ``text`` and ``value``, means of the system and of the control over the classes that the control
        speaks of; ``delta``, ``low``, ``high``, 95 % of :data:`ROUNDS` resamples of these classes; ``n``, how many.
        Groups of fewer than two classes are left out.
    """
    groups = {
        "all classes": classes,
        "with a sibling": classes.filter(pl.col("siblings").is_not_null()),
        "without a sibling": classes.filter(pl.col("siblings").is_null()),
    }
    rows: list[dict[str, Any]] = []
    for measure, ending in MEASURES.items():
        for of, group in groups.items():
            # A random order: prevalence is its average precision, one half its area.
            chance = pl.col("prevalence") if not ending else pl.lit(0.5)
            values = group.with_columns(chance.alias(f"prevalence{ending}"))
            for control in ("prevalence", *CONTROLS):
                both = values.select(text=f"text{ending}", value=f"{control}{ending}").drop_nulls()
                if len(both) < 2:
                    continue
                text, value = both.to_numpy().T
                drawn = np.random.default_rng(seed).integers(0, len(both), (ROUNDS, len(both)))
                low, high = np.quantile((text - value)[drawn].mean(1), [0.025, 0.975])
                told = {"measure": measure, "of": of, "control": control, "text": text.mean(), "value": value.mean()}
                rows.append(told | {"delta": (text - value).mean(), "low": low, "high": high, "n": len(both)})
    return pl.DataFrame(rows)


def read(cohort: Cohort) -> kept.Kept:
    """The kept tables ``classes``, ``runs`` and ``changes`` of this cohort, or else of ``synthetic``.

    Raises:
        MedrecError: there are none of ``synthetic`` either.
    """
    return kept.read(STUDY, cohort, default="synthetic", command=f"{COMMAND} --cohort {cohort.name}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, write the rows."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Does text carry a medication never seen?")
    parser.add_argument("--cohort", default="synthetic", help="as load_cohort knows it; default synthetic")
    parser.add_argument("--seeds", type=int, default=1, help="training seeds of each fold; default 1")
    parser.add_argument("--device", default="cpu", help="of the trainings; default cpu")
    options = parser.parse_args(arguments)
    cohort, start = load_cohort(options.cohort), time.perf_counter()
    tables = study(cohort, options.seeds, options.device)
    folder = kept.save(
        STUDY,
        tables,
        cohort=cohort,
        command=f"{COMMAND} --cohort {cohort.name} --seeds {options.seeds}",
        code=kept.code_of("medrec.experiments.zero_shot", "tasks", "metrics", systems=SYSTEMS),
        systems=SYSTEMS,
        seconds=time.perf_counter() - start,
        device=options.device,
        more={"seeds": options.seeds, "settings": SETTINGS},
    )
    print(folder)


if __name__ == "__main__":
    main()
