"""A toolchain in a process of its own: its environment, what it lacks, and why it ended.

A toolchain may need other versions than bitgap's, warns as it likes, and can crash: so a script of
:mod:`bitgap.formats.loaders` is run by a Python that has it, in isolation.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bitgap.errors import UsageError

SCRIPTS = Path(__file__).parent / "loaders"
_TAIL = 600
"""Characters of what a failed process said last that are told."""
_PROBE_S = 120.0


def environment(threads: int) -> Mapping[str, str]:
    """Returns the environment of a toolchain: so many threads, no network, no chatter.

    Args:
        threads: Of its products.
    """
    few = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return os.environ | few | quiet | {"OMP_WAIT_POLICY": "PASSIVE"}


def missing_packages(python: str, packages: Sequence[str]) -> tuple[str, ...]:
    """Returns which packages another Python lacks.

    Args:
        python: Its path.
        packages: As they are imported.

    Raises:
        UsageError: If there is no such Python, or it does not work.
    """
    code = (
        "import sys; from importlib.util import find_spec; "
        "print(*(p for p in sys.argv[1:] if find_spec(p) is None))"
    )
    try:
        found = subprocess.run(
            [python, "-I", "-c", code, *packages],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(
            f"{python!r} cannot be run ({error}); name the Python of an environment that has the "
            f"toolchain, such as venv/bin/python"
        ) from None
    if found.returncode:
        why = why_it_ended(found.returncode, found.stderr)
        raise UsageError(f"{python!r} is no Python that works ({why}); name another")
    return tuple(found.stdout.split())


def why_it_ended(code: int, said: str) -> str:
    r"""Returns why a process failed, in one line.

    Args:
        code: What it ended with.
        said: What it wrote to stderr.

    Example:
        >>> why_it_ended(1, "Traceback ...\nValueError: no such layer\n")
        'ValueError: no such layer'
        >>> why_it_ended(-11, "")
        'the process was ended by SIGSEGV; last it said: nothing'
    """
    lines = [line for line in said.strip().splitlines() if line.strip()]
    last = lines[-1][-_TAIL:] if lines else "nothing"
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"the process was ended by {name}; last it said: {last}"
    return last if lines else "nothing was said"
