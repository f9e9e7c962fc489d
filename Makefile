# Everything a contributor or a newcomer starts from here. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo up setup test check format bundle bench lock clean images worker docker sam emulators

BIN := .venv/bin
PYTEST_WORKERS ?= 2
LAMBDA_PYTHON ?= 3.13
LAMBDA_ARCHITECTURE ?= arm64
# Lock files carry hashes and no addresses: any index or mirror may deliver, none can change what is installed.
LOCK := uv pip compile --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -q

help: ## this list
	@echo "Lamplighter: machine-learning steps on machines that exist only while there is work."
	@echo
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18
	@echo
	@echo "New here?  make demo     (docs: README.md, then docs/index.md)"
	@echo "Settings:  DEMO_ONCE=1 ends the demo's server at the end; DEMO_RUNTIME=process does without Docker."

demo: ## see it work: a server, the real vh, and a model trained on it
	@infra/setup/setup.sh server clients digits
	@$(BIN)/python infra/demo

up: ## a server of your own on http://127.0.0.1:8000, kept in .lamplighter/state
	@infra/setup/setup.sh server
	@$(BIN)/lamplighter up --host 127.0.0.1 --port 8000 --state .lamplighter/state

setup: ## install what the clone needs into .venv and .cache
	@infra/setup/setup.sh

test: setup sam emulators docker images worker check ## everything that CI checks: lint, types, import rules, all tests
	@$(BIN)/pytest -n $(PYTEST_WORKERS) tests

check: ## format, lint, types and import rules: seconds
	@infra/setup/setup.sh server
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy infra/demo infra/images/rootfs.py infra/bench.py worker_ami/image/files/usr/lib/lamplighter/settings.py
	$(BIN)/mypy infra/bundling
	$(BIN)/lint-imports

format: ## put the code into the project's format
	@infra/setup/setup.sh server
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bundle: ## build what `sam deploy` uploads: build/*.zip (LAMBDA_PYTHON=3.13 LAMBDA_ARCHITECTURE=arm64)
	@infra/bundling/bundle.sh --python $(LAMBDA_PYTHON) --architecture $(LAMBDA_ARCHITECTURE)

bench: ## the numbers that we promise, measured here
	@infra/setup/setup.sh
	@$(BIN)/python infra/bench.py

lock: ## resolve the dependencies anew; commit what changes
	@infra/setup/setup.sh server
	PATH="$(CURDIR)/.cache/tools/bin:$$PATH"; \
	$(LOCK) --upgrade pyproject.toml --extra aws --extra server --group dev --no-emit-package lamplighter-worker --no-emit-package lamplighter -o requirements.lock; \
	cd infra/setup && for name in tools clients utils digits sam aws emulators; do $(LOCK) --upgrade $$name.in -o $$name.lock; done

docker: ## make a Docker engine answer (installs one when root on Debian or Ubuntu)
	@infra/setup/docker.sh

emulators: ## the AWS emulator and the other servers that tests start
	@infra/setup/setup.sh emulators
	@infra/setup/dynamodb_local.sh
	@infra/setup/asl.sh

sam: ## install what checks template.yaml, deploys it to AWS and looks after it there
	@infra/setup/setup.sh sam aws

images: docker ## build the images of the tests and the demo
	@infra/setup/setup.sh server clients digits
	@infra/images/build.sh lamplighter/python-utils:3.11 lamplighter/digits:1

worker: docker ## make the worker's image that the tests boot (as root on Debian or Ubuntu)
	@infra/setup/image.sh

clean: ## remove what was installed, downloaded and recorded in this clone
	rm -rf .venv .cache .lamplighter .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
