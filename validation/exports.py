"""Walks targets and architectures: ``python -m validation.exports --out docs/exports.md``.

A tiny random model of each architecture, a recipe of mixed bits, every target: what it holds as
asked, what it refuses and why, and what of the recipe, or of the nearest one that it takes, its
toolchain loaded back in a process of its own, counted matrix by matrix, its logits compared. Some
ten minutes of one processor. ``--python`` names the Python of an environment that has the
toolchains; a target whose toolchain is not there stands in the page as counted, not loaded.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bitgap.corpora.parallel import load_corpus
from bitgap.errors import BitgapError, ModelError
from bitgap.formats.source import OUTSIDE, Place, Source
from bitgap.formats.target import Target
from bitgap.formats.targets import TARGETS, find_target
from bitgap.jobs.export import Check, export, nearest_recipe, schemes_of
from bitgap.jobs.export_records import Verification
from bitgap.protect.recipe import Recipe
from bitgap.show.to_markdown import rows_of

# The tiny models stand beside the tests.
sys.path.append(str(Path(__file__).parents[1] / "tests" / "formats"))

SHAPES = ("llama", "qwen3", "gemma3", "gpt2")
"""Of :func:`tiny_checkpoints.tiny_config`."""
_HALVES = ("qwen3", "gemma3")
"""Saved in bfloat16; the others in float32."""
_AS_READ: Mapping[str, dict[str, Any]] = {
    "gpt2": {"n_positions": 1024},
    "qwen3": {"head_dim": 128},
    "gemma3": {
        "query_pre_attn_scalar": 256,
        "head_dim": 256,
        "layer_types": ["sliding_attention"] * 2,
    },
}
"""For GGUF: what transformers takes for granted of a file, so that it, and not our reader, runs."""
CYCLE = ("rtn3-g32", "rtn4-g32", "rtn6-g64", "rtn8-g32", "fp")
"""Schemes that go round through the blocks' matrices."""
OUTSIDE_SCHEME = "rtn8-g32"
"""That of embedding and head."""
LANGUAGES = "en,de,he,ar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A recipe of one architecture, for one target.

    Attributes:
        refused: Reason and scheme of what it does not hold, each once, with the nearest scheme.
        made: What was written, as asked or nearest; None where nothing was.
        why: Why nothing could be written, or what failed.
    """

    target: str
    shape: str
    refused: tuple[tuple[str, str, str], ...] = ()
    made: Verification | None = None
    why: str = ""


def opened(target: Target, shape: str, folder: Path) -> Source:
    """Returns a tiny model of an architecture, as it is exported to a target."""
    import torch
    from export_samples import saved  # pyright: ignore[reportMissingImports]

    own = _AS_READ.get(shape, {}) if target.loader == "gguf" else {}
    return saved(folder, shape, torch.bfloat16 if shape in _HALVES else None, **own)


def recipe_for(source: Source) -> Recipe:
    """Returns the recipe of a model."""
    from export_samples import mixed, recipe_of  # pyright: ignore[reportMissingImports]

    return recipe_of(source, mixed(source, *CYCLE, outside=OUTSIDE_SCHEME))


def refused(target: Target, source: Source, recipe: Recipe) -> tuple[tuple[str, str, str], ...]:
    """Returns what a target does not hold: scheme, why and the nearest, each once."""
    found = target.refusals(source.places, schemes_of(recipe, source))
    told = ((_of(source.places[one.place], one.scheme), one.why, one.nearest) for one in found)
    return tuple(dict.fromkeys(told))


def _of(place: Place, scheme: str) -> str:
    if place.kind not in OUTSIDE:
        return scheme
    return f"{scheme} of the {'tied embedding' if place.kind == 'tied' else place.kind}"


def walk(target: Target, shape: str, folder: Path, check: Check) -> Outcome:
    """Exports the recipe of one architecture to one target.

    Args:
        target: The toolchain.
        shape: Of :data:`SHAPES`.
        folder: Where to; made.
        check: How it is verified.
    """
    source = opened(target, shape, folder / "model")
    asked = recipe_for(source)
    outcome = partial(Outcome, target=target.name, shape=shape)
    try:
        target.check_model(source)
    except ModelError as error:
        return outcome(why=str(error).replace(source.loaded.info.name, "it"))
    found = refused(target, source, asked)
    near = nearest_recipe(target, asked, source) if found else asked
    if all(scheme == "fp" for scheme in near.schemes.values()):
        return outcome(refused=found, why="nothing of it can be rounded there")
    try:
        (made,) = export(near, [target.name], folder / "out", check=check)
    except BitgapError as error:
        return outcome(refused=found, why=str(error))
    return outcome(refused=found, made=made)


def _held(outcome: Outcome) -> str:
    if outcome.refused:
        return "nearest" if outcome.made is not None else "refused"
    return "as asked" if outcome.made is not None else "refused"


def _by(made: Verification) -> str:
    if made.loaded:
        return "its toolchain"
    return "our reader" if made.logits else "nobody"


def _row(outcome: Outcome) -> list[object]:
    named = [outcome.target, outcome.shape, _held(outcome)]
    made = outcome.made
    if made is None:
        return [*named, "–", "–", "–", "–", "–", outcome.why]
    rounded = [one for one in made.matrices if one.asked != "fp"]
    worst = max((one.relative for one in made.logits), default=None)
    storing = max((one.storing for one in made.logits), default=None)
    return [
        *named,
        f"{len(rounded)} of {len(made.matrices)}",
        _by(made),
        "–" if worst is None else f"{worst:.1e}",
        f"{made.tolerance:.0e}",
        "–" if storing is None else f"{storing:.1e}",
        "",
    ]


def render(outcomes: Sequence[Outcome]) -> str:
    """Returns the page.

    Args:
        outcomes: Of all targets, architectures and recipes.
    """
    versions = dict[str, str]()
    for one in outcomes:
        versions |= one.made.versions if one.made is not None else {}
    told = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    reasons = {
        (one.target, scheme, why, nearest): None
        for one in outcomes
        for scheme, why, nearest in one.refused
    }
    made = [one.made for one in outcomes if one.made is not None]
    cycle = ", ".join(f"`{scheme}`" for scheme in CYCLE)
    return "\n".join(
        [
            "# What each target holds of each architecture",
            "",
            "Written by `python -m validation.exports --out docs/exports.md`, by no hand; what it "
            "says of refusals is compared with the code by a test.",
            "",
            f"Tiny random models of {len(SHAPES)} architectures (float32; "
            f"{' and '.join(_HALVES)} bfloat16) and one recipe: {cycle} in turn in the blocks' "
            f"matrices (`fp` is whole, 16 bits), `{OUTSIDE_SCHEME}` in embedding and head. What a "
            f"target "
            f"does not hold as asked is exported as the nearest recipe that it takes. "
            f"**{len(made)} of {len(outcomes)} were written and passed, "
            f"{sum(m.loaded for m in made)} of them loaded by their toolchain**, in a process of "
            f"its own; every matrix had the bits, bytes and values of its recipe.",
            "",
            "*Matrices*: those that are rounded, of all. *Off by*: the largest ‖logits - "
            f"simulated‖ / ‖simulated‖ over {LANGUAGES.replace(',', ', ')}, where *allowed* is "
            "what the toolchain's arithmetic explains. *Storing*: what scales of 16 bits move "
            "logits by, which the simulation has too.",
            "",
            f"Versions: {told}.",
            "",
            rows_of(
                ["target", "architecture", "held", "matrices", "run by", "off by",
                 "allowed", "storing", "why not"],
                map(_row, outcomes),
            ),
            "",
            "## What is refused, and the nearest that is not",
            "",
            rows_of(["target", "scheme", "nearest", "why"],
                    ([target, scheme, nearest, why] for target, scheme, why, nearest in reasons)),
            "",
        ]
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; 1 where an export failed."""
    parser = argparse.ArgumentParser(prog="python -m validation.exports", description=__doc__)
    parser.add_argument("--out", type=Path, help="the page to write; of all targets alone")
    parser.add_argument("--python", help="of the environment that has the toolchains")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="instead of all")
    asked = parser.parse_args(arguments)
    shapes = asked.shapes.split(",")
    if bool(asked.out) and (asked.targets or shapes != [*SHAPES]):
        parser.error("the page is of all targets and architectures; leave --out away")
    check = Check(corpus=load_corpus(languages=LANGUAGES), python=asked.python)
    outcomes: list[Outcome] = []
    for name in asked.targets or TARGETS:
        for shape in shapes:
            with tempfile.TemporaryDirectory(prefix="bitgap-") as folder:
                made = walk(find_target(name), shape, Path(folder), check)
            outcomes.append(made)
            print(" | ".join(map(str, _row(made))), file=sys.stderr, flush=True)
    if asked.out:
        asked.out.write_text(render(outcomes), encoding="utf-8")
    return int(any(one.made is None and not one.refused for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
