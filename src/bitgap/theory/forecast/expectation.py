"""Where damage of an unseen model is expected, learned from other families; pure.

Both kinds say how damage k_{lλ} of rounding one block is spread over blocks and languages, up to
one factor, and take damage to add up over the blocks that are not protected (the second-order error
budget), so that for a set P of protected blocks

    Ŝ(P) = sd_λ log2[ Σ_{l∉P} k̂_{lλ} per token ],

the primary gap of a plan. D, the mean log2 ratio to the reference per text, is described beside it.

log2 k̂_{lλ} = log2 k̂_{l,ref} + y_{lλ},  y_{lλ} = s_λ + g_λ(l) + c·B_{lλ}

s_λ is the language's mean over the families that have it, per token; a language that none has gets
the mean over all. g_λ is its profile over blocks, drawn to the mean g of all languages as far as
families disagree on it (:func:`shrinkage`).

``config``: from the number of blocks alone, c = 0. Of the reference the mean over families of log2
of a block's share of damage. The languages are those of the families learned from.

``weights``: from the weights and one forward pass. log2 k̂_{l,ref} = ᾱ(l) + log2 t_l², with ᾱ the
mean over families of log2 of damage per squared weight error. B is the local error ratio and c one
number by least squares with a constant for every block and for every language of a model (Frisch &
Waugh 1933), families weighing the same.

**Ends as ends** (:func:`at_blocks`): the first and the last block of a profile are those of the
model that is forecast, whatever its depth, and only the interior is read off in relative depth.
What is a share of the whole, as damage and damage per weight error are, keeps the interior's sum,
so that more blocks in between take less each (:func:`thinned`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from bitgap.records import Floats, Integers
from bitgap.theory.evidence import Evidence, disparity_of, families_of, spread_of

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
    tokens: Integers | None = None
    """Tokens of each language, (A); None where only the config is known."""


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
        tokens=evidence.tokens if evidence.mask_tokens is None else evidence.mask_tokens,
    )


class Core(NamedTuple):
    """Where damage is expected, up to one factor."""

    languages: tuple[str, ...]
    """Reference first, A: the target's own, or of a config forecast those learned from."""
    single: Floats
    """k̂_{lλ} per token, (L x A)."""
    premium: Floats
    """log2 of each language's tokens over the reference's, (A)."""
    damage: Floats
    """Mean over languages per text, (L), as shares that sum to 1."""

    def spread(self, protected: Floats) -> Floats:
        """Returns Ŝ of sets of protected blocks (P x L of 0 and 1), (P); NaN for all blocks."""
        return spread_of((1.0 - protected) @ self.single, np.ones(len(self.languages)))

    def disparity(self, protected: Floats) -> Floats:
        """Returns D̂ of sets of protected blocks, (P); NaN for all blocks."""
        return disparity_of((1.0 - protected) @ (self.single * np.exp2(self.premium)))

    def log_damage(self, protected: Floats) -> Floats:
        """Returns log2 of what share of damage is left, (P); −inf for all blocks."""
        with np.errstate(divide="ignore"):
            return np.log2((1.0 - protected) @ self.damage)


def expect(zoo: Sequence[Evidence], inputs: Inputs, kind: Kind) -> Core:
    """Returns where damage is expected in a model, learned from a zoo of other families."""
    n = inputs.n_blocks
    panel = _panel(zoo, n)
    if kind == "config":
        languages = (zoo[0].languages[0], *sorted(set(panel.languages)))
        premium = _by_language(panel, panel.premium, languages[1:])
        reference = thinned(zoo, lambda one: _log_share(one.single[:, 0]), n)
        slope, local = 0.0, np.zeros((n, len(languages) - 1))
    else:
        assert inputs.t2 is not None and inputs.log_error_ratio is not None
        assert inputs.tokens is not None
        languages = inputs.languages
        premium = np.log2(inputs.tokens[1:] / inputs.tokens[0])
        reference = thinned(zoo, _log_alpha, n) + np.log2(inputs.t2)
        slope, local = _slope(panel), filled(inputs.log_error_ratio[:, 1:])
    rest = panel.response - slope * panel.local
    level = _by_language(panel, rest.mean(1), languages[1:])
    ratio = level + _profiles(panel, rest, languages[1:]).T + slope * local
    logs = reference[:, None] + np.column_stack([np.zeros(n), ratio])
    single = np.exp2(logs - logs.max())
    premium = np.concatenate([[0.0], premium])
    damage: Floats = (single * np.exp2(premium)).mean(1)
    return Core(languages, single, premium, damage / damage.sum())


def _log_share(k: Floats) -> Floats:
    """Returns log2 of each block's share of damage, (L)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return filled(np.log2(k / np.nansum(k)))


def _log_alpha(one: Evidence) -> Floats:
    """Returns log2 of damage per squared weight error, of which the sum is 1, (L)."""
    return _log_share(one.single[:, 0] / one.t2)


def thinned(
    zoo: Sequence[Evidence], profile: Callable[[Evidence], Floats], n_blocks: int
) -> Floats:
    """Returns log2 of a block's share of a whole, the mean over families, for L blocks.

    Ends keep their share; what the interior has together is shared out over as many blocks as there
    are now, log2[(L' − 2)/(L − 2)] less for each.
    """

    def at(one: Evidence) -> Floats:
        moved = at_blocks(profile(one), n_blocks)
        if min(n_blocks, one.n_blocks) > 2:
            moved[1:-1] += np.log2((one.n_blocks - 2) / (n_blocks - 2))
        return moved

    each = [np.mean([at(one) for one in models], axis=0) for models in families_of(zoo).values()]
    return np.mean(each, axis=0)


def at_blocks(profile: Floats, n_blocks: int) -> Floats:
    """Returns a profile (L' x ...) for a model of L blocks, (L x ...), ends as ends.

    Block 0 is taken from block 0, the last from the last; the interior is interpolated in its own
    relative depth, so that nothing of the ends enters it. A profile without an interior gives the
    mean of its ends there.
    """
    flat = profile.reshape(len(profile), -1)
    inner = flat[1:-1] if len(flat) > 2 else flat.mean(0, keepdims=True)
    places, known = (np.linspace(0, 1, m) if m > 1 else np.full(m, 0.5) for m in
                     (max(n_blocks - 2, 0), len(inner)))  # fmt: skip
    moved = np.empty((n_blocks, flat.shape[1]))
    for column in range(flat.shape[1]):
        moved[1:-1, column] = np.interp(places, known, inner[:, column])
    moved[0], moved[-1] = flat[0], flat[-1]
    return moved.reshape(n_blocks, *profile.shape[1:])


def filled(profile: Floats) -> Floats:
    """Returns a profile (L x ...) with undefined blocks drawn from their neighbours, or 0."""
    flat = np.array(profile, dtype=np.float64).reshape(len(profile), -1)
    places = np.arange(len(flat))
    for column in flat.T:
        fine = np.isfinite(column)
        column[~fine] = np.interp(places[~fine], places[fine], column[fine]) if fine.any() else 0.0
    return flat.reshape(profile.shape)


class _Panel(NamedTuple):
    """Every (model, language) of the zoo at the target's blocks."""

    response: Floats  # y per token, (units x L)
    local: Floats  # B, (units x L)
    premium: Floats  # log2 tokens over the reference's, (units)
    weight: Floats  # sums to 1, families alike, (units)
    languages: tuple[str, ...]
    families: tuple[str, ...]


def _panel(zoo: Sequence[Evidence], n_blocks: int) -> _Panel:
    rows: list[tuple[Floats, Floats, float, str, str]] = []
    for one in zoo:
        premium = np.log2(one.tokens[1:] / one.tokens[0])
        response = at_blocks(filled(one.log_ratio - premium), n_blocks)
        local = at_blocks(filled(one.log_error_ratio[:, 1:]), n_blocks)
        columns = zip(response.T, local.T, premium, one.languages[1:], strict=True)
        rows += [(y, b, float(p), code, one.family) for y, b, p, code in columns]
    families = tuple(row[4] for row in rows)
    weight = np.array([1.0 / families.count(f) for f in families])
    return _Panel(
        np.array([row[0] for row in rows]),
        np.array([row[1] for row in rows]),
        np.array([row[2] for row in rows]),
        weight / weight.sum(),
        tuple(row[3] for row in rows),
        families,
    )


def _slope(panel: _Panel) -> float:
    """Returns c; 0 where local errors do not vary."""
    y, b = _within(panel.response, panel.weight), _within(panel.local, panel.weight)
    power = float(panel.weight @ (b**2).sum(1))
    return float(panel.weight @ (b * y).sum(1)) / power if power > 1e-12 else 0.0


def _within(x: Floats, weight: Floats) -> Floats:
    """Returns x (units x L) less the means of its units and of its blocks."""
    x = x - x.mean(1, keepdims=True)
    return x - weight @ x


def _by_family(panel: _Panel, values: Floats) -> dict[str, Floats]:
    """Returns by language its values in each family that has it, (families x ...)."""
    known: dict[str, dict[str, list[Floats]]] = {}
    for code, family, value in zip(panel.languages, panel.families, values, strict=True):
        known.setdefault(code, {}).setdefault(family, []).append(value)
    return {
        code: np.array([np.mean(v, axis=0) for v in by_family.values()])
        for code, by_family in known.items()
    }


def _by_language(panel: _Panel, values: Floats, languages: Sequence[str]) -> Floats:
    """Returns a value of each language, the mean over families, or over all where none has it."""
    means = {code: float(v.mean()) for code, v in _by_family(panel, values).items()}
    anyone = float(panel.weight @ values)
    return np.array([means.get(code, anyone) for code in languages])


def _profiles(panel: _Panel, rest: Floats, languages: Sequence[str]) -> Floats:
    """Returns g_λ of some languages, (A−1 x L)."""
    own = rest - rest.mean(1, keepdims=True)
    shared: Floats = panel.weight @ own
    apart = _by_family(panel, own - shared)
    keep = shrinkage(list(apart.values()))
    return np.array(
        [shared + keep * apart[code].mean(0) if code in apart else shared for code in languages]
    )


def shrinkage(groups: Sequence[Floats]) -> float:
    """Returns which part of the groups' means is theirs and no noise, 0 to 1.

    Means over a group's members have the spread of the groups and 1/n of that of members about
    them; the first as a part of both (James & Stein's factor with estimated variances).

    Args:
        groups: Of each, its members' values, (n x L); groups of one member say nothing of noise.
    """
    several = [group for group in groups if len(group) > 1]
    if not several:
        return 0.0
    within = float(np.mean([group.var(0, ddof=1).mean() for group in several]))
    means = float(np.mean([(group.mean(0) ** 2).mean() for group in groups]))
    noise = within * float(np.mean([1 / len(group) for group in groups]))
    return max(0.0, 1 - noise / means) if means > 0 else 0.0


def triples_of(core: Core) -> dict[str, Integers]:
    """Returns the three blocks to protect for least Ŝ and for least mean damage, ascending."""
    every = list(combinations(range(len(core.damage)), 3))
    triples = np.array(every, dtype=np.int64).reshape(-1, 3)
    left: Floats = core.single.sum(0) - core.single[triples].sum(1)
    # Of equal Ŝ the one that leaves less damage.
    remaining = 1 - core.damage[triples].sum(1)
    size = spread_of(left, np.ones(len(core.languages))).round(9)
    return {
        "spread": triples[np.lexsort((remaining, size))[0]],
        "damage": triples[remaining.argmin()],
    }
