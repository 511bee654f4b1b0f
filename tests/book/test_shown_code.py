"""Code that a reader copies runs: a name that only a left-out cell defines is found, and nothing else is."""

import pytest

from medrec.book.lint import Chapter, shown_code_runs
from tests.book.conftest import HEADER


def complaints(tmp_path, *cells):
    file = tmp_path / "00_chapter.py"
    file.write_text(HEADER + "".join(f"\n# %%{tags}\n{code}\n" for tags, code in cells), encoding="utf-8")
    return [(complaint.text.split()[0], complaint.line) for complaint in shown_code_runs(Chapter(file))]


SHOWN, FOLDED = "", ' tags=["hide-input"]'
LEFT_OUT = [' tags=["remove-cell"]', ' tags=["remove-input"]', ' tags=["hide-output", "remove-cell"]']


@pytest.mark.parametrize("tags", LEFT_OUT)
def test_a_name_of_a_left_out_cell_is_missing_once_where_it_is_used_first(tmp_path, tags):
    first = HEADER.count("\n") + 2
    found = complaints(tmp_path, (tags, "margin = 1"), (SHOWN, "x = 2\ny = x + margin"), (SHOWN, "margin + margin"))
    assert found == [("margin", first + 5)]


@pytest.mark.parametrize("tags", [SHOWN, FOLDED, ' tags=["parameters"]', ' tags=["hide-output"]'])
def test_a_name_of_a_cell_that_readers_see_is_there(tmp_path, tags):
    assert complaints(tmp_path, (tags, "margin = 1"), (SHOWN, "margin")) == []


def test_order_counts_but_not_in_functions_that_are_called_later(tmp_path):
    later = [(SHOWN, "def f():\n    return margin"), (SHOWN, "margin = 1\nf()")]
    assert complaints(tmp_path, *later) == []
    assert [name for name, _ in complaints(tmp_path, (SHOWN, "print(margin)"), (SHOWN, "margin = 1"))] == ["margin"]


def test_left_out_cells_may_use_what_they_like(tmp_path):
    assert complaints(tmp_path, *[(tags, "glue(nobody)") for tags in LEFT_OUT]) == []


@pytest.mark.parametrize(
    "code", ["%matplotlib inline\nx = 1", "!ls", "%%bash\necho $nobody", "x = (7\n% 2)", "display(get_ipython())"]
)
def test_magics_and_names_of_the_kernel_are_no_mistakes(tmp_path, code):
    assert complaints(tmp_path, (SHOWN, code)) == []


def test_a_magic_does_not_hide_what_follows_it(tmp_path):
    found = complaints(tmp_path, (SHOWN, "%timeit nobody\nprint(margin)"))
    assert [name for name, _ in found] == ["margin"]
