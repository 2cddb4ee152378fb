"""What matrices do to languages: closed forms, a planted matrix, and nothing where nothing is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bitgap.codec import from_json, to_json
from bitgap.disparity.unit_map import Unit, UnitMap, make_unit_map, unit_plans
from bitgap.quant.plan import Plan
from bitgap.show.tables.unit_map import unit_languages_table, unit_table
from score_samples import make_scores

SCHEME = "rtn3-g128"


def units_of(n: int) -> list[Unit]:
    return [Unit(block=i // 2, name="up" if i % 2 else "v", parameters=8) for i in range(n)]


def mapped(kl: np.ndarray, **changed: object) -> UnitMap:
    """The map of damage (units x languages x sentences); all at once does what they do alone."""
    scores = make_scores(np.concatenate([kl, kl.sum(0, keepdims=True)]))
    return make_unit_map(replace(scores, **changed), SCHEME, units_of(len(kl)))  # type: ignore[arg-type]


def test_shares_and_what_is_harder_have_a_closed_form() -> None:
    # Two units, three languages: 3:1, 1:1 and 1:3.
    kl = np.array([[3.0, 1.0, 1.0], [1.0, 1.0, 3.0]])[..., None] * np.full(8, 0.01)
    found = mapped(kl)
    shares = [[one.value for one in unit.shares] for unit in found.units]
    assert shares == [pytest.approx([0.75, 0.5, 0.25]), pytest.approx([0.25, 0.5, 0.75])]
    mean = np.log2([0.75, 0.5, 0.25]).mean()
    harder = [one.value for one in found.units[0].harder]
    assert harder == pytest.approx(list(np.log2([0.75, 0.5, 0.25]) - mean))
    assert [one.value for one in found.additive] == pytest.approx([1.0] * 3)
    assert [unit.share.value for unit in found.units] == pytest.approx([0.5, 0.5])
    bits = [one.value for one in found.units[0].by_language]
    assert bits[0] == pytest.approx(3 * bits[1])


def test_what_is_harder_does_not_move_with_the_length_of_a_language() -> None:
    rng = np.random.default_rng(0)
    kl = rng.gamma(2, 0.01, (4, 3, 12))
    longer = kl * np.array([1.0, 2.0, 5.0])[:, None]
    for one, other in zip(mapped(kl).units, mapped(longer).units, strict=True):
        for a in range(3):
            assert one.harder[a].value == pytest.approx(other.harder[a].value)
            assert one.shares[a].low == pytest.approx(other.shares[a].low)


def test_a_matrix_planted_against_one_language_is_found_and_no_other() -> None:
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        kl = rng.gamma(4, 0.0025, (6, 1, 1)) * rng.gamma(8, 1 / 8, (6, 4, 40))
        kl[2, 3] *= 2
        harder = mapped(kl).units[2].harder[3]
        assert harder.low is not None
        found += harder.low > 0
    assert found >= 16


def test_where_languages_share_one_profile_intervals_miss_zero_as_rarely_as_they_say() -> None:
    wrong = n = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        kl = rng.gamma(4, 0.0025, (6, 1, 1)) * rng.gamma(8, 1 / 8, (6, 4, 24))
        for unit in mapped(kl).units:
            for one in unit.harder:
                assert one.low is not None and one.high is not None
                n += 1
                wrong += one.low > 0 or one.high < 0
    # 960 intervals of 95 %, of which those of one run hang together.
    assert wrong / n < 0.07


def test_a_language_that_collapses_counts_in_no_mean_and_says_so() -> None:
    kl = np.full((2, 3, 8), 0.01)
    kl[1, 0] = 0.03
    scores = make_scores(np.concatenate([kl, kl.sum(0, keepdims=True)]))
    nll = scores.nll_nats.copy()
    nll[-1, 2] = 1e3
    found = make_unit_map(replace(scores, nll_nats=nll), SCHEME, units_of(2))
    gone = scores.languages[2]
    assert found.left_out == {gone: "collapsed with every block rounded"}
    assert [unit.harder[2].value for unit in found.units] == [None, None]
    mean = math.log2(0.25) / 2 + math.log2(0.5) / 2
    assert found.units[0].harder[0].value == pytest.approx(math.log2(0.25) - mean)


def test_what_cannot_be_told_from_noise_has_no_value() -> None:
    kl = np.full((2, 3, 8), 0.01)
    kl[1] = 1e-9
    found = mapped(kl, floor_nats=1e-6)
    assert all("below resolution" in (one.reason or "") for one in found.units[1].harder)
    assert all(one.value is not None for one in found.units[0].harder)


def test_plans_are_each_unit_alone_and_then_all() -> None:
    plans = unit_plans(SCHEME, 2, units_of(4))
    assert [plan.text for plan in plans] == [
        *(f"fp units {i}.{name}={SCHEME}" for i in (0, 1) for name in ("v", "up")),
        SCHEME,
    ]
    assert all(plan.is_light for plan in plans[:-1])
    assert Plan.parse(plans[1].text, 2) == plans[1]


def test_a_map_is_stored_and_read_back_and_shown_alike() -> None:
    found = mapped(np.random.default_rng(1).gamma(2, 0.01, (4, 3, 12)))
    again = from_json(UnitMap, to_json(found))
    assert again == found
    for table in (unit_table, unit_languages_table):
        assert table(found) == table(found.as_dict())
    shares = [float(cell) for row in unit_table(found).texts() for cell in row[1:]]
    assert sum(shares) == pytest.approx(100, abs=0.3)
