"""What a run computed, and what it would have computed had nothing been shared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Ledger:
    """Work in padded token rows through one block, or through the head.

    A lab, its parts and its twins write into one ledger. Work is counted where it is asked for, as
    one forward pass a plan, and again where it is run; the difference is what plans that share a
    prefix, experiments that share plans, and the store saved.
    """

    asked_block_rows: int = 0
    """Rows through blocks if every plan of every request were a forward pass of its own."""
    asked_head_rows: int = 0
    """Rows through heads likewise."""
    block_rows: int = 0
    """Rows that did go through blocks."""
    head_rows: int = 0
    """Rows that did go through heads."""

    def asked(self, rows: int, blocks: int, heads: int) -> None:
        """Counts a request.

        Args:
            rows: Token rows of the text.
            blocks: Block evaluations it would take alone.
            heads: Head evaluations likewise.
        """
        self.asked_block_rows += rows * blocks
        self.asked_head_rows += rows * heads

    def ran(self, block_rows: int, head_rows: int = 0) -> None:
        """Counts work done, in token rows."""
        self.block_rows += block_rows
        self.head_rows += head_rows

    def passes(self, rows: int) -> dict[str, int]:
        """Returns the work as block and head evaluations of a text of so many token rows."""
        return {
            "block_evaluations": round(self.block_rows / rows),
            "block_evaluations_without_sharing": round(self.asked_block_rows / rows),
            "head_evaluations": round(self.head_rows / rows),
            "head_evaluations_without_sharing": round(self.asked_head_rows / rows),
        }
