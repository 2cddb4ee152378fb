"""Where damage of an unseen model is expected, learned from other families; pure.

Both kinds say how damage k_{lλ} of rounding one block is spread over blocks, up to one factor, and
take damage to add up over the blocks that are not protected (the second-order error budget):

    D̂(S) = mean_λ log2[ Σ_{l∉S} k̂_{lλ} / Σ_{l∉S} k̂_{l,ref} ]

``config``: from the number of blocks alone. Profiles over relative depth r, means over families, of
log2 of a block's share of Σk and of y_l = mean_λ log2(k_{lλ}/k_{l,ref}).

``weights``: from the weights and one forward pass. log2 k̂_{lλ} = ᾱ(r) + log2 t_l² + y_{lλ} with
y_{lλ} = s_λ + g(r) + c·B_{lλ}, B the local error ratio. ᾱ and g are means over families of what is
left of log2 k; c is one number by least squares with a constant for every depth and for every
language of a model (Frisch & Waugh 1933), families weighing the same. s_λ is the language's mean
over the families that have it; a language that none has gets the mean over all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from bitgap.records import Floats, Integers
from bitgap.stats.profiles import depths
from bitgap.theory.evidence import Evidence, disparity_of, families_of, log_ratio

Kind = Literal["config", "weights"]
KINDS: tuple[Kind, ...] = ("config", "weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All that may be known of a model before one of its masks is scored.

    Without ``t2`` and ``log_error_ratio`` only a config forecast can be made.
    """

    target: str
    """Name of the model or card."""
    family: str
    """``config.model_type``."""
    n_blocks: int
    fingerprint: str | None = None
    """Of the weights; None where only the config is known."""
    scheme: str | None = None
    """How blocks will be rounded; None where it is not chosen yet."""
    languages: tuple[str, ...] = ()
    """Reference first; as many as ``log_error_ratio`` has."""
    t2: Floats | None = None
    """Relative squared error of each block's weights, (L)."""
    log_error_ratio: Floats | None = None
    """log2 of each block's local error against the reference's, (L x A)."""


def inputs_of(evidence: Evidence) -> Inputs:
    """Returns what of a measured model was known before; none of its damage is touched."""
    return Inputs(
        target=evidence.model,
        family=evidence.family,
        n_blocks=evidence.n_blocks,
        fingerprint=evidence.fingerprint,
        scheme=evidence.scheme,
        languages=evidence.languages,
        t2=evidence.t2,
        log_error_ratio=evidence.log_error_ratio,
    )


class Core(NamedTuple):
    """Where damage is expected, up to one factor; the means of both are not comparable."""

    single: Floats
    """k̂_{lλ}, reference first, (L x A); of a config forecast, the reference and one language that
    stands for all others, (L x 2)."""
    damage: Floats
    """Mean over languages, (L), as shares that sum to 1."""

    def disparity(self, protected: Floats) -> Floats:
        """Returns D̂ of sets of protected blocks (P x L of 0 and 1), (P); NaN for all blocks."""
        return disparity_of((1.0 - protected) @ self.single)

    def log_damage(self, protected: Floats) -> Floats:
        """Returns log2 of what share of damage is left, (P); −inf for all blocks."""
        with np.errstate(divide="ignore"):
            return np.log2((1.0 - protected) @ self.damage)


def expect(zoo: Sequence[Evidence], inputs: Inputs, kind: Kind) -> Core:
    """Returns where damage is expected in a model, learned from a zoo of other families."""
    return _from_config(zoo, inputs) if kind == "config" else _from_weights(zoo, inputs)


def _from_config(zoo: Sequence[Evidence], inputs: Inputs) -> Core:
    n = inputs.n_blocks
    reference = family_mean(zoo, lambda one: _log_share(one.single[:, 0]), n)
    ratio = family_mean(zoo, lambda one: filled(one.log_ratio).mean(1), n)
    damage = family_mean(zoo, lambda one: _log_share(one.single.mean(1)), n)
    single = np.exp2(np.stack([reference, reference + ratio], axis=1))
    return Core(single, _shares(np.exp2(damage)))


def _from_weights(zoo: Sequence[Evidence], inputs: Inputs) -> Core:
    assert inputs.t2 is not None and inputs.log_error_ratio is not None
    n, languages = inputs.n_blocks, inputs.languages
    alpha = family_mean(zoo, _log_alpha, n)
    panel = _panel(zoo, n)
    slope, profile, units = _fit(panel)
    bias = _language_means(panel, units, languages[1:])
    local = filled(inputs.log_error_ratio[:, 1:])
    ratio = bias + profile[:, None] + slope * local
    reference = alpha + np.log2(inputs.t2)
    log_single = np.column_stack([reference, reference[:, None] + ratio])
    single = np.exp2(log_single - log_single.max())
    return Core(single, _shares(single.mean(1)))


def _log_share(k: Floats) -> Floats:
    """Returns log2 of each block's damage over the mean block's, (L), so that depths compare."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return filled(np.log2(k / np.nanmean(k)))


def _log_alpha(one: Evidence) -> Floats:
    """Returns log2 of damage per squared weight error, (L); centred, as scales differ."""
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha = filled(np.log2(one.single[:, 0] / one.t2))
    return alpha - alpha.mean()


def family_mean(
    zoo: Sequence[Evidence], profile: Callable[[Evidence], Floats], n_blocks: int
) -> Floats:
    """Returns a profile over relative depth, the mean over families, at the depths of L blocks."""
    each = [
        np.mean([at_depths(profile(one), n_blocks) for one in models], axis=0)
        for models in families_of(zoo).values()
    ]
    return np.mean(each, axis=0)


def at_depths(profile: Floats, n_blocks: int) -> Floats:
    """Returns a profile (L' x ...) at the relative depths of L blocks, (L x ...)."""
    flat = profile.reshape(len(profile), -1)
    moved = [np.interp(depths(n_blocks), depths(len(profile)), column) for column in flat.T]
    return np.stack(moved, axis=1).reshape(n_blocks, *profile.shape[1:])


def filled(profile: Floats) -> Floats:
    """Returns a profile (L x ...) with undefined blocks drawn from their neighbours, or 0."""
    flat = np.array(profile, dtype=np.float64).reshape(len(profile), -1)
    places = np.arange(len(flat))
    for column in flat.T:
        fine = np.isfinite(column)
        column[~fine] = np.interp(places[~fine], places[fine], column[fine]) if fine.any() else 0.0
    return flat.reshape(profile.shape)


class _Panel(NamedTuple):
    """Every (model, language) of the zoo at the target's depths."""

    response: Floats  # y, (units x L)
    local: Floats  # B, (units x L)
    weight: Floats  # sums to 1, families alike, (units)
    languages: tuple[str, ...]
    families: tuple[str, ...]


def _panel(zoo: Sequence[Evidence], n_blocks: int) -> _Panel:
    rows: list[tuple[Floats, Floats, str, str]] = []
    for one in zoo:
        response = at_depths(filled(one.log_ratio), n_blocks)
        local = at_depths(filled(one.log_error_ratio[:, 1:]), n_blocks)
        for y, b, code in zip(response.T, local.T, one.languages[1:], strict=True):
            rows.append((y, b, code, one.family))
    families = tuple(row[3] for row in rows)
    weight = np.array([1.0 / families.count(f) for f in families])
    return _Panel(
        np.array([row[0] for row in rows]),
        np.array([row[1] for row in rows]),
        weight / weight.sum(),
        tuple(row[2] for row in rows),
        families,
    )


def _fit(panel: _Panel) -> tuple[float, Floats, Floats]:
    """Returns c, g at every depth, which has mean 0, and each unit's constant."""
    y, b = _within(panel.response, panel.weight), _within(panel.local, panel.weight)
    power = float(panel.weight @ (b**2).sum(1))
    slope = float(panel.weight @ (b * y).sum(1)) / power if power > 1e-12 else 0.0
    rest = panel.response - slope * panel.local
    units = rest.mean(1)
    return slope, panel.weight @ (rest - units[:, None]), units


def _within(x: Floats, weight: Floats) -> Floats:
    """Returns x (units x L) less the means of its units and of its depths."""
    x = x - x.mean(1, keepdims=True)
    return x - weight @ x


def _language_means(panel: _Panel, units: Floats, languages: Sequence[str]) -> Floats:
    """Returns s_λ of the languages: means over families of the units' constants."""
    known: dict[str, dict[str, list[float]]] = {}
    for code, family, constant in zip(panel.languages, panel.families, units, strict=True):
        known.setdefault(code, {}).setdefault(family, []).append(float(constant))
    means = {
        code: float(np.mean([np.mean(values) for values in by_family.values()]))
        for code, by_family in known.items()
    }
    anyone = float(panel.weight @ units)
    return np.array([means.get(code, anyone) for code in languages])


def triples_of(core: Core) -> dict[str, Integers]:
    """Returns the three blocks to protect for least |D̂| and for least mean damage, ascending."""
    every = list(combinations(range(len(core.damage)), 3))
    triples = np.array(every, dtype=np.int64).reshape(-1, 3)
    left = core.single.sum(0) - core.single[triples].sum(1)
    # Of equal |D| the one that leaves less damage.
    remaining = 1 - core.damage[triples].sum(1)
    size = np.abs(log_ratio(left).mean(1)).round(9)
    return {
        "disparity": triples[np.lexsort((remaining, size))[0]],
        "damage": triples[remaining.argmin()],
    }


def _shares(k: Floats) -> Floats:
    return k / k.sum()
