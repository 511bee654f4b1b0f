"""What chapters put on the page besides figures: the card at the top, tables, numbers for the prose.

A chapter calls four functions and nothing else of this room::

    page.at_a_glance(parameters, paper=..., data=page.cohort_line(cohort), learned=..., full_run=...)
    page.table(frame, caption="...", digits={"Jaccard": 3})
    page.glue(n_patients=cohort.n_patients, jaccard_retain=0.5312)   # in the text: {glue:text}`jaccard_retain:.3f`
    page.molecule3d(conformers(["CCO"])[0], name="ethanol")          # beside a picture of the same molecule
"""

from __future__ import annotations

import json
import platform
import re
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import psutil

import medrec
from medrec.data import privacy
from medrec.data.cohort import titled
from medrec.types import MedrecError

if TYPE_CHECKING:
    import polars as pl

    from medrec.chem.conformers import Conformers
    from medrec.data.cohort import Cohort


# PyTorch Geometric loads tqdm's widgets, which say in every chapter with molecules that they are not there.
warnings.filterwarnings("ignore", message="IProgress not found")


class CohortLine(str):
    """Words about a whole cohort; they carry its number of patients, by which the privacy guard lets them pass."""

    patients: int = 0


def cohort_line(cohort: Cohort) -> CohortLine:
    """Name, source and size of a cohort in one line, for cards and captions.

    Returns:
        For example ``"synthetic, 600 patients, 1 412 visits"``.
    """
    line = CohortLine(
        f"{titled(cohort.name, cohort.source)}, {thousands(cohort.n_patients)} patients, "
        f"{thousands(cohort.n_visits)} visits"
    )
    line.patients = cohort.n_patients
    return line


def about(cohort: Cohort, words: str, *, patients: int | None = None) -> CohortLine:
    """Words computed from a cohort, such as an interval or a verdict, for :func:`glue` and the card.

    Args:
        cohort: whose records.
        words: what is said; an aggregate.
        patients: how many patients stand behind it; None: all of the cohort.

    Raises:
        MedrecError: the cohort is credentialed and too few patients stand behind it.
    """
    line = CohortLine(privacy.release(cohort, words, patients=patients))
    line.patients = cohort.n_patients if patients is None else patients
    return line


def elsewhere(chapter: int, asked: str, shown: Iterable[str]) -> str:
    """A sentence for pages whose kept rows are of other records than those of the page, with what makes the own ones.

    Args:
        chapter: its number.
        asked: cohort whose rows belong on the page.
        shown: cohorts whose rows are there.

    Returns:
        The sentence, after a blank; empty where all rows are of the cohort that was asked for.
    """
    others = sorted({name for name in shown if name != asked})
    if not others:
        return ""
    return (
        f" No rows are kept for {asked}: these are of {', '.join(others)}, which is synthetic. "
        f"To train them and see them here: medrec chapter {chapter:02} -p cohort {asked} -p profile full."
    )


def thousands(number: float) -> str:
    """A whole number with thin spaces between thousands: no reader takes those for a decimal sign.

    Returns:
        For example ``"1 412"``; words for nan, which :func:`medrec.data.privacy.count` makes of what may not be told.
    """
    if number != number:
        return "too few or too many to be told"
    return f"{int(number):,}".replace(",", "\u202f")


def glue(**numbers: Any) -> None:
    """Make numbers (or words) known to the text under their names: ``{glue:text}`name:.3f```.

    NumPy scalars become Python's own, because their printed form (``np.float64(0.5)``) is no number in prose.
    """
    from IPython.display import display
    from myst_nb.ext.glue import GLUE_PREFIX

    for name, value in numbers.items():
        if not isinstance(value, (bool, int, float, str, np.generic)):
            raise TypeError(f"glue: {name} is a {type(value).__name__}; give one number or one string.")
        text = repr(value.item() if isinstance(value, np.generic) else value)
        data = {f"{GLUE_PREFIX}text/plain": text}
        metadata = {"scrapbook": {"name": name, "mime_prefix": GLUE_PREFIX}}
        if isinstance(value, CohortLine):
            privacy.publish(data, value.patients, raw=True, metadata=metadata)
        else:
            display(data, raw=True, metadata=metadata)


@dataclass(frozen=True, eq=False)
class Table:
    """A table with a caption and header cells; what :func:`table` returns and a notebook displays.

    Args:
        frame: what it was made of, as the privacy guard looks at it.
        digits: decimals by column.
        caption: of the table.
        name: by which text refers to it.
    """

    frame: pl.DataFrame
    digits: Mapping[str, int]
    caption: str
    name: str = ""

    def with_frame(self, frame: pl.DataFrame) -> Table:
        """The same table of other rows, such as those with masked numbers."""
        return replace(self, frame=frame)

    @property
    def header(self) -> tuple[str, ...]:
        return tuple(self.frame.columns)

    @cached_property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        columns = [_formatted(series, self.digits.get(series.name, 3)) for series in self.frame.get_columns()]
        return tuple(zip(*columns, strict=True))

    @property
    def numeric(self) -> tuple[bool, ...]:
        return tuple(series.dtype.is_numeric() for series in self.frame.get_columns())

    def _repr_html_(self) -> str:
        align = [' class="number"' if numeric else "" for numeric in self.numeric]
        head = "".join(f'<th scope="col"{a}>{escape(h)}</th>' for h, a in zip(self.header, align, strict=True))
        body = []
        for first, *rest in self.rows:
            cells = "".join(f"<td{a}>{escape(cell)}</td>" for cell, a in zip(rest, align[1:], strict=True))
            body.append(f'<tr><th scope="row"{align[0]}>{escape(first)}</th>{cells}</tr>')
        # The caption stands outside of the box that scrolls; the book puts a number before it (medrec.book.numbers).
        name, caption = f' id="{self.name}"' * bool(self.name), escape(self.caption)
        return (
            f'<figure class="medrec-table-box"{name}><figcaption>{caption}</figcaption>'
            f'<div class="medrec-scroll" role="region" tabindex="0" aria-label="{caption}">'
            f'<table class="medrec-table"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
            "</div></figure>"
        )

    def __repr__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([*text, "", self.caption])


def table(frame: pl.DataFrame, *, caption: str, digits: Mapping[str, int] | int = 3, name: str = "") -> Table:
    """A data frame as a table for readers.

    Args:
        frame: at least one column; the first one names the rows. Column names become header cells. Lists of strings
            are printed with commas, missing values as an en dash.
        caption: what is shown, on which cohort (:func:`cohort_line`), how many patients, and what an interval is.
        digits: decimals of floating-point columns; one number for all, or by column (3 where a column is not named).
        name: by which text can refer to it, ``{numref}`tab-ablation```; letters, digits and dashes.

    Returns:
        An object that a notebook displays.

    Raises:
        ValueError: the name holds anything else, ``digits`` names a column that the frame lacks, or there is none.
    """
    if not frame.columns:
        raise ValueError("table: the frame has no column.")
    places = digits if isinstance(digits, Mapping) else dict.fromkeys(frame.columns, digits)
    unknown = [name for name in places if name not in frame.columns]
    if unknown:
        raise ValueError(f"table: digits are given for {unknown[0]!r}, but the columns are {', '.join(frame.columns)}.")
    if not re.fullmatch(r"[a-z0-9-]*", name):
        raise ValueError(f"table: the name {name!r} holds something else than small letters, digits and dashes.")
    return Table(frame, places, caption.strip(), name)  # a note of kept rows at its end may be empty


def notes(*kept: Any) -> str:
    """What the captions of tables and figures say of kept rows that today's code would not make.

    Args:
        kept: kept rows, or whatever else has a ``note`` (:attr:`medrec.lab.kept.Kept.note`).

    Returns:
        One sentence for each different note, such as ``"Made by older code."``; empty where all rows are current.
    """
    words = [rows.note.rstrip(".") for rows in kept if rows.note]
    return " ".join(dict.fromkeys(f"{note[:1].upper()}{note[1:]}." for note in words))


def _formatted(series: pl.Series, places: int) -> list[str]:
    def text(value: Any) -> str:
        if value is None or value != value:
            return "–"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, int):
            return thousands(value)
        if isinstance(value, float):
            return f"{value:.{places}f}"
        if isinstance(value, Sequence) and not isinstance(value, str):
            return ", ".join(map(str, value))
        # An interval breaks before its bracket, never inside.
        return re.sub(r"(\[[^\[\],]+,) ([^\[\],]+\])", "\\1\u00a0\\2", str(value))

    return [text(value) for value in series.to_list()]


@dataclass(frozen=True)
class Molecule3D:
    """A molecule that readers can turn; what :func:`molecule3d` returns and a notebook displays.

    In the book, ``book/_vendor/molecule3d.js`` draws it with 3Dmol, which the book serves itself
    (:func:`medrec.book.sphinx_ext.load_molecule_viewer`). Elsewhere, and without WebGL, its text is shown.
    """

    poses: tuple[str, ...]
    label: str

    def _repr_html_(self) -> str:
        next_pose = "<kbd>n</kbd> next conformer; " if len(self.poses) > 1 else ""
        button = '<button type="button" hidden>Next conformer</button>' if len(self.poses) > 1 else ""
        return (
            '<div class="medrec-molecule">'
            f'<div class="medrec-molecule-stage" tabindex="0" role="application" aria-label="{escape(self.label)} '
            f'Arrow keys turn it, plus and minus zoom." data-poses="{escape(json.dumps(self.poses))}"></div>'
            f'<p>{escape(self.label)} <span class="medrec-molecule-help">Drag it or use the arrow keys to turn it; '
            f"{next_pose}<kbd>+</kbd> <kbd>-</kbd> zoom.</span></p>{button}</div>"
        )

    def __repr__(self) -> str:
        return self.label


def molecule3d(found: Conformers, *, name: str, note: str = "") -> Molecule3D:
    """A molecule in space for the reader to turn: grey carbon, blue nitrogen, red oxygen; no hydrogens.

    Args:
        found: its conformers; with more than one the reader can step through them. The first is seen first.
        name: what it is called.
        note: one sentence more for the label, such as what to look for.

    Raises:
        MedrecError: there is no conformer.
    """
    from rdkit import Chem

    from medrec.chem.conformers import as_molecules

    if not found.found:
        raise MedrecError(f"{name} has no conformer to show: {found.note}.")
    count = len(found.coordinates)
    shown = f"{count} conformers" if count > 1 else "one conformer"
    label = f"{name}, {len(found.atoms)} heavy atoms, {shown}. {note}".strip()
    return Molecule3D(tuple(Chem.MolToMolBlock(molecule) for molecule in as_molecules(found)), label)


class AtAGlance:
    """The card at the top of a chapter; its duration grows until the last cell has run."""

    def __init__(self, rows: dict[str, str], built: str) -> None:
        self.rows = rows
        self.built = built

    @property
    def _all_rows(self) -> dict[str, str]:
        seconds = time.time() - psutil.Process().create_time()
        return {
            **self.rows,
            "This page": f"{self.built}; {seconds:.0f} s from the start of the kernel to the last cell",
        }

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>'
            for name, text in self._all_rows.items()
        )
        return (
            '<div class="admonition medrec-card"><p class="admonition-title">At a glance</p>'
            f'<table class="medrec-table"><tbody>{rows}</tbody></table></div>'
        )

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {text}" for name, text in self._all_rows.items())


def at_a_glance(
    parameters: Mapping[str, Any], *, paper: str, data: str, learned: str, full_run: str
) -> AtAGlance | None:
    """Show the card: which paper, which records, what is learned, what a full run costs, what built this page.

    In a notebook the card updates itself after every cell, so that it ends with the duration of the whole chapter.

    Args:
        parameters: the values of the ``parameters`` cell, by name.
        paper: the paper or papers, in words.
        data: the cohort, from :func:`cohort_line`.
        learned: what is fitted here, or that nothing is.
        full_run: cost of the full-size run, with the machine.

    Returns:
        The card outside notebooks; inside, where it has been displayed already, nothing.
    """
    torch = sys.modules.get("torch")
    versions = f"medrec {medrec.__version__}, Python {platform.python_version()}, NumPy {np.__version__}"
    if torch is not None:
        versions += f", PyTorch {torch.__version__}"
    built = ", ".join(f"{name} = {value}" for name, value in parameters.items()) + "; " + versions
    card = AtAGlance({"Paper": paper, "Records": data, "Learned here": learned, "Cost of a full run": full_run}, built)
    try:
        shell = get_ipython()  # type: ignore[name-defined]  # IPython puts it among the builtins
    except NameError:
        return card
    patients = data.patients if isinstance(data, CohortLine) else 0
    name = f"at-a-glance-{uuid4().hex}"
    privacy.publish(card, patients, display_id=name)
    shell.events.register(
        "post_run_cell", lambda _result: privacy.publish(card, patients, display_id=name, update=True)
    )
    return None
