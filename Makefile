# `make` prints what there is. Everything happens in .venv, which the targets create when missing.

VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-bench
READY := $(VENV)/.ready
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 8000

.DEFAULT_GOAL := help
.PHONY: help setup book test notebooks lint mutants bench serve clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with every pinned dependency

# Done again whenever the dependencies change.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[book,images,dev]'
	@touch $@

book: $(READY) ## build the site into _build/html
	$(BIN)/jupyter-book build -W -n --keep-going book/

test: lint book ## lint, type-check, build the site, run every test and notebook
	$(BIN)/python -m pytest --nbval -n 2 --dist loadfile

notebooks: $(READY) ## execute the chapters into their notebooks (CHAPTERS="flows ..." for some)
	$(BIN)/python tools/notebooks.py $(CHAPTERS)

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

mutants: $(READY) ## put faults into the package, count those its tests miss (MODULES="paths ...")
	$(BIN)/python tools/mutants.py $(MODULES)

# The peers live in an environment of their own. torchvision, which one of them asks for, does not
# load beside a CPU build of torch, and nothing here uses it.
$(PEERS)/.ready: benchmarks/requirements.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --constraint constraints.txt \
		--requirement benchmarks/requirements.txt --editable .
	$(PEERS)/bin/python -m pip uninstall --quiet --yes torchvision
	@touch $@

bench: $(PEERS)/.ready book ## measure against the peers, and the live figures (a quiet machine, 15 min)
	OMP_NUM_THREADS=1 $(PEERS)/bin/python benchmarks/peers.py
	$(PEERS)/bin/python benchmarks/empirical_field.py
	$(BIN)/python benchmarks/figures.py

serve: book ## build the site and serve it on http://localhost:8000 (PORT=...)
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

clean: ## remove the built site and every cache, keep .venv
	rm -rf _build build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find fmtutor tests tools book -name __pycache__ -type d -prune -exec rm -rf {} +
