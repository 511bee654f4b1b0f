"""Lists: their orders, what greed makes of a sorted one, and questions that give back what they were drawn from."""

import itertools

import numpy as np
import pytest
import torch

from medrec.nn.lists import ask, chances, gumbel, in_order, in_sets, ranks


def next_words(p, begin):
    """Of a list in a fixed order whose medications are there independently: which one is next, and the end."""
    absent = np.cumprod([1, *(1 - p[begin:])])
    return np.concatenate([np.zeros(begin), absent[:-1] * p[begin:]]), absent[-1]


def test_chances_give_back_the_probabilities_of_independent_medications():
    p = np.array([0.9, 0.3, 0.5, 0.05, 0.3])
    prob, end = next_words(p, 0)
    assert prob.sum() + end == pytest.approx(1)
    found = chances(torch.from_numpy(prob), torch.tensor(end))
    torch.testing.assert_close(found, torch.from_numpy(p))
    with_gaps = torch.from_numpy(np.stack([next_words(p, k)[0] for k in range(5)]))
    ends = torch.tensor([next_words(p, k)[1] for k in range(5)])
    for k, row in enumerate(chances(with_gaps, ends)):
        torch.testing.assert_close(row[k:], torch.from_numpy(p[k:]))


def test_chances_by_hand():
    found = chances(torch.tensor([0.2, 0.0, 0.4, 0.3]), torch.tensor(0.1))
    torch.testing.assert_close(found, torch.tensor([0.2, 0.0, 0.5, 0.75]))
    torch.testing.assert_close(chances(torch.tensor([0.0, 0.0]), torch.tensor(0.0)), torch.zeros(2))


def test_small_rests_keep_their_precision():
    """Nearly all mass lies in front; what is behind still divides as it should."""
    prob = torch.tensor([1.0 - 3e-9, 1e-9], dtype=torch.float32)
    assert chances(prob, torch.tensor(2e-9))[1].item() == pytest.approx(1 / 3, rel=1e-5)


def test_greed_writes_too_many_and_questions_do_not():
    """Ten medications of probability .3: three are expected, greed writes seven, a cut above .3 none."""
    p = np.full(10, 0.3)
    written, begin = 0, 0
    while True:
        prob, end = next_words(p, begin)
        if end > prob.max():
            break
        written, begin = written + 1, int(prob.argmax()) + 1
    assert written == 7
    assert 0.7**3 > 0.3 > 0.7**4
    prob, end = next_words(p, 0)
    answered, yes = ask(chances(torch.from_numpy(prob)[None], torch.tensor([end])), torch.tensor([0]), 0.31)
    assert answered.all()
    assert yes.tolist() == [10]


def test_questions_go_on_behind_those_that_were_asked():
    chance = torch.tensor([[0.9, 0.1, 0.6, 0.7], [0.9, 0.1, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4]])
    answered, yes = ask(chance, torch.tensor([1, 1, 4]), 0.5)
    assert answered.tolist() == [[False, True, True, False], [False, True, True, True], [False] * 4]
    assert yes.tolist() == [2, 4, 4]


def test_noise_makes_draws_of_the_softmax():
    logits = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    words = (logits + gumbel((20_000, 3))).argmax(-1)
    share = words.bincount(minlength=3).double() / len(words)
    torch.testing.assert_close(share, logits.softmax(0), atol=0.015, rtol=0)
    assert torch.equal(gumbel((4, 5)), gumbel((4, 5)))


def test_orders():
    counts = np.array([3, 9, 3, 1])
    assert ranks(counts, "frequency").tolist() == [1, 0, 2, 3]
    assert ranks(counts, "rare_first").tolist() == [1, 3, 2, 0]
    assert ranks(counts, "class_code").tolist() == ranks(counts, "record").tolist() == [0, 1, 2, 3]


def test_sets_and_lists_are_one_thing():
    rank = torch.tensor([2, 0, 3, 1])
    sets = torch.tensor(list(itertools.product([False, True], repeat=4)))
    lists = in_order(sets, rank)
    assert torch.equal(in_sets(lists, 4), sets)
    assert lists[-1].tolist() == [1, 3, 0, 2]
    assert lists[0].tolist() == [4] * 4
    assert torch.equal(in_sets(torch.tensor([[2, -1, 4, 7]]), 4), torch.tensor([[False, False, True, False]]))
    assert in_order(sets[:1], rank).shape == (1, 0)
