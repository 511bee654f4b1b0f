"""Minutes are counted in the sources, every exercise has its marks, and every path leads to what is there."""

import re
from textwrap import dedent

import polars as pl
import pytest
from myst_parser.mdit_to_docutils.base import default_slugify

from medrec import paths
from medrec.book.generated import teaching
from tests.book.conftest import write_chapter

PAGE = """
# %% [markdown]
# # A title of four words
#
# One two three {term}`four <five>`.
#
# ## First section
#
# Six words stand in this line.
#
# ```{exercise}
# :label: ex-one
#
# Three more words.
# ```
#
# ```{solution} ex-one
# :class: dropdown
#
# Words that nobody counts.
# ```
#
# ```{exercise}
# :label: ex-two
# Two words.
# ```
#
# ```{solution-start} ex-two
# :class: dropdown
# ```

# %%
x = 1
y = 2

# %% [markdown]
# Not counted either.
#
# ```{solution-end}
# ```

# %%
fig, ax = plt.subplots()
show(fig)

# %% tags=["hide-input"]
fig, ax = plt.subplots()
show(fig)

# %% tags=["remove-cell"]
z = 3

# %% [markdown]
# ## Exercises
#
# ### Quiz
#
# ```python
# code is not prose
# ```
"""


@pytest.fixture
def page(checkout):
    return teaching.outline(write_chapter(checkout, "02_page", dedent(PAGE)))


def test_what_is_counted(page):
    assert page.title == "A title of four words"
    assert page.quiz
    opening, first, last = page.sections
    assert (opening.title, opening.words) == (teaching.OPENING, 4)
    assert (first.title, first.exercises) == ("First section", ["ex-one", "ex-two"])
    assert first.words == 6 + 3 + 2
    assert first.lines == 2, "cells that stand open, outside solutions"
    assert first.figures == 2, "a figure is looked at though its code is folded"
    assert (last.words, last.lines, last.figures) == (0, 0, 0)
    assert page.minutes == pytest.approx(15 / 130 + 2 / 12 + 2)


def table() -> pl.DataFrame:
    return pl.read_csv(teaching.exercises_file())


def test_every_exercise_of_every_chapter_has_marks_and_no_other():
    there = [(one.name[:2], label) for one in teaching.outlines() for label in one.exercises]
    given = list(table().select(pl.col("chapter").cast(pl.String).str.zfill(2), "label").iter_rows())
    assert len(set(given)) == len(given), "an exercise stands twice in book/exercises.csv"
    assert sorted(set(there) - set(given)) == [], "give these exercises marks in book/exercises.csv"
    assert sorted(set(given) - set(there)) == [], "book/exercises.csv names exercises that are gone"


def test_no_exercise_is_overlooked():
    """Labels are found in the text of the sources, too."""
    for source in sorted((paths.base_dir() / "notebooks").glob("[0-9]*.py")):
        text = source.read_text(encoding="utf-8")
        found = re.findall(r"^# :label: (ex-\S+)$", text, flags=re.MULTILINE)
        assert found == list(teaching.outline(source).exercises), source.name


def test_every_chapter_has_a_quiz_as_the_page_says():
    assert [one.name for one in teaching.outlines() if not one.quiz] == []


def test_marks_are_one_to_three_and_all_are_used():
    assert set(table()["marks"]) == {1, 2, 3} == set(teaching.MARKS) == set(teaching.MARK_MINUTES)


def test_every_path_leads_to_sections_that_are_there():
    text = (paths.base_dir() / "book" / "paths.md").read_text(encoding="utf-8")
    anchors = {one.name: {default_slugify(s.title) for s in one.sections} for one in teaching.outlines()}
    links = teaching.linked(text)
    assert len(links) > 50
    for name, anchor in links:
        assert name in anchors, f"paths.md names the chapter {name}"
        assert anchor is None or anchor in anchors[name], f"paths.md: {name} has no section #{anchor}"
    labels = {label for one in teaching.outlines() for label in one.exercises}
    assert set(re.findall(r"\{ref\}`(ex-[\w-]+)`", text)) <= labels


def test_twelve_weeks_hold_every_chapter():
    part = (paths.base_dir() / "book" / "paths.md").read_text(encoding="utf-8").partition("## Twelve weeks")[2]
    named = {name for name, _ in teaching.linked(part.partition("\n## ")[0])}
    assert sorted({one.name for one in teaching.outlines()} - named) == []


def test_the_lecture_can_be_given_in_its_time():
    row = next(line for line in teaching.path_minutes().splitlines() if "90 minutes" in line)
    assert 30 < int(re.search(r"(\d+) min", row.partition("90 minutes")[2])[1]) < 75, "the rest is for questions"


def test_the_rates_on_the_page_are_those_that_count():
    text = (paths.base_dir() / "book" / "instructors.md").read_text(encoding="utf-8")
    assert f"{teaching.WORDS_A_MINUTE} words of prose a minute, {teaching.LINES_A_MINUTE} lines of code" in text
    assert "{}, {} and {} minutes".format(*teaching.MARK_MINUTES.values()) in text


def test_points_of_the_grading_sheet_add_up():
    text = (paths.base_dir() / "book" / "instructors.md").read_text(encoding="utf-8").partition("**Grading sheet**")[2]
    assert sum(map(int, re.findall(r"\| (\d+) \|$", text, flags=re.MULTILINE))) == 100
