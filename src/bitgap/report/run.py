"""A run as pages, figures and papers read it: the one just made, or one read back from a store.

:func:`run_in_hand` makes it of what a command has in memory, :func:`read_run` of what the store
holds: findings judged again from stored observations and today's thresholds, and the damage of
every set of protected blocks read off the stored scores that the run names. Both give the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from bitgap.codec import from_json
from bitgap.disparity.calibration import Calibration
from bitgap.disparity.file_map import FileMap
from bitgap.disparity.flips import Flips
from bitgap.disparity.formulas import (
    Sums,
    damage_bits,
    disparity,
    gap,
    harm_mean,
    resample,
    spread,
    spread_draws,
    usable,
)
from bitgap.disparity.gate import Gate
from bitgap.disparity.generation import Generation
from bitgap.disparity.layer_map import DRAWS, LayerMap
from bitgap.disparity.records import DisparityReport
from bitgap.disparity.runtimes import Runtimes
from bitgap.disparity.unit_map import UnitMap
from bitgap.errors import UsageError
from bitgap.experiments.catalog import CATALOG
from bitgap.formats.contents import Contents
from bitgap.jobs.records import Investigation, stored_form
from bitgap.jobs.results import judged_again
from bitgap.lab.store import Store, assemble
from bitgap.protect.outcome import Outcome
from bitgap.quant.plan import Plan
from bitgap.records import Bools, Finding, Floats, Provenance, Scores
from bitgap.report import old_runs
from bitgap.stats.bootstrap import bootstrap_weights, central_range
from bitgap.stats.verdicts import load_thresholds
from bitgap.theory.origin.ledger import Ledger
from bitgap.theory.records import Theory

LATEST = "latest"
_RUN = re.compile(r"(?:(?P<store>.+):)?(?P<run>\d+|latest)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """What every scored set of protected blocks does; rows as ``masks``, columns as ``languages``.

    Damage, gap and harm are in bits per English character, disparity in log2 ratio, S in log2
    units; NaN where a number has no value. Ends are of 95 % intervals over sentences, as the layer
    map has them.
    """

    n_blocks: int
    scheme: str
    reference: str
    languages: tuple[str, ...]
    n_sentences: int
    complete: bool
    """Whether these are all 2^L sets."""
    masks: tuple[int, ...]
    """Bit sets of protected blocks, ascending."""
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
    spread: Floats
    """S per token, over the languages that count with nothing protected; NaN where one of them does
    not count, so that all are comparable."""
    spread_ends: Floats
    """(2 x masks)."""
    spread_per_text: Floats
    per_token: Floats
    """What damage is multiplied with to be per token, (languages)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run, which a store holds."""

    store: str
    """Its file, as the user named it."""
    number: int = 0
    """Its number there; 0 before it is kept."""
    command: str
    """The verb, such as ``investigate``."""
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Model, text and how they were used, JSON-ready."""
    provenance: Provenance | None = None
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Keys in the store of the texts that ``audit`` and ``map`` were scored on; empty in runs
    stored before 2026-11-29."""
    cost: Mapping[str, Any] | None = None
    """What it was predicted to take, and took, where that is known."""
    report: DisparityReport | None = None
    """Of audit and investigate: damage by language."""
    contents: Contents | None = None
    """Of audit and map against a file: what that holds."""
    flips: Flips | None = None
    """Of audit against a file: where the most likely next token changed."""
    runtimes: Runtimes | None = None
    """Of audit against a file with ``--runtime``: what it does as it runs."""
    generation: Generation | None = None
    """Of audit against a file with ``--generate``: what it writes."""
    gate: Gate | None = None
    """Of gate."""
    layer_map: LayerMap | None = None
    """Of map and investigate."""
    unit_map: UnitMap | None = None
    """Of map, by matrix."""
    calibration: Calibration | None = None
    """Of calibration: texts against languages."""
    outcome: Outcome | None = None
    """Of protect: a recipe with its proof."""
    file_map: FileMap | None = None
    """Of map against a file: its parts."""
    investigation: Investigation | None = None
    """Of investigate, report and map among it."""
    theory: Theory | None = None
    ledger: Ledger | None = None
    """Of replicate."""
    findings: tuple[Finding, ...] = ()
    """By experiment, judged by today's thresholds; of verbs that judge a single model."""
    masks: Masks | None = None
    """None where the run has no layer map, or its scores are no longer in the store."""
    result: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The verb's JSON, as ``--json`` prints it; made of all the above."""
    thresholds_changed: bool = False
    """Whether the declared thresholds are not those that the run was made with."""


def audit_of(run: Run) -> Mapping[str, Any] | None:
    """Returns the JSON of a run's damage by language, if it has that."""
    return run.result if run.command == "audit" else run.result.get("audit")


def map_of(run: Run) -> Mapping[str, Any] | None:
    """Returns the JSON of a run's layer map, if it has one."""
    if run.unit_map is not None or run.file_map is not None:
        return None
    return run.result if run.command == "map" else run.result.get("map")


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


def run_in_hand(run: Run, map_scores: Scores | None = None) -> Run:
    """Returns a run made of what a verb has in memory; nothing is read or judged again.

    :func:`to_store` gives what a store is to keep of it.

    Args:
        run: Its records, and its provenance among them. An investigation's report and map become
            the run's, and its findings where the run has none; findings come in any order, as they
            were judged, Holm over all of them.
        map_scores: Of every mask of the layer map, in the order of its design; of an investigation
            its own.
    """
    provenance = run.provenance
    assert provenance is not None, "what was measured says where it came from"
    if (found := run.investigation) is not None:
        findings = run.findings or tuple(finding for finding, _ in found.findings)
        run = replace(run, report=found.report, layer_map=found.layer_map, findings=findings)
        map_scores = map_scores or found.map_scores
    masks = None
    if run.layer_map is not None and map_scores is not None:
        masks = _read_masks(map_scores, run.layer_map, provenance.seed)
    run = replace(run, findings=in_catalog_order(run.findings), masks=masks)
    return replace(run, result=_as_json(run, provenance))


def in_catalog_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Returns findings in the order of the catalog, those of experiments that are gone last."""
    place = {experiment.id: i for i, experiment in enumerate(CATALOG)}
    return tuple(
        sorted(findings, key=lambda f: (place.get(f.experiment, len(place)), f.experiment))
    )


def to_store(run: Run) -> dict[str, Any]:
    """Returns what :meth:`bitgap.lab.store.Store.put_run` is to keep of a run's result."""
    records = {"investigation": run.investigation, "theory": run.theory, "ledger": run.ledger}
    if run.investigation is None:
        records |= {
            "report": run.report,
            "layer_map": run.layer_map,
            "unit_map": run.unit_map,
            "calibration": run.calibration,
            "outcome": run.outcome,
            "file_map": run.file_map,
            "gate": run.gate,
        }
        records |= {name: getattr(run, name) for name in OF_FILES}
    return stored_form(run.about, texts=run.texts, cost=run.cost, **records)


def _as_json(run: Run, provenance: Provenance) -> dict[str, Any]:
    result = dict(run.about)
    if run.investigation is not None:
        result |= run.investigation.as_dict()
        result["findings"] = [asdict(finding) for finding in run.findings]
    else:
        for record in (
            *(run.report, run.layer_map, run.unit_map, run.outcome, run.file_map, run.gate),
            run.calibration,
            *(run.theory, run.ledger),
        ):
            result |= {} if record is None else record.as_dict()
        named = {name: getattr(run, name) for name in OF_FILES}
        result |= {name: record.as_dict() for name, record in named.items() if record is not None}
    result |= {"texts": dict(run.texts)} if run.texts else {}
    result |= {} if run.cost is None else {"cost": dict(run.cost)}
    return result | {"provenance": asdict(provenance)}


def read_run(text: str, store: str) -> Run:
    """Returns a run of a store.

    Args:
        text: As :func:`find_run` reads it.
        store: Where runs without a store of their own are.

    Raises:
        UsageError: If there is no such run.
        StoreError: If the store cannot be read.
    """
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
        records = _records(command, summary, provenance.seed)
        about = {k: v for k, v in summary.items() if k in ABOUT}
        texts = summary.get("texts", {})
        layer_map = records.get("layer_map")
        if investigation := records.get("investigation"):
            layer_map = investigation.layer_map
            # Those that were judged with the run; the run's own are judged again.
            made = tuple(opened.findings(number))
            records["investigation"] = replace(
                investigation, about=about, texts=texts, findings=made
            )
        scores = None
        if layer_map is not None:
            arithmetic = str(about.get("arithmetic"))
            scores = _map_scores(opened, layer_map, texts.get("map"), arithmetic)
        run = Run(
            store=path,
            number=number,
            command=command,
            provenance=provenance,
            about=about,
            texts=texts,
            cost=summary.get("cost"),
            findings=tuple(judged_again(opened, number)),
            **records,
        )
        run = run_in_hand(run, scores)
    changed = provenance.thresholds_hash != load_thresholds().hash
    return replace(run, thresholds_changed=changed)


ABOUT = (
    *("model", "model_fingerprint", "n_blocks", "scheme", "plan", "corpus", "corpus_fingerprint"),
    *("sentences", "sentences_dropped", "sentences_too_short", "languages_unreadable"),
    *("arithmetic", "prefix", "reference"),
)
"""What a run says of model and text, as :func:`bitgap.jobs.investigate.describe` has it."""

OF_FILES: Mapping[str, type] = {
    "contents": Contents,
    "flips": Flips,
    "runtimes": Runtimes,
    "generation": Generation,
}
"""What is told of real files, by field of :class:`Run` and key of its JSON."""

_KINDS: Mapping[str, type] = {
    **OF_FILES,
    "report": DisparityReport, "layer_map": LayerMap, "investigation": Investigation,
    "theory": Theory, "ledger": Ledger, "unit_map": UnitMap,
    "calibration": Calibration,
    "outcome": Outcome,
    "file_map": FileMap, "gate": Gate,
}  # fmt: skip


def _records(command: str, summary: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Returns a stored run's records by name."""
    kept = summary.get("records")
    if kept is None:
        return old_runs.records_of(command, summary, seed)
    return {name: from_json(_KINDS[name], record) for name, record in kept.items()}


def _map_scores(
    store: Store, layer_map: LayerMap, text_key: str | None, arithmetic: str
) -> Scores | None:
    """Returns the stored scores of a map's masks, or None where they are no longer there."""
    plans = layer_map.design.plans(layer_map.scheme)
    if text_key is not None:
        return scores_on(store, text_key, plans)
    nothing = layer_map.unprotected.damage.value
    return scores_by_numbers(store, arithmetic, plans, layer_map.n_sentences, [nothing])


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
    arithmetic: str,
    plans: Sequence[Plan],
    n_sentences: int,
    damage: Sequence[float | None],
) -> Scores | None:
    """Returns plans' scores on the stored text where they do the damage a run reports, or None.

    What model and corpus are called does not tell, as names move and two versions share one.

    Args:
        store: Where the run is.
        arithmetic: The run's.
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
        if facts.get("products_round", True) and facts["arithmetic"] != arithmetic:
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


def _read_masks(scores: Scores, layer_map: LayerMap, seed: int) -> Masks:
    """Returns what the masks of a run's layer map do, read off their scores."""
    design = layer_map.design
    masks = design.masks
    sums, weights = Sums(scores), bootstrap_weights(scores.units, DRAWS, seed)

    def mean_damage(of: Sums) -> Floats:
        return damage_bits(of).mean(-1)

    def ends(formula: Any) -> Floats:
        return central_range(resample(formula, scores, weights), scores.units)

    counted = usable(sums)
    in_s = counted[masks.index(0)]
    with_all = counted[:, in_s].all(-1)
    s, text = (spread(sums, per="token", languages=in_s), spread(sums, per="text", languages=in_s))
    s_ends = ends(partial(spread_draws, languages=in_s))
    s_ends = np.stack([np.fmin(s_ends[0], s), np.fmax(s_ends[1], s)]) + 0.0 * s_ends
    s, text = (np.where(with_all, values, np.nan) for values in (s, text))
    s_ends[:, ~with_all] = np.nan
    # What is left of K where all is protected is rounding, and its ratio is anything.
    d, d_ends = disparity(sums), ends(disparity)
    if masks[-1] == (1 << design.n_blocks) - 1:
        d[-1] = d_ends[:, -1] = np.nan
    return Masks(
        n_blocks=design.n_blocks,
        scheme=layer_map.scheme,
        reference=scores.reference,
        languages=scores.languages,
        n_sentences=scores.n_sentences,
        complete=len(masks) == 1 << design.n_blocks,
        masks=masks,
        damage=damage_bits(sums),
        counted=counted,
        mean_damage=mean_damage(sums),
        mean_damage_ends=ends(mean_damage),
        disparity=d,
        disparity_ends=d_ends,
        gap=gap(sums),
        gap_ends=ends(gap),
        harm_mean=harm_mean(sums),
        spread=s,
        spread_ends=s_ends,
        spread_per_text=text,
        per_token=(sums.length / sums.tokens)[0],
    )
