# Everything that the project does to itself. `make` lists the targets.
#
# Needed on the machine: cargo (with rustfmt and clippy, as rustup installs them), Python >= 3.10, git, make.
# All else goes into the checkout: .venv (Python packages) and target (compiled code, logs).

SHELL := /bin/sh
.DEFAULT_GOAL := help
# Targets share .venv and target; cargo, uv and the tests use the cores themselves.
.NOTPARALLEL:

# The interpreter that .venv is made from: make PYTHON=python3.12 test
override PYTHON := $(or $(shell sh tools/find-python $(PYTHON)),false)
BIN := .venv/bin
TEST := tools/requirements-test.txt
HEAVY := tools/requirements-heavy.txt

# In continuous integration the lock file is final; on a desk cargo may update it.
LOCKED := $(if $(CI),--locked)
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)

# What maturin tells PyO3's build script: said to clippy and the tests too, or cargo would build PyO3 and all that stands
# on it anew each time they take turns. The file appears with the first build of the extension.
PYO3_CONFIGS = $(abspath $(or $(CARGO_TARGET_DIR),target))/maturin/pyo3-config-
VERSION_OF = -c 'import sys; print("%d.%d" % sys.version_info[:2])'
PYO3 = config=$$(ls "$(PYO3_CONFIGS)"*-$$($(BIN)/python $(VERSION_OF))-*.txt 2>/dev/null | head -n 1); \
	export $${config:+PYO3_CONFIG_FILE="$$config"} \
	PYO3_BUILD_EXTENSION_MODULE=1 PYO3_PYTHON="$(CURDIR)/$(BIN)/python";

# One thread per numerical library: on two cores OpenMP's waiting threads can cost a factor of 100.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":[^#]*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

##@ For users

.PHONY: demo
demo: develop-heavy ## audit pretrained models and real structures, and check each verdict (sets itself up)
	$(BIN)/python examples/demo.py

.PHONY: zoo
zoo: develop ## audit networks with planted bugs, and print what is detected, located and named
	$(BIN)/python -m zoo.score

##@ For contributors

.PHONY: test
test: ## run every check that a change must pass, minutes per stage (sets itself up)
	@$(PYTHON) tools/stage.py test setup house fmt ruff extension clippy rust doctest mypy pytest

.PHONY: test-all
test-all: ## run the tests on other people's packages and models, then the demo (sets itself up)
	@$(PYTHON) tools/stage.py test-all setup-heavy heavy demo

.PHONY: develop
develop: check-extension ## build the extension into .venv, from where `equicheck` then runs

.PHONY: develop-heavy
develop-heavy: check-setup-heavy check-extension

.PHONY: fmt
fmt: check-setup ## format Rust and Python, and apply ruff's safe fixes
	cargo fmt --all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lint
lint: check-house check-fmt check-ruff check-clippy check-mypy ## run the checks that execute nothing

.PHONY: lock
lock: check-setup ## pin the newest allowed versions of the Python packages that tests use
	cd tools && ../$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 \
		--custom-compile-command "make lock" --override overrides.txt requirements-heavy.in --output-file requirements-heavy.txt
	cd tools && ../$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 \
		--custom-compile-command "make lock" --constraint requirements-heavy.txt \
		requirements-test.in --output-file requirements-test.txt

.PHONY: doc
doc: ## build the Rust documentation, broken links being errors
	@$(PYO3) set -x; RUSTDOCFLAGS="-D warnings" cargo doc $(LOCKED) --no-deps

.PHONY: clean
clean: ## remove what was built, and .venv
	rm -rf target .venv dist .mypy_cache .pytest_cache .ruff_cache python/equicheck/*.so
	find python tests tools examples -name __pycache__ -type d -prune -exec rm -rf {} +

##@ The stages of `make test` and `make test-all`, each on its own

.PHONY: check-setup check-setup-heavy check-house check-fmt check-ruff check-clippy check-rust check-doctest
.PHONY: check-extension check-mypy check-pytest check-heavy check-demo
check-setup: ## create .venv and install what tests need
	@$(PYTHON) tools/environment.py $(TEST)

check-setup-heavy: ## the same with pretrained models and real structures
	@$(PYTHON) tools/environment.py $(HEAVY)

check-house: ## sizes of committed files, licences of dependencies, versions, links
	@$(PYTHON) tools/house.py

check-fmt: ## rustfmt
	cargo fmt --all --check

check-ruff: check-setup ## ruff, lints and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-clippy: check-setup ## clippy, warnings being errors
	@$(PYO3) set -x; cargo clippy $(LOCKED) --all-targets -- -D warnings

# Ignored tests run too: a test that does not run is no test.
check-rust: check-setup ## Rust tests
ifeq ($(NEXTEST),yes)
	@$(PYO3) set -x; cargo nextest run $(LOCKED) --run-ignored all --no-fail-fast
else
	@$(PYO3) set -x; cargo test $(LOCKED) --tests --no-fail-fast -- --include-ignored
endif

check-doctest: check-setup ## examples in the Rust documentation
	@$(PYO3) set -x; cargo test $(LOCKED) --doc -- --include-ignored

# Without --release: the crates that the tests have compiled serve here too.
check-extension: check-setup ## the extension module, in .venv
	$(BIN)/maturin develop --uv $(LOCKED)

check-mypy: check-setup ## types of the Python package
	$(BIN)/mypy

check-pytest: check-setup check-extension ## Python tests
	$(BIN)/python -m pytest -n auto tests --ignore=tests/integration -m "not heavy"

check-heavy: check-setup-heavy check-extension ## Python tests with other people's packages and models
	$(BIN)/python -m pytest -n auto tests -m heavy

check-demo: demo
