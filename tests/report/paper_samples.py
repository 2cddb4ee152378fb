"""Runs as a store would give them, small and made by hand, for papers to be written of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bitgap.codec import from_json, to_json
from bitgap.disparity.audit import audit
from bitgap.disparity.layer_map import BestSets, LayerMap, OriginalRank, ScoredSet, make_map
from bitgap.jobs.records import Investigation
from bitgap.records import Control, Estimate, Finding, Provenance, Verdict
from bitgap.report.run import Masks, Run, run_in_hand
from bitgap.stats.mask_design import make_design
from bitgap.theory.forecast.scorecard import OBJECTIVES
from bitgap.theory.records import Theory
from score_samples import make_scores

N_BLOCKS = 6
PROVENANCE: Mapping[str, Any] = {
    "bitgap": "0.1.0", "python": "3.11.7", "torch": "2.9", "transformers": "5.1", "numpy": "2.1",
    "device": "cpu", "threads": 1, "arithmetic": "fast", "seed": 0,
    "started": "2026-03-04T05:06:07+00:00", "wall_s": 3.0, "thresholds_hash": "0123456789ab",
}  # fmt: skip


def estimate(value: float | None = 0.25, unit: str = "share") -> Estimate:
    if value is None:
        return Estimate(value=None, unit=unit, reason="nothing to measure")
    return Estimate(value=value, low=value - 0.1, high=value + 0.1, unit=unit, n=9)


def control(name: str, kind: Any = "negative", passed: bool | None = True) -> Control:
    return Control(name=name, kind=kind, passed=passed, detail=f"seen of {name}")


def finding(
    hypothesis: str = "H2.1",
    label: Any = "refuted",
    *,
    experiment: str = "T-004",
    controls: Sequence[Control] = (control("twin"), control("P3", "positive")),
    **others: Any,
) -> Finding:
    made = Finding(
        experiment=experiment,
        hypothesis=hypothesis,
        title="Residual propagation",
        primary="contrast",
        estimates={"contrast": estimate(), "other": estimate(None)},
        original_measure={"cosine": estimate(0.9)},
        controls=tuple(controls),
        verdict=Verdict(label=label, scope="this model", reason=f"{label} for its reason",
                        sesoi=0.5, p=0.01, p_holm=0.03, p_minimum=0.2),
        sentence="Errors of block 0 travel.",
        tables={},
    )  # fmt: skip
    return replace(made, **others)


def investigation(
    *findings: Finding,
    model: str = "tiny",
    languages: Sequence[str] = ("en", "he", "ja", "ar"),
    masks: Masks | None = None,
    **changed: Any,
) -> Run:
    """Returns an investigation whose audit and map are real, of damage that adds up."""
    rng = np.random.default_rng(0)
    design = make_design(N_BLOCKS)
    shape = (len(languages), 9)
    damage = rng.gamma(2, 0.05, (N_BLOCKS, len(languages)))
    damage[0] *= 6
    damage[-1] *= 4
    kept = [[layer for layer in range(N_BLOCKS) if not m >> layer & 1] for m in design.masks]
    kl = np.array([damage[rows].sum(0) for rows in kept])[:, :, None] * rng.gamma(9, 1 / 9, shape)
    scores = make_scores(kl, tokens=rng.integers(8, 40, shape), languages=languages)
    about = {
        "model": model, "model_fingerprint": "f" * 64, "n_blocks": N_BLOCKS, "corpus": "bundled",
        "sentences_dropped": 0, "languages_unreadable": {}, "arithmetic": "exact",
    } | changed  # fmt: skip
    found = Investigation(
        scheme="rtn4-g128", tier="smoke", report=audit(scores, "plan0", seed=0, draws=200),
        layer_map=make_map(scores, "rtn4-g128", design), rejected={}, links=(), work={},
        about=about, findings=tuple((f, "key") for f in findings or (finding(),)),
    )  # fmt: skip
    run = run_in_hand(Run(store="some.db", number=7, command="investigate", about=about,
                          provenance=Provenance(**PROVENANCE), investigation=found))  # fmt: skip
    # These findings have no tables, of which figures would be drawn.
    return replace(run, masks=masks, findings=())


def remade(run: Run, **changed: Any) -> Run:
    """Returns a sample of an investigation with other records; all else follows from them."""
    assert run.investigation is not None and run.provenance is not None
    again = run_in_hand(Run(store=run.store, number=run.number, command=run.command,
                            about=run.about, provenance=run.provenance,
                            investigation=replace(run.investigation, **changed)))  # fmt: skip
    return replace(again, masks=run.masks, findings=())


def small_map(origin: Sequence[int], *best: BestSets) -> LayerMap:
    """Returns a layer map with an origin's set that is not ranked, and with these best sets."""
    found = investigation().layer_map
    assert found is not None
    none = Estimate(value=None, unit="rank", reason="not all sets of its size scored")
    alone = ScoredSet(blocks=tuple(origin), damage=None, disparity=None)
    rank = OriginalRank(of=alone, sets=None, rank_damage=none, rank_disparity=none)
    design = found.design
    sampled = replace(design, masks=design.masks[:-1], orders=(tuple(range(N_BLOCKS)),))
    return replace(found, design=sampled, best=best, origin=rank)


def masks(*, reference: Sequence[float], other: Sequence[float], per_token: float = 1.0) -> Masks:
    """Returns damage of English and Hebrew with nothing protected, and with the origin's set.

    Hebrew's is told per text; per token it is ``per_token`` times that.
    """
    damage = np.array([reference, other]).T
    ratio = np.log2(damage[:, 1] / damage[:, 0])
    gap = damage[:, 1] - damage[:, 0]
    s = np.abs(ratio + np.log2(per_token)) / 2
    return Masks(
        n_blocks=N_BLOCKS, scheme="rtn4-g128", reference="en", languages=("en", "he"),
        n_sentences=9,
        complete=False, masks=(0, 0b110001), damage=damage,
        counted=np.ones_like(damage, bool), mean_damage=damage.mean(1),
        mean_damage_ends=np.stack([damage.mean(1)] * 2), disparity=ratio,
        disparity_ends=np.stack([ratio - 0.1, ratio + 0.1]), gap=gap,
        gap_ends=np.stack([gap, gap]), harm_mean=damage.mean(1), spread=s,
        spread_ends=np.stack([0.9 * s, 1.1 * s]), spread_per_text=np.abs(ratio) / 2,
        per_token=np.array([1.0, per_token]),
    )  # fmt: skip


def theory(
    *findings: Finding, damage: bool = True, spread: bool = False, forecasts: bool = False
) -> Run:
    """Returns a run over two families, in which the triple hits or misses."""

    def model(name: str, family: str) -> dict[str, Any]:
        return {
            "model": f"zoo/{name}", "family": family, "n_blocks": 4, "scheme": "rtn3-g128",
            "languages": ["en", "he"], "left_out": {"he": "collapsed"}, "damage": 0.02,
            "disparity": 0.31, "spread": 0.52, "damage_by_block": [0.4, 0.1, 0.1, 0.2],
            "ratio_by_block": [0.1, None, 0.2, 0.3], "bits_per_byte_reference": 2.5,
            "bits_per_byte": {"en": 2.5}, "fingerprint": name * 16,
        }  # fmt: skip

    hits = {"damage": damage, "spread": spread}
    summary = [
        {"families": 2, "kind": "config", "mean_percentile": 0.05 if hit else 0.47,
         "objective": name, "success": hit, "successes": 2 * hit, "who": who}
        for name, hit in hits.items()
        for who in ("origin", "forecast")
    ]  # fmt: skip
    suggestion = {"hypothesis": "the first block takes more", "value": 0.41, "low": 0.2,
                  "high": 0.6, "null": 0.25, "unit": "share", "families": 2}  # fmt: skip
    record = {
        "tier": "smoke", "thresholds_hash": PROVENANCE["thresholds_hash"],
        "models": [model("a-4", "gpt2"), model("b-4", "llama")],
        "findings": to_json(findings or (finding(), formal())),
        "pillars": [{"pillar": "synergy: both ends", "rests_on": ["synergy"], "state": "fallen"}],
        "outcomes": {"established": [], "ruled_out": [], "open": [], "suggested": [suggestion]},
        "forecasts": {"rows": [], "summary": summary, "masks": {}},
        "original_regression": [{"source": "origin, typed in", "n": 12, "r2": 0.93, "r2_null": 0.7,
                             "r2_leave_one_out": -0.61, "p": 0.0003}],
    }  # fmt: skip
    record["forecasts"]["rows"] = [forecast("a-4"), forecast("b-4")] if forecasts else []
    return run_in_hand(Run(
        store="some.db", number=9, command="theory", provenance=Provenance(**PROVENANCE),
        about={"model": "2 models", "corpus": "bundled"}, theory=from_json(Theory, record),
    ))  # fmt: skip


def forecast(name: str) -> dict[str, Any]:
    """Returns a held-out model whose triples, by every objective, are among all there are."""
    baselines = {
        who: {"blocks": [0, 1, 3], "percentile": 0.25}
        for who in ("origin", "first_three", "largest_damage")
    }
    own = {"blocks": [0, 1, 2], "percentile": 0.0, "baselines": baselines}
    return {
        "family": name, "model": f"zoo/{name}", "n_blocks": 4, "kind": "config",
        "learned_from": ["gpt2"], "masks": {}, "objectives": dict.fromkeys(OBJECTIVES, own),
    }  # fmt: skip


def formal(budget: float = 0.6, formula: float = -0.1) -> Finding:
    rungs = {"F0": budget, "F1": 0.02, "F3": formula}
    ladder = [
        {"response": "ratio", "rung": rung, "families": 2, "n_rows": 99, "r2_in_sample": r2,
         "r2_within": None, "r2_lofo": r2, "spearman_lofo": None}
        for rung, r2 in rungs.items()
    ]  # fmt: skip
    slope = {"response": "ratio", "coefficient": "alpha", "term": "variance", "mean": 0.1,
             "low": -0.1, "high": 0.3, "p_wild_cluster": 0.5, "p_model_swap": None}  # fmt: skip
    budget_row = {"model": "zoo/a-4", "masks": 15, "r2": 0.2, "spearman": 0.5, "rmse_log2": 0.1,
                  "r2_additive": 0.8, "r2_log_damage": 0.9}  # fmt: skip
    draws = {"draws": 200, "mean": -0.05, "percentile_95": 0.03}
    return finding(
        "formal",
        "inconclusive",
        experiment="formal",
        title="Do they predict?",
        tables={"ladder": ladder, "coefficients": [slope], "f0": [budget_row], "f5_draws": draws},
    )
