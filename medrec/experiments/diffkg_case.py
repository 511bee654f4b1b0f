"""A case study with its marks: two synthetic patients with the same diagnoses, and the lists that DiffKG gives them.

The third paper shows lists of medications for two sets of diagnoses and calls those of DiffKG broader and clinically
meaningful.  A ranker sees no diagnoses: it is asked about patients, by what they were given before.  So here are two
patients, chosen before any training: of the test patients those two who share most conditions at the visit that is
asked about.  Each class in their lists is marked: whether it is
*indicated* by one of these conditions, *repeated* from an earlier visit, whether it *interacts* with another class of
the list, and whether it was given.  Beside DiffKG stand the most popular medications, the same for everybody.

``python -m medrec.experiments.diffkg_case`` trains what the run store lacks and keeps the rows
(:mod:`medrec.lab.kept`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec.data import load_cohort
from medrec.data.cohort import Cohort
from medrec.knowledge.conditions import conditions, needs
from medrec.lab import kept
from medrec.metrics import jaccard
from medrec.runs import Run
from medrec.training import train

STUDY = "diffkg_case"
COMMAND = f"python -m medrec.experiments.{STUDY}"
TRAINED: dict[str, tuple[str, str]] = {
    "most popular": ("most-popular", "paper"),
    "DiffKG": ("diffkg", "paper"),
}
"""Lists: system and variant."""
SYSTEMS = tuple(f"{system}/{variant}" for system, variant in TRAINED.values())
LENGTH = 6
"""Of a list; the paper's have three to seven."""


def conditions_of(cohort: Cohort) -> NDArray[np.bool_]:
    """Which conditions of :func:`medrec.knowledge.conditions.conditions` each visit has a code of, ``(V, C)``."""
    table, number = conditions(), {code: i for i, code in enumerate(cohort.vocab["diagnosis"].codes)}
    of = np.zeros((len(number), len(table)), dtype=bool)
    for c, row in enumerate(table.iter_rows(named=True)):
        for version in (9, 10):
            of[[number[name] for code in row[f"icd{version}"] if (name := f"{version}:{code}") in number], c] = True
    codes = cohort.codes["diagnosis"]
    found = np.zeros((cohort.n_visits, len(table)), dtype=bool)
    np.logical_or.at(found, codes.row_of_value, of[codes.values])
    return found


def closest(of: NDArray[np.bool_]) -> tuple[int, int]:
    """Places of the two rows that share most, ``(n, C)`` bool; of equals those with the largest Jaccard."""
    pairs = np.array(list(combinations(range(len(of)), 2)))
    left, right = of[pairs[:, 0]], of[pairs[:, 1]]
    alike = (left & right).sum(1) + jaccard(left, right) / 2
    one, other = pairs[int(np.argmax(alike))].tolist()
    return one, other


def marked(cohort: Cohort, run: Run, place: int, length: int = LENGTH) -> list[dict[str, Any]]:
    """The first medications of a test patient's list with their marks.

    Args:
        cohort: all patients.
        run: of a ranker, temporal.
        place: of the patient among those who are asked about.
        length: of the list.

    Returns:
        ``rank``, ``class``, ``title``, and truth values ``indicated``, ``repeated``, ``interacts``, ``given``.
    """
    answers, vocab = run.answers["test"], cohort.vocab["medication"]
    order = np.argsort(-answers.scores[place].astype(np.float64), kind="stable")[:length]
    ids = conditions()["id"].to_numpy()[conditions_of(cohort)[answers.visit[place]]]
    meant = set(needs().filter(pl.col("condition").is_in(ids.tolist()))["option"])
    ddi = run.ddi()[np.ix_(order, order)]
    return [
        {
            "rank": rank + 1,
            "class": vocab.codes[m],
            "title": vocab.titles[m],
            "indicated": vocab.codes[m] in meant,
            "repeated": bool(answers.seen[place, m]),
            "interacts": bool(ddi[rank].any()),
            "given": bool(answers.target[place, m]),
        }
        for rank, m in enumerate(order)
    ]


def tables(cohort: Cohort, runs: dict[str, Run]) -> dict[str, pl.DataFrame]:
    """The case.

    Args:
        cohort: all patients.
        runs: by name of the list.

    Returns:
        ``patients``: ``patient`` (1 and 2), number of ``earlier`` visits, ``conditions`` at the visit that is asked
        about and those that are ``shared``; ``lists``: for each patient and list the rows of :func:`marked`;
        ``runs``: whether each training had converged.
    """
    answers = next(iter(runs.values())).answers["test"]
    of = conditions_of(cohort)[answers.visit]
    pair = closest(of)
    title = conditions()["title"].to_numpy()
    shared = ", ".join(title[of[list(pair)].all(0)])
    people, lists = [], []
    for patient, place in enumerate(pair, start=1):
        earlier = int(cohort.visit_number[answers.visit[place]])
        named = ", ".join(title[of[place]])
        people.append({"patient": patient, "earlier": earlier, "conditions": named, "shared": shared})
        for name, run in runs.items():
            lists += [{"patient": patient, "list": name, **row} for row in marked(cohort, run, place)]
    trained = [
        {"list": name, "converged": bool(run.metrics["converged"]), "best_epoch": run.metrics["best_epoch"]}
        for name, run in runs.items()
    ]
    return {
        "patients": pl.DataFrame(people),
        "lists": pl.DataFrame(lists),
        "runs": pl.DataFrame(trained, infer_schema_length=None),
    }


def read() -> kept.Kept:
    """The kept tables ``patients``, ``lists`` and ``runs`` of the cohort ``synthetic``.

    Raises:
        MedrecError: there are none.
    """
    return kept.read(STUDY, "synthetic", command=COMMAND)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, write the rows."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Lists of DiffKG for two synthetic patients.")
    parser.parse_args(arguments)
    cohort, start = load_cohort("synthetic"), time.perf_counter()
    runs = {name: train(system, cohort, variant=variant) for name, (system, variant) in TRAINED.items()}
    folder = kept.save(
        STUDY,
        tables(cohort, runs),
        cohort=cohort,
        command=COMMAND,
        code=kept.code_of(f"medrec.experiments.{STUDY}", "metrics", systems=SYSTEMS),
        systems=SYSTEMS,
        seconds=time.perf_counter() - start,
        more={"seeds": 1},
    )
    print(folder)


if __name__ == "__main__":
    main()
