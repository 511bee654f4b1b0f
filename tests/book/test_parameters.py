"""A chapter's parameters are refused before a kernel starts, whoever executes the chapter."""

import click
import papermill
import pytest

from medrec.book.chapters import find_chapter
from medrec.book.papermill_engine import QuietClient
from medrec.book.runner import run_chapter
from medrec.types import MedrecError

# Papermill knows the ending of no source; the filter that our handler sets is undone by pytest.
pytestmark = pytest.mark.filterwarnings("ignore:The specified file:UserWarning")
WRONG = [
    ({"cohort": "sinthetic"}, "There is no cohort 'sinthetic'. Did you mean 'synthetic'?"),
    ({"cohort": "quick"}, "is called 'synthetic' now"),
    ({"cohort": "mimic4"}, "There are no tables of 'mimic4'"),
    ({"cohort": ""}, "There is no cohort ''"),
    ({"seed": -1}, "seed is -1; it must be a whole number from 0 to 4294967295"),
    ({"seed": 2**40}, "seed is 1099511627776"),
    ({"device": "tpu"}, "There is no device 'tpu'"),
    ({"device": "mps"}, "There is no device 'mps'"),
    ({"device": "cuda:99"}, "CUDA device|cuda:99"),
    ({"profile": "fast"}, "quick or full, not 'fast'"),
    ({"sede": 1}, "Unknown parameter 'sede'. Did you mean 'seed'?"),
]


@pytest.fixture(autouse=True)
def no_kernel(monkeypatch):
    """Whoever gets so far has checked nothing."""
    monkeypatch.setattr(QuietClient, "execute", lambda self: pytest.fail("a kernel was started"))


def by_command(checkout, given):
    with pytest.raises(MedrecError) as raised:
        run_chapter("0", {name: str(value) for name, value in given.items()}, progress=False)
    return str(raised.value)


def by_papermill(checkout, given):
    output = checkout / "out.ipynb"
    with pytest.raises(click.ClickException) as raised:
        papermill.execute_notebook(f"jupytext://{find_chapter('0')}", str(output), given, progress_bar=False)
    return raised.value.message


@pytest.mark.parametrize("route", [by_command, by_papermill])
@pytest.mark.parametrize(("given", "said"), WRONG, ids=[str(given) for given, _ in WRONG])
def test_a_wrong_word_starts_no_kernel_and_writes_nothing(checkout, route, given, said):
    before = sorted(checkout.rglob("*"))
    message = route(checkout, given)
    assert any(words in message for words in said.split("|"))
    assert "\n" not in message
    assert sorted(checkout.rglob("*")) == before


@pytest.mark.parametrize("given", [{"seed": "3"}, {"share": "0.25"}])
def test_numbers_that_papermill_takes_as_text_are_not_run_as_text(checkout, given):
    """As its option -r gives them: they stand in the notebook before anybody could convert them."""
    assert "write -p" in by_papermill(checkout, given)


def test_text_is_text(checkout, monkeypatch):
    done = []
    monkeypatch.setattr(QuietClient, "execute", lambda client: done.append(client.nb))
    papermill.execute_notebook(
        f"jupytext://{find_chapter('0')}", None, {"cohort": "synthetic-6350", "seed": 3}, progress_bar=False
    )
    assert len(done) == 1
