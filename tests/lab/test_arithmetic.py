"""When products are rounded: where the library has them in bfloat16, whatever the processor has."""

from __future__ import annotations

import os
import subprocess
import sys


def test_products_are_not_rounded_where_the_library_may_not() -> None:
    """A processor may have instructions that oneDNN was told to leave alone."""
    code = "from bitgap.lab.engine.arithmetic import fast_products_round as f; print(f())"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
    )  # fmt: skip
    assert told.stdout.strip() == "False"
