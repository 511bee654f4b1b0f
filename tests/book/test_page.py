"""What chapters put on the page can be read, by people and by programs that read aloud."""

import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser
from types import SimpleNamespace

import nbformat
import numpy as np
import polars as pl
import pytest

from medrec.book import page
from medrec.book.runner import run_chapter
from medrec.chem.conformers import conformers
from medrec.paths import PACKAGE
from medrec.types import MedrecError
from tests.book.conftest import write_chapter

RECORDS = SimpleNamespace(name="synthetic", source="synthetic", n_patients=600, n_visits=1412)
FRAME = pl.DataFrame(
    {
        "system": ["LR", "RETAIN <paper>"],
        "Jaccard": [0.43215, None],
        "visits": [12345, 7],
        "classes": [["A02B", "C03C"], []],
        "learned": [True, False],
    }
)


def test_a_cohort_is_named_with_its_source_and_size():
    assert page.cohort_line(RECORDS) == "synthetic, 600 patients, 1\u202f412 visits"


class Cells(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.cells: list[tuple[str, str | None, str]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag in {"th", "td", "figcaption"}:
            self.cells.append((tag, dict(attrs).get("scope"), ""))

    def handle_data(self, data):
        if self.cells:
            tag, scope, text = self.cells[-1]
            self.cells[-1] = (tag, scope, text + data)


def test_a_table_has_a_caption_and_header_cells_for_columns_and_rows():
    cells = Cells(page.table(FRAME, caption="Two systems.", digits={"Jaccard": 2})._repr_html_()).cells
    assert cells[0] == ("figcaption", None, "Two systems.")
    assert cells[1:6] == [("th", "col", name) for name in FRAME.columns]
    row = [
        ("th", "row", "LR"),
        ("td", None, "0.43"),
        ("td", None, "12\u202f345"),
        ("td", None, "A02B, C03C"),
        ("td", None, "yes"),
    ]
    assert cells[6:11] == row
    assert [text for _, _, text in cells[11:]] == ["RETAIN <paper>", "–", "7", "", "no"]


def test_a_table_is_text_too():
    text = repr(page.table(FRAME, caption="Two systems."))
    assert text.splitlines()[0].split() == FRAME.columns
    assert "0.432" in text
    assert text.endswith("Two systems.")


def test_digits_of_a_column_that_is_not_there_are_a_mistake():
    with pytest.raises(ValueError, match="digits are given for 'jaccard', but the columns are system, Jaccard"):
        page.table(FRAME, caption="x", digits={"jaccard": 2})


def test_only_numbers_and_words_are_glued():
    with pytest.raises(TypeError, match="glue: frame is a DataFrame"):
        page.glue(frame=FRAME)


GLUING = """
# %% tags=["parameters"]
seed: int = 0  # x

# %%
import time

import numpy as np

from medrec.book import page

page.at_a_glance({"seed": seed}, paper="A paper", data="six patients", learned="nothing", full_run="a minute")

# %%
page.glue(share=np.float64(0.5), many=np.int64(3), word="two words")

# %%
time.sleep(1.5)
"""


@pytest.fixture
def executed(checkout):
    write_chapter(checkout, "02_gluing", GLUING)
    return nbformat.read(run_chapter("2", progress=False), as_version=4)


def test_glued_numpy_numbers_are_numbers_in_prose(executed):
    outputs = [output for output in executed.cells[2].outputs if "scrapbook" in output.metadata]
    glued = {output.metadata["scrapbook"]["name"]: next(iter(output.data.values())) for output in outputs}
    assert glued == {"share": "0.5", "many": "3", "word": "'two words'"}


def test_the_card_is_shown_once_and_ends_with_the_duration_of_the_chapter(executed):
    shown = [
        o.data["text/plain"] for cell in executed.cells[1:] for o in cell.outputs if "text/html" in o.get("data", {})
    ]
    assert len(shown) == 1
    assert shown[0].startswith("Paper: A paper\nRecords: six patients\n")
    assert "seed = 0; medrec" in shown[0]
    seconds = int(shown[0].split(" s from the start of the kernel")[0].split()[-1])
    # The last cell alone takes a second and a half.
    assert seconds >= 2


def test_numpy_is_named_with_its_version():
    card = page.at_a_glance({}, paper="x", data="x", learned="x", full_run="x")
    assert f"NumPy {np.__version__}" in repr(card)


# -- molecules to turn -------------------------------------------------------------------------------------------------


def test_a_molecule_to_turn_is_told_in_words_and_carries_its_poses():
    found = conformers(["CCO"], n=2)[0]
    shown = page.molecule3d(found, name="Ethanol & water", note="Look at the oxygen.")
    assert repr(shown) == "Ethanol & water, 3 heavy atoms, 2 conformers. Look at the oxygen."
    assert len(shown.poses) == 2
    assert all(pose.count("V2000") == 1 and pose.rstrip().endswith("M  END") for pose in shown.poses)
    html = shown._repr_html_()
    assert "Ethanol &amp; water, 3 heavy atoms" in html
    (poses,) = re.findall(r'data-poses="([^"]*)"', html)
    assert json.loads(unescape(poses)) == list(shown.poses)
    assert "<script" not in html, "the page loads the viewer once, however many molecules it shows"
    assert "<button" in html
    assert "<button" not in page.molecule3d(conformers(["CCO"])[0], name="Ethanol")._repr_html_()


def test_a_molecule_without_a_conformer_is_refused_with_its_reason():
    nothing = conformers(["*"])[0]
    with pytest.raises(MedrecError, match="A cut end has no conformer to show: nothing but cut ends"):
        page.molecule3d(nothing, name="A cut end")


def test_the_viewer_is_the_released_file():
    vendored = PACKAGE.parent / "book" / "_vendor"
    licence = (vendored / "3Dmol-min.js.LICENSE.txt").read_text(encoding="utf-8")
    (stated,) = re.findall(r"SHA-256: ([0-9a-f]{64})", licence)
    assert hashlib.sha256((vendored / "3Dmol-min.js").read_bytes()).hexdigest() == stated
    assert "BSD-3-Clause" in licence


def test_kept_rows_that_are_not_current_say_so_once_each_and_current_ones_nothing():
    current, old, older = (SimpleNamespace(note=note) for note in ("", "Made by older code.", "made by older code"))
    assert page.notes(current, current) == ""
    assert page.notes(old, current, older) == "Made by older code."
    assert page.notes(old, SimpleNamespace(note="Made from other records.")) == (
        "Made by older code. Made from other records."
    )
    frame = pl.DataFrame({"system": ["LR"]})
    assert page.table(frame, caption=f"Toy. {page.notes(current)}").caption == "Toy."
