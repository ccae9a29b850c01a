# Every target does its own set-up in .venv and may be called first on a fresh clone.
#   make quickstart   train a tiny policy on the embedded task and compare best-of-N: a few minutes on a CPU
#   make fast         format, lint and the tests that take no time: under a minute
#   make check        the gate: format, lint, types, wheel, tests and doctests
#   make nightly      the gate, the lower bounds and all mutations: over an hour
#   make format       rewrite the files as the gate wants them
#   make mutate       break formulas one at a time and see a test go red
#   make lowest       run the tests against the declared lower bounds, in .venv-lowest
#   make clean        remove what these targets made
#
# PYTHON       the interpreter .venv is made from (default: the first of 3.11, 3.12, 3.13, python3 that will do)
# TORCH_INDEX  an extra package index to take torch from, where pip's own choice would be a build for GPUs

TORCH_CPU := torch==2.13.0 $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c '$(USABLE)' 2>/dev/null && { echo $$python; break; }; done)

BIN := .venv/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

# The models of the tests are tiny: one thread an operation is the fastest.
check-tests fast mutate lowest: export OMP_NUM_THREADS := 1

.PHONY: quickstart fast check nightly check-format check-lint check-types check-wheel check-tests \
	format mutate lowest clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

quickstart: .venv/.installed-quickstart
	$(BIN)/tailgrad quickstart

# The tests (pyproject.toml adds the doctests to them) come last, so that the gate ends with pytest's own summary.
check: check-format check-lint check-types check-wheel check-tests

fast: check-format check-lint
	$(BIN)/pytest --quiet -n 2 -m "not slow"

nightly: check lowest mutate

check-format: .venv/.installed-dev
	$(BIN)/ruff format --check .

check-lint: .venv/.installed-dev
	$(BIN)/ruff check .

check-types: .venv/.installed-dev
	$(BIN)/mypy

check-wheel: .venv/.installed-dev
	$(BIN)/python tools/check_wheel.py $(TORCH_CPU)

check-tests: .venv/.installed-dev
	$(BIN)/pytest --quiet -n 2

format: .venv/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

mutate: .venv/.installed-dev
	$(BIN)/python tests/mutations.py

lowest: .venv-lowest/.installed
	.venv-lowest/bin/pytest --quiet -n 2

clean:
	rm -rf .venv .venv-lowest build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Set-up. CPU torch goes in first, so that nothing later pulls in a GPU build; a stamp records what is installed.
define make_environment
@$(or $(PYTHON),false) -c '$(USABLE)' 2>/dev/null || { echo "tailgrad needs Python 3.11 or newer with the venv module, \
	and '$(or $(PYTHON),python3)' is not one. \
	Install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
$(PYTHON) -m venv $(1)
$(1)/bin/python $(PIP_INSTALL) $(TORCH_CPU)
endef

.venv/.torch:
	$(call make_environment,.venv)
	touch $@

.venv/.installed-quickstart: pyproject.toml .venv/.torch
	$(BIN)/python $(PIP_INSTALL) --editable '.[train,plot]'
	touch $@

.venv/.installed-dev: pyproject.toml .venv/.torch
	$(BIN)/python $(PIP_INSTALL) --editable '.[dev]'
	touch .venv/.installed-quickstart $@

.venv-lowest/.installed: pyproject.toml tools/lowest.py
	rm -rf .venv-lowest
	$(call make_environment,.venv-lowest)
	.venv-lowest/bin/python tools/lowest.py > .venv-lowest/constraints.txt
	.venv-lowest/bin/python $(PIP_INSTALL) --constraint .venv-lowest/constraints.txt --editable '.[dev]'
	touch $@
