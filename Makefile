# Every target does its own set-up; nothing depends on what an earlier run left behind.
# BUILD may point elsewhere, so a read-only checkout works too: make test BUILD=/some/folder
PYTHON ?= python3
BUILD  ?= .
SOURCE := $(abspath $(dir $(lastword $(MAKEFILE_LIST))))
override BUILD := $(abspath $(BUILD))
VENV   := $(BUILD)/.venv
RUN    := $(VENV)/bin/python
OUT    := $(BUILD)/build
PYRIGHT := PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(RUN) -m pyright
# A hash of what is to be installed and of the interpreter: another list, another stamp.
STAMP  = $(VENV)/.ready-$(1)-$(shell cat $(SOURCE)/requirements/*.txt $(SOURCE)/pyproject.toml | cksum | cut -d' ' -f1)

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PYTHONPYCACHEPREFIX = $(OUT)/pycache
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test coverage mutation check lint types docs clean
.DEFAULT_GOAL := demo

# Train a small model for a few steps on the packaged photos and segment one of them.
demo: $(or $(wildcard $(call STAMP,dev)),$(call STAMP,runtime))
	$(RUN) $(SOURCE)/examples/demo.py --out $(BUILD)/demo_output

# Build the wheel, and run the whole test suite against that wheel from outside the source tree.
test: $(call STAMP,dev)
	rm -rf $(OUT)/wheel $(OUT)/installed && mkdir -p $(OUT)/wheel $(OUT)/installed
	$(RUN) -m pip wheel -q --no-deps --no-build-isolation -w $(OUT)/wheel $(SOURCE)
	$(RUN) -m pip install -q --no-deps --target $(OUT)/installed $(OUT)/wheel/*.whl
	cd $(OUT) && PYTHONPATH=$(OUT)/installed DEEPLAB_FASHION_EXPECTED_AT=$(OUT)/installed \
	  DEEPLAB_FASHION_SITE=$(OUT)/html \
	  $(RUN) -m pytest -c $(SOURCE)/pyproject.toml --rootdir $(SOURCE) -o cache_dir=$(OUT)/pytest_cache \
	  -n 2 --dist loadfile -q --durations 15 $(PYTEST_ARGS) $(SOURCE)/tests

# The share of src's lines and branches that the tests run; the report lies in build/coverage.
coverage: $(call STAMP,dev)
	mkdir -p $(OUT)
	cd $(OUT) && COVERAGE_FILE=$(OUT)/.coverage DEEPLAB_FASHION_SITE=$(OUT)/html $(RUN) -m pytest -c $(SOURCE)/pyproject.toml --rootdir $(SOURCE) \
	  -o cache_dir=$(OUT)/pytest_cache -n 2 --dist loadfile -q \
	  --cov --cov-config=$(SOURCE)/pyproject.toml --cov-fail-under=95 \
	  --cov-report=term-missing:skip-covered --cov-report=html:$(OUT)/coverage $(PYTEST_ARGS) $(SOURCE)/tests

# Whether the ground floor's tests notice damage to it: some hundred changed operators and numbers,
# each tried by itself. The report lies in build/mutation.md.
mutation: $(call STAMP,dev)
	$(RUN) -m pip install -q -r $(SOURCE)/requirements/mutation.txt
	$(RUN) $(SOURCE)/benchmarks/mutation.py --work $(OUT)/mutation --out $(OUT)/mutation.md $(MUTATION_ARGS)

# What continuous integration checks beside the tests.
check: lint types docs

lint: $(call STAMP,dev)
	cd $(SOURCE) && $(RUN) -m ruff check --cache-dir $(OUT)/ruff_cache . && $(RUN) -m ruff format --check --cache-dir $(OUT)/ruff_cache .

# Two checkers, and whether what users see of the installed package is typed throughout.
types: $(call STAMP,dev)
	mkdir -p $(OUT)
	cd $(SOURCE) && $(RUN) -m mypy --cache-dir $(OUT)/mypy_cache
	cd $(SOURCE) && $(PYRIGHT) --pythonpath $(RUN)
	cd $(OUT) && PATH=$(VENV)/bin:$$PATH $(PYRIGHT) --verifytypes deeplab_fashion --ignoreexternal > pyright.txt || { cat pyright.txt; exit 1; }
	@tail -n 4 $(OUT)/pyright.txt

# The pages are built from a copy, in which the examples of some draw their own pictures, and to
# which npm brings what one page runs in the browser.
DRAWN := tutorials/first_masks.md tutorials/own_annotations.md explanation/run_length_forms.md
docs: $(call STAMP,dev)
	@command -v npm > /dev/null || { echo "make docs needs npm, which comes with Node.js: the page try_it.md runs onnxruntime-web" >&2; exit 1; }
	rm -rf $(OUT)/docs $(OUT)/html && mkdir -p $(OUT)
	cp -r $(SOURCE)/docs $(OUT)/docs && chmod -R u+w $(OUT)/docs
	$(RUN) $(OUT)/docs/examples.py $(addprefix $(OUT)/docs/,$(DRAWN))
	cd $(OUT)/docs && npm ci --ignore-scripts --no-audit --no-fund --loglevel error && npm run --silent types
	$(RUN) $(OUT)/docs/try_it.py
	$(RUN) -m sphinx -q -n -W --keep-going -b html -d $(OUT)/doctrees $(OUT)/docs $(OUT)/html
	@echo "The site lies in $(OUT)/html/index.html"

clean:
	rm -rf $(OUT) $(VENV) $(BUILD)/demo_output

$(VENV)/.ready-%:
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q -r $(SOURCE)/requirements/$(firstword $(subst -, ,$*)).txt
	$(RUN) -m pip install -q --no-deps --no-build-isolation -e $(SOURCE)
	touch $@
