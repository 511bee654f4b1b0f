r"""Lists of medications that are written word by word: their order, and how a set is read off a writer.

Book: :eq:`eq-chain-chance`.

A writer that was taught lists in a fixed order says at each step how probable each *next word* is, the end among them.
Taking the most probable one (greedy) compares a single medication with all that the end stands for, and the end wins
late: a list is written too long.  The same probabilities answer a fairer question, asked of one medication after the
other in the order of the lists: is it on the list, given what was decided before?

.. math::
    q_i = \frac{P(m_i)}{1 - \sum_{j < i} P(m_j)}

(:func:`chances`).  A medication whose :math:`q_i` reaches the threshold is written; the writer reads it, and the
questions go on behind it.  So every medication has one probability, and sets are thresholded probabilities as those of
other systems; when another threshold is tuned afterwards, the answers given on the way stay those of ``threshold``.

Or lists are drawn, and the score of a medication is the share of lists that hold it: an estimate of its marginal
probability, in steps of one sixteenth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Order = Literal["frequency", "rare_first", "class_code", "record"]
"""Order of a list: most frequent first, rarest first, by class code, or as it stands in the record.

In the cohorts of this book the codes of a visit are sorted, so that the last two are the same.
"""
SAMPLES = 16
"""Lists that are drawn for each visit."""


def ranks(counts: NDArray[np.integer], order: Order) -> NDArray[np.int64]:
    """Place of each medication in the order of lists, ``(M,)``.

    Args:
        counts: ``(M,)`` how often each was given; of equals the one with the smaller id stands in front.
        order: of the lists; ids follow the class codes.
    """
    key = {"frequency": -counts, "rare_first": counts}.get(order, np.zeros_like(counts))
    rank = np.empty(len(counts), dtype=np.int64)
    rank[np.argsort(key, kind="stable")] = np.arange(len(counts))
    return rank


def chances(prob: Tensor, end: Tensor) -> Tensor:
    r"""Probability of each medication, given that those in front of it were passed over.

    .. math:: q_i = \frac{P(m_i)}{1 - \sum_{j < i} P(m_j)} = \frac{P(m_i)}{P(m_i) + \dots + P(m_M) + P(\text{end})}

    Source: ours; book: :eq:`eq-chain-chance`.

    Args:
        prob: probabilities of the next word in the order of lists, ``(..., M)``.
        end: probability of the end, ``(...)``.

    Returns:
        ``(..., M)`` in [0, 1]; 0 where nothing is left.
    """
    # From behind: what is left is a sum of what is there, not a small difference of large numbers.
    left = prob.flip(-1).cumsum(-1).flip(-1) + end[..., None]
    return prob / left.clamp(min=torch.finfo(prob.dtype).tiny)


def ask(chance: Tensor, asked: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Answers to the questions behind those that were asked, up to the first yes.

    Args:
        chance: :func:`chances`, ``(n, M)``.
        asked: ``(n,)`` how many questions were asked before.
        threshold: chance from which the answer is yes.

    Returns:
        Which were answered now, ``(n, M)`` bool; place of the yes, ``(n,)``, ``M`` where all said no.
    """
    M = chance.shape[-1]
    place = torch.arange(M, device=chance.device)
    open_ = place >= asked[:, None]
    yes = open_ & (chance >= threshold)
    first = torch.where(yes.any(-1), yes.int().argmax(-1), M)
    return open_ & (place <= first[:, None]), first


def gumbel(shape: Sequence[int]) -> Tensor:
    r"""Noise of Gumbel's distribution, the same every time: the largest of logit + noise is a draw of the softmax.

    One table serves all visits, so that what is drawn for one does not hang on its neighbours in a batch.
    """
    uniform = torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return -(-uniform.clamp(min=1e-300).log()).log()


def in_sets(lists: Tensor, n_medications: int) -> Tensor:
    """Medications on lists ``(N, K)``, as ``(N, M)`` bool; anything else than an id is none."""
    there = (lists >= 0) & (lists < n_medications)
    sets = torch.zeros(len(lists), n_medications + 1, dtype=torch.bool, device=lists.device)
    return sets.scatter(1, torch.where(there, lists, n_medications), True)[:, :-1]


def in_order(sets: Tensor, rank: Tensor) -> Tensor:
    """Sets ``(N, M)`` bool as lists ``(N, K)`` in the order of ``rank`` ``(M,)``, then ``M``."""
    M = sets.shape[1]
    order = rank.argsort()
    place, listed = torch.where(sets[:, order], torch.arange(M, device=sets.device), M).sort(-1)
    longest = int(sets.sum(1).max()) if len(sets) else 0
    return torch.where(place < M, order[listed], M)[:, :longest]
