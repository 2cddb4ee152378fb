# One virtual environment, made once; every target that needs it makes it.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := OPENBLAS_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest

.PHONY: setup demo theory results predictions recipes readme test cluster toolchains browser docs lint \
	bench calibrate fuzz faults kills audit-dependencies clean

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
# Models without weights in this clone speak by their evidence; what is measured is added to it.
theory: setup
	$(BIN)/bitgap theory reference models $(if $(wildcard evidence/*.zip),--evidence evidence) \
		--store runs/theory.db --out runs/theory --export evidence --page docs/results.md
	$(BIN)/bitgap replicate --others models --store runs/theory.db --out runs/replication \
		--page docs/replication.md

# The same page from evidence in hand, under a minute; nothing is measured.
results: setup
	$(BIN)/bitgap theory --evidence evidence --store runs/results.db --out runs/results \
		--page docs/results.md
	$(BIN)/bitgap check docs/predictions/*-weights-rtn*.json --evidence evidence \
		--page docs/predictions/outcomes.md

# Predictions of models that are not measured yet, learned from evidence in hand: architectures from
# their configuration, and MODELS="folder …" from weights and one pass, at every scheme they may be
# measured with. To be run on a committed tree, and committed before any of them is measured.
CARDS ?= Llama-2-7B Llama-2-13B Llama-2-70B Llama-3.1-8B Mistral-7B-v0.1 Qwen3-8B Gemma-3-12B \
	BLOOM-7B1 Aya-Expanse-8B
SCHEMES ?= rtn3-g128 rtn4-g128
LEARN ?= evidence
predictions: setup
	@test -z "$$(git status --porcelain src)" || \
		{ echo "src/ differs from what is committed; commit it first"; exit 1; }
	for card in $(CARDS); do \
		$(BIN)/bitgap predict $$card --evidence $(LEARN) --out docs/predictions || exit 1; \
	done
	for model in $(MODELS); do for scheme in $(SCHEMES); do \
		$(BIN)/bitgap predict $$model --scheme $$scheme --evidence $(LEARN) \
			--out docs/predictions || exit 1; \
	done; done

# Recipes and docs/results-protect.md, from records; what is recorded is not searched again. The
# bundled model takes some minutes; RECIPES="reference folder …" CORPUS=folder for others, and
# ASK="--dry-run" tells what it would cost.
RECIPES ?= reference
recipes: setup
	$(BIN)/python docs/results_protect.py $(RECIPES) $(if $(CORPUS),--corpus $(CORPUS)) $(ASK)

# The README's tables and the numbers beside them, from records and from the pages of `make theory`.
readme: setup
	$(BIN)/python docs/readme.py

# A process a core with one thread each: the tests' matrices are small, and threads wait for each
# other. Then those that measure time or stop a process at a moment, with nothing beside them.
test: setup
	OMP_NUM_THREADS=1 $(PYTEST) -n auto --dist loadfile -m "not alone and not cluster"
	$(PYTEST) -m "alone and not cluster"

# Workers of a Ray cluster of several nodes on this machine, lost and late ones too; some minutes.
cluster: setup
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cluster]'
	OMP_NUM_THREADS=1 $(PYTEST) -n 0 -m cluster tests/lab/test_cluster.py

# What real toolchains write, read back; nightly, in an environment of their own, as they bring much.
toolchains:
	$(PYTHON) -m venv .venv-toolchains
	.venv-toolchains/bin/python -m pip install --quiet -c constraints.txt torch
	.venv-toolchains/bin/python -m pip install --quiet -c constraints.txt -e '.[dev,toolchains]'
	OMP_NUM_THREADS=1 .venv-toolchains/bin/python -m pytest tests/formats

# The pages are tested in a real Chromium, found by its usual names or as BITGAP_CHROMIUM.
browser:
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
		command -v $$name >/dev/null && exit 0; done; \
	{ apt-get update -qq && \
		apt-get install -qq -y --no-install-recommends chromium fonts-noto-core >/dev/null; } || \
	echo "no Chromium, and none could be installed: pages will not be opened by the tests"

# The documentation site, into build/docs; any warning is an error.
docs: setup
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

bench: setup
	$(BIN)/python benchmarks/sweep.py

# Damaged inputs for every reader, some minutes; a short run is among the tests.
SECONDS ?= 300
fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m validation.fuzz --seconds $(SECONDS) --page

# Interrupts at the start, and kills at random moments; an hour on an idle machine.
faults: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m validation.interrupts --page
	OMP_NUM_THREADS=1 $(BIN)/python -m validation.kills --kills 200 --page

# An export that is killed leaves nothing or a whole one: at 20 random moments for each of three forms.
kills: setup
	BITGAP_KILLS=20 $(BIN)/python -m pytest -n 0 -rA tests/formats/test_export.py -k killed

# Whether a version that is used is known to be vulnerable, by pip-audit in an environment of its own.
# Where nobody can be asked it says so, and that is no failure; STRICT=--strict makes it one.
AUDIT := .venv-audit
audit-dependencies: setup $(AUDIT)/.ready
	$(BIN)/python -m validation.dependencies --python $(AUDIT)/bin/python $(STRICT)

$(AUDIT)/.ready: constraints.txt
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pip-audit
	touch $@

# The slow half of the toolkit's own calibration; the fast half is in the tests.
calibrate: setup
	$(BIN)/python -m validation --out docs/calibration.md

clean:
	rm -rf .venv $(AUDIT) build runs
