# Two commands for readers: `make book` and `make test`. Both make the environment first when it is missing.
SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c
.DEFAULT_GOAL := book

PYTHON ?= python3
# More options for pip, e.g. an index of processor builds of PyTorch; see README.md.
PIP_FLAGS ?=
# More options for jupyter-book, e.g. -W --keep-going.
BOOK_FLAGS ?=
# More options for pytest, e.g. -k cohort. Three processes for two cores, since many tests wait for processes of their
# own; whoever has nothing left takes over from the others.
TEST_FLAGS ?=
TEST_WORKERS := -n 3 --dist worksteal

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: book pdf test slow bench lint clean

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Try make PYTHON=python3.12.") if sys.version_info < (3, 11) else None'
	@echo "Making the environment in $(VENV): a few minutes, once."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -e ".[book,dev]" -c constraints.txt
	@touch $@

book: $(READY)
	$(BIN)/jupyter-book build book/ $(BOOK_FLAGS)

# The built book as one file: book/_build/medrec.pdf. Needs Chromium.
pdf: $(READY)
	$(BIN)/python -m medrec.book.pdf

test: $(READY)
	$(BIN)/python -m pytest -m "not slow" $(TEST_WORKERS) $(TEST_FLAGS)

slow: $(READY)
	$(BIN)/python -m pytest -m slow $(TEST_WORKERS) $(TEST_FLAGS)

# All but the one that needs a graphics card: python benchmarks/gpu.py.
bench: $(READY)
	@for script in $(filter-out benchmarks/gpu.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python "$$script"; done

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m medrec.book.lint

# The environment in .venv and the run store in runs/ stay.
clean:
	rm -rf book/_build book/chapters .cache .pytest_cache .ruff_cache build dist
