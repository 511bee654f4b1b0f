"""Knowledge graphs: lift by hand, both constructions of the ward, controls, and that no target is in them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec.context import Asked, build
from medrec.data.cohort import Vocabulary
from medrec.graphs import interactions
from medrec.graphs.interactions import Interactions
from medrec.graphs.knowledge import (
    INTERACTS,
    KnowledgeGraph,
    SeenCodes,
    contains,
    controlled,
    diagnosis_classes,
    house,
    lift,
    shuffled_tails,
    study,
    with_inverses,
)
from medrec.metrics import recall_at_k
from medrec.tasks.ranking import HOLD_OUT, HOUSE, Exam
from medrec.types import MedrecError
from tests.toys import random_cohort, real_classes
from tests.ward import LAST, ward

DDI = np.zeros((5, 5), dtype=bool)
for a, b in ((0, 2), (1, 2), (2, 4)):
    DDI[a, b] = DDI[b, a] = True
"""C03C with C10A, C07A with C10A, C10A with N02B: pairs of the real list of classes."""


@pytest.fixture(autouse=True)
def no_ccs(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path))


def seen_of(cohort, targets=LAST):
    return SeenCodes.of(cohort, ~targets, targets)


def named(graph):
    return {
        (graph.entities[h].partition(":")[2], graph.relations[r], graph.entities[t].partition(":")[2])
        for h, r, t in graph.triplets.tolist()
    }


# -- lift and the house's graph ----------------------------------------------------------------------------------------


def test_lift_in_the_ward_by_hand():
    seen = seen_of(ward())
    together, found = lift(seen.matrix("diagnosis", 3), seen.matrix("medication", 5))
    expected = [[1.5, 1.5, 1.5, 0, 0.75], [1.5, 3, 3, 0, 0], [0, 0, 0, 3, 1.5]]
    np.testing.assert_allclose(found, expected)
    assert together.tolist() == [[2, 1, 1, 0, 1], [1, 1, 1, 0, 0], [0, 0, 0, 1, 1]]
    # A threshold of one keeps eight of the nine pairs that occur.
    assert ((found > 0).sum(), (found > 1).sum()) == (9, 8)


def test_the_house_graph_of_the_ward():
    graph = house(ward().vocab, seen_of(ward()), DDI, min_visits=1)
    assert graph.by_relation == {
        "treats": 8, "with procedure": 0, INTERACTS: 6, "ATC parent": 5 + 5, "in class": 0
    }  # fmt: skip
    assert graph.entities[:8] == (
        *(f"medication:{code}" for code in ("C03C", "C07A", "C10A", "J01X", "N02B")),
        *(f"diagnosis:{code}" for code in ("HF", "LIP", "SEP")),
    )
    triplets = named(graph)
    assert ("C10A", "treats", "HF") in triplets  # the same visit has LIP: co-occurrence is no indication
    assert ("N02B", "treats", "HF") not in triplets
    assert {("C03C", "ATC parent", "C03"), ("C03", "ATC parent", "C"), ("J01X", "ATC parent", "J01")} <= triplets
    assert {("C03C", INTERACTS, "C10A"), ("C10A", INTERACTS, "C03C")} <= triplets
    # Five visits with both are asked for by default, which the ward does not have.
    assert house(ward().vocab, seen_of(ward()), DDI).by_relation["treats"] == 0


def test_the_greatest_lifts_of_a_medication_are_kept():
    few = named(house(ward().vocab, seen_of(ward()), DDI, min_visits=1, per_medication=1).of(["treats"]))
    assert few == {
        ("C03C", "treats", "HF"),  # of equals the first
        ("C07A", "treats", "LIP"),
        ("C10A", "treats", "LIP"),
        ("J01X", "treats", "SEP"),
        ("N02B", "treats", "SEP"),
    }


def test_against_counting_visit_by_visit():
    cohort = random_cohort(40, seed=2)
    graph = house(cohort.vocab, seen_of(cohort, cohort.visit_number == 2**30), np.zeros((9, 9), bool), min_visits=3)
    rows = {kind: cohort.codes[kind].multi_hot(len(cohort.vocab[kind])) for kind in ("procedure", "medication")}
    expected = set()
    for m in range(9):
        for p in range(6):
            both = (rows["medication"][:, m] & rows["procedure"][:, p]).sum()
            share = rows["medication"][:, m].mean() * rows["procedure"][:, p].mean()
            if both >= 3 and both / cohort.n_visits > share:
                expected.add((f"A{m:02d}B", "with procedure", f"9:{10 + p}"))
    assert expected
    assert named(graph.of(["with procedure"])) == expected


def test_classes_of_diagnoses_are_those_of_the_users_table_else_the_category(tmp_path):
    codes = ("9:4280", "10:I509", "9:E8798", "ccs:98", "symptom", "9:V1582")
    assert diagnosis_classes(codes) == ["9:428", "10:I50", "9:E879", None, None, "9:V15"]
    (tmp_path / "knowledge").mkdir()
    (tmp_path / "knowledge" / "ccs_dx.csv").write_text(
        "vocabulary,code,category_code\nICD9CM,4280,108\nICD10CM,I509,108\n"
    )
    assert diagnosis_classes(codes)[:3] == ["ccs:108", "ccs:108", "9:E879"]


def test_a_code_that_is_its_own_class_is_not_linked_to_itself():
    cohort = random_cohort(20)
    vocab = {**cohort.vocab, "diagnosis": Vocabulary("diagnosis", ("9:428", "9:4281", "9:4280"), ("",) * 3)}
    empty = SeenCodes(np.array([0]), 1, {k: cohort.codes[k].take(np.array([0])) for k in ("procedure", "medication")}
                      | {"diagnosis": cohort.codes["symptom"].take(np.array([0]))})  # fmt: skip
    assert named(house(vocab, empty, np.zeros((9, 9), bool)).of(["in class"])) == {
        ("9:4281", "in class", "9:428"), ("9:4280", "in class", "9:428")
    }  # fmt: skip


# -- the study's graph -------------------------------------------------------------------------------------------------


def test_the_study_graph_of_the_ward():
    graph = study(ward().vocab, seen_of(ward()), DDI)
    assert graph.by_relation == {"has diagnosis": 4, "has procedure": 0, "has medication": 7, INTERACTS: 6}
    assert graph.n_items == 5
    assert graph.entities[-3:] == ("patient:0", "patient:1", "patient:2")
    given = {(h, t) for h, r, t in named(graph) if r == "has medication"}
    matrix = Interactions.of(ward(), ~LAST, LAST).matrix
    assert given == {(str(u), ward().vocab["medication"].codes[m]) for u, m in np.argwhere(matrix)}


# -- nothing of what is asked about ------------------------------------------------------------------------------------


def recall_of_neighbours(graph):
    """Recall@1 of new medications where those that the graph links to the patient come first; ties by id."""
    cohort = ward()
    matrix = Interactions.of(cohort, ~LAST, LAST).matrix[:2]
    target = cohort.codes["medication"].take(np.flatnonzero(LAST)).multi_hot(5) & ~matrix
    first = graph.kind("patient")
    scores = np.zeros((2, 5))
    for h, _, t in graph.of(["has medication"]).triplets:
        if h - first[0] < 2:
            scores[h - first[0], t] = 1
    return recall_at_k(target, scores, 1, seen=matrix).tolist()


def test_a_visit_that_is_asked_about_is_refused():
    every = np.ones(5, dtype=bool)
    with pytest.raises(MedrecError, match="visit 2 of patient 0, which is a target"):
        SeenCodes.of(ward(), every, LAST)
    with pytest.raises(MedrecError, match="visit 2 of patient 1"):
        SeenCodes.of(ward(), np.array([1, 0, 1, 1, 1], dtype=bool), LAST)


def test_without_the_guard_the_graph_knows_the_answer(monkeypatch):
    before = recall_of_neighbours(study(ward().vocab, seen_of(ward()), DDI))
    monkeypatch.setattr(interactions, "refuse_targets", lambda *given: None)
    leaking = SeenCodes.of(ward(), np.ones(5, dtype=bool), LAST)
    assert recall_of_neighbours(study(ward().vocab, leaking, DDI)) == [1.0, 1.0]
    # With an honest graph nobody has new neighbours, and the order of ids decides; popularity finds 1 and 0.
    assert before == [0.0, 0.0]
    # Lift leaks as well: SEP goes with C10A only where patient 1 is asked about.
    honest, leaky = (lift(s.matrix("diagnosis", 3), s.matrix("medication", 5))[1] for s in (seen_of(ward()), leaking))
    assert honest[2, 2] == 0 < leaky[2, 2]


@pytest.mark.parametrize("protocol", [HOUSE, HOLD_OUT], ids=lambda p: p.name)
@pytest.mark.parametrize("construction", ["house", "study"])
def test_codes_that_are_asked_about_change_no_graph(protocol, construction):
    """The graph of the exam is the one that is made where targets are wiped out before anything is counted."""
    cohort = random_cohort(40, seed=5)
    exam = Exam(cohort, 0, protocol)
    held = np.zeros((40, 9), dtype=bool)
    for part in ("validation", "test"):
        asked = exam.questions(part)
        held[asked.patient] |= asked.target & ~exam.graph.matrix[asked.patient]
    assert held.any()
    seen = exam.seen
    for visit, row in enumerate(seen.codes["medication"][i] for i in range(len(seen.patient))):
        assert not held[seen.patient[visit], row].any()
    # What is left are all codes of the visits that training sees.
    assert len(np.unique(seen.patient)) <= 40
    matrix = np.zeros((40, 9), dtype=bool)
    rows = seen.codes["medication"]
    matrix[seen.patient[rows.row_of_value], rows.values] = True
    np.testing.assert_array_equal(matrix, exam.graph.matrix)


# -- the context -------------------------------------------------------------------------------------------------------


class Settings:
    construction = "study"


def test_a_context_holds_the_graph_and_a_stored_one_is_taken_as_it_is():
    cohort = real_classes(30)
    exam = Exam(cohort, 0, HOUSE)
    asked = Asked(cohort.vocab, Settings(), graph=lambda: exam.graph, seen=lambda: exam.seen)
    context = build(("knowledge",), asked)
    assert context.knowledge.relations[0] == "has diagnosis"
    assert context.to("cpu").knowledge is context.knowledge
    one = context.knowledge.with_triplets(context.knowledge.triplets[:3])
    stored = KnowledgeGraph.from_arrays(one.arrays())
    assert build(("knowledge",), replace(asked, knowledge=lambda: stored)).knowledge is stored
    assert stored.content == one.content != context.knowledge.content
    with pytest.raises(MedrecError, match="train with that task"):
        build(("knowledge",), Asked(cohort.vocab, Settings()))


# -- triplets ----------------------------------------------------------------------------------------------------------


def toy(triplets, n=6, r=2, items=3):
    return KnowledgeGraph(np.array(triplets).reshape(-1, 3), tuple(f"e:{i}" for i in range(n)), tuple("ab"[:r]), items)


@pytest.mark.parametrize(
    ("triplets", "words"),
    [
        ([[0, 0, 1], [0, 2, 1]], r"Triplet 1, \(head 0, relation 2, tail 1\)"),
        ([[0, 0, 6]], r"Triplet 0, \(head 0, relation 0, tail 6\).* 6 entities and 2 relations"),
        ([[-1, 0, 5]], "head -1"),
    ],
)
def test_the_first_triplet_that_does_not_fit_is_named(triplets, words):
    with pytest.raises(MedrecError, match=words):
        toy(triplets)


def test_sizes_that_do_not_fit_are_errors():
    with pytest.raises(MedrecError, match="6 entities cannot have 7 items"):
        toy([[0, 0, 1]], items=7)
    with pytest.raises(MedrecError, match="rows of three numbers"):
        KnowledgeGraph(np.zeros((2, 2)), ("a",), ("r",), 1)
    with pytest.raises(MedrecError, match="no relation 'c'"):
        toy([[0, 0, 1]]).of(["c"])


def test_triplets_are_sorted_and_each_counts_once_and_items_without_any_stay():
    graph = toy([[3, 1, 0], [0, 0, 4], [3, 1, 0]])
    assert graph.triplets.tolist() == [[0, 0, 4], [3, 1, 0]]
    assert (graph.n_triplets, graph.n_entities, graph.n_items) == (2, 6, 3)
    empty = toy([])
    assert empty.triplets.shape == (0, 3)
    assert empty.by_relation == {"a": 0, "b": 0}


def test_inverses_read_a_triplet_from_its_tail():
    assert with_inverses(np.array([[0, 1, 4]]), 2).tolist() == [[0, 1, 4], [4, 3, 0]]


def test_membership_in_sorted_keys():
    assert contains(np.array([2, 5, 9]), np.array([1, 2, 9, 10])).tolist() == [False, True, True, False]
    assert contains(np.array([], dtype=np.int64), np.array([1])).tolist() == [False]


def test_shuffled_tails_keep_degrees_and_no_pair():
    rng = np.random.default_rng(0)
    heads, relations = rng.integers(0, 40, 300), rng.integers(0, 3, 300)
    graph = KnowledgeGraph(
        np.stack([heads, relations, rng.integers(0, 60, 300)], 1), tuple(map(str, range(60))), ("a", "b", "c"), 40
    )
    found = shuffled_tails(graph.triplets, np.random.default_rng(1))
    np.testing.assert_array_equal(found[:, :2], graph.triplets[:, :2])
    for relation in range(3):
        here = graph.triplets[:, 1] == relation
        assert sorted(found[here, 2]) == sorted(graph.triplets[here, 2])
    assert not {*map(tuple, found.tolist())} & {*map(tuple, graph.triplets.tolist())}
    assert len({*map(tuple, found.tolist())}) == len(found)
    np.testing.assert_array_equal(found, shuffled_tails(graph.triplets, np.random.default_rng(1)))
    assert (found != shuffled_tails(graph.triplets, np.random.default_rng(2))).any()


def test_controls():
    graph = house(ward().vocab, seen_of(ward()), DDI, min_visits=1)
    rng = np.random.default_rng(0)
    assert controlled(graph, "full", rng) is graph.triplets
    assert controlled(graph, "empty", rng).shape == (0, 3)
    assert len(controlled(graph, "interacts", rng)) == 6
    assert controlled(toy([[0, 0, 1]]), "interacts", rng).shape == (0, 3)
    assert controlled(graph, "shuffled", rng).shape == graph.triplets.shape
    assert torch.from_numpy(controlled(graph, "full", rng)).dtype == torch.int64
