"""Does damage at a rate rise with a language's entropy, as a bound on distortion would have it?

A source of h bits cannot be told with less error than Shannon's lower bound at a rate R::

    log2 D ≥ 2h − 2R + const

so a bound on damage would have a term in the entropy of the language beside that in bits. Entropy
is in bits per token, under the model in full precision, and under unigrams. Its coefficient is over
the judged languages, given bits and designs (every cell has every language, so these are orthogonal
to it), alone and, of the model's, given the unigrams'. Text is resampled for intervals, languages
are permuted for p: a language is one unit however much text it has.

No smallest effect was declared for it, so it can be supported and never refuted, and it is no part
of the verdict on H4.1, whose form has no such term.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitgap.disparity.formulas import Sums
from bitgap.experiments.t010_rate_distortion.sweep import Sweep, log_damages
from bitgap.records import Estimate, Floats
from bitgap.stats.language_terms import LANGUAGES_MIN, permutation_p, term_coefficient
from bitgap.stats.verdicts import Thresholds

ENTROPIES = {
    "entropy_model": "under the model",
    "entropy_unigram": "under unigrams",
    "entropy_model_given_unigram": "under the model given that under unigrams",
}
"""Estimates of the term, and how each entropy is told."""


def _terms(sweep: Sweep, weights: Floats) -> dict[str, tuple[Floats, Floats | None]]:
    """Returns (term, rest) of each of :data:`ENTROPIES`: (W x A') and (W x A' x 1) or None."""
    sums = Sums(sweep.scores, weights)
    model, unigram = (
        (bits / sums.tokens)[:, 0][:, sweep.languages]
        for bits in (sums.nll_fp_bits, sums.unigram_bits)
    )
    terms = ((model, None), (unigram, None), (model, unigram[..., None]))
    return dict(zip(ENTROPIES, terms, strict=True))


def _mean_logs(sweep: Sweep, logs: Floats) -> Floats:
    """Returns each judged language's mean log2 damage over the judged cells, (W x A')."""
    return logs[:, sweep.cells][..., sweep.languages].mean(1)


def entropy_coefficients(sweep: Sweep, logs: Floats, weights: Floats) -> Floats:
    """Returns the coefficients of :data:`ENTROPIES`, (W x 3).

    NaN of fewer languages than a term can be tested on.

    Args:
        sweep: The cells.
        logs: log2 damage per token, (W x P x A).
        weights: They were formed under, (W x N).
    """
    if sweep.languages.sum() < LANGUAGES_MIN:
        return np.full((len(weights), len(ENTROPIES)), np.nan)
    values = _mean_logs(sweep, logs)
    return np.column_stack([
        term_coefficient(values, term, rest) for term, rest in _terms(sweep, weights).values()
    ])  # fmt: skip


def where_known(
    estimates: Mapping[str, Estimate], sweep: Sweep, thresholds: Thresholds
) -> dict[str, Estimate]:
    """Returns estimates without the values of those that rest on unigrams of too few tokens."""
    why = _unigrams_too_few(sweep, thresholds)
    return {
        name: Estimate(value=None, unit=found.unit, reason=why)
        if why and name in ENTROPIES and "unigram" in name
        else found
        for name, found in estimates.items()
    }


def entropy_rows(
    sweep: Sweep, estimates: Mapping[str, Estimate], thresholds: Thresholds
) -> list[dict[str, Any]]:
    """Returns a row for each entropy: coefficient with interval, p, label and reason.

    Args:
        sweep: The cells.
        estimates: With the coefficients, under their names, as :func:`where_known` leaves them.
        thresholds: With α, and the tokens that unigrams need.
    """
    n, ones = int(sweep.languages.sum()), np.ones((1, sweep.scores.n_sentences))
    values = terms = None
    if n >= LANGUAGES_MIN:
        values = _mean_logs(sweep, log_damages(sweep.scores, ones))[0]
        terms = _terms(sweep, ones)
    rows = list[dict[str, Any]]()
    for name, told in ENTROPIES.items():
        found, p = estimates[name], None
        if values is not None and terms is not None and found.value is not None:
            term, rest = terms[name]
            p = permutation_p(values, term[0], None if rest is None else rest[0])
        why = _unigrams_too_few(sweep, thresholds) if "unigram" in name else None
        label, reason = ("not testable", why) if why else _label(found, p, n, thresholds.alpha)
        rows.append({
            "entropy": told,
            "coefficient": found.value,
            "low": found.low,
            "high": found.high,
            "p": p,
            "languages": n,
            "label": label,
            "reason": reason,
        })  # fmt: skip
    return rows


def _unigrams_too_few(sweep: Sweep, thresholds: Thresholds) -> str | None:
    """Returns why the entropy under unigrams is not known, or None."""
    counted = sweep.scores.unigram_tokens
    least = thresholds.unigram_tokens_min
    if counted is None:
        return f"unigrams were counted on this text alone; {least} tokens a language are needed"
    few = [
        code
        for code, n, judged in zip(sweep.scores.languages, counted, sweep.languages, strict=True)
        if judged and n < least
    ]
    return f"unigrams of {', '.join(few)} rest on fewer than {least} tokens" if few else None


def _label(found: Estimate, p: float | None, n: int, alpha: float) -> tuple[str, str]:
    if n < LANGUAGES_MIN:
        return "not testable", f"{n} languages are judged; a term needs {LANGUAGES_MIN}"
    if found.value is None or found.low is None or found.high is None or p is None:
        return "inconclusive", f"the coefficient has no interval: {found.reason}"
    shown = f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}], p = {p:.3g}"
    if found.low > 0 and p < alpha:
        return "supported", f"the coefficient is {shown}, languages permuted"
    return "inconclusive", f"the coefficient is {shown}: not clearly above 0 over {n} languages"
