"""What proves that records are open: the sums of the demos' tables, and the generator for invented patients.

The name of a folder proves nothing, since closed tables can be copied or linked to any name.

* A table of a demo has the content that PhysioNet lists for it: ``checksums.csv`` holds its sum, compressed or not.
* Invented patients are, byte for byte, what :func:`medrec.data.synthetic.synthesize` writes for the options that their
  folder names: no real record can be among them.  A folder that this installation wrote is known by what the file
  system says of its files; any other is compared with one that is written for the purpose.

Each proof is made once and remembered in the cache until a file's size, times or place on the disk change.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from medrec.data.tables import MARKER, SUFFIXES
from medrec.folders import SEAL, damage
from medrec.paths import PACKAGE, cache_dir
from medrec.types import MedrecError

LARGEST = 64 << 20
"""Bytes of a demo's table are fewer; a larger one needs no sum to be known as something else."""
REMEMBERED = 2000
SYMPTOMS = "symptoms"
"""Table that no database has, so that nothing proves where it comes from."""

_memory: dict[str, str] = {}
_looking = threading.local()


@contextmanager
def unheard() -> Iterator[None]:
    """Within, this thread opens files only to judge them, which opens no records."""
    before, _looking.now = is_looking(), True
    try:
        yield
    finally:
        _looking.now = before


def is_looking() -> bool:
    """Whether this thread opens files only to judge them."""
    return bool(getattr(_looking, "now", False))


# -- demos -------------------------------------------------------------------------------------------------------------


def demo_doubt(name: str, folder: Path) -> str | None:
    """Why the tables in a folder are not those of a demo; ``None`` where every one is that a reader would read.

    Args:
        name: of the demo.
        folder: where its tables lie; fewer than the release has are fine.
    """
    for path in sorted(folder.rglob("*")):
        table = _table(path)
        if (table in _contents(name) or table == SYMPTOMS) and not is_demo_table(name, path):
            return f"{path.relative_to(folder).as_posix()} is not the file that PhysioNet lists for {name}"
    return None


def is_demo_table(name: str, path: Path) -> bool:
    """Whether a file has the content that PhysioNet lists for this table of the demo, compressed or not."""
    known = _contents(name).get(_table(path) or "")
    return known is not None and _content(path) == known


def _table(path: Path) -> str | None:
    """Name of the table in a file, in small letters; ``None`` for what is no table."""
    name = path.name.lower()
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), None)


@cache
def _contents(name: str) -> Mapping[str, str]:
    """Table → SHA-256 of its content, for those that the readers use."""
    listed = (
        pl.read_csv(PACKAGE / "data" / "checksums.csv", glob=False)
        .filter(pl.col("dataset") == name)
        .drop_nulls("content")
    )
    return {_table(Path(path)) or "": content for path, content in zip(listed["path"], listed["content"], strict=True)}


def _content(path: Path) -> str:
    """SHA-256 of a table's content; empty for a file that is too large for a demo's, or that cannot be read."""
    try:
        stamp = _stamp(path)
        if (known := _recall(stamp)) is not None:
            return known
        with unheard(), gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error):
        return ""
    found = "" if len(content) > LARGEST else hashlib.sha256(content).hexdigest()
    _remember(stamp, found)
    return found


# -- invented patients -------------------------------------------------------------------------------------------------


def drawn(folder: Path) -> dict[str, Any]:
    """What the marker in a folder says, once it is proven that the folder holds invented patients and nothing else.

    Args:
        folder: that holds a marker. It is written again and compared, unless this installation wrote it.

    Raises:
        MedrecError: it is not proven; the message says what differs.
    """
    found: dict[str, Any] = {}
    with unheard():
        known = _recall(_stamp(*_files(folder))) == MARKER
        reason = None if known else _changed_since_written(folder)
        if reason is None:
            found = json.loads((folder / MARKER).read_text(encoding="utf-8"))
            reason = _not_made_so(folder, found) if not known else None
    if reason is not None:
        raise MedrecError(
            f"{folder} holds {MARKER}, but is not as `medrec data synthesize` wrote it: {reason}. "
            "Move it away and write it again; tables of your own belong into a folder of another name."
        )
    return found


def remember_drawn(folder: Path) -> None:
    """Remember a folder that the generator has just written, so that it need not be written again for its proof."""
    _remember(_stamp(*_files(folder)), MARKER)


def _changed_since_written(folder: Path) -> str | None:
    if reason := damage(folder):
        return reason
    sealed = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")))
    return next((f"{name} is new" for name in names if name.lower().endswith(SUFFIXES) and name not in sealed), None)


def _not_made_so(folder: Path, options: dict[str, Any]) -> str | None:
    """What the generator would not have written; a seal alone could be anybody's."""
    from medrec.data.synthetic import synthesize

    stamp = _stamp(*_files(folder))
    knobs = {name: value for name, value in options.items() if name != "layout"}
    with tempfile.TemporaryDirectory(prefix="medrec-") as temporary:
        again = Path(temporary) / "again"
        try:
            synthesize(**knobs).write(again, options["layout"])
        except (KeyError, TypeError, ValueError, MedrecError):
            return f"{MARKER} names no options of the generator"
        sums = [json.loads((place / SEAL).read_text(encoding="utf-8")) for place in (folder, again)]
    differs = sorted(name for name in sums[0].keys() | sums[1].keys() if sums[0].get(name) != sums[1].get(name))
    if differs:
        return f"{differs[0]} is not what the generator makes of these options today"
    _remember(stamp, MARKER)
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


# -- memory ------------------------------------------------------------------------------------------------------------


def _stamp(*files: Path) -> str:
    """What the file system says of files: it changes with their content, and with their place."""
    found = hashlib.sha256()
    for path in files:
        about = path.stat()
        found.update(repr((about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)).encode())
    return found.hexdigest()


def _store() -> Path:
    return cache_dir() / "proofs.json"


def _stored() -> dict[str, str]:
    try:
        found = json.loads(_store().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _recall(stamp: str) -> str | None:
    if stamp not in _memory:
        _memory.update(_stored())
    return _memory.get(stamp)


def _remember(stamp: str, found: str) -> None:
    _memory[stamp] = found
    kept = dict([*_stored().items(), (stamp, found)][-REMEMBERED:])
    temporary = _store().with_name(f".proofs-{os.getpid()}.json")
    with suppress(OSError):  # a proof that cannot be remembered is made again
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(kept), encoding="utf-8")
        temporary.replace(_store())
