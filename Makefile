# `make demo` and `make test` are each enough on a fresh machine that has only Python and pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: demo demo-distill nano test check lint docs clean
demo: $(VENV)/.installed
	$(BIN)/ookd demo --out demo --overwrite

demo-distill: $(VENV)/.installed
	$(BIN)/ookd demo --distill --out demo-distill

nano: $(VENV)/.installed  # the bundled model anew, in runs/bundled: about two hours on two cores
	$(BIN)/ookd train nano --out runs/nano
	$(BIN)/ookd train nano-clip --out runs/nano-clip --set model.start=runs/nano/model --set run.steps=1 \
	  --set data.tune=null --set data.val=null
	$(BIN)/ookd distill nano-ookd --out runs/nano-ookd --teacher runs/nano-clip/model
	$(BIN)/python -c 'from ookd.models import zoo; taught = zoo.load("runs/nano-ookd/model"); \
	  zoo.save_pretrained(taught.model.half(), "runs/bundled", taught.names, taught.tracker, trained_on=taught.trained_on)'

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS)

check: lint docs

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

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
	rm -rf $(VENV) demo demo-distill
