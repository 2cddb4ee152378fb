"""What a file does to each language as its toolchain runs it, beside what its weights alone do.

A runtime may round activations, sum in half precision or take another formula; its logits z_r are
its own. With the same full precision and the same tokens, by language λ,

    K_λ(r)    = Σ KL(p_fp ‖ p_r) / (U ln 2)          damage as it runs
    extra_λ   = K_λ(r) − K_λ(weights)                what running adds to the weights' own damage

and Δ and flips likewise. ``apart_nats`` is the largest difference of a sentence's K from that of
the weights alone, in nats a token: where a runtime computes as the weights say, it is rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bitgap.disparity.flips import flips_of
from bitgap.disparity.formulas import damage_bits, delta_bits
from bitgap.disparity.gates import PER_TEXT, Quantities, estimate_all
from bitgap.disparity.records import estimate_json
from bitgap.records import Estimate, Floats, Integers, Scores
from bitgap.stats.bootstrap import DRAWS


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageAsRun:
    """What a file does to one language as it runs."""

    language: str
    damage: Estimate
    """K(r), bits per reference character."""
    extra: Estimate
    """K(r) − K(weights), bits per reference character; without a value where the weights were not
    read."""
    delta: Estimate
    """Change of NLL, bits per reference character."""
    flips: Estimate
    """Share of tokens whose most likely next one is another than in full precision."""

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON; numbers with ``_ci`` and ``_reason`` beside them."""
        found: dict[str, Any] = {}
        for name in ("damage", "extra", "delta", "flips"):
            found |= estimate_json(name, getattr(self, name))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class AsRun:
    """One runtime on one file."""

    runtime: str
    """Its name, such as ``llama.cpp``."""
    versions: Mapping[str, str]
    """Of its environment."""
    failure: str = ""
    """Why there are no numbers; empty where there are."""
    apart_nats: float | None = None
    """Largest difference of a sentence's K from that of the weights, nats a token."""
    languages: tuple[LanguageAsRun, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON."""
        return {
            "runtime": self.runtime,
            "versions": dict(self.versions),
            "failure": self.failure,
            "apart_nats": self.apart_nats,
            "languages": {one.language: one.as_dict() for one in self.languages},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtimes:
    """A file as its runtimes run it, one after the other."""

    runs: tuple[AsRun, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns JSON."""
        return {"runs": [one.as_dict() for one in self.runs]}


def scores_as_run(scores: Scores, plan: str, kl_nats: Floats, nll_nats: Floats) -> Scores:
    """Returns scores of one plan with a runtime's numbers in place of those of its weights.

    Args:
        scores: Of the same text.
        plan: What the file is called in them, scored or not.
        kl_nats: KL from full precision to the runtime, (A x N).
        nll_nats: Negative log-likelihood under the runtime, (A x N).

    Example:
        >>> run = scores_as_run(SCORES, "own:q:0123456789ab", 2 * SCORES.kl_nats[0],
        ...                     SCORES.nll_nats[0])
        >>> run.plans, run.kl_nats.shape
        (('own:q:0123456789ab',), (1, 3, 8))
    """
    return replace(
        scores, plans=(plan,), kl_nats=kl_nats[None], nll_nats=nll_nats[None], floors_nats=None
    )


def make_as_run(
    runtime: str,
    versions: Mapping[str, str],
    run: Scores,
    flipped: Integers,
    weights: Scores | None,
    *,
    seed: int,
    draws: int = DRAWS,
) -> AsRun:
    """Returns what a runtime does to each language.

    Args:
        runtime: Its name.
        versions: Of its environment.
        run: Of :func:`scores_as_run`.
        flipped: Changed tokens of each sentence, (A x N).
        weights: Scores of the file's weights alone; None where they were not read.
        seed: Of the draws.
        draws: How many.

    Example:
        >>> weights = SCORES.select(plans=SCORES.plans[:1])
        >>> run = scores_as_run(SCORES, "q", 2 * SCORES.kl_nats[0], SCORES.nll_nats[0])
        >>> found = make_as_run("llama.cpp", {}, run, np.ones((3, 8), int), weights, seed=0)
        >>> one = found.languages[0]
        >>> round(one.damage.value / one.extra.value, 6), found.apart_nats > 0
        (2.0, True)
    """
    quantities: Quantities = {
        "damage": (lambda sums: damage_bits(sums)[:, 0], PER_TEXT),
        "delta": (lambda sums: delta_bits(sums)[:, 0], PER_TEXT),
    }
    found = estimate_all(quantities, run, seed, draws)
    apart = None
    none = Estimate(value=None, unit=PER_TEXT, reason="the weights of such files are not read")
    extra: Sequence[Estimate] = [none] * len(run.languages)
    if weights is not None:
        added = replace(run, kl_nats=run.kl_nats - weights.kl_nats)
        extra = estimate_all(
            {"extra": (lambda sums: damage_bits(sums)[:, 0], PER_TEXT)}, added, seed, draws
        )["extra"]
        tokens = np.maximum(run.counts.tokens, 1)
        apart = float((np.abs(added.kl_nats[0]) / tokens).max())
    flips = flips_of(flipped, run, seed=seed)
    return AsRun(
        runtime=runtime,
        versions=dict(versions),
        apart_nats=apart,
        languages=tuple(
            LanguageAsRun(
                language=code,
                damage=found["damage"][a],
                extra=extra[a],
                delta=found["delta"][a],
                flips=flips.languages[a].share,
            )
            for a, code in enumerate(run.languages)
        ),
    )
