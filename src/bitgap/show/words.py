"""Numbers as words: counts, durations, sizes, and the lines of cost before and after a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

RUNGS: Mapping[str, str] = {
    "F0": "error budget, nothing fitted",
    "F1": "position",
    "F2": "variance",
    "F3": "variance, boundary, bottleneck",
    "F3 curved": "the same, the boundary curved",
    "F4": "those of F3 and the local error ratio",
    "F5": "three smooth features of no meaning",
}
"""What each rung of the formal model's ladder predicts from."""


MORE = "controls and statistics come on top, and are known once a run was whole"


def preflight_line(cost: Mapping[str, Any]) -> str:
    """Returns what is about to happen, in one line."""
    asked, new = cost["plans"], cost["plans"] - cost["plans_in_store"]
    if not new:
        return f"{count(asked, 'plan')}, nothing left to score"
    more = f" for scoring; {MORE}" if cost.get("of_scoring") else ""
    return (
        f"{count(new, 'plan')} to score of {asked}, {count(cost['block_evaluations'], 'block')} "
        f"({sharing(cost)}); about {duration(cost['time_s'])}{more}, {size(cost['memory_bytes'])}"
    )


def each_once(names: Iterable[str]) -> list[str]:
    """Returns names without those that say the same again, such as ``synergy Synergy``."""
    return list({name.casefold(): name for name in reversed(list(names))}.values())[::-1]


def sharing(cost: Mapping[str, Any]) -> str:
    """Returns what it saves that plans share their first blocks, in words."""
    if not cost["block_evaluations"]:
        return "all of it was stored"
    saved = cost["block_evaluations_without_sharing"] / cost["block_evaluations"]
    return f"sharing saves {saved:.1f}x" if saved > 1 else "nothing to share"


def cost_line(cost: Mapping[str, Any], run: int | None, store: str) -> str:
    """Returns what happened beside what was predicted, in one line."""
    where = f"; run {run} in {store}" if run is not None else ""
    return (
        f"took {duration(cost['took_s'])} (predicted {duration(cost['predicted_s'])}), "
        f"{size(cost['peak_bytes'])} beside the model (predicted "
        f"{size(cost['predicted_bytes'])}){where}"
    )


def first_named(told: Sequence[str], most: int) -> str:
    """Returns the first of what is told, and how many more there are; "none" of nothing."""
    more = f" and {len(told) - most} more" if len(told) > most else ""
    return ", ".join(told[:most]) + more if told else "none"


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


def origin_place(origin: Mapping[str, Any]) -> str:
    """Returns where a set stands among those of its size, by damage and by S, as a predicate.

    Nothing is said of its place by S where that is on one side of chance per token and on the other
    per text.

    Args:
        origin: JSON of :class:`bitgap.disparity.layer_map.OriginalRank`.
    """
    damage = origin.get("beats_damage")
    if damage is None:
        return f"has no place among its size: {origin.get('reason') or 'it is undefined'}"
    sample = origin.get("of_all", origin["sets"]) > origin["sets"]
    among = (
        f"the {origin['of_all'] - 1} other sets of its size, as a random {origin['sets'] - 1} of "
        f"them have it"
        if sample
        else f"the {origin['sets'] - 1} other sets of its size"
    )
    said = f"leaves less damage than {beaten(origin, 'beats_damage')} of {among}"
    token, text = origin["beats_spread"], origin["beats_spread_per_text"]
    if token is None or text is None:
        return f"{said}; by S, the spread over languages, it has no place"
    if (token > 0.5) != (text > 0.5):
        return (
            f"{said}; whether it leaves languages more even is not established: S is smaller than "
            f"under {beaten(origin, 'beats_spread')} of them per token and "
            f"{beaten(origin, 'beats_spread_per_text')} per text"
        )
    if token < 0.5:
        more = beaten(origin, "beats_spread", against=True)
        return f"{said}, and more inequality (S) than {more} of them"
    return f"{said}, and less inequality (S) than {beaten(origin, 'beats_spread')} of them"


def part_lines(verdict: Mapping[str, Any]) -> list[str]:
    """Returns what is said of each claim of a hypothesis that makes several, as sentences.

    Args:
        verdict: JSON of :class:`bitgap.records.Verdict`; of a run stored before version 3 of the
            thresholds it has no parts.
    """
    parts = verdict.get("parts") or ()
    return [f"{one['name']}: {one['label']}; {part_reason(one)}." for one in parts]


def part_reason(part: Mapping[str, Any]) -> str:
    """Returns the clause that decided a part, without the part's name, beside which it stands."""
    name, reason = f"{part['name']} is ", str(part["reason"])
    return f"it is {reason.removeprefix(name)}" if reason.startswith(name) else reason


def equivalence_words(verdict: Mapping[str, Any]) -> str:
    """Returns the p by which an effect that matters is excluded; empty where there is none."""
    p, holm = verdict.get("p_equivalence"), verdict.get("p_equivalence_holm")
    if p is None:
        return ""
    return f"p of an effect that matters {p:.3g}" + (
        "" if holm is None else f", after Holm {holm:.3g}"
    )


def beaten(origin: Mapping[str, Any], name: str, *, against: bool = False) -> str:
    """Returns a share of sets with its interval; ``against`` for those that do better instead."""
    values = [origin[name], *origin[f"{name}_ci"]]
    if against:
        values = [None if v is None else 1 - v for v in (values[0], values[2], values[1])]
    value, low, high = values
    ends = "" if low is None or high is None else f" [{100 * low:.0f}, {100 * high:.0f}]"
    return f"{100 * value:.0f} %{ends}"
