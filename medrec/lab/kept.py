"""Kept results: one store for all studies, in which no table stands without its provenance.

``results/<study>/<cohort>/`` holds one CSV a table and ``provenance.json``: what made them, of which records, with
which code, when.  Studies of molecules, or of several cohorts at once, have no folder of a cohort.  Rows of
credentialed records lie in the run store, ``kept/<study>/<cohort>/``, never in the checkout.

A study writes with :func:`save`; whoever shows rows takes them from :func:`read`.  :attr:`Kept.status` says whether
the code that is here today would make the same rows, and :attr:`Kept.note` says it in a caption.  A kept table is
never edited by hand: one that is not as it was written is an error.
"""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import polars as pl
import polars.selectors as cs

from medrec import keys, paths
from medrec.data import privacy
from medrec.data.cohort import Cohort, titled
from medrec.folders import atomic_folder
from medrec.types import MedrecError

PROVENANCE = "provenance.json"
CURRENT = "current"
OLDER = "made by older code"
OTHER = "made from other records of this name"
NEEDED = {"study", "command", "key", "made", "cohort", "systems", "code", "own", "behaviour", "tables"}
"""Of provenance, whatever else it holds."""
TYPES = {"String", "Boolean", "Int64", "Float64"}
"""Of columns."""
TRIED = ("models", "nn", "chem", "text", "graphs", "losses", "fit", "training", "context", "data")
"""Rooms whose work shows in :mod:`medrec.lab.behaviour`: where a change there moved nothing, rows are still current.
Of metrics, tasks and studies it says too little: after a change there rows are old."""


class NotKeptError(MedrecError):
    """No rows are kept; the message says what makes them."""


@dataclass(frozen=True)
class Kept:
    """The kept tables of one study.

    Args:
        study: e.g. ``"causal_leak"``, or ``"grids/retain"``.
        folder: where they lie.
        provenance: contents of ``provenance.json``.
        records: content of the cohort that was asked for, where the rows are of the cohort of this name; empty
            where only a name was asked for.
    """

    study: str
    folder: Path
    provenance: Mapping[str, Any]
    records: str = ""

    @property
    def cohort(self) -> str | None:
        """Name of the cohort whose rows these are; ``None`` for a study without one."""
        cohort = self.provenance["cohort"]
        return None if cohort is None else str(cohort["name"])

    @property
    def source(self) -> str | None:
        """``"synthetic"``, ``"demo"`` or ``"credentialed"``."""
        cohort = self.provenance["cohort"]
        return None if cohort is None else str(cohort["source"])

    @property
    def name(self) -> str:
        """Study and cohort, as ``medrec kept`` lists them."""
        return self.study if self.cohort is None else f"{self.study}/{self.cohort}"

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables."""
        return tuple(self.provenance["tables"])

    def table(self, name: str) -> pl.DataFrame:
        """One table, with the types of columns that it was written with.

        Raises:
            MedrecError: there is no such table, or it is not as it was written.
        """
        if name not in self.tables:
            raise MedrecError(f"{self.name} keeps no table {name!r}; it keeps {', '.join(self.tables)}.")
        kept, file = self.provenance["tables"][name], self.folder / f"{name}.csv"
        try:
            lines = _lines(paths.record_read(file).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            raise self._damaged(file, "it cannot be read") from None
        if keys.digest(lines) != kept["content"]:
            raise self._damaged(file, "it is not as it was written")
        return _parsed(lines, kept["columns"])

    def _damaged(self, file: Path, reason: str) -> MedrecError:
        return MedrecError(
            f"{file}: {reason}, and kept tables are not edited by hand. `git restore {shlex.quote(str(file.parent))}` "
            f"brings it back; `{self.provenance['command']}` makes it again."
        )

    @cached_property
    def status(self) -> str:
        """``"current"``; ``"made by older code: models.retain, ..."``; or that the cohort has other content by now.

        Rows are current when the code that made them is what it was, or when only code of trainings changed, in
        :data:`TRIED` rooms, and every system that was trained for them still behaves as it did.
        """
        if self.provenance["key"] is None:
            return OLDER
        cohort = self.provenance["cohort"]
        if self.records and self.records != cohort["content"]:
            return OTHER
        changed = keys.changed_modules(self.provenance["code"])
        if changed and self._behaves():
            tried = keys.in_rooms(*TRIED)
            changed = [module for module in changed if module in self.provenance["own"] or not tried(module)]
        return f"{OLDER}: {', '.join(m.removeprefix('medrec.') for m in changed)}" if changed else CURRENT

    def _behaves(self) -> bool:
        """Whether all systems do on the toy cohort what they did when the rows were made."""
        from medrec.lab import behaviour

        then, systems = self.provenance["behaviour"], self.provenance["systems"]
        paths.record_read(behaviour.lock_file())
        return bool(systems) and set(then) == set(systems) and behaviour.digests(systems) == then

    @property
    def note(self) -> str:
        """A sentence for captions, such as ``"Made by older code."``; empty for rows that are current."""
        words = self.status.partition(":")[0]
        return "" if words == CURRENT else f"{words.capitalize()}."


def save(
    study: str,
    tables: Mapping[str, pl.DataFrame],
    *,
    cohort: Cohort | None,
    command: str,
    code: Mapping[str, str],
    systems: Iterable[str] = (),
    seconds: float,
    device: str = "cpu",
    more: Mapping[str, Any] | None = None,
) -> Path:
    """Write the tables of a study; its folder is whole or as it was.

    Args:
        study: a name for folders, e.g. ``"grids/retain"``.
        tables: columns of text, truth values, whole and decimal numbers.
        cohort: whose rows; ``None`` where there are no patients, or those of several cohorts.
        command: what a reader types to make them again.
        code: of the modules that make the numbers, see :func:`code_of`.
        systems: ``system/variant`` of every training behind them.
        seconds: wall time of making them.
        device: of the trainings, as PyTorch calls it.
        more: what else decides or describes the rows, such as seeds; it becomes part of the key.

    Returns:
        The folder.

    Raises:
        MedrecError: a table of credentialed records describes single patients; or nothing can be written.
    """
    from medrec import runs
    from medrec.lab import behaviour

    systems, code, more = sorted(set(systems)), dict(code), dict(more or {})
    if cohort is None:
        place, about = _place(study), None
    else:
        place = _place(study, cohort.name, cohort.source)
        about = {"name": cohort.name, "source": cohort.source, "content": cohort.content, "options": cohort.options}
        for table in tables.values():
            privacy.require_aggregate(cohort, table)
    tables = {
        name: table.with_columns(cs.integer().cast(pl.Int64), cs.float().cast(pl.Float64))
        for name, table in tables.items()
    }
    texts = {name: table.write_csv() for name, table in tables.items()}
    provenance = {
        "study": study,
        "command": command,
        "key": keys.digest(study, code, systems, about and about["content"], more),
        "made": datetime.now(UTC).date().isoformat(),
        "cohort": about,
        "systems": systems,
        "code": code,
        "own": sorted(code.keys() - _trained(systems)),
        "behaviour": behaviour.digests(systems),
        **runs.environment(device, seconds),
        "tables": {name: described(table, texts[name]) for name, table in tables.items()},
    }
    if clash := sorted(provenance.keys() & more.keys()):
        raise ValueError(f"{clash[0]!r} is written by the store itself.")
    with atomic_folder(place, what=f"the rows of {study}", sealed=False) as tmp:
        for name, text in texts.items():
            (tmp / f"{name}.csv").write_bytes(text.encode())
        runs.write_json(tmp / PROVENANCE, provenance | more)
    return place


def described(table: pl.DataFrame, text: str) -> dict[str, Any]:
    """What provenance says of a table: a hash of its lines, and the types of its columns.

    Raises:
        ValueError: the text does not give the table back, because of types or line breaks that CSV cannot hold.
    """
    lines, columns = _lines(text), {name: str(dtype) for name, dtype in table.schema.items()}
    if not set(columns.values()) <= TYPES or not _parsed(lines, columns).equals(table):
        raise ValueError(
            f"A table of {columns} cannot be kept: columns are {', '.join(sorted(TYPES))}, cells one line."
        )
    return {"content": keys.digest(lines), "columns": columns}


def _lines(text: str) -> list[str]:
    """Lines that say something: a table is the same with other line ends, or a blank line at its end."""
    return [line for line in text.replace("\r\n", "\n").split("\n") if line]


def _parsed(lines: list[str], columns: Mapping[str, str]) -> pl.DataFrame:
    schema = {name: getattr(pl, kind) for name, kind in columns.items()}
    return pl.read_csv(io.StringIO("\n".join(lines) + "\n"), schema=schema)


def code_of(module: str, *rooms: str, systems: Iterable[str] = ()) -> dict[str, str]:
    """Code that makes a study's numbers, for :func:`save`.

    Args:
        module: of the study.
        rooms: of the package; what the module imports of them counts too.  What other rooms make enters by content.
        systems: ``system/variant`` of trainings, which bring the code of their own.
    """
    own = {*keys.closure([module], keys.in_rooms(*rooms))} - {"medrec.models.registry"}  # names, no numbers
    return keys.codes(own | _trained(systems))


def _trained(systems: Iterable[str]) -> set[str]:
    """Modules whose code makes the numbers of these ``system/variant``."""
    from medrec.models import registry
    from medrec.training import code_of as code_of_training

    names = {name.rpartition("/")[0] for name in systems}
    return {module for name in names for module in code_of_training(registry.get(name))}


def read(
    study: str,
    cohort: Cohort | str | None = None,
    source: str = "synthetic",
    default: str | None = None,
    *,
    command: str = "",
) -> Kept:
    """Rows of a study: those of this cohort where there are any, otherwise those of ``default``.

    Args:
        study: as :func:`save` was told.
        cohort: whose rows; a name is enough, but only of a cohort can be told whether it has changed since.
        source: of the cohort, where only a name is given.
        default: synthetic cohort whose rows come with the book; :attr:`Kept.cohort` tells whose rows came.
        command: what makes the rows, for the message.

    Raises:
        NotKeptError: there are neither.
        MedrecError: what is kept cannot be read.
    """
    name, content = (cohort.name, cohort.content) if isinstance(cohort, Cohort) else (cohort, "")
    source = cohort.source if isinstance(cohort, Cohort) else source
    found = [(_place(study, name, source), content)]
    if default is not None and default != name:
        found.append((_place(study, default, "synthetic"), ""))
    for folder, records in found:
        file = paths.record_read(folder / PROVENANCE)
        if file.exists():
            return Kept(study, folder, _provenance(file), records)
    whose = "" if name is None else f" for cohort {name!r}" + (f" or {default!r}" if len(found) > 1 else "")
    remedy = f" Make them with `{command}`." if command else " `medrec kept` lists what there is."
    raise NotKeptError(f"No rows of {study} are kept{whose}.{remedy}")


class Looked(NamedTuple):
    """Rows of a study, or ``None``; a sentence that says whose they are, or that there are none; what makes them."""

    rows: Kept | None
    line: str
    command: str


def look(study: ModuleType, cohort: Cohort) -> Looked:
    """Rows of a study, for a page that has something to say where none are kept.

    Args:
        study: a module of :mod:`medrec.experiments` with ``STUDY``, ``COMMAND`` and ``read``.
        cohort: whose rows, or those that come with the book.

    Raises:
        MedrecError: what is kept cannot be read.
    """
    makes = f"{study.COMMAND} --cohort {cohort.name}"
    try:
        found = study.read(cohort)
    except NotKeptError:
        return Looked(None, f"No rows of {study.STUDY} are kept.", makes)
    whose = titled(found.cohort, found.source)
    return Looked(found, " ".join(filter(None, [f"Rows of {whose}.", found.note])), makes)


def all_kept() -> Iterator[Kept]:
    """Everything that is kept, in the checkout and in the run store, in the order of names."""
    for root in (paths.results_dir(), _closed()):
        for file in sorted(root.rglob(PROVENANCE)):
            parts = file.parent.relative_to(root).parts
            if not any(part.startswith(".") for part in parts):
                provenance = _provenance(file)
                yield Kept(str(provenance["study"]), file.parent, provenance)


def _closed() -> Path:
    """Root of rows of credentialed records."""
    return paths.runs_dir() / "kept"


def _place(study: str, cohort: str | None = None, source: str = "synthetic") -> Path:
    root = _closed() if source == "credentialed" else paths.results_dir()
    return root / study / cohort if cohort else root / study


def _provenance(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        complete = found.keys() >= NEEDED
    except (OSError, ValueError, AttributeError):
        complete = False
    if not complete:
        raise MedrecError(
            f"{file} is damaged. `git restore {shlex.quote(str(file.parent))}` brings it back, where it belongs to the "
            "checkout; otherwise delete the folder and make its rows again."
        )
    return found  # type: ignore[no-any-return]
