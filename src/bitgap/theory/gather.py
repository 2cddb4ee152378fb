"""From one investigated model to :class:`~bitgap.theory.evidence.Evidence`, kept in its store.

Nothing is measured here that an experiment did not measure: arrays are read off the observations
of T-002, T-003 and T-007 and off the layer map. Only the origin's three predictors of raw weights
are computed anew, as no experiment rests on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.codec import from_json, to_json
from bitgap.disparity.formulas import Sums, damage_bits, original_disparity
from bitgap.disparity.layer_map import counted_languages, shapley_of_games
from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.protocol.error_budget import block_damage, by_language, sensitivity
from bitgap.experiments.protocol.scores import eligible_languages, unpack_scores
from bitgap.jobs.investigate import investigate
from bitgap.jobs.records import Investigation, stored_form
from bitgap.jobs.tiers import Tier
from bitgap.lab.local_errors import local_errors
from bitgap.lab.store import Store, content_key
from bitgap.quant.plan import Plan
from bitgap.records import Bools, Finding, Floats, Observations, Scores
from bitgap.stats.verdicts import load_thresholds
from bitgap.theory.evidence import Evidence
from bitgap.theory.forecast.expectation import Inputs

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

VERSION = 3
"""Raised whenever the record changes meaning."""


def evidence_of(
    lab: Lab, tier: Tier, *, announce: Callable[[str], None] = lambda text: None
) -> Evidence:
    """Returns what the theory needs of a lab's model; measures only what its store does not hold.

    A run of the main job is put into the store beside it, as ``bitgap investigate`` would.

    Args:
        lab: Model and text.
        tier: How much text is looked at.
        announce: Told what begins, one line each.

    Raises:
        ModelError: If some language collapses at every number of bits.
    """
    import time

    thresholds, started = load_thresholds(), time.time()
    key = content_key(
        "evidence", VERSION, lab.text_key, lab.settings.seed, thresholds.hash, tier.as_key(),
        {e.id: e.version for e in CATALOG}, lab.info.name,
    )  # fmt: skip
    kept = lab.store.get_observations(key)
    if kept is not None:
        return unpack(kept)
    found = investigate(lab, tier, announce=announce)
    evidence = gather(lab, tier, found)
    lab.store.put_observations(key, pack(evidence))
    kept_form = stored_form(found.about, texts=found.texts, investigation=found)
    provenance = lab.provenance(started, thresholds.hash)
    lab.store.put_run("investigate", provenance, kept_form, found.findings)
    return evidence


def gather(lab: Lab, tier: Tier, found: Investigation) -> Evidence:
    """Returns the evidence of a model that was just investigated.

    Args:
        lab: That was investigated.
        tier: The tier it was investigated at.
        found: What came out.
    """
    observed = {f.experiment: _observations(lab, key) for f, key in found.findings}
    findings = {f.hypothesis: f for f, _ in found.findings}
    weights, reference = observed["T-002"], lab.corpus.reference
    single = unpack_scores(weights, "single")
    masks = lab.spread(tier.map_sentences).score(found.layer_map.design.plans(found.scheme), "map")
    counts, left_out = _counted(weights, masks, found)
    order = _reference_first(lab.languages, reference, counts)
    params, noise = weights.facts["params"], unpack_scores(weights, "noise")
    alike = _of_masks(single, masks)

    def alpha(scores: Scores) -> Floats:
        return by_language(
            lambda one: sensitivity(scores, one, params["noise"], params["noise_seeds"]), scores
        )[:, order]

    return Evidence(
        model=lab.info.name,
        family=lab.info.family,
        fingerprint=lab.info.fingerprint,
        scheme=found.scheme,
        languages=tuple(lab.languages[i] for i in order),
        t2=weights.arrays["t2"],
        log_variance=weights.arrays["log_variance_fixed"],
        log_dimension=_log_dimension(findings["H3.1"]),
        log_error_ratio=_error_ratio(findings["H1.3"], lab.n_blocks, lab.languages)[:, order],
        sensitivity=alpha(noise),
        single=_damage_by_block(order, single),
        mask_sensitivity=alpha(noise.select(sentences=alike)),
        mask_single=_damage_by_block(order, single.select(sentences=alike)),
        masks=np.array(found.layer_map.design.masks, dtype=np.int64),
        damage=_damage(masks, found)[:, order],
        shapley=shapley_of_games(masks, found.layer_map.design),
        original_predictors=_original_predictors(lab),
        original_disparity=original_disparity(unpack_scores(weights, "protect"))[1:],
        bits_per_byte=_bits_per_byte(single),
        left_out=left_out,
        findings=findings,
    )


def _observations(lab: Lab, key: str) -> Observations:
    kept = lab.store.get_observations(key)
    assert kept is not None, "an experiment that was just run has left observations"
    return kept


def _counted(
    weights: Observations, masks: Scores, found: Investigation
) -> tuple[Bools, dict[str, str]]:
    """Returns which languages count in single blocks and in masks, and why the others do not."""
    languages = eligible_languages(weights, ["single", "noise"], readable=["single"])
    why = dict(languages.left_out)
    in_masks = counted_languages(masks, found.layer_map.design)
    for code, ok in zip(masks.languages, in_masks, strict=True):
        if not ok:
            why.setdefault(code, "collapsed or below resolution under some mask")
    return languages.eligible & in_masks, why


def _damage(masks: Scores, found: Investigation) -> Floats:
    damage = damage_bits(masks)
    # Of a block's rounding nothing is left there but that of arithmetic.
    damage[found.layer_map.design.masks.index((1 << found.layer_map.design.n_blocks) - 1)] = 0.0
    return damage


def _reference_first(languages: Sequence[str], reference: str, counts: Bools) -> list[int]:
    first = languages.index(reference)
    # Nothing can be compared with a reference that does not count.
    others = range(len(languages)) if counts[first] else ()
    return [first, *(i for i in others if counts[i] and i != first)]


def _of_masks(scores: Scores, masks: Scores) -> range:
    """Returns the sentences that the masks were scored on, which are the first ones."""
    alike = range(masks.n_sentences)
    mine = scores.counts.tokens[:, : len(alike)]
    assert (mine == masks.counts.tokens).all(), "the layer map's text begins as T-002's does"
    return alike


def _damage_by_block(order: Sequence[int], single: Scores) -> Floats:
    return by_language(lambda one: block_damage(single, one), single)[:, order]


def _log_dimension(finding: Finding) -> Floats:
    ratios = [row["participation_ratio"] for row in finding.tables["profile"]]
    return np.log(np.array([np.nan if r is None else r for r in ratios], dtype=np.float64))


def _error_ratio(finding: Finding, n_blocks: int, languages: Sequence[str]) -> Floats:
    out = np.full((n_blocks, len(languages)), np.nan)
    for row in finding.tables["errors"]:
        out[row["block"], languages.index(row["language"])] = row["log2_ratio"]
    return out


def _bits_per_byte(scores: Scores) -> dict[str, float]:
    sums = Sums(scores)
    per_byte = (sums.nll_fp_bits / sums.bytes)[0]
    return dict(zip(scores.languages, map(float, per_byte), strict=True))


def _original_predictors(lab: Lab) -> dict[str, Floats]:
    from bitgap.lab.weight_errors import pooled_raw_statistics

    return pooled_raw_statistics(lab.decoder)


# -- keeping --------------------------------------------------------------------------------------

_ARRAYS = (
    *("t2", "log_variance", "log_dimension", "log_error_ratio", "sensitivity", "single"),
    *("mask_sensitivity", "mask_single", "masks", "damage", "original_disparity"),
)
_GROUPS = ("shapley", "original_predictors")
_STORED_AS = {
    "shapley": "worth",
    "original_predictors": "seed_predictors",
    "original_disparity": "seed_disparity",
}
"""What arrays of stored evidence are called, where that is not the field's name."""


def pack(evidence: Evidence) -> Observations:
    """Returns evidence as what a store keeps."""
    arrays = {_STORED_AS.get(name, name): getattr(evidence, name) for name in _ARRAYS}
    for group in _GROUPS:
        named: Mapping[str, Floats] = getattr(evidence, group)
        arrays |= {f"{_STORED_AS[group]}.{name}": values for name, values in named.items()}
    plain = {f.name for f in fields(Evidence)} - set(_ARRAYS) - set(_GROUPS) - {"findings"}
    facts: dict[str, Any] = {name: getattr(evidence, name) for name in sorted(plain)}
    facts["findings"] = to_json(evidence.findings)
    return Observations(experiment="evidence", version=VERSION, arrays=arrays, facts=facts)


def unpack(kept: Observations) -> Evidence:
    """Returns evidence from what a store kept."""
    facts: dict[str, Any] = dict(kept.facts)
    groups: dict[str, Any] = {
        group: {
            name.removeprefix(f"{_STORED_AS[group]}."): values
            for name, values in kept.arrays.items()
            if name.startswith(f"{_STORED_AS[group]}.")
        }
        for group in _GROUPS
    }
    findings = {h: from_json(Finding, f) for h, f in facts.pop("findings").items()}
    facts["languages"] = tuple(facts["languages"])
    arrays: dict[str, Any] = {name: kept.arrays[_STORED_AS.get(name, name)] for name in _ARRAYS}
    return Evidence(**facts, **groups, **arrays, findings=findings)


def stored_evidence(store: Store) -> list[Evidence]:
    """Returns the evidence of every model in a store, a model's newest where there are several."""
    newest: dict[str, Evidence] = {}
    for kept in store.observations_of("evidence"):
        if kept.version == VERSION:
            one = unpack(kept)
            newest.pop(one.fingerprint, None)
            newest[one.fingerprint] = one
    return list(newest.values())


def inputs_of_lab(lab: Lab, scheme: str) -> Inputs:
    """Returns what may be known of a model before one of its masks is scored.

    Its weights, and one pass of full precision over the text; no plan is scored.

    Args:
        lab: Model and text.
        scheme: How blocks will be rounded.
    """
    from bitgap.lab.linear_inputs import linear_inputs
    from bitgap.lab.weight_errors import relative_errors

    sums = linear_inputs(lab, Plan.uniform(scheme, lab.n_blocks))
    ones = np.ones((1, sums["error"].shape[-1]))
    errors = local_errors(sums["error"], sums["output"], sums["block"].astype(np.int64), ones)[0]
    reference = lab.corpus.reference
    order = _reference_first(lab.languages, reference, np.ones(len(lab.languages), dtype=bool))
    logs = np.log2(errors[:, order])
    return Inputs(
        target=lab.info.name,
        family=lab.info.family,
        n_blocks=lab.n_blocks,
        fingerprint=lab.info.fingerprint,
        scheme=scheme,
        languages=tuple(lab.languages[i] for i in order),
        t2=relative_errors(lab.decoder, scheme),
        log_error_ratio=logs - logs[:, :1],
    )
