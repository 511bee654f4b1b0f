"""Every public module can be looked up in the book, and no page asks for a module that is gone."""

import re

from medrec import paths


def public_modules() -> set[str]:
    files = [f for f in paths.PACKAGE.rglob("*.py") if not f.stem.startswith("_") or f.name == "__init__.py"]
    # A package whose __init__ defines nothing of its own has nothing to look up.
    own = re.compile(r"^(def|class|[A-Z][A-Z_]* ?[:=])", re.MULTILINE)
    files = [f for f in files if f.name != "__init__.py" or own.search(f.read_text())]
    names = {
        ".".join(f.relative_to(paths.PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for f in files
    }
    return names - {"medrec"}


def test_the_reference_lists_every_public_module_once():
    pages = sorted((paths.base_dir() / "book" / "api").glob("*.md"))
    listed = [name for page in pages for name in re.findall(r"automodule:: (\S+)", page.read_text())]
    assert sorted(listed) == sorted(set(listed))
    packages = {f"medrec.{d.name}" for d in paths.PACKAGE.iterdir() if (d / "__init__.py").exists()}
    assert set(listed) - packages == public_modules() - packages
