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
interchangeable. The positive control pulls parallel sentences together at each block in turn: the
method's P5, removing language means, cannot show in a profile that has them removed already.

Unit and direction: a layer position r between 0 and 1; a hit supports H3.3. Cost: one forward pass,
no head; the random twin's, on a few sentences, comes on top. Refuted in this model if the bootstrap
interval of the peak's place lies wholly outside the window. Not testable where no block finds more
than the bag of embeddings, or no block lies in the window. One model's p is the window's share of
blocks, so one model cannot support. Prior: peaks in middle layers (Wendler 2024; Liu & Niehues
2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bitgap.errors import UsageError
from bitgap.experiments.alignment_controls import controls, percentile_ends, profile_of
from bitgap.experiments.charts import lines
from bitgap.experiments.experiment import Cost, Experiment
from bitgap.experiments.window_hit import empty_window, is_hit, judge_window
from bitgap.languages import language
from bitgap.records import Estimate, Finding, Floats, Observations
from bitgap.stats.profiles import Peak, depths, locate_peak
from bitgap.stats.verdicts import Thresholds

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
    """Sentences the random twin and the model are compared on; the twin's profile is flat."""
    wanted_sentences: int = 200
    """Test sentences the method asks for; fewer are used, and said."""


# -- measurement ----------------------------------------------------------------------------------


def measure(lab: Lab, scheme: str, params: Params) -> Observations:
    """Measures alignment by depth in full precision; the scheme plays no part.

    Arrays: see :func:`bitgap.lab.alignment.alignment_profile`, with L+1 depths of which the first
    is the embedding; ``hits`` and ``separation`` again under ``planted_`` (pulled together at
    every depth, of which the judge takes one at a time), and on a few sentences under ``few_``
    (the model) and ``random_`` (its random-init twin).
    """
    from bitgap.lab.alignment import alignment_profile, pulled_together, sentence_states
    from bitgap.models.gauge import loaded_with, random_twin

    n = params.n_components
    calibration, test = lab.corpus.split_of(lab.text.kept)
    if len(test) < 2:
        raise UsageError(
            f"{ID} asks which sentence is nearest, and {len(test)} of {lab.corpus.n_sentences} "
            f"sentences are left to choose among; give at least 4"
        )
    states = sentence_states(lab)
    few = lab.first(params.control_sentences)
    inside = np.isin(lab.text.kept, few.text.kept)
    untrained = random_twin(lab.decoder.model, lab.settings.seed)
    twin = few.twin(loaded_with(lab.loaded, untrained, "random"))
    arrays = alignment_profile(states, calibration, test, n)
    split = few.corpus.split_of(few.text.kept)
    for name, of_few in (("few", states[:, :, inside]), ("random", sentence_states(twin))):
        arrays |= _named(name, alignment_profile(of_few, *split, n))
    for depth in range(len(states)):
        states = pulled_together(states, depth, params.planted_share)
    arrays |= _named("planted", alignment_profile(states, calibration, test, n))
    return Observations(
        experiment=ID,
        version=EXPERIMENT.version,
        arrays=arrays,
        facts={
            "languages": list(lab.languages),
            "scripts": [language(code).script for code in lab.languages],
            "n_blocks": lab.n_blocks,
            "n_calibration": len(calibration),
            "params": asdict(params),
        },
    )


def _named(name: str, profile: Mapping[str, Floats]) -> dict[str, Floats]:
    return {f"{name}_{key}": profile[key] for key in ("hits", "separation")}


# -- judgement ------------------------------------------------------------------------------------


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H3.3 in this model: a hit whose interval lies inside the window, or wholly outside."""
    arrays, facts = observations.arrays, observations.facts
    window, used = thresholds.window, _used(arrays, thresholds)
    profile, draws = profile_of(arrays[used], thresholds)
    peak = locate_peak(draws, profile, thresholds.level)
    height = _height(peak, profile, draws, arrays[used].shape[-1], thresholds)
    checks = controls(arrays, facts, used, peak, thresholds)
    gate = _gate(height, facts["n_blocks"], window)
    return Finding(
        experiment=ID,
        hypothesis="H3.3",
        title=EXPERIMENT.title,
        primary="peak_depth",
        estimates={"peak_depth": peak.place, "peak_height": height},
        seed_measure=_seed_measure(arrays, facts),
        controls=tuple(checks),
        verdict=judge_window(
            peak, facts["n_blocks"], checks, thresholds, hypothesis="H3.3", gate=gate
        ),
        sentence=_sentence(peak, window, facts, arrays["hits"].shape[-1], gate),
        tables={
            "profile": _table(arrays, facts, used, draws, thresholds),
            "measure": used,
            "window": list(window),
        },
        thresholds_hash=thresholds.hash,
    )


def _used(arrays: Mapping[str, Floats], thresholds: Thresholds) -> str:
    """Returns which measure the profile is of: retrieval, or d′ where retrieval saturates."""
    highest = float(arrays["hits"].mean((1, 2)).max())
    return "separation" if highest > thresholds.of("H3.3")["saturation"] else "hits"


def _height(peak: Peak, profile: Floats, draws: Floats, n: int, thresholds: Thresholds) -> Estimate:
    low, high = percentile_ends(draws[:, peak.layer], thresholds)
    return Estimate(
        value=float(profile[peak.layer]),
        low=float(low),
        high=float(high),
        unit="retrieval above the embedding's, or d′",
        level=thresholds.level,
        n=n,
        method=f"percentile bootstrap over sentences, {thresholds.draws} draws",
    )


def _gate(height: Estimate, n_blocks: int, window: tuple[float, float]) -> str | None:
    """Returns why there is nothing to locate, or nowhere to hit, or None."""
    if nowhere := empty_window(n_blocks, window):
        return nowhere
    assert height.value is not None and height.low is not None
    if height.low <= 0:
        return (
            f"nothing to locate: the best block finds {height.value:+.3f} "
            f"[{height.low:+.3f}, {height.high:+.3f}] more than a bag of embeddings does"
        )
    return None


# -- what is told ---------------------------------------------------------------------------------


def _seed_measure(arrays: Mapping[str, Floats], facts: Mapping[str, Any]) -> dict[str, Estimate]:
    """Returns where raw cosines peak and how high, on average and for the origin's two pairs."""
    why, r = "the origin gave no uncertainty", depths(facts["n_blocks"])
    cosine = arrays["cosine_raw"][1:]  # (L x A−1)
    pairs = {"all": cosine.mean(1)}
    others = facts["languages"][1:]
    pairs |= {code: cosine[:, others.index(code)] for code in ("de", "he") if code in others}
    found = {}
    for name, values in pairs.items():
        found[f"peak_of_cosine_{name}"] = Estimate(
            value=float(r[values.argmax()]), unit="relative depth", reason=why
        )
        found[f"cosine_at_peak_{name}"] = Estimate(
            value=float(values.max()), unit="mean raw cosine", reason=why
        )
    return found


def _sentence(
    peak: Peak, window: tuple[float, float], facts: Mapping[str, Any], n: int, gate: str | None
) -> str:
    where = "inside" if is_hit(peak, window) else "outside"
    wanted = facts["params"]["wanted_sentences"]
    few = f" ({n} test sentences, fewer than the {wanted} asked for)" if n < wanted else ""
    weak = "; but the verdict is not testable" if gate else ""
    return (
        f"Languages meet most at block {peak.layer} of {facts['n_blocks'] - 1}, {where} the window "
        f"around three quarters of the depth{few}{weak}."
    )


def _table(
    arrays: Mapping[str, Floats],
    facts: Mapping[str, Any],
    used: str,
    draws: Floats,
    thresholds: Thresholds,
) -> list[dict[str, Any]]:
    low, high = percentile_ends(draws, thresholds)
    means = {
        "retrieval": arrays["hits"],
        "retrieval_raw": arrays["hits_raw"],
        "retrieval_margin": arrays["hits_margin"],
        "separation": arrays["separation"],
        "cosine_raw": arrays["cosine_raw"],
    }
    rows = []
    for block in range(facts["n_blocks"]):
        depth, cka = block + 1, arrays["cka"][block + 1]
        rows.append(
            {
                "block": block,
                "alignment": float(arrays[used][depth].mean() - arrays[used][0].mean()),
                "low": float(low[block]),
                "high": float(high[block]),
                **{name: float(values[depth].mean()) for name, values in means.items()},
                "cka": float(cka.mean()) if np.isfinite(cka).all() else None,
                "by_language": {
                    code: float(value)
                    for code, value in zip(
                        facts["languages"][1:], arrays["hits"][depth].mean(1), strict=True
                    )
                },
            }
        )
    return rows


# -- figure ---------------------------------------------------------------------------------------


def figure(finding: Finding) -> Mapping[str, Any]:
    """Returns the profile by depth with its interval, and beside retrieval its variants.

    Retrieval is shown corrected, raw and by margin, with thin lines for each language; where it
    saturates, d′ is shown instead.
    """
    table, window = finding.tables["profile"], finding.tables["window"]
    n = len(table) - 1
    used = {"hits": "retrieval", "separation": "separation"}[finding.tables["measure"]]
    rows: list[dict[str, Any]] = []
    for row in table:
        embedding = row[used] - row["alignment"]
        ends = {end: row[end] + embedding for end in ("low", "high")}
        rows.append(
            {"block": row["block"], "value": row[used], "measure": "corrected means", **ends}
        )
    thin: list[dict[str, Any]] = []
    if used == "retrieval":
        rows += [
            {"block": row["block"], "value": row[field], "measure": name}
            for row in table
            for field, name in (
                ("retrieval_raw", "raw means"),
                ("retrieval_margin", "ratio margin"),
            )
        ]
        thin = [
            {"block": row["block"], "value": value, "measure": code}
            for row in table
            for code, value in row["by_language"].items()
        ]
    shares = "share of sentences that find their partner"
    return lines(
        rows,
        title="Where languages meet" + (" (thin: each language, corrected)" if thin else ""),
        x="block",
        y="value",
        series="measure",
        x_title="output of block",
        y_title=shares if used == "retrieval" else "d′ of parallel against other pairs",
        band=(window[0] * n, window[1] * n),
        interval=("low", "high"),
        faint=thin,
    )


EXPERIMENT = Experiment(
    id=ID,
    hypothesis="H3.3",
    title="Convergence of languages",
    question="Do parallel sentences lie closest together at about three quarters of the depth?",
    phase=1,
    value="medium",
    cost=Cost(block_evaluations=lambda n: n, head_evaluations=lambda n: 0),
    version=2,
    params=Params(),
    measure=measure,
    judge=judge,
    figure=figure,
    profile=lambda finding: [row["alignment"] for row in finding.tables["profile"]],
)
