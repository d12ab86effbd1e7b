# `make demo` and `make test` do all of their own set-up: they need Python 3.10 or newer and make, nothing else.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?= results/demo

.PHONY: demo test clean

demo: $(VENV)/installed        ## every model on embedded real images, trained, scored and tabulated, offline
	$(BIN)/flexbench run --models all --datasets digits --preset smoke --jobs 2 --out $(OUT)
	$(BIN)/flexbench table --out $(OUT)

test: $(VENV)/installed        ## linter, formatter and the whole test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 --dist worksteal

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:                         ## remove the environment and the demo's results
	rm -rf $(VENV) results/demo
