"""Controls on weights: twins whose weights were changed in a known way, measured and judged.

=========  =================================================  ================================
regauged   norms divided, matrices multiplied by powers of 2  damage and error must stay
shuffled   entries permuted within each matrix                error must stay
gaussian   each matrix redrawn with its variance              variance must not predict error
random     fresh weights as the class draws them              neither link may show
fragile    one o-column times 64, v-row over 64               that block must be hit harder (P1)
planted    a correlation of twice the SESOI in the profiles   must be found, each link's own
=========  =================================================  ================================

All rounding is with one scale a tensor, as the verdict's. P1 is read against the block's own damage
undisturbed: whether it also outranks every other block is a matter of how unlike blocks are, and
says nothing of the instrument. Source of P1 and of the need for it: method, sections 2 and 6.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bitgap.experiments.protocol.controls import (
    RANDOM_TWIN,
    absent,
    clear,
    detection,
    must_not_show,
    not_run,
)
from bitgap.records import Control, Floats, Observations, Units
from bitgap.stats.bootstrap import estimates
from bitgap.stats.profiles import correlate_profiles
from bitgap.stats.verdicts import Thresholds

GAUGE = "gauge intervention"

_SAME = 1e-3
"""Change of damage, relative, that is still rounding; 0 to the bit where gains are plain."""


def controls(observations: Observations, thresholds: Thresholds) -> list[Control]:
    """Returns the controls that twins and plantings make.

    Args:
        observations: As T-002 measures them.
        thresholds: What was declared.
    """
    sesoi = thresholds.of("H1.2")["sesoi"]
    return [
        _gauge(observations),
        _shuffle(observations),
        _redraw(observations, sesoi, thresholds),
        _untrained(observations, sesoi, thresholds),
        _planted(observations, thresholds),
    ]


def _gauge(observations: Observations) -> Control:
    arrays, name = observations.arrays, GAUGE
    if "regauged_kl" not in arrays:
        return not_run(name, "invariance", absent(observations.facts, "regauged"))
    moved = np.abs(arrays["regauged_log_variance_raw"] - arrays["log_variance_raw"]).max()
    damage = _change(arrays["plain_kl"][-1], arrays["regauged_kl"][0])
    error = _change(arrays["tensor_t2"], arrays["regauged_t2"])
    changes = [f"by {c:.1g} of the largest" if c else "not at all" for c in (damage, error)]
    return Control(
        name=name,
        kind="invariance",
        passed=max(damage, error) <= _SAME,
        detail=f"norms divided and matrices multiplied by powers of two: raw log variance moved by "
        f"up to {moved:.2f}; what should stay: damage moved {changes[0]}, error {changes[1]}",
    )


def _change(before: Floats, after: Floats) -> float:
    return float(np.abs(after - before).max() / max(np.abs(before).max(), 1e-300))


def _shuffle(observations: Observations) -> Control:
    arrays, name = observations.arrays, "weights shuffled within matrices"
    if "shuffled_kl" not in arrays:
        return not_run(name, "invariance", absent(observations.facts, "shuffled"))
    same = bool(np.allclose(arrays["shuffled_t2"], arrays["tensor_t2"], rtol=1e-5))
    ratio = arrays["shuffled_kl"][0].sum() / arrays["plain_kl"][-1].sum()
    return Control(
        name=name,
        kind="invariance",
        passed=same,
        detail=f"error should stay while damage may change: error {'stayed' if same else 'moved'}, "
        f"damage became {ratio:.2g} times the model's own",
    )


def _redraw(observations: Observations, sesoi: float, thresholds: Thresholds) -> Control:
    arrays, name = observations.arrays, "Gaussian weights of the same variance"
    if "gaussian_t2" not in arrays:
        return not_run(name, "negative", absent(observations.facts, "gaussian"))
    link = correlate_profiles(
        arrays["gaussian_log_variance_fixed"], -np.log(arrays["gaussian_t2"]), thresholds.level
    )
    detail = "with the shape of the weights gone, variance should not predict error"
    return must_not_show(name, link.estimate, sesoi, detail)


def _untrained(observations: Observations, sesoi: float, thresholds: Thresholds) -> Control:
    arrays, name = observations.arrays, RANDOM_TWIN
    if "random_kl" not in arrays:
        return not_run(name, "negative", absent(observations.facts, "random"))
    log_t2 = np.log(arrays["random_t2"])
    damage = arrays["random_kl"][:-1].sum((1, 2))
    log_k = np.log(np.where(damage > 0, damage, np.nan))
    links = [
        correlate_profiles(x, y, thresholds.level)
        for x, y in ((arrays["random_log_variance_fixed"], -log_t2), (log_t2, log_k))
    ]
    return Control(
        name=name,
        kind="negative",
        passed=not all(clear(link.estimate, sesoi) for link in links),
        detail="an untrained twin should not show both links",
        estimate=links[0].estimate,
    )


def _planted(observations: Observations, thresholds: Thresholds) -> Control:
    arrays, name = observations.arrays, "P1: one block made fragile, function unchanged"
    if "fragile_kl" not in arrays:
        return not_run(name, "positive", absent(observations.facts, "fragile"))
    own = arrays["fragile_plain"][arrays["fragile_block"].astype(np.int64)]  # (S x A' x N')
    both = np.stack([arrays["fragile_kl"], own]).sum(2)  # (2 x S x N')
    documents = arrays.get("few_documents")
    units: Units = int(both.shape[-1]) if documents is None else documents

    def harder(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            planted, plain = np.log2(weights @ np.moveaxis(both, -1, 1))  # (2 x W x S)
            return planted - plain

    how: dict[str, Any] = dict(thresholds.how)
    changes = estimates(harder, units, unit="log2 ratio", **how)
    detected = [change.low is not None and change.low > 0 for change in changes]
    sought = "the block should be damaged clearly more than it is undisturbed"
    return detection(name, detected, sought, thresholds)
