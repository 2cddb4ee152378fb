# One virtual environment, made once; every target that needs it makes it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo theory test lint bench calibrate clean

setup: .venv/.ready

# torch first and alone: on machines where a CPU build is at hand nothing later may replace it.
.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/bitgap investigate --tier $(or $(TIER),standard) --store runs/demo.db --out runs/demo

# The whole theory over the zoo, and the origin's claims replayed; within an hour on two cores.
theory: setup
	$(BIN)/bitgap theory reference models --store runs/theory.db --out runs/theory \
		--page docs/results.md
	$(BIN)/bitgap replicate --others models --store runs/theory.db --out runs/theory \
		--page docs/replication.md

# One BLAS thread: the tests' matrices are small, and two threads wait for each other.
test: setup
	OPENBLAS_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

bench: setup
	$(BIN)/python benchmarks/sweep.py

# The slow half of the toolkit's own calibration; the fast half is in the tests.
calibrate: setup
	$(BIN)/python -m bitgap.calibration --out docs/calibration.md

clean:
	rm -rf .venv build runs
