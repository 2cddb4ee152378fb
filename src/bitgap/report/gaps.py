"""The four questions that the origin left open, and the hypotheses offered for each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gap:
    """One question."""

    number: int
    key: str
    question: str
    hypotheses: tuple[str, ...]

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
