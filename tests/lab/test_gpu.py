"""The same walk on an accelerator: its scores, its streaming, its memory, against the processor's.

What is asked here runs only where torch finds a CUDA device; elsewhere every test is skipped and
says so. What was run on one, and what was not, stands in docs/how-to/large-models.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lab_samples import load_tiny, make_lab, write_corpus

from bitgap.lab import bench as bench_module
from bitgap.lab.engine.budget import MIB
from bitgap.lab.lab import Lab
from bitgap.lab.settings import Settings
from bitgap.models.stored import keep_as_stored
from bitgap.quant.plan import Plan, mask_plans
from bitgap.records import Scores

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="needs an accelerator; torch finds none here"
    ),
]

PLANS = [*mask_plans("rtn4-channel", 3, (0, 1, 2, 5)), Plan.parse("rtn3-g32 protect 0", 3)]
CASES = ["llama", "gpt2", "gemma2", "bloom", "qwen3"]
# One block and the head differ by this much between devices, in nats a token.
TOLERANCE_NATS = 1e-4


def lab_on(device: str, case: str = "llama", memory_bytes: int = 256 * MIB) -> Lab:
    settings = Settings(device=device, memory_bytes=memory_bytes)
    return make_lab(case, corpus=write_corpus(8), settings=settings)


def assert_equal(ours: Scores, theirs: Scores, tokens: Any) -> None:
    for name in ("kl_nats", "nll_nats"):
        off = np.abs(getattr(ours, name) - getattr(theirs, name)) / tokens
        assert off.max() < TOLERANCE_NATS, name


@pytest.mark.parametrize("case", CASES)
def test_scores_are_the_processor_s(case: str) -> None:
    here, there = lab_on("cpu", case), lab_on("cuda", case)
    assert_equal(there.score(PLANS), here.score(PLANS), here.text.counts.tokens)


@pytest.mark.parametrize("case", CASES)
def test_streamed_scores_are_those_of_the_walk_in_memory(case: str) -> None:
    whole, streams = lab_on("cuda", case), lab_on("cuda", case)
    streams.engine.layout = replace(streams.engine.layout, streams=True)
    assert_equal(streams.score(PLANS), whole.score(PLANS), whole.text.counts.tokens)


@pytest.mark.parametrize("case", CASES)
def test_blocks_that_visit_give_the_same_scores(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lab_on("cuda", case)
    theirs = whole.score(PLANS)
    monkeypatch.setattr(bench_module, "has_room", lambda *_: False)
    visited = lab_on("cuda", case)
    assert visited.decoder.visits is not None
    assert {p.device.type for p in visited.decoder.blocks[0].parameters()} == {"cpu"}
    assert_equal(visited.score(PLANS), theirs, whole.text.counts.tokens)


def test_a_model_kept_in_half_the_bits_is_run_in_float32_there_too() -> None:
    corpus, found = write_corpus(8), list[Scores]()
    for device in ("cpu", "cuda"):
        loaded = load_tiny()
        kept = keep_as_stored(loaded.model.to(torch.bfloat16))
        assert kept is not None
        lab = Lab.of(replace(loaded, model=kept), corpus, settings=Settings(device=device))
        found.append(lab.score(PLANS))
    assert_equal(found[1], found[0], lab_on("cpu").text.counts.tokens)


@pytest.mark.parametrize("mib", [16, 64, 256])
def test_memory_beside_the_model_is_bounded(mib: int) -> None:
    corpus = write_corpus(200, longest=36)
    # A first product takes what the library keeps for itself, whatever the model's size.
    torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")
    loaded = load_tiny("llama")
    settings = Settings(device="cuda", memory_bytes=mib * MIB)
    lab = Lab.of(loaded, corpus, settings=settings)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    lab.score(mask_plans("rtn4-channel", 3, tuple(range(8))))
    assert torch.cuda.max_memory_allocated() - before <= mib * MIB


def test_fast_products_stay_near_exact_ones() -> None:
    exact, fast = (
        make_lab(corpus=write_corpus(8), settings=Settings(device="cuda", arithmetic=kind))
        for kind in ("exact", "fast")
    )
    ours, theirs = fast.score(PLANS), exact.score(PLANS)
    off = np.abs(ours.nll_nats - theirs.nll_nats) / exact.text.counts.tokens
    assert off.max() < 0.05
