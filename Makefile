# Two commands do everything on a machine with Python 3.11+, make and a package registry: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= runs/demo

.PHONY: demo test test-all lint bench clean

demo: .venv/stamp
	$(BIN)/limbeck distill mnist --recipe mnist-fixed --iterations 3000 --max-time 150 --out $(DEMO) --overwrite
	$(BIN)/limbeck show $(DEMO)
	$(BIN)/limbeck evaluate $(DEMO) --baselines none

# A process for each core; one that is done takes over tests of another.
PYTEST := $(BIN)/python -m pytest --quiet --numprocesses=auto --maxprocesses=8 --dist=worksteal

test: lint
	$(PYTEST) -m "not slow"

# Other processors round otherwise: the suite as one without vector instructions computes it, and as one with AVX2.
test-all: test
	$(PYTEST) -m slow
	ATEN_CPU_CAPABILITY=default $(PYTEST) -m "not slow"
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST) -m "not slow"

lint: .venv/stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/lint.py

bench: .venv/stamp
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/accuracy.py mnist-fixed mnist-random
	$(BIN)/python benchmarks/render.py

# The stamp is written last: an interrupted set-up is done again.
.venv/stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Limbeck needs Python 3.11 or newer, this is %d.%d: name another with PYTHON=, as in make demo PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv .venv || { echo "$(PYTHON) -m venv failed; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,tensorboard,figures,sklearn,art,nas,ray]'
	@touch $@

# Of the runs only the demo goes: the others may have taken hours.
clean:
	rm -rf .venv $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
