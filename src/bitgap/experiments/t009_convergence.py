"""T-009 · H3.3: do languages meet at about three quarters of the depth?

Prediction: cross-lingual similarity of parallel sentences peaks at r ≈ .75. Method: sentence states
are token means; each language's mean and top three principal components, estimated on calibration
sentences, are removed, since anisotropy raises every raw cosine (Ethayarajh 2019). The profile is
the share of test sentences that find their English partner both ways and only it (strict
bidirectional retrieval; Kargaran 2024, MEXA), averaged over languages, less what a bag of
embeddings finds (shared names, digits, cognates); where retrieval saturates above .98 anywhere, the
profile is d′ = (mean parallel − mean non-parallel cosine)/SD instead. θ is whether the profile's
peak lies at r in [.65, .85]. CKA, ratio margin and raw cosines stand beside it: isotropic data and
a rotated copy with noise have CKA 1/(1+σ²) while retrieval is at chance, so the measures are not
interchangeable.

Unit and direction: a layer position r between 0 and 1; a hit supports H3.3. Cost: one forward pass.
Refuted in this model if the bootstrap interval of the peak's place lies wholly outside the window.
Prior: peaks in middle layers (Wendler 2024; Liu & Niehues 2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.experiments.charts import lines
from bitgap.experiments.experiment import Cost, Experiment
from bitgap.records import Control, Estimate, Finding, Floats, Integers, Observations, Verdict
from bitgap.stats.bootstrap import bootstrap_weights
from bitgap.stats.profiles import Peak, depths, in_window, locate_peak, window_share
from bitgap.stats.verdicts import THIS_MODEL, Thresholds

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab

ID = "T-009"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be chosen."""

    n_components: int = 3
    """Principal components removed per language; three as in the method, fitted on calibration."""
    planted_share: float = 0.5
    """How far the positive control pulls parallel sentences together at one layer."""
    control_sentences: int = 48
    """Sentences the random twin is run on; its profile is flat, so few will do."""
    wanted_sentences: int = 200
    """Test sentences the method asks for; fewer are used, and said."""


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures alignment by depth in full precision; the scheme plays no part.

    Arrays: see :func:`bitgap.lab.alignment.alignment_profile`, with L+1 depths of which the first
    is the embedding; the same under ``planted_`` (pulled together at the planted block) and
    ``random_`` (random-init twin).
    """
    from bitgap.lab.alignment import alignment_profile, pulled_together, sentence_states
    from bitgap.models.gauge import loaded_with, random_twin

    calibration, test = _kept_split(lab)
    states = sentence_states(lab)
    arrays = alignment_profile(states, calibration, test, params.n_components)
    planted_block = round(0.75 * (lab.n_blocks - 1))
    pulled = pulled_together(states, planted_block + 1, params.planted_share)
    planted = alignment_profile(pulled, calibration, test, params.n_components)
    few = lab.on(sentences=range(min(params.control_sentences, lab.corpus.n_sentences)))
    twin = few.twin(
        loaded_with(lab.loaded, random_twin(lab.loaded.model, lab.settings.seed), "random")
    )
    control = alignment_profile(sentence_states(twin), *_kept_split(twin), params.n_components)
    arrays |= {f"planted_{name}": planted[name] for name in ("hits", "separation")}
    arrays |= {f"random_{name}": control[name] for name in ("hits", "separation")}
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays=arrays,
        facts={
            "languages": list(lab.languages),
            "n_blocks": lab.n_blocks,
            "planted_block": planted_block,
            "n_calibration": len(calibration),
            "params": asdict(params),
        },
    )


def _kept_split(lab: Lab) -> tuple[Integers, Integers]:
    # Sentences dropped for their length shift the numbers; the rule is by number in the corpus.
    calibration, _ = lab.corpus.split()
    fitted = np.isin(lab.text.kept, calibration)
    return np.flatnonzero(fitted), np.flatnonzero(~fitted)


# -- judgement ------------------------------------------------------------------------------------


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H3.3 in this model: a hit whose interval lies inside the window, or wholly outside."""
    arrays, facts = observations.arrays, observations.facts
    window = thresholds.window
    saturated = float(arrays["hits"].mean((1, 2)).max()) > thresholds.of("H3.3")["saturation"]
    measure_name = "separation" if saturated else "hits"
    profile, draws = _profile(arrays[measure_name], thresholds)
    peak = locate_peak(draws, profile, thresholds.level)
    controls = _controls(arrays, facts, measure_name, thresholds)
    return Finding(
        experiment=ID,
        hypothesis="H3.3",
        title=EXPERIMENT.title,
        primary="peak_depth",
        estimates=_estimates(arrays, peak, profile, draws, thresholds),
        seed_measure=_seed_measure(arrays, facts),
        controls=tuple(controls),
        verdict=_verdict(peak, window, facts["n_blocks"], controls, thresholds),
        sentence=_sentence(peak, window, facts, arrays["hits"].shape[-1]),
        tables={"profile": _table(arrays, facts, measure_name, draws), "measure": measure_name,
                "window": list(window)},
        thresholds_hash=thresholds.hash,
    )  # fmt: skip


def _profile(values: Floats, thresholds: Thresholds) -> tuple[Floats, Floats]:
    """Returns the profile over blocks and its draws, embedding subtracted, (L) and (B x L)."""
    by_sentence = values.mean(1)  # (depths x n), over languages
    above = by_sentence[1:] - by_sentence[:1]
    weights = bootstrap_weights(above.shape[1], thresholds.draws, 0)
    return above.mean(1), weights @ above.T / above.shape[1]


def _verdict(
    peak: Peak,
    window: tuple[float, float],
    n_blocks: int,
    controls: list[Control],
    thresholds: Thresholds,
) -> Verdict:
    place, share = peak.place, window_share(n_blocks, window)
    assert place.value is not None and place.low is not None and place.high is not None
    hit = bool(in_window(np.array(place.value), window))
    made: dict[str, Any] = {
        "scope": THIS_MODEL,
        "sesoi": thresholds.of("H3.3")["sesoi"],
        "p": share if hit else 1.0,
        "p_minimum": share,
    }
    told = f"the peak is at r = {place.value:.2f} [{place.low:.2f}, {place.high:.2f}]"
    outside = place.high < window[0] - 1e-9 or place.low > window[1] + 1e-9
    detected = all(c.passed for c in controls if c.kind == "positive")
    if outside and detected:
        reason = f"{told}, wholly outside [{window[0]}, {window[1]}], and a planted one was found"
        return Verdict(label="refuted", reason=reason, **made)
    if outside:
        return Verdict(
            label="inconclusive", reason=f"{told}, but the planted one was missed", **made
        )
    if not hit:
        reason = f"{told}: not in the window, which its interval still touches"
    else:
        reason = (
            f"{told}, inside the window, but one model cannot reach α: "
            f"{share:.0%} of its layers lie there, so p = {share:.3g} at best"
        )
    return Verdict(label="inconclusive", reason=reason, **made)


def _estimates(
    arrays: Mapping[str, Floats],
    peak: Peak,
    profile: Floats,
    draws: Floats,
    thresholds: Thresholds,
) -> dict[str, Estimate]:
    low, high = np.quantile(draws[:, peak.layer], [0.025, 0.975])
    n = arrays["hits"].shape[-1]
    return {
        "peak_depth": peak.place,
        "peak_height": Estimate(
            value=float(profile[peak.layer]),
            low=float(low),
            high=float(high),
            unit="retrieval above the embedding's, or d′",
            n=n,
            method=f"percentile bootstrap over sentences, {thresholds.draws} draws",
        ),
    }


def _seed_measure(arrays: Mapping[str, Floats], facts: Mapping[str, Any]) -> dict[str, Estimate]:
    why = "the origin gave no uncertainty"
    cosine = arrays["cosine_raw"][1:].mean(1)
    named = {
        "peak_of_mean_cosine": (
            float(depths(facts["n_blocks"])[cosine.argmax()]),
            "relative depth",
        ),
        "mean_cosine_at_peak": (float(cosine.max()), "mean raw cosine"),
    }
    return {
        name: Estimate(value=value, unit=unit, reason=why) for name, (value, unit) in named.items()
    }


def _controls(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    measure_name: str,
    thresholds: Thresholds,
) -> list[Control]:
    n = arrays["hits"].shape[-1]
    shuffled = float(arrays["hits_shuffled"].mean())
    chance = Control(
        name="shuffled pairing",
        kind="negative",
        passed=shuffled <= 2 / n,
        detail=f"a wrong partner should be found about 1 time in {n}; found {shuffled:.4f}",
    )
    trained, twin = (arrays[f"{kind}{measure_name}"][1:].mean((1, 2)) for kind in ("", "random_"))
    lift, twin_lift = (float(np.ptp(profile)) for profile in (trained, twin))
    random = Control(
        name="random-init twin",
        kind="negative",
        passed=twin_lift < lift,
        detail=f"an untrained profile should vary less: {twin_lift:.3f} against {lift:.3f}",
    )
    profile, draws = _profile(arrays[f"planted_{measure_name}"], thresholds)
    found = locate_peak(draws, profile, thresholds.level)
    planted = Control(
        name="P5: sentences pulled together at one block",
        kind="positive",
        passed=found.layer == facts["planted_block"],
        detail=f"planted at block {facts['planted_block']}, found at {found.layer}",
        estimate=found.place,
    )
    return [chance, random, planted]


def _sentence(peak: Peak, window: tuple[float, float], facts: Mapping[str, Any], n: int) -> str:
    where = "inside" if in_window(np.array(peak.place.value), window) else "outside"
    wanted = facts["params"]["wanted_sentences"]
    few = f" ({n} test sentences, fewer than the {wanted} asked for)" if n < wanted else ""
    return (
        f"Languages meet most at block {peak.layer} of {facts['n_blocks'] - 1}, {where} the window "
        f"around three quarters of the depth{few}."
    )


def _table(
    arrays: Mapping[str, Floats], facts: Mapping[str, Any], measure_name: str, draws: Floats
) -> list[dict[str, Any]]:
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    rows = []
    for depth in range(facts["n_blocks"]):
        cka = arrays["cka"][depth + 1]
        rows.append(
            {
                "block": depth,
                "alignment": float(
                    arrays[measure_name][depth + 1].mean() - arrays[measure_name][0].mean()
                ),
                "low": float(low[depth]),
                "high": float(high[depth]),
                "retrieval": float(arrays["hits"][depth + 1].mean()),
                "retrieval_raw": float(arrays["hits_raw"][depth + 1].mean()),
                "retrieval_margin": float(arrays["hits_margin"][depth + 1].mean()),
                "separation": float(arrays["separation"][depth + 1].mean()),
                "cosine_raw": float(arrays["cosine_raw"][depth + 1].mean()),
                "cka": float(cka.mean()) if np.isfinite(cka).all() else None,
                "by_language": {
                    code: float(value)
                    for code, value in zip(
                        facts["languages"][1:], arrays["hits"][depth + 1].mean(1), strict=True
                    )
                },
            }
        )
    return rows


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns retrieval against depth: corrected with interval, raw, and by ratio margin."""
    table, window = finding.tables["profile"], finding.tables["window"]
    n = len(table) - 1
    names = {"retrieval": "corrected", "retrieval_raw": "raw", "retrieval_margin": "ratio margin"}
    rows = [
        {"block": row["block"], "value": row[field], "measure": name}
        for row in table
        for field, name in names.items()
    ]
    return lines(
        rows,
        title="Where languages meet",
        x="block",
        y="value",
        series="measure",
        x_title="output of block",
        y_title="share of sentences that find their partner",
        band=(window[0] * n, window[1] * n),
    )


EXPERIMENT = Experiment(
    id=ID,
    hypothesis="H3.3",
    title="Convergence of languages",
    question="Do parallel sentences lie closest together at about three quarters of the depth?",
    phase=1,
    value="medium",
    cost=Cost(block_evaluations=lambda n: 2 * n, head_evaluations=lambda n: 0),
    params=Params(),
    measure=measure,
    judge=judge,
    figure=figure,
)
