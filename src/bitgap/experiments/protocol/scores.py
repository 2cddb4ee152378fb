"""Scores inside observations: put away as plain arrays, taken out again for the judge.

An experiment keeps one text and several parts, each some plans on it. What is taken out is
:class:`~bitgap.records.Scores`, so a judge uses the formulas of
:mod:`bitgap.disparity.formulas` and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitgap.disparity.formulas import below_resolution, collapsed
from bitgap.records import Bools, Observations, Scores, TextCounts, Units

if TYPE_CHECKING:
    from bitgap.lab.lab import Lab
    from bitgap.quant.plan import Plan


def pack_scores(scores: Scores, parts: Mapping[str, Sequence[Plan]]) -> dict[str, NDArray[Any]]:
    """Returns arrays of what full precision says of the text, and of each part's plans.

    Returns:
        ``nll_fp``, ``unigram`` in nats, ``tokens``, ``bytes``, ``characters``, (A x N) each;
        ``documents``, (N), ``unigram_tokens``, (A), and ``vocabulary``, (), where known; and for
        each part ``<part>_kl`` and ``<part>_nll`` in nats, (plans x A x N), and ``<part>_floor``,
        (plans), where plans have floors of their own.
    """
    counts = scores.counts
    arrays: dict[str, NDArray[Any]] = {
        "nll_fp": scores.nll_fp_nats,
        "unigram": scores.unigram_nats,
        "tokens": counts.tokens,
        "bytes": counts.bytes,
        "characters": counts.characters,
    }
    for name, plans in parts.items():
        # By name: the lab scores a plan once, however many parts ask for it.
        of_part = scores.select(plans=[plan.text for plan in plans])
        arrays |= {f"{name}_kl": of_part.kl_nats, f"{name}_nll": of_part.nll_nats}
        if of_part.floors_nats is not None:
            arrays[f"{name}_floor"] = of_part.floors_nats
    for name in ("documents", "unigram_tokens", "vocabulary"):
        values = getattr(scores, name)
        arrays |= {} if values is None else {name: np.asarray(values)}
    return arrays


def score_in_turn(lab: Lab, requests: Iterable[Sequence[Plan]], label: str) -> Scores:
    """Returns scores of all plans of some requests, each scored by itself.

    Plans that other experiments ask for too are asked for as they do: of a request that is known in
    part all may be run again, so that a run that was killed gives the same bits as one that was
    not.

    Args:
        lab: Model and text.
        requests: Plans that are scored together.
        label: What the progress bar says.
    """
    wanted: list[Plan] = []
    for plans in requests:
        lab.score(plans, label)
        wanted += plans
    return lab.score(wanted, label)


def facts_of(scores: Scores) -> dict[str, Any]:
    """Returns what else of the scores the judge needs, JSON-serialisable."""
    return {
        "languages": list(scores.languages),
        "reference": scores.reference,
        "floor_nats": scores.floor_nats,
        "arithmetic": scores.arithmetic,
    }


def unpack_scores(observations: Observations, part: str) -> Scores:
    """Returns one part as scores; plans are called 0, 1, …"""
    arrays, facts = observations.arrays, observations.facts
    return Scores(
        plans=tuple(str(i) for i in range(len(arrays[f"{part}_kl"]))),
        languages=tuple(facts["languages"]),
        nll_nats=arrays[f"{part}_nll"],
        kl_nats=arrays[f"{part}_kl"],
        nll_fp_nats=arrays["nll_fp"],
        unigram_nats=arrays["unigram"],
        counts=TextCounts(
            tokens=arrays["tokens"], bytes=arrays["bytes"], characters=arrays["characters"]
        ),
        floor_nats=facts["floor_nats"],
        arithmetic=facts["arithmetic"],
        reference=facts["reference"],
        documents=arrays.get("documents"),
        unigram_tokens=arrays.get("unigram_tokens"),
        floors_nats=arrays.get(f"{part}_floor"),
        vocabulary=int(arrays["vocabulary"]) if "vocabulary" in arrays else None,
    )


def units_of(observations: Observations) -> Units:
    """Returns what a judge resamples: each sentence's document where known, else their number."""
    documents = observations.arrays.get("documents")
    return int(observations.arrays["nll_fp"].shape[-1]) if documents is None else documents


@dataclass(frozen=True, slots=True, kw_only=True)
class Eligibility:
    """Which languages may enter a verdict.

    Attributes:
        eligible: Those that may, (A).
        left_out: Why each other may not, by code.
        gate_reason: Why nothing can be tested, or None.
    """

    eligible: Bools
    left_out: Mapping[str, str]
    gate_reason: str | None

    @property
    def displayed(self) -> Bools:
        """Languages whose numbers are shown, (A): all of them, beside the gate, where none may
        enter.
        """
        return self.eligible if self.gate_reason is None else np.ones_like(self.eligible)

    @property
    def sentence(self) -> str:
        """A sentence on the languages left out, with a space before it; empty for none."""
        return left_out_sentence(self.left_out)


def eligible_languages(
    observations: Observations, parts: Sequence[str], *, readable: Sequence[str]
) -> Eligibility:
    """Returns which languages may enter the verdict.

    A collapsed configuration never enters a verdict, and languages are averaged, so a language
    counts in all configurations or in none.

    Args:
        observations: With packed scores.
        parts: In none of whose plans a language may be collapsed.
        readable: Those in none of whose plans its damage may be below resolution.
    """
    languages = observations.facts["languages"]
    lost = np.zeros(len(languages), dtype=bool)
    unresolved = lost.copy()
    for part in parts:
        scores = unpack_scores(observations, part)
        lost |= collapsed(scores).any(0)
        if part in readable:
            unresolved |= below_resolution(scores).any(0)
    left_out = {
        code: "collapsed" if is_lost else "below resolution"
        for code, is_lost, out in zip(languages, lost, lost | unresolved, strict=True)
        if out
    }
    eligible = ~(lost | unresolved)
    reasons = ", ".join(f"{code} {reason}" for code, reason in left_out.items())
    gate = None if eligible.any() else f"no language may enter the verdict: {reasons}"
    return Eligibility(eligible=eligible, left_out=left_out, gate_reason=gate)


def left_out_sentence(why: Mapping[str, str]) -> str:
    """Returns a sentence on languages left out, with a space before it; empty for none."""
    return f" Left out: {', '.join(f'{c} ({reason})' for c, reason in why.items())}." if why else ""
