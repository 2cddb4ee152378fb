"""Judging once: judges are pure, so what they said of the same observations is what they say.

A run is judged when it is measured, and again when its page is made a moment later; the second
costs nothing here.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from bitgap.records import Finding, Observations
from bitgap.stats.verdicts import Thresholds

Judge = Callable[[Observations, Thresholds], Finding]

# Findings of some runs; each is small beside the observations it was read off.
_MOST = 256
_said: OrderedDict[tuple[Judge, str, str], Finding] = OrderedDict()


def judged(judge: Judge, observations: Observations, thresholds: Thresholds) -> Finding:
    """Returns what a judge says of observations, remembered within the process.

    Args:
        judge: Pure: the same observations and thresholds give the same finding.
        observations: Told from others by everything in them.
        thresholds: Told from others by their hash.
    """
    key = (judge, thresholds.hash, _digest(observations))
    if key not in _said:
        _said[key] = judge(observations, thresholds)
        if len(_said) > _MOST:
            _said.popitem(last=False)
    return _said[key]


def _digest(observations: Observations) -> str:
    digest = hashlib.sha256(
        json.dumps(
            [observations.experiment, observations.version, dict(observations.facts)],
            sort_keys=True,
        ).encode()
    )
    for name in sorted(observations.arrays):
        array = np.ascontiguousarray(observations.arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
