"""Chapters as source: where they are, which parameters they take, and what their text is hashed to."""

from __future__ import annotations

import ast
import difflib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrec import keys, paths
from medrec.arguments import checked_device, checked_seed
from medrec.data.load import check_cohort
from medrec.types import MedrecError

if TYPE_CHECKING:
    from nbformat import NotebookNode

PROFILES = ("quick", "full")
TYPES: dict[str, type[Any]] = {"bool": bool, "int": int, "float": float, "str": str}
CHECKS: dict[str, Callable[[Any], Any]] = {
    "seed": checked_seed,
    "device": checked_device,
    "cohort": check_cohort,
}
"""Of parameters that mean the same in every chapter."""
TYPE_WORDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
"""In which every chapter is executed."""
WORDS = "#|"
"""Begins a line of words about a figure."""
PLACES = {"name": "figure", "caption": "figure", "alt": "image"}
"""Of these words in the metadata of a cell."""


# -- where chapters are ---------------------------------------------------------------------------------------------


def notebooks_dir() -> Path:
    """Folder of chapter sources."""
    return paths.base_dir() / "notebooks"


def executed_dir() -> Path:
    """Folder of executed chapters, inside the book; ignored by git."""
    return paths.base_dir() / "book" / "chapters"


def all_chapters() -> list[Path]:
    """Sources of all chapters, in the order of their numbers."""
    return sorted(notebooks_dir().glob("[0-9][0-9]_*.py"))


def find_chapter(which: str) -> Path:
    """Source of a chapter, by number (``2``, ``02``), topic (``from_tables_to_visits``), name or path.

    What has a folder or ends in ``.py`` is a path and means that very file, inside the project or outside. One that is
    relative counts from the working directory, then from the checkout, and a bare name from ``notebooks/``.

    Raises:
        MedrecError: no such chapter (the nearest names are given), no such file, or one that is no chapter's source.
    """
    which = str(which)
    if which.endswith((".py", ".ipynb")) or os.sep in which or (os.altsep or os.sep) in which:
        return _given_file(which)
    chapters = all_chapters()
    if not chapters:
        raise MedrecError(
            f"{notebooks_dir()} holds no chapters. Run the command inside a checkout of the project, "
            "where the folder notebooks/ stands, or give the path of a source."
        )
    names = {path.stem: path for path in chapters}
    if which in names:
        return names[which]
    if which.isdigit():
        found = [path for name, path in names.items() if int(name[:2]) == int(which)]
    else:
        found = [path for name, path in names.items() if name[3:] == which]
    if len(found) == 1:
        return found[0]
    raise MedrecError(f"There is no chapter {which!r}.{_nearest(which)} Chapters: {', '.join(names)}.")


def _given_file(which: str) -> Path:
    """The file that a path means; the book's own sources as :func:`all_chapters` writes them."""
    path = Path(which).expanduser()
    places = [path.absolute(), paths.base_dir() / path]
    if len(path.parts) == 1:
        places.append(notebooks_dir() / path)
    # Path.exists raises where nobody may look.
    source = next((place for place in places if os.path.exists(place)), None)
    if source is None:
        raise MedrecError(
            f"There is no file {which}.{_nearest(path.stem)} Give the path of a chapter's source, or a name."
        )
    if not source.is_file() or source.suffix != ".py":
        hint = f"; make one of it with `jupytext --to py:percent {which}`" if source.suffix == ".ipynb" else ""
        raise MedrecError(
            f"{which} is no chapter's source, which is a file that ends in .py{hint}.{_nearest(path.stem)}"
        )
    return next((own for own in all_chapters() if own.resolve() == source.resolve()), source)


def _nearest(word: str) -> str:
    names = [path.stem for path in all_chapters()]
    near = difflib.get_close_matches(word, [*names, *(name[3:] for name in names)], n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def read_source(path: Path) -> str:
    """Text of a chapter's source; a byte-order mark, which some editors put in front, is no part of it.

    Raises:
        MedrecError: there is no such file, or it is no text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MedrecError(f"There is no chapter source {path}. Check the path.") from None
    except OSError as error:
        raise MedrecError(f"The chapter source {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise MedrecError(f"{path} is not written in UTF-8. Save it in this encoding.") from None


def read_chapter(path: Path) -> NotebookNode:
    """A chapter's source as a notebook without outputs.

    What a figure is called and what it says in words stands in the first lines of its cell, each as long as it likes:

    .. code-block:: python

        #| name: fig-jaccard
        #| alt: A curve that rises from zero to one,
        #|   steeply at its end.
        #| caption: Jaccard against F1. Notice the end.

    Raises:
        MedrecError: see :func:`read_source`; or such a line says something else.
    """
    import jupytext

    notebook = jupytext.reads(read_source(path), fmt="py:percent")
    # A source that lost its header is still Python.
    notebook.metadata.setdefault("kernelspec", KERNEL)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.startswith(WORDS):
            _lift_words(cell, path)
    return notebook


def _lift_words(cell: NotebookNode, path: Path) -> None:
    """Move the first lines of a cell, those with :data:`WORDS`, to where the book looks for them."""
    lines = cell.source.split("\n")
    count = next((i for i, line in enumerate(lines) if not line.startswith(WORDS)), len(lines))
    found: dict[str, list[str]] = {}
    for line in lines[:count]:
        text = line.removeprefix(WORDS).strip()
        key, colon, rest = text.partition(":")
        if colon and key in PLACES and key not in found:
            found[key] = [rest.strip()]
        elif found and line.startswith(f"{WORDS}  "):
            found[next(reversed(found))].append(text)
        else:
            raise MedrecError(
                f"{path}: {line!r} is none of {', '.join(f'`{WORDS} {key}: ...`' for key in PLACES)}, and no line that "
                f"goes on, which begins with {WORDS!r} and two blanks."
            )
    book = cell.metadata.setdefault("mystnb", {})
    for key, text in found.items():
        book.setdefault(PLACES[key], {})[key] = " ".join(text)
    cell.source = "\n".join(lines[count:])


# -- parameters -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parameter:
    """One line ``name: type = default  # help`` of a parameters cell."""

    name: str
    type: str
    default: bool | int | float | str
    help: str

    def check(self, value: Any) -> bool | int | float | str:
        """The value in the declared type; text (from a command line) is converted.

        Raises:
            MedrecError: the value does not fit the type.
        """
        wanted = TYPES[self.type]
        if isinstance(value, str) and wanted is not str:
            try:
                value = {"true": True, "false": False}[value.lower()] if wanted is bool else wanted(value)
            except (KeyError, ValueError):
                value = None if value == "" else value
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise MedrecError(
                f"Parameter {self.name} takes {TYPE_WORDS[self.type]} ({self.type}), not {value!r}. "
                f"Its default is {self.default!r}."
            )
        if self.name == "profile" and value not in PROFILES:
            raise MedrecError(f"Parameter profile takes {' or '.join(PROFILES)}, not {value!r}.")
        # What would be refused in a cell is refused before a kernel starts.
        if self.name in CHECKS:
            try:
                CHECKS[self.name](value)
            except MedrecError as error:
                raise MedrecError(f"Parameter {self.name}: {error}") from None
        return value


def tags(cell: Mapping[str, Any]) -> list[str]:
    """Tags of a notebook cell."""
    return list(cell["metadata"].get("tags", []))


def parameters_of(notebook: NotebookNode) -> dict[str, Parameter]:
    """Parameters that a chapter declares in its cell tagged ``parameters``, by name, with defaults and comments.

    Raises:
        MedrecError: there is not exactly one such cell, or a line is not ``name: type = default  # comment`` with a
            plain value for default.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and "parameters" in tags(cell)]
    if len(cells) != 1:
        raise MedrecError(f"A chapter has exactly one cell tagged parameters, not {len(cells)}.")
    source = cells[0].source
    lines = source.splitlines()
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise MedrecError(f"Parameters cell: {(error.text or source).strip()!r} is not Python: {error.msg}.") from None
    parameters: dict[str, Parameter] = {}
    for statement in statements:
        line = lines[statement.lineno - 1]
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id=kind), value=ast.expr() as value) if (
                kind in TYPES and _is_literal(value)
            ):
                default = ast.literal_eval(value)
                parameters[name] = Parameter(name, kind, default, line.partition("#")[2].strip())
            case _:
                raise MedrecError(
                    f"Parameters cell: {line!r} is not `name: type = default  # comment` "
                    f"with a type among {', '.join(TYPES)} and a plain value."
                )
    return parameters


def _is_literal(value: ast.expr) -> bool:
    try:
        return type(ast.literal_eval(value)) in TYPES.values()
    except ValueError:
        return False


def check_parameters(declared: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given values in their declared types.

    Raises:
        MedrecError: a name is not declared (the nearest one is suggested), or a value does not fit its type.
    """
    for name in given:
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise MedrecError(f"Unknown parameter {name!r}.{hint} This chapter takes {', '.join(declared)}.")
    return {name: declared[name].check(value) for name, value in given.items()}


def chapter_key(source: Path, parameters: Mapping[str, Any]) -> str:
    """Hash of a chapter's text (blanks at the ends of lines do not matter), its parameters, and Python's version.

    What it rests on besides is known only after it has run, see :mod:`medrec.book.footprint`.
    """
    lines = [line.rstrip() for line in read_source(source).rstrip().splitlines()]
    return keys.digest(sys.version_info[:2], lines, dict(parameters))
