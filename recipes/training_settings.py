"""What is trained, and how it is asked for on the command line.

:class:`Recipe` holds all that decides which numbers come out; a run may only be resumed with an
equal one. :class:`Request` adds where to read, where to write and what to compute with.
"""

from __future__ import annotations

import argparse
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from model_families import FAMILIES

from bitgap.errors import UsageError

ARITHMETICS = ("auto", "bf16", "float32")
DEFAULT_TOKENS = 16_400_000
"""Tokens the bundled reference model was trained on."""
DEFAULT_VOCABULARY = 8192
SMALLEST_VOCABULARY = 257
"""256 bytes and the separator."""

_MULTIPLES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that decides which weights come out, other than the text itself."""

    family: str = "gpt2"
    """``model_type`` of transformers; one of :data:`model_families.FAMILIES`."""
    blocks: int = 12
    width: int = 256
    """Residual width d."""
    heads: int = 4
    vocabulary: int = DEFAULT_VOCABULARY
    """Tokens, the separator included; ignored where a tokenizer is given."""
    context: int = 256
    """Sequence length in tokens."""
    tokens: int | None = DEFAULT_TOKENS
    """Tokens to train on; None when minutes decide."""
    minutes: float | None = None
    """Minutes for all of it, from reading the text to the card; None when tokens decide."""
    batch: int = 16
    """Sequences a step."""
    peak_rate: float = 2e-3
    """Learning rate after warm-up."""
    mix: Mapping[str, float] | None = None
    """Relative share of each language; None for shares in proportion to the text."""
    seed: int = 0
    held_out: int = 100
    """Lines of each language kept out of training and of the tokenizer."""
    half: int | None = None
    """1 or 2 to train on one of two disjoint halves of each language's lines; None for all."""

    def __post_init__(self) -> None:
        _check_family(self.family)
        for name in ("blocks", "width", "heads", "batch"):
            _check(getattr(self, name) >= 1, f"--{name} {getattr(self, name)}", "at least 1")
        _check(self.context >= 2, f"--context {self.context}", "at least 2 tokens")
        _check(
            self.width % (8 * self.heads) == 0,
            f"--width {self.width} with --heads {self.heads}",
            "a width that is a multiple of 8 for each head (rotary positions turn part of a head)",
        )
        _check(
            self.vocabulary >= SMALLEST_VOCABULARY,
            f"--vocabulary {self.vocabulary}",
            f"at least {SMALLEST_VOCABULARY}: 256 bytes and the separator",
        )
        _check(0 < self.peak_rate < math.inf, f"--peak-rate {self.peak_rate}", "a rate above 0")
        _check(self.seed >= 0, f"--seed {self.seed}", "0 or more")
        _check(self.held_out >= 0, f"--held-out {self.held_out}", "0 lines or more")
        _check(self.half in (None, 1, 2), f"--half {self.half}", "1 or 2, or leave it out")
        self._check_length()

    def _check_length(self) -> None:
        if self.minutes is not None:
            _check(0 < self.minutes < math.inf, f"--minutes {self.minutes}", "a time above 0")
            return
        least = self.tokens_per_step
        found = 0 if self.tokens is None else self.tokens
        _check(found >= least, f"--tokens {found}", f"at least one step of {least} tokens")

    @property
    def tokens_per_step(self) -> int:
        """Tokens predicted in one step."""
        return self.batch * self.context

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole run; None when the clock decides."""
        if self.minutes is not None or self.tokens is None:
            return None
        return math.ceil(self.tokens / self.tokens_per_step)

    def as_facts(self) -> dict[str, Any]:
        """The recipe as JSON-serialisable names and values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A recipe with the folders and the machine it is carried out with."""

    recipe: Recipe
    text: Path
    """Folder of ``<lang>.txt`` or ``<lang>.txt.xz``."""
    out: Path
    """Folder for the model; work in progress lies in its ``work/``."""
    tokenizer: Path | None = None
    """Folder of a tokenizer to use instead of training one."""
    cache: Path | None = None
    """Folder for tokenised text; several runs may share it. Default ``OUT/work/tokens``."""
    sources: str | None = None
    """Where the text is from, for the card."""
    checkpoint_minutes: float = 5.0
    arithmetic: str = "auto"
    """One of :data:`ARITHMETICS`; ``auto`` is bf16 where the processor has it."""
    device: str = "auto"
    threads: int | None = None
    compile: bool | None = None
    """Whether to compile the blocks; None where it pays."""

    def __post_init__(self) -> None:
        minutes, threads = self.checkpoint_minutes, self.threads
        _check(0 <= minutes < math.inf, f"--checkpoint-minutes {minutes}", "a time of 0 or more")
        _check(threads is None or threads >= 1, f"--threads {threads}", "at least 1")
        known = self.arithmetic in ARITHMETICS
        _check(known, f"--arithmetic {self.arithmetic}", f"one of {', '.join(ARITHMETICS)}")

    @property
    def work(self) -> Path:
        """Checkpoint and, unless told otherwise, tokenised text; removed when all is done."""
        return self.out / "work"

    @property
    def command(self) -> str:
        """The command line that asks for the same; folders by their last name only."""
        words = ["python", "recipes/train_reference.py"]
        for name in ("text", "out", "tokenizer"):
            folder = getattr(self, name)
            words += [] if folder is None else [f"--{name}", folder.resolve().name]
        passed_over = {"tokens"} if self.recipe.minutes is not None else set[str]()
        passed_over |= set() if self.tokenizer is None else {"vocabulary"}
        for option, value in self._chosen(passed_over):
            shown = ",".join(f"{k}={v:g}" for k, v in value.items()) if option == "mix" else value
            words += [f"--{option.replace('_', '-')}", str(shown)]
        words += {None: [], True: ["--compile"], False: ["--no-compile"]}[self.compile]
        return shlex.join(words)

    def _chosen(self, passed_over: set[str]) -> list[tuple[str, Any]]:
        # What differs from the defaults, as these may be left out.
        plain = Recipe()
        chosen = [(f.name, getattr(self.recipe, f.name)) for f in fields(Recipe)]
        chosen = [(name, value) for name, value in chosen if value != getattr(plain, name)]
        chosen += [("arithmetic", self.arithmetic)] if self.arithmetic != "auto" else []
        chosen += [("threads", self.threads)] if self.threads is not None else []
        return [(name, value) for name, value in chosen if name not in passed_over]


def _check(holds: bool, found: str, wanted: str) -> None:
    if not holds:
        raise UsageError(f"{found} cannot be used; give {wanted}")


def _check_family(family: str) -> None:
    if family not in FAMILIES:
        raise UsageError(f"unknown --family {family!r}; there are {', '.join(sorted(FAMILIES))}")


# -- command line --------------------------------------------------------------------------------


def read_count(text: str) -> int:
    """Reads a number of tokens such as ``16.4M``, ``300k``, ``2e6`` or ``4096``.

    Raises:
        UsageError: If it is no positive number.
    """
    match = re.fullmatch(r"([\d_.]+(?:e\d+)?)([kmb]?)", text.strip().lower())
    try:
        count = round(float(match[1]) * _MULTIPLES[match[2]]) if match else 0
    except (ValueError, OverflowError):
        count = 0
    if count < 1:
        raise UsageError(f"{text!r} is no number of tokens; write it like 16.4M, 300k or 4096")
    return count


def read_mix(text: str) -> dict[str, float]:
    """Reads relative shares such as ``en=30,de=10``.

    Raises:
        UsageError: If it has another form, names a language twice, or a share is not above 0.
    """
    shares: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        language, _, number = (p.strip() for p in part.partition("="))
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if not language or not 0 < share < math.inf:
            raise UsageError(
                f"--mix has {part!r}; write shares above 0 like en=30,de=10 and leave out the "
                f"languages that are not to be trained on"
            )
        if language in shares:
            raise UsageError(f"--mix names {language!r} twice; give each language one share")
        shares[language] = share
    if not shares:
        raise UsageError(f"--mix {text!r} names no language; write it like en=30,de=10")
    return shares


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of ``train_reference.py``."""
    parser = argparse.ArgumentParser(
        prog="train_reference.py",
        description="Trains a small multilingual language model from a folder of <lang>.txt.",
        epilog="A stopped run goes on where it was when the same command is given again.",
    )
    _add_folders(parser)
    _add_recipe(parser)
    _add_machine(parser)
    return parser


def _add_folders(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("folders").add_argument
    add(
        "--text",
        type=Path,
        required=True,
        help="folder of <lang>.txt or <lang>.txt.xz, one text a line",
    )
    add(
        "--out",
        type=Path,
        required=True,
        help="folder for the model; its work/ is removed when all is done",
    )
    add("--tokenizer", type=Path, help="folder of a tokenizer to use instead of training one")
    add(
        "--cache",
        type=Path,
        help="folder for tokenised text, may be shared (default OUT/work/tokens)",
    )
    add("--sources", help="where the text is from, for the card")


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    plain = Recipe()
    add = parser.add_argument_group("recipe").add_argument
    add("--family", default=plain.family, help=f"one of {', '.join(FAMILIES)} (%(default)s)")
    for name in ("blocks", "width", "heads"):
        add(f"--{name}", type=int, default=getattr(plain, name), help="(%(default)s)")
    add("--vocabulary", type=int, help=f"size of a tokenizer to train ({DEFAULT_VOCABULARY})")
    add("--context", type=int, default=plain.context, help="tokens a sequence (%(default)s)")
    add("--batch", type=int, default=plain.batch, help="sequences a step (%(default)s)")
    add("--peak-rate", type=float, default=plain.peak_rate, help="learning rate (%(default)s)")
    add("--tokens", help="tokens to train on, such as 16.4M (the default) or 300k")
    add("--minutes", type=float, help="take so long for all of it instead")
    add("--mix", help="shares such as en=30,de=10; only these are used (default: by size)")
    add("--held-out", type=int, default=plain.held_out, help="lines a language (%(default)s)")
    add("--half", type=int, help="train on one of two disjoint halves of the text, 1 or 2")
    add("--seed", type=int, default=plain.seed, help="(%(default)s)")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("machine; none of these changes what is trained").add_argument
    add("--checkpoint-minutes", type=float, default=5.0, help="minutes between (%(default)s)")
    add("--arithmetic", default="auto", help=f"one of {', '.join(ARITHMETICS)} (%(default)s)")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"))
    add("--threads", type=int, help="processor threads (default: as many as torch takes)")
    add(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the blocks with torch.compile (default: where it pays)",
    )


def recipe_of(options: argparse.Namespace) -> Recipe:
    """Makes a recipe of parsed options.

    Raises:
        UsageError: If one of them cannot be used, or two contradict each other.
    """
    if options.tokens is not None and options.minutes is not None:
        raise UsageError("--tokens and --minutes are both given; one of them ends the training")
    if options.tokenizer is not None and options.vocabulary is not None:
        raise UsageError("--tokenizer brings its own vocabulary; leave out --vocabulary")
    timed = options.minutes is not None
    tokens = DEFAULT_TOKENS if options.tokens is None else read_count(options.tokens)
    names = ("family", "blocks", "width", "heads", "context", "batch", "peak_rate", "seed")
    return Recipe(
        **{name: getattr(options, name) for name in names},
        vocabulary=DEFAULT_VOCABULARY if options.vocabulary is None else options.vocabulary,
        tokens=None if timed else tokens,
        minutes=options.minutes,
        mix=None if options.mix is None else read_mix(options.mix),
        held_out=options.held_out,
        half=options.half,
    )


def request_of(options: argparse.Namespace) -> Request:
    """Makes a request of parsed options.

    Raises:
        UsageError: If an option cannot be used.
    """
    folders = ("text", "out", "tokenizer", "cache")
    others = ("sources", "checkpoint_minutes", "arithmetic", "device", "threads", "compile")
    return Request(
        recipe=recipe_of(options),
        **{name: getattr(options, name) for name in (*folders, *others)},
    )
