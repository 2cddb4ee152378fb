"""Damage, disparity, gap and harm: one formula each, for one plan or thousands, whole or resampled.

Every quantity is a function of sums over sentences. :class:`Sums` forms them once, plain or under a
matrix of bootstrap weights, and each formula below takes :class:`~bitgap.records.Scores` or
:class:`Sums`; so a point estimate and its bootstrap draws come from the same line of code.

Shapes: P plans, A languages, N sentences, W weightings. ``...`` is nothing for plain sums and W for
resampled ones. Quantities that no plan can change have 1 in the place of P. These arrays, unlike
records, mark what is undefined by NaN, and say when.

==========  =====================================================  ===========================
K_λ         Σ KL(p_fp ‖ p_q) / (U ln 2)                            damage, bits per character
S           sd_λ log2(K_λ per token)                               gap of a plan, judged
D           mean_{λ≠ref} log2(K_λ / K_ref)                         signed disparity, described
Δ_λ         (N_λ^q − N_λ^fp) / U                                   harm on real text, signed
G           mean_{λ≠ref} (Δ_λ − Δ_ref)                             co-primary gap
H           mean_λ Δ_λ and max_λ Δ_λ                               guard against levelling down
D_original  mean_{λ≠ref} of relative perplexity increases' ratio   the origin's measure
M_λ         (unigram_λ − N_λ^fp) / U                               what the model had learned;
                                                                   of large unigrams only
==========  =====================================================  ===========================

U is the number of characters of the *reference* language's sentences, the same for every language
(bits per English character; Cotterell et al. 2018, Mielke et al. 2019). Pure numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from bitgap.records import Bools, Floats, Integers, Scores
from bitgap.stats.spreads import inverted_spread
from bitgap.stats.verdicts import load_thresholds

Per = Literal["text", "token", "byte", "character"]
# A damage under this many times the numerical floor is below resolution (method, section 1).
RESOLUTION = 10.0
_BITS = 1 / math.log(2)
# Types of the bundled models, for which the declared number of tokens was found.
_DECLARED_TYPES = 8192
# Draws x plans x languages that one slice of a resampling holds: 8 MB an array, where 4096 plans at
# once would need a gigabyte.
_SLICE = 1_000_000


@dataclass(frozen=True)
class Sums:
    """Scores summed over sentences, in bits, once each and only when asked for."""

    scores: Scores
    weights: Floats | None = None
    """How often each sentence counts, (W x N); once each when None."""

    @cached_property
    def kl_bits(self) -> Floats:
        """Σ KL, (... x P x A)."""
        return self._sum(self.scores.kl_nats, _BITS)

    @cached_property
    def nll_bits(self) -> Floats:
        """Bits of the text under each plan, N^q, (... x P x A)."""
        return self._sum(self.scores.nll_nats, _BITS)

    @cached_property
    def nll_fp_bits(self) -> Floats:
        """Bits of the text in full precision, N^fp, (... x 1 x A)."""
        return self._sum(self.scores.nll_fp_nats[None], _BITS)

    @cached_property
    def unigram_bits(self) -> Floats:
        """Bits of the text under add-one unigrams, (... x 1 x A); see :func:`unigrams_known`."""
        return self._sum(self.scores.unigram_nats[None], _BITS)

    @cached_property
    def tokens(self) -> Floats:
        """Scored tokens, (... x 1 x A)."""
        return self._sum(self.scores.counts.tokens[None])

    @cached_property
    def bytes(self) -> Floats:
        """UTF-8 bytes, (... x 1 x A)."""
        return self._sum(self.scores.counts.bytes[None])

    @cached_property
    def characters(self) -> Floats:
        """Code points, (... x 1 x A)."""
        return self._sum(self.scores.counts.characters[None])

    @cached_property
    def sentences(self) -> Floats:
        """Sentences, counted as often as they were drawn, (... x 1 x 1)."""
        return self._sum(np.ones((1, 1, self.scores.n_sentences)))

    @property
    def reference(self) -> int:
        """Row of the reference language."""
        return self.scores.languages.index(self.scores.reference)

    @property
    def length(self) -> Floats:
        """U, characters of the reference's sentences, (... x 1 x 1)."""
        return self.against(self.characters)

    def against(self, values: Floats) -> Floats:
        """Returns the reference's column of some values, (... x P x 1)."""
        return values[..., self.reference : self.reference + 1]

    def length_in(self, unit: Per) -> Floats:
        """Returns what damage is divided by: U, or a language's own tokens, bytes, characters."""
        if unit == "text":
            return self.length
        return {"token": self.tokens, "byte": self.bytes, "character": self.characters}[unit]

    def _sum(self, per_sentence: Floats | Integers, unit: float = 1.0) -> Floats:
        flat = per_sentence.reshape(-1, per_sentence.shape[-1]).astype(np.float64, copy=False)
        if self.weights is None:
            return (flat @ np.full(flat.shape[1], unit)).reshape(per_sentence.shape[:-1])
        summed = (self.weights * unit) @ flat.T
        return summed.reshape(len(self.weights), *per_sentence.shape[:-1])


def damage_bits(of: Scores | Sums, per: Per = "text") -> Floats:
    """Returns the damage K_λ, (... x P x A), never below 0 by more than the numerical floor.

    Args:
        of: Scores or their sums.
        per: What it is divided by: ``text``, the reference's characters, so that languages compare
            by meaning (the definition of K); or the language's own tokens, bytes or characters.

    Example:
        >>> damage_bits(SCORES)[0].round(4)
        array([0.0207, 0.0443, 0.0956])
    """
    sums = _sums(of)
    return _ratio(sums.kl_bits, sums.length_in(per))


def delta_bits(of: Scores | Sums) -> Floats:
    """Returns the harm on real text Δ_λ in bits per reference character, (... x P x A), signed.

    Example:
        >>> delta_bits(SCORES)[0].round(4)
        array([0.0228, 0.0487, 0.1051])
    """
    sums = _sums(of)
    return _ratio(sums.nll_bits - sums.nll_fp_bits, sums.length)


def log_damage(of: Scores | Sums, per: Per = "text") -> Floats:
    """Returns log2 K_λ, (... x P x A); NaN where K is not above 0.

    Example:
        >>> log_damage(SCORES)[0].round(3)
        array([-5.592, -4.497, -3.387])
    """
    return _log2(damage_bits(of, per))


def log_ratio(of: Scores | Sums, per: Per = "text") -> Floats:
    """Returns log2(K_λ/K_ref), (... x P x A), 0 for the reference; NaN where a K is not above 0.

    ``log_ratio(of) == log_ratio(of, "token") + log_token_premium(of)`` exactly: what happens to a
    token, and how many tokens the language needs to say the same.

    Example:
        >>> log_ratio(SCORES)[0].round(3)
        array([0.   , 1.095, 2.204])
    """
    sums = _sums(of)
    logs = log_damage(sums, per)
    return logs - sums.against(logs)


def log_token_premium(of: Scores | Sums) -> Floats:
    """Returns log2 of tokens over the reference's for the same sentences, (... x 1 x A).

    The premium is that of Petrov et al. 2023; NaN for a language without tokens.

    Example:
        >>> log_token_premium(SCORES)[0].round(3)
        array([0.  , 0.63, 0.97])
        >>> log_ratio(SCORES, "token")[0].round(3)
        array([0.   , 0.464, 1.234])
    """
    sums = _sums(of)
    logs = _log2(sums.tokens)
    return logs - sums.against(logs)


def token_premium(of: Scores | Sums) -> Floats:
    """Returns tokens over the reference's for the same sentences, (... x 1 x A).

    Example:
        >>> token_premium(SCORES)[0].round(3)
        array([1.   , 1.548, 1.959])
    """
    sums = _sums(of)
    return _ratio(sums.tokens, sums.against(sums.tokens))


def spread(of: Scores | Sums, *, per: Per = "token", languages: Bools | None = None) -> Floats:
    """Returns S, the spread of log2 damage over languages, (... x P): the gap of a plan.

    The standard deviation of log2 K_λ over the languages that count, the reference one among them
    (over these very languages, so divided by their number). No language is compared with another,
    so languages cannot cancel; 0 where a plan damages all alike.

        S = sd over λ of log2(K_λ / tokens_λ)

    Args:
        of: Scores or their sums.
        per: ``token``, in which S is judged, or ``text``, what users bear; as in
            :func:`damage_bits`.
        languages: Which languages count, (P x A) or (A); :func:`usable` ones when None, judged by
            the whole text also where the sums are resampled.

    Returns:
        S in log2 units; NaN where fewer than two languages count.

    Example:
        >>> spread(SCORES)[:2].round(3)
        array([0.509, 0.377])
        >>> float(log_damage(SCORES, "token")[0].std().round(3))
        0.509
    """
    sums = _sums(of)
    mask = usable(sums) if languages is None else languages
    return _over_languages(log_damage(sums, per), mask, lambda away: away**2) ** 0.5


def spread_draws(of: Sums, *, per: Per = "token", languages: Bools | None = None) -> Floats:
    """Returns what S would have to be for each weighting to give the S of the text, (W x P).

    Noise enlarges S and resampling enlarges it again; quantiles of these draws are an interval that
    allows for both, see :mod:`bitgap.stats.spreads`. Under equal weights this is S itself, so that
    it serves where a formula and its draws are asked for. Arguments as :func:`spread`.

    Example:
        >>> drawn = spread_draws(Sums(SCORES, np.ones((1, 8))))[0, :2]
        >>> bool(np.allclose(drawn, spread(SCORES)[:2]))
        True
    """
    plain = Sums(of.scores)
    mask = np.broadcast_to(
        usable(plain) if languages is None else languages,
        (len(of.scores.plans), len(of.scores.languages)),
    )
    seen, drawn = (log_from_mean(one, per=per, languages=mask) for one in (plain, of))
    # A language that counts and has no value makes a draw undefined; one that does not count is 0.
    found = inverted_spread(
        np.where(mask, seen, 0.0), np.where(mask, drawn, 0.0), mask.sum(-1).astype(np.int64)
    )
    return np.where(mask.sum(-1) > 1, found, np.nan)


def log_from_mean(
    of: Scores | Sums, *, per: Per = "token", languages: Bools | None = None
) -> Floats:
    """Returns log2 K_λ off the mean of log2 K over the languages that count, (... x P x A).

    Who is above, who is below: S is the root of the mean of their squares. Arguments as
    :func:`spread`; NaN for a language that does not count, and where fewer than two do.

    Example:
        >>> log_from_mean(SCORES)[0].round(3)
        array([-0.566, -0.102,  0.668])
        >>> float((log_from_mean(SCORES)[0] ** 2).mean().round(3)) == round(0.509**2, 3)
        True
    """
    sums = _sums(of)
    mask = usable(sums) if languages is None else languages
    logs = log_damage(sums, per)
    n = mask.sum(-1)[..., None]
    mean = np.where(mask, logs, 0.0).sum(-1, keepdims=True) / np.maximum(n, 1)
    return np.where(mask & (n > 1), logs - mean, np.nan)


def mean_absolute_log_ratio(
    of: Scores | Sums, *, per: Per = "token", languages: Bools | None = None
) -> Floats:
    """Returns the mean of |log2(K_λ/K_ref)| over the other languages, (... x P).

    As D, but languages cannot cancel; described beside S and not judged. Arguments as
    :func:`spread`.

    Example:
        >>> mean_absolute_log_ratio(SCORES)[:2].round(3)
        array([0.849, 0.62 ])
    """
    sums = _sums(of)
    mask = usable(sums) if languages is None else languages
    return _mean_of_others(sums, np.abs(log_ratio(sums, per)), mask)


def premium_disparity(of: Scores | Sums, *, languages: Bools | None = None) -> Floats:
    """Returns the mean log2 token premium of the languages that count in D, (... x P).

    D is :func:`disparity` per token plus this. ``languages`` as there.

    Example:
        >>> float((premium_disparity(SCORES)[0] + disparity(SCORES, per="token")[0]).round(3))
        1.649
    """
    sums = _sums(of)
    mask = usable(sums) if languages is None else languages
    return _mean_of_others(sums, log_token_premium(sums), mask)


def tokens_per_character(of: Scores | Sums) -> Floats:
    """Returns the fertility: tokens per character of the language itself, (... x 1 x A).

    Example:
        >>> tokens_per_character(SCORES)[0]
        array([0.2, 0.2, 0.2])
    """
    sums = _sums(of)
    return _ratio(sums.tokens, sums.characters)


def tokens_per_sentence(of: Scores | Sums) -> Floats:
    """Returns the mean number of tokens in a sentence, (... x 1 x A).

    Example:
        >>> tokens_per_sentence(SCORES)[0]
        array([ 9.125, 14.125, 17.875])
    """
    sums = _sums(of)
    return sums.tokens / sums.sentences


def disparity(of: Scores | Sums, *, per: Per = "text", languages: Bools | None = None) -> Floats:
    """Returns D, the mean of log2(K_λ/K_ref) over the other languages, (... x P).

    Args:
        of: Scores or their sums.
        per: As in :func:`damage_bits`.
        languages: Which languages count, (P x A) or (A); :func:`usable` ones when None, judged by
            the whole text also where the sums are resampled.

    Returns:
        D in log2 ratio; NaN where the reference or every other language does not count.

    Example:
        >>> disparity(SCORES).round(3)
        array([1.649, 1.42 , 1.723, 1.496, 1.711, 1.288, 1.844,   nan])
        >>> float(log_ratio(SCORES)[0, 1:].mean().round(3))
        1.649
    """
    sums = _sums(of)
    mask = usable(sums) if languages is None else languages
    return _mean_of_others(sums, log_ratio(sums, per), mask)


def gap(of: Scores | Sums, *, languages: Bools | None = None) -> Floats:
    """Returns G, the mean of Δ_λ − Δ_ref over the other languages, (... x P).

    In bits per reference character. All languages count when ``languages`` is None, so that G is
    defined for every plan; NaN only where there is no other language.

    Example:
        >>> gap(SCORES).round(4)
        array([0.0541, 0.0207, 0.0472, 0.0138, 0.0403, 0.0069, 0.0334, 0.    ])
    """
    sums = _sums(of)
    delta = delta_bits(sums)
    return _mean_of_others(sums, delta - sums.against(delta), _or_all(sums, languages))


def harm_mean(of: Scores | Sums, *, languages: Bools | None = None) -> Floats:
    """Returns the mean of Δ_λ over languages, reference included, (... x P); over all when None.

    Example:
        >>> harm_mean(SCORES)[:2].round(4)
        array([0.0589, 0.0252])
    """
    sums = _sums(of)
    mask = _or_all(sums, languages)
    return _ratio(np.where(mask, delta_bits(sums), 0.0).sum(-1), mask.sum(-1))


def harm_max(of: Scores | Sums, *, languages: Bools | None = None) -> Floats:
    """Returns the largest Δ_λ over languages, reference included, (... x P); of all when None.

    Example:
        >>> harm_max(SCORES)[:2].round(4)
        array([0.1051, 0.042 ])
    """
    sums = _sums(of)
    mask = _or_all(sums, languages)
    worst = np.where(mask, delta_bits(sums), -np.inf).max(-1)
    return np.where(mask.any(-1), worst, np.nan)


def perplexity_increase(of: Scores | Sums) -> Floats:
    """Returns the relative increase of the perplexity per token, (... x P x A), 0 for no change.

    NaN where it exceeds the largest number there is.

    Example:
        >>> perplexity_increase(SCORES)[0].round(4)
        array([0.0823, 0.1152, 0.2044])
    """
    sums = _sums(of)
    nats = _ratio(sums.nll_bits - sums.nll_fp_bits, sums.tokens) / _BITS
    with np.errstate(over="ignore"):  # a ruined model may well need more than 709 nats a token
        increase = np.expm1(nats)
    return np.where(np.isfinite(increase), increase, np.nan)


def original_disparity(of: Scores | Sums, *, languages: Bools | None = None) -> Floats:
    """Returns the origin's D_original, (... x P): mean ratio of relative perplexity increases.

    It is undefined in all but name where Δ_ref is not clearly above 0; ``audit`` gates it, this
    function does not. All languages count when ``languages`` is None, as in the origin.

    Example:
        >>> original_disparity(SCORES)[:2].round(3)
        array([1.943, 1.588])
    """
    sums = _sums(of)
    increase = perplexity_increase(sums)
    ratio = _ratio(increase, sums.against(increase))
    return _mean_of_others(sums, ratio, _or_all(sums, languages))


def unigram_tokens_needed(vocabulary: int | None = None) -> int:
    """Returns how many tokens a language's unigrams need to tell what a model had learned.

    The number is declared (``unigram_tokens_min``) for the 8,192 types of the bundled models. What
    add-one smoothing costs a token, up to log2(1 + V/n) bits, goes with V over n tokens, so that
    more types need as many more tokens.

    Args:
        vocabulary: V; None where it is not known, and the declared number is all that is asked.

    Example:
        >>> [unigram_tokens_needed(types) for types in (None, 4096, 8192, 49152)]
        [50000, 50000, 50000, 300000]
    """
    declared = load_thresholds().unigram_tokens_min
    scaled = 0 if vocabulary is None else math.ceil(declared * vocabulary / _DECLARED_TYPES)
    return max(declared, scaled)


def unigrams_known(of: Scores | Sums) -> Bools:
    """Returns of which languages unigrams rest on other text, and on enough of it, (A).

    Where they do not, what the model had learned is not known, and whether a language collapsed is
    judged by a weaker rule, see :func:`collapsed`.

    Example:
        >>> unigrams_known(SCORES)
        array([ True,  True,  True])
        >>> unigrams_known(replace(SCORES, unigram_tokens=None))
        array([False, False, False])
    """
    scores = _sums(of).scores
    if scores.unigram_tokens is None:
        return np.zeros(len(scores.languages), dtype=np.bool_)
    return scores.unigram_tokens >= unigram_tokens_needed(scores.vocabulary)


def learned_bits(of: Scores | Sums) -> Floats:
    """Returns M_λ, what the model knows beyond word frequencies, (... x 1 x A).

    In bits per reference character; 0 or less where the model is no better than add-one unigrams,
    NaN where these are not :func:`unigrams_known`: those of a few thousand tokens are 1 to 2.8 bits
    a token worse than the language's own, unequally by language.

    Example:
        >>> learned_bits(SCORES)[0].round(3)
        array([0.369, 0.616, 0.844])
    """
    sums = _sums(of)
    learned = _ratio(sums.unigram_bits - sums.nll_fp_bits, sums.length)
    return np.where(unigrams_known(sums), learned, np.nan)


def learned_share(of: Scores | Sums) -> Floats:
    """Returns K_λ/M_λ, the damage as a share of what was learned, (... x P x A).

    NaN where nothing was learned (M_λ not above 0) or M_λ is not known.

    Example:
        >>> learned_share(SCORES)[0].round(4)
        array([0.0563, 0.0719, 0.1133])
    """
    sums = _sums(of)
    learned = learned_bits(sums)
    return damage_bits(sums) / np.where(learned > 0, learned, np.nan)


def log_share_ratio(of: Scores | Sums) -> Floats:
    """Returns log2 of K_λ/M_λ over the reference's, (... x P x A); NaN where undefined.

    Example:
        >>> log_share_ratio(SCORES)[0].round(3)
        array([0.   , 0.353, 1.01 ])
    """
    sums = _sums(of)
    logs = _log2(learned_share(sums))
    return logs - sums.against(logs)


def share_disparity(of: Scores | Sums, *, languages: Bools | None = None) -> Floats:
    """Returns D_share, the disparity of K_λ/M_λ, (... x P); it has no unit that could be changed.

    When ``languages`` is None those count that are :func:`usable` and of which the model is known
    to have learned something.

    Example:
        >>> share_disparity(SCORES)[:2].round(3)
        array([0.681, 0.452])
    """
    sums = _sums(of)
    if languages is None:
        languages = usable(sums) & (learned_bits(sums.scores) > 0)
    return _mean_of_others(sums, log_share_ratio(sums), languages)


def fraction_of_bits(of: Scores | Sums) -> Floats:
    """Returns K_λ/N_λ^fp, damage per bit of text in full precision, (... x P x A).

    Example:
        >>> fraction_of_bits(SCORES)[0].round(4)
        array([0.0235, 0.0331, 0.0561])
    """
    sums = _sums(of)
    return _ratio(sums.kl_bits, sums.nll_fp_bits)


def collapsed(of: Scores | Sums) -> Bools:
    """Returns where a plan does no better than add-one unigrams, (P x A); also where not finite.

    By counts of other text where these are :func:`unigrams_known`. Elsewhere by whatever unigrams
    there are, such as those counted on the other sentences of the text: too few tokens make
    unigrams worse than the language's own, never better, so the rule is weaker and nothing is
    called collapsed that is not. Judged by the whole text, also where the sums are resampled.

    Example:
        >>> collapsed(SCORES)[0]
        array([False, False, False])
    """
    sums = Sums(_sums(of).scores)
    return ~(sums.nll_bits < sums.unigram_bits) | ~np.isfinite(sums.kl_bits)


def below_resolution(of: Scores | Sums) -> Bools:
    """Returns where K per token is not above 0 or under ten times the plan's floor, (P x A).

    Judged by the whole text, also where the sums are resampled.

    Example:
        >>> below_resolution(SCORES)[[0, 7]]
        array([[False, False, False],
               [ True,  True,  True]])
    """
    sums = Sums(_sums(of).scores)
    floor_bits = sums.scores.floor_by_plan[:, None] / math.log(2)
    per_token = _ratio(sums.kl_bits, sums.tokens)
    return (per_token <= 0) | (per_token < RESOLUTION * floor_bits)


def usable(of: Scores | Sums) -> Bools:
    """Returns which languages may enter D: neither collapsed nor below resolution, (P x A).

    Example:
        >>> usable(SCORES)[[0, 7]]
        array([[ True,  True,  True],
               [False, False, False]])
    """
    return ~(collapsed(of) | below_resolution(of))


def resample(formula: Callable[[Sums], Floats], scores: Scores, weights: Floats) -> Floats:
    """Returns a per-plan formula under each weighting, (W x P), a slice of plans at a time.

    Args:
        formula: Such as :func:`disparity`, :func:`gap` or :func:`harm_mean`.
        scores: Scores of many plans.
        weights: How often each sentence counts, (W x N).

    Example:
        >>> resample(gap, SCORES, np.ones((2, 8))).shape
        (2, 8)
    """
    step = max(1, _SLICE // (len(weights) * len(scores.languages)))
    parts = [
        formula(Sums(_plan_slice(scores, start, start + step), weights))
        for start in range(0, len(scores.plans), step)
    ]
    return np.concatenate(parts, axis=-1)


def _plan_slice(scores: Scores, start: int, stop: int) -> Scores:
    # Views, where Scores.select would copy.
    return replace(
        scores,
        plans=scores.plans[start:stop],
        nll_nats=scores.nll_nats[start:stop],
        kl_nats=scores.kl_nats[start:stop],
        floors_nats=None if scores.floors_nats is None else scores.floors_nats[start:stop],
    )


def _sums(of: Scores | Sums) -> Sums:
    return of if isinstance(of, Sums) else Sums(of)


def _or_all(sums: Sums, languages: Bools | None) -> Bools:
    return np.ones(len(sums.scores.languages), bool) if languages is None else languages


def _mean_of_others(sums: Sums, values: Floats, languages: Bools) -> Floats:
    others = languages.copy()
    others[..., sums.reference] = False
    n = others.sum(-1)
    # A left-out language may be NaN, which a product with 0 would let through. (The product with
    # ones is a sum over a short axis, several times as fast as ``sum``.)
    total = np.where(others, values, 0.0) @ np.ones(others.shape[-1])
    return np.where(languages[..., sums.reference] & (n > 0), total / np.maximum(n, 1), np.nan)


def _over_languages(values: Floats, mask: Bools, of: Callable[[Floats], Floats]) -> Floats:
    """Returns the mean over counted languages of a function of what lies off their mean."""
    n = mask.sum(-1)
    ones = np.ones(mask.shape[-1])
    # A left-out language may be NaN, which a product with 0 would let through.
    mean = (np.where(mask, values, 0.0) @ ones) / np.maximum(n, 1)
    away = np.where(mask, values - mean[..., None], 0.0)
    return np.where(n > 1, (of(away) @ ones) / np.maximum(n, 1), np.nan)


def _log2(values: Floats) -> Floats:
    positive = values > 0
    return np.log2(values if positive.all() else np.where(positive, values, np.nan))


def _ratio(numerator: Floats, denominator: Floats | Integers) -> Floats:
    return numerator / np.where(denominator != 0, denominator, np.nan)
