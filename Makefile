# make demo    exact organelles from a volume made on the spot, in under two minutes
# make test    the quick tests; both install what they need first
PYTHON ?= python3
BIN    := .venv/bin
TAG    := $(shell $(PYTHON) -c 'import sys; print("py%d%d" % sys.version_info[:2])')
PINS   := $(wildcard constraints/dev-$(TAG).txt)
STAMP  := .venv/.installed-$(TAG)

.PHONY: install demo test check bench test-slow test-gpu faults
.DEFAULT_GOAL := install

install: $(STAMP)

$(STAMP): pyproject.toml $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit("cristae needs Python 3.11 or newer; name one: make PYTHON=python3.11") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(PINS),-c $(PINS)) -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/cristae demo

test: $(STAMP)
	$(BIN)/python -m pytest -q

# Kernels run twice, once without their compiler, so that coverage sees inside them; the last line is the tests' own.
check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/readme.py
	$(BIN)/coverage erase
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q -m kernel --cov --cov-report= --cov-fail-under=0 || [ $$? -eq 5 ]
	$(BIN)/python -m pytest -q --cov --cov-append

bench: $(STAMP)
	@set -e; for question in benchmarks/[!_]*.py; do echo "== $$question"; $(BIN)/python $$question; done

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

test-gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu

faults: $(STAMP)
	$(BIN)/python -m pytest -m faults
