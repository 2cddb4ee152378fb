"""Which parts of a quantized file hurt which languages, and what keeping each whole would cost.

A part p is a block, one matrix of a block, the embedding or the head. With K_λ(f) the damage of the
whole file, K_λ(p) that of p alone in the full-precision model and K_λ(f∖p) that of the file with p
kept whole, and means over the languages that count:

    alone_λ(p)  = K_λ(p)
    relief_λ(p) = K_λ(f) − K_λ(f∖p)
    harder_λ(p) = log2 K_λ(p) − mean over p' of log2 K_λ(p'), less its mean over languages

What a part does alone and what keeping it whole takes off differ where damage does not add up; the
second is what a release would gain. Relief is signed: keeping a part whole can make things worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bitgap.disparity.formulas import Sums, below_resolution, collapsed, damage_bits
from bitgap.disparity.gates import LOG_UNITS, PER_TEXT, void
from bitgap.errors import PlanError
from bitgap.quant.plan import Plan
from bitgap.quant.variants import Variant
from bitgap.records import Bools, Estimate, Floats, Scores
from bitgap.stats.bootstrap import estimates

DRAWS = 1000
WHOLE_BITS = 16
"""Bits of a weight that is kept whole, as models are shipped in BF16 or F16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a file that can be put in alone, or kept whole.

    Example:
        >>> Part(block=3, unit="mlp.down_proj", stored="Q4_K", parameters=4096, n_bytes=2304).label
        'L3 mlp.down_proj'
    """

    block: int | None
    """Number of its block; None of embedding and head."""
    unit: str
    """The matrix' name in the block; empty for the whole block, else ``embedding``, ``head``, or
    ``embedding and head`` where they are one matrix."""
    stored: str
    """Types it is stored in."""
    parameters: int
    n_bytes: int
    """Bytes that it takes in the file."""

    @property
    def label(self) -> str:
        """How tables and figures call it."""
        return self.unit if self.block is None else f"L{self.block} {self.unit}".rstrip()

    @property
    def bits(self) -> float:
        """Bits of the file for each weight."""
        return 8 * self.n_bytes / self.parameters

    @property
    def extra_bytes(self) -> int:
        """Bytes that the file would grow by if it were kept at :data:`WHOLE_BITS`; 0 or more."""
        return max(0, self.parameters * WHOLE_BITS // 8 - self.n_bytes)

    def alone(self, file: Plan) -> Plan:
        """Returns the plan of this part of a file and nothing else of it."""
        n, whole = len(file.blocks), Plan.uniform("fp", len(file.blocks))
        if self.block is None:
            return replace(whole, **{end: getattr(file, end) for end in self._ends})
        scheme = file.blocks[self.block]
        if self.unit:
            return Plan.only_unit(scheme, n, self.block, self.unit)
        return Plan.only(scheme, n, self.block)

    def without(self, file: Plan) -> Plan:
        """Returns the plan of a file with this part kept whole."""
        if self.block is None:
            return replace(file, **dict.fromkeys(self._ends, "fp"))
        blocks = list(file.blocks)
        scheme = blocks[self.block]
        blocks[self.block] = Variant(scheme, {self.unit: "fp"}).name if self.unit else "fp"
        return replace(file, blocks=tuple(blocks))

    @property
    def _ends(self) -> list[str]:
        return [end for end in ("embedding", "head") if end in self.unit]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDamage:
    """What one part does; by language in the order of the map's languages."""

    part: Part
    alone: Estimate
    """Mean over the languages that count of K(p), bits per reference character."""
    relief: Estimate
    """Mean of K(f) − K(f∖p), bits per reference character."""
    alone_by_language: tuple[Estimate, ...]
    relief_by_language: tuple[Estimate, ...]
    harder: tuple[Estimate, ...]
    """harder_λ in log2 units; without a value for a language that does not count."""

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON; values with ``_ci`` beside them, null where there is none."""
        part = self.part
        return {
            "block": part.block,
            "unit": part.unit,
            "label": part.label,
            "stored": part.stored,
            "parameters": part.parameters,
            "n_bytes": part.n_bytes,
            "bits": part.bits,
            "extra_bytes": part.extra_bytes,
            **_told("alone", [self.alone], single=True),
            **_told("relief", [self.relief], single=True),
            **_told("alone_by_language", self.alone_by_language),
            **_told("relief_by_language", self.relief_by_language),
            **_told("harder", self.harder),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMap:
    """Which parts of a file hurt which languages."""

    file: str
    """Its name."""
    languages: tuple[str, ...]
    reference: str
    n_sentences: int
    parts: tuple[PartDamage, ...]
    """Embedding and head, then by block, and within it in the block's own order."""
    whole: tuple[Estimate, ...]
    """K_λ(f), bits per reference character."""
    left_out: Mapping[str, str]
    """Languages that do not count in means, and why."""

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON."""
        return {
            "file": self.file,
            "languages": list(self.languages),
            "reference": self.reference,
            "n_sentences": self.n_sentences,
            "parts": [one.as_dict() for one in self.parts],
            **_told("whole", self.whole),
            "left_out": dict(self.left_out),
        }


def _told(key: str, found: Sequence[Estimate], *, single: bool = False) -> dict[str, Any]:
    values: list[Any] = [one.value for one in found]
    ends: list[Any] = [[one.low, one.high] for one in found]
    return {key: values[0] if single else values, f"{key}_ci": ends[0] if single else ends}


def part_plans(file: Plan, parts: Sequence[Part]) -> list[Plan]:
    """Returns the plans of a file map: each part alone, the file without each part, the file.

    Args:
        file: The plan of the file.
        parts: Its parts.

    Raises:
        PlanError: If a part is one that the file leaves as it is.

    Example:
        >>> file = Plan.uniform("own:q:0123456789ab", 2)
        >>> part = Part(block=1, unit="v", stored="int4", parameters=8, n_bytes=4)
        >>> for plan in part_plans(file, [part]):
        ...     print(plan.text)
        fp units 1.v=own:q:0123456789ab
        own:q:0123456789ab units 1.v=fp
        own:q:0123456789ab
    """
    alone = [part.alone(file) for part in parts]
    for part, plan in zip(parts, alone, strict=True):
        if plan.is_full_precision:
            raise PlanError(f"the file leaves {part.label} as it is; leave that part out")
    return [*alone, *(part.without(file) for part in parts), file]


def make_file_map(scores: Scores, file: str, parts: Sequence[Part], *, seed: int = 0) -> FileMap:
    """Returns the map of a file from scored plans.

    Args:
        scores: Of :func:`part_plans`, in that order.
        file: The file's name.
        parts: Its parts.
        seed: Of the bootstrap draws.

    Example:
        >>> parts = [Part(block=i, unit="", stored="int4", parameters=8, n_bytes=4)
        ...          for i in range(3)]
        >>> plans = [SCORES.plans[mask] for mask in (6, 5, 3, 1, 2, 4, 0)]
        >>> found = make_file_map(SCORES.select(plans=plans), "q", parts)
        >>> [one.part.label for one in found.parts if one.relief.low > 0]
        ['L0', 'L1', 'L2']
        >>> [round(value.value, 2) for value in found.parts[0].harder]  # en, de, he
        [-0.2, -0.03, 0.23]
    """
    n, n_languages = len(parts), len(scores.languages)
    left_out = _left_out(scores, n)
    counted = np.array([code not in left_out for code in scores.languages])

    def statistic(weights: Floats) -> Floats:
        k = damage_bits(Sums(scores, weights))  # W x (2P + 1) x A
        alone, relief = k[:, :n], k[:, 2 * n :] - k[:, n : 2 * n]
        found = (
            _mean(alone, counted),
            _mean(relief, counted),
            alone,
            relief,
            _harder(alone, counted),
            k[:, 2 * n],
        )
        return np.concatenate([part.reshape(len(k), -1) for part in found], axis=1)

    found = iter(estimates(statistic, scores.units, unit=PER_TEXT, seed=seed, draws=DRAWS))

    def take(rows: int, columns: int, unit: str = PER_TEXT) -> list[tuple[Estimate, ...]]:
        return [tuple(replace(next(found), unit=unit) for _ in range(columns)) for _ in range(rows)]

    alone, relief = take(n, 1), take(n, 1)
    by_alone, by_relief = take(n, n_languages), take(n, n_languages)
    harder, (whole,) = take(n, n_languages, LOG_UNITS), take(1, n_languages)
    low = below_resolution(scores)
    return FileMap(
        file=file,
        languages=scores.languages,
        reference=scores.reference,
        n_sentences=scores.n_sentences,
        parts=tuple(
            PartDamage(
                part=part,
                alone=alone[p][0],
                relief=relief[p][0],
                alone_by_language=by_alone[p],
                relief_by_language=by_relief[p],
                harder=_gated(harder[p], scores.languages, left_out, low[p]),
            )
            for p, part in enumerate(parts)
        ),
        whole=whole,
        left_out=left_out,
    )


def _mean(values: Floats, counted: Bools) -> Floats:
    return values[..., counted].mean(-1) if counted.any() else values[..., 0] * np.nan


def _harder(alone: Floats, counted: Bools) -> Floats:
    """Returns log2 of each part's damage off the mean over parts, and that off languages' mean."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log2(np.where(alone > 0, alone, np.nan))
        # A part that does nothing measurable must not void those of all others.
        off = logs - np.nanmean(np.where(np.isfinite(logs), logs, np.nan), 1, keepdims=True)
        return off - _mean(off, counted)[..., None]


def _gated(
    harder: Sequence[Estimate], languages: Sequence[str], left_out: Mapping[str, str], low: Bools
) -> tuple[Estimate, ...]:
    why = "below resolution: its damage is under ten times the numerical floor"
    reasons = [left_out.get(code) or (why if below else "")
               for code, below in zip(languages, low, strict=True)]  # fmt: skip
    return tuple(void(e, r) if r else e for e, r in zip(harder, reasons, strict=True))


def _left_out(scores: Scores, n_parts: int) -> dict[str, str]:
    """Returns why a language does not count: it is gone, or no part can be told from noise."""
    gone, low = collapsed(scores), below_resolution(scores)
    found: dict[str, str] = {}
    for a, code in enumerate(scores.languages):
        if gone[-1, a]:
            found[code] = "collapsed under the file"
        elif low[:n_parts, a].all():
            found[code] = "below resolution under every part"
    return found
