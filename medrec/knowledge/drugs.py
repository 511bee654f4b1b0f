"""Drugs: their names, structures and ATC classes, and what is ordered like a drug but is none.

Four tables stand behind this module, each a CSV file in ``tables/``; ``|`` separates the items of a list.

``drugs.csv``
    One row an ingredient, under its US generic name. ``smiles`` is the canonical isomeric SMILES (RDKit) of the active
    moiety: the counter-ion of an organic salt is stripped, an inorganic salt keeps its ions, a prodrug named for its
    moiety (candesartan) shows the ester that is given. Where no single structure exists ``structure_note`` says why.
    ``index_codes`` lists all ATC codes known for the ingredient, in the order of the code: what a rule that never
    looks at the route chooses from. ``n_products`` counts the products (labeller and product part of the NDC) of the
    FDA's NDC Directory of June 2020 that hold the ingredient, alone or with others: which drugs of a class are common.
    RxNorm's name of the ingredient must be our name or a synonym, but for endings such as "USP" and "human", and for
    two names that RxNorm shortens or turns round (isosorbide mononitrate, regular insulin). 0 where nothing matches.
``drug_atc.csv``
    One row a drug and class. A row with ``routes`` holds for these routes; the default row (one a drug) for every
    other route and for an unknown one. Three rules decide cases that the route alone does not:

    * The class follows what the drug is usually given *for* in a hospital. Aspirin is an antithrombotic (B01AC06),
      whatever its dose; prednisone a systemic glucocorticoid, not an intestinal one; lidocaine injections are local
      anaesthetics, not antiarrhythmics; finasteride and ursodiol have one use each.
    * Where the index has one code for what is swallowed and one for what is infused, the route decides: potassium,
      magnesium and calcium chloride, magnesium sulfate and bicarbonate are B05X in a vein, mineral supplements (A12),
      laxatives or antacids by mouth; glucose is B05BA03 in a vein, V06DC01 as a gel. What has one code keeps it by
      every route: calcium gluconate A12AA03, phosphates B05X. By an unknown route a drug is what it most often is.
    * The code is that of the ATC index of 2020, the version of the public code tables of the field: kinase
      inhibitors are L01XE, antibodies against cancer L01XC (today L01E and L01F).

    A few groups of the index end at level four (multivitamins A11BA, soft paraffin D02AC, parenteral iron B03AC ...);
    their drugs carry a five-character code, see :data:`LEVEL_FOUR`. ``index_codes`` lacks two codes that name a group
    and no ingredient: A02AH (bicarbonate by mouth) and B05BA03 (carbohydrates in a vein).
``combinations.csv``
    Fixed combinations, which have an ATC code of their own; ``ingredients`` may name drugs that are never given alone.
``carriers.csv``
    Names of plain fluids, diluents, containers, food and orders without a drug, each with its reason. Where ``routes``
    is given, the name is a carrier by these routes only (``sodium chloride`` swallowed is a drug). Where ``whole_name``
    is true it counts only if nothing but numbers, units and forms stands beside it (``vial``).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import polars as pl

TABLES = Path(__file__).parent / "tables"

ROUTES = (
    "oral",
    "parenteral",
    "inhaled",
    "nasal",
    "ophthalmic",
    "otic",
    "topical",
    "transdermal",
    "rectal",
    "vaginal",
    "mouth",
    "irrigation",
)
"""Route groups. Feeding tubes count as oral; epidural, intrathecal and catheter locks as parenteral; under the tongue,
in the cheek and mouth rinses as mouth."""

LEVEL_FOUR = (
    "A02AH",
    "A03CB",
    "A07BB",
    "A11BA",
    "A11EA",
    "A11EB",
    "A12AX",
    "B03AC",
    "C09BB",
    "D02AA",
    "D02AB",
    "D02AC",
    "D02AF",
    "D03AX",
    "D03BA",
    "D04AX",
    "D06AX",
    "M02AC",
    "M03BX",
    "R05CB",
    "S02DC",
)
"""Groups of the index for which a drug of our list has no fifth level; such a drug carries the level-four code."""


def _read(name: str, lists: tuple[str, ...] = (), flags: tuple[str, ...] = ()) -> pl.DataFrame:
    """Read one table: everything text, empty cells ``""``, list columns split, flags boolean."""
    table = pl.read_csv(TABLES / name, infer_schema=False, glob=False).with_columns(pl.all().fill_null(""))
    split = [
        pl.when(pl.col(c) == "").then(pl.lit([], dtype=pl.List(pl.String))).otherwise(pl.col(c).str.split("|")).alias(c)
        for c in lists
    ]
    return table.with_columns(*split, *((pl.col(c) == "true").alias(c) for c in flags))


@cache
def drugs() -> pl.DataFrame:
    """All ingredients, by name.

    Returns:
        ``name``, ``synonyms`` (list), ``brands`` (list), ``smiles`` (``""`` where there is no single structure),
        ``structure_note``, ``source`` of the structure, ``index_codes`` (list of ATC codes), ``n_products`` (integer).
    """
    table = _read("drugs.csv", lists=("synonyms", "brands", "index_codes"))
    return table.with_columns(pl.col("n_products").cast(pl.Int64))


@cache
def drug_atc() -> pl.DataFrame:
    """Class of each drug by route.

    Returns:
        ``name``, ``atc5``, ``routes`` (list of route groups), ``is_default`` (true in one row a name), ``source``;
        ``atc3``, the first four characters of the code, is added.
    """
    return _read("drug_atc.csv", lists=("routes",), flags=("is_default",)).with_columns(
        atc3=pl.col("atc5").str.slice(0, 4)
    )


@cache
def combinations() -> pl.DataFrame:
    """Fixed combinations.

    Returns:
        ``name``, ``synonyms``, ``brands``, ``ingredients`` (lists), ``atc5``, ``routes`` (list), ``source``, ``atc3``.
    """
    return _read("combinations.csv", lists=("synonyms", "brands", "ingredients", "routes")).with_columns(
        atc3=pl.col("atc5").str.slice(0, 4)
    )


@cache
def carriers() -> pl.DataFrame:
    """What is ordered like a drug but is none.

    Returns:
        ``name``, ``routes`` (list of route groups, or ``unknown``; empty: all), ``whole_name`` (boolean), ``reason``.
    """
    return _read("carriers.csv", lists=("routes",), flags=("whole_name",))


def class_drugs(atc3: str) -> list[str]:
    """Names of the drugs whose default class is the given ATC level-3 class, in alphabetical order."""
    return drug_atc().filter(pl.col("is_default") & (pl.col("atc3") == atc3)).sort("name")["name"].to_list()
