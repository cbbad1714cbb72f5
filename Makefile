# Each goal does its own set-up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ROOMS := cli kernels recipes speech streaming

.PHONY: demo test check clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

demo: $(STAMP)  ## install everything and transcribe a bundled recording, live
	$(BIN)/riverrun transcribe cli/demo/prompts.ogg --live --realtime

test: $(STAMP)  ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(STAMP)  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	mkdir -p build/types/riverrun && ln -sfn $(addprefix ../../../,$(ROOMS)) build/types/riverrun/
	MYPYPATH=build/types $(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info
