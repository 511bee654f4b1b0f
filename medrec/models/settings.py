"""Settings of a system as a page or a listing shows them: their values, and where each comes from."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from medrec.arguments import allowed
from medrec.models.base import System


@dataclass(frozen=True)
class Setting:
    """One setting of a system.

    Args:
        name: of the field.
        value: at the size of the papers' cohorts.
        small: for fewer than :data:`medrec.models.base.SMALL` training patients; the same where nothing differs.
        takes: words, or ends of a range, see :class:`medrec.arguments.Range`.
        source: the comment beside the field: where the value stands, or whose choice it is.
    """

    name: str
    value: Any
    small: Any
    takes: str
    source: str


def settings_of(system: System) -> list[Setting]:
    """All settings of a system, its own before those that every network has."""
    usual, small = system.configure(), system.configure(n_train=0)
    comments: dict[str, str] = {}
    for cls in reversed(system.config.__mro__[:-1]):
        comments |= _comments(cls)
    every = [f.name for f in fields(system.config)]
    own = [name for name in system.config.__annotations__ if name in every]
    names = [*own, *(name for name in every if name not in own)]
    hints = get_type_hints(system.config, include_extras=True)
    return [
        Setting(name, getattr(usual, name), getattr(small, name), allowed(name, hints[name]), comments.get(name, ""))
        for name in names
    ]


def _comments(cls: type) -> dict[str, str]:
    """Comment of each field that a dataclass declares: behind it, otherwise on the line above."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except OSError:  # declared where there is no file
        return {}
    behind, above = _comment_lines(source)
    found = {}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines: list[str] = []
            line = node.lineno - 1
            while line in above:
                lines.insert(0, above[line])
                line -= 1
            found[node.target.id] = behind.get(node.end_lineno or node.lineno, " ".join(lines))
    return found


def _comment_lines(source: str) -> tuple[dict[int, str], dict[int, str]]:
    """Comments by their line: those behind code, and those that have the line for themselves."""
    behind: dict[int, str] = {}
    above: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            alone = token.line.lstrip().startswith("#")
            (above if alone else behind)[token.start[0]] = token.string.lstrip("# ")
    return behind, above
