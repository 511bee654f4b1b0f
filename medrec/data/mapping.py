"""From the name of an ordered product, or its NDC, to a drug and its ATC class.

Hospitals write ``10 ML VIAL : INSULIN ASPART 100 UNIT/ML SC SOLN``, ``hydrALAZINE INJ`` or ``LASIX``. The text is cut
into lower-case words; the longest runs of words that are a name, a synonym or a brand of
:mod:`medrec.knowledge.drugs` are found; counter-ions and vehicles beside a drug are dropped; several drugs that make up
a listed combination become that combination. The route of the order then chooses among the drug's classes.

Every function works on the distinct products of a table, so that four million orders cost as much as a few thousand
names.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, TypeVar

import polars as pl

from medrec.data.spelling import ndc_candidates, plain_ndc
from medrec.data.tables import read_columns
from medrec.knowledge import drugs as knowledge
from medrec.paths import data_dir
from medrec.types import MedrecError

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)
Mapping = Literal["name", "ndc", "name+ndc"]
ClassRule = Literal["route", "first_code"]
Status = Literal["mapped", "carrier", "unmapped"]

NDC_TABLES = ("ndc2rxcui_gamenet.csv.gz", "ndc2rxcui_fda2020.csv.gz", "rxcui2atc4.csv.gz")
"""Tables that the NDC route needs, in ``<MEDREC_DATA_DIR>/knowledge``: NDC → RXCUI (the list of the published scripts,
then the FDA directory) and RXCUI → ATC level 4, in the order of the source."""

RESULT = {"drug": pl.String, "atc5": pl.String, "atc3": pl.String, "status": pl.String, "method": pl.String}

# -- routes -----------------------------------------------------------------------------------------------------------

_ROUTE_WORDS: dict[str, str] = {
    # Sites before ways of giving: "IV - brief infusion" has one, "ophthalmic solution" the other.
    "ophthalmic": "eye eyes ou od os oph opht ophth opth ophthalmic opthalmic botheyes"
    " acular vigamox moxeza ciloxan ocuflox tobrex timoptic betimol istalol maxidex restasis azasite",
    "otic": "ear ears au ad as otic",
    "nasal": "nasal nasl nas nares nare nostril nostrils nostr nu naso intranasal bn"
    " flonase nasonex nasacort rhinocort beconase nasalcrom astelin omnaris veramyst nasarel",
    "rectal": "rectal rect rec pr re rc enema rectum supp suppository supps suppositories",
    "vaginal": "vaginal vag vagl vg",
    "irrigation": "irrigation irrig irr ir irrigate bladder gu urethral urth urogenital",
    "inhaled": "inhalation inhaled inhale inh inhl ih neb nebs nebu nebuliz nebulizer nebulization nebulized nebulizat"
    " svn hhn aero aerosol aers mdi hfa aepb diskus ettube tracheal et inhaler respimat udn nb induced",
    "transdermal": "transdermal transderm transderma td trnd tdermal ptch pt24 pt72 ptmd patch duragesic",
    "mouth": "sl sublingual buccal buc bq mm mt mucous mucosa muc transmucosal swish swab mouth mthw throat rinse mwsh"
    " lozenge subl tongue oralrinse gargle mouthwash",
    "topical": "topical top tp topl ex external externally oint ointment cream"
    " crea lotion gel powder shampoo"
    " apply protopic retin efudex metrogel",
    "parenteral": "iv ivp ivpb ivpca ivb ivdrip ivadd imv intravenous intraven intravenou im intramuscular intramusc"
    " intramuscu sc subq sq subcut subcutaneous subcutan subcutane injection inj ij injectable picc central periph"
    " dialysis dialys hemodialysis hd crrt dial dwell flush catheter intracatheter intercatheter infiltration ifil"
    " epidural epid ed ep intrathecal it id intradermal intraderm idrm idermal arterial intraarterial intra pca ia"
    " iart pb cvc lok replace solr ivpush push drip infusion infus bolus perfusion periphnerve radinj radiv"
    " intrapleural intracoronar articular deepsubcut ndc syrg cosig piggyback lvp injec vl vial syringe syr"
    " premix ampule amp",
    "oral": "po oral ng ngt ngtube og ogt gt gtube gtub peg pegtube pej jtube ft ftube tf tube feeding orally chewed"
    " enteric gastrostomy jejunostomy gastric nasogastric nasogastri by tab tabs tablet tablets cap caps capsule"
    " capsules susp elixir syrup liqd liq chew tbec tbcr tbdp tb24 tb12 cp24 cpdr pack ec dr er radpo radoral elix"
    " solution-oral orderoral",
}
_GROUP_OF_WORD = {word: group for group, words in _ROUTE_WORDS.items() for word in words.split()}
_ORDER = tuple(_ROUTE_WORDS)

# Words that mean one thing as a route and another in a name ("ED" is epidural, "IN" a preposition).
_ROUTE_ONLY_WORDS = """
ad as au od os ou re rc rec pr ir id ed ep it ia ih nu nb bn et ft tf gt og ng td tp ex mm mt intra by ear eye
pb central flush push dial hd arterial picc bladder gu lok replace infusion bolus perfusion vl dr
"""
_ROUTE_ONLY = frozenset(_ROUTE_ONLY_WORDS.split())
_NAME_ONLY = frozenset(
    ("powder", "gel", "vial", "syringe", "syr", "premix", "amp", "ampule", "liq", "pack", "ec", "er")
)
# "PO/NG" is oral, "IV DRIP" parenteral, and these are what no single word says.
_ROUTE_EXACT = {
    "": None,
    "oral swab": "mouth",
    "oral rinse": "mouth",
    "oral mucosa": "mouth",
    "po or sl": "oral",
    "i pleural": "parenteral",
    "i artic": "parenteral",
    "sub q": "parenteral",
    "rtl": "rectal",
    "in": None,  # eICU: inhalation in some hospitals, intranasal in others; the name decides
    "na": None,
    "ns": None,
    "inhalation in": "inhaled",
    "induced sput": "inhaled",
    "both nostr": "nasal",
    "instill": "irrigation",
}


def _words(text: str) -> list[str]:
    text = text.lower().replace("'", "").replace("’", "")
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"(?<=\d)\s+%", "%", text)
    return re.findall(r"\d*\.\d+%?|\d+%|[a-z0-9]+", text)


@lru_cache(maxsize=8192)
def route_group(route: str | None) -> str | None:
    """Route group of a raw route string of MIMIC or eICU.

    Args:
        route: as the database has it, e.g. ``"PO/NG"``, ``"IV DRIP"``, ``"Both Eyes"``.

    Returns:
        One of :data:`medrec.knowledge.drugs.ROUTES`, or None where the string does not tell.
    """
    words = _words(route or "")
    joined = " ".join(words)
    if joined in _ROUTE_EXACT:
        return _ROUTE_EXACT[joined]
    groups = {_GROUP_OF_WORD[word] for word in words if word in _GROUP_OF_WORD and word not in _NAME_ONLY}
    if "oral" in groups and groups & {"nasal"}:  # a nasogastric tube ends in the stomach
        return "oral"
    return next((group for group in _ORDER if group in groups), None)


def _form_group(words: Iterable[str]) -> str | None:
    """Route group told by the form words of a product's name (``NEBU``, ``Ophth``, ``PO TABS``)."""
    groups = {_GROUP_OF_WORD[word] for word in words if word in _GROUP_OF_WORD and word not in _ROUTE_ONLY}
    return next((group for group in _ORDER if group in groups), None)


# -- names ------------------------------------------------------------------------------------------------------------

_VEHICLES = frozenset(("dextrose", "glucose", "sodium chloride", "nacl", "sodium cl", "saline"))
_WEAK = _VEHICLES | frozenset(
    (
        "calcium",
        "potassium",
        "magnesium",
        "zinc",
        "iron",
        "sodium phosphate",
        "sodium phosphates",
        "sodium acetate",
        "sodium citrate",
        "lactic acid",
        "alcohol",
        "ethanol",
        "menthol",
        "sorbitol",
        "glycerin",
        "insulin",
    )
)
"""Names that are the counter-ion, the vehicle, the flavour or the family when another drug stands beside them
(``losartan potassium``, ``vancomycin in dextrose``, ``insulin Lantus``). A vehicle gives way to a carrier too."""

_FILLER_WORDS = """
ml mg mcg g gm gram grams l liter unit units meq mmol mmole in of for and with the w iv inj injection soln
solution sol flush syringe vial bag bottle glass bolus infusion premix each ea cont flex plas excel adult pf per
pb lvp ivpb syr solp po tab tabs x hr hours hour peripheral line lok lock prefill ns sso adv mbp stock size
empty custom ndc irrigation chemo room std route kvo tko carrier base fluid fluids replacement protocol prn
primary secondary piggyback minibag to keep open vein medication order plain
"""
_FILLER = frozenset(_FILLER_WORDS.split())
_MIN_PREFIX = 5


@dataclass(frozen=True)
class _Entry:
    kind: Literal["drug", "combination", "carrier"]
    name: str
    ingredients: frozenset[str] = frozenset()
    routes: frozenset[str] = frozenset()  # of a carrier: where it is one; empty: everywhere
    whole_name: bool = False


@dataclass(frozen=True)
class _Parsed:
    """What a product's name says before the route is known."""

    entry: _Entry | None
    carrier: _Entry | None
    form: str | None
    method: str


@cache
def _phrases() -> dict[tuple[str, ...], list[_Entry]]:
    phrases: dict[tuple[str, ...], list[_Entry]] = {}

    def add(texts: Iterable[str], entry: _Entry) -> None:
        for text in texts:
            known = phrases.setdefault(tuple(_words(text)), [])
            if entry not in known:
                known.append(entry)

    for row in knowledge.drugs().iter_rows(named=True):
        add(
            [row["name"], *row["synonyms"], *row["brands"]],
            _Entry("drug", row["name"], frozenset([row["name"]])),
        )
    for row in knowledge.combinations().iter_rows(named=True):
        add(
            [row["name"], *row["synonyms"], *row["brands"]],
            _Entry("combination", row["name"], frozenset(row["ingredients"])),
        )
    for row in knowledge.carriers().iter_rows(named=True):
        add([row["name"]], _Entry("carrier", row["name"], frozenset(), frozenset(row["routes"]), row["whole_name"]))
    return phrases


@cache
def _longest() -> int:
    return max(map(len, _phrases()))


@cache
def _sorted_phrases() -> list[tuple[str, tuple[str, ...]]]:
    return sorted((" ".join(phrase), phrase) for phrase in _phrases())


@cache
def _by_ingredients() -> dict[frozenset[str], list[str]]:
    table: dict[frozenset[str], list[str]] = {}
    for name, ingredients in knowledge.combinations().select("name", "ingredients").iter_rows():
        table.setdefault(frozenset(ingredients), []).append(name)
    return table


@cache
def _combination(name: str) -> _Entry:
    ingredients = knowledge.combinations().filter(pl.col("name") == name)["ingredients"].to_list()[0]
    return _Entry("combination", name, frozenset(ingredients))


def _find(words: list[str]) -> tuple[list[tuple[tuple[str, ...], list[_Entry]]], list[str]]:
    """Longest known phrases from left to right, and the words in between."""
    phrases, found, rest, i = _phrases(), [], [], 0
    while i < len(words):
        for n in range(min(_longest(), len(words) - i), 0, -1):
            phrase = tuple(words[i : i + n])
            if phrase in phrases:
                found.append((phrase, phrases[phrase]))
                i += n
                break
        else:
            rest.append(words[i])
            i += 1
    return found, rest


@lru_cache(maxsize=1 << 17)
def _parse(name: str) -> _Parsed:
    words = _words(name)
    found, rest = _find(words)
    form = _form_group(words)
    method = "name"
    drugs = [(p, e) for p, entries in found for e in entries if e.kind != "carrier"]
    carriers = [e for _, entries in found for e in entries if e.kind == "carrier"]
    if not found and len(joined := " ".join(words)) >= _MIN_PREFIX:
        # A cut-off name ("Sodium Bicarbo", "Propra") counts if it can only be one drug.
        table = _sorted_phrases()
        at = bisect_left(table, (joined, ()))
        hits: dict[str, tuple[tuple[str, ...], _Entry]] = {}
        while at < len(table) and table[at][0].startswith(joined):
            hits |= {e.name: (table[at][1], e) for e in _phrases()[table[at][1]] if e.kind != "carrier"}
            at += 1
        if len(hits) == 1:
            drugs, method = list(hits.values()), "name (cut off)"
    strong = [e for p, e in drugs if " ".join(p) not in _WEAK]
    solid = any(" ".join(p) not in _VEHICLES for p, _ in drugs)
    entries = list(dict.fromkeys(strong or [e for _, e in drugs[:1]]))
    entry = entries[0] if entries else None
    if len(entries) > 1:
        union = frozenset().union(*(e.ingredients for e in entries))
        if union in _by_ingredients():
            entry = _combination(_by_ingredients()[union][0])
        else:
            # An order of two drugs without a class of their own counts as its first one, unless one of them is a
            # combination that holds the others.
            entry = next((e for e in entries if e.ingredients == union), entries[0])
            method = "name (first of several)"
    plain = all(word in _FILLER or not word[0].isalpha() for word in rest)
    # A fluid is a carrier if nothing else is named; a container only if nothing at all is left unexplained.
    carrier = None
    if not solid:
        carrier = next((c for c in carriers if not c.whole_name or (plain and not drugs)), None)
    return _Parsed(entry, carrier, form, method)


@cache
def _classes() -> dict[str, tuple[str, dict[str, str], str]]:
    """Name → (default code, code by route, first code of the index)."""
    default: dict[str, str] = {}
    by_route: dict[str, dict[str, str]] = {}
    for name, atc5, routes, is_default in (
        knowledge.drug_atc().select("name", "atc5", "routes", "is_default").iter_rows()
    ):
        if is_default:
            default[name] = atc5
        by_route.setdefault(name, {}).update(dict.fromkeys(routes, atc5))
    first = {name: codes[0] for name, codes in knowledge.drugs().select("name", "index_codes").iter_rows() if codes}
    table = {name: (code, by_route[name], first.get(name, code)) for name, code in default.items()}
    for name, atc5 in knowledge.combinations().select("name", "atc5").iter_rows():
        table[name] = (atc5, {}, atc5)
    return table


@cache
def _combination_routes() -> dict[str, frozenset[str]]:
    return {name: frozenset(routes) for name, routes in knowledge.combinations().select("name", "routes").iter_rows()}


def _resolve(name: str | None, route: str | None, rule: ClassRule) -> tuple[str | None, ...]:
    """Drug, code, class, status and method of one product by its name."""
    unmapped = (None, None, None, "unmapped", None)
    if not name:
        return unmapped
    parsed = _parse(name)
    group = route_group(route) or parsed.form
    carrier, entry = parsed.carrier, parsed.entry
    if carrier is not None and (not carrier.routes or (group or "unknown") in carrier.routes):
        return (None, None, None, "carrier", "name")
    if entry is None:
        return unmapped
    drug = entry.name
    if entry.kind == "combination":
        # The same ingredients can be a cream or an eye ointment: the route chooses.
        options = _by_ingredients().get(entry.ingredients, [drug])
        if group not in _combination_routes()[drug]:
            drug = next((other for other in options if group in _combination_routes()[other]), drug)
    default, by_route, first = _classes()[drug]
    atc5 = first if rule == "first_code" else by_route.get(group or "", default)
    return (drug, atc5, atc5[:4], "mapped", parsed.method)


# -- NDC --------------------------------------------------------------------------------------------------------------

_LOCAL: tuple[tuple[str, frozenset[str]], ...] = tuple(
    (prefix, frozenset(groups.split()))
    for prefix, groups in (
        ("A01", "mouth"),
        ("A07", "oral rectal"),
        ("B05C", "irrigation"),
        ("C05", "rectal"),
        ("D", "topical"),
        ("G01", "vaginal"),
        ("G02C", "vaginal"),
        ("M02", "topical transdermal"),
        ("R01A", "nasal"),
        ("R02", "mouth"),
        ("R03A", "inhaled"),
        ("R03B", "inhaled"),
        ("S01", "ophthalmic"),
        ("S02", "otic"),
        ("S03", "ophthalmic otic"),
        ("V04C", ""),
    )
)
"""Classes of preparations that act where they are put, and the routes that put them there; diagnostic agents (a glucose
tolerance test) are meant by no route."""


def _fits(atc: str, group: str | None) -> bool:
    return all(group in groups for prefix, groups in _LOCAL if atc.startswith(prefix))


@lru_cache(maxsize=4)
def _ndc_classes(folder: Path) -> pl.DataFrame:
    """NDC → list of ATC level-4 classes of the product, in the order of the source: columns ``ndc``, ``classes``."""
    for file in NDC_TABLES:
        if not (folder / file).exists():
            raise MedrecError(
                f"Mapping by NDC needs {file} in {folder}, which is not there. "
                "Put the three NDC tables there, point MEDREC_DATA_DIR at a folder that has them, "
                "or map by name (mapping='name')."
            )
    columns = (("ndc", "rxcui"), ("ndc11", "rxcui"), ("rxcui", "atc4", "source_order"))
    gamenet, fda, atc = (read_columns(folder / file, *which) for file, which in zip(NDC_TABLES, columns, strict=True))
    classes = (
        atc.with_columns(pl.col("source_order").cast(pl.Int32))
        .sort("rxcui", "source_order", "atc4")
        .group_by("rxcui", maintain_order=True)
        .agg(classes="atc4")
    )
    # An NDC takes the first of the two lists that leads to a class.
    ndc = pl.concat(
        [
            gamenet.select(plain_ndc(pl.col("ndc")).alias("ndc"), "rxcui", list_=pl.lit(0)),
            fda.select(plain_ndc(pl.col("ndc11")).alias("ndc"), "rxcui", list_=pl.lit(1)),
        ]
    )
    return (
        ndc.join(classes, on="rxcui")
        .sort("ndc", "list_", "rxcui")
        .unique("ndc", keep="first", maintain_order=True)
        .select("ndc", "classes")
    )


def ndc_classes(ndc: pl.Series, folder: Path | None = None) -> pl.DataFrame:
    """Classes of products by NDC → RXCUI → ATC level 4, the route of the published pipelines.

    Args:
        ndc: codes as text, ``(n,)``, in any spelling of :func:`medrec.data.spelling.plain_ndc`; ``"0"`` and null are
            missing. Ten digits can be three products: they are known where the table holds exactly one of these.
        folder: where :data:`NDC_TABLES` lie; None: ``<MEDREC_DATA_DIR>/knowledge``.

    Returns:
        ``ndc`` and ``classes`` (list of level-4 codes, in the order of the source), one row each distinct NDC known.

    Raises:
        MedrecError: one of the tables is missing.
    """
    table = _ndc_classes(folder or data_dir() / "knowledge")
    given = pl.DataFrame({"ndc": ndc.cast(pl.String).unique().drop_nulls()}).with_columns(
        plain=plain_ndc(pl.col("ndc"))
    )
    ten = pl.col("plain").str.contains(r"^\d{10}$").fill_null(False)
    guessed = [(row["ndc"], plain) for row in given.filter(ten).to_dicts() for plain in ndc_candidates(row["plain"])]
    found = pl.concat([given.filter(~ten), pl.DataFrame(guessed, given.schema, orient="row")])
    return (
        found.join(table, left_on="plain", right_on="ndc")
        .filter(pl.len().over("ndc") == 1)
        .select("ndc", "classes")
        .sort("ndc")
    )


# -- the door ---------------------------------------------------------------------------------------------------------


def map_medications(
    products: Frame,
    *,
    class_rule: ClassRule = "route",
    mapping: Mapping = "name",
    folder: Path | None = None,
) -> Frame:
    """Give each ordered product a drug and an ATC class.

    Args:
        products: has ``name`` and ``route``, and ``ndc`` where ``mapping`` uses it; may hold one row an order or one
            row a product, and any other columns.
        class_rule: ``"route"``: by ingredient, then route (:mod:`medrec.knowledge.drugs`). ``"first_code"``: the first
            of all codes of the product, as published pipelines choose; by name, where there is no product, the first of
            all codes of the ingredient in the index. It turns oral aspirin into a mouth preparation.
        mapping: ``"name"``, ``"ndc"``, or ``"name+ndc"``: by NDC what the name leaves unmapped.
        folder: where the NDC tables lie; None: ``<MEDREC_DATA_DIR>/knowledge``.

    Returns:
        The frame with ``drug``, ``atc5``, ``atc3``, ``status`` (``mapped``, ``carrier``, ``unmapped``) and ``method``
        (``name``, ``name (cut off)``, ``name (first of several)`` or ``ndc``) added. By NDC alone ``drug`` is null, and
        ``atc5`` too: these tables end at level four. Columns of these names are replaced.

    Raises:
        MedrecError: an NDC table is asked for and missing, or an option is misspelt.
    """
    for option, value, known in (
        ("class_rule", class_rule, ("route", "first_code")),
        ("mapping", mapping, ("name", "ndc", "name+ndc")),
    ):
        if value not in known:
            raise MedrecError(f"{option}={value!r} is unknown. Choose one of {', '.join(known)}.")
    lazy = products.lazy()
    keys = ["name", "route"] if mapping == "name" else ["name", "route", "ndc"]
    missing = [key for key in keys if key not in lazy.collect_schema().names()]
    if missing:
        raise MedrecError(f"The orders have no column {missing[0]!r}, which mapping={mapping!r} needs.")
    distinct = lazy.select(pl.col(keys).cast(pl.String)).unique().collect(engine="streaming")
    rows = [_resolve(name, route, class_rule) for name, route in distinct.select("name", "route").iter_rows()]
    found = distinct.hstack(pl.DataFrame(rows, schema=RESULT, orient="row"))
    if mapping != "name":
        found = _add_ndc(found, mapping, class_rule, folder)
    lazy = (
        lazy.drop(*RESULT, strict=False)
        .with_columns(pl.col(keys).cast(pl.String))
        .join(found.lazy(), on=keys, how="left", nulls_equal=True, maintain_order="left")
    )
    return lazy if isinstance(products, pl.LazyFrame) else lazy.collect()


def _add_ndc(found: pl.DataFrame, mapping: Mapping, rule: ClassRule, folder: Path | None) -> pl.DataFrame:
    joined = found.join(ndc_classes(found["ndc"], folder), on="ndc", how="left")
    rows = []
    for name, route, drug, atc5, atc3, status, method, classes in joined.select(
        "name", "route", *RESULT, "classes"
    ).iter_rows():
        if mapping == "name+ndc" and (status == "carrier" or (status == "mapped" and rule == "route")):
            rows.append((drug, atc5, atc3, status, method))
        elif not classes:
            keep = mapping == "name+ndc" or status == "carrier"
            rows.append((drug, atc5, atc3, status, method) if keep else (None, None, None, "unmapped", None))
        else:
            level3 = [code[:4] for code in classes]
            if rule == "first_code":
                chosen = level3[0]
            elif atc3 in level3:
                chosen = atc3
            else:
                group = route_group(route) or _form_group(_words(name or ""))
                chosen = next((code for code in level3 if _fits(code, group)), level3[0])
            rows.append((drug, atc5 if chosen == atc3 else None, chosen, "mapped", "ndc"))
    return joined.select("name", "route", "ndc").hstack(pl.DataFrame(rows, schema=RESULT, orient="row"))


def names_by_hicl(products: pl.DataFrame) -> pl.DataFrame:
    """The drug that stands most often under each HICL number among the named orders of the same database.

    A HICL number (First Databank) stands for one set of ingredients; in eICU two orders of five have the number alone.

    Args:
        products: ``name``, ``route``, ``hicl`` and ``rows``, the number of orders of each.

    Returns:
        ``hicl``, ``name`` (a drug, a combination or a carrier), ``rows`` (orders that voted for it), ``share`` (of all
        named orders with the number that have a drug or are carriers). Ties go to the first name in the alphabet.
    """
    named = products.filter(pl.col("name").is_not_null() & pl.col("hicl").is_not_null())
    mapped = map_medications(named.select("name", "route", "hicl", "rows")).filter(pl.col("status") != "unmapped")
    # A carrier keeps a name that is one, so that it is excluded again when it is mapped.
    votes = (
        mapped.with_columns(name=pl.coalesce("drug", pl.lit(_FLUID)))
        .group_by("hicl", "name")
        .agg(pl.col("rows").sum())
        .with_columns(share=pl.col("rows") / pl.col("rows").sum().over("hicl"))
    )
    return votes.sort(["hicl", "rows", "name"], descending=[False, True, False]).unique(
        "hicl", keep="first", maintain_order=True
    )


_FLUID = "sterile water"
"""Stands for any carrier among restored names."""


# -- how far two ways agree -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """How far the name route agrees with the NDC route, counted in orders.

    Args:
        both: orders to which both routes give an answer.
        among: of these, our class is among the product's classes.
        first: of these, our class is the product's first class.
        differences: ``drug``, ``ours``, ``first_code``, ``rows``: where the first-code rule says another class.
        outside: ``drug``, ``ours``, ``theirs``, ``rows``: where our class is none of the product's.
    """

    both: int
    among: int
    first: int
    differences: pl.DataFrame
    outside: pl.DataFrame

    @property
    def share(self) -> float:
        """Share of orders whose class by name is among the product's classes."""
        return self.among / self.both if self.both else float("nan")


def agreement(products: pl.DataFrame, folder: Path | None = None) -> Agreement:
    """Compare the class by name and route with the classes of the product's NDC.

    Args:
        products: ``name``, ``route``, ``ndc`` and ``rows``, the number of orders of each.
        folder: where the NDC tables lie; None: ``<MEDREC_DATA_DIR>/knowledge``.

    Raises:
        MedrecError: an NDC table is missing.
    """
    both = (
        map_medications(products.select("name", "route", "ndc", "rows"))
        .filter(pl.col("status") == "mapped")
        .join(ndc_classes(products["ndc"], folder), on="ndc")
        .with_columns(level3=pl.col("classes").list.eval(pl.element().str.slice(0, 4)).list.unique(maintain_order=True))
        .with_columns(first=pl.col("level3").list.first(), inside=pl.col("level3").list.contains(pl.col("atc3")))
    )

    def table(frame: pl.DataFrame, theirs: pl.Expr) -> pl.DataFrame:
        return (
            frame.group_by("drug", theirs, ours="atc3")
            .agg(pl.col("rows").sum())
            .sort(["rows", "drug"], descending=[True, False])
        )

    return Agreement(
        both=int(both["rows"].sum()),
        among=int(both.filter("inside")["rows"].sum()),
        first=int(both.filter(pl.col("first") == pl.col("atc3"))["rows"].sum()),
        differences=table(both.filter(pl.col("first") != pl.col("atc3")), pl.col("first").alias("first_code")),
        outside=table(both.filter(~pl.col("inside")), pl.col("level3").list.join("|").alias("theirs")),
    )
