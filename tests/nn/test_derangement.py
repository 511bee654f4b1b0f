"""Random orders in which nobody keeps their place."""

import torch

from medrec.nn.derangement import derangement


def test_everybody_moves_and_is_there_once():
    for seed in range(50):
        torch.manual_seed(seed)
        for n in (2, 3, 9, 40):
            order = derangement(n)
            assert sorted(order.tolist()) == list(range(n))
            assert not (order == torch.arange(n)).any()


def test_it_is_one_cycle():
    torch.manual_seed(0)
    order, place, seen = derangement(12), 0, []
    for _ in range(12):
        seen.append(place)
        place = int(order[place])
    assert place == 0
    assert sorted(seen) == list(range(12))


def test_all_cycles_are_as_likely():
    torch.manual_seed(0)
    found = [tuple(derangement(4).tolist()) for _ in range(1200)]
    counts = [found.count(order) for order in set(found)]
    assert len(counts) == 6
    assert min(counts) > 150
    assert max(counts) < 250
