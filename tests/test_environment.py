"""The files that describe the environment agree with each other."""

import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: lines for name, lines in PROJECT["optional-dependencies"].items() if name != "minilm"}
"""Without the language model of 90 MB, which nothing in book or tests needs."""
NEEDED = [Requirement(line) for line in [*PROJECT["dependencies"], *(x for extra in EXTRAS.values() for x in extra)]]
DECLARED = [*NEEDED, *map(Requirement, PROJECT["optional-dependencies"]["minilm"])]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def test_environment_yml_installs_what_pyproject_declares():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, last = environment["dependencies"]
    # Python and pip come from conda, and nothing else: two sources for one package would part ways.
    assert conda == [f"python{PROJECT['requires-python']}", "pip"]
    (editable, constraints) = last["pip"]
    extras = editable.removeprefix("-e .[").removesuffix("]").split(",")
    assert sorted(extras) == sorted(EXTRAS)
    assert constraints == "-c constraints.txt"


def test_the_makefile_installs_the_same():
    assert '-e ".[book,dev]" -c constraints.txt' in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_every_dependency_is_pinned_to_a_version_that_it_allows(requirement):
    version = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version)


def test_what_dependencies_need_is_pinned_too():
    """Follow the installed packages' own requirements: each one that applies here has its exact version."""
    pinned, environment = pins(), default_environment()
    waiting, seen = [canonicalize_name(requirement.name) for requirement in NEEDED], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed here; the check needs the whole environment")
        for requirement in map(Requirement, needed):
            if requirement.marker is None or requirement.marker.evaluate({**environment, "extra": ""}):
                waiting.append(canonicalize_name(requirement.name))
    missing = sorted(name for name in seen if name not in pinned and name not in {"setuptools", "pip"})
    assert missing == []


def test_no_pin_points_to_a_place():
    """Exact public versions only: no local builds, no folders, no addresses."""
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            assert not {"@", "/", "+"} & set(line), line
