"""The page of families, ``docs/families.md``, from what the walk came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from validation.families.walk import TOLERANCE_NATS, Outcome

_STATES = {
    "measured": "measured",
    "off": "refused",
    "refused": "refused",
    "failed": "refused",
    "not built": "not tried",
}
_SHORT = {
    "router": "routers",
    "convolution": "convolutions",
    "table": "tables",
    "no matrix product": "not in any product",
}


def render(outcomes: Sequence[Outcome], versions: str) -> str:
    """Returns the page.

    Args:
        outcomes: Of all classes.
        versions: What was walked, with versions.
    """
    counts = Counter(_STATES[outcome.state] for outcome in outcomes)
    measured = [outcome for outcome in outcomes if outcome.state == "measured"]
    worst = max((outcome.off_nats for outcome in measured), default=0.0)
    lines = [
        "# Which classes can be measured",
        "",
        f"Every class that transformers takes for a causal language model ({versions}), made with "
        f"a tiny random configuration that has each kind of its blocks, split, and compared with "
        f"its own forward. *Measured* means that log-probabilities recomposed from the split equal "
        f"the model's own within {TOLERANCE_NATS:g} nats for every token and every entry of the "
        f"vocabulary, and that what is rounded and what is left whole was told apart by what "
        f"products read. Written by `python -m validation.families --out docs/families.md`; a "
        f"sample of it is walked by the tests.",
        "",
        f"**{counts['measured']} of {len(outcomes)} measured "
        f"({100 * counts['measured'] / max(len(outcomes), 1):.1f} %)**, {counts['refused']} "
        f"refused, {counts['not tried']} not tried. The largest difference among those measured "
        f"is {worst:.1e} nats.",
        "",
        "*Kept* is what a token's state holds beside the one tensor most families hand from block "
        "to block: further streams, inputs of each block made from the token ids, keys and values "
        "of earlier blocks (in columns of the tiny model). Experiments that look at the residual "
        "stream are *not testable* where it is more than one tensor. *End* says how states become "
        "what the head is given: by a chain of modules, or by the model's own code.",
        "",
        "## Measured",
        "",
        "| class | blocks | off by (nats) | experts | left whole | kept | end |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_row(outcome) for outcome in measured]
    lines += ["", "## Refused, or not tried", "", "| class | | why |", "|---|---|---|"]
    lines += [
        f"| {outcome.name} | {_STATES[outcome.state]} | {_why(outcome)} |"
        for outcome in outcomes
        if outcome.state != "measured"
    ]
    return "\n".join(lines) + "\n"


def _row(outcome: Outcome) -> str:
    whole = [
        f"{_SHORT.get(why, why)} (`{names[0]}`{' …' if len(names) > 1 else ''})"
        for why, names in outcome.whole.items()
        if why not in ("gain", "bias")
    ]
    cells = [
        outcome.name,
        ", ".join(outcome.blocks),
        f"{outcome.off_nats:.1e}" if outcome.off_nats else "0",
        str(outcome.experts or "–"),
        "; ".join(whole) or "–",
        str(outcome.kept or "–"),
        "own code" if outcome.replay else "modules",
    ]
    return f"| {' | '.join(cells)} |"


def _why(outcome: Outcome) -> str:
    why = outcome.why or f"logits off by {outcome.off_nats:.2g} nats"
    found = why.partition("Found: ")[2] or why
    text = found.partition(". Mend or add")[0].replace("|", "\\|").strip().rstrip(".")
    return text if len(text) < 240 else text[:237] + " …"
