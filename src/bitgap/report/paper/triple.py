"""What protecting the origin's triple does: the title it earns, and whether it levels down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.quant.sets import mask_of
from bitgap.report.paper.text import model_name, number, plain
from bitgap.report.run import Masks, Run
from bitgap.report.words.phrases import BEST, counted, joined, language_name
from bitgap.show.numbers import Unit
from bitgap.stats.mask_design import original_set


def standing(run: Run) -> bool | None:
    """Returns whether the origin's triple is among the best by damage, or None where not clear.

    Its place by S is told beside it, and is no part of this title.

    Args:
        run: An investigation or a theory run.
    """
    if run.command == "theory":
        for row in run.result["forecasts"]["summary"]:
            if row["who"] == "origin" and row["objective"] == "damage" and row["families"]:
                return None if row["success"] is None else bool(row["success"])
        return None
    layer_map: dict[str, Any] = run.result.get("map") or dict[str, Any]()
    found: dict[str, Any] = layer_map.get("original_set") or dict[str, Any]()
    ends = found.get("rank_damage_ci")
    if found.get("rank_damage") is None or not ends or None in ends or found["sets"] < 2:
        return None
    low, high = ((end - 1) / (found["sets"] - 1) for end in ends)
    return True if high <= BEST else False if low > BEST else None


_TITLES: Mapping[bool, str] = {
    True: "{} Worth Protecting Against Damage",
    False: "{} Not Special for Damage",
}


def title(run: Run) -> str:
    """Returns a title that says what came out."""
    clear = standing(run)
    pattern = None if clear is None else _TITLES[clear]
    if run.command == "theory":
        families = len({m["family"] for m in run.result["models"]})
        n, noun = counted(families, "Model Family", "Model Families").split(" ", 1)
        place = f"Evidence from {n.capitalize()} {noun}"
        who = "The First, the Three-Quarter and the Last Block Are"
    else:
        blocks = original_set(run.result["n_blocks"])
        who = f"{joined([f'L{block}' for block in blocks])} Are"
        name = model_name(run.result["model"])
        case = "One Small Model" if name.startswith("the bundled") else name
        place = f"A Case Study of {case}"
    if pattern is None:
        n = counted(len(run.result["findings"]), "Explanation")
        what = " ".join(word.capitalize() for word in n.split())
        return f"Why These Blocks? {what} of Quantization Disparity, Tested: {place}"
    return f"{pattern.format(who)}: {place}"


def protection_sentences(masks: Masks | None) -> tuple[str, ...]:
    """Returns what protecting the origin's triple does, and whether it levels down.

    A smaller S that is bought by more damage to the reference is no improvement; a claim needs S to
    change alike per token and per text.
    """
    if masks is None:
        return ()
    blocks = original_set(masks.n_blocks)
    where = {mask: row for row, mask in enumerate(masks.masks)}
    none, kept = where.get(0), where.get(mask_of(blocks))
    if none is None or kept is None or not np.isfinite(masks.spread[[none, kept]]).all():
        return ()
    column = masks.languages.index(masks.reference)
    own = masks.damage[[none, kept], column]
    unit = Unit.of([float(own.max())])

    def s(row: int) -> str:
        ends = [float(x) if np.isfinite(x) else None for x in masks.spread_ends[:, row]]
        return number(float(masks.spread[row]), ends, signed=False)

    moved = (
        f"On the {counted(masks.n_sentences, 'sentence')} of the map, keeping "
        f"{joined([f'L{block}' for block in blocks])} whole takes S from {s(none)} to {s(kept)}, "
        f"the damage of {language_name(masks.reference)} from {plain(own[0] * unit.factor, '.2f')} "
        f"to {plain(own[1] * unit.factor, '.2f')} {unit.name} and the gap G from "
        f"{number(float(masks.gap[none]))} to {number(float(masks.gap[kept]))} bits per English "
        f"character."
    )
    return (moved, _judged(masks, none, kept, bool(own[1] > own[0])))


def _judged(masks: Masks, none: int, kept: int, worse: bool) -> str:
    token, text = (
        bool(values[kept] < values[none]) for values in (masks.spread, masks.spread_per_text)
    )
    reference = language_name(masks.reference)
    if token is not text:
        return (
            f"Whether languages come out more even is not established: S is "
            f"{'smaller' if token else 'larger'} per token and "
            f"{'smaller' if text else 'larger'} per text."
        )
    if token and worse:
        return f"That is levelling down: S is smaller, and {reference} is hurt more."
    if token:
        return f"Languages come out more even, and {reference} gains as well."
    if worse:
        return f"It neither evens languages out nor spares {reference}."
    everyone = bool((masks.damage[kept] < masks.damage[none]).all())
    who = "Every language gains" if everyone else f"{reference} gains"
    return f"{who}, but not alike: languages come out less even than with nothing kept whole."
