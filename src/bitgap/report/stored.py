"""A run as pages, figures and papers read it: what the store holds, and nothing measured anew.

Findings are judged again from stored observations and today's thresholds; the damage of every set
of protected layers is read back from stored scores and checked against the run's own layer map.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bitgap.damage import (
    Bools,
    Sums,
    damage_bits,
    disparity,
    gap,
    harm_mean,
    resample,
    usable,
)
from bitgap.errors import UsageError
from bitgap.lab.assembly import assemble
from bitgap.lab.store import Store
from bitgap.layer_map import DRAWS, make_design
from bitgap.quant.plan import Plan
from bitgap.records import Finding, Floats, Scores
from bitgap.results import judged_again
from bitgap.stats.bootstrap import bootstrap_weights

LATEST = "latest"
_RUN = re.compile(r"(?:(?P<store>.+):)?(?P<run>\d+|latest)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """What every scored set of protected layers does; rows as ``masks``, columns as ``languages``.

    Damage, gap and harm are in bits per English character, disparity in log2 ratio; NaN where a
    number has no value. Ends are of the central 95 % of bootstrap draws over sentences.
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
class StoredRun:
    """One run of a store."""

    store: str
    """Its file, as the user named it."""
    number: int
    command: str
    """The verb, such as ``investigate``."""
    result: Mapping[str, Any]
    """The verb's JSON result, its findings judged again, with ``provenance``."""
    findings: tuple[Finding, ...]
    """The same findings as records; empty for verbs that judge no single model."""
    masks: Masks | None
    """None where the run has no layer map, or its scores are no longer in the store."""
    thresholds_changed: bool = False
    """Whether the declared thresholds are not those that the run was made with."""


def audit_of(run: StoredRun) -> Mapping[str, Any] | None:
    """Returns a run's damage by language, if it has that."""
    return run.result if run.command == "audit" else run.result.get("audit")


def map_of(run: StoredRun) -> Mapping[str, Any] | None:
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


def read_run(text: str, store: str) -> StoredRun:
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
        if findings:
            result["findings"] = [asdict(finding) for finding in findings]
        return StoredRun(
            store=path,
            number=number,
            command=command,
            result=result,
            findings=findings,
            masks=_masks(opened, result, _map_in(command, result)),
            thresholds_changed=provenance.thresholds_hash != load_thresholds().hash,
        )


def _masks(
    store: Store, result: Mapping[str, Any], found: Mapping[str, Any] | None
) -> Masks | None:
    """Returns the run's masks, from the stored text on which they give the map's own numbers."""
    if found is None:
        return None
    seed = int(result["provenance"]["seed"])
    design = make_design(found["n_blocks"], seed=seed, complete=found["all_masks"])
    if len(design.masks) != found["masks"]:
        return None
    nothing = found["unprotected"]["damage"]
    scores = scores_of_plans(
        store, result, design.plans(found["scheme"]), found["sentences"], [nothing]
    )
    return None if scores is None else _read_masks(scores, design.masks, found, seed)


def scores_of_plans(
    store: Store,
    result: Mapping[str, Any],
    plans: Sequence[Plan],
    n_sentences: int,
    damage: Sequence[float | None],
) -> Scores | None:
    """Returns the stored scores of a run's plans, or None where the store has them no longer.

    A text is the run's if the first plans did the damage on it that the run tells: what model and
    corpus are called does not tell, as names move and two versions share one.

    Args:
        store: Where the run is.
        result: The run's result.
        plans: What was scored.
        n_sentences: Sentences of the text they were scored on.
        damage: Mean K of the first plans, as the run tells it.
    """
    for key, facts, arrays in store.scored_texts():
        # Where products do not round, fast is exact, and both have one text, kept under the name of
        # whichever came first.
        if facts.get("products_round", True) and facts["arithmetic"] != result.get("arithmetic"):
            continue
        keys = dict(store.scored_plans(key))
        if arrays["nll_fp_nats"].shape[1] != n_sentences or not _has(keys, plans):
            continue

        def read(some: Sequence[Plan], keys: Any = keys, about: Any = (facts, arrays)) -> Scores:
            facts, arrays = about
            return assemble(store, lambda p: keys[p.text], some, facts, arrays, facts["arithmetic"])

        first = damage_bits(read(plans[: len(damage)])).mean(-1)
        if all(_same(one, told) for one, told in zip(first, damage, strict=True)):
            return read(plans)
    return None


def _has(keys: Mapping[str, str], plans: Sequence[Plan]) -> bool:
    return all(plan.text in keys or plan.is_full_precision for plan in plans)


def _same(one: float, other: float | None) -> bool:
    return other is not None and bool(np.isclose(one, other, rtol=1e-9, atol=0.0))


def _read_masks(
    scores: Scores, masks: tuple[int, ...], found: Mapping[str, Any], seed: int
) -> Masks:
    sums, weights = Sums(scores), bootstrap_weights(scores.n_sentences, DRAWS, seed)

    def mean_damage(of: Sums) -> Floats:
        return damage_bits(of).mean(-1)

    def ends(formula: Any) -> Floats:
        draws = resample(formula, scores, weights)
        bad = ~np.isfinite(draws).all(0)
        low, high = np.quantile(np.where(bad, 0.0, draws), (0.025, 0.975), axis=0)
        return np.where(bad, np.nan, np.stack([low, high]))

    # What is left of K where all is protected is rounding, and its ratio is anything.
    d, d_ends = disparity(sums), ends(disparity)
    if masks[-1] == (1 << found["n_blocks"]) - 1:
        d[-1] = d_ends[:, -1] = np.nan
    return Masks(
        n_blocks=found["n_blocks"],
        scheme=found["scheme"],
        reference=scores.reference,
        languages=scores.languages,
        n_sentences=scores.n_sentences,
        complete=len(masks) == 1 << found["n_blocks"],
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
