# `make help` lists what there is. Everything runs in .venv at the project's root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Test files side by side: three on two processors, as those on a real Kafka wait for a third of their time.
TESTS_AT_ONCE ?= 3
# In the order of the folders: those on a real Kafka, of which some take minutes, before the many short ones.
BY_FILE := --dist loadfile --no-loadscope-reorder
READY := $(VENV)/.ready
# Extras too large for .venv. Each has an environment of its own, and its tests are tests/extras/with_EXTRA.py.
LARGE_EXTRAS := dvc
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit coverage test-extras $(LARGE_EXTRAS:%=test-extra-%) test-compose lint types format bench dashboards docs reference env lock clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with the pinned packages and the command repstream (quick when nothing changed)

# The lock is complete, so --no-deps loses nothing; pip before 23.3 cannot match hashes with extras (pandas[parquet]).
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Repstream needs Python 3.11 or newer; name one: make setup PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## Live predictions on recorded sessions of people the model has never seen
	$(BIN)/repstream demo

test: setup ## All tests, on a real embedded Kafka; gets what they need of the system where it may
	@.ci/system-packages
	$(BIN)/python -m pytest -n $(TESTS_AT_ONCE) $(BY_FILE)

test-unit: setup ## The quick tests of pure code, in seconds
	$(BIN)/python -m pytest --ignore tests/broker -m "not slow" -n logical --dist worksteal

coverage: setup ## Which lines and branches the tests run, in the processes that they start, too
	@.ci/system-packages
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n $(TESTS_AT_ONCE) $(BY_FILE)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

test-extras: $(LARGE_EXTRAS:%=test-extra-%) ## The tests of extras that are too large for .venv, each in an environment of its own

$(LARGE_EXTRAS:%=test-extra-%): test-extra-%: build/extras/%/.ready
	PATH="$(CURDIR)/build/extras/$*/bin:$$PATH" build/extras/$*/bin/python -m pytest tests/extras/with_$*.py

# With the versions of the lock, where it has one; pip takes no constraints with hashes.
build/extras/%/.ready: pyproject.toml requirements.lock | $(READY)
	$(BIN)/python -m venv --clear build/extras/$*
	sed -n 's/ *\\$$//; /^[a-z].*==/p' requirements.lock > build/extras/$*/constraints.txt
	build/extras/$*/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint build/extras/$*/constraints.txt -e '.[model,$*]' hypothesis pytest pytest-timeout
	@touch $@

test-compose: setup ## The whole stack in real containers: started, killed, scaled, taken down (about 10 minutes)
	$(BIN)/python -m pytest tests/compose/stack.py -v -rs

lint: setup ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## Check types
	$(BIN)/mypy

format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## Measure: cost per packet, wearers per core, latency, recovery (about 15 minutes)
	$(BIN)/repstream bench

dashboards: setup ## Write Grafana's dashboards anew
	$(BIN)/python -m grafana.generate

docs: setup ## Build the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

reference: setup ## Write the tables of topics and metrics in docs/ anew
	$(BIN)/python -m docs.generate

env: ## Make .env, the settings of docker compose, with passwords of its own
	$(PYTHON) deploy/env.py

lock: setup ## Pin the newest allowed packages with their hashes
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --no-annotate --upgrade --quiet -o requirements.lock
	$(MAKE) setup
	$(BIN)/python deploy/packages.py --write

clean: ## Remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
