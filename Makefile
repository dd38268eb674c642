# Every target sets up what it needs in $(VENV): `make evolve` the package alone, the others the tools of development too.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
BASE := $(VENV)/.installed-base
DEV := $(VENV)/.installed-dev
# the folders that hold Python files: `mypy` refuses an empty one
CODE := $(sort $(patsubst %/,%,$(dir $(wildcard proxygraph/*.py segspace/*.py tools/*.py))))
# speed of the engine: others measure quality, need data, or take half an hour (memory, features)
BENCHMARKS := $(addprefix benchmarks/,start.py vecmath.py ranking.py fused.py throughput.py phases.py loop.py)
PEERS := $(VENV)/.installed-bench
SITE := $(VENV)/.installed-docs

.DEFAULT_GOAL := help
.PHONY: help evolve test check test-all docs bench golden clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'variables: ARGS="--seed 1" (evolve, test, test-all, bench), VENV=$(VENV), PYTHON=$(PYTHON)'

evolve: $(BASE) ## find a formula for the embedded problem
	$(BIN)/python -m proxygraph.evolve $(ARGS)

test: $(DEV) ## the quick tests
	$(BIN)/python -m pytest -n auto -m "not slow and not gpu" $(ARGS)

check: $(DEV) ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict $(CODE)
	$(BIN)/lint-imports

test-all: $(DEV) ## every test but those for a GPU, the doctests, deep property tests
	$(BIN)/python -m pytest -n auto -m "not gpu" --hypothesis-profile=deep --doctest-modules tests proxygraph $(ARGS)

docs: $(SITE) ## build the site of docs/ into build/docs; warnings are errors
	$(BIN)/python -m sphinx -b html -W --keep-going -n -q docs build/docs
	@echo "open build/docs/index.html"

bench: $(DEV) $(PEERS) ## run the benchmarks, beside the peers that can be installed (ARGS=--quick for small ones)
	set -e; for script in $(BENCHMARKS); do $(BIN)/python $$script $(ARGS); done

golden: $(DEV) ## rewrite the golden files; read the diff
	$(BIN)/python tools/make_golden.py

clean: ## remove environments and caches; what runs left in runs/ and build/ stays
	rm -rf .venv .venv-ci dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(BASE): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing proxygraph into $(VENV) (about a minute; torch is the large part)"
	$(PIP) -e .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing proxygraph and the tools of development into $(VENV)"
	$(PIP) -e '.[dev]'
	@touch $(BASE) $(SITE) $@

$(SITE): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing proxygraph and what builds its site into $(VENV)"
	$(PIP) -e '.[docs]'
	@touch $(BASE) $@

$(PEERS): pyproject.toml constraints.txt $(DEV)
	@echo "installing the peers of the benchmarks into $(VENV)"
	$(PIP) -e '.[bench]' || echo "not all of them can be installed here: the benchmarks leave out what is missing"
	@touch $(BASE) $(DEV) $@
