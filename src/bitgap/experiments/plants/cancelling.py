"""P3: rounding errors that cancel, planted in the first and the last block.

Rounded block 0 adds one vector δ to every state, and the rounded last block adds −δ. Alone each
does harm, together little; so protecting the last block costs where block 0 is rounded and pays
where it is protected: the largest interaction of the two there can be, and a large error that only
protecting block 0 takes away. The error sits in weights, so plans carry it like any other variant:
ΔW = δ uᵀ in the last linear that writes to the state, where u is the ridge solution of X u = 1 over
that linear's inputs X. Source: method, section 2 (P3). How large δ is, the judged statistic says
(:mod:`.strength`): it is to come out at twice its smallest effect of interest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.plants.strength import strengths_for
from bitgap.experiments.protocol.twins import kl_of
from bitgap.lab.activations import stream
from bitgap.lab.engine.text import Chunk
from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan
from bitgap.records import Floats

# Of the mean squared input: enough that u stays small where inputs hardly vary.
_RIDGE = 1e-3


@dataclass(frozen=True, slots=True)
class Writers:
    """Where an error can be planted in a lab; the same for every direction of it.

    Attributes:
        names: The first and the last block's linear that writes to the state.
        readers: u of each, (in), which makes the error the same for every token.
        size: Root mean square of the states after block 0.
    """

    names: Mapping[int, str]
    readers: Mapping[int, Tensor]
    size: float


def find_writers(lab: Lab) -> Writers:
    """Returns where to plant, by one pass over the lab's text.

    Raises:
        UnsupportedArchitecture: If a block has no linear that writes to the state.
    """
    names = {block: state_writer(lab, block) for block in (0, lab.n_blocks - 1)}
    inputs, sizes = inputs_and_sizes(lab, names)
    readers = {block: reader_of(x, torch.ones(len(x))) for block, x in inputs.items()}
    return Writers(names, readers, sizes[0])


def plant_cancellation(lab: Lab, scheme: str, *, strength: float, seed: int) -> str:
    """Adds to the lab's bank the rounded first and last blocks with ±δ, and returns their name.

    Args:
        lab: Its bank holds the variants until they are dropped.
        scheme: How the blocks are rounded beside.
        strength: Root mean square of δ over that of the states after block 0; below 0 both blocks
            add the same δ, so that their errors add up.
        seed: Of the direction of δ, Gaussian.

    Raises:
        UnsupportedArchitecture: If a block has no linear that writes to the state.
    """
    writers = lab.once("writers", lambda: find_writers(lab))
    generator = torch.Generator().manual_seed(seed)
    delta = abs(strength) * writers.size * torch.randn(lab.decoder.width, generator=generator)
    weights: dict[int, dict[str, Tensor]] = {}
    for block, sign in zip(
        (0, lab.n_blocks - 1), (1.0, -1.0 if strength >= 0 else 1.0), strict=True
    ):
        rounded = dict(lab.bank.rounded_linears(block, scheme))
        name, reader = writers.names[block], writers.readers[block]
        change = sign * torch.outer(delta.to(reader), reader)
        rounded[name] = rounded[name] + change.to(rounded[name])
        weights[block] = rounded
    return lab.bank.add("cancelling", weights)


def cancelling_plan(scheme: str, variant: str, n_blocks: int, protect: tuple[int, ...]) -> Plan:
    """Returns the plan whose unprotected ends are the planted variant."""
    ends = (0, n_blocks - 1)
    return Plan(
        tuple("fp" if i in protect else variant if i in ends else scheme for i in range(n_blocks))
    )


def planted_damage(
    lab: Lab,
    scheme: str,
    sets: Sequence[tuple[int, ...]],
    statistic: Callable[[Floats], float],
    *,
    wanted: float,
    start: float,
    seeds: Sequence[int],
) -> Floats:
    """Returns damage under plantings in each of which the statistic is about what is wanted.

    Args:
        lab: Model and text.
        scheme: How blocks are rounded beside.
        sets: Protected blocks of each plan.
        statistic: What is judged, of damage in nats, (P x A x N).
        wanted: The value it is to have.
        start: Strength that the search begins with; see :func:`plant_cancellation`.
        seeds: Of the directions.

    Returns:
        (S x P x A x N), nats.

    Raises:
        UnsupportedArchitecture: If a block has no linear that writes to the state.
    """
    # Where nothing can be planted is told before anything is tried.
    lab.once("writers", lambda: find_writers(lab))
    plain = kl_of(lab, [cancelling_plan(scheme, scheme, lab.n_blocks, kept) for kept in sets])
    found: dict[tuple[int, float], Floats] = {(i, 0.0): plain for i in range(len(seeds))}

    def plant(i: int, strength: float) -> float:
        variant = plant_cancellation(lab, scheme, strength=strength, seed=seeds[i])
        plans = [cancelling_plan(scheme, variant, lab.n_blocks, kept) for kept in sets]
        found[i, strength] = kl_of(lab, plans)
        lab.bank.drop(variant)
        return statistic(found[i, strength])

    strengths = strengths_for(
        lambda trying: {i: plant(i, strength) for i, strength in trying.items()},
        len(seeds),
        without=statistic(plain),
        wanted=wanted,
        start=start,
    )
    return np.array([found[i, strength] for i, strength in enumerate(strengths)])


def state_writer(lab: Lab, block: int) -> str:
    """Returns the block's last linear whose outputs are as wide as the state."""
    views = lab.decoder.block_linears(block)
    writers = [name for name, view in views.items() if len(view.get()) == lab.decoder.width]
    if not writers:
        raise UnsupportedArchitecture(
            f"an error was to be planted in block {block}; none of {', '.join(views)} has outputs "
            f"as wide as the state, {lab.decoder.width}"
        )
    return writers[-1]


def inputs_and_sizes(
    lab: Lab, names: Mapping[int, str], chunks: Sequence[Chunk] | None = None
) -> tuple[dict[int, Tensor], dict[int, float]]:
    """Returns each linear's inputs on real tokens (T x in), and the rms of states after its block.

    Args:
        lab: Model and text.
        names: For each block, one of its linears.
        chunks: Text to run instead of the lab's own.
    """
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
    power, n = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    try:
        for part in stream(lab, [Plan.uniform("fp", lab.n_blocks)], chunks):
            if part.depth in caught:
                given = caught.pop(part.depth)
                # Some blocks flatten batch and time before a linear.
                inputs[part.depth].append(given.reshape(-1, given.shape[-1])[part.real.reshape(-1)])
                states = part.states[0][part.real].double()
                power[part.depth] += float(states.square().sum())
                n[part.depth] += states.numel()
    finally:
        for hook in hooks:
            hook.remove()
    sizes = {block: (power[block] / n[block]) ** 0.5 for block in names}
    return {block: torch.cat(parts) for block, parts in inputs.items()}, sizes


def reader_of(inputs: Tensor, wanted: Tensor) -> Tensor:
    """Returns u, (in), that minimises ‖X u − t‖² + λ‖u‖², by way of the smaller Gram matrix.

    Args:
        inputs: X, (T x in).
        wanted: t, (T).
    """
    x = inputs.double()
    target = wanted.to(x)
    n, width = x.shape
    small = x.T @ x if width < n else x @ x.T
    ridge = _RIDGE * small.diagonal().sum() / width
    small = small + ridge * torch.eye(len(small), dtype=small.dtype, device=small.device)
    if width < n:
        return torch.linalg.solve(small, x.T @ target)
    return x.T @ torch.linalg.solve(small, target)
