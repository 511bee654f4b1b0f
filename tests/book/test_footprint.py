"""A chapter is stale when what it rests on has changed, and for nothing else.

In a checkout of its own, with a copy of the package: two chapters are executed once, then one thing is changed at a
time.  ``00_reader`` loads DrugRec and a toy system from elsewhere, and reads one kept table; ``01_other`` loads LR,
asks for the code of LEAP as a look into the run store does, reads another table and asks for one that is missing.
Both use the page helpers and the style of figures, which load no system.
"""

import re
import shutil
from contextlib import contextmanager

import nbformat
import pytest

from medrec import keys, paths
from medrec.book.runner import book_copy, is_stale, refresh, run_chapter
from tests.book.conftest import HEADER

START = """
# %% tags=["parameters"]
seed: int = 0  # x
profile: str = "quick"  # x

# %%
from medrec import keys, paths, plotting
from medrec.book import page
plotting.use_style(), plotting.look("RETAIN"), page.table
"""
READER = """
from medrec.models import registry
registry.get("drugrec"), registry.get("toyhouse.system:SYSTEM")
print(paths.record_read(paths.results_dir() / "grids" / "reader.csv").read_text(), seed)
"""
OTHER = """
from medrec.models import registry
registry.get("lr"), keys.codes(["medrec.models.leap"])
print(paths.record_read(paths.results_dir() / "grids" / "other.csv").read_text(), paths.data_dir())
paths.record_read(paths.results_dir() / "grids" / "missing.csv")
"""
TOY = """
from medrec.models.base import System
from toyhouse import parts

class Toy:
    pass

SYSTEM = System(name="toy", label="Toy", family="classical", cls=Toy, config=dict, sees="nothing")
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A checkout with both chapters executed, in the place of the real one."""
    root = tmp_path_factory.mktemp("checkout")
    package = root / "medrec"
    shutil.copytree(paths.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    files = {
        "pyproject.toml": "",
        "notebooks/00_reader.py": HEADER + START + READER,
        "notebooks/01_other.py": HEADER + START + OTHER,
        "results/grids/reader.csv": "x\n1\n",
        "results/grids/other.csv": "x\n1\n",
        "toyhouse/__init__.py": "",
        "toyhouse/parts.py": "SIZE = 1\n",
        "toyhouse/system.py": TOY,
        "toyhouse/stranger.py": "SIZE = 1\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    patch = pytest.MonkeyPatch()
    patch.delenv("MEDREC_DATA_DIR", raising=False)
    patch.setenv("PYTHONPATH", str(root))  # of the kernel
    patch.syspath_prepend(str(root))
    patch.chdir(root)
    patch.setattr(paths, "PACKAGE", package)
    patch.setattr(keys, "PACKAGE", package)
    for source in sources(root):
        refresh(source, {}, book_copy(source))
    yield root
    patch.undo()


def sources(root):
    return sorted((root / "notebooks").glob("*.py"))


def stale(root, **parameters):
    return [source.stem for source in sources(root) if is_stale(source, parameters)]


@contextmanager
def edited(file, old, new):
    """A file with one thing changed, for a while; without ``old`` the text is appended."""
    text = file.read_text() if file.exists() else None
    assert text is None or old in text
    file.write_text((text or "").replace(old, new, 1) if old else (text or "") + new)
    yield
    file.unlink() if text is None else file.write_text(text)


def test_nothing_is_stale_where_nothing_changed(house):
    assert stale(house) == []


def test_the_last_cell_is_gone_and_no_folder_of_this_machine_is_told(house):
    for source in sources(house):
        executed = nbformat.read(book_copy(source), as_version=4)
        assert "footprint" not in executed.cells[-1].source
        assert str(house) not in str(executed.metadata)
        made = executed.metadata["medrec"]
        assert {"source", "key", "parameters", "modules", "files"} <= set(made)
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", made["made"])
        assert {"medrec", "numpy", "torch"} == set(made["versions"])


BOTH, READS, OTHERS = ["00_reader", "01_other"], ["00_reader"], ["01_other"]


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("medrec/models/drugrec.py", "", "\n# a comment\n", []),
        ("medrec/models/drugrec.py", "\n\n\n", "\n\n\n\n# a comment in the middle\n\n", []),
        ("medrec/models/base.py", '"""What a system is', '"""What every system is', []),
        ("medrec/models/drugrec.py", "", "\nMORE = 1\n", READS),
        ("medrec/models/lr.py", "", "\nMORE = 1\n", OTHERS),
        ("medrec/models/leap.py", "", "\nMORE = 1\n", OTHERS),
        ("medrec/models/base.py", "", "\nMORE = 1\n", BOTH),
        ("medrec/models/base.py", "", "\nMORE = (\n", BOTH),
        ("medrec/models/retain.py", "", "\nMORE = 1\n", []),
        ("medrec/data/eicu.py", "", "\nMORE = 1\n", []),
        ("medrec/cli.py", "", "\nMORE = 1\n", []),
        ("medrec/book/footprint.py", "", "\nMORE = 1\n", []),
        ("toyhouse/system.py", "", "\nMORE = 1\n", READS),
        ("toyhouse/parts.py", "SIZE = 1", "SIZE = 2", READS),
        ("toyhouse/parts.py", "SIZE = 1", "SIZE = 1  # one", []),
        ("toyhouse/stranger.py", "SIZE = 1", "SIZE = 2", []),
        ("results/grids/reader.csv", "", "\n", READS),
        ("results/grids/other.csv", "", "\n", OTHERS),
        ("results/grids/missing.csv", "", "x\n", OTHERS),
        ("results/grids/unread.csv", "", "x\n", []),
        ("medrec/experiments/unread.csv", "", "x\n", []),
        ("medrec/book.mplstyle", "", "\n", BOTH),
        ("notebooks/00_reader.py", "seed)", "seed, seed)", READS),
        ("notebooks/00_reader.py", "seed)", "seed)  # a word", READS),
        ("notebooks/00_reader.py", "seed)", "seed)  ", []),
    ],
)
def test_a_change_makes_those_stale_that_rest_on_it(house, file, old, new, expected):
    with edited(house / file, old, new):
        assert stale(house) == expected


def test_a_module_that_is_gone_makes_stale(house):
    module = house / "medrec" / "models" / "lr.py"
    aside = module.rename(house / "aside")
    assert stale(house) == OTHERS
    aside.rename(module)


def test_another_database_at_hand_makes_stale_who_asked_for_the_folder(house):
    (house / "data" / "mimic4-demo").mkdir(parents=True)
    assert stale(house) == OTHERS
    shutil.rmtree(house / "data")
    assert stale(house) == []


def test_other_parameters_make_stale(house):
    assert stale(house, profile="full") == BOTH


def test_a_copy_that_does_not_say_what_it_was_made_of_is_stale(house):
    copy = book_copy(sources(house)[0])
    whole = copy.read_text()
    for metadata in ({}, {"medrec": None}, {"medrec": {"key": "x"}}):
        notebook = nbformat.reads(whole, as_version=4)
        notebook.metadata = nbformat.from_dict(metadata)
        copy.write_text(nbformat.writes(notebook))
        assert stale(house) == READS
    copy.write_text("{")
    assert stale(house) == READS
    copy.write_text(whole)


def test_what_changed_while_a_chapter_ran_leaves_it_stale(house):
    """Nobody knows whether the kernel saw the file before or after."""
    source = house / "notebooks" / "01_other.py"
    copy, table = book_copy(source), house / "results" / "grids" / "other.csv"
    good = copy.read_bytes()
    write = '\nimport pathlib\npathlib.Path("results/grids/other.csv").write_text("x\\n1\\n")\n'
    with edited(source, "", write):
        run_chapter("1", progress=False)
        assert table.read_text() == "x\n1\n"
        assert stale(house) == OTHERS
    copy.write_bytes(good)
    assert stale(house) == []
