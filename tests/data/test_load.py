"""The one door: names, options, and a cache that knows what it was made from."""

import os
import shutil

import pytest

from medrec.data import load, load_cohort
from medrec.data.load import import_tables, tables_folder
from medrec.types import MedrecError
from tests.conftest import demo_dir
from tests.data.conftest import sets
from tests.data.test_cohort import same


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache, and a count of the cohorts that were built."""
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path / "cache"))
    built = []
    original = load._build

    def counting(name, *args):
        built.append(name)
        return original(name, *args)

    monkeypatch.setattr(load, "_build", counting)
    return built


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A writable MIMIC-III demo."""
    source = demo_dir("mimic3-demo")
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data" / "mimic3-demo").mkdir(parents=True)
    for path in source.glob("*.gz"):
        shutil.copyfile(path, tmp_path / "data" / "mimic3-demo" / path.name)
    return tmp_path / "data" / "mimic3-demo"


@pytest.mark.parametrize(
    ("name", "size"), [("mimic3-demo", (82, 107)), ("mimic4-demo", (92, 186)), ("eicu-demo", (None, None))]
)
def test_demos(demo_data, name, size):
    cohort = load_cohort(name)
    assert (cohort.name, cohort.source) == (name, "demo")
    assert cohort.options["layout"] == name.removesuffix("-demo")
    if size[0]:
        assert (cohort.n_patients, cohort.n_visits) == size


def test_the_second_load_comes_from_the_cache_and_is_the_same(demo_data, own_cache):
    first, second = load_cohort("mimic4-demo"), load_cohort("mimic4-demo")
    assert own_cache == ["mimic4-demo"]
    same(first, second)
    load_cohort("mimic4-demo", window="whole_stay", min_visits=None)  # the defaults, spelt out
    assert own_cache == ["mimic4-demo"]


def test_another_option_or_a_changed_table_is_another_cohort(copy, own_cache):
    load_cohort("mimic3-demo")
    load_cohort("mimic3-demo", window="first_day")
    assert len(own_cache) == 2
    os.utime(copy / "PRESCRIPTIONS.csv.gz", (1, 1))
    load_cohort("mimic3-demo")
    assert len(own_cache) == 3
    (copy / "NOTES.csv.gz").write_bytes(b"not read")
    load_cohort("mimic3-demo")
    assert len(own_cache) == 3


def test_changed_code_is_another_cohort(copy, own_cache, monkeypatch):
    load_cohort("mimic3-demo")
    monkeypatch.setattr(load, "_code_version", lambda: "another")
    load_cohort("mimic3-demo")
    assert len(own_cache) == 2


def test_new_external_maps_count_where_they_are_used(copy, own_cache):
    knowledge = copy.parent / "knowledge"
    sources = [demo_dir("knowledge") / f"{name}.csv.gz" for name in ("ccs_dx", "ccs_pr")]
    knowledge.mkdir()
    for source in sources:
        shutil.copyfile(source, knowledge / source.name)
    for _ in range(2):
        load_cohort("mimic3-demo")
        load_cohort("mimic3-demo", coding="ccs")
        os.utime(knowledge / "ccs_dx.csv.gz", (1, 1))
    assert len(own_cache) == 3


def test_options_reach_the_cohort(demo_data):
    cohort = load_cohort("mimic4-demo", window="first_day", require=("diagnosis", "medication"), min_visits=2)
    assert cohort.options["window"] == "first_day"
    assert cohort.options["require"] == ["diagnosis", "medication"]
    assert cohort.n_patients <= 46


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mimic4-dmeo", "mimic4-demo"),
        ("sythetic", "synthetic"),
        ("synthetic+structur", r"synthetic\+structure"),
        ("Synthetic-6350", "synthetic-6350"),
    ],
)
def test_unknown_names_get_a_suggestion_and_the_list(name, hint):
    with pytest.raises(
        MedrecError, match=rf"no cohort '.*Did you mean '{hint}'\?.*Known cohorts: synthetic, synthetic-6350"
    ):
        load_cohort(name)


def test_a_name_like_nothing_gets_the_list_alone():
    with pytest.raises(MedrecError, match=r"no cohort 'zzz'\. Known cohorts: .*eicu"):
        load_cohort("zzz")
    with pytest.raises(MedrecError, match="no cohort"):
        load_cohort("mimic3+structure")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"windwo": "first_day"}, r"no option 'windwo'.*Did you mean 'window'.*Options: window, coding"),
        ({"window": "first-day"}, r"window='first-day' is not one of 'whole_stay', 'first_day'.*mean 'first_day'"),
        ({"coding": "icd10"}, r"coding='icd10' is not one of 'icd', 'ccs'.*mean 'icd'"),
        ({"min_visits": 0}, r"min_visits=0 must be a whole number from 1"),
        ({"min_visits": 1.5}, r"min_visits=1\.5 must be"),
        ({"min_visits": "2"}, r"min_visits='2' must be"),
        ({"top_diagnoses": True}, r"top_diagnoses=True must be"),
        ({"require": ("diagnoses", "medication")}, r"require=\['diagnoses', 'medication'\].*diagnosis, procedure"),
        ({"require": "diagnosis"}, r"require=\['diagnosis'\].*medication among them"),
        ({"seed": 1}, r"no option 'seed' of a database"),
    ],
)
def test_misspelt_options(options, message):
    with pytest.raises(MedrecError, match=message):
        load_cohort("mimic4-demo", **options)


@pytest.mark.parametrize(("options", "message"), [({"history": 2}, "history=2 must be"), ({"sed": 1}, "mean 'seed'")])
def test_misspelt_knobs(options, message):
    with pytest.raises(MedrecError, match=message):
        load_cohort("synthetic", **options)


def test_missing_folders_come_with_their_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path))
    with pytest.raises(
        MedrecError, match=r"no tables of 'mimic4-demo'.*`medrec data fetch mimic4-demo`.*MEDREC_DATA_DIR"
    ):
        load_cohort("mimic4-demo")
    with pytest.raises(MedrecError, match=r"`medrec data import mimic3 PATH`.*MEDREC_DATA_DIR"):
        load_cohort("mimic3")


def test_imported_tables_are_credentialed(tmp_path, monkeypatch):
    source = demo_dir("mimic3-demo")
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    link = import_tables("mimic3", source)
    assert link.resolve() == source.resolve()
    assert import_tables("mimic3", source) == link  # again: nothing to do
    cohort = load_cohort("mimic3")
    assert (cohort.name, cohort.source, cohort.n_visits) == ("mimic3", "credentialed", 107)
    with pytest.raises(MedrecError, match="is there already"):
        import_tables("mimic3", tmp_path_with_tables(tmp_path))


def tmp_path_with_tables(tmp_path):
    shutil.copytree(demo_dir("mimic3-demo"), tmp_path / "other")
    return tmp_path / "other"


# -- synthetic ---------------------------------------------------------------------------------------------------------


def test_synthetic_goes_through_the_reader_of_its_layout():
    cohort = load_cohort("synthetic")
    assert (cohort.name, cohort.source, cohort.options["layout"]) == ("synthetic", "synthetic", "mimic3")
    assert 500 <= cohort.n_patients <= 600
    assert cohort.report.facts["patients_read"] == 600
    assert cohort.options["seed"] == 0
    assert (tables_folder("synthetic") / "PRESCRIPTIONS.csv.gz").exists()
    same(cohort, load_cohort("synthetic"))


def test_seed_and_knobs_make_other_cohorts():
    base, other, flat = load_cohort("synthetic"), load_cohort("synthetic", seed=1), load_cohort("synthetic", history=0)
    assert sets(base)[:20] != sets(other)[:20]
    assert flat.options["history"] == 0
    assert tables_folder("synthetic") != tables_folder("synthetic", seed=1)


def test_planted_cohorts_have_their_own_tables():
    assert load_cohort("synthetic+structure").name == "synthetic+structure"
    assert tables_folder("synthetic+structure") != tables_folder("synthetic")
