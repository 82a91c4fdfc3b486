VENV ?= .venv
PYTHON ?= python3
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable
PYTEST := $(BIN)/python -m pytest
TWO := -n 2 --dist worksteal

unexport PYTHONDONTWRITEBYTECODE  # compiled once, not by every process

.PHONY: help run board test test-all soak tour gpu lint wheel clean

help:  ## lists the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

run: $(READY)  ## trains VGG-16 on the digits with the all-logit loss (one to three minutes on two CPU cores)
	$(BIN)/python train.py loss=all_logit

board: $(READY)  ## TensorBoard on runs/, with a link that opens it at what matters
	$(BIN)/python scripts/board.py runs

test: $(TOOLS)  ## runs the quick tests (one to three minutes)
	$(PYTEST) $(TWO)

test-all: $(TOOLS)  ## the slow tests, too (six to twenty minutes)
	$(PYTEST) $(TWO) -m 'not soak and not browser'

soak: $(TOOLS)  ## kills runs a hundred times, tries a thousand random changes and commands (longer than test-all)
	$(PYTEST) -m soak -s

tour: $(TOOLS)  ## looks at every page of TensorBoard in Chromium, if that is installed (three minutes)
	$(INSTALL) '.[browser]'
	$(PYTEST) -m browser -rs

gpu: $(TOOLS)  ## measures everything that waits for a GPU into measured/ (25 minutes; again: what is missing); DEVICE=cpu: tiny
	$(BIN)/python scripts/gpu.py --device $(or $(DEVICE),auto)

lint: $(TOOLS)  ## ruff, mypy, the levels of the rooms, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell

wheel: $(TOOLS)  ## builds the wheel, installs it elsewhere, and trains one step from an empty folder
	tests/wheel.sh $(BIN)/python

clean:  ## removes .venv
	rm -rf $(VENV)

# A stamp is younger than pyproject.toml only after an install that succeeded, so a second call installs nothing.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	touch $@

$(TOOLS): $(READY)
	$(INSTALL) '.[dev]'
	touch $@
