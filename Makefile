# hapolicy 2: `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find src -name '*.py' -o -name '*.html') pyproject.toml

.PHONY: help run test test-quick test-pythons hurry lint unit coverage mutants reference fuzz soak bench man pyz deb parts clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.installed  ## start hapolicy on 127.0.0.1:10060 before two sample services
	@exec $(BIN)/python examples/demo.py

test: parts lint unit  ## set up and run everything

lint: $(VENV)/.tested  ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# How long a mail waits for a hung service is timed alone. Most of the others wait, for daemons, boots and browsers: five
# at a time on two processors. A file's tests share what they have built, so they stay together.
unit: $(VENV)/.tested  ## all tests, against the installed package
	$(BIN)/python -m pytest tests/services/test_hung.py $(PYTEST_ARGS)
	$(BIN)/python -m pytest -n 5 --dist loadfile --durations 12 --ignore tests/services/test_hung.py tests $(PYTEST_ARGS)

test-quick: $(VENV)/.tested  ## lint and the tests that need no system packages, in under a minute
	$(BIN)/ruff check --quiet .
	$(BIN)/python -m pytest -q -n 3 tests/core tests/config tests/log tests/net tests/proxy tests/admin tests/daemon tests/docs

coverage: $(VENV)/.coverable  ## branch coverage of src by all tests but those of the real mail path
	rm -f .coverage .coverage.*
	-PYTHONPATH=$(CURDIR)/tests/coverage $(BIN)/python -m coverage run -m pytest -q -n 4 --dist loadfile --deselect tests/process/test_costs.py \
	tests/core tests/config tests/log tests/net tests/proxy tests/admin tests/daemon tests/process tests/faults
	PYTHONPATH=$(CURDIR)/tests/coverage $(BIN)/python -m coverage combine --quiet
	PYTHONPATH=$(CURDIR)/tests/coverage $(BIN)/python -m coverage report

mutants: $(VENV)/.mutable  ## MUTANTS='hapolicy.core.*': the code broken on purpose, a bit at a time, and who lives on; hours
	HAPOLICY_TEST_EXAMPLES=15 HAPOLICY_TEST_HEDGES=1000 HAPOLICY_TEST_PATIENCE=3 $(BIN)/mutmut run --max-children 2 $(MUTANTS)
	$(BIN)/mutmut results

reference: $(VENV)/.installed  ## docs/reference, made from the code
	$(BIN)/python package/reference.py

hurry: $(VENV)/.tested  ## the tests with Python's own checks on, and threads that take turns every microsecond
	PYTHONDEVMODE=1 PYTHONWARNINGS=error HAPOLICY_TEST_SWITCH_INTERVAL=0.000001 \
	$(BIN)/python -m pytest tests/core tests/config tests/log tests/net tests/proxy tests/admin tests/daemon tests/process $(PYTEST_ARGS)

test-pythons: $(SOURCES)  ## the same tests under each other Python that is here: 3.12, 3.13
	@PYTHONS="$(PYTHONS)" tests/with-pythons $(PYTEST_ARGS)

FUZZ_SECONDS ?= 20
FUZZED := requests answers orders services addresses arguments

fuzz: $(VENV)/.fuzzable  ## FUZZ_SECONDS=20 of guided nonsense for each parser; what it learns stays in build/fuzz
	@for target in $(FUZZED); do \
	mkdir -p build/fuzz/$$target && log=build/fuzz/$$target.log && \
	{ $(BIN)/python tests/fuzz/run.py $$target --seconds $(FUZZ_SECONDS) --corpus build/fuzz/$$target >$$log 2>&1 || \
	{ tail -30 $$log; exit 1; }; } && \
	echo "$$target: $$(sed -n 's/^stat::number_of_executed_units: //p' $$log) inputs" || exit 1; \
	done

SOAK_SECONDS ?= 180
SOAK_CONNECTIONS ?= 200

soak: $(VENV)/.benchable  ## SOAK_SECONDS=180 of faults in turn under SOAK_CONNECTIONS=200; figures, and build/soak.svg
	@$(BIN)/python -m tests.soak.run --seconds $(SOAK_SECONDS) --connections $(SOAK_CONNECTIONS) --svg build/soak.svg

man: $(VENV)/.buildable  ## the manual pages, into build/man
	@$(BIN)/python package/man.py build/man

pyz: $(VENV)/.buildable  ## one file for any python3 from 3.11 on: dist/hapolicy.pyz
	@$(BIN)/python package/pyz.py dist/hapolicy.pyz

deb: $(VENV)/.buildable  ## the Debian package, into dist
	@$(BIN)/python package/deb.py dist

bench: $(VENV)/.benchable  ## hapolicy beside 1.00 and HAProxy, into benchmarks/results (BENCH_ARGS=--quick to try)
	@tests/install-parts gcc libc6-dev haproxy hapolicy systemd
	$(BIN)/python -m benchmarks.run $(BENCH_ARGS)

parts:  ## the Debian packages that the end-to-end tests use, where this is possible
	@tests/install-parts

clean:  ## remove what the targets made
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { tests/install-parts python3-venv && $(PYTHON) -m venv --clear $(VENV); }

# A real installation, not an editable one: what is tested is what users get.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(VENV)/.installed: $(VENV)/bin/python $(SOURCES)
	@rm -rf build/lib
	$(INSTALL) '.[http]'
	@touch $@

$(VENV)/.tested: $(VENV)/bin/python $(SOURCES)
	@rm -rf build/lib
	$(INSTALL) '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.buildable: $(VENV)/bin/python $(SOURCES)
	$(INSTALL) '.[build]'
	@touch $@ $(VENV)/.installed

$(VENV)/.fuzzable: $(VENV)/bin/python $(SOURCES)
	$(INSTALL) '.[fuzz]'
	@touch $@ $(VENV)/.installed

$(VENV)/.coverable: $(VENV)/bin/python $(SOURCES)
	$(INSTALL) '.[coverage]'
	@touch $@ $(VENV)/.installed

$(VENV)/.mutable: $(VENV)/bin/python $(SOURCES)
	$(INSTALL) '.[mutants]'
	@touch $@ $(VENV)/.tested $(VENV)/.installed

$(VENV)/.benchable: $(VENV)/bin/python $(SOURCES)
	$(INSTALL) '.[test,bench]'
	@touch $@ $(VENV)/.tested $(VENV)/.installed
