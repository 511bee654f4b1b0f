"""A page of its own: what the book would show, in one file."""

import re
import shutil

import pytest

from medrec import paths
from medrec.book.one_page import MARK, write_page
from medrec.book.runner import run_chapter
from medrec.types import MedrecError
from tests.book.conftest import write_chapter

CHAPTER = """
# %% [markdown]
# # A page of its own

# %% tags=["parameters"]
seed: int = 0  # x

# %% tags=["remove-cell"]
from medrec.book import page

page.glue(share=0.25 + seed)

# %% [markdown]
# The share is {glue:text}`share:.2f`, as {eq}`eq-one` and {term}`ATC` say;
# see {doc}`01_second_topic` and {cite:t}`mu2024bimorec`.
#
# ```{math}
# :label: eq-one
#
# a = b
# ```
#
# ```{admonition} Objectives
# They stand in a box.
# ```

# %% mystnb={"image": {"alt": "A line."}}
import matplotlib.pyplot as plt

_ = plt.plot([0, 1])
"""


@pytest.fixture
def book(checkout):
    """The looks of the real book in a checkout of two chapters."""
    real = paths.PACKAGE.parent / "book"
    for name in ("_vendor", "images"):
        shutil.copytree(real / name, checkout / "book" / name)
    for name in ("_config.yml", "references.bib", "glossary.md", "bibliography.md"):
        shutil.copy(real / name, checkout / "book" / name)
    return checkout


def test_a_page_holds_all_that_it_shows(book, tmp_path_factory):
    source = tmp_path_factory.mktemp("copy") / "mine.py"
    source.write_text(write_chapter(book, "02_page", CHAPTER).read_text())
    notebook = run_chapter(str(source), {"seed": 2}, progress=False)
    page = write_page(notebook)
    assert page == notebook.with_suffix(".html")
    html = page.read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html[html.index("<article") :]))
    # What only the book's rendering can show.
    assert "The share is 2.25, as (1) and ATC say; see A small chapter and Mu" in text
    assert "They stand in a box." in text
    assert "mine.py, executed with seed = 2." in html
    assert "records in this book are" not in html
    assert 'alt="A line."' in html
    assert "a = b" in html
    # Nothing beside it, nothing from a network.
    addresses = re.findall(r'<(?:link|script|img|iframe|source)\b[^>]*?(?:href|src)="([^"]*)"', html)
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert not re.search(r'<a\b[^>]*href="(?!#|https?://|mailto:)', html)
    assert len(html) > 1_000_000  # MathJax is inside
    # Nobody's own file is written over.
    assert MARK in html
    page.write_text(html.replace(MARK, ""), encoding="utf-8")
    with pytest.raises(MedrecError, match=r"mine__seed-2\.html is there already.*mine__seed-2\.ipynb is written"):
        write_page(notebook)


def test_without_a_book_there_is_a_notebook_alone(checkout):
    notebook = run_chapter("0", progress=False)
    assert write_page(notebook) is None
    assert [file.name for file in notebook.parent.iterdir()] == [notebook.name]
