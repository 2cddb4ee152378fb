"""How synergy judges what was measured: pure, no model."""

from __future__ import annotations

from typing import Any

from bitgap.disparity.formulas import original_disparity
from bitgap.experiments.protocol.controls import clear, halves
from bitgap.experiments.protocol.effects import (
    bounded_p,
    bounded_p_equivalence,
    original_ratios,
)
from bitgap.experiments.protocol.scores import eligible_languages, unpack_scores
from bitgap.experiments.synergy import EXPERIMENT, FEWEST_BLOCKS, ID
from bitgap.experiments.synergy.controls import synergy_controls
from bitgap.experiments.synergy.factorial import (
    AdditiveNull,
    additive_null,
    cell_rows,
    shows_origin_pattern,
)
from bitgap.experiments.synergy.pair_interaction import UNIT, PairInteraction
from bitgap.records import Bools, Estimate, Finding, Floats, Observations, finite
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

_STATISTIC = "Banzhaf interaction of the first and the last block"
_RATIOS = ("d_original_none", "d_original_0", "d_original_last", "d_original_0_and_last")


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges synergy: θ ≥ .1, clear, top 5 %, same sign on Δ, cells beyond the additive null."""
    n_blocks, declared = observations.facts["n_blocks"], thresholds.of(ID)
    if n_blocks < FEWEST_BLOCKS:
        return _untestable(n_blocks, thresholds)
    languages = eligible_languages(observations, ["map", "cells", "far"], readable=["cells"])
    displayed, cells = languages.displayed, unpack_scores(observations, "cells")
    pair = PairInteraction.of(observations, displayed, thresholds)
    null = additive_null(
        pair.scores, observations.arrays["masks"], n_blocks, displayed, level=thresholds.level
    )
    checks = [
        *synergy_controls(observations, pair, displayed, thresholds),
        halves(cells, 0, languages.eligible, thresholds),
    ]
    p, smallest = bounded_p(pair.draws, pair.units)
    sesoi = declared["sesoi"]
    part = Part(
        name=_STATISTIC,
        estimate=pair.theta,
        sesoi=sesoi,
        p=p,
        p_minimum=smallest,
        p_equivalence=bounded_p_equivalence(pair.draws, sesoi, pair.units),
        concurring={"per token": bounded_p_equivalence(pair.draws_per_token, sesoi, pair.units)},
    )
    further = _further(pair, null, declared["top_share"])
    ratio = original_disparity(cells)
    return EXPERIMENT.finding(
        thresholds,
        primary="banzhaf",
        estimates=pair.estimates(),
        original_measure=original_ratios(dict(zip(_RATIOS, ratio.tolist(), strict=True))),
        controls=checks,
        verdict=judge_parts(
            [part], checks, alpha=thresholds.alpha, gate=languages.gate_reason, extra=further
        ),
        sentence=_sentence(pair, null, ratio, sesoi) + languages.sentence,
        tables={
            "cells": cell_rows(cells, displayed, null, n_blocks),
            "terms": pair.rows(),
            "pairs": pair.pair_rows(),
            "variance_by_order": pair.variance_rows(),
            "additive": _additive_rows(observations, displayed, null),
            "removable": _removable(pair, sesoi),
            "further": {
                "top_pair": _is_top(pair, declared["top_share"]),
                "beyond_additive": null is not None and not null.reproduces,
            },
            "left_out": languages.left_out,
        },
    )


def _untestable(n_blocks: int, thresholds: Thresholds) -> Finding:
    """Returns the finding on a model with too few blocks."""
    gate = f"{n_blocks} blocks: the ends cannot be compared with others; {FEWEST_BLOCKS} needed"
    return EXPERIMENT.untestable(
        thresholds,
        gate,
        primary="banzhaf",
        unit=UNIT,
        part=_STATISTIC,
        original_measure={"d_original": Estimate(value=None, unit="ratio", reason=gate)},
        tables={"cells": [], "terms": [], "pairs": [], "left_out": {}},
    )


def _further(
    pair: PairInteraction, null: AdditiveNull | None, top_share: float
) -> tuple[bool, str]:
    """Returns whether what else support needs is there, and what of it is not."""
    failed = list[str]()
    rank, n_pairs = pair.rank()
    share = pair.share_of_pairs
    if rank is None:
        failed.append(f"the rank of the pair among {n_pairs} is not known: no others were scored")
    elif not pair.ranked:
        # A sample must show it with its interval; all pairs are what they are.
        if share is None or share.low is None or share.low < 1 - top_share:
            failed.append(
                f"that the pair is in the top {top_share:.0%} is not shown by {n_pairs - 1} random "
                f"pairs{_within(share)}"
            )
    elif not _is_top(pair, top_share):
        failed.append(
            f"the pair ranks {rank} of {n_pairs}, not in the top {top_share:.0%}"
            + (f" (which {n_pairs} pairs do not have)" if n_pairs * top_share < 1 else "")
        )
    if null is None:
        failed.append("the four cells cannot be compared with damage that adds up")
    elif null.reproduces:
        failed.append(
            "the four cells do not leave what damage that adds up implies, neither in damage nor "
            "in S"
        )
    on_text = pair.on_text.value
    if on_text is None or on_text <= 0:
        failed.append("the sign does not hold on the text's own likelihood")
    if turns := _sign_turns(pair):
        failed.append(turns)
    return not failed, "; ".join(failed)


def _within(share: Estimate | None) -> str:
    """Returns what share of pairs the ends beat, for a sentence."""
    if share is None or share.value is None or share.low is None or share.high is None:
        return ""
    return f": it beats {share.value:.0%} of them [{share.low:.0%}, {share.high:.0%}]"


def _is_top(pair: PairInteraction, top_share: float) -> bool:
    if not pair.ranked:
        share = pair.share_of_pairs
        return share is not None and share.low is not None and share.low >= 1 - top_share
    rank, n_pairs = pair.rank()
    return rank is not None and rank / n_pairs <= top_share


def _sign_turns(pair: PairInteraction) -> str | None:
    """Returns why the interaction is not established, where its sign hangs on the unit."""
    text, token = pair.theta.value, pair.per_token.value
    if text is None or token is None or text * token > 0:
        return None
    return f"not established: the interaction is {text:+.1%} per text and {token:+.1%} per token"


def _removable(pair: PairInteraction, sesoi: float) -> bool:
    """Returns whether the interaction is there after a logarithm and not before (Loftus 1978)."""
    return clear(pair.on_logs, 0.0) and not clear(pair.theta, sesoi)


def _sentence(pair: PairInteraction, null: AdditiveNull | None, ratio: Floats, sesoi: float) -> str:
    theta, (rank, n_pairs) = pair.theta, pair.rank()
    if theta.value is None:
        return "The interaction of the first and the last block is undefined on this text."
    within = "" if theta.low is None else f" [{theta.low:+.1%}, {theta.high:+.1%}]"
    place = f"its rank among {n_pairs} pairs is not known"
    if rank is not None and pair.ranked:
        place = f"rank {rank} of {n_pairs} pairs"
    elif rank is not None:
        place = f"rank {rank} beside {n_pairs - 1} random pairs{_within(pair.share_of_pairs)}"
    text = (
        f"Protecting the first and the last block together saves {theta.value:+.1%}{within} of "
        f"what the last block is worth beyond what they save apart ({place})"
    )
    if turns := _sign_turns(pair):
        text += f"; that is {turns}"
    elif clear(theta, sesoi):
        if null is not None and null.reproduces:
            text += ", but the four cells are within what damage that adds up gives"
    elif shows_origin_pattern(ratio):
        text += "; the origin's ratio shows its pattern all the same, so that is a ratio artefact"
    elif _removable(pair, sesoi):
        text += "; an interaction is there only after a logarithm, and is removable with it"
    return f"{text}."


def _additive_rows(
    observations: Observations, displayed: Bools, null: AdditiveNull | None
) -> list[dict[str, Any]]:
    """Returns how well damage adds up, by language, for S and for D; whether it has the pattern."""
    if null is None:
        return []
    facts = observations.facts
    names = [code for code, ok in zip(facts["languages"], displayed, strict=True) if ok]
    ordered = [facts["reference"], *(code for code in names if code != facts["reference"])]
    rows = [
        {"of": f"log K, {code}", "r2": finite(r2)}
        for code, r2 in zip(ordered, null.log_r2, strict=True)
    ]
    pattern = shows_origin_pattern(null.ratio)
    return [
        *rows,
        {"of": "S", "r2": finite(null.spread_r2)},
        {"of": "D", "r2": finite(null.disparity_r2), "origin_pattern": pattern},
    ]
