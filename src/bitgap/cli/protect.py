"""The command that finds a recipe for one model, and proves it."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from bitgap.cli import console
from bitgap.cli.options import (
    DRY_RUN,
    MODEL,
    SENTENCES,
    TRUST,
    above_0,
    option,
    path,
    scheme_name,
    verb,
    whole,
)
from bitgap.cli.session import Session, writable
from bitgap.errors import UsageError

if TYPE_CHECKING:
    from bitgap.lab.protect.steps import Asked

OBJECTIVES = ("worst-quarter", "worst", "mean", "reference")
INSTRUMENTS = ("auto", "screen", "swaps")
TARGETS = (
    *("gguf", "compressed-tensors", "vllm", "torchao", "onnxruntime", "openvino", "gptq"),
    *("auto-round", "mlx"),
)
SPARED = ("reference", "mean", "all")

_BUDGET = "bits a weight, scales included, such as 4.25; norms and biases come on top"
_SIZE = "bytes of the whole file instead, such as 180MB"
_LIKE = "as many bytes as this file, or folder, instead"
_INSTRUMENT = (
    "what makes the damage table: one pass for all (screen), every choice scored exactly (swaps), "
    "or the second where it is cheap (default: auto)"
)
_OBJECTIVE = "whose damage is made small (default: worst-quarter, of all languages)"
_NO_HARM = "who must not be worse off than under the uniform plan (default: reference,mean)"
_SPARE = (
    "percent that a language may pay against the language-blind plan, or any (default: 1, half of "
    "what counts as harm)"
)
_FOR = "find what this toolchain can load"
_CHOICES = "schemes that units may have, such as rtn3-g64,rtn4-g64 (default: 2 to 8 bits)"
_ENDS = "compare also with N blocks at either end kept at more bits (default: 1)"
_TRIPLE = "compare also with these blocks kept at more bits, such as 0,9,11; may be repeated"
_FRONTIER = "measure the best plans of other budgets too, not only read them off the table"


def _blocks(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d{1,6}(,\d{1,6})*", text, re.ASCII):
        raise ArgumentTypeError(f"{text!r} is no list of blocks; write for example 0,9,11")
    return tuple(map(int, text.split(",")))


def _schemes(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(scheme_name(name) for name in text.split(",")))


def _spared(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if text == "nobody":
        return ()
    if unknown := [name for name in names if name not in SPARED]:
        raise ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(SPARED)}, or nobody")
    return names


def _share(text: str) -> float | None:
    return None if text == "any" else above_0(100)(text) / 100


@verb(
    "protect",
    "the recipe of the same size that hurts least, with proof",
    *(*TRUST, DRY_RUN, MODEL),
    option("--budget", _BUDGET, type=above_0(64), metavar="BITS"),
    option("--size", _SIZE),
    option("--like", _LIKE, type=path, metavar="FILE"),
    option("--instrument", _INSTRUMENT, choices=INSTRUMENTS, default="auto"),
    option("--objective", _OBJECTIVE, choices=OBJECTIVES, default="worst-quarter"),
    option("--no-harm", _NO_HARM, type=_spared, metavar="WHO", default=("reference", "mean")),
    option("--spare", _SPARE, type=_share, metavar="PERCENT", default=0.01),
    option("--for", _FOR, choices=TARGETS, dest="target", default=None),
    option("--choices", _CHOICES, type=_schemes, metavar="LIST"),
    option("--ends", _ENDS, type=whole(1), nargs="?", const=1, default=1, metavar="N"),
    option("--triple", _TRIPLE, type=_blocks, action="append", metavar="LIST"),
    option("--frontier", _FRONTIER, action="store_true"),
    SENTENCES,
    example="bitgap protect ./my-model --budget 4.25 --for gguf --out recipe",
)
def protect(options: Namespace, session: Session) -> None:
    """Shows what :meth:`bitgap.Lab.protect` finds, and leaves ``recipe.toml``."""
    if [options.budget, options.size, options.like].count(None) != 2:
        raise UsageError("a recipe needs one of --budget 4.25, --size 180MB and --like FILE")
    lab = session.open_lab(options.model, "exact").spread(options.sentences)
    from bitgap.jobs.investigate import describe
    from bitgap.lab.protect.run import RECIPE, protect
    from bitgap.lab.protect.steps import foresee, prepare
    from bitgap.show import views

    work = prepare(lab, _asked(options))
    costs = foresee(work)
    console.say(costs.sentence(work.instrument))
    if not session.announce_cost(lambda: foresee(work).whole):
        return
    folder = writable(options.out or str(Path(options.store).parent), "--out")
    found = protect(work, costs, out=folder, say=console.say)
    console.say(f"recipe: {folder / RECIPE}")
    session.keep(
        lab.store,
        views.protect_view,
        about=describe(lab, f"recipe {found.recipe.sealed[:12]}", "recipe"),
        texts={
            "table": work.found_on.text_key,
            "search": work.search.text_key,
            "confirm": work.confirm.text_key,
        },
        outcome=found,
    )


def _asked(options: Namespace) -> Asked:
    from bitgap.lab.protect.steps import Asked

    return Asked(
        budget=options.budget,
        size=options.size,
        like=options.like,
        instrument=options.instrument,
        objective=options.objective,
        no_harm=options.no_harm,
        spare=options.spare,
        target=options.target or "",
        schemes=options.choices or (),
        ends=options.ends,
        triples=tuple(options.triple or ()),
        frontier=options.frontier,
        command=command_of(options),
    )


def command_of(options: Namespace) -> str:
    """Returns the command that finds the same recipe again, without where results go.

    Folders, stores, threads and memory are left out, so that the same recipe is the same bytes.
    """
    said = ["bitgap protect", *([options.model] if options.model else [])]
    for name, value, default in (
        ("corpus", options.corpus, None),
        ("languages", options.languages, None),
        ("reference", options.reference, "en"),
        ("prefix", options.prefix, "auto"),
        ("sentences", options.sentences, None),
        ("budget", options.budget, None),
        ("size", options.size, None),
        ("like", options.like, None),
        ("instrument", options.instrument, "auto"),
        ("objective", options.objective, "worst-quarter"),
        ("no-harm", ",".join(options.no_harm) or "nobody", "reference,mean"),
        ("spare", "any" if options.spare is None else f"{100 * options.spare:g}", "1"),
        ("for", options.target, None),
        ("choices", ",".join(options.choices or ()) or None, None),
        ("arithmetic", options.arithmetic, None),
        ("seed", options.seed, None),
    ):
        if value != default:
            said.append(f"--{name} {value:g}" if isinstance(value, float) else f"--{name} {value}")
    return " ".join(said)
