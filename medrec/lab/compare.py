"""Systems side by side on the same test patients, with intervals and paired differences.

Both halves of the field meet in one table.  In the **visit** table a ranker gives as many medications to everybody as
were best on validation patients; it speaks of last visits alone, so that all systems are then compared there.  In the
**ranking** table a visit system orders medications by its scores at the last visit; since most of them also see the
codes of that day, which a ranker never does, the table stands in two blocks.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from medrec import plotting, tasks
from medrec.arguments import checked_count, checked_device, checked_file, checked_mapping, checked_seed, shown
from medrec.data.cohort import Cohort
from medrec.data.load import given_cohort
from medrec.data.split import split_patients
from medrec.lab.rows import settings_by_system
from medrec.models import registry
from medrec.models.base import Row, System
from medrec.progress import bar
from medrec.runs import Run
from medrec.tasks import ranking
from medrec.tasks.evaluation import Evaluation, Interval, bootstrap, paired_difference, shared_groups
from medrec.tasks.visits import COLUMNS
from medrec.training import train
from medrec.types import MedrecError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIGITS = {"n_medications": 1}
NOTES = {"synthetic": "synthetic: invented patients", "demo": "open demo, too few patients to rank systems"}
NOTHING = Interval(math.nan, math.nan, math.nan, math.nan)
"""Where there is no number."""
FIGURES = (".svg", ".pdf", ".png")
"""Endings of figures."""
PAST, TODAY = "knows the past only", "also sees the codes of that day"


@dataclass(frozen=True)
class Comparison:
    """Results of several systems.

    Args:
        cohort: whose patients.
        task: of the table, ``"visits"`` or ``"ranking"``.
        protocol: of that task.
        runs: by label, one run for each training seed; the first system is what the others are compared with.
        split_seed: of the split; ``None`` for file order.
    """

    cohort: Cohort
    task: str
    protocol: Any
    runs: dict[str, list[Run]]
    split_seed: int | None

    # -- numbers -----------------------------------------------------------------------------------------------------

    @cached_property
    def systems(self) -> dict[str, System]:
        """The system behind each label."""
        return {label: registry.get(runs[0].config["system"]) for label, runs in self.runs.items()}

    @cached_property
    def mixed(self) -> bool:
        """Whether a system is here whose own task is the other one."""
        return any(system.task != self.task for system in self.systems.values())

    @cached_property
    def _evaluations(self) -> dict[str, list[Evaluation]]:
        shown = bar(self.runs.items(), desc="results", unit="system")
        return {label: [self._evaluated(run) for run in runs] for label, runs in shown}

    def evaluations(self, label: str) -> list[Evaluation]:
        """Results patient by patient of one system, one for each training seed."""
        return self._evaluations[label]

    def _evaluated(self, run: Run) -> Evaluation:
        task, answers = tasks.get(self.task), run.answers
        if run.config["task"] != self.task:
            crossing = ranking.rank_visits if self.task == "ranking" else ranking.sets_of_ranker
            answers = crossing(run, self.cohort)
        elif self.mixed and self.task == "visits":
            # Rankers speak of last visits alone.
            answers = {**answers, "test": ranking.last_visits(answers["test"], self.cohort)}
        found: Evaluation = task.evaluation(answers, run.ddi(), run.own_threshold, self.protocol)
        return found

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of visits that every system scores."""
        return shared_groups([self.evaluations(label)[0] for label in self.runs])

    def results(self, *, shared: bool = True) -> dict[str, dict[str, Interval]]:
        """All metrics of each system, over the visits that all score, or over all that the system itself scores."""
        kind: Literal["house", "field"] = getattr(self.protocol, "bootstrap", "house")
        groups = self.groups if shared else None
        shown = bar(self._evaluations.items(), desc="intervals", unit="system")
        return {
            label: bootstrap(found[0] if kind == "field" else found, groups=groups, kind=kind) for label, found in shown
        }

    def differences(self) -> dict[str, dict[str, Interval]]:
        """Each system minus the first one, paired by patient, over the visits that all score."""
        first, *others = self.runs
        base = self.evaluations(first)
        shown = bar(others, desc="differences", unit="system")
        return {label: paired_difference(base, self.evaluations(label), groups=self.groups) for label in shown}

    @cached_property
    def anew(self) -> Comparison | None:
        """In a ranking by the rules of the house, the same for what is prescribed anew; otherwise nothing."""
        if self.protocol != ranking.HOUSE:
            return None
        found = replace(self, protocol=ranking.PROTOCOLS["new medications"])
        try:
            found.evaluations(next(iter(self.runs)))
        except MedrecError:  # nobody is prescribed anything new
            return None
        return found

    # -- what stands beside the numbers --------------------------------------------------------------------------------

    @property
    def interactions(self) -> str:
        """Source of the interaction matrix by which rates were counted."""
        return str(next(iter(self.runs.values()))[0].config["context"]["ddi"]["source"])

    def blocks(self) -> dict[str, list[str]]:
        """Labels by what the systems know: the past only, or also the codes of the visit that is asked about."""
        found: dict[str, list[str]] = {PAST: [], TODAY: []}
        for label, system in self.systems.items():
            config = system.config(**self.runs[label][0].config["settings"])
            found[PAST if system.past_only(config) else TODAY].append(label)
        return {block: labels for block, labels in found.items() if labels}

    @property
    def left_out(self) -> str:
        """Test patients whom a table of last visits leaves out, counted; empty where nobody is left out."""
        if not (self.mixed or self.task == "ranking"):
            return ""
        counted = self.evaluations(next(iter(self.runs)))[0].per_patient["patient"].n_unique()
        if getattr(self.protocol, "kind", "temporal") == "hold-out":
            asked, reasons = self.cohort.n_patients, []
        else:
            test = split_patients(self.cohort.n_patients, self.split_seed).test
            asked = int((np.diff(self.cohort.visit_offsets)[test] > 1).sum())
            reasons = [f"{len(test) - asked} with one visit, who have no past"]
        if asked > counted:
            reasons.append(f"{asked - counted} without a target")
        reasons = [reason for reason in reasons if not reason.startswith("0 ")]
        return f"Left out of the test patients: {' and '.join(reasons)}." if reasons else ""

    # -- showing them --------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """Tables for the terminal."""
        note = NOTES.get(self.cohort.source, self.cohort.source)
        lines = [f"Cohort {self.cohort.name} ({note}); protocol {self.protocol.name}, {self._protocol_words}."]
        if self.left_out:
            lines.append(self.left_out)
        lines += self._ranking_text() if self.task == "ranking" else self._visits_text()
        lines += self._difference_text()
        if self.anew is not None:
            lines += ["", f"The same for {self.anew.protocol.name}, {self.anew._protocol_words}.", self.anew.left_out]
            lines += [*self.anew._ranking_text(), *self.anew._difference_text()]
        lines += [""] + [f"{label}{seed}: {warning}." for label, seed, warning in self._warnings()]
        seeds = max(len(runs) for runs in self.runs.values())
        drawn = "patients" if seeds == 1 else f"{seeds} training seeds and of patients together"
        brackets = f"95 % of 1000 bootstrap resamples of {drawn}"
        if getattr(self.protocol, "bootstrap", "house") == "field":
            field = "mean of ten rounds of 80 % of the patients, one standard deviation to each side"
            brackets = f"{field}, as the field prints it; of differences {brackets}"
        return "\n".join([*lines, f"Brackets: {brackets}."])

    def _warnings(self) -> Iterator[tuple[str, str, str]]:
        """What must be known of a training, once where all seeds have it alike."""
        for label, runs in self.runs.items():
            found = [run.warning for run in runs]
            if len(set(found)) == 1:
                yield from [(label, "", found[0])] * bool(found[0])
            else:
                yield from ((label, f", seed {run.config['seed']}", run.warning) for run in runs if run.warning)

    def _difference_text(self) -> list[str]:
        if len(self.runs) == 1:
            return []
        lines = ["", f"Difference to {next(iter(self.runs))}, paired by patient"]
        return [*lines, *self._table(self.differences(), signed=True)]

    def _visits_text(self) -> list[str]:
        labels, counts = list(self.runs), {label: found[0].summary() for label, found in self._evaluations.items()}
        own = self.results(shared=False)
        heads = {label: f"{label} ({counts[label]['patients']}/{counts[label]['visits']})" for label in labels}
        where = "The last visit of every patient with an earlier one" if self.mixed else "Every visit that is scored"
        lines = ["", f"{where}; in parentheses patients/visits"]
        lines += self._table({heads[label]: own[label] for label in labels})
        skipping = [label for label in labels if counts[label]["visits"] < max(c["visits"] for c in counts.values())]
        if skipping:
            shared = self.evaluations(labels[0])[0].summary(self.groups)
            lines += [
                "",
                f"The same {shared['visits']} visits of {shared['patients']} patients for all "
                f"({', '.join(skipping)} skip{'s' * (len(skipping) == 1)} others)",
            ]
            lines += self._table(self.results())
        return lines

    def _ranking_text(self) -> list[str]:
        results, blocks = self.results(), self.blocks()
        n = self.evaluations(next(iter(self.runs)))[0].summary()["patients"]
        lines = ["", f"Order of all medications, for {n} patients"]
        ordered = [label for labels in blocks.values() for label in labels]
        head, *rows = table({label: results[label] for label in ordered}, self._columns).splitlines()
        lines.append(head)
        for block, labels in blocks.items():
            if len(blocks) > 1 or block == TODAY:
                lines.append(f"-- {block} ".ljust(len(head), "-"))
            lines += [rows.pop(0) for _ in labels]
        return lines

    @property
    def _columns(self) -> dict[str, str]:
        columns: dict[str, str] = tasks.get(self.task).MEASURES.columns
        return columns

    def _table(self, rows: Mapping[str, Mapping[str, Interval]], *, signed: bool = False) -> list[str]:
        lines = [table(rows, self._columns, signed=signed)]
        return [*lines, f"DDI rates: {self.interactions}."] if "ddi_rate" in self._columns else lines

    @property
    def _protocol_words(self) -> str:
        rules = self.protocol
        if self.task == "ranking":
            targets = "all medications count" if rules.targets == "all" and not rules.masked else "unknown ones count"
            return f"{rules.kind}: {targets}, known ones are {'not listed' if rules.masked else 'listed too'}"
        cut = {
            "tuned": "threshold tuned on validation Jaccard for every system that has one",
            "own": "each system's own threshold",
        }.get(rules.threshold) or f"threshold {rules.threshold:g}"
        return f"{cut}, averaged over {rules.aggregation}"

    def frame(self) -> pl.DataFrame:
        """Everything that :meth:`text` says, one row for each system, group of visits and metric.

        Returns:
            ``label``, ``system``, ``variant``, ``seeds``, ``knows``, ``visits`` (``"scored by all"``, or ``"own"``, all
            that the system scores), ``metric``, ``value``, ``low``, ``high``; ``delta``, ``delta_low``, ``delta_high``
            against the first system, on the visits that all score; ``patients``, ``n_visits``; and the same in all
            rows: ``cohort``, ``source``, ``task``, ``protocol``, ``interactions``.
        """
        differences, knows = self.differences(), {x: block for block, labels in self.blocks().items() for x in labels}
        rows = []
        for visits, shared in (("scored by all", True), ("own", False)):
            for label, result in self.results(shared=shared).items():
                counts = self.evaluations(label)[0].summary(self.groups if shared else None)
                for metric in self._columns:
                    value = result[metric]
                    delta = differences.get(label, {}).get(metric, NOTHING) if shared else NOTHING
                    rows.append(
                        {
                            "label": label,
                            "system": self.runs[label][0].config["system"],
                            "variant": self.runs[label][0].config["variant"],
                            "seeds": len(self.runs[label]),
                            "knows": knows[label],
                            "visits": visits,
                            "metric": metric,
                            "value": value.value,
                            "low": value.low,
                            "high": value.high,
                            "delta": delta.value,
                            "delta_low": delta.low,
                            "delta_high": delta.high,
                            "patients": counts["patients"],
                            "n_visits": counts["visits"],
                            "cohort": self.cohort.name,
                            "source": self.cohort.source,
                            "task": self.task,
                            "protocol": f"{self.protocol.name}, {self._protocol_words}",
                            "interactions": self.interactions,
                        }
                    )
        found = pl.DataFrame(rows).with_columns(pl.selectors.float().fill_nan(None))
        return found if self.anew is None else pl.concat([found, self.anew.frame()])

    def write_csv(self, path: Path) -> Path:
        """Write :meth:`frame`.

        Raises:
            MedrecError: the file cannot be written.
        """
        return _writing(path, self.frame().write_csv)

    def write_plot(self, path: Path) -> Path:
        """Write :meth:`plot`, in the form that the name of the file asks for.

        Raises:
            MedrecError: the file cannot be written, or its name asks for a form that does not exist.
        """
        plotting.use_style()
        return _writing(path, self.plot().savefig)

    def plot(self, metric: str | None = None) -> Figure:
        """Levels with intervals, and beside them the paired differences to the first system.

        Args:
            metric: one of the task's; default: Jaccard, or NDCG@20.

        Raises:
            MedrecError: the task has no such metric.
        """
        import matplotlib.pyplot as plt

        metric = metric or ("jaccard" if self.task == "visits" else ranking.SELECTION)
        if metric not in self._columns:
            raise MedrecError(f"There is no metric {metric!r} here. There are {', '.join(self._columns)}.")
        results, differences = self.results(), self.differences()
        labels = [x for block in self.blocks().values() for x in block] if self.task == "ranking" else list(self.runs)
        first = next(iter(self.runs))
        looks = {label: self.runs[label][0].config["system"] for label in labels}
        two = len(labels) > 1
        figure, axes = plt.subplots(
            1,
            1 + two,
            figsize=(plotting.FULL if two else plotting.ONE_COLUMN, 0.8 + 0.3 * len(labels)),
            layout="constrained",
            sharey=True,
            squeeze=False,
        )
        _draw(axes[0, 0], {label: results[label][metric] for label in labels}, looks)
        axes[0, 0].set_xlabel(f"{self._columns[metric]}, {self.cohort.name}")
        if two:
            changes = {label: differences[label][metric] if label != first else NOTHING for label in labels}
            _draw(axes[0, 1], changes, looks, reference=0)
            axes[0, 1].set_xlabel(f"difference to {first}")
        return figure


def _writing(path: Path, write: Callable[[Path], Any]) -> Path:
    try:
        write(path)
    except (OSError, ValueError) as error:  # ValueError: a kind of figure that the plotting library does not know
        raise MedrecError(f"{path} cannot be written: {error}. Choose another name or folder.") from None
    return path


def _draw(axes: Any, found: Mapping[str, Interval], looks: Mapping[str, str], **more: Any) -> None:
    plotting.plot_intervals(
        axes,
        list(found),
        [interval.value for interval in found.values()],
        [(interval.low, interval.high) for interval in found.values()],
        systems=[looks[label] for label in found],
        **more,
    )


def compare(
    models: str | Row | Sequence[str | Row],
    cohort: Cohort | str,
    *,
    seeds: int = 1,
    split_seed: int | None = 0,
    settings: Mapping[str, Any] | None = None,
    task: str | None = None,
    threshold: Any = None,
    protocol: Any = None,
    ddi: str | Path | None = None,
    device: str = "cpu",
) -> Comparison:
    """Train what the store lacks, and put systems side by side.

    Args:
        models: systems, ``"retain"``; with a variant, ``"retain:official"``; from elsewhere,
            ``"package.module:SYSTEM"`` or ``"package.module:SYSTEM:official"``; or rows of a grid.  The others are
            compared with the first one.
        cohort: all patients, or the name of a cohort.
        seeds: training seeds 0, 1, ... of each network; what is fitted in one go has no use for more than one.
        split_seed: of the split; ``None`` for file order.
        settings: that differ: ``{"retain.patience": 200}`` for one system, ``{"patience": 200}`` for all that have it.
        task: ``"visits"`` or ``"ranking"``; ``None``: the one that the systems share.
        threshold: ``"tuned"``, ``"own"`` or a number; ``None``: the protocol's.
        protocol: one of the task's, or its name; default: the house's.
        ddi: file of another interaction list than the book's own.
        device: of the trainings.

    Raises:
        MedrecError: an unknown system, variant, setting, task, protocol, cohort or device; a number out of its range;
            systems of two tasks without a word in which of them they shall meet; or one that cannot take part.

    Example:
        >>> print(compare(["lr", "retain:official"], cohort, seeds=3).text())  # doctest: +SKIP
    """
    rows, systems, task, rules = check(
        models,
        seeds=seeds,
        split_seed=split_seed,
        settings=settings,
        task=task,
        threshold=threshold,
        protocol=protocol,
        ddi=ddi,
        device=device,
    )
    cohort, seeds = given_cohort(cohort), checked_count("seeds", seeds)
    split_seed = None if split_seed is None else checked_seed(split_seed, "split_seed")
    # What a protocol says about the split holds for the systems of the other task, too: they meet at the same patients.
    split = rules.split_seed(split_seed) if task == "visits" else split_seed
    runs = {
        label: [
            train(
                row.system,
                cohort,
                variant=row.variant,
                settings=row.settings,
                seed=seed,
                split_seed=split,
                protocol=rules if systems[label].task == task else None,
                ddi=ddi,
                device=device,
            )
            for seed in systems[label].seeds(seeds)
        ]
        for label, row in rows.items()
    }
    found = Comparison(cohort, task, rules, runs, split)
    found.evaluations(next(iter(runs)))  # who cannot take part is told of here
    return found


def check(
    models: str | Row | Sequence[str | Row],
    *,
    seeds: int = 1,
    split_seed: int | None = 0,
    settings: Mapping[str, Any] | None = None,
    task: str | None = None,
    threshold: Any = None,
    protocol: Any = None,
    ddi: str | Path | None = None,
    device: str = "cpu",
) -> tuple[dict[str, Row], dict[str, System], str, Any]:
    """Refuse what :func:`compare` would refuse without having seen a patient.

    Returns:
        Rows and systems by label, task, protocol.

    Raises:
        MedrecError: as :func:`compare` says.
    """
    checked_device(device)
    checked_file("ddi", ddi)
    if split_seed is not None:
        checked_seed(split_seed, "split_seed")
    rows = _rows(_several(models), checked_mapping("settings", settings))
    systems = {label: registry.get(row.system) for label, row in rows.items()}
    task = _task(task, systems)
    rules = tasks.protocol(task, protocol)
    if threshold is not None:
        rules = tasks.get(task).with_threshold(rules, threshold)
    if checked_count("seeds", seeds) > 1 and getattr(rules, "bootstrap", "house") == "field":
        raise MedrecError(f"The protocol {rules.name!r} describes one training of each system. Leave --seeds out.")
    if getattr(rules, "kind", "temporal") == "hold-out":
        visiting = [label for label, system in systems.items() if system.task == "visits"]
        if visiting:
            raise MedrecError(
                f"The protocol {rules.name!r} asks about no visit, so that {', '.join(visiting)} cannot take part. "
                "Leave them out, or take another protocol."
            )
    return rows, systems, task, rules


def _several(models: Any) -> Sequence[str | Row]:
    """One system, or several."""
    if isinstance(models, str | Row):
        return [models]
    if not isinstance(models, list | tuple) or not all(isinstance(model, str | Row) for model in models):
        raise MedrecError(f"Systems are named by words, e.g. ['lr', 'retain'], not by {shown(models)}.")
    return models


def _rows(models: Sequence[str | Row], settings: Mapping[str, Any]) -> dict[str, Row]:
    """What is trained, by label."""
    if not models:
        raise MedrecError("There is nothing to compare. Name two systems or more, e.g. lr retain.")
    given = [_named(model) if isinstance(model, str) else model for model in models]
    shared = settings_by_system({row.system: registry.get(row.system) for row in given}, settings)
    found: dict[str, Row] = {}
    for model, row in zip(models, given, strict=True):
        chosen = (
            {**row.settings, **shared[row.system]} if isinstance(model, str) else {**shared[row.system], **row.settings}
        )
        registry.get(row.system).configure(row.variant, chosen)
        label = row.label
        if isinstance(model, str):
            words = [row.variant] * (row.variant != "paper") + [f"{k}={v}" for k, v in chosen.items()]
            label += f" ({', '.join(words)})" if words else ""
        if label in found and (found[label].system, found[label].variant) != (row.system, row.variant):
            label = f"{label} [{row.system}]"
        found[label] = Row(row.key, label, row.system, row.variant, chosen)
    return found


def _named(model: str) -> Row:
    """``retain``, ``retain:official``, ``package.module:SYSTEM`` or ``package.module:SYSTEM:official``."""
    name, _, rest = model.partition(":")
    house = name.lower().replace("_", "-").replace(" ", "-") in registry.NAMES
    if house or not rest or not re.match(r"\w", name) or importlib.util.find_spec(name.partition(".")[0]) is None:
        system, variant = registry.get(name), rest or "paper"
        called = registry.name_of(system)
    else:
        attribute, _, variant = rest.partition(":")
        called, variant = f"{name}:{attribute}", variant or "paper"
        system = registry.get(called)
    system.configure(variant)
    return Row(model, system.label, called, variant)


def _task(task: str | None, systems: Mapping[str, System]) -> str:
    if task is None:
        by_task: dict[str, list[str]] = {}
        for label, system in systems.items():
            by_task.setdefault(system.task, []).append(label)
        if len(by_task) > 1:
            told = "; ".join(f"{name}: {', '.join(labels)}" for name, labels in sorted(by_task.items()))
            raise MedrecError(
                f"These systems are of two tasks ({told}). They can meet in either: say --task ranking or --task "
                "visits."
            )
        return next(iter(by_task))
    tasks.get(task)
    return task


def table(
    rows: Mapping[str, Mapping[str, Interval]], columns: Mapping[str, str] = COLUMNS, *, signed: bool = False
) -> str:
    """The columns of a task as aligned text, each value with its interval.

    Args:
        rows: label → metric → interval.
        columns: metrics and their heads; default: the five of the visit task.
        signed: print signs.
    """
    sign = "+" if signed else ""
    cells = [["", *columns.values()]]
    for label, row in rows.items():
        line = [label]
        for name in columns:
            interval, digits = row[name], DIGITS.get(name, 3)
            if math.isnan(interval.value):  # a metric that the system does not have
                line.append("-")
            else:
                line.append(
                    f"{interval.value:{sign}.{digits}f} [{interval.low:{sign}.{digits}f}, "
                    f"{interval.high:{sign}.{digits}f}]"
                )
        cells.append(line)
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
        ).rstrip()
        for line in cells
    )
