# Two commands for a new machine: `make audit`, and `make test`, which is `make lint types unit`. PYTHON is the interpreter from which the environment is built.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/audit

TOOLS := .venv-tools
SITE := .venv-site
# every pinned package but torch is checked against the sha256 of its files; torch's file depends on the machine
HASHED := $(BIN)/pip install --quiet --require-hashes --no-deps --requirement
# $(call stage,NAME,COMMAND) runs a command and prints how long it took
stage = @started=$$(date +%s); $(2) && echo "$(1): $$(($$(date +%s) - started)) s"

.PHONY: audit audit-smollm2 test bench lint types unit smollm2 environment audit-deps sbom hashes wheel tree site gallery clean

environment: $(VENV)/ready

# what an audit runs, and nothing else; torch at its exact version: an open range would install gigabytes of GPU libraries
# that a CPU cannot use
$(VENV)/audit: constraints.txt pyproject.toml .ci/hashes-audit.txt
	$(PYTHON) -m venv $(VENV)
	$(HASHED) .ci/hashes-audit.txt
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

# the same environment with what tests, types and training need
$(VENV)/ready: $(VENV)/audit .ci/hashes.txt
	$(HASHED) .ci/hashes.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,train]'
	touch $@

# a type checker does not follow the editable install's import hook, so override_gap is laid out as links to the folders
.types/override_gap: override_gap/__init__.py
	mkdir -p $@
	for folder in margins probes analyses reports; do ln -sfn ../../$$folder $@/$$folder; done
	for file in override_gap/*.py; do ln -sf ../../$$file $@/; done
	touch $@

smollm2: $(VENV)/audit
	$(BIN)/python -m override_gap.probes.smollm2

audit: $(VENV)/audit
	$(BIN)/override-gap audit --out $(RUN)

audit-smollm2: smollm2
	$(BIN)/override-gap audit --subject smollm2 --out $(RUN)-smollm2

test: lint types unit

lint: environment
	$(call stage,lint,$(BIN)/ruff check . && $(BIN)/ruff format --check .)

types: environment .types/override_gap
	$(call stage,types,$(BIN)/pyright)

unit: environment smollm2
	$(call stage,tests,OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2)

# tools that inspect the environment are kept in one of their own
$(TOOLS)/ready: .ci/tools.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --requirement .ci/tools.txt
	touch $@

audit-deps: $(TOOLS)/ready
	$(TOOLS)/bin/python .ci/audit_deps.py constraints.txt

sbom: environment $(TOOLS)/ready
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o dist/sbom.json $(BIN)/python
	@echo dist/sbom.json

# the hashes of every pinned package's files, for all platforms; run it after constraints.txt has changed
hashes: environment $(TOOLS)/ready
	grep -Ev '^(torch|atheris)==' constraints.txt | $(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --no-deps \
	  --generate-hashes --no-annotate --no-header --output-file .ci/hashes.txt -
	$(BIN)/python .ci/audit_hashes.py .ci/hashes.txt > .ci/hashes-audit.txt
	sed -n 's/^site = \[\(.*\)\]/\1/p' pyproject.toml | tr -d '" ' | tr , '\n' | $(TOOLS)/bin/uv pip compile --quiet --universal \
	  --python-version 3.11 --generate-hashes --no-annotate --no-header --output-file .ci/site.txt -

# builds the commit twice and compares: the same commit gives the same file
wheel: environment
	$(BIN)/python .ci/wheel.py dist

# cost against bare forward passes and other tools; writes benchmarks/results and docs/performance.md
bench: environment smollm2
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks.bench

# docs/tree.md, from the first sentence of every file's docstring
tree:
	$(PYTHON) .ci/tree.py

# what the extra `site` names, with what that needs, in an environment of its own: no page needs the package, torch least of all
$(SITE)/ready: .ci/site.txt
	$(PYTHON) -m venv $(SITE)
	$(SITE)/bin/pip install --quiet --require-hashes --no-deps --requirement .ci/site.txt
	touch $@

# the reports of the gallery, the fetched model's among them, kept in runs/gallery; a report that is there stays
gallery: smollm2
	$(BIN)/python .ci/website/gallery.py --command $(BIN)/override-gap

# all pages as one folder, site/, read and searched from its files without a server; reports of the shipped model are made if missing
site: $(SITE)/ready $(VENV)/audit
	$(BIN)/python .ci/website/gallery.py --organism --command $(BIN)/override-gap
	$(SITE)/bin/python .ci/website/build.py site
	@echo site/index.html

clean:
	rm -rf $(VENV) $(TOOLS) $(SITE) runs site build dist *.egg-info
