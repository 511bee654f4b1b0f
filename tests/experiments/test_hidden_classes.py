"""Hidden classes: nothing of them reaches a system, and what holders of a fragment share does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from medrec import paths
from medrec.context import context_for
from medrec.data import load_cohort
from medrec.data.batch import VisitBatch
from medrec.data.cohort import Vocabulary
from medrec.data.split import split_patients
from medrec.data.synthetic.controls import building_blocks
from medrec.experiments import hidden_classes
from medrec.experiments.hidden_classes import Candidate, Cell
from medrec.models import registry
from medrec.types import MedrecError, Ragged
from tests.toys import random_cohort

CODES = ("A02B", "B01A", "C07A", "C09A", "C10A", "J01C", "N02A", "N02B", "R06A")
BIMOREC = Candidate(
    "BiMoRec",
    "bimorec",
    settings={"pretrain": False, "width": 8, "gin_layers": 1, "epochs": 4},
)
MOLEREC = Candidate("MoleRec", "molerec", settings={"size": 8, "gin_layers": 1, "epochs": 4}, shared=True)
HIDDEN = np.array([2, 5])


def toy(n_patients=40, seed=0):
    cohort = random_cohort(n_patients, seed)
    return replace(cohort, vocab={**cohort.vocab, "medication": Vocabulary("medication", CODES, CODES)})


def test_struck_classes_are_gone_and_nothing_else():
    cohort = toy()
    left = hidden_classes.struck(cohort, HIDDEN)
    expected = cohort.codes["medication"].multi_hot(9)
    assert expected[:, HIDDEN].any()
    expected[:, HIDDEN] = False
    np.testing.assert_array_equal(left.codes["medication"].multi_hot(9), expected)
    assert left.codes["diagnosis"] is cohort.codes["diagnosis"]
    assert left.vocab == cohort.vocab


@pytest.mark.parametrize("candidate", [BIMOREC, MOLEREC], ids=lambda c: c.label)
def test_what_a_network_says_of_hidden_classes_does_not_depend_on_who_gets_them(candidate):
    cohort = toy()
    prescribed = cohort.codes["medication"].multi_hot(9)
    prescribed[:, HIDDEN] = np.random.default_rng(1).random((len(prescribed), 2)) < 0.5
    offsets = np.concatenate([[0], prescribed.sum(1).cumsum()])
    other = replace(cohort, codes={**cohort.codes, "medication": Ragged(offsets, np.nonzero(prescribed)[1])})
    cell = Cell(candidate.label, "own", 0, 0)
    one, two = (list(hidden_classes.train_blind(c, candidate, cell, HIDDEN)) for c in (cohort, other))
    assert [look["epoch"] for look in one] == [1, 3]
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a["logits"], b["logits"])
        assert a["validation"] == b["validation"]
    # And the codes of the patients do say something.
    assert one[-1]["logits"].std(0).min() > 0


@pytest.mark.parametrize("candidate", [BIMOREC, MOLEREC], ids=lambda c: c.label)
def test_the_loss_has_no_gradient_at_hidden_classes_and_one_at_all_others(candidate):
    cohort = hidden_classes.struck(toy(), HIDDEN)
    system = registry.get(candidate.system)
    config = system.configure("paper", candidate.settings)
    context = context_for(system, config, cohort)
    network = system.create(config, context)
    batch = VisitBatch.build(cohort, np.arange(10))
    logits = network(batch, context).detach().requires_grad_()
    # What the network says, put in where the loss asks for it.
    network.register_forward_hook(lambda *_: logits)
    hidden_classes.blind_loss(network, batch, context, HIDDEN).backward()
    moved = logits.grad[batch.visit_mask].abs().amax(0)
    assert (moved > 0).tolist() == [m not in HIDDEN for m in range(9)]


def test_without_name_tags_every_fragment_has_two_holders():
    system = registry.get("bimorec")
    context = context_for(system, system.configure("paper", BIMOREC.settings), toy())
    left = hidden_classes.without_name_tags(context).molecules.fragment_mask
    before = context.molecules.fragment_mask
    assert (before.sum(0) == 1).any()
    assert set(left.sum(0).tolist()) >= {0}
    assert not (left.sum(0) == 1).any()
    shared = before.sum(0) > 1
    assert torch.equal(left[:, shared], before[:, shared])


def test_shuffled_every_class_has_the_molecules_and_the_fragments_of_one_other():
    system = registry.get("bimorec")
    context = context_for(system, system.configure("paper", BIMOREC.settings), toy())
    source = hidden_classes.another(9, seed=3)
    assert sorted(source) == list(range(9))
    assert (source != np.arange(9)).all()
    before, after = context.molecules, hidden_classes.with_molecules_of_others(context, 3).molecules
    assert torch.equal(after.average, before.average[source])
    assert torch.equal(after.fragment_mask, before.fragment_mask[source])


def test_without_a_recurrent_network_only_molecules_speak_of_a_hidden_class():
    cohort = toy()
    system, config = registry.get("bimorec"), hidden_classes.configured(cohort, replace(BIMOREC, variant="mean_past"))
    context = context_for(system, config, cohort)
    network = system.create(config, context)
    hidden_classes.silence(network, HIDDEN)
    logits = hidden_classes.logits_of(network, cohort, context)
    first = cohort.visit_number == 0
    assert (logits[first][:, HIDDEN] == 0).all()  # no past, no molecules
    assert (logits[first][:, 0] != 0).all()
    assert (logits[~first][:, HIDDEN] != 0).all()


def test_codes_of_all_earlier_visits_stand_beside_those_of_the_visit():
    cohort = random_cohort(6, seed=3)
    features = hidden_classes.present_and_past(cohort)
    now = np.hstack([cohort.codes[k].multi_hot(len(cohort.vocab[k])) for k in ("diagnosis", "procedure")])
    for p in range(6):
        first, end = cohort.visit_offsets[p : p + 2]
        for v in range(first, end):
            np.testing.assert_array_equal(features[v], np.concatenate([now[v], now[first:v].any(0)]))


def test_the_area_is_that_of_each_class_with_every_visit_as_often_as_drawn():
    rng = np.random.default_rng(0)
    scores, given = rng.integers(0, 6, (30, 3)).astype(float), rng.random((30, 3)) < 0.4
    given[:, 2] = True  # no visit without it: takes no part
    weights = rng.integers(0, 3, (4, 30))
    found = hidden_classes.sorting(scores, given, weights)
    for row, area in zip(weights, found, strict=True):
        by_class = [roc_auc_score(given[:, h], scores[:, h], sample_weight=row) for h in (0, 1)]
        assert area == pytest.approx(np.mean(by_class))


def test_neither_frequent_classes_nor_patients_with_more_of_everything_count():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20, 4))
    moved = logits + rng.normal(size=(1, 4)) + rng.normal(size=(20, 1))
    np.testing.assert_allclose(hidden_classes.centred(moved), hidden_classes.centred(logits), atol=1e-12)
    np.testing.assert_allclose(hidden_classes.centred(logits).mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(hidden_classes.centred(logits).mean(1), 0, atol=1e-12)


def test_a_regression_knows_a_hidden_class_by_its_group_and_by_nothing_else():
    rng = np.random.default_rng(0)
    x = (rng.random((300, 6)) < 0.5).astype(np.float32)
    wants = x[:, [0, 0, 0, 1, 1, 1]] == 1  # classes 0-2 go with code 0, classes 3-5 with code 1
    y = wants ^ (rng.random((300, 6)) < 0.1)
    groups = np.repeat(np.eye(2), 3, axis=0)
    learners = torch.arange(300) < 200

    def fitted(groups):
        tensors = (torch.tensor(a, dtype=torch.float32) for a in (x, y, groups))
        return hidden_classes.shared_regression(*tensors, np.array([2, 5]), learners).numpy()

    told, alone, crossed = fitted(groups), fitted(groups[:, :0]), fitted(groups[[0, 1, 5, 3, 4, 2]])
    for m in (2, 5):
        assert roc_auc_score(wants[200:, m], told[200:, m]) > 0.99
        assert np.ptp(alone[:, m]) == 0
        assert roc_auc_score(wants[200:, m], crossed[200:, m]) < 0.9
    assert roc_auc_score(wants[200:, 0], alone[200:, 0]) > 0.99


def test_both_halves_hold_every_building_block():
    codes = load_cohort("synthetic+structure").vocab["medication"].codes
    blocks = building_blocks(codes)
    everybody = hidden_classes.holders(codes)
    assert sorted(everybody) == [m for m, code in enumerate(codes) if blocks[code]]
    halves = [
        set().union(*(blocks[codes[m]] for m in half)) for half in np.array_split(everybody, hidden_classes.HALVES)
    ]
    assert halves[0] == halves[1] == set().union(*blocks.values())


def test_there_is_something_to_be_found_where_blocks_are_planted(tmp_path, monkeypatch):
    """The power of the control: a regression that is told the blocks sorts visits by classes it never saw."""
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path))
    cohort = load_cohort("synthetic+structure")
    patients, later = hidden_classes.judged(cohort)
    assert not set(patients) & set(split_patients(cohort.n_patients, 0).train)
    given = cohort.select(patients).codes["medication"].multi_hot(cohort.n_medications)[later]
    hidden = np.array_split(hidden_classes.holders(cohort.vocab["medication"].codes), 2)[0]
    area = {}
    for molecules in ("told", "shuffled"):
        found = hidden_classes.looks(cohort, Cell(hidden_classes.YARDSTICK, molecules, 0, 0))["logits"][0]
        area[molecules] = hidden_classes.sorting(
            hidden_classes.centred(found), given[:, hidden], np.ones((1, later.sum()))
        )[0]
    assert area["told"] - area["shuffled"] > 0.05


def test_sharing_with_nobody_is_worth_nothing_and_sharing_what_decides_is(monkeypatch):
    cohort = toy(200, seed=4)
    # Lists for which one diagnosis decides, the same one for every third class.
    wants = cohort.codes["diagnosis"].multi_hot(12)[:, np.arange(9) % 3]
    lists = wants ^ (np.random.default_rng(0).random(wants.shape) < 0.25)
    offsets = np.concatenate([[0], lists.sum(1).cumsum()])
    cohort = replace(cohort, codes={**cohort.codes, "medication": Ragged(offsets, np.nonzero(lists)[1])})
    groups = {"told": np.eye(3)[np.arange(9) % 3], "own": np.zeros((9, 2)), "shuffled": np.eye(9)[:, :0]}
    monkeypatch.setattr(
        hidden_classes, "groups_of", lambda c, molecules, seed=0: groups.get(molecules, np.zeros((9, 0)))
    )
    worth = {(r["molecules"], r["visits"]): r["delta"] for r in hidden_classes.gains(cohort).iter_rows(named=True)}
    assert worth["told", "all visits"] > 0
    assert worth["own", "all visits"] == worth["shuffled", "later visits"] == 0


def test_rows_from_end_to_end_and_again_without_training(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(paths, "base_dir", lambda: tmp_path)
    cohort = replace(toy(60, seed=2), name="synthetic")
    monkeypatch.setattr(hidden_classes, "load_cohort", lambda name: cohort)
    monkeypatch.setattr(hidden_classes, "holders", lambda codes: np.array([0, 2, 5, 7]))
    monkeypatch.setattr(hidden_classes, "building_blocks", lambda codes: {c: {c[0]} for c in codes})
    monkeypatch.setattr(hidden_classes, "CANDIDATES", (MOLEREC,))
    monkeypatch.setattr(
        hidden_classes,
        "ARMS",
        {"regression": ("own", "shuffled", "told", "seen"), "MoleRec": ("own", "shuffled")},
    )
    hidden_classes.main(["--seeds", "2"])
    kept = hidden_classes.read(cohort)
    area = {(r["system"], r["molecules"]): r["area"] for r in kept.table.iter_rows(named=True)}
    for system in ("regression", "MoleRec"):
        between = area[system, "own"] - area[system, "shuffled"]
        assert area[system, "own - shuffled"] == pytest.approx(between, abs=2e-6)
    assert kept.curves.filter(system="MoleRec", molecules="own")["epoch"].to_list() == [1, 3]
    assert kept.gains["molecules"].to_list() == ["told", "told", "own", "own", "shuffled", "shuffled"]
    found = kept.interval("MoleRec", "own - shuffled")
    assert found.low <= found.value <= found.high

    cell = Cell("MoleRec", "own", 1, 0)
    again = list(hidden_classes.train_blind(cohort, MOLEREC, cell, np.array([0, 2])))
    np.testing.assert_array_equal(
        hidden_classes.looks(cohort, cell)["logits"], np.stack([look["logits"] for look in again])
    )

    def never(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(hidden_classes, "train_blind", never)
    monkeypatch.setattr(hidden_classes, "regress_blind", never)
    hidden_classes.main(["--seeds", "2"])
    assert hidden_classes.read(cohort.name).table.equals(kept.table)


def test_other_cohorts_are_refused_and_missing_rows_name_the_remedy(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        hidden_classes.main(["--cohort", "synthetic+shape"])
    assert "synthetic+structure" in capsys.readouterr().err
    monkeypatch.setattr(paths, "base_dir", lambda: tmp_path)
    with pytest.raises(MedrecError, match="hidden_classes --cohort synthetic"):
        hidden_classes.read("synthetic")
