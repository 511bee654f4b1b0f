"""``medrec``: the commands. Thin: each one reads words, calls a room, and prints.

A mistake of the user's is one line on standard error and exit status 1.
"""

# Typer reads the empty lists below as defaults and copies them; nothing changes them.
# ruff: noqa: B006

from __future__ import annotations

import difflib
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from medrec.types import MedrecError

if TYPE_CHECKING:
    from medrec.data.cohort import Cohort
    from medrec.runs import Run
    from medrec.tasks.evaluation import Interval


REASONS_SHOWN = 2
"""Reasons of one kind that ``medrec recommend`` prints for a medication."""
PAIRS_SHOWN = 12
"""Interacting pairs that ``medrec recommend`` prints by name."""


class Group(TyperGroup):
    """A group that knows near misses, and turns a user's mistake into one message without a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except MedrecError as error:
            fail(str(error))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        names = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in names:
            close = difflib.get_close_matches(args[0], names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            fail(f"There is no command {args[0]!r}.{hint} Commands: {', '.join(names)}.")
        return super().resolve_command(ctx, args)


class ListCommand(TyperCommand):
    """A command whose options marked ``...`` take all words up to the next option: ``--diagnoses 428.0 584.9``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        lists = {name for p in self.params if (p.metavar or "").endswith("...") for name in p.opts}
        words: list[str] = []
        option = None
        for word in args:
            if word.startswith("-") and not _is_number(word):
                option = word if word in lists else None
                if option is None:
                    words.append(word)
            elif option is not None:
                words += [option, word]
            else:
                words.append(word)
        return super().parse_args(ctx, words)


class PairCommand(TyperCommand):
    """A command whose ``-p`` takes a name and a value: ``-p cohort mimic4-demo``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = list(args)
        pairs: list[str] = []
        while words:
            word = words.pop(0)
            if word in ("-p", "--parameter") and len(words) >= 2 and "=" not in words[0]:
                pairs += [word, f"{words.pop(0)}={words.pop(0)}"]
            else:
                pairs.append(word)
        return super().parse_args(ctx, pairs)


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Medication recommendation: records in, systems trained and compared, chapters executed.",
)
data = typer.Typer(cls=Group, no_args_is_help=True, help="Bring records in, make them up, look at them.")
app.add_typer(data, name="data")


class Threshold(StrEnum):
    """Which threshold decides on a medication."""

    tuned = "tuned"
    own = "own"


CohortName = Annotated[str, typer.Option("--cohort", help="synthetic, mimic4-demo, mimic3, ...")]
Options = Annotated[
    list[str], typer.Option("--option", metavar="KEY=VALUE", help="Option of the cohort, e.g. window=first_day.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")]
Settings = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Setting that differs, e.g. dropout=0.3.")
]
ThresholdOption = Annotated[
    Threshold, typer.Option(help="Tuned on validation patients for every system, or each system's own.")
]


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="popularity, last-visit, lr, retain")],
    cohort: CohortName = "synthetic",
    variant: Annotated[str, typer.Option(help="paper, or official: with the quirks of released code.")] = "paper",
    seed: Annotated[int, typer.Option(help="Seed of initialisation.")] = 0,
    split_seed: Annotated[int, typer.Option(help="Seed of the split; negative: file order.")] = 0,
    settings: Settings = [],
    option: Options = [],
    device: Device = "cpu",
    again: Annotated[bool, typer.Option("--again", help="Train even if the run is in the store.")] = False,
) -> None:
    """Train one system, store the run, and print its results by visit number."""
    from medrec.models import registry
    from medrec.training import train as run_training

    chosen = _pairs(settings)
    registry.get(model).configure(variant, chosen)  # a misspelt word should not wait for the tables
    run = run_training(
        model,
        _load(cohort, option),
        variant=variant,
        settings=chosen,
        seed=seed,
        split_seed=None if split_seed < 0 else split_seed,
        device=device,
        again=again,
    )
    _print_run(run)


@app.command()
def compare(
    models: Annotated[list[str], typer.Argument(help="Two systems or more, e.g. last-visit lr retain.")],
    cohort: CohortName = "synthetic",
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds 0, 1, ... of each network.")] = 1,
    split_seed: Annotated[int, typer.Option(help="Seed of the split; negative: file order.")] = 0,
    threshold: ThresholdOption = Threshold.tuned,
    option: Options = [],
    device: Device = "cpu",
) -> None:
    """Compare systems on the same test patients; what is not in the run store is trained first."""
    from medrec.lab.compare import compare as compare_systems
    from medrec.models import registry

    for model in models:
        registry.get(model)
    comparison = compare_systems(
        models,
        _load(cohort, option),
        seeds=seeds,
        split_seed=None if split_seed < 0 else split_seed,
        threshold=threshold.value,
        device=device,
    )
    print(comparison.text())


@app.command(cls=ListCommand)
def recommend(
    run: Annotated[Path, typer.Option(help="Folder of a run, as `medrec train` prints it.")],
    diagnoses: Annotated[list[str], typer.Option(metavar="CODE...", help="Codes of the visit, e.g. 428.0 584.9.")] = [],
    procedures: Annotated[list[str], typer.Option(metavar="CODE...", help="Codes of the visit, e.g. 96.71.")] = [],
    symptoms: Annotated[list[str], typer.Option(metavar="CODE...", help="Codes of the visit.")] = [],
    history: Annotated[Path | None, typer.Option(help="JSON file with earlier visits, oldest first.")] = None,
) -> None:
    """Ask a trained system what to prescribe at a visit."""
    from medrec.inference import read_history
    from medrec.inference import recommend as ask
    from medrec.runs import Run

    found = Run.load(run)
    visits = read_history(history) if history else []
    answer = ask(found, diagnoses=diagnoses, procedures=procedures, symptoms=symptoms, history=visits)
    for code, title, probability in answer.medications.iter_rows():
        print(f"{code:6} {'' if probability is None else f'{probability:.3f}':>6}  {title}")
        if answer.reasons is not None:
            for kind, group in answer.reasons.filter(medication=code).group_by("kind", maintain_order=True):
                told = [
                    f"{what} {weight:.2f}" for what, weight in group.head(REASONS_SHOWN)["what", "weight"].iter_rows()
                ]
                print(f"{'':15}{kind[0]}: {', '.join(told)}")
    at = f" at threshold {answer.threshold:.2f}, tuned on validation patients" if answer.threshold is not None else ""
    print(f"{len(answer.medications)} medications{at}. {answer.note}")
    if len(answer.interactions):
        shown = [f"{a} with {b}" for a, b in answer.interactions.head(PAIRS_SHOWN).iter_rows()]
        more = ", ..." if len(answer.interactions) > PAIRS_SHOWN else ""
        print(f"Interacting pairs among them, {len(answer.interactions)}: {', '.join(shown)}{more}")
    print(f"Trained on {_source(found.config['cohort'])}. For study, not for treating patients.")


@app.command()
def sweep(
    configs: Annotated[list[Path], typer.Argument(help="YAML files; default: all of configs/.")] = [],
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at once.")] = 1,
    device: Device = "cpu",
) -> None:
    """Train everything that the files ask for and the run store does not hold yet."""
    from medrec.lab.sweep import read_tasks
    from medrec.lab.sweep import sweep as run_sweep
    from medrec.paths import base_dir

    files = configs or sorted((base_dir() / "configs").glob("*.yaml"))
    if not files:
        raise MedrecError(f"There are no YAML files in {base_dir() / 'configs'}. Name some.")
    outcomes = run_sweep(read_tasks(files), jobs=jobs, device=device)
    for outcome in outcomes:
        print(f"{outcome.task}: {outcome.error or outcome.folder}")
    failed = sum(bool(outcome.error) for outcome in outcomes)
    if failed:
        raise MedrecError(f"{failed} of {len(outcomes)} trainings failed; the reasons stand above.")


@app.command(cls=PairCommand)
def chapter(
    which: Annotated[str, typer.Argument(help="Number, topic or name, e.g. 02.")],
    parameter: Annotated[
        list[str], typer.Option("-p", "--parameter", metavar="NAME VALUE", help="Parameter that differs.")
    ] = [],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write, ending in .ipynb.")] = None,
) -> None:
    """Execute one chapter."""
    from medrec.book.runner import run_chapter

    print(run_chapter(which, _pairs(parameter, "-p"), output))


@data.command("import")
def import_(
    name: Annotated[str, typer.Argument(help="mimic3, mimic4 or eicu")],
    path: Annotated[Path, typer.Argument(help="Folder with the tables, CSV or CSV.gz.")],
) -> None:
    """Make a folder of raw tables known under a name, build its cohort, and print the ledger."""
    from medrec.data.load import import_tables

    link = import_tables(name, path)
    print(f"{name}: {link}")
    _describe(_load(name, []))


@data.command()
def fetch(name: Annotated[str, typer.Argument(help="mimic3-demo, mimic4-demo or eicu-demo")]) -> None:
    """Download an open demo database from PhysioNet, checksums verified."""
    from medrec.data.fetch import fetch as download

    print(download(name))


@data.command()
def synthesize(
    patients: Annotated[int, typer.Option(min=1, help="Number of patients.")] = 600,
    seed: Annotated[int, typer.Option(help="Same seed, same records.")] = 0,
    layout: Annotated[str, typer.Option(help="mimic3, mimic4 or eicu.")] = "mimic3",
    history: Annotated[float, typer.Option(help="0: the past tells nothing.")] = 1.0,
    structure: Annotated[float, typer.Option(help="1: preferences follow molecules.")] = 0.0,
    text: Annotated[float, typer.Option(help="0: titles are permuted.")] = 1.0,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write.")] = None,
) -> None:
    """Write raw tables of invented patients."""
    from medrec.data.synthetic import synthesize as draw
    from medrec.paths import data_dir

    folder = output or data_dir() / f"synthetic-{layout}-{patients}-seed{seed}"
    records = draw(patients, seed, history=history, structure=structure, text=text)
    print(records.write(folder, layout=layout) or folder)


@data.command()
def describe(
    name: Annotated[str, typer.Argument(help="A cohort, e.g. mimic4-demo.")],
    option: Options = [],
) -> None:
    """Print a cohort's numbers and what each processing step kept and dropped."""
    _describe(_load(name, option))


# -- inside --------------------------------------------------------------------------------------------------------


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _pairs(words: list[str], option: str = "--set") -> dict[str, str]:
    """``["a=1"]`` → ``{"a": "1"}``."""
    chosen = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            wanted = "a name and a value, e.g. -p cohort mimic4-demo" if option == "-p" else "KEY=VALUE"
            raise MedrecError(f"{option} {word}: give {wanted}.")
        chosen[key] = value
    return chosen


def _load(name: str, options: list[str]) -> Cohort:
    import yaml

    from medrec.data import load_cohort

    # Values as YAML reads them: 0.5 is a number, true a truth value, anything else text.
    return load_cohort(name, **{k: yaml.safe_load(v) for k, v in _pairs(options, "--option").items()})


def _source(cohort: dict[str, Any]) -> str:
    kind = {"synthetic": "invented patients", "demo": "an open demo", "credentialed": "credentialed records"}
    return f"cohort {cohort['name']} ({cohort['source']}: {kind[cohort['source']]})"


def _print_run(run: Run) -> None:
    from medrec.lab.compare import table
    from medrec.models import registry
    from medrec.tasks.evaluation import bootstrap
    from medrec.tasks.visits import GROUPS

    entry = registry.get(run.config["system"])
    rows: dict[str, dict[str, Interval]] = {}
    for name, threshold in (("tuned", "tuned"), ("own", "own")):
        value = run.metrics[name]["threshold"]
        label = f"{name} threshold" + (f" {value:.2f}" if value is not None else "")
        if value is None:
            label = "no threshold"
        evaluation = run.evaluation(threshold)
        rows[label] = bootstrap(evaluation)
        if name == "tuned":
            for group in GROUPS:
                if (evaluation.per_patient["group"] == group).any():
                    rows[f"  {group} visits"] = bootstrap(evaluation, groups=(group,))
    scored = run.metrics["tuned"]
    print(f"{entry.label} on {_source(run.config['cohort'])}, seed {run.config['seed']}")
    print(table(rows))
    print(
        f"{scored['patients']} test patients, {scored['visits']} visits. Brackets: 95 % of 1000 bootstrap resamples "
        f"of the patients. {entry.label} sees {entry.sees}."
    )
    print(run.ending)
    if run.warning:
        print(f"Mind: {run.warning}.")
    print(f"Run: {run.folder}")


def _describe(cohort: Cohort) -> None:
    print(f"{_source({'name': cohort.name, 'source': cohort.source})}")
    for key, value in cohort.describe().items():
        print(f"  {key:34} {value:>12,.2f}" if isinstance(value, float) else f"  {key:34} {value:>9,}")
    print(f"  {'step':44} {'unit':14} {'before':>10} {'kept':>10} {'dropped':>10}")
    for step in cohort.report.steps:
        print(f"  {step.step:44} {step.unit:14} {step.before:>10,} {step.kept:>10,} {step.dropped:>10,}")
    for key, value in cohort.report.facts.items():
        print(f"  {key}: {value:,g}")


def fail(message: str) -> None:
    """One line on standard error, exit status 1."""
    print(f"medrec: {message}", file=sys.stderr)
    raise SystemExit(1)


if __name__ == "__main__":
    app()
