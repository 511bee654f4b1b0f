"""The behaviour battery that every network must pass.

A test module for a system makes one :class:`Case` and inherits :class:`Battery`; what a system declares that it does
not see is tested too (it must *not* matter), so nothing is skipped.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from safetensors.torch import load, save

from medrec.context import Context
from medrec.data.batch import VisitBatch
from medrec.data.cohort import KINDS, Cohort, Kind
from medrec.metrics import jaccard
from medrec.models.base import Recommender
from medrec.models.registry import get
from medrec.types import Ragged
from tests.toys import random_cohort, toy_molecules

FLOAT = {"atol": 1e-6, "rtol": 1e-5}


@dataclass(frozen=True)
class Case:
    """What a system promises.

    Args:
        name: of the system.
        settings: that differ from its defaults.
        sees_past: kinds of codes of earlier visits that change the output.
        sees_now: kinds of codes of the visit itself that change the output.
        uses_ddi_in_loss: whether the DDI matrix changes the loss.
        uses_ddi_in_output: whether it changes the output.
        idle: parameters that no gradient reaches, by prefix.
        overfits: Jaccard reached on eight visits within ``steps`` steps.
        steps: see above.
        learning_rate: of those steps.
        gain: what weights are multiplied by where an input must be seen to matter; a deep network passes on little
            before it is trained.
        n_symptoms: symptoms that the toy cohorts know; 0 as where records have none.
    """

    name: str
    settings: dict = field(default_factory=dict)
    sees_past: tuple[Kind, ...] = ("diagnosis", "procedure", "medication")
    sees_now: tuple[Kind, ...] = ("diagnosis", "procedure")
    uses_ddi_in_loss: bool = False
    uses_ddi_in_output: bool = False
    idle: tuple[str, ...] = ()
    overfits: float = 0.95
    steps: int = 150
    learning_rate: float = 0.01
    gain: float = 1.0
    n_symptoms: int = 0

    def cohort(self, n_patients: int, seed: int, **shape) -> Cohort:
        return random_cohort(n_patients, seed, n_symptoms=self.n_symptoms, **shape)

    def context(self, cohort: Cohort) -> Context:
        M = cohort.n_medications
        ddi = torch.zeros(M, M, dtype=torch.bool)
        # Three of 36 pairs of the toy cohort: more than the six in a hundred that most systems put up with.
        for a, b in ((0, 1), (2, 4), (3, 5)):
            ddi[a, b] = ddi[b, a] = True
        molecules = toy_molecules(M) if get(self.name).cls.sees_molecules else None
        return Context(cohort.vocab, ddi, molecules)

    def build(self, cohort: Cohort, seed: int = 0, **settings) -> Recommender:
        entry = get(self.name)
        torch.manual_seed(seed)
        return entry.cls(entry.configure("paper", {**self.settings, **settings}), self.context(cohort))


def output(network: Recommender, cohort: Cohort, context: Context) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of all visits of the cohort and which of them are scored, in evaluation mode."""
    network.eval()
    batch = VisitBatch.build(cohort, np.arange(cohort.n_patients))
    with torch.no_grad():
        return network(batch, context), network.scored(batch)


def recode(cohort: Cohort, kind: Kind, change: Callable[[np.ndarray], np.ndarray], visits: np.ndarray) -> Cohort:
    """The cohort with one kind of code replaced at the given visits by ``change`` of its multi-hot rows."""
    dense = cohort.codes[kind].multi_hot(len(cohort.vocab[kind]))
    dense[visits] = change(dense[visits])
    ragged = Ragged(np.concatenate([[0], dense.sum(1).cumsum()]), np.nonzero(dense)[1])
    return replace(cohort, codes={**cohort.codes, kind: ragged})


def _other(rows: np.ndarray) -> np.ndarray:
    """Codes moved on by one place: every visit with some, but not all, codes changes."""
    return np.roll(rows, 1, axis=1)


class Battery:
    """Inherit, and set ``case``."""

    case: Case

    def test_each_input_matters_or_is_declared_unseen(self):
        cohort = self.case.cohort(12, seed=3)
        network, context = self.case.build(cohort), self.case.context(cohort)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(self.case.gain)
        before, scored = output(network, cohort, context)
        last = cohort.visit_offsets[1:] - 1
        past = np.setdiff1d(np.arange(cohort.n_visits), last)
        for kind in (k for k in KINDS if len(cohort.vocab[k])):
            for visits, seen in ((past, self.case.sees_past), (last, self.case.sees_now)):
                after, _ = output(network, recode(cohort, kind, _other, visits), context)
                # Only each patient's last visit is looked at: for it, all earlier ones are the past.
                where = torch.zeros_like(scored)
                where[torch.arange(len(scored)), torch.as_tensor(np.diff(cohort.visit_offsets) - 1)] = True
                moved = (after - before)[where & scored].abs().max() > 1e-5
                assert bool(moved) == (kind in seen), f"{kind}, {'past' if visits is past else 'now'}"

    def test_a_target_does_not_change_its_own_inputs(self):
        cohort = self.case.cohort(12, seed=4)
        network, context = self.case.build(cohort), self.case.context(cohort)
        before, scored = output(network, cohort, context)
        last = cohort.visit_offsets[1:] - 1
        after, _ = output(network, recode(cohort, "medication", _other, last), context)
        torch.testing.assert_close(after[scored], before[scored], **FLOAT)

    def test_the_future_does_not_matter(self):
        cohort = self.case.cohort(12, seed=4)
        network, context = self.case.build(cohort), self.case.context(cohort)
        before, scored = output(network, cohort, context)
        later = np.flatnonzero(cohort.visit_number >= 2)
        changed = recode(recode(cohort, "diagnosis", _other, later), "medication", _other, later)
        after, _ = output(network, changed, context)
        early = scored.clone()
        early[:, 2:] = False
        assert early.any()
        torch.testing.assert_close(after[early], before[early], **FLOAT)

    def test_gradients_reach_every_parameter(self):
        cohort = self.case.cohort(20, seed=5)
        network, context = self.case.build(cohort).train(), self.case.context(cohort)
        batch = VisitBatch.build(cohort, np.arange(cohort.n_patients))
        network.loss(batch, network(batch, context), context).backward()
        for name, parameter in network.named_parameters():
            idle = name.startswith(self.case.idle) if self.case.idle else False
            size = 0.0 if parameter.grad is None else float(parameter.grad.abs().sum())
            assert (size == 0) == idle, name

    def test_interactions_matter_where_they_should(self):
        cohort = self.case.cohort(12, seed=6)
        # Everything is recommended, so that every interacting pair is.
        network, context = self.case.build(cohort, threshold=0.0).eval(), self.case.context(cohort)
        empty = replace(context, ddi=torch.zeros_like(context.ddi))
        batch = VisitBatch.build(cohort, np.arange(cohort.n_patients))
        with torch.no_grad():
            logits, without = network(batch, context), network(batch, empty)
            loss, loss_without = network.loss(batch, logits, context), network.loss(batch, logits, empty)
        assert (not torch.equal(logits, without)) == self.case.uses_ddi_in_output
        assert (not torch.equal(loss, loss_without)) == self.case.uses_ddi_in_loss

    def test_padding_and_company_do_not_matter(self):
        cohort = self.case.cohort(16, seed=7)
        network, context = self.case.build(cohort), self.case.context(cohort)
        together, scored = output(network, cohort, context)
        assert scored.any()
        for patient in range(cohort.n_patients):
            alone, own = output(network, cohort.select(np.array([patient])), context)
            T = alone.shape[1]
            assert torch.equal(own[0], scored[patient, :T])
            torch.testing.assert_close(alone[0][own[0]], together[patient, :T][own[0]], **FLOAT)

    def test_order_of_codes_does_not_matter(self):
        cohort = self.case.cohort(12, seed=8)
        network, context = self.case.build(cohort), self.case.context(cohort)
        before, scored = output(network, cohort, context)
        turned = {
            kind: Ragged.from_lists([row[::-1] for row in (rows[i] for i in range(len(rows)))])
            for kind, rows in cohort.codes.items()
        }
        assert any(not np.array_equal(turned[k].values, cohort.codes[k].values) for k in turned)
        after, _ = output(network, replace(cohort, codes=turned), context)
        torch.testing.assert_close(after[scored], before[scored], **FLOAT)

    def test_it_learns_eight_visits_by_heart(self):
        cohort = self.case.cohort(40, seed=9, max_visits=3)
        network, context = self.case.build(cohort, dropout=0.0), self.case.context(cohort)
        several = np.flatnonzero(np.diff(cohort.visit_offsets) > 1)
        chosen, count = [], 0
        for patient in several:
            chosen.append(patient)
            count += int(network.scored(VisitBatch.build(cohort, np.array([patient]))).sum())
            if count >= 8:
                break
        batch = VisitBatch.build(cohort, np.array(chosen))
        network.train()
        optimiser = torch.optim.Adam(network.parameters(), lr=self.case.learning_rate)
        for _ in range(self.case.steps):
            optimiser.zero_grad()
            network.loss(batch, network(batch, context), context).backward()
            optimiser.step()
        network.eval()
        with torch.no_grad():
            scored = network.scored(batch)
            reached = jaccard(batch.target[scored].numpy(), network.recommend(batch, context)[scored].numpy()).mean()
        assert reached >= self.case.overfits, f"{reached:.3f}"

    def test_seed_decides(self):
        cohort = self.case.cohort(6, seed=10)
        context = self.case.context(cohort)
        one, two, other = (output(self.case.build(cohort, seed=s), cohort, context)[0] for s in (1, 1, 2))
        assert torch.equal(one, two)
        assert not torch.equal(one, other)

    def test_saved_and_loaded_it_says_the_same(self):
        cohort = self.case.cohort(10, seed=11)
        context = self.case.context(cohort)
        network = self.case.build(cohort, seed=1)
        before, _ = output(network, cohort, context)
        file = io.BytesIO(save(network.state_dict()))
        again = self.case.build(cohort, seed=2)
        again.load_state_dict(load(file.getvalue()))
        assert torch.equal(output(again, cohort, context)[0], before)

    def test_nothing_is_recommended_where_it_does_not_speak(self):
        cohort = self.case.cohort(10, seed=12)
        network, context = self.case.build(cohort).eval(), self.case.context(cohort)
        batch = VisitBatch.build(cohort, np.arange(cohort.n_patients))
        with torch.no_grad():
            sets, scored = network.recommend(batch, context), network.scored(batch)
            logits = network(batch, context)
        assert sets.dtype == torch.bool
        assert torch.isfinite(logits).all()
        assert not sets[~scored].any()
        if network.tunable:
            assert torch.equal(sets[scored], (logits.sigmoid() >= network.config.threshold)[scored])
        first = scored[:, 0]
        assert bool(first.any()) == (not network.needs_history)
