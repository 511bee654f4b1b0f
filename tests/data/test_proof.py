"""Open records prove that they are; a folder's name proves nothing."""

import gzip
import json
import os
import shutil

import pytest

from medrec.data import load, proof, synthetic
from medrec.data.load import known_cohorts, name_synthetic, source_of
from medrec.data.tables import MARKER
from medrec.folders import SEAL, _seal
from medrec.types import MedrecError
from tests.conftest import demo_dir
from tests.data.conftest import write_mimic3, write_table

DEMOS = ("mimic3-demo", "mimic4-demo", "eicu-demo")


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """Folders of one's own, and no proof that was made before."""
    for name in ("data", "cache"):
        monkeypatch.setenv(f"MEDREC_{name.upper()}_DIR", str(tmp_path / name))
    monkeypatch.setattr(proof, "_memory", {})


@pytest.fixture
def house(tmp_path):
    return tmp_path / "data"


def copied(demo, folder):
    """A writable copy of a demo's tables."""
    shutil.copytree(demo_dir(demo), folder, copy_function=lambda a, b: (shutil.copyfile(a, b), os.chmod(b, 0o644)))
    for place in (folder, *folder.rglob("*")):
        place.chmod(place.stat().st_mode | 0o200)
    return folder


def plain(folder, table):
    """The table, decompressed, in place of the file that was fetched."""
    (file,) = folder.rglob(f"{table}.csv.gz")
    file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
    file.unlink()


# -- demos -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEMOS)
def test_the_demos_prove_themselves(name, house):
    house.mkdir()
    (house / name).symlink_to(demo_dir(name))
    assert source_of(name) == "demo"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mimic4-demo", lambda folder: plain(folder, "prescriptions")),
        ("mimic3-demo", lambda folder: [plain(folder, table) for table in ("PATIENTS", "ADMISSIONS")]),
        ("eicu-demo", lambda folder: (folder / "admissiondrug.csv.gz").unlink()),
        ("eicu-demo", lambda folder: (folder / "patient.csv.gz").rename(folder / "PATIENT.CSV.GZ")),
        ("mimic4-demo", lambda folder: (folder / "hosp" / "notes.txt").write_text("mine")),
    ],
    ids=["decompressed", "some decompressed", "fewer tables", "another spelling", "something else beside"],
)
def test_a_demo_is_one_however_it_lies_there(name, change, house):
    change(copied(name, house / name))
    assert source_of(name) == "demo"


def other_cell(folder):
    (file,) = folder.rglob("admissions.csv.gz")
    with gzip.open(file, "rb") as stream:
        text = stream.read()
    file.write_bytes(gzip.compress(text.replace(b"EMERGENCY", b"EMERGENCE", 1).replace(b"EW EMER", b"EW EMEQ", 1)))


def cut(folder):
    (file,) = folder.rglob("prescriptions.csv.gz")
    file.write_bytes(file.read_bytes()[:-100])


def beside(folder):
    (file,) = folder.rglob("patients.csv.gz")
    (file.parent / "patients.csv").write_text("subject_id,gender,anchor_age\n1,F,50\n")


def symptoms(folder):
    write_table(folder / "hosp", "symptoms", [{"hadm_id": 22595853, "symptom": "chest pain"}])


def linked(folder):
    (file,) = folder.rglob("patients.csv.gz")
    elsewhere = folder.parent / "closed.csv.gz"
    elsewhere.write_bytes(gzip.compress(b"subject_id,gender,anchor_age\n1,F,50\n"))
    file.unlink()
    file.symlink_to(elsewhere)


@pytest.mark.parametrize("change", [other_cell, cut, beside, symptoms, linked])
def test_what_does_not_match_is_credentialed_and_named(change, house):
    change(copied("mimic4-demo", house / "mimic4-demo"))
    assert source_of("mimic4-demo") == "credentialed"
    (known,) = [cohort for cohort in known_cohorts() if cohort.name == "mimic4-demo"]
    assert known.source == "credentialed"
    assert known.where.startswith(f"{house / 'mimic4-demo'}; hosp/")
    assert known.where.endswith("is not the file that PhysioNet lists for mimic4-demo")


def test_closed_tables_under_the_name_of_a_demo_are_loaded_as_closed(house):
    """Whether they are copied there or linked."""
    admissions = [(p, 9_000_000 + p, "2150-02-05") for p in range(20)]
    orders = [{"subject_id": patient, "hadm_id": visit} for patient, visit, _ in admissions]
    write_mimic3(house / "mimic3", admissions, orders)
    (house / "mimic3-demo").symlink_to(house / "mimic3")
    assert load.load_cohort("mimic3-demo").source == "credentialed"
    (house / "mimic3-demo").unlink()
    shutil.copytree(house / "mimic3", house / "mimic3-demo")
    cohort = load.load_cohort("mimic3-demo")
    assert (cohort.source, cohort.name) == ("credentialed", "mimic3-demo")


def test_another_demo_under_the_name_of_a_demo_proves_nothing(house):
    house.mkdir()
    (house / "mimic4-demo").symlink_to(demo_dir("mimic3-demo"))
    assert source_of("mimic4-demo") == "credentialed"


def test_a_proof_is_remembered_until_a_file_changes(house, monkeypatch):
    folder = copied("mimic4-demo", house / "mimic4-demo")
    read = []
    monkeypatch.setattr(proof.gzip, "open", lambda path, _real=gzip.open: (read.append(path.name), _real(path))[1])
    source_of("mimic4-demo")
    assert len(read) == 7
    proof._memory.clear()  # as another process
    source_of("mimic4-demo")
    assert len(read) == 7
    file = folder / "hosp" / "patients.csv.gz"
    content, times = file.read_bytes(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(content[:-1] + b"x")  # of the same size, and dated back
    os.utime(file, ns=times)
    assert source_of("mimic4-demo") == "credentialed"
    file.write_bytes(content)
    assert source_of("mimic4-demo") == "demo"


def test_a_memory_that_cannot_be_read_or_written_is_none(house, tmp_path):
    house.mkdir()
    (house / "mimic3-demo").symlink_to(demo_dir("mimic3-demo"))
    (tmp_path / "cache").mkdir()
    for content in ("{", "[]", ""):
        (tmp_path / "cache" / "proofs.json").write_text(content)
        proof._memory.clear()
        assert source_of("mimic3-demo") == "demo"
    (tmp_path / "cache" / "proofs.json").unlink()
    (tmp_path / "cache" / "proofs.json").mkdir()
    proof._memory.clear()
    assert source_of("mimic3-demo") == "demo"


# -- invented patients -------------------------------------------------------------------------------------------------


def forged(folder, options):
    """Tables of somebody, with a marker and a seal written by hand."""
    admissions = [(p, 9_000_000 + p, "2150-02-05") for p in range(20)]
    write_mimic3(folder, admissions, [{"subject_id": p, "hadm_id": v} for p, v, _ in admissions])
    (folder / MARKER).write_text(json.dumps(options))
    _seal(folder)
    return folder


def test_a_marker_and_a_seal_written_by_hand_prove_nothing(house, tmp_path):
    options = json.loads((synthetic.synthesize(20).write(tmp_path / "own", "mimic3") / MARKER).read_text())
    forged(house / "mine", options)
    with pytest.raises(MedrecError, match=r"mine holds synthetic.json, but .*not what the generator makes of these"):
        load.load_cohort("mine")


@pytest.mark.parametrize(
    "options", [{}, {"layout": "mimic3"}, {"layout": "mimic9", "n_patients": 3}, {"n_patients": -1}]
)
def test_a_marker_that_names_no_options_proves_nothing(house, options):
    forged(house / "mine", options)
    with pytest.raises(MedrecError, match="names no options of the generator"):
        source_of("mine")


def test_what_this_installation_wrote_is_known_and_a_copy_is_made_again_once(house, monkeypatch):
    made = []
    monkeypatch.setattr(
        synthetic, "synthesize", lambda *a, _real=synthetic.synthesize, **k: (made.append(1), _real(*a, **k))[1]
    )
    name_synthetic("mine", 5, layout="eicu")
    assert source_of("mine") == "synthetic"
    assert len(made) == 1
    shutil.copytree(house / "mine", house / "theirs")
    for _ in range(3):
        assert source_of("theirs") == "synthetic"
    assert len(made) == 2


@pytest.mark.parametrize("file", ["PATIENTS.csv.gz", SEAL, MARKER])
def test_what_was_changed_since_it_was_written_is_refused(house, file):
    folder = name_synthetic("mine", 5)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content.replace(b"5", b"6") if file == MARKER else content[:-2])
    with pytest.raises(MedrecError, match="not as `medrec data synthesize` wrote it"):
        source_of("mine")
