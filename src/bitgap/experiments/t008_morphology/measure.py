"""What T-008 measures: the only part that sees a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bitgap.experiments.t008_morphology import EXPERIMENT, PRIMARY, Params
from bitgap.experiments.t008_morphology.causal import rich_flags
from bitgap.experiments.t008_morphology.lens import fit_lens, lens_margins, margins
from bitgap.experiments.t008_morphology.matched_pairs import Items, choose_items, tokenize_pairs
from bitgap.experiments.t008_morphology.plans import plans
from bitgap.experiments.t008_morphology.sources import Sources, sources
from bitgap.experiments.t008_morphology.tagged_words import (
    States,
    TaggedWords,
    sample_words,
    word_states,
)
from bitgap.experiments.t008_morphology.twins import measure_damage, measure_probes, site_scores
from bitgap.lab.lab import Lab
from bitgap.records import Floats, Observations
from bitgap.stats.probes import (
    Task,
    entropy_bits,
    make_task,
    online_code_bits,
    probe_sites,
    small_fits,
)


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Probes, reads and breaks agreement; only the causal part knows the scheme.

    Arrays, over S = L+1 sites of which the first is the embedding's: for every feature with enough
    words ``<feature>_hits`` and ``<feature>_control_hits`` (S x n), ``<feature>_labels``,
    ``_control``, ``_units``, ``_languages`` (n); ``code_bits`` of Number (S x A') with
    ``label_bits`` (A'), n·H(label), and ``uniform_bits``; of all pairs, in nats, ``margin`` (1+L x
    2 x A x m), full precision and then each block alone rounded, and ``lens_tuned``, ``lens_logit``
    of agreement (S x A x m); ``item_tokens`` (2 x A x m); and those of ``measure_probes`` and
    ``measure_damage`` of :mod:`bitgap.experiments.t008_morphology.twins`.
    """
    grammar, seed = sources(lab, per_kind=params.languages), lab.settings.seed
    words = sample_words(
        lab, grammar.tagged, per_language=params.words, per_type=params.per_type,
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
        lab, grammar.agreement, grammar.lexical, n_items=params.items, fewest=params.fewest_items,
        seed=seed,
    )  # fmt: skip
    states, twin = word_states(lab, words), lab.random_twin()
    with small_fits():
        arrays = _probed(states, tasks, params, seed)
        arrays |= measure_probes(twin, words, states, tasks[PRIMARY], params)
    damage, absent = measure_damage(lab, twin, scheme, items, params)
    arrays |= damage | _read(lab, scheme, items, params)
    facts = {
        "sources": dict(grammar.names),
        "word_languages": list(words.languages),
        "word_rich": rich_flags(words.languages).tolist(),
        "item_languages": list(items.languages),
        "item_rich": rich_flags(items.languages).tolist(),
        "left_out": _left_out(words, tasks[PRIMARY], items),
        "excluded": {**words.excluded, **items.excluded},
        "seed_pair": _original_pair(lab, grammar),
    }
    return EXPERIMENT.observed(lab, scheme, params, arrays, facts | absent)


def inputs(lab: Lab) -> Mapping[str, Any]:
    """Returns what of a lab is read beside its text: fingerprints, part of the key."""
    return sources(lab).fingerprints


def _left_out(words: TaggedWords, task: Task, items: Items) -> dict[str, str]:
    probed = {words.languages[code] for code in np.unique(task.languages)}
    why = f"too few of two values of {PRIMARY}"
    few = {f"{code} words": why for code in words.languages if code not in probed}
    return few | {f"{code} pairs": reason for code, reason in items.left_out.items()}


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
        bits.append([online_code_bits(site, labels, penalty, seed) for site in sites])
        label_bits.append(len(labels) * entropy_bits(labels))
        uniform.append(len(labels) * np.log2(len(np.unique(labels))))
    return {
        "code_bits": np.array(bits).T,
        "label_bits": np.array(label_bits),
        "uniform_bits": np.array(uniform),
    }


def _read(lab: Lab, scheme: str, items: Items, params: Params) -> dict[str, Any]:
    if not items.n_items:
        return {}
    agreement = items.pairs.select(items.of_agreement)
    tuned, logit = lens_margins(lab, agreement, fit_lens(lab, params.lens_ridge))
    return {
        "margin": items.by_item(margins(lab, items.pairs, plans(lab.n_blocks, scheme))),
        "lens_tuned": items.by_agreement_item(tuned),
        "lens_logit": items.by_agreement_item(logit),
        "item_tokens": items.by_item(items.pairs.scored.astype(np.float64)),
    }


def _original_pair(lab: Lab, grammar: Sources) -> dict[str, Any] | None:
    """Returns the one pair that the origin's measure is taken on: Hebrew if there is any."""
    for code in ("he", *grammar.agreement):
        for pair in grammar.agreement.get(code, ()):
            tokens, kept, _ = tokenize_pairs(lab, [pair])
            if len(kept):
                margin = float(margins(lab, tokens, plans(lab.n_blocks, "fp")[:1])[0, 0])
                return {"language": code, "good": pair.good, "bad": pair.bad, "margin": margin}
    return None
