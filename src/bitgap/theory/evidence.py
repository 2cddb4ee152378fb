"""What the theory knows of one model: plain arrays that all experiments' measurements leave.

Everything in :mod:`bitgap.theory` but the gathering works on this record alone, so it is computed
again without torch, and tests and the calibration make it from planted truths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bitgap.quant.sets import membership
from bitgap.records import Bools, Finding, Floats, Integers
from bitgap.stats.profiles import depths
from bitgap.theory.roles import Role, role_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One model's measurements; L blocks, A languages that count, P masks.

    A language counts if it is neither collapsed nor below resolution in any plan that is used here;
    the reference comes first. Damage is in bits per character of the reference.
    """

    model: str
    """Name for people, such as ``llama-12``."""
    family: str
    """``config.model_type``; checkpoints of one family are one unit."""
    fingerprint: str
    """Of the weights, as :class:`~bitgap.records.ModelInfo` has it."""
    scheme: str
    """How blocks are rounded: the model's operating point."""
    languages: tuple[str, ...]
    """The A that count, reference first."""
    t2: Floats
    """Relative squared error of each block's weights under the scheme, t_l², (L)."""
    log_variance: Floats
    """Gauge-fixed log mean square of each block's weights, (L)."""
    log_dimension: Floats
    """Natural log of the participation ratio at each block's output, (L)."""
    log_error_ratio: Floats
    """log2 e_{lλ}/e_{l,ref}: how much harder a block's rounding hits a language's own inputs at
    its linear layers; 0 for the reference, (L x A)."""
    sensitivity: Floats
    """α_{lλ}, the slope of damage on t² under Gaussian noise in one block, (L x A)."""
    single: Floats
    """k_{lλ}, damage with only block l rounded, (L x A)."""
    tokens: Integers
    """Scored tokens of each language on the sentences of :attr:`single`, (A)."""
    masks: Integers
    """Bit sets of protected blocks, ascending, (P); the empty set is among them."""
    damage: Floats
    """K_λ(S) of every mask, (P x A)."""
    mask_sensitivity: Floats | None = None
    """α_{lλ} on the masks' own sentences, where those are fewer; :attr:`sensitivity` when None."""
    mask_single: Floats | None = None
    """k_{lλ} likewise; :attr:`single` when None."""
    mask_tokens: Integers | None = None
    """Scored tokens of each language on the masks' sentences, (A); :attr:`tokens` when None."""
    sampled: Bools | None = None
    """Which masks stand for all others of their size, drawn at random, (P); the others were chosen
    for what they are. None where every mask was scored."""
    shapley: Mapping[str, Floats]
    """Shapley value of protecting each block, (L), by game: ``spread`` (−S), ``damage`` (−K), and
    what else the layer map has; NaN where a game has none."""
    original_predictors: Mapping[str, Floats]
    """The origin's, of a block's pooled raw weights, (L): ``variance``, ``outlier_ratio`` (share
    over 3 standard deviations), ``sparsity`` (share under a tenth of one)."""
    original_disparity: Floats
    """The origin's ratio with only block l protected, (L); NaN where it is undefined."""
    bits_per_byte: Mapping[str, float] = field(default_factory=dict[str, float])
    """Full-precision negative log-likelihood of the text by language."""
    left_out: Mapping[str, str] = field(default_factory=dict[str, str])
    """Why other languages do not count."""
    n_parameters: int | None = None
    """Distinct trained numbers of the model; None where that is not known."""
    mix: str | None = None
    """What it was trained on, such as ``text, half 1``; None where its folder does not say. Claims
    about languages have this as their unit."""
    corpus: str = ""
    """Name of the text it was measured on."""
    measured_from: str | None = None
    """When measuring began, UTC, ISO 8601; None where nothing says."""
    findings: Mapping[str, Finding] = field(default_factory=dict[str, Finding])
    """What each experiment found on this model, by hypothesis."""

    def __post_init__(self) -> None:
        n, a, p = len(self.t2), len(self.languages), len(self.masks)
        wanted = {
            "log_variance": (n,),
            "log_dimension": (n,),
            "log_error_ratio": (n, a),
            "sensitivity": (n, a),
            "single": (n, a),
            "tokens": (a,),
            "damage": (p, a),
            "original_disparity": (n,),
        }
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"Evidence.{name} is {getattr(self, name).shape}, not {shape}")

    @property
    def n_blocks(self) -> int:
        """L."""
        return len(self.t2)

    @property
    def role(self) -> Role:
        """Whether the model was seen before this version of the thresholds was declared."""
        return role_of(self.model, self.fingerprint)

    @property
    def depths(self) -> Floats:
        """Relative depth r of every block, (L)."""
        return depths(self.n_blocks)

    @property
    def log_ratio(self) -> Floats:
        """The theory's response y = log2 k_{lλ}/k_{l,ref} of the other languages, (L x A−1)."""
        return log_ratio(self.single)

    @property
    def spread(self) -> Floats:
        """S of every mask, the spread of log2 damage per token over languages, (P)."""
        tokens = self.tokens if self.mask_tokens is None else self.mask_tokens
        return spread_of(self.damage, tokens)

    @property
    def spread_by_block(self) -> Floats:
        """S with only block l rounded, (L)."""
        return spread_of(self.single, self.tokens)

    @property
    def disparity(self) -> Floats:
        """D of every mask, (P)."""
        return disparity_of(self.damage)

    @property
    def protects(self) -> Floats:
        """Which blocks each mask protects, (P x L) of 0 and 1."""
        return membership(self.masks, self.n_blocks)


def spread_of(damage: Floats, tokens: Integers | Floats) -> Floats:
    """Returns S = sd_λ log2(K_λ per token), population SD, (...), the reference included.

    What damage is divided by that all languages share, the reference's characters, cancels, so
    damage may be in any unit. NaN where some language is not damaged, and of one language.

    Args:
        damage: K_λ, (... x A).
        tokens: Of each language, (A).
    """
    if damage.shape[-1] < 2:
        return np.full(damage.shape[:-1], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log2(np.where(damage > 0, damage, np.nan)) - np.log2(tokens)
    return logs.std(-1)


def log_ratio(damage: Floats) -> Floats:
    """Returns log2 of each other language's damage over the reference's, (... x A−1)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log2(damage[..., 1:] / damage[..., :1])


def disparity_of(damage: Floats) -> Floats:
    """Returns D, the mean of :func:`log_ratio`, (...); NaN where nothing is damaged.

    It is NaN too where the reference is the only language.
    """
    ratio = log_ratio(damage)
    if not ratio.shape[-1]:
        return np.full(ratio.shape[:-1], np.nan)
    ratio = np.where(np.isfinite(ratio), ratio, np.nan)
    return ratio.mean(-1)


def families_of(evidence: Sequence[Evidence]) -> dict[str, list[Evidence]]:
    """Returns evidence by family, in the order of first appearance."""
    found: dict[str, list[Evidence]] = {}
    for one in evidence:
        found.setdefault(one.family, []).append(one)
    return found
