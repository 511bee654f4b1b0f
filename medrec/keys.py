"""Content keys: two things have the same key when they are made of the same, whatever they are called.

Every key of the project is made here: of cohorts, runs, kept rows and executed chapters.  A key is a hash of values
(:func:`digest`), of files (:func:`file_digest`), and of **code**: what a module says without comments, docstrings and
layout (:func:`code_digest`), together with the modules that it imports (:func:`closure`).  So a comment changes no key,
and a number multiplied by zero changes it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from medrec.paths import PACKAGE, cache_dir

LENGTH = 16
"""Hexadecimal digits of a key."""
FORM = 2
"""Of the form in which code is compared; another form is another key."""


# -- values and files ------------------------------------------------------------------------------------------------


def digest(*parts: Any) -> str:
    """Hash of values: numbers, text, lists and mappings as JSON, arrays and bytes as they are.

    Args:
        parts: arrays count with their kind and shape; mappings are the same in any order.

    Returns:
        :data:`LENGTH` hexadecimal digits.
    """
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            content = part
        elif isinstance(part, np.ndarray):
            found.update(f"{part.dtype.str}{part.shape}".encode())
            content = np.ascontiguousarray(part).tobytes()
        else:
            content = json.dumps(part, sort_keys=True, default=str).encode()
        found.update(len(content).to_bytes(8, "little") + content)
    return found.hexdigest()[:LENGTH]


def file_digest(path: Path) -> str:
    """Hash of a file's bytes; read once for each date and size that it has."""
    status = path.stat()
    return _file_digest(path, status.st_mtime_ns, status.st_size)


@cache
def _file_digest(path: Path, _modified: int, _size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:LENGTH]


def files_digest(paths: Iterable[Path], root: Path) -> str:
    """Hash of several files and of their names below ``root``; one that is missing counts as missing."""
    return digest(
        {
            path.relative_to(root).as_posix(): file_digest(path) if path.is_file() else None
            for path in sorted(set(paths))
        }
    )


# -- code ------------------------------------------------------------------------------------------------------------


def code_digest(module: str) -> str:
    """Hash of what a module does: its syntax tree without comments, docstrings and layout.

    The tree is written in our own form, which is the same on every Python that the project supports.

    Raises:
        ModuleNotFoundError: there is no source of such a module.
    """
    _asked.add(module)
    return _read(module)[0]


_asked: set[str] = set()


def codes_asked() -> frozenset[str]:
    """Modules whose code this process has asked for, to make a key or to compare one.

    Whoever takes a run or a cohort from the store has not imported what made it; it is a dependency all the same.
    """
    return frozenset(_asked)


def imports_of(module: str) -> tuple[str, ...]:
    """Modules that a module imports, at any depth of its code, without what only type checkers read."""
    return tuple(_read(module)[1])


def closure(modules: Iterable[str], follow: Callable[[str], bool]) -> tuple[str, ...]:
    """The modules, and all that they import directly or through others, as far as ``follow`` says yes; sorted."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        waiting += [name for name in imports_of(module) if name not in found and follow(name)]
    return tuple(sorted(found))


def codes(modules: Iterable[str]) -> dict[str, str]:
    """:func:`code_digest` of each module, by name: which of them changed can be told later."""
    return {module: code_digest(module) for module in sorted(set(modules))}


def changed_modules(then: Mapping[str, str]) -> list[str]:
    """Modules whose code is no longer what :func:`codes` said then; those that are gone among them."""
    return [module for module, code in then.items() if _code_or_none(module) != code]


def _code_or_none(module: str) -> str | None:
    try:
        return code_digest(module)
    except (ModuleNotFoundError, SyntaxError):  # gone, or half written
        return None


def in_rooms(*rooms: str) -> Callable[[str], bool]:
    """For :func:`closure`: modules of these rooms of the package, e.g. ``"models"`` or ``"losses"``."""
    return lambda module: module.startswith("medrec.") and module.split(".")[1] in rooms


def source_of(module: str) -> Path:
    """File of a module, of this package or another one.

    Raises:
        ModuleNotFoundError: there is none.
    """
    parts = module.split(".")
    if parts[0] == "medrec":
        # Without importing the packages above it.
        stem = PACKAGE.joinpath(*parts[1:])
        for path in (stem / "__init__.py", stem.with_suffix(".py")):
            if path.is_file():
                return path
        raise ModuleNotFoundError(f"There is no module {module}.")
    loaded = sys.modules.get(module)
    origin = getattr(loaded, "__file__", None)
    if origin is None:
        spec = importlib.util.find_spec(module)
        origin = None if spec is None else spec.origin
    if origin is None or not origin.endswith(".py"):
        raise ModuleNotFoundError(f"There is no source of a module {module}.")
    return Path(origin)


def canonical(source: str) -> str:
    """What a piece of Python says, without comments, docstrings and layout.

    Example:
        >>> canonical("x = 1  # one") == canonical("x   =  1")
        True
    """
    return " ".join(_tokens(ast.parse(source)))


_SILENT_FIELDS = {"ctx", "kind", "type_comment", "type_ignores"}


def _tokens(node: Any) -> Iterator[str]:
    if isinstance(node, ast.AST):
        yield f"{type(node).__name__}("
        for name, value in ast.iter_fields(node):
            # Fields that a later Python adds are empty for code of an earlier one.
            if name in _SILENT_FIELDS or value is None or value == []:
                continue
            yield f"{name}="
            yield from _tokens(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for part in node:
            if not _is_text(part):
                yield from _tokens(part)
        yield "]"
    else:
        yield f"{type(node).__name__}:{node!r}"


def _is_text(node: Any) -> bool:
    """A docstring, or a string that stands alone behind an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


# -- what is read once ------------------------------------------------------------------------------------------------


def _read(module: str) -> tuple[str, list[str]]:
    """Hash of a module's code, and what it imports."""
    path = source_of(module)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    content = path.read_bytes()
    return _parsed(hashlib.sha256(content + package.encode()).hexdigest(), content.decode("utf-8"), package)


_known: dict[str, tuple[str, list[str]]] = {}


def _parsed(raw: str, source: str, package: str) -> tuple[str, list[str]]:
    """Parsing takes longer than everything else about a key, so that what was parsed once is kept on disk."""
    if raw not in _known:
        _known.update(_load())
    if raw not in _known:
        _known[raw] = (digest(FORM, canonical(source)), sorted(_imports(source, package)))
        _store()
    return _known[raw]


def _cache_file() -> Path:
    return cache_dir() / f"code-{FORM}.json"


def _load() -> dict[str, tuple[str, list[str]]]:
    """What was parsed before; an entry that does not fit its checksum counts as unknown."""
    try:
        stored = json.loads(_cache_file().read_text(encoding="utf-8"))
        return {
            raw: (str(code), list(names))
            for raw, (code, names, check) in stored.items()
            if digest(raw, code, names) == check
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _store() -> None:
    """Keep what was parsed; where nothing can be written it is parsed again the next time."""
    file = _cache_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".code-")
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            both = {**_load(), **_known}
            json.dump({raw: [code, names, digest(raw, code, names)] for raw, (code, names) in both.items()}, out)
        os.replace(name, file)
    except OSError:
        return


def _imports(source: str, package: str) -> set[str]:
    """Names of modules that can be found: those of this package, and those beside an outside one."""
    root = package.partition(".")[0]
    found: set[str] = set()
    for node in _running(ast.parse(source)):
        match node:
            case ast.Import(names=aliases):
                names = [alias.name for alias in aliases]
            case ast.ImportFrom(module=base, names=aliases, level=level):
                if level:
                    parents = package.split(".")
                    base = ".".join(filter(None, [*parents[: len(parents) - level + 1], base or ""]))
                # `from package import name` may bring in a module.
                names = [base or "", *(f"{base}.{alias.name}" for alias in aliases)]
            case _:
                continue
        for name in names:
            if name.partition(".")[0] in ("medrec", root) and name and _exists(name):
                found.add(name)
    return found


def _exists(module: str) -> bool:
    try:
        source_of(module)
    except (ModuleNotFoundError, ValueError):
        return False
    return True


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below one, without what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and re.fullmatch(r"(typing\.)?TYPE_CHECKING", ast.unparse(child.test)):
            continue
        yield child
        yield from _running(child)
