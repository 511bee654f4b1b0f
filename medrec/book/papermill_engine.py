"""Papermill's standard engine with three additions, which every route to an executed chapter passes.

* A chapter's parameters are checked before anything happens.
* With ``profile full`` the rows that it shows of the reader's own records are made first (:mod:`medrec.book.own_rows`).
* What a kernel has opened decides what may be written of it (:mod:`medrec.data.opened`, :mod:`medrec.data.privacy`).
  From the moment that it opens closed records until the guard has looked at the whole notebook, nothing is written,
  logged or printed; a notebook that does not pass is not written at all, and of a failure only its kind and its place
  are told.

``medrec chapter`` and the build of the book call papermill with this engine.  It is also registered under papermill's
entry point group ``papermill.engine``, and puts itself in the place of the default one when papermill loads it, so that
``papermill any.ipynb out.ipynb`` is guarded wherever this package is installed.
"""

from __future__ import annotations

import builtins
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click


def __getattr__(name: str) -> Any:
    """Papermill, imported below for the first time, asks at once for the engine that this module is about to define.

    It is told that there is none; the last lines here put the engine in its place.
    """
    if name == "GuardedEngine":
        return None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Papermill imports this module while it is itself half imported: from these two modules, which are whole by then.
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.exceptions import PapermillException
from papermill.log import logger

from medrec import paths
from medrec.book import footprint, own_rows
from medrec.book.chapters import check_parameters, parameters_of
from medrec.folders import notice
from medrec.types import MedrecError

ANSI = re.compile(r"\x1b\[[0-9;]*m")
WATCH = "exec('try: import medrec.data.opened\\nexcept ImportError: pass', {})"
"""First line of every Python kernel: from then on it knows what it opens."""


class ChapterError(click.ClickException, PapermillException):
    """A mistake of the user: papermill's command prints it as one line, other callers see papermill's exception."""


class FailedCellError(ChapterError):
    """A cell of a chapter that has opened closed records failed: what may be told of it.

    Args:
        closed: the records, in words.
        cell: the cell.
        error: its output of the kind ``error``; None: it has none.
    """

    def __init__(self, closed: Sequence[str], cell: Any, error: Any) -> None:
        self.closed, self.exec_count, self.source = closed, cell.execution_count, cell.source
        self.ename, self.evalue = "CellExecutionError", ""
        self.traceback: list[str] = []
        line = ""
        if error is not None:
            frames = ANSI.sub("", "\n".join(error.traceback[:-1]))
            self.ename = _kind(error.ename)
            self.evalue = error.evalue if self.ename == "MedrecError" and _raised_by_us(frames) else ""
            at = re.findall(rf"^Cell In\[{cell.execution_count}\], line (\d+)", frames, re.MULTILINE)
            line = f", line {at[-1]}" if at else ""
        what = f"{self.ename}: {self.evalue}" if self.evalue else self.ename
        self.what_is_kept = (
            f"Closed records were opened ({', '.join(closed)}), so that outputs, messages and traceback are not kept."
        )
        super().__init__(f"Cell [{self.exec_count}]{line} failed: {what}. {self.what_is_kept}")


def _kind(name: str) -> str:
    """Name of an exception: of Python's, of ours, or of a library's; one that could carry data is not told."""
    known = hasattr(builtins, name) or name == "MedrecError" or re.fullmatch(r"[A-Za-z]{3,30}(Error|Exception)", name)
    return name if known else "an exception"


def _raised_by_us(frames: str) -> bool:
    """Whether the last frame of a traceback is in this package: such messages name columns and lines, never cells."""
    places = re.findall(r"^(?:File (\S+?):\d+|Cell In\[)", frames, re.MULTILINE)
    return bool(places) and Path(places[-1]).expanduser().is_relative_to(paths.PACKAGE)


class Guard:
    """What one execution has opened, and the key with which its kernel seals what it hands out.

    Args:
        folder: of this execution alone; the kernel finds it in its environment.
        named: closed records that the parameters name.
    """

    def __init__(self, folder: Path, named: Sequence[str] = ()) -> None:
        from medrec.data import opened

        self._folder, self._named, self.key = folder, list(named), secrets.token_bytes(32)
        self._key_file = folder / opened.KEY
        self._key_file.write_bytes(self.key)

    def closed(self) -> list[str]:
        """Closed records that were opened so far, in words."""
        from medrec.data import opened

        found = self._named + opened.told(self._folder)
        return found if self._key_file.is_file() else [*found, "records of a kernel that took its guard away"]

    def pass_notices_on(self) -> None:
        """Say on the terminal what the kernel had to say to the user."""
        file = self._folder / paths.NOTICES
        for line in dict.fromkeys(file.read_text(encoding="utf-8").splitlines() if file.is_file() else []):
            notice(line)


class HeldBack(NotebookExecutionManager):
    """Saves a notebook while it runs, as papermill does, until closed records are opened."""

    def __init__(self, nb: Any, guard: Guard, **more: Any) -> None:
        self.guard, self._written = guard, False
        super().__init__(nb, **more)

    def save(self, **kwargs: Any) -> None:
        # Outputs of closed records arrive after these were opened, so that this is asked last.
        if self.guard.closed():
            self.last_save_time = self.now()
        else:
            super().save(**kwargs)
            self._written = bool(self.output_path)

    def discard(self) -> None:
        """Take away what this execution has written, though it holds nothing that is closed."""
        if self._written and "://" not in str(self.output_path):
            with suppress(OSError):
                os.unlink(self.output_path)


class QuietClient(PapermillNotebookClient):
    """Starts kernels that know what they open, and logs no output once closed records are open."""

    def create_kernel_manager(self) -> Any:
        manager = super().create_kernel_manager()
        if any("ipykernel" in word for word in manager.kernel_spec.argv):
            self.extra_arguments += [f"--IPKernelApp.exec_lines={WATCH}"]
        return manager

    def log_output_message(self, output: Any) -> None:
        if not self.nb_man.guard.closed():
            super().log_output_message(output)


class GuardedEngine(NBClientEngine):
    """Refuses what a chapter does not take, and what may not be shown of the records that it opens."""

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: Any = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        tells_footprint: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Execute a notebook.

        Args:
            nb, kernel_name, output_path, progress_bar, log_output, autosave_cell_every, kwargs: papermill's own.
            tells_footprint: the last cell is :func:`medrec.book.footprint.cell`, which the caller will take out again.
        """
        _check_parameters(nb)
        _make_own_rows(nb)
        with _guard(nb) as guard:
            manager = HeldBack(
                nb,
                guard,
                output_path=output_path,
                progress_bar=progress_bar,
                log_output=log_output,
                autosave_cell_every=autosave_cell_every,
            )
            manager.notebook_start()
            try:
                cls.execute_managed_notebook(manager, kernel_name, log_output=log_output, **kwargs)
            finally:
                manager.cleanup_pbar()
                manager.notebook_complete()
            if closed := guard.closed():
                try:
                    _keep_private(manager.nb, closed, guard.key, tells_footprint=tells_footprint)
                except ChapterError:
                    manager.discard()
                    raise
        return manager.nb

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        log_output: bool = False,
        stdout_file: Any = None,
        stderr_file: Any = None,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Papermill's own, with our client."""
        unused = ("input_path", "timeout", "startup_timeout")
        options = {name: value for name, value in kwargs.items() if name not in unused}
        return QuietClient(
            nb_man,
            timeout=execution_timeout or kwargs.get("timeout"),
            startup_timeout=start_timeout,
            kernel_name=kernel_name,
            log=logger,
            log_output=log_output,
            stdout_file=stdout_file,
            stderr_file=stderr_file,
            **options,
        ).execute()


def _check_parameters(nb: Any) -> None:
    """Refuse unknown parameters, and values of the wrong type, of notebooks that came from a chapter's source."""
    if "medrec" not in nb.metadata:
        return
    given = nb.metadata.papermill.get("parameters", {})
    try:
        for name, value in check_parameters(parameters_of(nb), given).items():
            # Papermill has written the values into the notebook, so that a converted one comes too late.
            if isinstance(given[name], str) and value != given[name]:
                raise MedrecError(
                    f"Parameter {name} came as the text {given[name]!r}. Papermill's -r gives every value as "
                    f"text: write -p {name} {given[name]}."
                )
    except MedrecError as error:
        raise ChapterError(str(error)) from None


def _make_own_rows(nb: Any) -> None:
    """With ``profile full``, train what the chapter shows of the reader's own records; see :mod:`own_rows`."""
    if not own_rows.rows_of(nb):
        return
    declared = {name: parameter.default for name, parameter in parameters_of(nb).items()}
    try:
        own_rows.make(nb, declared | nb.metadata.papermill.get("parameters", {}))
    except MedrecError as error:
        raise ChapterError(str(error)) from None


@contextmanager
def _guard(nb: Any) -> Iterator[Guard]:
    with tempfile.TemporaryDirectory(prefix="medrec-guard-") as folder:
        guard = Guard(Path(folder), _named(nb))
        try:
            with patch.dict(os.environ, {paths.GUARD: folder}):
                yield guard
        finally:
            guard.pass_notices_on()


def _named(nb: Any) -> list[str]:
    """Closed records that the parameter ``cohort`` names, whether or not they are opened."""
    from medrec.data.load import source_of

    given = nb.metadata.get("papermill", {}).get("parameters", {})
    with suppress(MedrecError, KeyError):  # no such cell, parameter or cohort: nothing that is closed
        name = given["cohort"] if "cohort" in given else parameters_of(nb)["cohort"].default
        return [f"the cohort {name}"] if source_of(str(name)) == "credentialed" else []
    return []


def _keep_private(nb: Any, closed: Sequence[str], key: bytes, *, tells_footprint: bool = False) -> None:
    """Refuse a notebook that shows more of closed records than aggregates, and leave in it what it shows alone.

    Raises:
        FailedCellError: a cell failed.
        ChapterError: an output does not pass.
    """
    from medrec.data.privacy import check_notebook

    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    for cell in code:
        error = next((output for output in cell.outputs if output.output_type == "error"), None)
        if error is not None or cell.metadata.get("papermill", {}).get("exception") is True:
            raise FailedCellError(closed, cell, error)
    shown = {"metadata": nb.metadata, "cells": [dict(cell) for cell in nb.cells]}
    if tells_footprint:
        last = shown["cells"][-1]
        last["outputs"] = [one for one in last["outputs"] if list(one.get("data", {})) != [footprint.MIME]]
    try:
        check_notebook(shown, "credentialed", key=key)
    except MedrecError as error:
        raise ChapterError(f"{error} Closed records were opened: {', '.join(closed)}.") from None
    # A kernel can put words into these as well.
    language = nb.metadata.get("kernelspec", {}).get("language", "python")
    nb.metadata["language_info"] = {"name": language, "pygments_lexer": language}
    for number, cell in enumerate((cell for cell in code if cell.source.strip()), start=1):
        cell.execution_count = number
        cell.metadata.pop("execution", None)
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    nb.metadata["medrec"] = {**nb.metadata.get("medrec", {}), "closed": True}


papermill_engines.register(None, GuardedEngine)
papermill_engines.register("nbclient", GuardedEngine)
