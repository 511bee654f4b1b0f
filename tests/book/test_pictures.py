"""Every system has a picture of how it gets from its inputs to what it says, and the picture is true."""

import re

import matplotlib.pyplot as plt
import pytest

from medrec.book.chapters import all_chapters, read_chapter
from medrec.book.pictures import GAP, INPUTS, Flow, _places, flows, plot_system
from medrec.models import registry
from medrec.types import MedrecError

DRAWN = list(flows())

TOY = """
    diagnoses, procedures > query > read, sum
    past medications > read > sum > medications
    query > agreement
    loss: binary cross-entropy, agreement
"""


def test_all_systems_of_papers_have_a_picture():
    assert {name for name in registry.NAMES if registry.get(name).family != "reference"} == set(DRAWN)


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_has_the_inputs_that_its_system_sees(name):
    system, flow = registry.get(name), flows()[name]
    kinds = {INPUTS[part.split()[0]][0] for part in flow.inputs}
    assert flow.outputs == (("order of medications",) if system.task == "ranking" else ("medications",))
    past = re.search(r"earlier|up to the visit|first visit\b|three before", system.sees)
    assert ("earlier visits" in kinds) == bool(past)
    assert ("molecules" in kinds) == ("molecules" in system.needs or "molecules" in system.sees)
    assert ("language" in kinds) == ("titles" in system.sees or "texts" in system.sees)
    if "knowledge" in system.needs:
        assert "a graph of knowledge" in kinds
    today = {"codes of the visit", "language"} & kinds
    assert bool(today) == (not system.past_only(system.config()))
    assert flow.losses


@pytest.mark.parametrize("name", DRAWN)
def test_arrows_lead_to_the_right_and_boxes_stand_apart(name):
    flow = flows()[name]
    place, ways = _places(flow)
    assert len(set(place.values())) == len(place), "no two boxes in one place"
    for way in ways:
        columns = [place[part][0] for part in way]
        assert columns == list(range(int(columns[0]), int(columns[-1]) + 1)), "column by column, past all boxes"
    assert {(way[0], way[-1]) for way in ways} == set(flow.arrows)


@pytest.mark.parametrize("name", DRAWN)
def test_words_stay_in_their_boxes_and_the_picture_in_the_column(name):
    fig = plot_system(name)
    try:
        fig.canvas.draw()
        (ax,) = fig.axes
        boxes = [patch.get_window_extent() for patch in ax.patches]
        texts = [text for text in ax.texts if text.get_text()]
        parts = flows()[name].parts
        for part, box, text in zip(parts, boxes, texts, strict=False):
            assert " ".join(text.get_text().split()) == part
            found = text.get_window_extent()
            assert box.x0 <= found.x0, part
            assert found.x1 <= box.x1, part
            assert box.height >= found.height, part
        for text in texts:
            assert text.get_window_extent().x1 <= fig.bbox.x1 + 1, text
        assert fig.get_figwidth() <= 7.2 + GAP
    finally:
        plt.close(fig)


def test_a_declaration_is_read():
    flow = Flow.of(TOY)
    assert flow.inputs == ("diagnoses", "procedures", "past medications")
    assert flow.outputs == ("medications",)
    assert flow.losses == ("binary cross-entropy", "agreement")
    assert ("query", "agreement") in flow.arrows
    assert flow.columns["past medications"] == flow.columns["read"] - 1, "an input stands before what it leads to"
    assert flow.columns["sum"] > flow.columns["read"] > flow.columns["query"]
    assert flow.words.startswith("Diagnoses and procedures into query; query into read, sum and agreement;")
    assert flow.words.endswith("Trained by binary cross-entropy and agreement.")


@pytest.mark.parametrize(
    ("declaration", "said"),
    [
        ("diagnoses", "leads nowhere"),
        ("diagnoses > ", "leads nowhere"),
        ("weather > medications", "'weather' of a flow begins with none of past, diagnoses"),
        ("diagnoses > a\\ndiagnoses > b", "one output, and this one a, b"),
    ],
)
def test_a_declaration_that_cannot_be_drawn(declaration, said):
    with pytest.raises(MedrecError, match=said):
        Flow.of(declaration.replace("\\n", "\n"))


def test_parts_in_a_circle():
    with pytest.raises(MedrecError, match="in a circle"):
        _ = Flow.of("diagnoses > a > b > medications\nb > a").columns


def test_a_reference_point_has_no_picture():
    with pytest.raises(MedrecError, match="no picture of popularity"):
        plot_system("popularity")


def test_each_system_is_shown_once_in_the_book_and_described_as_it_is_drawn():
    shown = {}
    for chapter in all_chapters():
        for cell in read_chapter(chapter).cells:
            if cell.cell_type == "code":
                for name in re.findall(r'\bplot_system\("([\w-]+)"\)', cell.source):
                    assert name not in shown
                    shown[name] = cell.metadata["mystnb"]["image"]["alt"]
    assert set(shown) == set(DRAWN)
    for name, words in shown.items():
        assert words == flows()[name].words, name
