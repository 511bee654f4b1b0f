"""All drugs in space: which of them have a geometry, how good it is, and what shapes can tell apart.

``python -m medrec.experiments.molecules_3d`` makes a conformer of every structure of the drug table (minutes when the
cache is cold) and keeps three tables (:mod:`medrec.lab.kept`), from where the chapter reads them:

* ``drugs``: one row a drug with a structure; the rule that it met, and its geometry beside that of its drawing;
* ``bonds``: one row a kind of bond; its length over all drugs, and that of tables;
* ``shapes``: overlays of conformers within and between drugs, one row a pair of conformers, for each of
  :data:`SEEDS`.

No patient is involved.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import polars as pl
import torch

from medrec import keys
from medrec.chem.conformers import Conformers, conformers, flat
from medrec.chem.geometry import bond_lengths, flatness, radius_graph
from medrec.chem.similarity import shape_overlap
from medrec.knowledge.drugs import drugs
from medrec.lab import kept

STUDY = "molecules_3d"
COMMAND = f"python -m medrec.experiments.{STUDY}"
SEEDS = (1, 2, 3)
DRAWN, LOWEST = 20, 6
"""Conformers that are made of each molecule, and how many of them, lowest energy first, are overlaid."""
SAME = 0.98
"""Overlap from which two conformers count as one shape: relaxing leads several draws into one hollow."""
PAIRS = (
    ("atropine", "ipratropium"),
    ("atropine", "atropine"),
    ("ipratropium", "ipratropium"),
    ("atropine", "warfarin"),
    ("ipratropium", "warfarin"),
    ("quinine", "quinidine"),
    ("quinine", "quinine"),
    ("quinidine", "quinidine"),
)
"""A pair of one drug with itself compares its different conformers."""


def structures() -> dict[str, str]:
    """SMILES of every drug that has one."""
    return dict(drugs().filter(pl.col("smiles") != "").select("name", "smiles").iter_rows())


def describe(name: str, one: Conformers, drawing: Conformers) -> dict[str, Any]:
    """One row of ``drugs``; lengths in Å, null where there is nothing to measure.

    Args:
        name: of the drug.
        one: its conformer.
        drawing: the same molecule by :func:`medrec.chem.conformers.flat`.
    """
    row: dict[str, Any] = {
        "name": name,
        "atoms": len(one.atoms),
        "force_field": one.force_field,
        "converged": one.converged,
    }
    if one.found:
        bonds = bond_lengths(one)
        off = (bonds["length"] - bonds["expected"]).abs().to_numpy()
        row |= {
            "flatness": flatness(one.coordinates[0]),
            "flatness_drawing": flatness(drawing.coordinates[0]),
            "neighbours": neighbours(one),
            "neighbours_drawing": neighbours(drawing),
            "bond_error": float(np.median(off)) if len(off) else None,
        }
    return row | {"note": one.note}


def neighbours(one: Conformers) -> float:
    """Mean number of neighbours within 4.5 Å in the first conformer."""
    return radius_graph(torch.from_numpy(np.array(one.coordinates[0]))).shape[1] / len(one.atoms)


def bond_table(found: list[Conformers]) -> pl.DataFrame:
    """Kinds of bonds over all molecules: how many, median and 5 % and 95 % points of length, length by tables."""
    every = pl.concat([bond_lengths(one) for one in found if one.found])
    length = pl.col("length")
    return (
        every.group_by("bond", "order")
        .agg(
            n=pl.len(),
            median=length.median(),
            low=length.quantile(0.05),
            high=length.quantile(0.95),
            expected=pl.col("expected").first(),
            error=(length - pl.col("expected")).abs().median(),
        )
        .sort("n", "bond", "order", descending=[True, False, False])
    )


def shapes(known: dict[str, str]) -> pl.DataFrame:
    """Overlays of the lowest conformers of different shape, one row a pair of conformers, seed by seed.

    Args:
        known: SMILES by name.
    """
    names = sorted({name for pair in PAIRS for name in pair})
    rows = []
    for seed in SEEDS:
        made = conformers([known[name] for name in names], n=DRAWN, seed=seed)
        lowest = {name: different(one) for name, one in zip(names, made, strict=True)}
        for a, b in PAIRS:
            overlap = shape_overlap(lowest[a], lowest[b])
            # Of one drug every pair once, and none of a conformer with itself.
            compared = zip(*np.triu_indices(len(overlap), 1), strict=True) if a == b else np.ndindex(overlap.shape)
            rows += [{"a": a, "b": b, "seed": seed, "i": i, "j": j, "overlap": overlap[i, j]} for i, j in compared]
    return pl.DataFrame(rows)


def different(one: Conformers, most: int = LOWEST) -> Conformers:
    """The lowest conformers that are different shapes: none overlaps a lower one by more than :data:`SAME`."""
    overlap = shape_overlap(one, one)
    kept: list[int] = []
    for i in range(len(overlap)):
        if len(kept) < most and (overlap[kept, i] <= SAME).all():
            kept.append(i)
    return Conformers(one.smiles, one.atoms, one.coordinates[kept], one.energies[kept])


def read() -> kept.Kept:
    """The kept tables ``drugs``, ``bonds`` and ``shapes``."""
    return kept.read(STUDY, command=COMMAND)


def main() -> None:
    """Make, measure, write."""
    start, known = time.perf_counter(), structures()
    found, drawn = conformers(list(known.values())), flat(list(known.values()))
    tables = {
        "drugs": pl.DataFrame(
            [describe(*row) for row in zip(known, found, drawn, strict=True)], infer_schema_length=None
        ),
        "bonds": bond_table(found),
        "shapes": shapes(known),
    }
    folder = kept.save(
        STUDY,
        {name: table.with_columns(pl.selectors.float().round(4)) for name, table in tables.items()},
        cohort=None,
        command=COMMAND,
        code=kept.code_of("medrec.experiments.molecules_3d", "chem"),
        seconds=time.perf_counter() - start,
        more={"structures": keys.digest(known)},
    )
    print(folder)


if __name__ == "__main__":
    main()
