# `make` prints what there is. Everything happens in .venv, which the targets create when missing.

VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-bench
# Errors only: no warnings about the mirrors that a machine's own configuration of pip names.
QUIET := --quiet --quiet
READY := $(VENV)/.ready
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 8000

# For the last line of a command, which says what was done and how long it took.
START := $(shell date +%s)
SECONDS_SO_FAR = $$(($$(date +%s) - $(START))) s
PAGES = $(shell grep -cE '(root|file): ' _toc.yml) pages
REPORT := _build/tests.xml
TESTS = $$(grep -o ' tests="[0-9]*"' $(REPORT) | head -n 1 | tr -cd 0-9) tests

.DEFAULT_GOAL := help
.PHONY: help setup book test check browse notebooks lint mutants bench gpu release serve clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with every pinned dependency

# Done again whenever the dependencies change.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(QUIET) --constraint constraints.txt --editable '.[book,images,dev]'
	@touch $@

book: $(READY) ## build the site into _build/html
	$(BIN)/jupyter-book build -W -n --keep-going book/
	@echo "make book: $(PAGES) in $(SECONDS_SO_FAR), _build/html/index.html"

PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --junitxml $(REPORT)

test: lint book ## lint, type-check, build the site, run every test and notebook
	$(PYTEST) --nbval
	@echo "make test: lint, types, $(PAGES), $(TESTS), all well in $(SECONDS_SO_FAR)"

check: lint ## what of `make test` needs neither site nor browser
	$(PYTEST) --nbval -m 'not browser'
	@echo "make check: lint, types, $(TESTS), all well in $(SECONDS_SO_FAR)"

browse: book ## the rest of it: build the site, run the tests in a browser
	$(PYTEST) -m browser tests
	@echo "make browse: $(PAGES), $(TESTS), all well in $(SECONDS_SO_FAR)"

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
	$(PEERS)/bin/python -m pip install $(QUIET) --constraint constraints.txt \
		--requirement benchmarks/requirements.txt --editable '.[images]'
	$(PEERS)/bin/python -m pip uninstall $(QUIET) --yes torchvision
	@touch $@

bench: $(PEERS)/.ready book ## measure against the peers, and the live figures (a quiet machine, 15 min)
	OMP_NUM_THREADS=1 $(PEERS)/bin/python benchmarks/peers.py
	$(PEERS)/bin/python benchmarks/empirical_field.py
	$(BIN)/python benchmarks/figures.py

# Trainings on a GPU: with classes, and without them (plain) beside minibatch OT; two seeds each.
GPU_RUNS := fashion-0 fashion-1 plain-0 plain-1 ot-0 ot-1
GPU_TRAIN ?= --preset fashion-gpu --steps 20000
GPU_EVALUATE ?= --samples 10000 --curve-samples 5000 --batch-size 1000 --curve-nfe 4 6 10 20 50 100 \
	--curve-methods euler midpoint heun --curve-guidance 1.5 2
DEVICE ?= cuda
LIMIT ?= 0
# A Python that has what is needed, where nothing can or shall be installed; and where results go.
GPU_PYTHON ?=
RESULTS ?= benchmarks/results
OURS := $(or $(GPU_PYTHON),$(BIN)/python)
plain := --no-conditional
ot := --no-conditional --coupling ot

gpu: gpu-speed $(GPU_RUNS:%=gpu-train-%) $(GPU_RUNS:%=gpu-evaluate-%) ## measure and train on a GPU (some 90 min; its steps are in CONTRIBUTING.md)

.PHONY: gpu-speed
gpu-speed: $(if $(GPU_PYTHON),,$(PEERS)/.ready)
	$(or $(GPU_PYTHON),$(PEERS)/bin/python) benchmarks/gpu.py $(GPU_SPEED) --out $(RESULTS)/gpu.json

# Goes on with what there is of the run. After LIMIT seconds it saves and fails: call it again.
gpu-train-%: $(if $(GPU_PYTHON),,$(READY))
	timeout --signal=TERM $(LIMIT) $(OURS) -m fmtutor.images train $(GPU_TRAIN) \
		$($(firstword $(subst -, ,$*))) --seed $(lastword $(subst -, ,$*)) --device $(DEVICE) \
		--out runs/gpu-$* $(if $(wildcard runs/gpu-$*/checkpoints),--resume)

gpu-evaluate-%: $(if $(GPU_PYTHON),,$(READY))
	$(OURS) -m fmtutor.images evaluate runs/gpu-$* --device $(DEVICE) $(GPU_EVALUATE) \
		--out $(RESULTS)/gpu_$*.json --pictures $(RESULTS)/gpu_$*.png
	cp runs/gpu-$*/log.jsonl $(RESULTS)/gpu_$*.jsonl

release: $(READY) ## build the package and try it in a clean environment, as the release workflow does
	PYTHON=$(BIN)/python .ci/release
	@echo "make release: $$(ls dist/*.whl) works, $(SECONDS_SO_FAR)"

serve: book ## build the site and serve it on http://localhost:8000 (PORT=...)
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

clean: ## remove the built site and every cache, keep .venv
	rm -rf _build build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find fmtutor tests tools book -name __pycache__ -type d -prune -exec rm -rf {} +
