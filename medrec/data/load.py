"""The one door to cohorts: by name, with options, cached by the content of everything that went into them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import polars as pl

from medrec import keys
from medrec.arguments import checked_word, shown
from medrec.data import opened, proof
from medrec.data.cohort import Cohort, Kind, Source
from medrec.data.tables import MARKER, Layout
from medrec.folders import damage, notice
from medrec.paths import announce_opened, cache_dir, data_dir
from medrec.types import MedrecError

if TYPE_CHECKING:
    from medrec.data.build import Options
    from medrec.data.tables import RawTables

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


@dataclass(frozen=True)
class Place:
    """Where the raw tables behind a cohort lie.

    Args:
        layout: of the tables.
        source: of the records.
        folder: ``None`` for our own synthetic cohorts, whose tables are written to the cache when they are needed.
        control: what was planted; empty: nothing.
        drawn: what the patients of a named synthetic cohort were drawn with.
        doubt: why tables under the name of a demo count as credentialed; empty for all others.
    """

    layout: Layout
    source: Source
    folder: Path | None = None
    control: str = ""
    drawn: Knobs | None = None
    doubt: str = ""


@dataclass(frozen=True)
class KnownCohort:
    """A name that :func:`load_cohort` takes.

    Args:
        name: the name.
        source: ``synthetic``, ``demo`` or ``credentialed``.
        at_hand: whether it can be loaded now.
        where: the folder of its tables; or what to type to get it.
    """

    name: str
    source: Source
    at_hand: bool
    where: str


def load_cohort(name: str, **options: Any) -> Cohort:
    """Load a cohort by name; build it first where no build with the same content is cached.

    Args:
        name: ``synthetic``, ``synthetic-6350``, ``synthetic-60125``, ``synthetic+structure``, ``synthetic+shape``;
            ``mimic3-demo``, ``mimic4-demo``, ``eicu-demo``; ``mimic3``, ``mimic4``, ``eicu`` for credentialed tables;
            or a name given with :func:`name_synthetic`. Real tables lie in ``<data_dir>/<name>``; synthetic ones are
            written to the cache and go through the very same reader. Tables under the name of a demo that are not the
            demo's own (:mod:`medrec.data.proof`) are loaded as credentialed.
        options: the fields of :class:`medrec.data.build.Options`; for our own synthetic cohorts also those of
            :class:`Knobs`.

    Returns:
        The cohort. The cache key covers name and options; the tables' names, sizes and dates (of our own synthetic
        tables what they are made with); the code of the readers, of the pipeline and of the generator, without
        comments and layout; and the content of the knowledge tables that they read. A cached cohort that is damaged is
        built again, with one line that says so.

    Raises:
        MedrecError: an unknown name, option or value; tables missing or broken; nothing left after a step.

    Example:
        >>> cohort = load_cohort("mimic4-demo", window="first_day")  # doctest: +SKIP
        >>> cohort.n_patients  # doctest: +SKIP
    """
    place = _place(name)
    chosen, knobs = _parse(name, place, options)
    tables, needed = None, []
    if place.folder is not None:
        tables = _reader(place.layout)(_existing(name, place.folder))
        needed = [path for paths in tables.files.values() for path in paths]
    if chosen.mapping != "name" or chosen.coding == "ccs":
        # Maps that the user supplies take part in the result.
        needed += sorted((data_dir() / "knowledge").glob("*"))
    generator = ["medrec.data.synthetic"] if tables is None or place.control else []
    code = made_by("medrec.data.build", f"medrec.data.{place.layout}", *generator, planted=bool(place.control))
    key = keys.digest(name, asdict(chosen), asdict(knobs) if knobs else None, _fingerprint(needed), code, place.source)
    cached = cache_dir() / "cohorts" / f"{name}-{key}"
    if cached.exists():
        reason = damage(cached)
        if reason is None:
            return opened.vouch(Cohort.load(cached))
        notice(f"the stored cohort {name!r} is damaged ({reason}); it is built again")
    if tables is None:
        tables = _reader(place.layout)(_synthetic_tables(name, place, knobs or Knobs()))
    cohort, ids = _build(name, place, tables, chosen, knobs)
    cohort.save(cached, ids)
    return opened.vouch(Cohort.load(cached))


def check_cohort(name: str, *, tables: bool = True, **options: Any) -> None:
    """Refuse what :func:`load_cohort` would refuse before it reads a table.

    Args:
        name: as :func:`load_cohort` takes it.
        tables: they must be there.
        options: as :func:`load_cohort` takes them.

    Raises:
        MedrecError: an unknown name, option or value; no such tables.
    """
    place = _place(name)
    _parse(name, place, options)
    if tables and place.folder is not None:
        _existing(name, place.folder)


def given_cohort(cohort: Cohort | str) -> Cohort:
    """The cohort, or the one with this name.

    Raises:
        MedrecError: it is neither.
    """
    return cohort if isinstance(cohort, Cohort) else load_cohort(cohort)


def tables_folder(name: str, **options: Any) -> Path:
    """Folder of the raw tables behind a cohort; for synthetic cohorts they are written first where they are missing.

    Raises:
        MedrecError: an unknown name or option; real tables are missing.
    """
    place = _place(name)
    knobs = _parse(name, place, options)[1]
    if place.folder is None:
        return _synthetic_tables(name, place, knobs or Knobs())
    announce_opened(f"the tables of {name}", place.folder, place.source)
    return _existing(name, place.folder)


def source_of(name: str) -> Source:
    """What kind of records a name means: ``synthetic``, ``demo`` or ``credentialed``; they need not be there.

    Raises:
        MedrecError: no such name.
    """
    return _place(name).source


def known_cohorts() -> list[KnownCohort]:
    """Cohorts by name: our own, the open demos, the credentialed databases, and those that the user has named."""
    found = []
    for name in (*NAMES, *_named()):
        try:
            place = _place(name)
        except MedrecError as error:
            found.append(KnownCohort(name, "synthetic", False, str(error)))
            continue
        if place.folder is None:
            found.append(KnownCohort(name, place.source, True, "made when first asked for"))
        else:
            at_hand = place.folder.is_dir()
            where = f"{place.folder}; {place.doubt}".removesuffix("; ") if at_hand else _way_to(name)
            found.append(KnownCohort(name, place.source, at_hand, where))
    return found


def name_synthetic(
    name: str,
    n_patients: int = 600,
    *,
    seed: int = 0,
    layout: Layout = "mimic3",
    history: float = 1.0,
    structure: float = 0.0,
    text: float = 1.0,
) -> Path:
    """Write tables of invented patients to ``<data_dir>/<name>``, for ``load_cohort(name)``; they stay *synthetic*.

    Args:
        name: small letters, digits, ``-`` and ``_``; not one that :data:`NAMES` or a former name of ours has.
        n_patients: how many; about 5 % fewer are left in the cohort.
        seed, history, structure, text: see :func:`medrec.data.synthetic.synthesize`.
        layout: ``mimic3``, ``mimic4`` or ``eicu``.

    Returns:
        The folder. One that holds these very patients already is left as it is.

    Raises:
        MedrecError: the name is taken or cannot be one; the folder holds something else; a knob is out of its range.
    """
    from medrec.data.synthetic import synthesize

    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise MedrecError(f"{name!r} cannot name a cohort: take small letters, digits, - and _, a letter first.")
    if name in NAMES or name in FORMER or name in ("knowledge", *LAYOUTS):
        raise MedrecError(f"The name {name!r} is taken: it means something else in this project. Choose another one.")
    folder = data_dir() / name
    records = synthesize(n_patients, seed, history=history, structure=structure, text=text)
    if folder.exists():
        if not (folder / MARKER).is_file():
            raise MedrecError(f"{folder} is there already, and not written by us. Choose another name.")
        if proof.drawn(folder) == {"layout": layout} | records.options:
            return folder
        raise MedrecError(f"{folder} holds other invented patients. Choose another name, or delete the folder first.")
    records.write(folder, layout)
    proof.remember_drawn(folder)
    return folder


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


def _named() -> list[str]:
    """Names that the user has given to synthetic cohorts."""
    known = {path.parent.name for path in data_dir().glob(f"*/{MARKER}")}
    return sorted(known - set(NAMES))


def _place(name: str) -> Place:
    """Layout, source and folder of the raw tables behind a name; real ones need not be there.

    Raises:
        MedrecError: no such name, or a named cohort that is not as it was written.
    """
    checked_word("A cohort", name, "mimic4-demo")
    size, plus, control = name.partition("+")
    if size in FORMER:
        today = FORMER[size] + plus + control
        raise MedrecError(f"Cohort {name!r} is called {today!r} now. Ask for {today!r}.")
    if size in LAYOUTS and (not plus or control in CONTROLS):
        return Place(LAYOUTS[size], "synthetic", control=control)
    folder = data_dir() / name
    if name in NAMES:
        layout = name.removesuffix("-demo")
        doubt = "" if name in DATABASES else proof.demo_doubt(name, folder) or ""
        source: Source = "credentialed" if name in DATABASES or doubt else "demo"
        return Place(layout, source, folder, doubt=doubt)  # type: ignore[arg-type]
    named = _named()
    if name in named:
        drawn = proof.drawn(folder)
        knobs = Knobs(**{f.name: drawn[f.name] for f in fields(Knobs)})
        return Place(drawn["layout"], "synthetic", folder, drawn["control"] or "", knobs)
    known = (*NAMES, *named)
    raise MedrecError(f"There is no cohort {name!r}.{_hint(name, known)} Known cohorts: {', '.join(known)}.")


def _existing(name: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise MedrecError(
            f"There are no tables of {name!r}: {folder} does not exist. Get them with `{_way_to(name)}`, or set "
            f"MEDREC_DATA_DIR to the folder that holds {name}/."
        )
    return folder


def _way_to(name: str) -> str:
    return f"medrec data fetch {name}" if name.endswith("-demo") else f"medrec data import {name} PATH"


def _hint(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def _parse(name: str, place: Place, options: dict[str, Any]) -> tuple[Options, Knobs | None]:
    """Split the options between pipeline and generator, and check names and values."""
    from medrec.data.build import Options

    ours = place.folder is None
    known = {f.name: Options for f in fields(Options)} | ({f.name: Knobs for f in fields(Knobs)} if ours else {})
    chosen: dict[type, dict[str, Any]] = {Options: {}, Knobs: {}}
    for option, value in options.items():
        if option not in known:
            where = "" if ours or option not in {f.name for f in fields(Knobs)} else ": its patients are what they are"
            raise MedrecError(
                f"Cohort {name!r} has no option {option!r}{where}.{_hint(option, known)} Options: {', '.join(known)}."
            )
        chosen[known[option]][option] = _checked(option, value, get_type_hints(known[option])[option])
    return Options(**chosen[Options]), Knobs(**chosen[Knobs]) if ours else place.drawn


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
        value = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else (value,)
        wrong = [kind for kind in value if kind not in kinds]
        if wrong or "medication" not in value:
            raise MedrecError(
                f"Option require={shown(list(value))}: list kinds out of {', '.join(kinds)}, medication among them."
            )
        return value
    if hint is int or hint is float:
        least = 1 if option in {"min_visits", "top_diagnoses"} else 0
        number = isinstance(value, int) or (isinstance(value, float) and (hint is float or value.is_integer()))
        # Every comparison with nan is false.
        if not number or isinstance(value, bool) or not least <= value <= (1 if hint is float else 10**9):
            allowed = "a number from 0 to 1" if hint is float else f"a whole number from {least} upward"
            raise MedrecError(f"Option {option}={shown(value)} must be {allowed}.")
        return hint(value)
    if not isinstance(value, str) or value not in parts:
        raise MedrecError(
            f"Option {option}={shown(value)} is not one of {', '.join(map(repr, parts))}.{_hint(str(value), parts)}"
        )
    return value


def _reader(layout: Layout) -> Any:
    from medrec.data import eicu, mimic3, mimic4

    return {"mimic3": mimic3.read, "mimic4": mimic4.read, "eicu": eicu.read}[layout]


def _synthetic_tables(name: str, place: Place, knobs: Knobs) -> Path:
    """Folder of our own synthetic tables; what is missing or damaged is written."""
    code = made_by("medrec.data.synthetic", planted=bool(place.control))
    folder = cache_dir() / "tables" / f"{name}-{keys.digest(place.layout, asdict(knobs), code)}"
    reason = damage(folder)
    if reason is not None:
        if folder.exists():
            notice(f"the stored tables of {name!r} are damaged ({reason}); they are written again")
        from medrec.data.synthetic import SIZES, synthesize

        size = SIZES[name.partition("+")[0]]
        synthesize(size, control=place.control or None, **asdict(knobs)).write(folder, place.layout)  # type: ignore[arg-type]
    return folder


def _build(
    name: str, place: Place, tables: RawTables, options: Options, knobs: Knobs | None
) -> tuple[Cohort, pl.DataFrame]:
    # Imported here: reading a cohort from the cache needs none of it.
    from medrec.data.build import cohort_and_ids
    from medrec.data.synthetic.world import world

    extra = asdict(knobs) if knobs else None
    cohort, ids = cohort_and_ids(tables, options, name=name, source=place.source, extra=extra)
    return (replace(cohort, planted=dict(world(place.control).planted)) if place.control else cohort), ids


def _fingerprint(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Name, size and date of each file: enough to notice a change without reading gigabytes."""
    return sorted({(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files})


def made_by(*modules: str, planted: bool) -> dict[str, str]:
    """Code that decides what a cohort is, and the knowledge that it reads.

    Args:
        modules: where to start, e.g. ``medrec.data.build``; all that they import in the rooms ``data`` and
            ``knowledge`` takes part.  What fetches, splits, batches or guards records makes none, and no maker
            imports it.
        planted: follow ``chem`` as well, which the generator asks where it plants something.

    Returns:
        Hash of each module's code, and under ``tables`` that of the knowledge tables that their sources name.
    """
    rooms = keys.in_rooms("data", "knowledge", "types", *(["chem"] if planted else []))
    # The package itself brings in this module, and with it every reader.
    found = keys.closure(modules, lambda module: rooms(module) and module != "medrec.data")
    folder = keys.source_of("medrec.knowledge").parent / "tables"
    text = "".join(keys.source_of(module).read_text(encoding="utf-8") for module in found)
    named = [path for path in folder.glob("*.csv") if path.name in text]
    return keys.codes(found) | {"tables": keys.files_digest(named, folder)}
