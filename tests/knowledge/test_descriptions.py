"""One sentence for each drug, and each sentence for one drug."""

from __future__ import annotations

from collections import Counter

import polars as pl

from medrec.knowledge.classes import drug_descriptions
from medrec.knowledge.drugs import drugs


def test_drugs_and_descriptions_name_the_same_drugs():
    table = drug_descriptions()
    assert table["name"].is_unique().all()
    assert table["name"].is_sorted()
    assert table["name"].to_list() == sorted(drugs()["name"])


def test_each_description_is_one_sentence():
    text = drug_descriptions()["description"]
    assert text.str.contains(r"\.$").all()
    assert (text.str.count_matches(r"[.!?](\s|$)") == 1).all()
    assert text.str.contains(r"^[A-Z0-9]").all()
    words = text.str.split(" ").list.len()
    assert words.min() >= 6
    assert words.max() <= 30
    assert words.mean() >= 10


def test_descriptions_tell_drugs_apart():
    """No text stands twice: a language model could not part the two drugs."""
    repeated = [text for text, n in Counter(drug_descriptions()["description"]).items() if n > 1]
    assert repeated == []


def test_no_description_begins_with_its_own_drug():
    table = drug_descriptions()
    own = table.filter(pl.col("description").str.to_lowercase().str.starts_with(pl.col("name") + " is"))
    assert own["name"].to_list() == []


def test_known_facts_are_in_their_sentence():
    text = dict(drug_descriptions().iter_rows())
    for drug, word in {
        "warfarin": "vitamin K",
        "metformin": "lactic acidosis",
        "amiodarone": "thyroid",
        "vancomycin": "Glycopeptide",
        "heparin": "protamine",
        "clozapine": "agranulocytosis",
        "digoxin": "pump",
        "lisinopril": "ACE",
        "lactulose": "ammonia",
    }.items():
        assert word.lower() in text[drug].lower(), drug
