"""How much text a run of the main job looks at, and under how many masks; needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from bitgap.errors import UsageError
from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.protocol.experiment import Experiment
from bitgap.stats.mask_design import (
    LARGEST_FACTORIAL,
    MOST_SENTENCES,
    SAMPLED_MASKS,
    SAMPLED_TRIPLES,
    Design,
    make_design,
    map_size,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """How much text a run looks at; every tier uses the same engine and the same rules.

    What an experiment changes in a tier stands in its own declaration.

    Attributes:
        name: What the command line calls it.
        sentences: Sentences for audit and experiments, spread over the text; all when None. At the
            calibration rule's spread a quarter of them are for calibration.
        map_sentences: Sentences for the layer map, at most.
        complete_map: Whether to score all 2^L masks.
        pairs: Whether the map scores all pairs of blocks.
        sample: Random masks of the map, at most.
        map_work: What the map may cost, in head evaluations (masks times sentences) times L²: a
            mask of a deeper model takes more blocks, and its blocks are more. What does not fit is
            left out by :func:`bitgap.stats.mask_design.map_size`; no limit when None.
        like: Name of the tier whose parameters experiments take; its own when empty.
    """

    name: str
    sentences: int | None
    map_sentences: int
    complete_map: bool = False
    pairs: bool = True
    sample: int = SAMPLED_TRIPLES + SAMPLED_MASKS
    map_work: float | None = None
    like: str = ""

    def __post_init__(self) -> None:
        if self.sentences is not None:  # the map's text is part of the experiments'
            object.__setattr__(self, "map_sentences", min(self.map_sentences, self.sentences))

    def of_sentences(self, n_sentences: int) -> Tier:
        """Returns the tier on another number of sentences, under as many masks as it has now.

        Args:
            n_sentences: Sentences for everything.

        Example:
            >>> half = TIERS["standard"].of_sentences(28)
            >>> half.name, half.map_sentences, half.like
            ('standard of 28 sentences', 28, 'standard')
            >>> tiers = (TIERS["standard"], half)
            >>> one, other = (len(tier.fitted(24, 1000).design(24).masks) for tier in tiers)
            >>> one == other
            True
        """
        work = self.map_work
        if work is not None:
            work *= n_sentences / self.map_sentences
        return replace(
            self,
            name=f"{self.name} of {n_sentences} sentences",
            like=self.like or self.name,
            sentences=n_sentences,
            map_sentences=n_sentences,
            map_work=work,
        )

    def fitted(self, n_blocks: int, n_sentences: int) -> Tier:
        """Returns the tier with the map that it pays for on one model and text.

        Args:
            n_blocks: L.
            n_sentences: Sentences of the text.

        Raises:
            UsageError: If all masks are asked for and there are too many.
        """
        if self.complete_map and n_blocks > LARGEST_FACTORIAL:
            raise UsageError(
                f"all masks of {n_blocks} blocks are 2^{n_blocks}; they can be scored up to "
                f"{LARGEST_FACTORIAL} blocks. Leave --all-masks out"
            )
        if self.complete_map or self.map_work is None:
            return self
        most = min(n_sentences, self.map_sentences)
        size = map_size(n_blocks, self.map_work / n_blocks**2, most)
        if size is None:
            return replace(self, map_sentences=min(2, most), pairs=False, sample=0, map_work=None)
        return replace(
            self,
            map_sentences=size.sentences,
            pairs=size.pairs and self.pairs,
            sample=min(size.sample, self.sample),
            map_work=None,
        )

    def design(self, n_blocks: int, *, seed: int = 0) -> Design:
        """Returns the masks of a fitted tier's map.

        Args:
            n_blocks: L.
            seed: Of the sample.
        """
        complete = True if self.complete_map else None
        return make_design(
            n_blocks, seed=seed, complete=complete, pairs=self.pairs, sample=self.sample
        )

    def parameters(self, experiment: Experiment) -> Any:
        """Returns an experiment's parameters here; what it shares with the map is the map's."""
        shared = {
            "map_sentences": self.map_sentences,
            "complete": self.complete_map,
            "pairs": self.pairs,
        }
        has = {f.name for f in fields(experiment.params)}
        return replace(
            experiment.params,
            **{name: value for name, value in shared.items() if name in has},
            **experiment.tiers.get(self.like or self.name, {}),
        )

    def as_key(self) -> dict[str, Any]:
        """Returns all that hangs on the tier, JSON-ready, for the key of what is stored."""
        like = self.like or self.name
        changed = {e.id: dict(e.tiers[like]) for e in CATALOG if like in e.tiers}
        return asdict(self) | {"overrides": changed}


TIERS: dict[str, Tier] = {
    "smoke": Tier(name="smoke", sentences=12, map_sentences=12, pairs=False, sample=0),
    # Of 24 blocks the map costs 1.25 times the 906 masks on four sentences that it once did, at
    # .30 of their standard error of S, and the whole investigation 1.29 times (docs/adr/0025).
    "standard": Tier(name="standard", sentences=56, map_sentences=56, map_work=2.7e6),
    "full": Tier(name="full", sentences=MOST_SENTENCES, map_sentences=MOST_SENTENCES),
}
