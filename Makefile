# On a fresh machine, run `make demo` or `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Contains 20 labeled images of CIFAR-10. Installed with its dependencies, because pip reports a broken package otherwise.
SAMPLE_IMAGES := foolbox==3.3.4
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder --durations 15
ON_JAX := tests/models/test_units.py tests/test_pretrained.py tests/train/test_training_loop.py tests/train/test_stacks.py \
	tests/train/test_resizing.py

.PHONY: demo test test-oldest test-newest matrix env docs docs-serve figures stubs zoo-table results archive clean

demo: $(VENV)/.demo
	$(BIN)/keras-resv2 list
	$(BIN)/python examples/demo.py --save predictions.png

test: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST)
	KERAS_BACKEND=jax $(PYTEST) $(ON_JAX) -m "not slow"

# The oldest supported versions of the libraries, in a separate environment. Newer tensorflow-metadata needs a newer
# protobuf than this TensorFlow has.
OLDEST := tests/test_networks.py tests/test_pretrained.py tests/models/test_batch_norm.py tests/models/test_rolled.py \
	tests/models/test_folding.py tests/cli/test_cli.py tests/test_embedding.py tests/hub/test_hub.py tests/test_figures.py
test-oldest: .venv-oldest/.installed
	.venv-oldest/bin/python -m pytest $(OLDEST) -m "not slow"

# The newest libraries on all installed interpreters from Python 3.10 to 3.13, and the oldest libraries.
MATRIX ?= python3.10 python3.11 python3.12 python3.13
matrix:
	@for python in $(MATRIX); do \
		if command -v $$python > /dev/null; then \
			echo "$$python" && $(MAKE) --no-print-directory test-newest PYTHON=$$python VENV=.venv-$$python || exit 1; \
		else echo "$$python is not installed: not tested"; fi; \
	done
	$(MAKE) --no-print-directory test-oldest

test-newest: $(VENV)/.test
	$(BIN)/python -m pytest $(OLDEST) -m "not slow"

# TensorFlow 2.17.0 and NumPy 1.26.4 have no wheels for Python 3.13.
OLDEST_PYTHON ?= $(shell for python in python3.10 python3.11 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2> /dev/null && echo $$python && break; done)
.venv-oldest/.venv:
	@[ -n "$(OLDEST_PYTHON)" ] || { echo "test-oldest needs Python 3.10, 3.11 or 3.12: set OLDEST_PYTHON" >&2; exit 2; }
	$(OLDEST_PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --upgrade pip
	touch $@

.venv-oldest/.installed: .venv-oldest/.venv tests/oldest.txt setup.cfg
	.venv-oldest/bin/python -m pip install --quiet -e '.[train,hub]' pytest scikit-learn -c tests/oldest.txt \
		'tensorflow-datasets == 4.9.7' 'tensorflow-metadata == 1.16.1'
	touch $@

env: $(VENV)/.test

# The documentation, in site/ or on http://127.0.0.1:8000. MkDocs 2 does not support plugins. The
# first build fetches what docs/network.md loads, by npm, into .cache/; without npm that page says what is missing.
MKDOCS = NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/mkdocs
docs: $(VENV)/.test
	$(MKDOCS) build

docs-serve: $(VENV)/.test
	$(MKDOCS) serve

# The figures of the documentation, from the published weights: `make figures DATA=cifar10.npz`.
figures: $(VENV)/.test
	@test -n "$(DATA)" || { echo "make figures needs DATA=FILE, an .npz of CIFAR-10"; exit 1; }
	PYTHONPATH=. $(BIN)/python docs/_site/figures.py --data_dir "$(DATA)"

# Stubs of the public names for editors and type checkers.
stubs: $(VENV)/.demo
	$(BIN)/python -m keras_resv2.stubs

# The table of the README, from the cards.
zoo-table: $(VENV)/.demo
	$(BIN)/keras-resv2 list --markdown

# All published weights as CSV, from the cards.
results: $(VENV)/.demo
	$(BIN)/keras-resv2 list --csv > weights/results.csv.part
	mv weights/results.csv.part weights/results.csv

# A copy of the last commit that records its commit, for machines without git.
archive:
	git archive --format=tar.gz --prefix=keras-resv2/ --output=keras-resv2.tar.gz HEAD

# The pip that comes with Python 3.10 had not resolved the dependencies after 20 minutes.
%/.venv:
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/.demo: $(VENV)/.venv setup.cfg
	$(BIN)/python -m pip install --quiet -e . $(SAMPLE_IMAGES)
	touch $@

$(VENV)/.test: $(VENV)/.venv setup.cfg
	$(BIN)/python -m pip install --quiet -e '.[dev]' $(SAMPLE_IMAGES)
	touch $@

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info predictions.png keras-resv2.tar.gz site .cache
