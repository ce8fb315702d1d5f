# The few words that a newcomer needs; `make help` lists them.
PYTHON ?= python3
PRESET ?= release
BIN := .venv/bin
CLANG ?= clang++
FUZZ_SECONDS ?= 60
PYTEST := $(BIN)/python -m pytest -q
# How many tests run side by side, with servers and a Ray of their own.
TEST_PROCESSES ?= 2
CPP_FILES = $(shell find native bench -name '*.cc' -o -name '*.h')
CYTHON_FILES = $(shell find native -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi')
# What the tools that make starts (cmake, ninja) are found by.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup servers demo test test-native test-faults fuzz format bench clean
.PHONY: lint lint-style lint-types lint-layers lint-cython lint-cpp

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: .venv/.installed .venv/.tools  ## Create .venv with everything, and build the native module into it

.venv/bin/python:
	@echo "creating .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --upgrade 'pip>=25.1'

.venv/.build: pyproject.toml | .venv/bin/python
	@echo "installing what builds the native module"
	@$(BIN)/python -m pip install -q --group build
	@touch $@

.venv/.installed: .venv/.build $(shell find native -type f -not -name '*.md')
	@echo "building the native module, and installing what sabot_ray needs (the first time minutes)"
	@$(BIN)/python -m pip install -q --no-build-isolation -e .
	@$(BIN)/python -m compileall -q sabot_ray  # as any other install: each reader is a process that loads it
	@touch $@

.venv/.tools: pyproject.toml | .venv/.installed
	@echo "installing what tests and lints"
	@$(BIN)/python -m pip install -q --group test --group lint
	@touch $@

servers: setup  ## Download the servers that tests and benchmarks use
	@$(BIN)/python -m tests.servers

demo: .venv/.installed  ## Read an embedded Kafka on a local Ray: nothing else is needed
	@$(BIN)/sabot-ray demo

test: setup servers test-native  ## Run all tests but the long fault injections
	@$(PYTEST) -n $(TEST_PROCESSES) --dist worksteal tests/unit tests/contract tests/kafka tests/ray

# PRESET=asan runs them under the address and undefined-behaviour sanitizers.
test-native: setup
	@cd native && cmake --preset $(PRESET) >/dev/null && cmake --build --preset $(PRESET) >/dev/null
	@cd native && ctest --preset $(PRESET)

test-faults: setup servers  ## Kill, freeze and cut off what a stream depends on; takes long
	@$(PYTEST) tests/faults

# FUZZ_SECONDS=300 tries each target longer; CLANG=clang++-19 names the compiler. What it learns stays
# in build/fuzz/corpus until `make clean`. What the sanitizer keeps of freed memory is as much as an
# input needs: more of it is only slower.
fuzz: setup  ## Feed the JSON decoder and the batch builder with made-up input; needs clang
	@command -v $(CLANG) >/dev/null || { echo "make fuzz needs clang with libFuzzer, there is no" \
	  "$(CLANG): apt-get install clang (Debian, Ubuntu), dnf install clang compiler-rt (Fedora)," \
	  "or name one with CLANG=clang++-19" >&2; exit 1; }
	@cd native && cmake --preset fuzz -DCMAKE_CXX_COMPILER=$(CLANG) >/dev/null
	@cd native && cmake --build --preset fuzz >/dev/null
	@$(BIN)/python -m tests.fuzz_seeds build/fuzz/seeds
	@for target in json_decoder batch_builder; do \
	  mkdir -p build/fuzz/corpus/$$target; \
	  ASAN_OPTIONS=quarantine_size_mb=4 build/fuzz/fuzz/$${target}_fuzz -verbosity=0 -print_funcs=0 -max_total_time=$(FUZZ_SECONDS) -timeout=10 -max_len=1024 \
	    -dict=native/fuzz/json.dict -artifact_prefix=build/fuzz/$$target- -print_final_stats=1 \
	    build/fuzz/corpus/$$target build/fuzz/seeds/$$target || exit 1; \
	done

lint: lint-style lint-types lint-layers lint-cython lint-cpp  ## Check style, types, layers, C++

lint-style: setup
	@$(BIN)/ruff check -q --output-format concise
	@$(BIN)/ruff format -q --check

lint-types: setup
	@$(BIN)/mypy --no-error-summary

lint-layers: setup
	@$(BIN)/lint-imports --no-logo

lint-cython: setup
	@$(BIN)/cython-lint --max-line-length 100 $(CYTHON_FILES)

lint-cpp: setup
	@$(BIN)/clang-format --dry-run -Werror $(CPP_FILES)
	@cd native && cmake --preset release >/dev/null
	@$(BIN)/run-clang-tidy.py -quiet -hide-progress -p build/release 'native/(src|tests|fuzz)/'

format:  ## Rewrite Python and C++ in the project's style
	@$(BIN)/ruff check -q --fix-only
	@$(BIN)/ruff format -q
	@$(BIN)/clang-format -i $(CPP_FILES)

.venv/.bench: pyproject.toml | .venv/.installed
	@echo "installing what draws the chart"
	@$(BIN)/python -m pip install -q --group bench
	@touch $@

bench: setup servers .venv/.bench  ## Measure against raw librdkafka, ray.data, confluent-kafka and aiokafka
	@$(BIN)/python -m bench

clean:  ## Remove builds and caches; .venv and the downloaded servers stay
	@rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find sabot_ray tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -f .venv/.installed
