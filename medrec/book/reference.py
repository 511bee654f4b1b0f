"""Reference pages that follow from the tree: a page names rooms, and every public module of theirs is on it.

A page of ``book/api/`` holds a block::

    ```{modules}
    medrec.data.cohort
    medrec.data.*
    ```

A name with an asterisk stands for all public modules below, in the order of the alphabet, but those named before.
"""

from __future__ import annotations

import re

from medrec import paths

BLOCK = re.compile(r"^```\{modules\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What a package's own file must hold to be looked up.
OWN = re.compile(r"^(def|class|[A-Z][A-Z_]* ?[:=])", re.MULTILINE)


def public_modules() -> list[str]:
    """Modules of the package without those that begin with an underscore and packages that define nothing."""
    files = [file for file in paths.PACKAGE.rglob("*.py") if not file.stem.startswith("_")]
    files += [file for file in paths.PACKAGE.rglob("__init__.py") if OWN.search(file.read_text(encoding="utf-8"))]
    names = {".".join(file.relative_to(paths.PACKAGE.parent).with_suffix("").parts) for file in files}
    return sorted({name.removesuffix(".__init__") for name in names} - {"medrec"})


def listed(text: str) -> list[str]:
    """Modules on a page, in its order.

    Raises:
        ValueError: a line of a block names nothing, or what stands on the page already.
    """
    public = public_modules()
    found: list[str] = []
    for line in [line for block in BLOCK.findall(text) for line in block.split()]:
        room = line.removesuffix(".*")
        wanted = [name for name in public if name == room or (line != room and name.startswith(f"{room}."))]
        if not set(wanted) - set(found):
            raise ValueError(f"{line}: no public module of this name that is not on the page already.")
        found += [name for name in wanted if name not in found]
    return found


def expand(text: str) -> str:
    """A page with its block replaced by one section for each module."""
    sections = "\n".join(
        f"## `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n" for name in listed(text)
    ).rstrip()
    return BLOCK.sub(lambda _: sections, text, count=1)
