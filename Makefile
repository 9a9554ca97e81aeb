# make demo    set up, then the main job on synthetic tissue: dataset, training, evaluation, pictures
# make check   set up, then linters, types and tests
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO = runs/demo
STAMP = $(VENV)/.ready

.PHONY: setup demo check fast browser lint clean

setup: $(STAMP)

# The constraints file keeps torch at the build whose wheel is CPU-only; PIP_FLAGS is for your own mirrors.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(PIP_FLAGS) --constraint constraints.txt --editable '.[space,slides,test,browser]'
	touch $@

demo: setup
	$(BIN)/hf-gland demo --out $(DEMO)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

fast: setup
	$(BIN)/python -m pytest -q

browser: setup
	$(BIN)/python -m pytest -q -m browser

check: lint fast browser

clean:
	rm -rf $(VENV) runs build dist *.egg-info
