from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from lab_samples import make_bench, quantized_copy, score_by_hand
from tiny_models import assert_untouched, build, draw, shared, state
from torch import Tensor

from bitgap.errors import PlanError, SchemeError
from bitgap.models.decoder import Decoder
from bitgap.quant.bank import Bank
from bitgap.quant.plan import Plan
from bitgap.quant.rounding import round_weight
from bitgap.quant.variants import parse_variant

RTN = "rtn4-channel"


def weights_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@pytest.mark.parametrize("case", ["llama", "gpt2", "falcon", "gemma3", "bloom"])
def test_a_variant_shares_every_tensor_but_the_rounded_ones(case: str) -> None:
    decoder = shared(case)
    variant, own = weights_of(Bank(decoder).block(1, RTN)), weights_of(decoder.blocks[1])
    rounded = {f"{name}.weight" for name in decoder.block_linears(1)}
    assert variant.keys() == own.keys() and rounded
    for name in own:
        assert (variant[name].data_ptr() != own[name].data_ptr()) == (name in rounded)


def test_linears_are_rounded_as_out_by_in_however_they_are_stored() -> None:
    decoder = shared("gpt2")
    block = Bank(decoder).block(0, RTN)
    for name, view in decoder.block_linears(0).items():
        wanted = round_weight(view.get(), RTN, stream=f"0.{name}")
        assert torch.equal(block.get_parameter(f"{name}.weight").T, wanted)
        assert not torch.equal(wanted, view.get())


def test_full_precision_is_the_models_own_modules() -> None:
    decoder = shared("llama")
    bank = Bank(decoder)
    assert bank.block(2, "fp") is decoder.blocks[2]
    assert bank.head("fp") is decoder.tail.weight
    assert bank.embedding("fp") == {}


def test_a_variant_is_made_once() -> None:
    bank = Bank(shared("llama"))
    assert bank.block(0, RTN) is bank.block(0, RTN)
    assert bank.head(RTN) is bank.head(RTN)
    assert bank.embedding(RTN) is bank.embedding(RTN)


@pytest.mark.parametrize("scheme", [RTN, "seed4", "noise0.1-s3", "stoch3-channel-s1"])
def test_a_variant_that_was_forgotten_comes_back_to_the_bit(scheme: str) -> None:
    bank = Bank(shared("llama"), limit_bytes=1)
    first = bank.block(0, scheme)
    before = {name: tensor.clone() for name, tensor in weights_of(first).items()}
    bank.block(1, scheme)
    again = bank.block(0, scheme)
    assert again is not first
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(again).items())


def test_the_bank_keeps_to_its_limit_and_forgets_what_was_used_longest_ago() -> None:
    decoder = shared("llama")
    one = sum(v.get().numel() * 4 for v in decoder.block_linears(0).values())
    bank = Bank(decoder, limit_bytes=2 * one)
    first, second = bank.block(0, RTN), bank.block(1, RTN)
    bank.block(0, RTN)
    bank.block(2, RTN)
    assert bank._held_bytes <= 2 * one
    assert bank.block(0, RTN) is first
    assert bank.block(1, RTN) is not second


def test_what_is_forgotten_makes_room_before_another_variant_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder = shared("llama")
    one = sum(v.get().numel() * 4 for v in decoder.block_linears(0).values())
    bank, make, beside = Bank(decoder, limit_bytes=2 * one), Bank._make_block, []
    monkeypatch.setattr(
        Bank, "_make_block", lambda self, *of: beside.append(self._held_bytes) or make(self, *of)
    )
    for index in (0, 1, 2):
        bank.block(index, RTN)
    assert beside == [0, one, one] and bank._held_bytes == 2 * one


def test_own_weights_are_used_and_named_by_what_they_hold() -> None:
    bench = make_bench("llama")
    rounded = {
        i: {
            n: round_weight(v.get(), "rtn3-tensor", stream="")
            for n, v in bench.decoder.block_linears(i).items()
        }
        for i in (0, 2)
    }
    name = bench.bank.add("gptq", rounded)
    assert name.startswith("own:gptq:")
    mine, theirs = Plan((name, "fp", name)), Plan(("rtn3-tensor", "fp", "rtn3-tensor"))
    assert Plan.parse(mine.text, 3) == mine
    leaves = bench.score([mine, theirs])
    assert (leaves[mine].nll_nats == leaves[theirs].nll_nats).all()
    assert (leaves[mine].kl_nats == leaves[theirs].kl_nats).all()


def test_own_weights_get_one_name_for_the_same_numbers_and_another_for_others() -> None:
    decoder = shared("gpt2")
    weights = {0: {n: v.get().clone() for n, v in decoder.block_linears(0).items()}}
    name = Bank(decoder).add("awq", weights)
    assert Bank(decoder).add("awq", weights) == name
    next(iter(weights[0].values()))[0, 0] += 1
    assert Bank(decoder).add("awq", weights) != name


def test_a_name_no_plan_could_carry_is_refused_when_it_is_added() -> None:
    decoder = shared("llama")
    with pytest.raises(SchemeError):
        Bank(decoder).add("my weights", {0: decoder_weights(decoder)})


def decoder_weights(decoder: Decoder) -> dict[str, Tensor]:
    return {name: view.get() for name, view in decoder.block_linears(0).items()}


def test_a_plan_with_own_weights_that_were_never_added_is_refused_by_the_check() -> None:
    bank = Bank(shared("llama"))
    with pytest.raises(PlanError, match=r"block 1 has no variant 'own:x:0123456789ab'.*add"):
        bank.check(Plan(("fp", "own:x:0123456789ab", "fp")))


def test_the_embedding_and_the_head_of_a_tied_model_are_rounded_apart() -> None:
    decoder = shared("gpt2")
    bank = Bank(decoder)
    replaced = bank.embedding(RTN)
    assert list(replaced) == ["wte.weight"], "positions are no token table"
    assert not torch.equal(bank.head(RTN), decoder.tail.weight)
    assert list(bank.embedding("seed4")) == ["wte.weight", "wpe.weight"]


@pytest.mark.parametrize("case", ["llama-tied", "gpt2", "falcon-new"])
def test_scoring_leaves_the_model_as_it_was_to_the_bit(case: str) -> None:
    model = build(case)
    modules, before = list(model.modules()), state(model)
    bench = make_bench(Decoder.from_model(model))
    n = bench.decoder.n_blocks
    bench.score([Plan.uniform(s, n) for s in ("seed4", RTN, "noise0.1-s1")])
    assert_untouched(model, before, modules)


def test_noise_is_drawn_for_each_matrix_and_is_the_same_by_hand() -> None:
    bench = make_bench("llama")
    plan = Plan.uniform("noise0.05-s3", 3)
    leaf = bench.score([plan])[plan]
    nll, _ = score_by_hand(bench, quantized_copy(bench.decoder, plan))
    assert abs(leaf.nll_nats - nll).max() < 1e-4 * bench.tokens.max()


def test_a_variant_may_change_other_parameters_and_can_be_dropped():
    decoder = shared("gpt2")
    bank = Bank(decoder)
    linears = bank.rounded_linears(0, "rtn4-g32")
    bias = decoder.blocks[0].get_parameter("mlp.c_fc.bias")
    name = bank.add("moved", {0: linears}, {0: {"mlp.c_fc.bias": bias + 1}})
    assert name != bank.add("moved", {0: linears})
    assert torch.equal(bank.block(0, name).get_parameter("mlp.c_fc.bias"), bias + 1)
    assert torch.equal(decoder.blocks[0].get_parameter("mlp.c_fc.bias"), bias)
    bank.drop(name)
    with pytest.raises(PlanError):
        bank.check(Plan((name, "fp", "fp")))
    bank.drop(name)


# -- single matrices -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["llama", "gpt2", "falcon", "gemma3", "bloom"])
def test_a_unit_is_rounded_as_in_its_whole_block_and_everything_else_is_shared(case: str) -> None:
    decoder = shared(case)
    bank, own = Bank(decoder), weights_of(decoder.blocks[1])
    whole = weights_of(bank.block(1, RTN))
    for name in decoder.block_linears(1):
        variant = weights_of(bank.block(1, f"fp/{RTN}@{name}"))
        for key in own:
            if key == f"{name}.weight":
                assert torch.equal(variant[key], whole[key])
            else:
                assert variant[key].data_ptr() == own[key].data_ptr()


@pytest.mark.parametrize("case", ["llama", "gpt2"])
def test_every_unit_told_is_the_block_under_one_scheme(case: str) -> None:
    decoder = shared(case)
    units = "".join(f"/{RTN}@{name}" for name in decoder.block_linears(1))
    bank = Bank(decoder)
    one, other = bank.block(1, f"fp{units}"), bank.block(1, RTN)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_units_are_scored_as_the_model_with_those_matrices() -> None:
    bench = make_bench("llama")
    names = list(bench.decoder.block_linears(0))
    plan = Plan.parse(f"rtn3-tensor protect 0 units {names[0]}=rtn4-channel,1.{names[-1]}=fp", 3)
    by_hand = copy.deepcopy(bench.decoder.model)
    copied = Decoder.from_model(by_hand)
    for i, variant in enumerate(plan.blocks):
        for name, weight in bench.bank.rounded_linears(i, variant).items():
            copied.block_linears(i)[name].set_on(copied.blocks[i], weight)
    schemes = [parse_variant(v).of(n) for v in plan.blocks for n in (names[0], names[-1])]
    assert schemes == ["rtn4-channel", "fp", "rtn4-channel", "fp", "rtn4-channel", "rtn3-tensor"]
    ids = torch.randint(0, 50, (2, 6), generator=torch.Generator().manual_seed(1))
    state, context = bench.decoder.embed(ids), bench.decoder.context_for(2, 6)
    for i, variant in enumerate(plan.blocks):
        module = bench.bank.block(i, variant)
        state = bench.decoder.run_block(i, state, context, module)
    with torch.no_grad():
        wanted = by_hand(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(bench.decoder.tail.logits(state), wanted)


def test_own_weights_may_be_of_single_matrices() -> None:
    bench = make_bench("llama")
    names = list(bench.decoder.block_linears(1))
    halved = {names[2]: bench.decoder.block_linears(1)[names[2]].get() / 2}
    own = bench.bank.add("halved", {1: halved})
    linears = bench.bank.rounded_linears(1, f"{RTN}/{own}@{names[2]}")
    assert torch.equal(linears[names[2]], halved[names[2]])
    assert not torch.equal(linears[names[0]], bench.decoder.block_linears(1)[names[0]].get())
    with pytest.raises(PlanError, match=f"matrix {names[0]} of block 1 has no variant"):
        bench.bank.check(Plan(("fp", f"fp/{own}@{names[0]}", "fp")))
    with pytest.raises(PlanError, match="of block 0 has no variant"):
        bench.bank.check(Plan((f"fp/{own}@{names[2]}", "fp", "fp")))


def test_a_matrix_that_is_not_there_is_refused_before_anything_is_run() -> None:
    bank = Bank(shared("gpt2"))
    n = shared("gpt2").n_blocks
    with pytest.raises(
        PlanError, match=r"block 0 has no matrix 'mlp.down_proj'; it has .*mlp.c_fc"
    ):
        bank.check(Plan.parse("rtn4-channel units mlp.down_proj=fp", n))


def test_weights_that_are_read_when_a_block_is_made_are_those_that_are_held() -> None:
    decoder = shared("llama")
    weights = {
        i: {n: round_weight(v.get(), "rtn3-tensor", stream="") for n, v in views.items()}
        for i, views in ((i, decoder.block_linears(i)) for i in range(decoder.n_blocks))
    }
    read = list[tuple[int, str]]()

    def reader(i: int, name: str) -> Tensor:
        read.append((i, name))
        return weights[i][name].clone()

    lazy = {i: {n: partial(reader, i, n) for n in of} for i, of in weights.items()}
    held, bank = Bank(decoder), Bank(decoder, limit_bytes=1)
    name = bank.add("file", lazy)
    assert name == held.add("file", weights), "the digest is of numbers, however they are given"
    assert len(read) == sum(map(len, weights.values()))
    read.clear()
    for i in (1, 0, 1):
        mine, theirs = weights_of(bank.block(i, name)), weights_of(held.block(i, name))
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    assert [i for i, _ in read] == [i for i in (1, 0, 1) for _ in weights[i]]


@pytest.mark.parametrize("case", ["gpt2", "llama"])
def test_a_table_that_serves_both_ends_is_rounded_once(case: str) -> None:
    decoder = shared(case)
    bank = Bank(decoder)
    plan = Plan(("fp",) * decoder.n_blocks, embedding=RTN, head=RTN)
    table = bank.embedding(RTN)[decoder.token_embedding_names[0]]
    tied = case == "gpt2"
    assert (bank.head(RTN) is table) == tied
    assert torch.equal(bank.head(RTN), round_weight(decoder.tail.weight, RTN, stream="head"))
    assert bank.end_bytes([plan]) == 4 * table.numel() * (1 if tied else 2)
    noise = bank.embedding("noise0.1-s3")[decoder.token_embedding_names[0]]
    assert not torch.equal(bank.head("noise0.1-s3"), noise), "random draws differ by name"


def test_what_was_made_in_inference_mode_can_be_differentiated() -> None:
    decoder = Decoder.from_model(build("llama"))
    bank = Bank(decoder)
    with torch.inference_mode():
        module = bank.block(1, "rtn4-channel")
    state = decoder.embed(draw(2, 7)).detach().requires_grad_()
    out = decoder.run_block(1, state, decoder.context_for(2, 7), module)
    (gradient,) = torch.autograd.grad(out.square().sum(), state)
    assert gradient.abs().max() > 0
