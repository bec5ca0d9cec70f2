# `make` alone lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= auto
ROUNDS ?= 20
ONLY ?=
GPU_STORE ?= sqlite:///bench-gpu.db
GPU_STORE_DDP ?= sqlite:///bench-gpu-ddp.db
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-faults calibration bench bench-gpu bench-gpu-device bench-gpu-packs bench-gpu-ddp bench-gpu-precision bench-gpu-speedrun bench-gpu-epoch lint format docs constraints clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## make the environment in .venv, with the versions known to work

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "lenet_lab needs Python 3.11 to 3.13, %s is %d.%d: make PYTHON=python3.11 ..." % (sys.executable, *v))'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev,joblib,ray]'
	@touch $@

demo: $(STAMP) ## sweep pooling x normalisation on the embedded digits, and write the report
	$(BIN)/python -m lenet_lab -m experiment=demo
	$(BIN)/python -m lenet_lab report --out reports/demo
	@echo
	@echo "The report:      reports/demo/report.html"
	@echo "Browse the runs: $(BIN)/python -m lenet_lab ui"

test: $(STAMP) ## the whole suite, in parallel
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-fast: $(STAMP) ## the inner loop: what takes less than two minutes
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not slow'

test-faults: $(STAMP) ## the fault campaign: kills, signals, full disks, locked stores, servers away (ROUNDS=20 ONLY=kill)
	$(BIN)/python -m tests.faults --rounds $(ROUNDS) $(addprefix --only ,$(ONLY))

calibration: $(STAMP) ## simulate studies whose truth is known, and write the figures into docs/statistics.md
	$(BIN)/python -m tests.calibration

bench: $(STAMP) ## measure training, start-up and stores, and write docs/performance.md (leave the machine alone)
	$(BIN)/python -m lenet_lab bench epoch again packed side sweep replicas compiled start stores profile --out docs/data/bench.json
	$(BIN)/python docs/performance.py

# Each part by itself, the most telling first, and what it has measured written at once: a machine that is lent by the
# minute is used up in any order. Where the environment is there already: make bench-gpu STAMP= BIN=/that/one/bin
# Runs go to stores of their own: a run's key does not name its device, and what a CPU has trained would be "done already".
bench-gpu: bench-gpu-packs bench-gpu-ddp bench-gpu-precision bench-gpu-speedrun bench-gpu-epoch ## on a machine with a GPU: packs against its limits, DDP on one device, mixed precision, the speedrun, an epoch

bench-gpu-device: $(STAMP)
	$(BIN)/python -c 'import torch; assert torch.cuda.is_available(), "torch sees no GPU"'

bench-gpu-packs: bench-gpu-device
	PYTHONPATH=$(CURDIR):$$PYTHONPATH $(BIN)/python -m lenet_lab bench replicas --batches 8,32 --sizes 64,256 --rounds 3 --out docs/data/bench-gpu.json
	PYTHONPATH=$(CURDIR):$$PYTHONPATH $(BIN)/python docs/performance.py

bench-gpu-ddp: bench-gpu-device
	$(BIN)/python -m lenet_lab trainer=gpu epochs=2 tracking.artifacts=minimal tracking.uri=$(GPU_STORE)
	$(BIN)/python -m lenet_lab trainer=ddp trainer.devices=1 epochs=2 tracking.artifacts=minimal tracking.uri=$(GPU_STORE_DDP)

bench-gpu-precision: bench-gpu-device
	$(BIN)/python -m lenet_lab -m experiment=precision trainer.precision=32-true,bf16-mixed,16-mixed sweep.workers=8 tracking.artifacts=minimal tracking.uri=$(GPU_STORE)
	$(BIN)/python -m lenet_lab report precision --store $(GPU_STORE)

bench-gpu-speedrun: bench-gpu-device
	$(BIN)/python -m lenet_lab -m experiment=speedrun tracking.artifacts=minimal tracking.uri=$(GPU_STORE)
	$(BIN)/python -m lenet_lab -m experiment=speedrun_9934 tracking.artifacts=minimal tracking.uri=$(GPU_STORE)
	$(BIN)/python -m lenet_lab report speedrun --store $(GPU_STORE)
	$(BIN)/python -m lenet_lab report speedrun_9934 --store $(GPU_STORE)

bench-gpu-epoch: bench-gpu-device
	PYTHONPATH=$(CURDIR):$$PYTHONPATH $(BIN)/python -m lenet_lab bench epoch --batches 32,512 --rounds 3 --out docs/data/bench-gpu-epoch.json
	PYTHONPATH=$(CURDIR):$$PYTHONPATH $(BIN)/python docs/performance.py

lint: $(STAMP) ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## let ruff mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP) ## write docs/configuration.md from conf/ and its schema
	$(BIN)/python docs/configuration.py

constraints: $(STAMP) ## write the installed versions to constraints.txt
	(head -1 constraints.txt; $(PIP) freeze --exclude-editable | sort -f) > constraints.new && mv constraints.new constraints.txt

clean: ## remove the environment and caches; what was tracked stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
