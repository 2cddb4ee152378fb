"""Where numbers come from: versions, device, seed and time."""

from __future__ import annotations

import platform
import time
from datetime import UTC, datetime

import numpy as np
import torch
import transformers

from bitgap import __version__
from bitgap.lab.settings import Settings
from bitgap.records import Provenance


def provenance(settings: Settings, started: float, thresholds_hash: str) -> Provenance:
    """Returns where numbers measured from ``started`` (``time.time()``) until now come from."""
    return Provenance(
        bitgap=__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        numpy=np.__version__,
        device=settings.device,
        threads=torch.get_num_threads(),
        arithmetic=settings.arithmetic,
        seed=settings.seed,
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        wall_s=round(time.time() - started, 3),
        thresholds_hash=thresholds_hash,
    )
