"""Who was given what, and that nothing is seen of what is asked about."""

import numpy as np
import pytest

from medrec.graphs.interactions import Interactions
from medrec.types import MedrecError
from tests.toys import random_cohort
from tests.ward import LAST, ward

NOTHING = np.zeros(5, dtype=bool)


def test_the_ward_before_its_last_visits():
    graph = Interactions.of(ward(), ~LAST, LAST)
    assert graph.visits.tolist() == [[1, 1, 1, 0, 0], [0, 0, 0, 1, 1], [1, 0, 0, 0, 1]]
    assert graph.popularity.tolist() == [2, 1, 1, 1, 2]
    assert graph.matrix.mean() == pytest.approx(7 / 15)
    assert (graph.n_patients, graph.n_medications) == (3, 5)


def test_visits_are_counted_and_the_last_one_is_known():
    graph = Interactions.of(ward(), ~NOTHING, NOTHING)
    assert graph.visits.tolist() == [[2, 2, 1, 0, 1], [0, 0, 1, 2, 1], [1, 0, 0, 0, 1]]
    assert graph.last.astype(int).tolist() == [[1, 1, 0, 0, 1], [0, 0, 1, 1, 0], [1, 0, 0, 0, 1]]
    assert graph.popularity.tolist() == [2, 1, 2, 1, 3]  # a patient counts once, however often


def test_a_patient_of_whom_nothing_is_seen():
    seen = np.array([True, True, False, False, True])
    graph = Interactions.of(ward(), seen, ~seen)
    assert graph.visits[1].tolist() == graph.last[1].tolist() == [0] * 5
    empty = Interactions.of(ward(), NOTHING, ~NOTHING)
    assert not empty.matrix.any()
    assert not empty.last.any()


def test_against_counting_visit_by_visit():
    cohort = random_cohort(30, seed=3)
    seen = cohort.visit_number < 3
    graph = Interactions.of(cohort, seen, ~seen)
    for patient in range(30):
        rows = [v for v in range(*cohort.visit_offsets[[patient, patient + 1]]) if seen[v]]
        given = [set(cohort.codes["medication"][v].tolist()) for v in rows]
        for m in range(9):
            assert graph.visits[patient, m] == sum(m in visit for visit in given)
            assert graph.last[patient, m] == (m in given[-1])


@pytest.mark.parametrize(
    ("seen", "targets", "where"),
    [
        ([1, 1, 1, 0, 1], [0, 1, 0, 1, 0], "visit 2 of patient 0"),  # the target itself
        ([0, 1, 1, 1, 1], [1, 0, 0, 1, 0], "visit 2 of patient 0"),  # later than the target, and the first of two
        ([1, 0, 1, 1, 1], [0, 1, 0, 1, 0], "visit 2 of patient 1"),
        ([0, 0, 0, 0, 1], [0, 0, 0, 0, 1], "visit 1 of patient 2"),
    ],
)
def test_a_visit_at_or_after_a_target_is_refused_and_the_first_one_named(seen, targets, where):
    with pytest.raises(MedrecError, match=where):
        Interactions.of(ward(), np.array(seen, dtype=bool), np.array(targets, dtype=bool))


def test_what_is_held_out_is_gone():
    graph = Interactions.of(ward(), ~NOTHING, NOTHING)
    held = np.zeros((3, 5), dtype=bool)
    held[0, 0] = held[1, 2] = True
    kept = graph.hold_out(held)
    assert kept.visits.tolist() == [[0, 2, 1, 0, 1], [0, 0, 0, 2, 1], [1, 0, 0, 0, 1]]
    assert kept.last.astype(int).tolist() == [[0, 1, 0, 0, 1], [0, 0, 0, 1, 0], [1, 0, 0, 0, 1]]
    assert kept.visits.dtype == graph.visits.dtype
    assert graph.visits[0, 0] == 2  # the first one is as it was


def test_content_follows_what_is_seen():
    one = Interactions.of(ward(), ~LAST, LAST)
    assert one.content == Interactions.of(ward(), ~LAST, LAST).content
    assert one.content != Interactions.of(ward(), ~NOTHING, NOTHING).content
    assert one.content != Interactions(one.visits * 2, one.last).content
    assert one.content != Interactions(one.visits, ~one.last).content
