"""A chapter is executed with the given parameters, or a message says why not and nothing is written."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from medrec.book import runner
from medrec.book.runner import book_copy, is_stale, run_chapter
from medrec.types import MedrecError
from tests.book.conftest import write_chapter


def printed(file: Path) -> str:
    """Everything that the cells of an executed notebook printed."""
    notebook = nbformat.read(file, as_version=4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.get("text", "") for output in outputs)


def written(checkout: Path) -> list[str]:
    return sorted(file.name for file in (checkout / "book").rglob("*") if file.is_file())


def test_defaults_go_to_the_book_and_make_its_copy_fresh(checkout):
    assert is_stale(checkout / "notebooks" / "00_first.py", {})
    output = run_chapter("0", progress=False)
    assert output == book_copy(checkout / "notebooks" / "00_first.py")
    assert "seed 0 cohort synthetic share 0.5" in printed(output)
    assert not is_stale(checkout / "notebooks" / "00_first.py", {})
    # Neither folders of this machine nor clock times go into the book.
    assert str(checkout) not in output.read_text()


def test_other_parameters_arrive_and_leave_the_books_copy_alone(checkout):
    output = run_chapter("first", {"seed": "3", "cohort": "mimic4-demo"}, progress=False)
    assert output.name == "00_first__cohort-mimic4-demo__seed-3.ipynb"
    assert "seed 3 cohort mimic4-demo share 0.5" in printed(output)
    assert is_stale(checkout / "notebooks" / "00_first.py", {})
    assert written(checkout) == [output.name]


def test_the_kernel_is_the_interpreter_that_runs(checkout):
    write_chapter(
        checkout,
        "02_python",
        '# %% tags=["parameters"]\nseed: int = 0  # x\n# %%\nimport sys\nprint(sys.executable)\n',
    )
    assert printed(run_chapter("2", progress=False)).strip() == sys.executable


def test_a_misspelt_parameter_is_an_error_and_writes_nothing(checkout):
    with pytest.raises(MedrecError, match=r"Unknown parameter 'sede'\. Did you mean 'seed'"):
        run_chapter("0", {"sede": 3}, progress=False)
    assert written(checkout) == []


def test_a_profile_that_a_chapter_does_not_declare_is_refused_by_the_build_too(checkout):
    source = write_chapter(checkout, "02_plain", '# %% tags=["parameters"]\nseed: int = 0  # x\n')
    with pytest.raises(MedrecError, match="Unknown parameter 'profile'"):
        runner.refresh(source, {"profile": "full"}, book_copy(source))
    assert written(checkout) == []


FAILING = """
# %% tags=["parameters"]
seed: int = 0  # x

# %%
x = 1

# %%
# the next line fails
y = {"a": 1}["b"]
"""


def test_a_failing_chapter_is_named_with_cell_line_and_error_and_the_last_good_copy_stays(checkout):
    good = run_chapter("0", progress=False).read_bytes()
    source = write_chapter(checkout, "00_first", FAILING)
    line = source.read_text().splitlines().index("# the next line fails") + 1
    with pytest.raises(MedrecError) as caught:
        run_chapter("0", progress=False)
    message = str(caught.value)
    assert f"Chapter 00_first failed in cell [3] (00_first.py, line {line})" in message
    assert "`# the next line fails`" in message
    assert "KeyError: 'b'" in message
    assert book_copy(source).read_bytes() == good
    assert written(checkout) == ["00_first.ipynb"]


def test_a_mistake_of_the_user_comes_without_a_traceback(checkout):
    write_chapter(
        checkout,
        "02_user",
        '# %% tags=["parameters"]\nseed: int = 0  # x\n# %%\n'
        'from medrec.types import MedrecError\nraise MedrecError("There is no cohort mimic9. Take mimic3.")\n',
    )
    with pytest.raises(MedrecError) as caught:
        run_chapter("2", progress=False)
    assert str(caught.value).endswith("MedrecError: There is no cohort mimic9. Take mimic3.")


def test_a_full_disk_is_told_and_leaves_the_old_file(checkout, monkeypatch):
    output = run_chapter("0", progress=False)
    good = output.read_bytes()

    def full(self, *args, **kwargs):
        with open(self, "w") as file:
            file.write("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(MedrecError, match=r"Cannot write .*00_first.ipynb: No space left on device. Free space"):
        runner.write_notebook(nbformat.v4.new_notebook(), output)
    assert output.read_bytes() == good
    assert written(checkout) == ["00_first.ipynb"]


def test_an_output_that_is_no_notebook_is_refused(checkout, tmp_path):
    with pytest.raises(MedrecError, match=r"ending in .ipynb"):
        run_chapter("0", output=tmp_path / "out.html", progress=False)


# -- sources that are not the book's --------------------------------------------------------------------------------

MINE = """
# %% tags=["parameters"]
seed: int = 0  # x

# %%
print("this is mine", seed)
"""


def test_a_source_elsewhere_is_executed_and_written_beside_it(checkout, tmp_path_factory):
    """It bears the name of a chapter, has a byte-order mark and no header; none of it matters."""
    folder = tmp_path_factory.mktemp("copy")
    source = folder / "00_first.py"
    source.write_text(MINE, encoding="utf-8-sig")
    output = run_chapter(str(source), {"seed": 3}, progress=False)
    assert output == folder / "00_first__seed-3.ipynb"
    assert "this is mine 3" in printed(output)
    assert written(checkout) == []
    assert run_chapter(str(source), {"seed": 3}, progress=False) == output  # its own file is written again
    other = folder / "00_first.ipynb"
    other.write_text("{}")
    with pytest.raises(MedrecError, match=r"00_first\.ipynb is there already.* -o"):
        run_chapter(str(source), progress=False)
    assert other.read_text() == "{}"


# -- plain papermill ------------------------------------------------------------------------------------------------


def papermill(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "papermill", *arguments], capture_output=True, text=True, timeout=120)


def test_papermill_reads_a_chapter_from_its_source(checkout):
    output, source = checkout / "out.ipynb", checkout / "notebooks" / "00_first.py"
    source.write_text(source.read_text(), encoding="utf-8-sig")  # as some editors save it
    done = papermill(f"jupytext://{source}", str(output), "-p", "seed", "3")
    assert done.returncode == 0, done.stderr
    assert "seed 3 cohort synthetic share 0.5" in printed(output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-p", "sede", "3"), "Unknown parameter 'sede'. Did you mean 'seed'?"),
        (("-p", "seed", "three"), "Parameter seed takes a whole number (int), not 'three'."),
    ],
)
def test_papermill_refuses_wrong_parameters_before_anything_is_written(checkout, arguments, message):
    output = checkout / "out.ipynb"
    done = papermill(f"jupytext://{checkout / 'notebooks' / '00_first.py'}", str(output), *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not output.exists()


def test_papermill_is_as_before_for_ordinary_notebooks(checkout):
    """Only chapters are checked: an unknown name is passed on, with papermill's own warning."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["parameters"]})],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    source, output = checkout / "plain.ipynb", checkout / "out.ipynb"
    nbformat.write(notebook, source)
    assert papermill(str(source), str(output), "-p", "sede", "3").returncode == 0
    assert "sede = 3" in json.dumps(nbformat.read(output, as_version=4))


# -- privacy --------------------------------------------------------------------------------------------------------

PRIVATE = """
# %% tags=["parameters"]
seed: int = 0  # x
cohort: str = "synthetic"  # x

# %%
from types import SimpleNamespace

from medrec.book import page

records = SimpleNamespace(name=cohort, source="credentialed", n_patients=40, n_visits=50)
page.at_a_glance({"cohort": cohort}, paper="x", data=page.cohort_line(records), learned="x", full_run="x")

# %% tags=["remove-cell"]
page.glue(mean=0.5, line=page.cohort_line(records))

# %%
print("Check passed.")
"""


def test_aggregates_of_credentialed_records_may_be_written(checkout):
    write_chapter(checkout, "02_private", PRIVATE)
    assert "40 patients" in run_chapter("2", {"cohort": "mimic3"}, progress=False).read_text(encoding="utf-8")


@pytest.mark.parametrize("leak", ["print(records.n_patients + 1)", "records", "page.glue(code=str(cohort))"])
def test_single_patients_of_credentialed_records_are_not_written(checkout, leak):
    write_chapter(checkout, "02_private", PRIVATE + f"\n# %%\n{leak}\n")
    run_chapter("2", progress=False)  # open records may be shown
    before = written(checkout)
    with pytest.raises(MedrecError, match=r"Chapter 02_private is not written\..*credentialed cohort"):
        run_chapter("2", {"cohort": "mimic3"}, progress=False)
    assert written(checkout) == before
