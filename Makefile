# hapolicy 2: `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find src -name '*.py') pyproject.toml

.PHONY: help run test lint unit parts clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.installed  ## start hapolicy on 127.0.0.1:10060 before two sample services
	@exec $(BIN)/python -m hapolicy.demo

test: parts lint unit  ## set up and run everything

lint: $(VENV)/.tested  ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.tested  ## all tests, against the installed package
	$(BIN)/python -m pytest $(PYTEST_ARGS)

parts:  ## the Debian packages that the end-to-end tests use, where this is possible
	@tests/install-parts

clean:  ## remove what the targets made
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { tests/install-parts python3-venv && $(PYTHON) -m venv --clear $(VENV); }

# A real installation, not an editable one: what is tested is what users get.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(VENV)/.installed: $(VENV)/bin/python $(SOURCES)
	$(INSTALL) .
	@touch $@

$(VENV)/.tested: $(VENV)/bin/python $(SOURCES)
	$(INSTALL) '.[test]'
	@touch $@ $(VENV)/.installed
