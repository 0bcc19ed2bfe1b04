# What a person types. Every target makes the environment it needs; nothing needs root, a GPU or a system FFmpeg.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: features test docs test-slow test-slurm test-soak check lock clean-environment

features: $(STAMP)  ## build the embedded sample's features, and a picture of them
	. $(BIN)/activate && luigi --module tasks BuildPHD2Features

test: $(STAMP)  ## style, types, architecture, and every test that takes seconds
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

docs: $(STAMP)  ## the documentation as a site, in site/
	$(BIN)/zensical build --strict

test-slow: $(STAMP)  ## the tests that take minutes
	$(BIN)/pytest -o faulthandler_timeout=900 -m "slow and not gpu and not slurm"

test-slurm: $(STAMP)  ## builds on a real Slurm of one node; as root, after apt-get install slurmctld slurmd slurm-client munge
	$(BIN)/pytest -o faulthandler_timeout=900 -m slurm

test-soak: $(STAMP)  ## thousands of kills; set KILLS to change how many
	$(BIN)/pytest -o faulthandler_timeout=0 -m soak

$(STAMP): requirements.lock requirements.uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"$(PYTHON) is Python {v.major}.{v.minor}; this project needs 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.uv.lock
	@# uv installs the same hashes in a third of pip's time. Where it cannot reach an index that pip is set up for, pip does it.
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements.lock \
	    || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

lock: $(STAMP)  ## choose versions anew; hashes and versions only, no hosts
	$(BIN)/uv pip compile pyproject.toml --upgrade --all-extras --group dev --universal --python-version 3.11 --generate-hashes \
	    --override requirements.overrides --no-emit-index-url --no-annotate --no-header --output-file requirements.lock

clean-environment:
	rm -rf $(VENV)
