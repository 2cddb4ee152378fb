from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny_models import shared
from torch import Tensor, nn

from bitgap.models.fused import FusedLinear, can_fuse, fuse
from bitgap.models.weights import cast_linears
from bitgap.quant.bank import Bank

pytestmark = pytest.mark.skipif(
    not can_fuse(), reason="this torch has no fused linear on this processor"
)


class Block(nn.Module):
    """A toy block whose inner state goes through a tanh GELU, and perhaps somewhere else too."""

    def __init__(self, *, twice: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.act, self._twice = nn.GELU(approximate="tanh"), twice

    def forward(self, x: Tensor) -> Tensor:
        inner = self.up(x)
        return self.down(self.act(inner) + (inner if self._twice else 0))


def runner(x: Tensor) -> Callable[[nn.Module], Tensor]:
    def run(block: nn.Module) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return block(x)

    return run


def fused_names(block: nn.Module) -> dict[str, str]:
    return {n: m._activation for n, m in block.named_modules() if isinstance(m, FusedLinear)}


def toy(**options: bool) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    block = Block(**options)
    cast_linears(block, torch.bfloat16)
    return block, runner(torch.randn(5, 8, generator=torch.Generator().manual_seed(1)))


def test_an_activation_goes_into_the_linear_before_it() -> None:
    block, run = toy()
    before = run(block)
    fuse(block, run)
    assert fused_names(block) == {"up": "gelu", "down": "none"}
    assert isinstance(block.get_submodule("act"), nn.Identity)
    assert (run(block) - before).norm() < 0.01 * before.norm()


def test_an_activation_stays_where_its_input_is_used_again() -> None:
    block, run = toy(twice=True)
    before = run(block)
    fuse(block, run)
    assert fused_names(block) == {"up": "none", "down": "none"}
    assert isinstance(block.get_submodule("act"), nn.GELU)
    assert (run(block) - before).norm() < 0.01 * before.norm()


@pytest.mark.parametrize(
    ("case", "activated"),
    [("gpt2", {"mlp.c_fc"}), ("gemma3", {"mlp.gate_proj"}), ("llama", set()), ("bloom", set())],
)
def test_blocks_of_real_families_compute_what_they_did(case: str, activated: set[str]) -> None:
    decoder = shared(case)
    ids = torch.arange(24).view(2, 12) % decoder.vocabulary
    state, context = decoder.embed(ids), decoder.context_for(2, 12)
    fast = Bank(decoder, product_dtype=torch.bfloat16)
    own = {name: value.clone() for name, value in decoder.blocks[1].named_parameters()}
    for scheme in ("fp", "rtn4-channel"):
        block = fast.block(1, scheme)
        names = fused_names(block)
        assert names.keys() == decoder.block_linears(1).keys()
        assert {name for name, bent in names.items() if bent == "gelu"} == activated
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            mine = decoder.run_block(1, state, context, block) - state
        with torch.no_grad():
            exact = decoder.run_block(1, state, context, Bank(decoder).block(1, scheme)) - state
        assert (mine - exact).norm() < 0.02 * exact.norm()
    for name, value in decoder.blocks[1].named_parameters():
        assert torch.equal(value, own[name]), "the model itself must stay as it is"
