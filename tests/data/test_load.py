"""The one door: names, options, and a cache that knows what it was made from."""

import gzip
import json
import os
import shutil
import sys

import polars as pl
import pytest

from medrec import keys
from medrec.data import load, load_cohort, privacy, synthetic
from medrec.data.example import cohort as running_example
from medrec.data.load import FORMER, NAMES, import_tables, known_cohorts, made_by, name_synthetic, tables_folder
from medrec.data.synthetic.world import world
from medrec.paths import PACKAGE
from medrec.types import MedrecError
from tests.conftest import demo_dir
from tests.data.conftest import ORDER, sets, write_mimic3, write_table
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
def hospital(tmp_path, monkeypatch):
    """Three visits of two patients, known as ``mimic3``."""
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    admissions = [(7, 9_000_203, "2150-02-05"), (7, 9_000_204, "2150-01-05"), (5, 9_000_205, "2151-01-05")]
    orders = [{"subject_id": patient, "hadm_id": visit} for patient, visit, _ in admissions]
    return write_mimic3(tmp_path / "data" / "mimic3", admissions, orders)


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
    ("name", "size"), [("mimic3-demo", (82, 107)), ("mimic4-demo", (92, 186)), ("eicu-demo", (1273, 1491))]
)
def test_demos(demo_data, name, size):
    cohort = load_cohort(name)
    assert (cohort.name, cohort.source) == (name, "demo")
    assert cohort.options["layout"] == name.removesuffix("-demo")
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


def test_classes_without_a_structure_are_left_out_of_a_synthetic_cohort_too():
    everything, drawn = load_cohort("synthetic"), load_cohort("synthetic", classes="with_structure")
    left_out = set(everything.vocab["medication"].codes) - set(drawn.vocab["medication"].codes)
    assert "A10A" in left_out
    assert set(drawn.vocab["medication"].codes) < set(everything.vocab["medication"].codes)
    assert drawn.options["classes"] == "with_structure"


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
        ({"classes": "with_structures"}, r"classes='with_structures' is not one of 'all', 'with_structure'"),
        ({"require": ("diagnoses", "medication")}, r"require=\['diagnoses', 'medication'\].*diagnosis, procedure"),
        ({"require": "diagnosis"}, r"require=\['diagnosis'\].*medication among them"),
        ({"seed": 1}, r"no option 'seed': its patients are what they are"),
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


# -- what a cohort was made of -----------------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the package, from which keys are made."""
    shutil.copytree(PACKAGE, tmp_path / "medrec", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(keys, "PACKAGE", tmp_path / "medrec")
    return tmp_path / "medrec"


@pytest.fixture
def built(tmp_path, monkeypatch):
    """What is built anew, as a set of names: three databases and two synthetic cohorts, made of next to nothing."""
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    records = synthetic.synthesize(5)
    for layout in ("mimic3", "mimic4", "eicu"):
        records.write(tmp_path / "data" / layout, layout)
    names = []
    monkeypatch.setattr(load, "_build", lambda name, *_: (names.append(name), (running_example(), None))[1])
    monkeypatch.setattr(load, "_synthetic_tables", lambda *_: tmp_path / "data" / "mimic3")

    def build():
        names.clear()
        for name in ("mimic3", "mimic4", "eicu", "synthetic", "synthetic+structure"):
            load_cohort(name)
        return set(names)

    return build


ALL = {"mimic3", "mimic4", "eicu", "synthetic", "synthetic+structure"}
OURS = {"synthetic", "synthetic+structure"}
CODE = "\nEDITED = 1\n"
EDITS = [
    # file of the package, what is put at its end, who must be built anew
    ("data/build.py", CODE, ALL),
    ("data/mapping.py", CODE, ALL),
    ("data/cohort.py", CODE, ALL),
    ("knowledge/drugs.py", CODE, ALL),
    ("types.py", CODE, ALL),
    ("data/mapping.py", "# a remark\n", set()),
    ("data/eicu.py", CODE, {"eicu"}),
    ("data/mimic4.py", CODE, {"mimic4"}),
    ("data/mimic3.py", CODE, ALL - {"eicu"}),  # MIMIC-IV shares a part of this reader
    ("data/synthetic/model.py", CODE, OURS),
    ("data/synthetic/controls.py", CODE, OURS),
    ("chem/fragments.py", CODE, {"synthetic+structure"}),
    ("chem/molecules.py", CODE, {"synthetic+structure"}),
    *((f"data/{room}.py", CODE, set()) for room in ("privacy", "fetch", "batch", "split", "calibration", "example")),
    ("data/load.py", CODE, set()),
    ("plotting.py", CODE, set()),
]


@pytest.mark.parametrize(("file", "end", "anew"), EDITS, ids=[f"{file} {end.strip()}" for file, end, _ in EDITS])
def test_edited_code_makes_the_cohorts_anew_that_rest_on_it_and_no_others(copied, built, file, end, anew):
    assert built() == ALL
    assert built() == set()
    with (copied / file).open("a") as source:
        source.write(end)
    assert built() == anew


@pytest.mark.parametrize(
    ("table", "anew"), [("drugs.csv", ALL), ("icd_titles.csv", ALL), ("products.csv", OURS), ("interactions.csv", OURS)]
)
def test_another_cell_of_a_knowledge_table_makes_another_cohort(copied, built, table, anew):
    built()
    file = copied / "knowledge" / "tables" / table
    text = file.read_text()
    at = len(text) // 2
    while not text[at].isalpha():
        at += 1
    file.write_text(text[:at] + ("x" if text[at] != "x" else "y") + text[at + 1 :])
    assert built() == anew


def forget_knowledge():
    """Empty what the process remembers of tables that it has read."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("medrec.knowledge", "medrec.data")):
            for thing in vars(module).values():
                if hasattr(thing, "cache_clear"):
                    thing.cache_clear()


def test_every_knowledge_table_that_is_read_takes_part(tmp_path, monkeypatch, hospital, own_cache, copied):
    read = set()

    def recorded(source, *args, _real=pl.read_csv, **more):
        read.add(str(source))
        return _real(source, *args, **more)

    monkeypatch.setattr(pl, "read_csv", recorded)
    for module, make in {
        "medrec.data.build": lambda: load_cohort("mimic3"),
        "medrec.data.synthetic": lambda: synthetic.synthesize(3, control="shape").write(tmp_path / "s", "mimic3"),
    }.items():
        forget_knowledge()
        read.clear()
        make()
        tables = [path for path in read if "/knowledge/tables/" in path]
        assert len(tables) > 3, "this test sees nothing"
        for table in tables:
            before = made_by(module, planted=False)["tables"]
            with (copied / "knowledge" / "tables" / os.path.basename(table)).open("a") as file:
                file.write("\n")
            assert made_by(module, planted=False)["tables"] != before, table


# -- damage ------------------------------------------------------------------------------------------------------------


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(file):
    file.write_bytes(b"")


def delete(file):
    file.unlink()


@pytest.mark.parametrize("harm", [truncate, flip, empty, delete])
def test_a_damaged_cohort_in_the_cache_is_built_again_with_one_line(hospital, own_cache, tmp_path, capsys, harm):
    whole = load_cohort("mimic3")
    ids = whole.ids()
    capsys.readouterr()
    (folder,) = (tmp_path / "cache" / "cohorts").iterdir()
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 13
    for name in names:
        harm(folder / name)
        own_cache.clear()
        again = load_cohort("mimic3")
        same(again, whole)
        assert again.ids().equals(ids)
        assert own_cache == ["mimic3"], name
        said = capsys.readouterr().err.splitlines()
        assert [line for line in said if line.startswith("medrec:")] == said[:1], name
        assert "the stored cohort 'mimic3' is damaged (" in said[0]
        assert name in said[0] or name == "checksums.json", "what is wrong is named"
        load_cohort("mimic3")
        assert own_cache == ["mimic3"], "mended for good"
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.fixture
def few(monkeypatch):
    """The cohort ``synthetic`` with 30 patients."""
    monkeypatch.setitem(synthetic.SIZES, "synthetic", 30)


@pytest.mark.parametrize("harm", [truncate, flip, empty, delete])
def test_damaged_synthetic_tables_are_written_again_with_one_line(few, own_cache, tmp_path, capsys, harm):
    whole = load_cohort("synthetic")
    folder = tables_folder("synthetic")
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in ("PRESCRIPTIONS.csv.gz", "checksums.json"):
        harm(folder / name)
        shutil.rmtree(tmp_path / "cache" / "cohorts")
        capsys.readouterr()
        same(load_cohort("synthetic"), whole)
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("medrec:")]
        assert "the stored tables of 'synthetic' are damaged (" in line
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == content


def test_a_cached_synthetic_cohort_asks_for_no_tables(few, own_cache, tmp_path, monkeypatch):
    first = load_cohort("synthetic")
    shutil.rmtree(tmp_path / "cache" / "tables")
    same(load_cohort("synthetic"), first)
    assert own_cache == ["synthetic"]
    assert not (tmp_path / "cache" / "tables").exists()


# -- ids ---------------------------------------------------------------------------------------------------------------


def test_ids_lead_back_to_the_tables(hospital, own_cache):
    cohort = load_cohort("mimic3")
    assert cohort.ids().rows() == [(0, 0, 5, 9_000_205), (1, 1, 7, 9_000_204), (1, 2, 7, 9_000_203)]
    assert load_cohort("mimic3", visit_order="id").ids()["visit_id"].to_list() == [9_000_205, 9_000_203, 9_000_204]
    assert load_cohort("mimic3", min_visits=2).ids().rows() == [(0, 0, 7, 9_000_204), (0, 1, 7, 9_000_203)]


def test_ids_of_eicu_are_as_the_tables_have_them(tmp_path, monkeypatch, own_cache):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    folder = synthetic.synthesize(20).write(tmp_path / "data" / "eicu", "eicu")
    ids = load_cohort("eicu").ids()
    stays = pl.read_csv(folder / "patient.csv.gz", infer_schema=False).select(
        patient_id="uniquepid", visit_id=pl.col("patienthealthsystemstayid").cast(pl.Int64)
    )
    assert len(ids.join(stays.unique(), on=["patient_id", "visit_id"], how="anti")) == 0
    assert len(ids) == ids["visit_id"].n_unique() > 20


def test_no_id_is_in_the_cohort_itself(hospital, own_cache, tmp_path):
    cohort = load_cohort("mimic3")
    cohort.save(tmp_path / "own")
    for file in (tmp_path / "own").iterdir():
        if file.suffix == ".parquet":
            frame = pl.read_parquet(file)
            assert not [name for name in frame.columns if name.endswith("_id")]
            numbers = frame.select(pl.col(pl.Int64, pl.Int32, pl.UInt32))
            assert not [c for c in numbers if c.is_in([7, 9_000_203, 9_000_204, 9_000_205]).any()], file.name
        else:
            assert "9000203" not in file.read_text()


def test_ids_of_closed_records_are_never_shown(hospital, own_cache):
    cohort = load_cohort("mimic3")
    assert cohort.source == "credentialed"
    for frame in (cohort.ids(), cohort.ids().select("patient", "patient_id"), cohort.ids().select("visit_id")):
        with pytest.raises(MedrecError, match=r"Column '(patient|visit)_id' describes single patients"):
            privacy.show(cohort, frame, patients=100)


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ("quick", "synthetic"),
        ("paper", "synthetic-6350"),
        ("iv", "synthetic-60125"),
        ("quick+structure", r"synthetic\+structure"),
        ("quick+shape", r"synthetic\+shape"),
        ("paper+structure", r"synthetic-6350\+structure"),
    ],
)
def test_a_former_name_is_refused_with_the_one_of_today(old, today):
    with pytest.raises(MedrecError, match=rf"is called '{today}' now\. Ask for '{today}'"):
        load_cohort(old)


def test_a_named_synthetic_cohort_is_loaded_by_its_name_and_stays_synthetic(tmp_path, monkeypatch, own_cache):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    folder = name_synthetic("mine", 40, seed=3, layout="mimic4", history=0.5)
    assert folder == tmp_path / "data" / "mine" == tables_folder("mine")
    cohort = load_cohort("mine")
    assert (cohort.name, cohort.source, cohort.options["layout"]) == ("mine", "synthetic", "mimic4")
    assert {k: cohort.options[k] for k in ("seed", "history", "structure", "text")} == {
        "seed": 3,
        "history": 0.5,
        "structure": 0.0,
        "text": 1.0,
    }
    assert 30 <= cohort.n_patients <= 40
    assert cohort.planted == {}
    assert cohort.ids()["visit"].to_list() == list(range(cohort.n_visits))
    same(load_cohort("mine"), cohort)
    assert own_cache == ["mine"]
    assert load_cohort("mine", min_visits=2).n_patients < cohort.n_patients
    with pytest.raises(MedrecError, match=r"'mine' has no option 'seed': its patients are what they are"):
        load_cohort("mine", seed=4)
    with pytest.raises(MedrecError, match=r"no cohort 'mien'\. Did you mean 'mine'\?.*Known cohorts: .*, mine\."):
        load_cohort("mien")


def test_a_named_cohort_has_the_very_patients_of_the_house_cohort_with_the_same_options(few, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path / "cache"))
    name_synthetic("mine", 30)
    assert load_cohort("mine").content == load_cohort("synthetic").content


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mimic3", "'mimic3' is taken"),
        ("eicu-demo", "'eicu-demo' is taken"),
        ("synthetic", "'synthetic' is taken"),
        ("synthetic-60125", "is taken"),
        ("quick", "'quick' is taken"),
        ("knowledge", "is taken"),
        ("synthetic+structure", "cannot name a cohort"),
        ("../mine", "cannot name a cohort"),
        ("Mine", "cannot name a cohort"),
        ("", "cannot name a cohort"),
    ],
)
def test_names_that_mean_something_else_are_refused(tmp_path, monkeypatch, name, message):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(MedrecError, match=message):
        name_synthetic(name, 5)
    assert not (tmp_path / "data").exists()


def test_what_stands_there_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    folder = name_synthetic("mine", 5)
    before = (folder / "PATIENTS.csv.gz").stat().st_mtime_ns
    assert name_synthetic("mine", 5) == folder
    assert (folder / "PATIENTS.csv.gz").stat().st_mtime_ns == before
    with pytest.raises(MedrecError, match="holds other invented patients"):
        name_synthetic("mine", 6)
    write_table(tmp_path / "data" / "yours", "PATIENTS", [{"subject_id": 1}])
    with pytest.raises(MedrecError, match="is there already, and not written by us"):
        name_synthetic("yours", 5)


def test_real_tables_do_not_pass_as_synthetic(tmp_path, monkeypatch, own_cache):
    """Invented records are under no guard: nothing but what was written together counts as invented."""
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    folder = name_synthetic("mine", 5)
    write_table(folder, "PRESCRIPTIONS", [ORDER])  # uncompressed: it would win over the one that was written
    with pytest.raises(MedrecError, match=r"not as `medrec data synthesize` wrote it: PRESCRIPTIONS\.csv is new"):
        load_cohort("mine")
    (folder / "PRESCRIPTIONS.csv").unlink()
    with gzip.open(folder / "PRESCRIPTIONS.csv.gz", "wt") as file:
        file.write("another table")
    with pytest.raises(MedrecError, match=r"wrote it: PRESCRIPTIONS\.csv\.gz does not fit its checksum"):
        load_cohort("mine")
    assert own_cache == []


def test_a_database_is_credentialed_whatever_lies_in_its_folder(tmp_path, monkeypatch, own_cache):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    synthetic.synthesize(20).write(tmp_path / "data" / "mimic3", "mimic3")
    assert json.loads((tmp_path / "data" / "mimic3" / "synthetic.json").read_text())["n_patients"] == 20
    assert load_cohort("mimic3").source == "credentialed"
    assert [k.source for k in known_cohorts() if k.name == "mimic3"] == ["credentialed"]


def test_a_named_cohort_keeps_what_was_planted(tmp_path, monkeypatch, own_cache):
    monkeypatch.setenv("MEDREC_DATA_DIR", str(tmp_path / "data"))
    synthetic.synthesize(30, control="shape").write(tmp_path / "data" / "twins", "mimic3")
    assert load_cohort("twins").planted == world("shape").planted


def test_known_cohorts_say_what_is_at_hand_and_how_to_get_the_rest(hospital):
    name_synthetic("mine", 5)
    name_synthetic("broken", 5)
    flip(hospital.parent / "broken" / "PATIENTS.csv.gz")
    known = {cohort.name: cohort for cohort in known_cohorts()}
    assert set(known) == {*NAMES, "mine", "broken"}
    assert not set(known) & set(FORMER)
    assert (known["synthetic"].source, known["synthetic"].at_hand) == ("synthetic", True)
    assert (known["mine"].source, known["mine"].at_hand) == ("synthetic", True)
    assert known["mine"].where == str(hospital.parent / "mine")
    assert (known["mimic3"].source, known["mimic3"].at_hand) == ("credentialed", True)
    assert (known["mimic4"].at_hand, known["mimic4"].where) == (False, "medrec data import mimic4 PATH")
    demo = known["eicu-demo"]
    assert (demo.source, demo.at_hand, demo.where) == ("demo", False, "medrec data fetch eicu-demo")
    assert known["broken"].at_hand is False
    assert "does not fit its checksum" in known["broken"].where


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
