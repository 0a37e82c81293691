# mediadht: the house's doors. Each works from a fresh clone with nothing installed but python3 (3.11 or newer) and its
# venv module. Two stamps in the virtual environment say what is installed; both follow pyproject.toml.

PYTHON ?= python3
VENV ?= .venv
FILE ?=
PYTEST_ARGS ?=
FUZZ_MINUTES ?= 2
FUZZ_SEED ?= 1

BIN := $(VENV)/bin
# Editable in both cases: installing a snapshot for the demo would hide later changes from the tests.
STAMP_DEMO := $(VENV)/.installed-demo
STAMP_TEST := $(VENV)/.installed-test
# Twice quiet: errors only. What a machine's own pip settings warn of is not our news.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --quiet

.PHONY: help demo test test-slow fuzz bench lint format wheel clean

help:
	@echo 'make demo [FILE=path]  five daemons and two Synapse servers on loopback, the story told, all stopped again'
	@echo 'make test              every test that takes seconds (PYTEST_ARGS="-k name" for some of them)'
	@echo 'make test-slow         the tests that take minutes'
	@echo 'make fuzz              the safety search for FUZZ_MINUTES=2: random simulated networks with random faults'
	@echo 'make lint              ruff, mypy, the import contracts'
	@echo 'make format            ruff format and the safe fixes'
	@echo 'make bench             benchmarks/dht.py'
	@echo 'make wheel             dist/*.whl'
	@echo 'make clean             removes what the above made'

$(BIN)/python:
	@echo 'creating $(VENV)'
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'mediadht needs Python 3.11 or newer: call make PYTHON=python3.12, say' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(STAMP_DEMO): pyproject.toml | $(BIN)/python
	@echo 'installing mediadht and Synapse into $(VENV) (about a minute)'
	@$(PIP) -e '.[homeserver]'
	@touch $@

$(STAMP_TEST): pyproject.toml | $(BIN)/python
	@echo 'installing mediadht with all that its tests need into $(VENV) (about two minutes)'
	@$(PIP) -e '.[test,homeserver,bench,sim,lint]'
	@touch $@ $(STAMP_DEMO)

demo: export FILE := $(FILE)
demo: $(STAMP_DEMO)
	@$(BIN)/mediadht demo $${FILE:+"$$FILE"}

test: $(STAMP_TEST)
	$(BIN)/python -m pytest -m 'not slow' $(PYTEST_ARGS)

# pytest's exit code 5 says that no test was selected: no failure here.
test-slow: $(STAMP_TEST)
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS) || [ $$? -eq 5 ]

# A failure prints the command that shows it again. FUZZ_SEED=12345 searches where nobody has been.
fuzz: $(STAMP_TEST)
	$(BIN)/mediadht-sim fuzz --minutes $(FUZZ_MINUTES) --seed-start $(FUZZ_SEED)

bench: $(STAMP_TEST)
	$(BIN)/python benchmarks/dht.py $(BENCH_ARGS)

lint: $(STAMP_TEST)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP_TEST)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(STAMP_TEST)
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
