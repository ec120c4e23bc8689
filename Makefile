# make run    set up and run the main job          make venv   prepare .venv only
# make test   the same set-up, then every test     make lint   formatter, linter, types
# make bench  speed and error of each method       make test-slow  the long tests
# make formal  the proofs of the hardware, and the faults of a netlist that its vectors find

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: run venv venv-dev test test-slow lint bench formal clean
.DELETE_ON_ERROR:

run: venv
	$(BIN)/python -m ga_search -o tables

venv: $(VENV)/core.stamp

venv-dev: $(VENV)/dev.stamp

$(BIN)/python:
	@bash .ci/system-tools python
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/core.stamp

test: venv-dev
	@bash .ci/system-tools simulators
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-slow: venv-dev
	@bash .ci/system-tools simulators
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m slow

lint: venv-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --output-format concise .
	$(BIN)/basedpyright

bench: venv-dev
	$(BIN)/python -m ga_search.bench -o results

formal: venv-dev
	$(BIN)/python -m rtl.formal
	$(BIN)/python -m rtl.formal.mutate

clean:
	rm -rf $(VENV) build tables
