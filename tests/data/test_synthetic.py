"""The generator: same seed, same bytes; signals that a knob takes away; tables that read back as they were drawn."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from medrec.chem.fragments import brics_fragments
from medrec.chem.molecules import build
from medrec.data import eicu, mimic3, mimic4
from medrec.data.build import Options, build_cohort
from medrec.data.calibration import jaccard
from medrec.data.mapping import map_medications
from medrec.data.synthetic import SyntheticRecords, controls, model, synthesize
from medrec.data.synthetic.products import products
from medrec.knowledge.conditions import conditions, icd_titles
from medrec.types import MedrecError

READ = {"mimic3": mimic3.read, "mimic4": mimic4.read, "eicu": eicu.read}


@pytest.fixture(scope="module")
def records() -> SyntheticRecords:
    return synthesize(600)


@pytest.fixture(scope="module")
def written(records: SyntheticRecords, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("synthetic")
    return {layout: records.write(base / layout, layout) for layout in READ}


def given(records: SyntheticRecords) -> np.ndarray:
    return records.medications.multi_hot(len(records.classes))


def later(records: SyntheticRecords) -> np.ndarray:
    first = np.zeros(records.n_visits, dtype=bool)
    first[records.stays.visit_offsets[:-1]] = True
    return np.flatnonzero(~first)


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.gz"))
    }


# -- determinism ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", READ)
def test_same_seed_same_bytes_and_another_seed_other_records(layout: str, tmp_path: Path) -> None:
    first, again, other = (
        digest(synthesize(60, seed).write(tmp_path / name, layout)) for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert first == again
    assert first.keys() == other.keys()
    orders = next(name for name in first if "prescriptions" in name.lower() or "medication" in name)
    assert first[orders] != other[orders]


def test_text_changes_nothing_but_titles(records: SyntheticRecords) -> None:
    without = synthesize(600, text=0)
    assert np.array_equal(without.medications.values, records.medications.values)
    assert np.array_equal(without.stays.diagnoses.values, records.stays.diagnoses.values)
    assert not without.titles["title"].equals(records.titles["title"])


# -- the knobs --------------------------------------------------------------------------------------------------------


def test_without_history_the_past_tells_no_more_than_a_stranger(records: SyntheticRecords) -> None:
    without = synthesize(600, history=0)
    rows = later(records)
    y, z = given(records), given(without)
    kept, lost = (jaccard(x[rows - 1], x[rows]).mean() for x in (y, z))
    rng = np.random.default_rng(0)
    stranger = jaccard(z[rng.permutation(rows)], z[rows]).mean()
    assert kept > 0.4
    assert lost == pytest.approx(stranger, abs=0.025)
    # Stays change places as wholes: every marginal over stays is what it was.
    assert np.array_equal(np.sort(y.sum(1)), np.sort(z.sum(1)))
    assert np.array_equal(y.sum(0), z.sum(0))


def fragment_likeness(records: SyntheticRecords) -> float:
    """Over pairs of classes: molecular similarity against what goes together in a patient beyond diagnoses."""
    y = given(records).astype(float)
    x = np.hstack([records.stays.conditions, records.stays.severity[:, None]]).astype(float)
    residual = y - x @ np.linalg.solve(x.T @ x + 5 * np.eye(x.shape[1]), x.T @ y)
    of_patient = np.add.reduceat(residual, records.stays.visit_offsets[:-1])
    used = y.mean(0) > 0.02
    together = np.corrcoef(of_patient[:, used].T)
    alike = controls.similarity(records.classes)[np.ix_(used, used)]
    upper = np.triu_indices(used.sum(), 1)
    return float(np.corrcoef(together[upper], alike[upper])[0, 1])


def test_structure_shows_in_what_goes_together_and_vanishes_at_zero() -> None:
    on, off = (synthesize(1200, structure=s) for s in (1, 0))
    assert fragment_likeness(on) > 0.15
    assert abs(fragment_likeness(off)) < 0.06
    assert given(on).sum(1).mean() == pytest.approx(given(off).sum(1).mean(), rel=0.05)
    common = given(off).mean(0) > 0.1
    assert given(on).mean(0)[common] == pytest.approx(given(off).mean(0)[common], rel=0.15)


def shared_words(titles: pl.DataFrame) -> float:
    """Mean word overlap of two codes of one condition."""
    words = {
        (v, c): set(t.lower().split())
        for v, c, t in titles.filter(kind="diagnosis").select("version", "code", "title").iter_rows()
    }
    pairs = [
        (words[10, codes[0]], words[10, code])
        for codes in conditions()["icd10"]
        for code in codes[1:]
        if (10, code) in words and (10, codes[0]) in words
    ]
    return float(np.mean([len(a & b) / len(a | b) for a, b in pairs]))


def test_without_text_titles_say_nothing_about_kinship_of_codes(records: SyntheticRecords) -> None:
    without = synthesize(5, text=0).titles
    assert shared_words(records.titles) > 0.25
    assert shared_words(without) < 0.5 * shared_words(records.titles)
    # A permutation within version and kind: the same titles, none invented.
    for version in (9, 10):
        pick = {"version": version, "kind": "diagnosis"}
        assert sorted(without.filter(**pick)["title"]) == sorted(icd_titles().filter(**pick)["title"])


# -- the controls -----------------------------------------------------------------------------------------------------


def since(records: SyntheticRecords, condition: str) -> tuple[np.ndarray, np.ndarray]:
    """Stays with a condition, and later stays of the same patients without it."""
    present = records.stays.conditions[:, records.world.ids.index(condition)]
    later = np.zeros_like(present)
    for start, end in pairwise(records.stays.visit_offsets):
        later[start:end] = np.logical_or.accumulate(present[start:end])
    return present, later & ~present


def planted_rates(records: SyntheticRecords, planted: dict[str, Any], *, after: bool = False) -> tuple[float, float]:
    """How often a class of the pool is given where it is asked for (or ``after`` that), and elsewhere."""
    asks, answers = planted["asks"], planted["answers"]
    pool = sorted({code for codes in answers.values() for code in codes})
    found = given(records)
    y = np.column_stack(
        [
            found[:, records.classes.index(code)] if code in records.classes else np.zeros(records.n_visits, bool)
            for code in pool
        ]
    )
    asked, not_any_more = np.zeros_like(y), np.zeros_like(y)
    for condition, wanted in asks.items():
        columns = [pool.index(code) for code in answers[wanted]]
        present, later = since(records, condition)
        asked[np.ix_(present.nonzero()[0], columns)] = True
        not_any_more[np.ix_(later.nonzero()[0], columns)] = True
    not_any_more &= ~asked
    return y[not_any_more if after else asked].mean(), y[~(asked | not_any_more)].mean()


@pytest.mark.parametrize(("control", "share", "elsewhere"), [("structure", 0.6, 0.1), ("shape", 0.7, 0.05)])
def test_an_oracle_that_is_told_where_to_look_finds_what_was_planted(
    control: str, share: float, elsewhere: float, records: SyntheticRecords
) -> None:
    planted = synthesize(600, control=control)
    on, off = planted_rates(planted, planted.planted)
    assert on > share
    assert off < elsewhere
    plain_on, plain_off = planted_rates(records, planted.planted)
    assert plain_on - plain_off < 0.04


def test_a_planted_fragment_is_asked_for_in_later_stays_too_and_a_planted_shape_is_not() -> None:
    for control, low, high in (("structure", 0.6, 1.0), ("shape", 0.0, 0.05)):
        planted = synthesize(600, control=control)
        after, _ = planted_rates(planted, planted.planted, after=True)
        assert low < after < high


def test_the_two_shapes_are_one_graph() -> None:
    from rdkit import Chem

    smiles = [controls._smiles()[drug] for _, drug in (controls.EXTENDED, controls.COMPACT)]
    graphs = {Chem.MolToSmiles(Chem.MolFromSmiles(s), isomericSmiles=False) for s in smiles}
    assert len(graphs) == 1
    assert len({Chem.CanonSmiles(s) for s in smiles}) == 2


def test_exactly_the_classes_with_the_building_block_answer() -> None:
    records = synthesize(5, control="structure")
    molecules = build(records.classes)
    for name, codes in records.planted["answers"].items():
        assert 5 <= len(codes) <= 8
        has = np.array([controls.ASKED[name] in brics_fragments(smiles) for smiles in molecules.smiles])
        of_class = (molecules.average.numpy() > 0) @ has
        assert {code for code, found in zip(records.classes, of_class, strict=True) if found} == set(codes)


# -- medicine ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "atc"),
    [("diabetes", "A10"), ("heart_failure", "C03C"), ("sepsis", "J01"), ("asthma", "R03"), ("copd", "R03")],
)
def test_links_make_clinical_sense(condition: str, atc: str, records: SyntheticRecords) -> None:
    columns = [i for i, name in enumerate(records.world.ids) if condition in name]
    assert columns
    has = records.stays.conditions[:, columns].any(1)
    y = given(records)[:, [code.startswith(atc) for code in records.classes]].any(1)
    assert y[has].mean() > 0.6
    assert y[has].mean() > y[~has].mean() + 0.1


def test_no_sex_has_the_diseases_of_the_other(records: SyntheticRecords) -> None:
    female = np.repeat(records.stays.female, np.diff(records.stays.visit_offsets))
    impossible = np.isneginf(records.world.sex_odds)
    assert impossible.any()
    assert not records.stays.conditions[female][:, impossible[:, 0]].any()
    assert not records.stays.conditions[~female][:, impossible[:, 1]].any()


def test_interactions_are_mostly_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    def rate(r: SyntheticRecords) -> float:
        y = given(r).astype(float)
        size = y.sum(1)
        return float(((y @ r.world.ddi) * y).sum() / (size * (size - 1)).sum())

    as_is = rate(synthesize(400))
    monkeypatch.setattr(model, "AVOIDANCE", 0.0)
    careless = rate(synthesize(400))
    monkeypatch.setattr(model, "AVOIDANCE", 0.9)
    careful = rate(synthesize(400))
    assert careful < as_is < careless


def test_excluded_pairs_are_nearly_never_given_together(records: SyntheticRecords) -> None:
    y = given(records)
    a, b = (y[:, records.classes.index(code)] for code in model.EXCLUDED[0])
    assert (a & b).mean() < 0.3 * a.mean() * b.mean()


def test_the_oracle_knows_the_probabilities(records: SyntheticRecords) -> None:
    y, p = given(records), records.oracle
    for low in np.arange(0, 1, 0.1):
        inside = (p >= low) & (p < low + 0.1)
        if inside.sum() > 500:
            assert y[inside].mean() == pytest.approx(p[inside].mean(), abs=0.05)
    assert p.sum(1).mean() == pytest.approx(y.sum(1).mean(), rel=0.03)
    assert jaccard(p > 0.4, y).mean() == pytest.approx(0.61, rel=0.2)


# -- tables -----------------------------------------------------------------------------------------------------------


def test_every_product_is_mapped_back_to_its_class() -> None:
    table = products().rename({"drug": "ingredient", "atc3": "wanted"})
    printed = (pl.col("ingredient") + " " + pl.col("strength")).str.to_uppercase()
    for name in (pl.col("name"), pl.col("brand"), printed):
        found = map_medications(table.with_columns(name=name).select("name", "route", "wanted"))
        wrong = found.filter(pl.col("atc3").ne_missing(pl.col("wanted")))
        assert wrong.is_empty(), wrong


@pytest.mark.parametrize("layout", ["mimic3", "mimic4"])
def test_reading_back_gives_the_generated_sets(
    layout: str, records: SyntheticRecords, written: dict[str, Path]
) -> None:
    cohort = build_cohort(
        READ[layout](written[layout]), Options(require=("medication",)), name="synthetic", source="synthetic"
    )
    filled = np.flatnonzero(records.medications.lengths)
    assert cohort.n_visits == len(filled)
    codes = np.array(cohort.vocab["medication"].codes)
    read = [frozenset(codes[cohort.codes["medication"][i]]) for i in range(cohort.n_visits)]
    drawn = [frozenset(records.classes[k] for k in records.medications[i]) for i in filled]
    assert read == drawn
    # Codes come back too: in MIMIC-III all in ICD-9, each once.
    if layout == "mimic3":
        pairs = records.world.diagnoses
        visit = filled[0]
        want = list(dict.fromkeys("9:" + code for code in pairs[records.stays.diagnoses[visit], 0]))
        assert [cohort.vocab["diagnosis"].codes[k] for k in cohort.codes["diagnosis"][0]] == want


@pytest.mark.parametrize("layout", READ)
def test_symptoms_are_read_where_the_table_lies(
    layout: str, records: SyntheticRecords, written: dict[str, Path], tmp_path: Path
) -> None:
    tables = READ[layout](written[layout])
    rows = tables.symptoms.collect()
    assert len(rows) == len(records.stays.symptoms.values)
    assert set(rows["code"]) <= set(records.world.symptoms)
    cohort = build_cohort(tables, name="written", source="synthetic")
    kept = cohort.codes["symptom"]
    assert len(kept) == cohort.n_visits
    drawn = records.stays.symptoms.lengths.mean()
    assert abs(kept.lengths.mean() / drawn - 1) < 0.1
    without = tmp_path / "without"
    shutil.copytree(written[layout], without)
    (without / "symptoms.csv.gz").unlink()
    assert len(build_cohort(READ[layout](without), name="w", source="synthetic").vocab["symptom"]) == 0


def test_eicu_gives_back_what_its_gaps_leave(records: SyntheticRecords, written: dict[str, Path]) -> None:
    cohort = build_cohort(
        READ["eicu"](written["eicu"]), Options(require=("medication",)), name="synthetic", source="synthetic"
    )
    assert cohort.n_patients == pytest.approx(records.n_patients, rel=0.02)
    # Cancelled orders replace some; an order without name and HICL number is lost.
    size = cohort.codes["medication"].lengths.mean() / records.medications.lengths.mean()
    assert 0.9 < size < 1.01
    frequency = dict(zip(records.classes, given(records).mean(0), strict=True))
    read = cohort.codes["medication"].multi_hot(cohort.n_medications).mean(0)
    drawn = np.array([frequency.get(code, 0) for code in cohort.vocab["medication"].codes])
    assert np.abs(read - drawn).max() < 0.08


def columns(path: Path) -> list[str]:
    with gzip.open(path, "rt") as stream:
        return stream.readline().strip().split(",")


def test_mimic3_traits(written: dict[str, Path]) -> None:
    folder = written["mimic3"]
    orders = pl.read_csv(folder / "PRESCRIPTIONS.csv.gz", infer_schema=False)
    assert orders.columns[:5] == ["ROW_ID", "SUBJECT_ID", "HADM_ID", "ICUSTAY_ID", "STARTDATE"]
    assert len(orders.columns) == 19
    assert (orders["NDC"] == "0").mean() == pytest.approx(0.142, rel=0.2)
    known = orders.filter(pl.col("NDC") != "0")["NDC"]
    assert known.str.contains(r"^99\d{9}$").all()
    assert orders["STARTDATE"].str.ends_with("00:00:00").all()
    assert orders["ICUSTAY_ID"].null_count() / len(orders) == pytest.approx(0.32, rel=0.25)
    assert set(orders["DRUG_TYPE"].unique()) == {"MAIN", "BASE", "ADDITIVE"}
    admissions = pl.read_csv(folder / "ADMISSIONS.csv.gz").with_columns(pl.col("ADMITTIME").str.to_datetime())
    rising = admissions.sort("SUBJECT_ID", "ADMITTIME").select((pl.col("HADM_ID").diff() > 0).over("SUBJECT_ID"))[
        "HADM_ID"
    ]
    assert rising.mean() == pytest.approx(0.5, abs=0.1)
    patients = pl.read_csv(folder / "PATIENTS.csv.gz").with_columns(pl.col("DOB").str.to_datetime())
    assert (patients["DOB"].dt.year() < 1930).any()


def test_mimic4_traits(written: dict[str, Path]) -> None:
    hosp = written["mimic4"] / "hosp"
    orders = pl.read_csv(hosp / "prescriptions.csv.gz", infer_schema=False)
    assert len(orders.columns) == 21
    gone = (orders["ndc"] == "0").fill_null(True)
    assert gone.mean() == pytest.approx(0.145, rel=0.2)
    assert orders["ndc"].null_count() > 0
    codes = pl.read_csv(hosp / "diagnoses_icd.csv.gz", infer_schema=False)
    assert codes.group_by("hadm_id").agg(pl.col("icd_version").n_unique())["icd_version"].max() == 1
    per_patient = codes.group_by("subject_id").agg(
        pl.col("icd_version").n_unique().alias("versions"), pl.col("hadm_id").n_unique().alias("visits")
    )
    several = per_patient.filter(pl.col("visits") > 1)
    assert 0.05 < (several["versions"] == 2).mean() < 0.6
    assert codes["icd_version"].value_counts()["count"].min() > 0.25 * len(codes)


def test_eicu_traits(written: dict[str, Path]) -> None:
    folder = written["eicu"]
    assert len(columns(folder / "patient.csv.gz")) == 29
    patient = pl.read_csv(folder / "patient.csv.gz", infer_schema=False)
    assert (patient["age"] == "> 89").any()
    assert set(patient["hospitaldischargeyear"].unique()) == {"2014", "2015"}
    assert patient["patienthealthsystemstayid"].n_unique() < len(patient)
    medication = pl.read_csv(folder / "medication.csv.gz", infer_schema=False)
    assert len(medication.columns) == 15
    assert medication["drugname"].null_count() / len(medication) == pytest.approx(0.406, abs=0.03)
    assert (medication["drugordercancelled"] == "Yes").mean() == pytest.approx(0.035, abs=0.01)
    assert medication["drughiclseqno"].null_count() > 0
    padded = pl.read_csv(folder / "admissiondrug.csv.gz", infer_schema=False)["drugname"]
    assert (padded.str.len_chars() == 255).all()
    diagnosis = pl.read_csv(folder / "diagnosis.csv.gz", infer_schema=False)
    assert diagnosis["icd9code"].str.contains(r"^\d{3}\.\d+, [A-Z]\d").any()
    assert diagnosis["icd9code"].fill_null("").eq("").mean() == pytest.approx(0.15, abs=0.06)
    assert diagnosis["diagnosisstring"].str.contains("|", literal=True).all()


# -- mistakes ---------------------------------------------------------------------------------------------------------


def test_mistakes_are_explained(records: SyntheticRecords, tmp_path: Path) -> None:
    with pytest.raises(MedrecError, match=r"history=2 lies outside \[0, 1\]"):
        synthesize(5, history=2)
    with pytest.raises(MedrecError, match="at least one patient"):
        synthesize(0)
    with pytest.raises(MedrecError, match="control='colour'"):
        synthesize(5, control="colour")  # type: ignore[arg-type]
    with pytest.raises(MedrecError, match="No layout 'omop'"):
        records.write(tmp_path / "x", "omop")  # type: ignore[arg-type]


# -- 6 350 patients ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_as_many_patients_as_in_the_papers_have_as_many_visits(tmp_path: Path) -> None:
    records = synthesize(6350)
    assert records.n_visits == pytest.approx(15_032, rel=0.1)
    admissions = pl.read_csv(records.write(tmp_path / "tables", "mimic3") / "ADMISSIONS.csv.gz")
    assert len(admissions) == records.n_visits
