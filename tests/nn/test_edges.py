"""Sums over edges: against loops, with their gradients, and heads without edges."""

import torch

from medrec.nn.edges import Edges, segment_softmax, weighted_sums


def random_edges(seed=0, n=20, m=30, e=150):
    torch.manual_seed(seed)
    triplets = torch.stack([torch.randint(0, n - 2, (e,)), torch.randint(0, 4, (e,)), torch.randint(1, m, (e,))], 1)
    return triplets, Edges.of(triplets, n, m)


def test_edges_are_sorted_and_none_is_lost():
    triplets, edges = random_edges()
    again = torch.stack([edges.head, edges.relation, edges.tail], 1)
    assert sorted(again.tolist()) == sorted(triplets.tolist())
    assert (edges.head.diff() >= 0).all()
    assert edges.degree.tolist() == [int((triplets[:, 0] == h).sum()) for h in range(20)]


def test_weighted_sums_are_those_of_a_loop_with_the_same_gradients():
    _, edges = random_edges()
    table = torch.randn(30, 5, requires_grad=True)
    weights = torch.rand(150, requires_grad=True)
    slow = torch.stack(
        [
            sum((weights[e] * table[edges.tail[e]] for e in range(150) if edges.head[e] == h), torch.zeros(5))
            for h in range(20)
        ]
    )
    fast = weighted_sums(table, weights, edges)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=0)
    assert not fast[18:].any()
    grads = []
    for found in (fast, slow):
        table.grad = weights.grad = None
        (found * torch.arange(100).view(20, 5)).sum().backward()
        grads.append((table.grad, weights.grad))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-5)


def test_gradients_of_the_table_alone():
    _, edges = random_edges()
    table = torch.randn(30, 5, requires_grad=True)
    weighted_sums(table, torch.ones(150), edges).sum().backward()
    torch.testing.assert_close(table.grad[:, 0], edges.tail.bincount(minlength=30).float())


def test_softmax_over_the_edges_of_a_head():
    _, edges = random_edges()
    scores = (100 * torch.randn(150)).requires_grad_()
    found = segment_softmax(scores, edges)
    for head in edges.head.unique():
        here = edges.head == head
        torch.testing.assert_close(found[here], scores[here].softmax(0))
    (found * torch.randn(150)).sum().backward()
    for head in edges.head.unique():  # a softmax does not change where all scores rise
        assert abs(float(scores.grad[edges.head == head].sum())) < 1e-5


def test_a_graph_without_edges():
    edges = Edges.of(torch.zeros(0, 3, dtype=torch.int64), 4)
    assert segment_softmax(torch.zeros(0), edges).shape == (0,)
    table = torch.randn(4, 3, requires_grad=True)
    found = weighted_sums(table, torch.zeros(0), edges)
    assert torch.equal(found, torch.zeros(4, 3))
    found.sum().backward()
    assert not table.grad.any()
