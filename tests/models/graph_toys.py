"""What the tests of graph rankers share: their case, and a knowledge graph of a toy cohort."""

from dataclasses import replace

import numpy as np

from medrec.context import Context
from medrec.data.cohort import Cohort
from medrec.graphs.knowledge import KnowledgeGraph, SeenCodes, house
from tests.models.battery import RankerCase


def knowledge(cohort: Cohort) -> KnowledgeGraph:
    """The house's graph of all visits but each patient's last one, with one interacting pair."""
    last = np.isin(np.arange(cohort.n_visits), cohort.visit_offsets[1:] - 1)
    ddi = np.zeros((cohort.n_medications,) * 2, dtype=bool)
    ddi[0, 1] = ddi[1, 0] = True
    return house(cohort.vocab, SeenCodes.of(cohort, ~last, last), ddi, min_visits=1)


class GraphCase(RankerCase):
    """A ranker that needs a knowledge graph."""

    def context(self, cohort: Cohort) -> Context:
        return replace(super().context(cohort), knowledge=knowledge(cohort))
