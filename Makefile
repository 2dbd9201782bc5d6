# Everything starts from Python >= 3.11, make and a C library: no Docker, no Java, no root.

PYTHON ?= python3
ONCE ?=
ONLY ?=
UPGRADE ?=
ROUNDS ?= 3
COUNT ?= 300000
MINUTES ?= 15
SEEDS ?= 20000

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := uv==0.13.9
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-header --no-annotate $(if $(UPGRADE),--upgrade)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install broker run test bench bench-gateway soak simulate chaos lint format up down reset lock pin clean

help: ## Show this list
	@$(PYTHON) -c 'import re; [print(f"make {n:13} {t}") for n, t in re.findall(r"^([a-z-]+):.*?## (.*)", open("Makefile").read(), re.M)]'

install: $(STAMP) ## Create .venv with the locked dependencies and keylane itself

$(STAMP): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("keylane needs Python 3.11 or newer: make PYTHON=/path/to/python3" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-index --no-deps --no-build-isolation --editable .
	@touch $@

broker: $(STAMP) ## Download and verify the Kafka broker (44 MB, once per user)
	@$(BIN)/python -m streams.dev.jars fetch

run: broker ## Run the whole system on a sample load, with its proof; ONCE=1 ends afterwards
	@$(BIN)/keylane demo $(if $(ONCE),--once)

test: lint broker ## Run every check and every test
	@$(BIN)/pytest tests/chaos
	@$(BIN)/pytest --ignore tests/chaos -n 2 --dist loadfile --no-loadscope-reorder

bench: broker ## Measure keylane beside its peers and write docs/benchmarks.md; ONLY=noop,skew ROUNDS=3 COUNT=300000
	@$(BIN)/python -m tests.bench --rounds $(ROUNDS) --count $(COUNT) $(if $(ONLY),--only $(ONLY))

bench-gateway: broker ## Measure the HTTP gateway beside the smallest handler and write docs/benchmarks.md; ONLY=posts ROUNDS=3
	@$(BIN)/python -m tests.bench.gateway --rounds $(ROUNDS) $(if $(ONLY),--only $(ONLY))

soak: broker ## Watch a worker's memory under load and write docs/benchmarks.md; MINUTES=15
	@$(BIN)/python -m tests.bench --soak $(MINUTES)

simulate: $(STAMP) ## Play SEEDS=20000 simulated worlds against the engine; a broken promise ends with its story
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

chaos: broker ## Break real brokers, workers and networks under load and write docs/reliability.md; ONLY=kills,drain
	@$(BIN)/python -m tests.chaos $(ONLY)

lint: $(STAMP) ## Check style, types, import rules and contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/keylane schemas check

format: $(STAMP) ## Rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

up: $(STAMP) ## Start the embedded Kafka, Redis and PostgreSQL in the background
	@$(BIN)/keylane dev up --detach

down: $(STAMP) ## Stop them
	@$(BIN)/keylane dev down

reset: $(STAMP) ## Empty their data
	@$(BIN)/keylane dev reset

lock: $(STAMP) ## Write requirements/*.lock from pyproject.toml; UPGRADE=1 takes newer versions
	@$(BIN)/python -m pip install --quiet $(UV)
	$(COMPILE) pyproject.toml --extra dev --extra postgres --extra otel --output-file requirements/dev.lock
	$(COMPILE) pyproject.toml --extra postgres --extra otel --output-file requirements/runtime.lock
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])' | \
	  $(COMPILE) - --output-file requirements/build.lock
	$(COMPILE) requirements/bench.in --output-file requirements/bench.lock

pin: $(STAMP) ## Resolve the broker's jars again and write their digests
	$(BIN)/python -m streams.dev.jars pin

clean: ## Remove .venv, caches and build results; data stays (make reset)
	rm -rf $(VENV) dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find streams schemas consumers tests -name __pycache__ -type d -prune -exec rm -rf {} +
