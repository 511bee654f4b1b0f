"""The drug tables behind the papers, measured: what rules make of the same orders, and what two lists share.

The list behind the published matrix, an expert list and the open demos are facts that may be used, and are no part of
this book. ``python -m medrec.experiments.drug_tables`` counts where their files lie in ``MEDREC_DATA_DIR``, and keeps
what a chapter ("From a bottle to a class") says of them; a test counts again.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import spearmanr

from medrec import metrics
from medrec.data import load_cohort, mimic3, mimic4
from medrec.data.mapping import NDC_TABLES, ClassRule, Mapping, map_medications, ndc_classes, route_group
from medrec.knowledge.drugs import combinations, drugs
from medrec.knowledge.interactions import (
    ATC_OF_STITCH,
    TWOSIDES_FILE,
    class_pairs,
    ddi_matrix,
    interactions,
    read_onc,
    read_twosides,
    rewire,
)
from medrec.lab import kept
from medrec.paths import data_dir

STUDY = "drug_tables"
COMMAND = f"python -m medrec.experiments.{STUDY}"
READERS = {"mimic3-demo": mimic3.read, "mimic4-demo": mimic4.read}
SHORT = {"mimic3-demo": "m3", "mimic4-demo": "m4"}
"""Demos, as names of facts begin."""
VOCABULARY = TWOSIDES_FILE.replace(".csv.gz", "_vocab.csv.gz")
ONC_FILE = "ddi_onc_ndfrt.csv.gz"
INGREDIENTS = "ingredient2atc.csv.gz"
FILES = (TWOSIDES_FILE, VOCABULARY, ATC_OF_STITCH, ONC_FILE, INGREDIENTS, *NDC_TABLES)
"""In ``knowledge/`` of the data folder."""
RULES: dict[str, tuple[Mapping, ClassRule]] = {
    "product, first code": ("ndc", "first_code"),
    "name, first code": ("name", "first_code"),
    "name and route": ("name", "route"),
}
"""Ways from an order to a class: how the drug is found, and how one of its classes is chosen."""
DRAWS = 50
REWIRED = 2000

TEXTBOOK = (
    ("warfarin", "fluconazole"),
    ("warfarin", "metronidazole"),
    ("warfarin", "amiodarone"),
    ("warfarin", "sulfamethoxazole"),
    ("warfarin", "aspirin"),
    ("warfarin", "ibuprofen"),
    ("warfarin", "rifampin"),
    ("digoxin", "verapamil"),
    ("digoxin", "amiodarone"),
    ("digoxin", "clarithromycin"),
    ("simvastatin", "clarithromycin"),
    ("simvastatin", "itraconazole"),
    ("simvastatin", "gemfibrozil"),
    ("lisinopril", "spironolactone"),
    ("lisinopril", "potassium chloride"),
    ("methotrexate", "trimethoprim"),
    ("methotrexate", "ibuprofen"),
    ("lithium", "ibuprofen"),
    ("lithium", "lisinopril"),
    ("linezolid", "sertraline"),
    ("nitroglycerin", "sildenafil"),
    ("allopurinol", "azathioprine"),
    ("clopidogrel", "omeprazole"),
    ("ciprofloxacin", "tizanidine"),
    ("meperidine", "phenelzine"),
    ("midazolam", "morphine"),
    ("fluconazole", "tacrolimus"),
    ("carbamazepine", "erythromycin"),
    ("meropenem", "valproic acid"),
    ("furosemide", "gentamicin"),
)
"""Thirty interactions that any hospital pharmacist knows, picked by hand; each is a row of our own list."""


# -- classes by lot ---------------------------------------------------------------------------------------------------


@cache
def choices() -> pl.DataFrame:
    """Between which level-3 classes a rule chooses.

    Returns:
        ``name`` of each drug and fixed combination, ``atc3``: its classes, each once, in the order of its codes.
    """
    codes = pl.concat(
        [
            drugs().select("name", codes="index_codes"),
            combinations().select("name", codes=pl.concat_list("atc5")),
        ]
    )
    level_3 = pl.element().str.slice(0, 4)
    return codes.select("name", atc3=pl.col("codes").list.sort().list.eval(level_3).list.unique(maintain_order=True))


def any_code() -> pl.DataFrame:
    """All classes of each drug, ``name`` and ``atc3``: what the published matrix is lifted over."""
    return choices().explode("atc3", empty_as_null=True).drop_nulls()


def our_pairs() -> pl.DataFrame:
    """Pairs of our own list that make an edge: all but the minor ones."""
    return interactions().filter(pl.col("severity") != "minor")


def sets(rows: pl.DataFrame, classes: list[str]) -> NDArray[np.bool_]:
    """What visits hold, ``(V, M)``, without classes outside the list; a visit that holds none of them has no row.

    Args:
        rows: ``visit_id``, ``atc3``; rows without a visit are left out.
        classes: of the columns, ``(M,)``.
    """
    rows = rows.filter(pl.col("atc3").is_in(classes)).select("visit_id", "atc3").unique().drop_nulls("visit_id")
    if rows.is_empty():
        return np.zeros((0, len(classes)), dtype=bool)
    v = rows["visit_id"].rank("dense").cast(pl.Int64).to_numpy() - 1
    index = {code: i for i, code in enumerate(classes)}
    held = np.zeros((v.max() + 1, len(classes)), dtype=bool)
    held[v, [index[code] for code in rows["atc3"]]] = True
    return held


def by_lot(
    rows: pl.DataFrame, classes: list[str], ddi: NDArray[np.bool_], *, seed: int, draws: int = DRAWS
) -> NDArray[np.float64]:
    """DDI rates of the same orders where each drug draws one of its classes by lot, and keeps it.

    Args:
        rows: orders, ``visit_id`` and ``drug``.
        classes: that index the matrix, ``(M,)``.
        ddi: interactions between classes, ``(M, M)``.
        seed: of the lots.
        draws: how often all drugs draw.

    Returns:
        One rate a draw, ``(draws,)``, pooled over visits.
    """
    taken, rng = rows.select("visit_id", name="drug").unique(), np.random.default_rng(seed)
    options = choices()
    several = options["atc3"].list.len().to_numpy()
    found = []
    for _ in range(draws):
        lot = pl.lit(pl.Series((rng.random(len(several)) * several).astype(np.int64)))
        drawn = options.select("name", atc3=pl.col("atc3").list.get(lot, null_on_oob=True))
        found.append(metrics.ddi_rate(sets(taken.join(drawn, on="name"), classes), ddi))
    return np.array(found)


# -- the published matrix, and other lists ----------------------------------------------------------------------------


def _external(file: str) -> pl.DataFrame:
    return pl.read_csv(data_dir() / "knowledge" / file, infer_schema=False, glob=False)


def at_hand() -> bool:
    """Whether the published matrix lies in the data folder."""
    return all((data_dir() / "knowledge" / file).is_file() for file in (TWOSIDES_FILE, VOCABULARY))


def published() -> tuple[list[str], NDArray[np.bool_]]:
    """The classes of the published matrix, ``(M,)``, and the matrix, ``(M, M)``."""
    classes = _external(VOCABULARY).drop_nulls("index_131")["atc3"].to_list()
    return classes, ddi_matrix(classes, read_twosides(data_dir() / "knowledge" / TWOSIDES_FILE))


def density(ddi: NDArray[np.bool_]) -> float:
    """Share of the pairs of classes that are joined."""
    return float(ddi.sum() / (len(ddi) * (len(ddi) - 1)))


def listed_drugs() -> Counter[str]:
    """How many compounds of the source of the published matrix have a code in each class."""
    lines = [line.split(",") for line in (data_dir() / "knowledge" / ATC_OF_STITCH).read_text().split()]
    return Counter(code for _, code in {(compound, code[:4]) for compound, *codes in lines for code in codes})


def matrix_facts() -> dict[str, Any]:
    """Size, hubs and gaps of the published matrix; its edges between named classes; textbook pairs that it holds."""
    classes, ddi = published()
    at, degree, listed = classes.index, ddi.sum(1), listed_drugs()
    size = np.array([listed[code] for code in classes])
    edges = {(a, b) for a, b in zip(*(np.array(classes)[end] for end in np.nonzero(ddi)), strict=True)}
    codes = dict(choices().iter_rows())
    joined = [any((a, b) in edges for a in codes[x] for b in codes[y]) for x, y in TEXTBOOK]
    return {
        "tw_classes": len(classes),
        "tw_pairs": ddi.sum() // 2,
        "tw_density": density(ddi),
        "tw_classes_112": _external(VOCABULARY)["index_112"].count(),
        "tw_pairs_112": (_external(TWOSIDES_FILE)["in_112"] == "1").sum(),
        "tw_no_edge": (degree == 0).sum(),
        "tw_no_edge_with_drugs": ((degree == 0) & (size > 0)).sum(),
        "tw_spearman": spearmanr(size, degree).statistic,
        "tw_h02a_shared": (ddi[at("H02A")] & ddi[at("A07E")]).sum(),
        "tw_h02a_or_a07e": (ddi[at("H02A")] | ddi[at("A07E")]).sum(),
        "tw_textbook": sum(joined),
        **{f"tw_{code.lower()}": degree[at(code)] for code in ("M01A", "L01X", "L04A", "B01A", "J01X", "A07A")},
    }


def other_lists() -> dict[str, pl.DataFrame]:
    """Class pairs of the lists that the published matrix is compared with.

    Returns:
        ``all``: the expert list, over all codes of a drug, as the published matrix is; ``spelt``: without synonyms;
        ``route``: over :func:`medrec.knowledge.interactions.systemic_classes`; ``critical`` and ``high``: its severe
        parts; ``own``: our list.
    """
    expert = read_onc(data_dir() / "knowledge" / ONC_FILE)
    ingredients = _external(INGREDIENTS).with_columns(pl.col("ingredient_name").str.to_lowercase())
    codes = ingredients.select(name="ingredient_name", atc3=pl.col("atc4").str.slice(0, 4)).unique()
    return {
        "all": class_pairs(expert, codes),
        "spelt": class_pairs(_external(ONC_FILE).select(drug_a="name_1", drug_b="name_2"), codes),
        "route": class_pairs(expert),
        "critical": class_pairs(expert.filter(pl.col("severity") == "Critical"), codes),
        "high": class_pairs(expert.filter(pl.col("source") == "ONC-HighPriority"), codes),
        "own": class_pairs(our_pairs()),
    }


def overlaps(rewired: int = REWIRED, seed: int = 0) -> pl.DataFrame:
    """Edges that the published matrix shares with each of :func:`other_lists`, and with graphs that keep its degrees.

    Args:
        rewired: number of random graphs; they are those of :func:`medrec.knowledge.interactions.overlap_test`.
        seed: of the first of them.

    Returns:
        ``list``, ``edges`` among the published classes, ``shared``, ``uniform``: expected of edges thrown anywhere,
        ``mean`` and ``sd`` over the random graphs, ``p``: one-sided.
    """
    classes, ddi = published()
    graphs = np.stack([rewire(ddi, seed + i) for i in range(rewired)])
    rows = []
    for name, pairs in other_lists().items():
        other = ddi_matrix(classes, pairs)
        edges, shared, null = other.sum() // 2, (ddi & other).sum() // 2, (graphs & other).sum((1, 2)) // 2
        p = (1 + (null >= shared).sum()) / (1 + rewired)
        rows.append((name, int(edges), int(shared), density(ddi) * edges, null.mean(), null.std(), p))
    return pl.DataFrame(rows, schema=["list", "edges", "shared", "uniform", "mean", "sd", "p"], orient="row")


# -- orders of the open demos -----------------------------------------------------------------------------------------


def mapped_orders(name: str) -> dict[str, pl.DataFrame]:
    """Orders of a demo that have a class, by each of :data:`RULES`."""
    orders = READERS[name](data_dir() / name).orders.collect()
    return {
        rule: map_medications(orders, mapping=mapping, class_rule=chosen).filter(pl.col("status") == "mapped")
        for rule, (mapping, chosen) in RULES.items()
    }


def demo_facts(mapped: dict[str, dict[str, pl.DataFrame]]) -> dict[str, Any]:
    """What the published route makes of the orders of both demos.

    Args:
        mapped: demo → rule → orders, see :func:`mapped_orders`.

    Returns:
        For each demo (``m3``, ``m4``): ``patients``; ``visits`` with a class, how many of them hold R01A and R03A
        (``flagged``), the share with A01A; the share of orders with a known product that is one of several classes;
        numbers of classes at level 3 and 4; the lowest and highest rate by lot. For both together: orders with a known
        product of aspirin and vancomycin, and those in their first class; the share of vancomycin that is given by a
        vein; orders in three classes, and those of one drug.
    """
    classes, ddi = published()
    at, products = classes.index, []
    facts: dict[str, Any] = {}
    for name, m in SHORT.items():
        tables = READERS[name](data_dir() / name)
        product = mapped[name]["product, first code"]
        held, visits = sets(product, classes), product["visit_id"].n_unique()
        lots = by_lot(mapped[name]["name and route"], classes, ddi, seed=0)
        numbers = tables.orders.select("ndc").collect()
        coded = numbers.join(ndc_classes(numbers["ndc"]), on="ndc")["classes"]
        first = coded.list.first()
        level_3 = coded.list.eval(pl.element().str.slice(0, 4))
        facts |= {
            f"{m}_patients": tables.visits.select("patient_id").collect()["patient_id"].n_unique(),
            f"{m}_visits": visits,
            f"{m}_flagged": (held[:, at("R01A")] & held[:, at("R03A")]).sum(),
            f"{m}_a01a": held[:, at("A01A")].sum() / visits,
            f"{m}_several": (level_3.list.n_unique() > 1).mean(),
            f"{m}_level3": first.str.slice(0, 4).n_unique(),
            f"{m}_level4": first.n_unique(),
            f"{m}_low": lots.min(),
            f"{m}_high": lots.max(),
        }
        products.append(product.select("name", "route", product_class="atc3"))
    both = map_medications(pl.concat(products))
    for drug, code in (("aspirin", "A01A"), ("vancomycin", "A07A")):
        rows = both.filter(pl.col("drug") == drug)
        facts |= {drug: len(rows), f"{drug}_{code.lower()}": (rows["product_class"] == code).sum()}
    ways = both.filter(pl.col("drug") == "vancomycin")["route"].map_elements(route_group, return_dtype=pl.String)
    facts["vancomycin_vein"] = (ways == "parenteral").sum() / len(ways)
    for code, drug in (("R01A", "ipratropium"), ("A03B", "atropine"), ("N07A", "neostigmine")):
        rows = both.filter(pl.col("product_class") == code)
        facts |= {code.lower(): len(rows), f"{code.lower()}_{drug}": rows["drug"].str.contains(drug).sum()}
    return facts


def demo_rates(mapped: dict[str, dict[str, pl.DataFrame]]) -> pl.DataFrame:
    """DDI rate of what was prescribed in each demo, by rule and list: ``records``, ``rule``, ``list``, ``rate``."""
    ours = sorted(any_code()["atc3"].unique())
    matrices = {"published": published(), "own": (ours, ddi_matrix(ours))}
    rows = [
        (name, rule, which, metrics.ddi_rate(sets(orders, classes), ddi))
        for name, by_rule in mapped.items()
        for rule, orders in by_rule.items()
        for which, (classes, ddi) in matrices.items()
    ]
    return pl.DataFrame(rows, schema=["records", "rule", "list", "rate"], orient="row")


# -- kept values ------------------------------------------------------------------------------------------------------


def measure() -> dict[str, pl.DataFrame]:
    """The kept tables ``facts`` and ``rates``, which no random graph enters."""
    mapped = {name: mapped_orders(name) for name in SHORT}
    facts = {**matrix_facts(), "expert_pairs": len(other_lists()["route"]), **demo_facts(mapped)}
    table = pl.DataFrame({"quantity": list(facts), "value": [float(value) for value in facts.values()]})
    return {"facts": table, "rates": demo_rates(mapped)}


def read() -> kept.Kept:
    """The kept tables ``facts``, ``rates`` and ``overlaps``."""
    return kept.read(STUDY, command=COMMAND)


def stored_facts() -> dict[str, float]:
    """Names of facts, as :func:`matrix_facts` and :func:`demo_facts` say, and their values."""
    return dict(read().table("facts").iter_rows())


def main() -> None:
    """Make the kept values anew; the demos and the files of :data:`FILES` must lie in ``MEDREC_DATA_DIR``."""
    start = time.perf_counter()
    tables = {**measure(), "overlaps": overlaps()}
    folder = kept.save(
        STUDY,
        {name: table.with_columns(pl.selectors.float().round(6)) for name, table in tables.items()},
        cohort=None,
        command=COMMAND,
        code=kept.code_of("medrec.experiments.drug_tables", "data", "knowledge", "metrics"),
        seconds=time.perf_counter() - start,
        more={
            "records": {name: load_cohort(name).content for name in SHORT},
            "files": {
                file: hashlib.sha256((data_dir() / "knowledge" / file).read_bytes()).hexdigest()[:16] for file in FILES
            },
            "draws": DRAWS,
            "rewired": REWIRED,
        },
    )
    print(folder)


if __name__ == "__main__":
    main()
