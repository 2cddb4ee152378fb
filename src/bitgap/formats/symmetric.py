"""What targets of symmetric integers have in common: levels of 2 to 8 bits, an fp16 scale a group.

They differ in how codes lie in the file, and in which matrices their loaders pass over.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator

from torch import Tensor

from bitgap.errors import ModelError
from bitgap.formats.folder import whole_bytes
from bitgap.formats.packing import pack_stream
from bitgap.formats.source import Place, Source
from bitgap.formats.target import FP, Expected, Target, coded, divides, group_of, rtn
from bitgap.quant.schemes import RoundToNearest

_GRAINS = ("channel", "g32", "g64", "g128")
PLAIN = {"embedding": "embedding", "head": "head", "tied": "embedding, which is the head too,"}
"""Kinds that stand outside the blocks, in words."""


class SymmetricIntegers(Target):
    """A target that holds round-to-nearest schemes, a scale a row or a group of 32, 64 or 128."""

    loader = "transformers"
    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)

    @abstractmethod
    def passed_over(self, place: Place, scheme: RoundToNearest) -> str | None:
        """Returns why a matrix stays as it is there whatever its groups, or None."""

    def uneven(self, place: Place, scheme: RoundToNearest) -> str | None:
        """Returns why groups do not fit a matrix, or None if they do."""
        return divides(scheme, place)

    def other_bits(self, scheme: RoundToNearest) -> str | None:
        """Returns why a number of bits is not held, or None if it is."""
        if scheme.bits in self.bits:
            return None
        *others, last = map(str, self.bits)
        return f"it has kernels for {', '.join(others)} and {last} bits"

    @abstractmethod
    def rounded_bytes(self, place: Place, scheme: RoundToNearest) -> int:
        """Returns what a rounded matrix takes in the file."""

    def refusal(self, place: Place, scheme: str) -> str | None:
        """Returns why a matrix cannot be stored by a scheme, or None if it can."""
        if scheme == FP:
            return None
        parsed = rtn(scheme)
        if parsed is None or parsed.granularity not in _GRAINS:
            return "it holds symmetric integers with a scale a row or a group of 32, 64 or 128"
        return self.passed_over(place, parsed) or self.uneven(place, parsed)

    def choices(self, place: Place) -> Iterable[str]:
        """Returns the schemes to look for the nearest among."""
        return (f"rtn{bits}-{grain}" for bits in self.bits for grain in _GRAINS)

    def code_bits(self, scheme: str) -> float:
        """Returns the bits of a code."""
        parsed = rtn(scheme)
        return float(parsed.bits) if parsed is not None else 16.0

    def bytes_of(self, place: Place, scheme: str) -> int:
        """Returns what a matrix takes in the file."""
        parsed = rtn(scheme)
        return 2 * place.n_weights if parsed is None else self.rounded_bytes(place, parsed)

    def expected(self, source: Source, place: Place, scheme: str) -> Expected:
        """Returns what the file will hold of a matrix."""
        parsed = rtn(scheme)
        if parsed is None:
            n_bytes = whole_bytes(source, place)
            bits = 8 * n_bytes / place.n_weights
            return Expected(stored="", code_bits=bits, n_bytes=n_bytes)
        return Expected(
            stored=self.stored_as(place, parsed),
            code_bits=parsed.bits,
            n_bytes=self.rounded_bytes(place, parsed),
        )

    def stored_as(self, place: Place, scheme: RoundToNearest) -> str:
        """Returns what the reader calls the type of a rounded matrix."""
        size = group_of(scheme, place.n_in)
        return f"int{scheme.bits} {'channel' if size == place.n_in else f'g{size}'}"


def packed_rows(
    source: Source, place: Place, scheme: str, scales: list[Tensor], *, signed: bool = False
) -> Iterator[Tensor]:
    """Yields the codes of a matrix as words, a dense stream a row.

    Args:
        source: The model.
        place: The matrix.
        scheme: How it is rounded.
        scales: Takes the scales of every part in float16; whole when all words were yielded.
        signed: Whether codes are in two's complement; else 2^(b-1) is added to them.

    Raises:
        ModelError: As :func:`half_scale`.
    """
    parsed = rtn(scheme)
    assert parsed is not None
    offset, mask = 0 if signed else 2 ** (parsed.bits - 1), 2**parsed.bits - 1
    for codes in coded(source, place, scheme):
        scales.append(half_scale(codes.scale_OG, place.name))
        yield pack_stream((codes.levels_OI + offset) & mask, parsed.bits)


def half_scale(scale: Tensor, name: str) -> Tensor:
    """Returns scales in float16.

    Below 2^-14 they keep fewer bits, and are off by 2^-25 at most. Real models have such groups:
    their weights are next to nothing, and what they are off by is less.

    Raises:
        ModelError: If one is above its range.
    """
    half = scale.half()
    if not half.isfinite().all():
        raise ModelError(
            f"{name}: {int((~half.isfinite()).sum())} scales of its groups are beyond float16 (up "
            f"to {float(scale.max()):.1e}), in which they are stored; leave it whole in the recipe"
        )
    return half
