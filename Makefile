# Every word here is also what CI runs. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= $(shell for p in /usr/bin/python3 python3; do "$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
LEFT_OUT := -m 'not exhaustive'
# Where compiled code is not kept, half of the time of `make check` goes into compiling the same 700 files again.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input --no-cache-dir

.PHONY: help run test test-all check check-half check-rest fuzz soak lint format deb image man machine clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: $(VENV)/run.stamp ## start the appliance here, unprivileged ports, demo files; Ctrl-C ends it
	@exec $(BIN)/appliance run

test: $(VENV)/dev.stamp ## everything: format, lint, types, layers, unit, wire, real clients, escapes
	@tests/tools.sh
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m tests.run $(LEFT_OUT)
	@$(BIN)/python -m tests.coverage_floor .coverage.xml

test-all: LEFT_OUT :=
test-all: test ## test, and the cases of QEMU that take longest

FAST := -q -x -m 'not slow and not root and not exhaustive' --hypothesis-profile=quick -p no:cacheprovider
HALF := tests/tftp tests/cli tests/boot
check: $(VENV)/dev.stamp ## format, lint, types, layers and the fast tests beside each other, under a minute
	@$(MAKE) --no-print-directory -j3 --output-sync=target lint check-half check-rest

check-half: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest $(FAST) $(HALF)

check-rest: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest $(FAST) tests $(HALF:%=--ignore=%)

fuzz: $(VENV)/dev.stamp ## a million mutated TFTP datagrams and 100,000 FTP sessions, some minutes; FUZZ="--seed 7 --datagrams 50000"
	@$(BIN)/python -m tests.fuzz $(FUZZ)

soak: $(VENV)/dev.stamp ## as root, ten minutes: the whole appliance under load and faults; SOAK="--minutes 60 --seed 7"
	@$(BIN)/python -m bench.soak $(SOAK)

deb: $(VENV)/run.stamp ## build/appliance_*.deb for Debian 12 and 13, the same bytes each time
	@$(BIN)/python deb/build.py

image: $(VENV)/run.stamp ## as root: build/appliance.img boots into an appliance; IMAGE="--kernel linux-image-amd64 --data 8192"
	@$(BIN)/python image/make.py $(IMAGE)

man: $(VENV)/run.stamp ## build/man: the manual pages, and completion for shells, from schema and help texts
	@$(BIN)/python -c 'from appliance.cli import main, papers; papers.write(main.app, "build/man")'

machine: $(VENV)/dev.stamp ## as root: install the package on fresh Debian machines, use, break, upgrade and remove it
	@tests/tools.sh
	@$(BIN)/python -m pytest -v tests/machine

lint: $(VENV)/dev.stamp
	@$(BIN)/ruff format --check --quiet . || { echo 'format: run `make format`'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

format: $(VENV)/dev.stamp ## rewrite the code in the house format
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --quiet --fix .

# The lists are complete: nothing is resolved (--no-deps), or a release newer than the one listed would be asked for.
$(VENV)/run.stamp: requirements/build.txt requirements/run.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo 'appliance needs Python 3.11 or newer with venv: apt-get install python3-venv' >&2; exit 1; }
	@echo 'setting up .venv (once) ...' >&2
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --no-deps --require-hashes -r requirements/build.txt
	@$(PIP) install --no-deps --require-hashes --no-build-isolation -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements/dev.txt
	@$(PIP) install --no-deps --require-hashes --no-build-isolation -r requirements/dev.txt
	@touch $@

clean: ## remove what the build made
	rm -rf $(VENV) build .coverage .coverage.xml .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz *.egg-info
