"""The one door to cohorts: by name, with options, cached by the content of everything that went into them."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from medrec.data.cohort import Cohort, Kind, Source
from medrec.paths import PACKAGE, cache_dir, data_dir
from medrec.types import MedrecError

if TYPE_CHECKING:
    from medrec.data.build import Options
    from medrec.data.tables import Layout, RawTables

LAYOUTS: dict[str, Layout] = {"synthetic": "mimic3", "synthetic-6350": "mimic3", "synthetic-60125": "mimic4"}
"""Synthetic cohorts, and the layout in which their raw tables are written: 6 350 and 60 125 patients are in the cohorts
that the papers make of MIMIC-III and MIMIC-IV; ``synthetic`` has 600."""

CONTROLS = ("structure", "shape")
FORMER = {"quick": "synthetic", "paper": "synthetic-6350", "iv": "synthetic-60125"}
"""Names that cohorts once had; they are refused with the name of today."""
DATABASES: tuple[Layout, ...] = ("mimic3", "mimic4", "eicu")

NAMES = (
    *LAYOUTS,
    *(f"synthetic+{control}" for control in CONTROLS),
    *(f"{database}-demo" for database in DATABASES),
    *DATABASES,
)
"""Every name that :func:`load_cohort` knows. ``synthetic-6350+structure`` and the like work as well."""


@dataclass(frozen=True)
class Knobs:
    """What a user may choose for a synthetic cohort; see :func:`medrec.data.synthetic.synthesize`."""

    seed: int = 0
    history: float = 1.0
    structure: float = 0.0
    text: float = 1.0


def load_cohort(name: str, **options: Any) -> Cohort:
    """Load a cohort by name; build it first where no build with the same content is cached.

    Args:
        name: ``synthetic``, ``synthetic-6350``, ``synthetic-60125``, ``synthetic+structure``, ``synthetic+shape``;
            ``mimic3-demo``, ``mimic4-demo``, ``eicu-demo``; ``mimic3``, ``mimic4``, ``eicu`` for credentialed tables.
            Real tables lie in ``<data_dir>/<name>``; synthetic ones are written to the cache and go through the very
            same reader.
        options: the fields of :class:`medrec.data.build.Options`; for synthetic cohorts also those of :class:`Knobs`.

    Returns:
        The cohort. The cache key covers name, options, the tables' names, sizes and dates, and the source of the
        ``data`` and ``knowledge`` rooms.

    Raises:
        MedrecError: an unknown name, option or value; tables missing or broken; nothing left after a step.

    Example:
        >>> cohort = load_cohort("mimic4-demo", window="first_day")  # doctest: +SKIP
        >>> cohort.n_patients  # doctest: +SKIP
    """
    name = _canonical(name)
    chosen, knobs = _parse(name, options)
    folder, layout, source = _place(name, knobs)
    tables = _reader(layout)(folder)
    needed = [path for paths in tables.files.values() for path in paths]
    if chosen.mapping != "name" or chosen.coding == "ccs":
        # Maps that the user supplies take part in the result.
        needed += sorted((data_dir() / "knowledge").glob("*"))
    key = _digest(name, asdict(chosen), asdict(knobs) if knobs else None, _fingerprint(needed), _code_version())
    cached = cache_dir() / "cohorts" / f"{name}-{key}"
    if not cached.is_dir():
        _build(name, tables, chosen, source, knobs).save(cached)
    return Cohort.load(cached)


def tables_folder(name: str, **options: Any) -> Path:
    """Folder of the raw tables behind a cohort; for synthetic cohorts they are written first where they are missing.

    Raises:
        MedrecError: an unknown name or option; real tables are missing.
    """
    name = _canonical(name)
    return _place(name, _parse(name, options)[1])[0]


def import_tables(name: str, folder: Path) -> Path:
    """Make a folder of raw tables known as ``<data_dir>/<name>``, after a look at its layout.

    The tables stay where they are; a link is set. Nothing is read but file names and headers.

    Args:
        name: ``mimic3``, ``mimic4`` or ``eicu``.
        folder: where the tables lie.

    Returns:
        The link.

    Raises:
        MedrecError: not a database's name, tables or columns are missing, or the place is taken.
    """
    if name not in DATABASES:
        raise MedrecError(f"Tables can be imported as {', '.join(DATABASES)}, not as {name!r}.{_hint(name, DATABASES)}")
    folder = Path(folder).expanduser().resolve()
    if not folder.is_dir():
        raise MedrecError(f"{folder} is not a folder. Give the folder that holds the tables of {name}.")
    _reader(name)(folder)
    link = data_dir() / name
    if link.exists() and link.resolve() == folder:
        return link
    if link.exists() or link.is_symlink():
        raise MedrecError(f"{link} is there already and is another folder. Move it away, then import again.")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder, target_is_directory=True)
    except OSError as error:
        raise MedrecError(
            f"Cannot link {link} to {folder}: {error.strerror}. Choose another MEDREC_DATA_DIR."
        ) from error
    return link


def _canonical(name: str) -> str:
    size, plus, control = name.partition("+")
    if size in FORMER:
        today = FORMER[size] + plus + control
        raise MedrecError(f"Cohort {name!r} is called {today!r} now. Ask for {today!r}.")
    if name in NAMES or (size in LAYOUTS and control in CONTROLS):
        return name
    raise MedrecError(f"There is no cohort {name!r}.{_hint(name, NAMES)} Known cohorts: {', '.join(NAMES)}.")


def _hint(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def _parse(name: str, options: dict[str, Any]) -> tuple[Options, Knobs | None]:
    """Split the options between pipeline and generator, and check names and values."""
    from medrec.data.build import Options

    synthetic = name.partition("+")[0] in LAYOUTS
    known = {f.name: Options for f in fields(Options)} | ({f.name: Knobs for f in fields(Knobs)} if synthetic else {})
    chosen: dict[type, dict[str, Any]] = {Options: {}, Knobs: {}}
    for option, value in options.items():
        if option not in known:
            where = "" if synthetic or option not in {f.name for f in fields(Knobs)} else " of a database"
            raise MedrecError(
                f"Cohort {name!r} has no option {option!r}{where}.{_hint(option, known)} Options: {', '.join(known)}."
            )
        chosen[known[option]][option] = _checked(option, value, get_type_hints(known[option])[option])
    return Options(**chosen[Options]), Knobs(**chosen[Knobs]) if synthetic else None


def _checked(option: str, value: Any, hint: Any) -> Any:
    """The value, if it fits the type of its field."""
    parts = get_args(hint)
    if NoneType in parts:
        if value is None:
            return None
        hint = next(part for part in parts if part is not NoneType)
        parts = get_args(hint)
    if option == "require":
        kinds = get_args(Kind)
        value = (value,) if isinstance(value, str) else tuple(value)
        wrong = [kind for kind in value if kind not in kinds]
        if wrong or "medication" not in value:
            raise MedrecError(
                f"Option require={list(value)!r}: list kinds out of {', '.join(kinds)}, medication among them."
            )
        return value
    if hint is int or hint is float:
        least = 1 if option in {"min_visits", "top_diagnoses"} else 0
        number = (
            isinstance(value, int | float) and not isinstance(value, bool) and (hint is float or value == int(value))
        )
        if not number or value < least or (hint is float and value > 1):
            allowed = "a number from 0 to 1" if hint is float else f"a whole number from {least} upward"
            raise MedrecError(f"Option {option}={value!r} must be {allowed}.")
        return hint(value)
    if value not in parts:
        raise MedrecError(
            f"Option {option}={value!r} is not one of {', '.join(map(repr, parts))}.{_hint(str(value), parts)}"
        )
    return value


def _place(name: str, knobs: Knobs | None) -> tuple[Path, Layout, Source]:
    """Folder, layout and source of a cohort's raw tables, written first where they are synthetic."""
    if knobs is not None:
        size, _, control = name.partition("+")
        return _synthetic_tables(size, control or None, knobs), LAYOUTS[size], "synthetic"
    folder = data_dir() / name
    layout: Layout = name.removesuffix("-demo")  # type: ignore[assignment]
    source: Source = "demo" if name.endswith("-demo") else "credentialed"
    if not folder.is_dir():
        remedy = (
            f"Fetch it with `medrec data fetch {name}`, or set MEDREC_DATA_DIR to the folder that holds {name}/."
            if source == "demo"
            else f"Credentialed tables come from PhysioNet: `medrec data import {name} PATH`, "
            f"or set MEDREC_DATA_DIR to the folder that holds {name}/."
        )
        raise MedrecError(f"There are no tables of {name!r}: {folder} does not exist. {remedy}")
    return folder, layout, source


def _reader(layout: Layout) -> Any:
    from medrec.data import eicu, mimic3, mimic4

    return {"mimic3": mimic3.read, "mimic4": mimic4.read, "eicu": eicu.read}[layout]


def _synthetic_tables(size: str, control: str | None, knobs: Knobs) -> Path:
    folder = cache_dir() / "tables" / f"{size}-{_digest(size, control, asdict(knobs), _code_version())}"
    if not folder.is_dir():
        from medrec.data.synthetic import SIZES, synthesize

        synthesize(SIZES[size], control=control, **asdict(knobs)).write(folder, LAYOUTS[size])
    return folder


def _build(name: str, tables: RawTables, options: Options, source: Source, knobs: Knobs | None) -> Cohort:
    # Imported here: reading a cohort from the cache needs none of it.
    from medrec.data.build import build_cohort
    from medrec.data.synthetic.world import world

    cohort = build_cohort(tables, options, name=name, source=source, extra=asdict(knobs) if knobs else None)
    control = name.partition("+")[2]
    return replace(cohort, planted=dict(world(control).planted)) if control else cohort


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _fingerprint(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Name, size and date of each file: enough to notice a change without reading gigabytes."""
    return sorted({(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files})


def _code_version() -> str:
    """Hash of the sources of the two rooms that decide what a cohort is."""
    digest = hashlib.sha256()
    for room in ("data", "knowledge"):
        for path in sorted((PACKAGE / room).rglob("*")):
            if path.suffix in {".py", ".csv"}:
                digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
