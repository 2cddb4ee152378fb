"""What ``disparity`` returns: one language's damage, one plan's report, two plans compared.

Every measured number that carries sampling error is an :class:`~bitgap.records.Estimate`. The
``as_dict`` forms hold only what JSON knows: an estimate ``x`` becomes ``x`` (a number or null),
``x_ci`` ([low, high] or null) and ``x_reason`` (why something is missing, or a caveat; else null).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from bitgap.records import Arithmetic, Estimate

Claim = Literal["falls", "rises", "inconclusive"]
NOT_FORMED = Estimate(
    value=None,
    unit="log2 units",
    reason="not formed by the bitgap that stored this run; run it again",
)
"""What a record that was stored before 2026-11-30 has where S stands now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageDamage:
    """What one plan did to one language, on all the text that was scored."""

    language: str
    """Code."""
    tokens: int
    """Scored tokens, summed over the sentences."""
    bytes: int
    """UTF-8 bytes, summed over the sentences."""
    characters: int
    """Code points, summed over the sentences."""
    nll_fp_bits: float | None
    """N^fp: bits of the text in full precision; None where not finite, as below."""
    nll_q_bits: float | None
    """N^q: bits of the text under the plan."""
    unigram_bits: float | None
    """Bits of the text under add-one unigrams counted on other text, or on its other sentences
    where there is none; N^q must be less."""
    kl_bits: float | None
    """Σ KL from full precision to the plan, in bits, over all tokens."""
    collapsed: bool
    """Whether the plan does no better than add-one unigrams here."""
    below_resolution: bool
    """Whether K per token is under ten times the numerical floor."""
    left_out: str | None
    """Why the language is neither in S nor in D; None where it is."""
    damage: Estimate
    """K, bits per reference character."""
    damage_per_token: Estimate
    """KL per token of the language, bits."""
    damage_per_byte: Estimate
    """KL per byte of the language, bits."""
    damage_per_character: Estimate
    """KL per character of the language, bits."""
    damage_fraction: Estimate
    """K/N^fp: damage per bit of text in full precision."""
    delta: Estimate
    """Δ, harm on the real text, bits per reference character, signed."""
    log_ratio: Estimate
    """log2(K_λ/K_ref)."""
    log_ratio_per_token: Estimate
    """First part of log_ratio: log2 of the ratio of KL per token."""
    log_token_premium: Estimate
    """Second part of log_ratio: log2 of the ratio of tokens for the same sentences."""
    token_premium: Estimate
    """Tokens over the reference's for the same sentences."""
    tokens_per_character: Estimate
    """Fertility."""
    tokens_per_sentence: Estimate
    """Mean length of a sentence in tokens."""
    learned: Estimate
    """M, what the model knows beyond word frequencies, bits per reference character."""
    learned_share: Estimate
    """K/M, damage as a share of what was learned."""
    log_share_ratio: Estimate
    """log2 of K/M over the reference's."""
    perplexity_increase: Estimate
    """Relative increase of perplexity per token, the origin's measure; 0 is no change."""
    log_from_mean: Estimate = NOT_FORMED
    """log2 of KL per token off the mean of the languages that count: above 0 it loses more."""

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values; the interval of ``damage`` is called ``ci``."""
        flat = _flat_fields(self)
        return {"ci" if name == "damage_ci" else name: value for name, value in flat.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class DisparityReport:
    """All that method.md asks to be said of one plan."""

    plan: str
    """Canonical text."""
    reference: str
    """Code of the language the others are compared with."""
    arithmetic: Arithmetic
    n_sentences: int
    """Aligned sentences; they, or their documents where known, are resampled."""
    reference_characters: int
    """U, what damage is divided by."""
    floor_bits: float
    """Numerical floor in bits per token."""
    languages: tuple[LanguageDamage, ...]
    """In the order of the scores."""
    disparity: Estimate
    """D, mean over other languages of log2(K_λ/K_ref)."""
    disparity_per_token: Estimate
    """First part of D: the same of KL per token."""
    token_premium: Estimate
    """Second part of D: mean log2 token premium of the same languages. The parts add up to D."""
    disparity_per_byte: Estimate
    """D of KL per byte of each language's own."""
    disparity_per_character: Estimate
    """D of KL per character of each language's own."""
    gap: Estimate
    """G, mean over all other languages of Δ_λ − Δ_ref."""
    harm_mean: Estimate
    """H, mean of Δ over all languages."""
    harm_max: Estimate
    """H, largest Δ of all languages."""
    share_disparity: Estimate
    """D_share, mean over other languages of log2 of K/M over the reference's."""
    original_disparity: Estimate = field(metadata={"formerly": "seed_disparity"})
    """D_original, the origin's measure, over the languages that did not collapse."""
    share_agrees: bool | None
    """Whether D and D_share have one sign; None where one is missing or 0."""
    nothing_to_explain: bool | None
    """Existence gate: whether the interval of S reaches 0, so that languages may be damaged alike;
    None where S has no interval."""
    left_out: Mapping[str, str]
    """Languages that are neither in S nor in D, with the reason."""
    caveats: tuple[str, ...]
    """Sentences to print beside the numbers."""
    unigram_tokens: int | None = None
    """Tokens of other text that unigrams rest on, in the language that has fewest; 0 where one has
    none, None where not known, as in what was stored before 2026-11-30."""
    spread: Estimate = NOT_FORMED
    """S, standard deviation over languages of log2 damage per token: the gap of the plan."""
    spread_per_text: Estimate = NOT_FORMED
    """The same of log2 damage for the same text: what users bear, more tokens included."""
    mean_absolute_log_ratio: Estimate = NOT_FORMED
    """Mean over other languages of |log2(K_λ/K_ref)| per token; described."""

    @property
    def sign_depends_on_unit(self) -> bool | None:
        """Whether D per text and D per token differ in sign, so that its sign is not established.

        None where one is missing or 0.
        """
        text, token = self.disparity.value, self.disparity_per_token.value
        return (text > 0) != (token > 0) if text and token else None

    def language(self, code: str) -> LanguageDamage:
        """Returns one language's damage.

        Raises:
            KeyError: If the language was not scored.
        """
        return {entry.language: entry for entry in self.languages}[code]

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values under the method's names: S, D, G, H, D_original, D_share."""
        named = {
            **estimate_json("S", self.spread),
            **estimate_json("S_per_text", self.spread_per_text),
            **estimate_json("mean_absolute_log_ratio", self.mean_absolute_log_ratio),
            **estimate_json("D", self.disparity),
            **estimate_json("D_per_token", self.disparity_per_token),
            **estimate_json("G", self.gap),
            "H": {**estimate_json("mean", self.harm_mean), **estimate_json("max", self.harm_max)},
            **estimate_json("D_original", self.original_disparity),
            **estimate_json("D_share", self.share_disparity),
            "decomposition": {
                **estimate_json("kl_per_token", self.disparity_per_token),
                **estimate_json("token_premium", self.token_premium),
            },
            **estimate_json("D_per_byte", self.disparity_per_byte),
            **estimate_json("D_per_character", self.disparity_per_character),
        }
        plain = {
            name: getattr(self, name)
            for name in (
                *("plan", "reference", "arithmetic", "n_sentences", "reference_characters"),
                *("floor_bits", "share_agrees", "sign_depends_on_unit", "nothing_to_explain"),
                "unigram_tokens",
            )
        }
        return {
            **plain,
            **named,
            "level": self.harm_mean.level,
            "method": self.harm_mean.method,
            "units": self._units(),
            "left_out": dict(self.left_out),
            "caveats": list(self.caveats),
            "languages": {entry.language: entry.as_dict() for entry in self.languages},
        }

    def _units(self) -> dict[str, str]:
        per_language = {name: value.unit for name, value in _estimates(self.languages[0]).items()}
        summary = {"S": self.spread, "D": self.disparity, "G": self.gap, "H": self.harm_mean}
        further = {"D_original": self.original_disparity, "D_share": self.share_disparity}
        return {
            **per_language,
            **{name: estimate.unit for name, estimate in (summary | further).items()},
            "floor_bits": "bits per token",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What changes from one plan to another, on the same sentences (paired); b minus a."""

    plan_a: str
    """Plan one comes from."""
    plan_b: str
    """Plan one goes to."""
    reference: str
    languages: tuple[str, ...]
    """The languages, reference included, that S, D and G are formed over: usable under both."""
    left_out: Mapping[str, str]
    """The others, with the reason."""
    spread_change: Estimate
    """Change of S, the spread of log2 damage per token: what the claim is of."""
    spread_per_text_change: Estimate
    """Change of the same per text; where it has another sign nothing is established."""
    disparity_change: Estimate
    """Change of D, log2 ratio; described."""
    disparity_per_token_change: Estimate
    """Change of D per token; described."""
    gap_change: Estimate
    """Change of G over the same languages, bits per reference character."""
    reference_damage_change: Estimate
    """Change of K of the reference, bits per reference character."""
    harm_mean_change: Estimate
    """Change of the mean of Δ over languages that collapse under neither plan."""
    harm_max_change: Estimate
    """Change of the largest Δ over the same languages."""
    log_damage_change: Mapping[str, Estimate]
    """Change of log2 K within each language used; free of any comparison between languages."""
    claim: Claim
    """What may be said of S: its interval excludes 0, and it changes alike per token and text."""
    claim_reason: str
    """The clause that decided."""
    better: bool
    """Whether b is better: S falls, and neither K of the reference nor H rises."""
    failed: tuple[str, ...]
    """Every clause of ``better`` that does not hold, in words."""

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values."""
        out = _flat_fields(self)
        changes = self.log_damage_change.items()
        out["log_damage_change"] = {
            code: estimate_json("value", change) for code, change in changes
        }
        out["left_out"] = dict(self.left_out)
        return out | {name: list(getattr(self, name)) for name in ("languages", "failed")}


def estimate_json(name: str, estimate: Estimate) -> dict[str, Any]:
    """Returns an estimate under a name, its interval and why there is none beside it.

    Example:
        >>> estimate_json("K", Estimate(value=None, unit="bits", reason="no sentences"))
        {'K': None, 'K_ci': None, 'K_reason': 'no sentences'}
    """
    known = estimate.low is not None and estimate.high is not None
    interval = [estimate.low, estimate.high] if known else None
    return {name: estimate.value, f"{name}_ci": interval, f"{name}_reason": estimate.reason}


def _flat_fields(record: LanguageDamage | Comparison) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for one in fields(record):
        value = getattr(record, one.name)
        out |= estimate_json(one.name, value) if isinstance(value, Estimate) else {one.name: value}
    return out


def _estimates(record: LanguageDamage) -> dict[str, Estimate]:
    values = {one.name: getattr(record, one.name) for one in fields(record)}
    return {name: value for name, value in values.items() if isinstance(value, Estimate)}
