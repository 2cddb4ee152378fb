"""The page of error rates, as Markdown, section by section. Every number in it was counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bitgap.records import Label
from bitgap.show.to_markdown import rows_of
from bitgap.stats.verdicts import Thresholds
from validation.counts import Count, Standing, highest, lowest, total
from validation.detection import ControlCount, Detection, Setting
from validation.family_tests import ALPHA, SLOPE, TESTS
from validation.guards import GUARDS, MEMBERS, GuardTally
from validation.protect import HELPS, LABELS, SMALLEST, RecipeTally
from validation.synth_checks import Check
from validation.synth_synergy import SynergyTally
from validation.synth_theory import TheoryTally
from validation.truth_table import (
    ERROR,
    FAINT,
    FEW,
    SPREAD,
    TRUTHS,
    Tally,
    hypotheses,
)

POWER = 0.8
"""Share of worlds at twice the smallest effect of interest that must be supported."""
POWERED = 8
"""Families at which they must be."""
RANKED = "H2.2"
"""Judged by ranks of noiseless weights, so it has no state of too much noise."""


MARK = r"^<!-- section: (.+) -->$"
"""What stands above each section, so that it is found again."""


def mark(name: str) -> str:
    """Returns what stands above a section."""
    return f"<!-- section: {name} -->"


def stamped(text: str, name: str, facts: Mapping[str, object]) -> str:
    """Returns a section that says when it was made, how much was counted and what was declared.

    Args:
        text: The section, its heading first.
        name: Of the section.
        facts: With date, size, declared thresholds and seconds.
    """
    heading, _, rest = text.partition("\n")
    told = (
        f"*Made on {facts['date']} in {facts['seconds']} s; size {facts['size']}; thresholds "
        f"{facts['declared thresholds']}.*"
    )
    return f"{mark(name)}\n{heading}\n\n{told}\n{rest}"


def header(facts: Mapping[str, object]) -> str:
    """Returns the head of the page.

    Args:
        facts: What it was made by and with, by name.
    """
    return "\n\n".join(
        [
            "# How often this toolkit is wrong",
            "Made by `python -m validation`; written by no hand. Rates stand with exact "
            "95 % binomial intervals. A requirement is *met* where the whole interval keeps it, "
            "*NOT MET* where none of it does, and *not shown* in between. Each section says when "
            "it was made; one that is older than the rest was kept.",
            rows_of(["last made with", ""], facts.items()),
        ]
    )


# -- tests across families ------------------------------------------------------------------------


def family_tests(
    found: Mapping[tuple[int, int, str], tuple[Mapping[str, Count], Mapping[str, Count]]],
) -> str:
    """Returns the section on the tests across families.

    Args:
        found: False positives and power of each test, by (families, layers, kind of profile).
    """
    rows = [
        [m, layers, kind, *(null[test] for test in TESTS), *(power[test] for test in TESTS)]
        for (m, layers, kind), (null, power) in found.items()
    ]
    head = ["families", "layers", "profiles", *(f"{t}, none" for t in TESTS),
            *(f"{t}, r = {SLOPE}" for t in TESTS)]  # fmt: skip
    return "\n\n".join(
        [
            "## Tests of a correlation across families",
            f"How often each test alone is under {ALPHA}: on unrelated profiles, where it should "
            f"be about {ALPHA} at most, and on profiles that correlate by {SLOPE}. A verdict needs "
            "all three, its p is the t's. Profiles are detrended in depth within each family.",
            rows_of(head, rows),
        ]
    )


# -- SynthLM --------------------------------------------------------------------------------------


def synth(
    checks: Sequence[Check], tallies: Mapping[str, SynergyTally], thresholds: Thresholds
) -> str:
    """Returns the section on the synthetic model.

    Args:
        checks: Estimators against the truth.
        tallies: Of additive models, and of models with planted cancellation, by name.
        thresholds: What was declared.
    """
    truth = rows_of(
        ["estimated", "truth", "estimate", "difference"],
        ([c.name, f"{c.truth:.4g}", f"{c.found:.4g}", f"{c.found - c.truth:+.2g}"] for c in checks),
    )
    rows = [
        [name, Count(t.origin, t.n), *(Count(t.labels[label], t.n) for label in _LABELS[:4])]
        for name, t in tallies.items()
    ]
    additive = next(iter(tallies.values()))
    false = Count(additive.labels["supported"], additive.n)
    inside = Count(additive.both, additive.origin)
    return "\n\n".join(
        [
            "## SynthLM: truth that can be written down",
            "A linear residual stream with a softmax head, whose damage, error correlation, "
            "dimension, alignment and probe information follow from chosen numbers.",
            truth,
            "Where damage adds up there is no synergy and nothing cancels. The origin's ratio of "
            "languages shows its pattern all the same (the last block alone harms, with the first "
            "it is best) in a share of such models; the synergy experiment must not be taken in. "
            "Its interaction is a share of what the last block is worth alone: where cancellation "
            "goes so far that this is nothing, it has no value.",
            rows_of(["models", "origin's pattern", *_LABELS[:4]], rows),
            _requirements(
                [
                    _most("false support of synergy where damage adds up", false, thresholds.alpha),
                    _most("the same where the origin shows its pattern", inside, thresholds.alpha),
                    *(
                        _least(f"support where {name}", Count(t.labels["supported"], t.n), POWER)
                        for name, t in list(tallies.items())[1:2]
                    ),
                ]
            ),
        ]
    )


_LABELS: tuple[Label, ...] = ("supported", "inconclusive", "refuted", "small", "not testable")


# -- the truth table ------------------------------------------------------------------------------


def truth_table(tallies: Sequence[Tally], thresholds: Thresholds) -> str:
    """Returns the section on the verdict engine."""
    names, alpha = hypotheses(thresholds), thresholds.alpha
    families = sorted({t.world.families for t in tallies})
    return "\n\n".join(
        [
            "## Verdict truth table",
            f"Families with every hypothesis planted at a known truth, {', '.join(TRUTHS)}: no "
            "effect; the smallest effect of interest (SESOI); half of it; twice it; twice it for a "
            f"random half of the hypotheses; no effect in {FAINT:g} times the noise; no effect in "
            f"{FEW} families. Effects of families have SD {SPREAD} and standard error {ERROR}. "
            f"Holm is taken over {len(names)} hypotheses. One of several parts is planted "
            "false in one part alone, which is hardest. Controls count as sound and further "
            "declared conditions as met. Worst cells are those of one number of families, of "
            "layers and kind of profile.",
            _requirements(_required(tallies, names, families, alpha)),
            "### Errors by hypothesis",
            rows_of(
                ["hypothesis", "false support: none", "worst cell", "half", "refuted: sesoi",
                 "before Holm", "worst cell before Holm", "small: sesoi", "supported: half way"],
                ([name, *_errors(tallies, name)] for name in names),
            ),
            "*Supported: half way* has no limit in the method: there is an effect, which is taken "
            "for twice what it is.",
            "### Power by hypothesis",
            rows_of(
                ["hypothesis", *(f"power: twice, M = {m}" for m in families),
                 *(f"power alone, M = {m}" for m in families), "small: half way",
                 "inconclusive: faint", "inconclusive: few"],
                ([name, *_powers(tallies, name, families)] for name in names),
            ),
            "*Power alone* is as if no other hypothesis had an effect, so that Holm asks most. "
            f"{RANKED} ranks layers by weights that carry no noise, so it has no faint state.",
            "### By kind of world",
            rows_of(
                ["truth", "families", "layers", "profiles", "worlds with any false support"],
                ([t.world.truth, t.world.families, t.world.layers, t.world.kind,
                  Count(t.false, t.n)] for t in tallies if t.world.truth in ("none", "half")),
            ),
        ]
    )  # fmt: skip


def _cells(
    tallies: Sequence[Tally], truth: str, name: str, label: Label, m: int | None = None
) -> list[Count]:
    return [
        Count(t.labels[name][label], t.labels[name].total())
        for t in tallies
        if t.world.truth == truth and (m is None or t.world.families == m)
    ]


def _alone(tallies: Sequence[Tally], name: str, m: int) -> list[Count]:
    return [
        Count(t.alone[name], t.n)
        for t in tallies
        if t.world.truth == "twice" and t.world.families == m
    ]


def _before(tallies: Sequence[Tally], name: str) -> list[Count]:
    """Returns how often an effect of the SESOI is refuted at its own p of equivalence."""
    return [Count(t.before[name], t.n) for t in tallies if t.world.truth == "sesoi"]


def _errors(tallies: Sequence[Tally], name: str) -> list[object]:
    none = _cells(tallies, "none", name, "supported")
    before = _before(tallies, name)
    return [
        total(none),
        highest(none),
        total(_cells(tallies, "half", name, "supported")),
        total(_cells(tallies, "sesoi", name, "refuted")),
        total(before),
        highest(before),
        total(_cells(tallies, "sesoi", name, "small")),
        total(_cells(tallies, "half way", name, "supported")),
    ]


def _powers(tallies: Sequence[Tally], name: str, families: Sequence[int]) -> list[object]:
    faint = total(_cells(tallies, "faint", name, "inconclusive"))
    return [
        *(total(_cells(tallies, "twice", name, "supported", m)) for m in families),
        *(total(_alone(tallies, name, m)) for m in families),
        total(_cells(tallies, "half way", name, "small")),
        "—" if name == RANKED else faint,
        total(_cells(tallies, "few", name, "inconclusive")),
    ]


Requirement = tuple[str, Count, Standing]


def _most(what: str, count: Count, limit: float) -> Requirement:
    return f"{what}, at most {limit}", count, count.at_most(limit)


def _least(what: str, count: Count, limit: float) -> Requirement:
    return f"{what}, at least {limit}", count, count.at_least(limit)


def _required(
    tallies: Sequence[Tally], names: Sequence[str], families: Sequence[int], alpha: float
) -> list[Requirement]:
    """Returns what the method requires of the engine, each with the hypothesis that does worst."""

    def pooled(truth: str, label: Label, m: int | None = None) -> list[Count]:
        # What carries no noise cannot be hidden in it.
        told = [n for n in names if truth != "faint" or n != RANKED]
        return [total(_cells(tallies, truth, n, label, m)) for n in told]

    of_family = {
        truth: [Count(t.false, t.n) for t in tallies if t.world.truth == truth]
        for truth in ("none", "half")
    }
    found = [
        _most("false support of any one hypothesis, none true",
              highest(pooled("none", "supported")), alpha),
        _most("the same with half of them true", highest(pooled("half", "supported")), alpha),
        _most("family-wise, none true", total(of_family["none"]), alpha),
        _most("family-wise, half true", total(of_family["half"]), alpha),
        _most("family-wise in the worst kind of world",
              highest([*of_family["none"], *of_family["half"]]), alpha),
    ]  # fmt: skip
    if POWERED in families:
        by_cell = [c for n in names for c in _cells(tallies, "twice", n, "supported", POWERED)]
        alone = [total(_alone(tallies, n, POWERED)) for n in names]
        found += [
            _least(f"power at twice the SESOI, {POWERED} families",
                   lowest(pooled("twice", "supported", POWERED)), POWER),
            _least("the same in the worst kind of world", lowest(by_cell), POWER),
            _least("the same where no other hypothesis is true", lowest(alone), POWER),
        ]  # fmt: skip
    return [
        *found,
        _least("inconclusive where noise hides all",
               lowest(pooled("faint", "inconclusive")), POWER),
        _least(f"inconclusive in {FEW} families", lowest(pooled("few", "inconclusive")), POWER),
        _most("false refutation of any one hypothesis at the SESOI",
              highest(pooled("sesoi", "refuted")), alpha),
        _most("the same before Holm, as if no other could be refuted",
              highest([total(_before(tallies, n)) for n in names]), alpha),
        _most("family-wise, all at the SESOI",
              total([Count(t.refuted, t.n) for t in tallies if t.world.truth == "sesoi"]), alpha),
        _most("false refutation at twice the SESOI", highest(pooled("twice", "refuted")), alpha),
        _most("small at the SESOI", highest(pooled("sesoi", "small")), alpha),
    ]  # fmt: skip


def _requirements(rows: Sequence[Requirement]) -> str:
    return rows_of(["required", "rate", "standing"], rows)


# -- guards of a refutation -----------------------------------------------------------------------


def guards(tallies: Sequence[GuardTally], thresholds: Thresholds) -> str:
    """Returns the section on what guards a refutation of profiles over blocks."""
    required = [
        _most(f"{label}: {t.scenario.told}", t.rate(label), limit)
        if limit > 0
        else _least(f"{label}: {t.scenario.told}", t.rate(label), -limit)
        for t in tallies
        for label, limit in t.scenario.limits.items()
    ]
    kept_back = [t for t in tallies if t.scenario.slope == 0 and not t.scenario.spikes]
    return "\n\n".join(
        [
            "## Guards of a verdict on profiles",
            "Correlations over blocks whose truth is known, through every guard. A refutation "
            "needs tests that concur, each block left out in all families, and a correlation of "
            f"{thresholds.planted_strength:g} times the smallest effect of interest (SESOI), on "
            "Fisher's z, planted in all families at once and found in "
            f"{thresholds.detection_share:.0%} of twenty; support needs the SESOI and an interval "
            "above 0 also without each block. One hypothesis by itself, before Holm, where errors "
            "are most frequent. Profiles are autocorrelated by .7 from block to block unless said "
            "otherwise; spikes at an end block are shared by all families.",
            _requirements(required),
            f"All labels, of {_worlds(tallies)} worlds each; intervals are those of above, at most "
            f"{_widest(tallies):.3f} to either side. *Version 2* is how often the interval alone "
            "lies under the SESOI, which was enough; *no block left out* is how often version 3 "
            f"would support without that guard; *after Holm* is at {MEMBERS} times the p, as if "
            "every other hypothesis were to be judged too and none could be refuted.",
            rows_of(
                ["truth", "families", "blocks", "SESOI", *_LABELS[:4], "refuted after Holm",
                 "refuted by version 2", "supported, no block left out", "plant found"],
                ([t.scenario.told, t.scenario.families, t.scenario.layers,
                  f"{t.scenario.sesoi:g}", *(f"{t.rate(label).rate:.3f}" for label in _LABELS[:4]),
                  *(f"{k / t.n:.3f}" for k in (t.after_holm, t.before, t.loose, t.planted))]
                 for t in tallies),
            ),
            "### What keeps a true refutation back",
            "Shares of worlds in which nothing is there: in which the interval reaches the SESOI, "
            "so that nothing can be refuted; and in which it lies under it and a guard still keeps "
            "the refutation back (in brackets: that guard and no other).",
            rows_of(
                ["truth", "families", "blocks", "the interval", *GUARDS, "refuted"],
                ([t.scenario.told, t.scenario.families, t.scenario.layers,
                  f"{1 - t.before / t.n:.3f}",
                  *(f"{t.kept_back[g] / t.n:.3f} ({t.alone[g] / t.n:.3f})" for g in GUARDS),
                  t.rate("refuted")] for t in kept_back),
            ),
        ]
    )  # fmt: skip


def _worlds(tallies: Sequence[GuardTally]) -> str:
    least, most = min(t.n for t in tallies), max(t.n for t in tallies)
    return f"{most:,}" if least == most else f"{least:,} to {most:,}"


def _widest(tallies: Sequence[GuardTally]) -> float:
    """Returns the largest distance of an interval's end from its rate."""
    counts = [t.rate(label) for t in tallies for label in _LABELS[:4]]
    return max(max(c.ends[1] - c.rate, c.rate - c.ends[0]) for c in counts)


# -- the formal model -----------------------------------------------------------------------------


def formal_model(
    nulls: Mapping[str, TheoryTally], planted: Mapping[str, TheoryTally], thresholds: Thresholds
) -> str:
    """Returns the section on the formal model.

    Args:
        nulls: What it says where the theory is not true, by world.
        planted: What it says where it is, at twice the SESOI, by world.
        thresholds: What was declared.
    """
    rows = [
        [truth, name, tally.world.families, tally.rate("supported"), tally.rate("refuted"),
         tally.rate("inconclusive"), f"{tally.gain:+.3f}", tally.detected, tally.drawn_again]
        for truth, tallies in (("none", nulls), ("planted", planted))
        for name, tally in tallies.items()
    ]  # fmt: skip
    head = ["theory", "world", "families", "supported", "refuted", "inconclusive", "mean θ",
            "its own planted effect found", "drawn again"]  # fmt: skip
    required = [
        _most("false support of the formal model",
              total(t.rate("supported") for t in nulls.values()), thresholds.alpha),
        *(_least(f"power at twice the SESOI, {name}", tally.rate("supported"), POWER)
          for name, tally in planted.items()),
    ]  # fmt: skip
    return "\n\n".join(
        [
            "## The formal model on synthetic families",
            "θ is the gain in leave-one-family-out R² of variance, boundary and bottleneck over "
            "position. Where there is no theory, responses are smooth in depth or an exact error "
            "budget; predictors go with depth as layer profiles do. Where no slope gains as "
            "much as is to be planted, another world is drawn.",
            rows_of(head, rows),
            _requirements(required),
        ]
    )


# -- recipes --------------------------------------------------------------------------------------


def recipes(tallies: Sequence[RecipeTally]) -> str:
    """Returns the section on recipes: what is said of them where it is known what is so.

    Args:
        tallies: One for each kind of world.
    """
    null = [t for t in tallies if not t.world.planted]
    required = [
        *(_most(f"false \"helps\", {t.world.name}", t.rate(*HELPS), 0.05) for t in null),
        *(
            _least(f"\"helps\" at twice the smallest effect, {t.world.name}", t.rate(*HELPS), POWER)
            for t in tallies if t.world.planted and t.world.required
        ),
        _most(
            "a language called unharmed that lost more than the margin",
            total(Count(t.wrong_sides, t.languages) for t in tallies), 0.025,
        ),
    ]  # fmt: skip
    return "\n\n".join(
        [
            "## Recipes",
            "Worlds of twelve languages and 21 units, in which a damage table is estimated on one "
            "text, a plan of 3.25 bits searched by it, and proved on another text. *One table*: "
            "languages differ by a level each and in nothing else, so that knowing them gains "
            "nothing on the language-blind plan and every \"helps\" against it is false. "
            "*Planted*: three languages need one small unit, by so much that the best plan that "
            f"spares all others gains {2 * SMALLEST:.0%} to {3 * SMALLEST:.0%} in them. Where the "
            "text of the search does not show a gain the language-blind plan is taken. Against "
            "uniform the same recipes help in every world; that is no sign that languages matter.",
            _requirements(required),
            rows_of(
                ["world", "searched on", "confirm", "worlds", *LABELS, "true gain, log2",
                 "language-blind plan taken", "helps against uniform"],
                ([t.world.name, t.world.search, t.world.confirm, t.n,
                  *(t.rate(label) for label in LABELS), f"{t.mean_gain:+.3f}",
                  Count(t.kept_blind, t.n), t.over_uniform]
                 for t in tallies),
            ),
        ]
    )  # fmt: skip


# -- detection ------------------------------------------------------------------------------------


def detection(found: Sequence[Detection], setting: Setting, model: str) -> str:
    """Returns the section on what experiments and their controls do on a real model."""
    false = Count(sum(d.twins["supported"] for d in found), sum(d.twins.total() for d in found))
    parts = [
        "## Experiments and their controls on a real model",
        f"Model {model}, {setting.scheme}, languages {', '.join(setting.languages)}, "
        f"{setting.sentences} sentences drawn for each of {len(setting.seeds)} seeds, and for each "
        f"of {len(setting.twin_seeds)} random-init twins, in which nothing was learned. Parameters "
        f"that differ from the default: {_told(setting.overrides)}; of single experiments: "
        f"{_told_of_each(setting)}; on twins also: {_told(setting.twin_overrides)}. Verdicts are "
        "of one model, before Holm.",
        f"\"Supported\" on a random-init twin, over all experiments: {false}.",
        rows_of(
            ["experiment", "hypothesis", "on the model", "on random-init twins", "seconds"],
            ([d.experiment.id, d.experiment.hypothesis.id, _verdicts(d.verdicts),
              _verdicts(d.twins), f"{d.wall_s:.0f}"] for d in found),
        ),
        "Controls on the model, by seeds:",
        rows_of(
            ["experiment", "control", "kind", "passed", "failed", "not run", "what it said last"],
            ([d.experiment.id, c.name, c.kind, c.passed, c.failed, c.not_run, c.detail]
             for d in found for c in _ordered(d)),
        ),
    ]  # fmt: skip
    failures = [f"- {d.experiment.id} {why}" for d in found for why in dict.fromkeys(d.failures)]
    without = [d.experiment.id for d in found if not any(c.kind == "positive" and c.passed for c in
                                                         d.controls.values())]  # fmt: skip
    if without:
        parts.append(f"No positive control was detected in: {', '.join(without)}.")
    if failures:
        parts.append("\n".join(["Could not be measured or judged:", "", *failures]))
    return "\n\n".join(parts)


def _ordered(found: Detection) -> list[ControlCount]:
    return sorted(found.controls.values(), key=lambda c: c.kind != "positive")


def _verdicts(labels: Mapping[Label, int]) -> str:
    return ", ".join(f"{n} {label}" for label, n in labels.items()) or "none"


def _told(overrides: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in overrides.items()) or "none"


def _told_of_each(setting: Setting) -> str:
    told = [f"{id_} ({_told(own)})" for id_, own in setting.own_overrides.items()]
    return ", ".join(told) or "none"
