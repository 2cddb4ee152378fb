"""Is there anything at the best of L blocks? Tests that pay for having looked at all of them.

The highest of L noisy numbers is above 0 though all truths are 0, the more blocks the higher. Two
null distributions of the *maximum* keep the rate of false alarms whatever L: that of a profile's
own draws about it (max-T, Westfall & Young 1993), and that of profiles in which what is sought was
destroyed, such as by shuffled pairs. Blocks may depend on one another as they like. Pure numpy.
"""

from __future__ import annotations

import numpy as np

from bitgap.records import Floats


def p_best_by_draws(profile: Floats, draws: Floats) -> float:
    """Returns the p of "no block is above 0", by how far bootstrap draws rise above their profile.

    The statistic is the largest profile over its standard error; p is one-sided, and the share of
    draws whose largest deviation, over the same errors, is as large (Phipson & Smyth 2010).

    Args:
        profile: (L).
        draws: Resampled profiles, (B x L).

    Example:
        >>> draws = np.random.default_rng(0).normal([0.0, 0.0, 5.0], 1.0, (999, 3))
        >>> p_best_by_draws(np.array([0.0, 0.0, 5.0]), draws)
        0.001
        >>> p_best_by_draws(np.array([0.0, 0.0, 1.0]), draws - [0, 0, 4]) > 0.3
        True
    """
    errors = draws.std(0)
    told = np.isfinite(profile) & np.isfinite(errors) & (errors > 0)
    if not told.any():
        return 1.0
    away = (draws[:, told] - profile[told]) / errors[told]
    observed = (profile[told] / errors[told]).max()
    return _share(away.max(1), float(observed))


def p_best_by_null(profile: Floats, null: Floats) -> float:
    """Returns the p of the profile's largest value among those of profiles where nothing is.

    Exact, whatever the data, where the profile is exchangeable with the null ones.

    Args:
        profile: (L).
        null: Profiles made alike of data in which what is sought was destroyed, (R x L).

    Example:
        >>> p_best_by_null(np.array([0.0, 3.0]), np.random.default_rng(0).normal(size=(199, 2)))
        0.01
    """
    return _share(null.max(1), float(profile.max()))


def _share(maxima: Floats, observed: float) -> float:
    slack = 1e-12 * max(1.0, abs(observed))
    return float((1 + (maxima >= observed - slack).sum()) / (1 + len(maxima)))
