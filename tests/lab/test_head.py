from __future__ import annotations

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
@pytest.mark.parametrize("rows", [8, 64])
def test_nll_and_kl_are_those_of_the_distributions(
    name: str, softcap: float | None, bias: bool, rows: int
) -> None:
    heads, hidden, tokens = draw(bias, softcap, 0.5)
    buffer = torch.empty(rows, V)
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
def test_logits_beyond_the_range_of_exp_are_scored_all_the_same(name: str) -> None:
    heads, hidden, tokens = draw(True, None, 200.0)
    buffer = torch.empty(8, V)
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
def test_log_sum_exp_holds_where_the_sum_leaves_float32(shift: float) -> None:
    heads, hidden, _ = draw(True, None, 0.5)
    bias = heads["fp"].bias
    assert bias is not None
    head = Head.prepared(heads["fp"].weight, bias + shift, None, False)
    found = log_sum_exp(head, hidden, torch.empty(8, V))
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
