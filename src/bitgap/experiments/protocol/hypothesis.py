"""What is known of a hypothesis: one record, written where its experiment is declared.

Terminal, page, paper and the theory read it; none of them has a wording of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A question that the original study left open, or what was asked beside those.

    Attributes:
        number: Its place, from 1.
        key: One word for it, such as ``variance``.
        question: In full.
        of_origin: Whether the original study asked it.
    """

    number: int
    key: str
    question: str
    of_origin: bool = True

    @property
    def title(self) -> str:
        """Its key as a heading."""
        return self.key.capitalize()


GAPS: Mapping[str, Gap] = {
    gap.key: gap
    for gap in (
        Gap(
            number=1,
            key="variance",
            question="Why should a block of larger weights matter more?",
        ),
        Gap(
            number=2,
            key="synergy",
            question="Why should the first and the last block protect more together than apart?",
        ),
        Gap(
            number=3,
            key="depth",
            question="Why should a block at three quarters of the depth matter?",
        ),
        Gap(
            number=4,
            key="bound",
            question="Is there a law of how even languages can be at so many bits, and does the "
            "proposed formula hold?",
        ),
        Gap(number=5, key="further", question="What else was asked?", of_origin=False),
    )
}
"""In reading order."""

PILLARS: Mapping[str, str] = {
    "gateways": "the first and the last block are built differently",
    "bottleneck": "something is special at three quarters of the depth",
    "synergy": "protecting both ends pays more than its parts",
    "formal model": "variance, boundary and bottleneck predict disparity",
}
"""What the Gateway-Bottleneck theory stands on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """One hypothesis; its declared thresholds stand under the same id in ``thresholds.yaml``.

    Attributes:
        id: Such as ``H2.1``.
        claim: What it says, in a few words.
        prediction: What it predicts, as it goes on after "the prediction is that".
        if_supported: What then holds, as a clause.
        if_refuted: What is then ruled out, as an object of "ruled out".
        gap: Key of :data:`GAPS`: the question it was offered for.
        pillar: Key of :data:`PILLARS` where one rests on it.
        explains_triple: Whether it would explain why the original study's three blocks matter.
        needs_disparity: Whether there must be a gap between languages for it to be tested.
        across_families: Whether it is judged over model families too, by ``RULE`` of the
            experiment's part ``families``.
    """

    id: str
    claim: str
    prediction: str
    if_supported: str
    if_refuted: str
    gap: str
    pillar: str | None = None
    explains_triple: bool = False
    needs_disparity: bool = False
    across_families: bool = True
