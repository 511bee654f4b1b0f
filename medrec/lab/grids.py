"""Kept rows of grids: read, compared, judged, and shown.

``medrec sweep GRID --cohort NAME --seeds N --keep`` trains a grid and writes its rows; what it trains is written in
:mod:`medrec.lab.rows`, how runs become rows in :mod:`medrec.lab.collect`.  Rows of synthetic and open demo records go
to ``results/grids/``, rows of credentialed records to the run store, never into the checkout (:mod:`medrec.lab.kept`).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl

from medrec import tasks
from medrec.data.cohort import Cohort, Source, titled
from medrec.lab import kept
from medrec.lab.rows import declared, with_searched
from medrec.models.base import Row
from medrec.tasks.evaluation import Interval
from medrec.tasks.verdicts import Verdict, verdict, verdict_of_equality
from medrec.types import MedrecError

USUAL = {
    "visits": {"threshold": "tuned", "visits": "all visits", "metric": "jaccard"},
    "ranking": {"protocol": "house", "metric": "ndcg_20"},
}
"""What is looked at first, by task."""

SEEDS = 3
"""Trainings of each network, unless a verdict hangs on more."""


@dataclass(frozen=True)
class Grid:
    """The rows of a grid on one cohort.

    Args:
        name: of the grid.
        cohort: whose patients were tested.
        scores: one row for each system, threshold, group of visits and metric: ``key``, ``label``, ``knob``,
            ``setting``, ``threshold``, ``visits``, ``metric``, ``value``, ``low``, ``high``, ``seed_sd`` (between
            training seeds; null where there is one); ``delta``, ``delta_low``, ``delta_high`` against the first row on
            the visits that both score; ``patients``, ``n_visits``.  In a grid of rankers ``protocol`` stands in the
            place of threshold and visits.
        costs: one row for each system: ``key``, ``label``, ``past_only`` (whether it sees nothing of the visit that is
            asked about), ``seeds``, ``parameters``, ``epochs``, ``best_epoch`` (medians), ``validation`` (Jaccard, of
            rankers NDCG@20 of the validation patients, mean: by this a setting is chosen; networks
            at the epoch that was kept, estimators at their tuned threshold), ``converged`` (with every seed),
            ``degenerate`` (what is said to everybody, where that is so), ``below_popularity`` (with a seed),
            ``seconds_per_epoch``, ``seconds``, ``peak_mib``.  Rows of before lack ``seed_sd``, ``past_only`` and the
            three behind ``validation``.
        provenance: cohort, seeds, split, device, and of kept rows everything that :mod:`medrec.lab.kept` writes.
        note: why the rows are not what the code of today would make; empty where they are, or were made just now.
    """

    name: str
    cohort: str
    scores: pl.DataFrame
    costs: pl.DataFrame
    provenance: Mapping[str, Any]
    note: str = ""

    @property
    def source(self) -> Source:
        """``"synthetic"``, ``"demo"`` or ``"credentialed"``."""
        source: Source = self.provenance["cohort"]["source"]
        return source

    @property
    def n_patients(self) -> int:
        """Test patients."""
        return int(self.scores["patients"].max())  # type: ignore[arg-type]

    @property
    def line(self) -> str:
        """Whose patients, how many, how many training seeds, and whether the rows are of today's code: for captions."""
        seeds = self.provenance["seeds"]
        return (
            f"{titled(self.cohort, self.source)}, {self.n_patients} test patients, "
            f"{seeds} training seed{'s' * (seeds != 1)}" + (f", {self.note}" if self.note else "")
        )

    @property
    def task(self) -> Literal["visits", "ranking"]:
        """Whose columns the scores have."""
        return "ranking" if "protocol" in self.scores.columns else "visits"

    def select(self, **chosen: str) -> pl.DataFrame:
        """Rows of one metric, in the order of the grid.

        Args:
            chosen: ``threshold``, ``visits`` and ``metric``, default: tuned, all visits, Jaccard; of rankers
                ``protocol`` and ``metric``, default: house, NDCG@20.
        """
        return self.scores.filter(**(USUAL[self.task] | chosen))

    def by_key(self, **chosen: str) -> dict[str, dict[str, Any]]:
        """Rows of :meth:`select` by key, for :func:`interval`, :func:`words` and :meth:`judge`."""
        return {row["key"]: row for row in self.select(**chosen).iter_rows(named=True)}

    def by_label(self, **chosen: str) -> dict[str, dict[str, Any]]:
        """The same by label."""
        return {row["label"]: row for row in self.select(**chosen).iter_rows(named=True)}

    def changes(self, **chosen: str) -> dict[str, Interval]:
        """Change of each row of :meth:`select` but the reference, which is the first, against that one, by label."""
        return {label: interval(row, "delta") for label, row in list(self.by_label(**chosen).items())[1:]}

    def judge(self, row: Mapping[str, Any], sign: int = 1, *, equal: bool = False, **more: Any) -> Verdict:
        """Verdict on the change of a row against the first one.

        Args:
            row: from :meth:`by_key` or :meth:`by_label`.
            sign: 1: the claim is that this row is better; -1: that the first one is.
            equal: the claim is that the two are alike.
            more: of :func:`~medrec.tasks.verdicts.verdict` or :func:`~medrec.tasks.verdicts.verdict_of_equality`.
        """
        not_learnt = [reason for key in dict.fromkeys((self.reference, row["key"])) if (reason := self.not_learnt(key))]
        if not_learnt:
            return Verdict("no verdict", f"{'; '.join(not_learnt)}.")
        delta = interval(row, "delta", sign)
        about: dict[str, Any] = {"cohort": self.cohort, "source": self.source, "n_seeds": self.provenance["seeds"]}
        about |= {"n_patients": row["patients"], **more}
        return verdict_of_equality(delta, **about) if equal else verdict(delta, **about)

    @property
    def reference(self) -> str:
        """Key of the row that the others are compared with."""
        return str(self.costs["key"][0])

    def not_learnt(self, key: str) -> str:
        """Why a row bears no verdict, for verdicts and captions; empty where it does."""
        row = self.costs.filter(key=key)
        if row.is_empty() or "converged" not in row.columns:
            return ""
        label, converged, degenerate = row["label"][0], row["converged"][0], row["degenerate"][0]
        if degenerate is not None:
            return f"{label} says {degenerate}"
        return "" if converged else f"{label}'s training had not converged"

    def wide(self, **chosen: str) -> pl.DataFrame:
        """One row a system, the columns of the task side by side; intervals in ``… low`` and ``… high``.

        Args:
            chosen: as of :meth:`select`, without ``metric``.
        """
        frames: list[pl.DataFrame] = []
        for metric, head in tasks.get(self.task).MEASURES.columns.items():
            part = self.select(metric=metric, **chosen).select(
                "key",
                "label",
                pl.col("value").alias(head),
                pl.col("low").alias(f"{head} low"),
                pl.col("high").alias(f"{head} high"),
            )
            frames.append(part.drop("key", "label") if frames else part)
        return pl.concat(frames, how="horizontal")


def interval(row: Mapping[str, Any], of: Literal["value", "delta"] = "value", sign: int = 1) -> Interval:
    """Level of a row, or its change against the first one; with ``sign`` -1 what the first one has over it."""
    start = "" if of == "value" else "delta_"
    value, *ends = (0.0 + sign * row[name] for name in (of, f"{start}low", f"{start}high"))  # 0.0 +: no minus zero
    low, high = sorted(ends)
    return Interval(value, low, high, (high - low) / (2 * 1.96))


def words(row: Mapping[str, Any] | None, of: Literal["value", "delta"] = "value", digits: int = 3) -> str | None:
    """:func:`interval` for a cell of a table; None where there is no row or no value."""
    return None if row is None or row[of] is None else interval(row, of).format(digits)


def about_rows(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """What is trained, by key: part of what kept rows say of themselves."""
    return {row.key: {"system": row.system, "variant": row.variant, "settings": dict(row.settings)} for row in rows}


# -- kept rows ---------------------------------------------------------------------------------------------------------


def keep(grid: Grid, cohort: Cohort, searched: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """Write the rows of a grid of the project.

    Args:
        grid: from :func:`medrec.lab.collect.collect`.
        cohort: whose rows.
        searched: settings by system that a search on these records found, and its rows have.

    Returns:
        The folder.

    Raises:
        MedrecError: the grid is a user's own, or was declared otherwise.
    """
    rows = declared(grid.name).rows
    here = {row.system: dict(searched[row.system]) for row in rows if searched and row.system in searched}
    if about_rows(with_searched(rows, here)) != grid.provenance["rows"]:
        raise MedrecError(f"Grid {grid.name!r} declares other rows than these. Make them again.")
    systems = {f"{row['system']}/{row['variant']}" for row in grid.provenance["rows"].values()}
    more = {name: grid.provenance[name] for name in ("seeds", "split", "interactions", "rows")} | {"searched": here}
    return kept.save(
        _study(grid.name),
        {"scores": grid.scores, "costs": grid.costs},
        cohort=cohort,
        command=command(grid.name, cohort, grid.provenance["seeds"]) + (" --tuned" if here else ""),
        code=kept.code_of("medrec.lab.collect", "tasks", "metrics", systems=systems),
        systems=systems,
        seconds=grid.provenance["seconds"],
        device=grid.provenance["device"],
        more=more,
    )


def read(grid: str, cohort: Cohort | str, source: str = "synthetic", *, default: str | None = None) -> Grid:
    """Rows that were kept: those of this cohort, and where there are none those of ``default``.

    Args:
        grid: its name.
        cohort: whose rows; a name is enough, but only of a cohort can be told whether it has changed since.
        source: of the cohort, where only a name is given.
        default: synthetic cohort whose rows come with the book; ``Grid.cohort`` tells whose rows came.

    Raises:
        NotKeptError: there are none; the message says what makes them.
        MedrecError: what is kept cannot be read.
    """
    found = kept.read(_study(grid), cohort, source, default, command=command(grid, cohort))
    today = declared(grid)
    labels = {row.label: row.key for row in today.rows} | {row.label: row.key for row in today.contrasts}
    tables = {}
    for table in ("scores", "costs"):
        rows = found.table(table)
        renamed = bool(today.former) and set(today.former) <= set(rows["label"])
        if renamed:
            rows = rows.with_columns(pl.col("label").replace(today.former))
        if renamed or "key" not in rows.columns:  # rows were once told apart by their labels alone
            rows = rows.select(pl.col("label").replace(labels).alias("key"), pl.exclude("key"))
        tables[table] = rows
    note = found.note.removesuffix(".").lower()
    if not note and found.provenance["rows"] != about_rows(
        with_searched(today.rows, found.provenance.get("searched", {}))
    ):
        note = "made for other rows of this grid"
    assert found.cohort is not None
    return Grid(grid, found.cohort, tables["scores"], tables["costs"], found.provenance, note)


class Looked(NamedTuple):
    """Rows of a grid, or ``None``; a sentence that says whose they are, or that there are none; what makes them."""

    rows: Grid | None
    line: str
    command: str


def look(grid: str, cohort: Cohort | str, *, default: str) -> Looked:
    """As :func:`read`, for a page that has something to say where no rows are kept.

    Raises:
        MedrecError: what is kept cannot be read.
    """
    makes = command(grid, cohort)
    try:
        found = read(grid, cohort, default=default)
    except kept.NotKeptError:
        return Looked(None, f"No rows of {grid} are kept.", makes)
    return Looked(found, f"Rows of {found.line}.", makes)


def command(grid: str, cohort: Cohort | str, seeds: int = SEEDS) -> str:
    """What makes the rows of a grid."""
    name = cohort.name if isinstance(cohort, Cohort) else cohort
    return shlex.join(["medrec", "sweep", grid, "--cohort", name, "--seeds", str(seeds), "--keep"])


def _study(grid: str) -> str:
    return f"grids/{grid}"
