"""depth · depth: is {0, round(.75 L), L−1} among the best triples to protect, and why its middle?

Prediction: protecting the first, the last and the block at three quarters evens out languages, and
saves damage, better than nine in ten other triples do. Method: all C(L,3) triples are scored, and
θ is the share of the others that the origin's triple beats, by |D| and by mean damage K; both must
reach .9 (intersection–union). Against protecting nothing the triple may not level down (neither the
reference's K nor mean or largest harm H may rise), and D and G must move the same way. What each
block j adds once {0, L−1} are protected is told beside its Shapley value, its worth averaged over
all that may be protected already: where the two agree, the middle block is worth what it is worth
on its own, and nothing is to be explained by the ends. Intervals resample sentences; p is the share
of triples that may be at least as good at the interval's worse end, so that it is never under
1/C(L,3).

Sources: Shapley 1953, Mittelstadt 2023 (levelling down); the triple is the origin's. Unit and
direction: share of other triples, up to 1, high if the claim holds. Exploratory: outside the family
that Holm is taken over. Cost: the layer map's masks, shared with it (where the map is a sample,
triples on top); controls on a few sentences and triples come on top. Refuted if the interval of
either share lies below .9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.damage import (
    Bools,
    Sums,
    damage_bits,
    disparity,
    gap,
    harm_max,
    harm_mean,
    seed_disparity,
)
from bitgap.experiments.charts import lines, side_by_side
from bitgap.experiments.controls import halves
from bitgap.experiments.experiment import Cost, Experiment
from bitgap.experiments.kept_scores import (
    closed,
    countable,
    facts_of,
    keep,
    scores_of,
    told_left_out,
)
from bitgap.experiments.layer_gains import LayerGains
from bitgap.experiments.mask_controls import layers_in, random_kl
from bitgap.experiments.triple_controls import biased_kl, depth_controls
from bitgap.experiments.triple_ranks import beaten_share, log_disparity, share_estimate, share_p
from bitgap.lab.tree import PlanTree
from bitgap.layer_map import LARGEST_FACTORIAL, Design, make_design, origin_set
from bitgap.quant.plan import Plan, mask_plans
from bitgap.records import Estimate, Finding, Floats, Observations, Scores
from bitgap.stats.interactions import mask_of
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

ID = "depth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    map_sentences: int = 16
    """Sentences that masks are scored on; those of the layer map, so that it is shared."""
    complete: bool = True
    """Whether all masks are scored where L allows it; as the layer map does."""
    most_triples: int = 600
    """Triples scored beyond a sampled map: all of them up to L = 16, none of them above."""
    control_sentences: int = 12
    """Sentences the controls are run on; a rank that counts shows on few."""
    control_triples: int = 39
    """Random triples that a control's triple is ranked among: p can then reach 1/40, and under 20
    the untrained twin could not fail."""
    planted_strength: float = 0.2
    """Root mean square of P2's error over that of the state: larger than rounding's own."""
    planted_seeds: int = 20
    """How often P2 is planted, each time in another triple; the method's number."""


# -- measurement ----------------------------------------------------------------------------------


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures damage under every triple, and what each block is worth.

    Arrays: kept scores (:mod:`~bitgap.experiments.kept_scores`) of the parts ``base`` (∅, {0, L−1})
    and ``triples`` (T plans; absent where not all were scored); ``triples`` (T), their masks;
    ``shapley_kl`` and ``shapley_nll`` (L x A x N), Shapley values of −KL and −NLL in nats; on a few
    sentences, the origin's triple first, ``random_kl`` (1+T' x A' x N) of an untrained twin, and
    ``biased_kl`` (S x 1+T' x A' x N) of S plantings of P2, the planted triple first.
    """
    n = lab.n_blocks
    part = lab.first(params.map_sentences)
    design = make_design(n, seed=lab.settings.seed, complete=_complete(n, params))
    masks = triples_of(n)
    testable = len(origin_set(n)) == 3 and (design.complete or len(masks) <= params.most_triples)
    parts = {"base": mask_plans(scheme, n, (0, mask_of((0, n - 1))))}
    arrays: dict[str, Any] = {"triples": np.array(masks, dtype=np.int64)}
    missing: dict[str, str] = {}
    if testable:
        parts["triples"] = mask_plans(scheme, n, masks)
        twins, missing = _measure_controls(lab, scheme, params, masks)
        arrays |= twins
    # The map first: what it holds already is not run again for triples that it lacks.
    mapped = part.score(design.plans(scheme), ID)
    wanted = [plan for plans in parts.values() for plan in plans]
    scores = mapped if design.complete else part.score(wanted, ID)
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={**keep(scores, parts), **arrays, **_shapley(mapped, design)},
        facts={
            "scheme": scheme,
            "n_blocks": n,
            "complete": design.complete,
            "params": asdict(params),
            **facts_of(scores),
            **missing,
        },
    )


def _complete(n_blocks: int, params: Params) -> bool:
    return params.complete and n_blocks <= LARGEST_FACTORIAL


def triples_of(n_blocks: int) -> list[int]:
    """Returns the masks of all sets of three blocks."""
    return [mask_of(triple) for triple in combinations(range(n_blocks), 3)]


def _shapley(mapped: Scores, design: Design) -> dict[str, Floats]:
    return {
        "shapley_kl": design.shapley(-mapped.kl_nats),
        "shapley_nll": design.shapley(-mapped.nll_nats),
    }


def _measure_controls(
    lab: Lab, scheme: str, params: Params, masks: list[int]
) -> tuple[dict[str, Any], dict[str, str]]:
    few = lab.first(params.control_sentences)
    rng, mine = np.random.default_rng(lab.settings.seed), mask_of(origin_set(lab.n_blocks))
    others = [m for m in (masks[i] for i in rng.permutation(len(masks))) if m != mine]
    planted, missing = biased_kl(
        few,
        scheme,
        masks,
        others=params.control_triples,
        plantings=params.planted_seeds,
        strength=params.planted_strength,
    )
    untrained = random_kl(few, scheme, [mine, *others[: params.control_triples]])
    return {"random_kl": untrained, **planted}, missing


# -- judgement ------------------------------------------------------------------------------------


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges depth: the triple beats .9 of the others by |D| and by K, and levels nobody down."""
    n, arrays = observations.facts["n_blocks"], observations.arrays
    scored = [part for part in ("base", "triples") if f"{part}_kl" in arrays]
    counts, left_out = countable(observations, scored, readable=scored)
    gate = _untestable(n, len(scored) == 2) or closed(counts, left_out)
    shown = counts if counts.any() else np.ones_like(counts)
    base = scores_of(observations, "base")
    gains = LayerGains.of(observations, shown, thresholds)
    shares, checks, extra = _nothing(gate), [], (True, "")
    if len(scored) == 2:
        mine = int(np.flatnonzero(arrays["triples"] == mask_of(origin_set(n)))[0])
        shares = _shares(observations, mine, shown, thresholds)
        checks = [
            *depth_controls(observations, mine, shown, thresholds),
            halves(base, 0, counts, thresholds),
        ]
        extra = _guards(observations, mine, shown)
    parts = [
        _part(name, share, len(arrays["triples"]), thresholds) for name, share in shares.items()
    ]
    return Finding(
        experiment=ID,
        hypothesis=ID,
        title=EXPERIMENT.title,
        primary="beats_disparity",
        estimates={**shares, **gains.of_the_middle()},
        seed_measure=_seed_measure(observations, shown),
        controls=tuple(checks),
        verdict=judge_parts(parts, checks, alpha=thresholds.alpha, gate=gate, extra=extra),
        sentence=_sentence(shares, gains, gate) + told_left_out(left_out),
        tables={
            "layers": gains.rows(),
            "triples": _triple_rows(observations, shown),
            "left_out": left_out,
        },
        thresholds_hash=thresholds.hash,
    )


def _untestable(n_blocks: int, scored: bool) -> str | None:
    if len(origin_set(n_blocks)) < 3:
        return f"{n_blocks} blocks: {{0, round(.75 L), L−1}} names no three"
    if not scored:
        return f"not all of {math.comb(n_blocks, 3)} triples were scored"
    return None


def _nothing(gate: str | None) -> dict[str, Estimate]:
    none = Estimate(value=None, unit="share of other triples", reason=gate or "not scored")
    return {"beats_disparity": none, "beats_damage": none}


def _shares(
    observations: Observations, mine: int, shown: Bools, thresholds: Thresholds
) -> dict[str, Estimate]:
    """Returns the share of triples that the origin's beats, by |D| and by mean K."""
    kl, facts = observations.arrays["triples_kl"], observations.facts
    logs = log_disparity(kl, shown, facts["languages"].index(facts["reference"]))
    damage, n = kl[:, shown].mean(1), kl.shape[-1]
    by = {
        "beats_disparity": beaten_share(lambda w: np.abs(logs(w)), mine),
        "beats_damage": beaten_share(lambda w: w @ damage.T, mine),
    }
    return {name: share_estimate(statistic, n, thresholds) for name, statistic in by.items()}


def _part(name: str, share: Estimate, n_triples: int, thresholds: Thresholds) -> Part:
    p, smallest = share_p(share, max(n_triples, 1))
    what = "|D|" if name == "beats_disparity" else "damage"
    return Part(name=f"share of triples beaten by {what}", estimate=share, p=p, p_minimum=smallest,
                sesoi=thresholds.of(ID)["sesoi"])  # fmt: skip


def _guards(observations: Observations, mine: int, shown: Bools) -> tuple[bool, str]:
    """Returns whether the triple levels nobody down and moves D and G the same way, or why not."""
    none, triple = _measures(scores_of(observations, "base"), 0, shown), _measures(
        scores_of(observations, "triples"), mine, shown
    )  # fmt: skip
    risen = [
        name for name in ("damage_reference", "harm_mean", "harm_max") if triple[name] > none[name]
    ]
    failed = [f"levelling down: {', '.join(risen)} rises under the triple"] if risen else []
    moved = [triple[name] - none[name] for name in ("disparity", "gap")]
    if not moved[0] * moved[1] > 0:
        failed.append("D and G do not move the same way")
    return not failed, "; ".join(failed)


def _measures(scores: Scores, row: int, shown: Bools) -> dict[str, float]:
    one = scores.select(plans=[scores.plans[row]])
    values = {
        "damage": damage_bits(one)[:, shown].mean(-1),
        "damage_reference": Sums(one).against(damage_bits(one))[:, 0],
        "harm_mean": harm_mean(one, languages=shown),
        "harm_max": harm_max(one, languages=shown),
        "disparity": disparity(one, languages=shown),
        "gap": gap(one, languages=shown),
    }
    return {name: float(value[0]) for name, value in values.items()}


def _seed_measure(observations: Observations, shown: Bools) -> dict[str, Estimate]:
    """Returns the origin's ratio of the ends and of the triple, and the triple's rank by it."""
    why, unit = "the origin gave no uncertainty", "mean ratio of relative perplexity increases"
    found = {"d_seed_ends": (float(seed_disparity(scores_of(observations, "base"))[1]), unit)}
    if "triples_kl" in observations.arrays:
        ratio = seed_disparity(scores_of(observations, "triples"))
        triples = observations.arrays["triples"]
        mine = int(
            np.flatnonzero(triples == mask_of(origin_set(observations.facts["n_blocks"])))[0]
        )
        found["d_seed_triple"] = (float(ratio[mine]), unit)
        rank = float((ratio < ratio[mine]).sum() + 1) if np.isfinite(ratio[mine]) else math.nan
        found["rank_by_d_seed"] = (rank, f"rank among {len(ratio)} triples, 1 the smallest")
    return {
        name: Estimate(value=value, unit=of, reason=why)
        if math.isfinite(value)
        else Estimate(value=None, unit=of, reason="the reference's increase is not above 0")
        for name, (value, of) in found.items()
    }


def _sentence(shares: Mapping[str, Estimate], gains: LayerGains, gate: str | None) -> str:
    by_d, by_k = shares["beats_disparity"].value, shares["beats_damage"].value
    told = gains.told()
    if by_k is None:
        return f"The triple's rank is not testable here ({gate}); {told}."
    levels = "an undefined share" if by_d is None else f"{by_d:.0%}"
    return (
        f"{gains.name_of_triple()} beats {levels} of the other triples by |D| and {by_k:.0%} by "
        f"damage; {told}."
    )


def _triple_rows(observations: Observations, shown: Bools) -> list[dict[str, Any]]:
    """Returns the best ten triples by damage and by |D|, and the origin's, with both ranks."""
    if "triples_kl" not in observations.arrays:
        return []
    scores, triples = scores_of(observations, "triples"), observations.arrays["triples"]
    damage = damage_bits(scores)[:, shown].mean(-1)
    d = disparity(scores, languages=shown)
    by_k, by_d = (values.argsort().argsort() for values in (damage, np.abs(d)))
    mine = mask_of(origin_set(observations.facts["n_blocks"]))
    return [
        {
            "layers": list(layers_in(int(mask))),
            "origin": int(mask) == mine,
            "damage": float(damage[t]),
            "rank_damage": int(by_k[t]) + 1,
            "disparity": float(d[t]) if np.isfinite(d[t]) else None,
            "rank_disparity": int(by_d[t]) + 1 if np.isfinite(d[t]) else None,
        }
        for t, mask in enumerate(triples)
        if by_k[t] < 10 or by_d[t] < 10 or int(mask) == mine
    ]


# -- figure ---------------------------------------------------------------------------------------


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns what each block adds once the ends are protected, beside its Shapley value."""
    charts = []
    for game, title, unit in (
        ("damage", "What a block saves of the damage", "share of K(none)"),
        ("gap", "What a block takes off the gap G", "bits per English character"),
    ):
        rows = [
            {"block": row["block"], "gain": row[f"{kind}_{game}"], "as": name}
            | {end: row[f"{kind}_{game}_{end}"] for end in ("low", "high")}
            for row in finding.tables["layers"]
            for kind, name in (("shapley", "Shapley value"), ("added", "added to {0, L−1}"))
            if row.get(f"{kind}_{game}") is not None
        ]
        if rows:
            charts.append(
                lines(rows, title=title, x="block", y="gain", series="as", x_title="block",
                      y_title=unit, interval=("low", "high"), rules={"": 0.0})
            )  # fmt: skip
    return side_by_side(*charts)


def _requests(n: int) -> list[list[Plan]]:
    """Returns the plans of each part that is scored, full precision left out."""
    params, scheme = Params(), "rtn4-g128"
    asked = [make_design(n, complete=_complete(n, params)).plans(scheme)]
    if not _complete(n, params) and math.comb(n, 3) <= params.most_triples:
        asked.append(mask_plans(scheme, n, triples_of(n)))
    return [[plan for plan in plans if not plan.is_full_precision] for plans in asked]


EXPERIMENT = Experiment(
    id=ID,
    hypothesis=ID,
    title="Depth",
    question="Is {0, round(.75 L), L−1} among the best three blocks to protect, and why its "
    "middle?",
    phase=3,
    value="medium",
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
