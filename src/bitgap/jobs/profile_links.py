"""Do blocks that an experiment finds special matter for damage and disparity?

The method asks this of T-001, T-007 and T-009 beside their own question: each finding's profile
over blocks is correlated, both detrended in depth, with what protecting a block is worth: what it
takes off S, the spread over languages, where it alone is protected, and its Shapley value of −K, in
the layer map. Exploratory: no verdict rests on it, and no p is adjusted. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bitgap.disparity.layer_map import LayerMap, shapley_rows
from bitgap.experiments.catalog import find
from bitgap.jobs.records import Game, Link
from bitgap.records import Finding
from bitgap.stats.profiles import correlate_profiles

GAMES: tuple[Game, ...] = ("spread", "damage")


def profile_links(
    findings: Iterable[Finding], layer_map: LayerMap, level: float
) -> tuple[Link, ...]:
    """Returns a row for every finding that has a profile over blocks, and every game.

    Args:
        findings: Of the experiments that were run.
        layer_map: Of the same blocks.
        level: Coverage aimed at.

    Example:
        >>> from dataclasses import replace
        >>> from bitgap.disparity.layer_map import make_map
        >>> layer_map = make_map(SCORES, "rtn4-g128", DESIGN)
        >>> rows = [{"alignment": value} for value in (0.1, 0.3, 0.2)]
        >>> finding = replace(FINDING, experiment="T-009", tables={"profile": rows})
        >>> [link.game for link in profile_links([finding, FINDING], layer_map, 0.95)]
        ['spread', 'damage']
    """
    rows: list[Link] = []
    for finding in findings:
        profile = find(finding.experiment).profile
        if profile is None or not finding.tables:  # without tables nothing was measured
            continue
        # What has no value at a block is None there, and becomes NaN.
        values = np.array(profile(finding), dtype=np.float64)
        for game in GAMES:
            worth = np.array(shapley_rows(layer_map, game), dtype=np.float64)
            r = correlate_profiles(values, worth, level).estimate
            rows.append(Link(experiment=finding.experiment, title=finding.title, game=game, r=r))
    return tuple(rows)
