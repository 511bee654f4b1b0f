"""What stands behind an interacting pair of classes: the rows of the book's own list that lift to it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations

import polars as pl

from medrec.knowledge.interactions import (
    RETAINED,
    SEVERITIES,
    class_pairs,
    ddi_matrix,
    interactions,
    systemic_classes,
)

COUNTED = SEVERITIES[: SEVERITIES.index("moderate") + 1]
"""Severities that make an edge of the book's matrix."""


@cache
def behind() -> pl.DataFrame:
    """Every drug pair of the list under every class pair that it lifts to, as :func:`class_pairs` lifts it.

    Returns:
        ``atc3_1`` < ``atc3_2``, ``drug_a``, ``drug_b``, ``effect``, ``severity``, ``source``; sorted by class pair,
        the gravest drug pair first, then by name.
    """
    listed = interactions().filter(pl.col("severity").is_in(COUNTED))
    retained = pl.col("mechanism") == RETAINED
    classes = systemic_classes()
    joined = (
        listed.join(classes.rename({"name": "drug_a", "atc3": "a"}), on="drug_a")
        .join(classes.rename({"name": "drug_b", "atc3": "b"}), on="drug_b")
        .filter(pl.col("a") != pl.col("b"))
        .with_columns(atc3_1=pl.min_horizontal("a", "b"), atc3_2=pl.max_horizontal("a", "b"))
    )
    # What harms by lying in one place counts for what is swallowed only: the few rows are lifted one by one.
    slow = [
        joined.join(one.select("drug_a", "drug_b"), on=["drug_a", "drug_b"]).join(
            class_pairs(one), on=["atc3_1", "atc3_2"], how="semi"
        )
        for one in listed.filter(retained).iter_slices(1)
    ]
    grave = pl.col("severity").replace_strict({name: i for i, name in enumerate(SEVERITIES)}, return_dtype=pl.Int64)
    return (
        pl.concat([joined.filter(~retained), *slow])
        .sort("atc3_1", "atc3_2", grave, "drug_a", "drug_b")
        .select("atc3_1", "atc3_2", "drug_a", "drug_b", "effect", "severity", "source")
        .unique(maintain_order=True)
    )


def edges(classes: Sequence[str]) -> pl.DataFrame:
    """Pairs of classes that the book's own list joins: the number of drug pairs behind each, and the gravest of them.

    Args:
        classes: codes of ATC level 3.

    Returns:
        ``classes``, ``pairs of drugs``, ``gravest``, ``effect``, ``severity``, ``source``; in the order of classes.
    """
    matrix, found = ddi_matrix(classes), []
    for (i, a), (j, b) in combinations(enumerate(classes), 2):
        if matrix[i, j]:
            rows = behind().filter(atc3_1=min(a, b), atc3_2=max(a, b))
            first = rows.row(0, named=True)
            found.append(
                {
                    "classes": f"{a} and {b}",
                    "pairs of drugs": len(rows),
                    "gravest": f"{first['drug_a']} and {first['drug_b']}",
                    "effect": first["effect"],
                    "severity": first["severity"],
                    "source": first["source"],
                }
            )
    return pl.DataFrame(found)
