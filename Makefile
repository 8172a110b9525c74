# `make demo` and `make test` are each enough on a fresh machine that has only Python and pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: demo demo-distill nano test test-latest test-lowest test-wheel test-image check lint docs clean
demo: $(VENV)/.installed
	$(BIN)/ookd demo --out demo --overwrite

demo-distill: $(VENV)/.installed
	$(BIN)/ookd demo --distill --out demo-distill

nano: $(VENV)/.installed  # the bundled model anew, in runs/bundled: about two hours on two cores
	$(BIN)/ookd train nano --out runs/nano
	$(BIN)/ookd train nano-clip --out runs/nano-clip --set model.start=runs/nano/model --set run.steps=1 \
	  --set data.tune=null --set data.val=null
	$(BIN)/ookd distill nano-ookd --out runs/nano-ookd --teacher runs/nano-clip/model
	$(BIN)/ookd distill nano-ookd --out runs/nano-ookd-2 --teacher runs/nano-clip/model \
	  --set model.start=runs/nano-ookd/model
	$(BIN)/python -c 'from ookd.models import zoo; taught = zoo.load("runs/nano-ookd-2/model"); \
	  taught.model.config = taught.model.config.model_copy(update={"queries": 24}); \
	  zoo.save_pretrained(taught.model.half(), "runs/bundled", taught.names, taught.tracker, trained_on=taught.trained_on)'

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS)

# Other versions, each in an environment of its own; another Python by PYTHON=python3.13, and a build of torch that
# is at hand by TORCH=2.13.0.
QUICK := $(wildcard tests/test_*.py) tests/config tests/data tests/evaluation tests/tracking tests/drawing \
  tests/reports tests/cli/test_track.py tests/models/test_zoo.py tests/engine/test_loop.py tests/deploy/test_runtime.py

test-latest:  # the newest of every dependency
	$(PYTHON) -m venv $(VENV)-latest
	$(VENV)-latest/bin/pip install --quiet --upgrade --upgrade-strategy eager -e '.[train,tune,export,dev]' \
	  $(if $(TORCH),torch==$(TORCH))
	OMP_NUM_THREADS=1 $(VENV)-latest/bin/pytest -n $(JOBS) $(QUICK)

test-lowest:  # the oldest that pyproject.toml allows
	$(PYTHON) -m venv $(VENV)-lowest
	$(PYTHON) tests/lowest.py $(if $(TORCH),torch) > $(VENV)-lowest/lowest.txt
	$(VENV)-lowest/bin/pip install --quiet -c $(VENV)-lowest/lowest.txt -e . onnxruntime openvino numba \
	  pytest pytest-xdist hypothesis $(if $(TORCH),torch==$(TORCH))
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/pytest -n $(JOBS) $(QUICK)

test-wheel:  # the wheel without extras in an empty environment, away from the sources
	rm -rf $(VENV)-wheel && $(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/pip wheel --quiet --no-deps --wheel-dir $(VENV)-wheel/dist .
	$(VENV)-wheel/bin/pip install --quiet -c constraints.txt $(VENV)-wheel/dist/*.whl
	cd $(VENV)-wheel && bin/ookd demo --out demo && bin/ookd track demo/scene.mp4 --out tracked --end 5

test-image:  # the lines of the Dockerfile in empty root folders, as root; options by ARGS='--build-arg NAME=VALUE'
	unshare --mount $(PYTHON) tests/image.py $(ARGS)

check: lint docs

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/hadolint Dockerfile

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(VENV)/site

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,tune,export,serve,fleet,dev,docs]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) $(VENV)-latest $(VENV)-lowest $(VENV)-wheel demo demo-distill
