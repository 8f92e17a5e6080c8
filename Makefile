# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
EXTRAS = test,dev

.PHONY: demo test check bench docs dist plugin audit sbom minimum format clean

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

# Archives bear the time of the last commit, so that two builds of one commit are equal byte for byte.
dist: $(VENV)/.release          ## sdist and wheel, built twice, compared and checked
	rm -rf dist build/again
	export SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct); for out in dist build/again; do \
	  $(BIN)/python -m build --no-isolation --outdir $$out . >/dev/null || exit 1; \
	done
	for file in dist/*; do cmp $$file build/again/$${file#dist/} || exit 1; done
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

plugin: $(BIN)/compoundwatch    ## dist/compoundwatch_qgis.zip, for QGIS: Plugins > Manage and Install Plugins > Install from ZIP
	$(BIN)/python qgis/pack.py
	$(BIN)/python qgis/pack.py dist/compoundwatch_qgis.zip

audit: $(VENV)/.release         ## known faults of what is installed; fails where it cannot be looked up
	mkdir -p build && $(BIN)/python -m pip freeze --quiet --exclude-editable >build/installed.txt
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement build/installed.txt

sbom: $(VENV)/.release          ## dist/sbom.json: what an installation of the package is made of (CycloneDX)
	rm -rf build/plain && $(PYTHON) -m venv build/plain && build/plain/bin/python -m pip install --quiet .
	mkdir -p dist
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o dist/sbom.json build/plain/bin/python

minimum:                        ## the oldest versions that pyproject.toml allows: installs them and runs the demo
	rm -rf build/minimum && $(PYTHON) -m venv build/minimum
	build/minimum/bin/python -m pip install --quiet --constraint constraints/minimum.txt '.[lights,evidence]'
	build/minimum/bin/compoundwatch demo --out build/minimum/demo || [ $$? -eq 3 ]

$(VENV)/.release: pyproject.toml $(BIN)/compoundwatch
	$(BIN)/python -m pip install --quiet --editable '.[release]'
	touch $@

format: $(VENV)/.dev            ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev             ## accuracy and speed, printed as tables
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) demo dist build
