# bequeath's daily commands; CI calls the same ones. A fresh machine needs cargo, python3 (3.10 or
# newer, with ensurepip), make and a C compiler, and nothing else: the rest goes into .venv.

# The interpreter of .venv, and for `upstream` the one whose own suite runs.
PYTHON ?= python3
# How long each target of `fuzz` runs.
SECONDS ?= 300
# The start methods of `upstream`.
START ?= fork spawn forkserver

VENV := .venv
BIN := $(VENV)/bin
SETUP = scripts/environment.sh $(VENV) $(PYTHON)

.DEFAULT_GOAL := help
.PHONY: help setup demo test all check bench bench-pickle bench-pool faults fuzz sanitizers wheel upstream upstream-futures upstream-pickle sid sid-upstream sid-upstream-pickle interpreters long clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## the virtual environment .venv with the engine built into it
	@$(SETUP) requirements/test.txt
	@scripts/engine.sh $(VENV)

demo: setup ## the origin question's three programs and the word count, beside CPython's multiprocessing
	@scripts/demo.sh $(BIN)/python

test: ## every test with this interpreter and each start method, a short selection with the others
	@PYTHON="$(PYTHON)" scripts/test.sh

all: ## test, and besides the other interpreters in full, the sid interpreters, upstream, the long checks
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory interpreters
	@$(MAKE) --no-print-directory sid
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory long
	@$(MAKE) --no-print-directory upstream
	@$(MAKE) --no-print-directory upstream-futures
	@$(MAKE) --no-print-directory upstream-pickle
	@$(MAKE) --no-print-directory faults

interpreters: ## every test with each other CPython from 3.10 to 3.13 found on this machine
	@scripts/interpreters.sh

check: setup ## format, clippy, ruff, mypy, stubtest, documentation
	@$(SETUP) requirements/check.txt
	@scripts/check.sh $(BIN)

bench: setup ## every figure beside the standard library's and faster-fifo's, in one interleaved run
	@$(SETUP) requirements/bench.txt
	@$(BIN)/python benches/run.py

bench-pickle: setup ## bequeath.pickle beside _pickle, cloudpickle and marshal, in one interleaved run
	@$(SETUP) requirements/bench.txt
	@$(BIN)/python benches/pickling.py

bench-pool: setup ## pools and executors beside the standard ones, loky, joblib, mpire, pebble and billiard
	@$(SETUP) requirements/bench.txt
	@$(BIN)/python benches/pool.py
	@$(BIN)/python benches/day.py
	@$(BIN)/python benches/guests.py

faults: setup ## kill at every instruction, and at random through the Python bindings; the long form
	@scripts/faults.sh $(BIN)/python

long: setup ## libraries under `bequeath run`, model checks, the package as cargo would publish it
	@scripts/long.sh $(VENV)

fuzz: setup ## hostile pickles, for SECONDS each target: make fuzz [SECONDS=300]; needs a nightly toolchain
	@scripts/fuzz.sh $(VENV) $(SECONDS)

sanitizers: ## AddressSanitizer over the engine's tests; ThreadSanitizer and Miri where the toolchain can
	@scripts/sanitizers.sh

wheel: ## a wheel in target/wheels for this interpreter
	@$(SETUP) requirements/test.txt
	@scripts/wheel.sh $(VENV)

upstream: ## CPython's own tests of multiprocessing: make upstream [PYTHON=python3.13] [START=spawn]
	@PYTHON="$(PYTHON)" START="$(START)" scripts/upstream.sh

upstream-futures: ## CPython's own tests of ProcessPoolExecutor over bequeath: make upstream-futures [PYTHON=python3.13] [START=spawn]
	@PYTHON="$(PYTHON)" START="$(START)" scripts/upstream-futures.sh

upstream-pickle: ## CPython's own tests of pickle with bequeath.pickle: make upstream-pickle [PYTHON=python3.13]
	@PYTHON="$(PYTHON)" scripts/upstream-pickle.sh

sid: ## 3.14 and 3.15 from Debian's unstable suite, in the folder sid (root only)
	@scripts/sid.sh

sid-upstream: ## the `upstream` targets with these: make sid-upstream [START=spawn]
	@scripts/sid.sh --make upstream upstream-futures upstream-pickle

sid-upstream-pickle: ## only `upstream-pickle` with these
	@scripts/sid.sh --make upstream-pickle

clean: ## removes what the commands above made, except the folder sid
	rm -rf target $(VENV) python/bequeath/*.so
