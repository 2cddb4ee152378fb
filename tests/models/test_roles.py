from __future__ import annotations

from typing import Any

import pytest
from tiny_models import CASES, assert_untouched, build, shared, state
from torch import Tensor, nn
from transformers import MptConfig, MptForCausalLM

from bitgap.errors import UnsupportedArchitecture
from bitgap.models.decoder import Decoder
from bitgap.models.gauge import fragile_parameters
from bitgap.models.roles import gain_offset, norm_consumers, up_down_pair, value_output_pair

# -- norms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("gpt2", {"ln_1": ("attn.c_attn",), "ln_2": ("mlp.c_fc",)}),
        (
            "qwen3",
            {
                "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
            },
        ),
        (
            "gemma2",
            {
                "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                "pre_feedforward_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
            },
        ),
        ("falcon", {"input_layernorm": ("self_attention.query_key_value", "mlp.dense_h_to_4h")}),
    ],
)
def test_finds_the_linears_that_read_each_norm(case: str, expected: dict[str, Any]) -> None:
    decoder = shared(case)
    before, modules = state(decoder.model), list(decoder.model.modules())
    assert norm_consumers(decoder) == (expected,) * decoder.n_blocks
    assert_untouched(decoder.model, before, modules)


@pytest.mark.parametrize("case", ["opt-post-norm", "opt-350m-like", "bloom-untied", "olmo2"])
def test_a_norm_that_a_residual_reads_too_or_no_linear_reads_is_left_out(case: str) -> None:
    assert not any(norm_consumers(shared(case)))


def test_leaves_no_hook_on_the_model() -> None:
    decoder = shared("llama")
    norm_consumers(decoder)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in decoder.model.modules())


def test_knows_whether_a_gain_is_the_weight_or_one_more() -> None:
    assert gain_offset(shared("gpt2").blocks[0].get_submodule("ln_1")) == 0
    assert gain_offset(shared("gemma3").blocks[0].get_submodule("input_layernorm")) == 1


def test_a_gain_of_another_form_is_refused() -> None:
    class SquareNorm(nn.LayerNorm):
        def forward(self, input: Tensor) -> Tensor:
            return input * (2 + self.weight)

    with pytest.raises(UnsupportedArchitecture, match="SquareNorm"):
        gain_offset(SquareNorm(4))


# -- values and outputs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "source", "rows", "target", "columns"),
    [
        ("gpt2", "attn.c_attn", [64, 65], "attn.c_proj", [[0], [1]]),
        # Four heads of 8: q k v of head 0, then of head 1.
        ("bloom", "self_attention.query_key_value", [16, 17], "self_attention.dense", [[0], [1]]),
        # Heads 0 and 1 share the first values.
        ("llama", "self_attn.v_proj", [0, 1], "self_attn.o_proj", [[0, 8], [1, 9]]),
        ("phi3", "self_attn.qkv_proj", [48, 49], "self_attn.o_proj", [[0, 8], [1, 9]]),
        # All four heads share the only values, which are the last 8 of 48 rows.
        (
            "falcon",
            "self_attention.query_key_value",
            [40, 41],
            "self_attention.dense",
            [[0, 8, 16, 24], [1, 9, 17, 25]],
        ),
    ],
)
def test_finds_value_rows_and_the_columns_that_read_them(
    case: str, source: str, rows: list[int], target: str, columns: list[list[int]]
) -> None:
    pair = value_output_pair(shared(case), 1)
    assert pair is not None
    assert (pair.source, pair.target) == (source, target)
    assert pair.rows[:2].tolist() == rows
    assert pair.columns[:2].tolist() == columns
    n_in = shared(case).block_linears(1)[target].get().shape[1]
    assert sorted(pair.columns.ravel()) == list(range(n_in))


def test_values_that_are_clipped_or_normed_are_no_pair() -> None:
    settings = {**CASES["mpt"][1], "attn_config": {"clip_qkv": 100.0}}
    clipped = Decoder(MptForCausalLM(MptConfig(**settings)).eval())
    assert value_output_pair(clipped, 0) is None
    normed = Decoder(build("llama"))
    attention: Any = normed.blocks[0].get_submodule("self_attn")
    attention.v_proj = _Normed.of(attention.v_proj)
    assert value_output_pair(normed, 0) is None
    with pytest.raises(UnsupportedArchitecture, match="block 0 of LlamaForCausalLM"):
        fragile_parameters(normed, 0)


class _Normed(nn.Linear):
    @classmethod
    def of(cls, linear: nn.Linear) -> _Normed:
        new = cls(linear.in_features, linear.out_features, bias=False)
        new.weight = linear.weight
        return new

    def forward(self, input: Tensor) -> Tensor:
        out = super().forward(input)
        return out / out.norm(dim=-1, keepdim=True)


# -- gated MLPs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "source", "first_row"), [("llama", "mlp.up_proj", 0), ("phi3", "mlp.gate_up_proj", 48)]
)
def test_finds_the_up_rows_of_a_gated_mlp(case: str, source: str, first_row: int) -> None:
    pair = up_down_pair(shared(case), 0)
    assert pair is not None
    assert (pair.source, pair.target, pair.rows[0]) == (source, "mlp.down_proj", first_row)
    assert len(pair.rows) == 48


@pytest.mark.parametrize("case", ["gpt2", "mpt", "apertus", "opt"])
def test_an_mlp_without_a_gate_has_no_linear_pair(case: str) -> None:
    assert up_down_pair(shared(case), 0) is None
