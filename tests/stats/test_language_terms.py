"""Terms over languages: closed forms, planted coefficients, and no finding where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bitgap.stats.language_terms import permutation_p, term_coefficient


def test_the_coefficient_is_that_of_least_squares_with_all_terms():
    rng = np.random.default_rng(0)
    term, rest, values = rng.normal(size=12), rng.normal(size=(12, 2)), rng.normal(size=12)
    design = np.column_stack([term, np.ones(12), rest])
    by_hand = np.linalg.lstsq(design, values, rcond=None)[0][0]
    assert term_coefficient(values, term, rest) == pytest.approx(by_hand)
    alone = np.polyfit(term, values, 1)[0]
    assert term_coefficient(values, term) == pytest.approx(alone)


def test_what_the_rest_explains_is_not_the_term_s():
    rng = np.random.default_rng(1)
    rest = rng.normal(size=(40, 1))
    term = rest[:, 0] + rng.normal(size=40)
    values = 3 * rest[:, 0]
    assert term_coefficient(values, term) > 1
    assert term_coefficient(values, term, rest) == pytest.approx(0, abs=1e-12)


def test_many_weightings_at_once_are_as_each_alone():
    rng = np.random.default_rng(2)
    values, term, rest = (rng.normal(size=(5, 9)) for _ in range(3))
    found = term_coefficient(values, term, rest[..., None])
    alone = [
        float(term_coefficient(v, t, r[:, None]))
        for v, t, r in zip(values, term, rest, strict=True)
    ]
    np.testing.assert_allclose(found, alone)


def test_a_term_that_is_not_there_or_not_known_has_no_coefficient():
    values = np.arange(8.0)
    assert np.isnan(term_coefficient(values, np.full(8, 3.7)))
    assert np.isnan(term_coefficient(values, values, 2 * values[:, None]))
    torn = np.stack([values, np.where(values == 3, np.nan, values)])
    np.testing.assert_array_equal(np.isnan(term_coefficient(torn, values)), [False, True])
    unknown = np.full((8, 1), np.nan)
    assert np.isnan(term_coefficient(values, values**2, unknown))


def test_p_of_a_permutation_is_the_share_that_reaches_it():
    # Of 4! orders of four, one has them ascending.
    values = np.array([1.0, 2.0, 3.0, 10.0])
    assert permutation_p(values, values, permutations=20_000) == pytest.approx(1 / 24, rel=0.1)
    assert permutation_p(-values, values, permutations=99) == 1


@pytest.mark.parametrize("beside", [0, 1])
def test_a_term_that_is_nothing_is_found_at_the_rate_of_alpha(beside):
    rng, n = np.random.default_rng(3 + beside), 9
    ps = []
    for _ in range(600):
        rest = rng.normal(size=(n, beside)) if beside else None
        # Skewed, and going with what stands beside it: neither may pass for the term.
        values = rng.exponential(size=n) + (2 * rest[:, 0] if rest is not None else 0)
        term = rng.normal(size=n) + (rest[:, 0] if rest is not None else 0)
        ps.append(permutation_p(values, term, rest, permutations=199))
    found = int(np.sum(np.array(ps) < 0.05))
    # 1e-3 of the binomial, on either side.
    assert stats.binom.ppf(1e-3, 600, 0.04) <= found <= stats.binom.isf(1e-3, 600, 0.05)


def test_a_planted_term_is_found():
    rng, found = np.random.default_rng(5), 0
    for _ in range(50):
        term = rng.uniform(3, 7, 10)
        values = term + 0.5 * rng.normal(size=10)
        found += permutation_p(values, term, permutations=499) < 0.05
    assert found >= 40
