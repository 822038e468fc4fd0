# Every target that needs an environment makes it first (scripts/setup.sh says how, and what can be set).
VENV ?= .venv
VENV_NEURALPROPHET ?= .venv-neuralprophet
PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_INDEX_URL ?=
DEMO_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
REPRODUCE_ARGS ?= all
export VENV VENV_NEURALPROPHET PYTHON TORCH TORCH_INDEX_URL

BIN = $(VENV)/bin

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-demo demo test check format schemas bench bench-solver bench-forecast bench-collector bench-actuate bench-route reproduce \
	constraints clean distclean

help: ## say what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 26

setup: ## make .venv with everything that tests and checks need
	@sh scripts/setup.sh dev

setup-demo:
	@sh scripts/setup.sh all

demo: setup-demo ## run the main job on an emulated slice (DEMO_ARGS=...)
	@$(BIN)/microopt demo $(DEMO_ARGS)

test: setup ## run all tests (PYTEST_ARGS="-k router")
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: setup ## check format, lint, types, layers, spelling and generated schemas
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/microopt schemas --check docs/schemas

format: setup ## put the code in form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: setup ## write the JSON schemas of the messages to docs/schemas
	$(BIN)/microopt schemas docs/schemas

bench: setup ## measure bus and training (BENCH_ARGS=...)
	@$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

bench-solver: setup ## measure the solver beside its peers (BENCH_ARGS=...)
	@PYTHONPATH=benchmarks $(BIN)/python -m solver $(BENCH_ARGS)

bench-collector: setup ## measure the collector beside bare clients (BENCH_ARGS=...)
	@PYTHONPATH=benchmarks $(BIN)/python -m collector $(BENCH_ARGS)

bench-actuate: setup ## measure actuator drivers beside bare calls; needs root (BENCH_ARGS=...)
	@PYTHONPATH=benchmarks:tests $(BIN)/python -m actuate $(BENCH_ARGS)

bench-route: setup ## measure forecast to allocation, shadows and margins (BENCH_ARGS=...)
	@PYTHONPATH=benchmarks $(BIN)/python -m route $(BENCH_ARGS)

bench-forecast: setup ## measure forecasts beside other forecasters (BENCH_ARGS=...)
	@case "$(BENCH_ARGS)" in *--without-neuralprophet* | *--model* | *--readme* | *"--only scale"*) ;; \
	*) VENV="$(VENV_NEURALPROPHET)" CONSTRAINTS=constraints-neuralprophet.txt sh scripts/setup.sh neuralprophet ;; esac
	@PYTHONPATH=benchmarks $(BIN)/python -m forecast $(BENCH_ARGS)

reproduce: setup ## compute the paper's tables and figures anew (REPRODUCE_ARGS=...)
	@$(BIN)/microopt reproduce $(REPRODUCE_ARGS)

constraints: ## pin the newest versions of all dependencies in constraints.txt
	@sh scripts/constraints.sh

clean: ## remove caches and build outputs
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . \( -name .git -o -name '.venv*' \) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## remove the environments too
	@if [ -f "$(VENV)/pyvenv.cfg" ]; then rm -rf "$(VENV)"; fi
	@if [ -f "$(VENV_NEURALPROPHET)/pyvenv.cfg" ]; then rm -rf "$(VENV_NEURALPROPHET)"; fi
