# Every target does its own set-up; nothing depends on what an earlier run left behind.
# BUILD may point elsewhere, so a read-only checkout works too: make test BUILD=/some/folder
PYTHON ?= python3
BUILD  ?= .
# The versions of dependencies that are installed: requirements/newest.txt or requirements/lowest.txt.
VERSIONS ?= newest
SOURCE := $(abspath $(dir $(lastword $(MAKEFILE_LIST))))
override BUILD := $(abspath $(BUILD))
VENV   := $(BUILD)/.venv$(patsubst -newest,,-$(VERSIONS))
RUN    := $(VENV)/bin/python
OUT    := $(BUILD)/build
PYRIGHT := PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(RUN) -m pyright
# Hashes of what files hold: other files, another wheel, or another environment.
hash    = $(shell cd $(SOURCE) && find $(1) -type f -not -name '*.py[co]' -exec cksum {} + | sort | cksum | cut -d' ' -f1)
WHEEL  := $(OUT)/wheel/$(call hash,src pyproject.toml README.md LICENSE)
# The environment of a list of requirements, and the package in it as its users have it: a wheel, beside
# nothing of this folder.
READY   = $(VENV)/.ready-$(1)-$(call hash,requirements pyproject.toml)
EXTRAS := [onnx,litert]
PACKAGE := $(VENV)/.package-$(notdir $(WHEEL))

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PYTHONPYCACHEPREFIX = $(OUT)/pycache
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test test-lowest alone coverage mutation check lint types docs clean
.DEFAULT_GOAL := demo
# Rules that change one environment must not run side by side.
.NOTPARALLEL:

# Train a small model for a few steps on the packaged photos and segment one of them.
demo: $(or $(wildcard $(call READY,dev)),$(call READY,package)) $(PACKAGE)
	$(RUN) $(SOURCE)/examples/demo.py --out $(BUILD)/demo_output

# Run the whole test suite against the installed wheel, from outside the source tree.
test: $(call READY,dev) $(PACKAGE)
	cd $(OUT) && DEEPLAB_FASHION_WHEEL="$$(echo $(WHEEL)/*.whl)" DEEPLAB_FASHION_SITE=$(OUT)/html \
	  $(RUN) -m pytest -c $(SOURCE)/pyproject.toml --rootdir $(SOURCE) -o cache_dir=$(OUT)/pytest_cache \
	  -n 2 --dist loadfile -q --durations 15 $(PYTEST_ARGS) $(SOURCE)/tests

# The same with the oldest versions of the dependencies that the package allows.
test-lowest:
	$(MAKE) -f $(SOURCE)/Makefile test VERSIONS=lowest

# The wheel alone in an empty environment, with what it declares to need and no network.
alone: $(WHEEL)
	rm -rf $(OUT)/alone && mkdir -p $(OUT)/alone/home
	$(PYTHON) -m venv $(OUT)/alone/venv
	$(OUT)/alone/venv/bin/python -m pip install -q -c $(SOURCE)/requirements/$(VERSIONS).txt $(WHEEL)/*.whl
	$(OUT)/alone/venv/bin/python -m pip check
	cd $(OUT)/alone && HOME=$(OUT)/alone/home venv/bin/python -I $(SOURCE)/tests/alone.py

# The share of src's lines and branches that the tests run; the report lies in build/coverage.
coverage: $(call READY,dev) $(PACKAGE)
	mkdir -p $(OUT)
	cd $(OUT) && COVERAGE_FILE=$(OUT)/.coverage DEEPLAB_FASHION_SITE=$(OUT)/html $(RUN) -m pytest -c $(SOURCE)/pyproject.toml --rootdir $(SOURCE) \
	  -o cache_dir=$(OUT)/pytest_cache -n 2 --dist loadfile -q \
	  --cov --cov-config=$(SOURCE)/pyproject.toml --cov-fail-under=95 \
	  --cov-report=term-missing:skip-covered --cov-report=html:$(OUT)/coverage $(PYTEST_ARGS) $(SOURCE)/tests

# Whether the ground floor's tests notice damage to it: some hundred changed operators and numbers,
# each tried by itself. The report lies in build/mutation.md.
mutation: $(call READY,dev) $(PACKAGE)
	$(RUN) -m pip install -q -r $(SOURCE)/requirements/mutation.txt
	$(RUN) $(SOURCE)/benchmarks/mutation.py --work $(OUT)/mutation --out $(OUT)/mutation.md $(MUTATION_ARGS)

# What continuous integration checks beside the tests.
check: lint types docs

lint: $(call READY,dev)
	cd $(SOURCE) && $(RUN) -m ruff check --cache-dir $(OUT)/ruff_cache . && $(RUN) -m ruff format --check --cache-dir $(OUT)/ruff_cache .

# Two checkers, and whether what users see of the installed package is typed throughout.
types: $(call READY,dev) $(PACKAGE)
	mkdir -p $(OUT)
	cd $(SOURCE) && $(RUN) -m mypy --cache-dir $(OUT)/mypy_cache
	cd $(SOURCE) && $(PYRIGHT) --pythonpath $(RUN)
	cd $(OUT) && PATH=$(VENV)/bin:$$PATH $(PYRIGHT) --verifytypes deeplab_fashion --ignoreexternal > pyright.txt || { cat pyright.txt; exit 1; }
	@tail -n 4 $(OUT)/pyright.txt

# The pages are built from a copy, in which the examples of some draw their own pictures, and to
# which npm brings what one page runs in the browser.
DRAWN := tutorials/first_masks.md tutorials/own_annotations.md explanation/run_length_forms.md
docs: $(call READY,dev) $(PACKAGE)
	@command -v npm > /dev/null || { echo "make docs needs npm, which comes with Node.js: the page try_it.md runs onnxruntime-web" >&2; exit 1; }
	rm -rf $(OUT)/docs $(OUT)/html && mkdir -p $(OUT)
	cp -r $(SOURCE)/docs $(OUT)/docs && chmod -R u+w $(OUT)/docs
	$(RUN) $(OUT)/docs/examples.py $(addprefix $(OUT)/docs/,$(DRAWN))
	cd $(OUT)/docs && npm ci --ignore-scripts --no-audit --no-fund --loglevel error && npm run --silent types
	$(RUN) $(OUT)/docs/try_it.py
	$(RUN) -m sphinx -q -n -W --keep-going -b html -d $(OUT)/doctrees $(OUT)/docs $(OUT)/html
	@echo "The site lies in $(OUT)/html/index.html"

clean:
	rm -rf $(OUT) $(VENV) $(VENV)-lowest $(BUILD)/demo_output

$(OUT)/builder/ready: $(SOURCE)/requirements/build.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q -r $<
	touch $@

$(OUT)/wheel/%: | $(OUT)/builder/ready
	rm -rf $(OUT)/wheel
	$(OUT)/builder/bin/python -m pip wheel -q --no-deps --no-build-isolation -w $@.part $(SOURCE)
	mv $@.part $@

# First the wheel with what it declares to need, then, for development, the tools.
$(VENV)/.ready-%: | $(WHEEL)
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q -c $(SOURCE)/requirements/$(VERSIONS).txt $(WHEEL)/*.whl
	$(if $(filter dev-%,$*),$(RUN) -m pip install -q -c $(SOURCE)/requirements/$(VERSIONS).txt \
	  -r $(SOURCE)/requirements/dev.txt "$$(echo $(WHEEL)/*.whl)$(EXTRAS)")
	touch $@

$(PACKAGE): | $(WHEEL)
	$(RUN) -m pip install -q --no-deps --force-reinstall $(WHEEL)/*.whl
	rm -f $(VENV)/.package-*
	touch $@
