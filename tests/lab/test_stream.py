"""The walk with the block outside: the same scores, each block once, on where it was killed."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lab_samples import ROOMY, Bench, load_tiny, make_bench, write_corpus

from bitgap.lab.engine import stream as stream_module
from bitgap.lab.engine.budget import Dimensions, make_layout
from bitgap.lab.engine.floor import Reference
from bitgap.lab.engine.scoring import Layout, Leaf
from bitgap.lab.engine.stream import score_streaming
from bitgap.lab.lab import Lab
from bitgap.lab.store import Store
from bitgap.models.decoder import Decoder
from bitgap.quant.plan import Plan, mask_plans
from validation.families.tiny import tiny_model

STREAMS = replace(ROOMY, streams=True)
PLANS = [
    *mask_plans("rtn4-channel", 3, (0, 1, 2, 5)),
    *mask_plans("seed4", 3, (0, 4)),
    Plan.parse("rtn3-g32 protect 0", 3),
]


def streamed(bench: Bench, plans: list[Plan], **options: Any) -> dict[Plan, Leaf]:
    leaves: list[Leaf] = []
    score_streaming(bench.engine, plans, leaves.extend, **options)
    assert len({leaf.plan for leaf in leaves}) == len(leaves), "a plan was emitted twice"
    return {leaf.plan: leaf for leaf in leaves}


@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("layout", [STREAMS, replace(STREAMS, chunk_rows=30, workers=2)])
def test_scores_floor_and_reference_are_those_of_the_walk_in_memory(
    case: str, layout: Layout
) -> None:
    corpus = write_corpus(8)
    inside, outside = (make_bench(case, at, corpus=corpus) for at in (ROOMY, layout))
    references = [Reference(bench.engine, 2, 8) for bench in (inside, outside)]
    theirs = inside.score(PLANS, watch=references[0])
    ours = streamed(outside, PLANS, watch=references[1])
    assert ours.keys() == theirs.keys() == set(PLANS)
    for plan in PLANS:
        for a, b in ((ours[plan].kl_nats, theirs[plan].kl_nats),
                     (ours[plan].nll_nats, theirs[plan].nll_nats)):  # fmt: skip
            assert (np.abs(a - b) / inside.tokens).max() < 1e-5
    assert np.abs(references[0].nll_nats - references[1].nll_nats).max() < 1e-4
    assert all(r.floor_nats is not None and 0 < r.floor_nats < 1e-5 for r in references)


# Several streams, inputs made of token ids, keys that later blocks read, the embedding once more:
# a state holds more than the model is wide.
@pytest.mark.parametrize(
    "name", ["Gemma3nForCausalLM", "Gemma4ForCausalLM", "ZambaForCausalLM", "JambaForCausalLM"]
)
def test_states_of_more_than_one_tensor_are_kept_whole(name: str) -> None:
    decoder, corpus = Decoder.from_model(tiny_model(name)), write_corpus(8)
    plans = mask_plans("rtn4-channel", decoder.n_blocks, (0, 1, 2))
    inside, outside = (make_bench(decoder, at, corpus=corpus) for at in (ROOMY, STREAMS))
    theirs, ours = inside.score(plans), streamed(outside, plans)
    for plan in plans:
        for a, b in ((ours[plan].kl_nats, theirs[plan].kl_nats),
                     (ours[plan].nll_nats, theirs[plan].nll_nats)):  # fmt: skip
            assert (np.abs(a - b) / inside.tokens).max() < 1e-5


def test_every_variant_of_every_block_is_made_once_in_order() -> None:
    bench = make_bench("llama", replace(STREAMS, bank_bytes=1))
    made: list[tuple[int, str]] = []
    make = bench.bank._make_block

    def counted(index: int, scheme: str) -> Any:
        made.append((index, scheme))
        return make(index, scheme)

    vars(bench.bank)["_make_block"] = counted
    streamed(bench, PLANS)
    assert max(Counter(made).values()) == 1
    assert [index for index, _ in made] == sorted(index for index, _ in made)


def test_a_plans_bits_hang_on_no_other_plan_and_on_nothing_known() -> None:
    bench = make_bench("llama", STREAMS)
    whole = streamed(bench, PLANS)
    alone = streamed(bench, PLANS[2:3])
    rest = streamed(bench, PLANS, known=lambda plan: plan in PLANS[:3])
    assert rest.keys() == set(PLANS[3:])
    for plan, leaf in {**alone, **rest}.items():
        assert np.array_equal(leaf.kl_nats, whole[plan].kl_nats)
        assert np.array_equal(leaf.nll_nats, whole[plan].nll_nats)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("half_way", [True, False])
def test_a_killed_walk_goes_on_at_the_last_boundary_to_the_same_bits(
    at: int, half_way: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, loaded, killed_at = write_corpus(8), load_tiny(), at

    def lab(name: str) -> Lab:
        made = Lab.of(loaded, corpus, store=Store(tmp_path / name))
        made.engine.layout = replace(made.engine.layout, streams=True)
        return made

    whole = lab("whole.db").score(PLANS)
    ran: list[int] = []
    node, write = stream_module.Stream._node, stream_module._write_note

    def counted(self: Any, block: int, *args: Any) -> None:
        ran.append(block)
        node(self, block, *args)
        if half_way and block == at and len(ran) % 2 == 0:
            raise Killed

    def noted(path: Path, told: Any) -> None:
        write(path, told)
        if not half_way and told["blocks"] == at + 1:
            raise Killed

    killed = lab("killed.db")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(stream_module.Stream, "_node", counted)
        patch.setattr(stream_module, "_write_note", noted)
        killed.score(PLANS)
    killed.store.close()
    again = lab("killed.db")
    folder = again.store.walk_folder(again.text_key)
    assert folder is not None and folder.is_dir()
    with monkeypatch.context() as patch:
        ran.clear()
        patch.setattr(
            stream_module.Stream,
            "_node",
            lambda s, block, *a: (ran.append(block), node(s, block, *a)),
        )
        found = again.score(PLANS)
    assert min(ran, default=3) == (killed_at if half_way else killed_at + 1)
    assert np.array_equal(found.kl_nats, whole.kl_nats)
    assert np.array_equal(found.nll_nats, whole.nll_nats)
    assert found.floor_nats == whole.floor_nats
    assert not folder.exists(), "what is kept in the store needs no states"


def test_a_walk_of_another_request_is_begun_anew(tmp_path: Path) -> None:
    bench = make_bench("llama", STREAMS)
    wanted = streamed(bench, PLANS[:2])
    streamed(bench, PLANS[:2], folder=tmp_path, key="a text")
    assert any(tmp_path.iterdir()), "it is for the caller to remove, when scores are safe"
    other = streamed(bench, PLANS[:2], folder=tmp_path, key="another text")
    for plan in PLANS[:2]:
        assert np.array_equal(other[plan].kl_nats, wanted[plan].kl_nats)


def test_the_walk_is_chosen_where_the_blocks_are_larger_than_the_memory() -> None:
    size = Dimensions(64, 300, 97, 24, block_weights=10**6)
    text = {"text_rows": 1000, "longest": 20}
    assert make_layout(size, memory_bytes=90 * 10**6, **text).streams
    assert not make_layout(size, memory_bytes=100 * 10**6, **text).streams


def test_the_forecast_tells_bytes_to_read_and_disk(tmp_path: Path) -> None:
    lab = Lab.of(load_tiny(), write_corpus(8))
    assert lab.preflight(PLANS).as_dict()["read_bytes"] == 0
    lab.engine.layout = replace(lab.engine.layout, streams=True)
    told = lab.preflight(PLANS).as_dict()
    model: Any = lab.loaded.model
    assert told["read_bytes"] == sum(p.numel() * p.element_size() for p in model.parameters())
    counts = [len(nodes) for nodes in stream_module.levels(stream_module._with_full(PLANS))]
    widest = max(a + b for a, b in itertools.pairwise(counts))
    assert told["disk_bytes"] == 4 * lab.n_rows * lab.decoder.width * widest
    # And that is what lies there.
    seen: list[int] = []
    write = stream_module._write_note

    def looked(path: Path, told: Any) -> None:
        write(path, told)
        seen.append(sum(f.stat().st_size for f in path.parent.glob("states-*.bin")))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_module, "_write_note", looked)
        lab.score(PLANS)
    assert max(seen) == told["disk_bytes"]
    assert torch.is_inference_mode_enabled() is False
