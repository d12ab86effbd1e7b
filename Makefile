# Every target sets up its environment by itself. It needs only Python 3.10 or newer and make.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?= results/demo
DEMO   := --models "vae*,vampprior,vq-vae,wae-gan,2s-vae,ae-gmm,rae-gmm,mask-aae,pioneer,alae,flexae*" \
	--datasets digits --preset demo --features pixels --jobs 2 --threads 1 --no-tracking \
	--set vae.decoder_variance=0.02 --set vae-flow.decoder_variance=0.02 \
	--set vampprior.decoder_variance=0.02 --set vae-iop.decoder_variance=0.02 --set wae-gan.reg_scale=0.25
STUDIES ?= results/studies
STUDY  := --preset cpu --steps 1000 --width 0.125 --seeds 0-4 --jobs 2 --no-tracking --out $(STUDIES)
R5     := --datasets synthetic-r5 --score-every 125 --set wae-gan.critic=wgan-gp
MIXTURE := --datasets synthetic-mog --set vae.decoder_variance=0.05 --set wae-gan.reg_scale=0.25 \
	--set wae-gmm.reg_scale=0.25 --set wae-gmm.components=8 --set wae-gmm.radius=3 --set wae-gmm.variance=0.25

.PHONY: demo figures check test style types docs clean

demo: $(VENV)/installed        ## train and score the paper's models on small real images, offline; tables and a report
	$(BIN)/flexbench run $(DEMO) --out $(OUT)
	$(BIN)/flexbench table --out $(OUT)
	$(BIN)/flexbench report --out $(OUT)

figures: $(VENV)/installed     ## train the two studies on synthetic vectors and draw the paper's figures 2 and 3
	$(BIN)/flexbench run --models flexae,wae-gan $(R5) $(STUDY)
	$(BIN)/flexbench run --models wae-gan $(R5) --set wae-gan.lr_enc=1e-5 $(STUDY)
	$(BIN)/flexbench run --models vae,wae-gan,wae-gmm,flexae $(MIXTURE) $(STUDY)
	$(BIN)/flexbench figure 2 3 --format pdf,png --out $(STUDIES)
	$(BIN)/flexbench table 1 --out $(STUDIES)

check: style types             ## run linter, formatter, types and the fast tests; use it before a commit; about two minutes
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test: style types              ## run linter, formatter, types and the whole test suite
	$(BIN)/python -m pytest -n 2 --dist worksteal

style: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed
	$(BIN)/mypy

docs: $(VENV)/docs-installed   ## build the documentation site in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Pages: site/index.html. With search: $(BIN)/mkdocs serve"

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/docs-installed: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:                         ## remove the environment, the built pages and the demo's results
	rm -rf $(VENV) site results/demo
