# The two commands of a newcomer are `make demo` and `make test`. `make help` lists them all.
.DEFAULT_GOAL := help
BIN := .venv/bin
STAMP := .venv/installed
# These tests check all network namespaces of the machine, so they run alone.
ALONE := tests/sites/test_wan.py tests/sites/test_traces.py
LOCK := $(BIN)/uv pip compile --generate-hashes --no-emit-index-url --universal --custom-compile-command "make lock" --quiet --upgrade

# Users who cannot write to the checkout have their own directory for the caches of the checks.
ifneq ($(shell test -w . && echo writable),writable)
CHECKS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/atoll/checks
IMPORTS := --cache-dir $(CHECKS)/imports
export RUFF_CACHE_DIR := $(CHECKS)/ruff
export MYPY_CACHE_DIR := $(CHECKS)/mypy
export HYPOTHESIS_STORAGE_DIRECTORY := $(CHECKS)/hypothesis
export ATOLL_TEMPEST ?= $(CHECKS)/tempest
export PYTEST_ADDOPTS := $(PYTEST_ADDOPTS) -o cache_dir=$(CHECKS)/pytest
DOCS_VENV := $(CHECKS)/venv-docs
DOCS_BUILT := $(CHECKS)/docs
USE_CASES_VENV := $(CHECKS)/venv-use-cases
endif
DOCS_VENV ?= .venv-docs
DOCS_BUILT ?= build/docs
USE_CASES_VENV ?= .venv-use-cases

.PHONY: help install demo test lint docs unit bus sites across attacks clients use-cases guests tempest tempest-smoke tempest-network tempest-scenarios debian fuzz test-all lock network-services studies clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make a .venv with the locked dependencies and the project

$(STAMP): requirements.lock pyproject.toml setup.py scripts/install $(addprefix src/atoll/wan/,build.py datapath.c datapath.h)
	scripts/install $^

demo: install ## start three sites behind an emulated WAN, with servers
	scripts/guests
	scripts/demo

test: ## run everything that .ci/run runs, and print the duration of each part
	@+MAKE='$(MAKE)' scripts/parts install lint docs unit bus sites across guests tempest-smoke

test-all: test clients use-cases ## also run the long tests, foreign clients, the use cases, and 10,000 random steps against the model of rights
	scripts/packages redis-server mariadb-server postgresql openssh-server iproute2
	$(BIN)/pytest tests/unit tests/across tests/sites tests/guests -m long
	ATOLL_STEPS=10000 $(BIN)/pytest tests/unit/gateway/test_rights_property.py

lint: install ## run ruff, mypy, import-linter, and the count of sentences that are hard to read
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports $(IMPORTS)
	$(BIN)/python scripts/words --strict

docs: install ## build the documentation as a site for reading without a network: build/docs/index.html
	scripts/docs $(DOCS_VENV) $(DOCS_BUILT)

unit: install ## run the quick tests
	scripts/packages chromium redis-server
	@# Paths of sockets must be short; those below pytest's and xdist's own directories would be too long.
	directory=$$(mktemp -d /tmp/u.XXXX) && $(BIN)/pytest --numprocesses 2 --dist loadfile --basetemp $$directory -m "not long"; code=$$?; rm -rf $$directory; exit $$code

bus: install ## test the message bus with real processes and links: a minute
	$(BIN)/pytest tests/bus --numprocesses 2 --dist loadfile

sites: install ## run the tests with real sites
	scripts/packages rabbitmq-server e2fsprogs mount
	$(BIN)/pytest tests/sites --numprocesses 2 --dist loadfile -m "not long" $(addprefix --ignore ,$(ALONE))
	$(BIN)/pytest $(ALONE)

across: install ## test a real cloud of three sites: operations across sites, and attacks
	$(BIN)/pytest tests/across tests/attacks --numprocesses 2 --dist loadfile -m "not long"

attacks: install ## run the attacks alone
	$(BIN)/pytest tests/attacks --numprocesses 2 --dist loadfile

clients: install ## test foreign clients over three sites: openstacksdk, Ansible, Libcloud
	scripts/clients
	$(BIN)/pytest tests/clients --numprocesses 2 --dist loadfile

use-cases: install ## test the use cases in examples/cloudlets
	scripts/use-cases $(USE_CASES_VENV)
	$(USE_CASES_VENV)/bin/python -m pytest tests/use_cases

guests: install network-services ## run the tests with real guests on real networks
	scripts/guests
	scripts/packages frr strongswan-starter strongswan-charon libcharon-extra-plugins
	$(BIN)/pytest tests/guests --numprocesses 2 --dist loadfile -m "not long"

tempest: install ## run all of Tempest's API tests that a site supports: 15 minutes
	$(BIN)/python tests/tempest/run.py

tempest-smoke: install ## run a subset of each kind of Tempest's API tests: 3 minutes
	$(BIN)/python tests/tempest/run.py --smoke

tempest-network: install network-services ## run neutron-tempest-plugin's API tests with ML2/OVN, ML2/OVS and all network services
	scripts/guests
	$(BIN)/python tests/tempest/run.py ovn
	$(BIN)/python tests/tempest/run.py ovs

tempest-scenarios: install ## run Tempest's scenarios, which sign in to guests
	scripts/guests
	scripts/packages iputils-ping sudo
	$(BIN)/python tests/tempest/run.py scenarios

debian: ## run all tests in a bare Debian 12 and 13, each in a clean clone: 90 minutes
	scripts/in-debian 12 -- make test
	scripts/in-debian 13 -- make test

FUZZED := public peer join mesh bus names metadata request json scope consoles segments arrivals
FUZZ_SECONDS := 600
fuzz: install ## fuzz all ports and parsers, guided by coverage, 10 minutes each (FUZZ_SECONDS)
	test -d .fuzz/lib/atheris || $(BIN)/uv pip install --python $(BIN)/python --target .fuzz/lib 'atheris>=3,<4'
	for each in $(FUZZED); do PYTHONPATH=.fuzz/lib $(BIN)/python tests/fuzz/fuzz.py $$each -max_len=4096 -max_total_time=$(FUZZ_SECONDS) || exit 1; done

studies: install ## run the published studies, which takes hours (ONLY="NAME …" runs some, LIST=1 only estimates their times): build/studies
	.venv/bin/python scripts/studies $(if $(LIST),--list) $(addprefix --only ,$(ONLY))

lock: install ## resolve the dependencies again
	$(LOCK) $(addprefix --extra ,bench experiment tempest dev) --output-file requirements.lock pyproject.toml
	echo 'enoslib[vagrant]>=10.6,<11' | $(LOCK) --python-version 3.11 --output-file src/atoll/testbed/enoslib.lock -
	$(LOCK) --extra network --constraint requirements.lock --output-file requirements-network.lock pyproject.toml
	$(LOCK) --python-version 3.11 --output-file requirements-clients.lock requirements-clients.in
	$(LOCK) --python-version 3.11 --output-file requirements-docs.lock requirements-docs.in
	$(LOCK) --python-version 3.11 --override requirements-use-cases.overrides --output-file requirements-use-cases.lock requirements-use-cases.in
	$(LOCK) --python-version 3.11 --output-file src/atoll/rally/requirements.lock src/atoll/rally/requirements.in
	echo libvirt-python | $(LOCK) --output-file requirements-guests.lock -

network-services: install ## install the packages of Neutron's further service plug-ins: docs/how-to/switch-on-network-services.md
	$(BIN)/python scripts/python-packages requirements-network.lock network-services

clean: ## remove the environments and build directories
	rm -rf .venv .venv-clients .venv-docs .venv-use-cases build dist
