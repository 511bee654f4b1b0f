"""Chapters are found, their parameters read and checked, and their text hashed."""

import pytest

from medrec import paths
from medrec.book.chapters import chapter_key, check_parameters, find_chapter, parameters_of, read_chapter
from medrec.types import MedrecError
from tests.book.conftest import CHAPTER, HEADER, write_chapter


@pytest.mark.parametrize("which", ["1", "01", "01_second_topic", "second_topic", "notebooks/01_second_topic.py"])
def test_a_chapter_is_found_by_number_name_topic_or_path(checkout, which):
    assert find_chapter(which).name == "01_second_topic.py"


@pytest.fixture
def elsewhere(tmp_path_factory, monkeypatch):
    """A working directory outside the checkout, with an edited copy of one of its chapters."""
    folder = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(folder)
    (folder / "sub").mkdir()
    for name in ("01_second_topic.py", "sub/01_second_topic.py", "sub/mine.py"):
        (folder / name).write_text(HEADER + CHAPTER)
    return folder


@pytest.mark.parametrize(
    "which",
    ["01_second_topic.py", "./01_second_topic.py", "sub/01_second_topic.py", "sub/../sub/mine.py", "sub/mine.py"],
)
@pytest.mark.parametrize("absolute", [False, True])
def test_a_path_means_that_very_file(checkout, elsewhere, which, absolute):
    path = elsewhere / which
    assert find_chapter(str(path) if absolute else which).samefile(path)


@pytest.mark.parametrize("which", ["00_first.py", "notebooks/00_first.py"])
def test_a_path_that_the_working_directory_lacks_counts_from_the_checkout(checkout, elsewhere, which):
    assert find_chapter(which) == checkout / "notebooks" / "00_first.py"


def test_the_books_own_source_is_the_book_s_by_whatever_path(checkout, elsewhere):
    own = checkout / "notebooks" / "00_first.py"
    (elsewhere / "link.py").symlink_to(own)
    assert find_chapter(elsewhere / "link.py") == find_chapter(f"{checkout}/book/../notebooks/00_first.py") == own


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ("sub/01_secnd_topic.py", "There is no file sub/01_secnd_topic.py. Did you mean '01_second_topic'?"),
        ("/nowhere/00_first.py", "There is no file /nowhere/00_first.py. Did you mean '00_first'?"),
        ("nowhere/mine", "There is no file nowhere/mine."),
        ("sub/", "no chapter's source, which is a file that ends in .py"),
        ("./sub", "no chapter's source"),
        ("../elsewhere0", "no chapter's source"),
        ("sub/notes.md", "no chapter's source"),
        ("sub/00_first.ipynb", "`jupytext --to py:percent sub/00_first.ipynb`. Did you mean '00_first'?"),
    ],
)
def test_a_path_to_something_else_never_runs_the_books_own_chapter(checkout, elsewhere, which, said):
    for name in ("notes.md", "00_first.ipynb"):
        (elsewhere / "sub" / name).write_text("{}")
    which = which.replace("elsewhere0", elsewhere.name)
    with pytest.raises(MedrecError) as raised:
        find_chapter(which)
    assert said in str(raised.value)


def test_a_path_needs_no_checkout(elsewhere, monkeypatch):
    monkeypatch.setattr(paths, "base_dir", lambda: elsewhere)
    assert find_chapter("sub/mine.py") == elsewhere / "sub" / "mine.py"
    with pytest.raises(MedrecError, match=r"holds no chapters.* or give the path"):
        find_chapter("02")


@pytest.mark.parametrize(
    "written",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(),
    ],
    ids=["byte-order mark", "ends of lines of another system", "both"],
)
def test_a_chapter_is_the_same_whatever_editor_saved_it(checkout, written):
    source = find_chapter("0")
    key, notebook = chapter_key(source, {}), read_chapter(source)
    source.write_bytes(written(source.read_text()))
    assert chapter_key(source, {}) == key
    saved = read_chapter(source)
    assert saved.metadata == notebook.metadata
    assert [(cell.source, cell.metadata) for cell in saved.cells] == [(c.source, c.metadata) for c in notebook.cells]


def test_a_chapter_without_a_header_is_python_still(checkout):
    source = find_chapter("0")
    source.write_text(source.read_text().removeprefix(HEADER))
    assert read_chapter(source).metadata["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_named(checkout, encoding):
    source = find_chapter("0")
    source.write_bytes((source.read_text() + "# ä\n").encode(encoding))
    for read in (read_chapter, lambda file: chapter_key(file, {})):
        with pytest.raises(MedrecError, match=r"00_first.py is not written in UTF-8. Save it in this encoding"):
            read(source)


def test_an_unknown_chapter_is_named_with_the_nearest_one(checkout):
    with pytest.raises(MedrecError, match=r"no chapter '01_secnd_topic'. Did you mean '01_second_topic'\?"):
        find_chapter("01_secnd_topic")
    with pytest.raises(MedrecError, match=r"no chapter '77'.*00_first, 01_second_topic"):
        find_chapter("77")


def test_parameters_carry_type_default_and_comment(checkout):
    parameters = parameters_of(read_chapter(find_chapter("0")))
    assert list(parameters) == ["seed", "cohort", "device", "profile", "share"]
    assert (parameters["share"].type, parameters["share"].default, parameters["share"].help) == (
        "float",
        0.5,
        "a share",
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"seed": "3"}, {"seed": 3}),
        ({"seed": 3}, {"seed": 3}),
        ({"share": "0.25"}, {"share": 0.25}),
        ({"share": 1}, {"share": 1.0}),
        ({"cohort": "mimic4-demo"}, {"cohort": "mimic4-demo"}),
        ({"profile": "full"}, {"profile": "full"}),
    ],
)
def test_values_take_the_declared_type(checkout, given, expected):
    values = check_parameters(parameters_of(read_chapter(find_chapter("0"))), given)
    assert values == expected
    assert [type(value) for value in values.values()] == [type(value) for value in expected.values()]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sede": 3}, r"Unknown parameter 'sede'. Did you mean 'seed'\? This chapter takes seed, cohort"),
        ({"zzz": 3}, r"Unknown parameter 'zzz'. This chapter takes seed"),
        ({"seed": "three"}, r"seed takes a whole number \(int\), not 'three'"),
        ({"seed": 1.5}, r"seed takes a whole number"),
        ({"seed": True}, r"seed takes a whole number"),
        ({"share": "much"}, r"share takes a number"),
        ({"cohort": 3}, r"cohort takes text"),
        ({"profile": "ful"}, r"profile takes quick or full, not 'ful'"),
    ],
)
def test_wrong_names_and_values_are_refused_with_a_remedy(checkout, given, message):
    with pytest.raises(MedrecError, match=message):
        check_parameters(parameters_of(read_chapter(find_chapter("0"))), given)


def test_a_chapter_has_exactly_one_parameters_cell(checkout):
    file = write_chapter(checkout, "02_none", "# %%\nx = 1\n")
    with pytest.raises(MedrecError, match="exactly one cell tagged parameters, not 0"):
        parameters_of(read_chapter(file))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("seed = 0", "'seed = 0' is not `name: type = default"),
        ("seed: int = int(3)", "is not `name: type = default"),
        ("seed: int = [3]", "and a plain value"),
        ("seed: int", "is not `name: type = default"),
        ("seed: int = = 3", "'seed: int = = 3' is not Python: invalid syntax"),
    ],
)
def test_a_parameter_is_a_name_a_type_and_a_plain_value(checkout, line, said):
    file = write_chapter(checkout, "02_untyped", f'# %% tags=["parameters"]\n{line}\n')
    with pytest.raises(MedrecError) as raised:
        parameters_of(read_chapter(file))
    assert said in str(raised.value)


# -- the key of the text ----------------------------------------------------------------------------------------------


def test_the_key_changes_with_text_and_parameters_and_not_with_blanks_at_the_ends_of_lines(checkout):
    source = find_chapter("0")
    key, text = chapter_key(source, {}), source.read_text()
    source.write_text(text.replace("\n", "  \n") + "\n\n")
    assert chapter_key(source, {}) == key
    source.write_text(text + "# a word more\n")
    assert chapter_key(source, {}) != key, "the text of a chapter is its content"
    source.write_text(text)
    assert chapter_key(source, {"profile": "full"}) != key


FIGURE = """
# %% tags=["hide-input"] mystnb={"image": {"width": "50%"}}
#| name: fig-line
#| alt: A line: it rises,
#|   and then it falls.
#| caption: One caption: {glue:text}`one`.
plt.plot(x)  #| no: word
"""


def test_words_about_a_figure_are_lifted_from_below_the_header(tmp_path):
    (tmp_path / "00_x.py").write_text(HEADER + CHAPTER + FIGURE)
    cell = read_chapter(tmp_path / "00_x.py").cells[-1]
    assert cell.source == "plt.plot(x)  #| no: word"
    assert cell.metadata["tags"] == ["hide-input"]
    assert cell.metadata["mystnb"] == {
        "image": {"width": "50%", "alt": "A line: it rises, and then it falls."},
        "figure": {"name": "fig-line", "caption": "One caption: {glue:text}`one`."},
    }


@pytest.mark.parametrize(
    "line", ["#| captoin: x", "#|   goes on", "#| more words", "#|alt words", "#| alt: x\n#| alt: y"]
)
def test_a_line_of_words_that_nobody_reads_is_an_error(tmp_path, line):
    (tmp_path / "00_x.py").write_text(f"{HEADER}{CHAPTER}\n# %%\n{line}\nplt.plot(x)\n")
    with pytest.raises(MedrecError, match=r"is none of `#\| name: \.\.\.`"):
        read_chapter(tmp_path / "00_x.py")
