# Every target sets up what it needs, into .venv, from requirements.lock.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup check format audit test demo lock clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

# The first Python >= 3.11 that can make a virtual environment; `make PYTHON=...` overrides.
ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo $$p; break; }; done)
endif

help:
	@echo "make setup | check | format | audit | test | demo | lock | clean"

setup: $(STAMP)

# Byte-compiled here because pip does it on one core; uncompiled, Ray takes twice as long to start.
# The last line compiles the loops of engine/compiled.py, a few seconds once.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 with venv found; set PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib
	$(BIN)/python -c "import serving.app"
	touch $@

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Known vulnerabilities of what the lock pins; says so where their database cannot be reached.
audit: setup
	$(BIN)/python .ci/audit.py

test: setup
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

demo: setup
	$(BIN)/kairos demo $(ARGS)

# Keeps the pins that still hold; `make lock ARGS=--upgrade` takes the newest of everything.
lock: setup
	$(BIN)/uv pip compile --universal --python-version 3.11 --fork-strategy fewest \
		--generate-hashes --extra dev --no-emit-index-url --no-emit-find-links --quiet \
		--custom-compile-command "make lock" --output-file requirements.lock $(ARGS) pyproject.toml

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
