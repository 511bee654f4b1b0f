"""Kept results: nothing without provenance, whose rows they are, and whether today's code would make them."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import polars as pl
import pytest

from medrec import keys, paths
from medrec.data.cohort import titled
from medrec.lab import kept
from medrec.types import MedrecError
from tests.toys import random_cohort

TABLE = pl.DataFrame(
    {
        "label": ["one", "", None],
        "value": [1.5, None, 1e-9],
        "yes": [True, False, None],
        "n": pl.Series([3, 2, 1], dtype=pl.UInt32),
    }
)
SYSTEMS = ("retain/paper", "lr/paper")


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """An empty checkout with a module of a study, and a run store elsewhere."""
    monkeypatch.setattr(paths, "base_dir", lambda: tmp_path / "checkout")
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path / "runs"))
    (tmp_path / "toystudy.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def save(cohort=None, study="toy", **more):
    given = {"command": "python -m toystudy", "code": kept.code_of("toystudy"), "seconds": 2.0} | more
    return kept.save(study, {"rows": TABLE, "none": TABLE.head(0)}, cohort=cohort, **given)


def test_tables_come_back_with_their_types_and_with_what_made_them():
    cohort = random_cohort(20)
    folder = save(cohort, more={"seeds": 3})
    found = kept.read("toy", cohort)
    assert folder == paths.results_dir() / "toy" / "random-toy"
    assert found.table("rows").equals(TABLE)
    assert found.table("rows").schema["n"] == pl.Int64
    assert found.table("none").schema == found.table("rows").schema
    stored = json.loads((folder / "provenance.json").read_text())
    assert stored["cohort"] == {
        "name": "random-toy",
        "source": "synthetic",
        "content": cohort.content,
        "options": {"seed": 0},
    }
    assert stored["code"] == keys.codes(["toystudy"])
    assert (stored["command"], stored["seeds"], stored["wall_seconds"]) == ("python -m toystudy", 3, 2.0)
    assert {"versions", "device", "threads", "commit", "made"} <= stored.keys()
    assert stored["key"]
    assert {p.name for p in folder.iterdir()} == {"provenance.json", "rows.csv", "none.csv"}


def test_the_key_is_of_code_records_and_what_decides():
    cohort = random_cohort(20)

    def key(cohort=cohort, **more):
        return json.loads((save(cohort, **more) / "provenance.json").read_text())["key"]

    plain = key()
    assert key() == plain
    assert key(command="another", seconds=9.0) == plain
    assert plain not in (key(more={"seeds": 2}), key(random_cohort(20, seed=1)), key(code={"toystudy": "0"}))


def test_whoever_reads_is_recorded_even_where_nothing_is_found():
    folder = save()
    kept.read("toy").table("rows")
    with pytest.raises(MedrecError):
        kept.read("nothing", "synthetic", default="synthetic-6350")
    missing = [paths.results_dir() / "nothing" / name / "provenance.json" for name in ("synthetic", "synthetic-6350")]
    assert {folder / "rows.csv", folder / "provenance.json", *missing} <= paths.files_read()
    assert folder / "none.csv" not in paths.files_read()


def test_a_page_says_what_it_lacks_and_what_makes_it_but_never_hides_damage():
    cohort = replace(random_cohort(20), name="synthetic")
    study = SimpleNamespace(STUDY="toy", COMMAND="python -m toy", read=partial(kept.read, "toy"))
    command = "python -m toy --cohort synthetic"
    assert kept.look(study, cohort) == (None, "No rows of toy are kept.", command)
    folder = save(cohort)
    found = kept.look(study, cohort)
    assert found.rows.folder == folder
    assert (found.line, found.command) == (f"Rows of {titled('synthetic', 'synthetic')}.", command)
    (folder / "provenance.json").write_text("{")
    with pytest.raises(MedrecError, match="is damaged"):
        kept.look(study, cohort)


def test_own_rows_come_first_then_those_of_the_default_which_says_whose_they_are():
    default, own = replace(random_cohort(20), name="synthetic"), replace(random_cohort(20), name="mimic3-demo")
    own = replace(own, source="demo")
    with pytest.raises(MedrecError, match=r"for cohort 'mimic3-demo' or 'synthetic'. Make them with `make it`"):
        kept.read("toy", own, default="synthetic", command="make it")
    save(default)
    with pytest.raises(MedrecError, match=r"for cohort 'mimic3-demo'. `medrec kept`"):
        kept.read("toy", own)
    assert kept.read("toy", own, default="synthetic").cohort == "synthetic"
    assert kept.read("toy", "mimic3-demo", "demo", default="synthetic").source == "synthetic"
    save(own)
    assert kept.read("toy", own, default="synthetic").cohort == "mimic3-demo"


def test_rows_of_credentialed_records_stay_out_of_the_checkout_and_single_patients_out_of_them(checkout):
    closed = replace(random_cohort(20), name="mimic3", source="credentialed")
    folder = save(closed)
    assert folder.is_relative_to(checkout / "runs")
    assert not paths.results_dir().exists()
    assert kept.read("toy", closed).table("rows").equals(TABLE)
    with pytest.raises(MedrecError, match="single patients"):
        kept.save("toy", {"rows": pl.DataFrame({"subject_id": [1]})}, cohort=closed, command="", code={}, seconds=0)
    assert [found.name for found in kept.all_kept()] == ["toy/mimic3"]


def test_a_table_that_was_edited_or_cut_off_is_no_table(checkout):
    folder = save()
    file = folder / "rows.csv"
    whole = file.read_bytes()
    for content in (whole.replace(b"1.5", b"1.6"), whole[:-8], b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(MedrecError, match=r"git restore .*toy.*python -m toystudy"):
            kept.read("toy").table("rows")
    file.write_bytes(whole.replace(b"\n", b"\r\n") + b"\r\n")
    assert kept.read("toy").table("rows").equals(TABLE), "line ends say nothing"
    file.unlink()
    with pytest.raises(MedrecError, match="cannot be read"):
        kept.read("toy").table("rows")
    for content in ('{"study"', '{"study": "toy"}', "[]"):
        (folder / "provenance.json").write_text(content)
        with pytest.raises(MedrecError, match="is damaged"):
            kept.read("toy")
    with pytest.raises(MedrecError, match="keeps no table 'other'; it keeps rows, none"):
        save() and kept.read("toy").table("other")


def test_a_failure_leaves_the_rows_that_were_there(monkeypatch):
    save()
    before = kept.read("toy").provenance["key"]
    monkeypatch.setattr("medrec.runs.write_json", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(MedrecError, match="No space left"):
        save(more={"seeds": 9})
    found = kept.read("toy")
    assert found.provenance["key"] == before
    assert found.table("rows").equals(TABLE)


def test_what_csv_cannot_hold_is_refused():
    for column in (pl.Series(["a\nb", "a\n\nb"]), pl.Series([[1], [2]])):
        with pytest.raises((ValueError, pl.exceptions.ComputeError)):
            kept.save("toy", {"rows": pl.DataFrame({"x": column})}, cohort=None, command="", code={}, seconds=0)
    with pytest.raises(ValueError, match="'key' is written by the store"):
        save(more={"key": "mine"})


# -- current or not ------------------------------------------------------------------------------------------------


def test_a_comment_leaves_rows_current_and_another_number_does_not(checkout):
    save()
    module = checkout / "toystudy.py"
    assert (kept.read("toy").status, kept.read("toy").note) == ("current", "")
    module.write_text('"""Now with words."""\n\nVALUE = 1  # one\n')
    assert kept.read("toy").status == "current"
    module.write_text("VALUE = 2\n")
    assert kept.read("toy").status == "made by older code: toystudy"
    assert kept.read("toy").note == "Made by older code."


def test_rows_without_a_key_are_old_and_say_so():
    file = save() / "provenance.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"key": None}))
    assert (kept.read("toy").status, kept.read("toy").note) == ("made by older code", "Made by older code.")


def test_rows_of_a_cohort_that_has_changed_are_not_current():
    save(random_cohort(20))
    assert kept.read("toy", random_cohort(20)).status == "current"
    assert kept.read("toy", "random-toy").status == "current", "a name does not tell"
    assert kept.read("toy", random_cohort(20, seed=1)).note == "Made from other records of this name."
    other = replace(random_cohort(20, seed=1), name="other")
    assert kept.read("toy", other, default="random-toy").status == "current", "somebody else's rows"


def locked(**scores):
    entries = {name: {"loss": [1.0], "scores": [scores.get(name[:2], 0.5)], "threshold": 0.4} for name in SYSTEMS}
    file = paths.results_dir() / "behaviour.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(entries))
    return file


def changed(monkeypatch, *modules):
    monkeypatch.setattr(keys, "changed_modules", lambda codes: [m for m in codes if m in modules])


def test_code_that_changed_without_moving_any_system_leaves_rows_current(monkeypatch):
    lock = locked()
    save(code=kept.code_of("toystudy", systems=SYSTEMS), systems=SYSTEMS)
    assert {"medrec.models.retain", "medrec.models.lr", "medrec.fit", "toystudy"} <= kept.read("toy").provenance[
        "code"
    ].keys()
    changed(monkeypatch, "medrec.models.retain", "medrec.fit")
    assert kept.read("toy").status == "current"
    assert lock in paths.files_read()
    locked(lr=0.6)
    assert kept.read("toy").status == "made by older code: fit, models.retain"
    locked()
    changed(monkeypatch, "medrec.models.retain", "medrec.metrics", "toystudy")
    assert kept.read("toy").status == "made by older code: metrics, toystudy", "of these the toy cohort says nothing"
    lock.unlink()
    assert kept.read("toy").status == "made by older code: metrics, models.retain, toystudy"


def test_what_a_study_uses_besides_its_trainings_is_not_excused(monkeypatch):
    locked()
    code = kept.code_of("toystudy", systems=SYSTEMS) | keys.codes(["medrec.chem.similarity"])
    save(code=code, systems=SYSTEMS)
    changed(monkeypatch, "medrec.chem.similarity", "medrec.models.retain")
    assert kept.read("toy").status == "made by older code: chem.similarity"


def test_everything_that_is_kept_is_listed():
    save()
    save(random_cohort(20), study="grids/small")
    (paths.results_dir() / ".half").mkdir()
    (paths.results_dir() / ".half" / "provenance.json").write_text("{")
    assert [(found.name, found.cohort) for found in kept.all_kept()] == [
        ("grids/small/random-toy", "random-toy"),
        ("toy", None),
    ]
