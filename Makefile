.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
RUN_PINS = requirements/build.txt requirements/server.txt requirements/sidecar.txt requirements/client.txt
TEST_PINS = $(RUN_PINS) requirements/test.txt
BIN = $(VENV)/bin

# How many processes the tests run in: as many as there are cores. "make test WORKERS=0" runs them in one.
WORKERS ?= auto
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS)

.PHONY: help run test quick check bench docs changelog dist mutations coverage stores cluster cluster-down cluster-tests real-airflow images pins clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(firstword $(MAKEFILE_LIST)) | while IFS='	' read -r name what; do printf '  make %-14s%s\n' "$$name" "$$what"; done

run: $(VENV)/.run ## show the main job: a server, three sidecars, a deploy, the swap
	@$(BIN)/python scripts/demo.py

test: $(VENV)/.test ## run the tests on all cores; PYTEST_ARGUMENTS="tests/core -x" for some of them
	$(PYTEST) $(PYTEST_ARGUMENTS)

quick: $(VENV)/.test ## run the tests that are over within a minute, between edits
	$(PYTEST) -q -m "not slow" $(PYTEST_ARGUMENTS)

check: $(VENV)/.check ## check formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.test ## write the tables of settings, metrics, errors, endpoints and chart values, and the pages about dagferry
	$(BIN)/python scripts/reference.py

bench: $(VENV)/.test ## measure speed and memory
	PYTHONPATH=tests $(BIN)/python benchmarks/run.py $(ROWS)

changelog: $(VENV)/.check ## show what the fragments in changes/ will add to the changelog
	@$(BIN)/towncrier build --draft --version Unreleased

dist: $(VENV)/.run ## build the wheel and the source distribution into dist/, and check them
	$(BIN)/python scripts/make_dist.py $(TAG)

mutations: $(VENV)/.test ## break the code on purpose, one small change at a time; the tests must notice
	$(BIN)/python scripts/mutations.py $(WORDS)

coverage: $(VENV)/.test ## measure what each module's own tests cover, and hold the floors
	$(BIN)/python scripts/branch_coverage.py $(WORDS)

# The programs, and the names of the stores that they make; the last one must be refused.
STORE_PROGRAMS = versitygw fake-gcs-server azurite s3proxy s3mock seaweedfs
STORES = local,versitygw,versitygw-versioned,azurite,gcs,s3proxy,seaweedfs,s3mock
stores: $(VENV)/.test ## install all object stores that tests know, and test with them
	$(BIN)/python tests/store_programs.py $(STORE_PROGRAMS)
	DAGFERRY_SCALE=long DAGFERRY_TEST_STORES=$(STORES) $(PYTEST) $(PYTEST_ARGUMENTS) tests/server/store tests/scale

cluster: $(VENV)/.test ## bring up a real Kubernetes of one node, with our images, and say how to use it; needs root
	@PYTHONPATH=tests $(BIN)/python -m cluster up

cluster-down: $(VENV)/.test ## take that Kubernetes down
	@PYTHONPATH=tests $(BIN)/python -m cluster down

cluster-tests: $(VENV)/.test ## run all tests in a real Kubernetes, also the long ones; needs root
	@PYTHONPATH=tests $(BIN)/python -m cluster build
	$(BIN)/python -m pytest -m cluster $(PYTEST_ARGUMENTS)

real-airflow: $(VENV)/.test ## build Airflow 3 and 2.11, and run both in a real Kubernetes with the charts in AIRFLOW_CHART
	@PYTHONPATH=tests $(BIN)/python -m cluster airflow
	$(BIN)/python -m pytest -q -s tests/cluster/test_real_airflow.py

images: ## build the images with docker or buildah; IMAGES=airflow for the example of Airflow with the plugin
	@$(PYTHON) scripts/make_images.py $(IMAGES)

$(VENV)/bin/python:
	@$(PYTHON) scripts/check_python.py
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml $(RUN_PINS)
	@echo "Setting up $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes $(addprefix -r ,$(RUN_PINS))
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run $(TEST_PINS)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/test.txt
	@touch $@

$(VENV)/.check: $(VENV)/.test requirements/check.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/check.txt
	@touch $@

# Every kind at the newest versions that go together, for every Python and with hashes; the others follow check.txt.
# "make pins UPGRADE=" keeps the versions that are pinned and adds what is missing.
UPGRADE = --upgrade
COMPILE = $(BIN)/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.10 --generate-hashes --no-annotate \
	--custom-compile-command "make pins" pyproject.toml
pins: $(VENV)/bin/python ## renew the pinned requirements
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --all-extras --group build --group test --group check -o requirements/check.txt
	$(COMPILE) --all-extras --group test -c requirements/check.txt -o requirements/test.txt
	$(COMPILE) --extra server --extra objectstore -c requirements/check.txt -o requirements/server.txt
	$(COMPILE) --extra sidecar -c requirements/check.txt -o requirements/sidecar.txt
	$(COMPILE) --extra client -c requirements/check.txt -o requirements/client.txt
	$(COMPILE) --group build -c requirements/check.txt -o requirements/build.txt
	$(COMPILE) --group bucket-aws -c requirements/check.txt -o deploy/ci/bucket/requirements-aws.txt
	$(COMPILE) --group bucket-gcp -c requirements/check.txt -o deploy/ci/bucket/requirements-gcp.txt
	$(COMPILE) --group fuzz -o requirements/fuzz.txt
	$(COMPILE) --group proxies -o requirements/proxies.txt

clean: ## remove the environments and what was built
	rm -rf .venv* .run build dist
