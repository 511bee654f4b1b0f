"""The drug table against itself, against DrugCentral and against the RxNorm-ATC table."""

from __future__ import annotations

import re
from collections import Counter

import polars as pl
import pytest
from rdkit import Chem, RDLogger

from medrec.knowledge import drugs as knowledge
from tests.conftest import demo_dir

RDLogger.DisableLog("rdApp.*")


@pytest.fixture(scope="module")
def inchikeys() -> dict[str, str]:
    """First block of the InChIKey of every drug with a structure."""
    rows = knowledge.drugs().filter(pl.col("smiles") != "").select("name", "smiles").iter_rows()
    return {name: Chem.MolToInchiKey(Chem.MolFromSmiles(smiles))[:14] for name, smiles in rows}


def test_there_are_enough_drugs_with_structures():
    table = knowledge.drugs()
    assert len(table) >= 1000
    assert (table["smiles"] != "").sum() >= 850
    assert len(knowledge.combinations()) >= 130


def test_no_name_synonym_or_brand_claims_two_drugs():
    """The one exception is saline, a drug or a carrier by route."""
    claims: list[tuple[str, str]] = []
    for frame in (knowledge.drugs(), knowledge.combinations()):
        for row in frame.iter_rows(named=True):
            claims += [(text, row["name"]) for text in {row["name"], *row["synonyms"], *row["brands"]}]
    owners = Counter(text for text, _ in set(claims))
    assert [text for text, n in owners.items() if n > 1] == []
    assert all(text == text.lower().strip() and text for text in owners)
    carriers = knowledge.carriers()
    assert carriers["name"].is_unique().all()
    both = set(owners) & set(carriers["name"])
    assert both == {"sodium chloride", "nacl", "saline", "sodium cl"}
    assert carriers.filter(pl.col("name").is_in(list(both)))["routes"].list.contains("oral").sum() == 0


def test_names_are_unique_and_every_class_has_a_drug():
    names = knowledge.drugs()["name"]
    assert names.is_unique().all()
    atc = knowledge.drug_atc()
    assert set(atc["name"]) == set(names)
    assert atc.group_by("name").agg(pl.col("is_default").sum())["is_default"].to_list() == [1] * len(names)
    assert not set(names) & set(knowledge.combinations()["name"])


def test_codes_look_like_atc_and_stop_at_level_four_only_where_the_index_does():
    codes = [*knowledge.drug_atc()["atc5"], *knowledge.combinations()["atc5"]]
    full = re.compile(r"[A-Z]\d\d[A-Z]{2}\d\d")
    short = {code for code in codes if not full.fullmatch(code)}
    assert short == set(knowledge.LEVEL_FOUR)
    assert all(re.fullmatch(r"[A-Z]\d\d[A-Z]{2}", code) for code in short)


def test_routes_are_groups_and_no_route_leads_to_two_classes():
    atc = knowledge.drug_atc().explode("routes", empty_as_null=False)
    assert set(atc["routes"]) <= set(knowledge.ROUTES)
    assert atc.select("name", "routes").is_unique().all()
    assert set(knowledge.combinations()["routes"].explode()) <= set(knowledge.ROUTES)
    assert set(knowledge.carriers()["routes"].explode(empty_as_null=False)) <= {*knowledge.ROUTES, "unknown"}


def test_structures_parse_and_are_canonical_or_their_absence_has_a_reason():
    for name, smiles, note, source in (
        knowledge.drugs().select("name", "smiles", "structure_note", "source").iter_rows()
    ):
        assert bool(smiles) != bool(note), name
        assert source, name
        if smiles:
            molecule = Chem.MolFromSmiles(smiles)
            assert molecule is not None, name
            assert molecule.GetNumAtoms() > 0, name
            assert Chem.MolToSmiles(molecule) == smiles, name


def test_counter_ions_of_organic_drugs_are_stripped():
    """What keeps a dot is an inorganic salt, the salt of a small acid, or an adduct."""
    salts = knowledge.drugs().filter(pl.col("smiles").str.contains(".", literal=True))
    assert len(salts) <= 45
    metal = re.compile(r"\[(Na|K|Li|Mg|Ca|Zn|Fe|Al|Ag|Ba|La|NH4)\+?\d?\]|\[NH4\+\]|OO")
    assert [name for name, smiles in salts.select("name", "smiles").iter_rows() if not metal.search(smiles)] == []
    plain = knowledge.drugs().filter(pl.col("name").is_in(["metformin", "morphine", "heparin", "docusate", "losartan"]))
    assert not plain["smiles"].str.contains(".", literal=True).any()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("aspirin", "BSYNRYMUTXBXSQ"),
        ("warfarin", "PJVWKTKQMONHTI"),
        ("levothyroxine", "XUIIKFGFIJCVMT"),
        ("remdesivir", "RWWYLEGWBNMMLJ"),
        ("vitamin e", "GVJHHUAWPYXKBD"),
        ("glucose", "WQZGKKKJIJFFOK"),
    ],
)
def test_known_structures(name, key, inchikeys):
    assert inchikeys[name] == key


def test_structures_agree_with_drugcentral(inchikeys):
    """First InChIKey block equal for at least 98 % of the shared names (measured: 99.5 % of 837)."""
    table = pl.read_csv(
        demo_dir("knowledge") / "drugcentral_structures_smiles.tsv.gz", separator="\t", infer_schema=False
    ).filter(pl.col("INN").is_not_null())
    theirs = dict(zip(table["INN"].str.to_lowercase(), table["InChIKey"].str.slice(0, 14), strict=True))
    equal = []
    for name, synonyms in knowledge.drugs().select("name", "synonyms").iter_rows():
        shared = next((text for text in [name, *synonyms] if text in theirs), None)
        if shared and name in inchikeys:
            equal.append(inchikeys[name] == theirs[shared])
    assert len(equal) >= 800
    assert sum(equal) / len(equal) >= 0.98


def test_default_classes_agree_with_the_rxnorm_table():
    """The default class at ATC level 4 is in the RxNorm table for at least 98 % (measured: 99.2 % of 950)."""
    table = pl.read_csv(demo_dir("knowledge") / "ingredient2atc.csv.gz", infer_schema=False)
    theirs: dict[str, set[str]] = {}
    for name, atc4 in table.select(pl.col("ingredient_name").str.to_lowercase(), "atc4").iter_rows():
        theirs.setdefault(name, set()).add(atc4)
    ours = dict(knowledge.drug_atc().filter("is_default").select("name", "atc5").iter_rows())
    agree = []
    for name, synonyms in knowledge.drugs().select("name", "synonyms").iter_rows():
        codes = set().union(*(theirs.get(text, set()) for text in [name, *synonyms]))
        if codes:
            agree.append(ours[name][:5] in codes)
    assert len(agree) >= 900
    assert sum(agree) / len(agree) >= 0.98


def test_products_are_those_of_the_ndc_directory():
    folder = demo_dir("knowledge")
    codes = pl.read_csv(folder / "ndc2rxcui_fda2020.csv.gz", infer_schema=False)
    ingredients = pl.read_csv(folder / "rxcui2ingredient.csv.gz", infer_schema=False)
    products = codes.join(ingredients, on="rxcui").select(
        product=pl.col("ndc").str.split("-").list.head(2).list.join("-"),
        called=pl.col("ingredient_name").str.to_lowercase().str.replace(r"(, usp| \(usp\)|, human)$", ""),
    )
    table = knowledge.drugs()
    names = pl.concat(
        [
            table.select("name", called="name"),
            table.select("name", called="synonyms")
            .explode("called")
            .drop_nulls()
            .filter(pl.col("called") != "isosorbide"),
            pl.DataFrame(
                {
                    "name": ["isosorbide mononitrate", "insulin human regular"],
                    "called": ["isosorbide", "insulin, regular"],
                }
            ),
        ]
    )
    counted = products.join(names, on="called").group_by("name").agg(counted=pl.col("product").n_unique())
    both = table.select("name", "n_products").join(counted, on="name", how="left").fill_null(0)
    assert both.filter(pl.col("n_products") != pl.col("counted")).rows() == []
    assert (both["n_products"] > 0).mean() > 0.9


def test_every_class_of_the_field_has_a_drug():
    vocabulary = pl.read_csv(demo_dir("knowledge") / "ddi_twosides_top40_atc3_vocab.csv.gz", infer_schema=False).filter(
        pl.col("index_131").is_not_null() & (pl.col("index_131") != "")
    )
    assert len(vocabulary) == 131
    assert set(vocabulary["atc3"]) - set(knowledge.drug_atc()["atc3"]) == set()
    with_structure = knowledge.drugs().filter(pl.col("smiles") != "").select("name")
    structured = set(knowledge.drug_atc().join(with_structure, on="name")["atc3"])
    # Enzymes, antibodies and a polymer: no member of these three classes is a single molecule.
    assert set(vocabulary["atc3"]) - structured == {"A09A", "J06B", "S01K"}


def test_class_drugs_lists_defaults_only():
    assert "aspirin" in knowledge.class_drugs("B01A")
    assert "aspirin" not in knowledge.class_drugs("N02B")
    assert knowledge.class_drugs("Z99Z") == []
