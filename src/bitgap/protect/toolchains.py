"""What a target can load: which schemes, for which kinds of unit, and what it fuses.

A recipe for a target has nothing in it that the target's loader would refuse or quietly change.
What it says of a model's own matrices (a Conv1D, a table that is the head too, a group that no
kernel has) is asked of its writer where a model is at hand.
Plans have symmetric rounding in groups; types that only their format can make, such as the K types
of GGUF, enter a table as choices of their own names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bitgap.errors import UsageError
from bitgap.protect.records import TIED, Unit
from bitgap.quant.schemes import RoundToNearest, parse_scheme

OUTSIDE = ("embedding", "head", TIED)
"""Kinds of unit that stand outside the blocks."""


def _nothing(unit: Unit, scheme: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """What one target can load."""

    name: str
    bits: tuple[int, ...]
    """Bits of a code that it has."""
    groups: tuple[str, ...]
    """What may share a scale."""
    outside: bool
    """Whether embedding and head may be rounded."""
    own: tuple[str, ...] = ()
    """Names of its own types, which a table may hold as choices."""
    fused: tuple[tuple[str, ...], ...] = ()
    """Kinds of unit that it makes one matrix of when it loads, so that they share one scheme."""
    multiple: int = 1
    """What both sides of a matrix must be a multiple of."""
    why: Mapping[str, str] = field(default_factory=dict[str, str])
    """Where each limit comes from."""
    refusal: Callable[[Unit, str], str | None] = _nothing
    """Why its writer cannot store a unit of the model at hand by a scheme, or None."""


_GRAINS = ("channel", "g32", "g64", "g128")
_INTEGERS = (2, 3, 4, 5, 6, 7, 8)
_IGNORED = "embedding and head are ignored by name, or a tied model does not load"

TOOLCHAINS: Mapping[str, Toolchain] = {
    "gguf": Toolchain(
        name="gguf",
        bits=(4, 5, 8),
        groups=("g32",),
        outside=True,
        own=("Q2_K", "Q3_K", "Q4_0", "Q4_K", "Q5_0", "Q5_K", "Q6_K", "Q8_0"),
        why={
            "bits": "Q4_0, Q5_0 and Q8_0 hold symmetric codes in groups of 32 with an fp16 scale",
        },
    ),
    "compressed-tensors": Toolchain(
        name="compressed-tensors",
        bits=_INTEGERS,
        groups=_GRAINS,
        outside=False,
        why={"outside": _IGNORED},
    ),
    "vllm": Toolchain(
        name="vllm",
        bits=(4, 8),
        groups=_GRAINS,
        outside=False,
        fused=(("q", "k", "v"), ("gate", "up")),
        why={
            "bits": "kernels for compressed-tensors weights have 4 and 8 bits",
            "outside": _IGNORED,
            "fused": "q, k, v and gate, up are one matrix each, of one scheme",
        },
    ),
    "torchao": Toolchain(
        name="torchao",
        bits=_INTEGERS,
        groups=_GRAINS,
        outside=True,
        why={"bits": "IntxWeightOnlyConfig; codes are stored one a byte before they are packed"},
    ),
    "onnxruntime": Toolchain(
        name="onnxruntime",
        bits=(2, 4, 8),
        groups=("g32", "g64", "g128"),
        outside=True,
        why={"bits": "MatMulNBits has kernels for them", "groups": "blocks are powers of two"},
    ),
    "openvino": Toolchain(
        name="openvino",
        bits=(2, 4, 8),
        groups=_GRAINS,
        outside=True,
        why={"bits": "of u3 and u6 the processor's plugin makes float32 when it loads"},
    ),
    "gptq": Toolchain(
        name="gptq",
        bits=(2, 3, 4, 8),
        groups=_GRAINS,
        outside=False,
        fused=(("q", "k", "v"), ("gate", "up")),
        multiple=32,
        why={
            "bits": "GPTQModel and vLLM have kernels for them",
            "outside": "GPTQModel leaves embedding and head whole",
            "fused": "vLLM makes one matrix of q, k, v and of gate, up",
            "multiple": "codes and zeros fill whole words",
        },
    ),
    "auto-round": Toolchain(
        name="auto-round",
        bits=_INTEGERS,
        groups=_GRAINS,
        outside=False,
        multiple=32,
        why={"multiple": "codes and zeros fill whole words"},
    ),
    "mlx": Toolchain(
        name="mlx",
        bits=(2, 3, 4, 5, 6, 8),
        groups=("g32", "g64", "g128"),
        outside=True,
        why={"groups": "mlx has groups of 32, 64 and 128"},
    ),
}
"""Every target by the name that ``--for`` takes."""


def toolchain(name: str) -> Toolchain:
    """Returns a target by name.

    Raises:
        UsageError: If there is none of that name.

    Example:
        >>> toolchain("gguf").groups
        ('g32',)
    """
    if name not in TOOLCHAINS:
        raise UsageError(f"target {name!r} is not known; there are {', '.join(TOOLCHAINS)}")
    return TOOLCHAINS[name]


def can_load(target: Toolchain, unit: Unit, scheme: str) -> bool:
    """Returns whether a target can load a unit that is stored by a scheme.

    A group must divide the columns; an unrounded unit is always fine.

    Args:
        target: From :func:`toolchain`.
        unit: What is stored.
        scheme: Name of the scheme.

    Raises:
        SchemeError: If the name is neither a scheme nor one of the target's own types.

    Example:
        >>> from bitgap.protect.example import TABLE
        >>> unit = TABLE.facts.units[0]
        >>> [can_load(toolchain("gguf"), unit, s) for s in ("rtn4-g32", "rtn4-g64", "fp")]
        [True, False, True]
    """
    if scheme in ("fp", *target.own):
        return True
    parsed = parse_scheme(scheme)
    if not isinstance(parsed, RoundToNearest) or (unit.kind in OUTSIDE and not target.outside):
        return False
    if any(side % target.multiple for m in unit.matrices for side in (m.n_in, m.n_out)):
        return False
    group = parsed.group
    divides = not isinstance(group, int) or all(m.n_in % group == 0 for m in unit.matrices)
    if not (parsed.bits in target.bits and parsed.granularity in target.groups and divides):
        return False
    return target.refusal(unit, scheme) is None


def fused_sets(target: Toolchain, units: Sequence[Unit]) -> tuple[tuple[str, ...], ...]:
    """Returns the units, by name, that a target makes one of, of each block.

    Args:
        target: From :func:`toolchain`.
        units: Of the model.

    Example:
        >>> from bitgap.protect.records import Matrix
        >>> units = [Unit(name=f"{b}.{k}", kind=k, block=b,
        ...               matrices=(Matrix(name=f"{b}.{k}", n_out=4, n_in=32),))
        ...          for b in range(2) for k in ("q", "k", "v", "o")]
        >>> fused_sets(toolchain("vllm"), units)
        (('0.q', '0.k', '0.v'), ('1.q', '1.k', '1.v'))
    """
    found = list[tuple[str, ...]]()
    for kinds in target.fused:
        for block in sorted({u.block for u in units if u.block is not None}):
            names = tuple(u.name for u in units if u.block == block and u.kind in kinds)
            if len(names) > 1:
                found.append(names)
    return tuple(found)
