"""Reference points against hand-worked values, brute force, and simulation."""

import numpy as np
import polars as pl
import pytest

from medrec import metrics
from medrec.data import example
from medrec.data.cohort import Cohort, Vocabulary
from medrec.experiments import reference_points as rp
from medrec.types import Ragged
from tests.conftest import demo_dir


def random_cohort(n_patients: int = 30, M: int = 12, seed: int = 0) -> Cohort:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 5, n_patients)
    n = int(counts.sum())
    rate = rng.random(M) ** 2
    meds = [np.flatnonzero(rng.random(M) < rate).tolist() or [0] for _ in range(n)]
    empty = Ragged.from_lists([[] for _ in range(n)])
    return Cohort(
        name="random",
        source="synthetic",
        vocab={
            kind: Vocabulary(kind, tuple(f"{i}" for i in range(M)), tuple(f"{i}" for i in range(M)))
            if kind == "medication"
            else Vocabulary(kind, (), ())
            for kind in ("diagnosis", "procedure", "symptom", "medication")
        },
        visit_offsets=np.concatenate([[0], counts.cumsum()]),
        codes={"diagnosis": empty, "procedure": empty, "symptom": empty, "medication": Ragged.from_lists(meds)},
        admit_time=np.full(n, "2100-01-01", dtype="datetime64[s]"),
        days_since_previous=np.zeros(n, dtype=np.float32),
        sex=np.full(n_patients, ""),
        age_band=np.full(n_patients, ""),
    )


def test_last_visit_of_the_running_example():
    toy = example.cohort()
    repeated = rp.last_visit(toy)
    assert repeated.tolist() == [[False] * 5, [True, True, False, True, False], [False] * 5]
    np.testing.assert_allclose(metrics.jaccard(rp.targets(toy), repeated), [0, 0.25, 0])


def test_frequencies_leave_the_patient_out():
    others = rp.frequency_among_others(example.cohort())
    assert others.tolist() == [[1, 1, 1, 0, 1], [2, 1, 1, 1, 0]]


def test_list_and_length_are_chosen_on_the_other_patients():
    cohort = random_cohort(10)  # few enough for one patient to matter
    recommended, frequency = rp.popularity(cohort)
    Y, patient = rp.targets(cohort), cohort.patient_of_visit
    M = cohort.n_medications

    def own_curve(p):
        order = np.argsort(-Y[patient != p].sum(0), kind="stable")
        rows = []
        for k in range(1, M + 1):
            chosen = np.isin(np.arange(M), order[:k])
            rows.append(metrics.jaccard(Y[patient == p], np.tile(chosen, ((patient == p).sum(), 1))).mean())
        return order, np.array(rows)

    curves = [own_curve(p) for p in range(cohort.n_patients)]
    np.testing.assert_allclose(
        rp.popularity_curve(cohort, np.zeros((M, M), bool))["jaccard"].to_numpy(),
        np.mean([c for _, c in curves], axis=0),
    )
    with_everybody = 1 + np.argmax(sum(c for _, c in curves))
    most_frequent = np.argsort(-Y.sum(0), kind="stable")
    own_length, own_list = set(), set()
    for p, (order, _) in enumerate(curves):
        k = 1 + np.argmax(sum(c for q, (_, c) in enumerate(curves) if q != p))
        own_length |= {p} if k != with_everybody else set()
        own_list |= {p} if set(order[:k]) != set(most_frequent[:k]) else set()
        for v in np.flatnonzero(patient == p):
            assert set(np.flatnonzero(recommended[v])) == set(order[:k])
            np.testing.assert_array_equal(frequency[v], Y[patient != p].sum(0))
    assert own_length, "with the patient's own visits every length would be the same"
    assert own_list, "with the patient's own visits every list would be the same"


def test_ddi_rate_along_the_list():
    cohort = random_cohort()
    M = cohort.n_medications
    rng = np.random.default_rng(1)
    ddi = np.triu(rng.random((M, M)) < 0.3, 1)
    ddi |= ddi.T
    curve = rp.popularity_curve(cohort, ddi)
    order = np.argsort(-rp.targets(cohort).sum(0), kind="stable")
    for k, rate in zip(curve["k"], curve["ddi_rate"], strict=True):
        assert rate == pytest.approx(metrics.ddi_rate(np.isin(np.arange(M), order[:k])[None], ddi))


def test_random_set_by_formula_and_by_simulation():
    rng = np.random.default_rng(2)
    n, k, M = np.array([19, 3, 40]), 20, 60
    expected = rp.expected_random(n, k, M)
    for i in range(3):
        scores = rng.random((20_000, M))
        target = np.tile(np.arange(M) < n[i], (len(scores), 1))
        drawn = np.argsort(np.argsort(-scores, axis=1), axis=1) < k
        assert metrics.jaccard(target, drawn).mean() == pytest.approx(expected["jaccard"][i], abs=0.002)
        assert metrics.f1(target, drawn).mean() == pytest.approx(expected["f1"][i], abs=0.002)
        assert metrics.average_precision(target, scores).mean() == pytest.approx(
            expected["average_precision"][i], abs=0.003
        )


def test_random_set_at_its_limits():
    everything = rp.expected_random(np.array([19]), 131, 131)
    assert everything["jaccard"][0] == pytest.approx(19 / 131)
    assert rp.expected_random(np.array([131]), 20, 131)["average_precision"][0] == pytest.approx(1)


def test_conflict_free_list():
    chosen = rp.conflict_free(np.array([1, 5, 2, 4, 3]), example.DDI, 3)
    assert np.flatnonzero(chosen).tolist() == [0, 1, 2]  # B01A first; M01A and N02A interact with it
    assert metrics.ddi_rate(chosen[None], example.DDI) == 0
    assert rp.conflict_free(np.ones(3), ~np.eye(3, dtype=bool), 2).sum() == 1


def test_summary_of_the_running_example():
    table = rp.summary(example.cohort(), example.DDI, seed=0)
    rows = {(row["scored"], row["system"]): row for row in table.iter_rows(named=True)}
    prescribed = rows["all visits", "prescribed"]
    assert (prescribed["patients"], prescribed["visits"]) == (2, 3)
    assert prescribed["DDI rate"] == pytest.approx(0.2)
    assert prescribed["medications"] == 3
    assert prescribed["Jaccard"] is None
    last = rows["later visits", "last visit"]
    assert (last["patients"], last["visits"], last["Jaccard"], last["PRAUC"]) == (1, 1, 0.25, None)
    assert rows["all visits", "random"]["DDI rate"] == pytest.approx(0.3)
    assert ("all visits", "last visit") not in rows  # it has no answer at first visits


def test_averages_over_patients_and_over_visits_differ():
    cohort = random_cohort()
    ddi = np.zeros((cohort.n_medications,) * 2, dtype=bool)
    row = rp.summary(cohort, ddi, seed=0).row(by_predicate=pl.col("system") == "last visit", named=True)
    later = cohort.visit_number > 0
    values = metrics.jaccard(rp.targets(cohort), rp.last_visit(cohort))[later]
    owner = cohort.patient_of_visit[later]
    assert row["Jaccard over visits"] == pytest.approx(values.mean())
    assert row["Jaccard"] == pytest.approx(np.mean([values[owner == p].mean() for p in np.unique(owner)]))
    assert row["Jaccard low"] < row["Jaccard"] < row["Jaccard high"]


@pytest.mark.parametrize("name", rp.STORED)
def test_stored_values_are_those_of_the_open_demos(name, monkeypatch):
    curves, tables, _ = rp.stored()
    assert set(curves) == set(tables) == set(rp.STORED)
    monkeypatch.setenv("MEDREC_DATA_DIR", str(demo_dir(name).parent))
    remedy = "run `python -m medrec.experiments.reference_points` and commit results/reference_points"
    for made, kept in zip(rp.compute(name), (curves[name], tables[name]), strict=True):
        made = made.drop("cohort")
        numbers = [c for c in made.columns if made[c].dtype.is_numeric()]
        difference = (made.select(numbers).fill_null(-1) - kept.select(numbers).fill_null(-1)).select(
            pl.all().abs().max()
        )
        assert made.shape == kept.shape, remedy
        assert max(difference.row(0)) < 1e-5, remedy
