"""Parallel two-way random effects: what of a number belongs to the language, the sentence, neither.

``x_as = μ + λ_a + s_s + r_as`` for languages a that all say the same sentences s, one number each.
The components are the unbiased ones of the analysis of variance, so one may come out below 0. The
language's share σ²_lang/(σ²_lang + σ²_sent + σ²_res) is the intraclass correlation ICC(2,1) of
Shrout & Fleiss 1979, languages being rated by sentences; its interval is that of McGraw & Wong
1996, case 2A. Pure numpy and scipy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from bitgap.errors import UsageError
from bitgap.records import Estimate, Floats


@dataclass(frozen=True, slots=True)
class TwoWay:
    """Mean squares of a two-way layout without repeats, for one table or many (...).

    Attributes:
        languages: A.
        sentences: N.
        ms_language: Mean square between languages.
        ms_sentence: Mean square between sentences.
        ms_residual: Mean square of what neither explains.
    """

    languages: int
    sentences: int
    ms_language: Floats
    ms_sentence: Floats
    ms_residual: Floats

    @property
    def language(self) -> Floats:
        """σ²_lang, unbiased."""
        return (self.ms_language - self.ms_residual) / self.sentences

    @property
    def sentence(self) -> Floats:
        """σ²_sent, unbiased."""
        return (self.ms_sentence - self.ms_residual) / self.languages

    @property
    def residual(self) -> Floats:
        """σ²_res, unbiased."""
        return self.ms_residual

    @property
    def language_share(self) -> Floats:
        """ICC(2,1) of languages; NaN where nothing varies."""
        total = self.language + self.sentence + self.residual
        return np.divide(
            self.language, total, out=np.full(np.shape(total), np.nan), where=total > 0
        )


def two_way(values: Floats) -> TwoWay:
    """Returns the analysis of variance of tables, (... x A x N).

    Raises:
        UsageError: If there are fewer than two languages or sentences.

    Example:
        >>> table = np.array([[1.0, 2.0], [3.0, 4.0]])
        >>> float(two_way(table).language.round(3))
        2.0
    """
    n_languages, n_sentences = values.shape[-2:]
    if min(n_languages, n_sentences) < 2:
        raise UsageError(
            f"variance components were asked of {n_languages} languages and {n_sentences} "
            f"sentences; give two of each at least"
        )
    grand = values.mean((-2, -1), keepdims=True)
    by_language = values.mean(-1, keepdims=True) - grand
    by_sentence = values.mean(-2, keepdims=True) - grand
    rest = values - grand - by_language - by_sentence
    free_a, free_s = n_languages - 1, n_sentences - 1
    return TwoWay(
        n_languages,
        n_sentences,
        n_sentences * (by_language**2).sum((-2, -1)) / free_a,
        n_languages * (by_sentence**2).sum((-2, -1)) / free_s,
        (rest**2).sum((-2, -1)) / (free_a * free_s),
    )


def language_share(values: Floats, level: float = 0.95) -> Estimate:
    """Returns ICC_lang of one table (A x N) with its interval over languages and sentences.

    Source: McGraw & Wong 1996, table 7, ICC(A,1), with languages as objects.

    Example:
        >>> round(language_share(np.array([[1.0, 2.0, 1.5], [5.0, 6.1, 5.4]])).value, 3)
        0.966
    """
    found, unit = two_way(values), "share of variance"
    n, k, share = found.languages, found.sentences, float(found.language_share)
    if not np.isfinite(share):
        return Estimate(value=None, unit=unit, level=level, n=n, reason="nothing varies")
    msr, msc, mse = (float(v) for v in (found.ms_language, found.ms_sentence, found.ms_residual))
    if mse <= 0:
        return Estimate(value=share, unit=unit, level=level, n=n, reason="no residual is left")
    a = k * share / (n * (1 - share))
    b = 1 + k * share * (n - 1) / (n * (1 - share))
    # Satterthwaite's degrees of freedom of a mean square that mixes sentence and residual.
    mixed = (a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1))
    free = (a * msc + b * mse) ** 2 / mixed
    tail = (1 + level) / 2
    below, above = stats.f.ppf(tail, n - 1, free), stats.f.ppf(tail, free, n - 1)
    rest = k * msc + (k * n - k - n) * mse
    low = n * (msr - below * mse) / (below * rest + n * msr)
    high = n * (above * msr - mse) / (rest + n * above * msr)
    return Estimate(
        value=share,
        low=float(low),
        high=float(high),
        unit=unit,
        level=level,
        n=n,
        method=f"two-way random effects over {n} languages and {k} sentences, F with "
        f"Satterthwaite's degrees of freedom",
    )


def permuted_within_sentence(values: Floats, rng: np.random.Generator) -> Floats:
    """Returns tables (... x A x N) with languages in random order within every sentence.

    The order is drawn anew for each sentence and is the same for all leading axes, so that what a
    sentence says in one language stays together.

    Example:
        >>> permuted_within_sentence(np.array([[1.0, 2.0], [3.0, 4.0]]), np.random.default_rng(0))
        array([[1., 2.],
               [3., 4.]])
    """
    n_languages, n_sentences = map(int, values.shape[-2:])
    order = rng.permuted(np.tile(np.arange(n_languages)[:, None], n_sentences), axis=0)
    index = order.reshape((1,) * (values.ndim - 2) + order.shape)
    return np.take_along_axis(values, np.broadcast_to(index, values.shape), axis=-2)


def permutation_p(values: Floats, draws: int, seed: int) -> Floats:
    """Returns p of σ²_lang > 0 for tables (... x A x N), permuting languages within sentence.

    Rows then say nothing, while each sentence keeps its own numbers. p = (1 + #)/(1 + B) (Phipson &
    Smyth 2010).

    Args:
        values: Tables; permuted alike.
        draws: B.
        seed: Of the permutations.

    Example:
        >>> float(permutation_p(np.array([[1.0, 2.0, 1.5], [5.0, 6.1, 5.4]]), 99, seed=0).round(2))
        0.25
    """
    rng, seen = np.random.default_rng(seed), two_way(values).ms_language
    # A tie is a permutation that changes nothing but the last digit.
    exceeded = sum(
        two_way(permuted_within_sentence(values, rng)).ms_language >= seen * (1 - 1e-9)
        for _ in range(draws)
    )
    return (1 + np.asarray(exceeded, dtype=np.float64)) / (1 + draws)
