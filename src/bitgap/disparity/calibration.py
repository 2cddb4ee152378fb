"""Which language's text should calibrate: damage by language of calibration and of evaluation.

With L[c, λ] = log2 K of language λ after calibrating on text c, all in log2 of damage, so that 1 is
half of it, and positive where there is less damage:

    own_λ       = mean over languages c ≠ λ of L[c, λ] − L[λ, λ]     its own text, not another's
    mixture_λ   = L[λ, λ] − L[mixture, λ]                            all languages', not its own
    reference_λ = L[reference, λ] − L[λ, λ]                          its own, not the reference's
    feedback_λ  = L[nearest, λ] − L[mixture, λ]                      calibration at all
    bit_λ       = L[nearest, λ] − L[one bit more, λ]                 one bit more, to nearest

A text that calibrates well or badly for all languages alike cancels in the mean of own_λ. Intervals
are over the sentences that damage was measured on; that each text of calibration is one draw is
told by a permutation: how often own text does as well where texts are assigned to languages by lot.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from bitgap.disparity.formulas import (
    Sums,
    below_resolution,
    collapsed,
    damage_bits,
    log_damage,
    spread_draws,
)
from bitgap.disparity.gates import (
    LOG,
    LOG_UNITS,
    PER_TEXT,
    Quantities,
    estimate_all,
    estimate_spreads,
    interval,
    reasons_left_out,
    select_plans,
    void,
    why_no_spread,
)
from bitgap.records import Bools, Estimate, Floats, Integers, Scores
from bitgap.stats.bootstrap import DRAWS

MIXTURE = "mixture"
"""The text of all languages in turn."""
NEAREST, FINER = "nearest", "one bit more"
"""Rounded to nearest, by no text, at the bits asked for and at one more."""
_ALL_ORDERS = 7
"""Languages up to which every assignment of texts is tried; of more, :data:`_ORDERS` by lot."""
_ORDERS = 9999

Which = Literal["bits", "language", "not told"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """What was rounded by which text, and how."""

    scheme: str
    plans: Mapping[str, str]
    """Plan text of each text of calibration: every language's, and the mixture's."""
    nearest: str
    """Plan text of rounding to nearest."""
    finer: str | None
    """... with one bit more; None where the scheme has the most bits already."""
    n_tokens: int
    """Of each text of calibration."""
    n_sentences: int
    """That calibrate."""
    damping: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What rounding by one text does."""

    text: str
    """A language's code, ``mixture``, ``nearest`` or ``one bit more``."""
    damage: tuple[Estimate, ...]
    """K_λ in bits per reference character, in the order of the languages."""
    spread: Estimate
    """S per token, over the languages that count in every row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Texts of calibration against languages of evaluation; gains in log2 of damage."""

    scheme: str
    languages: tuple[str, ...]
    reference: str
    n_sentences: int
    """That damage was measured on."""
    n_calibrating: int
    """Other sentences, that calibrated."""
    n_tokens: int
    """Of each text of calibration."""
    damping: float
    rows: tuple[Row, ...]
    own: tuple[Estimate, ...]
    """own_λ, in the order of the languages."""
    own_mean: Estimate
    mixture: tuple[Estimate, ...]
    mixture_mean: Estimate
    from_reference: tuple[Estimate, ...]
    """reference_λ; of the reference itself 0 by definition."""
    from_reference_mean: Estimate
    """Over the other languages."""
    feedback_mean: Estimate
    bit_mean: Estimate
    bit_less_own: Estimate
    """Mean of bit_λ less mean of own_λ: above 0 where one bit matters more."""
    spread_change: Estimate
    """S when calibrated on the mixture, less S when calibrated on the reference's text."""
    chance: float | None
    """How often own text does as well where texts are assigned to languages by lot."""
    orders: int
    """Assignments that were tried."""
    matters: Which
    """What the interval of ``bit_less_own`` says."""
    left_out: Mapping[str, str]
    """Languages that count in no mean, and why."""

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON; values with ``_ci`` beside them, null where there is none."""
        by_language = ("own", "mixture", "from_reference")
        alone = ("own_mean", "mixture_mean", "from_reference_mean", "feedback_mean", "bit_mean",
                 "bit_less_own", "spread_change")  # fmt: skip
        plain = ("languages", "reference", "n_sentences", "n_calibrating", "n_tokens", "damping",
                 "chance", "orders", "matters", "left_out")  # fmt: skip
        made: dict[str, Any] = {"calibration_scheme": self.scheme}
        for name in plain:
            made[name] = getattr(self, name)
        made |= {"languages": list(self.languages), "left_out": dict(self.left_out)}
        made["rows"] = [
            {"text": row.text, **_told("damage", row.damage), **_told("spread", (row.spread,), 0)}
            for row in self.rows
        ]
        for name in by_language:
            made |= _told(name, getattr(self, name))
        for name in alone:
            made |= _told(name, (getattr(self, name),), 0)
        return made


def make_calibration(
    scores: Scores, calibrated: Calibrated, *, seed: int = 0, draws: int = DRAWS
) -> Calibration:
    """Returns what texts of calibration do to languages.

    Args:
        scores: Of all the plans, on sentences that calibrated none of them.
        calibrated: Which plan is which; its languages are those of the scores.
        seed: Of bootstrap draws and of assignments by lot.
        draws: Bootstrap draws.

    Raises:
        UsageError: If a plan was not scored, there is no sentence, or seed or draws cannot be.

    Example:
        >>> plans = dict(zip(("en", "de", "he", "mixture"), SCORES.plans[1:5]))
        >>> told = Calibrated(scheme="rtn4-g128", plans=plans, nearest="rtn4-g128", finer=None,
        ...                   n_tokens=64, n_sentences=8, damping=0.01)
        >>> found = make_calibration(SCORES, told)
        >>> [row.text for row in found.rows], round(found.feedback_mean.value, 2)
        (['en', 'de', 'he', 'mixture', 'nearest'], 0.47)
        >>> found.bit_mean.reason
        'there is no scheme of one bit more'
    """
    named = {**calibrated.plans, NEAREST: calibrated.nearest}
    named |= {FINER: calibrated.finer} if calibrated.finer else {}
    mine = select_plans(scores, list(named.values()), seed, draws)
    row_of = {name: mine.plans.index(plan) for name, plan in named.items()}
    gone: Bools = np.logical_or.reduce(collapsed(mine))
    faint: Bools = np.logical_or.reduce(below_resolution(mine))
    left_out = reasons_left_out(mine, gone, faint)
    counted: Bools = ~(gone | faint)
    n_counted = int(counted.sum())
    told = _Contrasts(mine, row_of, counted)
    found = estimate_all(told.quantities(), mine, seed, draws)
    spreads = estimate_spreads(told.spreads(), mine, seed, draws)
    for name, estimates in found.items():
        if name in told.needs_two and n_counted < 2:
            found[name] = [void(one, "fewer than two languages count") for one in estimates]
        if name in ("bit", "bit_less_own") and calibrated.finer is None:
            found[name] = [void(one, "there is no scheme of one bit more") for one in estimates]
    if n_counted < 2:
        why = why_no_spread(mine, left_out)
        spreads = {name: [void(one, why) for one in ones] for name, ones in spreads.items()}
    chance, orders = _by_lot(log_damage(Sums(mine)), row_of, mine.languages, counted, seed)
    n = len(mine.languages)
    damage = found["damage"]
    bit = found["bit_less_own"][0]
    return Calibration(
        scheme=calibrated.scheme,
        languages=mine.languages,
        reference=mine.reference,
        n_sentences=mine.n_sentences,
        n_calibrating=calibrated.n_sentences,
        n_tokens=calibrated.n_tokens,
        damping=calibrated.damping,
        rows=tuple(
            Row(
                text=name,
                damage=tuple(damage[i * n : (i + 1) * n]),
                spread=spreads["spread"][i],
            )
            for name, i in row_of.items()
        ),
        own=tuple(found["own"]),
        own_mean=found["own_mean"][0],
        mixture=tuple(found["mixture"]),
        mixture_mean=found["mixture_mean"][0],
        from_reference=tuple(found["from_reference"]),
        from_reference_mean=found["from_reference_mean"][0],
        feedback_mean=found["feedback"][0],
        bit_mean=found["bit"][0],
        bit_less_own=bit,
        spread_change=spreads["spread_change"][0],
        chance=chance,
        orders=orders,
        matters=_which(bit),
        left_out=left_out,
    )


class _Contrasts:
    """The formulas of one comparison, all from the same log damages."""

    needs_two = ("own", "own_mean", "bit_less_own", "from_reference_mean")

    def __init__(self, scores: Scores, row_of: Mapping[str, int], counted: Bools) -> None:
        self._row, self._counted = row_of, counted
        self._languages = scores.languages
        self._at = np.array([row_of[code] for code in scores.languages])
        self._n = len(scores.languages)
        self._reference = scores.languages.index(scores.reference)

    def quantities(self) -> Quantities:
        """Returns the formulas, by name, each (W x k)."""
        others = self._counted.copy()
        others[self._reference] = False
        mean: Callable[..., Any] = partial(self._mean, counted=self._counted)
        return {
            "damage": (lambda sums: _flat(damage_bits(sums)), PER_TEXT),
            "own": (self._own, LOG),
            "own_mean": (lambda sums: mean(self._own(sums)), LOG),
            "mixture": (self._mixture, LOG),
            "mixture_mean": (lambda sums: mean(self._mixture(sums)), LOG),
            "from_reference": (self._from_reference, LOG),
            "from_reference_mean": (
                lambda sums: self._mean(self._from_reference(sums), counted=others), LOG),
            "feedback": (lambda sums: mean(self._between(sums, NEAREST, MIXTURE)), LOG),
            "bit": (lambda sums: mean(self._bit(sums)), LOG),
            "bit_less_own": (lambda sums: mean(self._bit(sums) - self._own(sums)), LOG),
        }  # fmt: skip

    def spreads(self) -> Quantities:
        """Returns the formulas of S, of each plan and from the reference's text to the mixture."""
        of_s = partial(spread_draws, languages=self._counted)
        reference, mixture = self._at[self._reference], self._row[MIXTURE]

        def change(sums: Sums) -> Floats:
            s = of_s(sums)
            return s[:, mixture, None] - s[:, reference, None]

        return {"spread": (of_s, LOG_UNITS), "spread_change": (change, LOG_UNITS)}

    def _own(self, sums: Sums) -> Floats:
        square = log_damage(sums)[:, self._at]  # W x texts x languages, both in one order
        own = square[:, range(self._n), range(self._n)]
        of = square[:, self._counted]
        others = of.sum(1) - np.where(self._counted, own, 0.0)
        n_others = self._counted.sum() - self._counted
        return _divided(others, n_others) - own

    def _mixture(self, sums: Sums) -> Floats:
        logs = log_damage(sums)
        return logs[:, self._at, range(self._n)] - logs[:, self._row[MIXTURE]]

    def _from_reference(self, sums: Sums) -> Floats:
        logs = log_damage(sums)
        return logs[:, self._at[self._reference]] - logs[:, self._at, range(self._n)]

    def _bit(self, sums: Sums) -> Floats:
        if FINER not in self._row:
            return np.full((len(log_damage(sums)), self._n), np.nan)
        return self._between(sums, NEAREST, FINER)

    def _between(self, sums: Sums, one: str, other: str) -> Floats:
        logs = log_damage(sums)
        return logs[:, self._row[one]] - logs[:, self._row[other]]

    def _mean(self, values: Floats, *, counted: Bools) -> Floats:
        if not counted.any():
            return np.full((len(values), 1), np.nan)
        return values[:, counted].mean(-1, keepdims=True)


def _by_lot(
    logs: Floats,
    row_of: Mapping[str, int],
    languages: tuple[str, ...],
    counted: Bools,
    seed: int,
) -> tuple[float | None, int]:
    """Returns how often assigning texts by lot does as well as own text, and of how many tries."""
    codes = [i for i, counts in enumerate(counted) if counts]
    if len(codes) < 2:
        return None, 0
    at = [row_of[languages[i]] for i in codes]
    square = logs[np.ix_(at, codes)]  # texts x languages
    n = len(codes)
    if n <= _ALL_ORDERS:
        orders: Integers = np.array(list(itertools.permutations(range(n))))
    else:
        rng = np.random.default_rng(seed)
        drawn = [rng.permutation(n) for _ in range(_ORDERS)]
        orders = np.array([np.arange(n), *drawn])
    totals = square[orders, np.arange(n)].sum(1)
    own = float(np.trace(square))
    # Orders whose total differs by rounding alone are ties.
    slack = 1e-9 * max(1.0, abs(own))
    return float((totals <= own + slack).mean()), len(orders)


def _which(bit_less_own: Estimate) -> Which:
    ends = interval(bit_less_own)
    if bit_less_own.value is None or ends is None or ends[0] <= 0 <= ends[1]:
        return "not told"
    return "bits" if ends[0] > 0 else "language"


def _flat(values: Floats) -> Floats:
    return values.reshape(len(values), -1)


def _divided(values: Floats, by: Floats | Integers) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return values / by


def _told(key: str, estimates: tuple[Estimate, ...], one: int | None = None) -> dict[str, Any]:
    values = [None if e.value is None or math.isnan(e.value) else e.value for e in estimates]
    ends = [[e.low, e.high] for e in estimates]
    if one is not None:
        return {key: values[one], f"{key}_ci": ends[one]}
    return {key: values, f"{key}_ci": ends}
