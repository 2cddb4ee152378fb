"""How much text a run of the main job looks at; needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from bitgap.experiments.catalog import CATALOG
from bitgap.experiments.protocol.experiment import Experiment


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """How much text a run looks at; every tier uses the same engine and the same rules.

    What an experiment changes in a tier stands in its own declaration.

    Attributes:
        name: What the command line calls it.
        sentences: Sentences for audit and experiments; all when None. At the calibration rule's
            spread a quarter of them are for calibration.
        map_sentences: Sentences for the layer map.
        complete_map: Whether to score all 2^L masks where L allows it.
    """

    name: str
    sentences: int | None
    map_sentences: int
    complete_map: bool

    def parameters(self, experiment: Experiment) -> Any:
        """Returns an experiment's parameters here; what it shares with the map is the map's."""
        shared = {"map_sentences": self.map_sentences, "complete": self.complete_map}
        has = {f.name for f in fields(experiment.params)}
        return replace(
            experiment.params,
            **{name: value for name, value in shared.items() if name in has},
            **experiment.tiers.get(self.name, {}),
        )

    def as_key(self) -> dict[str, Any]:
        """Returns all that hangs on the tier, JSON-ready, for the key of what is stored."""
        changed = {e.id: dict(e.tiers[self.name]) for e in CATALOG if self.name in e.tiers}
        return asdict(self) | {"overrides": changed}


TIERS: dict[str, Tier] = {
    "smoke": Tier(name="smoke", sentences=12, map_sentences=4, complete_map=False),
    "standard": Tier(name="standard", sentences=32, map_sentences=4, complete_map=True),
    "full": Tier(name="full", sentences=None, map_sentences=16, complete_map=True),
}
