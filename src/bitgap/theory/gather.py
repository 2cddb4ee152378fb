"""From one investigated model to :class:`~bitgap.theory.evidence.Evidence`, kept in its store.

Nothing is measured here that an experiment did not measure: arrays are read off the observations
of T-002, T-003 and T-007 and off the layer map. Only the origin's three predictors of raw weights
are computed anew, as no experiment rests on them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bitgap.disparity.formulas import Sums, damage_bits, original_disparity
from bitgap.disparity.layer_map import counted_languages, shapley_of_games
from bitgap.errors import UserError
from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.protocol.error_budget import block_damage, by_language, sensitivity
from bitgap.experiments.protocol.scores import eligible_languages, unpack_scores
from bitgap.jobs.investigate import investigate
from bitgap.jobs.records import Investigation, stored_form
from bitgap.jobs.tiers import Tier
from bitgap.lab.local_errors import local_errors
from bitgap.lab.store import Store, content_key
from bitgap.quant.plan import Plan
from bitgap.quant.sets import mask_of
from bitgap.records import Bools, Finding, Floats, Integers, Observations, Scores
from bitgap.stats.mask_design import Design
from bitgap.stats.verdicts import load_thresholds
from bitgap.theory.evidence import Evidence
from bitgap.theory.forecast.expectation import Inputs
from bitgap.theory.forecast.prediction import measured_since
from bitgap.theory.packing import VERSION, pack, unpack
from bitgap.theory.roles import declared_mix

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab


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
    began = _began(lab, started)
    found = investigate(lab, tier, announce=announce)
    evidence = gather(lab, tier, found, began)
    lab.store.put_observations(key, pack(evidence))
    kept_form = stored_form(found.about, texts=found.texts, investigation=found)
    provenance = lab.provenance(started, thresholds.hash)
    lab.store.put_run("investigate", provenance, kept_form, found.findings)
    return evidence


def _began(lab: Lab, started: float) -> datetime | None:
    """Returns when measuring a model began or begins; None where its scores are older and undated.

    A store may hold scores from before this run.
    """
    try:
        before = measured_since(lab.store, lab.info.fingerprint, lab.info.name)
    except UserError:
        return None
    return before or datetime.fromtimestamp(started, UTC)


def gather(lab: Lab, tier: Tier, found: Investigation, began: datetime | None = None) -> Evidence:
    """Returns the evidence of a model that was just investigated.

    Args:
        lab: That was investigated.
        tier: The tier it was investigated at.
        found: What came out.
        began: When measuring began.
    """
    observed = {f.experiment: _observations(lab, key) for f, key in found.findings}
    findings = {f.hypothesis: f for f, _ in found.findings}
    weights, reference = observed["T-002"], lab.corpus.reference
    single = unpack_scores(weights, "single")
    fitted = tier.fitted(lab.n_blocks, lab.corpus.n_sentences)
    masks = found.map_scores
    if masks is None:
        plans = found.layer_map.design.plans(found.scheme)
        masks = lab.spread(fitted.map_sentences).score(plans, "map")
    counts, left_out = _counted(weights, masks, found)
    order = _reference_first(lab.languages, reference, counts)
    params, noise = weights.facts["params"], unpack_scores(weights, "noise")
    alike = _of_masks(single, masks, lab, fitted.map_sentences)

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
        tokens=_tokens(order, single),
        mask_sensitivity=None if alike is None else alpha(noise.select(sentences=alike)),
        mask_single=None
        if alike is None
        else _damage_by_block(order, single.select(sentences=alike)),
        mask_tokens=_tokens(order, masks),
        masks=np.array(found.layer_map.design.masks, dtype=np.int64),
        sampled=sampled_masks(found.layer_map.design),
        damage=_damage(masks, found)[:, order],
        shapley=shapley_of_games(masks, found.layer_map.design),
        original_predictors=_original_predictors(lab),
        original_disparity=original_disparity(unpack_scores(weights, "protect"))[1:],
        bits_per_byte=_bits_per_byte(single),
        left_out=left_out,
        n_parameters=lab.info.n_parameters,
        mix=mix_of(lab.info.name),
        corpus=lab.corpus.name,
        measured_from=None if began is None else began.isoformat(timespec="seconds"),
        findings=findings,
    )


def sampled_masks(design: Design) -> Bools | None:
    """Returns which masks of a design were drawn at random, (P); None where all were scored.

    Those of at most two protected or two rounded blocks are in every design, and a design says
    which further sets were asked about.
    """
    if design.complete:
        return None
    asked = {mask_of(blocks) for blocks in getattr(design, "asked", ())}
    size = np.array([mask.bit_count() for mask in design.masks])
    chosen = np.array([mask in asked for mask in design.masks])
    return ~chosen & (size > 2) & (size < design.n_blocks - 2)


def mix_of(model: str) -> str | None:
    """Returns what a model was trained on in a few words, as its folder's ``training.json`` says.

    ``text`` is text in proportion to its size; a mix is told by the languages that weigh most.
    Without such a file it is what ``roles.toml`` says, or None.
    """
    try:
        said = json.loads((Path(model) / "training.json").read_text("utf-8"))["recipe"]
        mix, half = said["mix"], said.get("half")
    except (OSError, ValueError, KeyError, TypeError):
        return declared_mix(model)
    if isinstance(mix, str):
        mix = dict(part.split("=") for part in mix.split(",") if "=" in part)
    weights = {code: float(weight) for code, weight in (mix or {}).items()}
    words = "text"
    if weights:
        most = max(weights.values())
        first = sorted(code for code, weight in weights.items() if weight == most)
        words = "even" if len(first) == len(weights) else f"more {', '.join(first)}"
    return f"{words}, half {half}" if half else words


def _tokens(order: Sequence[int], scores: Scores) -> Integers:
    return scores.counts.tokens.sum(1)[order].astype(np.int64)


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


def _of_masks(scores: Scores, masks: Scores, lab: Lab, n: int) -> Integers | None:
    """Returns which of T-002's sentences the masks were scored on; None where not all are its own.

    Both choices are spread over the text, so that the smaller is part of the larger.
    """
    alike = lab.spread(scores.n_sentences).places(n)
    if len(alike) != masks.n_sentences or alike.max(initial=-1) >= scores.n_sentences:
        return None
    same = np.array_equal(scores.counts.tokens[:, alike], masks.counts.tokens)
    return alike if same else None


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
        target=lab.info.name.rstrip("/").rsplit("/", 1)[-1],
        family=lab.info.family,
        n_blocks=lab.n_blocks,
        fingerprint=lab.info.fingerprint,
        scheme=scheme,
        languages=tuple(lab.languages[i] for i in order),
        t2=relative_errors(lab.decoder, scheme),
        log_error_ratio=logs - logs[:, :1],
        tokens=lab.text.counts.tokens.sum(1)[order].astype(np.int64),
    )
