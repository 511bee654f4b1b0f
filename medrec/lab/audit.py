"""The audit: what each difference between a paper and its released code moves, and what became of each claim.

Two tables stand beside this module.  ``audit_switches.csv`` has a line for each switch and system: its values in the
paper and in the released code, its kind, what was expected of it before anything was run, and the row of a kept grid
that turns it and nothing else.  ``claims.csv`` has a line for each claim of the three papers: where it stands, what
would confirm and what would refute it, and the rows of a kept grid that bear on it.

Effects are always official minus paper.  Numbers come from kept rows alone (:mod:`medrec.lab.grids`); where there are
none, the command that makes them stands in their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control, norm

from medrec.data.cohort import Cohort
from medrec.lab import grids
from medrec.lab.grids import Grid, interval
from medrec.lab.rows import declared
from medrec.models import registry
from medrec.models.base import Row
from medrec.tasks.evaluation import Interval
from medrec.tasks.verdicts import SMALLEST_DIFFERENCE, Verdict, verdict, verdict_of_equality
from medrec.types import MedrecError

KINDS = ("leak", "defect", "choice", "optimisation", "data", "selection")
"""Of switches: test patients are seen in training; code that does not do what its authors wrote; one of several
readings; how it is trained; what it is given; by what an epoch or a threshold is picked."""
LEVEL = 0.05
"""Share of false alarms that is accepted."""


# -- switches ----------------------------------------------------------------------------------------------------------


def switches() -> pl.DataFrame:
    """All switches of the audit.

    Returns:
        ``number`` of the switch; ``system``, its name or ``all``; ``switch``, settings by name; ``paper`` and
        ``official``, their values; ``kind``, one of :data:`KINDS`; ``sign`` that was expected of official minus paper
        (``+``, ``-``, ``0`` or ``?``), ``expected`` in words and ``control``, all written before anything was run;
        ``grid`` and ``key`` of the row that turns it alone, or, where there is none, ``why``; ``chapter``; and the
        ``test`` of this project that sees the difference.
    """
    return _read("audit_switches")


def turned(grid: str, key: str) -> tuple[Row, Row]:
    """The row that is turned and the one it is compared with, as the change of a kept row compares them.

    Args:
        grid: its name.
        key: of a row, which is compared with the first one, or of a contrast of two rows.

    Raises:
        MedrecError: the grid has neither a row nor a contrast of two rows with this key.
    """
    found = declared(grid)
    for contrast in found.contrasts:
        if contrast.key == key and sorted(contrast.signs.values()) == [-1, 1]:
            by_sign = {sign: found.row(name) for name, sign in contrast.signs.items()}
            return by_sign[1], by_sign[-1]
    return found.row(key), found.rows[0]


def differing(row: Row, other: Row) -> dict[str, tuple[Any, Any]]:
    """Settings in which two rows of one system differ, resolved as for a cohort of the papers' size.

    Returns:
        By name, the value in ``row`` and the value in ``other``.
    """
    one, two = (asdict(registry.get(x.system).configure(x.variant, x.settings)) for x in (row, other))
    return {name: (value, two[name]) for name, value in one.items() if value != two[name]}


def direction(switch: Mapping[str, Any]) -> int:
    """What the change of a kept row is multiplied by, so that it is official minus paper.

    Args:
        switch: a row of :func:`switches` with a key.

    Returns:
        1 where the turned row holds the released value, -1 where it holds the paper's.

    Raises:
        MedrecError: the two rows differ in another setting, or hold other values.
    """
    row, other = turned(switch["grid"], switch["key"])
    values = {name: (str(a), str(b)) for name, (a, b) in differing(row, other).items()}
    for sign, pair in ((1, ("official", "paper")), (-1, ("paper", "official"))):
        if values == {switch["switch"]: tuple(switch[side] for side in pair)}:
            return sign
    raise MedrecError(
        f"Row {switch['key']!r} of grid {switch['grid']!r} turns {values}, and switch {switch['number']} is "
        f"{switch['switch']} from {switch['paper']} to {switch['official']}. Mend audit_switches.csv."
    )


def effects(cohort: Cohort | str, default: str = "synthetic") -> pl.DataFrame:
    """What the switches move, of which rows are kept: official minus paper.

    Jaccard and DDI rate are at tuned thresholds, over all visits, or over later visits where the system leaves first
    visits out; rankers have NDCG@20 by the protocol of the house, and no other column.

    Args:
        cohort: whose rows.
        default: synthetic cohort whose rows come with the book.

    Returns:
        One row a measured switch, the largest change first.  ``number``, ``system`` (label), ``switch``, ``kind``,
        ``sign`` and ``expected``; ``metric``, ``visits``; ``delta``, ``low``, ``high`` (95 %, seeds and patients
        resampled together) and ``p``, see :func:`two_sided`; ``ddi_rate`` and ``n_medications``, their changes;
        ``cost``, seconds of a training, official over paper; ``seeds``, ``patients``, ``cohort``, its ``source``;
        ``key`` of the kept rows and ``note`` on them; ``not_learnt``, why there is no verdict, empty where there is
        one; ``verdict`` on "it moves nothing that matters"; ``chapter``.
    """
    found = []
    for switch in switches().filter(pl.col("key").is_not_null()).iter_rows(named=True):
        grid = grids.look(switch["grid"], cohort, default=default).rows
        if grid is None or not _has(grid, switch):
            continue
        found.append(_effect(switch, grid))
    frame = pl.DataFrame(found, schema=_EFFECT, orient="row")
    return frame.sort(pl.col("delta").abs(), descending=True, maintain_order=True)


_EFFECT: dict[str, Any] = {
    "number": pl.Int64,
    **dict.fromkeys(("system", "switch", "kind", "sign", "expected", "metric", "visits"), pl.String),
    **dict.fromkeys(("delta", "low", "high", "p", "ddi_rate", "n_medications", "cost"), pl.Float64),
    **dict.fromkeys(("seeds", "patients"), pl.Int64),
    **dict.fromkeys(("cohort", "source", "key", "note", "not_learnt", "verdict", "chapter"), pl.String),
}


def _effect(switch: Mapping[str, Any], grid: Grid) -> dict[str, Any]:
    key, sign, chosen = switch["key"], direction(switch), view(grid)
    usual = grids.USUAL[grid.task] | chosen
    row = grid.by_key(**chosen)[key]
    delta = interval(row, "delta", sign)
    more = {}
    if grid.task == "visits":
        for metric in ("ddi_rate", "n_medications"):
            more[metric] = interval(grid.by_key(**chosen, metric=metric)[key], "delta", sign).value
    reasons = _not_learnt(grid, key)
    seconds = [grid.costs.filter(key=x.key)["seconds"].to_list() for x in turned(switch["grid"], key)]
    ratio = seconds[0][0] / seconds[1][0] if all(seconds) and all(s[0] for s in seconds) else None
    judged = Verdict("no verdict", reasons) if reasons else verdict_of_equality(delta, **about(grid, row))
    return {
        **{name: switch[name] for name in ("number", "switch", "kind", "sign", "expected", "chapter")},
        "system": registry.get(switch["system"]).label,
        "metric": usual["metric"],
        "visits": usual.get("visits", "last visits"),
        "delta": delta.value,
        "low": delta.low,
        "high": delta.high,
        "p": two_sided(delta),
        "ddi_rate": more.get("ddi_rate"),
        "n_medications": more.get("n_medications"),
        "cost": ratio if ratio is None or sign == 1 else 1 / ratio,
        "seeds": grid.provenance["seeds"],
        "patients": row["patients"],
        "cohort": grid.cohort,
        "source": grid.source,
        "key": grid.provenance["key"],
        "note": grid.note,
        "not_learnt": reasons,
        "verdict": judged.word,
    }


def largest(measured: pl.DataFrame, kind: str) -> str:
    """The largest change of a kind, in the words that a verdict has.

    Args:
        measured: from :func:`effects`.
        kind: one of :data:`KINDS`.
    """
    rows = measured.filter(kind=kind).to_dicts()
    if not rows:
        return "No row of this kind is kept."
    row, of = rows[0], f"The largest of {len(rows)}, " if len(rows) > 1 else "The only one, "
    of += f"{row['system']}'s {row['switch']}"
    if row["not_learnt"]:
        return f"{of}, has no verdict: {row['not_learnt']}."
    numbers = (
        f"{row['delta']:+.3f} (95 % {row['low']:+.3f} to {row['high']:+.3f}; "
        f"{row['seeds']} seeds, {row['patients']} patients)"
    )
    where = row["cohort"] if row["source"] == "credentialed" else f"{row['source']} records"
    metric = "NDCG@20" if row["metric"] == "ndcg_20" else "Jaccard"
    if row["verdict"] == "holds":
        return f"{of}, moves nothing that matters on {where}: {numbers}."
    if row["low"] <= 0 <= row["high"]:
        return f"{of}, is not decided: {numbers}."
    return f"{of}, {'raises' if row['delta'] > 0 else 'lowers'} {metric} on {where}: {numbers}."


def missing(cohort: Cohort | str, default: str = "synthetic") -> pl.DataFrame:
    """Switches without a kept row, and why, or what makes it.

    Returns:
        ``number``, ``system``, ``switch``, ``kind``, ``expected``, ``why``, ``chapter``.
    """
    found = []
    for switch in switches().iter_rows(named=True):
        why = switch["why"]
        if switch["key"] is not None:
            grid = grids.look(switch["grid"], cohort, default=default).rows
            if grid is not None and _has(grid, switch):
                continue
            why = ("its kept rows lack this one: " if grid is not None else "no rows are kept: ") + grids.command(
                switch["grid"], cohort
            )
        system = "all" if switch["system"] == "all" else registry.get(switch["system"]).label
        found.append({**switch, "system": system, "why": why})
    names = ("number", "system", "switch", "kind", "expected", "why", "chapter")
    return pl.DataFrame(found, schema_overrides={"why": pl.String}).select(names)


# -- one at a time, and all at once ------------------------------------------------------------------------------------


def additivity(cohort: Cohort | str, default: str = "synthetic") -> pl.DataFrame:
    """Sum of single switches against all of them together, for each system whose kept grid has both.

    A single row of a grid counts where it differs from the first one in one setting, and has there what the variant
    ``official`` has.  Kept rows do not say how their changes vary together, so that a remainder has no interval.

    Returns:
        ``system``; ``switches``, those turned alone, and ``changes``, what each moves; ``total``, their sum;
        ``joint``, what ``official`` moves; ``remainder``, joint minus total; ``others``, settings that ``official``
        turns and no single row; ``note`` on the rows; ``not_learnt``, why there is no verdict.
    """
    found = []
    for name in registry.NAMES:
        rows = {row.key: row for row in declared(name).rows}
        grid = grids.look(name, cohort, default=default).rows if "official" in rows else None
        if grid is None or "official" not in grid.by_key(**view(grid)):
            continue
        kept, first = grid.by_key(**view(grid)), next(iter(rows.values()))
        joint = differing(rows["official"], first)
        singles = {}
        for key, row in rows.items():
            own = differing(row, first) if key in kept and key != "official" else {}
            if len(own) == 1 and own.items() <= joint.items():
                singles[next(iter(own))] = key
        if not singles or len(joint) < 2:
            continue
        changes = [kept[key]["delta"] for key in singles.values()]
        reasons = dict.fromkeys(r for key in (*singles.values(), "official") if (r := _not_learnt(grid, key)))
        found.append(
            {
                "system": registry.get(name).label,
                "switches": list(singles),
                "changes": changes,
                "total": sum(changes),
                "joint": kept["official"]["delta"],
                "remainder": remainder(changes, kept["official"]["delta"]),
                "others": [setting for setting in joint if setting not in singles],
                "note": grid.note,
                "not_learnt": "; ".join(reasons),
            }
        )
    texts, numbers = ("system", "note", "not_learnt"), ("total", "joint", "remainder")
    schema: dict[str, Any] = dict.fromkeys(texts, pl.String) | dict.fromkeys(numbers, pl.Float64)
    schema |= {"switches": pl.List(pl.String), "others": pl.List(pl.String), "changes": pl.List(pl.Float64)}
    order = ("system", "switches", "changes", "total", "joint", "remainder", "others", "note", "not_learnt")
    return pl.DataFrame(found, schema={name: schema[name] for name in order})


def remainder(singles: Iterable[float], joint: float) -> float:
    """What switches do together beyond the sum of what each does alone: their interaction."""
    return joint - sum(singles)


# -- many comparisons --------------------------------------------------------------------------------------------------


def two_sided(delta: Interval) -> float:
    """Probability of a change at least as large if there were none, by the normal approximation of its interval.

    The standard error is the width of the 95 % interval over 2 · 1.96.  A change with an interval of no width has 1
    where it is 0, and 0 where it is not.
    """
    if delta.se == 0:
        return float(delta.value == 0)
    return float(2 * norm.sf(abs(delta.value) / delta.se))


def corrected(p: ArrayLike) -> pl.DataFrame:
    """Probabilities, corrected for the number of comparisons.

    Args:
        p: one for each comparison.

    Returns:
        In the order of ``p``: ``p``; ``benjamini_hochberg``, to be held against the share of false alarms among all
        that are called changes; ``holm``, to be held against the chance of a single false alarm.
    """
    values = np.asarray(p, dtype=np.float64)
    controlled = false_discovery_control(values) if values.size else values
    return pl.DataFrame({"p": values, "benjamini_hochberg": controlled, "holm": holm(values)})


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest p times ``m``, the next times ``m - 1`` and so on, in the order of ``p``; rising, and at most 1."""
    order = np.argsort(p, kind="stable")
    found = np.empty_like(p)
    found[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return found


# -- claims ------------------------------------------------------------------------------------------------------------


def claims() -> pl.DataFrame:
    """All claims of the ledger.

    Returns:
        ``id``, ``paper``, ``claim``, ``place``; ``evidence``, kinds of: i arithmetic on printed numbers, ii reading
        or running code, iii runs on synthetic records; what ``confirms`` and what ``refutes`` it; ``arithmetic``,
        whether printed numbers alone decide something; ``grid``, ``keys`` and ``sign`` of the kept rows that bear on
        it (1: the row has to be better than the one it is compared with, -1: worse, 0: alike), ``metric`` and
        ``cohort`` whose rows come with the book; what synthetic records ``lack`` that the claim needs; or the
        ``reason`` why it cannot be tested here; ``chapter``.
    """
    return _read("claims")


def judged(claim: Mapping[str, Any], cohort: Cohort | str) -> tuple[Verdict | None, str | None]:
    """Verdict of kept rows on a claim.

    Several rows bear one verdict together, see :func:`together`.

    Args:
        claim: a row of :func:`claims`.
        cohort: whose rows; of synthetic ones those of the size that the claim names.

    Returns:
        The verdict, ``None`` for a claim that neither names rows nor a reason why it cannot be tested; and the key of
        the kept rows, ``None`` where there are none or older code made them.
    """
    if claim["grid"] is None:
        reason = claim["reason"]
        return (Verdict("cannot be tested here", f"{reason}.") if reason else None), None
    invented = isinstance(cohort, str) or cohort.source == "synthetic"
    asked = claim["cohort"] if invented and claim["cohort"] != "synthetic" else cohort
    grid = grids.look(claim["grid"], asked, default=claim["cohort"]).rows
    if grid is None:
        return Verdict("no verdict", f"no rows are kept: {grids.command(claim['grid'], asked)}."), None
    rows = grid.by_key(**view(grid), metric=claim["metric"])
    if grid.task == "visits":  # a system that leaves first visits out has its row among later ones
        rows = grid.by_key(visits="later visits", metric=claim["metric"]) | rows
    keys, signs = claim["keys"].split(";"), [int(sign) for sign in claim["sign"].split(";")]
    found = {
        key: _of_row(grid, rows[key], sign, claim) if key in rows else Verdict("no verdict", "there is no such row.")
        for key, sign in zip(keys, signs * (len(keys) // len(signs)), strict=True)
    }
    if len(found) > 1:
        found = {key: Verdict(one.word, f"{key}: {one.sentence}") for key, one in found.items()}
    return together(list(found.values())), grid.provenance["key"]


def _of_row(grid: Grid, row: Mapping[str, Any], sign: int, claim: Mapping[str, Any]) -> Verdict:
    if reasons := _not_learnt(grid, row["key"]):
        return Verdict("no verdict", f"{reasons}.")
    more = about(grid, row) | {"sdi": SMALLEST_DIFFERENCE[claim["metric"]]}
    if sign == 0:
        return verdict_of_equality(interval(row, "delta"), **more)
    return verdict(interval(row, "delta", sign), mechanism=claim["lacks"], **more)


def together(found: Sequence[Verdict]) -> Verdict:
    """One verdict for a claim that says several things at once.

    It *holds* where all of them hold, *in part* where some do, is *not decided* where one is not, and has *no verdict*
    where one of them has none.
    """
    words = [one.word for one in found]
    sentence = " ".join(one.sentence for one in found)
    if len(set(words)) == 1:
        return Verdict(words[0], sentence)
    for word in ("no verdict", "cannot be tested here"):
        if word in words:
            return Verdict(word, sentence)
    if {"holds", "holds in part"} & set(words):
        return Verdict("holds in part", sentence)
    return Verdict("not decided" if "not decided" in words else "does not hold", sentence)


# -- kept rows ---------------------------------------------------------------------------------------------------------


def view(grid: Grid) -> dict[str, str]:
    """Which visits the changes of a grid are over: later ones where its first row leaves first visits out."""
    if grid.task == "ranking" or grid.reference in grid.by_key(visits="first visits"):
        return {}
    return {"visits": "later visits"}


def about(grid: Grid, row: Mapping[str, Any]) -> dict[str, Any]:
    """Whose patients and how many seeds stand behind a row, for the sentence of its verdict."""
    return {
        "cohort": grid.cohort,
        "source": grid.source,
        "n_seeds": grid.provenance["seeds"],
        "n_patients": row["patients"],
    }


def _has(grid: Grid, switch: Mapping[str, Any]) -> bool:
    row = grid.by_key(**view(grid)).get(switch["key"])
    return row is not None and row["delta"] is not None


def _not_learnt(grid: Grid, key: str) -> str:
    """Why neither a row nor the one that it is compared with bears a verdict, as far as that is so."""
    keys = [row.key for row in turned(grid.name, key)] if key in _two_rows(grid.name) else [grid.reference, key]
    return "; ".join(dict.fromkeys(reason for name in keys if (reason := grid.not_learnt(name))))


def _two_rows(grid: str) -> set[str]:
    return {contrast.key for contrast in declared(grid).contrasts if sorted(contrast.signs.values()) == [-1, 1]}


@cache
def _read(table: str) -> pl.DataFrame:
    frame = pl.read_csv(Path(__file__).with_name(f"{table}.csv"), infer_schema=False, glob=False)
    kinds = {"number": pl.col("number").cast(pl.Int64), "arithmetic": pl.col("arithmetic") == "true"}
    return frame.with_columns(**{name: kind for name, kind in kinds.items() if name in frame.columns}).with_columns(
        pl.col("arithmetic").fill_null(False) if "arithmetic" in frame.columns else []
    )
