"""One model replayed: the scores of the origin's plans, its weights and its activations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import bitgap.models
from bitgap.languages import language
from bitgap.records import Floats, Integers
from bitgap.stats.similarity import without_common
from bitgap.theory.origin.measure import OriginScores, score_origin
from bitgap.theory.origin.readings import Measure, Readings
from bitgap.theory.origin.record import Case
from bitgap.theory.origin.setup import ORIGIN_SCHEME

if TYPE_CHECKING:
    from bitgap.lab.activations import Activations
    from bitgap.lab.lab import Lab


States = NDArray[np.floating[Any]]
"""Sentence means, (L+1 x A x N x d)."""


OUTLIER_SD = 3.0
"""Standard deviations of a block's output beyond which an entry is an outlier; the origin printed
no definition, and counts weights so in another place."""


_COMPONENTS = 3


_CARD = Path(bitgap.models.__file__).parent / "reference" / "card.md"


_BUNDLED = "reference"


def case_of(
    lab: Lab, scheme: str, *, triple_sentences: int, draws: int, only_blocks: bool = False
) -> Case:
    """Measures a model.

    Args:
        lab: Model and text.
        scheme: The operating point.
        triple_sentences: First sentences on which all triples are ranked.
        draws: Of random weights.
        only_blocks: Leave out what claims about other families do not need.
    """
    scores = score_origin(
        lab, scheme, triple_sentences=triple_sentences, draws=draws, only_blocks=only_blocks
    )
    activations = lab.activations()
    return Case(
        model=lab.info,
        scheme=scheme,
        **_readings(scores),
        profiles=weight_profiles(lab, scheme),
        tails=tails_of(activations, lab.text.counts.tokens.shape),
        alignment=alignments(lab, np.asarray(activations.pooled)),
        resources=resources_of(lab),
    )


def _readings(scores: OriginScores) -> dict[str, Readings]:
    named = {
        "origin": scores.origin,
        "here": scores.here,
        "origin_triples": scores.origin_triples,
        "here_triples": scores.here_triples,
    }
    return {name: Readings(found) for name, found in named.items() if found is not None}


def weight_profiles(lab: Lab, scheme: str) -> dict[str, Floats]:
    """Returns the profiles of weights that claims are about, (L) each."""
    from bitgap.errors import UserError
    from bitgap.lab.weight_errors import kurtoses, pooled_raw_statistics, relative_errors
    from bitgap.models.gauge import gauge_fixed_log_variance

    out = {**pooled_raw_statistics(lab.decoder), "kurtosis": kurtoses(lab.decoder)}
    out["snr_seed"] = _decibels(relative_errors(lab.decoder, ORIGIN_SCHEME, pooled=True))
    out["snr_disparity"] = _decibels(relative_errors(lab.decoder, scheme))
    try:
        out["log_variance_fixed"] = gauge_fixed_log_variance(lab.decoder)
    except UserError:
        pass  # a gain that cannot be told apart; the claim then says that it was not measured
    return out


def _decibels(error: Floats) -> Floats:
    return -10 * np.log10(np.maximum(error, np.finfo(np.float64).tiny))


def tails_of(activations: Activations, shape: tuple[int, ...]) -> dict[Measure, Floats]:
    """Returns sums over the entries of sampled block outputs, (L x A x N x 6).

    How many, their first four powers, and how many are outliers of that block's output.

    Args:
        activations: Of one full-precision pass.
        shape: Languages and sentences, (A, N).
    """
    n_blocks = len(activations.count) - 2
    out: dict[Measure, Floats] = {}
    kinds: dict[Measure, bool] = {"seed": True, "disparity": False}
    for measure, whole in kinds.items():
        sums = np.zeros((n_blocks, *shape, 6))
        for block in range(n_blocks):
            rows, states = activations.at(block + 1, sinks=whole, massive=whole)
            far = np.abs(states - states.mean()) > OUTLIER_SD * states.std()
            square = states * states
            n = np.full(len(states), float(states.shape[1]))
            # Products, since powers of arrays are slow.
            third, fourth = (square * states).sum(1), (square * square).sum(1)
            sums_of = [n, states.sum(1), square.sum(1), third, fourth, far.sum(1)]
            per_token = np.stack(sums_of, axis=1)
            places = (activations.language[rows], activations.sentence[rows])
            np.add.at(sums[block], places, per_token)
        out[measure] = sums
    return out


def alignments(lab: Lab, states: States) -> dict[Measure, Floats]:
    """Returns how near each other language comes to the reference, mean over blocks, (A−1).

    The raw cosine of parallel sentences, as the origin had it; and d′ between parallel and other
    sentences once each language's mean and top components are gone. Empty where too few sentences
    are left to fit or to test.
    """
    fitted, tested = lab.corpus.split_of(lab.text.kept)
    if len(fitted) < 2 or len(tested) < 2:
        return {}
    return {
        "seed": _mean_over_blocks(states, tested, None),
        "disparity": _mean_over_blocks(states, tested, fitted),
    }


def _mean_over_blocks(states: States, tested: Integers, fitted: Integers | None) -> Floats:
    from bitgap.stats.similarity import cosine_matrix, separation

    out = np.zeros((len(states) - 1, states.shape[1] - 1))
    for depth, at in enumerate(states[1:].astype(np.float64)):
        rows = at[:, tested]
        if fitted is not None:
            pairs = zip(rows, at[:, fitted], strict=True)
            rows = np.stack([without_common(x, c, _COMPONENTS) for x, c in pairs])
        for a in range(1, len(rows)):
            cosine = cosine_matrix(rows[a], rows[0])
            found = np.diag(cosine) if fitted is None else separation(cosine)
            out[depth, a - 1] = np.nanmean(found)
    return out.mean(0)


def resources_of(lab: Lab) -> dict[str, float]:
    """Returns how much text the model saw of each language, as far as that is known.

    The log share of its training text for the bundled model, whose card says so; for any other the
    class of Joshi et al. 2020, 0 where it has none.
    """
    if lab.info.name == _BUNDLED and _CARD.exists():
        shares = training_shares(_CARD.read_text(encoding="utf-8"))
        if set(lab.languages) <= set(shares):
            return {code: float(np.log(shares[code])) for code in lab.languages}
    return {code: float(language(code).resource_class or 0) for code in lab.languages}


def training_shares(card: str) -> dict[str, float]:
    """Returns the percentages of a card's row ``data``, by language; empty where it has none."""
    rows = [line for line in card.splitlines() if line.startswith("| data")]
    if not rows:
        return {}
    listed = rows[0].rpartition(":")[2]
    return {
        code: float(share) for code, share in re.findall(r"\b([a-z]{2}) (\d+(?:\.\d+)?)", listed)
    }
