"""Which rows of the tables matter most: what decides the rates of the default cohort, for a reader who checks them.

The DDI rate of prescribed sets is a sum over pairs of classes: how often a pair is given together, if it interacts.
Few pairs make most of the sum, and some of them rest on a single row of the list of drug pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec.book import page
from medrec.book.generated import html
from medrec.book.generated.evidence import behind
from medrec.data import load_cohort
from medrec.data.cohort import Cohort
from medrec.knowledge.classes import atc3
from medrec.knowledge.drugs import class_drugs
from medrec.knowledge.interactions import ddi_matrix

COHORT = "synthetic"
"""The cohort of chapters unless they say otherwise."""
SHOWN = 15
THIN = 2
"""Rows of the list, at most, that a thin pair rests on."""


@dataclass(frozen=True)
class Together:
    """What is given together in a cohort, and what of it interacts.

    Args:
        codes: classes, ``(M,)``.
        given: share of visits with each class, ``(M,)``.
        visits: how many visits there are.
        interacting: visits in which an interacting pair is given together, ``(M, M)``; 0 for other pairs.
        pairs: number of all pairs of all visits.
    """

    codes: tuple[str, ...]
    given: NDArray[np.float64]
    visits: int
    interacting: NDArray[np.int64]
    pairs: int

    @classmethod
    def of(cls, cohort: Cohort) -> Together:
        """Counted in the prescribed sets of a cohort."""
        codes = cohort.vocab["medication"].codes
        y = cohort.codes["medication"].multi_hot(cohort.n_medications).astype(np.int64)
        sizes = y.sum(1)
        return cls(
            tuple(codes),
            y.mean(0),
            len(y),
            (y.T @ y) * ddi_matrix(codes),
            int((sizes * (sizes - 1) // 2).sum()),
        )

    @property
    def rate(self) -> float:
        """DDI rate of the prescribed sets."""
        return float(np.triu(self.interacting).sum() / max(self.pairs, 1))

    def shares(self) -> pl.DataFrame:
        """Interacting pairs of classes, largest part of the rate first: ``a``, ``b``, ``visits``, ``share``."""
        i, j = np.nonzero(np.triu(self.interacting))
        visits = self.interacting[i, j]
        frame = pl.DataFrame(
            {
                "a": [self.codes[k] for k in i],
                "b": [self.codes[k] for k in j],
                "visits": visits,
                "share": visits / max(visits.sum(), 1),
            }
        )
        return frame.sort("share", "a", "b", descending=[True, False, False])


@cache
def together() -> Together:
    """Of :data:`COHORT`."""
    return Together.of(load_cohort(COHORT))


def pairs() -> pl.DataFrame:
    """:meth:`Together.shares` with the rows of the list that stand behind each pair.

    Returns:
        ``a``, ``b``, ``visits``, ``share``, ``rows`` (how many), ``gravest``, ``severity``, ``source``.
    """
    first = (
        behind()
        .group_by("atc3_1", "atc3_2", maintain_order=True)
        .agg(
            rows=pl.len(),
            gravest=pl.concat_str("drug_a", pl.lit(" and "), "drug_b").first(),
            severity=pl.col("severity").first(),
            source=pl.col("source").first(),
        )
    )
    ordered = together().shares().with_columns(atc3_1=pl.min_horizontal("a", "b"), atc3_2=pl.max_horizontal("a", "b"))
    return ordered.join(first, on=["atc3_1", "atc3_2"], how="left", maintain_order="left").drop("atc3_1", "atc3_2")


# -- parts of the page -----------------------------------------------------------------------------------------------


def _about() -> str:
    found = together()
    return f"prescribed sets of {page.cohort_line(load_cohort(COHORT))}, whose DDI rate is {found.rate:.3f}"


def pairs_table() -> str:
    """The pairs of classes that make most of the DDI rate."""
    top = pairs().head(SHOWN)
    frame = top.select(
        pair=pl.concat_str("a", pl.lit(" and "), "b"),
        **{
            "part of the rate": pl.col("share").map_elements(lambda x: f"{x:.1%}", return_dtype=pl.String),
            "rows of the list": pl.col("rows"),
            "gravest row": pl.col("gravest"),
            "its source": pl.col("source"),
        },
    )
    caption = f"The {SHOWN} pairs of classes that make {top['share'].sum():.0%} of all interacting pairs; {_about()}."
    return html(page.table(frame, caption=caption))


def thin_table() -> str:
    """The largest parts of the rate that rest on one or two rows of the list."""
    thin = pairs().filter(pl.col("rows") <= THIN)
    top = thin.head(SHOWN)
    frame = top.select(
        row=pl.col("gravest"),
        **{
            "joins": pl.concat_str("a", pl.lit(" and "), "b"),
            "part of the rate": pl.col("share").map_elements(lambda x: f"{x:.1%}", return_dtype=pl.String),
            "severity": pl.col("severity"),
            "source": pl.col("source"),
        },
    )
    caption = (
        f"Rows on which a pair of classes hangs alone or nearly so ({THIN} rows at most): the {len(top)} largest of "
        f"{len(thin)}, which together make {thin['share'].sum():.0%} of all interacting pairs; {_about()}."
    )
    return html(page.table(frame, caption=caption))


def classes_table() -> str:
    """The classes that take part in most interacting pairs, and the drugs that are filed under each."""
    found = together()
    parts = found.interacting.sum(1) / max(np.triu(found.interacting).sum(), 1)
    top = np.argsort(-parts, kind="stable")[:SHOWN]
    names = dict(atc3().select("code", "name").iter_rows())
    drugs = [class_drugs(found.codes[k]) for k in top]
    frame = pl.DataFrame(
        {
            "class": [f"{found.codes[k]} {names[found.codes[k]]}" for k in top],
            "visits with it": [f"{found.given[k]:.0%}" for k in top],
            "in interacting pairs": [f"{parts[k]:.0%}" for k in top],
            "drugs filed here": [len(filed) for filed in drugs],
        }
    )
    caption = f"The {SHOWN} classes that take part in most interacting pairs; {_about()}. A pair has two classes."
    return html(page.table(frame, caption=caption))
