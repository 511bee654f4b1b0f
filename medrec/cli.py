"""``medrec``: the commands. Thin: each one reads words, calls a room, and prints.

A mistake of the user's is one line on standard error and exit status 1, Ctrl-C one line and status 130.
"""

# Typer reads the empty lists below as defaults and copies them; nothing changes them.
# ruff: noqa: B006

from __future__ import annotations

import difflib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from medrec.arguments import checked_device, checked_output
from medrec.types import Interrupted, MedrecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medrec.data.cohort import Cohort
    from medrec.inference import Recommendation
    from medrec.runs import Run
    from medrec.tasks.evaluation import Interval


INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
REASONS_SHOWN = 2
"""Reasons of one kind that ``medrec recommend`` prints for a medication."""
PAIRS_SHOWN = 12
"""Interacting pairs that ``medrec recommend`` prints by name."""


KNOBS = {"history": 1.0, "structure": 0.0, "text": 1.0}
"""Of ``medrec data synthesize``, with their defaults."""


class Group(TyperGroup):
    """A group that knows near misses, and turns a user's mistake into one message without a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except MedrecError as error:
            fail(str(error))
        except OSError as error:
            if error.filename is None:
                raise
            fail(f"{error.filename}: {error.strerror}.")
        except Exception as error:
            # Typer has a copy of click's errors in some versions, so that they are told by what they can do.
            if not hasattr(error, "format_message"):
                raise
            path = getattr(getattr(error, "ctx", None), "command_path", "medrec")
            fail(f"{' '.join(error.format_message().split()).rstrip('.')}. `{path} --help` says what there is.")
        raise SystemExit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stopped:
            said = str(stopped) or "interrupted. What was finished is kept: run it again, and it goes on from there."
            print(f"medrec: {said}", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        names = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in names:
            close = difflib.get_close_matches(args[0], names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            fail(f"There is no command {args[0]!r}.{hint} Commands: {', '.join(names)}.")
        return super().resolve_command(ctx, args)


class ListCommand(TyperCommand):
    """A command whose options marked ``...`` take all words up to the next option: ``--diagnoses 428.0 584.9``.

    One marked ``[...]`` takes a word or none, which is then ``-``, standard output.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        lists = {name for p in self.params if (p.metavar or "").endswith("...") for name in p.opts}
        alone = {name for p in self.params if (p.metavar or "").startswith("[") for name in p.opts}
        words: list[str] = []
        option = None
        for word, following in zip(args, [*args, "--"][1:], strict=True):
            if word in alone and following.startswith("--"):
                words += [word, "-"]
                option = None
            elif word.startswith("-") and not _is_number(word):
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
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Medication recommendation: records in, systems trained and compared, chapters executed.",
)
data = typer.Typer(cls=Group, invoke_without_command=True, help="Bring records in, make them up, look at them.")
app.add_typer(data, name="data")
kept = typer.Typer(cls=Group, invoke_without_command=True, help="Kept results: whose rows, and made by which code.")
app.add_typer(kept, name="kept")
graph = typer.Typer(cls=Group, invoke_without_command=True, help="Ranking tasks as files that other code reads.")
app.add_typer(graph, name="graph")


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    import medrec

    if version:
        print(f"medrec {medrec.__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@data.callback()
def data_help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@graph.callback()
def graph_help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


CohortName = Annotated[str, typer.Option("--cohort", help="synthetic, mimic4-demo, mimic3, ...")]
Options = Annotated[
    list[str], typer.Option("--option", metavar="KEY=VALUE", help="Option of the cohort, e.g. window=first_day.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")]
Settings = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Setting that differs, e.g. dropout=0.3.")
]
Interactions = Annotated[
    Path | None, typer.Option("--ddi", help="Interaction list, e.g. of the published pipelines; default: our own.")
]

FileFormat = Annotated[
    str,
    typer.Option("--format", help="kgin or kgat: train.txt, test.txt, kg_final.txt; diffkg: kg.txt; recbole."),
]


@app.command()
def train(
    system: Annotated[str, typer.Argument(help="`medrec systems` lists them; one of your own: package.module:SYSTEM.")],
    cohort: CohortName = "synthetic",
    variant: Annotated[str, typer.Option(help="paper, or official: with the quirks of released code.")] = "paper",
    seed: Annotated[int, typer.Option(help="Seed of initialisation.")] = 0,
    split_seed: Annotated[int, typer.Option(help="Seed of the split; negative: file order.")] = 0,
    settings: Settings = [],
    protocol: Annotated[
        str | None, typer.Option(help='Of the system\'s task, e.g. hold-out or "SafeDrug line"; default: house.')
    ] = None,
    ddi: Interactions = None,
    option: Options = [],
    device: Device = "cpu",
    again: Annotated[bool, typer.Option("--again", help="Train even if the run is in the store.")] = False,
) -> None:
    """Train one system, store the run, and print its results."""
    from medrec.training import check
    from medrec.training import train as run_training

    words: dict[str, Any] = {
        "variant": variant,
        "settings": _pairs(settings),
        "seed": seed,
        "split_seed": _split_seed(split_seed),
        "device": device,
        "protocol": protocol,
        "ddi": ddi,
    }
    rules = check(system, **words).protocol  # a misspelt word should not wait for the tables
    run = run_training(system, _load(cohort, option), again=again, **words)
    _print_run(run, None if protocol is None else rules)


@app.command()
def compare(
    models: Annotated[
        list[str], typer.Argument(help="Systems, e.g. bimorec retain:official lr; the first is the reference.")
    ],
    cohort: CohortName = "synthetic",
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds 0, 1, ... of each network.")] = 1,
    split_seed: Annotated[int, typer.Option(help="Seed of the split; negative: file order.")] = 0,
    settings: Annotated[
        list[str], typer.Option("--set", metavar="[SYSTEM.]KEY=VALUE", help="e.g. retain.patience=200.")
    ] = [],
    task: Annotated[str | None, typer.Option(help="visits or ranking; default: that of the systems.")] = None,
    threshold: Annotated[
        str | None, typer.Option(help="tuned on validation patients, own of each system, or a number.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help='e.g. "SafeDrug line"; default: house.')] = None,
    ddi: Interactions = None,
    csv: Annotated[Path | None, typer.Option(help="File for all numbers.")] = None,
    plot: Annotated[Path | None, typer.Option(help="File for a figure, ending in .svg, .pdf or .png.")] = None,
    option: Options = [],
    device: Device = "cpu",
) -> None:
    """Compare systems on the same test patients; what is not in the run store is trained first."""
    from medrec.lab.compare import FIGURES, check
    from medrec.lab.compare import compare as compare_systems

    words: dict[str, Any] = {
        "seeds": seeds,
        "split_seed": _split_seed(split_seed),
        "settings": _pairs(settings),
        "task": task,
        "threshold": threshold,
        "protocol": protocol,
        "ddi": ddi,
        "device": device,
    }
    check(models, **words)  # a misspelt word should not wait for the tables
    checked_output("--csv", csv)
    checked_output("--plot", plot, FIGURES)
    found = compare_systems(models, _load(cohort, option), **words)
    print(found.text())
    if csv is not None:
        print(found.write_csv(csv))
    if plot is not None:
        print(found.write_plot(plot))


@app.command(cls=ListCommand)
def recommend(
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of a run, as `medrec train` prints it; default: LR on synthetic records."),
    ] = None,
    diagnoses: Annotated[list[str], typer.Option(metavar="CODE...", help="Codes of the visit, e.g. 428.0 584.9.")] = [],
    procedures: Annotated[list[str], typer.Option(metavar="CODE...", help="Codes of the visit, e.g. 96.71.")] = [],
    symptoms: Annotated[list[str], typer.Option(metavar="CODE...", help="Codes of the visit.")] = [],
    history: Annotated[
        Path | None,
        typer.Option(help="JSON file with earlier visits, oldest first; medications as ATC codes or names of drugs."),
    ] = None,
    ddi: Interactions = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse unknown codes instead of leaving them out.")] = False,
    new: Annotated[
        list[str],
        typer.Option(metavar="CLASS...", help="Classes that were never in training, to be scored by their text."),
    ] = [],
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="[FILE]", help="File for the medications; without a name print them as CSV.")
    ] = None,
) -> None:
    """Ask a trained system what to prescribe at a visit."""
    import json

    from medrec.folders import notice
    from medrec.inference import read_history
    from medrec.inference import recommend as ask

    printed = csv == Path("-")
    if as_json and printed:
        raise MedrecError("--json and --csv both print the answer: give one of them, or --csv FILE.")
    answer = ask(
        run,
        diagnoses=diagnoses,
        procedures=procedures,
        symptoms=symptoms,
        history=read_history(history) if history else [],
        ddi=ddi,
        strict=strict,
        new=new,
    )
    _warn_of_older_code(answer.run)
    written = None if csv is None or printed else answer.write_csv(csv)
    if printed:
        for line in _left_out(answer):
            notice(line)
        print(answer.frame().write_csv(), end="")
    elif as_json:
        print(json.dumps(answer.plain(), indent=1))
    else:
        print(_recommended(answer))
        if written is not None:
            print(written)


@app.command()
def tune(
    systems: Annotated[
        list[str],
        typer.Argument(
            metavar="SYSTEM...", help="`medrec systems` lists them; one of your own: package.module:SYSTEM; everything."
        ),
    ],
    cohort: CohortName = "synthetic",
    variant: Annotated[str, typer.Option(help="Whose switches stay as they are.")] = "paper",
    trials: Annotated[int, typer.Option(help="Settings to begin with; the first is the declared one.")] = 12,
    steps: Annotated[
        int | None, typer.Option(help="Optimiser steps of those that get to the end. [default: 4000, rankers 1000]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draw and of every training.")] = 0,
    option: Options = [],
    device: Device = "cpu",
) -> None:
    """Search the settings of systems on validation patients; resumable, and every trial is kept."""
    from medrec.lab.tune import check, named, text
    from medrec.lab.tune import tune as search

    words: dict[str, Any] = {"variant": variant, "trials": trials, "steps": steps, "seed": seed, "device": device}
    asked = named(systems)
    for system in asked:
        check(system, **words)  # a misspelt word should not wait for the tables
    records = _load(cohort, option)
    for system in asked:
        print(text(search(system, records, **words)))


@app.command()
def sweep(
    grids: Annotated[
        list[str],
        typer.Argument(metavar="GRID...", help="Names, e.g. bimorec-table2 retain, YAML files, or everything."),
    ],
    cohort: Annotated[
        str | None, typer.Option(help="Default: the one that a file asks for, otherwise synthetic.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds 0, 1, ... of each network.")] = 1,
    split_seed: Annotated[int, typer.Option(help="Seed of the split; negative: file order.")] = 0,
    settings: Annotated[
        list[str],
        typer.Option("--set", metavar="[SYSTEM.]KEY=VALUE", help="For all rows that do not set it themselves."),
    ] = [],
    tuned: Annotated[
        bool, typer.Option("--tuned", help="With the settings that `medrec tune` found on this cohort, where it did.")
    ] = False,
    ddi: Interactions = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at once.")] = 1,
    device: Device = "cpu",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is missing and how long it will take.")] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="Print each training as one line of JSON, and train none.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Write the rows of grids of the book in the end, as chapters show them.")
    ] = False,
) -> None:
    """Train every row of grids as far as the run store lacks it; nothing else is written unless --keep is given."""
    from medrec.lab import sweep as room

    checked_device(device)
    split = _split_seed(split_seed)
    if keep:
        room.check_keeping(grids, split_seed=split, settings=_pairs(settings), ddi=ddi)
    if tuned and cohort is None:
        raise MedrecError("Settings were searched on one cohort. Say which with --cohort.")
    searched = room.searched(grids, str(cohort)) if tuned else {}
    wanted = room.trainings(
        grids, cohort, seeds=seeds, split_seed=split, settings=_pairs(settings), ddi=ddi, searched=searched
    )
    entries = room.look(wanted)
    if list_:
        print(room.listing(entries))
        return
    if tuned:
        print(f"Settings searched on {cohort}: {', '.join(searched) or 'none; `medrec tune SYSTEM` makes them'}.")
    print(room.summary(entries, jobs))
    if dry_run:
        return
    outcomes = room.carry_out(entries, jobs=jobs, device=device)
    failed = room.failures(outcomes)
    for line in failed:
        print(line)
    if failed:
        raise MedrecError(f"{len(failed)} of {len(outcomes)} trainings failed; the reasons stand above.")
    if keep:
        for folder in room.keep_rows(wanted, seeds, device=device, searched=searched):
            print(folder)


@app.command()
def runs(
    stale: Annotated[bool, typer.Option("--stale", help="Only those that today's code would train anew.")] = False,
) -> None:
    """List what is in the run store, and which of it today's code would make the same."""
    from medrec.lab.store import overview, text

    print(text(overview(stale=stale)))


@app.command(cls=PairCommand)
def chapter(
    which: Annotated[str, typer.Argument(help="Number, topic or name, e.g. 02; or path of a source.")],
    parameter: Annotated[
        list[str], typer.Option("-p", "--parameter", metavar="NAME VALUE", help="Parameter that differs.")
    ] = [],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="File to write, ending in .ipynb; default: in the book, or beside a source of yours."
        ),
    ] = None,
    parameters: Annotated[bool, typer.Option("--parameters", help="List what it takes, and execute nothing.")] = False,
) -> None:
    """Execute one chapter; beside the notebook lies a page to read, one HTML file."""
    if parameters:
        from medrec.book.chapters import find_chapter, parameters_of, read_chapter

        declared = parameters_of(read_chapter(find_chapter(which))).values()
        rows = [[found.name, found.type, repr(found.default), found.help] for found in declared]
        print(_aligned([["parameter", "type", "default", "meaning"], *rows]))
        return
    from medrec.book.one_page import write_page
    from medrec.book.runner import run_chapter

    try:
        notebook = run_chapter(which, _pairs(parameter, "-p"), output)
    except KeyboardInterrupt:
        raise Interrupted(
            f"chapter {which}: interrupted. No page is written; what it has trained is kept for the next time."
        ) from None
    print(notebook)
    if page := write_page(notebook):
        print(page)


@app.command()
def systems(
    name: Annotated[
        str | None, typer.Argument(help="One of them, or package.module:SYSTEM; default: list all.")
    ] = None,
) -> None:
    """List all systems; of one its settings with their sources."""
    from medrec.models import registry

    if name is None:
        rows = [["name", "system", "task", "family", "variants", "sees"]]
        for system in registry.systems():
            first, more = list(system.variants)[:2], len(system.variants) - 2
            variants = ", ".join([*first, f"{more} more"] if more > 0 else first)
            rows.append([system.name, system.label, system.task, system.family, variants, system.sees])
        print(_aligned(rows))
    else:
        _print_system(name)


@app.command()
def cohorts() -> None:
    """List all cohorts by name, and where each comes from."""
    from medrec.data.load import known_cohorts

    rows = [["cohort", "records", "at hand", "where"]]
    for found in known_cohorts():
        rows.append([found.name, found.source, "yes" if found.at_hand else "no", found.where])
    print(_aligned(rows))


@kept.callback()
def kept_or_list(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_kept()


@kept.command("list")
def list_kept() -> None:
    """List what is kept, and whether today's code would make the same."""
    from medrec.lab.kept import all_kept

    rows = [[found.name, found.status] for found in all_kept()]
    if not rows:
        raise MedrecError("Nothing is kept here. Kept results stand in results/ of a checkout.")
    print(_aligned([["kept", "status"], *rows]))


@kept.command()
def verify(
    name: Annotated[str, typer.Argument(help="A kept grid, e.g. grids/retain/synthetic.")],
    row: Annotated[str | None, typer.Option(help="Key of the row; default: the one that took least time.")] = None,
    device: Device = "cpu",
) -> None:
    """Train one kept row again, and compare."""
    from medrec.lab.verify import verify as train_again

    found = train_again(name, row, device=device)
    lines = [["row", *found.columns[1:-1], ""]]
    for key, place, metric, was, now, same in found.iter_rows():
        numbers = ["-" if x is None else f"{x:.6f}" for x in (was, now)]
        lines.append([key, place, metric, *numbers, "same" if same else "differs"])
    print(_aligned(lines))
    differing = int((~found["same"]).sum())
    if differing:
        raise MedrecError(
            f"{differing} of {len(found)} numbers of {name} differ; `medrec kept` says whether older code made them."
        )


@kept.command("lock")
def lock_behaviour() -> None:
    """Write down anew what every system does on the toy cohort; on purpose, when it was meant to change."""
    from medrec.lab import behaviour

    before = behaviour.locked()
    print(behaviour.lock())
    changed = behaviour.changed(before, behaviour.locked())
    print(f"{len(changed)} of {len(behaviour.locked())} entries changed{': ' * bool(changed)}{', '.join(changed)}")


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
    name: Annotated[str | None, typer.Option(help="Name of the cohort: then `--cohort NAME` takes it.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same records.")] = 0,
    layout: Annotated[Literal["mimic3", "mimic4", "eicu"], typer.Option(help="Of the tables.")] = "mimic3",
    history: Annotated[float, typer.Option(help="0: the past tells nothing.")] = KNOBS["history"],
    structure: Annotated[float, typer.Option(help="1: preferences follow molecules.")] = KNOBS["structure"],
    text: Annotated[float, typer.Option(help="0: titles are permuted.")] = KNOBS["text"],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write.")] = None,
) -> None:
    """Write raw tables of invented patients as a cohort, which stays synthetic, and print how to load it."""
    from medrec.data.load import FORMER, NAMES, name_synthetic
    from medrec.data.synthetic import synthesize as draw
    from medrec.paths import data_dir

    form: Any = layout
    knobs: Any = {"history": history, "structure": structure, "text": text}
    if name is not None and output is not None:
        raise MedrecError("--name puts the tables into the data folder, --output somewhere else: give one of them.")
    if output is None:
        # A name that says how they were drawn, for who gives none.
        changed = [f"{knob}{value:g}".replace(".", "_") for knob, value in knobs.items() if value != KNOBS[knob]]
        name = name or "-".join(["synthetic", layout, str(patients), f"seed{seed}", *changed])
        folder = name_synthetic(name, patients, seed=seed, layout=form, **knobs)
    else:
        folder = draw(patients, seed, **knobs).write(output, layout=form).absolute()
    print(folder)
    where = "" if folder.parent == data_dir().absolute() else f"MEDREC_DATA_DIR={shlex.quote(str(folder.parent))} "
    if folder.name in (*NAMES, *FORMER):
        print(f"Rename the folder: the name {folder.name!r} means other records, so that these cannot be loaded by it.")
    else:
        print(f"Load it with `{where}medrec data describe {shlex.quote(folder.name)}`, or `--cohort` elsewhere.")


@data.command()
def calibrate() -> None:
    """Put the generator beside the open demos, like for like; print and keep the table."""
    from medrec.experiments.calibration import main

    main()


@data.command()
def describe(
    name: Annotated[str, typer.Argument(help="A cohort, e.g. mimic4-demo.")],
    option: Options = [],
) -> None:
    """Print a cohort's numbers and what each processing step kept and dropped."""
    _describe(_load(name, option))


@graph.command("export")
def export_graph(
    folder: Annotated[Path, typer.Argument(help="A new folder; of closed records outside any checkout.")],
    cohort: CohortName = "synthetic",
    form: FileFormat = "kgin",
    construction: Annotated[
        str, typer.Option(help="Of the graph: house, about medications; study, the third paper's, about patients.")
    ] = "house",
    protocol: Annotated[str | None, typer.Option(help='house, hold-out or "new medications"; default: house.')] = None,
    split_seed: Annotated[int, typer.Option(help="Seed of the split; negative: file order.")] = 0,
    ddi: Interactions = None,
    option: Options = [],
) -> None:
    """Write interactions and knowledge graph of a cohort, as the ranking task makes them, for other code."""
    from medrec.lab.exchange import check, check_place, contents, export

    rules: Any = {
        "construction": construction,
        "protocol": protocol,
        "split_seed": _split_seed(split_seed),
        "ddi": ddi,
    }
    check(form=form, **rules)  # a misspelt word should not wait for the tables
    check_place(folder)
    kind: Any = form
    written = export(folder, _load(cohort, option), kind, **rules)
    print(_counted(contents(written, kind)))
    print(written)


@graph.command("check")
def check_graph(
    folder: Annotated[Path, typer.Argument(help="Folder with the files; RecBole's bear its name.")],
    form: FileFormat = "kgin",
) -> None:
    """Say what is in files of a graph, or where the first mistake stands."""
    from medrec.lab.exchange import contents

    kind: Any = form
    print(_counted(contents(folder, kind)))


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


def _split_seed(number: int) -> int | None:
    """Negative: file order."""
    return None if number < 0 else number


def _load(name: str, options: list[str]) -> Cohort:
    import yaml

    from medrec.data import load_cohort

    # Values as YAML reads them: 0.5 is a number, true a truth value, anything else text.
    chosen = {}
    for key, text in _pairs(options, "--option").items():
        try:
            chosen[key] = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):
            raise MedrecError(f"--option {key}={text}: {text!r} cannot be read. Put it in quotes.") from None
    return load_cohort(name, **chosen)


def _source(cohort: dict[str, Any]) -> str:
    kind = {"synthetic": "invented patients", "demo": "an open demo", "credentialed": "credentialed records"}
    return f"cohort {cohort['name']} ({cohort['source']}: {kind[cohort['source']]})"


def _recommended(answer: Recommendation) -> str:
    lines = []
    for code, title, probability in answer.medications.iter_rows():
        lines.append(f"{code:6} {'' if probability is None else f'{probability:.3f}':>6}  {title}")
        if answer.reasons is not None:
            for kind, group in answer.reasons.filter(medication=code).group_by("kind", maintain_order=True):
                shown = [
                    f"{what} {weight:.2f}" for what, weight in group.head(REASONS_SHOWN)["what", "weight"].iter_rows()
                ]
                lines.append(f"{'':15}{kind[0]}: {', '.join(shown)}")
    at = f" at threshold {answer.threshold:.2f}, tuned on validation patients" if answer.threshold is not None else ""
    lines.append(f"{len(answer.medications)} medications{at}. {answer.note}")
    lines += [
        f"Never in training: {code} {title}, probability {probability:.3f}, place {place} of all."
        for code, title, probability, place in answer.new.iter_rows()
    ]
    lines += [_asked(answer), *_left_out(answer)]
    pairs = [f"{a} with {b}" for a, b in answer.interactions.head(PAIRS_SHOWN).iter_rows()]
    more = ", ..." if len(answer.interactions) > PAIRS_SHOWN else ""
    lines.append(f"Interacting pairs by {answer.ddi}, {len(answer.interactions)}: {', '.join(pairs) or 'none'}{more}")
    lines.append(f"Trained on {_source(answer.run.config['cohort'])}. For study, not for treating patients.")
    return "\n".join(lines)


def _asked(answer: Recommendation) -> str:
    """How much of what was said of the patient the answer rests on."""
    import polars as pl

    from medrec.inference import FIELDS

    counted = []
    for visits in (pl.col("visit") == 0, pl.col("visit") > 0):
        found = dict(answer.understood.filter(visits).group_by("kind").len().iter_rows())
        words = [
            f"{found[kind]} {kind if found[kind] == 1 else name}" for name, kind in FIELDS.items() if kind in found
        ]
        counted.append(", ".join(words))
    earlier = answer.understood.filter(pl.col("visit") > 0)["visit"].n_unique()
    past = f"{earlier} earlier visit{'s' * (earlier > 1)} with {counted[1]}" if earlier else "no earlier visit"
    return f"It rests on {counted[0] or 'no codes'} of this visit, and on {past}."


def _left_out(answer: Recommendation) -> list[str]:
    return [f"Left out: {kind} {code}. {why}" for kind, code, why in answer.left_out.iter_rows()]


def _warn_of_older_code(run: Run) -> None:
    from medrec.folders import notice

    if changed := run.changed_code:
        notice(f"the run {run.key} was made by older code; changed since: {', '.join(changed)}.")


def _print_run(run: Run, protocol: Any = None) -> None:
    from medrec import tasks
    from medrec.lab.compare import table
    from medrec.models import registry
    from medrec.progress import bar
    from medrec.tasks.evaluation import bootstrap

    entry, task = registry.get(run.config["system"]), tasks.get(run.config["task"])
    columns, groups = task.MEASURES.columns, task.MEASURES.groups
    rules = task.house(run.config["sees"]) if protocol is None else protocol
    kind: Any = getattr(rules, "bootstrap", "house")
    rows: dict[str, Mapping[str, Interval]] = {}
    evaluation = run.evaluation(protocol=rules)
    for label, threshold in bar(_cuts(run, rules, named=protocol is not None).items(), desc="intervals", unit="row"):
        rows[label] = bootstrap(run.evaluation(threshold, rules), kind=kind)
    if len(groups) > 1:
        for group in bar(groups, desc="intervals of groups", unit="row"):
            if (evaluation.per_patient["group"] == group).any():
                rows[f"  {group} visits"] = bootstrap(evaluation, groups=(group,), kind=kind)
    counts = evaluation.summary()
    print(f"{entry.label} on {_source(run.config['cohort'])}, seed {run.config['seed']}")
    print(table(rows, columns))
    field = "mean of ten rounds of 80 % of the patients, one standard deviation to each side"
    drawn = "95 % of 1000 bootstrap resamples of the patients" if kind == "house" else field
    print(
        f"{counts['patients']} test patients, {counts['visits']} visits. Brackets: {drawn}. "
        f"{entry.label} sees {entry.sees}."
    )
    if "ddi_rate" in columns:
        print(f"DDI rates by {run.config['context']['ddi']['source']}.")
    for reason, patients in run.metrics.get("left_out", {}).items():
        if patients:
            print(f"{patients} test patients are left out: {reason.replace('_', ' ')}.")
    if run.ending:
        print(run.ending)
    if run.warning:
        print(f"Careful: {run.warning}.")
    _warn_of_older_code(run)
    print(f"Run: {run.folder}")


def _cuts(run: Run, rules: Any, *, named: bool) -> dict[str, Any]:
    """Rows of a run's table: how they are called, and which threshold cuts; ``None``: that of the rules."""
    if named or run.config["task"] != "visits":
        return {f"protocol {rules.name}": None}
    if run.threshold is None:
        return {"no threshold": None}
    return {f"tuned threshold {run.threshold:.2f}": "tuned", f"own threshold {run.own_threshold:.2f}": "own"}


def _print_system(name: str) -> None:
    from medrec.models import registry
    from medrec.models.base import SMALL
    from medrec.models.settings import settings_of

    system = registry.get(name)
    print(f"{system.label} ({registry.name_of(system)}): {system.family}, task {system.task}")
    print(f"Sees {system.sees}.")
    if system.needs:
        print(f"Needs {', '.join(system.needs)} beside the records.")
    print(f"Source: {system.citation or 'no paper'}; equations and deviations: {system.module}")
    for variant, changes in system.variants.items():
        print(f"Variant {variant}: {', '.join(f'{k}={v}' for k, v in changes.items()) or 'the settings below'}")
    settings = settings_of(system)
    if not settings:
        print("It has no settings.")
        return
    rows = [["setting", "value", f"under {SMALL} patients", "takes", "where from"]]
    for setting in settings:
        small = "" if setting.small == setting.value else str(setting.small)
        rows.append([setting.name, str(setting.value), small, setting.takes, setting.source])
    print(_aligned(rows))


def _counted(rows: list[tuple[str, int]]) -> str:
    """What there is, and how many."""
    width = max(len(what) for what, _ in rows)
    return "\n".join(f"{what:{width}} {number:>10,}" for what, number in rows)


def _aligned(rows: list[list[str]]) -> str:
    """Columns of equal width but the last; the first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    )


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
