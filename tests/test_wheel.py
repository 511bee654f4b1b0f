"""The installed package works without the checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from medrec.paths import base_dir

NEEDED = ("pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what the wheel holds, and nothing else of the checkout."""
    source, wheels, site = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "site"))
    if not all((base_dir() / name).is_file() for name in NEEDED):
        pytest.skip("a wheel is built from a checkout, and this is none")
    # Of a copy: building leaves folders behind.
    for name in NEEDED:
        shutil.copy(base_dir() / name, source)
    shutil.copytree(base_dir() / "medrec", source / "medrec", ignore=shutil.ignore_patterns("__pycache__"))
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", source, "--no-deps", "--no-build-isolation", "-w", wheels],
        capture_output=True,
        text=True,
    )
    for tool in ("pip", "setuptools"):
        if f"No module named {tool}" in built.stderr.replace("'", "") or "BackendUnavailable" in built.stderr:
            pytest.skip(f"{tool} is not at hand, and without it no wheel is built")
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.glob("medrec-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


# In one process, because loading everything takes longer than what is done.
COMMANDS = (
    "data synthesize --patients 80 --name tiny",
    "train lr --cohort tiny",
    "compare lr popularity --cohort tiny",
    "train safedrug --cohort tiny --set epochs=1",
    "recommend --diagnoses 428.0 --json",
    "systems lr",
    "cohorts",
)
SCRIPT = """
import json, sys
from typer.testing import CliRunner
import medrec.cli
said = [medrec.__file__]
for words in sys.argv[1:]:
    result = CliRunner().invoke(medrec.cli.app, words.split())
    assert result.exit_code == 0, (words, result.output)
    said.append(result.stdout)
print(json.dumps(said))
"""


@pytest.mark.slow
def test_the_wheel_trains_compares_and_recommends(installed, tmp_path):
    home = tmp_path / "work"
    home.mkdir()
    places = {f"MEDREC_{name}_DIR": str(tmp_path / name.lower()) for name in ("DATA", "RUNS", "CACHE")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *COMMANDS],
        capture_output=True,
        text=True,
        env={**os.environ, **places, "PYTHONPATH": str(installed)},
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    where, made, lr, compared, safedrug, recommended, settings, cohorts = json.loads(done.stdout)
    assert where.startswith(str(installed))
    assert (tmp_path / "data" / "tiny").is_dir(), made
    assert "Jaccard" in lr
    assert "paired" in compared
    assert "not converged" in safedrug  # its molecules come from the tables of the package
    answer = json.loads(recommended)
    assert answer["cohort"]["name"] == "synthetic"
    assert answer["medications"]
    assert "scikit-learn's default" in settings
    assert "tiny" in cohorts
    assert list(home.iterdir()) == []
