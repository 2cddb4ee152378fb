"""A run as pages, figures and papers read it: the one just made, or one read back from a store.

:func:`run_in_hand` makes it of what a command has in memory, :func:`read_run` of what the store
holds: findings judged again from stored observations and today's thresholds, and the damage of
every set of protected layers read off the stored scores that the run names. Both give the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bitgap.disparity.formulas import Sums, damage_bits, disparity, gap, harm_mean, resample, usable
from bitgap.disparity.layer_map import DRAWS, Design, make_design
from bitgap.errors import UsageError
from bitgap.jobs.results import judged_again
from bitgap.lab.store import Store, as_stored, assemble
from bitgap.quant.plan import Plan
from bitgap.records import Bools, Finding, Floats, Provenance, Scores
from bitgap.stats.bootstrap import bootstrap_weights, central_range

LATEST = "latest"


_RUN = re.compile(r"(?:(?P<store>.+):)?(?P<run>\d+|latest)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """What every scored set of protected layers does; rows as ``masks``, columns as ``languages``.

    Damage, gap and harm are in bits per English character, disparity in log2 ratio; NaN where a
    number has no value. Ends are of 95 % intervals over sentences, as the layer map has them.
    """

    n_blocks: int
    scheme: str
    reference: str
    languages: tuple[str, ...]
    n_sentences: int
    complete: bool
    """Whether these are all 2^L sets."""
    masks: tuple[int, ...]
    """Bit sets of protected layers, ascending."""
    damage: Floats
    """K_λ, (masks x languages)."""
    counted: Bools
    """Which languages may enter D, (masks x languages)."""
    mean_damage: Floats
    mean_damage_ends: Floats
    """(2 x masks)."""
    disparity: Floats
    disparity_ends: Floats
    """(2 x masks)."""
    gap: Floats
    gap_ends: Floats
    """(2 x masks)."""
    harm_mean: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run, which a store holds."""

    store: str
    """Its file, as the user named it."""
    number: int
    command: str
    """The verb, such as ``investigate``."""
    result: Mapping[str, Any]
    """The verb's JSON result as the store gives it back, with ``provenance``; its findings by
    today's thresholds. ``texts`` names the scores that audit and map rest on."""
    findings: tuple[Finding, ...]
    """The same findings as records, by experiment; empty for verbs that judge no single model."""
    masks: Masks | None
    """None where the run has no layer map, or its scores are no longer in the store."""
    thresholds_changed: bool = False
    """Whether the declared thresholds are not those that the run was made with."""


def audit_of(run: Run) -> Mapping[str, Any] | None:
    """Returns a run's damage by language, if it has that."""
    return run.result if run.command == "audit" else run.result.get("audit")


def map_of(run: Run) -> Mapping[str, Any] | None:
    """Returns a run's layer map, if it has one."""
    return _map_in(run.command, run.result)


def _map_in(command: str, result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return result if command == "map" else result.get("map")


def find_run(text: str, store: str) -> tuple[str, str]:
    """Returns (store, number or ``latest``) of a run as a user names it: ``12``, ``other.db:12``.

    Raises:
        UsageError: If it is neither.
    """
    found = _RUN.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{text!r} names no run; give its number, such as 12, or {LATEST}, or one of another "
            f"store, such as other.db:12. `bitgap results` lists them"
        )
    return found["store"] or store, found["run"]


def run_in_hand(
    *,
    store: str,
    number: int,
    command: str,
    provenance: Provenance,
    result: Mapping[str, Any],
    findings: Iterable[Finding] = (),
    map_scores: Scores | None = None,
) -> Run:
    """Returns a run that was just made and put into a store; nothing is read or judged again.

    Args:
        store: Its file, as the user named it.
        number: The run's, there.
        command: The verb.
        provenance: Where its numbers came from.
        result: The verb's JSON result.
        findings: As they were judged, Holm over all of them.
        map_scores: Of every mask of the run's layer map, in the order of its design; None where it
            has none.
    """
    ordered = tuple(sorted(findings, key=lambda finding: finding.experiment))
    kept = as_stored(result) | {"provenance": asdict(provenance)}
    layers = _map_in(command, kept)
    return Run(
        store=store,
        number=number,
        command=command,
        result=_with_findings(kept, ordered),
        findings=ordered,
        masks=None
        if layers is None or map_scores is None
        else _read_masks(map_scores, layers, kept),
    )


def read_run(text: str, store: str) -> Run:
    """Returns a run of a store.

    Args:
        text: As :func:`find_run` reads it.
        store: Where runs without a store of their own are.

    Raises:
        UsageError: If there is no such run.
        StoreError: If the store cannot be read.
    """
    from bitgap.stats.verdicts import load_thresholds

    path, wanted = find_run(text, store)
    with Store(path, read_only=True) as opened:
        numbers = opened.run_numbers()
        if not numbers:
            raise UsageError(f"{path} holds no finished run yet; `bitgap investigate` makes one")
        number = numbers[-1] if wanted == LATEST else int(wanted)
        if number not in numbers:
            raise UsageError(
                f"{path} holds no run {number}; the last is {numbers[-1]}, and `bitgap results` "
                f"lists them"
            )
        _, command, provenance, summary = opened.run(number)
        findings = tuple(judged_again(opened, number))
        result = dict(summary) | {"provenance": asdict(provenance)}
        layers = _map_in(command, result)
        scores = None if layers is None else _map_scores(opened, result, layers)
        return Run(
            store=path,
            number=number,
            command=command,
            result=_with_findings(result, findings),
            findings=findings,
            masks=None if layers is None or scores is None else _read_masks(scores, layers, result),
            thresholds_changed=provenance.thresholds_hash != load_thresholds().hash,
        )


def _with_findings(result: Mapping[str, Any], findings: Sequence[Finding]) -> dict[str, Any]:
    if not findings:
        return dict(result)
    return dict(result) | {"findings": [asdict(finding) for finding in findings]}


def _design(result: Mapping[str, Any], layers: Mapping[str, Any]) -> Design:
    seed = int(result["provenance"]["seed"])
    return make_design(layers["n_blocks"], seed=seed, complete=layers["all_masks"])


def _map_scores(
    store: Store, result: Mapping[str, Any], layers: Mapping[str, Any]
) -> Scores | None:
    """Returns the stored scores of a map's masks, or None where they are no longer there."""
    design = _design(result, layers)
    if len(design.masks) != layers["masks"]:
        return None
    plans = design.plans(layers["scheme"])
    key = named_text(result, "map")
    if key is not None:
        return scores_on(store, key, plans)
    nothing = layers["unprotected"]["damage"]
    return scores_by_numbers(store, result, plans, layers["sentences"], [nothing])


def named_text(result: Mapping[str, Any], part: str) -> str | None:
    """Returns the key of the text that a part of a run was scored on, where the run names it.

    Args:
        result: The run's result.
        part: ``audit`` or ``map``.
    """
    return result.get("texts", {}).get(part)


def scores_on(store: Store, text_key: str, plans: Sequence[Plan]) -> Scores | None:
    """Returns the stored scores of plans on a text, or None where the store has them no longer.

    Args:
        store: Where they are.
        text_key: The text's key in it.
        plans: In the order wanted.
    """
    text, keys = store.get_text(text_key), dict(store.scored_plans(text_key))
    if text is None or not all(plan.text in keys or plan.is_full_precision for plan in plans):
        return None
    facts, arrays = text
    return assemble(store, lambda p: keys[p.text], plans, facts, arrays, facts["arithmetic"])


# Stores written before 2026-11-29 do not name the text a run was scored on; this goes when nobody
# has such a store any more.
def scores_by_numbers(
    store: Store,
    result: Mapping[str, Any],
    plans: Sequence[Plan],
    n_sentences: int,
    damage: Sequence[float | None],
) -> Scores | None:
    """Returns plans' scores on the stored text where they do the damage a run reports, or None.

    What model and corpus are called does not tell, as names move and two versions share one.

    Args:
        store: Where the run is.
        result: The run's result.
        plans: What was scored.
        n_sentences: Sentences of the text they were scored on.
        damage: Mean K of the first plans, as the run reports it.
    """
    if any(value is None for value in damage):
        return None
    reported = np.array(damage, dtype=float)
    for key, facts, arrays in store.scored_texts():
        # Where products do not round, fast is exact, and both have one text, kept under the name of
        # whichever came first.
        if facts.get("products_round", True) and facts["arithmetic"] != result.get("arithmetic"):
            continue
        if arrays["nll_fp_nats"].shape[1] != n_sentences:
            continue
        scores = scores_on(store, key, plans)
        if scores is None:
            continue
        first = scores.select(plans=scores.plans[: len(damage)])
        if np.allclose(damage_bits(first).mean(-1), reported, rtol=1e-9, atol=0.0):
            return scores
    return None


def _read_masks(scores: Scores, layers: Mapping[str, Any], result: Mapping[str, Any]) -> Masks:
    """Returns what the masks of a run's layer map do, read off their scores."""
    masks = _design(result, layers).masks
    seed = int(result["provenance"]["seed"])
    sums, weights = Sums(scores), bootstrap_weights(scores.n_sentences, DRAWS, seed)

    def mean_damage(of: Sums) -> Floats:
        return damage_bits(of).mean(-1)

    def ends(formula: Any) -> Floats:
        return central_range(resample(formula, scores, weights), scores.n_sentences)

    # What is left of K where all is protected is rounding, and its ratio is anything.
    d, d_ends = disparity(sums), ends(disparity)
    if masks[-1] == (1 << layers["n_blocks"]) - 1:
        d[-1] = d_ends[:, -1] = np.nan
    return Masks(
        n_blocks=layers["n_blocks"],
        scheme=layers["scheme"],
        reference=scores.reference,
        languages=scores.languages,
        n_sentences=scores.n_sentences,
        complete=len(masks) == 1 << layers["n_blocks"],
        masks=masks,
        damage=damage_bits(sums),
        counted=usable(sums),
        mean_damage=mean_damage(sums),
        mean_damage_ends=ends(mean_damage),
        disparity=d,
        disparity_ends=d_ends,
        gap=gap(sums),
        gap_ends=ends(gap),
        harm_mean=harm_mean(sums),
    )
