"""Which drugs stand for a class, and their structures as SMILES."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import polars as pl

from medrec.knowledge.drugs import combinations, drug_atc, drugs
from medrec.types import MedrecError


def structures(
    codes: Sequence[str], *, per_class: int = 3, only: Mapping[str, Sequence[str]] | None = None
) -> list[dict[str, str]]:
    """Drugs of the given ATC level-3 classes with their canonical SMILES, for each class in turn.

    The drugs of a class are those that ``drug_atc.csv`` puts there by some route.  A class whose products are all
    combinations takes their ingredients.

    Args:
        codes: ATC level-3 classes, one a medication.
        per_class: at most so many structures a class, the drugs with most marketed products first, ties by name;
            released codes keep at most three.  0: all of them.
        only: drugs that stand for a class, whatever the table says.

    Returns:
        For each class drug → SMILES, every structure once; empty where no drug has one.

    Raises:
        MedrecError: a drug of ``only`` has no structure.
    """
    known = _smiles()
    chosen = []
    for code in codes:
        names = (only or {}).get(code)
        if names is None:
            names = _different([name for name in _by_use().get(code, ()) if name in known], known)[: per_class or None]
        elif unknown := [name for name in names if name not in known]:
            raise MedrecError(f"The drug {unknown[0]!r}, which stands for class {code}, has no structure.")
        chosen.append({name: known[name] for name in names})
    return chosen


@cache
def _smiles() -> dict[str, str]:
    """Canonical SMILES of every drug that has one."""
    return dict(drugs().filter(pl.col("smiles") != "").select("name", "smiles").iter_rows())


@cache
def _by_use() -> dict[str, tuple[str, ...]]:
    """Drugs of each class, the most marketed first; made in one go, because every look into the run store asks."""
    common = dict(drugs().select("name", "n_products").iter_rows())
    names_of: dict[str, set[str]] = {}
    for name, code in drug_atc().select("name", "atc3").iter_rows():
        names_of.setdefault(code, set()).add(name)
    of_combinations: dict[str, set[str]] = {}
    for ingredients, code in combinations().select("ingredients", "atc3").iter_rows():
        of_combinations.setdefault(code, set()).update(ingredients)
    return {
        code: tuple(sorted(names & common.keys(), key=lambda name: (-common[name], name)))
        for code, names in (of_combinations | names_of).items()
    }


def _different(names: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """The first name of each structure."""
    seen: dict[str, str] = {}
    for name in names:
        seen.setdefault(known[name], name)
    return list(seen.values())
