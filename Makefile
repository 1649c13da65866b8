# `make demo` and `make test` need Python 3.11 or newer and nothing else: they create .venv and fill it first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
CONSTRAINTS ?= constraints.txt
OLDEST ?= .venv-oldest
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs # Material's advertisement for its successor

.PHONY: demo test test-all test-browser test-aarch64 test-oldest check format bench docs docs-build clean

demo: $(VENV)/.demo
	$(BIN)/gpmt demo

test: $(VENV)/.dev
	$(PYTEST)

test-all: $(VENV)/.dev
	$(PYTEST) --slow

# Pages opened in Chromium, and checked for accessibility by axe-core, which is no part of the package.
test-browser: $(VENV)/.dev $(VENV)/axe/package/axe.min.js
	command -v chromium || $(BIN)/playwright install chromium
	GPMT_AXE=$(VENV)/axe/package/axe.min.js $(BIN)/python -m pytest --browser -m browser

# The kernels for NEON in an emulator, QEMU's; Debian's packages bring it and a cross compiler.
test-aarch64: $(VENV)/.dev
	command -v qemu-aarch64-static && command -v aarch64-linux-gnu-gcc || ! command -v apt-get || \
	  apt-get install --yes --no-install-recommends qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross
	$(PYTEST) --slow -m aarch64 tests/runtime

# The fast tests with the oldest versions that pyproject.toml allows, in an environment of their own.
test-oldest:
	$(MAKE) test VENV=$(OLDEST) CONSTRAINTS=constraints-oldest.txt

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/selection.py
	$(BIN)/python benchmarks/training_step.py

# The documentation on http://127.0.0.1:8000, rebuilt whenever a page or the package changes.
docs: $(VENV)/.dev
	$(MKDOCS) serve --strict --watch src/gpmt

# The documentation in build/site, where index.html opens from disk; a warning is an error.
docs-build: $(VENV)/.dev
	$(MKDOCS) build --strict --quiet

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gpmt needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

# PyTorch first, on its own: its download is most of the installation, and says so while it lasts.
$(VENV)/.torch: $(CONSTRAINTS) | $(VENV)/bin/python
	@echo "Installing PyTorch and gpmt's other needs into $(VENV); this takes a few minutes the first time."
	$(PIP) torch torchvision
	@touch $@

$(VENV)/.demo: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[train,report]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/axe/package/axe.min.js: | $(VENV)/bin/python
	command -v chromium && command -v npm || ! command -v apt-get || apt-get install --yes --no-install-recommends chromium npm
	mkdir -p $(VENV)/axe
	cd $(VENV)/axe && npm pack --silent axe-core@4.14.1 && tar -xzf axe-core-*.tgz package/axe.min.js && touch package/axe.min.js

clean:
	rm -rf $(VENV) $(OLDEST) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
