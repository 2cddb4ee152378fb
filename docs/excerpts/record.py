"""Makes the results anew that the site's excerpts are rendered from; a few minutes of one core.

    python docs/excerpts/record.py

Each command is one that the tutorial shows, word for word; ``tests/docs`` sees to that, and that
what is kept was judged by today's thresholds.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COMMANDS = {
    "audit": "bitgap audit --languages en,de,he,ar --sentences 24",
    "investigate": "bitgap investigate --tier smoke --languages en,de,he,ar",
    "map": "bitgap map --languages en,de,he,ar --sentences 8",
}
"""By the name of the file that keeps the result."""


def record(folder: Path) -> None:
    """Runs every command in a folder and keeps what a terminal shows of its result."""
    for name, line in COMMANDS.items():
        words = [*shlex.split(line)[1:], "--out", "out", "--threads", "1", "--no-report"]
        subprocess.run(
            [sys.executable, "-m", "bitgap", *words],
            cwd=folder, check=True, stdout=subprocess.DEVNULL,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        keep(folder / "out" / f"{name}.json", HERE / f"{name}.json")


def keep(made: Path, kept: Path) -> None:
    """Keeps a result without what a terminal does not show: tables of figures, and provenance."""
    result = json.loads(made.read_text(encoding="utf-8"))
    kept.write_text(json.dumps(shown(result), ensure_ascii=False, indent=1) + "\n", "utf-8")


def shown(result: dict[str, Any]) -> dict[str, Any]:
    """Returns a result without what a terminal does not show."""
    short = {key: value for key, value in result.items() if key not in ("provenance", "cost")}
    if "findings" in short:
        short["findings"] = [finding | {"tables": {}} for finding in short["findings"]]
    return short


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder))
