"""What readers download is plain Markdown, with the numbers of the page."""

import re
from textwrap import dedent

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from medrec.book import downloads

NUMBERS = {
    ("eq", "eq-a"): "(7.2)",
    ("numref", "fig-a"): "Fig. 7.1",
    ("ref", "ex-a"): "Exercise 7.3",
    ("doc", "01_the_task"): "The task",
    ("cite:t", "a2020"): "A et al. (2020)",
}


def say(kind, inside):
    return NUMBERS.get((kind, inside), inside)


def glued(**values):
    return [
        new_output(
            "display_data",
            {f"{downloads.GLUED}text/plain": text},
            metadata={"scrapbook": {"name": name, "mime_prefix": downloads.GLUED}},
        )
        for name, text in values.items()
    ]


def plain(*cells):
    notebook = new_notebook(cells=list(cells))
    downloads.plain(notebook, say)
    nbformat.validate(notebook)
    return [cell.source for cell in notebook.cells]


def test_numbers_stand_in_their_sentences():
    code = new_code_cell("page.glue(x=0.5312)", outputs=glued(x="0.5312", words="'none of them'", n="nan"))
    text = new_markdown_cell(
        "A {glue:text}`x:.2f`, {glue:text}`words`, {glue:text}`n:.1f` and {term}`Jaccard` in {doc}`01_the_task`."
    )
    assert plain(code, text)[1] == "A 0.53, none of them, nan and Jaccard in The task."


def test_references_say_the_number_of_the_page():
    found = plain(new_markdown_cell("See {eq}`eq-a`, {numref}`fig-a`, {cite:t}`a2020`.\n\n$$\nx = 1\n$$ (eq-a)\n"))[0]
    assert "See (7.2), Fig. 7.1, A et al. (2020)." in found
    assert found.rstrip().endswith("$$\nx = 1\n\\tag{7.2}\n$$")


def test_boxes_are_headings_in_bold_and_code_stays_code():
    text = dedent("""\
        (a-name)=
        ## A section

        ````{exercise}
        :label: ex-a

        How much?

        ```python
        :label: x = {"a": 1}
        ```
        ````

        :::{admonition} Careful
        :class: warning
        Not so fast.
        :::

        ```{solution-end}
        ```
        """)
    assert plain(new_markdown_cell(text))[0].split("\n") == [
        "## A section", "", "**Exercise 7.3.**", "", "", "How much?", "", "```python", ':label: x = {"a": 1}', "```",
        "", "**Careful**", "", "Not so fast.", "", "",
    ]  # fmt: skip


def test_a_figure_has_its_caption_below():
    figure = {"mystnb": {"figure": {"name": "fig-a", "caption": "With {eq}`eq-a`."}}}
    picture = [new_output("display_data", {"image/svg+xml": "<svg/>", "text/plain": "Figure"})]
    code = new_code_cell("plot()", metadata=figure, outputs=picture)
    assert plain(code) == ["plot()", "**Fig. 7.1.** With (7.2)."]
    assert plain(new_code_cell("plot()", metadata=figure)) == ["plot()"], "no rows, no picture, no caption"


def test_works_are_cited_by_authors_and_year():
    assert downloads._cited("cite:t", "yang2021safedrug") == "Yang et al. (2021)"
    assert re.fullmatch(r"\(.+, \d{4}; .+, \d{4}\)", downloads._cited("cite:p", "yang2021safedrug, yang2023molerec"))
