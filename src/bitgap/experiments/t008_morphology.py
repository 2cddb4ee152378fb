"""T-008 · H3.2: does morphology peak, and matter, near three quarters of the depth?

Prediction: morphology is consolidated at r ≈ .75, more so in morphologically rich languages.
Method: (a) Probe: a logistic regression of Number (and, told beside it, Gender, Person, Case) on
the state at a word's last token, word types disjoint between training and test, at every site;
selectivity is its accuracy less that on a control task, a random label for every type (Hewitt &
Liang 2019), averaged over languages, and the profile is selectivity above the embedding's; the
online code of the labels (Voita & Titov 2020) stands beside it. (b) Readout: the margin log p(good)
− log p(bad) of minimal pairs (Mueller 2020) at every block, through a tuned lens (Belrose 2023) and
the logit lens. (c) Causal: with one block alone rounded, how much margin agreement pairs lose
beyond lexical pairs of the same language and length, in rich languages beyond others. θ has two
parts and both must pass (intersection–union): the peak of (a) lies at r in [.65, .85], and the
causal contrast of blocks in that window less those outside is above 0 with d_z ≥ .3. A peak in the
window without the causal part is inconclusive: encoded, not used. As types are disjoint, memory
helps neither task, and the control task's accuracy is what chance and imbalance give.

Unit and direction: a layer position r between 0 and 1, and standard deviations over items, > 0 if
H3.2 holds. Cost: one pass over tagged sentences, one shared over the text for the lens, and for
the pairs two passes and L(L+1)/2 + L − 1 blocks; regressions on top. Refuted in this model if the
interval of the peak's place lies wholly outside the window and written labels were found (P6), or,
where the peak is not in the window, if d_z lies below .3 and planted damage to agreement was found.
One model's p is at least the window's share of blocks, so one model cannot support. Prior: middle
layers (Acs 2024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.experiments.agreement_damage import (
    causal_controls,
    contrast_estimates,
    contrast_p,
    measure_damage,
    one_block_plans,
    rich_flags,
    window_of,
)
from bitgap.experiments.experiment import Cost, Experiment
from bitgap.experiments.kept_scores import told_left_out
from bitgap.experiments.morphology_controls import (
    PRIMARY,
    States,
    measure_controls,
    probe_controls,
    site_scores,
)
from bitgap.experiments.morphology_report import (
    figure,
    height,
    readout,
    rich_less_other,
    seed_measure,
    sentence,
    tables,
)
from bitgap.experiments.window_hit import is_hit, judge_window
from bitgap.lab.tree import PlanTree
from bitgap.records import Control, Estimate, Finding, Floats, Observations, Verdict
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.probes import (
    Task,
    entropy_bits,
    make_task,
    online_code_bits,
    probe_sites,
    selectivity,
    small_fits,
)
from bitgap.stats.profiles import locate_peak
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

if TYPE_CHECKING:
    from bitgap.lab.grammar import Sources
    from bitgap.lab.lab import Lab
    from bitgap.lab.matched_pairs import Items
    from bitgap.lab.probes import TaggedWords

ID = "T-008"
NO_WORDS = "no language of the text has tagged words enough for a probe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    features: tuple[str, ...] = ("Number", "Gender", "Person", "Case")
    """Features that are probed; the verdict is on the first, marked in the most languages."""
    languages: int = 99
    """Languages of either kind, morphologically rich and other, at most; all there are."""
    words: int = 600
    """Tagged words of each language, at most; ten for every direction a probe may use."""
    per_type: int = 4
    """Occurrences of one word type, at most, or a few function words would decide."""
    fewest_words: int = 20
    """Words that a value of a feature must come in, in a language, to be asked for."""
    components: int = 64
    """Principal components a probe sees; with all of 256 or more it would learn its words."""
    folds: int = 3
    """Parts that word types are held out in; two thirds of the words train each probe."""
    penalty: float = 30.0
    """Weight of ½‖w‖²: at it the online code of labels without meaning is 3 to 10 % too long and
    that of planted ones still short, by simulation without a model."""
    items: int = 100
    """Agreement items of each language, and as many lexical ones; an item is two mirrored pairs."""
    fewest_items: int = 6
    """Items a language must have; below it the spread over items is anybody's guess."""
    lens_ridge: float = 0.1
    """Penalty of the tuned lens, in units of the states' variance; calibration text is short."""
    control_items: int = 8
    """Items of each language that controls are run on; broken agreement shows on few."""
    planted_label: float = 1.0
    """Length of P6's label direction over the states'; plain to see, or the probe is blind."""
    planted_push: float = 0.01
    """Length of the planted push towards the wrong form over the state's own, at one token: on the
    small reference model some fifth of a nat, a few times the smallest effect of interest."""
    planted_seeds: int = 20
    """How often agreement is broken, each time with other noise; the method's number."""


# -- measurement -----------------------------------------------------------------------------------


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Probes, reads and breaks agreement; only the causal part knows the scheme.

    Arrays, over S = L+1 sites of which the first is the embedding's: for every feature with enough
    words ``<feature>_hits`` and ``<feature>_control_hits`` (S x n), ``<feature>_labels``,
    ``_control``, ``_units``, ``_languages`` (n); ``code_bits`` of Number (S x A') with
    ``label_bits`` (A'), n·H(label), and ``uniform_bits``; ``margin`` (1+L x 2 x A x m) and
    ``lens_tuned``, ``lens_logit`` of agreement (S x A x m), in nats; ``item_tokens`` (2 x A x m);
    and those of
    :func:`bitgap.experiments.morphology_controls.measure_controls` and
    :func:`bitgap.experiments.agreement_damage.measure_damage`.
    """
    from bitgap.lab.grammar import sources
    from bitgap.lab.matched_pairs import choose_items
    from bitgap.lab.probes import sample_words, word_states
    from bitgap.models.gauge import loaded_with, random_twin

    found, seed = sources(lab, per_kind=params.languages), lab.settings.seed
    words = sample_words(
        lab, found.tagged, per_language=params.words, per_type=params.per_type,
        features=params.features, seed=seed,
    )  # fmt: skip
    tasks = {
        name: make_task(
            words.values[name], words.language, words.type, fewest=params.fewest_words,
            n_folds=params.folds, seed=seed,
        )
        for name in params.features
    }  # fmt: skip
    items = choose_items(
        lab, found.agreement, found.lexical, n_items=params.items, fewest=params.fewest_items,
        seed=seed,
    )  # fmt: skip
    states = word_states(lab, words)
    untrained = random_twin(lab.decoder.model, seed)
    twin = lab.twin(loaded_with(lab.loaded, untrained, "random"))
    with small_fits():
        arrays = _probed(states, tasks, params, seed)
        arrays |= measure_controls(twin, words, states, tasks[PRIMARY], params, seed)
    damage, absent = measure_damage(lab, twin, scheme, items, params)
    arrays |= damage | _read(lab, items, params)
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays=arrays,
        facts={
            "scheme": scheme,
            "n_blocks": lab.n_blocks,
            "params": asdict(params),
            "sources": dict(found.names),
            "word_languages": list(words.languages),
            "word_rich": rich_flags(words.languages).tolist(),
            "item_languages": list(items.languages),
            "item_rich": rich_flags(items.languages).tolist(),
            "left_out": _left_out(words, tasks[PRIMARY], items),
            "excluded": {**words.excluded, **items.excluded},
            "seed_pair": _seed_pair(lab, found),
            **absent,
        },
    )


def _left_out(words: TaggedWords, task: Task, items: Items) -> dict[str, str]:
    probed = {words.languages[code] for code in np.unique(task.languages)}
    why = f"too few of two values of {PRIMARY}"
    found = {f"{code} words": why for code in words.languages if code not in probed}
    return found | {f"{code} pairs": reason for code, reason in items.left_out.items()}


def _probed(states: States, tasks: Mapping[str, Task], params: Params, seed: int) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for name, task in tasks.items():
        if not len(task.rows):
            continue
        scores = site_scores(states[:, task.rows], task, params.components)
        hits = probe_sites(scores, task, [task.labels, task.control], params.penalty)
        arrays |= {f"{name}_hits": hits[0], f"{name}_control_hits": hits[1]}
        arrays |= {
            f"{name}_{field}": getattr(task, field)
            for field in ("labels", "control", "units", "languages")
        }
        if name == PRIMARY:
            arrays |= _codes(scores, task, params.penalty, seed)
    return arrays


def _codes(
    scores: Mapping[int, Sequence[Floats]], task: Task, penalty: float, seed: int
) -> dict[str, Floats]:
    bits, label_bits, uniform = [], [], []
    for code, sites in scores.items():
        labels = task.labels[task.only([code])]
        bits.append([online_code_bits(found, labels, penalty, seed) for found in sites])
        label_bits.append(len(labels) * entropy_bits(labels))
        uniform.append(len(labels) * np.log2(len(np.unique(labels))))
    return {
        "code_bits": np.array(bits).T,
        "label_bits": np.array(label_bits),
        "uniform_bits": np.array(uniform),
    }


def _read(lab: Lab, items: Items, params: Params) -> dict[str, Any]:
    from bitgap.lab.lens import fit_lens, lens_margins

    if not items.n_items:
        return {}
    agreement = items.pairs.select(items.of_agreement)
    tuned, logit = lens_margins(lab, agreement, fit_lens(lab, params.lens_ridge))
    return {
        "lens_tuned": items.by_agreement_item(tuned),
        "lens_logit": items.by_agreement_item(logit),
        "item_tokens": items.by_item(items.pairs.scored.astype(np.float64)),
    }


def _seed_pair(lab: Lab, found: Sources) -> dict[str, Any] | None:
    """Returns the one pair that the origin's measure is taken on: Hebrew if there is any."""
    from bitgap.lab.lens import margins, tokenize_pairs

    for code in ("he", *found.agreement):
        for pair in found.agreement.get(code, ()):
            tokens, kept, _ = tokenize_pairs(lab, [pair])
            if len(kept):
                plan = one_block_plans("fp", lab.n_blocks)[:1]
                margin = float(margins(lab, tokens, plan)[0, 0])
                return {"language": code, "good": pair.good, "bad": pair.bad, "margin": margin}
    return None


# -- judgement -------------------------------------------------------------------------------------


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H3.2 in this model: where number is told best, and whether rounding there costs it."""
    arrays, facts = observations.arrays, observations.facts
    damage_checks = causal_controls(observations, thresholds)
    causal, contrast = _causal(observations, damage_checks, thresholds)
    if f"{PRIMARY}_hits" not in arrays:
        return _unjudged(observations, contrast, damage_checks, thresholds)
    weights = bootstrap_weights(int(arrays[f"{PRIMARY}_units"].max()) + 1, thresholds.draws, 0)
    profile, draws = _profile(arrays, weights)
    peak = locate_peak(draws, profile, thresholds.level)
    at_peak = height(peak, profile, draws, thresholds)
    checks = probe_controls(observations, weights, thresholds)
    verdict = judge_window(
        peak, facts["n_blocks"], checks, thresholds, hypothesis="H3.2", gate=_gate(at_peak),
        also=causal,
    )  # fmt: skip
    hit = is_hit(peak, thresholds.window)
    if hit and verdict.label == "refuted" and causal.label == "refuted":
        reason = f"encoded, not used: {causal.reason}"
        verdict = replace(verdict, label="inconclusive", reason=reason)
    return Finding(
        experiment=ID,
        hypothesis="H3.2",
        title=EXPERIMENT.title,
        primary="peak_depth",
        estimates={
            "peak_depth": peak.place,
            "peak_height": at_peak,
            **contrast,
            "rich_less_other": rich_less_other(arrays, facts, peak, weights, thresholds),
            **readout(arrays, facts, thresholds),
        },
        seed_measure=seed_measure(facts),
        controls=(*checks, *damage_checks),
        verdict=verdict,
        sentence=sentence(peak, contrast["contrast_d_z"], hit, facts)
        + told_left_out(facts["left_out"]),
        tables=tables(observations, profile, draws, thresholds),
        thresholds_hash=thresholds.hash,
    )


def _profile(arrays: Mapping[str, Any], weights: Floats) -> tuple[Floats, Floats]:
    """Returns selectivity above the embedding's over blocks, (L), and its draws, (B x L)."""
    statistic, n = selectivity(
        arrays[f"{PRIMARY}_hits"], arrays[f"{PRIMARY}_control_hits"], arrays[f"{PRIMARY}_units"],
        arrays[f"{PRIMARY}_languages"],
    )  # fmt: skip
    draws, point = statistic(weights), statistic(np.ones((1, n)))[0]
    return point[1:] - point[0], draws[:, 1:] - draws[:, :1]


def _causal(
    observations: Observations, checks: Sequence[Control], thresholds: Thresholds
) -> tuple[Verdict, dict[str, Estimate]]:
    """Returns the engine's verdict on the causal part, and its estimates."""
    arrays, facts = observations.arrays, observations.facts
    name, sesoi = "causal contrast, d_z", thresholds.of("H3.2")["d_z"]
    rich = np.array(facts["item_rich"], dtype=bool)
    smallest = 1 / (1 + thresholds.draws)
    inside = window_of(facts["n_blocks"], thresholds.window)
    if "margin" not in arrays or rich.all() or not rich.any() or not inside.any():
        why = "no minimal pairs enough in both morphologically rich and other languages"
        why = why if inside.any() else "no block lies in the window"
        none = Estimate(value=None, unit="standard deviations of items", reason=why)
        found, p = {"contrast_d_z": none}, None
    else:
        theta, size = contrast_estimates(arrays["margin"], rich, thresholds)
        found = {"contrast_d_z": size, "contrast": theta}
        p = contrast_p(arrays["margin"], rich, thresholds)
    part = Part(name=name, estimate=found["contrast_d_z"], sesoi=sesoi, p=p, p_minimum=smallest)
    return judge_parts([part], checks, alpha=thresholds.alpha), found


def _gate(height: Estimate) -> str | None:
    assert height.value is not None and height.low is not None
    if height.low > 0:
        return None
    return (
        f"nothing to locate: the best block's selectivity is {height.value:+.3f} "
        f"[{height.low:+.3f}, {height.high:+.3f}] above the embedding's"
    )


def _unjudged(
    observations: Observations,
    contrast: Mapping[str, Estimate],
    damage_checks: Sequence[Control],
    thresholds: Thresholds,
) -> Finding:
    """Returns the finding where there is no word to probe."""
    none = Estimate(value=None, unit="relative depth", reason=NO_WORDS)
    part = Part(name="peak", estimate=none, p=None, p_minimum=1.0, sesoi=0.5)
    checks = (*probe_controls(observations, np.ones((1, 1)), thresholds), *damage_checks)
    return Finding(
        experiment=ID,
        hypothesis="H3.2",
        title=EXPERIMENT.title,
        primary="peak_depth",
        estimates={"peak_depth": none, **contrast},
        seed_measure=seed_measure(observations.facts),
        controls=checks,
        verdict=judge_parts([part], checks, alpha=thresholds.alpha, gate=NO_WORDS),
        sentence=f"Not testable here: {NO_WORDS}.",
        tables=tables(observations, None, None, thresholds),
        thresholds_hash=thresholds.hash,
    )


def _inputs(lab: Lab) -> Mapping[str, Any]:
    from bitgap.lab.grammar import sources

    return sources(lab).fingerprints


def _block_evaluations(n: int) -> int:
    # Every text once: the lab's own for the lens, shared with others; tagged sentences; pairs in
    # full precision and with each block alone rounded; agreement pairs again for the lens.
    rounded = PlanTree(one_block_plans("rtn4-g128", n)[1:]).work().block_evaluations
    return n + n + (n + rounded) + n


EXPERIMENT = Experiment(
    id=ID,
    hypothesis="H3.2",
    title="Morphological consolidation",
    question="Does morphology peak, and matter, near three quarters of the depth?",
    phase=2,
    value="medium",
    cost=Cost(block_evaluations=_block_evaluations, head_evaluations=lambda n: 3 * (n + 1)),
    params=Params(),
    measure=measure,
    judge=judge,
    figure=figure,
    inputs=_inputs,
)
