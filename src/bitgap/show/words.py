"""Numbers as words: counts, durations, sizes, and the lines of cost before and after a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RUNGS: Mapping[str, str] = {
    "ceiling": "blocks alone, languages being noise",
    "F0": "error budget, nothing fitted",
    "F1": "position",
    "F2": "variance",
    "F3": "variance, boundary, bottleneck",
    "F3 curved": "the same, the boundary curved",
    "F4": "those of F3 and the local error ratio",
    "F5": "three smooth features of no meaning",
}
"""What each rung of the formal model's ladder predicts from."""


def preflight_line(cost: Mapping[str, Any]) -> str:
    """Returns what is about to happen, in one line."""
    asked, new = cost["plans"], cost["plans"] - cost["plans_in_store"]
    if not new:
        return f"{count(asked, 'plan')}, nothing left to score"
    return (
        f"{count(new, 'plan')} to score of {asked}, {count(cost['block_evaluations'], 'block')} "
        f"({sharing(cost)}); about {duration(cost['time_s'])}, {size(cost['memory_bytes'])}"
    )


def sharing(cost: Mapping[str, Any]) -> str:
    """Returns what it saves that plans share their first blocks, in words."""
    saved = cost["block_evaluations_without_sharing"] / max(cost["block_evaluations"], 1)
    return f"sharing saves {saved:.1f}x" if saved > 1 else "nothing to share"


def cost_line(cost: Mapping[str, Any], run: int | None, store: str) -> str:
    """Returns what happened beside what was predicted, in one line."""
    where = f"; run {run} in {store}" if run is not None else ""
    return (
        f"took {duration(cost['took_s'])} (predicted {duration(cost['predicted_s'])}), "
        f"{size(cost['peak_bytes'])} beside the model (predicted "
        f"{size(cost['predicted_bytes'])}){where}"
    )


def count(n: int, what: str) -> str:
    """Returns a number of things, such as ``1 plan`` or ``2 plans``."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def duration(seconds: float) -> str:
    """Returns a time as people say it."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(n_bytes: float) -> str:
    """Returns an amount of memory."""
    return f"{n_bytes / 2**20:.0f} MiB" if n_bytes < 2**30 else f"{n_bytes / 2**30:.1f} GiB"
