# Heartwire's commands. Each makes the virtual environment it needs, and reuses it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SERVE ?=
SEEDS ?= 100000
SECONDS ?= 60
SOAK ?=
CHAOS ?=

.DEFAULT_GOAL := help
.PHONY: help serve test check format bench sdks suites simulate fuzz soak chaos clean no-node

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.run: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Heartwire needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# pip before 25.1 does not know dependency groups, so it is brought up to date first.
$(VENV)/.dev: $(VENV)/.run
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

# The tools that check JavaScript, and the packages that tests run. At a desk without Node they are skipped; CI has Node.
NODE := $(shell command -v npm 2>/dev/null)
ifneq ($(NODE),)
JS_TOOLS := node_modules/.package-lock.json
else ifneq ($(CI),)
JS_TOOLS := no-node
endif

node_modules/.package-lock.json: package-lock.json
	@npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

# The public suite of the Durable Streams protocol, for the tests only.
SUITE := tests/integration/durable/suite
ifneq ($(NODE),)
JS_TESTS := $(SUITE)/node_modules/.package-lock.json
endif

$(SUITE)/node_modules/.package-lock.json: $(SUITE)/package-lock.json
	@npm ci --prefix $(SUITE) --silent --ignore-scripts --no-audit --no-fund
	@touch $@

no-node:
	@echo 'CI has to check JavaScript, and there is no npm here' >&2; exit 1

serve: $(VENV)/.run ## set up and run `heartwire serve` with the demo page (SERVE='--port 9000' for options)
	@exec $(BIN)/heartwire serve $(SERVE)

test: $(VENV)/.dev $(JS_TOOLS) $(JS_TESTS) ## set up and run all tests
	@$(BIN)/python -m pytest -n 3 --dist worksteal

check: $(VENV)/.dev $(JS_TOOLS) ## format, lint, types, spelling
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/codespell $$(git ls-files)
ifeq ($(NODE),)
	@echo 'JavaScript is not checked: there is no npm here'
else
	@node_modules/.bin/biome check --error-on-warnings
	@node_modules/.bin/tsc
endif

format: $(VENV)/.dev $(JS_TOOLS) ## put the code in form, and join heartwire.js
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
ifneq ($(NODE),)
	@node_modules/.bin/biome check --write
endif
	@$(BIN)/python -m tools.join

bench: $(VENV)/.run ## measure against peers (docs/benchmarks.md)
	@$(BIN)/python -m bench.setup
	@$(BIN)/python -m bench

sdks: $(VENV)/.dev ## run the suites of the official SDKs (PYTHON_SDK=checkout JS_SDK=checkout)
	@$(BIN)/python -m tools.sdk_suites $(if $(PYTHON_SDK),--python $(PYTHON_SDK)) $(if $(JS_SDK),--js $(JS_SDK))

suites: $(VENV)/.dev ## run the official suites of Engine.IO and Socket.IO (SOCKETIO=checkout of socketio/socket.io)
	@$(BIN)/python -m tools.socketio_suites $(SOCKETIO)

simulate: $(VENV)/.run ## many whole systems in virtual time (SEEDS=100000; docs/testing-simulation.md)
	@$(BIN)/python -m heartwire.testing.simulation --seeds $(SEEDS) --jobs 2
	@$(BIN)/python -m heartwire.testing.simulation --seeds $$(($(SEEDS) / 4)) --jobs 2 --socketio

fuzz: $(VENV)/.dev ## send real servers what they should not get (SECONDS=60)
	@$(BIN)/python -m tools.fuzz --seconds $(SECONDS)

soak: $(VENV)/.dev ## peers that misbehave: memory, time until they are given up, waits of others (SOAK='pings --peers 100')
	@$(BIN)/python -m tools.soak $(SOAK)

chaos: $(VENV)/.dev ## kill nodes and the store under load; what is lost? (CHAOS='--engine sqlite --seconds 60'; CHAOS='--streams'; CHAOS='--socketio --rounds 20')
	@$(BIN)/python -m tools.chaos $(CHAOS)

clean: ## remove the virtual environments and node_modules
	rm -rf $(VENV) .venv-bench .bench node_modules $(SUITE)/node_modules
