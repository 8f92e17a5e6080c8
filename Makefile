# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
EXTRAS = test,dev

.PHONY: demo test check bench docs format clean

$(BIN)/compoundwatch: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("compoundwatch needs Python 3.11 or later; set PYTHON=python3.12, say") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.dev: pyproject.toml $(BIN)/compoundwatch
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

demo: $(BIN)/compoundwatch      ## the main job on embedded data, without network or account
	rm -rf demo
	$(BIN)/compoundwatch demo --out demo || [ $$? -eq 3 ] # 3: done, but a site could not be judged, which it says

test: $(VENV)/.dev              ## all tests
	$(BIN)/python -m pytest -n auto --dist loadscope

check: $(VENV)/.dev             ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(BIN)/compoundwatch      ## the pages as a site that opens without a network: build/site/index.html
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

format: $(VENV)/.dev            ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev             ## accuracy and speed, printed as tables
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) demo dist build
