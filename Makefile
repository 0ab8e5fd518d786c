# make lab    set up and open JupyterLab on the first notebook
# make test   set up and run everything
# make bench  set up and measure, side by side in one run

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
LAB_FLAGS ?=
NPM = $(shell node -e "process.exit(Number(parseInt(process.versions.node) < 20))" 2>/dev/null && command -v npm)

.PHONY: lab test bench lint clean

lab: $(VENV)/ready
	$(BIN)/python -m workbench lab $(LAB_FLAGS)

test: $(VENV)/ready lint
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env notebooks tests

bench: $(VENV)/ready
	$(BIN)/python tests/benchmarks/bench_tracing.py
	$(BIN)/python tests/benchmarks/bench_generation.py
	$(BIN)/python tests/benchmarks/bench_routing_view.py
	$(BIN)/python tests/benchmarks/bench_sizes.py
	$(BIN)/python tests/benchmarks/bench_attention_view.py
	$(BIN)/python tests/benchmarks/bench_live.py

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
ifneq ($(NPM),)
	npm ci --prefix tests/scripts --silent
	npm run --prefix tests/scripts --silent lint
	npm test --prefix tests/scripts --silent
else ifneq ($(PANGU_REQUIRE_NODE),)
	$(error npm with Node 20 or later is required here)
else
	@echo "npm with Node 20 or later is not here: the scripts of the views are not checked"
endif

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV)
