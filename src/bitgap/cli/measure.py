"""Commands that measure one model: audit, map, investigate."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING

from bitgap.cli import console
from bitgap.cli.files import (
    AGAINST,
    AS_RUN,
    FILES,
    audit_against,
    check_runtimes,
    map_against,
    opened_or_paths,
)
from bitgap.cli.options import (
    ALL_MASKS,
    DEFAULT_SCHEME,
    DRY_RUN,
    MODEL,
    SENTENCES,
    TIER,
    TIER_SENTENCES,
    TRUST,
    UNITS,
    WITHIN,
    option,
    scheme_name,
    scheme_or_plan,
    tier_name,
    verb,
    whole,
)
from bitgap.cli.session import Session
from bitgap.errors import UsageError
from bitgap.show.words import duration

if TYPE_CHECKING:
    from bitgap.jobs.tiers import Tier
    from bitgap.lab.lab import Lab

_TOKENS = "tokens of each text of calibration, at most (default: 16384, or what the text has)"
_ROUNDED = (
    "how weights are rounded: rtn4-g128 is to the nearest level of 4 bits, with a scale for each "
    "128 weights of a row"
)
_PLAN = f"{_ROUNDED}; or a whole plan in quotes"


@verb(
    "audit",
    "damage by language under one plan",
    *(*TRUST, DRY_RUN, MODEL),
    option("--protect", "blocks kept whole, such as 0,9,11 or 0-2", metavar="LIST"),
    option("--scheme", _PLAN, type=scheme_or_plan, default=DEFAULT_SCHEME),
    FILES,
    *AS_RUN,
    SENTENCES,
    example="bitgap audit ./my-model --scheme rtn3-g128 --languages en,he,ar",
)
def audit(options: Namespace, session: Session) -> None:
    """Shows what :meth:`bitgap.Lab.audit` finds."""
    if options.against and (options.protect or options.scheme != DEFAULT_SCHEME):
        raise UsageError(
            "--against takes the weights of a file as they are; leave out --scheme and --protect"
        )
    check_runtimes(options)
    files = opened_or_paths(options)
    # Before the imports, as it tells that something is done and they take seconds.
    lab = session.open_lab(options.model, "exact")
    from bitgap.jobs.investigate import describe
    from bitgap.quant.plan import Plan
    from bitgap.show import views

    if options.against:
        audit_against(options, session, lab, files)
        return
    protect = f" protect {options.protect}" if options.protect else ""
    plan = Plan.parse(f"{options.scheme}{protect}", lab.n_blocks)
    lab = lab.spread(options.sentences)
    if session.announce_cost(lambda: lab.preflight([plan])):
        session.keep(
            lab.store,
            views.audit_view,
            about=describe(lab, plan.text, options.scheme),
            texts={"audit": lab.text_key},
            report=lab.audit(plan),
        )


@verb(
    "map",
    "what protecting each set of blocks does",
    *(*TRUST, DRY_RUN, MODEL),
    option("--scheme", _ROUNDED, type=scheme_name, default=DEFAULT_SCHEME),
    SENTENCES,
    UNITS,
    WITHIN,
    ALL_MASKS,
    AGAINST,
    example="bitgap map ./my-model --within 2h --out map",
)
def layer_map(options: Namespace, session: Session) -> None:
    """Shows what :meth:`bitgap.Lab.map` or, by matrix, :meth:`bitgap.Lab.map_units` finds.

    Against a file: what :func:`bitgap.jobs.against.map_file` does.
    """
    if options.against:
        map_against(options, session)
        return
    if options.units:
        _unit_map(options, session)
        return
    lab = session.open_lab(options.model, "fast")
    from bitgap.jobs.investigate import describe, map_layers
    from bitgap.jobs.tiers import TIERS
    from bitgap.show import views

    tier = TIERS["full"]
    if options.sentences:
        tier = replace(tier, map_sentences=options.sentences)
        lab = lab.spread(options.sentences)
    tier = _chosen(options, lab, tier, map_only=True)
    lab = lab.spread(tier.map_sentences)
    design = tier.design(lab.n_blocks, seed=options.seed)
    if session.announce_cost(lambda: lab.preflight(design.plans(options.scheme))):
        layers, scores = map_layers(lab, options.scheme, design)
        session.keep(
            lab.store,
            views.map_view,
            about=describe(lab, options.scheme),
            texts={"map": lab.text_key},
            layer_map=layers,
            map_scores=scores,
        )


def _unit_map(options: Namespace, session: Session) -> None:
    from bitgap.disparity.unit_map import unit_plans
    from bitgap.jobs.investigate import describe
    from bitgap.show import views

    for name in ("within", "all_masks"):
        if getattr(options, name):
            raise UsageError(
                f"--units scores each matrix alone, and --{name.replace('_', '-')} chooses sets of "
                f"blocks; give one. --sentences says how much text is scored"
            )
    lab = session.open_lab(options.model, "fast").spread(options.sentences)
    plans = unit_plans(options.scheme, lab.n_blocks, lab.units())
    if session.announce_cost(lambda: lab.preflight(plans)):
        session.keep(
            lab.store,
            views.unit_map_view,
            about=describe(lab, options.scheme),
            texts={"map": lab.text_key},
            unit_map=lab.map_units(options.scheme),
        )


@verb(
    "calibration",
    "which language's text should calibrate",
    *(*TRUST, DRY_RUN, MODEL),
    option("--scheme", "levels and groups", type=scheme_name, default=DEFAULT_SCHEME),
    option("--tokens", _TOKENS, type=whole(2), metavar="N"),
    SENTENCES,
    example="bitgap calibration ./my-model --corpus ntrex --languages en,de,he,fi",
)
def calibration(options: Namespace, session: Session) -> None:
    """Shows what :meth:`bitgap.Lab.calibration` finds."""
    lab = session.open_lab(options.model, "exact")
    from bitgap.jobs.investigate import describe
    from bitgap.lab.calibrate import Asked, compare_calibrations, foresee, prepare
    from bitgap.show import views

    asked = Asked(scheme=options.scheme, sentences=options.sentences)
    prepared = prepare(lab, replace(asked, tokens=options.tokens) if options.tokens else asked)
    if session.announce_cost(lambda: foresee(prepared)):
        scored = prepared.scored
        session.keep(
            scored.store,
            views.calibration_view,
            about=describe(scored, options.scheme),
            texts={"audit": scored.text_key},
            calibration=compare_calibrations(prepared),
        )


def tier_of(options: Namespace) -> Tier:
    """Returns the tier that ``--tier`` and ``--sentences`` name.

    Raises:
        UsageError: If ``--within`` is to choose the sentences too.
    """
    from bitgap.jobs.tiers import TIERS

    tier = TIERS[tier_name(options)]
    if options.sentences is None:
        return tier
    if options.within is not None:
        raise UsageError("--within chooses the sentences, and --sentences gives them; give one")
    return tier.of_sentences(options.sentences)


def _chosen(options: Namespace, lab: Lab, tier: Tier, *, map_only: bool = False) -> Tier:
    """Returns a tier as ``--within`` and ``--all-masks`` have it, and says what was chosen."""
    from bitgap.jobs.within import map_within, speed_of, tier_within

    if options.within is not None:
        if options.all_masks:
            raise UsageError("--within chooses the masks, and --all-masks wants all; give one")
        speed = speed_of(lab)
        if map_only:
            tier, why = map_within(speed, options.within)
        else:
            tier, why = tier_within(speed, options.within, f"within {duration(options.within)}")
        console.say(f"chosen: {why}")
    tier = replace(tier, complete_map=options.all_masks)
    return tier.fitted(lab.n_blocks, lab.corpus.n_sentences)


@verb(
    "investigate",
    "audit, map and experiments, with verdicts",
    *(*TRUST, DRY_RUN, MODEL, TIER, TIER_SENTENCES, WITHIN, ALL_MASKS),
    example="bitgap investigate --tier smoke --languages en,de,he,ru,hi",
)
def investigate(options: Namespace, session: Session) -> None:
    """Shows what :func:`bitgap.jobs.investigate.investigate` finds."""
    tier = tier_of(options)
    lab = session.open_lab(options.model, "fast")
    from bitgap.jobs.investigate import foresee, investigate
    from bitgap.show import views

    tier = _chosen(options, lab, tier)
    if session.announce_cost(lambda: foresee(lab, tier)):
        found = investigate(lab, tier, announce=console.say)
        session.keep(
            lab.store,
            views.investigation_view,
            about=found.about,
            texts=found.texts,
            investigation=found,
        )
