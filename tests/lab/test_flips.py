"""Where the most likely next token changes: by hand, in every layout, and kept in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lab_samples import ROOMY, Bench, load_tiny, make_bench, quantized_copy, write_corpus

from bitgap.lab.engine.scoring import Layout, Leaf
from bitgap.lab.engine.stream import score_streaming
from bitgap.lab.lab import Lab
from bitgap.lab.scores import flip_counts
from bitgap.lab.settings import Settings
from bitgap.quant.plan import Plan

SEGMENTS = replace(ROOMY, segment_rows=100)
STREAMS = replace(ROOMY, streams=True)
NARROW = replace(ROOMY, head_rows=5)


def plans(n: int) -> list[Plan]:
    rounded = "rtn2-g32"
    return [
        Plan((rounded,) * n),
        Plan(("fp",) + (rounded,) * (n - 1), head="rtn3-channel"),
        Plan((rounded,) * n, embedding="rtn3-channel"),
    ]


def leaves_of(bench: Bench, wanted: list[Plan]) -> dict[Plan, Leaf]:
    found: list[Leaf] = []
    if bench.engine.layout.streams:
        score_streaming(bench.engine, wanted, found.extend)
    else:
        bench.engine.score(wanted, found.extend)
    return {leaf.plan: leaf for leaf in found}


def by_hand(bench: Bench, model: Any) -> tuple[np.ndarray, int]:
    """Returns changed tokens of each sequence, and how many of all hang on less than rounding."""
    flips, near = np.zeros(bench.n_sequences, dtype=int), 0
    first = bench.text.prefix.first
    with torch.no_grad():
        for place, ids in enumerate(ids for language in bench.text.ids for ids in language):
            one = torch.tensor(ids)[None]
            a, b = (m(input_ids=one, use_cache=False).logits[0, first - 1 : -1].double()
                    for m in (bench.decoder.model, model))  # fmt: skip
            top = a.argmax(-1)
            lead = b.amax(-1) - b.gather(-1, top[:, None])[:, 0]
            flips[place] = int((lead > 0).sum())
            two = a.topk(2, -1).values
            near += int(((lead > 0) & (lead < 1e-4)).sum() + (two[:, 0] - two[:, 1] < 1e-4).sum())
    return flips, near


@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("layout", [ROOMY, SEGMENTS, STREAMS, NARROW])
def test_flips_are_those_of_the_model_with_its_weights_exchanged(case: str, layout: Layout) -> None:
    bench = make_bench(case, layout, corpus=write_corpus(6))
    wanted = plans(bench.decoder.n_blocks)
    bench.engine.tops = True
    found = leaves_of(bench, wanted)
    total = 0
    for plan in wanted:
        hand, near = by_hand(bench, quantized_copy(bench.decoder, plan))
        flips = found[plan].flips
        assert flips is not None
        assert np.abs(flips - hand).sum() <= near
        total += hand.sum()
    assert total > 20, "something must flip, or nothing was compared"


@pytest.mark.parametrize("layout", [ROOMY, SEGMENTS, STREAMS])
def test_scores_are_the_same_bits_whether_or_not_flips_are_counted(layout: Layout) -> None:
    bench = make_bench("llama", layout)
    wanted = plans(bench.decoder.n_blocks)
    plain = leaves_of(bench, wanted)
    bench.engine.tops = True
    counted = leaves_of(bench, wanted)
    bench.engine.tops = False
    again = leaves_of(bench, wanted)
    for plan in wanted:
        for other in (counted, again):
            assert other[plan].nll_nats.tobytes() == plain[plan].nll_nats.tobytes()
            assert other[plan].kl_nats.tobytes() == plain[plan].kl_nats.tobytes()
        assert plain[plan].flips is None and again[plan].flips is None


def a_lab(**settings: Any) -> Lab:
    return Lab.of(load_tiny("llama"), write_corpus(6), settings=Settings(**settings))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Lab], list[int]]:
    """Counts how often full precision or a plan went through the first block."""

    def watched(lab: Lab) -> list[int]:
        seen: list[int] = []
        advance = lab.engine.advance

        def counted(block: int, group: Any, states: Any) -> Any:
            if block == 0 and len(states) == len(lab.chunks):
                seen.append(len(group))
            return advance(block, group, states)

        monkeypatch.setattr(lab.engine, "advance", counted)
        return seen

    return watched


def test_flips_and_scores_come_of_one_pass_and_are_kept(
    passes: Callable[[Lab], list[int]],
) -> None:
    lab = a_lab(arithmetic="exact")
    seen = passes(lab)
    plan = plans(lab.n_blocks)[0]
    counts = flip_counts(lab, plan, "audit")
    assert counts.shape == lab.text.counts.tokens.shape
    assert (counts >= 0).all() and (counts <= lab.text.counts.tokens).all() and counts.sum() > 0
    once = list(seen)
    lab.score([plan])
    assert (flip_counts(lab, plan, "audit") == counts).all()
    assert seen == once, "nothing is run again"
    assert lab.engine.tops is False


def test_where_scores_are_known_flips_are_counted_beside_them() -> None:
    lab = a_lab(arithmetic="exact")
    plan = plans(lab.n_blocks)[0]
    scores = lab.score([plan])
    assert (flip_counts(lab, plan, "audit") == flip_counts(a_lab(), plan, "audit")).all()
    assert lab.score([plan]).kl_nats.tobytes() == scores.kl_nats.tobytes()


def test_light_plans_are_counted_where_they_are_scored() -> None:
    lab = a_lab(arithmetic="fast")
    plan = Plan.only("rtn2-g32", lab.n_blocks, 0)
    assert plan.is_light
    exact = flip_counts(a_lab(arithmetic="exact"), plan, "audit")
    assert (flip_counts(lab, plan, "audit") == exact).all()
    assert lab.score([plan]).plans == (plan.text,)
