"""What is known of an export: every matrix and unit counted, logits compared, by what and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FORMAT = "bitgap verification"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedMatrix:
    """One matrix, in the file and in the toolchain."""

    name: str
    """The parameter's name."""
    unit: str
    """Unit of the recipe that it belongs to; empty where the recipe leaves it whole."""
    asked: str
    """Scheme of the recipe."""
    stored: str
    """Type that it has in the file, as it was read back."""
    loaded: str
    """What the toolchain holds for it; empty if it was not loaded."""
    code_bits: float
    n_bytes: int
    """In the file, scales and all."""
    error: float
    """Largest difference from the simulation, over the largest weight; a ratio."""
    wrong: str
    """What is not as it must be; empty if all is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedUnit:
    """One unit of the recipe."""

    name: str
    scheme: str
    recipe_bytes: int
    """What the recipe says."""
    file_bytes: int
    """What its matrices take in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitsOf:
    """How far a language's logits are from the simulation's, with the values that a file holds."""

    language: str
    n_tokens: int
    largest: float
    """Largest absolute difference of one logit, in nats."""
    mean: float
    """Mean absolute difference, in nats."""
    relative: float
    """‖logits - simulated‖ / ‖simulated‖."""
    plan: float
    """‖simulated - full precision‖ / ‖simulated‖: what the plan itself does, to compare with."""
    storing: float = 0.0
    """‖with the file's values - simulated‖ / ‖simulated‖: what scales, and whole matrices, of 16
    bits cost. Records before 2026-11-30 have it in ``relative``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """One export, verified as far as it could be."""

    format: str = FORMAT
    version: int = VERSION
    target: str
    recipe: str
    """Seal of the recipe that is in the export."""
    model: str
    fingerprint: str
    matrices: tuple[VerifiedMatrix, ...]
    units: tuple[VerifiedUnit, ...]
    logits: tuple[LogitsOf, ...]
    recipe_bytes: int
    """What the recipe says of the whole file."""
    file_bytes: int
    """What the files of weights take on disk."""
    units_bytes: int
    """What the units' matrices take of it."""
    tolerance: float
    """Largest ``relative`` that the toolchain's arithmetic explains."""
    floor: float
    """The same of products alone: above it logits must be nearer to the simulation than a quarter
    of what the plan does to them."""
    arithmetic: str
    """What makes them so large."""
    loaded: bool
    """Whether the toolchain loaded it."""
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of the toolchain's environment."""
    bitgap: str
    took_s: float
    configures: bool = False
    """Whether it is a configuration of a tool that rounds by itself, and bytes are foretold."""
    failures: tuple[str, ...]
    """What is not as it must be."""
    notes: tuple[str, ...] = ()
    """What a reader must know: above all what was not checked, and why."""

    @property
    def passed(self) -> bool:
        """Whether all that was checked is as it must be."""
        return not self.failures
