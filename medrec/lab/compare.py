"""Systems side by side on the same test patients, with intervals and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medrec.data.cohort import Cohort
from medrec.models import registry
from medrec.runs import Run, Threshold
from medrec.tasks.evaluation import Evaluation, Interval, bootstrap, paired_difference, shared_groups
from medrec.tasks.visits import COLUMNS, GROUPS
from medrec.training import train

DIGITS = {"n_medications": 1}


@dataclass(frozen=True)
class Comparison:
    """Results of several systems.

    Args:
        cohort: name and source of the records.
        runs: for each system, one run for each training seed.
        threshold: which threshold was used.
    """

    cohort: tuple[str, str]
    runs: dict[str, list[Run]]
    threshold: Threshold

    def evaluations(self, model: str) -> list[Evaluation]:
        """One for each seed."""
        return [run.evaluation(self.threshold) for run in self.runs[model]]

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of visits that every system scores."""
        return shared_groups([self.evaluations(model)[0] for model in self.runs])

    def results(self, *, shared: bool) -> dict[str, dict[str, Interval]]:
        """All metrics of each system, over the visits that all score, or over all that the system itself scores."""
        groups = self.groups if shared else GROUPS
        return {model: bootstrap(self.evaluations(model), groups=groups) for model in self.runs}

    def differences(self) -> dict[str, dict[str, Interval]]:
        """Each system minus the first one, paired, over the visits that all score."""
        first, *others = self.runs
        base = self.evaluations(first)
        return {model: paired_difference(base, self.evaluations(model), groups=self.groups) for model in others}

    def text(self) -> str:
        """Tables for the terminal."""
        entries = {model: registry.get(model) for model in self.runs}
        labels = {model: entry.label for model, entry in entries.items()}
        name, source = self.cohort
        note = {"synthetic": "synthetic: invented patients", "demo": "open demo, too few patients to rank systems"}
        lines = [f"Cohort {name} ({note.get(source, source)}); threshold {self._threshold_words()}."]
        own = self.results(shared=False)
        first = next(iter(self.runs))
        evaluations = {model: self.evaluations(model)[0] for model in self.runs}
        counts = {model: evaluation.summary() for model, evaluation in evaluations.items()}
        lines += ["", "Every visit that the system can score"]
        lines.append(table({f"{labels[m]} ({counts[m]['patients']}/{counts[m]['visits']})": own[m] for m in self.runs}))
        skipping = [labels[m] for m in self.runs if (evaluations[m].per_patient["group"] != "first").all()]
        if skipping and len(skipping) < len(self.runs):
            summary = evaluations[first].summary(self.groups)
            lines += [
                "",
                f"The same {summary['visits']} visits of {summary['patients']} patients for all "
                f"({', '.join(skipping)} skip{'s' * (len(skipping) == 1)} first visits)",
                table({labels[m]: row for m, row in self.results(shared=True).items()}),
            ]
        if len(self.runs) > 1:
            lines += [
                "",
                f"Difference to {labels[first]}, paired, on these visits",
                table({labels[m]: row for m, row in self.differences().items()}, signed=True),
            ]
        seeds = max(len(runs) for runs in self.runs.values())
        drawn = "patients" if seeds == 1 else f"{seeds} training seeds and of patients together"
        lines += [
            "",
            f"In parentheses test patients / visits. Brackets: 95 % of 1000 bootstrap resamples of {drawn}.",
        ]
        return "\n".join(lines)

    def _threshold_words(self) -> str:
        if self.threshold == "own":
            return "fixed, each system's own"
        return "tuned on validation Jaccard for every system that has one"


def compare(
    models: Sequence[str],
    cohort: Cohort,
    *,
    seeds: int = 1,
    split_seed: int | None = 0,
    threshold: Threshold = "tuned",
    device: str = "cpu",
) -> Comparison:
    """Train what the store lacks, and put the systems side by side.

    Args:
        models: names; networks are trained once for each seed, estimators have no use for one.
        cohort: all patients.
        seeds: number of training seeds, 0, 1, ...
        split_seed: of the split; ``None`` for file order.
        threshold: ``"tuned"`` or ``"own"``.
        device: of the trainings.
    """
    runs: dict[str, list[Run]] = {}
    for model in dict.fromkeys(registry.get(model).name for model in models):
        needed = range(seeds if registry.get(model).is_network else 1)
        runs[model] = [train(model, cohort, seed=s, split_seed=split_seed, device=device) for s in needed]
    return Comparison((cohort.name, cohort.source), runs, threshold)


def table(rows: Mapping[str, Mapping[str, Interval]], *, signed: bool = False) -> str:
    """The five columns as aligned text, each value with its interval.

    Args:
        rows: label → metric → interval.
        signed: print signs.
    """
    sign = "+" if signed else ""
    cells = [["", *COLUMNS.values()]]
    for label, row in rows.items():
        line = [label]
        for name in COLUMNS:
            interval, digits = row[name], DIGITS.get(name, 3)
            if interval.value != interval.value:  # a metric that the system does not have
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
