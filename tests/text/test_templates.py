"""Texts of visits and of medications."""

import pytest

from medrec.data.cohort import Vocabulary
from medrec.knowledge.classes import atc3
from medrec.text.templates import class_texts, stream_text, streams, visit_text

VOCAB = {
    "diagnosis": Vocabulary("diagnosis", ("9:4280", "9:2749"), ("Congestive heart failure", "Gout, unspecified")),
    "procedure": Vocabulary("procedure", ("9:9671",), ("Ventilation",)),
    "symptom": Vocabulary("symptom", (), ()),
    "medication": Vocabulary("medication", ("C03C", "C07A"), ("High-ceiling diuretics", "Beta blocking agents")),
}


def test_titles_stand_in_the_order_of_the_codes_whatever_the_order_of_the_table():
    text = "Diagnoses: Gout, unspecified; Congestive heart failure."
    assert stream_text("diagnosis", VOCAB["diagnosis"], [0, 1]) == text
    assert stream_text("diagnosis", VOCAB["diagnosis"], [1, 0]) == text


def test_the_joint_text_has_every_kind_that_the_cohort_records_and_says_where_there_is_none():
    assert streams(VOCAB) == ("diagnosis", "procedure")
    found = visit_text("joint", VOCAB, {"diagnosis": [1], "procedure": []})
    assert found == "Diagnoses: Gout, unspecified. Procedures: none."
    assert visit_text("medication", VOCAB, {"medication": [0]}) == "Medications: High-ceiling diuretics."


@pytest.mark.parametrize("code", ["C03C", "J01X"])
def test_a_class_is_its_name_and_description(code):
    row = atc3().filter(code=code).row(0, named=True)
    (text,) = class_texts([code])
    assert text.startswith(f"{row['name']}. ")
    assert row["description"] in text


def test_an_unknown_class_is_its_code():
    assert class_texts(["Q99X"]) == ["Q99X"]
