"""What is asked of every ranker of the registry, trained or fitted, from the cohort to the list.

A ranker of the registry is tried here without a word; it says a word only where its settings must be others for all of
them to matter on cohorts this small (``SMALL``), where one does not even then (``IDLE``), or where medications are the
first places of a longer axis of its weights (``WIDER``).
"""

import typing
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
import torch

from medrec import context as contexts
from medrec.arguments import _of
from medrec.data.cohort import Vocabulary
from medrec.data.split import split_patients
from medrec.fit import Checkpoint
from medrec.lab.behaviour import TOY
from medrec.metrics import recall_at_k
from medrec.models.base import TrainingConfig
from medrec.models.registry import get, systems
from medrec.tasks.ranking import HOLD_OUT, HOUSE, PROTOCOLS
from medrec.training import Plan, fitted, load_system, train
from medrec.types import Ragged
from tests.models.battery import frozen
from tests.models.graph_toys import relabelled_entities
from tests.toys import real_classes

RANKERS = [system.name for system in systems("ranking")]
NETWORKS = [name for name in RANKERS if get(name).is_network]
NEW = PROTOCOLS["new medications"]
CPU = torch.device("cpu")

IDLE: dict[tuple[str, str], str] = {}
"""System and setting, and why another value changes nothing after two epochs on a toy cohort."""
GRAPH = {"batch_size": 64, "per_medication": 2}
"""Few steps, and a limit below what a toy cohort has."""
SMALL: dict[str, dict[str, typing.Any]] = {
    "kgcn": GRAPH,
    # Two steps of triplets in an epoch, and not the same two with another size.
    "kgat": {**GRAPH, "triplet_batch": 400},
    # With one half both ways of scaling are the same.
    "kgin": {**GRAPH, "node_dropout": 0.3},
    # In six steps the denoiser learns enough to pick other edges, from noise that is worth the name.
    "diffkg": {
        **GRAPH, "denoiser_size": 16, "row_batch": 4, "rebuild_k": 4, "keep": 1.0, "learning_rate": 0.05,
        "noise_scale": 0.9, "noise_min": 0.1, "noise_max": 0.5,
    },
}  # fmt: skip
"""Settings of a system, beside those of all."""
WIDER = {"diffrec": ("inner.weight",)}
"""Weights with an axis of which medications are the first places."""


def light(name, **more):
    """Settings with which a ranker trains in a moment, two epochs."""
    known = {f.name for f in fields(get(name).config)}
    return {key: value for key, value in {**TOY, **SMALL.get(name, {}), **more}.items() if key in known}


@pytest.fixture(scope="module")
def cohort():
    return real_classes(48, seed=3)


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDREC_RUNS_DIR", str(tmp_path_factory.mktemp("runs")))
        yield


def planned(name, cohort, variant="paper", protocol=HOUSE, seed=0, **settings):
    return Plan.of(name, cohort, variant=variant, protocol=protocol, seed=seed, settings=light(name, **settings))


def done(plan, folder, until=None):
    """What was learnt, and the scores of test patients."""
    found = fitted(plan, CPU, Checkpoint(folder / "checkpoint", "", fresh=until is not None), until)
    return found, plan.exam.answers(found.system, found.context, CPU)["test"].scores


@pytest.fixture(scope="module")
def usually(cohort, tmp_path_factory):
    """What :func:`done` finds for a system as it is by default, trained once."""
    return cache(lambda name: done(planned(name, cohort), tmp_path_factory.mktemp(name)))


def made(name, cohort, variant="paper", **settings):
    """A fresh network with its context and the interactions that it is trained on."""
    plan = planned(name, cohort, variant, **settings)
    context = contexts.build(plan.system.needs, plan.asked)
    torch.manual_seed(0)
    network = plan.system.create(plan.config, context)
    network.prepare(plan.exam.data, plan.exam.train, context)
    return network, context, plan.exam


# -- from training to the list -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [HOUSE, HOLD_OUT], ids=["temporal", "hold-out"])
@pytest.mark.parametrize("name", RANKERS)
def test_it_trains_and_ranks_all_medications_of_everybody_who_is_asked_about(cohort, name, protocol):
    run = train(name, cohort, settings=light(name, epochs=1), protocol=protocol)
    plan = planned(name, cohort, protocol=protocol)
    system, context = load_system(run)
    for part in ("validation", "test"):
        asked = plan.exam.questions(part)
        scores = run.answers[part].scores
        assert scores.shape == (len(asked.patient), 9)
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(system.rank(asked.patient, context), scores)
    assert run.evaluation().summary()["patients"] > 0


@pytest.mark.parametrize("name", RANKERS)
def test_a_longer_list_finds_no_less_and_nothing_known_is_on_a_masked_one(cohort, name):
    for protocol in (HOUSE, NEW, HOLD_OUT):
        run = train(name, cohort, settings=light(name, epochs=1), protocol=protocol)
        answers = run.answers["test"]
        target, listed = answers.asked(protocol)
        kept = target.any(1)
        found = [recall_at_k(target[kept], answers.scores[kept], k, seen=~listed[kept]) for k in range(1, 10)]
        assert (np.diff(found, axis=0) >= 0).all()
        assert (found[-1] == 1).all(), "the whole list holds every target"
        for size in (1, 3, 9):
            sets = answers.sets(size, protocol)
            assert (sets.sum(1) == np.minimum(size, listed.sum(1))).all()
            assert not (sets & ~listed).any()
        if protocol.masked:
            frame = run.predictions(cohort) if protocol is HOLD_OUT else None
            assert not (listed & answers.seen).any()
            assert frame is None or len(frame) == (~answers.seen).sum()
            # However much it thinks of what is known: nobody else moves up or down.
            loud = replace(answers, scores=np.where(answers.seen, 1e6, answers.scores))
            assert loud.evaluate(protocol).summary() == answers.evaluate(protocol).summary()


@pytest.mark.parametrize("name", RANKERS)
def test_company_does_not_matter(cohort, name):
    run = train(name, cohort, settings=light(name, epochs=1))
    system, context = load_system(run)
    asked = run.answers["test"].patient
    together = system.rank(asked, context)
    np.testing.assert_allclose(system.rank(asked[::-1], context)[::-1], together, rtol=1e-5, atol=1e-6)
    for row, patient in enumerate(asked):
        alone = system.rank(np.array([patient]), context)
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-5, atol=1e-6)


# -- the same again ----------------------------------------------------------------------------------------------------


def same_bytes(one, two):
    assert one.keys() == two.keys()
    for key in one:
        assert one[key].tobytes() == two[key].tobytes(), key


@pytest.mark.parametrize("protocol", [HOUSE, HOLD_OUT], ids=["temporal", "hold-out"])
@pytest.mark.parametrize("name", RANKERS)
def test_same_seed_same_bytes_other_seed_others(cohort, name, protocol, tmp_path):
    one, two, other = (
        done(planned(name, cohort, protocol=protocol, seed=seed), tmp_path / str(i)) for i, seed in enumerate((1, 1, 2))
    )
    same_bytes(one[0].state(), two[0].state())
    assert one[1].tobytes() == two[1].tobytes()
    if name in NETWORKS:
        assert not np.array_equal(one[1], other[1])
    else:
        assert one[1].tobytes() == other[1].tobytes()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_a_training_that_paused_goes_on_to_the_same_bytes(cohort, name, variant, tmp_path):
    if variant not in get(name).variants:
        pytest.skip("it has no such variant")
    plan = planned(name, cohort, variant, epochs=4)
    whole, scores = done(plan, tmp_path / "whole")
    paused, _ = done(plan, tmp_path / "parts", until=1)
    assert paused.progress.epoch == 2, "the first epoch cannot be chosen"
    resumed, again = done(plan, tmp_path / "parts")
    assert [row["epoch"] for row in resumed.progress.history] == [0, 1, 2, 3]
    assert [row["loss"] for row in resumed.progress.history] == [row["loss"] for row in whole.progress.history]
    same_bytes(whole.state(), resumed.state())
    assert scores.tobytes() == again.tobytes()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_epoch_is_drawn_otherwise_and_the_same_one_again(cohort, name):
    network, _, exam = made(name, cohort)
    one, again, next_one, other_seed = (
        [frozen(batch) for batch in network.batches(exam.data, exam.train, order)]
        for order in ([0, 1], [0, 1], [0, 2], [1, 1])
    )
    assert one == again
    assert one != next_one
    assert one != other_seed
    assert next_one != other_seed


# -- what it may know --------------------------------------------------------------------------------------------------


def with_other_last_visits(cohort, patients):
    """Other medications at the last visits of these patients, as many as before."""
    rows = cohort.codes["medication"]
    values = rows.values.copy()
    for visit in cohort.visit_offsets[1:][patients] - 1:
        part = slice(rows.offsets[visit], rows.offsets[visit + 1])
        values[part] = np.sort((values[part] + 1) % cohort.n_medications)
    return replace(cohort, codes={**cohort.codes, "medication": Ragged(rows.offsets, values)})


@pytest.mark.parametrize("name", RANKERS)
def test_no_target_teaches(cohort, name, tmp_path):
    split = split_patients(cohort.n_patients, 0)
    other = with_other_last_visits(cohort, np.concatenate([split.validation, split.test]))
    plans = [planned(name, records, epochs=3) for records in (cohort, other)]
    assert not np.array_equal(*(plan.exam.questions("test").target for plan in plans))
    (one, _), (two, _) = (done(plan, tmp_path / str(i)) for i, plan in enumerate(plans))
    if name in NETWORKS:
        # Validation patients choose the epoch; the losses of all epochs are the same.
        losses = [[row["loss"] for row in found.progress.history] for found in (one, two)]
        assert losses[0] == losses[1]
    else:
        same_bytes(one.state(), two.state())


@pytest.mark.parametrize("name", RANKERS)
def test_held_out_medications_are_nowhere_in_what_it_is_given(cohort, name):
    exam = planned(name, cohort, protocol=HOLD_OUT).exam
    for part in ("validation", "test"):
        assert exam.questions(part).target.any()
        assert not (exam.graph.matrix & exam.questions(part).target).any()
        assert not (exam.graph.last & exam.questions(part).target).any()


@pytest.mark.parametrize("name", RANKERS)
def test_what_a_patient_was_given_is_read_or_nothing_is(cohort, name):
    """All but popularity say something else of a patient with another past."""
    run = train(name, cohort, settings=light(name))
    scores = run.answers["test"].scores
    assert (np.ptp(scores, axis=0).max() > 0) == (name != "most-popular")


# -- relabelling -------------------------------------------------------------------------------------------------------

NEW_PLACE = np.array([4, 0, 7, 2, 8, 1, 3, 6, 5])
"""Of each medication, after relabelling."""


def relabelled(cohort):
    """Medications in another order, and diagnoses backwards."""
    codes, vocabularies = dict(cohort.codes), dict(cohort.vocab)
    for kind, place in (("medication", NEW_PLACE), ("diagnosis", np.arange(len(cohort.vocab["diagnosis"]))[::-1])):
        rows, vocab, order = cohort.codes[kind], cohort.vocab[kind], place.argsort()
        codes[kind] = Ragged.from_lists([sorted(place[rows[visit]].tolist()) for visit in range(cohort.n_visits)])
        vocabularies[kind] = Vocabulary(
            kind, *(tuple(column[i] for i in order) for column in (vocab.codes, vocab.titles))
        )
    return replace(cohort, codes=codes, vocab=vocabularies)


def moved(name, key, value):
    """Weights with every axis of medications in the new order."""
    for axis, length in enumerate(value.shape):
        if length == 9 or (key in WIDER.get(name, ()) and length > 9):
            order = torch.cat([torch.from_numpy(NEW_PLACE.argsort()), torch.arange(9, length)])
            value = value.index_select(axis, order)
    return value


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("name", NETWORKS)
def test_relabelling_changes_nothing_but_the_place_of_medications(cohort, name, variant):
    if variant not in get(name).variants:
        pytest.skip("it has no such variant")
    # Of equals a limit keeps the first ids.
    network, context, exam = made(name, cohort, variant, per_medication=0)
    other, other_context, _ = made(name, relabelled(cohort), variant, per_medication=0)
    state = network.state_dict()
    if context.knowledge is None:
        state = {key: moved(name, key, value) for key, value in state.items()}
    else:
        # Groups of medications and classes of diagnoses stand in the order of their members.
        entities = other_context.knowledge.entities
        place = torch.tensor([entities.index(entity) for entity in context.knowledge.entities])
        state = {key: relabelled_entities(key, value, place) for key, value in state.items()}
        triplets = {tuple(row) for row in state["triplets"].tolist()}
        assert triplets == {tuple(row) for row in other_context.knowledge.triplets.tolist()}
    other.load_state_dict(state)
    patients = exam.train
    before, after = network.rank(patients, context), other.rank(patients, other_context)
    assert not np.allclose(before, after, atol=1e-3)
    np.testing.assert_allclose(after[:, NEW_PLACE], before, rtol=1e-4, atol=1e-5)


def thinned(cohort):
    """The cohort with some medications given seldom and others often: no two of them to as many patients."""
    rng = np.random.default_rng(0)
    rows = cohort.codes["medication"]
    own = [[m for m in rows[v] if rng.random() < (m + 1) / 9] or [8] for v in range(cohort.n_visits)]
    return replace(cohort, codes={**cohort.codes, "medication": Ragged.from_lists(own)})


@pytest.mark.parametrize("name", [name for name in RANKERS if name not in NETWORKS])
def test_relabelling_medications_moves_scores_of_what_is_fitted(name, tmp_path):
    cohort = thinned(real_classes(90, seed=3))
    plans = [planned(name, records) for records in (cohort, relabelled(cohort))]
    # Equals stand in the order of ids.
    assert len(set(plans[0].exam.graph.popularity)) == 9
    one, two = (done(plan, tmp_path / str(i))[1] for i, plan in enumerate(plans))
    np.testing.assert_allclose(two[:, NEW_PLACE], one, rtol=1e-5, atol=1e-6)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "variant"), [(name, variant) for name in NETWORKS for variant in get(name).variants], ids=str
)
def test_gradients_reach_every_parameter_of_every_variant(cohort, name, variant):
    network, context, exam = made(name, cohort, variant, batch_size=64)
    network.train()
    for epoch in (0, 1):
        for batch in network.batches(exam.data, exam.train, [0, epoch]):
            network.loss(batch, context).backward()
    without = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def others(name):
    """Other values of each setting of its own, by name."""
    system = get(name)
    usual, common = system.configure(settings=light(name)), {f.name for f in fields(TrainingConfig)}
    found = {}
    for key, hint in typing.get_type_hints(system.config, include_extras=True).items():
        if key in common:
            continue
        value, (kind, within) = getattr(usual, key), _of(key, hint)
        if kind is bool:
            found[key] = (not value,)
        elif within is None:
            found[key] = tuple(word for word in typing.get_args(kind) if word != value)
        elif kind is int:
            found[key] = (value - 1 if value - 1 in within and value > 1 else value + 1,)
        else:
            found[key] = (value / 2 if value else within.high / 2,)
    return found


SETTINGS = [(name, key) for name in NETWORKS for key in others(name)]


@pytest.mark.parametrize(("name", "key"), SETTINGS)
def test_every_setting_changes_what_is_said(cohort, usually, name, key, tmp_path):
    _, usual = usually(name)
    for value in others(name)[key]:
        _, scores = done(planned(name, cohort, **{key: value}), tmp_path / str(value))
        assert np.array_equal(scores, usual) == ((name, key) in IDLE), value


@pytest.mark.parametrize("name", NETWORKS)
def test_every_variant_and_every_row_of_its_grid_is_another_training(cohort, usually, name, tmp_path):
    system = get(name)
    first, *rows = system.rows
    assert (first.variant, dict(first.settings)) == ("paper", {})
    said = {"paper": usually(name)[1].tobytes()}
    for key, variant, settings in [
        *((variant, variant, {}) for variant in system.variants if variant != "paper"),
        *((row.key, row.variant, dict(row.settings)) for row in rows if row.settings),
    ]:
        said[key] = done(planned(name, cohort, variant, **settings), tmp_path / key)[1].tobytes()
    assert len(set(said.values())) == len(said)


def test_what_is_idle_is_a_setting_and_has_a_reason():
    assert set(IDLE) <= set(SETTINGS)
    assert all(IDLE.values())
