"""Causal search: known structures, the best score of all small graphs, and which directions are decided."""

import itertools

import numpy as np

from medrec.models.causal_graph import causal_graph, compelled, greedy_graph


def simulated(edges, n_variables, n=4000, seed=0):
    """Linear data of a graph whose edges go from lower to higher numbers."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, n_variables))
    for j in range(n_variables):
        for i, k in edges:
            if k == j:
                x[:, j] += x[:, i]
    return np.cov(x.T)


def arrows(graph):
    return [tuple(pair) for pair in np.argwhere(graph).tolist()]


def test_a_common_effect_shows_its_direction_and_what_follows():
    assert arrows(causal_graph(simulated([(0, 2), (1, 2), (2, 3)], 5), 4000)) == [(0, 2), (1, 2), (2, 3)]


def test_a_chain_and_a_fork_cannot_be_told_apart():
    for edges in ([(0, 1), (1, 2)], [(0, 1), (0, 2)]):
        covariance = simulated(edges, 3)
        assert greedy_graph(covariance, 4000).sum() == 2
        assert arrows(causal_graph(covariance, 4000)) == []


def test_no_dependence_no_edge():
    assert not greedy_graph(np.eye(6), 1000).any()
    assert greedy_graph(np.zeros((3, 3)), 10).sum() == 0
    assert causal_graph(np.zeros((0, 0)), 10).shape == (0, 0)


def score(graph, covariance, n):
    total = 0.0
    for j in range(len(graph)):
        parents = np.flatnonzero(graph[:, j])
        rest = covariance[j, j]
        if len(parents):
            rest -= covariance[j, parents] @ np.linalg.solve(
                covariance[np.ix_(parents, parents)], covariance[parents, j]
            )
        total -= n / 2 * np.log(rest) + len(parents) * np.log(n) / 2
    return total


def acyclic(graph):
    paths = graph.copy()
    for _ in range(len(graph).bit_length()):
        paths = paths | (paths.astype(int) @ paths.astype(int) > 0)
    return not np.diag(paths).any()


def all_graphs(n):
    pairs = list(itertools.combinations(range(n), 2))
    for choice in itertools.product(range(3), repeat=len(pairs)):
        graph = np.zeros((n, n), dtype=bool)
        for (i, j), way in zip(pairs, choice, strict=True):
            graph[i, j], graph[j, i] = way == 1, way == 2
        if acyclic(graph):
            yield graph


FOUR = list(all_graphs(4))


def test_the_best_of_all_graphs_of_four_variables_is_found_as_a_rule():
    """A greedy walk may end on a lesser hill; it does so in one of eight."""
    assert len(FOUR) == 543
    optimal = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        edges = [pair for pair in itertools.combinations(range(4), 2) if rng.random() < 0.5]
        covariance = simulated(edges, 4, n=1000, seed=seed)
        found = greedy_graph(covariance, 1000)
        assert acyclic(found)
        best = max(score(graph, covariance, 1000) for graph in FOUR)
        reached = score(found, covariance, 1000)
        assert reached <= best + 1e-6
        assert reached >= score(np.zeros((4, 4), dtype=bool), covariance, 1000)
        optimal.append(reached > best - 1e-6)
    assert np.mean(optimal) >= 0.8


def test_compelled_edges_are_those_that_all_equivalent_graphs_share():
    def independences(graph):
        """Skeleton and unjoined parents of a child: what a class of equivalent graphs has in common."""
        joined = graph | graph.T
        meets = {
            (i, j, k)
            for k in range(4)
            for i, j in itertools.combinations(np.flatnonzero(graph[:, k]), 2)
            if not joined[i, j]
        }
        return joined.tobytes(), frozenset(meets)

    classes = {}
    for graph in FOUR:
        classes.setdefault(independences(graph), []).append(graph)
    assert len(classes) == 185
    for members in classes.values():
        shared = np.logical_and.reduce(members)
        for graph in members:
            assert np.array_equal(compelled(graph), shared)


def test_codes_that_always_go_together_do_no_harm():
    """More codes than visits, some of them equal: the search ends, without a cycle."""
    rng = np.random.default_rng(2)
    x = (rng.random((30, 25)) < 0.2).astype(float)
    x = np.concatenate([x, x[:, :10], np.zeros((30, 2))], axis=1)
    graph = greedy_graph(np.cov(x.T), 30)
    assert acyclic(graph)
    assert (graph | graph.T)[np.arange(10), np.arange(25, 35)].all()
    assert not graph[-2:].any()


def test_many_variables_give_no_cycle_and_few_parents():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 40)) @ np.where(rng.random((40, 40)) < 0.1, 1, np.eye(40))
    graph = greedy_graph(np.cov(x.T), 300, max_parents=3)
    assert graph.any()
    assert graph.sum(0).max() <= 3
    assert acyclic(graph)
