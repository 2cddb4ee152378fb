"""What the main job returns. No torch: a store gives these records back without a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bitgap.codec import NOT_STORED, to_json
from bitgap.disparity.layer_map import LayerMap
from bitgap.disparity.records import DisparityReport
from bitgap.records import Estimate, Finding, Scores

Game = Literal["spread", "damage", "disparity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How one experiment's profile over blocks goes with what protecting a block is worth."""

    experiment: str
    title: str
    game: Game
    """What protecting a block is worth: its fall of S, or its Shapley value of −K. Runs stored
    before 2026-11-30 have that of −|D|."""
    r: Estimate
    """Correlation over blocks, both detrended in depth; exploratory."""

    def as_dict(self) -> dict[str, Any]:
        """Returns it JSON-ready."""
        r = {"r": self.r.value, "r_ci": [self.r.low, self.r.high], "r_reason": self.r.reason}
        return {"experiment": self.experiment, "title": self.title, "game": self.game, **r}


@dataclass(frozen=True, slots=True, kw_only=True)
class Investigation:
    """What one run found."""

    scheme: str
    """The operating point."""
    tier: str
    """How much text was looked at."""
    report: DisparityReport
    """Damage by language with nothing protected, at the operating point."""
    layer_map: LayerMap
    """What every set of protected blocks does."""
    rejected: Mapping[str, tuple[str, ...]]
    """Schemes of fewer bits at which some language collapsed, and which."""
    links: tuple[Link, ...]
    work: Mapping[str, int]
    """Evaluations of the text that were needed, and how many would have been had no plan shared its
    first blocks and no experiment another's measurements."""
    about: Mapping[str, Any] = field(default_factory=dict[str, Any], metadata=NOT_STORED)
    """Model, text and how they were used; the run's."""
    findings: tuple[tuple[Finding, str], ...] = field(
        default=(), compare=False, metadata=NOT_STORED
    )
    """(finding, key of its observations) for every experiment that was run; a store keeps them in
    rows of their own."""
    texts: Mapping[str, str] = field(default_factory=dict[str, str], metadata=NOT_STORED)
    """Key in the store of the text that ``audit`` and ``map`` were scored on; the run's."""
    map_scores: Scores | None = field(default=None, compare=False, metadata=NOT_STORED)
    """What the layer map was read off, rows as its design's masks; None when read back."""

    def as_dict(self) -> dict[str, Any]:
        """Returns the investigation as JSON."""
        return {
            **self.about,
            "operating_point": self.scheme,
            "tier": self.tier,
            "collapsed_below": {scheme: list(codes) for scheme, codes in self.rejected.items()},
            "audit": self.report.as_dict(),
            "map": self.layer_map.as_dict(),
            "findings": [asdict(finding) for finding, _ in self.findings],
            "links": [link.as_dict() for link in self.links],
            "work": dict(self.work),
        }


def stored_form(
    about: Mapping[str, Any],
    *,
    texts: Mapping[str, str],
    cost: Mapping[str, Any] | None = None,
    **records: Any,
) -> dict[str, Any]:
    """Returns what a store keeps of a run's result: what it is about, and its records.

    Args:
        about: Model, text and how they were used, JSON-ready.
        texts: Keys of the texts that its scores are on, by part (``audit``, ``map``).
        cost: What it was predicted to take, and took, where that is known.
        records: By name; those that are None are left out.

    Example:
        >>> r = Estimate(value=0.5, unit="r", reason="one language")
        >>> link = Link(experiment="T-001", title="", game="damage", r=r)
        >>> kept = stored_form({"model": "toy"}, texts={"audit": "1f"}, link=link, nothing=None)
        >>> list(kept), list(kept["records"])
        (['model', 'texts', 'records'], ['link'])
    """
    kept = {name: to_json(record) for name, record in records.items() if record is not None}
    more = {} if cost is None else {"cost": dict(cost)}
    return {**about, "texts": dict(texts), **more, "records": kept}
