"""What the prose says of drugs agrees with the tables, stands in the table of statements, and has a source."""

import re
from functools import cache

import polars as pl
import pytest

from medrec import paths
from medrec.book.chapters import all_chapters
from medrec.book.generated import statements
from medrec.knowledge.classes import atc3, drug_descriptions
from medrec.knowledge.drugs import drug_atc, drugs
from medrec.knowledge.interactions import interactions
from medrec.types import MedrecError

PAGES = [source.stem for source in all_chapters()] + [
    page.stem for page in sorted((paths.base_dir() / "book").glob("*.md")) if page.stem != "bibliography"
]
ROWS = statements.statements()
CODE = re.compile(r"(?<![\w/.-])([A-Z]\d\d[A-Z])(?:[A-Z](?:\d\d)?)?(?![\w-])")
NAMED = re.compile(
    r"((?:[\w'’-]+,? ){0,5}[\w'’-]+ \(`?([A-Z]\d\d[A-Z])`?(?:,[^)]*)?)\)|([A-Z]\d\d[A-Z]) \(([\w ,'’-]+)"
)
# Words of ordinary English that are names of drugs, too.
ORDINARY = {"water", "oxygen", "carbon", "glucose", "glycine", "iron", "zinc", "alcohol", "albumin", "charcoal"}
OTHER_WORDS = {
    "C01C": "drugs that hold up blood pressure",
    "L01X": "other cancer drugs",
    "C10A": "statins",
    "N02B": "paracetamol",
    "M01A": "pain killers",
}
"""How prose may call a class that our table calls otherwise."""


@cache
def words_of(page: str) -> str:
    """Prose without code, roles' targets and labels."""
    text = re.sub(r"^:\w[\w-]*:.*$|^`{3,}.*$", "", statements.prose(page), flags=re.MULTILINE)
    text = re.sub(r"\{[\w:]+\}`[^`]*`", "", text)
    return " ".join(text.split())


@cache
def simple_names() -> re.Pattern:
    names = [name for name in drugs()["name"] if name.isalpha() and len(name) > 4 and name not in ORDINARY]
    return re.compile(rf"(?<![\w{{-])({'|'.join(names)})s?(?![\w-])", re.IGNORECASE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.page[:2]}: {row.says[:40]}")
def test_a_statement_stands_on_its_page_agrees_with_the_tables_and_has_a_source(row):
    text = " ".join(statements.prose(row.page).split())
    assert " ".join(row.quote.split()) in text, f"{row.page} no longer says {row.quote!r}"
    assert row.sources, "a statement without a check names its source"
    for check in row.checks:
        assert statements.holds(check), check


def test_a_statement_stands_once():
    assert len({(row.page, row.quote) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("page", PAGES)
def test_every_drug_in_the_prose_stands_in_the_table(page):
    known = " ".join(f"{row.quote} {row.says} {' '.join(row.checks)}" for row in ROWS if row.page == page).lower()
    named = {name.lower() for name in simple_names().findall(words_of(page))}
    assert sorted(name for name in named if name not in known) == [], (
        "write the statement into book/drug_statements.csv"
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_code_in_the_prose_is_a_class(page):
    found = set(CODE.findall(words_of(page)))
    known = set(atc3()["code"]) | {"L01E", "L01F"}
    assert sorted(found - known) == []


@cache
def about(code: str) -> str:
    """Everything that the tables call a class or what is in it, in small letters."""
    row = atc3().filter(code=code).row(0, named=True)
    inside = drugs().filter(pl.col("index_codes").list.eval(pl.element().str.starts_with(code)).list.any())["name"]
    mapped = drug_atc().filter(atc3=code)["name"]
    return " ".join([row["name"], row["description"], OTHER_WORDS.get(code, ""), *inside, *mapped]).lower()


@pytest.mark.parametrize("page", PAGES)
def test_names_beside_codes_are_those_of_the_class(page):
    """``loop diuretics (`C03C`)`` and ``B01A (antithrombotics``: one word at least must be one of the table's."""
    for before, code, other, after in NAMED.findall(words_of(page)):
        code, words = (code, before) if code else (other, after)
        if code not in set(atc3()["code"]) or CODE.search(words.replace(code, "")):
            continue  # words about another code
        content = [word.lower().rstrip("s") for word in re.findall(r"[A-Za-z]{5,}", words)]
        assert not content or any(word in about(code) for word in content), f"{words!r} beside {code}"


def test_the_names_are_tried_on_something():
    found = [match for page in PAGES for match in NAMED.findall(words_of(page))]
    assert len(found) > 15
    assert "loop diuretics" not in about("B01A")


PAIR = re.compile(r"\b([a-z]+) (?:interacts|interact|may not be given|is contraindicated) with ([a-z]+)\b")


@pytest.mark.parametrize("page", PAGES)
def test_pairs_that_are_called_interacting_are_in_the_list(page):
    names = set(drugs()["name"])
    pairs = set(interactions().select("drug_a", "drug_b").iter_rows())
    for a, b in PAIR.findall(words_of(page).lower()):
        if {a, b} <= names:
            assert tuple(sorted((a, b))) in pairs, f"{a} with {b}"


@pytest.mark.parametrize(
    "check",
    [
        "class aspirin N02B",
        "route vancomycin oral J01X",
        "codes aspirin B01A",
        "first aspirin B01A",
        "title B01A opioids",
        "text aspirin insulin",
        "interacts naloxone caffeine",
        "joined C10A N02A",
        "free B01A C10A",
        "bare B01A",
        "isomers morphine codeine",
        "charge ipratropium 0",
        "carbons morphine codeine 1",
        "combination aspirin warfarin",
        "carrier aspirin",
        "treats heart_failure_systolic C10A",
    ],
)
def test_checks_can_fail(check):
    assert not statements.holds(check)


def test_a_check_that_nobody_knows_is_an_error():
    with pytest.raises(MedrecError, match="no check 'heals'"):
        statements.holds("heals aspirin")
    with pytest.raises(MedrecError, match="No drug"):
        statements.holds("class nothing B01A")


def test_descriptions_name_the_drug_tables():
    assert set(drug_descriptions()["name"]) == set(drugs()["name"])
