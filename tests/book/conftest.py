"""A checkout of its own for each test of the book machine: two small chapters, nothing else."""

from pathlib import Path
from textwrap import dedent

import pytest

from medrec import paths

HEADER = """\
# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---
"""

CHAPTER = """
# %% [markdown]
# # A small chapter

# %% tags=["parameters"]
seed: int = 0  # any number
cohort: str = "synthetic"  # not loaded here
device: str = "cpu"  # not used here
profile: str = "quick"  # quick or full
share: float = 0.5  # a share

# %%
print("seed", seed, "cohort", cohort, "share", share)
"""


def write_chapter(checkout: Path, name: str, text: str = CHAPTER) -> Path:
    """Write a chapter source and return its path."""
    file = checkout / "notebooks" / f"{name}.py"
    file.write_text(HEADER + dedent(text), encoding="utf-8")
    return file


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with two chapters that takes the place of the checkout; chapters ask for cohorts that have a folder."""
    for folder in ("notebooks", "book", "data/mimic3", "data/mimic4-demo"):
        (tmp_path / folder).mkdir(parents=True)
    write_chapter(tmp_path, "00_first")
    write_chapter(tmp_path, "01_second_topic")
    monkeypatch.setattr(paths, "base_dir", lambda: tmp_path)
    monkeypatch.delenv("MEDREC_DATA_DIR", raising=False)
    return tmp_path
