"""What may be shown of records that are not open.

Where a chapter has opened closed records, nothing leaves it but aggregates over at least :data:`LIMIT` patients. The
rule is an allow-list, because a guard that looks for patients cannot recognise them in the pixels of a figure: an
output that was not handed out through :func:`show` is refused, whatever it is. Nets hang below it: small counts are
masked, with a second cell where the first could be computed from the totals; tables with ids, with lists, or with a row
for each patient or visit, and figures with a mark for each, are refused even when released.

What no program can check: the number of patients that the author states, what a glued number is a number of, whether
a released text or picture says in other words what single patients had, and what a cell does besides showing, such as
writing files. Whoever writes code that runs beside the records can carry them away; the guard is against mistakes.

A cohort itself carries no ids: patients and visits are rows. :meth:`medrec.data.cohort.Cohort.ids`, which joins them to
the tables, is for the user's own machine. Records that are proven to be open pass through unchanged.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra

from medrec.data import opened
from medrec.data.cohort import IDS, LIMIT, Cohort, Source
from medrec.types import MedrecError

MARK = "medrec_patients"
"""Key in an output's metadata: how many patients stand behind it."""
SEAL = "medrec_seal"
"""Key in an output's metadata: what only :func:`show` in the kernel of this very execution has written."""
GLUE_PREFIX = "application/papermill.record/"
"""What MyST-NB puts before the kind of a glued value that is not shown where it is made."""
GLUED = (["text/plain"], [f"{GLUE_PREFIX}text/plain"])
FEW = 5
"""Fewer numbers than this may be ids of patients by chance."""

_ID_COLUMN = re.compile(
    r"\b(subject_?id|patient_?id|hadm_?id|visit_?id|admission_?id|stay_?id|icustay_?id|uniquepid|patientunitstayid"
    r"|patienthealthsystemstayid|person_?id)\b",
    re.IGNORECASE,
)
_LIST_COLUMN = re.compile(r"\b(list|array|struct|object)\[", re.IGNORECASE)
_COUNTED = re.compile(
    r"\b(patients?|people|persons?|visits?|admissions?|stays?|orders?|prescriptions?|rows|cases|dropped|kept|lost|left|n|count)"
    r"(\b|_)",
    re.IGNORECASE,
)
"""Names of columns that count patients or what they had."""
_TAG = re.compile(r"<[^>]+>")
_SHOWN = re.compile(r"text/(plain|html|latex|markdown)|image/(svg\+xml|png|jpeg)")
"""Kinds of data that an output may have: what a reader sees. Anything else is a hold for rows."""
_CONTAINERS = (list, tuple, set, frozenset, dict, np.ndarray)
_OURS = ("medrec.book.page", "medrec.chem", "matplotlib", "rdkit")
"""Modules whose objects are pictures, molecules and parts of pages; :class:`Cohort` and the like are none."""
_WORDS = ("Markdown", "Latex", "Math")
"""Texts of IPython."""


def require_shareable(cohort: Cohort, what: str) -> None:
    """Stop where single patients would be shown of records that are not open.

    Args:
        cohort: whose records.
        what: what was about to be shown, for the message: ``"the visits of one patient"``.

    Raises:
        MedrecError: the cohort is credentialed.
    """
    if opened.is_closed(cohort):
        raise MedrecError(
            f"{what} of the credentialed cohort {cohort.name!r} cannot be shown: single patients stay where they are. "
            "Show an aggregate with medrec.data.privacy.show, or use a synthetic or demo cohort here."
        )


# -- what is handed out ------------------------------------------------------------------------------------------------


def release(
    cohort: Cohort,
    thing: Any,
    *,
    patients: int | None = None,
    counts: Sequence[str] = (),
    within: str | None = None,
    nested: Sequence[str] = (),
    limit: int = LIMIT,
) -> Any:
    """What may be shown of a table, figure, number or words.

    Args:
        cohort: whose records it was computed from. It is treated as what it was loaded as, whatever its field
            ``source`` says; one made by hand counts as closed in a process that has opened closed records.
        thing: a polars frame, :class:`medrec.book.page.Table`, figure, number, words, or a short list of such.
        patients: how many patients stand behind it; None: all of the cohort.
        counts: columns of a frame that count patients, visits or orders, one group a row. A row whose group is too
            small loses all its numbers; where one loss could be computed from totals, further cells go too.
        within: column of a frame: rows with one value of it have a total of their own.
        nested: columns of a frame that count patients, visits or orders of groups of which each is a part of the
            next, or holds it, beginning with one that is said elsewhere. Where two differ by less than ``limit``, one
            of them goes.
        limit: the least number of patients.

    Returns:
        The same for open records; for credentialed ones a frame has nulls where numbers were masked.

    Raises:
        MedrecError: too few patients stand behind it, or it describes single ones: ids, lists, a row or a mark for
            each patient or visit; or a column counts fewer than ``limit`` and is not named.
    """
    if not opened.is_closed(cohort):
        return thing
    patients = cohort.n_patients if patients is None else patients
    _check_size(cohort, patients, limit)
    if isinstance(thing, pl.Series):
        thing = thing.to_frame()
    if type(thing).__module__ == "torch":
        thing = thing.detach().cpu().numpy()
    if isinstance(thing, pl.DataFrame):
        return _released(cohort, thing, counts, within, nested, limit)
    if isinstance(frame := getattr(thing, "frame", None), pl.DataFrame):
        _check_words(cohort, getattr(thing, "caption", ""))
        return thing.with_frame(_released(cohort, frame, counts, within, nested, limit))
    if hasattr(thing, "savefig"):
        _check_figure(cohort, thing)
    elif isinstance(thing, _CONTAINERS):
        _check_container(cohort, thing)
    elif isinstance(thing, str):
        _check_words(cohort, thing)
    elif type(thing).__module__.startswith("IPython.") and type(thing).__name__ in _WORDS:
        _check_words(cohort, thing.data)
    elif not (
        thing is None
        or isinstance(thing, bool | int | float | complex | np.generic)
        or f"{type(thing).__module__}.".startswith(tuple(f"{module}." for module in _OURS))
    ):
        raise _single(cohort, f"A {type(thing).__name__} can hold anything, and", "Show a table, a figure or a number.")
    return thing


def show(
    cohort: Cohort,
    thing: Any,
    *,
    patients: int | None = None,
    counts: Sequence[str] = (),
    within: str | None = None,
    nested: Sequence[str] = (),
) -> None:
    """Display in a chapter what :func:`release` lets through, marked so that :func:`check_notebook` knows it.

    Args:
        cohort, thing, patients, counts, within, nested: see :func:`release`.
    """
    thing = release(cohort, thing, patients=patients, counts=counts, within=within, nested=nested)
    publish(thing, cohort.n_patients if patients is None else patients)
    if hasattr(thing, "savefig"):
        import matplotlib.pyplot as plt

        plt.close(thing)  # or the notebook shows it a second time, unmarked


def publish(
    thing: Any, patients: int, *, raw: bool = False, metadata: Mapping[str, Any] | None = None, **more: Any
) -> None:
    """Display what was released with the number of patients behind it, sealed in a chapter that is being executed.

    Args:
        thing: what was released.
        patients: how many stand behind it.
        raw: ``thing`` holds the texts themselves, by kind of data.
        metadata: what else to say of it.
        more: options of IPython's ``display``.
    """
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.display import display

    marked = {**(metadata or {}), MARK: int(patients)}
    folder = opened.guard_folder()
    formatter = InteractiveShell.instance().display_formatter if InteractiveShell.initialized() else None
    if folder and formatter is not None:
        if not raw:
            # What is sealed is what is sent, so that it is put into words here.
            data, about = formatter.format(thing)
            thing = {k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in data.items()}
            raw, marked = True, {**about, **marked}
        marked[SEAL] = _seal((folder / opened.KEY).read_bytes(), thing, marked)
    display(thing, metadata=marked, **({"raw": True} if raw else {}), **more)


def count(cohort: Cohort, number: float, of: float | None = None) -> float:
    """A number of people, visits or orders for prose and figures: nan where it is too small to be told.

    Args:
        cohort: whose.
        number: of them.
        of: how many there are, where this is told too: then those that are left must not be too few either.
    """
    small = 0 < number < LIMIT or (of is not None and 0 < of - number < LIMIT)
    return float("nan") if opened.is_closed(cohort) and small else number


def counts_of(cohort: Cohort, numbers: ArrayLike) -> NDArray[np.float64]:
    """Sizes of groups for a figure: nan where they are too small to be drawn, and where the total would tell these.

    Args:
        cohort: whose.
        numbers: ``(n,)`` of patients, visits or orders, one group each.
    """
    sizes = np.array(numbers, dtype=np.float64)
    if opened.is_closed(cohort):
        try:
            sizes[mask_small_counts(sizes.astype(np.int64))] = np.nan
        except MedrecError:
            sizes[:] = np.nan
    return sizes


def share(cohort: Cohort, marks: ArrayLike) -> float:
    """Share of patients, visits or orders: nan where those that are marked, or those that are not, are too few to tell.

    Args:
        cohort: whose.
        marks: ``(n,)`` truth values, one each.
    """
    found = np.asarray(marks, dtype=bool)
    return count(cohort, int(found.sum()), of=found.size) / found.size


def ledger(cohort: Cohort) -> pl.DataFrame:
    """The ledger of a cohort as it may be shown: step, unit, before, kept, dropped, note.

    Returns:
        All of it for open records. Of credentialed ones numbers are null wherever a loss of fewer than :data:`LIMIT`
        could be computed: what one step keeps is what the next begins with, so that steps go together until they have
        lost nothing or enough. What is left in the end is said on every page, and stays.
    """
    frame = cohort.report.frame()
    if not opened.is_closed(cohort):
        return frame
    hidden = mask_steps(frame["unit"].to_list(), frame["before"].to_numpy(), frame["kept"].to_numpy())
    before, kept = (pl.Series(name, column) for name, column in zip(("b", "k"), hidden.T, strict=True))
    return frame.with_columns(
        before=pl.when(~before).then("before"),
        kept=pl.when(~kept).then("kept"),
        dropped=pl.when(~(before | kept)).then("dropped"),
    )


def require_aggregate(cohort: Cohort, frame: pl.DataFrame, *, groups: bool = False) -> None:
    """Stop where a table has something for each patient or visit of records that are not open.

    Args:
        cohort: whose records.
        frame: the table.
        groups: its rows are groups, whatever their number.

    Raises:
        MedrecError: ids, lists, or a row for each patient or visit.
    """
    if not opened.is_closed(cohort):
        return
    for column, dtype in frame.schema.items():
        if _ID_COLUMN.search(column):
            raise _single(cohort, f"Column {column!r}", "Aggregate first.")
        if dtype.is_nested() or dtype in (pl.Object, pl.Binary):
            raise _single(
                cohort,
                f"Column {column!r} holds {str(dtype).partition('(')[0].lower()}s, and so",
                "Aggregate first; a list that is of no patient is text: .list.join(', ').",
            )
        if _are_ids(cohort, frame[column].drop_nulls().unique().to_list()):
            raise _single(cohort, f"Column {column!r} is made of ids and", "Aggregate first.")
        if dtype == pl.String:
            for text in frame[column].drop_nulls():
                _check_words(cohort, text)
    if not groups and len(frame) in (cohort.n_patients, cohort.n_visits):
        raise _single(
            cohort,
            f"A table of {len(frame)} rows, as many as there are patients or visits,",
            "Aggregate first; where its rows are groups, name the columns that count them: counts=[...].",
        )
    _check_size(cohort, cohort.n_patients, LIMIT)


def _released(
    cohort: Cohort,
    frame: pl.DataFrame,
    counts: Sequence[str],
    within: str | None,
    nested: Sequence[str],
    limit: int,
) -> pl.DataFrame:
    require_aggregate(cohort, frame, groups=bool(counts or nested))
    for column, dtype in frame.schema.items():
        small = dtype.is_integer() and ((frame[column] > 0) & (frame[column] < limit)).any()
        if small and _COUNTED.search(column) and column not in (*counts, *nested):
            raise MedrecError(
                f"Column {column!r} counts fewer than {limit} of the credentialed cohort {cohort.name!r}. Name it, so "
                f"that small numbers are masked: counts=[{column!r}], or nested=[{column!r}] where rows are parts of "
                "others."
            )
    for column in nested:
        hidden = mask_nested(frame[column].fill_null(0).to_numpy(), limit=limit)
        frame = frame.with_columns(pl.when(~pl.Series(hidden)).then(pl.col(column)).alias(column))
    return mask_counts(frame, counts, within=within, limit=limit) if counts else frame


def _check_size(cohort: Cohort, patients: int, limit: int) -> None:
    if patients < limit:
        raise MedrecError(
            f"Only {patients} patients of the credentialed cohort {cohort.name!r} stand behind this; {limit} are the "
            "least. Show a larger group."
        )


def _single(cohort: Cohort, what: str, remedy: str) -> MedrecError:
    return MedrecError(f"{what} describes single patients of the credentialed cohort {cohort.name!r}. {remedy}")


def _are_ids(cohort: Cohort, values: Sequence[Any]) -> bool:
    """Whether these different values are ids of the cohort's tables, under whatever name."""
    folder = getattr(cohort, "folder", None)
    if len(values) < FEW or folder is None or not (folder / IDS).is_file():
        return False
    known = _ids(folder)
    return all(_plain(value) in known for value in values)


def _plain(value: Any) -> str:
    """A number or word as ids are written; ``7.0`` is ``7``."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


@cache
def _ids(folder: Path) -> frozenset[str]:
    frame = pl.read_parquet(folder / IDS, glob=False).select("patient_id", "visit_id").cast(pl.String)
    return frozenset(frame["patient_id"]) | frozenset(frame["visit_id"])


def _check_words(cohort: Cohort, text: str) -> None:
    if found := _ID_COLUMN.search(text):
        raise _single(cohort, f"A text with {found[0]!r}", "Show an aggregate.")
    numbers = {number for number in re.findall(r"\d{4,}", text) if not number.endswith("00")}  # no ticks of an axis
    if _are_ids(cohort, sorted(numbers)):
        raise _single(cohort, "A text of ids", "Show an aggregate.")


def _check_container(cohort: Cohort, thing: Any) -> None:
    """Lists and the like: not one item for each patient or visit, no ids, nothing that a table would not hold."""
    for part in _containers(thing):
        if len(part) in (cohort.n_patients, cohort.n_visits) and len(part) >= LIMIT:
            raise _single(cohort, f"A {type(part).__name__} of {len(part)} items, one for each patient or visit,", "")
        for items in (list(part.keys()), list(part.values())) if isinstance(part, dict) else (list(part),):
            leaves = [item for item in items if not isinstance(item, _CONTAINERS)]
            if _are_ids(cohort, sorted({_plain(leaf) for leaf in leaves})):
                raise _single(cohort, f"A {type(part).__name__} of ids", "Show an aggregate.")
            for leaf in leaves:
                release(cohort, leaf)


def _containers(thing: Any) -> Iterator[Any]:
    if isinstance(thing, _CONTAINERS) and np.ndim(thing if isinstance(thing, np.ndarray) else [0]):
        yield thing
        for part in thing.values() if isinstance(thing, dict) else thing:
            yield from _containers(part)


def _check_figure(cohort: Cohort, figure: Any) -> None:
    """A figure draws no mark for each patient or visit, and its words name none."""
    from matplotlib.collections import Collection, PathCollection
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

    everybody = {n for n in (cohort.n_patients, cohort.n_visits) if n >= LIMIT}
    for axes in figure.axes:
        points = [len(artist.get_offsets()) for artist in axes.findobj(PathCollection)]
        sizes = [*points, sum(points), len(axes.patches), len(axes.lines)]
        sizes += [len(artist.get_xydata()) for artist in axes.findobj(Line2D)]
        sizes += [len(artist.get_paths()) for artist in axes.findobj(Collection)]
        sizes += [side for image in axes.findobj(AxesImage) for side in image.get_array().shape[:2]]
        if alike := everybody & set(sizes):
            raise _single(
                cohort,
                f"A figure that draws {alike.pop()} marks, as many as there are patients or visits,",
                "Draw a distribution: a histogram, quantiles, a mean with its interval.",
            )
    for text in figure.findobj(Text):
        _check_words(cohort, text.get_text())
    words = [text.get_text() for text in figure.findobj(Text)]
    _check_words(cohort, "\n".join(word for word in words if word))


# -- masking -----------------------------------------------------------------------------------------------------------


def mask_counts(
    frame: pl.DataFrame, counts: Sequence[str], *, within: str | None = None, limit: int = LIMIT
) -> pl.DataFrame:
    """A table of groups without the numbers of small ones, and without what would give these back.

    Args:
        frame: one group a row.
        counts: columns of numbers of patients, visits or orders. Their totals, by column and by row, count as known.
        within: column; totals are known of the rows with each value of it.
        limit: groups of fewer are small.

    Returns:
        The frame with nulls: a row with a small count loses all its numbers, since shares and means lead back to it,
        and so does the next smallest one where the total would give the first away. Where nothing protects a small
        group, all rows with its total lose theirs.
    """
    numbers = np.stack([frame[name].fill_null(0).to_numpy().astype(np.int64) for name in counts], axis=1)
    gone: NDArray[np.bool_] = np.any((numbers > 0) & (numbers < limit), axis=1)
    groups = frame[within].fill_null("").to_list() if within else [""] * len(frame)
    for group in dict.fromkeys(groups):
        rows = np.array([one == group for one in groups])
        part = numbers[rows]
        try:
            found = mask_small_counts(part[:, 0] if len(counts) == 1 else part, limit=limit)
        except MedrecError:
            found = np.ones(part.shape, dtype=bool)
        gone[rows] |= found.reshape(part.shape).any(axis=1)
    return frame.with_columns(
        pl.when(~pl.Series(gone)).then(pl.col(name)).alias(name)
        for name, dtype in frame.schema.items()
        if dtype.is_numeric()
    )


def mask_steps(units: Sequence[str], before: ArrayLike, kept: ArrayLike, limit: int = LIMIT) -> NDArray[np.bool_]:
    """Which numbers of a ledger to hide so that no small loss can be computed.

    Args:
        units: of each step, ``(n,)``: steps of one unit are a chain wherever one begins with what the last has kept.
        before: ``(n,)`` what each step began with.
        kept: ``(n,)`` what it has kept.
        limit: losses of 1 to ``limit`` - 1 are small.

    Returns:
        ``(n, 2)`` True where ``before`` and where ``kept`` is hidden; what a step has dropped is hidden if either is.

    Example:
        >>> mask_steps(["visits"] * 3, [100, 97, 80], [97, 80, 80]).tolist()
        [[False, True], [True, False], [False, False]]
    """
    start, end = np.asarray(before), np.asarray(kept)
    hidden = np.zeros((len(start), 2), dtype=bool)
    chains: list[list[int]] = []
    latest: dict[str, list[int]] = {}
    for row, unit in enumerate(units):
        if unit in latest and end[latest[unit][-1]] == start[row]:
            latest[unit].append(row)
        else:
            latest[unit] = [row]
            chains.append(latest[unit])
    for chain in chains:
        points = np.concatenate([start[chain[:1]], end[chain]])
        # What is left in the end stands on every page; what comes before has to go instead.
        for place in np.flatnonzero(mask_nested(points, known=len(points) - 1, limit=limit)):
            if place > 0:
                hidden[chain[place - 1], 1] = True
            if place < len(chain):
                hidden[chain[place], 0] = True
    return hidden


def mask_nested(numbers: ArrayLike, known: int = 0, limit: int = LIMIT) -> NDArray[np.bool_]:
    """Which sizes of nested groups to hide so that no small difference between two of them can be computed.

    Args:
        numbers: ``(n,)`` sizes of groups of which each is a part of, or holds, the next. Small ones are hidden too.
        known: place of the one that stays, since it is said elsewhere, such as the size of the cohort.
        limit: differences of 1 to ``limit`` - 1 are small.

    Returns:
        Mask ``(n,)``, True where hidden.

    Example:
        >>> mask_nested([100, 97, 80]).tolist()
        [False, True, False]
    """
    sizes = np.asarray(numbers).astype(np.int64)
    shown = [sizes[known]]
    hidden = np.zeros(len(sizes), dtype=bool)
    for place, size in enumerate(sizes):
        if place != known:
            apart = np.abs(np.array(shown) - size)
            hidden[place] = 0 < size < limit or bool(((apart > 0) & (apart < limit)).any())
            if not hidden[place]:
                shown.append(size)
    return hidden


def mask_small_counts(counts: ArrayLike, limit: int = LIMIT) -> NDArray[np.bool_]:
    """Which cells of a table of counts to hide so that no small one can be computed from the totals.

    Cells of 1 to ``limit`` − 1 are hidden. A table with its row and column totals is a system of linear equations; a
    hidden cell (r, c) can be solved for exactly if, in the graph that links row r with column c for every hidden
    cell, its link is a bridge. Cells are therefore added until every small cell lies on a cycle: for each in turn the
    shortest one, fewest new cells first, then smallest counts. Cells of 0 are left as they are: they hide nothing.

    Args:
        counts: ``(n,)`` or ``(R, C)`` numbers of patients. Totals (of the vector; of rows and columns) count as known.
        limit: see above.

    Returns:
        Mask of the same shape, True where hidden.

    Raises:
        MedrecError: hiding cells cannot protect one of them, e.g. the only other cells of its row are 0; publish
            coarser groups.

    Example:
        >>> mask_small_counts([23, 6]).tolist()
        [True, True]
    """
    table = np.asarray(counts)
    hidden = (table > 0) & (table < limit)
    if table.ndim == 1 or 1 in table.shape:
        flat, marks = table.ravel(), hidden.ravel().copy()
        if marks.sum() == 1:
            others = np.flatnonzero((flat > 0) & ~marks)
            if not len(others):
                raise _unprotected(int(flat[marks][0]))
            marks[others[np.argmin(flat[others])]] = True
        return marks.reshape(table.shape)
    n_rows, n_columns = table.shape
    size = n_rows + n_columns
    # A new cell costs 1, a hidden one next to nothing; among equals the smaller count is cheaper.
    price = 1 + table / (table.sum() * size + 1)
    for row, column in np.argwhere(hidden):
        if not _is_bridge(hidden, row, column):
            continue
        open_cells = table > 0
        open_cells[row, column] = False
        r, c = np.nonzero(open_cells)
        cost = np.where(hidden, 1e-9, price)[r, c]
        graph = coo_array((cost, (r, n_rows + c)), shape=(size, size)).tocsr()
        distance, before = dijkstra(graph, directed=False, indices=row, return_predecessors=True)
        if not np.isfinite(distance[n_rows + column]):
            raise _unprotected(int(table[row, column]))
        node = n_rows + column
        while node != row:
            a, b = sorted((node, before[node]))
            hidden[a, b - n_rows] = True
            node = before[node]
    return hidden


def _is_bridge(hidden: NDArray[np.bool_], row: int, column: int) -> bool:
    """Whether the row and the column of a hidden cell fall apart without it."""
    others = hidden.copy()
    others[row, column] = False
    r, c = np.nonzero(others)
    n_rows, n_columns = hidden.shape
    graph = coo_array((np.ones(len(r)), (r, n_rows + c)), shape=(n_rows + n_columns,) * 2)
    _, component = connected_components(graph, directed=False)
    return bool(component[row] != component[n_rows + column])


def _unprotected(count: int) -> MedrecError:
    return MedrecError(
        f"A count of {count} cannot be hidden: the totals give it away whatever else is masked. Publish coarser groups."
    )


# -- what a chapter shows ----------------------------------------------------------------------------------------------


def check_notebook(notebook: Any, source: Source, *, key: bytes | None = None) -> None:
    """Refuse an executed chapter that shows more of credentialed records than aggregates.

    An output passes if it was released by :func:`show`, if it is a glued number, or if it is text that the source of
    the cell spells out (``print("Check passed.")``) and that so cannot carry data.

    Args:
        notebook: executed notebook (nbformat 4).
        source: of the records that it has opened; for ``synthetic`` and ``demo`` everything passes.
        key: of the execution, with which :func:`show` has sealed what it handed out; None: marks are believed, which
            a cell can also write by hand.

    Raises:
        MedrecError: the first output that does not pass, with its cell.
    """
    if source != "credentialed":
        return
    if notebook.get("metadata", {}).get("widgets"):
        raise MedrecError("The notebook keeps the state of widgets of a credentialed cohort. Use none here.")
    sources = "\n".join("".join(cell["source"]) for cell in notebook["cells"])
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code":
            continue
        text = "".join(cell["source"])
        printed = Counter(_lines(cell["outputs"]))
        for output in cell["outputs"]:
            problem = _problem(output, sources, key)
            if output["output_type"] == "stream" and printed - _spelt_out(text):
                problem = "printed text"
            if problem:
                first_line = next((line for line in text.splitlines() if line.strip()), "")
                raise MedrecError(
                    f"Cell {number} ({first_line.strip()[:60]!r}) shows {problem} of a credentialed cohort. "
                    "Aggregate, and hand it out with medrec.data.privacy.show(cohort, ..., patients=...)."
                )


def _problem(output: Any, sources: str, key: bytes | None) -> str | None:
    """What an output shows that it must not; None if it passes."""
    kind = output["output_type"]
    if kind == "error":
        return "an error message, which may quote records,"
    if kind == "stream":
        return None  # see _lines
    metadata, data = dict(output.get("metadata", {})), dict(output.get("data", {}))
    texts = {mime: "".join(text) for mime, text in data.items() if isinstance(text, str | list)}
    for text in texts.values():
        # With tags, because attributes carry words too, and without, because tags may stand inside a word.
        for plain in (text, _TAG.sub(" ", text), _TAG.sub("", text)):
            if _ID_COLUMN.search(plain):
                return "ids of patients or visits"
            if _LIST_COLUMN.search(plain):
                return "lists of codes"
    if "scrapbook" in metadata:
        return _glue_problem(metadata, data, texts, sources, key)
    if not _is_released(metadata, data, key):
        picture = any(mime.startswith("image/") for mime in data)
        return "a figure that was not released" if picture else "a result that was not released"
    if strange := [mime for mime in data if mime not in texts or not _SHOWN.fullmatch(mime)]:
        return f"data of the kind {strange[0]}"
    return None


def _glue_problem(
    metadata: dict[str, Any], data: dict[str, Any], texts: dict[str, str], sources: str, key: bytes | None
) -> str | None:
    """A glued value is a number, or words that were released; its name stands in the chapter."""
    about = metadata["scrapbook"]
    if not isinstance(about, dict) or not set(about) <= {"name", "mime_prefix"}:
        return "more than a name beside a glued value"
    name, prefix = str(about.get("name", "")), about.get("mime_prefix", GLUE_PREFIX)
    if prefix not in (GLUE_PREFIX, "") or list(texts) != list(data) or list(data) not in GLUED:
        return "a glued value that is more than a number"
    if not all(part in sources for part in re.split(r"[_\W]+", name)) or len(re.findall(r"\d{4,}", name)):
        return "a glued name that the chapter does not spell out"
    if MARK in metadata:
        return None if _is_released(metadata, data, key) else "a result that was not released"
    extra = set(metadata) - {"scrapbook"}
    return None if not extra and all(map(_is_number, texts.values())) else "a glued value that is not a number"


def _is_released(metadata: dict[str, Any], data: dict[str, Any], key: bytes | None) -> bool:
    """Whether an output bears the mark of :func:`show`, and its seal where the key of the execution is known."""
    patients = metadata.get(MARK)
    if not isinstance(patients, int) or isinstance(patients, bool) or patients < LIMIT:
        return False
    return key is None or hmac.compare_digest(str(metadata.get(SEAL, "")), _seal(key, data, metadata))


def _seal(key: bytes, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """A hash of an output that nobody can make who does not know the key of this execution."""
    texts = {mime: "".join(text) if isinstance(text, list) else text for mime, text in data.items()}
    content = json.dumps([texts, {k: v for k, v in metadata.items() if k != SEAL}], sort_keys=True, default=str)
    return hmac.new(key, content.encode(), hashlib.sha256).hexdigest()


def _lines(outputs: Sequence[Any]) -> list[str]:
    """Everything that a cell has printed, in lines."""
    printed = "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")
    return [line.strip() for line in printed.splitlines() if line.strip()]


def _spelt_out(source: str) -> Counter[str]:
    """Lines of the string constants of a cell, each as often as it stands there; words, not lone figures."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:  # a notebook command
        return Counter()
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return Counter(line for line in lines if re.search(r"[^\W\d_]{3}", line))


def _is_number(text: str) -> bool:
    try:
        float(_TAG.sub("", text).strip().strip("'\"").rstrip("%").replace("\\u202f", "").replace("\u202f", ""))
    except ValueError:
        return False
    return True
