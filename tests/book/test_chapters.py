"""Chapters are found, their parameters read and checked, and their dependencies known."""

import pytest

from medrec import paths
from medrec.book.chapters import (
    chapter_key,
    check_parameters,
    find_chapter,
    imported_modules,
    parameters_of,
    read_chapter,
)
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


# -- dependencies ---------------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the same name with a chain of imports: a → b.c → d (in a string), and e beside them."""
    root = tmp_path / "medrec"
    (root / "b" / "tables").mkdir(parents=True)
    (root / "e").mkdir()
    files = {
        "__init__.py": "",
        "a.py": "def late():\n    from medrec.b import c\n",
        "b/__init__.py": "",
        "b/c.py": "from . import sibling\nNAMES = {'d': 'medrec.d:Thing'}\n",
        "b/sibling.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from medrec import e\n",
        "b/tables/facts.csv": "x\n1\n",
        "d.py": "",
        "e/__init__.py": "",
        "e/unrelated.csv": "y\n",
    }
    for name, text in files.items():
        (root / name).write_text(text)
    monkeypatch.setattr(paths, "PACKAGE", root)
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path / "data")
    return root


def test_imports_are_followed_through_functions_packages_and_names_in_strings(package):
    found = imported_modules("import numpy\nfrom medrec.a import late\n")
    assert found == {"medrec", "medrec.a", "medrec.b", "medrec.b.c", "medrec.b.sibling", "medrec.d"}


def test_the_key_changes_with_what_a_chapter_depends_on_and_with_nothing_else(package, tmp_path):
    source = tmp_path / "chapter.py"
    source.write_text("from medrec import a\n")
    keys = [chapter_key(source, {})]

    def changed() -> bool:
        keys.append(chapter_key(source, {}))
        return keys[-1] != keys[-2]

    assert not changed()
    (package / "e" / "__init__.py").write_text("x = 1\n")
    (package / "e" / "unrelated.csv").write_text("z\n")
    assert not changed(), "a module that is not imported does not matter"
    (package / "b" / "sibling.py").write_text("x = 1\n")
    assert changed(), "a module that is imported through others matters"
    (package / "d.py").write_text("x = 1\n")
    assert changed(), "a module that is named in a string matters"
    (package / "b" / "tables" / "facts.csv").write_text("x\n2\n")
    assert changed(), "a table beside an imported module matters"
    source.write_text("from medrec import a\n# a remark\n")
    assert changed(), "the source matters"
    assert chapter_key(source, {"profile": "full"}) != keys[-1], "parameters matter"


def test_databases_at_hand_matter_only_to_chapters_that_read_tables(package, tmp_path):
    (package / "data.py").write_text("")
    with_data, without = tmp_path / "with.py", tmp_path / "without.py"
    with_data.write_text("from medrec import data\n")
    without.write_text("from medrec import a\n")
    (tmp_path / "data").mkdir()
    before = chapter_key(with_data, {}), chapter_key(without, {})
    (tmp_path / "data" / "mimic4-demo").mkdir()
    assert chapter_key(with_data, {}) != before[0]
    assert chapter_key(without, {}) == before[1]
