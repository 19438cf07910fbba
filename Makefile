# The same commands on a laptop and in CI. PYTHON=python3.12 picks an interpreter, VENV=folder another environment.
VENV ?= .venv
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
READY := $(VENV)/.ready
ELSEWHERE := docker or apptainer or slurm or network or micromamba or gpu

usable_python = for python in $(PYTHONS); do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done

.PHONY: help demo test unit bench check docs setup engine lock-tools clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 14

demo: setup ## build the example's image, run its experiment inside, and show the verdict
	@.ci/engine up || echo "demo: Docker could not be brought up (see above); going on with what is here" >&2
	cd examples/warm-start && "$(abspath $(VENV))/bin/reprobox" verify

test: setup ## all tests; what Docker and the network allow must run, the rest says why it is skipped
	@if .ci/engine up; then required=docker,network; \
	else required=; echo "test: no engine (see above): the tests that need one will be skipped" >&2; fi; \
	export REPROBOX_REQUIRE="$${REPROBOX_REQUIRE-$$required}"; \
	echo "test: required: $${REPROBOX_REQUIRE:-nothing}"; \
	$(VENV)/bin/pytest $(ARGS)

unit: setup ## the tests that need nothing but Python
	$(VENV)/bin/pytest -m "not ($(ELSEWHERE))" $(ARGS)

bench: setup ## reprobox against what an expert would write instead, in turns; ARGS="lock --strict" chooses
	@.ci/engine up || echo "bench: Docker could not be brought up (see above); going on with what is here" >&2
	$(VENV)/bin/python tests/benchmarks/bench.py $(ARGS)

check: setup ## formatting, lint and types, and whether the README says what --help says
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy .ci/docs
	$(VENV)/bin/python .ci/docs --check

docs: setup ## write the verbs' help into the README
	$(VENV)/bin/python .ci/docs

setup: $(READY) ## the environment for all of the above, from hashed pins

$(READY): requirements-dev.txt pyproject.toml
	@python=$$($(usable_python)); \
	[ -n "$$python" ] || { .ci/engine install venv; python=$$($(usable_python)); }; \
	[ -n "$$python" ] || { echo "setup: none of $(PYTHONS) is Python 3.11 or newer with venv" >&2; exit 1; }; \
	echo "setup: $(VENV) with $$($$python --version) (half a minute)"; \
	$$python -m venv $(VENV)
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lock-tools: setup ## pin the dependencies and tools again; ARGS=--upgrade moves them all
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make lock-tools" --group dev -o requirements-dev.txt pyproject.toml $(ARGS)

clean: ## remove the environment and everything generated here
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
