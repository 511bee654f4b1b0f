"""The book can be cited, its sources have links, and buttons lead to a repository only where there is one."""

import re
from types import SimpleNamespace

import yaml

import medrec
from medrec import paths
from medrec.book import sphinx_ext

BASE = paths.base_dir()
DOI = re.compile(r"10\.\d{4,5}/\S+")


def entries() -> dict[str, tuple[str, str]]:
    text = (BASE / "book" / "references.bib").read_text(encoding="utf-8")
    return {key: (kind, body) for kind, key, body in re.findall(r"^@(\w+)\{(\w+),\n(.*?)\n\}", text, re.M | re.S)}


def test_the_entry_on_the_page_is_that_of_citation_cff():
    cff = yaml.safe_load((BASE / "CITATION.cff").read_text(encoding="utf-8"))
    page = (BASE / "book" / "bibliography.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^  (\w+) += \{+(.*?)\}+,?$", page, flags=re.M))
    assert shown["title"] == cff["title"]
    assert shown["version"] == cff["version"] == medrec.__version__
    assert shown["author"] == cff["authors"][0]["name"]
    assert shown["license"] == cff["license"]


def test_dois_have_their_form_and_stand_once():
    found = [(key, doi) for key, (_, body) in entries().items() for doi in re.findall(r"doi = \{(.*)\},", body)]
    assert len(found) > 40
    assert len({doi for _, doi in found}) == len(found)
    for key, doi in found:
        assert DOI.fullmatch(doi), key


def test_articles_have_a_doi_or_are_known_to_lack_one():
    without = {key for key, (kind, body) in entries().items() if kind == "article" and "doi = {" not in body}
    # A preprint, three papers in journals without DOIs at that time, a Soviet journal, and one nobody has looked up.
    known = {"mu2024bimorec", "chickering2002ges", "demsar2006statistical", "holm1979simple"}
    known |= {"weisfeiler1968reduction", "omalley2005measuring"}
    assert without == known


def test_no_repository_is_configured_so_that_there_are_no_buttons():
    config = yaml.safe_load((BASE / "_config.yml").read_text(encoding="utf-8"))
    assert "repository" not in config
    assert not [name for name in config["html"] if name.startswith("use_") and name.endswith("_button")]


def context(page, suffix):
    """What the theme would say: the page as a file below the folder of the book."""
    url = f"https://example.org/us/medrec/edit/main/book/{page}{suffix}"
    return {"page_source_suffix": suffix, "get_edit_provider_and_url": lambda: ("GitHub", url)}


def buttons(page, suffix, **options):
    given = context(page, suffix)
    app = SimpleNamespace(config={"html_theme_options": options})
    sphinx_ext.point_buttons_at_sources(app, page, "", given, None)
    return given["get_edit_provider_and_url"]()[1]


def test_buttons_lead_to_the_source_of_a_chapter_and_not_to_its_copy():
    root = "https://example.org/us/medrec/edit/main/"
    url = {"repository_url": "https://example.org/us/medrec"}
    assert buttons("chapters/01_the_task", ".ipynb", **url) == f"{root}notebooks/01_the_task.py"
    assert buttons("rely", ".md", **url) == f"{root}book/rely.md"
    assert buttons("api/models", ".md", **url) == f"{root}book/api/models.md"
    assert buttons("rely", ".md") == f"{root}book/rely.md", "nothing is touched where no repository is configured"
