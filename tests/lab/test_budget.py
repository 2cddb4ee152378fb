from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_samples import make_lab, write_corpus
from tiny_models import shared

from bitgap.errors import BudgetError, UsageError
from bitgap.lab.engine.budget import (
    GIB,
    MIB,
    Dimensions,
    Preflight,
    current_rss_bytes,
    make_layout,
    parse_bytes,
    peak_rss_bytes,
)
from bitgap.lab.engine.head import TILE
from bitgap.lab.engine.scoring import Layout
from bitgap.lab.engine.tree import Work
from bitgap.lab.settings import Settings
from bitgap.quant.plan import Plan, mask_plans


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("4GiB", 4 * GIB),
        ("4gib", 4 * GIB),
        (" 800 MiB ", 800 * MIB),
        ("512M", 512 * MIB),
        ("1.5K", 1536),
        ("2GB", 2 * 10**9),
        ("3kB", 3000),
        ("1e9", 10**9),
        ("1T", 2**40),
        ("77", 77),
        ("77B", 77),
    ],
)
def test_amounts_of_memory_read_as_written(text: str, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize(
    "text",
    ["", "GiB", "-4GiB", "0", "0.2", "1.2.3", ".", "4 apples", "1e999", "nan", "inf", "4PiB"],
)
def test_what_is_no_amount_of_memory_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="is no amount; write for example 4GiB"):
        parse_bytes(text)


def test_dimensions_are_those_of_the_model() -> None:
    size = Dimensions.of(shared("llama"))
    assert (size.width, size.vocabulary, size.n_blocks) == (32, 97, 3)
    assert size.inner == 32 + 16 + 16 + 32 + 48 + 48 + 32


def held_bytes(size: Dimensions, layout: Layout, text_rows: int, longest: int) -> float:
    """What the engine holds at once under a layout, by the count of method's budget."""
    held = min(layout.segment_rows, text_rows)
    stack = 4 * held * size.width * ((size.n_blocks + 3) * layout.nodes + 5)
    rows = max(layout.chunk_rows, layout.product_rows)
    scratch = layout.workers * size.scratch_bytes(rows, longest)
    logits = 8 * layout.workers * layout.head_rows * min(TILE, size.vocabulary)
    return stack + scratch + logits + layout.bank_bytes


@settings(max_examples=200, deadline=None)
@given(
    width=st.sampled_from([32, 256, 768, 4096]),
    n_blocks=st.integers(1, 96),
    vocabulary=st.sampled_from([97, 8_000, 50_000, 250_000]),
    longest=st.integers(2, 9_000),
    sentences=st.integers(1, 3_000),
    memory=st.integers(1, 64 * GIB),
    threads=st.integers(1, 16),
    eager_heads=st.sampled_from([0, 0, 12]),
)
def test_a_layout_respects_its_memory_or_names_one_that_suffices(
    width: int,
    n_blocks: int,
    vocabulary: int,
    longest: int,
    sentences: int,
    memory: int,
    threads: int,
    eager_heads: int,
) -> None:
    size = Dimensions(width, 11 * width, vocabulary, n_blocks, eager_heads)
    text = {"text_rows": longest * sentences, "longest": longest, "threads": threads}
    try:
        layout = make_layout(size, memory_bytes=memory, **text)
    except BudgetError as error:
        named = re.search(r"give at least --memory (\d+MiB)", str(error))
        assert named is not None
        memory = parse_bytes(named[1])
        layout = make_layout(size, memory_bytes=memory, **text)
    assert held_bytes(size, layout, longest * sentences, longest) <= memory
    assert longest <= layout.chunk_rows <= layout.segment_rows
    assert layout.nodes >= 1 and layout.head_rows >= 64


@pytest.mark.parametrize(("heads", "longest"), [(0, 50), (4, 1200), (16, 3072), (96, 9000)])
def test_rows_that_fit_are_the_most_that_do(heads: int, longest: int) -> None:
    size = Dimensions(768, 11 * 768, 50_000, 12, heads)
    for memory in (5 * MIB, 90 * MIB, 700 * MIB, 9 * GIB):
        rows = size.rows_within(memory, longest)
        assert size.scratch_bytes(rows, longest) <= memory < size.scratch_bytes(rows + 1, longest)


def test_too_little_memory_names_how_much_would_do_and_that_does() -> None:
    with pytest.raises(BudgetError, match="too little for sequences of") as caught:
        make_lab(settings=Settings(memory_bytes=1000))
    named = re.search(r"--memory (\S+)", str(caught.value))
    assert named is not None
    lab = make_lab(settings=Settings(memory_bytes=parse_bytes(named[1])))
    assert lab.score([Plan.uniform("rtn4-channel", 3)]).kl_nats.sum() > 0


def test_memory_changes_the_layout_and_not_the_scores() -> None:
    plans = list(mask_plans("rtn4-channel", 3, range(8)))
    corpus = write_corpus(12)
    rich = make_lab(corpus=corpus).score(plans)
    lab = make_lab(corpus=corpus, settings=Settings(memory_bytes=2 * MIB))
    poor = lab.score(plans)
    assert lab.engine.layout.nodes < make_lab(corpus=corpus).engine.layout.nodes
    assert abs(poor.kl_nats - rich.kl_nats).max() < 1e-5 * rich.counts.tokens.max()


def test_the_preflight_says_what_scoring_will_cost() -> None:
    lab = make_lab()
    plans = list(mask_plans("rtn4-channel", 3, range(8)))
    before = lab.preflight(plans).as_dict()
    assert before["plans"] == 8 and before["plans_in_store"] == 1, "protect-all needs no run"
    assert before["block_evaluations"] == 13
    assert before["block_evaluations_without_sharing"] == 21
    assert before["head_evaluations"] == 7
    assert before["token_rows"] == sum(chunk.n_rows for chunk in lab.chunks)
    assert 0 < before["time_s"] < 60 and 0 < before["memory_bytes"] < lab.settings.memory_bytes
    lab.score(plans[:3])
    after = lab.preflight(plans)
    assert after.n_known == 4 and after.work.head_evaluations == 4
    assert all(getattr(after, field.name) is not None for field in fields(after))
    lab.score(plans)
    done = lab.preflight(plans)
    assert done.time_s == 0 and done.n_known == 8


def test_memory_of_the_process_is_told_in_bytes() -> None:
    now, peak = current_rss_bytes(), peak_rss_bytes()
    assert 50 * MIB < now <= peak * 1.05 and peak < 64 * GIB and math.isfinite(peak)


_PEAK = """
import json, sys, torch
torch.set_num_threads(1)
from bitgap.corpora.parallel import ParallelCorpus
from bitgap.lab.engine.budget import current_rss_bytes, parse_bytes, peak_rss_bytes
from bitgap.lab.lab import Lab
from bitgap.lab.settings import Settings
from bitgap.models.load import load_model
from bitgap.quant.plan import mask_plans

words = "the river carries small boats under an old bridge where children wait for bread".split()
texts = {
    code: tuple(" ".join(words[(i * k) % len(words):] + words[: i % 7]) for i in range(10))
    for k, code in enumerate(("en", "de"), start=1)
}
loaded = load_model(None)
lab = Lab.of(loaded, ParallelCorpus("river", texts, "nobody", "CC0-1.0"),
          settings=Settings(memory_bytes=parse_bytes(sys.argv[1])))
plans = mask_plans("rtn4-g128", lab.n_blocks, range(2))
before = current_rss_bytes()
preflight = lab.preflight(plans)
scores = lab.score(plans)
print(json.dumps({"rose": peak_rss_bytes() - before, "kl": float(scores.kl_nats.sum()),
                  "predicted": preflight.memory_bytes}))
"""


@pytest.mark.parametrize("memory", ["4GiB", "1GiB", "160MiB"])
def test_scoring_the_bundled_model_stays_within_the_memory_given(memory: str) -> None:
    out = subprocess.run(
        [sys.executable, "-c", _PEAK, memory], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    found = json.loads(out.stdout.splitlines()[-1])
    assert found["kl"] > 0
    assert found["rose"] <= parse_bytes(memory), found
    assert 0 < found["predicted"] <= parse_bytes(memory), found


_LONG_LINE = """
import json, sys, torch
sys.path[:0] = sys.argv[2:]
torch.set_num_threads(1)
from lab_samples import load_tiny, write_corpus
from tiny_models import CASES
from bitgap.errors import BudgetError
from bitgap.lab.engine.budget import current_rss_bytes, parse_bytes, peak_rss_bytes
from bitgap.lab.lab import Lab
from bitgap.lab.settings import Settings
from bitgap.quant.plan import Plan
from dataclasses import replace

loaded = load_tiny("bloom")
loaded = replace(loaded, info=replace(loaded.info, context=None))
short = write_corpus(2)
lines = {code: (texts[0], "ab " * 400) for code, texts in short.sentences.items()}
corpus = replace(short, sentences=lines)
try:
    lab = Lab.of(loaded, corpus, settings=Settings(memory_bytes=parse_bytes(sys.argv[1])))
except BudgetError as error:
    print(json.dumps({"refused": str(error)}))
    raise SystemExit
before = current_rss_bytes()
preflight = lab.preflight([Plan.uniform("rtn4-channel", lab.n_blocks)])
lab.score([Plan.uniform("rtn4-channel", lab.n_blocks)])
print(json.dumps({"rose": peak_rss_bytes() - before, "predicted": preflight.memory_bytes}))
"""


def test_a_long_line_under_alibi_stays_within_the_memory_or_is_refused_with_what_would_do() -> None:
    """Alibi is eager: three times 4 heads x 1,200 x 1,200 floats are 66 MiB a line.

    From the heap they take up to twice that, as what is freed between them leaves holes.
    """

    def run(memory: str) -> dict[str, Any]:
        here = Path(__file__).parent
        folders = [str(here), str(here.parent / "models")]
        out = subprocess.run(
            [sys.executable, "-c", _LONG_LINE, memory, *folders],
            capture_output=True, text=True, check=False,
            env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
        )  # fmt: skip
        assert out.returncode == 0, out.stderr
        return json.loads(out.stdout.splitlines()[-1])

    refused = run("32MiB")["refused"]
    assert "sequences of 120" in refused
    enough = refused.rsplit("--memory ", 1)[1]
    found = run(enough)
    assert found["rose"] <= parse_bytes(enough), found
    assert found["rose"] / 2 <= found["predicted"] <= parse_bytes(enough), found


def test_workers_share_all_but_what_each_of_them_does() -> None:
    alone = Preflight(3, 0, Work(10, 20, 3), 100, 110.0, 50, read_bytes=7)
    told = alone.among(4, 0.3, 10.0, 8.0)
    assert told.time_s == pytest.approx(8 + 0.3 * 100 + 10)
    assert (told.memory_bytes, told.read_bytes, told.workers) == (200, 28, 4)
    assert told.as_dict()["workers"] == 4
    assert alone.and_also(told, 2).workers == 4
