"""Repeat: four keys, in their order."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec.context import Context
from medrec.graphs.interactions import Interactions
from medrec.metrics import ndcg_at_k, recall_at_k
from medrec.models.repeat import SYSTEM, Repeat
from tests.ward import LAST, ward


def order(system, context, patient):
    return np.argsort(-system.rank(np.array([patient]), context)[0], kind="stable").tolist()


def knowing(graph):
    return Context(ward().vocab, torch.zeros(5, 5, dtype=torch.bool), graph=graph)


def test_each_key_decides_where_those_before_it_are_equal():
    graph = Interactions(
        visits=np.array([[1, 2, 1, 0, 0, 1, 0]] + [[0] * 7] * 4, dtype=np.int32),
        last=np.array([[0, 0, 1, 0, 0, 0, 0]] + [[0] * 7] * 4, dtype=bool),
    )
    system = Repeat().load_state({"patients": np.array([2, 1, 1, 3, 4, 3, 3])})
    # Twice: 1. Once and at the last visit: 2. Once: 5 before 0, more patients. Never: 4, then 3 and 6 by their ids.
    assert order(system, knowing(graph), 0) == [1, 2, 5, 0, 4, 3, 6]
    # Of a patient of whom nothing is known: popularity, then ids.
    assert order(system, knowing(graph), 1) == [4, 3, 5, 6, 0, 1, 2]
    assert sorted(system.rank(np.array([0]), knowing(graph))[0]) == [1, 2, 3, 4, 5, 6, 7]


def test_the_ward():
    cohort = ward()
    graph = Interactions.of(cohort, ~LAST, LAST)
    system = Repeat().fit(graph)
    scores = system.rank(np.array([0, 1]), knowing(graph))
    target = cohort.codes["medication"].take(np.flatnonzero(LAST)).multi_hot(5)
    assert recall_at_k(target, scores, 2) == pytest.approx([0.6667, 0.5], abs=5e-5)
    assert ndcg_at_k(target, scores, 3) == pytest.approx([0.7654, 0.3869], abs=5e-5)
    again = SYSTEM.restore(SYSTEM.configure(), knowing(graph), system.state())
    np.testing.assert_array_equal(again.rank(np.array([0, 1]), knowing(graph)), scores)


def test_a_patients_list_follows_from_the_own_visits_and_from_popularity_alone():
    graph = Interactions.of(ward(), ~LAST, LAST)
    system = Repeat().fit(graph)
    others = graph.visits.copy()
    others[1:] = others[1:][:, ::-1]
    altered = replace(graph, visits=others)
    assert order(system, knowing(graph), 0) == order(system, knowing(altered), 0)
