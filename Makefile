# Every target does its own set-up: a fresh checkout needs nothing but Python >= 3.10 with venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test lint bench clean help

help:
	@echo "make demo    the whole story on generated data, report in demo/report.html"
	@echo "make test    lint, doctests and tests"
	@echo "make bench   the benchmarks: speed and memory, as ratios"
	@echo "make lint    ruff alone"

demo: $(VENV)/.installed
	$(BIN)/detbalance demo --out demo

test: $(VENV)/.installed-test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/.installed-test
	@for script in steps pisa anchors boxes necks assigners ranking generators large_images; do echo "== bench/$$script.py"; $(BIN)/python bench/$$script.py || exit 1; done

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "setting up $(VENV): torch and what goes with it, about a minute or two"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) demo runs
