"""Titles in other words: who is renamed, what stays, and rows from end to end."""

from dataclasses import replace

import numpy as np
import pytest

from medrec import paths
from medrec.data.split import split_patients
from medrec.experiments import synonyms
from medrec.text.templates import CLINICAL
from medrec.training import train
from tests.test_inference import TOY_NLAMMR
from tests.toys import real_classes


@pytest.fixture
def cohort():
    """Half of the diagnoses have words that are known."""
    made = real_classes(60, seed=4)
    old = made.vocab["diagnosis"]
    titles = [f"Acute heart failure, kind {i}" if i % 4 else f"Gout, kind {i}" for i in range(len(old))]
    return replace(made, vocab={**made.vocab, "diagnosis": replace(old, titles=tuple(titles))})


def test_phrases_are_replaced_once_and_whole_the_longest_first():
    said = synonyms.in_other_words
    assert said("Acute heart failure") == "sudden cardiac insufficiency"
    assert said("Malignant neoplasm of lung") == "cancer of pulmonary"
    assert said("Failure; insufficiency") == "insufficiency; failure"
    assert said("Acutely ill") == "Acutely ill"
    assert said("Gout") == "Gout"


def test_every_phrase_says_something_else_in_words_of_one_spelling():
    for old, new in synonyms.SYNONYMS.items():
        assert old == old.lower()
        assert new == new.lower()
        assert not synonyms._words(old) >= synonyms._words(new)


def test_only_the_titles_drawn_are_other_and_only_where_those_patients_are(cohort):
    patients = np.arange(10)
    other = synonyms.renamed(cohort, patients, seed=1)
    theirs = np.isin(cohort.patient_of_visit, patients)
    for kind in CLINICAL:
        old, new = cohort.vocab[kind], other.vocab[kind]
        assert new.codes[: len(old)] == old.codes
        assert new.titles[: len(old)] == old.titles
        title = dict(zip(new.codes, new.titles, strict=True))
        for code in new.codes[len(old) :]:
            assert title[code] == synonyms.in_other_words(title[code[:-1]]) != title[code[:-1]]
        for visit in range(cohort.n_visits):
            before = [old.codes[i] for i in cohort.codes[kind][visit]]
            after = [new.codes[i] for i in other.codes[kind][visit]]
            assert [code.rstrip("~") for code in after] == before
            moved = [f"{code}~" in new.codes[len(old) :] and theirs[visit] for code in before]
            assert [code.endswith("~") for code in after] == moved
    assert len(other.vocab["diagnosis"]) == len(cohort.vocab["diagnosis"]) * 3 // 2
    assert other.codes["medication"] is cohort.codes["medication"]
    drawn = synonyms.renamed(cohort, patients, seed=2).vocab["diagnosis"].codes
    assert drawn != other.vocab["diagnosis"].codes


def test_struck_codes_are_the_renamed_ones(cohort):
    patients = np.arange(10)
    other = synonyms.renamed(cohort, patients, seed=1)
    left = synonyms.struck(other)
    n_old = len(cohort.vocab["diagnosis"])
    for visit in range(cohort.n_visits):
        kept = [i for i in other.codes["diagnosis"][visit] if i < n_old]
        assert left.codes["diagnosis"][visit].tolist() == kept


def test_facts_count_what_is_renamed(cohort):
    patients = np.arange(20)
    other = synonyms.renamed(cohort, patients, seed=1)
    row = synonyms.facts(cohort, other, patients).row(0, named=True)
    n = len(cohort.vocab["diagnosis"])
    values = other.select(patients).codes["diagnosis"].values
    assert (row["kind"], row["titles"], row["renamed"]) == ("diagnosis", n, n // 2)
    assert row["able"] == sum(title.startswith("Acute") for title in cohort.vocab["diagnosis"].titles)
    assert row["share"] == pytest.approx((values >= n).mean())
    assert row["words"] == pytest.approx(2 / 5)  # of "Acute heart failure, kind 1" two stay


def test_rows(monkeypatch, tmp_path, cohort):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(paths, "base_dir", lambda: tmp_path)
    monkeypatch.setattr(synonyms, "SETTINGS", TOY_NLAMMR | {"use_graph": False})
    monkeypatch.setattr(synonyms, "ENCODERS", ("random-text", "random-code"))
    monkeypatch.setattr(synonyms, "load_cohort", lambda name: cohort)
    synonyms.main(["--cohort", "synthetic", "--seeds", "2"])
    found = synonyms.read(cohort)
    assert (found.cohort, found.status) == (cohort.name, "current")
    levels, changes = found.table("levels"), found.table("changes")
    assert len(levels) == 2 * 3 * 2
    value = {row[:3]: row[3] for row in levels.iter_rows()}
    for encoder in ("random-text", "random-code"):
        for metric in synonyms.METRICS:
            delta = dict(changes.filter(encoder=encoder, metric=metric).select("change", "value").iter_rows())
            plain, renamed, struck = (value[encoder, condition, metric] for condition in synonyms.CONDITIONS)
            assert delta["renamed"] == pytest.approx(renamed - plain, abs=2e-6)
            assert delta["struck"] == pytest.approx(struck - plain, abs=2e-6)
            assert delta["spared"] == pytest.approx(renamed - struck, abs=2e-6)
    own, others, between = (
        changes.filter(encoder=name, change="renamed", metric="prauc")["value"].item()
        for name in ("random-text", "random-code", "random-text - random-code")
    )
    assert between == pytest.approx(own - others, abs=2e-6)
    assert not found.table("runs")["converged"].any()


def test_a_run_asked_in_its_own_words_answers_as_it_was_tested(monkeypatch, tmp_path, cohort):
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path / "cache"))
    test = split_patients(cohort.n_patients, 0).test
    other = synonyms.renamed(cohort, test, 0)
    run = train("nla-mmr", other, settings=TOY_NLAMMR | {"use_graph": False})
    expected, found = run.evaluation("tuned").summary(), synonyms.judge(run, other, test).summary()
    assert found["jaccard"] == pytest.approx(expected["jaccard"])
    assert found["prauc"] == pytest.approx(expected["prauc"])
