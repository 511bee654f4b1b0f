"""Shuffled controls: nothing may keep what is truly its own, or the control is weaker than it says."""

import typing
from dataclasses import replace

import numpy as np
import pytest
import torch

from medrec.models.bimorec_pretraining import wrong_partners
from medrec.models.registry import get, systems
from tests.models.battery import Case, recode
from tests.models.graph_toys import GraphCase
from tests.toys import random_cohort

SEEDS = range(20)


def order_of(name, setting):
    """Medications that got their own molecules or fragments; those without any have nothing to keep."""

    def kept(seed):
        case, cohort = Case(name, {setting: "shuffled"}), random_cohort(4)
        has = case.context(cohort).molecules.fragment_mask.any(1)
        return (case.build(cohort, seed).order == torch.arange(cohort.n_medications))[has].numpy()

    return kept


def graph(seed):
    """Medications that kept their own neighbours, in a graph in which nearly all have different numbers of them."""
    n = 12
    cohort = random_cohort(n * n, n_medications=n, max_visits=1)
    pairs = np.argwhere(np.add.outer(np.arange(n), np.arange(n)) >= n)[np.arange(cohort.n_visits) % (n * (n - 1) // 2)]
    given = np.zeros((cohort.n_visits, n), dtype=bool)
    np.put_along_axis(given, pairs, True, axis=1)
    cohort = recode(cohort, "medication", lambda _: given, np.arange(cohort.n_visits))
    degrees = []
    for kind in ("observed", "shuffled"):
        case = Case("gamenet", {"graph": kind})
        network = case.build(cohort, seed)
        network.prepare(cohort, np.arange(cohort.n_patients), case.context(cohort))
        degrees.append(network.ehr.sum(1).numpy())
    alone = np.array([(degrees[0] == degree).sum() == 1 for degree in degrees[0]])
    assert alone.sum() == n - 2
    return (degrees[0] == degrees[1])[alone]


def effects(seed):
    """Effects that stayed in their place, among those that no other place has."""
    cohort = random_cohort(60, seed=6)
    plain, mixed = (
        np.concatenate([table[:-1, :-1].flatten().numpy() for table in tables])
        for tables in (_effects(cohort, seed, kind) for kind in ("risk_difference", "shuffled"))
    )
    values, counts = np.unique(plain, return_counts=True)
    return (plain == mixed)[np.isin(plain, values[counts == 1])]


def _effects(cohort, seed, kind):
    case = Case("causalmed", {"effects": kind, "roles": "none"})
    network = case.build(cohort, seed)
    network.prepare(cohort, np.arange(cohort.n_patients), case.context(cohort))
    return network.effects_diagnosis, network.effects_procedure


def conformers(seed):
    """Molecules that kept their own conformer, when a part of them is held out."""
    torch.manual_seed(seed)
    groups = [torch.arange(0, 12), torch.arange(12, 15)]
    return np.array(wrong_partners(list(range(15)), groups)) == np.arange(15)


def tails(name):
    """Triplets of a knowledge graph that are as they were; some must be in a relation that links nearly all pairs."""

    def kept(seed):
        case, cohort = GraphCase(name, {"graph": "shuffled"}), random_cohort(40, n_diagnoses=60, n_procedures=40)
        context = case.context(cohort)
        sparse = context.knowledge.of(["treats", "with procedure", "in class"])
        sparse = sparse.with_triplets(sparse.triplets[::4])
        torch.manual_seed(seed)
        network = get(name).create(get(name).configure(settings=case.settings), replace(context, knowledge=sparse))
        assert len(network.triplets) == sparse.n_triplets > 50
        known = {tuple(row) for row in sparse.triplets.tolist()}
        return np.array([tuple(row) in known for row in network.triplets.tolist()])

    return kept


CONTROLS = {
    ("safedrug", "molecules"): order_of("safedrug", "molecules"),
    ("molerec", "mask"): order_of("molerec", "mask"),
    ("bimorec", "molecules"): order_of("bimorec", "molecules"),
    ("gamenet", "graph"): graph,
    ("causalmed", "effects"): effects,
    ("bimorec", "coords"): conformers,
    **{(name, "graph"): tails(name) for name in ("kgcn", "kgat", "kgin", "diffkg")},
}
"""For each setting that can be ``"shuffled"``: which items kept their own under a seed."""


def test_every_shuffled_control_is_looked_at():
    found = {
        (system.name, name)
        for system in systems()
        for name, hint in typing.get_type_hints(system.config).items()
        if "shuffled" in typing.get_args(hint)
    }
    assert found == set(CONTROLS)


@pytest.mark.parametrize(("system", "setting"), list(CONTROLS))
def test_nothing_keeps_its_own(system, setting):
    kept = [CONTROLS[system, setting](seed) for seed in SEEDS]
    assert all(len(items) for items in kept)
    assert not any(items.any() for items in kept)
