"""Content keys: the same content has the same key, and anything that makes other numbers another one."""

import shutil

import numpy as np
import pytest

from medrec import context, keys
from medrec.knowledge import interactions, structures
from medrec.models import registry
from medrec.paths import PACKAGE
from medrec.training import Plan, code_of
from tests.toys import real_classes, with_titles

# -- values, files, code -----------------------------------------------------------------------------------------------


def test_values_of_another_kind_shape_or_place_are_others():
    array = np.arange(6)
    others = [array.astype(np.int32), array.reshape(2, 3), array[::-1], array.tolist(), b"", "x"]
    assert len({keys.digest(other) for other in [array, *others]}) == 7
    assert keys.digest({"a": 1, "b": 2}) == keys.digest({"b": 2, "a": 1})
    assert keys.digest("ab", "c") != keys.digest("a", "bc")


CODE = 'def f(x):\n    """Twice."""\n    return 2 * x\n'


@pytest.mark.parametrize(
    "same",
    [
        'def f(x):\n    """Double."""\n    return 2 * x\n',
        "# a remark\ndef f(x):\n\n    return (2\n            * x)  # twice\n",
    ],
)
def test_comments_docstrings_and_layout_are_no_code(same):
    assert keys.canonical(CODE) == keys.canonical(same)


@pytest.mark.parametrize("other", ["return 2.0 * x", "return x * 2", "return 2 * x * 0", "return 2 * y", "yield 2 * x"])
def test_anything_else_is(other):
    assert keys.canonical(CODE) != keys.canonical(CODE.replace("return 2 * x", other))


def test_text_behind_an_attribute_is_no_code_but_a_string_that_is_used_is():
    assert keys.canonical('A = 1\n"""One."""') == keys.canonical("A = 1")
    assert keys.canonical('A = "one"') != keys.canonical('A = "two"')


def test_a_file_is_what_it_holds(tmp_path):
    one, two = tmp_path / "a", tmp_path / "b"
    one.write_text("x")
    two.write_text("x")
    assert keys.file_digest(one) == keys.file_digest(two)
    together = keys.files_digest([one, two], tmp_path)
    two.write_text("x\n")
    assert keys.files_digest([one, two], tmp_path) != together
    two.unlink()
    assert keys.files_digest([one, two], tmp_path) != together


def test_imports_are_followed_as_far_as_asked_and_not_for_type_checkers():
    found = keys.closure(["medrec.models.retain"], keys.in_rooms("models"))
    assert found == ("medrec.models.base", "medrec.models.retain")
    assert "medrec.chem.molecules" not in keys.imports_of("medrec.models.bimorec"), "for type checkers only"
    assert "medrec.models.bimorec_pretraining" in keys.imports_of("medrec.models.bimorec"), "inside a function"


# -- the code of a system ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", registry.NAMES)
def test_a_systems_code_is_its_own_module_the_loop_the_task_and_no_reader(name):
    system = registry.get(name)
    found = code_of(system)
    assert {system.module, "medrec.fit", "medrec.training", f"medrec.tasks.{system.task}"} <= set(found)
    wrong = ("medrec.data.mimic3", "medrec.data.privacy", "medrec.plotting", "medrec.cli", "medrec.runs", "medrec.book")
    assert not [module for module in found if module.startswith(wrong)]
    others = {registry.get(other).module for other in registry.NAMES} - {system.module, "medrec.models.popularity"}
    # Some systems use a function of another one, and everybody is compared with popularity; nobody depends on all.
    assert len(others & set(found)) <= 1


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the package's sources, from which keys are made."""
    shutil.copytree(PACKAGE, tmp_path / "medrec", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(keys, "PACKAGE", tmp_path / "medrec")
    return tmp_path / "medrec"


def edit(copied, module, old, new):
    file = copied / module
    text = file.read_text()
    assert old in text, f"{module} has changed: this test has to be told what to edit"
    file.write_text(text.replace(old, new, 1))


def key_of(name, cohort, **more):
    return Plan.of(name, cohort, **more).resolved()["key"]


@pytest.fixture(scope="module")
def cohort():
    return real_classes(30, seed=1)


EDITS = [
    # module, what stands there, what is put there, whose key must change, whose must not
    ("models/retain.py", "logits = self.output(", "logits = 0 * self.output(", ["retain"], ["leap", "lr"]),
    ("models/micron.py", "return weights @", "return 0 * weights @", ["micron"], ["retain"]),
    ("models/lr.py", "return expit(", "return 0 * expit(", ["lr", "ecc"], ["retain"]),
    ("fit.py", "optimiser.step()", "optimiser.zero_grad()", ["retain", "lr", "repeat"], []),
    ("models/base.py", "lr=config.learning_rate", "lr=config.learning_rate * 0", ["retain", "bimorec"], []),
    ("tasks/visits.py", "best[np.argmin(", "best[np.argmax(", ["retain", "lr"], ["repeat"]),
    ("metrics.py", "def jaccard(", "def jaccard_index(", ["retain", "lr", "repeat"], []),
    ("losses.py", "def ddi_loss(", "def ddi_penalty(", ["gamenet", "bimorec"], ["retain", "lr"]),
    ("nn/gin.py", "def mean_readout(", "def readout(", ["bimorec", "molerec"], ["safedrug", "retain"]),
    ("chem/graphs.py", "def molecular_graph(", "def graph_of(", ["bimorec", "safedrug"], ["retain", "gamenet"]),
    ("data/batch.py", "rng.permutation(patients)", "patients", ["retain", "bimorec"], []),
    ("data/eicu.py", "import", "import sys\nimport", [], ["retain", "lr", "bimorec"]),
    ("data/privacy.py", "limit: int = LIMIT", "limit: int = LIMIT + 1", [], ["retain", "lr", "bimorec"]),
    ("plotting.py", "FULL = 7.2", "FULL = 7.3", [], ["retain", "lr", "bimorec"]),
]


@pytest.mark.parametrize(("module", "old", "new", "others", "same"), EDITS, ids=[edit[0] for edit in EDITS])
def test_code_that_makes_other_numbers_is_another_key_and_no_other_code_is(
    cohort, copied, module, old, new, others, same
):
    before = {name: key_of(name, cohort) for name in (*others, *same)}
    edit(copied, module, old, new)
    changed = [name for name in before if key_of(name, cohort) != before[name]]
    assert changed == others


def test_a_comment_changes_no_key(cohort, copied):
    before = {name: key_of(name, cohort) for name in registry.NAMES}
    for file in copied.rglob("*.py"):
        file.write_text(file.read_text() + "\n# a remark\n")
    assert {name: key_of(name, cohort) for name in registry.NAMES} == before


# -- the content of everything else ------------------------------------------------------------------------------------

MOLECULAR = [name for name in registry.NAMES if "molecules" in registry.get(name).needs]


@pytest.mark.parametrize("name", registry.NAMES)
def test_structures_moved_on_by_one_drug_are_others_for_those_who_look_at_them(cohort, monkeypatch, name):
    before = key_of(name, cohort)
    known = structures._smiles()
    moved = dict(zip(known, [*list(known.values())[1:], next(iter(known.values()))], strict=True))
    monkeypatch.setattr(structures, "_smiles", lambda: moved)
    assert (key_of(name, cohort) != before) == (name in MOLECULAR)


@pytest.mark.parametrize("name", registry.NAMES)
def test_titles_codes_seeds_and_settings_are_part_of_every_key(cohort, name):
    system = registry.get(name)
    others = [
        key_of(name, with_titles(cohort)),
        key_of(name, real_classes(30, seed=2)),
        key_of(name, cohort, seed=1),
        key_of(name, cohort, split_seed=1),
    ]
    if system.is_network:
        others += [key_of(name, cohort, settings={"learning_rate": 0.123})]
    others += [key_of(name, cohort, variant=v) for v in system.variants if v != "paper"]
    assert len({key_of(name, cohort), *others}) == len(others) + 1


@pytest.mark.parametrize("name", registry.NAMES)
def test_another_interaction_list_is_another_key_whatever_the_file_is_called(cohort, tmp_path, name):
    first, second = cohort.vocab["medication"].codes[:2]
    for file, pair in (("a.csv", (first, second)), ("b.csv", (first, second))):
        (tmp_path / file).write_text(f"atc3_1,atc3_2\n{pair[0]},{pair[1]}\n")
    own, a, b = (key_of(name, cohort, ddi=path) for path in (None, tmp_path / "a.csv", tmp_path / "b.csv"))
    assert own != a == b
    (tmp_path / "a.csv").write_text(f"atc3_1,atc3_2\n{first},{cohort.vocab['medication'].codes[2]}\n")
    assert key_of(name, cohort, ddi=tmp_path / "a.csv") != b


def test_names_are_no_part_of_a_key(cohort):
    from dataclasses import replace

    assert key_of("lr", replace(cohort, name="another name")) == key_of("lr", cohort)


def test_what_decides_only_how_scores_are_counted_is_no_part_of_a_key(cohort):
    from medrec.tasks.visits import PROTOCOLS, Protocol

    counted = Protocol("x", scored="from second", aggregation="visits", threshold=0.3, bootstrap="field")
    assert key_of("lr", cohort, protocol=counted) == key_of("lr", cohort)
    seen = [Protocol("x", split="file order"), Protocol("x", selection="test"), PROTOCOLS["SafeDrug line"]]
    found = [key_of("retain", cohort, protocol=p) for p in seen]
    assert found[0] == found[2] != key_of("retain", cohort) != found[1] != found[0]


def test_looking_up_builds_no_context(cohort, monkeypatch):
    monkeypatch.setattr(context, "build", lambda *a, **k: pytest.fail("a context was built"))
    for name in MOLECULAR:
        key_of(name, cohort)


def test_the_matrix_counts_and_not_the_rows_of_the_list(cohort, monkeypatch):
    before = key_of("lr", cohort)
    matrix, source = interactions.class_interactions(cohort.vocab["medication"].codes)
    monkeypatch.setattr(context, "class_interactions", lambda *_: (matrix.copy(), "another source"))
    assert key_of("lr", cohort) == before
    other = matrix.copy()
    other[0, 1] = other[1, 0] = not other[0, 1]
    monkeypatch.setattr(context, "class_interactions", lambda *_: (other, source))
    assert key_of("lr", cohort) != before


def test_a_damaged_memory_of_parsed_code_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREC_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(keys, "_known", {})
    expected = keys.codes(["medrec.models.retain"]), keys.imports_of("medrec.models.retain")
    file = keys._cache_file()
    whole = file.read_bytes()
    for damaged in (whole.replace(b"medrec.", b"medrek."), whole[: len(whole) // 2], b"", b"[1]"):
        file.write_bytes(damaged)
        monkeypatch.setattr(keys, "_known", {})
        assert (keys.codes(["medrec.models.retain"]), keys.imports_of("medrec.models.retain")) == expected
