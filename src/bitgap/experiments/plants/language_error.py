"""P2: an error that the inputs of one language feel most, planted in one block at a time.

A rounded linear that writes to the state gets ΔW = ε u vᵀ besides: u is a Gaussian direction, and v
the top generalised eigenvector of (Σ_λ, Σ_ref), second moments of the linear's inputs, along which
language λ outweighs the reference most. Source: method, section 2 (P2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import linalg
from torch import Tensor

from bitgap.experiments.plants.cancelling import inputs_and_sizes, state_writer
from bitgap.lab.activations import real_tokens
from bitgap.lab.lab import Lab
from bitgap.lab.linear_inputs import linear_inputs
from bitgap.quant.plan import Plan
from bitgap.records import Floats, Integers

_RIDGE = 1e-3
"""Added to Σ_ref, of its mean diagonal: directions the reference never uses stay finite."""


def planted_errors(part: Lab, rounded: Plan, n_plantings: int, strength: float) -> dict[str, Any]:
    """Returns what P2 does in blocks, languages and directions drawn at random.

    Args:
        part: A few sentences in a few languages, reference first.
        rounded: The plan that rounds every block.
        n_plantings: How often, S.
        strength: Root mean square of the planted error, in its language, over that of the state.

    Returns:
        ``planted_block`` and ``planted_row`` (S), where and for which language it was planted;
        ``planted_e`` (S x 2), e of that block for the reference and that language; ``plain_e``
        (L x A), e of every block as rounded; ``planted_kl`` (S x A x N), every block rounded and
        that one planted; ``plain_kl`` (A x N).

    Raises:
        UnsupportedArchitecture: If a block has no linear that writes to the state.
    """
    rng = np.random.default_rng(part.settings.seed)
    blocks = rng.integers(part.n_blocks, size=n_plantings)
    rows = rng.integers(1, len(part.languages), size=n_plantings)
    names = {int(block): state_writer(part, int(block)) for block in np.unique(blocks)}
    inputs, sizes = inputs_and_sizes(part, names)
    owner = _languages_of_tokens(part)
    plain = linear_inputs(part, rounded)
    ratio = plain["error"].sum(-1) / plain["output"].sum(-1)  # (M x A)
    planted: dict[str, list[Floats]] = {"e": [], "kl": []}
    for seed, (block, row) in enumerate(zip(blocks.tolist(), rows.tolist(), strict=True)):
        name, x = names[block], inputs[block].double().cpu().numpy()
        views = part.decoder.block_linears(block)
        linears = dict(part.bank.rounded_linears(block, rounded.blocks[block]))
        direction = contrast_direction(x[owner == row], x[owner == 0])
        change = _sized(
            direction, x[owner == row], strength * sizes[block], len(linears[name]), seed
        )
        linears[name] = linears[name] + torch.from_numpy(change).to(linears[name])
        planted["kl"].append(_kl(part, rounded, block, linears))
        of_block = ratio[plain["block"] == block]
        of_block[list(views).index(name)] = _ratios(
            x, owner, views[name].get(), linears[name], len(part.languages)
        )
        planted["e"].append(of_block.mean(0)[[0, row]])
    return {
        "planted_block": blocks,
        "planted_row": rows,
        **{f"planted_{name}": np.array(values) for name, values in planted.items()},
        "plain_e": np.stack([ratio[plain["block"] == i].mean(0) for i in range(part.n_blocks)]),
        "plain_kl": part.score([rounded], "controls").kl_nats[0],
    }


def _kl(part: Lab, rounded: Plan, block: int, linears: dict[str, Tensor]) -> Floats:
    """Returns the damage where one block's linears are these, (A x N)."""
    variant = part.bank.add("one-language", {block: linears})
    schemes = [variant if i == block else s for i, s in enumerate(rounded.blocks)]
    try:
        return part.score([Plan(tuple(schemes))], "controls").kl_nats[0]
    finally:
        part.bank.drop(variant)


def _languages_of_tokens(lab: Lab) -> Integers:
    """Returns the language of every real token, in the order the text is run in."""
    n, rows = lab.text.counts.tokens.shape[1], []
    for chunk in lab.chunks:
        real = real_tokens(chunk, lab.settings.device).cpu().numpy()
        rows.append(np.repeat(chunk.where // n, real.sum(1)))
    return np.concatenate(rows)


def contrast_direction(one: Floats, other: Floats) -> Floats:
    """Returns the unit v that maximises vᵀΣ_one v / vᵀΣ_other v, (in); Σ_other gets a small ridge.

    Args:
        one: Inputs, (T x in).
        other: Inputs to outweigh, (T' x in).
    """
    n, width = other.shape
    ridge = max(_RIDGE * float(np.square(other).sum()) / (n * width), np.finfo(float).tiny)
    # Inverse by tokens instead of inputs, of which a linear has many more (Woodbury):
    # (XᵀX/n + r)⁻¹ = (1 − Xᵀ(XXᵀ + nr)⁻¹X)/r.
    crossed = linalg.solve(
        other @ other.T + n * ridge * np.eye(n), other @ one.T, assume_a="pos"
    )  # (T' x T)
    whitened = one @ one.T - one @ other.T @ crossed
    _, vectors = linalg.eigh(whitened, subset_by_index=[len(one) - 1] * 2)
    direction = one.T @ vectors[:, 0] - other.T @ (crossed @ vectors[:, 0])
    return direction / np.linalg.norm(direction)


def _sized(direction: Floats, inputs: Floats, size: float, n_outputs: int, seed: int) -> Floats:
    """Returns ε u vᵀ, (out x in), whose outputs on these inputs have this root mean square."""
    u = np.random.default_rng(seed).normal(size=n_outputs)
    power = np.square(inputs @ direction).mean() * np.square(u).mean()
    return size / np.sqrt(power) * np.outer(u, direction)


def _ratios(x: Floats, owner: Integers, weight: Tensor, changed: Tensor, n: int) -> Floats:
    """Returns ‖ΔW x‖²/‖W x‖² of one linear by language, (A)."""
    old, new = (w.double().cpu().numpy() for w in (weight, changed))
    error, output = (np.square(x @ w.T).sum(1) for w in (new - old, old))
    return np.array([error[owner == i].sum() / output[owner == i].sum() for i in range(n)])
