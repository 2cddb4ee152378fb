"""Why these blocks: what the models say, as far as it can be said, for damage and for the gap.

Numbers are means over families, a family's checkpoints averaged first, with 95 % intervals by
random effects with equal weights; each has beside it what it would be if the place were nothing
special. Every hypothesis stands in two wordings, the origin's and the one that can be answered
(``wordings.toml``), and an open one with how many families it would take. Pure numpy.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from bitgap.quant.sets import mask_of
from bitgap.records import Finding, Floats
from bitgap.stats.mask_design import original_set
from bitgap.stats.pooling import random_effects
from bitgap.stats.verdicts import Thresholds
from bitgap.theory.evidence import Evidence, families_of, spread_of
from bitgap.theory.forecast.scorecard import OBJECTIVES, standing, triples
from bitgap.theory.hypotheses import HYPOTHESES
from bitgap.theory.power import MOST, POWER, families_needed
from bitgap.theory.records import Answer, AskedHypothesis, PlaceFact, Scope

LEVEL = 0.95
PLACES = ("the first block", "the block at three quarters", "the last block")
TRIPLE = "the three together"


@cache
def wordings() -> Mapping[str, Mapping[str, str]]:
    """Returns by hypothesis ``written``, as the origin wrote it, and ``asked``, as it must be."""
    file = resources.files("bitgap.theory") / "wordings.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def answer(
    evidence: Sequence[Evidence], findings: Sequence[Finding], thresholds: Thresholds
) -> Answer:
    """Returns the answer that some models give.

    Args:
        evidence: Of models of one role.
        findings: Over their families.
        thresholds: What was declared.
    """
    return Answer(
        scope=scope_of(evidence),
        places=tuple(place_facts(evidence)),
        hypotheses=tuple(_asked(f, thresholds) for f in findings),
    )


def scope_of(evidence: Sequence[Evidence]) -> Scope:
    """Returns what models all that is said is of."""
    sizes = [one.n_parameters for one in evidence if one.n_parameters]
    return Scope(
        models=len(evidence),
        families=len(families_of(evidence)),
        parameters_least=min(sizes, default=None),
        parameters_most=max(sizes, default=None),
        blocks=tuple(sorted({one.n_blocks for one in evidence})),
        corpora=tuple(sorted({one.corpus for one in evidence if one.corpus})),
        mixes=tuple(sorted({one.mix for one in evidence if one.mix})),
    )


# -- places ---------------------------------------------------------------------------------------

Pair = tuple[float, float]
"""A number, and what it would be if the place were nothing special."""
PlaceOf = Callable[[Evidence, int], Pair]


def _share(one: Evidence, block: int) -> Pair:
    k = one.single.mean(1)
    return float(k[block] / k.sum()), 1 / len(k)


def _saved(one: Evidence, block: int) -> Pair:
    rows = _rows(one)
    if 1 << block not in rows:
        return float("nan"), 0.0
    damage = one.damage.mean(1)
    others = [1 - damage[rows[1 << i]] / damage[rows[0]] for i in range(one.n_blocks)
              if 1 << i in rows]  # fmt: skip
    return float(1 - damage[rows[1 << block]] / damage[rows[0]]), float(np.median(others))


def _apart(one: Evidence, block: int) -> Pair:
    s = one.spread_by_block
    return float(s[block] - np.median(s)), 0.0


def _falls(one: Evidence, block: int) -> Pair:
    rows, s = _rows(one), one.spread
    if 1 << block not in rows:
        return float("nan"), 0.0
    others = [s[rows[0]] - s[rows[1 << i]] for i in range(one.n_blocks) if 1 << i in rows]
    return float(s[rows[0]] - s[rows[1 << block]]), float(np.median(others))


BY_BLOCK: Sequence[tuple[str, str, PlaceOf]] = (
    ("damage", "share of the damage that single blocks do", _share),
    ("damage", "share of all damage that protecting it saves", _saved),
    ("spread", "S with it alone rounded, less the median block's, log2", _apart),
    ("spread", "fall of S where it alone is protected, log2", _falls),
)
"""Objective, what is told, and how; the null of the second and last is the median block's."""


def place_facts(evidence: Sequence[Evidence]) -> list[PlaceFact]:
    """Returns what each of the three blocks is, and what the three are together."""
    facts = list[PlaceFact]()
    for objective, what, of in BY_BLOCK:
        for i, place in enumerate(PLACES):
            fact = _pooled(evidence, lambda one, i=i, of=of: of(one, original_set(one.n_blocks)[i]))
            if fact is not None:
                facts.append(PlaceFact(objective=objective, what=what, place=place, **fact))
    for objective, what, of in _TOGETHER:
        fact = _pooled(evidence, of, bounded=what.startswith("share of other"))
        if fact is not None:
            facts.append(PlaceFact(objective=objective, what=what, place=TRIPLE, **fact))
    return facts


def _pooled(
    evidence: Sequence[Evidence], of: Callable[[Evidence], Pair], *, bounded: bool = False
) -> Mapping[str, Any] | None:
    """Returns mean, interval and null over families; None with fewer than two that have it.

    Where a number is bounded by 0 and 1 its interval is cut there.
    """
    pairs = list[Floats]()
    for models in families_of(evidence).values():
        usable = [
            one
            for one in models
            # In a short model the block at three quarters is the last one.
            if len(original_set(one.n_blocks)) == 3 and len(one.languages) > 1
        ]
        each = np.array([of(one) for one in usable]).reshape(-1, 2)
        each = each[np.isfinite(each).all(1)]
        if len(each):
            pairs.append(each.mean(0))
    if len(pairs) < 2:
        return None
    values, nulls = np.array(pairs).T
    mean, low, high, _ = random_effects(values, np.ones(len(values)), LEVEL)
    if bounded:
        low, high = max(low, 0.0), min(high, 1.0)
    return {
        "value": mean,
        "low": low,
        "high": high,
        "null": float(nulls.mean()),
        "families": len(values),
    }


def _rows(one: Evidence) -> dict[int, int]:
    return {int(mask): row for row, mask in enumerate(one.masks)}


def _standing(objective: str) -> Callable[[Evidence], Pair]:
    def of(one: Evidence) -> Pair:
        place = standing(original_set(one.n_blocks), objective, one)
        return (float("nan") if place is None else place), 0.5

    return of


def _triple_damage(one: Evidence) -> Floats | None:
    """Returns damage that the triple leaves, (A), measured or expanded; None where it is not."""
    triple = mask_of(original_set(one.n_blocks))
    row = _rows(one).get(triple)
    return triples(one)[0].get(triple) if row is None else one.damage[row]


def _triple_saves(one: Evidence) -> Pair:
    left = _triple_damage(one)
    if left is None:
        return float("nan"), 0.0
    return float(1 - left.mean() / one.damage[_rows(one)[0]].mean()), 3 / one.n_blocks


def _triple_moves(one: Evidence) -> Pair:
    left = _triple_damage(one)
    if left is None:
        return float("nan"), 0.0
    tokens = one.tokens if one.mask_tokens is None else one.mask_tokens
    return float(spread_of(left, tokens) - one.spread[_rows(one)[0]]), 0.0


_TOGETHER: Sequence[tuple[str, str, Callable[[Evidence], Pair]]] = (
    ("damage", "share of all damage that protecting them saves", _triple_saves),
    ("damage", "share of other triples that leave less damage", _standing(OBJECTIVES[1])),
    ("spread", "change of S where they are protected, log2", _triple_moves),
    ("spread", "share of other triples that leave a smaller S", _standing(OBJECTIVES[0])),
)


# -- hypotheses -----------------------------------------------------------------------------------


def _asked(finding: Finding, thresholds: Thresholds) -> AskedHypothesis:
    worded = wordings().get(finding.hypothesis) or _own_words(finding.hypothesis)
    word = worded.get("part", "")
    part = next((p for p in finding.verdict.parts if word and word in p.name), None)
    label, primary = finding.verdict.label, finding.estimates[finding.primary]
    takes = ""
    if label == "inconclusive":
        takes = _takes(finding, thresholds)
    return AskedHypothesis(
        hypothesis=finding.hypothesis,
        written=worded["written"],
        written_label=None if part is None else part.label,
        written_because=None if part is None else part.reason,
        asked=worded["asked"],
        label=label,
        because=finding.verdict.reason,
        value=primary.value,
        low=primary.low,
        high=primary.high,
        unit=primary.unit,
        takes=takes,
    )


def _own_words(hypothesis: str) -> Mapping[str, str]:
    """Returns the wordings of a hypothesis that the origin did not write: its declaration's."""
    declared = HYPOTHESES[hypothesis]
    return {"written": "", "asked": declared.prediction}


def _takes(finding: Finding, thresholds: Thresholds) -> str:
    """Returns what an open question would take, in words."""
    primary = finding.estimates[finding.primary]
    sesoi = finding.verdict.sesoi
    if sesoi is None:
        declared = thresholds.of(finding.hypothesis)
        sesoi = float(declared["sesoi"])
    needed = families_needed(primary, sesoi)
    if needed is None:
        return "families in which it can be asked at all: see the clause"
    seen = "the effect and the spread between families that were seen"
    if needed.families is None:
        return (
            f"more than {MOST} families, at {seen}, as that lies next to the smallest of interest"
        )
    if needed.families <= primary.n:
        return "no more families: the clause that failed is another one"
    return (
        f"{needed.families} families to be {needed.towards} with a power of {POWER:.0%}, at {seen}"
    )
