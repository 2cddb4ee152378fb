"""What the verdicts mean: pillars held, what each outcome rules out, and what the data suggest.

The Gateway-Bottleneck theory stands on four pillars (method.md §5): distinct ends (H2.2), something
special at three quarters of the depth (any of H3.1 to H3.3), synergy of the ends, and the formal
model. Each is held, fallen or open; they are never averaged into a score. What the data suggest
instead is exploratory: numbers over families, each to be declared and tested on models not used
here. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bitgap.experiments.protocol.hypothesis import PILLARS
from bitgap.records import Finding, Floats
from bitgap.stats.pooling import random_effects
from bitgap.stats.profiles import detrend
from bitgap.theory.evidence import Evidence, families_of
from bitgap.theory.hypotheses import HYPOTHESES


def pillars(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Returns for every pillar whether it is held, fallen or open, JSON-ready."""
    labels = {f.hypothesis: f.verdict.label for f in findings}
    rests_on = {
        pillar: [h.id for h in HYPOTHESES.values() if h.pillar == pillar] for pillar in PILLARS
    }
    return [
        {
            "pillar": f"{pillar}: {PILLARS[pillar]}",
            "rests_on": names,
            "state": _state([labels[name] for name in names]),
        }
        for pillar, names in rests_on.items()
        if all(name in labels for name in names)
    ]


def _state(labels: Sequence[str]) -> str:
    if "supported" in labels:
        return "held"
    return "fallen" if all(label == "refuted" for label in labels) else "open"


def outcomes(findings: Sequence[Finding], evidence: Sequence[Evidence]) -> dict[str, Any]:
    """Returns what is established, what is ruled out, what is open, and what the data suggest.

    Each with what it was seen in, as a statement is of no other models.
    """
    said: dict[str, list[dict[str, str]]] = {"established": [], "ruled_out": [], "open": []}
    for finding in findings:
        hypothesis = HYPOTHESES[finding.hypothesis]
        because = f"in {finding.verdict.scope}: {finding.verdict.reason}"
        row = {"hypothesis": finding.hypothesis, "because": because}
        if finding.verdict.label == "supported":
            said["established"].append(row | {"says": hypothesis.if_supported})
        elif finding.verdict.label == "refuted":
            said["ruled_out"].append(row | {"says": hypothesis.if_refuted})
        else:
            said["open"].append(row | {"says": hypothesis.if_supported})
    return {**said, "suggested": suggestions(evidence)}


# -- what the data suggest instead ----------------------------------------------------------------


def suggestions(evidence: Sequence[Evidence]) -> list[dict[str, Any]]:
    """Returns what the data suggest instead: exploratory statistics clear of what chance gives.

    One value a family, the mean over its checkpoints, less what it would be if nothing were there;
    mean and 95 % interval by random effects with equal weights. A hypothesis is suggested where the
    interval is clear of 0, and its opposite where it is clear on the other side. With fewer than
    two families there are none.
    """
    families = list(families_of(evidence).values())
    rows = list[dict[str, Any]]()
    for above, below, unit, of in _SUGGESTED if len(families) > 1 else ():
        known = [_defined([of(one) for one in models]) for models in families]
        pairs = np.array([each.mean(0) for each in known if len(each)])
        if len(pairs) < 2:
            continue
        excess, null = pairs[:, 0] - pairs[:, 1], float(pairs[:, 1].mean())
        mean, low, high, _ = random_effects(excess, np.ones(len(excess)), 0.95)
        if low <= 0 <= high:
            continue
        rows.append(
            {
                "hypothesis": above if mean > 0 else below,
                "unit": unit,
                "value": mean + null,
                "low": low + null,
                "high": high + null,
                "null": null,
                "families": len(excess),
            }
        )
    return rows


def _defined(pairs: Sequence[Pair]) -> Floats:
    found = np.array(pairs)
    return found[np.isfinite(found).all(1)]


Pair = tuple[float, float]
"""A statistic, and what it would be if nothing were there."""


def _late_share(one: Evidence) -> Pair:
    k, late = one.single.mean(1), one.depths >= 0.75
    return float(k[late].sum() / k.sum()), float(late.mean())


def _first_share(one: Evidence) -> Pair:
    k = one.single.mean(1)
    return float(k[0] / k.sum()), 1 / len(k)


def _sensitivity_share(one: Evidence) -> Pair:
    """Returns the share of the spread of log k over blocks that log α alone explains, r²."""
    return _r(np.log(one.sensitivity.mean(1)), np.log(one.single.mean(1))) ** 2, 0.5


def _learned_link(one: Evidence) -> Pair:
    """Returns r over languages of log2 damage per token with how well they are known."""
    known = -np.log2(np.array([one.bits_per_byte[c] for c in one.languages]))
    tokens = one.tokens if one.mask_tokens is None else one.mask_tokens
    return _r(known, np.log2(one.damage[0] / tokens)), 0.0


def _language_not_block(one: Evidence) -> Pair:
    """Returns the share of S² of single blocks that is the language's, whatever the block.

    Of log2 damage per token less each block's mean over languages.
    """
    if len(one.languages) < 2 or not (one.single > 0).all():
        return float("nan"), 0.5
    y = np.log2(one.single / one.tokens)
    y = y - y.mean(1, keepdims=True)
    return (float(y.mean(0).var() / y.var()) if y.var() > 0 else float("nan")), 0.5


def _local_link(one: Evidence) -> Pair:
    """Returns r over blocks of the mean local error ratio with the mean log2 damage ratio."""
    if len(one.languages) < 2:
        return float("nan"), 0.0
    profiles = one.log_error_ratio[:, 1:].mean(1), one.log_ratio.mean(1)
    return _r(*map(detrend, profiles)), 0.0


def _r(x: Floats, y: Floats) -> float:
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0 or not np.isfinite([x, y]).all():
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


_SUGGESTED: Sequence[tuple[str, str, str, Callable[[Evidence], Pair]]] = (
    (
        "damage is concentrated in the last quarter of the depth",
        "damage spares the last quarter of the depth",
        "share of the blocks' summed damage",
        _late_share,
    ),
    (
        "the first block takes more than its share of damage",
        "the first block takes less than its share of damage",
        "share of the blocks' summed damage",
        _first_share,
    ),
    (
        "how much a block matters decides its damage, not how hard rounding hits it",
        "how hard rounding hits a block decides its damage, not how much it matters",
        "r² over blocks of log sensitivity with log damage",
        _sensitivity_share,
    ),
    (
        "the gap is the language's, much the same in every block",
        "the gap is made in particular blocks",
        "share of the squared S of single blocks that is constant over blocks",
        _language_not_block,
    ),
    (
        "where rounding hits a language's own inputs harder, the block hurts it more",
        "where rounding hits a language's own inputs harder, the block hurts it less",
        "r over blocks, detrended in depth, of log2 local error ratio and log2 damage ratio",
        _local_link,
    ),
    (
        "languages that are better known lose more",
        "languages that are less well known lose more",
        "r over languages of -log2 bits per byte with log2 damage per token",
        _learned_link,
    ),
)
