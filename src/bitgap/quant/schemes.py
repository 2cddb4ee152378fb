"""Schemes: how a weight matrix is rounded or disturbed, each with one canonical name.

A scheme is a small frozen value. Its name says all there is to know (``rtn4-g128-mse``), so plans,
stored scores and reports carry names, and ``parse_scheme(name)`` gives the value back. This module
knows no arithmetic; ``rounding.py`` does. It imports no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from bitgap.errors import SchemeError

Scope = Literal["linears", "all-weights"]
Granularity = Literal["tensor", "channel", "g32", "g64", "g128"]
Clip = Literal["absmax", "mse"]
Group = int | Literal["tensor", "channel"]
"""What shares one scale: the whole tensor, an output row, or this many consecutive inputs of it."""

FULL_PRECISION_BITS = 16
"""Storage of an unrounded weight in bits: checkpoints ship as fp16 or bf16."""
SCALE_BITS = 16
"""Storage of one scale in bits: fp16, as common low-bit formats keep it."""

_FORMS = (
    "fp",
    "rtn{2..8}-{tensor,channel,g32,g64,g128}[-mse]",
    "seed{2..8}",
    "noise{t}-s{seed}",
    "stoch{2..8}-{tensor,channel,g32,g64,g128}-s{seed}",
    "own:{name}:{digest}",
)

KNOWN_SCHEMES = f"""\
{_FORMS[0]}
    Full precision: nothing is changed.
{_FORMS[1]}
    Round to nearest, symmetric: levels -q..q with q = 2^(bits-1)-1, block linears only. One scale
    for each tensor, output row, or group of 32, 64 or 128 inputs: the largest |weight| over q.
    With -mse the scale is clipped to the least squared error. Example: rtn4-g128
{_FORMS[2]}
    The origin's scheme: per tensor, every weight but the final norm's (so norm gains, embedding
    and head too). Example: seed4
{_FORMS[3]}
    Gaussian noise instead of rounding, ||dW|| = t ||W|| in every block linear, drawn afresh for
    each matrix and seed. Example: noise0.05-s3
{_FORMS[4]}
    Stochastic rounding: as rtn, but up or down at random so that the error is 0 on average.
    Example: stoch4-g128-s0
{_FORMS[5]}
    Block linears made elsewhere, such as a real quantized checkpoint, as Bank.add named them.
"""
"""Help text: every form a scheme name can take, with an example of each."""


def largest_level(bits: int) -> int:
    """Returns q = 2^(bits-1)-1, the largest level of the symmetric narrow range -q..q.

    Example:
        >>> largest_level(4)
        7
    """
    return 2 ** (bits - 1) - 1


@dataclass(frozen=True, slots=True)
class Scheme:
    """What all schemes share; use one of the kinds below.

    Raises:
        SchemeError: If the fields make no name that ``parse_scheme`` would accept.
    """

    def __post_init__(self) -> None:
        if not any(pattern.fullmatch(self.name) for pattern, _ in _KINDS):
            raise _unknown(self.name)

    @property
    def name(self) -> str:
        """Canonical name: ``parse_scheme(name)`` equals this scheme and no other."""
        raise NotImplementedError

    @property
    def scope(self) -> Scope:
        """Which parameters the scheme is for: the blocks' linears, or every ``*weight``."""
        return "linears"

    @property
    def takes_any_shape(self) -> bool:
        """Whether vectors, such as norm gains, may be given to it, or matrices only."""
        return self.scope == "all-weights"

    @property
    def weight_bits(self) -> int:
        """Storage of one weight in bits, scales not counted."""
        return FULL_PRECISION_BITS

    def n_scales(self, shape: Sequence[int]) -> int:
        """Returns how many scales a weight of this shape needs."""
        return 0


@dataclass(frozen=True, slots=True)
class FullPrecision(Scheme):
    """``fp``: weights are left as they are."""

    @property
    def name(self) -> str:
        """``fp``."""
        return "fp"

    @property
    def takes_any_shape(self) -> bool:
        """True: leaving alone works for any shape."""
        return True


@dataclass(frozen=True, slots=True)
class _Grouped(Scheme):
    """Rounding with one scale for each tensor, output row, or group of inputs."""

    bits: int
    """Bits of a level, 2 to 8."""
    granularity: Granularity
    """What shares a scale."""

    @property
    def group(self) -> Group:
        """The granularity as ``rounding.py`` takes it."""
        if self.granularity in ("tensor", "channel"):
            return self.granularity
        return int(self.granularity[1:])

    @property
    def weight_bits(self) -> int:
        """Bits of a level."""
        return self.bits

    def n_scales(self, shape: Sequence[int]) -> int:
        """Returns how many scales a matrix (out x in) needs; a short last group counts as one."""
        if self.group == "tensor":
            return 1
        n_out, n_in = shape
        return n_out if self.group == "channel" else n_out * math.ceil(n_in / self.group)


@dataclass(frozen=True, slots=True)
class RoundToNearest(_Grouped):
    """``rtn``: each weight goes to the nearest level, half to even."""

    clip: Clip = "absmax"
    """``absmax`` covers the largest weight; ``mse`` clips it where that lowers squared error."""

    @property
    def name(self) -> str:
        """Such as ``rtn4-g128`` or ``rtn3-channel-mse``."""
        suffix = "" if self.clip == "absmax" else f"-{self.clip}"
        return f"rtn{self.bits}-{self.granularity}{suffix}"


@dataclass(frozen=True, slots=True)
class Stochastic(_Grouped):
    """``stoch``: each weight goes up or down at random, so that its expected error is 0."""

    seed: int
    """Chooses the draw, together with the matrix's own name."""

    @property
    def name(self) -> str:
        """Such as ``stoch4-g128-s0``."""
        return f"stoch{self.bits}-{self.granularity}-s{self.seed}"


@dataclass(frozen=True, slots=True)
class Seed(Scheme):
    """``seed``: the origin's scheme, per tensor, over every ``*weight`` but the final norm's."""

    bits: int
    """Bits of a level, 2 to 8; the origin used 4."""

    @property
    def name(self) -> str:
        """Such as ``seed4``."""
        return f"seed{self.bits}"

    @property
    def scope(self) -> Scope:
        """``all-weights``: block linears and norm gains, embedding and head; never a bias."""
        return "all-weights"

    @property
    def weight_bits(self) -> int:
        """Bits of a level."""
        return self.bits

    def n_scales(self, shape: Sequence[int]) -> int:
        """Returns 1: one scale for each tensor."""
        return 1


@dataclass(frozen=True, slots=True)
class Noise(Scheme):
    """``noise``: iid Gaussian noise of a set size relative to the matrix, instead of rounding."""

    relative: float
    """t = ||dW||_F / ||W||_F, above 0."""
    seed: int
    """Chooses the draw, together with the matrix's own name."""

    @property
    def name(self) -> str:
        """Such as ``noise0.05-s3``: t as the shortest plain decimal that gives it back."""
        plain = format(Decimal(repr(float(self.relative))), "f")
        return f"noise{plain.removesuffix('.0')}-s{self.seed}"


@dataclass(frozen=True, slots=True)
class Own(Scheme):
    """``own``: weights made elsewhere and given to the bank; their digest is part of the name."""

    label: str
    """What the giver called them: letters, digits, dots, dashes and underscores."""
    digest: str
    """First 12 hexadecimal digits of the SHA-256 over the weights."""

    @property
    def name(self) -> str:
        """Such as ``own:gptq:0123456789ab``."""
        return f"own:{self.label}:{self.digest}"


# The lookahead keeps zero out; the digit limits keep t from becoming infinite or 0 as a float.
_T = r"(?=[0-9.]*[1-9])([0-9]{0,300}\.?[0-9]{1,300})"
_SEED = r"s([0-9]{1,18})"
_GRAIN = r"(tensor|channel|g32|g64|g128)"
_KINDS: tuple[tuple[re.Pattern[str], Callable[..., Scheme]], ...] = (
    (re.compile("fp"), FullPrecision),
    (
        re.compile(rf"rtn([2-8])-{_GRAIN}(?:-(mse))?"),
        lambda bits, grain, clip: RoundToNearest(int(bits), grain, clip or "absmax"),
    ),
    (re.compile("seed([2-8])"), lambda bits: Seed(int(bits))),
    (re.compile(rf"noise{_T}-{_SEED}"), lambda t, seed: Noise(float(t), int(seed))),
    (
        re.compile(rf"stoch([2-8])-{_GRAIN}-{_SEED}"),
        lambda bits, grain, seed: Stochastic(int(bits), grain, int(seed)),
    ),
    (re.compile("own:([A-Za-z0-9_.-]+):([0-9a-f]{12})"), Own),
)


def parse_scheme(text: str) -> Scheme:
    """Returns the scheme of a name.

    Args:
        text: One of the forms in ``KNOWN_SCHEMES``. Numbers may be written in other ways than the
            canonical one (``noise0.050-s03``).

    Raises:
        SchemeError: If the text is no such form.

    Example:
        >>> parse_scheme("rtn4-g128").bits
        4
        >>> parse_scheme("seed4").scope
        'all-weights'
    """
    if not isinstance(text, str):
        raise _unknown(text)
    return _parse(text)


@lru_cache(maxsize=1024)
def _parse(text: str) -> Scheme:
    for pattern, build in _KINDS:
        if match := pattern.fullmatch(text):
            return build(*match.groups())
    raise _unknown(text)


def _unknown(asked: object) -> SchemeError:
    return SchemeError(
        f"scheme {asked!r} is not known; the forms are {', '.join(_FORMS)}; for example rtn4-g128"
    )


def check_shape(scheme: Scheme, shape: Sequence[int]) -> None:
    """Refuses a shape that the scheme cannot round.

    Args:
        scheme: The scheme asked for.
        shape: Of the weight; (out x in) for a matrix.

    Raises:
        SchemeError: If the weight is empty, or no matrix and the scheme is for matrices only.

    Example:
        >>> check_shape(parse_scheme("rtn4-g32"), (64, 128))
    """
    found = f"{scheme.name} was asked of a weight of shape {tuple(shape)}"
    if min(shape, default=1) < 1:
        raise SchemeError(f"{found}, which holds no numbers; leave it out")
    if len(shape) != 2 and not scheme.takes_any_shape:
        raise SchemeError(
            f"{found}, but takes matrices (out x in) only; leave it in full precision, or use a "
            "seed scheme, which takes any shape"
        )


def bits_per_weight(scheme: Scheme, shape: Sequence[int]) -> float:
    """Returns the storage of a weight in bits per number, its fp16 scales included.

    Full precision and noise count 16: noise is a probe, not a format.

    Args:
        scheme: How the weight is rounded.
        shape: Of the weight; (out x in) for a matrix.

    Raises:
        SchemeError: If the scheme cannot round that shape.

    Example:
        >>> bits_per_weight(parse_scheme("rtn4-g128"), (256, 256))
        4.125
    """
    check_shape(scheme, shape)
    return scheme.weight_bits + SCALE_BITS * scheme.n_scales(shape) / math.prod(shape)
