"""The main job: audit, layer map and experiments on one model, each measured once, with verdicts.

The operating point comes first and from calibration sentences only: the smallest number of bits at
which no language collapses when everything is rounded. Every hypothesis is then tested there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from bitgap.disparity.formulas import collapsed
from bitgap.disparity.layer_map import LayerMap, make_map
from bitgap.errors import ModelError, UnsupportedArchitecture, UsageError
from bitgap.experiments.catalog import CATALOG, find
from bitgap.experiments.protocol.experiment import NOT_TESTABLE, Experiment
from bitgap.jobs.records import Investigation
from bitgap.jobs.results import judged_together, model_scope
from bitgap.jobs.spending import Spent, in_all, learn_share, scoring_share, spent_by
from bitgap.jobs.tiers import TIERS, Tier
from bitgap.lab.engine.budget import Preflight
from bitgap.lab.engine.tree import Work
from bitgap.quant.plan import Plan
from bitgap.records import Finding, Observations, Scores
from bitgap.stats.mask_design import Design
from bitgap.stats.verdicts import Thresholds, load_thresholds, scoped

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab


def investigate(
    lab: Lab, tier: Tier, *, announce: Callable[[str], None] = lambda text: None
) -> Investigation:
    """Runs the main job; what the store holds already is not measured again.

    Args:
        lab: Model and text.
        tier: How much text to look at.
        announce: Told what begins, one line each.

    Raises:
        ModelError: If some language collapses at every number of bits.

    Example:
        Minutes on the bundled model, so that it is not run here; the tutorial's is.

        >>> from bitgap import Lab
        >>> lab = Lab.from_pretrained(languages="de", store="results.db")  # doctest: +SKIP
        >>> investigate(lab, TIERS["smoke"]).scheme  # doctest: +SKIP
        'rtn3-g128'
    """
    # Here, as it takes a quarter of a second that an audit, which describes a lab, need not wait.
    from bitgap.jobs.profile_links import profile_links

    thresholds = load_thresholds()
    tier = tier.fitted(lab.n_blocks, lab.corpus.n_sentences)
    part = lab.spread(tier.sentences)
    new = not part.store.scored_plans(part.text_key)
    forecast_s = _of_scoring(lab, tier).time_s if new else 0.0
    began = time.perf_counter()
    announce("operating point")
    scheme, rejected = operating_point(part, thresholds)
    announce(f"audit at {scheme}")
    report = part.audit(Plan.uniform(scheme, lab.n_blocks))
    judged, keys, fresh = list[Finding](), list[str](), list[Experiment]()
    for experiment in CATALOG:
        announce(f"{experiment.id} {experiment.title.lower()}")
        finding, key = _judge(
            experiment, part, scheme, tier.parameters(experiment), thresholds, fresh.append
        )
        judged.append(finding)
        keys.append(key)
    announce("layer map")
    of_map = lab.spread(tier.map_sentences)
    layer_map, map_scores = map_layers(
        of_map, scheme, tier.design(lab.n_blocks, seed=lab.settings.seed)
    )
    if new and len(fresh) == len(CATALOG):  # else less was run than all
        learn_share(lab.store, tier, forecast_s / (time.perf_counter() - began))
    about = describe(lab, scheme) | {"sentences": report.n_sentences}
    findings = judged_together(judged, report.nothing_to_explain, about)
    return Investigation(
        about=about,
        scheme=scheme,
        tier=tier.name,
        report=report,
        layer_map=layer_map,
        map_scores=map_scores,
        texts={"audit": part.text_key, "map": of_map.text_key},
        findings=tuple(zip(findings, keys, strict=True)),
        rejected={bits: tuple(codes) for bits, codes in rejected.items()},
        links=profile_links(findings, layer_map, thresholds.level),
        work=lab.ledger.passes(part.n_rows),
    )


def describe(lab: Lab, plan: str, scheme: str | None = None) -> dict[str, Any]:
    """Returns what a result is about: model, text and how they were used, as JSON.

    Args:
        lab: Model and text.
        plan: What was looked at.
        scheme: How blocks were rounded, where that is not the plan.

    Example:
        >>> from bitgap import Lab
        >>> lab = Lab.from_pretrained(languages="de").spread(2)
        >>> about = describe(lab, "rtn4-g128")
        >>> about["n_blocks"], about["sentences"], about["arithmetic"]
        (12, 2, 'exact')
    """
    corpus = lab.corpus.info
    return {
        "model": lab.info.name,
        "model_fingerprint": lab.info.fingerprint,
        "n_blocks": lab.n_blocks,
        "scheme": scheme or plan,
        "plan": plan,
        "corpus": corpus.name,
        "corpus_fingerprint": corpus.fingerprint,
        "sentences": int(lab.text.counts.tokens.shape[1]),
        "sentences_dropped": lab.text.n_dropped,
        "sentences_too_short": lab.text.n_short,
        "prefix": lab.text.prefix.text,
        "reference": lab.corpus.reference,
        "languages_unreadable": lab.unreadable,
        "arithmetic": lab.settings.arithmetic,
    }


def map_layers(lab: Lab, scheme: str, design: Design) -> tuple[LayerMap, Scores]:
    """Returns the layer map, and the scores that it was read off, rows as its design's masks.

    :meth:`bitgap.Lab.map` is this for who needs the map alone.

    Args:
        lab: Model and text.
        scheme: How unprotected blocks are rounded.
        design: Which masks are scored.

    Example:
        The masks take a minute, so that it is not run here; the tutorial's map is.

        >>> from bitgap import Lab
        >>> lab = Lab.from_pretrained(languages="de").spread(2)  # doctest: +SKIP
        >>> layer_map, scores = map_layers(lab, "rtn3-g128", make_design(12))  # doctest: +SKIP
    """
    for plans in design.requests(scheme):  # what experiments have scored is not run again
        lab.score(plans, "map")
    scores = lab.score(design.plans(scheme), "map")
    return make_map(scores, scheme, design, seed=lab.settings.seed), scores


def operating_point(lab: Lab, thresholds: Thresholds) -> tuple[str, dict[str, list[str]]]:
    """Returns the scheme of fewest bits at which no language collapses, on calibration sentences.

    Returns:
        The scheme, and for every rejected one the languages that collapsed.

    Raises:
        ModelError: If there is none.

    Example:
        >>> from bitgap import Lab
        >>> lab = Lab.from_pretrained(languages="de").spread(2)
        >>> operating_point(lab, load_thresholds())
        ('rtn3-g128', {})
    """
    rejected: dict[str, list[str]] = {}
    for scheme in _operating_schemes(thresholds):
        gone = _collapsed_at(scheme, lab)
        if not gone:
            return scheme, rejected
        rejected[scheme] = gone
    last, gone = next(reversed(rejected.items()))
    raise ModelError(
        f"{lab.info.name}: some language does no better than add-one unigrams at every number of "
        f"bits tried, up to {last} (there: {', '.join(gone)}); the model has learned too little of "
        f"it. Leave it out with --languages"
    )


def _operating_schemes(thresholds: Thresholds) -> list[str]:
    return [f"rtn{bits}-g128" for bits in thresholds.operating_bits]


def _collapsed_at(scheme: str, lab: Lab) -> list[str]:
    """Returns the languages that collapse when all blocks are rounded, on calibration text."""
    calibration, _ = lab.corpus.split()
    rows = np.flatnonzero(np.isin(lab.text.kept, calibration))
    scores = lab.score([Plan.uniform(scheme, lab.n_blocks)], f"all blocks {scheme}")
    gone = collapsed(scores.select(sentences=rows))[0]
    return [code for code, bad in zip(lab.languages, gone, strict=True) if bad]


def _operating_point_in_store(lab: Lab, thresholds: Thresholds) -> str:
    """Returns the operating point as far as the store tells; else what is to be tried next."""
    held = {plan for plan, _ in lab.store.scored_plans(lab.text_key)}
    for scheme in _operating_schemes(thresholds):
        known = Plan.uniform(scheme, lab.n_blocks).text in held
        if not known or not _collapsed_at(scheme, lab):
            return scheme
    return _operating_schemes(thresholds)[-1]


def _judge(
    experiment: Experiment,
    lab: Lab,
    scheme: str,
    params: Any,
    thresholds: Thresholds,
    measured: Callable[[Experiment], None] = lambda _: None,
) -> tuple[Finding, str]:
    """Returns an experiment's finding and the key of what it measured, or has measured before.

    ``measured`` is told where it is measured now.
    """

    def measure() -> Observations:
        measured(experiment)
        return _measured(experiment, lab, scheme, params)

    # The many small matrices of statistics gain nothing from threads, and lose much to waiting.
    with threadpool_limits(1, user_api="blas"):
        observations, key = lab.observe(
            experiment.id, experiment.version, _about(experiment, lab, scheme, params), measure
        )
        return experiment.judge(observations, thresholds), key


def _about(experiment: Experiment, lab: Lab, scheme: str, params: Any) -> dict[str, Any]:
    """Returns what an experiment's observations are kept by, beside model and text."""
    return asdict(params) | {"scheme": scheme} | dict(experiment.inputs(lab))


def _measured(experiment: Experiment, lab: Lab, scheme: str, params: Any) -> Observations:
    """Returns what an experiment measures; where the model lacks what it needs, that and why."""
    try:
        return experiment.measure(lab, scheme, params)
    except UnsupportedArchitecture as error:
        return experiment.observed(lab, scheme, params, {}, {NOT_TESTABLE: str(error)})


def run(
    experiment: str, lab: Lab, *, scheme: str | None = None, tier: str = "standard", **params: Any
) -> Finding:
    """Runs one experiment on all of a lab's text and returns its finding.

    What the lab's store holds is not measured again. The p is not adjusted for other hypotheses:
    that takes the whole family, which is the main job's. Disparity hypotheses are not closed here
    where there is no disparity; the audit tells.

    Args:
        experiment: Id, such as ``T-007``, in any spelling.
        lab: Model and text.
        scheme: How blocks are rounded; at the operating point when None.
        tier: Whose parameters to start from.
        **params: Parameters of the experiment that shall differ, such as ``planted_seeds=5``.

    Raises:
        UsageError: If the experiment, the tier or a parameter is unknown.
        ModelError: If no scheme is given and some language collapses at every number of bits.

    Example:
        Half a minute, so that it is not run here; ``bitgap.run`` in the notebook is.

        >>> from bitgap import Lab
        >>> lab = Lab.from_pretrained(languages="de").spread(2)  # doctest: +SKIP
        >>> run("T-004", lab, scheme="rtn4-g128", tier="smoke").verdict.label  # doctest: +SKIP
        'refuted'
    """
    found, thresholds = find(experiment), load_thresholds()
    if tier not in TIERS:
        raise UsageError(f"no tier {tier!r}; there are {', '.join(TIERS)}")
    if unknown := params.keys() - {f.name for f in fields(found.params)}:
        known = ", ".join(f.name for f in fields(found.params)) or "none"
        raise UsageError(f"{found.id} has no parameter {min(unknown)!r}; it has {known}")
    chosen = replace(TIERS[tier].parameters(found), **params)
    at = scheme or operating_point(lab, thresholds)[0]
    return scoped(_judge(found, lab, at, chosen, thresholds)[0], model_scope(describe(lab, at)))


def foresee(lab: Lab, tier: Tier) -> Preflight:
    """Returns what an investigation would cost beyond what the store holds.

    Passes are over the experiments' text: what runs on fewer sentences is a part of one. Plans are
    counted; what controls and statistics take beside them is known by the share that scoring had of
    whole runs before (:func:`scoring_share`), and where there was none the cost says that it is of
    scoring alone.

    Example:
        >>> from bitgap import Lab
        >>> lab = Lab.from_pretrained(languages="de").spread(2)
        >>> cost = foresee(lab, TIERS["smoke"])
        >>> cost.work.block_evaluations < cost.work.naive_block_evaluations
        True
    """
    cost, share = _of_scoring(lab, tier), scoring_share(lab.store, tier)
    return replace(cost, time_s=cost.time_s / (share or 1.0), of_scoring=share is None)


def _of_scoring(lab: Lab, tier: Tier) -> Preflight:
    thresholds, seed = load_thresholds(), lab.settings.seed
    tier = tier.fitted(lab.n_blocks, lab.corpus.n_sentences)
    part = lab.spread(tier.sentences)
    scheme = _operating_point_in_store(part, thresholds)

    def known(n: int, exact: bool) -> set[Plan]:
        # Scores of light plans are kept beside the others, so that one text's rows tell of both.
        text = lab.spread(n)
        return {Plan.parse(p, lab.n_blocks) for p, _ in text.store.scored_plans(text.text_key)}

    def spending(**held: Any) -> Spent:
        n_all = lab.corpus.n_sentences
        return in_all(
            spent_by(tier, lab.n_blocks, n_all, seed=seed, scheme=scheme, **held).values()
        )

    measured = {
        experiment.id
        for experiment in CATALOG
        if part.store.has_observations(
            part.observation_key(
                experiment.id,
                experiment.version,
                _about(experiment, part, scheme, tier.parameters(experiment)),
            )
        )
    }
    n_plans, spent = spending().plans, spending(known=known, measured=measured)
    masks = tier.design(lab.n_blocks, seed=seed).plans(scheme)
    of_map = lab.spread(tier.map_sentences).preflight(masks)
    n, rates = part.corpus.n_sentences, part.measured_rates()
    work = Work(round(spent.blocks / n), round(spent.blocks_unshared / n), round(spent.heads / n))
    return Preflight(
        n_plans=n_plans,
        n_known=n_plans - spent.plans,
        work=work,
        n_rows=part.n_rows,
        time_s=part.n_rows / n * (spent.blocks * rates.block_s + spent.heads * rates.head_s),
        # Experiments try many schemes, which fill the bank.
        memory_bytes=of_map.memory_bytes + part.engine.layout.bank_bytes,
    )
