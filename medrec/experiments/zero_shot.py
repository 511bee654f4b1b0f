"""Does text carry a medication that training never saw?

Some classes are *held out*: they leave the vocabulary, so that no target, no history text and no weight names them.  A
system that has no weight for a single medication, NLA-MMR, then scores them by their description and their structure
(NLA-MMR, section 3.7, promises it; no experiment of the paper does it).  The patients asked about are test patients,
whose histories do not name the classes either: otherwise a past prescription gives the answer away.

The measure is average precision of each class over visits, beside five controls:

* ``prevalence``: share of the visits that have it, what a random order gets;
* ``siblings``: mean score of the seen classes of its ATC group of level 2; none where it has none;
* ``words``: score of the seen class whose description is nearest by TF-IDF;
* ``structure``: score of the seen class with the most similar molecule by Morgan fingerprints;
* ``random``: score by a description and a structure that are another class's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from medrec.chem.similarity import tanimoto
from medrec.context import Context, molecules_of, text_of
from medrec.data.cohort import Cohort, Vocabulary
from medrec.inference import with_classes
from medrec.metrics import average_precision
from medrec.runs import Run
from medrec.tasks.visits import predict
from medrec.text.encoders import Sentence, TfIdf
from medrec.text.features import corpus
from medrec.text.templates import class_texts
from medrec.training import load_system
from medrec.types import Ragged

FOLDS = 10
LEAST = 10
"""Visits that must have a class before it is judged: an average over fewer is luck."""
CONTROLS = ("siblings", "words", "structure", "random")
"""Besides prevalence."""


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
    """Average precision of each held-out class over the visits of some patients, beside its controls.

    Args:
        run: trained on ``without(cohort, held)``.
        cohort: all patients, with the full vocabulary.
        held: ids of the medications that were held out.
        patients: who are asked about, test patients of the run.
        device: where the system answers.
        seed: which other class's text and structure the control ``random`` takes.

    Returns:
        One row for each class that at least :data:`LEAST` visits have: ``class``, ``title``, ``visits``,
        ``prevalence``, ``text`` (the system), and the :data:`CONTROLS`, null where there is none.
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
        )
    schema: dict[str, Any] = {"class": pl.String, "title": pl.String, "visits": pl.Int64}
    schema |= dict.fromkeys(("prevalence", "text", *CONTROLS), pl.Float64)
    return pl.DataFrame(rows, schema=schema)


def _precision(given: NDArray[np.bool_], vote: NDArray[np.floating]) -> float:
    """Average precision of one class over visits."""
    return float(average_precision(given[None], vote[None])[0])


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
