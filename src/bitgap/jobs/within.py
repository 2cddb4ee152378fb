"""How much can be measured in a given time: sentences first, then masks, then pairs of blocks.

The standard error of everything falls with the sentences; more masks only say more. So a run takes
as many sentences as fit, up to 200, with single blocks from both ends and the triples that are
asked about; a sample of masks, and pairs of blocks, only where time is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bitgap.errors import UsageError
from bitgap.jobs.spending import FULL_BLOCKS, FULL_HEADS, in_all, scoring_share, spent_by
from bitgap.jobs.tiers import TIERS, Tier
from bitgap.lab.engine.tree import PlanTree
from bitgap.show.words import MORE, duration
from bitgap.stats.mask_design import MOST_SENTENCES, SAMPLED_MASKS, SAMPLED_TRIPLES, make_design

if TYPE_CHECKING:
    from bitgap.lab.engine.budget import Rates
    from bitgap.lab.lab import Lab

SENTENCES = (200, 160, 128, 96, 80, 64, 48, 40, 32, 24, 16, 12, 8, 6, 4, 3, 2)
"""How many sentences may be chosen, so that runs of nearby times share what they store."""
SPENT = 0.85
"""Share of the time given that is planned with; predictions are some 10 % off."""
_FEW_SENTENCES = 24
_PROBED_SENTENCES = 4
_WHOLE_SAMPLE = SAMPLED_TRIPLES + SAMPLED_MASKS
_MASKS = ((True, _WHOLE_SAMPLE), (False, _WHOLE_SAMPLE), (False, 0))
"""Whether pairs, and how large a sample; the most first, the least last."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What a model and a text take on a machine.

    Attributes:
        n_blocks: L.
        n_sentences: Sentences of the text.
        rows_per_sentence: Padded token rows of a sentence in all languages.
        rates: Seconds for a row through a block and through the head.
        shares: What share of a whole investigation its scoring is, by tier, where it is known.
    """

    n_blocks: int
    n_sentences: int
    rows_per_sentence: float
    rates: Rates
    shares: Mapping[str, float] = field(default_factory=dict[str, float])

    def seconds(self, sentences: int, blocks: float, heads: float) -> float:
        """Returns what so many block and head evaluations take on so many sentences."""
        a_row = blocks * self.rates.block_s + heads * self.rates.head_s
        return sentences * self.rows_per_sentence * a_row


def speed_of(lab: Lab) -> Speed:
    """Returns what a lab's model and text take here; measures for a moment, on few sentences.

    Example:
        >>> from bitgap import Lab
        >>> speed_of(Lab.from_pretrained(languages="de").spread(4)).n_blocks
        12
    """
    rates = lab.spread(_PROBED_SENTENCES).measured_rates()
    n = lab.corpus.n_sentences
    known = {name: scoring_share(lab.store, tier) for name, tier in TIERS.items()}
    shares = {name: share for name, share in known.items() if share is not None}
    return Speed(lab.n_blocks, n, lab.n_rows / n, rates, shares)


def tier_within(speed: Speed, seconds: float, name: str) -> tuple[Tier, str]:
    """Returns the tier of an investigation that fits a time, and why, in a sentence.

    Args:
        speed: Of model, text and machine.
        seconds: What it may take.
        name: What the tier is called.

    Raises:
        UsageError: If even the least does not fit; the message says what it would take.

    Example:
        >>> from bitgap.lab.engine.budget import Rates
        >>> fast, slow = (Speed(24, 1000, 500.0, Rates(s, s)) for s in (1e-7, 1e-5))
        >>> tier_within(fast, 3600, "within 1h")[0].sentences
        200
        >>> chosen, why = tier_within(slow, 3600, "within 1h")
        >>> chosen.sentences, chosen.pairs, chosen.sample
        (96, False, 0)
    """

    def tiers() -> Iterator[Tier]:
        for sentences, (pairs, sample) in _candidates(speed.n_sentences):
            like = "standard" if sentences >= _FEW_SENTENCES else "smoke"
            yield replace(
                TIERS[like], name=name, like=like, sentences=sentences, map_sentences=sentences,
                pairs=pairs, sample=sample, map_work=None,
            )  # fmt: skip

    def needs(tier: Tier) -> float:
        spent = in_all(spent_by(tier, speed.n_blocks, speed.n_sentences).values())
        return speed.seconds(1, spent.blocks, spent.heads) / speed.shares.get(tier.like, 1.0)

    def said(tier: Tier) -> str:
        more = "" if tier.like in speed.shares else f" (scoring; {MORE})"
        return f"{_said(tier.map_sentences, tier, speed)}{more}"

    return _fitting(list(tiers()), needs, seconds, said)


def map_within(speed: Speed, seconds: float) -> tuple[Tier, str]:
    """Returns a tier whose layer map alone fits a time, and why, in a sentence.

    Args:
        speed: Of model, text and machine.
        seconds: What it may take.

    Raises:
        UsageError: If even the least does not fit; the message says what it would take.

    Example:
        >>> from bitgap.lab.engine.budget import Rates
        >>> tier, _ = map_within(Speed(24, 1000, 500.0, Rates(1e-7, 1e-7)), 3600)
        >>> tier.map_sentences, tier.pairs
        (200, True)
    """
    tiers = [
        Tier(name="map", sentences=n, map_sentences=n, pairs=pairs, sample=sample)
        for n, (pairs, sample) in _candidates(speed.n_sentences)
    ]

    def needs(tier: Tier) -> float:
        return _seconds_of_map(speed, tier.map_sentences, tier.pairs, tier.sample)

    return _fitting(tiers, needs, seconds, lambda t: _said(t.map_sentences, t, speed))


def _candidates(n_sentences: int) -> Iterator[tuple[int, tuple[bool, int]]]:
    """Yields sentences with masks, the best first: more masks on all sentences there may be."""
    most = min(n_sentences, MOST_SENTENCES)
    yield from ((most, masks) for masks in _MASKS)
    yield from ((n, _MASKS[-1]) for n in SENTENCES if n < most)


def _fitting(
    tiers: Sequence[Tier],
    needs: Callable[[Tier], float],
    seconds: float,
    said: Callable[[Tier], str],
) -> tuple[Tier, str]:
    for tier in tiers:
        takes = needs(tier)
        if takes <= seconds * SPENT:
            return tier, f"{said(tier)}: about {duration(takes)} of {duration(seconds)}"
    least, takes = tiers[-1], needs(tiers[-1])
    raise UsageError(
        f"--within {duration(seconds)} is too short: the least, {said(least)}, takes about "
        f"{duration(takes)} here; give --within {_rounded_up(takes / SPENT)}, fewer --languages, "
        f"or shorter sentences"
    )


def _said(sentences: int, tier: Tier, speed: Speed) -> str:
    masks = len(_masks(speed.n_blocks, tier.pairs, tier.sample))
    kinds = ["single blocks from both ends and the triples asked about"]
    kinds += ["a sample of masks"] if tier.sample else []
    kinds += ["all pairs"] if tier.pairs else []
    of = f"{sentences} sentences" + (", all there are" if sentences == speed.n_sentences else "")
    return f"{of}, {masks} masks ({', '.join(kinds)})"


def _masks(n_blocks: int, pairs: bool, sample: int) -> tuple[int, ...]:
    return make_design(n_blocks, pairs=pairs, sample=sample).masks


def _seconds_of_map(speed: Speed, sentences: int, pairs: bool, sample: int) -> float:
    design = make_design(speed.n_blocks, pairs=pairs, sample=sample)
    plans = [plan for plan in design.plans("rtn3-g128") if not plan.is_full_precision]
    work = PlanTree(plans).work()
    return speed.seconds(
        sentences,
        work.block_evaluations + FULL_BLOCKS * speed.n_blocks,
        work.head_evaluations + FULL_HEADS,
    )


def _rounded_up(seconds: float) -> str:
    minutes = int(seconds // 60) + 1
    return f"{minutes}min" if minutes < 120 else f"{minutes // 60 + 1}h"
