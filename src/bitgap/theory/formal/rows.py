"""What the formal model is fitted to: responses and predictors of every block, model by model.

Three responses, each so turned that *larger means more critical*:

=========  ===========================================================  =======================
response   what                                                         rows
=========  ===========================================================  =======================
ratio      y = log2 k_{lλ}/k_{l,ref}, only block l rounded              block x other language
shapley    φ_l, Shapley value of protecting block l in the game −|D|    block
original   −log2 of the origin's ratio with only block l protected      block
=========  ===========================================================  =======================

**Signs.** The origin writes disparity ∝ exp(−α·variance − β·boundary − γ·bottleneck), and its
disparity of a block is the one that *remains* when that block alone is protected. Where damage adds
up, protecting l lowers D exactly if y_l lies above the ratio of the blocks that stay rounded. So a
block that the formula calls critical has a *large* y, and the origin's α, β, γ > 0 are *positive*
coefficients of y, of φ and of the negated log of its ratio alike.

**Units.** Variance, bottleneck and B are z-scores within the model, as their level is the model's
own. The boundary is left 0 or 1, centred: its coefficient is a jump in log2 at the ends, which
does not depend on how many blocks there are. Position is r and r², centred. Responses are centred
by language within the model, which is (1|language) as fixed effects: predictors do not depend on
the language, so slopes are those of the mean profile and only R² sees the languages' own noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bitgap.records import Bools, Floats
from bitgap.theory.evidence import Evidence, families_of, log_ratio

Response = Literal["ratio", "shapley", "original"]

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
"""Blocks a model must have: three slopes and a mean, with some to spare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRows:
    """One model's blocks that count, L of them; A columns of response.

    Attributes:
        model: Its name.
        r: Relative depth, (L).
        predictors: By term, centred, (L).
        response: Centred by column, (L x A).
        forecast: What the second-order budget says of the response, centred likewise, (L x A);
            None where it says nothing.
    """

    model: str
    r: Floats
    predictors: Mapping[str, Floats]
    response: Floats
    forecast: Floats | None

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
    evidence: Sequence[Evidence], response: Response = "ratio"
) -> tuple[list[FamilyRows], dict[str, str]]:
    """Returns rows by family, and why models have none.

    Args:
        evidence: Any number of models.
        response: Which response.
    """
    out, left_out = list[FamilyRows](), dict[str, str]()
    for family, members in families_of(evidence).items():
        made = list[ModelRows]()
        for one in members:
            found = model_rows(one, response)
            if isinstance(found, str):
                left_out[one.model] = found
            else:
                made.append(found)
        if made:
            out.append(FamilyRows(family=family, models=tuple(made)))
    return out, left_out


def model_rows(evidence: Evidence, response: Response) -> ModelRows | str:
    """Returns one model's rows, or why it has none."""
    values = _response(evidence, response)
    if values is None:
        return f"it has no response {response!r}"
    # A block at which no language has a number goes; then a language that lacks some block.
    blocks: Bools = np.asarray(np.isfinite(values).any(1))
    languages = np.isfinite(values[blocks]).all(0)
    if blocks.sum() < LEAST_BLOCKS or not languages.any():
        return f"the response is defined at {blocks.sum()} of {len(blocks)} blocks"
    raw = _predictors(evidence, blocks)
    if odd := [term for term in ORIGINAL_TERMS if not np.isfinite(raw[term]).all()]:
        return f"{', '.join(odd)} is undefined at some block"
    centred = _centre(values[blocks][:, languages])
    if not centred.any():
        return "the response is the same at every block"
    forecast = _forecast(evidence)[blocks][:, languages] if response == "ratio" else None
    if forecast is not None and not np.isfinite(forecast).all():
        forecast = None
    return ModelRows(
        model=evidence.model,
        r=evidence.depths[blocks],
        predictors=raw,
        response=centred,
        forecast=None if forecast is None else _centre(forecast),
    )


def _response(evidence: Evidence, response: Response) -> Floats | None:
    if response == "ratio":
        y = evidence.log_ratio
        return np.where(np.isfinite(y), y, np.nan) if y.shape[1] else None
    if response == "shapley":
        values = evidence.shapley.get("disparity")
        return None if values is None else values[:, None]
    ratio = evidence.original_disparity
    return -np.log2(np.where(ratio > 0, ratio, np.nan))[:, None]


def _forecast(evidence: Evidence) -> Floats:
    return log_ratio(np.where(evidence.sensitivity > 0, evidence.sensitivity, np.nan))


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
