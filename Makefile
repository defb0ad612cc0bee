# All work goes through one virtual environment in .venv. `make` alone lists the targets.
# Variables: ARGS="..." is handed to the command, TESTS=path narrows `make test`, PYTHON=... picks the interpreter.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
SHELL := /bin/sh

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c '$(NEW_ENOUGH)' 2>/dev/null && { echo "$$p"; break; }; done)
TESTS ?= tests
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check -qq

# A set is installed again when the content of its files changes: the stamp carries their checksum.
sum = $(shell cat $(1) | cksum | cut -d ' ' -f 1)
SERVICE := $(VENV)/.service-$(call sum,requirements/service.txt pyproject.toml)
TRAINING := $(VENV)/.training-$(call sum,requirements/service.txt requirements/training.txt)
# Alone, because it would bring torchvision for two names (tests/peers/test_zennit.py) and that a CUDA build of PyTorch.
ZENNIT := zennit==0.5.1
TEST := $(VENV)/.test-$(call sum,requirements/service.txt requirements/training.txt requirements/test.txt)

##@ Use
.PHONY: serve
serve: $(SERVICE) ## start the service on this computer; ARGS="--port 9000"
	@$(VENV)/bin/pellucid serve $(ARGS)

.PHONY: demo
demo: $(SERVICE) ## write a synthetic CT series and fundus photograph to send; ARGS="--out DIR"
	@$(VENV)/bin/pellucid demo $(ARGS)

##@ Check
.PHONY: test
test: $(TEST) ## run all tests; TESTS=tests/unit/maps, ARGS="-k clear"
	$(RUN) -m pytest $(TESTS) $(ARGS)

.PHONY: lint
lint: $(TEST) ## check style, formatting and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

.PHONY: format
format: $(TEST) ## rewrite the code in the house's format
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

##@ Models
.PHONY: train-lung
train-lung: $(TRAINING) ## prepare the data in ../shared and learn the lung model (hours; goes on where it stopped)
	$(RUN) -m training.lung prepare
	$(RUN) -m training.lung train $(ARGS)

.PHONY: train-retina
train-retina: $(TRAINING) ## the same for the retina model
	$(RUN) -m training.retina prepare
	$(RUN) -m training.retina train $(ARGS)

.PHONY: models
models: $(TRAINING) ## evaluate what was learnt and write both bundles into models/
	$(RUN) -m training.lung export
	$(RUN) -m training.retina export

.PHONY: lung-results
lung-results: $(TEST) ## write the lung model's protocol, comparison of explanations and grey-level shift (half an hour)
	$(RUN) -m training.lung report $(ARGS)
	$(RUN) -m training.lung compare
	$(RUN) -m training.lung shift

.PHONY: retina-results
retina-results: $(TEST) ## write the retina model's study of networks, comparison of explanations, gallery, gate and laterality (an hour)
	$(RUN) -m training.retina study
	$(RUN) -m training.retina compare
	$(RUN) -m training.retina gallery
	$(RUN) -m training.retina.quality
	$(RUN) -m training.retina.laterality

.PHONY: digits
digits: $(TEST) ## the experiment with digits: train, evaluate, write docs/experiments/digits.md
	$(RUN) -m training.digits train $(ARGS)
	$(RUN) -m training.digits evaluate
	$(RUN) -m training.digits report

.PHONY: anatomy
anatomy: $(TEST) ## the experiment with x-ray anatomy: the same
	$(RUN) -m training.anatomy prepare
	$(RUN) -m training.anatomy train $(ARGS)
	$(RUN) -m training.anatomy evaluate
	$(RUN) -m training.anatomy report

.PHONY: crystals
crystals: $(TEST) ## the experiment with crystal structures: the same, and table 3.2 (an hour)
	@for step in prepare train robustness transitions landmarks speed report; do $(RUN) -m training.crystals $$step || exit 1; done

.PHONY: cases
cases: $(TRAINING) ## compute the known cases of both bundles from ../shared (minutes; after every `make models`)
	$(RUN) -m training.cases lung
	$(RUN) -m training.cases retina

.PHONY: bench
bench: $(TEST) ## measure; writes the figures that the documents quote
	$(RUN) -m benchmarks $(ARGS)

.PHONY: candidates
candidates: $(TEST) ## measure the search for nodule candidates; writes docs/candidates.md
	$(RUN) -m benchmarks.candidates $(ARGS)

.PHONY: viewer
viewer: ## build the radiologist's page from its sources (needs Node 20.19 or newer; serving does not)
	cd service/viewer && npm ci && npm run check

.PHONY: pictures
pictures: $(TEST) ## draw the pictures of the documents from real answers
	PYTHONPATH=. $(RUN) docs/images/make.py
	PYTHONPATH=. $(RUN) docs/images/ohif.py
	PYTHONPATH=. $(RUN) docs/images/viewer.py

.PHONY: conformance
conformance: $(SERVICE) ## write the conformance statements and the generated tables of the documents
	$(RUN) -m service.conformance docs

.PHONY: figures
figures: $(SERVICE) ## write the figures of README from the bundles and the last benchmark
	PYTHONPATH=. $(RUN) docs/figures.py

##@ House
.PHONY: lock
lock: $(RUN) ## pin all dependencies again: requirements/*.in -> *.txt
	$(RUN) requirements/lock.py

.PHONY: clean
clean: ## remove .venv, caches and build leftovers; data, models and runs stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(RUN):
	@test -n "$(PYTHON)" || { \
		echo "Pellucid needs Python 3.11 or newer, and found none on the PATH ($$(python3 --version 2>&1))." >&2; \
		echo "Install one, or name it: make serve PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c '$(NEW_ENOUGH)' || { \
		echo "Pellucid needs Python 3.11 or newer; $(PYTHON) is $$("$(PYTHON)" --version 2>&1)." >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

$(SERVICE): | $(RUN)
	@echo "Installing the service into $(VENV) (the first time takes a few minutes) ..."
	$(PIP) install -r requirements/service.txt
	$(PIP) install --no-deps -e .
	@rm -f $(VENV)/.service-* && touch $@

$(TRAINING): $(SERVICE)
	@echo "Adding the training set (PyTorch) ..."
	$(PIP) install -r requirements/training.txt
	@rm -f $(VENV)/.training-* && touch $@

$(TEST): $(TRAINING)
	@echo "Adding the test set ..."
	$(PIP) install -r requirements/test.txt
	$(PIP) install --no-deps $(ZENNIT)
	@rm -f $(VENV)/.test-* && touch $@
