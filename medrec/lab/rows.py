"""What a grid consists of: rows by name, or from a file of the user's.

A grid is a tuple of rows (:class:`medrec.models.base.Row`), each a system with a variant and settings.  The first row
is the reference: the others are compared with it, paired by patient.  Three things are grids:

- a **system**, with the switches that its module declares (``SYSTEM.rows``), one turned at a time; a system that
  declares none is a grid of one row;
- a **paper's grid**, which stands with the experiments of that paper, see :data:`PAPERS`;
- a **YAML file** of the user's:

.. code-block:: yaml

    cohort: mimic3                    # may be left out
    rows:                             # the first one is the reference
      - {key: lr, system: lr}
      - key: narrow                   # unique in the grid
        label: RETAIN, narrow         # as tables print it; default: the key
        system: retain                # or package.module:SYSTEM
        variant: official             # default: paper
        settings: {size: 16}          # that differ from the variant's
        knob: size                    # for sweeps: what is turned,
        value: 16                     # and what it is set to

:mod:`medrec.lab.sweep` trains the rows of a grid, :mod:`medrec.lab.grids` makes their scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from medrec.arguments import NUMBERS, checked_mapping, checked_word, near, number, one_line, shown
from medrec.models import registry
from medrec.models.base import Row, System
from medrec.types import MedrecError

PAPERS = tuple(f"medrec.experiments.{paper}_grids" for paper in ("bimorec", "nla_mmr", "diffkg"))
"""Modules of papers' grids, imported when asked for; each has ``GRIDS``, rows by name, and by grid ``CONTRASTS``
and ``FORMER``, the labels of before."""
EVERYTHING = "everything"
"""Word for all grids whose rows mean something on any records."""
FILE_KEYS = ("cohort", "rows")
ROW_KEYS = tuple(field.name for field in fields(Row))
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Contrast:
    """One more row of a grid's scores, which is a change and has no value of its own: a sum of rows with signs.

    The interaction of two switches is the one with both, minus those with one, plus the one with none.

    Args:
        key: of the row.
        label: as tables print it.
        signs: factor of each row, by key.
    """

    key: str
    label: str
    signs: Mapping[str, float]


@dataclass(frozen=True)
class Declared:
    """A grid as it is declared.

    Args:
        name: of the grid; of a file, its name without ending.
        rows: the first one is the reference.
        cohort: that a file asks for; ``None``: no grid of the house asks for one.
        house: whether it comes with the project.
        contrasts: rows that are made of others.
        former: labels of before and of today, where kept rows have the same trainings under other labels.
    """

    name: str
    rows: tuple[Row, ...]
    cohort: str | None = None
    house: bool = True
    contrasts: tuple[Contrast, ...] = ()
    former: Mapping[str, str] = field(default_factory=dict)

    def row(self, key: str) -> Row:
        """The row with this key.

        Raises:
            MedrecError: there is none.
        """
        found = {row.key: row for row in self.rows}
        if key not in found:
            raise MedrecError(
                f"Grid {self.name!r} has no row {key!r}.{near(key, found)} Its rows are {', '.join(found)}."
            )
        return found[key]


def grid_names() -> tuple[str, ...]:
    """Names of all grids of the project: those of papers, then the systems."""
    return tuple(name for module in PAPERS for name in _of_paper(module)) + registry.NAMES


def named(grids: Sequence[str | Path]) -> tuple[str | Path, ...]:
    """Grids with :data:`EVERYTHING` spelled out: those of systems, then those of papers.

    Left out are grids of one row, which stand in the tables of papers, and those of worlds that were made for them.
    """
    worlds = {name for module in PAPERS for name in getattr(import_module(module), "WORLDS", ())}
    everything = [name for name in (*registry.NAMES, *grid_names()) if name not in worlds and len(rows_of(name)) > 1]
    found = [one for grid in grids for one in (everything if grid == EVERYTHING else [grid])]
    return tuple(dict.fromkeys(found))


def declared(grid: str | Path) -> Declared:
    """A grid by name, or from a YAML file.

    Args:
        grid: a name of :func:`grid_names`, ``package.module:SYSTEM``, or the path of a YAML file.

    Raises:
        MedrecError: there is no such grid; a file cannot be read, or holds an unknown key, system, variant or setting.
    """
    if isinstance(grid, Path) or Path(checked_word("A grid", grid, "retain")).suffix in SUFFIXES:
        return _read(Path(grid))
    if ":" in grid or grid in registry.NAMES:
        return Declared(grid, _of_system(grid), house=":" not in grid)
    for module in PAPERS:
        if grid in _of_paper(module):
            more = {name.lower(): getattr(import_module(module), name, {}) for name in ("CONTRASTS", "FORMER")}
            return Declared(grid, _of_paper(module)[grid], **{k: by[grid] for k, by in more.items() if grid in by})
    raise MedrecError(
        f"There is no grid {grid!r}.{near(grid, grid_names())} Grids: {', '.join(grid_names())}; "
        "one of your own is a file that ends in .yaml."
    )


def rows_of(grid: str | Path) -> tuple[Row, ...]:
    """The rows of :func:`declared`, the reference first."""
    return declared(grid).rows


def with_shared(rows: Sequence[Row], shared: Mapping[str, Any]) -> tuple[Row, ...]:
    """Rows with settings that they have in common; what a row sets itself, by settings or variant, wins.

    Args:
        rows: of one grid or several.
        shared: ``{"epochs": 2}`` is for every system that has such a setting, ``{"retain.epochs": 2}`` for one system.

    Raises:
        MedrecError: no system among the rows has such a setting, or the value is of the wrong kind.
    """
    systems = {row.system: registry.get(row.system) for row in rows}
    chosen = settings_by_system(systems, checked_mapping("settings", shared))
    found = []
    for row in rows:
        own = {**systems[row.system].variants[row.variant], **row.settings}
        common = {name: value for name, value in chosen[row.system].items() if name not in own}
        found.append(replace(row, settings={**common, **row.settings}))
        systems[row.system].configure(row.variant, found[-1].settings)
    return tuple(found)


def with_searched(rows: Sequence[Row], searched: Mapping[str, Mapping[str, Any]]) -> tuple[Row, ...]:
    """Rows with what a search found for their systems; what a row sets itself, by settings or variant, wins.

    Args:
        rows: of one grid or several.
        searched: settings by system; of systems that are none of these rows' they are of no matter.
    """
    here = {row.system for row in rows}
    return with_shared(rows, {f"{s}.{name}": v for s in searched if s in here for name, v in searched[s].items()})


def settings_by_system(systems: Mapping[str, System], shared: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each of these systems those of the shared settings that concern it.

    Args:
        systems: by whatever the caller calls them.
        shared: as in :func:`with_shared`.

    Raises:
        MedrecError: a setting concerns none of them.
    """
    known = {called: {field.name for field in fields(system.config)} for called, system in systems.items()}
    chosen: dict[str, dict[str, Any]] = {called: {} for called in systems}
    # What is meant for one system comes last, and wins over what is meant for all.
    for name, value in sorted(shared.items(), key=lambda item: "." in item[0]):
        of, _, setting = name.rpartition(".")
        among = [called for called, system in systems.items() if of in ("", called, system.name)]
        if not among:
            names = list(dict.fromkeys(system.name for system in systems.values()))
            raise MedrecError(
                f"Setting {name!r}: there is no {of!r} here.{near(of, names)} There are {_listed(names)}."
            )
        having = [called for called in among if setting in known[called]]
        if not having:
            settings = sorted(set().union(*(known[called] for called in among)))
            raise MedrecError(
                f"Setting {name!r}: no system here has it.{near(setting, settings)} "
                f"They have {_listed(settings) if settings else 'none'}."
            )
        for called in having:
            chosen[called][setting] = value
    return chosen


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words)


def _of_system(name: str) -> tuple[Row, ...]:
    system = registry.get(name)
    if not system.rows:
        return (Row(system.name, system.label, name),)
    # A system from elsewhere may call itself by its own name, by which only its module finds it.
    return tuple(replace(row, system=name) if row.system == system.name else row for row in system.rows)


def _of_paper(module: str) -> dict[str, tuple[Row, ...]]:
    grids: dict[str, tuple[Row, ...]] = import_module(module).GRIDS
    return grids


# -- files of the user's -----------------------------------------------------------------------------------------------


def _read(path: Path) -> Declared:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MedrecError(f"There is no file {path}. Give a YAML file with rows, or one of the grids.") from None
    except OSError as error:
        raise MedrecError(f"{path} cannot be read: {error.strerror}. Give a YAML file with rows.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # dates that do not exist, an alias within itself
        raise MedrecError(f"{path} is not YAML that can be read: {one_line(error)}. Mend it.") from None
    content = _checked(f"{path}", content, FILE_KEYS, required=("rows",))
    cohort, rows = content.get("cohort"), content["rows"]
    if not isinstance(cohort, str | None):
        raise MedrecError(f"{path}: cohort is {shown(cohort)}; it must be a name, e.g. mimic3.")
    if not isinstance(rows, list) or not rows:
        raise MedrecError(f"{path}: rows must be a list with one entry or more, each with a key and a system.")
    found = tuple(_row(f"{path}, row {number}", entry) for number, entry in enumerate(rows, 1))
    for what in ("key", "label"):
        names = [getattr(row, what) for row in found]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise MedrecError(f"{path}: two rows have the {what} {twice!r}. Give each its own.")
    return Declared(path.stem, found, cohort, house=False)


def _row(where: str, content: Any) -> Row:
    content = _checked(where, content, ROW_KEYS, required=("key", "system"))
    for name in ("key", "label", "system", "variant", "knob"):
        if not isinstance(content.get(name, ""), str):
            raise MedrecError(f"{where}: {name} is {shown(content[name])}; it must be a word. Put it in quotes.")
    settings, value = content.get("settings") or {}, content.get("value")
    if not isinstance(settings, dict):
        raise MedrecError(
            f"{where}: settings is {shown(settings)}; it must hold keys and values, e.g. {{dropout: 0.3}}."
        )
    if value is not None:
        number(f"{where}: value", value, NUMBERS[float], whole=False)
    row = Row(**{"label": content["key"], **content, "settings": settings})
    try:
        registry.get(row.system).configure(row.variant, row.settings)
    except MedrecError as error:
        raise MedrecError(f"{where}: {error}") from None
    return row


def _checked(where: str, content: Any, known: Sequence[str], required: Sequence[str]) -> dict[str, Any]:
    """The content, if it is a mapping with known keys only."""
    if not isinstance(content, dict):
        raise MedrecError(f"{where} must hold keys and values: {', '.join(known)}.")
    for key in content:
        if key not in known:
            raise MedrecError(
                f"{where}: unknown key {shown(key)}.{near(str(key), known)} It may hold {', '.join(known)}."
            )
    for key in required:
        if key not in content:
            raise MedrecError(f"{where}: the key {key!r} is missing. It may hold {', '.join(known)}.")
    return content
