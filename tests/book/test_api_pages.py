"""Every public module can be looked up in the book once, and no page asks for one that is gone."""

import pytest

from medrec import paths
from medrec.book import reference


def test_the_reference_lists_every_public_module_once():
    pages = sorted((paths.base_dir() / "book" / "api").glob("*.md"))
    found = [name for page in pages for name in reference.listed(page.read_text())]
    missing = sorted(set(reference.public_modules()) - set(found))
    assert not missing, "name their room in a block ```{modules} of book/api/"
    assert sorted(found) == sorted(set(found)), "one module on two pages"


def test_every_page_of_the_reference_is_in_the_table_of_contents():
    base = paths.base_dir()
    for page in (base / "book" / "api").glob("*.md"):
        assert f"file: api/{page.stem}\n" in (base / "_toc.yml").read_text()


@pytest.fixture
def package(tmp_path, monkeypatch):
    root = tmp_path / "medrec"
    files = {
        "__init__.py": "def train(): ...\n",
        "a.py": "",
        "b/__init__.py": "",
        "b/_hidden.py": "",
        "b/one.py": "",
        "b/two.py": "",
        "c/__init__.py": "SIZE = 1\n",
        "c/deep/__init__.py": "",
        "c/deep/three.py": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(paths, "PACKAGE", root)


def test_packages_count_where_they_define_something(package):
    assert reference.public_modules() == ["medrec.a", "medrec.b.one", "medrec.b.two", "medrec.c", "medrec.c.deep.three"]


def page(*lines):
    return "# Title\n\n```{modules}\n" + "\n".join(lines) + "\n```\n\nEnd.\n"


def test_an_asterisk_stands_for_all_below_but_those_named_before(package):
    assert reference.listed(page("medrec.b.two", "medrec.b.*")) == ["medrec.b.two", "medrec.b.one"]
    assert reference.listed(page("medrec.c.*")) == ["medrec.c", "medrec.c.deep.three"]


@pytest.mark.parametrize("lines", [["medrec.d"], ["medrec.b"], ["medrec.d.*"], ["medrec.a", "medrec.a"]])
def test_a_line_that_names_nothing_is_an_error(package, lines):
    with pytest.raises(ValueError, match="no public module"):
        reference.listed(page(*lines))


def test_the_block_becomes_sections_and_other_pages_stay(package):
    text = reference.expand(page("medrec.a", "medrec.c"))
    assert text.startswith("# Title\n\n## `medrec.a`\n\n```{eval-rst}\n.. automodule:: medrec.a\n```\n\n## `medrec.c`")
    assert text.endswith(".. automodule:: medrec.c\n```\n\nEnd.\n")
    assert reference.expand("# Other\n\n```python\nx = 1\n```\n") == "# Other\n\n```python\nx = 1\n```\n"
