"""What a checkpoint really holds: tensor by tensor, beside what it says of itself.

Records here are kept with runs and read back without torch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitgap.formats.checkpoint import Checkpoint, Unit

_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.([0-9]+)\.")


_SMALL = 0.01
"""Share of a block's weights below which a tensor is no matrix that tells a recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One tensor of a checkpoint."""

    name: str
    block: int | None
    """Number of its block; None outside the blocks."""
    stored: str
    """The type it is stored in."""
    quantized: bool
    n_weights: int
    code_bits: float
    """Bits of one code."""
    bits: float
    """Bits of the file for each weight, scales included."""
    n_bytes: int
    share: float
    """Part of the bytes of all tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a checkpoint holds, all together."""

    file: str
    """Name of the file or folder, without where it lies."""
    toolchain: str
    claim: str
    """What the checkpoint says of itself; empty if nothing."""
    tensors: tuple[Held, ...]
    bits: float
    """Average bits of the file for each weight, over all tensors."""
    block_bits: float | None
    """The same over matrices in blocks; None if there are none."""
    n_bytes: int
    """Bytes of all tensors; headers, tokenizer and padding are not counted."""

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON: this, with what :func:`places_of` makes of it."""
        tensors = [asdict(held) for held in self.tensors]
        return {
            **{name: getattr(self, name) for name in
               ("file", "toolchain", "claim", "bits", "block_bits", "n_bytes")},
            "places": [asdict(place) for place in places_of(self)],
            "tensors": tensors,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One block of a checkpoint, or what lies outside the blocks: its tensors together."""

    block: int | None
    """Number of the block; None for what is outside, a row a tensor."""
    name: str
    """``L3``, or the tensor's name."""
    types: Mapping[str, int]
    """Number of weights by the type they are stored in, most first."""
    by_unit: Mapping[str, str]
    """The type of each matrix of a block, by its name in the block; what is small, such as norms
    and biases, is left out."""
    n_bytes: int
    bits: float
    """Bits of the file for each weight, scales included."""
    share: float
    """Part of the bytes of all tensors."""


def places_of(contents: Contents) -> tuple[Place, ...]:
    """Returns a row for each tensor outside the blocks, then a row a block, in order.

    Mixed recipes show here: types that differ from block to block.
    """
    groups: dict[tuple[int | None, str], list[Held]] = {}
    for held in contents.tensors:
        name = held.name if held.block is None else f"L{held.block}"
        groups.setdefault((held.block, name), []).append(held)
    order = sorted(groups, key=lambda key: -1 if key[0] is None else key[0])
    return tuple(_place(block, name, groups[block, name]) for block, name in order)


def _place(block: int | None, name: str, held: list[Held]) -> Place:
    weights: Counter[str] = Counter()
    for one in held:
        weights[one.stored] += one.n_weights
    n_bytes = sum(one.n_bytes for one in held)
    return Place(
        block=block,
        name=name,
        types=dict(weights.most_common()),
        by_unit={
            _in_block(one.name): one.stored
            for one in held
            if block is not None and one.n_weights >= _SMALL * weights.total()
        },
        n_bytes=n_bytes,
        bits=8 * n_bytes / weights.total(),
        share=sum(one.share for one in held),
    )


def _in_block(name: str) -> str:
    return _BLOCK.split(name)[-1].removesuffix(".weight")


def contents_of(checkpoint: Checkpoint) -> Contents:
    """Returns what a checkpoint holds, from its headers alone.

    Args:
        checkpoint: As ``open_checkpoint`` gives it.
    """
    units = [(unit, True) for unit in checkpoint.units]
    units += [(unit, False) for unit in checkpoint.whole]
    total = sum(unit.n_bytes for unit, _ in units)
    inner = [u for u, _ in units if block_of(u.name) is not None and len(u.shape) > 1]
    return Contents(
        file=checkpoint.name,
        toolchain=checkpoint.toolchain,
        claim=checkpoint.claim,
        tensors=tuple(
            Held(
                name=unit.name,
                block=block_of(unit.name),
                stored=unit.stored,
                quantized=quantized,
                n_weights=unit.n_weights,
                code_bits=float(unit.code_bits),
                bits=unit.bits,
                n_bytes=unit.n_bytes,
                share=unit.n_bytes / total,
            )
            for unit, quantized in units
        ),
        bits=_bits([unit for unit, _ in units]),
        block_bits=_bits(inner) if inner else None,
        n_bytes=total,
    )


def block_of(name: str) -> int | None:
    """Returns the number of the block that a parameter belongs to, None outside the blocks.

    Example:
        >>> block_of("model.layers.3.mlp.up_proj.weight"), block_of("lm_head.weight")
        (3, None)
    """
    match = _BLOCK.search(name)
    return int(match[1]) if match else None


def _bits(units: list[Unit]) -> float:
    return 8 * sum(unit.n_bytes for unit in units) / sum(unit.n_weights for unit in units)
