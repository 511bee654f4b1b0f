"""The cohort: statistics by hand, and a store that never leaves half a cohort."""

import errno
import json
import stat
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from medrec.data import example
from medrec.data.cohort import KINDS, Cohort, Report, Step, Vocabulary
from medrec.data.example import cohort as running_example
from medrec.folders import atomic_folder
from medrec.knowledge.classes import atc3
from medrec.knowledge.interactions import ddi_matrix
from medrec.types import MedrecError, Ragged
from tests.toys import random_cohort


def make(medications: list[list[int]], visits: list[int], **changes) -> Cohort:
    """Patients with ``visits`` visits each and the given medication sets; the other kinds hold one code a visit."""
    n = len(medications)
    other = Ragged.from_lists([[0]] * n)
    vocab = {kind: Vocabulary(kind, ("x",), ("ex",)) for kind in KINDS}
    vocab["medication"] = Vocabulary("medication", tuple("abcde"), tuple("ABCDE"))
    values = {
        "name": "toy",
        "source": "synthetic",
        "vocab": vocab,
        "visit_offsets": np.concatenate([[0], np.cumsum(visits)]),
        "codes": dict.fromkeys(KINDS, other) | {"medication": Ragged.from_lists(medications)},
        "admit_time": np.arange(n).astype("datetime64[D]").astype("datetime64[s]"),
        "days_since_previous": np.full(n, np.nan, dtype=np.float32),
        "sex": np.array(["F"] * len(visits)),
        "age_band": np.array(["60-69"] * len(visits)),
    }
    return Cohort(**(values | changes))


def same(a: Cohort, b: Cohort) -> None:
    """Two cohorts are equal in every field."""
    assert (a.name, a.source, a.vocab, a.options, a.report) == (b.name, b.source, b.vocab, b.options, b.report)
    for kind in KINDS:
        np.testing.assert_array_equal(a.codes[kind].offsets, b.codes[kind].offsets)
        np.testing.assert_array_equal(a.codes[kind].values, b.codes[kind].values)
    for field in ("visit_offsets", "admit_time", "days_since_previous", "sex", "age_band"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


def test_true_mean_counts_repeats_and_the_published_script_does_not():
    equal = make([[0, 1, 2]] * 3, [3]).describe()
    assert (equal["medication_per_visit"], equal["medication_per_visit_distinct"]) == (3.0, 1.0)
    disjoint = make([[0], [1], [2]], [3]).describe()
    assert disjoint["medication_per_visit"] == disjoint["medication_per_visit_distinct"] == 1.0
    row = running_example().describe()
    assert row["medication_per_visit"] == 3.0
    assert row["medication_per_visit_distinct"] == pytest.approx(8 / 3)
    assert (row["patients"], row["visits"], row["max_visits"]) == (2, 3, 2)


def test_visits_know_their_patient_and_number():
    cohort = make([[0], [1], [2]], [2, 1])
    assert list(cohort.patient_of_visit) == [0, 0, 1]
    assert list(cohort.visit_number) == [0, 1, 0]


def test_select_keeps_vocabularies_and_moves_everything_else():
    cohort = make([[0], [1], [2, 3]], [2, 1], sex=np.array(["F", "M"]))
    chosen = cohort.select(np.array([1, 0]))
    assert [list(chosen.codes["medication"][v]) for v in range(3)] == [[2, 3], [0], [1]]
    assert list(chosen.sex) == ["M", "F"]
    assert list(chosen.admit_time) == list(cohort.admit_time[[2, 0, 1]])
    assert chosen.vocab == cohort.vocab


def test_unknown_code_is_named():
    with pytest.raises(MedrecError, match=r"'z'.*a, b, c"):
        make([[0]], [1]).vocab["medication"].ids(["a", "z"])


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="1 diagnosis rows for 2 visits"):
        make([[0]], [1], visit_offsets=np.array([0, 2]))
    with pytest.raises(ValueError, match="not unique"):
        Vocabulary("medication", ("a", "a"), ("A", "A"))


def test_save_and_load_give_the_same_cohort(tmp_path):
    report = Report((Step("s", "rows", 5, 3, "why"),), {"n": 2.0}, {"t": {"x": [1, 2], "y": ["a", None]}})
    cohort = make([[0, 4], [], [2]], [2, 1], report=report, options={"window": "whole_stay", "require": ["diagnosis"]})
    cohort = make(
        [[0, 4], [], [2]],
        [2, 1],
        report=report,
        options=cohort.options,
        admit_time=np.array(["2150-01-01T10:00:01", "NaT", "NaT"], dtype="datetime64[s]"),
        days_since_previous=np.array([np.nan, 2.5, np.nan], dtype=np.float32),
    )
    cohort.save(tmp_path / "c")
    loaded = Cohort.load(tmp_path / "c")
    same(cohort, loaded)
    assert loaded.report.frame()["dropped"].to_list() == [2]
    assert loaded.report.table("t").shape == (2, 2)
    with pytest.raises(MedrecError, match=r"no table 'u'.*t"):
        loaded.report.table("u")


def test_saving_again_replaces_and_other_users_may_read(tmp_path):
    make([[0]], [1]).save(tmp_path / "c")
    make([[1], [2]], [1, 1]).save(tmp_path / "c")
    assert Cohort.load(tmp_path / "c").n_visits == 2
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    # The folder is as open as any other one made here.
    (tmp_path / "plain").mkdir()
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_full_disk_leaves_the_old_cohort_and_nothing_half_written(tmp_path, monkeypatch):
    make([[0]], [1]).save(tmp_path / "c")
    written = []

    def full(frame, path, *_args, **_kwargs):
        path.write_bytes(b"half")
        written.append(path)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(MedrecError, match=r"(?s)cohort 'toy'.*No space left on device.*Free space"):
        make([[1], [2]], [1, 1]).save(tmp_path / "c")
    written.clear()
    with pytest.raises(MedrecError, match="No space"):
        make([[1], [2]], [1, 1]).save(tmp_path / "new")
    monkeypatch.undo()
    assert Cohort.load(tmp_path / "c").n_visits == 1
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_an_interrupted_block_leaves_nothing(tmp_path):
    def interrupted():
        with atomic_folder(tmp_path / "c", "a cohort") as tmp:
            (tmp / "x").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_two_processes_that_write_the_same_cohort_both_succeed(tmp_path):
    with atomic_folder(tmp_path / "c", "a cohort") as slow:
        (slow / "x").write_text("slow")
        with atomic_folder(tmp_path / "c", "a cohort") as fast:
            (fast / "x").write_text("fast")
        assert (tmp_path / "c" / "x").read_text() == "fast"
    assert (tmp_path / "c" / "x").read_text() == "slow"
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MedrecError, match=r"Cannot write.*file/c"):
        make([[0]], [1]).save(tmp_path / "file" / "c")


def test_missing_and_foreign_cohorts_are_named(tmp_path):
    with pytest.raises(MedrecError, match="holds no cohort"):
        Cohort.load(tmp_path)
    make([[0]], [1]).save(tmp_path / "c")
    header = json.loads((tmp_path / "c" / "cohort.json").read_text())
    with atomic_folder(tmp_path / "old", "a cohort") as tmp:
        (tmp / "cohort.json").write_text(json.dumps(header | {"format": 0}))
    with pytest.raises(MedrecError, match="format 0"):
        Cohort.load(tmp_path / "old")


@pytest.mark.parametrize("file", ["visits.parquet", "vocab_medication.parquet", "cohort.json", "checksums.json"])
def test_a_damaged_cohort_of_the_users_own_is_refused(tmp_path, file):
    cohort = make([[0, 1], [2]], [2])
    cohort.save(tmp_path / "c")
    content = bytearray((tmp_path / "c" / file).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "c" / file).write_bytes(content)
    with pytest.raises(MedrecError, match=r"cohort in .*c is damaged: .*Make it again"):
        Cohort.load(tmp_path / "c")
    cohort.save(tmp_path / "c")
    same(Cohort.load(tmp_path / "c"), cohort)


# -- ids ---------------------------------------------------------------------------------------------------------------

NO_IDS = r"'toy' has no ids: it was made by hand, or is a part.*load_cohort"


def test_ids_lie_beside_the_cohort_and_come_back_with_it(tmp_path):
    cohort = make([[0], [1], [2]], [2, 1])
    ids = pl.DataFrame({"patient": [0, 0, 1], "visit": [0, 1, 2], "patient_id": ["a", "a", "b"], "visit_id": [7, 8, 9]})
    with pytest.raises(MedrecError, match=NO_IDS):
        cohort.ids()
    cohort.save(tmp_path / "c", ids)
    loaded = Cohort.load(tmp_path / "c")
    assert loaded.ids().equals(ids)
    assert loaded.content == cohort.content
    same(loaded, cohort)
    loaded.save(tmp_path / "again")
    assert not (tmp_path / "again" / "ids.parquet").exists(), "ids do not travel"
    with pytest.raises(MedrecError, match=NO_IDS):
        Cohort.load(tmp_path / "again").ids()


def test_a_part_of_a_cohort_has_no_ids(tmp_path):
    cohort = make([[0], [1], [2]], [2, 1])
    ids = pl.DataFrame({"patient": [0, 0, 1], "visit": [0, 1, 2], "patient_id": [5, 5, 6], "visit_id": [7, 8, 9]})
    cohort.save(tmp_path / "c", ids)
    loaded = Cohort.load(tmp_path / "c")
    for part in (loaded.select(np.array([0, 1])), replace(loaded, visit_offsets=np.array([0, 1, 3]))):
        with pytest.raises(MedrecError, match=NO_IDS):
            part.ids()


def test_ids_that_do_not_fit_their_checksum_are_refused(tmp_path):
    ids = pl.DataFrame({"patient": [0, 0], "visit": [0, 1], "patient_id": [5, 5], "visit_id": [7, 8]})
    make([[0], [1]], [2]).save(tmp_path / "c", ids)
    loaded = Cohort.load(tmp_path / "c")
    ids.with_columns(visit_id=pl.Series([8, 7])).write_parquet(tmp_path / "c" / "ids.parquet")
    with pytest.raises(MedrecError, match=r"ids of cohort 'toy' cannot be read: ids.parquet does not fit.*again"):
        loaded.ids()


@pytest.mark.parametrize(
    "patients", [[-1], [40], [0, 1.5], ["0"], None, "all", {"a": 1}, [[0]], [[0], [1, 2]], 3, [10**30], [True, False]]
)
def test_patients_are_chosen_by_places_that_there_are(patients):
    with pytest.raises(MedrecError, match="from 0 to 39"):
        random_cohort(40).select(patients)


def test_a_mask_is_not_taken_for_places():
    with pytest.raises(MedrecError, match="flatnonzero"):
        random_cohort(40).select(np.ones(40, dtype=bool))
    assert random_cohort(40).select([]).n_patients == 0


def test_the_running_example_has_the_interactions_of_the_list_and_classes_that_exist():
    np.testing.assert_array_equal(example.DDI, ddi_matrix(example.MEDICATIONS))
    assert set(example.MEDICATIONS) <= set(atc3()["code"])
