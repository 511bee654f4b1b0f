"""Neighbours in time whose ids stand the other way round, by hand and in the open demos."""

from datetime import datetime

import polars as pl
import pytest

from medrec.experiments import reversed_pairs
from medrec.experiments.table_traps import visits_of
from tests.conftest import demo_dir


def visits(*rows):
    table = [(patient, visit, datetime(2150, 1, day)) for patient, visit, day in rows]
    return pl.DataFrame(table, schema=["patient", "visit", "time"], orient="row")


def test_by_hand():
    one = [(1, 30, 1), (1, 10, 2), (1, 20, 3)]  # ids fall, then rise
    assert reversed_pairs.reversed_pairs(visits(*one)) == (1, 2)
    assert reversed_pairs.reversed_pairs(visits(*one[::-1])) == (1, 2), "the order of rows does not matter"
    assert reversed_pairs.reversed_pairs(visits(*one, (2, 5, 9))) == (1, 2), "one visit has no neighbour"
    assert reversed_pairs.reversed_pairs(visits((1, 1, 1), (2, 0, 2))) == (0, 0), "patients are not mixed"


def test_an_order_and_its_reverse_share_the_pairs():
    rows = [(1, visit, day) for day, visit in enumerate((7, 3, 9, 1, 8), 1)]
    turned = [(patient, -visit, day) for patient, visit, day in rows]
    (one, n), (other, _) = reversed_pairs.reversed_pairs(visits(*rows)), reversed_pairs.reversed_pairs(visits(*turned))
    assert one + other == n == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", reversed_pairs.DEMOS)
def test_kept_counts_are_those_of_the_demos(name, monkeypatch):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(demo_dir(name).parent))
    kept = reversed_pairs.read().table("pairs").filter(cohort=name).row(0)
    assert kept == (name, *reversed_pairs.reversed_pairs(visits_of(name)))
