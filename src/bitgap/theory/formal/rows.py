"""What the formal model is fitted to: responses and predictors of every block, model by model.

Three responses, one value a block, each so turned that *larger means more critical*:

=========  =====================================================================================
response   what
=========  =====================================================================================
spread     S with only block l rounded: the spread over languages of log2 damage per token
shapley    φ_l, Shapley value of protecting block l in the game −S, where the layer map has one
original   −log2 of the origin's ratio with only block l protected
=========  =====================================================================================

**Signs.** The origin writes disparity ∝ exp(−α·variance − β·boundary − γ·bottleneck), and its
disparity of a block is the one that *remains* when that block alone is protected. A block whose
own rounding is unequal over languages leaves a more equal rest where it is protected. So a block
that the formula calls critical has a *large* S, and the origin's α, β, γ > 0 are *positive*
coefficients of S, of φ and of the negated log of its ratio alike.

**Units.** Variance, bottleneck and B are z-scores within the model, as their level is the model's
own. The boundary is left 0 or 1, centred: its coefficient is a jump in S at the ends, which does
not depend on how many blocks there are. Position is r and r², centred. Responses are centred within
the model, which is (1|model) as fixed effects.

**Gates.** A model says something here with at least the declared number of blocks and languages:
on few blocks position and any three smooth predictors are the same thing, and a spread over few
languages is mostly their own noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bitgap.records import Bools, Floats
from bitgap.theory.evidence import Evidence, families_of, spread_of

Response = Literal["spread", "shapley", "original"]

ORIGINAL_TERMS = ("variance", "boundary", "bottleneck")
"""The origin's α, β and γ."""
LADDER: Mapping[str, tuple[str, ...]] = {
    "F1": ("depth", "depth2"),
    "F2": ("variance",),
    "F3": ORIGINAL_TERMS,
    "F3 curved": ("variance", "curved_boundary", "bottleneck"),
    "F4": (*ORIGINAL_TERMS, "error_ratio"),
}
"""Terms of each fitted rung; F0 has none and F5 draws its own."""
LEAST_BLOCKS = 6
"""Blocks whose response must be defined: three slopes and a mean, with some to spare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What a model must have to speak on the formal model."""

    blocks: int = LEAST_BLOCKS
    languages: int = 2
    """That count, the reference included."""


OPEN = Gates()
"""What any fit takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRows:
    """One model's blocks that count, L of them; one column of response, or more of synthetic ones.

    Attributes:
        model: Its name.
        r: Relative depth, (L).
        predictors: By term, centred, (L).
        response: Centred by column, (L x A).
        forecast: What the second-order budget says of the response, centred likewise, (L x A);
            None where it says nothing.
        halves: The response of each of two halves of the languages, (2 x L x A); None where it has
            none.
    """

    model: str
    r: Floats
    predictors: Mapping[str, Floats]
    response: Floats
    forecast: Floats | None
    halves: Floats | None = None

    @property
    def profile(self) -> Floats:
        """Mean response over languages, (L)."""
        return self.response.mean(1)

    def design(self, terms: Sequence[str]) -> Floats:
        """Returns predictors side by side, (L x K)."""
        return np.stack([self.predictors[term] for term in terms], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRows:
    """The models of one family, which together count as one."""

    family: str
    models: tuple[ModelRows, ...]


def gather_rows(
    evidence: Sequence[Evidence], response: Response = "spread", gates: Gates = OPEN
) -> tuple[list[FamilyRows], dict[str, str]]:
    """Returns rows by family, and why models have none.

    Args:
        evidence: Any number of models.
        response: Which response.
        gates: What a model must have.
    """
    out, left_out = list[FamilyRows](), dict[str, str]()
    for family, members in families_of(evidence).items():
        made = list[ModelRows]()
        for one in members:
            found = model_rows(one, response, gates)
            if isinstance(found, str):
                left_out[one.model] = found
            else:
                made.append(found)
        if made:
            out.append(FamilyRows(family=family, models=tuple(made)))
    return out, left_out


def model_rows(evidence: Evidence, response: Response, gates: Gates = OPEN) -> ModelRows | str:
    """Returns one model's rows, or why it has none."""
    if evidence.n_blocks < gates.blocks:
        return f"it has {evidence.n_blocks} blocks; {gates.blocks} are needed"
    if len(evidence.languages) < gates.languages:
        return f"{len(evidence.languages)} languages count in it; {gates.languages} are needed"
    values = _response(evidence, response)
    if values is None:
        return f"it has no response {response!r}"
    blocks: Bools = np.asarray(np.isfinite(values))
    if blocks.sum() < gates.blocks:
        return f"the response is defined at {blocks.sum()} of {len(blocks)} blocks"
    raw = _predictors(evidence, blocks)
    if odd := [term for term in ORIGINAL_TERMS if not np.isfinite(raw[term]).all()]:
        return f"{', '.join(odd)} is undefined at some block"
    centred = _centre(values[blocks][:, None])
    if not np.abs(centred).max() > 1e-12:
        return "the response is the same at every block"
    forecast = halves = None
    if response == "spread":
        forecast, halves = _forecast(evidence)[blocks], _halves(evidence)[:, blocks]
    return ModelRows(
        model=evidence.model,
        r=evidence.depths[blocks],
        predictors=raw,
        response=centred,
        forecast=_centred_column(forecast),
        halves=None if halves is None or not np.isfinite(halves).all()
        else np.stack([_centre(half[:, None]) for half in halves]),
    )  # fmt: skip


def _centred_column(values: Floats | None) -> Floats | None:
    if values is None or not np.isfinite(values).all():
        return None
    return _centre(values[:, None])


def _response(evidence: Evidence, response: Response) -> Floats | None:
    if response == "spread":
        return evidence.spread_by_block
    if response == "shapley":
        return evidence.shapley.get("spread")
    ratio = evidence.original_disparity
    with np.errstate(divide="ignore", invalid="ignore"):
        return -np.log2(np.where(ratio > 0, ratio, np.nan))


def _forecast(evidence: Evidence) -> Floats:
    """Returns S of each block as sensitivities have it: of α_{lλ} t_l², t_l² cancels."""
    return spread_of(evidence.sensitivity * evidence.t2[:, None], evidence.tokens)


def _halves(evidence: Evidence) -> Floats:
    """Returns S of each block over every other language, and over those in between, (2 x L)."""
    return np.stack([spread_of(evidence.single[:, i::2], evidence.tokens[i::2]) for i in range(2)])


def _predictors(evidence: Evidence, blocks: Bools) -> dict[str, Floats]:
    r = evidence.depths
    ends = np.isin(np.arange(evidence.n_blocks), (0, evidence.n_blocks - 1)).astype(np.float64)
    local = evidence.log_error_ratio[:, 1:]
    return {
        "depth": _centre(r[blocks]),
        "depth2": _centre(r[blocks] ** 2),
        "variance": standardise(evidence.log_variance[blocks]),
        "boundary": _centre(ends[blocks]),
        "curved_boundary": _centre((2 * r[blocks] - 1) ** 2),
        "bottleneck": -standardise(evidence.log_dimension[blocks]),
        "error_ratio": _mean_standardised(local[blocks]),
    }


def _mean_standardised(values: Floats) -> Floats:
    return standardise(values.mean(1)) if values.size else np.full(len(values), np.nan)


def _centre(values: Floats) -> Floats:
    return values - values.mean(0)


def standardise(values: Floats) -> Floats:
    """Returns z-scores over the last axis; 0 where nothing varies."""
    centred = values - values.mean(-1, keepdims=True)
    spread = values.std(-1, keepdims=True)
    floor = 1e-12 * np.maximum(np.abs(values).max(-1, keepdims=True), 1e-300)
    return centred / np.where(spread > floor, spread, np.inf)


def without_block(families: Sequence[FamilyRows], block: int) -> list[FamilyRows]:
    """Returns rows with one block left out of every model, everything centred anew.

    Args:
        families: Any number.
        block: Its place among the rows; −1 is the last.
    """

    def one(model: ModelRows) -> ModelRows:
        kept = np.delete(np.arange(len(model.r)), block)
        return ModelRows(
            model=model.model,
            r=model.r[kept],
            predictors={name: _centre(values[kept]) for name, values in model.predictors.items()},
            response=_centre(model.response[kept]),
            forecast=None,
        )

    return [FamilyRows(family=f.family, models=tuple(map(one, f.models))) for f in families]


WAVES = 4
"""Half waves over the depth that a random smooth feature is made of."""


def smooth_features(r: Floats, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Returns random smooth functions of depth, standardised, (*shape x L).

    Sums of the first half waves over the depth, with random phase and amplitudes that fall as 1/k:
    what any nuisance that changes slowly from block to block may look like.
    """
    k = np.arange(1, WAVES + 1)
    size = rng.normal(size=(*shape, WAVES, 1)) / k[:, None]
    phase = rng.uniform(0, 2 * np.pi, (*shape, WAVES, 1))
    return standardise((size * np.cos(np.pi * k[:, None] * r + phase)).sum(-2))
