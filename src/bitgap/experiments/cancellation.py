"""P3: rounding errors that cancel, planted in the first and the last block.

Rounded block 0 adds one vector δ to every state, and the rounded last block adds −δ. Alone each
does harm, together little; so protecting the last block costs where block 0 is rounded and pays
where it is protected: the largest interaction of the two there can be, and a large error that only
protecting block 0 takes away. The error sits in weights, so plans carry it like any other variant:
ΔW = δ uᵀ in the last linear that writes to the state, where u is the ridge solution of X u = 1 over
that linear's inputs X. Source: method, section 2 (P3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bitgap.errors import UnsupportedArchitecture
from bitgap.quant.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from bitgap.lab.lab import Lab

# Of the mean squared input: enough that u stays small where inputs hardly vary.
_RIDGE = 1e-3


def plant_cancellation(lab: Lab, scheme: str, *, strength: float, seed: int) -> str:
    """Adds to the lab's bank the rounded first and last blocks with ±δ, and returns their name.

    Args:
        lab: Its bank keeps the variants as long as it lives; give a lab of its own.
        scheme: How the blocks are rounded beside.
        strength: Root mean square of δ over that of the states after block 0.
        seed: Of the direction of δ, Gaussian.

    Raises:
        UnsupportedArchitecture: If a block has no linear that writes to the state.
    """
    import torch

    ends = (0, lab.n_blocks - 1)
    names = {block: _writer(lab, block) for block in ends}
    inputs, size = _inputs_and_size(lab, names)
    generator = torch.Generator().manual_seed(seed)
    delta = strength * size * torch.randn(lab.decoder.width, generator=generator)
    weights: dict[int, dict[str, Tensor]] = {}
    for block, sign in zip(ends, (1.0, -1.0), strict=True):
        rounded = dict(lab.bank.rounded_linears(block, scheme))
        old, reader = rounded[names[block]], _reader_of_one(inputs[block])
        change = sign * torch.outer(delta.to(reader), reader)
        rounded[names[block]] = old + change.to(old)
        weights[block] = rounded
    return lab.bank.add("cancelling", weights)


def cancelling_plan(scheme: str, variant: str, n_blocks: int, protect: tuple[int, ...]) -> Plan:
    """Returns the plan whose unprotected ends are the planted variant."""
    ends = (0, n_blocks - 1)
    return Plan(
        tuple("fp" if i in protect else variant if i in ends else scheme for i in range(n_blocks))
    )


def _writer(lab: Lab, block: int) -> str:
    """Returns the block's last linear whose outputs are as wide as the state."""
    views = lab.decoder.block_linears(block)
    writers = [name for name, view in views.items() if len(view.get()) == lab.decoder.width]
    if not writers:
        raise UnsupportedArchitecture(
            f"an error was to be planted in block {block}; none of {', '.join(views)} has outputs "
            f"as wide as the state, {lab.decoder.width}"
        )
    return writers[-1]


def _inputs_and_size(lab: Lab, names: dict[int, str]) -> tuple[dict[int, Tensor], float]:
    """Returns each linear's inputs on real tokens (T x in), and the rms of states after block 0."""
    import torch

    from bitgap.lab.activations import stream

    caught: dict[int, Tensor] = {}

    def keep(block: int) -> Any:
        def hook(_module: Any, args: Any) -> None:
            caught[block] = args[0].detach()

        return hook

    hooks = [
        lab.decoder.block_linears(block)[name].module.register_forward_pre_hook(keep(block))
        for block, name in names.items()
    ]
    inputs: dict[int, list[Tensor]] = {block: [] for block in names}
    power, n = 0.0, 0
    try:
        for part in stream(lab, [Plan.uniform("fp", lab.n_blocks)]):
            if part.depth in caught:
                given = caught.pop(part.depth)
                # Some blocks flatten batch and time before a linear.
                inputs[part.depth].append(given.reshape(-1, given.shape[-1])[part.real.reshape(-1)])
            if part.depth == 0:
                states = part.states[0][part.real].double()
                power, n = power + float(states.square().sum()), n + states.numel()
    finally:
        for hook in hooks:
            hook.remove()
    return {block: torch.cat(parts) for block, parts in inputs.items()}, (power / n) ** 0.5


def _reader_of_one(inputs: Tensor) -> Tensor:
    """Returns u, (in), that minimises ‖X u − 1‖² + λ‖u‖², by way of the smaller Gram matrix."""
    import torch

    x = inputs.double()
    n, width = x.shape
    small = x.T @ x if width < n else x @ x.T
    ridge = _RIDGE * small.diagonal().sum() / width
    small = small + ridge * torch.eye(len(small), dtype=small.dtype, device=small.device)
    if width < n:
        return torch.linalg.solve(small, x.sum(0))
    return x.T @ torch.linalg.solve(small, torch.ones(n, dtype=x.dtype, device=x.device))
