"""What an executed chapter rests on, as its own kernel tells it after the last cell, and whether that has changed.

A chapter is out of date when its source, its parameters, code that its kernel loaded, or a file that it read is no
longer what it was.  Code is compared as in every other key (:mod:`medrec.keys`): a comment changes nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrec import keys, paths

if TYPE_CHECKING:
    from nbformat import NotebookNode

MIME = "application/vnd.medrec.footprint+json"
# What is loaded is asked first: this module is no part of any chapter.
CELL = """\
import sys
_loaded = tuple(sys.modules)
from medrec.book import footprint
footprint.tell(_loaded)"""


# -- in the kernel -----------------------------------------------------------------------------------------------------


def cell() -> NotebookNode:
    """A last cell, which tells what the kernel has loaded and read; :func:`take` takes it out again."""
    import nbformat

    return nbformat.v4.new_code_cell(CELL, metadata={"tags": ["remove-cell"]})


def tell(loaded: Iterable[str]) -> None:
    """Display the footprint of this process.

    Args:
        loaded: names of modules.
    """
    from IPython.display import display

    told = {
        "modules": sorted(_modules(set(loaded))),
        "files": sorted(map(str, paths.files_read())),
        "databases": paths.data_asked(),
    }
    display({MIME: told}, raw=True)


def _modules(loaded: set[str]) -> Iterator[str]:
    """Modules of the package, those of packages that brought a system, and those that a key was made of."""
    registry = sys.modules.get("medrec.models.registry") if "medrec.models.registry" in loaded else None
    systems = registry.from_elsewhere() if registry else ()
    ours = {"medrec", *(system.module.partition(".")[0] for system in systems)}
    for name in loaded | keys.codes_asked():
        # A module may have no Python source.
        if name.partition(".")[0] in ours and name != "__main__" and _has_source(name):
            yield name


def _has_source(module: str) -> bool:
    try:
        keys.source_of(module)
    except (ModuleNotFoundError, ValueError):
        return False
    return True


# -- in the runner -----------------------------------------------------------------------------------------------------


def take(notebook: NotebookNode, start: int) -> dict[str, Any]:
    """Take the last cell out of an executed notebook, and hash what it told.

    Args:
        notebook: as executed, with :func:`cell` at its end.
        start: when the execution began, nanoseconds; what was written since then counts as changed, since nobody
            knows whether the chapter saw it before or after.

    Returns:
        ``modules`` and ``files``, each with the hash of its content, and ``databases``: a hash of the names of the
        tables at hand, or ``None`` where the chapter did not ask.
    """
    told = next(output.data[MIME] for output in notebook.cells.pop().outputs if MIME in output.get("data", {}))
    modules = {
        name: "changed" if _written_since(keys.source_of(name), start) else keys.code_digest(name)
        for name in told["modules"]
    }
    names = {name for file in told["files"] if (name := _name(Path(file)))}
    files = {
        name: "changed" if _written_since(_place(name), start) else digest
        for name, digest in _digests(names | _data_files(modules)).items()
    }
    return {"modules": modules, "files": files, "databases": _databases() if told["databases"] else None}


def _written_since(path: Path, start: int) -> bool:
    return path.exists() and path.stat().st_mtime_ns > start


def changed(then: Mapping[str, Any]) -> list[str]:
    """What of a footprint is not what it was: names of modules and files, and ``databases``.

    Args:
        then: as :func:`take` gave it.
    """
    found = keys.changed_modules(then["modules"])
    now = _digests(set(then["files"]) | _data_files(then["modules"]))
    found += [name for name, digest in now.items() if then["files"].get(name, "") != digest]
    if then["databases"] not in (None, _databases()):
        found.append("databases")
    return found


def read(executed: Path) -> dict[str, Any] | None:
    """What an executed chapter says it was made of, or ``None`` where there is no usable file."""
    try:
        return json.loads(executed.read_text(encoding="utf-8"))["metadata"]["medrec"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


# -- files -------------------------------------------------------------------------------------------------------------


def _roots() -> dict[str, Path]:
    return {"results": paths.results_dir(), "runs": paths.runs_dir(), "medrec": paths.PACKAGE}


def _name(file: Path) -> str | None:
    """A file without this machine's folders; ``None`` for one that lies nowhere that the project knows."""
    for name, root in _roots().items():
        if file.is_relative_to(root):
            return f"{name}/{file.relative_to(root).as_posix()}"
    return None


def _place(name: str) -> Path:
    root, _, rest = name.partition("/")
    return _roots()[root] / rest


def _digests(names: Iterable[str]) -> dict[str, str | None]:
    """Hash of each file; ``None`` for one that is missing, which may appear later."""
    return {name: keys.file_digest(_place(name)) if _place(name).is_file() else None for name in sorted(names)}


def _data_files(modules: Iterable[str]) -> set[str]:
    """Files beside modules of the package: not Python, in the same folder and in those below that are no packages."""
    ours = (module for module in modules if module.partition(".")[0] == "medrec")
    folders = {keys.source_of(module).parent for module in ours if _has_source(module)}
    return {name for folder in folders for file in _below(folder) if (name := _name(file))}


def _below(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.is_dir():
            if entry.name != "__pycache__" and not (entry / "__init__.py").exists():
                yield from _below(entry)
        elif entry.suffix not in {".py", ".pyc"} and not entry.name.startswith("."):
            yield entry


def _databases() -> str:
    """Hash of the names of what lies in the folder of tables, and of the maps that users supply."""
    root = paths.data_dir()
    return keys.digest(
        sorted(entry.relative_to(root).as_posix() for glob in ("*", "knowledge/*") for entry in root.glob(glob))
    )
