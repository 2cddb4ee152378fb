"""P2 in every block: rounding errors that only some languages feel, for three of them to matter.

Each block's rounded variant adds a vector δ_l of its own to the state wherever the text is in a
language of the chosen side, and nothing elsewhere: ΔW = δ uᵀ in the block's last linear that writes
to the state, where u is the ridge solution of X u = 1 on that side's tokens and 0 on the others'. A
plan that gives the variant to three blocks and plain rounding to the rest is hurt, and biased, by
those three alone, so that protecting exactly them is best of all triples by damage and by |D|.
Source: method, section 2 (P2); the direction comes from a regression, not from an eigenproblem, as
it is to fire on one side and not merely to vary more there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bitgap.experiments.plants.cancelling import inputs_and_sizes, reader_of, state_writer
from bitgap.lab.activations import real_tokens
from bitgap.lab.lab import Lab
from bitgap.quant.plan import Plan
from bitgap.records import Bools


def plant_bias(lab: Lab, scheme: str, side: Bools, *, strength: float, seed: int) -> str:
    """Adds to the lab's bank every block rounded and biased, and returns the variant's name.

    Args:
        lab: Its bank holds the variants until they are dropped.
        scheme: How the blocks are rounded beside.
        side: Languages that feel the error, (A).
        strength: Root mean square of δ_l over that of the states after block l.
        seed: Of the directions, Gaussian.

    Raises:
        UnsupportedArchitecture: If a block has no linear that writes to the state.
    """
    names = {block: state_writer(lab, block) for block in range(lab.n_blocks)}
    inputs, sizes = inputs_and_sizes(lab, names)
    n_sentences, wanted = lab.text.counts.tokens.shape[1], []
    for chunk in lab.chunks:
        real = real_tokens(chunk, lab.settings.device)
        fires = torch.from_numpy(side[chunk.where // n_sentences]).to(real.device)
        wanted.append(fires[:, None].expand_as(real)[real])
    generator = torch.Generator().manual_seed(seed)
    weights: dict[int, dict[str, Tensor]] = {}
    for block, name in names.items():
        rounded = dict(lab.bank.rounded_linears(block, scheme))
        reader = reader_of(inputs[block], torch.cat(wanted))
        noise = torch.randn(lab.decoder.width, generator=generator)
        delta = strength * sizes[block] * noise.to(reader)
        rounded[name] = rounded[name] + torch.outer(delta, reader).to(rounded[name])
        weights[block] = rounded
    return lab.bank.add("biased", weights)


def biased_plan(
    scheme: str, variant: str, n_blocks: int, planted: Sequence[int], protect: Sequence[int]
) -> Plan:
    """Returns the plan whose unprotected planted blocks are the variant."""
    return Plan(
        tuple(
            "fp" if i in protect else variant if i in planted else scheme for i in range(n_blocks)
        )
    )


def hurt_side(disparity: float, languages: Sequence[str], reference: str) -> Bools:
    """Returns the side to plant on, (A): the one that is hurt more already.

    An error on the other side would first even out the two, and |D| would fall, not rise.
    """
    is_reference = np.array([code == reference for code in languages])
    return is_reference if disparity < 0 else ~is_reference
