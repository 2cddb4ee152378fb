"""The four questions that the origin left open, and the hypotheses offered for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Gap:
    """One question."""

    number: int
    key: str
    question: str
    hypotheses: tuple[str, ...]

    @property
    def of_origin(self) -> bool:
        """Whether the origin asked it."""
        return self.number <= len(GAPS)

    @property
    def title(self) -> str:
        """Its key as a heading."""
        return self.key.capitalize()


GAPS = (
    Gap(1, "variance", "Why should a block of larger weights matter more?",
        ("H1.1", "H1.2", "H1.3")),
    Gap(2, "synergy", "Why should the first and the last block protect more together than apart?",
        ("H2.1", "H2.2", "H2.3", "synergy")),
    Gap(3, "depth", "Why should a block at three quarters of the depth matter?",
        ("H3.1", "H3.2", "H3.3", "depth")),
    Gap(4, "bound", "Is there a law of how even languages can be at so many bits, and does the "
        "proposed formula hold?", ("H4.1", "formal")),
)  # fmt: skip


def by_gap(findings: Sequence[Json]) -> list[tuple[Gap, list[Json]]]:
    """Returns the gaps that there are findings on, each with its own, in reading order.

    A hypothesis that the origin did not ask about, such as a new experiment's, comes in one more
    chapter at the end.

    Args:
        findings: As JSON, one a hypothesis.
    """
    of = {finding["hypothesis"]: finding for finding in findings}
    told = {hypothesis for gap in GAPS for hypothesis in gap.hypotheses}
    rest = tuple(hypothesis for hypothesis in of if hypothesis not in told)
    further = Gap(len(GAPS) + 1, "further", "What else was asked?", rest)
    found = [(gap, [of[h] for h in gap.hypotheses if h in of]) for gap in (*GAPS, further)]
    return [(gap, mine) for gap, mine in found if mine]
