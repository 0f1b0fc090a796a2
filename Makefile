# The one list of commands. All a machine needs is Python 3.11 to 3.13 with pip, git and make.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

UV_VERSION := 0.13.9
PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3 python,\
	$(shell $(name) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && command -v $(name))))
# The system's certificates, so that it works behind a proxy that inspects TLS; old versions of pip bring their own.
CA_BUNDLE := $(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt \
	/etc/ssl/ca-bundle.pem /etc/ssl/cert.pem))
ifneq ($(CA_BUNDLE),)
export PIP_CERT ?= $(CA_BUNDLE)
endif
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export UV_SYSTEM_CERTS := 1
export UV_PYTHON := $(PYTHON)
export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/.venv
export UV_NO_PROGRESS := 1
# Whatever Airflow writes stays inside the checkout.
export AIRFLOW_HOME := $(CURDIR)/.airflow
# Imports are paid over and over by Airflow's many processes: let Python keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE
unexport VIRTUAL_ENV
unexport PYTHONPATH

# Processes that share the tests which need no real Airflow.
JOBS ?= 2

UV := .tools/bin/uv
RUN := .venv/bin/python

.PHONY: help
help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "make %-13s %s\n", $$1, $$2}'

.venv/installed: pyproject.toml uv.lock $(UV)
	$(UV) sync --frozen --group dev --compile-bytecode
	@touch $@

$(UV):
	@if [ -z "$(PYTHON)" ]; then echo "No Python 3.11 to 3.13 found. Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; fi
	$(PYTHON) -m pip install --quiet --target .tools --upgrade uv==$(UV_VERSION)

.PHONY: demo
demo: .venv/installed  ## Run the example Dags in a real Airflow against the emulator (KEEP=1 leaves it up)
	$(RUN) -m tests.demo $(if $(KEEP),--keep)

.PHONY: test
test: .venv/installed  ## Run the whole test suite (ARGS="tests/unit -x" for a part, which need not reach the coverage)
	rm -f .coverage .coverage.*
ifdef ARGS
	$(RUN) -m pytest --cov --cov-report= --cov-fail-under=0 $(ARGS)
else
	$(MAKE) --no-print-directory --keep-going --jobs=2 test-airflow test-all-else
endif

# The two halves of `make test` run side by side, because real Airflow mostly waits. The second half gets what Airflow leaves of
# the processors: Airflow's scheduler loses tasks on a busy machine. Coverage would slow all of Airflow's processes down.
.PHONY: test-airflow test-all-else
test-airflow: .venv/installed
	@status=0; $(RUN) -m pytest tests/airflow > .airflow-tests.log 2>&1 || status=$$?; cat .airflow-tests.log; exit $$status

test-all-else: .venv/installed
	nice -n 19 $(RUN) -m pytest --cov --cov-report= -n $(JOBS) --dist worksteal --ignore=tests/airflow tests

.PHONY: explore
explore: .venv/installed  ## Run the property tests with fresh seeds, and print what to add for what fails (ARGS=minutes)
	$(RUN) -m tests.explore $(ARGS)

.PHONY: docs
docs: .venv/installed  ## Build the documentation site into docs/_build/html; list its links to other hosts
	$(RUN) -m sphinx --quiet --fail-on-warning --keep-going --fresh-env docs docs/_build/html

.PHONY: check
check: .venv/installed docs  ## Format, lint, types, layers, lock file, prose, docs, branch coverage of the last `make test`
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy airflow_adf_mi tests bench docs .ci
	.venv/bin/lint-imports
	$(UV) lock --check
	$(RUN) -m tests.support.prose
	.venv/bin/coverage report

.PHONY: fix
fix: .venv/installed  ## Format, and mend what the linter can mend
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.PHONY: chaos
chaos: .venv/installed  ## Kill, mark, clear and cut off tasks in real Airflow processes (ARGS="--subset", "--only lost-drop")
	$(RUN) -m tests.chaos $(ARGS)

.PHONY: chaos-proofs
chaos-proofs: .venv/installed  ## Take each rule away that protects a row of `make chaos`, and see the row fail
	$(RUN) -m tests.chaos.proofs $(ARGS)

.PHONY: matrix
matrix: .venv/installed  ## Run the wheel with Airflow 3.1, 3.2, 3.3 and each Python (ARGS="--only 3.1", "--smoke")
	$(RUN) -m tests.matrix $(ARGS)

.PHONY: scale
scale: .venv/installed  ## Run backfills on CeleryExecutor, Redis and PostgreSQL, and kill parts of it (ARGS="--only full-queue")
	$(UV) sync --frozen --group dev --group scale --compile-bytecode
	$(RUN) -m tests.scale $(ARGS)

.PHONY: bench
bench: .venv/installed  ## Measure what tasks cost, the Azure provider's and ours side by side; saved as bench/RESULTS.md (ARGS=--quick)
	$(UV) sync --frozen --group dev --group bench --compile-bytecode
	$(RUN) -m bench $(ARGS)

.PHONY: soak
soak: .venv/installed  ## Wait for 2,000 runs at a time, ten minutes long: memory, open sessions, the event loop (ARGS=minutes)
	$(RUN) -m bench.soak $(ARGS)

.PHONY: mutation
mutation: .venv/installed  ## Remove each handling of a fault or a bad input, and see a test fail for it (ARGS=text of rows)
	$(RUN) -m tests.mutation $(ARGS)

.PHONY: emulator
emulator: .venv/installed  ## Run the emulator with the sample factory until Ctrl-C
	$(RUN) -m airflow_adf_mi.emulator --factory dags/factory --script dags/emulator_script.json

.PHONY: lock
lock: $(UV)  ## Lock the newest versions of all packages
	$(UV) lock --upgrade

.PHONY: clean
clean:  ## Remove what the commands made
	rm -rf .venv .tools .demo .matrix .chaos .scale .airflow .airflow-tests.log .coverage .coverage.* .hypothesis .pytest_cache .mypy_cache .ruff_cache dist docs/_build
