"""Many trainings: every row of a grid with every seed, as far as the run store lacks them.

Killed at any moment and started again, a sweep ends with the runs that it would have had undisturbed: what is in the
store is not trained again, and a training that was broken off goes on from its checkpoint.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from medrec import runs
from medrec.arguments import checked_count, checked_device, checked_file, checked_seed, shown
from medrec.data.cohort import Cohort
from medrec.data.load import check_cohort, load_cohort
from medrec.lab.rows import declared, named, with_searched, with_shared
from medrec.models import registry
from medrec.models.base import Row
from medrec.progress import bar, working
from medrec.training import Plan, train
from medrec.types import Interrupted, MedrecError

PATIENTS = 6350
"""Of the cohort for which systems declare the seconds of an epoch."""
USUAL = 0.5
"""Share of the epochs that are allowed after which a training usually ends."""
COHORT = "synthetic"
"""Where neither the caller nor a file names one."""

Grids = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Training:
    """One training of a sweep.

    Args:
        grid: that asks for it.
        row: of the grid, with settings that all rows share.
        cohort: its name, or the cohort itself.
        seed: of the training.
        split_seed: of the split; ``None`` for file order.
        ddi: file of another interaction list than the book's own.
    """

    grid: str
    row: Row
    cohort: str | Cohort
    seed: int = 0
    split_seed: int | None = 0
    ddi: Path | None = None

    def __str__(self) -> str:
        return f"{self.row.label} ({self.grid}/{self.row.key}) on {self.cohort_name}, seed {self.seed}"

    @property
    def cohort_name(self) -> str:
        """How the cohort is called."""
        return self.cohort if isinstance(self.cohort, str) else self.cohort.name

    @property
    def options(self) -> dict[str, Any]:
        """What :func:`medrec.training.train` is told beside system and cohort."""
        return {
            "variant": self.row.variant,
            "settings": self.row.settings,
            "seed": self.seed,
            "split_seed": self.split_seed,
            "ddi": self.ddi,
        }


@dataclass(frozen=True)
class Entry:
    """How it stands with a training.

    Args:
        training: which.
        key: content key of the run that it makes.
        folder: where the run lies, or will lie.
        done: whether it is in the store.
        seconds: that it took, or will take by an estimate; ``None``: nothing to estimate by.
        error: why it cannot be trained at all; empty where it can.
    """

    training: Training
    key: str = ""
    folder: Path = Path()
    done: bool = False
    seconds: float | None = None
    error: str = ""

    def listed(self) -> dict[str, Any]:
        """For ``medrec sweep --list``: all that ``medrec train`` needs to make the run."""
        training, row = self.training, self.training.row
        return {
            "key": self.key,
            "cohort": training.cohort_name,
            "system": row.system,
            "variant": row.variant,
            "settings": dict(row.settings),
            "seed": training.seed,
            "split_seed": training.split_seed,
            "ddi": None if training.ddi is None else str(training.ddi.resolve()),
            "folder": str(self.folder),
            "done": self.done,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
        }


@dataclass(frozen=True)
class Outcome:
    """What became of a training.

    Args:
        training: which.
        folder: of the run; ``None`` where there is none.
        made: whether it was trained now; False: it was in the store.
        error: why there is no run.
    """

    training: Training
    folder: Path | None = None
    made: bool = False
    error: str = ""


# -- what there is to do -----------------------------------------------------------------------------------------------


def trainings(
    grids: Grids,
    cohort: str | Cohort | None = None,
    *,
    seeds: int = 1,
    split_seed: int | None = 0,
    settings: Mapping[str, Any] | None = None,
    ddi: str | Path | None = None,
    searched: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Training]:
    """Every training that grids ask for: networks once for each seed, what is fitted in one go once.

    Args:
        grids: names or YAML files, see :func:`medrec.lab.rows.declared`.
        cohort: its name, or the cohort itself; ``None``: the one that a file asks for, otherwise ``synthetic``.
        seeds: training seeds 0, 1, ...
        split_seed: of the split; ``None`` for file order.
        settings: that all rows have in common, see :func:`medrec.lab.rows.with_shared`.
        ddi: file of another interaction list than the book's own.
        searched: settings by system, from :func:`searched`; those of ``settings`` win.

    Raises:
        MedrecError: an unknown grid, system, variant, setting or cohort; a number out of its range; no such file.
    """
    found = [declared(grid) for grid in _several(grids)]
    split_seed = None if split_seed is None else checked_seed(split_seed, "split_seed")
    ddi, seeds = checked_file("ddi", ddi), checked_count("seeds", seeds)
    for grid in found:
        if not isinstance(cohort, Cohort):
            check_cohort(grid.cohort or COHORT if cohort is None else cohort, tables=False)
    everything = with_shared([row for grid in found for row in grid.rows], settings or {})
    everything = with_searched(everything, searched or {})
    rows = iter(everything)
    return [
        Training(grid.name, row, grid.cohort or COHORT if cohort is None else cohort, seed, split_seed, ddi)
        for grid in found
        for row in [next(rows) for _ in grid.rows]
        for seed in registry.get(row.system).seeds(seeds)
    ]


def _several(grids: Any) -> Sequence[str | Path]:
    """One grid, or several."""
    if isinstance(grids, str | Path):
        return named([grids])
    if not isinstance(grids, list | tuple) or not grids:
        raise MedrecError(f"Grids are names or YAML files, one or a list of them, not {shown(grids)}.")
    return named(grids)


def searched(grids: Grids, cohort: Cohort | str) -> dict[str, dict[str, Any]]:
    """What ``medrec tune`` found on these records, for each system of the grids that was searched on them.

    Raises:
        MedrecError: an unknown grid; a kept search that cannot be read.
    """
    from medrec.lab import kept, tune

    found = {}
    for name in dict.fromkeys(row.system for grid in _several(grids) for row in declared(grid).rows):
        with suppress(kept.NotKeptError):
            found[name] = dict(tune.read(registry.get(name).name, _the(cohort)).winner)
    return found


def look(wanted: Sequence[Training]) -> list[Entry]:
    """How it stands with each of these trainings; nothing is trained.

    One that cannot be planned, because its cohort has no tables or too few patients, is there with the reason.
    """
    found: list[Entry] = []
    known: dict[str, Entry] = {}
    seconds = _Seconds()
    last: tuple[Training, Plan] | None = None
    for training in wanted:
        try:
            if last is not None and last[0].row is training.row and last[0].cohort is training.cohort:
                plan = replace(last[1], seed=training.seed)  # all but the seed is the same
            else:
                plan = Plan.of(training.row.system, _the(training.cohort), **training.options)
                last = training, plan
            place = runs.Place(*plan.folder_name(), plan.seed, plan.resolved()["key"])
        except MedrecError as error:
            found.append(Entry(training, error=str(error)))
            continue
        if place.key not in known:
            run = place.find()
            if run is not None:
                took = float(run.environment["wall_seconds"])
                known[place.key] = Entry(training, place.key, run.folder, done=True, seconds=took)
            else:
                known[place.key] = Entry(training, place.key, place.free(), seconds=seconds.of(plan, place))
        found.append(replace(known[place.key], training=training))
    return found


def once(entries: Sequence[Entry]) -> list[Entry]:
    """The same without those that make a run which an earlier one makes, for another row or grid."""
    return list({entry.key or str(number): entry for number, entry in reversed(list(enumerate(entries)))}.values())[
        ::-1
    ]


@lru_cache(maxsize=1)
def _loaded(name: str) -> Cohort:
    """A cohort by name; the one that was asked for last stays in memory, in each process."""
    return load_cohort(name)


def _the(cohort: Cohort | str) -> Cohort:
    return _loaded(cohort) if isinstance(cohort, str) else cohort


class _Seconds:
    """Estimates of how long trainings take."""

    @cached_property
    def _earlier(self) -> dict[tuple[str, str], float]:
        """Median seconds of the runs in the store, by cohort and system."""
        found: dict[tuple[str, str], list[float]] = {}
        for run in runs.all_runs():
            place = run.key.split("/")[0], str(run.config["system"])
            found.setdefault(place, []).append(float(run.environment["wall_seconds"]))
        return {place: statistics.median(seconds) for place, seconds in found.items()}

    def of(self, plan: Plan, place: runs.Place) -> float | None:
        """Median of earlier runs of the same system on the same cohort, otherwise by the system's declared budget."""
        earlier = self._earlier.get((place.cohort, plan.reference))
        if earlier is not None:
            return earlier
        budget, epochs = plan.system.seconds_per_epoch, getattr(plan.config, "epochs", 0)
        if budget is None or not plan.system.is_network:
            return None
        return budget * plan.cohort.n_patients / PATIENTS * float(epochs) * USUAL


def summary(entries: Sequence[Entry], jobs: int = 1) -> str:
    """What a dry run says: for each grid and in sum how many trainings are missing, and how long they will take."""
    grids = list(dict.fromkeys((entry.training.grid, entry.training.cohort_name) for entry in entries))
    lines = []
    for grid, cohort in grids:
        mine = [e for e in entries if (e.training.grid, e.training.cohort_name) == (grid, cohort)]
        lines.append(f"{grid} on {cohort}: {_said(once(mine))}")
    entries = once(entries)
    if len(grids) > 1:
        lines.append(f"in all: {_said(entries)}")
    missing = [entry.seconds for entry in entries if not entry.done and not entry.error]
    known = [seconds for seconds in missing if seconds is not None]
    if jobs > 1 and known:
        # One training is not shared among processes.
        lines.append(f"{jobs} at once: {duration(max(sum(known) / jobs, *known))}, each on its share of the cores")
    lines += [f"{entry.training} cannot be trained: {entry.error}" for entry in entries if entry.error]
    return "\n".join(lines)


def _said(entries: Sequence[Entry]) -> str:
    missing = [entry for entry in entries if not entry.done]
    known = [entry.seconds for entry in missing if entry.seconds is not None]
    unknown = list(dict.fromkeys(e.training.row.label for e in missing if e.seconds is None and not e.error))
    text = f"{len(missing)} of {len(entries)} trainings are missing"
    if known:
        text += f"; about {duration(sum(known))} one after the other"
    if unknown:
        text += f"; unknown for {', '.join(unknown)}, of which nothing was trained on this cohort yet"
    return text + "."


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def listing(entries: Sequence[Entry]) -> str:
    """What ``--list`` says: one JSON object a line for each training, once.

    Raises:
        MedrecError: one of them cannot be trained.
    """
    entries = once(entries)
    for entry in entries:
        if entry.error:
            raise MedrecError(f"{entry.training} cannot be trained: {entry.error}")
    return "\n".join(json.dumps(entry.listed()) for entry in entries)


# -- doing it ----------------------------------------------------------------------------------------------------------


def sweep(
    grids: Grids,
    cohort: str | Cohort | None = None,
    *,
    seeds: int = 1,
    split_seed: int | None = 0,
    settings: Mapping[str, Any] | None = None,
    ddi: str | Path | None = None,
    jobs: int = 1,
    device: str = "cpu",
) -> list[Outcome]:
    """Train what grids ask for and the run store lacks; a training that fails does not stop the others.

    Args:
        grids: names or YAML files, see :func:`medrec.lab.rows.declared`.
        cohort: its name, or the cohort itself; ``None``: the one that a file asks for, otherwise ``synthetic``.
        seeds: training seeds 0, 1, ... of each network.
        split_seed: of the split; ``None`` for file order.
        settings: that all rows have in common, see :func:`medrec.lab.rows.with_shared`.
        ddi: file of another interaction list than the book's own.
        jobs: trainings at once, each in a process with its share of the cores.
        device: of every training.

    Returns:
        One outcome for each training, in the order of the grids; one that several rows ask for is there once.

    Raises:
        MedrecError: an unknown grid, system, variant, setting, cohort or device, or a number out of its range, before
            anything is trained.
        Interrupted: somebody pressed Ctrl-C; it says what is in the store.

    Example:
        >>> failed = [o for o in sweep("retain", "synthetic", jobs=2) if o.error]  # doctest: +SKIP
    """
    device, jobs = checked_device(device), checked_count("jobs", jobs)
    wanted = trainings(grids, cohort, seeds=seeds, split_seed=split_seed, settings=settings, ddi=ddi)
    return carry_out(look(wanted), jobs=jobs, device=device)


def carry_out(entries: Sequence[Entry], *, jobs: int = 1, device: str = "cpu") -> list[Outcome]:
    """Train what is missing among entries of :func:`look`; as :func:`sweep`."""
    device, jobs = checked_device(device), checked_count("jobs", jobs)
    entries = once(entries)
    missing = [number for number, entry in enumerate(entries) if not entry.done and not entry.error]
    found = {
        number: Outcome(entry.training, entry.folder if entry.done else None, error=entry.error)
        for number, entry in enumerate(entries)
    }
    tasks = [(number, entries[number].training) for number in missing]
    done = 0
    with bar(total=len(tasks), desc="sweep", unit="run", leave=bool(tasks)) as shown:
        try:
            for number, outcome in _outcomes(tasks, jobs, device):
                found[number] = outcome
                shown.update()
                done += not outcome.error
        except KeyboardInterrupt as stopped:
            where = f" {stopped}" if isinstance(stopped, Interrupted) else " Run it again, and it goes on from there."
            raise Interrupted(
                f"sweep: interrupted; {done} of {len(tasks)} missing trainings are in the store now.{where}"
            ) from None
    return [found[number] for number in range(len(entries))]


def _outcomes(tasks: Sequence[tuple[int, Training]], jobs: int, device: str) -> Iterator[tuple[int, Outcome]]:
    """Numbers and outcomes, in whatever order they are ready."""
    if jobs == 1:
        yield from ((number, _made(training, device)) for number, training in tasks)
        return
    waiting = dict(tasks)
    try:
        for number, outcome in _parallel(list(waiting.items()), jobs, device):
            del waiting[number]
            yield number, outcome
    except TerminatedWorkerError:
        # A process was ended from outside, most often for want of memory. Which training it was nobody knows, so that
        # the rest goes one by one, where it shows and where each has the memory of all.
        for task in waiting.items():
            try:
                yield from _parallel([task], jobs, device)
            except TerminatedWorkerError:
                reason = "its process was ended from outside, most often for want of memory. Take fewer --jobs."
                yield task[0], Outcome(task[1], error=reason)


def _parallel(tasks: Sequence[tuple[int, Training]], jobs: int, device: str) -> Iterator[tuple[int, Outcome]]:
    pool = Parallel(n_jobs=jobs, return_as="generator_unordered", max_nbytes=None)
    # Processes live on for the next sweep, when folders and the path of modules can be others.
    places = {name: value for name, value in os.environ.items() if name.startswith("MEDREC_")}
    found: Iterator[tuple[int, Outcome]] = pool(
        delayed(_in_process)(number, training, device, places, sys.path) for number, training in tasks
    )
    return found


def _in_process(
    number: int, training: Training, device: str, places: Mapping[str, str], path: Sequence[str]
) -> tuple[int, Outcome]:
    """In a process of its own, whose progress bars would run into those of the others."""
    sys.path[:] = path
    for name in [name for name in os.environ if name.startswith("MEDREC_")]:
        del os.environ[name]
    os.environ.update(places)
    heard = io.StringIO()
    with redirect_stderr(heard):
        outcome = _made(training, device)
    sys.stderr.write(heard.getvalue())
    return number, outcome


def _made(training: Training, device: str) -> Outcome:
    try:
        run = train(training.row.system, _the(training.cohort), **training.options, device=device)
    except MedrecError as error:
        return Outcome(training, error=str(error))
    except Exception as error:  # of a system's own code, which must not take the others with it
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(training, error=f"{type(error).__name__}: {error} ({where.filename}, line {where.lineno})")
    return Outcome(training, run.folder, made=True)


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """What failed, one line each with the reason."""
    return [f"{outcome.training}: {outcome.error}" for outcome in outcomes if outcome.error]


# -- keeping its rows --------------------------------------------------------------------------------------------------


def check_keeping(
    grids: Grids, *, split_seed: int | None = 0, settings: Mapping[str, Any] | None = None, ddi: Path | None = None
) -> None:
    """Whether the rows of these grids may be kept: as the book trains them, and no others.

    Raises:
        MedrecError: a grid of the user's own, or a setting, a split or an interaction list that differs.
    """
    for grid in _several(grids):
        if not declared(grid).house:
            raise MedrecError(f"Kept rows are those of the book's own grids, and {grid} is yours. Leave --keep out.")
    if settings or split_seed != 0 or ddi is not None:
        raise MedrecError("Rows are kept as the book trains them. Leave out --set, --split-seed and --ddi, or --keep.")


def keep_rows(
    wanted: Sequence[Training],
    seeds: int,
    *,
    device: str = "cpu",
    searched: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Path]:
    """Write the rows of every grid among trainings that are all in the store.

    Args:
        wanted: from :func:`trainings`.
        seeds: as it was told.
        device: of trainings, should one be missing.
        searched: as it was told.

    Returns:
        The folders.
    """
    from medrec.lab import grids
    from medrec.lab.collect import collect

    first = {(training.grid, training.cohort_name): training for training in reversed(wanted)}
    found = []
    for training in reversed(first.values()):
        cohort = _the(training.cohort)
        with working(f"{training.grid}: rows"):
            of = declared(training.grid)
            of = replace(of, rows=with_searched(of.rows, searched or {}))
            found.append(grids.keep(collect(of, cohort, seeds, device=device), cohort, searched))
    return found
