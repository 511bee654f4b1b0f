"""The ten names of the package, and that nothing else takes their place."""

import re
import subprocess
import sys

import pytest

import medrec
from medrec.paths import PACKAGE, base_dir
from tests.toys import real_classes

NAMES = {
    "load_cohort",
    "train",
    "compare",
    "recommend",
    "systems",
    "sweep",
    "Cohort",
    "Run",
    "Comparison",
    "MedrecError",
}


def python(code):
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_package_offers_ten_names():
    assert set(dir(medrec)) == set(medrec.__all__) == NAMES
    with pytest.raises(AttributeError, match="no attribute 'fit_everything'; it offers load_cohort"):
        _ = medrec.fit_everything


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_is_what_it_says(name):
    found = getattr(medrec, name)
    assert found.__name__ == name
    assert found.__module__.startswith("medrec.")
    assert found.__doc__


def test_importing_the_package_loads_nothing_heavy():
    heavy = "('torch', 'polars', 'numpy', 'sklearn', 'rdkit')"
    assert python(f"import sys, medrec; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_no_module_takes_the_place_of_a_name():
    """``import medrec.train`` would put a module where the function is."""
    taken = {path.stem for path in PACKAGE.iterdir()} & NAMES
    assert taken == set()
    code = "import medrec, medrec.cli, medrec.lab.compare, medrec.lab.sweep, medrec.inference, medrec.training;"
    code += f"print([n for n in {sorted(NAMES)} if type(getattr(medrec, n)).__name__ == 'module'])"
    assert python(code) == "[]"


def test_systems_are_their_declarations():
    found = medrec.systems()
    assert len({system.name for system in found}) == len(found) >= 14
    assert {"lr", "bimorec"} <= {system.name for system in found}
    assert {system.task for system in medrec.systems("ranking")} == {"ranking"}


def test_the_readme_runs(tmp_path, monkeypatch):
    """Its lines of Python, on the toy instead of the cohort that they load."""
    text = (base_dir() / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.+?)```", text, flags=re.S)
    monkeypatch.setenv("MEDREC_RUNS_DIR", str(tmp_path))
    monkeypatch.setattr(medrec, "load_cohort", {"synthetic": real_classes(60, seed=1)}.__getitem__, raising=False)
    exec(code, {})
