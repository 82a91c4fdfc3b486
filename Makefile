# make run    trains VGG-16 on the digits with the all-logit loss (two to three minutes on two CPU cores, once it is set up)
# make soak   kills runs a hundred times and compares what they come to (five to twenty minutes)
# make tour   looks at every page of TensorBoard in a browser, where Chromium is installed (three minutes)
# make test   runs the tests          make lint   ruff and mypy          make clean   removes .venv
VENV ?= .venv
PYTHON ?= python3
READY := $(VENV)/.ready
BIN := $(VENV)/bin

.PHONY: run test soak tour lint clean

run: $(READY)
	$(BIN)/python train.py loss=all_logit

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

soak: $(READY)
	$(BIN)/python -m pytest -m soak -s

tour: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,browser]'
	$(BIN)/python -m pytest -m browser -rs

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The stamp is younger than pyproject.toml only after an install that went through, so a second call installs nothing.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV)
