"""Bytes: what a choice takes, and what a budget means.

A budget is in bytes of the file that will be written. ``4.25`` bits a weight are those of the
units, whose bits are chosen; norms, biases and whatever else is stored whole come on top, so that
uniform ``rtn4-g64`` fits 4.25 exactly.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitgap.errors import UsageError
from bitgap.protect.records import Choice, Unit
from bitgap.quant.schemes import SCALE_BITS, check_shape, parse_scheme

_AMOUNT = re.compile(r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_WEIGHTS = (".safetensors", ".gguf", ".onnx", ".bin")
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def plain_choice(unit: Unit, scheme: str) -> Choice:
    """Returns a choice with the bytes that dense codes and fp16 scales take.

    Codes fill whole bytes a matrix; a short last group has a scale of its own; no zeros, as our
    schemes are symmetric. A toolchain that pads or stores more gives choices of its own.

    Args:
        unit: What is stored.
        scheme: Name of a scheme.

    Raises:
        SchemeError: If the name is no scheme, or the scheme cannot round a matrix of the unit.

    Example:
        >>> from bitgap.protect.records import Matrix
        >>> unit = Unit(name="0.o", kind="o", block=0, matrices=(Matrix(name="w", n_out=8,
        ...                                                             n_in=128),))
        >>> choice = plain_choice(unit, "rtn4-g64")
        >>> choice.codes_bytes, choice.scales_bytes, 8 * choice.size_bytes / unit.n_weights
        (512, 32, 4.25)
    """
    parsed = parse_scheme(scheme)
    shapes = [(matrix.n_out, matrix.n_in) for matrix in unit.matrices]
    for shape in shapes:
        check_shape(parsed, shape)
    codes = [-(-parsed.weight_bits * math.prod(shape) // 8) for shape in shapes]
    scales = [SCALE_BITS * parsed.n_scales(shape) // 8 for shape in shapes]
    return Choice(
        scheme=parsed.name,
        bits=float(parsed.weight_bits),
        group=str(getattr(parsed, "granularity", "")),
        codes_bytes=sum(codes),
        scales_bytes=sum(scales),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many bytes a file may take."""

    size_bytes: int
    """Of the whole file."""
    fixed_bytes: int
    """What of it is taken whatever the plan: norms, biases, header."""
    asked: str
    """How it was asked for."""

    @property
    def units_bytes(self) -> int:
        """What is left for the units."""
        return self.size_bytes - self.fixed_bytes


def budget_of(
    units: Sequence[Unit],
    *,
    bits: float | None = None,
    size: str | int | None = None,
    like: str | os.PathLike[str] | None = None,
    fixed_bytes: int = 0,
) -> Budget:
    """Returns the budget that was asked for in one of three ways.

    Args:
        units: Of the model.
        bits: Bits a weight of the units, scales included, such as 4.25.
        size: Of the file: bytes, or text such as ``180MB`` or ``170MiB``.
        like: A file, or a folder of them, whose size is the budget.
        fixed_bytes: What the file takes whatever the plan.

    Raises:
        UsageError: If not exactly one way is used, or what it says is no size.

    Example:
        >>> from bitgap.protect.example import TABLE
        >>> budget_of(TABLE.facts.units, bits=4.25, fixed_bytes=100).size_bytes
        28388
        >>> budget_of(TABLE.facts.units, size="13.1kB").units_bytes
        13100
    """
    given = [name for name, v in (("bits", bits), ("size", size), ("like", like)) if v is not None]
    if len(given) != 1:
        raise UsageError(
            f"a budget was asked for by {' and '.join(given) or 'nothing'}; give exactly one of "
            f"bits a weight (4.25), a size (180MB) and a file to be like"
        )
    if bits is not None:
        if not 0 < bits < math.inf:
            raise UsageError(f"a budget of {bits} bits a weight was asked for; give 4.25, say")
        n_weights = sum(unit.n_weights for unit in units)
        # Rounded first, so that 4.25 of 8 weights is 4.25 and not a byte less.
        units_bytes = math.floor(round(bits * n_weights / 8, 6))
        return Budget(
            size_bytes=units_bytes + fixed_bytes,
            fixed_bytes=fixed_bytes,
            asked=f"{bits:g} bits a weight",
        )
    if size is not None:
        total = amount_bytes(size) if isinstance(size, str) else size
        return Budget(size_bytes=total, fixed_bytes=fixed_bytes, asked=str(size))
    assert like is not None
    return Budget(
        size_bytes=_taken_by(Path(like)),
        fixed_bytes=fixed_bytes,
        asked=f"like {Path(like).name}",
    )


def amount_bytes(text: str) -> int:
    """Returns the bytes that ``180MB`` (1000s) or ``170MiB`` (1024s) names.

    Raises:
        UsageError: If it names none.

    Example:
        >>> amount_bytes("180MB"), amount_bytes("1.5 KiB"), amount_bytes("512")
        (180000000, 1536, 512)
    """
    match = _AMOUNT.fullmatch(text)
    if match is None or (match[3] and not match[2]) or float(match[1]) == 0:
        raise UsageError(f"size {text!r} is no amount; write for example 180MB or 170MiB")
    return math.floor(float(match[1]) * (1024 if match[3] else 1000) ** _POWER[match[2].lower()])


def _taken_by(path: Path) -> int:
    files = [path] if path.is_file() else sorted(p for p in path.glob("**/*") if p.is_file())
    # A folder often holds the same weights in several formats; one of them counts.
    weights = files
    if path.is_dir():
        suffix = next((s for s in _WEIGHTS if any(p.suffix == s for p in files)), "")
        weights = [p for p in files if p.suffix == suffix and suffix]
    total = sum(p.stat().st_size for p in weights)
    if not total:
        raise UsageError(
            f"a budget like {os.fspath(path)!r} was asked for, which holds no weights; name a "
            f"checkpoint's file, or its folder"
        )
    return total
