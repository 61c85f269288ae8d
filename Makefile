# The two commands of a newcomer are `make demo` and `make test`. `make help` lists them all.
.DEFAULT_GOAL := help
BIN := .venv/bin
STAMP := .venv/installed
# These look at all network namespaces of the machine.
ALONE := tests/sites/test_wan.py tests/sites/test_traces.py
LOCK := $(BIN)/uv pip compile --generate-hashes --no-emit-index-url --universal --custom-compile-command "make lock" --quiet --upgrade

# Who may not write to the checkout keeps what the checks remember in a directory of their own.
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
endif
DOCS_VENV ?= .venv-docs
DOCS_BUILT ?= build/docs

.PHONY: help install demo test lint docs unit bus sites across attacks clients guests tempest tempest-smoke tempest-network tempest-scenarios debian fuzz test-all lock network-services clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## a .venv with the locked dependencies and the project

$(STAMP): requirements.lock pyproject.toml setup.py scripts/install $(addprefix src/atoll/wan/,build.py datapath.c datapath.h)
	scripts/install $^

demo: install ## three sites behind an emulated WAN, with servers, from nothing
	scripts/guests
	scripts/demo

test: ## all that .ci/run runs, and how long each part took
	@+MAKE='$(MAKE)' scripts/parts install lint docs unit bus sites across guests tempest-smoke

test-all: test clients ## that, the long ones, foreign clients, and 10,000 random steps against the model of who may do what
	$(BIN)/pytest tests/across tests/sites -m long
	ATOLL_STEPS=10000 $(BIN)/pytest tests/unit/gateway/test_rights_property.py

lint: install ## ruff, mypy, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports $(IMPORTS)

docs: install ## the documentation as a site, for reading without a network: build/docs/index.html
	scripts/docs $(DOCS_VENV) $(DOCS_BUILT)

unit: install ## the quick tests
	@# Paths of sockets are short: pytest's own directory, and xdist's in it, would make them too long.
	directory=$$(mktemp -d /tmp/u.XXXX) && $(BIN)/pytest --numprocesses 2 --dist loadfile --basetemp $$directory; code=$$?; rm -rf $$directory; exit $$code

bus: install ## the message bus, with real processes and links: 2 minutes
	$(BIN)/pytest tests/bus

sites: install ## tests with real sites
	scripts/packages rabbitmq-server e2fsprogs mount
	$(BIN)/pytest tests/sites --numprocesses 2 --dist loadfile -m "not long" $(addprefix --ignore ,$(ALONE))
	$(BIN)/pytest $(ALONE)

across: install ## a real cloud of three sites: what concerns several of them, and attacks
	$(BIN)/pytest tests/across tests/attacks --numprocesses 2 --dist loadfile -m "not long"

attacks: install ## the attacks alone
	$(BIN)/pytest tests/attacks --numprocesses 2 --dist loadfile

clients: install ## foreign clients make and remove a tenancy over three sites: openstacksdk, Ansible, Libcloud
	scripts/clients
	$(BIN)/pytest tests/clients --numprocesses 2 --dist loadfile

guests: install network-services ## tests with real guests on real networks
	scripts/guests
	scripts/packages frr strongswan-starter strongswan-charon libcharon-extra-plugins
	$(BIN)/pytest tests/guests --numprocesses 2 --dist loadfile

tempest: install ## Tempest's API tests against a site: all that a site can run, 15 minutes
	$(BIN)/python tests/tempest/run.py

tempest-smoke: install ## some of them, of each kind: 3 minutes
	$(BIN)/python tests/tempest/run.py --smoke

tempest-network: install network-services ## neutron-tempest-plugin's API tests, with ML2/OVN and ML2/OVS and all network services
	scripts/guests
	$(BIN)/python tests/tempest/run.py ovn
	$(BIN)/python tests/tempest/run.py ovs

tempest-scenarios: install ## Tempest's scenarios, with guests that are signed in to
	scripts/guests
	scripts/packages iputils-ping sudo
	$(BIN)/python tests/tempest/run.py scenarios

debian: ## all tests in a bare Debian 12 and a bare Debian 13, each in a clean clone: an hour and a half
	scripts/in-debian 12 -- make test
	scripts/in-debian 13 -- make test

FUZZED := public peer join mesh bus names metadata request json scope consoles segments arrivals
FUZZ_SECONDS := 600
fuzz: install ## all ports and parsers under a coverage-guided fuzzer, 10 minutes each (FUZZ_SECONDS)
	test -d .fuzz/lib/atheris || $(BIN)/uv pip install --python $(BIN)/python --target .fuzz/lib 'atheris>=3,<4'
	for each in $(FUZZED); do PYTHONPATH=.fuzz/lib $(BIN)/python tests/fuzz/fuzz.py $$each -max_len=4096 -max_total_time=$(FUZZ_SECONDS) || exit 1; done

lock: install ## resolve the dependencies anew
	$(LOCK) $(addprefix --extra ,bench tempest dev) --output-file requirements.lock pyproject.toml
	$(LOCK) --extra network --constraint requirements.lock --output-file requirements-network.lock pyproject.toml
	$(LOCK) --python-version 3.11 --output-file requirements-clients.lock requirements-clients.in
	$(LOCK) --python-version 3.11 --output-file requirements-docs.lock requirements-docs.in
	echo libvirt-python | $(LOCK) --output-file requirements-guests.lock -

network-services: install ## the packages of Neutron's further service plug-ins: docs/network-services.md
	$(BIN)/python scripts/python-packages requirements-network.lock network-services

clean: ## remove what install made
	rm -rf .venv .venv-clients .venv-docs build dist
