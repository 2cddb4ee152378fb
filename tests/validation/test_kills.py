"""A few kills: every repeat is the same to the bit, and what was committed is not made again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.alone
@pytest.mark.timeout(900)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_killed_audits_and_maps_end_in_the_same_bits() -> None:
    # Two hundred over all verbs: python -m validation.kills
    out = subprocess.run(
        [sys.executable, "-m", "validation.kills", "--kills", "6", "--only", "audit", "map"],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert out.returncode == 0, out.stdout + out.stderr
    assert "| all | 6 |" in out.stdout
