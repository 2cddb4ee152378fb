"""What a toolchain can be given: which schemes for which matrix, in how many bytes, written how.

A target says *before anything is written* what it cannot express, matrix by matrix, and the least
that it can give instead: a scheme of no fewer bits that takes the fewest bytes. Bytes are those of
the file, to the byte, from shapes alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitgap.formats.source import Place, Source
from bitgap.quant.codes import Codes, codes_of
from bitgap.quant.rounding import round_weight
from bitgap.quant.schemes import RoundToNearest, parse_scheme

FP = "fp"
_PIECE_WEIGHTS = 1 << 22
"""Weights of a matrix that are rounded at a time: temporaries are some ten times as many bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One matrix that a target cannot hold as a recipe asks."""

    place: str
    scheme: str
    why: str
    nearest: str
    """What it can be given instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a reader must find of a matrix in the file."""

    stored: str
    """The type, as ``open_checkpoint`` names it."""
    code_bits: float
    n_bytes: int
    """Codes and all that belongs to them."""


@dataclass(frozen=True, slots=True)
class Explained:
    """How far the logits of an export may be from the simulation's, as the toolchain computes.

    Attributes:
        tolerance: Largest ‖logits - simulated‖ / ‖simulated‖.
        floor: The same of products alone: above it an export must be nearer to the simulation than
            a quarter of what the plan does, or it may not be the plan that was run.
        why: What makes them so large.
    """

    tolerance: float
    floor: float
    why: str


Loader = Literal["transformers", "gptqmodel", "gguf", "mlx", "onnxruntime", "openvino"]
"""A script that loads an export back (:mod:`bitgap.formats.loading`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A library that loads an export back."""

    loader: Loader
    needs: tuple[str, ...]
    """Packages, as they are imported."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the script is told beside what the target says of the model."""


# Sums of a model that 2 bits have all but destroyed (logits moved by twice their norm) were off by
# 4e-5 in four runtimes; whole ones by 1e-6.
IN_FLOAT32 = Explained(3e-4, 1e-6, "float32 products, summed in another order")


def in_own_type(source: Source) -> Explained:
    """Returns what is explained where products are in the type of the model's file."""
    types = {source.stored(name).dtype for name in source.places}
    if types <= {torch.float32, torch.float64}:
        return IN_FLOAT32
    # bfloat16 rounds each product's result by up to 2^-9, block after block.
    return Explained(3e-2, 1e-2, "products in the model's own type of 16 bits")


class Target(ABC):
    """A toolchain's form of a model."""

    name: str
    """As ``--to`` takes it."""
    title: str
    loader: Loader
    """Which script loads it back (:mod:`bitgap.formats.loading`)."""
    needs: tuple[str, ...]
    """Packages that the loader needs."""
    bytes_note: str = "the form adds what it needs to a matrix"
    """Why a unit may take other bytes than dense codes and fp16 scales do."""

    # -- what it can hold --------------------------------------------------------------------------

    @abstractmethod
    def refusal(self, place: Place, scheme: str) -> str | None:
        """Returns why a matrix cannot be stored by a scheme, or None if it can."""

    @abstractmethod
    def choices(self, place: Place) -> Iterable[str]:
        """Returns the schemes to look for the nearest among; not all need to fit the matrix."""

    @abstractmethod
    def expected(self, source: Source, place: Place, scheme: str) -> Expected:
        """Returns what the file will hold of a matrix."""

    @abstractmethod
    def code_bits(self, scheme: str) -> float:
        """Returns the bits of a code of a scheme that it knows."""

    @abstractmethod
    def bytes_of(self, place: Place, scheme: str) -> int:
        """Returns what a matrix takes in the file under a scheme that it holds."""

    def together(self, places: Mapping[str, Place], schemes: Mapping[str, str]) -> list[Refusal]:
        """Returns what it refuses of matrices that must have one scheme in common."""
        return []

    def check_model(self, source: Source) -> None:  # noqa: B027
        """Refuses a model that it cannot hold whatever the recipe, before anything is written.

        Raises:
            ModelError: Naming what of the model it has no place for.
        """

    def check_matrices(self, source: Source) -> None:
        """Refuses a model whose matrices it has no place for, whatever the recipe.

        Less than :meth:`check_model` where another tool can write what is no matrix.

        Raises:
            ModelError: Naming what of the model it has no place for.
            MissingExtra: If the library that writes it is not installed.
        """
        self.check_model(source)

    # -- what it makes -----------------------------------------------------------------------------

    @abstractmethod
    def write(self, source: Source, schemes: Mapping[str, str], folder: Path) -> None:
        """Writes a model into an empty folder, matrix by matrix.

        Args:
            source: The model.
            schemes: A scheme for every place, all of which it holds.
            folder: Where to.
        """

    def rounded(self, weight_OI: Tensor, scheme: str, name: str) -> Tensor:
        """Returns what bitgap computes with where a matrix has a scheme: the simulation."""
        return round_weight(weight_OI.float(), scheme, stream=name)

    def explained(self, source: Source, schemes: Mapping[str, str]) -> Explained:
        """Returns how far logits may be from the simulation's."""
        return IN_FLOAT32

    def settings(self, source: Source) -> dict[str, Any]:
        """Returns what the loader is told beside the folder."""
        return {}

    def readers(self) -> tuple[Reader, ...]:
        """Returns what can load it back, the toolchain's own library first."""
        return (Reader(loader=self.loader, needs=self.needs),)

    def not_loaded(self, source: Source) -> str:
        """Returns why the loader is known to read this model wrongly; mostly empty."""
        return ""

    def own_logits(
        self, source: Source, folder: Path, ids: Sequence[Sequence[int]]
    ) -> Iterator[NDArray[np.float32]] | None:
        """Returns logits of an export by our own reader, or None where there is none that runs it.

        Args:
            source: The model that it was made of.
            folder: The export.
            ids: Token ids of each text.
        """
        return None

    def configured(self, source: Source, folder: Path) -> Mapping[str, str] | None:
        """Returns what a configuration gives every matrix; None where weights are written.

        Args:
            source: The model.
            folder: The export.
        """
        return None

    def further(self, source: Source, folder: Path, sentences: Iterable[str]) -> tuple[str, ...]:
        """Returns what is wrong with an export beside its matrices and logits."""
        return ()

    def by_rows(self, scheme: str) -> bool:
        """Whether rows of a matrix may be rounded apart from each other."""
        return True

    # -- shared ------------------------------------------------------------------------------------

    def nearest(self, place: Place, scheme: str) -> str:
        """Returns the scheme of no fewer bits that the target can hold in the fewest bytes."""
        asked = asked_bits(scheme)
        clip = "-mse" if scheme.endswith("-mse") else ""
        found = [
            (self.bytes_of(place, one), -self.code_bits(one), one)
            for one in dict.fromkeys([*(f"{c}{clip}" if c.startswith("rtn") else c
                                        for c in self.choices(place))])
            if self.refusal(place, one) is None and self.code_bits(one) >= asked
        ]  # fmt: skip
        return min(found)[2] if found else FP

    def refusals(self, places: Mapping[str, Place], schemes: Mapping[str, str]) -> list[Refusal]:
        """Returns all that cannot be expressed, in the model's order."""
        found = [
            Refusal(place=name, scheme=scheme, why=why, nearest=self.nearest(places[name], scheme))
            for name, scheme in schemes.items()
            if (why := self.refusal(places[name], scheme)) is not None
        ]
        return found or self.together(places, schemes)

    def nearest_to(self, places: Mapping[str, Place], schemes: Mapping[str, str]) -> dict[str, str]:
        """Returns the nearest schemes, all of which can be expressed together."""
        made = dict(schemes)
        for _ in range(len(schemes) + 1):
            found = self.refusals(places, made)
            if not found:
                return made
            made |= {refusal.place: refusal.nearest for refusal in found}
        raise AssertionError(f"{self.name} has no recipe near to one of {len(schemes)} matrices")


def asked_bits(scheme: str) -> float:
    """Returns the bits of a code that a scheme's name says.

    Example:
        >>> asked_bits("rtn3-g64"), asked_bits("Q4_K"), asked_bits("fp")
        (3.0, 4.0, 16.0)
    """
    if scheme == FP:
        return 16.0
    digits = [c for c in scheme if c.isdigit()]
    return float(digits[0]) if digits else 16.0


def rtn(scheme: str) -> RoundToNearest | None:
    """Returns a round-to-nearest scheme by its name; None of any other name."""
    try:
        parsed = parse_scheme(scheme)
    except ValueError:
        return None
    return parsed if isinstance(parsed, RoundToNearest) else None


def group_of(scheme: RoundToNearest, n_in: int) -> int:
    """Returns how many inputs share a scale, of a row of so many."""
    return n_in if scheme.group in ("channel", "tensor") else min(int(scheme.group), n_in)


def coded(source: Source, place: Place, scheme: str) -> Iterator[Codes]:
    """Yields the levels and scales of a matrix, some rows at a time."""
    matrix = source.matrix(place.name)
    step = max(1, _PIECE_WEIGHTS // place.n_in)
    for start in range(0, place.n_out, step):
        yield codes_of(matrix[start : start + step], scheme)
    source.forget(place.name)


def divides(scheme: RoundToNearest, place: Place) -> str | None:
    """Returns why a scheme's groups do not fit a matrix, for targets without a short last group."""
    size = group_of(scheme, place.n_in)
    if place.n_in % size:
        return f"its rows of {place.n_in} are no whole number of groups of {size}"
    return None
