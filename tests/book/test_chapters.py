"""Chapters are found, their parameters read and checked, and their text hashed."""

import pytest

from medrec.book.chapters import chapter_key, check_parameters, find_chapter, parameters_of, read_chapter
from medrec.types import MedrecError
from tests.book.conftest import write_chapter


@pytest.mark.parametrize("which", ["1", "01", "01_second_topic", "second_topic", "notebooks/01_second_topic.py"])
def test_a_chapter_is_found_by_number_name_topic_or_path(checkout, which):
    assert find_chapter(which).name == "01_second_topic.py"


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


def test_a_parameter_without_a_type_is_refused(checkout):
    file = write_chapter(checkout, "02_untyped", '# %% tags=["parameters"]\nseed = 0\n')
    with pytest.raises(MedrecError, match="'seed = 0' is not `name: type = default"):
        parameters_of(read_chapter(file))


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
