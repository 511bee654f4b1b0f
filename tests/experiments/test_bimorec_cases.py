"""Confusions of classes with similar molecules: pairs, matched controls, rates by hand."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from medrec.chem.molecules import build
from medrec.experiments import bimorec_cases as cases
from medrec.experiments.bimorec_cases import (
    BEYOND,
    CONTROL,
    SHARED,
    SIMILAR,
    TWINS,
    Counts,
    class_similarity,
    confusions,
    matched,
    ordered_pairs,
    rows,
)
from medrec.experiments.bimorec_grids import REFERENCE
from medrec.types import MedrecError
from tests.toys import random_cohort

CODES = ("A12A", "B03A", "H02A", "S01B", "A03B", "C10A")
"""Calcium and iron salts share a counter-ion, two classes share dexamethasone, two have nothing in common."""


@pytest.fixture(scope="module")
def molecules():
    return build(CODES, only={"H02A": ["dexamethasone"], "S01B": ["dexamethasone"]})


def test_three_visits_by_hand_a_tie_is_an_error_and_the_order_matters():
    scores = np.array([[0.8, 0.3], [0.4, 0.6], [0.7, 0.7]])
    given = np.array([[True, False]] * 3)
    wrong, cases_ = confusions(scores, given, np.array([[0, 1]]))
    assert wrong.tolist() == [0, 1, 1]
    assert cases_.tolist() == [1, 1, 1]
    assert wrong.sum() / cases_.sum() == pytest.approx(2 / 3)
    swapped = confusions(scores, given, np.array([[1, 0]]))
    assert swapped[1].tolist() == [0, 0, 0]
    assert confusions(scores, ~given, np.array([[1, 0]]))[0].tolist() == [1, 0, 1]


def test_visits_with_both_or_neither_are_no_cases():
    given = np.array([[True, True], [False, False], [True, False]])
    wrong, cases_ = confusions(np.zeros((3, 2)), given, np.array([[0, 1]]))
    assert cases_.tolist() == [0, 0, 1]
    assert wrong.tolist() == [0, 0, 1]


def test_similarity_is_the_largest_of_different_structures(molecules):
    alike = class_similarity(molecules)
    np.testing.assert_array_equal(alike, alike.T)
    own = (molecules.average > 0).numpy()
    from medrec.chem.similarity import tanimoto

    one = tanimoto(molecules.smiles)
    for a in range(len(CODES)):
        for b in range(len(CODES)):
            slow = [one[i, j] for i in np.flatnonzero(own[a]) for j in np.flatnonzero(own[b]) if i != j]
            assert alike[a, b] == max(slow, default=0)


def test_pairs_are_ordered_of_two_groups_and_in_use(molecules):
    frequency = np.array([5, 4, 3, 3, 2, 9])
    found = ordered_pairs(CODES, molecules, frequency)
    assert sorted(map(tuple, found[SIMILAR].tolist())) == [(0, 1), (1, 0)]
    assert sorted(map(tuple, found[SHARED].tolist())) == [(2, 3), (3, 2)]
    assert len(found[CONTROL]) == 2
    alike = class_similarity(molecules)
    assert all(alike[a, b] < cases.UNLIKE for a, b in found[CONTROL])
    without = ordered_pairs(CODES, molecules, np.array([0, 4, 3, 3, 2, 9]))
    assert len(without[SIMILAR]) == 0
    assert len(without[CONTROL]) == 0
    one_group = ("A12A", "A12B", *CODES[2:])
    assert len(ordered_pairs(one_group, molecules, frequency)[SIMILAR]) == 0


def test_controls_have_the_nearest_frequencies_and_are_used_once():
    frequency = np.array([100, 10, 90, 11, 1, 1])
    among = np.array([[4, 5], [2, 3], [5, 4]])
    assert matched(np.array([[0, 1]]), among, frequency).tolist() == [[2, 3]]
    both = matched(np.array([[0, 1], [0, 1]]), among, frequency)
    assert len({tuple(pair) for pair in both.tolist()}) == 2


def _counts(wrong, n):
    return Counts(np.asarray(wrong), np.asarray(n))


def test_rates_differences_and_interactions_are_those_of_the_pooled_counts():
    rng = np.random.default_rng(0)
    n = rng.integers(1, 5, 40)
    systems = {
        label: {kind: _counts([rng.binomial(n, p) for _ in range(2)], n) for kind in (SIMILAR, CONTROL)}
        for label, p in ((REFERENCE, 0.2), ("other", 0.6))
    }
    found = {(r["label"], r["kind"]): r for r in rows(systems, {SIMILAR: 12, CONTROL: 12})}
    rate = {
        (label, kind): of.wrong.sum() / (2 * n.sum()) for label, kinds in systems.items() for kind, of in kinds.items()
    }
    for key, value in rate.items():
        assert found[key]["value"] == pytest.approx(value)
        assert found[key]["low"] < value < found[key]["high"]
        assert found[key]["cases"] == n.sum()
    beyond = {label: rate[label, SIMILAR] - rate[label, CONTROL] for label in systems}
    assert found["other", BEYOND]["value"] == pytest.approx(beyond["other"])
    assert found["other", BEYOND]["delta"] == pytest.approx(beyond["other"] - beyond[REFERENCE])
    assert found["other", SIMILAR]["delta_low"] > 0
    assert found[REFERENCE, SIMILAR]["delta"] == 0


def test_few_pairs_or_patients_are_no_rate_but_twins_are_one_pair():
    n = np.array([3] * 9 + [0] * 20)
    many = np.array([3] * 29)
    table = {REFERENCE: {SIMILAR: _counts([many], many), CONTROL: _counts([n], n), TWINS: _counts([many], many)}}
    found = {r["kind"]: r for r in rows(table, {SIMILAR: 9, CONTROL: 10, TWINS: 2})}
    assert "value" not in found[SIMILAR]
    assert "value" not in found[CONTROL]
    assert "value" not in found[BEYOND]
    assert found[SIMILAR]["pairs"] == 9
    assert found[CONTROL]["patients"] == 9
    assert found[TWINS]["value"] == 1


def test_runs_become_rows_that_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("medrec.paths.base_dir", lambda: tmp_path / "checkout")
    cohort = random_cohort(60, seed=1, n_medications=len(CODES) + 1)
    codes = (*CODES, "R03B")  # by inhalation, where ipratropium is
    vocabulary = type(cohort.vocab["medication"])("medication", codes, codes)
    cohort = replace(cohort, vocab={**cohort.vocab, "medication": vocabulary})
    with pytest.raises(MedrecError, match="Make them with"):
        cases.read(cohort.name)
    settings = {"width": 8, "gin_layers": 1, "epochs": 1, "pretraining_epochs": 0}
    full, rival, lr = cases.FULL, cases.SYSTEMS[-2], cases.SYSTEMS[-1]
    monkeypatch.setattr(cases, "SYSTEMS", (replace(full, settings=settings), replace(rival, settings=settings), lr))
    torch.set_num_threads(1)
    found = cases.collect(cohort, 2)
    cases.keep(found, cohort, 1.0)
    closed = replace(cohort, name="x", source="credentialed")
    assert cases.keep(replace(found, chosen=found.chosen.clear()), closed, 1.0).is_relative_to(tmp_path / "runs")
    assert cases.read(closed).chosen.is_empty()
    kept = cases.read(cohort)
    assert kept.note == ""
    assert kept.line == f"random-toy (synthetic), {kept.provenance['split']['test']} test patients, 2 training seeds"
    assert cases.read("mimic3", "credentialed", default=cohort.name).line == kept.line
    assert kept.errors.equals(found.errors)
    assert set(kept.errors["label"]) == {REFERENCE, "w/o T+E", "LR"}
    few = kept.errors.filter(kind=SIMILAR)
    assert few["value"].is_null().all()
    later = kept.errors.filter(label=REFERENCE, kind=SHARED).select("visits", "cases")
    counted = dict(later.iter_rows())
    assert 0 < counted["later visits"] < counted["all visits"]
    ranks = kept.neighbours
    assert set(ranks["label"]) == {REFERENCE}
    assert ranks.group_by("label", "seed").len()["len"].unique().sort().to_list() == [6]
    assert ranks["rank"].is_between(1, ranks["among"]).all()
    chosen = kept.chosen
    assert chosen.group_by("rule").agg(pl.col("patient").n_unique())["patient"].to_list() == [cases.N_CASES] * 3
    assert (chosen["visit"] > 1).all()
    assert (chosen["low"] <= chosen["probability"] + 1e-4).all()
    assert (chosen["probability"] <= chosen["high"] + 1e-4).all()
    gains = chosen.pivot("label", index=["rule", "place"], values="jaccard", aggregate_function="first")
    gains = gains.with_columns(gain=pl.col(REFERENCE) - pl.col(cases.RIVAL))
    up, down = (gains.filter(rule=rule).sort("place")["gain"].to_list() for rule in cases.RULES[1:])
    assert up == sorted(up, reverse=True)
    assert down == sorted(down)
    assert up[0] >= down[0]


def test_patients_are_chosen_by_rules_that_leave_no_choice():
    patients, gain = np.arange(100, 140), np.linspace(-1, 1, 40)
    chosen = cases.choose("toy", patients, gain)
    assert chosen["largest gain"].tolist() == [39, 38, 37, 36, 35]
    assert chosen["largest loss"].tolist() == [0, 1, 2, 3, 4]
    shuffled = np.random.default_rng(0).permutation(40)
    again = cases.choose("toy", patients[shuffled], -gain[shuffled])
    assert patients[shuffled][again["by hash"]].tolist() == patients[chosen["by hash"]].tolist()
    assert chosen["by hash"].tolist() != cases.choose("other", patients, gain)["by hash"].tolist()


def test_no_case_of_credentialed_records():
    cohort = replace(random_cohort(20, seed=1), source="credentialed")
    with pytest.raises(MedrecError, match="single patients stay"):
        cases.case_rows(cohort, np.arange(20), {}, {})
