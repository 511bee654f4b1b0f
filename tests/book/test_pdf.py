"""Printed pages are bound in order, with bookmarks, and their links lead inside the file or nowhere."""

import io
from pathlib import Path

import pytest

from medrec.book import pdf
from medrec.types import MedrecError

pypdf = pytest.importorskip("pypdf")
from pypdf.annotations import Link  # noqa: E402
from pypdf.generic import NameObject, TextStringObject  # noqa: E402

SITE = Path("/somewhere/html")


def leaf(name, part, title, sheets, headings=(), links=()):
    """A small page: blank sheets, with bookmarks (title, sheet) and links (sheet, target)."""
    writer = pypdf.PdfWriter()
    for _ in range(sheets):
        writer.add_blank_page(200, 200)
    own = writer.add_outline_item(title=title, page_number=0)
    for words, sheet in headings:
        writer.add_outline_item(title=words, page_number=sheet, parent=own)
    for sheet, target in links:
        annotation = Link(rect=(0, 0, 10, 10), url=target)
        if not target.startswith(("file:", "http")):
            writer.add_named_destination(target, sheets - 1)
            annotation.pop("/A")
            annotation[NameObject("/Dest")] = TextStringObject(target)
        writer.add_annotation(page_number=sheet, annotation=annotation)
    file = io.BytesIO()
    writer.write(file)
    return pdf.Leaf(name, part, title, file.getvalue(), (title, *(words for words, _ in headings)))


@pytest.fixture(scope="module")
def book():
    leaves = [
        leaf(
            "index", "", "The book", 1, links=[(0, f"file://{SITE}/chapters/01_one.html#x"), (0, "https://a.example/")]
        ),
        leaf("chapters/01_one", "Part one", "One", 2, [("First", 0), ("Second", 1)], [(0, "same")]),
        leaf(
            "chapters/02_two",
            "Part one",
            "Two",
            3,
            [("First", 2)],
            [(0, "same"), (1, f"file://{SITE}/_modules/m.html")],
        ),
    ]
    return pypdf.PdfReader(io.BytesIO(pdf.bound(leaves, SITE)))


def flat(reader, outline, depth=0):
    for item in outline:
        if isinstance(item, list):
            yield from flat(reader, item, depth + 1)
        else:
            yield depth, item.title, reader.get_destination_page_number(item)


def test_pages_stand_in_order_with_a_bookmark_for_each_part_page_and_heading(book):
    assert len(book.pages) == 6
    assert list(flat(book, book.outline)) == [
        (0, "The book", 0),
        (0, "Part one", 1),
        (1, "One", 1),
        (2, "First", 1),
        (2, "Second", 2),
        (1, "Two", 3),
        (2, "First", 5),
    ]


def links(reader, page):
    return [annotation.get_object() for annotation in reader.pages[page].get("/Annots") or []]


def sheet(reader, link):
    return next(n for n, page in enumerate(reader.pages) if page.indirect_reference == link["/Dest"][0])


def test_links_between_pages_lead_to_sheets_and_those_outside_stay(book):
    inside, outside = links(book, 0)
    assert "/A" not in inside
    assert sheet(book, inside) == 1
    assert outside["/A"]["/URI"] == "https://a.example/"


def test_places_of_one_name_on_two_pages_are_two_places(book):
    assert [sheet(book, links(book, page)[0]) for page in (1, 3)] == [2, 5]
    assert "/Dests" not in book.trailer["/Root"]
    assert "/Names" not in book.trailer["/Root"]


def test_what_is_not_printed_is_no_target_and_no_path_of_this_machine_stays(book):
    assert links(book, 4) == []
    data = b"".join(str(annotation).encode() for page in range(6) for annotation in links(book, page))
    assert b"somewhere" not in data


def test_the_order_is_that_of_the_table_of_contents():
    toc = {
        "root": "index",
        "parts": [
            {"caption": "A", "chapters": [{"file": "a"}, {"file": "b", "sections": [{"file": "b/c"}]}]},
            {"caption": "D", "chapters": [{"file": "d"}]},
        ],
    }
    assert pdf.ordered(toc) == [("index", ""), ("a", "A"), ("b", "A"), ("b/c", "A"), ("d", "D")]


def test_without_a_built_book_the_command_says_what_to_do(tmp_path, capsys):
    assert pdf.main(["--html", str(tmp_path / "html"), "--out", str(tmp_path / "out.pdf")]) == 1
    assert capsys.readouterr().err.strip().endswith("Build it first: `make book`.")
    (tmp_path / "index.html").write_text("<h1>x</h1>")
    with pytest.raises(MedrecError, match=r"lacks b\.html and 1 more, which _toc\.yml names"):
        pdf.printed(tmp_path, [("index", ""), ("b", ""), ("c", "")])
    assert not (tmp_path / "out.pdf").exists()


def test_without_chromium_the_command_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "index.html").write_text("<h1>x</h1>")
    monkeypatch.setattr(pdf.shutil, "which", lambda _: None)
    with pytest.raises(MedrecError, match=r"none of chromium, .* is installed"):
        pdf.printed(tmp_path, [("index", "")])


def test_a_missing_package_is_told_before_anything_is_printed(tmp_path, monkeypatch):
    (tmp_path / "index.html").write_text("<h1>x</h1>")
    monkeypatch.setattr(pdf, "printed", lambda *_: pytest.fail("printed"))
    monkeypatch.setattr(pdf, "find_spec", lambda name: None if name == "pypdf" else object())
    with pytest.raises(MedrecError, match="run `pip install pypdf`"):
        pdf.make(tmp_path, tmp_path / "out.pdf")


PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>{0}</title></head><body><article>
<h1>{0}<a class="headerlink" href="#top">#</a></h1><p><a href="{1}.html">to {1}</a> <a href="#low">down</a></p>
<details><summary>folded</summary><p>What was folded.</p></details>
<h2 style="break-before: page" id="low">A heading</h2><p>Text.</p></article></body></html>"""


@pytest.mark.browser
def test_formulas_that_are_not_typeset_are_an_error_and_not_printed(tmp_path):
    try:
        pdf.browser_program()
    except MedrecError as error:
        pytest.skip(str(error))
    pytest.importorskip("playwright.sync_api")
    (tmp_path / "index.html").write_text('<article><h1>x</h1><span class="math">x</span></article>')
    with pytest.raises(MedrecError, match="1 formulas that are not typeset"):
        pdf.printed(tmp_path, [("index", "")])


@pytest.mark.browser
def test_two_small_pages_are_printed_and_bound(tmp_path):
    try:
        pdf.browser_program()
    except MedrecError as error:
        pytest.skip(str(error))
    pytest.importorskip("playwright.sync_api")
    site = tmp_path / "html"
    site.mkdir()
    (site / "index.html").write_text(PAGE.format("One", "two"))
    (site / "two.html").write_text(PAGE.format("Two", "index"))
    toc = tmp_path / "toc.yml"
    toc.write_text("root: index\nparts: [{caption: Rest, chapters: [{file: two}]}]\n")
    told = []
    out = pdf.make(site, tmp_path / "deep" / "out.pdf", toc=toc, progress=told.append)
    assert told == ["index", "two"]
    reader = pypdf.PdfReader(out)
    assert len(reader.pages) == 4
    assert list(flat(reader, reader.outline)) == [
        (0, "One", 0),
        (1, "A heading", 1),
        (0, "Rest", 2),
        (1, "Two", 2),
        (2, "A heading", 3),
    ]
    assert "What was folded." in reader.pages[0].extract_text()
    there, down = links(reader, 2)[-2:]
    assert (sheet(reader, there), sheet(reader, down)) == (0, 3)
    assert [path.name for path in out.parent.iterdir()] == ["out.pdf"]
