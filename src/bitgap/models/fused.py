"""Linears that finish their work in one step: product, bias and activation, for rounded products.

In a block of a small model the activation and the copies of biases cost as much as the products.
oneDNN does all three in one kernel, which torch offers its compiler and not its modules; here it is
called directly where it is there and found to be right, on the processor, in bfloat16.

Which activation follows which linear is not known by name: it is seen in one forward, in which the
activation is given the very tensor that the linear returned. That nothing else uses the tensor is
proved by comparing the changed block with the unchanged one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import GELUTanh, NewGELUActivation

from bitgap.models.weights import linear_views

_DTYPE = torch.bfloat16
# Outputs of some dozens of sums differ by single roundings of bfloat16; a wrong block by its whole.
_TOLERANCE = 2**-5

Run = Callable[[nn.Module], Tensor]
"""Runs a block on a sample state and returns what it adds to it, in ``fast`` arithmetic."""


class FusedLinear(nn.Module):
    """A linear with its bias and, perhaps, the activation that follows it, in one kernel."""

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str) -> None:
        """Keeps what the kernel needs.

        Args:
            weight: (out x in), bfloat16.
            bias: (out), bfloat16, or None.
            activation: ``none`` or ``gelu`` (its tanh form).
        """
        super().__init__()
        self.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self._activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Returns (... x out) in bfloat16 of (... x in)."""
        rows = x.to(_DTYPE).reshape(-1, x.shape[-1])
        out = _kernel(rows, self.weight, self.bias, self._activation)
        return out.view(*x.shape[:-1], -1)


def _kernel(rows: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    algorithm = "tanh" if activation == "gelu" else ""
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, activation, [], algorithm)


@cache
def can_fuse() -> bool:
    """Whether this torch has the kernel on this processor, and it computes what it should."""
    draw = torch.Generator().manual_seed(0)
    rows, weight = (torch.randn(5, 8, generator=draw, dtype=_DTYPE) for _ in range(2))
    bias = torch.randn(5, generator=draw, dtype=_DTYPE)
    wanted = F.linear(rows.float(), weight.float(), bias.float())
    try:
        plain = _kernel(rows, weight, bias, "none")
        bent = _kernel(rows, weight, bias, "gelu")
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return _alike(plain, wanted) and _alike(bent, F.gelu(wanted, approximate="tanh"))


def fuse(block: nn.Module, run: Run) -> nn.Module:
    """Replaces the linears of a copied block by fused ones, where that is proved to be right.

    Args:
        block: A copy whose linears are bfloat16 already. Changed and returned.
        run: Runs a block on a sample.
    """
    before = run(block)
    followers = _followers(block, run)
    linears = {name: block.get_submodule(name) for name in linear_views(block)}
    if not _try(block, linears, followers, run, before):
        _try(block, linears, {}, run, before)
    return block


def _try(
    block: nn.Module,
    linears: Mapping[str, nn.Module],
    followers: Mapping[str, str],
    run: Run,
    before: Tensor,
) -> bool:
    activations = {name: block.get_submodule(name) for name in followers.values()}
    for name, view in linear_views(block).items():
        old = linears[name]
        bias = getattr(old, "bias", None)
        activation = "gelu" if name in followers else "none"
        _put(block, name, FusedLinear(view.get(), bias, activation))
    for name in activations:
        _put(block, name, nn.Identity())
    if _alike(run(block), before):
        return True
    for name, module in {**linears, **activations}.items():
        _put(block, name, module)
    return False


def _followers(block: nn.Module, run: Run) -> dict[str, str]:
    """Returns, for linears whose result goes to a tanh GELU, the activation's name."""
    returned: dict[int, tuple[str, Tensor]] = {}
    found: dict[str, str] = {}
    hooks = []
    for name, view in linear_views(block).items():

        def keep(_m: nn.Module, _i: object, out: Tensor, name: str = name) -> None:
            # The tensor is kept too, so that its id is not given to another one.
            returned[id(out)] = name, out

        hooks.append(view.module.register_forward_hook(keep))
    for name, module in block.named_modules():
        if _is_tanh_gelu(module):

            def look(_m: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                if id(inputs[0]) in returned:
                    found[returned[id(inputs[0])][0]] = name

            hooks.append(module.register_forward_pre_hook(look))
    try:
        run(block)
    finally:
        for hook in hooks:
            hook.remove()
    # An activation that serves two linears cannot be taken out of the block for one.
    once = list(found.values())
    return {linear: name for linear, name in found.items() if once.count(name) == 1}


def _is_tanh_gelu(module: nn.Module) -> bool:
    if isinstance(module, nn.GELU):
        return module.approximate == "tanh"
    return isinstance(module, (GELUTanh, NewGELUActivation))


def _put(block: nn.Module, name: str, module: nn.Module) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(block.get_submodule(path), leaf, module)


def _alike(one: Tensor, other: Tensor) -> bool:
    error, scale = (one.float() - other.float()).norm(), other.float().norm()
    return bool(error <= _TOLERANCE * scale)
