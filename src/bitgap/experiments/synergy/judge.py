"""How synergy judges what was measured: pure, no model."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitgap.disparity.formulas import seed_disparity
from bitgap.experiments.protocol.controls import clear, halves
from bitgap.experiments.protocol.scores import (
    closed,
    countable,
    scores_of,
    told_left_out,
)
from bitgap.experiments.synergy import EXPERIMENT, FEWEST_BLOCKS, ID
from bitgap.experiments.synergy.cells import (
    AdditiveNull,
    additive_null,
    cell_rows,
    shows_origin_pattern,
)
from bitgap.experiments.synergy.controls import synergy_controls
from bitgap.experiments.synergy.pairs import Terms, terms_of
from bitgap.records import Bools, Estimate, Finding, Floats, Observations
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges synergy: θ ≥ .02, clear, top 5 %, same sign on Δ, cells beyond the additive null."""
    n_blocks, declared = observations.facts["n_blocks"], thresholds.of(ID)
    if n_blocks < FEWEST_BLOCKS:
        return _unjudged(n_blocks, thresholds)
    parts = [name for name in ("map", "corners") if f"{name}_kl" in observations.arrays]
    counts, left_out = countable(observations, parts, readable=["cells"])
    gate = closed(counts, left_out)
    # Where no language may enter, the numbers are still shown, of all of them, beside the gate.
    shown = counts if gate is None else np.ones_like(counts)
    terms, cells = terms_of(observations, shown, thresholds), scores_of(observations, "cells")
    null = additive_null(scores_of(observations, "map"), observations.arrays["masks"], n_blocks,
                         shown, level=thresholds.level)  # fmt: skip
    checks = [
        *synergy_controls(observations, terms, shown, thresholds),
        halves(cells, 0, counts, thresholds),
    ]
    p, smallest = terms.p()
    part = Part(name="Banzhaf interaction of the first and the last block", p=p, p_minimum=smallest,
                estimate=terms.theta, sesoi=declared["sesoi"])  # fmt: skip
    verdict = judge_parts([part], checks, alpha=thresholds.alpha, gate=gate,
                          extra=_further(terms, null, declared["top_share"]))  # fmt: skip
    ratio = seed_disparity(cells)
    return Finding(
        experiment=ID,
        hypothesis=ID,
        title=EXPERIMENT.title,
        primary="banzhaf",
        estimates=terms.estimates(),
        seed_measure=_seed_measure(ratio),
        controls=tuple(checks),
        verdict=verdict,
        sentence=_sentence(terms, null, ratio, declared["sesoi"]) + told_left_out(left_out),
        tables={
            "cells": cell_rows(cells, shown, null, n_blocks),
            "terms": terms.rows(),
            "pairs": terms.pair_rows(),
            "variance_by_order": terms.variance_rows(),
            "additive": _additive_rows(observations, shown, null),
            "removable": _removable(terms, declared["sesoi"]),
            "further": {
                "top_pair": _is_top(terms, declared["top_share"]),
                "beyond_additive": null is not None and not null.reproduces,
            },
            "left_out": left_out,
        },
        thresholds_hash=thresholds.hash,
    )


def _unjudged(n_blocks: int, thresholds: Thresholds) -> Finding:
    """Returns the finding on a model with too few blocks."""
    gate = f"{n_blocks} blocks: the ends cannot be compared with others; {FEWEST_BLOCKS} needed"
    none = Estimate(value=None, unit="share of K(none)", reason=gate)
    part = Part(name="Banzhaf interaction of the first and the last block", estimate=none, p=None,
                p_minimum=1.0, sesoi=thresholds.of(ID)["sesoi"])  # fmt: skip
    return Finding(
        experiment=ID,
        hypothesis=ID,
        title=EXPERIMENT.title,
        primary="banzhaf",
        estimates={"banzhaf": none},
        seed_measure={"d_seed": Estimate(value=None, unit="ratio", reason=gate)},
        controls=(),
        verdict=judge_parts([part], [], alpha=thresholds.alpha, gate=gate),
        sentence=f"Not testable here: {gate}.",
        tables={"cells": [], "terms": [], "pairs": [], "left_out": {}},
        thresholds_hash=thresholds.hash,
    )


def _further(terms: Terms, null: AdditiveNull | None, top_share: float) -> tuple[bool, str]:
    """Returns whether what else support needs is there, and what of it is not."""
    failed = []
    rank, n_pairs = terms.rank()
    if not _is_top(terms, top_share):
        failed.append(
            f"the pair ranks {rank} of {n_pairs}, not in the top {top_share:.0%}"
            + (f" (which {n_pairs} pairs do not have)" if n_pairs * top_share < 1 else "")
        )
    if null is None:
        failed.append("the four cells have no D to compare with the additive null")
    elif null.reproduces:
        failed.append(
            "the four cells do not leave what damage that adds up implies: the apparent synergy "
            "may be a ratio artefact"
        )
    on_text = terms.on_text.value
    if on_text is None or on_text <= 0:
        failed.append("the sign does not hold on the text's own likelihood")
    return not failed, "; ".join(failed)


def _is_top(terms: Terms, top_share: float) -> bool:
    rank, n_pairs = terms.rank()
    return rank / n_pairs <= top_share


def _removable(terms: Terms, sesoi: float) -> bool:
    """Returns whether the interaction is there after a logarithm and not before (Loftus 1978)."""
    return clear(terms.on_logs, 0.0) and not clear(terms.theta, sesoi)


def _seed_measure(ratio: Floats) -> dict[str, Estimate]:
    why, unit = "the origin gave no uncertainty", "mean ratio of relative perplexity increases"
    names = ("d_seed_none", "d_seed_0", "d_seed_last", "d_seed_0_and_last")
    return {
        name: Estimate(value=float(value), unit=unit, reason=why)
        if np.isfinite(value)
        else Estimate(value=None, unit=unit, reason="the reference's increase is not above 0")
        for name, value in zip(names, ratio, strict=True)
    }


def _sentence(terms: Terms, null: AdditiveNull | None, ratio: Floats, sesoi: float) -> str:
    theta, (rank, n_pairs) = terms.theta, terms.rank()
    if theta.value is None:
        return "The interaction of the first and the last block is undefined on this text."
    within = "" if theta.low is None else f" [{theta.low:+.1%}, {theta.high:+.1%}]"
    told = (
        f"Protecting the first and the last block together saves {theta.value:+.1%}{within} of the "
        f"damage beyond what they save apart, rank {rank} of {n_pairs} pairs"
    )
    if clear(theta, sesoi):
        if null is not None and null.reproduces:
            told += (
                ", but the four ratios are within what damage that adds up gives: maybe an artefact"
            )
    elif shows_origin_pattern(ratio):
        told += "; the origin's ratio shows its pattern all the same, so that is a ratio artefact"
    elif _removable(terms, sesoi):
        told += "; an interaction is there only after a logarithm, and is removable with it"
    return f"{told}."


def _additive_rows(
    observations: Observations, shown: Bools, null: AdditiveNull | None
) -> list[dict[str, Any]]:
    """Returns how well damage adds up, by language and for D; whether the null has the pattern."""
    if null is None:
        return []
    facts = observations.facts
    names = [code for code, ok in zip(facts["languages"], shown, strict=True) if ok]
    ordered = [facts["reference"], *(code for code in names if code != facts["reference"])]
    rows = [
        {"of": f"log K, {code}", "r2": float(r2) if np.isfinite(r2) else None}
        for code, r2 in zip(ordered, null.log_r2, strict=True)
    ]
    r2 = null.disparity_r2
    return [*rows, {"of": "D", "r2": r2 if np.isfinite(r2) else None,
                    "origin_pattern": shows_origin_pattern(null.ratio)}]  # fmt: skip
