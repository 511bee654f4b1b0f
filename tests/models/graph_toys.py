"""What tests of graph rankers share: their case, a graph of a toy cohort, and what holds numbers of entities."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

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


AXES = {
    "entities": 0, "nodes": 0, "neighbours": 0, "relations_of": 0,
    "denoiser.inner.weight": 1, "denoiser.outer.weight": 0, "denoiser.outer.bias": 0,
}  # fmt: skip
"""Weights and buffers with an axis of entities, which may be longer."""
IDS = {"triplets": [0, 2], "rebuilt": [0, 2], "neighbours": slice(None)}
"""Buffers whose values are entities, and in which columns."""


def relabelled_entities(key: str, value: Tensor, place: Tensor) -> Tensor:
    """A weight or buffer of a graph ranker with entity ``e`` called ``place[e]``; -1 is none."""
    value = value.clone()
    if key in IDS:
        ids = value[:, IDS[key]]
        value[:, IDS[key]] = torch.where(ids >= 0, place[ids.clamp(min=0)], ids)
    if key in AXES:
        order = torch.cat([place.argsort(), torch.arange(len(place), value.shape[AXES[key]])])
        value = value.index_select(AXES[key], order)
    return value
