# One place for the commands that people and CI run.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SAMPLE := data/samples/transcripts.csv

.PHONY: help run setup test check fix bench train clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(BIN)/cs-classifier: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

run: $(BIN)/cs-classifier  ## set up, score the sample transcripts, print a summary
	$(BIN)/cs-classifier predict $(SAMPLE) -o out/scored.xlsx

# torch first and alone: any looser request pulls the CUDA build, which is several gigabytes.
setup: $(BIN)/cs-classifier  ## everything for training, tests and checks
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train]' --group dev

test: setup  ## set up and run all tests
	$(BIN)/python -m pytest -q

check: setup  ## what CI runs: lint, types, layers, rules, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cs-classifier rules test
	$(BIN)/python -m pytest -q

fix: setup  ## repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BIN)/cs-classifier  ## time a cold start and 1,000 rows
	$(BIN)/python scripts/bench_cold_start.py

train: setup  ## train the default model anew
	$(BIN)/cs-classifier -v train --config configs/train.yaml -o models/default

clean:  ## remove what was built
	rm -rf $(VENV) out runs .mypy_cache .pytest_cache .ruff_cache
