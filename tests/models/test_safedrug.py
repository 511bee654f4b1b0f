"""SafeDrug: both branches and the brake by hand, an encoder that learns or does not, and one prefix at a time."""

import io
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from medrec.data.batch import VisitBatch
from medrec.models.registry import get
from medrec.models.safedrug import brake, fragment_votes, match, messages
from tests.models.battery import Battery, Case, Whole, output
from tests.toys import random_cohort


def close(actual, expected, atol=5e-5):
    torch.testing.assert_close(actual, torch.tensor(expected), atol=atol, rtol=0)


def test_both_branches_by_hand():
    q = torch.tensor([1.0, -1.0])
    s = match(q, torch.tensor([[1.0, 0], [0, 1], [1, 1]]))
    close(s, [0.7311, 0.2689, 0.5])
    g = nn.LayerNorm(3)(s).detach()
    close(g, [1.2246, -1.2246, 0.0])
    H = torch.tensor([[True, False], [True, True], [False, False]])
    W = torch.tensor([[0.5, -0.4, 0.3], [0.2, 0.6, -0.7]])
    votes = fragment_votes(q.sigmoid(), W, H)
    close(votes, [0.3655, -0.1311, 0.0])
    close(g * votes, [0.4476, 0.1605, 0.0])
    close((g * votes).sigmoid(), [0.6101, 0.5400, 0.5])


@pytest.mark.parametrize(
    ("rate", "printed", "released"),
    [(0.06, 1, 1), (0.07, 0.8, 0), (0.085, 0.5, 0), (0.10, 0.2, 0), (0.11, 0, 0), (0.12, 0, -0.2), (0.16, 0, -1)],
)
def test_the_brake_as_printed_and_as_released(rate, printed, released):
    rate = torch.tensor(rate, dtype=torch.float64)
    assert float(brake(rate, 0.06, 0.05)) == pytest.approx(printed, abs=1e-9)
    assert float(brake(rate, 0.06, 0.05, "min")) == pytest.approx(released, abs=1e-9)
    accuracy, safety = 0.5866, 0.015
    loss = {
        0.06: (0.5866, 0.5866), 0.07: (0.4723, 0.0150), 0.085: (0.3008, 0.0150), 0.10: (0.1293, 0.0150),
        0.11: (0.0150, 0.0150), 0.12: (0.0150, -0.0993), 0.16: (0.0150, -0.5566),
    }[round(float(rate), 3)]  # fmt: skip
    for clip, expected in zip(("max", "min"), loss, strict=True):
        beta = float(brake(rate, 0.06, 0.05, clip))
        assert beta * accuracy + (1 - beta) * safety == pytest.approx(expected, abs=6e-5)


def test_the_printed_brake_stays_between_nothing_and_all():
    rates = torch.linspace(0, 1, 1001)
    beta = brake(rates, 0.06, 0.05)
    assert ((beta >= 0) & (beta <= 1)).all()
    assert (beta.diff() <= 1e-6).all()
    assert float(beta[rates > 0.0605][0]) > 0.95, "continuous at the target"


def test_messages_equal_a_dense_matrix():
    torch.manual_seed(0)
    h = torch.randn(5, 4)
    bonds = torch.tensor([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]])
    dense = torch.zeros(5, 5)
    dense[bonds[1], bonds[0]] = 1
    torch.testing.assert_close(messages(h, bonds), h + dense @ h)


# A normalised match times the votes of two or three fragments cannot say everything of the others.
SEEN = {"sees_past": ("diagnosis", "procedure"), "uses_ddi_in_loss": True, "overfits": 0.7, "steps": 400}
OFFICIAL = {
    "molecule_encoder": "frozen_random", "beta_clip": "min", "fingerprints": "official", "without_structure": "zero"
}  # fmt: skip


class TestPaper(Battery):
    case = Case("safedrug", **SEEN)


class TestNoMolecules(Battery):
    case = Case("safedrug", {"molecule_encoder": "none"}, **SEEN)


class TestShuffled(Battery):
    # Who is left without a fragment would be the shuffle's choice.
    case = Whole("safedrug", {"molecules": "shuffled"}, **SEEN)


class TestOfficial(Battery):
    # The brake as released shuts accuracy off; the last medication has no fragments and is recommended to all.
    case = Case("safedrug", {**OFFICIAL, "target_ddi": 0.5}, **SEEN)

    def test_interactions_matter_where_they_should(self):
        cohort = self.case.cohort(12, seed=6)
        system = Case("safedrug", OFFICIAL)
        network, context = system.build(cohort, threshold=0.0).eval(), system.context(cohort)
        batch = VisitBatch.build(cohort, np.arange(12))
        braked, free = network, self.case.build(cohort, threshold=0.0).eval()
        with torch.no_grad():
            assert braked.loss(batch, context) != free.loss(batch, context)


@pytest.mark.parametrize("settings", [{}, OFFICIAL, {"molecule_encoder": "none"}])
def test_batched_equals_one_prefix_at_a_time(settings):
    """The route of the published code: one prefix, one molecule, one medication after another."""
    cohort = random_cohort(8, seed=2)
    case = Case("safedrug", settings)
    network, context = case.build(cohort).eval(), case.context(cohort)
    batch = VisitBatch.build(cohort, np.arange(8))
    molecules = context.molecules
    with torch.no_grad():
        logits = network(batch, context)
        E = torch.zeros(9, network.config.size)
        for m in range(9):
            if settings.get("molecule_encoder") == "none":
                E[m] = network.table[m]
            if not molecules.average[m].any():
                E[m] = network.free.vectors[0] if network.config.without_structure == "learnt" else 0
            elif settings.get("molecule_encoder") != "none":
                E[m] = torch.stack([slow_molecule(network, n) for n in molecules.average[m].nonzero()[:, 0]]).mean(0)
        for b, t in batch.visit_mask.nonzero().tolist():
            states = []
            for kind in ("diagnosis", "procedure"):
                rows = []
                for j in range(t + 1):
                    ids = batch.codes[kind][b, j]
                    rows.append(network.embedding[kind].weight[ids[ids < batch.sizes[kind]]].sum(0))
                states.append(network.gru[kind](torch.stack(rows))[0][-1])
            q = network.query(torch.cat(states).relu())
            s = (E @ q).sigmoid()
            g = network.norm(s + network.mix(s))
            u = network.asked(q).sigmoid()
            for m in range(9):
                own = molecules.fragment_mask[m].nonzero()[:, 0].tolist()
                if not own and network.config.without_structure == "learnt":
                    own = list(range(len(u)))
                expected = g[m] * sum((u[f] * network.votes[f, m] for f in own), torch.tensor(0.0))
                torch.testing.assert_close(logits[b, t, m], expected, atol=1e-5, rtol=1e-5)


def slow_molecule(network, n):
    """Sum over the atoms of one molecule, with its own dense matrix."""
    if network.config.molecule_encoder == "frozen_random":
        return network.frozen[n]
    encoder = network.encoder
    own = (encoder.owners == n).nonzero()[:, 0]
    A = torch.zeros(len(own), len(own))
    for a, b in encoder.bonds.T.tolist():
        if a in own and b in own:
            A[b - own[0], a - own[0]] = 1
    h = encoder.table.weight[encoder.atoms[own]]
    for layer in encoder.layers:
        h = layer(h).relu()
        h = h + A @ h
    return h.sum(0)


def step(network, context, cohort):
    batch = VisitBatch.build(cohort, np.arange(cohort.n_patients))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    network.loss(batch, context).backward()
    optimiser.step()


@pytest.mark.parametrize(("encoder", "learns"), [("trained", True), ("frozen_random", False)])
def test_an_encoder_that_is_trained_changes_and_one_that_is_not_stays(encoder, learns):
    cohort = random_cohort(12, seed=3)
    case = Case("safedrug", {"molecule_encoder": encoder})
    network, context = case.build(cohort), case.context(cohort)
    before = network.medications(context).detach().clone()
    step(network, context, cohort)
    assert torch.equal(network.medications(context)[:-1], before[:-1]) != learns
    assert not torch.equal(network.medications(context)[-1], before[-1]), "it has no molecule, but a vector"
    owners = {name.split(".")[0] for name, _ in network.named_parameters()}
    assert ("encoder" in owners) == learns


def test_a_frozen_map_is_saved_with_the_weights():
    """Not so in the released code, where a loaded model draws another one."""
    cohort = random_cohort(8, seed=4)
    case = Case("safedrug", OFFICIAL)
    context = case.context(cohort)
    network, again = case.build(cohort, seed=1), case.build(cohort, seed=2)
    assert not torch.equal(network.frozen, again.frozen)
    again.load_state_dict(load(save(network.state_dict())))
    assert torch.equal(output(again, cohort, context)[0], output(network, cohort, context)[0])
    assert len(io.BytesIO(save(network.state_dict())).getvalue()) > network.frozen.numel() * 4


def test_a_medication_without_a_structure_is_one_half_for_all_or_has_a_say():
    cohort = random_cohort(20, seed=5)
    for settings, alike in (({"without_structure": "zero"}, True), ({}, False)):
        case = Case("safedrug", settings)
        network, context = case.build(cohort).eval(), case.context(cohort)
        assert not context.molecules.fragment_mask[-1].any()
        batch = VisitBatch.build(cohort, np.arange(20))
        with torch.no_grad():
            prob = network(batch, context)[batch.visit_mask].sigmoid()[:, -1]
        assert (prob == 0.5).all() == alike
        assert (prob.std() < 1e-6) == alike


def test_every_molecule_is_encoded_unless_the_released_rule_drops_it():
    cohort = random_cohort(4, seed=6)
    case = Case("safedrug")
    context = case.context(cohort)
    salts = ("[Na+].CC(=O)[O-]", *context.molecules.smiles[1:])
    context = replace(context, molecules=replace(context.molecules, smiles=salts))
    system = get("safedrug")
    found = {}
    for rule in ("all", "official"):
        network = system.create(system.configure("paper", {"fingerprints": rule}), context)
        found[rule] = network.encoder.read.tolist()
        E = network.medications(context)
        # The first medication has two molecules; without the salt it is the other one.
        if rule == "official":
            torch.testing.assert_close(E[0], network.encoder()[1])
    assert all(found["all"])
    assert found["official"] == [False] + [True] * (len(salts) - 1)


def test_shares_of_fragments_add_up_to_the_logit():
    cohort = random_cohort(10, seed=7)
    case = Case("safedrug")
    network, context = case.build(cohort).eval(), case.context(cohort)
    batch = VisitBatch.build(cohort, np.array([2]))
    with torch.no_grad():
        reasons, logits = network.explain(batch, context), network(batch, context)
    last = int(batch.visit_mask[0].sum()) - 1
    codes = context.vocab["medication"].codes
    totals = dict(reasons.group_by("medication").agg(pl.col("weight").sum()).iter_rows())
    for m in range(8):
        assert totals[codes[m]] == pytest.approx(float(logits[0, last, m]), abs=1e-5)
    assert codes[8] not in totals


def test_shuffled_molecules_are_those_of_others_with_their_fragments():
    cohort = random_cohort(10, seed=8)
    plain, mixed = (Case("safedrug", {"molecules": m}).build(cohort) for m in ("own", "shuffled"))
    assert plain.order.tolist() == list(range(9))
    assert sorted(mixed.order.tolist()) == list(range(9))
    context = Case("safedrug").context(cohort)
    molecules, order = context.molecules, mixed.order
    given = replace(molecules, average=molecules.average[order], fragment_mask=molecules.fragment_mask[order])
    plain.load_state_dict({**mixed.state_dict(), "order": plain.order})
    others, _ = output(plain, cohort, replace(context, molecules=given))
    torch.testing.assert_close(others, output(mixed, cohort, context)[0])
    assert not torch.allclose(others, output(plain, cohort, context)[0])
