# Two commands on a fresh machine with Python 3.11 and make: `make demo` and `make test`. Each makes its own environment in .env.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(shell command -v python3.11 || command -v python3 || echo python3.11))
# The CPU build where one lies at hand (pip's own configuration is used), else PyPI's. A CUDA build of your choice on a GPU machine:
#   make env TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cu128"
# Whoever names none keeps the build that .env was made with: `make test` would fetch another one over it.
RELEASE := torch==2.13.0
TORCH := $(or $(TORCH),$(shell grep -sE '^$(RELEASE)( |$$)' .env/torch),$(RELEASE))

BIN := .env/bin
STAMP := .env/made-$(shell echo '$(TORCH)' | cksum | cut -d' ' -f1)
# Compiled beforehand, for half a minute once: whoever may not write here, or is told not to (many container images do), would compile
# what is used in every process: 2 CPU-seconds for Snakemake, twice in each cluster job, and 3 for torch.
PIP := $(BIN)/pip --disable-pip-version-check --quiet install
# uv unpacks the lock with a tenth of pip's CPU time, but knows nothing of pip's configuration (mirrors): pip stands in where it fails. Many
# institutes look into encrypted connections: their certificates stand among the system's.
UV := uv==0.13.9

VIEWERS := build/viewers

.PHONY: help env demo test slurm-test test-readers viewers format schemas lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

env: $(STAMP)  ## make the environment .env from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("This is Python %d.%d, and 3.11 is needed;\
	 write where one is: make env PYTHON=/path/to/python3.11" % sys.version_info[:2])'
	@echo "making .env with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear .env
	@echo "installing $(TORCH)"
	@$(PIP) --constraint requirements.lock $(TORCH)
	@echo "installing $$(grep -c == requirements.lock) packages of requirements.lock"
	@$(PIP) $(UV)
	@$(BIN)/uv pip install --quiet --system-certs --compile-bytecode --python $(BIN)/python --no-deps --requirement requirements.lock \
	  || $(PIP) --no-deps --requirement requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q cvdm_core
	@echo '$(TORCH)' > .env/torch
	@touch $@

demo: $(STAMP) demo/raw/acquisitions.tsv  ## simulate acquisitions, train, restore, and write the report
	@$(BIN)/cvdm register
	@$(BIN)/snakemake --profile profiles/local
	@echo "The report: $(CURDIR)/results/index.html"

# Written once: new files, though equal, would be read in again. Delete demo/ for fresh ones.
demo/raw/acquisitions.tsv: | $(STAMP)
	@! sed 1d config/acquisitions.tsv 2>/dev/null | grep -v demo/raw/ || { echo "config/acquisitions.tsv holds these acquisitions, and the demo \
	would write over it: move it to config/mine.tsv, and read in README.md how that is used"; exit 1; } >&2
	@$(BIN)/cvdm simulate demo/raw
	@cp demo/raw/acquisitions.tsv config/acquisitions.tsv

test: $(STAMP)  ## format, lint, types, import rules and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check .
	$(BIN)/snakemake --lint
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

slurm-test: $(STAMP)  ## all tests on a real SLURM of one node, which it installs (as root, Debian or Ubuntu), starts and ends
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "slow or not slow" tests/slurm

# In an environment of its own: the readers bring half as many packages again as the workflow.
test-readers:  ## open stores and exports in ngff-zarr, bioio and napari's reader (installs them below build/)
	@$(PYTHON) -m venv --clear build/readers
	@build/readers/bin/pip install --quiet $(UV)
	@for list in requirements.lock envs/readers.txt; do \
	  build/readers/bin/uv pip install --quiet --system-certs --python build/readers/bin/python --no-deps --requirement $$list || exit 1; done
	@build/readers/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	OMP_NUM_THREADS=1 build/readers/bin/pytest tests/unit/test_readers.py

viewers:  ## fetch neuroglancer and ome-zarr.js, in which tests/unit/test_other_viewers.py opens our stores (needs npm and chromium)
	npm install --silent --no-save --prefix $(VIEWERS) ome-zarr.js@0.0.19
	$(PYTHON) -m venv $(VIEWERS)/venv
	$(VIEWERS)/venv/bin/pip install --quiet neuroglancer==2.41.2

format: $(STAMP)  ## format Python and Snakemake files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt .

schemas: $(STAMP)  ## generate workflow/schemas and config/README.md from the pydantic models
	$(BIN)/python workflow/schemas/generate.py

# Newest versions that pyproject.toml allows. Without torch and what only its CUDA builds bring, because builds differ by machine.
lock:  ## renew requirements.lock (then `make test`)
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/pip install --quiet $(TORCH)
	build/lock/bin/pip install --quiet --editable '.[dev]'
	{ echo "# Exact versions of everything but torch; made by 'make lock'."; \
	  build/lock/bin/pip freeze --all --exclude-editable --exclude pip --exclude torch \
	  | grep -viE '^(nvidia|cuda|triton)'; } > requirements.lock

clean:  ## remove the environment and caches (never results, models or demo data)
	rm -rf .env build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find cvdm_core tests -name __pycache__ -prune -exec rm -rf {} +
