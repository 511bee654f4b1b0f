"""Generated pages: what they name is there, what is missing is said, and they follow what they are made of."""

import inspect
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from sphinx.errors import ExtensionError

from medrec import paths
from medrec.book import generated
from medrec.book.generated import equations, status, systems, tree
from medrec.lab import kept, published
from medrec.lab.grids import Grid
from medrec.models import registry

ROOT = paths.base_dir()


# -- blocks ------------------------------------------------------------------------------------------------------------


def test_a_block_gives_way_to_what_is_made_and_other_text_stays(monkeypatch):
    monkeypatch.setattr(equations, "tables", lambda: "| made |\n")
    assert generated.expand("# A\n\n```{generated} equations\n```\n\nB\n") == "# A\n\n| made |\n\nB\n"
    other = "# A\n\n```python\nx = 1\n```\n"
    assert generated.expand(other) == other


def test_a_word_under_which_nothing_is_made_stops_the_build_with_the_name_of_the_page():
    with pytest.raises(
        ExtensionError, match=r"systems: Nothing is generated under the word 'sytems'. There are systems"
    ):
        generated.replace_blocks(None, "systems", ["```{generated} sytems\n```"])


def test_every_maker_is_asked_for_once_on_a_page_of_the_book():
    pages = {page.stem: page.read_text(encoding="utf-8") for page in (ROOT / "book").glob("*.md")}
    words = [word for text in pages.values() for word in generated.BLOCK.findall(text)]
    assert sorted(words) == sorted(generated.MAKERS)
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    asking = [name for name, text in pages.items() if generated.BLOCK.search(text)]
    assert all(f"file: {name}\n" in toc or f"root: {name}\n" in toc for name in asking)


def test_tables_keep_their_cells_apart():
    assert generated.table(["a", "b"], [["x | y", ""]]).splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| x \\| y | – |",
    ]


def test_generated_pages_are_read_again_when_results_change_and_not_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "results_dir", lambda: tmp_path)
    texts = {
        "status": "```{generated} chapters\n```\n",
        "index": "# Index\n",
        "notebook": "```{generated} chapters\n```\n",
    }
    files = {name: tmp_path / "pages" / f"{name}{'.ipynb' if name == 'notebook' else '.md'}" for name in texts}
    (tmp_path / "pages").mkdir()
    for name, file in files.items():
        file.write_text(texts[name])
    env = SimpleNamespace(found_docs=set(files), doc2path=lambda name: str(files[name]))
    assert generated.outdated(None, env, set(), set(), set()) == ["status"]
    assert generated.outdated(None, env, set(), set(), set()) == []
    (tmp_path / "provenance.json").write_text("{}")
    assert generated.outdated(None, env, set(), set(), set()) == ["status"]


# -- equations ---------------------------------------------------------------------------------------------------------

INDEX = equations.index()
NUMBERS = {"BiMoRec": 32, "NLA-MMR": 17, "DiffKG on MIMIC": 4, "DiffKG": 5}
"""Of equations, counted in print; those of DiffKG in the docstring of its module."""
OWN = {
    "BiMoRec": ("medrec.models.bimorec", "medrec.models.bimorec_pretraining"),
    "NLA-MMR": ("medrec.models.nla_mmr",),
    "DiffKG on MIMIC": (),
    "DiffKG": ("medrec.models.diffkg",),
}
"""Modules in which a number without the name of a paper is one of this paper's."""
CITED = re.compile(
    r"(?P<whose>DiffKG on MIMIC|BiMoRec|NLA-MMR)?,? ?\(?\b(?:[Ee]qs?\.|equations?) "
    r"(?P<numbers>\d+(?:(?:-|, | and | to )\d+)*)|\\text\{\((?P<tag>\d+)\)\}"
)


def numbers_named(equation):
    """Numbers of its paper's equations that the docstrings of an object and of its module name."""
    module, found = equations.find(equation.where)
    own = module.__name__ in OWN[equation.paper]
    named = set()
    for text in (inspect.getdoc(found) or "", inspect.getdoc(module) or ""):
        for match in CITED.finditer(" ".join(text.split())):
            if match["whose"] == equation.paper or (own and not match["whose"]):
                for part in re.split(r", | and ", match["numbers"] or match["tag"]):
                    first, *last = re.split(r"-| to ", part)
                    named |= set(range(int(first), int(last[0] if last else first) + 1))
    return named


def ids(equation):
    return f"{equation.paper}-{equation.number}"


def test_every_numbered_equation_of_the_papers_is_in_the_index():
    for paper, count in NUMBERS.items():
        assert [e.number for e in INDEX if e.paper == paper] == list(range(1, count + 1)), paper
    assert {e.paper for e in INDEX} == set(NUMBERS) == set(equations.PAPERS)


@pytest.mark.parametrize("equation", [e for e in INDEX if e.where], ids=ids)
def test_the_code_of_an_equation_is_there_and_says_so(equation):
    assert equation.number in numbers_named(equation), "name the number in its docstring, or in that of its module"


@pytest.mark.parametrize("equation", [e for e in INDEX if e.test], ids=ids)
def test_the_test_of_an_equation_is_there_and_knows_its_code(equation):
    name, _, function = equation.test.partition("::")
    text = (ROOT / name).read_text(encoding="utf-8")
    assert re.search(rf"^ *def {re.escape(function.rpartition('::')[2])}\(", text, re.MULTILINE)
    # By its name, by that of its class, or by the name of the system in the registry.
    names = [part for part in equation.where.split(".") if part != "medrec"]
    assert any(part in text for part in (names[-1], names[-2]))


@pytest.mark.parametrize("equation", [e for e in INDEX if e.label], ids=ids)
def test_the_label_of_an_equation_stands_in_a_chapter_of_the_book(equation):
    assert equation.label in equations.chapter_of_label()
    chapter = equations.chapter_of_label()[equation.label]
    assert f"file: chapters/{chapter}\n" in (ROOT / "_toc.yml").read_text(encoding="utf-8")


def test_what_is_missing_is_listed(monkeypatch):
    whole = equations.Equation("BiMoRec", 1, "one", "medrec.losses.ddi_loss", "tests/test_losses.py::t", "eq-gvp", "")
    bare = equations.Equation("BiMoRec", 2, "two", "", "", "", "nobody wrote it")
    monkeypatch.setattr(equations, "index", lambda: [whole])
    assert equations.tables().endswith("## What is missing\n\nNothing.")
    monkeypatch.setattr(equations, "index", lambda: [whole, bare])
    text = equations.tables()
    assert text.endswith("- BiMoRec (2), two: no code, no test, no chapter: nobody wrote it.")
    assert "| (2) | two | missing | missing | missing | missing |" in text
    assert "{py:func}`ddi_loss <medrec.losses.ddi_loss>` | {doc}`5 <chapters/05_molecules_3d>` | {eq}`eq-gvp` |" in text


def test_an_object_that_is_gone_is_an_error():
    with pytest.raises(AttributeError):
        equations.find("medrec.losses.gone")
    assert equations.find("medrec.models.nla_mmr.NLAMMR.patients")[1].__name__ == "patients"


# -- systems -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table_of_systems():
    """Cells of each system, by its label."""
    _, _, head, _, *rows = systems.table().splitlines()[:-2]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    names = [cell.strip() for cell in head.split("|")[1:-1]]
    return {re.search("`(.+) <", row[0])[1]: dict(zip(names, row, strict=True)) for row in cells}


def test_every_system_has_a_row_with_what_it_declares(table_of_systems):
    assert list(table_of_systems) == [system.label for system in registry.systems()]
    for system in registry.systems():
        row = table_of_systems[system.label]
        assert row["Task"] == system.task
        assert row["Sees"] in system.sees
        assert (row["Budget"] == "–") == (system.seconds_per_epoch is None)
        assert (system.citation or "–") in row["Paper"]


def test_who_needs_a_past_leaves_first_visits_out(table_of_systems):
    for system in registry.systems("visits"):
        left_out = table_of_systems[system.label]["First visit"] == "left out: no past"
        assert left_out or not getattr(system.cls, "needs_history", False), system.label
    assert table_of_systems["RETAIN"]["First visit"] == "left out: no past"
    assert table_of_systems["LR"]["First visit"] == "scored, by today's codes"
    assert table_of_systems["popularity"]["First visit"] == "scored, the same for everybody"


def test_the_chapter_of_a_system_is_the_first_that_names_its_module():
    sources = {"11_a": "medrec.models.bimorec_pretraining", "12_b": "from medrec.models.bimorec import x", "14_c": ""}
    assert systems.chapter_of(registry.get("bimorec"), sources) == "12_b"
    assert systems.chapter_of(registry.get("lr"), sources) is None


def test_every_system_that_a_paper_of_the_book_prints_is_ours():
    printed = {name for paper, number in systems.COMPARISONS for name in published.table(paper, number)["system"]}
    assert printed <= {system.label for system in registry.systems() if systems.comparing(system)}


def test_lines_of_formulas_are_counted():
    text = "A.\n\n.. math::\n    a &= b \\\\\n    c &= d\n\nWords \\\\\n\n.. math:: e = f\n\nEnd."
    assert systems._lines_of_formulas(text) == 3


def grid(**cost):
    known = {"key": "a", "label": "A", "parameters": 3, "seconds_per_epoch": 1.0} | cost
    scores = pl.DataFrame({"key": ["a"], "threshold": ["tuned"], "patients": [7]})
    return Grid("toy", "synthetic", scores, pl.DataFrame([known]), {"cohort": {"source": "synthetic"}})


@pytest.mark.parametrize(
    ("cost", "trained"),
    [
        ({}, "not recorded"),
        ({"converged": True, "degenerate": None}, "yes"),
        ({"converged": False, "degenerate": None}, "no: A's training had not converged"),
        ({"converged": True, "degenerate": "one list for all"}, "no: A says one list for all"),
    ],
)
def test_a_row_is_trained_or_says_why_not(cost, trained):
    row = systems._kept_row(grid(**cost), "a")
    assert (row.trained, row.patients, row.status) == (trained, 7, kept.CURRENT)
    assert systems._kept_row(grid(), "b") is None


# -- the tree ----------------------------------------------------------------------------------------------------------


def test_the_tree_shows_every_system_once_and_says_it_in_words():
    drawing = ElementTree.fromstring(re.search(r"<svg.*</svg>", tree.figure(), re.DOTALL)[0])
    space = "{http://www.w3.org/2000/svg}"
    labels = [text.text for text in drawing.iter(f"{space}text") if text.get("class") == "system"]
    assert sorted(labels) == sorted(system.label for system in registry.systems())
    assert len(list(drawing.iter(f"{space}circle"))) == len(labels)
    words = drawing.find(f"{space}desc").text
    assert all(re.search(rf"\b{re.escape(label)} (\d{{4}}|\(no paper\))", words) for label in labels)
    assert drawing.get("aria-labelledby").split() == [
        drawing.find(f"{space}{tag}").get("id") for tag in ("title", "desc")
    ]


def test_years_are_those_of_the_bibliography():
    found = tree.years()
    assert found["shang2019gamenet"] == 2019
    cited = {system.citation for system in registry.systems()} - {""}
    assert all(found[key] == int(re.search(r"\d{4}", key)[0]) for key in cited)
    for members in tree.lanes().values():
        assert [year or 0 for _, year in members] == sorted(year or 0 for _, year in members)


# -- status ------------------------------------------------------------------------------------------------------------


def cells(box):
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in box.splitlines() if row.startswith("| ")][2:]


def test_a_chapter_says_when_and_with_what_it_was_made(checkout):
    copy = checkout / "book" / "chapters" / "00_first.ipynb"
    copy.parent.mkdir()
    made = {
        "key": "0123",
        "parameters": {"seed": 3},
        "made": "2026-11-30",
        "versions": {"numpy": "2.4.6"},
        "modules": {},
        "files": {"results/gone.csv": "4567"},
        "databases": None,
    }
    metadata = {"medrec": made, "papermill": {"duration": 21.7}, "language_info": {"version": "3.11.7"}}
    copy.write_text(json.dumps({"metadata": metadata}))
    first, second = cells(status.chapters())
    assert first[0] == "0. {doc}`chapters/00_first`"
    assert first[1:6] == ["2026-11-30", "22", "cpu", "synthetic", "3"]
    assert first[6:] == ["Python 3.11.7, numpy 2.4.6", "`0123`", "changed: results/gone.csv"]
    assert second[:2] == ["1. {doc}`chapters/01_second_topic`", "not executed"]
    # A copy of before says less.
    del made["made"], made["versions"]
    copy.write_text(json.dumps({"metadata": metadata}))
    old = cells(status.chapters())[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", old[1])
    assert old[6] == "Python 3.11.7"


def test_kept_rows_come_with_their_command_and_closed_ones_not_at_all(monkeypatch):
    def rows(study, folder, status, cohort):
        about = {"command": f"medrec {study}", "made": "2026-11-30", "wall_seconds": 3.2, "device": "cpu"}
        found = kept.Kept(study, folder, about | {"cohort": cohort})
        found.__dict__["status"] = status
        return found

    synthetic = {"name": "synthetic", "source": "synthetic"}
    closed = {"name": "mimic3", "source": "credentialed"}
    monkeypatch.setattr(
        kept,
        "all_kept",
        lambda: iter(
            [
                rows("a", paths.results_dir() / "a", "current", synthetic),
                rows("b", paths.results_dir() / "b", "made by older code: fit", None),
                rows("c", Path("/elsewhere/kept/c"), "current", closed),
            ]
        ),
    )
    assert cells(status.kept_rows()) == [
        ["a", "synthetic", "current", "2026-11-30", "3", "cpu", "`medrec a`"],
        ["b", "–", "made by older code: fit", "2026-11-30", "3", "cpu", "`medrec b`"],
    ]
