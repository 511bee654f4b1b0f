"""The build executes what is stale and nothing else, in parallel, and a failure keeps the last good copy."""

from types import SimpleNamespace

import pytest
from sphinx.errors import ConfigError, ExtensionError

from medrec.book import sphinx_ext
from medrec.book.sphinx_ext import drop_network_scripts, execute_stale_chapters
from tests.book.conftest import CHAPTER, write_chapter

TOC = """\
format: jb-book
root: index
chapters:
  - file: chapters/00_first
  - file: chapters/01_second_topic
"""


@pytest.fixture
def build(checkout, monkeypatch):
    """What Sphinx does first; returns the names of the chapters that were executed."""
    (checkout / "book" / "_toc.yml").write_text(TOC)
    monkeypatch.delenv("MEDREC_PROFILE", raising=False)
    executed = []

    def watched(stale, parameters, run=sphinx_ext.execute_all):
        executed.extend(source.stem for source in stale)
        return run(stale, parameters)

    monkeypatch.setattr(sphinx_ext, "execute_all", watched)

    def begin() -> list[str]:
        executed.clear()
        execute_stale_chapters(
            SimpleNamespace(srcdir=str(checkout / "book")),
            {"external_toc_path": str(checkout / "book" / "_toc.yml")},
        )
        return list(executed)

    return begin


def test_only_stale_chapters_are_executed(build, checkout):
    copies = [checkout / "book" / "chapters" / f"{name}.ipynb" for name in ("00_first", "01_second_topic")]
    assert build() == ["00_first", "01_second_topic"]
    assert all(copy.exists() for copy in copies)
    assert build() == []
    before = copies[1].stat().st_mtime_ns
    write_chapter(checkout, "00_first", CHAPTER + '\nprint("edited")\n')
    assert build() == ["00_first"]
    assert "edited" in copies[0].read_text()
    assert copies[1].stat().st_mtime_ns == before
    copies[1].write_text("{")
    assert build() == ["01_second_topic"], "a broken copy is made again"


def test_all_failures_are_told_together_and_good_copies_stay(build, checkout):
    build()
    good = (checkout / "book" / "chapters" / "00_first.ipynb").read_bytes()
    write_chapter(checkout, "00_first", CHAPTER + "\n1 / 0\n")
    write_chapter(checkout, "01_second_topic", CHAPTER + '\nraise ValueError("no")\n')
    with pytest.raises(ExtensionError) as caught:
        build()
    for words in ("Chapter 00_first failed in cell", "ZeroDivisionError", "Chapter 01_second_topic", "ValueError: no"):
        assert words in str(caught.value)
    assert (checkout / "book" / "chapters" / "00_first.ipynb").read_bytes() == good


def test_a_profile_that_does_not_exist_stops_the_build(build, monkeypatch):
    monkeypatch.setenv("MEDREC_PROFILE", "ful")
    with pytest.raises(ConfigError, match="MEDREC_PROFILE is 'ful'; it takes quick or full"):
        build()


def test_nobody_else_executes_chapters(build, checkout):
    with pytest.raises(ConfigError, match="set execute_notebooks: 'off'"):
        execute_stale_chapters(SimpleNamespace(srcdir=""), {"nb_execution_mode": "auto"})


def test_another_profile_makes_every_chapter_stale(build, monkeypatch):
    build()
    monkeypatch.setenv("MEDREC_PROFILE", "full")
    assert build() == ["00_first", "01_second_topic"]


def test_a_chapter_in_the_table_of_contents_without_a_source_stops_the_build(build, checkout):
    (checkout / "notebooks" / "01_second_topic.py").unlink()
    with pytest.raises(ConfigError, match="no chapter '01_second_topic'"):
        build()


def test_the_molecule_viewer_is_loaded_where_there_is_a_molecule():
    loaded = []
    app = SimpleNamespace(add_js_file=lambda name, **options: loaded.append((name, options["loading_method"])))
    sphinx_ext.load_molecule_viewer(app, "", "", {"body": "<p>about a medrec-molecule</p>"}, None)
    sphinx_ext.load_molecule_viewer(app, "", "", {}, None)
    assert loaded == []
    sphinx_ext.load_molecule_viewer(app, "", "", {"body": '<div class="medrec-molecule"></div>'}, None)
    assert loaded == [("3Dmol-min.js", "defer"), ("molecule3d.js", "defer")], "in this order"


def test_scripts_from_other_hosts_and_live_code_are_taken_out():
    own = SimpleNamespace(filename="_static/doctools.js", attributes={})
    foreign = [
        SimpleNamespace(filename="https://unpkg.com/thebe@0.8.2/lib/index.js", attributes={}),
        SimpleNamespace(filename="//cdn.example.org/x.js", attributes={}),
        SimpleNamespace(filename="_static/sphinx-thebe.js", attributes={}),
        SimpleNamespace(filename=None, attributes={"body": "const THEBE_JS_URL = 'x'"}),
    ]
    scripts = [foreign[0], own, *foreign[1:]]
    context = {"script_files": scripts, "css_files": ["_static/a.css", "https://fonts.example.org/b.css"]}
    drop_network_scripts(None, "", "", context, None)
    assert scripts == [own], "the list itself is changed, since the theme holds it too"
    assert context["css_files"] == ["_static/a.css"]
