# Needs Python 3.11 with venv, and make. On Debian 12: apt-get install python3-venv make git
# Every target makes what it needs; none has to be run before another.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo-out

.PHONY: help setup demo test test-long test-browser drill threats gate lint audit format bench bench-portal lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# One environment holds everything. The demonstration alone needs less than the tests do, so each
# has its stamp; the larger set also makes the smaller one's.
DEMO_READY := $(VENV)/demo.ready
DEV_READY := $(VENV)/dev.ready

# pip is made last: a half-made environment is made again.
$(BIN)/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)

# --no-deps: the lock is complete, and nothing that is not in it may come in.
# --no-build-isolation: the build backend, too, is the one in the lock.
$(DEMO_READY): requirements/demo.lock pyproject.toml | $(BIN)/pip
	@if test -e $(DEV_READY); then $(MAKE) --no-print-directory $(DEV_READY); \
	else $(MAKE) --no-print-directory install LOCK=requirements/demo.lock; fi
	@touch $@

$(DEV_READY): requirements/dev.lock pyproject.toml | $(BIN)/pip
	@$(MAKE) --no-print-directory install LOCK=requirements/dev.lock
	@touch $(DEMO_READY) $@

.PHONY: install
install:
	@echo "installing $(LOCK) into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
		--require-hashes --only-binary :all: -r $(LOCK)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
		--no-build-isolation --no-index --editable .
# On all processors, which pip does not; some packages carry files that are not for this Python.
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib linkage broker sites > /dev/null || true

setup: $(DEV_READY) ## Make .venv with everything for development

demo: $(DEMO_READY) ## Link three simulated commons and build a cohort (under two minutes)
	$(BIN)/linkage-site demo --out $(OUT)

test: $(DEV_READY) ## Run the tests, except the long ones
	$(BIN)/python -m pytest -m "not long and not browser" $(ARGS)

test-long: $(DEV_READY) ## Run the long tests
	$(BIN)/python -m pytest -m long --timeout 1800 $(ARGS)

test-browser: $(DEV_READY) ## Test the portal in Chromium (apt-get install chromium)
	$(BIN)/python -m pytest -m browser tests/browser --timeout 1800 $(ARGS)

drill: $(DEV_READY) ## Kill a broker at random points, stop its database, fill its disk (about ten minutes)
	$(BIN)/python -m tests.drill $(ARGS)

threats: $(DEV_READY) ## Run the tests behind docs/threat-model.md and write its table
	$(BIN)/python -m tests.threats --run $(ROWS)

gate: $(DEV_READY) ## Measure the shipped study and renew its certificate (about five minutes)
	$(BIN)/linkage attack configs/three-commons/study.toml --out build/gate
	cp build/gate/certificate.json configs/three-commons/certificate.json

lint: $(DEV_READY) ## Check style, types, import boundaries and known unsafe calls
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy linkage broker sites
	$(BIN)/lint-imports --no-logo
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive linkage broker sites

# Not part of lint: it asks a service on the network for what became known since yesterday. Error 3:
# the service was not reached, and nothing is known.
audit: $(DEV_READY) ## Look for known flaws in the locked packages (needs the network)
	$(BIN)/python -m tests.flaws

load: $(DEV_READY) ## Let 50 sites poll a broker that links (ten minutes on each database)
	$(BIN)/python -m tests.load $(ARGS)

fuzz: $(DEV_READY) ## Send generated requests to every address as every caller (Schemathesis)
	$(BIN)/python -m tests.fuzz $(ARGS)

format: $(DEV_READY) ## Put the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV_READY) ## Compare our kernels with anonlink and clkhash on this machine
	$(BIN)/linkage bench encode
	$(BIN)/linkage bench match

bench-portal: $(DEV_READY) ## Measure every page of the portal over a large broker (some minutes)
	$(BIN)/python -m tests.load.portal $(ARGS)

# dev first; the others are cut from it, so that one version holds everywhere.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links

lock: $(DEV_READY) ## Renew requirements/*.lock from pyproject.toml
	$(COMPILE) --upgrade pyproject.toml --extra dev requirements/build.in -o requirements/dev.lock
	$(COMPILE) -c requirements/dev.lock pyproject.toml --extra demo requirements/build.in \
		-o requirements/demo.lock
	$(COMPILE) -c requirements/dev.lock pyproject.toml --extra site -o requirements/site.lock
	$(COMPILE) -c requirements/dev.lock pyproject.toml --extra site --extra marks \
		-o requirements/marks.lock
	$(COMPILE) -c requirements/dev.lock pyproject.toml --extra broker -o requirements/broker.lock
	$(COMPILE) -c requirements/dev.lock requirements/build.in -o requirements/build.lock

clean: ## Remove .venv and everything made
	rm -rf $(VENV) $(OUT) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
