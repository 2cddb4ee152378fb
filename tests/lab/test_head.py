from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bitgap.lab.engine.head import Head, log_sum_exp, make_target, score_tokens
from bitgap.quant.rounding import round_weight

T, D, V, N = 23, 16, 97, 3


def direct(weight: Tensor, head: Head, hidden: Tensor) -> Tensor:
    """Log-probabilities in float64."""
    z = hidden.double() @ weight.double().T
    if head.bias is not None:
        z = z + head.bias.double()
    if head.softcap is not None:
        z = torch.tanh(z / head.softcap) * head.softcap
    return torch.log_softmax(z, -1)


def draw(bias: bool, softcap: float | None, scale: float) -> tuple[dict[str, Head], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(V, D, generator=generator) * scale
    offset = torch.randn(V, generator=generator) if bias else None
    hidden = torch.randn(T, D, generator=generator)
    rounded = round_weight(weight, "rtn4-channel", stream="head")
    heads = {
        "fp": Head.prepared(weight, offset, softcap, False),
        "rtn4-channel": Head.prepared(rounded, offset, softcap, False),
    }
    return heads, hidden, torch.randint(V, (T,), generator=generator)


@pytest.mark.parametrize("name", ["fp", "rtn4-channel"])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(8, V), (64, V), (7, 10), (64, 32), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nll_and_kl_are_those_of_the_distributions(
    name: str, softcap: float | None, bias: bool, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    heads, hidden, tokens = draw(bias, softcap, 0.5)
    # A head is cast tile by tile, so that one kept in fewer bits has the very same numbers.
    heads = {name: replace(h, weight=h.weight.to(dtype)) for name, h in heads.items()}
    buffer = torch.empty(*shape)
    target = make_target(heads, hidden, tokens, buffer)
    moved = hidden + 0.3 * torch.randn(N, T, D, generator=torch.Generator().manual_seed(4))
    nll, kl = score_tokens(heads, name, moved, target, buffer)
    full = direct(heads["fp"].weight, heads["fp"], hidden)
    mine = direct(heads[name].weight, heads[name], moved)
    chosen = tokens[None, :, None].expand(N, T, 1)
    assert torch.allclose(nll.double(), -mine.gather(-1, chosen)[..., 0], atol=1e-5, rtol=0)
    assert torch.allclose(kl.double(), (full.exp() * (full - mine)).sum(-1), atol=1e-5, rtol=0)
    own = -full.gather(-1, tokens[:, None])[:, 0]
    assert torch.allclose(target.nll.double(), own, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["fp", "rtn4-channel"])
@pytest.mark.parametrize("width", [V, 10])
def test_logits_beyond_the_range_of_exp_are_scored_all_the_same(name: str, width: int) -> None:
    heads, hidden, tokens = draw(True, None, 200.0)
    buffer = torch.empty(8, width)
    z = heads["fp"].logits(hidden, torch.empty(T, V))
    assert torch.isinf(z.exp().sum(-1)).any(), "the case must overflow"
    target = make_target(heads, hidden, tokens, buffer)
    moved = hidden[None] + 0.01
    nll, kl = score_tokens(heads, name, moved, target, buffer)
    full = direct(heads["fp"].weight, heads["fp"], hidden)
    mine = direct(heads[name].weight, heads[name], moved[0])
    # Logits of some thousands leave float32 about 1e-3 of absolute precision.
    scale = float(z.abs().max())
    wanted = -mine.gather(-1, tokens[:, None])[:, 0]
    assert torch.allclose(nll[0].double(), wanted, atol=2e-6 * scale, rtol=0)
    wanted = (full.exp() * (full - mine)).sum(-1)
    assert torch.allclose(kl[0].double(), wanted, atol=2e-6 * scale, rtol=0)


@pytest.mark.parametrize("shift", [-200.0, -60.0, 0.0, 60.0, 200.0])
@pytest.mark.parametrize("width", [V, 10])
def test_log_sum_exp_holds_where_the_sum_leaves_float32(shift: float, width: int) -> None:
    heads, hidden, _ = draw(True, None, 0.5)
    bias = heads["fp"].bias
    assert bias is not None
    head = Head.prepared(heads["fp"].weight, bias + shift, None, False)
    found = log_sum_exp(head, hidden, torch.empty(8, width))
    wanted = torch.logsumexp(hidden.double() @ head.weight.double().T + (bias + shift).double(), -1)
    assert torch.allclose(found.double(), wanted, atol=3e-5, rtol=0)


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("bias", [False, True])
def test_kl_of_full_precision_to_itself_is_nothing(bias: bool, softcap: float | None) -> None:
    heads, hidden, tokens = draw(bias, softcap, 0.5)
    buffer = torch.empty(8, V)
    target = make_target(heads, hidden, tokens, buffer)
    nll, kl = score_tokens(heads, "fp", hidden[None], target, buffer)
    assert float(kl.abs().max()) < 2e-6
    assert torch.allclose(nll[0], target.nll, atol=2e-6, rtol=0)


def test_a_tile_too_large_for_float32_is_summed_beside_ones_that_are_not() -> None:
    """Logits of which the first tile overflows, the second vanishes and the third is plain."""
    heads, hidden, _ = draw(True, None, 0.5)
    bias = torch.zeros(V)
    bias[:30], bias[30:60] = 120.0, -120.0
    head = Head.prepared(heads["fp"].weight, bias, None, False)
    found = log_sum_exp(head, hidden, torch.empty(8, 30))
    wanted = torch.logsumexp(hidden.double() @ head.weight.double().T + bias.double(), -1)
    assert torch.allclose(found, wanted, atol=3e-5, rtol=0)


def test_what_is_scratch_holds_no_row_of_the_vocabulary() -> None:
    heads, hidden, tokens = draw(False, None, 0.5)
    whole, tiled = torch.empty(64, V), torch.empty(4, 8)
    for a, b in zip(
        score_tokens(
            heads, "fp", hidden[None] + 0.1, make_target(heads, hidden, tokens, whole), whole
        ),
        score_tokens(
            heads, "fp", hidden[None] + 0.1, make_target(heads, hidden, tokens, tiled), tiled
        ),
        strict=True,
    ):
        assert float((a - b).abs().max()) < 1e-6


def test_small_kl_keeps_its_digits() -> None:
    heads, hidden, tokens = draw(False, None, 0.5)
    buffer = torch.empty(64, V)
    target = make_target(heads, hidden, tokens, buffer)
    moved = hidden + 0.02 * torch.randn(N, T, D, generator=torch.Generator().manual_seed(5))
    kl = score_tokens(heads, "fp", moved, target, buffer)[1].double()
    full, mine = (direct(heads["fp"].weight, heads["fp"], h) for h in (hidden, moved))
    wanted = (full.exp() * (full - mine)).sum(-1)
    assert float(wanted.mean()) < 2e-3
    assert float(kl.sum()) == pytest.approx(float(wanted.sum()), rel=1e-3)
