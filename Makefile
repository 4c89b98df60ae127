# Two commands for a new machine: `make audit` and `make test`. PYTHON names the interpreter to build the environment from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/audit

.PHONY: audit audit-smollm2 test bench smollm2 environment clean

environment: $(VENV)/ready

# torch first, by its exact pin: an open range takes gigabytes of GPU libraries that a CPU has no use for
$(VENV)/ready: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,train]'
	touch $@

smollm2: environment
	$(BIN)/python -m probes.smollm2

audit: environment
	$(BIN)/override-gap audit --out $(RUN)

audit-smollm2: environment smollm2
	$(BIN)/override-gap audit --subject smollm2 --out $(RUN)-smollm2

test: environment smollm2
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# ratios against bare forward passes and other tools; writes benchmarks/results and docs/performance.md
bench: environment smollm2
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks.bench

clean:
	rm -rf $(VENV) runs build dist *.egg-info
