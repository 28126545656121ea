# Two commands for a new user: `make demo` and `make test`. Both set everything up first; again, they reinstall nothing.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DATA ?=
DEMO_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format lock contracts bench clean

help: ## Show what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/.installed ## Create .venv from the lock file (done by the others when needed)

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed (found: $$($(PYTHON) --version)); set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "python3 -m venv failed; on Debian: apt-get install python3.11-venv"; exit 1; }
	@awk '/^uv==/{on=1} on{print} on&&!/\\$$/{exit}' requirements.lock > .venv/uv.txt
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
	@echo "installing what requirements.lock pins (about 1.3 GB; only the first time)"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: setup ## Run the whole loop on real loan decisions; DATA=file.csv for a table of your own
	@$(BIN)/python -m examples.loan $(if $(DATA),--data $(DATA)) $(DEMO_ARGS)

test: setup ## Run every test: unit, contract, integration, end to end
	@$(BIN)/python -m pytest

check: setup ## Format, lint, types, layers and unit tests: under a minute
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --config pyproject.toml > .venv/imports.txt || { cat .venv/imports.txt; exit 1; }
	@$(BIN)/python -m pytest --quiet tests/unit tests/contract

format: setup ## Format the code and mend what the linter can
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --fix --quiet .

lock: ## Pin everything anew in requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --only-binary :all: --generate-hashes \
		--all-extras --group dev --no-annotate --custom-compile-command "make lock" \
		pyproject.toml -o requirements.lock

contracts: setup ## Write docs/contracts anew from the code
	@$(BIN)/affiant contracts --write

bench: setup ## Run the benchmarks (minutes)
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean: ## Remove what was installed and cached
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache
