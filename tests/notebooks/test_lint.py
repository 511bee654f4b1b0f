"""The chapters keep the rules that a machine can check, and each rule catches the breach that it is for."""

from textwrap import dedent

import pytest

from medrec import paths
from medrec.book.chapters import all_chapters
from medrec.book.lint import check_chapter, check_page
from medrec.book.lint import main as lint

GOOD = """\
# %% [markdown]
# # A title
#
# ```{admonition} Objectives
# :class: objectives
# - *compute* one thing
# - *compare* two things
# ```
#
# **Prerequisites.** None.
#
# **Code.** {py:mod}`medrec.metrics`.

# %%
import numpy as np
from matplotlib import pyplot as plt

from medrec.book import page

# %% tags=["parameters"]
seed: int = 0  # any
cohort: str = "synthetic"  # any
device: str = "cpu"  # any
profile: str = "quick"  # any

# %%
page.at_a_glance({"seed": seed}, paper="x", data="x", learned="x", full_run="x")

# %% tags=["remove-cell"]
page.glue(one=np.pi)

# %% [markdown]
# ## A section
# The number is {glue:text}`one:.2f`, as in GAMENet.

# %% tags=["hide-input"]
#| name: fig-x
#| alt: Line chart of one against two;
#|   it rises until it falls.
#| caption: What {glue:text}`one` is.
fig, ax = plt.subplots()

# %% [markdown]
# ## The audit
# What the paper does not say.
#
# ## Summary
# - One thing.
# - Two things.
#
# ## Exercises
#
# ## References
"""


def complaints(tmp_path, text: str) -> list[str]:
    file = tmp_path / "00_chapter.py"
    file.write_text(text, encoding="utf-8")
    return [complaint.text for complaint in check_chapter(file)]


def test_a_good_chapter_has_no_complaint(tmp_path):
    assert complaints(tmp_path, GOOD) == []


HEADER = "# ---\n# jupyter:\n#   medrec:\n#     rows: [lstm]\n# ---\n\n"
LONG = "\n".join(["def long():", *(f"    x{i} = {i}" for i in range(15))])


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('tags=["parameters"]', "", "exactly one cell tagged parameters"),
        ('device: str = "cpu"  # any\n', "", "lacks `device: str"),
        ("seed: int = 0  # any", "seed: int = 0", "seed has no comment"),
        ('tags=["remove-cell"]', 'tags=["remove_cell"]', "unknown tag 'remove_cell'"),
        (
            "#| alt: Line chart of one against two;\n#|   it rises until it falls.\n",
            "#| alt: figure\n",
            "alternative text",
        ),
        ("#| caption: What {glue:text}`one` is.\n", "", "needs a caption"),
        ("page.at_a_glance(", "x = [" + "1, " * 30 + "1]\npage.at_a_glance(", "characters of code; at most 88"),
        ("it rises until it falls.", "it rises until it falls" + " and falls" * 12, "at most 120"),
        ("# ## A section", "# ### A section", "skips a level"),
        ("# ## A section", "# # A section", "its only title"),
        ("{admonition} Objectives", "{admonition} Aims", "lacks the box"),
        ("**Prerequisites.**", "Before:", "lacks the line"),
        ("**Code.**", "Where:", "lacks the line"),
        ("page.at_a_glance(", "dict(", "card is missing"),
        ("# ## Exercises", "", "'Exercises' is missing"),
        ("# ## The audit", "# ## More", "'The audit' is missing"),
        ("as in GAMENet.", "as in GAMENet." + " word" * 3000, "words before 'The audit'"),
        ("# - Two things.\n", "", "2 objectives, but 1 bullets"),
        ("page.glue(one", "import polars\npage.glue(one", "imports belong"),
        ("fig, ax", LONG + "\nfig, ax", "long has 16 lines"),
        ("`one:.2f`", "`two:.2f`", "'two', which no page.glue"),
        ("What {glue:text}`one`", "What {glue:text}`three`", "'three', which no page.glue"),
        ("as in GAMENet", "as in GameNet", "spelt GAMENet, not GameNet"),
        ("The number is", "The number is simply", "strike 'simply'"),
        ("# ## A section", "# ## A section\n" + "# ```{warning}\n# x\n# ```\n" * 4, "4 warnings"),
        ("fig, ax", "plt.show()\nfig, ax", "asks the guard"),
        ("fig, ax", 'open("https://example.org")\nfig, ax', "reads no network"),
        ("fig, ax", 'grids.read("retain", records, default="synthetic")\nfig, ax', "in the header differ"),
        ("# %% [markdown]\n# # A title", HEADER + "# %% [markdown]\n# # A title", "'lstm', which is no grid"),
    ],
)
def test_each_rule_catches_its_breach(tmp_path, old, new, complaint):
    assert GOOD.count(old) == 1
    found = complaints(tmp_path, GOOD.replace(old, new))
    assert any(complaint in text for text in found), found


def test_code_and_links_are_not_prose(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        dedent("""\
        # Page
        See `medrec train gamenet` and [GAMENet](models/gamenet.html).

        ```bash
        medrec train gamenet
        ```

        ```{note}
        gamenet
        ```
        """)
    )
    assert [str(c.line) for c in check_page(page)] == ["9"]


def test_a_complaint_names_file_and_line(tmp_path, capsys):
    file = tmp_path / "00_chapter.py"
    file.write_text(GOOD.replace("as in GAMENet", "as in Gamenet"), encoding="utf-8")
    line = file.read_text().splitlines().index("# The number is {glue:text}`one:.2f`, as in Gamenet.") + 1
    assert lint([str(file)]) == 1
    assert capsys.readouterr().out.startswith(f"{file}:{line}: ")


def test_there_are_chapters():
    assert all_chapters()


@pytest.mark.parametrize("file", all_chapters(), ids=lambda file: file.stem)
def test_chapter_keeps_the_rules(file):
    assert [str(complaint) for complaint in check_chapter(file)] == []


@pytest.mark.parametrize(
    "file", [*sorted((paths.base_dir() / "book").glob("*.md")), paths.base_dir() / "README.md"], ids=str
)
def test_page_keeps_the_rules(file):
    assert [str(complaint) for complaint in check_page(file)] == []
