"""What the book says of drugs in its prose, statement by statement, each with a source and most with a check.

``book/drug_statements.csv`` has one row a statement: the page, a piece of its text, what it says, the checks that the
package's own tables can make, and a source where they cannot. A check is a word and what it is about; several stand
side by side with semicolons. The words are the keys of :data:`CHECKS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import polars as pl

from medrec import paths
from medrec.book import page
from medrec.book.chapters import find_chapter, read_chapter
from medrec.book.generated import html
from medrec.knowledge.classes import atc3, cut, drug_descriptions, level
from medrec.knowledge.conditions import conditions
from medrec.knowledge.drugs import carriers, combinations, drug_atc, drugs
from medrec.knowledge.interactions import ddi_matrix, interactions
from medrec.types import MedrecError


@dataclass(frozen=True)
class Statement:
    """One row.

    Args:
        page: name of a chapter, or of a page of the book.
        quote: as it stands in the prose.
        says: what is claimed of a drug or a class.
        checks: what the tables can be asked.
        source: of what they cannot be asked.
    """

    page: str
    quote: str
    says: str
    checks: tuple[str, ...]
    source: str

    @property
    def sources(self) -> str:
        """Tables that the checks ask, and the source that was written down."""
        asked = dict.fromkeys(CHECKS[check.split()[0]][1] for check in self.checks)
        return "; ".join([*asked, *([self.source] if self.source else [])])


def statements() -> list[Statement]:
    """All rows of the table."""
    table = pl.read_csv(paths.base_dir() / "book" / "drug_statements.csv", infer_schema=False, glob=False).fill_null("")
    return [
        Statement(
            row["page"], row["quote"], row["says"], tuple(filter(None, re.split(r"; *", row["check"]))), row["source"]
        )
        for row in table.iter_rows(named=True)
    ]


# -- prose -----------------------------------------------------------------------------------------------------------


@cache
def prose(name: str) -> str:
    """The text of a page: Markdown cells of a chapter, or the whole of another page."""
    if re.match(r"\d\d_", name):
        cells = read_chapter(find_chapter(name)).cells
        return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return (paths.base_dir() / "book" / f"{name}.md").read_text(encoding="utf-8")


# -- checks ----------------------------------------------------------------------------------------------------------


def holds(check: str) -> bool:
    """Whether the tables say so.

    Raises:
        MedrecError: an unknown word, or a name that no table has.
    """
    word, _, rest = check.partition(" ")
    if word not in CHECKS:
        raise MedrecError(f"There is no check {word!r}; there are {', '.join(CHECKS)}.")
    return CHECKS[word][0](rest)


def _drug_first(text: str) -> tuple[str, str]:
    """The longest drug name that a text begins with, and what follows it."""
    names = [name for name in drugs()["name"] if text == name or text.startswith(f"{name} ")]
    if not names:
        raise MedrecError(f"No drug of the tables stands at the beginning of {text!r}.")
    name = max(names, key=len)
    return name, text[len(name) :].strip()


def _of(name: str) -> dict[str, object]:
    return drugs().row(by_predicate=pl.col("name") == name, named=True)


def _classes(name: str) -> set[str]:
    return set(drug_atc().filter(name=name)["atc3"])


def _coded(name: str) -> list[str]:
    codes: list[str] = _of(name)["index_codes"]  # type: ignore[assignment]
    return list(dict.fromkeys(cut(code) for code in codes))


def _about_class(rest: str) -> bool:
    code, _, words = rest.partition(" ")
    row = atc3().filter(code=code)
    return len(row) == 1 and words.lower() in row["name"][0].lower()


def _about_drug(rest: str) -> bool:
    name, words = _drug_first(rest)
    return words.lower() in drug_descriptions().filter(name=name)["description"][0].lower()


def _by_route(rest: str) -> bool:
    name, more = _drug_first(rest)
    route, code = more.split()
    rows = drug_atc().filter(name=name)
    own = rows.filter(pl.col("routes").list.contains(route))
    found = own if len(own) else rows.filter("is_default")
    return set(found["atc3"]) == {code}


def _interacts(rest: str) -> bool:
    first, second = _drug_first(rest)
    a, b = sorted((first, _drug_first(second)[0]))
    return len(interactions().filter(drug_a=a, drug_b=b)) == 1


def _joined(rest: str) -> bool:
    return bool(ddi_matrix(rest.split())[0, 1])


def _molecule(name: str) -> str:
    return str(_of(name)["smiles"])


def _carbons(rest: str) -> bool:
    a, more = _drug_first(rest)
    b, number = _drug_first(more)
    return _atoms(a).count("C") - _atoms(b).count("C") == int(number)


def _atoms(name: str) -> list[str]:
    from medrec.chem.graphs import parse

    return [atom.GetSymbol() for atom in parse(_molecule(name)).GetAtoms()]


def _charge(rest: str) -> bool:
    from medrec.chem.graphs import parse

    name, number = _drug_first(rest)
    return [a.GetFormalCharge() for a in parse(_molecule(name)).GetAtoms() if a.GetSymbol() == "N"] == [int(number)]


def _isomers(rest: str) -> bool:
    from rdkit import Chem

    from medrec.chem.graphs import parse

    a, more = _drug_first(rest)
    one, other = _molecule(a), _molecule(_drug_first(more)[0])
    flat = [Chem.MolToSmiles(parse(smiles), isomericSmiles=False) for smiles in (one, other)]
    return flat[0] == flat[1] and one != other


def _listed_with(column: str) -> Callable[[str], bool]:
    def check(rest: str) -> bool:
        name, word = _drug_first(rest)
        return word in _of(name)[column]  # type: ignore[operator]

    return check


def _treated(rest: str) -> bool:
    name, code = rest.split()
    row = conditions().row(by_predicate=pl.col("id") == name, named=True)
    return code in row["first_line"] + row["second_line"]


def _in_class(rest: str) -> bool:
    name, code = _drug_first(rest)
    return code in _classes(name)


def _code_holds(rest: str) -> bool:
    code, _, name = rest.partition(" ")
    return code in _coded(name)


def _has_codes(rest: str) -> bool:
    name, codes = _drug_first(rest)
    return _coded(name) == codes.split()


def _mixed(rest: str) -> bool:
    first, second = _drug_first(rest)
    wanted = {first, second}
    return any(set(ingredients) == wanted for ingredients in combinations()["ingredients"].to_list())


def _bare(rest: str) -> bool:
    members = drug_atc().filter(atc3=rest)["name"]
    return len(members) > 0 and all(not _molecule(name) for name in members)


CHECKS: dict[str, tuple[Callable[[str], bool], str]] = {
    "class": (_in_class, "drug_atc.csv"),
    "route": (_by_route, "drug_atc.csv"),
    "codes": (_has_codes, "drugs.csv (ATC index)"),
    "codes-contain": (lambda rest: _drug_first(rest)[1] in _coded(_drug_first(rest)[0]), "drugs.csv (ATC index)"),
    "first": (lambda rest: _coded(_drug_first(rest)[0])[0] == _drug_first(rest)[1], "drugs.csv (ATC index)"),
    "holds": (_code_holds, "drugs.csv (ATC index)"),
    "level": (lambda rest: level(rest.split()[0]) == int(rest.split()[1]), "ATC index"),
    "title": (_about_class, "atc3.csv"),
    "text": (_about_drug, "drug_descriptions.csv"),
    "brand": (_listed_with("brands"), "drugs.csv"),
    "synonym": (_listed_with("synonyms"), "drugs.csv"),
    "interacts": (_interacts, "interactions.csv"),
    "joined": (_joined, "interactions.csv, lifted"),
    "free": (lambda rest: not _joined(rest), "interactions.csv, lifted"),
    "combination": (_mixed, "combinations.csv"),
    "carrier": (lambda rest: rest in carriers()["name"].to_list(), "carriers.csv"),
    "structure": (lambda rest: bool(_molecule(rest)), "drugs.csv"),
    "smiles": (lambda rest: _molecule(rest.split()[0]) == rest.split()[1], "drugs.csv"),
    "bare": (_bare, "drugs.csv"),
    "charge": (_charge, "drugs.csv"),
    "carbons": (_carbons, "drugs.csv"),
    "isomers": (_isomers, "drugs.csv"),
    "treats": (_treated, "conditions.csv"),
    "untreated": (lambda rest: not _treated(rest), "conditions.csv"),
}
"""Word of a check → what it asks, and the table that it asks. ``codes`` are all classes of a drug in the index, in the
order of the code; ``route`` is the class by one route; ``title`` and ``text`` look for words in a name or description.
"""


# -- the part of the page --------------------------------------------------------------------------------------------


def listed() -> str:
    """All statements as tables, one folded box a page of the book."""

    def box(name: str, rows: list[Statement]) -> str:
        frame = pl.DataFrame(
            {
                "what is said": [row.says for row in rows],
                "checked": ["by test" if row.checks else "by nobody" for row in rows],
                "source": [row.sources for row in rows],
            }
        )
        words = f"Chapter {name[:2]}" if name[:2].isdigit() else f"Page {name}"
        table = html(page.table(frame, caption=f"{words}: {len(rows)} statement{'s' * (len(rows) > 1)} about drugs."))
        return f"````{{dropdown}} {words}: {len(rows)}\n{table}\n````"

    return "\n\n".join(box(name, rows) for name, rows in _by_page())


def _by_page() -> Iterator[tuple[str, list[Statement]]]:
    found: dict[str, list[Statement]] = {}
    for row in statements():
        found.setdefault(row.page, []).append(row)
    yield from found.items()
