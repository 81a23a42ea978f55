# Everything a fresh clone needs: python3 (3.11 or newer), pip, Node 20.19 or newer. Nothing is written outside this folder
# but the caches of pip and npm, and, where root runs the tests, Debian's chromium.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DASHBOARD := services/dashboard
ONLY ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup python dashboard chromium lint types unit test test-full demo demo-verify bench study finding chaos gpu-check clean
.DELETE_ON_ERROR:

help: ## Show this.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

IMPORTED := clew_worker.runner.handlers, clew_worker.supervisor.app, clew_api.app, clew_scheduler.loop, clew_client.cli, \
	clew_local.commands, transformers.models.llama.modeling_llama

setup: ## Install everything into this folder; instant when nothing changed.
	@$(MAKE) --no-print-directory --silent -j2 python dashboard

# --- Python ----------------------------------------------------------------------------------------------------------
python: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing Python packages into $(VENV) (some minutes the first time)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]' 2> $(VENV)/pip.log \
		|| { cat $(VENV)/pip.log; exit 1; }
	@# What every process imports is compiled once, here, also where the environment forbids it later.
	@env -u PYTHONDONTWRITEBYTECODE $(PY) -c "import $(IMPORTED)"
	@touch $@

# --- Dashboard -------------------------------------------------------------------------------------------------------
ifneq ($(wildcard $(DASHBOARD)/package.json),)
DASHBOARD_SOURCES := $(shell find $(DASHBOARD)/src $(DASHBOARD)/public -type f 2>/dev/null) \
	$(wildcard $(DASHBOARD)/index.html $(DASHBOARD)/vite.config.ts $(DASHBOARD)/tsconfig.json)

dashboard: $(DASHBOARD)/dist/index.html ## Build the dashboard.

$(DASHBOARD)/node_modules/.installed: $(DASHBOARD)/package.json $(DASHBOARD)/package-lock.json
	@command -v npm > /dev/null || { echo "the dashboard needs Node 20.19 or newer with npm"; exit 1; }
	cd $(DASHBOARD) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(DASHBOARD)/dist/index.html: $(DASHBOARD)/node_modules/.installed $(DASHBOARD_SOURCES)
	cd $(DASHBOARD) && npm run build --silent
	@touch $@
else
dashboard:
	@echo "no dashboard in this tree"
endif

types: python $(DASHBOARD)/node_modules/.installed ## Write the API's contract and the dashboard's types from it.
	$(PY) -m clew_api.openapi > $(DASHBOARD)/openapi.json.new
	mv $(DASHBOARD)/openapi.json.new $(DASHBOARD)/openapi.json
	cd $(DASHBOARD) && npm run types --silent

# --- Tests -----------------------------------------------------------------------------------------------------------
chromium:
	@if [ -n "$${CHROMIUM:-}" ] || command -v chromium > /dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "installing Debian's chromium for the browser tests"; \
		apt-get update -qq > /dev/null; \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium fonts-noto-cjk > /dev/null \
			|| echo "the browser tests are left out: chromium could not be installed"; \
	else \
		echo "the browser tests are left out: no chromium here, and only root can install one (or set CHROMIUM to its path)"; \
	fi

lint: python ## Style, types and the directions between packages.
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

unit: dashboard ## The dashboard's own checks and tests.
	@if [ -f $(DASHBOARD)/package.json ]; then cd $(DASHBOARD) && npm run lint --silent && npm run check --silent && npm test --silent; fi

# Three of the groups wait for nobody's clock, so each of a few processes runs a part of them, with servers of its own.
PYTEST := $(PY) -m pytest --durations=10
SIDE_BY_SIDE := -n auto --maxprocesses 4

test: setup chromium lint unit ## Set up and run every test; ONLY=science, lab, chaos or browser for one group.
ifeq ($(ONLY),)
	$(PYTEST) $(SIDE_BY_SIDE) -m "science or lab" $(ARGS)
	$(PYTEST) $(SIDE_BY_SIDE) -m browser $(ARGS)
	$(PYTEST) -m chaos $(ARGS)
else
	$(PYTEST) $(if $(filter science lab browser,$(ONLY)),$(SIDE_BY_SIDE)) -m "$(ONLY)" $(ARGS)
endif

test-full: setup chromium lint unit ## As `test`, and what we write and read against other projects as they are installed.
	$(PYTEST) -m "$(or $(ONLY),peers or not peers)" $(ARGS)

# --- To see it work --------------------------------------------------------------------------------------------------
demo: setup ## A real model from import to circuit, through REST and the queue, in minutes on a CPU.
	@$(PY) -m demo.run $(ARGS)

demo-verify: python ## Confirm 50 random edges of the demo's graph by doubling their sources in the model itself.
	@$(PY) -m demo.verify

bench: setup ## Measure against other projects; prints a table. ONLY=group for one group.
	@$(PY) -m benchmarks $(ONLY) $(ARGS)

study: python ## SAE against transcoder on a real model: writes docs/sae-against-transcoder.md; about an hour on two free cores.
	@$(PY) -m studies.sae_against_transcoder $(ARGS)

finding: python ## Greater-than in a real model, coders trained for it: writes docs/greater-than.md; half an hour.
	@$(PY) -m studies.greater_than $(ARGS)

chaos: python ## 200 short jobs under random faults, and the account of them; ARGS="--jobs 40 --seed 7".
	@$(PY) -m tests.chaos.run $(ARGS)

gpu-check: python ## Try what training needs of a GPU, and print what passed; ARGS="--device cpu" tries it without one.
	@$(PY) -m deploy.gpu_check $(ARGS)

clean: ## Remove what the targets above made, data of the demo included.
	rm -rf $(VENV) $(DASHBOARD)/node_modules $(DASHBOARD)/dist .demo .cache test-results
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
