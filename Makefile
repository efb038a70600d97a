# Two commands for a newcomer: make demo, make test. Both make .venv first, from nothing but Python and pip.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Another Python, or a folder that was moved, needs another environment.
STAMP  := $(VENV)/.installed-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-$(shell pwd | cksum | cut -d' ' -f1)

.PHONY: demo test test-quick differential benchmark docs lint format clean

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stapleproxy needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0] + ": choose another with make PYTHON=python3.12")'
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench,docs]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/stapleproxy lab $(if $(ONCE),--once)

# All tests; the slow ones without counting coverage, which would make them very slow. test-quick leaves them out.
test: $(STAMP) lint
	$(BIN)/pytest --cov=proxy $(PYTEST_ARGS)
	$(BIN)/pytest -m slow $(PYTEST_ARGS)

test-quick: $(STAMP) lint
	$(BIN)/pytest $(PYTEST_ARGS)

# Ours beside the Apache of this machine, as a page on standard output: what is the same, what not, and why.
differential: $(STAMP)
	@PYTHONPATH=tests $(BIN)/python -m differential.modssl

# Beside every server of this kind that is installed, in about 25 minutes on a machine that does nothing else; QUICK=1: a
# few of each, to see whether it works. Interrupted, it goes on where it was. Writes benchmarks/RESULTS.md.
benchmark: $(STAMP)
	@$(BIN)/python benchmarks/run.py $(if $(QUICK),--quick)

# The pages under docs/ as a site in build/docs; a broken link is an error.
docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -n -q docs build/docs
	@echo "$(CURDIR)/build/docs/index.html"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
