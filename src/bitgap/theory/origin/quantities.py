"""The numbers that the origin's claims are about, each in its measure and in ours. Pure numpy.

A quantity is a function of a case and a measure. It returns either something that is resampled over
sentences, or an estimate whose unit is another one: languages, blocks, or nothing (weights alone).
Where the origin's measure is a ratio, ours is a difference of logs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats

from bitgap.languages import language
from bitgap.records import Bools, Estimate, Floats
from bitgap.stats.profiles import depths
from bitgap.theory.origin.claims import NO_SAMPLING, Part, Table, Untestable
from bitgap.theory.origin.readings import (
    UNITS,
    Case,
    Measure,
    Quantity,
    Readings,
    Sampled,
    Statistic,
    block_correlation,
    correlation,
    is_high_resource,
    sized,
)
from bitgap.theory.origin.regression import null_r2, regression
from bitgap.theory.origin.setup import blocks_of

_FEWEST_SETS = 20
"""Triples below which no set can be among the best twentieth."""


def quantity_of(case: Case, part: Part, measure: Measure) -> Quantity:
    """Returns the number of a part in one measure.

    Raises:
        Untestable: If this model or text has no such number.
    """
    if part.quantity is None:
        return _difference(case, part, measure)
    return QUANTITIES[part.quantity](case, case.readings(part.plans, measure), measure)


def _difference(case: Case, part: Part, measure: Measure) -> Sampled:
    readings = case.readings(part.rests_on, measure)
    groups = [case.expand(readings, (plan,)) for plan in part.rests_on]
    plans = [plan for group in groups for plan in group]
    for plan in plans:
        readings.row(plan)
    if part.less is not None and part.more is not None:
        _check_distinct(case, part.less, part.more)
    n = len(groups[0])

    def statistic(weights: Floats) -> Floats:
        values = sized(readings.value(measure, plans, weights), measure)
        return values[:, :n].mean(1) - values[:, n:].mean(1)

    return Sampled(readings, statistic, UNITS[measure])


def _check_distinct(case: Case, less: str, more: str) -> None:
    try:
        same = blocks_of(less, case.n_blocks) == blocks_of(more, case.n_blocks)
    except KeyError:
        return
    if same:
        raise Untestable(f"in {case.n_blocks} blocks {less!r} and {more!r} are one set")


def _hebrew(case: Case, readings: Readings, measure: Measure) -> Sampled:
    if "he" not in readings.scores.languages:
        raise Untestable("the text has no Hebrew")
    if readings.scores.reference != "en":
        raise Untestable(f"it is over English, and the reference is {readings.scores.reference}")
    row, column = readings.row("none"), readings.scores.languages.index("he")
    if not readings.counts(["none"], measure)[column]:
        raise Untestable(f"Hebrew is {readings.left_out(['none'])['he']}")
    unit = UNITS[measure]

    def of(weights: Floats) -> Floats:
        return readings.by_language(measure, weights)[:, row, column]

    return Sampled(readings, of, unit)


def _groups(readings: Readings, plans: list[str], measure: Measure, of: str) -> tuple[Bools, Bools]:
    """Returns the two groups of languages that a claim compares, and that count."""
    counts = readings.counts(plans, measure)
    if of == "resource":
        first = readings.mask(lambda code: not is_high_resource(code))
    else:
        first = readings.mask(lambda code: language(code).morphologically_rich is True)
        counts &= readings.mask(lambda code: language(code).morphologically_rich is not None)
    first, second = first & counts, ~first & counts
    if not first.any() or not second.any():
        raise Untestable(f"languages that count are all of one {of} group")
    return first, second


def _low_over_high(case: Case, readings: Readings, measure: Measure) -> Sampled:
    low, high = _groups(readings, ["none"], measure, "resource")
    row = readings.row("none")

    def statistic(weights: Floats) -> Floats:
        raw = readings.raw(measure, weights)[:, row]
        a, b = raw[:, low].mean(1), raw[:, high].mean(1)
        return a / b if measure == "original" else a - b

    return Sampled(readings, statistic, UNITS[measure])


def _damage(readings: Readings, measure: Measure, plan: str = "none") -> tuple[Floats, Bools]:
    """Returns what a plan did to each language, (A), and which count."""
    ones = np.ones((1, readings.scores.n_sentences))
    counts = readings.counts([plan], measure)
    return readings.raw(measure, ones)[0, readings.row(plan)], counts


def _resources(case: Case, readings: Readings, measure: Measure) -> Estimate:
    damage, counts = _damage(readings, measure)
    x = np.array([case.resources.get(code, np.nan) for code in readings.scores.languages])
    return correlation(x[counts], damage[counts], "languages")


def _alignment(case: Case, readings: Readings, measure: Measure) -> Estimate:
    found = case.alignment.get("original" if measure == "original" else "disparity")
    if found is None:
        raise Untestable("alignment was not measured: it takes two sentences to fit, two to test")
    damage, counts = _damage(readings, measure)
    return correlation(found[counts[1:]], damage[1:][counts[1:]], "languages")


def _outliers(case: Case, readings: Readings, measure: Measure) -> Estimate:
    sums = _tails(case, measure).sum(2)
    shares = (sums[..., 5] / sums[..., 0]).mean(0)
    damage, counts = _damage(readings, measure)
    return correlation(shares[counts], damage[counts], "languages")


def _heavier_tails(case: Case, readings: Readings, measure: Measure) -> Sampled:
    sums = _tails(case, measure)
    high = readings.mask(is_high_resource)
    if high.all() or not high.any():
        raise Untestable("languages are all of one resource group")

    def statistic(weights: Floats) -> Floats:
        kurtosis = _kurtosis(np.einsum("wn,lank->wlak", weights, sums)).mean(1)
        return kurtosis[:, ~high].mean(1) / kurtosis[:, high].mean(1) - 1

    return Sampled(readings, statistic, "relative excess of kurtosis")


def _tails(case: Case, measure: Measure) -> Floats:
    if not case.tails:
        raise Untestable("activations were not measured")
    return case.tails["original" if measure == "original" else "disparity"]


def _kurtosis(sums: Floats) -> Floats:
    """Returns the excess kurtosis of entries from the sums of their powers, (... x 5 or more)."""
    n, *powers = np.moveaxis(sums[..., :5], -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        m, p2, p3, p4 = (p / n for p in powers)
        variance = p2 - m**2
        return (p4 - 4 * m * p3 + 6 * m**2 * p2 - 3 * m**4) / variance**2 - 3


def _rich_gain(case: Case, readings: Readings, measure: Measure) -> Sampled:
    plans = ["none", "consolidation"]
    rich, other = _groups(readings, plans, measure, "morphological")
    none, kept = (readings.row(plan) for plan in plans)

    def statistic(weights: Floats) -> Floats:
        raw = readings.raw(measure, weights)
        gain = raw[:, none] - raw[:, kept]
        return gain[:, rich].mean(1) - gain[:, other].mean(1)

    return Sampled(readings, statistic, "gain of protecting one block")


def _better_triples(case: Case, readings: Readings, measure: Measure) -> Sampled:
    found = case.origin_triples if measure == "original" else case.here_triples
    if found is None or len(found.scores.plans) < _FEWEST_SETS:
        n = 0 if found is None else len(found.scores.plans)
        raise Untestable(f"{n} sets of three are too few to say which are among the best twentieth")
    plans = list(found.scores.plans)
    mine = plans.index("+".join(map(str, blocks_of("triple", case.n_blocks))))

    def statistic(weights: Floats) -> Floats:
        values = sized(found.value(measure, plans, weights), measure)
        better = (values < values[:, mine : mine + 1]).sum(1) / (len(plans) - 1)
        return np.where(np.isfinite(values[:, mine]), better, np.nan)

    return Sampled(found, statistic, "share of other sets that are better", is_rank=True)


def _eight_bits(case: Case, readings: Readings, measure: Measure) -> Sampled:
    plans = ["int8", "triple"]
    for plan in plans:
        readings.row(plan)

    def statistic(weights: Floats) -> Floats:
        eight, whole = sized(readings.value(measure, plans, weights), measure).T
        if measure != "original":
            return eight - whole
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log2(eight / whole)

    return Sampled(readings, statistic, "log2 ratio" if measure == "original" else UNITS[measure])


def _multiplicative(case: Case, readings: Readings, measure: Measure) -> Sampled:
    plans = ["none", "first", "last", "both"]
    rows = [readings.row(plan) for plan in plans]

    def origins(weights: Floats) -> Floats:
        none, first, last, both = readings.value("original", plans, weights).T
        with np.errstate(divide="ignore", invalid="ignore"):
            product = first * last / none
        return np.abs(both - (first + last - none)) - np.abs(both - product)

    def against_additive(weights: Floats) -> Floats:
        observed = readings.value(measure, plans, weights)
        if measure == "gap":  # additive damage makes additive gaps
            return _interaction(observed)
        if not np.isfinite(observed).any():
            return np.full(len(weights), np.nan)
        others = readings.counts(plans) & (np.arange(len(readings.scores.languages)) > 0)
        damage = np.exp2(readings.raw("disparity", weights)[:, rows])
        additive = damage.copy()
        additive[:, 3] = damage[:, 1] + damage[:, 2] - damage[:, 0]
        logs = np.log2(np.where(additive > 0, additive, np.nan))
        null = (logs - logs[..., :1])[..., others].mean(-1)
        return _interaction(observed) - _interaction(null)

    if measure == "original":
        return Sampled(readings, origins, "additive misfit less multiplicative misfit")
    return Sampled(readings, against_additive, UNITS[measure])


def _interaction(cells: Floats) -> Floats:
    """Returns how much lower the fourth cell is than the other three would add up to, (W)."""
    none, first, last, both = np.abs(cells).T
    return first + last - none - both


KINDS = ("mlp", "attention", "only")
"""Profiles of what is left with one block, or half of it, protected."""


def _left_by_block(case: Case, readings: Readings, measure: Measure, kind: str) -> Statistic:
    """Returns the disparity left with one block, or half of it, protected: weights to (W x L)."""
    plans = [f"{kind}-{block}" for block in range(case.n_blocks)]
    for plan in plans:
        readings.row(plan)
    return lambda weights: sized(readings.value(measure, plans, weights), measure)


def _point(case: Case, readings: Readings, measure: Measure, kind: str = "only") -> Floats:
    ones = np.ones((1, readings.scores.n_sentences))
    return _left_by_block(case, readings, measure, kind)(ones)[0]


def _profile(case: Case, name: str) -> Floats:
    if name not in case.profiles:
        raise Untestable(f"the {name} of blocks was not measured")
    return case.profiles[name]


def variance(case: Case, readings: Readings, measure: Measure) -> Estimate:
    """Returns how blocks' variance goes with the disparity left when each alone is protected.

    Raw variance and plain correlation as in the origin; gauge-fixed and detrended in ours.
    """
    x = _profile(case, "variance" if measure == "original" else "log_variance_fixed")
    return block_correlation(x, _point(case, readings, measure), measure)


def snr(case: Case, readings: Readings, measure: Measure) -> Estimate:
    """Returns how blocks' signal-to-noise ratio goes with the disparity left, as above."""
    x = _profile(case, "snr_original" if measure == "original" else "snr_disparity")
    return block_correlation(x, _point(case, readings, measure), measure)


def design_of(case: Case) -> Floats:
    """Returns the origin's regressors, (L x 5): constant, variance, outliers, sparsity, position.

    Predictors run from 0 to 1, as ``norm`` did in the origin.

    Raises:
        Untestable: If fewer than two blocks more than that.
    """
    n = case.n_blocks
    columns = [_profile(case, name) for name in ("variance", "outlier_ratio", "sparsity")]
    if n < 7:
        raise Untestable(f"{n} blocks are too few for four predictors and a constant")
    scaled = [(x - x.min()) / (np.ptp(x) or 1.0) for x in (*columns, depths(n))]
    return np.stack([np.ones(n), *scaled], axis=1)


def regressed(read: Callable[[Floats, Floats], Floats]) -> Callable[..., Sampled]:
    """Returns the quantity that something reads off the origin's regression on blocks.

    Args:
        read: From the design (L x 5) and responses (W x L), log(disparity left + 1), to (W).
    """

    def quantity(case: Case, readings: Readings, measure: Measure) -> Sampled:
        design = design_of(case)
        left = _left_by_block(case, readings, measure, "only")

        def statistic(weights: Floats) -> Floats:
            values = left(weights) + 1
            return read(design, np.log(np.where(values > 0, values, np.nan)))

        return Sampled(readings, statistic, "of log(disparity + 1)")

    return quantity


def kurtosis_over_limit(case: Case, readings: Readings, measure: Measure) -> Estimate:
    """Returns by how much the last block's kurtosis exceeds what middle blocks would predict.

    Against their mean as in the origin, against a line through them in ours.
    """
    z, limit, unit = kurtosis_z(_profile(case, "kurtosis"), trend=measure != "original")
    return Estimate(
        value=z - limit,
        unit=f"{unit}, less the limit {limit:.2f}",
        n=case.n_blocks,
        method=NO_SAMPLING,
        reason="one model's weights have no sampling error",
    )


def kurtosis_z(values: Floats, *, trend: bool) -> tuple[float, float, str]:
    """Returns how far the last block is from the middle ones, and the 97.5 % prediction limit.

    Args:
        values: Kurtosis of every block, (L).
        trend: Against a straight line through the middle blocks instead of their mean, without
            which a steady drift makes ends extreme (method, T-005).

    Raises:
        Untestable: If there are fewer than three middle blocks more than the fit takes.
    """
    middle, r = values[1:-1], depths(len(values))
    terms = 1 + int(trend)
    if len(middle) < terms + 2:
        raise Untestable(f"{len(middle)} middle blocks are too few to predict the last from")
    design = np.vander(r[1:-1], terms)
    fitted, *_ = np.linalg.lstsq(design, middle, rcond=None)
    dof = len(middle) - terms
    spread = float(np.sqrt(((middle - design @ fitted) ** 2).sum() / dof))
    if spread == 0:
        raise Untestable("the middle blocks do not vary")
    last = np.vander(r[-1:], terms)[0]
    leverage = float(last @ np.linalg.inv(design.T @ design) @ last)
    limit = float(stats.t.ppf(0.975, dof)) * float(np.sqrt(1 + leverage))
    return float((values[-1] - last @ fitted) / spread), limit, "standard deviations"


def table_quantity(case: Case, table: Table, measure: Measure) -> Estimate:
    """Returns the rank correlation of one of the origin's per-block tables with this model's.

    Raises:
        Untestable: If this model has no such profile.
    """
    x = np.interp(depths(case.n_blocks), depths(len(table.values)), table.values)
    y = profile_of(case, table, measure)
    return correlation(stats.rankdata(x), stats.rankdata(y), "blocks, of ranks")


def profile_of(case: Case, table: Table, measure: Measure) -> Floats:
    """Returns this model's profile that a table is held against, (L)."""
    if table.profile in KINDS:
        readings = case.readings((table.profile,), measure)
        return _point(case, readings, measure, table.profile)
    if measure != "original":
        raise Untestable("raw weights depend on the gauge; our measure has no such number")
    return _profile(case, table.profile)


QUANTITIES: Mapping[str, Callable[[Case, Readings, Measure], Quantity]] = {
    "Hebrew over English": _hebrew,
    "low over high resource": _low_over_high,
    "r with resources": _resources,
    "share of better triples": _better_triples,
    "r of variance": variance,
    "R2 over its null": regressed(
        lambda x, y: regression(x, y)[0] - null_r2(len(x), x.shape[1] - 1)
    ),
    "leave-one-out R2": regressed(lambda x, y: regression(x, y)[1]),
    "coefficient of variance": regressed(lambda x, y: regression(x, y)[2][:, 1]),
    "r of SNR": snr,
    "kurtosis over its limit": kurtosis_over_limit,
    "heavier tails": _heavier_tails,
    "rich gain more": _rich_gain,
    "r of alignment": _alignment,
    "r of outliers": _outliers,
    "INT8 over whole": _eight_bits,
    "multiplicative over additive": _multiplicative,
}

WITHOUT_GAP = {"kurtosis over its limit", "heavier tails"}
"""Quantities that are no damage, so that G cannot agree or disagree."""
