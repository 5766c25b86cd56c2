.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m dermprompt
# ISIC's folders, for the targets that need them.
ROOT ?=
LABELS ?= $(ROOT)
DATA := data.root=$(ROOT) data.labels=$(LABELS)
# make verify-sd PATH=FOLDER: recipes still find their commands by the PATH of the process that started make.
ifeq ($(origin PATH),command line)
FOLDER_SD := $(PATH)
override PATH := $(shell /usr/bin/tr '\0' '\n' < /proc/$$PPID/environ | /usr/bin/sed -n 's/^PATH=//p')
endif
# More overrides, for example ARGS="trainer=ddp trainer.devices=4 logger=wandb".
ARGS ?=
# For gpu: how long it may take in all, what comes back, what a node lacks, and what an earlier call brought back.
MINUTES ?= 9
OUT ?= runs/gpu-out
PACKED ?= .gpu
CARRIED ?=

.PHONY: help setup dependencies demo studio test test-slow test-paper test-gpu test-kill test-slurm lint small fair-arms table1 table2 report dashboard verify-tables rewrite-tables verify-sd gpu docker clean lock

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-13s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## install the locked packages into .venv

# A separate target, because the first layers of an image should change seldom.
dependencies: $(VENV)/.locked

$(VENV)/.locked: requirements.lock
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "uv>=0.9"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --requirements requirements.lock
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: setup ## run the whole pipeline on images from the package, in minutes; print the path of the report
	$(RUN) +experiment=demo $(ARGS)

studio: setup ## paint a lesion, name it, see it, in the browser: ARGS="--port 8000 paths.store=STORE"
	$(RUN) studio $(ARGS)

# Each worker has one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
PARALLEL := -n 2 --dist worksteal

test: setup ## run the tests, in minutes on two cores
	$(PYTEST) $(PARALLEL) $(ARGS)

test-slow: setup ## run the slow tests: every experiment, two ranks for every trainer, all examples
	$(PYTEST) $(PARALLEL) -m slow $(ARGS)
	$(PYTEST) $(PARALLEL) --hypothesis-profile=slow tests/data/test_fuzz.py tests/data/test_split.py tests/hostile/test_schema.py

test-paper: setup ## run Table 2, tiny, with the paper's counts of samples
	$(PYTEST) -m paper tests/sweep/test_table2.py $(ARGS)

test-gpu: setup ## run the tests that compare a GPU with a CPU
	$(BIN)/python -m pytest -m gpu $(ARGS)

test-kill: setup ## kill a small job and the demo fifty times and let them continue: most of an hour
	$(BIN)/python -m pytest -m kill -s tests/job/test_kills.py $(ARGS)

test-slurm: setup ## run sweeps on a local SLURM of two virtual nodes: Debian and root only
	$(BIN)/python -m pytest -m slurm -s tests/slurm $(ARGS)

lint: setup ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint docker/Dockerfile

small: setup need-root ## ISIC at 64x64 on two cores: ROOT=/data/isic2018 LABELS=/data/labels
	$(RUN) +experiment=small $(DATA) $(ARGS)

fair-arms: setup need-root ## ISIC at 64x64: samples against longer training, augmentation, real images: ROOT=...
	$(RUN) +experiment=fair_arms_small $(DATA) $(ARGS)

table1: setup need-root ## the paper's Table 1: ROOT=...
	$(RUN) +experiment=table1 $(DATA) $(ARGS)

table2: setup need-root ## the paper's Table 2: ROOT=...
	$(RUN) +experiment=table2 $(DATA) $(ARGS)

report: setup ## write the page of a sweep or run again: FOLDER=runs/...
	$(BIN)/python -m dermprompt.sweep.page $(FOLDER)

dashboard: setup ## send the table of a sweep to W&B again: FOLDER=runs/...
	$(BIN)/python -m dermprompt.job.dashboard $(FOLDER)

verify-tables: setup ## recompute the published tables from the scores of every image
	$(BIN)/python -m dermprompt.sweep.published $(dir $(wildcard experiments/*/tables.json experiments/*/*/tables.json))

rewrite-tables: setup ## compute the published tables and charts again, after a change of the rule
	$(BIN)/python -m dermprompt.sweep.published --rewrite $(dir $(wildcard experiments/*/tables.json experiments/*/*/tables.json))

verify-sd: setup ## check a folder of Stable Diffusion, in minutes on a CPU: PATH=/models/sd15
	@test -n "$(FOLDER_SD)" || { echo "PATH is not set: make verify-sd PATH=/models/stable-diffusion-v1-5"; exit 1; }
	$(BIN)/python -m dermprompt.verify "$(FOLDER_SD)" $(OUTPUT)

gpu: ## tests, benchmarks, both generators on one GPU, without network: MINUTES=9 OUT=folder PACKED=folder CARRIED=folder
	$(or $(wildcard $(BIN)/python),$(PYTHON)) tools/gpu.py "$(OUT)" --minutes $(MINUTES) --packed "$(PACKED)" \
	  $(if $(CARRIED),--carried "$(CARRIED)") $(ARGS)

docker: ## build the images for GPU and CPU from the lock
	docker build --file docker/Dockerfile --target gpu --tag dermprompt:gpu .
	docker build --file docker/Dockerfile --target cpu --tag dermprompt:cpu .

lock: ## resolve the locked versions again
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra slurm --extra studio --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-binary elasticdeform --emit-build-options --quiet \
	  --upgrade --output-file requirements.lock

clean: ## remove the environment and caches; keep store/ and runs/
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info

.PHONY: need-root
need-root:
	@test -n "$(ROOT)" || { echo "ROOT is not set: make $(MAKECMDGOALS) ROOT=/data/isic2018 LABELS=/data/labels"; exit 1; }
