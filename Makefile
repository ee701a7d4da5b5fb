# make run    sets everything up and shows the main job: a server, three sidecars, a deploy, the swap
# make test   sets everything up and runs the tests
# make check  formatting, lint, types
# make bench  measures speed and memory; docs/benchmarks.md has the results
# make docs   writes the tables of settings, metrics, errors and endpoints
# make mutations  breaks the code on purpose, one small change at a time; the tests must notice
# make coverage   measures what each module's own tests cover, and holds the floors
# make pins   renews the pinned requirements

PYTHON ?= python3
VENV ?= .venv
RUN_PINS = requirements/build.txt requirements/server.txt requirements/sidecar.txt
TEST_PINS = $(RUN_PINS) requirements/test.txt
BIN = $(VENV)/bin

.PHONY: run test check bench docs mutations coverage pins clean

run: $(VENV)/.run
	@$(BIN)/python scripts/demo.py

test: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGUMENTS)

check: $(VENV)/.check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.run
	$(BIN)/python scripts/reference.py

bench: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python benchmarks/run.py $(ROWS)

mutations: $(VENV)/.test
	$(BIN)/python scripts/mutations.py $(WORDS)

coverage: $(VENV)/.test
	$(BIN)/python scripts/branch_coverage.py $(WORDS)

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
COMPILE = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes --no-annotate \
	--custom-compile-command "make pins" pyproject.toml
pins: $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --all-extras --group build --group test --group check -o requirements/check.txt
	$(COMPILE) --all-extras --group test -c requirements/check.txt -o requirements/test.txt
	$(COMPILE) --extra server -c requirements/check.txt -o requirements/server.txt
	$(COMPILE) --extra sidecar -c requirements/check.txt -o requirements/sidecar.txt
	$(COMPILE) --group build -c requirements/check.txt -o requirements/build.txt
	$(COMPILE) --group fuzz -o requirements/fuzz.txt
	$(COMPILE) --group proxies -o requirements/proxies.txt

clean:
	rm -rf .venv* .run build dist
