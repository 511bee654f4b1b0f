"""A ranking task as files that other code reads, and what is in files of others.

:func:`export` writes what a ranker of ours would be trained on and asked about: training interactions, those of
validation and test patients that are asked about, and a knowledge graph of what training sees.  Their formats are those
of :mod:`medrec.graphs.formats`.

Users are rows of the cohort.  No file holds an id of the tables, and still each line is of one patient: of closed
records nothing is written below a folder that is under version control, nor by a chapter that is executed.

**What released code makes of them.**  KGIN and KGAT leave a user's training items out of his list, so that known
medications among the targets of the protocol *house* are never found; *new medications* and *hold-out* ask for none.
They choose their epoch on test items, and do not read ``valid.txt``.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from medrec import tasks
from medrec.arguments import checked_file, checked_output, checked_seed, near, shown
from medrec.data import opened
from medrec.data.cohort import Cohort
from medrec.folders import atomic_folder
from medrec.graphs import formats
from medrec.graphs.formats import Format
from medrec.graphs.knowledge import Construction, KnowledgeGraph, build
from medrec.knowledge.interactions import class_interactions
from medrec.paths import PACKAGE
from medrec.tasks.ranking import HOUSE, Exam, Protocol
from medrec.types import MedrecError

ABOUT = "about.json"
"""File beside the others that says what they are."""


@dataclass(frozen=True)
class Task:
    """What is written: interactions for each of :data:`medrec.graphs.formats.PARTS`, ``(U, M)`` bool, and a graph.

    Args:
        parts: who was given what; of validation and test patients, what is asked about.
        knowledge: of what training sees.
        about: the cohort and the rules, for :data:`ABOUT`.
    """

    parts: dict[str, NDArray[np.bool_]]
    knowledge: KnowledgeGraph
    about: dict[str, Any]


def task_of(
    cohort: Cohort,
    *,
    construction: Construction = "house",
    protocol: str | Protocol | None = None,
    split_seed: int | None = 0,
    ddi: Path | None = None,
) -> Task:
    """What the ranking task makes of a cohort.

    Args:
        cohort: all patients.
        construction: of the graph, see :mod:`medrec.graphs.knowledge`.
        protocol: of the ranking task; ``None``: the house's.
        split_seed: of the split, or of the draw of medications; ``None``: file order.
        ddi: interaction list; ``None``: our own.

    Raises:
        MedrecError: a misspelt word, or nobody is asked about.
    """
    rules = check(construction=construction, protocol=protocol, split_seed=split_seed, ddi=ddi)
    exam = Exam(cohort, split_seed, rules)
    parts = {"train": exam.graph.matrix}
    for part, name in (("validation", "valid"), ("test", "test")):
        asked = exam.questions(part)
        parts[name] = np.zeros_like(parts["train"])
        # What counts as a target is a matter of the protocol, whatever the scores.
        parts[name][asked.patient] = asked.answered(np.zeros(asked.target.shape)).asked(rules)[0]
    if not parts["test"].any():
        raise MedrecError(
            f"None of the test patients of cohort {cohort.name!r} has a target under the protocol {rules.name!r}. Take "
            "another split, or --protocol hold-out."
        )
    interacting, source = class_interactions(cohort.vocab["medication"].codes, ddi)
    knowledge = build(construction, cohort.vocab, exam.seen, interacting)
    about = {
        "cohort": {"name": cohort.name, "source": cohort.source, "options": cohort.options, "content": cohort.content},
        "protocol": rules.name,
        "split_seed": split_seed,
        "construction": construction,
        "interactions_by": source,
        "triplets": knowledge.by_relation,
    }
    return Task(parts, knowledge, about)


def check(
    *, construction: Any = "house", protocol: Any = None, split_seed: Any = 0, ddi: Any = None, form: Any = "kgin"
) -> Protocol:
    """Refuse misspelt words before tables are read; see :func:`export`.

    Returns:
        The protocol.

    Raises:
        MedrecError: there is no such thing.
    """
    for what, word, hint in (("construction", construction, Construction), ("format", form, Format)):
        if word not in get_args(hint):
            raise MedrecError(
                f"There is no {what} {shown(word)}.{near(str(word), get_args(hint))} There are "
                f"{', '.join(get_args(hint))}."
            )
    rules: Protocol = tasks.protocol("ranking", protocol)
    if split_seed is not None:
        checked_seed(split_seed, "split_seed")
    elif rules.kind != HOUSE.kind:
        raise MedrecError("The hold-out draws medications by chance and knows no file order; give a split seed.")
    checked_file("ddi", ddi)
    return rules


def check_place(folder: Path) -> Path:
    """Refuse a place where something stands, or where nothing can be written.

    Raises:
        MedrecError: so it is.
    """
    folder = Path(os.path.abspath(Path(folder).expanduser()))  # its last part gives RecBole's files their name
    if os.path.lexists(folder):
        raise MedrecError(f"{folder} exists already. Give the name of a new folder; nothing is overwritten.")
    checked_output("FOLDER", folder, make=True)
    return folder


def export(folder: Path, cohort: Cohort, form: Format = "kgin", **rules: Any) -> Path:
    """Write the ranking task of a cohort; all files, or none.

    Args:
        folder: a new one; RecBole's files are called by its name.
        cohort: all patients.
        form: of the files, see :mod:`medrec.graphs.formats`.
        rules: ``construction``, ``protocol``, ``split_seed`` and ``ddi``, see :func:`task_of`.

    Returns:
        The folder.

    Raises:
        MedrecError: the folder exists or cannot be written, a misspelt word, or closed records where they must not lie.
    """
    check(form=form, **rules)
    folder = check_place(folder)
    if opened.is_closed(cohort):
        _refuse_closed(folder, cohort)
    task = task_of(cohort, **rules)
    with atomic_folder(folder, "the graph", sealed=False) as place:
        formats.write(place, form, task.parts, task.knowledge, folder.name)
        about = {"format": form, **task.about}
        (place / ABOUT).write_text(json.dumps(about, indent=1, default=str) + "\n", encoding="utf-8")
    return folder


def _refuse_closed(folder: Path, cohort: Cohort) -> None:
    """Nothing, where lines about single patients of closed records may lie."""
    place = folder.resolve()
    checkout = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").exists() else None
    kept = next((parent for parent in place.parents if parent == checkout or (parent / ".git").exists()), None)
    if kept is not None:
        raise MedrecError(
            f"{place} lies in {kept}, which is under version control, and the files hold a line for each patient of "
            f"the closed records {cohort.name!r}. Choose a folder elsewhere, on the machine where the records may lie."
        )
    if opened.guard_folder() is not None:
        raise MedrecError(
            f"A chapter writes no file about single patients of the closed records {cohort.name!r}. Use "
            "`medrec graph export`."
        )


def contents(folder: Path, form: Format) -> list[tuple[str, int]]:
    """What is in a folder of files, ours or others'.

    Args:
        folder: of the files.
        form: of them.

    Returns:
        What, and how many.

    Raises:
        MedrecError: the first thing that does not fit, with its file and line.
    """
    check(form=form)
    found = formats.read(Path(folder).expanduser(), form)
    graph, pairs = found.knowledge, found.pairs
    rows = [("patients", len(found.users)), ("items", graph.n_items)]
    for part, there in pairs.items():
        rows += [(f"{part} interactions", len(there)), (f"{part} patients", len(np.unique(there[:, 0])))]
    if "train" in pairs:
        rows += [("items without training interactions", graph.n_items - len(np.unique(pairs["train"][:, 1])))]
    if "train" in pairs and "test" in pairs:
        alone = np.setdiff1d(pairs["test"][:, 0], pairs["train"][:, 0])
        both = np.unique(np.concatenate([pairs["train"], pairs["test"]]), axis=0)
        known = len(pairs["train"]) + len(pairs["test"]) - len(both)
        rows += [("test patients without training interactions", len(alone))]
        rows += [("test interactions that stand in training too", known)]
    named = np.unique(graph.triplets[:, [0, 2]])
    rows += [
        ("entities", graph.n_entities),
        ("triplets", graph.n_triplets),
        ("items without triplets", graph.n_items - int((named < graph.n_items).sum())),
        ("other entities without triplets", graph.n_entities - graph.n_items - int((named >= graph.n_items).sum())),
        ("relations", graph.n_relations),
        *((f"  {name}", n) for name, n in graph.by_relation.items()),
    ]
    return rows
