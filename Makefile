# RunEngine. `make` lists the targets; `make demo` and `make test` need Python 3.11 or newer and nothing else.
# PYTHON=… names the Python of the environment, GRPC_ADDRESS, HTTP_ADDRESS and OPS_ADDRESS move `make dev`, ARGS=… goes to pytest.

PY := .venv/bin/python
GRPC_ADDRESS ?= 127.0.0.1:50051
HTTP_ADDRESS ?= 127.0.0.1:3001
OPS_ADDRESS ?= 127.0.0.1:3002
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo dev test check test-unit test-integration test-e2e test-browser test-deploy test-fault bench bench-peers lock protos docs console verify clean
MAKEFLAGS += --no-print-directory

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

demo: ## Build a campaign and change its music, on PostgreSQL and Valkey of its own
	@.ci/environment.sh demo
	@exec $(PY) -m examples.campaign.demo

dev: ## Keep databases, campaign skills and engine running until Ctrl-C
	@.ci/environment.sh demo
	@exec $(PY) -m examples.campaign.dev --grpc-address $(GRPC_ADDRESS) --http-address $(HTTP_ADDRESS) --ops-address $(OPS_ADDRESS)

test: check ## Every check and every test; the last line is pytest's
	@$(PY) -m pytest $(ARGS)

check: ## The fast checks: style, types, layers, wire contract, generated code
	@.ci/environment.sh test
	@.ci/check.sh

test-unit: ## Tests without servers: unit, property, tidy
	@.ci/pytest.sh unit property tidy -- $(ARGS)

test-integration: ## Tests against PostgreSQL, Valkey and gRPC: integration, contract, migration
	@.ci/pytest.sh integration contract migration -- $(ARGS)

test-e2e: ## Tests of whole processes, and of every command in the README
	@.ci/pytest.sh e2e -- $(ARGS)

test-browser: ## Tests of pages in a real Chromium; first installs it and npm packages, where it can
	@.ci/browser.sh
	@.ci/pytest.sh browser -- $(ARGS)

test-deploy: ## Tests of deploy/ by the programs it is for; first installs those, where it can
	@.ci/deploy_tools.sh
	@.ci/pytest.sh deploy -- $(ARGS)

test-fault: ## Tests that kill, freeze and restart things, and the simulation
	@.ci/pytest.sh fault simulation -- $(ARGS)

bench: ## Measure the engine on databases of its own (ARGS="TABLE --help" for the tables); about 3 minutes
	@.ci/environment.sh test
	@exec $(PY) -m benchmarks $(or $(ARGS),engine)

bench-peers: ## Measure other engines, installed into .cache/, in turn with ours; about 10 minutes
	@.ci/environment.sh test
	@exec $(PY) -m benchmarks peers $(ARGS)

lock: ## Bring deploy/locks up to date with pyproject.toml (LOCK_FLAGS=--upgrade: newest of everything)
	@.ci/lock.sh

protos: ## Generate runengine_client/pb and docs/api.md from protos/
	@.ci/environment.sh test
	@$(PY) .ci/generate_protos.py
	@$(PY) .ci/api_reference.py

docs: ## Build the documentation site into build/site; broken links fail
	@.ci/docs.sh

console: ## Build the web console into the server's package; needs Node
	@.ci/console.sh

verify: ## Check that generated code and locks are what their sources say
	@.ci/environment.sh test
	@.ci/check_protos.sh
	@.ci/console.sh --check
	@.ci/lock.sh --check

clean: ## Remove everything that make made, the environment too
	rm -rf .venv .tools .cache .dev campaign-demo build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
