from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lab_samples import ROOMY, Bench, make_bench, quantized_copy, score_by_hand, write_corpus
from tiny_models import CASES, assert_untouched, shared, state
from torch import nn

from bitgap.errors import PlanError
from bitgap.lab.engine import arithmetic
from bitgap.lab.engine.arithmetic import fast_products_round, products
from bitgap.lab.engine.floor import measure_floor
from bitgap.lab.engine.scoring import Leaf
from bitgap.models.decoder import Decoder
from bitgap.quant.plan import Plan, mask_plans
from bitgap.quant.rounding import round_weight

TOLERANCE = 1e-4
"""Nats per token between the engine and the model's own forward."""


def some_plans(n: int) -> list[Plan]:
    """Plans that cover blocks, embedding and head, some sharing their beginning."""
    rounded = "rtn4-channel"
    return [
        Plan((rounded,) * n),
        Plan(("fp",) + ("rtn3-g32",) * (n - 1)),
        Plan((rounded,) * n, head=rounded),
        Plan((rounded,) * n, embedding=rounded),
        Plan(("fp",) * n, embedding=rounded, head=rounded),
        Plan(("fp",) * n),
    ]


def assert_agree(bench: Bench, leaf: Leaf, model: nn.Module) -> None:
    nll, kl = score_by_hand(bench, model)
    assert (np.abs(leaf.nll_nats - nll) / bench.tokens).max() < TOLERANCE
    assert (np.abs(leaf.kl_nats - kl) / bench.tokens).max() < TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_the_model_with_its_weights_exchanged_by_hand(case: str) -> None:
    bench = make_bench(case)
    modules, before = list(bench.decoder.model.modules()), state(bench.decoder.model)
    own_nll, _ = score_by_hand(bench, bench.decoder.model)
    assert (np.abs(bench.engine.reference() - own_nll) / bench.tokens).max() < TOLERANCE
    leaves = bench.score(some_plans(bench.decoder.n_blocks))
    assert len(leaves) == 6
    for plan, leaf in leaves.items():
        assert_agree(bench, leaf, quantized_copy(bench.decoder, plan))
    damage = leaves[some_plans(bench.decoder.n_blocks)[0]].kl_nats
    assert damage.sum() / bench.tokens.sum() > 1e-4, "rounding must show, or nothing was compared"
    assert_untouched(bench.decoder.model, before, modules)


@pytest.mark.parametrize("case", CASES)
def test_the_seed_scheme_rounds_every_weight_but_what_follows_the_last_block(case: str) -> None:
    bench = make_bench(case)
    model: Any = copy.deepcopy(bench.decoder.model)
    after = {p for module in Decoder(model).tail.modules for p in module.parameters()}
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and parameter not in after:
            parameter.data.copy_(round_weight(parameter.data.clone(), "seed8", stream=name))
    plan = Plan.uniform("seed8", bench.decoder.n_blocks)
    assert plan.embedding == plan.head == "seed8"
    assert_agree(bench, bench.score([plan])[plan], model)


def test_a_tied_head_is_spared_where_only_the_embedding_is_rounded() -> None:
    bench = make_bench("llama-tied")
    n = bench.decoder.n_blocks
    plans = [
        Plan(("fp",) * n, embedding=a, head=b)
        for a in ("fp", "rtn2-tensor")
        for b in ("fp", "rtn2-tensor")
    ]
    leaves = bench.score(plans)
    assert len({leaf.nll_nats.tobytes() for leaf in leaves.values()}) == 4


# -- one plan, many layouts ------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["llama", "gpt2", "falcon-alibi", "gemma2", "opt-350m-like"])
@pytest.mark.parametrize(
    "layout",
    [
        replace(ROOMY, nodes=2),
        replace(ROOMY, nodes=5, chunk_rows=30),
        replace(ROOMY, nodes=64),
        replace(ROOMY, segment_rows=1),
        replace(ROOMY, segment_rows=120, nodes=3),
        replace(ROOMY, bank_bytes=1),
        replace(ROOMY, head_rows=3),
    ],
    ids=lambda x: f"nodes{x.nodes}-chunk{x.chunk_rows}-segment{x.segment_rows}-head{x.head_rows}",
)
def test_layouts_differ_in_speed_and_not_in_scores(case: str, layout: Any) -> None:
    n = shared(case).n_blocks
    plans = [*mask_plans("rtn4-channel", n, range(2**n)), *some_plans(n)]
    wanted, bench = make_bench(case).score(plans), make_bench(case, layout)
    if layout.segment_rows < 10**6:
        assert len(bench.engine.segments) > 1
    found = bench.score(plans)
    assert found.keys() == wanted.keys() == set(plans)
    per_token = bench.tokens
    for plan in plans:
        for mine, theirs in (
            (found[plan].nll_nats, wanted[plan].nll_nats),
            (found[plan].kl_nats, wanted[plan].kl_nats),
        ):
            assert (np.abs(mine - theirs) / per_token).max() < 1e-5


def test_more_plans_than_fit_a_batch_are_each_scored_once_in_segments() -> None:
    plans = [
        Plan((a, b, c))
        for a in ("fp", "rtn2-tensor", "rtn3-tensor", "rtn4-tensor")
        for b in ("fp", "rtn2-tensor", "rtn3-tensor", "rtn4-tensor", "rtn5-tensor")
        for c in ("fp", "rtn2-tensor", "rtn3-tensor", "rtn4-tensor")
    ]
    assert len(plans) > 64
    found = make_bench("llama", replace(ROOMY, segment_rows=1)).score(plans)
    wanted = make_bench("llama").score(plans)
    assert found.keys() == wanted.keys()
    # Per-sentence sums are formed token by token, so pieces of the text give the very same bits.
    assert all((found[p].nll_nats == wanted[p].nll_nats).all() for p in plans)


def test_what_else_was_asked_for_does_not_touch_a_plans_bits() -> None:
    n = shared("llama").n_blocks
    plans = list(mask_plans("rtn4-channel", n, range(2**n)))
    together = make_bench("llama").score(plans)
    for plan in plans:
        alone = make_bench("llama").score([plan])[plan]
        assert (alone.nll_nats == together[plan].nll_nats).all()
        assert (alone.kl_nats == together[plan].kl_nats).all()


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("segment_rows", [10**6, 1])
def test_what_was_known_before_does_not_touch_the_bits_of_the_rest(
    nodes: int, segment_rows: int
) -> None:
    layout = replace(ROOMY, nodes=nodes, segment_rows=segment_rows)
    n = shared("llama").n_blocks
    plans = list(mask_plans("rtn4-channel", n, range(2**n)))
    whole = make_bench("llama", layout).score(plans)
    for seed in range(4):
        draw = np.random.default_rng(seed)
        have = {plan for plan in plans if draw.random() < 0.6}
        rest = make_bench("llama", layout).score(plans, known=have.__contains__)
        assert rest.keys() == set(plans) - have, "what is known is never emitted again"
        for plan, leaf in rest.items():
            assert (leaf.nll_nats == whole[plan].nll_nats).all()
            assert (leaf.kl_nats == whole[plan].kl_nats).all()


def test_the_work_told_to_the_caller_is_the_trees() -> None:
    bench = make_bench("llama")
    n = bench.decoder.n_blocks
    rows = sum(chunk.n_rows for segment in bench.engine.segments for chunk in segment)
    told = np.zeros(2)

    def tick(blocks: int, heads: int) -> None:
        told[:] += (blocks, heads)

    bench.score(list(mask_plans("rtn4-channel", n, range(2**n))), tick=tick)
    assert told.tolist() == [(2 ** (n + 1) - 2) * rows, 2**n * rows]


def test_a_text_without_bos_is_scored_from_its_second_token() -> None:
    bench = make_bench("llama", bos=None)
    plan = Plan.uniform("rtn4-channel", 3)
    assert_agree(bench, bench.score([plan])[plan], quantized_copy(bench.decoder, plan))


def test_a_plan_for_another_number_of_blocks_is_refused_before_anything_runs() -> None:
    bench = make_bench("llama")
    emitted: list[Leaf] = []
    with pytest.raises(PlanError, match="for 4 blocks; this model has 3"):
        plans = [Plan.uniform("rtn4-g128", 3), Plan.uniform("rtn4-g128", 4)]
        bench.engine.score(plans, emitted.extend)
    assert not emitted


def test_no_plans_are_scored_as_none() -> None:
    assert make_bench("llama").score([]) == {}


# -- arithmetic and its floor ----------------------------------------------------------------------


@contextmanager
def pretending(rounds: bool) -> Iterator[None]:
    """Makes bitgap believe of the processor what the case needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bitgap.lab.engine.scoring.fast_products_round", lambda device="cpu": rounds)
        yield


def settings_of_products() -> tuple[Any, ...]:
    backends = (torch.backends.mkldnn, torch.backends.cuda)
    found = [getattr(getattr(b, "matmul", None), "fp32_precision", None) for b in backends]
    return (*found, torch.get_float32_matmul_precision())


@pytest.mark.skipif(fast_products_round(), reason="this processor has bfloat16 products")
def test_fast_is_exact_to_the_bit_where_the_processor_has_no_bfloat16() -> None:
    plans = some_plans(3)
    exact, fast = (make_bench("llama", arithmetic=kind).score(plans) for kind in ("exact", "fast"))
    for plan in plans:
        assert (exact[plan].nll_nats == fast[plan].nll_nats).all()
        assert (exact[plan].kl_nats == fast[plan].kl_nats).all()


@pytest.mark.parametrize("rounds", [False, True])
@pytest.mark.parametrize("kind", ["exact", "fast"])
def test_products_put_the_callers_settings_back(
    kind: Any, rounds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arithmetic, "fast_products_round", lambda device="cpu": rounds)
    before = settings_of_products()
    with products(kind), products("exact"):
        pass
    assert settings_of_products() == before
    with pytest.raises(KeyError), products(kind):
        raise KeyError
    assert settings_of_products() == before


def test_scoring_puts_the_callers_settings_back() -> None:
    before = settings_of_products()
    make_bench("llama", arithmetic="fast").score(some_plans(3))
    assert settings_of_products() == before


@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma2", "phi"])
def test_a_rounding_head_moves_kl_by_less_than_a_twentieth(case: str) -> None:
    plan = Plan.uniform("rtn3-channel", shared(case).n_blocks)
    exact = make_bench(case).score([plan])[plan]
    with pretending(rounds=True):
        rounded = make_bench(case, arithmetic="fast")
        assert rounded.engine.rounds
        found = rounded.score([plan])[plan]
    assert not (found.kl_nats == exact.kl_nats).all(), "the head must have rounded"
    assert found.kl_nats.sum() == pytest.approx(exact.kl_nats.sum(), rel=0.05)


@pytest.mark.parametrize("case", ["llama", "gpt2", "bloom", "phi", "gemma2"])
def test_the_floor_is_tiny_in_exact_arithmetic_and_grows_with_rounding(case: str) -> None:
    bench = make_bench(case)
    shape = bench.text.counts.tokens.shape
    exact = measure_floor(bench.engine, *shape)
    assert 0 < exact < 1e-5
    with pretending(rounds=True):
        rounded = measure_floor(make_bench(case, arithmetic="fast").engine, *shape)
    assert rounded > 3 * exact


def test_layouts_stay_within_ten_floors_of_each_other() -> None:
    plan = Plan.uniform("rtn4-channel", 3)
    corpus = write_corpus(6)
    bench = make_bench("llama", corpus=corpus)
    floor = measure_floor(bench.engine, *bench.text.counts.tokens.shape)
    a = bench.score([plan])[plan].kl_nats
    b = make_bench("llama", replace(ROOMY, chunk_rows=25), corpus=corpus).score([plan])[plan]
    per_language = np.abs(a - b.kl_nats).reshape(2, -1).sum(1) / bench.tokens.reshape(2, -1).sum(1)
    assert per_language.max() < 10 * floor
