"""The rows that matter most are counted as the DDI rate is, and each pair has its rows."""

import numpy as np
import pytest

from medrec import metrics, paths
from medrec.book.generated import clinicians
from medrec.data import example, load_cohort
from medrec.knowledge.interactions import ddi_matrix


def test_by_hand_on_the_running_example():
    found = clinicians.Together.of(example.cohort())
    # Of the patients' own lists: antithrombotics with anti-inflammatory drugs, and with opioids.
    shares = {(a, b): (visits, share) for a, b, visits, share in found.shares().iter_rows()}
    assert shares == {("B01A", "M01A"): (1, 0.5), ("B01A", "N02A"): (1, 0.5)}
    assert (found.pairs, found.rate) == (3 + 1 + 6, 0.2)


def test_the_parts_make_the_rate_of_the_default_cohort():
    cohort, found = load_cohort(clinicians.COHORT), clinicians.together()
    y = cohort.codes["medication"].multi_hot(cohort.n_medications)
    assert found.rate == pytest.approx(metrics.ddi_rate(y, ddi_matrix(cohort.vocab["medication"].codes)))
    pairs = clinicians.pairs()
    assert pairs["share"].sum() == pytest.approx(1)
    assert (np.diff(pairs["share"]) <= 0).all()
    assert pairs["rows"].null_count() == 0, "every interacting pair of classes has a row behind it"
    assert pairs["rows"].min() >= 1


@pytest.mark.parametrize("write", [clinicians.classes_table, clinicians.pairs_table, clinicians.thin_table])
def test_the_tables_say_on_which_records(write):
    text = write()
    assert clinicians.COHORT in text
    assert text.count("<tr>") == clinicians.SHOWN + 1


def test_the_page_says_plainly_that_nobody_has_signed():
    text = (paths.base_dir() / "book" / "clinicians.md").read_text(encoding="utf-8")
    assert text.partition("\n\n")[2].startswith("**No.**\nNo pharmacist")
