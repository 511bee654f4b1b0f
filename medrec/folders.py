"""Stored folders: written whole or not at all, and sealed, so that damage is noticed.

Everything that the project keeps on disk and can make again (cohorts, features, runs, checkpoints) is one folder, made
by :func:`atomic_folder`.  It holds ``checksums.json`` with the hash of each of its files; :func:`damage` says what does
not fit.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polars.exceptions import ComputeError

from medrec.paths import GUARD, NOTICES
from medrec.types import MedrecError

SEAL = "checksums.json"
"""File that holds the hashes of all others."""


@contextmanager
def atomic_folder(folder: Path, what: str, *, sealed: bool = True) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place, sealed, only when the block ends well.

    Args:
        folder: final place; what stands there is replaced in the end.
        what: named in the message when writing fails.
        sealed: with a file of checksums; without one for folders that know their content themselves.

    Raises:
        MedrecError: writing failed, e.g. the disk is full; nothing half-written stays.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        tmp = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        tmp.chmod(0o777 & ~_umask())  # mkdtemp closes the folder to everybody else
    except OSError as error:
        raise MedrecError(
            f"Cannot write {what} to {folder}: {error.strerror}. Free space or choose another folder."
        ) from error
    try:
        yield tmp
        if sealed:
            _seal(tmp)
            if _same(tmp, folder):  # another process was faster, and others may be reading what it wrote
                return
        _flush_all(tmp)
        _take_place(tmp, folder)
        _flush(folder.parent)
    except (OSError, ComputeError) as error:
        raise MedrecError(
            f"Cannot write {what} to {folder}: {getattr(error, 'strerror', None) or error}. "
            "Free space or choose another folder; nothing was left behind."
        ) from error
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def damage(folder: Path) -> str | None:
    """What is wrong with a stored folder, or ``None``.

    Returns:
        For example ``"weights.safetensors does not fit its checksum"``.
    """
    try:
        sums = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        for name, known in sums.items():
            if _sum(folder / name) != known:
                return f"{name} does not fit its checksum"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, AttributeError, TypeError):
        return f"{SEAL} cannot be read"
    return None


def notice(line: str) -> None:
    """One line for the user on standard error, that something was mended and goes on.

    In a chapter that is executed it goes to the terminal from which this was started, not on the page.
    """
    if folder := os.environ.get(GUARD):
        with open(Path(folder) / NOTICES, "a", encoding="utf-8") as file:
            file.write(line.replace("\n", " ") + "\n")
    else:
        print(f"medrec: {line}", file=sys.stderr)


def _same(tmp: Path, folder: Path) -> bool:
    """Whether a place holds already, and undamaged, what was just written."""
    try:
        return (tmp / SEAL).read_bytes() == (folder / SEAL).read_bytes() and damage(folder) is None
    except OSError:
        return False


def _take_place(tmp: Path, folder: Path) -> None:
    """Give a folder its name; what stands there goes, and other processes may do the same at this moment."""
    for _ in range(20):
        try:
            os.replace(tmp, folder)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        if _same(tmp, folder):  # written by another since we looked, while this one was flushed: it may be read by now
            return
        old = folder.parent / f"{tmp.name}-old"
        with suppress(FileNotFoundError):  # another process was faster
            os.replace(folder, old)
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)
    raise OSError(errno.EBUSY, "other processes write to it all the time")


def _seal(folder: Path) -> None:
    """Write the checksums."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): _sum(path) for path in files}
    (folder / SEAL).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")


def _flush_all(folder: Path) -> None:
    """See to it that everything has reached the disk before the folder gets its name."""
    for path in (*folder.rglob("*"), folder):
        _flush(path)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    if os.name != "posix":  # a folder cannot be opened there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
