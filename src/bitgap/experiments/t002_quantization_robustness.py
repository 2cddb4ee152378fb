"""T-002 · H1.2: are blocks of high weight variance more robust to rounding?

Prediction: relative rounding error is lower where weight variance is high. Note the sign: a block
that is more robust gains *less* from protection, so H1.2 contradicts the finding it is meant to
explain. Method: relative error RE = Σ‖ΔW‖²/Σ‖W‖² obeys RE = C²/(12q²) with C² the effective crest
factor² (Gersho & Gray 1992), which no rescaling changes; variance is compared after gauge fixing,
since raw variance is a free choice of gauge. Gaussian ΔW of relative size t in one block gives the
sensitivity α_l, the slope of damage on t²; then log k_l = log α_l + log t_l² + non-linearity splits
the damage of a block into how hard it is hit and how much it matters, with Lindeman–Merenda–Gold
shares of the variance over blocks. θ (both must pass): r(log variance, −log RE) and
r(log RE, log k_l), profiles detrended in depth.

Sources: Banner 2019, Malinovskii 2025 (linearity of damage in t²), Zhang 2025. Unit: correlation
over blocks, > 0 supports. Cost: L single-block plans, 3·seeds·L noisy half-passes. Supported also
needs an LMG share of t² of at least .5. Refuted if either correlation's interval lies below .5.
If the gauge intervention leaves D unchanged, "predicts" is all that may be said, never "causes".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.charts import bars
from bitgap.experiments.experiment import Cost, Experiment
from bitgap.quant.plan import Plan
from bitgap.quant.schemes import largest_level
from bitgap.records import Control, Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import estimates
from bitgap.stats.profiles import (
    ProfileCorrelation,
    correlate_profiles,
    lmg_shares,
    smallest_p_of_correlation,
)
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

ID = "T-002"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    noise: tuple[float, ...] = (0.02, 0.05, 0.1)
    """Relative sizes t of injected noise; the range in which damage was seen to be quadratic."""
    noise_seeds: int = 4
    """Draws of the noise for each size; four bring the slope's error under the layers' spread."""
    control_sentences: int = 12
    """Sentences the twins are scored on; a planted factor of 64 shows on few."""
    planted_factor: float = 64.0
    """Scale of the planted o-columns of P1; a power of two, so full precision is unchanged."""


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures weights, single-block damage and sensitivity to noise.

    Arrays: ``kl_single`` (L x A x N), only block l rounded; ``kl_protect`` (L+1 x A x N), nothing
    protected and then only block l; ``kl_noise`` (L x T x S x A x N); ``t2`` (L), relative error;
    ``re_tensor``, ``re_channel``, ``re_clipped`` (L); ``crest`` (L); ``kurtosis`` (L);
    ``log_variance_raw`` and ``log_variance_fixed`` (L); ``nll`` of the kl_protect plans and of full
    precision, tokens and characters, for the seed's measure; controls under ``planted_``,
    ``gauge_`` and ``shuffled_``.
    """
    n = lab.n_blocks
    single = [Plan.uniform(scheme, n, [i for i in range(n) if i != j]) for j in range(n)]
    protect = [Plan.uniform(scheme, n, s) for s in [(), *((j,) for j in range(n))]]
    noisy = [
        Plan.uniform(f"noise{t}-s{lab.settings.seed + s}", n, [i for i in range(n) if i != j])
        for j in range(n)
        for t in params.noise
        for s in range(params.noise_seeds)
    ]
    scores = lab.score([*single, *protect, *noisy], "T-002")
    grid = scores.kl_nats.shape[1:]
    control_arrays, control_facts = _measure_controls(lab, scheme, params)
    shape = (n, len(params.noise), params.noise_seeds, *grid)
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={
            "kl_single": scores.kl_nats[:n],
            "kl_protect": scores.kl_nats[n : 2 * n + 1],
            "kl_noise": scores.kl_nats[2 * n + 1 :].reshape(shape),
            "nll_protect": scores.nll_nats[n : 2 * n + 1],
            "nll_fp": scores.nll_fp_nats,
            "tokens": scores.counts.tokens,
            "characters": scores.counts.characters,
            **_weights(lab, scheme),
            **control_arrays,
        },
        facts={
            "scheme": scheme,
            "n_blocks": n,
            "languages": list(lab.languages),
            "params": asdict(params),
            "floor_nats": scores.floor_nats,
            **control_facts,
        },
    )


def _weights(lab: Lab, scheme: str) -> dict[str, Floats]:
    from bitgap.lab.weights import crest_factors, kurtoses, relative_errors
    from bitgap.models.gauge import gauge_fixed_log_variance, raw_log_variance

    bits = _bits(scheme)
    return {
        "t2": relative_errors(lab.decoder, scheme),
        "re_tensor": relative_errors(lab.decoder, f"rtn{bits}-tensor"),
        "re_channel": relative_errors(lab.decoder, f"rtn{bits}-channel"),
        "re_clipped": relative_errors(lab.decoder, f"rtn{bits}-g128-mse"),
        "crest": crest_factors(lab.decoder, scheme),
        "kurtosis": kurtoses(lab.decoder),
        "log_variance_raw": raw_log_variance(lab.decoder),
        "log_variance_fixed": gauge_fixed_log_variance(lab.decoder),
    }


def _bits(scheme: str) -> int:
    return int("".join(c for c in scheme.split("-")[0] if c.isdigit()))


def _measure_controls(
    lab: Lab, scheme: str, params: Params
) -> tuple[dict[str, Floats], dict[str, Any]]:
    """Returns damage on the planted, regauged and shuffled twins, and why one is absent."""
    from bitgap.lab.weights import relative_errors
    from bitgap.models import gauge

    few = lab.on(sentences=range(min(params.control_sentences, lab.corpus.n_sentences)))
    n, seed, model = lab.n_blocks, lab.settings.seed, lab.loaded.model
    single = [Plan.uniform(scheme, n, [i for i in range(n) if i != j]) for j in range(n)]
    block = int(np.random.default_rng(seed).integers(n))
    # Powers of two up to 8 either way: exact in floating point, and a range no optimiser leaves.
    factors = 2.0 ** np.random.default_rng(seed).integers(-3, 4, size=n)
    arrays = {"plain_kl": few.score([*single, Plan.uniform(scheme, n)], "T-002 controls").kl_nats}
    facts: dict[str, Any] = {"planted_block": block}
    makers = {
        "planted": lambda: gauge.plant_fragility(
            model, lab.decoder, block, factor=params.planted_factor, seed=seed
        ),
        "gauge": lambda: gauge.rescale_norms(lab.decoder, factors),
        "shuffled": lambda: gauge.shuffled_twin(lab.decoder, seed=seed),
    }
    for name, make in makers.items():
        try:
            twin = few.twin(gauge.loaded_with(lab.loaded, make(), name))
        except UnsupportedArchitecture as error:
            facts[f"no_{name}"] = str(error)
            continue
        plans = [*single, Plan.uniform(scheme, n)]
        arrays[f"{name}_kl"] = twin.score(plans, f"T-002 {name}").kl_nats
        if name == "shuffled":
            tensor = f"rtn{_bits(scheme)}-tensor"
            arrays["shuffled_re_tensor"] = relative_errors(twin.decoder, tensor)
    return arrays, facts


# -- judgement ------------------------------------------------------------------------------------


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H1.2: both correlations, and an LMG share of t² of at least one half."""
    declared, arrays = thresholds.of("H1.2"), observations.arrays
    log_t2 = np.log(arrays["t2"])
    log_k = np.log(_damage(arrays)(_ones(arrays)))[0]
    log_alpha = np.log(_alpha(observations)(_ones(arrays)))[0]
    variance = correlate_profiles(arrays["log_variance_fixed"], -log_t2, thresholds.level)
    reaches = correlate_profiles(log_t2, log_k, thresholds.level)
    share = _lmg(observations, thresholds)
    controls = _controls(observations)
    parts = [
        _part("r(log variance, −log RE)", variance, declared["sesoi"]),
        _part("r(log RE, log k)", reaches, declared["sesoi"]),
    ]
    enough = share.value is not None and share.value >= declared["lmg_share"]
    verdict = judge_parts(
        parts,
        controls,
        alpha=thresholds.alpha,
        extra=(enough, f"the share of t² in log k is under {declared['lmg_share']}"),
    )
    return Finding(
        experiment=ID,
        hypothesis="H1.2",
        title=EXPERIMENT.title,
        primary="variance_and_error",
        estimates={
            "variance_and_error": variance.estimate,
            "error_and_damage": reaches.estimate,
            "lmg_share_of_error": share,
            "excess_over_crest_law": _excess(observations),
        },
        seed_measure=_seed_measure(arrays),
        controls=tuple(controls),
        verdict=verdict,
        sentence=_sentence(variance, reaches, share),
        tables={"blocks": _table(observations, log_k, log_alpha)},
        thresholds_hash=thresholds.hash,
    )


def _ones(arrays: Mapping[str, Floats]) -> Floats:
    return np.ones((1, arrays["kl_single"].shape[-1]))


def _damage(arrays: Mapping[str, Floats]) -> Any:
    """Returns weights -> k_l, damage of block l alone, mean over languages, (W x L)."""
    sums = arrays["kl_single"].mean(1)
    return lambda weights: weights @ sums.T / _length(arrays, weights)


def _alpha(observations: Observations) -> Any:
    """Returns weights -> α_l, least-squares slope of damage on t² through the origin, (W x L)."""
    arrays = observations.arrays
    t2 = np.array(observations.facts["params"]["noise"]) ** 2
    per_size = arrays["kl_noise"].mean((2, 3))  # (L x T x N)
    slope = np.tensordot(t2, per_size, axes=(0, 1)) / (t2**2).sum()
    return lambda weights: weights @ slope.T / _length(arrays, weights)


def _length(arrays: Mapping[str, Floats], weights: Floats) -> Floats:
    return (weights @ arrays["characters"][0])[:, None] * np.log(2)


def _lmg(observations: Observations, thresholds: Thresholds) -> Estimate:
    """Returns the LMG share of log t² in log k_l, of what log α and log t² explain together."""
    damage, alpha = _damage(observations.arrays), _alpha(observations)
    log_t2 = np.log(observations.arrays["t2"])

    def share(weights: Floats) -> Floats:
        out = []
        for k, a in zip(damage(weights), alpha(weights), strict=True):
            shares = lmg_shares(np.log(k), [np.log(a), log_t2])
            out.append(shares[1] / shares.sum() if shares.sum() > 0 else np.nan)
        return np.array(out)[:, None]

    n = observations.arrays["kl_single"].shape[-1]
    # Each draw is two regressions, so fewer draws than for sums; the end's error is then 5 %.
    return estimates(share, n, unit="share", seed=0, draws=400, level=thresholds.level)[0]


def _part(name: str, found: ProfileCorrelation, sesoi: float) -> Part:
    return Part(
        name=name,
        estimate=found.estimate,
        sesoi=sesoi,
        p=found.p,
        p_minimum=smallest_p_of_correlation(found.dof),
    )


def _excess(observations: Observations) -> Estimate:
    """Returns the mean of log RE − log(C²/12q²): 0 where the high-resolution law holds."""
    q = largest_level(_bits(observations.facts["scheme"]))
    arrays = observations.arrays
    excess = np.log(arrays["t2"]) - np.log(arrays["crest"] / (12 * q**2))
    why = "a property of the weights alone; no sampling"
    return Estimate(value=float(excess.mean()), unit="nats", n=len(excess), reason=why)


def _seed_measure(arrays: Mapping[str, Floats]) -> dict[str, Estimate]:
    why = "the origin gave no uncertainty; plain Pearson over layers, not detrended"
    r = np.corrcoef(np.exp(arrays["log_variance_raw"]), arrays["re_tensor"])[0, 1]
    return {
        "r_variance_and_tensor_error": Estimate(value=float(r), unit="correlation", reason=why),
        "mean_tensor_error": Estimate(
            value=float(arrays["re_tensor"].mean()), unit="relative squared error", reason=why
        ),
    }


def _controls(observations: Observations) -> list[Control]:
    return [
        _gauge_control(observations),
        _shuffle_control(observations),
        _planted_control(observations),
    ]


def _gauge_control(observations: Observations) -> Control:
    arrays, name = observations.arrays, "gauge intervention"
    if "gauge_kl" not in arrays:
        why = observations.facts["no_gauge"]
        return Control(name=name, kind="invariance", passed=None, detail=why)
    same = bool(np.array_equal(arrays["gauge_kl"], arrays["plain_kl"]))
    return Control(
        name=name,
        kind="invariance",
        passed=same,
        detail="norms divided and matrices multiplied by powers of two: variance moves, damage "
        + ("did not, to the bit" if same else "moved, and should not"),
    )


def _shuffle_control(observations: Observations) -> Control:
    arrays, name = observations.arrays, "weights shuffled within matrices"
    if "shuffled_kl" not in arrays:
        why = observations.facts["no_shuffled"]
        return Control(name=name, kind="invariance", passed=None, detail=why)
    same = bool(np.allclose(arrays["shuffled_re_tensor"], arrays["re_tensor"], rtol=1e-5))
    plain, shuffled = (arrays[f"{k}_kl"][-1].sum() for k in ("plain", "shuffled"))
    return Control(
        name=name,
        kind="invariance",
        passed=same,
        detail=f"per-tensor error should stay while damage changes: error "
        f"{'stayed' if same else 'moved'}, damage went from {plain:.3g} to {shuffled:.3g} nats",
    )


def _planted_control(observations: Observations) -> Control:
    arrays, facts = observations.arrays, observations.facts
    name = "P1: one block made fragile, function unchanged"
    if "planted_kl" not in arrays:
        return Control(name=name, kind="positive", passed=None, detail=facts["no_planted"])
    damage = arrays["planted_kl"][:-1].sum((1, 2))
    before = arrays["plain_kl"][:-1].sum((1, 2))
    block = facts["planted_block"]
    return Control(
        name=name,
        kind="positive",
        passed=int(damage.argmax()) == block,
        detail=f"block {block} should be hit hardest: its damage rose "
        f"{damage[block] / before[block]:.1f} times, and block {int(damage.argmax())} leads",
    )


def _sentence(variance: ProfileCorrelation, reaches: ProfileCorrelation, share: Estimate) -> str:
    told = [
        "undefined" if r.estimate.value is None else f"{r.estimate.value:+.2f}"
        for r in (variance, reaches)
    ]
    part = "an unknown part" if share.value is None else f"{share.value:.0%}"
    return (
        f"Weight variance predicts robustness with r = {told[0]}, relative error predicts damage "
        f"with r = {told[1]}, and error size explains {part} of how damage differs between blocks; "
        f"variance can predict but never cause."
    )


def _table(
    observations: Observations, log_k: Floats, log_alpha: Floats
) -> list[dict[str, float | int]]:
    arrays = observations.arrays
    log_t2 = np.log(arrays["t2"])
    columns = {
        "log_k": log_k,
        "log_alpha": log_alpha,
        "log_t2": log_t2,
        "nonlinearity": log_k - log_alpha - log_t2,
        "crest": arrays["crest"],
        "kurtosis": arrays["kurtosis"],
        "re_tensor": arrays["re_tensor"],
        "re_channel": arrays["re_channel"],
        "re_clipped": arrays["re_clipped"],
        "log_variance_raw": arrays["log_variance_raw"],
        "log_variance_fixed": arrays["log_variance_fixed"],
    }
    return [
        {"block": block} | {name: float(values[block]) for name, values in columns.items()}
        for block in range(observations.facts["n_blocks"])
    ]


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns log k = log α + log t² + rest, stacked by block, each less its mean over blocks."""
    parts = {
        "log_alpha": "sensitivity log α",
        "log_t2": "error log t²",
        "nonlinearity": "non-linearity",
    }
    blocks = finding.tables["blocks"]
    means = {key: float(np.mean([row[key] for row in blocks])) for key in parts}
    rows = [
        {"block": row["block"], "value": row[key] - means[key], "part": name}
        for row in blocks
        for key, name in parts.items()
    ]
    return bars(
        rows,
        title="Why a block's damage differs from the mean block's",
        x="block",
        y="value",
        part="part",
        y_title="difference from the mean block, nats of log k",
    )


EXPERIMENT = Experiment(
    id=ID,
    hypothesis="H1.2",
    title="Quantization robustness",
    question="Are blocks of high weight variance more robust to rounding, and does that decide "
    "their damage?",
    phase=2,
    value="high",
    cost=Cost(
        block_evaluations=lambda n: (2 + 3 * 4) * n * (n + 1) // 2,
        head_evaluations=lambda n: (2 + 3 * 4) * n,
    ),
    params=Params(),
    measure=measure,
    judge=judge,
    figure=figure,
)
