"""The chapter runner: source and parameters in, executed notebook out, nothing half-made on the way.

``medrec chapter 02 -p cohort mimic4-demo`` and the build of the book both come here.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from medrec import __version__
from medrec.arguments import checked_output
from medrec.book import footprint
from medrec.book.chapters import (
    PROFILES,
    all_chapters,
    chapter_key,
    check_parameters,
    executed_dir,
    find_chapter,
    parameters_of,
    read_chapter,
    read_source,
)
from medrec.types import MedrecError

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    from medrec.book.papermill_engine import FailedCellError

PACKAGES = ("numpy", "torch")
"""Whose versions an executed chapter tells, beside those of medrec and Python."""
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def run_chapter(
    which: str, parameters: Mapping[str, Any] | None = None, output: Path | None = None, *, progress: bool = True
) -> Path:
    """Execute one chapter and write it.

    Args:
        which: number, topic or name of the chapter, or path of its source.
        parameters: values that differ from the defaults, by name; text is converted to the declared type.
        output: where to write. By default the book's own copy when no parameter differs from its default, otherwise a
            file beside it whose name tells the parameters, so that the book keeps its numbers. What comes of a source
            that is not the book's is written beside that source.
        progress: show a progress bar (on terminals only).

    Returns:
        The file that was written.

    Raises:
        MedrecError: unknown chapter or parameter, a cell failed, or the file cannot be written or is somebody's own;
            then nothing is.
    """
    source = find_chapter(which)
    declared = parameters_of(read_chapter(source))
    values = check_parameters(declared, parameters or {})
    changed = {name: value for name, value in values.items() if value != declared[name].default}
    if output is None:
        # Letters that a file name may hold everywhere.
        words = [
            re.sub(r"[^\w.+-]+", "-", f"{name}={value}").replace("=", "-") for name, value in sorted(changed.items())
        ]
        ours = source in all_chapters()
        folder = (executed_dir() / "variants" if changed else executed_dir()) if ours else source.parent
        output = folder / ("__".join([source.stem, *words]) + ".ipynb")
        if not ours and output.exists() and footprint.read(output) is None:
            raise MedrecError(f"{output} is there already, and not written by this command. Give another file with -o.")
    checked_output("-o", output, (".ipynb",), make=True)
    refresh(source, changed, output, progress=progress)
    return output


def execute(source: Path, parameters: Mapping[str, Any], *, progress: bool = True) -> NotebookNode:
    """Execute a chapter through papermill, in a kernel of the interpreter that runs now.

    Returns:
        The executed notebook; its metadata says under ``medrec`` what it was made of.

    Raises:
        MedrecError: an unknown parameter, a cell failed (the message names chapter, cell, line and error; where closed
            records were opened it quotes nothing), or the chapter shows more of closed records than aggregates.
    """
    try:
        import papermill
        from papermill.exceptions import PapermillExecutionError

        from medrec.book.papermill_engine import ChapterError, FailedCellError
    except ImportError as error:
        raise MedrecError(
            f"Chapters need {error.name}, which is not installed. Run `pip install -e .[book]` in the checkout."
        ) from None
    # The text is read first: a source that changes while it runs leaves a stale copy, not a wrong one.
    start, key, chapter = time.time_ns(), chapter_key(source, parameters), read_chapter(source)
    values = check_parameters(parameters_of(chapter), parameters)
    chapter.cells.append(footprint.cell())
    with _own_kernel() as config:
        try:
            notebook = papermill.execute_notebook(
                chapter,
                None,
                parameters=values,
                kernel_name="python3",
                progress_bar={"disable": None if progress else True, "desc": source.stem},
                config=config,
                tells_footprint=True,
            )
        except PapermillExecutionError as error:
            raise MedrecError(_failure(source, error)) from None
        except FailedCellError as error:
            raise MedrecError(f"{_failure(source, error)}\n{error.what_is_kept}") from None
        except ChapterError as error:
            raise MedrecError(f"Chapter {source.stem} is not written. {error.message}") from None
        except RuntimeError as error:  # the kernel died or did not start
            raise MedrecError(f"Chapter {source.stem}: {error}") from error
    rests_on = footprint.take(notebook, start)
    # Neither this machine's folders nor the time of each cell belong into a book.
    notebook.metadata["papermill"] = {"duration": notebook.metadata["papermill"]["duration"]}
    for cell in notebook.cells:
        cell["metadata"].pop("papermill", None)
        cell["metadata"].pop("execution", None)
    if notebook.metadata.get("medrec", {}).get("closed"):
        # Names of files could be those of patients: a page of closed records does not say what it rests on.
        key, rests_on = "", {"modules": {}, "files": {}, "databases": None}
    notebook.metadata["medrec"] = {
        "source": source.name,
        "key": key,
        "parameters": dict(parameters),
        "made": datetime.fromtimestamp(start / 1e9, UTC).date().isoformat(),
        "versions": {"medrec": __version__} | {package: version(package) for package in PACKAGES},
        **rests_on,
    }
    return notebook


@contextmanager
def _own_kernel() -> Iterator[Config]:
    """Let Jupyter take the kernel of this interpreter, without anybody's start-up files and shared history.

    Yields:
        Configuration of the kernel's connection: sockets in a private folder rather than open TCP ports, where the
        system has such sockets and their path (at most about a hundred bytes) is short enough.
    """
    from traitlets.config import Config

    with tempfile.TemporaryDirectory(prefix="medrec-") as folder:
        own = {
            "JUPYTER_PREFER_ENV_PATH": "1",
            "JUPYTER_RUNTIME_DIR": folder,
            "IPYTHONDIR": folder,
            # Charts for pages, whatever the terminal asks for.
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        }
        private = os.name == "posix" and len(folder) < 50
        with patch.dict(os.environ, own):
            yield Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}}) if private else Config()


def _failure(source: Path, error: PapermillExecutionError | FailedCellError) -> str:
    first = error.source.strip().splitlines()[0] if error.source.strip() else ""
    text = read_source(source)
    at = text.find(error.source)
    place = f"{source.name}, line {text.count(chr(10), 0, at) + 1}" if at >= 0 else source.name
    trace = (
        ANSI.sub("", "\n".join(error.traceback[-3:])) if error.ename not in {"MedrecError", "KeyboardInterrupt"} else ""
    )
    message = (
        f"Chapter {source.stem} failed in cell [{error.exec_count}] ({place}), which begins `{first}`:\n"
        f"{error.ename}: {error.evalue}".removesuffix(": ")
    )
    return f"{message}\n\n{trace}".rstrip()


def write_notebook(notebook: NotebookNode, output: Path) -> None:
    """Write a notebook so that the file is either the old one or the whole new one.

    Raises:
        MedrecError: the disk is full or the folder cannot be written.
    """
    import nbformat

    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(nbformat.writes(notebook), encoding="utf-8")
        temporary.replace(output)
    except OSError as error:
        raise MedrecError(
            f"Cannot write {output}: {error.strerror}. Free space or give another output file."
        ) from error
    finally:
        with suppress(OSError):  # a second error would hide the first
            temporary.unlink(missing_ok=True)


def profile_parameters(profile: str) -> dict[str, Any]:
    """Parameters with which the book is built.

    Raises:
        MedrecError: there is no such profile.
    """
    if profile not in PROFILES:
        raise MedrecError(f"MEDREC_PROFILE is {profile!r}; it takes {' or '.join(PROFILES)}.")
    return {} if profile == PROFILES[0] else {"profile": profile}


def book_copy(source: Path) -> Path:
    """Where the book keeps the executed copy of a chapter."""
    return executed_dir() / f"{source.stem}.ipynb"


def is_stale(source: Path, parameters: Mapping[str, Any]) -> bool:
    """Whether the book's copy of a chapter is missing, or what it was made of is no longer the same."""
    made = footprint.read(book_copy(source))
    try:
        return made is None or made["key"] != chapter_key(source, parameters) or bool(footprint.changed(made))
    except (KeyError, TypeError, AttributeError):  # a copy that says less, or something else
        return True


def refresh(source: Path, parameters: Mapping[str, Any], output: Path, *, progress: bool = False) -> None:
    """Execute a chapter anew and write it; a failure leaves the last good copy in place.

    Raises:
        MedrecError: a cell failed or the file cannot be written.
    """
    write_notebook(execute(source, parameters, progress=progress), output)
