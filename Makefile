# The commands of the README; all set up what they need, in .venv and .venv-oldest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

BACKENDS ?= jax torch

OLDEST := .venv-oldest

PTB ?= ptb

DRAWINGS ?= drawings

.PHONY: build demo docs live results-small test test-backends test-oldest test-slow lint clean

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py

# The signatures are those of the imported package, and TensorFlow starts a command meanwhile.
docs: $(VENV)/installed
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/mkdocs build --strict
	$(MAKE) live

# A page that runs the text model in the browser, in the site. ONNX Runtime Web, 14 MB, comes from npm,
# not from the repository.
live: $(VENV)/installed
	$(BIN)/python examples/live_page.py --output build/docs/live \
		--about "trained on the standard library of Python"

# The sdist and the wheel, as PyPI takes them.
build: $(VENV)/installed
	rm -rf dist
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build twine
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

# PTB is the folder of Penn Treebank's three files, which cannot be downloaded freely; DRAWINGS is that
# of kanji.rdp100.npz and omniglot.npz.
results-small: $(VENV)/installed
	$(BIN)/python examples/results.py train --small --ptb $(PTB) --drawings $(DRAWINGS)
	$(BIN)/python examples/results.py check
	$(BIN)/python examples/continual.py toy --check --output runs/results-small/toy
	$(BIN)/python examples/continual.py split-mnist --steps 300 --methods hyper fine-tune --check \
		--output runs/results-small/split-mnist

test: lint
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal --durations 15

test-backends: $(BACKENDS:%=test-on-%)

# PyTorch's own index has it without the libraries for GPUs, which the check does not need.
test-on-torch: INDEX := --extra-index-url https://download.pytorch.org/whl/cpu

test-on-%: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(INDEX) \
		--editable '.[examples,test,$*]'
	KERAS_BACKEND=$* TF_CPP_MIN_LOG_LEVEL=3 \
		$(BIN)/python -m pytest --numprocesses 2 --dist worksteal --durations 15 tests/compatibility

# With Python 3.11, the oldest that setup.cfg admits, and the lower bound of every package there.
test-oldest: $(OLDEST)/installed
	TF_CPP_MIN_LOG_LEVEL=3 $(OLDEST)/bin/python -m pytest --numprocesses 2 --dist worksteal

# What XLA compiles is optimized here, as it is for users.
test-slow: export XLA_FLAGS :=
test-slow: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[examples,test,hub]'
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m slow
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal \
		tests/test_gated_rnn.py tests/test_text_generation.py tests/compatibility
	TF_CPP_MIN_LOG_LEVEL=3 HYPOTHESIS_PROFILE=thorough \
		$(BIN)/python -m pytest --numprocesses 2 --dist worksteal tests/test_properties.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) $(OLDEST) build dist *.egg-info

# The marker is written last, so that an interrupted installation starts again.
$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11 to 3.13 is needed")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[examples,test]'
	touch $@

$(OLDEST)/installed: setup.cfg pyproject.toml
	python3.11 -m venv --clear $(OLDEST)
	sed -n 's/^    \([a-z0-9-]*\)>=\([0-9.]*\).*/\1==\2/p' setup.cfg > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint $(OLDEST)/constraints.txt --editable '.[examples,test]'
	touch $@
