"""What may be shown of records that are not open.

With a ``credentialed`` cohort nothing leaves a chapter but aggregates over at least :data:`LIMIT` patients. The rule is
an allow-list, because a guard that looks for patients cannot recognise them in the pixels of a figure: an output that
was not handed out through :func:`show` is refused, whatever it is. Two nets hang below it: small counts are masked,
with a second cell where the first could be computed from the totals; and tables with the id of a patient or visit, or
with lists of codes, are refused even when released. What no program can check is the number of patients that the author
states, and what a glued number is a number of.

A cohort itself carries no ids: patients and visits are rows. :meth:`medrec.data.cohort.Cohort.ids`, which joins them to
the tables, is for the user's own machine. Synthetic and demo records pass through unchanged.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra

from medrec.data.cohort import LIMIT, Cohort, Source
from medrec.types import MedrecError

MARK = "medrec_patients"
"""Key in an output's metadata: how many patients stand behind it."""

_ID_COLUMN = re.compile(
    r"\b(subject_?id|patient_?id|hadm_?id|visit_?id|admission_?id|stay_?id|icustay_?id|uniquepid|patientunitstayid"
    r"|patienthealthsystemstayid|person_?id)\b",
    re.IGNORECASE,
)
_LIST_COLUMN = re.compile(r"\blist\[")
_TAG = re.compile(r"<[^>]+>")


def require_shareable(cohort: Cohort, what: str) -> None:
    """Stop where single patients would be shown of records that are not open.

    Args:
        cohort: whose records.
        what: what was about to be shown, for the message: ``"the visits of one patient"``.

    Raises:
        MedrecError: the cohort is credentialed.
    """
    if cohort.source == "credentialed":
        raise MedrecError(
            f"{what} of the credentialed cohort {cohort.name!r} cannot be shown: single patients stay where they are. "
            "Show an aggregate with medrec.data.privacy.show, or use a synthetic or demo cohort here."
        )


def release(
    cohort: Cohort, thing: Any, *, patients: int | None = None, counts: Sequence[str] = (), limit: int = LIMIT
) -> Any:
    """What may be shown of a table, figure or number.

    Args:
        cohort: whose records it was computed from.
        thing: a polars frame, a figure, a number.
        patients: how many patients stand behind it; None: all of the cohort.
        counts: columns of a frame that count patients, one group a row. A row whose group is too small loses all
            its numbers; where one loss could be computed from the column's total, the next smallest count goes too.
        limit: the least number of patients.

    Returns:
        The same for open records; for credentialed ones a frame has nulls where numbers were masked.

    Raises:
        MedrecError: too few patients stand behind it, or a column holds ids or lists.
    """
    if cohort.source != "credentialed":
        return thing
    patients = cohort.n_patients if patients is None else patients
    if patients < limit:
        raise MedrecError(
            f"Only {patients} patients of the credentialed cohort {cohort.name!r} stand behind this; {limit} are the "
            "least. Show a larger group."
        )
    if not isinstance(thing, pl.DataFrame):
        return thing
    for column, dtype in thing.schema.items():
        if _ID_COLUMN.search(column) or isinstance(dtype, pl.List):
            raise MedrecError(
                f"Column {column!r} describes single patients of the credentialed cohort {cohort.name!r}. "
                "Aggregate first."
            )
    for column in counts:
        number = thing[column].to_numpy().astype(np.int64)
        small = (number > 0) & (number < limit)
        hidden = mask_small_counts(number, limit=limit)
        thing = thing.with_columns(
            pl.when(pl.Series(~(hidden if name == column else small))).then(pl.col(name)).alias(name)
            for name, dtype in thing.schema.items()
            if dtype.is_numeric()
        )
    return thing


def show(cohort: Cohort, thing: Any, *, patients: int | None = None, counts: Sequence[str] = ()) -> None:
    """Display in a chapter what :func:`release` lets through, marked so that :func:`check_notebook` knows it.

    Args:
        cohort, thing, patients, counts: see :func:`release`.
    """
    from IPython.display import display

    thing = release(cohort, thing, patients=patients, counts=counts)
    display(thing, metadata={MARK: cohort.n_patients if patients is None else patients})
    if hasattr(thing, "savefig"):
        import matplotlib.pyplot as plt

        plt.close(thing)  # or the notebook shows it a second time, unmarked


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


def check_notebook(notebook: Any, source: Source) -> None:
    """Refuse an executed chapter that shows more of credentialed records than aggregates.

    An output passes if it was released by :func:`show`, if it is a glued number, or if it is text that the source of
    the cell spells out (``print("Check passed.")``) and that so cannot carry data.

    Args:
        notebook: executed notebook (nbformat 4).
        source: source of the cohort that it was executed with; for ``synthetic`` and ``demo`` everything passes.

    Raises:
        MedrecError: the first output that does not pass, with its cell.
    """
    if source != "credentialed":
        return
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code":
            continue
        for output in cell["outputs"]:
            problem = _problem(output, cell["source"])
            if problem:
                first_line = next((line for line in cell["source"].splitlines() if line.strip()), "")
                raise MedrecError(
                    f"Cell {number} ({first_line.strip()[:60]!r}) shows {problem} of a credentialed cohort. "
                    "Aggregate, and hand it out with medrec.data.privacy.show(cohort, ..., patients=...)."
                )


def _problem(output: Any, source: str) -> str | None:
    """What an output shows that it must not; None if it passes."""
    kind = output["output_type"]
    if kind == "error":
        return "an error message, which may quote records,"
    if kind == "stream":
        lines = {line.strip() for line in output["text"].splitlines() if line.strip()}
        return "printed text" if lines - _spelt_out(source) else None
    metadata, data = output.get("metadata", {}), output.get("data", {})
    texts = {mime: "".join(text) for mime, text in data.items() if isinstance(text, str | list)}
    for text in texts.values():
        plain = _TAG.sub(" ", text)
        if _ID_COLUMN.search(plain):
            return "ids of patients or visits"
        if _LIST_COLUMN.search(plain):
            return "lists of codes"
    if metadata.get(MARK, 0) >= LIMIT:
        return None
    if "scrapbook" in metadata:
        return None if all(_is_number(text) for text in texts.values()) else "a glued value that is not a number"
    if any(mime.startswith("image/") for mime in data):
        return "a figure that was not released"
    return "a result that was not released"


def _spelt_out(source: str) -> set[str]:
    """Lines of the string constants of a cell."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:  # a notebook command
        return set()
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {line.strip() for text in texts for line in text.splitlines()}


def _is_number(text: str) -> bool:
    try:
        float(_TAG.sub("", text).strip().strip("'\"").rstrip("%").replace("\\u202f", "").replace("\u202f", ""))
    except ValueError:
        return False
    return True
