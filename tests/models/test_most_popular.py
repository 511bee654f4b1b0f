"""Most popular: one order for everybody."""

import numpy as np
import torch

from medrec.context import Context
from medrec.graphs.interactions import Interactions
from medrec.models.most_popular import SYSTEM, MostPopular
from tests.ward import LAST, ward

CONTEXT = Context(ward().vocab, torch.zeros(5, 5, dtype=torch.bool))


def test_patients_count_once_and_everybody_gets_one_order():
    nothing = np.zeros(5, dtype=bool)
    system = MostPopular().fit(Interactions.of(ward(), ~nothing, nothing))
    scores = system.rank(np.array([2, 0]), CONTEXT)
    assert scores.tolist() == [[2, 1, 2, 1, 3]] * 2
    assert scores.dtype == np.float32


def test_it_speaks_the_same_from_what_was_stored():
    system = MostPopular().fit(Interactions.of(ward(), ~LAST, LAST))
    again = SYSTEM.restore(SYSTEM.configure(), CONTEXT, system.state())
    np.testing.assert_array_equal(again.rank(np.arange(3), CONTEXT), system.rank(np.arange(3), CONTEXT))
