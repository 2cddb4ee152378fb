"""What protecting the origin's triple does: the title it earns, and whether it levels down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.quant.sets import mask_of
from bitgap.report.paper.text import log_ratio, model_name, number, plain
from bitgap.report.run import Masks, Run
from bitgap.report.words.answers import language_name
from bitgap.report.words.phrases import BEST, counted, joined
from bitgap.show.numbers import Unit
from bitgap.stats.mask_design import original_set


def standing(run: Run) -> bool | None:
    """Returns whether the origin's triple is among the best by damage, or None where not clear.

    Its rank by |D| is left out, as it does not answer for the gap between languages.

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

    A smaller gap that is bought by more damage to the reference is no improvement; a claim on
    disparity needs D and G to move the same way.
    """
    if masks is None:
        return ()
    blocks = original_set(masks.n_blocks)
    where = {mask: row for row, mask in enumerate(masks.masks)}
    none, kept = where.get(0), where.get(mask_of(blocks))
    if none is None or kept is None or not np.isfinite(masks.disparity[[none, kept]]).all():
        return ()
    column = masks.languages.index(masks.reference)
    own = masks.damage[[none, kept], column]
    unit = Unit.of([float(own.max())])

    def d(row: int) -> str:
        return log_ratio(
            float(masks.disparity[row]), [float(x) for x in masks.disparity_ends[:, row]]
        )

    moved = (
        f"On the {counted(masks.n_sentences, 'sentence')} of the map, keeping "
        f"{joined([f'L{block}' for block in blocks])} whole takes D from {d(none)} to {d(kept)}, "
        f"the damage of {language_name(masks.reference)} from {plain(own[0] * unit.factor, '.2f')} "
        f"to {plain(own[1] * unit.factor, '.2f')} {unit.name} and the gap G from "
        f"{number(float(masks.gap[none]))} to {number(float(masks.gap[kept]))} bits per English "
        f"character."
    )
    return (moved, _judged(masks, none, kept, bool(own[1] > own[0])))


def _judged(masks: Masks, none: int, kept: int, worse: bool) -> str:
    d, g = masks.disparity[[none, kept]], masks.gap[[none, kept]]
    closer = abs(d[1]) < abs(d[0])
    reference = language_name(masks.reference)
    if closer and worse:
        return f"That is levelling down: the ratio is smaller because {reference} is hurt more."
    if closer and (d[1] - d[0]) * (g[1] - g[0]) <= 0:
        return (
            "The ratio is smaller and the gap on real text is not: no improvement can be claimed."
        )
    if closer:
        return f"Ratio and gap move together, and {reference} gains as well."
    if worse:
        return f"It neither evens languages out nor spares {reference}."
    everyone = bool((masks.damage[kept] < masks.damage[none]).all())
    who = "Every language gains" if everyone else f"{reference} gains"
    return f"{who}, but not alike: |D| per text is larger than with nothing kept whole."
