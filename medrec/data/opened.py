"""Which closed records this process has opened, whatever its parameters say; told to whoever executes it.

Our own doors to records announce what they open as an audit event of Python (:func:`medrec.paths.announce_opened`),
and Python announces every file that it opens itself and every command that it starts.  :func:`_hear` listens for as
long as the process lives, and remembers what is not proven to be open (:mod:`medrec.data.proof`).  In a kernel that
:mod:`medrec.book.papermill_engine` has started, the readers of polars, which open files behind Python's back, announce
theirs too, and what was opened is also written at once to a file of the engine's, which outlives the kernel.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args
from weakref import WeakValueDictionary

import polars as pl
import psutil

from medrec.data import proof
from medrec.data.cohort import Cohort, Vocabulary
from medrec.data.tables import MARKER, SUFFIXES, Layout
from medrec.paths import GUARD, OPENED, cache_dir, data_dir
from medrec.types import MedrecError

CLOSED, KEY = "closed.jsonl", "key"
"""Files in the folder that :data:`medrec.paths.GUARD` names."""
DATABASES: tuple[str, ...] = get_args(Layout)
DEMOS = tuple(f"{database}-demo" for database in DATABASES)

COMMANDS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
"""Audit events of commands, which may name a table."""

_closed: dict[str, None] = {}
_at_start = os.environ.get(GUARD)
_vouched: WeakValueDictionary[int, Vocabulary] = WeakValueDictionary()


# -- what was opened ---------------------------------------------------------------------------------------------------


def closed() -> tuple[str, ...]:
    """Closed records that this process has opened so far, in words; empty where everything was open."""
    return tuple(_closed)


def record(what: str) -> None:
    """Remember that closed records were opened.

    Args:
        what: which, in words that name no patient: ``"the tables of mimic3"``.
    """
    if what in _closed:
        return
    _closed[what] = None
    if folder := guard_folder():
        # Appended and closed at once: what a kernel has opened is on the disk before it can show any of it.
        with open(folder / CLOSED, "a", encoding="utf-8") as file:
            file.write(json.dumps(what) + "\n")


def guard_folder() -> Path | None:
    """Folder of the engine that executes this kernel, as it was when the kernel began; ``None`` without one."""
    folder = _at_start or os.environ.get(GUARD)
    return Path(folder) if folder else None


def told(folder: Path) -> list[str]:
    """What the processes below an engine have told it so far.

    Args:
        folder: of the engine, see :data:`medrec.paths.GUARD`.
    """
    file = folder / CLOSED
    if not file.is_file():
        return []
    return list(dict.fromkeys(json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()))


def forget() -> None:
    """Begin anew, as a fresh process does; for tests."""
    _closed.clear()


# -- which cohorts are known to be open --------------------------------------------------------------------------------


def vouch(cohort: Cohort) -> Cohort:
    """Remember that a cohort was proven to be open when it was loaded; returns it.

    Its vocabularies stand for it: they go wherever its records go (``select``, ``replace``), and are nobody else's.
    """
    if cohort.source != "credentialed":
        _vouched.update({id(words): words for words in cohort.vocab.values()})
    return cohort


def is_closed(cohort: Cohort) -> bool:
    """Whether a cohort is to be treated as closed, whatever its field ``source`` says.

    A cohort is what it was loaded as.  One that was made by hand is believed as long as this process has opened nothing
    closed that it could be made of.
    """
    if cohort.source == "credentialed":
        return True
    words = getattr(cohort, "vocab", {}).values()
    return bool(_closed) and not (words and all(_vouched.get(id(vocab)) is vocab for vocab in words))


# -- listening ---------------------------------------------------------------------------------------------------------


def _hear(event: str, args: tuple[Any, ...]) -> None:
    """Audit hook; it must be quick, and never raise."""
    if event not in ("open", OPENED, *COMMANDS) or proof.is_looking():
        return
    with proof.unheard():
        try:
            if event == OPENED:
                what, path, source = args
                if source == "credentialed" or (source is not None and _is_foreign_cohort(_full(path))):
                    record(what)
                elif source is None and (known := _closed_table(_full(path), what)):
                    record(known)
            elif event in COMMANDS:
                for word in _words(args):
                    _look_at(word)
            elif isinstance(args[0], str | bytes) and _reads(args[1], args[2]):
                _look_at(os.fsdecode(args[0]))
        except Exception as error:  # nothing that goes wrong here opens a door
            record(f"records that could not be judged ({type(error).__name__})")


def _is_foreign_cohort(path: str) -> bool:
    """Whether a folder holds a cohort that lies outside our cache: somebody may have saved it under another source."""
    header = Path(path) / "cohort.json"
    if not header.is_file() or any(
        header.is_relative_to(root) for root in (_cohorts().absolute(), _cohorts().resolve())
    ):
        return False
    return bool(_closed) or header.stat().st_ctime < _start()


def _look_at(path: str) -> None:
    full = _full(path)
    if full.startswith(_watched(*_environment())) and (what := _closed_file(Path(full))):
        record(what)


def _words(thing: Any) -> Iterator[str]:
    """What could be paths in the arguments of a command."""
    if isinstance(thing, bytes):
        thing = os.fsdecode(thing)
    if isinstance(thing, str):
        yield from (word for word in re.split(r"[\s'\"=;|<>]+", thing) if os.sep in word)
    elif isinstance(thing, list | tuple):
        for part in thing:
            yield from _words(part)


def _full(path: str) -> str:
    return os.path.abspath(path)


def _reads(mode: Any, flags: Any) -> bool:
    """Whether a file is opened for reading; a new one holds nothing yet."""
    if isinstance(mode, str):
        return not set(mode) & set("wxa")
    return not isinstance(flags, int) or flags & (os.O_WRONLY | os.O_CREAT) == 0


def _environment() -> tuple[str, str]:
    return os.environ.get("MEDREC_DATA_DIR", ""), os.environ.get("MEDREC_CACHE_DIR", "")


@cache
def _watched(*_environment: str) -> tuple[str, ...]:
    """Folders in which files are looked at, for the present environment; with where the closed ones link to."""
    roots = [_data(), _cohorts(), *(_data().resolve() / name for name in (*DATABASES, *DEMOS))]
    places = [place for root in roots for place in (root.absolute(), root.resolve())]
    return tuple(sorted({f"{place}{os.sep}" for place in places}))


def _data() -> Path:
    return data_dir(remember=False)


def _cohorts() -> Path:
    return cache_dir() / "cohorts"


def _closed_file(path: Path) -> str | None:
    """What closed records a file in a watched folder belongs to; ``None`` where it is open."""
    for root in {_data().absolute(), _data().resolve()}:
        if path.is_relative_to(root) and path != root:
            name = path.relative_to(root).parts[0]
            if name in DATABASES:
                return f"the tables of {name}"
            if name in DEMOS:
                table = path.name.lower().endswith(SUFFIXES)
                doubt = table and not proof.is_demo_table(name, path)
                return f"{name}, whose {path.name} is not the file that PhysioNet lists" if doubt else None
            if name.startswith(".") or name == "knowledge":
                return None
            return f"the tables of {name}" if path.name.lower().endswith(SUFFIXES) and not _is_drawn(path) else None
    for root in {_cohorts().absolute(), _cohorts().resolve()}:
        if path.is_relative_to(root) and path != root:
            header = root / path.relative_to(root).parts[0] / "cohort.json"
            about = json.loads(header.read_text(encoding="utf-8")) if header.is_file() else {"source": "synthetic"}
            return f"the cohort {about['name']}" if about["source"] == "credentialed" else None
    for name in (*DATABASES, *DEMOS):  # a folder elsewhere that the data folder links to
        place = _data() / name
        if place.is_symlink() and path.is_relative_to(place.resolve()):
            return None if any(proof.is_demo_table(demo, path) for demo in DEMOS) else f"the tables of {name}"
    return None


def _closed_table(path: str, what: str) -> str | None:
    """What closed records a table may belong to that one of our readers was pointed to, wherever it lies."""
    file = Path(path)
    if path.startswith(_watched(*_environment())):
        return _closed_file(file)
    ours = cache_dir() / "tables"
    if file.is_relative_to(ours.absolute()) or file.is_relative_to(ours.resolve()):
        return None
    # What this process has written before it has opened anything closed is its own, such as a table of a test.
    if not _closed and file.stat().st_ctime >= _start():
        return None
    return None if _is_drawn(file) or any(proof.is_demo_table(demo, file) for demo in DEMOS) else what


def _is_drawn(path: Path) -> bool:
    """Whether a table belongs to a folder of invented patients."""
    for folder in (path.parent, path.parent.parent):
        if (folder / MARKER).is_file():
            try:
                proof.drawn(folder)
            except MedrecError:
                return False
            return True
    return False


@cache
def _start() -> float:
    """When this process, or the engine that executes it, began: seconds since the epoch."""
    folder = guard_folder()
    return os.stat(folder / KEY).st_ctime if folder else psutil.Process().create_time()


def _announcing(read: Callable[..., Any]) -> Callable[..., Any]:
    """A reader of polars that says like Python's ``open`` which file it opens."""

    @functools.wraps(read)
    def announced(*args: Any, **more: Any) -> Any:
        source = args[0] if args else more.get("source")
        for one in source if isinstance(source, list | tuple) else [source]:
            if isinstance(one, str | Path):
                sys.audit("open", str(one), "r", 0)
        return read(*args, **more)

    return announced


def _listen() -> None:
    sys.addaudithook(_hear)
    if _at_start:
        for name in [name for name in vars(pl) if name.startswith(("read_", "scan_"))]:
            setattr(pl, name, _announcing(getattr(pl, name)))


_listen()
