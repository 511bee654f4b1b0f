"""Data flows from the first room to the last and never back: read from the imports of every module."""

import ast

import pytest

from medrec import keys, paths

# fmt: off
ROOMS = (
    "types", "arguments", "progress", "paths", "folders", "keys", "losses", "metrics", "nn", "knowledge", "chem",
    "data", "text", "graphs", "context", "models", "tasks", "fit", "runs", "training", "inference", "plotting", "lab",
    "experiments", "book", "cli",
)
# fmt: on
"""In this order; a room imports from itself and from those before it."""
PLANTED_CONTROLS = "medrec.data.synthetic.controls"
"""The one module of ``data`` that looks at molecules."""


def all_modules():
    files = sorted(paths.PACKAGE.rglob("*.py"))
    names = (".".join(file.relative_to(paths.PACKAGE.parent).with_suffix("").parts) for file in files)
    return [name.removesuffix(".__init__") for name in names]


MODULES = frozenset(all_modules())


def imported(source, module, *, package=False, modules=MODULES):
    """Modules that a module imports, at any depth of its code, but for what only type checkers read.

    ``from a import b`` is an import of ``a.b`` where that is a module, and of ``a`` otherwise; everybody may ask the
    package for its name and version.
    """
    here = module if package else module.rpartition(".")[0]
    found = set()
    for node in keys._running(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} - {"medrec"}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = here.split(".")
                base = ".".join(filter(None, [*parents[: len(parents) - node.level + 1], base]))
            whole = {f"{base}.{alias.name}" for alias in node.names if not alias.name.startswith("__")}
            found |= (whole & modules) | ({base} if whole - modules else set())
    return found & modules


def graph():
    read = {}
    for module in MODULES:
        file = keys.source_of(module)
        read[module] = imported(file.read_text(encoding="utf-8"), module, package=file.name == "__init__.py")
    return read


@pytest.fixture(scope="module")
def imports():
    return graph()


def room(module):
    return module.partition("medrec.")[2].partition(".")[0]


def rank(module):
    return len(ROOMS) if module == "medrec" else ROOMS.index(room(module))


def breaches(imports):
    """Imports of a later room; the package's own face comes last of all."""
    for module, others in sorted(imports.items()):
        for other in sorted(others):
            later = rank(other) > rank(module)
            chem = room(other) == "chem" and room(module) == "data" and module != PLANTED_CONTROLS
            if later or chem:
                yield f"{module} imports {other}"


def circle(imports):
    """One circle of imports, or nothing."""
    done, path = set(), []

    def walk(module):
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        path.append(module)
        for other in sorted(imports[module]):
            if found := walk(other):
                return found
        path.pop()
        done.add(module)
        return []

    return next((found for module in sorted(imports) if (found := walk(module))), [])


def test_every_module_is_in_a_room_of_the_list():
    assert {room(module) for module in MODULES - {"medrec"}} <= set(ROOMS)


def test_no_room_imports_from_a_later_one(imports):
    assert list(breaches(imports)) == []


def test_there_is_no_circle_of_imports(imports):
    assert circle(imports) == []


def test_the_reading_of_imports_sees_what_it_should():
    source = """
from typing import TYPE_CHECKING
import medrec
import medrec.b
from medrec import c, __version__
from . import sibling
if TYPE_CHECKING:
    from medrec import unseen
def late():
    from medrec.d import deep, thing
"""
    names = ("a.x", "a.sibling", "b", "c", "d", "d.deep", "unseen")
    modules = frozenset(("medrec", *(f"medrec.{name}" for name in names)))
    found = imported(source, "medrec.a.x", modules=modules)
    assert found == {"medrec.a.sibling", "medrec.b", "medrec.c", "medrec.d", "medrec.d.deep"}
    assert imported("from medrec import train", "medrec.a.x", modules=modules) == {"medrec"}


def test_breaches_and_circles_are_found():
    assert list(breaches({"medrec.data.x": {"medrec.data.y", "medrec.knowledge", "medrec.models.lr"}})) == [
        "medrec.data.x imports medrec.models.lr"
    ]
    assert list(breaches({"medrec.data.x": {"medrec.chem.graphs"}, PLANTED_CONTROLS: {"medrec.chem.graphs"}})) == [
        "medrec.data.x imports medrec.chem.graphs"
    ]
    assert list(breaches({"medrec.lab.x": {"medrec", "medrec.runs"}})) == ["medrec.lab.x imports medrec"]
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
