"""Rules for chapters and pages that a machine can check: ``python -m medrec.book.lint [FILE ...]``.

Each rule is a function from a chapter to complaints; a complaint names the file, the line and the remedy.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medrec import paths
from medrec.book.chapters import WORDS, all_chapters, find_chapter, parameters_of, read_chapter, tags
from medrec.book.own_rows import rows_of
from medrec.lab.rows import grid_names
from medrec.plotting import LOOKS
from medrec.types import MedrecError

ALLOWED_TAGS = {"parameters", "hide-input", "remove-cell", "remove-input", "hide-output", "raises-exception"}
REQUIRED_PARAMETERS = {"seed": "int", "cohort": "str", "device": "str", "profile": "str"}
MAX_PARAMETERS = 8
MAX_DEFINITION = 15
MAX_WARNINGS = 3
MAX_LINE = 120
MAX_CODE = 88
MAX_WORDS = 3000
AUDIT = "The audit"
# Calls after which a cell shows a picture.
FIGURE_CALL = re.compile(r"\b(plt\.(subplots|figure|show)|sns\.\w+|plotting\.plot_\w+|plot_\w+)\(")
GLUE_ROLE = re.compile(r"\{glue:\w+\}`([\w-]+)")
HEADING = re.compile(r"^(#{1,6}) (.+)$")
FENCE = re.compile(r"^\s*(`{3,}|~{3,}|:{3,})")
BULLET = re.compile(r"^[-*] ")
# Cells whose code is not on the page.
LEFT_OUT = {"remove-cell", "remove-input"}
MAGIC = re.compile(r"^(\s*)[%!].*$")
# Words that make light of a reader's trouble.
SLIGHTING = re.compile(r"\b(obviously|simply|trivially|of course|needless to say)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Complaint:
    """One breach of one rule."""

    file: Path
    line: int
    text: str

    def __str__(self) -> str:
        name = self.file.relative_to(paths.base_dir()) if self.file.is_relative_to(paths.base_dir()) else self.file
        return f"{name}:{self.line}: {self.text}"


class Chapter:
    """A chapter's source as the rules look at it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.source = file.read_text(encoding="utf-8")
        self.notebook = read_chapter(file)
        self.code = [cell for cell in self.notebook.cells if cell.cell_type == "code"]
        self.markdown = [cell for cell in self.notebook.cells if cell.cell_type == "markdown"]

    def complaint(self, cell: Any, text: str, line: int = 0) -> Complaint:
        """A complaint at a line of a cell, counted from 0."""
        if cell is None:
            return Complaint(self.file, 1, text)
        shown = (
            cell.source if cell.cell_type == "code" else "\n".join(f"# {x}".rstrip() for x in cell.source.split("\n"))
        )
        at = max(self.source.find(shown), 0)
        return Complaint(self.file, self.source.count("\n", 0, at) + 1 + line, text)

    @cached_property
    def headings(self) -> list[tuple[int, str, Any, int]]:
        """Level, words, cell and line of each heading outside fenced blocks."""
        found = []
        for cell in self.markdown:
            for number, line in enumerate(_outside_fences(cell.source)):
                if match := HEADING.match(line):
                    found.append((len(match[1]), match[2].strip(), cell, number))
        return found

    def bullets_under(self, heading: str) -> int:
        """Number of top-level bullets between a heading and the next one."""
        count, inside = 0, False
        for cell in self.markdown:
            for line in _outside_fences(cell.source):
                if match := HEADING.match(line):
                    inside = match[2].strip() == heading
                elif inside and BULLET.match(line):
                    count += 1
        return count

    def tree(self, cell: Any) -> ast.Module | None:
        """Syntax tree of a code cell, or None where it holds magics or a mistake."""
        try:
            return ast.parse(cell.source)
        except SyntaxError:
            return None


def _outside_fences(text: str) -> Iterator[str]:
    """Lines of a Markdown text; those inside a fenced block come as empty ones, so that line numbers stay."""
    fence = ""
    for line in text.split("\n"):
        match = FENCE.match(line)
        if not fence and match:
            fence = match[1]
            yield ""
        elif fence:
            if match and match[1].startswith(fence):
                fence = ""
            yield ""
        else:
            yield line


def _outside_code(lines: list[str]) -> Iterator[str]:
    """The lines with those of code blocks emptied; boxes like ``{exercise}`` are prose and stay."""
    open_fences: list[tuple[str, bool]] = []  # the fence, and whether code is inside
    for line in lines:
        match = FENCE.match(line)
        if match and open_fences and match[1].startswith(open_fences[-1][0]) and line.strip() == match[1]:
            open_fences.pop()
            yield ""
        elif match and not any(code for _, code in open_fences):
            open_fences.append((match[1], "{" not in line))
            yield ""
        else:
            yield "" if any(code for _, code in open_fences) else line


# -- rules ----------------------------------------------------------------------------------------------------------


def parameters_are_declared(chapter: Chapter) -> Iterator[Complaint]:
    """One parameters cell, the four names that every chapter has, at most eight, each with a comment."""
    try:
        parameters = parameters_of(chapter.notebook)
    except MedrecError as error:
        yield chapter.complaint(None, str(error))
        return
    (cell,) = [cell for cell in chapter.code if "parameters" in tags(cell)]
    for name, kind in REQUIRED_PARAMETERS.items():
        if name not in parameters or parameters[name].type != kind:
            yield chapter.complaint(cell, f"the parameters cell lacks `{name}: {kind} = ...  # comment`")
    if len(parameters) > MAX_PARAMETERS:
        yield chapter.complaint(cell, f"{len(parameters)} parameters; at most {MAX_PARAMETERS} can be overlooked")
    for parameter in parameters.values():
        if not parameter.help:
            yield chapter.complaint(cell, f"parameter {parameter.name} has no comment that says what it is")


def tags_are_known(chapter: Chapter) -> Iterator[Complaint]:
    """A misspelt tag does nothing and says nothing."""
    for cell in chapter.notebook.cells:
        for tag in tags(cell):
            if tag not in ALLOWED_TAGS:
                yield chapter.complaint(cell, f"unknown tag {tag!r}; allowed are {', '.join(sorted(ALLOWED_TAGS))}")


def figures_have_text(chapter: Chapter) -> Iterator[Complaint]:
    """A figure says in words what it shows; a file or variable name is no description."""
    for cell in chapter.code:
        if "remove-cell" in tags(cell) or not FIGURE_CALL.search(cell.source):
            continue
        settings = cell.metadata.get("mystnb", {})
        alt = settings.get("image", {}).get("alt", "")
        if len(alt.split()) < 8:
            yield chapter.complaint(
                cell, "a figure needs alternative text, a line `#| alt: type, axes, finding` below the cell's header"
            )
        if not settings.get("figure", {}).get("caption"):
            yield chapter.complaint(
                cell, "a figure needs a caption, lines `#| name: fig-...` and `#| caption: ...` below the cell's header"
            )


def figures_are_handed_out(chapter: Chapter) -> Iterator[Complaint]:
    """A figure leaves by the guard's door: on closed records a chapter with any other is not written."""
    for cell in chapter.code:
        for number, line in enumerate(cell.source.splitlines()):
            if re.search(r"\bplt\.show\(", line):
                yield chapter.complaint(cell, "hand figures out with `show(fig)`, which asks the guard", number)


def headers_are_short(chapter: Chapter) -> Iterator[Complaint]:
    """Words stand below a cell's header, in lines that an editor shows whole."""
    for number, line in enumerate(chapter.source.split("\n")):
        if line.startswith(("# %%", WORDS)) and len(line) > MAX_LINE:
            yield Complaint(
                chapter.file,
                number + 1,
                f"{len(line)} characters; at most {MAX_LINE}, words below as `{WORDS} alt: ...`",
            )


def code_fits_its_column(chapter: Chapter) -> Iterator[Complaint]:
    """Code that is open on the page has lines that need no scrolling."""
    for cell in chapter.code:
        if not {"hide-input", *LEFT_OUT} & set(tags(cell)):
            for number, line in enumerate(cell.source.split("\n")):
                if len(line) > MAX_CODE:
                    yield chapter.complaint(cell, f"{len(line)} characters of code; at most {MAX_CODE}", number)


def headings_step_down(chapter: Chapter) -> Iterator[Complaint]:
    """One title, then one level at a time."""
    titles = [heading for heading in chapter.headings if heading[0] == 1]
    if len(titles) != 1 or chapter.headings[0][0] != 1:
        yield chapter.complaint(None, f"a chapter begins with its only title (# ...), and has {len(titles)}")
    for (above, *_), (level, words, cell, line) in zip(chapter.headings, chapter.headings[1:], strict=False):
        if level > above + 1:
            yield chapter.complaint(cell, f"heading {words!r} skips a level", line)


def parts_are_there(chapter: Chapter) -> Iterator[Complaint]:
    """Objectives, prerequisites, code, the card, a summary that mirrors the objectives, exercises, references."""
    first = chapter.markdown[0].source if chapter.markdown else ""
    box = re.search(r"```+\{admonition\} Objectives\n(.*?)```", first, re.DOTALL)
    if not box:
        yield chapter.complaint(None, "the first cell lacks the box ```{admonition} Objectives")
    for line in ("**Prerequisites.**", "**Code.**"):
        if line not in first:
            yield chapter.complaint(None, f"the first cell lacks the line {line}")
    if not any("page.at_a_glance(" in cell.source for cell in chapter.code):
        yield chapter.complaint(None, "the card is missing: call page.at_a_glance(...)")
    names = [words for _, words, *_ in chapter.headings]
    for name in ("Summary", "Exercises", "References"):
        if name not in names:
            yield chapter.complaint(None, f"the section {name!r} is missing")
    if box and "Summary" in names:
        objectives = sum(bool(BULLET.match(line)) for line in box[1].splitlines())
        bullets = chapter.bullets_under("Summary")
        if objectives != bullets:
            yield chapter.complaint(
                None, f"{objectives} objectives, but {bullets} bullets in the summary: they mirror each other"
            )


def ideas_are_short(chapter: Chapter) -> Iterator[Complaint]:
    """The idea comes first and is read in one sitting; what only an auditor wants stands below, under one heading."""
    words = 0
    for cell in chapter.markdown:
        for line in _outside_fences(cell.source):
            if (match := HEADING.match(line)) and match[2].strip() == AUDIT:
                if words > MAX_WORDS:
                    yield chapter.complaint(cell, f"{words} words before {AUDIT!r}; at most {MAX_WORDS} are read")
                return
            words += len(line.split())
    yield chapter.complaint(None, f"the section {AUDIT!r} is missing")


def imports_are_together(chapter: Chapter) -> Iterator[Complaint]:
    """All imports stand in one cell."""
    with_imports = [
        cell
        for cell in chapter.code
        if (tree := chapter.tree(cell))
        and any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree))
    ]
    for cell in with_imports[1:]:
        yield chapter.complaint(cell, "imports belong into the first cell that has any")


def definitions_are_short(chapter: Chapter) -> Iterator[Complaint]:
    """What is longer than a screenful is worth a test, and lives in the package."""
    for cell in chapter.code:
        for node in ast.walk(chapter.tree(cell) or ast.Module([], [])):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_DEFINITION:
                yield chapter.complaint(
                    cell,
                    f"{node.name} has {length} lines; over {MAX_DEFINITION} it belongs into medrec",
                    node.lineno - 1,
                )


def glued_names_exist(chapter: Chapter) -> Iterator[Complaint]:
    """Every ``{glue:...}`` role names something that ``page.glue`` makes on this page."""
    made: set[str] = set()
    for cell in chapter.code:
        for node in ast.walk(chapter.tree(cell) or ast.Module([], [])):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "page.glue":
                if any(keyword.arg is None for keyword in node.keywords):
                    return  # names made at run time: Sphinx will say which are missing
                made |= {keyword.arg for keyword in node.keywords if keyword.arg}
    texts = [(cell, cell.source) for cell in chapter.markdown]
    texts += [(cell, cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")) for cell in chapter.code]
    for cell, text in texts:
        for name in GLUE_ROLE.findall(text):
            if name not in made:
                yield chapter.complaint(cell, f"{{glue}} names {name!r}, which no page.glue(...) of this chapter makes")


def warnings_are_few(chapter: Chapter) -> Iterator[Complaint]:
    """A warning is for a mistake that people really make."""
    count = sum(cell.source.count("{warning}") for cell in chapter.markdown)
    if count > MAX_WARNINGS:
        yield chapter.complaint(None, f"{count} warnings; at most {MAX_WARNINGS} are read")


def places_are_asked(chapter: Chapter) -> Iterator[Complaint]:
    """No network, no home directory, no working directory: places come from ``medrec.paths``."""
    for cell in chapter.code:
        for number, line in enumerate(cell.source.splitlines()):
            if re.search(r"https?://|Path\.home\(|expanduser|os\.getcwd|Path\.cwd\(|urlopen|requests\.", line):
                yield chapter.complaint(
                    cell, "ask medrec.paths for places; a chapter reads no network and no home", number
                )


def rows_are_declared(chapter: Chapter) -> Iterator[Complaint]:
    """What a chapter reads of the reader's own rows, its header names; else ``profile full`` would not make them."""
    declared = rows_of(chapter.notebook)
    if bool(declared) != any(
        re.search(r"\b(grids|kept)\.look\b", cell.source) or ("default=" in cell.source and ".read(" in cell.source)
        for cell in chapter.code
    ):
        yield chapter.complaint(
            None, "kept rows that are read with a default, and `medrec: rows:` in the header differ"
        )
    for name in declared:
        if name not in grid_names() and not (paths.PACKAGE / "experiments" / f"{name}.py").is_file():
            yield chapter.complaint(None, f"`medrec: rows:` names {name!r}, which is no grid and no study")
        if not any(name in cell.source.lower() for cell in chapter.code):
            yield chapter.complaint(None, f"`medrec: rows:` names {name!r}, which no cell reads")


def shown_code_runs(chapter: Chapter) -> Iterator[Complaint]:
    """Visible and folded code alone, in order, without what pages leave out, uses no name that nothing above defines.

    Names are looked up by ruff, as in every other file; a name is complained of once, where it is used first.
    """
    shown = [cell for cell in chapter.code if not LEFT_OUT & set(tags(cell))]
    lines = [(cell, number, line) for cell in shown for number, line in enumerate(_python(chapter, cell))]
    known: set[str] = set()
    for name, row in _undefined("\n".join(line for *_, line in lines)):
        cell, number, _ = lines[row - 1]
        if name not in known:
            known.add(name)
            yield chapter.complaint(
                cell, f"{name} is defined in no cell above that readers see, and copied fails", number
            )


def _python(chapter: Chapter, cell: Any) -> list[str]:
    """Lines of a cell without magics; empty ones where it is no Python even so, which another check will tell."""
    lines: list[str] = cell.source.split("\n")
    if chapter.tree(cell):
        return lines
    plain = [MAGIC.sub(r"\1pass", line) for line in lines]
    try:
        ast.parse("\n".join(plain))
    except SyntaxError:
        return [""] * len(lines)
    return plain


def _undefined(text: str) -> list[tuple[str, int]]:
    """Undefined names in a text of Python, with their lines."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821", "-"]
    command += ["--output-format", "json", "--config", 'builtins=["display", "get_ipython"]']
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise MedrecError(f"ruff, which looks for undefined names, failed: {done.stderr.strip()}")
    return [(found["message"].split("`")[1], found["location"]["row"]) for found in json.loads(done.stdout)]


RULES: tuple[Callable[[Chapter], Iterator[Complaint]], ...] = (
    parameters_are_declared,
    tags_are_known,
    figures_have_text,
    figures_are_handed_out,
    headers_are_short,
    code_fits_its_column,
    headings_step_down,
    parts_are_there,
    ideas_are_short,
    imports_are_together,
    definitions_are_short,
    glued_names_exist,
    warnings_are_few,
    places_are_asked,
    rows_are_declared,
    shown_code_runs,
)


def words_are_right(file: Path, text: str) -> Iterator[Complaint]:
    """Systems are spelt as their papers spell them, and no word makes light of the reader's trouble.

    Looks at prose only: fenced code, inline code, roles, links and comments of the source stay out.
    """
    spelling = {look.label.lower(): look.label for look in LOOKS.values() if any(c.isupper() for c in look.label[1:])}
    pattern = re.compile(rf"(?<![\w/.-])({'|'.join(map(re.escape, spelling))})(?![\w/.-]*[\w/])", re.IGNORECASE)
    for number, line in enumerate(text.split("\n"), start=1):
        prose = re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+", "", line)
        for match in pattern.finditer(prose):
            if match[0] != spelling[match[0].lower()]:
                yield Complaint(file, number, f"the system is spelt {spelling[match[0].lower()]}, not {match[0]}")
        if slight := SLIGHTING.search(prose):
            yield Complaint(file, number, f"strike {slight[0]!r}")


def check_chapter(file: Path) -> list[Complaint]:
    """All complaints about one chapter."""
    chapter = Chapter(file)
    complaints = [complaint for rule in RULES for complaint in rule(chapter)]
    header = len(chapter.source.partition("\n# %%")[0].split("\n"))
    prose = [
        line[2:] if number >= header and line.startswith("#") and not line.startswith("# %%") else ""
        for number, line in enumerate(chapter.source.split("\n"))
    ]
    return complaints + list(words_are_right(file, "\n".join(_outside_code(prose))))


def check_page(file: Path) -> list[Complaint]:
    """All complaints about one Markdown page."""
    return list(words_are_right(file, "\n".join(_outside_code(file.read_text(encoding="utf-8").split("\n")))))


def main(files: list[str]) -> int:
    """Check the given chapters and pages, or all of them; print complaints and return the exit status."""
    base = paths.base_dir()
    try:
        chosen = [Path(file).resolve() if Path(file).exists() else find_chapter(file) for file in files]
    except MedrecError as error:
        print(error, file=sys.stderr)
        return 2
    chosen = chosen or [*all_chapters(), *sorted((base / "book").glob("*.md")), base / "README.md"]
    complaints = [c for file in chosen for c in (check_chapter(file) if file.suffix == ".py" else check_page(file))]
    for complaint in sorted(complaints, key=lambda c: (c.file, c.line)):
        print(complaint)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
