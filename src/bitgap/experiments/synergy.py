"""synergy · synergy: do the first and the last block protect more together than apart?

Prediction: protecting blocks 0 and L−1 together saves more damage than protecting each saves alone,
more so than for other pairs. Method: mean damage K over languages is measured under all 2^L sets of
protected blocks (above L = 14 under all sets of at most two blocks, their complements, and the four
corners of the pair at random backgrounds). θ is the Banzhaf interaction of {0, L−1} on −K over
K(∅): Δ_ij averaged over every background of other protected blocks, above 0 where joint protection
beats the sum. On sampled backgrounds it is unbiased, and its interval also resamples them. θ must
be clear, among the top 5 % of pairs, and of the same sign on the text's own likelihood Δ; and the
four cells D(∅), D({0}), D({last}), D({0, last}) must leave what damage that adds up implies, since
adding up already looks like synergy in a ratio of languages. Where they do not, the verdict says
that the apparent synergy may be a ratio artefact. An interaction that is there only after
a logarithm is called removable (Loftus 1978).

Sources: Grabisch & Roubens 1999 (interaction indices), Owen 1972 (Banzhaf), Loftus 1978 (removable
interactions). Unit and direction: share of K(∅), > 0 for synergy. p is the share of resampled texts
without one, and never under 2^−N: N sentences that agree by chance do so as often. Cost: the layer
map's masks, shared with it; controls on a few sentences come on top. Refuted if the interval of θ
lies below its smallest effect of interest.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.damage import Bools, seed_disparity
from bitgap.experiments.charts import (
    SIZE,
    colour,
    framed_ends,
    heading,
    matrix,
    side_by_side,
    tip,
)
from bitgap.experiments.controls import clear, halves
from bitgap.experiments.experiment import Cost, Experiment
from bitgap.experiments.four_cells import (
    AdditiveNull,
    additive_null,
    cell_masks,
    cell_rows,
    shows_origin_pattern,
)
from bitgap.experiments.kept_scores import (
    closed,
    countable,
    facts_of,
    keep,
    scores_of,
    told_left_out,
)
from bitgap.experiments.mask_controls import (
    cancelling_kl,
    random_kl,
    synergy_controls,
)
from bitgap.experiments.pair_terms import Terms, terms_of
from bitgap.lab.tree import PlanTree
from bitgap.layer_map import LARGEST_FACTORIAL, make_design
from bitgap.quant.plan import Plan, mask_plans
from bitgap.records import Estimate, Finding, Floats, Observations
from bitgap.stats.interactions import corner_masks, sample_backgrounds
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

ID = "synergy"

FEWEST_BLOCKS = 4
"""Below it there is no pair inside to compare the ends with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    map_sentences: int = 16
    """Sentences that masks are scored on; those of the layer map, so that it is shared."""
    complete: bool = True
    """Whether all masks are scored where L allows it; as the layer map does."""
    background_twins: int = 16
    """Random backgrounds, each with its complement, where masks are sampled: an error of some
    eighth of one background's spread."""
    control_twins: int = 2
    """Backgrounds of controls, each with its complement; a planted interaction is on all alike."""
    control_sentences: int = 12
    """Sentences the controls are run on; an effect of the size that counts shows on few."""
    planted_strength: float = 0.1
    """Root mean square of P3's error over that of the state, as where errors are traced (T-004)."""
    planted_seeds: int = 20
    """How often P3 is planted, each time in another direction; the method's number."""


# -- measurement ----------------------------------------------------------------------------------


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures damage under the masks of the layer map, and what the controls need.

    Arrays: kept scores (:mod:`~bitgap.experiments.kept_scores`) of the parts ``map`` (P plans),
    ``cells`` (∅, {0}, {last}, both) and, where masks are sampled, ``corners`` (4B plans, those of
    each background in turn); ``masks`` (P); on a few sentences ``random_kl`` (1+4B' x A' x N) of an
    untrained twin and ``cancelling_kl`` (S x 1+4B' x A' x N) of S plantings of P3, both ∅ first.
    """
    n = lab.n_blocks
    part = lab.first(params.map_sentences)
    design = make_design(n, seed=lab.settings.seed, complete=_complete(n, params))
    parts = {"map": design.plans(scheme)}
    twins: dict[str, Any] = {}
    missing: dict[str, str] = {}
    if n >= FEWEST_BLOCKS:
        parts["cells"] = mask_plans(scheme, n, cell_masks(n))
        if not design.complete:
            parts["corners"] = mask_plans(
                scheme, n, _corners(n, params.background_twins, lab.settings.seed)
            )
        twins, missing = _measure_controls(lab, scheme, params)
    # A part at a time: what one holds already is not run again for what another lacks.
    scored = {name: part.score(plans, ID) for name, plans in parts.items()}
    kept = [keep(scores, {name: parts[name]}) for name, scores in scored.items()]
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={**dict(ChainMap(*kept)), "masks": np.array(design.masks), **twins},
        facts={
            "scheme": scheme,
            "n_blocks": n,
            "complete": design.complete,
            "params": asdict(params),
            **facts_of(scored["map"]),
            **missing,
        },
    )


def _complete(n_blocks: int, params: Params) -> bool:
    return params.complete and n_blocks <= LARGEST_FACTORIAL


def _corners(n_blocks: int, twins: int, seed: int) -> list[int]:
    """Returns the masks of the pair's corners at random backgrounds, four a background."""
    pair = (0, n_blocks - 1)
    backgrounds = sample_backgrounds(n_blocks, pair, twins, seed)
    return [mask for corners in corner_masks(backgrounds, pair) for mask in corners]


def _measure_controls(
    lab: Lab, scheme: str, params: Params
) -> tuple[dict[str, Floats], dict[str, str]]:
    few = lab.first(params.control_sentences)
    masks = [0, *_corners(lab.n_blocks, params.control_twins, lab.settings.seed)]
    planted, missing = cancelling_kl(
        few, scheme, masks, n_plantings=params.planted_seeds, strength=params.planted_strength
    )
    return {"random_kl": random_kl(few, scheme, masks), **planted}, missing


# -- judgement ------------------------------------------------------------------------------------


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


# -- figure ---------------------------------------------------------------------------------------


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns the interaction of every two blocks, and D of the four cells beside the null's."""
    charts = [
        matrix(
            finding.tables["pairs"],
            title="What two blocks protect together beyond the sum",
            x="first",
            y="second",
            value="interaction",
            x_title="block",
            y_title="block",
            name="share of K(none)",
            signed=True,
            outlined=framed_ends(finding.tables["pairs"], "first", "second"),
        )
    ]
    rows = [
        {"protected": row["protected"], "disparity": row[name], "of": of}
        for row in finding.tables["cells"]
        for of, name in (("measured", "disparity"), ("if damage added up", "additive_disparity"))
        if row.get(name) is not None
    ]
    if rows:
        charts.append(_cells_chart(rows))
    return side_by_side(*(chart for chart in charts if chart["data"]["values"]))


def _cells_chart(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names, series = (list(dict.fromkeys(row[key] for row in rows)) for key in ("protected", "of"))
    of = colour("of", series)
    shown = {
        "x": {"field": "protected", "type": "nominal", "title": "protected", "sort": names,
              "axis": {"labelAngle": 0}},
        "y": {"field": "disparity", "type": "quantitative", "title": "D, log2 ratio"},
        "color": of,
        "shape": of,
        "tooltip": tip(("protected", "protected:"), ("of", "number:"), ("disparity", "D")),
    }  # fmt: skip
    # Moved apart by the mark: a scale of offsets would change the matrix beside it.
    layers = [
        {"data": {"values": [row for row in rows if row["of"] == name]}, "encoding": shown,
         "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1, "xOffset": 16 * k - 8}}
        for k, name in enumerate(series)
    ]  # fmt: skip
    title = heading("D with neither, one or both ends protected")
    return {"title": title, **SIZE, "data": {"values": rows}, "layer": layers}


def _requests(n: int) -> list[list[Plan]]:
    """Returns the plans of each part that is scored, full precision left out."""
    params, scheme = Params(), "rtn4-g128"
    asked = [make_design(n, complete=_complete(n, params)).plans(scheme)]
    if not _complete(n, params):
        asked.append(mask_plans(scheme, n, _corners(n, params.background_twins, 0)))
    return [[plan for plan in plans if not plan.is_full_precision] for plans in asked]


EXPERIMENT = Experiment(
    id=ID,
    hypothesis=ID,
    title="Synergy",
    question="Do the first and the last block protect more together than apart?",
    phase=3,
    value="high",
    cost=Cost(
        block_evaluations=lambda n: sum(
            PlanTree(plans).work().block_evaluations for plans in _requests(n)
        ),
        head_evaluations=lambda n: sum(map(len, _requests(n))),
        of_map=True,
    ),
    params=Params(),
    measure=measure,
    judge=judge,
    figure=figure,
)
