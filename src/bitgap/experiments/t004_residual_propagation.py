"""T-004 · H2.1: do errors of the first block travel, so that protecting L0 makes L_last worth it?

Prediction: with the last block protected, protecting block 0 as well brings the final state closer
to full precision than protecting any other block would, and makes the last block's protection worth
more. Method: the state after every block is compared with full precision under {last} and under
{j, last} for every j, as a signal-to-noise ratio of states standardised dimension by dimension (so
that no massive dimension decides), position 0 and sinks left out. θ1 is the gain of protecting 0
over the mean gain of protecting another block, in dB, at the last block's output. θ2 is how much
more the last block's protection saves when 0 is protected than when another block is, in units of
K(∅): the interaction I_j = [K({j}) − K({j,last})] − [K(∅) − K({last})], I_0 less the mean I_j. Both
must pass (intersection–union). Amplification A(j→l) comes from Gaussian noise of one relative size
in block j alone.

Sources: Arai & Ichikawa 2025 (error propagation), Basu 2026 (per-layer error ratio), Murphy 2024
(debiased CKA). Unit and direction: dB and share of K(∅), both > 0 if H2.1 holds. Cost: two streams
of L + 1 plans plus L noisy ones, and 2L scored plans, shared with the map. Refuted if either
interval lies below its smallest effect of interest: errors of block 0 then travel like any other's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.errors import UnsupportedArchitecture
from bitgap.experiments.charts import lines
from bitgap.experiments.experiment import Cost, Experiment
from bitgap.quant.plan import Plan
from bitgap.records import Control, Estimate, Finding, Floats, Observations
from bitgap.stats.bootstrap import bootstrap_weights, estimates
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

ID = "T-004"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    noise: float = 0.05
    """Relative size of the injected noise; inside the range where damage is quadratic (T-002)."""
    planted_factor: float = 64.0
    """Scale of the planted o-columns of the positive control P1; a power of two, so exact."""
    control_sentences: int = 12
    """Sentences the twins are run on; a planted factor of 64 shows on few."""


# -- measurement ----------------------------------------------------------------------------------


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures errors of the state by depth, and damage of the 2L masks.

    Arrays, with J = L masks ({last}, then {j, last} for j = 0 … L−2): those of
    :func:`bitgap.lab.propagation.state_errors`; ``amplification`` (L x L+1), relative error after
    block l per unit after block j; ``kl`` (2L x A x N) of ∅, {last}, {j}, {j, last}; the first
    again as ``planted_``, ``random_`` and ``unplanted_`` on a few sentences.
    """
    from bitgap.lab.propagation import amplification, state_errors

    sets = _scored_sets(lab.n_blocks)
    scores = lab.score([Plan.uniform(scheme, lab.n_blocks, s) for s in sets], ID)
    controls, absent = _measure_controls(lab, scheme, params)
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays={
            **state_errors(lab, _masks(scheme, lab.n_blocks)),
            "amplification": amplification(lab, params.noise),
            "kl": scores.kl_nats,
            **controls,
        },
        facts={
            "scheme": scheme,
            "n_blocks": lab.n_blocks,
            "languages": list(lab.languages),
            "params": asdict(params),
            **absent,
        },
    )


def _masks(scheme: str, n_blocks: int) -> list[Plan]:
    last = n_blocks - 1
    sets = [(last,), *((j, last) for j in range(last))]
    return [Plan.uniform(scheme, n_blocks, protect) for protect in sets]


def _scored_sets(n_blocks: int) -> list[tuple[int, ...]]:
    last = n_blocks - 1
    singles = [(j,) for j in range(last)]
    return [(), (last,), *singles, *((j, last) for j in range(last))]


def _measure_controls(
    lab: Lab, scheme: str, params: Params
) -> tuple[dict[str, Floats], dict[str, str]]:
    """Returns errors on the planted and the random twin, and why one could not be made."""
    from bitgap.lab.propagation import state_errors
    from bitgap.models.gauge import loaded_with, plant_fragility, random_twin

    few = lab.on(sentences=range(min(params.control_sentences, lab.corpus.n_sentences)))
    arrays: dict[str, Floats] = {}
    absent: dict[str, str] = {}
    for name in ("unplanted", "planted", "random"):
        try:
            twin = few
            if name == "planted":
                planted = plant_fragility(
                    lab.loaded.model,
                    lab.decoder,
                    0,
                    factor=params.planted_factor,
                    seed=lab.settings.seed,
                )
                twin = few.twin(loaded_with(lab.loaded, planted, name))
            elif name == "random":
                model = random_twin(lab.loaded.model, seed=lab.settings.seed)
                twin = few.twin(loaded_with(lab.loaded, model, name))
        except UnsupportedArchitecture as error:
            absent[f"no_{name}"] = str(error)
            continue
        found = state_errors(twin, _masks(scheme, lab.n_blocks))
        arrays |= {f"{name}_{key}": found[key] for key in ("error", "tokens")}
    return arrays, absent


# -- judgement ------------------------------------------------------------------------------------


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H2.1: θ1 ≥ 1 dB and θ2 ≥ .02 K(∅), both clearly."""
    declared = thresholds.of("H2.1")
    arrays, facts = observations.arrays, observations.facts
    snr = _snr_contrast(arrays["error"], arrays["tokens"])
    interaction = _interaction_contrast(arrays["kl"], facts["n_blocks"])
    n = arrays["kl"].shape[-1]
    how = {"seed": 0, "draws": thresholds.draws, "level": thresholds.level}
    theta1 = estimates(lambda w: snr(w)[:, :1], n, unit="dB", **how)[0]
    theta2 = estimates(lambda w: interaction(w)[:, :1], n, unit="share of K(none)", **how)[0]
    controls = _controls(observations, thresholds, snr, theta1)
    parts = [
        _part("SNR contrast of block 0", theta1, declared["sesoi"], snr, n, thresholds),
        _part("interaction of block 0 with the last", theta2, declared["sesoi_interaction"],
              interaction, n, thresholds),
    ]  # fmt: skip
    verdict = judge_parts(parts, controls, alpha=thresholds.alpha)
    return Finding(
        experiment=ID,
        hypothesis="H2.1",
        title=EXPERIMENT.title,
        primary="snr_contrast",
        estimates={
            "snr_contrast": theta1,
            "interaction": theta2,
            "snr_contrast_after_norm": _after_norm(arrays, n, how),
            "snr_contrast_with_sinks": _with_sinks(arrays, n, how),
        },
        seed_measure=_seed_measure(arrays),
        controls=tuple(controls),
        verdict=verdict,
        sentence=_sentence(theta1, theta2, parts),
        tables=_tables(observations, snr, interaction, n),
        thresholds_hash=thresholds.hash,
    )


def _snr_contrast(error: Floats, tokens: Floats, depth: int = -2) -> Any:
    """Returns weights -> (W x L−1) dB: ΔSNR_j less the mean ΔSNR of the other blocks.

    States are standardised, so signal power is 1 per dimension and SNR = −10 log10 of the mean
    squared error. ``depth`` −2 is the last block's output, −1 what the head sees.
    """
    sums, counts = error[:, depth].sum(1), tokens[depth].sum(0)

    def contrast(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            snr = -10 * np.log10((weights @ sums.T) / (weights @ counts)[:, None])
        return _against_others(snr[:, 1:] - snr[:, :1])

    return contrast


def _interaction_contrast(kl: Floats, n_blocks: int) -> Any:
    """Returns weights -> (W x L−1): (I_j − mean of other I)/K(∅), K averaged over languages."""
    sums = kl.mean(1)
    last = n_blocks - 1

    def contrast(weights: Floats) -> Floats:
        k = weights @ sums.T
        none, only_last = k[:, :1], k[:, 1:2]
        alone, both = k[:, 2 : 2 + last], k[:, 2 + last :]
        gains = ((alone - both) - (none - only_last)) / none
        return _against_others(gains)

    return contrast


def _against_others(values: Floats) -> Floats:
    n = values.shape[1]
    return (values - values.mean(1, keepdims=True)) * n / (n - 1)


def _part(
    name: str, theta: Estimate, sesoi: float, contrast: Any, n: int, thresholds: Thresholds
) -> Part:
    """Returns the part with a bootstrap p: the share of draws at or below 0 (Phipson & Smyth)."""
    draws = contrast(bootstrap_weights(n, thresholds.draws, 0))[:, 0]
    p = (1 + int((draws <= 0).sum())) / (1 + thresholds.draws)
    return Part(name=name, estimate=theta, sesoi=sesoi, p=p, p_minimum=1 / (1 + thresholds.draws))


def _after_norm(arrays: Mapping[str, Floats], n: int, how: Mapping[str, Any]) -> Estimate:
    contrast = _snr_contrast(arrays["error"], arrays["tokens"], depth=-1)
    return estimates(lambda w: contrast(w)[:, :1], n, unit="dB", **how)[0]


def _with_sinks(arrays: Mapping[str, Floats], n: int, how: Mapping[str, Any]) -> Estimate:
    contrast = _snr_contrast(arrays["error_with_sinks"], arrays["tokens"])
    return estimates(lambda w: contrast(w)[:, :1], n, unit="dB", **how)[0]


def _seed_measure(arrays: Mapping[str, Floats]) -> dict[str, Estimate]:
    why = "the origin gave no uncertainty"
    unit = "mean cosine with full precision"
    cosine = arrays["cosine"]
    return {
        "cosine_last": Estimate(value=float(cosine[0]), unit=unit, reason=why),
        "cosine_0_and_last": Estimate(value=float(cosine[1]), unit=unit, reason=why),
    }


def _controls(
    observations: Observations, thresholds: Thresholds, snr: Any, theta1: Estimate
) -> list[Control]:
    arrays, facts = observations.arrays, observations.facts
    how = {"seed": 0, "draws": thresholds.draws, "level": thresholds.level, "unit": "dB"}
    n = arrays["kl"].shape[-1]
    rival = estimates(lambda w: snr(w)[:, :1] - snr(w)[:, 1:3].max(1, keepdims=True), n, **how)[0]
    early = Control(
        name="early-interior blocks",
        kind="negative",
        passed=rival.low is not None and rival.low > 0,
        detail="block 0 should gain more than blocks 1 and 2, or it is depth and not a gateway",
        estimate=rival,
    )
    sesoi = thresholds.of("H2.1")["sesoi"]
    return [early, _random_control(arrays, facts, sesoi, how), _planted(arrays, facts, sesoi, how)]


def _contrast_of(arrays: Mapping[str, Floats], name: str, how: Mapping[str, Any]) -> Estimate:
    contrast = _snr_contrast(arrays[f"{name}_error"], arrays[f"{name}_tokens"])
    n = arrays[f"{name}_error"].shape[-1]
    return estimates(lambda w: contrast(w)[:, :1], n, **how)[0]


def _random_control(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], sesoi: float, how: Mapping[str, Any]
) -> Control:
    name, detail = "random-init twin", "an untrained twin should show no contrast of block 0"
    if "random_error" not in arrays:
        return Control(name=name, kind="negative", passed=None, detail=facts["no_random"])
    found = _contrast_of(arrays, "random", how)
    shows = found.value is not None and found.value >= sesoi and (found.low or 0) > 0
    return Control(name=name, kind="negative", passed=not shows, detail=detail, estimate=found)


def _planted(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], sesoi: float, how: Mapping[str, Any]
) -> Control:
    name = "P1: block 0 made fragile, function unchanged"
    if "planted_error" not in arrays:
        return Control(name=name, kind="positive", passed=None, detail=facts["no_planted"])
    found = _contrast_of(arrays, "planted", how)
    before = _contrast_of(arrays, "unplanted", how)
    rose = found.value is not None and (before.value is None or found.value > before.value)
    passed = rose and found.low is not None and found.low > 0 and (found.value or 0) >= sesoi
    return Control(
        name=name,
        kind="positive",
        passed=bool(passed),
        detail=f"the contrast should rise to {sesoi:g} dB or more",
        estimate=found,
    )


def _sentence(theta1: Estimate, theta2: Estimate, parts: list[Part]) -> str:
    if theta1.value is None or theta2.value is None:
        return "The contrast is undefined on this text."
    travels = theta1.low is not None and theta1.low > 0 and theta1.value >= parts[0].sesoi
    conditional = theta2.low is not None and theta2.low > 0 and theta2.value >= parts[1].sesoi
    told = f"({theta1.value:+.2f} dB; interaction {theta2.value:+.3f} of the damage)"
    if travels and conditional:
        return f"Errors of block 0 travel, and protecting the last pays more without them {told}."
    if travels:
        return (
            f"Errors of block 0 travel further than others', but protecting the last block does "
            f"not depend on it {told}."
        )
    return f"Errors of block 0 reach the last state no more than those of other blocks {told}."


def _tables(
    observations: Observations, snr: Any, interaction: Any, n: int
) -> dict[str, list[dict[str, Any]]]:
    arrays, ones = observations.arrays, np.ones((1, n))
    error, tokens = arrays["error"].sum((2, 3)), arrays["tokens"].sum((1, 2))
    with np.errstate(divide="ignore"):
        db = -10 * np.log10(error / tokens)
    n_blocks = observations.facts["n_blocks"]
    names = [f"last ({n_blocks - 1})", *(f"{j} and last" for j in range(n_blocks - 1))]
    cka = arrays["cka"]
    return {
        "snr": [
            {"mask": name, "depth": depth, "snr_db": float(db[j, depth])}
            for j, name in enumerate(names)
            for depth in range(n_blocks + 1)
            if np.isfinite(db[j, depth])
        ],
        "blocks": [
            {
                "block": j,
                "snr_contrast_db": float(snr(ones)[0, j]),
                "interaction": float(interaction(ones)[0, j]),
                "cka": float(cka[j + 1]) if np.isfinite(cka[j + 1]) else None,
            }
            for j in range(n_blocks - 1)
        ],
        "amplification": [
            {"injected": j, "depth": depth, "ratio": float(arrays["amplification"][j, depth])}
            for j in range(n_blocks)
            for depth in range(j, n_blocks + 1)
        ],
    }


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns signal-to-noise ratio against depth for {last}, {0, last} and two others."""
    rows = list(finding.tables["snr"])
    names = list(dict.fromkeys(row["mask"] for row in rows))
    shown = {names[0], names[1], names[len(names) // 2], names[-1]}
    return lines(
        [row for row in rows if row["mask"] in shown],
        title="How errors travel, by protected blocks",
        x="depth",
        y="snr_db",
        series="mask",
        x_title="output of block (last point: after the final norm)",
        y_title="signal-to-noise ratio, dB",
    )


EXPERIMENT = Experiment(
    id=ID,
    hypothesis="H2.1",
    title="Residual propagation",
    question="Do errors of the first block travel, so that protecting it makes the last block's "
    "protection worth more?",
    phase=2,
    value="high",
    cost=Cost(
        block_evaluations=lambda n: 6 * n + n * (n + 1) // 2 * 3,
        head_evaluations=lambda n: 2 * n,
    ),
    params=Params(),
    measure=measure,
    judge=judge,
    figure=figure,
)
