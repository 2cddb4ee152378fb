"""What a checkpoint really holds: tensor by tensor, beside what it says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bitgap.formats.checkpoint import Checkpoint, Unit

_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.([0-9]+)\.")


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
