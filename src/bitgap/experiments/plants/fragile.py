"""P1: a block made fragile to rounding, its function unchanged."""

from __future__ import annotations

from bitgap.lab.lab import Lab
from bitgap.models.gauge import fragile_parameters
from bitgap.quant.rounding import round_weight
from bitgap.quant.schemes import parse_scheme


def plant_fragile_rounding(
    lab: Lab, scheme: str, block: int, *, width: int, factor: float, seed: int
) -> str:
    """Adds to the lab's bank a rounded block whose weights were made fragile before (P1).

    In full precision the changed weights are the same function, to the bit for powers of two, so
    that reference and all other blocks are the model's own.

    Args:
        lab: Its bank holds the variant until it is dropped.
        scheme: How the block is rounded.
        block: Which.
        width: Columns of a group.
        factor: What one column a group is multiplied by.
        seed: Chooses the columns.

    Returns:
        The variant's name.

    Raises:
        UnsupportedArchitecture: If values and output are not found or not linearly related.
    """
    changed = fragile_parameters(lab.decoder, block, group=width, factor=factor, seed=seed)
    rounded = dict(lab.bank.rounded_linears(block, scheme))
    for name, view in lab.decoder.block_linears(block).items():
        stored = changed.pop(f"{name}.weight", None)
        if stored is not None:
            matrix = stored.T if view.transposed else stored
            rounded[name] = round_weight(
                matrix.contiguous(), parse_scheme(scheme), stream=f"{block}.{name}"
            )
    return lab.bank.add("fragile", {block: rounded}, {block: changed})
