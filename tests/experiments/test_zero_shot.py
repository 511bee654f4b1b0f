"""Held-out classes: they are nowhere in training, and controls are what their names say."""

import numpy as np
import pytest
import torch

from medrec.data.batch import VisitBatch
from medrec.data.split import split_patients
from medrec.experiments import zero_shot
from medrec.training import train
from tests.test_inference import TOY_NLAMMR
from tests.toys import real_classes


@pytest.fixture(scope="module")
def cohort():
    return real_classes(120, seed=3)


def test_folds_hold_out_every_class_once():
    folds = [zero_shot.fold(37, k) for k in range(zero_shot.FOLDS)]
    assert sorted(np.concatenate(folds).tolist()) == list(range(37))
    assert max(map(len, folds)) - min(map(len, folds)) <= 1


def test_held_out_classes_are_in_no_visit_and_in_no_vocabulary(cohort):
    held = np.array([1, 4])
    blind = zero_shot.without(cohort, held)
    names = [cohort.vocab["medication"].codes[i] for i in held]
    assert not set(names) & set(blind.vocab["medication"].codes)
    for visit in range(cohort.n_visits):
        before = {cohort.vocab["medication"].codes[i] for i in cohort.codes["medication"][visit]}
        after = {blind.vocab["medication"].codes[i] for i in blind.codes["medication"][visit]}
        assert after == before - set(names)
        assert blind.codes["diagnosis"][visit].tolist() == cohort.codes["diagnosis"][visit].tolist()
    VisitBatch.build(blind, np.arange(5))


def test_every_class_that_is_frequent_enough_is_judged_beside_its_controls(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path / "cache"))
    held, patients = np.array([0, 3]), split_patients(cohort.n_patients, 0).test
    run = train("nla-mmr", zero_shot.without(cohort, held), settings=TOY_NLAMMR)
    found = zero_shot.judged(run, cohort, held, patients)
    given = cohort.select(patients).codes["medication"].multi_hot(cohort.n_medications)
    frequent = [i for i in held if given[:, i].sum() >= zero_shot.LEAST]
    assert frequent
    assert found["class"].to_list() == [cohort.vocab["medication"].codes[i] for i in frequent]
    np.testing.assert_allclose(found["prevalence"], given[:, frequent].mean(0))
    values = found.select("text", *zero_shot.CONTROLS).to_numpy()
    values = values[~np.isnan(values)]
    assert ((values > 0) & (values <= 1)).all()
    again = zero_shot.judged(run, cohort, held, patients)
    assert again.equals(found)
    codes = cohort.vocab["medication"].codes
    for row in found.iter_rows(named=True):
        kin = [c for k, c in enumerate(codes) if k not in held and c[:3] == row["class"][:3]]
        assert (row["siblings"] is None) == (not kin)


def test_the_random_control_changes_only_the_held_out_classes(cohort):
    from medrec.context import context_for, molecules_of, text_of
    from medrec.models.registry import get

    system = get("nla-mmr")
    context = context_for(system, system.configure(settings={"encoder": "random-code"}), cohort)
    other = zero_shot.exchanged(context, 2, seed=0)
    assert torch.equal(text_of(other).medications[:-2], text_of(context).medications[:-2])
    assert not torch.equal(text_of(other).medications[-2:], text_of(context).medications[-2:])
    assert torch.equal(molecules_of(other).average[:-2], molecules_of(context).average[:-2])


def test_likeness_of_words_and_of_molecules(cohort):
    from medrec.context import context_for
    from medrec.models.registry import get

    words = zero_shot.likeness(cohort)
    np.testing.assert_allclose(np.diag(words), 1)
    np.testing.assert_allclose(words, words.T)
    system = get("nla-mmr")
    context = context_for(system, system.configure(settings={"encoder": "random-code"}), cohort)
    alike = zero_shot.molecule_likeness(context)
    has = context.molecules.average.numpy().any(1)
    np.testing.assert_allclose(np.diag(alike)[has], 1)
    assert not alike[~has].any()
