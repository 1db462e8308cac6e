# A fresh machine needs Python 3.11 or newer and make; everything else is installed here.
#   make demo   the main job on the example that ships
#   make test   everything that must pass
#   make gpu-check   on a machine with a GPU: is what runs there right, and how fast is it? Four minutes at most
#   make reliability   what can go wrong, for half an hour and more
#   make docs   the documentation site, into site/
PYTHON ?= python3
VENV   ?= .venv
RUN    := $(VENV)/bin/python

.PHONY: demo test check reliability gpu-check docs format browser install clean

install: $(VENV)/.installed

# Installed once, and again when the dependencies change.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Python 3.11 or newer is needed; name one with PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable '.[dev]'
	touch $@

demo: install
	$(RUN) -m landscape.surface examples/checkpoints/resnet20-cifar10-erk90.pt examples/checkpoints/resnet20-cifar10-erk98.pt --data sample --examples 500 --output surfaces

# A worker per core, a test file at a time (fixtures of a file are made once), slow ones first.
test: install browser check
	$(RUN) -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

check: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Where nothing may be installed: python tests/benchmarks/gpu_check.py
gpu-check: install
	$(RUN) tests/benchmarks/gpu_check.py

# Wrong files and command lines, faults at file operations, kills, memory, all of them mixed; see docs/reliability.md.
reliability: install
	$(RUN) tests/reliability

# In an environment of its own: the tools of a web site are nobody else's business.
docs: install
	$(RUN) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

format: install
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# The viewer's tests drive a real browser. Where none is found and it can't be installed they are skipped, with the reason.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || \
	  echo "no Chromium found and none installed: the viewer's browser tests will be skipped"

clean:
	rm -rf $(VENV) .venv-docs site surfaces .mypy_cache .pytest_cache .ruff_cache
