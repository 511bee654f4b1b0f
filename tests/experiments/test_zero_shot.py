"""Held-out classes: they are nowhere in training, and controls are what their names say."""

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score

from medrec import paths
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
    areas = found.select(pl.selectors.ends_with(" area")).to_numpy()
    assert ((areas[~np.isnan(areas)] >= 0) & (areas[~np.isnan(areas)] <= 1)).all()
    assert found["text area"].null_count() == 0
    assert (found["siblings"].is_null() == found["siblings area"].is_null()).all()
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


def test_area_is_that_of_the_library_and_nothing_where_everybody_has_the_class():
    given, vote = np.array([True, False, True, False]), np.array([0.9, 0.4, 0.4, 0.1])
    # Of four pairs of a visit with and one without, three are in order and one is a tie.
    assert zero_shot._area(given, vote) == pytest.approx(3.5 / 4) == pytest.approx(roc_auc_score(given, vote))
    assert zero_shot._area(np.array([True, True]), np.array([0.1, 0.2])) is None


def classes_table(text, siblings):
    n = len(text)
    columns = dict.fromkeys(("text", "words", "structure", "random"), text) | {"siblings": siblings}
    areas = {f"{name} area": values for name, values in columns.items()}
    return pl.DataFrame({"class": [f"C{i}" for i in range(n)], "prevalence": [0.1] * n, **columns, **areas})


def test_changes_are_paired_by_class_and_classes_without_a_sibling_stand_apart():
    found = zero_shot.changes(classes_table([0.5, 0.3, 0.4, 0.2], [0.4, None, 0.2, None]))
    assert dict(found.filter(control="siblings", of="all classes").select("measure", "n").iter_rows()) == {
        "average precision": 2,
        "area": 2,
    }
    row = found.filter(measure="average precision", control="siblings", of="all classes").row(0, named=True)
    assert row["text"] == pytest.approx(0.45)
    assert row["value"] == pytest.approx(0.3)
    assert row["delta"] == pytest.approx(0.15)
    assert row["low"] == pytest.approx(0.1)
    assert row["high"] == pytest.approx(0.2)
    assert found.filter(of="without a sibling", control="siblings").is_empty()
    alone = found.filter(of="without a sibling", control="prevalence")
    assert dict(alone.select("measure", "value").iter_rows()) == {"average precision": 0.1, "area": 0.5}
    assert alone["text"].to_list() == [pytest.approx(0.25)] * 2
    level = found.filter(control="words")
    assert (level["delta"] == 0).all()
    assert (level["high"] == 0).all()


def test_rows_of_all_folds(monkeypatch, tmp_path):
    """Every class with a structure is held out once, and no training has it in its vocabulary."""
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(paths, "base_dir", lambda: tmp_path)
    monkeypatch.setattr(zero_shot, "FOLDS", 2)
    monkeypatch.setattr(zero_shot, "fold", lambda n, number: np.arange(number, n, 2))
    cohort, seen = real_classes(60, seed=4), []

    def watched(system, cohort, **more):
        seen.append(cohort.vocab["medication"].codes)
        return train(system, cohort, **more)

    monkeypatch.setattr(zero_shot, "train", watched)
    monkeypatch.setattr(zero_shot, "SETTINGS", TOY_NLAMMR)
    monkeypatch.setattr(zero_shot, "load_cohort", lambda name: cohort)
    zero_shot.main(["--cohort", "synthetic", "--seeds", "2"])
    found = zero_shot.read(cohort)
    assert (found.cohort, found.status) == (cohort.name, "current")
    assert found.folder == tmp_path / "results" / "zero_shot" / cohort.name
    runs, classes = found.table("runs"), found.table("classes")
    assert runs.select("fold", "seed").rows() == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert not runs["converged"].any()
    held = [zero_shot.held_out(cohort, number) for number in range(2)]
    for (row, codes), fold_ids in zip(
        zip(runs.iter_rows(named=True), seen, strict=True), np.repeat([0, 1], 2), strict=True
    ):
        names = {cohort.vocab["medication"].codes[i] for i in held[fold_ids]}
        assert not names & set(codes)
        assert row["held"] == len(names)
        assert set(classes.filter(fold=fold_ids)["class"]) <= names
    together = np.concatenate(held)
    assert len(together) == len(set(together.tolist()))
    assert classes["class"].is_unique().all()
    assert set(found.table("changes")["control"]) <= {"prevalence", *zero_shot.CONTROLS}
