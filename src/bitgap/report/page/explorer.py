"""What a page needs to show any set of protected blocks: every scored mask, in few characters."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitgap.disparity.layer_map import LayerMap, ScoredSet
from bitgap.languages import named
from bitgap.quant.sets import mask_of
from bitgap.records import Bools, Floats
from bitgap.report.run import Masks

_DIGITS = 4


def explorer_data(masks: Masks, found: LayerMap) -> dict[str, Any]:
    """Returns what the page's script reads, JSON-ready; lists run over masks.

    Args:
        masks: What every scored set does.
        found: The run's layer map.
    """
    origin = mask_of(found.origin.of.blocks)
    return {
        "blocks": masks.n_blocks,
        "reference": masks.reference,
        "languages": [
            {"code": one.code, "name": one.name, "own": one.own, "dir": one.direction}
            for one in map(named, masks.languages)
        ],
        "masks": list(masks.masks),
        "damage": _rows(masks.damage),
        # Sets under which a language does not count, if there are any.
        "uncounted": _left_out(masks.counted),
        "K": _column(masks.mean_damage),
        "Klow": _column(masks.mean_damage_ends[0]),
        "Khigh": _column(masks.mean_damage_ends[1]),
        # K of a language times this is its damage per token.
        "perToken": _column(masks.per_token),
        "S": _column(masks.spread),
        "Slow": _column(masks.spread_ends[0]),
        "Shigh": _column(masks.spread_ends[1]),
        "Stext": _column(masks.spread_per_text),
        "D": _column(masks.disparity),
        "Dlow": _column(masks.disparity_ends[0]),
        "Dhigh": _column(masks.disparity_ends[1]),
        "G": _column(masks.gap),
        "Glow": _column(masks.gap_ends[0]),
        "Ghigh": _column(masks.gap_ends[1]),
        "harm": _column(masks.harm_mean),
        "presets": _presets(found, origin),
    }


def _presets(found: LayerMap, origin: int) -> dict[str, int | None]:
    row = next((row for row in found.best if row.size == origin.bit_count()), None)

    def mask(best: ScoredSet | None) -> int | None:
        return None if best is None else mask_of(best.blocks)

    return {"none": 0, "origin": origin, "damage": mask(row.least_damage if row else None),
            "even": mask(row.least_spread if row else None)}  # fmt: skip


def _left_out(counted: Bools) -> dict[str, list[int]]:
    """Returns the languages that do not count in S and D, by row, for rows that have some."""
    return {
        str(row): [int(i) for i in np.flatnonzero(~known)]
        for row, known in enumerate(counted)
        if not known.all()
    }


def _column(values: Floats) -> list[float | None]:
    return [float(f"{v:.{_DIGITS}g}") if np.isfinite(v) else None for v in values]


def _rows(values: Floats) -> list[list[float | None]]:
    return [_column(row) for row in values]
