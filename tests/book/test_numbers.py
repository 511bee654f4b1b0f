"""Chapters, figures, tables and equations have numbers of the chapter, and references say them."""

import io
import re

import polars as pl
import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from medrec.book import page

CONF = """\
extensions = ["myst_nb", "sphinx_proof", "sphinx_exercise", "medrec.book.numbers"]
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath", "amsmath"]
numfig = True
math_numfig = True
exclude_patterns = ["_build"]
"""
INDEX = """\
# The book

```{toctree}
chapters/00_front
chapters/07_first
chapters/13_second
more
```
"""


def page_text(title, prefix, more=""):
    """A page with two of everything that has a number."""
    parts = [f"# {title}", "Words.", "## A section"]
    for i in (1, 2):
        parts += [
            f"$$ x = {i} $$ (eq-{prefix}-{i})",
            f"```{{figure}} dot.png\n:name: fig-{prefix}-{i}\n:alt: a dot\n\nA dot.\n```",
            "```{raw} html\n" + table(prefix, i) + "\n```",
            f"```{{exercise}}\n:label: ex-{prefix}-{i}\n\nHow much?\n```",
            f"```{{prf:theorem}} Sum\n:label: thm-{prefix}-{i}\n\nIt is.\n```",
        ]
    return "\n\n".join([*parts, more])


def table(prefix, i):
    return page.table(
        pl.DataFrame({"a": ["x"], "b": [i]}), caption="Words < numbers.", name=f"tab-{prefix}-{i}"
    )._repr_html_()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    (folder / "chapters").mkdir()
    (folder / "conf.py").write_text(CONF)
    (folder / "index.md").write_text(INDEX)
    for name in ("dot.png", "chapters/dot.png"):
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    refer = " ".join(
        [
            "{eq}`eq-second-2`",
            "{numref}`fig-second-2`",
            "{numref}`tab-second-2`",
            "{prf:ref}`thm-second-2`",
            "{ref}`ex-second-2`",
        ]
    )
    (folder / "chapters" / "00_front.md").write_text(page_text("Front", "front", refer))
    (folder / "chapters" / "07_first.md").write_text(page_text("First", "first"))
    (folder / "chapters" / "13_second.md").write_text(page_text("Second", "second"))
    (folder / "more.md").write_text(page_text("More", "more"))

    def build():
        warnings = io.StringIO()
        with patch_docutils(), docutils_namespace():
            app = Sphinx(
                str(folder), str(folder), str(folder / "_build"), str(folder / "_tree"), "html",
                status=None, warning=warnings,
            )  # fmt: skip
            app.build()
        assert not warnings.getvalue()
        return {
            path.stem: path.read_text() for path in (folder / "_build").rglob("*.html") if "_static" not in path.parts
        }

    build.folder = folder
    return build


def words(html):
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", "", html))


def test_everything_has_the_number_of_its_chapter(site):
    pages = site()
    for name, front in (("07_first", "7."), ("13_second", "13."), ("00_front", ""), ("more", "")):
        text = words(pages[name])
        for kind in ("Fig.", "Table", "Exercise", "Theorem"):
            found = re.findall(rf"\b{re.escape(kind)} ?(\d[\d.]*)", text)
            assert {f"{front}1", f"{front}2"} <= {number.rstrip(".") for number in found}, (name, kind, found)
        assert f"({front}1)" in text, "equations"
        assert f"({front}2)" in text


def test_chapters_are_numbered_by_their_sources_and_sections_are_not(site):
    pages = site()
    assert re.search(r"<h1>.*?13\. .*?Second", pages["13_second"], re.DOTALL)
    assert not re.search(r"<h2>.*?13", pages["13_second"].partition("A section")[0].rpartition("<h2>")[2])
    assert "0. " not in words(re.search("<h1>.*?</h1>", pages["00_front"], re.DOTALL)[0])
    assert re.search(r"13\. ?Second", words(pages["index"]))


def test_a_reference_from_elsewhere_says_the_chapter(site):
    front = words(site()["00_front"])
    for said in ("(13.2)", "Fig. 13.2", "Table 13.2", "Theorem 13.2", "Exercise 13.2"):
        assert said in front


def test_captions_are_outside_of_what_scrolls_and_can_be_reached(site):
    html = site()["13_second"]
    assert re.search(
        r'<figure class="medrec-table-box" id="tab-second-2"><figcaption>'
        r'<span class="caption-number">Table 13\.2 </span>Words &lt; numbers\.</figcaption>'
        r'<div class="medrec-scroll" role="region" tabindex="0"',
        html,
    )


def test_numbers_stay_when_a_page_is_written_again(site):
    before = site()
    source = site.folder / "chapters" / "07_first.md"
    source.write_text(source.read_text() + "\n\nOne more sentence.\n")
    after = site()
    assert "One more sentence" in after["07_first"]
    assert words(after["13_second"]) == words(before["13_second"])
    assert "Fig. 13.2" in words(after["00_front"])


def test_a_name_that_cannot_be_referred_to():
    with pytest.raises(ValueError, match="the name 'Table 1' holds"):
        page.table(pl.DataFrame({"a": [1]}), caption="x", name="Table 1")
