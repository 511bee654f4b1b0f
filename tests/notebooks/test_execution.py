"""Every chapter runs in the quick profile, and shows what a reader can use.

The book's own executed copies are taken where they are fresh, so that a chapter is executed once, whoever comes first.
"""

import gzip
import os
import re
import subprocess
import sys

import nbformat
import polars as pl
import pytest

from medrec.book import page
from medrec.book.chapters import all_chapters, find_chapter
from medrec.book.runner import book_copy, is_stale, refresh
from medrec.data import privacy
from tests.conftest import demo_dir

PICTURES = ("image/svg+xml", "image/png", "image/jpeg")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=all_chapters(), ids=lambda source: source.stem)
def executed(request):
    source = request.param
    if is_stale(source, {}):
        refresh(source, {}, book_copy(source))
    return nbformat.read(book_copy(source), as_version=4)


def outputs(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for output in cell.outputs:
                yield cell, output


def test_every_cell_has_run_without_error_or_complaint(executed):
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code" and cell.source.strip())
    for cell, output in outputs(executed):
        if "raises-exception" not in cell.metadata.get("tags", []):
            assert output.output_type != "error", cell.source
        assert output.get("name") != "stderr", output.get("text")


def test_every_picture_has_text(executed):
    """The rule of the lint looks at sources; this one at what really came out."""
    for cell, output in outputs(executed):
        shown = not {"remove-cell"} & set(cell.metadata.get("tags", []))
        if shown and any(kind in output.get("data", {}) for kind in PICTURES):
            assert cell.metadata.get("mystnb", {}).get("image", {}).get("alt"), cell.source


def test_the_card_is_on_the_page(executed):
    assert any("medrec-card" in output.get("data", {}).get("text/html", "") for _, output in outputs(executed))


@pytest.mark.parametrize(
    ("demo", "door"), [("mimic3-demo", "medrec chapter"), ("mimic4-demo", "papermill"), ("eicu-demo", "medrec chapter")]
)
def test_the_chapter_on_tables_runs_on_each_demo(demo, door, tmp_path):
    """The same source, other records: both doors lead to an executed notebook about that cohort."""
    output = tmp_path / "out.ipynb"
    commands = {
        "medrec chapter": ["medrec.cli", "chapter", "02", "-p", "cohort", demo, "--output", str(output)],
        "papermill": ["papermill", f"jupytext://{find_chapter('02')}", str(output), "-p", "cohort", demo],
    }
    done = subprocess.run(
        [sys.executable, "-m", *commands[door]],
        env={**os.environ, "MEDREC_DATA_DIR": str(demo_dir(demo).parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(output, as_version=4)
    assert any(f"{demo} (demo)" in str(output.get("data", {})) for _, output in outputs(notebook))


@pytest.fixture(scope="session")
def closed(tmp_path_factory):
    """Folder of open demos under the names of closed databases; that of eICU is thinned to people with most stays."""
    demo, folder = demo_dir("eicu-demo"), tmp_path_factory.mktemp("data")
    (folder / "eicu").mkdir()
    for file in demo.iterdir():
        if file.name != "patient.csv.gz":
            (folder / "eicu" / file.name).symlink_to(file)
    patients = pl.read_csv(demo / "patient.csv.gz", infer_schema=False)
    most = patients.group_by("uniquepid").len().sort("len", "uniquepid", descending=True).head(400)
    with gzip.open(folder / "eicu" / "patient.csv.gz", "wb") as file:
        patients.join(most, on="uniquepid", how="semi", maintain_order="left").write_csv(file)
    (folder / "mimic4").symlink_to(demo_dir("mimic4-demo"))
    return folder


def small_counts(notebook):
    """Numbers of 1 to 9 in columns that count patients, visits or orders: table, column, number."""
    for _, output in outputs(notebook):
        html = output.get("data", {}).get("text/html", "")
        for table in re.findall(r'<figure class="medrec-table-box".*?</table>', html, re.DOTALL):
            caption = re.search("<figcaption>(.*?)</figcaption>", table, re.DOTALL)[1]
            names = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', table)
            for row in re.findall("<tr>(.*?)</tr>", table, re.DOTALL)[1:]:
                cells = re.findall(r'<t[hd]( scope="row")?( class="number")?>(.*?)</t[hd]>', row)
                for name, (_, number, cell) in zip(names, cells, strict=True):
                    if number and privacy._COUNTED.search(name) and re.fullmatch("[1-9]", cell):
                        yield caption, name, cell


def test_small_counts_are_found():
    table = page.table(pl.DataFrame({"step": ["a", "b"], "dropped": [7, 70], "classes": [3, 4]}), caption="x")
    cell = nbformat.v4.new_code_cell(
        "x", outputs=[nbformat.v4.new_output("display_data", {"text/html": table._repr_html_()})]
    )
    assert list(small_counts(nbformat.v4.new_notebook(cells=[cell]))) == [("x", "dropped", "7")]


OTHER_DATABASE = ("02_from_tables_to_visits",)
"""Chapters whose ledgers and tables of orders have other entries for MIMIC-IV."""
COUNTING = ("02_from_tables_to_visits", "25_your_own_data")
"""Chapters that count patients, visits and orders of their cohort; the others are tried where time is no matter."""
TRIED = [source.stem for source in all_chapters() if "MEDREC_CLOSED_CHAPTERS" in os.environ] or COUNTING


@pytest.mark.parametrize(
    ("chapter", "cohort"),
    [*((chapter, "eicu") for chapter in TRIED), *((chapter, "mimic4") for chapter in OTHER_DATABASE)],
)
def test_a_chapter_passes_the_guard_on_closed_records(chapter, cohort, closed, tmp_path):
    """An open demo under the name of a closed database: the chapter is written, and no count under ten is in it.

    ``MEDREC_CLOSED_CHAPTERS=all`` tries every chapter, which takes ten minutes.
    """
    output = tmp_path / "out.ipynb"
    done = subprocess.run(
        [sys.executable, "-m", "medrec.cli", "chapter", chapter, "-p", "cohort", cohort, "--output", str(output)],
        env={**os.environ, "MEDREC_DATA_DIR": str(closed)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(output, as_version=4)
    assert any(f"{cohort} (credentialed)" in str(output.get("data", {})) for _, output in outputs(notebook))
    assert list(small_counts(notebook)) == []
