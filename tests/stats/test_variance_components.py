"""Two-way random effects: planted parts, intervals that cover, p that is uniform at no effect."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bitgap.errors import UsageError
from bitgap.records import Floats
from bitgap.stats.variance_components import (
    language_share,
    permutation_p,
    permuted_within_sentence,
    two_way,
)
from harness import CHANCE

PLANTED = (0.3, 0.2, 0.5)


def tables(seed: int, n: int, parts: tuple[float, ...], languages: int, sentences: int) -> Floats:
    """Gaussian tables, (n x A x N), with variances of language, sentence and residual."""
    rng = np.random.default_rng(seed)
    lang, sent, rest = (np.sqrt(part) for part in parts)
    return (
        lang * rng.normal(size=(n, languages, 1))
        + sent * rng.normal(size=(n, 1, sentences))
        + rest * rng.normal(size=(n, languages, sentences))
    )


def test_planted_components_come_back_on_average():
    n = 3000
    found = two_way(tables(0, n, PLANTED, 8, 60))
    for planted, values in zip(
        PLANTED, (found.language, found.sentence, found.residual), strict=True
    ):
        error = values.std() / np.sqrt(n)
        assert abs(values.mean() - planted) < 4 * error
    # With 8 languages the share itself scatters by some .10.
    assert found.language_share.std() == pytest.approx(0.10, abs=0.02)


def test_components_of_a_table_worked_by_hand():
    # Rows differ by 2, columns by 1, nothing is left: σ²_lang = 2, σ²_sent = ½.
    found = two_way(np.array([[0.0, 1.0], [2.0, 3.0]]))
    assert float(found.language) == pytest.approx(2)
    assert float(found.sentence) == pytest.approx(0.5)
    assert float(found.residual) == pytest.approx(0)
    assert float(found.language_share) == pytest.approx(0.8)


def test_share_is_the_published_intraclass_correlation():
    # Shrout & Fleiss 1979, table 2: six targets, four judges, ICC(2,1) = .29; the interval is
    # that of McGraw & Wong 1996 (as R's psych and irr give it).
    ratings = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]],
        dtype=float,
    )
    found = language_share(ratings)
    assert found.value == pytest.approx(0.29, abs=0.005)
    assert found.low == pytest.approx(0.019, abs=0.001)
    assert found.high == pytest.approx(0.761, abs=0.001)


@pytest.mark.parametrize("parts", [PLANTED, (0.05, 0.4, 0.55)])
def test_interval_covers_as_often_as_it_says(parts):
    made = tables(1, 400, parts, 10, 24)
    intervals = [language_share(table) for table in made]
    held = sum(e.low <= parts[0] <= e.high for e in intervals)  # parts sum to 1
    assert stats.binom.cdf(held, len(made), 0.93) > CHANCE


def test_p_is_uniform_where_languages_do_not_differ():
    ps = permutation_p(tables(2, 300, (0, 0.5, 0.5), 6, 12), 199, seed=0)
    assert stats.kstest(ps, "uniform").pvalue > CHANCE


def test_p_is_small_where_they_do():
    ps = permutation_p(tables(3, 20, PLANTED, 8, 30), 99, seed=0)
    assert (ps == 1 / 100).all()


def test_permutation_keeps_each_sentence_and_permutes_all_tables_alike():
    values = np.arange(24.0).reshape(2, 3, 4)
    moved = permuted_within_sentence(values, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(moved, axis=1), values)
    np.testing.assert_array_equal(moved[1] - moved[0], 12)
    assert not np.array_equal(moved, values)


def test_a_constant_table_has_no_share():
    assert language_share(np.ones((3, 4))).value is None


def test_a_table_without_residual_has_a_share_without_interval():
    found = language_share(np.array([[0.0, 1.0], [2.0, 3.0]]))
    assert found.value == pytest.approx(0.8)
    assert found.low is None
    assert found.reason == "no residual is left"


@pytest.mark.parametrize("shape", [(1, 4), (4, 1)])
def test_one_language_or_sentence_is_refused(shape):
    with pytest.raises(UsageError, match="two of each"):
        two_way(np.ones(shape))
