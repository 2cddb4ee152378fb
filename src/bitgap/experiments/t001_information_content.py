"""T-001 · H1.1: do blocks of high weight variance carry more usable information?

Prediction: the more the weights of a block vary, the more its output tells about the input. For a
deterministic network I(X; h) is constant (Goldfeld 2019), and differential entropy shifts by
d log c under scaling, so it would track variance by construction. Method: (i) usable information
I_V = Ĥ(Y) − CE(Y|h) (Xu 2020) in bits per token, Y the current and the previous token as the most
frequent types and one class for all others, read by multinomial logistic regression on standardised
principal components, trained on calibration sentences and measured on the others, one penalty for
all blocks; beside it the R² of a ridge regression to the input embedding on token types it was not
fitted on. (ii) The noise-limited rate ½log2 det(I + Σ/σ²), σ² the measured error variance when all
blocks are rounded: Gaussian bits that survive (Yu 2020). (iii) Spectra that no scale moves: RankMe
(Garrido 2023), matrix Rényi-2 and prompt entropy (Skean 2025) of centred Gram matrices, and a
nearest-neighbour entropy of 16 whitened components. θ = r(log variance with its gauge fixed, I_V),
I_V the mean of both Y, both profiles detrended in depth. Gauge fixing folds norm gains into the
matrices that read them and balances value/output and gated up/down. Support also needs the
correlation to stay above 0 when test sentences are resampled, and that a smaller probe agrees.

Unit and direction: a correlation over blocks, > 0 supports H1.1. Cost: one forward pass, shared,
and a pass of two plans, no head; the random twin's, on a few sentences, comes on top. Refuted in
this model if the correlation's interval lies below .5 and planted information was found. Not
testable where the probe reads nothing. The interval and p are approximate: blocks are few and
their profiles smooth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.errors import UsageError
from bitgap.experiments.charts import lines, points, side_by_side
from bitgap.experiments.experiment import Cost, Experiment
from bitgap.experiments.information_controls import SmallProbe, controls, measure_controls
from bitgap.experiments.information_readings import (
    Readable,
    chosen_penalty,
    read_bits,
    readable_blocks,
    spectra,
    surviving_bits,
    tokens_of,
)
from bitgap.lab.tree import PlanTree
from bitgap.quant.plan import Plan
from bitgap.records import Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import Statistic, estimate
from bitgap.stats.profiles import (
    ProfileCorrelation,
    correlate_profiles,
    detrend,
    smallest_p_of_correlation,
)
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

if TYPE_CHECKING:
    from bitgap.lab.activations import Activations
    from bitgap.lab.lab import Lab

ID = "T-001"

LABELS = ("current", "previous")


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    n_types: int = 256
    """Types with a class of their own; rarer ones have too few tokens to fit on a sample's text."""
    n_components: int = 128
    """Principal components that the probe reads; more than a quarter of the tokens it is fitted on
    would let it learn noise."""
    strengths: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
    """Inverse L2 penalties to choose from; from hardly more than the marginal to hardly any."""
    rate_sentences: int = 16
    """Sentences that rounding error is measured on; a variance needs fewer than a probe."""
    control_sentences: int = 48
    """Sentences that the random twin is read on; as many as T-009's, so one pass serves both."""
    small_types: int = 16
    """Types of the controls' probe, which is fitted some three hundred times."""
    small_components: int = 16
    """Principal components of the controls' probe, in proportion to its types."""
    planted_gain: float = 1.0
    """Planted noise falls by e for one standard deviation of log variance: over the
    blocks from some e² to e⁻² times the state, the range between a blind probe and a seeing one."""
    planted_seeds: int = 20
    """How often information is planted, with other noise each time; the method's number."""


# -- measurement ----------------------------------------------------------------------------------


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures what states of every block's output tell, and how weights vary.

    Arrays, with N test sentences: ``bits`` (2 x L x N), usable bits about the current and previous
    token summed over test tokens, and ``tokens`` (L x N), how many; by block, (L): ``rate_bits``,
    ``embedding_r2``, ``rank_me``, ``renyi2_bits``, ``prompt_bits``, ``knn_nats``,
    ``histogram_bits``, ``log_variance_fixed``, ``log_variance_raw``; and those of
    :func:`bitgap.experiments.information_controls.measure_controls`.

    Raises:
        UsageError: If there is no sentence to train or none to test on.
    """
    from bitgap.models.gauge import gauge_fixed_log_variance, raw_log_variance

    calibration, test = lab.corpus.split_of(lab.text.kept)
    if not (len(calibration) and len(test)):
        raise UsageError(
            f"{ID} trains probes on some sentences and measures on others, and of "
            f"{lab.corpus.n_sentences} sentences {len(calibration)} are left for the one and "
            f"{len(test)} for the other; give more"
        )
    found, seed = lab.activations(), lab.settings.seed
    blocks = readable_blocks(found, calibration, params.n_components, seed)
    bits, strengths = _usable(found, blocks, params)
    variance = gauge_fixed_log_variance(lab.decoder)
    small = SmallProbe(
        n_types=params.small_types, n_components=params.small_components, strength=strengths[0]
    )
    twins = measure_controls(
        lab,
        blocks,
        variance,
        small,
        n_components=params.n_components,
        n_sentences=params.control_sentences,
        n_plantings=params.planted_seeds,
        gain=params.planted_gain,
    )
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={
            "bits": np.ascontiguousarray(bits[:, :, test]),
            "tokens": np.ascontiguousarray(tokens_of(blocks, found)[:, test]),
            "rate_bits": surviving_bits(lab, scheme, params.rate_sentences),
            **spectra(found, blocks, seed),
            "log_variance_fixed": variance,
            "log_variance_raw": raw_log_variance(lab.decoder),
            **twins,
        },
        facts={
            "scheme": scheme,
            "n_blocks": lab.n_blocks,
            "width": lab.decoder.width,
            "n_train": int(blocks[0].split.train.sum()),
            "n_test": int(blocks[0].split.test.sum()),
            "strengths": strengths,
            "params": asdict(params),
        },
    )


def _usable(
    found: Activations, blocks: list[Readable], params: Params
) -> tuple[Floats, list[float]]:
    """Returns usable bits (2 x L x sentences) about both labels, and the penalties chosen."""
    n, out, chosen = int(found.sentence.max()) + 1, [], []
    for labels in (found.token, found.previous):
        strength = chosen_penalty(blocks, labels, params.n_types, params.strengths)
        chosen.append(strength)
        out.append(
            [read_bits(b, labels, params.n_types, strength, found.sentence, n) for b in blocks]
        )
    return np.array(out), chosen


# -- judgement ------------------------------------------------------------------------------------


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H1.1: the correlation of gauge-fixed log variance with usable information."""
    declared, arrays, facts = thresholds.of("H1.1"), observations.arrays, observations.facts
    profile = usable_profile(arrays["bits"], arrays["tokens"])
    bits = profile(np.ones((1, arrays["tokens"].shape[1])))[0]  # (labels x L)
    variance = arrays["log_variance_fixed"]
    theta = correlate_profiles(variance, bits.mean(0), thresholds.level)
    n = arrays["tokens"].shape[1]
    mean = _mean_bits(profile, n, thresholds)
    resampled = _by_sentence(profile, variance, n, thresholds)
    checks = controls(arrays, facts, theta.estimate, declared["sesoi"], thresholds)
    part = Part(
        name="r(log variance, usable information)",
        estimate=theta.estimate,
        sesoi=declared["sesoi"],
        p=theta.p,
        p_minimum=smallest_p_of_correlation(theta.dof),
    )
    beside = {
        "variance_and_current_token": bits[0],
        "variance_and_previous_token": bits[1],
        "variance_and_surviving_bits": arrays["rate_bits"],
        "variance_and_embedding": arrays["embedding_r2"],
        "variance_and_rank": arrays["rank_me"],
    }
    return Finding(
        experiment=ID,
        hypothesis="H1.1",
        title=EXPERIMENT.title,
        primary="variance_and_information",
        estimates={
            "variance_and_information": theta.estimate,
            "variance_and_information_by_sentence": resampled,
            "usable_bits": mean,
            **{
                name: correlate_profiles(variance, values, thresholds.level).estimate
                for name, values in beside.items()
            },
        },
        seed_measure=_seed_measure(arrays),
        controls=tuple(checks),
        verdict=judge_parts(
            [part],
            checks,
            alpha=thresholds.alpha,
            gate=_gate(mean),
            extra=(
                resampled.low is not None and resampled.low > 0,
                "the correlation is not clearly above 0 when sentences are resampled",
            ),
        ),
        sentence=_sentence(theta, mean),
        tables={"blocks": _table(arrays, bits), "width": facts["width"]},
        thresholds_hash=thresholds.hash,
    )


def usable_profile(bits: Floats, tokens: Floats) -> Statistic:
    """Returns weights (W x N) -> usable bits per token, (W x labels x L).

    Args:
        bits: Sums over test tokens, (labels x L x N).
        tokens: How many, (L x N).
    """

    def statistic(weights: Floats) -> Floats:
        counts = weights @ tokens.T
        sums = np.einsum("wn,yln->wyl", weights, bits)
        return sums / np.where(counts > 0, counts, np.nan)[:, None]

    return statistic


def _mean_bits(profile: Statistic, n: int, thresholds: Thresholds) -> Estimate:
    how = {"seed": 0, "draws": thresholds.draws, "level": thresholds.level}
    return estimate(
        lambda w: profile(w).mean((1, 2)), n, unit="bits per token, mean over blocks", **how
    )


def _by_sentence(profile: Statistic, variance: Floats, n: int, thresholds: Thresholds) -> Estimate:
    """Returns the correlation with an interval from test sentences: what text alone leaves open."""
    wanted = detrend(variance)

    def correlation(weights: Floats) -> Floats:
        bits = profile(weights).mean(1)
        left = bits - bits @ trend
        above = left @ wanted
        below = np.sqrt((left**2).sum(1) * (wanted**2).sum())
        return above / np.where(below > 0, below, np.nan)

    # Detrending is linear: the columns of this matrix are what it takes from each block.
    trend = np.eye(len(variance)) - np.array([detrend(row) for row in np.eye(len(variance))])
    how = {"seed": 0, "draws": thresholds.draws, "level": thresholds.level}
    return estimate(correlation, n, unit="correlation over layers, detrended in depth", **how)


def _gate(mean: Estimate) -> str | None:
    if mean.value is None:
        return "usable information is undefined on this text"
    low = mean.value if mean.low is None else mean.low
    if low > 0:
        return None
    return f"the probe reads nothing: {mean.value:+.3f} bits per token, not clearly above 0"


def _seed_measure(arrays: Mapping[str, Floats]) -> dict[str, Estimate]:
    """Returns the origin's link: plain Pearson of raw variance and histogram entropy."""
    why = "the origin gave no uncertainty; not detrended, and scaled states move it"
    variance, entropy = np.exp(arrays["log_variance_raw"]), arrays["histogram_bits"]
    n, varies = len(entropy), np.ptp(variance) > 0 and np.ptp(entropy) > 0 and len(entropy) > 2
    r = float(np.corrcoef(variance, entropy)[0, 1]) if varies else None
    return {
        "r_raw_variance_and_histogram_entropy": Estimate(
            value=r, unit="correlation over layers", n=n, reason=why
        ),
        "mean_histogram_entropy": Estimate(
            value=float(entropy.mean()), unit="bits per unit", n=n, reason=why
        ),
    }


def _sentence(theta: ProfileCorrelation, mean: Estimate) -> str:
    r = theta.estimate.value
    told = "undefined" if r is None else f"r = {r:+.2f}"
    bits = "undefined" if mean.value is None else f"{mean.value:.2f} bits per token"
    return (
        f"A probe reads {bits} about the current and the previous token off an average block, and "
        f"across blocks weight variance goes with it by {told}."
    )


def _table(arrays: Mapping[str, Floats], bits: Floats) -> list[dict[str, float | int | None]]:
    columns = {
        **{f"usable_bits_{name}": values for name, values in zip(LABELS, bits, strict=True)},
        **{
            name: arrays[name]
            for name in ("rate_bits", "embedding_r2", "rank_me", "renyi2_bits", "prompt_bits",
                         "knn_nats", "histogram_bits", "log_variance_fixed", "log_variance_raw")
        },
    }  # fmt: skip
    return [
        {"block": block}
        | {
            name: float(values[block]) if np.isfinite(values[block]) else None
            for name, values in columns.items()
        }
        for block in range(bits.shape[1])
    ]


# -- figure ---------------------------------------------------------------------------------------


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns bits by depth, and usable bits against gauge-fixed variance."""
    table, width = finding.tables["blocks"], finding.tables["width"]
    curves = {
        "current token": ("usable_bits_current", 1),
        "previous token": ("usable_bits_previous", 1),
        "survive rounding, per dimension": ("rate_bits", width),
    }
    depth = lines(
        [
            {"block": row["block"], "bits": row[field] / scale, "what": name}
            for row in table
            for name, (field, scale) in curves.items()
            if row[field] is not None
        ],
        title="What a block's output tells",
        x="block",
        y="bits",
        series="what",
        x_title="output of block",
        y_title="bits per token",
    )
    # Axes are logarithmic, so a block whose probe reads less than nothing has no place there.
    dots = [
        {"block": row["block"], "variance": float(np.exp(row["log_variance_fixed"])), "bits": mean}
        for row in table
        if (mean := _both(row)) is not None and mean > 0
    ]
    if not dots:
        return depth
    scatter = points(
        dots,
        title="Usable information against weight variance",
        x="variance",
        y="bits",
        label="block",
        x_title="gauge-fixed weight variance, standardised",
        y_title="usable bits per token, mean of both",
    )
    return side_by_side(depth, scatter)


def _both(row: Mapping[str, Any]) -> float | None:
    values = [row[f"usable_bits_{name}"] for name in LABELS]
    return None if None in values else float(np.mean(values))


def _block_evaluations(n: int) -> int:
    plans = [Plan.uniform("fp", n), Plan.uniform("rtn4-g128", n)]
    return n + PlanTree(plans).work().block_evaluations


EXPERIMENT = Experiment(
    id=ID,
    hypothesis="H1.1",
    title="Information content",
    question="Do blocks of high weight variance carry more usable information?",
    phase=1,
    value="medium",
    cost=Cost(block_evaluations=_block_evaluations, head_evaluations=lambda n: 0),
    params=Params(),
    measure=measure,
    judge=judge,
    figure=figure,
    profile=lambda finding: [_both(row) for row in finding.tables["blocks"]],
)
