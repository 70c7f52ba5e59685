# Two commands do everything, set-up included: `make demo` and `make test`.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
BACKENDS := tensorflow jax torch
export TF_CPP_MIN_LOG_LEVEL ?= 3

# The longest first: two run side by side, and none should be left alone at the end.
PARTS := test-jax test-independent test-tensorflow test-torch test-wheel
.PHONY: demo test check docs first-minutes dist fuzz lint clean benchmark wheel-tests $(PARTS)

# Runs the command $(1) and notes how long it took, for the list at the end of `test`.
timed = mkdir -p build/seconds; start=$$(date +%s); { $(1); }; status=$$?; \
  printf '%6d s  %s\n' $$(($$(date +%s) - start)) $@ > build/seconds/$@; exit $$status

demo: .venv/demo
	$(BIN)/keras-qkformer fit recipes/digits.py --workdir runs/digits
	rm -rf saved_models/digits runs/digits/report
	$(BIN)/keras-qkformer export runs/digits --out saved_models/digits
	$(BIN)/python saved_models/answer.py saved_models/digits/1 runs/digits/examples.npz
	$(BIN)/keras-qkformer analyze runs/digits --out runs/digits/report

# Two run side by side, so each makes do with one thread.
test: lint
	@rm -rf build/seconds
	@$(MAKE) --no-print-directory -j2 -k --output-sync=target $(PARTS); status=$$?; \
	  echo "What each part took, slowest first:"; sort -rn build/seconds/*; exit $$status

# For whoever is at work: what a change of one layer, recipe or command needs, on one
# backend (BACKEND=jax make check). The whole is `make test`.
BACKEND ?= tensorflow
CHECKED := tests/test_architecture.py tests/test_docstrings.py tests/test_package.py \
  tests/ops tests/layers tests/models/test_presets.py tests/models/test_class_names.py \
  tests/training/test_recipe.py tests/cli/test_arguments.py tests/cli/test_process.py
check: lint
	KERAS_BACKEND=$(BACKEND) $(BIN)/python -m pytest -q -m "not slow" \
	  -k "not trains_for_two_steps" $(CHECKED)

# The site, in build/site: pictures and tutorials, which are run; pages; what a reader
# would stumble over. A tutorial runs again if it or the package has changed.
docs: .venv/docs
	$(BIN)/python docs/making
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	$(BIN)/python -m pytest -q tests/docs
	@echo "Open build/site/index.html"

# Hostile input without end: every fuzzer in tests/fuzz/, one after the other.
SECONDS ?= 60
SEED ?= 0
fuzz: export PYTHONPATH := tests:$(PYTHONPATH)
fuzz: .venv/dev
	@status=0; for file in tests/fuzz/*.py; do \
	  $(BIN)/python $$file --seconds $(SECONDS) --seed $(SEED) || status=1; \
	done; exit $$status

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test-%: export OMP_NUM_THREADS ?= 1

# One process per backend: Keras fixes its backend when it is imported.
$(BACKENDS:%=test-%): test-%: .venv/dev
	@$(call timed,KERAS_BACKEND=$* $(BIN)/python -m pytest -m "not backend_independent")

# What does not depend on the backend runs once.
test-independent: .venv/dev
	@$(call timed,KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -m backend_independent)

# The wheel, installed elsewhere, against tests that are not in a checkout.
WHEEL_TEST := build/wheel-test
test-wheel: .venv/dev
	@$(call timed,$(MAKE) --no-print-directory wheel-tests)

wheel-tests:
	rm -rf $(WHEEL_TEST) build/lib
	@$(MAKE) --no-print-directory $(WHEEL_TEST)/site
	outside=$$(mktemp -d) && cp -r tests pyproject.toml $$outside && cd $$outside && \
	  PYTHONPATH=$(CURDIR)/$(WHEEL_TEST)/site \
	  EXPECTED_LOCATION=$(CURDIR)/$(WHEEL_TEST)/site \
	  $(CURDIR)/$(BIN)/python -m pytest -p no:cacheprovider \
	    tests/test_package.py tests/test_child_process.py tests/convert/test_load.py \
	    tests/convert/test_checkpoint_file.py; \
	status=$$?; rm -rf $$outside; exit $$status

$(WHEEL_TEST)/site: | .venv/dev
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(WHEEL_TEST) .
	$(BIN)/pip install --quiet --no-deps --target $@ $(WHEEL_TEST)/*.whl

# The README and the first pages as a stranger would play them, with the wheel alone.
PLAYED := README.md docs/start.md docs/commands.md docs/python.md
first-minutes: $(WHEEL_TEST)/site
	env -u TF_CPP_MIN_LOG_LEVEL PYTHONPATH=$(CURDIR)/$(WHEEL_TEST)/site \
	  PATH="$(CURDIR)/$(WHEEL_TEST)/site/bin:$$PATH" \
	  $(BIN)/python tests/first_minutes.py $(PLAYED)

# The wheel and the source archive of a release, in dist/: built, checked, and tried in an
# empty environment. REPOSITORY=https://host/owner/name is where README's links lead.
dist: .venv-dist/ready
	rm -rf dist build/lib keras_qkformer.egg-info
	.venv-dist/bin/python -m build --quiet --outdir dist .
	.venv-dist/bin/python -m twine check --strict dist/*
	.venv-dist/bin/python tests/try_dist.py dist

.venv-dist/ready:
	test -x .venv-dist/bin/python || $(PYTHON) -m venv .venv-dist
	.venv-dist/bin/python -m pip install --quiet "build>=1.4,<2" "twine>=6,<7"
	touch $@

# Ours beside the peers, which need an environment of their own: SpikingJelly asks for
# torchvision, which would bring another PyTorch. OPTIONS="--case neuron", say.
benchmark: .venv-benchmark/ready
	.venv-benchmark/bin/python -m benchmarks $(OPTIONS)

.venv-benchmark/ready: pyproject.toml benchmarks/requirements.txt
	test -x .venv-benchmark/bin/python || $(PYTHON) -m venv .venv-benchmark
	.venv-benchmark/bin/python -m pip install --quiet --upgrade pip "setuptools>=77"
	.venv-benchmark/bin/python -m pip install --quiet torch==2.13.0
	.venv-benchmark/bin/python -m pip install --quiet --no-build-isolation \
	  --editable ".[jax,plots,openvino]" --requirement benchmarks/requirements.txt
	.venv-benchmark/bin/python -m pip install --quiet --no-deps \
	  spikingjelly==2.0.0 snntorch==1.0.0 spyx==1.0.0
	touch $@

.venv/demo .venv/dev .venv/docs: .venv/%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=77"
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[$*]"
	touch $@

clean:
	rm -rf .venv .venv-benchmark .venv-dist build dist runs saved_models/*/ *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
