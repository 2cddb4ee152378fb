"""How T-004 judges what was measured: pure, no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitgap.experiments.protocol.controls import halves
from bitgap.experiments.protocol.effects import bounded_p, bounded_p_equivalence
from bitgap.experiments.protocol.scores import (
    Eligibility,
    eligible_languages,
    units_of,
    unpack_scores,
)
from bitgap.experiments.protocol.tables import block_rows
from bitgap.experiments.t004_residual_propagation import EXPERIMENT, FEWEST_BLOCKS
from bitgap.experiments.t004_residual_propagation.controls import (
    controls_of_gain,
    controls_of_interaction,
    gain_of_twin,
    of_block_0,
)
from bitgap.experiments.t004_residual_propagation.statistic import (
    against_others,
    first_of,
    interaction,
    ratio_of,
    savings,
    snr_gain,
)
from bitgap.records import Bools, Control, Estimate, Finding, Floats, Observations, Units
from bitgap.stats.bootstrap import Statistic, bootstrap_weights, estimate
from bitgap.stats.verdicts import Part, Thresholds
from bitgap.stats.verdicts import judge as judge_parts

_GAIN = "gain at the last state from protecting block 0 too"
_INTERACTION = "interaction of block 0 with the last"
_SHARE = "share of K(none)"


def judge(observations: Observations, thresholds: Thresholds) -> Finding:
    """Judges H2.1: ΔSNR_0 ≥ 1 dB, and I_0 ≥ .02 K(∅), each by its own controls."""
    n_blocks = observations.facts["n_blocks"]
    languages = eligible_languages(observations, ["masks"], readable=["masks"])
    gate, displayed = languages.gate_reason, languages.displayed
    if n_blocks < FEWEST_BLOCKS:
        gate = f"{n_blocks} blocks: block 0 cannot be compared with others; {FEWEST_BLOCKS} needed"
        return _unjudged(observations, languages, gate, thresholds)
    declared, measured = thresholds.of("H2.1"), _Measured.of(observations, displayed)
    estimates = measured.estimates(thresholds)
    gain, pays = estimates["snr_gain"], estimates["interaction"]
    own = {
        _GAIN: controls_of_gain(observations, gain, displayed, thresholds),
        _INTERACTION: controls_of_interaction(observations, pays, displayed, thresholds),
    }
    scores = unpack_scores(observations, "masks")
    shared = [halves(scores, 0, languages.eligible, thresholds)]
    draws = bootstrap_weights(measured.units, thresholds.draws, 0)
    sesoi = declared["sesoi_interaction"]
    per_token = first_of(measured.interaction_per_token)(draws)[:, 0]
    parts = [
        _part(_GAIN, gain, declared["sesoi"], measured.gain, draws, measured.units, own[_GAIN]),
        _part(_INTERACTION, pays, sesoi, measured.interaction, draws, measured.units,
              own[_INTERACTION],
              concurring={"per token": bounded_p_equivalence(per_token, sesoi, measured.units)}),
    ]  # fmt: skip
    turns = _sign_turns(pays, estimates["interaction_per_token"])
    specific = _Specificity.of(measured, estimates["snr_contrast"])
    untrained = {
        f"snr_gain_{name}": gain_of_twin(observations, twin, displayed, thresholds)
        for name, twin in (("untrained", "random"), ("matched", "matched"))
        if f"{twin}_error" in observations.arrays
    }
    return EXPERIMENT.finding(
        thresholds,
        primary="snr_gain",
        estimates={**estimates, **untrained},
        original_measure=_original_measure(observations.arrays),
        controls=[*own[_GAIN], *own[_INTERACTION], *shared],
        verdict=judge_parts(
            parts, shared, alpha=thresholds.alpha, gate=gate, extra=(turns is None, turns or "")
        ),
        sentence=_sentence(estimates, specific, declared, turns) + languages.sentence,
        tables={
            **_tables(observations, displayed),
            "blocks": measured.rows(observations.arrays["state_cka"]),
            "specificity": specific.row(),
            "left_out": languages.left_out,
        },
    )


@dataclass(frozen=True)
class _Measured:
    """The statistics of T-004 on one text, and what is resampled.

    Attributes:
        gain: ΔSNR_j in dB.
        saved: What protecting the last block saves, alone and beside each j.
        interaction: I_j/K(∅).
        interaction_per_token: The same where every language's damage counts per token.
        cosine_gain: Mean cosine with full precision under {0, last} less that under {last}.
        closer: Share of tokens closer where block 0 is protected too.
        after_norm: ``gain`` as the head sees the state.
        with_sinks: ``gain`` with sinks left in.
        units: Sentences or documents.
    """

    gain: Statistic
    saved: Statistic
    interaction: Statistic
    interaction_per_token: Statistic
    cosine_gain: Statistic
    closer: Statistic
    after_norm: Statistic
    with_sinks: Statistic
    units: Units

    @classmethod
    def of(cls, observations: Observations, displayed: Bools) -> _Measured:
        arrays, n_others = observations.arrays, observations.facts["n_blocks"] - 1
        tokens, real = arrays["state_tokens"][:, displayed], arrays["tokens"][displayed]
        kl, error = arrays["masks_kl"][:, displayed], arrays["state_error"][:, :, displayed]
        sinks = arrays["state_error_with_sinks"][:, -2, displayed]
        at_end = tokens[-2].sum(0)
        last, both = arrays["state_cosine"][:2, displayed].sum(1)
        closer = arrays["state_closer"][0, displayed].sum(0)
        return cls(
            gain=snr_gain(error[:, -2], tokens[-2]),
            saved=savings(kl, n_others),
            interaction=interaction(kl, n_others),
            interaction_per_token=interaction(kl, n_others, real.astype(np.float64)),
            cosine_gain=ratio_of(both - last, at_end),
            closer=ratio_of(closer, at_end),
            after_norm=snr_gain(error[:, -1], tokens[-1]),
            with_sinks=snr_gain(sinks, real),
            units=units_of(observations),
        )

    @property
    def everything(self) -> Floats:
        """Weights of the whole text, (1 x N)."""
        return np.ones((1, self.units if isinstance(self.units, int) else len(self.units)))

    def estimates(self, thresholds: Thresholds) -> dict[str, Estimate]:
        """Returns every number of block 0 with its interval."""
        first = {
            "snr_gain": (self.gain, "dB"),
            "interaction": (self.interaction, _SHARE),
            "interaction_per_token": (self.interaction_per_token, _SHARE),
            "snr_contrast": (against_others(self.gain), "dB"),
            "interaction_contrast": (against_others(self.interaction), _SHARE),
            "closer": (self.closer, "share of tokens"),
            "cosine_gain": (self.cosine_gain, "cosine"),
            "saved_by_last_alone": (self.saved, _SHARE),
            "snr_gain_after_norm": (self.after_norm, "dB"),
            "snr_gain_with_sinks": (self.with_sinks, "dB"),
        }
        out = {
            name: of_block_0(statistic, self.units, unit, thresholds)
            for name, (statistic, unit) in first.items()
        }
        after = estimate(lambda w: self.saved(w)[:, 1], self.units, unit=_SHARE, **thresholds.how)
        return out | {"saved_by_last_after_0": after}

    def rows(self, cka: Floats) -> list[dict[str, Any]]:
        """Returns a row a block that is protected beside the last."""
        return block_rows({
            "snr_gain_db": self.gain(self.everything)[0],
            "interaction": self.interaction(self.everything)[0],
            "cka": cka[1:],
        })  # fmt: skip


@dataclass(frozen=True)
class _Specificity:
    """How far the gain is block 0's own.

    Attributes:
        as_well: Other blocks whose gain is at least block 0's.
        others: How many there are.
        contrast: Block 0's gain less the mean of the others', in dB.
    """

    as_well: int
    others: int
    contrast: Estimate

    @classmethod
    def of(cls, measured: _Measured, contrast: Estimate) -> _Specificity:
        gains = measured.gain(measured.everything)[0]
        return cls(int((gains[1:] >= gains[0]).sum()), len(gains) - 1, contrast)

    @property
    def holds(self) -> bool:
        """Whether no other block does as well, and block 0 is clearly above their mean."""
        return self.as_well == 0 and self.contrast.low is not None and self.contrast.low > 0

    @property
    def words(self) -> str:
        """How it is told, after "and"."""
        number = f"{self.as_well} of {self.others} other blocks do as well or better"
        told = (
            "" if self.contrast.value is None else f", {self.contrast.value:+.2f} dB off their mean"
        )
        return f"this is {'' if self.holds else 'not '}specific to block 0 ({number}{told})"

    def row(self) -> dict[str, Any]:
        """Returns it for the table."""
        return {"specific": self.holds, "as_well": self.as_well, "others": self.others}


def _unjudged(
    observations: Observations, languages: Eligibility, gate: str, thresholds: Thresholds
) -> Finding:
    """Returns the finding on a model with too few blocks."""
    return EXPERIMENT.untestable(
        thresholds,
        gate,
        primary="snr_gain",
        unit="dB",
        part=_GAIN,
        original_measure=_original_measure(observations.arrays),
        tables={
            **_tables(observations, languages.displayed),
            "blocks": [],
            "left_out": languages.left_out,
        },
    )


def _part(
    name: str,
    theta: Estimate,
    sesoi: float,
    statistic: Statistic,
    weights: Floats,
    units: Units,
    controls: tuple[Control, ...],
    concurring: Mapping[str, float] | None = None,
) -> Part:
    """Returns the part with bootstrap p of "above 0" and of "at least the SESOI"."""
    draws = first_of(statistic)(weights)[:, 0]
    p, smallest = bounded_p(draws, units)
    return Part(
        name=name,
        estimate=theta,
        sesoi=sesoi,
        p=p,
        p_minimum=smallest,
        p_equivalence=bounded_p_equivalence(draws, sesoi, units),
        concurring=concurring or {},
        controls=controls,
    )


def _sign_turns(per_text: Estimate, per_token: Estimate) -> str | None:
    """Returns why the interaction is not established, where its sign hangs on the unit."""
    if per_text.value is None or per_token.value is None or per_text.value * per_token.value > 0:
        return None
    return (
        f"not established: the interaction is {per_text.value:+.3f} of the damage per text and "
        f"{per_token.value:+.3f} per token"
    )


def _original_measure(arrays: Mapping[str, Floats]) -> dict[str, Estimate]:
    why, unit = "the origin gave no uncertainty", "mean cosine with full precision"
    names = ("cosine_last", "cosine_0_and_last")
    tokens = arrays["state_tokens"][-2].sum()
    return {
        name: Estimate(value=float(value.sum() / tokens), unit=unit, reason=why)
        for name, value in zip(names, arrays["state_cosine"], strict=False)
    }


def _sentence(
    estimates: Mapping[str, Estimate],
    specific: _Specificity,
    declared: Mapping[str, Any],
    turns: str | None,
) -> str:
    gain, pays = estimates["snr_gain"], estimates["interaction"]
    alone, after = (estimates[f"saved_by_last_{where}"].value for where in ("alone", "after_0"))
    closer = estimates["closer"].value
    if None in (gain.value, pays.value, alone, after, closer):
        return "What protecting block 0 and the last block does is undefined on this text."
    if gain.low is not None and gain.low > 0 and gain.value >= declared["sesoi"]:
        comes = "comes closer to full precision"
    elif gain.low is not None and gain.low > 0:
        comes = "comes closer to full precision by less than was declared to matter"
    else:
        comes = "does not clearly come closer to full precision"
    first = (
        f"Where block 0 is protected beside the last, the final state {comes} "
        f"({gain.value:+.2f} dB, {closer:.1%} of tokens), and {specific.words}"
    )
    sesoi = declared["sesoi_interaction"]
    if turns is not None:
        ends = turns
    elif pays.low is not None and pays.low > 0 and pays.value >= sesoi:
        ends = "its protection pays more after block 0"
    elif pays.high is not None and pays.high < sesoi:
        ends = "its protection does not wait for block 0"
    else:
        ends = "whether it pays more after block 0 is open"
    return (
        f"{first}. Protecting the last block saves {alone:.1%} of the damage alone and {after:.1%} "
        f"after block 0: {ends}."
    )


def _tables(observations: Observations, displayed: Bools) -> dict[str, Any]:
    arrays, n_blocks = observations.arrays, observations.facts["n_blocks"]
    error = arrays["state_error"][:, :, displayed].sum((2, 3))
    tokens = arrays["state_tokens"][:, displayed].sum((1, 2))
    with np.errstate(divide="ignore"):
        db = -10 * np.log10(error / tokens)
    names = [f"last ({n_blocks - 1})", *(f"{j} and last" for j in range(n_blocks - 1))]
    return {
        "snr": [
            {"mask": name, "depth": depth, "snr_db": float(db[j, depth])}
            for j, name in enumerate(names)
            for depth in range(n_blocks + 1)
            # Before its first rounded block a mask has no error, and the ratio no value.
            if np.isfinite(db[j, depth])
        ],
        "amplification": [
            {"injected": j, "depth": depth, "ratio": float(arrays["amplification"][j, depth])}
            for j in range(n_blocks)
            for depth in range(j, n_blocks + 1)
        ],
    }
