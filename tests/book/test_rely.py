"""The page of promises names tests that exist, and each of its promises has one."""

import ast
import re

from medrec import paths

PAGE = "rely.md"


def test_every_test_that_the_page_names_exists():
    base = paths.base_dir()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (base / "book" / PAGE).read_text(encoding="utf-8"))
    assert len(named) > 20
    for file, name in named:
        tree = ast.parse((base / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"


def test_every_promise_has_a_test():
    text = (paths.base_dir() / "book" / PAGE).read_text(encoding="utf-8").partition("## What cannot be promised")[0]
    promises = re.split(r"^\*\*", text, flags=re.MULTILINE)[1:]
    assert len(promises) > 10
    for promise in promises:
        assert "`tests/" in promise, promise.splitlines()[0]
