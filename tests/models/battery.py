"""The behaviour battery that every network must pass.

A test module for a system makes one :class:`Case` for each form that it wants tried, and inherits :class:`Battery`; for
rankers they are :class:`RankerCase` and :class:`RankerBattery`.  What a case says that its system does not see is
tested too (it must *not* matter), so nothing is skipped.  A system from outside the package is named
``package.module:SYSTEM``.  ``test_battery.py`` fails for a registered network that has no case.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from medrec.context import Context
from medrec.data.batch import VisitBatch
from medrec.data.cohort import KINDS, Cohort, Kind
from medrec.graphs.interactions import Interactions
from medrec.metrics import jaccard
from medrec.models.base import Network, Ranker, Recommender
from medrec.models.registry import get
from medrec.text.encoders import RandomVectors
from medrec.text.features import TextFeatures
from medrec.types import Ragged
from tests.toys import random_cohort, toy_molecules

FLOAT = {"atol": 1e-6, "rtol": 1e-5}
LOOK = 25
"""Steps between two looks at what is known by heart."""
LOOK_AFTER = 5
"""Epochs of a ranker between two looks at what it has learnt."""


def scored_visits(network: Recommender, batch: VisitBatch) -> float:
    """What most losses are a mean over."""
    return float(network.scored(batch).sum())


class Words(RandomVectors):
    """Texts in sixteen dimensions."""

    def __init__(self) -> None:
        super().__init__("code")
        self.width, self.content = 16, "words of sixteen dimensions"


@dataclass(frozen=True)
class Case:
    """What a system promises.

    Args:
        name: of the system, or ``package.module:SYSTEM`` for one from outside.
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
        weight: of a batch in a mean of losses, what the loss is a mean over.
        schedule: buffers that ``before_epoch`` or ``after_epoch`` move.
        memo: attributes that may grow while the network runs, since they hold what would be found again anyway.
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
    weight: Callable[[Recommender, VisitBatch], float] = scored_visits
    schedule: tuple[str, ...] = ()
    memo: tuple[str, ...] = ()

    def cohort(self, n_patients: int, seed: int, **shape) -> Cohort:
        return random_cohort(n_patients, seed, n_symptoms=self.n_symptoms, **shape)

    def context(self, cohort: Cohort) -> Context:
        M = cohort.n_medications
        ddi = torch.zeros(M, M, dtype=torch.bool)
        # Three of 36 pairs of the toy cohort: more than the six in a hundred that most systems put up with.
        for a, b in ((0, 1), (2, 4), (3, 5)):
            ddi[a, b] = ddi[b, a] = True
        needs = get(self.name).needs
        text = TextFeatures(cohort.vocab, Words()) if "text" in needs else None
        return Context(cohort.vocab, ddi, toy_molecules(M) if "molecules" in needs else None, text)

    def build(self, cohort: Cohort, seed: int = 0, **settings) -> Recommender:
        system = get(self.name)
        torch.manual_seed(seed)
        return system.create(system.configure("paper", {**self.settings, **settings}), self.context(cohort))

    def batches(self, network: Recommender, cohort: Cohort) -> tuple[VisitBatch, VisitBatch]:
        """The cohort in two halves."""
        one, other = np.array_split(np.arange(cohort.n_patients), 2)
        return VisitBatch.build(cohort, one), VisitBatch.build(cohort, other)

    def output(self, network: Recommender, cohort: Cohort, context: Context) -> Tensor:
        """What it says of the cohort."""
        return output(network, cohort, context)[0]


class Whole(Case):
    """The last medication of the toy library has a fragment too, its own; in a :class:`Case` it has none."""

    def context(self, cohort: Cohort) -> Context:
        context = super().context(cohort)
        mask = context.molecules.fragment_mask.clone()
        mask[-1, -1] = True
        return replace(context, molecules=replace(context.molecules, fragment_mask=mask))


@dataclass(frozen=True)
class RankerCase:
    """What a ranker promises; as :class:`Case`, where the names are the same.

    Args:
        ordered: share of pairs of a given and another medication that it puts in the right order, after ``epochs``
            epochs at most.
        epochs: see above.
    """

    name: str
    settings: dict = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    ordered: float = 0.95
    epochs: int = 150
    learning_rate: float = 0.01
    schedule: tuple[str, ...] = ()
    memo: tuple[str, ...] = ()

    def cohort(self, n_patients: int, seed: int, **shape) -> Cohort:
        return random_cohort(n_patients, seed, **shape)

    def context(self, cohort: Cohort) -> Context:
        """Training sees all visits but each patient's last one."""
        last = np.isin(np.arange(cohort.n_visits), cohort.visit_offsets[1:] - 1)
        return replace(Case(self.name).context(cohort), graph=Interactions.of(cohort, ~last, last))

    def build(self, cohort: Cohort, seed: int = 0, **settings) -> Ranker:
        system, context = get(self.name), self.context(cohort)
        torch.manual_seed(seed)
        network = system.create(system.configure("paper", {**self.settings, **settings}), context)
        network.prepare(context.graph, np.arange(cohort.n_patients), context)
        return network

    def batches(self, network: Ranker, cohort: Cohort) -> tuple[Any, Any]:
        """The first batch of two epochs."""
        rows = np.arange(cohort.n_patients)
        return tuple(next(network.batches(self.context(cohort).graph, rows, [0, epoch])) for epoch in (0, 1))

    def output(self, network: Ranker, cohort: Cohort, context: Context) -> Tensor:
        """What it says of the cohort."""
        return torch.from_numpy(network.rank(np.arange(cohort.n_patients), context))


def undropped(name: str) -> dict[str, float]:
    """The setting that leaves dropout out, for a system that has any."""
    return {"dropout": 0.0} if "dropout" in {f.name for f in fields(get(name).config)} else {}


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


def frozen(value: Any) -> Any:
    """A value that later changes do not reach, to be compared with ``==``."""
    if isinstance(value, Tensor):
        return value.dtype, tuple(value.shape), value.detach().cpu().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, dict):
        return tuple((key, frozen(part)) for key, part in value.items())
    if isinstance(value, list | tuple | set):
        return tuple(frozen(part) for part in value)
    if is_dataclass(value):
        return tuple(frozen(getattr(value, part.name)) for part in fields(value))
    return value


def attributes(network: nn.Module, memo: tuple[str, ...]) -> dict[str, Any]:
    """All that a network and its parts hold on themselves, apart from parameters, buffers, parts and memos."""
    apart = {"_parameters", "_buffers", "_modules", *memo}
    return {
        f"{name}.{key}": frozen(value)
        for name, module in network.named_modules()
        for key, value in vars(module).items()
        if key not in apart
    }


def put_back(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Parameters and buffers, those that are not stored among them, to what they were."""
    with torch.no_grad():
        for name, value in held(network):
            value.copy_(state[name])


def held(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name."""
    yield from network.named_parameters()
    yield from network.named_buffers()


def copied(network: nn.Module) -> dict[str, Tensor]:
    """What :func:`put_back` takes."""
    return {name: value.detach().clone() for name, value in held(network)}


def seeded_loss(network: Network, batch: Any, context: Context) -> Tensor:
    """The loss with equal draws of dropout and the like each time."""
    torch.manual_seed(0)
    return network.loss(batch, context)


def reached(case: Case | RankerCase, network: Network, cohort: Cohort) -> list[Tensor]:
    """Output, and losses with their gradients in both modes, from what the network holds now."""
    context, (batch, _) = case.context(cohort), case.batches(network, cohort)
    state, found = copied(network), []
    for training in (False, True):
        network.train(training)
        network.zero_grad()
        loss = seeded_loss(network, batch, context)
        loss.backward()
        found += [loss.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)]
        put_back(network, state)
    network.zero_grad()
    return [*found, case.output(network, cohort, context)]


class NetworkBattery:
    """What is asked of every network; see :class:`Battery` and :class:`RankerBattery`."""

    case: Case | RankerCase

    def test_gradients_reach_every_parameter(self):
        cohort = self.case.cohort(20, seed=5)
        network, context = self.case.build(cohort).train(), self.case.context(cohort)
        sum(network.loss(batch, context) for batch in self.case.batches(network, cohort)).backward()
        for name, parameter in network.named_parameters():
            idle = name.startswith(self.case.idle) if self.case.idle else False
            size = 0.0 if parameter.grad is None else float(parameter.grad.abs().sum())
            assert (size == 0) == idle, name

    def test_nothing_is_hidden_between_steps(self):
        cohort = self.case.cohort(16, seed=14)
        network, fresh, context = self.case.build(cohort), self.case.build(cohort), self.case.context(cohort)
        one, other = self.case.batches(network, cohort)
        state, before = copied(network), attributes(network.train(), self.case.memo)
        for training in (True, False):
            alone = seeded_loss(fresh.train(training), other, context)
            first = seeded_loss(network.train(training), one, context)
            put_back(network, state)
            self.case.output(network, cohort, context)
            network.train(training)
            torch.testing.assert_close(seeded_loss(network, other, context), alone, **FLOAT)
            put_back(network, state)
            put_back(fresh, state)
            assert not torch.equal(first, alone)
        after = attributes(network.train(), self.case.memo)
        assert before.keys() == after.keys()
        assert [name for name in after if before[name] != after[name]] == []

    def test_a_schedule_reaches_its_user(self):
        cohort = self.case.cohort(12, seed=15)
        # Everything is recommended: far beyond any target rate of interactions, where schedules of safety count.
        network, context = self.case.build(cohort, threshold=0.0), self.case.context(cohort)
        # What follows the losses of a batch must have met others.
        for batch in self.case.batches(network, cohort):
            seeded_loss(network.train(), batch, context)
        start = copied(network)
        moved = {}
        for selected in (0.0, 1.0):
            network.before_epoch(7, context)
            network.after_epoch(selected)
            moved |= {name: value for name, value in copied(network).items() if not torch.equal(value, start[name])}
            put_back(network, start)
        assert moved.keys() == set(self.case.schedule)
        assert moved.keys() <= network.state_dict().keys()
        before = reached(self.case, network, cohort)
        for name, value in moved.items():
            put_back(network, start | {name: value})
            after = reached(self.case, network, cohort)
            assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)), name

    def test_a_schedule_may_come_to_its_end(self):
        """A thousand epochs on a temperature is as good as 0 or infinite: losses stay numbers, whatever is given."""
        cohort = self.case.cohort(12, seed=15)
        context = self.case.context(cohort)
        everything_some_nothing = (0.0, 0.5, 1.0) if self.case.schedule else (0.5,)
        for threshold, selected in itertools.product(everything_some_nothing, (0.0, 1.0)):
            network = self.case.build(cohort, threshold=threshold)
            for epoch in range(1000):
                network.before_epoch(epoch, context)
                network.after_epoch(selected)
            for value in reached(self.case, network, cohort):
                # What is not spoken of may stand at minus infinity, but nothing is no number.
                assert not value.isnan().any(), (threshold, selected)

    def test_seed_decides(self):
        cohort = self.case.cohort(6, seed=10)
        context = self.case.context(cohort)
        one, two, other = (self.case.output(self.case.build(cohort, seed=s), cohort, context) for s in (1, 1, 2))
        assert torch.equal(one, two)
        assert not torch.equal(one, other)

    def test_saved_and_loaded_it_says_the_same(self):
        cohort = self.case.cohort(10, seed=11)
        context = self.case.context(cohort)
        network = self.case.build(cohort, seed=1)
        before = self.case.output(network, cohort, context)
        file = io.BytesIO(save(network.state_dict()))
        again = self.case.build(cohort, seed=2)
        again.load_state_dict(load(file.getvalue()))
        assert torch.equal(self.case.output(again, cohort, context), before)


class Battery(NetworkBattery):
    """Inherit, and set ``case``; of networks for visits."""

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

    def test_it_declares_whether_it_sees_codes_of_the_visit_itself(self):
        system = get(self.case.name)
        config = system.configure("paper", self.case.settings)
        assert system.past_only(config) == (not self.case.sees_now)

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

    def test_interactions_matter_where_they_should(self):
        cohort = self.case.cohort(12, seed=6)
        # Everything is recommended, so that every interacting pair is.
        network, context = self.case.build(cohort, threshold=0.0).eval(), self.case.context(cohort)
        empty = replace(context, ddi=torch.zeros_like(context.ddi))
        batch = VisitBatch.build(cohort, np.arange(cohort.n_patients))
        with torch.no_grad():
            logits, without = network(batch, context), network(batch, empty)
            loss, loss_without = network.loss(batch, context), network.loss(batch, empty)
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

    def test_the_loss_of_a_batch_is_that_of_its_patients(self):
        """A mean over what they are scored on: padding, and visits that cannot be scored, have no part in it."""
        cohort = self.case.cohort(16, seed=13)
        network, context = self.case.build(cohort).eval(), self.case.context(cohort)
        alone = [VisitBatch.build(cohort, np.array([patient])) for patient in range(cohort.n_patients)]
        together = VisitBatch.build(cohort, np.arange(cohort.n_patients))
        with torch.no_grad():
            losses = torch.stack([network.loss(batch, context) for batch in alone])
            loss = network.loss(together, context)
        weights = torch.tensor([self.case.weight(network, batch) for batch in alone])
        assert torch.isfinite(losses).all()
        assert len(set(weights.tolist())) > 2
        torch.testing.assert_close(loss, weights @ losses / weights.sum(), **FLOAT)

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
        network, context = self.case.build(cohort, **undropped(self.case.name)), self.case.context(cohort)
        several = np.flatnonzero(np.diff(cohort.visit_offsets) > 1)
        chosen, count = [], 0
        for patient in several:
            chosen.append(patient)
            count += int(network.scored(VisitBatch.build(cohort, np.array([patient]))).sum())
            if count >= 8:
                break
        batch = VisitBatch.build(cohort, np.array(chosen))
        scored = network.scored(batch)
        optimiser = torch.optim.Adam(network.parameters(), lr=self.case.learning_rate)
        reached = []
        for step in range(1, self.case.steps + 1):
            optimiser.zero_grad()
            network.train().loss(batch, context).backward()
            optimiser.step()
            if step % LOOK == 0 or step == self.case.steps:
                with torch.no_grad():
                    sets = network.eval().recommend(batch, context)
                reached.append(jaccard(batch.target[scored].numpy(), sets[scored].numpy()).mean())
                if reached[-1] >= self.case.overfits:
                    break
        assert reached[-1] >= self.case.overfits, reached

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


class RankerBattery(NetworkBattery):
    """Inherit, and set ``case``; of rankers."""

    case: RankerCase

    def test_company_does_not_matter(self):
        cohort = self.case.cohort(16, seed=7)
        network, context = self.case.build(cohort), self.case.context(cohort)
        together = self.case.output(network, cohort, context)
        assert together.shape == (16, cohort.n_medications)
        for patient in range(16):
            alone = torch.from_numpy(network.rank(np.array([patient]), context))
            torch.testing.assert_close(alone[0], together[patient], **FLOAT)

    def test_it_learns_what_training_sees(self):
        """After whole epochs, with the optimisers of its own."""
        cohort = self.case.cohort(16, seed=9)
        settings = {"learning_rate": self.case.learning_rate, **undropped(self.case.name)}
        network, context = self.case.build(cohort, **settings), self.case.context(cohort)
        given = torch.from_numpy(context.graph.matrix)
        pairs = given[:, :, None] & ~given[:, None, :]
        optimisers = network.optimisers()
        reached = []
        for epoch in range(self.case.epochs):
            for batch in network.train().batches(context.graph, np.arange(16), [0, epoch]):
                network.zero_grad()
                network.loss(batch, context).backward()
                for optimiser in optimisers:
                    optimiser.step()
            if (epoch + 1) % LOOK_AFTER == 0 or epoch + 1 == self.case.epochs:
                scores = self.case.output(network, cohort, context)
                above = scores[:, :, None] > scores[:, None, :]
                reached.append(float(above[pairs].float().mean()))
                if reached[-1] >= self.case.ordered:
                    break
        assert reached[-1] >= self.case.ordered, reached


def same_step(network, slow, context, batch):
    """The loss and all gradients, as the network computes them and as a plain reference does."""
    found = []
    for loss in (network.loss(batch, context), slow):
        network.zero_grad()
        loss.backward()
        gradients = {name: None if p.grad is None else p.grad.clone() for name, p in network.named_parameters()}
        found.append((loss.detach(), gradients))
    (loss, gradients), (expected, reference) = found
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    assert any(g is not None and g.abs().max() > 1e-3 for g in reference.values())
    for name, gradient in reference.items():
        if gradient is None:
            assert gradients[name] is None or not gradients[name].any(), name
        else:
            torch.testing.assert_close(
                gradients[name], gradient, atol=6e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )
